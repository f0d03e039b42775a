"""Lookups compiled for a CPU and those of plain PyTorch: the same values, the same gradients, gathered or not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pose2rgbd_ros.models.relief import lookup
from pose2rgbd_ros.models.relief.charts import layout
from pose2rgbd_ros.models.relief.kernels import HAS_NUMBA
from pose2rgbd_ros.models.relief.lookup import Gathered, chart_codes, sample_charts, sample_grid, sample_maps

SHAPES, TEXELS_M = ((7, 9), (5, 6), (3, 4)), (0.5, 1.0, 2.0)
STARTS = (0, 63, 93)
GRID = (3, 5, 7)


def points(count: int, high: tuple[float, ...]) -> Tensor:
    """Points over the table and beyond its edges, some exactly at them."""
    generator = torch.Generator().manual_seed(1)
    random = torch.rand(count, len(high), generator=generator) * 1.4 - 0.2
    random[:2] = torch.tensor([[0.0], [1.0]])
    return random * torch.tensor(high)


def of_grid(table: Tensor) -> Tensor:
    return sample_grid(table, points(400, (6.0, 4.0, 2.0)), GRID)


def of_maps(table: Tensor) -> Tensor:
    shares = torch.rand(400, 3, generator=torch.Generator().manual_seed(2))
    shares[::5, 0] = 0.0
    return sample_maps(table, points(400, (4.0, 3.0)), shares, STARTS, SHAPES, TEXELS_M)


def of_charts(table: Tensor) -> Tensor:
    where = points(400, (4.0, 4.0, 4.0))
    shares = torch.rand(400, 2, generator=torch.Generator().manual_seed(2))
    shares[::5, 0] = 0.0
    codes = torch.tensor([0, 1, 2, -1, 3, 4, 5, -1], dtype=torch.int32).reshape(2, 2, 2)
    return sample_charts(table, where, chart_codes(codes, where, 2.0), shares, layout(2, 2.0))


@pytest.mark.skipif(not HAS_NUMBA, reason="numba is not installed")
@pytest.mark.parametrize(("read", "rows"), [(of_grid, 105), (of_maps, 105), (of_charts, 26)])
def test_compiled_plain_and_gathered_agree(read: object, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(read)
    answers = []
    for compiled, gather in ((True, False), (False, False), (True, True)):
        monkeypatch.setattr(lookup, "HAS_NUMBA", compiled)
        table = nn.Parameter(torch.randn(rows, 8, generator=torch.Generator().manual_seed(0)))
        kept = Gathered(table) if gather else None
        for _ in range(2):  # gradients add up
            values = read(table)
            (values * torch.linspace(-1, 1, values.numel()).reshape(values.shape)).sum().backward()
        if kept is None:
            assert table.grad is not None
            gradient = table.grad
        else:
            assert table.grad is None
            gradient = torch.from_numpy(kept.values).reshape(rows, 8)
            touched = torch.from_numpy(kept.marks).bool().repeat_interleave(16)[: rows * 8].reshape(rows, 8)
            assert not gradient[~touched].any()
        answers.append((values.detach(), gradient))
    for others in answers[1:]:
        for ours, theirs in zip(answers[0], others, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert answers[0][1].abs().max() > 0.1
