"""Metres of relative tracks on simulated flights: the error of the scale, and how often the stated interval holds it.

    python bench/metric_scale.py                                # 30 flights of 80 s, white noise of GPS and wander
    python bench/metric_scale.py --flights 100 --seed 5000

Positions are off by 1 m along the ground (1.5 m in height), every second flight also by an error that wanders (0.7 m,
30 s). Steps of the track err in scale (2 % each, a walk of 3 % over 10 s) and in heading (1 degree each, and 1 degree
over 10 s). Figures go to bench/results/metric_scale.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.depth_from_images.metric_scale import ScaleUnknown, metric_scale
from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.make import make_flight

RESULT = Path(__file__).parent / "results" / "metric_scale.md"
PLANS = ("survey", "walk", "orbit", "street", "lawnmower")
RATE_HZ, SECONDS = 5.0, 80.0
STILL = ("hovering", "turning")


def turned(rng: np.random.Generator, degrees: float, count: int) -> Float64:
    """Small random rotations (count, 3, 3)."""
    return np.asarray(Rotation.from_rotvec(np.deg2rad(degrees) * rng.standard_normal((count, 3))).as_matrix())


def wandering(rng: np.random.Generator, count: int, lasts_s: float) -> Float64:
    """A Gauss-Markov process (count, 3) of unit variance."""
    keep, found = np.exp(-1 / RATE_HZ / lasts_s), rng.standard_normal((count, 3))
    for i in range(1, count):
        found[i] = keep * found[i - 1] + np.sqrt(1 - keep**2) * found[i]
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flights", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    city = City(CityConfig())
    rows, refused = list[tuple[float, float, float]](), dict.fromkeys(STILL, 0)
    t = np.arange(0, SECONDS, 1 / RATE_HZ)
    n = len(t) - 1
    for number in range(options.flights + 10):
        kind = PLANS[number % 5] if number < options.flights else STILL[number % 2]
        rng = np.random.default_rng(options.seed + number)
        if kind in STILL:
            T = np.tile(np.eye(4), (len(t), 1, 1))
            T[:, :3, :3] = Rotation.from_euler("y", (t / 20)[:, None]).as_matrix()
            T[:, :3, 3] = (0.3 if kind == "hovering" else 0.0) * wandering(rng, len(t), 10.0)
        else:
            flight = make_flight(FlightConfig(plan=kind, seed=options.seed + number), city)
            T = flight.T_map_cam(rng.uniform(0, max(0.0, flight.duration_s - SECONDS - 1)) + t)
        wander = 0.7 * (number % 2) * wandering(rng, len(t), 30.0)
        recorded = T.copy()
        recorded[:, :3, 3] += (rng.standard_normal((len(t), 3)) + wander) * (1, 1, 1.5)
        recorded[:, :3, :3] = T[:, :3, :3] @ turned(rng, 1.0, len(t))
        log_scale = 0.02 * rng.standard_normal(n) + np.cumsum(0.03 * np.sqrt(0.1 / RATE_HZ) * rng.standard_normal(n))
        step = se3.inverse(T[:-1]) @ T[1:]
        step[:, :3, 3] *= np.exp(-log_scale)[:, None]
        step[:, :3, 3] = (turned(rng, 1.0, n) @ step[:, :3, 3, None])[:, :, 0]
        step[:, :3, :3] = step[:, :3, :3] @ turned(rng, np.sqrt(0.1 / RATE_HZ), n)
        track = [np.eye(4)]
        for each in step:
            track.append(track[-1] @ each)
        truth = float(np.exp(log_scale.mean()))
        try:
            found = metric_scale(np.stack(track), recorded, (t * 1e9).astype(np.int64))
        except ScaleUnknown as error:
            print(number, kind, "refused:", error, flush=True)
            if kind in STILL:
                refused[kind] += 1
            continue
        print(number, kind, f"{100 * (found.metres_per_unit / truth - 1):+.2f} %", found.summary(), flush=True)
        if kind not in STILL:
            rows.append((found.metres_per_unit / truth, found.low / truth, found.high / truth))
    middle, low, high = np.array(rows).T
    holds = (low <= 1) & (high >= 1)
    error = 100 * np.abs(middle - 1)
    text = (
        f"{len(rows)} of {options.flights} flights have a scale: error {np.median(error):.2f} % (median), "
        f"{error.max():.2f} % (largest); the 90 % interval holds in {holds.sum()} ({holds.mean():.0%}), half of it is "
        f"{50 * np.median(high - low):.2f} % (median).\nRefused: "
        + ", ".join(f"{count} of 5 {kind}" for kind, count in refused.items())
        + "."
    )
    print(text)
    RESULT.write_text(
        f"# Metres of relative tracks\n\n`python bench/metric_scale.py --flights {options.flights} --seed "
        f"{options.seed}` "
        f"on {described()}\n\n{text}\n\n![estimated over true scale, with its interval](metric_scale.png)\n"
    )
    figure = Figure(figsize=(9, 3.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.errorbar(range(len(rows)), middle, yerr=(middle - low, high - middle), fmt="o", markersize=4, capsize=2)
    axes.axhline(1, color="black", linewidth=1)
    axes.set(xlabel="flight", ylabel="estimated / true scale")
    figure.savefig(RESULT.with_suffix(".png"))


if __name__ == "__main__":
    main()
