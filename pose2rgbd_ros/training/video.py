"""Video as the trainer sees it: snippets of one or several sequences; and what a model of video is judged by."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.dataset.splits import Split
from pose2rgbd_ros.depth_from_images.depth_errors import depth_errors
from pose2rgbd_ros.depth_from_images.inverse_warp import inverse_warp
from pose2rgbd_ros.depth_from_images.parallax import check_parallax
from pose2rgbd_ros.depth_from_images.snippets import Augmentation, SnippetBatch, SnippetData
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.training import metrics
from pose2rgbd_ros.training.checkpoint import StoredModel, VideoCheckpoint
from pose2rgbd_ros.training.config import VideoConfig
from pose2rgbd_ros.training.evaluators import SAMPLE_FRAMES, Evaluator, depth_to_rgb, write_samples
from pose2rgbd_ros.training.families import ViewsDepth, depth_of_snippets
from pose2rgbd_ros.training.learner import Learner
from pose2rgbd_ros.training.metrics import batches, spread

logger = logging.getLogger(__name__)

BATCH = 8  # snippets judged together


@dataclass
class VideoData:
    """What a run learns from video: a :class:`RunData`.

    Where true depth is known it judges; only families that are supervised learn from it.
    """

    snippets: SnippetData
    sources: list[Path]
    max_depth: float | None = None  # farther does not count
    supervised: bool = False

    @property
    def split(self) -> Split:
        return self.snippets.split

    @property
    def depth_unit(self) -> str:
        return "(relative)"

    def source(self) -> dict[str, Any]:
        return {"sources": [str(path) for path in self.sources]}

    def for_training(self) -> SnippetData:
        return self.snippets.for_training(self.supervised)

    def check_continues(self, before: StoredModel, out: Path) -> None:
        train = self.split.train
        same = isinstance(before, VideoCheckpoint) and (
            np.array_equal(self.snippets.stamps_ns[train], before.training_stamps_ns)
            and np.array_equal(self.snippets.sequence[train], before.training_sequence)
        )
        if not same:
            raise UserError(
                f"the frames of {', '.join(map(str, self.sources))} are not those {out} was started with; train anew "
                "with another --out"
            )

    def provenance(self, config: VideoConfig) -> dict[str, Any]:
        split = self.split
        return {
            "sources": [path.resolve().name for path in self.sources],
            "frames": {
                "all": len(self.snippets.stamps_ns),
                "train": len(split.train),
                "choose": len(split.choose),
                "judge": len(split.judge),
            },
            "snippet": {"frames": self.snippets.frames, "stride": self.snippets.stride},
            "intrinsics": {each.name: each.camera_from for each in self.snippets.sequences},
        }

    def checkpoint(self, **common: Any) -> VideoCheckpoint:
        snippets, split = self.snippets, self.split
        return VideoCheckpoint(
            **common,
            camera=snippets.camera,
            depth_kind="relative",
            sequences=[sequence.name for sequence in snippets.sequences],
            training_stamps_ns=snippets.stamps_ns[split.train],
            training_sequence=snippets.sequence[split.train],
            choosing_stamps_ns=snippets.stamps_ns[split.choose],
            choosing_sequence=snippets.sequence[split.choose],
        )

    def named_batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        batch = self.snippets.batch(indices)
        stamps_ns, sequence = (
            torch.from_numpy(of[indices]) for of in (self.snippets.stamps_ns, self.snippets.sequence)
        )
        return {"stamps_ns": stamps_ns, "sequence": sequence, "images": batch.images, "K": batch.K}

    def depth(self, indices: np.ndarray) -> np.ndarray | None:
        """True depth (B, H, W) of frames, NaN unknown or beyond `max_depth`; None where no sequence knows any."""
        depth = self.snippets.depth(indices)
        if depth is not None and self.max_depth is not None:
            depth = np.where(depth <= self.max_depth, depth, np.nan).astype(np.float32)
        return depth


class VideoLearner(Learner):
    """A learner of snippets, whose network is a VideoModel.

    What it draws at random, augmentation first of all, it draws from PyTorch's generator, which begins every step
    anew: a resumed run draws alike.
    """

    def __init__(
        self, config: VideoConfig, data: SnippetData, device: torch.device, augmentation: Augmentation | None = None
    ) -> None:
        """`augmentation`: SfMLearner's where none is given; `config.augment` says whether there is any."""
        super().__init__()
        self._data, self._device, self._seed = data, device, config.seed
        self._augmentation = (augmentation or Augmentation()) if config.augment else False
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.steps: Tensor

    def losses(self, network: nn.Module, indices: np.ndarray, share: float) -> Iterator[Tensor]:
        torch.manual_seed(int(np.random.SeedSequence([self._seed, int(self.steps)]).generate_state(1)[0]))
        self.steps += 1
        yield self.loss(network, indices, share)

    def batch(self, indices: np.ndarray) -> SnippetBatch:
        """Snippets to learn from, changed at random where the settings want it, on the learner's device."""
        return on_device(self._data.batch(indices, self._augmentation), self._device)

    def judge(self, data: VideoData, device: torch.device) -> Evaluator:
        return VideoEvaluator(data, device)


