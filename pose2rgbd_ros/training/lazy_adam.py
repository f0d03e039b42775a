"""Adam for large tables of which a step touches little.

Plain Adam goes on moving an entry by its momentum for as long as nobody looks at it, and by a multiple of the learning
rate that grows with the time between visits: thirtyfold at its usual settings. Here only entries with a gradient move,
about one learning rate a visit, as in PyTorch's ``SparseAdam``. On a CPU the gradients are gathered with marks of what
was touched (models/relief/lookup.py), so that the rest costs nothing: tables may be as fine as memory allows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.models.relief.lookup import Gathered, gathered
from pose2rgbd_ros.models.relief.lookup_numba import BLOCK
from pose2rgbd_ros.models.relief.march_numba import AVAILABLE, compiled

# With these a first visit moves an entry by one learning rate: (1 - KEEP_MEAN) = sqrt(1 - KEEP_SQUARE).
KEEP_MEAN, KEEP_SQUARE = 0.9, 0.99
LEAST = 1e-12  # gradients of a mean over many pixels are small


class LazyAdam(nn.Module):
    """Moments of some parameters, kept as buffers so that they are saved and resumed with the learner."""

    def __init__(self, tables: Mapping[str, nn.Parameter], gather: bool = False) -> None:
        """`tables`: by any names; they must be contiguous, and in no optimiser beside this.

        gather: have their gradients gathered, for one process on a CPU; others reduce dense gradients.
        """
        super().__init__()
        self._tables = dict(tables)
        for name, table in self._tables.items():
            self.register_buffer(f"mean_{name}", torch.zeros_like(table, requires_grad=False))
            self.register_buffer(f"square_{name}", torch.zeros_like(table, requires_grad=False))
            if gather and AVAILABLE:
                Gathered(table)

    def release(self) -> None:
        """Let go of the gathered gradients: the tables learn no more, or by another optimiser."""
        for table in self._tables.values():
            if gathered(table) is not None:
                del table.gathered  # type: ignore[attr-defined]

    @torch.no_grad()
    def step(self, rates: Mapping[str, float]) -> None:
        """Move each table against its gradient at its learning rate, and forget the gradient."""
        for name, table in self._tables.items():
            mean, square = getattr(self, f"mean_{name}"), getattr(self, f"square_{name}")
            kept = gathered(table)
            if kept is not None:
                if table.grad is not None:  # of a lookup that was not compiled
                    kept.add(table.grad)
                flat = (values.detach().view(-1).numpy() for values in (table, mean, square))
                move(kept.values, kept.marks, *flat, np.float32(rates[name]))
            elif table.grad is not None:
                _move(table, table.grad, mean, square, rates[name])
            table.grad = None


def _move(table: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, rate: float) -> None:
    """One step in PyTorch, on any device."""
    touched = gradient != 0
    mean.copy_(torch.where(touched, KEEP_MEAN * mean + (1 - KEEP_MEAN) * gradient, mean))
    square.copy_(torch.where(touched, KEEP_SQUARE * square + (1 - KEEP_SQUARE) * gradient.square(), square))
    table.sub_(torch.where(touched, rate * mean / (square.sqrt() + LEAST), 0.0))


@compiled
def move(gradient, marks, table, mean, square, rate):
    """One step, all flat float32 but the marks of the gradient's blocks; both are cleared."""
    keep_mean, keep_square, least = np.float32(KEEP_MEAN), np.float32(KEEP_SQUARE), np.float32(LEAST)
    one = np.float32(1)
    for block in range(len(marks)):
        if marks[block] == 0:
            continue
        marks[block] = 0
        for i in range(block * BLOCK, min((block + 1) * BLOCK, len(table))):
            g = gradient[i]
            if g != np.float32(0):
                gradient[i] = np.float32(0)
                mean[i] = keep_mean * mean[i] + (one - keep_mean) * g
                square[i] = keep_square * square[i] + (one - keep_square) * g * g
                table[i] -= rate * mean[i] / (np.sqrt(square[i]) + least)
