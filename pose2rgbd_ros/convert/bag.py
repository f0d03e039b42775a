"""Bags to a dataset: how their image stamps are offset; images stream by, meet depth and pose, and become frames."""

from __future__ import annotations

import dataclasses
import functools
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from pose2rgbd_ros import settings
from pose2rgbd_ros.alignment.align import Alignment, AlignOptions, estimate_offset
from pose2rgbd_ros.alignment.flow import FlowConfig, FlowMeter, FlowSignal, grey_image
from pose2rgbd_ros.alignment.signals import MotionSignal, Samples, from_trajectory, motion_from_positions
from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import BagReader, open_bag
from pose2rgbd_ros.bags.topics import FIX_TYPES, RequestedTopics, TopicChoice, choose_topics
from pose2rgbd_ros.convert.bag_poses import BagPoses, TrackOptions
from pose2rgbd_ros.convert.clocks import StampCorrections, find_clocks
from pose2rgbd_ros.convert.report import BagReport, ConvertReport, conversion
from pose2rgbd_ros.convert.settings import ConvertConfig, Sync
from pose2rgbd_ros.dataset.encode import camera_of_images, read_image
from pose2rgbd_ros.dataset.filters import flight_filter
from pose2rgbd_ros.dataset.ingest import FrameSink
from pose2rgbd_ros.dataset.layout import require_distinct
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta, PosesMeta, simulation_of
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry import depth as depth_rules
from pose2rgbd_ros.geometry import quaternions
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses import gps
from pose2rgbd_ros.poses.camera_pose import CameraPoses
from pose2rgbd_ros.streams.samples import ImageSample
from pose2rgbd_ros.streams.synchronizer import TIME_JUMP, Frame, Reject, Settled, SyncConfig, Synchronizer

# Recordings and datasets to the two signals that alignment compares: how the picture moves, how the vehicle does.


def measure_bag(
    reader: BagReader,
    topics: TopicChoice,
    clocks: StampCorrections,
    track: CameraPoses,
    config: FlowConfig | None = None,
    between_ns: tuple[int, int] | None = None,
) -> tuple[FlowSignal, MotionSignal]:
    """Flow of the images, by their stamps, and motion of the track, by those of the poses.

    Turn rates are those of the poses' orientations; where the positions are GPS's, a gyroscope's. `between_ns`: only of
    what was received from the first up to the second time. UserError when there is nothing to measure.
    """
    meter = FlowMeter(config)
    gyro_topic = topics.imu if track.facts.position == "gps" else None
    gyro_ns, gyro = array("q"), array("d")
    wanted = [topic for topic in (topics.image, gyro_topic) if topic]
    total = sum(reader.topics[topic].count for topic in wanted)
    with tqdm(total=total, desc=f"{reader.path.name} flow", unit="message", leave=False, disable=None) as progress:
        for topic, received_ns, message in reader.messages(wanted, between_ns):
            progress.update()
            stamp_ns = clocks.stamp_ns(topic, decode.header_stamp_ns(message.header), received_ns)
            if topic == gyro_topic:
                gyro_ns.append(stamp_ns)
                gyro.extend(decode.imu_sample(message, stamp_ns).angular_radps)
            elif meter.wants(stamp_ns) and not clocks.doubt(topic, received_ns):
                try:
                    grey = grey_image(decode.image_sample(message, stamp_ns), meter.config.width_px)
                except UserError:  # a damaged image is reported where frames are written
                    continue
                meter.add(stamp_ns, grey)
    motion = motion_of(track)
    rates = Samples(np.array(gyro_ns, dtype=np.int64), np.array(gyro).reshape(-1, 3))
    return meter.signal(), motion.with_rates(rates) if len(rates) >= 3 else motion


def motion_of(track: CameraPoses) -> MotionSignal:
    """The motion of a track; orientations count only where they were measured with the positions."""
    if track.facts.position == "gps":
        return motion_from_positions("GPS", track.body.stamps_ns, track.body.position_m)
    return from_trajectory("poses", track.body)


