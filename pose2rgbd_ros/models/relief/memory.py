"""The photographs that a relief remembers: which of them a view looks up, and what they show of a surface.

Image-based rendering with the relief as the proxy (Buehler et al., "Unstructured lumigraph rendering", 2001; learnt
blending as in Hedman et al., "Deep blending", 2018, and Wang et al., "IBRNet", 2021): the point that a ray meets is
projected into a few recorded frames, and a frame counts by whether its depth says that it saw that point, by the angle
between the views, by how near it was, and less towards its rim. What the shader gets of it is one colour, how sure
that is, and how far the frames are apart (network.py). No torch in here: training, evaluation and the runtime look up
by the same compiled code.

The frames are of one ideal pinhole. Their depth is that along the optical axis, 0 where they look into the sky, and
may have half the pixels a side. Points and poses are in the volume's frame, metres.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64, Int64, UInt8, UInt16
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.backends import HAS_NUMBA, compiled
from pose2rgbd_ros.models.relief.config import ReliefConfig

if HAS_NUMBA:
    from pose2rgbd_ros.models.relief.simd import pointer

DECODED_BYTES = 24e6  # of the colours last looked up, which the next picture mostly looks up again
# A frame is looked up between its pixels, which blurs it; and of one that is finer than the view single pixels are
# caught, where the view shows the mean of several. Against both: filters along rows and columns, by how many pixels of
# a frame, from there on, one of the view is wide. Several rays through a pixel take that mean by themselves.
FILTERS = ((1.4, (-0.06, 0.25, 0.62, 0.25, -0.06)), (0.7, (-0.05, 1.1, -0.05)), (0.0, (1.0,)))
JPEG_QUALITY, FULL_COLOUR = 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
GLANCE = 12  # rays a side by whose surfaces frames are chosen
CANDIDATES = 64  # frames of like position and direction that are looked at more closely
TURN_WEIGHT = 0.1  # of a turn by a radian, beside a shift by the scene's distance
COVERED = np.float32(0.1)  # use at which a surface is half served
HIDDEN_USE = np.float32(0.1)  # of a frame before which something else stands
NEAR = np.float32(1e-3)
VIEW = (
    21  # numbers of a frame: rotation and translation row by row (12), place (3), factors (3) and summands (3) of light
)

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_LITTLE = np.float32(0.03)  # of what frames before it said, below which a frame is not looked at
_RIM, _CLOSE = np.float32(20), np.float32(0.03)
_SHARP2 = np.float32(0.02**2)  # square of the angle (rad) within which frames are not preferred to one another
SURE = np.float32(0.02)  # say at which a colour is half sure
LEVEL = np.float32(1 / 255)
_APART = np.float32(0.6)  # layers by which a frame's depth may differ from the surface
TINY = np.float32(1e-12)
# At silhouettes a pixel shows what lies before and behind: there rays within it are looked up, the first of these.
WITHIN_PIXEL = ((-0.25, -0.25), (0.25, 0.25), (-0.25, 0.25), (0.25, -0.25))
BENT = np.float32(0.02)  # second difference of the inverse depth, as a share of it, from which on it is a silhouette


def glance_at(side: int) -> Int64:
    """Which of the rows, or columns, of a picture are looked at to choose frames."""
    return np.unique(((np.arange(GLANCE) + 0.5) / GLANCE * side).astype(np.int64))


def silhouettes(t: Float32) -> tuple[Int64, Int64]:
    """Rows and columns of the pixels of a picture's depth (H, W), NaN for none, where it does not go on like a plane,
    whose inverse depth is linear in the picture. None of a picture of one row or column."""
    if min(t.shape) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    near = np.nan_to_num(_ONE / t)
    around = np.pad(near, 1, mode="edge")
    middle = near + near
    across = np.abs(middle - around[1:-1, :-2] - around[1:-1, 2:])
    down = np.abs(middle - around[:-2, 1:-1] - around[2:, 1:-1])
    rows, columns = np.nonzero(np.maximum(across, down) > BENT * near)
    return rows, columns


class Photographs:
    """The remembered frames.

    Args:
        rgb: (M, h, w, 3) uint8, or anything with rows like it.
        depth: (M, h >> shift, w >> shift) uint16 in steps of depth_m, 0 for the sky.
        T_vol_cam: (M, 4, 4).
        camera: of `rgb`.
        layer_m: of the relief, by which depths are told apart.
        angle_rad: between two views of a surface, at which the second says less of it.
        light: (M, 2, 3) by which gain and offset (of 1) each frame's colours differ from the place's; None: by none.
        most_bytes: of the colours last looked up.
    """

    def __init__(
        self,
        rgb: Any,
        depth: UInt16,
        depth_m: float,
        T_vol_cam: Float64,
        camera: Camera,
        layer_m: float,
        angle_rad: float,
        light: Float32 | None = None,
        most_bytes: float = DECODED_BYTES,
    ) -> None:
        self.filtered = Recent(most_bytes)
        self.rgb, self.depth, self.camera = rgb, depth, camera
        self.layer_m, self.depth_m, self._angle2 = map(np.float32, (layer_m, depth_m, angle_rad**2))
        self.shift = int(np.log2(max(camera.width // depth.shape[2], 1)))
        self.correct(T_vol_cam, np.array([[[1.0], [0.0]]], np.float32) if light is None else light)
        known = depth[:, depth.shape[1] // 2, depth.shape[2] // 2]
        self._distance_m = depth_m * float(np.median(known[known > 0])) if (known > 0).any() else 1.0

    def __len__(self) -> int:
        return len(self.T_vol_cam)

    def correct(self, T_vol_cam: Float64, light: Float32) -> None:
        """Other poses (M, 4, 4) and gains and offsets (M, 2, 3) of the same frames."""
        self.T_vol_cam = np.asarray(T_vol_cam, np.float64)
        self._T_cam_vol = se3.inverse(self.T_vol_cam).astype(np.float32)
        gain, offset = np.broadcast_to(light, (len(T_vol_cam), 2, 3)).swapaxes(0, 1)
        self._light = np.concatenate([1 / gain, -255 * offset / gain], 1).astype(np.float32)

    def choose(self, T_vol_cam: Float64, points: Float32, count: int, left_out: Bool | None = None) -> Int64:
        """At most `count` frames for a view at (4, 4), the most useful first; `left_out` (M,) are not taken.

        Args:
            points: (P, 3) of the surface that it sees, NaN for none.
        """
        near = self._alike(T_vol_cam, left_out)
        if len(near) == 0:
            return near
        use = np.zeros((len(near), len(points)), np.float32)
        camera = self.camera
        k = np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32)
        eye = T_vol_cam[:3, 3].astype(np.float32)
        places = self.T_vol_cam[near, :3, 3].astype(np.float32)
        size = np.array([camera.height, camera.width], np.int64)
        usefulness(
            points,
            eye,
            self._T_cam_vol,
            places,
            near,
            k,
            size,
            self.depth,
            self.depth_m,
            self.shift,
            self.layer_m,
            self._angle2,
            use,
        )
        chosen = np.empty(min(count, len(near)), np.int64)
        cover(use, chosen)
        return np.asarray(near[chosen])

    def _alike(self, T_vol_cam: Float64, left_out: Bool | None) -> Int64:
        shift = self.T_vol_cam[:, :3, 3] - T_vol_cam[:3, 3]
        turn = self.T_vol_cam[:, :3, 2] - T_vol_cam[:3, 2]
        cost = (shift**2).sum(1) / self._distance_m**2 + TURN_WEIGHT * (turn**2).sum(1)
        if left_out is not None:
            cost[left_out] = np.inf
        count = min(CANDIDATES, int(np.isfinite(cost).sum()))
        return np.argsort(cost, kind="stable")[:count].astype(np.int64)

    def view(self, chosen: Int64, focal_px: float) -> View:
        """What :func:`recall` reads of frames, for a view of a focal length."""
        if len(chosen) == 0:
            return no_view()
        values = np.zeros((len(chosen), VIEW), np.float32)
        values[:, :12] = self._T_cam_vol[chosen, :3].reshape(-1, 12)
        values[:, 12:15] = self.T_vol_cam[chosen, :3, 3]
        values[:, 15:21] = self._light[chosen]
        rgb = np.ascontiguousarray(self.rgb[chosen])
        number, kernel = next(
            (at, taps) for at, (least, taps) in enumerate(FILTERS) if self.camera.focal_px >= least * focal_px
        )
        taps = np.array(kernel, np.float32)
        filtered = (
            rgb
            if len(taps) == 1
            else np.stack(
                [
                    self.filtered.get((int(frame), number), partial(_filtered, image, taps))
                    for frame, image in zip(chosen, rgb, strict=True)
                ]
            )
        )
        depth = np.ascontiguousarray(self.depth[chosen])
        per_apart = _ONE / (_APART * self.layer_m)
        k, law = _intrinsics(self.camera), (per_apart, self._angle2)
        return View(values, rgb, filtered, depth, k, self.shift, self.depth_m, *law)


class Recent:
    """Images last asked for, of so many bytes. Not to be shared by threads."""

    def __init__(self, most_bytes: float) -> None:
        self._most = most_bytes
        self._kept: dict[Any, UInt8] = {}  # the last one asked for comes last

    def get(self, key: Any, make: Callable[[], UInt8]) -> UInt8:
        """The image of a key, made if it is not here."""
        image = self._kept.pop(key, None)
        if image is None:
            image = make()
            while self._kept and (len(self._kept) + 1) * image.nbytes > self._most:
                del self._kept[next(iter(self._kept))]
        self._kept[key] = image
        return image

    def clear(self) -> None:
        """Forget them."""
        self._kept.clear()


def _filtered(image: UInt8, taps: Float32) -> UInt8:
    return np.asarray(cv2.sepFilter2D(image, -1, taps, taps, borderType=cv2.BORDER_REPLICATE), np.uint8)


class Jpegs:
    """Colours (M, h, w, 3) uint8 kept as JPEG, and those last asked for as they are. Not to be shared by threads."""

    def __init__(self, data: UInt8, ends: Int64, most_bytes: float = DECODED_BYTES) -> None:
        """data (bytes,): the files one after another; ends (M,): where each ends."""
        self._data, self._ends, self._decoded = data, ends, Recent(most_bytes)

    def __getitem__(self, frames: Int64) -> UInt8:
        return np.stack([self._decoded.get(int(frame), partial(self._decode, int(frame))) for frame in frames])

    def _decode(self, frame: int) -> UInt8:
        start = int(self._ends[frame - 1]) if frame else 0
        decoded = cv2.imdecode(self._data[start : int(self._ends[frame])], cv2.IMREAD_COLOR)
        if decoded is None:
            raise UserError(f"remembered frame {frame} of the checkpoint is damaged; train again")
        return np.asarray(decoded[..., ::-1], np.uint8)


def as_jpegs(rgb: Iterable[UInt8]) -> tuple[UInt8, Int64]:
    """What :class:`Jpegs` takes, of images (h, w, 3)."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, FULL_COLOUR]
    files = [cv2.imencode(".jpg", image[..., ::-1], quality)[1].reshape(-1) for image in rgb]
    return np.concatenate(files), np.cumsum([len(file) for file in files], dtype=np.int64)


