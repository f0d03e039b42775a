"""One query of a pose by regression: processor time on one thread, and the sizes of the networks.

    python bench/posegan.py --rounds 7 --out bench/results/posegan.md

PoseGAN's discriminator and PoseNet on ResNet-34 at 128 px and full width, asked in turns in one process with an image
as it comes (uint8) and a pose as it goes (4 x 4). The weights are random: their values do not change the time. Times
are processor time of the thread, which other processes disturb less than the clock on the wall. Exit status 1 when a
query takes more than 30 ms or the trunk is more than 30 % of the ResNet-34 regressor's size.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.training.families import build_model

BAR_MS, BAR_SHARE = 30.0, 0.3
QUERIES = 10  # of each network a round
NETWORKS: dict[str, dict[str, Any]] = {
    "posegan": {"network": "posegan", "size": 128},
    "posenet, ResNet-18": {"network": "posenet", "size": 128, "trunk": "resnet18"},
    "posenet, ResNet-34": {"network": "posenet", "size": 128, "trunk": "resnet34"},
}
BASELINE = "posenet, ResNet-34"


def size_of(model: Any) -> int:
    """Parameters that a query goes through."""
    parts = [model.discriminator.trunk, model.discriminator.pose] if hasattr(model, "discriminator") else [model]
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


@torch.inference_mode()
def query_ms(model: Any, image: np.ndarray, normalization: Normalization) -> float:
    """Mean processor time of a few queries."""
    start_s = time.process_time()
    for _ in range(QUERIES):
        rgb = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255.0
        model.poses(rgb, normalization).T_map_cam.numpy()
    return (time.process_time() - start_s) / QUERIES * 1e3


def main() -> int:
    """Measure, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    quats = random.normal(size=(20, 4))
    T_map_cam = se3.make(random.uniform(-50, 50, (20, 3)), quats / np.linalg.norm(quats, axis=1, keepdims=True))
    normalization = Normalization.fit(T_map_cam)
    image = random.integers(0, 256, (128, 128, 3), np.uint8)
    models: dict[str, Any] = {name: build_model(architecture).eval() for name, architecture in NETWORKS.items()}
    for model in models.values():  # the first query makes the quick copy
        query_ms(model, image, normalization)
    times = {name: [] for name in models}
    for _ in range(arguments.rounds):
        for name, model in models.items():
            times[name].append(query_ms(model, image, normalization))
    sizes = {name: size_of(model) for name, model in models.items()}
    of = "of ResNet-34's"
    table = Table(
        [
            Column("network"), Column("parameters", format=","), Column("size", of, ".2f"),
            Column("ms a query, median (least)", format="s"), Column("time", of, ".2f"),
        ]
    )  # fmt: skip
    medians = {name: float(np.median(each)) for name, each in times.items()}
    for name in models:
        ms = f"{medians[name]:.1f} ({min(times[name]):.1f})"
        table.add(name, sizes[name], sizes[name] / sizes[BASELINE], ms, medians[name] / medians[BASELINE])
    threads = f"one thread of {processor()}, PyTorch {torch.__version__}"
    text = (
        f"# Pose regression\n\n`python bench/posegan.py`: 128 px, full width, {threads}; {arguments.rounds} rounds.\n\n"
    )
    text += table.markdown() + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    fits = medians["posegan"] <= BAR_MS and sizes["posegan"] <= BAR_SHARE * sizes[BASELINE]
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main())
