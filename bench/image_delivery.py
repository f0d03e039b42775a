"""What share of images reaches a subscriber in another process, with and without config/fastdds.xml.

    python bench/image_delivery.py [--seconds 8] [--rate 30]

Publishes RGB + depth of 512x512 and RGB of 1920x1080, reliable and best effort, between two processes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.reports.table import Table

REPOSITORY = Path(__file__).resolve().parents[1]
PROFILE = REPOSITORY / "config" / "fastdds.xml"
RESULTS = REPOSITORY / "bench" / "results" / "image_delivery.md"
START_S = 120.0  # in which the other process will have started, on a machine that does other things too
CASES = {"512x512 RGB + depth": (512, 512, ("rgb8", "32FC1")), "1920x1080 RGB": (1920, 1080, ("rgb8",))}


def publish(width: int, height: int, encodings: list[str], rate_hz: float, seconds: float, subscribers: int) -> None:
    """Publish at a steady pace once so many subscribers are there; print how many images left, and the processor's
    seconds for them."""
    import rclpy
    from sensor_msgs.msg import Image

    from pose2rgbd_ros.nodes.common.conversions import ImageBuffer

    rclpy.init()
    node = rclpy.create_node("publisher")
    outputs = [
        (node.create_publisher(Image, f"image_{name}", 10), ImageBuffer(width, height, name)) for name in encodings
    ]
    while any(publisher.get_subscription_count() < subscribers for publisher, _ in outputs):
        time.sleep(0.05)
    time.sleep(0.5)
    start, begun_s = time.monotonic(), time.process_time()
    total = int(rate_hz * seconds)
    for index in range(total):
        time.sleep(max(0.0, start + index / rate_hz - time.monotonic()))
        now = time.time_ns()
        for publisher, buffer in outputs:
            publisher.publish(buffer.fill(buffer.pixels, now, str(index)))
    print(total * len(outputs), time.process_time() - begun_s, flush=True)
    time.sleep(2.0)  # what is still on its way


def subscribe(encodings: list[str], reliable: bool, seconds: float) -> None:
    """Print how many images came, their latencies, and the processor's seconds for them."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    from pose2rgbd_ros.nodes.common.conversions import stamp_ns

    rclpy.init()
    node = rclpy.create_node("subscriber")
    reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    latencies_ms: list[float] = []

    def receive(message: Image) -> None:
        latencies_ms.append((time.time_ns() - stamp_ns(message.header.stamp)) / 1e6)

    qos = QoSProfile(depth=5, reliability=reliability)
    for name in encodings:
        node.create_subscription(Image, f"image_{name}", receive, qos)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    deadline = time.monotonic() + seconds + START_S
    last, begun_s = time.monotonic(), 0.0
    while time.monotonic() < deadline and (not latencies_ms or time.monotonic() - last < 1.5):
        before = len(latencies_ms)
        executor.spin_once(timeout_sec=0.1)
        begun_s = begun_s if before else time.process_time()  # discovery is no part of it
        last = time.monotonic() if len(latencies_ms) > before or not latencies_ms else last
    p50, p95 = np.percentile(latencies_ms, [50, 95]) if latencies_ms else (np.nan, np.nan)
    print(len(latencies_ms), p50, p95, time.process_time() - begun_s, flush=True)


def run(
    case: str, reliable: bool, profile: Path | None, rate_hz: float, seconds: float, domain: int, subscribers: int = 1
) -> tuple[list[float], list[list[float]]]:
    """What the publisher prints, and each of the subscribers, all in processes of their own."""
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
    environment.pop("FASTRTPS_DEFAULT_PROFILES_FILE", None)
    if profile:
        environment["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(profile)
    role = [sys.executable, __file__, "--case", case, "--rate", str(rate_hz), "--seconds", str(seconds)]
    role += ["--subscribers", str(subscribers), *(["--reliable"] if reliable else [])]
    begun = [
        subprocess.Popen([*role, "--role", name], env=environment, stdout=subprocess.PIPE, text=True)
        for name in (*["subscribe"] * subscribers, "publish")
    ]
    said = [[float(word) for word in each.communicate(timeout=seconds + 2 * START_S)[0].split()] for each in begun]
    return said[-1], said[:-1]


def measure(
    case: str, reliable: bool, profile: Path | None, rate_hz: float, seconds: float, domain: int
) -> tuple[float, float, float]:
    """Delivered percent, and median and 95 % quantile of the latency in ms."""
    (sent, _), [(received, p50_ms, p95_ms, _)] = run(case, reliable, profile, rate_hz, seconds, domain)
    return 100 * received / sent, p50_ms, p95_ms


def main() -> None:
    """Measure all combinations, or act as one of the two processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rate", type=float, default=30.0)
    parser.add_argument("--profile", type=Path, default=PROFILE)
    parser.add_argument("--role", choices=("all", "publish", "subscribe"), default="all")
    parser.add_argument("--case", choices=CASES, default=next(iter(CASES)))
    parser.add_argument("--subscribers", type=int, default=1, help="that a publisher waits for")
    parser.add_argument("--reliable", action="store_true")
    options = parser.parse_args()
    width, height, encodings = CASES[options.case]
    on = described()
    if options.role == "publish":
        return publish(width, height, list(encodings), options.rate, options.seconds, options.subscribers)
    if options.role == "subscribe":
        return subscribe(list(encodings), options.reliable, options.seconds)
    said, measured = ("images", "subscriber", "profile"), ("delivered %", "p50 ms", "p95 ms")
    table = Table.of({**dict.fromkeys(said, ""), **dict.fromkeys(measured, ".1f")})
    print(table.markdown())
    for number, (case, reliable, profile) in enumerate(
        (case, reliable, profile) for case in CASES for reliable in (True, False) for profile in (None, options.profile)
    ):
        figures = measure(case, reliable, profile, options.rate, options.seconds, 60 + number)
        subscriber = "reliable" if reliable else "best effort"
        name = profile.name if profile else "Fast DDS default"
        print(table.add(case, subscriber, name, *figures), flush=True)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(
        f"# Images between two processes\n\n`python bench/image_delivery.py`: {options.rate:g} Hz for "
        f"{options.seconds:g} s, publisher reliable with depth 10; {on}.\n\n{table.markdown()}\n"
    )


if __name__ == "__main__":
    main()
