"""Evaluations of a tiny trained model: the figures, the files, the splits, and what cannot be evaluated."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from support.pages import read_page

from pose2rgbd_ros.cli import learn as evaluate_command
from pose2rgbd_ros.cli import learn as train_command
from pose2rgbd_ros.dataset.reader import Dataset, frame_cache
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.held_out import choose_frames
from pose2rgbd_ros.evaluation.picture_report import evaluate
from pose2rgbd_ros.evaluation.pictures import Baselines, NearestFrame, Recorded, scene_distance_m, worst_frames
from pose2rgbd_ros.evaluation.sheets import turn_labels_inward
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.settings import read_yaml
from pose2rgbd_ros.training.checkpoint import load_checkpoint, save_checkpoint
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import train


@dataclass
class Trained:
    dataset: Path
    run: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    dataset = flight_dataset(folder / "flight", frames=80)  # held out at random: 8 choose and 8 judge
    config = train_config(
        model="slice-4", size=32, width=0.125, device="cpu", epochs=30, batch_size=4, split="random", tensorboard=False
    )
    train(dataset, folder / "run", config)
    return Trained(dataset, folder / "run")


def test_the_report_says_what_the_training_said(trained: Trained, tmp_path: Path) -> None:
    recorded = load_checkpoint(trained.run).metrics
    chose = evaluate(trained.run, trained.dataset, tmp_path / "chose", split="choose", device="cpu")
    for name, value in chose.scores["model"].items():
        assert value == pytest.approx(recorded[name], abs=1e-3)
    result = evaluate(trained.run, trained.dataset, tmp_path / "report", device="cpu")
    assert not set(result.stamps_ns) & set(chose.stamps_ns)
    assert result.split == "random"
    assert result.trained_on == 0
    assert len(result.stamps_ns) == 8
    written = read_yaml(tmp_path / "report" / "metrics.yaml")
    assert set(written["scores"]) == {"model", "mean_image", "nearest_frame"}
    assert written["collapsed"] is False
    better = written["better_than_mean_image"]
    mean, model = written["scores"]["mean_image"], written["scores"]["model"]
    assert better["rgb_mae_px"] == pytest.approx(1 - model["rgb_mae_px"] / mean["rgb_mae_px"], abs=1e-3)
    assert better["rgb_mae_px"] > 0.1
    table = (tmp_path / "report" / "table.md").read_text()
    assert f"| this model | {model['rgb_mae_px']:.2f} |" in table
    assert "8 frames of flight" in table
    assert "none of them trained on" in table
    dataset = Dataset(trained.dataset)
    inside = [
        np.isin(dataset.stamps_ns, stamps)
        for stamps in (load_checkpoint(trained.run).training_stamps_ns, result.stamps_ns)
    ]
    trained_m, judged_m = (dataset.T_map_cam[each, :3, 3] for each in inside)
    apart_m = np.linalg.norm(judged_m[:, None] - trained_m, axis=2).min(axis=1)
    assert result.from_training is not None
    assert 0 < np.median(apart_m) <= result.from_training[0] < 3 * np.median(apart_m)
    assert f"the nearest training frame is {result.from_training[0]:.2g} m and" in table


def test_the_pictures_are_readable(trained: Trained, tmp_path: Path) -> None:
    evaluate(trained.run, trained.dataset, tmp_path, device="cpu")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape[1] > sheet.shape[0] > 300, "six frames, seven columns"
    page = read_page(tmp_path / "index.html")
    failures = cv2.imread(str(tmp_path / "failures.png"))
    assert failures.shape[1] == sheet.shape[1]
    assert len(page.tiles) == 7 * (6 + 4), "six frames and the four worst, seven columns"
    for words in ("colour error (of 255)", "depth error (m)", "distance from the nearest training frame (m)"):
        assert sum(words in letters for letters in page.charts) >= 2, words


def test_the_page_tells_what_the_table_tells_and_what_the_model_is(trained: Trained, tmp_path: Path) -> None:
    result = evaluate(trained.run, trained.dataset, tmp_path, device="cpu")
    page, checkpoint = read_page(tmp_path / "index.html"), load_checkpoint(trained.run)
    assert page.title == "slice-4 rgbd 32 px on flight"
    assert page.verdict == ("good", f"{result.verdict()}.")
    written = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (tmp_path / "table.md").read_text().splitlines()
        if line.startswith("| ")
    ]
    assert page.tables[0] == written
    assert page.styles[0] == ["", "strong", "", ""]
    for fact in (
        f"Measured on {result.measured_on()}.", "trained on flight: 64 of 80 frames", checkpoint.weights_sha256[:16],
        f"{checkpoint.provenance['images']} images in {checkpoint.provenance['seconds']} s on cpu", "slices 4",
        f"fx {checkpoint.camera.fx:.1f}", f"{checkpoint.map_frame} / {checkpoint.camera_frame}",
    ):  # fmt: skip
        assert fact in page.text


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)> & \"'", "$x^{$ {{ 7*7 }} %41 #?|"])
def test_a_dataset_may_have_any_name(trained: Trained, tmp_path: Path, name: str) -> None:
    shutil.copytree(trained.dataset, tmp_path / name)
    evaluate(trained.run, tmp_path / name, tmp_path / "report", device="cpu")
    page = read_page(tmp_path / "report" / "index.html")
    assert page.title == f"slice-4 rgbd 32 px on {name}"
    assert f"8 frames of {name}: " in page.text


def test_baselines_by_hand(trained: Trained, tmp_path: Path) -> None:
    result = evaluate(trained.run, trained.dataset, tmp_path, device="cpu")
    dataset, checkpoint = Dataset(trained.dataset), load_checkpoint(trained.run)
    cache = frame_cache(dataset, 32)
    is_train = np.isin(dataset.stamps_ns, checkpoint.training_stamps_ns)
    test = np.isin(dataset.stamps_ns, result.stamps_ns)
    assert not (is_train & test).any()
    mean = cache.rgb[is_train].astype(float).mean(axis=0)
    expected = np.abs(cache.rgb[test] - mean).mean()
    assert result.scores["mean_image"]["rgb_mae_px"] == pytest.approx(expected, rel=1e-4)
    assert cache.depth is not None
    with np.errstate(invalid="ignore"):
        mean_depth = np.nanmean(cache.depth[is_train], axis=0)
    each = [np.nanmean(np.abs(depth - mean_depth)) for depth in cache.depth[test]]
    assert result.scores["mean_image"]["depth_mae"] == pytest.approx(np.mean(each), rel=1e-4)
    # On an orbit the nearest view is a neighbour in time.
    order = np.flatnonzero(is_train)
    for index, error in zip(np.flatnonzero(test), result.per_frame["nearest_frame"]["rgb_mae_px"], strict=True):
        near = order[np.argsort(np.abs(order - index))[:2]]
        errors = np.abs(cache.rgb[near].astype(float) - cache.rgb[index]).mean(axis=(1, 2, 3))
        assert any(abs(error - candidate) < 0.01 for candidate in errors)


@pytest.mark.parametrize("other", [{"output": "rgb"}, {"size": 64}, {"max_depth": 20.0}, {"model": "warp-2"}])
def test_the_baselines_are_the_same_whatever_model_stands_beside_them(
    trained: Trained, tmp_path: Path, other: dict[str, Any]
) -> None:
    values = {
        "model": "base", "size": 32, "width": 0.125, "device": "cpu", "epochs": 1, "split": "random",
        "tensorboard": False,
    }  # fmt: skip
    if "model" in other:
        del values["width"]
    train(trained.dataset, tmp_path / "run", train_config(**{**values, **other}))
    recorded: list[list[int]] = []
    for run in (trained.run, tmp_path / "run"):
        checkpoint, dataset = load_checkpoint(run), Dataset(trained.dataset)
        chosen = choose_frames(checkpoint, dataset, "checkpoint")
        cache = frame_cache(dataset, checkpoint.camera.width)
        baselines = Baselines(Recorded(dataset, cache, True, True, None), chosen.train)
        recorded.append(baselines.nearest(dataset.T_map_cam[chosen.test]).tolist())
    assert recorded[0] == recorded[1]


def test_things_are_as_far_as_the_median_depth_of_training_frames(
    flight_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    metric, without = (
        Dataset(flight_dataset(tmp_path / str(kind), frames=8, depth_kind=kind)) for kind in ("metric", None)
    )
    train_frames = np.array([0, 2, 3])
    depth = np.concatenate([metric.depth(i).ravel() for i in train_frames])
    assert scene_distance_m(metric, train_frames) == pytest.approx(np.nanmedian(depth), rel=0.05)
    position_m = without.T_map_cam[train_frames, :3, 3]
    assert scene_distance_m(without, train_frames) == pytest.approx(np.linalg.norm(np.ptp(position_m, axis=0)))


def test_the_nearest_frame_is_that_of_least_shift_in_the_picture() -> None:
    """Against a brute force in radians: distance over the scene's distance, and the angle between the views."""
    random = np.random.default_rng(0)
    T = np.stack([se3.make(p, q / np.linalg.norm(q)) for p, q in zip(
        random.normal(0, 1, (60, 3)), random.normal([0, 0, 0, 1], 0.1, (60, 4)), strict=True
    )])  # fmt: skip
    there = T[40:]
    moved_m, turned_rad = (np.stack(both) for both in zip(
        *(se3.apart(T[:40], np.repeat(one[None], 40, axis=0)) for one in there), strict=True
    ))  # fmt: skip
    cost = np.hypot(moved_m / 4.0, turned_rad)
    np.testing.assert_array_equal(NearestFrame(T[:40], scene_distance_m=4.0)(there), cost.argmin(axis=1))


