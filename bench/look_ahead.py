"""The paper's pipelining: N poses in one batch against one by one, and what looking ahead costs the live images.

    python bench/look_ahead.py                  # Base and relief, 256 pixels; writes bench/results/look_ahead.md
    python bench/look_ahead.py --models base-256 --seconds 5

Batches: frames per CPU second of render(N poses) over those of N calls, median of several runs in turn. Live: the
    render node, its worker and its messages in this process, fed with transforms at 50 Hz; latency from a transform's
    stamp to its depth image received, without and with a look-ahead of 16 poses. Weights are random: values do not
    change the time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rclpy
import tf2_ros
from nav_msgs.msg import Odometry
from pose2rgbd.msg import ClearanceProfile
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from render_node import flight, write_model
from sensor_msgs.msg import Image

from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.common.runner import use_fastdds_profile
from pose2rgbd_ros.nodes.render.node import RenderNode
from pose2rgbd_ros.obstacles.paths import ProfileBuilder, ProfileSettings, carried_on
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.reports.table import Table

RESULTS = Path(__file__).resolve().parent / "results" / "look_ahead.md"
MODELS = {
    "base-256": {"variant": "base", "output": "rgbd", "size": 256},
    "relief-256": {"network": "relief", "size": 256},
}
BATCH, RUNS, MARGIN = 16, 7, 0.1
LOOKS_DOWN = se3.look_at(np.zeros(3), np.array([0.0, 0.0, -1.0]))
TWIST = [3.0, 0.0, 0.0, 0.0, 0.0, 0.1]


def median_s(work: Callable[[], object], other: Callable[[], object]) -> tuple[float, float]:
    """Median CPU seconds of two jobs done in turn: they do not depend on who else uses the machine."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(RUNS):
        for job, taken in zip((work, other), seconds, strict=True):
            started = time.process_time()
            job()
            taken.append(time.process_time() - started)
    return float(np.median(seconds[0])), float(np.median(seconds[1]))


def batches(model: Path) -> tuple[float, ...]:
    """Frames/s of a batch and one by one, and milliseconds of the profile per pose."""
    renderer = Renderer(model, threads=1)
    T_map_body = flight()[0] @ se3.inverse(LOOKS_DOWN)
    path = carried_on(T_map_body, TWIST, 4.0, BATCH)
    T = path.T_map_body @ LOOKS_DOWN
    one_s, batch_s = median_s(lambda: [renderer.render(pose) for pose in T], lambda: renderer.render(T))
    depth = renderer.render(T).depth
    assert depth is not None
    bounds = depth * np.float32(1 - MARGIN), depth * np.float32(1 + MARGIN)

    def profile() -> None:
        ProfileBuilder(path, renderer.camera, LOOKS_DOWN, ProfileSettings()).add(*bounds, np.ones(BATCH, bool))

    profile_s, _ = median_s(profile, lambda: None)
    return BATCH / one_s, BATCH / batch_s, one_s / batch_s, 1e3 * profile_s / BATCH


class Drone(Node):
    """Sends transforms and a twist, and takes down when images and profiles arrive."""

    def __init__(self, context: rclpy.Context) -> None:
        super().__init__("drone", context=context)
        self.latencies_ms: list[float] = []
        self.profiles = 0
        self._poses, self._index = flight(), 0
        self._tf = tf2_ros.TransformBroadcaster(self)
        self._odometry = self.create_publisher(Odometry, "/render/odometry", 1)
        self.create_subscription(Image, "/render/depth/image", self._on_image, 5)
        self.create_subscription(ClearanceProfile, "/render/clearance", self._on_profile, 2)
        self.create_timer(0.02, self._send)

    def _send(self) -> None:
        now_ns = self.get_clock().now().nanoseconds
        T_map_cam = self._poses[self._index % len(self._poses)]
        self._index += 1
        T_map_body = T_map_cam @ se3.inverse(LOOKS_DOWN)
        frames = ((T_map_body, "map", "base_link"), (LOOKS_DOWN, "base_link", "camera_optical_frame"))
        self._tf.sendTransform([conversions.to_transform_stamped(T, now_ns, *names) for T, *names in frames])
        message = Odometry(child_frame_id="base_link")
        message.header.stamp = conversions.to_stamp(now_ns)
        message.twist.twist.linear.x, message.twist.twist.angular.z = TWIST[0], TWIST[5]
        self._odometry.publish(message)

    def _on_image(self, image: Image) -> None:
        now_ns = self.get_clock().now().nanoseconds
        self.latencies_ms.append((now_ns - conversions.stamp_ns(image.header.stamp)) / 1e6)

    def _on_profile(self, profile: ClearanceProfile) -> None:
        self.profiles += len(profile.poses) == BATCH


