"""Which camera a render node renders for: the trained one, that of parameters, or that of a CameraInfo topic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera, DistortionModel
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.common.topics import Candidate, TopicHealth
from pose2rgbd_ros.rendering.renderer import check_camera
from pose2rgbd_ros.settings import setting

LARGEST_SIDE = 8192


@dataclass
class CameraSettings:
    """The camera to render for, as far as it is not the trained one or that of `camera_info_topic`."""

    width: int = setting(
        0, "width of the images in pixels; 0: the camera's, or as the height says", ge=0, le=LARGEST_SIDE
    )
    height: int = setting(
        0, "height of the images in pixels; 0: the camera's, or as the width says", ge=0, le=LARGEST_SIDE
    )
    fx: float = setting(
        0.0, "focal length in pixels of an image of width x height; 0: not another camera", ge=0.0, le=1e6
    )
    fy: float = setting(0.0, "vertical focal length; 0: like fx", ge=0.0, le=1e6)
    cx: float = setting(0.0, "column of the principal point; 0: the middle", ge=-1e6, le=1e6)
    cy: float = setting(0.0, "row of the principal point; 0: the middle", ge=-1e6, le=1e6)
    distortion_model: DistortionModel = setting("none", "lens distortion, as in sensor_msgs/CameraInfo")
    distortion: str = setting("", "its coefficients, such as '-0.28 0.07 0.0002 0.00002 0'")

    def camera(self) -> Camera | None:
        """The camera these settings give in full; None when they give no focal length. UserError: not in full."""
        if self.fx == 0:
            if self.fy or self.cx or self.cy or self.distortion_model != "none" or self.distortion:
                raise UserError("camera.fx is 0, so camera.fy, cx, cy and distortion have no meaning; set camera.fx")
            return None
        if self.width == 0 or self.height == 0:
            raise UserError("camera.fx counts pixels of an image; set camera.width and camera.height too")
        return Camera(
            self.width,
            self.height,
            self.fx,
            self.fy or self.fx,
            self.cx or (self.width - 1) / 2,
            self.cy or (self.height - 1) / 2,
            self.distortion_model,
            self._coefficients(),
        )

    def resized(self, camera: Camera) -> Camera:
        """`camera` with images of this size; of one side alone, the other follows in proportion."""
        if self.width == 0 and self.height == 0:
            return camera
        width = self.width or round(camera.width * self.height / camera.height)
        height = self.height or round(camera.height * self.width / camera.width)
        return camera.resized(max(width, 1), max(height, 1))

    def _coefficients(self) -> tuple[float, ...]:
        try:
            return tuple(float(word) for word in self.distortion.replace(",", " ").split())
        except ValueError:
            raise UserError(f"camera.distortion is {self.distortion!r}; it holds numbers with spaces between") from None


class CameraChoice:
    """The camera to render for, and why there is none. All methods belong to the executor's thread.

    camera: None while there is none. problem: what is wrong with the one asked for. note: what to know of its pictures.
    """

    def __init__(self, node: Node, on_message: Callable[[], None]) -> None:
        """`on_message` is called after another calibration than the last arrived; it is to choose anew."""
        self._node, self._on_message = node, on_message
        self._health: TopicHealth | None = None
        self._topic = ""
        self._received: Camera | None = None
        self._refused = ""  # what is wrong with the newest calibration
        self.camera: Camera | None = None
        self.problem = self.note = ""

    def listen(self, topic: str) -> None:
        """Subscribe to this topic instead of the one before; empty: to none."""
        if topic == self._topic:
            return
        if self._health is not None:
            self._health.stop()
        self._topic, self._received, self._refused, self._health = topic, None, "", None
        if topic:
            self._health = TopicHealth(self._node, Candidate(topic, CameraInfo))
            self._health.listen(self._receive)

    def choose(self, settings: CameraSettings, trained: Camera, any_camera: bool) -> bool:
        """Choose for a model; returns whether the camera is another than before."""
        before, self.camera, self.problem, self.note = self.camera, None, "", ""
        try:
            if self._refused:
                raise UserError(f"{self._topic}: {self._refused}")
            if self._received is not None or not self._topic:
                camera = choose_camera(settings, trained, self._topic, self._received)
                self.note = check_camera(camera, trained, any_camera)
                self.camera = camera
        except UserError as error:
            self.problem = str(error)
        return self.camera is not None and self.camera != before

    def judge(self, settings: CameraSettings, topic: str, trained: Camera, any_camera: bool) -> None:
        """UserError when these settings would leave the model without a camera that it can be rendered for."""
        received = self._received if topic == self._topic else None
        if received is not None or not topic:
            check_camera(choose_camera(settings, trained, topic, received), trained, any_camera)

    def what_is_missing(self) -> str:
        """Why there is no camera."""
        if self.problem:
            return self.problem
        return f"no calibration on camera_info_topic {self._health.problem() if self._health else ''}"

    def _receive(self, message: CameraInfo) -> None:
        assert self._health is not None
        self._health.saw()
        camera, refused = None, ""
        try:
            camera = conversions.camera_from_info(message)
            if not camera.is_calibrated:
                refused = "the camera is not calibrated (K[0] = 0); calibrate it, or leave camera_info_topic empty"
        except UserError as error:
            refused = str(error)
        if (camera, refused) != (self._received, self._refused):
            self._received, self._refused = camera, refused
            self._on_message()


def choose_camera(settings: CameraSettings, trained: Camera, topic: str, received: Camera | None) -> Camera:
    """What parameters, topic and model say together. UserError: they contradict each other, or make no sense."""
    given = settings.camera()
    if given is not None and topic:
        raise UserError(f"camera.fx and camera_info_topic {topic} both give a camera; leave one out")
    return given or settings.resized(received or trained)
