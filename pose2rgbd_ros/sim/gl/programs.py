"""The shaders compiled: one set of programs for a scene."""

from __future__ import annotations

import moderngl

from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.gl import shaders
from pose2rgbd_ros.sim.gl.shaders import source
from pose2rgbd_ros.sim.scene import Light

TEXTURES, GROUND, STATIC_SHADOWS, MOVER_SHADOWS, SAMPLES, DEPTH = range(6)  # texture units
_UNITS = ("textures", "ground", "static_shadows", "mover_shadows", "samples", "signed_depth_m")


class Programs:
    """Programs by name; uniforms are set in all that have them.

    chunks, ground, mover, sky: colour, and depth where not `averaged`; shaded_chunks, shaded_ground: the same with the
    shadows of movers, a program of their own since a look at a second map is dear. resolve, depth, mover_depth: for averaged
    pictures. shadow, mover_shadow: heights seen from the sun.
    """

    def __init__(self, context: moderngl.Context, averaged: bool, shadows: bool) -> None:
        style = (*(("ROOT",) if averaged else ()), *(("SHADOWS",) if shadows else ()))

        def program(vertex: tuple[str, ...], fragment: tuple[str, ...], *defines: str) -> moderngl.Program:
            return context.program(source(*vertex, defines=defines), source(*fragment, defines=defines))

        lit = (shaders.PLACE, shaders.CAMERA, shaders.VERTEX), (shaders.COLOUR, shaders.FRAGMENT)
        depth = (shaders.PLACE, shaders.CAMERA, shaders.DEPTH_VERTEX), (shaders.DEPTH_FRAGMENT,)
        shadow = (shaders.PLACE, shaders.SHADOW_VERTEX), (shaders.SHADOW_FRAGMENT,)
        self.chunks = program(*lit, *style)
        self.ground = program(*lit, *style, "GROUND")
        moving = ("MOVER_SHADOWS",) if shadows else ()
        self.shaded_chunks = program(*lit, *style, *moving)
        self.shaded_ground = program(*lit, *style, *moving, "GROUND")
        self.mover = program(*lit, *style, *moving, "MOVER")
        self.sky = program((shaders.WHOLE_PICTURE,), (shaders.COLOUR, shaders.SKY_FRAGMENT), *style)
        self.resolve = program((shaders.WHOLE_PICTURE,), (shaders.COLOUR, shaders.RESOLVE_FRAGMENT))
        self.depth, self.mover_depth = program(*depth), program(*depth, "MOVER")
        self.shadow, self.mover_shadow = program(*shadow), program(*shadow, "MOVER")
        self._all = [value for value in vars(self).values() if isinstance(value, moderngl.Program)]
        for unit, name in enumerate(_UNITS):
            self.set(name, unit)

    def set(self, name: str, value: object) -> None:
        """Set a uniform in every program that uses it."""
        for program in self._all:
            if name in program:
                program[name].value = value  # type: ignore[union-attr]

    def set_light(self, light: Light) -> None:
        """Sun, sky and haze."""
        for name in ("sun_direction", "sun_rgb", "sky_rgb", "ground_rgb", "haze_rgb", "haze_per_m"):
            self.set(name, getattr(light, name))

    def set_samples(self, camera: Camera, across: int) -> None:
        """The pixels that are drawn: `across` x `across` to a pixel of `camera`."""
        fine = camera.resized(camera.width * across, camera.height * across)
        left, top = (fine.cx + 0.5) / fine.fx, (fine.cy + 0.5) / fine.fy
        self.set("ray_of_pixel", (1 / fine.fx, 1 / fine.fy, -left, -top))
        self.set("across", across)
