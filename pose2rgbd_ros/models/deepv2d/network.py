"""DeepV2D: depth from views whose motions are known, motions from depth, and the first motions.

Teed and Deng, "DeepV2D: Video to Depth with Differentiable Structure from Motion" (arXiv 1812.04605v1, 2018).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from pose2rgbd_ros.depth_from_images import rigid
from pose2rgbd_ros.depth_from_images.snippets import target_of
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.deepv2d.alternation import alternate
from pose2rgbd_ros.models.deepv2d.config import DeepV2DConfig
from pose2rgbd_ros.models.deepv2d.layers import STRIDE, sources_of, with_target
from pose2rgbd_ros.models.deepv2d.motion import MotionModule, PoseRegressor, Steps
from pose2rgbd_ros.models.deepv2d.stereo import Stereo
from pose2rgbd_ros.training.families import ViewsDepth


class MotionSteps(NamedTuple):
    """What the motion module makes of B snippets of N images; S = N - 1 are the sources, the target left out.

    By step, the last one the best; pixels are those of a quarter of the images' size, h = H / 4 and w = W / 4, of which
    pixel (i, j) lies at the image's (4 i, 4 j).

    T_tgt_i: (B, N, 4, 4) pose of each view in the target's camera; the target has the identity. No gradient passes from
        one step to the one before.
    flows: (B, S, h, w, 2) residual flow, u and v, from where the motion before the step takes the target's pixels.
    weights: (B, S, h, w, 2) confidence 0..1 of u and v, zero where a point is out of the source's sight.
    residuals: (B, S, h, w, 2) what the step's motion leaves of the flow (e of Eq. 8, 10), zero where not valid.

    The last three are empty lists where motions are read without the SE(3) layer.
    """

    T_tgt_i: list[Tensor]
    flows: list[Tensor]
    weights: list[Tensor]
    residuals: list[Tensor]


class TrainingPass(NamedTuple):
    """Motions at sight (B, N, 4, 4), motions in steps, and depth (B, H, W) by each hourglass."""

    T_first: Tensor
    steps: MotionSteps
    depths: list[Tensor]


class DeepV2D(nn.Module):
    """The stereo module, the motion module and the pose regressor.

    Snippets are images (B, N, 3, H, W) in 0..1 in time order, of which `target_of(N)` is the target; H and W are any
    multiples of 4 px. K (B, 3, 3) are their intrinsics, pixel centres at integers.
    """

    def __init__(self, config: DeepV2DConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.image_size
        self.stereo_module = Stereo(config)
        self.motion_module = MotionModule(config)
        together = config.regressor == "all"
        self.regressor = PoseRegressor(*((config.views, config.views - 1) if together else (2, 1)), config)

    def stereo(self, images: Tensor, K: Tensor, T_tgt_i: Tensor) -> list[Tensor]:
        """Depth (B, H, W) of the target by each hourglass, the last one the best.

        T_tgt_i (B, N, 4, 4): the pose of each view in the target's camera. A target alone is a pair of it with itself.

        Raises:
            UserError: sides that are no multiples of 4 px; another number of views than all are read at once of.
        """
        depths: list[Tensor] = self.stereo_module(*self._sources(images, K, T_tgt_i))
        return depths

    def stereo_with_spread(self, images: Tensor, K: Tensor, T_tgt_i: Tensor) -> tuple[Tensor, Tensor]:
        """Depth (B, H, W) as :meth:`stereo` finds it, and its standard deviation over the planes."""
        return self.stereo_module.with_spread(*self._sources(images, K, T_tgt_i))

    def _sources(self, images: Tensor, K: Tensor, T_tgt_i: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the stereo module takes: the target's image first, and motions from it to the sources."""
        self._check(images)
        views, target = images.shape[1], target_of(images.shape[1])
        fixed = self.config.pooling == "concatenate"
        if fixed and self.config.stereo and views > 1:
            self._need_all(views)
        others = sources_of(views, target)
        if not others or not self.config.stereo:
            others = [target] * (self.config.views - 1 if fixed else 1)
        return images[:, [target, *others]], K, rigid.inverse(T_tgt_i[:, others])

    def motion(self, images: Tensor, K: Tensor, depth: Tensor, T_tgt_i: Tensor, steps: int = 3) -> MotionSteps:
        """Motions refined in steps from T_tgt_i (B, N, 4, 4) by the target's depth (B, H, W), which may have holes."""
        self._check(images)
        views, target = images.shape[1], target_of(images.shape[1])
        others = sources_of(views, target)
        if not others:
            return MotionSteps([T_tgt_i] * steps, [], [], [])
        start = rigid.inverse(T_tgt_i[:, others]).flatten(0, 1)
        found: Steps = self.motion_module(images[:, [target, *others]], K, depth, start, steps)
        shape = (len(images), len(others))
        flows, weights, residuals = ([each.unflatten(0, shape) for each in of] for of in found[1:])
        motions = [with_target(rigid.inverse(T).unflatten(0, shape), target) for T in found.T_src_tgt]
        return MotionSteps(motions, flows, weights, residuals)

    def initial_motions(self, images: Tensor, K: Tensor) -> Tensor:
        """T_tgt_i (B, N, 4, 4) at first sight; K is not looked at.

        UserError: another number of views than all are read at once of.
        """
        views, target = images.shape[1], target_of(images.shape[1])
        others = sources_of(views, target)
        scaled = 2 * images - 1
        if not others:
            T_src_tgt = scaled.new_zeros(len(images), 0, 4, 4)
        elif self.config.regressor == "all":
            self._need_all(views)
            T_src_tgt = self.regressor(scaled[:, [target, *others]].flatten(1, 2))
        else:
            pairs = torch.stack([scaled[:, [target, other]] for other in others], dim=1)
            T_src_tgt = self.regressor(pairs.flatten(0, 1).flatten(1, 2))[:, 0].unflatten(0, pairs.shape[:2])
        return with_target(rigid.inverse(T_src_tgt), target)

    # As training/families.py asks of all models of video.

    def depth(self, images: Tensor) -> Tensor:
        """Depth (B, H, W) of images (B, 3, H, W) alone, each beside itself: a guess, see :meth:`from_views`."""
        still = torch.eye(4, device=images.device).expand(len(images), 1, 4, 4)
        K = torch.eye(3, device=images.device).expand(len(images), 3, 3)  # of no matter where nothing moves
        return self.stereo(images[:, None], K, still)[-1] * self.config.unit_m

    def motions(self, images: Tensor, K: Tensor) -> Tensor:
        """See :class:`~pose2rgbd_ros.training.families.VideoModel`."""
        found = alternate(self, images, K).T_tgt_i
        assert found is not None
        return found

    def from_views(
        self,
        images: Tensor,
        K: Tensor,
        T_tgt_i: Tensor | None = None,
        iterations: int | None = None,
        start: Tensor | Literal["motion", "flat"] = "motion",
    ) -> ViewsDepth:
        """See :class:`~pose2rgbd_ros.training.families.MultiViewModel`."""
        return alternate(self, images, K, T_tgt_i, iterations, start)

    def forward(
        self,
        images: Tensor,
        K: Tensor,
        T_start: Tensor | None,
        depth: Tensor | None,
        T_tgt_i: Tensor | None,
        with_depth: bool,
    ) -> TrainingPass:
        """A step of training.

        Args:
            T_start: motions to begin with; None: those found at sight.
            depth: what motions are found by; None: what the stereo module finds with T_start.
            T_tgt_i: motions that depth is found with; None: those found here.
            with_depth: whether depth is learnt.
        """
        first = self.initial_motions(images, K)
        start = first.detach() if T_start is None else T_start
        if depth is None:
            with torch.no_grad():
                depth = self.stereo(images, K, start)[-1]
        steps = self.motion(images, K, depth, start, self.config.residual_steps)
        known = steps.T_tgt_i[-1] if T_tgt_i is None else T_tgt_i
        return TrainingPass(first, steps, self.stereo(images, K, known) if with_depth else [])

    def _need_all(self, views: int) -> None:
        if views != self.config.views:
            raise UserError(f"this network reads {self.config.views} views at once, not {views}")

    def _check(self, images: Tensor) -> None:
        height, width = images.shape[-2:]
        if height % STRIDE or width % STRIDE:
            raise UserError(f"images are {width} x {height} px; both sides must be multiples of {STRIDE} px")


NETWORKS = {"deepv2d": (DeepV2DConfig, DeepV2D)}
