"""CPU milliseconds per frame on one thread: the eager network against its ONNX graph, and whole `Renderer.render`
calls.

    python bench/render_speed.py            # prints the table and writes bench/results/render_speed.md
    python bench/render_speed.py --quick    # Base at 512x512 depth only; exit status 1 below the 2.5x asked for
    python bench/render_speed.py --relief   # relief only, nothing written; exit status 1 below 8 FPS at 512 on two
    cores

network: the eager network under inference_mode, from an encoded pose to its raw output.
graph: the ONNX graph, from the same pose to finished uint8 colour, metres and confidence: it does more.
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
import onnxruntime
import torch
from relief_city import write_relief
from torch import nn

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.backends import OnnxBackend
from pose2rgbd_ros.models.graphs import GRAPH_FILE
from pose2rgbd_ros.models.pose2rgbd.config import Pose2RGBDConfig
from pose2rgbd_ros.models.pose2rgbd.network import Pose2RGBD
from pose2rgbd_ros.models.relief import kernels
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.training.checkpoint import Checkpoint, save_checkpoint
from pose2rgbd_ros.training.families import architecture_of

RESULT = Path(__file__).parent / "results" / "render_speed.md"
TARGET = 2.5
FRAMES_PER_TURN = 4
HEADER = """# Speed of rendering

`python bench/render_speed.py`, one CPU thread, batch 1, median CPU time of interleaved runs
(columns: see its docstring).

{machine}

"""
COLUMNS = {
    "model": "", "output": "", "size": "d", "network ms": ".1f", "graph ms": ".1f", "network / graph": ".2f",
    "torch ms": ".1f", "onnx ms": ".1f", "torch / onnx": ".2f",
}  # fmt: skip

RELIEF_HEADER = """
## Relief

Load before: {load:.1f} on {cores} cores. Rows as the module's docstring says.

"""
RELIEF_COLUMNS = {
    "size": "d", "torch ms": ".0f", "torch, march compiled ms": ".0f", "numba ms": ".1f", "torch / numba": ".1f",
    "2 threads ms": ".1f", "FPS": ".1f",
}  # fmt: skip
RELIEF_FPS = {512: 8.0, 256: 25.0}


def random_checkpoint(folder: Path, config: Pose2RGBDConfig) -> tuple[Path, Pose2RGBD, np.ndarray]:
    """A checkpoint of random weights, its network and its training poses."""
    torch.manual_seed(0)
    model = Pose2RGBD(config).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.1, 0.5)
    T_map_cam = np.tile(np.eye(4), (16, 1, 1))
    T_map_cam[:, :3, 3] = np.random.default_rng(0).uniform(-5, 5, (16, 3))
    side = config.size
    save_checkpoint(
        folder,
        Checkpoint(
            architecture=architecture_of(model),
            normalization=Normalization.fit(T_map_cam, np.array([[[1.0, 60.0]]])),
            camera=Camera(side, side, side, side, (side - 1) / 2, (side - 1) / 2),
            map_frame="map",
            camera_frame="camera",
            depth_kind="metric" if config.has_depth else None,
            state_dict=model.state_dict(),
            training_stamps_ns=np.arange(16),
            training_T_map_cam=T_map_cam,
        ),
    )
    return folder, model, T_map_cam


def medians_ms(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, taking turns of some frames, the first of which finds the others' data in the
    cache.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            run()
            for _ in range(FRAMES_PER_TURN):
                started = time.process_time()
                run()
                times[name].append(time.process_time() - started)
    return {name: 1e3 * float(np.median(values)) for name, values in times.items()}


def measure(config: Pose2RGBDConfig, rounds: int) -> dict[str, float]:
    """Median milliseconds of "network", "graph", "torch" and "onnx"."""
    with tempfile.TemporaryDirectory() as folder:
        path, model, T_map_cam = random_checkpoint(Path(folder) / "checkpoint", config)
        eager, fast = (Renderer(path, "cpu", backend, threads=1) for backend in ("torch", "onnx"))
        graph = OnnxBackend((path / GRAPH_FILE).read_bytes(), eager.normalization, threads=1)
        pose = eager.normalization.encode_pose(T_map_cam[:1])
        tensor, images = torch.from_numpy(pose), fast.render(T_map_cam[:1])

        def network() -> None:
            with torch.inference_mode():
                model(tensor)

        return medians_ms(
            {
                "network": network,
                "graph": lambda: graph.render(T_map_cam[:1], eager.camera, images),
                "torch": lambda: eager.render(T_map_cam[:1], images),
                "onnx": lambda: fast.render(T_map_cam[:1], images),
            },
            rounds,
        )


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
        ms = medians_ms(contestants, rounds)
        ms["fps"] = 1 / float(np.median([timed_s(contestants["two"]) for _ in range(4 * rounds)]))
        return ms


def timed_s(run: Callable[[], object]) -> float:
    """Seconds on the clock."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def relief_table(rounds: int) -> tuple[str, bool]:
    """The section of relief, printed too, and whether its rows reach what was asked for."""
    head, good = RELIEF_HEADER.format(load=os.getloadavg()[0], cores=os.cpu_count()), True
    table = Table.of(RELIEF_COLUMNS)
    print(head + table.markdown())
    for size, least in RELIEF_FPS.items():
        ms = measure_relief(size, rounds)
        row = size, ms["torch"], ms["march"], ms["numba"], ms["torch"] / ms["numba"], ms["two"], ms["fps"]
        print(table.add(*row), flush=True)
        good = good and ms["fps"] >= least
    return f"{head}{table.markdown()}\n", good


def machine() -> str:
    """The processor and the versions that made the figures."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    vectors = "AVX-512" if any("avx512f" in line for line in lines) else "no AVX-512"
    versions = f"PyTorch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}"
    return f"Machine: {processor()} ({vectors}), {os.cpu_count()} cores, {versions}."


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
    options = parser.parse_args()
    quick = options.quick
    torch.set_num_threads(1)
    if options.relief:
        return 0 if relief_table(rounds=3)[1] else 1
    head, table, ratios = HEADER.format(machine=machine()), Table.of(COLUMNS), []
    print(head + table.markdown())
    for config, rounds in cases(quick):
        ms = measure(config, rounds)
        ratios.append(ms["network"] / ms["graph"])
        name = f"slice-{config.slices}" if config.variant == "slice" else "base"
        row = (
            name, config.output, config.size, ms["network"], ms["graph"], ratios[-1], ms["torch"], ms["onnx"],
            ms["torch"] / ms["onnx"],
        )  # fmt: skip
        print(table.add(*row), flush=True)
    if not quick:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(f"{head}{table.markdown()}\n{relief_table(rounds=3)[0]}")
    return 0 if ratios[0] >= TARGET else 1


if __name__ == "__main__":
    raise SystemExit(main())
