"""Load on the recorder: 1080p JPEG at 30 Hz, odometry at 200 Hz and GPS at 10 Hz for ten minutes, on two cores.

    python bench/record_load.py                       # 10 minutes, then 10 minutes with --bag mcap
    python bench/record_load.py --minutes 2 --only dataset

Drone (record_flight.py) and recorder are processes of their own on two cores. Bars, and exit status 1 when one is
missed: no image lost (published = frames + counted rejects, and these at the edges only), resident memory of the last
minute within 5 % of the first, median time from an image's arrival to its frame being on disk below 50 ms. With the bag
it is read back, and holds every message. Writes bench/results/record_load.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rclpy
from pose2rgbd.msg import SyncStatus
from rclpy.node import Node
from std_srvs.srv import Trigger

from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.nodes.common.runner import use_fastdds_profile
from pose2rgbd_ros.reports.table import Column, Table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "record_load.md"
CORES = 2
LATENCY_MS, GROWTH = 50.0, 0.05
EDGE_REJECTS = ("before_first_pose", "after_last_pose")
START_LIMIT_S = 60.0
CASES = {"dataset": (), "dataset and mcap": ("--bag", "mcap")}
COLUMNS = (
    Column("what"),
    Column("minutes", format="g"),
    *(Column(key, format=".0f") for key in ("published", "frames", "rejected", "lost")),
    Column("latency_ms", "added latency, median ms", ".1f"),
    Column("latency_max_ms", "highest second ms", ".1f"),
    Column("rss_first_mib", "memory, first minute MiB", ".0f"),
    Column("rss_last_mib", "last minute MiB", ".0f"),
    Column("cpu_percent", "CPU %", ".0f"),
    Column("bag_lost", "bag: messages lost", ".0f"),
)


class Observer(Node):
    """Takes what the recorder says, and its memory, once a second."""

    def __init__(self, pid: int) -> None:
        super().__init__("bench")
        self.status: list[SyncStatus] = []
        self.memory_mib: list[tuple[float, float]] = []
        self._pid = pid
        self.create_subscription(SyncStatus, "record/status", self._take, 50)

    def _take(self, message: SyncStatus) -> None:
        self.status.append(message)
        pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        self.memory_mib.append((time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE") / 2**20))

    def wait(self, condition, limit_s: float, what: str):
        """Spin until it holds."""
        end = time.monotonic() + limit_s
        while not condition():
            rclpy.spin_once(self, timeout_sec=0.2)
            if time.monotonic() > end:
                raise SystemExit(f"did not happen in {limit_s:.0f} s: {what}")

    def stop(self) -> str:
        """Ask the recorder to finish; what it answers."""
        client = self.create_client(Trigger, "record/stop")
        future = client.call_async(Trigger.Request())
        self.wait(future.done, 120.0, "~/stop answers")
        return future.result().message


def cpu_s(pid: int) -> float:
    """CPU seconds a running process has used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(folder: Path, arguments: tuple[str, ...], minutes: float) -> dict[str, float]:
    """Figures of one recording."""
    out, summary = folder / "flight", folder / "sent.json"
    command = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "record", "--out", str(out), *arguments]
    with (folder / "record.log").open("wb") as log:
        recorder = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    observer = Observer(recorder.pid)
    drone = None
    try:
        observer.wait(lambda: observer.status, START_LIMIT_S, "the recorder speaks")
        flight = [str(HERE / "record_flight.py"), "--wait", "--seconds", str(60 * minutes)]
        drone = subprocess.Popen([sys.executable, *flight, "--summary", str(summary)])
        observer.wait(lambda: observer.status[-1].images, START_LIMIT_S, "images arrive")
        began, before_s = time.monotonic(), cpu_s(recorder.pid)
        observer.wait(lambda: drone.poll() is not None, 60 * minutes + 60, "the flight ends")
        cpu_percent = 100 * (cpu_s(recorder.pid) - before_s) / (time.monotonic() - began)
        print(observer.stop(), flush=True)
        sent = json.loads(summary.read_text())
        return {**figures(observer, sent, out, began, 60 * minutes), "cpu_percent": cpu_percent}
    finally:
        observer.destroy_node()
        for process in (drone, recorder):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGINT if process is recorder else signal.SIGTERM)
                process.wait(60)


