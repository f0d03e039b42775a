"""DeepV2D: depth from views whose motions are known, motions from depth, and the first motions.

Teed and Deng, "DeepV2D: Video to Depth with Differentiable Structure from Motion" (arXiv 1812.04605v1, 2018).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from pose2rgbd_ros.models.deepv2d.config import DeepV2DConfig


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


class DeepV2D(nn.Module):
    """The stereo module, the motion module and the pose regressor.

    Snippets are images (B, N, 3, H, W) in 0..1 in time order, of which `target_of(N)` is the target; H and W are any
    multiples of 4 px. K (B, 3, 3) are their intrinsics, pixel centres at integers.
    """

    def __init__(self, config: DeepV2DConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.image_size

    def stereo(self, images: Tensor, K: Tensor, T_tgt_i: Tensor) -> list[Tensor]:
        """Depth (B, H, W) of the target by each hourglass, the last one the best.

        T_tgt_i (B, N, 4, 4): the pose of each view in the target's camera. A target alone is a pair of it with itself.

        Raises:
            UserError: sides that are no multiples of 4 px; another number of views than all are read at once of.
        """
        raise NotImplementedError

    def motion(self, images: Tensor, K: Tensor, depth: Tensor, T_tgt_i: Tensor, steps: int = 3) -> MotionSteps:
        """Motions refined in steps from T_tgt_i (B, N, 4, 4) by the target's depth (B, H, W), which may have holes."""
        raise NotImplementedError

    def initial_motions(self, images: Tensor, K: Tensor) -> Tensor:
        """T_tgt_i (B, N, 4, 4) at first sight; K is not looked at."""
        raise NotImplementedError


NETWORKS = {"deepv2d": (DeepV2DConfig, DeepV2D)}
