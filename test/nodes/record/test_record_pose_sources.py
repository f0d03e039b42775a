"""Positions and orientations from live GPS, odometry, IMU and TF, against the truth and the converter's numbers."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion, QuaternionStamped
from nav_msgs.msg import Odometry
from rclpy.serialization import serialize_message
from scipy.integrate import trapezoid
from sensor_msgs.msg import Imu, NavSatFix
from tf2_msgs.msg import TFMessage

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.geodesy import Datum, enu_to_wgs84, wgs84_to_enu
from pose2rgbd_ros.nodes.common.conversions import to_pose, to_stamp, to_transform_stamped
from pose2rgbd_ros.nodes.record.inputs import Candidate, Input, RawMessage, _header_stamp_ns, _transform_stamp_ns
from pose2rgbd_ros.nodes.record.poses import LivePoses
from pose2rgbd_ros.nodes.record.settings import RecordSettings
from pose2rgbd_ros.poses.camera_pose import T_NADIR
from pose2rgbd_ros.poses.orientation import course

pytestmark = pytest.mark.ros
DATUM = Datum(47.0, 8.0, 400.0)
START_NS = 1_700_000_000_000_000_000
ANTENNA_M = np.array([0.3, -0.1, 0.2])
KINDS = {
    "odom": Odometry, "fix": NavSatFix, "imu": Imu, "gimbal": QuaternionStamped, "tf": TFMessage,
    "tf_static": TFMessage,
}  # fmt: skip
INPUTS = {role: Input(role, "", [Candidate(f"/{role}", kind)], 10) for role, kind in KINDS.items()}


def heading(t_s: float) -> float:
    return 0.4 * math.sin(0.05 * t_s) + 0.02 * t_s


def T_map_body(t_s: float) -> np.ndarray:
    """A gentle curve at 5 m/s, level, along its heading."""
    steps = np.linspace(0.0, t_s, max(2, int(t_s * 100)))
    angles = np.array([heading(s) for s in steps])
    position = 5 * trapezoid(np.stack([np.cos(angles), np.sin(angles), 0 * angles]), steps, axis=1)
    yaw = heading(t_s)
    return se3.make(np.add(position, [0, 0, 30.0]), [0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)])


class Flight:
    """Feeds live poses with what sensors say."""

    def __init__(self, **settings):
        self.live = LivePoses(RecordSettings(body_to_camera="nadir", **settings))

    def send(self, role, message):
        data = serialize_message(message)
        stamp_ns = (_transform_stamp_ns if KINDS[role] is TFMessage else _header_stamp_ns)(data)
        self.live.add(RawMessage(INPUTS[role], stamp_ns, stamp_ns, time.monotonic(), data), stamp_ns)

    def fix(self, t_s, arm_m=(0.0, 0.0, 0.0)):
        T = T_map_body(t_s)
        message = NavSatFix()
        message.header.stamp, message.header.frame_id = to_stamp(START_NS + round(t_s * 1e9)), "gps"
        message.status.status = 0
        at = T[:3, :3] @ np.asarray(arm_m) + T[:3, 3] - T_map_body(0.0)[:3, 3]
        message.latitude, message.longitude, message.altitude = map(float, enu_to_wgs84(at, DATUM))
        self.send("fix", message)

    def odometry(self, t_s, T_odom_map=None):
        message = Odometry(child_frame_id="base_link")
        message.header.stamp, message.header.frame_id = to_stamp(START_NS + round(t_s * 1e9)), "odom"
        message.pose.pose = to_pose((np.eye(4) if T_odom_map is None else T_odom_map) @ T_map_body(t_s))
        self.send("odom", message)

    def imu(self, t_s):
        x, y, z, w = se3.split(T_map_body(t_s))[1].tolist()
        message = Imu(orientation=Quaternion(x=x, y=y, z=z, w=w))
        message.header.stamp, message.header.frame_id = to_stamp(START_NS + round(t_s * 1e9)), "base_link"
        self.send("imu", message)

    def transform(self, role, t_s, T, parent, child):
        stamp_ns = START_NS + round(t_s * 1e9)
        self.send(role, TFMessage(transforms=[to_transform_stamped(T, stamp_ns, parent, child)]))

    def camera(self, patience_s=0.0):
        return self.live.camera("camera", time.monotonic() + patience_s)


def error(poses, t_s):
    """Metres and degrees between the answer and the truth, both counted from the first fix."""
    answer = poses.pose_at(START_NS + round(t_s * 1e9))
    assert answer.T is not None, answer
    true = T_map_body(t_s) @ T_NADIR
    true[:3, 3] -= T_map_body(0.0)[:3, 3]
    R = answer.T[:3, :3].T @ true[:3, :3]
    turned = math.degrees(math.acos(np.clip((np.trace(R) - 1) / 2, -1, 1)))
    return float(np.linalg.norm(answer.T[:3, 3] - true[:3, 3])), turned


def test_gps_and_course_have_the_numbers_of_the_converter():
    flight = Flight(position="gps", course_smoothing_s=1.0)
    poses = flight.camera()
    assert poses.pose_at(START_NS).wait
    times = np.arange(0.0, 20.0, 0.2)
    for t_s in times:
        flight.fix(t_s)
    metres, degrees = error(poses, 10.07)
    assert metres < 0.01
    assert degrees < 1.0
    assert poses.pose_at(START_NS + round(19.5e9)).wait, "the course of the last second is not known yet"
    stamps = START_NS + np.rint(times * 1e9).astype(np.int64)
    positions = np.stack([T_map_body(t)[:3, 3] - T_map_body(0.0)[:3, 3] for t in times])
    offline = course(stamps, positions, 1.0, 1.0, 0.5).trajectory
    for i in (3, 20, 50, 80):
        live = flight.live.evidence.fixes.course.pose_at(int(stamps[i])).T
        np.testing.assert_allclose(live[:3, :3], offline.T[i, :3, :3], atol=1e-6)
    assert (poses.decided.facts.position, poses.decided.facts.orientation, poses.decided.facts.altitude_reference) == (
        "gps", "course", "ellipsoid",
    )  # fmt: skip
    assert poses.decided.datum == flight.live.evidence.fixes.datum


def test_without_a_course_there_is_no_pose():
    flight = Flight(position="gps")
    for i in range(20):
        flight.fix(0.0) if i == 0 else flight.send("fix", still(i * 0.2))
    answer = flight.camera().pose_at(START_NS + 2 * 10**9)
    assert answer.T is None
    assert answer.wait
    assert answer.reason == "orientation_no_pose"


def still(t_s):
    message = NavSatFix(latitude=47.0, longitude=8.0, altitude=400.0)
    message.header.stamp = to_stamp(START_NS + round(t_s * 1e9))
    message.status.status = 0
    return message


def test_gps_with_an_imu_and_its_antenna():
    flight = Flight(position="gps", orientation="imu", antenna_m="0.3 -0.1 0.2")
    for t_s in np.arange(0.0, 6.0, 0.02):
        flight.imu(t_s)
        if round(t_s * 50) % 10 == 0:
            flight.fix(t_s, ANTENNA_M)
    poses = flight.camera()
    metres, degrees = error(poses, 3.33)
    assert metres < 0.4, "the datum is the antenna's first place"
    first = flight.live.evidence.fixes.datum
    offset = wgs84_to_enu(first.latitude_deg, first.longitude_deg, first.altitude_m, DATUM)
    np.testing.assert_allclose(offset, T_map_body(0.0)[:3, :3] @ ANTENNA_M, atol=1e-6)
    answer = poses.pose_at(START_NS + round(3.33e9))
    true = T_map_body(3.33)[:3, 3] - T_map_body(0.0)[:3, 3] - offset
    np.testing.assert_allclose(answer.T[:3, 3], true, atol=0.01)
    assert degrees < 0.01
    assert poses.decided.facts.topics == {"fix": "/fix", "imu": "/imu"}


def test_the_antenna_and_the_orientation_from_tf():
    flight = Flight(position="gps", orientation="tf")
    flight.transform("tf_static", 0.0, se3.make(ANTENNA_M, [0, 0, 0, 1.0]), "base_link", "gps")
    flight.transform("tf_static", 0.0, T_NADIR, "base_link", "camera")
    for t_s in np.arange(0.0, 4.0, 0.1):
        flight.transform("tf", t_s, T_map_body(t_s), "map", "base_link")
        flight.fix(t_s, ANTENNA_M)
    np.testing.assert_allclose(flight.live.evidence.antenna_m(), ANTENNA_M)
    poses = flight.camera()
    assert error(poses, 2.05)[1] < 0.01
    assert poses.decided.facts.orientation == "tf"


def test_gps_and_odometry_fused():
    """Odometry that counts from elsewhere, turned by 40 degrees, is brought into the map by the fixes."""
    flight = Flight(position="fused", fix_sigma_m=0.5, antenna_m="0 0 0")
    T_odom_map = se3.make([100.0, -50.0, 7.0], [0.0, 0.0, math.sin(0.35), math.cos(0.35)])
    poses = flight.camera()
    for t_s in np.arange(0.0, 30.0, 0.2):
        flight.odometry(t_s, T_odom_map)
        flight.fix(t_s)
    metres, degrees = error(poses, 25.03)
    assert metres < 0.3
    assert degrees < 1.0
    assert poses.decided.facts.position == "fused"
    assert poses.decided.datum is not None


def test_gps_takes_over_where_nobody_publishes_poses():
    flight = Flight()
    poses = flight.camera(patience_s=60.0)
    for t_s in np.arange(0.0, 8.0, 0.2):
        flight.fix(t_s)
    assert poses.pose_at(START_NS + 4 * 10**9).wait, "odometry may still come"
    assert error(flight.camera(), 4.0)[0] < 0.01
    assert any("positions are GPS's, for TF gives none" in note for note in flight.live.notes)


def test_a_gimbal_turns_the_camera_where_nothing_else_does():
    """Its attitude is in east, north, up; the camera looks along it, and the positions are the odometry's."""
    flight = Flight(orientation="gimbal")
    poses = flight.camera()
    flight.odometry(0.0)
    assert poses.pose_at(START_NS).wait, "the gimbal was asked for"
    for t_s in np.arange(0.0, 4.0, 0.1):
        flight.odometry(t_s)
        x, y, z, w = quaternions.from_euler_rpy([0.0, 0.0, heading(t_s)]).tolist()
        message = QuaternionStamped(quaternion=Quaternion(x=x, y=y, z=z, w=w))
        message.header.stamp = to_stamp(START_NS + round(t_s * 1e9))
        flight.send("gimbal", message)
    assert error(poses, 2.05)[1] < 0.01
    np.testing.assert_allclose(poses.pose_at(START_NS + 2 * 10**9).T[:3, 3], T_map_body(2.0)[:3, 3], atol=1e-6)
    assert poses.decided.facts.topics == {"pose": "/odom", "gimbal": "/gimbal"}
    assert "/gimbal" in flight.live.clocks_in_use()
    flight.live.clock_set("gimbal", "/gimbal")
    assert poses.pose_at(START_NS + 2 * 10**9).reason == "orientation_no_pose", "its old clock is forgotten"