def measure_dataset(path: Path, config: FlowConfig | None = None) -> tuple[FlowSignal, MotionSignal]:
    """The same of a dataset folder: do its poses fit its images? UserError for a damaged one."""
    dataset = Dataset(path)
    meter = FlowMeter(config)
    for record in tqdm(dataset.records, desc=f"{path.name} flow", unit="image", leave=False, disable=None):
        if meter.wants(record.stamp_ns):
            flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
            meter.add(record.stamp_ns, np.asarray(read_image(path / record.rgb, flags), dtype=np.uint8))
    T = dataset.T_map_cam
    track = Trajectory(dataset.stamps_ns, T[:, :3, 3], quaternions.from_matrix(T[:, :3, :3]))
    return meter.signal(), from_trajectory("poses of the dataset", track)


_SUSPICIOUS_NS = 250_000_000  # of the clocks of images and poses, by their reception
_SURE_SIGMAS, _LEAST_OFF_S = 3.0, 0.05  # an offset of that much that is not applied makes poses wrong


@dataclass(frozen=True, eq=False)
class ImageTimeOffset:
    """`given_ns` is added to every stamp, and what was found and is `applied`; `doubtful` where poses may be of other
    times.
    """

    given_ns: int = 0
    found: Alignment | None = None
    applied: bool = False
    note: str = ""
    doubtful: bool = False

    def offset_ns(self, stamp_ns: int) -> int:
        """What to add to the stamp of an image."""
        if not self.applied or self.found is None:
            return self.given_ns
        return self.given_ns + int(self.found.offsets_ns(np.array([stamp_ns]))[0])

    @property
    def confidence(self) -> float | None:
        """Of what was applied."""
        return round(self.found.confidence, 3) if self.applied and self.found is not None else None


def find_image_clock(
    reader: BagReader, topics: TopicChoice, clocks: StampCorrections, track: CameraPoses, sync: Sync, given_ns: int
) -> ImageTimeOffset:
    """Estimate the offset as `sync` says; with "auto" only where the clocks look as if they differed."""
    if sync == "none":
        return ImageTimeOffset(given_ns)
    why, apart = _suspicion(reader, topics, clocks, track, given_ns)
    if sync == "auto" and not why:
        return ImageTimeOffset(given_ns)
    try:
        flow, motion = measure_bag(reader, topics, clocks, track)
        options = AlignOptions(max_offset_s=0.0 if apart else AlignOptions.max_offset_s)
        found = estimate_offset(flow.shifted(given_ns), motion, options)
    except UserError as error:
        found = Alignment(False, str(error))
    applied = found.observable and sync != "check"
    done = "applied" if applied else "not applied" if found.observable else "no offset was applied"
    because = f"{why}; " if why else ""
    off = found.observable and abs(found.offset_s) > max(_SURE_SIGMAS * found.sigma_s, _LEAST_OFF_S)
    return ImageTimeOffset(
        given_ns,
        found,
        applied,
        f"{because}{found.summary()}; {done} (pose2rgbd sync shows more)",
        doubtful=not applied and (off or bool(why) or sync == "apply"),
    )


def _suspicion(
    reader: BagReader, topics: TopicChoice, clocks: StampCorrections, track: CameraPoses, given_ns: int
) -> tuple[str, bool]:
    """Why the clocks of images and poses may differ, "" if nothing says so; and whether they never meet."""
    source = topics.fix if track.facts.position == "gps" else topics.pose or next(iter(topics.tf), None)
    wanted = [topic for topic in (topics.image, source) if topic]
    early: dict[str, list[int]] = {topic: [] for topic in wanted}
    first = last = None
    for topic, received_ns, header_ns in reader.stamps(wanted):
        early[topic].append((header_ns or received_ns) - received_ns)
        if topic == topics.image:
            stamp_ns = clocks.stamp_ns(topic, header_ns, received_ns) + given_ns
            first = stamp_ns if first is None else min(first, stamp_ns)
            last = stamp_ns if last is None else max(last, stamp_ns)
    if first is None or last is None:
        return "", False
    body = track.body.stamps_ns
    if last < body[0] or first > body[-1]:
        return "no image lies within the poses", True
    if clocks.apart(topics.image, source):
        return "the clocks of images and poses differ and were corrected by their reception", False
    if clocks.received or source is None or not early[source]:
        return "", False
    apart_ns = float(np.median(early[topics.image]) - np.median(early[source]))
    if abs(apart_ns) > _SUSPICIOUS_NS:
        return f"image stamps are {apart_ns / 1e9:+.2f} s from those of the poses by their reception", False
    return "", False


# Second pass over a recording: images stream by, meet their depth and their pose, and become frames.

