"""An image from any camera, as the camera of the training frames would have seen it, and what a network reads in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from pose2rgbd_ros.dataset.filters import sharpness
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.localization.covariance import errors
from pose2rgbd_ros.training.checkpoint import Checkpoint
from pose2rgbd_ros.training.families import PoseModel

LEAST_COVERAGE = 0.9


@dataclass(frozen=True, eq=False)
class Query:
    """An image as the trained camera would have seen it, or why it cannot be.

    rgb: (S + 2 m, S + 2 m, 3) uint8, the view of S pixels in a margin of m; None with a `reason`. What the image does
        not show repeats its edge. coverage: share of the view that it shows. has_margin: whether it shows the margin
        as well. features_view: (SIDE_PX, SIDE_PX, 3), the view at the size of local features; None until
        `ImageEncoder.prepare`.
    """

    rgb: UInt8 | None
    margin_px: int
    coverage: float = 0.0
    has_margin: bool = False
    reason: str = ""
    features_view: UInt8 | None = None

    def crop(self, right_px: int = 0, down_px: int = 0) -> UInt8:
        """The view (S, S, 3), moved within the margin."""
        assert self.rgb is not None
        m, side = self.margin_px, len(self.rgb) - 2 * self.margin_px
        return self.rgb[m + down_px : m + down_px + side, m + right_px : m + right_px + side]


class QueryView:
    """Makes queries for one trained camera; remembers the last camera they came from."""

    def __init__(self, trained: Camera, margin_px: int = 0, fit: str = "square") -> None:
        """`trained`: of the network's square images. `margin_px`: kept around them; networks learn on crops of larger
        frames (144 -> 128). `fit` ("square", "crop"): how frames became square, for an uncalibrated camera, whose
        queries can only be of that same camera."""
        self._margin_px = margin_px
        m, side = self._margin_px, trained.width
        self._trained = trained
        self._wide = trained.cropped(-m, -m, side + 2 * m, side + 2 * m)
        self._fit = fit
        self._last: tuple[Camera, _Lookup] | None = None

    def query(self, rgb: AnyArray, camera: Camera) -> Query:
        """The query of an image (H, W, 3) uint8 of `camera`; one with a reason when it is none."""
        reason = _unfit(rgb, camera)
        if not reason and self._trained.is_calibrated and not camera.is_calibrated:
            reason = (
                "the camera is not calibrated (K[0] = 0), so what it sees cannot be compared with the training frames"
            )
        if reason:
            return Query(None, self._margin_px, reason=reason)
        if self._last is None or self._last[0] != camera:
            self._last = camera, _Lookup(camera, self._wide, self._margin_px, self._fit)
        lookup = self._last[1]
        if lookup.coverage < LEAST_COVERAGE:
            text = (
                f"the camera shows {lookup.coverage:.0%} of the view that was trained, {LEAST_COVERAGE:.0%} are needed"
            )
            return Query(None, self._margin_px, lookup.coverage, reason=text)
        return Query(lookup(rgb), self._margin_px, lookup.coverage, lookup.has_margin)


class _Lookup:
    """From the pixels of one camera to those of another."""

    def __init__(self, camera: Camera, wide: Camera, margin_px: int, fit: str) -> None:
        self._window = 0, 0, camera.width, camera.height
        self._map: Float32 | None = None
        if not wide.is_calibrated:  # the same camera, as far as can be known
            side = min(camera.width, camera.height)
            if fit == "crop":
                self._window = (camera.width - side) // 2, (camera.height - side) // 2, side, side
            self._size = wide.width, wide.height
            self.coverage, self.has_margin = 1.0, True
            return
        # Shrinking averages, as it did for the training frames; looking up single pixels of a large image would not.
        scale = max(1.0, camera.fx / wide.fx), max(1.0, camera.fy / wide.fy)
        self._size = max(1, round(camera.width / scale[0])), max(1, round(camera.height / scale[1]))
        found = resample_map(camera.resized(*self._size), wide)
        seen = np.asarray(np.isfinite(found).all(axis=-1))
        view = slice(margin_px, wide.width - margin_px)
        self.coverage, self.has_margin = float(seen[view, view].mean()), bool(seen.all())
        if seen.any():
            nearest = distance_transform_edt(~seen, return_distances=False, return_indices=True)
            found = found[tuple(nearest)]
        self._map = found

    def __call__(self, rgb: AnyArray) -> UInt8:
        x0, y0, width, height = self._window
        image = np.asarray(rgb)[y0 : y0 + height, x0 : x0 + width]
        if self._size != (width, height):
            way = cv2.INTER_AREA if self._size[0] <= width else cv2.INTER_LINEAR
            image = np.asarray(cv2.resize(image, self._size, interpolation=way))
        if self._map is not None:
            image = resample(image, self._map, nearest=False)
        return np.ascontiguousarray(image, np.uint8)


def _unfit(rgb: AnyArray, camera: Camera) -> str:
    """Why an array is no image of the camera; empty when it is one."""
    image = np.asarray(rgb)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        return f"the image is {image.dtype} of shape {image.shape}; expected uint8 (H, W, 3), red first"
    if image.shape[:2] != (camera.height, camera.width):
        return f"the image has {image.shape[1]} x {image.shape[0]} pixels, its camera {camera.width} x {camera.height}"
    return ""


# What is wrong with an image whatever the place, and figures of what is wrong with it here (gate.FIGURES).


LEAST_CONTRAST = 2.0  # grey levels; less is nothing at all


def image_figures(rgb: UInt8) -> Float64:
    """Mean and standard deviation of grey, and sharpness, of an image (S, S, 3): (3,)."""
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    return np.array([float(grey.mean()), float(grey.std()), sharpness(grey)])


def blank(figures: Float64) -> str:
    """Why an image of these figures shows nothing, whatever the place; empty when it shows something."""
    mean, contrast = float(figures[0]), float(figures[1])
    if contrast >= LEAST_CONTRAST:
        return ""
    what = "black" if mean < 64 else "overexposed" if mean > 192 else "blank"
    return f"the image is {what}: mean {mean:.0f} of 255, contrast {contrast:.1f}"


# What a network reads in an image: a pose from each of several crops, and the trunk's features.


# Where crops lie within the margin, as shares of it, centre first. The network learnt on crops from anywhere in it.
CROPS = {
    1: ((0.0, 0.0),),
    5: ((0.0, 0.0), (-0.75, -0.75), (0.75, -0.75), (-0.75, 0.75), (0.75, 0.75)),
    9: tuple((right, down) for right in (0.0, -0.75, 0.75) for down in (0.0, -0.75, 0.75)),
}
SIDE_PX = 128  # of the views that local features are taken from, whatever the network's size
_BATCH = {"cpu": 8, "cuda": 256}


@dataclass(frozen=True, eq=False)
class PosePrediction:
    """Of one image.

    rgb: (S, S, 3), its view; features_view: as in Query. T_map_cam: (4, 4), mean of the crops' poses. spread: (6,),
    standard deviation among them along the camera's level axes (m) and about them (rad); 0 of one crop. features: (F,)
    and realism: of the centre crop, the latter NaN for networks without a discriminator.
    """

    rgb: UInt8
    features_view: UInt8
    T_map_cam: Float64
    spread: Float64
    features: Float32
    realism: float

    @classmethod
    def of(cls, query: Query, T_map_cam: Float64, features: Float32, realism: float) -> PosePrediction:
        """From the poses (K, 4, 4) of an image's crops."""
        assert query.features_view is not None
        mean = se3.mean(T_map_cam)
        spread = np.sqrt(np.mean(errors(np.broadcast_to(mean, T_map_cam.shape), T_map_cam) ** 2, axis=0))
        return cls(np.ascontiguousarray(query.crop()), query.features_view, mean, spread, features, realism)


