"""A COLMAP model as it lies on disk: cameras, images with their keypoints, points with their tracks; text or binary.

Both layouts are COLMAP's own (colmap.github.io/format.html); binary files are little-endian. Nothing is converted here:
poses take world to camera, quaternions are w x y z, the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.formats import reading
from pose2rgbd_ros.formats.scene import format_number, format_row
from pose2rgbd_ros.geometry.arrays import AnyArray, Float64, Int64, UInt8

CAMERAS, IMAGES, POINTS = "cameras", "images", "points3D"
# By the number a binary file has for it: name and count of parameters.
MODELS = (
    ("SIMPLE_PINHOLE", 3), ("PINHOLE", 4), ("SIMPLE_RADIAL", 4), ("RADIAL", 5), ("OPENCV", 8), ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12), ("FOV", 5), ("SIMPLE_RADIAL_FISHEYE", 4), ("RADIAL_FISHEYE", 5), ("THIN_PRISM_FISHEYE", 12),
    ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
)  # fmt: skip
_NUMBERS = {name: number for number, (name, _) in enumerate(MODELS)}


@dataclass(frozen=True)
class CameraRow:
    """A camera: the name of its model, pixels, and the model's parameters. `where` it stands, for messages."""

    id: str
    model: str
    width: int
    height: int
    params: tuple[float, ...]
    where: str = ""


@dataclass(frozen=True)
class ImageRow:
    """An image: rotation and translation from the world to its camera, its file's name. `where` it stands."""

    id: int
    quat_wxyz: tuple[float, ...]
    translation: tuple[float, ...]
    camera: str
    name: str
    where: str = ""