_SECOND = 1_000_000_000
# Whole messages of raw images wait in memory for their depth: fewer than live.
_MOST_WAITING = 30
# Poses for this part of the images are enough to look no further.
_GOOD = 0.5


class Recording:
    """One recording on its way into a dataset. UserError when it lacks what is needed.

    `watch` is called with topic, time of reception and message of every image and depth image that goes by, and of the
    messages of `also`, which are read for that alone.
    """

    def __init__(
        self,
        ingest: FrameSink,
        reader: BagReader,
        config: ConvertConfig,
        report: BagReport,
        watch: Callable[[str, int, Any], None] = lambda topic, received_ns, message: None,
        also: Sequence[str] = (),
    ) -> None:
        self._ingest, self._watch, self._also = ingest, watch, also
        self._config = config
        self._reader = reader
        self._report = report
        self.first_pass = read_poses(reader, self._config)
        self.topics, self.clocks = self.first_pass.topics, self.first_pass.options.clocks
        for warning in (*self.first_pass.warnings, *self.clocks.warnings):
            report.warn(warning)
        self.track, self._datum = self._place_on_earth()
        self._image_received_ns: tuple[int, int] | None = None
        self.image_clock = self._find_image_clock()
        self._begun = False  # the recording's part of the dataset, with its first frame

    def _find_image_clock(self) -> ImageTimeOffset:
        config = self._config
        given_ns = round(config.image_time_offset_s * _SECOND)
        clock = find_image_clock(self._reader, self.topics, self.clocks, self.track, config.sync, given_ns)
        if clock.note:
            (self._report.warn if clock.doubtful else self._report.note)(clock.note)
        return clock

    def _place_on_earth(self) -> tuple[CameraPoses, Datum | None]:
        """The track, and the datum of the dataset's map; poses with another origin are moved there."""
        config, stored, first = self._config, self._ingest.meta, self.first_pass
        common = config.datum_of_map(stored)
        track = first.track(str(self._reader.path), common)
        if track.datum is not None:  # positions are GPS's: they are about it already
            unplaced = stored is not None and stored.datum is None
            gps.require_near(track.body.position_m, self._reader.path, track.datum, unplaced)
            return track, track.datum
        if not len(first.evidence.fixes):
            return track, common
        found = first.evidence.fixes.georeference(track.body, track.gap_ns, first.evidence.antenna_m())
        self._report.note(found.how)
        if found.datum is None:
            return track, common
        if common is None:
            # Frames that were written without a datum cannot be given one by another recording.
            return track, None if stored else found.datum
        try:
            offset_m = gps.shift_m(found.datum, common)
        except UserError as error:
            raise UserError(f"{self._reader.path}: {error}") from error
        if offset_m.any():
            self._report.note(
                "by GPS the poses' origin lies {:.1f} m east, {:.1f} m north, {:.1f} m up of the map's; "
                "they were moved there".format(*offset_m)
            )
            track.shift(offset_m)
        return track, common

    def run(self) -> None:
        """Convert; the report is filled on the way, also when it ends early."""
        self._describe()
        body = self.track.body
        self._filter, note = flight_filter(
            self._config, self._config.trim_ground, body.stamps_ns, body.position_m[:, 2]
        )
        if note:
            self._report.note(note)
        self._require_known_depth_encoding()
        try:
            for settled in self._settled():
                if isinstance(settled, Reject):
                    self._report.reject(settled.stamp_ns, settled.reason, settled.detail)
                else:
                    self._offer(settled)
            while outcomes := self._ingest.settled(wait=True):
                self._report.count(outcomes)
        finally:
            for problem in self._reader.problems:
                self._report.warn(problem)
            self._report.unreadable_messages = dict(self._reader.unreadable)
            for topic, count in self._reader.unreadable.items():
                self._report.warn(f"{topic}: {counted(count, 'message')} cannot be read and left out")
        self._check_overlap()

    def _describe(self) -> None:
        topics, track, report = self.topics, self.track, self._report
        report.topics = {
            "image": topics.image,
            "depth": topics.depth,
            "camera_info": topics.camera_info,
            "pose": topics.fix if track.facts.position == "gps" else topics.pose or ", ".join(topics.tf),
            "fix": topics.fix,
            **{name: topic for name, topic in track.facts.topics.items() if name in ("imu", "gimbal")},
        }
        report.poses = track.pose_count
        report.poses_stamps_ns = int(track.body.stamps_ns[0]), int(track.body.stamps_ns[-1])
        pose_notes = topics.pose_notes if track.facts.position != "gps" else []
        for note in (*topics.notes, *pose_notes, *self.first_pass.notes):
            report.note(note)
        for warning in (*topics.warnings, *self.first_pass.warnings):  # also those of the track
            report.warn(warning)
        report.note_poses(track.problems)
        if len(track.body) > 1 and not np.ptp(track.body.position_m, axis=0).any():
            report.warn(f"all poses of {report.topics['pose']} are at one place; --pose-topic picks another topic")

    def _require_known_depth_encoding(self) -> None:
        topic = self.topics.depth
        message = self._reader.first(topic) if topic else None
        if message is None or message.__msgtype__ != decode.IMAGE:
            return
        if message.encoding not in depth_rules.ENCODINGS:
            raise UserError(
                f"{topic} has encoding {message.encoding!r}; depth is read from {', '.join(depth_rules.ENCODINGS)}; "
                "--depth-topic picks another topic, or none"
            )

    def _settled(self) -> Iterator[Settled]:
        """Frames and rejects, as images, depth images and poses meet."""
        config, image_topic, depth_topic = self._config, self.topics.image, self.topics.depth
        sync = Synchronizer(
            self.track,
            SyncConfig(
                with_depth=depth_topic is not None,
                depth_tolerance_ns=round(config.depth_tolerance_s * _SECOND),
                max_waiting=_MOST_WAITING,
            ),
        )
        wanted = [topic for topic in (image_topic, depth_topic) if topic]
        total = self._reader.topics[image_topic].count
        with tqdm(total=total, desc=self._reader.path.name, unit="image", disable=None) as progress:
            for topic, received_ns, message in self._reader.messages([*wanted, *self._also]):
                self._watch(topic, received_ns, message)
                if topic not in wanted:
                    continue
                stamp_ns = self.clocks.stamp_ns(topic, decode.header_stamp_ns(message.header), received_ns)
                if topic == depth_topic:
                    if not self.clocks.is_stray(topic, received_ns):
                        yield from sync.add_depth(stamp_ns, received_ns, message)
                    continue
                progress.update()
                self._saw(stamp_ns, received_ns)
                if doubt := self.clocks.doubt(topic, received_ns):
                    yield Reject(stamp_ns, received_ns, TIME_JUMP, doubt)
                    continue
                sync.image_time_offset_ns = self.image_clock.offset_ns(stamp_ns)
                yield from sync.add_image(stamp_ns, received_ns, message)
            yield from sync.finish()

    def _saw(self, stamp_ns: int, received_ns: int) -> None:
        report = self._report
        newest = report.images_stamps_ns[1] if report.images_stamps_ns else stamp_ns
        if stamp_ns < newest:
            report.warn("image stamps jump back in time; the dataset is in order of stamps")
        report.saw_image(stamp_ns)
        first, last = self._image_received_ns or (received_ns, received_ns)
        self._image_received_ns = min(first, received_ns), max(last, received_ns)

    def _offer(self, frame: Frame) -> None:
        """A frame to the dataset, and what became of it and of ones before it to the report."""
        try:
            image = decode.image_sample(frame.image, frame.stamp_ns)
        except UserError as error:
            self._report.reject(frame.stamp_ns, "image_unreadable", str(error))
            return
        if not self._begun:
            self._begin(image)
        depth = None if frame.depth is None else functools.partial(decode.depth_sample, frame.depth, frame.stamp_ns)
        self._report.count(self._ingest.offer(frame.stamp_ns, frame.T_map_cam, image, depth))

    def _begin(self, image: ImageSample) -> None:
        assert self._image_received_ns is not None
        self._begun = True
        self._ingest.begin(self._meta(image), self._reader.path, self._filter, self._image_received_ns[0])

    def _meta(self, sample: ImageSample) -> DatasetMeta:
        return DatasetMeta(
            camera=self._camera(sample),
            map_frame=self.track.map_frame,
            camera_frame=self.track.camera_frame,
            depth=DepthMeta(kind=self._config.depth_kind) if self.topics.depth else None,
            datum=self._datum,
            poses=self._poses_meta(),
            simulation=simulation_of(self._reader.path),
        )

    def _poses_meta(self) -> PosesMeta:
        middle_ns = sum(self._report.images_stamps_ns or (0, 0)) // 2
        clock = self.image_clock
        if clock.found is not None:
            middle_ns = clock.found.reference_ns
        return dataclasses.replace(
            self.track.facts,
            image_time_offset_s=clock.offset_ns(middle_ns) / _SECOND,
            image_time_confidence=clock.confidence,
        )

    def _camera(self, sample: ImageSample) -> Camera:
        try:
            camera, note = camera_of_images(sample.width, sample.height, self.first_pass.camera, self._config.fov_deg)
        except UserError as error:
            raise UserError(
                f"{self.topics.camera_info} {error}; --camera-info-topic picks another topic, or none"
            ) from error
        if note:
            self._report.note(note if camera.is_calibrated else f"{note}; --fov-deg gives its field of view")
        return camera

    def _shifted(self, stamps_ns: tuple[int, int]) -> tuple[int, int]:
        """First and last image stamp as they are looked up among the poses."""
        first, last = (stamp_ns + self.image_clock.offset_ns(stamp_ns) for stamp_ns in stamps_ns)
        return first, last

    def _check_overlap(self) -> None:
        """When no image lies within the poses, say both times: the clocks differ."""
        report, poses = self._report, self._report.poses_stamps_ns
        outside = sum(report.rejects.get(reason, 0) for reason in ("before_first_pose", "after_last_pose"))
        if (
            not report.images_stamps_ns
            or not self._image_received_ns
            or not poses
            or outside == 0
            or outside < sum(report.rejects.values())
        ):
            return
        if report.frames_written or report.frames_already_there:
            return
        images, received = self._shifted(report.images_stamps_ns), self._shifted(self._image_received_ns)
        offset_s = self.image_clock.offset_ns(report.images_stamps_ns[0]) / _SECOND
        text = (
            f"{report.path}: no image has a pose; the images{f' ({offset_s:+g} s)' if offset_s else ''} cover "
            f"{_span(images)}, the poses of {report.topics['pose']} {_span(poses)}: "
            f"{(images[0] - poses[0]) / _SECOND:+.3f} s apart, so their clocks may differ"
        )
        if self._config.stamps != "received" and _overlap(received, self.track.received_ns):
            other = "auto corrects them" if self._config.stamps == "header" else "received replaces them"
            text += f"; --stamps {other} by the recorder's clock, by which they overlap"
        else:
            text += "; --image-time-offset-s shifts the images"
        report.warn(text)
        report.clock_hint = text


