"""Latency and rate from a transform to what an autopilot gets: player, renderer, avoid and subscriber as processes on
two cores.

    python bench/avoid_latency.py            # Base and relief, 256 x 256; each also in one process, at two rates
    python bench/avoid_latency.py --quick    # relief in four processes; exit status 1 when it misses 10 Hz or p95 100
    ms

The player interpolates a flight to 50 Hz on /tf; the camera looks ahead, 20 degrees down. Latency runs from the stamp
of the transform to the receipt of the message made of it, in the subscriber's process. Weights are random, but
calibrated against what they show, so that bounds, scan and distances are the usual work. Without px4_msgs,
ObstacleDistance is measured as the scan of
its 72 bins that MAVROS takes: the same numbers in another message. Writes bench/results/avoid_latency.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from render_node import MODELS, cpu_s, start, write_model

from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.evaluation.calibrate_depth import calibrate
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.reports.table import Table

RESULTS = Path(__file__).resolve().parent / "results" / "avoid_latency.md"
LEAST_HZ, LATENCY_MS, CORES = 10.0, 100.0, 2
NAMES = {"base": "base 256 rgbd", "relief": "relief 256 rgbd"}
TOPICS = ("scan", "mavros_scan", "points", "status")


def flight() -> np.ndarray:
    """A minute around the town's middle at 25 m, looking ahead: T_map_cam (600, 4, 4) at 10 Hz."""
    angle = np.linspace(0, 2 * np.pi, 600)
    eye = np.stack([80 * np.cos(angle), 80 * np.sin(angle), np.full_like(angle, 25.0)], axis=-1)
    ahead = np.stack([-np.sin(angle), np.cos(angle), np.full_like(angle, -np.tan(np.radians(20)))], axis=-1)
    return se3.look_at(eye, eye + ahead)


def write_models(folder: Path, kind: str) -> Path:
    """A calibrated checkpoint of the kind."""
    path = folder / kind
    write_model(path, MODELS[NAMES[kind]], flight()[::4])
    shown, rng = Renderer(path), np.random.default_rng(0)
    poses = flight()[2::24]
    poses[:, 2, 3] += 0.5  # frames that vouch for what lies between the training poses
    depth = shown.render(poses).depth
    assert depth is not None
    noisy = depth * (1 + 0.03 * rng.standard_normal(depth.shape, np.float32))
    black = np.zeros((*depth.shape[1:], 3), np.uint8)
    with DatasetWriter(folder / f"{kind}-seen", DatasetMeta(shown.camera, depth=DepthMeta(kind="metric"))) as writer:
        for index, T in enumerate(poses):
            writer.add(10**18 + index * 10**8, T, black, noisy[index])
    print(calibrate(path, folder / f"{kind}-seen").line(), file=sys.stderr)
    return path


def write_track(path: Path) -> None:
    """The flight with tiny black images, which are not played."""
    with DatasetWriter(path, DatasetMeta(Camera(16, 16, 16, 16, 7.5, 7.5))) as writer:
        for index, T in enumerate(flight()):
            writer.add(10**18 + index * 10**8, T, np.zeros((16, 16, 3), np.uint8), None)


def listen(seconds: float, summary: Path) -> None:
    """The subscriber: also says where the body is, since the player knows the camera alone."""
    import rclpy
    import tf2_ros
    from pose2rgbd.msg import ObstacleStatus
    from sensor_msgs.msg import LaserScan, PointCloud2

    from pose2rgbd_ros.nodes.common import conversions

    rclpy.init()
    node = rclpy.create_node("listener")
    T_body_cam = se3.look_at(np.zeros(3), np.array([1.0, 0.0, -np.tan(np.radians(20))]))
    broadcaster = tf2_ros.StaticTransformBroadcaster(node)
    broadcaster.sendTransform(
        conversions.to_transform_stamped(se3.inverse(T_body_cam), 0, "camera_optical_frame", "base_link")
    )
    received: dict[str, list[tuple[int, int]]] = {topic: [] for topic in TOPICS}
    said: list[tuple[int, float, float]] = []

    def take(topic: str) -> Callable[[Any], None]:
        def taken(message: Any) -> None:
            now_ns = node.get_clock().now().nanoseconds
            if topic == "status":
                said.append((message.state, message.latency_s, message.known))
            received[topic].append((now_ns, conversions.stamp_ns(message.header.stamp)))

        return taken

    kinds = {"scan": LaserScan, "mavros_scan": LaserScan, "points": PointCloud2, "status": ObstacleStatus}
    for topic in TOPICS:
        node.create_subscription(kinds[topic], f"/avoid/{topic}", take(topic), 10)
    begin = time.monotonic()
    while not received["scan"] and time.monotonic() - begin < 60:
        rclpy.spin_once(node, timeout_sec=0.1)
    settle = time.monotonic() + 3.0
    while time.monotonic() < settle:  # the first ones wait for compilers and discovery
        rclpy.spin_once(node, timeout_sec=0.1)
    for gathered in received.values():
        gathered.clear()
    said.clear()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)
    figures: dict[str, float] = {}
    for topic, pairs in received.items():
        now_ns, stamp_ns = np.array(pairs, np.int64).reshape(-1, 2).T
        latency_ms = (now_ns - stamp_ns) / 1e6
        figures[f"{topic}_hz"] = len(pairs) / seconds
        for share in (50, 95):
            figures[f"{topic}_p{share}_ms"] = float(np.percentile(latency_ms, share)) if pairs else float("nan")
    states, told_s, known = np.array(said).reshape(-1, 3).T
    figures["told_p95_ms"] = float(np.percentile(1e3 * told_s, 95)) if len(said) else float("nan")
    figures["ok_percent"] = float(100 * np.mean(states == ObstacleStatus.OK)) if len(said) else 0.0
    figures["known_percent"] = float(100 * np.nanmean(known)) if len(said) else 0.0
    summary.write_text(json.dumps(figures))
    node.destroy_node()
    rclpy.shutdown()


