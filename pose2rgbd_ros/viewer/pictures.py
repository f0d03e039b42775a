"""A view becomes a picture: layers in colour, two pictures split, blinking, subtracted or side by side."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float32, Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.geometry.depth import resize_nearest
from pose2rgbd_ros.rendering.trust import GuardAnswer
from pose2rgbd_ros.viewer.place import SCENE_FAR, Place, view_camera

# Layers by the names of the page, and what `RenderedImages` calls them.
COLOUR, DEPTH, LOWER, UPPER, CONFIDENCE, UNKNOWN = (
    "colour", "depth", "lower bound", "upper bound", "confidence", "unknown",
)  # fmt: skip
LAYERS = {
    COLOUR: "rgb",
    DEPTH: "depth",
    LOWER: "depth_lower",
    UPPER: "depth_upper",
    CONFIDENCE: "confidence",
    UNKNOWN: "rgb",
}
METRES = (DEPTH, LOWER, UPPER)
# How a second picture is compared with the first.
OFF, SPLIT, BLINK, ERROR, TILES = "off", "split", "blink", "error", "side by side"
COMPARISONS = (OFF, SPLIT, BLINK, ERROR, TILES)
RECORDED = "recorded frame"

# What is unknown is dark grey, with a ghost of what the model shows all the same; in colours it can be tinted.
UNKNOWN_GREY, GHOST, TINT = 64, 0.3, np.array([170, 51, 119], np.float32)
RGB_ERROR_TOP = 64.0  # of 255: the brightest colour of an error
DEPTH_ERROR_SHARE = 0.1  # of the range of depth, likewise
TILE_SHARE = 0.6  # of the side of a picture, where several stand side by side
_KEPT = 12  # pictures, for viewers that look the same way and for blinking
_SAMPLES, _SAMPLE_SIDE = 8, 48


@dataclass(frozen=True)
class Choice:
    """What a viewer has chosen to see. frame: index in the dataset of the frame it stands at, -1: at none."""

    model: int = 0
    layer: str = COLOUR
    comparison: str = OFF
    other: str = RECORDED  # or a model's name
    split: float = 0.5
    blink_on: bool = False
    tint: bool = False
    with_scene: bool = True  # things of the scene are drawn over the picture, so it needs depth
    frame: int = -1


@dataclass(frozen=True, eq=False)
class View:
    """What a viewer looks at."""

    T_map_cam: Float64
    fov_rad: float  # from top to bottom
    aspect: float  # width over height
    choice: Choice


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture, ready to be sent.

    rgb uint8 (H, W, 3). depth_units float32 (H, W): what hides things of the scene behind it; None: nothing does.
    note: what the page says beside it.
    """

    rgb: UInt8
    depth_units: Float32 | None
    guard: GuardAnswer
    note: str
    took_s: float


Images = dict[str, AnyArray]  # by the names of RenderedImages: (H, W[, 3]); and "unknown": bool (H, W)


