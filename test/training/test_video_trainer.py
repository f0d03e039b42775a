"""The one trainer on video: a toy family really trains, stops, resumes to the bit, and is judged by what is known."""

from __future__ import annotations

import csv
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from support import toy_video

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.settings import read_yaml
from pose2rgbd_ros.training import trainer
from pose2rgbd_ros.training.checkpoint import VideoCheckpoint, load_checkpoint, load_video_checkpoint
from pose2rgbd_ros.training.config import VideoConfig
from pose2rgbd_ros.training.families import VideoModel, train_config, video_config
from pose2rgbd_ros.training.trainer import TrainResult, train
from pose2rgbd_ros.training.video import DepthScores, VideoEvaluator, image_size, open_video_data


@pytest.fixture(scope="module", autouse=True)
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with toy_video.registered(tmp_path_factory.mktemp("families")):
        yield


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("data") / "flight", frames=160)


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("data") / "colour", frames=160, depth_kind=None)


def tiny(**settings: object) -> VideoConfig:
    values = {"image_width": 32, "image_height": 32, "device": "cpu", "epochs": 3, "validate_every": 2}
    return video_config("toyvideo", **{**values, "tensorboard": False, **settings})  # type: ignore[arg-type]


def test_a_run_learns_and_its_checkpoint_knows_no_place(flight: Path, tmp_path: Path) -> None:
    result = train([flight], tmp_path / "run", tiny(epochs=4))
    assert 0 < result.scores["abs_rel"] < 1
    assert 0.1 < result.baseline["abs_rel"] < 1
    assert result.depth_unit == "(relative)"
    assert re.match(r"AbsRel 0\.\d+ \(mean depth 0\.\d+\)  a1 0\.\d+", result.description)
    checkpoint = load_video_checkpoint(tmp_path / "run")
    assert checkpoint.provenance["intrinsics"] == {"flight": "the source's calibration"}
    stored = read_yaml(tmp_path / "run" / "checkpoint" / "model.yaml")
    assert not {"normalization", "frames", "datum", "output"} & set(stored), "absent, not made up"
    assert set(load_file(tmp_path / "run" / "checkpoint" / "training_poses.safetensors")) == {
        "stamps_ns", "sequence", "choosing_stamps_ns", "choosing_sequence",
    }  # fmt: skip
    assert stored["sequences"] == ["flight"]
    assert (checkpoint.depth_kind, checkpoint.camera.width, checkpoint.camera.height) == ("relative", 32, 32)
    assert checkpoint.camera.fx == pytest.approx(45 * 32 / 48)
    model = checkpoint.build_model()
    assert isinstance(model, VideoModel)
    assert model.image_size == (32, 32)
    assert torch.equal(model.slope, load_file(tmp_path / "run" / "checkpoint" / "weights.safetensors")["slope"])
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert {"abs_rel", "a1", "variation"} <= set(rows[0])
    picture = cv2.imread(str(tmp_path / "run" / "samples" / "best.png"))
    assert picture.shape == (3 * 130, 6 * 130, 3), "images, depth, truth"
    assert np.ptp(picture.astype(int)[135:255]) > 50


def test_judged_frames_are_recognised(flight: Path, tmp_path: Path) -> None:
    train([flight], tmp_path / "run", tiny(epochs=1))
    checkpoint = load_video_checkpoint(tmp_path / "run")
    data, stamps_ns = open_video_data([flight], tiny()), Dataset(flight).stamps_ns
    used = checkpoint.looked_at("flight", stamps_ns)
    assert used[data.split.train].all()
    assert used[data.split.choose].all()
    assert not used[data.split.judge].any()
    assert len(data.split.judge) > 4
    assert not checkpoint.looked_at("elsewhere", stamps_ns).any(), "clocks of two recordings may agree"


def interrupted_run(monkeypatch: pytest.MonkeyPatch, at_step: int, *arguments: object) -> TrainResult:
    """Train, and press Ctrl-C during the given step."""
    step = trainer._Run._step

    def step_and_interrupt(run: trainer._Run, share: float) -> None:
        if run.state.step == at_step:
            signal.raise_signal(signal.SIGINT)
        step(run, share)

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Run, "_step", step_and_interrupt)
        return train(*arguments)  # type: ignore[arg-type]


