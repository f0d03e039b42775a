"""What a renderer needs to know of a world: triangles, textures, light and things that move. Plain numpy, no OpenGL.

The map frame is ENU: x east, y north, z up, metres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.geometry.arrays import Float32, Float64, UInt8

UInt32 = npt.NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class Mesh:
    """Opaque triangles, counter-clockwise seen from outside; V vertices, T triangles.

    `position_m` and `normal` (V, 3) float32, `uv` (V, 2) float32 texture coordinates (they repeat), `layer` (V,) uint8
    of the texture array, `tint` (V, 3) uint8 multiplied onto the texture (sRGB), `triangles` (T, 3) uint32.
    """

    position_m: Float32
    normal: Float32
    uv: Float32
    layer: UInt8
    tint: UInt8
    triangles: UInt32

    def bounds_m(self) -> tuple[Float64, Float64]:
        """Lower and upper corner, each (3,)."""
        return self.position_m.min(axis=0).astype(float), self.position_m.max(axis=0).astype(float)


def merge(meshes: Sequence[Mesh]) -> Mesh:
    """All triangles in one mesh, in order."""
    offsets = np.cumsum([0, *(len(mesh.position_m) for mesh in meshes)])[:-1].astype(np.uint32)
    return Mesh(
        np.concatenate([mesh.position_m for mesh in meshes]),
        np.concatenate([mesh.normal for mesh in meshes]),
        np.concatenate([mesh.uv for mesh in meshes]),
        np.concatenate([mesh.layer for mesh in meshes]),
        np.concatenate([mesh.tint for mesh in meshes]),
        np.concatenate([mesh.triangles + offset for mesh, offset in zip(meshes, offsets, strict=True)]),
    )


@dataclass(frozen=True)
class Light:
    """Sun, sky and haze; colours are linear RGB, 1 is the white of the image."""

    sun_direction: tuple[float, float, float] = (0.45, 0.25, 0.86)  # unit vector towards the sun
    sun_rgb: tuple[float, float, float] = (1.0, 0.95, 0.85)
    sky_rgb: tuple[float, float, float] = (0.36, 0.42, 0.52)  # ambient light from above
    ground_rgb: tuple[float, float, float] = (0.18, 0.17, 0.15)  # ambient light from below
    haze_rgb: tuple[float, float, float] = (0.62, 0.70, 0.80)  # also the sky at the horizon
    haze_per_m: float = 0.0008  # share of the haze grows as 1 - exp(-haze_per_m * distance)


@dataclass(frozen=True, eq=False)
class Mover:
    """A car or a person: `mesh` in its own frame (x forward, z up, origin on the ground below its middle).

    `T_map_mover` takes times (N,) in seconds to poses (N, 4, 4); the same for the same seed, defined for every time.
    """

    kind: str
    mesh: Mesh
    T_map_mover: Callable[[Float64], Float64]


@dataclass(frozen=True, eq=False)
class Scene:
    """A world to look at.

    `chunks`: the static world but for the ground, in pieces small enough to be culled (some 50 m). `ground`: its uv
    (0..1) look into `ground_rgb` (G, G, 3) uint8, row 0 at v = 0; its layer is not used. `textures_rgb`: (L, S, S, 3)
    uint8, sRGB, tiling, S a power of two; layer 0 is plain white. `poses`: optionally, what gives the poses (N, 4, 4)
    of all movers at a time at once, the same that they give one by one.
    """

    chunks: tuple[Mesh, ...]
    ground: Mesh
    ground_rgb: UInt8
    textures_rgb: UInt8
    light: Light = Light()
    movers: tuple[Mover, ...] = ()
    poses: Callable[[float], Float64] | None = None

    def T_map_movers(self, t_s: float) -> Float64:
        """Poses (N, 4, 4) of all movers at one time."""
        if self.poses is not None:
            return self.poses(t_s)
        t = np.array([t_s])
        return np.stack([np.asarray(mover.T_map_mover(t)[0], float) for mover in self.movers])
