"""Between two poses: along a line and an arc, or along a smooth curve that heeds the poses before and after.

Poses are seven numbers: x, y, z and a unit quaternion qx, qy, qz, qw. The formulas are written out so that the same
lines serve single floats (`xp` is math; a lookup costs microseconds) and arrays (`xp` is numpy).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pose2rgbd_ros.geometry.arrays import Float64

Method = Literal["linear", "cubic"]

Number = Any  # a float, or a float64 array (M,)
Vector = tuple[Number, Number, Number]
Quaternion = tuple[Number, Number, Number, Number]
Pose = Sequence[Number] | Float64  # seven numbers, or (7, M)

# A neighbour nearer than this part of the span lends it no slope: noise over a short time is a wild speed.
NEAREST_NEIGHBOUR = 1 / 3
_TINY = 1e-300  # under a root: keeps 0/0 away without a branch


def linear(xp: Any, start: Pose, end: Pose, u: Number) -> Pose:
    """The pose a part `u` of the way: position on the line, orientation on the shortest arc (SLERP)."""
    position = [(1 - u) * a + u * b for a, b in zip(start[:3], end[:3], strict=True)]
    x, y, z = _turn(xp, start, end)
    return (*position, *_turned(xp, start, (u * x, u * y, u * z)))


def cubic(xp: Any, poses: Sequence[Pose], a: Number, c: Number, u: Number) -> Pose:
    """The pose a part `u` of the way from the second to the third of four, on a Hermite curve that is C1 throughout.

    `a`, `c`: the spans before and after, in units of the one between. The speed at a pose is that of the parabola through it
    and its two neighbours, also for uneven spans. Orientations follow the same curve in the rotation vector from
    `start`, where the angular velocity at `end` becomes a slope through the inverse right Jacobian of SO(3).
    """
    before, start, end, after = poses
    weights = _hermite(u)
    position = []
    for p0, p1, p2, p3 in zip(before[:3], start[:3], end[:3], after[:3], strict=True):
        chord = p2 - p1
        slopes = _slope(p1 - p0, a, chord, 1.0), _slope(chord, 1.0, p3 - p2, c)
        position.append(p1 + _curve(weights, slopes[0], chord, slopes[1]))
    chords = _turn(xp, before, start), _turn(xp, start, end), _turn(xp, end, after)
    first = [_slope(w0, a, w1, 1.0) for w0, w1 in zip(chords[0], chords[1], strict=True)]
    last = [_slope(w1, 1.0, w2, c) for w1, w2 in zip(chords[1], chords[2], strict=True)]
    last = _chart_slope(xp, chords[1], last)
    turn = [_curve(weights, m1, w, m2) for m1, w, m2 in zip(first, chords[1], last, strict=True)]
    return (*position, *_turned(xp, start, turn))


def matrix_rows(pose: Pose) -> tuple[tuple[Number, Number, Number, Number], ...]:
    """The three upper rows of the pose's 4x4 matrix."""
    px, py, pz, x, y, z, w = pose
    return (
        (x * x - y * y - z * z + w * w, 2 * (x * y - z * w), 2 * (x * z + y * w), px),
        (2 * (x * y + z * w), -x * x + y * y - z * z + w * w, 2 * (y * z - x * w), py),
        (2 * (x * z - y * w), 2 * (y * z + x * w), -x * x - y * y + z * z + w * w, pz),
    )


def _hermite(u: Number) -> Vector:
    """Weights of the slope at the start, of the chord, and of the slope at the end."""
    return u * (1 - u) * (1 - u), u * u * (3 - 2 * u), -u * u * (1 - u)


def _curve(weights: Vector, first: Number, chord: Number, last: Number) -> Number:
    return weights[0] * first + weights[1] * chord + weights[2] * last


def _slope(chord_before: Number, before: Number, chord_after: Number, after: Number) -> Number:
    """Slope at the middle of the parabola through three points, from its two chords and their spans."""
    return (before / after * chord_after + after / before * chord_before) / (before + after)


def _turn(xp: Any, start: Pose, end: Pose) -> Vector:
    """The rotation vector that turns `start` into `end` about its own axes, the shorter way."""
    ax, ay, az, aw = start[3:]
    bx, by, bz, bw = end[3:]
    x = aw * bx - ax * bw - ay * bz + az * by
    y = aw * by - ay * bw - az * bx + ax * bz
    z = aw * bz - az * bw - ax * by + ay * bx
    w = aw * bw + ax * bx + ay * by + az * bz
    sine = xp.sqrt(x * x + y * y + z * z + _TINY)
    scale = xp.copysign(2 * _atan2(xp)(sine, abs(w)) / sine, w)
    return scale * x, scale * y, scale * z


def _turned(xp: Any, start: Pose, turn: Sequence[Number]) -> Quaternion:
    """The orientation of `start` turned by a rotation vector about its own axes, of unit length."""
    x, y, z = turn
    angle = xp.sqrt(x * x + y * y + z * z + _TINY)
    scale = xp.sin(angle / 2) / angle
    bx, by, bz, bw = scale * x, scale * y, scale * z, xp.cos(angle / 2)
    ax, ay, az, aw = start[3:]
    qx = aw * bx + ax * bw + ay * bz - az * by
    qy = aw * by + ay * bw + az * bx - ax * bz
    qz = aw * bz + az * bw + ax * by - ay * bx
    qw = aw * bw - ax * bx - ay * by - az * bz
    length = xp.sqrt(qx * qx + qy * qy + qz * qz + qw * qw)
    return qx / length, qy / length, qz / length, qw / length


def _chart_slope(xp: Any, turn: Vector, rate: Sequence[Number]) -> list[Number]:
    """How the rotation vector changes at `turn` while the body turns at `rate`: the inverse right Jacobian of SO(3)."""
    square = turn[0] * turn[0] + turn[1] * turn[1] + turn[2] * turn[2] + _TINY
    half = xp.sqrt(square) / 2
    k = (1 - half * xp.cos(half) / xp.sin(half)) / square
    once = _cross(turn, rate)
    twice = _cross(turn, once)
    return [v + a / 2 + k * b for v, a, b in zip(rate, once, twice, strict=True)]


def _cross(a: Sequence[Number], b: Sequence[Number]) -> Vector:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _atan2(xp: Any) -> Any:
    return xp.atan2 if hasattr(xp, "atan2") else xp.arctan2  # numpy 1 has only the longer name