class ImageEncoder:
    """A checkpoint's network and camera, ready to read images. `crops` is a key of CROPS."""

    def __init__(self, loaded: Checkpoint, model: PoseModel, device: str, crops: int) -> None:
        network: Any = model
        self._network = network.eval().to(device)
        self._normalization, self._device, self._crops = loaded.normalization, torch.device(device), CROPS[crops]
        camera, fit = loaded.camera, loaded.provenance.get("fit", "square")
        margin_px = int(loaded.provenance.get("margin", 0))
        self._query = QueryView(camera, margin_px, fit)
        # An uncalibrated image that became square by its whole is enlarged with its margin, so that both show the same.
        wide = round(margin_px * SIDE_PX / camera.width)
        same = camera.width == SIDE_PX
        self._view = self._query if same else QueryView(camera.resized(SIDE_PX, SIDE_PX), wide, fit)

    def prepare(self, rgb: UInt8, camera: Camera) -> Query:
        """All that comes before the network; it may be done in another thread while the network reads."""
        query = self._query.query(rgb, camera)
        reason = query.reason or blank(image_figures(query.crop()))
        if reason:
            return replace(query, reason=reason)
        view = query if self._view is self._query else self._view.query(rgb, camera)
        return replace(query, features_view=view.crop())

    def read(self, queries: Sequence[Query]) -> list[PosePrediction]:
        """Predictions for prepared queries without a reason against them."""
        count, step = len(self._crops), _BATCH[self._device.type]
        images = [
            query.crop(round(right * query.margin_px), round(down * query.margin_px))
            for query in queries
            for right, down in self._crops
        ]
        found = [self._infer(images[start : start + step]) for start in range(0, len(images), step)]
        if not found:
            return []
        T, features, realism = (np.concatenate(part) for part in zip(*found, strict=True))
        return [
            PosePrediction.of(query, T[i : i + count], features[i], float(realism[i]))
            for query, i in zip(queries, range(0, len(images), count), strict=True)
        ]

    @torch.inference_mode()
    def _infer(self, images: list[UInt8]) -> tuple[Float64, Float32, Float32]:
        batch = torch.from_numpy(np.stack(images)).to(self._device).permute(0, 3, 1, 2).float() / 255.0
        found = self._network.poses(batch, self._normalization)
        realism = torch.full((len(images),), float("nan")) if found.realism is None else found.realism
        T = found.T_map_cam.double().cpu().numpy()
        return T, found.features.float().cpu().numpy(), realism.float().reshape(-1).cpu().numpy()
