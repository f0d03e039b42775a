"""What DeepV2D's modules cost: processor time and memory of a training step and of inference, by number of views.

    python bench/deepv2d_cost.py                             # 64 x 64 px at width 0.25, two snippets
    python bench/deepv2d_cost.py --side 128 --batch 1

Times are medians of processor time on one thread; memory is what the process grew by, each row in its own. Motion is
of three steps. Writes bench/results/deepv2d_cost.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.models.deepv2d.config import DeepV2DConfig
from pose2rgbd_ros.models.deepv2d.network import DeepV2D
from pose2rgbd_ros.reports.table import Table

RESULTS = Path(__file__).resolve().parent / "results" / "deepv2d_cost.md"
VIEWS = (2, 3, 5, 7)
TIMES = ("stereo ms", "motion ms", "first motions ms")
COLUMNS = {"views": "d", "what": "", **dict.fromkeys((*TIMES, "memory MB"), ".0f")}


def median_ms(call: Callable[[], object], repeats: int) -> float:
    call()
    found = []
    for _ in range(repeats):
        began = time.process_time()
        call()
        found.append(1e3 * (time.process_time() - began))
    return float(np.median(found))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def row(views: int, trains: bool, args: argparse.Namespace) -> list[int | str | float]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = (args.side, args.side)
    network = DeepV2D(DeepV2DConfig(image_size=size, width=args.width, min_depth=1.0, max_depth=10.0)).train(trains)
    images = torch.rand(args.batch, views, 3, *size)
    middle = (args.side - 1) / 2
    K = torch.tensor([[args.side, 0.0, middle], [0.0, args.side, middle], [0.0, 0.0, 1.0]]).expand(args.batch, 3, 3)
    depth = 2 + 6 * torch.rand(args.batch, *size)
    before = peak_mb()
    with torch.set_grad_enabled(trains):
        T_tgt_i = network.initial_motions(images, K).detach()
        calls: list[Callable[[], torch.Tensor]] = [
            lambda: network.stereo(images, K, T_tgt_i)[-1],
            lambda: torch.stack(network.motion(images, K, depth, T_tgt_i).T_tgt_i),
            lambda: network.initial_motions(images, K),
        ]

        def step(call: Callable[[], torch.Tensor]) -> None:
            shown = call()
            if trains:
                network.zero_grad()
                shown.mean().backward()

        times = [median_ms(lambda call=call: step(call), args.repeats) for call in calls]  # type: ignore[misc]
    return [views, "training step" if trains else "inference", *times, peak_mb() - before]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=64, help="of the images in pixels")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    machine = described()
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        rows = pool.starmap(row, [(views, trains, args) for trains in (True, False) for views in VIEWS], chunksize=1)
    table = Table.of(COLUMNS)
    for each in rows:
        table.add(*each)
    command = (
        f"`python bench/deepv2d_cost.py --side {args.side} --width {args.width:g} --batch {args.batch}`, one thread of "
        f"{machine}; 32 depths, motion in three steps; medians of {args.repeats} of processor time"
    )
    RESULTS.write_text(f"# What DeepV2D costs\n\n{command}\n\n{table.markdown()}\n")
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
