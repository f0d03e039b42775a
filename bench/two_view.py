"""The motion between two images by classical flow, beside the true one, on a driven road of KITTI.

    python bench/two_view.py FOLDER                 # image_l/*.png, calib.txt, poses.txt, as of KITTI's odometry
    python bench/two_view.py FOLDER --pictures DIR  # one pair's masks, as in the supplement's Figures 3 and 4

Rows: flow and estimator of the matrices, images 1, 2 and 4 apart. Errors are of the rotation and of the direction of
the translation, whose length two images do not tell. Writes bench/results/two_view.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from pose2rgbd_ros.depth_from_images import epipolar
from pose2rgbd_ros.depth_from_images.epipolar import EpipolarSettings
from pose2rgbd_ros.depth_from_images.odometry import (
    RETURN_PX,
    ClassicalFlow,
    Flow,
    FlowMethod,
    OdometrySettings,
    relative_motion,
)
from pose2rgbd_ros.depth_from_images.triangulation import LEAST_COSINE, pixel_grid, ray_cosine, triangulate
from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.reports.table import Table

RESULTS = Path(__file__).resolve().parent / "results" / "two_view.md"
STRIDES = (1, 2, 4)
AUTHORS = OdometrySettings(estimator="ransac", repeats=10)
ROWS: dict[str, tuple[FlowMethod, OdometrySettings]] = {
    "DIS, MAGSAC++": ("dis", OdometrySettings()),
    "DIS, RANSAC (authors' code)": ("dis", AUTHORS),
    "Farneback, MAGSAC++": ("farneback", OdometrySettings()),
}
COLUMNS = {
    "flow, estimator": "",
    "apart": "d",
    **dict.fromkeys(("rotation deg", "worst 10 %"), ".3f"),
    **dict.fromkeys(("direction deg", "its worst 10 %"), ".2f"),
    "pairs found": "s",
    **dict.fromkeys(("flow s", "motion s"), ".2f"),
}


def read(folder: Path) -> tuple[list[Path], Float64, Float64]:
    """Image files, K (3, 3) and T_start_cam (N, 4, 4)."""
    K = np.array((folder / "calib.txt").read_text().split()[:12], np.float64).reshape(3, 4)[:, :3].copy()
    poses = np.array((folder / "poses.txt").read_text().split(), np.float64).reshape(-1, 3, 4)
    T_start_cam = np.tile(np.eye(4), (len(poses), 1, 1))
    T_start_cam[:, :3] = poses
    return sorted((folder / "image_l").glob("*.png")), K, T_start_cam


def image(path: Path) -> UInt8:
    """RGB."""
    return np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), np.uint8)


def errors_deg(found: Float64, truth: Float64) -> tuple[float, float]:
    """Of the rotation and of the translation's direction."""
    a, b = found[:3, 3], truth[:3, 3]
    direction = np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b)
    return float(np.degrees(se3.apart(found, truth)[1])), float(np.degrees(direction))


def measured(
    files: list[Path], K: Float64, T_start_cam: Float64, stride: int, flow: Callable[..., Flow], used: OdometrySettings
) -> list[float | str]:
    """Of a row, behind its name."""
    found, seconds, lost = [], [], 0
    for first in range(len(files) - stride):
        images = image(files[first]), image(files[first + stride])
        began = time.process_time()
        between = flow(*images)
        had = time.process_time()
        motion = relative_motion(between, K, used)
        seconds.append((had - began, time.process_time() - had))
        truth = se3.inverse(T_start_cam[first]) @ T_start_cam[first + stride]
        lost += not motion.has_direction
        if motion.has_direction:
            found.append(errors_deg(motion.T_first_second, truth))
    count = len(files) - stride
    errors = np.array(found or [(np.nan, np.nan)])
    middle, worst = np.median(errors, axis=0), np.quantile(errors, 0.9, axis=0)
    figures = [middle[0], worst[0], middle[1], worst[1]]
    return [*figures, f"{count - lost} of {count}", *np.median(seconds, axis=0)]


def draw_masks(rgb: UInt8, flow: Flow, K: Float64, folder: Path) -> None:
    """Four PNG: the image, what returns (white), the inlier map (white: on its epipolar line, black: moves by itself or
    is wrong), and small angles between rays or negative depths (white), which happen near the epipole.
    """
    forward, backward = (torch.from_numpy(part).movedim(-1, 0)[None] for part in flow[:2])
    used = EpipolarSettings(estimator="magsac")
    score = epipolar.match_score(forward, backward)
    matches = epipolar.sample_matches(score, forward, used, torch.Generator().manual_seed(0))
    K_ = torch.from_numpy(K).float()[None]
    pose = epipolar.relative_pose(matches, K_, used, torch.Generator().manual_seed(0))
    first = pixel_grid(forward).flatten(0, 1)[None]
    arguments = first, first + forward.flatten(2).mT, K_, pose.T_second_first
    points = triangulate(*arguments)
    narrow = (ray_cosine(*arguments) < LEAST_COSINE) | (points.depth_first < 0) | (points.depth_second < 0)
    pictures = {
        "image": rgb[..., ::-1],
        "returns": 255 * (score[0] > 1 / (0.1 + RETURN_PX)).numpy(),
        "inliers": 255 * epipolar.rigid_score(epipolar.epipolar_map(pose.F, forward))[0].numpy(),
        "angles": 255 * narrow[0].reshape(score.shape[1:]).numpy(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        cv2.imwrite(str(folder / f"{name}.png"), picture.astype(np.uint8))


def main() -> None:
    """Measure, print, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--pair", type=int, default=20, help="of which pair the pictures are")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    on = described()
    files, K, T_start_cam = read(options.folder)
    if options.pictures:
        images = image(files[options.pair]), image(files[options.pair + 1])
        draw_masks(images[0], ClassicalFlow()(*images), K, options.pictures)
        print(f"pictures  {options.pictures}")
        return
    table = Table.of(COLUMNS)
    for name, (method, used) in ROWS.items():
        for stride in STRIDES:
            table.add(name, stride, *measured(files, K, T_start_cam, stride, ClassicalFlow(method), used))
    print(table.markdown())
    height, width = image(files[0]).shape[:2]
    RESULTS.write_text(
        f"# The motion between two images by classical flow\n\n`python bench/two_view.py FOLDER`: all pairs of "
        f"{len(files)} images of {width} x {height} pixels of a road\nof KITTI; medians of the errors, and what the "
        f"worst tenth exceeds; CPU seconds of a pair on one of\n{on}.\n\n{table.markdown()}\n"
    )


if __name__ == "__main__":
    main()
