"""How sharp an image is among the ones before it: motion blur shows, the exposure and the scene do not."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, UInt8
from pose2rgbd_ros.geometry.pixel_buffer import decode_file
from pose2rgbd_ros.streams.images import undecodable
from pose2rgbd_ros.streams.samples import ImageSample

# Blur that matters at training size shows at this width, and a reduced JPEG decodes in a third of the time.
_WIDTH_PX = 640
_WINDOW, _FEWEST = 31, 5
# Variance of sensor noise and JPEG in an image without any structure.
_NOISE = 4.0


class SharpnessRecord:
    """Compares each image with the median of the last 31, itself among them."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=_WINDOW)

    def judge(self, image: ImageSample) -> float:
        """The sharpness as a part of the usual one; 1 for the first images. UserError when it cannot be read."""
        value = sharpness(grey(image))
        self._last.append(value)
        usual = float(np.median(self._last))
        return 1.0 if len(self._last) < _FEWEST or usual <= 0 else value / usual


def sharpness(image: UInt8) -> float:
    """Variance of the Laplacian of a grey image (H, W), as a part of its contrast: free of gain and brightness."""
    laplacian = cv2.Laplacian(image, cv2.CV_16S, ksize=1)
    _, detail = cv2.meanStdDev(laplacian)
    _, contrast = cv2.meanStdDev(image)
    return float(detail[0, 0] ** 2 / (contrast[0, 0] ** 2 + _NOISE))


def grey(image: ImageSample) -> UInt8:
    """The image in grey, (H, W) uint8, reduced by 2, 4 or 8 to no less than 640 columns where it is wider.

    UserError when it cannot be read.
    """
    factor = next((n for n in (8, 4, 2) if image.width >= n * _WIDTH_PX), 1)
    data = image.compressed_bytes
    if data is not None:
        flags = {
            1: cv2.IMREAD_GRAYSCALE,
            2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
            4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
            8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
        }[factor]
        found: AnyArray | None = decode_file(data, flags)
        if found is None:
            raise UserError(undecodable(data))
        return np.asarray(found, dtype=np.uint8)
    full = cv2.cvtColor(image.rgb(), cv2.COLOR_RGB2GRAY)
    size = (max(1, full.shape[1] // factor), max(1, full.shape[0] // factor))
    return np.asarray(cv2.resize(full, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
