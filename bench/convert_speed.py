"""How fast `pose2rgbd convert` is, against the straightforward loop beside this file, and how much memory it takes.

    python bench/convert_speed.py [--frames 120] [--runs 3] [--folder /tmp]

Makes recordings of camera and odometry (a textured picture that moves, with sensor noise): compressed and raw, 512 and
1920 x 1080 pixels, mcap and sqlite3. Both converters run in turn in processes of their own, on files that have been
read before; frames per second are of the whole process, without the start of Python (the imports). Peak memory (VmHWM)
is that of a recording and of one four times as long.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from pose2rgbd_ros.bags.writer import BagWriter
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.reports.table import Table

RESULTS = Path(__file__).parent / "results" / "convert_speed.md"
SIZES = {"512": (512, 512), "1080p": (1920, 1080)}
RATE_HZ, POSES_HZ = 30, 200
T0_NS, SECOND_NS = 1_700_000_000_000_000_000, 1_000_000_000
BARS = {"compressed": 3.0, "raw": 1.7}

# Each prints seconds and peak memory (KiB) of its work, imports left out.
_MEASURED = """
import re, sys, time
from pathlib import Path
sys.path.insert(0, {folder!r})
{setup}
begin = time.perf_counter()
{work}
seconds = time.perf_counter() - begin
print(seconds, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""
OURS = (
    "from pose2rgbd_ros.convert.bag import ConvertConfig, convert; import rosbags.typesys.stores.ros2_jazzy",
    "convert([sys.argv[1]], sys.argv[2], ConvertConfig(jobs={jobs}))",
)
LOOP = (
    "from straightforward_convert import convert; import rosbags.typesys.stores.ros2_jazzy",
    "convert(Path(sys.argv[1]), Path(sys.argv[2]))",
)


def pictures(width: int, height: int) -> Iterator[np.ndarray]:
    """RGB of a camera that drifts over a textured ground, with the noise of a sensor."""
    rng = np.random.default_rng(0)
    ground = sum(
        cv2.resize(rng.integers(0, 90, (h, h, 3)).astype(np.float32), (4096, 4096), interpolation=cv2.INTER_CUBIC)
        for h in (16, 128, 1024)
    )
    noise = rng.normal(0, 3, (4, height, width, 3)).astype(np.float32)
    for i in range(1_000_000):
        x, y = (7 * i) % (4096 - width), (3 * i) % (4096 - height)
        yield np.clip(ground[y : y + height, x : x + width] + noise[i % 4], 0, 255).astype(np.uint8)


def record(path: Path, size: tuple[int, int], compressed: bool, frames: int, storage: str) -> Path:
    """A recording at 30 Hz with odometry at 200 Hz."""
    with BagWriter(path, storage=storage) as bag:
        poses = iter(range(-2, frames * POSES_HZ // RATE_HZ + 20))
        for i, rgb in zip(range(frames), pictures(*size), strict=False):
            stamp = T0_NS + i * SECOND_NS // RATE_HZ
            for j in poses:
                at = T0_NS + j * SECOND_NS // POSES_HZ
                pose = ((j / 100, 0, 10), (0, 0, 0, 1))
                bag.write("/odom", bag.make.odometry(at, "odom", "camera_optical", *pose), at)
                if at > stamp + SECOND_NS // RATE_HZ:
                    break
            if compressed:
                jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
                bag.write("/camera/image/compressed", bag.make.compressed_image(stamp, "camera_optical", jpeg), stamp)
            else:
                bag.write("/camera/image", bag.make.image(stamp, "camera_optical", rgb, "rgb8"), stamp)
    return path


def run(code: tuple[str, str], bag: Path, out: Path, jobs: int = 0) -> tuple[float, float]:
    """Seconds and MB of one conversion in a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    setup, work = code
    script = _MEASURED.format(folder=str(Path(__file__).parent), setup=setup, work=work.format(jobs=jobs))
    done = subprocess.run(
        [sys.executable, "-c", script, str(bag), str(out)], capture_output=True, text=True, check=True
    )
    seconds, kib = done.stdout.split()
    return float(seconds), float(kib) / 1000


def check_same(ours: Path, loop: Path, compressed: bool) -> None:
    """The two made the same frames: raw ones with the same pixels, compressed ones byte for byte as recorded in
    ours.
    """
    names = [sorted(path.stem for path in (folder / "rgb").iterdir()) for folder in (ours, loop)]
    assert names[0] == names[1], f"{len(names[0])} and {len(names[1])} frames"
    if not compressed:
        for stem in names[0][::20]:
            pixels = [cv2.imread(str(folder / "rgb" / f"{stem}.png")) for folder in (ours, loop)]
            assert np.array_equal(*pixels), stem


def measure(folder: Path, size: str, kind: str, storage: str, frames: int, runs: int) -> tuple[str | float, ...]:
    """One row of the table."""
    bag = record(folder / "bag", SIZES[size], kind == "compressed", frames, storage)
    for file in bag.iterdir():
        file.read_bytes()
    found: dict[str, list[tuple[float, float]]] = {"loop": [], "ours": [], "one": []}
    for _ in range(runs):
        found["loop"].append(run(LOOP, bag, folder / "loop"))
        found["ours"].append(run(OURS, bag, folder / "ours"))
        found["one"].append(run(OURS, bag, folder / "one", jobs=1))
    check_same(folder / "ours", folder / "loop", kind == "compressed")
    rates = {name: frames / statistics.median(seconds for seconds, _ in rows) for name, rows in found.items()}
    ratio = rates["ours"] / rates["loop"]
    megabytes = {name: size_mb(folder / name / "rgb") for name in ("loop", "ours")}
    for path in folder.iterdir():
        shutil.rmtree(path)
    return (
        kind, size, storage, rates["loop"], rates["one"], rates["ours"], f"**{ratio:.2f}**", BARS[kind],
        megabytes["loop"], megabytes["ours"],
    )  # fmt: skip


def size_mb(folder: Path) -> float:
    """Of all files."""
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


def measure_memory(folder: Path, kind: str, storage: str, frames: int) -> tuple[str | float, ...]:
    """A row: peak memory of a recording and of one four times as long."""
    peaks = []
    for count in (frames, 4 * frames):
        bag = record(folder / "bag", SIZES["1080p"], kind == "compressed", count, storage)
        peaks.append(run(OURS, bag, folder / "ours")[1])
        for path in folder.iterdir():
            shutil.rmtree(path)
    return kind, storage, *peaks, 100 * (peaks[1] / peaks[0] - 1)


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--frames", type=int, default=120, help="of each recording (512: eight times as many, for as many pixels)"
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="where recordings and datasets are made (5 GB)")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory of long recordings out")
    parser.add_argument("--only", default="", help="part of a row's name, as 'raw 1080p mcap'; writes no file")
    options = parser.parse_args()
    table = Table.of(
        {
            **dict.fromkeys(("images", "size", "storage"), ""),
            **dict.fromkeys(("loop, frames/s", "ours, 1 thread", "ours"), ".1f"),
            "ratio": "s", "bar": "g", **dict.fromkeys(("loop, MB", "ours, MB"), ".0f"),
        }
    )  # fmt: skip
    print(table.markdown(), flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        for kind in BARS:
            for size in SIZES:
                for storage in ("mcap", "sqlite3"):
                    if options.only in f"{kind} {size} {storage}":
                        frames = options.frames * (1 if size == "1080p" else 8)
                        row = measure(folder, size, kind, storage, frames, options.runs)
                        print(table.add(*row), flush=True)
        memory = Table.of(
            {"1080p images": "", "storage": "", "MB": ".0f", "MB, four times as long": ".0f", "%": "+.1f"}
        )
        for kind in () if options.no_memory else BARS:
            for storage in ("mcap", "sqlite3"):
                print(memory.add(*measure_memory(folder, kind, storage, options.frames)), flush=True)
    if options.only or options.no_memory:
        return
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(
        f"# Bags to datasets\n\n`python bench/convert_speed.py`: {os.cpu_count()} cores ({processor()}), medians of "
        f"{options.runs} runs in turn. The loop (`bench/straightforward_convert.py`) decodes with OpenCV and writes "
        "with "
        "cv2.imwrite: compressed images as JPEG of quality 95, raw ones as PNG with OpenCV's defaults. Ours keeps JPEG "
        "as recorded, and PNG holds the same pixels.\n\n"
        + table.markdown()
        + "\n\nPeak memory of the process:\n\n"
        + memory.markdown()
        + "\n"
    )


if __name__ == "__main__":
    main()
