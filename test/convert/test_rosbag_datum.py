"""Where the map lies on Earth, and several recordings in one map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pose2rgbd_ros.convert.bag import convert
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum, enu_to_wgs84, wgs84_to_enu

HOME = Datum(47.5, 8.5, 430.0)
LATER = 1_700_000_900_000_000_000


def with_gps(flight, origin: Datum, heading_deg: float = 0.0, noise_m: float = 0.0, **options):
    """A flight of 40 m whose fixes (one per odometry message) lie about `origin`, axes turned by `heading_deg`."""
    recorded = flight(frames=30, depth=None, **options)
    straight = recorded.body_pose
    recorded.body_pose = lambda stamp: (straight(stamp)[0] * [6, 1, 1], straight(stamp)[1])
    rng = np.random.default_rng(0)
    c, s = np.cos(np.radians(heading_deg)), np.sin(np.radians(heading_deg))

    def add(make, entries):
        fixes = []
        for t, topic, _ in entries:
            if topic == "/odom":
                x, y, z = recorded.body_pose(t)[0]
                enu = np.array([c * x - s * y, s * x + c * y, z]) + rng.normal(0, noise_m, 3)
                fixes.append((t, "/fix", make.nav_sat_fix(t, "gps", *enu_to_wgs84(enu, origin))))
        lost = make.nav_sat_fix(recorded.start_ns, "gps", 0, 0, 0, status=-1)
        return entries + fixes + [(recorded.start_ns, "/fix", lost)]

    recorded.spoil = add
    return recorded


def origin_error_m(dataset: Dataset, origin: Datum) -> float:
    datum = dataset.meta.datum
    assert datum is not None
    at = wgs84_to_enu(datum.latitude_deg, datum.longitude_deg, datum.altitude_m, origin)
    return float(np.linalg.norm(at))


def test_the_datum_is_found_from_gps(flight, tmp_path: Path) -> None:
    report = convert([with_gps(flight, HOME, noise_m=0.5).write(tmp_path / "bag")], tmp_path / "out")
    assert origin_error_m(Dataset(tmp_path / "out"), HOME) < 0.5
    assert any("datum from 61 GPS fixes" in note for note in report.notes)


def test_poses_with_another_heading_get_no_datum(flight, tmp_path: Path) -> None:
    bag = with_gps(flight, HOME, heading_deg=40).write(tmp_path / "bag")
    report = convert([bag], tmp_path / "out")
    assert Dataset(tmp_path / "out").meta.datum is None
    assert any("not in east, north and up of the GPS" in note for note in report.notes)


def test_gps_can_be_left_alone(flight, tmp_path: Path) -> None:
    bag = with_gps(flight, HOME).write(tmp_path / "bag")
    convert([bag], tmp_path / "out", ConvertConfig(fix_topic="none"))
    assert Dataset(tmp_path / "out").meta.datum is None


def test_a_flight_from_another_start_is_moved_into_the_first_ones_map(flight, tmp_path: Path) -> None:
    """Two flights with odometry that begins at zero each, the second 100 m further east, 30 m south and 5 m up."""
    start = Datum(*(float(value) for value in enu_to_wgs84([100.0, -30.0, 5.0], HOME)))
    first, second = with_gps(flight, HOME), with_gps(flight, start, start_ns=LATER)
    bags = [first.write(tmp_path / "one"), second.write(tmp_path / "two")]
    report = convert(bags, tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    assert len(dataset) == 60
    assert origin_error_m(dataset, HOME) < 0.01
    moved = dataset.T_map_cam[30:, :3, 3] - dataset.T_map_cam[:30, :3, 3]
    np.testing.assert_allclose(moved, [[100.0, -30.0, 5.0]] * 30, atol=0.02)
    assert any("100.0 m east, -30.0 m north" in note for note in report.notes)
    # The same when the second flight comes a day later.
    convert(bags[:1], tmp_path / "later")
    convert(bags[1:], tmp_path / "later", ConvertConfig(resume=True))
    np.testing.assert_allclose(Dataset(tmp_path / "later").T_map_cam, dataset.T_map_cam, atol=1e-9)


def test_a_flight_from_the_same_start_stays_as_recorded(flight, tmp_path: Path) -> None:
    near = Datum(*(float(value) for value in enu_to_wgs84([2.0, 1.0, 0.5], HOME)))
    first, second = with_gps(flight, HOME), with_gps(flight, near, start_ns=LATER)
    convert([first.write(tmp_path / "one"), second.write(tmp_path / "two")], tmp_path / "out")
    T = Dataset(tmp_path / "out").T_map_cam
    np.testing.assert_allclose(T[30:], T[:30], atol=1e-8)


def test_recordings_of_another_map_or_camera_are_refused(flight, tmp_path: Path) -> None:
    def renamed(make, entries):
        for _, topic, message in entries:
            if topic == "/odom":
                message.header.frame_id = "attic"
        return entries

    bags = [flight().write(tmp_path / "one"), flight(start_ns=LATER, spoil=renamed).write(tmp_path / "two")]
    with pytest.raises(UserError, match=r"two does not belong with the others: .* map_frame 'map', not 'attic'"):
        convert(bags, tmp_path / "out")
    assert len(Dataset(tmp_path / "out")) == 8


def test_recordings_of_the_same_name_are_told_apart(flight, tmp_path: Path) -> None:
    bags = [flight().write(tmp_path / "a" / "bag"), flight(start_ns=LATER).write(tmp_path / "b" / "bag")]
    convert(bags, tmp_path / "out")
    sources = Dataset(tmp_path / "out").meta.sources
    assert [(source.name, source.frames) for source in sources] == [("bag", 8), ("bag (2)", 8)]


def test_a_datum_given_stays_where_the_gps_cannot_tell(flight, tmp_path: Path) -> None:
    bag = with_gps(flight, HOME, heading_deg=40).write(tmp_path / "bag")
    convert([bag], tmp_path / "out", ConvertConfig(datum=(47.0, 8.0, 400.0)))
    assert Dataset(tmp_path / "out").meta.datum == Datum(47.0, 8.0, 400.0)


def test_a_datum_in_another_country_is_refused(flight, tmp_path: Path) -> None:
    bag = with_gps(flight, HOME).write(tmp_path / "bag")
    with pytest.raises(UserError, match=r"bag: .* lies \d+ km from the map's datum .* check --datum"):
        convert([bag], tmp_path / "out", ConvertConfig(datum=(8.5, 47.5, 430.0)))


def test_a_dataset_without_a_frame_yet_is_given_a_datum(flight, tmp_path: Path) -> None:
    begun = DatasetMeta(Camera(32, 24, 40.0, 40.0, 15.5, 11.5), camera_frame="camera_optical")
    DatasetWriter(tmp_path / "out", begun).close()
    bag = with_gps(flight, HOME).write(tmp_path / "bag")
    convert([bag], tmp_path / "out", ConvertConfig(resume=True))
    assert origin_error_m(Dataset(tmp_path / "out"), HOME) < 0.01
