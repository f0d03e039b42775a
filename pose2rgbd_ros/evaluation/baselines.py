"""What any model has to beat: the mean training image, and the training frame taken nearest to the pose."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.recorded import Images, Recorded
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.training.validation import spread

DEPTH_FRAMES = 32


class Baselines:
    """What both say at any pose, from the frames `train` of a recording; the same whatever model stands beside them."""

    def __init__(self, recorded: Recorded, train: np.ndarray) -> None:
        self._recorded, self._train = recorded, train
        self._mean = recorded.mean(train)
        distance_m = scene_distance_m(recorded.dataset, train)
        self._nearest = NearestFrame(recorded.dataset.T_map_cam[train], distance_m)

    def nearest(self, T_map_cam: np.ndarray) -> np.ndarray:
        """Indices (B,) of the training frames nearest to poses (B, 4, 4)."""
        return self._train[self._nearest(T_map_cam)]

    def nearest_pose(self, T_map_cam: np.ndarray) -> np.ndarray:
        """Their poses (B, 4, 4)."""
        return self._recorded.dataset.T_map_cam[self.nearest(T_map_cam)]

    def images(self, T_map_cam: np.ndarray) -> dict[str, Images]:
        """Colour and depth of each at poses (B, 4, 4)."""
        rgb, depth = (
            None if image is None else image.expand(len(T_map_cam), *image.shape) for image in self._mean
        )
        copied = self._recorded.images(self.nearest(T_map_cam))
        return {"mean_image": (rgb, depth), "nearest_frame": copied}


def scene_distance_m(dataset: Dataset, train: np.ndarray) -> float:
    """Typical distance of what is seen: the median recorded depth of some training frames.

    Without metric depth the extent of the training track stands in for it.
    """
    if dataset.has_depth and dataset.depth_kind == "metric":
        depth = np.concatenate([dataset.depth(int(i))[::4, ::4].ravel() for i in spread(train, DEPTH_FRAMES)])
        known = depth[np.isfinite(depth)]
        if len(known):
            return float(np.median(known))
    position_m = dataset.T_map_cam[train, :3, 3]
    return float(np.linalg.norm(position_m.max(axis=0) - position_m.min(axis=0)))


class NearestFrame:
    """Finds the training frame whose view is most like that of a pose.

    Moving by d shifts the image of a surface at distance z about as much as turning by d / z, so positions count in
    units of the scene's distance and rotations in radians. For small angles the chord between unit quaternions is
    half the angle, which makes the measure Euclidean and a KD-tree exact enough.

    Args:
        T_map_cam: (N, 4, 4) training poses.
        scene_distance_m: typical distance of what is seen.
    """

    def __init__(self, T_map_cam: np.ndarray, scene_distance_m: float) -> None:
        self._scale = 1.0 / max(scene_distance_m, 1e-6)
        features = self._features(T_map_cam)
        # q and -q are the same rotation: both are in the tree.
        self._tree = KDTree(np.concatenate([features, features * [1, 1, 1, -1, -1, -1, -1]]))
        self._count = len(features)

    def __call__(self, T_map_cam: np.ndarray, without: np.ndarray | None = None) -> np.ndarray:
        """(B, 4, 4) poses -> (B,) indices into the training poses; `without` (B,) is one of each not to answer."""
        most = (
            1 if without is None else min(3, 2 * self._count)
        )  # each is in the tree twice: one of three is another
        _, near = self._tree.query(self._features(T_map_cam), k=range(1, most + 1))
        near = np.asarray(near, dtype=np.int64) % self._count
        if without is None:
            return near[:, 0]
        return near[np.arange(len(near)), (near != without[:, None]).argmax(axis=1)]

    def _features(self, T_map_cam: np.ndarray) -> np.ndarray:
        position_m, quat_xyzw = se3.split(T_map_cam)
        return np.concatenate([position_m * self._scale, 2.0 * quat_xyzw], axis=1)
