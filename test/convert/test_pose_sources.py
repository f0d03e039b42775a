"""Positions and orientations from each source that recordings have, against a simulated flight's truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from scipy.spatial.transform import Rotation
from support.sensor_bag import sensor_messages, write_bag

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.messages import MessageFactory, StampedTransform
from pose2rgbd_ros.bags.writer import BagWriter
from pose2rgbd_ros.convert.bag import convert
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.inspect import summary
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import geodesy, quaternions, se3
from pose2rgbd_ros.geometry.geodesy import enu_to_wgs84
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses.gps import FixLog
from pose2rgbd_ros.sim.state import DATUM, START_NS, true_seconds
from pose2rgbd_ros.streams.samples import FixSample

HERE = (DATUM.latitude_deg, DATUM.longitude_deg, DATUM.altitude_m)
POSES = ("/odom", "/tf")
STAMP_LATE_S = 0.007  # of the simulated camera: half its exposure and its delay
pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.fixture(scope="module")
def flight():
    return sensor_messages()[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp("sources") / "whole", sensor_messages()[1])


@pytest.fixture(scope="module")
def gps_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bag(tmp_path_factory.mktemp("sources") / "gps", sensor_messages()[1], without=POSES)


def errors(dataset: Dataset, flight) -> tuple[float, float, float]:
    """Medians: metres across, metres up, degrees."""
    truth = flight.T_map_cam([true_seconds(s) + STAMP_LATE_S for s in dataset.stamps_ns.tolist()])
    T = dataset.T_map_cam
    off = T[:, :3, 3] - truth[:, :3, 3]
    angle = quaternions.angle_between_rad(
        quaternions.from_matrix(T[:, :3, :3]), quaternions.from_matrix(truth[:, :3, :3])
    )
    across = np.hypot(off[:, 0], off[:, 1])
    return float(np.median(across)), float(np.median(np.abs(off[:, 2]))), float(np.degrees(np.median(angle)))


def converted(bag: Path, out: Path, **options) -> tuple[Dataset, list[str]]:
    report = convert([bag], out, ConvertConfig(datum=HERE, **options))
    return Dataset(out), [*report.notes, *(f"warning: {text}" for text in report.warnings)]


def test_gps_and_odometry_fused(whole: Path, flight, tmp_path: Path) -> None:
    """The odometry begins with a heading of its own; fused, the map is east, north, up, and better than the GPS."""
    dataset, notes = converted(whole, tmp_path / "out", position="fused")
    across, up, angle = errors(dataset, flight)
    assert len(dataset) >= 118
    assert across < 0.45
    assert up < 0.7
    assert angle < 0.5
    assert dataset.meta.map_frame == "map"
    assert dataset.meta.datum == DATUM
    poses = dataset.meta.poses
    assert (poses.position, poses.orientation, poses.altitude_reference) == ("fused", "pose", "ellipsoid")
    assert poses.topics == {"pose": "/odom", "fix": "/gps/fix"}
    assert 0.1 < poses.accuracy["horizontal_sigma_m"] < 0.6
    assert any("GPS and odometry fused" in note for note in notes)
    assert "position fused, orientation pose" in summary(dataset, None)


def test_by_default_the_poses_are_used_as_they_are(whole: Path, tmp_path: Path) -> None:
    dataset, notes = converted(whole, tmp_path / "out")
    assert dataset.meta.poses.position == "pose"
    assert any("--position fused brings the two together" in note for note in notes)


def test_gps_alone_makes_poses(gps_only: Path, flight, tmp_path: Path) -> None:
    """No odometry, no TF that moves: GPS for the place, the IMU for the turn; the antenna's 8 cm are taken off."""
    dataset, _ = converted(gps_only, tmp_path / "out")
    across, up, angle = errors(dataset, flight)
    assert across < 0.8
    assert up < 1.2
    assert angle < 1.5
    poses = dataset.meta.poses
    assert (poses.position, poses.orientation, poses.topics["imu"]) == ("gps", "imu", "/imu/data")
    assert "base_link -> camera_optical_frame" in poses.mount


def test_a_gps_topic_asked_for_as_poses(whole: Path, tmp_path: Path) -> None:
    dataset, _ = converted(whole, tmp_path / "out", pose_topic="/gps/fix", interpolation="cubic", every=5)
    assert dataset.meta.poses.position == "gps"
    assert dataset.meta.poses.interpolation == "cubic"


