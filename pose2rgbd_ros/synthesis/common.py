"""Several models, and recorded frames, through one camera: what is compared has to look the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from tqdm import tqdm

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.evaluation.pictures import NearestFrame, model_name, scene_distance_m
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float64, Int64, UInt8
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.dataset import SETTINGS
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer, require_opengl
from pose2rgbd_ros.training.checkpoint import load_checkpoint

# The recorded frame whose view is most like that of a pose, with a frame left out.


class NearestOther:
    """Among the frames `known` of a dataset, by `NearestFrame` at their `scene_distance_m`."""

    def __init__(self, dataset: Dataset, known: Int64) -> None:
        self._known = known
        self._nearest = NearestFrame(dataset.T_map_cam[known], scene_distance_m(dataset, known))

    def __call__(self, T_map_cam: Float64, without: Int64 | None = None) -> Int64:
        """Indices (B,) of the frames nearest to poses (B, 4, 4); `without` (B,) is a frame of each not to answer."""
        if without is not None:
            is_frame = without[:, None] == self._known
            without = np.where(is_frame.any(axis=1), is_frame.argmax(axis=1), -1)
        return self._known[self._nearest(T_map_cam, without)]


_BATCH = 16


@dataclass(frozen=True, eq=False)
class Shower:
    """A trained model that shows colour, and the stamps of the frames it was trained on, and of those that chose it."""

    title: str
    renderer: Renderer
    trained_ns: Int64
    chosen_ns: Int64

    def show(self, T_map_cam: Float64, camera: Camera) -> UInt8:
        """Colour (B, H, W, 3) at poses (B, 4, 4), as `camera` sees it; black beyond the trained field of view."""
        shown = [
            self.renderer.render_for_camera(T_map_cam[start : start + _BATCH], camera).rgb
            for start in tqdm(
                range(0, len(T_map_cam), _BATCH), self.title, unit="batch", disable=None, delay=2.0, leave=False
            )
        ]
        return np.concatenate([rgb for rgb in shown if rgb is not None])

    def inside(self, T_map_cam: Float64) -> float:
        """Share of the poses at which the guard would trust the model's depth."""
        return float(np.mean([self.renderer.guard_score(T).inside for T in T_map_cam]))


def load(runs: Sequence[Path], device: str = "auto") -> list[Shower]:
    """The models of checkpoints, with distinct titles.

    UserError: none given, a bad checkpoint, one that shows no colour, or whose camera is not calibrated.
    """
    if not runs:
        raise UserError("give at least one checkpoint")
    models = [_load(run, device) for run in runs]
    titles = [model.title for model in models]
    names = [_folder(run) for run in runs]
    return [
        replace(model, title=f"{model.title} ({name})") if titles.count(model.title) > 1 else model
        for model, name in zip(models, names, strict=True)
    ]


def trained_on(dataset: Dataset, models: Sequence[Shower]) -> Bool:
    """(N,) which frames of a dataset one of the models was trained on."""
    return np.isin(dataset.stamps_ns, np.concatenate([model.trained_ns for model in models]))


def judging(dataset: Dataset, models: Sequence[Shower]) -> Bool:
    """(N,) which frames of a dataset no model was trained on, and none chosen by."""
    chosen = np.isin(dataset.stamps_ns, np.concatenate([model.chosen_ns for model in models]))
    return ~trained_on(dataset, models) & ~chosen


def common_camera(models: Sequence[Shower], size: int | None = None) -> Camera:
    """A square camera that all models can show in full: the narrowest of theirs, at `size` or the largest one's pixels.

    A model bound to its trained camera is resampled to it, the others look through it.
    """
    cameras = [model.renderer.camera for model in models]
    narrowest = min(cameras, key=lambda camera: camera.width / camera.fx)
    side = size or max(camera.width for camera in cameras)
    return narrowest.resized(side, side)


class Recording:
    """The frames of a dataset as `camera` would have recorded them at the same poses.

    UserError: the dataset's camera is not calibrated.
    """

    def __init__(self, dataset: Dataset, camera: Camera) -> None:
        if not dataset.camera.is_calibrated:
            raise UserError(f"the camera of {dataset.path} is not calibrated, so no view can be compared with it")
        self.dataset, self.camera = dataset, camera
        own = dataset.camera
        # Shrunk by averaging to the camera's scale first: looking up single pixels of a large image would alias.
        share = min(1.0, max(camera.fx / own.fx, camera.fy / own.fy))
        self._small = own.resized(max(1, round(own.width * share)), max(1, round(own.height * share)))
        self._lookup = resample_map(self._small, camera)

    def rgb(self, index: int) -> UInt8:
        """Colour (H, W, 3) of a frame; black where the recorded image ends."""
        return np.asarray(self.through(self.dataset.rgb(index)), dtype=np.uint8)

    def frames(self, indices: AnyArray) -> UInt8:
        """Colour (B, H, W, 3) of several."""
        return np.stack([self.rgb(int(index)) for index in indices])

    def through(self, image: AnyArray) -> AnyArray:
        """Any image of the dataset's camera, averaged and looked up alike."""
        size = self._small.width, self._small.height
        return resample(cv2.resize(image, size, interpolation=cv2.INTER_AREA), self._lookup, nearest=False)


