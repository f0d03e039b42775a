"""Movers: their masks, and the world without them, bit for bit the same wherever nothing is labelled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.boxes import NOON, box, plain_scene
from support.meshcast import MeshCaster

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.gl.renderer import MOVER, SHADOW, STATIC, SceneRenderer, View
from pose2rgbd_ros.sim.scene import Mover

CAMERA = Camera(96, 80, fx=80.0, fy=84.0, cx=45.0, cy=41.0)


@pytest.fixture(scope="module")
def city() -> City:
    return City(CityConfig(extent_m=200.0, cars=12, people=12))


def differs(one: View, other: View) -> np.ndarray:
    depth = (one.depth_m.view(np.uint32) != other.depth_m.view(np.uint32)) & ~(
        np.isnan(one.depth_m) & np.isnan(other.depth_m)
    )
    return depth | (one.rgb != other.rgb).any(axis=-1)


@pytest.mark.parametrize("supersample", [1, 2])
def test_unlabelled_pixels_are_those_of_the_world_without_movers(city: City, supersample: int) -> None:
    rng = np.random.default_rng(5)
    seen = np.zeros(3, int)
    with SceneRenderer(city.scene, CAMERA, supersample) as renderer:
        for frame in range(12):
            t_s = rng.uniform(0, 200)
            mover = city.scene.movers[frame % len(city.scene.movers)]
            target = mover.T_map_mover(np.array([t_s]))[0, :3, 3]
            pose = se3.look_at(target + rng.uniform([-12, -12, 3], [12, 12, 30]), target)
            view, twin = renderer.render(pose, t_s), renderer.render(pose, t_s, movers=False)
            assert not twin.labels.any()
            assert not differs(view, twin)[view.labels == STATIC].any()
            seen += np.bincount(view.labels.ravel(), minlength=3)
    assert (seen > 100).all()


def test_the_mask_is_where_the_first_hit_is_a_mover(city: City) -> None:
    t_s = 7.0
    target = city.scene.movers[0].T_map_mover(np.array([t_s]))[0, :3, 3]
    pose = se3.look_at(target + np.array([6, 7, 12]), target)
    caster = MeshCaster(city.scene, t_s)
    cast = caster.cast(pose, CAMERA)
    truth = (cast.triangle >= 0) & caster.mover[cast.triangle]
    with SceneRenderer(city.scene, CAMERA) as renderer:
        view = renderer.render(pose, t_s)
    assert truth.sum() > 100
    assert ((view.labels == MOVER) != truth).sum() <= 2
    smooth = caster.is_smooth(cast, pose, CAMERA)
    assert np.abs(view.depth_m - cast.depth_m)[smooth & truth].max() < 0.005


def test_a_mover_shades_the_ground_where_the_rays_say() -> None:
    sun = (0.6, 0.0, 0.8)

    def drive(t_s: np.ndarray) -> np.ndarray:
        return np.stack([se3.make([2 * t, 3.0, 0.0], [0, 0, np.sin(0.3), np.cos(0.3)]) for t in t_s])

    car = Mover("car", box([-2, -1, 0.0], [2, 1, 2.5]), drive)
    scene = plain_scene([box([-20, -20, 0], [-15, -15, 8])], replace(NOON, sun_direction=sun), [car])
    pose = se3.look_at([3, -3, 14], [3, 3, 0])
    caster = MeshCaster(scene, 2.0)
    cast = caster.cast(pose, CAMERA)
    points = se3.transform_points(pose, CAMERA.rays() * cast.depth_m[..., None])
    on_ground = (cast.triangle >= 0) & caster.ground[cast.triangle]
    truth = np.zeros(on_ground.shape, bool)
    truth[on_ground] = caster.is_blocked(points[on_ground], np.array(sun))
    with SceneRenderer(scene, CAMERA) as renderer:
        labels = renderer.render(pose, 2.0).labels
        assert not renderer.render(pose, 40.0).labels.any()
    assert truth.sum() > 50
    assert ((labels == SHADOW) != truth).sum() < 0.15 * truth.sum()  # the filter widens the rim
    assert (labels[truth] == SHADOW).mean() > 0.97


def test_a_hidden_mover_is_not_seen() -> None:
    hidden = Mover("car", box([-1, -1, 0], [1, 1, 1]), lambda t: np.tile(np.eye(4), (len(t), 1, 1)))
    scene = plain_scene([box([-5, -5, 3], [5, 5, 4])], NOON, [hidden])
    with SceneRenderer(scene, CAMERA, 2) as renderer:
        view = renderer.render(se3.make([0, 0, 20], [1, 0, 0, 0]))
    assert not view.labels.any()


def test_arrays_are_the_callers_own(city: City) -> None:
    poses = [se3.look_at([0, -40, 30], [x, 0, 0]) for x in (0, 20)]
    with SceneRenderer(city.scene, CAMERA) as renderer:
        first = renderer.render(poses[0])
        kept = first.rgb.copy(), first.depth_m.copy(), first.labels.copy()
        renderer.render(poses[1])
    for array, before in zip((first.rgb, first.depth_m, first.labels), kept, strict=True):
        assert np.array_equal(array, before, equal_nan=array.dtype == np.float32)
        array[:] = 0
