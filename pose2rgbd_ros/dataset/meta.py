"""meta.yaml: what holds for all frames of a dataset, said once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import yaml

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.depth import DepthKind
from pose2rgbd_ros.geometry.geodesy import Datum

FORMAT_VERSION = 1
SAME_PIXEL = 0.5  # calibrations of one camera may differ by this much
Storage = Literal["undecided", "counts", "float"]


@dataclass
class MadeDepth:
    """How depth was made that nothing measured, and how sure its metres are.

    `scale_sigma`: relative standard deviation of its unit, None unknown. `split`: whether the dataset's split.txt,
    which says whose pictures it may use, was its own or came with the depth; none where it holds nothing out.
    """

    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    scale_sigma: float | None = None
    split: Literal["own", "written", "none"] = "none"


@dataclass
class DepthMeta:
    """What the depth files hold.

    `counts`: 16 bit PNG, 0 unknown, times `unit_m` metres. `float`: 32 bit TIFF, NaN unknown, metres when metric.
    `undecided` until the writer has seen a known depth. Relative depth is always `float` and has no unit. `made`: how,
    where it was not measured.
    """

    kind: DepthKind = "metric"
    storage: Storage = "undecided"
    unit_m: float | None = None
    made: MadeDepth | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(DepthKind) or self.storage not in get_args(Storage):
            raise UserError(
                f"depth of kind {self.kind!r} stored as {self.storage!r}; "
                f"known kinds: {', '.join(get_args(DepthKind))}; storages: {', '.join(get_args(Storage))}"
            )
        if (self.storage == "counts") != (self.unit_m is not None):
            raise UserError("depth stored as counts needs unit_m, and only then")
        if self.unit_m is not None and not (isinstance(self.unit_m, (int, float)) and self.unit_m > 0):
            raise UserError(f"the depth unit must be a positive number of metres, not {self.unit_m!r}")
        if self.kind == "relative" and self.storage == "counts":
            raise UserError("relative depth has no unit; it is stored as float")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for YAML."""
        values = dataclasses.asdict(self)
        return values if self.made else {name: value for name, value in values.items() if name != "made"}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DepthMeta:
        """The inverse of `to_dict`. TypeError or UserError for damaged values."""
        made = values.get("made")
        return cls(**{**values, "made": MadeDepth(**made) if made else None})


@dataclass
class SourceMeta:
    """One recording that frames came from."""

    name: str
    frames: int = 0
    first_stamp_ns: int | None = None
    last_stamp_ns: int | None = None
    recorded_from_ns: int | None = None  # when its first message was received: two of one name differ in that


@dataclass
class PosesMeta:
    """Where the poses came from. `accuracy` is what fusion says of itself; times are of images against poses.

    `unit` none: the poses are of pictures alone, so that lengths have no unit and nothing becomes metres by them.
    """

    position: str = "pose"
    orientation: str = "pose"
    mount: str = ""
    interpolation: str = "linear"
    altitude_reference: str = "unknown"
    topics: dict[str, str] = field(default_factory=dict)
    accuracy: dict[str, Any] | None = None
    image_time_offset_s: float = 0.0
    image_time_confidence: float | None = None
    unit: Literal["m", "none"] = "m"
    image_time_sigma_s: float | None = None  # of the offset; None unknown, or as given

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PosesMeta:
        """The inverse of `dataclasses.asdict`; what a newer version adds is left out. UserError for no mapping."""
        if not isinstance(values, dict):
            raise UserError(f"poses must be a mapping, not {values!r}")
        known = {item.name for item in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})


def simulation_of(recording: Path) -> dict[str, Any] | None:
    """The settings of the simulator that made a recording, from the truth beside it; None for the real world."""
    try:
        stated = yaml.safe_load((layout.truth_folder(recording) / layout.TRUTH).read_text())
        found = stated["settings"]
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


