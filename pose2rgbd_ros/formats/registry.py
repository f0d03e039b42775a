"""All formats by name, and which of them a folder is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pose2rgbd_ros.dataset import layout as own
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.formats import cambridge, colmap, euroc, kitti, nerfstudio, seven_scenes, tum
from pose2rgbd_ros.formats.scene import Flight, Layout, Scene
from pose2rgbd_ros.formats.settings import NAMES, ImportConfig


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        detect: whether a folder looks like it; quick.
        load: reads the lists of a folder; the last argument stamps frame 0 where there are no stamps.
        lay_out: names the files of an export.
        png_only: whether its own images are PNG.
        has_depth: whether it has a place for depth images.
        depth_unit_m: metres of one depth count as its readers expect them; None: any, as they stand.
        has_split: whether it keeps training and test frames apart.
        named_by_stamp: whether an export's images are named by their stamps in nanoseconds.
    """

    detect: Callable[[Path], bool]
    load: Callable[[Path, ImportConfig, int], Scene]
    lay_out: Callable[[Flight], Layout]
    png_only: bool = False
    has_depth: bool = False
    depth_unit_m: float | None = None
    has_split: bool = False
    named_by_stamp: bool = False


FORMATS = {
    "nerfstudio": Format(
        nerfstudio.detect, nerfstudio.load, nerfstudio.lay_out, has_depth=True, has_split=True, named_by_stamp=True
    ),
    "tum": Format(tum.detect, tum.load, tum.lay_out, True, True, tum.DEPTH_UNIT_M),
    "kitti": Format(kitti.detect, kitti.load, kitti.lay_out, True),
    "euroc": Format(euroc.detect, euroc.load, euroc.lay_out, True),
    "7scenes": Format(
        seven_scenes.detect, seven_scenes.load, seven_scenes.lay_out, True, True, seven_scenes.DEPTH_UNIT_M, True
    ),
    "cambridge": Format(cambridge.detect, cambridge.load, cambridge.lay_out, True, has_split=True, named_by_stamp=True),
    "colmap": Format(colmap.detect, colmap.load, colmap.lay_out, has_split=True, named_by_stamp=True),
}
assert tuple(FORMATS) == NAMES


def recognise(path: Path) -> list[str]:
    """The formats that a folder may be, the likeliest first. UserError when it is none, or a dataset of ours."""
    if not path.exists():
        raise UserError(f"{path} does not exist")
    if (path / own.META).is_file() and (path / own.ASSOCIATIONS).is_file():
        raise UserError(f"{path} is a dataset already; train on it, or export it")
    found = [name for name, format in FORMATS.items() if format.detect(path)]
    if not found:
        raise UserError(
            f"{path} is of no known format ({', '.join(NAMES)}); recordings are read by `pose2rgbd convert`"
        )
    return found