def figures(observer: Observer, sent: dict[str, int], out: Path, began: float, seconds: float) -> dict[str, float]:
    """What was sent against what is there."""
    last = observer.status[-1]
    rejects = {item.reason: item.count for item in last.rejects}
    latencies = [item.added_latency_s for item in observer.status if not math.isnan(item.added_latency_s)]
    minute = [
        np.median([mib for at, mib in observer.memory_mib if start <= at - began < start + 60])
        for start in (0.0, max(0.0, seconds - 60.0))
    ]
    found = {
        "published": sent["image/compressed"],
        "received": last.images,
        "frames": len(Dataset(out)),
        "rejected": sum(rejects.values()),
        "rejected_within": sum(count for reason, count in rejects.items() if reason not in EDGE_REJECTS),
        "latency_ms": 1e3 * float(np.median(latencies)),
        "latency_max_ms": 1e3 * max(latencies),
        "rss_first_mib": float(minute[0]),
        "rss_last_mib": float(minute[1]),
    }
    bag = out.with_name(f"{out.name}_bag")
    if bag.exists():
        found["bag_lost"] = bag_lost(bag, sent)
    return found


def bag_lost(bag: Path, sent: dict[str, int]) -> float:
    """Messages that were sent and are not in the bag."""
    with open_bag(bag) as reader:
        for problem in reader.problems:
            raise SystemExit(f"the bag is damaged: {problem}")
        return sum(count - reader.topics[f"/{topic}"].count for topic, count in sent.items())


def misses(values: dict[str, float]) -> list[str]:
    """The bars that are missed."""
    growth = values["rss_last_mib"] / values["rss_first_mib"] - 1
    lost = values["published"] - values["frames"] - values["rejected"]
    bars = {
        f"{lost:.0f} images lost": lost != 0,
        f"{values['rejected_within']:.0f} images rejected on the way": values["rejected_within"] > 0,
        f"latency {values['latency_ms']:.0f} ms": values["latency_ms"] >= LATENCY_MS,
        f"memory grows by {100 * growth:.1f} %": abs(growth) > GROWTH,
        f"{values.get('bag_lost', 0):.0f} messages are not in the bag": values.get("bag_lost", 0) != 0,
    }
    return [text for text, missed in bars.items() if missed]


def main() -> int:
    """Measure, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--folder", type=Path, help="where to record; needs 0.9 GB a minute, twice that with the bag")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 99))
    use_fastdds_profile()
    load_before = os.getloadavg()[0]
    table = Table(COLUMNS)
    print(table.markdown(), flush=True)
    missed: list[str] = []
    before = RESULTS.read_text().splitlines() if RESULTS.is_file() else []
    kept = [line for line in before if line.split(" | ")[0][2:] in set(CASES) - {options.only}]
    rclpy.init()
    for name in [options.only] if options.only else CASES:
        folder = Path(tempfile.mkdtemp(prefix="record-load-", dir=options.folder))
        try:
            values = measure(folder, CASES[name], options.minutes)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        lost = values["published"] - values["frames"] - values["rejected"]
        row = {"what": name, "minutes": options.minutes, "lost": lost, **values}
        print(table.add(*(row.get(column.key) for column in COLUMNS)), flush=True)
        missed += [f"{name}: {text}" for text in misses(values)]
    rclpy.shutdown()
    print("\n".join(missed) or "all bars are met")
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(
        f"# Recorder under load\n\n`python bench/record_load.py`: {CORES} cores of {processor()}, "
        f"load before {load_before:.1f}; 1080p JPEG of 300 to 600 kB at 30 Hz, odometry at "
        "200 Hz, GPS at 10 Hz, drone and recorder as processes of their own. CPU: of the recorder, 100 % is one "
        "core.\n\n" + "\n".join([table.markdown(), *(kept if options.only else [])]) + "\n"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
