"""The movers of a scene at one time, and the shadows they cast."""

from __future__ import annotations

import moderngl
import numpy as np

from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.sim.gl.batch import Batch
from pose2rgbd_ros.sim.gl.programs import Programs
from pose2rgbd_ros.sim.gl.projection import boxes_in_view
from pose2rgbd_ros.sim.gl.shadows import ShadowMap, footprint, shear
from pose2rgbd_ros.sim.scene import Scene

SHADOW_TEXELS = 1024
FINEST_TEXEL_M = 0.04
_BELOW_M = 2.0  # how far below a mover its shadow is expected to fall at most


class Movers:
    """Draws the movers that are in view; those whose shadows alone are in view cast them too."""

    def __init__(self, context: moderngl.Context, scene: Scene, static_shadows: ShadowMap | None) -> None:
        self._scene = scene
        self._batch = Batch(context, [mover.mesh for mover in scene.movers], posed=True)
        self._sideways = shear(scene.light)
        self._static = static_shadows
        self._map = ShadowMap(context, SHADOW_TEXELS) if static_shadows else None

    def place(self, t_s: float, clip_from_map: Float64) -> None:
        """Where they are now, and which of them matter."""
        T_map_mover = self._scene.T_map_movers(t_s)
        half = (self._batch.high_m - self._batch.low_m) / 2
        centre = (self._batch.high_m + self._batch.low_m) / 2
        middle = np.einsum("nij,nj->ni", T_map_mover[:, :3, :3], centre) + T_map_mover[:, :3, 3]
        reach = np.einsum("nij,nj->ni", np.abs(T_map_mover[:, :3, :3]), half)
        low, high = middle - reach, middle + reach
        fall = np.append(self._sideways, 1.0) * (high[:, 2:] - low[:, 2:] + _BELOW_M)
        self._seen: Int64 = np.flatnonzero(boxes_in_view(clip_from_map, low, high))
        reach_low, reach_high = np.minimum(low, low - fall), np.maximum(high, high - fall)
        self._casting: Int64 = np.flatnonzero(boxes_in_view(clip_from_map, reach_low, reach_high))
        self._reach_m = reach_low[self._casting], reach_high[self._casting]
        if len(self._casting):
            self._batch.place(T_map_mover)
        self._low_m, self._high_m = low, high

    def draw(self, program: moderngl.Program) -> None:
        """Draw those in view with `program`."""
        self._batch.draw(program, self._seen)

    def may_shade(self, low_m: Float64, high_m: Float64) -> Bool:
        """Which of the boxes (N, 3), (N, 3) the shadows that were cast may fall on: (N,)."""
        margin = 2 * self._map.texel_m if self._map else 0.0
        low, high = self._reach_m
        apart = (low_m[:, None] > high + margin) | (high_m[:, None] < low - margin)
        return np.asarray((~apart.any(axis=-1)).any(axis=-1))

    def cast_shadows(self, context: moderngl.Context, programs: Programs, unit: int) -> bool:
        """Make the map of their shadows and bind it; False when there are none to be seen."""
        if self._map is None or self._static is None or len(self._casting) == 0:
            return False
        low, high = self._low_m[self._casting], self._high_m[self._casting]
        low_xy, high_xy = footprint(low, high, self._sideways)
        self._map.fit(
            np.append(low_xy.min(axis=0), low[:, 2].min()),
            np.append(high_xy.max(axis=0), high[:, 2].max()),
            FINEST_TEXEL_M,
        )
        context.enable_only(moderngl.DEPTH_TEST)
        self._map.begin(programs.mover_shadow)
        self._batch.draw(programs.mover_shadow, self._casting)
        self._map.use(unit)
        scale, offset = self._map.lookup_from(self._static)
        programs.set("mover_scale", scale)
        programs.set("mover_offset", offset)
        return True
