"""Splats learn from pictures: start at the recorded surface, then gradient descent that moves idle splats to where
they help.

The number of splats is fixed, so size and memory are. Idle ones are moved and all are shaken by gsplat's own strategy
(Kheradmand et al., "3D Gaussian Splatting as Markov Chain Monte Carlo", 2024). The start from depth and the weight of
the depth loss are ours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torchmetrics.functional.image import structural_similarity_index_measure

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.models.gsplat.config import GsplatConfig, Settings
from pose2rgbd_ros.models.gsplat.network import SH_C0, GsplatModel, load_gsplat, require_pinhole
from pose2rgbd_ros.training.config import Recipe
from pose2rgbd_ros.training.data import TrainingData
from pose2rgbd_ros.training.learner import Learner

SSIM_WEIGHT = 0.2
DEPTH_WEIGHT = 0.5  # of the error as a share of the scene's distance
OPACITY_WEIGHT, SCALE_WEIGHT = 0.01, 0.01  # keep splats that nobody needs from staying
START_OPACITY = 0.5
MOVE_EVERY, MOVE_UNTIL = 100, 0.85  # steps; share of the run
SHAKE = 80.0  # of the scene's distance, at the start of the run (the paper's 5e5 times its learning rate of positions)
# Learning rates as multiples of the recipe's 1e-3, after Kerbl et al.; positions in scene distances.
FACTORS = {
    "means": 0.16, "quats": 1.0, "log_scales": 5.0, "opacity_logits": 50.0, "sh_0": 2.5, "sh_rest": 0.125,
    "background": 2.5,
}  # fmt: skip
# Of what each splat has: our name by gsplat's.
SPLATS = {
    "means": "means", "quats": "quats", "scales": "log_scales", "opacities": "opacity_logits", "sh0": "sh_0",
    "shN": "sh_rest",
}  # fmt: skip


class _Moments(NamedTuple):
    """What gsplat's strategy reads of an optimiser that has one parameter."""

    param_groups: list[dict[str, Any]]
    state: dict[Tensor, Any]


class GsplatLearner(Learner):
    """Colour by L1 and D-SSIM, depth by L1."""

    model: GsplatModel
    step: Tensor

    def __init__(self, config: Settings, data: TrainingData, device: torch.device) -> None:
        super().__init__()
        _require_usable(config, data, device)
        self._data, self._device, self._seed = data, device, config.seed
        self.model = GsplatModel(GsplatConfig(splats=config.splats))
        self.scene_distance = start_from_depth(self.model, data, np.random.default_rng(config.seed))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self._share = 0.0
        self._optimizer: torch.optim.Optimizer | None = None
        self._strategy = load_gsplat(device).MCMCStrategy(
            cap_max=config.splats, noise_lr=SHAKE / self.scene_distance, refine_start_iter=0, refine_every=1
        )
        self._strategy_state = self._strategy.initialize_state()

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        """One a kind of parameter, each with its own rate; positions move in proportion to the scene's distance."""
        groups = []
        for name, factor in FACTORS.items():
            scale = self.scene_distance if name == "means" else 1.0
            parameter = getattr(self.model, name)
            if parameter.numel():
                groups.append({"params": [parameter], "factor": factor * scale, "weight_decay": 0.0, "eps": 1e-15})
        return groups

    def loss(self, network: nn.Module, indices: np.ndarray, share: float) -> Tensor:
        """See :class:`Learner`."""
        self._share = share
        T_map_cam = torch.from_numpy(self._data.T_map_cam[indices]).to(self._device)
        rgb, depth, _ = network(T_map_cam, self._data.cache.camera)
        true_rgb, true_depth = self._data.truth(indices, self._device)
        assert true_depth is not None
        rgb = rgb.permute(0, 3, 1, 2)
        similarity = structural_similarity_index_measure(rgb, true_rgb, data_range=1.0)
        assert isinstance(similarity, Tensor)
        loss = (1 - SSIM_WEIGHT) * (rgb - true_rgb).abs().mean() + SSIM_WEIGHT * (1 - similarity)
        known = torch.isfinite(true_depth)
        off = (depth - torch.where(known, true_depth, 0.0)).abs() * known
        loss = loss + DEPTH_WEIGHT * off.sum() / known.sum().clamp(min=1) / self.scene_distance
        opacity, scale = self.model.opacity_logits.sigmoid(), self.model.log_scales.exp()
        return loss + OPACITY_WEIGHT * opacity.mean() + SCALE_WEIGHT * scale.mean() / self.scene_distance

    def optimized_by(self, optimizer: torch.optim.Optimizer) -> None:
        """See :class:`Learner`: moments belong to splats, so who moves splats needs them."""
        self._optimizer = optimizer

    @torch.no_grad()
    def after_step(self) -> None:
        """Shake the faint splats, and now and then move the idle ones."""
        assert self._optimizer is not None
        self.step += 1
        step = int(self.step)
        ours = {name: getattr(self.model, attribute) for name, attribute in SPLATS.items()}
        moments = {
            name: _Moments([{"params": [parameter]}], {parameter: self._optimizer.state[parameter]})
            for name, parameter in ours.items()
        }
        # The strategy puts new parameters into its arguments; the loop, and DDP, go on with those they know.
        theirs = dict(ours)
        moves = step % MOVE_EVERY == 0 and self._share < MOVE_UNTIL
        visible = moves and float(self.model.opacity_logits.max().sigmoid()) > self._strategy.min_opacity
        self._strategy.refine_stop_iter = step + 1 if visible else 0
        cooling = 0.5 * (1 + np.cos(np.pi * self._share))
        # Drawn by (seed, step) alone, so that a run resumes to the bit.
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(self._seed * 1_000_003 + step)
            self._strategy.step_post_backward(theirs, moments, self._strategy_state, step, {}, lr=cooling)
        for name, parameter in ours.items():
            if theirs[name] is not parameter:
                parameter.copy_(theirs[name])


