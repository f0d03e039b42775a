"""Meshes in one buffer, drawn with one call after culling."""

from __future__ import annotations

from collections.abc import Sequence

import moderngl
import numpy as np

from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64
from pose2rgbd_ros.sim.gl.projection import boxes_in_view
from pose2rgbd_ros.sim.gl.textures import LINEAR_OF_SRGB
from pose2rgbd_ros.sim.scene import Mesh, merge

FORMAT = "3f 3f 2f 1f 3f", "position_m", "normal", "uv", "layer", "tint"


class Batch:
    """Meshes drawn together, each culled by itself, the nearest first (so that hidden surfaces are not shaded).

    Meshes without triangles are left out.
    """

    def __init__(self, context: moderngl.Context, meshes: Sequence[Mesh]) -> None:
        meshes = [mesh for mesh in meshes if len(mesh.triangles)]
        self._context = context
        self._empty = not meshes
        if self._empty:
            return
        whole = merge(meshes)
        self._vertices = context.buffer(interleaved(whole).tobytes())
        self._indices = context.buffer(whole.triangles.astype(np.uint32).tobytes())
        bounds = [mesh.bounds_m() for mesh in meshes]
        self.low_m: Float64 = np.array([low for low, _ in bounds])
        self.high_m: Float64 = np.array([high for _, high in bounds])
        counts = np.array([3 * len(mesh.triangles) for mesh in meshes])
        # count, instances, first index, base vertex, base instance of each
        self._commands = np.zeros((len(meshes), 5), np.uint32)
        self._commands[:, 0], self._commands[:, 1] = counts, 1
        self._commands[:, 2] = np.cumsum([0, *counts[:-1]])
        self._queue = context.buffer(reserve=self._commands.nbytes, dynamic=True)
        self._arrays: dict[int, moderngl.VertexArray] = {}

    def draw(self, program: moderngl.Program, clip_from_map: Float64, eye_m: Float64) -> None:
        """Draw with `program` what `clip_from_map` (4, 4) does not exclude, seen from `eye_m` (3,)."""
        if self._empty:
            return
        seen = np.flatnonzero(boxes_in_view(clip_from_map, self.low_m, self.high_m))
        if len(seen) == 0:
            return
        gap = np.maximum(np.maximum(self.low_m[seen] - eye_m, eye_m - self.high_m[seen]), 0)
        order = seen[np.argsort((gap**2).sum(axis=1), kind="stable")]
        self._queue.write(self._commands[order].tobytes())
        self._array(program).render_indirect(self._queue, moderngl.TRIANGLES, count=len(order))

    def _array(self, program: moderngl.Program) -> moderngl.VertexArray:
        if program.glo not in self._arrays:
            wanted = [name if name in program else None for name in FORMAT[1:]]
            self._arrays[program.glo] = self._context.vertex_array(
                program, [(self._vertices, *_used(wanted))], self._indices, index_element_size=4
            )
        return self._arrays[program.glo]


def _used(names: Sequence[str | None]) -> tuple[str, ...]:
    """The vertex format with padding for attributes a program does not have."""
    layout = []
    for part, name in zip(FORMAT[0].split(), names, strict=True):
        layout.append(part if name else f"{4 * int(part[0])}x")
    return " ".join(layout), *filter(None, names)


def interleaved(mesh: Mesh) -> Float32:
    """(V, 12) in the order of FORMAT, the tint linear."""
    columns: list[AnyArray] = [
        mesh.position_m,
        mesh.normal,
        mesh.uv,
        mesh.layer[:, None],
        LINEAR_OF_SRGB[mesh.tint],
    ]
    return np.concatenate(columns, axis=1, dtype=np.float32)
