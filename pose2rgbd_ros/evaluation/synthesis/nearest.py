"""The recorded frame whose view is most like that of a pose, with a frame left out."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.baselines import NearestFrame, scene_distance_m
from pose2rgbd_ros.geometry.arrays import Float64, Int64


class NearestOther:
    """Among the frames `known` of a dataset, by `NearestFrame` at their `scene_distance_m`."""

    def __init__(self, dataset: Dataset, known: Int64) -> None:
        self._known = known
        self._nearest = NearestFrame(dataset.T_map_cam[known], scene_distance_m(dataset, known))

    def __call__(self, T_map_cam: Float64, without: Int64 | None = None) -> Int64:
        """Indices (B,) of the frames nearest to poses (B, 4, 4); `without` (B,) is a frame of each not to answer."""
        if without is not None:
            is_frame = without[:, None] == self._known
            without = np.where(is_frame.any(axis=1), is_frame.argmax(axis=1), -1)
        return self._known[self._nearest(T_map_cam, without)]
