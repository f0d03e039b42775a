"""`pose2rgbd align` that is interrupted, killed, run twice at once, or that cannot write: nothing is half-written."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support import roofs
from support.stop_at import FullDisk, StopAt

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.sfm.align import Alignment, align, is_aligned, recorded_dataset, restore, write_aligned
from pose2rgbd_ros.sfm.reconstruct import interrupt_held_back

OPTIONS = ["--features", "500", "--image-size", "320", "--threads", "1"]
LISTS = ("groundtruth.txt", "associations.txt", "meta.yaml", "transforms.json")


def contents(folder: Path) -> dict[str, str]:
    """Digests of all files of a dataset but the cache, and the lock, which stays."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if not name.startswith((layout.CACHE, layout.LOCK)):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return found


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "align", str(folder), *OPTIONS]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The children that run pycolmap."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_an_align_that_is_ended_at_any_step_leaves_the_dataset_and_goes_on(
    survey: roofs.Survey, tmp_path: Path
) -> None:
    folder = roofs.write(tmp_path / "flight", survey.recorded, survey.pictures)
    before = contents(folder)
    cache = folder / layout.CACHE / "sfm"

    def run_until(file: str) -> tuple[subprocess.Popen[str], list[int]]:
        process = start(folder)
        wait_for(lambda: any(cache.glob(f"*/{file}")) or process.poll() is not None, file)
        wait_for(lambda: bool(workers(process)) or process.poll() is not None, "a child")
        assert process.poll() is None, process.communicate()
        return process, workers(process)

    process, children = run_until("database.db")  # features
    os.kill(children[0], signal.SIGKILL)  # as the kernel does when memory is short
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 2
    assert (
        said.strip()
        .splitlines()[-1]
        .startswith("error: structure from motion was stopped: ended from outside (out of memory?)")
    )
    assert contents(folder) == before

    process, children = run_until("pairs.txt")  # matches
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all processes get it
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert said.strip().splitlines()[-1] == "interrupted"
    assert "Traceback" not in said
    wait_for(lambda: not any(map(is_running, children)), "the child is left behind")
    assert contents(folder) == before

    process, children = run_until("map_*")
    process.kill()
    process.communicate(timeout=300)
    wait_for(lambda: not any(map(is_running, children)), "the child of a killed parent is left behind")
    assert contents(folder) == before

    assert len(align(folder, roofs.QUICK, progress=False).frames) == len(survey.pictures)


def test_an_interrupt_that_a_thread_of_a_library_takes_waits_until_the_child_is_whole() -> None:
    """As the thread was there before, it does not block what this one blocks."""
    go, reached = threading.Event(), threading.Event()

    def interrupt() -> None:
        go.wait()
        signal.raise_signal(signal.SIGINT)

    library = threading.Thread(target=interrupt)
    library.start()

    def start() -> None:
        with interrupt_held_back():
            go.set()
            library.join()
            time.sleep(0)  # where Python would run its handler
            reached.set()

    with pytest.raises(KeyboardInterrupt):
        start()
    assert reached.is_set()


def test_one_align_at_a_time(survey: roofs.Survey, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = survey.again(tmp_path / "flight", survey.recorded)
    before = contents(folder)
    lock = layout.FolderLock(folder)
    try:
        assert main(["align", str(folder), *OPTIONS]) == 2
        assert main(["align", str(folder), "--restore"]) == 2
    finally:
        lock.release()
    assert capsys.readouterr().err.count("is being written by another process") == 2
    assert contents(folder) == before


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own; skipped where one may not be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("a file system of its own cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(("options", "reason"), [("ro", "Read-only file system"), ("full", "database or disk is full")])
def test_a_disk_that_cannot_be_written_is_said_in_one_line(
    survey: roofs.Survey, disk: Path, options: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the beginning, or while the features are found."""
    folder = roofs.write(disk / "flight", survey.recorded[:6], survey.pictures[:6])
    before = contents(folder)
    if options == "full":
        (disk / "others").write_bytes(bytes(shutil.disk_usage(disk).free - 300_000))
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert main(["align", str(folder), *OPTIONS]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert [line for line in said if line.startswith("error: ")] == said[-1:]
    assert reason in said[-1]
    assert not any("terminate" in line for line in said)
    assert contents(folder) == before


@pytest.fixture(scope="module")
def found(survey: roofs.Survey, tmp_path_factory: pytest.TempPathFactory) -> Alignment:
    """An alignment that leaves frames out, so that lists become shorter."""
    pictures = [*survey.pictures[:-2], *(np.zeros_like(survey.pictures[0]) for _ in range(2))]
    folder = roofs.write(tmp_path_factory.mktemp("found") / "flight", survey.recorded, pictures)
    return align(folder, roofs.QUICK, progress=False)


def write_in_child(stop: StopAt, folder: Path, recorded: Dataset, found: Alignment) -> None:
    try:
        stop.install()
        write_aligned(folder, recorded, found)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


@pytest.mark.slow
def test_a_kill_while_the_poses_are_written_leaves_a_dataset_that_can_be_aligned_and_restored(
    found: Alignment, survey: roofs.Survey, tmp_path: Path
) -> None:
    ended = 0
    for operation, when in ((number, when) for number in range(1, 100) for when in ("before", "half way", "after")):
        folder = tmp_path / f"{operation}-{when.replace(' ', '-')}"
        roofs.write(folder, survey.recorded, survey.pictures)
        before = contents(folder)
        recorded = recorded_dataset(folder)
        if (child := os.fork()) == 0:
            write_in_child(StopAt(operation, when), folder, recorded, found)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 0:
            break
        assert status == 9
        ended += 1
        assert len(Dataset(folder)) in (len(survey.pictures), len(found.frames))
        again = recorded_dataset(folder)
        np.testing.assert_array_equal(again.T_map_cam, recorded.T_map_cam)
        write_aligned(folder, again, found)
        assert len(Dataset(folder)) == len(found.frames)
        restore(folder)
        assert {name: data for name, data in contents(folder).items() if name in before} == before
    assert ended > 30


def test_a_disk_that_fills_up_while_the_poses_are_written_leaves_the_dataset_as_it_was(
    found: Alignment, survey: roofs.Survey, tmp_path: Path
) -> None:
    folder = roofs.write(tmp_path / "flight", survey.recorded, survey.pictures)
    before, recorded = contents(folder), recorded_dataset(folder)
    for operations in itertools.count():
        with pytest.MonkeyPatch.context() as patch:
            FullDisk(operations).install(patch)
            try:
                write_aligned(folder, recorded, found)
            except OSError:
                assert contents(folder) == before
                assert not (folder / layout.RECORDED).exists()
            else:
                break
    assert operations > 5
    assert is_aligned(folder)


def test_without_pycolmap_it_says_what_to_install(
    survey: roofs.Survey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = roofs.write(tmp_path / "flight", survey.recorded, survey.pictures)
    (tmp_path / "pycolmap.py").write_text("raise ModuleNotFoundError('none', name='pycolmap')\n")
    monkeypatch.syspath_prepend(tmp_path)  # which the child gets from this process
    with pytest.raises(UserError, match="needs pycolmap; install it: pip install 'pycolmap"):
        align(folder, roofs.QUICK, progress=False)
