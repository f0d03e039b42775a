"""Scans and rooms against brute force: rays sampled step by step, block worlds of exact depth, cameras at any angle."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.blockworld import BlockWorld

from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.obstacles.clearance import DOWN, free_distance_along, height_above_ground, nearest_obstacle
from pose2rgbd_ros.obstacles.surroundings import ScanSettings, bearings, laser_scan
from pose2rgbd_ros.obstacles.view import DepthView, level, view_of

FEW = settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
PLAIN = Camera.from_fov(40, 30, 90.0)
LENS = Camera(40, 30, 22.0, 22.0, 19.5, 14.5, "plumb_bob", (-0.2, 0.03, 0.001, -0.001))
angles = st.floats(-0.6, 0.6)
cameras = st.sampled_from([PLAIN, LENS])
seeds = st.integers(0, 2**31)


def random_sight(
    seed: int, camera: Camera, tilt: tuple[float, float], offset_m: float = 0.3, nearest_m: float = 0.5
) -> DepthView:
    """Random depths, a third of them unknown in patches, of a tilted camera off the body's origin."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(nearest_m, 40.0, (camera.height, camera.width)).astype(np.float32)
    patches = np.kron(rng.random((6, 8)), np.ones((5, 5)))[: camera.height, : camera.width]
    depth[patches < 0.33] = np.nan
    quat = quaternions.from_euler_rpy([tilt[0], tilt[1], rng.uniform(-0.5, 0.5)])
    mount = se3.compose(se3.make(rng.uniform(-offset_m, offset_m, 3), quat), se3.T_BODY_OPTICAL)
    return view_of(depth, camera, mount)


def samples(sight: DepthView, most_m: float = 60.0) -> tuple[np.ndarray, np.ndarray]:
    """Points (S, N, 3) along each known ray from its lower bound on, and which rays (N,) those are."""
    rays = sight.rays.reshape(-1, 3).astype(float)
    lower = sight.lower_m.ravel().astype(float)
    known = np.flatnonzero(np.isfinite(lower) & np.isfinite(rays[:, 0]))
    depth = lower[known] + np.linspace(0, 1, 200)[:, None] ** 2 * most_m
    return sight.origin_m + depth[..., None] * rays[known], known


@FEW
@given(seed=seeds, camera=cameras, roll=angles, pitch=angles)
def test_no_obstacle_is_nearer_than_its_bin_says(seed, camera, roll, pitch):
    sight = random_sight(seed, camera, (roll, pitch))
    chosen = ScanSettings(above_m=1.0, below_m=0.7)
    ranges = laser_scan(sight, chosen)
    points, _ = samples(sight)
    inside = (points[..., 2] <= chosen.above_m) & (points[..., 2] >= -chosen.below_m)
    flat = np.hypot(points[..., 0], points[..., 1])
    inside &= flat <= chosen.range_max_m
    bins = np.rint((np.arctan2(points[..., 1], points[..., 0]) + np.pi) * chosen.bins / (2 * np.pi))
    said = ranges[bins.astype(int) % chosen.bins]
    assert not (inside & (said > flat + 1e-3)).any(), "NaN compares false: it says nothing"


@FEW
@given(seed=seeds, camera=cameras, roll=angles, pitch=angles)
def test_a_range_is_that_of_some_ray(seed, camera, roll, pitch):
    sight = random_sight(seed, camera, (roll, pitch), offset_m=0.0)
    chosen = ScanSettings(unknown_share=1.0)
    ranges = laser_scan(sight, chosen)
    points = sight.rays * sight.lower_m[..., None]
    thick_m = np.maximum(sight.lower_m, 0) * sight.half_pixel(np.array([0.0, 0.0, 1.0]))
    in_slice = np.abs(points[..., 2]) <= 0.5 + thick_m
    flat = np.hypot(points[..., 0], points[..., 1])[in_slice]
    for said in ranges[np.isfinite(ranges)]:
        assert np.abs(flat - said).min() < 1e-3


