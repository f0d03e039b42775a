"""How long nodes take to end after Ctrl-C, each as a process of its own, as a launch file starts them.

    python bench/node_shutdown.py                 # five rounds, alone and beside a load of ten
    python bench/node_shutdown.py --rounds 2 --loads 20

Renderer, avoid, localizer, recorder and player, idle but for their watching: the models of the first and the third
    are not there, and they wait. Each round waits until all of them are seen by DDS, sends SIGINT to all at once and
    times each until its process has gone. The load is of busy loops. A launch file kills what takes long. Writes
    bench/results/node_shutdown.md.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rclpy

from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.reports.table import Table

RESULTS = Path(__file__).resolve().parent / "results" / "node_shutdown.md"
NODES = ("render", "avoid", "localize", "record", "play")


def write_recording(path: Path) -> None:
    """Two tiny frames an hour apart, for a player that plays on."""
    with DatasetWriter(path, DatasetMeta(Camera(16, 16, 16, 16, 7.5, 7.5))) as writer:
        for index in range(2):
            writer.add(10**18 + index * 36 * 10**11, np.eye(4), np.zeros((16, 16, 3), np.uint8), None)


def start(name: str, folder: Path) -> subprocess.Popen[bytes]:
    """A node as a process."""
    options = {
        "render": ("--model", folder / "none"),
        "localize": ("--model", folder / "none"),
        "record": ("--out", folder / "out"),
        "play": ("--recording", folder / "recording", "--loop"),
    }
    command = [sys.executable, "-m", "pose2rgbd_ros.cli.main", name, *map(str, options.get(name, ()))]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def one_round(folder: Path, observer: rclpy.node.Node) -> dict[str, tuple[float, int]]:
    """Seconds until each node has ended, and its status."""
    running = {name: start(name, folder) for name in NODES}
    while not set(NODES) <= set(observer.get_node_names()):
        if early := [name for name, process in running.items() if process.poll() is not None]:
            raise SystemExit(f"{early} ended before they were seen")
        time.sleep(0.1)
    time.sleep(3.0)
    began, ended = time.monotonic(), {}
    for process in running.values():
        process.send_signal(signal.SIGINT)
    while running:
        for name, process in list(running.items()):
            if process.poll() is not None:
                ended[name] = time.monotonic() - began, process.returncode
                del running[name]
        time.sleep(0.002)
    while set(NODES) & set(observer.get_node_names()):
        time.sleep(0.1)
    return ended


def measure(rounds: int, load: int, folder: Path, observer: rclpy.node.Node) -> list[tuple[str | float, ...]]:
    """Rows of the table, behind the load."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(load)]
    try:
        found = [one_round(folder, observer) for _ in range(rounds)]
    finally:
        for process in busy:
            process.kill()
            process.wait()
    rows = []
    for name in NODES:
        seconds, statuses = zip(*(ended[name] for ended in found), strict=True)
        said = ", ".join(map(str, sorted(set(statuses))))
        rows.append((name, statistics.median(seconds), max(seconds), said))
    return rows


def main() -> int:
    """Measure, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loads", type=int, nargs="*", default=[0, 10])
    options = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 99))
    rclpy.init()
    observer, head = rclpy.create_node("observer"), described()
    table = Table.of({"busy loops beside": "d", "node": "", "median s": ".2f", "longest s": ".2f", "exit status": "s"})
    print(table.markdown())
    with tempfile.TemporaryDirectory() as folder:
        write_recording(Path(folder) / "recording")
        for load in options.loads:
            for row in measure(options.rounds, load, Path(folder), observer):
                print(table.add(load, *row), flush=True)
    words = "".join(f" {word}" for word in sys.argv[1:])
    RESULTS.write_text(
        f"# From Ctrl-C to the end of a node\n\n`python bench/node_shutdown.py{words}`: {options.rounds} rounds, "
        f"{head}; "
        f"five processes at once.\n\n{table.markdown()}\n"
    )
    observer.destroy_node()
    rclpy.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
