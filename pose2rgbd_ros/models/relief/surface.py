"""What a relief learns its geometry from: recorded depth in metres, relative depth scaled to them, or the pictures
alone.
"""

from __future__ import annotations

import logging
from typing import Literal

import cv2
import numpy as np

from pose2rgbd_ros.depth_from_images.multi_view import ScaledDepth
from pose2rgbd_ros.depth_from_images.plane_sweep import PlaneSweep
from pose2rgbd_ros.depth_from_images.sparse_points import SparsePoints
from pose2rgbd_ros.geometry.arrays import Float32
from pose2rgbd_ros.models.relief.config import volume_rotation
from pose2rgbd_ros.sfm.dense import sparse_scene
from pose2rgbd_ros.training.data import TrainingData

logger = logging.getLogger(__name__)

DepthSource = Literal["auto", "recorded", "pictures"]
SWEPT_FRAMES = 240  # at most: more see the same surfaces again


class SurfaceDepth:
    """Depth of the training frames in metres, by frame number of the dataset.

    Attributes:
        unit_m: metres in one unit of the dataset's depth; 1 where it is metric or has none.
        source: "recorded" or "pictures".
    """

    def __init__(self, data: TrainingData, unit_m: float = 1.0, swept: dict[int, Float32] | None = None) -> None:
        self._data, self.unit_m, self._swept = data, unit_m, swept
        self.source = "recorded" if swept is None else "pictures"

    def __call__(self, indices: np.ndarray) -> Float32:
        """(B, S, S) depth of frames, NaN unknown."""
        if self._swept is None:
            return np.asarray(self._data.depth(indices) * np.float32(self.unit_m), np.float32)
        unknown = np.full(self._data.cache.rgb.shape[1:3], np.nan, np.float32)
        return np.stack([self._swept.get(int(index), unknown) for index in indices])

    def __getitem__(self, index: int) -> Float32:
        """(S, S) depth of one frame."""
        return self(np.array([index]))[0]


def surface_depth(
    data: TrainingData, source: DepthSource, up: Literal["auto", "map", "view"] = "auto", ground_m: float | None = None
) -> SurfaceDepth:
    """The depth to learn from.

    Args:
        source: "recorded": the dataset's own; "pictures": told by neighbouring frames, or by the points of an
            alignment; "auto": the dataset's where it has any.
        up: axis of the relief's volume.
        ground_m: height of the ground along that axis, where the pictures are to tell the depth; None: they tell it
            too.

    Raises:
        UserError: the scale or the distance of the scene cannot be told from the pictures and poses.
    """
    recorded = data.cache.depth is not None  # also where only colour is asked for
    if source == "recorded" or (source == "auto" and recorded):
        if data.dataset.depth_kind == "metric":
            return SurfaceDepth(data)
        train = data.split.train
        unit_m = ScaledDepth(_Depth(data)).unit_m(_Images(data), data.cache.camera, data.T_map_cam[train])
        logger.info("one unit of the relative depth was found to be %.4g m", unit_m)
        return SurfaceDepth(data, unit_m)
    scene = sparse_scene(data.dataset) if ground_m is None else None
    if scene is None:
        return SurfaceDepth(data, swept=_sweep(data, up, ground_m))
    # Of the points only what training frames see: held-out ones must not help.
    train = data.split.train
    found = SparsePoints(scene, train).estimate(_Images(data), data.cache.camera, data.T_map_cam, train)
    logger.info("depth comes from the points of the alignment")
    return SurfaceDepth(data, swept={one.frame: one.depth for one in found})


def _sweep(data: TrainingData, up: Literal["auto", "map", "view"], ground_m: float | None) -> dict[int, Float32]:
    train, T_map_cam = data.split.train, data.T_map_cam[data.split.train]
    normal = volume_rotation(T_map_cam, up)[:, 2]
    distance_m = None if ground_m is None else float(np.median(T_map_cam[:, :3, 3] @ normal)) - ground_m
    rows = np.unique(np.linspace(0, len(train) - 1, min(SWEPT_FRAMES, len(train))).round().astype(np.int64))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the images are small
    try:
        # Only training frames are neighbours: held-out ones must not help.
        found = PlaneSweep(normal, distance_m).estimate(_Images(data), data.cache.camera, T_map_cam, rows)
        return {int(train[one.frame]): one.depth for one in found}
    finally:
        cv2.setNumThreads(threads)


class _Images:
    """Colour of the training frames by their row."""

    def __init__(self, data: TrainingData) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data.split.train)

    def __getitem__(self, row: int) -> np.ndarray:
        return np.asarray(self._data.cache.rgb[self._data.split.train[row]])


class _Depth(_Images):
    """Their depth."""

    def __getitem__(self, row: int) -> np.ndarray:
        return np.asarray(self._data.depth(self._data.split.train[[row]])[0])