def test_poses_that_are_not_used_are_not_told_as_used(whole: Path, tmp_path: Path) -> None:
    for position, told in (("gps", False), ("fused", True)):
        _, notes = converted(whole, tmp_path / position, position=position, every=20)
        assert any("poses are taken from /odom" in note for note in notes) is told


def test_the_course_over_ground_turns_a_body_that_points_where_it_moves(gps_only: Path, flight, tmp_path: Path) -> None:
    dataset, notes = converted(gps_only, tmp_path / "out", orientation="course", imu_topic="none")
    assert errors(dataset, flight)[2] < 5.0
    assert any("course over ground, level, good to about" in note for note in notes)
    nadir, _ = converted(gps_only, tmp_path / "nadir", orientation="course", body_to_camera="nadir", every=10)
    np.testing.assert_allclose(nadir.T_map_cam[:, 2, 2], -1.0, atol=1e-9)


def test_the_antenna_is_taken_off(gps_only: Path, tmp_path: Path) -> None:
    """As TF says by default; otherwise as given."""
    told, _ = converted(gps_only, tmp_path / "told", every=20)
    given, _ = converted(gps_only, tmp_path / "given", antenna_m="0 0 2.08", every=20)
    R = told.T_map_cam[:, :3, :3]
    T_body_cam = sensor_messages()[0].T_body_cam
    up_of_body = R @ T_body_cam[:3, :3].T @ [0.0, 0.0, 1.0]
    np.testing.assert_allclose(told.T_map_cam[:, :3, 3] - given.T_map_cam[:, :3, 3], 2.0 * up_of_body, atol=1e-6)


