"""Warping between nearby views, against scenes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.blockworld import BlockWorld

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.pose2rgbd import learner
from pose2rgbd_ros.models.pose2rgbd.learner import consistency_loss, nearby_poses

CAMERA = Camera.from_fov(64, 64, 60.0)
K = torch.from_numpy(CAMERA.K).float()


def as_batch(rgb: np.ndarray, depth: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    colour = torch.from_numpy(rgb.astype(np.float32) / 255).permute(2, 0, 1)[None]
    return colour, torch.from_numpy(depth.astype(np.float32))[None]


def views(step_m: float) -> tuple[torch.Tensor, ...]:
    """Colour and depth of a block world here and `step_m` aside, and T_near_here."""
    world = BlockWorld(seed=2)
    T_map_here = se3.look_at([0.0, -4.0, 22.0], [0.0, 0.0, 0.0], up=(0.0, 1.0, 0.0))
    T_map_near = T_map_here.copy()
    T_map_near[:3, 3] += T_map_here[:3, 0] * step_m
    pictures = [as_batch(*world.render(T, CAMERA)) for T in (T_map_here, T_map_near)]
    T_near_here = torch.from_numpy(se3.inverse(T_map_near) @ T_map_here).float()[None]
    return (*pictures[0], *pictures[1], T_near_here)


def test_true_views_agree_and_others_do_not() -> None:
    rgb, depth, rgb_near, depth_near, T_near_here = views(1.0)
    true = consistency_loss(rgb, depth, rgb_near, depth_near, T_near_here, K)
    still = consistency_loss(rgb, depth, rgb, depth, T_near_here, K)  # as if it had not moved
    farther = consistency_loss(rgb, depth * 1.15, rgb_near, depth_near, T_near_here, K)
    assert float(true) < 0.5 * float(still)
    assert float(true) < 0.8 * float(farther)


def test_what_is_hidden_from_the_other_view_does_not_count() -> None:
    # A wall at 10 m here; there a pillar at 5 m stands before its middle columns.
    depth = torch.full((1, 64, 64), 10.0)
    depth_near = depth.clone()
    depth_near[:, :, 24:40] = 5.0
    rgb = torch.full((1, 3, 64, 64), 0.5)
    rgb_near = rgb.clone()
    rgb_near[:, :, :, 24:40] = 1.0
    same = torch.eye(4)[None]
    assert float(consistency_loss(rgb, depth, rgb_near, depth_near, same, K)) < 1e-5
    # The other way round nothing hides the pillar from the wall's view: a contradiction.
    assert float(consistency_loss(rgb, depth_near, rgb, depth, same, K)) > 0.05


def test_gradients_reach_the_depth_here_and_the_picture_there() -> None:
    rgb, depth, rgb_near, depth_near, T_near_here = views(1.0)
    learnt = [image.clone().requires_grad_() for image in (depth * 1.03, rgb_near, depth_near)]
    consistency_loss(rgb, *learnt, T_near_here, K).backward()
    assert all(image.grad is not None and image.grad.abs().sum() > 0 for image in learnt)
    assert all(torch.isfinite(image.grad).all() for image in learnt)


def test_nearby_poses_are_near_rigid_and_seeded() -> None:
    T = np.stack([se3.look_at([0.0, 0.0, 55.0], [5.0, 0.0, 0.0], up=(0.0, 1.0, 0.0))] * 400)
    near = nearby_poses(T, 55.0, np.random.default_rng(3))
    assert np.allclose(near[:, :3, :3] @ near[:, :3, :3].swapaxes(1, 2), np.eye(3))
    step = (near - T)[:, :3, 3]
    assert step.std() == pytest.approx(learner.STEP_SHARE * 55.0, rel=0.1)
    cosine = (np.einsum("bij,bij->b", near[:, :3, :3], T[:, :3, :3]) - 1) / 2
    assert 1.0 < np.rad2deg(np.arccos(cosine)).mean() < 6.0
    assert np.array_equal(near, nearby_poses(T, 55.0, np.random.default_rng(3)))
    assert np.array_equal(T[0], T[1])  # the recorded poses stay as they are


@pytest.mark.parametrize(
    ("camera", "kind", "told"),
    [
        (CAMERA, "relative", "relative depth"),
        (CAMERA, None, "no depth"),
        (Camera(64, 64, 0.0, 0.0, 0.0, 0.0), "metric", "not calibrated"),
        (Camera(64, 64, 60.0, 60.0, 31.5, 31.5, "plumb_bob", (0.1, 0.0, 0.0, 0.0)), "metric", "distortion"),
    ],
)
def test_what_cannot_be_warped_is_refused(camera: Camera, kind: str | None, told: str) -> None:
    with pytest.raises(UserError, match=told):
        learner.require_usable(camera, kind)
    learner.require_usable(CAMERA, "metric")
