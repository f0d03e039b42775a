"""A random relief that remembers photographs: noise, seen from some places above it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from support.random_relief import random_relief

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.memory import as_jpegs
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.models.relief.remember import ANGLE_RAD, REACH

STEP_M = 0.002


def remembering_relief(seed: int = 0, frames: int = 9, side: int = 48, shift: int = 1, **config: Any) -> Relief:
    """Frames of `side` pixels whose depth is what the relief itself meets, with gains of their own."""
    generator = np.random.default_rng(seed)
    camera = Camera.from_fov(side, side, 80.0)
    blobs = generator.integers(0, 256, (frames, side // 4, side // 4, 3), np.uint8)
    jpeg, ends = as_jpegs(blobs.repeat(4, 1).repeat(4, 2))
    model = random_relief(
        seed,
        memory_frames=frames,
        memory_width=side,
        memory_height=side,
        memory_shift=shift,
        memory_bytes=len(jpeg),
        memory_depth_m=STEP_M,
        **{"memory_reach": REACH, "memory_angle_rad": ANGLE_RAD, **config},
    )
    eye = np.concatenate([generator.uniform(-18, 18, (frames, 2)), generator.uniform(15, 30, (frames, 1))], 1)
    T_map_cam = se3.look_at(eye, eye * (1, 1, 0) + generator.uniform(-6, 6, (frames, 3)))
    rays = torch.from_numpy(camera.resized(side >> shift, side >> shift).rays()).reshape(-1, 3)
    origin, direction = model.volume.rays(torch.from_numpy(T_map_cam), rays)
    origin = origin[:, None].expand(direction.shape)
    t = model.volume.hits(origin.reshape(-1, 3), direction.reshape(-1, 3)).t.numpy()
    steps = np.rint(np.nan_to_num(t) / STEP_M).astype(np.uint16).reshape(frames, side >> shift, side >> shift)
    poses = se3.inverse(model.config.T_map_vol) @ T_map_cam
    assert model.memory is not None
    model.memory.keep(jpeg, ends, steps, poses, camera)
    light = np.stack([generator.uniform(0.8, 1.2, (frames, 3)), generator.uniform(-0.1, 0.1, (frames, 3))], 1)
    model.memory.correct(poses, light.astype(np.float32))
    return model
