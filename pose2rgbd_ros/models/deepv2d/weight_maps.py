"""Where the motion module looks: its weights over the image that they were read from (the paper's Figure 6)."""

from __future__ import annotations

import matplotlib
import numpy as np
from torch import Tensor

from pose2rgbd_ros.geometry.arrays import UInt8
from pose2rgbd_ros.models.deepv2d.layers import enlarged

COLOURS = "inferno"
SHOWN = 0.6  # of the colours, over grey


def weight_maps(image: Tensor, weights: Tensor) -> UInt8:
    """Side by side, (H, 3 W, 3) RGB: the target's image, weights of horizontal and of vertical flow over it.

    Colours go from the least weight of both maps to the greatest, for trained weights may all be small.

    Args:
        image: (3, H, W) in 0..1, of sides that are multiples of 4 px.
        weights: (H / 4, W / 4, 2) of one source and step, see `MotionSteps`.
    """
    rgb = image.detach().cpu().movedim(0, -1).numpy()
    maps = enlarged(weights.detach().cpu().movedim(-1, 0)[None])[0].numpy()
    share = (maps - maps.min()) / max(float(maps.max() - maps.min()), 1e-9)
    grey = rgb.mean(axis=-1, keepdims=True)
    over = [SHOWN * matplotlib.colormaps[COLOURS](each)[..., :3] + (1 - SHOWN) * grey for each in share]
    picture: UInt8 = np.rint(255 * np.clip(np.concatenate([rgb, *over], axis=1), 0, 1)).astype(np.uint8)
    return picture
