"""How DeepV2D learns from true depth and poses: motion by true depth, then both by each other (section 3.4).

In the papers the motion module is given the depth that was found when a snippet was met last; here it is found anew,
from the motions that the step begins with, so that nothing has to be kept for a run to go on alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.depth_from_images import rigid
from pose2rgbd_ros.depth_from_images.gauss_newton import Reprojection, reprojected
from pose2rgbd_ros.depth_from_images.snippets import Augmentation, SnippetBatch, SnippetData, around, target_of
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.deepv2d.alternation import resized
from pose2rgbd_ros.models.deepv2d.config import DeepV2DConfig, Losses, Settings, Stage
from pose2rgbd_ros.models.deepv2d.evaluator import DeepV2DEvaluator
from pose2rgbd_ros.models.deepv2d.layers import STRIDE, quarter_intrinsics
from pose2rgbd_ros.models.deepv2d.network import DeepV2D, MotionSteps
from pose2rgbd_ros.training.config import Recipe
from pose2rgbd_ros.training.evaluators import Evaluator
from pose2rgbd_ros.training.video import VideoData, VideoLearner

MOST_PX = 100.0  # more than this counts as much
FALL, FALL_UNTIL = 0.02, 0.8  # true depth is given with the probability 2 * FALL^(share / FALL_UNTIL) of a stage
REMEMBERED = 0.95  # share of the past in how good motions are
LOOKED_AT = 64  # frames whose true depth says how far the planes reach
NEAREST, FARTHEST = 0.5, 99.5  # percentiles of it
FAR = 8.0  # units to the farthest plane, as on KITTI


class DeepV2DLearner(VideoLearner):
    """Motions of snippets by true depth, then depth by motions and motions by depth."""

    model: DeepV2D
    stage_number: Tensor
    motion_error: Tensor

    def __init__(self, config: Settings, data: SnippetData, device: torch.device) -> None:
        filled = config.filled
        super().__init__(config, data, device, Augmentation(filled["zoom"], filled["flip"]))
        self._chosen, self._filled, self._losses = config, filled, config.filled_losses
        self._recolours = config.augment
        near_m, far_m, typical_m = _depths_of(data, config.max_depth)
        near_m, far_m = filled["near_m"] or near_m, filled["far_m"] or far_m
        if not near_m < far_m:
            raise UserError(f"planes from {near_m:g} to {far_m:g} m; --near-m must be less than --far-m")
        unit_m = filled["unit_m"] or far_m / FAR
        self.model = DeepV2D(
            DeepV2DConfig(
                image_size=data.size,
                width=filled["width"],
                views=data.frames,
                depths=config.depths,
                min_depth=near_m / unit_m,
                max_depth=far_m / unit_m,
                unit_m=unit_m,
                typical_depth=typical_m / unit_m,
                stereo=config.stereo,
                se3=config.se3,
                residual_steps=config.residual_steps,
                iterations=config.iterations,
                **filled["layers"],
            )
        )
        self.register_buffer("stage_number", torch.zeros((), dtype=torch.int64))
        # Of motions found lately, as a share of that of cameras that stand still: above 1 they are worth nothing.
        self.register_buffer("motion_error", torch.ones(()))
        self._latest: dict[str, Tensor] = {}

    @property
    def stage(self) -> Stage:
        """The stage of the latest step, also in a run that goes on."""
        return list(self._chosen.shares)[int(self.stage_number)]

    def stage_at(self, share: float) -> tuple[Stage, float]:
        """The stage at a share of the run, and how much of the stage is done."""
        start = 0.0
        for stage, part in self._chosen.shares.items():
            if share < start + part:
                return stage, (share - start) / part
            start += part
        return stage, 1.0

    def schedule_share(self, share: float) -> float:
        """Each stage has the learning rate's schedule to itself."""
        return self.stage_at(share)[1]

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        """What finds motions has a rate of its own."""
        stereo = {id(parameter) for parameter in self.model.stereo_module.parameters()}
        groups: list[dict[str, Any]] = [{"params": [], "factor": self._filled["motion_rate"]}, {"params": []}]
        for parameter in self.parameters():
            groups[id(parameter) in stereo]["params"].append(parameter)
        return groups

    def loss(self, network: nn.Module, indices: np.ndarray, share: float) -> Tensor:
        """See :class:`Learner`. Eq. 15, in the joint stage with Eqs. 11 and 12."""
        stage, done = self.stage_at(share)
        names = list(self._chosen.shares)
        self.stage_number.fill_(names.index(stage))
        indices = indices[: self._filled["batches"][stage == "joint"]]
        batch = self._drawn(self._in_units(self.batch(indices)))
        images = recoloured(batch.images) if self._recolours else batch.images
        truth, T_tgt_i = batch.depth, batch.T_tgt_i
        assert truth is not None
        assert T_tgt_i is not None
        filled = nearest_filled(truth)
        given = stage == "motion" or float(torch.rand(())) < 2 * FALL ** (done / FALL_UNTIL)
        own = float(torch.rand(())) < self._filled["own_start"]
        true_motions = float(torch.rand(())) < self._filled["true_motions"]
        if self._filled["true_motions"] > 0 and self.motion_error >= 1:
            true_motions = True  # views put wrong would teach depth to look at none
        out = network(
            images,
            batch.K,
            None if own else self._disturbed(T_tgt_i, batch.target),
            filled if given else None,
            T_tgt_i if true_motions else None,
            stage == "joint",
        )
        geometry = (quarter(filled), quarter_intrinsics(batch.K), T_tgt_i, batch.target)
        loss, parts = motion_loss(out.steps, *geometry, self._losses)
        sight = reprojection(out.T_first, *geometry, self._losses)
        loss, parts = loss + sight, {**parts, "sight": sight}
        with torch.no_grad():
            still = torch.eye(4, device=truth.device).expand_as(T_tgt_i)
            off, usual = (reprojection(T, *geometry, self._losses) for T in (out.steps.T_tgt_i[-1], still))
            self.motion_error.lerp_((off / usual.clamp(min=1e-6)).clamp(max=MOST_PX), 1 - REMEMBERED)
        if stage == "joint":
            depth = depth_loss(out.depths, truth, self._losses)
            loss, parts = loss + depth, {**parts, "depth": depth}
        self._latest = {name: value.detach() for name, value in parts.items()}
        return loss

    def measures(self) -> dict[str, float]:
        """The parts of the latest batch's loss; NaN where the stage has none."""
        names = ("reprojection", "residual", "weights", "flow", "sight", "depth")
        return {f"loss_{name}": float(self._latest.get(name, float("nan"))) for name in names}

    def judge(self, data: VideoData, device: torch.device) -> Evaluator:
        return DeepV2DEvaluator(data, device, lambda: self.stage)

    def _in_units(self, batch: SnippetBatch) -> SnippetBatch:
        """The batch with its truth in the network's unit; what lies beyond the planes is unknown."""
        unit_m, depth, T_tgt_i = self.model.config.unit_m, batch.depth, batch.T_tgt_i
        assert depth is not None
        assert T_tgt_i is not None
        if self._chosen.max_depth is not None:
            depth = torch.where(depth <= self._chosen.max_depth, depth, torch.nan)
        depth = depth / unit_m
        depth = torch.where((depth > 0) & (depth <= self.model.config.max_depth), depth, torch.nan)
        return batch._replace(depth=depth, T_tgt_i=resized(T_tgt_i, 1 / unit_m))

    def _drawn(self, batch: SnippetBatch) -> SnippetBatch:
        """Some views of each snippet, the target among them."""
        count = batch.images.shape[1]
        fewest, most = (min(count, self._filled[name]) for name in ("fewest_views", "most_views"))
        wanted = int(torch.randint(fewest, most + 1, ()))
        if wanted == count:
            return batch
        others = [i for i in range(count) if i != batch.target]
        chosen = sorted(others[int(i)] for i in torch.randperm(len(others))[: wanted - 1])
        places = around(batch.target, chosen)
        assert batch.T_tgt_i is not None
        return batch._replace(
            images=batch.images[:, places], T_tgt_i=batch.T_tgt_i[:, places], target=target_of(wanted)
        )

    def _disturbed(self, T_tgt_i: Tensor, target: int) -> Tensor:
        """True motions, as wrong as what a step may begin with."""
        noise = torch.randn(*T_tgt_i.shape[:2], 6) * torch.tensor(self._filled["start_noise"])
        noise[:, target] = 0
        return T_tgt_i @ rigid.exponential(noise.to(T_tgt_i))


