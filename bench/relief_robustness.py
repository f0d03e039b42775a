"""What bad data costs a relief: the same flight with faults of one kind at a time, judged on the clean held-out lines.

    python bench/relief_robustness.py DATASET             # a dataset of `pose2rgbd sim dataset`; all faults
    python bench/relief_robustness.py DATASET --only poses,poses-refined --minutes 2
    python bench/relief_robustness.py DATASET --movers OTHER   # OTHER: the same with --city.cars, beside its mover_free

The published table: `pose2rgbd sim dataset DATASET --frames 480 --size 128 --fov-deg 90 --flight.plan lawnmower
--flight.line-spacing-m 25 --flight.holdout 0.17`, and OTHER with `--city.cars 60 --city.people 80` too.

Training frames alone are tampered with; held-out frames keep their true poses, light and depth, and of a city with
movers their mover-free twins are what is compared. Equal processor time for each row, one thread.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.reader import Dataset, FrameCache, frame_cache
from pose2rgbd_ros.dataset.splits import own_split
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.evaluation.pictures import measure
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.models.relief.config import ReliefSettings
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import train

RESULT = Path(__file__).parent / "results" / "relief_robustness.md"
POSITION_M, ANGLE_DEG = 0.5, 1.0  # root mean squares of a pose's error
GAIN, TINT = 0.15, 0.05  # of all channels together, and of each
UNIT_M = 27.0  # of the relative depth
LENS = (-0.22, 0.05, 0.001, -0.001)


@dataclass
class Frame:
    """One training frame on its way into a tampered dataset."""

    rgb: np.ndarray
    depth: np.ndarray | None
    T_map_cam: np.ndarray
    rng: np.random.Generator


def holes(frame: Frame) -> None:
    """Half of the depth unknown: patches, as glass and dark roofs leave."""
    patches = frame.rng.random((8, 8)) < 0.5
    size = frame.rgb.shape[0]
    frame.depth = np.where(
        cv2.resize(patches.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST) > 0, np.nan, frame.depth
    )


def sparse(frame: Frame) -> None:
    """One pixel in fifty has depth, and of those one in fifty a wrong one."""
    shape = frame.rgb.shape[:2]
    wrong = frame.rng.random(shape) < 0.02
    depth = np.where(wrong, frame.rng.uniform(1, 200, shape), frame.depth)
    frame.depth = np.where(frame.rng.random(shape) < 0.98, np.nan, depth)


def poses(frame: Frame) -> None:
    """Independent errors of every pose."""
    noise = np.eye(4)
    noise[:3, :3] = Rotation.from_rotvec(np.radians(ANGLE_DEG) / np.sqrt(3) * frame.rng.normal(size=3)).as_matrix()
    frame.T_map_cam = frame.T_map_cam @ noise
    frame.T_map_cam[:3, 3] += POSITION_M / np.sqrt(3) * frame.rng.normal(size=3)


def exposure(frame: Frame) -> None:
    """An auto-exposed camera that also changes its white balance."""
    gain = np.exp(GAIN * frame.rng.normal() + TINT * frame.rng.normal(size=3))
    frame.rgb = np.clip(frame.rgb * gain, 0, 255).round().astype(np.uint8)


def no_depth(frame: Frame) -> None:
    """Colour only."""
    frame.depth = None


def relative(frame: Frame) -> None:
    """Depth in a unit nobody knows."""
    assert frame.depth is not None
    frame.depth = frame.depth / UNIT_M


def untouched(frame: Frame) -> None:
    """As recorded."""


@dataclass(frozen=True)
class Row:
    """A fault, and the settings it is met with."""

    tamper: Callable[[Frame], None]
    settings: ReliefSettings = field(default_factory=ReliefSettings)
    lens: bool = False
    movers: bool = False


ROWS = {
    "clean": Row(untouched),
    "holes": Row(holes),
    "sparse": Row(sparse),
    "relative": Row(relative),
    "no-depth": Row(no_depth),
    "lens": Row(untouched, lens=True),
    "exposure": Row(exposure, ReliefSettings(exposure="none")),
    "exposure-learnt": Row(exposure, ReliefSettings(exposure="learn")),
    "clean-exposure-learnt": Row(untouched, ReliefSettings(exposure="learn")),
    "poses": Row(poses),
    "poses-refined": Row(poses, ReliefSettings(refine_poses=True)),
    "clean-refined": Row(untouched, ReliefSettings(refine_poses=True)),
    "movers": Row(untouched, movers=True),
    "clean-memory": Row(untouched, ReliefSettings(memory="auto")),
    "poses-memory": Row(poses, ReliefSettings(memory="auto")),
    "exposure-learnt-memory": Row(exposure, ReliefSettings(exposure="learn", memory="auto")),
    "movers-memory": Row(untouched, ReliefSettings(memory="auto"), movers=True),
}


def tampered(dataset: Dataset, size: int, row: Row, out: Path) -> None:
    """Write the dataset with the fault, at `size` pixels, with the same split."""
    cache = frame_cache(dataset, 2 * size if row.lens else size)
    camera, show = _through_lens(cache, size) if row.lens else (cache.camera, None)
    training = np.isin(np.arange(len(dataset)), own_split(dataset.path, dataset.stamps_ns).train)
    kind = None if row.tamper is no_depth else "relative" if row.tamper is relative else "metric"
    meta = DatasetMeta(camera=camera, depth=DepthMeta(kind=kind) if kind else None)
    with DatasetWriter(out, meta) as writer:
        for i, stamp_ns in enumerate(dataset.stamps_ns):
            assert cache.depth is not None
            frame = Frame(
                np.array(cache.rgb[i]),
                np.array(cache.depth[i]),
                dataset.T_map_cam[i].copy(),
                np.random.default_rng([7, i]),
            )
            if show is not None:
                frame.rgb = resample(frame.rgb, show, nearest=False)
                frame.depth = resample(frame.depth, show, nearest=True, fill=np.nan)
            # What a dataset holds of depth must be the same for all its frames; the rest is done to training frames.
            if training[i] or row.tamper in (no_depth, relative):
                row.tamper(frame)
            writer.add(int(stamp_ns), frame.T_map_cam, frame.rgb, frame.depth)
    shutil.copy(dataset.path / "split.txt", out / "split.txt")


def _through_lens(cache: FrameCache, size: int) -> tuple[Camera, np.ndarray]:
    """A camera that bends the edges inward, and where each of its pixels looks in the pictures of the cache."""
    pinhole = cache.camera.resized(size, size)
    # Longer, so that all it sees lies in the picture.
    bent = replace(pinhole, fx=1.5 * pinhole.fx, fy=1.5 * pinhole.fy, distortion_model="plumb_bob", distortion=LENS)
    assert not np.isnan(resample_map(cache.camera, bent)).any()
    return bent, resample_map(cache.camera, bent)


def measure_row(
    row: Row, dataset: Dataset, judge: Path, size: int, minutes: float, seed: int
) -> tuple[float | str | None, ...]:
    """Of the table, behind the name."""
    config = train_config(
        model="relief", size=size, max_minutes=minutes, clock="cpu", seed=seed, tensorboard=False, relief=row.settings
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set"
        tampered(dataset, size, row, path)
        result = train(path, Path(folder) / "run", config)
        found = measure(result.checkpoint, judge)
        scores, facts = found.scores["model"], found.checkpoint.provenance["relief"]
        # Without depth, or with depth of another unit, the depth is compared with that of the tampered dataset.
        own = None if "depth_mae" in scores else measure(result.checkpoint, path).scores["model"].get("depth_mae")
    depth = scores.get("depth_mae", None if own is None else own * facts["depth_unit_m"])
    return scores["rgb_mae_px"], scores["psnr_db"], depth, _remarks(facts)


def _remarks(facts: dict[str, object]) -> str:
    parts = []
    if facts["depth_unit_m"] != 1.0:
        parts.append(f"unit found {facts['depth_unit_m']} m (truth {UNIT_M})")
    for key in ("exposures", "pose_corrections"):
        if key in facts:
            parts.append(f"{key.replace('_', ' ')} {facts[key]}")
    return "; ".join(parts)


def main() -> None:
    """Print the table, and keep it when all rows were measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--movers", type=Path, help="the dataset of a city with movers")
    parser.add_argument("--only", default=",".join(ROWS), help="rows, comma-separated")
    parser.add_argument("--minutes", type=float, default=1.0, help="processor minutes a row")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    lines = [
        f"`python bench/relief_robustness.py DATASET --movers OTHER --minutes {args.minutes:g}`: {args.size} px, "
        f"{args.minutes:g} processor minutes a row (one thread of {processor()}), seed {args.seed}; "
        "held-out lines that chose nothing.",
        "",
    ]
    table = Table.of({"fault": "", "RGB of 255": ".2f", "PSNR dB": ".1f", "depth m": ".2f", "": ""})
    print("\n".join([*lines, table.markdown()]), flush=True)
    for name in args.only.split(","):
        row = ROWS[name]
        if row.movers and args.movers is None:
            continue
        path = args.movers if row.movers else args.dataset
        judge = path / "mover_free" if row.movers else path
        try:
            figures = measure_row(row, Dataset(path), judge, args.size, args.minutes, args.seed)
        except UserError as error:
            figures = f"refused: {error}", "", "", ""
        print(table.add(name, *figures), flush=True)
    if args.only == ",".join(ROWS):
        RESULT.write_text("\n".join([*lines, table.markdown()]) + "\n")


if __name__ == "__main__":
    main()
