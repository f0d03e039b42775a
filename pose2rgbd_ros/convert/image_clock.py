"""What is added to image stamps when their pose is looked up: as given, and as found from the pictures' motion."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.alignment.align import Alignment, AlignOptions, estimate_offset
from pose2rgbd_ros.alignment.flow import FlowConfig, FlowMeter, FlowSignal, grey_image
from pose2rgbd_ros.alignment.signals import MotionSignal, Samples, from_trajectory, motion_from_positions
from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import BagReader
from pose2rgbd_ros.bags.topics import TopicChoice
from pose2rgbd_ros.convert.clocks import StampCorrections
from pose2rgbd_ros.convert.settings import Sync
from pose2rgbd_ros.dataset.encode import read_image
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses.camera_pose import CameraTrajectory

# Recordings and datasets to the two signals that alignment compares: how the picture moves, how the vehicle
# does.


def measure_bag(
    reader: BagReader,
    topics: TopicChoice,
    clocks: StampCorrections,
    track: CameraTrajectory,
    config: FlowConfig | None = None,
) -> tuple[FlowSignal, MotionSignal]:
    """Flow of the images, by their stamps, and motion of the track, by those of the poses.

    Turn rates are those of the poses' orientations; where the positions are GPS's, a gyroscope's. UserError when there
    is nothing to measure.
    """
    meter = FlowMeter(config)
    gyro_topic = topics.imu if track.facts.position == "gps" else None
    gyro_ns, gyro = array("q"), array("d")
    wanted = [topic for topic in (topics.image, gyro_topic) if topic]
    total = sum(reader.topics[topic].count for topic in wanted)
    with tqdm(total=total, desc=f"{reader.path.name} flow", unit="message", leave=False, disable=None) as progress:
        for topic, received_ns, message in reader.messages(wanted):
            progress.update()
            stamp_ns = clocks.stamp_ns(topic, decode.header_stamp_ns(message.header), received_ns)
            if topic == gyro_topic:
                gyro_ns.append(stamp_ns)
                gyro.extend(decode.imu_sample(message, stamp_ns).angular_radps)
            elif meter.wants(stamp_ns) and not clocks.doubt(topic, received_ns):
                try:
                    grey = grey_image(decode.image_sample(message, stamp_ns), meter.config.width_px)
                except UserError:  # a damaged image is told where frames are written
                    continue
                meter.add(stamp_ns, grey)
    motion = motion_of(track)
    rates = Samples(np.array(gyro_ns, dtype=np.int64), np.array(gyro).reshape(-1, 3))
    return meter.signal(), motion.with_rates(rates) if len(rates) >= 3 else motion


def motion_of(track: CameraTrajectory) -> MotionSignal:
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
    reader: BagReader, topics: TopicChoice, clocks: StampCorrections, track: CameraTrajectory, sync: Sync, given_ns: int
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
    reader: BagReader, topics: TopicChoice, clocks: StampCorrections, track: CameraTrajectory, given_ns: int
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
