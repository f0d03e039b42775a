"""What there is to look at: models of a place, and the frames recorded there."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.splits import split_from_dict
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Float64, Int64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import Checkpoint, checkpoint_directory, load_checkpoint
from pose2rgbd_ros.viewer.settings import ViewSettings

# What became of a frame in the training of the first model, and its colour in the scene (Tol's bright scheme).
TRAINING, CHOOSING, JUDGING, OTHER = "training", "choosing", "judging", "unused"
COLOURS = {TRAINING: (68, 119, 170), CHOOSING: (204, 187, 68), JUDGING: (238, 102, 119), OTHER: (136, 136, 136)}
# The typical depth of a place is so many units of the scene: the browser's keys move by 2 units a second, and its
# depth buffer ends at 167 units.
UNITS_TYPICAL = 4.0
SCENE_FAR = 160.0
FARTHEST_UNITS = 1e5  # positions beyond are nonsense
FAR_APART = 3.0  # places are others when so many extents and typical depths lie between them


@dataclass(frozen=True, eq=False)
class Track:
    """The frames that are drawn, in time order: all, or evenly chosen ones.

    T_map_cam (N, 4, 4). kind (N,): one of COLOURS. frame (N,): index in the dataset, -1 of a model's own training
    poses. total: frames there are.
    """

    T_map_cam: Float64
    kind: AnyArray
    frame: Int64
    total: int

    @property
    def note(self) -> str:
        """What is not drawn; empty: nothing."""
        return f"{len(self.frame):,} of {self.total:,} frames are drawn" if len(self.frame) < self.total else ""


@dataclass(frozen=True, eq=False)
class Model:
    """A model under the name it has in the page. Its guard takes nothing away: the page shows what it would."""

    name: str
    renderer: Renderer


class Place:
    """Models of one place on one map, the frames recorded there, and the scene's frame.

    The scene is the map, moved to `centre_m` and scaled by `units_per_m`, z up.
    """

    def __init__(self, runs: Sequence[Path], dataset: Path | None, settings: ViewSettings) -> None:
        """UserError: a bad checkpoint or dataset, or places that lie apart."""
        if not runs:
            raise UserError("which model? give the folder of a run: pose2rgbd view RUN [DATASET]")
        checkpoints = [load_checkpoint(run) for run in runs]
        threads = settings.threads or None
        renderers = [
            Renderer(run, settings.device, threads=threads, guard=False, loaded=checkpoint)
            for run, checkpoint in zip(runs, checkpoints, strict=True)
        ]
        self.models = [Model(name, one) for name, one in zip(_names(runs), renderers, strict=True)]
        first, renderer = checkpoints[0], self.models[0].renderer
        for run, other in zip(runs[1:], checkpoints[1:], strict=True):
            _require_same_place(str(run), other.training_T_map_cam, first, renderer.guard.score.distance_m)
        self.dataset = None if dataset is None else Dataset(dataset)
        if self.dataset is not None:
            for checkpoint in checkpoints:
                checkpoint.check_map(self.dataset.path, self.dataset.meta)
            _require_same_place(str(dataset), self.dataset.T_map_cam, first, renderer.guard.score.distance_m)
        self.map_frame = renderer.map_frame
        self.track = _track(first, self.dataset, settings.most_frames)
        self.start_T_map_cam: Float64 = renderer.guard.example_T_map_cam
        self.centre_m: Float64 = np.round(self.start_T_map_cam[:3, 3])
        self.units_per_m = UNITS_TYPICAL / max(renderer.guard.score.distance_m, 1e-6)

    @property
    def unit(self) -> str:
        """Of depth: "m", or nothing where it is relative."""
        return "m" if self.models[0].renderer.depth_kind == "metric" else ""

    # The scene's frame ------------------------------------------------------------------------------------------

    def to_scene(self, points_m: Float64) -> Float64:
        """Points (..., 3) of the map in the scene."""
        return np.asarray((points_m - self.centre_m) * self.units_per_m)

    def scene_pose(self, T_map_cam: Float64) -> tuple[Float64, Float64]:
        """Position (..., 3) and quaternion wxyz (..., 4) in the scene of poses (..., 4, 4)."""
        position, quat_xyzw = se3.split(T_map_cam)
        return self.to_scene(position), np.roll(quat_xyzw, 1, axis=-1)

    def map_pose(self, position_units: AnyArray, quat_wxyz: AnyArray) -> Float64 | None:
        """T_map_cam (4, 4) of a camera in the scene; None where a browser sends nonsense."""
        position, quat = np.asarray(position_units, np.float64), np.asarray(quat_wxyz, np.float64)
        if position.shape != (3,) or quat.shape != (4,) or not np.isfinite([*position, *quat]).all():
            return None
        if np.abs(position).max() > FARTHEST_UNITS or not 0.5 < np.linalg.norm(quat) < 2.0:
            return None
        T = np.eye(4)
        T[:3, :3] = quaternions.to_matrix(np.roll(quat, -1))
        T[:3, 3] = position / self.units_per_m + self.centre_m
        return T


def view_camera(size: int, aspect: float, fov_rad: float) -> Camera | None:
    """A pinhole of about size * size pixels; fov from top to bottom. None for nonsense."""
    if not (np.isfinite([aspect, fov_rad]).all() and 0.1 <= aspect <= 10.0 and 0.02 < fov_rad < 3.1):
        return None
    height = max(round(size / aspect**0.5), 8)
    width = max(round(height * aspect), 8)
    focal = height / 2 / float(np.tan(fov_rad / 2))
    return Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)


def fitting_fov_rad(camera: Camera, aspect: float) -> float:
    """The field of view, top to bottom, of a page of this aspect that shows all that `camera` sees."""
    if not camera.is_calibrated:
        return 1.0
    tall, wide = camera.height / camera.fy, camera.width / camera.fx
    return float(2 * np.arctan(max(tall, wide / aspect) / 2))


def _names(runs: Sequence[Path]) -> list[str]:
    """The folders' names, with numbers where they are alike."""
    folders = [run.resolve() for run in runs]
    names = [folder.parent.name if folder.name == "checkpoint" else folder.name for folder in folders]
    return [f"{name} {index}" if names.count(name) > 1 else name for index, name in enumerate(names, 1)]


