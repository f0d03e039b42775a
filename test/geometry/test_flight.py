"""The path through photographs seconds apart: exact where they were taken, smooth between, only over what they show."""

from __future__ import annotations

import numpy as np
import pytest

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.flight import TURN_DEG_S, FlightSettings, plan_flight

S = 10**9
HEIGHT_M, STEP_M = 60.0, 20.0


def survey(lines: int = 3, photos: int = 6, every_s: float = 5.0) -> tuple[np.ndarray, np.ndarray]:
    """Stamps and poses over lines 30 m apart; it looks down, its top forward, and rocks by some degrees."""
    at = [(x, 30.0 * y) for y in range(lines) for x in (range(photos) if y % 2 == 0 else reversed(range(photos)))]
    position = np.array([(STEP_M * x, y, HEIGHT_M) for x, y in at])
    forward = np.array([(1.0 if round(y / 30) % 2 == 0 else -1.0, 0.0, 0.0) for _, y in at])
    aside = np.random.default_rng(1).normal(scale=4.0, size=position.shape) * [1, 1, 0]
    T = se3.look_at(position, position - [0, 0, HEIGHT_M] + aside + 0.01 * forward, forward)
    return 1_700_000_000 * S + np.arange(len(T)) * int(every_s * S), T


def flown(flight, step_ns: int | None = None) -> np.ndarray:
    """All poses of the path, (M, 4, 4)."""
    times = [np.arange(first, last + 1, step_ns or flight.period_ns) for first, last in flight.spans_ns]
    found = flight.poses(np.concatenate(times))
    assert found.valid.all()
    return found.T


def test_what_has_poses_enough_is_flown_as_it_was():
    stamps, T = survey(every_s=0.2)
    stamps[9:] += 20 * S
    flight = plan_flight(stamps, T)
    assert flight.period_ns is None
    assert flight.line == ""
    np.testing.assert_array_equal(flight.passed_ns, stamps)
    assert flight.spans_ns == [(stamps[0], stamps[8]), (stamps[9], stamps[-1])]
    assert flight.poses(stamps[:1] + S // 10).valid.all()
    assert not plan_flight(stamps, T, max_gap_s=0.1).poses(stamps[:1] + S // 10).valid.any()


def test_a_smooth_path_may_be_declined():
    stamps, T = survey()
    flight = plan_flight(stamps, T, FlightSettings(smooth=False))
    np.testing.assert_array_equal(flight.passed_ns, stamps)
    assert not flight.poses(stamps[:1] + S).valid.any()


@pytest.mark.parametrize("rate_hz", [10.0, 3.0])
def test_photographs_are_passed_exactly_and_on_the_grid(rate_hz):
    stamps, T = survey()
    flight = plan_flight(stamps, T, FlightSettings(rate_hz=rate_hz))
    np.testing.assert_allclose(flight.poses(flight.passed_ns).T, T, atol=1e-9)
    assert flight.period_ns == int(1e9 / rate_hz)
    assert not np.any((flight.passed_ns - stamps[0]) % flight.period_ns)
    assert flight.spans_ns == [(flight.passed_ns[0], flight.passed_ns[-1])]
    assert "5.0 s and 20 m apart" in flight.line


def test_speed_and_turning_are_even_and_never_jump():
    stamps, T = survey()
    flight = plan_flight(stamps, T)
    step_s = 0.01
    path = flown(flight, int(step_s * S))
    velocity = np.diff(path[:, :3, 3], axis=0) / step_s
    assert np.linalg.norm(velocity, axis=1).max() < 1.6 * STEP_M / FlightSettings().step_s
    # on straight lines with corners it would change by some 20 m/s within one step; by the curve in some tenths
    assert np.linalg.norm(np.diff(velocity, axis=0), axis=1).max() < 2.0
    turn = se3.inverse(path[:-1]) @ path[1:]
    rate = np.stack([turn[:, 2, 1], turn[:, 0, 2], turn[:, 1, 0]], axis=1) / step_s  # rad/s, of small turns
    assert np.degrees(np.linalg.norm(rate, axis=1)).max() < 2 * TURN_DEG_S
    assert np.degrees(np.linalg.norm(np.diff(rate, axis=0), axis=1)).max() < 8.0
    assert path[:, 2, 2].max() < -0.9, "it looks down while it turns at the end of a line"


def test_nothing_is_flown_between_two_places_but_back_over_photographs_is():
    _, T = survey()
    far = T.copy()
    far[:, :3, 3] += [0.0, 900.0, 0.0]
    again = T[:1]  # from the end of the second place's lines to its other corner: a long way, over photographs
    back = again.copy()
    back[:, :3, 3] += [0.0, 900.0, 0.0]
    both = np.concatenate([T, far, back])
    flight = plan_flight(np.arange(len(both)) * 5 * S, both)
    assert len(flight.spans_ns) == 2
    path = flown(flight)[:, :3, 3]
    away_m = np.linalg.norm(path[:, None] - both[None, :, :3, 3], axis=2).min(axis=1)
    assert away_m.max() < 1.6 * STEP_M
    assert flight.line.endswith("left out: 1")
    between_ns = (flight.spans_ns[0][1] + flight.spans_ns[1][0]) // 2
    assert not flight.poses(np.array([between_ns])).valid.any()


def test_time_is_as_recorded_where_photographs_are_quick_and_pauses_are_not_waited_for():
    stamps, T = survey(lines=1, every_s=0.6)
    quick = plan_flight(stamps, T, FlightSettings(step_s=2.0))
    np.testing.assert_allclose(np.diff(quick.passed_ns), 0.6 * S, atol=quick.period_ns)
    stamps, T = survey(lines=1)
    stamps[3:] += 900 * S  # a change of the battery
    assert np.ptp(plan_flight(stamps, T).passed_ns) < 10 * S


def test_photographs_of_one_place_and_a_single_one():
    stamps, T = survey(lines=1, photos=8)
    three_each = np.repeat(T, 3, axis=0)  # exposures in brackets
    flight = plan_flight(np.arange(24) * 2 * S, three_each)
    assert len(flight.spans_ns) == 1
    assert "20 m apart" in flight.line
    assert np.isfinite(flown(flight)).all()
    around = np.repeat(T[:1], 5, axis=0)
    flight = plan_flight(np.arange(5) * 5 * S, around)
    np.testing.assert_allclose(flown(flight), np.repeat(T[:1], len(flown(flight)), axis=0), atol=1e-9)
    alone = plan_flight(stamps[:1], T[:1])
    assert alone.spans_ns == [(stamps[0], stamps[0])]
