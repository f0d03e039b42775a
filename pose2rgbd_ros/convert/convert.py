"""What a source is (a bag, photographs, a video, its log), the converter for it, and its signals for alignment."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pose2rgbd_ros.alignment.flow import FlowConfig, FlowSignal
from pose2rgbd_ros.alignment.signals import MotionSignal
from pose2rgbd_ros.bags.reader import BagReader, open_bag
from pose2rgbd_ros.convert.bag import convert, measure_bag, measure_dataset, read_poses
from pose2rgbd_ros.convert.exif import SUFFIXES as PHOTO_SUFFIXES
from pose2rgbd_ros.convert.logs.text import SUFFIXES as LOG_SUFFIXES
from pose2rgbd_ros.convert.photos import convert_photos, is_photo
from pose2rgbd_ros.convert.report import ConvertReport
from pose2rgbd_ros.convert.settings import ConvertConfig, PhotoSettings, VideoSettings
from pose2rgbd_ros.convert.video import PictureTrack, convert_videos
from pose2rgbd_ros.dataset.filters import FilterConfig
from pose2rgbd_ros.dataset.layout import META
from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.sfm.align import is_aligned, restore
from pose2rgbd_ros.streams.video_file import SUFFIXES as VIDEO_SUFFIXES

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
    with os_errors(f"{folder} cannot be read"):
        names = [item.name for item in folder.iterdir()]
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
    sources: Sequence[Path],
    out: Path,
    config: ConvertConfig,
    photos: PhotoSettings,
    video: VideoSettings,
    tracks: Mapping[Path, PictureTrack] | None = None,
) -> ConvertReport:
    """Convert sources of one kind into the dataset `out`; `tracks` are of videos that have no log.

    UserError as the converter of that kind raises it.
    """
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
    was_aligned = config.resume and is_aligned(out)
    if was_aligned:
        restore(out)
    try:
        if kind == PHOTOS:
            report = convert_photos(sources, out, config, photos)
        elif kind == VIDEO:
            report = convert_videos(sources, out, config, video, tracks)
        else:
            report = convert(sources, out, config)
    except UserError as error:
        named = " ".join(shlex.quote(str(source)) for source in sources)
        raise UserError(f"{error} (`pose2rgbd doctor {named}` tells what is in it)") from error
    if was_aligned:
        report.bags[-1].note(f"{out} was aligned and has its recorded poses again; `pose2rgbd align` places all of it")
    return report


def _refuse_settings(kind: str, config: ConvertConfig, photos: PhotoSettings, video: VideoSettings) -> None:
    """UserError for a setting that is given but means nothing for this kind of source."""
    for owner, group, own in ((PHOTOS, "photos", photos), (VIDEO, "video", video)):
        if kind != owner:
            _refuse_given(own, set(), f"{group}.", kind)
    if kind in _USED:
        _refuse_given(config, _USED[kind], "", kind)


def _refuse_given(settings: Any, used: set[str], inside: str, kind: str) -> None:
    for own in dataclasses.fields(settings):
        if own.name not in used and getattr(settings, own.name) != own.default:
            option = f"{inside}{own.name}".replace("_", "-")
            raise UserError(f"--{option} means nothing for a source of kind {kind}; leave it out")


# Any recording, or dataset, to the signals of alignment, read as the converter would read it.

# What is no recording and no dataset, and what to do with it.
_OTHER = {
    VIDEO: "a video; `pose2rgbd convert VIDEO LOG OUT` makes a dataset of it and its log, and finds how their "
    "clocks lie (--video.clock flow: by the motion of the picture); sync takes that dataset, too",
    PHOTOS: "photographs; `pose2rgbd convert PHOTOS OUT` makes a dataset of them, each with the pose of its EXIF tags",
    LOG: "a flight log; name it beside its video: `pose2rgbd convert VIDEO LOG OUT` finds how their clocks lie",
}


@dataclass(frozen=True, eq=False)
class Signals:
    """Flow of the images and motion of the poses, what was assumed, and what is wrong with the recording."""

    flow: FlowSignal
    motion: MotionSignal
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def measure(path: Path, config: ConvertConfig, flow: FlowConfig | None = None) -> Signals:
    """The signals of a recording or a dataset. UserError when something is missing."""
    if (path / META).is_file():
        return Signals(*measure_dataset(path, flow))
    if path.exists() and (kind := kind_of(path)) != BAG:
        raise UserError(f"{path}: sync takes recordings and datasets, and this is {_OTHER[kind]}")
    with open_bag(path) as reader:
        return _measure_bag(reader, config, flow)


def _measure_bag(reader: BagReader, config: ConvertConfig, flow: FlowConfig | None) -> Signals:
    first = read_poses(reader, config)
    topics, clocks = first.topics, first.options.clocks
    track = first.track(str(reader.path))
    signals = measure_bag(reader, topics, clocks, track, flow)
    warnings = dict.fromkeys([*first.warnings, *clocks.warnings, *reader.problems])
    return Signals(*signals, [*topics.notes, *topics.pose_notes, *first.notes], list(warnings))
