"""The sim node over DDS: what it publishes is one world at one time, and it flies where it is told."""

from __future__ import annotations

import time

import numpy as np
import pytest
import tf2_ros
from geometry_msgs.msg import PoseStamped, Twist, Vector3
from nav_msgs.msg import Odometry, Path
from rcl_interfaces.msg import Log
from rclpy.parameter import Parameter
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, FluidPressure, Image, Imu, NavSatFix
from std_srvs.srv import Trigger
from support.wall_flight import latched
from tf2_msgs.msg import TFMessage

from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import wgs84_to_enu
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.sim.node import SimNode
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer
from pose2rgbd_ros.sim.sensors.config import GpsSensor
from pose2rgbd_ros.sim.state import DATUM, true_seconds
from pose2rgbd_ros.streams.samples import decode_compressed

pytestmark = pytest.mark.ros
CAMERA = Camera.from_fov(80, 64, 60.0)
FLIGHT = FlightConfig(plan="orbit", altitude_m=70.0, radius_m=40.0, loops=1)
ANTENNA_M = GpsSensor().antenna_m
PARAMETERS = {
    "width": 80, "height": 64, "faults": False, "city__extent_m": 200.0, "city__cars": 10, "flight__plan": "orbit",
    "flight__altitude_m": 70.0, "flight__radius_m": 40.0, "flight__loops": 1, "camera__rate_hz": 10.0,
}  # fmt: skip
TOPICS = {
    "camera/image": Image, "camera/camera_info": CameraInfo, "camera/image/compressed": CompressedImage,
    "camera/depth/image": Image, "camera/depth/camera_info": CameraInfo, "truth/labels": Image,
    "truth/odometry": Odometry, "odom": Odometry, "gps/fix": NavSatFix, "imu/data": Imu, "pressure": FluidPressure,
}  # fmt: skip


class Flying:
    """A running sim node, and everything it publishes."""

    def __init__(self, bench):
        self.bench = bench
        self.got = {topic: bench.collect(kind, f"/{topic}", 500) for topic, kind in TOPICS.items()}
        self.clock = bench.collect(Clock, "/clock", 1000)
        self.log = bench.collect(Log, "/rosout", 100)
        self.tf = bench.collect(TFMessage, "/tf", 1000)
        self.commands = bench.node.create_publisher(Twist, "/cmd_vel", 1)
        self.paths = bench.node.create_publisher(Path, "/path", 1)
        self.buffer = tf2_ros.Buffer(node=bench.node)
        self.listener = tf2_ros.TransformListener(self.buffer, bench.node)
        self.node = bench.spin(SimNode, **PARAMETERS)
        bench.wait(lambda: all(self.got.values()) and len(self.clock) > 50, what="all topics")

    def newest(self, topic, count=1):
        """Messages of a topic that come from now on."""
        start = len(self.got[topic])
        self.bench.wait(lambda: len(self.got[topic]) >= start + count, what=topic)
        return self.got[topic][start : start + count]

    def true_state(self):
        return self.newest("truth/odometry")[0]

    def said(self, text):
        return self.bench.wait(lambda: [entry for entry in self.log if text in entry.msg], what=text)

    def command_until(self, condition, **linear):
        """Command a velocity until the true odometry is as wanted."""
        twist = Twist()
        for axis, value in linear.items():
            setattr(twist.linear, axis, value)

        def commanded():
            self.commands.publish(twist)
            time.sleep(0.04)
            return condition(self.got["truth/odometry"][-1])

        return self.bench.wait(commanded, what=f"velocity {linear}")


@pytest.fixture(scope="module")
def flying(shared_bench):
    return Flying(shared_bench)


@pytest.fixture(scope="module")
def flight():
    """What the node flies."""
    return make_flight(FLIGHT)


def by_stamp(messages):
    return {conversions.stamp_ns(message.header.stamp): message for message in messages}