def choose(reader: BagReader, config: ConvertConfig) -> TopicChoice:
    """The topics to read. UserError when something is missing."""
    return choose_topics(
        reader,
        RequestedTopics(
            config.image_topic,
            config.depth_topic,
            config.camera_info_topic,
            config.pose_topic,
            config.fix_topic,
            config.imu_topic,
            config.gimbal_topic,
        ),
    )


def read_poses(reader: BagReader, config: ConvertConfig) -> BagPoses:
    """The first pass, with poses from the likeliest topic; unless one is asked for, from the first that will do.

    That is one that has poses for most images, finite and of unit quaternions, which are not all at one place.
    """
    topics = choose(reader, config)

    def read(choice: TopicChoice) -> BagPoses:
        clocks = clocks_of(reader, choice, config)
        return BagPoses(reader, choice, track_options(config, clocks))

    first = read(topics)
    if config.pose_topic != "auto" or config.position != "auto":
        return first
    given_ns = round(config.image_time_offset_s * _SECOND)
    found = [(*_worth(first, given_ns), first)]
    for other in topics.other_poses if found[0][0] < _GOOD else ():
        choice = dataclasses.replace(topics, pose=None if reader.topics[other].type == decode.TF else other)
        if reader.topics[other].type in FIX_TYPES:
            choice = dataclasses.replace(topics, pose=None, gps_only=True, fix=other)
        found.append((*_worth(attempt := read(choice), given_ns), attempt))
        if found[-1][0] >= _GOOD:
            break
    _, _, best = max(found, key=lambda it: it[0])
    if best is not first:
        best.warn(f"{_source(first)} was passed over ({found[0][1]}); poses are those of {_source(best)}")
        best.topics.pose_notes.clear()
    return best


