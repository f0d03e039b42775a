"""The paper's measures (mean absolute error in levels of 0..255, and in metres of depth) with PSNR and SSIM beside
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from pose2rgbd_ros.training.data import TrainingData, mean_image
from pose2rgbd_ros.training.families import RenderTensors


def rgb_mae_px(rgb: Tensor, truth: Tensor) -> Tensor:
    """(B,) mean absolute error of each image in 0..255; both (B, 3, H, W) in [0, 1]."""
    return (rgb - truth).abs().mean(dim=(1, 2, 3)) * 255.0


def depth_mae(depth: Tensor, truth: Tensor) -> Tensor:
    """(B,) mean absolute error of each depth image (B, H, W) in its own unit where both are known; NaN: nowhere."""
    known = torch.isfinite(truth) & torch.isfinite(depth)
    error = torch.where(known, (depth - truth).abs(), 0.0)
    return error.sum(dim=(1, 2)) / known.sum(dim=(1, 2))


def depth_known(depth: Tensor, truth: Tensor) -> Tensor:
    """(B,) share of the pixels of known true depth for which a depth is given; NaN where none is known."""
    known = torch.isfinite(truth)
    return (known & torch.isfinite(depth)).sum(dim=(1, 2)) / known.sum(dim=(1, 2))


def psnr_db(rgb: Tensor, truth: Tensor) -> Tensor:
    """(B,) peak signal-to-noise ratio of each image in decibels, at most 100."""
    each = [peak_signal_noise_ratio(a, b, data_range=1.0) for a, b in zip(rgb, truth, strict=True)]
    return torch.stack(each).clamp(max=100.0)


def ssim(rgb: Tensor, truth: Tensor) -> Tensor:
    """(B,) structural similarity (Wang et al. 2004, 11 x 11 Gaussian window) of each image."""
    value = structural_similarity_index_measure(rgb, truth, data_range=1.0, reduction="none")
    return torch.as_tensor(value).reshape(-1)


class Scores:
    """Collects the measures of predictions batch by batch.

    Besides the errors it watches how much the pictures vary from frame to frame, against how much the truth does:
    a network that collapsed to one mean image answers every pose alike, and its `variation` is near 0.
    """

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}
        self._moments: dict[str, list[Tensor]] = {}

    def add(
        self, rgb: Tensor | None, rgb_truth: Tensor | None, depth: Tensor | None, depth_truth: Tensor | None
    ) -> None:
        """One batch: colour (B, 3, H, W) in [0, 1], depth (B, H, W) in the dataset's unit with NaN unknown."""
        if rgb is not None and rgb_truth is not None:
            self._collect("rgb_mae_px", rgb_mae_px(rgb, rgb_truth))
            self._collect("psnr_db", psnr_db(rgb, rgb_truth))
            self._collect("ssim", ssim(rgb, rgb_truth))
            self._vary("rgb", rgb, rgb_truth)
        if depth is not None and depth_truth is not None:
            self._collect("depth_mae", depth_mae(depth, depth_truth))
            self._collect("depth_known", depth_known(depth, depth_truth))
            self._vary("depth", depth, depth_truth)

    def result(self) -> dict[str, float]:
        """Means over the frames (those without any known depth are left out of `depth_mae`)."""
        means = {}
        for name, values in self._values.items():
            joined = torch.cat(values)
            finite = joined[torch.isfinite(joined)]
            means[name] = float(finite.mean()) if len(finite) else float("nan")
        means["variation"] = min((self._variation(name) for name in self._moments), default=float("nan"))
        return means

    def per_frame(self) -> dict[str, np.ndarray]:
        """Each measure of each frame, in the order they were added."""
        return {name: torch.cat(values).numpy() for name, values in self._values.items()}

    def _collect(self, name: str, values: Tensor) -> None:
        self._values.setdefault(name, []).append(values.detach().double().cpu())

    def _vary(self, name: str, predicted: Tensor, truth: Tensor) -> None:
        known = torch.isfinite(predicted) & torch.isfinite(truth)
        values = [torch.where(known, image, 0.0).double() for image in (predicted, truth)]
        moments = [known.sum(dim=0), *(m.sum(dim=0) for x in values for m in (x, x.square()))]
        before = self._moments.get(name)
        self._moments[name] = moments if before is None else [a + b for a, b in zip(before, moments, strict=True)]

    def _variation(self, name: str) -> float:
        """Standard deviation over the frames that know a pixel, averaged over the pixels: predicted / true."""
        n, p, pp, t, tt = (moment[self._moments[name][0] > 0] for moment in self._moments[name])
        predicted = (pp / n - (p / n).square()).clamp(min=0).sqrt().mean()
        true = (tt / n - (t / n).square()).clamp(min=0).sqrt().mean()
        return float(predicted / true) if true > 0 else float("nan")


