"""A synthetic dataset that is interrupted in any way is completed to the very files of an uninterrupted run."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
from support.sim_datasets import BUSY, SMALL, command_line, files_of, share_world
from support.stop_at import FullDisk, StopAt

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.sim import dataset
from pose2rgbd_ros.sim import dataset as sim_dataset
from pose2rgbd_ros.sim.dataset import SimDatasetConfig, write_sim_dataset

COMMAND = "import sys; from pose2rgbd_ros.cli.main import main; sys.exit(main(['sim', 'dataset', *sys.argv[1:]]))"


@pytest.fixture(scope="module", autouse=True)
def shared_world():
    """Datasets of this process share their cities; those of the command do not."""
    with pytest.MonkeyPatch.context() as patched:
        share_world(patched)
        yield


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> tuple[SimDatasetConfig, dict[str, bytes]]:
    """Four frames with traffic: the settings, and the files of an uninterrupted run."""
    config = replace(BUSY, frames=4)
    path = tmp_path_factory.mktemp("sim") / "few"
    write_sim_dataset(path, config)
    return config, files_of(path)


@pytest.fixture
def rendered(monkeypatch):
    """Rendering is done once for all interruptions of `few`; what is tested here is the writing."""
    taken: dict[int, dataset.Taken] = {}
    take_all = sim_dataset.take_all

    def from_memory(recipe, shots, processes):
        missing = [shot for shot in shots if shot.stamp_ns not in taken]
        taken.update(zip((s.stamp_ns for s in missing), take_all(recipe, missing, processes), strict=True))
        yield from (taken[shot.stamp_ns] for shot in shots)

    monkeypatch.setattr(sim_dataset, "take_all", from_memory)


def stopped(path: Path, config: SimDatasetConfig, operation: int, when: str) -> int:
    """Exit status of a child that makes the dataset, or is stopped at a file operation."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        StopAt(operation, when).install()
        write_sim_dataset(path, config)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


@pytest.mark.parametrize(("first", "when"), [(1, "before"), (3, "half way"), (5, "after")])
def test_resuming_gives_the_same_bytes_wherever_it_was_stopped(few, rendered, tmp_path, first, when):
    config, files = few
    write_sim_dataset(tmp_path / "warm", config)  # fills the memory of frames
    for operation in itertools.count(first, 7):
        path = tmp_path / "set"
        status = stopped(path, config, operation, when)
        assert status in (0, 9)
        if status == 0:
            break
        write_sim_dataset(path, replace(config, resume=True))
        assert files_of(path) == files, f"stopped {when} operation {operation}"
        shutil.rmtree(path)
    assert operation > 30


@pytest.mark.parametrize("lost", ["rgb/*.jpg", "movers/*.png", "mover_free/depth/*.png", "mover_free/rgb/*.jpg"])
def test_files_that_were_lost_are_made_again(few, tmp_path, lost):
    """As after a power cut: the lists are there, some files are empty or gone."""
    config, files = few
    path = tmp_path / "set"
    write_sim_dataset(path, config)
    first, last = [sorted(path.glob(lost))[i] for i in (0, -1)]
    first.unlink()
    first.touch()
    last.unlink()
    assert write_sim_dataset(path, replace(config, resume=True)).rendered == 2
    assert files_of(path) == files


def error_of(path: Path, config: SimDatasetConfig) -> str | None:
    try:
        write_sim_dataset(path, config)
    except UserError as error:
        return str(error)
    return None


def test_a_disk_that_fills_up_at_any_write_is_one_line_and_resuming_completes(few, rendered, tmp_path, monkeypatch):
    config, files = few
    write_sim_dataset(tmp_path / "warm", config)
    for operations in itertools.count(0, 4):
        path = tmp_path / "set"
        with monkeypatch.context() as patched:
            FullDisk(operations).install(patched)
            message = error_of(path, config)
        if message is None:
            break
        assert "no space left" in message
        assert "\n" not in message
        write_sim_dataset(path, replace(config, resume=True))
        assert files_of(path) == files, f"full after {operations} operations"
        shutil.rmtree(path)
    assert operations >= 20


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 28 KiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=28k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_real_disk_that_is_full_in_the_middle(few, small_disk):
    config, files = few
    path = small_disk / "set"
    with pytest.raises(UserError, match=r"no space left for .*free some space and resume"):
        write_sim_dataset(path, config)
    subprocess.run(["mount", "-o", "remount,size=2m", str(small_disk)], check=True)
    write_sim_dataset(path, replace(config, resume=True))
    assert files_of(path) == files


def start(path: Path, config: SimDatasetConfig) -> subprocess.Popen[str]:
    """The command in a process (group) of its own."""
    arguments = [sys.executable, "-c", COMMAND, str(path), *command_line(config)]
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def children(parent: int) -> list[int]:
    """Processes that `parent` started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = status.read_text().rsplit(")", 1)[1].split()
            if int(fields[1]) == parent and fields[0] != "Z":
                found.append(int(status.parent.name))
    return found


def is_running(process: int) -> bool:
    """Whether it is there and has not ended."""
    try:
        return (Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split())[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_frames(path: Path, frames: int, process: subprocess.Popen[str]) -> None:
    """Until so many frames are there, besides the header of the list."""
    deadline = time.monotonic() + 400
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if (path / "associations.txt").read_bytes().count(b"\n") > frames:
                return
        time.sleep(0.002)
    raise AssertionError(f"no {frames} frames: {process.communicate(timeout=400)}")


LONG = replace(SMALL, frames=240, size=64, processes=2)


def error_lines(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if line.startswith("error: ")]


@pytest.mark.slow
def test_one_dataset_through_all_accidents(tmp_path):
    path, resumed = tmp_path / "set", replace(LONG, resume=True)
    kill_the_command(path, LONG)
    safe = kill_a_worker(path, resumed)
    safe = press_ctrl_c(path, resumed, safe)
    made = write_sim_dataset(path, resumed)
    assert made.rendered == 240 - safe
    write_sim_dataset(tmp_path / "at_once", replace(LONG, processes=1))
    assert files_of(path) == files_of(tmp_path / "at_once")


def kill_the_command(path: Path, config: SimDatasetConfig) -> None:
    """kill -9: the workers go too."""
    with start(path, config) as process:
        wait_for_frames(path, 1, process)
        workers = children(process.pid)
        process.kill()
    assert len(workers) >= 2
    deadline = time.monotonic() + 400
    while (left := [worker for worker in workers if is_running(worker)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, "a worker outlived its parent"
    assert len(Dataset(path)) < 240


def kill_a_worker(path: Path, config: SimDatasetConfig) -> int:
    """One line says so. Frames there are afterwards."""
    with start(path, config) as process:
        wait_for_frames(path, 50, process)
        renderers = [
            child for child in children(process.pid) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
        os.kill(renderers[0], signal.SIGKILL)
        _, errors = process.communicate(timeout=400)
    assert (process.returncode, "Traceback" in errors) == (2, False), errors
    assert len(error_lines(errors)) == 1
    assert "a rendering process was ended from outside" in errors
    safe = len(Dataset(path))
    assert 50 <= safe < 240
    return safe


def press_ctrl_c(path: Path, config: SimDatasetConfig, frames: int) -> int:
    """What is there stays. Frames there are afterwards."""
    with start(path, config) as process:
        wait_for_frames(path, frames + 1, process)
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to the workers as well
        _, errors = process.communicate(timeout=400)
    assert (process.returncode, "Traceback" in errors) == (130, False), errors
    safe = len(Dataset(path))
    assert frames < safe < 240
    return safe