def errors(shown: AnyArray, truth: AnyArray) -> Float64:
    """(B,) mean absolute difference of pictures (B, H, W, 3), in levels of 0..255."""
    difference = np.abs(np.asarray(shown, np.float32) - np.asarray(truth, np.float32))
    return np.asarray(difference.mean(axis=(1, 2, 3)), dtype=np.float64)


def _load(run: Path, device: str) -> Shower:
    checkpoint = load_checkpoint(run)
    renderer = Renderer(run, device, guard=False, calibrated=False)
    if checkpoint.output == "depth":
        raise UserError(f"{run} shows depth alone; views are synthesised from a model with colour")
    if not renderer.camera.is_calibrated:
        raise UserError(f"{run} was trained with an uncalibrated camera, so what it sees is unknown")
    chosen_ns = checkpoint.choosing_stamps_ns
    if chosen_ns is None:  # made before these frames were kept apart
        chosen_ns = checkpoint.training_stamps_ns[:0]
    return Shower(model_name(checkpoint), renderer, checkpoint.training_stamps_ns, chosen_ns)


def _folder(run: Path) -> str:
    folder = run.resolve()
    return folder.parent.name if folder.name == "checkpoint" else folder.name


# Sheets of strips: a row of pictures for each thing compared, beside a map where there is one.


TILE_INCH = 1.35
Rings = Sequence[tuple[float, float, float]]  # x, y and radius in pixels


@dataclass
class Strip:
    """Pictures in a row: `titles` above them, `rings` drawn in red on each; both may be empty."""

    label: str
    images: Sequence[AnyArray]
    titles: Sequence[str] = ()
    rings: Sequence[Rings] = field(default_factory=list)


def draw_strips(path: Path, strips: Sequence[Strip], title: str, beside: Callable[[Axes], None] | None = None) -> None:
    """Write a PNG or JPEG; `beside` draws a map left of the strips. UserError when it cannot be written."""
    columns, rows = max(len(strip.images) for strip in strips), len(strips)
    titled = sum(bool(strip.titles) for strip in strips)
    high = TILE_INCH * rows + 0.2 * titled + 0.45
    map_inch = min(high - 0.6, 4.6) if beside else 0.0
    left = map_inch + (0.75 if beside else 0.1)
    wide = left + 0.25 + TILE_INCH * columns + 0.05
    figure = Figure(figsize=(wide, high), dpi=110)
    figure.suptitle(title, fontsize=9, y=1 - 0.1 / high, va="top", parse_math=False)
    if beside:
        middle = (high - 0.35) / 2 + 0.1
        place = (0.55 / wide, (middle - map_inch / 2 + 0.15) / high, map_inch / wide, (map_inch - 0.1) / high)
        beside(figure.add_axes(place))
    top = high - 0.4
    for strip in strips:
        top -= 0.2 * bool(strip.titles)
        for column, image in enumerate(strip.images):
            x = left + 0.25 + TILE_INCH * column
            side = TILE_INCH - 0.04
            axes = figure.add_axes((x / wide, (top - side) / high, side / wide, side / high))
            _draw_tile(axes, strip, column, image)
        top -= TILE_INCH
    with os_errors(f"cannot write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def _draw_tile(axes: Axes, strip: Strip, column: int, image: AnyArray) -> None:
    axes.imshow(image)
    axes.set(xticks=[], yticks=[])
    if column == 0:
        axes.set_ylabel(strip.label, fontsize=7)
    if strip.titles:
        axes.set_title(strip.titles[column], fontsize=7, pad=2)
    for x, y, radius in strip.rings[column] if strip.rings else ():
        axes.add_patch(Circle((x, y), radius, fill=False, color="red", linewidth=1.1))


# What the simulator's world looks like off the flown track: the truth beside a synthesised view.


def true_views(dataset: Dataset, T_map_cam: Float64, camera: Camera) -> UInt8:
    """Colour (B, H, W, 3) of the dataset's simulated city at poses (B, 4, 4), without its cars and people.

    UserError: the dataset is not the simulator's, or there is no OpenGL.
    """
    path = dataset.path / SETTINGS
    if not path.is_file():
        raise UserError(f"{dataset.path} was not made by the simulator (no {SETTINGS}); leave out --truth")
    values = settings.read_yaml(path)
    config = settings.from_yaml_dict(CityConfig, values.get("city", {}), str(path))
    require_opengl()
    city = City(replace(config, cars=0, people=0))
    with SceneRenderer(city.scene, camera, int(values.get("supersample", 2))) as renderer:
        return np.stack([renderer.render(T).rgb for T in T_map_cam])
