"""Colour, depth and labels of a scene from any pose: the lens, buffers on the GPU, culling, the passes."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import cv2
import moderngl
import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float32, Float64, Int64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.gl import shaders as units
from pose2rgbd_ros.sim.gl.shaders import DEPTH, SAMPLES, Programs
from pose2rgbd_ros.sim.scene import Light, Mesh, Scene, merge

# An OpenGL context without a window.


PACKAGES = "libgl1 libegl1 libgl1-mesa-dri"


def open_context(libgl: str = "libGL.so.1", libegl: str = "libEGL.so.1") -> moderngl.Context:
    """A new context on EGL's first device: a GPU, or Mesa's software renderer.

    UserError when there is no EGL, no device, or no OpenGL 4.3.
    """
    try:
        options: dict[str, Any] = {"backend": "egl", "libgl": libgl, "libegl": libegl}
        return moderngl.create_context(require=430, standalone=True, **options)
    except Exception as error:  # moderngl raises plain Exception here
        raise UserError(
            f"the simulator needs OpenGL 4.3 through EGL, and opening it failed ({error}); without a GPU, install "
            f"Mesa's software renderer: sudo apt install {PACKAGES}"
        ) from error


def require_opengl() -> None:
    """UserError where the simulator could not draw; for jobs that would learn it only after much other work."""
    open_context().release()


def largest_picture(context: moderngl.Context) -> int:
    """Pixels a side that this OpenGL can draw."""
    return min(context.info["GL_MAX_TEXTURE_SIZE"], *context.info["GL_MAX_VIEWPORT_DIMS"])


# From OpenCV's camera to OpenGL's clip space, and what of a scene lies in it.


NEAR_M = 0.3


def clip_from_camera(camera: Camera, far_m: float, near_m: float = NEAR_M) -> Float64:
    """(4, 4): points of the optical frame to clip coordinates; w is the depth along the optical axis.

    Image row 0 is OpenGL's row 0, its bottom one, so that buffers are read without turning them over; triangles change
    their sense of rotation by it. Pixel centres at integers are OpenGL's at halves.
    """
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[0, 2] = 2 * camera.fx / camera.width, 2 * (camera.cx + 0.5) / camera.width - 1
    matrix[1, 1], matrix[1, 2] = 2 * camera.fy / camera.height, 2 * (camera.cy + 0.5) / camera.height - 1
    matrix[2, 2] = (far_m + near_m) / (far_m - near_m)
    matrix[2, 3] = -2 * far_m * near_m / (far_m - near_m)
    matrix[3, 2] = 1.0
    return matrix


def boxes_in_view(clip_from_map: Float64, low_m: Float64, high_m: Float64) -> Bool:
    """Which of the axis-aligned boxes (N, 3), (N, 3) may be seen: (N,); False only for those that surely are not."""
    planes = clip_from_map[3] + np.concatenate([clip_from_map[:3], -clip_from_map[:3]])  # (6, 4), inside >= 0
    centre, half = (low_m + high_m) / 2, (high_m - low_m) / 2
    reach = centre @ planes[:, :3].T + planes[:, 3] + half @ np.abs(planes[:, :3]).T
    return np.asarray((reach >= 0).all(axis=1))


# What the simulated camera sees at one instant.


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


class Targets:
    """Buffers for pictures of `width` x `height` with `across` x `across` samples of colour.

    Depth is never averaged: with several samples it is a picture of its own, in `depth`, else the second output of
    `colour`.
    """

    def __init__(self, context: moderngl.Context, width: int, height: int, across: int) -> None:
        size, fine = (width, height), (width * across, height * across)
        self._shape = height, width
        self._depth = context.texture(size, 1, dtype="f4")
        self._final = context.texture(size, 4)
        self.averaged = across > 1
        if self.averaged:
            self._samples = context.texture(fine, 4)
            self.colour = context.framebuffer([self._samples], context.depth_renderbuffer(fine))
            self.depth = context.framebuffer([self._depth], context.depth_renderbuffer(size))
            self._mean = context.framebuffer([self._final])
        else:
            self.colour = context.framebuffer([self._final, self._depth], context.depth_renderbuffer(size))
        self._rgba = np.empty((height, width, 4), np.uint8)

    def resolve(self, context: moderngl.Context, whole: moderngl.VertexArray) -> None:
        """Average the samples; `whole` draws with the program resolve."""
        context.enable_only(moderngl.NOTHING)
        self._samples.use(SAMPLES)
        self._depth.use(DEPTH)
        self._mean.use()
        whole.render(moderngl.TRIANGLES, vertices=3)

    def read(self) -> View:
        """The finished picture, in new arrays."""
        depth_m = np.empty(self._shape, np.float32)
        rgb, labels = np.empty((*self._shape, 3), np.uint8), np.empty(self._shape, np.uint8)
        self._final.read_into(self._rgba)
        self._depth.read_into(depth_m)
        cv2.mixChannels([self._rgba], [rgb, labels], [0, 0, 1, 1, 2, 2, 3, 3])
        if self.averaged:
            np.abs(depth_m, out=depth_m)  # movers' is negative, for `resolve`
        return View(rgb, depth_m, labels)


def whole_picture(context: moderngl.Context, program: moderngl.Program) -> moderngl.VertexArray:
    """A triangle over the whole picture; it needs no vertices."""
    return context.vertex_array(program, [])


# Shadow maps: of each of the sun's rays, the height of the first surface it meets.
#
# A map is laid out on the horizontal plane z = 0, to which every point goes along the sun's rays (`on_plane` in the
# shaders). So its texels are squares on the ground whatever the sun's height, and no texel is spent outside the town.


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
# Eight bits of linear light are too few in the dark, and sRGB costs a power per texel in software. The square root is
# close to sRGB, and squaring undoes it.


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


# The movers of a scene at one time, and the shadows they cast.


MOVERS_SHADOW_TEXELS = 1024
MOVERS_FINEST_TEXEL_M = 0.04
_BELOW_M = 2.0  # how far below a mover its shadow is expected to fall at most


class Movers:
    """Draws the movers that are in view; those whose shadows alone are in view cast them too."""

    def __init__(self, context: moderngl.Context, scene: Scene, static_shadows: ShadowMap | None) -> None:
        self._scene = scene
        self._batch = Batch(context, [mover.mesh for mover in scene.movers], posed=True)
        self._sideways = shear(scene.light)
        self._static = static_shadows
        self._map = ShadowMap(context, MOVERS_SHADOW_TEXELS) if static_shadows else None

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
            MOVERS_FINEST_TEXEL_M,
        )
        context.enable_only(moderngl.DEPTH_TEST)
        self._map.begin(programs.mover_shadow)
        self._batch.draw(programs.mover_shadow, self._casting)
        self._map.use(unit)
        scale, offset = self._map.lookup_from(self._static)
        programs.set("mover_scale", scale)
        programs.set("mover_offset", offset)
        return True


SMALLEST, MOST_SAMPLES = 8, 4  # pixels a side; samples a side of a pixel
SHADOW_TEXELS, FINEST_TEXEL_M = 4096, 0.05  # of the map of what stands still
LOWEST_SUN = 0.05  # height of the unit vector towards it, some 3 degrees
_LIFT_TEXELS = 1.5


class SceneRenderer:
    """Renders one scene with one camera; belongs to the thread that made it.

    Args:
        scene: what to show. Its chunks shade the area of its ground.
        camera: calibrated, without distortion.
        supersample: colour is the mean of n x n samples a pixel, 1 to 4; depth is always that of the pixel's centre.
        shadows: whether the sun's light is blocked by anything.

    Raises:
        UserError: no OpenGL through EGL, or a camera, number of samples or sun that cannot be rendered.
    """

    def __init__(self, scene: Scene, camera: Camera, supersample: int = 1, shadows: bool = True) -> None:
        _check(scene, camera, supersample, shadows)
        self.scene, self.camera = scene, camera
        self._owner = os.getpid(), threading.get_ident()
        context = open_context()
        self._context: moderngl.Context | None = context
        try:
            largest = largest_picture(context) // supersample
            if max(camera.width, camera.height) > largest:
                raise UserError(
                    f"a picture of {camera.width} x {camera.height} pixels is larger than this OpenGL offers: "
                    f"{largest} a side at supersample {supersample}"
                )
            self._targets = Targets(context, camera.width, camera.height, supersample)
            self._programs = Programs(context, self._targets.averaged, shadows)
            self._programs.set_samples(camera, supersample)
            self._programs.set_light(scene.light)
            self._build(context, shadows)
        except moderngl.Error as error:
            self.close()
            raise UserError(f"OpenGL refuses to render {camera}: {error}") from error
        except BaseException:
            self.close()
            raise

    def render(self, T_map_cam: npt.ArrayLike, t_s: float = 0.0, movers: bool = True) -> View:
        """What the camera sees.

        Args:
            T_map_cam: (4, 4) pose of the camera's optical frame in the map.
            t_s: time at which the movers are where they are.
            movers: False is the same world without them.

        Raises:
            UserError: an impossible pose, a closed renderer, or another thread or process than the one that made it.
        """
        if self._context is None:
            raise UserError("this renderer is closed; make another")
        if (os.getpid(), threading.get_ident()) != self._owner:
            raise UserError("a renderer belongs to the thread and process that made it; make one in each")
        pose: Float64 = np.asarray(T_map_cam, dtype=np.float64)
        if pose.shape != (4, 4) or not np.isfinite(pose).all() or not np.isfinite(t_s):
            raise UserError(f"rendering needs a finite 4x4 pose and time, not {pose.tolist()} at {t_s} s")
        with self._context:
            return self._render(self._context, pose, t_s, movers)

    def close(self) -> None:
        """Let go of OpenGL; may be called again."""
        if self._context is not None:
            self._context.release()
            self._context = None

    def __enter__(self) -> SceneRenderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _build(self, context: moderngl.Context, shadows: bool) -> None:
        scene = self.scene
        chunks = [mesh for mesh in scene.chunks if len(mesh.triangles)]
        self._chunks = Batch(context, chunks) if chunks else None
        self._ground = Batch(context, [scene.ground])
        self._sky = whole_picture(context, self._programs.sky)
        self._mean = whole_picture(context, self._programs.resolve)
        batches = [batch for batch in (self._chunks, self._ground) if batch]
        self._low_m = np.min([batch.low_m.min(axis=0) for batch in batches], axis=0)
        self._high_m = np.max([batch.high_m.max(axis=0) for batch in batches], axis=0)
        self._textures = upload(context, scene.textures_rgb), upload(context, scene.ground_rgb)
        self._textures[0].use(units.TEXTURES)
        self._textures[1].use(units.GROUND)
        static_shadows = self._cast_shadows(context) if shadows else None
        self._movers = Movers(context, scene, static_shadows) if scene.movers else None

    def _cast_shadows(self, context: moderngl.Context) -> ShadowMap:
        """The shadows of all that stands still, once."""
        sideways, ground = shear(self.scene.light), self._ground
        self._programs.set("shear", tuple(sideways))
        low, high = ground.low_m[0], ground.high_m[0]
        if self._chunks:
            # Of a ground that reaches beyond the town, only the town; and what stands on it, up to its top.
            low, high = low.copy(), high.copy()
            low[:2] = np.maximum(low[:2], self._chunks.low_m.min(axis=0)[:2])
            high[:2] = np.minimum(high[:2], self._chunks.high_m.max(axis=0)[:2])
            inside = ((self._chunks.low_m[:, :2] < high[:2]) & (self._chunks.high_m[:, :2] > low[:2])).all(axis=1)
            low[2] = min(low[2], self._chunks.low_m[inside, 2].min(initial=low[2]))
            high[2] = max(high[2], self._chunks.high_m[inside, 2].max(initial=high[2]))
        low_xy, high_xy = footprint(low[None], high[None], sideways)
        # Small worlds get small maps: finer texels would not be seen.
        texels = int(np.clip((high_xy - low_xy).max() / FINEST_TEXEL_M, 64, SHADOW_TEXELS))
        shadows = ShadowMap(context, texels)
        shadows.fit(np.append(low_xy[0], low[2]), np.append(high_xy[0], high[2]))
        context.enable_only(moderngl.DEPTH_TEST)
        shadows.begin(self._programs.shadow)
        if self._chunks:
            self._chunks.draw(self._programs.shadow, np.arange(len(self._chunks.low_m)))
        shadows.use(units.STATIC_SHADOWS)
        scale, offset = shadows.lookup()
        self._programs.set("static_scale", scale)
        self._programs.set("static_offset", offset)
        self._programs.set("lift_m", _LIFT_TEXELS * shadows.texel_m)
        return shadows

    def _render(self, context: moderngl.Context, T_map_cam: Float64, t_s: float, with_movers: bool) -> View:
        programs, targets = self._programs, self._targets
        clip_from_map = self._look(T_map_cam)
        movers = self._movers if with_movers else None
        context.depth_func = "<"
        shade = False
        if movers:
            movers.place(t_s, clip_from_map)
            shade = movers.cast_shadows(context, programs, units.MOVER_SHADOWS)
        context.enable_only(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        context.front_face = "cw"  # to OpenGL the picture is upside down
        seen = self._chunks.in_view(clip_from_map, T_map_cam[:3, 3]) if self._chunks else np.arange(0)
        targets.colour.use()
        targets.colour.clear()
        self._draw_lit(seen, movers, shade)
        context.enable_only(moderngl.DEPTH_TEST)
        context.depth_func = "<="
        self._sky.render(moderngl.TRIANGLES, vertices=3)
        if targets.averaged:
            context.enable_only(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
            context.depth_func = "<"
            targets.depth.use()
            targets.depth.clear(red=float("nan"))
            self._draw(seen, movers, programs.depth, programs.depth, programs.mover_depth)
            targets.resolve(context, self._mean)
        return targets.read()

    def _draw_lit(self, seen: npt.NDArray[np.int64], movers: Movers | None, shade: bool) -> None:
        """`_draw` in colour; only where movers' shadows may fall are they looked up."""
        programs = self._programs
        if not (movers and shade):
            self._draw(seen, movers, programs.chunks, programs.ground, programs.mover)
            return
        if self._chunks:
            shaded = movers.may_shade(self._chunks.low_m[seen], self._chunks.high_m[seen])
            self._chunks.draw_either((programs.chunks, programs.shaded_chunks), seen, shaded)
        self._ground.draw(programs.shaded_ground, np.arange(1))
        movers.draw(programs.mover)

    def _draw(
        self,
        seen: npt.NDArray[np.int64],
        movers: Movers | None,
        chunks: moderngl.Program,
        ground: moderngl.Program,
        mover: moderngl.Program,
    ) -> None:
        """The world with these programs. What stands still comes first and in an order that movers do not change."""
        if self._chunks:
            self._chunks.draw(chunks, seen)
        self._ground.draw(ground, np.arange(1))
        if movers:
            movers.draw(mover)

    def _look(self, T_map_cam: Float64) -> Float64:
        """Place the camera; (4, 4) from the map to clip coordinates."""
        R_cam_map, eye_m = T_map_cam[:3, :3].T, T_map_cam[:3, 3]
        farthest = np.maximum(np.abs(self._low_m - eye_m), np.abs(self._high_m - eye_m))
        clip_from_cam = clip_from_camera(self.camera, float(np.linalg.norm(farthest)) + 10 * NEAR_M)
        self._programs.set("clip_from_cam", tuple(clip_from_cam.T.ravel()))
        self._programs.set("R_cam_map", tuple(R_cam_map.T.ravel()))
        self._programs.set("camera_m", tuple(eye_m))
        T_cam_map = np.eye(4)
        T_cam_map[:3, :3], T_cam_map[:3, 3] = R_cam_map, -R_cam_map @ eye_m
        return np.asarray(clip_from_cam @ T_cam_map)


def _check(scene: Scene, camera: Camera, supersample: int, shadows: bool) -> None:
    if not camera.is_calibrated:
        raise UserError("the simulator needs a calibrated camera: its focal lengths are 0")
    if camera.is_distorted:
        raise UserError(
            f"the simulator's camera has no distortion; this one is {camera.distortion_model}: render without, and "
            "resample"
        )
    if min(camera.width, camera.height) < SMALLEST:
        raise UserError(
            f"a picture of {camera.width} x {camera.height} pixels is too small; at least {SMALLEST} a side"
        )
    if supersample not in range(1, MOST_SAMPLES + 1):
        raise UserError(f"supersample is a whole number from 1 to {MOST_SAMPLES}, not {supersample}")
    if shadows and scene.light.sun_direction[2] < LOWEST_SUN:
        raise UserError("the sun is too low for shadows: put it at least 3 degrees above the horizon")
