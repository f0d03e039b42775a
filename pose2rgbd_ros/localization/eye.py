"""From images of any camera to what the network reads in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.evidence import image_figures
from pose2rgbd_ros.localization.gate import blank
from pose2rgbd_ros.localization.memory import SIDE_PX
from pose2rgbd_ros.localization.query import Query, QueryView
from pose2rgbd_ros.localization.reading import Reader, Reading
from pose2rgbd_ros.models.pose_model import PoseModel
from pose2rgbd_ros.training.checkpoint import Checkpoint

_NOTHING = np.zeros((0, 0, 3), np.uint8)


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image as the trained camera would have seen it, ready to be read; with a reason, it cannot be. view: as in Seen."""

    query: Query
    view: UInt8
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Seen:
    """An image as read; without a reading, why not. view: (SIDE_PX, SIDE_PX, 3), what the trained camera sees of it."""

    reading: Reading | None
    view: UInt8
    reason: str = ""


class Eye:
    """A checkpoint's network and camera. `crops` is a key of reading.CROPS."""

    def __init__(self, loaded: Checkpoint, model: PoseModel, device: str, crops: int) -> None:
        camera, fit = loaded.camera, loaded.provenance.get("fit", "square")
        margin_px = int(loaded.provenance.get("margin", 0))
        self._reader = Reader(model, loaded.normalization, device, crops)
        self._query = QueryView(camera, margin_px, fit)
        # An uncalibrated image that became square by its whole is enlarged with its margin, so that both show the same.
        wide = round(margin_px * SIDE_PX / camera.width)
        same = camera.width == SIDE_PX
        self._view = self._query if same else QueryView(camera.resized(SIDE_PX, SIDE_PX), wide, fit)

    def look(self, images: Iterable[UInt8], camera: Camera) -> list[Seen]:
        """What is seen in images (H, W, 3) uint8 of one camera; what is wrong with one is its reason."""
        return self.read([self.prepare(rgb, camera) for rgb in images])

    def prepare(self, rgb: UInt8, camera: Camera) -> Prepared:
        """All that comes before the network; it may be done in another thread while the network reads."""
        query = self._query.query(rgb, camera)
        reason = query.reason or blank(image_figures(query.crop()))
        if reason:
            return Prepared(query, _NOTHING, reason)
        view = query if self._view is self._query else self._view.query(rgb, camera)
        return Prepared(query, view.crop())

    def read(self, images: Sequence[Prepared]) -> list[Seen]:
        """What is seen in prepared images."""
        readings = iter(self._reader.read([image.query for image in images if not image.reason]))
        return [Seen(None if image.reason else next(readings), image.view, image.reason) for image in images]


def pose_network(loaded: Checkpoint) -> PoseModel:
    """A checkpoint's network with its weights; UserError for one that finds no poses."""
    if not isinstance(loaded.network(), PoseModel):
        raise UserError(
            f"a network {loaded.architecture['network']!r} finds no poses; give a model trained with "
            "--model posegan or posenet"
        )
    model = loaded.build_model()
    assert isinstance(model, PoseModel)
    return model
