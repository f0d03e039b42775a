"""Dense depth of an aligned dataset, by multi-view stereo over its frames and the sparse points of the alignment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from pose2rgbd_ros import settings as definitions
from pose2rgbd_ros.dataset import made_depth
from pose2rgbd_ros.dataset.meta import MadeDepth
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.depth_from_images.metric_scale import LARGEST_SCALE_SIGMA
from pose2rgbd_ros.depth_from_images.scene import SparseScene
from pose2rgbd_ros.depth_from_images.sparse_points import SparsePoints
from pose2rgbd_ros.depth_from_images.stereo import SMALL_PX, MultiViewStereo, StereoSettings
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry.arrays import AnyArray, Int64
from pose2rgbd_ros.geometry.depth import DepthEstimate
from pose2rgbd_ros.sfm.align import read_points

FRAME_S = 0.25  # CPU seconds per million pixels and view, measured on one core of an AMD EPYC (docs/align.md)
SWEPT_WHOLE = 3.4  # times as long (decision 0018)
POINTS_SIZE = 256  # pixels of the longer side: between points there is no more detail
WORTH_IT, LOOKED_AT = 0.25, 6  # share of the pixels of so many frames: with less depth a training does better alone


def plan(dataset: Dataset, settings: StereoSettings) -> str:
    """What will be done, for the terminal."""
    return f"depth of {counted(len(dataset), 'image')}: about {max(1, round(minutes(dataset, settings)))} min"


def minutes(dataset: Dataset, settings: StereoSettings) -> float:
    """How long that takes, about."""
    scale = min(1.0, settings.size / max(dataset.camera.width, dataset.camera.height))
    pixels = dataset.camera.width * dataset.camera.height * scale**2
    threads = settings.threads or min(os.cpu_count() or 1, 4)
    frame_s = settings.views * FRAME_S * pixels / 1e6
    if max(dataset.camera.width, dataset.camera.height) * scale <= SMALL_PX:
        frame_s *= SWEPT_WHOLE
    return len(dataset) * frame_s / threads / 60


def add_depth(folder: Path, settings: StereoSettings, progress: bool = True) -> Dataset:
    """Dense depth for every frame of a dataset. Interrupted and called again it goes on.

    Raises:
        UserError: recorded depth is there; poses, camera or pictures do not suffice; the dataset is as before.
    """
    definitions.check(settings)
    scale_sigma = _scale_sigma(Dataset(folder))

    def estimate(dataset: Dataset, rank: Int64, frames: Int64) -> Iterator[DepthEstimate]:
        method = MultiViewStereo(settings, sparse_scene(dataset), rank, scale_sigma=scale_sigma)
        return method.estimate(_Pictures(dataset), dataset.camera, dataset.T_map_cam, frames)

    facts = {name: value for name, value in asdict(settings).items() if name != "threads"}
    return made_depth.add(folder, MadeDepth(MultiViewStereo.name, facts, _stated(scale_sigma)), estimate, progress)


def add_points_depth(folder: Path, progress: bool = True) -> Dataset:
    """Depth between the points of the alignment for every frame, where stereo shows too little: of a flight ahead.

    Raises:
        UserError: no points, or too few; else as :func:`add_depth`.
    """
    given = Dataset(folder)
    scene, scale_sigma = sparse_scene(given), _scale_sigma(given)
    if scene is None:
        raise UserError(f"{folder} has no points of an alignment (`pose2rgbd align`)")
    unit_m = None if scale_sigma is not None and scale_sigma > LARGEST_SCALE_SIGMA else 1.0
    scale = min(1.0, POINTS_SIZE / max(given.camera.width, given.camera.height))
    camera = given.camera.resized(round(given.camera.width * scale), round(given.camera.height * scale))

    def estimate(dataset: Dataset, rank: Int64, frames: Int64) -> Iterator[DepthEstimate]:
        for each in np.unique(rank[frames]):
            method = SparsePoints(scene, np.flatnonzero(rank <= each))
            for found in method.estimate(_Pictures(dataset), camera, dataset.T_map_cam, frames[rank[frames] == each]):
                yield replace(found, unit_m=unit_m, unit_sigma=scale_sigma)

    return made_depth.add(
        folder, MadeDepth(SparsePoints.name, {"size": POINTS_SIZE}, _stated(scale_sigma)), estimate, progress
    )


def known_share(dataset: Dataset, settings: StereoSettings, frames: int = LOOKED_AT) -> float:
    """Share of the pixels of a few frames, evenly spaced, whose depth the pictures show."""
    method = MultiViewStereo(settings, sparse_scene(dataset))
    some = np.unique(np.linspace(0, len(dataset) - 1, frames).astype(np.int64))
    try:
        found = method.estimate(_Pictures(dataset), dataset.camera, dataset.T_map_cam, some)
        return float(np.mean([np.isfinite(one.depth).mean() for one in found]))
    except UserError:
        return 0.0


def sparse_scene(dataset: Dataset) -> SparseScene | None:
    """The points of the alignment and who sees them; None of a dataset that was not aligned.

    UserError: the file is damaged.
    """
    stored = read_points(dataset.path)
    if stored is None:
        return None
    frame = np.searchsorted(dataset.stamps_ns, stored.seen_stamp_ns).clip(0, len(dataset) - 1)
    there = dataset.stamps_ns[frame] == stored.seen_stamp_ns
    return SparseScene(stored.points, frame[there], stored.seen_point[there])


def _scale_sigma(dataset: Dataset) -> float | None:
    """Of the poses, relative; infinite where they have no unit, None where it is not known."""
    if not dataset.meta.has_metres:
        return float("inf")
    accuracy = (dataset.meta.poses and dataset.meta.poses.accuracy) or {}
    value = accuracy.get("scale_sigma")
    return None if value is None else float(value)


def _stated(scale_sigma: float | None) -> float | None:
    return scale_sigma if scale_sigma is not None and np.isfinite(scale_sigma) else None


class _Pictures:
    """Colour of a dataset's frames, decoded when asked."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> AnyArray:
        return self._dataset.rgb(index)
