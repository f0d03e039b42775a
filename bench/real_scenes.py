"""Relief against Base and the nearest frame on two real recordings, held-out segments, equal processor time.

    POSE2RGBD_REAL_DATA=DATA python bench/real_scenes.py             # both, 3 processor minutes a model
    python bench/real_scenes.py --data DATA --scenes seneca --minutes 1 --out FOLDER

DATA holds `aerial_seneca` (photographs, poses and sparse points of structure from motion) and
`rgbd_7scenes_redkitchen` (7-Scenes, Kinect). Neither the data nor pictures of it are part of the project: the sheets
(recorded | nearest | Base | relief | error) go to the output folder, the table also to bench/results.

Seneca's depth is what its sparse points tell, one pixel in ten; `--depth pictures` goes without it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from pose2rgbd_ros.dataset.formats.importing import import_datasets
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.evaluation.baselines import NearestFrame
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.config import ReliefSettings
from pose2rgbd_ros.streams.samples import ImageSample
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig
from pose2rgbd_ros.training.data import TrainingData, open_training_data
from pose2rgbd_ros.training.metrics import Scores
from pose2rgbd_ros.training.trainer import train
from pose2rgbd_ros.training.validation import batches, pictures_of, spread

RESULT = Path(__file__).parent / "results" / "real_scenes.md"
SPARSE_DEPTH = (128, 96)  # of Seneca: small, so that no point is lost when the pictures are made small
HIDDEN_M = 3.0  # a point this much behind another one of its neighbourhood is hidden by it
METHODS = ("mean image", "nearest frame", "base", "relief")
SHEET_FRAMES = 6


def seneca_dataset(source: Path, out: Path) -> None:
    """Photographs as they are, poses and lens of structure from motion, depth of its points where they fall."""
    report = json.loads((source / "sfm/report.json").read_text())
    focal, cx, cy, k1 = report["camera_params"]
    # COLMAP's pixel (0, 0) is the corner of the first pixel, ours its centre; SIMPLE_RADIAL is plumb_bob's first term.
    camera = Camera(1024, 768, focal, focal, cx - 0.5, cy - 0.5, "plumb_bob", (k1, 0.0, 0.0, 0.0))
    points = np.loadtxt(source / "sfm/points_enu.xyzrgb.txt", usecols=(0, 1, 2))
    stamps = _seneca_stamps(source / "gps.csv")
    meta = DatasetMeta(camera=camera, depth=DepthMeta(kind="metric"))
    with (source / "sfm/poses.csv").open() as stream, DatasetWriter(out, meta, depth_format="cm") as writer:
        for line in csv.DictReader(stream):
            position = [float(line[key]) for key in ("east_m", "north_m", "up_m")]
            T_map_cam = se3.make(position, [float(line[key]) for key in ("qx", "qy", "qz", "qw")])
            stamp_ns = stamps[line["file"]]
            image = ImageSample.from_compressed(stamp_ns, "", (source / "images" / line["file"]).read_bytes())
            writer.add(
                stamp_ns, T_map_cam, image, sparse_depth(points, T_map_cam, camera.resized(*SPARSE_DEPTH))
            )


def _seneca_stamps(file: Path) -> dict[str, int]:
    """Nanoseconds by photograph; the clock tells seconds, so photographs of the same one are told apart by their order."""
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


def kitchen_dataset(source: Path, out: Path) -> None:
    """The 7-Scenes sequence, as `pose2rgbd import` reads it."""
    import_datasets([source], out)


SCENES = {
    "seneca": ("aerial_seneca", seneca_dataset),
    "kitchen": ("rgbd_7scenes_redkitchen", kitchen_dataset),
}


def measure(
    dataset: Path, out: Path, minutes: float, size: int, seed: int, relief: ReliefSettings
) -> list[str]:
    """Train both models, write the sheet, give the table's lines."""
    base = TrainConfig(
        size=size, max_minutes=minutes, clock="cpu", split="segments", seed=seed, tensorboard=False, width=0.5
    )
    data = open_training_data(dataset, base)
    models = {}
    for name in ("base", "relief"):
        result = train(dataset, out / name, replace(base, model=name, relief=relief))
        models[name] = load_checkpoint(result.checkpoint).build_model()
    scores = {method: Scores() for method in METHODS}
    for chunk in batches(data.split.test):
        truth = data.truth(chunk)
        for method in METHODS:
            rgb, depth = predicted(method, data, chunk, models)
            scores[method].add(rgb, truth[0], depth, truth[1])
    frames = spread(data.split.test, SHEET_FRAMES)
    draw(out / "sheet.png", data, frames, models)
    lines = []
    for method in METHODS:
        found = scores[method].result()
        cells = [
            f"{found[key]:{form}}"
            for key, form in (("rgb_mae_px", ".2f"), ("psnr_db", ".1f"), ("ssim", ".3f"))
        ]
        depth = f"{found['depth_mae']:.3f}" if "depth_mae" in found else "-"
        lines.append(f"| {method} | {' | '.join(cells)} | {depth} |")
    return [f"{len(data.split.train)} frames train, {len(data.split.test)} are held out.", *lines]