def photographs(config: ReliefConfig, state: Mapping[str, Any], most_bytes: float = DECODED_BYTES) -> Photographs:
    """The remembered frames of a network's state, arrays by their names in a checkpoint."""
    fx, fy, cx, cy = np.asarray(state["memory.intrinsics"], np.float64)
    return Photographs(
        Jpegs(np.asarray(state["memory.jpeg"]), np.asarray(state["memory.ends"]), most_bytes),
        np.asarray(state["memory.depth"]).view(np.uint16),
        config.memory_depth_m,
        np.asarray(state["memory.T_vol_cam"]),
        Camera(config.memory_width, config.memory_height, fx, fy, cx, cy),
        config.layer_m,
        config.memory_angle_rad,
        np.asarray(state["memory.light"]),
        most_bytes,
    )


class View(NamedTuple):
    """Frames as the kernels read them: see :meth:`Photographs.view`; none of them where nothing is remembered."""

    values: Float32  # (K, VIEW)
    rgb: UInt8  # (K, h, w, 3)
    filtered: UInt8  # the same, as one ray a pixel looks it up
    depth: UInt16
    k: Float32  # fx, fy, cx, cy
    shift: int
    depth_m: np.float32
    per_apart: np.float32
    angle2: np.float32


def no_view() -> View:
    """Of a relief without a memory."""
    rgb, depth = np.zeros((0, 1, 1, 3), np.uint8), np.zeros((0, 1, 1), np.uint16)
    return View(np.zeros((0, VIEW), np.float32), rgb, rgb, depth, np.zeros(4, np.float32), 0, _ONE, _ONE, _ONE)


