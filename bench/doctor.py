"""How `pose2rgbd doctor` does: faults it names, alarms that are false, seconds a gigabyte.

    python bench/doctor.py                 # both parts; writes bench/results/doctor.md
    python bench/doctor.py --faults        # the first part only; --tune: on the flights that thresholds were chosen on
    python bench/doctor.py --speed

Faults are put into simulated flights (test/support/bag_faults.py), each into one of 20; those 20 are also looked at as
they are. The flights on which thresholds were chosen are of other seeds. A fault is named when one of its codes is
among the problems found and not among those of its flight before it was put in.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test"))

import numpy as np
from support import bag_faults

from pose2rgbd_ros.doctor.doctor import examine
from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.reports.table import Table

RESULT = Path(__file__).parent / "results" / "doctor.md"
TUNED, PUBLISHED = range(0, 8), range(100, 120)
GIGABYTE = 1_000_000_000


def codes(path: Path, notes: bool = False) -> dict[str, str]:
    """What is found by code, of problems and worse; with their texts."""
    ((diagnosis, _),) = examine([path])
    return {it.code: f"{it.subject}: {it.text}" for it in diagnosis.findings if notes or it.severity != "note"}


def kept(path: Path, look: Callable[[], dict[str, str]]) -> dict[str, str]:
    """What was found by a run that was interrupted, or is now."""
    if not path.exists():
        path.write_text(json.dumps(look()))
    return dict(json.loads(path.read_text()))


def clean(folder: Path, seed: int) -> dict[str, str]:
    """What is found in the recording of a seed, which is made where it is not there."""
    path = folder / f"clean_{seed}{bag_faults.kinds(seed)}"
    if not path.exists():
        bag_faults.write_clean(path, seed)
    return kept(folder / f"clean_{seed}.json", lambda: codes(path))


def spoiled(folder: Path, number: int, seed: int) -> dict[str, str]:
    """What is found with that fault in the recording of a seed."""
    fault, suffix = bag_faults.FAULTS[number], bag_faults.kinds(seed)
    path = folder / f"fault_{number}{suffix}"

    def look() -> dict[str, str]:
        path.unlink(missing_ok=True)
        entries = bag_faults.read(folder / f"clean_{seed}{suffix}")
        try:
            return codes(bag_faults.inject(fault, entries, path, 1000 * seed + number), fault.notes)
        finally:
            path.unlink(missing_ok=True)

    return kept(folder / f"fault_{number}_{seed}.json", look)


def faults(folder: Path, seeds: range, only: str, jobs: int) -> tuple[str, bool]:
    """The first part, as Markdown; and whether the bar is met."""
    with ProcessPoolExecutor(jobs) as pool:
        alarms = {}
        for seed, found in zip(seeds, pool.map(clean, repeat(folder), seeds), strict=True):
            if found:
                alarms[seed] = found
                print("FALSE ALARM", seed, found, flush=True)
        topics = {seed: bag_faults.topics_of(folder / f"clean_{seed}{bag_faults.kinds(seed)}") for seed in seeds}
        chosen = [(n, seed) for n, seed in bag_faults.chosen(topics) if only in bag_faults.FAULTS[n].name]
        told = pool.map(spoiled, repeat(folder), *zip(*chosen, strict=True))
        table, missed = Table.of({"fault": "", "named": "", "found": ""}), []
        for (number, seed), found in zip(chosen, told, strict=True):
            fault = bag_faults.FAULTS[number]
            named = bool(set(fault.codes) & (set(found) - set(alarms.get(seed, ()))))
            if not named:
                missed.append(fault.name)
            table.add(fault.name, "yes" if named else "no", ", ".join(found))
            print(
                "ok    " if named else "MISSED", seed, fault.name, "" if named else found, ",".join(found), flush=True
            )
    count = len(table.rows)
    text = (
        f"{count - len(missed)} of {count} faults named ({1 - len(missed) / max(1, count):.1%}, asked for 95 %); "
        f"{len(alarms)} false alarms on {len(seeds)} clean recordings"
    )
    print(text, *missed, sep="\n  ")
    return f"{text}.\n\n{table.markdown()}\n", len(missed) <= 0.05 * count and not alarms


def speed(folder: Path) -> str:
    """The second part: seconds a gigabyte, of recordings of JPEG and of raw images."""
    table = Table.of({"recording": "", "size (GB)": ".2f", "images": "d", "s on the wall": ".1f", "CPU s": ".1f",
                      "CPU s per GB": ".1f"})  # fmt: skip
    for name, config, compressed in (
        ("JPEG 1080p", (1920, 1080), True),
        ("raw 640 x 480, depth 32FC1", (640, 480), False),
    ):
        path = _big(folder, config, compressed)
        size = path.stat().st_size / GIGABYTE
        walls, processors, count = [], [], 0
        for _ in range(3):
            before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            ((diagnosis, _),) = examine([path])
            after = resource.getrusage(resource.RUSAGE_SELF)
            walls.append(time.perf_counter() - begun)
            processors.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            count = diagnosis.expected.images if diagnosis.expected else 0
        wall, cpu = float(np.median(walls)), float(np.median(processors))
        print(table.add(name, size, count, wall, cpu, cpu / size), flush=True)
        path.unlink()
    return table.markdown() + "\n"


def _big(folder: Path, size: tuple[int, int], compressed: bool) -> Path:
    """About a gigabyte: a simulated flight whose images are others' of their size, over and over."""
    import cv2

    from pose2rgbd_ros.bags.decode import header_stamp_ns
    from pose2rgbd_ros.bags.messages import MessageFactory
    from pose2rgbd_ros.bags.writer import BagWriter

    make, entries = MessageFactory(), bag_faults.read(_small(folder))
    rng, path = np.random.default_rng(0), folder / "big.mcap"
    path.unlink(missing_ok=True)
    images = [it for _, topic, it in entries if topic == bag_faults.IMAGE]
    pictures = []
    for message in images:
        rgb = cv2.resize(cv2.imdecode(np.asarray(message.data), cv2.IMREAD_COLOR), size)
        grain = rng.integers(0, 12, (*rgb.shape[:2], 1), dtype=np.uint8)  # so that a JPEG is as large as a camera's
        pictures.append(cv2.add(rgb, np.repeat(grain, 3, axis=2)))
    jpegs = [cv2.imencode(".jpg", it, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes() for it in pictures]
    length_ns = entries[-1][0] - entries[0][0] + 100_000_000
    written, turn = 0, 0
    with BagWriter(path, compression="storage") as bag:
        while written < GIGABYTE:
            number = 0
            for received_ns, topic, message in entries:
                shifted = received_ns + turn * length_ns
                if topic == bag_faults.TF_STATIC and turn:
                    continue
                if topic == bag_faults.IMAGE:
                    stamp_ns, frame = header_stamp_ns(message.header) + turn * length_ns, message.header.frame_id
                    if compressed:
                        message = make.compressed_image(stamp_ns, frame, jpegs[number], "bgr8; jpeg compressed bgr8")
                    else:
                        message, topic = make.image(stamp_ns, frame, pictures[number], "bgr8"), "/camera/image"
                    written += len(message.data)
                    number += 1
                elif topic == bag_faults.DEPTH:
                    if compressed:
                        continue
                    stamp_ns = header_stamp_ns(message.header) + turn * length_ns
                    metres = cv2.resize(np.frombuffer(message.data, np.float32).reshape(message.height, -1), size)
                    message = make.image(stamp_ns, message.header.frame_id, metres, "32FC1")
                    written += len(message.data)
                else:
                    message = _later(message, turn * length_ns)
                bag.write(topic, message, shifted)
            turn += 1
    return path


def _later(message: object, by_ns: int) -> object:
    import copy

    from pose2rgbd_ros.bags.decode import header_stamp_ns

    later = copy.deepcopy(message)
    for item in getattr(later, "transforms", [later]):
        bag_faults.stamped(item, header_stamp_ns(item.header) + by_ns)
    return later


def _small(folder: Path) -> Path:
    path = folder / "small.mcap"
    if not path.exists():
        bag_faults.write_clean(path, 100)
    return path


def main() -> int:
    """Both parts, or those that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--only", default="", help="faults whose name has this in it")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of the first part")
    parser.add_argument("--keep", type=Path, help="folder of the recordings and of what was found, to go on")
    asked = parser.parse_args()
    machine, whole = described(), not (asked.faults or asked.speed)
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="doctor-"))
    folder.mkdir(parents=True, exist_ok=True)
    parts, good = [], True
    try:
        if asked.faults or whole:
            text, good = faults(folder, TUNED if asked.tune else PUBLISHED, asked.only, asked.jobs)
            parts.append(f"## Faults\n\n{text}")
        if asked.speed or whole:
            parts.append(f"## Speed\n\n{speed(folder)}")
    finally:
        if asked.keep is None:
            shutil.rmtree(folder)
    if whole and not (asked.tune or asked.only):
        RESULT.write_text(f"# The doctor\n\n`python bench/doctor.py` on {machine}.\n\n" + "\n".join(parts))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
