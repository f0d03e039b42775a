"""Points of the scene for tools that begin from some (Gaussian splatting does): those of an alignment, or of depth.

Frames that are held out to be tested on give none: what is measured on them must not know them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.formats.scene import Flight
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64, UInt8
from pose2rgbd_ros.sfm.align import read_points

_MOST_FRAMES = 200  # that depth is taken from, spread over the flight; more would only cost time


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Points xyz (P, 3) in the map, their colours rgb (P, 3), and who sees them: point (M,) and frame (M,), indices,
    and pixel (M, 2) of the exported camera, whose first pixel has its centre at (0, 0).
    """

    xyz: Float64
    rgb: UInt8
    point: Int64
    frame: Int64
    pixel: Float64

    def __len__(self) -> int:
        return len(self.xyz)

    def only(self, kept: Bool) -> SurfacePoints:
        """Those that are `kept` (P,), with all their keypoints."""
        seen, number = kept[self.point], np.cumsum(kept) - 1
        return SurfacePoints(
            self.xyz[kept], self.rgb[kept], number[self.point[seen]], self.frame[seen], self.pixel[seen]
        )

    def ply(self) -> bytes:
        """Binary PLY of float x y z and uchar red green blue, as nerfstudio and OpenSplat read it."""
        vertices = np.empty(len(self), [("xyz", "<f4", 3), ("rgb", "u1", 3)])
        vertices["xyz"], vertices["rgb"] = self.xyz, self.rgb
        properties = [f"property float {axis}" for axis in "xyz"] + [
            f"property uchar {colour}" for colour in ("red", "green", "blue")
        ]
        header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(self)}", *properties, "end_header"]
        return "\n".join(header).encode() + b"\n" + vertices.tobytes()


def surface_points(flight: Flight) -> SurfacePoints:
    """At most `points` of the export's settings, of frames that are exported and not labelled "test".

    An alignment's points (those seen by most frames), else known metric depth at random pixels; none without either.
    UserError: the alignment's file is damaged.
    """
    frames = [i for i, frame in enumerate(flight.frames) if frame.label not in ("test", "unused")]
    if not flight.config.points or not frames:
        return _NOTHING
    aligned = _of_alignment(flight, frames)
    return _of_depth(flight, frames) if aligned is None else aligned


_NOTHING = SurfacePoints(
    np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2))
)


def _of_alignment(flight: Flight, frames: Sequence[int]) -> SurfacePoints | None:
    """None of a dataset that was not aligned."""
    stored = read_points(flight.dataset.path)
    if stored is None:
        return None
    stamps_ns, pixel = flight.dataset.stamps_ns, stored.seen_px
    if flight.camera != flight.dataset.camera:
        pixel = flight.camera.project(flight.dataset.camera.unproject(pixel))
    frame = np.searchsorted(stamps_ns, stored.seen_stamp_ns).clip(0, len(stamps_ns) - 1).astype(np.int64)
    here = (stamps_ns[frame] == stored.seen_stamp_ns) & np.isin(frame, frames) & np.isfinite(pixel).all(axis=1)
    found = SurfacePoints(stored.points, stored.colors, stored.seen_point[here], frame[here], pixel[here])
    views = np.bincount(found.point, minlength=len(found))
    kept = np.zeros(len(found), bool)
    kept[np.argsort(-views, kind="stable")[: flight.config.points]] = True
    return found.only(kept & (views >= 2))  # a point rests on two views at least


def _of_depth(flight: Flight, frames: Sequence[int]) -> SurfacePoints:
    depth = flight.dataset.meta.depth
    if depth is None or depth.kind != "metric" or not flight.config.with_depth:
        return _NOTHING
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _MOST_FRAMES)).round().astype(int))
    share = -(-flight.config.points // len(chosen))
    left, found = flight.config.points, []
    for i in tqdm([frames[k] for k in chosen], desc="points", unit="frame", leave=False, disable=None):
        found.append((i, *_of_frame(flight, i, min(share, left))))
        left -= len(found[-1][1])
    numbers = np.repeat([i for i, *_ in found], [len(xyz) for _, xyz, _, _ in found]).astype(np.int64)
    xyz, rgb, pixel = (np.concatenate([each[part] for each in found]) for part in (1, 2, 3))
    return SurfacePoints(xyz, rgb, np.arange(len(xyz)), numbers, pixel)


def _of_frame(flight: Flight, i: int, count: int) -> tuple[Float64, UInt8, Float64]:
    """Positions, colours and pixels of at most `count` points of a frame."""
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
    return se3.transform_points(frame.T_map_cam, points_cam)[inside], colours[inside], pixels[inside]