# The losses. Pixels are those of a quarter of the images' size.


def motion_loss(
    steps: MotionSteps, depth: Tensor, K: Tensor, T_tgt_i: Tensor, target: int, how: Losses
) -> tuple[Tensor, dict[str, Tensor]]:
    """Eq. 15 and its parts, of motions in steps and the truth: depth (B, h, w) and T_tgt_i (B, N, 4, 4)."""
    zero = depth.new_zeros(())
    parts = {"reprojection": zero, "residual": zero, "weights": zero, "flow": zero}
    for T in steps.T_tgt_i:
        parts["reprojection"] = parts["reprojection"] + reprojection(T, depth, K, T_tgt_i, target, how)
    for T, residual, weights in zip(steps.T_tgt_i[: len(steps.weights)], steps.residuals, steps.weights, strict=True):
        if how.flow_weight:
            parts["flow"] = parts["flow"] + flow_error(T, residual, weights, depth, K, T_tgt_i, target)
        squared = (weights * residual.square()).clamp(max=MOST_PX).sum(dim=-1)
        parts["residual"] = parts["residual"] + squared.mean()
        largest = weights.flatten(2, 3).topk(max(1, round(how.confident_share * weights[0, 0, ..., 0].numel())), dim=2)
        parts["weights"] = parts["weights"] - largest.values.clamp(min=1e-6).log().mean()
    assert how.flow_weight is not None
    total = parts["reprojection"] + how.residual_weight * parts["residual"] + how.confidence_weight * parts["weights"]
    return total + how.flow_weight * parts["flow"], parts


