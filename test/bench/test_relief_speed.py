"""bench/relief_speed.py calls kernels one by one, as no part of the program does: it must follow what they take."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from support.random_relief import random_relief, relief_checkpoint
from support.scripts import load_script

from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.backends import HAS_NUMBA

pytestmark = pytest.mark.skipif(not HAS_NUMBA, reason="no numba")

PARTS = {"rays and march", "features", "shader", "finish"}


@pytest.fixture
def relief_speed(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The bench, of two poses and one round."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which it sets, put back afterwards
    monkeypatch.syspath_prepend(repository / "bench")
    module: ModuleType = load_script("relief_speed", "bench")
    monkeypatch.setattr(module, "POSES", 2)
    monkeypatch.setattr(module, "ROUNDS", 1)
    return module


@pytest.mark.parametrize("edge_rays", [1, 2])
def test_every_part_is_timed_and_both_orders_agree(relief_speed: ModuleType, tmp_path: Path, edge_rays: int) -> None:
    camera = Camera.from_fov(32, 32, 90)
    place = relief_speed.Place(relief_checkpoint(tmp_path / "run", random_relief(edge_rays=edge_rays), camera))
    parts = place.parts(32)
    assert parts.keys() == PARTS
    assert min(ms for both in parts.values() for ms in both) > 0
    assert place.ratio(32).keys() == {"plain", "quick", "edges", "first", "fps"}
    levels, _, depth, alone = place.difference(32)
    assert levels <= 1
    assert depth < 1e-3
    assert alone < 1e-2
