"""A discriminator or regressor with its weights worked out: the same answers, without normalising them at each query."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import nn

from pose2rgbd_ros.models.posegan.blocks import Conv, Linear, spread_kernel

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def plain(module: M) -> M:
    """A copy in evaluation mode: spectral normalisation divided out, strided kernels summed."""
    made = copy.deepcopy(module).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for parent in list(made.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, Conv) and part.kernel_size == (3, 3) and part.resize in ("", "down"):
                setattr(parent, name, _convolution(part))
            elif isinstance(part, (Conv, Linear)):
                part.weight.copy_(part.used_weight())
                part.norm = nn.Identity()
    return made.requires_grad_(False)


def _convolution(part: Conv) -> nn.Module:
    assert part.bias is not None
    weight, stride = part.used_weight(), 1
    if part.resize == "down":
        weight, stride = spread_kernel(weight) / 4, 2
    made = nn.Conv2d(
        part.in_channels, part.out_channels, weight.shape[-1], stride, padding=1, device=weight.device
    )
    made.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
    made.bias = part.bias
    return made


class PlainCopy:
    """Keeps the copy between queries; whoever changes the network calls `forget`."""

    def __init__(self) -> None:
        self._made: Any = None

    def of(self, module: M) -> M:
        """The network itself while it learns or somebody wants gradients, else its copy."""
        if module.training or torch.is_grad_enabled():
            return module
        if self._made is None:
            self._made = plain(module)
        made: M = self._made
        return made

    def forget(self) -> None:
        self._made = None

    def __deepcopy__(self, memo: Any) -> PlainCopy:
        return PlainCopy()
