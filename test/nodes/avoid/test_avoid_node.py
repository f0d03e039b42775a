"""The avoid node over DDS, fed with depth images of exact geometry."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from pose2rgbd.msg import ObstacleStatus
from rclpy.parameter import Parameter
from sensor_msgs.msg import LaserScan, PointCloud2, Range
from support.wall_flight import WallFlight

from pose2rgbd_ros.geometry import quaternions
from pose2rgbd_ros.nodes.avoid.node import AvoidNode
from pose2rgbd_ros.nodes.common import conversions

pytestmark = pytest.mark.ros
State = ObstacleStatus
CREEPING = 0.02  # of real time: a second that a busy machine loses is then a fiftieth


@pytest.fixture
def avoid(bench: Any) -> Callable[..., tuple[WallFlight, AvoidNode]]:
    """A flight, and an avoid node that follows it; its status messages gather in `bench.status`."""

    def start(flight: dict[str, Any] | None = None, **parameters: Any) -> tuple[WallFlight, AvoidNode]:
        bench.status = bench.collect(ObstacleStatus, "/avoid/status")
        node = bench.spin(AvoidNode, **parameters)
        return WallFlight(bench, **(flight or {})), node

    return start


def wait_for(bench: Any, what: str, condition: Callable[[ObstacleStatus], bool]) -> ObstacleStatus:
    """The first status from now on that fulfils a condition."""
    start = len(bench.status)
    return bench.wait(lambda: next((m for m in bench.status[start:] if condition(m)), None), what=what)


def after_s(bench: Any, flight: WallFlight, role: str, told: Callable[[ObstacleStatus], bool]) -> float:
    """How long after the last message of `role`, by simulated time, a status was published of which `told` holds.

    Nothing more of the role may be sent, and time has to creep.
    """
    start = len(bench.status)
    status = bench.wait(lambda: next((m for m in bench.status[start:] if told(m)), None))
    flight.pace = 1.0
    stamp_s = conversions.stamp_ns(status.header.stamp) / 1e9
    return stamp_s + status.latency_s - flight.last_ns[role] / 1e9


def test_a_wall_ahead_of_a_tilted_body(bench, avoid):
    scans = bench.collect(LaserScan, "/avoid/scan")
    pooled = bench.collect(LaserScan, "/avoid/mavros_scan")
    clouds = bench.collect(PointCloud2, "/avoid/points")
    ranges = bench.collect(Range, "/avoid/range_below")
    told = bench.collect(DiagnosticArray, "/diagnostics")
    tilt = quaternions.from_euler_rpy([0.0, 0.1, 0.7])
    flight, node = avoid({"tilt_xyzw": tilt}, max_age_s=60.0)
    # The first images may be served before odometry has been found: OK, without a direction of flight.
    status = wait_for(bench, "obstacles ahead", lambda m: m.state == State.OK and not math.isnan(m.speed_mps))
    assert status.nearest_m == pytest.approx(12.0, abs=0.02)
    assert status.direction.x == pytest.approx(1.0, abs=1e-3), "in the body's own frame"
    assert status.clearance_ahead_m == pytest.approx(11.5, abs=0.1)
    assert status.time_to_collision_s == pytest.approx(11.5 / 4, abs=0.03)
    assert np.isnan(status.clearance_below_m), "the camera does not look down"
    assert (status.sources, status.header.frame_id) == (State.PREDICTED, "base_link")
    assert status.known == 1.0
    bench.wait(lambda: scans and pooled and clouds and ranges)
    values = np.array(scans[-1].ranges)
    assert scans[-1].header.frame_id == "base_link_level"
    assert values[180] == pytest.approx(12.0 / math.cos(0.1), abs=0.1), "the wall leans with the body"
    assert np.isnan(values[:130]).all()
    assert np.isnan(values[230:]).all()
    assert pooled[-1].ranges[0] == pytest.approx(values[173:188].min(), abs=1e-3)
    points = np.frombuffer(clouds[-1].data, np.float32).reshape(48, 64, 3)
    np.testing.assert_allclose(points[..., 2], 11.9, atol=1e-3)
    assert np.isnan(ranges[-1].range)
    health = bench.wait(lambda: [m.status[0] for m in told if m.status[0].message == "" and m.status[0].values])[-1]
    assert health.name == "avoid: obstacles"
    assert {"compute_ms", "latency_s", "stamps_incomplete"} <= {value.key for value in health.values}
    assert {m.header.stamp.nanosec for m in scans} & {m.header.stamp.nanosec for m in bench.status}
    coarse, fixed = node.set_parameters([Parameter("scan.bins", value=72), Parameter("bound", value="depth")])
    assert coarse.successful
    assert "deactivate it first" in fixed.reason
    bench.wait(lambda: len(scans[-1].ranges) == 72, what="coarser scans")
    bench.wait_state(State.OK)
    assert flight.ahead_m == pytest.approx(scans[-1].ranges[36], abs=0.1)


def test_marks_are_known_points_in_the_map_with_the_weight_of_a_hit(bench, avoid):
    clouds = bench.collect(PointCloud2, "/avoid/points")
    flight, _ = avoid(cloud_marks=True, cloud_frame="map", cloud_every=4)
    flight.unknown_rows = 12
    cloud = bench.wait(lambda: next((m for m in clouds if m.width == 9 * 16), None), what="marks of the known")
    assert [field.name for field in cloud.fields] == ["x", "y", "z", "intensity"]
    assert (cloud.height, cloud.is_dense, cloud.header.frame_id) == (1, True, "map")
    marks = np.frombuffer(cloud.data, np.float32).reshape(-1, 4)
    np.testing.assert_allclose(marks[:, 0], 1.0 + flight.ahead_m, atol=1e-3, err_msg="the wall, in the map")
    np.testing.assert_allclose(marks[:, 3], math.log(0.7 / 0.3), rtol=1e-6)


def test_the_bound_may_be_depth_less_a_margin(bench, avoid):
    avoid(bound="depth", margin_m=1.5, remap={"depth": "depth_lower"})
    assert bench.wait_state(State.OK).nearest_m == pytest.approx(12.0 - 1.5, abs=0.02)


def test_lifecycle(bench, avoid):
    """A node that is inactive has no topics and is silent; active again it begins anew."""
    scans = bench.collect(LaserScan, "/avoid/scan")
    avoid()
    for cleaned_up in (False, True):
        bench.wait_state(State.OK)
        bench.wait(lambda: scans)
        assert bench.change(Transition.TRANSITION_DEACTIVATE, "/avoid")
        bench.wait(lambda: not bench.node.count_publishers("/avoid/scan"))
        if cleaned_up:
            assert bench.change(Transition.TRANSITION_CLEANUP, "/avoid")
            assert bench.change(Transition.TRANSITION_CONFIGURE, "/avoid")
        bench.status.clear()
        scans.clear()
        assert bench.change(Transition.TRANSITION_ACTIVATE, "/avoid")
    assert bench.wait_state(State.OK).nearest_m == pytest.approx(12.0, abs=0.02)


def test_the_cloud_in_the_frame_of_a_tilted_body(bench, avoid):
    """The wall stands across the body's own axis, not across the level one."""
    clouds = bench.collect(PointCloud2, "/avoid/points")
    avoid({"tilt_xyzw": quaternions.from_euler_rpy([0.0, 0.1, 0.7])}, cloud_frame="body", max_age_s=60.0)
    bench.wait(lambda: clouds)
    assert clouds[-1].header.frame_id == "base_link"
    points = np.frombuffer(clouds[-1].data, np.float32).reshape(-1, 3)
    np.testing.assert_allclose(points[:, 0], 12.0, atol=1e-3)


