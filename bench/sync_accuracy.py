"""How well the offset between images and poses is found, on simulated flights with known clocks and on real recordings.

    python bench/sync_accuracy.py                    # flies all flights, measures, writes
    bench/results/sync_accuracy.md python bench/sync_accuracy.py --quick            # two flights, nothing written
    python bench/sync_accuracy.py --tuned            # the flights on which limits were chosen instead, nothing
    written python bench/sync_accuracy.py --cache FOLDER     # keeps the flow of the flights for the next run python
    bench/sync_accuracy.py --real FOLDER      # with the real recordings (default: POSE2RGBD_REAL_DATA)

Exit status 1 where a bar is missed: offsets to 20 ms median; nine answers of ten in windows of 10 to 80 s within two of
their sigma; drift error x duration below 40 ms; an answer that follows a shift of all image stamps to 20 ms; offsets of
the drone video by other widths and rates of the flow within two sigma of each other, and its cruise gives no answer.

Flights: eight, each over a city of its own, 300 s, 10 images a second of 192 x 144 pixels, sensors with their usual
faults (GPS 10 Hz with 0.25 m of white noise, 0.8 m of wandering, outliers and outages; odometry 100 Hz; gyroscope
200 Hz; jitter, lost images and clocks of their own). No limit of the method was chosen on them. Only stamps are changed
between trials.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sync_flights import FRESH, STEADY, TUNED, Recorded, record

from pose2rgbd_ros.alignment.align import Alignment, AlignOptions, align_samples, estimate_offset
from pose2rgbd_ros.alignment.flow import FlowConfig, FlowSignal
from pose2rgbd_ros.alignment.signals import SECOND, MotionSignal, Samples, motion_from_fixes
from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.convert.convert import measure
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.reports.table import Table

RESULT = Path(__file__).parent / "results" / "sync_accuracy.md"
BAR_S, DRIFT_BAR_S, SHIFT_BAR_S = 0.020, 0.040, 0.020
SHIFTS = 2
WINDOWS = 3  # of a flight
METHODS = {
    "odometry": ("odometry", True),
    "GPS + gyroscope": ("GPS + gyroscope", True),
    "GPS": ("GPS", True),
    "odometry, magnitude only": ("odometry", False),
}
# The drone video accelerates from its beginning until about here; windows of so many seconds begin every half second.
ACCELERATED_S, LENGTHS_S, EVERY_S = 5.0, (6.0, 7.0, 8.0, 9.0, 10.0), 0.5
# Windows in which sigma is held against the truth; settings of the flow that an answer should not hang on.
SIGMA_LENGTHS_S, SIGMA_WINDOWS, HONEST_SHARE = (10.0, 20.0, 40.0, 80.0), 2, 0.9
SETTINGS = ((320, 15.0), (320, 7.0), (320, 5.0), (480, 15.0), (480, 7.0), (640, 30.0))
Bars = list[tuple[str, str, bool]]
# Columns of the tables, with their formats.
OFFSETS = {
    "median error ms": ".1f", "90 % ms": ".0f", "worst ms": ".0f", "median sigma ms": ".1f", "within 2 sigma %": ".0f",
}  # fmt: skip
HONESTY = {
    "window": "s", "motion from": "", "windows": "d", "answers": "d", "median error ms": ".1f", "worst ms": ".0f",
    "median sigma ms": ".1f", "within 1 sigma %": ".0f", "within 2 sigma %": ".0f",
}  # fmt: skip
DRIFTS = {
    "motion from": "", "drift ppm": "s", "flights": "d", "not observable": "d", "offset: median error ms": ".1f",
    "drift error x duration: median ms": ".1f", "worst ms": ".0f",
}  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One answer against the truth, in seconds; the drift's error is over the whole record."""

    found: Alignment
    error_s: float
    drift_error_s: float


