"""Holes of sparse depth, filled before a relief learns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pose2rgbd_ros.models.relief.fuse import occupancy, spread_out


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 33), st.integers(1, 33)).flatmap(
        lambda shape: st.tuples(arrays(np.float32, shape, elements=st.floats(-1, 1, width=32)), arrays(np.bool_, shape))
    )
)
def test_what_is_told_stays_and_all_else_is_between(layer: tuple[np.ndarray, np.ndarray]) -> None:
    values, told = layer[0].copy(), layer[1].copy()
    spread_out(values, told)
    assert told.all() == layer[1].any()
    np.testing.assert_array_equal(values[layer[1]], layer[0][layer[1]])
    if layer[1].any():
        known = layer[0][layer[1]]
        assert values.min() >= known.min() - 1e-5
        assert values.max() <= known.max() + 1e-5


@pytest.mark.parametrize(("share", "most"), [(0.1, 0.02), (0.01, 0.08)])
def test_a_slope_is_found_again_from_few_of_its_points(share: float, most: float) -> None:
    slope = np.add.outer(np.linspace(-0.5, 0.5, 200), np.linspace(-0.5, 0.5, 200)).astype(np.float32)
    told = np.random.default_rng(0).random(slope.shape) < share
    values = np.where(told, slope, np.float32(9.0))
    spread_out(values, told)
    error = np.abs(values - slope)
    assert np.median(error) < most / 3
    assert np.percentile(error, 98) < most


def test_a_ground_hit_here_and_there_has_no_holes() -> None:
    """Layers 0 to 2 behind the surface, 3 and above before it; one column in thirty is hit, and nothing in one
    corner.
    """
    total, count = np.zeros((6, 150, 150), np.float32), np.zeros((6, 150, 150), np.float32)
    hit = np.random.default_rng(1).random((150, 150)) < 1 / 30
    hit[100:, 100:] = False
    count[:, hit] = 1.0
    total[:3, hit], total[3:, hit] = 1.0, -1.0
    solid = occupancy(total, count) > 0
    assert solid[2, :110, :110].all()
    assert not solid[3, :110, :110].any()
