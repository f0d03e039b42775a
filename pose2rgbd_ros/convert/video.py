"""A video with its log to a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pose2rgbd_ros import settings
from pose2rgbd_ros.alignment.align import Alignment, AlignOptions, estimate_offset
from pose2rgbd_ros.alignment.flow import FlowMeter, FlowSignal
from pose2rgbd_ros.alignment.signals import MotionSignal, motion_from_positions, motion_from_velocities
from pose2rgbd_ros.convert.logs import flight_log
from pose2rgbd_ros.convert.logs.flight_log import SECOND, FlightLog, LogPoses, poses_of
from pose2rgbd_ros.convert.logs.gpmf import read_gpmf
from pose2rgbd_ros.convert.logs.text import SUFFIXES as LOG_SUFFIXES
from pose2rgbd_ros.convert.logs.text import log_of_subtitles, read_log
from pose2rgbd_ros.convert.report import BagReport, ConvertReport, conversion
from pose2rgbd_ros.convert.settings import ConvertConfig, VideoSettings
from pose2rgbd_ros.dataset.encode import camera_of_images
from pose2rgbd_ros.dataset.filters import flight_filter
from pose2rgbd_ros.dataset.ingest import FrameSink
from pose2rgbd_ros.dataset.layout import require_distinct
from pose2rgbd_ros.dataset.meta import DatasetMeta, PosesMeta
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses import gps
from pose2rgbd_ros.streams.samples import ImageSample
from pose2rgbd_ros.streams.synchronizer import Frame, RecordedPoses, SyncConfig, Synchronizer
from pose2rgbd_ros.streams.video_file import SUFFIXES, VideoFile, VideoFrame

# Videos with a flight log, beside them or inside, to a dataset.

# When a video was taken by the clock of its log.


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
    """`zero_ns`: stamp of the video's first frame. `offset_ns` of an image stamp: what to add to it to look up its
    pose.
    `how` in words; `doubtful` where that may be off by a second."""

    zero_ns: int
    offset_ns: Callable[[int], int]
    how: str
    confidence: float | None = None
    doubtful: bool = False
    sigma_s: float | None = None


@dataclass(frozen=True, eq=False)
class PictureTrack:
    """The way of a video's camera by its pictures alone, where no log says it.

    Attributes:
        stamps_ns: (N,) on the video's own time.
        T_map_cam: (N, 4, 4), in no unit; frames between them lie between.
        how: by what, in words; `notes` on it.
        camera: of the frames; `camera_from` says in words where its intrinsics come from.
    """

    stamps_ns: Int64
    T_map_cam: Float64
    how: str
    camera: Camera
    camera_from: str
    notes: tuple[str, ...] = ()

    def poses(self, shift_ns: int) -> LogPoses:
        """The poses of the camera, by a clock that is ahead of the video's time."""
        track = Trajectory(self.stamps_ns + shift_ns, *se3.split(self.T_map_cam))
        far_ns = int(np.ptp(self.stamps_ns)) + 1
        facts = PosesMeta(position="pictures", orientation="pictures", topics={"pose": self.how}, unit="none")
        return LogPoses(RecordedPoses(track, far_ns), track, facts, self.how, self.how)


def clock_of(
    video: VideoFile, log: FlightLog, position_m: Float64, options: VideoSettings, extra_s: float
) -> VideoClock:
    """The clock of a video beside its log; UserError, naming the ways out, when it cannot be known."""
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
                    int(log.stamps_ns[0]), lambda _: extra_ns, "offset as given, from the beginning of the log"
                )
            raise UserError(_no_creation(video, log))
        return VideoClock(begun, lambda _: extra_ns, "the file's creation time, taken as UTC, and the offset as given")
    logged = _recording(video, log) if options.clock == "auto" else None
    if logged is not None:
        return VideoClock(logged, lambda _: extra_ns, "the log says when the video was begun")
    return _by_flow(video, log, position_m, options, begun, extra_ns)


