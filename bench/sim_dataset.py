"""CPU time and size of a synthetic dataset at the paper's scale: 11,085 frames of 512x512, colour supersampled 2x2.

    python bench/sim_dataset.py            # 300 frames spread over the whole flight, extrapolated
    python bench/sim_dataset.py --quick    # 60 frames, nothing written to bench/results
    python bench/sim_dataset.py --full     # all 11,085 frames for real

Exit status 1 where the bar is missed: 40 CPU-minutes and 3 GiB.

CPU time is that of all processes together, user and system, as the kernel counted it: other programs on the machine
enter into it only by what they take of the caches. Start-up (the city in every process, its textures and shadow map)
is measured with two frames a process, and is what does not grow with the frames. Size is that of all files.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.sim.dataset import SimDatasetConfig, write_sim_dataset

RESULT = Path(__file__).parent / "results" / "sim_dataset.md"
FRAMES = SimDatasetConfig().frames
MOST_CPU_MINUTES, MOST_GIB = 40.0, 3.0


@dataclass(frozen=True)
class Cost:
    """Of one dataset."""

    frames: int
    cpu_s: float
    wall_s: float
    rgb: int
    depth: int
    total: int  # bytes, the lists included


def cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def make(frames: int, processes: int) -> Cost:
    """Write a dataset and measure it."""
    with tempfile.TemporaryDirectory() as folder:
        path, used, started = Path(folder) / "set", cpu_s(), time.monotonic()
        write_sim_dataset(path, SimDatasetConfig(frames=frames, processes=processes))
        used, wall = cpu_s() - used, time.monotonic() - started
        return Cost(frames, used, wall, size_of(path / "rgb"), size_of(path / "depth"), size_of(path))


def report(cost: Cost, start_s: float | None, processes: int) -> tuple[str, bool]:
    """The table, and whether the bar is met; `start_s` None where the cost is of the whole dataset."""
    measured = start_s is None
    start_s = start_s or 0.0
    ms = 1e3 * (cost.cpu_s - start_s) / cost.frames
    scale = FRAMES / cost.frames
    minutes, gib = (start_s + ms * FRAMES / 1e3) / 60, cost.total * scale / 2**30
    met = minutes <= MOST_CPU_MINUTES and gib <= MOST_GIB
    kib = [amount / cost.frames / 1024 for amount in (cost.rgb, cost.depth)]
    how = f"all {FRAMES} frames" if measured else f"{cost.frames} frames spread over the whole flight"
    rows = [
        ("measured", f"{how}, {processes} processes, {cost.wall_s:.0f} s on the clock"),
        ("CPU a frame", f"{ms:.1f} ms{' (start-up included)' if measured else ''}"),
        ("colour, depth a frame", f"{kib[0]:.1f} KiB, {kib[1]:.1f} KiB"),
        *([] if measured else [("start-up", f"{start_s:.1f} CPU-s")]),
        (f"{FRAMES} frames", f"{minutes:.1f} CPU-minutes of {MOST_CPU_MINUTES:.0f}, {gib:.2f} GiB of {MOST_GIB:.0f}"),
        ("bar", "met" if met else "MISSED"),
    ]
    table = Table([Column("name", ""), Column("text", "")])
    for row in rows:
        table.add(*row)
    return table.markdown(), met


def main() -> int:
    """Measure, print, write; 1 when the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="60 frames, nothing written")
    parser.add_argument("--full", action="store_true", help=f"all {FRAMES} frames")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if options.full:
        start_s, cost = None, make(FRAMES, options.processes)
    else:
        # Two frames a process are start-up but for their own time, which the difference tells.
        first = make(2 * options.processes, options.processes)
        cost = make(60 if options.quick else 300, options.processes)
        frame_s = (cost.cpu_s - first.cpu_s) / (cost.frames - first.frames)
        start_s = first.cpu_s - frame_s * first.frames
    table, met = report(cost, start_s, options.processes)
    text = f"""# A synthetic dataset at the paper's scale

`python bench/sim_dataset.py{" --full" if options.full else ""}`: 512x512, colour supersampled 2x2, shadows;
JPEG q95 4:4:4 and 16 bit PNG of centimetres. CPU time of all processes. Machine: {processor()}, {os.cpu_count()} cores.

{table}
"""
    print(text)
    if not options.quick:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text)
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
