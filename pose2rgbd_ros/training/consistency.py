"""Consistency between nearby poses, which the paper names as further work: two predicted views must show one place.

A view is predicted at a pose near a recorded one and looked up where the predicted depth of the recorded pose says its
pixels lie; there it must show the recorded colour, at the distance the motion implies. That teaches the network poses
nobody flew. The paper gives no formula; this is a reconstruction: view synthesis as by Zhou et al. ("Unsupervised Learning
of Depth and Ego-Motion from Video", 2017), the symmetric relative error of depths as by Bian et al. ("Unsupervised
Scale-consistent Depth and Ego-motion Learning from Monocular Video", 2019).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera

STEP_SHARE = 0.05  # standard deviation of the motion along each axis, as a share of the scene's distance: 3 m from 55 m up
TURN_DEG = 2.0  # standard deviation of the turn about each axis
OCCLUDED_SHARE = 0.1  # a point so much farther than what the other view shows there is hidden from it


def nearby_poses(T_map_cam: Float64, distance_m: float, random: np.random.Generator) -> Float64:
    """A pose near each of (B, 4, 4): moved and turned at random, less the nearer the scene (at `distance_m`) is."""
    moved = np.array(T_map_cam, dtype=np.float64)
    turn = Rotation.from_rotvec(random.normal(0.0, np.deg2rad(TURN_DEG), (len(moved), 3))).as_matrix()
    moved[:, :3, :3] = moved[:, :3, :3] @ turn
    moved[:, :3, 3] += random.normal(0.0, STEP_SHARE * distance_m, (len(moved), 3))
    return moved


def require_usable(camera: Camera, depth_kind: str | None) -> None:
    """UserError unless predicted pictures of this camera can be warped: metric depth, calibrated, no lens distortion."""
    if depth_kind != "metric":
        have = "relative depth" if depth_kind else "no depth"
        raise UserError(
            f"--consistency-weight needs metric depth, in the unit of the poses; this dataset has {have}; "
            "train with --consistency-weight 0"
        )
    if not camera.is_calibrated or camera.is_distorted:
        state = "has lens distortion" if camera.is_calibrated else "is not calibrated"
        raise UserError(
            f"--consistency-weight needs pinhole images; this dataset's camera {state}; train with --consistency-weight 0"
        )


def moved_points(rays: Tensor, depth: Tensor, T_near_here: Tensor) -> Tensor:
    """Points (B, H, W, 3) seen at `depth` (B, H, W) along `rays` (H, W, 3; z = 1), in the other camera's frame."""
    points = (rays * depth[..., None]).flatten(1, 2)
    moved = points @ T_near_here[:, :3, :3].transpose(1, 2) + T_near_here[:, None, :3, 3]
    return moved.reshape(*depth.shape, 3)


def look_up(image: Tensor, points: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """What `image` (B, C, H, W) of a pinhole `camera` shows at `points` (B, h, w, 3) of its frame, bilinear.

    Returns:
        (B, C, h, w), and (B, h, w) bool: whether the point lies before the camera and within the image.
    """
    z = points[..., 2]
    in_front = z > 1e-6
    safe = torch.where(in_front, z, 1.0)
    # From the centre of the first pixel at 0 to the image's edges at -1 and 1.
    x = ((points[..., 0] / safe * camera.fx + camera.cx) + 0.5) * (2 / camera.width) - 1
    y = ((points[..., 1] / safe * camera.fy + camera.cy) + 0.5) * (2 / camera.height) - 1
    inside = in_front & (x.abs() <= 1) & (y.abs() <= 1)
    place = torch.stack([x, y], dim=-1).clamp(-2, 2)
    return functional.grid_sample(image, place, padding_mode="border", align_corners=False), inside


def consistency_loss(
    rgb: Tensor | None, depth: Tensor, rgb_near: Tensor | None, depth_near: Tensor, T_near_here: Tensor,
    rays: Tensor, camera: Camera,
) -> Tensor:  # fmt: skip
    """How little the view predicted nearby shows what is here: mean error of colour (0..2) and of depth (0..1).

    Args:
        rgb: (B, 3, H, W) in [0, 1], recorded here; `rgb_near`: predicted at the nearby pose; None: depth alone.
        depth, depth_near: (B, H, W) in metres, predicted here and at the nearby pose.
        T_near_here: (B, 4, 4) takes points of the camera here to the nearby one's frame.
        rays: (H, W, 3) of `camera`, the same for both.
    """
    points = moved_points(rays, depth, T_near_here)
    shown = depth_near[:, None] if rgb_near is None else torch.cat([depth_near[:, None], rgb_near], dim=1)
    there, inside = look_up(shown, points, camera)
    implied, seen = points[..., 2], there[:, 0]
    visible = (inside & (implied < seen * (1 + OCCLUDED_SHARE))).detach()
    apart = (implied - seen).abs() / (implied + seen).clamp(min=1e-6)
    loss = _mean(apart, visible)
    if rgb is not None and rgb_near is not None:
        loss = loss + _mean(2 * (there[:, 1:] - rgb).abs().mean(dim=1), visible)
    return loss


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, values, 0.0).sum() / where.sum().clamp(min=1)
