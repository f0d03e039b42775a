"""Adam for large tables of which a step touches little.

Plain Adam goes on moving an entry by its momentum for as long as nobody looks at it, and by a multiple of the learning
rate that grows with the time between visits: thirtyfold at its usual settings. Here only entries with a gradient move,
about one learning rate a visit, as in PyTorch's ``SparseAdam``; and what did not move costs no more than a look.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.models.relief.march_numba import AVAILABLE, compiled

# With these a first visit moves an entry by one learning rate: (1 - KEEP_MEAN) = sqrt(1 - KEEP_SQUARE).
KEEP_MEAN, KEEP_SQUARE = 0.9, 0.99
LEAST = 1e-12  # gradients of a mean over many pixels are small
_BLOCK = 16


class LazyAdam(nn.Module):
    """Moments of some parameters, kept as buffers so that they are saved and resumed with the learner."""

    def __init__(self, tables: Mapping[str, nn.Parameter]) -> None:
        """`tables`: by any names; they must be contiguous, and in no optimiser beside this."""
        super().__init__()
        self._tables = dict(tables)
        for name, table in self._tables.items():
            self.register_buffer(f"mean_{name}", torch.zeros_like(table, requires_grad=False))
            self.register_buffer(f"square_{name}", torch.zeros_like(table, requires_grad=False))

    @torch.no_grad()
    def step(self, rates: Mapping[str, float]) -> None:
        """Move each table against its gradient at its learning rate, and forget the gradient."""
        for name, table in self._tables.items():
            if table.grad is None:
                continue
            mean, square = getattr(self, f"mean_{name}"), getattr(self, f"square_{name}")
            if AVAILABLE and table.device.type == "cpu":
                parts = (table, table.grad.contiguous(), mean, square)
                flat = [values.detach().view(-1).numpy() for values in parts]
                move(*flat, flat[1].view(np.int32), np.float32(rates[name]))
            else:
                _move(table, table.grad, mean, square, rates[name])
            table.grad = None


def _move(table: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, rate: float) -> None:
    """One step in PyTorch, on any device."""
    touched = gradient != 0
    mean.copy_(torch.where(touched, KEEP_MEAN * mean + (1 - KEEP_MEAN) * gradient, mean))
    square.copy_(torch.where(touched, KEEP_SQUARE * square + (1 - KEEP_SQUARE) * gradient.square(), square))
    table.sub_(torch.where(touched, rate * mean / (square.sqrt() + LEAST), 0.0))


@compiled
def move(table, gradient, mean, square, bits, rate):
    """One step, all flat float32; `bits` is the gradient read as int32, which tells fast that a stretch is all zero."""
    keep_mean, keep_square, least = np.float32(KEEP_MEAN), np.float32(KEEP_SQUARE), np.float32(LEAST)
    one = np.float32(1)
    for start in range(0, len(table), _BLOCK):
        stop = min(start + _BLOCK, len(table))
        any_bit = 0
        for i in range(start, stop):
            any_bit |= bits[i]
        if any_bit == 0:
            continue
        for i in range(start, stop):
            g = gradient[i]
            if g != np.float32(0):
                mean[i] = keep_mean * mean[i] + (one - keep_mean) * g
                square[i] = keep_square * square[i] + (one - keep_square) * g * g
                table[i] -= rate * mean[i] / (np.sqrt(square[i]) + least)
