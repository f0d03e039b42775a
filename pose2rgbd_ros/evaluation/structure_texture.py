"""An image as structure and texture: relative total variation (Xu, Yan, Xia, Jia, "Structure extraction from texture via
relative total variation", 2012).

Texture is what varies to and fro within a window: there the sum of absolute derivatives is large and the absolute value of
their sum is small. Their ratio, the relative total variation, is minimised together with the distance to the image.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.ndimage import gaussian_filter
from scipy.sparse.linalg import splu

from pose2rgbd_ros.geometry.arrays import Float64, UInt8

# As the paper has it: rounds in which the window halves, and what keeps ratios finite.
ROUNDS, NARROWEST_PX = 4, 0.5
LEAST_VARIATION, LEAST_STEP = 1e-3, 0.02
# Its window of 3 pixels and weight of 0.01 are for photographs; of a picture of 64 px they would leave a few patches.
WEIGHT, WINDOW_SHARE = 0.004, 1 / 80


def structure_of(rgb: UInt8, weight: float = WEIGHT, window_px: float | None = None) -> Float64:
    """The structure (H, W, 3) in 0..1 of an image (H, W, 3) uint8; image / 255 - structure is its texture.

    `window_px`: standard deviation of the window, by default WINDOW_SHARE of the longer side, at least a pixel.
    Solved by iterated least squares: with the ratios' denominators held, each round is one sparse linear system.
    """
    image = rgb.astype(np.float64) / 255
    structure = image
    window_px = max(1.0, WINDOW_SHARE * max(rgb.shape)) if window_px is None else window_px
    for round_ in range(ROUNDS):
        sigma_px = max(window_px / 2**round_, NARROWEST_PX)
        system = sparse.identity(image[..., 0].size) + weight * _variation(structure, sigma_px)
        solve = splu(system.tocsc()).solve
        structure = np.stack(
            [solve(image[..., c].ravel()).reshape(image.shape[:2]) for c in range(3)], axis=-1
        )
    return np.asarray(structure.clip(0.0, 1.0))


def strength(image: Float64) -> Float64:
    """How strongly an image (H, W, 3) changes at each pixel (H, W): the length of its derivatives, all colours together."""
    down, right = np.gradient(image, axis=(0, 1))
    return np.asarray(np.sqrt((down**2 + right**2).sum(axis=-1)))


def _variation(structure: Float64, sigma_px: float) -> sparse.spmatrix:
    """The weighted Laplacian (N, N) whose quadratic form is the relative total variation at `structure`."""
    height, width = structure.shape[:2]
    total = sparse.csc_matrix((height * width, height * width))
    for axis, size in ((0, height), (1, width)):
        weights = _weights(structure, axis, sigma_px)
        step = sparse.diags_array([-np.ones(size), np.ones(size - 1)], offsets=[0, 1], shape=(size - 1, size))
        other = sparse.identity(width if axis == 0 else height)
        derivative = sparse.kron(step, other) if axis == 0 else sparse.kron(other, step)
        total = total + derivative.T @ sparse.diags_array(weights.ravel()) @ derivative
    return total


def _weights(structure: Float64, axis: int, sigma_px: float) -> Float64:
    """Weights of the derivatives along an axis: (H - 1, W) or (H, W - 1), smaller where the window agrees on a change."""
    steps = np.diff(structure, axis=axis)
    blur = (sigma_px, sigma_px, 0)
    inherent = np.abs(gaussian_filter(steps, blur)).mean(axis=-1)
    agreed = gaussian_filter(1.0 / (inherent + LEAST_VARIATION), sigma_px)
    return np.asarray(agreed / (np.abs(steps).mean(axis=-1) + LEAST_STEP))