class Studio:
    """Draws views. Safe for several threads, which take turns."""

    def __init__(self, place: Place, size: int, moving_size: int) -> None:
        self.place = place
        self.size, self._most_moving = size, min(moving_size, size)
        self.moving_size = float(self._most_moving)  # less while the model is slow
        self.rendered = 0  # pictures that a model was asked for, rather than found again
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Any, ...], Images] = OrderedDict()
        self._limits: dict[int, tuple[float, float]] = {}

    def layers(self, model: int) -> list[str]:
        """The layers that a model has."""
        renderer = self.place.models[model].renderer
        has = {COLOUR, UNKNOWN} if renderer.output != "depth" else set()
        if renderer.depth_kind is not None:
            has |= {DEPTH} | ({LOWER, UPPER} if renderer.calibration is not None else set())
        if renderer.has_confidence:
            has.add(CONFIDENCE)
        return [layer for layer in LAYERS if layer in has]

    def depth_limits(self, model: int) -> tuple[float, float]:
        """Ends of the colours of depth: what training poses show, but for the outermost percents."""
        if model not in self._limits:
            renderer = self.place.models[model].renderer
            T = self.place.track.T_map_cam
            camera = renderer.camera
            if renderer.any_camera:
                camera = camera.resized(_SAMPLE_SIDE, _SAMPLE_SIDE)
            some = T[np.linspace(0, len(T) - 1, min(_SAMPLES, len(T))).astype(int)]
            depths = [self.render(model, one, camera).get("depth") for one in some]
            known = np.concatenate([np.zeros(0), *(depth[np.isfinite(depth)] for depth in depths if depth is not None)])
            low, high = np.percentile(known, [1, 98]) if len(known) else (0.0, 1.0)
            self._limits[model] = float(low), float(max(high, low + 1e-6))
        return self._limits[model]

    def draw(self, view: View, at_rest: bool) -> Shown:
        """The picture of a view. UserError: the model cannot show it to this camera, or a frame cannot be read."""
        started_s = time.perf_counter()
        choice = view.choice
        size = self.size if at_rest else round(self.moving_size)
        camera = self._camera(view, round(TILE_SHARE * size) if choice.comparison == TILES else size)
        images = self.render(choice.model, view.T_map_cam, camera)
        guard = self.place.models[choice.model].renderer.guard_score(view.T_map_cam)
        drawn, note = self._compared(view, camera, images)
        depth = self._scene_depth(images) if choice.with_scene and choice.comparison != TILES else None
        took_s = time.perf_counter() - started_s
        if not at_rest:
            self._adapt(took_s)
        return Shown(drawn, depth, guard, note, took_s)

    def render(self, model: int, T_map_cam: Float64, camera: Camera) -> Images:
        """What a model shows, from memory where it was just asked the same."""

        def make() -> Images:
            renderer = self.place.models[model].renderer
            rendered = renderer.render_for_camera(T_map_cam, camera)
            self.rendered += 1
            images = {name: batch[0] for name, batch in rendered.present().items()}
            images["unknown"] = _unknown(images, renderer.guard_score(T_map_cam).inside)
            return images

        return self._once((model, T_map_cam.tobytes(), camera), make)

    def recorded(self, frame: int, camera: Camera) -> Images:
        """A recorded frame as `camera` at its pose sees it; black, and NaN, where it saw nothing."""
        dataset = self.place.dataset
        assert dataset is not None

        def make() -> Images:
            lookup = resample_map(dataset.camera, camera)
            images: Images = {"rgb": resample(dataset.rgb(frame), lookup, nearest=False)}
            if dataset.has_depth and dataset.depth_kind == self.place.models[0].renderer.depth_kind:
                depth = dataset.depth(frame)
                if depth.shape != (dataset.camera.height, dataset.camera.width):
                    depth = resize_nearest(depth, dataset.camera.width, dataset.camera.height)
                images["depth"] = resample(depth, lookup, nearest=True, fill=np.nan)
            images["unknown"] = ~np.isfinite(images["depth"]) if "depth" in images else np.zeros(lookup.shape[:2], bool)
            return images

        return self._once((RECORDED, frame, camera), make)

    def _once(self, key: tuple[Any, ...], make: Callable[[], Images]) -> Images:
        """Pictures from memory, or made: one thread at a time."""
        with self._lock:
            if (kept := self._kept.get(key)) is None:
                kept = self._kept[key] = make()
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return kept

    def coloured(self, model: int, layer: str, images: Images, tint: bool = False) -> UInt8:
        """A layer as a picture uint8 (H, W, 3); dark grey where it is not there, nearly so where it is unknown."""
        image = images.get(LAYERS[layer])
        if layer in METRES or layer == CONFIDENCE:
            if image is None:
                some = next(iter(images.values()))
                return np.full((*some.shape[:2], 3), UNKNOWN_GREY, np.uint8)
            low, high = self.depth_limits(model) if layer in METRES else (0.0, 1.0)
            # Near is red and far is blue, as on the sheets; of confidence, dark is none.
            colours = cv2.COLORMAP_TURBO if layer in METRES else cv2.COLORMAP_VIRIDIS
            return _greyed(_mapped(image, low, high, colours, backwards=layer in METRES), images["unknown"])
        if image is None:  # a model of depth alone has no colour
            return self.coloured(model, DEPTH, images)
        if tint or layer == UNKNOWN:
            return _tinted(image, images["unknown"], dim=layer == UNKNOWN)
        return np.asarray(image, np.uint8)

    # One picture, or two ----------------------------------------------------------------------------------------

    def _compared(self, view: View, camera: Camera, images: Images) -> tuple[UInt8, str]:
        choice = view.choice
        first = self.coloured(choice.model, choice.layer, images, choice.tint)
        if choice.comparison == TILES:
            return self._tiles(view, camera, images, first), ""
        if choice.comparison == OFF:
            return first, ""
        found = self._second(view, camera)
        if found is None:
            return first, f"go to a frame to compare with a {RECORDED}"
        other, model = found
        if choice.comparison == ERROR:
            return self._error(choice, images, other)
        second = self.coloured(model, choice.layer, other, choice.tint and choice.other != RECORDED)
        name = self.place.models[choice.model].name
        if choice.comparison == BLINK:
            return (second, choice.other) if choice.blink_on else (first, name)
        at = int(np.clip(choice.split, 0.0, 1.0) * first.shape[1])
        joined = np.concatenate([first[:, :at], second[:, at:]], axis=1)
        joined[:, max(at - 1, 0) : at + 1] = 255
        return joined, f"left {name}, right {choice.other}"

    def _second(self, view: View, camera: Camera) -> tuple[Images, int] | None:
        """The picture compared with, and the model whose colours it has; None: there is none at this pose."""
        choice = view.choice
        for index, model in enumerate(self.place.models):
            if model.name == choice.other:
                return self.render(index, view.T_map_cam, camera), index
        if choice.frame < 0 or self.place.dataset is None:
            return None
        return self.recorded(choice.frame, camera), choice.model

    def _error(self, choice: Choice, images: Images, other: Images) -> tuple[UInt8, str]:
        if choice.layer in METRES:
            low, high = self.depth_limits(choice.model)
            top, name = DEPTH_ERROR_SHARE * (high - low), "depth"
            a, b = images.get("depth"), other.get("depth")
            unit = self.place.unit
        else:
            top, name, unit = RGB_ERROR_TOP, "colour", "of 255"
            a, b = images.get("rgb"), other.get("rgb")
        if a is None or b is None:
            blank = np.full((*next(iter(images.values())).shape[:2], 3), UNKNOWN_GREY, np.uint8)
            return blank, f"one of the two has no {name}"
        difference = np.abs(a.astype(np.float32) - b.astype(np.float32))
        if difference.ndim == 3:
            difference = difference.mean(axis=2)
            seen = (a > 0).any(axis=2) & (b > 0).any(axis=2)  # black: outside one of the two fields of view
            difference[~seen] = np.nan
        else:
            difference[images["unknown"]] = np.nan
        mean = float(np.nanmean(difference)) if np.isfinite(difference).any() else float("nan")
        text = f"error of {name}: mean {mean:.2f} {unit}, white from {top:.3g} {unit}"
        return _mapped(difference, 0.0, top, cv2.COLORMAP_MAGMA), text

    def _tiles(self, view: View, camera: Camera, images: Images, first: UInt8) -> UInt8:
        """All there is at this pose, in a grid: the recorded frame, every model, and the difference."""
        choice = view.choice
        tiles = [(self.place.models[choice.model].name, first)]
        for index, model in enumerate(self.place.models):
            if index != choice.model:
                other = self.render(index, view.T_map_cam, camera)
                tiles.append((model.name, self.coloured(index, choice.layer, other, choice.tint)))
        if self.place.dataset is not None and choice.frame >= 0:
            recorded = self.recorded(choice.frame, camera)
            tiles.insert(0, (RECORDED, self.coloured(choice.model, choice.layer, recorded)))
            tiles.append(("error", self._error(choice, images, recorded)[0]))
            if "depth" in images and choice.layer not in METRES:
                tiles.append((DEPTH, self.coloured(choice.model, DEPTH, images)))
        elif len(tiles) > 1:
            compared = replace(view, choice=replace(choice, other=tiles[1][0]))
            found = self._second(compared, camera)
            assert found is not None
            tiles.append(("difference of the first two", self._error(choice, images, found[0])[0]))
        return _grid(tiles)

    def _scene_depth(self, images: Images) -> Float32 | None:
        depth = images.get("depth")
        if depth is None or not self.place.unit:
            return None
        units = depth * np.float32(self.place.units_per_m)
        return np.where(np.isfinite(units), np.minimum(units, SCENE_FAR), SCENE_FAR).astype(np.float32)

    def _camera(self, view: View, size: int) -> Camera:
        camera = view_camera(size, view.aspect, view.fov_rad)
        if camera is None:
            raise UserError(f"a view of {view.fov_rad} rad and aspect {view.aspect} cannot be drawn")
        return camera

    def _adapt(self, took_s: float) -> None:
        """Smaller pictures on the move while they take more than a twentieth of a second."""
        factor = float(np.clip((0.05 / max(took_s, 1e-3)) ** 0.5, 0.7, 1.1))
        self.moving_size = float(np.clip(self.moving_size * factor, min(64, self._most_moving), self._most_moving))


