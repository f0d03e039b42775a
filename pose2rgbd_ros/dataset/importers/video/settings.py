"""The settings that only videos have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pose2rgbd_ros.settings import setting


@dataclass(frozen=True)
class VideoSettings:
    """How a video with its log becomes a dataset, beyond what holds for recordings."""

    clock: Literal["auto", "flow", "creation", "log"] = setting(
        "auto",
        "how a log of its own is matched in time: flow (the picture's motion against the log's), creation (the file "
        "says when it was begun), log (both begin together), or auto: what the log says of recordings, else flow, else "
        "creation; image_time_offset_s adds to it",
    )
    start_s: float = setting(0.0, "seconds into the video at which to begin", ge=0, le=86_400)
    end_s: float = setting(0.0, "seconds into the video at which to end; 0: its end", ge=0, le=86_400)
    max_rate_hz: float = setting(0.0, "most frames per second; 0: all", ge=0)
    keyframes: bool = setting(False, "take key frames only: faster, and the sharpest frames of the file")
    image_height: int = setting(
        0, "make frames this high, keeping their aspect; 0: as they are", ge=0, le=8192
    )
    images: Literal["jpeg", "png"] = setting("jpeg", "how frames are stored (jpeg_quality: how well)")
