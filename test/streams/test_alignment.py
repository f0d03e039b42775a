"""Offsets between flow and motion: found, with honest uncertainty, or refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.skewed_flight import START_NS, SkewedFlight

from pose2rgbd_ros.streams.alignment import motion
from pose2rgbd_ros.streams.alignment.align import AlignOptions, align_samples, estimate_offset
from pose2rgbd_ros.streams.alignment.live import LiveAlignment, LiveConfig
from pose2rgbd_ros.streams.alignment.signals import SECOND, Samples
from pose2rgbd_ros.streams.samples import FixSample

STEADY = AlignOptions(drift=False)
WIDE = AlignOptions(drift=False, max_offset_s=0.0)


@pytest.fixture(scope="module")
def flight() -> SkewedFlight:
    return SkewedFlight()


@pytest.mark.parametrize(("source", "within_s"), [("odometry", 0.01), ("gps", 0.1)])
def test_an_offset_is_found(flight: SkewedFlight, source: str, within_s: float) -> None:
    found = estimate_offset(flight.flow(offset_s=0.73), getattr(flight, source)(), STEADY)
    assert found.observable, found.why
    assert found.offset_s == pytest.approx(0.73, abs=within_s)
    assert abs(found.offset_s - 0.73) < 4 * found.sigma_s
    assert found.confidence > 0.95
    first, last = flight.flow(offset_s=0.73).stamps_ns[[0, -1]]
    assert found.overlap_ns[0] == pytest.approx(first, abs=SECOND // 10)
    assert found.overlap_ns[1] == pytest.approx(last, abs=SECOND // 10)


@settings(max_examples=3)
@given(st.floats(-2.5, 2.5))
def test_shifted_images_shift_the_answer(d: float) -> None:
    flight = SkewedFlight(seconds=25.0, seed=3)
    flow, odometry = flight.flow(offset_s=0.2), flight.odometry()
    there = estimate_offset(flow, odometry, STEADY)
    moved = estimate_offset(flow.shifted(round(d * SECOND)), odometry, STEADY)
    assert moved.offset_s == pytest.approx(there.offset_s - d, abs=0.01)


@settings(max_examples=6)
@given(st.floats(-3.0, 3.0), st.sampled_from(["odometry", "gps"]), st.integers(0, 50))
def test_a_short_record_answers_alike_however_it_is_shifted(d: float, source: str, seed: int) -> None:
    flight = SkewedFlight(seconds=12.0, seed=seed)
    flow, signal = flight.flow(), getattr(flight, source)()
    there = estimate_offset(flow, signal, WIDE)
    moved = estimate_offset(flow.shifted(round(d * SECOND)), signal, WIDE)
    assert moved.observable == there.observable
    if there.observable:
        assert moved.offset_s == pytest.approx(there.offset_s - d, abs=1e-4)
        assert moved.confidence == pytest.approx(there.confidence, abs=0.01)


def test_wild_stamps_are_left_out_and_counted(flight: SkewedFlight) -> None:
    odometry = flight.odometry()
    assert odometry.velocities is not None
    velocities = Samples(
        np.append(odometry.stamps_ns, [SECOND, 4 * 10**18]),
        np.concatenate([odometry.velocities.values, np.ones((2, 3))]),
    )
    found = estimate_offset(flight.flow(offset_s=0.4), replace(odometry, velocities=velocities), WIDE)
    assert found.observable, found.why
    assert found.offset_s == pytest.approx(0.4, abs=0.01)
    assert found.left_out == 2
    assert "2 samples left out" in found.summary()


def test_more_than_half_a_day_is_refused(flight: SkewedFlight) -> None:
    stamps_ns = SECOND * 1800 * np.arange(100_000)
    years = motion.from_velocities("log", stamps_ns, np.ones((len(stamps_ns), 3)))
    found = estimate_offset(flight.flow(), years, WIDE)
    assert not found.observable
    assert "cut the recording" in found.why


def test_a_wild_stamp_does_not_fill_the_memory_of_the_live_estimate() -> None:
    live = LiveAlignment(LiveConfig(keep_s=10.0))
    for k in range(3000):
        stamp_ns = START_NS + k * SECOND // 10 + (10**17 if k == 100 else 0)
        live.add_motion(FixSample(stamp_ns, "gps", 47.0, 8.0, 400.0, np.eye(3)))
    assert len(live._fixes.arrays()[0]) < 1000


def test_the_fade_of_one_acceleration_is_not_observable() -> None:
    """Depth that changes by a tenth fits a late piece of it at another lag as well."""
    t = np.arange(0.0, 8.0, 0.1)
    speed = 8.0 - 1.5 * np.exp(-t / 1.5)
    flight = SkewedFlight(seconds=8.0, seed=5, constant=True)
    flow = flight.flow(10.0)
    depth = 1 + 0.05 * np.sin(t / 2.0)
    cells = flow.cells + 0.0
    cells[..., 1] = (10 * speed / depth)[:, None, None]
    signal = motion.from_velocities(
        "odometry", flight.stamps_ns(t), np.stack([speed, 0 * t, 0 * t], axis=-1), of_body=True
    )
    assert not estimate_offset(replace(flow, cells=cells), signal, STEADY).observable


def test_speed_alone_is_evidence(flight: SkewedFlight) -> None:
    found = estimate_offset(flight.flow(offset_s=-1.2), flight.odometry(), replace(STEADY, rotation=False))
    assert found.observable, found.why
    assert found.offset_s == pytest.approx(-1.2, abs=0.06)


def test_constant_speed_is_not_observable() -> None:
    flight = SkewedFlight(constant=True)
    for source in (flight.odometry(), flight.gps()):
        found = estimate_offset(flight.flow(), source, STEADY)
        assert not found.observable
        assert found.why


@pytest.mark.parametrize("seed", range(3))
def test_unrelated_motion_is_not_observable(seed: int) -> None:
    found = estimate_offset(
        SkewedFlight(seconds=40.0, seed=seed).flow(),
        SkewedFlight(seconds=40.0, seed=seed + 100).odometry(),
        STEADY,
    )
    assert not found.observable, found.summary()


def test_few_images_are_not_enough(flight: SkewedFlight) -> None:
    found = estimate_offset(SkewedFlight(seconds=0.4).flow(), flight.odometry())
    assert not found.observable
    assert "pairs of images" in found.why


def test_drift_is_found() -> None:
    flight = SkewedFlight(seconds=120.0, seed=2)
    flow, odometry = flight.flow(8.0, 0.4, 400.0), flight.odometry(25.0)
    found = estimate_offset(flow, odometry)
    assert abs(found.drift_ppm - 400.0) * 1e-6 * 120 < 0.02
    assert found.drift_sigma_ppm < 120
    stamps, there = flow.stamps_ns[[0, -1]], flight.flow(8.0).stamps_ns[[0, -1]]
    assert np.abs(stamps + found.offsets_ns(stamps) - there).max() < 0.02 * SECOND


def test_no_drift_is_made_up() -> None:
    flight = SkewedFlight(seconds=70.0, seed=4)
    assert estimate_offset(flight.flow(8.0), flight.odometry(25.0)).drift_ppm == 0.0


def test_gaps_on_both_sides_do_no_harm(flight: SkewedFlight) -> None:
    flow, odometry = flight.flow(offset_s=0.5), flight.odometry()
    seconds = (flow.stamps_ns - START_NS) / SECOND
    kept = ~((seconds > 10) & (seconds < 16)) & ~((seconds > 40) & (seconds < 43))
    flow = replace(
        flow,
        stamps_ns=flow.stamps_ns[kept],
        interval_s=flow.interval_s[kept],
        cells=flow.cells[kept],
        weight=flow.weight[kept],
    )
    assert odometry.velocities is not None
    at = (odometry.stamps_ns - START_NS) / SECOND
    values = odometry.velocities.values.copy()
    values[(at > 25) & (at < 30)] = np.nan
    broken = replace(odometry, velocities=Samples(odometry.stamps_ns, values))
    found = estimate_offset(flow, broken, STEADY)
    assert found.observable, found.why
    assert found.offset_s == pytest.approx(0.5, abs=0.02)


def test_clocks_that_have_nothing_in_common(flight: SkewedFlight) -> None:
    apart_ns = 5_700_748 * SECOND
    flow = flight.flow().shifted(apart_ns)
    assert not estimate_offset(flow, flight.odometry(), STEADY).observable
    found = estimate_offset(flow, flight.odometry(), replace(STEADY, max_offset_s=0.0))
    assert found.observable, found.why
    assert found.offset_s == pytest.approx(-apart_ns / SECOND, abs=0.02)


def test_any_two_signals_are_aligned(flight: SkewedFlight) -> None:
    t = np.arange(0.0, 60.0, 0.1)
    speed = flight.at(flight.speed, t)
    found = align_samples(
        Samples(flight.stamps_ns(t - 0.31), 2.3 * speed + 0.1), Samples(flight.stamps_ns(t), speed), STEADY
    )
    assert found.observable, found.why
    assert found.offset_s == pytest.approx(0.31, abs=0.01)


def test_outliers_and_lost_fixes_are_left_out() -> None:
    t = np.arange(0.0, 30.0, 0.1)
    place = np.stack([47.0 + 1e-6 * t, np.full(len(t), 8.0), np.full(len(t), 400.0)], axis=-1)
    place[50] += (2e-4, 0, 0)
    place[100:120] = np.nan
    found = motion.from_coordinates("GPS", np.rint(t * SECOND).astype(np.int64), place)
    velocity = found.velocity(np.array([5 * SECOND, 20 * SECOND]), 0.3)
    assert velocity[:, 1] == pytest.approx(0.1112, abs=0.001)
    assert np.isnan(found.velocity(np.array([11 * SECOND]), 0.3)).all()
