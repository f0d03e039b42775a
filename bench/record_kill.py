"""kill -9 of the recorder at random moments: what it had acknowledged is there, and the next one goes on.

    python bench/record_kill.py               # 100 times
    python bench/record_kill.py --times 20

A drone (record_flight.py) flies all the time; a recorder with `--resume --bag mcap` is started, killed after a random
time, and started again into the same folder. After each kill: every frame of the last status that was received is
there and its image can be decoded, the lists hold together, and the mcap is read to its end: up to its last whole
chunk, with as many images as that holds. At the end one recorder finishes in order. Exit status 1 when anything is
missing. Writes bench/results/record_kill.md.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import rclpy
from pose2rgbd.msg import SyncStatus
from rclpy.node import Node
from std_srvs.srv import Trigger

from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.nodes.common.runner import use_fastdds_profile
from pose2rgbd_ros.reports.table import Table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "record_kill.md"
START_LIMIT_S, LONGEST_S = 60.0, 4.0
CHUNK = 2 << 20  # the most of an mcap that is not yet in a whole chunk: one MiB and a message


class Observer(Node):
    """The last status of the recorder at hand."""

    def __init__(self) -> None:
        super().__init__("bench")
        self.last: SyncStatus | None = None
        self.create_subscription(SyncStatus, "record/status", self._take, 50)

    def _take(self, message: SyncStatus) -> None:
        self.last = message

    def spin_until(self, end_s: float, condition=lambda: False) -> bool:
        """Take messages until a time of the steady clock, or until the condition holds."""
        while time.monotonic() < end_s and not condition():
            rclpy.spin_once(self, timeout_sec=0.02)
        return condition()


@dataclass
class Account:
    """What was promised and found, over all kills."""

    kills: int = 0
    acknowledged: int = 0
    frames: int = 0
    bag_images: int = 0
    missing: list[str] = field(default_factory=list)
    checked: set[str] = field(default_factory=set)


def start(out: Path, log: Path) -> subprocess.Popen[bytes]:
    """A recorder."""
    command = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "record", "--out", str(out), "--resume"]
    with log.open("ab") as file:
        return subprocess.Popen([*command, "--bag", "mcap"], stdout=file, stderr=subprocess.STDOUT)


def check(out: Path, account: Account, before: int, acknowledged: int, bags_before: set[Path]) -> None:
    """Look at what a killed recorder left."""
    number = account.kills
    if not (out / "meta.yaml").exists():
        if before + acknowledged:
            account.missing.append(f"kill {number}: the dataset is gone")
        return
    dataset = Dataset(out)
    account.frames = len(dataset)
    if len(dataset) < before + acknowledged:
        lost = before + acknowledged - len(dataset)
        account.missing.append(f"kill {number}: {lost} acknowledged frames are missing")
    for record in dataset.records:
        if record.rgb not in account.checked:
            account.checked.add(record.rgb)
            if cv2.imread(str(out / record.rgb)) is None:
                account.missing.append(f"kill {number}: {record.rgb} cannot be read")
    for bag in sorted(set(out.with_name(f"{out.name}_bag").glob("*.mcap")) - bags_before):
        check_bag(bag, account, acknowledged)


def check_bag(bag: Path, account: Account, acknowledged: int) -> None:
    """The mcap that the killed recorder was writing: all but the chunk that was being filled."""
    if bag.stat().st_size < CHUNK:
        return
    with open_bag(bag) as reader:
        images = sum(1 for _ in reader.messages(["/image/compressed"]))
        size = sum(len(message.data) for _, _, message in reader.messages(["/image/compressed"]))
    account.bag_images += images
    if reader.unreadable or len(reader.problems) > 1:
        account.missing.append(f"{bag.name}: {reader.problems} {dict(reader.unreadable)}")
    if bag.stat().st_size - size > CHUNK + 0.05 * size:  # a twentieth for odometry and headers
        account.missing.append(f"{bag.name}: {images} images of {bag.stat().st_size} bytes were read")
    if images < acknowledged - 6:  # those of the chunk that was being filled
        account.missing.append(f"{bag.name}: {images} images, though {acknowledged} frames were acknowledged")


def run(folder: Path, times: int, observer: Observer, seed: int) -> Account:
    """Kill and look, again and again."""
    out, account, draw = folder / "flight", Account(), random.Random(seed)
    for number in range(times):
        before = account.frames
        bags = set(folder.glob("flight_bag/*.mcap"))
        observer.last = None
        recorder = start(out, folder / "record.log")
        try:
            if number % 5:  # else: at any moment of its start
                heard = lambda: observer.last is not None and observer.last.frames_written > 0  # noqa: E731
                if not observer.spin_until(time.monotonic() + START_LIMIT_S, heard):
                    raise SystemExit(f"kill {number}: the recorder wrote nothing")
            observer.spin_until(time.monotonic() + draw.uniform(0.0, LONGEST_S))
        finally:
            recorder.kill()
            recorder.wait()
        observer.spin_until(time.monotonic() + 0.1)
        acknowledged = observer.last.frames_written if observer.last is not None else 0
        account.kills += 1
        account.acknowledged += acknowledged
        check(out, account, before, acknowledged, bags)
        print(f"kill {number + 1}: {acknowledged} acknowledged, {account.frames} frames in all", flush=True)
    finish(out, folder / "record.log", observer, account)
    return account


def finish(out: Path, log: Path, observer: Observer, account: Account) -> None:
    """The last recorder resumes, and stops in order."""
    observer.last = None
    recorder = start(out, log)
    observer.spin_until(
        time.monotonic() + START_LIMIT_S, lambda: observer.last is not None and observer.last.frames_written > 10
    )
    future = observer.create_client(Trigger, "record/stop").call_async(Trigger.Request())
    if not observer.spin_until(time.monotonic() + START_LIMIT_S, future.done) or not future.result().success:
        account.missing.append("the last recorder did not finish")
    recorder.send_signal(signal.SIGINT)
    if recorder.wait(30) != 0:
        account.missing.append("the last recorder did not end in order")
    dataset = Dataset(out)
    if (dataset.stamps_ns[1:] <= dataset.stamps_ns[:-1]).any() or not (out / "transforms.json").exists():
        account.missing.append("the finished dataset is not in order")
    account.frames = len(dataset)


def main() -> int:
    """Kill, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="draws the moments")
    parser.add_argument("--folder", type=Path, help="where to record; needs some 100 MB a kill")
    options = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 99))
    use_fastdds_profile()
    rclpy.init()
    observer = Observer()
    folder = Path(tempfile.mkdtemp(prefix="record-kill-", dir=options.folder))
    drone = subprocess.Popen([sys.executable, str(HERE / "record_flight.py")])
    try:
        account = run(folder, options.times, observer, options.seed)
    finally:
        drone.terminate()
        drone.wait()
        shutil.rmtree(folder, ignore_errors=True)
        observer.destroy_node()
        rclpy.shutdown()
    names = ("kills", "frames acknowledged", "frames found", "images in the mcaps", "missing")
    table = Table.of(dict.fromkeys(names, "d"))
    table.add(account.kills, account.acknowledged, account.frames, account.bag_images, len(account.missing))
    print("\n".join([table.markdown(), *account.missing]))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(
        f"# Recorder, killed\n\n`python bench/record_kill.py --times {options.times}` on {processor()}: "
        f"1080p JPEG at 30 Hz, odometry at 200 Hz, mcap beside the dataset; every fifth kill while "
        "the recorder starts. Missing: anything acknowledged that is not there, or not readable.\n\n"
        + "\n".join([table.markdown(), *(f"\n{text}" for text in account.missing)])
        + "\n"
    )
    return 1 if account.missing else 0


if __name__ == "__main__":
    sys.exit(main())
