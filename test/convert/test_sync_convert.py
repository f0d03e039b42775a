"""The converter's image clock and `pose2rgbd sync`: a camera whose stamps are late, over a pattern."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from support.skewed_flight import SECOND, SkewedFlight

from pose2rgbd_ros.alignment.live import LiveAlignment, LiveConfig
from pose2rgbd_ros.bags.writer import BagWriter
from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.convert.bag import convert
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.streams.samples import PoseSample

LATE_S = 0.6
IMAGE = "/camera/image/compressed"


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_late(tmp_path_factory.mktemp("late") / "bag")


def write_late(path: Path, dead_poses: int = 0) -> Path:
    """25 s: images at 10 Hz, stamped 0.6 s late but received in time; odometry at 20 Hz, another of NaN if asked
    for.
    """
    flight = SkewedFlight(seconds=25.0, seed=7)
    with BagWriter(path) as writer:
        for k in range(dead_poses):
            stamp_ns, place, quat = _pose(flight, k / dead_poses * 25)
            message = writer.make.odometry(stamp_ns, "map", "base_link", np.nan * place, quat)
            writer.write("/dead/odom", message, stamp_ns)
        make = writer.make
        for k in range(20 * 25):
            t = k / 20
            stamp_ns, place, quat = _pose(flight, t)
            writer.write("/odom", make.odometry(stamp_ns, "map", "base_link", place, quat), stamp_ns)
            if k % 2 == 0:
                jpeg = cv2.imencode(".jpg", flight.picture(t))[1].tobytes()
                late_ns = stamp_ns + round(LATE_S * SECOND)
                writer.write(IMAGE, make.compressed_image(late_ns, "camera", jpeg), stamp_ns)
    return path


def _pose(flight: SkewedFlight, t: float) -> tuple[int, np.ndarray, np.ndarray]:
    x, y = flight.at(flight.position, np.array([t]))[0]
    half = float(np.interp(t, flight.t_s, flight.heading)) / 2
    stamp_ns = int(flight.stamps_ns(np.array([t]))[0])
    return stamp_ns, np.array([x, y, 20.0]), np.array([0.0, 0.0, np.sin(half), np.cos(half)])


def test_clocks_that_look_wrong_are_put_right(bag: Path, tmp_path: Path) -> None:
    report = convert([bag], tmp_path / "auto", ConvertConfig(body_to_camera="nadir"))
    poses = Dataset(tmp_path / "auto").meta.poses
    assert poses is not None
    assert poses.image_time_offset_s == pytest.approx(-LATE_S, abs=0.02)
    assert poses.image_time_confidence is not None
    assert poses.image_time_confidence > 0.9
    assert any("+0.60 s from those of the poses" in note and "applied" in note for note in report.notes)


def test_check_only_tells_and_none_does_nothing(bag: Path, tmp_path: Path) -> None:
    checked = convert([bag], tmp_path / "check", ConvertConfig(body_to_camera="nadir", sync="check"))
    plain = convert([bag], tmp_path / "none", ConvertConfig(body_to_camera="nadir", sync="none"))
    for name in ("check", "none"):
        poses = Dataset(tmp_path / name).meta.poses
        assert poses is not None
        assert poses.image_time_offset_s == 0.0
    assert any("not applied" in text for text in checked.warnings)
    assert not any("offset" in text for text in [*plain.notes, *plain.warnings])


def test_the_command_tells_the_offset(bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync", str(bag), "--out", str(tmp_path)]) == 0
    assert "image time offset -0.6" in capsys.readouterr().out
    numbers = yaml.safe_load((tmp_path / "sync.yaml").read_text())
    assert numbers["observable"] is True
    assert numbers["offset_s"] == pytest.approx(-LATE_S, abs=0.02)
    assert cv2.imread(str(tmp_path / "sync.png")) is not None
    assert numbers["peak_s"] == pytest.approx(-LATE_S, abs=0.03)
    assert numbers["looked_s"] == pytest.approx([-5.0, 5.0], abs=0.1)
    assert main(["sync", str(bag), "--out", str(tmp_path), "--max-offset-s", "0"]) == 0
    numbers = yaml.safe_load((tmp_path / "sync.yaml").read_text())
    assert numbers["looked_s"] == pytest.approx([-13.0, 12.0], abs=0.6)  # half of the 25 s must meet
    assert "meets: --min-overlap" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["flight.MP4", "videos/flight.MP4", "photos/DJI_0001.JPG", "flight.srt"])
def test_sync_of_what_is_no_recording_says_what_to_do(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / name
    source.parent.mkdir(exist_ok=True)
    source.write_bytes(bytes(100))
    given = source if source.parent == tmp_path else source.parent
    assert main(["sync", str(given), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {given}")
    assert "pose2rgbd convert " in said


def test_warnings_of_sync_are_errors_with_strict(bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync", str(bag), "--out", str(tmp_path), "--strict"]) == 0
    assert "warning:" not in capsys.readouterr().out
    doubtful = write_late(tmp_path / "doubtful", dead_poses=600)
    assert main(["sync", str(doubtful), "--out", str(tmp_path)]) == 0
    (told,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert "/dead/odom was passed over" in told
    assert main(["sync", str(doubtful), "--out", str(tmp_path), "--strict"]) == 1
    printed = capsys.readouterr()
    assert told in printed.out
    assert printed.err.splitlines()[-1] == "error: 1 warning (--strict)"
    numbers = yaml.safe_load((tmp_path / "sync.yaml").read_text())
    assert numbers["warnings"] == [told.removeprefix("warning: ")]
    assert numbers["observable"] is True


def test_the_same_live_in_bounded_memory() -> None:
    flight = SkewedFlight(seconds=40.0, seed=8)
    live = LiveAlignment(LiveConfig(keep_s=20.0))
    assert not live.estimate().observable
    for k in range(20 * 40):
        t = k / 20
        stamp_ns, place, quat = _pose(flight, t)
        live.add_motion(PoseSample(stamp_ns, "map", "base_link", place, quat))
        if k % 2 == 0:
            live.add_image(stamp_ns + round(0.4 * SECOND), flight.picture(t))
    assert live.due(0) is False
    assert live.due(60 * SECOND) is True
    found = live.estimate(60 * SECOND)
    assert not live.due(61 * SECOND)
    assert found is live.latest
    assert found.observable, found.why
    assert found.offset_s == pytest.approx(-0.4, abs=0.02)
    assert found.overlap_ns[1] - found.overlap_ns[0] < 26 * SECOND
    live.clear()
    assert not live.estimate().observable
