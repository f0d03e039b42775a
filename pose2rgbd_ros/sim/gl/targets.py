"""What is drawn into, and how it is read: one picture, or several samples a pixel and their mean."""

from __future__ import annotations

import cv2
import moderngl
import numpy as np

from pose2rgbd_ros.sim.gl.programs import DEPTH, SAMPLES
from pose2rgbd_ros.sim.gl.view import View


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
