"""Relief without, with a thin, a full and a self-chosen memory of the recorded frames, beside warp-12, at equal
processor time.

    python bench/relief_memory.py --data DATA --places kitchen,seneca      # real recordings (see real_scenes.py)
    python bench/relief_memory.py --places survey=FOLDER --split lines+random   # a dataset folder under a name

Every place is trained on and judged by itself; rows already measured in --out are kept, and the page is made of all
that are there, so places may be measured one after the other. All figures are of frames that chose nothing. The
pictures side by side are in --out, for recordings are not part of the project.

ms: median processor time of a picture of 256 x 256 pixels, RGB and depth, one thread.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_scenes import SCENES, TO_JUDGE, TO_LEARN

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.held_out import choose_frames
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.evaluation.pictures import measure
from pose2rgbd_ros.experiments.pictures import draw_side_by_side, show
from pose2rgbd_ros.models.relief.config import ReliefSettings
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.metrics import spread
from pose2rgbd_ros.training.trainer import train

RESULT = Path(__file__).parent / "results" / "relief_memory.md"
MODELS = {
    f"relief, memory {kind}": ("relief", ReliefSettings(memory=kind)) for kind in ("none", "thin", "full", "auto")
}  # type: ignore[arg-type]
WARP = "warp-12, nothing learnt"
TIMED_PX, TIMED_POSES, SHEET_FRAMES = 256, 12, 4
COLUMNS = (
    Column("name", ""),
    Column("rgb_mae_px", "RGB of 255", ".2f"),
    Column("psnr_db", "PSNR dB", ".2f"),
    Column("ssim", "SSIM", ".3f"),
    Column("depth_mae", "depth m", ".3f"),
    Column("depth_known", "depth known", ".3f"),
    Column("mb", "MB", ".1f"),
    Column("ms", "ms", ".1f"),
    Column("images", "images seen", ",d"),
)


def datasets(place: str, data: Path | None, out: Path) -> tuple[Path, Path]:
    """What is learnt from, and what judges."""
    if "=" in place:
        path = Path(place.split("=", 1)[1])
        return path, path
    assert data is not None
    folder, make = SCENES[place]
    found = [out / f"{place}-{use}" for use in ("learned", "judged")]
    for dataset, points in zip(found, (TO_LEARN, TO_JUDGE), strict=True):
        if not dataset.exists():
            make(data / folder, dataset, points)
    return found[0], found[1]


def milliseconds(run: Path, dataset: Dataset) -> float:
    """Median processor time of a picture."""
    renderer = Renderer(run, "cpu", threads=1, guard=False, calibrated=False)
    camera = renderer.camera.resized(TIMED_PX, TIMED_PX)
    spent = []
    for T in np.repeat(dataset.T_map_cam[spread(np.arange(len(dataset)), TIMED_POSES)], 2, axis=0):
        started = time.process_time()
        renderer.render_for_camera(T, camera)
        spent.append(1e3 * (time.process_time() - started))
    return float(np.median(spent[2:]))


def measure_place(place: str, args: argparse.Namespace) -> None:
    """Train what is not trained, measure, draw; rows go to a file of the place."""
    learned, judged = datasets(place, args.data, args.out)
    name, dataset = place.split("=")[0], Dataset(judged)
    rows: dict[str, list[dict[str, Any]]] = {}
    runs = {title: args.out / "runs" / f"{name}-{title.split()[-1]}-{args.seed}" for title in MODELS}
    runs[WARP] = args.out / "runs" / f"{name}-warp-{args.seed}"
    common: dict[str, Any] = {"size": args.size, "split": args.split, "seed": args.seed, "tensorboard": False}
    for title, run in runs.items():
        if not (run / "checkpoint").exists():
            model, relief = MODELS.get(title, ("warp-12", None))
            own = {} if relief is None else {"relief": relief}
            train(learned, run, train_config(model, max_minutes=args.minutes, clock="cpu", **common, **own))
        found = measure(run, judged, device="cpu")
        checkpoint = load_checkpoint(run)
        facts = {
            "name": title,
            "mb": (run / "checkpoint" / "weights.safetensors").stat().st_size / 1e6,
            "ms": milliseconds(run, dataset),
            "images": int(checkpoint.provenance["images"]),
        }
        groups = found.group_scores() or {"held-out segments": found.scores}
        for group, scores in groups.items():
            rows.setdefault(f"{name}, {group}", []).append({**facts, **scores["model"]})
        print(json.dumps({"place": name, **facts, **found.scores["model"]}), flush=True)
    frames = checkpoint.provenance["frames"]
    head = f"{frames['train']} frames train, {frames['choose']} choose the weights, {frames['judge']} judge"
    (args.out / f"{name}.json").write_text(json.dumps({"head": head, "rows": rows}, indent=1))
    chosen = spread(choose_frames(checkpoint, dataset, "checkpoint").test, SHEET_FRAMES)
    shown = [show(run, dataset, chosen, device="cpu", title=title) for title, run in runs.items()]
    draw_side_by_side(args.out / f"{name}.png", shown, [f"frame {frame}" for frame in chosen], name)


def page(args: argparse.Namespace) -> str:
    """All places measured so far."""
    parts = [
        "# Relief with a memory of the recorded frames",
        f"`python bench/relief_memory.py --minutes {args.minutes:g}`: {args.size} px, {args.minutes:g} processor "
        f"minutes a training (one thread of {processor()}), seed {args.seed}. What is measured how: its docstring.",
    ]
    for file in sorted(args.out.glob("*.json")):
        found = json.loads(file.read_text())
        for title, rows in found["rows"].items():
            parts += [f"**{title}**: {found['head']}.", Table(COLUMNS, rows).markdown()]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Measure, print, perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("POSE2RGBD_REAL_DATA"))
    parser.add_argument("--places", default=",".join(SCENES))
    parser.add_argument("--split", default="segments")
    parser.add_argument("--out", type=Path, default=Path("relief_memory"), help="datasets, runs, rows and pictures")
    parser.add_argument("--minutes", type=float, default=1.5, help="processor minutes a training")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for place in args.places.split(","):
        if "=" not in place and args.data is None:
            parser.error("give --data, or set POSE2RGBD_REAL_DATA")
        measure_place(place, args)
    text = page(args)
    print(text)
    if args.write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
