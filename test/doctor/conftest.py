"""A short simulated flight, to be looked at as it is and with faults in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import bag_faults

from pose2rgbd_ros.sim.bag import write_sim_bag


@pytest.fixture(scope="session")
def flight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A walk over the city of 14 s."""
    path = tmp_path_factory.mktemp("doctor") / "flight.mcap"
    write_sim_bag(path, bag_faults.clean_config(seed=1, duration_s=14.0))
    return path


@pytest.fixture(scope="session")
def entries(flight: Path) -> list[bag_faults.Entry]:
    """Its messages."""
    return bag_faults.read(flight)