def test_every_image_is_what_the_camera_sees_from_where_tf_has_it(flying, flight):
    flying.newest("camera/depth/image", 8)
    colour, depth, labels = (
        by_stamp(flying.got[topic]) for topic in ("camera/image", "camera/depth/image", "truth/labels")
    )
    infos = by_stamp(flying.got["camera/camera_info"]), by_stamp(flying.got["camera/depth/camera_info"])
    both = sorted(set(colour) & set(depth) & set(labels) & set(infos[0]) & set(infos[1]))[-6:]
    assert len(both) == 6
    renderer = SceneRenderer(flying.node._loop.world.scene, CAMERA)
    for stamp_ns in both:
        found = flying.buffer.lookup_transform("map", "camera_optical_frame", Time(nanoseconds=stamp_ns))
        T_map_cam = conversions.matrix_of(found.transform)
        planned = flight.T_map_cam(true_seconds(stamp_ns))[0]
        np.testing.assert_allclose(T_map_cam, planned, atol=1e-6)
        view = renderer.render(planned, true_seconds(stamp_ns))
        np.testing.assert_array_equal(conversions.rgb_of(colour[stamp_ns]), view.rgb)
        np.testing.assert_array_equal(conversions.depth_of(depth[stamp_ns]), view.depth_m)
        np.testing.assert_array_equal(np.frombuffer(labels[stamp_ns].data, np.uint8), view.labels.ravel())
        assert colour[stamp_ns].header.frame_id == "camera_optical_frame"
        assert colour[stamp_ns].header == infos[0][stamp_ns].header == depth[stamp_ns].header
        assert infos[1][stamp_ns].header == depth[stamp_ns].header
    renderer.close()
    assert (colour[both[0]].encoding, depth[both[0]].encoding, labels[both[0]].encoding) == ("rgb8", "32FC1", "mono8")
    assert conversions.camera_from_info(flying.got["camera/camera_info"][0]) == CAMERA
    compressed = by_stamp(flying.got["camera/image/compressed"])
    stamp_ns = max(set(compressed) & set(colour))
    decoded = decode_compressed(bytes(compressed[stamp_ns].data))
    assert np.abs(decoded.astype(int) - conversions.rgb_of(colour[stamp_ns])).mean() < 4


def test_whoever_comes_later_is_told_where_the_map_lies(flying):
    origin = flying.bench.collect(NavSatFix, "/map_origin", latched())
    flying.bench.wait(lambda: origin, what="map_origin")
    said = origin[0]
    assert (said.latitude, said.longitude, said.altitude, said.header.frame_id) == (47.0, 8.0, 400.0, "map")


def test_time_goes_on_in_even_steps_and_no_image_is_left_out(flying):
    flying.newest("camera/image", 5)
    ticks = np.diff([conversions.stamp_ns(message.clock) for message in flying.clock])
    assert set(ticks) == {10_000_000}
    stamps = sorted(by_stamp(flying.got["camera/image"]))
    np.testing.assert_allclose(np.diff(stamps), 1e8, atol=1)


def test_sensors_without_faults_measure_the_truth(flying):
    flying.newest("gps/fix", 3)
    truth = by_stamp(flying.got["truth/odometry"])
    for topic, parent in (("odom", "odom"), ("truth/odometry", "map")):
        assert flying.got[topic][0].header.frame_id == parent
        assert flying.got[topic][0].child_frame_id == "base_link"
    odometry = by_stamp(flying.got["odom"])
    for stamp_ns in sorted(set(truth) & set(odometry))[-20:]:
        ours, exact = odometry[stamp_ns], truth[stamp_ns]
        np.testing.assert_allclose(
            conversions.matrix_of(ours.pose.pose), conversions.matrix_of(exact.pose.pose), atol=1e-6
        )
        assert ours.twist.twist.linear.x == pytest.approx(exact.twist.twist.linear.x, abs=1e-6)
    fixes = by_stamp(flying.got["gps/fix"])
    stamp_ns = max(set(fixes) & set(truth))
    fix, exact = fixes[stamp_ns], conversions.matrix_of(truth[stamp_ns].pose.pose)
    antenna_m = exact @ [*ANTENNA_M, 1.0]
    enu = wgs84_to_enu(fix.latitude, fix.longitude, fix.altitude, DATUM)
    np.testing.assert_allclose(enu, antenna_m[:3], atol=1e-3)
    assert fix.header.frame_id == "gps"
    mount = flying.buffer.lookup_transform("base_link", "gps", Time())
    assert mount.transform.translation.z == ANTENNA_M[2]
    inertial = flying.got["imu/data"][-1]
    assert 9.0 < inertial.linear_acceleration.z < 10.6
    assert inertial.orientation_covariance[0] == -1.0
    assert 90_000 < flying.got["pressure"][-1].fluid_pressure < 101_000


