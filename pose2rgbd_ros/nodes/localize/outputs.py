"""What the localize node publishes: poses (PX4's VehicleOdometry too, with px4_msgs), change images, figures."""

from __future__ import annotations

import math
import threading
from typing import Any

import cv2
import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from pose2rgbd.msg import LocalizationStatus
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from tf_transformations import euler_from_matrix, euler_matrix

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import geodesy, quaternions
from pose2rgbd_ros.geometry.arrays import Bool, Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.change import compare
from pose2rgbd_ros.localization.estimate import Estimate
from pose2rgbd_ros.models.backends import RenderedImages
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.common.conversions import to_stamp
from pose2rgbd_ros.nodes.common.status import NodeState, Rate, one_line
from pose2rgbd_ros.nodes.common.topics import advertise
from pose2rgbd_ros.nodes.common.worker import LatestWorker
from pose2rgbd_ros.nodes.localize.pipeline import Located
from pose2rgbd_ros.nodes.localize.settings import LocalizeSettings
from pose2rgbd_ros.rendering.renderer import Renderer

try:
    from px4_msgs.msg import VehicleOdometry
except ImportError:  # PX4's messages are no part of ROS
    VehicleOdometry = None


class PoseOutputs:
    """Publishers; belongs to the executor's thread. `of_body`: poses are those of a body, as PX4 wants them."""

    def __init__(self, node: Node, of_body: bool) -> None:
        self._node = node
        self._pose = advertise(node, PoseWithCovarianceStamped, "~/pose", depth=10)
        self._px4: Publisher | None = None
        if VehicleOdometry is not None and of_body:
            # Best effort, as the agent of uXRCE-DDS subscribes; a newer one is worth more than one sent again.
            self._px4 = advertise(
                node, VehicleOdometry, "~/vehicle_visual_odometry", ReliabilityPolicy.BEST_EFFORT, depth=10
            )

    def publish(self, T: Float64, covariance: Float64 | None, stamp_ns: int, map_frame: str, px4_frame: str) -> None:
        """A pose (4, 4) in the map and its covariance (6, 6) as in localization.estimate.Estimate."""
        self._pose.publish(pose_message(T, covariance, stamp_ns, map_frame))
        if self._px4 is not None and self._px4.get_subscription_count() > 0:
            now_ns = self._node.get_clock().now().nanoseconds
            self._px4.publish(px4_message(T, covariance, stamp_ns, now_ns, px4_frame))

    def destroy(self) -> None:
        """Remove the topics."""
        for publisher in (self._pose, self._px4):
            if publisher is not None:
                self._node.destroy_publisher(publisher)
        self._px4 = None


def pose_message(T: Float64, covariance: Float64 | None, stamp_ns: int, frame_id: str) -> PoseWithCovarianceStamped:
    """The message of a pose; a covariance that is not known is all zero, as consumers of this message take it."""
    message = PoseWithCovarianceStamped()
    message.header.stamp, message.header.frame_id = conversions.to_stamp(stamp_ns), frame_id
    message.pose.pose = conversions.to_pose(T)
    if covariance is not None:
        message.pose.covariance = np.ascontiguousarray(covariance, np.float64).ravel()
    return message


