"""How TrianFlow and its baselines learn: stages, what each of them moves, and short trainings."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support.seen_twice import pairs

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.trianflow.config import DepthWeights, FlowLoss, Losses, Settings
from pose2rgbd_ros.models.trianflow.flow_network import FlowNetwork
from pose2rgbd_ros.models.trianflow.learner import PairLearner, make
from pose2rgbd_ros.models.trianflow.losses import flow_loss
from pose2rgbd_ros.models.trianflow.network import PairOutputs
from pose2rgbd_ros.settings import read_yaml
from pose2rgbd_ros.training.checkpoint import load_video_checkpoint
from pose2rgbd_ros.training.config import resolve_recipe
from pose2rgbd_ros.training.families import VideoModel, video_config
from pose2rgbd_ros.training.video import VideoData, open_video_data

SMALL = {"image_width": 64, "image_height": 48, "width": 0.1, "device": "cpu", "tensorboard": False, "batch_size": 4}


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("data") / "flight", frames=100)


@pytest.fixture(scope="module")
def video(flight: Path) -> VideoData:
    return open_video_data([flight], video_config("trianflow", **SMALL))


def learner_of(video: VideoData, model: str, **settings: object) -> PairLearner:
    config = video_config(model, **{**SMALL, **settings})
    assert isinstance(config, Settings)
    torch.manual_seed(0)
    return make(config, resolve_recipe(config), video.for_training(), torch.device("cpu"))


def moved(learner: PairLearner, video: VideoData, stage: str) -> set[str]:
    """The parts of the network that a step of a stage gives gradients."""
    shares, start = learner._chosen.shares, 0.0
    for name, part in shares.items():
        if name == stage:
            break
        start += part
    for loss in learner.losses(learner.model, video.split.train[:4], start + 0.5 * part):
        loss.backward()
    assert learner.stage == stage
    return {
        name
        for name, child in learner.model.named_children()
        if any(parameter.grad is not None and parameter.grad.any() for parameter in child.parameters())
    }


@pytest.mark.parametrize(
    ("model", "stage", "settings", "parts"),
    [
        ("trianflow", "flow", {}, {"flow"}),
        ("trianflow", "depth", {}, {"depth_network"}),
        ("trianflow", "joint", {"joint_share": 0.2}, {"flow", "depth_network"}),
        ("trianflow", "joint", {"recipe": "kitti-raw"}, {"flow"}),
        ("trianflow", "depth", {"stage": "depth"}, {"depth_network"}),
        ("posenet-video", "depth", {}, {"depth_network", "pose_network"}),
        ("posenet-flow", "flow", {}, {"flow"}),
        ("posenet-flow", "depth", {}, {"depth_network", "pose_network"}),
    ],
)
def test_a_stage_moves_its_networks_and_no_others(
    video: VideoData, model: str, stage: str, settings: dict[str, object], parts: set[str]
) -> None:
    """The authors' weights of the joint stage on KITTI are zero wherever depth would learn."""
    learner = learner_of(video, model, **settings)
    assert moved(learner, video, stage) == parts


def test_the_stages_share_a_run() -> None:
    config = video_config("trianflow")
    assert isinstance(config, Settings)
    assert config.shares == pytest.approx({"flow": 0.6, "depth": 0.4})
    paper = video_config("trianflow", recipe="kitti-raw")
    assert list(paper.shares.values()) == pytest.approx([1 / 3] * 3)  # type: ignore[attr-defined]
    assert list(video_config("trianflow", recipe="nyu", joint_share=0.0).shares) == ["flow", "depth"]  # type: ignore[attr-defined]
    given = video_config("trianflow", flow_share=0.5, joint_share=0.1)
    assert given.shares == pytest.approx({"flow": 0.5, "depth": 0.4, "joint": 0.1})  # type: ignore[attr-defined]
    assert video_config("trianflow", stage="depth").shares == {"depth": 1.0}  # type: ignore[attr-defined]
    assert list(video_config("posenet-flow").shares) == ["flow", "depth"]  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="leave nothing of the run for depth"):
        video_config("trianflow", flow_share=0.7, joint_share=0.5)
    with pytest.raises(UserError, match="posenet-video has no stage flow; its stages: depth"):
        video_config("posenet-video", stage="flow")


def test_each_stage_has_the_schedule_to_itself(video: VideoData) -> None:
    learner = learner_of(video, "trianflow", flow_share=0.5, joint_share=0.25)
    found = [
        (learner.stage_at(share)[0], round(learner.schedule_share(share), 3)) for share in (0, 0.25, 0.5, 0.7, 0.75, 1)
    ]
    assert found == [("flow", 0), ("flow", 0.5), ("depth", 0), ("depth", 0.8), ("joint", 0.8), ("joint", 1)]
    assert learner_of(video, "trianflow", recipe="nyu", joint_share=0.25).schedule_share(0.75) == pytest.approx(0)


def test_depth_has_a_rate_of_its_own(video: VideoData) -> None:
    for model, settings, factors in (
        ("trianflow", {}, {1.0, 0.2}), ("posenet-video", {"depth_rate": 0.5}, {1.0, 0.5}),
        ("trianflow", {"recipe": "nyu"}, {1.0}),
    ):  # fmt: skip
        learner = learner_of(video, model, **settings)
        groups = learner.parameter_groups(resolve_recipe(learner._chosen))
        assert {group["factor"] for group in groups} == factors
        assert sum(len(group["params"]) for group in groups) == len(list(learner.parameters()))
        depth = set(learner.model.depth_network.parameters())
        assert set(groups[1]["params"]) == depth