def test_nearest_frame_weighs_turning_against_moving() -> None:
    turn = [0, 0, np.sin(0.1), np.cos(0.1)]  # 0.2 rad
    T = np.stack([se3.make([1.0, 0, 0], [0, 0, 0, 1]), se3.make([0, 0, 0], turn), se3.make([50.0, 0, 0], turn)])
    here = se3.make([0, 0, 0], [0, 0, 0, -1])[None]  # the same rotation with the other sign
    assert NearestFrame(T, scene_distance_m=50.0)(here).tolist() == [0], "1 m of 50 m shifts less than 0.2 rad"
    assert NearestFrame(T, scene_distance_m=2.0)(here).tolist() == [1]


@pytest.mark.parametrize(("split", "frames"), [("all", 80), ("random", 8), ("segments", 15)])
def test_other_splits_say_what_was_trained_on(trained: Trained, tmp_path: Path, split: str, frames: int) -> None:
    result = evaluate(trained.run, trained.dataset, tmp_path, split=split, device="cpu")
    assert len(result.stamps_ns) == frames
    stamps = load_checkpoint(trained.run).training_stamps_ns
    assert result.trained_on == np.isin(result.stamps_ns, stamps).sum()
    if result.trained_on:
        assert f"{result.trained_on} of them trained on" in result.table()


