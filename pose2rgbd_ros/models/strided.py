"""Strided convolutions of a single pixel, which oneDNN gets wrong."""

from __future__ import annotations

from torch import Tensor, nn


class StridedPointwise(nn.Conv2d):
    """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride), rounded up: a 1 x 1 convolution of every stride-th
    pixel, and the weights of one.

    nn.Conv2d with that stride, on an x86 processor, channels last and fewer inputs than a register holds (16), gives
    wrong gradients and writes beyond its memory: a training ends with a crash after minutes (uxlfoundation/oneDNN#6035,
    in PyTorch 2.13). Picking the pixels first is the same function, and without a stride nothing is wrong.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 1, bias=bias)
        self._every = stride

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[..., :: self._every, :: self._every])
