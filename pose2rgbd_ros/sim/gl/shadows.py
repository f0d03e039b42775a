"""Shadow maps: of each of the sun's rays, the height of the first surface it meets.

A map is laid out on the horizontal plane z = 0, to which every point goes along the sun's rays (`on_plane` in the
shaders). So its texels are squares on the ground whatever the sun's height, and no texel is spent outside the town.
"""

from __future__ import annotations

import moderngl
import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.scene import Light

Bounds = tuple[Float64, Float64]
_SLACK_M = 0.01  # a surface at most this far below another is not in its shadow


def shear(light: Light) -> Float64:
    """(2,): metres a shadow travels sideways for each metre down."""
    sun = np.array(light.sun_direction)
    return sun[:2] / sun[2]


def footprint(low_m: Float64, high_m: Float64, sideways: Float64) -> Bounds:
    """Boxes (N, 3), (N, 3) on the map's plane: bounds (N, 2), (N, 2)."""
    one, other = sideways * low_m[:, 2:], sideways * high_m[:, 2:]
    return low_m[:, :2] - np.maximum(one, other), high_m[:, :2] - np.minimum(one, other)


class ShadowMap:
    """A square map of `size` texels a side and the part of the world it shows."""

    def __init__(self, context: moderngl.Context, size: int) -> None:
        self._size = size
        self._texture = context.depth_texture((size, size))
        self._frame = context.framebuffer(depth_attachment=self._texture)
        self._sampler = context.sampler(
            texture=self._texture,
            filter=(moderngl.LINEAR, moderngl.LINEAR),
            compare_func="<=",
            border_color=(1.0, 1.0, 1.0, 1.0),  # outside there is light
        )
        self._frame.clear()
        self.texel_m = 0.0

    def fit(self, low_m: Float64, high_m: Float64, finest_m: float = 0.0) -> None:
        """Show the plane from low_m to high_m (3,), and their heights; texels no smaller than asked for."""
        texel = np.maximum((high_m - low_m)[:2] / (self._size - 4), max(finest_m, 1e-3))
        self.texel_m = float(texel.max())
        width = np.array([*(texel * self._size), low_m[2] - high_m[2] - 2.0])  # 1 is the lowest
        centre = (low_m + high_m) / 2
        self._scale = 1 / width
        self._offset = 0.5 - centre / width

    def begin(self, program: moderngl.Program) -> None:
        """Clear, and draw with `program` from here on."""
        program["map_scale"].value = tuple(self._scale)  # type: ignore[union-attr]
        program["map_offset"].value = tuple(self._offset)  # type: ignore[union-attr]
        self._frame.use()
        self._frame.clear()

    def lookup(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Scale and offset that take points on the plane to texture coordinates and the height to compare."""
        offset = self._offset + np.array([0.0, 0.0, _SLACK_M]) * self._scale
        return tuple(self._scale), tuple(offset)

    def lookup_from(self, other: ShadowMap) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Scale and offset from the coordinates of another map's lookup to those of this one's."""
        (scale, offset), (other_scale, other_offset) = (
            map(np.array, self.lookup()),
            map(np.array, other.lookup()),
        )
        ratio = scale / other_scale
        return tuple(ratio), tuple(offset - other_offset * ratio)

    def use(self, unit: int) -> None:
        """Bind to a texture unit."""
        self._sampler.use(unit)
