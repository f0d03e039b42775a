"""The SE(3) layer of DeepV2D: the camera motion that best explains where the pixels of an image went; differentiable.

Weighted Gauss-Newton on reprojections (Teed and Deng, "DeepV2D", arXiv 1812.04605v1, Eqs. 7-10). A point X = T z K^-1 p
of the target, in the source's camera, is moved by an update exp(xi) T, so that the derivative of its pixel by xi at 0
is J = d(pixel)/dX [I | -[X]x]. With e = pixel(xi) - wanted, least squares are at xi = -(J'WJ)^-1 J'W e(0). The paper's
Eq. 9 writes the residual flow R = -e(0) in the place of e(0) and keeps the minus, which would step away from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pose2rgbd_ros.depth_from_images import rigid

Variant = Literal["preprint", "code", "robust"]


LEAST_MEDIAN = 1e-6  # pixels


@dataclass(frozen=True)
class GaussNewton:
    """How the least squares are solved.

    steps: Gauss-Newton steps on the same correspondences.
    damping, relative_damping: added to the diagonal, the second one as a share of it.
    largest_update: of any of the six numbers of a step. scale_free: translations are counted in mean depths of the
        target, so that the unit of depth does not matter; otherwise in that unit.
    least_depth: a point nearer either camera says nothing; of the mean depth where scale_free.
    largest_gradient: gradients to correspondences and weights beyond it are dropped; None: none is.
    reweighted: further steps, in which a correspondence counts the less the farther it lies from where the motion so
        far takes it (Cauchy's weights, at the median distance). Gradients see these weights as constants.
    """

    steps: int = 1
    damping: float = 100.0
    relative_damping: float = 1e-4
    largest_update: float = 1.0
    scale_free: bool = True
    least_depth: float = 1e-3
    largest_gradient: float | None = None
    reweighted: int = 0


# The preprint names no damping. Without any, what cannot be told apart (over a plane: a move to the side and a turn)
# makes steps that training does not survive; it is given the code's, which is of scenes at depths about 1 to 10, in
# units of the mean depth. A gradient beyond 1e-3 is a large one where thousands of pixels share it.
VARIANTS: dict[Variant, GaussNewton] = {
    "preprint": GaussNewton(),
    "code": GaussNewton(steps=2, scale_free=False, least_depth=0.1, largest_gradient=1e-3),
    "robust": GaussNewton(reweighted=2),
}


class Reprojection(NamedTuple):
    """Of the pixels of B targets.

    pixels: (B, H, W, 2), u and v in the source; zero where not valid. points: (B, H, W, 3) in the source's camera,
        (0, 0, 1) where not valid.
    valid: (B, H, W) bool, where depth is known and the point lies before the source's camera.
    """

    pixels: Tensor
    points: Tensor
    valid: Tensor


def reprojected(depth: Tensor, K: Tensor, T_src_tgt: Tensor, least_depth: float | Tensor = 1e-6) -> Reprojection:
    """Where the target's pixels lie in the source (Eq. 4), inside its image or not.

    Args:
        depth: (B, H, W) of the target; unknown where it is not finite or not positive.
        K: (B, 3, 3) of both cameras at that size, pixel centres at integers.
        T_src_tgt: (B, 4, 4) takes points of the target's camera to the source's.
        least_depth: nearer either camera, a point is not valid; a number or (B, 1, 1).
    """
    known = torch.isfinite(depth) & (depth > 0)
    v, u = torch.meshgrid(
        torch.arange(depth.shape[-2], dtype=depth.dtype, device=depth.device),
        torch.arange(depth.shape[-1], dtype=depth.dtype, device=depth.device),
        indexing="ij",
    )
    rays = torch.stack([u, v, torch.ones_like(u)], dim=-1) @ torch.linalg.inv(K).mT[:, None]
    seen = (torch.where(known, depth, 1.0)[..., None] * rays) @ T_src_tgt[:, None, :3, :3].mT
    points = seen + T_src_tgt[:, None, None, :3, 3]
    valid = known & (depth > least_depth) & (points[..., 2] > least_depth)
    points = torch.where(valid[..., None], points, points.new_tensor([0.0, 0.0, 1.0]))
    pixels = (points @ K[:, None].mT)[..., :2] / points[..., 2:]
    return Reprojection(torch.where(valid[..., None], pixels, 0.0), points, valid)


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
    T, wanted, weights, depth, K_wide = (each.double() for each in (T_src_tgt, wanted, weights, depth, K))
    finite = (torch.isfinite(wanted) & torch.isfinite(weights)).all(dim=-1)
    wanted = _limited(torch.where(finite[..., None], wanted, 0.0), how.largest_gradient)
    weights = _limited(torch.where(finite[..., None], weights, 0.0), how.largest_gradient)
    depth = torch.where(torch.isfinite(depth) & (depth > 0), depth, 0.0)
    unit = _mean_depth(depth) if how.scale_free else depth.new_ones(len(depth))
    T, depth = _scaled(T, 1 / unit), depth / unit[:, None, None]
    for step in range(how.steps + how.reweighted):
        seen = reprojected(depth, K_wide, T, how.least_depth)
        counts = torch.where((seen.valid & finite)[..., None], weights, 0.0)
        if step >= how.steps:
            counts = counts * _agreement((seen.pixels - wanted).detach(), seen.valid & finite)
        W = counts.flatten(1)
        J = _jacobian(seen, K_wide).flatten(1, 3)
        e = (seen.pixels - wanted).flatten(1)
        JW = J.mT * W[:, None]
        xi = _solved(JW @ J, -(JW @ e[..., None])[..., 0], how)
        T = rigid.exponential(xi.clamp(-how.largest_update, how.largest_update)) @ T
    return _scaled(T, unit).to(T_src_tgt)


def _jacobian(seen: Reprojection, K: Tensor) -> Tensor:
    """(B, H, W, 2, 6) derivatives of pixels by an update's velocity and turning, at none."""
    z = seen.points[..., 2, None, None]
    # Of u = (K X)_u / z by X: the row of K less u in the column of z, over z.
    by_point = (K[:, None, None, :2] - functional.pad(seen.pixels[..., None], (2, 0))) / z
    # j . (w x X) = w . (X x j)
    return torch.cat([by_point, torch.linalg.cross(seen.points[..., None, :].expand_as(by_point), by_point)], dim=-1)


def _agreement(off: Tensor, known: Tensor) -> Tensor:
    """Cauchy's weights (B, H, W, 1) of distances off (B, H, W, 2): one half at the median of those that are known."""
    distance = off.norm(dim=-1)
    median = torch.where(known, distance, torch.nan).flatten(1).nanmedian(dim=1).values
    relative = distance / median.nan_to_num(1.0).clamp(min=LEAST_MEDIAN)[:, None, None]
    return (1 / (1 + relative.square()))[..., None]


def _solved(H: Tensor, g: Tensor, how: GaussNewton) -> Tensor:
    """xi (B, 6) of the damped systems H xi = g; zero where there is none."""
    diagonal = how.relative_damping * H.diagonal(dim1=-2, dim2=-1) + how.damping
    H = H + torch.diag_embed(diagonal)
    _, failed = torch.linalg.cholesky_ex(H.detach())
    able = (failed == 0) & torch.isfinite(H).flatten(1).all(dim=1) & torch.isfinite(g).all(dim=1)
    H = torch.where(able[:, None, None], H, torch.eye(6, dtype=H.dtype, device=H.device))
    g = torch.where(able[:, None], g, 0.0)
    return torch.cholesky_solve(g[..., None], torch.linalg.cholesky_ex(H)[0])[..., 0]


def _mean_depth(depth: Tensor) -> Tensor:
    """(B,) of what is not zero; 1 where nothing is."""
    mean = depth.sum(dim=(1, 2)) / (depth > 0).sum(dim=(1, 2)).clamp(min=1)
    return torch.where(mean > 0, mean, 1.0)


def _scaled(T: Tensor, factor: Tensor) -> Tensor:
    """Motions whose translation is multiplied by factors (B,)."""
    return rigid.assembled(T[:, :3, :3], factor[:, None] * T[:, :3, 3])


def _limited(x: Tensor, largest: float | None) -> Tensor:
    """The same, back through which no number of a gradient passes that is larger."""
    if largest is not None and x.requires_grad:
        x.register_hook(lambda gradient: torch.where(gradient.abs() > largest, 0.0, gradient))
    return x
