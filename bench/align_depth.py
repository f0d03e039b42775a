"""Dense depth made from pictures, against reference points of a survey and against the exact depth of a simulated one.

    POSE2RGBD_REAL_DATA=DATA python bench/align_depth.py
    python bench/align_depth.py --data DATA --aligned DATASET --minutes 0 --out FOLDER

DATA holds `aerial_seneca`: photographs, and poses and sparse points of another reconstruction of them, by other
settings. Its points are placed by the cameras' positions alone (one similarity), projected into every photograph, and
compared where no other point hides them. `--aligned` takes a dataset that `pose2rgbd align` made of the photographs
(a copy; it is given depth). With `--minutes` relief is trained on the depth and on pictures and points alone, both for
so many processor minutes, and the bounds of the first are calibrated. Sheets go to the output folder.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from pose2rgbd_ros.cli.main import main as pose2rgbd
from pose2rgbd_ros.dataset import made_depth
from pose2rgbd_ros.dataset.inspect import inspect
from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.splits import default_split
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.depth_from_images.stereo import StereoSettings
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.evaluation.pictures import measure
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float32, Float64
from pose2rgbd_ros.geometry.depth import resize_nearest
from pose2rgbd_ros.geometry.se3 import umeyama
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.settings import read_yaml
from pose2rgbd_ros.sfm.dense import add_depth
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import train

RESULT = Path(__file__).parent / "results" / "align_depth.md"
HIDDEN_M = 3.0  # a reference point this much behind another one near by is hidden by it
PARTS = 10
CITY = [
    *("--frames", "60", "--size", "320", "--supersample", "2", "--flight.plan", "lawnmower"),
    *("--flight.area-m", "90", "--flight.line-spacing-m", "14", "--flight.camera-pitch-deg", "75"),
]
COLUMNS = (
    Column("name", ""),
    Column("frames", "frames", ".0f"),
    Column("answered", "pixels answered", ".0%"),
    Column("at_truth", "of the reference", ".0%"),
    Column("median_m", "median error m", ".3f"),
    Column("p90_m", "90 % within m", ".2f"),
    Column("gross", "off by > 2 %", ".2%"),
)
MODELS = (
    Column("name", "relief learns from"),
    Column("rgb_mae_px", "RGB of 255", ".2f"),
    Column("psnr_db", "PSNR dB", ".2f"),
    Column("ssim", "SSIM", ".3f"),
)


def reference(dataset: Dataset, source: Path) -> Float64:
    """Points (P, 3) of the other reconstruction in the dataset's map, placed by the positions of the same photographs.

    Photographs are known by their bytes, which a dataset keeps.
    """
    with (source / "sfm/poses.csv").open() as stream:
        theirs = {
            (source / "images" / row["file"]).read_bytes(): [float(row[key]) for key in ("east_m", "north_m", "up_m")]
            for row in csv.DictReader(stream)
        }
    ours = {(dataset.path / record.rgb).read_bytes(): i for i, record in enumerate(dataset.records)}
    both = [data for data in theirs if data in ours]
    position = dataset.T_map_cam[[ours[data] for data in both], :3, 3]
    scale, R, t = umeyama(np.array([theirs[data] for data in both]), position)
    points = np.loadtxt(source / "sfm/points_enu.xyzrgb.txt", usecols=(0, 1, 2))
    return np.asarray(scale * points @ R.T + t, np.float64)


def point_errors(dataset: Dataset, index: int, points: Float64) -> tuple[Float32, Float32, Float32]:
    """Of points (P, 3), those K that a frame sees: the error of its depth, NaN unknown; its confidence; their depth."""
    depth = dataset.depth(index)
    camera = dataset.camera.resized(depth.shape[1], depth.shape[0])
    cam = se3.transform_points(se3.inverse(dataset.T_map_cam[index]), points)
    cam = cam[(cam[:, 2] > 1) & (np.abs(cam[:, :2]) < 1.2 * cam[:, 2:]).all(axis=1)]
    uv = camera.project(cam).round()
    inside = ((uv >= 0) & (uv < [camera.width, camera.height])).all(axis=1)
    (column, row), z = uv[inside].astype(int).T, cam[inside, 2].astype(np.float32)
    nearest = np.full((camera.height // 8 + 1, camera.width // 8 + 1), np.inf, np.float32)
    np.minimum.at(nearest, (row // 8, column // 8), z)
    seen = z < cv2.erode(nearest, np.ones((3, 3)))[row // 8, column // 8] + HIDDEN_M
    row, column, z = row[seen], column[seen], z[seen]
    sure = made_depth.confidence(dataset, index)
    assert sure is not None
    return depth[row, column] - z, sure[row, column], z


def exact_errors(dataset: Dataset, index: int, truth: Dataset) -> tuple[Float32, Float32, Float32]:
    """The same of all pixels whose exact depth is known."""
    depth, sure = dataset.depth(index), made_depth.confidence(dataset, index)
    exact = resize_nearest(truth.depth(index), depth.shape[1], depth.shape[0])
    assert sure is not None
    known = np.isfinite(exact)
    return (depth - exact)[known], sure[known], exact[known]


def row(name: str, dataset: Dataset, frames: np.ndarray, errors: list) -> dict[str, float | str]:
    """One line of the table."""
    error, truth = (np.concatenate([errors[i][k] for i in frames]) for k in (0, 2))
    known = np.isfinite(error)
    off = np.abs(error[known])
    return {
        "name": name,
        "frames": len(frames),
        "answered": float(np.mean([np.isfinite(dataset.depth(i)).mean() for i in frames])),
        "at_truth": float(known.mean()),
        "median_m": float(np.median(off)),
        "p90_m": float(np.quantile(off, 0.9)),
        "gross": float((off > 0.02 * truth[known]).mean()),
    }


def ranked(errors: list) -> str:
    """Median and 90 % of the error by tenths of the pixels, surest first."""
    error, sure = (np.concatenate([each[k] for each in errors]) for k in (0, 1))
    known = np.isfinite(error)
    off = np.abs(error[known])[np.argsort(-sure[known], kind="stable")]
    parts = np.array_split(off, PARTS)
    return "median {} m; 90 % within {} m".format(
        ", ".join(f"{np.median(part):.3f}" for part in parts),
        ", ".join(f"{np.quantile(part, 0.9):.2f}" for part in parts),
    )


def compare(name: str, dataset: Dataset, errors: list) -> list[dict[str, float | str]]:
    """All frames, and those that judge, whose depth may come from all pictures."""
    split = default_split(dataset.path, dataset.stamps_ns, dataset.T_map_cam[:, :3, 3])
    return [
        row(f"{name}, frames that train", dataset, split.train, errors),
        row(f"{name}, frames that judge", dataset, split.judge, errors),
    ]


def deepen(folder: Path) -> float:
    """Give a dataset depth anew; processor seconds."""
    depth = Dataset(folder).meta.depth
    if depth is not None:
        made_depth.remove(folder)
    started = time.process_time()
    add_depth(folder, StereoSettings())
    return time.process_time() - started


def city(out: Path) -> tuple[Dataset, Dataset]:
    """A simulated flight, and the same of colour alone."""
    truth, bare = out / "city", out / "city-pictures"
    if not truth.exists():
        assert pose2rgbd(["sim", "dataset", str(truth), *CITY, "--processes", "1"]) == 0
    exact = Dataset(truth)
    if not bare.exists():
        with DatasetWriter(bare, DatasetMeta(camera=exact.camera)) as writer:
            for i, stamp_ns in enumerate(exact.stamps_ns.tolist()):
                writer.add(stamp_ns, exact.T_map_cam[i], exact.rgb(i))
    return exact, Dataset(bare)


def models(dataset: Path, out: Path, minutes: float) -> list[str]:
    """Relief on the depth and on pictures alone, at equal processor time; and the bounds of the first."""
    rows = []
    for name, source in (("dense depth", "recorded"), ("pictures, by points of the alignment", "pictures")):
        run = out / "runs" / source
        config = train_config("relief", size=128, max_minutes=minutes, clock="cpu", tensorboard=False)
        train(dataset, run, replace(config, relief=replace(config.relief, depth=source)))
        rows.append({"name": name, **measure(run, dataset, device="cpu").scores["model"]})
    assert pose2rgbd(["calibrate", str(out / "runs/recorded"), str(dataset)]) == 0
    judged = read_yaml(out / "runs/recorded/checkpoint/calibration.yaml")["figures"]["judged"]
    inside = "{:.1%} ({:.1%} to {:.1%})".format(*judged["coverage"])
    said = f"Bounds of level 0.9, calibrated on frames that choose, hold {inside} of the depths on those that judge."
    return [Table(MODELS, rows).markdown(), "", said]


def main() -> None:
    """Make depth, compare, print; keep the result when all was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("POSE2RGBD_REAL_DATA"))
    parser.add_argument("--aligned", type=Path, help="an aligned dataset of the photographs, to be given depth")
    parser.add_argument("--minutes", type=float, default=2.0, help="processor minutes of each relief; 0: none")
    parser.add_argument("--out", type=Path, default=Path("align_depth"), help="datasets, runs and sheets")
    args = parser.parse_args()
    if args.data is None:
        parser.error("give --data, or set POSE2RGBD_REAL_DATA")
    source, survey = Path(args.data) / "aerial_seneca", args.aligned or args.out / "seneca"
    if not survey.exists():
        assert pose2rgbd(["convert", str(source / "images"), str(survey), "--align"]) == 0
    seconds = deepen(survey)
    dataset = Dataset(survey)
    points = reference(dataset, source)
    of_survey = [point_errors(dataset, i, points) for i in range(len(dataset))]
    inspect(dataset, args.out / "seneca-sheet", frames=6)
    exact, pictures = city(args.out)
    city_s = deepen(pictures.path)
    pictures = Dataset(pictures.path)
    of_city = [exact_errors(pictures, i, exact) for i in range(len(pictures))]
    inspect(pictures, args.out / "city-sheet", frames=6)
    settings = StereoSettings()
    lines = [
        f"`python bench/align_depth.py`: {settings.size} px, {settings.views} views, {processor()}. Seneca: "
        f"{len(dataset)} aligned photographs, {seconds:.0f} processor seconds, against {len(points):,} points of "
        f"another reconstruction. City: {len(pictures)} simulated pictures with exact poses and no sparse points, "
        f"{city_s:.0f} processor seconds, against exact depth. Frames that train have depth from frames that train.",
        "",
        Table(COLUMNS, [*compare("Seneca", dataset, of_survey), *compare("city", pictures, of_city)]).markdown(),
        "",
        "By confidence, in tenths of the pixels answered, surest first:",
        "",
        f"- Seneca: {ranked(of_survey)}",
        f"- city: {ranked(of_city)}",
    ]
    if args.minutes:
        lines += ["", f"Relief, 128 px, {args.minutes:g} processor minutes each, on frames of Seneca that judge:", ""]
        lines += models(survey, args.out, args.minutes)
    print("\n".join(lines))
    if args.minutes:
        RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
