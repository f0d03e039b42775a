"""The play node: a recording's poses on /tf at a high rate, and its images, in real time or along a smooth path."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tf2_ros
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.bags.topics import NONE, RequestedTopics, choose_topics
from pose2rgbd_ros.convert.bag_poses import BagPoses, TrackOptions
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.depth import DepthKind, depth_topic
from pose2rgbd_ros.geometry.flight import FlightSettings, plan_flight, spans
from pose2rgbd_ros.nodes.common import conversions, parameters
from pose2rgbd_ros.nodes.common.status import one_line
from pose2rgbd_ros.nodes.common.topics import advertise
from pose2rgbd_ros.poses.settings import PoseSettings
from pose2rgbd_ros.settings import setting

# Recordings to play: a dataset folder or a rosbag, as the camera's poses over time and a stream of images.


@dataclass(frozen=True)
class Event:
    """An image ("rgb": uint8 (H, W, 3), "depth": float32 (H, W)) to be published when `stamp_ns` comes."""

    stamp_ns: int
    kind: str
    load: Callable[[], np.ndarray]


class Recording(Protocol):
    """What the player needs. `spans_ns` are the stretches (first, last) with poses, in time order.

    `pose_hz`: how many poses a second a smooth path has, and `line` what to say of it; None: as many as are asked for.
    """

    map_frame: str
    camera_frame: str
    camera: Camera | None
    depth_kind: DepthKind | None
    spans_ns: list[tuple[int, int]]
    pose_hz: float | None
    line: str

    def T_map_cam(self, stamp_ns: int) -> Float64 | None:
        """The pose at a time, None where there is none."""

    def events(self, first_ns: int, last_ns: int) -> Iterator[Event]:
        """The images between two times, in order."""


def open_recording(
    path: Path, requested: RequestedTopics, max_gap_s: float, flight: FlightSettings | None = None
) -> Recording:
    """The recording at `path`. UserError when it is neither a dataset nor a rosbag, or is a bad one."""
    if (path / layout.META).exists():
        return DatasetRecording(path, max_gap_s, flight)
    if not path.exists():
        raise UserError(f"{path} does not exist; give a dataset folder or a rosbag")
    return BagRecording(path, requested, max_gap_s)


class DatasetRecording:
    """Frames of a dataset folder at the times at which its flight passes them, and the poses between them."""

    def __init__(self, path: Path, max_gap_s: float, settings: FlightSettings | None = None) -> None:
        self._dataset = dataset = Dataset(path)
        self._flight = flight = plan_flight(dataset.stamps_ns, dataset.T_map_cam, settings, max_gap_s)
        self.map_frame, self.camera_frame = dataset.meta.map_frame, dataset.meta.camera_frame
        self.camera: Camera | None = dataset.camera
        self.depth_kind: DepthKind | None = dataset.depth_kind
        self.spans_ns, self.line = flight.spans_ns, flight.line
        self.pose_hz = None if flight.period_ns is None else 1e9 / flight.period_ns

    def T_map_cam(self, stamp_ns: int) -> Float64 | None:
        """The pose at a time, None in a gap."""
        at = self._flight.poses(np.array([stamp_ns]))
        return at.T[0] if at.valid[0] else None

    def events(self, first_ns: int, last_ns: int) -> Iterator[Event]:
        """Colour, then depth, of each frame."""
        dataset = self._dataset
        for index, stamp_ns in enumerate(self._flight.passed_ns.tolist()):
            if first_ns <= stamp_ns <= last_ns:
                yield Event(stamp_ns, "rgb", partial(dataset.rgb, index))
                if dataset.has_depth:
                    yield Event(stamp_ns, "depth", partial(dataset.depth, index))


class BagRecording:
    """Images of a rosbag as they were received, at their own stamps; the camera's poses as the converter reads them."""

    pose_hz: float | None = None
    line = ""

    def __init__(self, path: Path, requested: RequestedTopics, max_gap_s: float) -> None:
        self._path = path
        with open_bag(path) as reader:
            self._topics = choose_topics(reader, requested)
            options = TrackOptions(PoseSettings(max_pose_gap_s=max_gap_s))
            first_pass = BagPoses(reader, self._topics, options)
            self._track = first_pass.track(str(path))
        self.map_frame, self.camera_frame = self._track.map_frame, self._track.camera_frame
        self.camera = first_pass.camera
        self.depth_kind: DepthKind | None = "metric" if self._topics.depth not in (None, NONE) else None
        self.spans_ns = spans(self._track.body.stamps_ns)

    def T_map_cam(self, stamp_ns: int) -> Float64 | None:
        """The pose at a time, None in a gap."""
        return self._track.pose_at(stamp_ns).T

    def events(self, first_ns: int, last_ns: int) -> Iterator[Event]:
        """Images of the colour and depth topics in the order they were recorded."""
        topics = {self._topics.image: "rgb"}
        if self.depth_kind is not None and self._topics.depth is not None:
            topics[self._topics.depth] = "depth"
        with open_bag(self._path) as reader:
            for topic, received_ns, message in reader.messages(list(topics)):
                stamp_ns = decode.header_stamp_ns(message.header) or received_ns
                if first_ns <= stamp_ns <= last_ns:
                    yield Event(stamp_ns, topics[topic], _loader(message, stamp_ns, topics[topic]))


