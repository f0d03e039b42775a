"""A discriminator or regressor with its weights worked out: the same answers, without normalising them at each query."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import nn

from pose2rgbd_ros.models.posegan.blocks import Conv, spread_kernel

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def plain(module: M) -> M:
    """A copy in evaluation mode: spectral normalisation divided out, strided kernels summed."""
    made = copy.deepcopy(module).eval()
    for parent in list(made.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, (nn.Conv2d, nn.Linear)):
                setattr(parent, name, _worked_out(part))
    return made.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _worked_out(part: nn.Conv2d | nn.Linear) -> nn.Module:
    """A new layer of the weights as they are used; PyTorch's own way would take them from the original too."""
    weight, made = part.weight, None
    if isinstance(part, nn.Linear):
        made = nn.Linear(part.in_features, part.out_features, part.bias is not None)
    elif isinstance(part, Conv) and part.resize == "down" and part.kernel_size == (3, 3):
        made = nn.Conv2d(part.in_channels, part.out_channels, 4, stride=2, padding=1)
        weight = spread_kernel(weight) / 4
    elif isinstance(part, Conv):
        made = Conv(part.in_channels, part.out_channels, part.kernel_size[0], part.resize)
    else:
        return part
    made.weight.copy_(weight)
    if part.bias is not None:
        made.bias.copy_(part.bias)
    return made.to(weight.device)


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