def _track(checkpoint: Checkpoint, dataset: Dataset | None, most: int) -> Track:
    if dataset is None:
        T, count = checkpoint.training_T_map_cam, len(checkpoint.training_T_map_cam)
        shown = _thinned(count, most)
        return Track(T[shown], np.full(len(shown), TRAINING, object), np.full(len(shown), -1), count)
    shown = _thinned(len(dataset), most)
    kind = _kinds(checkpoint, dataset)
    return Track(dataset.T_map_cam[shown], kind[shown], shown, len(dataset))


def _thinned(count: int, most: int) -> Int64:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _kinds(checkpoint: Checkpoint, dataset: Dataset) -> AnyArray:
    """(N,) what became of each frame."""
    position_m = dataset.T_map_cam[:, :3, 3]
    trained = checkpoint.trained_on(dataset.stamps_ns, position_m)
    kind = np.full(len(dataset), OTHER, object)
    recipe = checkpoint.provenance.get("split")
    if trained.any() and isinstance(recipe, dict):
        with contextlib.suppress(UserError):  # other frames than then: what was trained on is still known
            split = split_from_dict(recipe, dataset.stamps_ns, position_m, folder=dataset.path)
            kind[split.choose], kind[split.judge] = CHOOSING, JUDGING
    kind[trained] = TRAINING
    return kind


def _require_same_place(what: str, T_map_cam: Float64, checkpoint: Checkpoint, distance_m: float) -> None:
    trained_m = checkpoint.training_T_map_cam[:, :3, 3]
    extent_m = float(np.linalg.norm(np.ptp(trained_m, axis=0)))
    nearest_m = float(cKDTree(trained_m).query(T_map_cam[:, :3, 3])[0].min())
    if nearest_m > FAR_APART * (extent_m + distance_m):
        raise UserError(
            f"{what} is of another place: it comes no nearer than {nearest_m:,.0f} m to where the model was trained; "
            "give a dataset or a model of that place"
        )


def split_paths(paths: Sequence[Path], dataset: Path | None) -> tuple[list[Path], Path | None]:
    """Runs, and the dataset that may stand last among `paths`. UserError: two datasets, or what is neither."""
    runs = list(paths)
    if dataset is None and len(runs) > 1 and not _is_checkpoint(runs[-1]):
        return runs[:-1], runs[-1]
    return runs, dataset


def _is_checkpoint(path: Path) -> bool:
    try:
        checkpoint_directory(path)
    except UserError:
        return False
    return True
