"""Fusion with live sensors, clouds, and the forms autopilots take."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.obstacles.clearance import free_distance_along, nearest_obstacle, time_to_collision_s
from pose2rgbd_ros.obstacles.surroundings import (
    LIVE,
    PREDICTED,
    Body,
    RangeMeasurement,
    ScanSettings,
    laser_scan,
    live_lower,
    mavros_ranges,
    nearer,
    obstacle_distances_cm,
    pooled,
    range_along,
    range_in_scan,
    summarize_obstacles,
)
from pose2rgbd_ros.obstacles.view import cloud_shape, colours_of, organised_cloud, view_of

FEW = settings(max_examples=30, derandomize=True)
PREDICTING, LIVING = Camera.from_fov(48, 36, 90.0), Camera.from_fov(30, 30, 70.0)
distances = st.one_of(st.just(math.nan), st.just(math.inf), st.floats(0.5, 29.0))
CHOSEN = ScanSettings(near_m=3.0)
FORWARD = Body(0.5, np.array([3.0, 0.0, 0.0]))


def wall(camera: Camera, distance_m: float) -> np.ndarray:
    return np.full((camera.height, camera.width), distance_m, np.float32)


@FEW
@given(predicted_m=distances, live_m=distances, reading_m=distances, live_range_m=st.sampled_from([10.0, 40.0]))
def test_fused_is_never_farther_than_any_source(predicted_m, live_m, reading_m, live_range_m):
    predicted = view_of(wall(PREDICTING, predicted_m), PREDICTING, se3.T_BODY_OPTICAL)
    live_m = math.inf if live_m > live_range_m else live_m
    live = view_of(live_lower(wall(LIVING, live_m)), LIVING, se3.T_BODY_OPTICAL)
    reading = RangeMeasurement(math.inf if reading_m > 8.0 else reading_m, 0.2, 8.0, np.eye(4))
    everything = summarize_obstacles(predicted, live, live_range_m, [reading], FORWARD, CHOSEN)
    alone = [
        summarize_obstacles(predicted, None, live_range_m, [], FORWARD, CHOSEN),
        summarize_obstacles(None, live, live_range_m, [], FORWARD, CHOSEN),
        summarize_obstacles(None, None, live_range_m, [reading], FORWARD, CHOSEN),
    ]
    for index, one in enumerate(alone):
        if index == 0 or np.isfinite(one.ranges).any():
            within = ~np.isnan(one.ranges) & ~((index > 0) & (one.ranges >= min(live_range_m, 8.0)))
            assert (everything.ranges[within] <= one.ranges[within]).all()
        assert not everything.nearest.distance_m > one.nearest.distance_m
    nobody_knows = np.all([np.isnan(one.ranges) for one in alone], axis=0)
    assert np.isnan(everything.ranges[nobody_knows]).all()
    assert everything.sources == PREDICTED + LIVE


def test_free_by_a_live_sensor_alone_holds_up_to_its_reach():
    unknown = view_of(wall(PREDICTING, math.nan), PREDICTING, se3.T_BODY_OPTICAL)
    open_sky = view_of(live_lower(wall(LIVING, math.inf)), LIVING, se3.T_BODY_OPTICAL)
    seen = summarize_obstacles(unknown, open_sky, 10.0, [], FORWARD, CHOSEN)
    assert seen.ranges[180] == 10.0, "beyond the sensor's ten metres nobody knows"
    assert seen.ahead_m == 10.0
    assert math.isnan(seen.nearest.distance_m), "nothing was met"
    far = view_of(wall(PREDICTING, 25.0), PREDICTING, se3.T_BODY_OPTICAL)
    seen = summarize_obstacles(far, open_sky, 10.0, [], FORWARD, CHOSEN)
    assert seen.ranges[180] == pytest.approx(25.0, abs=0.02), "the live sensor has nothing against it"
    assert summarize_obstacles(unknown, open_sky, 60.0, [], FORWARD, CHOSEN).ranges[180] == math.inf


def test_live_depth_by_rep_117():
    lower = live_lower(np.array([[math.nan, math.inf, -math.inf, 0.0, -1.0, 3.0]], np.float32))
    np.testing.assert_array_equal(lower, [[math.nan, math.inf, 0.0, math.nan, math.nan, 3.0]])
    touching = view_of(live_lower(wall(LIVING, -math.inf)), LIVING, se3.T_BODY_OPTICAL)
    assert nearest_obstacle(touching).distance_m == 0.0
    assert laser_scan(touching, CHOSEN)[180] == 0.0


def test_a_single_range():
    aside = se3.make([0.0, 0.0, 0.1], [0, 0, math.sin(math.pi / 4), math.cos(math.pi / 4)])
    ranges = range_in_scan(5.0, 0.2, aside, (0.5, 0.5), 30.0, 360)
    assert ranges[270] == pytest.approx(5.0)
    assert np.isfinite(ranges).sum() == pytest.approx(math.degrees(0.2), abs=2)
    assert np.isnan(range_in_scan(math.inf, 0.2, aside, (0.5, 0.5), 30.0, 360)).all()
    assert range_in_scan(-math.inf, 0.2, aside, (0.5, 0.5), 30.0, 360)[270] == 0.0
    high = se3.make([0.0, 0.0, 3.0], [0, 0, 0, 1])
    assert np.isnan(range_in_scan(5.0, 0.2, high, (0.5, 0.5), 30.0, 360)).all(), "it looks past the slice"
    down = se3.make([0.0, 0.0, -0.2], [0, math.sin(math.pi / 4), 0, math.cos(math.pi / 4)])
    assert range_along(4.0, 0.2, down, np.array([0, 0, -1.0])) == pytest.approx(4.2)
    assert math.isnan(range_along(4.0, 0.2, down, np.array([1.0, 0, 0])))
    assert math.isnan(range_along(4.0, math.nan, down, np.array([1.0, 0, 0]))), "a cone that is not known"
    assert math.isnan(range_along(math.inf, 0.2, down, np.array([0, 0, -1.0]))), "as in the scan"


def test_a_range_too_near_to_measure_is_an_obstacle_at_the_sensor():
    ahead = RangeMeasurement(-math.inf, 0.2, 8.0, se3.make([0.3, 0.0, 0.0], [0, 0, 0, 1]))
    seen = summarize_obstacles(None, None, 10.0, [ahead], FORWARD, CHOSEN)
    assert seen.nearest.distance_m == pytest.approx(0.3)
    assert (seen.ahead_m, seen.time_to_collision_s) == (0.0, 0.0)
    inside = summarize_obstacles(None, None, 10.0, [RangeMeasurement(0.0, 0.2, 8.0, np.eye(4))], FORWARD, CHOSEN)
    assert inside.nearest.distance_m == 0.0
    nothing = summarize_obstacles(None, None, 10.0, [RangeMeasurement(math.inf, 0.2, 8.0, np.eye(4))], FORWARD, CHOSEN)
    assert np.isnan([nothing.ahead_m, nothing.nearest.distance_m]).all()


def test_unknown_rays_beside_what_ends_the_way():
    def room(distance_m: float, share: float) -> float:
        depth = wall(PREDICTING, distance_m)
        depth[18, 24] = np.nan
        sight = view_of(depth, PREDICTING, se3.T_BODY_OPTICAL)
        return free_distance_along(sight, np.array([1.0, 0.0, 0.0]), 0.5, 3.0, 30.0, share)

    assert math.isnan(room(20.0, 0.0))
    assert room(20.0, 0.2) == pytest.approx(19.5, abs=0.5)
    assert math.isnan(room(50.0, 0.2)), "nothing known within the range: the unknown is not free"
    assert math.isnan(room(50.0, 1.0))


def test_where_a_lens_has_no_rays_nothing_is_free():
    """A wide lens folds its corners: a way that lies there is in the image, and no ray tells anything of it."""
    lens = Camera(23, 17, 19.76, 19.76, 11.0, 8.0, "plumb_bob", (-0.414671, 0.013269, 0.0, 0.0, 0.0))
    sight = view_of(np.full((17, 23), 50.0, np.float32), lens, se3.T_BODY_OPTICAL)
    corner = se3.T_BODY_OPTICAL[:3, :3] @ [-0.65557094, 0.5867644, 1.0]
    assert sight.sees(10.0 * corner), "or it says nothing about this"
    assert math.isnan(free_distance_along(sight, corner, 0.1, 10.0, 30.0))
    assert free_distance_along(sight, np.array([1.0, 0.0, 0.0]), 0.1, 10.0, 30.0) == 30.0


@FEW
@given(st.lists(distances, min_size=72, max_size=72))
def test_bins_of_autopilots(values):
    """By the definitions alone: element i looks 5 i degrees to the right; bins take their neighbours in."""
    scan = np.array(values, np.float32)
    counts, ranges = obstacle_distances_cm(scan, 20.0), mavros_ranges(scan, 20.0)
    for i in range(72):
        left = 36 - i  # index of the same bearing in a scan that begins behind and goes left
        about = scan[[(left + k) % 72 for k in (-1, 0, 1)]]
        if np.isnan(about).any():
            assert counts[i] == 65535
            assert np.isnan(ranges[i])
        elif about.min() > 20.0:
            assert counts[i] == 2001
            assert int(ranges[i] * 100) == 2001, "as the plugin of MAVROS converts it"
        else:
            assert counts[i] == np.floor(about.min() * np.float32(100)), "in float32, whatever NumPy makes of a scalar"
            assert ranges[i] == about.min()


def test_a_finer_scan_is_pooled_around_the_same_bearings():
    scan = np.full(360, 9.0, np.float32)
    scan[180 + 2], scan[180 + 3] = 5.0, 6.0  # 2 degrees belong to straight ahead, 3 to the next bin
    assert pooled(scan)[[35, 36, 37]].tolist() == [9.0, 5.0, 6.0]
    scan[180 - 2] = np.nan
    assert np.isnan(pooled(scan)[36])
    with pytest.raises(UserError, match="odd multiple"):
        pooled(np.zeros(144, np.float32))


def test_clouds():
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 9, (36, 48)).astype(np.float32)
    depth[3:9, 4:12], depth[0, 0] = np.nan, np.inf
    assert np.isnan(organised_cloud(np.minimum(depth, 1e6), PREDICTING)[0, 0]).all(), "as DepthView keeps infinity"
    T = se3.make([1.0, 2.0, 3.0], [0.1, 0.2, 0.3, 0.9])
    points = organised_cloud(depth, PREDICTING, T)
    expected = se3.transform_points(T, (PREDICTING.rays() * depth[..., None]).reshape(-1, 3)).reshape(36, 48, 3)
    expected[0, 0] = np.nan
    np.testing.assert_allclose(points, expected, atol=1e-4)
    few = organised_cloud(depth, PREDICTING, every=5)
    assert few.shape[:2] == cloud_shape(PREDICTING, 5) == (8, 10)
    block = depth[10:15, 20:25]
    assert few[2, 4, 2] == block.min()
    assert few[0, 0, 2] == np.nanmin(np.where(np.isfinite(depth[:5, :5]), depth[:5, :5], np.nan))
    colours = colours_of(np.array([[[1, 2, 3]]], np.uint8))
    assert colours.view(np.uint32)[0, 0] == 0x010203


def test_time_to_collision_and_misfits():
    assert time_to_collision_s(10.0, 4.0) == 2.5
    assert time_to_collision_s(10.0, 0.0) == math.inf
    assert math.isnan(time_to_collision_s(math.nan, 4.0))
    assert math.isnan(time_to_collision_s(10.0, math.nan))
    with pytest.raises(UserError, match="belong together"):
        view_of(wall(LIVING, 3.0), PREDICTING, np.eye(4))
    assert np.isnan(nearer(np.array([np.nan]), np.array([np.nan]), 1.0, 2.0)).all()
