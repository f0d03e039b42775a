"""The block world's pictures must agree with its own geometry."""

from __future__ import annotations

import numpy as np
import pytest
from support.blockworld import BlockWorld
from support.orbit_flight import OrbitFlight

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera

CAMERA = Camera(width=96, height=72, fx=80.0, fy=82.0, cx=47.0, cy=36.5)


@pytest.fixture(scope="module")
def world() -> BlockWorld:
    return BlockWorld(seed=3)


def _points_in_map(depth_m: np.ndarray, T_map_cam: np.ndarray, camera: Camera) -> np.ndarray:
    return se3.transform_points(T_map_cam, camera.rays() * depth_m[..., None])


def _distance_to_surfaces(points: np.ndarray, world: BlockWorld) -> np.ndarray:
    """Distance of map points (N, 3) to the nearest surface: the ground or the skin of a block."""
    nearest = np.abs(points[:, 2])
    for low, high in zip(world.box_min_m, world.box_max_m, strict=True):
        outside = np.linalg.norm(np.maximum(np.maximum(low - points, points - high), 0), axis=1)
        inside = np.minimum(points - low, high - points).min(axis=1)
        nearest = np.minimum(nearest, np.where(outside > 0, outside, np.abs(inside)))
    return nearest


@pytest.mark.parametrize("t_s", [0.0, 13.7, 61.0])
def test_every_depth_lies_on_a_surface(world: BlockWorld, t_s: float) -> None:
    T_map_cam = OrbitFlight().T_map_cam(np.array([t_s]))[0]
    _, depth_m = world.render(T_map_cam, CAMERA)
    known = np.isfinite(depth_m)
    assert known.mean() > 0.99
    points = _points_in_map(depth_m, T_map_cam, CAMERA)[known]
    assert _distance_to_surfaces(points, world).max() < 1e-4


def test_two_views_agree_where_both_see_the_same_point(world: BlockWorld) -> None:
    T_a, T_b = OrbitFlight().T_map_cam(np.array([20.0, 20.2]))
    _, depth_a = world.render(T_a, CAMERA)
    _, depth_b = world.render(T_b, CAMERA)
    in_b = se3.transform_points(se3.inverse(T_b), _points_in_map(depth_a, T_a, CAMERA).reshape(-1, 3))
    uv = np.rint(CAMERA.project(in_b)).astype(int)
    seen = (uv >= 0).all(1) & (uv[:, 0] < CAMERA.width) & (uv[:, 1] < CAMERA.height)
    error = np.abs(depth_b[uv[seen, 1], uv[seen, 0]] - in_b[seen, 2])
    assert np.nanmedian(error) < 0.1
    assert np.nanmean(error < 0.5) > 0.85  # the rest are edges and occlusions


def test_culled_and_whole_image_casting_agree(world: BlockWorld) -> None:
    """Blocks are tested only inside their projected bounds; a distorted camera turns that off."""
    T_map_cam = OrbitFlight().T_map_cam(np.array([5.0]))[0]
    everywhere = Camera(
        CAMERA.width, CAMERA.height, CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy, "plumb_bob", (0.0,) * 5
    )
    np.testing.assert_allclose(world.render(T_map_cam, CAMERA)[1], world.render(T_map_cam, everywhere)[1], atol=1e-4)


def test_sky_is_unknown_and_range_is_limited(world: BlockWorld) -> None:
    level = se3.look_at([-60.0, 0.0, 5.0], [0.0, 0.0, 5.0])
    rgb, depth_m = world.render(level, CAMERA, max_depth_m=50.0)
    assert np.isnan(depth_m[:20]).all()
    assert np.nanmax(depth_m) <= 50.0
    assert (rgb[0] == rgb[0, 0]).all()


def test_same_seed_same_picture_other_seed_another(world: BlockWorld) -> None:
    T_map_cam = OrbitFlight().T_map_cam(np.array([0.0]))[0]
    rgb, depth_m = world.render(T_map_cam, CAMERA, supersample=2)
    again, depth_again = BlockWorld(seed=3).render(T_map_cam, CAMERA, supersample=2)
    np.testing.assert_array_equal(rgb, again)
    np.testing.assert_array_equal(depth_m, depth_again)
    assert np.abs(rgb.astype(int) - BlockWorld(seed=4).render(T_map_cam, CAMERA)[0]).mean() > 5


def test_flight_is_smooth_and_looks_at_the_place() -> None:
    t_s = np.arange(0, 90, 0.02)
    T_map_cam = OrbitFlight(seed=1).T_map_cam(t_s)
    velocity = np.diff(T_map_cam[:, :3, 3], axis=0) / 0.02
    assert np.abs(np.diff(velocity, axis=0)).max() / 0.02 < 25  # m/s2: no jumps
    centre_in_cam = se3.transform_points(se3.inverse(T_map_cam), np.zeros((1, 3)))[:, 0]
    assert (centre_in_cam[:, 2] > 15).all()
    assert (np.abs(centre_in_cam[:, :2] / centre_in_cam[:, 2:]) < 0.25).all()
