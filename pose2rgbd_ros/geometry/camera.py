"""Pinhole cameras with distortion, in OpenCV's convention: pixel centres at integers, origin top left."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64

# How many coefficients each model of sensor_msgs/CameraInfo may have; OpenCV reads the first two alike.
DistortionModel = Literal["none", "plumb_bob", "rational_polynomial", "equidistant"]
COEFFICIENTS = {"none": (0,), "plumb_bob": (4, 5), "rational_polynomial": (8,), "equidistant": (4,)}
_FARTHEST = 1e5  # normalised coordinates: practically at a right angle to the optical axis
_CONVERGED_PX = 0.1
_CRITERIA = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-12)


@dataclass(frozen=True)
class Camera:
    """Intrinsics in pixels of a `width` x `height` image.

    `distortion_model` and `distortion` are those of sensor_msgs/CameraInfo (D). fx = 0 means uncalibrated: such a
    camera has a size but refuses to project. UserError for sizes, models or values that make no sense.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion_model: str = "none"
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise UserError(f"a camera of {self.width} x {self.height} pixels: both must be positive")
        if not np.all(np.isfinite([self.fx, self.fy, self.cx, self.cy, *self.distortion])):
            raise UserError("the camera intrinsics are not finite; calibrate the camera or leave fx = 0")
        if self.fx < 0 or self.fy < 0:
            raise UserError(f"focal lengths must not be negative, got fx={self.fx}, fy={self.fy}")
        if self.distortion_model not in COEFFICIENTS:
            known = ", ".join(COEFFICIENTS)
            raise UserError(f"unknown distortion model {self.distortion_model!r}; supported: {known}")
        if len(self.distortion) not in COEFFICIENTS[self.distortion_model]:
            raise UserError(
                f"{self.distortion_model} has {len(self.distortion)} distortion coefficients; "
                f"expected {' or '.join(map(str, COEFFICIENTS[self.distortion_model]))}"
            )

    @classmethod
    def from_fov(cls, width: int, height: int, fov_deg: float) -> Camera:
        """An ideal pinhole of square pixels that sees `fov_deg` from the left edge to the right one."""
        if not 0 < fov_deg < 180:
            raise UserError(f"a field of view of {fov_deg} degrees; a pinhole camera sees between 0 and 180")
        focal = width / 2 / float(np.tan(np.deg2rad(fov_deg) / 2))
        return cls(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)

    def __str__(self) -> str:
        """In words, for messages."""
        size = f"{self.width} x {self.height} pixels"
        if not self.is_calibrated:
            return f"{size}, uncalibrated"
        lens = f", {self.distortion_model} {[round(k, 6) for k in self.distortion]}" if self.is_distorted else ""
        return f"{size}, fx {self.fx:.2f}, fy {self.fy:.2f}, cx {self.cx:.2f}, cy {self.cy:.2f}{lens}"

    @property
    def is_calibrated(self) -> bool:
        """False for CameraInfo's K[0] = 0."""
        return self.fx > 0 and self.fy > 0

    @property
    def focal_px(self) -> float:
        """Focal length of pixels that may not be square."""
        return float((self.fx * self.fy) ** 0.5)

    @property
    def is_distorted(self) -> bool:
        """Whether pixels deviate from an ideal pinhole (an equidistant lens does even with zero coefficients)."""
        return self.distortion_model == "equidistant" or any(self.distortion)

    @property
    def K(self) -> Float64:
        """The 3x3 intrinsic matrix."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])

    def resized(self, width: int, height: int) -> Camera:
        """The camera of the image resized to `width` x `height`; a change of aspect makes fx and fy differ."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=int(width),
            height=int(height),
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    def cropped(self, x0: int, y0: int, width: int, height: int) -> Camera:
        """The camera of the window whose top left pixel is (x0, y0)."""
        return replace(self, width=int(width), height=int(height), cx=self.cx - x0, cy=self.cy - y0)

    def unproject(self, pixels: npt.ArrayLike) -> Float64:
        """Rays (..., 3) with z = 1 in the optical frame through `pixels` (..., 2) as (u, v), undistorted.

        NaN where no ray with z > 0 reaches the pixel. UserError for an uncalibrated camera.
        """
        self._require_calibration()
        uv = _last_axis(pixels, 2, "pixels")
        xy = self._undistort(uv.reshape(-1, 1, 2)).reshape(uv.shape) if self.is_distorted else self._normalized(uv)
        return np.concatenate([xy, np.where(np.isnan(xy[..., :1]), np.nan, 1.0)], axis=-1)

    def project(self, points_cam: npt.ArrayLike) -> Float64:
        """Pixels (..., 2) of points (..., 3) in the optical frame; NaN for points not in front of the camera."""
        self._require_calibration()
        points = _last_axis(points_cam, 3, "points")
        z = points[..., 2:]
        in_front = (z > 0) & np.isfinite(points).all(axis=-1, keepdims=True)
        xy = np.where(in_front, points[..., :2] / np.where(in_front, z, 1.0), 0.0)
        uv = self._distort(xy) if self.is_distorted else xy * (self.fx, self.fy) + (self.cx, self.cy)
        return np.where(in_front, uv, np.nan)

    def rays(self) -> Float64:
        """Rays (height, width, 3) with z = 1 through every pixel centre: points_cam = rays * depth."""
        return self.unproject(pixel_grid(self.width, self.height))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML."""
        return {**asdict(self), "distortion": [float(value) for value in self.distortion]}

    def figures(self) -> dict[str, Any]:
        """The same as numbers under keys that hold their units; the focal length of an uncalibrated one is None."""
        values = self.to_dict()
        pixels = ("width", "height", "fx", "fy", "cx", "cy")
        known = pixels if self.is_calibrated else pixels[:2]
        return {**{f"{name}_px": values.pop(name) if name in known else None for name in pixels}, **{
            name: values[name] for name in ("distortion_model", "distortion")
        }}  # fmt: skip

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Camera:
        """The inverse of `to_dict`. UserError when something is missing or unreadable."""
        try:
            width, height = int(values["width"]), int(values["height"])
            fx, fy, cx, cy = (float(values[key]) for key in ("fx", "fy", "cx", "cy"))
            distortion = tuple(float(value) for value in values.get("distortion", ()))
            return cls(width, height, fx, fy, cx, cy, str(values.get("distortion_model", "none")), distortion)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"a camera needs width, height, fx, fy, cx and cy as numbers: {error}") from error

    def _require_calibration(self) -> None:
        if not self.is_calibrated:
            raise UserError(
                "the camera is not calibrated (K[0] = 0); give its field of view or a calibrated CameraInfo"
            )

    def _normalized(self, uv: Float64) -> Float64:
        return (uv - (self.cx, self.cy)) / (self.fx, self.fy)

    def _undistort(self, uv: Float64) -> Float64:
        """Normalised image coordinates of distorted pixels, both (N, 1, 2); NaN where there are none."""
        if uv.size == 0:
            return uv
        D = np.array(self.distortion)
        if self.distortion_model == "equidistant":
            found = np.asarray(cv2.fisheye.undistortPoints(uv, self.K, D, criteria=_CRITERIA), dtype=np.float64)
        else:
            found = np.asarray(
                cv2.undistortPointsIter(uv, self.K, D, np.eye(3), np.eye(3), _CRITERIA), dtype=np.float64
            )
        # OpenCV answers something even where its iteration finds no ray: keep what distorts back to the pixel.
        lost = ~(np.abs(found) < _FARTHEST).all(axis=-1, keepdims=True)
        again = self._distort(np.where(lost, 0.0, found))
        lost |= ~(np.abs(again - uv) < _CONVERGED_PX).all(axis=-1, keepdims=True)
        return np.where(lost, np.nan, found)

    def _distort(self, xy: Float64) -> Float64:
        """Pixels of normalised image coordinates, both (..., 2)."""
        points = np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1).reshape(-1, 1, 3)
        if points.size == 0:
            return xy
        zero, D = np.zeros(3), np.array(self.distortion)
        model = cv2.fisheye if self.distortion_model == "equidistant" else cv2
        uv, _ = model.projectPoints(points, zero, zero, self.K, D)
        return np.asarray(uv, dtype=np.float64).reshape(xy.shape)


def pixel_grid(width: int, height: int) -> Float64:
    """Centres (u, v) of all pixels, (height, width, 2)."""
    u, v = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    return np.stack([u, v], axis=-1)


def resample_map(source: Camera, target: Camera) -> Float32:
    """For each pixel of `target`, where to look in an image of `source` at the same pose: (H, W, 2) as (x, y).

    NaN where the ray misses the source image, whose area ends half a pixel beyond the outermost centres.
    """
    rays = target.rays()
    uv = source.project(rays)
    inside = np.asarray(((uv >= -0.5) & (uv <= np.array([source.width, source.height]) - 0.5)).all(axis=-1))
    if source.is_distorted:
        # Far outside the calibrated field a distortion polynomial folds back into the image: keep true rays only.
        back = source.unproject(np.where(inside[..., None], uv, 0.0))
        inside &= np.linalg.norm(back - rays, axis=-1) < 1e-3 * np.linalg.norm(rays, axis=-1)
    return np.where(inside[..., None], uv, np.nan).astype(np.float32)


def resample(image: AnyArray, map_xy: Float32, nearest: bool, fill: float = 0) -> AnyArray:
    """`image` (h, w[, C]) looked up at `map_xy` (H, W, 2); `fill` where the map is NaN.

    `nearest` is for depth and labels, which must not be blended; else bilinear.
    """
    x, y = (np.array(map_xy[..., axis], dtype=np.float32, order="C") for axis in (0, 1))
    outside = np.isnan(x) | np.isnan(y)
    x[outside] = y[outside] = 0
    if nearest:  # rounded here: OpenCV's own rounding in INTER_NEAREST differs between versions
        x, y = np.rint(x), np.rint(y)
    method = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    looked_up = cv2.remap(image, x, y, method, borderMode=cv2.BORDER_REPLICATE)
    result: AnyArray = np.asarray(looked_up).reshape(*x.shape, *image.shape[2:])
    result[outside] = fill
    return result


def _last_axis(values: npt.ArrayLike, size: int, name: str) -> Float64:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or array.shape[-1] != size:
        raise UserError(f"{name} have shape (..., {size}), not {array.shape}")
    return array
