"""A flat, richly patterned ground and cameras looking straight down at it: images of known poses, quickly drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.splits import Split, held_out_segments
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera, resample
from pose2rgbd_ros.models.posegan.config import PoseGANConfig, PoseNetConfig
from pose2rgbd_ros.models.posegan.network import PoseGAN, PoseNet
from pose2rgbd_ros.training.checkpoint import Checkpoint, save_checkpoint
from pose2rgbd_ros.training.families import architecture_of

CAMERA = Camera.from_fov(144, 144, 90.0)
HEIGHT_M, PX_PER_M, SIDE_PX = 10.0, 12.0, 900


def carpet(seed: int) -> np.ndarray:
    """(SIDE_PX, SIDE_PX, 3) uint8: coloured blots of all sizes."""
    generator = np.random.default_rng(seed)
    image = np.zeros((SIDE_PX, SIDE_PX, 3), np.float32)
    for size, strength in ((4, 30), (12, 60), (40, 90)):
        blots = generator.normal(size=(SIDE_PX // size + 2, SIDE_PX // size + 2, 3)).astype(np.float32)
        image += strength / 2 * cv2.resize(blots, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_NEAREST)
    return np.clip(image + 120, 0, 255).astype(np.uint8)


def seen(ground: np.ndarray, T_map_cam: np.ndarray, camera: Camera = CAMERA) -> np.ndarray:
    """The image (H, W, 3) of a camera at a pose (4, 4); the map's origin is the ground's middle, y points up the
    image.
    """
    ray = camera.rays() @ T_map_cam[:3, :3].T
    at = T_map_cam[:3, 3] + ray * (-T_map_cam[2, 3] / ray[..., 2:])
    pixels = SIDE_PX / 2 + np.stack([at[..., 0], -at[..., 1]], axis=-1) * PX_PER_M
    return np.asarray(resample(ground, pixels.astype(np.float32), nearest=False))


def poses(x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
    """(N, 4, 4) at HEIGHT_M, looking down, the image's top to the north."""
    eye = np.stack([x_m, y_m, np.full(len(x_m), HEIGHT_M)], axis=-1)
    return se3.look_at(eye, eye - [0.0, 0.0, 1.0])


def write_flight(
    folder: Path,
    ground: np.ndarray,
    T_map_cam: np.ndarray,
    begin_ns: int = 10**18,
    T_recorded: np.ndarray | None = None,
) -> Path:
    """A dataset without depth, a frame each 0.1 s; `T_recorded` (N, 4, 4) are the poses it says, the true ones by
    default.
    """
    meta = DatasetMeta(camera=CAMERA, depth=None, map_frame="map", camera_frame="camera_optical")
    with DatasetWriter(folder, meta) as writer:
        for index, (T, told) in enumerate(zip(T_map_cam, T_map_cam if T_recorded is None else T_recorded, strict=True)):
            writer.add(begin_ns + index * 10**8, told, seen(ground, T), None)
    return folder


def split_of(data: Dataset) -> Split:
    """How a network of `write_posenet` was trained."""
    return held_out_segments(data.stamps_ns, data.T_map_cam[:, :3, 3], fraction=0.35)


def write_posenet(folder: Path, dataset: Path, seed: int = 0, kind: str = "posenet") -> Path:
    """A checkpoint of random weights ("posenet" or "posegan"), as if trained on some stretches of a dataset."""
    torch.manual_seed(seed)
    data, size = Dataset(dataset), 32
    split = split_of(data)
    gan = kind == "posegan"
    config = PoseGANConfig(size=size, width=0.25, blocks=3) if gan else PoseNetConfig(size=size, width=0.25)
    network = PoseGAN(config) if isinstance(config, PoseGANConfig) else PoseNet(config)
    model = network.eval()
    margin = size // 16
    camera = data.camera.resized(size + 2 * margin, size + 2 * margin).cropped(margin, margin, size, size)
    checkpoint = Checkpoint(
        architecture=architecture_of(model), normalization=Normalization.fit(data.T_map_cam[split.train]),
        camera=camera, map_frame="map", camera_frame="camera_optical", depth_kind=None,
        state_dict=model.state_dict(), training_stamps_ns=data.stamps_ns[split.train],
        training_T_map_cam=data.T_map_cam[split.train],
        provenance={"split": split.to_dict(), "fit": "square", "margin": margin},
    )  # fmt: skip
    save_checkpoint(folder, checkpoint)
    return folder
