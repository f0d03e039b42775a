"""Keeps a drone that flies by velocity commands off the ground, the roofs and the walls."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64

HALF_WIDTH_M = 1.5  # of the lane that must be free
STEP_M = 1.0  # between the places looked at ahead
LAG_S = 0.8  # until a change of the allowed speed has become one of the drone
ENOUGH = 2 / 3  # of the clearance above what is flown over
GAIN_PER_S = 0.6  # allowed speed per metre left, close to the end of it


class Guard:
    """Limits velocities so that the drone can always stop `clearance_m` above or before what stands there.

    `surface_height_m` takes places (N, 2) in the map to the height (N,) of the highest thing there.
    """

    def __init__(
        self, surface_height_m: Callable[[Float64], Float64], clearance_m: float, max_acceleration_mps2: float
    ) -> None:
        self._surface_m, self._clearance_m = surface_height_m, clearance_m
        self._brake_mps2 = max_acceleration_mps2 / 2

    def limit(
        self, position_m: Float64, velocity_mps: Float64, wanted_mps: Float64
    ) -> tuple[Float64, str | None]:
        """The velocity (3,) nearest to the wanted one that is safe, and what was held back and why, or None."""
        allowed, notice = wanted_mps.copy(), None
        speed = float(np.hypot(*wanted_mps[:2]))
        if speed > 0:
            ahead_m = self._free_ahead_m(position_m, velocity_mps, wanted_mps[:2] / speed, speed)
            limit = self._safe_speed(ahead_m)
            if limit < speed:
                allowed[:2] *= limit / speed
                notice = f"slows down or stops: it keeps {self._clearance_m:g} m off what stands ahead"
        lowest_m = self._lowest_m(position_m, velocity_mps)
        sink_limit = self._safe_speed(position_m[2] - lowest_m)
        if -allowed[2] > sink_limit:
            allowed[2] = -sink_limit
            notice = f"descends no lower than z = {lowest_m:.1f} m here: it keeps {self._clearance_m:g} m above ground and roofs"
        return allowed, notice

    def _free_ahead_m(
        self, position_m: Float64, velocity_mps: Float64, direction: Float64, speed: float
    ) -> float:
        """How far the lane in a direction is free, as far as matters."""
        reach_m = self._stopping_m(max(speed, float(np.hypot(*velocity_mps[:2])))) + self._clearance_m
        along = np.arange(0.0, reach_m + 2 * STEP_M, STEP_M)
        height_m = position_m[2] - self._stopping_m(max(0.0, -float(velocity_mps[2])))
        # A little less than the clearance, so that one that hovers just there is not caught.
        blocked = self._highest_m(position_m, direction, along) + ENOUGH * self._clearance_m > height_m
        return float(along[blocked.argmax()]) - STEP_M - self._clearance_m if blocked.any() else np.inf

    def _lowest_m(self, position_m: Float64, velocity_mps: Float64) -> float:
        """The lowest safe height over what the drone can no longer avoid to fly over."""
        speed = float(np.hypot(*velocity_mps[:2]))
        direction = velocity_mps[:2] / speed if speed > 0.01 else np.array([1.0, 0.0])
        along = np.arange(-STEP_M, self._stopping_m(speed) + 2 * STEP_M, STEP_M)
        return float(self._highest_m(position_m, direction, along).max()) + self._clearance_m

    def _highest_m(self, position_m: Float64, direction: Float64, along_m: Float64) -> Float64:
        """The highest surface across the lane at each distance (N,)."""
        across = np.array([-direction[1], direction[0]])
        sideways = np.array([-HALF_WIDTH_M, 0.0, HALF_WIDTH_M])
        places = position_m[:2] + along_m[:, None, None] * direction + sideways[None, :, None] * across
        return self._surface_m(places.reshape(-1, 2)).reshape(-1, 3).max(axis=1)

    def _stopping_m(self, speed_mps: float) -> float:
        return speed_mps * LAG_S + speed_mps**2 / (2 * self._brake_mps2)

    def _safe_speed(self, distance_m: float) -> float:
        """The speed from which the drone stops within a distance: proportional at the end, then a parabola."""
        knee_m = self._brake_mps2 / GAIN_PER_S**2
        if distance_m <= knee_m:
            return GAIN_PER_S * max(distance_m, 0.0)
        return float(np.sqrt(2 * self._brake_mps2 * (distance_m - knee_m / 2)))