def on_device(batch: SnippetBatch, device: torch.device) -> SnippetBatch:
    """The same snippets where they are computed with."""
    depth, T_tgt_i = (None if each is None else each.to(device) for each in (batch.depth, batch.T_tgt_i))
    return SnippetBatch(batch.images.to(device), batch.K.to(device), batch.target, depth, T_tgt_i)


class DepthScores:
    """AbsRel and a1 of depth in no unit, each image scaled by the ratio of medians (Zhou et al. 2017, section 4.1).

    `variation` compares, from frame to frame, how much predicted and true depth vary, each over its image's median.
    """

    def __init__(self) -> None:
        self._each: list[dict[str, float]] = []
        self._shapes = metrics.Scores()

    def add(self, depth: np.ndarray, truth: np.ndarray) -> None:
        """One batch, both (B, H, W); NaN is unknown."""
        both = np.isfinite(depth) & (depth > 0) & np.isfinite(truth) & (truth > 0)
        shapes = []
        for predicted, true, known in zip(depth, truth, both, strict=True):
            if known.any():
                predicted, true = (np.where(known, each, np.nan) for each in (predicted, true))
                predicted, true = predicted / np.nanmedian(predicted), true / np.nanmedian(true)
                self._each.append(depth_errors(predicted, true))
                shapes.append((predicted, true))
        if shapes:
            predicted, true = (torch.from_numpy(np.stack(each)).double() for each in zip(*shapes, strict=True))
            self._shapes.add(None, None, predicted, true)

    def result(self) -> dict[str, float]:
        """Means over the images of which anything is known."""
        if not self._each:
            return {"abs_rel": float("nan"), "a1": float("nan"), "variation": float("nan")}
        means = {name: float(np.mean([each[name] for each in self._each])) for name in ("abs_rel", "a1")}
        return {**means, "variation": self._shapes.result()["variation"]}


