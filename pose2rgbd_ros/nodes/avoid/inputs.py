"""What the avoid node listens to: predicted depth matched by stamp, the body in TF, live sensors, odometry, the map's
origin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from message_filters import Subscriber, TimeSynchronizer
from nav_msgs.msg import Odometry
from pose2rgbd.msg import RenderStatus
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, Image, NavSatFix, Range

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.geodesy import Datum, wgs84_to_enu
from pose2rgbd_ros.nodes.avoid.settings import AvoidSettings
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.common.status import how_old
from pose2rgbd_ros.nodes.common.tf import TfLookup
from pose2rgbd_ros.nodes.common.topics import SILENT_S, Candidate, TopicHealth, subscribe
from pose2rgbd_ros.obstacles.surroundings import RangeMeasurement, live_lower
from pose2rgbd_ros.obstacles.view import DepthView, level, view_of

RELATIVE_TYPE = "pose2rgbd/msg/RelativeDepth"
QUEUE = 8  # messages of a topic that wait for those of the others; one that lags further behind never catches up


class DepthInputs:
    """Subscriptions to what a render node publishes; all methods belong to the executor's thread.

    message_filters finds what has one stamp. Around it stand, on each topic, `_arrived`, which knows which of them lags
    or jumped, and `_hand_on`, so that a match is worked on when the synchroniser's lock is free again.

    `on_match` gets the messages of one stamp by role, `on_jump` a line when stamps went back by more than a second.
    """

    def __init__(
        self, node: Node, on_match: Callable[[int, dict[str, Any]], None], on_jump: Callable[[str], None]
    ) -> None:
        self._node, self._on_match, self._on_jump = node, on_match, on_jump
        self._topics: dict[str, TopicHealth] = {}  # by role, that of the image that distances are taken from first
        self._filters: dict[str, Subscriber] = {}
        self._status: Subscription | None = None
        self._synchronizer = TimeSynchronizer([], QUEUE)
        self._match: dict[str, Any] | None = None
        self._last_ns = -1
        self._messages = self._matched_messages = 0
        self.out_of_order = 0  # sets older than the one before
        self.render_status: RenderStatus | None = None

    def start(self, settings: AvoidSettings) -> None:
        """Subscribe to what these settings need."""
        roles = [settings.bound_role, "camera_info"]
        if settings.cloud == "depth" and settings.bound == "lower":
            roles.append("depth")
        if settings.cloud_rgb:
            roles.append("rgb")
        for role in roles:
            candidate = Candidate(role, CameraInfo if role == "camera_info" else Image)
            remedy = f"remap {role} to that of the render node"
            self._topics[role] = TopicHealth(self._node, candidate, remedy=remedy)
            self._filters[role] = self._topics[role].filter(self._arrived, role)
        self._synchronizer = TimeSynchronizer(list(self._filters.values()), QUEUE)
        self._synchronizer.registerCallback(self._matched)
        for each in self._filters.values():
            each.registerCallback(self._hand_on)
        self._status = subscribe(self._node, RenderStatus, "status", self._take_status)
        self.forget_stamps()

    def stop(self) -> None:
        """Unsubscribe."""
        for topic in self._topics.values():
            topic.stop()
        if self._status is not None:
            self._node.destroy_subscription(self._status)
        self._topics, self._filters, self._status, self.render_status = {}, {}, None, None

    def forget_stamps(self) -> None:
        """Time jumped: what comes next is not compared with what came before."""
        for queue in self._synchronizer.queues:
            queue.clear()
        for topic in self._topics.values():
            topic.newest_ns = None
        self._last_ns = -1

    @property
    def incomplete(self) -> int:
        """Messages of stamps that not all topics sent."""
        return self._messages - self._matched_messages - sum(map(len, self._synchronizer.queues))

    def refusal(self) -> str:
        """Why this depth cannot be used at all; empty: it can, as far as is known."""
        role, image = next(iter(self._topics.items()))
        if RELATIVE_TYPE in [info.topic_type for info in image.publishers()]:
            return (
                f"{image.topic} is relative depth, without a unit: distances cannot be had from it; train on metric "
                "depth"
            )
        status = self.render_status
        if status is None or not status.model:
            return ""
        if not status.metric_depth:
            return (
                f"the depth of model {status.model} is relative, without a unit, or it has none: "
                "distances cannot be had from it; train on metric depth"
            )
        if role == "depth_lower" and not status.calibrated and not image.arrived:
            return (
                f"model {status.model} is not calibrated, so there is no lower bound of its depth; run "
                "`pose2rgbd calibrate`, or set bound to depth and margin_m to what is to be taken off"
            )
        return ""

    def explain(self) -> str:
        """Why nothing is matched; to be asked while nothing is."""
        for topic in self._topics.values():
            if topic.silent_for_s > SILENT_S:
                status = self.render_status
                said = f"; the render node says: {status.message}" if status is not None and status.message else ""
                return f"{topic.problem()}{said}"
            if not topic.arrived:
                return "nothing has arrived yet"
        newest_ns = [topic.newest_ns for topic in self._topics.values() if topic.newest_ns is not None]
        gap_s = (max(newest_ns) - min(newest_ns)) / 1e9 if newest_ns else 0.0
        topics = " and ".join(topic.topic for topic in self._topics.values())
        return (
            f"{topics} arrive, but with no stamp in common: their newest differ by {gap_s:.3f} s; "
            "remap both to one render node"
        )

    def _arrived(self, message: Any, role: str) -> None:
        """Ahead of the synchroniser: note the message, and a jump of time."""
        back = self._topics[role].saw(conversions.stamp_ns(message.header.stamp))
        if back:
            self.forget_stamps()
            self._on_jump(back)
        self._messages += 1

    def _matched(self, *messages: Any) -> None:
        """Under the synchroniser's lock."""
        self._match = dict(zip(self._topics, messages, strict=True))
        self._matched_messages += len(messages)

    def _hand_on(self, message: Any) -> None:
        """After the synchroniser: serve the match that this message completed."""
        match, self._match = self._match, None
        if match is None:
            return
        stamp_ns = conversions.stamp_ns(message.header.stamp)
        if stamp_ns <= self._last_ns:
            self.out_of_order += 1
            return
        self._last_ns = stamp_ns
        self._on_match(stamp_ns, match)

    def _take_status(self, message: RenderStatus) -> None:
        self.render_status = message


