"""From an image to a pose, LiveImage to Located: the network, and the renderer that corrects it. For workers."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.estimate import Estimate
from pose2rgbd_ros.localization.localizer import Localizer
from pose2rgbd_ros.localization.predict import Query
from pose2rgbd_ros.localization.refine import Refiner
from pose2rgbd_ros.models.backends import default_threads
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.localize.settings import LocalizeSettings
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import checkpoint_directory, load_checkpoint


@dataclass(eq=False)
class LiveImage:
    """An image as it came, taken by `camera` (None: not known, and not needed) after `era` jumps of time; `prepare`
    adds what the network takes.
    """

    message: Image | CompressedImage
    camera: Camera | None
    era: int
    rgb: UInt8 | None = None  # (H, W, 3)
    query: Query | None = None
    problem: str = ""  # why it is no picture
    took_ms: float = 0.0

    @property
    def stamp_ns(self) -> int:
        """Of its header."""
        return conversions.stamp_ns(self.message.header.stamp)


@dataclass(frozen=True, eq=False)
class Located:
    """What was found for the image of `stamp_ns`, taken in `frame_id`, and in what time; `rgb` and `camera` are its
    own, as long as they are wanted.
    """

    estimate: Estimate
    stamp_ns: int
    frame_id: str
    era: int
    regress_ms: float = math.nan
    refine_ms: float = 0.0
    rgb: UInt8 | None = None
    camera: Camera | None = None


class LocalizationPipeline:
    """Loads what the settings name. UserError says in one line what is wrong with it.

    `renderer` draws the place from memory, None where nothing does; to render, hold `rendering`.
    """

    def __init__(self, settings: LocalizeSettings) -> None:
        if not settings.model:
            raise UserError("no model given; set the parameter model to a folder made by pose2rgbd train")
        model, threads = Path(settings.model).expanduser(), settings.threads or None
        # A network on all cores waits for the camera's and this node's own threads, and they for it.
        self.localizer = Localizer(model, settings.device, threads or default_threads())
        self.rendering = threading.Lock()
        self.renderer: Renderer | None = None
        self._refiner: Refiner | None = None
        if settings.renderer:
            path = Path(settings.renderer).expanduser()
            # Rough poses lie beyond those flown; whether a refined one is right the likeness decides, not the guard.
            self.renderer = Renderer(path, settings.device, threads=threads, guard=False)
            if self.renderer.map_frame != self.localizer.map_frame:
                raise UserError(
                    f"renderer {path} lives in frame {self.renderer.map_frame!r}, model {model} in "
                    f"{self.localizer.map_frame!r}; give two of the same place"
                )
            if settings.refine:
                self._refiner = Refiner(self.renderer, settings.refinement)
        elif draws(model):
            self.renderer = Renderer(model, settings.device, threads=threads, guard=False)
        self._warm_up()

    @property
    def refines(self) -> bool:
        """Whether poses are corrected by rendering."""
        return self._refiner is not None

    def _warm_up(self) -> None:
        """The slow first time, before there is an image that waits."""
        camera = self.localizer.camera
        noise = np.random.default_rng(0).integers(0, 256, (camera.height, camera.width, 3), np.uint8)
        self.localizer.find(noise, camera)
        if self.renderer is not None:
            self.renderer.render(self.renderer.guard.example_T_map_cam)

    def prepare(self, image: LiveImage) -> None:
        """Decode an image and bring it to the network's size; one thread may do so while another is in `locate`."""
        started = time.perf_counter()
        try:
            image.rgb = conversions.rgb_of(image.message)
        except UserError as error:
            image.problem = str(error)
            return
        image.camera = image.camera or Camera(image.rgb.shape[1], image.rgb.shape[0], 0.0, 0.0, 0.0, 0.0)
        image.query = self.localizer.prepare(image.rgb, image.camera)
        image.took_ms = (time.perf_counter() - started) * 1e3

    def locate(self, image: LiveImage) -> Located:
        """The pose of an image; what is wrong with the image is a rejected estimate."""
        if image.query is None and not image.problem:
            self.prepare(image)
        stamp_ns, frame_id, era = image.stamp_ns, str(image.message.header.frame_id), image.era
        if image.rgb is None or image.camera is None or image.query is None:
            return Located(Estimate(None, accepted=False, reason=image.problem), stamp_ns, frame_id, era)
        started = time.perf_counter()
        (estimate,) = self.localizer.answer([image.query])
        regress_ms, refine_ms = image.took_ms + (time.perf_counter() - started) * 1e3, 0.0
        # Refused for its looks alone, it may be right all the same: the rendering decides.
        if self._refiner is not None and estimate.T_map_cam is not None:
            started = time.perf_counter()
            with self.rendering:
                estimate = self._refiner.refine(image.rgb, image.camera, estimate)
            refine_ms = (time.perf_counter() - started) * 1e3
        return Located(estimate, stamp_ns, frame_id, era, regress_ms, refine_ms, image.rgb, image.camera)


def draws(model: Path) -> bool:
    """Whether a network that finds poses can also draw pictures."""
    return hasattr(load_checkpoint(checkpoint_directory(model)).network(), "pictures")
