"""What the trainer asks of its data; and a dataset as it sees it: frames at training resolution, encoded poses, the
split, the normalisation."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.dataset.reader import Dataset, FrameCache, centre, frame_cache
from pose2rgbd_ros.dataset.splits import (
    Split,
    default_split,
    held_out_segments,
    own_split,
    random_split,
    with_random_frames,
)
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.training.checkpoint import Checkpoint, StoredModel
from pose2rgbd_ros.training.config import TrainConfig

logger = logging.getLogger(__name__)

_CHUNK = 64  # frames looked at together where the whole set is read


class RunData(Protocol):
    """What a run learns from and is judged on: frames of a place with their poses, or snippets of video."""

    @property
    def split(self) -> Split:
        """Which frames train, choose and judge."""
        ...

    @property
    def depth_unit(self) -> str:
        """Unit of depth in messages."""
        ...

    def source(self) -> dict[str, Any]:
        """Where it lies, for config.yaml."""
        ...

    def for_training(self) -> Any:
        """What a learner is given: the frames that train, and no others."""
        ...

    def check_continues(self, before: StoredModel, out: Path) -> None:
        """UserError: the run in `out`, which kept this model, was started with other frames."""
        ...

    def provenance(self, config: Any) -> dict[str, Any]:
        """What a checkpoint says of it, ready for YAML."""
        ...

    def checkpoint(self, **common: Any) -> StoredModel:
        """A checkpoint of its kind: architecture, state_dict, provenance and metrics are given."""
        ...

    def named_batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """All that a batch holds, by name."""
        ...


@dataclass
class TrainingData:
    """Frames stay in the memory-mapped cache (uint8 and float32); batches are made from them as they are needed.

    Neither pictures nor poses of the frames that judge can be had from it, nor, once `for_training`, those that choose.
    """

    dataset: Dataset
    cache: FrameCache
    split: Split
    normalization: Normalization
    T_map_cam: np.ndarray  # (N, 4, 4) float64; NaN for frames that cannot be read
    poses: Tensor  # (N, P) float32, encoded; NaN likewise
    max_depth: float | None = None  # farther is unknown
    wide: FrameCache | None = None  # of networks that learn from crops: the frames with `margin` pixels around
    margin: int = 0

    @property
    def depth_unit(self) -> str:
        return "m" if self.dataset.depth_kind == "metric" else "(relative)"

    def source(self) -> dict[str, Any]:
        return {"dataset": str(self.dataset.path)}

    def for_training(self) -> TrainingData:
        return self._sealed(self.split.train)

    def check_continues(self, before: StoredModel, out: Path) -> None:
        """The weights know poses and depth by the normalisation of the frames the run began with."""
        same = np.array_equal(self.dataset.stamps_ns[self.split.train], before.training_stamps_ns)
        if not same or not isinstance(before, Checkpoint) or not before.normalization.agrees(self.normalization):
            raise UserError(
                f"the frames of {self.dataset.path} are not those {out} was started with; train anew with another --out"
            )

    def provenance(self, config: TrainConfig) -> dict[str, Any]:
        split, meta = self.split, self.dataset.meta
        return {
            "dataset": self.dataset.path.resolve().name,
            "sources": [source.name for source in meta.sources],
            "simulation": meta.simulation,
            "frames": {
                "all": len(self.dataset),
                "train": len(split.train),
                "choose": len(split.choose),
                "judge": len(split.judge),
            },
            "fit": config.fit,
            "margin": self.margin,
        }

    def checkpoint(self, **common: Any) -> Checkpoint:
        meta, train = self.dataset.meta, self.split.train
        return Checkpoint(
            **common,
            normalization=self.normalization,
            camera=self.cache.camera,
            map_frame=meta.map_frame,
            camera_frame=meta.camera_frame,
            depth_kind=self.dataset.depth_kind if self.normalization.depth_min is not None else None,
            training_stamps_ns=self.dataset.stamps_ns[train],
            training_T_map_cam=self.dataset.T_map_cam[train],
            choosing_stamps_ns=self.dataset.stamps_ns[self.split.choose],
            datum=meta.datum,
        )

    def named_batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        poses, rgb, depth = self.batch(indices)
        stamps_ns = torch.from_numpy(self.dataset.stamps_ns[indices])
        return {"stamps_ns": stamps_ns, "poses": poses, "rgb": rgb, **({} if depth is None else {"depth": depth})}

    def _sealed(self, frames: np.ndarray) -> TrainingData:
        readable = np.zeros(len(self.dataset), bool)
        readable[frames] = True
        hidden = torch.from_numpy(~readable)[:, None]
        return replace(
            self,
            cache=self.cache.sealed(readable),
            wide=None if self.wide is None else self.wide.sealed(readable),
            T_map_cam=np.where(readable[:, None, None], self.T_map_cam, np.nan),
            poses=self.poses.masked_fill(hidden, torch.nan),
        )

    def batch(self, indices: np.ndarray, device: torch.device | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Encoded poses (B, P), rgb (B, S, S, 3) uint8, encoded depth (B, S, S) with NaN unknown, on the device."""
        rgb = torch.from_numpy(np.ascontiguousarray(self.cache.rgb[indices])).to(device)
        depth = None
        if self.cache.depth is not None and self.normalization.depth_min is not None:
            encoded = self.normalization.encode_depth(self.depth(indices))
            depth = torch.from_numpy(encoded).to(device)
        return self.poses[indices].to(device), rgb, depth

    def truth(self, indices: np.ndarray, device: torch.device | None = None) -> tuple[Tensor, Tensor | None]:
        """Recorded colour (B, 3, S, S) in [0, 1] and depth (B, S, S) in the dataset's unit, NaN unknown."""
        rgb = torch.from_numpy(np.ascontiguousarray(self.cache.rgb[indices])).to(device)
        colour = rgb.permute(0, 3, 1, 2).float() / 255.0
        if self.cache.depth is None:
            return colour, None
        return colour, torch.from_numpy(self.depth(indices)).to(device)

    def depth(self, indices: np.ndarray) -> np.ndarray:
        """Recorded depth (B, S, S) float32 of frames in the dataset's unit; NaN unknown or beyond `max_depth`."""
        assert self.cache.depth is not None
        depth = np.array(self.cache.depth[indices], np.float32)
        if self.max_depth is not None:
            depth[depth > self.max_depth] = np.nan
        return depth


