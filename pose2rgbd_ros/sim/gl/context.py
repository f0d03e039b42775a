"""An OpenGL context without a window."""

from __future__ import annotations

from typing import Any

import moderngl

from pose2rgbd_ros.errors import UserError

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
