"""A flight over the simulated city whose truth is known."""

from __future__ import annotations

import pytest
from support.photographs import FRAMES, SIZE

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.reader import Dataset

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
