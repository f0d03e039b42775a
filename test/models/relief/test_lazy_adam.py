"""Entries without a gradient stay; the others move by about one learning rate a visit, compiled or not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pose2rgbd_ros.models.relief import learner
from pose2rgbd_ros.models.relief.learner import LazyAdam

RATE = 0.01


def visited(table: nn.Parameter, tables: LazyAdam, gradient: torch.Tensor) -> None:
    table.grad = gradient
    tables.step({"table": RATE})
    assert table.grad is None


def test_only_what_has_a_gradient_moves_and_not_by_momentum() -> None:
    table = nn.Parameter(torch.zeros(40, 3))
    tables = LazyAdam({"table": table})
    gradient = torch.zeros(40, 3)
    gradient[7] = torch.tensor([1e-6, -1e-3, 5.0])
    visited(table, tables, gradient)
    torch.testing.assert_close(table[7], torch.tensor([-RATE, RATE, -RATE]), rtol=1e-3, atol=0)
    before = table.detach().clone()
    for _ in range(5):  # elsewhere things go on
        other = torch.zeros(40, 3)
        other[20:] = 1.0
        visited(table, tables, other)
    assert torch.equal(table[:20], before[:20])
    assert (table[20:] < -3 * RATE).all()


def test_compiled_and_plain_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for compiled in (True, False):
        monkeypatch.setattr(learner, "HAS_NUMBA", compiled and learner.HAS_NUMBA)
        generator = torch.Generator().manual_seed(0)
        table = nn.Parameter(torch.zeros(5, 7, 3))
        tables = LazyAdam({"table": table}, gather=compiled)
        for _ in range(20):
            gradient = torch.randn(5, 7, 3, generator=generator)
            gradient[torch.rand(5, 7, 3, generator=generator) < 0.7] = 0.0
            visited(table, tables, gradient)
        results.append((table.detach(), *tables.state_dict().values()))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