def predicted(method: str, data: TrainingData, chunk: np.ndarray, models: dict[str, Any]) -> tuple[Any, Any]:
    """Colour (B, 3, S, S) in 0..1 and depth (B, S, S) of frames by a method."""
    if method in models:
        shown = pictures_of(models[method], data, chunk, torch.device("cpu"))
        return shown[0], shown[1]
    train_frames = data.split.train
    if method == "nearest frame":
        distance = np.nanmedian(data.depth(spread(train_frames, 16)))
        copied = train_frames[
            NearestFrame(data.dataset.T_map_cam[train_frames], float(distance))(data.dataset.T_map_cam[chunk])
        ]
        return data.truth(copied)
    rgb, depth = data.truth(train_frames)
    mean_depth = None if depth is None else torch.nanmean(depth, dim=0).expand(len(chunk), -1, -1)
    return rgb.mean(dim=0).expand(len(chunk), -1, -1, -1), mean_depth


def draw(path: Path, data: TrainingData, frames: np.ndarray, models: dict[str, Any]) -> None:
    """A row a frame: recorded, nearest, Base, relief, relief's error (white: 64 of 255), relief's depth."""
    truth = data.truth(frames)[0]
    columns = [truth, *(predicted(method, data, frames, models)[0] for method in METHODS[1:])]
    error = ((columns[-1] - truth).abs().mean(dim=1, keepdim=True) * 4).clamp(0, 1).expand(-1, 3, -1, -1)
    tiles = [
        (image.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8) for image in (*columns, error)
    ]
    depth = predicted("relief", data, frames, models)[1]
    if depth is not None:
        low, high = np.nanpercentile(depth, [2, 98])
        scaled = np.nan_to_num((depth.numpy() - low) / max(high - low, 1e-6)).clip(0, 1)
        coloured = [cv2.applyColorMap((255 * image).astype(np.uint8), cv2.COLORMAP_TURBO) for image in scaled]
        tiles.append(np.stack(coloured)[..., ::-1])
    sheet = np.concatenate([np.concatenate([*tile], axis=0) for tile in tiles], axis=1)
    sheet = cv2.resize(sheet, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), sheet[..., ::-1])


def main() -> None:
    """Build, train, measure, print; keep the table when both scenes were measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("POSE2RGBD_REAL_DATA"))
    parser.add_argument("--out", type=Path, default=Path("real_scenes"), help="datasets, runs and sheets")
    parser.add_argument("--scenes", default=",".join(SCENES))
    parser.add_argument("--minutes", type=float, default=3.0, help="processor minutes a model")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--depth", choices=("recorded", "pictures"), default="recorded", help="what relief learns from"
    )
    parser.add_argument("--exposure", action="store_true", help="relief learns each frame's exposure")
    parser.add_argument("--refine-poses", action="store_true", help="relief corrects the training poses")
    args = parser.parse_args()
    if args.data is None:
        parser.error("give --data, or set POSE2RGBD_REAL_DATA")
    torch.set_num_threads(1)
    relief = ReliefSettings(depth=args.depth, exposure=args.exposure, refine_poses=args.refine_poses)
    lines = [
        f"`python bench/real_scenes.py --minutes {args.minutes:g}`: {args.size} px, {args.minutes:g} processor minutes a model "
        f"(one thread of {processor()}), seed {args.seed}; depth in m."
    ]
    for scene in args.scenes.split(","):
        folder, make = SCENES[scene]
        dataset = args.out / scene
        if not dataset.exists():
            make(args.data / folder, dataset)
        print(f"{scene}: {dataset}", flush=True)
        name = f"runs/{scene}-{args.depth}{'-exposure' * args.exposure}{'-refined' * args.refine_poses}-{args.seed}"
        counts, *rows = measure(dataset, args.out / name, args.minutes, args.size, args.seed, relief)
        lines += [
            "",
            f"**{scene}**: {counts}",
            "",
            "| | RGB of 255 | PSNR dB | SSIM | depth |",
            "| --- | ---: | ---: | ---: | ---: |",
            *rows,
        ]
    print("\n".join(lines))
    if args.scenes == ",".join(SCENES) and args.size == 128:
        RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
