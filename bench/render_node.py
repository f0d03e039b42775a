"""Rate, delivery and latency of the render node: player, node and subscriber as three processes on two cores.

    python bench/render_node.py            # Base 512x512 RGBD for 30 s, then the other models for 10 s each
    python bench/render_node.py --quick    # the first for 10 s; exit status 1 when it misses 30 Hz, 100 %, p95 100 ms

The player interpolates a flight to 50 Hz on /tf. The node renders at 30 Hz (rows that say so: at 60 Hz, of transforms
at 120 Hz). The subscriber is `pose2rgbd monitor` on RGB and depth; latency runs from the stamp of the transform to the
receipt of the image. Meanwhile this process asks the node for a parameter ten times a second, which takes as long as
its executor is busy. Weights are random: values do not change the time. Writes bench/results/render_node.md.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rcl_interfaces.srv import GetParameters
from relief_city import write_relief

from pose2rgbd_ros.bench.measure import Page, Row, random_checkpoint
from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.pose2rgbd.config import Pose2RGBDConfig
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.settings import read_yaml

RESULTS = Path(__file__).resolve().parent / "results"
RATE_HZ, TF_HZ, LATENCY_MS = 30.0, 50.0, 100.0
FAST, FAST_HZ, FAST_TF_HZ = " at 60 Hz", 60.0, 120.0
CORES = 2
MODELS: dict[str, dict[str, Any]] = {
    "base 512 rgbd": {"variant": "base", "output": "rgbd", "size": 512},
    "base 512 depth": {"variant": "base", "output": "depth", "size": 512},
    "base 256 rgbd": {"variant": "base", "output": "rgbd", "size": 256},
    "slice-10 256 rgbd": {"variant": "slice", "slices": 10, "output": "rgbd", "size": 256},
    "slice-10 512 rgbd": {"variant": "slice", "slices": 10, "output": "rgbd", "size": 512},
    "slice-32 512 rgbd": {"variant": "slice", "slices": 32, "output": "rgbd", "size": 512},
    "relief 256 rgbd": {"network": "relief", "size": 256},
    "relief 512 rgbd": {"network": "relief", "size": 512},
}
MODELS |= {f"{name}{FAST}": MODELS[name] for name in ("base 512 rgbd", "relief 256 rgbd")}
COLUMNS = {
    "rate_hz": "rate Hz", "delivered_percent": "RGB delivered %", "depth_delivered_percent": "depth delivered %",
    "latency_p50_ms": "p50 ms", "latency_p95_ms": "p95 ms", "service_p95_ms": "parameter service p95 ms",
    "cpu_percent": "CPU of the node %",
}  # fmt: skip


def flight() -> np.ndarray:
    """A minute around a field, looking down: T_map_cam (600, 4, 4) at 10 Hz."""
    angle = np.linspace(0, 2 * np.pi, 600)
    eye = np.stack([20 * np.cos(angle), 20 * np.sin(angle), np.full_like(angle, 30.0)], axis=-1)
    return se3.look_at(eye, eye - [0.0, 0.0, 1.0])


def write_dataset(path: Path) -> None:
    """The flight with tiny black images, which are not played."""
    with DatasetWriter(path, DatasetMeta(Camera(16, 16, 16, 16, 7.5, 7.5))) as writer:
        for index, T in enumerate(flight()):
            writer.add(10**18 + index * 10**8, T, np.zeros((16, 16, 3), np.uint8), None)


def write_model(path: Path, architecture: dict[str, Any], T: np.ndarray | None = None) -> None:
    """A network with random weights, as training on poses T (N, 4, 4) would leave it; by default those of the
    flight.
    """
    T = flight() if T is None else T
    if architecture.get("network") == "relief":
        write_relief(path, architecture["size"], T)
        return
    random_checkpoint(path, Pose2RGBDConfig(**architecture), T)


def start(*arguments: object, quiet: bool = True) -> subprocess.Popen[bytes]:
    """A node as a process."""
    command = [sys.executable, "-m", "pose2rgbd_ros.cli.main", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL if quiet else None, stderr=subprocess.STDOUT)


def cpu_s(process: subprocess.Popen[bytes]) -> float:
    """CPU seconds a running process has used (Linux)."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def service_p95_ms(while_runs: subprocess.Popen[bytes]) -> float:
    """95th percentile of how long the node takes to answer get_parameters while another process runs."""
    took_ms = []
    rclpy.init()
    try:
        node = rclpy.create_node("render_node_bench")
        client = node.create_client(GetParameters, "/render/get_parameters")
        client.wait_for_service(30.0)
        while while_runs.poll() is None:
            began = time.perf_counter()
            answer = client.call_async(GetParameters.Request(names=["rate_hz"]))
            rclpy.spin_until_future_complete(node, answer, timeout_sec=5.0)
            took_ms.append((time.perf_counter() - began) * 1e3)
            time.sleep(0.1)
    finally:
        rclpy.shutdown()
    return float(np.percentile(took_ms, 95))