def _loader(message: object, stamp_ns: int, kind: str) -> Callable[[], np.ndarray]:
    if kind == "rgb":
        return lambda: decode.image_sample(message, stamp_ns).rgb()
    return lambda: decode.depth_sample(message, stamp_ns).depth_m


CLOCK_HZ = 100.0


@dataclass
class PlaySettings:
    """Parameters of the play node."""

    recording: str = setting("", "dataset folder or rosbag to play", read_only=True)
    rate: float = setting(1.0, "speed, 1 is real time", ge=0.01, le=100.0, read_only=True)
    loop: bool = setting(False, "begin again at the end instead of ending", read_only=True)
    start_delay_s: float = setting(1.0, "wait for subscribers this long", ge=0.0, le=60.0, read_only=True)
    tf_rate_hz: float = setting(50.0, "how often the interpolated pose is sent", ge=1.0, le=1000.0, read_only=True)
    clock: bool = setting(
        False, "keep the recorded stamps and publish /clock; else everything is stamped as of now", read_only=True
    )
    images: bool = setting(True, "publish the recorded images too", read_only=True)
    odometry: bool = setting(False, "publish the poses as nav_msgs/Odometry too", read_only=True)
    map_frame: str = setting("", "frame of the poses; empty: as recorded", read_only=True)
    camera_frame: str = setting("", "optical frame of the camera; empty: as recorded", read_only=True)
    max_pose_gap_s: float = setting(
        0.5, "no pose is interpolated over a longer silence", ge=0.0, le=60.0, read_only=True
    )
    image_topic: str = setting("auto", "colour images of a rosbag", read_only=True)
    depth_topic: str = setting("auto", "depth images of a rosbag; none: without", read_only=True)
    camera_info_topic: str = setting("auto", "calibration in a rosbag; none: without", read_only=True)
    pose_topic: str = setting("auto", "poses of a rosbag", read_only=True)
    flight: FlightSettings = field(default_factory=FlightSettings)


class Pace:
    """Recorded time against the wall: one stretch of a recording played at a speed from now on."""

    def __init__(self, first_ns: int, rate: float, keep_stamps: bool, stop: threading.Event) -> None:
        self._first_ns, self._rate, self._keep, self._stop = first_ns, rate, keep_stamps, stop
        self._started, self._started_wall_ns = time.monotonic(), time.time_ns()

    def recorded_ns(self) -> int:
        """The recorded time that is now."""
        return self._first_ns + int((time.monotonic() - self._started) * self._rate * 1e9)

    def stamp_ns(self, recorded_ns: int) -> int:
        """The stamp a message of that recorded time gets."""
        if self._keep:
            return recorded_ns
        return self._started_wall_ns + int((recorded_ns - self._first_ns) / self._rate)

    def wait_for(self, recorded_ns: int) -> bool:
        """Sleep until a recorded time comes; False when the player is to stop."""
        due = self._started + (recorded_ns - self._first_ns) / (self._rate * 1e9)
        return not self._stop.wait(max(0.0, due - time.monotonic()))


