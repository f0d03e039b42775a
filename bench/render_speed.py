"""CPU milliseconds per frame on one thread: the eager network against its ONNX graph, and whole `Renderer.render`
calls.

    python bench/render_speed.py            # prints the table and writes bench/results/render_speed.md
    python bench/render_speed.py --quick    # Base at 512x512 depth only; exit status 1 below the 2.5x asked for
    python bench/render_speed.py --relief   # relief only, nothing written; exit status 1 below 20 FPS at 512 on two
    cores

network: the eager network under inference_mode, from an encoded pose to its raw output.
graph: the ONNX graph, from the same pose to finished uint8 colour, metres and confidence: it does more.
of the limit: how much of what the processor (sgemm) or its memory (copy) could do, measured in the same turns.
torch, onnx: `Renderer.render` with either backend, from a 4x4 pose to finished images.

relief (a city of 300 x 300 m, see relief_city.py; RGBD; the camera looks down):
torch: the network, its march in PyTorch too, as where numba is missing. torch, march compiled: as `--backend torch`.
numba: the compiled renderer (by part: relief_speed.py). 2 threads: CPU time of both together.
FPS: frames over time on the clock with two threads, which other programs on the machine do slow.

The weights are random (with spread batch-norm statistics): values do not change the time. The contestants take turns
and the median counts. What is counted is the CPU time of the process: it equals the time on the clock where one
thread has a core to itself, and other programs do not enter into it.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from relief_city import write_relief

from pose2rgbd_ros.bench.measure import (
    Cost,
    Limits,
    Page,
    Row,
    cost_of,
    eager,
    interleaved,
    random_checkpoint,
    with_limits,
)
from pose2rgbd_ros.models.backends import OnnxBackend
from pose2rgbd_ros.models.graphs import GRAPH_FILE
from pose2rgbd_ros.models.pose2rgbd.config import Pose2RGBDConfig
from pose2rgbd_ros.models.relief import kernels
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.reports.table import Table

RESULTS = Path(__file__).parent / "results"
TARGET = 2.5
ABOUT = "one CPU thread, batch 1, median CPU time of interleaved runs (columns: see its docstring)."
COLUMNS = {
    "model": "", "output": "", "size": "d", "network ms": ".1f", "graph ms": ".1f", "network / graph": ".2f",
    "of the limit": ".0%", "torch ms": ".1f", "onnx ms": ".1f", "torch / onnx": ".2f",
}  # fmt: skip

RELIEF_HEADER = """
## Relief

Load before: {load:.1f} on {cores} cores. Rows as the module's docstring says.

"""
RELIEF_COLUMNS = {
    "size": "d", "torch ms": ".0f", "torch, march compiled ms": ".0f", "numba ms": ".1f", "torch / numba": ".1f",
    "2 threads ms": ".1f", "FPS": ".1f",
}  # fmt: skip
RELIEF_FPS = {512: 20.0, 256: 50.0}  # of two threads, as the node's rates are asked for


def measure(config: Pose2RGBDConfig, rounds: int) -> tuple[dict[str, float], Cost, Limits]:
    """Median milliseconds of "network", "graph", "torch" and "onnx"; what the network has to do, and what the machine
    gave.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, model, T_map_cam = random_checkpoint(Path(folder) / "checkpoint", config)
        whole, fast = (Renderer(path, "cpu", backend, threads=1) for backend in ("torch", "onnx"))
        graph = OnnxBackend((path / GRAPH_FILE).read_bytes(), whole.normalization, threads=1)
        pose = torch.from_numpy(whole.normalization.encode_pose(T_map_cam[:1]))
        images = fast.render(T_map_cam[:1])
        contestants: dict[str, Callable[[], object]] = {
            "network": eager(model, pose),
            "graph": lambda: graph.render(T_map_cam[:1], whole.camera, images),
            "torch": lambda: whole.render(T_map_cam[:1], images),
            "onnx": lambda: fast.render(T_map_cam[:1], images),
        }
        times, limits = with_limits(contestants, rounds)
        return {name: 1e3 * seconds for name, seconds in times.items()}, cost_of(model, pose), limits