@FEW
@given(seed=seeds, camera=cameras, roll=angles, pitch=angles, picked=seeds)
def test_knowing_less_never_makes_anything_freer(seed, camera, roll, pitch, picked):
    before = random_sight(seed, camera, (roll, pitch), nearest_m=12.0)  # nearer than near_m is another matter
    lower = before.lower_m.copy()
    rng = np.random.default_rng(picked)
    lower[rng.random(lower.shape) < rng.choice([0.001, 0.05, 0.5])] = np.nan
    after = view_of(lower, camera, before.T_body_cam)
    chosen = ScanSettings()
    assert not freer(laser_scan(before, chosen), laser_scan(after, chosen)).any()
    direction = rng.normal(size=3)
    for room in (
        lambda sight: free_distance_along(sight, direction, 0.5, 3.0, 30.0),
        lambda sight: height_above_ground(sight, 0.5, 3.0, 30.0),
    ):
        assert not freer(np.array(room(before)), np.array(room(after)))


def freer(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where something unknown became known, or a range longer."""
    with np.errstate(invalid="ignore"):
        return (np.isnan(before) & ~np.isnan(after)) | (after > before)


@FEW
@given(seed=seeds, camera=cameras, roll=angles, pitch=angles)
def test_unknown_rays_in_the_slice_leave_no_bin_of_theirs_known(seed, camera, roll, pitch):
    sight = random_sight(seed, camera, (roll, pitch))
    chosen = ScanSettings()
    ranges = laser_scan(sight, chosen)
    rays = sight.rays.reshape(-1, 3)[np.isnan(sight.lower_m.ravel())].astype(float)
    for at_m in np.linspace(chosen.near_m, chosen.range_max_m, 12):
        points = sight.origin_m + rays * (at_m / np.hypot(rays[:, 0], rays[:, 1]))[:, None]
        inside = np.abs(points[:, 2]) <= 0.5
        bins = np.rint((np.arctan2(points[inside, 1], points[inside, 0]) + np.pi) * 180 / np.pi) % 360
        assert np.isnan(ranges[bins.astype(int)]).all()


@FEW
@given(seed=seeds, camera=cameras, roll=angles, pitch=angles)
def test_the_ball_touches_nothing_on_its_way(seed, camera, roll, pitch):
    sight = random_sight(seed, camera, (roll, pitch))
    rng = np.random.default_rng(seed)
    # So near the middle that the tube is wholly in the image where it begins to count, else the answer is unknown.
    direction = sight.T_body_cam[:3, 2] + rng.uniform(-0.15, 0.15, size=3)
    direction /= np.linalg.norm(direction)
    radius_m = 1.0
    whole = view_of(np.where(np.isnan(sight.lower_m), np.float32(12.0), sight.lower_m), camera, sight.T_body_cam)
    room_m = free_distance_along(whole, direction, radius_m, 3.0, 30.0)
    assert not math.isnan(room_m)
    points, _ = samples(whole)
    along = points @ direction
    across = np.linalg.norm(points - along[..., None] * direction, axis=-1)
    met = (across < radius_m) & (along > 0)
    touch = along[met] - np.sqrt(radius_m**2 - across[met] ** 2)
    true_m = min(max(touch.min(initial=30.0), 0.0), 30.0)
    assert room_m <= true_m + 1e-3
    assert room_m >= true_m - 2 * radius_m - 0.5, "a lower bound, but not an idle one"


def test_the_scan_equals_rays_cast_in_the_level_frame():
    """A tilted drone between blocks: each bin beside an oracle that casts level rays over the slice's height."""
    world, camera = BlockWorld(3), Camera.from_fov(160, 120, 90.0)
    T_map_body = se3.make([-19.9, -4.0, 4.0], quaternions.from_euler_rpy([0.12, 0.2, 0.3]))
    sight = view_of(
        world.render(T_map_body @ se3.T_BODY_OPTICAL, camera)[1], camera,
        _turned(level(T_map_body[:3, :3])) @ se3.T_BODY_OPTICAL,
    )  # fmt: skip
    chosen = ScanSettings(range_max_m=25.0, unknown_share=1.0, above_m=0.2, below_m=0.2)
    ranges = laser_scan(sight, chosen)
    yaw = quaternions.to_euler_rpy(quaternions.from_matrix(T_map_body[:3, :3]))[2]
    compared = 0
    for index in np.flatnonzero(np.isfinite(ranges)):
        truth = _cast_level(world, T_map_body[:3, 3], bearings(360)[index] + yaw, 0.2)
        about = _cast_level(world, T_map_body[:3, 3], bearings(360)[index] + yaw, 0.2 + 0.35)  # as thick as pixels
        if np.ptp(truth) < 1.0:  # not at the edge of a block
            compared += 1
            tolerance_m = 0.02 * truth.min() + 0.1
            assert about.min() - tolerance_m <= ranges[index] <= truth.min() + tolerance_m
    assert compared > 30


def _cast_level(world: BlockWorld, position_m: np.ndarray, bearing: float, half_m: float) -> np.ndarray:
    """Ranges of level rays across a bin and its neighbours' edges, over the height of the slice."""
    found = []
    for off in np.radians([-1.0, -0.5, 0.0, 0.5, 1.0]):
        direction = np.array([math.cos(bearing + off), math.sin(bearing + off), 0.0])
        for height in np.linspace(-half_m, half_m, 7):
            origin = position_m + np.array([0.0, 0.0, height])
            with np.errstate(divide="ignore", invalid="ignore"):
                low, high = (world.box_min_m - origin) / direction, (world.box_max_m - origin) / direction
            enter = np.fmax.reduce(np.fmin(low, high)[:, :2], axis=1)
            leave = np.fmin.reduce(np.fmax(low, high)[:, :2], axis=1)
            at_height = (world.box_min_m[:, 2] <= origin[2]) & (world.box_max_m[:, 2] >= origin[2])
            met = (enter <= leave) & (enter > 0) & at_height
            found.append(enter[met].min(initial=99.0))
    return np.array(found)


def _turned(R: np.ndarray) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = R
    return T


def test_a_camera_that_looks_down_knows_nothing_ahead():
    looking_down = se3.look_at([0, 0, 0], [0, 0, -1])
    sight = view_of(np.full((30, 40), 20.0, np.float32), PLAIN, looking_down)
    assert np.isnan(laser_scan(sight, ScanSettings())).all()
    assert math.isnan(free_distance_along(sight, np.array([1.0, 0, 0]), 0.5, 5.0, 30.0))
    assert height_above_ground(sight, 0.5, 5.0, 30.0) == pytest.approx(20.0, abs=0.05)
    nearest = nearest_obstacle(sight)
    assert nearest.distance_m == pytest.approx(20.0, abs=0.02)
    np.testing.assert_allclose(nearest.direction, DOWN, atol=0.04)


def test_an_open_view_is_free_only_where_all_of_it_is_known():
    sky = view_of(np.full((30, 40), 500.0, np.float32), PLAIN, se3.T_BODY_OPTICAL)
    ranges = laser_scan(sight=sky, settings=ScanSettings())
    assert np.isposinf(ranges[140:221]).all(), "45 degrees to each side, less the edges"
    assert np.isnan(ranges[:134]).all()
    assert np.isnan(ranges[227:]).all()
    hole = sky.lower_m.copy()
    hole[15, 20] = np.nan
    ranges = laser_scan(view_of(hole, PLAIN, se3.T_BODY_OPTICAL), ScanSettings())
    assert np.isnan(ranges[178:180]).all()
    assert np.isposinf(ranges[190])


@pytest.mark.parametrize("pitch", [-np.pi / 2, np.pi / 2])
def test_a_body_on_its_tail_still_has_a_heading(pitch):
    R_map_body = quaternions.to_matrix(quaternions.from_euler_rpy([0.0, pitch, 0.0]))
    assert np.isfinite(level(R_map_body)).all()
    nearly = quaternions.to_matrix(quaternions.from_euler_rpy([0.0, pitch * 0.99, 0.0]))
    np.testing.assert_allclose(level(R_map_body), level(nearly), atol=0.05)
