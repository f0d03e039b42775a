"""Any recording that `pose2rgbd convert` takes, examined: bags, folders of photographs, videos with their logs."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pose2rgbd_ros.convert.convert import BAG, LOG, PHOTOS, VIDEO, kind_of
from pose2rgbd_ros.convert.settings import ConvertConfig, PhotoSettings, VideoSettings
from pose2rgbd_ros.convert.video import pair_with_logs
from pose2rgbd_ros.dataset.layout import META
from pose2rgbd_ros.doctor.bag import BagLook, examine_bag
from pose2rgbd_ros.doctor.diagnosis import Diagnosis
from pose2rgbd_ros.doctor.files import FileLook, examine_photos, examine_video
from pose2rgbd_ros.errors import UserError

Examined = tuple[Diagnosis, BagLook | FileLook | None]


def examine(
    sources: Sequence[Path],
    config: ConvertConfig | None = None,
    photos: PhotoSettings | None = None,
    video: VideoSettings | None = None,
) -> list[Examined]:
    """Each recording by itself, a video with its log; read as converting would with these settings.

    Nothing is written, and the cost is bounded: every message is looked at, of pictures a sample is decoded. UserError
    for what is no recording at all; a damaged or empty one is a diagnosis.
    """
    config, photos, video = config or ConvertConfig(), photos or PhotoSettings(), video or VideoSettings()
    given = (*_given(config), *_given(photos, "photos."), *_given(video, "video."))
    found: list[Examined] = []
    files: list[Path] = []
    for source in sources:
        if (source / META).is_file():
            raise UserError(f"{source} is a dataset already; `pose2rgbd inspect {source}` shows what is in it")
        kind = kind_of(source)
        if kind == BAG:
            found.append(examine_bag(source, config, given))
        elif kind == PHOTOS:
            found.append(examine_photos(source, config, photos, given))
        elif kind in (VIDEO, LOG):
            files.append(source)
    pairs = pair_with_logs(files) if files else []
    return [*found, *(examine_video(path, log, config, video, given) for path, log in pairs)]


def _given(settings: Any, inside: str = "") -> Iterator[str]:
    """The options that are not at their defaults, as `pose2rgbd convert` takes them."""
    for each in dataclasses.fields(settings):
        value, option = getattr(settings, each.name), f"--{inside}{each.name}".replace("_", "-")
        if value == each.default:
            continue
        if isinstance(value, bool):
            yield option if value else f"--{inside}no-{each.name}".replace("_", "-")
        else:
            values = value if isinstance(value, tuple) else (value,)
            yield " ".join([option, *(shlex.quote(str(it)) for it in values)])
