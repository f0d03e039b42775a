"""Which training frames a relief remembers, and how it learns to look at them: never at the frame it is shown."""

from __future__ import annotations

import dataclasses
import logging
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from pose2rgbd_ros.dataset.reader import FrameCache, frame_cache
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64, Int64, UInt8, UInt16
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.geometry.depth import sample_depth
from pose2rgbd_ros.models.backends import HAS_NUMBA, WHY_NO_NUMBA
from pose2rgbd_ros.models.relief.config import EDGE_RAYS, MB, STORED_BYTES, ReliefConfig, ReliefSettings
from pose2rgbd_ros.models.relief.memory import as_jpegs
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.models.relief.surface import SurfaceDepth
from pose2rgbd_ros.models.warp.views import pinhole_around
from pose2rgbd_ros.training.config import TrainConfig
from pose2rgbd_ros.training.data import TrainingData

logger = logging.getLogger(__name__)

LEAST_MB = 32.0  # a small place may remember more than it takes itself
REACH = 3.0  # layers by which recorded depth may refine where a ray ends
ANGLE_RAD = 0.24  # between two views of a surface, at which the second says less of it
VIEWS = {"thin": 4, "full": 10, "auto": 10}
UNUSABLE, FIRST_STEP, LAST_STEP = 1, 2, 65535  # steps of depth: of a pixel the lens never filled; nearest; farthest
FARTHEST = 20.0  # times the median depth: what is farther is as far
VIEWS_AT_ONCE = 16
# Of the steps so many see no memory, so that learnt colours answer where no frame sees; of the others half leave out
# the frame itself alone, as a random frame between recorded ones has it, the rest its neighbours, too.
BLIND, ALONE, MOST_NEIGHBOURS = 0.15, 0.5, 32
MEMORY_FROM = 0.5  # of the run: before, learnt colours learn by themselves
FINER_FROM = 1.5  # times the training's pixels a side that the recording must have for a full memory to be finer


class Remembered(NamedTuple):
    """Colours of some training frames, ready to be kept: `frames` of the dataset, and the camera they are seen by."""

    frames: Int64
    jpeg: UInt8
    ends: Int64
    camera: Camera
    shift: int  # times that depth has half the pixels a side
    finer: FrameCache | None  # whose recorded depth is kept, where that is finer than the training's


