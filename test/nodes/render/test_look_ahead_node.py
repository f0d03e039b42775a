"""The look-ahead of the render node over DDS: along a path, along a twist, and with what may go wrong."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path as FilePath

import numpy as np
import pytest
from nav_msgs.msg import Odometry, Path
from pose2rgbd.msg import ClearanceProfile, LookAhead
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import Image
from support.body_paths import LOOKS_DOWN, path_of
from support.small_relief import write_small_relief

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.rendering.renderer import Renderer

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def hamlet(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    path = write_small_relief(tmp_path_factory.mktemp("look_ahead") / "hamlet")
    Renderer(path).render(np.eye(4))  # compiled once
    return path


def body_at(x: float, y: float = 0.0, z: float = 10.0) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = x, y, z
    return T


class Flight:
    """A body in TF with a camera below it, and who listens to the look-ahead."""

    def __init__(self, bench, model, **parameters):
        self.bench, self.T_map_body, self.twist = bench, body_at(0.0), None
        self.profiles = bench.collect(ClearanceProfile, "/render/clearance")
        usual = {"look_ahead__uncalibrated_margin": 0.1, "look_ahead__rate_hz": 20.0}
        bench.render(model, **{**usual, **parameters})
        self.odometry = bench.node.create_publisher(Odometry, "/render/odometry", 1)
        self.path = bench.node.create_publisher(Path, "/render/path", 1)
        self.timer = bench.node.create_timer(0.02, self._send)
        bench.wait(lambda: bench.state_of() == "active")

    def _send(self):
        stamp_ns = self.bench.send(self.T_map_body, parent="map", child="base_link")
        self.bench.send(LOOKS_DOWN, stamp_ns, parent="base_link", child="camera_optical")
        if self.twist is not None:
            message = Odometry(child_frame_id="base_link")
            message.header.stamp, message.header.frame_id = conversions.to_stamp(stamp_ns), "odom"
            linear, angular = message.twist.twist.linear, message.twist.twist.angular
            linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = map(float, self.twist)
            self.odometry.publish(message)

    def follow(self, path):
        self.bench.wait(lambda: self.path.get_subscription_count() > 0)
        self.path.publish(path)

    def profile(self, condition):
        """The next profile that fulfils a condition."""
        begin = len(self.profiles)
        return self.bench.wait(lambda: next((p for p in self.profiles[begin:] if condition(p)), None))

    def told(self, text):
        profile = self.profile(lambda p: text in p.message)
        assert "\n" not in profile.message
        return profile


def xs(profile):
    return [pose.position.x for pose in profile.poses]


def test_along_a_path_from_where_the_body_is(bench, hamlet):
    flight = Flight(bench, hamlet, look_ahead__mode="path", look_ahead__spacing_m=0.5, look_ahead__poses=4)
    nothing = flight.told("no path on ~/path yet: nothing arrives, though /tester publishes it")
    assert len(nothing.poses) == 0
    assert nothing.first_unknown_m == 0.0
    flight.T_map_body = body_at(-1.0)
    flight.follow(path_of([[-2, 0, 10], [2, 0, 10]]))
    images = bench.collect(LookAhead, "/render/look_ahead")
    profile = flight.profile(lambda p: p.poses and abs(xs(p)[0] + 1.0) < 0.01)
    assert xs(profile) == pytest.approx([-1.0, -0.5, 0.0, 0.5])
    assert profile.header.frame_id == "map"
    assert conversions.stamp_ns(profile.header.stamp) in bench.sent, "the stamp of the body's pose"
    assert np.isnan(profile.time_s).all(), "nobody told a speed"
    assert (np.array(profile.clearance_m) < 8.1).all()
    flight.T_map_body = body_at(0.25)
    profile = flight.profile(lambda p: p.poses and abs(xs(p)[0] - 0.25) < 0.01)
    assert xs(profile) == pytest.approx([0.25, 0.75, 1.25, 1.75])
    message = bench.wait(lambda: images and images[-1])
    assert len(message.depth) == len(message.depth_lower) == len(message.poses) == 4
    assert not message.rgb
    expected = Renderer(hamlet).render(conversions.matrix_of(message.poses[2].pose)).depth[0]
    np.testing.assert_allclose(conversions.depth_of(message.depth[2]), expected, atol=1e-3)

    flight.twist = [0.5, 0, 0, 0, 0, 0]
    profile = flight.profile(lambda p: p.poses and not math.isnan(p.time_s[-1]))
    assert list(profile.time_s) == pytest.approx([0, 1, 2, 3])

    flight.follow(path_of([[math.nan, 0, 10], [2, 0, 10]]))
    flight.told("pose 0 of the path holds NaN or infinity")
    flight.follow(Path())
    flight.told("the path is empty")
    flight.follow(path_of([[-2, 0, 10], [2, 0, 10]], frame="moon"))
    flight.told("no transform map -> moon")
    flight.follow(path_of([[-2, 0, 10], [2, 0, 10]]))
    flight.profile(lambda p: p.poses)


def test_along_a_twist_that_turns(bench, hamlet):
    flight = Flight(bench, hamlet, look_ahead__mode="twist", look_ahead__horizon_s=2.0, look_ahead__poses=5)
    flight.told("no twist on ~/odometry yet: nothing arrives, though /tester publishes it")
    flight.twist = [1.0, 0, 0, 0, 0, 0.5]
    profile = flight.profile(lambda p: len(p.poses) == 5)
    expected = se3.exponential(np.array([0, 0.5, 1, 1.5, 2])[:, None] * [1, 0, 0, 0, 0, 0.5])
    for pose, T in zip(profile.poses, expected, strict=True):
        np.testing.assert_allclose(conversions.matrix_of(pose), body_at(0.0) @ T, atol=1e-9)
    assert list(profile.time_s) == pytest.approx([0, 0.5, 1, 1.5, 2])
    flight.twist = [0.0] * 6
    profile = flight.told("the body does not move")
    assert len(profile.poses) == 1
    assert np.isfinite(profile.clearance_m[0])
    assert math.isnan(profile.ahead_m[0])
    flight.twist = [math.nan, 0, 0, 0, 0, 0]
    flight.told("the twist holds NaN")
    flight.twist = None
    flight.told("s old; is it still published, and by the same clock (use_sim_time)?")


def test_where_the_body_was_is_not_where_it_is(bench, hamlet):
    flight = Flight(bench, hamlet, look_ahead__mode="path")
    flight.follow(path_of([[-2, 0, 10], [2, 0, 10]]))
    flight.profile(lambda p: p.poses)
    flight.timer.cancel()
    nothing = flight.told("s old; is it still published, and by the same clock (use_sim_time)?")
    assert not nothing.poses
    assert nothing.first_unknown_m == 0.0


def test_live_images_are_not_held_up(bench, hamlet):
    """Where the node has all it can do, a live image is shown between any two parts of a look: a dozen while one
    takes place.
    """
    images = bench.collect(Image, "/render/depth/image", 1000)
    flight = Flight(
        bench, hamlet, look_ahead__mode="twist", look_ahead__poses=24, look_ahead__rate_hz=100.0,
        look_ahead__chunk_ms=1.0, rate_hz=1000.0, republish=True,
    )  # fmt: skip
    flight.twist = [0.5, 0, 0, 0, 0, 0]
    flight.profile(lambda p: len(p.poses) == 24)
    count, looks = len(images), len(flight.profiles)
    bench.wait(lambda: len(flight.profiles) >= looks + 10)
    assert len(images) - count > 12 * (len(flight.profiles) - looks)


def test_off_by_default_and_switched_on_while_running(bench, hamlet):
    bench.render(hamlet)
    bench.wait(lambda: bench.state_of() == "active")
    assert not {"/render/clearance", "/render/look_ahead", "/render/path"} & bench.topics()
    refused = set_mode(bench, "sideways")
    assert not refused.successful
    assert "choose one of: none, path, twist" in refused.reason
    assert set_mode(bench, "twist").successful
    bench.wait(lambda: {"/render/clearance", "/render/look_ahead", "/render/odometry"} <= bench.topics())
    assert set_mode(bench, "none").successful
    bench.wait(lambda: not {"/render/clearance", "/render/look_ahead"} & bench.topics())


def set_mode(bench, mode):
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=mode)
    request = SetParameters.Request(parameters=[Parameter(name="look_ahead.mode", value=value)])
    return bench.call(SetParameters, "/render/set_parameters", request).results[0]


def test_the_example_prints_the_profile_of_a_path(bench, hamlet, repository, tmp_path):
    Flight(bench, hamlet)
    command = [
        sys.executable,
        str(repository / "examples/look_along_path.py"),
        *"-2 0 10 2 0 10".split(),
        "--spacing-m",
        "1",
    ]
    with (tmp_path / "printed").open("w+") as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT)
        bench.wait(lambda: process.poll() is not None)
        printed.seek(0)
        lines = printed.read().splitlines()
    rows = [line.split() for line in lines if line.startswith("     ")]
    assert [row[0] for row in rows] == ["0.0", "1.0", "2.0", "3.0", "4.0"]
    assert all(0.0 < float(row[1]) < 8.1 for row in rows), "between the lower bound and the ground"
    assert "first_conflict_m: none" in lines
    assert process.returncode == 0
