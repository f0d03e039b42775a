"""The images a render node publishes: one image and one camera_info topic each for colour, depth, its bounds and
confidence.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from pose2rgbd.msg import RenderStatus
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, CompressedImage

from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.depth import DepthKind, depth_topic
from pose2rgbd_ros.models.backends import RenderedImages
from pose2rgbd_ros.nodes.common.conversions import (
    DEPTH_MESSAGES,
    ImageBuffer,
    camera_to_info,
    compressed_depth,
    compressed_rgb,
    depth_message,
    to_stamp,
)
from pose2rgbd_ros.nodes.common.status import NodeState, Rate, stale
from pose2rgbd_ros.nodes.common.topics import advertise
from pose2rgbd_ros.rendering.trust import GuardAnswer

BOUNDS = ("depth_lower", "depth_upper")
COMPRESSED = "/compressed"  # after a kind: its image of the transport that compresses


@dataclass
class _Output:
    """The messages of one kind of image, of one camera."""

    buffer: ImageBuffer
    message: Any  # what is published: the buffer's image, or what holds it
    camera_info: CameraInfo


def topics(depth_kind: str | None) -> dict[str, str]:
    """Name of the image topic of each kind of output, relative to the node."""
    return {
        "rgb": "rgb/image",
        "depth": depth_topic(cast(DepthKind, depth_kind or "metric")),
        "confidence": "confidence/image",
        "depth_lower": "depth_lower/image",
        "depth_upper": "depth_upper/image",
    }


class Publishers:
    """Publishers and preallocated messages for the kinds of image the model gives.

    `canvas` holds the pixels of the messages themselves: what is rendered into it is published without a copy. Colour
    and metric depth have the topics of image_transport beside them, and are compressed if those have subscribers.
    `subscribed` may be called from any thread; the rest belongs to the thread that renders.
    """

    def __init__(
        self, node: Node, camera: Camera, kinds: list[str], depth_kind: str | None, jpeg_quality: int = 80
    ) -> None:
        self._node = node
        self._depth: DepthKind = cast(DepthKind, depth_kind or "metric")
        self.jpeg_quality = jpeg_quality
        self._compressed: dict[str, Publisher] = {}
        self._publishers: dict[str, tuple[Publisher, Publisher]] = {}
        for kind in kinds:
            topic, message = topics(depth_kind)[kind], DEPTH_MESSAGES[self._unit(kind)]
            info = topic.replace("/image", "/camera_info")
            self._publishers[kind] = (advertise(node, message, f"~/{topic}"), advertise(node, CameraInfo, f"~/{info}"))
            if kind != "confidence" and self._unit(kind) == "metric":
                transport = "compressed" if kind == "rgb" else "compressedDepth"
                self._compressed[kind + COMPRESSED] = advertise(node, CompressedImage, f"~/{topic}/{transport}")
        self.use(camera)

    def use(self, camera: Camera) -> None:
        """Go on with the images of this camera; the canvas is a new one, and empty."""
        self.camera = camera
        self._outputs = {}
        for kind in self._publishers:
            buffer = ImageBuffer(camera.width, camera.height, "rgb8" if kind == "rgb" else "32FC1")
            message = depth_message(buffer.message, self._unit(kind))
            self._outputs[kind] = _Output(buffer, message, camera_to_info(camera))
        pixels = {kind: output.buffer.pixels[None] for kind, output in self._outputs.items()}
        self.canvas = RenderedImages(**{kind: pixels.get(kind) for kind in topics(None)})

    def subscribed(self) -> frozenset[str]:
        """The kinds whose images have subscribers, and with COMPRESSED those whose compressed ones have."""
        images = {**{kind: image for kind, (image, _) in self._publishers.items()}, **self._compressed}
        return frozenset(kind for kind, image in images.items() if image.get_subscription_count() > 0)

    def publish(self, kinds: frozenset[str], stamp_ns: int, frame_id: str) -> None:
        """Publish the images of `kinds`, as `subscribed` has them, as they are on the canvas, and camera_info."""
        for kind, output in self._outputs.items():
            image, info = self._publishers[kind]
            for header in (output.buffer.message.header, output.camera_info.header):
                header.stamp, header.frame_id = to_stamp(stamp_ns), frame_id
            if kind in kinds:
                image.publish(output.message)
            if info.get_subscription_count() > 0:
                info.publish(output.camera_info)
        for kind in kinds & self._compressed.keys():  # after all raw ones, which do not wait for an encoder
            drawn = self._outputs[kind.removesuffix(COMPRESSED)].buffer.message
            small = compressed_rgb(drawn, self.jpeg_quality) if kind == "rgb" + COMPRESSED else compressed_depth(drawn)
            self._compressed[kind].publish(small)

    def destroy(self) -> None:
        """Remove the topics."""
        for publishers in self._publishers.values():
            for publisher in publishers:
                self._node.destroy_publisher(publisher)
        for publisher in self._compressed.values():
            self._node.destroy_publisher(publisher)
        self._publishers, self._compressed = {}, {}

    def _unit(self, kind: str) -> DepthKind:
        return self._depth if kind == "depth" else "metric"


def known_share(rendered: RenderedImages) -> float | None:
    """The share of the picture whose depth is known, or, of a model of colour, whose confidence is not 0.

    None of a model that says neither.
    """
    if rendered.depth is not None:
        return float(np.isfinite(rendered.depth).mean())
    return None if rendered.confidence is None else float((rendered.confidence > 0).mean())


# What a render node knows about itself, as RenderStatus messages and diagnostics.


LEAST_KNOWN = 0.05  # of a view; below it the model knows nothing worth showing


def of_pose(
    check: GuardAnswer, age_s: float, max_age_s: float, known: float | None = None, stamp_ns: int = 0
) -> NodeState:
    """The state as far as the pose at hand, of `stamp_ns`, its age and its picture decide it.

    known: share of the picture whose depth is known; None: not such a model; NaN: not rendered yet.
    """
    if why := stale("the newest transform", age_s, max_age_s):
        return NodeState(RenderStatus.STALE_TF, why, stamp_ns)
    if not check.inside:
        text = f"outside the trained volume, depth is unknown: {check.reason}"
        return NodeState(RenderStatus.OUTSIDE_VOLUME, text, stamp_ns)
    if known is not None and known < LEAST_KNOWN:
        text = (
            f"depth is known in {known:.0%} of the view: the camera looks at what was never seen, or is inside a solid"
        )
        return NodeState(RenderStatus.OUTSIDE_VOLUME, text, stamp_ns)
    return NodeState(RenderStatus.OK, "", stamp_ns)


class Report:
    """Figures of the rendering, written by the worker and read by the executor."""

    def __init__(
        self, model: str = "", backend: str = "", metric_depth: bool = False, guard_limit: float = math.nan
    ) -> None:
        self._lock = threading.Lock()
        self._model = {"model": model, "backend": backend, "metric_depth": metric_depth}
        self._rate = Rate()  # of images
        self._check = GuardAnswer(False, math.nan, guard_limit, "")  # no pose yet
        self._tf_age_s = self._render_ms = math.nan
        self._rendered = 0
        self.known: float | None = None  # share of the last picture with known depth
        self.skipped = 0  # poses overtaken by a newer one

    def pose(self, check: GuardAnswer, tf_age_s: float) -> None:
        """Take down the pose at hand."""
        with self._lock:
            self._check, self._tf_age_s = check, tf_age_s

    def published(self, is_new: bool, render_ms: float | None) -> None:
        """Take down that images went out: of a new stamp or not, rendered for it (`render_ms`) or not (None)."""
        with self._lock:
            if is_new:
                self._rendered += 1
                self._rate.count()
            self._render_ms = self._render_ms if render_ms is None else render_ms

    @property
    def silent_for_s(self) -> float:
        """Seconds since images went out."""
        return self._rate.silent_for_s

    def message(self, state: NodeState, frame_id: str, check: GuardAnswer | None = None) -> RenderStatus:
        """The status about the images of the state's stamp; `check` is that of the newest pose unless given."""
        with self._lock:
            check = check or self._check
            message = RenderStatus(
                state=state.state, message=state.message, **self._model, **_guarded(check),
                distance_to_training_m=check.distance_m, heading_to_training_deg=check.heading_deg,
                known=math.nan if self.known is None else self.known,
                tf_age_s=self._tf_age_s, render_ms=self._render_ms, rate_hz=self._rate.hz,
                frames_rendered=self._rendered, frames_skipped=self.skipped,
            )  # fmt: skip
        message.header.stamp, message.header.frame_id = to_stamp(state.stamp_ns), frame_id
        return message

    def values(self, message: RenderStatus, **more: Any) -> dict[str, Any]:
        """The figures for /diagnostics."""
        names = ("model", "backend", "metric_depth", "rate_hz", "render_ms", "tf_age_s", "inside_volume",
                 "distance_to_training_m", "heading_to_training_deg", "calibrated", "guard_score", "guard_limit",
                 "frames_rendered", "frames_skipped")  # fmt: skip
        figures = {**{name: getattr(message, name) for name in names}, **more}
        return figures if self.known is None else {**figures, "known_percent": round(100 * self.known, 1)}


def _guarded(check: GuardAnswer) -> dict[str, Any]:
    """What the status says of the guard. Uncalibrated, inside_volume is nearness, whether depth hangs on it or not."""
    return {
        "inside_volume": check.inside if check.is_calibrated else check.is_near,
        "calibrated": check.is_calibrated,
        "guard_score": check.score,
        "guard_limit": check.limit,
    }
