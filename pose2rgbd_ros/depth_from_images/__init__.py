"""Depth from images alone: what every method is given and what it answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from pose2rgbd_ros.geometry.arrays import AnyArray, Float64, Int64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.depth import DepthEstimate


class ImageSequence(Protocol):
    """Images (H, W, 3) uint8 by number: an array, a memory map, or something that decodes them when asked."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> AnyArray: ...


class DepthFromImages(Protocol):
    """A method: plane sweep, the scaled depth of another source, a network. A network's training goes its own way."""

    @property
    def name(self) -> str: ...

    def estimate(
        self, rgb: ImageSequence, camera: Camera, T_map_cam: Float64 | None, frames: Int64
    ) -> Iterator[DepthEstimate]:
        """Depth of some frames, one after the other, so that long videos stream through.

        Args:
            rgb: N images of `camera`, whose distortion is the method's to undo; any of them may be looked at.
            T_map_cam: (N, 4, 4) in metres; None unknown.
            frames: (F,) whose depth is wanted. One that nothing can be said about is an estimate of NaN.

        Raises:
            UserError: before the first estimate, where the images and poses do not suffice for any.
        """
        ...
