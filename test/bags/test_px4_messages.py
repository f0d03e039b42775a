"""PX4's messages: with their definitions in the recording, and without."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.bags.writer import BagWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions

NAN4 = np.full(4, np.nan, np.float32)
# Whole messages of PX4 1.15, as the autopilot sends them; what is not read stands at their ends.
DEFINITIONS = {
    decode.PX4_GPS: (
        "uint64 timestamp\nuint64 timestamp_sample\nuint32 device_id\nfloat64 latitude_deg\nfloat64 longitude_deg\n"
        "float64 altitude_msl_m\nfloat64 altitude_ellipsoid_m\nfloat32 s_variance_m_s\nfloat32 c_variance_rad\n"
        "uint8 FIX_TYPE_3D=4\nuint8 fix_type\nfloat32 eph\nfloat32 epv\nfloat32 hdop\nfloat32 vdop\n"
        "int32 noise_per_ms\nuint8 satellites_used\n"
    ),
    decode.PX4_ODOMETRY: (
        "uint64 timestamp\nuint64 timestamp_sample\nuint8 pose_frame\nfloat32[3] position\nfloat32[4] q\n"
        "uint8 velocity_frame\nfloat32[3] velocity\nfloat32[3] angular_velocity\nfloat32[3] position_variance\n"
        "float32[3] orientation_variance\nfloat32[3] velocity_variance\nuint8 reset_counter\nint8 quality\n"
    ),
    decode.PX4_ATTITUDE: (
        "uint64 timestamp\nuint64 timestamp_sample\nfloat32[4] q\nfloat32[4] delta_q_reset\nuint8 quat_reset_counter\n"
    ),
    decode.PX4_GIMBAL: (
        "uint64 timestamp\nuint8 target_system\nuint8 target_component\nuint16 device_flags\nfloat32[4] q\n"
        "float32 angular_velocity_x\nfloat32 angular_velocity_y\nfloat32 angular_velocity_z\nuint32 failure_flags\n"
        "float32 delta_yaw\nfloat32 delta_yaw_velocity\nuint8 gimbal_device_id\nbool received_from_mavlink\n"
    ),
}
NORTH, EAST, UP = np.array([0.0, 1, 0]), np.array([1.0, 0, 0]), np.array([0.0, 0, 1])


def wxyz(sequence: str, angles_deg) -> np.ndarray:
    x, y, z, w = Rotation.from_euler(sequence, angles_deg, degrees=True).as_quat()
    return np.array([w, x, y, z], np.float32)


def filled(kind, **given):
    """A message with zeros where nothing is given."""
    zeros = {}
    for name, annotation in kind.__annotations__.items():
        text = str(annotation)
        if name.isupper() or name == "__msgtype__" or "ClassVar" in text:
            continue
        size = {"q": 4, "delta_q_reset": 4}.get(name, 3)
        zeros[name] = np.zeros(size, np.float32) if "ndarray" in text else (False if "bool" in text else 0)
    return kind(**{**zeros, **given})


def write(path: Path, messages: dict[str, dict]) -> Path:
    with BagWriter(path) as bag:
        bag.make.store = get_typestore(Stores.ROS2_JAZZY)  # its own: what is registered must not reach other tests
        for name, text in DEFINITIONS.items():
            bag.make.store.register(get_types_from_msg(text, name))
        for number, (name, fields) in enumerate(messages.items()):
            bag.write(f"/fmu/{number}", filled(bag.make.store.types[name], **fields), 10**18 + number)
    return path


MESSAGES = {
    decode.PX4_GPS: {
        "timestamp": 5_000_000, "timestamp_sample": 4_900_000, "latitude_deg": 47.0, "longitude_deg": 8.0,
        "altitude_msl_m": 400.0, "altitude_ellipsoid_m": 448.0, "fix_type": 4, "eph": 0.7, "epv": 1.1,
    },
    decode.PX4_ODOMETRY: {
        "timestamp": 5_000_000, "pose_frame": 1, "position": np.array([10.0, 20.0, -30.0], np.float32),
        "q": wxyz("Z", 90),
    },
    decode.PX4_ATTITUDE: {"timestamp": 5_000_000, "q": wxyz("ZYX", [90, 10, 0])},
    decode.PX4_GIMBAL: {"timestamp": 5_000_000, "device_flags": 16 | 32, "q": wxyz("ZYX", [0, -90, 0])},
}  # fmt: skip


@pytest.fixture(params=["bag", "flight.db3", "flight.mcap"])
def recorded(request, tmp_path: Path) -> dict:
    """The messages read back; from the .db3 without any definition, as recorders before Iron leave them."""
    path = write(tmp_path / request.param, MESSAGES)
    if path.suffix == ".db3":
        with sqlite3.connect(path) as database:
            database.execute("DELETE FROM message_definitions")
    with open_bag(path) as reader:
        return {message.__msgtype__: message for _, _, message in reader.messages(list(reader.topics))}


def test_a_fix_is_above_the_ellipsoid(recorded) -> None:
    message = recorded[decode.PX4_GPS]
    assert decode.px4_stamp_ns(message) == 4_900_000_000
    fix = decode.px4_fix_sample(message, 1)
    assert (fix.latitude_deg, fix.longitude_deg, fix.altitude_m) == (47.0, 8.0, 448.0)
    np.testing.assert_allclose(np.diag(fix.covariance_enu_m2), [0.49, 0.49, 1.21], rtol=1e-6)
    message.fix_type = 0
    assert decode.px4_fix_sample(message, 1) is None


def test_odometry_in_north_east_down_becomes_a_pose_in_the_map(recorded) -> None:
    message = recorded[decode.PX4_ODOMETRY]
    pose = decode.px4_pose_sample(message, 1)
    assert (pose.parent_frame, pose.child_frame) == ("map", "base_link")
    np.testing.assert_allclose(pose.position_m, [20, 10, 30])
    np.testing.assert_allclose(quaternions.to_matrix(pose.quat_xyzw)[:, 0], EAST, atol=1e-6)
    message.pose_frame = 2  # a heading of its own: forward, right, down
    pose = decode.px4_pose_sample(message, 1)
    assert pose.parent_frame == "odom"
    np.testing.assert_allclose(pose.position_m, [10, -20, 30])
    np.testing.assert_allclose(quaternions.to_matrix(pose.quat_xyzw)[:, 0], [0, -1, 0], atol=1e-6)
    message.q = NAN4
    assert np.isnan(decode.px4_pose_sample(message, 1).quat_xyzw).all()


def test_an_attitude_with_the_nose_up(recorded) -> None:
    R = quaternions.to_matrix(decode.px4_orientation_sample(recorded[decode.PX4_ATTITUDE], 1).quat_xyzw)
    ten = np.radians(10)
    np.testing.assert_allclose(R[:, 0], np.cos(ten) * EAST + np.sin(ten) * UP, atol=1e-6)
    recorded[decode.PX4_ATTITUDE].q = NAN4
    assert decode.px4_orientation_sample(recorded[decode.PX4_ATTITUDE], 1) is None


@pytest.mark.parametrize(
    ("flags", "earth"), [(0, False), (16, True), (16 | 32, False), (64, True), (16 | 64, True), (4 | 8, False)]
)
def test_whose_yaw_a_gimbal_tells(recorded, flags: int, earth: bool) -> None:
    """By MAVLink: as flagged; without a flag of the frame, a locked yaw is the earth's."""
    message = recorded[decode.PX4_GIMBAL]
    message.device_flags = flags
    gimbal = decode.px4_gimbal_sample(message, 1)
    assert gimbal.yaw_in_earth is earth
    np.testing.assert_allclose(quaternions.to_matrix(gimbal.quat_xyzw)[:, 0], -UP, atol=1e-6)  # looks down
    top = quaternions.to_matrix(gimbal.quat_xyzw)[:, 2]
    np.testing.assert_allclose(top, NORTH if earth else [1, 0, 0], atol=1e-6)


def test_an_older_layout_is_refused_not_misread(recorded) -> None:
    recorded[decode.PX4_GPS].latitude_deg = 4.7e8
    with pytest.raises(UserError, match=r"not the layout of PX4 1\.14"):
        decode.px4_fix_sample(recorded[decode.PX4_GPS], 1)
