"""Rate, delivery and real-time factor of the sim node: node and subscriber as two processes on two cores.

    python bench/sim_node.py            # 512x512 RGB + depth at 20 Hz for 30 s, then other loads for 10 s each
    python bench/sim_node.py --quick    # the first for 10 s; exit status 1 when it misses 20 Hz, 100 %, factor 0.98

Rate and delivery are of the image stamps: what should have been exposed between the first and the last image against
what came. The factor is simulated time, by /clock, over the wall's. Writes bench/results/sim_node.md.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rclpy
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.nodes.common.conversions import stamp_ns
from pose2rgbd_ros.nodes.common.runner import use_fastdds_profile
from pose2rgbd_ros.reports.table import Column, Table

RESULTS = Path(__file__).resolve().parent / "results" / "sim_node.md"
CORES = 2
START_LIMIT_S = 60.0
SETTLE_S = 4.0  # the first seconds are not measured
IMAGES = ("camera/image", "camera/depth/image")
LOADS: dict[str, tuple[float, Sequence[str]]] = {
    "512x512 at 20 Hz": (20.0, ()),
    "512x512 at 30 Hz": (30.0, ()),
    "512x512 at 20 Hz, 60 cars, 100 people": (20.0, ("--city.cars", "60", "--city.people", "100")),
    "854x854 at 20 Hz": (20.0, ("--width", "854", "--height", "854")),
    "512x512 at 20 Hz, 2x2 samples": (20.0, ("--supersample", "2")),
    "256x256 at 20 Hz, as fast as it can": (20.0, ("--width", "256", "--height", "256", "--real-time-factor", "0")),
}
COLUMNS = (
    Column("images"),
    Column("rate_hz", "rate Hz, by the wall", ".1f"),
    Column("rgb_delivered", "RGB delivered %", ".1f"),
    Column("depth_delivered", "depth delivered %", ".1f"),
    Column("factor", "real-time factor", ".2f"),
    Column("cpu_percent", "CPU of the node %", ".0f"),
    Column("subscriber_cpu_percent", "of the subscriber %", ".0f"),
)


@dataclass
class Received:
    """What the subscriber got since the measurement began."""

    images: dict[str, list[int]] = field(default_factory=lambda: {topic: [] for topic in IMAGES})
    clock: list[tuple[float, int]] = field(default_factory=list)  # wall in s, simulated in ns


class Subscriber(Node):
    """Takes colour, depth and time; stamps alone are kept."""

    def __init__(self) -> None:
        super().__init__("bench")
        self.got = Received()
        for topic in IMAGES:
            self.create_subscription(Image, topic, lambda message, topic=topic: self._take(message, topic), 10)
        self.create_subscription(Clock, "/clock", self._tick, 100)

    def _take(self, message: Image, topic: str) -> None:
        self.got.images[topic].append(stamp_ns(message.header.stamp))

    def _tick(self, message: Clock) -> None:
        self.got.clock.append((time.monotonic(), stamp_ns(message.clock)))


def cpu_s(pid: int) -> float:
    """CPU seconds a running process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spin(node: Subscriber, seconds: float) -> None:
    """Take messages for a while."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)


def measure(load: str, seconds: float) -> dict[str, float]:
    """Figures of one load."""
    rate_hz, arguments = LOADS[load]
    command = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "sim", "live", "--no-faults"]
    command += ["--camera.rate-hz", str(rate_hz), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    rclpy.init()
    node = Subscriber()
    try:
        end = time.monotonic() + START_LIMIT_S
        while not all(node.got.images.values()):
            spin(node, 0.2)
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{load}: the sim node published no images")
        spin(node, SETTLE_S)
        node.got = Received()
        before_s, own_s, began = cpu_s(process.pid), time.process_time(), time.monotonic()
        spin(node, seconds)
        took = time.monotonic() - began
        return {
            **figures(node.got, rate_hz),
            "cpu_percent": 100 * (cpu_s(process.pid) - before_s) / took,
            "subscriber_cpu_percent": 100 * (time.process_time() - own_s) / took,
        }
    finally:
        node.destroy_node()
        rclpy.shutdown()
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(20)


def figures(got: Received, rate_hz: float) -> dict[str, float]:
    """Rates and delivery from what came."""
    (first_wall, first_ns), (last_wall, last_ns) = got.clock[0], got.clock[-1]
    factor = (last_ns - first_ns) / 1e9 / (last_wall - first_wall)
    delivered = {}
    for topic, stamps in got.images.items():
        span_s = (max(stamps) - min(stamps)) / 1e9
        delivered[topic] = 100 * (len(set(stamps)) - 1) / (span_s * rate_hz)
    colour = got.images[IMAGES[0]]
    return {
        "rate_hz": (len(colour) - 1) / ((max(colour) - min(colour)) / 1e9) * factor,
        "rgb_delivered": delivered[IMAGES[0]],
        "depth_delivered": delivered[IMAGES[1]],
        "factor": factor,
        "clock_hz": 1e9 / float(np.median(np.diff([at for _, at in got.clock]))),
    }


def main() -> int:
    """Measure, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 99))
    use_fastdds_profile()
    load_before = os.getloadavg()[0]
    table = Table(COLUMNS)
    print(table.markdown())
    measured: list[dict[str, float]] = []
    for load in LOADS if not options.quick else [next(iter(LOADS))]:
        measured.append(measure(load, 30.0 if not measured and not options.quick else 10.0))
        print(table.add(load, *(measured[-1][column.key] for column in COLUMNS[1:])), flush=True)
    if not options.quick:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(
            f"# Sim node\n\n`python bench/sim_node.py`: {CORES} cores of {processor()}, "
            f"load before {load_before:.1f}; the paper's flight, all sensors without faults; node and "
            "subscriber of RGB, depth and time are processes of their own. CPU: 100 % is one core.\n\n"
            f"{table.markdown()}\n"
        )
    first = measured[0]
    delivered = min(first["rgb_delivered"], first["depth_delivered"])
    return 0 if first["rate_hz"] > 0.98 * 20 and delivered > 99.9 and first["factor"] > 0.98 else 1


if __name__ == "__main__":
    sys.exit(main())
