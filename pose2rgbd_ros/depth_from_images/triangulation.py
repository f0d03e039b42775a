"""Points from matches of two views whose relative pose is known, and what depth has to say to them; differentiable.

Zhao et al., "Towards Better Generalization: Joint Depth-Pose Learning without PoseNet", 2020, supplement B and E. All
arguments may have further leading dimensions, which broadcast: the four poses of an essential matrix, batches.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pose2rgbd_ros.depth_from_images.inverse_warp import NEAR, inverse_warp, is_inside

LEAST_COSINE = 0.001  # of the angle between a ray and the way to the other one: the rays hardly meet below
LEAST_DEPTH = 0.01  # in units of the baseline, or of whatever the translation is measured in


class Triangulated(NamedTuple):
    """Of matches (..., M).

    points: (..., M, 3) in the first camera, in the unit of the translation. depth_first, depth_second: (..., M) along
    the optical axes of both. pixels_first, pixels_second: (..., M, 2), where the cameras see the points.
    """

    points: Tensor
    depth_first: Tensor
    depth_second: Tensor
    pixels_first: Tensor
    pixels_second: Tensor


def unit_rays(pixels: Tensor, K: Tensor) -> Tensor:
    """Directions (..., M, 3) of length 1 through pixels (..., M, 2) of pinholes K (..., 3, 3)."""
    with torch.autocast(pixels.device.type, enabled=False):
        rays = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1) @ torch.linalg.inv(K).mT
    return rays / rays.norm(dim=-1, keepdim=True)


def _two_rays(first: Tensor, second: Tensor, K: Tensor, T_second_first: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Directions of both rays (..., M, 3) and the second camera's place (..., 1, 3), all in the first camera."""
    R = T_second_first[..., :3, :3]
    place = -(T_second_first[..., None, :3, 3] @ R)
    return unit_rays(first, K), unit_rays(second, K) @ R, place


def _cross(a: Tensor, b: Tensor) -> Tensor:
    a, b = torch.broadcast_tensors(a, b)
    return torch.linalg.cross(a, b)


def triangulate(first: Tensor, second: Tensor, K: Tensor, T_second_first: Tensor) -> Triangulated:
    """The middle of the shortest line between the two rays of each match (the supplement's Eq. 1-7).

    The supplement's Eq. 6 has the diagonal of its matrix swapped, which makes no difference for rays of length 1, as
    here. Its denominator, 1 - (n1 n2)^2, is |n1 x n2|^2, whose digits float32 does not lose where rays are nearly
    parallel; where they are exactly, points are at the camera and `is_valid` refuses them.

    Args:
        first, second: (..., M, 2) pixels of matches.
        K: (..., 3, 3) intrinsics of both images.
        T_second_first: (..., 4, 4) takes points of the first camera to the second.
    """
    n1, n2, place = _two_rays(first, second, K, T_second_first)
    across = _cross(n1, n2)
    square = across.square().sum(dim=-1)
    meet = square > torch.finfo(square.dtype).eps ** 2  # a product of a ray with itself rounds to less, not to 0
    square = torch.where(meet, square, 1.0)
    along_1 = torch.where(meet, (_cross(place, n2) * across).sum(dim=-1) / square, 0.0)
    along_2 = torch.where(meet, (_cross(place, n1) * across).sum(dim=-1) / square, 0.0)
    points = (along_1[..., None] * n1 + place + along_2[..., None] * n2) / 2
    in_second = points @ T_second_first[..., :3, :3].mT + T_second_first[..., None, :3, 3]
    return Triangulated(points, points[..., 2], in_second[..., 2], _project(points, K), _project(in_second, K))


def _project(points: Tensor, K: Tensor) -> Tensor:
    """Pixels (..., M, 2); those of points that are not in front of the camera mean nothing."""
    seen = points @ K.mT
    z = seen[..., 2:]
    return seen[..., :2] / torch.where(z > NEAR, z, 1.0)


def ray_cosine(first: Tensor, second: Tensor, K: Tensor, T_second_first: Tensor) -> Tensor:
    """Cosine (..., M) of the angle between the first ray and the way from the first camera to the second ray.

    The way is at a right angle to the second ray, so this is about the angle in radians at which the rays approach each
    other; negative where they part, and 0 towards the epipole (supplement E).
    """
    n1, n2, place = _two_rays(first, second, K, T_second_first)
    way = place - (place * n2).sum(dim=-1, keepdim=True) * n2
    return (way * n1).sum(dim=-1) / way.norm(dim=-1).clamp(min=torch.finfo(way.dtype).tiny)


def is_valid(
    found: Triangulated, cosine: Tensor, height: int, width: int, least_cosine: float = LEAST_COSINE
) -> Tensor:
    """Bool (..., M): rays that meet at an angle, in front of both cameras, at what both images show."""
    in_front = (found.depth_first > LEAST_DEPTH) & (found.depth_second > LEAST_DEPTH)
    seen = is_inside(found.pixels_first, height, width) & is_inside(found.pixels_second, height, width)
    return in_front & seen & (cosine > least_cosine)


# What a depth network is compared with.


def scale_to(predicted: Tensor, triangulated: Tensor, valid: Tensor) -> Tensor:
    """Factors (B,) that take predicted depths (B, M) to triangulated ones, without a gradient; 1 where none is valid.

    The least sum of (1 - a predicted / triangulated)^2. The authors' code divides by the median ratio before, which
    changes only rounding: the factors cancel.
    """
    with torch.no_grad():
        ratio = torch.where(valid, predicted / torch.where(valid, triangulated, 1.0), 0.0)
        square = ratio.square().sum(dim=-1)
        return torch.where(square > 0, ratio.sum(dim=-1) / torch.where(square > 0, square, 1.0), 1.0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over all values where the mask is set; 0 where it is set nowhere, and NaN outside it does no harm."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def triangulation_loss(predicted: Tensor, triangulated: Tensor, valid: Tensor) -> Tensor:
    """L_d: the mean of (1 - predicted / triangulated)^2 over valid matches (B, M) of one image."""
    safe = torch.where(valid, triangulated, 1.0)
    return masked_mean((1 - predicted / safe).square(), valid)


def reprojection_loss(
    depth_first: Tensor, depth_second: Tensor, K: Tensor, T_second_first: Tensor, mask: Tensor
) -> Tensor:
    """L_p: how far one image's depth, moved to the other camera, is from that image's own: mean |1 - z / D2|.

    Args:
        depth_first, depth_second: (B, H, W) in one unit, which is that of the translation.
        mask: (B, H, W) of the first image: rigid and seen in both; what projects beyond the second is left out.
    """
    moved = inverse_warp(depth_second[:, None], depth_first, T_second_first, K)
    seen = moved.image[:, 0]
    known = moved.valid & mask & (seen > 0)
    return masked_mean((1 - moved.depth / torch.where(known, seen, 1.0)).abs(), known)


def rigid_flow(depth: Tensor, K: Tensor, T_second_first: Tensor) -> tuple[Tensor, Tensor]:
    """Flow (B, 2, H, W) in pixels that the camera's motion alone makes, and where it is in the image, (B, H, W)."""
    moved = inverse_warp(depth[:, None], depth, T_second_first, K)
    return (moved.pixels - pixel_grid(depth)).movedim(-1, 1), moved.valid


def pixel_grid(like: Tensor) -> Tensor:
    """Pixel centres (H, W, 2), u and v, of an image (..., H, W)."""
    v, u = torch.meshgrid(
        *(torch.arange(size, dtype=like.dtype, device=like.device) for size in like.shape[-2:]), indexing="ij"
    )
    return torch.stack([u, v], dim=-1)