def test_why_images_have_no_pose_is_said_once():
    flight = Flight(position="fused")
    poses = flight.camera()
    flight.fix(0.0)
    flight.transform("tf", 0.0, T_map_body(0.0), "map", "base_link")
    for _ in range(2):
        assert poses.pose_at(START_NS).wait
    why = "position fused takes messages of odometry live, not TF; convert the recording's mcap"
    assert flight.live.notes == [f"images have no pose: {why}"]
    assert flight.camera(patience_s=60.0).pose_at(START_NS).wait
    flight.odometry(0.0)
    assert flight.camera().pose_at(START_NS).wait
    assert flight.live.notes[1:] == ["images have no pose: position fused needs odometry and GPS fixes"]
    flight = Flight(position="pose")
    poses = flight.camera()
    for i in range(3):
        flight.transform("tf", 0.1 * i, np.eye(4), "nowhere", f"detection_{i}")
        assert poses.pose_at(START_NS).wait
    assert len(flight.live.notes) == 1, "though the list of frames grows"


def test_settings_that_contradict_each_other_are_refused():
    for settings, said in (
        ({"orientation": "course", "position": "pose"}, "goes with position gps"),
        ({"antenna_m": "1 2"}, "expected auto or 'x y z'"),
        ({"body_to_camera": "sideways"}, "body-to-camera is 'sideways'"),
    ):
        with pytest.raises(UserError, match=said):
            RecordSettings(**settings).check_poses()


def test_a_jump_forgets_what_moved():
    flight = Flight()
    flight.odometry(5.0)
    flight.transform("tf_static", 0.0, T_NADIR, "base_link", "camera")
    flight.live.jumped()
    assert flight.live.evidence.odometry.pose_at(START_NS + 5 * 10**9).T is None
    assert flight.live.evidence.static_transform("base_link", "camera") is not None, "what is static stays"
