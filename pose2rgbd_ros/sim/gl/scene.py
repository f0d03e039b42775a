"""Meshes in one buffer, drawn with one call after culling."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import moderngl
import numpy as np

from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float32, Float64, Int64, UInt8
from pose2rgbd_ros.sim.gl.camera import boxes_in_view
from pose2rgbd_ros.sim.scene import Light, Mesh, merge

# Shadow maps: of each of the sun's rays, the height of the first surface it meets.
#
# A map is laid out on the horizontal plane z = 0, to which every point goes along the sun's rays (`on_plane`
# in the
# shaders). So its texels are squares on the ground whatever the sun's height, and no texel is spent outside
# the town.


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
        (scale, offset), (other_scale, other_offset) = (map(np.array, self.lookup()), map(np.array, other.lookup()))
        ratio = scale / other_scale
        return tuple(ratio), tuple(offset - other_offset * ratio)

    def use(self, unit: int) -> None:
        """Bind to a texture unit."""
        self._sampler.use(unit)


# Textures as the shaders want them: square roots of linear values.
#
# Eight bits of linear light are too few in the dark, and sRGB costs a power per texel in software. The square
# root is close to
# sRGB, and squaring undoes it.


_SRGB = np.arange(256) / 255.0
LINEAR_OF_SRGB: Float64 = np.where(_SRGB <= 0.04045, _SRGB / 12.92, ((_SRGB + 0.055) / 1.055) ** 2.4)
_ROOT_OF_SRGB: UInt8 = np.rint(255 * np.sqrt(LINEAR_OF_SRGB)).astype(np.uint8)


def upload(context: moderngl.Context, rgb: UInt8) -> moderngl.Texture | moderngl.TextureArray:
    """A texture of (H, W, 3) sRGB, or an array of them of (L, H, W, 3); with mipmaps. The array's textures repeat."""
    root = np.full((*rgb.shape[:-1], 4), 255, np.uint8)
    root[..., :3] = _ROOT_OF_SRGB[rgb]
    height, width = rgb.shape[-3:-1]
    texture: moderngl.Texture | moderngl.TextureArray
    if rgb.ndim == 4:
        texture = context.texture_array((width, height, len(rgb)), 4, root.tobytes())
        texture.repeat_x = texture.repeat_y = True
    else:
        texture = context.texture((width, height), 4, root.tobytes())
        texture.repeat_x = texture.repeat_y = False
    texture.build_mipmaps()
    # The nearest mipmap: a blend of two costs a tenth of the whole picture in software, and the eye finds no
    # difference.
    texture.filter = moderngl.LINEAR_MIPMAP_NEAREST, moderngl.LINEAR
    return texture


FORMAT = {"position_m": 3, "normal": 3, "uv": 2, "layer": 1, "tint": 3}  # attributes and their floats, in order


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

    def draw_either(self, programs: tuple[moderngl.Program, moderngl.Program], indices: Int64, second: Bool) -> None:
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
            layout = [f"{floats}f" if name in program else f"{4 * floats}x" for name, floats in FORMAT.items()]
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
    columns: list[AnyArray] = [mesh.position_m, mesh.normal, mesh.uv, mesh.layer[:, None], LINEAR_OF_SRGB[mesh.tint]]
    return np.concatenate(columns, axis=1, dtype=np.float32)
