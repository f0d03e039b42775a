"""The SE(3) layer of DeepV2D: the camera motion that best explains where the pixels of an image went; differentiable.

Weighted Gauss-Newton on reprojections (Teed and Deng, "DeepV2D", arXiv 1812.04605v1, Eqs. 7-10). A point X = T z K^-1 p
of the target, in the source's camera, is moved by an update exp(xi) T, so that the derivative of its pixel by xi at 0
is J = d(pixel)/dX [I | -[X]x]. With e = pixel(xi) - wanted, least squares are at xi = -(J'WJ)^-1 J'W e(0). The paper's
Eq. 9 writes the residual flow R = -e(0) in the place of e(0) and keeps the minus, which would step away from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

Variant = Literal["preprint", "code"]
LEAST = 1e-9  # on the diagonal of every system, in which a depth is about 1: what nothing is seen of stays as it is


@dataclass(frozen=True)
class GaussNewton:
    """How the least squares are solved.

    steps: Gauss-Newton steps on the same correspondences.
    damping, relative_damping: added to the diagonal, the second one as a share of it.
    largest_update: of any of the six numbers of a step. scale_free: translations are counted in mean depths of the
        target, so that the unit of depth does not matter; otherwise in that unit.
    least_depth: a point nearer either camera says nothing; of the mean depth where scale_free.
    largest_gradient: gradients to correspondences and weights beyond it are dropped; None: none is.
    """

    steps: int = 1
    damping: float = 0.0
    relative_damping: float = 1e-6
    largest_update: float = 1.0
    scale_free: bool = True
    least_depth: float = 1e-3
    largest_gradient: float | None = None


# The preprint names no damping: what it has here only keeps systems solvable. The code's figures are those of scenes in
# metres or tens of metres, and of gradients that thousands of pixels share.
VARIANTS: dict[Variant, GaussNewton] = {
    "preprint": GaussNewton(),
    "code": GaussNewton(
        steps=2, damping=100.0, relative_damping=1e-4, scale_free=False, least_depth=0.1, largest_gradient=1e-3
    ),
}


class Reprojection(NamedTuple):
    """Of the pixels of B targets.

    pixels: (B, H, W, 2), u and v in the source; zero where not valid. points: (B, H, W, 3) in the source's camera.
    valid: (B, H, W) bool, where depth is known and the point lies before the source's camera.
    """

    pixels: Tensor
    points: Tensor
    valid: Tensor


def reprojected(depth: Tensor, K: Tensor, T_src_tgt: Tensor, least_depth: float = 1e-6) -> Reprojection:
    """Where the target's pixels lie in the source (Eq. 4), inside its image or not.

    Args:
        depth: (B, H, W) of the target; unknown where it is not finite or not positive.
        K: (B, 3, 3) of both cameras at that size, pixel centres at integers.
        T_src_tgt: (B, 4, 4) takes points of the target's camera to the source's.
        least_depth: nearer either camera, a point is not valid; a number or (B,).
    """
    raise NotImplementedError


def refined_motion(
    T_src_tgt: Tensor,
    wanted: Tensor,
    weights: Tensor,
    depth: Tensor,
    K: Tensor,
    how: GaussNewton = VARIANTS["preprint"],
) -> Tensor:
    """The motion (B, 4, 4) that takes the target's pixels nearest to where they are wanted in the source.

    Gradients reach all arguments. Solved in float64 and returned as T_src_tgt's type; never NaN: what is not finite is
    left out, and what cannot be solved leaves the motion as it was.

    Args:
        T_src_tgt: (B, 4, 4) motion to begin with.
        wanted: (B, H, W, 2) pixels u and v in the source: where the motion takes them, plus the residual flow.
        weights: (B, H, W, 2) of u and v, not negative.
        depth, K: see :func:`reprojected`.
    """
    raise NotImplementedError
