"""Held-out lines: whole, apart, inside; and nothing that is trained on comes near them turned alike."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from support.town import Town

from pose2rgbd_ros.sim.flights.config import PLANS, FlightConfig
from pose2rgbd_ros.sim.flights.flight import Flight, choose_lines
from pose2rgbd_ros.sim.flights.make import make_flight


@settings(max_examples=200)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    share=st.floats(0.01, 0.5),
    seed=st.integers(0, 2**31 - 1),
)
def test_lines_held_out_are_spread_apart_and_never_outermost(sizes, share, seed):
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    groups = [range(a, b) for a, b in itertools.pairwise(bounds)]
    chosen = choose_lines(groups, share, np.random.default_rng(seed))
    assert list(chosen) == sorted(set(chosen))
    for group in groups:
        inside = [k - group.start for k in chosen if k in group]
        n = len(group)
        assert len(inside) == (0 if n < 2 else 1 if n == 2 else np.clip(round(share * n), 1, (n - 1) // 2))
        if n > 2 and inside:
            assert min(inside) > 0
            assert max(inside) < n - 1
            assert (np.diff(inside) > 1).all()
        if len(inside) > 1:  # spread: one in each of as many equal parts, more or less
            even = (np.arange(len(inside)) + 0.5) * n / len(inside)
            assert np.abs(inside - even).max() <= n / len(inside) + 1


def test_every_inner_line_can_be_held_out_and_a_share_of_nought_is_none():
    drawn = {k for seed in range(300) for k in choose_lines([range(12)], 0.2, np.random.default_rng(seed))}
    assert drawn == set(range(1, 11))
    assert choose_lines([range(12)], 0.0, np.random.default_rng(0)) == ()
    flight = make_flight(FlightConfig(plan="lawnmower", holdout=0.0))
    assert flight.held_out_lines == ()
    assert set(flight.split(np.linspace(0, flight.duration_s, 100))) == {"train"}


def flights(seed: int) -> list[Flight]:
    town = Town()
    return [make_flight(FlightConfig(plan=plan, seed=seed), town) for plan in sorted(PLANS) if plan != "waypoints"]


@pytest.mark.parametrize("seed", [0, 1])
def test_whole_lines_are_tested_on_and_what_is_trained_on_keeps_its_distance(seed):
    for flight in flights(seed):
        t = np.linspace(0, flight.duration_s, 5000)
        line, split = flight.line(t), flight.split(t)
        held_out = np.isin(line, flight.held_out_lines)
        assert len(flight.held_out_lines) >= 1
        np.testing.assert_array_equal(split == "test", held_out)
        assert (split == "train").mean() > 0.6
        assert (split == "test").mean() > 0.08
        # Turns next to a held-out line are in neither set.
        for number in flight.held_out_lines:
            here = np.flatnonzero(line == number)
            for place, step in ((here[0] - 1, -1), (here[-1] + 1, 1)):
                while 0 <= place < len(t) and line[place] == -1:
                    assert split[place] == "unused", flight.name
                    place += step
        near, turned = nearest(flight, t[split == "train"], t[split == "test"])
        guard = {"orbit": 1.0}.get(flight.name, 5.0)
        alike = turned < np.deg2rad(29)
        assert near[alike].min(initial=np.inf) > 0.95 * guard, flight.name


def nearest(flight: Flight, train_s: np.ndarray, test_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances and angles between all frames of two sets, by brute force."""
    train, test = flight.T_map_body(train_s), flight.T_map_body(test_s)
    distance = np.linalg.norm(train[:, None, :3, 3] - test[None, :, :3, 3], axis=2)
    i, j = np.nonzero(distance < 6.0)
    turn = Rotation.from_matrix(train[i, :3, :3]).inv() * Rotation.from_matrix(test[j, :3, :3])
    return distance[i, j], turn.magnitude()


def test_lines_that_cross_a_held_out_one_stay_in_training():
    """They show the same ground from another side: the pose is held out, not the place."""
    flight = make_flight(FlightConfig(attitude_jitter_deg=0.0))
    t = np.linspace(0, flight.duration_s, 20_000)
    line, split = flight.line(t), flight.split(t)
    across = (line >= 26) & ~np.isin(line, flight.held_out_lines)
    assert (split[across] == "train").all()
    assert set(np.array(flight.held_out_lines) >= 26) == {True, False}, "lines of both directions are held out"


def test_a_pass_along_a_held_out_line_is_in_neither_set_and_one_the_other_way_is_trained_on(tmp_path):
    """Beside the fifth leg one leg leads the same way, 3 m off, and one the other way, 6 m off."""
    rows = ["0 0 60", "100 0 60", "100 0 90", "0 0 90", "0 3 60", "100 3 60", "100 9 60", "0 9 60"]
    (tmp_path / "p.txt").write_text("\n".join(rows))
    config = FlightConfig(plan="waypoints", waypoints=str(tmp_path / "p.txt"), guard_m=8.0)
    found = {}
    for seed in range(60):
        flight = make_flight(FlightConfig(**{**config.__dict__, "seed": seed, "holdout": 0.1}))
        found[flight.held_out_lines] = flight
    flight = found[(4,)]
    t = np.linspace(0, flight.duration_s, 4000)
    line, split, x = flight.line(t), flight.split(t), flight.position_m(t)[:, 0]
    middle = (x > 12) & (x < 88)
    assert set(split[(line == 0) & middle]) == {"unused"}
    assert set(split[(line == 6) & middle]) == {"train"}
    assert set(split[line == 4]) == {"test"}


def test_lines_are_numbered_in_order_and_times_beyond_the_flight_are_on_none():
    flight = make_flight(FlightConfig(plan="lawnmower"))
    line = flight.line(np.linspace(0, flight.duration_s, 9000))
    on = line[line >= 0]
    assert (np.diff(on) >= 0).all()
    assert set(on) == set(range(flight.lines))
    assert flight.line([-5.0, 0.0, flight.duration_s, 1e6]).tolist() == [-1] * 4
    assert flight.line(3.0).shape == (1,)
    assert flight.split([]).shape == (0,)


def test_the_split_of_a_time_does_not_depend_on_the_others():
    flight = make_flight(FlightConfig(plan="walk"))
    t = np.linspace(0, flight.duration_s, 200)
    alone = [str(flight.split(each)[0]) for each in t]
    assert flight.split(t).tolist() == alone


def test_an_orbit_of_one_loop_holds_nothing_out_and_of_two_one():
    one, two = (make_flight(FlightConfig(plan="orbit", loops=loops)) for loops in (1, 2))
    assert (one.lines, one.held_out_lines) == (1, ())
    assert (two.lines, len(two.held_out_lines)) == (2, 1)