def live(model: Path, seconds: float, mode: str) -> tuple[list[float], float]:
    """Latencies in ms, and profiles a second, of a node at 15 Hz."""
    values = {"model": str(model), "threads": 1, "rate_hz": 15.0, "look_ahead.mode": mode,
              "look_ahead.uncalibrated_margin": MARGIN}  # fmt: skip
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    spinning: list[tuple[rclpy.Context, SingleThreadedExecutor, Node, threading.Thread]] = []

    def spin(make: Callable[[rclpy.Context], Node]) -> Node:
        context = rclpy.Context()
        rclpy.init(context=context)
        node, executor = make(context), SingleThreadedExecutor(context=context)
        executor.add_node(node)

        def run() -> None:
            with contextlib.suppress(ExternalShutdownException):
                executor.spin()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        spinning.append((context, executor, node, thread))
        return node

    drone = spin(Drone)
    spin(lambda context: RenderNode(context=context, parameter_overrides=overrides))
    end = time.monotonic() + 60
    while not (drone.latencies_ms and (mode == "none" or drone.profiles)) and time.monotonic() < end:
        time.sleep(0.1)
    drone.latencies_ms.clear()
    before = drone.profiles
    time.sleep(seconds)
    found, rate = list(drone.latencies_ms), (drone.profiles - before) / seconds
    for context, executor, node, thread in reversed(spinning):
        executor.shutdown()
        thread.join(5.0)
        node.destroy_node()
        rclpy.shutdown(context=context)
    return found, rate


def main() -> int:
    """Measure, print, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seconds", type=float, default=12.0)
    options = parser.parse_args()
    use_fastdds_profile()
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 99))
    load = os.getloadavg()[0]
    first = Table.of(
        {
            "model": "", "one by one, frames per CPU s": ".0f", f"batch of {BATCH}, frames per CPU s": ".0f",
            "ratio": ".2f",
            "profile, CPU ms per pose": ".1f",
        }
    )  # fmt: skip
    second = Table.of(
        {"model": "", "look-ahead": "", "live images/s": ".1f", "p50 ms": ".0f", "p95 ms": ".0f", "profiles/s": ".2f"}
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            model = Path(folder) / name
            write_model(model, MODELS[name])
            print(first.add(name, *batches(model)), flush=True)
            for mode in ("none", "twist"):
                latencies, rate = live(model, options.seconds, mode)
                p50, p95 = np.percentile(latencies, [50, 95]) if latencies else (np.nan, np.nan)
                shown = "off" if mode == "none" else f"{BATCH} poses, 2 Hz"
                row = second.add(name, shown, len(latencies) / options.seconds, p50, p95, rate)
                print(row, flush=True)
    text = "\n".join(
        [
            "# Look-ahead",
            "",
            f"`python bench/look_ahead.py`: one thread per network on {processor()}, "
            f"{os.cpu_count()} cores, load before {load:.1f}. Live: node, drone and worker in one process, 15 Hz "
            "asked for.",
            "",
            first.markdown(),
            "",
            second.markdown(),
            "",
        ]
    )
    print(text)
    if options.models == list(MODELS):
        RESULTS.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
