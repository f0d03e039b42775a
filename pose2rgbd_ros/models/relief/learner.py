"""How a relief learns: patches of training frames rendered, and matter told from air along their rays."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float32, Float64
from pose2rgbd_ros.models.backends import HAS_NUMBA, compiled
from pose2rgbd_ros.models.relief.charts import Charts, choose_charts
from pose2rgbd_ros.models.relief.config import (
    EDGE_RAYS,
    MB,
    STORED_BYTES,
    ReliefConfig,
    ReliefSettings,
    SeenPoints,
    Settings,
    TiledReliefConfig,
    chart_texels,
    choose_tiles,
    relief_config,
    surface_points,
    tiled,
)
from pose2rgbd_ros.models.relief.fuse import fuse, seen_points
from pose2rgbd_ros.models.relief.gains import differ, matched_gains
from pose2rgbd_ros.models.relief.kernels import BLOCK
from pose2rgbd_ros.models.relief.lookup import Gathered, gathered
from pose2rgbd_ros.models.relief.network import Relief, ReliefOutput, TiledRelief, glances
from pose2rgbd_ros.models.relief.remember import MemoryTraining, remembered, simpler_ones, with_memory
from pose2rgbd_ros.models.relief.surface import SurfaceDepth, surface_depth
from pose2rgbd_ros.training.config import Recipe
from pose2rgbd_ros.training.data import TrainingData
from pose2rgbd_ros.training.learner import Learner, in_several_processes, require_one_process
from pose2rgbd_ros.training.trainer import learning_rate

logger = logging.getLogger(__name__)

# Light that changes from frame to frame, learnt beside the place: an auto-exposed camera would smear it over the maps.
#
# The corrections belong to training frames. They are centred, so that the place keeps the average light. What
# neighbours tell of one another's light is kept in the checkpoint (light.py).
#
# The pull is towards where they begin: what all frames of a stretch have in common, hardly a step tells.


# With a memory they begin at so much of that: frames looked up for a view bring the light of its surroundings along.
BESIDE_MEMORY = 0.5


class Exposures(nn.Module):
    """A gain and an offset per colour channel for every training frame.

    Args:
        frames: of the dataset.
        train: (T,) those of them that train.
        strength: weight of the pull towards where they begin; a gain of 10 % and an offset of 0.1 count alike.
    """

    def __init__(self, frames: int, train: np.ndarray, strength: float = 0.01) -> None:
        super().__init__()
        self.residual = nn.Parameter(torch.zeros(frames, 2, 3))  # (log gain, offset) per channel
        self.register_buffer("begin", torch.zeros(frames, 2, 3))  # where they were as the training began
        self.begin: Tensor
        self.register_buffer("_train", torch.from_numpy(np.asarray(train, np.int64)), persistent=False)
        self._train: Tensor
        self._strength = strength

    def forward(self, rgb: Tensor, indices: np.ndarray) -> Tensor:
        """What the camera made of the true colours `rgb` (B, 3, H, W) in the frames `indices` (B,)."""
        log_gain, offset = self._centred(indices).unbind(dim=1)
        return rgb * log_gain.exp()[..., None, None] + offset[..., None, None]

    @torch.no_grad()
    def begin_with(self, log_gain: np.ndarray) -> None:
        """Begin with gains (T, 3) of the training frames: a run sees each too few times to learn them from 1 on."""
        self.residual[self._train, 0] = torch.from_numpy(log_gain).to(self.residual)
        self.begin.copy_(self.residual)

    def light(self, indices: np.ndarray) -> Tensor:
        """(B, 2, 3) of the frames `indices` (B,): logarithm of the gain, and offset."""
        return self._centred(indices).detach()

    def gain_and_offset(self, indices: np.ndarray) -> Tensor:
        """(B, 2, 3) of the frames `indices` (B,)."""
        log_gain, offset = self._centred(indices).unbind(dim=1)
        return torch.stack([log_gain.exp(), offset], 1)

    def penalty(self, indices: np.ndarray) -> Tensor:
        """To be added to the loss: mean square of how far these frames' corrections went, weighed."""
        begin = self.begin[torch.from_numpy(np.asarray(indices, np.int64)).to(self.begin.device)]
        gone = self._centred(indices) - (begin - self.begin[self._train].mean(dim=0))
        return self._strength * gone.square().mean()

    @torch.no_grad()
    def spread(self) -> dict[str, float]:
        """How much the training frames' light differed: standard deviations of gain (relative) and offset (of 1)."""
        corrections = self.residual[self._train]
        log_gain, offset = (corrections - corrections.mean(dim=0)).square().mean(dim=(0, 2)).sqrt().tolist()
        return {"gain": round(log_gain, 4), "offset": round(offset, 4)}

    def _centred(self, indices: np.ndarray) -> Tensor:
        mean = self.residual[self._train].mean(dim=0)
        return self.residual[torch.from_numpy(np.asarray(indices, np.int64)).to(mean.device)] - mean