# Where the body and its sensors are, from TF: camera -> body, and the level frame that keeps only the yaw.


@dataclass(frozen=True, eq=False)
class Placed:
    """The body at one moment: R_level_body (3, 3), no rotation where distances are taken in the body's own frame.

    T_map_level (4, 4): the pose of that frame; None where neither `level` nor the points ask for the map.
    """

    stamp_ns: int
    T_map_level: Float64 | None
    R_level_body: Float64

    def T_body(self, T_level: Float64) -> Float64:
        """T_body_x (4, 4) of a T_level_x."""
        return _turned(self.R_level_body.T) @ T_level


class BodyFrames:
    """Lookups that never wait; all methods belong to the executor's thread."""

    def __init__(self, poses: TfLookup, settings: AvoidSettings) -> None:
        self._poses, self._settings = poses, settings

    def body_at(self, stamp_ns: int) -> Placed:
        """The body at a time (0: the newest). UserError says which frame is missing."""
        settings = self._settings
        if not settings.level and settings.cloud_frame != "map":
            return Placed(stamp_ns, None, np.eye(3))
        T_map_body = self._poses.between(settings.map_frame, settings.body_frame, stamp_ns)
        R_level_body = level(T_map_body[:3, :3]) if settings.level else np.eye(3)
        return Placed(stamp_ns, T_map_body @ _turned(R_level_body.T), R_level_body)

    def newest_ns(self, camera_frame: str) -> int | None:
        """Up to when the body and its camera are known; None: at any time. UserError says which frame is missing."""
        if not camera_frame:
            raise UserError("the depth image names no frame; set header.frame_id to the camera's optical frame")
        settings = self._settings
        found = [self._poses.newest_ns(settings.body_frame, camera_frame)]
        if settings.level or settings.cloud_frame == "map":
            found.append(self._poses.newest_ns(settings.map_frame, settings.body_frame))
        return min((stamp_ns for stamp_ns in found if stamp_ns is not None), default=None)

    def camera_at(self, placed: Placed, camera_frame: str) -> Float64:
        """T_level_cam (4, 4) of the camera at the same moment. UserError says which frame is missing."""
        if not camera_frame:
            raise UserError("the depth image names no frame; set header.frame_id to the camera's optical frame")
        T_body_cam = self._poses.between(self._settings.body_frame, camera_frame, placed.stamp_ns)
        return _turned(placed.R_level_body) @ T_body_cam

    def sensor_at(self, placed: Placed, frame: str, stamp_ns: int) -> Float64:
        """T_level_sensor (4, 4) of a sensor as it was at its own time, so that the body's motion since is heeded.

        Where TF does not reach to that time, the sensor is taken to be where it is on the body. UserError: it is
        nowhere.
        """
        if placed.T_map_level is not None:
            try:
                T_map_sensor = self._poses.between(self._settings.map_frame, frame, stamp_ns)
                return se3.compose(se3.inverse(placed.T_map_level), T_map_sensor)
            except UserError:
                pass
        T_body_sensor = self._poses.between(self._settings.body_frame, frame, 0)
        return _turned(placed.R_level_body) @ T_body_sensor

    def turn_to_level(self, placed: Placed, frame: str) -> Float64:
        """R_level_frame (3, 3) of a frame fixed to the body. UserError: it is nowhere."""
        if frame in ("", self._settings.body_frame):
            return placed.R_level_body
        turned: Float64 = placed.R_level_body @ self._poses.between(self._settings.body_frame, frame, 0)[:3, :3]
        return turned


