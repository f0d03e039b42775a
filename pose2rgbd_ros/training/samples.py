"""Quick pictures from a running training: recorded above predicted, one column a frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

UNKNOWN_GREY = 40


def depth_to_rgb(depth: np.ndarray, nearest: float, farthest: float) -> np.ndarray:
    """(H, W) depth -> (H, W, 3) uint8 RGB in the turbo colours, near is red, far is blue, unknown dark grey."""
    span = max(farthest - nearest, 1e-9)
    unit = np.nan_to_num(1.0 - (depth - nearest) / span, nan=0.0)
    levels = np.clip(np.rint(unit * 255), 0, 255).astype(np.uint8)
    picture = np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[..., ::-1])
    picture[~np.isfinite(depth)] = UNKNOWN_GREY
    return picture


def confidence_to_rgb(confidence: np.ndarray) -> np.ndarray:
    """(H, W) sum of slices -> (H, W, 3) uint8 grey: 0 black, the ideal 1 mid grey, 2 and more white."""
    grey = np.clip(np.rint(confidence * 127.5), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def write_samples(path: Path, rows: list[list[np.ndarray]]) -> None:
    """Write a PNG of rows of equally sized (H, W, 3) uint8 RGB tiles; small tiles are enlarged to 128 px."""
    write_picture(path, sheet(rows))


def sheet(rows: list[list[np.ndarray]]) -> np.ndarray:
    """The rows as one picture (H, W, 3) uint8."""
    side = max(128, max(tile.shape[0] for row in rows for tile in row))
    tiles = [[_fitted(tile, side) for tile in row] for row in rows]
    return np.concatenate([np.concatenate(row, axis=1) for row in tiles], axis=0)


def write_picture(path: Path, rgb: np.ndarray) -> None:
    """Write a picture (H, W, 3) uint8 RGB; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rgb[..., ::-1])


def _fitted(tile: np.ndarray, side: int) -> np.ndarray:
    fitted = cv2.resize(tile, (side, side), interpolation=cv2.INTER_NEAREST)
    return cv2.copyMakeBorder(fitted, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(255, 255, 255))
