"""Colours of the OpenGL renderer: plain ones as computed by hand, shadows as rays say, haze, averaging."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.boxes import NOON, box, ground, plain_scene
from support.meshcast import MeshCaster

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer
from pose2rgbd_ros.sim.scene import Light, Scene

CAMERA = Camera(64, 48, fx=50.0, fy=50.0, cx=31.5, cy=23.5)
DARK = Light((0.0, 0.0, 1.0), (1, 1, 1), (0, 0, 0), (0, 0, 0), (0, 0, 0), 0.0)
NADIR = se3.make([0, 0, 40], [1, 0, 0, 0])


def picture(scene: Scene, pose: np.ndarray, supersample: int = 1, camera: Camera = CAMERA) -> np.ndarray:
    with SceneRenderer(scene, camera, supersample) as renderer:
        return renderer.render(pose).rgb.astype(float)


def linear(srgb: np.ndarray) -> np.ndarray:
    srgb = np.asarray(srgb) / 255.0
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("supersample", [1, 2, 3])
def test_a_plain_colour_under_a_white_sun_is_itself(supersample: int) -> None:
    for tint in [(255, 255, 255), (200, 90, 30), (16, 5, 60)]:
        rgb = picture(plain_scene(light=DARK, ground=ground(tint=tint)), NADIR, supersample)
        assert np.abs(rgb - tint).max() <= 1


def test_texture_and_ground_colours_are_shown_as_srgb() -> None:
    textures = np.full((3, 16, 16, 3), 255, np.uint8)
    textures[2] = (40, 120, 220)
    parts = {"textures_rgb": textures, "ground_rgb": np.full((16, 16, 3), (90, 20, 150), np.uint8)}
    rgb = picture(plain_scene([box([-5, -5, 0], [5, 5, 4], layer=2)], DARK, **parts), NADIR)
    assert np.abs(rgb[24, 32] - (40, 120, 220)).max() <= 1
    assert np.abs(rgb[2, 2] - (90, 20, 150)).max() <= 1


def test_ground_row_zero_lies_at_v_zero() -> None:
    half = np.zeros((16, 16, 3), np.uint8)
    half[:8, :, 0] = half[:, 8:, 1] = 255  # red in the south, green in the east
    rgb = picture(plain_scene(light=DARK, ground_rgb=half, ground=ground(20.0)), se3.look_at([0, 0, 40], [0, 0, 0]))
    south_east, north_west = rgb[40, 45], rgb[8, 18]
    assert (south_east[:2] > 250).all()
    assert north_west.max() < 5


def test_walls_get_the_cosine_of_the_sun() -> None:
    sun = np.array([0.6, 0.0, 0.8])
    light = replace(DARK, sun_direction=tuple(sun))
    rgb = picture(plain_scene([box([-10, -10, 0], [0, 10, 30])], light), se3.look_at([40, 0, 10], [0, 0, 10]))
    assert np.abs(linear(rgb[24, 32]) - 0.6).max() < 0.01


def test_haze_grows_with_distance() -> None:
    light = replace(NOON, haze_per_m=0.01, haze_rgb=(0.0, 0.0, 1.0))
    red = plain_scene(light=light, ground=ground(300.0, (150, 0, 0), 30))
    column = picture(red, se3.look_at([0, -250, 5], [0, 0, 0]))[:, 32]
    below = column[28:]
    assert (np.diff(below[:, 0]) >= 0).all()
    assert (np.diff(below[:, 2]) <= 0).all()
    assert np.ptp(below[:, 0]) > 20


def test_shadows_fall_where_the_ray_to_the_sun_is_blocked() -> None:
    sun = np.array([0.5, -0.4, np.sqrt(1 - 0.41)])
    light = replace(DARK, sun_direction=tuple(sun))
    scene = plain_scene([box([-12, -3, 0], [-2, 8, 9]), box([8, -14, 0], [13, -6, 16])], light)
    shaded, lit, wrong = _compare_shadows(scene, MeshCaster(scene), se3.look_at([4, -12, 38], [0, 0, 0]), 0.5)
    assert min(shaded, lit) > 20
    assert wrong == 0


def test_shadows_of_the_city_fall_where_the_rays_say() -> None:
    scene = City(CityConfig(extent_m=200.0)).scene
    caster = MeshCaster(scene)
    # No light but the sun's, so that black is shadow.
    black = replace(scene.light, sky_rgb=(0, 0, 0), ground_rgb=(0, 0, 0), haze_per_m=0.0)
    shaded, lit, wrong = _compare_shadows(
        replace(scene, light=black), caster, se3.look_at([10, -50, 60], [0, 0, 0]), 0.4
    )
    assert min(shaded, lit) > 20
    assert wrong <= 0.01 * (shaded + lit)


def test_more_samples_come_closer_to_the_true_mean() -> None:
    rng = np.random.default_rng(1)
    chunks = [
        box([x, y, 0], [x + 3, y + 3, rng.uniform(2, 12)], rng.integers(30, 255, 3))
        for x in range(-20, 20, 5)
        for y in range(-20, 20, 5)
    ]
    scene, pose = (
        plain_scene(chunks, replace(NOON, sun_direction=(0.48, 0.36, 0.8))),
        se3.look_at([-30, -20, 30], [0, 0, 0]),
    )
    fine = CAMERA.resized(4 * CAMERA.width, 4 * CAMERA.height)
    truth = linear(picture(scene, pose, 4, fine)).reshape(48, 4, 64, 4, 3).mean(axis=(1, 3))
    one, two, four = (np.sqrt(((linear(picture(scene, pose, n)) - truth) ** 2).mean()) for n in (1, 2, 4))
    assert two < 0.7 * one
    assert four < 0.7 * two


def _compare_shadows(scene: Scene, caster: MeshCaster, pose: np.ndarray, apart_m: float) -> tuple[int, int, int]:
    """Points of the ground in shadow and in light by the rays, sure within `apart_m`, and those drawn otherwise."""
    sun = np.array(scene.light.sun_direction)
    camera = CAMERA.resized(120, 90)
    cast = caster.cast(pose, camera)
    with SceneRenderer(scene, camera) as renderer:
        dark = renderer.render(pose).rgb.max(axis=-1) < 8
    points = se3.transform_points(pose, camera.rays() * cast.depth_m[..., None])
    where = (cast.triangle >= 0) & caster.ground[cast.triangle] & caster.is_smooth(cast, pose, camera)
    where &= np.arange(where.size).reshape(where.shape) % 5 == 0  # rays are slow
    around = [(0.0, 0.0), (apart_m, 0.0), (-apart_m, 0.0), (0.0, apart_m), (0.0, -apart_m)]
    blocked = np.stack([caster.is_blocked(points[where] + [*shift, 0.0], sun) for shift in around])
    shaded, lit = blocked.all(axis=0), ~blocked.any(axis=0)
    wrong = (shaded & ~dark[where]) | (lit & dark[where])
    return int(shaded.sum()), int(lit.sum()), int(wrong.sum())
