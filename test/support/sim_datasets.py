"""Small synthetic datasets for tests, and whole folders compared."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest

from pose2rgbd_ros.sim import dataset
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.dataset import SimDatasetConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig

# The smallest city, from above its roofs; one loop takes a second of rendering at these sizes.
CITY = CityConfig(extent_m=200.0, max_height_m=20.0)
LOOP = FlightConfig(plan="orbit", loops=1, radius_m=40.0, altitude_m=50.0, climb_m=2.0)
SMALL = SimDatasetConfig(
    frames=12, size=48, supersample=1, processes=1, city=CITY, flight=replace(LOOP, loops=6, climb_m=12.0)
)
BUSY = replace(SMALL, city=replace(CITY, cars=12, people=60))


def share_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until `monkeypatch` is undone, build a city and compile its shaders once for all datasets of this process."""
    monkeypatch.setattr(dataset, "City", city_of)
    monkeypatch.setattr(dataset, "City", city_of)
    monkeypatch.setattr(dataset, "Studio", _studio)


class _KeptStudio(dataset.Studio):
    def close(self) -> None:
        """Kept for the next dataset."""


city_of = functools.cache(City)
_studio = functools.cache(_KeptStudio)


def files_of(folder: Path) -> dict[str, bytes]:
    """Contents by name of all files; the locks, which stay empty, are left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def command_line(config: SimDatasetConfig) -> list[str]:
    """The options that differ from the defaults, as `pose2rgbd sim dataset` takes them."""
    options: list[str] = []
    for prefix, part, default in (
        ("", config, SimDatasetConfig()),
        ("city.", config.city, CityConfig()),
        ("flight.", config.flight, FlightConfig()),
    ):
        for name, value in vars(part).items():
            if name in ("city", "flight", "resume") or value == getattr(default, name):
                continue
            options += [f"--{prefix}{name}".replace("_", "-"), str(value)]
    return options + ["--resume"] * config.resume
