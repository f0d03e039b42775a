"""What can be asked of a city."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.sim.scene import Light

SeasonName = Literal["spring", "summer", "autumn", "winter"]
SEASONS = get_args(SeasonName)


@dataclass(frozen=True)
class CityConfig:
    """The same settings give the same city, on every machine to within rounding."""

    seed: int = setting(0, "draws the city", ge=0)
    extent_m: float = setting(420.0, "side of the built square, centred on the map origin", ge=200.0, le=1200.0)
    relief_m: float = setting(6.0, "height between the lowest and the highest ground of the city", ge=0.0, le=30.0)
    max_height_m: float = setting(38.0, "tallest roof above its ground", ge=14.0, le=150.0)
    sun_azimuth_deg: float = setting(140.0, "sun, clockwise from north", ge=-360.0, le=360.0)
    sun_elevation_deg: float = setting(48.0, "sun above the horizon", ge=3.0, le=90.0)
    season: SeasonName = setting("summer", "vegetation, ground and light")
    haze_per_m: float = setting(0.0008, "density of the haze; 0 shows the end of the world", ge=0.0, le=0.05)
    cars: int = setting(0, "cars that drive; parked ones are always there", ge=0, le=2000)
    people: int = setting(0, "people who walk", ge=0, le=5000)


# One stream of random numbers for each purpose, so that more cars never move a house.
(LAYOUT, RELIEF, BLOCKS, FACADES, TREES, PARKED, TEXTURES, GROUND, OUTSKIRTS, CARS, PEOPLE, ROOFS, CROWNS, WOODS) = (
    range(14)
)


def stream(seed: int, purpose: int) -> np.random.Generator:
    """The random numbers of one purpose."""
    return np.random.default_rng([seed, purpose])


# Colours of the year, and the light of a day.


Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Season:
    """sRGB colours of what grows; `snow` is the share of the ground that it covers."""

    grass: Rgb
    meadow: Rgb
    crop: Rgb
    soil: Rgb
    stubble: Rgb
    leaves: tuple[Rgb, ...]  # tints of crowns, one drawn for each tree
    conifer: Rgb
    snow: float
    bare: bool  # broadleaved trees have lost their leaves


SEASON_COLOURS = {
    "spring": Season(
        (112, 142, 66), (122, 152, 70), (132, 168, 66), (126, 104, 82), (176, 168, 74),
        ((142, 176, 84), (160, 188, 96), (122, 160, 78), (226, 196, 204), (236, 230, 220)),
        (62, 88, 56), 0.0, False,
    ),
    "summer": Season(
        (102, 124, 62), (116, 134, 68), (186, 168, 98), (132, 112, 88), (196, 176, 112),
        ((84, 114, 54), (98, 126, 60), (74, 102, 52), (110, 132, 66), (92, 112, 58)),
        (52, 78, 50), 0.0, False,
    ),
    "autumn": Season(
        (118, 120, 66), (126, 122, 72), (120, 98, 72), (112, 90, 70), (168, 146, 100),
        ((196, 138, 48), (178, 92, 42), (204, 168, 66), (140, 122, 56), (158, 70, 42)),
        (56, 78, 50), 0.0, False,
    ),
    "winter": Season(
        (120, 118, 92), (124, 122, 96), (112, 100, 84), (100, 86, 72), (140, 126, 100),
        ((104, 90, 78), (94, 84, 76), (112, 98, 84)),
        (66, 82, 68), 0.86, True,
    ),
}  # fmt: skip


def light(config: CityConfig) -> Light:
    """Sun, sky and haze: a low sun is warm and weak and leaves the sky to do the lighting."""
    azimuth, elevation = np.radians(config.sun_azimuth_deg), np.radians(config.sun_elevation_deg)
    sun = np.array([np.sin(azimuth) * np.cos(elevation), np.cos(azimuth) * np.cos(elevation), np.sin(elevation)])
    height = np.clip(np.sin(elevation) / 0.8, 0.0, 1.0)
    path = 1.0 / (sun[2] + 0.12)  # air masses, roughly
    reddening = np.exp(-np.array([0.05, 0.11, 0.22]) * (path - 1.0))
    strength = 1.05 + 0.07 * height
    sky = np.array([0.31, 0.37, 0.48]) * (0.88 + 0.12 * height)
    haze = np.array([0.62, 0.70, 0.80]) * (0.94 + 0.06 * height)
    warm = (1 - height) * np.array([0.20, 0.05, -0.14])
    if config.season == "winter":  # exposed for the snow, which would else be white without any drawing
        strength, sky, haze = 0.62 * strength, 0.82 * sky, 0.6 * haze + 0.4 * np.array([0.76, 0.79, 0.83])
    ground = np.array([0.18, 0.17, 0.15]) * (0.75 + 0.25 * height) * (1.9 if config.season == "winter" else 1.0)
    return Light(
        sun_direction=_triple(sun / np.linalg.norm(sun)),
        sun_rgb=_triple(1.4 * strength * reddening),
        sky_rgb=_triple(sky),
        ground_rgb=_triple(ground),
        haze_rgb=_triple(np.clip(haze + warm, 0, 1)),
        haze_per_m=config.haze_per_m,
    )


def _triple(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