def remembered(
    config: TrainConfig, chosen: ReliefSettings, data: TrainingData, network: ReliefConfig, depth: SurfaceDepth
) -> Remembered:
    """What `chosen.memory` asks for, thinned to what may be kept. UserError: the machine cannot look it up."""
    if not HAS_NUMBA:
        raise UserError(f"{WHY_NO_NUMBA}; install numba, or train with --memory none")
    full = chosen.memory != "thin"
    finer = full and min(data.dataset.camera.width, data.dataset.camera.height) >= FINER_FROM * config.size
    colours = frame_cache(data.dataset, 2 * config.size, config.fit) if finer else data.cache
    train = data.split.train
    camera, lookup = _pinhole(colours, 1)
    images = (colours.rgb[i] if lookup is None else resample(np.asarray(colours.rgb[i]), lookup, False) for i in train)
    jpeg, ends = as_jpegs(images)
    limit_mb = chosen.memory_mb or max(_stored_mb(network), LEAST_MB)

    def needed_mb(shift: int) -> float:
        return (len(jpeg) + 2 * len(train) * (camera.height >> shift) * (camera.width >> shift)) / MB

    fine_depth = depth.source == "recorded" or not finer
    shift = 0 if full and fine_depth and needed_mb(0) <= limit_mb else 1
    kept = np.arange(len(train))
    if needed_mb(shift) > limit_mb:
        few = np.linspace(0, len(train) - 1, int(len(train) * limit_mb / needed_mb(shift)))
        kept = np.unique(few.round().astype(np.int64))
        if len(kept) == 0:
            raise UserError(f"--memory-mb {limit_mb:g} holds no frame, of {needed_mb(shift) / len(train):.2g} MB each")
        logger.warning(
            "%d of %d frames are remembered: all would take %.0f MB, and --memory-mb allows %.0f",
            len(kept), len(train), needed_mb(shift), limit_mb,
        )  # fmt: skip
        files = [jpeg[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        jpeg, ends = np.concatenate([files[i] for i in kept]), np.cumsum([len(files[i]) for i in kept])
    of_depth = colours if finer and shift == 0 else None
    return Remembered(train[kept], jpeg, np.asarray(ends, np.int64), camera, shift, of_depth)


def _pinhole(colours: FrameCache, shift: int) -> tuple[Camera, Float32 | None]:
    """The ideal pinhole whose colours are kept, of whole pixels of depth, and the map to it where the lens distorts."""
    camera = colours.camera
    whole = 1 << shift
    width, height = (side - side % whole for side in (camera.width, camera.height))
    if not camera.is_distorted and (width, height) == (camera.width, camera.height):
        return camera, None
    pinhole = pinhole_around(camera).resized(width, height)
    return pinhole, resample_map(camera, pinhole)


def _stored_mb(network: ReliefConfig) -> float:
    return sum(float(np.prod(shape)) for shape in network.weight_shapes().values()) * STORED_BYTES / MB


def with_memory(network: ReliefConfig, chosen: ReliefSettings, kept: Remembered, depth_m: float) -> ReliefConfig:
    """The network that remembers these frames; `depth_m`: the median depth of what they see."""
    return dataclasses.replace(
        network,
        memory_frames=len(kept.frames),
        memory_views=VIEWS[chosen.memory],
        memory_rays=EDGE_RAYS[chosen.memory],
        memory_width=kept.camera.width,
        memory_height=kept.camera.height,
        memory_shift=kept.shift,
        memory_bytes=len(kept.jpeg),
        memory_depth_m=FARTHEST * depth_m / LAST_STEP,
        memory_angle_rad=ANGLE_RAD,
        memory_reach=REACH,
    )


def simpler_ones(relief: Relief) -> list[Relief]:
    """The same network, taking the frames' depth for no better than its own, looking fewer up, and none at all."""
    coarse = dataclasses.replace(relief.config, memory_reach=0.0)
    few = dataclasses.replace(relief.config, memory_views=VIEWS["thin"])
    none = dataclasses.replace(relief.config, memory_frames=0)
    return [_with_config(relief, config) for config in (coarse, few, none)]


def _with_config(relief: Relief, config: ReliefConfig) -> Relief:
    """The network of a config that has parts of this one, with its weights: what the shader lacks was the last of its
    inputs and answers."""
    shapes, state = config.weight_shapes(), relief.state_dict()
    made = Relief(config)
    cut = {name: state[name][tuple(slice(side) for side in shape)].clone() for name, shape in shapes.items()}
    made.load_state_dict(cut)
    return made.eval()


class MemoryTraining:
    """The memory of a relief that learns: its frames' depth, poses and light, and which of them a step must not see."""

    def __init__(self, relief: Relief, kept: Remembered, data: TrainingData, depth: SurfaceDepth) -> None:
        assert relief.memory is not None
        self._relief, self._memory, self._kept = relief, relief.memory, kept
        self._row = {int(frame): row for row, frame in enumerate(kept.frames)}
        config = relief.config
        shape = config.memory_shapes()["memory.depth"][1:]
        self._camera = kept.camera.resized(shape[1], shape[0])
        self.T_map_cam = data.T_map_cam[kept.frames]
        poses = se3.inverse(config.T_map_vol) @ self.T_map_cam
        self._unknown: dict[int, Bool] = {}
        steps = np.stack([self._recorded(data, depth, row) for row in range(len(kept.frames))])
        self._memory.keep(kept.jpeg, kept.ends, steps, poses, kept.camera)
        self.fill()

    def _recorded(self, data: TrainingData, depth: SurfaceDepth, row: int) -> UInt16:
        """Steps (h, w) of a frame's depth, and which of them are not known."""
        frame, camera = int(self._kept.frames[row]), data.cache.camera
        depth_m = depth[frame]
        if self._kept.finer is not None and self._kept.finer.depth is not None:
            camera, depth_m = self._kept.finer.camera, np.array(self._kept.finer.depth[frame], np.float32)
            if data.max_depth is not None:
                depth_m[depth_m > data.max_depth] = np.nan
            depth_m *= np.float32(depth.unit_m)
        lookup = resample_map(camera, self._camera)
        depth_m = sample_depth(np.asarray(depth_m), lookup[..., 0], lookup[..., 1])
        known = np.isfinite(depth_m) & (depth_m > 0)
        inside = within_lens(lookup) if camera.is_distorted else np.ones(depth_m.shape, bool)
        if not known.all():
            self._unknown[row] = ~known & inside
        steps = _steps(np.where(known, depth_m, 0.0), self._relief.config.memory_depth_m)
        steps[~known | ~inside] = UNUSABLE
        return steps

    @torch.no_grad()
    def fill(self) -> None:
        """Give pixels without recorded depth what the fused start has, 0 where that meets nothing: the sky."""
        rows = list(self._unknown)
        rays = torch.from_numpy(self._camera.rays()).reshape(-1, 3)
        volume = self._relief.volume
        steps = self._memory.depth.numpy().view(np.uint16)
        for first in range(0, len(rows), VIEWS_AT_ONCE):
            some = rows[first : first + VIEWS_AT_ONCE]
            T_map_cam = torch.from_numpy(self.T_map_cam[some])
            origin, direction = volume.rays(T_map_cam.to(volume.T_vol_map.device), rays.to(volume.T_vol_map.device))
            origin = origin[:, None].expand(direction.shape)
            met = volume.hits(origin.reshape(-1, 3), direction.reshape(-1, 3)).t.reshape(len(some), *steps.shape[1:])
            found = _steps(np.nan_to_num(met.cpu().numpy()), self._relief.config.memory_depth_m)
            for row, own in zip(some, found, strict=True):
                steps[row] = np.where(self._unknown[row], own, steps[row])

    def left_out(self, indices: np.ndarray, generator: np.random.Generator, share: float) -> list[Bool]:
        """For frames of the dataset (B,) the remembered ones (M,) that they are not to be learnt from at a share of the
        run: themselves, and at random their neighbours, or all."""
        places = self.T_map_cam[:, :3, 3]
        masks = []
        for index in indices:
            row = self._row.get(int(index))
            chance, more = generator.random(2)
            mask = np.zeros(len(places), bool)
            if chance < BLIND or share < MEMORY_FROM:
                mask[:] = True
            elif row is not None:
                count = 1 if chance < BLIND + ALONE * (1 - BLIND) else 1 + int(MOST_NEIGHBOURS**more)
                away = ((places - places[row]) ** 2).sum(1)
                away[row] = -1.0
                mask[np.argsort(away)[: min(count, max(len(places) // 4, 1))]] = True
            masks.append(mask)
        return masks

    def correct(self, T_map_cam: Tensor | None, light: Tensor | None) -> None:
        """Take over corrected poses (M, 4, 4), and the gain and offset (M, 2, 3) of frames of unlike exposure."""
        if T_map_cam is not None:
            self.T_map_cam = T_map_cam.cpu().numpy()
        poses = se3.inverse(self._relief.config.T_map_vol) @ self.T_map_cam
        self._memory.correct(poses, None if light is None else light.cpu().numpy())

    @property
    def frames(self) -> Int64:
        """Of the dataset."""
        return self._kept.frames


def within_lens(lookup: Float32) -> Bool:
    """Which pixels (h, w) of an undistorted frame the lens showed whole, by the map to it (h, w, 2): colours at the
    border are mixed with black, which would be seen as a seam."""
    shown = np.asarray(np.isfinite(lookup).all(-1), np.uint8)
    inside = np.asarray(cv2.erode(shown, np.ones((3, 3), np.uint8))) > 0
    inside[[0, -1]] = inside[:, [0, -1]] = False
    return inside


def _steps(depth_m: Float32 | Float64, step_m: float) -> UInt16:
    """Depth in steps, 0 where it is 0."""
    return np.where(depth_m > 0, np.clip(np.rint(depth_m / step_m), FIRST_STEP, LAST_STEP), 0).astype(np.uint16)
