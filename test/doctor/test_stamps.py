"""Rates, gaps, losses and jumps of a stream, by its stamps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose2rgbd_ros.doctor.stamps import regularity

SECOND = 1_000_000_000
T0 = 1_700_000_000 * SECOND


def stream(
    count: int = 300, rate_hz: float = 20.0, late_s: float = 0.03, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Stamps with a jitter of 1 % of the interval, received a little later."""
    rng = np.random.default_rng(seed)
    stamps = T0 + np.int64(1e9 / rate_hz) * np.arange(count) + rng.normal(0, 0.01e9 / rate_hz, count).astype(np.int64)
    return stamps, stamps + np.int64(0.03 * SECOND) + rng.exponential(0.002 * SECOND, count).astype(np.int64)


@given(st.sets(st.integers(1, 298), max_size=60), st.floats(1.0, 100.0), st.integers(0, 5))
def test_each_message_that_is_missing_is_counted(missing: set[int], rate_hz: float, seed: int) -> None:
    header, received = stream(rate_hz=rate_hz, seed=seed)
    kept = [i for i in range(300) if i not in missing]
    runs = np.diff(kept)
    found = regularity(header[kept], received[kept], least_gap_s=0.0)
    assert found.lost == sum(run - 1 for run in runs if run < 10)
    assert found.rate_hz == pytest.approx(rate_hz, rel=0.02)


@given(st.integers(-(10**17), 10**17))
def test_when_it_was_recorded_does_not_matter(shift_ns: int) -> None:
    header, received = stream()
    header = np.delete(header, [50, 51, 120])
    received = np.delete(received, [50, 51, 120])
    a, b = regularity(header, received), regularity(header + shift_ns, received + shift_ns)
    assert a == b


def test_a_silence_is_a_gap_and_no_loss() -> None:
    header, received = stream(rate_hz=20.0)
    kept = np.r_[0:100, 160:300]
    found = regularity(header[kept], received[kept])
    ((at_s, length_s),) = found.gaps
    assert at_s == pytest.approx(4.95, abs=0.01)
    assert length_s == pytest.approx(3.05, abs=0.01)
    assert found.lost == 0
    assert found.longest_gap_s == length_s


def test_a_clock_that_is_set_back_is_a_jump_and_not_disorder() -> None:
    header, received = stream()
    header[150:] -= 2 * SECOND
    found = regularity(header, received)
    assert found.jumps_s == pytest.approx([-2.0], abs=0.05)
    assert (found.backwards, found.gaps, found.repeated) == (0, (), 0)


def test_what_is_late_grows_and_what_has_no_stamp_counts_as_received() -> None:
    header, received = stream()
    grown = received + np.linspace(0, SECOND, 300).astype(np.int64)
    assert regularity(header, grown).late_growth_s == pytest.approx(0.9, abs=0.05)
    unstamped = regularity(np.zeros_like(header), received)
    assert (unstamped.unstamped, unstamped.late_s, unstamped.received_stamps) == (300, 0.0, 1.0)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_hardly_any_messages_are_no_error(count: int) -> None:
    header, received = stream(count)
    assert regularity(header, received).count == count


@given(st.lists(st.floats(0.5, 3.0), min_size=2, max_size=80))
def test_a_picture_of_the_time_shows_silence_and_nothing_else(steps: list[float]) -> None:
    from pose2rgbd_ros.doctor.page import _share

    seconds = np.cumsum(steps)
    edges = np.linspace(0.0, seconds[-1] + 2.0, 41)
    share = _share(seconds, edges, 1.0)
    assert ((share >= -1e-9) & (share <= 1 + 1e-9)).all()
    silent = seconds[0] + np.maximum(np.diff(seconds) - 1.5, 0).sum() + 0.5  # before, between, and after the last
    assert np.sum(1 - share) * (edges[1] - edges[0]) == pytest.approx(silent, abs=1e-6)


def test_repeats_and_disorder_are_counted() -> None:
    header, received = stream()
    header[100] = header[99]
    header[[200, 201]] = header[[201, 200]]
    found = regularity(header, received)
    assert (found.repeated, found.backwards, found.jumps_s) == (1, 1, ())