def test_interrupted_and_resumed_equals_uninterrupted(
    flight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Augmentation is drawn at random, and drawn alike."""
    config = tiny(epochs=2, keep="last")
    whole = train([flight], tmp_path / "whole", config)
    assert interrupted_run(monkeypatch, 5, [flight], tmp_path / "parts", config).interrupted
    second = train([flight], tmp_path / "parts", config, resume=True)
    assert second.scores == whole.scores
    for folder, name in (("last", "state"), ("checkpoint", "weights")):
        once, twice = (load_file(tmp_path / run / folder / f"{name}.safetensors") for run in ("whole", "parts"))
        assert once.keys() == twice.keys()
        for key, tensor in once.items():
            assert torch.equal(tensor, twice[key]), f"{folder}: {key} differs"


def test_a_run_resumes_on_its_own_frames_only(flight: Path, colour: Path, tmp_path: Path) -> None:
    train([flight], tmp_path / "run", tiny(epochs=1))
    with pytest.raises(UserError, match=r"are not those .* was started with"):
        train([flight, colour], tmp_path / "run", tiny(epochs=2), resume=True)


def test_without_depth_the_photometric_error_judges(colour: Path, tmp_path: Path) -> None:
    result = train([colour], tmp_path / "run", tiny(epochs=2))
    assert result.scores["photometric"] > 0
    assert "photometric" in result.description
    assert "without motion" in result.description
    assert not result.collapsed


def test_true_motion_and_depth_explain_neighbouring_images(flight: Path) -> None:
    """What says the truth beats the baseline, and its inverse motion does not."""
    data = open_video_data([flight], tiny(image_width=48, image_height=40, stride=3))
    judge = VideoEvaluator(data, torch.device("cpu"))
    chosen = data.split.choose
    members = data.snippets.members(chosen)
    T_map_cam = torch.from_numpy(data.snippets.poses(members.ravel())).reshape(*members.shape, 4, 4).float()
    T_tgt = torch.linalg.inv(T_map_cam[:, 1:2]) @ T_map_cam
    depth = torch.from_numpy(data.depth(chosen)).nan_to_num(1e3)

    class Truth:
        def __init__(self, T: torch.Tensor) -> None:
            self.T, self.done = T, 0

        def depth(self, images: torch.Tensor) -> torch.Tensor:
            return depth[self.done : self.done + len(images)]

        def motions(self, images: torch.Tensor, K: torch.Tensor) -> torch.Tensor:
            self.done += len(images)
            return self.T[self.done - len(images) : self.done]

    judge.has_truth = False
    right, wrong = (judge._photometric(Truth(T), chosen)["photometric"] for T in (T_tgt, torch.linalg.inv(T_tgt)))
    still = judge.baseline(chosen)["photometric"]
    assert right < 0.9 * still < 0.9 * wrong


def test_scores_are_of_shape_alone() -> None:
    truth = np.random.default_rng(0).uniform(2, 50, (4, 8, 8)).astype(np.float32)
    scores, flat = DepthScores(), DepthScores()
    scores.add(7 * truth, truth)
    assert scores.result() == pytest.approx({"abs_rel": 0, "a1": 1, "variation": 1}, abs=1e-6)
    truth[0, :4] = np.nan
    flat.add(np.ones_like(truth), truth)
    assert flat.result()["variation"] == pytest.approx(0, abs=1e-9), "a collapsed network is noticed"
    expected = np.mean([np.nanmean(np.abs(np.nanmedian(t) - t) / t) for t in truth])
    assert flat.result()["abs_rel"] == pytest.approx(expected, rel=1e-5)


def test_a_loss_that_is_no_number_leaves_its_batch(flight: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not finite any more at step 4; .*bad_batch.safetensors") as found:
        train([flight], tmp_path / "run", tiny(breaks=True))
    assert "\n" not in str(found.value)
    with safe_open(tmp_path / "run" / "bad_batch.safetensors", "pt") as file:
        assert file.metadata()["step"] == "3"
        batch = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert batch["images"].shape == (4, 3, 3, 32, 32)
    stamps_ns = Dataset(flight).stamps_ns
    np.testing.assert_array_equal(stamps_ns[batch["indices"]], batch["stamps_ns"])
    data = open_video_data([flight], tiny())
    order = np.random.default_rng([0, 0]).permutation(data.split.train)  # of (seed, epoch), four images a step
    np.testing.assert_array_equal(batch["indices"], order[12:16])
    torch.testing.assert_close(data.snippets.batch(batch["indices"].numpy()).images, batch["images"])


def test_too_little_memory_is_said_with_what_takes_less(flight: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="out of memory; try --batch-size 2 in place of 4"):
        train([flight], tmp_path / "run", tiny(gigabytes=10**6))
    with pytest.raises(UserError, match="out of memory; try smaller images"):
        train([flight], tmp_path / "single", tiny(gigabytes=10**6, batch_size=1))


def test_models_of_video_and_of_places_are_not_confused(
    flight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="toyvideo learns depth, from video: pose2rgbd depth train toyvideo"):
        train_config("toyvideo")
    with pytest.raises(UserError, match=r"relief learns a place, from poses: pose2rgbd train relief; here: .*toyvideo"):
        video_config("relief")
    assert main(["train", "toyvideo", str(flight)]) == 2
    assert main(["depth", "train", "relief", str(flight)]) == 2
    assert main(["train"]) == 2
    assert "toyvideo" not in capsys.readouterr().err.split("which model?")[-1]
    train([flight], tmp_path / "run", tiny(epochs=1))
    for use in (load_checkpoint, Renderer):
        with pytest.raises(UserError, match="knows depth from video, and no place: `pose2rgbd depth infer"):
            use(tmp_path / "run")
    assert isinstance(load_video_checkpoint(tmp_path / "run"), VideoCheckpoint)


def test_the_command_trains_and_says_what_came_out(
    flight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    options = "--image-width 32 --image-height 32 --epochs 2 --device cpu --no-tensorboard".split()
    assert main(["depth", "train", "toyvideo", str(flight), "--out", str(run), *options]) in (0, 1)
    said = capsys.readouterr().out
    assert "held-out frames that may choose the weights: AbsRel" in said
    assert f"pose2rgbd depth evaluate {run} {flight}" in said
    assert read_yaml(run / "config.yaml")["sources"] == [str(flight)]
    assert main(["depth", "train", "toyvideo", str(flight), "--out", str(run), *options]) == 2
    assert "--resume" in capsys.readouterr().err
    assert main(["depth", "train", "toyvideo", str(flight), "--out", str(run), *options, "--resume"]) in (0, 1)
    assert main(["depth", "train", "toyvideo", str(tmp_path / "nowhere"), "--out", str(tmp_path / "other")]) == 2


def test_the_size_keeps_the_cameras_shape(flight: Path) -> None:
    camera = Dataset(flight).camera.resized(1242, 375)
    assert image_size(camera, tiny(image_width=416, image_height=None)) == (128, 416)
    assert image_size(camera, tiny(image_width=100, image_height=20)) == (20, 100)
    assert image_size(camera, tiny(image_width=64, image_height=None)) == (32, 64)
    with pytest.raises(UserError, match="2 images or an odd number"):
        tiny(frames=4)
