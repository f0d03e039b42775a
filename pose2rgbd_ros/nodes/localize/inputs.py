"""What the localize node listens to: the camera's images, raw or compressed, and its CameraInfo."""

from __future__ import annotations

from collections.abc import Callable

from message_filters import Cache
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.common.topics import Candidate, TopicHealth, transported

INFOS = 30  # CameraInfo messages that are kept to be found by an image's stamp
REMEDY = "remap {} to the camera's topic"


class ImageInputs:
    """Subscriptions to `image` (or `image/compressed`) and `camera_info`; all methods belong to the executor's thread.

    `on_image` gets each image and its camera (None: not known, and not needed), `on_jump` a line when stamps went back
    by more than a second. `needs_camera`: an image is of no use without its CameraInfo.
    """

    def __init__(
        self,
        node: Node,
        transport: str,
        needs_camera: bool,
        on_image: Callable[[Image | CompressedImage, Camera | None], None],
        on_jump: Callable[[str], None],
    ) -> None:
        self._needs_camera, self._on_image, self._on_jump = needs_camera, on_image, on_jump
        kinds = {
            "raw": Candidate("image", Image),
            "compressed": Candidate(transported(node, "image", "compressed"), CompressedImage),
        }
        wanted = list(kinds.values()) if transport == "auto" else [kinds[transport]]
        self.image = TopicHealth(node, *wanted, remedy=REMEDY.format("image"))
        self.info = TopicHealth(node, Candidate("camera_info", CameraInfo), remedy=REMEDY.format("camera_info"))
        self._infos = Cache(self.info.filter(self._arrived), INFOS)
        self._camera: Camera | None = None
        self._bad_camera = ""
        self.without_camera = 0  # images that could not be used for want of a CameraInfo
        self.look()

    def look(self) -> None:
        """Subscribe to the kind of image that is published, as soon as one is."""
        if self.image.subscription is None and self.image.choose():
            self.image.listen(self._take_image)

    def stop(self) -> None:
        """Unsubscribe."""
        self.image.stop()
        self.info.stop()

    def forget_stamps(self) -> None:
        """Time jumped: what comes next is not compared with what came before."""
        self.image.newest_ns = None

    @property
    def camera_problem(self) -> str:
        """Why images that arrive cannot be used; empty: they can."""
        if not (self._needs_camera and self._camera is None and self.image.arrived):
            return ""
        if self._bad_camera:
            return f"{self.info.topic}: {self._bad_camera}"
        return f"images arrive, but no CameraInfo: {self.info.problem()}"

    def _arrived(self, message: CameraInfo) -> None:
        self.info.saw()

    def _take_image(self, message: Image | CompressedImage) -> None:
        back = self.image.saw(conversions.stamp_ns(message.header.stamp))
        if back:
            self._on_jump(back)
        self._camera = self._camera_at(Time.from_msg(message.header.stamp))
        if self._needs_camera and self._camera is None:
            self.without_camera += 1
            return
        self._on_image(message, self._camera)

    def _camera_at(self, stamp: Time) -> Camera | None:
        """By the CameraInfo of the image's stamp, else by the last before it, else by the newest: some cameras send it
        once, or under stamps of its own.
        """
        newest = self._infos.getLastestTime()
        if newest is None:
            return None
        info = self._infos.getElemBeforeTime(stamp) or self._infos.getElemBeforeTime(newest)
        try:
            camera = conversions.camera_from_info(info)
            if self._needs_camera and not camera.is_calibrated:
                raise UserError("the camera is not calibrated (K[0] = 0); calibrate it")
        except UserError as error:
            self._bad_camera = str(error)
            return None
        self._bad_camera = ""
        return camera
