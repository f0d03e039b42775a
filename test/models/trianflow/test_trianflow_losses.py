"""TrianFlow's losses on pairs of images whose depth, motion and flow are known."""

from __future__ import annotations

import pytest
import torch
from support.seen_twice import Pairs, pairs
from torch import Tensor

from pose2rgbd_ros.depth_from_images.epipolar import EpipolarSettings
from pose2rgbd_ros.models.trianflow.config import DepthWeights, FlowLoss
from pose2rgbd_ros.models.trianflow.losses import (
    DepthLosses,
    depth_losses,
    flow_loss,
    flow_smoothness,
    pair_geometry,
    posenet_losses,
    weighted,
)

GEOMETRY = EpipolarSettings(matches=1000)


@pytest.fixture(scope="module")
def known() -> Pairs:
    return pairs()


def of_depth(known: Pairs, align: bool = True, **others: Tensor) -> DepthLosses:
    generator = torch.Generator().manual_seed(0)
    return depth_losses(known.outputs(**others), known.images_1, known.images_2, known.K, GEOMETRY, align, generator)


@pytest.mark.parametrize("order", ["first", "second"])
def test_true_flow_costs_less_than_any_other(known: Pairs, order: str) -> None:
    chosen = FlowLoss(order=order)  # type: ignore[arg-type]

    def cost(there: Tensor, back: Tensor) -> float:
        outputs = known._replace(flow_1_2=there, flow_2_1=back).outputs()
        return float(flow_loss(known.images_1, known.images_2, outputs, chosen))

    there, back = known.flow_1_2, known.flow_2_1
    right = cost(there, back)
    for wrong in ((0 * there, 0 * back), (-there, -back), (0.5 * there, 0.5 * back), (there + 1, back - 1)):
        assert right < 0.8 * cost(*wrong)


def test_what_is_hidden_or_does_not_come_back_costs_nothing(known: Pairs) -> None:
    """The other image may show anything where the first one's flow does not return."""
    chosen = FlowLoss(smoothness=0.0)
    outputs = known.outputs()
    half = known.flow_2_1.clone()
    half[..., :30] += 40  # nothing of image 2's left half comes from image 1
    assert outputs.flows_1_2 is not None
    one_scale = [outputs.flows_1_2[0]]
    changed = known.images_2.clone()
    changed[..., :25] = 0
    costs = [
        float(flow_loss(known.images_1, image, outputs._replace(flows_1_2=one_scale, flows_2_1=[back]), chosen))
        for image in (known.images_2, changed)
        for back in (half, known.flow_2_1)
    ]
    masked, seen = costs[2] - costs[0], costs[3] - costs[1]
    assert masked < 0.3 * seen


def test_smoothness_forgives_edges_and_second_order_forgives_slopes() -> None:
    ramp = torch.arange(12.0).expand(1, 2, 8, 12)
    flat = torch.zeros(1, 3, 8, 12)
    assert float(flow_smoothness(ramp, flat, "second")) == pytest.approx(0.0, abs=1e-6)
    assert float(flow_smoothness(ramp, flat, "first")) == pytest.approx(1.0)
    step = torch.zeros(1, 2, 8, 12)
    step[..., 6:] = 20.0
    edge = flat.clone()
    edge[..., 6:] = 1.0
    for order in ("first", "second"):
        assert float(flow_smoothness(step, edge, order)) < 0.7 * float(flow_smoothness(step, flat, order))
    # Of 20 pixels, in units of 20, along x: two of the ten second differences are 1; halved.
    assert float(flow_smoothness(step, flat, "second")) == pytest.approx(2 / 10 / 2)


def test_motion_and_points_follow_from_flow(known: Pairs) -> None:
    found = pair_geometry(known.flow_1_2, known.flow_2_1, known.K, GEOMETRY, torch.Generator().manual_seed(0))
    assert found.pose.found.all()
    for T, true in zip(found.pose.T_second_first, known.T_2_1, strict=True):
        turn = torch.acos((((T[:3, :3].T @ true[:3, :3]).trace() - 1) / 2).clamp(-1, 1))
        assert torch.rad2deg(turn) < 0.2
        assert torch.dot(T[:3, 3], true[:3, 3]) / true[:3, 3].norm() > 0.999
    assert found.valid.double().mean() > 0.8
    for b in range(2):
        place = found.matches.first[b].long()
        ratio = found.points.depth_first[b] / known.depth_1[b, place[:, 1], place[:, 0]]
        ratio = ratio[found.valid[b]]
        assert (ratio / ratio.median() - 1).abs().median() < 0.01, "points have the true depth, up to one scale"
        assert ratio.median() == pytest.approx(1 / float(known.T_2_1[b, :3, 3].norm()), rel=0.02)