@dataclass
class DatasetMeta:
    """The facts of a dataset. `depth` None: colour only. `datum` None: the map is not tied to the Earth.

    `poses` None: where they came from is not known. `simulation`: the settings of the simulator that flew the (first)
    recording, None for the real world. `camera_from`: where the camera's intrinsics come from, in words, where that is
    no calibration.
    """

    camera: Camera
    map_frame: str = "map"
    camera_frame: str = "camera_optical_frame"
    depth: DepthMeta | None = None
    datum: Datum | None = None
    sources: list[SourceMeta] = field(default_factory=list)
    software: str = ""
    format_version: int = FORMAT_VERSION
    poses: PosesMeta | None = None
    simulation: dict[str, Any] | None = None
    camera_from: str = ""

    @property
    def has_metres(self) -> bool:
        """Whether lengths of the map are metres."""
        return self.poses is None or self.poses.unit == "m"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for YAML."""
        return {
            "format_version": self.format_version,
            "software": self.software or software(),
            "map_frame": self.map_frame,
            "camera_frame": self.camera_frame,
            "camera": self.camera.to_dict(),
            "depth": self.depth.to_dict() if self.depth else None,
            "datum": self.datum.to_dict() if self.datum else None,
            **({"poses": dataclasses.asdict(self.poses)} if self.poses else {}),
            **({"simulation": self.simulation} if self.simulation else {}),
            **({"camera_from": self.camera_from} if self.camera_from else {}),
            "sources": [dataclasses.asdict(source) for source in self.sources],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = layout.META) -> DatasetMeta:
        """The inverse of `to_dict`. UserError, naming `where`, for a newer format or damaged values."""
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise UserError(
                f"{where}: dataset format {version!r}; this version reads {FORMAT_VERSION}: "
                "update pose2rgbd, or convert the recording again"
            )
        try:
            depth, datum, poses = values.get("depth"), values.get("datum"), values.get("poses")
            return cls(
                camera=Camera.from_dict(values["camera"]),
                map_frame=str(values["map_frame"]),
                camera_frame=str(values["camera_frame"]),
                depth=DepthMeta.from_dict(depth) if depth else None,
                datum=Datum.from_dict(datum) if datum else None,
                sources=[SourceMeta(**source) for source in values.get("sources") or []],
                software=str(values.get("software", "")),
                poses=PosesMeta.from_dict(poses) if poses else None,
                simulation=values.get("simulation"),
                camera_from=str(values.get("camera_from", "")),
            )
        except (KeyError, TypeError, UserError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise UserError(f"{where}: {what}") from error


def software() -> str:
    """Name and version of this package."""
    try:
        return f"pose2rgbd {metadata.version('pose2rgbd')}"
    except metadata.PackageNotFoundError:  # on a ROS workspace the package is not pip-installed
        return "pose2rgbd"


def write_meta(folder: Path, meta: DatasetMeta) -> None:
    """Write or atomically replace meta.yaml. OSError passes through."""
    layout.atomic_write(folder / layout.META, meta_yaml(meta))


def meta_yaml(meta: DatasetMeta) -> bytes:
    """What meta.yaml holds."""
    return yaml.safe_dump(meta.to_dict(), sort_keys=False, allow_unicode=True).encode()


def read_meta(folder: Path | str) -> DatasetMeta:
    """The facts of the dataset in `folder`. UserError when it is not a dataset, or a damaged one."""
    path = Path(folder) / layout.META
    if not path.is_file():
        raise UserError(f"{folder} is not a dataset (no {layout.META}); make one with `pose2rgbd convert`")
    return DatasetMeta.from_dict(settings.read_yaml(path), str(path))


def check_same_place(stored: DatasetMeta, given: DatasetMeta, path: Path) -> None:
    """UserError when frames described by `given` do not belong into the dataset described by `stored`."""
    a, b = stored.camera, given.camera
    pixels = np.abs(np.subtract([a.fx, a.fy, a.cx, a.cy], [b.fx, b.fy, b.cx, b.cy])).max()
    lens = [np.pad(camera.distortion, (0, 8 - len(camera.distortion))) for camera in (a, b)]
    same_lens = a.distortion_model == b.distortion_model and np.allclose(lens[0], lens[1], atol=1e-3)
    if (a.width, a.height) != (b.width, b.height) or pixels > SAME_PIXEL or not same_lens:
        raise UserError(f"{path} was recorded with another camera ({a}), not this one ({b}); choose another folder")
    for name in ("map_frame", "camera_frame"):
        if getattr(stored, name) != getattr(given, name):
            raise UserError(
                f"{path} has {name} {getattr(stored, name)!r}, not {getattr(given, name)!r}; choose another folder"
            )
    if stored.depth and stored.depth.made and not given.depth:
        raise UserError(f"{path} has depth made from its pictures; `pose2rgbd depth remove {path}` first")
    kinds = [meta.depth.kind if meta.depth else "none" for meta in (stored, given)]
    if kinds[0] != kinds[1]:
        raise UserError(f"{path} holds depth of kind {kinds[0]}, not {kinds[1]}; choose another folder")
    if stored.datum and given.datum and stored.datum != given.datum:
        raise UserError(f"{path} has its map at {stored.datum}, not {given.datum}; place the recording there")