def _mapped(image: AnyArray, low: float, high: float, colours: int, backwards: bool = False) -> UInt8:
    """Colours (H, W, 3) of values (H, W); dark grey where they are not finite."""
    known = np.isfinite(image)
    share = np.clip((np.where(known, image, low) - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    mapped = cv2.applyColorMap(255 - share if backwards else share, colours)[..., ::-1].copy()
    mapped[~known] = UNKNOWN_GREY
    return np.asarray(mapped, np.uint8)


def _unknown(images: Images, is_known_pose: bool) -> Bool:
    """(H, W) where a model vouches for nothing: at this pose, or of pixels whose bounds are the widest there are."""
    depth, upper = images.get("depth"), images.get("depth_upper")
    if depth is None or not is_known_pose:
        return np.full(next(iter(images.values())).shape[:2], not is_known_pose)
    return np.asarray(~np.isfinite(depth) | (False if upper is None else ~np.isfinite(upper)))


def _greyed(picture: UInt8, unknown: Bool) -> UInt8:
    picture[unknown] = (GHOST * picture[unknown] + (1 - GHOST) * UNKNOWN_GREY).astype(np.uint8)
    return picture


def _tinted(rgb: AnyArray, unknown: Bool, dim: bool) -> UInt8:
    tinted = rgb.astype(np.float32) * (0.6 if dim else 1.0)
    tinted[unknown] = 0.4 * tinted[unknown] + 0.6 * TINT
    return tinted.astype(np.uint8)


def _grid(tiles: list[tuple[str, UInt8]]) -> UInt8:
    """Pictures of one size in a grid of their own aspect, each with its name."""
    columns = int(np.ceil(np.sqrt(len(tiles))))
    rows = -(-len(tiles) // columns)
    height, width = tiles[0][1].shape[:2]
    grid = np.full((columns * height, columns * width, 3), 24, np.uint8)
    size = max(height / 400, 0.35)
    for number, (name, tile) in enumerate(tiles):
        row, column = divmod(number, columns)
        top = row * height + (columns - rows) * height // 2
        framed = tile.copy()
        framed[[0, -1]] = framed[:, [0, -1]] = 24
        for colour, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(framed, name, (8, int(28 * size)), cv2.FONT_HERSHEY_SIMPLEX, size, colour, thick, cv2.LINE_AA)
        grid[top : top + height, column * width : (column + 1) * width] = framed
    return grid
