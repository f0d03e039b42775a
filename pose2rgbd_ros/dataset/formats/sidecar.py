"""pose2rgbd.yaml in an exported folder: what the format has no words for. Other tools leave it alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera

NAME = "pose2rgbd.yaml"
_KEY = "exported_format"


@dataclass(frozen=True)
class Sidecar:
    """The camera of the exported images, the unit of their depth counts, whether images are named by their stamps."""

    format: str
    camera: Camera
    depth_unit_m: float | None = None
    named_by_stamp: bool = False

    def text(self, about: dict[str, Any]) -> dict[str, Any]:
        """Plain values for YAML, with more `about` the export for people."""
        return {
            _KEY: self.format,
            **about,
            "camera": self.camera.to_dict(),
            "depth_unit_m": self.depth_unit_m,
            "named_by_stamp": self.named_by_stamp,
        }


def read(folder: Path) -> Sidecar | None:
    """What an exported folder says of itself; None in other folders. UserError for a damaged file."""
    path = folder / NAME
    if not path.is_file():
        return None
    values = settings.read_yaml(path)
    try:
        unit = values.get("depth_unit_m")
        return Sidecar(
            str(values[_KEY]),
            Camera.from_dict(values["camera"]),
            float(unit) if unit is not None else None,
            bool(values.get("named_by_stamp", False)),
        )
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it to go without") from error