class PlayNode(Node):
    """Plays in two threads, one for poses and one for images, so that decoding never delays a pose.

    `exit_status` is None until the recording ended, then 0 (or 1 when it could not be read to the end).
    """

    def __init__(self, settings: PlaySettings | None = None, **options: Any) -> None:
        super().__init__("play", **options)
        self.exit_status: int | None = None
        self._stop = threading.Event()
        self._player: threading.Thread | None = None
        self.settings = settings = parameters.declare(self, settings or PlaySettings())
        if not settings.recording:
            raise UserError("nothing to play; set the parameter recording to a dataset folder or a rosbag")
        requested = RequestedTopics(
            settings.image_topic, settings.depth_topic, settings.camera_info_topic, settings.pose_topic
        )
        path = Path(settings.recording).expanduser()
        self._recording = recording = open_recording(path, requested, settings.max_pose_gap_s, settings.flight)
        self._map_frame = settings.map_frame or recording.map_frame
        self._camera_frame = settings.camera_frame or recording.camera_frame
        self._tf = tf2_ros.TransformBroadcaster(self)
        self._clock_publisher = self.create_publisher(Clock, "/clock", 1) if settings.clock else None
        self._odometry = advertise(self, Odometry, "~/odometry") if settings.odometry else None
        self._images, self._infos = self._advertise_images()
        self._player = threading.Thread(target=self._play, name="play", daemon=True)
        self._player.start()

    def destroy_node(self) -> None:
        """Stop playing first."""
        self._stop.set()
        if self._player is not None:
            self._player.join()
        super().destroy_node()

    def _advertise_images(self) -> tuple[dict[str, Publisher], dict[str, Publisher]]:
        if not self.settings.images:
            return {}, {}
        kind = self._recording.depth_kind
        topics = {"rgb": "~/rgb/image"}
        if kind is not None:
            topics["depth"] = f"~/{depth_topic(kind)}"
        infos = {
            name: advertise(self, CameraInfo, topic.replace("/image", "/camera_info"))
            for name, topic in topics.items()
            if self._recording.camera is not None
        }
        kinds = {"rgb": Image, "depth": conversions.DEPTH_MESSAGES[kind or "metric"]}
        return {name: advertise(self, kinds[name], topic) for name, topic in topics.items()}, infos

    def _play(self) -> None:
        settings, spans = self.settings, self._recording.spans_ns
        total_s = sum(last - first for first, last in spans) / 1e9 / settings.rate
        self.get_logger().info(
            f"playing {settings.recording}: {total_s:.1f} s, {self._map_frame} -> {self._camera_frame}"
            + (", again and again" if settings.loop else "")
            + (f"; {self._recording.line}" if self._recording.line else "")
        )
        status = 0
        try:
            self._stop.wait(settings.start_delay_s)
            while not self._stop.is_set():
                for first_ns, last_ns in spans:
                    self._play_span(first_ns, last_ns)
                if not settings.loop:
                    break
        except Exception as error:
            if self.context.ok():
                self.get_logger().error(one_line(error, "playing failed"))
                status = 1
        self.exit_status = status

    def _play_span(self, first_ns: int, last_ns: int) -> None:
        pace = Pace(first_ns, self.settings.rate, self.settings.clock, self._stop)
        poses = threading.Thread(target=self._play_poses, args=(pace, first_ns, last_ns), daemon=True)
        poses.start()
        try:
            if self._images:
                self._play_images(pace, first_ns, last_ns)
        except Exception:
            self._stop.set()
            raise
        finally:
            poses.join()

    def _play_poses(self, pace: Pace, first_ns: int, last_ns: int) -> None:
        """Poses and clock at their rates, on a common grid of recorded time."""
        pose_hz = self._recording.pose_hz
        tf_rate_hz = self.settings.tf_rate_hz if pose_hz is None else pose_hz * self.settings.rate
        rate_hz = max(tf_rate_hz, CLOCK_HZ if self._clock_publisher else 0.0)
        step_ns = round(1e9 * self.settings.rate / rate_hz)
        every = max(1, round(rate_hz / tf_rate_hz))
        for index, recorded_ns in enumerate(range(first_ns, last_ns + 1, step_ns)):
            if not pace.wait_for(recorded_ns):
                return
            if self._clock_publisher is not None:
                self._clock_publisher.publish(Clock(clock=conversions.to_stamp(recorded_ns)))
            if index % every == 0:
                self._send_pose(pace, recorded_ns)

    def _send_pose(self, pace: Pace, recorded_ns: int) -> None:
        T = self._recording.T_map_cam(recorded_ns)
        if T is None:
            return
        stamped = conversions.to_transform_stamped(T, pace.stamp_ns(recorded_ns), self._map_frame, self._camera_frame)
        self._tf.sendTransform(stamped)
        if self._odometry is not None:
            odometry = Odometry(header=stamped.header, child_frame_id=self._camera_frame)
            odometry.pose.pose = conversions.to_pose(T)
            self._odometry.publish(odometry)

    def _play_images(self, pace: Pace, first_ns: int, last_ns: int) -> None:
        for event in self._recording.events(first_ns, last_ns):
            # Decoded ahead of time, so that the image leaves when it is due.
            pixels = self._load(event) if self._images[event.kind].get_subscription_count() else None
            if not pace.wait_for(event.stamp_ns):
                return
            if event.kind == "rgb":
                self._send_pose(pace, event.stamp_ns)  # so that TF knows the very pose of the image
            self._send_image(event, pixels, pace.stamp_ns(event.stamp_ns))

    def _load(self, event: Event) -> np.ndarray | None:
        try:
            return event.load()
        except UserError as error:
            self.get_logger().warning(f"left out an image: {error}", throttle_duration_sec=5.0)
            return None

    def _send_image(self, event: Event, pixels: np.ndarray | None, stamp_ns: int) -> None:
        if event.kind in self._infos and self._recording.camera is not None:
            info = conversions.camera_to_info(self._recording.camera)
            info.header.stamp, info.header.frame_id = conversions.to_stamp(stamp_ns), self._camera_frame
            self._infos[event.kind].publish(info)
        if pixels is not None:
            image = conversions.to_image(pixels, stamp_ns, self._camera_frame)
            unit = self._recording.depth_kind if event.kind == "depth" else None
            self._images[event.kind].publish(conversions.depth_message(image, unit or "metric"))
