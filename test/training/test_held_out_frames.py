"""Frames that judge cannot reach a training, and frames that choose cannot reach the weights but by choosing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.frame_maps import SealedFrameError
from pose2rgbd_ros.dataset.layout import write_split
from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.pictures import Evaluation, measure
from pose2rgbd_ros.training.checkpoint import as_tensors, load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig
from pose2rgbd_ros.training.data import TrainingData, mean_image, open_training_data
from pose2rgbd_ros.training.evaluators import PictureEvaluator, PoseEvaluator
from pose2rgbd_ros.training.families import family_of, train_config
from pose2rgbd_ros.training.trainer import train

# The frames of a flight of 24, by what they do; between the sets lies a frame in none of them.
ROLES = np.array(["train"] * 6 + ["choose"] * 3 + ["unused"] + ["train"] * 9 + ["unused"] + ["test"] * 4)
MODELS = ["base", "slice-4", "relief", "warp-2", "posegan", "posegan-a", "posenet"]


def config(model: str, **changes: object) -> TrainConfig:
    values: dict[str, object] = {
        "model": model, "size": 32, "epochs": 2, "validate_every": 1, "batch_size": 4, "device": "cpu",
        "tensorboard": False, "split": "dataset",
    }  # fmt: skip
    if family_of(model) == "pose2rgbd":
        values["width"] = 0.125
    return train_config(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    folder = flight_dataset(tmp_path_factory.mktemp("held_out") / "flight", frames=len(ROLES))
    write_split(folder / layout.SPLIT, Dataset(folder).stamps_ns, ROLES)
    return folder


@pytest.fixture(scope="module")
def poisoned(flight: Path) -> Callable[[str], Path]:
    """The flight with other pictures, depth and poses in the frames of one role."""

    def poison(role: str) -> Path:
        folder = flight.with_name(f"{role}_poisoned")
        if folder.exists():
            return folder
        shutil.copytree(flight, folder, ignore=shutil.ignore_patterns(layout.CACHE))
        dataset, random = Dataset(flight), np.random.default_rng(1)
        for index in np.flatnonzero(role == ROLES):
            record = dataset.records[index]
            rgb = cv2.imread(str(folder / record.rgb))
            cv2.imwrite(str(folder / record.rgb), random.integers(0, 256, rgb.shape, np.uint8))
            depth = cv2.imread(str(folder / record.depth), cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(folder / record.depth), random.integers(1, 60_000, depth.shape).astype(depth.dtype))
            file, stamp = folder / layout.GROUNDTRUTH, layout.stamp_text(record.stamp_ns)
            lines = file.read_text().splitlines()
            (line,) = (n for n, text in enumerate(lines) if text.startswith(stamp))
            lines[line] = f"{stamp} {' '.join(f'{value:.6f}' for value in random.normal(0, 50, 3))} 0.5 0.5 0.5 0.5"
            file.write_text("\n".join(lines) + "\n")
        return folder

    return poison


def weights(run: Path) -> dict[str, torch.Tensor]:
    return as_tensors(load_checkpoint(run).state_dict)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("role", "keep"), [("test", "best"), ("choose", "last")])
def test_a_training_is_the_same_whatever_the_held_out_frames_show(
    flight: Path, poisoned: Callable[[str], Path], tmp_path: Path, model: str, role: str, keep: str
) -> None:
    """Weights, normalisation, baselines and scores: nothing of a held-out frame is in them."""
    chosen = config(model, keep=keep)
    clean = train(flight, tmp_path / "clean", chosen)
    other = train(poisoned(role), tmp_path / "other", chosen)
    ours, theirs = weights(tmp_path / "clean"), weights(tmp_path / "other")
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        # unknown depth is NaN, which equals nothing
        same = torch.allclose(tensor, theirs[name], rtol=0, atol=0, equal_nan=True)
        assert same, f"{name} depends on frames that are {role!r}"
    one, two = load_checkpoint(tmp_path / "clean"), load_checkpoint(tmp_path / "other")
    assert one.normalization == two.normalization
    if role == "test":
        assert clean.scores == other.scores
        assert clean.baseline == other.baseline
    else:
        assert clean.scores != other.scores, "these frames are scored, so the poison was there"


def test_frames_that_judge_do_change_an_evaluation(
    flight: Path, poisoned: Callable[[str], Path], tmp_path: Path
) -> None:
    train(flight, tmp_path / "run", config("base"))
    (run, other) = tmp_path / "run", poisoned("test")
    assert measure(run, flight, device="cpu").scores != measure(run, other, device="cpu").scores
    assert measure(run, flight, "choose", "cpu").scores == measure(run, other, "choose", "cpu").scores


def test_a_training_cannot_open_a_held_out_frame(flight: Path) -> None:
    data = open_training_data(flight, config("posegan"))
    everything = np.arange(len(ROLES))
    for view, open_to in ((data, ("train", "choose")), (data.for_training(), ("train",))):
        for index, role in enumerate(ROLES):
            assert np.isfinite(view.T_map_cam[index]).all() == (role in open_to)
            assert torch.isfinite(view.poses[index]).all() == (role in open_to)
            for read in readers(view):
                if role in open_to:
                    read(index)
                else:
                    with pytest.raises(SealedFrameError, match=f"frame {index} is held out"):
                        read(index)
        with pytest.raises(SealedFrameError):
            view.cache.rgb[everything]
        with pytest.raises(SealedFrameError):
            np.asarray(view.cache.rgb)
        with pytest.raises(SealedFrameError):
            mean_image(view.cache, everything)


def readers(data: TrainingData) -> list[Callable[[int], object]]:
    assert data.wide is not None
    assert data.cache.depth is not None
    depth = data.cache.depth
    wide = data.wide
    return [
        lambda i: data.cache.rgb[i],
        lambda i: data.cache.rgb[i, 2:4],
        lambda i: data.cache.rgb[np.array([0, i])],
        lambda i: data.cache.rgb[i : i + 1],
        lambda i: depth[i],
        lambda i: wide.rgb[i],
        lambda i: data.batch(np.array([i])),
        lambda i: data.truth(np.array([i])),
    ]


def test_normalisation_and_baselines_are_those_of_the_training_frames(flight: Path) -> None:
    data, dataset = open_training_data(flight, config("base")), Dataset(flight)
    frames = np.flatnonzero(ROLES == "train")
    depth = np.stack([dataset.depth(i) for i in frames])
    fitted = Normalization.fit(dataset.T_map_cam[frames], depth, "quaternion")
    assert data.normalization.position_min_m == fitted.position_min_m
    assert data.normalization.position_max_m == fitted.position_max_m
    everything = np.stack([dataset.depth(i) for i in range(len(ROLES))])
    wrong = Normalization.fit(dataset.T_map_cam, everything, "quaternion")
    assert data.normalization.position_max_m != wrong.position_max_m, "else this test could not fail"
    known = np.array(data.cache.depth[frames])  # type: ignore[index]
    assert data.normalization.depth_min == np.nanmin(known)
    assert data.normalization.depth_max == np.nanmax(known)
    rgb = data.cache.rgb[frames].astype(float)
    expected = np.abs(rgb.mean(axis=0) - data.cache.rgb[np.flatnonzero(ROLES == "choose")]).mean()
    baseline = PictureEvaluator(data, torch.device("cpu")).baseline(data.split.choose)
    assert baseline["rgb_mae_px"] == pytest.approx(expected, rel=1e-4)
    mean_m = dataset.T_map_cam[frames, :3, 3].mean(axis=0)
    apart_m = np.linalg.norm(dataset.T_map_cam[data.split.choose, :3, 3] - mean_m, axis=1)
    found = PoseEvaluator(data, torch.device("cpu")).baseline(data.split.choose)
    assert found["position_median_m"] == pytest.approx(np.median(apart_m), rel=1e-3)


def test_the_sets_are_recorded_and_evaluated_apart(flight: Path, tmp_path: Path) -> None:
    train(flight, tmp_path / "run", config("base"))
    checkpoint, stamps = load_checkpoint(tmp_path / "run"), Dataset(flight).stamps_ns
    np.testing.assert_array_equal(checkpoint.training_stamps_ns, stamps[ROLES == "train"])
    np.testing.assert_array_equal(checkpoint.choosing_stamps_ns, stamps[ROLES == "choose"])
    assert checkpoint.provenance["frames"] == {"all": 24, "train": 15, "choose": 3, "judge": 4}
    assert (checkpoint.provenance["kept"], checkpoint.provenance["scored_on"]) == ("best", "choose")

    def measured(split: str) -> Evaluation:
        return measure(tmp_path / "run", flight, split, "cpu")

    judged, chosen, every = measured("checkpoint"), measured("choose"), measured("all")
    np.testing.assert_array_equal(judged.stamps_ns, stamps[ROLES == "test"])
    np.testing.assert_array_equal(chosen.stamps_ns, stamps[ROLES == "choose"])
    assert (judged.trained_on, judged.chosen_by) == (0, 0)
    assert "none of them trained on or chosen by" in judged.table()
    assert (chosen.trained_on, chosen.chosen_by) == (0, 3)
    assert (every.trained_on, every.chosen_by) == (15, 3)
    assert "15 of them trained on, 3 of them looked at to choose the weights" in every.table()
    assert chosen.scores["model"]["rgb_mae_px"] == pytest.approx(checkpoint.metrics["rgb_mae_px"], rel=1e-3)