def _source(first: BagPoses) -> str:
    topics = first.topics
    return (topics.fix if topics.gps_only else topics.pose) or ", ".join(topics.tf)


def _worth(first: BagPoses, given_ns: int) -> tuple[float, str]:
    """For which share of the images there are poses that can be; and in words what is wrong with them."""
    topics, images_ns = first.topics, first.options.clocks.images_ns + given_ns
    valid = first.evidence.odometry.valid_share() if topics.pose else 1.0
    try:
        track = first.track("").body if not topics.pose else first.evidence.odometry.trajectory()
    except UserError as error:
        return 0.0, str(error).removeprefix(": ")
    gap_ns = first.evidence.gap_ns
    if topics.gps_only:
        gap_ns = max(gap_ns, round(first.options.poses.max_fix_gap_s * _SECOND))
    after = np.searchsorted(track.stamps_ns, images_ns)
    inside = (after > 0) & (after < len(track))
    near = (
        np.diff(track.stamps_ns)[np.clip(after - 1, 0, max(len(track) - 2, 0))] <= gap_ns if len(track) > 1 else False
    )
    share = float(np.mean(inside & near)) if len(images_ns) else 1.0
    if not np.ptp(track.position_m, axis=0).any():
        return 0.1 * share, f"all {counted(len(track), 'pose')} are at one place"
    if valid < _GOOD:
        return valid * share, f"only {valid:.0%} of its poses are finite and of unit quaternions"
    return share, f"{counted(len(track), 'pose')}, for {share:.0%} of the images"


