"""Any depth network in an ONNX file as a teacher: depth of single images, in no unit until poses show one.

A file says names and shapes of its tensors, but not what its numbers mean; that comes from its metadata (keys
`depth_output` and `depth_normalisation`) or the settings, and is never guessed: an inverse taken for depth looks
plausible and is wrong everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from pose2rgbd_ros.depth_from_images import ImageSequence
from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64, Int64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.depth import DepthEstimate
from pose2rgbd_ros.settings import choices, flat_fields, setting

# Added to, and multiplied with, levels 0..255 of red, green and blue.
_NORMALISED: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((-123.675, -116.28, -103.53), (1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225))),
    "unit": ((0.0,) * 3, (1 / 255,) * 3),
    "signed": ((-127.5,) * 3, (1 / 127.5,) * 3),
    "levels": ((0.0,) * 3, (1.0,) * 3),
}
_MOST_STRETCH = 1.5  # a network of a fixed size sees images no more stretched than this, in one of the axes
LEAST_SIDE = 8  # pixels: a map of fewer is no picture of depth
_NEAREST = 1e-6  # of inverse depth, as a share of the largest: below, the point is as far as nothing


@dataclass(frozen=True)
class TeacherSettings:
    """How a depth network in an ONNX file is asked, where the file does not say so itself."""

    output: Literal["auto", "depth", "inverse"] = setting(
        "auto", "what the network's numbers are: depth, or inverse (disparity); auto: as the file's metadata say"
    )
    normalisation: Literal["auto", "imagenet", "unit", "signed", "levels"] = setting(
        "auto",
        "what it takes: imagenet (mean and deviation taken out), unit (0..1), signed (-1..1), levels (0..255); auto: "
        "as the file's metadata say",
    )
    size: int = setting(512, "longer side in pixels, of a network that takes any", ge=8)
    multiple: int = setting(32, "its sides are multiples of this; 14 of many transformers", ge=1)
    input_name: str = setting("auto", "tensor that takes the image; auto: the only one")
    output_name: str = setting("auto", "tensor that holds depth; auto: the only one that is a map")


@dataclass(frozen=True, eq=False)
class OnnxDepth:
    """A method of :class:`~pose2rgbd_ros.depth_from_images.DepthFromImages`: a graph, and how it is asked.

    identity: of the file and of what its numbers are taken for. size: (height, width) of a network that takes no other.
    axes: of its input: a letter each, of N, C, H, W.
    """

    session: Any
    file: Path
    identity: str
    output: str
    normalisation: str
    input_name: str
    axes: str
    size: tuple[int, int] | None
    output_name: str
    settings: TeacherSettings
    name = "teacher"

    @classmethod
    def of_file(cls, file: Path, settings: TeacherSettings | None = None, threads: int | None = None) -> OnnxDepth:
        """UserError: no such file, no depth network, or one that does not say what its numbers mean."""
        from pose2rgbd_ros.models.backends import default_threads, onnx_session  # with torch

        settings = settings or TeacherSettings()
        if not file.is_file():
            raise UserError(f"{file} does not exist")
        with os_errors(f"{file} cannot be read"):
            graph = file.read_bytes()
        try:
            session = onnx_session(graph, threads or default_threads())
        except UserError as error:
            raise UserError(f"{file}: {error}") from error
        metadata = session.get_modelmeta().custom_metadata_map
        output = _stated(file, "output", settings.output, metadata)
        normalisation = _stated(file, "normalisation", settings.normalisation, metadata)
        taken = _chosen(file, session.get_inputs(), settings.input_name, "input")
        axes, size = _layout(file, taken)
        given = _chosen(file, session.get_outputs(), settings.output_name, "output")
        digest = hashlib.sha256(graph + f"{output} {normalisation} {given.name}".encode()).hexdigest()
        return cls(session, file, digest, output, normalisation, taken.name, axes, size, given.name, settings)

    def depth_of(self, image: AnyArray) -> Float32:
        """Depth (h, w) at the network's size of an image (H, W, 3) uint8, NaN unknown.

        UserError: the network does not run at this size, or what it gives is no map.
        """
        height, width = self.size or self._free_size(*image.shape[:2])
        stretch = (width / image.shape[1]) / (height / image.shape[0])
        if self.size and max(stretch, 1 / stretch) > _MOST_STRETCH:
            raise UserError(
                f"{self.file} takes images of {width} x {height} pixels, which would stretch these of "
                f"{image.shape[1]} x {image.shape[0]} by {max(stretch, 1 / stretch):.1f}; take one of another size"
            )
        shrinks = height <= image.shape[0] and width <= image.shape[1]
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        shift, factor = (np.array(each, np.float32) for each in _NORMALISED[self.normalisation])
        tensor = (small.astype(np.float32) + shift) * factor
        placed = {"H": 0, "W": 1, "C": 2}
        tensor = tensor.transpose([placed[axis] for axis in self.axes if axis != "N"])
        tensor = tensor[None] if "N" in self.axes else tensor
        try:
            (found,) = self.session.run([self.output_name], {self.input_name: np.ascontiguousarray(tensor)})
        except Exception as error:  # ONNX Runtime's errors share no base class but Exception
            way_out = "" if self.size else "; of a network that takes any size, another --teacher.multiple (14) may do"
            raise UserError(
                f"{self.file} fails at {width} x {height} pixels ({str(error).splitlines()[0]}){way_out}"
            ) from error
        return self._as_depth(np.asarray(found), height, width)

    def estimate(
        self, rgb: ImageSequence, camera: Camera, T_map_cam: Float64 | None, frames: Int64
    ) -> Iterator[DepthEstimate]:
        """See :class:`~pose2rgbd_ros.depth_from_images.DepthFromImages`: the images are looked at as the lens sees
        them. Confidence is 1 wherever depth is."""
        for frame in map(int, frames):
            found = self.depth_of(np.asarray(rgb[frame]))
            yield DepthEstimate(frame, found, np.isfinite(found).astype(np.float32), unit_m=None)

    def _free_size(self, height: int, width: int) -> tuple[int, int]:
        """About the size asked for, no larger than the image, in multiples."""
        scale, step = min(1.0, self.settings.size / max(height, width)), self.settings.multiple
        return max(step, step * round(height * scale / step)), max(step, step * round(width * scale / step))

    def _as_depth(self, found: AnyArray, height: int, width: int) -> Float32:
        shape, flat = found.shape, np.squeeze(found)
        if flat.ndim != 2 or min(flat.shape) < LEAST_SIDE:
            raise UserError(f"{self.file} gives a tensor of {list(shape)} for one image, no map of its depth")
        if abs(np.log(flat.shape[1] * height / (flat.shape[0] * width))) > np.log(1.1):
            raise UserError(
                f"{self.file} gives a map of {flat.shape[1]} x {flat.shape[0]} for an image of {width} x {height}: "
                "another shape, so that pixels cannot be matched"
            )
        values = flat.astype(np.float32)
        if self.output == "inverse":
            largest = np.nanmax(values, initial=0.0)
            with np.errstate(divide="ignore"):
                values = np.where(values > _NEAREST * largest, 1 / values, np.nan).astype(np.float32)
        return np.where(np.isfinite(values) & (values > 0), values, np.nan).astype(np.float32)


def _stated(file: Path, what: str, given: str, metadata: dict[str, str]) -> str:
    """A fact of the settings, or else of the file's metadata. UserError: neither says it."""
    known = [value for value in choices(flat_fields(TeacherSettings)[what]) or () if value != "auto"]
    if given != "auto":
        return given
    stated = metadata.get(f"depth_{what}")
    if stated is not None and stated in known:
        return stated
    said = "does not say" if stated is None else f"says {stated!r}, which is not known, for"
    meaning = "what its numbers are" if what == "output" else "how images are to be given"
    raise UserError(f"{file} {said} {meaning}: --teacher.{what} {'|'.join(known)}, as its authors state it")


