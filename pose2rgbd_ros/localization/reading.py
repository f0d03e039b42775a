"""What a network reads from an image: a pose from each of several crops, and the trunk's features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry.arrays import Float32, Float64, UInt8
from pose2rgbd_ros.localization.covariance import errors
from pose2rgbd_ros.localization.query import Query
from pose2rgbd_ros.models.pose_model import PoseModel

# Where crops lie within the margin, as shares of it, centre first. The network learnt on crops from anywhere in it.
CROPS = {
    1: ((0.0, 0.0),),
    5: ((0.0, 0.0), (-0.75, -0.75), (0.75, -0.75), (-0.75, 0.75), (0.75, 0.75)),
    9: tuple((right, down) for right in (0.0, -0.75, 0.75) for down in (0.0, -0.75, 0.75)),
}
_BATCH = {"cpu": 8, "cuda": 256}


@dataclass(frozen=True, eq=False)
class Reading:
    """Of one image.

    rgb: (S, S, 3), its view. T_map_cam: (4, 4), mean of the crops' poses. spread: (6,), standard deviation among them
    along the camera's level axes (m) and about them (rad); 0 of one crop. features: (F,) and realism: of the centre crop,
    the latter NaN for networks without a discriminator.
    """

    rgb: UInt8
    T_map_cam: Float64
    spread: Float64
    features: Float32
    realism: float


class Reader:
    """A network, ready to read. `crops` is a key of CROPS."""

    def __init__(self, model: PoseModel, normalization: Normalization, device: str, crops: int) -> None:
        network: Any = model
        self._network = network.eval().to(device)
        self._normalization, self._device, self._crops = normalization, torch.device(device), CROPS[crops]

    def read(self, queries: Sequence[Query]) -> list[Reading]:
        """Readings of queries without a reason against them."""
        count = len(self._crops)
        images = [_crop(query, place) for query in queries for place in self._crops]
        step = _BATCH[self._device.type]
        found = [self._infer(images[start : start + step]) for start in range(0, len(images), step)]
        if not found:
            return []
        T, features, realism = (np.concatenate(part) for part in zip(*found, strict=True))
        return [
            _reading(query.crop(), T[i : i + count], features[i], float(realism[i]))
            for query, i in zip(queries, range(0, len(images), count), strict=True)
        ]

    @torch.inference_mode()
    def _infer(self, images: list[UInt8]) -> tuple[Float64, Float32, Float32]:
        batch = torch.from_numpy(np.stack(images)).to(self._device).permute(0, 3, 1, 2).float() / 255.0
        found = self._network.poses(batch, self._normalization)
        realism = torch.full((len(images),), float("nan")) if found.realism is None else found.realism
        T = found.T_map_cam.double().cpu().numpy()
        return T, found.features.float().cpu().numpy(), realism.float().reshape(-1).cpu().numpy()


def mean_pose(T_map_cam: Float64) -> Float64:
    """The mean (4, 4) of poses (K, 4, 4): of positions, and the rotation nearest to the mean of the matrices."""
    mean = np.eye(4)
    mean[:3, 3] = T_map_cam[:, :3, 3].mean(axis=0)
    U, _, Vt = np.linalg.svd(T_map_cam[:, :3, :3].mean(axis=0))
    mean[:3, :3] = U @ np.diag([1.0, 1.0, np.sign(np.linalg.det(U @ Vt))]) @ Vt
    return mean


def _crop(query: Query, place: tuple[float, float]) -> UInt8:
    right, down = (round(share * query.margin_px) for share in place)
    return query.crop(right, down)


def _reading(rgb: UInt8, T: Float64, features: Float32, realism: float) -> Reading:
    mean = mean_pose(T)
    spread = np.sqrt(np.mean(errors(np.broadcast_to(mean, T.shape), T) ** 2, axis=0))
    return Reading(np.ascontiguousarray(rgb), mean, spread, features, realism)
