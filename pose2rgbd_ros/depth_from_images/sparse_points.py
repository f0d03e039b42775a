"""Depth by the sparse points of structure from motion: between three of them inverse depth is that of their plane.

Rough beside stereo, but quick, and there wherever poses came from the pictures: also of a flight straight ahead, whose
neighbouring views hardly differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import Delaunay, KDTree, QhullError

from pose2rgbd_ros.depth_from_images import ImageSequence
from pose2rgbd_ros.depth_from_images.scene import SparseScene, without_false
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.depth import DepthEstimate

LARGEST = 0.25  # of the picture's longer side: what lies between points farther apart is unknown
NEIGHBOURS = 3  # frames that see points, nearest in the sequence (itself among them), whose points count
FEWEST = 10  # points of a frame
BESIDE = 0.1  # of the longer side: so far from the outermost points the surface is thought to go on level with them


@dataclass(frozen=True, eq=False)
class SparsePoints:
    """Of the points of a scene only those count that two of `frames` (F,) of the sequence see; None: that any sees."""

    scene: SparseScene
    frames: Int64 | None = None
    name = "sparse points"

    def estimate(
        self, rgb: ImageSequence, camera: Camera, T_map_cam: Float64 | None, frames: Int64
    ) -> Iterator[DepthEstimate]:
        """See :class:`DepthFromImages`. Confidence is how near the points are to each other that depth is between.

        UserError: no poses; too few points.
        """
        if T_map_cam is None:
            raise UserError("sparse points need the poses of the images")
        seen_frame, seen_point = self.scene.seen_frame, self.scene.seen_point
        if self.frames is not None:
            knows = np.isin(seen_frame, self.frames)
            seen_frame, seen_point = seen_frame[knows], seen_point[knows]
            twice = (np.bincount(seen_point, minlength=len(self.scene.points)) >= 2)[seen_point]
            seen_frame, seen_point = seen_frame[twice], seen_point[twice]
        if len(seen_point) < FEWEST:
            raise UserError(f"only {len(seen_point)} points of the alignment are seen by frames that may use them")
        seeing = np.unique(seen_frame)

        def near(frame: int) -> Int64:
            """Indices of the points that the frames next to it, or it itself, see."""
            nearest = seeing[np.argsort(np.abs(seeing - frame), kind="stable")[:NEIGHBOURS]]
            return np.unique(seen_point[np.isin(seen_frame, nearest)])

        return (self._between(camera, T_map_cam[index], index, near(index)) for index in map(int, frames))

    def _between(self, camera: Camera, T_map_cam: Float64, frame: int, which: Int64) -> DepthEstimate:
        pixels, depth_m = self._in_view(camera, T_map_cam, which)
        depth = np.full((camera.height, camera.width), np.nan, np.float32)
        confidence = np.zeros_like(depth)
        try:
            triangles = Delaunay(pixels) if len(pixels) >= FEWEST else None
        except QhullError:  # all on one line
            triangles = None
        if triangles is not None:
            at = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=-1)
            inverse = LinearNDInterpolator(triangles, 1 / depth_m)(at)
            corners = pixels[triangles.simplices]
            longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
            size = max(camera.width, camera.height)
            confidence = np.maximum(1 - longest / (LARGEST * size), 0)[triangles.find_simplex(at)].astype(np.float32)
            confidence[np.isnan(inverse)] = 0
            open_ = confidence == 0
            apart, nearest = KDTree(pixels).query(at[open_])
            inverse[open_] = 1 / depth_m[nearest]
            confidence[open_] = np.maximum(0.5 * (1 - apart / (BESIDE * size)), 0)
            depth = np.where(confidence > 0, 1 / inverse, np.nan).astype(np.float32)
        return DepthEstimate(frame, depth, confidence, unit_m=1.0)

    def _in_view(self, camera: Camera, T_map_cam: Float64, which: Int64) -> tuple[Float64, Float64]:
        """Pixels (K, 2) and depth (K,) of points that are in the picture or beside it, but for false ones."""
        points_cam = se3.transform_points(se3.inverse(T_map_cam), self.scene.points[which])
        points_cam = points_cam[points_cam[:, 2] > 0]
        pixels = camera.project(points_cam)
        around = LARGEST * max(camera.width, camera.height)
        with np.errstate(invalid="ignore"):
            near = ((pixels > -around) & (pixels < [camera.width + around, camera.height + around])).all(axis=1)
        return without_false(pixels[near], points_cam[near, 2])
