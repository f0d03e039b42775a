"""How alike two pictures are, and how smooth a map is: the losses of learning from views of each other; differentiable.

Images are (B, C, H, W) in 0..1 and maps (B, C, H, W); any precision.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

C1, C2 = 1e-4, 9e-4  # 0.01^2 and 0.03^2, of values in 0..1


def ssim_difference(image: Tensor, other: Tensor) -> Tensor:
    """(1 - SSIM) / 2 of each pixel and channel (B, C, H, W), within 0..1: 0 alike, 0.5 nothing in common.

    Wang et al., "Image Quality Assessment" (2004), Eq. 13, over windows of 3 x 3 pixels of equal weight, as TrianFlow
    has it; at the border the window is what lies within the image.
    """
    a, b = _mean3(image), _mean3(other)
    var_a, var_b = _mean3(image.square()) - a.square(), _mean3(other.square()) - b.square()
    covariance = _mean3(image * other) - a * b
    above = (2 * a * b + C1) * (2 * covariance + C2)
    below = (a.square() + b.square() + C1) * (var_a + var_b + C2)
    return ((1 - above / below) / 2).clamp(0, 1)


def photometric_difference(image: Tensor, other: Tensor, ssim: float = 0.85) -> Tensor:
    """(B, H, W): `ssim` of the structural difference, the rest of the absolute one, each a mean over channels."""
    off = (image - other).abs().mean(dim=1)
    return off if ssim == 0 else ssim * ssim_difference(image, other).mean(dim=1) + (1 - ssim) * off


def masked_mean(values: Tensor, mask: Tensor, least: float = 1e-2) -> Tensor:
    """The mean of values (B, H, W) weighted by a mask of the same shape, a scalar.

    Where less than the share `least` of all pixels is in the mask it is divided by that share all the same: a handful
    of pixels must not outweigh the pictures.
    """
    return (values * mask).mean() / mask.to(values.dtype).mean().clamp(min=least)


def second_order_smoothness(values: Tensor) -> Tensor:
    """Mean absolute second differences of maps, along both axes and across: xx, xy, yx and yy summed (SfMLearner)."""
    dy, dx = values.diff(dim=-2), values.diff(dim=-1)
    second = (dx.diff(dim=-1), dx.diff(dim=-2), dy.diff(dim=-1), dy.diff(dim=-2))
    return sum((each.abs().mean() for each in second if each.numel()), values.new_zeros(()))


def edge_aware_smoothness(values: Tensor, image: Tensor, order: Literal[1, 2] = 1, edge: float = 1.0) -> Tensor:
    """Mean absolute differences of maps, along x and y summed, that count less where the image changes.

    The weight is exp(-edge * |dI|), dI being the mean over channels of the image's first difference; a second
    difference has the weight of the latter of the two steps it is made of.
    """
    total = values.new_zeros(())
    for axis in (-1, -2):
        weight = torch.exp(-edge * image.diff(dim=axis).abs().mean(dim=1, keepdim=True))
        change = values.diff(n=order, dim=axis)
        if change.numel():
            total = total + (change.abs() * weight.narrow(axis, order - 1, change.shape[axis])).mean()
    return total


def area_resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (..., H, W) at (height, width) `size`: each pixel is the mean of the area that it covers."""
    height, width = images.shape[-2:]
    if (height, width) == tuple(size):
        return images
    if height % size[0] == 0 and width % size[1] == 0:
        window = (height // size[0], width // size[1])
        return functional.avg_pool2d(images.flatten(0, -4), window).unflatten(0, images.shape[:-3])
    return area_shares(height, size[0]).to(images) @ images @ area_shares(width, size[1]).to(images).T


def intrinsics_resized(K: Tensor, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
    """Intrinsics (..., 3, 3) of images resized from (height, width) `before` to `after`; see Camera.resized."""
    sy, sx = after[0] / before[0], after[1] / before[1]
    return K.new_tensor([[sx, 0.0, (sx - 1) / 2], [0.0, sy, (sy - 1) / 2], [0.0, 0.0, 1.0]]) @ K


def pyramid(images: Tensor, scales: int) -> list[Tensor]:
    """Images (..., H, W) at `scales` sizes, each side half of the one before, rounded up."""
    levels = [images]
    for _ in range(scales - 1):
        height, width = levels[-1].shape[-2:]
        # From the full size each time: means of means of unequal parts are not the mean.
        levels.append(area_resized(images, (-(-height // 2), -(-width // 2))))
    return levels


def area_shares(before: int, after: int) -> Tensor:
    """(after, before) float64: which share of the area of each of `after` pixels each of `before` pixels has."""
    edges = torch.arange(after + 1, dtype=torch.float64) * before / after
    pixels = torch.arange(before, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return overlap.clamp(min=0) * after / before


def _mean3(values: Tensor) -> Tensor:
    return functional.avg_pool2d(values, 3, 1, padding=1, count_include_pad=False)
