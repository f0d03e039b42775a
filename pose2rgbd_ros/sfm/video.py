"""Videos: key frames by parallax for the map, and the frames between them found by following the map's points."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float32, Float64, Int64, UInt8
from pose2rgbd_ros.sfm.reconstruct import SparseMap, colmap, colmap_camera

if TYPE_CHECKING:
    import pycolmap

VIDEO_STEP_S = 0.5  # frames that follow each other faster are a video's
FEWEST = 60  # frames; of fewer all are key frames
PARALLAX, NEAREST = 0.03, 80  # share of the width that this percentile of the points moved: the next key frame
KEPT = 0.5  # share of the points that are still followed; with fewer the next key frame comes, too
WIDTH = 480  # pixels, for choosing
LEAST_POINTS = 12  # to find a frame by
AGREE = 0.3  # share of the points followed to a frame that must fit its pose
LEAST_FOLLOWED = 0.2  # share of the key frame's points that must: of another place a few do by chance
MOST_ERROR_PX = 4.0
_WINDOW, _LEVELS = (15, 15), 4


def choose_keyframes(dataset: Dataset, progress: bool = True) -> Int64:
    """Indices of the frames that make the map: all of photographs; of a video those with enough parallax between."""
    count = len(dataset)
    if count < FEWEST or np.median(np.diff(dataset.stamps_ns)) > VIDEO_STEP_S * 1e9:
        return np.arange(count)
    scale = min(1.0, WIDTH / dataset.camera.width)
    chosen = [0]
    last = _grey(dataset, 0, scale)
    start = points = _corners(last)
    begun = len(points)
    for i in tqdm(range(1, count), "key frames", disable=not progress or None):
        try:
            here = _grey(dataset, i, scale)
        except UserError:  # a damaged file is none
            continue
        points, found = _follow(last, here, points)
        start, points, last = start[found], points[found], here
        moved = np.percentile(np.linalg.norm(points - start, axis=1), NEAREST) if len(points) else np.inf
        if moved > PARALLAX * here.shape[1] or len(points) < KEPT * begun or i == count - 1:
            chosen.append(i)
            start = points = _corners(here)
            begun = len(points)
    return np.array(chosen, dtype=np.int64)


def find_between(
    dataset: Dataset, found: SparseMap, wanted: Int64, progress: bool = True
) -> Iterator[tuple[int, Float64]]:
    """Frames near those of the map, with their T_map_cam (4, 4): the map's points are followed from the nearest frame
    that has a place in it, there and back, and the pose is solved for (LO-RANSAC, refined).
    """
    pycolmap = colmap()
    model, parameters = colmap_camera(found.camera, "auto")
    camera = pycolmap.Camera(model=model, width=found.camera.width, height=found.camera.height, params=parameters)
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.max_error = MOST_ERROR_PX
    for frame in tqdm(wanted.tolist(), "frames between", disable=not progress or None):
        near = int(found.frames[np.argmin(np.abs(found.frames - frame))])
        seen = found.seen_by(near)
        points, pixels = found.points[found.seen_point[seen]], found.seen_px[seen].astype(np.float32)
        begun, step = len(points), 1 if frame > near else -1
        last = _grey(dataset, near, 1.0)
        for i in range(near + step, frame + step, step):
            try:
                here = _grey(dataset, i, 1.0)
            except UserError:  # a damaged file: not to be followed further
                points = points[:0]
                break
            pixels, ok = _follow(last, here, pixels)
            points, pixels, last = points[ok], pixels[ok], here
        if len(points) < LEAST_POINTS:
            continue
        answer = pycolmap.estimate_and_refine_absolute_pose(pixels.astype(np.float64) + 0.5, points, camera, options)
        enough = max(LEAST_POINTS, AGREE * len(points), LEAST_FOLLOWED * begun)
        if answer is not None and answer["num_inliers"] >= enough:
            yield frame, _pose(answer["cam_from_world"])


def _pose(cam_from_map: pycolmap.Rigid3d) -> Float64:
    R = cam_from_map.rotation.matrix()
    T_map_cam = np.eye(4)
    T_map_cam[:3, :3], T_map_cam[:3, 3] = R.T, -R.T @ cam_from_map.translation
    return T_map_cam


def _grey(dataset: Dataset, index: int, scale: float) -> UInt8:
    grey = cv2.cvtColor(dataset.rgb(index), cv2.COLOR_RGB2GRAY)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(grey, np.uint8)


def _corners(grey: UInt8) -> Float32:
    found = cv2.goodFeaturesToTrack(grey, 400, 0.01, 7)
    return np.zeros((0, 2), np.float32) if found is None else np.asarray(found.reshape(-1, 2), np.float32)


def _follow(last: UInt8, here: UInt8, points: Float32) -> tuple[Float32, np.ndarray]:
    """Where points (N, 2) of one image are in the next, and which came back to where they were (N,)."""
    if not len(points):
        return points, np.zeros(0, bool)
    guess = points.reshape(-1, 1, 2)
    there, ok, _ = cv2.calcOpticalFlowPyrLK(last, here, guess, guess.copy(), winSize=_WINDOW, maxLevel=_LEVELS)
    back, ok_back, _ = cv2.calcOpticalFlowPyrLK(here, last, there, there.copy(), winSize=_WINDOW, maxLevel=_LEVELS)
    same = np.linalg.norm(back.reshape(-1, 2) - points, axis=1) < 0.7
    return np.asarray(there.reshape(-1, 2), np.float32), (ok.ravel() == 1) & (ok_back.ravel() == 1) & same
