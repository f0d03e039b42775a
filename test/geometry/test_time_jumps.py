"""Recorded clocks that were set back: times that were passed twice give no poses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.trajectory import Trajectory, passed_once, restarts

MS = 1_000_000
UP = [0.0, 0.0, 0.0, 1.0]


def ms(*stamps: int) -> np.ndarray:
    return np.array(stamps, dtype=np.int64) * MS


def kept(*stamps: int, values: object = None) -> list[int]:
    """Stamps kept; the values are all different unless given."""
    given_ms = ms(*stamps)
    column = np.arange(len(stamps)) if values is None else values
    return (given_ms[passed_once(given_ms, np.reshape(column, (-1, 1)))] // MS).tolist()


def test_a_clock_set_back_leaves_out_what_it_passed_twice() -> None:
    first, second = [0, 1000, 2000, 3000, 4000], [1500, 2500, 3500, 4500, 5500]
    assert restarts(ms(*first, *second)) == [5]
    assert kept(*first, *second) == [0, 1000, 4500, 5500]


def test_time_begins_anew_where_it_goes_on() -> None:
    """A straggler ahead of the clock that was set back is not its beginning."""
    assert restarts(ms(7000, 8000, 9000, 3000, 1000, 1500, 2500)) == [4]


def test_two_flights_in_one_bag_that_do_not_overlap_are_both_kept() -> None:
    assert kept(10_000, 11_000, 12_000, 0, 1000, 2000) == [10_000, 11_000, 12_000, 0, 1000, 2000]


def test_a_recording_played_twice_is_one() -> None:
    loop = list(range(0, 10_000, 500))
    thrice = [*loop, *loop, *loop[:7]]
    assert kept(*thrice, values=np.sin(thrice)) == thrice
    assert kept(*thrice) == []  # another flight by the same clock


def test_a_pose_that_is_not_finite_is_the_same_in_both_rounds() -> None:
    loop = list(range(0, 10_000, 500))
    values = np.where(np.array(loop) == 1500, np.nan, loop)
    assert kept(*loop, *loop, values=np.tile(values, 2)) == [*loop, *loop]


def test_one_stamp_far_ahead_costs_no_other_its_place() -> None:
    track = list(range(0, 60_000, 500))
    leaping = [*track[:50], 10**9, *track[50:]]
    assert kept(*leaping) == leaping
    forward_and_back = [*track[:50], 10**9, 10**9 + 500, *track[:50]]
    assert kept(*forward_and_back) == [10**9, 10**9 + 500], "set forward and back is another thing"


def test_disorder_and_stragglers_are_no_jump() -> None:
    for stamps in (
        [0, 1000, 100, 2000, 1100, 3000],  # within a second
        [0, 1000, 2000, 3000, 10, 4000, 5000],  # one straggler
        [0, 1000, 2000, 3000, 20, 10, 4000, 5000],  # two, the newer one first
        [0, 1000, 2000, 3000, 10, 10, 4000, 5000],  # one of them twice
        [100_000, 0, 101_000, 1000, 102_000, 2000, 103_000],  # two clocks, taking turns
        [0, 50_000, 100_000],  # set forward
    ):
        assert restarts(ms(*stamps)) == []
        assert kept(*stamps) == stamps


@given(st.lists(st.integers(0, 20_000), max_size=40))
def test_what_is_kept_after_a_jump_is_in_order_of_reception(stamps: list[int]) -> None:
    given_ms = ms(*stamps)
    assert len(passed_once(given_ms, np.zeros((len(stamps), 1)))) == len(stamps)
    starts = restarts(given_ms)
    assert starts == sorted(set(starts))
    for start in starts:
        assert given_ms[start] < given_ms[:start].max() - 1000 * MS


def test_a_trajectory_has_no_pose_of_a_time_that_was_passed_twice() -> None:
    stamps = ms(0, 1000, 2000, 3000, 4000, 1500, 2500, 3500, 4500, 5500)
    position = np.outer(np.arange(10.0), [1, 0, 0])
    track, problems = Trajectory.from_recording(stamps, position, np.tile(UP, (10, 1)))
    assert problems == {"time_jump": 6}
    np.testing.assert_array_equal(track.position_m[:, 0], [0, 1, 8, 9])
    asked = ms(500, 2200, 5000)
    assert track.interpolate(asked, max_gap_ns=1500 * MS).reason == [None, "pose_gap", None]


def test_nothing_left_is_an_error() -> None:
    stamps = ms(0, 1000, 2000, 3000, 0, 1500, 3000)
    with pytest.raises(UserError, match="passes all times twice"):
        Trajectory.from_recording(stamps, np.arange(21).reshape(7, 3), np.tile(UP, (7, 1)))
    with pytest.raises(UserError, match="no pose was recorded"):
        Trajectory.from_recording([], [], [])
