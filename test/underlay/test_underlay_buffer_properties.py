"""Lookups through random trees agree with interpolated 4x4 matrices multiplied by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tf2_ros
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from rclpy.time import Time
from scipy.spatial.transform import Rotation, Slerp

seeds = st.integers(0, 2**32 - 1)


class Edge:
    """A random history of one frame, and what the interpolated transform is by scipy."""

    def __init__(self, rng: np.random.Generator, samples: int) -> None:
        inner_ns = rng.choice(np.arange(1, 10_000), samples, replace=False) * 1_000_003
        self.stamps_ns = np.sort(np.concatenate([[0, 10_000_000_000], inner_ns])) + 1_700_000_000_000_000_000
        self.positions_m = rng.normal(0.0, 100.0, (samples + 2, 3))
        self.quats_xyzw = Rotation.random(samples + 2, random_state=rng).as_quat()
        dots = np.abs(np.sum(self.quats_xyzw[1:] * self.quats_xyzw[:-1], axis=1))
        assume(dots.min() > 1e-3)  # half a turn apart there are two shortest ways

    def matrix(self, stamp_ns: int) -> np.ndarray:
        since_ns = self.stamps_ns - self.stamps_ns[0]  # floats hold these exactly, absolute stamps not
        when_ns = stamp_ns - self.stamps_ns[0]
        matrix = np.identity(4)
        matrix[:3, :3] = Slerp(since_ns, Rotation.from_quat(self.quats_xyzw))(when_ns).as_matrix()
        matrix[:3, 3] = [np.interp(when_ns, since_ns, axis) for axis in self.positions_m.T]
        return matrix

    def tell(self, buffer, make_transform, parent: str, child: str, order: np.ndarray) -> None:
        for index in order:
            message = make_transform(parent, child, 0.0, self.positions_m[index], self.quats_xyzw[index])
            sec, nanosec = divmod(int(self.stamps_ns[index]), 1_000_000_000)
            message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
            buffer.set_transform(message, "test")


def branch(rng: np.random.Generator, buffer, make_transform, name: str, length: int) -> list[Edge]:
    """Edges root -> name0 -> name1 ..., told in random order."""
    edges = [Edge(rng, int(rng.integers(0, 6))) for _ in range(length)]
    frames = ["root", *(f"{name}{depth}" for depth in range(length))]
    for edge, parent, child in zip(edges, frames[:-1], frames[1:], strict=True):
        edge.tell(buffer, make_transform, parent, child, rng.permutation(len(edge.stamps_ns)))
    return edges


def product(edges: list[Edge], stamp_ns: int) -> np.ndarray:
    result = np.identity(4)
    for edge in edges:
        result = result @ edge.matrix(stamp_ns)
    return result


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=seeds, left=st.integers(0, 4), right=st.integers(0, 4), when=st.floats(0.0, 1.0))
def test_lookup_is_the_product_of_interpolated_edges(make_transform, matrix_of, seed, left, right, when):
    rng = np.random.default_rng(seed)
    buffer = tf2_ros.Buffer()
    left_edges = branch(rng, buffer, make_transform, "left", left)
    right_edges = branch(rng, buffer, make_transform, "right", right)
    stamp_ns = 1_700_000_000_000_000_000 + int(when * 10_000_000_000)
    target = f"left{left - 1}" if left else "root"
    source = f"right{right - 1}" if right else "root"
    expected = np.linalg.inv(product(left_edges, stamp_ns)) @ product(right_edges, stamp_ns)

    found = buffer.lookup_transform(target, source, Time(nanoseconds=stamp_ns))
    assert matrix_of(found) == pytest.approx(expected, abs=1e-6)
    assert found.header.stamp.sec * 1_000_000_000 + found.header.stamp.nanosec == stamp_ns
    back = matrix_of(buffer.lookup_transform(source, target, Time(nanoseconds=stamp_ns)))
    assert back @ expected == pytest.approx(np.identity(4), abs=1e-6)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=seeds, times=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)))
def test_full_lookup_goes_through_the_fixed_frame(make_transform, matrix_of, seed, times):
    rng = np.random.default_rng(seed)
    buffer = tf2_ros.Buffer()
    edges = branch(rng, buffer, make_transform, "body", 2)
    target_ns, source_ns = (1_700_000_000_000_000_000 + int(time * 10_000_000_000) for time in times)
    found = buffer.lookup_transform_full(
        "body1", Time(nanoseconds=target_ns), "body1", Time(nanoseconds=source_ns), "root"
    )
    expected = np.linalg.inv(product(edges, target_ns)) @ product(edges, source_ns)
    assert matrix_of(found) == pytest.approx(expected, abs=1e-6)
