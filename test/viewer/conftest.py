"""A small place: half a loop over the block world, carried over by warp (which learns nothing), and a model by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import support.small_relief as small_relief

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.viewer.place import Place
from pose2rgbd_ros.viewer.server import Viewer
from pose2rgbd_ros.viewer.settings import ViewSettings

FRAMES = 96
SMALL = ViewSettings(size=96, moving_size=48, rest_ms=50, niceness=0, browser="none")


@pytest.fixture(scope="session")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    """96 frames of 48 x 40 pixels, with depth: enough that some of those held out choose, and some judge."""
    return flight_dataset(tmp_path_factory.mktemp("viewer") / "flight", FRAMES)


@pytest.fixture(scope="session")
def warp(flight: Path) -> Path:
    """warp-4 of these frames."""
    run = flight.parent / "warp"
    assert main(["train", "warp-4", str(flight), "--out", str(run), "--no-tensorboard"]) == 0
    return run


@pytest.fixture(scope="session")
def relief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A house on a meadow."""
    return small_relief.write_small_relief(tmp_path_factory.mktemp("viewer") / "house")


@pytest.fixture
def place(warp: Path, flight: Path) -> Place:
    return Place([warp], flight, SMALL)


@pytest.fixture
def viewer(place: Place) -> Iterator[Viewer]:
    """Served, to programs of this computer."""
    served = Viewer(place, SMALL)
    yield served
    served.close()
