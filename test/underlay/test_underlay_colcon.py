"""colcon must never build the stand-ins: where it is used, the real packages are there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

COLCON = shutil.which("colcon")


@pytest.mark.skipif(COLCON is None, reason="colcon is not installed")
def test_colcon_sees_one_package(repository: Path, tmp_path: Path):
    """A package hides what is below it, tf2_msgs in underlay/ too."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "pose2rgbd").symlink_to(repository)
    listing = subprocess.run(
        [str(COLCON), "list", "--names-only", "--base-paths", "src"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert listing.stdout.split() == ["pose2rgbd"]