def _intrinsics(camera: Camera) -> Float32:
    return np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32)


@compiled
def usefulness(points, eye, T_cam_vol, places, frames, k, size, depth, depth_m, shift, layer_m, angle2, use):
    """Fill use (F, P): 0 where a frame does not see a point, up to 1 where it sees it as the view does."""
    rows, columns = size
    for number in range(len(frames)):
        frame = frames[number]
        T = T_cam_vol[frame]
        for p in range(len(points)):
            x, y, z = points[p, 0], points[p, 1], points[p, 2]
            if np.isnan(x):
                continue
            zs = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3]
            if zs <= NEAR:
                continue
            us = (T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3]) / zs * k[0] + k[2]
            vs = (T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]) / zs * k[1] + k[3]
            if not (us > -_HALF and us < columns - _HALF and vs > -_HALF and vs < rows - _HALF):
                continue
            px, py, pz = places[number, 0], places[number, 1], places[number, 2]
            say, _ = likeness(x, y, z, eye[0], eye[1], eye[2], px, py, pz, angle2)
            seen = depth_m * np.float32(depth[frame, int(vs + _HALF) >> shift, int(us + _HALF) >> shift])
            if seen > _ZERO and seen < zs - np.float32(2) * layer_m:
                say *= HIDDEN_USE
            use[number, p] = say


