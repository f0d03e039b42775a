"""The city's triangles, textures and light: valid, closed where it matters, the same for the same seed."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import SEASONS, CityConfig, light
from pose2rgbd_ros.sim.city.ground import SNOW
from pose2rgbd_ros.sim.city.layout import make_layout
from pose2rgbd_ros.sim.scene import Mesh, merge

SMALL = 240.0


@pytest.fixture(scope="module")
def city() -> City:
    return City(CityConfig(seed=5, extent_m=SMALL))


def fingerprint(*meshes: Mesh) -> str:
    digest = hashlib.sha256()
    for mesh in meshes:
        for array in (mesh.position_m, mesh.normal, mesh.uv, mesh.layer, mesh.tint, mesh.triangles):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def whole(city: City) -> str:
    scene = city.scene
    pictures = hashlib.sha256(scene.ground_rgb.tobytes() + scene.textures_rgb.tobytes()).hexdigest()
    return fingerprint(*scene.chunks, scene.ground) + pictures


def walls(city: City) -> np.ndarray:
    """Corners of all faces that belong to buildings, in order: the ones that season and movers must not touch."""
    built = city._built
    return np.concatenate([built.rects.ravel(), built.floor_m, built.eaves_m, built.top_m])


def test_a_seed_gives_the_same_city_and_another_seed_another(city):
    busy = City(CityConfig(seed=5, extent_m=SMALL, cars=5, people=9))
    assert whole(busy) == whole(city), "movers must leave the static world alone"
    assert [mover.kind for mover in busy.scene.movers] == ["car"] * 5 + ["person"] * 9
    assert whole(City(CityConfig(seed=6, extent_m=SMALL))) != whole(city)


@pytest.fixture(scope="module")
def winter() -> City:
    return City(CityConfig(seed=5, extent_m=SMALL, season="winter", cars=5, people=9))


@pytest.mark.parametrize("which", ["city", "winter"])
def test_meshes_are_valid(which, request):
    scene = request.getfixturevalue(which).scene
    for mesh in (*scene.chunks, scene.ground, *(mover.mesh for mover in scene.movers)):
        for array in (mesh.position_m, mesh.normal, mesh.uv):
            assert array.dtype == np.float32
            assert np.isfinite(array).all()
        assert mesh.triangles.dtype == np.uint32
        assert mesh.triangles.max() < len(mesh.position_m)
        assert mesh.layer.max() < len(scene.textures_rgb)
        corners = mesh.position_m.astype(float)[mesh.triangles]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(cross, axis=-1)
        assert area.min() > 1e-6, "a collapsed triangle"
        assert np.allclose(np.linalg.norm(mesh.normal, axis=-1), 1, atol=1e-4)
        facing = np.einsum("tij,tj->ti", mesh.normal[mesh.triangles], cross / area[:, None])
        assert facing.min() > 0, "a normal looks into its surface"


def test_a_scene_keeps_to_its_budget():
    scene = City().scene
    assert scene.textures_rgb.shape[1:] == (256, 256, 3)
    assert len(scene.textures_rgb) <= 48
    assert (scene.textures_rgb[0] == 255).all()
    assert sum(len(mesh.triangles) for mesh in (*scene.chunks, scene.ground)) < 90_000
    inner = [mesh.bounds_m() for mesh in scene.chunks if np.abs(mesh.position_m[:, :2]).max() < 200]
    assert len(inner) > 20
    assert max(np.ptp([low[:2], high[:2]], axis=0).max() for low, high in inner) < 120


def test_the_season_changes_pictures_and_not_the_buildings(city, winter):
    assert np.array_equal(walls(winter), walls(city))
    assert winter.scene.ground_rgb.mean() > city.scene.ground_rgb.mean() + 20
    ground, other = winter.scene.ground, city.scene.ground
    assert np.array_equal(ground.position_m, other.position_m)


def test_the_ground_has_no_holes_and_no_gaps(city):
    """Seen from above, each edge of land, road, pavement and field but for the rim of the world has a neighbour."""
    faces = merge([*city.scene.chunks, city.scene.ground])
    n = city._ground.kind.shape
    xy = city._ground.xy_m
    area = 0.0
    diagonal1, diagonal2 = xy[1:, 1:] - xy[:-1, :-1], xy[:-1, 1:] - xy[1:, :-1]
    area = 0.5 * (diagonal1[..., 0] * diagonal2[..., 1] - diagonal1[..., 1] * diagonal2[..., 0])
    assert area.min() > 0, "the plan folds over"
    # All four corners of every cell are vertices of the mesh at the cell's own height.
    low = np.stack([xy[:-1, :-1, 0], xy[:-1, :-1, 1], city._ground.z_m[:-1, :-1] + city._ground.lift_m], axis=-1)
    have = {tuple(row) for row in np.round(faces.position_m.astype(float), 2).tolist()}
    want = {tuple(row) for row in np.round(low.reshape(-1, 3).astype(np.float32).astype(float), 2).tolist()}
    assert len(want - have) == 0
    assert n[0] > 40


def test_the_sun_stands_where_it_was_asked_for():
    east = light(CityConfig(sun_azimuth_deg=90.0, sun_elevation_deg=30.0))
    assert np.allclose(east.sun_direction, [np.cos(np.pi / 6), 0, 0.5], atol=1e-9)
    high = light(CityConfig(sun_elevation_deg=80.0))
    assert east.sun_rgb[2] / east.sun_rgb[0] < high.sun_rgb[2] / high.sun_rgb[0], "a low sun is redder"


@pytest.mark.parametrize("season", SEASONS)
@pytest.mark.parametrize("elevation_deg", [3.0, 30.0, 90.0])
def test_light_is_no_brighter_than_white(season, elevation_deg):
    day = light(CityConfig(season=season, sun_elevation_deg=elevation_deg))
    assert all(0 <= value <= 1 for value in (*day.haze_rgb, *day.sky_rgb, *day.ground_rgb))
    assert all(0 <= value <= 1.7 for value in day.sun_rgb)


def test_snow_in_the_sun_is_not_blown_out():
    day = light(CityConfig(season="winter"))
    lit = day.sun_direction[2] * np.array(day.sun_rgb) + day.sky_rgb
    assert (lit * (np.array(SNOW) / 255) ** 2.2 < 1.0).all()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("extent_m", 60.0),
        ("extent_m", float("nan")),
        ("max_height_m", 3.0),
        ("season", "monsoon"),
        ("sun_elevation_deg", -5.0),
        ("cars", -1),
        ("seed", -1),
        ("haze_per_m", 1.0),
    ],
)
def test_absurd_settings_are_refused(setting, value):
    with pytest.raises(UserError, match=setting):
        City(CityConfig(**{setting: value}))


@pytest.mark.parametrize("what", ["cars", "people"])
def test_more_movers_than_the_streets_hold_are_refused(what):
    with pytest.raises(UserError, match=rf"{what} is 1999; the streets of this city hold \d+"):
        City(CityConfig(extent_m=200.0, **{what: 1999}))


@hypothesis_settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(200.0, 1200.0))
def test_the_bent_plan_has_an_inverse(seed, extent_m):
    warp = make_layout(CityConfig(seed=seed, extent_m=extent_m)).warp
    side = np.linspace(-3 * extent_m, 3 * extent_m, 25)
    plan = np.stack(np.meshgrid(side, side), axis=-1)
    assert np.abs(warp.to_plan(warp.to_map(plan)) - plan).max() < 1e-3