def _chosen(file: Path, tensors: list[Any], given: str, what: str) -> Any:
    """The tensor of a name, or the only one that can be an image or a map."""
    named = {tensor.name: tensor for tensor in tensors}
    if given != "auto":
        if given not in named:
            raise UserError(f"{file} has no {what} {given!r}; it has {', '.join(named)}")
        return named[given]
    fitting = [tensor for tensor in tensors if len(tensor.shape) in ((3, 4) if what == "input" else (2, 3, 4))]
    if len(fitting) != 1 or (what == "input" and len(tensors) != 1):
        shown = ", ".join(f"{tensor.name} {tensor.shape}" for tensor in tensors)
        raise UserError(f"{file} has {what}s {shown}: which of them? --teacher.{what}-name")
    return fitting[0]


def _layout(file: Path, tensor: Any) -> tuple[str, tuple[int, int] | None]:
    """Axes of an image tensor, and its (height, width) where they are fixed. UserError: it takes no image."""
    shape = list(tensor.shape)
    problem = None
    if tensor.type != "tensor(float)":
        problem = f"of type {tensor.type}; images are given as tensor(float)"
    elif len(shape) == 4 and isinstance(shape[0], int) and shape[0] != 1:
        problem = f"for {shape[0]} images at once; images come one by one"
    axes = "N" * (len(shape) == 4)
    sides = shape[len(axes) :]
    if problem is None and len(sides) == 3 and sides[0] == 3:
        axes, pixels = f"{axes}CHW", sides[1:]
    elif problem is None and len(sides) == 3 and sides[2] == 3:
        axes, pixels = f"{axes}HWC", sides[:2]
    else:
        raise UserError(f"{file}: its input {tensor.name} {shape} is {problem or 'no image of three colours'}")
    fixed = [side for side in pixels if isinstance(side, int) and side > 0]
    if len(fixed) == 1:
        raise UserError(f"{file}: its input {tensor.name} {shape} fixes one side and leaves the other free")
    return axes, (fixed[0], fixed[1]) if fixed else None