@compiled
def likeness(x, y, z, ex, ey, ez, px, py, pz, angle2):
    """How much a frame at p says of a point to a view at e: 1 from the same place; by angle and distance less. And how
    much beside other frames, of which those nearly from the view's direction are preferred more sharply."""
    ax, ay, az, bx, by, bz = ex - x, ey - y, ez - z, px - x, py - y, pz - z
    aa, bb, ab = ax * ax + ay * ay + az * az, bx * bx + by * by + bz * bz, ax * bx + ay * by + az * bz
    inverse = _ONE / np.sqrt(max(aa * bb, TINY))
    apart2 = max(_ONE - ab * inverse, _ZERO)
    apart2 += apart2  # 2 (1 - cos), about the square of the angle
    near = min(aa * inverse, _ONE)  # ratio of the distances
    near *= near * near
    near *= near
    broad, narrow = angle2 + apart2, _SHARP2 + apart2
    each = _ONE / (broad * narrow)
    alike, sharp = angle2 * narrow * each, _SHARP2 * broad * each
    return alike * alike * near, sharp * sharp * near


@compiled
def cover(use, chosen):
    """Rows of use (F, P), one after the other, each for what it adds where those before show little."""
    count, points = use.shape
    covered = np.zeros(points, np.float32)
    free = np.ones(count, np.bool_)
    for at in range(len(chosen)):
        best, most = -1, -_ONE
        for row in range(count):
            if free[row]:
                gain = _ZERO
                for p in range(points):
                    had, has = covered[p], covered[p] + use[row, p]
                    gain += has / (has + COVERED) - had / (had + COVERED)
                if gain > most:
                    best, most = row, gain
        chosen[at], free[best] = best, False
        for p in range(points):
            covered[p] += use[best, p]


