"""The recorded frame whose view is most like that of a pose, with a frame left out."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.baselines import NearestFrame
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.training.validation import spread

_SAMPLE = 20  # frames whose depth tells how far away things are


class NearestOther:
    """Among the frames `known` of a dataset, by `NearestFrame`: things are as far away as the depth of some frames says in
    the median, or half the extent of the track where depth is not metric."""

    def __init__(self, dataset: Dataset, known: Int64) -> None:
        self._known = known
        self._nearest = NearestFrame(dataset.T_map_cam[known], _distance_m(dataset))

    def __call__(self, T_map_cam: Float64, without: Int64 | None = None) -> Int64:
        """Indices (B,) of the frames nearest to poses (B, 4, 4); `without` (B,) is a frame of each not to answer."""
        if without is not None:
            is_frame = without[:, None] == self._known
            without = np.where(is_frame.any(axis=1), is_frame.argmax(axis=1), -1)
        return self._known[self._nearest(T_map_cam, without)]


def _distance_m(dataset: Dataset) -> float:
    if dataset.depth_kind == "metric":
        known = [
            depth[np.isfinite(depth)]
            for depth in map(dataset.depth, spread(np.arange(len(dataset)), _SAMPLE))
        ]
        medians = [float(np.median(depth)) for depth in known if len(depth)]
        if medians:
            return float(np.median(medians))
    return float(np.linalg.norm(np.ptp(dataset.T_map_cam[:, :3, 3], axis=0))) / 2
