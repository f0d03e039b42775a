"""What a training cannot open, for tests that measure a learner on it."""

from __future__ import annotations

from dataclasses import replace

import torch

from pose2rgbd_ros.dataset.reader import frame_cache
from pose2rgbd_ros.training.data import TrainingData


def unsealed(data: TrainingData) -> TrainingData:
    """The same data with every frame readable."""
    T_map_cam, size = data.dataset.T_map_cam, data.cache.camera.width
    poses = torch.from_numpy(data.normalization.encode_pose(T_map_cam))
    cache = frame_cache(data.dataset, size, margin=data.margin)
    wide = frame_cache(data.dataset, size + 2 * data.margin) if data.margin else None
    return replace(data, cache=cache, wide=wide, T_map_cam=T_map_cam, poses=poses)