def px4_message(T_map_body: Float64, covariance: Float64 | None, stamp_ns: int, now_ns: int, frame: str) -> Any:
    """VehicleOdometry of a body with axes forward, left, up, in microseconds of this computer's clock.

    frame "ned": map is east, north, up, and becomes north, east, down. frame "frd": map's heading is arbitrary, and its
    axes become forward, right, down. The variances are along these axes, and about the level body's: roll, pitch, yaw.
    """
    quat = quaternions.from_matrix(T_map_body[:3, :3])
    if frame == "ned":
        position, quat = geodesy.ned_to_enu(T_map_body[:3, 3]), geodesy.quat_ned_frd_to_enu_flu(quat)
    else:
        position, quat = geodesy.frd_to_flu(T_map_body[:3, 3]), geodesy.quat_frd_to_flu(quat)
    unknown = [math.nan] * 3
    message = VehicleOdometry(
        timestamp=now_ns // 1000,
        timestamp_sample=stamp_ns // 1000,
        pose_frame=VehicleOdometry.POSE_FRAME_NED if frame == "ned" else VehicleOdometry.POSE_FRAME_FRD,
        position=np.asarray(position, np.float32),
        q=np.asarray(quat[[3, 0, 1, 2]], np.float32),
        velocity_frame=VehicleOdometry.VELOCITY_FRAME_UNKNOWN,
        velocity=np.asarray(unknown, np.float32),
        angular_velocity=np.asarray(unknown, np.float32),
        position_variance=np.asarray(unknown, np.float32),
        orientation_variance=np.asarray(unknown, np.float32),
        velocity_variance=np.asarray(unknown, np.float32),
    )
    if covariance is not None:
        along = np.diag(covariance)[:3]
        _, _, yaw_rad = euler_from_matrix(T_map_body)
        R_level_map = euler_matrix(0.0, 0.0, -yaw_rad)[:3, :3]
        about = np.diag(R_level_map @ covariance[3:, 3:] @ R_level_map.T)
        message.position_variance = np.asarray(along[[1, 0, 2]] if frame == "ned" else along, np.float32)
        message.orientation_variance = np.asarray(about, np.float32)
    return message


# Camera against memory as topics: change image, mask of movers, and the view without movers; made only while
# subscribed.


LARGEST_WIDTH = 640  # unless asked for: larger ones take long
IMAGES = {"change/image": "rgb8", "change/mask": "mono8", "reference/image": "rgb8"}
INFOS = {"change": "change/camera_info", "reference": "reference/camera_info"}


class ChangeTopics:
    """Publishers, and a thread of their own: poses do not wait for pictures. `offer` belongs to the executor's thread.

    Whoever renders with the same renderer holds `rendering`. problem: what the last comparison stumbled over.
    """

    def __init__(self, node: Node, renderer: Renderer, rendering: threading.Lock) -> None:
        self._node, self._renderer, self._rendering = node, renderer, rendering
        self._publishers = {topic: advertise(node, Image, f"~/{topic}") for topic in IMAGES}
        self._publishers |= {topic: advertise(node, CameraInfo, f"~/{topic}") for topic in INFOS.values()}
        self._buffers: dict[str, conversions.ImageBuffer] = {}
        self._worker: LatestWorker[tuple[Located, LocalizeSettings]] = LatestWorker(self._compare, self._on_error)
        self.problem = ""

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return any(self._listens(topic) for topic in IMAGES)

    def offer(self, located: Located, settings: LocalizeSettings) -> None:
        """Compare the image of a pose next, unless a newer one comes before its turn."""
        self._worker.offer((located, settings))

    def destroy(self) -> None:
        """Remove the topics."""
        self._worker.stop()
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers = {}

    def _compare(self, job: tuple[Located, LocalizeSettings]) -> None:
        """In the worker: render, compare, publish."""
        located, settings = job
        T_map_cam, rgb, own = located.estimate.T_map_cam, located.rgb, located.camera
        assert T_map_cam is not None
        assert rgb is not None
        assert own is not None
        camera = _published_camera(own, settings.change_width)
        size = camera.width, camera.height
        if size != (own.width, own.height):
            rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        with self._rendering:
            rendered = self._renderer.render_for_camera(T_map_cam, camera)
            trust = self._renderer.guard_score(T_map_cam)
        if not trust.inside:
            raise UserError(f"no change image, memory does not reach there: {trust.reason}")
        assert rendered.rgb is not None
        found = compare(rgb, rendered.rgb[0], _known(rendered), settings.change)
        pictures: dict[str, UInt8] = {"reference/image": found.reference}
        if self._listens("change/image"):
            pictures["change/image"] = found.picture(rgb)
        if self._listens("change/mask"):
            pictures["change/mask"] = found.mask.astype(np.uint8) * np.uint8(255)
        for topic, picture in pictures.items():
            self._publish_image(topic, picture, located)
        info = conversions.camera_to_info(camera)
        info.header.stamp, info.header.frame_id = conversions.to_stamp(located.stamp_ns), located.frame_id
        for topic in INFOS.values():
            if self._listens(topic):
                self._publishers[topic].publish(info)
        self.problem = ""

    def _publish_image(self, topic: str, pixels: UInt8, located: Located) -> None:
        if not self._listens(topic):
            return
        buffer = self._buffers.get(topic)
        if buffer is None or buffer.pixels.shape != pixels.shape:
            buffer = conversions.ImageBuffer(pixels.shape[1], pixels.shape[0], IMAGES[topic])
            self._buffers[topic] = buffer
        self._publishers[topic].publish(buffer.fill(pixels, located.stamp_ns, located.frame_id))

    def _listens(self, topic: str) -> bool:
        return bool(self._publishers[topic].get_subscription_count())

    def _on_error(self, error: Exception) -> None:
        if self._node.context.ok():  # publishing fails when the process is on its way out
            self.problem = one_line(error, "no change image")


