"""Colour, depth and labels of a scene from any pose."""

from __future__ import annotations

import os
import threading
from types import TracebackType

import moderngl
import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.gl import shaders as units
from pose2rgbd_ros.sim.gl.camera import (
    NEAR_M,
    Targets,
    View,
    boxes_in_view,
    clip_from_camera,
    largest_picture,
    open_context,
    whole_picture,
)
from pose2rgbd_ros.sim.gl.scene import Batch, ShadowMap, footprint, shear, upload
from pose2rgbd_ros.sim.gl.shaders import Programs
from pose2rgbd_ros.sim.scene import Scene

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
                    f"{largest} a "
                    f"side at supersample {supersample}"
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
