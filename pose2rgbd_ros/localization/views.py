"""The two pictures that refinement compares: the camera's image and a rendering, in one camera and at one size."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from pose2rgbd_ros.depth_from_images.inverse_warp import inverse_warp
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.rendering.renderer import Renderer

ANCHORS = 8  # training poses about a pose, of a network without geometry


@dataclass(frozen=True, eq=False)
class Picture:
    """rgb: (H, W, 3) uint8. seen: (H, W), where the camera's image shows anything. camera: an ideal pinhole."""

    rgb: UInt8
    seen: Bool
    camera: Camera

    def shrunk(self, side_px: int) -> Picture:
        """The same with its longer side of `side_px` pixels; itself when it is not larger."""
        camera = sized(self.camera, side_px)
        if camera == self.camera:
            return self
        size = camera.width, camera.height
        rgb = np.asarray(cv2.resize(self.rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        share = cv2.resize(self.seen.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        return Picture(rgb, np.asarray(share) > 0.99, camera)

    def seen_from(self, memory: RenderedMemory, T_map_cam: Float64) -> Picture:
        """The image of a camera at `T_map_cam` (4, 4), moved to where the rendering was made, by its depth."""
        if np.array_equal(memory.T_map_cam, T_map_cam):
            return self
        layers = np.dstack([self.rgb, self.seen]).astype(np.float32)
        there = inverse_warp(
            torch.from_numpy(layers).permute(2, 0, 1)[None],
            torch.from_numpy(np.asarray(memory.depth_m, np.float32))[None],
            torch.from_numpy((se3.inverse(T_map_cam) @ memory.T_map_cam)[None]).float(),
            torch.from_numpy(memory.camera.K).float(),
            torch.from_numpy(self.camera.K).float(),
        )
        seen = (there.valid & (there.image[:, 3] > 0.99))[0]
        rgb = (there.image[0, :3] * seen).round().byte().permute(1, 2, 0)
        return Picture(rgb.numpy(), seen.numpy(), memory.camera)


@dataclass(frozen=True, eq=False)
class RenderedMemory:
    """A rendering. rgb: (H, W, 3) uint8. depth_m: (H, W), NaN unknown. T_map_cam: where it was rendered."""

    rgb: UInt8
    depth_m: Float32
    T_map_cam: Float64
    camera: Camera


def sized(camera: Camera, side_px: int) -> Camera:
    """The camera of the image shrunk to a longer side of `side_px`."""
    scale = side_px / max(camera.width, camera.height)
    if scale >= 1:
        return camera
    return camera.resized(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))


class Views:
    """Makes comparable pictures for one renderer.

    A model that renders any camera shows what the query's camera sees; for another the query is moved into the trained
    camera. Lens distortion is taken out of the query either way.
    """

    def __init__(self, renderer: Renderer, side_px: int) -> None:
        if renderer.depth_kind != "metric" or renderer.depth_range is None:
            raise UserError("refinement needs a model with colour and metric depth; train it with --output rgbd")
        if not renderer.camera.is_calibrated:
            raise UserError("the trained camera is not calibrated (K[0] = 0), so renderings cannot be measured in")
        self.renderer = renderer
        self._side_px = side_px
        self._lookup: tuple[Camera, Camera, Float32] | None = None

    def picture(self, rgb: UInt8, camera: Camera) -> Picture:
        """An image (H, W, 3) uint8 of a calibrated `camera`, ready to be compared."""
        target = self._target(camera)
        scale = max(target.fx / camera.fx, target.fy / camera.fy)
        if scale < 1:  # shrinking averages; looking up single pixels of a large image would not
            camera = camera.resized(max(1, round(camera.width * scale)), max(1, round(camera.height * scale)))
            rgb = np.asarray(cv2.resize(rgb, (camera.width, camera.height), interpolation=cv2.INTER_AREA), np.uint8)
        if camera == target:
            return Picture(rgb, np.ones(rgb.shape[:2], bool), target)
        if self._lookup is None or self._lookup[:2] != (camera, target):
            self._lookup = camera, target, resample_map(camera, target)
        where = self._lookup[2]
        return Picture(resample(rgb, where, nearest=False), ~np.isnan(where[..., 0]), target)

    def memory(self, T_map_cam: Float64, camera: Camera) -> RenderedMemory:
        """The rendering at a pose (4, 4) as a camera of :meth:`picture`, or a smaller one of it, sees it."""
        return self._rendered(T_map_cam[None], camera)[0]

    def memories(self, T_map_cam: Float64, camera: Camera) -> list[RenderedMemory]:
        """Renderings that show what is seen at a pose (4, 4), as exactly as the model can; at least one.

        A model with geometry shows it at the pose itself. A network without knows the views that it was trained on and
        makes a blurred mixture of them in between; so it shows the training poses that look most alike.
        """
        if self.renderer.any_camera:
            return [self.memory(T_map_cam, camera)]
        return self._rendered(self.renderer.guard.score.most_alike(T_map_cam, ANCHORS), camera)

    def _rendered(self, T_map_cam: Float64, camera: Camera) -> list[RenderedMemory]:
        """At poses (N, 4, 4)."""
        whole = camera if self.renderer.any_camera else _pinhole(self.renderer.camera)
        shown = self.renderer.render_for_camera(T_map_cam, whole)
        assert shown.rgb is not None
        assert shown.depth is not None
        size = camera.width, camera.height
        found = []
        for T, rgb, depth in zip(T_map_cam, shown.rgb, shown.depth, strict=True):
            if whole != camera:
                rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
                depth = np.asarray(cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST), np.float32)
            found.append(RenderedMemory(rgb, depth, T, camera))
        return found

    def _target(self, camera: Camera) -> Camera:
        own = camera if self.renderer.any_camera else self.renderer.camera
        return sized(_pinhole(own), self._side_px)


def _pinhole(camera: Camera) -> Camera:
    return replace(camera, distortion_model="none", distortion=())


# How alike the camera's image and a rendering are: a robust normalised cross-correlation, for verification.


WINDOW_SHARE = 0.12  # of the picture's side: the standard deviation of the window, where likeness is measured
_NOISE = 3.0  # levels: a window with less contrast says nothing


def similarity(query: Picture, memory: RenderedMemory) -> float:
    """-1..1: the middle of the windows' normalised cross-correlations; 1 for equal pictures, about 0 for unrelated
    ones.

    A window sees its own gain and offset, so light does not matter, and what both pictures share in the large, a
    bright sky over dark ground, does not help. Only pixels of known depth and seen by the camera count; windows count
    by how many of those they hold, and flat ones of the camera's image not at all. NaN where nothing can be compared.
    """
    known = (np.isfinite(memory.depth_m) & query.seen).astype(np.float32)
    sigma = WINDOW_SHARE * max(known.shape)
    inside = _blur(known, sigma)
    # Grey, slightly smoothed: a pixel of misalignment is no other place.
    smooth_px = max(query.rgb.shape[1] / 128, 0.3)
    greys = (cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) for rgb in (query.rgb, memory.rgb))
    seen, shown = (_blur(grey, smooth_px, cv2.BORDER_DEFAULT) for grey in greys)
    mean_a, mean_b = (_mean(values * known, inside, sigma) for values in (seen, shown))
    var_a = _mean(seen**2 * known, inside, sigma) - mean_a**2
    var_b = _mean(shown**2 * known, inside, sigma) - mean_b**2
    both = _mean(seen * shown * known, inside, sigma) - mean_a * mean_b
    spread = np.sqrt(np.maximum(var_a, 0) + _NOISE**2) * np.sqrt(np.maximum(var_b, 0) + _NOISE**2)
    weight = inside * (var_a > _NOISE**2)
    if weight.sum() < 0.1 * known.size:
        return float("nan")
    return float(np.clip(np.average(both / spread, weights=weight), -1.0, 1.0))


def _blur(values: Float32, sigma: float, border: int = cv2.BORDER_CONSTANT) -> Float32:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma, borderType=border), np.float32)


def _mean(values: Float32, inside: Float32, sigma: float) -> Float32:
    return np.asarray(_blur(values, sigma) / np.maximum(inside, 1e-3), np.float32)
