"""ResNet-18 and -34 as trunks of PoseNet, written after He et al., "Deep Residual Learning for Image Recognition" (2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STAGES = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
FIRST_CHANNELS = 64


class BasicBlock(nn.Module):
    """Twice conv 3 x 3 and BN, added to what came in; a 1 x 1 convolution fits that where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(h)) + self.shortcut(x))


class ResNet(nn.Module):
    """Images (B, 3, S, S) -> features (B, F), F = 512 at width 1: the network without its last layer."""

    def __init__(self, name: str, width: float) -> None:
        super().__init__()
        channels = [max(4, round((FIRST_CHANNELS << stage) * width)) for stage in range(4)]
        self.start = nn.Sequential(
            nn.Conv2d(3, channels[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        blocks: list[nn.Module] = []
        before = channels[0]
        for stage, count in enumerate(STAGES[name]):
            for index in range(count):
                blocks.append(BasicBlock(before, channels[stage], 2 if stage and index == 0 else 1))
                before = channels[stage]
        self.blocks = nn.Sequential(*blocks)
        self.features = before
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        pooled: Tensor = torch.mean(self.blocks(self.start(image)), dim=(2, 3))
        return pooled
