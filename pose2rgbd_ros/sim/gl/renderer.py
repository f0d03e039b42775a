"""Colour, depth and labels of a scene from any pose."""

from __future__ import annotations

import threading
from types import TracebackType

import cv2
import moderngl
import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.gl import shaders
from pose2rgbd_ros.sim.gl.batch import Batch
from pose2rgbd_ros.sim.gl.context import open_context
from pose2rgbd_ros.sim.gl.projection import NEAR_M, clip_from_camera
from pose2rgbd_ros.sim.gl.textures import upload
from pose2rgbd_ros.sim.gl.view import View
from pose2rgbd_ros.sim.scene import Scene

SMALLEST = 8  # pixels


class SceneRenderer:
    """Renders one scene with one camera; belongs to the thread that made it."""

    def __init__(self, scene: Scene, camera: Camera, supersample: int = 1, shadows: bool = True) -> None:
        self.scene, self.camera = scene, camera
        self._thread = threading.get_ident()
        context = open_context()
        self._context: moderngl.Context | None = context
        try:
            self._build(context, supersample)
        except BaseException:
            self.close()
            raise

    def _build(self, context: moderngl.Context, supersample: int) -> None:
        scene, camera = self.scene, self.camera
        size = camera.width, camera.height
        self._colour = context.texture(size, 4)
        self._depth = context.texture(size, 1, dtype="f4")
        self._frame = context.framebuffer([self._colour, self._depth], context.depth_renderbuffer(size))
        self._textures = upload(context, scene.textures_rgb)
        self._ground_texture = upload(context, scene.ground_rgb)
        vertex = shaders.VERSION + shaders.VERTEX
        fragment = shaders.SRGB + shaders.FRAGMENT
        self._static_program = context.program(vertex, shaders.VERSION + fragment)
        self._ground_program = context.program(vertex, shaders.VERSION + "#define GROUND\n" + fragment)
        self._sky_program = context.program(
            shaders.VERSION + shaders.SKY_VERTEX, shaders.VERSION + shaders.SRGB + shaders.SKY_FRAGMENT
        )
        self._chunks = Batch(context, scene.chunks)
        self._ground = Batch(context, [scene.ground])
        self._sky = context.vertex_array(self._sky_program, [])
        light = scene.light
        for program in (self._static_program, self._ground_program, self._sky_program):
            for name in ("sun_direction", "sun_rgb", "sky_rgb", "ground_rgb", "haze_rgb", "haze_per_m"):
                _set(program, name, getattr(light, name))
            _set(program, "textures", 0)
            _set(program, "ground", 1)
            _set(
                program,
                "ray_of_pixel",
                (
                    1 / camera.fx,
                    1 / camera.fy,
                    -(camera.cx + 0.5) / camera.fx,
                    -(camera.cy + 0.5) / camera.fy,
                ),
            )
        corners = [mesh.bounds_m() for mesh in (*scene.chunks, scene.ground) if len(mesh.triangles)]
        self._low_m = np.min([low for low, _ in corners], axis=0)
        self._high_m = np.max([high for _, high in corners], axis=0)
        self._rgba = np.empty((camera.height, camera.width, 4), np.uint8)

    def render(self, T_map_cam: npt.ArrayLike, t_s: float = 0.0, movers: bool = True) -> View:
        """What the camera sees from `T_map_cam` (4, 4) at time `t_s`."""
        if self._context is None:
            raise UserError("this renderer is closed")
        if threading.get_ident() != self._thread:
            raise UserError("a renderer belongs to the thread that made it; make one in each thread")
        pose: Float64 = np.asarray(T_map_cam, dtype=np.float64)
        if pose.shape != (4, 4) or not np.isfinite(pose).all():
            raise UserError(f"a camera pose is a finite 4x4 matrix, not {pose.tolist()}")
        with self._context:
            return self._render(self._context, pose)

    def _render(self, context: moderngl.Context, T_map_cam: Float64) -> View:
        R_cam_map, eye_m = T_map_cam[:3, :3].T, T_map_cam[:3, 3]
        reach = np.maximum(np.abs(self._low_m - eye_m), np.abs(self._high_m - eye_m))
        clip_from_cam = clip_from_camera(self.camera, float(np.linalg.norm(reach)) + 10 * NEAR_M)
        T_cam_map = np.eye(4)
        T_cam_map[:3, :3], T_cam_map[:3, 3] = R_cam_map, -R_cam_map @ eye_m
        clip_from_map = clip_from_cam @ T_cam_map
        for program in (self._static_program, self._ground_program):
            _set(program, "clip_from_cam", tuple(clip_from_cam.T.ravel()))
            _set(program, "R_cam_map", tuple(R_cam_map.T.ravel()))
            _set(program, "camera_m", tuple(eye_m))
        self._frame.use()
        self._frame.clear()
        context.enable_only(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        context.front_face = "cw"  # the picture is upside down in OpenGL's eyes
        context.depth_func = "<"
        self._textures.use(0)
        self._ground_texture.use(1)
        self._chunks.draw(self._static_program, clip_from_map, eye_m)
        self._ground.draw(self._ground_program, clip_from_map, eye_m)
        context.enable_only(moderngl.DEPTH_TEST)
        context.depth_func = "<="
        self._sky.render(moderngl.TRIANGLES, vertices=3)
        self._frame.read_into(self._rgba, components=4)
        depth_m = np.empty((self.camera.height, self.camera.width), np.float32)
        self._frame.read_into(depth_m, components=1, attachment=1, dtype="f4")
        rgb = np.empty((*depth_m.shape, 3), np.uint8)
        labels = np.empty(depth_m.shape, np.uint8)
        cv2.mixChannels([self._rgba], [rgb, labels], [0, 0, 1, 1, 2, 2, 3, 3])
        return View(rgb, depth_m, labels)

    def close(self) -> None:
        """Let go of the OpenGL context; may be called again."""
        if self._context is not None:
            self._context.release()
            self._context = None

    def __enter__(self) -> SceneRenderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _set(program: moderngl.Program, name: str, value: object) -> None:
    """Set a uniform where the compiler left it in."""
    if name in program:
        program[name].value = value  # type: ignore[union-attr]
