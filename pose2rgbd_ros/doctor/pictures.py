"""How good the pictures are: sharpness, exposure, sizes, what repeats; and the depth. A bounded number is decoded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.dataset.filters import grey
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, UInt8
from pose2rgbd_ros.streams.samples import DepthSample, ImageSample

SAMPLES, DEPTH_SAMPLES = 60, 12
_THUMBNAIL_PX, _THUMBNAILS = 240, 8
_DEPTH_VALUES = 20_000  # kept of each depth image
# Grey levels of 255: from here on a pixel is clipped; a picture below shows nothing.
CLIPPED, NOTHING = 250, 12
_BLUR_PX = 9
_FLAT = 4.0  # standard deviation below which there is nothing to see either


@dataclass(frozen=True)
class PictureLook:
    """One picture that was decoded.

    Attributes:
        blur: 0 sharp to 1, whatever the scene (see `blur_of`); NaN where there is no structure.
        brightness: mean grey level.
        clipped: the share of pixels that are white.
        blank: nothing can be seen.
    """

    index: int
    blur: float
    brightness: float
    clipped: float
    blank: bool


def look_at(index: int, picture: UInt8) -> PictureLook:
    """At a grey picture (H, W)."""
    mean, deviation = cv2.meanStdDev(picture)
    brightness, contrast = float(mean[0, 0]), float(deviation[0, 0])
    blank = contrast < _FLAT or int(picture.max()) <= NOTHING
    clipped = float(np.mean(picture >= CLIPPED))
    return PictureLook(index, float("nan") if blank else blur_of(picture), brightness, clipped, blank)


def blur_of(picture: UInt8) -> float:
    """How little a picture changes by being blurred once more, along its rows or its columns, whichever is more.

    The measure of Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual blur
    metric", 2007: differences between neighbours that a filter of 9 pixels takes away were sharp.
    """
    sharp = picture.astype(np.float32)
    worst = 0.0
    for axis, size in ((0, (1, _BLUR_PX)), (1, (_BLUR_PX, 1))):
        before, after = (np.abs(np.diff(it, axis=axis)) for it in (sharp, cv2.blur(sharp, size)))
        total = float(before.sum())
        worst = max(worst, 1.0 - float(np.maximum(before - after, 0).sum()) / total if total else 1.0)
    return worst


@dataclass
class PictureLog:
    """Takes all pictures of a stream, decodes `samples` of `expected`, evenly, and counts what shows without decoding.

    Attributes:
        sizes: pictures that were decoded by (width, height); encodings: by encoding.
        repeated_ns: stamps of pictures and of the one before that they repeat; longest_repeat: most in a row.
        unreadable: of those decoded, by what is wrong with them.
    """

    expected: int
    samples: int = SAMPLES
    looks: list[PictureLook] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    encodings: Counter[str] = field(default_factory=Counter)
    thumbnails: list[UInt8] = field(default_factory=list)
    unreadable: Counter[str] = field(default_factory=Counter)
    count: int = 0
    repeated_ns: list[tuple[int, int]] = field(default_factory=list)
    longest_repeat: int = 0
    _repeat: int = 0
    _last: AnyArray | None = None
    _last_ns: int = 0

    def take(self, message: Any, stamp_ns: int) -> None:
        """The next message."""
        index, self.count = self.count, self.count + 1
        data = np.asarray(message.data)
        same = self._last is not None and len(data) > 0 and np.array_equal(self._last, data)
        self._repeat = self._repeat + 1 if same else 0
        if same:
            self.repeated_ns.append((self._last_ns, stamp_ns))
        self.longest_repeat = max(self.longest_repeat, self._repeat)
        self._last, self._last_ns = data, stamp_ns
        if is_sampled(index, self.expected, self.samples):
            try:
                self.take_image(decode.image_sample(message, 0), index)
            except UserError as error:
                self.unreadable[str(error)] += 1

    def take_image(self, image: ImageSample, index: int) -> None:
        """The image of a message, a photo or a video, number `index`. UserError when it cannot be read."""
        self.sizes[image.width, image.height] += 1
        self.encodings[image.encoding] += 1
        if is_sampled(index, self.expected, self.samples):
            self.look(index, grey(image))

    def look(self, index: int, picture: UInt8) -> None:
        """At a decoded picture (H, W), grey."""
        self.looks.append(look_at(index, picture))
        if is_sampled(len(self.looks) - 1, min(self.expected, self.samples), _THUMBNAILS):
            scale = _THUMBNAIL_PX / max(picture.shape)
            small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            self.thumbnails.append(np.asarray(small, np.uint8))


@dataclass
class DepthLog:
    """Takes all depth images of a stream and decodes `DEPTH_SAMPLES` of `expected`.

    `known` are the shares of their pixels that are known, `values` (n, M) some of their pixels in metres.
    """

    expected: int
    known: list[float] = field(default_factory=list)
    values: list[Float32] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)
    count: int = 0

    def take(self, message: Any) -> None:
        """The next message."""
        index, self.count = self.count, self.count + 1
        if not is_sampled(index, self.expected, DEPTH_SAMPLES):
            return
        try:
            depth: DepthSample = decode.depth_sample(message, 0)
        except UserError as error:
            self.unreadable[str(error)] += 1
            return
        self.sizes[depth.width, depth.height] += 1
        is_known = np.isfinite(depth.depth_m) & (depth.depth_m > 0)
        self.known.append(float(is_known.mean()))
        every = max(1, depth.depth_m.size // _DEPTH_VALUES)
        self.values.append(np.where(is_known, depth.depth_m, np.nan).ravel()[::every].astype(np.float32))


def is_sampled(index: int, of: int, samples: int) -> bool:
    """Whether number `index` is one of so many that lie evenly among `of`."""
    return of <= samples or (index * samples) // of != ((index - 1) * samples) // of
