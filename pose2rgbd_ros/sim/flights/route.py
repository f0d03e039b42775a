"""A route: the way through space before it is timed, as densely sampled points with headings and line numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64, Int64

STEP_M = 0.25  # between samples
NO_LINE = -1
MAX_HOURS = 6.0  # of a flight


@dataclass(frozen=True, eq=False)
class Route:
    """Samples of the way, N of them, no two neighbours in one place.

    `position_m` (N, 3) in the map; `yaw_rad` (N,) of the body, unwrapped; `down_rad` (N,) how far the camera looks
    below the horizon; `line` (N,) the line each sample is on, ascending, -1 on turns. `groups`: lines that lie side by
    side, in order, so that neighbours in a group are neighbours in space. `separation_m`: their distance.
    """

    position_m: Float64
    yaw_rad: Float64
    down_rad: Float64
    line: Int64
    groups: tuple[range, ...] = field(default=())
    separation_m: float = np.inf


def rounded(
    vertices_m: npt.ArrayLike, lines: Sequence[int], radius_m: npt.ArrayLike
) -> tuple[Float64, Int64]:
    """A polyline with its corners replaced by arcs, sampled every 0.25 m.

    An arc's radius is `radius_m`, a number or (K,), or less where a neighbouring segment is too short for it.

    Args:
        vertices_m: (K, 3), no two neighbours equal.
        lines: (K - 1) the line number of each segment, -1 for none. Arcs get -1.

    Returns:
        positions (N, 3) and line numbers (N,).
    """
    vertices = np.asarray(vertices_m, float)
    along = np.diff(vertices, axis=0)
    length = np.linalg.norm(along, axis=1)
    along /= length[:, None]
    # Half the turn at each vertex; the arc begins radius * tan(half) before the corner and ends as much behind it.
    half = np.zeros(len(vertices))
    half[1:-1] = np.arccos(np.clip((along[:-1] * along[1:]).sum(axis=1), -1, 1)) / 2
    bent = half > 1e-6
    cut = np.where(bent, np.asarray(radius_m) * np.tan(np.minimum(half, np.pi / 2 - 1e-6)), 0.0)
    share = np.minimum(
        1.0, length / np.maximum(cut[:-1] + cut[1:], 1e-12)
    )  # where two arcs share a short segment
    cut[1:-1] *= np.minimum(share[:-1], share[1:])
    pieces, labels = [vertices[:1]], [np.array([lines[0]])]
    for k in range(len(along)):
        start = vertices[k] + along[k] * cut[k]
        stop = vertices[k + 1] - along[k] * cut[k + 1]
        _append(pieces, labels, _straight(start, stop), lines[k])
        if bent[k + 1]:
            _append(pieces, labels, _arc(stop, along[k], along[k + 1], half[k + 1], cut[k + 1]), NO_LINE)
    return np.concatenate(pieces), np.concatenate(labels).astype(np.int64)


def passing_radii_m(vertices_m: Float64, miss_m: float) -> Float64:
    """Radius (K,) of the arc at each vertex (K, 3) that passes it at a distance; next to nothing where it turns back."""
    along = np.diff(vertices_m, axis=0)
    along /= np.linalg.norm(along, axis=1)[:, None]
    half = np.zeros(len(vertices_m))
    half[1:-1] = np.arccos(np.clip((along[:-1] * along[1:]).sum(axis=1), -1, 1)) / 2
    return miss_m / np.maximum(1 / np.cos(np.minimum(half, np.pi / 2 - 1e-6)) - 1, 1e-4)


def course_rad(position_m: Float64) -> Float64:
    """Heading (N,) of the way at its samples, unwrapped; on vertical parts the heading before (or behind) them."""
    steps = np.gradient(position_m, axis=0)[:, :2]
    level = np.flatnonzero(np.linalg.norm(steps, axis=1) > 1e-6)
    if not len(level):
        return np.zeros(len(position_m))
    latest = level[np.clip(np.searchsorted(level, np.arange(len(steps)), side="right") - 1, 0, None)]
    return np.unwrap(np.arctan2(steps[latest, 1], steps[latest, 0]))


def without_holes(route: Route) -> Route:
    """The same with its lines numbered anew: a segment so short that it is all arc leaves no line."""
    kept = np.unique(route.line[route.line >= 0])
    line = np.where(route.line >= 0, np.searchsorted(kept, route.line), NO_LINE).astype(np.int64)
    bounds = [np.searchsorted(kept, (group.start, group.stop)) for group in route.groups]
    groups = tuple(range(int(start), int(stop)) for start, stop in bounds)
    return dataclasses.replace(route, line=line, groups=groups)


def check_length(length_m: float, speed_mps: float) -> None:
    """UserError for a flight of more than 6 hours."""
    hours = length_m / speed_mps / 3600
    if hours > MAX_HOURS:
        raise UserError(
            f"this flight would be {length_m / 1000:.0f} km long and take {hours:.1f} h; at most {MAX_HOURS:g} h are "
            "flown: choose a shorter one, wider spacing or more speed"
        )


def _append(pieces: list[Float64], labels: list[Int64], points: Float64, line: int) -> None:
    pieces.append(points)
    labels.append(np.full(len(points), line))


def _straight(start: Float64, stop: Float64) -> Float64:
    """Samples after `start` up to `stop`; none when they coincide."""
    distance = float(np.linalg.norm(stop - start))
    if distance < 1e-9:
        return np.zeros((0, 3))
    share = np.linspace(0, 1, int(np.ceil(distance / STEP_M)) + 1)[1:, None]
    return start + share * (stop - start)


def _arc(start: Float64, before: Float64, after: Float64, half: float, cut: float) -> Float64:
    """Samples of the arc from `start`, leaving along `before`, to where it meets `after`."""
    radius = cut / np.tan(half)
    inward = after - before * np.cos(2 * half)
    norm = np.linalg.norm(inward)
    if norm < 1e-9:  # straight back: no side to turn to
        return np.zeros((0, 3))
    inward /= norm
    count = max(2, int(np.ceil(radius * 2 * half / STEP_M)))
    angle = np.linspace(0, 2 * half, count + 1)[1:, None]
    points: Float64 = start + radius * (np.sin(angle) * before + (1 - np.cos(angle)) * inward)
    return points
