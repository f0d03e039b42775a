"""What the simulated camera sees at one instant."""

from __future__ import annotations

from dataclasses import dataclass

from pose2rgbd_ros.geometry.arrays import Float32, UInt8

STATIC, MOVER, SHADOW = 0, 1, 2  # labels of pixels


@dataclass(frozen=True, eq=False)
class View:
    """One picture, row 0 on top; the arrays are the caller's own.

    `rgb` (H, W, 3) uint8. `depth_m` (H, W) float32 along the optical axis, NaN where there is only sky. `labels`
    (H, W) uint8: MOVER where a mover is seen by any sample of the pixel, SHADOW where only its shadow is (it takes
    sunlight away there), else STATIC. Where the label is STATIC, colour and depth are bit for bit those of the world
    without movers.
    """

    rgb: UInt8
    depth_m: Float32
    labels: UInt8
