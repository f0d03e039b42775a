"""Relief, warp and Base against the nearest frame on real recordings, held-out segments, equal processor time.

    POSE2RGBD_REAL_DATA=DATA python bench/real_scenes.py             # all, 3 processor minutes a model
    python bench/real_scenes.py --data DATA --scenes seneca --minutes 1 --out FOLDER

DATA holds `aerial_seneca` (photographs, poses and sparse points of structure from motion) and
`rgbd_7scenes_redkitchen` (7-Scenes, Kinect). Neither the data nor pictures of it are part of the project: the sheets
go to the output folder, the table also to bench/results.

The kitchen's depth lies 20 pixels beside its colour; it is measured as recorded and as `pose2rgbd depth register` lays
it, found from frames that train alone.

Seneca's depth is what its sparse points say, one pixel in ten: the models learn from every other point, and the depth
that judges is that of the points between them, which no training had. `--depth pictures` learns without any.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import textwrap
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from pose2rgbd_ros.alignment.depth_camera import find_depth_camera, register
from pose2rgbd_ros.dataset.made_depth import pictures_allowed
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.evaluation.held_out import choose_frames
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.evaluation.pictures import METHODS, measure
from pose2rgbd_ros.experiments.pictures import draw_side_by_side, show
from pose2rgbd_ros.formats.importing import import_datasets
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.config import ReliefSettings
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.streams.samples import ImageSample
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.metrics import spread
from pose2rgbd_ros.training.trainer import train

RESULT = Path(__file__).parent / "results" / "real_scenes.md"
SPARSE_DEPTH = (128, 96)  # of Seneca: small, so that no point is lost when the pictures are made small
HIDDEN_M = 3.0  # a point this much behind another one of its neighbourhood is hidden by it
MEMORIES = {f"relief, memory {kind}": kind for kind in ("thin", "auto")}
MODELS = ("base", "warp-12", "relief", *MEMORIES)
SHEET_FRAMES = 6
COLUMNS = (
    Column("name", ""),
    Column("rgb_mae_px", "RGB of 255", ".2f"),
    Column("psnr_db", "PSNR dB", ".1f"),
    Column("ssim", "SSIM", ".3f"),
    Column("depth_mae", "depth m", ".3f"),
    Column("depth_known", "depth known", ".3f"),
)


def seneca_dataset(source: Path, out: Path, points: slice) -> None:
    """Photographs as they are, poses and lens of structure from motion, depth of some of its points where they fall."""
    report = json.loads((source / "sfm/report.json").read_text())
    focal, cx, cy, k1 = report["camera_params"]
    # COLMAP's pixel (0, 0) is the corner of the first pixel, ours its centre; SIMPLE_RADIAL is plumb_bob's first term.
    camera = Camera(1024, 768, focal, focal, cx - 0.5, cy - 0.5, "plumb_bob", (k1, 0.0, 0.0, 0.0))
    points_map = np.loadtxt(source / "sfm/points_enu.xyzrgb.txt", usecols=(0, 1, 2))[points]
    stamps = _seneca_stamps(source / "gps.csv")
    meta = DatasetMeta(camera=camera, depth=DepthMeta(kind="metric"))
    with (source / "sfm/poses.csv").open() as stream, DatasetWriter(out, meta, depth_format="cm") as writer:
        for line in csv.DictReader(stream):
            position = [float(line[key]) for key in ("east_m", "north_m", "up_m")]
            T_map_cam = se3.make(position, [float(line[key]) for key in ("qx", "qy", "qz", "qw")])
            stamp_ns = stamps[line["file"]]
            image = ImageSample.from_compressed(stamp_ns, "", (source / "images" / line["file"]).read_bytes())
            depth_m = sparse_depth(points_map, T_map_cam, camera.resized(*SPARSE_DEPTH))
            writer.add(stamp_ns, T_map_cam, image, depth_m)


def _seneca_stamps(file: Path) -> dict[str, int]:
    """Nanoseconds by photograph; the clock tells seconds, so photographs of the same one are told apart by their
    order.
    """
    stamps, last = {}, 0
    with file.open() as stream:
        for line in csv.DictReader(stream):
            taken = datetime.strptime(line["datetime_original"], "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC)
            last = max(int(taken.timestamp()) * 10**9, last + 10**8)
            stamps[line["file"]] = last
    return stamps


def sparse_depth(points_map: np.ndarray, T_map_cam: np.ndarray, camera: Camera) -> np.ndarray:
    """Depth (H, W) of points (N, 3) a camera sees, NaN elsewhere; points behind nearer neighbours are left out."""
    points = se3.transform_points(se3.inverse(T_map_cam), points_map)
    points = points[(points[:, 2] > 1) & (np.abs(points[:, :2]) < 1.2 * points[:, 2:]).all(axis=1)]
    uv = camera.project(points).round()
    inside = ((uv >= 0) & (uv < [camera.width, camera.height])).all(axis=1)
    (column, row), z = uv[inside].astype(int).T, points[inside, 2]
    depth = np.full((camera.height, camera.width), np.inf)
    np.minimum.at(depth, (row, column), z)
    nearest = cv2.erode(depth.astype(np.float32), np.ones((5, 5)))
    return np.where(depth < nearest + HIDDEN_M, depth, np.nan).astype(np.float32)


def kitchen_dataset(source: Path, out: Path, points: slice) -> None:
    """The 7-Scenes sequence, as `pose2rgbd import` reads it; its depth is a sensor's, all of it."""
    import_datasets([source], out)


