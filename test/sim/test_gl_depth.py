"""Depth of the OpenGL renderer against two ray casters that share no code with it."""

from __future__ import annotations

import numpy as np
import pytest
from support.blockworld import BlockWorld
from support.boxes import box, ground, plain_scene
from support.meshcast import MeshCaster

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer

CAMERA = Camera(64, 52, fx=56.0, fy=70.0, cx=25.3, cy=33.2)  # off centre, pixels not square
BOUND_M = 0.005  # the package promises 1 cm
NADIR = se3.make([4.0, 7.0, 60.0], [1.0, 0.0, 0.0, 0.0])
VIEWS = {
    "nadir": NADIR,
    "oblique": se3.look_at([-60, -80, 50], [0, 0, 5]),
    "horizon": se3.look_at([0, -90, 25], [0, 0, 10]),
    "street": se3.look_at([0, -60, 2], [0, 0, 4]),
    "rolled": se3.look_at([30, 10, 45], [0, 0, 0]) @ se3.make([0, 0, 0], [0, 0, np.sin(0.4), np.cos(0.4)]),
}


@pytest.fixture(scope="module")
def city() -> City:
    return City(CityConfig(extent_m=200.0))


@pytest.fixture(scope="module")
def caster(city: City) -> MeshCaster:
    return MeshCaster(city.scene)


@pytest.mark.parametrize("view", VIEWS)
def test_depth_of_the_city_is_that_of_the_rays(city: City, caster: MeshCaster, view: str) -> None:
    pose = VIEWS[view]
    truth = caster.cast(pose, CAMERA)
    smooth = caster.is_smooth(truth, pose, CAMERA)
    assert smooth.mean() > 0.05
    for supersample in (1, 2):
        with SceneRenderer(city.scene, CAMERA, supersample) as renderer:
            depth_m = renderer.render(pose).depth_m
        assert np.abs(depth_m - truth.depth_m)[smooth].max() < BOUND_M
        assert _agrees_to_a_pixel(depth_m, truth.depth_m).mean() > 0.998


def test_depth_of_blocks_is_that_of_the_block_world() -> None:
    world = BlockWorld(seed=3)
    chunks = [box(low, high) for low, high in zip(world.box_min_m, world.box_max_m, strict=True)]
    scene = plain_scene(chunks, ground=ground(6000.0, cells=400))
    for pose in (se3.look_at([-25, 3, 18], [0, 0, 0]), se3.make([1, 2, 40], [1, 0, 0, 0])):
        truth = world.render(pose, CAMERA)[1]
        with SceneRenderer(scene, CAMERA) as renderer:
            depth_m = renderer.render(pose).depth_m
        step = np.abs(
            np.diff(np.diff(1 / truth.astype(float), axis=0, prepend=0, append=0), axis=1, prepend=0, append=0)
        )
        edge = step[:-1, :-1] + step[1:, 1:] + step[:-1, 1:] + step[1:, :-1] > 1e-6
        flat = ~edge & np.isfinite(truth)
        assert flat[1:-1, 1:-1].mean() > 0.3
        assert np.abs(depth_m - truth)[1:-1, 1:-1][flat[1:-1, 1:-1]].max() < BOUND_M


def test_depth_of_a_plane_is_flat_and_sky_is_unknown() -> None:
    with SceneRenderer(plain_scene(), CAMERA) as renderer:
        below = renderer.render(se3.make([0, 0, 30], [1, 0, 0, 0])).depth_m
        above = renderer.render(se3.look_at([0, 0, 5], [0, 10, 30]))
    assert np.abs(below - 30).max() < 1e-4
    assert np.isnan(above.depth_m).all()
    assert (above.rgb[..., 2] >= above.rgb[..., 0]).all()


def _agrees_to_a_pixel(depth_m: np.ndarray, truth_m: np.ndarray) -> np.ndarray:
    """Whether each pixel's depth, or the lack of it, is within the range of the truth's 3x3 neighbours; (H-2, W-2)."""
    height, width = truth_m.shape
    around = np.stack([truth_m[r : r + height - 2, c : c + width - 2] for r in range(3) for c in range(3)])
    sky = np.isnan(around)
    low = np.where(sky, np.inf, around).min(axis=0)
    high = np.where(sky, -np.inf, around).max(axis=0)
    inner = depth_m[1:-1, 1:-1]
    return np.where(np.isnan(inner), sky.any(axis=0), (inner >= low - 0.01) & (inner <= high + 0.01))