def _riding(video: VideoFile, log: FlightLog, position_m: Float64, options: VideoSettings, extra_ns: int) -> VideoClock:
    """The clock of a log on the video's own time; by flow, when asked, how late its positions are."""
    if options.clock in ("creation", "log"):
        raise UserError(f"{log.name} has the video's own time; --video.clock {options.clock} means nothing for it")
    zero_ns = log.utc_at_zero_ns or video.creation_ns or 0
    if options.clock == "auto":
        return VideoClock(zero_ns, lambda _: extra_ns, "the log has the video's own time")
    by_utc = replace(log, stamps_ns=log.stamps_ns + zero_ns)
    return _by_flow(video, by_utc, position_m, options, zero_ns, extra_ns)


def _by_flow(
    video: VideoFile, log: FlightLog, position_m: Float64, options: VideoSettings, begun: int | None, extra_ns: int
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

        return VideoClock(zero_ns, offset, how, found.confidence, sigma_s=found.sigma_s)
    if inside and options.clock == "auto":
        return VideoClock(
            zero_ns,
            lambda _: extra_ns,
            f"the file's creation time, good to a second at best ({found.why}); --image-time-offset-s adds to it",
            doubtful=True,
        )
    raise UserError(
        f"{video.path}: when it was taken cannot be found from its pictures "
        f"({found.why}){_difference(begun, video, log)}; --video.clock creation takes the file's creation time, "
        "--video.clock log lets both begin together, and --image-time-offset-s adds to either"
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
        return motion_from_velocities(log.name, log.stamps_ns, log.velocity_enu_mps)
    return motion_from_positions(log.name, log.stamps_ns, position_m)


def _recording(video: VideoFile, log: FlightLog) -> int | None:
    """Begin of the one recording in the log that is as long as the video."""
    length_ns = video.duration_s * SECOND
    same = [begin for begin, end in log.recordings_ns if abs(end - begin - length_ns) <= _SAME_LENGTH_S * SECOND]
    return same[0] if len(same) == 1 else None


def _overlaps(begun: int, video: VideoFile, log: FlightLog) -> bool:
    first, last = int(log.stamps_ns[0]), int(log.stamps_ns[-1])
    return begun < last and begun + video.duration_s * SECOND > first


def _no_creation(video: VideoFile, log: FlightLog) -> str:
    if log.clock != "utc":
        return f"{log.name} has a clock of its own, which the creation time of {video.path} says nothing about"
    return f"{video.path} does not say when it was begun; --video.clock log lets it begin with its log"


def _difference(begun: int | None, video: VideoFile, log: FlightLog) -> str:
    """How far apart file and log are, for the error; whole hours are a time zone."""
    if begun is None or _overlaps(begun, video, log):
        return ""
    hours = (begun - int(log.stamps_ns[0])) / SECOND / 3600
    zone = "; it may be local time" if abs(hours) < 15 else ""
    return f", and the file's creation time is {hours:+.2f} h from the beginning of the log{zone}"


def convert_videos(
    sources: Sequence[Path | str],
    out: Path | str,
    config: ConvertConfig | None = None,
    options: VideoSettings | None = None,
    tracks: Mapping[Path, PictureTrack] | None = None,
) -> ConvertReport:
    """Convert videos of one place, given with their logs, into the dataset `out`.

    A video without a log among the sources takes the one beside it of its own name, or what is inside
    it: GoPro metadata, or a drone's subtitles. `tracks` are of those that have none (:func:`has_log`).

    Raises:
        UserError: a file cannot be read, a video has no log or no frame a pose, or the disk is full.
    """
    config, options = config or ConvertConfig(), options or VideoSettings()
    settings.check(options)
    if options.end_s and options.end_s <= options.start_s:
        raise UserError(f"the video's end_s, {options.end_s:g}, must be later than its start_s, {options.start_s:g}")
    require_distinct(map(Path, sources))
    pairs = pair_with_logs([Path(source) for source in sources])
    values = {**settings.to_yaml_dict(config), "video": settings.to_yaml_dict(options)}
    with conversion(out, replace(config, raw_images=options.images), values) as (ingest, report):
        for video, log in pairs:
            part = report.begin(video)
            track = (tracks or {}).get(video)
            if track is None:
                LoggedVideo(ingest, config, options, video, log, part).run()
            else:
                _VideoAlone(ingest, config, options, video, track, part).run()
        report.require_frames("frame", _ways_out(report))
    return report


def has_log(video: Path, given: Path | None) -> bool:
    """Whether something says where a video was taken: a log, given or beside it, or what is inside."""
    if given is not None:
        return True
    file = VideoFile(video)
    return bool(file.metadata_payloads() or file.subtitles())


def pair_with_logs(sources: Sequence[Path]) -> list[tuple[Path, Path | None]]:
    """Each video with its log: the one of its name, else the only one given, else one of its name beside it."""
    videos = [path for path in sources if path.suffix.lower() in SUFFIXES]
    logs = [path for path in sources if path.suffix.lower() in LOG_SUFFIXES]
    if not videos:
        raise UserError(f"{logs[0] if logs else 'this'} is a flight log; name the video that it belongs to as well")
    pairs = []
    for video in videos:
        same = [log for log in logs if log.stem.lower() == video.stem.lower()]
        if not same and len(logs) > 1:
            raise UserError(
                f"several logs were given, and none is named {video.stem}: name each log like its video, or give one "
                "video and one log"
            )
        beside = [
            video.with_suffix(suffix)
            for lower in LOG_SUFFIXES
            for suffix in (lower, lower.upper())
            if video.with_suffix(suffix).is_file()
        ]
        pairs.append((video, next(iter([*same, *logs, *beside]), None)))
    return pairs


def _log_of(video: VideoFile, path: Path | None) -> FlightLog:
    if path is not None:
        return read_log(path)
    if payloads := video.metadata_payloads():
        return read_gpmf(payloads, video.path.name)
    if subtitles := video.subtitles():
        return log_of_subtitles(subtitles, video.path.name)
    raise UserError(
        f"{video.path} has no log: none was given ({', '.join(LOG_SUFFIXES)}), none of its name lies beside it, "
        "and it has neither GoPro metadata nor subtitles inside; --video.poses pictures follows the camera by its "
        "pictures alone, in no unit"
    )


@dataclass(frozen=True, eq=False)
class LoggedTrack:
    """Positions (M, 3) of a video's log in the map, at stamps (M,) of the clock that the dataset's images have.

    again_s: what to add to an offset to give it as `image_time_offset_s` of another conversion, which may count from
        elsewhere. has_own_clock: not so of a log on the video's own time, which is late by tenths of a second at most.
    """

    stamps_ns: Int64
    position_m: Float64
    again_s: float
    has_own_clock: bool = True


def logged_track(sources: Sequence[Path], config: ConvertConfig, meta: DatasetMeta) -> LoggedTrack | None:
    """Of the one video that a dataset was made of; None of several, or of other recordings. UserError as converting."""
    if not any(path.suffix.lower() in SUFFIXES for path in sources):
        return None
    pairs = pair_with_logs(sources)
    zero_ns = meta.sources[0].recorded_from_ns if len(meta.sources) == 1 else None
    if len(pairs) != 1 or meta.datum is None or zero_ns is None:
        return None
    video = VideoFile(pairs[0][0])
    log = _log_of(video, pairs[0][1])
    position_m, *_ = flight_log.positions(log, meta.datum, config)
    if log.on_video_time:
        return LoggedTrack(log.stamps_ns + zero_ns, position_m, 0.0, has_own_clock=False)
    begun = video.creation_ns if log.clock == "utc" else None
    again_ns = int(log.stamps_ns[0]) if begun is None else begun
    return LoggedTrack(log.stamps_ns, position_m, (zero_ns - again_ns) / SECOND)


class LoggedVideo:
    """One video on its way into the dataset."""

    def __init__(
        self,
        ingest: FrameSink,
        config: ConvertConfig,
        options: VideoSettings,
        path: Path,
        log_path: Path | None,
        report: BagReport,
    ) -> None:
        self._begin(ingest, config, options, path, report)
        self._log = _log_of(self._video, log_path)
        datum = config.datum_of_map(ingest.meta) or flight_log.datum_of(self._log, config.altitude)
        self._datum: Datum | None = datum
        position_m, *_ = flight_log.positions(self._log, datum, self._config)
        gps.require_near(position_m, self._video.path, datum)
        self._clock: VideoClock = clock_of(
            self._video, self._log, position_m, options, self._config.image_time_offset_s
        )
        shift_ns = self._clock.zero_ns if self._log.on_video_time else 0
        self._poses: LogPoses = poses_of(self._log, datum, self._config, shift_ns)

    def _begin(
        self, ingest: FrameSink, config: ConvertConfig, options: VideoSettings, path: Path, report: BagReport
    ) -> None:
        self._ingest, self._config, self.options, self._report = ingest, config, options, report
        self._video = VideoFile(path)
        if 0 < self._video.duration_s <= options.start_s:
            raise UserError(
                f"{path} is {self._video.duration_s:.1f} s long; --video.start-s {options.start_s:g} is after its end"
            )

    def run(self) -> None:
        """Frames stream by, get their poses, and are stored."""
        self._describe()
        self._stream()
        if self._video.damaged:
            self._report.warn(f"{counted(self._video.damaged, 'damaged packet')} of the video could not be decoded")
        if self._video.missing_s and not (self.options.end_s or self.options.keyframes):
            self._report.warn(
                f"the video's pictures end at {self._video.reached_s:.1f} s, {self._video.missing_s:.1f} s before it "
                "does: the rest is damaged or missing"
            )
        if self._video.frames_without_time:
            self._report.warn(f"{counted(self._video.frames_without_time, 'frame')} without a time left out")

    def _stream(self) -> None:
        """Offer each frame wanted that has a pose; count what becomes of them."""
        track, config, begun = self._poses.track, self._config, False
        frame_filter, note = flight_filter(config, config.trim_ground, track.stamps_ns, track.position_m[:, 2])
        if note:
            self._report.note(note)
        sync = Synchronizer(self._poses.source, SyncConfig(with_depth=False))
        for frame in self._chosen():
            stamp_ns = self._clock.zero_ns + frame.media_ns
            self._report.saw_image(stamp_ns)
            sync.image_time_offset_ns = self._clock.offset_ns(stamp_ns)
            for settled in sync.add_image(stamp_ns, stamp_ns, frame):
                if not isinstance(settled, Frame):
                    self._report.reject(settled.stamp_ns, settled.reason, settled.detail)
                    continue
                image = self._image(stamp_ns, settled.image)
                if not begun:
                    self._ingest.begin(self._meta(image), self._video.path, frame_filter, self._clock.zero_ns)
                    begun = True
                self._report.count(self._ingest.offer(stamp_ns, settled.T_map_cam, image))
        while outcomes := self._ingest.settled(wait=True):
            self._report.count(outcomes)

    def _chosen(self) -> Iterator[VideoFrame]:
        """The frames wanted, at most `max_rate_hz` of them a second."""
        options = self.options
        least_ns = 0.999 * SECOND / options.max_rate_hz if options.max_rate_hz else 0
        next_ns = 0.0
        frames = self._video.frames(options.start_s, options.end_s, options.keyframes)
        for frame in tqdm(frames, desc=self._video.path.name, unit="image", disable=None):
            if frame.media_ns >= next_ns:
                next_ns = frame.media_ns + least_ns
                yield frame

    def _image(self, stamp_ns: int, frame: VideoFrame) -> ImageSample:
        rgb = frame.rgb(self.options.image_height)
        height, width = rgb.shape[:2]
        return ImageSample(stamp_ns, "", "rgb8", rgb.data, width, height, 3 * width)

    def _facts(self) -> PosesMeta:
        """Where the poses come from; the offset is that of the middle of the video."""
        middle_ns = self._clock.zero_ns + round(self._video.duration_s / 2 * SECOND)
        return replace(
            self._poses.facts,
            image_time_offset_s=self._clock.offset_ns(middle_ns) / SECOND,
            image_time_confidence=self._clock.confidence,
            image_time_sigma_s=self._clock.sigma_s,
        )

    def _meta(self, image: ImageSample) -> DatasetMeta:
        camera, _ = camera_of_images(image.width, image.height, None, self._config.fov_deg)
        if self._config.fov_deg:
            self._report.note(f"camera: field of view as given, {self._config.fov_deg:g} degrees")
        else:
            self._report.note("camera: a video has no focal length; --fov-deg gives its field of view")
        return DatasetMeta(
            camera=camera,
            map_frame=self._config.map_frame or "map",
            camera_frame=self._config.camera_frame or "camera_optical_frame",
            datum=self._datum,
            poses=self._facts(),
        )

    def _describe(self) -> None:
        report, log = self._report, self._log
        stamps = self._poses.track.stamps_ns
        report.topics = {"image": self._video.path.name, "pose": f"{log.name} ({log.kind})"}
        report.poses, report.poses_stamps_ns = len(log), (int(stamps[0]), int(stamps[-1]))
        report.note_poses(log.problems, log.name)
        for warning in log.warnings:
            report.warn(warning)
        (report.warn if self._clock.doubtful else report.note)(f"time: {self._clock.how}")
        for note in (
            *log.notes,
            f"positions: {self._poses.position_how}",
            f"orientations: {self._poses.orientation_how}",
        ):
            report.note(note)


class _VideoAlone(LoggedVideo):
    """One without a log: where its camera was is known from the pictures alone."""

    def __init__(
        self,
        ingest: FrameSink,
        config: ConvertConfig,
        options: VideoSettings,
        path: Path,
        track: PictureTrack,
        report: BagReport,
    ) -> None:
        self._begin(ingest, config, options, path, report)
        if config.trim_ground:
            raise UserError(f"{path} has no log, so that --trim-ground finds no ground; leave it out")
        self._track, self._datum = track, None
        zero_ns = self._video.creation_ns or 0
        self._clock = VideoClock(zero_ns, lambda _: 0, "the poses have the video's own time")
        self._poses = track.poses(zero_ns)

    def _meta(self, image: ImageSample) -> DatasetMeta:
        camera = self._track.camera.resized(image.width, image.height)
        self._report.note(f"camera: {self._track.camera_from}")
        return DatasetMeta(
            camera=camera,
            map_frame=self._config.map_frame or "map",
            camera_frame=self._config.camera_frame or "camera_optical_frame",
            poses=self._facts(),
            camera_from=self._track.camera_from,
        )

    def _describe(self) -> None:
        report, stamps = self._report, self._poses.track.stamps_ns
        report.topics = {"image": self._video.path.name, "pose": self._track.how}
        report.poses, report.poses_stamps_ns = len(stamps), (int(stamps[0]), int(stamps[-1]))
        report.note(f"poses: {self._track.how}; they have no unit, and drift")
        for note in self._track.notes:
            report.note(note)


def _ways_out(report: ConvertReport) -> dict[str, str]:
    """What to do where one reason is why there is not one frame."""
    ways_out, part = {"pose_gap": "--max-fix-gap-s bridges longer silences of the log"}, report.bags[0]
    if part.images_stamps_ns and part.poses_stamps_ns:
        apart_s = (part.images_stamps_ns[0] - part.poses_stamps_ns[0]) / SECOND
        shift = f"the video begins {apart_s:+.1f} s after its log, --image-time-offset-s shifts it"
        ways_out |= dict.fromkeys(("before_first_pose", "after_last_pose"), shift)
    return ways_out