COLLAPSED_BELOW = 0.15  # variation; honest networks stay above a half, a collapsed one below a tenth


def is_collapsed(scores: dict[str, float]) -> bool:
    """Whether the network answers (nearly) the same image whatever the pose."""
    variation = scores.get("variation", float("nan"))
    return bool(np.isfinite(variation) and variation < COLLAPSED_BELOW)


def relative_score(scores: dict[str, float], baseline: dict[str, float]) -> float:
    """Error as a share of the baseline's, averaged over colour and depth: 1 as good as it, 0 perfect."""
    shares = [
        scores[name] / baseline[name]
        for name in ("rgb_mae_px", "depth_mae")
        if name in scores and np.isfinite(scores[name]) and baseline.get(name, 0.0) > 0
    ]
    return float(np.mean(shares)) if shares else float("nan")


def describe(scores: dict[str, float], baseline: dict[str, float] | None = None, depth_unit: str = "m") -> str:
    """One line for people: "RGB 18.21 of 255 (mean image 39.90)  depth 2.41 m (6.71)  PSNR 17.2  SSIM 0.52"."""
    baseline = baseline or {}
    parts = []
    for name, label, unit in (("rgb_mae_px", "RGB", "of 255"), ("depth_mae", "depth", depth_unit)):
        if name in scores:
            beside = f" (mean image {baseline[name]:.3g})" if name in baseline else ""
            parts.append(f"{label} {scores[name]:.2f} {unit}{beside}")
    if "psnr_db" in scores:
        parts.append(f"PSNR {scores['psnr_db']:.1f}  SSIM {scores['ssim']:.2f}")
    return "  ".join(parts)


# How good the network is on frames it was not trained on, and how good the mean image is there.


BATCH = 16


def batches(indices: np.ndarray, size: int = BATCH) -> Iterator[np.ndarray]:
    """The indices in order, at most `size` at a time."""
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


@torch.inference_mode()
def pictures_of(
    model: nn.Module, data: TrainingData, indices: np.ndarray, device: torch.device | None = None
) -> RenderTensors:
    """What the model shows at the poses of the frames `indices`, through the cache's camera."""
    T_map_cam = torch.from_numpy(data.T_map_cam[indices]).to(device)
    network: Any = model
    pictures: RenderTensors = network.pictures(T_map_cam, data.cache.camera, data.normalization)
    return pictures


@torch.inference_mode()
def poses_of(
    model: nn.Module, data: TrainingData, indices: np.ndarray, device: torch.device | None = None
) -> np.ndarray:
    """The poses (N, 4, 4) that a PoseModel reads from the frames `indices`; its training mode is restored."""
    was_training = model.training
    model.eval()
    network: Any = model
    found = []
    for chunk in batches(indices):
        rgb, _ = data.truth(chunk, device)
        found.append(network.poses(rgb, data.normalization).T_map_cam.cpu().numpy())
    model.train(was_training)
    return np.concatenate(found)


@torch.inference_mode()
def validate(
    model: nn.Module, data: TrainingData, indices: np.ndarray, device: torch.device | None = None
) -> dict[str, float]:
    """Mean measures over the frames `indices` (see metrics.py); the model's training mode is restored."""
    was_training = model.training
    model.eval()
    scores = Scores()
    for chunk in batches(indices):
        shown = pictures_of(model, data, chunk, device)
        scores.add(shown.rgb, *_paired(data, chunk, device, shown.depth))
    model.train(was_training)
    return scores.result()


@torch.inference_mode()
def validate_mean_image(data: TrainingData, indices: np.ndarray) -> dict[str, float]:
    """The same measures of the mean training image."""
    rgb_mean, depth_mean = mean_image(data.cache, data.split.train, data.max_depth)
    rgb = torch.from_numpy(rgb_mean / 255.0).float().permute(2, 0, 1)
    scores = Scores()
    for chunk in batches(indices):
        depth = None
        if depth_mean is not None:
            depth = torch.from_numpy(depth_mean).float().expand(len(chunk), -1, -1)
        scores.add(rgb.expand(len(chunk), -1, -1, -1), *_paired(data, chunk, None, depth))
    result = scores.result()
    result["variation"] = 0.0
    return result


def spread(indices: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the indices, evenly spaced."""
    if len(indices) <= most:
        return indices
    return indices[np.linspace(0, len(indices) - 1, most).round().astype(int)]


def _paired(
    data: TrainingData, chunk: np.ndarray, device: torch.device | None, depth: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """True colour, predicted depth, true depth: the tail of the arguments of ``Scores.add``."""
    rgb_truth, depth_truth = data.truth(chunk, device)
    return rgb_truth, depth, depth_truth
