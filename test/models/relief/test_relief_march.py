"""The march against what is known by hand and against dense sampling; the compiled march against the reference."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pose2rgbd_ros.models.relief import kernels
from pose2rgbd_ros.models.relief.kernels import highest_layers, march_fast
from pose2rgbd_ros.models.relief.march import (
    FLOOR,
    HIT,
    INSIDE,
    SKY,
    Hits,
    find_planes,
    march,
    refine,
    sample,
    sample_plane,
)

MARCHES = [
    pytest.param(march, id="reference"),
    pytest.param(
        march_fast, id="compiled", marks=pytest.mark.skipif(not kernels.HAS_NUMBA, reason="numba is not installed")
    ),
]


def block(seed: int, shape: tuple[int, int, int]) -> Tensor:
    """Towers of random height and size, with noise: solid mostly at the bottom."""
    rng = np.random.default_rng(seed)
    layers, rows, columns = shape
    height = rng.uniform(-2, layers, (rows, columns)) * (rng.random((rows, columns)) < 0.3)
    logits = height[None] - np.arange(layers)[:, None, None] + rng.normal(0, 0.5, shape)
    return torch.from_numpy(logits.astype(np.float32))


def rays(seed: int, shape: tuple[int, int, int], count: int = 400) -> tuple[Tensor, Tensor]:
    """Origins in and about the block, all directions, some along an axis or flat."""
    rng = np.random.default_rng(seed)
    size = np.array(shape[::-1]) - 1.0
    origin = rng.uniform(-0.7, 1.7, (count, 3)) * size
    direction = rng.normal(size=(count, 3))
    direction[: count // 2, 2] = -np.abs(direction[: count // 2, 2]) * 3
    direction[::7, 2] = 0.0
    direction[::11, 0] = 0.0
    direction[::13, :2] = 0.0
    origin[::5] = np.round(origin[::5])  # on planes and vertices
    return torch.from_numpy(origin.astype(np.float32)), torch.from_numpy(direction.astype(np.float32))


def one(march_: object, logits: Tensor, origin: list[float], direction: list[float]) -> tuple[int, float]:
    hits: Hits = march_(logits, torch.tensor([origin]), torch.tensor([direction]))  # type: ignore[operator]
    return int(hits.state[0]), float(hits.t[0])


def tower() -> Tensor:
    """(9, 8, 8) empty but for a tower with flat roof at z = 5.5 and walls at 2.5 < x, y < 5.5."""
    logits = torch.full((9, 8, 8), -1.0)
    logits[:6, 3:6, 3:6] = 1.0
    return logits


@pytest.mark.parametrize("march_", MARCHES)
@pytest.mark.parametrize(
    ("origin", "direction", "state", "t"),
    [
        ([4.0, 4.0, 20.0], [0, 0, -1.0], HIT, 14.5),  # the roof from above the block
        ([4.0, 4.0, 7.25], [0, 0, -1.0], HIT, 1.75),  # from within, between planes
        ([4.0, 4.0, 5.75], [0, 0, -0.5], HIT, 0.5),  # a quarter of a layer above the roof: not inside it
        ([4.0, 4.0, 5.25], [0, 0, -1.0], INSIDE, np.nan),
        ([-3.0, 4.0, 2.0], [1.0, 0, 0], HIT, 5.5),  # the wall along a flat ray
        ([9.0, 4.0, 2.0], [-2.0, 0, 0], HIT, 1.75),
        ([4.0, 12.0, 2.0], [0, -1.0, 0], HIT, 6.5),
        ([0.5, 0.5, 6.0], [0, 0, -1.0], FLOOR, 6.0),
        ([4.0, 4.0, 0.5], [0, 0, -1.0], INSIDE, np.nan),
        ([0.5, 0.5, 0.5], [0, 0, -1.0], FLOOR, 0.5),  # below the first layer
        ([30.0, 4.0, 6.0], [1.0, 0, -1.0], FLOOR, 6.0),  # never in the block
        ([0.5, 4.0, 6.5], [1.0, 0, -0.01], FLOOR, 650.0),  # over the roof, far out
        ([0.5, 4.0, 6.5], [1.0, 0, 0], SKY, np.nan),
        ([0.5, 4.0, 6.5], [0, 0, 1.0], SKY, np.nan),
        ([0.5, 4.0, -0.5], [0, 0, 1.0], INSIDE, np.nan),  # below ground
        ([0.5, 4.0, 6.5], [np.nan, 0, -1.0], SKY, np.nan),  # a pixel without a ray
    ],
)
def test_a_tower_is_met_where_it_stands(march_, origin, direction, state, t) -> None:
    assert one(march_, tower(), origin, direction) == (state, pytest.approx(t, abs=1e-4, nan_ok=True))


@pytest.mark.parametrize("march_", MARCHES)
def test_a_ray_that_enters_where_the_block_is_solid_meets_it_at_its_side(march_) -> None:
    logits = torch.ones(4, 6, 6)
    assert one(march_, logits, [-2.0, 2.0, 1.5], [1.0, 0, 0]) == (HIT, pytest.approx(2.0))
    assert one(march_, logits, [2.0, 2.0, 10.0], [0, 0, -1.0]) == (HIT, pytest.approx(7.0))


@pytest.mark.parametrize("march_", MARCHES)
def test_no_rays(march_) -> None:
    assert len(march_(tower(), torch.zeros(0, 3), torch.zeros(0, 3)).t) == 0


@pytest.mark.parametrize("march_", MARCHES)
def test_surface_lies_on_the_zero_of_the_samples_and_nothing_solid_before_it(march_) -> None:
    shape = (12, 17, 15)
    logits, (origin, direction) = block(3, shape), rays(4, shape, 3000)
    hits = march_(logits, origin, direction)
    assert all((hits.state == state).sum() > 20 for state in (HIT, FLOOR, SKY, INSIDE))
    hit = hits.state == HIT
    between = (hits.t[hit] >= hits.t_before[hit]) & (hits.t[hit] <= hits.t_after[hit])
    assert between.all()
    for t, logit in ((hits.t_before, hits.logit_before), (hits.t_after, hits.logit_after)):
        chosen = hit & (logit != 0)
        found = sample(logits, (origin + t[:, None] * direction)[chosen])
        torch.testing.assert_close(found, logit[chosen], atol=2e-4, rtol=0)
    planes = find_planes(shape, origin, direction)
    for j in range(int(planes.total.max())):
        t = planes.t_first + j * planes.dt
        looked_at = (j < planes.total) & (hits.state != INSIDE) & ~(t >= hits.t_before - 1e-3)
        position = (origin + t[:, None] * direction)[looked_at]
        assert (sample(logits, position) <= 1e-3).all()


@settings(max_examples=60, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(2, 14), st.integers(2, 20), st.integers(2, 20)),
    threads=st.sampled_from([1, 2]),
)
@pytest.mark.skipif(not kernels.HAS_NUMBA, reason="numba is not installed")
def test_compiled_equals_reference(seed: int, shape: tuple[int, int, int], threads: int) -> None:
    logits, (origin, direction) = block(seed, shape), rays(seed + 1, shape)
    expected, found = march(logits, origin, direction), march_fast(logits, origin, direction, threads)
    assert torch.equal(found.state, expected.state)
    for name, values in expected._asdict().items():
        torch.testing.assert_close(
            getattr(found, name), values, atol=1e-5, rtol=1e-5, equal_nan=True, msg=f"{name} differs"
        )


@pytest.mark.skipif(not kernels.HAS_NUMBA, reason="numba is not installed")
def test_rays_are_shared_among_threads_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_RAYS_A_TASK", 7)
    logits, (origin, direction) = block(1, (6, 9, 9)), rays(2, (6, 9, 9))
    expected, found = march(logits, origin, direction), march_fast(logits, origin, direction, threads=3)
    torch.testing.assert_close(found.t, expected.t, equal_nan=True)


@pytest.mark.skipif(not kernels.HAS_NUMBA, reason="numba is not installed")
@settings(max_examples=20, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_highest_layer_of_each_cell(seed: int) -> None:
    logits = block(seed, (5, 7, 6)) - 1
    solid = (logits > 0).numpy()
    layer = np.where(solid, np.arange(5)[:, None, None], -1).max(axis=0)
    expected = np.maximum.reduce([layer[:-1, :-1], layer[1:, :-1], layer[:-1, 1:], layer[1:, 1:]])
    np.testing.assert_array_equal(highest_layers(logits.numpy())[0], expected)


def test_gradients_of_the_refined_surface() -> None:
    logits = tower().requires_grad_()
    origin, direction = (torch.tensor([[4.2, 4.3, 20.0], [-3.0, 4.1, 2.2]]), torch.tensor([[0, 0, -1.0], [1, 0, 0]]))
    hits, axis = march(logits, origin, direction), torch.tensor([2, 0])
    ends = [sample_plane(logits, origin + t[:, None] * direction, axis) for t in (hits.t_before, hits.t_after)]
    t = refine(hits.t_before, hits.t_after, *ends)
    torch.testing.assert_close(t.detach(), hits.t)
    t.sum().backward()
    assert logits.grad is not None
    # More solid is nearer; only the four corners of either sample take part.
    assert (logits.grad <= 0).all()
    assert (logits.grad != 0).sum() == 16


def test_works_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "HAS_NUMBA", False)
    monkeypatch.setattr(kernels, "march_rays", None)
    logits, (origin, direction) = block(1, (6, 9, 9)), rays(2, (6, 9, 9))
    expected, found = march(logits, origin, direction), march_fast(logits, origin, direction)
    torch.testing.assert_close(found.t, expected.t, equal_nan=True)


def test_imports_without_numba() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from pose2rgbd_ros.models.relief import kernels as m\n"
        "import pose2rgbd_ros.models.relief.render_kernels\n"
        "from pose2rgbd_ros.models import backends\n"
        "assert not m.HAS_NUMBA and 'numba' in backends.WHY_NO_NUMBA\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not kernels.HAS_NUMBA, reason="numba is not installed")
def test_compiles_where_no_folder_can_be_written_to() -> None:
    """As in a container whose package and home are read-only: compiled at every start, not an error."""
    code = (
        "from numba.core import caching\n"
        "caching._CacheLocator.ensure_cache_path = lambda self: (_ for _ in ()).throw(OSError('read-only'))\n"
        "import torch\n"
        "from pose2rgbd_ros.models.relief import kernels as m\n"
        "hits = m.march_fast(-torch.ones(3, 4, 4), torch.tensor([[1.0, 1, 5]]), torch.tensor([[0.0, 0, -1]]))\n"
        "assert float(hits.t) == 5\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not kernels.HAS_NUMBA, reason="numba is not installed")
def test_every_finite_half_precision_number_is_read_to_the_bit() -> None:
    import numba

    from pose2rgbd_ros.models.relief.simd import number_at, pointer

    @numba.njit
    def read(values: Any, numbers: Any) -> None:
        at = pointer(values)
        for index in range(len(numbers)):
            numbers[index] = number_at(at, index)

    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = values[np.isfinite(values)]
    for stored in (values.view(np.uint16), values.astype(np.float32)):
        numbers = np.empty(len(values), np.float32)
        read(stored, numbers)
        np.testing.assert_array_equal(numbers.view(np.uint32), values.astype(np.float32).view(np.uint32))