def test_velocity_and_silence(bench, avoid):
    scans = bench.collect(LaserScan, "/avoid/scan")
    flight, _ = avoid()
    bench.wait_state(State.OK)
    flight.speed_mps = 0.0
    assert wait_for(bench, "at rest", lambda m: m.speed_mps == 0).time_to_collision_s == math.inf
    flight.odometry_on = False
    assert math.isnan(wait_for(bench, "no odometry", lambda m: math.isnan(m.speed_mps)).time_to_collision_s)
    flight.images_on = False
    assert "everything predicted is unknown" in bench.wait_state(State.STALE).message
    before = len(scans)
    bench.wait(lambda: len(scans) > before + 3)
    assert np.isnan(scans[-1].ranges).all()
    assert math.isnan(bench.status[-1].nearest_m)
    flight.images_on = True
    bench.wait_state(State.OK)


def test_live_sensors_bring_nearer_and_may_die(bench, avoid):
    scans = bench.collect(LaserScan, "/avoid/scan")
    flight, _ = avoid({"live_m": 7.0})
    both = State.PREDICTED + State.LIVE
    status = wait_for(bench, "both", lambda m: m.sources == both)
    assert status.nearest_m == pytest.approx(7.0, abs=0.02)
    flight.live_m = math.inf  # nothing within its ten metres
    assert wait_for(bench, "free", lambda m: m.nearest_m > 8).nearest_m == pytest.approx(12.0, abs=0.02)
    flight.live_m = math.nan
    wait_for(bench, "says nothing", lambda m: m.nearest_m == pytest.approx(12.0, abs=0.02))
    flight.live_m, flight.range_m = None, 4.0
    assert "live_depth fell silent" in bench.wait_state(State.SENSOR_LOST).message
    status = wait_for(bench, "range", lambda m: m.nearest_m < 5)
    assert status.nearest_m == pytest.approx(4.0, abs=0.01)
    assert status.clearance_ahead_m == pytest.approx(3.5, abs=0.01)
    assert scans[-1].ranges[180] == pytest.approx(4.0, abs=0.1)
    flight.images_on = False
    status = wait_for(bench, "live alone", lambda m: m.state == State.STALE and m.sources == State.LIVE)
    assert status.nearest_m == pytest.approx(4.0, abs=0.01)


