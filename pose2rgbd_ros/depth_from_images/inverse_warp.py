"""View synthesis: what a camera should see, looked up in the image of another one; differentiable.

A pixel p_t of the target lies at p_s ~ K_s T_s_t D_t(p_t) K_t^-1 p_t of the source (Zhou et al., "Unsupervised Learning
of Depth and Ego-Motion from Video", 2017, Eq. 2), between whose pixels it is interpolated (Jaderberg et al., "Spatial
Transformer Networks", 2015).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

NEAR = 1e-6  # of the source's camera: nothing nearer its plane is looked up


def look_up(image: Tensor, pixels: Tensor) -> Tensor:
    """Values (B, C, H, W) of images (B, C, h, w) at pixels (B, H, W, 2), u and v, bilinear between pixel centres, which
    lie at integers; beyond the edge the edge goes on. Differentiable in both.
    """
    height, width = image.shape[-2:]
    # From pixel centres at integers to edges at -1 and 1.
    place = (pixels + 0.5) * pixels.new_tensor([2 / width, 2 / height]) - 1
    return functional.grid_sample(image, place.clamp(-2, 2), padding_mode="border", align_corners=False)


def is_inside(pixels: Tensor, height: int, width: int) -> Tensor:
    """Whether pixels (..., 2) lie in an image, which ends half a pixel beyond the outermost centres; bool (...)."""
    return ((pixels >= -0.5) & (pixels <= pixels.new_tensor([width - 0.5, height - 0.5]))).all(dim=-1)


class Warped(NamedTuple):
    """Of B targets of H x W pixels.

    image: (B, C, H, W), the source at the target's pixels; beyond its edge the edge goes on, without a gradient to the
        place. valid: (B, H, W) bool, where depth is known and its point lies in front of the source's camera and within
        its image. depth: (B, H, W) of that point in the source's camera. pixels: (B, H, W, 2), u and v in the source;
        these two mean nothing where depth is unknown.
    """

    image: Tensor
    valid: Tensor
    depth: Tensor
    pixels: Tensor


def inverse_warp(source: Tensor, depth: Tensor, T_src_tgt: Tensor, K: Tensor, K_source: Tensor | None = None) -> Warped:
    """The source image as the target's camera would have taken it.

    Gradients reach all arguments. Pixel centres lie at integers, so an image of W columns ends at -0.5 and W - 0.5, and
    the intrinsics of a smaller scale are those of `geometry.camera.Camera.resized`. Pinholes only.

    Args:
        source: (B, C, h, w) any values: colours, features, depth.
        depth: (B, H, W) of the target; unknown where it is not finite or not positive.
        T_src_tgt: (B, 4, 4) takes points of the target's camera to the source's.
        K: (3, 3) or (B, 3, 3) of the target at the size of `depth`.
        K_source: of the source at its size; None: the same as K.
    """
    height, width = source.shape[-2:]
    known = torch.isfinite(depth) & (depth > 0)
    pixels, z = _seen(torch.where(known, depth, 1.0)[:, None], T_src_tgt, K, K if K_source is None else K_source)
    pixels, z = pixels[:, 0], z[:, 0]
    in_front = known & (z > NEAR)
    return Warped(look_up(source, pixels), in_front & is_inside(pixels, height, width), z, pixels)


def swept(source: Tensor, depths: Tensor, T_src_tgt: Tensor, K: Tensor) -> Tensor:
    """The source as the target's camera would see it, were all at one of P depths (P,): (B, C, P, H, W).

    Zero where the source does not see that far. Its size is the target's, its intrinsics too; for the rest see
    :func:`inverse_warp`. All planes are looked up at once.
    """
    height, width = source.shape[-2:]
    planes = depths[None, :, None, None].expand(len(source), -1, height, width)
    pixels, z = _seen(planes, T_src_tgt, K, K)
    seen = (z > NEAR) & is_inside(pixels, height, width)
    volume = look_up(source, pixels.flatten(1, 2)).unflatten(2, (len(depths), height))
    return volume * seen[:, None]


def _seen(depth: Tensor, T_src_tgt: Tensor, K: Tensor, K_source: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels (B, P, H, W, 2) in the source, and depth there, of the target's pixels at depths (B, P, H, W)."""
    height, width = depth.shape[-2:]
    v, u = torch.meshgrid(
        torch.arange(height, dtype=depth.dtype, device=depth.device),
        torch.arange(width, dtype=depth.dtype, device=depth.device),
        indexing="ij",
    )
    grid = torch.stack([u, v, torch.ones_like(u)]).flatten(1)
    # A pixel's ray in the source's homogeneous pixels grows with depth from where the target's camera stands there.
    with torch.autocast(depth.device.type, enabled=False):  # 8 bits do not hold the number of a pixel
        rays = (K_source @ T_src_tgt[:, :3, :3] @ torch.linalg.inv(K)) @ grid
        start = (K_source @ T_src_tgt[:, :3, 3:])[..., None, None]
    x, y, z = (rays.reshape(-1, 3, 1, height, width) * depth[:, None] + start).unbind(1)
    safe = torch.where(z > NEAR, z, 1.0)
    return torch.stack([x / safe, y / safe], dim=-1), z
