"""What a flight asks of the world below it: how high it is, where it ends, where its streets run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.flight import Flight

MARGIN_M = 3.0  # kept from everything, above it and beside it
STREET_MARGIN_M = 1.5  # between buildings there is less room, and less speed
_CHECK_EVERY_M = 1.0
_ROUNDING_M = 1e-6
_EIGHT = np.array([(np.cos(a), np.sin(a)) for a in np.arange(8) * np.pi / 4])
_AROUND = np.concatenate([[(0.0, 0.0)], 0.5 * _EIGHT, _EIGHT])


class Street(Protocol):
    """A street's middle (K, 3) on the ground, and its width."""

    @property
    def points_m(self) -> Float64: ...
    @property
    def width_m(self) -> float: ...


class Terrain(Protocol):
    """The city, as far as flights know it; see `sim.city.city.City`."""

    @property
    def streets(self) -> Sequence[Street]: ...
    @property
    def bounds_m(self) -> tuple[Float64, Float64]: ...
    def ground_height_m(self, xy_m: Float64) -> Float64:
        """Height (N,) of the ground at places (N, 2)."""
        ...

    def surface_height_m(self, xy_m: Float64) -> Float64:
        """Height (N,) below which there may be something at places (N, 2)."""
        ...


def highest_around_m(terrain: Terrain, xy_m: Float64, margin_m: float) -> Float64:
    """Height (N,) of the highest thing at places (N, 2) and `margin_m` around them."""
    around = xy_m[:, None] + margin_m * _AROUND
    heights = terrain.surface_height_m(around.reshape(-1, 2)).reshape(len(xy_m), -1)
    return np.asarray(heights.max(axis=1), dtype=np.float64)


def check_clearance(flight: Flight, terrain: Terrain, config: FlightConfig) -> None:
    """UserError when the flight comes too near to the ground, a roof or a tree: where, and how high it must be."""
    margin_m = STREET_MARGIN_M if config.plan == "street" else MARGIN_M
    count = int(np.ceil(flight.duration_s * config.speed_mps / _CHECK_EVERY_M)) + 1
    position = flight.position_m(np.linspace(0.0, flight.duration_s, count))
    highest_m = highest_around_m(terrain, position[:, :2], margin_m)
    short_m = highest_m + margin_m - position[:, 2] - _ROUNDING_M
    worst = int(short_m.argmax())
    if short_m[worst] <= 0:
        return
    x, y, z = position[worst]
    if config.plan == "waypoints":
        advice = f"raise the waypoints there to {np.ceil(z + short_m[worst]):g} m"
    else:
        advice = f"fly with altitude_m {np.ceil(config.altitude_m + short_m[worst]):g} or more"
    raise UserError(
        f"at x {x:.1f}, y {y:.1f} the flight would be {z:.1f} m high, and what stands there reaches "
        f"{highest_m[worst]:.1f} m; with a margin of {margin_m:g} m: {advice}"
    )


def check_inside(position_m: Float64, terrain: Terrain, advice: str) -> None:
    """UserError when one of the places (N, 3) lies outside the city."""
    low, high = (np.asarray(corner, float)[:2] for corner in terrain.bounds_m)
    outside = np.flatnonzero(((position_m[:, :2] < low) | (position_m[:, :2] > high)).any(axis=1))
    if len(outside):
        x, y = position_m[outside[0], :2]
        raise UserError(
            f"the flight leaves the city at x {x:.1f}, y {y:.1f}; the city reaches from {low[0]:.0f} to {high[0]:.0f} "
            f"in x and from {low[1]:.0f} to {high[1]:.0f} in y: {advice}"
        )
