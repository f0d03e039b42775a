"""Writing a video of pictures (PyAV)."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, UInt8

_GAP_PX = 4
_PANEL_PX = 256  # small pictures are enlarged to about this, or players blur them
_CODECS = ("libx264", "libopenh264", "libvpx-vp9", "mpeg4")  # browsers play all but the last, which every build has


def write_video(path: Path, frames: Iterable[AnyArray], rate_hz: float, bit_rate: int = 4_000_000) -> None:
    """An mp4 of pictures uint8 (H, W, 3) of one size, of which the last odd row and column are cut.

    UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Its index stands in front, so that a browser shows the first picture before it has loaded the last.
        with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
            stream: Any = container.add_stream(_codec(), rate=Fraction(rate_hz).limit_denominator(1001))
            stream.pix_fmt, stream.bit_rate = "yuv420p", bit_rate
            for picture in frames:
                even = np.ascontiguousarray(picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2])
                if not stream.codec_context.is_open:
                    stream.height, stream.width = even.shape[:2]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
            container.mux(stream.encode())
    except (OSError, av.error.FFmpegError) as error:
        raise UserError(f"cannot write the video {path} ({error})") from error


def panels(images: Iterable[AnyArray], names: Iterable[str]) -> UInt8:
    """Pictures (H, W, 3) of one size side by side under their names, enlarged where they are small."""
    made = []
    for image, name in zip(images, names, strict=True):
        times = max(1, round(_PANEL_PX / image.shape[0]))
        large = cv2.resize(image, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
        head = np.full((22, large.shape[1], 3), 255, np.uint8)
        cv2.putText(head, name, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        made += [np.concatenate([head, large]), np.full((len(large) + 22, _GAP_PX, 3), 255, np.uint8)]
    return np.concatenate(made[:-1], axis=1)


def _codec() -> str:
    return next(name for name in _CODECS if name in av.codecs_available)