def _turned(R: Float64) -> Float64:
    T = np.eye(4)
    T[:3, :3] = R
    return T


# Live sensors beside the prediction: a depth camera and a range finder, and whether they have fallen silent.


PROBLEMS = ("depth", "image", "range")  # where the camera is, what its image holds, where the range finder is


@dataclass(frozen=True, eq=False)
class LiveDepth:
    """A live depth image, and where it was taken from: T_body_cam (4, 4) in the frame of the scan."""

    image: Image
    info: CameraInfo
    T_body_cam: Float64

    def view(self) -> DepthView:
        """What it shows. UserError for an encoding or calibration that cannot be used."""
        return view_of(
            live_lower(conversions.measured_depth_of(self.image)),
            conversions.camera_from_info(self.info),
            self.T_body_cam,
        )


class LiveInputs:
    """Subscriptions to `live_depth`, `live_camera_info` and `range`; all methods belong to the executor's thread."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._subscriptions: list[Subscription] = []
        self._newest: dict[str, tuple[int, Image | Range]] = {}  # time of arrival, message
        self._info: CameraInfo | None = None
        self._problems = dict.fromkeys(PROBLEMS, "")  # why what arrives is not used

    def start(self) -> None:
        """Subscribe."""
        self._subscriptions = [
            subscribe(self._node, Image, "live_depth", lambda message: self._take(message, "live_depth")),
            subscribe(self._node, CameraInfo, "live_camera_info", self._take_info),
            subscribe(self._node, Range, "range", lambda message: self._take(message, "range")),
        ]

    def stop(self) -> None:
        """Unsubscribe, and forget that there were sensors."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions, self._info = [], None
        self.forget()

    def lost(self, settings: AvoidSettings) -> str:
        """Which sensor that once measured is of no use now, and why; empty: none."""
        for role, (arrived_ns, message) in self._newest.items():
            late_s = (arrived_ns - conversions.stamp_ns(message.header.stamp)) / 1e9
            if abs(late_s) > settings.live_timeout_s:
                return (
                    f"{role} arrives with stamps {how_old(late_s, 2)}: the clocks differ or it is too late; "
                    "going on with predicted depth alone"
                )
            if self._age_s(message) > settings.live_timeout_s:
                silent_s = (self._now_ns() - arrived_ns) / 1e9
                return f"{role} fell silent {silent_s:.1f} s ago: going on with predicted depth alone"
        return next(filter(None, self._problems.values()), "")

    def depth(self, settings: AvoidSettings, frames: BodyFrames, placed: Placed) -> LiveDepth | None:
        """The newest live depth image, if it is fresh and where it was taken is known."""
        image = self._fresh("live_depth", settings)
        if not isinstance(image, Image):
            return None
        if self._info is None:
            self._problems["depth"] = "live_depth arrives without live_camera_info: not used"
            return None
        try:
            T = frames.sensor_at(placed, image.header.frame_id, conversions.stamp_ns(image.header.stamp))
        except UserError as error:
            self._problems["depth"] = f"live_depth is not used: {error}"
            return None
        self._problems["depth"] = ""
        return LiveDepth(image, self._info, T)

    def ranges(self, settings: AvoidSettings, frames: BodyFrames, placed: Placed) -> list[RangeMeasurement]:
        """The newest range, if it is fresh and where it was measured is known."""
        message = self._fresh("range", settings)
        if not isinstance(message, Range):
            return []
        try:
            T = frames.sensor_at(placed, message.header.frame_id, conversions.stamp_ns(message.header.stamp))
        except UserError as error:
            self._problems["range"] = f"range is not used: {error}"
            return []
        self._problems["range"] = ""
        return [RangeMeasurement(_by_rep117(message), message.field_of_view, message.max_range, T)]

    def refused(self, why: str) -> None:
        """The live image turned out to be of no use; empty: it is of use after all. From the worker."""
        self._problems["image"] = why and f"live_depth is not used: {why}"

    def forget(self) -> None:
        """Time jumped: what came before is of no use."""
        self._newest.clear()
        self._problems = dict.fromkeys(PROBLEMS, "")

    def _fresh(self, role: str, settings: AvoidSettings) -> Image | Range | None:
        if role not in self._newest:
            return None
        message = self._newest[role][1]
        return message if abs(self._age_s(message)) <= settings.live_timeout_s else None

    def _age_s(self, message: Image | Range) -> float:
        return (self._now_ns() - conversions.stamp_ns(message.header.stamp)) / 1e9

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _take(self, message: Image | Range, role: str) -> None:
        self._newest[role] = (self._now_ns(), message)

    def _take_info(self, message: CameraInfo) -> None:
        self._info = message


