"""What can be asked of a city."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from pose2rgbd_ros.settings import setting

SeasonName = Literal["spring", "summer", "autumn", "winter"]
SEASONS = get_args(SeasonName)


@dataclass(frozen=True)
class CityConfig:
    """The same settings give the same city, on every machine to within rounding."""

    seed: int = setting(0, "draws the city", ge=0)
    extent_m: float = setting(
        420.0, "side of the built square, centred on the map origin", ge=200.0, le=1200.0
    )
    relief_m: float = setting(
        6.0, "height between the lowest and the highest ground of the city", ge=0.0, le=30.0
    )
    max_height_m: float = setting(38.0, "tallest roof above its ground", ge=14.0, le=150.0)
    sun_azimuth_deg: float = setting(140.0, "sun, clockwise from north", ge=-360.0, le=360.0)
    sun_elevation_deg: float = setting(48.0, "sun above the horizon", ge=3.0, le=90.0)
    season: SeasonName = setting("summer", "vegetation, ground and light")
    haze_per_m: float = setting(0.0008, "density of the haze; 0 shows the end of the world", ge=0.0, le=0.05)
    cars: int = setting(0, "cars that drive; parked ones are always there", ge=0, le=2000)
    people: int = setting(0, "people who walk", ge=0, le=5000)


# One stream of random numbers for each purpose, so that more cars never move a house.
(
    LAYOUT,
    RELIEF,
    BLOCKS,
    FACADES,
    TREES,
    PARKED,
    TEXTURES,
    GROUND,
    OUTSKIRTS,
    CARS,
    PEOPLE,
    ROOFS,
    CROWNS,
    WOODS,
) = range(14)


def stream(seed: int, purpose: int) -> np.random.Generator:
    """The random numbers of one purpose."""
    return np.random.default_rng([seed, purpose])