def test_a_sensor_that_dies_is_told_before_the_next_image(bench, avoid):
    scans = bench.collect(LaserScan, "/avoid/scan")
    flight, _ = avoid({"range_m": 4.0, "simulated": True}, use_sim_time=True, max_age_s=5.0)
    wait_for(bench, "range", lambda m: m.nearest_m < 5)
    flight.pace = CREEPING
    flight.images_on, flight.range_m = False, None
    lost = lambda m: m.state == State.SENSOR_LOST and "range fell silent" in m.message  # noqa: E731
    assert 0.3 < after_s(bench, flight, "range", lost) < 0.3 + 0.1, "live_timeout_s, and 0.1 s"
    status = next(m for m in bench.status if lost(m))
    assert conversions.stamp_ns(status.header.stamp) == flight.last_ns["depth_lower"], "the last depth once more"
    assert (status.sources, round(status.nearest_m)) == (State.PREDICTED, 12)
    bench.wait(lambda: scans[-1].ranges[180] == pytest.approx(12.0, abs=0.1), what="a scan without it")


def test_depth_is_used_for_so_long_and_no_longer(bench, avoid):
    flight, _ = avoid({"simulated": True}, use_sim_time=True, max_age_s=0.5)
    bench.wait_state(State.OK)
    flight.pace = CREEPING
    flight.images_on = False
    newest = lambda: conversions.stamp_ns(bench.status[-1].header.stamp) == flight.last_ns["depth_lower"]  # noqa: E731
    bench.wait(newest, what="the last depth")
    stale = lambda m: m.state == State.STALE and "everything predicted is unknown" in m.message  # noqa: E731
    assert 0.5 < after_s(bench, flight, "depth_lower", stale) < 0.5 + 0.1, "max_age_s, and 0.1 s"


def test_frames_and_stamps_that_do_not_fit(bench, avoid):
    flight, _ = avoid({"mount_on": False})
    status = bench.wait_state(State.WAITING_FOR_EXTRINSICS)
    assert "camera_optical" in status.message
    assert "base_link" in status.message
    flight.mount_on = True
    bench.wait_state(State.OK)
    flight.offset_ns = -5_000_000_000
    assert "back by" in bench.wait_state(State.TIME_JUMP).message
    flight.offset_ns = 0
    bench.wait_state(State.OK)
    flight.offset_ns = 3_000_000_000
    assert "in the future" in bench.wait_state(State.STALE).message


def test_a_clock_that_stops_makes_depth_stale(bench, avoid):
    flight, _ = avoid({"simulated": True}, use_sim_time=True, max_age_s=60.0)
    bench.wait_state(State.OK)
    flight.images_on, flight.pace = False, 0.0
    assert "the clock has stood still for 2 s" in bench.wait_state(State.STALE).message
    flight.images_on, flight.pace = True, 1.0
    bench.wait_state(State.OK)
