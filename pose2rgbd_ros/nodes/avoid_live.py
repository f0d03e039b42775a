"""Live sensors beside the prediction: a depth camera and a range finder, and whether they have fallen silent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, Image, Range

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.pixel_buffer import pixels
from pose2rgbd_ros.nodes import conversions
from pose2rgbd_ros.nodes.avoid_frames import BodyFrames, Placed
from pose2rgbd_ros.nodes.avoid_inputs import subscribe
from pose2rgbd_ros.nodes.avoid_settings import AvoidSettings
from pose2rgbd_ros.obstacles.fusion import live_lower
from pose2rgbd_ros.obstacles.sight import Sight, see
from pose2rgbd_ros.obstacles.surroundings import Reading


@dataclass(frozen=True, eq=False)
class LiveDepth:
    """A live depth image, and where it was taken from: T_body_cam (4, 4) in the frame of the scan."""

    image: Image
    info: CameraInfo
    T_body_cam: Float64

    def sight(self) -> Sight:
        """What it shows. UserError for an encoding or calibration that cannot be used."""
        return see(
            live_lower(_raw_depth(self.image)), conversions.camera_from_info(self.info), self.T_body_cam
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
        take_depth, take_range = (lambda message, role=role: self._take(role, message) for role in ROLES)
        self._subscriptions = [
            subscribe(self._node, Image, "live_depth", take_depth),
            subscribe(self._node, CameraInfo, "live_camera_info", self._take_info),
            subscribe(self._node, Range, "range", take_range),
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
                when = f"{late_s:.2f} s old" if late_s > 0 else f"{-late_s:.2f} s in the future"
                return (
                    f"{role} arrives with stamps {when}: the clocks differ or it is too late; "
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

    def readings(self, settings: AvoidSettings, frames: BodyFrames, placed: Placed) -> list[Reading]:
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
        return [Reading(_by_rep117(message), message.field_of_view, message.max_range, T)]

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

    def _take(self, role: str, message: Image | Range) -> None:
        self._newest[role] = (self._now_ns(), message)

    def _take_info(self, message: CameraInfo) -> None:
        self._info = message


ROLES = ("live_depth", "range")
PROBLEMS = ("depth", "image", "range")  # where the camera is, what its image holds, where the range finder is


def _by_rep117(message: Range) -> float:
    """The range in metres; outside the sensor's limits it is +inf or -inf, as REP-117 has it."""
    if message.range > message.max_range:
        return float("inf")
    return float("-inf") if message.range < message.min_range else float(message.range)


def _raw_depth(image: Image) -> np.ndarray:
    """Depth (H, W) float32 in metres, +-inf kept; millimetres of 0 are NaN. UserError for another encoding."""
    if image.encoding != "32FC1":
        return conversions.depth_of(image)
    data = np.frombuffer(image.data, np.uint8)
    return pixels(data, np.float32, image.height, image.width, 1, image.step, bool(image.is_bigendian))[
        ..., 0
    ]
