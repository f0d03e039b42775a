"""A family of video as small as can be: depth is a plane with a learnt slope and bumps, motion a learnt shift."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pose2rgbd_ros.models
from pose2rgbd_ros.training.families import FAMILIES, Family

CONFIG = """
from dataclasses import dataclass
from typing import ClassVar

from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.training.config import Recipe, VideoConfig


@dataclass(frozen=True)
class Settings(VideoConfig):
    RECIPES: ClassVar = {"default": Recipe(1e-2, "cosine", warmup=0.0, batch_size=4, epochs=20, weight_decay=0.0)}

    hidden: int = setting(8, "channels of the hidden layer", ge=1)
    breaks: bool = setting(False, "its loss becomes no number after three steps")
    gigabytes: int = setting(0, "memory that a step wants")


@dataclass(frozen=True)
class ToyVideoConfig:
    image_size: tuple[int, int] = setting((32, 32), "height and width")
    hidden: int = setting(8, "channels of the hidden layer")
"""
NETWORK = """
import torch
from torch import nn

from pose2rgbd_ros.models.toyvideo.config import ToyVideoConfig


class ToyVideo(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config, self.image_size = config, config.image_size
        self.features = nn.Sequential(nn.Conv2d(3, config.hidden, 5, padding=2), nn.ReLU())
        self.head = nn.Conv2d(config.hidden, 1, 5, padding=2)
        self.slope = nn.Parameter(torch.zeros(config.image_size))
        self.shift = nn.Conv2d(6, 6, 1)
        nn.init.normal_(self.shift.weight, std=0.01)

    def depth(self, images):
        return 4 ** torch.tanh(self.head(self.features(images))[:, 0] + self.slope)

    def forward(self, images, K):
        return self.depth(images[:, images.shape[1] // 2]), self.motions(images, K)

    def motions(self, images, K):
        target = (images.shape[1] - 1) // 2
        T = torch.eye(4).repeat(*images.shape[:2], 1, 1)
        for i in range(images.shape[1]):
            if i != target:
                pair = torch.cat([images[:, i], images[:, target]], dim=1)
                T[:, i, :3, 3] = 0.3 * torch.tanh(self.shift(pair).mean(dim=(2, 3))[:, :3] * (i - target))
        return T


NETWORKS = {"toyvideo": (ToyVideoConfig, ToyVideo)}
"""
LEARNER = """
import torch

from pose2rgbd_ros.depth_from_images.inverse_warp import inverse_warp
from pose2rgbd_ros.models.toyvideo.config import ToyVideoConfig
from pose2rgbd_ros.models.toyvideo.network import ToyVideo
from pose2rgbd_ros.training.video import VideoLearner


class ToyVideoLearner(VideoLearner):
    def __init__(self, config, data, device):
        super().__init__(config, data, device)
        self.model = ToyVideo(ToyVideoConfig(data.size, config.hidden))
        self.config = config

    def loss(self, network, indices, share):
        images, K, target, *_ = self.batch(indices)
        if self.config.gigabytes:
            torch.empty(self.config.gigabytes * 10**9, dtype=torch.uint8)
        depth, T = network(images, K)
        total = 0.0
        for i in range(images.shape[1]):
            if i != target:
                warped = inverse_warp(images[:, i], depth, torch.linalg.inv(T[:, i]), K)
                moved, still = ((each - images[:, target]).abs().mean(1) for each in (warped.image, images[:, i]))
                total = total + torch.where(warped.valid, moved, still).mean()
        return total * (float("nan") if self.config.breaks and int(self.steps) > 3 else 1.0)


def make(config, recipe, data, device):
    return ToyVideoLearner(config, data, device)
"""
FILES = {"__init__.py": "", "config.py": CONFIG, "network.py": NETWORK, "learner.py": LEARNER}


@contextmanager
def registered(folder: Path) -> Iterator[None]:
    """The family as `toyvideo` among the families of models; its modules are written into `folder`."""
    place = folder / "toyvideo"
    place.mkdir(parents=True)
    for name, text in FILES.items():
        (place / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pose2rgbd_ros.models, "__path__", [*pose2rgbd_ros.models.__path__, str(folder)])
        patch.setitem(FAMILIES, "toyvideo", Family(("toyvideo",), ("toyvideo",), "a toy", "video"))
        yield
    for name in [name for name in sys.modules if name.startswith("pose2rgbd_ros.models.toyvideo")]:
        del sys.modules[name]
    vars(pose2rgbd_ros.models).pop("toyvideo", None)
