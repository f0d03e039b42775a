"""Fixtures shared by all tests."""

from __future__ import annotations

import itertools
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]

# `make test` runs two processes of tests at a time: torch and OpenCV of both would otherwise fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that runs the tests in the background has them, and all they start, ignore Ctrl-C; tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Property tests try the same examples everywhere, so that a failure is the change's; `make search` looks for new ones.
# No deadline for an example, here for all of them: a shared machine stalls, and a test says nothing of speed.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", derandomize=False, deadline=None, print_blob=True)
settings.load_profile("same")

# Which of how many processes of tests this is (pytest-xdist); alone it is the first of one.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


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


@pytest.fixture(scope="session")
def new_domain() -> Callable[[], int]:
    """Gives a ROS_DOMAIN_ID that nobody on this machine uses: no other test, nor a simulator that runs beside them.

    Ids stay below 100: above, the DDS ports reach into Linux's range of ephemeral ports. Tests that run at the same
    time have ids of their own each, for a domain looks quiet until its first node is up.
    """
    mine = range(1 + WORKER, 100, WORKERS)
    start = os.getpid()

    def new() -> int:
        candidates = (mine[(start + next(_domains)) % len(mine)] for _ in mine)
        return next(domain for domain in candidates if _is_quiet(domain))

    return new


def _is_quiet(domain: int) -> bool:
    """Whether no port of a domain by which participants find each other is taken."""
    base = 7400 + 250 * domain
    return all(_is_free(port) for port in (base, *range(base + 10, base + 74, 2)))


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch, new_domain: Callable[[], int]) -> int:
    """A ROS_DOMAIN_ID of this test's own, in the environment of it and of the processes it starts."""
    domain = new_domain()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    return domain


@pytest.fixture(scope="session")
def flight_dataset() -> Callable[..., Path]:
    """Writes a small dataset: half a loop over the block world. Colour, and metric, relative or no depth."""
    from support.blockworld import BlockWorld
    from support.orbit_flight import OrbitFlight

    from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
    from pose2rgbd_ros.dataset.writer import DatasetWriter
    from pose2rgbd_ros.geometry.camera import Camera

    world, camera = BlockWorld(seed=1), Camera(48, 40, 45.0, 45.0, 23.5, 19.5)

    def write(path: Path, frames: int = 40, depth_kind: str | None = "metric") -> Path:
        meta = DatasetMeta(camera=camera, depth=DepthMeta(kind=depth_kind) if depth_kind else None)
        flight = OrbitFlight(seed=1, loops=0.5).T_map_cam(np.linspace(0.0, 90.0, frames))
        with DatasetWriter(path, meta) as writer:
            for index, T_map_cam in enumerate(flight):
                rgb, depth_m = world.render(T_map_cam, camera, max_depth_m=45.0)
                depth = {"metric": depth_m, "relative": depth_m / 7.0, None: None}[depth_kind]
                writer.add((index + 1) * 250_000_000, T_map_cam, rgb, depth)
        return path

    return write
