"""`pose2rgbd calibrate` on a small flight, end to end."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support.small_relief as small_relief
import yaml
from support.pages import read_page

from pose2rgbd_ros.cli import learn
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.splits import Split, held_out_segments
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.calibrate_depth import judge
from pose2rgbd_ros.evaluation.held_out import Units
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint, save_checkpoint

FRAMES = 24
FARTHER = 4.0  # surfaces that are farther than the model says are so many times as far off as those that are nearer


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and a recording of its place whose depth is the model's with known noise."""
    folder = tmp_path_factory.mktemp("flight")
    model = small_relief.write_small_relief(folder / "run" / "checkpoint")
    return folder / "run", write_flight(folder / "flight", model, np.zeros(FRAMES))


def write_flight(folder: Path, model: Path, off_m: np.ndarray, aside_m: np.ndarray | None = None) -> Path:
    """A dataset whose depth is the model's with known noise, and `off_m` (N,) too much of it in each frame.

    aside_m: (N,), how far beside the way that was trained.
    """
    renderer, generator = Renderer(model, "cpu", threads=1, calibrated=False), np.random.default_rng(0)
    x = np.linspace(-2.0, 2.0, len(off_m))
    meta = DatasetMeta(
        camera=renderer.camera, depth=DepthMeta(kind="metric"), map_frame="map", camera_frame="camera_optical"
    )
    with DatasetWriter(folder, meta) as writer:
        for index, off in enumerate(off_m):
            T = load_checkpoint(model).training_T_map_cam[0].copy()
            T[0, 3] = x[index]
            T[1, 3] += 0.0 if aside_m is None else aside_m[index]
            images = renderer.render(T)
            noise = generator.normal(0.0, 0.2, images.depth[0].shape).astype(np.float32)
            noise *= np.where(noise > 0, FARTHER, 1.0)
            writer.add(10**18 + index * 10**8, T, images.rgb[0], images.depth[0] + noise + np.float32(off))
    return folder


def write_trained(folder: Path, aside_m: float = 0.0, **provenance: Any) -> tuple[Path, Path, Split]:
    """A run trained on a dataset as its split says; frames that judge are nearer than the model says by 4 m, and
    aside.
    """
    model = small_relief.write_small_relief(folder / "run" / "checkpoint")
    stamps_ns = 10**18 + np.arange(80) * 10**8
    position_m = np.stack([np.linspace(-2.0, 2.0, 80), np.zeros(80), np.full(80, 10.0)], axis=-1)
    split = held_out_segments(stamps_ns, position_m, fraction=0.5)
    off_m = np.zeros(80)
    off_m[split.judge] = -4.0
    dataset = Dataset(write_flight(folder / "flight", model, off_m, np.where(off_m != 0, aside_m, 0.0)))
    trained = dataclasses.replace(
        load_checkpoint(model),
        training_stamps_ns=dataset.stamps_ns[split.train],
        training_T_map_cam=dataset.T_map_cam[split.train],
        provenance={"split": split.to_dict(), **provenance},
    )
    save_checkpoint(model, trained)
    return folder / "run", dataset.path, split


def test_what_judges_changes_no_bound_and_is_told_apart(
    tmp_path: Path, flight: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
):
    run, dataset, split = write_trained(tmp_path)
    assert learn.calibrate_main([str(run), str(dataset), "--device", "cpu"]) == 0
    calibrated, judged = (line.strip() for line in capsys.readouterr().out.splitlines()[:2])
    assert "calibrated on held-out stretches of" in calibrated
    assert judged.startswith(f"judged on {len(split.judge)} other held-out frames (")
    figures = yaml.safe_load((run / "checkpoint" / "calibration.yaml").read_text())["figures"]
    assert figures["frames"] == len(split.choose)
    assert figures["judged"]["frames"] == len(split.judge)
    assert figures["coverage"][0] == pytest.approx(0.9, abs=0.03)
    assert figures["false_safe"][0] < 0.005
    assert figures["judged"]["coverage"][0] < 0.1, "4 m off"
    assert figures["judged"]["below"][0] > 0.9
    assert figures["judged"]["false_safe"][0] > 0.9
    assert figures["judged"]["known"][0] > 0.9
    assert figures["judged"]["passed"][0] > 0.9
    renderer = Renderer(run / "checkpoint", "cpu", threads=1)
    images = renderer.render(Dataset(dataset).T_map_cam[split.choose[5]])
    assert np.nanmedian(images.depth - images.depth_lower) < 0.5, "as deep as the noise of the frames that choose"
    page = read_page(run / "report" / "calibration.html")
    assert "Judged, on frames that nothing was chosen on" in page.text
    assert f"judged on {len(split.judge)} other held-out frames" in page.text
    assert [text for chart in page.charts for text in ("share promised", "error (m)") if text in chart] == [
        "share promised",
        "error (m)",
    ]
    assert len(page.tiles) >= 7, "a frame, seven columns"
    assert page.verdict == ("bad", f"{judged}."), "4 m off"
    assert calibrated in page.text
    false_safe = next(row for row in page.tables[0] if row[0] == "false-safe")
    assert false_safe[1] == f"{figures['judged']['false_safe'][0]:.2%}"
    again = judge(run / "checkpoint", Dataset(dataset), Units(split.judge, 0 * split.judge, "lines"))
    assert again.false_safe.value == pytest.approx(figures["judged"]["false_safe"][0], abs=1e-4)


