"""A relief network of a city of random towers, 300 x 300 m, for benches: its size and its work are those of a trained
one.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.config import EDGE_RAYS, ReliefConfig, ReliefSettings
from pose2rgbd_ros.models.relief.memory import as_jpegs
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.models.relief.remember import Remembered, with_memory
from pose2rgbd_ros.training.checkpoint import Checkpoint, save_checkpoint
from pose2rgbd_ros.training.evaluators import to_store
from pose2rgbd_ros.training.families import architecture_of

SIDE_M, TOWER_M, TOP_M = 300, 15, 36.0
CELL_M, LAYER_M, FEATURE_M = 0.65, 0.95, 0.38  # as trained at 128 pixels from HEIGHT_M
HEIGHT_M, FOV_DEG = 55.0, 90.0


def relief_city(side_m: int = SIDE_M) -> Relief:
    """Towers 15 m wide, low ones more often than high ones, in cells that training at 128 pixels chooses."""
    torch.manual_seed(0)
    side, layers = round(side_m / CELL_M) + 1, round(TOP_M / LAYER_M) + 1
    model = Relief(
        ReliefConfig(
            origin_m=(-side_m / 2, -side_m / 2, 0.0),
            layers=layers,
            rows=side,
            columns=side,
            cell_m=CELL_M,
            layer_m=LAYER_M,
            feature_m=FEATURE_M,
            edge_rays=EDGE_RAYS["none"],  # as a training without a memory chooses
        )
    )
    towers = torch.rand(1, 1, side_m // TOWER_M, side_m // TOWER_M) ** 3 * (layers - 3)
    height = functional.interpolate(towers, size=(side, side))[0, 0]
    with torch.no_grad():
        noise = 0.3 * torch.randn(layers, side, side)
        model.volume.logits.copy_(height - torch.arange(layers)[:, None, None] + noise)
        model.volume.seen.fill_(1)
        for table in (model.features.maps, model.features.coarse, model.features.sky):
            table.normal_(0.0, 0.1)
        for parameter in model.shader.parameters():
            parameter.normal_(0.0, 0.03)
    return model.eval()


def remembering(model: Relief, kind: str, T_map_cam: np.ndarray, size: int = 128) -> Relief:
    """The same place with the memory that a training at `size` pixels with ``--memory kind`` leaves of frames at these
    poses (M, 4, 4): their depth is the place's, their colours are noise."""
    finer = 2 * size if kind == "full" else size
    camera, generator = Camera.from_fov(finer, finer, FOV_DEG), np.random.default_rng(0)
    noise = generator.integers(0, 256, (len(T_map_cam), finer // 8, finer // 8, 3), np.uint8)
    jpeg, ends = as_jpegs(noise.repeat(8, 1).repeat(8, 2))
    kept = Remembered(np.arange(len(T_map_cam)), jpeg, ends, camera, 0 if kind == "full" else 1, None)
    config = with_memory(model.config, ReliefSettings(memory=kind), kept, HEIGHT_M)  # type: ignore[arg-type]
    config = replace(config, edge_rays=EDGE_RAYS[kind])
    made = Relief(config).eval()
    made.volume.load_state_dict(model.volume.state_dict())
    made.features.load_state_dict(model.features.state_dict())
    with torch.no_grad():
        for parameter in made.shader.parameters():
            parameter.normal_(0.0, 0.03)
        rays = torch.from_numpy(camera.resized(finer >> kept.shift, finer >> kept.shift).rays()).reshape(-1, 3)
        steps = []
        for T in torch.from_numpy(T_map_cam):
            origin, direction = model.volume.rays(T[None], rays)
            t = model.volume.hits(origin.expand(direction[0].shape), direction[0]).t.numpy()
            steps.append(np.rint(np.nan_to_num(t) / config.memory_depth_m).clip(0, 65535).astype(np.uint16))
    shape = len(T_map_cam), finer >> kept.shift, finer >> kept.shift
    assert made.memory is not None
    poses = se3.inverse(config.T_map_vol) @ T_map_cam
    made.memory.keep(jpeg, ends, np.concatenate(steps).reshape(shape), poses, camera)
    return made


def write_relief(path: Path, size: int, T_map_cam: np.ndarray | None = None, side_m: int = SIDE_M) -> np.ndarray:
    """A checkpoint of the city for cameras of `size` pixels a side; its poses (N, 4, 4), looking down if not given."""
    if T_map_cam is None:
        eye = np.random.default_rng(0).uniform((-60, -60, HEIGHT_M), (60, 60, HEIGHT_M + 5), (16, 3))
        T_map_cam = se3.look_at(eye, eye * (1.0, 1.0, 0.0) + (3.0, 2.0, 0.0))
    model = relief_city(side_m)
    save_checkpoint(
        path,
        Checkpoint(
            architecture=architecture_of(model),
            normalization=Normalization.fit(T_map_cam, np.array([[[1.0, 100.0]]])),
            camera=Camera.from_fov(size, size, FOV_DEG),
            map_frame="map",
            camera_frame="camera_optical_frame",
            depth_kind="metric",
            state_dict=to_store(model),
            training_stamps_ns=np.arange(len(T_map_cam)) * 10**8,
            training_T_map_cam=T_map_cam,
        ),
    )
    return T_map_cam
