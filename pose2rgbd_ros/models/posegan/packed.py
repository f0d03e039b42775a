"""A convolution whose kernel waits in the order in which oneDNN reads it.

PyTorch brings the kernel into that order anew at every call, which for one image is a fifth of the discriminator's time.
`torch.compile` avoids it by the two operators used here, after seconds of work by a compiler that not every machine has.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_OPERATORS = ("_reorder_convolution_weight", "_convolution_pointwise")  # of PyTorch's own, so they may go


def can_pack(weight: Tensor) -> bool:
    """Whether this machine, this PyTorch and this kernel can do it."""
    usable = weight.device.type == "cpu" and weight.dtype == torch.float32
    return (
        usable
        and torch.backends.mkldnn.is_available()
        and all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS)
    )


class PackedConv(nn.Module):
    """Weight (O, I, K, K), bias (O,): the same answers as nn.Conv2d, to rounding; no gradients."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int, padding: int) -> None:
        super().__init__()
        self._weight, self._bias = weight, bias
        self._stride, self._padding = [stride] * 2, [padding] * 2
        self._packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) -> (B, O, H', W'). The order that is best depends on the size of the first images."""
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(
                self._weight, self._padding, self._stride, [1, 1], 1, list(x.shape)
            )
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._packed, self._bias, self._padding, self._stride, [1, 1], 1, "none", [], ""
        )
        return out
