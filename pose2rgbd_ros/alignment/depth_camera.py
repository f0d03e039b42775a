"""How a depth camera lies beside the colour camera, found from a recording whose depth was never registered to colour.

An RGB-D camera looks through two lenses, centimetres apart and of unlike focal length. Where the driver did not lay
depth over colour, or laid it wrongly, every surface has the colour of what is beside it. What is wrong shows in the
recording: a point that the depth of one frame tells, carried into another by the recorded poses, must have the same
colour in both. Intrinsics and pose of the second camera are what makes it so (direct, photometric calibration).

Poses and intrinsics of a recording are those of one of its two cameras. Which one is not said, so both are tried, and
the one that explains the colours better is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.encode import DepthFormat, encode_png
from pose2rgbd_ros.dataset.meta import DepthMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64, Int64, UInt8
from pose2rgbd_ros.geometry.camera import Camera, pixel_grid
from pose2rgbd_ros.settings import write_yaml
from pose2rgbd_ros.streams.samples import ImageSample

Owner = Literal["colour", "depth"]

ANCHORS, PARTNERS = 60, 3  # frames spread over the recording, and how many later ones each is compared with
WITHIN = 60  # frames after it
# Motion between two compared frames: as a share of the depth, and degrees. Less shows little, more is seen by neither.
LEAST_BASELINE, MOST_BASELINE, MOST_TURN_DEG = 0.02, 0.4, 25.0
POINTS = 200  # a pair
LEAST_POINTS = 2_000  # in all
# Of the images, the coarse ones first: a wrong start is off by many pixels. Small images are enlarged: so they are
# blurred by less.
WIDTHS_PX = (120, 240, 480)
BLUR_PX = 1.5
FLAT = 0.05  # a point's neighbourhood differs by no more of its depth, or it is a silhouette
SAME_SURFACE = 0.03  # of the depth, by which another frame may differ where it sees a point
MARGIN = 0.02  # of the width, at the border of images
NOISE = 5.0  # grey levels of 255: what differs by more is an outlier
# How far an assumption is likely to be off: focal length, centre (of the width), offset (of the depth), rotation (rad).
LIKELY = np.array([0.1, 0.02, 0.02, 0.02, 0.02, 0.005, 0.0175, 0.0175, 0.0175])
PRIOR = 0.005  # weight against one point: keeps apart what the colours cannot tell apart
HELD_OUT = 5  # every so many-th pair is not fitted, and says how good the fit is
BETTER = 0.97  # of the difference in colour: with more, nothing was found
AGREES_PX = 1.0  # at 640 pixels of width, or in smaller images: what is less is not worth another dataset


@dataclass(frozen=True)
class DepthCamera:
    """What was found of the two cameras.

    Attributes:
        owner: whose the recorded intrinsics and poses are.
        colour, depth: both cameras, of the size of their images.
        T_colour_depth: (4, 4) pose of the depth camera in the colour camera's optical frame.
        off_px: by how many pixels depth lay beside its colour as recorded (median).
        before, after: mean absolute difference in colour, of 255, between frames at points that were not fitted.
        pairs, points: how many were compared.
    """

    owner: Owner
    colour: Camera
    depth: Camera
    T_colour_depth: Float64
    off_px: float
    before: float
    after: float
    pairs: int
    points: int

    @property
    def agrees(self) -> bool:
        """Whether depth lies over its colour as recorded, as far as can be told."""
        return self.after > BETTER * self.before or self.off_px < max(AGREES_PX, self.colour.width / 640)

    def __str__(self) -> str:
        """In words, for messages."""
        other = self.colour if self.owner == "depth" else self.depth
        which = "colour" if self.owner == "depth" else "depth"
        offset = ", ".join(f"{1e3 * value:.0f}" for value in self.T_colour_depth[:3, 3])
        return (
            f"depth lies {self.off_px:.1f} pixels beside its colour (median); where {self.pairs} pairs of frames see "
            f"the same points they differ by {self.before:.1f} of 255, registered by {self.after:.1f}\n"
            f"note: the recorded intrinsics and poses are the {self.owner} camera's; the {which} camera: {other}; the "
            f"depth camera is at ({offset}) mm in the colour camera's frame"
        )

    def figures(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "owner_of_poses": self.owner,
            "colour_camera": self.colour.figures(),
            "depth_camera": self.depth.figures(),
            "T_colour_depth": self.T_colour_depth.tolist(),
            "off_px": self.off_px,
            "grey_mae_before_px": self.before,
            "grey_mae_after_px": self.after,
            "pairs": self.pairs,
            "points": self.points,
        }


class _Pair(NamedTuple):
    """Points that two frames see: pixels (P, 2) of the first one's depth, their depth (P,), and the motion."""

    first: int
    second: int
    pixels: Float64
    depth: Float64
    T_second_first: Float64