def processes(folder: Path, model: Path, together: bool, rate_hz: float) -> list[subprocess.Popen[bytes]]:
    """Renderer and avoid, in one process or two, then the player."""
    if together:
        parameters = ["-p", f"render:model:={model}", "-p", f"render:rate_hz:={rate_hz}"]
        working = [start("up", "render", "avoid", "--ros-args", *parameters)]
    else:
        working = [start("render", "--model", model, "--rate-hz", rate_hz), start("avoid")]
    return [*working, start("play", "--recording", folder / "track", "--loop", "--no-images")]


def measure(folder: Path, model: Path, together: bool, rate_hz: float, seconds: float) -> dict[str, float]:
    """Figures of one model."""
    summary = folder / "summary.json"
    summary.unlink(missing_ok=True)
    running = processes(folder, model, together, rate_hz)
    listener = subprocess.Popen([sys.executable, __file__, "--listen", str(seconds), str(summary)])
    try:
        time.sleep(15.0)
        before_s, began = [cpu_s(process) for process in running[:-1]], time.monotonic()
        time.sleep(seconds / 2)
        spent_s = sum(cpu_s(process) - was for process, was in zip(running[:-1], before_s, strict=True))
        cpu_percent = 100 * spent_s / (time.monotonic() - began)
        listener.wait(seconds + 90)
        figures: dict[str, float] = json.loads(summary.read_text())
        figures["cpu_percent"] = cpu_percent
    finally:
        for process in (*running, listener):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(20)
    return figures


def main() -> int:
    """Measure, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--models", nargs="*", choices=list(NAMES), default=list(NAMES))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rates", nargs="*", type=float, default=[20.0, 11.0], metavar="HZ")
    parser.add_argument("--listen", nargs=2, metavar=("SECONDS", "SUMMARY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.listen:
        listen(float(options.listen[0]), Path(options.listen[1]))
        return 0
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 99))
    table = Table.of(
        {
            "model": "", "processes": "", "asked Hz": "g", "Hz": ".1f", "scan p50 / p95 ms": "s", "72 bins": "s",
            "cloud": "s",
            "latency_s p95 ms": ".1f", "CPU %": ".0f", "known %": ".0f",
        }
    )  # fmt: skip
    print(table.markdown())
    good, load = True, os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_track(folder / "track")
        for kind in ["relief"] if options.quick else options.models:
            model = write_models(folder, kind)
            quick = [(False, LEAST_HZ + 1)]
            ways = quick if options.quick else itertools.product((False, True), options.rates)
            for together, rate_hz in ways:
                figures = measure(folder, model, together, rate_hz, options.seconds)
                line = table.add(
                    f"{kind} 256", "one" if together else "two", rate_hz, figures["scan_hz"],
                    *(f"{figures[f'{topic}_p50_ms']:.1f} / {figures[f'{topic}_p95_ms']:.1f}" for topic in TOPICS[:3]),
                    figures["told_p95_ms"], figures["cpu_percent"], figures["known_percent"],
                )  # fmt: skip
                print(line, flush=True)
                worst_ms = max(figures["scan_p95_ms"], figures["mavros_scan_p95_ms"])
                good &= figures["scan_hz"] >= LEAST_HZ and worst_ms < LATENCY_MS
    if not options.quick and options.models == list(NAMES):
        RESULTS.write_text(
            f"# From transform to distances\n\n`python bench/avoid_latency.py`: {CORES} cores of "
            f"{processor()}, load before {load:.1f}, "
            "TF at 50 Hz; player and subscriber are processes of their own, renderer and avoid two or one. CPU is "
            "that of "
            f"these two together.\n\n{table.markdown()}\n"
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