# Adam for large tables of which a step touches little.
#
# Plain Adam goes on moving an entry by its momentum for as long as nobody looks at it, and by a multiple of the
# learning rate that grows with the time between visits: thirtyfold at its usual settings. Here only entries with a
# gradient move, about one learning rate a visit, as in PyTorch's ``SparseAdam``. On a CPU the gradients are gathered
# with marks of what was touched (models/relief/lookup.py), so that the rest costs nothing: tables may be as fine as
# memory allows.


# With these a first visit moves an entry by one learning rate: (1 - KEEP_MEAN) = sqrt(1 - KEEP_SQUARE).
KEEP_MEAN, KEEP_SQUARE = 0.9, 0.99
LEAST = 1e-12  # gradients of a mean over many pixels are small


class LazyAdam(nn.Module):
    """Moments of some parameters, kept as buffers so that they are saved and resumed with the learner."""

    def __init__(self, tables: Mapping[str, nn.Parameter], gather: bool = False) -> None:
        """`tables`: by any names; they must be contiguous, and in no optimiser beside this.

        gather: have their gradients gathered, for one process on a CPU; others reduce dense gradients.
        """
        super().__init__()
        self._tables = dict(tables)
        for name, table in self._tables.items():
            self.register_buffer(f"mean_{name}", torch.zeros_like(table, requires_grad=False))
            self.register_buffer(f"square_{name}", torch.zeros_like(table, requires_grad=False))
            if gather and HAS_NUMBA:
                Gathered(table)

    def release(self) -> None:
        """Let go of the gathered gradients: the tables learn no more, or by another optimiser."""
        for table in self._tables.values():
            if gathered(table) is not None:
                del table.gathered  # type: ignore[attr-defined]

    @torch.no_grad()
    def step(self, rates: Mapping[str, float]) -> None:
        """Move each table against its gradient at its learning rate, and forget the gradient."""
        for name, table in self._tables.items():
            mean, square = getattr(self, f"mean_{name}"), getattr(self, f"square_{name}")
            kept = gathered(table)
            if kept is not None:
                if table.grad is not None:  # of a lookup that was not compiled
                    kept.add(table.grad)
                flat = (values.detach().view(-1).numpy() for values in (table, mean, square))
                move(kept.values, kept.marks, *flat, np.float32(rates[name]))
            elif table.grad is not None:
                _move(table, table.grad, mean, square, rates[name])
            table.grad = None


def _move(table: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, rate: float) -> None:
    """One step in PyTorch, on any device."""
    touched = gradient != 0
    mean.copy_(torch.where(touched, KEEP_MEAN * mean + (1 - KEEP_MEAN) * gradient, mean))
    square.copy_(torch.where(touched, KEEP_SQUARE * square + (1 - KEEP_SQUARE) * gradient.square(), square))
    table.sub_(torch.where(touched, rate * mean / (square.sqrt() + LEAST), 0.0))


@compiled
def move(gradient, marks, table, mean, square, rate):
    """One step, all flat float32 but the marks of the gradient's blocks; both are cleared."""
    keep_mean, keep_square, least = np.float32(KEEP_MEAN), np.float32(KEEP_SQUARE), np.float32(LEAST)
    one = np.float32(1)
    for block in range(len(marks)):
        if marks[block] == 0:
            continue
        marks[block] = 0
        for i in range(block * BLOCK, min((block + 1) * BLOCK, len(table))):
            g = gradient[i]
            if g != np.float32(0):
                gradient[i] = np.float32(0)
                mean[i] = keep_mean * mean[i] + (one - keep_mean) * g
                square[i] = keep_square * square[i] + (one - keep_square) * g * g
                table[i] -= rate * mean[i] / (np.sqrt(square[i]) + least)


# Small corrections of the training poses, learnt beside the place: GPS is off by decimetres, attitude by a degree.
#
# A correction moves the camera in the map and turns it in its own frame. Corrections are centred, because a pose asked
# for later comes uncorrected and must find the place where the average training pose says it is.


