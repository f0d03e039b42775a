"""Heights, streets and buildings of the city."""

from __future__ import annotations

import numpy as np
import pytest

from pose2rgbd_ros.sim.city.buildings import Built, make_plan
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.city.layout import LAND, Ground, Relief, make_layout
from pose2rgbd_ros.sim.city.shapes import corners, grown
from pose2rgbd_ros.sim.city.streets import streets
from pose2rgbd_ros.sim.scene import merge


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether rectangles (N, 4) and (M, 4) share area: (N, M)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    return (high > low).all(axis=-1)


@pytest.fixture(scope="module", params=[7, 11])
def city(request) -> City:
    return City(CityConfig(seed=request.param, extent_m=300.0))


def test_the_ground_height_is_that_of_the_triangles(city):
    """Against the land's own triangles, by barycentric coordinates in the map."""
    mesh = city.scene.ground
    triangles = mesh.position_m.astype(float)[mesh.triangles]
    weights = np.random.default_rng(1).dirichlet([1, 1, 1], len(triangles))
    points = np.einsum("ti,tij->tj", weights, triangles)
    assert np.abs(city.ground_height_m(points[:, :2]) - points[:, 2]).max() < 0.015


def test_nothing_static_reaches_above_the_surface_height(city):
    vertices = merge([*city.scene.chunks, city.scene.ground]).position_m.astype(float)
    above = vertices[:, 2] - city.surface_height_m(vertices[:, :2])
    assert above.max() <= 0.0
    faces = merge(city.scene.chunks)
    middle = faces.position_m.astype(float)[faces.triangles].mean(axis=1)
    assert (middle[:, 2] - city.surface_height_m(middle[:, :2])).max() <= 0.02


def test_the_surface_is_free_above_most_of_the_streets(city):
    """The bound is tight enough to fly between the buildings."""
    free = []
    for street in city.streets:
        gap = city.surface_height_m(street.points_m[:, :2]) - street.points_m[:, 2]
        free.append(gap < 1.0)
    assert np.concatenate(free).mean() > 0.9


def test_relief_is_as_high_as_asked_for():
    for relief in (0.0, 10.0):
        config = CityConfig(seed=3, relief_m=relief)
        height = Relief(config).height_m(np.random.default_rng(0).uniform(-210, 210, (4000, 2)))
        assert np.ptp(height) <= 1.25 * relief + 0.2
        assert np.ptp(height) >= 0.6 * relief


@pytest.mark.parametrize("seed", range(12))  # 11 closes two blocks of one street in a row
def test_every_street_leads_from_crossing_to_crossing(seed):
    config = CityConfig(seed=seed)
    layout = make_layout(config)
    for street in streets(layout, Ground(layout, Relief(config))):
        steps_m = np.linalg.norm(np.diff(street.points_m, axis=0), axis=1)
        assert steps_m.min() > 3.0
        assert steps_m.sum() > 30.0


def test_buildings_keep_off_the_streets_and_off_each_other(city):
    built = city._built
    layout = city._ground.layout
    for rect, name in zip(built.rects, built.column("facade"), strict=True):
        inside_a_block = any(
            rect[0] >= block.low[0]
            and rect[1] >= block.low[1]
            and rect[2] <= block.high[0]
            and rect[3] <= block.high[1]
            for block in layout.blocks
        )
        assert inside_a_block, f"a building with {name} at {rect} leaves its block"
    ground = np.flatnonzero(built.column("on_m") == 0)
    # Neighbours in a row share a wall of some centimetres, the church its tower; nothing else may touch.
    rects = grown(built.rects[ground], -0.5)
    touching = overlap(rects, rects)
    np.fill_diagonal(touching, False)
    assert touching.sum() <= 0


def test_cells_below_buildings_are_land(city):
    ground = city._ground
    spots = corners(city._built.rects).mean(axis=1)
    i = np.searchsorted(ground.layout.x.lines, spots[:, 0]) - 1
    j = np.searchsorted(ground.layout.y.lines, spots[:, 1]) - 1
    assert (ground.kind[i, j] == LAND).all()


def test_foundations_reach_below_the_ground_and_roofs_stay_below_the_limit(city):
    built = city._built
    edges = city._ground.plan_height_m(corners(built.rects))
    assert (built.foot_m[:, None] < edges - 0.3).all()
    assert (built.floor_m[:, None] > edges).all()
    lowest = edges.min(axis=1)
    assert (built.top_m - lowest).max() < city.config.max_height_m + 3.0


@pytest.mark.parametrize("max_height_m", [14.0, 60.0])
def test_the_tallest_roof_obeys_the_setting(max_height_m):
    config = CityConfig(seed=2, max_height_m=max_height_m)
    layout = make_layout(config)
    built = Built(make_plan(config, layout).buildings, Ground(layout, Relief(config)))
    tallest = (built.top_m - built.floor_m).max()
    assert 0.5 * max_height_m < tallest <= max_height_m


def test_neighbouring_roofs_never_lie_in_one_plane(city):
    """Flat faces over common ground are apart in height by 2 cm at least."""
    built = city._built
    touching = np.triu(overlap(built.rects, built.rects), 1)
    a, b = np.nonzero(touching)
    assert len(a) > 10
    assert np.abs(built.eaves_m[a] - built.eaves_m[b]).min() > 0.02
    flat = (built.roof[a] == "flat") & (built.roof[b] == "flat")
    assert (np.abs(built.top_m[a] - built.top_m[b])[flat] > 0.02).all()


def test_streets_are_wide_straight_enough_and_on_the_ground(city):
    assert len(city.streets) >= 4
    for street in city.streets:
        step = np.linalg.norm(np.diff(street.points_m, axis=0), axis=1)
        assert step.min() > 1.0
        assert step.max() < 8.0
        assert 9.0 < street.width_m < 18.5
        assert np.abs(city.ground_height_m(street.points_m[:, :2]) - street.points_m[:, 2]).max() < 1e-3


def test_the_world_goes_on_to_the_horizon(city):
    low, high = merge(city.scene.chunks).bounds_m()
    assert (low[:2] < -1500).all()
    assert (high[:2] > 1500).all()
