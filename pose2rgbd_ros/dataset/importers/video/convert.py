"""Videos with a flight log, beside them or inside, to a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset.filters import FrameFilter
from pose2rgbd_ros.dataset.flight_phase import flight_phase, ground_z_m, tell_phase
from pose2rgbd_ros.dataset.image_camera import camera_of_images
from pose2rgbd_ros.dataset.importers import mount
from pose2rgbd_ros.dataset.importers.config import ConvertConfig
from pose2rgbd_ros.dataset.importers.frame_sink import FrameSink, require_near
from pose2rgbd_ros.dataset.importers.logs import poses as logs_poses
from pose2rgbd_ros.dataset.importers.logs.flight_log import SECOND, FlightLog
from pose2rgbd_ros.dataset.importers.logs.gpmf import read_gpmf
from pose2rgbd_ros.dataset.importers.logs.poses import LogPoses, poses_of
from pose2rgbd_ros.dataset.importers.logs.read import SUFFIXES as LOG_SUFFIXES
from pose2rgbd_ros.dataset.importers.logs.read import read_log
from pose2rgbd_ros.dataset.importers.logs.srt import log_of_subtitles
from pose2rgbd_ros.dataset.importers.report import BagReport, ConvertReport
from pose2rgbd_ros.dataset.importers.target import Target
from pose2rgbd_ros.dataset.importers.video.clock import VideoClock, clock_of
from pose2rgbd_ros.dataset.importers.video.file import VideoFile, VideoFrame
from pose2rgbd_ros.dataset.importers.video.settings import VideoSettings as VideoSettings
from pose2rgbd_ros.dataset.ingest import jobs_of
from pose2rgbd_ros.dataset.layout import require_distinct
from pose2rgbd_ros.dataset.meta import DatasetMeta, PosesMeta
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.streams.samples import ImageSample
from pose2rgbd_ros.streams.synchronizer import Frame, SyncConfig, Synchronizer

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".ts", ".mts", ".lrv")


def convert_videos(
    sources: Sequence[Path | str],
    out: Path | str,
    config: ConvertConfig | None = None,
    options: VideoSettings | None = None,
) -> ConvertReport:
    """Convert videos of one place, given with their logs, into the dataset `out`.

    A video without a log among the sources takes the one beside it of its own name, or what is inside
    it: GoPro metadata, or a drone's subtitles.

    Raises:
        UserError: a file cannot be read, a video has no log or no frame a pose, or the disk is full.
    """
    config, options = config or ConvertConfig(), options or VideoSettings()
    settings.check(config)
    settings.check(options)
    if options.end_s and options.end_s <= options.start_s:
        raise UserError(
            f"the video's end_s, {options.end_s:g}, must be later than its start_s, {options.start_s:g}"
        )
    if config.body_to_camera != "auto":
        mount.parse(config.body_to_camera)
    require_distinct(map(Path, sources))
    pairs = pair_with_logs([Path(source) for source in sources])
    values = {**settings.to_yaml_dict(config), "video": settings.to_yaml_dict(options)}
    report = ConvertReport(str(out), values)
    target = Target(Path(out), replace(config, raw_images=options.images))
    with target.closing(report):
        for video, log in pairs:
            part = report.begin(video)
            _Video(target, options, video, log, part).run()
        if not report.frames_written and not report.frames_already_there:
            raise UserError(_why_nothing(report))
    return report


def pair_with_logs(sources: Sequence[Path]) -> list[tuple[Path, Path | None]]:
    """Each video with its log: the one of its name, else the only one given, else one of its name beside it."""
    videos = [path for path in sources if path.suffix.lower() in SUFFIXES]
    logs = [path for path in sources if path.suffix.lower() in LOG_SUFFIXES]
    if not videos:
        raise UserError(
            f"{logs[0] if logs else 'this'} is a flight log; name the video that it belongs to as well"
        )
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


class _Video:
    """One video on its way into the dataset."""

    def __init__(
        self, target: Target, options: VideoSettings, path: Path, log_path: Path | None, report: BagReport
    ) -> None:
        self._target, self._config, self._options, self._report = target, target.config, options, report
        self._video = VideoFile(path)
        if 0 < self._video.duration_s <= options.start_s:
            raise UserError(
                f"{path} is {self._video.duration_s:.1f} s long; --video.start-s {options.start_s:g} is after its end"
            )
        self._log = self._read_log(log_path)
        self._datum = self._place()
        position_m, *_ = logs_poses.positions(self._log, self._datum, self._config)
        require_near(position_m, self._video.path, self._datum)
        self._clock: VideoClock = clock_of(
            self._video, self._log, position_m, options, self._config.image_time_offset_s
        )
        shift_ns = self._clock.zero_ns if self._log.on_video_time else 0
        self._poses: LogPoses = poses_of(self._log, self._datum, self._config, shift_ns)

    def _read_log(self, path: Path | None) -> FlightLog:
        if path is not None:
            return read_log(path)
        video = self._video
        if payloads := video.metadata_payloads():
            return read_gpmf(payloads, video.path.name)
        if subtitles := video.subtitles():
            return log_of_subtitles(subtitles, video.path.name)
        raise UserError(
            f"{video.path} has no log: none was given ({', '.join(LOG_SUFFIXES)}), none of its name lies beside it, and "
            "it has neither GoPro metadata nor subtitles inside"
        )

    def _place(self) -> Datum:
        stored = self._target.stored_meta()
        if self._config.datum:
            return Datum(*self._config.datum)
        if stored is not None and stored.datum is not None:
            return stored.datum
        return logs_poses.datum_of(self._log, self._config.altitude)

    def run(self) -> None:
        """Frames stream by, get their poses, and are stored."""
        self._describe()
        with self._sink() as sink:
            self._stream(sink)
        if self._video.damaged:
            self._report.warn(
                f"{counted(self._video.damaged, 'damaged packet')} of the video could not be decoded"
            )
        if self._video.missing_s and not (self._options.end_s or self._options.keyframes):
            self._report.warn(
                f"the video's pictures end at {self._video.reached_s:.1f} s, {self._video.missing_s:.1f} s before it does: the "
                "rest is damaged or missing"
            )
        if self._video.frames_without_time:
            self._report.warn(f"{counted(self._video.frames_without_time, 'frame')} without a time left out")

    def _sink(self) -> FrameSink:
        """The frames' way into the dataset; the flight is known as a whole."""
        track, config = self._poses.track, self._config
        phases = flight_phase(track.stamps_ns, track.position_m[:, 2]) if config.trim_ground else None
        if config.trim_ground:
            self._report.note(tell_phase(track.stamps_ns, phases))
        frame_filter = FrameFilter(config, ground_z_m(track.position_m[:, 2], config.height_above), phases)
        sink = FrameSink(
            self._target, self._report, self._video.path, self._meta, frame_filter, jobs_of(config.jobs)
        )
        sink.recorded_from_ns = self._clock.zero_ns
        return sink

    def _stream(self, sink: FrameSink) -> None:
        sync = Synchronizer(self._poses.source, SyncConfig(with_depth=False))
        for frame in self._chosen():
            stamp_ns = self._clock.zero_ns + frame.media_ns
            self._report.saw_image(stamp_ns)
            sync.image_time_offset_ns = self._clock.offset_ns(stamp_ns)
            for settled in sync.add_image(stamp_ns, stamp_ns, frame):
                if isinstance(settled, Frame):
                    sink.add(stamp_ns, settled.T_map_cam, self._image(stamp_ns, settled.image))
                else:
                    self._report.reject(settled.stamp_ns, settled.reason, settled.detail)

    def _chosen(self) -> Iterator[VideoFrame]:
        """The frames wanted, at most `max_rate_hz` of them a second."""
        options = self._options
        least_ns = 0.999 * SECOND / options.max_rate_hz if options.max_rate_hz else 0
        next_ns = 0.0
        frames = self._video.frames(options.start_s, options.end_s, options.keyframes)
        for frame in tqdm(frames, desc=self._video.path.name, unit="image", disable=None):
            if frame.media_ns >= next_ns:
                next_ns = frame.media_ns + least_ns
                yield frame

    def _image(self, stamp_ns: int, frame: VideoFrame) -> ImageSample:
        rgb = frame.rgb(self._options.image_height)
        height, width = rgb.shape[:2]
        return ImageSample(stamp_ns, "", "rgb8", rgb.data, width, height, 3 * width)

    def _facts(self) -> PosesMeta:
        """Where the poses come from; the offset is that of the middle of the video."""
        middle_ns = self._clock.zero_ns + round(self._video.duration_s / 2 * SECOND)
        return replace(
            self._poses.facts,
            image_time_offset_s=self._clock.offset_ns(middle_ns) / SECOND,
            image_time_confidence=self._clock.confidence,
        )

    def _meta(self, image: ImageSample) -> DatasetMeta:
        camera, _ = camera_of_images(image.width, image.height, None, self._config.fov_deg)
        if self._config.fov_deg:
            self._report.note(f"camera: field of view as given, {self._config.fov_deg:g} degrees")
        else:
            self._report.note(
                "camera: a video does not tell its focal length; --fov-deg gives its field of view"
            )
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


def _why_nothing(report: ConvertReport) -> str:
    """One line on why there is not one frame, with the way out of the commonest reason."""
    part, rejects = report.bags[0], report.rejects
    counts = ", ".join(f"{count} {reason}" for reason, count in rejects.items()) or "none could be decoded"
    commonest, way_out = max(rejects, key=lambda reason: rejects[reason], default=""), ""
    if commonest == "pose_gap":
        way_out = "; --max-fix-gap-s bridges longer silences of the log"
    elif (
        commonest in ("before_first_pose", "after_last_pose")
        and part.images_stamps_ns
        and part.poses_stamps_ns
    ):
        apart_s = (part.images_stamps_ns[0] - part.poses_stamps_ns[0]) / SECOND
        way_out = f"; the video begins {apart_s:+.1f} s after its log, --image-time-offset-s shifts it"
    return f"none of {counted(sum(bag.images for bag in report.bags), 'frame')} has a place in the dataset ({counts}){way_out}"