def _by_rep117(message: Range) -> float:
    """The range in metres; outside the sensor's limits it is +inf or -inf, as REP-117 has it."""
    if message.range > message.max_range:
        return float("inf")
    return float("-inf") if message.range < message.min_range else float(message.range)


# How fast the body moves, from nav_msgs/Odometry, whose twist is in child_frame_id.


class Motion:
    """The newest velocity on the topic `odometry`; all methods belong to the executor's thread. problem: why there is
    none.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._subscription: Subscription | None = None
        self._newest: Odometry | None = None
        self.problem = ""

    def start(self) -> None:
        """Subscribe."""
        self._subscription = subscribe(self._node, Odometry, "odometry", self._take)

    def stop(self) -> None:
        """Unsubscribe, and forget."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = self._newest = None

    def velocity(self, frames: BodyFrames, placed: Placed, max_age_s: float) -> Float64 | None:
        """Velocity (3,) in m/s in the level frame about the time of `placed`; None: not known, `problem` says why."""
        if self._newest is None:
            self.problem = "no odometry: time to collision and the room ahead are unknown"
            return None
        off_s = (placed.stamp_ns - conversions.stamp_ns(self._newest.header.stamp)) / 1e9
        if abs(off_s) > max_age_s:
            self.problem = (
                f"the newest odometry is {abs(off_s):.2f} s {'older' if off_s > 0 else 'newer'} than the depth"
            )
            return None
        linear = self._newest.twist.twist.linear
        velocity = np.array([linear.x, linear.y, linear.z])
        if not np.isfinite(velocity).all():
            self.problem = "the odometry's velocity is NaN or infinite"
            return None
        try:
            R = frames.turn_to_level(placed, self._newest.child_frame_id)
        except UserError as error:
            self.problem = f"the odometry cannot be used: {error}"
            return None
        self.problem = ""
        moved: Float64 = R @ velocity
        return moved

    def _take(self, message: Odometry) -> None:
        self._newest = message