def test_true_depth_in_any_unit_fits(known: Pairs) -> None:
    right = of_depth(known)
    other_unit = of_depth(known, disparity_1=7 / known.depth_1, disparity_2=7 / known.depth_2)
    for losses in (right, other_unit):
        assert losses.triangulation < 0.002
        assert losses.reprojection < 0.02
        assert losses.rigid_flow < 0.05
    flat = torch.full_like(known.depth_1, 0.05)
    wrong = of_depth(known, disparity_1=flat, disparity_2=flat)
    assert wrong.triangulation > 3 * right.triangulation
    assert wrong.rigid_flow > 3 * right.rigid_flow
    assert float(wrong.smoothness) == pytest.approx(0.0, abs=1e-6)
    assert right.smoothness > 0


def test_without_alignment_a_unit_is_an_error(known: Pairs) -> None:
    """Section A: depth would have to be in units of the way between the images, which it cannot know."""
    lengths = known.T_2_1[:, :3, 3].norm(dim=1)[:, None, None]
    assert of_depth(known, align=False).triangulation > 0.3
    in_ways = of_depth(known, False, disparity_1=lengths / known.depth_1, disparity_2=lengths / known.depth_2)
    assert in_ways.triangulation < 0.002


def test_gradients_of_the_losses_reach_depth_and_flow(known: Pairs) -> None:
    """Triangulation moves both; what is called rigid flow moves flow alone; smoothness depth alone."""
    there = known.flow_1_2.clone().requires_grad_(True)
    disparity = (1.2 / known.depth_1 + 0.003).requires_grad_(True)
    losses = of_depth(known._replace(flow_1_2=there), disparity_1=disparity)
    moved = {}
    for name, loss in losses._asdict().items():
        found = torch.autograd.grad(loss, (there, disparity), retain_graph=True, allow_unused=True)
        moved[name] = tuple(each is not None and bool(each.any()) for each in found)
        assert all(each is None or torch.isfinite(each).all() for each in found)
    assert moved.pop("geometric")[1] is False
    assert moved == {
        "triangulation": (True, True),
        "reprojection": (False, True),
        "rigid_flow": (True, False),
        "smoothness": (False, True),
    }


def test_flow_without_a_motion_teaches_depth_nothing(known: Pairs) -> None:
    """Nothing moved, or everything at random: the depth losses are zero, with gradients that are zero."""
    noise = 8 * torch.randn(known.flow_1_2.shape, generator=torch.Generator().manual_seed(0))
    disparity = torch.full_like(known.depth_1, 0.05).requires_grad_(True)
    for flow in (torch.zeros_like(noise), noise):
        losses = of_depth(known._replace(flow_1_2=flow, flow_2_1=-flow), disparity_1=disparity, disparity_2=disparity)
        assert all(torch.isfinite(each) for each in losses)
        loss = weighted(losses, DepthWeights(0.0, 1.0, 0.1, 0.0, 0.0))
        (gradient,) = torch.autograd.grad(loss, disparity)
        assert torch.isfinite(gradient).all()
        if not flow.any():
            assert not gradient.any()
    assert weighted(losses, DepthWeights(0.0, 0.0, 0.0, 0.0, 0.0)).requires_grad


def test_a_pair_with_few_points_gives_none(known: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = 3 * torch.randn(known.flow_1_2.shape, generator=torch.Generator().manual_seed(0))

    def shares() -> list[float]:
        flows = known.flow_1_2 + noise, known.flow_2_1 - noise
        found = pair_geometry(*flows, known.K, GEOMETRY, torch.Generator().manual_seed(0))
        return [float(share) for share in found.valid.double().mean(dim=1)]

    few, more = sorted(shares())
    assert 0.1 <= few < more
    monkeypatch.setattr("pose2rgbd_ros.models.trianflow.losses.LEAST_VALID", (few + more) / 2)
    assert sorted(shares()) == [0.0, more]


def test_a_posenets_depth_and_motion_have_to_fit_the_images(known: Pairs) -> None:
    def cost(**others: Tensor) -> tuple[float, float]:
        losses = posenet_losses(known.outputs(**others), known.images_1, known.images_2, known.K)
        return float(losses.photometric), float(losses.consistency)

    right = cost()
    opposite = known.T_2_1.clone()
    opposite[:, :3, 3] *= -1
    assert right[0] < 0.6 * cost(T_2_1=torch.eye(4).expand(2, 4, 4))[0]
    assert right[0] < 0.6 * cost(T_2_1=opposite)[0]
    apart = cost(disparity_1=0.5 / known.depth_1)
    assert right[0] < apart[0]
    assert right[1] < 0.2 * apart[1], "both depths have to be in one unit"
