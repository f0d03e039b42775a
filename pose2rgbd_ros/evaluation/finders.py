"""What a network that finds cameras has to beat, by name."""

from __future__ import annotations

import functools

import numpy as np

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.localization import MeanPose
from pose2rgbd_ros.geometry.arrays import Int64
from pose2rgbd_ros.localization.estimate import Finder
from pose2rgbd_ros.localization.retrieval import FrameIndex, Retrieval
from pose2rgbd_ros.localization.structure import Structure

NAMES = ("retrieval", "retrieval-inter", "structure", "mean-pose")
NEIGHBOURS = 10  # that a pose is interpolated between


class Finders:
    """The untrained ways on the training frames `frames` (N,) of a dataset; all but the mean pose share one index."""

    def __init__(self, dataset: Dataset, frames: Int64) -> None:
        self._dataset, self._frames = dataset, np.asarray(frames)

    def named(self, name: str) -> Finder:
        """One of NAMES. UserError where the dataset has not what it takes (structure: metric depth)."""
        if name == "mean-pose":
            return MeanPose(self._dataset.T_map_cam[self._frames])
        if name == "structure":
            Structure.check(self._dataset)
            return Structure(self._index)
        return Retrieval(self._index, {"retrieval": 1, "retrieval-inter": NEIGHBOURS}[name])

    @functools.cached_property
    def _index(self) -> FrameIndex:
        return FrameIndex(self._dataset, self._frames)