def flow_error(
    T: Tensor, residual: Tensor, weights: Tensor, depth: Tensor, K: Tensor, T_tgt_i: Tensor, target: int
) -> Tensor:
    """How far the residual flow of a step, which left `residual` and its motion T, puts pixels from where they lie.

    Not in the papers, whose flow is taught through the motion alone: a mean over what both cameras see, in pixels.
    """
    found, true = _reprojected_by(T, depth, K, T_tgt_i, target)
    both = found.valid & true.valid & (weights.flatten(0, 1)[..., 0] > 0)
    off = (residual.flatten(0, 1) + found.pixels - true.pixels).abs().sum(dim=-1)
    return torch.where(both, off, 0.0).sum() / both.sum().clamp(min=1)


def reprojection(T: Tensor, depth: Tensor, K: Tensor, T_tgt_i: Tensor, target: int, how: Losses) -> Tensor:
    """Eq. 13, a mean over sources: how far the target's points are put from where they lie there, in pixels."""
    found, true = _reprojected_by(T, depth, K, T_tgt_i, target)
    both = (found.valid & true.valid)[..., None]
    apart = torch.where(both, found.pixels - true.pixels, 0.0)
    if how.reprojection_error == "huber":
        distance = functional.huber_loss(apart, torch.zeros_like(apart), reduction="none")
    else:
        distance = apart.abs().clamp(max=MOST_PX)
    return (distance.sum(dim=-1) * both[..., 0]).sum() / both.sum().clamp(min=1)


def _reprojected_by(
    T: Tensor, depth: Tensor, K: Tensor, T_tgt_i: Tensor, target: int
) -> tuple[Reprojection, Reprojection]:
    """The target's points in all S sources, of B snippets (B S, h, w), by the motions found and by the true ones."""
    others = [i for i in range(T.shape[1]) if i != target]
    depth = depth.repeat_interleave(len(others), dim=0)
    K = K.repeat_interleave(len(others), dim=0)
    found, true = (reprojected(depth, K, rigid.inverse(each[:, others].flatten(0, 1))) for each in (T, T_tgt_i))
    return found, true


def depth_loss(depths: list[Tensor], truth: Tensor, how: Losses) -> Tensor:
    """Eqs. 11 and 12 of depth (B, H, W) by each hourglass, of which each counts half as much as the one after it."""
    known = torch.isfinite(truth)
    true = torch.where(known, truth, 1.0)
    total = truth.new_zeros(())
    for place, depth in enumerate(depths):
        off = (depth - true).abs() / (true if how.depth_error == "relative" else 1.0)
        error = (off * known).sum() / known.sum().clamp(min=1)
        slopes = truth.new_zeros(())
        for axis in (-1, -2):
            missing = ~known.narrow(axis, 1, known.shape[axis] - 1) & ~known.narrow(axis, 0, known.shape[axis] - 1)
            slopes = slopes + (depth.diff(dim=axis).abs() * missing).mean()
        total = total + 0.5 ** (len(depths) - 1 - place) * (error + how.smoothness * slopes)
    return total


def nearest_filled(depth: Tensor) -> Tensor:
    """Depth (B, H, W) whose unknown pixels have the depth of the nearest known one; 1 where none is known."""
    filled = []
    for each in depth.cpu().numpy():
        known = np.isfinite(each)
        if not known.any():
            filled.append(np.ones_like(each))
            continue
        row, column = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
        filled.append(each[row, column])
    return torch.from_numpy(np.stack(filled)).to(depth)


def quarter(depth: Tensor) -> Tensor:
    """(B, H / 4, W / 4): of the pixels at which features lie."""
    return depth[:, ::STRIDE, ::STRIDE]


def recoloured(images: Tensor) -> Tensor:
    """Snippets (B, N, 3, H, W) with another brightness, contrast curve and colour each, every other time."""
    if float(torch.rand(())) < 0.5:
        return images
    gamma = 0.9 + 0.2 * torch.rand(len(images), 1, 1, 1, 1)
    bright = 0.8 + 0.4 * torch.rand(len(images), 1, 1, 1, 1)
    colour = 0.8 + 0.4 * torch.rand(len(images), 1, 3, 1, 1)
    factor = (bright * colour).to(images)
    return (images.clamp(min=1e-6) ** gamma.to(images) * factor).clamp(0, 1)


def _depths_of(data: SnippetData, max_depth: float | None) -> tuple[float, float, float]:
    """Nearest, farthest and median true depth of some frames that train."""
    train = data.split.train
    some = train[np.linspace(0, len(train) - 1, min(len(train), LOOKED_AT)).round().astype(int)]
    depth = data.depth(some)
    assert depth is not None
    known = depth[np.isfinite(depth) & (depth > 0) & (depth <= (np.inf if max_depth is None else max_depth))]
    if not known.size:
        raise UserError("no true depth is known of the frames that train; is --max-depth too small?")
    near, far = np.percentile(known, [NEAREST, FARTHEST])
    return 0.9 * float(near), 1.05 * float(far), float(np.median(known))


def make(config: Settings, recipe: Recipe, data: SnippetData, device: torch.device) -> DeepV2DLearner:
    """See training/families.py."""
    return DeepV2DLearner(config, data, device)
