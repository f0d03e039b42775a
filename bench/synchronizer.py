"""What the synchroniser costs per second of stream, and what cubic interpolation gains over linear.

    python bench/synchronizer.py [--runs 5] [--bags BAG ...]

Cost: 30 Hz images and depth images, 200 Hz odometry, polled at every message; beside it, in the same run, a
synchroniser whose poses are a Trajectory made anew of the last 30 s for each image. Gain: poses of simulated flights
at 4 and 10 Hz, interpolated and compared with the flight itself, without noise and with 1 cm and 0.1 degrees of it;
and poses of recordings, of which every n-th is kept and the others are compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.geometry.trajectory import Method, Trajectory
from pose2rgbd_ros.poses.sources import PoseBuffer
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.streams.samples import PoseSample
from pose2rgbd_ros.streams.synchronizer import PoseAnswer, SyncConfig, Synchronizer

RESULTS = Path(__file__).resolve().parent / "results" / "synchronizer.md"
SECOND = 1_000_000_000
GAP_NS = SECOND // 2
STREAM_S = 60
FLIGHT_S = 120
Misses = dict[str, tuple[float, float, float, float]]


class RebuiltPoses:
    """The straightforward way: the last 30 s of poses, made into a trajectory whenever one is asked for."""

    def __init__(self) -> None:
        self._poses: deque[PoseSample] = deque(maxlen=6000)

    def add(self, pose: PoseSample) -> None:
        self._poses.append(pose)

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        if not self._poses or self._poses[-1].stamp_ns < stamp_ns:
            return PoseAnswer(None, "after_last_pose", wait=True)
        track, _ = Trajectory.from_unsorted(
            [pose.stamp_ns for pose in self._poses],
            [pose.position_m for pose in self._poses],
            [pose.quat_xyzw for pose in self._poses],
        )
        at = track.interpolate([stamp_ns], GAP_NS)
        return PoseAnswer(at.T[0] if at.valid[0] else None, at.reason[0])

    def jumped_back(self, stamp_ns: int) -> None:
        self._poses.clear()


def stream() -> list[tuple[int, str, PoseSample | None]]:
    """Stamps and kinds of a minute of messages, in order."""
    rng = np.random.default_rng(0)
    level = np.array([0.0, 0, 0, 1])
    events: list[tuple[int, str, PoseSample | None]] = []
    for kind, rate_hz in (("image", 30), ("depth", 30), ("pose", 200)):
        for i in range(STREAM_S * rate_hz):
            at_ns = SECOND + i * SECOND // rate_hz
            pose = PoseSample(at_ns, "map", "base_link", rng.normal(size=3), level) if kind == "pose" else None
            events.append((at_ns, kind, pose))
    return sorted(events, key=lambda event: event[0])


def cost_ms(make: Callable[[], PoseBuffer | RebuiltPoses], events: list[tuple[int, str, PoseSample | None]]) -> float:
    """CPU milliseconds per second of stream."""
    poses = make()
    sync = Synchronizer(poses, SyncConfig(with_depth=True))
    started = time.process_time()
    for at_ns, kind, pose in events:
        if pose is not None:
            poses.add(pose)
            sync.poll(at_ns)
        elif kind == "image":
            sync.add_image(at_ns, at_ns, None)
        else:
            sync.add_depth(at_ns, at_ns, None)
    spent_s = time.process_time() - started
    assert sync.counts["frame"] > 29 * STREAM_S
    return spent_s * 1000 / STREAM_S


def costs(runs: int) -> str:
    """The table of costs."""
    events = stream()
    makers: dict[str, Callable[[], PoseBuffer | RebuiltPoses]] = {
        "PoseBuffer, linear": lambda: PoseBuffer(GAP_NS),
        "PoseBuffer, cubic": lambda: PoseBuffer(GAP_NS, "cubic"),
        "a Trajectory made anew for each image": RebuiltPoses,
    }
    measured: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(runs):
        for name, make in makers.items():
            measured[name].append(cost_ms(make, events))
    medians = {name: statistics.median(values) for name, values in measured.items()}
    baseline = medians["a Trajectory made anew for each image"]
    per_message = 1000 * STREAM_S / len(events)
    table = Table.of(
        {
            "poses": "", "CPU ms per s of stream": ".2f", "% of a core": ".2f", "µs per message": ".1f",
            "times as fast": ".1f",
        }
    )  # fmt: skip
    for name, value in medians.items():
        table.add(name, value, value / 10, value * per_message, baseline / value)
    return table.markdown()


def misses(plan: str, rate_hz: int, noise_m: float) -> Misses:
    """Of a simulated flight whose poses are known `rate_hz` times a second."""
    flight, rng = make_flight(FlightConfig(plan=plan)), np.random.default_rng(0)
    t_s = np.arange(0, FLIGHT_S, 1 / rate_hz)
    position, quat = se3.split(flight.T_map_body(t_s))
    if noise_m:
        position = position + rng.normal(0, noise_m, position.shape)
        wobble = quaternions.from_euler_rpy(rng.normal(0, np.radians(0.1), (len(t_s), 3)))
        quat = quaternions.multiply(quat, wobble)
    track = Trajectory((t_s * SECOND).astype(np.int64), position, quat)
    asked_ns = np.sort(rng.integers(SECOND, (FLIGHT_S - 1) * SECOND, 3000))
    true_m, true_quat = se3.split(flight.T_map_body(asked_ns / SECOND))
    return compared(track, asked_ns, true_m, true_quat)


def compared(track: Trajectory, asked_ns: Int64, true_m: Float64, true_quat: Float64) -> Misses:
    """By method: median and 95 % quantile of the distance in mm and of the angle in degrees."""
    found: Misses = {}
    for method in get_args(Method):
        at = track.interpolate(asked_ns, SECOND, method)
        at_m, at_quat = se3.split(at.T[at.valid])
        off_mm = np.linalg.norm(at_m - true_m[at.valid], axis=1) * 1000
        off_deg = np.degrees(quaternions.angle_between_rad(at_quat, true_quat[at.valid]))
        found[method] = (*np.percentile(off_mm, [50, 95]), *np.percentile(off_deg, [50, 95]))
    return found


MISSES = {f"{method} {unit}": "s" for method in ("linear", "cubic") for unit in ("mm", "°")}


def cells(found: Misses) -> list[str]:
    """Of the columns `MISSES`."""
    return [text for a, b, c, d in found.values() for text in (f"{a:.2f} / {b:.2f}", f"{c:.4f} / {d:.4f}")]


def recorded(bag: Path, table: Table) -> None:
    """Add rows of the odometry in a bag, thinned out to about 4 and 10 Hz."""
    with open_bag(bag) as reader:
        topics = [name for name, topic in reader.topics.items() if topic.type == decode.ODOMETRY and topic.count > 60]
        for topic in topics:
            messages = [message for _, _, message in reader.messages([topic])]
            poses = [decode.pose_sample(it, decode.header_stamp_ns(it.header)) for it in messages]
            track, _ = Trajectory.from_recording(
                [pose.stamp_ns for pose in poses],
                np.stack([pose.position_m for pose in poses]),
                np.stack([pose.quat_xyzw for pose in poses]),
            )
            seconds = (track.stamps_ns[-1] - track.stamps_ns[0]) / SECOND
            for every in sorted({max(2, round(len(track) / seconds / wanted_hz)) for wanted_hz in (4, 10)})[::-1]:
                left = np.arange(len(track)) % every > 0
                thin = Trajectory(track.stamps_ns[~left], track.position_m[~left], track.quat_xyzw[~left])
                found = compared(thin, track.stamps_ns[left], track.position_m[left], track.quat_xyzw[left])
                table.add(f"{bag.stem} {topic}", f"{len(thin) / seconds:.1f} Hz", *cells(found))


def gains() -> str:
    """The table of accuracies."""
    table = Table.of({"flight": "", "poses": "", "noise": "", **MISSES})
    for plan in ("orbit", "survey", "walk"):
        for rate_hz in (4, 10):
            for noise_m in (0.0, 0.01):
                noise = "1 cm, 0.1°" if noise_m else "none"
                table.add(plan, f"{rate_hz} Hz", noise, *cells(misses(plan, rate_hz, noise_m)))
    return table.markdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="runs of which the median counts")
    parser.add_argument("--bags", type=Path, nargs="*", default=[], help="recordings with Odometry")
    arguments, on = parser.parse_args(), described()
    thinned = Table.of({"recording": "", "poses": "", **MISSES})
    for bag in arguments.bags:
        recorded(bag, thinned)
    text = "\n".join(
        [
            "# The synchroniser",
            "",
            f"`python bench/synchronizer.py`: median of {arguments.runs} runs, one thread; {on}.",
            "",
            "## Cost",
            "",
            f"30 Hz images and depth images and 200 Hz odometry, {STREAM_S} s; payloads are not touched.",
            "",
            costs(arguments.runs),
            "",
            "## Linear and cubic interpolation",
            "",
            "Distance and angle from the simulated flight, median / 95 % quantile.",
            "",
            gains(),
            "",
            "Recorded odometry, thinned out, against the poses left out.",
            "",
            thinned.markdown(),
            "",
        ]
    )
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
