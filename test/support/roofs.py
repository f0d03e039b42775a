"""A place of flat roofs, drawn: cheap photographs with parallax and exact poses, and datasets of them with bad GPS."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.spatial.transform import Rotation
from support.aerial import nadir_pose

from pose2rgbd_ros.dataset.meta import DatasetMeta, PosesMeta
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sfm.align import FEATURES
from pose2rgbd_ros.sfm.reconstruct import AlignSettings

CAMERA = Camera.from_fov(320, 240, 70)
HALF_M, PIXEL_M = 90.0, 0.2
HEIGHTS_M = (0.0, 4.0, 8.0, 12.0, 16.0)
SECOND = 10**9
QUICK = AlignSettings(features=500, image_size=320, threads=2)
GLOBAL = replace(QUICK, mapper="global")


@dataclass(frozen=True)
class Roofs:
    """Textured rectangles at several heights over 180 x 180 m of textured ground; every seed is another place."""

    seed: int = 0

    @functools.cached_property
    def layers(self) -> list[tuple[float, np.ndarray]]:
        """Height and picture (H, W, 4) of each level, its last channel 255 where there is a roof; north up."""
        rng, side = np.random.default_rng(self.seed), round(2 * HALF_M / PIXEL_M)
        found = []
        for height_m in HEIGHTS_M:
            picture = np.zeros((side, side, 3), np.float32)
            for cell, weight in ((3, 0.35), (8, 0.35), (40, 0.3)):
                noise = rng.uniform(0, 255, (side // cell + 2, side // cell + 2, 3)).astype(np.float32)
                picture += weight * cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
            mask = np.full((side, side), 0 if height_m else 255, np.uint8)
            for _ in range(24 if height_m else 0):
                (x, y), (w, h) = rng.integers(0, side, 2), rng.integers(40, 110, 2)
                mask[y : y + h, x : x + w] = 255
            found.append((height_m, np.dstack([np.clip(picture, 0, 255).astype(np.uint8), mask])))
        return found

    def repeated(self, period_m: float) -> Roofs:
        """The same piece of so many metres again and again."""
        side, found = round(period_m / PIXEL_M), Roofs(self.seed)
        times = -(-self.layers[0][1].shape[0] // side)
        found.__dict__["layers"] = [
            (height_m, np.tile(layer[:side, :side], (times, times, 1))) for height_m, layer in self.layers
        ]
        return found

    def view(self, T_map_cam: np.ndarray, camera: Camera = CAMERA) -> np.ndarray:
        """What a camera above all roofs sees, RGB (H, W, 3); black beyond the place. Lenses have no distortion."""
        T_cam_map, size = se3.inverse(T_map_cam), (camera.width, camera.height)
        picture = np.zeros((camera.height, camera.width, 3), np.uint8)
        to_plane = np.array([[PIXEL_M, 0, -HALF_M], [0, -PIXEL_M, HALF_M], [0, 0, 1]])
        for height_m, layer in self.layers:
            from_plane = camera.K @ np.column_stack(
                [T_cam_map[:3, 0], T_cam_map[:3, 1], T_cam_map[:3, 3] + height_m * T_cam_map[:3, 2]]
            )
            seen = cv2.warpPerspective(layer, from_plane @ to_plane, size, flags=cv2.INTER_AREA)
            roof = seen[:, :, 3] > 127
            picture[roof] = seen[roof, :3]
        return picture


def survey(lines: int = 3, along: int = 5, step_m: float = 14.0, up_m: float = 60.0) -> np.ndarray:
    """Poses (N, 4, 4) of a flight to and fro, looking down and a little around."""
    rng, poses = np.random.default_rng(0), []
    for line in range(lines):
        for k in range(along) if line % 2 == 0 else reversed(range(along)):
            east_m, north_m = (k - (along - 1) / 2) * step_m, (line - (lines - 1) / 2) * step_m
            T_map_cam = nadir_pose(east_m, north_m, up_m + rng.normal(0, 1), 90.0 if line % 2 == 0 else 270.0)
            T_map_cam[:3, :3] @= Rotation.from_rotvec(np.deg2rad(rng.normal(0, 4, 3))).as_matrix()
            poses.append(T_map_cam)
    return np.stack(poses)


def rough(T_map_cam: np.ndarray, sigma_m: float = 1.0, sigma_deg: float = 3.0, seed: int = 1) -> np.ndarray:
    """What a GPS and an attitude say of the poses (N, 4, 4)."""
    rng, found = np.random.default_rng(seed), T_map_cam.copy()
    found[:, :3, 3] += rng.normal(0, sigma_m, (len(found), 3))
    turn = Rotation.from_rotvec(np.deg2rad(rng.normal(0, sigma_deg, (len(found), 3))))
    found[:, :3, :3] = found[:, :3, :3] @ turn.as_matrix()
    return found


def write(
    folder: Path, recorded: np.ndarray, pictures: Iterable[np.ndarray], camera: Camera = CAMERA,
    seconds: Sequence[float] | None = None,
) -> Path:  # fmt: skip
    """A dataset of pictures with recorded poses (N, 4, 4), five seconds apart, as photographs with GPS make it."""
    times = 5.0 * np.arange(1, len(recorded) + 1) if seconds is None else seconds
    with DatasetWriter(folder, DatasetMeta(camera=camera, poses=PosesMeta(position="gps"))) as writer:
        for second, T_map_cam, picture in zip(times, recorded, pictures, strict=True):
            writer.add(round(second * SECOND), T_map_cam, picture)
    return folder


@dataclass(frozen=True, eq=False)
class Survey:
    """Twelve photographs of a drawn place with their true poses, and a dataset of them whose features are found."""

    T_map_cam: np.ndarray
    recorded: np.ndarray
    pictures: list[np.ndarray]
    path: Path

    def again(self, folder: Path, recorded: np.ndarray, **others: Any) -> Path:
        """A dataset of these photographs with other recorded poses (N, 4, 4), features and matches with it."""
        write(folder, recorded, self.pictures, **others)
        shutil.copytree(self.path / FEATURES, folder / FEATURES)
        return folder