def test_another_recording_has_the_baselines_of_the_training(
    trained: Trained, tmp_path: Path, flight_dataset: Callable[..., Path]
) -> None:
    other = flight_dataset(tmp_path / "other", frames=7)
    for name in ("associations.txt", "groundtruth.txt"):  # the same places a day later
        text = (other / name).read_text()
        (other / name).write_text("\n".join(shift_stamps(line) for line in text.splitlines()) + "\n")
    result = evaluate(trained.run, other, tmp_path / "report", device="cpu")
    assert set(result.scores) == {"model"}
    assert len(result.stamps_ns) == 7
    assert "another recording" in result.table()
    assert np.isnan(result.error_share())
    told = evaluate(trained.run, other, tmp_path / "told", device="cpu", training_dataset=trained.dataset)
    assert told.scores["model"] == pytest.approx(result.scores["model"])
    source, stamps = Dataset(trained.dataset), load_checkpoint(trained.run).training_stamps_ns
    mean = frame_cache(source, 32).rgb[np.isin(source.stamps_ns, stamps)].astype(float).mean(axis=0)
    expected = np.abs(frame_cache(Dataset(other), 32).rgb - mean).mean()
    assert told.scores["mean_image"]["rgb_mae_px"] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(UserError, match="holds none of the frames that the model was trained on"):
        evaluate(trained.run, other, tmp_path / "told", device="cpu", training_dataset=other)


def test_parts_of_the_frames_are_scored_apart(trained: Trained, tmp_path: Path) -> None:
    result = evaluate(trained.run, trained.dataset, tmp_path, split="lines+random", device="cpu")
    written = read_yaml(tmp_path / "metrics.yaml")["group_scores"]
    assert set(written) == {"random", "held-out lines"}
    for group, inside in result.groups.items():
        expected = result.per_frame["model"]["rgb_mae_px"][inside].mean()
        assert written[group]["model"]["rgb_mae_px"] == pytest.approx(expected, abs=1e-4)
        assert f"{group}, {inside.sum()} frames:" in (tmp_path / "table.md").read_text()
        assert f" {group}, {inside.sum()} frames " in read_page(tmp_path / "index.html").text


