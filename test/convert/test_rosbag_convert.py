"""Whole recordings of every kind become the same dataset."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from pose2rgbd_ros.convert.bag import convert
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError


def _folder(kind: str, **options: str) -> Callable:
    return lambda flight, base: flight.write(base / kind, **options)


def _without_metadata(flight, base: Path) -> Path:
    path = flight.write(base / "bag", storage="sqlite3")
    (path / "metadata.yaml").unlink()
    return path


def _bare(suffix: str) -> Callable:
    return lambda flight, base: flight.write(base / f"bag{suffix}")


def _bare_packed(flight, base: Path) -> Path:
    folder = flight.write(base / "bag", compression="file")
    return next(folder.glob("*.mcap.zstd"))


def _packed_messages_bare(flight, base: Path) -> Path:
    folder = flight.write(base / "bag", storage="sqlite3", compression="message")
    return next(folder.glob("*.db3"))


def _split(flight, base: Path) -> Path:
    """Two files, of which the first ends in the middle of the flight, as `ros2 bag record --max-bag-size` leaves
    them.
    """
    folder, whole = base / "bag", flight.spoil
    folder.mkdir()
    cut = flight.start_ns + 430_000_000
    flight.spoil = lambda make, entries: [entry for entry in entries if entry[0] < cut]
    flight.write(folder / "bag_0.mcap")
    flight.spoil = lambda make, entries: [entry for entry in entries if entry[0] >= cut]
    flight.write(folder / "bag_1.mcap")
    flight.spoil = whole
    info = {"version": 9, "storage_identifier": "mcap", "relative_file_paths": ["bag_0.mcap", "bag_1.mcap"]}
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": info}))
    return folder


def _ros1(flight, base: Path) -> Path:
    return flight.write(base / "bag.bag", ros="1")


RECORDINGS = {
    "ros1": _ros1,
    "mcap folder": _folder("bag"),
    "db3 folder": _folder("bag", storage="sqlite3"),
    "no metadata.yaml": _without_metadata,
    "bare mcap": _bare(".mcap"),
    "bare db3": _bare(".db3"),
    "split": _split,
    "messages packed": _folder("bag", compression="message"),
    "messages packed, bare": _packed_messages_bare,
    "file packed": _folder("bag", storage="sqlite3", compression="file"),
    "file packed, bare": _bare_packed,
    "mcap chunks packed": _folder("bag", compression="storage"),
}


@pytest.mark.parametrize("record", RECORDINGS.values(), ids=list(RECORDINGS))
def test_every_kind_of_recording(flight, tmp_path: Path, record: Callable) -> None:
    recorded = flight()
    report = convert([record(recorded, tmp_path)], tmp_path / "out")
    assert (report.frames_written, report.rejects) == (8, {})
    dataset = Dataset(tmp_path / "out")
    assert list(dataset.stamps_ns) == recorded.image_stamps_ns()
    for i, stamp in enumerate(recorded.image_stamps_ns()):
        np.testing.assert_allclose(dataset.T_map_cam[i], recorded.T_map_cam(stamp), atol=1e-8)
        assert (dataset.path / dataset.records[i].rgb).read_bytes() == recorded.image_bytes(i)
        written = cv2.imread(str(dataset.path / dataset.records[i].depth), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(written, recorded.depth_counts(i))
    assert dataset.camera.fx == 40
    assert (dataset.meta.map_frame, dataset.meta.camera_frame) == ("map", "camera_optical")
    assert "camera mount base_link -> camera_optical from static TF" in report.notes


def test_raw_images_and_float_depth_lose_nothing(flight, tmp_path: Path) -> None:
    recorded = flight(jpeg=False, depth="32FC1")
    convert([recorded.write(tmp_path / "bag")], tmp_path / "out", ConvertConfig(depth_format="float"))
    dataset = Dataset(tmp_path / "out")
    np.testing.assert_array_equal(dataset.rgb(3), recorded.rgb(3))
    expected = (recorded.depth_counts(3) / 1000).astype(np.float32)
    np.testing.assert_array_equal(np.nan_to_num(dataset.depth(3)), expected)


def test_several_recordings_share_one_dataset_and_datum(flight, tmp_path: Path) -> None:
    first, second = flight(), flight(start_ns=1_700_000_900_000_000_000)
    bags = [first.write(tmp_path / "one"), second.write(tmp_path / "two.bag", ros="1")]
    report = convert(bags, tmp_path / "out", ConvertConfig(datum=(47.5, 8.5, 430.0)))
    dataset = Dataset(tmp_path / "out")
    assert list(dataset.stamps_ns) == first.image_stamps_ns() + second.image_stamps_ns()
    assert dataset.meta.datum is not None
    assert dataset.meta.datum.latitude_deg == 47.5
    assert [(source.name, source.frames) for source in dataset.meta.sources] == [("one", 8), ("two.bag", 8)]
    assert [bag.frames_written for bag in report.bags] == [8, 8]
    # No pose was interpolated over the quarter of an hour between the recordings.
    np.testing.assert_allclose(dataset.T_map_cam[8], second.T_map_cam(second.image_stamps_ns()[0]), atol=1e-8)


def test_a_second_recording_can_be_added_later(flight, tmp_path: Path) -> None:
    first, second = flight(), flight(start_ns=1_700_000_900_000_000_000)
    bags = [first.write(tmp_path / "one"), second.write(tmp_path / "two")]
    convert(bags[:1], tmp_path / "out")
    with pytest.raises(UserError, match="already holds a dataset of 8 frames"):
        convert(bags[1:], tmp_path / "out")
    assert convert(bags[1:], tmp_path / "out", ConvertConfig(resume=True)).frames_written == 8
    assert len(Dataset(tmp_path / "out")) == 16


def test_every_and_the_report_file(flight, tmp_path: Path) -> None:
    bag = flight().write(tmp_path / "bag")
    report = convert([bag], tmp_path / "out", ConvertConfig(every=3))
    assert report.frames_written == len(Dataset(tmp_path / "out")) == 3
    values = yaml.safe_load((tmp_path / "out" / "convert_report.yaml").read_text())
    assert values["frames_written"] == 3
    assert values["settings"]["every"] == 3
    assert values["bags"][0]["topics"]["pose"] == "/odom"


def _convert_in_a_process(bag: Path, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "convert", str(bag), str(out), "--resume"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_killed_conversion_is_resumed_to_the_same_dataset(flight, tmp_path: Path) -> None:
    recorded = flight(frames=60, jpeg=False, size=(640, 480))
    bag = recorded.write(tmp_path / "bag")
    convert([bag], tmp_path / "whole")
    process = _convert_in_a_process(bag, tmp_path / "out")
    associations = tmp_path / "out" / "associations.txt"
    while process.poll() is None:
        if associations.is_file() and associations.read_text().count("\n") > 5:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    assert process.wait() == -signal.SIGKILL
    acknowledged = len(Dataset(tmp_path / "out"))
    assert 5 <= acknowledged < 60
    report = convert([bag], tmp_path / "out", ConvertConfig(resume=True))
    assert (report.frames_written, report.frames_already_there) == (60 - acknowledged, acknowledged)
    for name in ("groundtruth.txt", "associations.txt", "transforms.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    names = [sorted(item.name for item in (tmp_path / which / "rgb").iterdir()) for which in ("out", "whole")]
    assert names[0] == names[1]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_memory_does_not_grow_with_the_recording(flight, tmp_path: Path, storage: str) -> None:
    # VmHWM, not ru_maxrss: the latter begins with the peak of the process that forked.
    code = (
        "import re, sys; from pathlib import Path; from pose2rgbd_ros.convert.bag import *;"
        "convert([sys.argv[1]], sys.argv[2], ConvertConfig(raw_images='jpeg', every=4));"
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )

    def peak_kib(frames: int) -> int:
        bag = flight(frames=frames, jpeg=False, size=(640, 480)).write(tmp_path / f"{frames}", storage=storage)
        out = tmp_path / f"out{frames}"
        done = subprocess.run([sys.executable, "-c", code, bag, out], capture_output=True, text=True, check=True)
        shutil.rmtree(bag)
        return int(done.stdout)

    short, long = peak_kib(45), peak_kib(180)
    assert long - short < 60_000, "135 more images are 200 MB; none of it may stay in memory"
