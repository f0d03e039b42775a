"""What a source is (a bag, photographs, a video, its log), and the converter for it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pose2rgbd_ros.convert.bag import convert
from pose2rgbd_ros.convert.exif import SUFFIXES as PHOTO_SUFFIXES
from pose2rgbd_ros.convert.logs import SUFFIXES as LOG_SUFFIXES
from pose2rgbd_ros.convert.photos import convert_photos, is_photo
from pose2rgbd_ros.convert.report import ConvertReport
from pose2rgbd_ros.convert.settings import ConvertConfig, PhotoSettings, VideoSettings
from pose2rgbd_ros.convert.video import SUFFIXES as VIDEO_SUFFIXES
from pose2rgbd_ros.convert.video import convert_videos
from pose2rgbd_ros.dataset.filters import FilterConfig
from pose2rgbd_ros.errors import UserError

BAG, PHOTOS, VIDEO, LOG = "bag", "photographs", "video", "flight log"
_BAG_FILE = re.compile(r"\.(mcap|db3|bag)(\.active)?(\.zstd)?$")
# Settings of ConvertConfig that mean something for every kind of source.
_COMMON = (
    *("orientation", "body_to_camera", "altitude", "altitude_reference", "map_frame", "camera_frame"),
    *("fov_deg", "datum", "resume", "jobs"),
    *FilterConfig.__dataclass_fields__,
)
# Settings of ConvertConfig that mean nothing for a kind of source are refused; these mean something.
_USED = {
    PHOTOS: {*_COMMON, "raw_images", "jpeg_quality"},
    VIDEO: {
        *_COMMON,
        "jpeg_quality",
        "image_time_offset_s",
        "max_fix_gap_s",
        "interpolation",
        "antenna_m",
        "trim_ground",
        "course_speed_mps",
        "course_smoothing_s",
    },
}


def kind_of(source: Path) -> str:
    """What a path is: by its suffix, or by what a folder holds; a file of another name is taken for a bag."""
    if not source.exists():
        raise UserError(f"{source} does not exist")
    if source.is_dir():
        return _kind_of_folder(source)
    if not source.is_file():  # reading a pipe would never end
        raise UserError(f"{source} is a device, a pipe or a socket; give a file or a folder")
    suffix = source.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return VIDEO
    if suffix in LOG_SUFFIXES:
        return LOG
    return PHOTOS if suffix in PHOTO_SUFFIXES else BAG


def _kind_of_folder(folder: Path) -> str:
    try:
        names = [item.name for item in folder.iterdir()]
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror})") from error
    if "metadata.yaml" in names or any(_BAG_FILE.search(name) for name in names):
        return BAG
    if any(is_photo(path) for path in folder.rglob("*")):
        return PHOTOS
    if any(name.lower().endswith(VIDEO_SUFFIXES) for name in names):
        raise UserError(
            f"{folder} holds videos; name the video file, and its log if it has one: pose2rgbd convert VIDEO LOG OUT"
        )
    raise UserError(f"{folder} holds neither a recording (.db3, .mcap, .bag) nor photos")


def convert_sources(
    sources: Sequence[Path], out: Path, config: ConvertConfig, photos: PhotoSettings, video: VideoSettings
) -> ConvertReport:
    """Convert sources of one kind into the dataset `out`. UserError as the converter of that kind raises it."""
    kinds = {kind_of(source) for source in sources}
    if kinds <= {VIDEO, LOG}:
        kinds = {VIDEO}
    if len(kinds) > 1:
        raise UserError(
            f"the sources are of several kinds ({', '.join(sorted(kinds))}); convert one kind at a time, and add the "
            "others with --resume"
        )
    kind = kinds.pop()
    _refuse_settings(kind, config, photos, video)
    if kind == PHOTOS:
        return convert_photos(sources, out, config, photos)
    if kind == VIDEO:
        return convert_videos(sources, out, config, video)
    return convert(sources, out, config)


def _refuse_settings(kind: str, config: ConvertConfig, photos: PhotoSettings, video: VideoSettings) -> None:
    """UserError for a setting that is given but means nothing for this kind of source."""
    for owner, group, own in ((PHOTOS, "photos", photos), (VIDEO, "video", video)):
        if kind != owner:
            _refuse_given(own, set(), f"{group}.", kind)
    if kind in _USED:
        _refuse_given(config, _USED[kind], "", kind)


def _refuse_given(settings: Any, used: set[str], inside: str, kind: str) -> None:
    for field in dataclasses.fields(settings):
        if field.name not in used and getattr(settings, field.name) != field.default:
            option = f"{inside}{field.name}".replace("_", "-")
            raise UserError(f"--{option} means nothing for a source of kind {kind}; leave it out")
