"""A writer that is killed, a disk that is full, a folder found half-written: nothing acknowledged is ever lost."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
from support.stop_at import StopAt

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError

WRITE_FOREVER = textwrap.dedent(
    """
    import importlib.util, itertools, sys
    spec = importlib.util.spec_from_file_location("toy", sys.argv[1])
    toy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(toy)
    from pose2rgbd_ros.dataset.writer import DatasetWriter
    writer = DatasetWriter(sys.argv[2], toy.meta(), resume=True)
    for t in map(toy.stamp, itertools.count()):
        if t in writer:
            continue
        writer.add(t, toy.pose(t), toy.rgb(t), toy.depth_sample(t))
        print(t, flush=True)
    """
)


def write_until_killed(path: Path, frames: int, seconds: float) -> list[int]:
    """Stamps acknowledged by a process that is killed so long after so many frames."""
    arguments = [sys.executable, "-c", WRITE_FOREVER, str(Path(__file__).with_name("conftest.py")), str(path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        first = "".join(process.stdout.readline() for _ in range(frames))
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    return [int(line) for line in (first + rest).splitlines(keepends=True) if line.endswith("\n")]


def check_all_whole(path: Path, toy, acknowledged: set[int]) -> None:
    dataset = Dataset(path)
    assert acknowledged <= set(dataset.stamps_ns.tolist())
    for i, t in enumerate(dataset.stamps_ns.tolist()):
        np.testing.assert_array_equal(dataset.rgb(i), toy.rgb(t))
        np.testing.assert_array_equal(dataset.depth(i), toy.depth_sample(t).depth_m)
        np.testing.assert_allclose(dataset.T_map_cam[i], toy.pose(t), atol=2e-9)


def test_kill_9_loses_nothing_acknowledged(toy, tmp_path):
    acknowledged: set[int] = set()
    rng = random.Random(2)
    for _ in range(5):
        stamps = write_until_killed(tmp_path / "set", rng.randrange(1, 8), rng.uniform(0.0, 0.1))
        assert not acknowledged & set(stamps), "resuming wrote a frame again"
        acknowledged |= set(stamps)
        check_all_whole(tmp_path / "set", toy, acknowledged)
    assert len(acknowledged) > 10
    DatasetWriter(tmp_path / "set", toy.meta(), resume=True).close()
    check_all_whole(tmp_path / "set", toy, acknowledged)
    files = {p.name for folder in ("rgb", "depth") for p in (tmp_path / "set" / folder).iterdir()}
    stamps = Dataset(tmp_path / "set").stamps_ns.tolist()
    assert files == {f"{t}.png" for t in stamps}, "files of no frame are left"


def stopped_writer(path: Path, toy, operation: int, when: str) -> int:
    """Exit status of a child that resumes `path`, adds frames 2 to 4 (3 outgrows the unit), closes, or is stopped."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        writer = DatasetWriter(path, toy.meta(), resume=True)
        StopAt(operation, when).install()
        for t in map(toy.stamp, (2, 3, 4)):
            depth = toy.depth_sample(t).depth_m
            writer.add(t, toy.pose(t), toy.rgb(t), depth * 20 if t == toy.stamp(3) else depth)
        writer.close()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


@pytest.mark.parametrize("when", ["before", "half way", "after"])
def test_stopping_at_any_file_operation_leaves_whole_frames(toy, make_dataset, tmp_path, when):
    fresh = make_dataset(2)
    expected = {toy.stamp(i): toy.depth_sample(toy.stamp(i)).depth_m for i in range(5)}
    expected[toy.stamp(3)] = expected[toy.stamp(3)] * 20
    for operation in itertools.count(1):
        path = tmp_path / f"set{operation}"
        shutil.copytree(fresh, path)
        status = stopped_writer(path, toy, operation, when)
        assert status in (0, 9)
        for resumed in (False, True):
            if resumed:
                DatasetWriter(path, toy.meta(), resume=True).close()
            dataset = Dataset(path)
            assert len(dataset) >= 2
            for i, t in enumerate(dataset.stamps_ns.tolist()):
                np.testing.assert_array_equal(dataset.rgb(i), toy.rgb(t))
                np.testing.assert_allclose(dataset.depth(i), expected[t], rtol=1e-7)
                np.testing.assert_allclose(dataset.T_map_cam[i], toy.pose(t), atol=2e-9)
        names = {p.name for p in (path / "rgb").iterdir()} | {p.name for p in (path / "depth").iterdir()}
        assert len(names) <= 2 * len(dataset)
        assert not [name for name in names if name.endswith(".tmp")]
        if status == 0:
            assert len(dataset) == 5
            assert dataset.meta.depth.storage == "float"
            break
    assert operation > 20


def tear(path: Path, name: str, cut: int) -> None:
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[:-cut])