def test_recipes_are_the_authors() -> None:
    raw, nyu = (video_config("trianflow", recipe=name) for name in ("kitti-raw", "nyu"))
    assert isinstance(raw, Settings)
    assert isinstance(nyu, Settings)
    assert vars(raw.filled.depth) == {
        "geometric": 1.0, "triangulation": 1.0, "reprojection": 0.1, "rigid_flow": 0.0, "smoothness": 0.001,
    }  # fmt: skip
    assert vars(nyu.filled.joint) == {
        "geometric": 0.1, "triangulation": 0.1, "reprojection": 0.01, "rigid_flow": 0.01, "smoothness": 0.0001,
    }  # fmt: skip
    assert (nyu.filled.two_views.estimator, nyu.filled.two_views.rigid_px) == ("lmeds", 1.0)
    assert (raw.filled.two_views.estimator, raw.filled.two_views.matches) == ("ransac", 6000)
    assert not raw.is_centred
    assert resolve_recipe(raw).learning_rate == 1e-4
    assert resolve_recipe(raw).steps == 600_000, "200,000 a stage"
    given = video_config("trianflow", recipe="nyu", trianflow=Losses(joint=DepthWeights(smoothness=0.5)))
    written = given.resolved()["trianflow"]
    assert (written["joint"]["smoothness"], written["joint"]["triangulation"]) == (0.5, 0.1), "what was used"
    assert written["flow"]["ssim"] == 0.85
    assert [config.filled.flow.masks_from for config in (raw, video_config("trianflow"))] == [0.0, 0.4]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def run(flight: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all stages, four epochs of them each."""
    out = tmp_path_factory.mktemp("runs") / "trianflow"
    options = "--image-width 64 --image-height 48 --width 0.1 --device cpu --no-tensorboard --validate-every 1".split()
    shares = "--no-stop-collapsed --flow-share 0.5 --joint-share 0.25 --epochs 8 --batch-size 24 --matches 200".split()
    shares[-2] = "--two-views.matches"
    assert main(["depth", "train", "trianflow", str(flight), "--out", str(out), *options, *shares]) in (0, 1)
    return out


def test_one_command_goes_through_all_stages(run: Path) -> None:
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    known = {name: [row[name] != "nan" for row in rows] for name in rows[0]}
    assert known["flow_photometric"] == [True] * 8
    assert known["abs_rel"] == known["loss_triangulation"] == [False] * 4 + [True] * 4
    assert known["loss_flow"] == [True] * 4 + [False] * 2 + [True] * 2
    kept = read_yaml(run / "checkpoint" / "model.yaml")
    assert "abs_rel" in kept["metrics"], "what is kept knows depth"
    assert kept["architecture"]["network"] == "trianflow"
    assert kept["provenance"]["config"]["trianflow"]["depth"]["triangulation"] == 1.0


def test_masks_are_drawn_beside_depth(run: Path) -> None:
    depth, masks = (cv2.imread(str(run / "samples" / f"best{end}.png")) for end in ("", "-masks"))
    assert depth.shape[0] == 3 * 130
    assert masks.shape == (4 * 130, depth.shape[1], 3), "images, occlusion, inliers, angles"
    assert np.ptp(masks[135:255]) > 20, "not all of it is alike"


def test_a_checkpoint_knows_depth_and_motion(run: Path, video: VideoData) -> None:
    model = load_video_checkpoint(run).build_model()
    assert isinstance(model, VideoModel)
    images, K, *_ = video.snippets.batch(video.split.choose[:2])
    three = torch.cat([images, images[:, :1]], dim=1)
    with torch.inference_mode():
        assert (model.depth(images[:, 0]) > 0).all()
        for frames, target in ((images, 0), (three, 1)):
            T_tgt_i = model.motions(frames, K)
            assert T_tgt_i.shape == (2, frames.shape[1], 4, 4)
            assert torch.equal(T_tgt_i[:, target], torch.eye(4).expand(2, 4, 4))
            turns = T_tgt_i[..., :3, :3]
            assert torch.allclose(turns @ turns.mT, torch.eye(3).expand_as(turns), atol=1e-5)


def test_flow_learns_to_be_the_true_one() -> None:
    """From images alone: nothing has taught it the truth."""
    known = pairs(3)
    torch.manual_seed(0)
    network = FlowNetwork(0.15, centred=True)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    seen = known.flow_1_2.any(dim=1)

    def off(flow: torch.Tensor) -> float:
        return float((flow - known.flow_1_2).norm(dim=1)[seen].mean().detach())

    for _ in range(45):
        flows = network.both_ways(known.images_1, known.images_2)
        optimizer.zero_grad()
        flow_loss(known.images_1, known.images_2, PairOutputs(*flows), FlowLoss(smoothness=0.05)).backward()
        optimizer.step()
    assert off(torch.zeros_like(known.flow_1_2)) > 4, "pixels"
    assert off(flows[0][0]) < 1.2
