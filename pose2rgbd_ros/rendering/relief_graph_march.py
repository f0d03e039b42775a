"""The march of models/relief/march.py as ONNX nodes: one loop over the planes for all rays, until all are stopped."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from onnx import TensorProto, helper

from pose2rgbd_ros.models.relief.march import TOLERANCE
from pose2rgbd_ros.rendering.onnx_graph import Graph
from pose2rgbd_ros.rendering.onnx_values import KINDS, Value, constant

Triple = tuple[Value, Value, Value]


class Met(NamedTuple):
    """Per ray (N,): t, NaN where nothing is met, and by how much the logit rises at a surface, 0 at the floor."""

    t: Value
    rise: Value


class _Axes(NamedTuple):
    """Per ray what belongs to its dominant axis, and to the two axes u and v across it.

    Plane j has the number first + j * step and is met at t_first + j * dt, at (u_first + j * du, v_first + j * dv).
    total: planes; size: vertices; to: distance of neighbours in the row of logits.
    """

    total: Value
    first: Value
    step: Value
    to: Value
    t_first: Value
    dt: Value
    u_first: Value
    du: Value
    size_u: Value
    to_u: Value
    v_first: Value
    dv: Value
    size_v: Value
    to_v: Value


def march_nodes(
    graph: Graph, logits: Value, shape: tuple[int, int, int], origin: Triple, direction: Triple
) -> Met:
    """Rays in grid units: origin (1,) each and direction (N,) each, 0 for a pixel without a ray; logits in a row."""
    sizes = (shape[2], shape[1], shape[0])
    still = [d.equals(0.0) for d in direction]
    inverse = [1.0 / is_still.where(d * 0.0 + 1.0, d) for d, is_still in zip(direction, still, strict=True)]
    within = [(o >= 0.0) & (o <= size - 1.0) for o, size in zip(origin, sizes, strict=True)]
    from_inside = within[0] & within[1] & within[2]
    entry, leave = _slab(origin, inverse, still, within, sizes)
    axes = _axes(graph, sizes, origin, direction, inverse, entry, leave)

    base, fractions = _cell3(origin, sizes)
    at_origin = from_inside.where(_trilinear(logits, base, sizes, fractions), -1.0)
    inside = (origin[2] <= 0.0) | (at_origin > 0.0)
    count = inside.where(constant(graph, 0, np.int64), axes.total)
    t_before = from_inside.where(constant(graph, 0.0), np.nan) + direction[0] * 0.0
    logit_before = at_origin + direction[0] * 0.0
    hit, t_before, logit_before, t_after, logit_after = _loop(
        graph, logits, axes._replace(total=count), t_before, logit_before
    )

    falling = (direction[2] < 0.0) & (origin[2] > 0.0)
    t_floor = falling.where((0.0 - origin[2]) * inverse[2], 0.0)
    x, y = origin[0] + t_floor * direction[0], origin[1] + t_floor * direction[1]
    on_floor = falling & (x >= 0.0) & (x <= sizes[0] - 1.0) & (y >= 0.0) & (y <= sizes[1] - 1.0)
    (i, u), (j, v) = _cell(x, sizes[0]), _cell(y, sizes[1])
    logit = _bilinear(logits, j * sizes[0] + i, 1, sizes[0], u, v)
    open_ray = ~hit & ~inside
    above = open_ray & on_floor & ~t_before.isnan() & (logit > 0.0)
    t_after, logit_after = above.where(t_floor, t_after), above.where(logit, logit_after)
    hit = hit | above

    lone = hit & t_before.isnan()
    share = logit_before / (logit_before - logit_after)
    t = lone.where(t_after, t_before + (t_after - t_before) * share)
    floor = open_ray & falling & ~above
    t = hit.where(t, floor.where(t_floor, np.nan))
    return Met(t, hit.where(lone.where(logit_after, logit_after - logit_before), 0.0))


def _slab(
    origin: Triple, inverse: list[Value], still: list[Value], within: list[Value], sizes: tuple[int, ...]
) -> tuple[Value, Value]:
    """t at which rays enter the block, 0 if they start in it, and leave it."""
    nears, fars = [], []
    for o, inv, is_still, is_within, size in zip(origin, inverse, still, within, sizes, strict=True):
        near, far = (0.0 - o) * inv, ((size - 1.0) - o) * inv
        outside = is_within.where(o * 0.0 - np.inf, np.inf)
        nears.append(is_still.where(outside, near.minimum(far)))
        fars.append(is_still.where(outside * 0.0 + np.inf, near.maximum(far)))
    return nears[0].maximum(nears[1], nears[2], 0.0), fars[0].minimum(fars[1], fars[2])


def _axes(
    graph: Graph,
    sizes: tuple[int, int, int],
    origin: Triple,
    direction: Triple,
    inverse: list[Value],
    entry: Value,
    leave: Value,
) -> _Axes:
    ax, ay, az = (d.abs() for d in direction)
    is_x = (ax >= ay) & (ax >= az)
    is_z = ~is_x & (ay < az)

    def pick(x: Value, y: Value, z: Value) -> Value:
        return is_x.where(x, is_z.where(z, y))

    def across_u(values: list[Value]) -> Value:
        return is_x.where(values[1], values[0])

    def across_v(values: list[Value]) -> Value:
        return is_z.where(values[1], values[2])

    strides = [constant(graph, to, np.int64) for to in (1, sizes[0], sizes[0] * sizes[1])]
    counts = [constant(graph, size, np.int64) for size in sizes]
    o, d, inv = pick(*origin), pick(*direction), pick(*inverse)
    last = pick(*counts).to(np.float32) - 1.0
    up = d > 0.0
    slack = (entry > 0.0).where(entry * 0.0 + TOLERANCE, 0.0)
    at_entry, at_exit = o + entry * d, o + leave * d
    first = up.where((at_entry - slack).ceil(), (at_entry + slack).floor()).clip(0.0, last)
    final = up.where((at_exit + TOLERANCE).floor(), (at_exit - TOLERANCE).ceil())
    final = final.maximum((is_z & ~up).to(np.float32)).minimum(last)
    step = up.where(o * 0.0 + 1.0, -1.0)
    crossed = (entry <= leave) & (leave < np.inf)
    count = crossed.where((final - first) * step + 1.0, 0.0).maximum(0.0)
    first = crossed.where(first, 0.0)
    t_first, dt = ((first - o) * inv).maximum(0.0), inv.abs()
    o_u, d_u, o_v, d_v = (
        across_u([*origin]),
        across_u([*direction]),
        across_v([*origin]),
        across_v([*direction]),
    )
    return _Axes(
        count.to(np.int64),
        first.to(np.int64),
        step.to(np.int64),
        pick(*strides),
        t_first,
        dt,
        o_u + t_first * d_u,
        d_u * dt,
        across_u(counts),
        across_u(strides),
        o_v + t_first * d_v,
        d_v * dt,
        across_v(counts),
        across_v(strides),
    )


def _loop(graph: Graph, logits: Value, axes: _Axes, t_before: Value, logit_before: Value) -> list[Value]:
    """Plane after plane: hit, t_before, logit_before, t_after, logit_after (N,)."""
    body = Graph("loop_")
    names = ("hit", "t_before", "logit_before", "t_after", "logit_after")
    states = [Value(body, f"loop_{name}", np.bool_ if name == "hit" else np.float32) for name in names]
    hit, t_last, logit_last, t_found, logit_found = states
    here = _Axes(*(value.inside(body) for value in axes))
    number = Value(body, "loop_number", np.int64)
    j = number.to(np.float32)
    (m, u), (n, v) = (
        _cell(first + j * slope, size)
        for first, slope, size in (
            (here.u_first, here.du, here.size_u),
            (here.v_first, here.dv, here.size_v),
        )
    )
    plane = (
        here.first + number.minimum(here.total - 1).maximum(0) * here.step
    )  # a finished ray's stays a plane
    base = plane * here.to + m * here.to_u + n * here.to_v
    logit = _bilinear(logits.inside(body), base, here.to_u, here.to_v, u, v)
    t = here.t_first + j * here.dt
    active = (number < here.total) & ~hit
    solid, empty = active & (logit > 0.0), active & (logit <= 0.0)
    after = [
        hit | solid,
        empty.where(t, t_last),
        empty.where(logit, logit_last),
        solid.where(t, t_found),
        solid.where(logit, logit_found),
    ]
    more = ((number + 1) < here.total) & ~after[0]
    again = more.to(np.int64).apply("ReduceMax", keepdims=0).to(np.bool_)

    inputs = [
        helper.make_tensor_value_info(number.name, TensorProto.INT64, []),
        helper.make_tensor_value_info("loop_go_on", TensorProto.BOOL, []),
        *(helper.make_tensor_value_info(state.name, KINDS[state.dtype], ["n"]) for state in states),
    ]
    outputs = [
        helper.make_tensor_value_info(again.name, TensorProto.BOOL, []),
        *(helper.make_tensor_value_info(value.name, KINDS[value.dtype], ["n"]) for value in after),
    ]
    nothing = t_before * np.nan
    most = axes.total.apply("ReduceMax", keepdims=0)
    start = [t_before.isnan() & ~t_before.isnan(), t_before, logit_before, nothing, logit_before * 0.0]
    found = [f"met_{name}" for name in names]
    graph.nodes.append(
        helper.make_node(
            "Loop",
            [most.name, graph.constant(True, np.bool_), *(value.name for value in start)],
            found,
            body=helper.make_graph(body.nodes, "planes", inputs, outputs, body.constants),
        )
    )
    return [Value(graph, name, state.dtype) for name, state in zip(found, states, strict=True)]


def _cell(position: Value, size: Value | int) -> tuple[Value, Value]:
    """The vertex before positions such that there is one after it, and the fraction beyond it."""
    most = size - 2 if isinstance(size, Value) else constant(position.graph, size - 2, np.int64)
    low = position.floor().to(np.int64).maximum(0).minimum(most)
    return low, (position - low.to(np.float32)).clip(0.0, 1.0)


def _cell3(position: Triple, sizes: tuple[int, int, int]) -> tuple[Value, Triple]:
    (i, u), (j, v), (k, w) = (_cell(p, size) for p, size in zip(position, sizes, strict=True))
    return (k * sizes[1] + j) * sizes[0] + i, (u, v, w)


def _bilinear(logits: Value, base: Value, to_u: Value | int, to_v: Value | int, u: Value, v: Value) -> Value:
    def along_u(index: Value) -> Value:
        first = logits.take(index)
        return first + (logits.take(index + to_u) - first) * u

    first = along_u(base)
    return first + (along_u(base + to_v) - first) * v


def _trilinear(logits: Value, base: Value, sizes: tuple[int, int, int], fractions: Triple) -> Value:
    u, v, w = fractions
    below = _bilinear(logits, base, 1, sizes[0], u, v)
    return below + (_bilinear(logits, base + sizes[0] * sizes[1], 1, sizes[0], u, v) - below) * w
