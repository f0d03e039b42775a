"""Table 4 of the paper (Pose2RGBD) on this machine: parameters, memory and frames per second of its four networks.

The paper: input position and quaternion, output 512 x 512 depth, batches of 1, 5 and 10, on an Intel i7-6700HQ (and two
GPUs). FPS is the batch over the time of a forward pass. RAM is "the difference of memory usage before and after a
forward pass"; its figures are about what PyTorch keeps for a backward pass, so that is measured, and what a pass leaves
behind without, beside the peak.

What we add is another way to run the same networks: the ONNX graph that the render node uses, whose images are finished
(metres), frame by frame, as a batch gains nothing on a CPU.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from pose2rgbd_ros.bench.measure import Cost, Limits, Page, Row, cost_of, eager, random_checkpoint, use_threads
from pose2rgbd_ros.bench.measure import with_limits as measured
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.backends import Backend, empty_images
from pose2rgbd_ros.models.pose2rgbd import backend
from pose2rgbd_ros.models.pose2rgbd.config import Pose2RGBDConfig
from pose2rgbd_ros.models.pose2rgbd.network import Pose2RGBD
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.training.checkpoint import load_checkpoint

PAPER_SIZE = 512


class Published(NamedTuple):
    """What the paper says of a network: parameters, and by batch the RAM in MB and the FPS on its CPU."""

    parameters: int
    by_batch: dict[int, tuple[float, float]]


PAPER = {
    "base": Published(2_928_673, {1: (31.34, 32.85), 5: (86.13, 41.04), 10: (124.14, 37.16)}),
    "slice-10": Published(2_975_633, {1: (128.78, 7.85), 5: (320.39, 7.58), 10: (924.69, 6.92)}),
    "slice-32": Published(2_987_601, {1: (151.63, 7.63), 5: (579.22, 6.74), 10: (1258.21, 6.67)}),
    "slice-64": Published(3_005_009, {1: (164.69, 7.04), 5: (655.28, 6.49), 10: (1446.07, 6.50)}),
}
COLUMNS = {
    "network": "", "parameters": ",d", "batch": "d",
    "RAM, paper": ".0f", "RAM, with autograd": ".0f", "RAM, eager": ".0f", "RAM, ONNX": ".0f",
    "FPS, paper": ".1f", "FPS, eager": ".1f", "FPS, ONNX": ".1f", "ONNX / eager": ".2f",
}  # fmt: skip
LIMIT_COLUMNS = {
    "network": "", "GFLOP a frame": ".3f", "MB a frame": ".1f", "eager GFLOP/s": ".0f", "ONNX GFLOP/s": ".0f",
    "sgemm GFLOP/s": ".0f", "ONNX of sgemm": ".0%", "ONNX GB/s": ".1f", "copy GB/s": ".1f", "least ms": ".2f",
    "ONNX ms": ".2f", "of base's": ".1f",
}  # fmt: skip
ABOUT = """{threads} CPU thread(s), {size} x {size} depth of position and quaternion; medians of {rounds}
rounds in turns, the time of {clock}.

RAM in MB is what memory grows by in a forward pass, the first of a process: with the library's code that is used for
the first time, less where memory that loading used is free again. Eager is `eval` and `inference_mode`; "with autograd"
is `eval` alone, which keeps what a backward pass needs. ONNX is the render node's graph, frame by frame, to finished
metres. The paper's CPU is an Intel i7-6700HQ."""
LIMITS_ABOUT = """## Against the machine's limits

Batch 1. Bytes: each layer reads its input and weights and writes its output once; sgemm: a product of 1024 x 1024
matrices, copy: of 64 MB, both in the same turns and on the same threads. Least: what neither lets a frame stay below,
were no byte found in a cache."""


def network_config(name: str, size: int) -> Pose2RGBDConfig:
    """A network of the paper, to the letter where the size is the paper's 512."""
    if name == "base":
        return Pose2RGBDConfig("base", output="depth", size=size)
    return Pose2RGBDConfig("slice", slices=int(name.removeprefix("slice-")), output="depth", size=size)


