"""Can OpenGL draw here without a screen? If not, says in one line what is missing and how to get it, and exits with 1.

Asks the system's libraries alone, so that it can answer before anything is installed, and of EGL's devices the one that
moderngl takes later: the first, or the one of GLCONTEXT_DEVICE_INDEX.
"""

from __future__ import annotations

import ctypes
import os
import sys

EGL_PLATFORM_DEVICE_EXT = 0x313F
MOST_DEVICES = 16
PACKAGES = "libgl1 libegl1 libgl1-mesa-dri"


def problem() -> str | None:
    """What keeps OpenGL from drawing, or None when the device starts."""
    try:
        ctypes.CDLL("libGL.so.1")
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError as error:
        return str(error)
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    egl.eglGetProcAddress.restype = pointer
    egl.eglInitialize.argtypes = [pointer, pointer, pointer]
    devices_address = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    display_address = egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    if not devices_address or not display_address:
        return "libEGL.so.1 is too old to draw without a screen"
    query_devices = ctypes.CFUNCTYPE(integer, integer, pointer, pointer)(devices_address)
    display_of = ctypes.CFUNCTYPE(pointer, integer, pointer, pointer)(display_address)
    devices, count = (pointer * MOST_DEVICES)(), integer(0)
    chosen = int(os.environ.get("GLCONTEXT_DEVICE_INDEX", "0"))
    if not query_devices(MOST_DEVICES, devices, ctypes.byref(count)) or count.value <= chosen:
        return f"EGL has {count.value} devices, counting GPUs and Mesa, and number {chosen} is asked for"
    display = display_of(EGL_PLATFORM_DEVICE_EXT, devices[chosen], None)
    if not display or not egl.eglInitialize(display, None, None):
        return "EGL's device does not start: no driver, neither a GPU's nor Mesa's"
    return None


if __name__ == "__main__":
    found = problem()
    if found:
        print(f"OpenGL cannot draw without a screen here ({found}): apt install {PACKAGES}")
    sys.exit(found is not None)
