"""Textures as the shaders want them: square roots of linear values.

Eight bits of linear light are too few in the dark, and sRGB costs a power per texel in software. The square root is close to
sRGB, and squaring undoes it.
"""

from __future__ import annotations

import moderngl
import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64, UInt8

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
    # The nearest mipmap: a blend of two costs a tenth of the whole picture in software, and the eye finds no difference.
    texture.filter = moderngl.LINEAR_MIPMAP_NEAREST, moderngl.LINEAR
    return texture
