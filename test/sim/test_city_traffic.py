"""Cars and people: on the ground, in their lanes, smooth, and never through one another."""

from __future__ import annotations

import numpy as np
import pytest

from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.city.layout import PAVEMENT, ROADWAY

CONFIG = CityConfig(seed=4, extent_m=300.0, cars=20, people=30)


@pytest.fixture(scope="module")
def city() -> City:
    return City(CONFIG)


def tracks(city: City, kind: str, t_s: np.ndarray) -> np.ndarray:
    """Poses (M, N, 4, 4) of the movers of a kind."""
    return np.stack([mover.T_map_mover(t_s) for mover in city.scene.movers if mover.kind == kind])


def kinds_below(city: City, xy_m: np.ndarray) -> np.ndarray:
    ground = city._ground
    plan = ground.layout.warp.to_plan(xy_m)
    i = np.searchsorted(ground.layout.x.lines, plan[..., 0]) - 1
    j = np.searchsorted(ground.layout.y.lines, plan[..., 1]) - 1
    return ground.kind[i, j]


@pytest.mark.parametrize(("kind", "below"), [("car", ROADWAY), ("person", PAVEMENT)])
def test_movers_stay_on_their_ground(city, kind, below):
    T = tracks(city, kind, np.linspace(-20, 200, 400))
    xy = T[..., :2, 3]
    # People cut the corner of the pavement by a step at most.
    assert (kinds_below(city, xy) == below).mean() > (0.999 if kind == "car" else 0.98)
    off = T[..., 2, 3] - city.ground_height_m(xy.reshape(-1, 2)).reshape(xy.shape[:-1])
    assert np.abs(off).max() < (0.05 if kind == "car" else 0.15)
    assert np.abs(np.median(off)) < 0.01


@pytest.mark.parametrize(("kind", "fastest", "hardest"), [("car", 11.0, 9.0), ("person", 1.6, 4.0)])
def test_movers_move_smoothly(city, kind, fastest, hardest):
    t_s = np.arange(0, 60, 0.05)
    T = tracks(city, kind, t_s)
    velocity = np.diff(T[..., :3, 3], axis=1) / 0.05
    speed = np.linalg.norm(velocity, axis=-1)
    assert speed.max() < fastest
    assert speed.min() > 0.5
    acceleration = np.linalg.norm(np.diff(velocity, axis=1), axis=-1) / 0.05
    assert acceleration.max() < hardest
    forward = T[:, :-1, :3, 0]
    heading = np.einsum("mni,mni->mn", forward, velocity) / speed
    assert heading.min() > 0.98, "they look where they go"


def test_poses_are_rigid_and_upright(city):
    for kind in ("car", "person"):
        R = tracks(city, kind, np.linspace(0, 90, 50))[..., :3, :3]
        assert np.allclose(R @ np.swapaxes(R, -1, -2), np.eye(3), atol=1e-9)
        assert (np.linalg.det(R) > 0).all()
        assert R[..., 2, 2].min() > 0.95


def test_cars_keep_right_and_never_meet(city):
    T = tracks(city, "car", np.arange(0, 60, 0.25))
    position = T[..., :3, 3]
    gap = np.linalg.norm(position[:, None] - position[None], axis=-1)
    gap[np.arange(len(gap)), np.arange(len(gap))] = np.inf
    # Cars that meet head-on pass a lane apart; cars that follow one another keep a car's length.
    assert gap.min() > 2.3
    ahead = T[:, None, :, :3, 0] @ np.ones(3)
    assert np.isfinite(ahead).all()
    same_way = np.einsum("ani,bni->abn", T[..., :3, 0], T[..., :3, 0]) > 0.9
    assert gap[same_way].min() > 5.0


def test_the_same_seed_moves_the_same_way_at_any_time(city):
    t_s = np.array([-1e4, -3.3, 0.0, 7.1, 1e6])
    again = City(CONFIG)
    for mover, other in zip(city.scene.movers, again.scene.movers, strict=True):
        T = mover.T_map_mover(t_s)
        assert T.shape == (5, 4, 4)
        assert np.isfinite(T).all()
        assert np.array_equal(T, other.T_map_mover(t_s))
        assert np.allclose(mover.T_map_mover(t_s[3:4])[0], T[3])


def test_more_of_one_kind_leave_the_other_kind_alone(city):
    t_s = np.linspace(0, 5, 3)
    fewer = City(CityConfig(seed=4, extent_m=300.0, cars=20, people=3))
    for a, b in zip(fewer.scene.movers[:20], city.scene.movers[:20], strict=True):
        assert np.array_equal(a.T_map_mover(t_s), b.T_map_mover(t_s))


def test_wheels_and_soles_touch_the_ground(city):
    for mover in city.scene.movers:
        low, high = mover.mesh.bounds_m()
        assert -0.1 <= low[2] <= 0.0
        assert 1.2 < high[2] < 2.3


def test_poses_of_all_movers_at_once_are_those_of_each(city):
    for t_s in (-3.7, 0.0, 41.3, 1e4):
        each = np.stack([mover.T_map_mover(np.array([t_s]))[0] for mover in city.scene.movers])
        assert np.array_equal(city.scene.T_map_movers(t_s), each)
