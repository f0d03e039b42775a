"""Rate and latency of the localize node, regression alone: camera, node and subscriber as three processes on two cores.

    python bench/localize_node.py            # PoseGAN at 128 px, full width, 20 s at 30 Hz; then PoseNet, and a
    narrow one python bench/localize_node.py --quick    # the first for 8 s; exit status 1 when it misses 30 Hz or 100
    ms (p95)

The narrow network of 32 px costs next to nothing: its row is what messages, threads and the machine's load take.
    Latency runs from the image's stamp to the receipt of its pose; regression is all that the node does to an image.
    "stolen" is the share of the cores that the host of a virtual machine gave to others meanwhile: a row is worth
    something where that is small. Weights
are random: values do not change the time. Writes bench/results/localize_node.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from render_node import cpu_s, flight

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.training.checkpoint import Checkpoint, save_checkpoint
from pose2rgbd_ros.training.families import architecture_of, build_model

RESULTS = Path(__file__).resolve().parent / "results" / "localize_node.md"
RATE_HZ, LATENCY_MS, CORES = 30.0, 100.0, 2
START_S, SETTLE_S = 90.0, 2.0  # the first pose comes by then; after that it runs in
CAMERA = Camera.from_fov(640, 480, 90.0)  # images as a camera sends them; the query is resampled in the node
MODELS: dict[str, dict[str, Any]] = {
    "posegan 128, full width": {"network": "posegan", "size": 128},
    "posenet 128, full width": {"network": "posenet", "size": 128},
    "posenet 32, narrow": {"network": "posenet", "size": 32, "width": 0.125},
}
COLUMNS = ("rate Hz", "answered %", "p50 ms", "p95 ms", "regression p50 ms", "CPU of the node %", "stolen %")


def write_model(path: Path, architecture: dict[str, Any]) -> None:
    """A network with random weights, as training on the flight would leave it."""
    torch.manual_seed(0)
    model, T = build_model(architecture), flight()
    side = architecture["size"]
    save_checkpoint(
        path,
        Checkpoint(
            architecture=architecture_of(model),
            normalization=Normalization.fit(T, None, "quaternion"),
            camera=Camera.from_fov(side, side, 70.0),
            map_frame="map",
            camera_frame="camera_optical_frame",
            depth_kind=None,
            state_dict=model.state_dict(),
            training_stamps_ns=np.arange(len(T)) * 10**8,
            training_T_map_cam=T,
        ),
    )


def send_images() -> None:
    """In a process of its own: noise with structure, at 30 Hz, until it is killed."""
    import rclpy
    from sensor_msgs.msg import CameraInfo, Image

    from pose2rgbd_ros.nodes.common import conversions
    from pose2rgbd_ros.nodes.common.runner import use_fastdds_profile

    use_fastdds_profile()
    rclpy.init()
    node = rclpy.create_node("camera")
    images, infos = (node.create_publisher(Image, "image", 5), node.create_publisher(CameraInfo, "camera_info", 5))
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (8, CAMERA.height // 8, CAMERA.width // 8, 3), np.uint8)
    pictures = [np.repeat(np.repeat(item, 8, 0), 8, 1) for item in coarse]
    buffer = conversions.ImageBuffer(CAMERA.width, CAMERA.height, "rgb8")
    info, due, count = conversions.camera_to_info(CAMERA), time.monotonic(), 0
    while True:
        stamp_ns = node.get_clock().now().nanoseconds
        info.header.stamp, info.header.frame_id = conversions.to_stamp(stamp_ns), "camera"
        infos.publish(info)
        images.publish(buffer.fill(pictures[count % 8], stamp_ns, "camera"))
        count, due = count + 1, due + 1 / RATE_HZ
        time.sleep(max(0.0, due - time.monotonic()))


def receive(seconds: float) -> dict[str, float]:
    """What arrives in `seconds`: rate, latency, share of the images that a pose was found for."""
    import rclpy
    from geometry_msgs.msg import PoseWithCovarianceStamped
    from pose2rgbd.msg import LocalizationStatus

    from pose2rgbd_ros.nodes.common import conversions
    from pose2rgbd_ros.nodes.common.runner import use_fastdds_profile

    use_fastdds_profile()
    rclpy.init()
    node = rclpy.create_node("subscriber")
    latency_ms: list[float] = []
    statuses: list[LocalizationStatus] = []

    def take(message: PoseWithCovarianceStamped) -> None:
        latency_ms.append((node.get_clock().now().nanoseconds - conversions.stamp_ns(message.header.stamp)) / 1e6)

    node.create_subscription(PoseWithCovarianceStamped, "/localize/pose", take, 100)
    node.create_subscription(LocalizationStatus, "/localize/status", statuses.append, 100)
    for condition_s in (START_S, SETTLE_S, seconds):  # loading and the first images are not part of it
        latency_ms.clear()
        statuses.clear()
        end = time.monotonic() + condition_s
        while time.monotonic() < end and not (condition_s == START_S and latency_ms):
            rclpy.spin_once(node, timeout_sec=0.1)
    rclpy.shutdown()
    if len(statuses) < 2 or not latency_ms:
        return {}
    located = statuses[-1].images_located - statuses[0].images_located
    skipped = statuses[-1].images_skipped - statuses[0].images_skipped
    return {
        "rate Hz": len(latency_ms) / seconds,
        "answered %": 100 * located / max(located + skipped, 1),
        "p50 ms": float(np.percentile(latency_ms, 50)),
        "p95 ms": float(np.percentile(latency_ms, 95)),
        "regression p50 ms": float(np.median([status.regress_ms for status in statuses])),
    }


def stolen_s() -> float:
    """Seconds, of all cores together, for which the host of a virtual machine let others run."""
    return int(Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")


def measure(folder: Path, name: str, seconds: float) -> dict[str, float]:
    """Figures of one network."""
    model = folder / name.replace(" ", "-").replace(",", "")
    write_model(model, MODELS[name])
    command = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "localize", "--model", str(model)]
    node = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    spawned = multiprocessing.get_context("spawn")
    camera = spawned.Process(target=send_images, daemon=True)
    camera.start()
    try:
        with spawned.Pool(1) as pool:
            measured = pool.apply_async(receive, (seconds,))
            while not measured.ready():  # of the last seconds, in which nothing is loaded any more
                before_s, before_stolen_s, began = cpu_s(node), stolen_s(), time.monotonic()
                measured.wait(seconds / 2)
            figures = measured.get()
        passed_s = max(time.monotonic() - began, 1e-3)
        figures["CPU of the node %"] = 100 * (cpu_s(node) - before_s) / passed_s
        figures["stolen %"] = 100 * (stolen_s() - before_stolen_s) / passed_s / CORES
    finally:
        camera.kill()
        node.send_signal(signal.SIGINT)
        node.wait(20)
    return figures


def main() -> int:
    """Measure, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 99))
    load = os.getloadavg()[0]
    table = Table.of({"network": "", **dict.fromkeys(COLUMNS, ".1f")})
    print(table.markdown())
    first: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in list(MODELS)[: 1 if options.quick else None]:
            figures = measure(Path(folder), name, 8.0 if options.quick else 20.0)
            first = first or figures
            print(table.add(name, *map(figures.get, COLUMNS)), flush=True)
    if not options.quick:
        RESULTS.write_text(
            f"# Localize node\n\n`python bench/localize_node.py`: {CORES} cores of {processor()}, "
            f"load before {load:.1f}, {CAMERA.width} x {CAMERA.height} images at {RATE_HZ:g} Hz; camera, "
            "node and subscriber are processes of their own.\n\n" + table.markdown() + "\n"
        )
    good = first.get("rate Hz", 0.0) > 0.98 * RATE_HZ and first.get("p95 ms", np.inf) < LATENCY_MS
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
