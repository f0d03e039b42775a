"""What a training of DeepV2D is judged by: while motion alone is learnt how far it puts points, then depth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pose2rgbd_ros.depth_from_images import rigid
from pose2rgbd_ros.depth_from_images.gauss_newton import reprojected
from pose2rgbd_ros.depth_from_images.snippets import SnippetBatch
from pose2rgbd_ros.models.deepv2d.alternation import resized
from pose2rgbd_ros.models.deepv2d.config import Stage
from pose2rgbd_ros.training.evaluators import SAMPLE_FRAMES, write_samples
from pose2rgbd_ros.training.metrics import batches, spread
from pose2rgbd_ros.training.video import BATCH, DepthScores, VideoData, VideoEvaluator, depth_picture, on_device

MOTION_ONLY = 1e3  # added to what motion is worth: any depth that was learnt is better
MOTION = "motion_px"  # median distance in pixels of the image at which motion puts points from where they lie


class DeepV2DEvaluator(VideoEvaluator):
    """AbsRel of depth from images alone, which chooses, and with the true motions; and what motions found are worth by
    true depth: in the stage of motion they alone."""

    def __init__(self, data: VideoData, device: torch.device, stage: Callable[[], Stage]) -> None:
        """stage: what the run has come to."""
        super().__init__(data, device)
        self._stage = stage
        self._supervised = data.snippets.for_judging()

    def _batch(self, indices: np.ndarray) -> SnippetBatch:
        return on_device(self._supervised.batch(indices), self._device)

    @torch.inference_mode()
    def scores(self, model: nn.Module, indices: np.ndarray) -> dict[str, float]:
        """Those of depth, NaN in the stage of motion, `abs_rel_known` with the true motions, and `motion_px`."""
        network: Any = model
        only_motion = self._stage() == "motion"
        was_training = model.training
        model.eval()
        found, known, px = DepthScores(), DepthScores(), list[np.ndarray]()
        try:
            for chunk in batches(indices, BATCH):
                batch = self._batch(chunk)
                px.append(motion_px(network, batch))
                if not only_motion:
                    self._add(found, self.depth_of(network, batch).depth.cpu().numpy(), chunk)
                    by_truth = network.from_views(batch.images, batch.K, batch.T_tgt_i)
                    self._add(known, by_truth.depth.cpu().numpy(), chunk)
        finally:
            model.train(was_training)
        return {
            **found.result(),
            "abs_rel_known": known.result()["abs_rel"],
            MOTION: float(np.median(np.concatenate(px))),
        }

    @torch.inference_mode()
    def baseline(self, indices: np.ndarray) -> dict[str, float]:
        """Of the mean depth of every pixel, and of a camera that stands still."""
        px = [motion_px(None, self._batch(chunk)) for chunk in batches(indices, BATCH)]
        return {**super().baseline(indices), MOTION: float(np.median(np.concatenate(px)))}

    def value(self, scores: dict[str, float], baseline: dict[str, float]) -> float:
        if np.isfinite(scores["abs_rel"]):
            return super().value(scores, baseline)
        return MOTION_ONLY + scores[MOTION] / max(baseline.get(MOTION, 1.0), 1e-9)

    def describe(self, scores: dict[str, float], baseline: dict[str, float]) -> str:
        if MOTION not in scores:
            return ""
        beside = f" (standing still {baseline[MOTION]:.2f})" if MOTION in baseline else ""
        motion = f"motion off by {scores[MOTION]:.2f} px{beside}"
        if not np.isfinite(scores["abs_rel"]):
            return motion
        return f"{super().describe(scores, baseline)}  with true motions {scores['abs_rel_known']:.3f}  {motion}"

    @torch.inference_mode()
    def draw(self, model: nn.Module, indices: np.ndarray, path: Path) -> None:
        """Images, depth from them alone, depth with the true motions, the truth, and the weights of the motion module
        (Figure 6; red: horizontal, green: vertical)."""
        network: Any = model
        was_training = model.training
        model.eval()
        chosen = spread(indices, SAMPLE_FRAMES)
        batch = self._batch(chosen)
        rows = rows_of(network, batch)
        model.train(was_training)
        write_samples(path, rows)


@torch.inference_mode()
def motion_px(network: Any, batch: SnippetBatch) -> np.ndarray:
    """Distances (M,) in pixels by motions from true depth, begun with those at sight; without a network, of none."""
    assert batch.depth is not None
    assert batch.T_tgt_i is not None
    T = torch.eye(4, device=batch.K.device).expand_as(batch.T_tgt_i)
    if network is not None:
        unit_m = network.config.unit_m
        first = network.initial_motions(batch.images, batch.K)
        steps = network.motion(batch.images, batch.K, batch.depth / unit_m, first, network.config.residual_steps)
        T = resized(steps.T_tgt_i[-1], unit_m)
    others = [i for i in range(T.shape[1]) if i != batch.target]
    depth, K = (each.repeat_interleave(len(others), dim=0) for each in (batch.depth, batch.K))
    found, true = (reprojected(depth, K, rigid.inverse(each[:, others].flatten(0, 1))) for each in (T, batch.T_tgt_i))
    apart = (found.pixels - true.pixels).norm(dim=-1)
    return np.asarray(apart[found.valid & true.valid].cpu().numpy())


def rows_of(network: Any, batch: SnippetBatch) -> list[list[np.ndarray]]:
    """Rows of pictures of a batch with its truth; see :meth:`DeepV2DEvaluator.draw`."""
    images = batch.images[:, batch.target]
    found = network.from_views(batch.images, batch.K)
    known = network.from_views(batch.images, batch.K, batch.T_tgt_i)
    assert batch.depth is not None
    rows = [[np.rint(255 * image.permute(1, 2, 0).cpu().numpy()).astype(np.uint8) for image in images]]
    rows += [[depth_picture(each) for each in depth.cpu().numpy()] for depth in (found.depth, known.depth, batch.depth)]
    unit_m = network.config.unit_m
    steps = network.motion(batch.images, batch.K, known.depth / unit_m, resized(known.T_tgt_i, 1 / unit_m), 1)
    if steps.weights:
        shown = steps.weights[-1][:, 0].cpu().numpy()
        tiles = np.concatenate([shown, np.zeros_like(shown[..., :1])], axis=-1)
        size = images.shape[-2] // tiles.shape[1], images.shape[-1] // tiles.shape[2]
        rows.append([np.rint(255 * tile.repeat(size[0], 0).repeat(size[1], 1)).astype(np.uint8) for tile in tiles])
    return rows