@pytest.mark.parametrize("cut", [1, 7, 25])
def test_torn_last_lines_are_cut_off(toy, make_dataset, cut):
    path = make_dataset(6)
    tear(path, layout.ASSOCIATIONS, cut)
    assert len(Dataset(path)) == 5, "a reader does not count the torn line"
    with DatasetWriter(path, toy.meta(), resume=True) as writer:
        assert len(writer) == 5
        t = toy.stamp(5)
        assert not list((path / "rgb").glob(f"{t}.*")), "its files went with it"
        assert writer.add(t, toy.pose(t), toy.rgb(t), toy.depth_sample(t)) == "written"
    check_all_whole(path, toy, {toy.stamp(i) for i in range(6)})
    assert len((path / layout.GROUNDTRUTH).read_text().splitlines()) == 1 + 6


def test_associations_cut_at_any_byte_hold_the_frames_whose_lines_are_whole(toy, make_dataset):
    path = make_dataset(4)
    data = (path / layout.ASSOCIATIONS).read_bytes()
    start = data.index(b"\n") + 1
    for end in range(start, len(data) + 1):
        (path / layout.ASSOCIATIONS).write_bytes(data[:end])
        whole = data[:end].count(b"\n") - 1
        if whole:
            assert Dataset(path).stamps_ns.tolist() == [toy.stamp(i) for i in range(whole)]
        else:
            with pytest.raises(UserError, match="no frames"):
                Dataset(path)


def test_a_pose_without_its_frame_is_dropped(toy, make_dataset):
    path = make_dataset(3)
    with (path / layout.GROUNDTRUTH).open("a") as stream:
        stream.write(layout.pose_line(toy.stamp(3), toy.pose(toy.stamp(3))) + "1700000000.4")
    assert len(Dataset(path)) == 3
    DatasetWriter(path, toy.meta(), resume=True).close()
    assert len((path / layout.GROUNDTRUTH).read_text().splitlines()) == 1 + 3


def test_leftover_files_go_and_a_users_own_stay(toy, make_dataset):
    path = make_dataset(3)
    (path / "rgb" / "1700000000999999999.png").write_bytes(b"orphan")
    (path / "rgb" / ".1700000001999999999.png.tmp").write_bytes(b"half")
    (path / "rgb" / "notes.txt").write_text("mine")
    DatasetWriter(path, toy.meta(), resume=True).close()
    names = {p.name for p in (path / "rgb").iterdir()}
    assert names == {f"{toy.stamp(i)}.png" for i in range(3)} | {"notes.txt"}


def test_frames_that_lost_their_files_go_on_resume(toy, make_dataset, caplog):
    path = make_dataset(4)
    (path / Dataset(path).records[1].rgb).write_bytes(b"")
    DatasetWriter(path, toy.meta(), resume=True).close()
    assert "1 frame left out, whose files are lost" in caplog.text
    check_all_whole(path, toy, {toy.stamp(i) for i in (0, 2, 3)})


def add_frames(writer: DatasetWriter, toy, indices, fail_at: int | None = None) -> None:
    for i in indices:
        t = toy.stamp(i)
        writer.add(t, toy.pose(t), toy.rgb(t), toy.depth_sample(t))
        if i == fail_at:
            raise ZeroDivisionError


def write_with_error(path: Path, toy) -> None:
    with DatasetWriter(path, toy.meta()) as writer:
        add_frames(writer, toy, range(9), fail_at=4)


def test_an_error_in_the_loop_keeps_the_frames(toy, tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_with_error(tmp_path / "set", toy)
    check_all_whole(tmp_path / "set", toy, {toy.stamp(i) for i in range(5)})
    assert (tmp_path / "set" / layout.TRANSFORMS).is_file()


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    with path.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while stream.write(b"x" * 4096):
            pass


def test_a_full_disk_is_one_clear_line_and_loses_nothing(toy, small_disk):
    path = small_disk / "set"
    writer = DatasetWriter(path, toy.meta())
    with pytest.raises(UserError, match=r"no space left for .*; \d+ frames are safe"):
        add_frames(writer, toy, range(1000))
    written = {toy.stamp(i) for i in range(len(writer))}
    assert len(written) > 20
    check_all_whole(path, toy, written)
    assert not list(path.rglob("*.tmp"))

    fill(small_disk / "ballast")  # now closing has no room either
    with pytest.raises(UserError, match="no space left"):
        writer.close()
    check_all_whole(path, toy, written)

    subprocess.run(["mount", "-o", "remount,size=2m", str(small_disk)], check=True)
    with DatasetWriter(path, toy.meta(), resume=True) as writer:
        add_frames(writer, toy, [2000])
    check_all_whole(path, toy, {*written, toy.stamp(2000)})
    assert (path / layout.TRANSFORMS).is_file()
