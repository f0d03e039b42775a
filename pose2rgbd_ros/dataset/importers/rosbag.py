"""Recordings to a dataset: two passes per bag (poses first, then images streaming by), in bounded memory."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from pose2rgbd_ros import settings
from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import BagReader, open_bag
from pose2rgbd_ros.bags.topics import RequestedTopics, TopicChoice, choose_topics
from pose2rgbd_ros.dataset.depth_files import DepthFormat
from pose2rgbd_ros.dataset.importers import mount
from pose2rgbd_ros.dataset.importers.bag_track import CameraTrack, FirstPass, TrackOptions
from pose2rgbd_ros.dataset.importers.pairing import DepthPairing, Pair, Waiting
from pose2rgbd_ros.dataset.importers.report import BagReport, ConvertReport
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.writer import BadFrame, DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import depth as depth_rules
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.depth import DepthKind
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.streams.samples import DepthSample, ImageSample

_SECOND = 1_000_000_000


@dataclass(frozen=True)
class ConvertConfig:
    """How recordings become a dataset."""

    image_topic: str = setting("auto", "colour images (Image or CompressedImage)")
    depth_topic: str = setting("auto", "depth images registered to the colour camera; none: colour only")
    camera_info_topic: str = setting("auto", "calibration of the colour images; none: uncalibrated")
    pose_topic: str = setting(
        "auto", "Odometry, PoseStamped or PoseWithCovarianceStamped; a TF topic takes the poses from TF"
    )
    body_to_camera: str = setting(
        "auto",
        "where the camera sits on the body whose pose is recorded: auto (from TF), forward, nadir, identity (the pose "
        "is the camera's optical frame's), or 'x y z qx qy qz qw' (metres; pose of the optical frame in the body)",
    )
    map_frame: str = setting("", "frame of the poses; needed with TF when it is none of the usual names")
    pose_frame: str = setting("", "frame whose pose is recorded, where the message names none or a wrong one")
    camera_frame: str = setting("", "optical frame of the camera, where the images name none or a wrong one")
    stamps: Literal["header", "received"] = setting(
        "header", "which clock counts: the messages' own or the recorder's", choices=("header", "received")
    )
    image_time_offset_s: float = setting(0.0, "added to image stamps when their pose is looked up")
    max_pose_gap_s: float = setting(0.5, "no pose is interpolated over a longer silence", ge=0)
    depth_tolerance_s: float = setting(0.02, "largest time between an image and its depth", ge=0)
    every: int = setting(1, "take every n-th image", ge=1)
    fov_deg: float = setting(
        0.0, "horizontal field of view, for a camera without calibration; 0: unknown", ge=0, le=175
    )
    depth_kind: DepthKind = setting(
        "metric", "relative: depth without a unit, stored as it is", choices=("metric", "relative")
    )
    depth_format: DepthFormat = setting(
        "auto", "how float depth is stored; auto loses no range", choices=("auto", "mm", "cm", "float")
    )
    raw_images: Literal["png", "jpeg"] = setting(
        "png",
        "how uncompressed images are stored; JPEG and PNG are kept as recorded",
        choices=("png", "jpeg"),
    )
    datum: tuple[float, float, float] | None = setting(
        None, "latitude, longitude (degrees) and ellipsoid altitude (m) of the map's origin"
    )
    resume: bool = setting(False, "go on with a dataset that is there, or add a recording to it")


def convert(
    bags: Sequence[Path | str], out: Path | str, config: ConvertConfig | None = None
) -> ConvertReport:
    """Convert recordings of one place into the dataset `out`.

    Images that cannot become frames are counted by reason; the report is also written to `out`/convert_report.yaml.
    An interrupted conversion (Ctrl-C, kill -9, disk full) is continued with `resume`.

    Raises:
        UserError: a recording cannot be read, lacks a topic, no image has a pose, or the disk is full. Frames
            written before stay.
    """
    config = config or ConvertConfig()
    settings.check(config)
    if config.body_to_camera != "auto":
        mount.parse(config.body_to_camera)
    if not bags:
        raise UserError("no recording was given")
    report = ConvertReport(str(out), settings.to_yaml_dict(config))
    conversion = _Conversion(Path(out), config)
    with conversion.closing(report):
        for bag in bags:
            part = BagReport(str(bag))
            report.bags.append(part)
            with open_bag(bag) as reader:
                _BagConversion(conversion, reader, part).run()
        if not report.frames_written and not report.frames_already_there:
            raise UserError(conversion.why_nothing(report))
    return report


class _Conversion:
    """What all recordings share: the configuration and the writer, which begins with the first frame."""

    def __init__(self, out: Path, config: ConvertConfig) -> None:
        self.out = out
        self.config = config
        self.writer: DatasetWriter | None = None
        self.clock_hints: list[str] = []

    def begin(self, meta: DatasetMeta) -> DatasetWriter:
        """The writer, made for the first frame. UserError when `out` cannot take these frames."""
        if self.writer is None:
            self.writer = DatasetWriter(
                self.out,
                meta,
                self.config.resume,
                depth_format=self.config.depth_format,
                raw_images=self.config.raw_images,
            )
        return self.writer

    @contextlib.contextmanager
    def closing(self, report: ConvertReport) -> Iterator[None]:
        """Close the writer and leave the report, however the conversion ends."""
        try:
            yield
            if self.writer is not None:
                self.writer.close()
        finally:
            if self.writer is not None:
                with contextlib.suppress(
                    UserError
                ):  # after a failure: sort what is there, if the disk lets us
                    self.writer.close()
                with contextlib.suppress(OSError):
                    report.write(self.out)

    def why_nothing(self, report: ConvertReport) -> str:
        """One line on why there is not one frame."""
        if self.clock_hints:
            return self.clock_hints[0]
        images = sum(bag.images for bag in report.bags)
        counts = ", ".join(f"{count} {reason}" for reason, count in report.rejects.items())
        examples = {run.example: None for bag in report.bags for run in bag.rejected if run.example}
        example = f"; for example: {next(iter(examples))}" if examples else ""
        return f"none of {images} images became a frame ({counts or 'no image could be read'}){example}"


class _BagConversion:
    """The frames of one recording."""

    def __init__(self, shared: _Conversion, reader: BagReader, report: BagReport) -> None:
        self._shared = shared
        self._config = shared.config
        self._reader = reader
        self._report = report
        self._topics = self._choose()
        self._first_pass = FirstPass(reader, self._topics, self._track_options())
        self._track: CameraTrack = self._first_pass.track(str(reader.path))
        self._writer: DatasetWriter | None = None
        self._stamps: set[int] = set()
        self._image_received_ns: tuple[int, int] | None = None

    def _choose(self) -> TopicChoice:
        config = self._config
        return choose_topics(
            self._reader,
            RequestedTopics(
                config.image_topic, config.depth_topic, config.camera_info_topic, config.pose_topic
            ),
        )

    def _track_options(self) -> TrackOptions:
        config = self._config
        return TrackOptions(
            received_stamps=config.stamps == "received",
            max_gap_ns=round(config.max_pose_gap_s * _SECOND),
            map_frame=decode.frame_name(config.map_frame),
            pose_frame=decode.frame_name(config.pose_frame),
            camera_frame=decode.frame_name(config.camera_frame),
            body_to_camera=config.body_to_camera,
        )

    def run(self) -> None:
        """Convert; the report is filled on the way, also when it ends early."""
        self._describe()
        self._require_known_depth_encoding()
        try:
            for image, depth_message in self._pairs():
                self._frame(image, depth_message)
        finally:
            for problem in self._reader.problems:
                self._report.note(problem)
            self._report.unreadable_messages = dict(self._reader.unreadable)
        self._check_overlap()

    def _describe(self) -> None:
        topics, track, report = self._topics, self._track, self._report
        report.topics = {
            "image": topics.image,
            "depth": topics.depth,
            "camera_info": topics.camera_info,
            "pose": topics.pose or ", ".join(topics.tf),
        }
        report.poses = track.pose_count
        report.poses_stamps_ns = int(track.body.stamps_ns[0]), int(track.body.stamps_ns[-1])
        report.pose_problems = track.problems
        for note in (*topics.notes, *self._first_pass.notes, track.mount.how):
            report.note(note)
        for reason, count in track.problems.items():
            report.note(f"poses: {count} {reason}")
        if len(track.body) > 1 and not track.body.position_m.std(axis=0).any():
            report.note(
                f"all poses of {report.topics['pose']} are at one place; --pose-topic picks another topic"
            )

    def _require_known_depth_encoding(self) -> None:
        topic = self._topics.depth
        message = self._reader.first(topic) if topic else None
        if message is None or message.__msgtype__ != decode.IMAGE:
            return
        if message.encoding not in depth_rules.ENCODINGS:
            raise UserError(
                f"{topic} has encoding {message.encoding!r}; depth is read from {', '.join(depth_rules.ENCODINGS)}; "
                "--depth-topic picks another topic, or none"
            )

    def _pairs(self) -> Iterator[Pair]:
        """Images with their depth messages, as they stream by."""
        image_topic, depth_topic = self._topics.image, self._topics.depth
        pairing = DepthPairing(round(self._config.depth_tolerance_s * _SECOND))
        wanted = [topic for topic in (image_topic, depth_topic) if topic]
        total = self._reader.topics[image_topic].count
        with tqdm(total=total, desc=self._reader.path.name, unit="image", disable=None) as progress:
            for topic, received_ns, message in self._reader.messages(wanted):
                stamp_ns = self._stamp(message, received_ns)
                if topic == depth_topic:
                    yield from pairing.add_depth(stamp_ns, received_ns, message)
                    continue
                progress.update()
                if not self._wanted(stamp_ns, received_ns):
                    continue
                if depth_topic is None:
                    yield Waiting(stamp_ns, received_ns, message), None
                else:
                    yield from pairing.add_image(stamp_ns, received_ns, message)
            yield from pairing.finish()

    def _stamp(self, message: Any, received_ns: int) -> int:
        stamp_ns = decode.header_stamp_ns(message.header)
        return received_ns if self._config.stamps == "received" or stamp_ns == 0 else stamp_ns

    def _wanted(self, stamp_ns: int, received_ns: int) -> bool:
        """Count the image; whether it is one to convert."""
        report = self._report
        newest = report.images_stamps_ns[1] if report.images_stamps_ns else stamp_ns
        if stamp_ns < newest:
            report.note("image stamps jump back in time; the dataset is in order of stamps")
        report.saw_image(stamp_ns)
        first, last = self._image_received_ns or (received_ns, received_ns)
        self._image_received_ns = min(first, received_ns), max(last, received_ns)
        if (report.images - 1) % self._config.every:
            return False
        if stamp_ns in self._stamps:
            report.reject(stamp_ns, "duplicate_stamp")
            return False
        self._stamps.add(stamp_ns)
        return True

    def _frame(self, image: Waiting, depth_message: Any) -> None:
        """Write one frame, or count why not."""
        offset_ns = round(self._config.image_time_offset_s * _SECOND)
        T_map_cam, reason = self._track.T_map_cam(image.stamp_ns + offset_ns)
        if reason:
            self._report.reject(image.stamp_ns, reason)
            return
        try:
            sample = _image_sample(image)
            writer = self._writer_for(sample)
            depth = None if image.stamp_ns in writer else self._depth(depth_message, image.stamp_ns)
            added = writer.add(image.stamp_ns, T_map_cam, sample, depth)
        except BadFrame as error:
            self._report.reject(image.stamp_ns, error.reason, str(error))
            return
        if added == "written":
            self._report.frames_written += 1
        elif added == "present":
            self._report.frames_already_there += 1
        else:
            self._report.reject(image.stamp_ns, "duplicate_stamp", "another frame of this stamp is there")

    def _depth(self, message: Any, stamp_ns: int) -> DepthSample | None:
        if self._topics.depth is None:
            return None
        if message is None:
            raise BadFrame("no_depth", f"no message of {self._topics.depth} within the tolerance")
        try:
            return decode.depth_sample(message, stamp_ns)
        except UserError as error:
            raise BadFrame("depth_unreadable", str(error)) from error

    def _writer_for(self, sample: ImageSample) -> DatasetWriter:
        if self._writer is None:
            config = self._config
            meta = DatasetMeta(
                camera=self._camera(sample),
                map_frame=self._track.map_frame,
                camera_frame=self._track.camera_frame,
                depth=DepthMeta(kind=config.depth_kind) if self._topics.depth else None,
                datum=Datum(*config.datum) if config.datum else None,
            )
            self._writer = self._shared.begin(meta)
            self._writer.begin_source(self._reader.path.name)
        return self._writer

    def _camera(self, sample: ImageSample) -> Camera:
        """The camera of the images: calibrated, guessed from the field of view, or only a size."""
        width, height = sample.width, sample.height
        camera = self._first_pass.camera
        if camera is not None and camera.is_calibrated:
            if abs(camera.width * height / (camera.height * width) - 1) > 0.02:
                raise UserError(
                    f"{self._topics.camera_info} calibrates {camera.width} x {camera.height} pixels, "
                    f"but {self._topics.image} has {width} x {height}; "
                    "--camera-info-topic picks another topic, or none"
                )
            if (camera.width, camera.height) != (width, height):
                self._report.note(f"calibration scaled from {camera.width} x {camera.height} pixels")
            return camera.resized(width, height)
        why = f"{self._topics.camera_info} says K[0] = 0" if camera is not None else "there is no CameraInfo"
        if not self._config.fov_deg:
            self._report.note(f"{why}: the camera is uncalibrated; --fov-deg gives its field of view")
            return Camera(width, height, 0.0, 0.0, 0.0, 0.0)
        self._report.note(f"{why}: focal length from a field of view of {self._config.fov_deg:g} degrees")
        focal = width / 2 / math.tan(math.radians(self._config.fov_deg) / 2)
        return Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)

    def _check_overlap(self) -> None:
        """When no image lies within the poses, say both times: the clocks differ."""
        report, poses = self._report, self._report.poses_stamps_ns
        outside = sum(report.rejects.get(reason, 0) for reason in ("before_first_pose", "after_last_pose"))
        if not report.images_stamps_ns or not poses or outside == 0 or outside < sum(report.rejects.values()):
            return
        if report.frames_written or report.frames_already_there:
            return
        images = report.images_stamps_ns
        text = (
            f"{report.path}: no image has a pose; the images cover {_span(images)}, the poses of "
            f"{report.topics['pose']} {_span(poses)}: {(images[0] - poses[0]) / _SECOND:+.3f} s apart, "
            "so their clocks may differ"
        )
        if self._config.stamps == "header" and _overlap(self._image_received_ns, self._track.received_ns):
            text += "; --stamps received uses the recorder's clock, by which they overlap"
        else:
            text += "; --image-time-offset-s shifts the images"
        report.note(text)
        self._shared.clock_hints.append(text)


def _image_sample(image: Waiting) -> ImageSample:
    try:
        return decode.image_sample(image.message, image.stamp_ns)
    except UserError as error:
        raise BadFrame("image_unreadable", str(error)) from error


def _span(stamps_ns: tuple[int, int]) -> str:
    first, last = (f"{stamp // _SECOND}.{stamp % _SECOND // 1_000_000:03d}" for stamp in stamps_ns)
    return f"{first}..{last} s"


def _overlap(a: tuple[int, int] | None, b: tuple[int, int] | None) -> bool:
    return a is not None and b is not None and a[0] <= b[1] and b[0] <= a[1]