def table4(
    command: str,
    threads: int = 1,
    rounds: int = 5,
    size: int = PAPER_SIZE,
    batches: Iterable[int] = (1, 5, 10),
    networks: Iterable[str] = tuple(PAPER),
) -> Page:
    """The page; `command` is what it says made it.

    Raises:
        UserError: an unknown network, a batch or number of rounds below 1, more threads than cores.
    """
    batches, networks = tuple(batches), tuple(networks)
    unknown = [name for name in networks if name not in PAPER]
    if unknown or not networks or not batches or min(batches) < 1:
        raise UserError(f"networks {networks}, batches {batches}: choose of {', '.join(PAPER)}, batches from 1 up")
    use_threads(threads)
    measured_by = "the processor" if threads == 1 else "the clock"
    about = ABOUT.format(threads=threads, size=size, rounds=rounds, clock=measured_by)
    page = Page("table4", "Table 4 of the paper", command, about)
    frames, limits = Table.of(COLUMNS), Table.of(LIMIT_COLUMNS)
    base_ms: float | None = None
    with (
        tempfile.TemporaryDirectory() as folder,
        _fresh_processes() as fresh,
        tqdm(total=len(networks) * len(batches), desc="table 4", unit="row", disable=None) as bar,
    ):
        for name in networks:
            config = network_config(name, size)
            path, model, T_map_cam = random_checkpoint(Path(folder) / name, config)
            exported = backend.make(path, load_checkpoint(path), threads)
            parameters = sum(weight.numel() for weight in model.parameters())
            cost = cost_of(model, _poses(config, 1))
            page.rows += [
                Row.of(f"{name} parameters", parameters, "1"),
                Row.of(f"{name} operations", cost.gflop, "GFLOP"),
                Row.of(f"{name} bytes", 1e3 * cost.gb, "MB"),
                *_published(name),
            ]
            for batch in batches:
                # One at a time, and nothing else meanwhile: memory and time are the machine's.
                ram = {way: fresh.submit(memory_mb, path, config, batch, way, threads).result() for way in WAYS}
                contestants = {
                    "eager": eager(model, _poses(config, batch)),
                    "onnx": _onnx(exported, path, T_map_cam, batch),
                }
                times, gave = measured(contestants, rounds, threads, turn=max(4 // batch, 1))
                fps = {way: batch / seconds for way, seconds in times.items()}
                page.rows += _rows(f"{name} batch {batch}", fps, cost, gave, ram)
                paper_ram, paper_fps = PAPER[name].by_batch.get(batch, (None, None))
                grown = [ram[way][0] for way in WAYS]
                frames.add(
                    name, parameters, batch, paper_ram, *grown, paper_fps, *fps.values(), fps["onnx"] / fps["eager"]
                )
                if batch == batches[0]:
                    ms = 1e3 / fps["onnx"]
                    base_ms = ms if name == "base" else base_ms
                    done = fps["onnx"] * cost.gflop
                    limits.add(
                        name, cost.gflop, 1e3 * cost.gb, fps["eager"] * cost.gflop, done, gave.gflop_s,
                        done / gave.gflop_s, fps["onnx"] * cost.gb, gave.gb_s, 1e3 * gave.least_s(cost), ms,
                        None if base_ms is None else ms / base_ms,
                    )  # fmt: skip
                bar.update()
    page.sections += [frames.markdown(), LIMITS_ABOUT, limits.markdown()]
    return page


def _rows(name: str, fps: dict[str, float], cost: Cost, gave: Limits, ram: dict[str, tuple[float, float]]) -> list[Row]:
    most = 1 / gave.least_s(cost)
    ram_rows = [
        Row.of(f"{name} {way} RAM {what}", figure, "MB", ram["eager"][index])
        for way, figures in ram.items()
        for index, (what, figure) in enumerate(zip(("grown", "peak"), figures, strict=True))
    ]
    return [
        Row.of(f"{name} eager", fps["eager"], "FPS", None, most),
        Row.of(f"{name} onnx", fps["onnx"], "FPS", fps["eager"], most),
        Row.of(f"{name} onnx arithmetic", fps["onnx"] * cost.gflop, "GFLOP/s", fps["eager"] * cost.gflop, gave.gflop_s),
        Row.of(f"{name} onnx memory", fps["onnx"] * cost.gb, "GB/s", fps["eager"] * cost.gb, gave.gb_s),
        *ram_rows,
    ]


def _published(name: str) -> list[Row]:
    """The paper's own figures, of its machine: no baseline, since nothing was measured beside them."""
    published = PAPER[name]
    rows = [Row.of(f"paper {name} parameters", published.parameters, "1")]
    for batch, (ram_mb, fps) in published.by_batch.items():
        rows += [
            Row.of(f"paper {name} batch {batch} RAM", ram_mb, "MB"),
            Row.of(f"paper {name} batch {batch}", fps, "FPS"),
        ]
    return rows


def _poses(config: Pose2RGBDConfig, batch: int) -> torch.Tensor:
    """Encoded poses (batch, pose_dim) in [-1, 1]."""
    return torch.rand(batch, config.pose_dim, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _onnx(exported: Backend, path: Path, T_map_cam: np.ndarray, batch: int) -> Any:
    checkpoint = load_checkpoint(path)
    T = np.resize(T_map_cam, (batch, 4, 4))  # the poses again and again
    images = empty_images(checkpoint, checkpoint.camera, batch)
    return lambda: exported.render(T, checkpoint.camera, images)


# Memory, which only a fresh process can tell.

WAYS = ("autograd", "eager", "onnx")


def _fresh_processes() -> ProcessPoolExecutor:
    """A process a task, forked off one that has the libraries loaded."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return ProcessPoolExecutor(1, context, max_tasks_per_child=1)


def memory_mb(path: Path, config: Pose2RGBDConfig, batch: int, way: str, threads: int) -> tuple[float, float]:
    """MB (10^6 bytes) that memory has grown by after a forward pass, and at its highest during it (Linux).

    The network and, for "onnx", its session are loaded before; the result is still held after.
    """
    checkpoint = load_checkpoint(path)
    torch.set_num_threads(threads)
    run: Any
    if way == "onnx":
        run = _onnx(backend.make(path, checkpoint, threads), path, checkpoint.training_T_map_cam, batch)
    else:
        model, poses = Pose2RGBD(config).eval(), _poses(config, batch)
        run = eager(model, poses) if way == "eager" else lambda: model(poses)
    before_mb, _ = _resident_mb()
    held = run()
    after_mb, highest_mb = _resident_mb()
    del held
    return after_mb - before_mb, max(highest_mb - before_mb, 0.0)


def _resident_mb() -> tuple[float, float]:
    """Of this process: now, and the highest so far. UserError where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        raise UserError(f"memory is read from {status}, which {os.uname().sysname} does not have; measure on Linux")
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    now, highest = (int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    return now, highest