def measure(folder: Path, name: str, seconds: float) -> dict[str, float]:
    """Figures of one model."""
    model, summary = folder / name.replace(" ", "-"), folder / "summary.yaml"
    write_model(model, MODELS[name])
    summary.unlink(missing_ok=True)
    rate_hz, tf_hz = (FAST_HZ, FAST_TF_HZ) if name.endswith(FAST) else (RATE_HZ, TF_HZ)
    render = start("render", "--model", model, "--rate-hz", rate_hz)
    play = start("play", "--recording", folder / "dataset", "--loop", "--no-images", "--tf-rate-hz", tf_hz)
    time.sleep(12.0)  # export, warm-up and the first transforms are not part of it
    monitor = start("monitor", "--duration-s", seconds, "--summary", summary)
    before_s, began = cpu_s(render), time.monotonic()
    try:
        service_ms = service_p95_ms(monitor)
        figures: dict[str, float] = read_yaml(summary)
        figures["service_p95_ms"] = service_ms
        figures["cpu_percent"] = 100 * (cpu_s(render) - before_s) / (time.monotonic() - began)
    finally:
        for process in (render, play, monitor):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(20)
    return figures


def main() -> int:
    """Measure, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of render_node.md and .json")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 99))
    about = (
        f"{CORES} cores, {RATE_HZ:g} Hz asked for, TF at {TF_HZ:g} Hz (at 60 Hz: {FAST_TF_HZ:g} Hz); player, node and "
        "subscriber are processes of their own."
    )
    page = Page("render_node", "Render node", "python bench/render_node.py", about)
    table = Table([Column("model"), *(Column(key, title, ".1f") for key, title in COLUMNS.items())])
    print(table.markdown())
    names = [next(iter(MODELS))] if options.quick else options.models
    first: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder) / "dataset")
        for index, name in enumerate(names):
            figures = measure(Path(folder), name, 30.0 if index == 0 and not options.quick else 10.0)
            first = first or figures
            print(table.add(name, *map(figures.get, COLUMNS)), flush=True)
            page.rows += [
                Row.of(f"{name} rate", figures.get("rate_hz"), "Hz", limit=FAST_HZ if name.endswith(FAST) else RATE_HZ),
                Row.of(f"{name} delivered", figures.get("delivered_percent"), "%", limit=100.0),
                Row.of(f"{name} latency p95", figures.get("latency_p95_ms"), "ms"),
                Row.of(f"{name} parameter service p95", figures.get("service_p95_ms"), "ms"),
            ]
    if not options.quick and names == list(MODELS):
        page.sections.append(table.markdown())
        page.write(options.out)
    good = first.get("rate_hz", 0) > 0.98 * RATE_HZ and first.get("delivered_percent") == 100.0
    return 0 if good and first["latency_p95_ms"] < LATENCY_MS else 1


if __name__ == "__main__":
    sys.exit(main())