def test_parameters_are_judged_while_it_flies(flying):
    slow, refused, bad = flying.node.set_parameters(
        [
            Parameter("real_time_factor", value=0.5),
            Parameter("seed", value=3),
            Parameter("real_time_factor", value=-1.0),
        ]
    )
    assert slow.successful
    assert "seed can only change while the node is unconfigured" in refused.reason
    assert not bad.successful
    flying.bench.wait(lambda: (flying.node._loop.pace.achieved() or 1.0) < 0.6, what="half speed")
    assert flying.node.set_parameters([Parameter("real_time_factor", value=1.0)])[0].successful


def test_commands_move_the_drone_and_time_out(flying):
    height_m = flying.true_state().pose.pose.position.z
    flying.command_until(lambda message: np.allclose(_linear(message), [0.0, 3.0, -1.0], atol=0.2), y=3.0, z=-1.0)
    assert flying.true_state().pose.pose.position.z < height_m
    speed = lambda: np.linalg.norm(_linear(flying.true_state()))  # noqa: E731
    flying.bench.wait(lambda: speed() < 0.1, what="hover")
    flying.commands.publish(Twist(linear=_vector(np.nan)))
    flying.said("cmd_vel refused: the commanded velocity holds NaN or infinity")


def test_a_path_is_flown_and_a_bad_one_refused(flying):
    hovering = conversions.matrix_of(flying.true_state().pose.pose)
    goal = hovering.copy()
    goal[:3, 3] += [6.0, -3.0, 2.0]
    flying.paths.publish(_path([goal], "odom"))
    flying.said("path refused: it is in frame 'odom'; give it in 'map'")
    buried = goal.copy()
    buried[2, 3] = -5.0
    flying.paths.publish(_path([buried]))
    flying.said("path refused: the path is too low")
    flying.paths.publish(_path([goal]))
    flying.said("flies a path of 1 pose in")
    arrived = lambda: np.linalg.norm(_position(flying.true_state()) - goal[:3, 3]) < 0.1  # noqa: E731
    flying.bench.wait(arrived, what="arrival")


def test_back_to_the_plan_on_request(flying, flight):
    answer = flying.bench.call(Trigger, "/sim/fly_plan", Trigger.Request())
    assert answer.success
    mode = lambda: flying.node._loop.last.mode == "plan"  # noqa: E731
    flying.bench.wait(mode, what="the plan")
    times = np.linspace(0.0, flight.duration_s, 5000)
    track = flight.position_m(times)
    flying.bench.wait(
        lambda: np.linalg.norm(track - _position(flying.true_state()), axis=1).min() < 0.2, 10.0, "on its track"
    )
    assert not [entry for entry in flying.log if "Traceback" in entry.msg]


def _linear(message):
    linear = message.twist.twist.linear
    return linear.x, linear.y, linear.z


def _position(message):
    return conversions.matrix_of(message.pose.pose)[:3, 3]


def _vector(x):
    return Vector3(x=x)


def _path(poses, frame="map"):
    message = Path()
    message.header.frame_id = frame
    message.poses = [PoseStamped(pose=conversions.to_pose(T)) for T in poses]
    return message
