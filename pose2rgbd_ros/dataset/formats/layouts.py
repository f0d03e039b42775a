"""What exporters are given, and what they answer: the names of files and the text of lists. Images are not their job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pose2rgbd_ros.dataset.formats.config import ExportConfig
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of the dataset to export.

    `suffix` and `depth_suffix` are those its files will have. `label` is "train", "test", "unused", or "" without a
    split; `run` numbers the recordings, parted by pauses.
    """

    stamp_ns: int
    T_map_cam: Float64
    suffix: str
    depth_suffix: str
    label: str
    run: int


@dataclass(frozen=True, eq=False)
class Flight:
    """The frames to export, in time order, their camera (undistorted if that was asked for), the dataset itself.

    `with_depth`: whether depth files are written.
    """

    dataset: Dataset
    camera: Camera
    frames: Sequence[Frame]
    config: ExportConfig
    with_depth: bool

    @property
    def has_split(self) -> bool:
        """Whether frames have labels."""
        return bool(self.frames and self.frames[0].label)


@dataclass
class Layout:
    """Where each frame's colour and depth go (None: left out, and why in `left_out`), and the other files' text."""

    images: list[str | None]
    depths: list[str | None] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    left_out: str = ""
    notes: list[str] = field(default_factory=list)


def require_calibration(camera: Camera, format: str) -> None:
    """UserError for a camera without intrinsics."""
    if not camera.is_calibrated:
        raise UserError(
            f"{format} needs intrinsics, and the dataset's camera is not calibrated; convert the recording with a "
            "CameraInfo or --fov-deg"
        )


def require_pinhole(camera: Camera, format: str) -> None:
    """UserError for a camera that a format without distortion cannot describe."""
    if camera.is_distorted:
        raise UserError(
            f"{format} knows no distortion of this kind ({camera.distortion_model} "
            f"{[round(k, 6) for k in camera.distortion]}); --undistort resamples the images"
        )


def number(value: float) -> str:
    """Shortest text that keeps fifteen digits."""
    return f"{value:.15g}"


def row(values: Sequence[float] | Float64, separator: str = " ") -> str:
    """Numbers of one line."""
    return separator.join(number(float(value)) for value in values)
