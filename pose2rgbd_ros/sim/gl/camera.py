"""What is drawn into, and how it is read: one picture, or several samples a pixel and their mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import moderngl
import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.gl.shaders import DEPTH, SAMPLES

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
