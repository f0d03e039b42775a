"""How good GPS and odometry are, alone and fused, on simulated flights with the sensors' default faults.

    python bench/fusion.py [--seeds 2] [--plans lawnmower survey orbit] [--bag BAG ...] [--picture PNG]

Odometry alone begins at the true place; the converter's today is odometry moved, not turned, onto the GPS. The heading
of the odometry begins 140 degrees off where the table says "turned", as that of an estimator without a compass does.
All errors are of positions at the odometry's stamps against the flight itself; clocks differ as by default. With
--bag the fixes of a recording (ROS 1 or 2) are held out instead, one block of 10 s in five.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses.fusion_batch import fuse
from pose2rgbd_ros.poses.fusion_live import FixedLagFusion
from pose2rgbd_ros.poses.gps import FixLog
from pose2rgbd_ros.poses.settings import PoseSettings
from pose2rgbd_ros.poses.sources import PoseLog
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.sensors.config import SensorsConfig
from pose2rgbd_ros.sim.sensors.noise import GpsFix, OdometryReading
from pose2rgbd_ros.sim.sensors.suite import SensorSuite
from pose2rgbd_ros.sim.state import DATUM, true_seconds
from pose2rgbd_ros.streams.samples import FixSample, PoseSample

RESULTS = Path(__file__).resolve().parent / "results" / "fusion.md"
SECOND = 1_000_000_000
TURNED_RAD = np.radians(140.0)
SETTINGS = PoseSettings()
INDEPENDENT = PoseSettings(fix_wander_share=0.0)
_EVERY = 4  # of the live fusion every fourth pose is asked for: 5 Hz
Errors = dict[str, list[Float64]]


@dataclasses.dataclass(frozen=True, eq=False)
class Flown:
    """What was measured on a flight, in order of arrival, and the truth at the odometry's stamps."""

    odometry: Trajectory
    fixes: FixLog
    arrivals: list[tuple[int, PoseSample | FixSample]]
    T_map_body: Float64
    antenna_m: Float64


def fly(plan: str, seed: int, turned_rad: float) -> Flown:
    """A flight of at most ten minutes; odometry at 20 Hz, as its errors do not depend on the rate."""
    flight = make_flight(FlightConfig(plan=plan, seed=seed))
    config = SensorsConfig()
    config = dataclasses.replace(
        config,
        camera=dataclasses.replace(config.camera, rate_hz=0.1),
        odometry=dataclasses.replace(config.odometry, rate_hz=20.0),
        imu=dataclasses.replace(config.imu, rate_hz=1.0),
        barometer=dataclasses.replace(config.barometer, rate_hz=0.1),
    )
    suite = SensorSuite(config, DATUM, seed, flight.T_body_cam)
    turn = se3.make([0, 0, 0], quaternions.from_euler_rpy([0.0, 0.0, turned_rad]))
    log, poses, true_s, arrivals = FixLog(), PoseLog(), [], []
    for item in suite.advance(flight.state, min(600.0, flight.duration_s)):
        value = item.value
        if isinstance(value, GpsFix) and value.status >= 0:
            fix = FixSample(
                item.stamp_ns, "gps", value.latitude_deg, value.longitude_deg, value.altitude_m, value.covariance_m2
            )
            log.add(fix)
            arrivals.append((item.arrival_ns, fix))
        elif isinstance(value, OdometryReading):
            pose = PoseSample(item.stamp_ns, "odom", "base_link", *se3.split(turn @ value.T_odom_body))
            poses.add(pose)
            true_s.append(true_seconds(item.true_ns))
            arrivals.append((item.arrival_ns, pose))
    arrivals.sort(key=lambda arrival: arrival[0])
    antenna_m = np.asarray(config.gps.antenna_m)
    return Flown(poses.trajectory(), log, arrivals, flight.T_map_body(np.array(true_s)), antenna_m)


def measure(flown: Flown, errors: Errors, within: dict[str, list[Float64]]) -> tuple[float, float]:
    """Add the errors (N, 4) of each way: east, north, up (m) and heading (rad). Returns seconds: batch, live."""
    odometry, truth = flown.odometry, flown.T_map_body
    stamps = odometry.stamps_ns
    start = truth[0] @ se3.inverse(odometry.T[0])
    start[:3, :3] = np.eye(3)  # the place is known, the heading is what it is
    start[:3, 3] = truth[0, :3, 3] - odometry.position_m[0]
    errors["odometry alone"].append(_error(start @ odometry.T, truth))
    fixes = flown.fixes.track(DATUM)
    at = fixes.trajectory().interpolate(stamps, 2 * SECOND)
    gps = np.tile(np.eye(4), (len(stamps), 1, 1))
    gps[:, :3, 3] = at.T[:, :3, 3]
    errors["GPS alone"].append(_error(gps, truth)[at.valid] * [1, 1, 1, np.nan])
    errors["converter without fusion"].append(_error(_georeferenced(flown), truth))
    began = time.process_time()
    _fused("fused", SETTINGS, flown, errors, within)
    batch_s = time.process_time() - began
    _fused("fused, fixes taken as independent", INDEPENDENT, flown, errors, within)
    began = time.process_time()
    _live(flown, errors, within)
    return batch_s, time.process_time() - began