def make_split(dataset: Dataset, name: str, test_fraction: float, seed: int) -> Split:
    """A split by the name it has in `TrainConfig.split`. UserError: the dataset has none, or a broken one."""
    if name == "dataset":
        return own_split(dataset.path, dataset.stamps_ns)
    if name == "auto":
        return default_split(dataset.path, dataset.stamps_ns, dataset.T_map_cam[:, :3, 3], test_fraction, seed)
    if name == "lines+random":
        return with_random_frames(make_split(dataset, "auto", test_fraction, seed), seed=seed)
    if name == "random":
        return random_split(len(dataset), train_fraction=1.0 - test_fraction, seed=seed)
    return held_out_segments(dataset.stamps_ns, dataset.T_map_cam[:, :3, 3], fraction=test_fraction, seed=seed)


def _warn_of_made_depth(dataset: Dataset, split: Split) -> None:
    """Say where depth that was made from pictures knows of frames that this training holds out."""
    depth = dataset.meta.depth
    if depth is not None and depth.made is not None and depth.made.split != "none":
        kept = default_split(dataset.path, dataset.stamps_ns, dataset.T_map_cam[:, :3, 3])
        if len(np.intersect1d(split.test, kept.train)):
            logger.warning(
                "depth was made from pictures that this split holds out, so figures flatter; "
                "--split dataset is the one it was made for"
            )


def open_training_data(path: Path, config: TrainConfig) -> TrainingData:
    """Open a dataset for a run. UserError: no dataset, impossible network, too few frames, no known depth."""
    dataset = Dataset(path)
    config.check_trainable(dataset.has_depth)  # what cannot be trained is reported before the frames are cached
    split = make_split(dataset, config.split, config.test_fraction, config.seed)
    _warn_of_made_depth(dataset, split)
    margin = config.size // 16 if config.finds_poses else 0  # the paper: 144 for 128 pixels
    wide = frame_cache(dataset, config.size + 2 * margin, config.fit)
    cache = centre(wide, margin) if margin else wide
    wants_depth = dataset.has_depth and config.output_for(dataset.has_depth) != "rgb"
    extremes = _depth_extremes(cache, split.train, config.max_depth) if wants_depth else None
    T_map_cam = dataset.T_map_cam
    normalization = Normalization.fit(T_map_cam[split.train], extremes, config.rotation, pose_range=config.pose_range)
    poses = torch.from_numpy(normalization.encode_pose(T_map_cam))
    wide_or_none = wide if margin else None
    data = TrainingData(dataset, cache, split, normalization, T_map_cam, poses, config.max_depth, wide_or_none, margin)
    return data._sealed(np.concatenate([split.train, split.choose]))


def _depth_extremes(cache: FrameCache, indices: np.ndarray, farthest: float | None) -> np.ndarray | None:
    """(2, 1, 1) least and greatest known depth of frames, NaN where none is known; never the whole cache in memory."""
    if cache.depth is None:
        return None
    lowest, highest = np.float32(np.inf), np.float32(-np.inf)
    for start in range(0, len(indices), _CHUNK):
        depth = cache.depth[indices[start : start + _CHUNK]]
        known = depth[np.isfinite(depth) & (depth <= (np.inf if farthest is None else farthest))]
        if known.size:
            lowest, highest = min(lowest, known.min()), max(highest, known.max())
    found = [lowest, highest] if lowest <= highest else [np.nan, np.nan]
    return np.array(found, np.float32).reshape(2, 1, 1)


def mean_image(
    cache: FrameCache, indices: np.ndarray, max_depth: float | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Mean colour (S, S, 3) float64 in 0..255 and mean known depth (S, S) float64 of frames; NaN where never known.

    This is what a network says that ignores the pose, so the baseline to beat.
    """
    rgb = np.zeros(cache.rgb.shape[1:], np.float64)
    total = np.zeros(cache.rgb.shape[1:3], np.float64)
    count = np.zeros(cache.rgb.shape[1:3], np.int64)
    for start in range(0, len(indices), _CHUNK):
        chunk = indices[start : start + _CHUNK]
        rgb += cache.rgb[chunk].sum(axis=0, dtype=np.float64)
        if cache.depth is not None:
            depth = cache.depth[chunk]
            known = np.isfinite(depth) & (depth <= (np.inf if max_depth is None else max_depth))
            total += np.where(known, depth, 0.0).sum(axis=0, dtype=np.float64)
            count += known.sum(axis=0)
    if cache.depth is None:
        return rgb / len(indices), None
    return rgb / len(indices), np.where(count > 0, total / np.maximum(count, 1), np.nan)