class VideoEvaluator:
    """Of models of video: depth against the truth where that is known, else how well neighbouring images explain each
    other by the model's depth and motion."""

    def __init__(self, data: VideoData, device: torch.device) -> None:
        self._data, self._device = data, device
        self._mean_depth: np.ndarray | None = None
        self.has_truth = data.depth(data.split.train[:1]) is not None
        self.compared_with = "mean_depth" if self.has_truth else "no_motion"

    @torch.inference_mode()
    def scores(self, model: nn.Module, indices: np.ndarray) -> dict[str, float]:
        """AbsRel and a1 after scaling by medians, with `variation`; or `photometric`."""
        network: Any = model
        was_training = model.training
        model.eval()
        try:
            if not self.has_truth:
                return self._photometric(network, indices)
            scores = DepthScores()
            for chunk in batches(indices, BATCH):
                batch = self._batch(chunk)
                self._add(scores, self.depth_of(network, batch).depth.cpu().numpy(), chunk)
            return scores.result()
        finally:
            model.train(was_training)

    def baseline(self, indices: np.ndarray) -> dict[str, float]:
        """Of the mean depth of every pixel of the training frames; or of a camera that stands still."""
        if not self.has_truth:
            return self._photometric(None, indices)
        if self._mean_depth is None:
            self._mean_depth = self._mean_of(self._data.split.train)
        scores = DepthScores()
        for chunk in batches(indices, BATCH):
            self._add(scores, np.broadcast_to(self._mean_depth, (len(chunk), *self._mean_depth.shape)), chunk)
        return {**scores.result(), "variation": 0.0}

    def value(self, scores: dict[str, float], baseline: dict[str, float]) -> float:
        name = "abs_rel" if self.has_truth else "photometric"
        return scores[name] / baseline[name] if baseline.get(name, 0.0) > 0 else scores[name]

    def describe(self, scores: dict[str, float], baseline: dict[str, float]) -> str:
        if "abs_rel" in scores:
            beside = f" (mean depth {baseline['abs_rel']:.3g})" if "abs_rel" in baseline else ""
            return f"AbsRel {scores['abs_rel']:.3f}{beside}  a1 {scores['a1']:.2f}"
        if "photometric" in scores:
            beside = f" (without motion {baseline['photometric']:.3g})" if "photometric" in baseline else ""
            return f"photometric {scores['photometric']:.4f}{beside}"
        return ""

    @torch.inference_mode()
    def draw(self, model: nn.Module, indices: np.ndarray, path: Path) -> None:
        """Images, the model's depth of them, and the truth where known."""
        network: Any = model
        was_training = model.training
        model.eval()
        chosen = spread(indices, SAMPLE_FRAMES)
        batch = self._batch(chosen)
        images = batch.images[:, batch.target]
        depth = self.depth_of(network, batch).depth.cpu().numpy()
        model.train(was_training)
        truth = self._data.depth(chosen)
        rows = [[np.rint(255 * image.permute(1, 2, 0).cpu().numpy()).astype(np.uint8) for image in images]]
        rows.append([depth_picture(each) for each in depth])
        if truth is not None:
            rows.append([depth_picture(each) for each in truth])
        write_samples(path, rows)

    def depth_of(self, network: Any, batch: SnippetBatch) -> ViewsDepth:
        """What the model says of snippets, from images alone."""
        return depth_of_snippets(network, batch.images, batch.K)

    def _batch(self, indices: np.ndarray) -> SnippetBatch:
        return on_device(self._data.snippets.batch(indices), self._device)

    def _add(self, scores: DepthScores, depth: np.ndarray, indices: np.ndarray) -> None:
        truth = self._data.depth(indices)
        assert truth is not None
        scores.add(depth, truth)

    def _mean_of(self, indices: np.ndarray) -> np.ndarray:
        total: Any = 0.0
        count: Any = 0
        for chunk in batches(indices, BATCH):
            truth = self._data.depth(chunk)
            assert truth is not None
            known = np.isfinite(truth)
            total, count = total + np.where(known, truth, 0.0).sum(axis=0), count + known.sum(axis=0)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)

    def _photometric(self, network: Any, indices: np.ndarray) -> dict[str, float]:
        """Mean absolute difference in 0..1 of images and their neighbours, looked up by depth and motion; without a
        network as they are. What leaves the neighbour's image counts as if nothing had moved."""
        errors = []
        for chunk in batches(indices, BATCH):
            batch = self._batch(chunk)
            images, K, target = batch.images, batch.K, batch.target
            wanted = images[:, target]
            others = [i for i in range(images.shape[1]) if i != target]
            still = torch.stack([(images[:, i] - wanted).abs().mean(dim=1) for i in others])
            if network is not None:
                depth, _, T_tgt_i = self.depth_of(network, batch)
                T_tgt_i = network.motions(images, K) if T_tgt_i is None else T_tgt_i
                for at, i in enumerate(others):
                    warped = inverse_warp(images[:, i], depth, torch.linalg.inv(T_tgt_i[:, i]), K)
                    moved = (warped.image - wanted).abs().mean(dim=1)
                    still[at] = torch.where(warped.valid, moved, still[at])
            errors.append(still.mean(dim=(0, 2, 3)))
        return {"photometric": float(torch.cat(errors).double().mean()), "variation": float("nan")}


def depth_picture(depth: np.ndarray) -> np.ndarray:
    """Depth (H, W) of any unit as colours (H, W, 3) uint8 of its inverse: near red, far blue, unknown dark grey."""
    with np.errstate(divide="ignore"):
        inverse = np.where(depth > 0, 1.0 / depth, np.nan)
    known = inverse[np.isfinite(inverse)]
    far, near = np.percentile(known, [2, 98]) if known.size else (0.0, 1.0)
    return depth_to_rgb(-inverse, -near, -far)


def open_video_data(sources: Sequence[Path], config: VideoConfig) -> VideoData:
    """Open sources of video for a run.

    UserError: no such source, too few frames for a snippet, a split that is not there.
    """
    from pose2rgbd_ros.formats.sequences import open_sequences

    sequences = [each for path in sources for each in open_sequences(path, config.hfov_deg)]
    size = image_size(sequences[0].camera, config)
    snippets = SnippetData.of(
        sequences, size, config.frames, config.stride, config.split, config.test_fraction, config.seed
    )
    if config.supervised:
        snippets = snippets.with_truth()
    for note in [*snippets.notes, *check_parallax(snippets)]:
        logger.warning("%s", note)
    return VideoData(snippets.without_judges(), list(sources), config.max_depth, config.supervised)


def image_size(camera: Camera, config: VideoConfig) -> tuple[int, int]:
    """Height and width of the images learnt from: in the camera's shape, a multiple of 32, unless they are given."""
    width = config.image_width
    height = config.image_height or max(32, 32 * round(width * camera.height / camera.width / 32))
    return height, width