@dataclass(frozen=True, eq=False)
class Points:
    """Points xyz (P, 3) of colours rgb (P, 3), numbered from 1, and their keypoints: point (M,), an index into them,
    image (M,), the id of an image, and pixel (M, 2)."""

    xyz: Float64 = field(default_factory=lambda: np.zeros((0, 3)))
    rgb: UInt8 = field(default_factory=lambda: np.zeros((0, 3), np.uint8))
    point: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    image: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    pixel: Float64 = field(default_factory=lambda: np.zeros((0, 2)))

    @cached_property
    def _by_image(self) -> tuple[Int64, Int64, Int64]:
        """Keypoints in order of their images; the images that have some, and where each one's begin."""
        order = np.argsort(self.image, kind="stable")
        images, begins = np.unique(self.image[order], return_index=True)
        return order, images, begins

    def of_image(self, image: int) -> Int64:
        """Which keypoints (K,) are of an image, in the order in which its list has them."""
        order, images, begins = self._by_image
        place = int(np.searchsorted(images, image))
        if place == len(images) or images[place] != image:
            return order[:0]
        return order[begins[place] : begins[place + 1] if place + 1 < len(begins) else None]

    def tracks(self) -> tuple[AnyArray, Int64]:
        """Image and place in that image's list of all keypoints (M, 2) uint32, sorted by point; and where each point's
        begin (P + 1,).
        """
        order, _, begins = self._by_image
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
        by_point = np.argsort(self.point, kind="stable")
        pairs = np.stack([self.image, place], axis=1).astype(np.uint32)
        return pairs[by_point], np.searchsorted(self.point[by_point], np.arange(len(self.xyz) + 1)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Model:
    """All of it."""

    cameras: Sequence[CameraRow]
    images: Sequence[ImageRow]
    points: Points

    def files(self) -> dict[str, str | bytes]:
        """Text and binary files by their names."""
        return {
            f"{CAMERAS}.txt": "".join(self._camera_lines()),
            f"{IMAGES}.txt": "".join(self._image_lines()),
            f"{POINTS}.txt": "".join(self._point_lines()),
            f"{CAMERAS}.bin": b"".join(self._camera_bytes()),
            f"{IMAGES}.bin": b"".join(self._image_bytes()),
            f"{POINTS}.bin": b"".join(self._point_bytes()),
        }

    def _camera_lines(self) -> Iterator[str]:
        yield "# Camera list with one line of data per camera:\n#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n"
        yield f"# Number of cameras: {len(self.cameras)}\n"
        for row in self.cameras:
            yield f"{row.id} {row.model} {row.width} {row.height} {format_row(row.params)}\n"

    def _image_lines(self) -> Iterator[str]:
        yield "# Image list with two lines of data per image:\n"
        yield "#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n#   POINTS2D[] as (X, Y, POINT3D_ID)\n"
        yield f"# Number of images: {len(self.images)}\n"
        for row in self.images:
            yield f"{row.id} {format_row(row.quat_wxyz)} {format_row(row.translation)} {row.camera} {row.name}\n"
            mine = self.points.of_image(row.id)
            seen = zip(self.points.pixel[mine].tolist(), (self.points.point[mine] + 1).tolist(), strict=True)
            yield " ".join(f"{u:.3f} {v:.3f} {point}" for (u, v), point in seen) + "\n"

    def _point_lines(self) -> Iterator[str]:
        yield "# 3D point list with one line of data per point:\n"
        yield "#   POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)\n"
        yield f"# Number of points: {len(self.points.xyz)}\n"
        tracks, begins = self.points.tracks()
        for i, (xyz, rgb) in enumerate(zip(self.points.xyz.tolist(), self.points.rgb.tolist(), strict=True)):
            track = tracks[begins[i] : begins[i + 1]].ravel().tolist()
            yield " ".join([str(i + 1), *map(format_number, xyz), *map(str, rgb), "0", *map(str, track)]) + "\n"

    def _camera_bytes(self) -> Iterator[bytes]:
        yield struct.pack("<Q", len(self.cameras))
        for row in self.cameras:
            yield struct.pack("<IiQQ", int(row.id), _NUMBERS[row.model], row.width, row.height)
            yield struct.pack(f"<{len(row.params)}d", *row.params)

    def _image_bytes(self) -> Iterator[bytes]:
        yield struct.pack("<Q", len(self.images))
        for row in self.images:
            mine = self.points.of_image(row.id)
            yield struct.pack("<I7dI", row.id, *row.quat_wxyz, *row.translation, int(row.camera))
            yield row.name.encode() + b"\0" + struct.pack("<Q", len(mine))
            keypoints = np.empty(len(mine), [("xy", "<f8", 2), ("point", "<u8")])
            keypoints["xy"], keypoints["point"] = self.points.pixel[mine], self.points.point[mine] + 1
            yield keypoints.tobytes()

    def _point_bytes(self) -> Iterator[bytes]:
        tracks, begins = self.points.tracks()
        yield struct.pack("<Q", len(self.points.xyz))
        for i, (xyz, rgb) in enumerate(zip(self.points.xyz.tolist(), self.points.rgb.tolist(), strict=True)):
            track = tracks[begins[i] : begins[i + 1]]
            yield struct.pack("<Q3d3BdQ", i + 1, *xyz, *rgb, 0.0, len(track)) + track.astype("<u4").tobytes()


# Reading what importing needs: cameras, and images without their keypoints. Text counts where both are there.


def holds_model(folder: Path) -> bool:
    """Whether a folder has a list of images."""
    return any((folder / f"{IMAGES}{end}").is_file() for end in (".txt", ".bin"))


def read_cameras(folder: Path) -> dict[str, CameraRow]:
    """The cameras of a model by their ids. UserError, with file and line or number, for a damaged list."""
    if (folder / f"{IMAGES}.txt").is_file():
        return {row.id: row for row in _text_cameras(folder / f"{CAMERAS}.txt")}
    return {row.id: row for row in _binary_cameras(_Bytes(folder / f"{CAMERAS}.bin"))}


def read_images(folder: Path) -> list[ImageRow]:
    """The images of a model in the list's order. UserError likewise."""
    if (folder / f"{IMAGES}.txt").is_file():
        return list(_text_images(folder / f"{IMAGES}.txt"))
    return list(_binary_images(_Bytes(folder / f"{IMAGES}.bin")))


def _text_cameras(file: Path) -> Iterator[CameraRow]:
    for number, line in reading.lines(file):
        fields = line.split()
        reading.expect(file, number, fields, 5, "CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]")
        try:
            width, height = int(fields[2]), int(fields[3])
        except ValueError as error:
            raise reading.wrong(file, number, str(error)) from None
        params = tuple(reading.numbers(file, number, fields[4:]))
        yield CameraRow(fields[0], fields[1], width, height, params, f"{file}, line {number}")


def _text_images(file: Path) -> Iterator[ImageRow]:
    """Every other line, for the second one of an image lists its keypoints and may be empty."""
    points_next = False
    for number, line in reading.lines(file, blank=True):
        if points_next:
            points_next = False
            continue
        if not line:
            continue
        fields = line.split(maxsplit=9)
        reading.expect(file, number, fields, 10, "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME")
        points_next = True
        pose = tuple(reading.numbers(file, number, fields[1:8]))
        if not fields[0].isdecimal():
            raise reading.wrong(file, number, f"IMAGE_ID is {fields[0]!r}, no whole number")
        yield ImageRow(int(fields[0]), pose[:4], pose[4:], fields[8], fields[9], f"{file}, line {number}")


class _Bytes:
    """A binary file, read from its beginning on. UserError where it ends too early."""

    def __init__(self, file: Path) -> None:
        self.file, self._at = file, 0
        with os_errors(f"{file} cannot be read"):
            self._data = file.read_bytes()

    def take(self, layout: str) -> tuple[float, ...]:
        self.skip(struct.calcsize(f"<{layout}"))
        return struct.unpack_from(f"<{layout}", self._data, self._at - struct.calcsize(f"<{layout}"))

    def skip(self, count: int) -> None:
        if count > len(self._data) - self._at:
            raise self._ends()
        self._at += count

    def text(self) -> str:
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise self._ends()
        begin, self._at = self._at, end + 1
        return self._data[begin:end].decode("utf-8", "replace")

    def _ends(self) -> UserError:
        return UserError(f"{self.file} ends too early, after {len(self._data)} bytes; copy or export it again")


def _binary_cameras(data: _Bytes) -> Iterator[CameraRow]:
    for place in range(int(data.take("Q")[0])):
        id_, number, width, height = map(int, data.take("IiQQ"))
        where = f"{data.file}, camera {place + 1}"
        if not 0 <= number < len(MODELS):
            raise UserError(f"{where}: camera model number {number} is unknown; undistort the images with COLMAP")
        model, count = MODELS[number]
        yield CameraRow(str(id_), model, width, height, data.take(f"{count}d"), where)


def _binary_images(data: _Bytes) -> Iterator[ImageRow]:
    for place in range(int(data.take("Q")[0])):
        id_, *pose, camera = data.take("I7dI")
        name = data.text()
        data.skip(24 * int(data.take("Q")[0]))
        where = f"{data.file}, image {place + 1}"
        yield ImageRow(int(id_), tuple(pose[:4]), tuple(pose[4:]), str(int(camera)), name, where)