class PoseCorrections(nn.Module):
    """A shift and a turn for every training frame.

    Args:
        frames: of the dataset.
        train: (T,) those of them that train.
        position_m: how far off a pose is thought to be; the pull towards "no correction" is measured in it.
        angle_rad: likewise for its attitude.
        strength: weight of that pull.
    """

    def __init__(
        self, frames: int, train: np.ndarray, position_m: float = 0.5, angle_rad: float = 0.0175, strength: float = 1e-3
    ) -> None:
        super().__init__()
        # In units of the expected error, so that one learning rate suits both.
        self.residual = nn.Parameter(torch.zeros(frames, 6, dtype=torch.float32))
        self.register_buffer("_train", torch.from_numpy(np.asarray(train, np.int64)), persistent=False)
        units = torch.tensor([position_m] * 3 + [angle_rad] * 3, dtype=torch.float64)
        self.register_buffer("_units", units, persistent=False)
        self._units: Tensor
        self._train: Tensor
        self._strength = strength

    def forward(self, T_map_cam: Tensor, indices: np.ndarray) -> Tensor:
        """The corrected poses (B, 4, 4) float64 of the frames `indices` (B,), differentiable in the corrections."""
        twist = self._centred(indices).double() * self._units
        turned = T_map_cam[:, :3, :3] @ rotation_matrix(twist[:, 3:])
        moved = T_map_cam[:, :3, 3] + twist[:, :3]
        top = torch.cat([turned, moved[..., None]], dim=2)
        return torch.cat([top, T_map_cam[:, 3:]], dim=1)

    def penalty(self, indices: np.ndarray) -> Tensor:
        """To be added to the loss: mean square of the corrections of these frames in expected errors, weighed."""
        return self._strength * self._centred(indices).square().mean()

    @torch.no_grad()
    def sizes(self) -> dict[str, float]:
        """Root mean square of the training frames' shifts (m, all axes together) and turns (degrees)."""
        residual = self.residual[self._train].double()
        twist = (residual - residual.mean(dim=0)) * self._units
        shift, turn = (part.square().sum(dim=1).mean().sqrt() for part in (twist[:, :3], twist[:, 3:]))
        return {"position_m": round(float(shift), 4), "angle_deg": round(float(torch.rad2deg(turn)), 4)}

    def _centred(self, indices: np.ndarray) -> Tensor:
        mean = self.residual[self._train].mean(dim=0)
        return self.residual[torch.from_numpy(np.asarray(indices, np.int64)).to(mean.device)] - mean


def rotation_matrix(rotation_vector: Tensor) -> Tensor:
    """Rotations (B, 3, 3) by rotation vectors (B, 3) in radians, differentiable at zero too."""
    x, y, z = rotation_vector.unbind(dim=1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3)
    result: Tensor = torch.linalg.matrix_exp(skew)
    return result


# Learning rate of the occupancy as a multiple of the shader's; texels learn at the shader's own. A texel is seen by few
# rays of few frames, and larger steps leave the noise of those in it: five times as large ones cost Seneca 1.3 dB.
LOGITS_FACTOR = 20.0
TEXELS = ("maps", "coarse", "sky", "charts")
# Of large images a step sees patches, so a logit's turn comes a few times in a run.
PATCHES_FACTOR = 0.3
# Surfaces farther from the truth than this many layers are for the occupancy loss: the depth's slope says nothing.
DEPTH_REACH_LAYERS = 3.0
# Light and poses: one number that every pixel of a frame speaks of, but only when the frame's turn comes.
EXPOSURE_FACTOR, POSE_FACTOR = 2.0, 5.0
SEEN_FROM = 0.3  # of the run: before, what rays meet without known depth may be nothing real
GAIN_RAYS = 2_000_000  # of all frames: enough to tell their light
OCCUPANCY_RAYS = 0.25  # share of the rays of a step that the occupancy loss takes
BESIDE_WEIGHT = 3.0  # in it, of rays that end beside the true surface
DIRECT_WEIGHT = 0.2  # of the colour without memory and shader, so that it is there where no frame sees
CORRECT_EVERY = 20  # steps
NEAR_LAYERS = 1.5  # how far before and behind the surface it looks


