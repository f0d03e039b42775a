"""The monitor node: rate, latency and delivery of the rendered images, and their errors against recorded ones."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pose2rgbd.msg import RenderStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float32, UInt8
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.geometry.depth import depth_topic, resize_depth
from pose2rgbd_ros.nodes.common import conversions, parameters
from pose2rgbd_ros.nodes.common.conversions import DEPTH_MESSAGES
from pose2rgbd_ros.nodes.common.topics import Candidate, TopicHealth, subscribe
from pose2rgbd_ros.settings import setting, write_yaml

# What a monitor counts: rate, latency, delivery, and errors against recorded images. Numpy only.


@dataclass
class Figures:
    """Counters of one run; all stamps in nanoseconds."""

    received: dict[int, float] = field(default_factory=dict)  # stamp of a rendered image -> latency in s
    received_depth: set[int] = field(default_factory=set)  # stamps of rendered depth images
    states: Counter[str] = field(default_factory=Counter)
    first_status: tuple[int, int] | None = None  # (stamp, frames rendered by then)
    last_status: tuple[int, int] | None = None
    rgb_mae_px: list[float] = field(default_factory=list)
    depth_mae: list[float] = field(default_factory=list)
    pair_offset_s: list[float] = field(default_factory=list)

    def status(self, stamp_ns: int, frames_rendered: int, state: str) -> None:
        """Take down the status that follows a rendered image."""
        self.states[state] += 1
        if self.first_status is None or frames_rendered < self.first_status[1]:  # also: the node was restarted
            self.first_status = (stamp_ns, frames_rendered)
        self.last_status = (stamp_ns, frames_rendered)

    def rate_hz(self) -> float:
        """Images per second between the first and the last, by their stamps."""
        return (len(self.received) - 1) / self.duration_s() if len(self.received) > 1 else 0.0

    def duration_s(self) -> float:
        """Time between the stamps of the first and the last image."""
        return (max(self.received) - min(self.received)) / 1e9 if self.received else 0.0

    def latency_ms(self, percentile: float) -> float:
        """Percentile of the time from TF stamp to receipt; NaN without images."""
        values = list(self.received.values())
        return float(np.percentile(values, percentile) * 1e3) if values else float("nan")

    def published(self) -> int:
        """How many images the node says it published between the first and the last status."""
        if self.first_status is None or self.last_status is None:
            return 0
        return self.last_status[1] - self.first_status[1]

    def delivered(self, stamps_ns: Iterable[int]) -> int:
        """How many of these stamps of received images lie between the first and the last status."""
        if self.first_status is None or self.last_status is None:
            return 0
        return sum(self.first_status[0] < stamp_ns <= self.last_status[0] for stamp_ns in stamps_ns)

    def summary(self) -> dict[str, Any]:
        """Everything, rounded, ready for YAML; absent figures are left out."""
        published, delivered = self.published(), self.delivered(self.received)
        depth_delivered = self.delivered(self.received_depth)
        values: dict[str, Any] = {
            "images": len(self.received),
            "duration_s": self.duration_s(),
            "rate_hz": self.rate_hz(),
            "latency_p50_ms": self.latency_ms(50),
            "latency_p95_ms": self.latency_ms(95),
            "latency_max_ms": self.latency_ms(100),
            "published": published,
            "delivered": delivered,
            "delivered_percent": 100 * delivered / published if published else float("nan"),
            "depth_delivered_percent": (
                100 * depth_delivered / published if published and self.received_depth else float("nan")
            ),
            "compared": len(self.pair_offset_s),
            "rgb_mae_px": _mean(self.rgb_mae_px),
            "depth_mae": _mean(self.depth_mae),
            "states": dict(self.states),
        }
        rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in values.items()}
        return {key: value for key, value in rounded.items() if value == value}  # without NaN


class Reframe:
    """Brings recorded images into the rendered camera, so that they can be compared pixel by pixel."""

    def __init__(self, source: Camera | None, target: Camera) -> None:
        self._target = target
        squeezed = source.resized(target.width, target.height) if source else None
        calibrated = source is not None and source.is_calibrated and target.is_calibrated
        self._map = None
        if calibrated and not _alike(squeezed, target):
            self._map = resample_map(source, target)  # type: ignore[arg-type]

    def rgb(self, image: UInt8) -> UInt8:
        """Colour uint8 (h, w, 3) as the target sees it; black where the source saw nothing."""
        if self._map is not None:
            return resample(image, self._map, nearest=False, fill=0)
        return np.asarray(cv2.resize(image, (self._target.width, self._target.height), interpolation=cv2.INTER_AREA))

    def depth(self, depth: Float32) -> Float32:
        """Depth (h, w) as the target sees it, never blended; NaN where unknown."""
        if self._map is not None:
            return resample(depth, self._map, nearest=True, fill=np.nan)
        return resize_depth(depth, self._target.width, self._target.height)


def rgb_mae_px(first: UInt8, second: UInt8) -> float:
    """Mean absolute difference in levels of 0..255."""
    return float(cv2.absdiff(first, second).mean())


def depth_mae(first: Float32, second: Float32) -> float:
    """Mean absolute difference where both are known, in their unit; NaN where they never are."""
    difference = np.abs(first - second)
    known = np.isfinite(difference)
    return float(difference[known].mean()) if known.any() else float("nan")


def _alike(first: Camera | None, second: Camera) -> bool:
    if first is None or first.distortion != second.distortion:
        return False
    ours, theirs = (np.array([camera.fx, camera.fy, camera.cx, camera.cy]) for camera in (first, second))
    return bool(np.all(np.abs(ours - theirs) < 0.5))


def _mean(values: list[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")


KEPT_IMAGES = 40
COMPARE_EVERY_S = 0.5  # a comparison costs milliseconds that the nodes under observation need
DRAIN_S = 0.5
MAX_SAMPLES = 10
STATES = {
    getattr(RenderStatus, name): name
    for name in (
        "OK",
        "WAITING_FOR_TF",
        "STALE_TF",
        "OUTSIDE_VOLUME",
        "TIME_JUMP",
        "NO_SUBSCRIBERS",
        "ERROR",
        "WAITING_FOR_CAMERA",
    )
}


@dataclass
class MonitorSettings:
    """Parameters of the monitor node."""

    duration_s: float = setting(
        10.0, "how long to measure, from the first image on; 0: until interrupted", ge=0.0, le=1e6, read_only=True
    )
    timeout_s: float = setting(30.0, "give up when no image came by then", ge=1.0, le=3600.0, read_only=True)
    summary: str = setting("", "YAML file to write at the end; empty: none", read_only=True)
    samples: str = setting("", "folder for the compared images as .npz, at most ten; empty: none", read_only=True)
    tolerance_s: float = setting(
        0.02, "largest time between a rendered and a recorded image that are compared", ge=0.0, le=10.0, read_only=True
    )
    min_rate_hz: float = setting(0.0, "a lower rate ends with exit status 1", ge=0.0, le=1000.0, read_only=True)


class MonitorNode(Node):
    """Measures, then sets `exit_status`: 0, or 1 when no image came or they came too slowly."""

    def __init__(self, settings: MonitorSettings | None = None, **options: Any) -> None:
        super().__init__("monitor", **options)
        self.exit_status: int | None = None
        self.settings = parameters.declare(self, settings or MonitorSettings())
        self.figures = Figures()
        self._started = time.monotonic()
        self._first_image: float | None = None
        self._images: dict[str, OrderedDict[int, Image]] = {}
        self._cameras: dict[str, Camera] = {}
        self._reframe: tuple[dict[str, Camera], Reframe] | None = None  # and the cameras it is for
        self._compared: set[int] = set()
        self._samples: dict[int, dict[str, np.ndarray]] = {}  # written at the end, when nothing is measured any more
        self._model = ""
        self._subscribe()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(COMPARE_EVERY_S, self._compare, clock=steady)
        self.create_timer(2.0, self._tell, clock=steady)
        self.create_timer(0.1, self._end_when_over, clock=steady)

    def destroy_node(self) -> None:
        """Leave the summary, also when interrupted."""
        if self.exit_status is None:
            self._finish()
        super().destroy_node()

    def _subscribe(self) -> None:
        reliable = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
        subscribe(self, Image, "render/rgb/image", self._on_rendered("rendered_rgb"), reliable)
        subscribe(self, Image, "play/rgb/image", self._keep("recorded_rgb"))
        for kind, message in DEPTH_MESSAGES.items():
            topic = depth_topic(kind)
            subscribe(self, message, f"render/{topic}", self._on_rendered("rendered_depth"), reliable)
            subscribe(self, message, f"play/{topic}", self._keep("recorded_depth"))
        for owner, base in (("render", "rgb"), ("render", "depth"), ("render", "depth_relative"), ("play", "rgb")):
            subscribe(self, CameraInfo, f"{owner}/{base}/camera_info", self._on_info(owner))
        subscribe(self, RenderStatus, "render/status", self._on_status, reliable)
        rendered = [Candidate("render/rgb/image", Image)]
        rendered += [Candidate(f"render/{depth_topic(kind)}", type_) for kind, type_ in DEPTH_MESSAGES.items()]
        self._rendered = TopicHealth(self, *rendered, qos=reliable, remedy="remap it to that of the render node")

    def _on_rendered(self, name: str) -> Callable[[Image], None]:
        keep = self._keep(name)

        def receive(message: Image) -> None:
            now_ns, stamp_ns = self.get_clock().now().nanoseconds, conversions.stamp_ns(message.header.stamp)
            if self._first_image is None:
                self._first_image = time.monotonic()
            if name == "rendered_depth":
                self.figures.received_depth.add(stamp_ns)
            # Colour is what is counted; depth where the model has no colour.
            if name == "rendered_rgb" or "rendered_rgb" not in self._images:
                self.figures.received.setdefault(stamp_ns, (now_ns - stamp_ns) / 1e9)
            keep(message)

        return receive

    def _keep(self, name: str) -> Callable[[Image], None]:
        def receive(message: Image) -> None:
            kept = self._images.setdefault(name, OrderedDict())
            kept[conversions.stamp_ns(message.header.stamp)] = getattr(message, "image", message)  # relative depth
            while len(kept) > KEPT_IMAGES:
                kept.popitem(last=False)

        return receive

    def _on_info(self, owner: str) -> Callable[[CameraInfo], None]:
        def receive(message: CameraInfo) -> None:
            if owner not in self._cameras:
                try:
                    self._cameras[owner] = conversions.camera_from_info(message)
                except UserError as error:
                    self.get_logger().warning(f"camera_info of {owner}: {error}", once=True)

        return receive

    def _on_status(self, message: RenderStatus) -> None:
        self._model = message.model
        stamp_ns = conversions.stamp_ns(message.header.stamp)
        self.figures.status(stamp_ns, message.frames_rendered, STATES.get(message.state, str(message.state)))

    def _compare(self) -> None:
        """Compare the newest rendered images that have a recorded partner."""
        pair = self._newest_pair()
        if pair is None:
            return
        rendered_ns, recorded_ns = pair
        try:
            images = self._reframed(rendered_ns, recorded_ns)
        except UserError as error:
            self.get_logger().warning(f"images cannot be compared: {error}", throttle_duration_sec=5.0)
            return
        self._compared.add(rendered_ns)
        self.figures.pair_offset_s.append((rendered_ns - recorded_ns) / 1e9)
        if "rendered_rgb" in images and "recorded_rgb" in images:
            self.figures.rgb_mae_px.append(rgb_mae_px(images["rendered_rgb"], images["recorded_rgb"]))
        if "rendered_depth" in images and "recorded_depth" in images:
            self.figures.depth_mae.append(depth_mae(images["rendered_depth"], images["recorded_depth"]))
        # Spread over the measurement; the stamps of a looped recording jump back, hence the absolute value.
        due = abs(rendered_ns - max(self._samples, default=0)) >= self.settings.duration_s * 1e9 / MAX_SAMPLES
        if self.settings.samples and due and len(self._samples) < MAX_SAMPLES:
            self._samples[rendered_ns] = images

    def _newest_pair(self) -> tuple[int, int] | None:
        """Stamps of a rendered image not compared yet and the nearest recorded one within the tolerance."""
        rendered = self._stamps("rendered_rgb") or self._stamps("rendered_depth")
        recorded = np.array(self._stamps("recorded_rgb") or self._stamps("recorded_depth"))
        if len(recorded) == 0 or "render" not in self._cameras:
            return None
        best: tuple[int, int] | None = None
        for stamp_ns in reversed(rendered):
            if stamp_ns in self._compared:
                break
            nearest = int(recorded[np.abs(recorded - stamp_ns).argmin()])
            if abs(nearest - stamp_ns) > self.settings.tolerance_s * 1e9:
                continue
            if best is None or abs(nearest - stamp_ns) < abs(best[0] - best[1]):
                best = (stamp_ns, nearest)
        return best

    def _stamps(self, name: str) -> list[int]:
        return list(self._images[name]) if name in self._images else []

    def _reframed(self, rendered_ns: int, recorded_ns: int) -> dict[str, np.ndarray]:
        """The images of a pair, the recorded ones as the rendered camera sees them."""
        if self._reframe is None or self._reframe[0] != self._cameras:
            reframe = Reframe(self._cameras.get("play"), self._cameras["render"])
            self._reframe = dict(self._cameras), reframe
        reframe = self._reframe[1]
        images: dict[str, np.ndarray] = {}
        for name, kept in self._images.items():
            message = kept.get(rendered_ns if name.startswith("rendered") else recorded_ns)
            if message is None:
                continue
            recorded = name.startswith("recorded")
            if name.endswith("rgb"):
                rgb = conversions.rgb_of(message)
                images[name] = reframe.rgb(rgb) if recorded else rgb
            else:
                depth = conversions.depth_of(message)
                images[name] = reframe.depth(depth) if recorded else depth
        return images

    def _tell(self) -> None:
        if not self.figures.received:
            self._rendered.choose()
            self.get_logger().info(f"no rendered image yet: {self._rendered.problem()}")
            return
        published, delivered = self.figures.published(), self.figures.delivered(self.figures.received)
        summary = self.figures.summary()
        errors = "".join(
            f", {text} {summary[key]:.2f}{unit}"
            for key, text, unit in (("rgb_mae_px", "RGB error", " of 255"), ("depth_mae", "depth error", ""))
            if key in summary
        )
        self.get_logger().info(
            f"{self.figures.rate_hz():.1f} Hz, latency p50 {self.figures.latency_ms(50):.0f} ms "
            f"p95 {self.figures.latency_ms(95):.0f} ms, delivered {delivered} of {published}{errors}"
        )

    def _end_when_over(self) -> None:
        now, settings = time.monotonic(), self.settings
        if self.exit_status is not None:
            return
        if self._first_image is None:
            if now - self._started > settings.timeout_s:
                self._finish()
        elif settings.duration_s and now - self._first_image > settings.duration_s + DRAIN_S:
            self._finish()

    def _finish(self) -> None:
        summary = {"model": self._model, **self.figures.summary()}
        if self.settings.summary:
            path = Path(self.settings.summary).expanduser()
            path.parent.mkdir(parents=True, exist_ok=True)
            write_yaml(path, summary)
        if self._samples:
            folder = Path(self.settings.samples).expanduser()
            folder.mkdir(parents=True, exist_ok=True)
            for stamp_ns, images in self._samples.items():
                np.savez_compressed(folder / f"{stamp_ns}.npz", **images)  # type: ignore[arg-type]
        if not self.figures.received:
            within_s, why = time.monotonic() - self._started, self._rendered.problem()
            self.get_logger().error(f"no rendered image came within {within_s:.0f} s: {why}")
        elif self.figures.rate_hz() < self.settings.min_rate_hz:
            self.get_logger().error(f"{self.figures.rate_hz():.1f} Hz is below {self.settings.min_rate_hz:g} Hz")
        else:
            self._tell()
            self.exit_status = 0
            return
        self.exit_status = 1
