"""Meshes in one buffer, drawn with one call after culling."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import moderngl
import numpy as np

from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float32, Float64, Int64
from pose2rgbd_ros.sim.gl.projection import boxes_in_view
from pose2rgbd_ros.sim.gl.textures import LINEAR_OF_SRGB
from pose2rgbd_ros.sim.scene import Mesh, merge

FORMAT = {
    "position_m": 3,
    "normal": 3,
    "uv": 2,
    "layer": 1,
    "tint": 3,
}  # attributes and their floats, in order


POSE = "pose_x", "pose_y", "pose_z"  # rows of T_map_mover, one set for each mesh


class Batch:
    """Meshes of at least one triangle each, and their bounds `low_m`, `high_m` (N, 3).

    When `posed`, each has a pose of its own, and the bounds are in its own frame.
    """

    def __init__(self, context: moderngl.Context, meshes: Sequence[Mesh], posed: bool = False) -> None:
        self._context = context
        whole = merge(meshes)
        self._vertices = context.buffer(interleaved(whole).tobytes())
        self._indices = context.buffer(whole.triangles.astype(np.uint32).tobytes())
        bounds = [mesh.bounds_m() for mesh in meshes]
        self.low_m: Float64 = np.array([low for low, _ in bounds])
        self.high_m: Float64 = np.array([high for _, high in bounds])
        counts = np.array([3 * len(mesh.triangles) for mesh in meshes])
        # Of each: count, instances, first index, base vertex, base instance, as glMultiDrawElementsIndirect reads them.
        self._commands = np.zeros((len(meshes), 5), np.uint32)
        self._commands[:, 0], self._commands[:, 1] = counts, 1
        self._commands[:, 2] = np.cumsum([0, *counts[:-1]])
        self._commands[:, 4] = np.arange(len(meshes)) if posed else 0
        self._poses = context.buffer(reserve=48 * len(meshes), dynamic=True) if posed else None
        self._queue = context.buffer(reserve=self._commands.nbytes, dynamic=True)
        self._arrays: dict[int, moderngl.VertexArray] = {}

    def in_view(self, clip_from_map: Float64, eye_m: Float64) -> Int64:
        """Indices of what `clip_from_map` (4, 4) does not exclude, the nearest to `eye_m` (3,) first.

        In this order few hidden surfaces are shaded.
        """
        seen = np.flatnonzero(boxes_in_view(clip_from_map, self.low_m, self.high_m))
        gap = np.maximum(np.maximum(self.low_m[seen] - eye_m, eye_m - self.high_m[seen]), 0)
        return seen[np.argsort((gap**2).sum(axis=1), kind="stable")]

    def draw(self, program: moderngl.Program, indices: Int64) -> None:
        """Draw those meshes in that order, with one call."""
        if len(indices):
            self._queue.write(self._commands[indices].tobytes())
            self._array(program).render_indirect(self._queue, moderngl.TRIANGLES, count=len(indices))

    def draw_either(
        self, programs: tuple[moderngl.Program, moderngl.Program], indices: Int64, second: Bool
    ) -> None:
        """Draw those meshes in that order, those of `second` (N,) with the second program, a call for each run."""
        if not len(indices):
            return
        self._queue.write(self._commands[indices].tobytes())
        ends = [0, *(np.flatnonzero(np.diff(second)) + 1).tolist(), len(indices)]
        for first, end in itertools.pairwise(ends):
            array = self._array(programs[int(second[first])])
            array.render_indirect(self._queue, moderngl.TRIANGLES, count=end - first, first=first)

    def place(self, T_map_mesh: Float64) -> None:
        """Move all meshes to these poses (N, 4, 4)."""
        if self._poses:
            self._poses.write(T_map_mesh[:, :3].astype(np.float32).tobytes())

    def _array(self, program: moderngl.Program) -> moderngl.VertexArray:
        if program.glo not in self._arrays:
            # A program has only the attributes that it uses; the others are skipped over.
            layout = [
                f"{floats}f" if name in program else f"{4 * floats}x" for name, floats in FORMAT.items()
            ]
            names = [name for name in FORMAT if name in program]
            content = [(self._vertices, " ".join(layout), *names)]
            if self._poses:
                content.append((self._poses, "4f 4f 4f /i", *POSE))
            self._arrays[program.glo] = self._context.vertex_array(
                program, content, self._indices, index_element_size=4
            )
        return self._arrays[program.glo]


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