# Whether the map flown in has the origin that the model was trained with.


SIGMAS = 2.0  # of a GPS' error in space: 99 % of the origins found from it are nearer


class DatumCheck:
    """Compares the datum of the model with that of the parameter map_datum, or of the topic `map_origin`.

    A datum that was found from GPS is as uncertain as GPS: a distance that this explains is no other map.

    A NavSatFix there is the origin of the map, sent once and kept for later subscribers. Where either side has no
    datum nothing can be compared, and nothing is refused.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._model: Datum | None = None
        self._received: Datum | None = None
        self._subscription: Subscription | None = None
        self._logged = ""

    def load(self, settings: AvoidSettings) -> None:
        """Read the model's datum. UserError when the model or map_datum cannot be read."""
        settings.datum()
        self._model = None
        if settings.model:
            from pose2rgbd_ros.training.checkpoint import load_checkpoint  # brings torch along

            self._model = load_checkpoint(Path(settings.model).expanduser()).datum
        if self._model is None and (settings.model or settings.map_datum.strip()):
            lacks = f"the model {settings.model} has no datum" if settings.model else "map_datum needs model too"
            self._node.get_logger().warning(f"{lacks}: whether the map is that of the model is not compared")

    def start(self) -> None:
        """Subscribe."""
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscription = self._node.create_subscription(NavSatFix, "map_origin", self._take, qos)

    def stop(self) -> None:
        """Unsubscribe, and forget what was received."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = self._received = None

    def refusal(self, settings: AvoidSettings) -> str:
        """Why the map is not that of the model; empty: it is, or nothing is known against it."""
        for where, datum in (("map_datum", settings.datum()), ("map_origin", self._received)):
            if datum is None or self._model is None:
                continue
            offset = wgs84_to_enu(datum.latitude_deg, datum.longitude_deg, datum.altitude_m, self._model)
            offset_m = float(np.linalg.norm(offset))
            sigma_m = float(np.hypot(datum.sigma_m or 0.0, self._model.sigma_m or 0.0))
            by_gps = f", which GPS knows to {sigma_m:.1f} m" if sigma_m else ""
            if offset_m > settings.max_datum_offset_m + SIGMAS * sigma_m:
                return (
                    f"the origin of {settings.map_frame} ({where}: {datum}) is {offset_m:.1f} m from the datum of the "
                    f"model ({self._model}){by_gps}: its obstacles would be elsewhere; use the model's datum, or one "
                    "trained here; max_datum_offset_m allows more"
                )
            self._log(f"the origin of {settings.map_frame} is {offset_m:.1f} m from the model's datum{by_gps}")
        return ""

    def _log(self, line: str) -> None:
        if line != self._logged:
            self._node.get_logger().info(line)
        self._logged = line

    def _take(self, message: NavSatFix) -> None:
        altitude_m = message.altitude if np.isfinite(message.altitude) else None
        if altitude_m is None and self._model is not None:
            altitude_m = self._model.altitude_m  # an origin without altitude is compared in the plane
        try:
            self._received = Datum(message.latitude, message.longitude, altitude_m or 0.0, _sigma_m(message))
        except UserError as error:
            self._node.get_logger().warning(f"map_origin is not used: {error}")


def _sigma_m(message: NavSatFix) -> float | None:
    """The standard deviation in space that a fix has by its own account, None where it says nothing."""
    variance_m2 = float(np.trace(np.reshape(message.position_covariance, (3, 3))))
    known = message.position_covariance_type != NavSatFix.COVARIANCE_TYPE_UNKNOWN
    return float(np.sqrt(variance_m2)) if known and np.isfinite(variance_m2) and variance_m2 > 0 else None
