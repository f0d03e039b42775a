"""Relief without, with a thin, a full and a self-chosen memory of the recorded frames, beside warp-12, at equal
processor time.

    python bench/relief_memory.py --data DATA --places kitchen seneca      # real recordings (see real_scenes.py)
    python bench/relief_memory.py --places survey=FOLDER --split lines+random --sizes 128 256 512 --seeds 3 \
        --memories none auto --minutes 5                                   # a dataset folder under a name; hours

Every place, size and seed is trained on and judged by itself; what is measured already in --out is kept, and the page
is made of all that is there, so they may be measured one after the other. All figures are of frames that chose nothing.
The last memory asked for is compared with the better, seed by seed, of relief without one and warp-12: the mean of the
differences, and with several seeds its 95 % interval. Pictures side by side are in --out: recordings are not part of
the project.

ms: median processor time of a picture of 256 x 256 pixels, RGB and depth, one thread.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import itertools
import json
import math
import textwrap
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
from pose2rgbd_ros.experiments.run import Job, interval, train_job
from pose2rgbd_ros.models.relief.config import ReliefSettings
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.reports.table import Column, Table, mean_spread
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.metrics import spread

RESULT = Path(__file__).parent / "results" / "relief_memory.md"
MEMORIES = ("none", "thin", "full", "auto")
WARP = "warp-12, nothing learnt"
TIMED_PX, TIMED_POSES, SHEET_FRAMES = 256, 12, 4
COLUMNS = (
    Column("name", ""),
    Column("rgb_mae_px", "RGB of 255", mean_spread(".2f")),
    Column("psnr_db", "PSNR dB", mean_spread(".2f")),
    Column("ssim", "SSIM", mean_spread(".3f")),
    Column("depth_mae", "depth m", mean_spread(".3f")),
    Column("depth_known", "depth known", mean_spread(".3f")),
    Column("mb", "MB", mean_spread(".1f")),
    Column("ms", "ms", mean_spread(".1f")),
    Column("images", "images seen", mean_spread(",.0f")),
)
# What is compared: name, unit, how it is written, and whether more is better.
COMPARED = {
    "psnr_db": ("PSNR, dB", "+.2f", True), "ssim": ("SSIM", "+.3f", True), "depth_mae": ("depth, m", "+.3f", False),
}  # fmt: skip


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


def measure_place(place: str, size: int, seed: int, args: argparse.Namespace) -> None:
    """Train what is not trained to its end, measure, draw; rows go to a file of the place, the size and the seed."""
    name = place.split("=")[0]
    file = args.out / f"{name}-{size}-{seed}.json"
    before = json.loads(file.read_text()) if file.exists() else {"rows": {}}
    there = {row["name"] for rows in before["rows"].values() for row in rows}
    if before.get("minutes") == args.minutes and there.issuperset(map(title_of, args.memories)):
        return
    memories = [memory for memory in MEMORIES if memory in args.memories or title_of(memory) in there]
    learned, judged = datasets(place, args.data, args.out)
    dataset, rows = Dataset(judged), dict[str, list[dict[str, Any]]]()
    runs = {title_of(memory): args.out / "runs" / f"{name}-{size}-{memory}-{seed}" for memory in memories}
    runs[WARP] = args.out / "runs" / f"{name}-{size}-warp-{seed}"
    common: dict[str, Any] = {"size": size, "split": args.split, "seed": seed, "tensorboard": False}
    for title, run in runs.items():
        relief = {} if title == WARP else {"relief": ReliefSettings(memory=title.split()[-1])}  # type: ignore[arg-type]
        model = "warp-12" if title == WARP else "relief"
        config = train_config(model, max_minutes=args.minutes, clock="cpu", **common, **relief)
        train_job(Job(run.name, learned, config), run)  # goes on with one that was stopped
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
            rows.setdefault(group, []).append({**facts, **scores["model"]})
        print(json.dumps({"place": name, "size": size, "seed": seed, **facts, **found.scores["model"]}), flush=True)
    chosen = spread(choose_frames(checkpoint, dataset, "checkpoint").test, SHEET_FRAMES)
    shown = [show(run, dataset, chosen, device="cpu", title=title) for title, run in runs.items()]
    title = f"{name}, {size} px"
    draw_side_by_side(args.out / f"{name}-{size}-{seed}.png", shown, [f"frame {frame}" for frame in chosen], title)
    frames = checkpoint.provenance["frames"]
    head = f"{frames['train']} frames train, {frames['choose']} choose the weights, {frames['judge']} judge"
    measured = {"place": name, "size": size, "seed": seed, "minutes": args.minutes, "head": head, "rows": rows}
    file.write_text(json.dumps(measured, indent=1))


def title_of(memory: str) -> str:
    return f"relief, memory {memory}"


def page(args: argparse.Namespace) -> str:
    """All that is measured so far: a table for each place, group of frames and size, over the seeds."""
    parts = [
        "# Relief with a memory of the recorded frames",
        f"`python bench/relief_memory.py`, one thread of {processor()}. What is measured how: its docstring.",
    ]
    measured = [json.loads(file.read_text()) for file in sorted(args.out.glob("*-*-*.json"))]
    for place, size in sorted({(one["place"], one["size"]) for one in measured}):
        runs = [one for one in measured if (one["place"], one["size"]) == (place, size)]
        seeds, minutes = ", ".join(str(one["seed"]) for one in runs), runs[0]["minutes"]
        head = f"{size} px, {minutes:g} processor minutes a training, seeds {seeds}. {runs[0]['head']}."
        for group in runs[0]["rows"]:
            by_seed = [{row["name"]: row for row in one["rows"][group]} for one in runs]
            table = Table(COLUMNS)
            for name in by_seed[0]:
                found = [rows[name] for rows in by_seed if name in rows]
                values = {column.key: [row.get(column.key, math.nan) for row in found] for column in COLUMNS[1:]}
                table.rows.append({"name": name, **values})
            parts += [f"**{place}, {group}**: {head}", table.markdown(), textwrap.fill(differences(by_seed), 120)]
    return "\n\n".join(parts) + "\n"


def differences(by_seed: list[dict[str, dict[str, Any]]]) -> str:
    """What the last memory's figures are minus the better of none and warp-12, seed by seed."""
    memory = [name for name in by_seed[0] if name != WARP][-1]
    by_seed = [rows for rows in by_seed if memory in rows]
    said = []
    for key, (what, style, more) in COMPARED.items():
        rivals = [[rows[name][key] for name in (title_of("none"), WARP) if name in rows] for rows in by_seed]
        better = [max(values) if more else min(values) for values in rivals]
        apart = [rows[memory][key] - best for rows, best in zip(by_seed, better, strict=True)]
        of_all = interval(apart)
        text = f"{np.mean(apart):{style}}"
        said.append(f"{what} {text}" + (f" ({of_all[1]:{style}} to {of_all[2]:{style}})" if of_all else ""))
    return f"{memory.capitalize()} minus the better of the others: {'; '.join(said)}."


def main() -> None:
    """Measure, print, perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("POSE2RGBD_REAL_DATA"))
    parser.add_argument("--places", nargs="*", default=list(SCENES))
    parser.add_argument("--memories", nargs="+", choices=MEMORIES, default=list(MEMORIES))
    parser.add_argument("--split", default="segments")
    parser.add_argument("--out", type=Path, default=Path("relief_memory"), help="datasets, runs, rows and pictures")
    parser.add_argument("--minutes", type=float, default=1.5, help="processor minutes a training")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.data is None and not all("=" in place for place in args.places):
        parser.error("give --data, or set POSE2RGBD_REAL_DATA")
    for seed in range(args.seeds):
        for place, size in itertools.product(args.places, args.sizes):
            measure_place(place, size, seed, args)
    text = page(args)
    print(text)
    if args.write:
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
