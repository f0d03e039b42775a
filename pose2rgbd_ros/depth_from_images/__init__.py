"""Depth from images alone: what every method is given and what it answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64, Int64
from pose2rgbd_ros.geometry.camera import Camera


class ImageSequence(Protocol):
    """Images (H, W, 3) uint8 by number: an array, a memory map, or something that decodes them when asked."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> AnyArray: ...


@dataclass(frozen=True, eq=False)
class DepthEstimate:
    """Of one frame.

    Attributes:
        frame: its number in the sequence.
        depth: (H, W) along the optical axis, NaN unknown.
        confidence: (H, W) 0..1, 0 where depth is unknown; to be compared within one method only.
        unit_m: metres in one unit of depth, 1 where the poses' metres gave the scale. None: not known, so that depth is
            relative and must not be taken for metres.
        unit_sigma: relative standard deviation of unit_m; None: not known.
        T_map_cam: (4, 4) pose found along with depth, in depth's unit; None from a method that is given the poses.
    """

    frame: int
    depth: Float32
    confidence: Float32
    unit_m: float | None
    T_map_cam: Float64 | None = None
    unit_sigma: float | None = None


class DepthFromImages(Protocol):
    """A method: plane sweep, the scaled depth of another source, a network. A network's training goes its own way."""

    name: str

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