def make(config: Settings, recipe: Recipe, data: TrainingData, device: torch.device) -> GsplatLearner:
    """See training/families.py. UserError: no depth, no pinhole, no GPU or no gsplat."""
    return GsplatLearner(config, data, device)


def surface_samples(
    data: TrainingData, count: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recorded surface points drawn at random from all training frames, equally many of each with known depth.

    Returns:
        Positions in the map (P, 3), colours (P, 3) in 0..1, of P <= count, and the median depth of each frame (F,).

    Raises:
        UserError: no training frame has known depth.
    """
    train, rays = data.split.train, data.cache.camera.rays()
    points, colours, distances = [], [], []
    for position, index in enumerate(train):
        share = (position + 1) * count // len(train) - position * count // len(train)
        depth = data.depth(np.array([index]))[0]
        known = np.flatnonzero(np.isfinite(depth))
        if len(known) == 0:
            continue
        distances.append(float(np.median(depth.flat[known])))
        chosen = random.choice(known, size=share)
        at = rays.reshape(-1, 3)[chosen] * depth.reshape(-1, 1)[chosen]
        points.append(se3.transform_points(data.T_map_cam[index], at))
        colours.append(np.asarray(data.cache.rgb[index]).reshape(-1, 3)[chosen] / 255.0)
    if not points:
        raise UserError(f"{data.dataset.path}: no training frame has known depth, where splats start")
    return np.concatenate(points), np.concatenate(colours), np.array(distances)


def start_from_depth(model: GsplatModel, data: TrainingData, random: np.random.Generator) -> float:
    """Put the splats on recorded surface points; the scene's distance."""
    count = model.config.splats
    place, colour, distances = surface_samples(data, count, random)
    again = np.resize(np.arange(len(place)), count)  # frames without depth gave none
    place, colour = place[again], colour[again]
    origin = place.mean(axis=0)
    nearest = cKDTree(place).query(place, k=min(4, count))[0].reshape(count, -1)[:, 1:]
    scene_distance = float(np.median(distances))
    size = nearest.mean(axis=1) if nearest.size else np.full(count, 0.01 * scene_distance)
    size = np.clip(size, 1e-4 * scene_distance, 0.05 * scene_distance)
    with torch.no_grad():
        model.origin_m.copy_(torch.from_numpy(origin))
        model.means.copy_(torch.from_numpy(place - origin))
        model.quats.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4))
        model.log_scales.copy_(torch.from_numpy(np.log(size))[:, None].expand(count, 3))
        model.opacity_logits.fill_(float(np.log(START_OPACITY / (1 - START_OPACITY))))
        model.sh_0.copy_(torch.from_numpy((colour - 0.5) / SH_C0)[:, None])
        model.background.copy_(torch.from_numpy(colour.mean(axis=0)))
    return scene_distance


def _require_usable(config: Settings, data: TrainingData, device: torch.device) -> None:
    if data.cache.depth is None:
        raise UserError(f"{data.dataset.path} has no depth, where gsplat starts; use model base or relief")
    if data.dataset.depth_kind != "metric":
        raise UserError(f"{data.dataset.path} has relative depth; gsplat starts at metric depth; use model relief")
    if config.output not in ("auto", "rgbd"):
        raise UserError(f"gsplat shows colour and depth; leave --output at auto, not {config.output}")
    require_pinhole(data.cache.camera)
    load_gsplat(device)
