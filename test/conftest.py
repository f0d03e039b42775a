"""Fixtures shared by all tests."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

# Two test threads on a small machine; torch and OpenCV would otherwise fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "2")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings; the test is skipped, saying so, where it is missing."""
    folder = Path(os.environ.get("POSE2RGBD_REAL_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}; set POSE2RGBD_REAL_DATA")
    return folder


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that ask for `real_data` carry its marker, so `-m 'not real_data'` is complete."""
    for item in items:
        if "real_data" in getattr(item, "fixturenames", ()):
            item.add_marker("real_data")


_domains = itertools.count()


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> int:
    """A ROS_DOMAIN_ID of this test's own, in the environment of it and of the processes it starts.

    Ids stay below 100: above, the DDS ports reach into Linux's range of ephemeral ports.
    """
    domain = 1 + (os.getpid() + 7 * next(_domains)) % 99
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    return domain