def test_what_judges_is_seen_through_the_guard(tmp_path: Path):
    """Frames 6 m beside the way: the renderer withholds their depth, so nothing of it is counted."""
    run, dataset, split = write_trained(tmp_path, aside_m=6.0)
    assert learn.calibrate_main([str(run), str(dataset), "--device", "cpu"]) == 0
    judged = yaml.safe_load((run / "checkpoint" / "calibration.yaml").read_text())["figures"]["judged"]
    assert judged["frames"] == len(split.judge)
    assert (judged["passed"][0], judged["known"][0]) == (0.0, 0.0)


def test_depth_beyond_what_was_trained_calibrates_nothing(tmp_path: Path):
    """The training took depths up to 5 m only; here all surfaces are farther."""
    run, dataset, _ = write_trained(tmp_path, config={"max_depth": 5.0})
    with pytest.raises(UserError, match="no held-out frame has a known depth"):
        learn.calibrate_main([str(run), str(dataset), "--device", "cpu"])


def test_a_model_that_is_wrong_everywhere_has_no_pose_in_its_guard(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Each frame is off by metres of its own: no bound is deep enough to be vouched for by another stretch."""
    model = small_relief.write_small_relief(tmp_path / "run" / "checkpoint")
    off_m = np.where(np.arange(FRAMES) // 3 % 2, 0.0, -7.0)
    dataset = write_flight(tmp_path / "flight", model, off_m)
    words = ["--false-safe", "0.00001", "--margin-m", "0", "--device", "cpu"]
    assert learn.calibrate_main([str(tmp_path / "run"), str(dataset), *words]) == 0
    assert "no frame vouches for depth at any pose: the guard withholds all of it" in capsys.readouterr().out
    renderer = Renderer(model, "cpu", threads=1)
    T = load_checkpoint(model).training_T_map_cam[5]
    assert np.isnan(renderer.render(T).depth).all()
    assert "no held-out frame vouches for this model's depth" in renderer.guard_score(T).reason


def test_it_writes_figures_tables_and_a_page(flight: tuple[Path, Path], capsys: pytest.CaptureFixture[str]):
    run, dataset = flight
    assert learn.calibrate_main([str(run), str(dataset), "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "calibrated on held-out stretches of 1 line: 90% interval holds" in told
    page = read_page(run / "report" / "calibration.html")
    figures = yaml.safe_load((run / "checkpoint" / "calibration.yaml").read_text())["figures"]
    assert figures["frames"] == FRAMES
    assert figures["judged"] == {"frames": 0, "units": 0, "unit": "lines"}
    assert "nothing was left to judge on" in told
    assert page.verdict == ("neutral", f"{told.splitlines()[0].strip()}.")
    assert page.tables == []
    assert "nothing was left to judge on" in page.text
    assert figures["coverage"][0] == pytest.approx(0.9, abs=0.03)
    renderer = Renderer(run / "checkpoint", "cpu", threads=1)
    usual_m = np.nanmedian(np.stack([Dataset(dataset).depth(index) for index in range(FRAMES)]))
    assert renderer.calibration.distance_m == pytest.approx(usual_m, rel=0.05), "by which turns are told in metres"
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
        learn.calibrate_main([str(relative), str(dataset), "--device", "cpu"])
    with pytest.raises(UserError, match="shares between 0 and 1"):
        learn.calibrate_main([str(relative), str(dataset), "--level", "2", "--device", "cpu"])
