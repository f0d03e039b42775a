"""What a dataset without depth can get it from, by name: stereo, a model of video, a teacher in an ONNX file.

The one place that `convert --depth`, `depth add --method` and others ask. It loads no torch before the work.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pose2rgbd_ros import settings as definitions
from pose2rgbd_ros.dataset.made_depth import without_made_depth
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import UInt8
from pose2rgbd_ros.models.teacher import OnnxDepth, TeacherSettings
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.training.families import families, video_config, video_settings_of

if TYPE_CHECKING:
    from pose2rgbd_ros.depth_from_images.stereo import StereoSettings

STEREO = ("stereo", "plane-sweep")
TEACHER_SUFFIX = ".onnx"
MOVED_PX, MOST_STRIDE, LOOKED_AT = 2.0, 10, 8
NARROW = 0.25  # of the networks' channels: minutes on a CPU teach no more


@dataclass(frozen=True)
class LearningSettings:
    """How a model of video that is named learns from the dataset first."""

    depth_minutes: float = setting(10.0, "minutes that a model of video learns from the dataset first", ge=0.01)
    depth_width: int = setting(128, "width in pixels of the images that it learns from", ge=16)
    depth_stride: int = setting(
        0, "its snippets take every so many frames; 0: so many that neighbours differ by a few pixels", ge=0, le=100
    )


@dataclass(frozen=True)
class DepthSettings:
    """How depth of a dataset is made from its own pictures, by whatever source."""

    learning: LearningSettings = field(default_factory=LearningSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)


def check_depth_source(how: str, settings: DepthSettings) -> None:
    """Before the work. UserError: there is no such source, or it cannot be used."""
    definitions.check(settings)
    if how in STEREO:
        return
    if how.endswith(TEACHER_SUFFIX):
        OnnxDepth.of_file(Path(how), settings.teacher)
        return
    if how in _models(supervised=True):
        raise UserError(
            f"{how} learns from true depth, which a video has not: train it on simulated flights (`pose2rgbd sim "
            f"dataset`, `pose2rgbd depth train {how}`) and give that run"
        )
    if how in _models():
        return
    if not Path(how).exists():
        raise UserError(
            f"there is no source of depth {how!r}: {', '.join((*STEREO, *_models()))}, the run of a model of video, or "
            f"the file of a network (*{TEACHER_SUFFIX})"
        )
    from pose2rgbd_ros.training.checkpoint import load_video_checkpoint

    load_video_checkpoint(Path(how))


def add_depth_by(
    folder: Path, how: str, settings: DepthSettings, stereo: StereoSettings | None = None, progress: bool = True
) -> Dataset:
    """Depth of a source for every frame of a dataset. Interrupted and called again it goes on.

    A model of video that is named learns from the dataset's frames that train first, into the folder DATASET-NAME
    beside it.

    Raises:
        UserError: as :func:`check_depth_source`; depth was recorded; the pictures do not show any.
    """
    check_depth_source(how, settings)
    if how in STEREO:
        from pose2rgbd_ros.depth_from_images.stereo import StereoSettings
        from pose2rgbd_ros.sfm.dense import add_depth, plan

        stereo = stereo or StereoSettings()
        if progress:
            print(plan(Dataset(folder), stereo), flush=True)
        return add_depth(folder, stereo, progress)
    if how.endswith(TEACHER_SUFFIX):
        from pose2rgbd_ros.models.video_depth import add_relative_depth  # torch only once it is needed

        method = OnnxDepth.of_file(Path(how), settings.teacher)
        facts = {"file": Path(how).name, "weights": method.identity[:16], "output": method.output}
        return add_relative_depth(folder, method, facts, progress)
    from pose2rgbd_ros.models.video_depth import add_trained_depth

    run = _trained(folder, how, settings) if how in _models() else Path(how)
    return add_trained_depth(folder, run, progress=progress)


def _models(supervised: bool = False) -> list[str]:
    """Models that learn from video alone, or those that need true depth."""
    every = [model for family in families("video").values() for model in family.models]
    return [model for model in every if video_settings_of(model).supervised == supervised]


def _trained(folder: Path, model: str, settings: DepthSettings) -> Path:
    """The run of a model that learnt from the dataset; one that was interrupted goes on."""
    from pose2rgbd_ros.training.trainer import train

    dataset = without_made_depth(Dataset(folder))
    if dataset.has_depth:
        raise UserError(f"{folder} has recorded depth, which stays")
    run = folder.resolve().with_name(f"{folder.resolve().name}-{model}")
    chosen = settings.learning
    stride = chosen.depth_stride or _stride(dataset, chosen.depth_width)
    narrow = {"width": NARROW} if "width" in {each.name for each in fields(video_settings_of(model))} else {}
    config = video_config(
        model, image_width=chosen.depth_width, max_minutes=chosen.depth_minutes, stride=stride, seed=0, **narrow
    )
    train([folder], run, config, resume=(run / "config.yaml").is_file())
    return run


def _stride(dataset: Dataset, width: int) -> int:
    """So many frames apart that pixels of images of that width move by a few, most of them."""
    height = max(1, round(width * dataset.camera.height / dataset.camera.width))
    from pose2rgbd_ros.depth_from_images.odometry import ClassicalFlow  # with torch

    flow, moved = ClassicalFlow(), list[float]()

    def small(index: int) -> UInt8:
        return np.asarray(cv2.resize(dataset.rgb(index), (width, height), interpolation=cv2.INTER_AREA), np.uint8)

    for index in np.unique(np.linspace(0, len(dataset) - 2, LOOKED_AT).astype(int)).tolist():
        found = flow(small(index), small(index + 1)).forward
        moved.append(float(np.median(np.linalg.norm(found, axis=-1))))
    return int(np.clip(round(MOVED_PX / max(float(np.median(moved)), 1e-3)), 1, MOST_STRIDE))
