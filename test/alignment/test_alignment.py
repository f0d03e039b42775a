"""Offsets between flow and motion: found, with honest uncertainty, or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.skewed_flight import START_NS, SkewedFlight

from pose2rgbd_ros.alignment import align, plot
from pose2rgbd_ros.alignment.align import AlignOptions, Refined, align_samples, estimate_offset
from pose2rgbd_ros.alignment.live import LiveAlignment, LiveConfig
from pose2rgbd_ros.alignment.signals import SECOND, Samples, motion_from_coordinates, motion_from_velocities
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
    years = motion_from_velocities("log", stamps_ns, np.ones((len(stamps_ns), 3)))
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
    signal = motion_from_velocities(
        "odometry", flight.stamps_ns(t), np.stack([speed, 0 * t, 0 * t], axis=-1), of_body=True
    )
    assert not estimate_offset(replace(flow, cells=cells), signal, STEADY).observable


def test_halves_of_the_picture_that_part_are_in_sigma(flight: SkewedFlight) -> None:
    agreed = estimate_offset(flight.flow_of_halves(10.0, (0.3, 0.3)), flight.odometry(), STEADY)
    parted = estimate_offset(flight.flow_of_halves(10.0, (0.35, 0.25)), flight.odometry(), STEADY)
    assert agreed.observable
    assert parted.observable
    assert agreed.offset_s == pytest.approx(0.3, abs=0.01)
    assert agreed.sigma_s < 0.01
    assert 0.025 < parted.sigma_s < 0.1
    strict = replace(STEADY, most_sigma_s=0.95 * parted.sigma_s)
    far = estimate_offset(flight.flow_of_halves(10.0, (0.35, 0.25)), flight.odometry(), strict)
    assert not far.observable
    assert "parts of the picture answer" in far.why


def test_a_half_of_the_picture_tells_its_own(flight: SkewedFlight) -> None:
    flow = flight.flow_of_halves(10.0, (0.6, 0.2))
    for columns, offset_s in ((slice(0, 4), 0.6), (slice(4, 8), 0.2)):
        found = estimate_offset(flow.in_cells(slice(None), columns), flight.odometry(), STEADY)
        assert found.offset_s == pytest.approx(offset_s, abs=0.01)


def test_joined_pairs_are_those_of_half_the_rate(flight: SkewedFlight) -> None:
    flow = flight.flow(10.0)
    seconds = (flow.stamps_ns - flow.stamps_ns[0]) / SECOND
    uneven = replace(flow, interval_s=np.where(np.arange(len(flow)) % 2, 0.15, 0.05))
    joined = uneven.chosen((seconds < 10) | (seconds > 12)).coarser()
    np.testing.assert_allclose(joined.interval_s, 0.2)
    np.testing.assert_allclose(joined.cells[3], 0.25 * flow.cells[6] + 0.75 * flow.cells[7], rtol=1e-5)
    assert joined.stamps_ns[3] == (flow.stamps_ns[6] + flow.stamps_ns[7]) // 2
    gone = (joined.stamps_ns - flow.stamps_ns[0]) / SECOND
    assert not ((gone > 10) & (gone < 12)).any()


def test_sigma_holds_where_the_depth_of_the_scene_changes() -> None:
    options, errors = replace(STEADY, rotation=False), []
    for seed in range(16):
        flight = SkewedFlight(seconds=14.0, seed=seed)
        found = estimate_offset(flight.flow_of_changing_depth(10.0, 0.02, 0.5), flight.odometry(), options)
        if found.observable:
            errors.append(abs(found.offset_s) / found.sigma_s)
    assert len(errors) >= 8
    assert np.mean(np.array(errors) < 2) >= 0.95


@pytest.mark.parametrize("source", ["odometry", "gps"])
def test_the_answer_is_where_the_scores_peak(source: str) -> None:
    for seed in range(3):
        flight = SkewedFlight(seconds=16.0, seed=seed)
        found = estimate_offset(flight.flow(7.0), getattr(flight, source)(), STEADY)
        lags = found.curves[-1].lag_s
        assert found.peak_s == pytest.approx(lags[np.argmax(found.curves[-1].score)], abs=lags[1] - lags[0])
        # Half a step at most where the finer answer is surer than that.
        assert abs(found.offset_s - found.peak_s) <= max(found.sigma_s, 0.5 * (lags[1] - lags[0]))


def test_sigma_holds_what_lies_between_the_answer_and_the_peak(
    flight: SkewedFlight, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, flow = align.refine, flight.flow(offset_s=0.4)

    def astray(*arguments: Any) -> Refined:
        found = real(*arguments)
        return replace(found, line=replace(found.line, offset_s=found.line.offset_s + 0.12))

    monkeypatch.setattr(align, "refine", astray)
    found = estimate_offset(flow, flight.odometry(), STEADY)
    assert found.offset_s == pytest.approx(0.4, abs=0.02)
    assert found.sigma_s > 0.1


def test_the_picture_says_why_an_answer_is_beside_the_peak() -> None:
    beside = align.Alignment(True, "", offset_s=0.4, sigma_s=0.1, peak_s=0.5)
    assert "how far it is from the peak is part of its sigma" in plot._beside(beside)
    assert "with a drift of +200 ppm" in plot._beside(replace(beside, drift_ppm=200.0))
    assert plot._beside(replace(beside, peak_s=0.401)) == ""


def test_any_offset_is_looked_at_when_asked(flight: SkewedFlight) -> None:
    late = flight.flow(offset_s=0.2).shifted(-100 * SECOND)
    near = estimate_offset(late, flight.odometry(), STEADY)
    assert "--max-offset-s 0 looks at any offset" in near.why
    assert near.looked(STEADY) == ""
    found = estimate_offset(late, flight.odometry(), WIDE)
    assert found.offset_s == pytest.approx(100.2, abs=0.01)
    # The images last 60 s and the motion 76 s: 30 s of the former must meet.
    first, last = (float(part.split(" ")[-1]) for part in found.looked(WIDE).split(" s (")[0].split(" to "))
    assert first == pytest.approx(100 - 38, abs=0.5)
    assert last == pytest.approx(100 + 38, abs=0.5)
    assert "less than 50 % meets: --min-overlap" in found.looked(WIDE)
    assert estimate_offset(flight.flow(), flight.odometry(), STEADY).looked(STEADY).endswith("(--max-offset-s)")


def test_motions_that_are_alike_are_not_said_to_differ() -> None:
    t = np.arange(0.0, 8.0, 0.1)
    speed = 8.0 - 6.0 * np.exp(-t / 2.0)
    flight = SkewedFlight(seconds=8.0, seed=5, constant=True)
    flow = flight.flow(10.0)
    cells = flow.cells + 0.0
    cells[..., 1] += (10 * (speed - 8.0))[:, None, None]
    forward = np.stack([speed, 0 * t, 0 * t], axis=-1)
    signal = motion_from_velocities("odometry", flight.stamps_ns(t), forward, of_body=True)
    doubtful = AlignOptions(drift=False, least_confidence=1.0, most_sigma_s=1.0)
    alike = estimate_offset(replace(flow, cells=cells), signal, doubtful)
    assert alike.correlation > 0.9
    assert "the motions are alike (correlation" in alike.why
    assert "confidence" in alike.why
    other = SkewedFlight(seconds=40.0, seed=102).odometry()
    unlike = estimate_offset(SkewedFlight(seconds=40.0, seed=2).flow(), other, replace(doubtful, most_sigma_s=9.0))
    assert unlike.correlation < 0.7
    assert "alike" not in unlike.why


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
        SkewedFlight(seconds=40.0, seed=seed).flow(), SkewedFlight(seconds=40.0, seed=seed + 100).odometry(), STEADY
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
    found = motion_from_coordinates("GPS", np.rint(t * SECOND).astype(np.int64), place)
    velocity = found.velocity(np.array([5 * SECOND, 20 * SECOND]), 0.3)
    assert velocity[:, 1] == pytest.approx(0.1112, abs=0.001)
    assert np.isnan(found.velocity(np.array([11 * SECOND]), 0.3)).all()
