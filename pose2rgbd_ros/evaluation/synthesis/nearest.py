"""The recorded frame whose view is most like that of a pose, with frames left out."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Float64, Int64

_SAMPLE = 20  # frames whose depth tells how far away things are


class NearestOther:
    """Among the frames `known` of a dataset. Unlike `baselines.NearestFrame` it can be told to leave frames out.

    Nearness is as there: moving by d counts as turning by d / z, z the median depth of some frames (half the extent of
    the track where depth is not metric).
    """

    def __init__(self, dataset: Dataset, known: AnyArray) -> None:
        self._known = np.asarray(known, dtype=np.int64)
        self._scale = 1.0 / max(_distance_m(dataset), 1e-6)
        self._position_m, self._quat_xyzw = se3.split(dataset.T_map_cam[self._known])

    def __call__(self, T_map_cam: Float64, without: AnyArray | None = None) -> Int64:
        """Indices (B,) of the frames nearest to poses (B, 4, 4); `without` (B,) is a frame of each not to answer."""
        position, quat = se3.split(T_map_cam)
        found = np.empty(len(position), dtype=np.int64)
        for i, (p, q) in enumerate(zip(position, quat, strict=True)):
            moved = np.linalg.norm(self._position_m - p, axis=1) * self._scale
            turned = 2 * np.arccos(np.clip(np.abs(self._quat_xyzw @ q), 0.0, 1.0))
            far = np.hypot(moved, turned)
            if without is not None:
                far[self._known == without[i]] = np.inf
            found[i] = self._known[int(far.argmin())]
        return found


def _distance_m(dataset: Dataset) -> float:
    if dataset.depth_kind == "metric":
        some = np.unique(np.linspace(0, len(dataset) - 1, _SAMPLE).astype(int))
        known = [depth[np.isfinite(depth)] for depth in map(dataset.depth, some)]
        medians = [float(np.median(depth)) for depth in known if len(depth)]
        if medians:
            return float(np.median(medians))
    position = dataset.T_map_cam[:, :3, 3]
    return float(np.linalg.norm(position.max(axis=0) - position.min(axis=0))) / 2