@compiled
def recall_pixel(
    values, count, rgb, depth, rows, columns, fx, fy, cx, cy, shift, depth_m, per_apart, angle2, far, x, y, z,
    ex, ey, ez,
):  # fmt: skip
    """What `count` frames show at (x, y, z), or, if `far`, in that direction: red, green, blue in 0..255, the sum of
    their says, and the mean square by which they are apart.

    values, rgb, depth: pointers to those of a :class:`View`. ex, ey, ez: where the view is from.
    """
    red = green = blue = square = total = sure = _ZERO
    wide, moved = columns >> shift, _ZERO if far else _ONE
    # Numbers of float32 and of integers make float64, which is slower.
    per_column, per_row = _RIM / np.float32(columns), _RIM / np.float32(rows)
    last_column, last_row = np.float32(columns - 1), np.float32(rows - 1)
    for number in range(count):
        at = number * VIEW
        zs = values[at + 8] * x + values[at + 9] * y + values[at + 10] * z + values[at + 11] * moved
        if zs <= NEAR:
            continue
        inverse = _ONE / zs
        xs = values[at] * x + values[at + 1] * y + values[at + 2] * z + values[at + 3] * moved
        ys = values[at + 4] * x + values[at + 5] * y + values[at + 6] * z + values[at + 7] * moved
        us, vs = xs * inverse * fx + cx, ys * inverse * fy + cy
        if not (us > _ZERO and us < last_column and vs > _ZERO and vs < last_row):
            continue
        rim = min(min(us, last_column - us) * per_column, min(vs, last_row - vs) * per_row)
        say = min(rim, _ONE)  # fades out at the rim, so that no seam shows
        beside = say
        if not far:
            broad, sharp = likeness(x, y, z, ex, ey, ez, values[at + 12], values[at + 13], values[at + 14], angle2)
            say, beside = say * broad, beside * sharp
        if beside < _LITTLE * total:
            continue
        u0, v0 = int(us), int(vs)
        fu, fv = us - np.float32(u0), vs - np.float32(v0)
        line = number * (rows >> shift)
        above, below, west, east = line + (v0 >> shift), line + (v0 + 1 >> shift), u0 >> shift, u0 + 1 >> shift
        a = share_of(depth[above * wide + west], zs, depth_m, per_apart, far) * (_ONE - fu) * (_ONE - fv)
        b = share_of(depth[above * wide + east], zs, depth_m, per_apart, far) * fu * (_ONE - fv)
        c = share_of(depth[below * wide + west], zs, depth_m, per_apart, far) * (_ONE - fu) * fv
        d = share_of(depth[below * wide + east], zs, depth_m, per_apart, far) * fu * fv
        passed = a + b + c + d
        if passed <= np.float32(1e-6):
            continue
        pixel = 3 * ((number * rows + v0) * columns + u0)
        next_row = pixel + 3 * columns
        cr = a * rgb[pixel] + b * rgb[pixel + 3] + c * rgb[next_row] + d * rgb[next_row + 3]
        cg = a * rgb[pixel + 1] + b * rgb[pixel + 4] + c * rgb[next_row + 1] + d * rgb[next_row + 4]
        cb = a * rgb[pixel + 2] + b * rgb[pixel + 5] + c * rgb[next_row + 2] + d * rgb[next_row + 5]
        cr = values[at + 15] * cr + values[at + 18] * passed
        cg = values[at + 16] * cg + values[at + 19] * passed
        cb = values[at + 17] * cb + values[at + 20] * passed
        sure += say * passed
        total += beside * passed
        red += beside * cr
        green += beside * cg
        blue += beside * cb
        inverse = _ONE / passed
        square += beside * inverse * (cr * cr + cg * cg + cb * cb)
    if total > _ZERO:
        inverse = _ONE / total
        red, green, blue = red * inverse, green * inverse, blue * inverse
        square = max(square * inverse - (red * red + green * green + blue * blue), _ZERO)
    return red, green, blue, sure, square


@compiled
def share_of(steps, zs, depth_m, per_apart, far):
    """How far a pixel of a frame whose depth is so many steps shows what lies at depth zs, or far away: 0..1."""
    if far:
        return _ONE if steps == 0 else _ZERO
    if steps == 0:
        return np.float32(1e-3)
    off = (depth_m * np.float32(steps) - zs) * per_apart
    off *= off
    return _ONE / (_ONE + off * off) if off > _CLOSE else _ONE


@compiled
def recall(view, rgb, points, direction, eye, found):
    """Fill found (N, 5): colour in 0..1, how sure it is (0..1) and how far frames are apart, of points (N, 3).

    rgb: of the view, filtered or not.

    Where a point is NaN nothing is met, and what frames see far away in `direction` (N, 3) is told.
    """
    values, depth, colours = pointer(view.values), pointer(view.depth), pointer(rgb)
    count, rows, columns = view.rgb.shape[:3]
    fx, fy, cx, cy = view.k
    ex, ey, ez = eye
    for n in range(len(points)):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        far = np.isnan(x)
        if far:
            x, y, z = direction[n, 0], direction[n, 1], direction[n, 2]
        r, g, b, total, square = recall_pixel(
            values, count, colours, depth, rows, columns, fx, fy, cx, cy, view.shift, view.depth_m, view.per_apart,
            view.angle2, far, x, y, z, ex, ey, ez,
        )  # fmt: skip
        found[n, 0], found[n, 1], found[n, 2] = r * LEVEL, g * LEVEL, b * LEVEL
        found[n, 3] = total / (total + SURE)
        found[n, 4] = np.sqrt(square) * LEVEL
