"""Relief with and without charts, feature textures along the surface, where flights see ground, facades and streets.

    python bench/relief_charts.py                                          # an orbit, a street, a survey: 15 minutes
    python bench/relief_charts.py --also kitchen=DATASET --split segments  # any dataset beside them

Equal processor time, one thread; figures are of frames that chose nothing. Rows that are there in --out are kept. ms:
median processor time of a picture of 256 x 256 pixels, RGB and depth, one thread.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from relief_memory import milliseconds

from pose2rgbd_ros.cli.main import main as pose2rgbd
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.held_out import choose_frames
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.evaluation.pictures import measure
from pose2rgbd_ros.experiments.pictures import draw_side_by_side, show
from pose2rgbd_ros.models.relief.config import ReliefSettings
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.metrics import spread
from pose2rgbd_ros.training.trainer import train

RESULT = Path(__file__).parent / "results" / "relief_charts.md"
FLIGHTS = {
    "orbit": "--frames 400 --size 256 --fov-deg 70 --flight.plan orbit --city.extent-m 200",
    "street": "--frames 400 --size 256 --fov-deg 80 --flight.plan street",
    "survey": "--frames 500 --size 256 --fov-deg 90 --flight.plan lawnmower --flight.line-spacing-m 25 "
    "--flight.attitude-jitter-deg 4 --flight.holdout 0.17",
}
KINDS = ("none", "steep")
COLUMNS = (
    Column("name", ""),
    Column("rgb_mae_px", "RGB of 255", ".2f"),
    Column("psnr_db", "PSNR dB", ".2f"),
    Column("ssim", "SSIM", ".3f"),
    Column("depth_mae", "depth m", ".3f"),
    Column("charts", "charts", ",d"),
    Column("mb", "MB", ".1f"),
    Column("ms", "ms", ".1f"),
    Column("images", "images seen", ",d"),
)


def measured(place: str, dataset: Path, split: str, args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Rows by group of frames; what is trained already is not trained again."""
    rows: dict[str, list[dict[str, Any]]] = {}
    runs = {}
    for seed in range(args.seeds):
        for kind in KINDS:
            run = args.out / "runs" / f"{place}-{kind}-{seed}"
            runs[kind] = run
            if not (run / "checkpoint").exists():
                config = train_config(
                    "relief", size=args.size, split=split, seed=seed, max_minutes=args.minutes, clock="cpu",
                    tensorboard=False, relief=ReliefSettings(charts=kind),  # type: ignore[arg-type]
                )  # fmt: skip
                train(dataset, run, config)
            found, checkpoint = measure(run, dataset, device="cpu"), load_checkpoint(run)
            facts = {
                "name": f"charts {kind}" + (f", seed {seed}" if args.seeds > 1 else ""),
                "charts": checkpoint.config().charts,  # type: ignore[union-attr]
                "mb": (run / "checkpoint" / "weights.safetensors").stat().st_size / 1e6,
                "ms": milliseconds(run, Dataset(dataset)),
                "images": int(checkpoint.provenance["images"]),
            }
            for group, scores in (found.group_scores() or {"held-out segments": found.scores}).items():
                rows.setdefault(f"{place}, {group}", []).append({**facts, **scores["model"]})
            print(json.dumps({"place": place, **facts, **found.scores["model"]}), flush=True)
    data = Dataset(dataset)
    frames = spread(choose_frames(load_checkpoint(runs["none"]), data, "checkpoint").test, 4)
    shown = [show(run, data, frames, device="cpu", title=f"charts {kind}") for kind, run in runs.items()]
    draw_side_by_side(args.out / f"{place}.png", shown, [f"frame {frame}" for frame in frames], place)
    return rows


def main() -> None:
    """Fly, train, measure, print, perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("relief_charts"), help="datasets, runs and pictures")
    parser.add_argument("--also", default="", help="NAME=DATASET")
    parser.add_argument("--split", default="lines+random", help="of --also")
    parser.add_argument("--minutes", type=float, default=2.0, help="processor minutes a training")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, Any]]] = {}
    for place, words in FLIGHTS.items():
        folder = args.out / place
        if not folder.exists():
            pose2rgbd(["sim", "dataset", str(folder), "--processes", "1", *words.split()])
        rows |= measured(place, folder, "lines+random", args)
    if args.also:
        place, _, folder_name = args.also.partition("=")
        rows |= measured(place, Path(folder_name), args.split, args)
    parts = [
        "# Relief with charts of the surface",
        f"`python bench/relief_charts.py --minutes {args.minutes:g} --seeds {args.seeds}`: {args.size} px, "
        f"{args.minutes:g} processor minutes a training (one thread of {processor()}). What is measured how: its "
        "docstring.",
    ]
    for title, some in rows.items():
        parts += [f"**{title}**", Table(COLUMNS, some).markdown()]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if args.write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