def clocks_of(reader: BagReader, topics: TopicChoice, config: ConvertConfig) -> StampCorrections:
    """What gives the messages of those topics their stamps."""
    wanted = (topics.depth, topics.pose, topics.fix, topics.imu, topics.gimbal, *topics.tf)
    # PX4's messages have no header; BagPoses brings its clock to the recorder's.
    others = [name for name in wanted if name and reader.topics[name].type not in decode.PX4_TYPES]
    reach_s = max(config.max_pose_gap_s, config.max_fix_gap_s if topics.fix else 0.0)
    return find_clocks(reader, topics.image, others, config.stamps, round(reach_s * _SECOND))


def track_options(config: ConvertConfig, clocks: StampCorrections) -> TrackOptions:
    """How poses are read."""
    return TrackOptions(
        poses=config,
        clocks=clocks,
        map_frame=decode.frame_name(config.map_frame),
        pose_frame=decode.frame_name(config.pose_frame),
        camera_frame=decode.frame_name(config.camera_frame),
    )


def _span(stamps_ns: tuple[int, int]) -> str:
    first, last = (f"{stamp // _SECOND}.{stamp % _SECOND // 1_000_000:03d}" for stamp in stamps_ns)
    return f"{first}..{last} s"


def _overlap(a: tuple[int, int], b: tuple[int, int] | None) -> bool:
    return b is not None and a[0] <= b[1] and b[0] <= a[1]


# Recordings to a dataset: two passes per bag (poses first, then images streaming by), in bounded memory.


WAYS_OUT = {
    "pose_gap": "--max-pose-gap-s bridges longer silences of the poses",
    "no_depth": "--depth-tolerance-s allows larger differences of the stamps, --depth-topic none does without depth",
    "depth_unreadable": "--depth-topic picks another topic, or none",
    "depth_size": "--depth-topic picks another topic, or none",
    "image_unreadable": "--image-topic picks another topic",
}


def convert(bags: Sequence[Path | str], out: Path | str, config: ConvertConfig | None = None) -> ConvertReport:
    """Convert recordings of one place into the dataset `out`.

    Images that cannot become frames are counted by reason; the report is also written to `out`/convert_report.yaml.
    An interrupted conversion (Ctrl-C, kill -9, disk full) is continued with `resume`.

    Raises:
        UserError: a recording cannot be read, lacks a topic, no image has a pose, or the disk is full. Frames
            written before stay.
    """
    config = config or ConvertConfig()
    if not bags:
        raise UserError("no recording was given")
    require_distinct(map(Path, bags))
    with conversion(out, config, settings.to_yaml_dict(config)) as (ingest, report):
        for bag in bags:
            part = report.begin(bag)
            with open_bag(bag) as reader:
                Recording(ingest, reader, config, part).run()
        report.require_frames("image", WAYS_OUT)
    return report
