"""RVL, the lossless depth codec of Wilson, "Fast Lossless Depth Image Compression" (ISS 2017): decoding.

compressed_depth_image_transport writes it as width and height (uint32) and then the code: runs of zeros and runs of
differences between non-zero pixels, all as numbers of 3 bits per nibble, the nibble's top bit meaning "more follows".
"""

from __future__ import annotations

import struct

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Int64, UInt16

_SIZE = struct.Struct("<II")
_MAX_NIBBLES = 11  # of one 32 bit number
_MAX_PIXELS = 1 << 26  # a damaged size must not ask for gigabytes
_DAMAGED = "an RVL depth image is damaged or truncated"


def decode(payload: bytes) -> UInt16:
    """Counts (H, W) of an RVL image. UserError for a damaged one."""
    if len(payload) < _SIZE.size:
        raise UserError(_DAMAGED)
    width, height = _SIZE.unpack_from(payload)
    total = width * height
    if not 0 < total <= _MAX_PIXELS:
        raise UserError(f"{_DAMAGED}: {len(payload)} bytes for {width} x {height} pixels")
    numbers = _numbers(payload[_SIZE.size :])
    pixel, source = _runs(numbers, total)
    zigzag = numbers[source]
    values = np.cumsum((zigzag >> 1) ^ -(zigzag & 1))  # each difference is to the non-zero pixel before it
    counts = np.zeros(total, dtype=np.uint16)
    counts[pixel] = values.astype(np.uint16)
    return counts.reshape(height, width)


def _numbers(code: bytes) -> Int64:
    """All numbers of the code, most significant nibble of each little-endian 32 bit word first."""
    words = np.frombuffer(code, dtype="<u4", count=len(code) // 4)
    packed = words.astype(">u4").view(np.uint8)
    nibbles = np.stack([packed >> 4, packed & 15], axis=-1).reshape(-1).astype(np.int64)
    ends = np.flatnonzero(nibbles < 8)
    if len(ends) == 0:
        raise UserError(_DAMAGED)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MAX_NIBBLES:
        raise UserError(_DAMAGED)
    place = np.arange(ends[-1] + 1) - np.repeat(starts, lengths)
    return np.asarray(np.add.reduceat((nibbles[: ends[-1] + 1] & 7) << (3 * place), starts), dtype=np.int64)


def _runs(numbers: Int64, total: int) -> tuple[Int64, Int64]:
    """For each non-zero pixel, its index in the image and the index of its number."""
    pixels, sources = [], []
    at, done = 0, 0
    while done < total:
        if at + 2 > len(numbers):
            raise UserError(_DAMAGED)
        zeros, nonzeros = int(numbers[at]), int(numbers[at + 1])
        done, at = done + zeros, at + 2
        if done + nonzeros > total or at + nonzeros > len(numbers):
            raise UserError(_DAMAGED)
        pixels.append(np.arange(done, done + nonzeros))
        sources.append(np.arange(at, at + nonzeros))
        done, at = done + nonzeros, at + nonzeros
    return np.concatenate(pixels), np.concatenate(sources)
