"""Pairs of images of the block world with exact flow, depth and motion."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from support.blockworld import BlockWorld
from torch import Tensor

from pose2rgbd_ros.depth_from_images.triangulation import rigid_flow
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.trianflow.flow_network import resized_flow
from pose2rgbd_ros.models.trianflow.network import PairOutputs

CAMERA = Camera.from_fov(64, 48, 60.0)


class Pairs(NamedTuple):
    """Images (B, 3, H, W) and depth (B, H, W) of both, T_2_1 (B, 4, 4), K (B, 3, 3); flow both ways (B, 2, H, W),
    0 where what is seen leaves the image."""

    images_1: Tensor
    images_2: Tensor
    depth_1: Tensor
    depth_2: Tensor
    T_2_1: Tensor
    K: Tensor
    flow_1_2: Tensor
    flow_2_1: Tensor

    def outputs(self, **others: Tensor) -> PairOutputs:
        """What a perfect network would say of them, `others` (disparity_1, ...) in place of it."""
        flows = [
            [resized_flow(flow, -(-48 // 2**scale), -(-64 // 2**scale)) for scale in range(4)]
            for flow in (self.flow_1_2, self.flow_2_1)
        ]
        perfect = PairOutputs(*flows, 1 / self.depth_1, 1 / self.depth_2, self.T_2_1)
        return perfect._replace(**others)


def pairs(count: int = 2, camera: Camera = CAMERA) -> Pairs:
    """Looking down on the blocks, about 25 m below, from places 1.5 m apart."""
    world, rng = BlockWorld(seed=3), np.random.default_rng(0)
    down = np.array([1.0, 0.0, 0.0, 0.0])  # x of the image is x of the map
    found = []
    for _ in range(count):
        place = np.array([*rng.uniform(-6, 6, 2), 25.0])
        way = np.array([1.3, 0.6, 0.3]) * rng.choice([-1, 1], 3)
        T_1, T_2 = (se3.make(each, down + rng.normal(0, 0.01, 4)) for each in (place, place + way))
        (rgb_1, depth_1), (rgb_2, depth_2) = (world.render(T, camera, supersample=2) for T in (T_1, T_2))
        found.append((rgb_1, rgb_2, depth_1, depth_2, se3.inverse(T_2) @ T_1))
    rgb_1, rgb_2, depth_1, depth_2, T_2_1 = (torch.from_numpy(np.stack(each)) for each in zip(*found, strict=True))
    images_1, images_2 = (each.permute(0, 3, 1, 2).float() / 255 for each in (rgb_1, rgb_2))
    depth_1, depth_2, T_2_1 = depth_1.float(), depth_2.float(), T_2_1.float()
    K = torch.from_numpy(camera.K).float().expand(count, 3, 3)
    flows = []
    for depth, T in ((depth_1, T_2_1), (depth_2, torch.linalg.inv(T_2_1))):
        flow, valid = rigid_flow(depth, K, T)
        flows.append(torch.where(valid[:, None], flow, 0.0))
    return Pairs(images_1, images_2, depth_1, depth_2, T_2_1, K, flows[0], flows[1])