def find_depth_camera(dataset: Dataset, frames: Int64 | None = None, seed: int = 0) -> DepthCamera:
    """Fit the second camera to the colours of a recording.

    Args:
        dataset: with metric depth and poses good to a pixel or two.
        frames: (K,) those that may be looked at; all if not given.

    Raises:
        UserError: there is no metric depth or no calibration; too few frames see the same surface.
    """
    if not dataset.has_depth or dataset.depth_kind != "metric":
        raise UserError(f"{dataset.path} has no metric depth, so there is nothing to register")
    if not dataset.camera.is_calibrated:
        raise UserError(f"{dataset.path}: its camera is uncalibrated; `pose2rgbd align` finds the focal length")
    frames = np.arange(len(dataset)) if frames is None else np.asarray(frames, np.int64)
    pairs = list(_pairs(dataset, frames, seed))
    points = sum(len(pair.depth) for pair in pairs)
    if points < LEAST_POINTS or len(pairs) < 2 * HELD_OUT:
        raise UserError(
            f"{dataset.path}: {points} points in {len(pairs)} pairs of frames see the same surface, too few to find "
            "how depth lies over colour; are the poses those of these frames?"
        )
    fits = [_Fit(dataset, owner, pairs) for owner in ("depth", "colour")]
    return min((fit.found() for fit in fits), key=lambda found: found.after)


