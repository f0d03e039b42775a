"""From images of any camera to what the network reads in them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.evidence import image_figures
from pose2rgbd_ros.localization.gate import blank
from pose2rgbd_ros.localization.memory import SIDE_PX
from pose2rgbd_ros.localization.query import QueryView
from pose2rgbd_ros.localization.reading import Reader, Reading
from pose2rgbd_ros.models.pose_model import PoseModel
from pose2rgbd_ros.training.checkpoint import Checkpoint

_NOTHING = np.zeros((0, 0, 3), np.uint8)


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
        self._view = QueryView(camera.resized(SIDE_PX, SIDE_PX), wide, fit)

    def look(self, images: Iterable[UInt8], camera: Camera) -> list[Seen]:
        """What is seen in images (H, W, 3) uint8 of one camera; what is wrong with one is its reason."""
        queries, views, reasons = [], [], []
        for rgb in images:
            query = self._query.query(rgb, camera)
            reason = query.reason or blank(image_figures(query.crop()))
            reasons.append(reason)
            if not reason:
                queries.append(query)
                views.append(self._view.query(rgb, camera).crop())
        seen = zip(self._reader.read(queries), views, strict=True)
        return [Seen(None, _NOTHING, reason) if reason else Seen(*next(seen)) for reason in reasons]


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
