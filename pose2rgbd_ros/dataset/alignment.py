"""Recordings and datasets to the two signals that alignment compares: how the picture moves, how the vehicle does."""

from __future__ import annotations

from array import array
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import BagReader
from pose2rgbd_ros.bags.topics import TopicChoice
from pose2rgbd_ros.dataset.depth_files import read_image
from pose2rgbd_ros.dataset.importers.camera_track import CameraTrack
from pose2rgbd_ros.dataset.importers.clocks import Clocks
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.streams.alignment.flow import FlowConfig, FlowMeter, FlowSignal, grey_image
from pose2rgbd_ros.streams.alignment.motion import MotionSignal, from_positions, from_trajectory
from pose2rgbd_ros.streams.alignment.signals import Samples


def measure_bag(
    reader: BagReader,
    topics: TopicChoice,
    clocks: Clocks,
    track: CameraTrack,
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
    with tqdm(
        total=total, desc=f"{reader.path.name} flow", unit="message", leave=False, disable=None
    ) as progress:
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


def motion_of(track: CameraTrack) -> MotionSignal:
    """The motion of a track; orientations count only where they were measured with the positions."""
    if track.facts.position == "gps":
        return from_positions("GPS", track.body.stamps_ns, track.body.position_m)
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
