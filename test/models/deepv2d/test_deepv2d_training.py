"""DeepV2D really trained, in small, on a flight whose depth is known; and what it makes of several views."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.depth_from_images import rigid
from pose2rgbd_ros.depth_from_images.gauss_newton import reprojected
from pose2rgbd_ros.depth_from_images.snippets import runs_without_gaps, views_around
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.deepv2d.alternation import alternate, confidence_of, resized
from pose2rgbd_ros.models.deepv2d.config import Losses, Settings
from pose2rgbd_ros.models.deepv2d.learner import (
    DeepV2DLearner,
    depth_loss,
    flow_error,
    make,
    motion_loss,
    nearest_filled,
    reprojection,
)
from pose2rgbd_ros.models.deepv2d.network import MotionSteps
from pose2rgbd_ros.models.video_depth import TrainedDepth
from pose2rgbd_ros.training.config import ViewSettings, resolve_recipe
from pose2rgbd_ros.training.families import MultiViewModel, video_config
from pose2rgbd_ros.training.trainer import train
from pose2rgbd_ros.training.video import VideoData, open_video_data

SMALL = {"image_width": 32, "image_height": 32, "width": 1 / 16, "depths": 32, "device": "cpu", "tensorboard": False}
HOW = Losses(depth_error="absolute", reprojection_error="huber", flow_weight=0.0)


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("data") / "flight", frames=120)


@pytest.fixture(scope="module")
def video(flight: Path) -> VideoData:
    return open_video_data([flight], video_config("deepv2d", **SMALL))


@pytest.fixture(scope="module")
def run(flight: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train([flight], out, video_config("deepv2d", **SMALL, steps=6))
    return out


def learner_of(video: VideoData, **settings: object) -> DeepV2DLearner:
    config = video_config("deepv2d", **{**SMALL, **settings})
    assert isinstance(config, Settings)
    torch.manual_seed(0)
    return make(config, resolve_recipe(config), video.for_training(), torch.device("cpu"))


def test_a_stage_moves_its_networks_and_no_others(video: VideoData) -> None:
    learner = learner_of(video, true_motions=0.0)
    for share, stage, moves in (
        (0.1, "motion", {"motion_module", "regressor"}),
        (0.9, "joint", {"motion_module", "regressor", "stereo_module"}),
    ):
        learner.zero_grad()
        for loss in learner.losses(learner.model, video.split.train[:2], share):
            loss.backward()
        assert learner.stage == stage
        moved = {
            name
            for name, child in learner.model.named_children()
            if any(each.grad is not None and each.grad.any() for each in child.parameters())
        }
        assert moved == moves
        assert np.isfinite(learner.measures()["loss_depth"]) == (stage == "joint")


def test_truth_is_learnt_from_in_units_of_the_network(video: VideoData) -> None:
    learner = learner_of(video)
    config = learner.model.config
    assert config.max_depth == pytest.approx(8.0)
    batch = video.for_training().batch(video.split.train[:3])
    assert batch.depth is not None
    inside = learner._in_units(batch)
    assert inside.depth is not None
    assert inside.T_tgt_i is not None
    known = torch.isfinite(inside.depth)
    torch.testing.assert_close(inside.depth[known] * config.unit_m, batch.depth[known])
    torch.testing.assert_close(resized(inside.T_tgt_i, config.unit_m), batch.T_tgt_i)
    assert float(inside.depth[known].max()) <= config.max_depth


def test_the_views_of_a_step_are_drawn_with_their_motions(video: VideoData) -> None:
    learner = learner_of(video)
    batch = learner._in_units(video.for_training().batch(video.split.train[:2]))
    assert batch.T_tgt_i is not None
    counts = set()
    for _ in range(20):
        drawn = learner._drawn(batch)
        assert drawn.T_tgt_i is not None
        counts.add(drawn.images.shape[1])
        assert torch.equal(drawn.images[:, drawn.target], batch.images[:, batch.target])
        for place in range(drawn.images.shape[1]):
            (of,) = [i for i in range(5) if torch.equal(drawn.images[:, place], batch.images[:, i])]
            assert torch.equal(drawn.T_tgt_i[:, place], batch.T_tgt_i[:, of])
    assert counts == {2, 3, 4, 5}


# The losses, by hand.


def test_depth_counts_where_the_truth_is_known_and_is_smooth_elsewhere() -> None:
    truth = torch.tensor([[[2.0, torch.nan, torch.nan], [4.0, torch.nan, torch.nan]]])
    depth = torch.tensor([[[3.0, 1.0, 5.0], [4.0, 1.0, 2.0]]])
    smooth = 0.02 * ((4 + 1) / 4 + (0 + 3) / 3)  # means over all pixels that have a neighbour
    assert float(depth_loss([depth], truth, HOW)) == pytest.approx(0.5 + smooth)
    relative = Losses(depth_error="relative", reprojection_error="huber", flow_weight=0.0, smoothness=0.0)
    assert float(depth_loss([depth], truth, relative)) == pytest.approx(0.25)
    twice = depth_loss([depth, truth.nan_to_num(7.0)], truth, HOW)
    assert float(twice) == pytest.approx(0.5 * (0.5 + smooth)), "an earlier hourglass counts half"


def test_points_that_are_put_aside_cost_their_distance() -> None:
    K = torch.tensor([[[8.0, 0, 4], [0, 8, 4], [0, 0, 1]]])
    depth, target = torch.full((1, 8, 8), 2.0), 0
    true = torch.eye(4).repeat(1, 2, 1, 1)
    moved = true.clone()
    moved[0, 1, 0, 3] = -0.75  # the points lie 3 px to the right
    huber, l1 = HOW, Losses(depth_error="absolute", reprojection_error="l1", flow_weight=0.0)
    assert float(reprojection(moved, depth, K, true, target, huber)) == pytest.approx(2.5)
    assert float(reprojection(moved, depth, K, true, target, l1)) == pytest.approx(3.0)
    assert float(reprojection(true, depth, K, true, target, huber)) == 0


def test_holes_have_the_depth_of_the_nearest_pixel() -> None:
    depth = torch.tensor([[[1.0, torch.nan, torch.nan, 4.0]], [[torch.nan] * 4]])
    assert nearest_filled(depth).tolist() == [[[1.0, 1.0, 4.0, 4.0]], [[1.0] * 4]]


# Several views.


def test_known_poses_give_their_unit_and_no_baseline_gives_nothing(video: VideoData) -> None:
    network = learner_of(video).model.eval()
    assert isinstance(network, MultiViewModel)
    batch = video.snippets.for_judging().batch(video.split.choose[:2])
    assert batch.T_tgt_i is not None
    with torch.inference_mode():
        found = alternate(network, batch.images, batch.K, batch.T_tgt_i)
        T = resized(batch.T_tgt_i, 1 / network.config.unit_m)
        depth = network.stereo(batch.images, batch.K, T)[-1] * network.config.unit_m
        torch.testing.assert_close(found.depth, depth)
        assert ((found.confidence > 0) & (found.confidence < 1)).all()
        still = alternate(network, batch.images, batch.K, torch.eye(4).expand_as(batch.T_tgt_i))
    assert torch.isnan(still.depth).all()
    assert (still.confidence == 0).all()


def test_iterations_begin_with_what_is_asked_for(video: VideoData) -> None:
    network = learner_of(video).model.eval()
    batch = video.snippets.batch(video.split.choose[:2])
    typical = network.config.typical_depth * network.config.unit_m
    with torch.inference_mode():
        flat = alternate(network, batch.images, batch.K, iterations=0, start="flat")
        assert torch.allclose(flat.depth, torch.tensor(typical))
        other = torch.linspace(1, 3, 16 * 16).reshape(1, 16, 16).repeat(2, 1, 1)
        warm = alternate(network, batch.images, batch.K, iterations=0, start=other)
        assert float(warm.depth.median()) == pytest.approx(typical, rel=0.02), "its unit is not ours"
        assert float(warm.depth[0, -1, -1] / warm.depth[0, 0, 0]) == pytest.approx(3.0)
        first = network.initial_motions(batch.images, batch.K)
        by_sight = alternate(network, batch.images, batch.K, iterations=0)
        expected = network.stereo(batch.images, batch.K, first)[-1] * network.config.unit_m
        torch.testing.assert_close(by_sight.depth, expected, rtol=1e-4, atol=1e-3)
        T = network.motion(batch.images, batch.K, expected / network.config.unit_m, first, 3).T_tgt_i[-1]
        once = alternate(network, batch.images, batch.K, iterations=1)
        again = network.stereo(batch.images, batch.K, T)[-1] * network.config.unit_m
        torch.testing.assert_close(once.depth, again, rtol=1e-4, atol=1e-3)


def test_the_flow_itself_is_taught_where_a_recipe_says_so() -> None:
    """A wall at depth 4; the flow of a step is (0.5, -0.25) px beside the true one, whatever motion came of it."""
    depth, target = torch.full((1, 6, 6), 4.0), 1
    K = torch.tensor([[[6.0, 0.0, 2.5], [0.0, 6.0, 2.5], [0.0, 0.0, 1.0]]])
    true = rigid.exponential(torch.tensor([[[0.3, 0.0, 0.1, 0.0, 0.02, 0.0], [0.0] * 6]]).flatten(0, 1))[None]
    found = rigid.exponential(torch.tensor([[0.1, 0.1, 0.0, 0.0, 0.0, 0.01], [0.0] * 6]))[None]
    there, wanted = (reprojected(depth, K, rigid.inverse(each[:, 0])).pixels for each in (found, true))
    residual = (wanted + torch.tensor([0.5, -0.25]) - there)[:, None]
    weights = torch.full_like(residual, 0.5)
    weights[:, :, 0] = 0.0  # out of the source's sight
    residual[:, :, 0] = 99.0
    off = flow_error(found, residual, weights, depth, K, true, target)
    assert float(off) == pytest.approx(0.75, abs=1e-5)
    steps = MotionSteps([found, found], [residual] * 2, [weights] * 2, [residual] * 2)
    plain, taught = (
        motion_loss(steps, depth, K, true, target, replace(HOW, flow_weight=share))[0] for share in (0.0, 2.0)
    )
    assert float(taught - plain) == pytest.approx(2.0 * 2 * 0.75, abs=1e-4)


def test_only_our_recipe_departs_from_the_papers_networks_and_losses() -> None:
    for recipe in ("paper-kitti", "paper-nyu", "released-kitti", "released-nyu"):
        config = video_config("deepv2d", recipe=recipe)
        assert isinstance(config, Settings)
        assert config.filled_losses.flow_weight == 0.0
        assert not {"volume", "flow", "gain", "norm"} & set(config.filled["layers"])


def test_confidence_is_the_spread_of_depth() -> None:
    found = confidence_of(torch.tensor([10.0, 10.0, torch.nan]), torch.tensor([0.0, 1.0, 1.0]))
    assert found.tolist() == pytest.approx([1.0, 0.5, 0.0])


def test_views_are_the_nearest_that_may_be_looked_at() -> None:
    stamps = np.concatenate([np.arange(10), 100 + np.arange(10)])
    runs = runs_without_gaps(stamps)
    allowed = np.ones(20, bool)
    assert views_around(5, allowed, runs, 5, 1) == [3, 4, 5, 6, 7]
    assert views_around(5, allowed, runs, 2, 2) == [5, 7]
    assert views_around(9, allowed, runs, 3, 2) == [5, 9, 7], "nothing beyond a gap; the target in its place"
    allowed[[6, 7]] = False
    assert views_around(5, allowed, runs, 3, 1) == [3, 5, 4]


# The commands.


def test_a_video_gets_depth_of_several_views(
    run: Path, flight_dataset: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = tmp_path / "short"
    flight = flight_dataset(tmp_path / "few", frames=30)
    options = ["--views", "3", "--iterations", "1", "--device", "cpu"]
    assert main(["depth", "infer", str(run), str(flight), "--out", str(short), *options]) == 0
    names = {file.stem for file in (short / "depth_relative").iterdir()}
    assert names == {str(stamp) for stamp in Dataset(flight).stamps_ns}
    assert {file.stem for file in (short / layout.CONFIDENCE).iterdir()} == names
    method = TrainedDepth.of_run(run, "cpu", ViewSettings(views=3, iterations=1))
    dataset = Dataset(flight)
    images = [method.small(dataset.rgb(i), None) for i in (19, 20, 21)]
    depth, _ = method.depth_of_views(images, method.camera(dataset.camera).K)
    np.testing.assert_allclose(np.load(short / "depth_relative" / f"{dataset.stamps_ns[20]}.npy"), depth, rtol=1e-5)
    assert main(["depth", "infer", str(run), str(flight), "--out", str(short), "--device", "cpu"]) == 2
    assert "holds depth of another how" in capsys.readouterr().err


def test_a_dataset_is_mapped_by_its_poses(
    run: Path, flight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["depth", "evaluate", str(run), str(flight), "--known-poses", "--protocol", "metric", "--device", "cpu"])
        == 0
    )
    assert "Depth" in capsys.readouterr().out
    assert main(["depth", "add", str(flight), "--method", str(run)]) == 2
    assert "recorded depth, which stays" in capsys.readouterr().err


def test_depth_of_known_poses_is_metric(
    run: Path, flight_dataset: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = flight_dataset(tmp_path / "bare", frames=24, depth_kind=None)
    assert main(["depth", "add", str(bare), "--method", str(run)]) == 0
    made = Dataset(bare)
    assert made.depth_kind == "metric"
    assert made.meta.depth is not None
    assert made.meta.depth.made is not None
    assert made.meta.depth.made.settings["views"] == 5
    method = TrainedDepth.of_run(run, "cpu")
    T = made.T_map_cam
    images = [method.small(made.rgb(i), None) for i in range(1, 6)]
    assert made.meta.depth.made.split in ("own", "written")
    expected, _ = method.depth_of_views(images, method.camera(made.camera).K, np.linalg.inv(T[3]) @ T[1:6])
    np.testing.assert_allclose(made.depth(3), expected, atol=0.01)
    assert main(["depth", "infer", str(run), str(bare), "--out", str(tmp_path / "x"), "--start", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_what_cannot_be_is_refused_in_a_line(
    run: Path, flight_dataset: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = flight_dataset(tmp_path / "bare", frames=24, depth_kind=None)
    assert main(["depth", "train", "deepv2d", str(bare), "--out", str(tmp_path / "run"), "--image-width", "32"]) == 2
    assert "true depth to learn from is missing; this model is trained on RGB-D" in capsys.readouterr().err
    few = flight_dataset(tmp_path / "few", frames=4, depth_kind=None)
    assert main(["depth", "add", str(few), "--method", str(run)]) == 2
    assert "has 4 frames, fewer than the 5 views of a depth" in capsys.readouterr().err
    with pytest.raises(UserError, match="a step takes 6 to 5 views of 5 frames"):
        video_config("deepv2d", fewest_views=6)
    hovering = tmp_path / "hovering"
    shutil.copytree(bare, hovering, ignore=shutil.ignore_patterns(".cache"))
    path = hovering / "groundtruth.txt"
    head, *lines = path.read_text().splitlines()
    pose = lines[0].split(maxsplit=1)[1]
    path.write_text("\n".join([head, *(f"{line.split(maxsplit=1)[0]} {pose}" for line in lines), ""]))
    assert main(["depth", "add", str(hovering), "--method", str(run)]) == 2
    assert "neighbouring pictures do not show the depth of any pixel" in capsys.readouterr().err


def test_the_recipes_are_what_was_published() -> None:
    settings = {name: Settings("deepv2d", recipe=name).filled for name in Settings.RECIPES}  # type: ignore[arg-type]
    assert settings["paper-kitti"]["motion_share"] * 220_000 == pytest.approx(20_000)
    assert settings["released-nyu"]["layers"]["hourglasses"] == 2
    assert settings["paper-nyu"]["most_views"] == 4 == settings["paper-nyu"]["fewest_views"]
    T = rigid.exponential(torch.zeros(1, 1, 6))
    assert torch.equal(resized(T, 3.0), T)
