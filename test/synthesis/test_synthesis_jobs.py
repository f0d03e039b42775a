"""Virtual routes, more frames, and views without movers, from the command line to the pictures and scores."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import sim_datasets
from support.small_relief import write_small_relief

from pose2rgbd_ros.cli import synthesize
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.dataset import write_sim_dataset
from pose2rgbd_ros.synthesis import common
from pose2rgbd_ros.synthesis.common import NearestOther, Recording, true_views
from pose2rgbd_ros.synthesis.interpolate import WAYS, hold, interpolate, left_out
from pose2rgbd_ros.synthesis.movers import mover_mask, remove_movers, rings
from pose2rgbd_ros.synthesis.route import TRUTH, synthesize_routes
from pose2rgbd_ros.synthesis.settings import InterpolateConfig, MoversConfig, RouteConfig


@pytest.fixture(scope="module")
def relief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_relief(tmp_path_factory.mktemp("synthesis") / "relief")


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("synthesis") / "flight", frames=10)


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A simulated flight over traffic, with its mover-free twin."""
    with pytest.MonkeyPatch.context() as patch:
        sim_datasets.share_world(patch)
        path = tmp_path_factory.mktemp("synthesis") / "busy"
        write_sim_dataset(path, sim_datasets.BUSY)
        yield path


def pictures_in(video: Path) -> list[np.ndarray]:
    with av.open(str(video)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_route_from_the_command_line(
    relief: Path, flight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["route", str(relief), "--dataset", str(flight), "--out", str(tmp_path), "--steps", "6", "--columns", "3"]
    assert synthesize.main([*given, "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "| linear | relief | – |" in shown
    assert (tmp_path / "table.md").read_text() in shown
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[1] > 300
    for name in ("linear", "parabola"):
        assert len(pictures_in(tmp_path / f"route_{name}.mp4")) == 6


def test_truth_is_the_simulators_world_without_its_movers(
    relief: Path, busy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "City", sim_datasets.city_of)  # built once, not twice
    dataset = Dataset(busy)
    twin = Dataset(busy / "mover_free")
    views = true_views(dataset, dataset.T_map_cam[:2], dataset.camera)
    for index in range(2):  # but for the JPEG's loss
        assert np.abs(views[index].astype(int) - twin.rgb(index)).mean() < 3.0
    config = RouteConfig(steps=3, columns=2, truth=True, device="cpu")
    scores = synthesize_routes([relief], busy, tmp_path, config)
    assert {score.source for score in scores} == {"relief", "nearest frame"}
    assert TRUTH not in {score.source for score in scores}
    assert all(1.0 < score.rgb_mae_px < 255.0 for score in scores)


def test_no_truth_without_the_simulator(relief: Path, flight: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave out --truth"):
        synthesize_routes([relief], flight, tmp_path, RouteConfig(steps=3, truth=True, device="cpu"))
    with pytest.raises(UserError, match="frames 0 to 9"):
        synthesize_routes([relief], flight, tmp_path, RouteConfig(start=10, device="cpu"))


def test_interpolation_scores_left_out_frames_and_films_the_rest(relief: Path, flight: Path, tmp_path: Path) -> None:
    config = InterpolateConfig(times=4, start=2, frames=3, columns=3, leave_out=2, device="cpu")
    scores = {score.source: score for score in interpolate([relief], flight, tmp_path, config)}
    assert set(scores) == {"relief", "relief, at its recorded pose", *WAYS}
    dataset, recording = Dataset(flight), Recording(Dataset(flight), Camera.from_fov(32, 32, 60.0))
    # Of every second frame; the checkpoint says that it was trained on frames of every 0.1 s up to 1.1 s.
    pairs = [(gap.before, gap.target) for gap in left_out(dataset, config) if gap.target in (5, 7)]
    assert len(pairs) == scores["hold"].frames == 2
    expected = np.mean([np.abs(recording.rgb(a).astype(float) - recording.rgb(b)).mean() for a, b in pairs])
    assert scores["hold"].rgb_mae_px == pytest.approx(expected, abs=0.01)
    assert len(pictures_in(tmp_path / "interpolated.mp4")) == 8


def test_frames_that_were_trained_on_are_not_scored(relief: Path, flight: Path, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    shutil.copytree(relief, trained)
    poses = load_file(trained / "training_poses.safetensors")
    poses["stamps_ns"] = torch.from_numpy(Dataset(flight).stamps_ns)
    poses["T_map_cam"] = torch.from_numpy(Dataset(flight).T_map_cam)
    save_file(poses, trained / "training_poses.safetensors")
    with pytest.raises(UserError, match="trained or chose one of the models"):
        interpolate([trained], flight, tmp_path / "out", InterpolateConfig(leave_out=2, device="cpu"))


def test_optical_flow_moves_what_moved() -> None:
    rng = np.random.default_rng(0)
    wide = cv2.GaussianBlur(rng.integers(0, 256, (96, 120, 3), dtype=np.uint8), (0, 0), 3)
    wide = cv2.normalize(wide, None, 0, 255, cv2.NORM_MINMAX)
    before, middle, after = (wide[:, x : x + 96] for x in (0, 4, 8))
    inner = (slice(16, 80), slice(16, 80))
    wrong = {
        name: np.abs(way(before, after, 0.5)[inner].astype(int) - middle[inner]).mean() for name, way in WAYS.items()
    }
    assert wrong["optical flow"] < 0.25 * wrong["cross-fade"]
    np.testing.assert_array_equal(hold(before, after, 0.9), before)


def test_movers_are_found_where_the_twin_differs(relief: Path, busy: Path, tmp_path: Path) -> None:
    config = MoversConfig(columns=2, most=6, device="cpu")
    scores = remove_movers([relief], busy, tmp_path, config)
    recorded = next(score for score in scores if score.source == "recording")
    # A recording is wrong exactly where something moves, and all of it is still there.
    assert recorded.inside > config.threshold / 3
    assert recorded.outside < 3.0
    assert recorded.gone == 0.0
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None


def test_the_twin_as_a_recording_of_itself_has_no_movers(relief: Path, busy: Path, tmp_path: Path) -> None:
    twin = busy / "mover_free"
    with pytest.raises(UserError, match="nothing moves"):
        remove_movers([relief], twin, tmp_path, MoversConfig(twin=twin, device="cpu"))
    with pytest.raises(UserError, match="--twin"):
        remove_movers([relief], twin, tmp_path, MoversConfig(device="cpu"))


def test_another_flight_is_no_twin(relief: Path, busy: Path, flight: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stamps, poses or camera differ"):
        remove_movers([relief], busy, tmp_path, MoversConfig(twin=flight, device="cpu"))


def test_rings_go_around_movers() -> None:
    still = np.full((40, 40, 3), 90, np.uint8)
    recorded = still.copy()
    recorded[10:14, 20:26] = 200
    recorded[30, 30] = 200  # a single pixel gets none
    mask = mover_mask(recorded, still, 24)
    assert mask.sum() == 25
    ((x, y, radius),) = rings(mask)
    assert (x, y) == pytest.approx((22.5, 11.5), abs=0.2)
    assert 4.0 < radius < 6.5


def test_the_nearest_other_frame(flight: Path) -> None:
    dataset = Dataset(flight)
    every = np.arange(len(dataset))
    nearest = NearestOther(dataset, every)
    np.testing.assert_array_equal(nearest(dataset.T_map_cam), every)
    other = nearest(dataset.T_map_cam, without=every)
    np.testing.assert_array_equal(np.abs(other - every), 1)