def _pairs(dataset: Dataset, frames: Int64, seed: int) -> Iterator[_Pair]:
    """Frames that see the same from places a little apart, with points of surfaces that both see."""
    T_map_cam, random = dataset.T_map_cam, np.random.default_rng(seed)
    for start in np.unique(np.linspace(0, len(frames) - 2, ANCHORS).round().astype(int)):
        first = int(frames[start])
        depth = np.asarray(dataset.depth(first), np.float32)
        known = np.isfinite(depth) & (depth > 0)
        if not known.any():
            continue
        camera = dataset.camera.resized(depth.shape[1], depth.shape[0])
        usual = float(np.median(depth[known]))
        later = frames[start + 1 : start + 1 + WITHIN]
        motion = se3.inverse(T_map_cam[later]) @ T_map_cam[first]
        baseline = np.linalg.norm(motion[:, :3, 3], axis=1) / usual
        turn = np.degrees(np.arccos(np.clip((np.trace(motion[:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1)))
        fit = (baseline > LEAST_BASELINE) & (baseline < MOST_BASELINE) & (turn < MOST_TURN_DEG)
        candidates = np.flatnonzero(fit)
        flat = np.flatnonzero(_flat(depth) & known)
        if not len(flat):
            continue
        for second in random.permutation(candidates)[:PARTNERS]:
            pixels, z = _pixels(depth, random.choice(flat, POINTS))
            other = np.asarray(dataset.depth(int(later[second])), np.float64)
            seen = _seen(other, pixels, z, motion[second], camera)
            if seen.sum() >= POINTS // 10:
                yield _Pair(first, int(later[second]), pixels[seen], z[seen], motion[second])


def _flat(depth: Float32) -> Bool:
    """Which pixels (H, W) have no silhouette and nothing unknown near them."""
    side = 2 * max(1, round(0.01 * depth.shape[1])) + 1
    around = np.ones((side, side), np.uint8)
    filled = np.where(np.isfinite(depth), depth, np.float32(1e9))
    inner = np.zeros(depth.shape, bool)
    margin = max(1, round(MARGIN * depth.shape[1]))
    inner[margin:-margin, margin:-margin] = True
    return inner & (cv2.dilate(filled, around) - cv2.erode(filled, around) < FLAT * depth)


def _pixels(depth: Float32, chosen: Int64) -> tuple[Float64, Float64]:
    rows, columns = np.divmod(chosen, depth.shape[1])
    return np.stack([columns, rows], 1).astype(np.float64), depth[rows, columns].astype(np.float64)


def _seen(other: Float64, pixels: Float64, z: Float64, T_second_first: Float64, camera: Camera) -> Bool:
    """Which points (P,), by pixels of a camera and their depth, the same camera saw after a motion, whose depth is
    `other` (H, W)."""
    there = se3.transform_points(T_second_first, camera.unproject(pixels) * z[:, None])
    at, size = camera.project(there), np.array(other.shape[::-1])
    inside: Bool = np.all(np.isfinite(at) & (at > MARGIN * size) & (at < (1 - MARGIN) * size - 1), axis=1)
    at = np.where(inside[:, None], at, 0.0).round().astype(int)
    return np.asarray(inside & (np.abs(other[at[:, 1], at[:, 0]] - there[:, 2]) < SAME_SURFACE * z), bool)


class _Fit:
    """The second camera, if the recorded intrinsics and poses are those of `owner`.

    What is looked for are nine numbers in units of about a pixel, 0 where both cameras are one: focal length, centre
    (2), offset (3) and rotation (3).
    """

    def __init__(self, dataset: Dataset, owner: Owner, pairs: list[_Pair]) -> None:
        self._dataset, self._owner, self._pairs = dataset, owner, pairs
        shape = dataset.depth(pairs[0].first).shape
        self._depth_camera = dataset.camera.resized(shape[1], shape[0])
        numbers = np.repeat(np.arange(len(pairs)), [len(pair.depth) for pair in pairs])
        self._fitted = numbers % HELD_OUT != 0
        self._of_pair = numbers
        self._pixels = np.concatenate([pair.pixels for pair in pairs])
        self._z = np.concatenate([pair.depth for pair in pairs])
        self._T_second_first = np.stack([pair.T_second_first for pair in pairs])
        usual, width, focal = float(np.median(self._z)), dataset.camera.width, dataset.camera.focal_px
        of_depth = usual / focal
        self._units = np.array([2 / width, 1, 1, of_depth, of_depth, 2 * of_depth, 1 / focal, 1 / focal, 2 / width])
        likely = LIKELY * np.array([1, width, width, usual, usual, usual, 1, 1, 1])
        self._prior = np.sqrt(PRIOR * self._fitted.sum()) * self._units / likely

    def cameras(self, x: Float64) -> tuple[Camera, Camera, Float64]:
        """Colour camera, depth camera and the pose of the depth camera in the colour camera's frame."""
        values = x * self._units
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = Rotation.from_rotvec(values[6:]).as_matrix(), values[3:6]
        colour, depth = self._dataset.camera, self._depth_camera
        if self._owner == "depth":
            return _changed(colour, values), depth, T
        return colour, _changed(depth, values, depth.width / colour.width), T

    def seen(self, x: Float64) -> tuple[Float64, Float64]:
        """Where the points lie in the colour images (M, 2) of the first and of the second frame of their pairs."""
        colour, depth, T_colour_depth = self.cameras(x)
        points = depth.unproject(self._pixels) * self._z[:, None]
        R, t = self._T_second_first[self._of_pair, :3, :3], self._T_second_first[self._of_pair, :3, 3]
        if self._owner == "depth":
            there = np.einsum("nij,nj->ni", R, points) + t
            return tuple(colour.project(se3.transform_points(T_colour_depth, some)) for some in (points, there))  # type: ignore[return-value]
        points = se3.transform_points(T_colour_depth, points)
        return colour.project(points), colour.project(np.einsum("nij,nj->ni", R, points) + t)

    def differences(self, x: Float64, images: dict[int, Float32]) -> Float64:
        """(M,) of the grey values of the points in both frames; the light of a pair's frames may differ."""
        width = next(iter(images.values())).shape[1]
        scale = width / self._dataset.camera.width
        grey = np.empty((2, len(self._z)), np.float32)
        ends = np.cumsum([len(pair.depth) for pair in self._pairs])
        places = [np.nan_to_num((at + 0.5) * scale - 0.5, nan=-1e4).astype(np.float32) for at in self.seen(x)]
        for pair, end in zip(self._pairs, ends, strict=True):
            some = slice(end - len(pair.depth), end)
            for which, frame in enumerate((pair.first, pair.second)):
                x_at, y_at = np.ascontiguousarray(places[which][some].T)[:, None]
                found = cv2.remap(images[frame], x_at, y_at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
                grey[which, some] = found[0]
        off: Float64 = (grey[0] - grey[1]).astype(np.float64)
        mean = np.bincount(self._of_pair, off) / np.bincount(self._of_pair)
        return np.asarray(off - mean[self._of_pair], np.float64)

    def found(self) -> DepthCamera:
        """The fit, from coarse images to fine ones."""
        x = np.zeros(len(LIKELY))
        for width in WIDTHS_PX:
            images = self._images(width)
            step = 0.5 * self._dataset.camera.width / width

            def residuals(x: Float64, images: dict[int, Float32] = images) -> Float64:
                return np.concatenate([self.differences(x, images)[self._fitted] / NOISE, self._prior * x])

            def jacobian(x: Float64, step: float = step, at: Any = residuals) -> Float64:
                moves = step * np.eye(len(x))
                return np.stack([(at(x + move) - at(x - move)) / (2 * step) for move in moves], 1)

            x = least_squares(residuals, x, jacobian, loss="soft_l1", max_nfev=15).x
        apart = [np.abs(self.differences(each, images)[~self._fitted]) for each in (np.zeros_like(x), x)]
        before, after = (float(some.mean()) for some in apart)
        colour, depth, T = self.cameras(x)
        off = np.linalg.norm(self.seen(x)[0] - self.seen(np.zeros_like(x))[0], axis=1)
        counts = len(self._pairs), len(self._z)
        return DepthCamera(self._owner, colour, depth, T, float(np.nanmedian(off)), before, after, *counts)

    def _images(self, width: int) -> dict[int, Float32]:
        frames = {frame for pair in self._pairs for frame in (pair.first, pair.second)}
        return {frame: self._image(frame, width) for frame in sorted(frames)}

    def _image(self, frame: int, width: int) -> Float32:
        rgb = np.asarray(self._dataset.rgb(frame))
        size = width, round(rgb.shape[0] * width / rgb.shape[1])
        grey = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.GaussianBlur(grey.astype(np.float32), (0, 0), BLUR_PX), np.float32)


def _changed(camera: Camera, values: Float64, scale: float = 1.0) -> Camera:
    """With another focal length and centre; `scale`: its pixels for one of those the centre is given in."""
    longer = float(np.exp(values[0]))
    return replace(
        camera,
        fx=camera.fx * longer,
        fy=camera.fy * longer,
        cx=camera.cx + scale * float(values[1]),
        cy=camera.cy + scale * float(values[2]),
    )


# Depth seen from where the colour camera is.


SAME_PLANE = 0.03  # of the depth, by which neighbours on one surface differ at most


def over_colour(depth_m: Float32, found: DepthCamera) -> Float32:
    """Depth (H, W) in metres as the colour camera would see it, of its size; NaN where nothing is known.

    What is hidden from it is hidden; where several points fall on a pixel the nearest stays. Between pixels of one
    surface depth is interpolated, so that a finer colour image has no holes.
    """
    camera, finer, values = found.depth, 1, np.asarray(depth_m, np.float64)
    while finer < 2 * found.colour.focal_px / found.depth.focal_px:
        values, finer = _between(_between(values, 0), 1), 2 * finer
    rays = camera.unproject(pixel_grid(*values.shape[::-1]) / finer)
    known = np.isfinite(values) & (values > 0) & np.isfinite(rays[..., 0])
    points = se3.transform_points(found.T_colour_depth, rays[known] * values[known, None])
    at = found.colour.project(points)
    width, height = found.colour.width, found.colour.height
    inside: Bool = np.all(np.isfinite(at), axis=1)
    column, row = np.where(inside[:, None], at, -1.0).round().astype(int).T
    inside &= (column >= 0) & (column < width) & (row >= 0) & (row < height)
    order = np.flatnonzero(inside)
    order = order[np.argsort(-points[order, 2], kind="stable")]  # the nearest is written last
    seen = np.full((height, width), np.nan, np.float32)
    seen[row[order], column[order]] = points[order, 2]
    return seen


def _between(depth: Float64, axis: int) -> Float64:
    """With a value between each two neighbours along an axis, NaN across a silhouette."""
    values = np.moveaxis(depth, axis, 0)
    finer = np.full((2 * len(values) - 1, *values.shape[1:]), np.nan)
    finer[::2] = values
    mean = (values[:-1] + values[1:]) / 2
    finer[1::2] = np.where(np.abs(values[1:] - values[:-1]) < SAME_PLANE * mean, mean, np.nan)
    return np.moveaxis(finer, 0, axis)


# A dataset whose depth lies over its colour.


REPORT, PICTURE = "depth_registration.yaml", "depth_registration.png"
DRAWN_WIDTH, EDGE = 320, (230, 30, 30)
FORMATS: dict[float | None, DepthFormat] = {0.01: "cm", 0.001: "mm"}


def register(
    dataset: Dataset, found: DepthCamera, out: Path | str, resume: bool = False, progress: bool = True
) -> Dataset:
    """Write a dataset with the same pictures, its depth laid over them, and intrinsics and poses of the colour camera.

    What is hidden from the colour camera, or beside what the depth camera sees, is unknown. With `resume` an
    interrupted job goes on. UserError when `out` is in the way.
    """
    meta = dataset.meta
    assert meta.depth is not None
    new = replace(meta, camera=found.colour, depth=DepthMeta("metric"), sources=[])
    if found.owner == "depth":
        new = replace(new, camera_from="the colours that its pictures share (pose2rgbd depth register)")
    T_depth_colour = se3.inverse(found.T_colour_depth)
    with DatasetWriter(out, new, resume, depth_format=FORMATS.get(meta.depth.unit_m, "float")) as writer:
        writer.begin_source(f"{dataset.path.name}, depth registered")
        shown = tqdm(dataset.records, desc="laying depth over colour", unit="frame", disable=not progress)
        for index, record in enumerate(shown):
            T_map_colour = dataset.T_map_cam[index]
            if found.owner == "depth":
                T_map_colour = T_map_colour @ T_depth_colour
            if writer.seen(record.stamp_ns, T_map_colour) is None:
                path = dataset.path / record.rgb
                image = ImageSample.from_compressed(record.stamp_ns, meta.camera_frame, path.read_bytes())
                writer.add(record.stamp_ns, T_map_colour, image, over_colour(dataset.depth(index), found))
        split = dataset.path / layout.SPLIT
        if split.exists():
            writer.write_file(layout.SPLIT, split.read_bytes())
    made = Dataset(out)
    write_yaml(made.path / REPORT, found.figures())
    layout.atomic_write(made.path / PICTURE, encode_png(overlay(dataset, made)))
    return made


def overlay(before: Dataset, after: Dataset, frames: int = 4) -> UInt8:
    """A picture (H, W, 3) of a few frames: their colour as it is, and under the edges of depth as recorded and as
    registered."""
    rows = []
    for frame in np.linspace(0, len(after) - 1, frames + 2).round().astype(int)[1:-1]:
        rgb = after.rgb(int(frame))
        size = DRAWN_WIDTH, round(rgb.shape[0] * DRAWN_WIDTH / rgb.shape[1])
        colour = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        views = [colour]
        for dataset in (before, after):
            depth = cv2.resize(dataset.depth(int(frame)), size, interpolation=cv2.INTER_NEAREST)
            nearness = np.nan_to_num(1 / depth, nan=0.0).astype(np.float32)
            spread = cv2.dilate(nearness, np.ones((3, 3))) - cv2.erode(nearness, np.ones((3, 3)))
            edges = np.isfinite(depth) & (spread > FLAT * nearness)
            views.append(np.where(edges[..., None], np.array(EDGE, np.uint8), colour // 2 + 64).astype(np.uint8))
        rows.append(np.hstack(views))
    head = np.full((28, 3 * DRAWN_WIDTH, 3), 255, np.uint8)
    for column, text in enumerate(("colour", "edges of depth as recorded", "edges of depth registered")):
        cv2.putText(
            head, text, (8 + column * DRAWN_WIDTH, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA
        )
    return np.asarray(np.vstack([head, *rows]), np.uint8)
