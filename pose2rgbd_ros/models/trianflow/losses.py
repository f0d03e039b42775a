"""What TrianFlow's stages make small: of flow by images (Eq. 9 of the supplement), of depth by triangulated flow."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pose2rgbd_ros.depth_from_images import epipolar, photometric, rigid, triangulation
from pose2rgbd_ros.depth_from_images.epipolar import EpipolarSettings
from pose2rgbd_ros.depth_from_images.inverse_warp import inverse_warp, look_up
from pose2rgbd_ros.depth_from_images.optical_flow import consistent, seen_in_both, warp_by_flow
from pose2rgbd_ros.models.trianflow.config import DepthWeights, FlowLoss, PoseNetWeights
from pose2rgbd_ros.models.trianflow.network import PairOutputs

FLOW_SCALES = 3
FLOW_UNIT_PX = 20.0  # of the code's second-order smoothness
EDGE = 10.0  # of the same: how fast its weight falls with the image's slope
LEAST_VALID = 0.1  # share of a pair's matches that must give a point


def flow_loss(
    images_1: Tensor, images_2: Tensor, outputs: PairOutputs, chosen: FlowLoss, masked: bool = True
) -> Tensor:
    """L_f of images (B, 3, H, W) in 0..1 at three scales, both ways.

    masked: only what is seen in both images, and comes back where it began, counts.
    """
    assert outputs.flows_1_2 is not None
    assert outputs.flows_2_1 is not None
    loss = images_1.new_zeros(())
    for there, back in list(zip(outputs.flows_1_2, outputs.flows_2_1, strict=True))[:FLOW_SCALES]:
        height, width = there.shape[-2:]
        one, two = (photometric.area_resized(each, (height, width)) for each in (images_1, images_2))
        for way in ((one, two, there, back), (two, one, back, there)):
            loss = loss + _flow_loss(*way, chosen, masked)
    return loss / 2


def _flow_loss(one: Tensor, two: Tensor, there: Tensor, back: Tensor, chosen: FlowLoss, masked: bool) -> Tensor:
    """One scale, one way."""
    seen = torch.ones_like(there[:, 0])
    if masked:
        returns = consistent(there.detach(), back.detach(), chosen.consistency_px, chosen.consistency_share)
        seen = seen_in_both(back.detach()) * returns
    off = photometric.photometric_difference(one, warp_by_flow(two, there), chosen.ssim)
    return photometric.masked_mean(off, seen) + chosen.weight * flow_smoothness(there, one, chosen.order)


def flow_smoothness(flow: Tensor, image: Tensor, order: str) -> Tensor:
    """L_fs, of first order as Eq. 8 has it for disparity, or as in the authors' code: of second order, of flow in units
    of 20 pixels, where edges count ten times more, halved."""
    if order == "first":
        return photometric.edge_aware_smoothness(flow, image)
    return photometric.edge_aware_smoothness(flow / FLOW_UNIT_PX, image, order=2, edge=EDGE) / 2


class PairGeometry(NamedTuple):
    """What flow says of B pairs: the camera's motion, what moves with the scene, and points.

    pose: of the second camera by the first; its translations have length 1. distance: (B, H, W) of the flow from its
    epipolar line in pixels, with gradients to the flow. score: (B, H, W), M_o M_s M_r. matches: those that were
    triangulated, points, and which of these count (B, M): none of a pair in which too few do.
    """

    pose: epipolar.RelativePose
    distance: Tensor
    score: Tensor
    matches: epipolar.Matches
    points: triangulation.Triangulated
    valid: Tensor


def pair_geometry(
    flow_1_2: Tensor, flow_2_1: Tensor, K: Tensor, settings: EpipolarSettings, generator: torch.Generator | None = None
) -> PairGeometry:
    """Pose and points of pairs by their flow (B, 2, H, W), whose gradients reach distance and points."""
    height, width = flow_1_2.shape[-2:]
    score = epipolar.match_score(flow_1_2, flow_2_1, seen_in_both(flow_2_1))
    pose = epipolar.relative_pose(epipolar.sample_matches(score, flow_1_2, settings, generator), K, settings, generator)
    distance = epipolar.epipolar_map(pose.F, flow_1_2)
    score = score * epipolar.rigid_score(distance.detach(), settings.rigid_px)
    matches = epipolar.sample_matches(score, flow_1_2, settings, generator)
    two_views = matches.first, matches.second, K, pose.T_second_first
    points = triangulation.triangulate(*two_views)
    valid = triangulation.is_valid(points, triangulation.ray_cosine(*two_views), height, width)
    enough = pose.found & matches.enough & (valid.double().mean(dim=1) >= LEAST_VALID)
    return PairGeometry(pose, distance, score, matches, points, valid & enough[:, None])


class DepthLosses(NamedTuple):
    """By the names of :class:`DepthWeights`."""

    geometric: Tensor
    triangulation: Tensor
    reprojection: Tensor
    rigid_flow: Tensor
    smoothness: Tensor


def depth_losses(
    outputs: PairOutputs,
    images_1: Tensor,
    images_2: Tensor,
    K: Tensor,
    settings: EpipolarSettings,
    align: bool = True,
    generator: torch.Generator | None = None,
) -> DepthLosses:
    """The losses of the stages in which depth is learnt, without their weights.

    align: scale depth to the triangulated points, whose unit is the length of the camera's way (section A).
    """
    assert outputs.flows_1_2 is not None
    assert outputs.flows_2_1 is not None
    assert outputs.disparity_1 is not None
    assert outputs.disparity_2 is not None
    flow = outputs.flows_1_2[0]
    geometry = pair_geometry(flow, outputs.flows_2_1[0], K, settings, generator)
    matches, points, valid = geometry.matches, geometry.points, geometry.valid
    depths, fits = [], []
    for disparity, pixels, truth in (
        (outputs.disparity_1, matches.first, points.depth_first),
        (outputs.disparity_2, matches.second, points.depth_second),
    ):
        depth = 1 / disparity
        predicted = look_up(depth[:, None], pixels[:, None])[:, 0, 0]
        scale = triangulation.scale_to(predicted, truth, valid) if align else torch.ones_like(depth[:, 0, 0])
        depths.append(depth * scale[:, None, None])
        fits.append(triangulation.triangulation_loss(predicted * scale[:, None], truth, valid))
    counts = valid.any(dim=1)[:, None, None]
    T_2_1 = geometry.pose.T_second_first
    still = counts & (geometry.score > 0)
    moved, in_view = triangulation.rigid_flow(depths[0].detach(), K, T_2_1)
    off = (flow - moved).abs().sum(dim=1)
    return DepthLosses(
        geometric=epipolar.geometric_loss(geometry.distance, settings.threshold_px, settings.rigid_px),
        triangulation=fits[0] + fits[1],
        reprojection=triangulation.reprojection_loss(depths[0], depths[1], K, T_2_1, still),
        rigid_flow=triangulation.masked_mean(off, still & in_view),
        smoothness=disparity_smoothness(outputs.disparity_1, images_1)
        + disparity_smoothness(outputs.disparity_2, images_2),
    )


def posenet_losses(outputs: PairOutputs, images_1: Tensor, images_2: Tensor, K: Tensor) -> PoseNetLosses:
    """The losses of the baselines (section C): each image as the other one shows it by depth and motion, and L_p."""
    assert outputs.disparity_1 is not None
    assert outputs.disparity_2 is not None
    assert outputs.T_2_1 is not None
    depths = 1 / outputs.disparity_1, 1 / outputs.disparity_2
    ways = (
        (images_1, images_2, *depths, outputs.T_2_1),
        (images_2, images_1, *depths[::-1], rigid.inverse(outputs.T_2_1)),
    )
    off, apart = [], []
    for one, two, depth, other, T_two_one in ways:
        warped = inverse_warp(two, depth, T_two_one, K)
        difference = photometric.photometric_difference(one, warped.image)
        off.append(photometric.masked_mean(difference, warped.valid))
        apart.append(triangulation.reprojection_loss(depth, other, K, T_two_one, warped.valid))
    smoothness = disparity_smoothness(outputs.disparity_1, images_1)
    smoothness = smoothness + disparity_smoothness(outputs.disparity_2, images_2)
    return PoseNetLosses(torch.stack(off).mean(), torch.stack(apart).mean(), smoothness)


class PoseNetLosses(NamedTuple):
    """By the names of :class:`PoseNetWeights`."""

    photometric: Tensor
    consistency: Tensor
    smoothness: Tensor


def weighted(losses: DepthLosses | PoseNetLosses, weights: DepthWeights | PoseNetWeights) -> Tensor:
    """Their sum; what has no weight is left out, so that it moves nothing."""
    terms = [getattr(weights, name) * value for name, value in losses._asdict().items() if getattr(weights, name)]
    return torch.stack(terms).sum() if terms else 0 * losses.smoothness


def disparity_smoothness(disparity: Tensor, image: Tensor) -> Tensor:
    """L_s of Eq. 8: of disparity (B, H, W) divided by its mean over the image."""
    normalized = disparity / disparity.mean(dim=(1, 2), keepdim=True)
    return photometric.edge_aware_smoothness(normalized[:, None], image)
