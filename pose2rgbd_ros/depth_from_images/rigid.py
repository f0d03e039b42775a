"""Rigid motions as networks and optimisers have them: six numbers to a transform (4, 4) and back; differentiable.

The conventions are those of `geometry.se3`, which does the same in numpy: a twist is velocity, then turning.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALL = 1e-3  # rad; below, the closed forms lose digits and a few terms of their series are exact


def from_euler(vectors: Tensor) -> Tensor:
    """(..., 6) tx ty tz rx ry rz -> (..., 4, 4) with R = Rx Ry Rz, radians (SfMLearner, DeepV2D)."""
    (sx, sy, sz), (cx, cy, cz) = (of(vectors[..., 3:]).unbind(-1) for of in (torch.sin, torch.cos))
    rows = [
        [cy * cz, -cy * sz, sy],
        [sx * sy * cz + cx * sz, cx * cz - sx * sy * sz, -sx * cy],
        [sx * sz - cx * sy * cz, cx * sy * sz + sx * cz, cx * cy],
    ]
    return assembled(torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2), vectors[..., :3])


def exponential(twist: Tensor) -> Tensor:
    """Twists (..., 6) -> transforms (..., 4, 4): the exponential of SE(3)."""
    v, w = twist[..., :3], twist[..., 3:]
    square = w.square().sum(dim=-1)[..., None, None]
    small = square < _SMALL**2
    angle = torch.where(small, 1.0, square).sqrt()
    once = torch.where(small, 1 - square / 6 + square.square() / 120, angle.sin() / angle)
    half_sine = (angle / 2).sin() / (angle / 2)
    twice = torch.where(small, 0.5 - square / 24 + square.square() / 720, 0.5 * half_sine.square())
    thrice = torch.where(small, 1 / 6 - square / 120, (1 - angle.sin() / angle) / angle.square())
    W = _cross(w)
    WW = W @ W
    one = torch.eye(3, dtype=twist.dtype, device=twist.device)
    return assembled(one + once * W + twice * WW, ((one + twice * W + thrice * WW) @ v[..., None])[..., 0])


def logarithm(T: Tensor) -> Tensor:
    """Transforms (..., 4, 4) -> twists (..., 6), turning by at most pi; at pi itself the gradient is undefined."""
    q = _quaternion(T[..., :3, :3])
    vector, scalar = q[..., :3], q[..., 3:]
    square = vector.square().sum(dim=-1, keepdim=True)
    small = square < (_SMALL / 2) ** 2
    length = torch.where(small, 1.0, square).sqrt()
    # 2 atan2(|v|, s) / |v|, and its series about |v| = 0, where s is near 1.
    stretch = torch.where(small, 2 / scalar - 2 / 3 * square / scalar**3, 2 * torch.atan2(length, scalar) / length)
    w = stretch * vector
    angle2 = w.square().sum(dim=-1)[..., None, None]
    still = angle2 < _SMALL**2
    half = torch.where(still, 1.0, angle2).sqrt() / 2
    bend = torch.where(still, 1 / 12 + angle2 / 720, (1 - half / half.tan()) / (4 * half.square()))
    W = _cross(w)
    one = torch.eye(3, dtype=T.dtype, device=T.device)
    v = ((one - W / 2 + bend * (W @ W)) @ T[..., :3, 3:])[..., 0]
    return torch.cat([v, w], dim=-1)


def inverse(T: Tensor) -> Tensor:
    """Inverse transforms (..., 4, 4), by transposing the rotation."""
    R = T[..., :3, :3].transpose(-1, -2)
    return assembled(R, -(R @ T[..., :3, 3:])[..., 0])


def assembled(R: Tensor, t: Tensor) -> Tensor:
    """Transforms (..., 4, 4) of rotations (..., 3, 3) and translations (..., 3)."""
    top = torch.cat([R, t[..., None]], dim=-1)
    last = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, last], dim=-2)


def _cross(w: Tensor) -> Tensor:
    """(..., 3) -> (..., 3, 3), whose product with a vector is the cross product."""
    x, y, z = w.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _quaternion(R: Tensor) -> Tensor:
    """Unit quaternions (..., 4), x y z w with w >= 0, of rotations (..., 3, 3).

    The matrix 4 q q^T is linear in the rotation; its row of the largest diagonal is the quaternion but for its length.
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in R.unbind(-2))
    rows = [
        [1 + a - e - i, b + d, c + g, h - f],
        [b + d, 1 - a + e - i, f + h, c - g],
        [c + g, f + h, 1 - a - e + i, d - b],
        [h - f, c - g, d - b, 1 + a + e + i],
    ]
    products = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    best = products.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    row = products.gather(-2, best[..., None, None].expand(*best.shape, 1, 4))[..., 0, :]
    q = row / row.norm(dim=-1, keepdim=True)
    return torch.where(q[..., 3:] < 0, -q, q)