def registered_dataset(source: Path, out: Path, points: slice) -> None:
    """The same with its depth laid over its colour."""
    raw = out.with_name(f"{out.name}-recorded")
    if not raw.exists():
        kitchen_dataset(source, raw, points)
    dataset = Dataset(raw)
    found = find_depth_camera(dataset, np.flatnonzero(pictures_allowed(dataset)[0] == 0))
    register(dataset, found, out)


KITCHEN = "rgbd_7scenes_redkitchen"
SCENES = {
    "seneca": ("aerial_seneca", seneca_dataset),
    "kitchen": (KITCHEN, kitchen_dataset),
    "kitchen-registered": (KITCHEN, registered_dataset),
}
TO_LEARN, TO_JUDGE = slice(0, None, 2), slice(1, None, 2)  # of Seneca's points


def measure_models(
    learned: Path, judged: Path, out: Path, minutes: float, size: int, seed: int, relief: ReliefSettings
) -> tuple[str, Table]:
    """Train the models on one dataset, measure them on the other's frames that judge, draw them; how many frames, and
    the scores."""
    common = {"size": size, "max_minutes": minutes, "clock": "cpu", "split": "segments", "seed": seed}
    runs = {name: out / name.replace(", ", "-").replace(" ", "-") for name in MODELS}
    found: dict[str, dict[str, float]] = {}
    for name, run in runs.items():
        own: dict[str, Any] = {"width": 0.5} if name == "base" else {}
        if name.startswith("relief"):
            own = {"relief": replace(relief, memory=MEMORIES.get(name, "none"))}
        if (run / "checkpoint").exists():
            continue
        train(learned, run, train_config(name.split(",")[0], tensorboard=False, **common, **own))
    for name, run in runs.items():
        evaluation = measure(run, judged, device="cpu")
        found |= {METHODS[method]: scores for method, scores in evaluation.scores.items() if method != "model"}
        found[name] = evaluation.scores["model"]
    draw(out / "sheet.png", Dataset(judged), runs)
    frames = load_checkpoint(runs["base"]).provenance["frames"]
    counts = f"{frames['train']} frames train, {frames['choose']} choose the weights, {frames['judge']} judge."
    return counts, Table(COLUMNS, [{"name": name, **scores} for name, scores in found.items()])


def draw(path: Path, dataset: Dataset, runs: dict[str, Path]) -> None:
    """Recorded and shown pictures of some of the frames that judge, and their errors."""
    frames = spread(choose_frames(load_checkpoint(runs["base"]), dataset, "checkpoint").test, SHEET_FRAMES)
    shown = [show(run, dataset, frames, device="cpu", title=name.split()[-1]) for name, run in runs.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_side_by_side(path, shown, [f"frame {frame}" for frame in frames], dataset.path.name)


def main() -> None:
    """Build, train, measure, print; keep the table when both scenes were measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("POSE2RGBD_REAL_DATA"))
    parser.add_argument("--out", type=Path, default=Path("real_scenes"), help="datasets, runs and sheets")
    parser.add_argument("--scenes", default=",".join(SCENES))
    parser.add_argument("--minutes", type=float, default=3.0, help="processor minutes a model")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--depth", choices=("recorded", "pictures"), default="recorded", help="what relief learns from")
    parser.add_argument("--exposure", choices=("auto", "none", "learn"), default="auto", help="of relief")
    parser.add_argument("--refine-poses", action="store_true", help="relief corrects the training poses")
    args = parser.parse_args()
    if args.data is None:
        parser.error("give --data, or set POSE2RGBD_REAL_DATA")
    torch.set_num_threads(1)
    relief = ReliefSettings(depth=args.depth, exposure=args.exposure, refine_poses=args.refine_poses)
    head = (
        f"`python bench/real_scenes.py --minutes {args.minutes:g}`: {args.size} px, {args.minutes:g} processor minutes "
        f"a model (one thread of {processor()}), seed {args.seed}. All figures are of frames that chose nothing; "
        "warp-12 learns nothing. Seneca's depth is compared at points of structure from motion that no training had, "
        "but that were found from all of its photographs."
    )
    lines = [textwrap.fill(head, 120)]
    for scene in args.scenes.split(","):
        folder, make = SCENES[scene]
        datasets = [args.out / f"{scene}-{use}" for use in ("learned", "judged")]
        for dataset, points in zip(datasets, (TO_LEARN, TO_JUDGE), strict=True):
            if not dataset.exists():
                make(args.data / folder, dataset, points)
        print(f"{scene}: {args.out}", flush=True)
        light = "" if args.exposure == "auto" else f"-exposure-{args.exposure}"
        name = f"runs/{scene}-{args.depth}{light}{'-refined' * args.refine_poses}-{args.seed}"
        counts, table = measure_models(*datasets, args.out / name, args.minutes, args.size, args.seed, relief)
        lines += ["", f"**{scene}**: {counts}", "", table.markdown()]
    print("\n".join(lines))
    if args.scenes == ",".join(SCENES) and args.size == 128:
        RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
