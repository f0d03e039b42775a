"""Targets, losses and measures against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.pose2rgbd.config import Pose2RGBDConfig, network_config
from pose2rgbd_ros.models.pose2rgbd.learner import image_loss, image_target, slice_loss, slice_target, total_loss
from pose2rgbd_ros.models.pose2rgbd.network import Prediction
from pose2rgbd_ros.training import metrics
from pose2rgbd_ros.training.config import resolve_recipe
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import Progress, learning_rate


def constant_rgb(value: int, size: int = 2) -> torch.Tensor:
    return torch.full((1, size, size, 3), value, dtype=torch.uint8)


@pytest.mark.parametrize(("final", "low", "high"), [("tanh", -1.0, 1.0), ("sigmoid", 0.0, 1.0), ("none", -1.0, 1.0)])
def test_targets_lie_in_the_range_of_the_final_activation(final: str, low: float, high: float) -> None:
    config = Pose2RGBDConfig(final=final, size=32)
    depth = torch.tensor([[[-1.0, 1.0], [3.0, float("nan")]]])
    target, known = image_target(constant_rgb(255), depth, config)
    assert target.shape == (1, 4, 2, 2)
    assert (target[:, :3] == high).all()
    assert target[0, 3].flatten().tolist() == [low, high, high, 0.0]  # beyond the range is clipped, unknown is 0
    assert known[0, 3].flatten().tolist() == [True, True, True, False]
    assert known[0, :3].all()


def test_unknown_depth_costs_nothing() -> None:
    config = Pose2RGBDConfig(output="depth", size=32)
    depth = torch.tensor([[[0.5, float("nan")], [float("nan"), float("nan")]]])
    target, known = image_target(constant_rgb(0), depth, config)
    image = torch.full((1, 1, 2, 2), 100.0)
    image[0, 0, 0, 0] = 0.7
    for kind, expected in (("mse", 0.04), ("mse+l1", 0.14), ("charbonnier", (0.04 + 1e-3) ** 0.5 - 1e-3**0.5)):
        assert float(image_loss(image, target, known, kind)) == pytest.approx(expected, rel=1e-4)
    nothing = image_loss(image, target, torch.zeros_like(known), "mse")
    assert float(nothing) == 0.0


def test_slices_are_the_papers_intervals() -> None:
    # "the first one captures the depth in [-1, -0.8), ..., the last one [0.8 : 1]"; here with S = 4
    values = [-1.0, -0.51, -0.5, 0.49, 0.5, 1.0, 1.7, float("nan")]
    depth = torch.tensor(values).reshape(1, 1, 8).expand(1, 8, 8)
    target, known = slice_target(depth, 4, 8)
    assert target.shape == (1, 4, 8, 8)
    assert (target.sum(dim=1) == 1).all(), "a pixel lies in one slice"
    index = target[0, :, 0].argmax(dim=0)
    assert index[:7].tolist() == [0, 0, 1, 2, 3, 3, 3]
    assert known[0, 0, 0].tolist() == [True] * 7 + [False]


def test_slices_at_half_resolution_are_pixels_not_mixtures() -> None:
    depth = torch.linspace(-1, 1, 16).reshape(1, 4, 4)
    target, _ = slice_target(depth, 4, 2)
    full, _ = slice_target(depth, 4, 4)
    torch.testing.assert_close(target, full[:, :, ::2, ::2])


def test_slice_loss_joins_the_slices_as_told() -> None:
    logits = torch.zeros(2, 5, 4, 4)
    target, known = slice_target(torch.zeros(2, 4, 4), 5, 4)
    once = float(np.log(2.0))  # cross entropy of a coin
    assert float(slice_loss(logits, target, known, "mean")) == pytest.approx(once, rel=1e-5)
    assert float(slice_loss(logits, target, known, "sum")) == pytest.approx(5 * once, rel=1e-5)
    logits[0] = 50.0  # wildly wrong, but where the depth is unknown
    known[0] = False
    assert float(slice_loss(logits, target, known, "mean")) == pytest.approx(once, rel=1e-5)


def test_total_loss_adds_the_weighted_slices() -> None:
    config = Pose2RGBDConfig(variant="slice", slices=5, size=32, slice_resolution="full")
    depth = torch.zeros(1, 32, 32)
    prediction = Prediction(torch.zeros(1, 4, 32, 32), torch.full((1, 5, 32, 32), 0.5), torch.zeros(1, 5, 32, 32))
    plain = total_loss(prediction, constant_rgb(0, 32), depth, config, bce_weight=0.0)
    weighted = total_loss(prediction, constant_rgb(0, 32), depth, config, bce_weight=3.0)
    assert float(plain) == pytest.approx(0.75)  # three of four channels are off by 1
    assert float(weighted - plain) == pytest.approx(3 * np.log(2.0), rel=1e-5)


def test_measures_in_the_papers_units() -> None:
    truth = torch.rand(2, 3, 16, 16) * 0.5
    rgb = truth + 10 / 255
    torch.testing.assert_close(metrics.rgb_mae_px(rgb, truth), torch.full((2,), 10.0), rtol=1e-4, atol=0)
    torch.testing.assert_close(metrics.psnr_db(rgb, truth), torch.full((2,), 20 * np.log10(25.5)), rtol=1e-4, atol=0)
    assert metrics.ssim(truth, truth).tolist() == pytest.approx([1.0, 1.0])
    assert (metrics.ssim(rgb * 0.5, truth) < 0.99).all()
    depth = torch.full((2, 2, 2), 5.0)
    known = depth.clone()
    known[0, 0, 0], known[0, 0, 1], known[1] = 7.0, float("nan"), float("nan")
    errors = metrics.depth_mae(depth, known)
    assert float(errors[0]) == pytest.approx(2 / 3)
    assert torch.isnan(errors[1]), "no depth known there"


def test_variation_tells_a_collapsed_network() -> None:
    truth = torch.rand(8, 3, 16, 16)
    for rgb, expected in ((truth.mean(0).expand(8, -1, -1, -1), 0.0), (truth, 1.0), (0.5 * truth, 0.5)):
        scores = metrics.Scores()
        for start in (0, 5):  # in uneven batches
            scores.add(rgb[start : start + 5], truth[start : start + 5], None, None)
        assert scores.result()["variation"] == pytest.approx(expected, abs=1e-3)
        assert metrics.is_collapsed(scores.result()) == (expected == 0.0)


def test_holes_in_the_depth_are_no_variation() -> None:
    # A network with one depth image for every pose, on frames whose unknown pixels come and go.
    truth = torch.rand(20, 16, 16) + 2.0
    truth[torch.rand(20, 16, 16) < 0.5] = float("nan")
    truth[:, 0, 0] = float("nan")  # a pixel that is never known
    for depth, expected in ((torch.full_like(truth, 2.5), 0.0), (truth.nan_to_num(0.0), 1.0)):
        scores = metrics.Scores()
        for some in (slice(0, 7), slice(7, 20)):
            scores.add(None, None, depth[some], truth[some])
        assert scores.result()["variation"] == pytest.approx(expected, abs=1e-3)


def test_relative_score_and_description() -> None:
    scores = {"rgb_mae_px": 10.0, "depth_mae": 3.0, "psnr_db": 20.0, "ssim": 0.5}
    baseline = {"rgb_mae_px": 20.0, "depth_mae": 4.0}
    assert metrics.relative_score(scores, baseline) == pytest.approx((0.5 + 0.75) / 2)
    assert metrics.describe(scores, baseline) == (
        "RGB 10.00 of 255 (mean image 20)  depth 3.00 m (mean image 4)  PSNR 20.0  SSIM 0.50"
    )


@given(st.floats(0, 1), st.sampled_from(["fixed", "cosine"]), st.floats(0, 0.5))
def test_the_learning_rate_stays_below_its_peak(share: float, schedule: str, warmup: float) -> None:
    assert 0 < learning_rate(0.01, schedule, warmup, share) <= 0.01


def test_the_learning_rate_over_a_run() -> None:
    assert learning_rate(0.01, "fixed", 0.0, 0.99) == 0.01, "the paper's"
    assert learning_rate(0.01, "cosine", 0.1, 0.05) == pytest.approx(0.005)
    assert learning_rate(0.01, "cosine", 0.1, 0.55) == pytest.approx(0.005)
    assert learning_rate(0.01, "cosine", 0.1, 1.0) < 1e-6


def test_progress_is_the_larger_of_steps_and_time() -> None:
    assert Progress(100, None).share(50) == 0.5
    assert Progress(100, 10.0, elapsed_before_s=8.0).share(50) == pytest.approx(0.8, abs=0.05)
    assert Progress(100, 10.0, elapsed_before_s=8.0).share(50, reserve_s=2.0) == 1.0
    assert Progress(100, 10.0).share(200) == 1.0


def test_the_papers_recipe_is_the_papers() -> None:
    recipe = resolve_recipe(train_config("base", recipe="paper"))
    assert (recipe.learning_rate, recipe.schedule, recipe.epochs, recipe.image_loss) == (0.01, "fixed", 100, "mse")
    assert recipe.pose_frequencies == 0
    assert resolve_recipe(train_config("base", recipe="paper", batch_size=4, epochs=7)).epochs == 7
    assert resolve_recipe(train_config("base", recipe="paper", max_minutes=5.0)).epochs == 100
    assert resolve_recipe(train_config("base", max_minutes=5.0)).epochs > 10**5, "the time ends it"


@pytest.mark.parametrize("model", ["slice", "slice-0", "slice-1", "slice-x", "Base", ""])
def test_unknown_models_are_named(model: str) -> None:
    with pytest.raises(UserError, match=r"choose base, slice-N|S at least 2"):
        train_config(model)


def test_network_of_a_run() -> None:
    network = network_config(train_config(model="slice-32", rotation="euler", size=64), has_depth=True)
    assert (network.variant, network.slices, network.pose_dim, network.output) == ("slice", 32, 6, "rgbd")
    assert network_config(train_config("base"), has_depth=False).output == "rgb"
    assert network_config(train_config("base", recipe="paper"), has_depth=True).pose_frequencies == 0
    assert network_config(train_config("base", pose_frequencies=0), has_depth=True).pose_frequencies == 0
