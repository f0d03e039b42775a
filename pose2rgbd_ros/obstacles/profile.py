"""How much room there is along a path, from lower bounds of depth at its poses. Pure numpy, no ROS.

**What is taken from where.** The lower bound of a pixel says two things: up to there the ray is free, and there the
nearest surface may begin. Views of neighbouring poses see the same space, and are merged:

* *Surfaces* are merged as a union: a surface that any view declares possible counts for every pose near by, even where
  another view looks through it. A distance can only become smaller by that, so it stays a lower bound; the other way
  round (one view's free space deletes another's surface) would add up the errors of all views.
* *Free space* of a tube (ahead, below) is what at least one view has seen free and no view's surface reaches into. A
  point no view looked at, or that lies behind a lower bound in all that did, is unknown and ends the tube.
* *Knowledge* is never merged: clearance is NaN at a pose whose own view is unknown, whatever its neighbours saw, unless
  it is a conflict: known obstacles count everywhere.

The camera sees no more than its field of view: clearance is the distance to what is in view, and a camera that looks
down knows nothing of the room ahead, which is NaN then.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.obstacles.lower_view import LowerView, ViewMaker
from pose2rgbd_ros.obstacles.paths import BodyPath
from pose2rgbd_ros.obstacles.tube import Tube

DOWN = np.array([0.0, 0.0, -1.0])


@dataclass(frozen=True)
class ProfileSettings:
    """radius_m: of the body. range_m: how far rooms are looked along. min_known: share of a view that must be known
    for a clearance to be stated. merged: how many views before and after a pose are merged into its own."""

    radius_m: float = 1.0
    range_m: float = 100.0
    min_known: float = 0.5
    merged: int = 8


@dataclass(frozen=True, eq=False)
class Profile:
    """Of the first n poses of a path, arrays (n,): lower bounds in metres, NaN unknown.

    clearance_m: from the body's centre to the nearest possible surface in view. ahead_m: along the path, for a body of
    that radius; range_m says "at least". below_m: straight down. known: share of the view. first_conflict_m: distance
    along the path where a possible surface first comes within the radius, NaN: nowhere. first_unknown_m: of the first
    pose without clearance, NaN: none.
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

    What a later view adds to an earlier pose is taken over, so the parts make no difference to the end. Memory and time
    grow with the number of poses alone: views are kept for `merged` poses.
    """

    def __init__(
        self, path: BodyPath, camera: Camera, T_body_cam: Float64, settings: ProfileSettings
    ) -> None:
        """UserError: the camera is not calibrated."""
        if not camera.is_calibrated:
            raise UserError("clearances need a calibrated camera, and this one has K[0] = 0")
        self._path, self._settings, self._T_body_cam = path, settings, T_body_cam
        self._maker = ViewMaker(camera)
        self._places: deque[_Place] = deque(maxlen=settings.merged)
        self._views: deque[LowerView] = deque(maxlen=settings.merged)
        count = len(path)
        self._clearance, self._ahead, self._below, self._known = (np.full(count, np.nan) for _ in range(4))
        self._conflict = np.full(count, np.nan)
        self._inside = np.zeros(count, bool)
        self.done = 0

    def add(self, lower_m: Float32, in_distribution: npt.ArrayLike) -> None:
        """Take the next B poses: lower bounds (B, H, W), NaN unknown, and the guard's word on each (B,).

        ValueError: more than the path has.
        """
        inside = np.broadcast_to(np.asarray(in_distribution, bool), len(lower_m))
        if self.done + len(lower_m) > len(self._path):
            raise ValueError(f"{self.done + len(lower_m)} views of a path of {len(self._path)} poses")
        for image, is_inside in zip(lower_m, inside, strict=True):
            self._add(image, bool(is_inside))

    def profile(self) -> Profile:
        """As far as it goes."""
        n = self.done
        clearance, conflict = self._clearance[:n], self._conflict[:n]
        distance_m = self._path.distance_m[:n]
        unknown = np.isnan(clearance)
        # A lone conflict at an unknown pose has a clearance; the view is unknown all the same.
        unknown |= ~self._states()
        struck = np.isfinite(conflict)
        return Profile(
            clearance.copy(),
            self._ahead[:n].copy(),
            self._below[:n].copy(),
            self._known[:n].copy(),
            self._inside[:n].copy(),
            float(np.min(distance_m[struck] + conflict[struck])) if struck.any() else float("nan"),
            float(distance_m[unknown.argmax()]) if unknown.any() else float("nan"),
            self._message(unknown),
        )

    def _add(self, lower_m: Float32, inside: bool) -> None:
        k, T = self.done, self._path.T_map_body[self.done]
        view = self._maker.view(lower_m, T @ self._T_body_cam)
        place = _Place(k, self._path, self._settings)
        self._known[k], self._inside[k] = view.known, inside
        place.look(view)
        for earlier in self._views:
            place.look(earlier)
        for before in self._places:
            before.look(view)
            self._take(before)
        self._take(place)
        self._views.append(view)
        self._places.append(place)
        self.done += 1

    def _take(self, place: _Place) -> None:
        k = place.index
        self._conflict[k] = place.conflict_m
        stated = self._is_known(k) or place.nearest_m < self._settings.radius_m
        self._clearance[k] = place.nearest_m if stated and np.isfinite(place.nearest_m) else np.nan
        self._ahead[k], self._below[k] = place.ahead_m, place.below_m

    def _is_known(self, k: int) -> bool:
        return bool(self._inside[k] and self._known[k] >= max(self._settings.min_known, 1e-9))

    def _states(self) -> Bool:
        return np.array([self._is_known(k) for k in range(self.done)], bool)

    def _message(self, unknown: Bool) -> str:
        """One line about what is unknown, and why."""
        n, said = self.done, []
        outside, dim = unknown & ~self._inside[:n], unknown & self._inside[:n]
        for which, why in (
            (outside, "unlike what the model was trained on"),
            (dim, f"less than {self._settings.min_known:.0%} of the view is known"),
        ):
            if which.any():
                start_m = self._path.distance_m[which.argmax()]
                said.append(
                    f"clearance unknown at {which.sum()} of {n} poses, first at {start_m:.1f} m: {why}"
                )
        known = ~unknown
        if known.any() and np.isnan(self._path.direction[:n]).all():
            said.append("the body does not move: no direction to look along")
        elif known.any() and np.isnan(self._ahead[:n][known]).all():
            said.append("the room ahead is unknown: the camera does not look along the path")
        return "; ".join(said)


class _Place:
    """One pose of the path, and what the views looked at so far say about it."""

    def __init__(self, index: int, path: BodyPath, settings: ProfileSettings) -> None:
        self.index = index
        self._centre, self._radius_m = path.T_map_body[index][:3, 3], settings.radius_m
        end = path.T_map_body[min(index + 1, len(path) - 1)][:3, 3]
        self._step = end - self._centre
        self.nearest_m = np.inf
        self.conflict_m = np.nan  # along the path from this pose, before the next one
        direction = path.direction[index]
        self._ahead = Tube(self._centre, direction, settings.radius_m, settings.range_m)
        self._down = Tube(self._centre, DOWN, settings.radius_m, settings.range_m)

    @property
    def ahead_m(self) -> float:
        return self._ahead.room_m

    @property
    def below_m(self) -> float:
        return self._down.room_m

    def look(self, view: LowerView) -> None:
        """Heed a view."""
        offset = view.points_map - self._centre
        square = np.einsum("ij,ij->i", offset, offset)
        self._ahead.look(view, offset, square)
        self._down.look(view, offset, square)
        if len(offset):
            self.nearest_m = min(self.nearest_m, max(0.0, float((np.sqrt(square) - view.reach_m).min())))
            self._strike(offset, square, view.reach_m)

    def _strike(self, offset: Float64, square: Float64, reach_m: Float64) -> None:
        """Where on the way to the next pose the body first touches a possible surface."""
        length = float(np.linalg.norm(self._step))
        forward = offset @ (self._step / length if length > 0 else self._step)
        half2 = (self._radius_m + reach_m) ** 2 - (square - forward**2)
        near = half2 > 0
        forward, half = forward[near], np.sqrt(half2[near])
        hit = (forward + half > 0) & (forward - half < length + 1e-9)
        if hit.any():
            at = max(0.0, float((forward - half)[hit].min()))
            self.conflict_m = at if np.isnan(self.conflict_m) else min(at, self.conflict_m)