def _published_camera(camera: Camera, width: int) -> Camera:
    width = width or min(camera.width, LARGEST_WIDTH)
    return (
        camera if width == camera.width else camera.resized(width, max(1, round(camera.height * width / camera.width)))
    )


def _known(rendered: RenderedImages) -> Bool | None:
    """Where the rendering shows the place, as far as the model says so."""
    assert rendered.rgb is not None
    shown: Bool = rendered.rgb[0].any(axis=-1)
    if rendered.depth is not None:
        shown = shown & np.isfinite(rendered.depth[0])
    return shown


# What the localize node says about itself: the figures of LocalizationStatus and of /diagnostics.


class Stats:
    """Figures of the last images; all methods belong to the executor's thread."""

    def __init__(self, model: str = "") -> None:
        self.model = model
        self.located = self.rejected = self.skipped = 0
        self.without_transform = 0  # poses given up, for it was not known where the body is
        self.last: Located | None = None
        self.latency_s = math.nan
        self._answered, self._published = Rate(), Rate()

    def answered(self, located: Located, latency_s: float, published: bool) -> None:
        """Take down what was found for an image, how long after its stamp, and whether its pose was published."""
        self.located += published
        self.rejected += not located.estimate.accepted
        self.last, self.latency_s = located, latency_s
        self._answered.count()
        if published:
            self._published.count()

    @property
    def silent_for_s(self) -> float:
        """Seconds since an image was looked at."""
        return self._answered.silent_for_s

    def message(self, state: NodeState, stamp_ns: int = 0, frame_id: str = "") -> LocalizationStatus:
        """The status, with the figures of the last image looked at."""
        last = self.last
        found = last.estimate if last is not None else Estimate(None)
        message = LocalizationStatus(
            state=state.state, message=state.message, model=self.model,
            score=found.score, limit=found.limit, verification=found.verification, refined=found.refined,
            position_sigma_m=found.position_sigma_m, rotation_sigma_deg=float(np.degrees(found.rotation_sigma_rad)),
            latency_s=self.latency_s, rate_hz=self._published.hz,
            regress_ms=last.regress_ms if last else math.nan, refine_ms=last.refine_ms if last else math.nan,
            images_located=self.located, images_rejected=self.rejected, images_skipped=self.skipped,
        )  # fmt: skip
        message.header.stamp, message.header.frame_id = to_stamp(stamp_ns), frame_id
        return message

    def values(self, message: LocalizationStatus, **more: Any) -> dict[str, Any]:
        """The figures for /diagnostics."""
        names = ("model", "rate_hz", "latency_s", "regress_ms", "refine_ms", "score", "limit", "verification",
                 "position_sigma_m", "rotation_sigma_deg", "images_located", "images_rejected",
                 "images_skipped")  # fmt: skip
        figures = {name: getattr(message, name) for name in names}
        return {**figures, "poses_without_transform": self.without_transform, **more}