def test_a_size_that_the_network_cannot_make(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pictures of 32 px only"):
        evaluate(trained.run, trained.dataset, tmp_path, device="cpu", size=64)


def test_the_worst_frames_are_no_neighbours() -> None:
    error = np.ones(100)
    error[[40, 41, 42, 80]] = [9.0, 10.0, 8.0, 5.0]
    depth = np.full(100, np.nan)
    depth[7] = 2.0
    assert worst_frames({"rgb_mae_px": error, "depth_mae": depth, "ssim": -error}, 2).tolist() == [41, 80]
    assert worst_frames({"ssim": error}, 2).tolist() == []


def test_answering_less_makes_no_error_smaller(trained: Trained, tmp_path: Path) -> None:
    result = evaluate(trained.run, trained.dataset, tmp_path, device="cpu")
    whole = result.error_share()
    assert whole == pytest.approx(1 - np.mean(list(result.better_than_mean_image().values())), abs=1e-6)
    result.scores["model"] |= {"depth_known": 0.5, "depth_mae": 0.0}
    rgb = 1 - result.better_than_mean_image()["rgb_mae_px"]
    assert result.error_share() == pytest.approx((rgb + 0.5) / 2)


def shift_stamps(line: str) -> str:
    """A line of a dataset's lists with its stamps a day later; the files keep their names."""
    if line.startswith("#") or not line:
        return line
    words = line.split()
    return " ".join(
        f"{int(word.split('.')[0]) + 86400}.{word.split('.')[1]}" if is_stamp(word) else word for word in words
    )


def is_stamp(word: str) -> bool:
    head, _, tail = word.partition(".")
    return head.isdigit() and tail.isdigit() and len(tail) == 9


def test_relative_depth_is_not_called_metres(
    tmp_path: Path, flight_dataset: Callable[..., Path], trained: Trained
) -> None:
    relative = flight_dataset(tmp_path / "relative", frames=12, depth_kind="relative")
    config = train_config("base", size=32, width=0.125, device="cpu", epochs=2, tensorboard=False)
    train(relative, tmp_path / "run", config)
    result = evaluate(tmp_path / "run", relative, tmp_path / "report", device="cpu")
    assert "depth MAE (relative)" in result.table()
    assert "(m)" not in result.table()
    mixed = evaluate(trained.run, relative, tmp_path / "mixed", split="all", device="cpu")
    assert "depth_mae" not in mixed.scores["model"]
    assert "depth is not compared" in mixed.table()


def test_a_depth_model_needs_its_kind_of_depth(
    tmp_path: Path, flight_dataset: Callable[..., Path], trained: Trained
) -> None:
    config = train_config("base", size=32, width=0.125, device="cpu", epochs=2, tensorboard=False, output="depth")
    train(trained.dataset, tmp_path / "run", config)
    for kind in (None, "relative"):
        other = flight_dataset(tmp_path / f"{kind}", frames=7, depth_kind=kind)
        with pytest.raises(UserError, match="has no metric depth, all this model predicts"):
            evaluate(tmp_path / "run", other, tmp_path / "report", split="all", device="cpu")


def test_labels_of_neighbouring_colour_bars_do_not_touch(tmp_path: Path) -> None:
    figure = Figure(figsize=(2.0, 1.0))
    FigureCanvasAgg(figure)
    bars = [figure.add_axes((left, 0.5, 0.48, 0.1)) for left in (0.01, 0.51)]
    for bar in bars:
        bar.set_xlim(0.0, 200.0)
        turn_labels_inward(bar)
    figure.draw_without_rendering()
    for bar in bars:
        frame = bar.get_window_extent()
        for label in bar.get_xticklabels():
            extent = label.get_window_extent()
            assert frame.x0 - 1 <= extent.x0
            assert extent.x1 <= frame.x1 + 1
        assert bar.get_xlim() == (0.0, 200.0)


def test_a_collapsed_model_is_shouted_about(trained: Trained, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(trained.run)
    checkpoint.state_dict["dense.weight"] = np.zeros_like(checkpoint.state_dict["dense.weight"])
    save_checkpoint(tmp_path / "collapsed", checkpoint)
    result = evaluate(tmp_path / "collapsed", trained.dataset, tmp_path / "report", device="cpu")
    assert result.collapsed
    assert "COLLAPSED" in result.table()
    mood, verdict = read_page(tmp_path / "report" / "index.html").verdict
    assert mood == "bad"
    assert "COLLAPSED" in verdict
    assert read_yaml(tmp_path / "report" / "metrics.yaml")["collapsed"] is True


def test_bad_input_is_named(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint at"):
        evaluate(tmp_path / "none", trained.dataset, tmp_path / "report")
    with pytest.raises(UserError, match="split is 'test'; choose one of"):
        evaluate(trained.run, trained.dataset, tmp_path / "report", split="test")
    with pytest.raises(UserError):
        evaluate(trained.run, tmp_path, tmp_path / "report")


def test_the_commands(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = tmp_path / "flight"
    shutil.copytree(trained.dataset, dataset)
    run = ["--out", str(tmp_path / "run"), "--size", "32", "--width", "0.125", "--device", "cpu", "--no-tensorboard"]
    status = train_command.train_main(["base", str(dataset), *run, "--epochs", "3"])
    told = capsys.readouterr().out
    assert status in (0, 1), "1: so short a training may well have collapsed"
    assert "held-out frames that may choose the weights: RGB" in told
    assert evaluate_command.evaluate_main([str(tmp_path / "run"), str(dataset), "--video-s", "1"]) == 0
    told = capsys.readouterr().out
    assert "| nearest training frame |" in told
    assert (tmp_path / "run" / "report" / "index.html").exists()
    with pytest.raises(UserError, match="not empty"):
        train_command.train_main(["base", str(dataset), *run])