class ReliefLearner(Learner):
    """Loss on colour, on depth, and slice-wise on occupancy along the rays (the paper's slices, in the world)."""

    model: Relief

    def __init__(
        self,
        config: Settings,
        recipe: Recipe,
        data: TrainingData,
        device: torch.device,
        depth: SurfaceDepth,
        model: Relief,
        memory: MemoryTraining | None = None,
        gains: Float32 | None = None,
    ) -> None:
        """`depth` to learn from; `model` is the network as it starts, of the whole place or of a tile of it; `memory`
        of its remembered frames; `gains` (T, 3), logarithms, that the light of the training frames begins with."""
        super().__init__()
        self._data, self._device, self._seed = data, device, config.seed
        self._settings: ReliefSettings = config.relief
        chosen, train = self._settings, data.split.train
        self._depth, self.model, self._memory = depth, model, memory
        frames = len(data.dataset)
        learnt = chosen.exposure == "learn" or gains is not None
        self.exposures = Exposures(frames, train) if learnt else None
        self.corrections = PoseCorrections(frames, train) if chosen.refine_poses else None
        camera = data.cache.camera
        self._focal_px = camera.focal_px
        self._rays = torch.from_numpy(camera.rays()).float().to(device)
        if self.exposures is not None:
            if gains is not None:
                self.exposures.begin_with(gains * (1.0 if self._memory is None else BESIDE_MEMORY))
            self.model.take_light(data.T_map_cam[train], gains)
            if self._memory is not None:
                self._correct_memory()
            self._tell_light(self.exposures)
        # How many steps were made: the random choices of each depend on it alone, so a resumed run repeats them.
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.steps: Tensor
        self._recipe, self._rate = recipe, 0.0
        volume, features = self.model.volume, self.model.features
        tables = {"logits": volume.logits, "maps": features.maps, "coarse": features.coarse, "sky": features.sky}
        if features.charts is not None:
            tables["charts"] = features.charts
        self.tables = LazyAdam(tables, gather=device.type == "cpu" and not in_several_processes())

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        """The shader's, and of what is learnt beside the network; texels and logits have an optimiser of their own."""
        groups: list[dict[str, Any]] = [{"params": parameters_of(self.model)}]
        for part, factor in ((self.exposures, EXPOSURE_FACTOR), (self.corrections, POSE_FACTOR)):
            if part is not None:
                groups.append({"params": list(part.parameters()), "factor": factor, "weight_decay": 0.0})
        return groups

    def loss(self, network: nn.Module, indices: np.ndarray, share: float) -> Tensor:
        recipe = self._recipe
        self._rate = learning_rate(recipe.learning_rate, recipe.schedule, recipe.warmup, share)
        generator = np.random.default_rng([self._seed, 1, int(self.steps)])
        rgb, depth, rays = self._patches(indices, generator)
        T_map_cam = torch.from_numpy(self._data.T_map_cam[indices]).to(self._device)
        if self.corrections is not None:
            T_map_cam = self.corrections(T_map_cam, indices)
        made: ReliefOutput = network(T_map_cam, rays, self._focal_px, **self._looked_up(indices, generator, share))
        shown = made.rgb if self.exposures is None else self.exposures(made.rgb, indices)
        loss = colour_loss(shown, rgb)
        if made.direct is not None:
            direct = made.direct if self.exposures is None else self.exposures(made.direct, indices)
            loss = loss + DIRECT_WEIGHT * colour_loss(direct, rgb)
        for part in (self.exposures, self.corrections):
            loss = loss if part is None else loss + part.penalty(indices)
        settings = self._settings
        reach_m = DEPTH_REACH_LAYERS * self.model.config.layer_m
        if share > SEEN_FROM:
            self._mark_seen(made, depth.flatten())
        loss = loss + settings.depth_weight * depth_loss(made, depth, reach_m)
        return loss + settings.occupancy_weight * occupancy_loss(self.model, made, depth.flatten(), generator)

    def _looked_up(self, indices: np.ndarray, generator: np.random.Generator, share: float) -> dict[str, Any]:
        """What a rendering needs to know to look at remembered frames."""
        if self._memory is None:
            return {}
        return {"glance_cam": glances(self._rays), "left_out": self._memory.left_out(indices, generator, share)}

    @torch.no_grad()
    def _correct_memory(self) -> None:
        """Remembered frames are where, and of the light, that was learnt of them so far."""
        assert self._memory is not None
        frames = self._memory.frames
        moved = light = None
        if self.corrections is not None:
            moved = self.corrections(torch.from_numpy(self._data.T_map_cam[frames]), frames)
        if self.exposures is not None:
            light = self.exposures.gain_and_offset(frames)
        self._memory.correct(moved, light)

    @torch.no_grad()
    def _mark_seen(self, made: ReliefOutput, truth: Tensor) -> None:
        """Where the depth has holes, what training rays meet counts as seen: its colour is learnt like any other."""
        told_by_colour = torch.nonzero(torch.isfinite(made.hits.t) & ~torch.isfinite(truth))[:, 0]
        t = made.hits.t[told_by_colour, None]
        self.model.volume.mark_seen((made.origin[told_by_colour] + t * made.direction[told_by_colour]).detach())
        if in_several_processes():  # each has rays of its own, and the checkpoint is of the first
            torch.distributed.all_reduce(self.model.volume.seen, torch.distributed.ReduceOp.MAX)

    def _tell_light(self, exposures: Exposures) -> None:
        """A view is shown in the light that was learnt of the frames near it so far."""
        assert self.model.light is not None
        self.model.light.keep(exposures.light(self._data.split.train))

    def after_step(self) -> None:
        self.steps += 1
        whole = self._rays.shape[0] <= self._settings.crop
        of_logits = self._rate * LOGITS_FACTOR * (1.0 if whole else PATCHES_FACTOR)
        self.tables.step({**dict.fromkeys(TEXELS, self._rate), "logits": of_logits})
        if int(self.steps) % CORRECT_EVERY:
            return
        if self._memory is not None and (self.exposures is not None or self.corrections is not None):
            self._correct_memory()
        if self.exposures is not None:
            self._tell_light(self.exposures)

    def _patches(self, indices: np.ndarray, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Colour (B, 3, S, S) in 0..1, depth (B, S, S) and rays (B, S, S, 3) of a random window of each frame."""
        size = self._rays.shape[0]
        side = min(self._settings.crop, size)
        corners = generator.integers(0, size - side + 1, (len(indices), 2))
        windows = [(slice(y, y + side), slice(x, x + side)) for y, x in corners]
        cache = self._data.cache
        rgb = np.stack([cache.rgb[i][window] for i, window in zip(indices, windows, strict=True)])
        colour = torch.from_numpy(rgb).to(self._device).permute(0, 3, 1, 2).float() / 255.0
        rays = torch.stack([self._rays[window] for window in windows])
        depth = np.stack([self._depth[int(i)][window] for i, window in zip(indices, windows, strict=True)])
        return colour, torch.from_numpy(depth).to(self._device), rays

    def candidates(self, model: nn.Module) -> list[nn.Module]:
        """With `memory auto` few of the remembered frames a picture, or none, may do better than many."""
        simpler = self._settings.memory == "auto" and self._memory is not None
        return [model, *(simpler_ones(cast(Relief, model)) if simpler else [])]

    def provenance(self) -> dict[str, Any]:
        found: dict[str, Any] = {"depth": self._depth.source, "depth_unit_m": round(self._depth.unit_m, 6)}
        if self.exposures is not None:
            found["exposures"] = self.exposures.spread()
        if self.corrections is not None:
            found["pose_corrections"] = self.corrections.sizes()
        return {"relief": found}


def parameters_of(relief: Relief) -> list[nn.Parameter]:
    """What AdamW learns of a network: all but its tables."""
    return list(relief.shader.parameters())


def colour_loss(rgb: Tensor, truth: Tensor) -> Tensor:
    """Smooth L1 of colours in 0..1."""
    return (torch.sqrt((rgb - truth).square() + 1e-4) - 1e-2).mean()


def depth_loss(made: ReliefOutput, truth: Tensor, reach_m: float) -> Tensor:
    """Mean absolute error, in metres, of the surface where it is near the true one, and of what the shader adds to it.

    The shader learns from the surface as it is; the logits learn as if there were no shader.
    """
    known = torch.isfinite(truth) & torch.isfinite(made.depth)
    error = torch.where(known, made.depth - truth, 0.0)
    of_surface = error.abs().clamp(max=reach_m)
    if made.refined is not None:
        error = torch.where(known, made.refined - truth, 0.0)
    of_shader = (torch.where(known, made.residual, 0.0) + error.detach()).abs()
    return (of_surface + of_shader).sum() / known.sum().clamp(min=1)


def occupancy_loss(model: Relief, made: ReliefOutput, truth: Tensor, generator: np.random.Generator) -> Tensor:
    """Binary cross entropy of occupancy at samples of some rays: free before the true surface, solid behind it.

    Of all rays some, and as many of those that end more than a layer beside the true surface, as at silhouettes, which
    count more.
    Samples of a ray: close before and close behind the surface, one anywhere before it, and where the model met
    something solid too early.
    """
    config = model.config
    has_ray = torch.isfinite(made.direction).all(1)  # depth may be recorded where the lens model ends
    known = torch.nonzero(has_ray & torch.isfinite(truth) & (truth > 0))[:, 0]
    some = max(1, int(len(known) * OCCUPANCY_RAYS))
    if len(known) == 0:
        return made.rgb.new_zeros(())
    beside = known[(made.hits.t[known].nan_to_num(torch.inf) - truth[known]).abs() > config.layer_m]
    drawn = [known[torch.from_numpy(generator.integers(0, len(known), some)).to(known.device)], beside]
    if len(beside) > some:
        drawn[1] = beside[torch.from_numpy(generator.integers(0, len(beside), some)).to(known.device)]
    chosen = torch.cat(drawn)
    weight = torch.ones(len(chosen), device=chosen.device)
    weight[some:] = BESIDE_WEIGHT
    count = len(chosen)
    # Where matter is, is told the volume alone: poses would be drawn to what it has wrong.
    origin, direction, depth = made.origin[chosen].detach(), made.direction[chosen].detach(), truth[chosen]
    layer = config.layer_m / torch.linalg.vector_norm(direction, dim=1)
    random = torch.from_numpy(generator.random((3, count), np.float32)).to(depth.device)
    before = depth - (0.1 + NEAR_LAYERS * random[0]) * layer
    behind = depth + (0.1 + NEAR_LAYERS * random[1]) * layer
    anywhere = (depth - layer) * random[2]
    early = made.hits.t_after[chosen]
    early = torch.where(early < depth - layer, early, before)
    t = torch.cat([before, anywhere, early, behind])
    points = origin.repeat(4, 1) + t[:, None] * direction.repeat(4, 1)
    size = torch.tensor(config.size_m, device=points.device)
    inside = ((points >= 0) & (points <= size)).all(1) & (t > 0)
    solid = torch.zeros_like(t)
    solid[3 * count :] = 1.0
    logits = model.volume.sample(points)
    each = functional.binary_cross_entropy_with_logits(logits, solid, reduction="none")
    return (weight.repeat(4) * torch.where(inside, each, 0.0)).sum() / some


# How a place in tiles learns: tile after tile, each as a relief by itself, from the frames that see it.
#
# Gradients and moments are kept for the tile that learns alone, so memory grows by no more than the stored values with
# the place. All tiles have their start before, so an interrupted run shows the whole place.

GLANCE = 24  # rays a side by which a frame is told to see a tile
LEAST_SHARE = 0.02  # of a frame's pixels that show a tile, for the tile to learn from it


class TiledReliefLearner(Learner):
    """Each tile has the share of the run that it has of all pixels; frames come as often as they show much of it."""

    model: TiledRelief

    def __init__(
        self,
        config: Settings,
        recipe: Recipe,
        data: TrainingData,
        device: torch.device,
        depth: SurfaceDepth,
        network: TiledReliefConfig,
    ) -> None:
        """UserError where more is asked for than tiles can learn."""
        super().__init__()
        require_one_process("--tiles")
        learnt = config.relief.exposure == "learn"
        for option, wanted in (("exposure", learnt), ("refine-poses", config.relief.refine_poses)):
            if wanted:
                raise UserError(f"--{option} is for one volume; leave it out, or use --tiles 1")
        config = dataclasses.replace(config, relief=dataclasses.replace(config.relief, exposure="none"))
        self.model = TiledRelief(network)
        self._learner = partial(ReliefLearner, config, recipe, data, device, depth)
        self._seed, self._train = config.seed, data.split.train
        self._seen = frame_shares(network, data)
        self._ends = np.cumsum(self._seen.sum(0)) / max(self._seen.sum(), 1e-9)
        for number in range(network.count):
            frames = self._train[self._seen[:, number] > 0]
            relief = self.model.tile(number)
            points = seen_points(relief.config, data.T_map_cam, data.cache.camera, data.cache.rgb, depth, frames)
            fuse(relief, within(points, network.size_m), config.relief.start)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.steps: Tensor
        self.register_buffer("number", torch.zeros((), dtype=torch.int64))  # of the tile that learns
        self.number: Tensor
        self.tables: LazyAdam
        self._inner: tuple[ReliefLearner, ...] = ()
        self._begin(self.stage(0.0)[0])

    def stage(self, share: float) -> tuple[int, float]:
        """The tile that learns at a share of the run, and how much of its time is over."""
        last = int(np.argmax(self._ends))  # that anybody saw
        number = min(int(np.searchsorted(self._ends, share, "right")), last)
        begin = self._ends[number - 1] if number else 0.0
        return number, min(float((share - begin) / max(self._ends[number] - begin, 1e-9)), 1.0)

    def schedule_share(self, share: float) -> float:
        return self.stage(share)[1]

    def _begin(self, number: int) -> None:
        """A tile's turn: moments of its own, and a shader that goes on from what the last tile's learnt."""
        if int(self.steps):
            self._take_over(self.model.tile(number), self.model.tile(int(self.number)))
        self.number.fill_(number)
        self._attend(number)

    def _attend(self, number: int) -> None:
        if self._inner:
            self.tables.release()
        learner = self._learner(self.model.tile(number))
        self.tables = learner.tables
        self._inner = (learner,)  # not a part of this module: its network is one already

    @torch.no_grad()
    def _take_over(self, mine: Relief, theirs: Relief) -> None:
        for parameter, other in zip(parameters_of(mine), parameters_of(theirs), strict=True):
            parameter.copy_(other)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """The moments are those of the tile whose turn it was."""
        result = super().load_state_dict(state_dict, strict, assign)
        moments = self.tables.state_dict()
        self._attend(int(self.number))
        self.tables.load_state_dict(moments)
        return result

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        """Of each tile what a relief's has."""
        tiles = (self.model.tile(number) for number in range(self.model.config.count))
        return [{"params": [each for tile in tiles for each in parameters_of(tile)]}]

    def loss(self, network: nn.Module, indices: np.ndarray, share: float) -> Tensor:
        number, done = self.stage(share)
        if number != int(self.number):
            self._begin(number)
        (learner,) = self._inner
        learner.steps = self.steps
        chance = self._seen[:, number] / self._seen[:, number].sum()
        generator = np.random.default_rng([self._seed, 2, int(self.steps)])
        count = min(len(indices), int((chance > 0).sum()))
        frames = self._train[generator.choice(len(chance), count, replace=False, p=chance)]
        return learner.loss(cast(nn.Module, partial(network, number)), frames, done)

    def after_step(self) -> None:
        self._inner[0].after_step()

    def provenance(self) -> dict[str, Any]:
        config = self.model.config
        found = self._inner[0].provenance()
        found["relief"]["tiles"] = {"rows": config.tile_rows, "columns": config.tile_columns}
        return found


def frame_shares(network: TiledReliefConfig, data: TrainingData) -> Float64:
    """(training frames, tiles): how much of a frame's pixels show a tile's ground, were it flat; 0 for hardly any."""
    camera = data.cache.camera
    T_vol_cam = se3.inverse(network.T_map_vol) @ data.T_map_cam[data.split.train]
    every = max(1, camera.width // GLANCE)
    rays = camera.rays()[every // 2 :: every, every // 2 :: every].reshape(-1, 3)
    z = 1.5 * network.layer_m  # the floor lies a layer below the lowest surface
    shares = np.zeros((len(T_vol_cam), network.count))
    for frame, T in enumerate(T_vol_cam):
        direction = np.nan_to_num(rays @ T[:3, :3].T)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (z - T[2, 3]) / direction[:, 2]
        where = (T[:3, 3] + t[:, None] * direction)[np.isfinite(t) & (t > 0), :2]
        for number in range(network.count):
            at = where - network.corner_m(number)[:2]
            shares[frame, number] = ((at >= 0) & (at <= network.size_m[:2])).all(1).sum() / len(rays)
    return np.where(shares >= LEAST_SHARE, shares, 0.0)


def within(points: Iterator[SeenPoints], size_m: tuple[float, float, float]) -> Iterator[SeenPoints]:
    """Those whose surface lies in a tile: what is seen beside it tells nothing of it."""
    size = np.array(size_m[:2], np.float32)
    for some in points:
        where = (some.origin + some.depth[:, None] * some.direction)[:, :2]
        inside = ((where >= 0) & (where <= size)).all(1)
        yield SeenPoints(*(values[inside] for values in some))


def choose_network(config: Settings, data: TrainingData, depth: SurfaceDepth) -> tuple[ReliefConfig, tuple[int, int]]:
    """The network for the place of a dataset's training frames, and the rows and columns of tiles it is cut into."""
    chosen: ReliefSettings = config.relief
    camera, train = data.cache.camera, data.split.train
    T_map_cam = data.T_map_cam[train]
    surface = surface_points(T_map_cam, _Frames(depth, train), camera)
    box, grid = choose_tiles(T_map_cam, camera, surface, chosen)
    output = config.output_for(data.dataset.has_depth)
    depth_m = float(np.median(surface.depth_m))
    return relief_config(box, chosen, output, depth_m, depth.unit_m, camera.width), grid  # type: ignore[arg-type]


# Share of what is seen from which "auto" takes charts, and how upright the volume must be: one that faces the cameras
# shows them edge on what a chart would be for (docs/decisions/0030-charts.md).
WORTH_CHARTS, UPRIGHT = 0.28, 0.99


def _charts(chosen: ReliefSettings, network: ReliefConfig, points: Callable[[], Iterator[SeenPoints]]) -> Charts | None:
    """Those of the network for a place, None for none."""
    automatic = chosen.charts == "auto"
    if chosen.charts == "none" or (automatic and network.T_map_vol[2, 2] < UPRIGHT):
        return None
    most = int(chosen.box.model_mb * MB / (STORED_BYTES * chart_texels(network.levels) * network.channels))
    found = choose_charts(points(), network, most, flat=chosen.charts == "all")
    return None if found.number == 0 or (automatic and found.share < WORTH_CHARTS) else found


def _gains(chosen: ReliefSettings, points: Callable[[], Iterator[SeenPoints]], network: ReliefConfig) -> Float32 | None:
    """Logarithms (T, 3) of what the light of the training frames begins with; None where none is learnt or begun."""
    if not chosen.start or chosen.exposure == "none" or in_several_processes():
        return None
    gains = matched_gains(points(), network)
    return gains if chosen.exposure == "learn" or differ(gains) else None


class _Frames:
    """The depth of some frames of a dataset, looked up one by one."""

    def __init__(self, depth: SurfaceDepth, indices: np.ndarray) -> None:
        self._depth, self._indices = depth, indices

    def __getitem__(self, index: Any) -> np.ndarray:
        return self._depth[int(self._indices[index])]


def make(config: Settings, recipe: Recipe, data: TrainingData, device: torch.device) -> Learner:
    """A relief of the whole place, or of tiles where one would be too large."""
    chosen = config.relief
    for option, wanted in (("exposure", chosen.exposure == "learn"), ("refine-poses", chosen.refine_poses)):
        if wanted:
            require_one_process(f"--{option}")
    depth = surface_depth(data, chosen.depth, chosen.box.up, chosen.ground_m)
    network, grid = choose_network(config, data, depth)
    if chosen.memory == "auto" and (grid != (1, 1) or not HAS_NUMBA):
        chosen = dataclasses.replace(chosen, memory="none")
        config = dataclasses.replace(config, relief=chosen)
        network = dataclasses.replace(network, edge_rays=chosen.edge_rays or EDGE_RAYS[chosen.memory])
    if grid != (1, 1):
        for option, asked in (("memory", chosen.memory != "none"), ("charts", chosen.charts in ("steep", "all"))):
            if asked:
                raise UserError(f"--{option} is for one volume; leave it out, or use --tiles 1")
        return TiledReliefLearner(config, recipe, data, device, depth, tiled(network, grid))
    kept = None if chosen.memory == "none" else remembered(config, chosen, data, network, depth)
    if kept is not None:
        network = with_memory(network, chosen, kept, network.depth_scale_m)
    place = data.T_map_cam, data.cache.camera, data.cache.rgb, depth, data.split.train
    charts = _charts(chosen, network, lambda: seen_points(network, *place))
    if charts is not None:
        logger.info("%d charts of the surface, of %.0f %% of what is seen", charts.number, 100 * charts.share)
        network = dataclasses.replace(network, charts=charts.number)
    model = Relief(network)
    if charts is not None:
        model.features.chart_of.copy_(torch.from_numpy(charts.codes))
    gains = _gains(chosen, lambda: seen_points(network, *place, most=GAIN_RAYS), network)
    fuse(model, seen_points(network, *place), chosen.start)  # without a start too: what was seen is known
    memory = None if kept is None else MemoryTraining(model, kept, data, depth)
    return ReliefLearner(config, recipe, data, device, depth, model, memory, gains)