def measure_relief(size: int, rounds: int) -> dict[str, float]:
    """Median milliseconds of the contestants, and frames per second with two threads."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        T_map_cam = write_relief(path, size)[:1]
        torch_ = Renderer(path, "cpu", "torch", threads=1)
        one, two = (Renderer(path, "cpu", threads=threads) for threads in (1, 2))
        torch.set_num_threads(1)
        images = one.render(T_map_cam)

        def without_numba() -> None:
            compiled, kernels.HAS_NUMBA = kernels.HAS_NUMBA, False
            try:
                torch_.render(T_map_cam, images)
            finally:
                kernels.HAS_NUMBA = compiled

        contestants: dict[str, Callable[[], object]] = {
            "torch": without_numba,
            "march": lambda: torch_.render(T_map_cam, images),
            "numba": lambda: one.render(T_map_cam, images),
            "two": lambda: two.render(T_map_cam, images),
        }
        ms = {name: 1e3 * seconds for name, seconds in interleaved(contestants, rounds).items()}
        ms["fps"] = 1 / float(np.median([timed_s(contestants["two"]) for _ in range(4 * rounds)]))
        return ms


def timed_s(run: Callable[[], object]) -> float:
    """Seconds on the clock."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def relief_table(rounds: int) -> tuple[str, list[Row], bool]:
    """The section of relief, printed too, its figures, and whether they reach what was asked for."""
    rows: list[Row] = []
    head, good = RELIEF_HEADER.format(load=os.getloadavg()[0], cores=os.cpu_count()), True
    table = Table.of(RELIEF_COLUMNS)
    print(head + table.markdown())
    for size, least in RELIEF_FPS.items():
        ms = measure_relief(size, rounds)
        row = size, ms["torch"], ms["march"], ms["numba"], ms["torch"] / ms["numba"], ms["two"], ms["fps"]
        print(table.add(*row), flush=True)
        rows += [
            Row.of(f"relief rgbd {size}", ms["numba"], "ms", ms["march"]),
            Row.of(f"relief rgbd {size} two threads", ms["fps"], "FPS"),
        ]
        good = good and ms["fps"] >= least
    return f"{head}{table.markdown()}", rows, good


def cases(quick: bool) -> list[tuple[Pose2RGBDConfig, int]]:
    """Configurations with their number of rounds."""
    base = [(Pose2RGBDConfig("base", output=output), 25) for output in ("depth", "rgb", "rgbd")]
    small = [(Pose2RGBDConfig("base", output="rgbd", size=size), 25) for size in (128, 256)]
    slices = [
        (Pose2RGBDConfig("slice", slices=count, output=output), 5)
        for count in (10, 32, 64)
        for output in ("depth", "rgbd")
    ]
    return base[:1] if quick else base + small + slices


def main() -> int:
    """Measure, print, write; 1 when the first case misses the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only Base at 512x512 depth, nothing written")
    parser.add_argument("--relief", action="store_true", help="only relief, nothing written")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of render_speed.md and .json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.relief:
        return 0 if relief_table(rounds=3)[2] else 1
    page = Page("render_speed", "Speed of rendering", "python bench/render_speed.py", ABOUT)
    table, ratios = Table.of(COLUMNS), []
    print(page.markdown() + "\n" + table.markdown())
    for config, rounds in cases(options.quick):
        ms, cost, limits = measure(config, rounds)
        least_ms = 1e3 * limits.least_s(cost)
        ratios.append(ms["network"] / ms["graph"])
        name = f"slice-{config.slices}" if config.variant == "slice" else "base"
        row = (
            name, config.output, config.size, ms["network"], ms["graph"], ratios[-1], least_ms / ms["graph"],
            ms["torch"], ms["onnx"], ms["torch"] / ms["onnx"],
        )  # fmt: skip
        print(table.add(*row), flush=True)
        name = f"{name} {config.output} {config.size}"
        page.rows += [
            Row.of(f"{name} graph", ms["graph"], "ms", ms["network"], least_ms),
            Row.of(f"{name} renderer", ms["onnx"], "ms", ms["torch"], least_ms),
        ]
    if not options.quick:
        relief, relief_rows, _ = relief_table(rounds=3)
        page.rows += relief_rows
        page.sections += [table.markdown(), relief.strip()]
        page.write(options.out)
    return 0 if ratios[0] >= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
