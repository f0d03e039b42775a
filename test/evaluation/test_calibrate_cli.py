"""`pose2rgbd calibrate` on a small flight, end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import support.small_relief as small_relief
import yaml

from pose2rgbd_ros.cli import calibrate
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint

FRAMES = 24
FARTHER = (
    4.0  # surfaces that are farther than the model says are so many times as far off as those that are nearer
)


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and a recording of its place whose depth is the model's with known noise."""
    folder = tmp_path_factory.mktemp("flight")
    model = small_relief.write_small_relief(folder / "run" / "checkpoint")
    renderer, generator = Renderer(model, "cpu", threads=1), np.random.default_rng(0)
    x = np.linspace(-2.0, 2.0, FRAMES)
    meta = DatasetMeta(
        camera=renderer.camera, depth=DepthMeta(kind="metric"), map_frame="map", camera_frame="camera_optical"
    )
    with DatasetWriter(folder / "flight", meta) as writer:
        for index in range(FRAMES):
            T = load_checkpoint(model).training_T_map_cam[0].copy()
            T[0, 3] = x[index]
            images = renderer.render(T)
            noise = generator.normal(0.0, 0.2, images.depth[0].shape).astype(np.float32)
            noise *= np.where(noise > 0, FARTHER, 1.0)
            writer.add(10**18 + index * 10**8, T, images.rgb[0], images.depth[0] + noise)
    return folder / "run", folder / "flight"


def test_it_writes_figures_tables_and_a_page(flight: tuple[Path, Path], capsys: pytest.CaptureFixture[str]):
    run, dataset = flight
    assert calibrate.main([str(run), str(dataset), "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "calibrated on held-out stretches of 1 line: 90% interval holds" in told
    assert (run / "report" / "calibration.html").stat().st_size > 1000
    figures = yaml.safe_load((run / "checkpoint" / "calibration.yaml").read_text())["figures"]
    assert figures["frames"] == FRAMES
    assert figures["coverage"][0] == pytest.approx(0.9, abs=0.03)
    renderer = Renderer(run / "checkpoint", "cpu", threads=1)
    images = renderer.render(load_checkpoint(run / "checkpoint").training_T_map_cam[5])
    known = np.isfinite(images.depth)
    assert known.mean() > 0.5
    below_m, above_m = (images.depth - images.depth_lower)[known], (images.depth_upper - images.depth)[known]
    assert np.median(below_m) == pytest.approx(1.645 * 0.2, rel=0.2), "as deep as 5 % of the noise"
    assert np.median(above_m) == pytest.approx(1.645 * 0.2 * FARTHER, rel=0.2)


def test_relative_depth_and_impossible_goals_end_in_one_line(flight: tuple[Path, Path], tmp_path: Path):
    _, dataset = flight
    relative = small_relief.write_small_relief(tmp_path / "relative", depth_kind="relative")
    with pytest.raises(UserError, match="this model's depth is relative"):
        calibrate.main([str(relative), str(dataset), "--device", "cpu"])
    with pytest.raises(UserError, match="shares between 0 and 1"):
        calibrate.main([str(relative), str(dataset), "--level", "2", "--device", "cpu"])
