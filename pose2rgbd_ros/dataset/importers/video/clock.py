"""When a video was taken by the clock of its log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.dataset.importers.logs.flight_log import SECOND, FlightLog
from pose2rgbd_ros.dataset.importers.video.file import VideoFile
from pose2rgbd_ros.dataset.importers.video.settings import VideoSettings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.streams.alignment.align import Alignment, AlignOptions, estimate_offset
from pose2rgbd_ros.streams.alignment.flow import FlowMeter, FlowSignal
from pose2rgbd_ros.streams.alignment.motion import MotionSignal, from_positions, from_velocities

# A log says that a recording began and ended; so much may its length differ from the video's.
_SAME_LENGTH_S = 3.0
# About a creation time that falls into the log, which is a second fine at best.
_NEAR_S = 10.0
# What an offset counts from, of a log on the video's time or of another, and one that the creation time falls into.
_FROM = {
    (True, True): "video's own time",
    (True, False): "video's own time",
    (False, True): "file's creation time",
    (False, False): "beginning of the log",
}


@dataclass(frozen=True, eq=False)
class VideoClock:
    """`zero_ns`: stamp of the video's first frame. `offset_ns` of an image stamp: what to add to it to look up its pose.
    `how` in words; `doubtful` where that may be off by a second."""

    zero_ns: int
    offset_ns: Callable[[int], int]
    how: str
    confidence: float | None = None
    doubtful: bool = False


def clock_of(
    video: VideoFile, log: FlightLog, position_m: Float64, options: VideoSettings, extra_s: float
) -> VideoClock:
    """The clock of a video beside its log; UserError, naming the ways out, when it cannot be told."""
    extra_ns = round(extra_s * SECOND)
    if log.on_video_time:
        return _riding(video, log, position_m, options, extra_ns)
    if options.clock == "log":
        return VideoClock(int(log.stamps_ns[0]), lambda _: extra_ns, "video and log begin together, as given")
    begun = video.creation_ns if log.clock == "utc" else None
    if options.clock == "creation" or (options.clock == "auto" and extra_ns):
        if begun is None:
            if options.clock == "auto":
                return VideoClock(
                    int(log.stamps_ns[0]),
                    lambda _: extra_ns,
                    "offset as given, from the beginning of the log",
                )
            raise UserError(_no_creation(video, log))
        return VideoClock(
            begun, lambda _: extra_ns, "the file's creation time, taken as UTC, and the offset as given"
        )
    told = _recording(video, log) if options.clock == "auto" else None
    if told is not None:
        return VideoClock(told, lambda _: extra_ns, "the log says when the video was begun")
    return _by_flow(video, log, position_m, options, begun, extra_ns)


def _riding(
    video: VideoFile, log: FlightLog, position_m: Float64, options: VideoSettings, extra_ns: int
) -> VideoClock:
    """The clock of a log on the video's own time; by flow, when asked, how late its positions are."""
    if options.clock in ("creation", "log"):
        raise UserError(
            f"{log.name} has the video's own time; --video.clock {options.clock} means nothing for it"
        )
    zero_ns = log.utc_at_zero_ns or video.creation_ns or 0
    if options.clock == "auto":
        return VideoClock(zero_ns, lambda _: extra_ns, "the log has the video's own time")
    by_utc = replace(log, stamps_ns=log.stamps_ns + zero_ns)
    return _by_flow(video, by_utc, position_m, options, zero_ns, extra_ns)


def _by_flow(
    video: VideoFile,
    log: FlightLog,
    position_m: Float64,
    options: VideoSettings,
    begun: int | None,
    extra_ns: int,
) -> VideoClock:
    inside = begun is not None and _overlaps(begun, video, log)
    zero_ns = begun if inside and begun is not None else int(log.stamps_ns[0])
    limit_s = _NEAR_S if inside else 0.0
    try:
        found = estimate_offset(
            _flow(video, zero_ns, options), _motion(log, position_m), AlignOptions(max_offset_s=limit_s)
        )
    except UserError as error:
        found = Alignment(False, str(error))
    if found.observable:
        drift = f", drift {found.drift_ppm:.0f} ppm" if found.drift_ppm else ""
        how = (
            f"the picture's motion against the log's: {found.offset_s:+.3f} s from the "
            f"{_FROM[log.on_video_time, inside]} (sigma {found.sigma_s:.3f} s, confidence "
            f"{found.confidence:.2f}{drift})"
        )

        def offset(stamp_ns: int) -> int:
            return int(found.offsets_ns(np.array([stamp_ns]))[0]) + extra_ns

        return VideoClock(zero_ns, offset, how, found.confidence)
    if inside and options.clock == "auto":
        return VideoClock(
            zero_ns,
            lambda _: extra_ns,
            f"the file's creation time, good to a second at best ({found.why}); --image-time-offset-s adds to it",
            doubtful=True,
        )
    raise UserError(
        f"{video.path}: when it was taken cannot be told from its pictures ({found.why}){_difference(begun, video, log)}; "
        "--video.clock creation takes the file's creation time, --video.clock log lets both begin together, and "
        "--image-time-offset-s adds to either"
    )


def _flow(video: VideoFile, zero_ns: int, options: VideoSettings) -> FlowSignal:
    meter = FlowMeter()
    frames = video.frames(options.start_s, options.end_s)
    for frame in tqdm(frames, desc=f"{video.path.name} flow", unit="image", leave=False, disable=None):
        if meter.wants(frame.media_ns):
            meter.add(zero_ns + frame.media_ns, frame.grey(meter.config.width_px))
    return meter.signal()


def _motion(log: FlightLog, position_m: Float64) -> MotionSignal:
    if np.isfinite(log.velocity_enu_mps).all():
        return from_velocities(log.name, log.stamps_ns, log.velocity_enu_mps)
    return from_positions(log.name, log.stamps_ns, position_m)


def _recording(video: VideoFile, log: FlightLog) -> int | None:
    """Begin of the one recording in the log that is as long as the video."""
    length_ns = video.duration_s * SECOND
    same = [
        begin for begin, end in log.recordings_ns if abs(end - begin - length_ns) <= _SAME_LENGTH_S * SECOND
    ]
    return same[0] if len(same) == 1 else None


def _overlaps(begun: int, video: VideoFile, log: FlightLog) -> bool:
    first, last = int(log.stamps_ns[0]), int(log.stamps_ns[-1])
    return begun < last and begun + video.duration_s * SECOND > first


def _no_creation(video: VideoFile, log: FlightLog) -> str:
    if log.clock != "utc":
        return (
            f"{log.name} has a clock of its own, which the creation time of {video.path} says nothing about"
        )
    return f"{video.path} does not say when it was begun; --video.clock log lets it begin with its log"


def _difference(begun: int | None, video: VideoFile, log: FlightLog) -> str:
    """How far apart file and log are, for the error; whole hours are a time zone."""
    if begun is None or _overlaps(begun, video, log):
        return ""
    hours = (begun - int(log.stamps_ns[0])) / SECOND / 3600
    zone = "; it may be local time" if abs(hours) < 15 else ""
    return f", and the file's creation time is {hours:+.2f} h from the beginning of the log{zone}"