@pytest.mark.parametrize("altitude", ["relative", "none"])
def test_heights_as_asked_for(gps_only: Path, tmp_path: Path, altitude: str) -> None:
    dataset, _ = converted(gps_only, tmp_path / "out", altitude=altitude, every=20, orientation="course")
    z = dataset.T_map_cam[:, 2, 3]
    assert abs(z[0]) < 3.0  # take-off, not 50 m above the datum
    assert dataset.meta.poses.altitude_reference == ("takeoff" if altitude == "relative" else "ellipsoid")


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"orientation": "gimbal"}, "no attitude of a gimbal"),
        ({"orientation": "pose"}, "no topic of poses is read"),
        ({"orientation": "tf"}, "TF gives no trajectory of 'camera_optical_frame'"),
        ({"orientation": "imu", "imu_topic": "none"}, "no Imu message has an orientation"),
        ({"orientation": "course", "course_speed_mps": 90.0}, "never moves at 90 m/s"),
        ({"antenna_m": "0 0"}, "antenna_m is '0 0'"),
        ({"position": "fused", "fix_topic": "none", "pose_topic": "/odom"}, "needs GPS fixes"),
    ],
)
def test_what_is_asked_for_and_not_there_is_told(
    whole: Path, gps_only: Path, tmp_path: Path, options: dict, missing: str
) -> None:
    with pytest.raises(UserError, match=missing):
        converted(whole if "pose_topic" in options else gps_only, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_flight_too_short_to_fuse_is_converted(tmp_path: Path) -> None:
    """A second shows no heading: the poses are used as recorded, and that is told."""
    sent = [item for item in sensor_messages()[1] if item[0] < START_NS + 1_500_000_000]
    bag = write_bag(tmp_path / "bag", sent)
    dataset, notes = converted(bag, tmp_path / "out", position="fused")
    assert dataset.meta.poses.position == "pose"
    assert any("cannot be fused" in note and "used as recorded" in note for note in notes)


def test_a_second_flight_joins_a_map_of_gps(gps_only: Path, flight, tmp_path: Path) -> None:
    """GPS positions are about the dataset's datum, wherever the second flight began."""
    first = [item for item in sensor_messages()[1] if item[0] < START_NS + 20_000_000_000]
    later = [item for item in sensor_messages()[1] if item[0] > START_NS + 30_000_000_000 or item[1] == "/tf_static"]
    bags = [write_bag(tmp_path / name, sent, without=POSES) for name, sent in (("a", first), ("b", later))]
    convert(bags, tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    shift = (
        dataset.T_map_cam[:, :3, 3]
        - flight.T_map_cam([true_seconds(s) + STAMP_LATE_S for s in dataset.stamps_ns.tolist()])[:, :3, 3]
    )
    assert np.ptp(shift[:, :2], axis=0).max() < 4.0  # one origin: the first fix


def test_gps_does_not_join_a_map_of_unknown_place(gps_only: Path, tmp_path: Path) -> None:
    unplaced = write_bag(tmp_path / "unplaced", sensor_messages()[1], without=("/gps/fix",))
    with pytest.raises(UserError, match="the dataset's place on Earth is unknown, so GPS positions cannot be added"):
        convert([unplaced, gps_only], tmp_path / "out", ConvertConfig(every=40))


def test_orientation_from_tf_with_positions_of_gps(flight, tmp_path: Path) -> None:
    make, sent = MessageFactory(), []
    for item in sensor_messages()[1]:
        if item[1] == "/odom":
            T = flight.T_map_body([true_seconds(item[0])])[0]
            turn = StampedTransform(item[0], "map", "base_link", (0.0, 0.0, 0.0), se3.split(T)[1])
            sent.append((item[0], "/tf", make.tf_message([turn])))
        elif item[1] != "/tf":
            sent.append(item)
    bag = write_bag(tmp_path / "bag", sent)
    dataset, _ = converted(bag, tmp_path / "out", position="gps", orientation="tf", every=5)
    across, _, angle = errors(dataset, flight)
    assert across < 0.8
    assert angle < 0.5


# PX4 ---------------------------------------------------------------------------------------------------------------

_WHOLE = {
    decode.PX4_GPS: (
        "uint64 timestamp\nuint64 timestamp_sample\nuint32 device_id\nfloat64 latitude_deg\nfloat64 longitude_deg\n"
        "float64 altitude_msl_m\nfloat64 altitude_ellipsoid_m\nfloat32 s_variance_m_s\nfloat32 c_variance_rad\n"
        "uint8 fix_type\nfloat32 eph\nfloat32 epv\nfloat32 hdop\n"
    ),
    decode.PX4_ODOMETRY: (
        "uint64 timestamp\nuint64 timestamp_sample\nuint8 pose_frame\nfloat32[3] position\nfloat32[4] q\n"
        "uint8 velocity_frame\nfloat32[3] velocity\nfloat32[3] angular_velocity\n"
    ),
    decode.PX4_ATTITUDE: "uint64 timestamp\nuint64 timestamp_sample\nfloat32[4] q\nfloat32[4] delta_q_reset\n",
    decode.PX4_GIMBAL: (
        "uint64 timestamp\nuint8 target_system\nuint8 target_component\nuint16 device_flags\nfloat32[4] q\n"
        "float32 delta_yaw\n"
    ),
}


def wxyz(quat_xyzw) -> np.ndarray:
    x, y, z, w = quat_xyzw
    return np.array([w, x, y, z], np.float32)


@pytest.mark.parametrize(("yaw_of", "position"), [("vehicle", "gps"), ("earth", "gps"), ("vehicle", "pose")])
def test_a_px4_recording_with_a_gimbal(flight, tmp_path: Path, yaw_of: str, position: str) -> None:
    """GPS or odometry for the place, the gimbal for the camera; stamps since boot are brought to the recorder's
    clock.
    """
    boot_us, bag = 1_000_000, BagWriter(tmp_path / "bag")
    bag.make.store = get_typestore(Stores.ROS2_JAZZY)  # its own: what is registered must not reach other tests
    for name, text in _WHOLE.items():
        bag.make.store.register(get_types_from_msg(text, name))
    kinds = bag.make.store.types

    def stamps(at_ns: int) -> dict:
        us = (at_ns - START_NS) // 1000 + boot_us
        return {"timestamp": us, "timestamp_sample": us}

    with bag:
        for arrival_ns, topic, message in sensor_messages()[1]:
            if topic.startswith("/camera"):
                bag.write(topic, message, arrival_ns)
            elif topic == "/gps/fix" and message.status.status >= 0:
                at_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
                bag.write("/fmu/out/vehicle_gps_position", kinds[decode.PX4_GPS](
                    **stamps(at_ns), device_id=0, latitude_deg=message.latitude, longitude_deg=message.longitude,
                    altitude_msl_m=message.altitude - 48, altitude_ellipsoid_m=message.altitude, s_variance_m_s=0.1,
                    c_variance_rad=0.1, fix_type=4, eph=0.5, epv=0.8, hdop=1.0), at_ns + 2_000_000)  # fmt: skip
            elif topic == "/odom":
                at_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
                T_map_body = flight.T_map_body([true_seconds(at_ns)])[0]
                R_ned_frd = quaternions.to_matrix(geodesy.quat_ned_frd_to_enu_flu(se3.split(T_map_body)[1]))
                attitude = kinds[decode.PX4_ATTITUDE](
                    **stamps(at_ns), q=wxyz(quaternions.from_matrix(R_ned_frd)), delta_q_reset=np.zeros(4, np.float32)
                )
                bag.write("/fmu/out/vehicle_attitude", attitude, at_ns + 2_000_000)
                if position == "pose":
                    local_m = geodesy.ned_to_enu(T_map_body[:3, 3]).astype(np.float32)
                    bag.write("/fmu/out/vehicle_odometry", kinds[decode.PX4_ODOMETRY](
                        **stamps(at_ns), pose_frame=1, position=local_m, q=attitude.q, velocity_frame=1,
                        velocity=np.zeros(3, np.float32), angular_velocity=np.zeros(3, np.float32)),
                        at_ns + 2_000_000)  # fmt: skip
                R_gimbal = geodesy.R_ENU_NED @ _gimbal_axes(flight.T_map_cam([true_seconds(at_ns)])[0])
                flags = 64
                if yaw_of == "vehicle":
                    heading = np.arctan2(R_ned_frd[1, 0], R_ned_frd[0, 0])
                    R_gimbal, flags = Rotation.from_euler("z", -heading).as_matrix() @ R_gimbal, 32
                bag.write("/fmu/out/gimbal_device_attitude_status", kinds[decode.PX4_GIMBAL](
                    timestamp=stamps(at_ns)["timestamp"], target_system=1, target_component=1, device_flags=flags,
                    q=wxyz(quaternions.from_matrix(R_gimbal)), delta_yaw=0.0), at_ns + 2_000_000)  # fmt: skip
    dataset, notes = converted(tmp_path / "bag", tmp_path / "out")
    across, up, angle = errors(dataset, flight)
    assert across < 0.8
    assert up < 1.2
    assert angle < 0.5
    assert (dataset.meta.poses.position, dataset.meta.poses.orientation) == (position, "gimbal")
    assert any("stamps since its boot" in note for note in notes)


def _gimbal_axes(T_map_cam: np.ndarray) -> np.ndarray:
    """Forward, right, down of a camera, in ENU."""
    R = T_map_cam[:3, :3]
    return np.stack([R[:, 2], R[:, 0], R[:, 1]], axis=1)


def test_a_dataset_of_before_has_no_word_on_its_poses(whole: Path, tmp_path: Path) -> None:
    dataset, _ = converted(whole, tmp_path / "out", every=30)
    text = dataset.meta.to_dict()
    assert text["poses"]["position"] == "pose"
    del text["poses"]
    assert replace(dataset.meta, poses=None).to_dict() == text
    assert type(dataset.meta).from_dict(text).poses is None
    text["poses"] = {"position": "gps", "a word of later": 1}
    assert type(dataset.meta).from_dict(text).poses.position == "gps"


def test_the_datum_is_that_of_the_body_not_of_its_antenna(flight) -> None:
    """Poses in east, north, up: the origin is found without the antenna's 8 cm."""
    t_s = np.linspace(0.0, 60.0, 200)
    T, log = flight.T_map_body(t_s), FixLog()
    stamps = START_NS + np.rint(t_s * 1e9).astype(np.int64)
    antenna_m = np.array([0.5, 0.0, 0.3])
    for stamp, pose in zip(stamps.tolist(), T, strict=True):
        place = (float(value) for value in enu_to_wgs84(pose[:3, :3] @ antenna_m + pose[:3, 3], DATUM))
        log.add(FixSample(stamp, "gps", *place, np.eye(3)))
    body = Trajectory(stamps, *se3.split(T))
    found = log.georeference(body, 10**9, antenna_m).datum
    assert found.altitude_m == pytest.approx(DATUM.altitude_m, abs=1e-3)
    assert log.georeference(body, 10**9).datum.altitude_m > DATUM.altitude_m + 0.25
