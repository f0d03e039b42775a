"""Colour for pixels that have none, drawn in from those around (pull-push; Gortler et al., "The Lumigraph", 1996)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fill_holes(image: NDArray[np.float32], known: NDArray[np.bool_]) -> bool:
    """Fill the pixels of `image` (H, W, C) that are not `known` (H, W), in place; True: none was known, nothing done.

    Each level of a pyramid is half as large, its pixels the mean of the known ones among four; a hole takes the
    colour of the finest level that has one, interpolated between neighbours.
    """
    if known.all():
        return False
    if not known.any():
        return True
    if min(image.shape[:2]) > 1:
        smaller, smaller_known = _halved(image, known)
        fill_holes(smaller, smaller_known)
        larger = _doubled(smaller, image.shape[:2])
    else:
        larger = np.broadcast_to(image[known].mean(axis=0), image.shape)
    image[~known] = larger[~known]
    return False


def _halved(
    image: NDArray[np.float32], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    height, width = known.shape
    pad = ((0, height % 2), (0, width % 2))
    weight = np.pad(known.astype(np.float32), pad)
    total = np.pad(np.where(known[..., None], image, 0), (*pad, (0, 0)))
    blocks = weight.shape[0] // 2, 2, weight.shape[1] // 2, 2
    count = weight.reshape(blocks).sum(axis=(1, 3))
    mean = total.reshape(*blocks, -1).sum(axis=(1, 3)) / np.maximum(count, 1)[..., None]
    return mean.astype(np.float32), count > 0


def _doubled(image: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Bilinear, twice as large, cut to `shape`."""
    for axis in (0, 1):
        size = image.shape[axis]
        place = (np.arange(2 * size) + 0.5) / 2 - 0.5
        low = np.clip(np.floor(place), 0, size - 1).astype(int)
        high = np.minimum(low + 1, size - 1)
        share = np.clip(place - low, 0, 1).astype(np.float32)
        share = share.reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        image = image.take(low, axis) * (1 - share) + image.take(high, axis) * share
    return image[: shape[0], : shape[1]]