def _fused(name: str, settings: PoseSettings, flown: Flown, errors: Errors, within: dict[str, list[Float64]]) -> None:
    fused = fuse(flown.odometry, flown.fixes.track(DATUM), settings, flown.antenna_m)
    known = np.isin(flown.odometry.stamps_ns, fused.trajectory.stamps_ns)
    error = _error(fused.trajectory.T, flown.T_map_body[known])
    errors[name].append(error)
    sigma = np.column_stack([fused.position_sigma_m, fused.yaw_sigma_rad])
    nodes = np.isin(fused.trajectory.stamps_ns, fused.node_stamps_ns)
    within[name].append(np.abs(error[nodes]) < 2 * sigma)


def _georeferenced(flown: Flown) -> Float64:
    """Poses moved by the median of fix minus pose, as the converter does when they are east, north and up."""
    fixes = flown.fixes.track(DATUM)
    at = flown.odometry.interpolate(fixes.stamps_ns, SECOND // 2)
    T = flown.odometry.T.copy()
    T[:, :3, 3] += np.median((fixes.position_m - at.T[:, :3, 3])[at.valid], axis=0)
    return T


def _live(flown: Flown, errors: Errors, within: dict[str, list[Float64]]) -> None:
    """Each pose as soon as its answer waits no longer."""
    fusion, asked, found, honest = FixedLagFusion(SETTINGS, flown.antenna_m, DATUM), 0, [], []
    stamps = flown.odometry.stamps_ns.tolist()
    for _, sample in flown.arrivals:
        if isinstance(sample, FixSample):
            fusion.add_fix(sample)
            continue
        fusion.add_odometry(sample)
        while asked < len(stamps):
            answer = fusion.pose_at(stamps[asked])
            if answer.wait:
                break
            if answer.T is not None:
                error = _error(answer.T[None], flown.T_map_body[[asked]])[0]
                found.append(error)
                if asked % (50 * _EVERY) == 0:
                    position_m, yaw_rad = fusion.sigmas() or (np.full(3, np.nan), np.nan)
                    honest.append(np.abs(error) < 2 * np.append(position_m, yaw_rad))
            asked += _EVERY
    errors["fused live"].append(np.array(found))
    within["fused live"].append(np.array(honest))


def _error(T: Float64, truth: Float64) -> Float64:
    ahead, true_ahead = T[:, :2, 0] @ [1, 1j], truth[:, :2, 0] @ [1, 1j]
    return np.column_stack([T[:, :3, 3] - truth[:, :3, 3], np.angle(ahead * np.conj(true_ahead))])


def row(name: str, parts: list[Float64], within: list[Float64]) -> tuple[str | float | None, ...]:
    """Of the table."""
    error = np.vstack(parts)
    across = np.hypot(error[:, 0], error[:, 1])
    median, most = np.percentile(across, [50, 95])
    yaw = np.degrees(np.abs(error[:, 3]))
    heading = None if np.isnan(yaw).all() else np.median(yaw)
    told = np.vstack(within).mean(axis=0) if within else None
    share = None if told is None else ", ".join(f"{100 * part:.0f}" for part in (told[:2].mean(), told[2], told[3]))
    return name, median, most, np.median(np.abs(error[:, 2])), heading, share


def bag_row(bag: Path) -> tuple[str | float, ...]:
    """Held-out fixes of a recording: fused, and with the odometry turned and moved as a whole."""
    poses, log = PoseLog(), FixLog()
    with open_bag(bag) as reader:
        kinds = {info.type: topic for topic, info in reader.topics.items()}
        fix, odom = kinds[decode.NAV_SAT_FIX], kinds[decode.ODOMETRY]
        for topic, _, message in reader.messages([fix, odom]):
            stamp_ns = decode.header_stamp_ns(message.header)
            if topic == fix and message.status.status >= 0:
                log.add(decode.fix_sample(message, stamp_ns))
            elif topic == odom:
                poses.add(decode.pose_sample(message, stamp_ns))
    odometry, fixes = poses.trajectory(), log.track()
    try:
        told = fuse(odometry, fixes, SETTINGS).accuracy
    except UserError as error:
        return bag.name, str(error), "", ""
    rigid_m = _rigid_residual_m(odometry, fixes.stamps_ns, fixes.position_m)
    drift = f"the odometry found to drift {told.odometry_factor:g} times as much as by default"
    return bag.name, told.held_out_horizontal_m, rigid_m, f"{told.horizontal_sigma_m:.2f}, {drift}"


def _rigid_residual_m(odometry: Trajectory, stamps_ns: np.ndarray, fix_m: Float64) -> float:
    """Median distance of the fixes from the odometry turned and moved as a whole (least absolute distances)."""
    at = odometry.interpolate(stamps_ns, SECOND)
    o, g = at.T[at.valid, :2, 3] @ [1, 1j], fix_m[at.valid, :2] @ [1, 1j]
    w = np.ones(len(o))
    for _ in range(50):
        mean_o, mean_g = np.average(o, weights=w), np.average(g, weights=w)
        turned = np.sum(w * np.conj(o - mean_o) * (g - mean_g))
        off = np.abs(turned / abs(turned) * (o - mean_o) + mean_g - g)
        w = 1 / np.maximum(off, 0.1)
    return float(np.median(off))


def draw(flown: Flown, path: Path) -> None:
    """Both tracks as measured, and the errors across over time."""
    fixes = flown.fixes.track(DATUM)
    fused = fuse(flown.odometry, fixes, SETTINGS, flown.antenna_m)
    known = np.isin(flown.odometry.stamps_ns, fused.trajectory.stamps_ns)
    truth_m = flown.T_map_body[:, :3, 3]
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    map_axes, error_axes = figure.subplots(1, 2, width_ratios=(1, 1.3))
    map_axes.plot(*fixes.position_m[:, :2].T, ".", color="0.7", markersize=2, label="GPS fixes")
    map_axes.plot(*flown.odometry.position_m[:, :2].T, color="tab:orange", label="odometry")
    map_axes.plot(*fused.trajectory.position_m[:, :2].T, color="tab:blue", label="fused")
    map_axes.plot(*truth_m[:, :2].T, "k--", linewidth=0.8, label="truth")
    map_axes.set(aspect="equal", xlabel="east, m", ylabel="north, m")
    minutes = (flown.odometry.stamps_ns - flown.odometry.stamps_ns[0]) / 60e9
    at = fixes.trajectory().interpolate(flown.odometry.stamps_ns, 2 * SECOND).T[:, :3, 3]
    off = np.hypot(*(at - truth_m)[:, :2].T)
    error_axes.plot(minutes, off, color="0.75", linewidth=0.8, label="GPS")
    off = np.hypot(*(fused.trajectory.position_m - truth_m[known])[:, :2].T)
    error_axes.plot(minutes[known], off, color="tab:blue", label="fused")
    node = (fused.node_stamps_ns - flown.odometry.stamps_ns[0]) / 60e9
    two_sigma = 2 * np.hypot(*fused.position_sigma_m[:, :2].T)
    error_axes.fill_between(node, 0, two_sigma, color="tab:blue", alpha=0.15, label="two sigma, as reported")
    error_axes.set(xlabel="minutes", ylabel="error across, m", ylim=(0, 4))
    for axes in (map_axes, error_axes):
        axes.legend(loc="upper right", fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Fly, measure, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--plans", nargs="+", default=["lawnmower", "survey", "orbit"])
    parser.add_argument("--bag", type=Path, nargs="*", default=[])
    parser.add_argument("--picture", type=Path, help="only draw a survey with turned odometry, as a PNG")
    options = parser.parse_args()
    if options.picture:
        draw(fly("survey", 3, TURNED_RAD), options.picture)
        return
    lines = [
        "# GPS and odometry, alone and fused\n",
        f"`python bench/fusion.py --seeds {options.seeds} --plans {' '.join(options.plans)}`: flights of at most ten "
        "minutes, default faults of all sensors (GPS: 0.25 m of noise, 0.8 m that wander over 60 s, outliers, outages; "
        f"odometry: drifting heading, scale and place). {os.cpu_count()} cores of {processor()}.\n",
        "Metres, medians and 95 % over all moments of all flights. Within two sigma: share of the errors across, up, "
        "and of "
        "heading, in %; 95 would be exact.\n",
    ]
    for title, turned_rad in (("The odometry begins facing east", 0.0), ("... 140 degrees turned", TURNED_RAD)):
        errors: Errors = defaultdict(list)
        within: dict[str, list[Float64]] = defaultdict(list)
        seconds = []
        for plan in options.plans:
            for seed in range(1, options.seeds + 1):
                seconds.append(measure(fly(plan, seed, turned_rad), errors, within))
        lines.append(f"## {title}\n")
        measured = ("across, median", "95 %", "up, median", "heading, deg")
        table = Table.of({"": "", **dict.fromkeys(measured, ".2f"), "within two sigma": "s"})
        for name, parts in errors.items():
            table.add(*row(name, parts, within.get(name, [])))
        lines.append(table.markdown())
        batch_s, live_s = np.median(seconds, axis=0)
        lines.append(f"\nCPU for a flight, median: {batch_s:.1f} s fused, {live_s:.1f} s live.\n")
    if options.bag:
        lines.append("## Recordings: median distance of held-out fixes, m\n")
        rigid = "odometry turned and moved as a whole"
        table = Table.of({"recording": "", "fused": ".2f", rigid: ".2f", "sigma by its own account": ""})
        for bag in options.bag:
            table.add(*bag_row(bag))
        lines.append(table.markdown())
    text = "\n".join(lines)
    print(text)
    RESULTS.write_text(text.rstrip() + "\n")


if __name__ == "__main__":
    main()
