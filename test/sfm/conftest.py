"""A flight over the simulated city, and photographs of a drawn place, whose truth is known."""

from __future__ import annotations

import pytest
from support import roofs
from support.photographs import FRAMES, SIZE

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.sfm.align import align, restore

FLIGHT = [
    *("--frames", str(FRAMES), "--size", str(SIZE), "--supersample", "2"),
    *("--flight.plan", "lawnmower", "--flight.area-m", "70", "--flight.line-spacing-m", "18"),
    *("--flight.camera-pitch-deg", "80"),
]


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Exact poses, lens and depth."""
    folder = tmp_path_factory.mktemp("truth") / "flight"
    assert main(["sim", "dataset", str(folder), *FLIGHT, "--processes", "1"]) == 0
    return Dataset(folder)


@pytest.fixture(scope="session")
def survey(tmp_path_factory: pytest.TempPathFactory) -> roofs.Survey:
    """Of 3 lines, with GPS good to 1 m and attitudes good to 3 degrees."""
    T_map_cam = roofs.survey(lines=3, along=4)
    recorded, place = roofs.rough(T_map_cam), roofs.Roofs()
    pictures = [place.view(T) for T in T_map_cam]
    path = roofs.write(tmp_path_factory.mktemp("survey") / "flight", recorded, pictures)
    align(path, roofs.QUICK, progress=False)
    restore(path)
    return roofs.Survey(T_map_cam, recorded, pictures, path)
