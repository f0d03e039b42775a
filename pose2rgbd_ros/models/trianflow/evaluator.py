"""What a run in stages is judged by: flow while nothing else is learnt, then depth; and pictures of the masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pose2rgbd_ros.depth_from_images.epipolar import EpipolarSettings
from pose2rgbd_ros.depth_from_images.optical_flow import seen_in_both, warp_by_flow
from pose2rgbd_ros.depth_from_images.triangulation import LEAST_COSINE, pixel_grid, ray_cosine
from pose2rgbd_ros.models.trianflow.config import Stage
from pose2rgbd_ros.models.trianflow.losses import pair_geometry
from pose2rgbd_ros.training.evaluators import SAMPLE_FRAMES, write_samples
from pose2rgbd_ros.training.metrics import batches, spread
from pose2rgbd_ros.training.video import BATCH, VideoData, VideoEvaluator

FLOW_ONLY = 1e3  # added to what flow is worth: any depth that was learnt is better
FLOW = "flow_photometric"  # mean absolute difference in 0..1 of images and the other of the pair looked up by flow


class StagedEvaluator(VideoEvaluator):
    """As of all models of video, but for the stage in which flow is learnt: how well it explains one image of a pair by
    the other, beside images as they are."""

    def __init__(
        self, data: VideoData, device: torch.device, stage: Callable[[], Stage], two_views: EpipolarSettings
    ) -> None:
        """stage: what the run has come to. two_views: how it finds motions, whose masks are drawn."""
        super().__init__(data, device)
        self._stage, self._two_views = stage, two_views

    @torch.inference_mode()
    def scores(self, model: nn.Module, indices: np.ndarray) -> dict[str, float]:
        """Those of depth, which are NaN in the stage of flow, and where there is flow `flow_photometric`."""
        only_flow = self._stage() == "flow"
        names = (*(("abs_rel", "a1") if self.has_truth else ("photometric",)), "variation")
        scores = dict.fromkeys(names, float("nan")) if only_flow else super().scores(model, indices)
        network: Any = model
        if network.flow is None:
            return scores
        was_training = model.training
        model.eval()
        try:
            return {**scores, FLOW: self._flow(network, indices)}
        finally:
            model.train(was_training)

    @torch.inference_mode()
    def baseline(self, indices: np.ndarray) -> dict[str, float]:
        """Of the mean depth of every pixel or a camera that stands still; and of no flow."""
        return {**super().baseline(indices), FLOW: self._flow(None, indices)}

    def value(self, scores: dict[str, float], baseline: dict[str, float]) -> float:
        if not _is_flow_only(scores):
            return super().value(scores, baseline)
        return FLOW_ONLY + scores[FLOW] / max(baseline.get(FLOW, 1.0), 1e-9)

    def describe(self, scores: dict[str, float], baseline: dict[str, float]) -> str:
        if not _is_flow_only(scores):
            return super().describe(scores, baseline)
        beside = f" (without {baseline[FLOW]:.3g})" if FLOW in baseline else ""
        return f"flow: images differ by {scores[FLOW]:.4f}{beside}"

    def draw(self, model: nn.Module, indices: np.ndarray, path: Path) -> None:
        """Images and depth, and where there is flow, in PATH-masks.png what it masks."""
        super().draw(model, indices, path)
        network: Any = model
        if network.flow is not None:
            was_training = model.training
            model.eval()
            rows = self._masks(network, spread(indices, SAMPLE_FRAMES))
            model.train(was_training)
            write_samples(path.with_name(f"{path.stem}-masks.png"), rows)

    @torch.inference_mode()
    def _masks(self, network: Any, indices: np.ndarray) -> list[list[np.ndarray]]:
        """Rows of pictures after the supplement's Figures 3 and 4: images, occlusion mask, inlier map (all that is
        rigid, brighter on its epipolar line), angle mask (white: small angles between rays, or behind a camera)."""
        images, K, *_ = self._batch(indices)
        one, two = images.unbind(1)
        (there, *_), (back, *_) = network.flows(one, two)
        geometry = pair_geometry(there, back, K, self._two_views, torch.Generator().manual_seed(0))
        first = pixel_grid(there).flatten(0, 1).expand(len(there), -1, 2)
        second = first + there.flatten(2).mT
        T_2_1 = geometry.pose.T_second_first
        cosine = ray_cosine(first, second, K, T_2_1).unflatten(1, there.shape[-2:])
        small = (cosine < LEAST_COSINE) & geometry.pose.found[:, None, None]
        rigid = (geometry.distance < self._two_views.rigid_px) / (1 + geometry.distance)
        shown = [(255 * one).movedim(1, -1), *(255 * each[..., None].expand(*each.shape, 3)
                 for each in (seen_in_both(back), rigid, small.float()))]  # fmt: skip
        return [list(row.round().to(torch.uint8).cpu().numpy()) for row in shown]

    def _flow(self, network: Any, indices: np.ndarray) -> float:
        """`flow_photometric`; without a network of no flow."""
        errors = []
        for chunk in batches(indices, BATCH):
            one, two = self._batch(chunk).images.unbind(1)
            seen = two if network is None else warp_by_flow(two, network.flows(one, two)[0][0])
            errors.append((seen - one).abs().mean(dim=(1, 2, 3)))
        return float(torch.cat(errors).double().mean())


def _is_flow_only(scores: dict[str, float]) -> bool:
    """Whether depth has not been looked at."""
    depth = [scores[name] for name in ("abs_rel", "photometric") if name in scores]
    return FLOW in scores and not np.isfinite(depth).any()