def skewed(flow: FlowSignal, offset_s: float, drift_ppm: float) -> FlowSignal:
    """The flow as a camera would have stamped it whose clock is off by so much (and drifts, about its middle)."""
    middle_ns = int((flow.stamps_ns[0] + flow.stamps_ns[-1]) // 2)
    moved = offset_s * SECOND + 1e-6 * drift_ppm * (flow.stamps_ns - middle_ns)
    return replace(flow, stamps_ns=flow.stamps_ns + np.rint(moved).astype(np.int64))


def trial(part: Recorded, method: str, offset_s: float, drift_ppm: float) -> Trial:
    """Skew the images, align, compare."""
    source, rotation = METHODS[method]
    signal, column = part.motions()[source]
    flow = skewed(part.flow, offset_s, drift_ppm)
    found = estimate_offset(flow, signal, AlignOptions(rotation=rotation))
    true_s, true_ppm, middle_ns = part.truth(column)
    true_ppm -= drift_ppm
    elapsed_s = (found.reference_ns - round(offset_s * SECOND) - middle_ns) / SECOND
    error_s = found.offset_s - (true_s - offset_s + 1e-6 * true_ppm * elapsed_s)
    duration_s = float(flow.stamps_ns[-1] - flow.stamps_ns[0]) / SECOND
    return Trial(found, error_s, 1e-6 * (found.drift_ppm - true_ppm) * duration_s)


def offsets(flights: dict[str, Recorded], count: int, what: str, rng: np.random.Generator) -> tuple[str, Bars]:
    """Flights in `count` windows, each with an offset drawn from +-2 s: by method."""
    table, bars = Table.of({"motion from": "", what: "d", "not observable": "d", **OFFSETS}), []
    for method in METHODS:
        trials = [
            trial(flight.window(k / count, (k + 1) / count), method, float(rng.uniform(-2, 2)), 0.0)
            for flight in flights.values()
            for k in range(count)
        ]
        seen = [item for item in trials if item.found.observable]
        errors = np.abs([item.error_s for item in seen]) if seen else np.array([np.inf])
        honest = np.mean([abs(item.error_s) < 2 * item.found.sigma_s for item in seen]) if seen else np.nan
        sigma = np.median([item.found.sigma_s for item in seen]) if seen else np.nan
        line = table.add(
            method, len(trials), len(trials) - len(seen), 1e3 * np.median(errors), 1e3 * np.quantile(errors, 0.9),
            1e3 * errors.max(), 1e3 * sigma, 100 * honest,
        )  # fmt: skip
        bars.append(
            (
                f"offsets, {what}, {method}: median",
                f"{1e3 * np.median(errors):.1f} ms of 20",
                bool(np.median(errors) < BAR_S),
            )
        )
        print(line, flush=True)
    return table.markdown(), bars


def honesty(flights: dict[str, Recorded], rng: np.random.Generator) -> tuple[str, Bars]:
    """Windows of several lengths drawn from the flights: how many answers lie within one sigma and within two."""
    table, total, within = Table.of(HONESTY), 0, 0
    for length_s in SIGMA_LENGTHS_S:
        for method in METHODS:
            found = []
            for flight in flights.values():
                share = length_s * SECOND / float(flight.flow.stamps_ns[-1] - flight.flow.stamps_ns[0])
                for begin in rng.uniform(0, 1 - share, SIGMA_WINDOWS):
                    part = flight.window(float(begin), float(begin) + share)
                    found.append(trial(part, method, float(rng.uniform(-2, 2)), 0.0))
            seen = [item for item in found if item.found.observable]
            if not seen:
                table.add(f"{length_s:.0f} s", method, len(found), 0, *[None] * 5)
                continue
            error_s = np.abs([item.error_s for item in seen])
            sigma_s = np.array([item.found.sigma_s for item in seen])
            total, within = total + len(seen), within + int((error_s < 2 * sigma_s).sum())
            line = table.add(
                f"{length_s:.0f} s", method, len(found), len(seen), 1e3 * np.median(error_s), 1e3 * error_s.max(),
                1e3 * np.median(sigma_s), *(100 * np.mean(error_s < factor * sigma_s) for factor in (1, 2)),
            )  # fmt: skip
            print(line, flush=True)
    share = within / max(total, 1)
    bar = "answers within two sigma, windows of 10 to 80 s"
    return table.markdown(), [(bar, f"{within} of {total}", share >= HONEST_SHARE)]


def drifts(flights: dict[str, Recorded], rng: np.random.Generator) -> tuple[str, Bars]:
    """Whole flights, with an offset of +-2 s and a drift; those whose offset is observable."""
    table, bars = Table.of(DRIFTS), []
    for method in ("odometry", "GPS + gyroscope", "GPS"):
        for limit_ppm in (50.0, 500.0):
            trials = [
                trial(flight, method, float(rng.uniform(-2, 2)), float(rng.uniform(-limit_ppm, limit_ppm)))
                for flight in flights.values()
            ]
            seen = [item for item in trials if item.found.observable]
            errors = np.abs([item.error_s for item in seen]) if seen else np.array([np.inf])
            over = np.abs([item.drift_error_s for item in seen]) if seen else np.array([np.inf])
            line = table.add(
                method, f"+-{limit_ppm:.0f}", len(trials), len(trials) - len(seen), 1e3 * np.median(errors),
                1e3 * np.median(over), 1e3 * over.max(),
            )  # fmt: skip
            name = f"drift +-{limit_ppm:.0f} ppm, {method}: error x duration, median"
            bars.append((name, f"{1e3 * np.median(over):.1f} ms of 40", bool(np.median(over) < DRIFT_BAR_S)))
            print(line, flush=True)
    return table.markdown(), bars


def shifts(signals: dict[str, tuple[FlowSignal, MotionSignal]], rng: np.random.Generator) -> tuple[str, Bars]:
    """All image stamps moved by d: how far the answer is from moving by -d. Where there is none, there must be none."""
    table, bars = (Table.of({"recording": "", "unshifted": "", f"worst deviation of {SHIFTS} shifts ms": ".2f"}), [])
    for name, (flow, signal) in signals.items():
        options = AlignOptions(drift=False)
        base = estimate_offset(flow, signal, options)
        moved = rng.uniform(-2, 2, SHIFTS)
        found = [estimate_offset(skewed(flow, d, 0.0), signal, options) for d in moved]
        off = max(abs(item.offset_s + d - base.offset_s) for item, d in zip(found, moved, strict=True))
        same = all(item.observable == base.observable for item in found)
        met = same and bool(off < SHIFT_BAR_S or not base.observable)
        told = f"{1e3 * off:.2f} ms of 20" if base.observable else "no answer, shifted or not"
        bars.append((f"shifted stamps, {name}", told, met))
        print(table.add(name, base.summary().removeprefix("image time offset "), 1e3 * off), flush=True)
    return table.markdown(), bars


def settings(bag: Path) -> tuple[str, Bars]:
    """The drone video with other widths and rates of the flow: the best offset, answered or not."""
    columns = {"width px": "d", "rate Hz": "g", "offset s": "+.3f", "sigma s": ".3f", "answer": ""}
    table, found = Table.of(columns), []
    for width_px, rate_hz in SETTINGS:
        signals = measure(bag, ConvertConfig(), FlowConfig(width_px=width_px, max_rate_hz=rate_hz))
        flow, signal = signals.flow, signals.motion
        item = estimate_offset(flow, signal, AlignOptions(drift=False))
        found.append(item)
        answer = "yes" if item.observable else item.why
        print(table.add(width_px, rate_hz, item.offset_s, item.sigma_s, answer), flush=True)
    apart = [
        abs(a.offset_s - b.offset_s) / np.hypot(a.sigma_s, b.sigma_s) for i, a in enumerate(found) for b in found[:i]
    ]
    spread = np.ptp([item.offset_s for item in found])
    bar = ("drone video, other widths and rates", f"within {spread:.3f} s, {max(apart):.1f} sigma of 2", max(apart) < 2)
    return table.markdown(), [bar]


def windows(flow: FlowSignal, signal: MotionSignal) -> tuple[str, Bars]:
    """The drone video in all windows of 6 to 10 s, and whole: with the acceleration, with a part of it, and without."""
    seconds = (flow.stamps_ns - flow.stamps_ns[0]) / SECOND
    spans = [(0.0, float(seconds[-1]))]
    for length_s in LENGTHS_S:
        spans += [(float(b), float(b) + length_s) for b in np.arange(0.0, seconds[-1] - length_s + 1e-6, EVERY_S)]
    columns = {"window": "", "of the acceleration": ".0%", "offset s": "+.3f", "sigma s": ".3f", "confidence": ".2f"}
    table, told = Table.of(columns), []
    for begin, end in spans:
        part = flow.chosen((seconds >= begin) & (seconds <= end))
        found = estimate_offset(part, signal, AlignOptions(drift=False))
        share = max(0.0, ACCELERATED_S - begin) / ACCELERATED_S
        told.append((share, found))
        answer = found.offset_s if found.observable else f"not observable: {found.why}"
        table.add(f"{begin:g}..{end:.3g} s", share, answer, found.sigma_s, found.confidence)
    cruise = [found for share, found in told if share <= 0]
    bars = [
        ("drone video, all windows that answer", *_agree([found for _, found in told])),
        (
            "drone video, the cruise has no answer",
            f"{sum(not item.observable for item in cruise)} of {len(cruise)} windows",
            not any(item.observable for item in cruise),
        ),
    ]
    return table.markdown(), bars


def _agree(found: list[Alignment]) -> tuple[str, bool]:
    answers = [item for item in found if item.observable]
    spread = float(np.ptp([item.offset_s for item in answers])) if answers else 0.0
    worst = 2 * max((item.sigma_s for item in answers), default=0.0)
    return f"{len(answers)} of {len(found)} answer, within {spread:.3f} s", spread <= 2 * worst


def two_speeds(bag: Path, odometry: str, fix: str) -> str:
    """GPS speed against the speed of odometry of one vehicle: the same code, other signals."""
    speeds: dict[str, list[tuple[int, float]]] = {odometry: []}
    fixes = []
    with open_bag(bag) as reader:
        for topic, _, message in reader.messages([odometry, fix]):
            stamp_ns = decode.header_stamp_ns(message.header)
            if topic == fix and message.status.status >= 0:
                fixes.append(decode.fix_sample(message, stamp_ns))
            elif topic == odometry:
                speeds[odometry].append((stamp_ns, abs(message.twist.twist.linear.x)))
    gps = motion_from_fixes("GPS", fixes)
    at_ns = np.arange(gps.stamps_ns[0], gps.stamps_ns[-1], SECOND // 5)
    speed = np.linalg.norm(gps.velocity(at_ns, gps.smoothing_s)[:, :2], axis=1)
    stamps, values = zip(*speeds[odometry], strict=True)
    found = align_samples(Samples(np.array(stamps), np.array(values)), Samples(at_ns, speed))
    return found.summary().removeprefix("image time offset ")


def real_signals(data: Path) -> Iterator[tuple[str, tuple[FlowSignal, MotionSignal]]]:
    """Of the recordings with images and poses."""
    for name, path in (
        ("drone video", data / "karma_drone_video" / "karma_bag_sqlite3"),
        ("7-Scenes", data / "rgbd_7scenes_bag_sqlite3"),
    ):
        if path.exists():
            signals = measure(path, ConvertConfig())
            flow, signal = signals.flow, signals.motion
            yield name, (flow, signal)


def main() -> int:
    """Measure, print, write; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two flights, nothing written")
    parser.add_argument("--tuned", action="store_true", help="the flights of tuning instead, nothing written")
    parser.add_argument("--cache", type=Path, help="folder that keeps the flow of the flights")
    parser.add_argument("--real", type=Path, default=Path(os.environ.get("POSE2RGBD_REAL_DATA", "../shared/data")))
    options = parser.parse_args()
    began_s = time.monotonic()
    rng = np.random.default_rng(0)
    plans = dict(list((TUNED if options.tuned else FRESH).items())[: 2 if options.quick else None])
    flights = {}
    for name, plan in plans.items():
        flights[name] = record(plan, options.cache and options.cache / f"{name}.npz")
        print(f"flown: {name}, {time.monotonic() - began_s:.0f} s", flush=True)
    moving = {name: flight for name, flight in flights.items() if name not in STEADY}
    parts = {
        "Offsets of +-2 s, whole flights of 300 s": offsets(flights, 1, "flights", rng),
        "Offsets of +-2 s, windows of 100 s": offsets(flights, WINDOWS, "windows", rng),
        "Sigma against the truth, windows of 10 to 80 s": honesty(moving, np.random.default_rng(0)),
        "Drift, whole flights of 300 s": drifts(flights, rng),
    }
    simulated = {name: (flight.flow, flight.motions()["odometry"][0]) for name, flight in flights.items()}
    real = {} if options.tuned else dict(real_signals(options.real))
    parts["All image stamps shifted"] = shifts({**real, **simulated}, rng)
    if "drone video" in real:
        parts["The drone video by other settings of the flow"] = settings(
            options.real / "karma_drone_video" / "karma_bag_sqlite3"
        )
        parts["Windows of the drone video"] = windows(*real["drone video"])
    bags = options.real / "rosbags"
    if bags.exists() and not options.tuned:
        table = Table.of({"recording": "", "answer": ""})
        for name, odometry, fix in (
            ("husky_gps_odom_imu_ros1.bag", "/husky_velocity_controller/odom", "/fix"),
            ("uf_vehicle_gps_odom_ros2", "/odometry", "/gps"),
        ):
            table.add(name, two_speeds(bags / name, odometry, fix))
        parts["Two speeds of one vehicle"] = table.markdown(), []
    took_s = time.monotonic() - began_s
    text = report(parts, f"{took_s / 60:.0f} minutes{', flights from the cache' if options.cache else ''}")
    print(text)
    if not options.quick and not options.tuned:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text)
    return 0 if all(met for _, bars in parts.values() for _, _, met in bars) else 1


def report(parts: dict[str, tuple[str, Bars]], took: str) -> str:
    """The page: bars first, then the tables."""
    bars = Table.of({"bar": "", "measured": "", "": ""})
    for name, figure, met in (bar for _, found in parts.values() for bar in found):
        bars.add(name, figure, "met" if met else "NOT MET")
    body = "\n\n".join(f"## {title}\n\n{table}" for title, (table, _) in parts.items())
    return (
        "# Synchronisation by optical flow\n\n`python bench/sync_accuracy.py`: what is measured stands in its "
        "docstring. "
        f"Machine: {processor()}, {os.cpu_count()} cores; {took}.\n\n{bars.markdown()}\n\n{body}\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
