"""How a place in tiles learns: tile after tile, each as a relief by itself, from the frames that see it.

Gradients and moments are kept for the tile that learns alone, so memory grows by no more than the stored values with
the place. All tiles have their start before, so an interrupted run shows the whole place.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.models.relief.config import ReliefConfig, ReliefSettings, relief_config, surface_points
from pose2rgbd_ros.models.relief.fuse import SeenPoints, fuse, seen_points
from pose2rgbd_ros.models.relief.learner import LazyAdam, ReliefLearner, parameters_of
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.models.relief.surface import SurfaceDepth, surface_depth
from pose2rgbd_ros.models.relief.tiles import TiledRelief, TiledReliefConfig, choose_tiles, tiled
from pose2rgbd_ros.training.config import Recipe, TrainConfig, output_of
from pose2rgbd_ros.training.data import TrainingData
from pose2rgbd_ros.training.learner import Learner, require_one_process

GLANCE = 24  # rays a side by which a frame is told to see a tile
LEAST_SHARE = 0.02  # of a frame's pixels that show a tile, for the tile to learn from it


class TiledReliefLearner(Learner):
    """Each tile has the share of the run that it has of all pixels; its frames come as often as they show much of
    it.
    """

    model: TiledRelief

    def __init__(
        self,
        config: TrainConfig,
        recipe: Recipe,
        data: TrainingData,
        device: torch.device,
        depth: SurfaceDepth,
        network: TiledReliefConfig,
    ) -> None:
        """UserError where more is asked for than tiles can learn."""
        super().__init__()
        require_one_process("--relief.tiles")
        for option, wanted in (("exposure", config.relief.exposure), ("refine-poses", config.relief.refine_poses)):
            if wanted:
                raise UserError(f"--relief.{option} is for one volume; leave it out, or use --relief.tiles 1")
        self.model = TiledRelief(network)
        self._learner = partial(ReliefLearner, config, recipe, data, device, depth)
        self._seed, self._train = config.seed, data.split.train
        self._seen = frame_shares(network, data)
        self._ends = np.cumsum(self._seen.sum(0)) / max(self._seen.sum(), 1e-9)
        for number in range(network.count):
            frames = self._train[self._seen[:, number] > 0]
            relief = self.model.tile(number)
            points = seen_points(relief, data.T_map_cam, data.cache.camera, data.cache.rgb, depth, frames)
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
    """(training frames, tiles): how much of a frame's pixels show a tile's ground, were it flat; 0 for next to
    nothing.
    """
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


def choose_network(
    config: TrainConfig, data: TrainingData, depth: SurfaceDepth
) -> tuple[ReliefConfig, tuple[int, int]]:
    """The network for the place of a dataset's training frames, and the rows and columns of tiles it is cut into."""
    chosen: ReliefSettings = config.relief
    camera, train = data.cache.camera, data.split.train
    T_map_cam = data.T_map_cam[train]
    surface = surface_points(T_map_cam, _Frames(depth, train), camera)
    box, grid = choose_tiles(T_map_cam, camera, surface, chosen)
    output = output_of(config, data.dataset.has_depth)
    depth_m = float(np.median(surface.depth_m))
    return relief_config(box, chosen, output, depth_m, depth.unit_m, camera.width), grid  # type: ignore[arg-type]


class _Frames:
    """The depth of some frames of a dataset, looked up one by one."""

    def __init__(self, depth: SurfaceDepth, indices: np.ndarray) -> None:
        self._depth, self._indices = depth, indices

    def __getitem__(self, index: Any) -> np.ndarray:
        return self._depth[int(self._indices[index])]


def make(config: TrainConfig, recipe: Recipe, data: TrainingData, device: torch.device) -> Learner:
    """See :func:`make_learner`: a relief of the whole place, or of tiles where one would be too large."""
    chosen = config.relief
    for option, wanted in (("exposure", chosen.exposure), ("refine-poses", chosen.refine_poses)):
        if wanted:
            require_one_process(f"--relief.{option}")
    depth = surface_depth(data, chosen.depth, chosen.box.up, chosen.ground_m)
    network, grid = choose_network(config, data, depth)
    if grid != (1, 1):
        return TiledReliefLearner(config, recipe, data, device, depth, tiled(network, grid))
    model, train = Relief(network), data.split.train
    points = seen_points(model, data.T_map_cam, data.cache.camera, data.cache.rgb, depth, train)
    fuse(model, points, chosen.start)  # without a start too: what was seen is known
    return ReliefLearner(config, recipe, data, device, depth, model)
