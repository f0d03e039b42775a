"""Sparse points from depth images, for tools that start from COLMAP's points (Gaussian splatting does)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.dataset.formats.colmap_cameras import HALF_PIXEL
from pose2rgbd_ros.dataset.formats.layouts import Flight
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, UInt8

_MOST_FRAMES = 200  # spread over the flight; more would only cost time


@dataclass(eq=False)
class Points:
    """Points (n, 3) in the map, colours (n, 3) and pixels (n, 2) in COLMAP's convention, by the frame they come from."""

    by_frame: dict[int, tuple[Float64, UInt8, Float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(xyz) for xyz, _, _ in self.by_frame.values())

    def seen_from(self, frame: int) -> Iterator[tuple[int, Float64]]:
        """Number and pixel of each point of a frame."""
        first = 1
        for other, (xyz, _, uv) in self.by_frame.items():
            if other == frame:
                yield from zip(range(first, first + len(xyz)), uv, strict=True)
            first += len(xyz)

    def rows(self) -> Iterator[tuple[int, Float64, UInt8, int, int]]:
        """Number, position and colour of each point, its frame, and its place among the points of that frame."""
        number = 0
        for frame, (xyz, rgb, _) in self.by_frame.items():
            for place in range(len(xyz)):
                number += 1
                yield number, xyz[place], rgb[place], frame, place


def points_from_depth(flight: Flight, frames: Sequence[int]) -> Points:
    """Known depths at random pixels of frames spread evenly over `frames`; none without metric depth."""
    depth = flight.dataset.meta.depth
    points = Points()
    config = flight.config
    if depth is None or depth.kind != "metric" or not config.with_depth or not config.points or not frames:
        return points
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _MOST_FRAMES)).round().astype(int))
    share = -(-config.points // len(chosen))
    left = config.points
    for i in tqdm([frames[k] for k in chosen], desc="points", unit="frame", leave=False, disable=None):
        found = _of_frame(flight, i, min(share, left))
        if len(found[0]):
            points.by_frame[i] = found
            left -= len(found[0])
    return points


def _of_frame(flight: Flight, i: int, count: int) -> tuple[Float64, UInt8, Float64]:
    dataset, frame = flight.dataset, flight.frames[i]
    depth, rgb = dataset.depth(i), dataset.rgb(i)
    camera = dataset.camera.resized(depth.shape[1], depth.shape[0])
    rows, columns = np.nonzero(np.isfinite(depth))
    picked = np.random.default_rng(frame.stamp_ns % 2**63).permutation(len(rows))[:count]
    rows, columns = rows[picked], columns[picked]
    points_cam = camera.unproject(np.stack([columns, rows], axis=-1)) * depth[rows, columns, None]
    pixels = flight.camera.project(points_cam)
    inside = np.isfinite(pixels).all(axis=-1)
    colours = rgb[rows * rgb.shape[0] // depth.shape[0], columns * rgb.shape[1] // depth.shape[1]]
    xyz = se3.transform_points(frame.T_map_cam, points_cam)
    return xyz[inside], colours[inside], pixels[inside] + HALF_PIXEL
