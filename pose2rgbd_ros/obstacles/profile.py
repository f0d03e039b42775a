"""How much room there is along a path, from bounds of depth at its poses. Pure numpy, no ROS.

**What is taken from where.** *Free space* is known from a pose's own view alone: up to the lower bound along each
ray. What other poses see free is not added, since the errors of all views would add up. *Surfaces* are merged: one
that a neighbouring view shows counts for a pose too, even outside its own view or where it looks through it, anywhere
between its lower and upper bound. That can only make distances smaller, so they stay lower bounds; and it keeps a
body clear of what its own camera has just passed. *Knowledge* is never merged: at a pose whose own view is unknown
clearance and rooms are NaN whatever its neighbours saw. But a conflict is one wherever it was seen from.

The camera sees no more than its field of view: clearance is the distance to what is in view, and a camera that looks
down knows nothing of the room ahead, which is NaN then.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.obstacles.clearance import (
    DOWN,
    Nearby,
    SurfaceFinder,
    Surfaces,
    coarser,
    free_distance_along,
    height_above_ground,
    nearest_obstacle,
)
from pose2rgbd_ros.obstacles.paths import BodyPath
from pose2rgbd_ros.obstacles.view import DepthView, view_of

FINEST_SIGHT = 128  # larger images are pooled to their least bounds


@dataclass(frozen=True)
class ProfileSettings:
    """radius_m: of the body. range_m: the largest distance reported. near_m, unknown_share: see free_distance_along.

    min_known: share of a view that must be known. merged: the surfaces of how many views before and after a pose count.
    """

    radius_m: float = 1.0
    range_m: float = 100.0
    near_m: float = 10.0
    min_known: float = 0.5
    merged: int = 4
    unknown_share: float = 0.0


@dataclass(frozen=True, eq=False)
class Profile:
    """Of the first n poses of a path, arrays (n,): lower bounds in metres, NaN unknown.

    clearance_m: from the body's centre to the nearest possible surface in view; inf: none there. ahead_m: how far the
        ball can go along the path's direction before it touches something. below_m: height of the body's centre above
        what is below it. known: share of the view. first_conflict_m: along the path, where the ball first may touch
        something, NaN: nowhere known. first_unknown_m: of the first pose without clearance, NaN: none.
    """

    clearance_m: Float64
    ahead_m: Float64
    below_m: Float64
    known: Float64
    in_distribution: Bool
    first_conflict_m: float
    first_unknown_m: float
    message: str


class ProfileBuilder:
    """Gathers a profile while the poses of a path are rendered, in order and in parts of any size.

    What a later view shows to an earlier pose is taken over, so the parts make no difference to the end. Time grows
    with the number of poses alone: surfaces are kept for `merged` poses.
    """

    def __init__(self, path: BodyPath, camera: Camera, T_body_cam: Float64, settings: ProfileSettings) -> None:
        """UserError: the camera is not calibrated."""
        if not camera.is_calibrated:
            raise UserError("clearances need a calibrated camera, and this one has K[0] = 0")
        self._path, self._camera, self._T_body_cam, self._settings = path, camera, T_body_cam, settings
        self._finder = SurfaceFinder(camera)
        self._recent: deque[tuple[int, Surfaces]] = deque(maxlen=settings.merged)
        count = len(path)
        self._clearance, self._ahead, self._below, self._known = (np.full(count, np.nan) for _ in range(4))
        self._conflict = np.full(count, np.inf)  # from each pose on, before the next
        self._inside = np.zeros(count, bool)
        self.done = 0

    def add(self, lower_m: Float32, upper_m: Float32, in_distribution: Bool) -> None:
        """Take the next B poses: bounds of depth (B, H, W), NaN unknown, and the guard's word on each (B,).

        ValueError: more than the path has.
        """
        if self.done + len(lower_m) > len(self._path):
            raise ValueError(f"{self.done + len(lower_m)} views of a path of {len(self._path)} poses")
        for lower, upper, inside in zip(lower_m, upper_m, in_distribution, strict=True):
            self._add(lower, upper, bool(inside))

    def profile(self) -> Profile:
        """As far as it goes."""
        n = self.done
        distance_m, unknown = self._path.distance_m[:n], np.isnan(self._clearance[:n])
        struck = distance_m + self._conflict[:n]
        first_conflict_m = float(struck.min(initial=np.inf))
        return Profile(
            self._clearance[:n].copy(),
            self._ahead[:n].copy(),
            self._below[:n].copy(),
            self._known[:n].copy(),
            self._inside[:n].copy(),
            first_conflict_m if np.isfinite(first_conflict_m) else float("nan"),
            float(distance_m[unknown.argmax()]) if unknown.any() else float("nan"),
            self._message(unknown),
        )

    def _add(self, lower_m: Float32, upper_m: Float32, inside: bool) -> None:
        k, T_map_body, settings = self.done, self._path.T_map_body[self.done], self._settings
        T_map_cam = T_map_body @ self._T_body_cam
        T_here_cam = T_map_cam.copy()  # axes of the map, origin in the body's centre
        T_here_cam[:3, 3] -= T_map_body[:3, 3]
        self._known[k], self._inside[k] = float(np.isfinite(lower_m).mean()), inside
        if inside and self._known[k] >= settings.min_known:
            self._look(k, view_of(*coarser(lower_m, self._camera, FINEST_SIGHT), T_here_cam))
        own = self._finder.surfaces(lower_m, upper_m, T_map_cam)
        self._meet(k, own)
        for earlier, surfaces in self._recent:
            self._meet(k, surfaces)
            self._meet(earlier, own)
        self._recent.append((k, own))
        self.done += 1

    def _look(self, k: int, sight: DepthView) -> None:
        """Free space by the pose's own view."""
        settings = self._settings
        rules = (settings.radius_m, settings.near_m, settings.range_m, settings.unknown_share)
        nearest_m = nearest_obstacle(sight).distance_m
        self._clearance[k] = np.inf if np.isnan(nearest_m) else nearest_m
        if np.isfinite(self._path.direction[k]).all():
            self._ahead[k] = free_distance_along(sight, self._path.direction[k], *rules)
        self._below[k] = height_above_ground(sight, *rules)

    def _meet(self, k: int, surfaces: Surfaces) -> None:
        """Surfaces that pose k has to heed."""
        if len(surfaces) == 0:
            return
        path, radius_m = self._path, self._settings.radius_m
        near, direction = surfaces.near(path.T_map_body[k, :3, 3]), path.direction[k]
        # What is NaN, unknown, stays so.
        self._clearance[k] = np.minimum(self._clearance[k], near.distance_m)
        self._below[k] = np.minimum(self._below[k], near.contact_m(DOWN, radius_m) + radius_m)
        if np.isfinite(direction).all():
            self._ahead[k] = np.minimum(self._ahead[k], near.contact_m(direction, radius_m))
        self._conflict[k] = min(self._conflict[k], self._strike_m(k, near))

    def _strike_m(self, k: int, near: Nearby) -> float:
        """How far from pose k on, and before the next, the ball touches a surface; inf: it does not."""
        radius_m, poses = self._settings.radius_m, self._path.T_map_body
        if near.distance_m < radius_m:
            return 0.0
        step = poses[min(k + 1, len(poses) - 1), :3, 3] - poses[k, :3, 3]
        length = float(np.linalg.norm(step))
        if length == 0 or near.distance_m > radius_m + length:
            return float("inf")
        met_m = near.contact_m(step / length, radius_m)
        return met_m if met_m < length else float("inf")

    def _message(self, unknown: Bool) -> str:
        """One line about what is unknown, and why."""
        n, said = self.done, []
        outside = unknown & ~self._inside[:n]
        for which, why in (
            (outside, "unlike what the model was trained on"),
            (unknown & ~outside, f"less than {self._settings.min_known:.0%} of the view is known"),
        ):
            if which.any():
                at_m = self._path.distance_m[which.argmax()]
                said.append(f"clearance unknown at {which.sum()} of {n} poses, first at {at_m:.1f} m: {why}")
        if not unknown.all():
            if np.isnan(self._path.direction[:n]).all():
                said.append("the body does not move, so nothing is ahead of it")
            elif np.isnan(self._ahead[:n][~unknown]).all():
                said.append("the room ahead is unknown: the camera does not see the way")
        return "; ".join(said)
