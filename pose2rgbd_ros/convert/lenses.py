"""Photographs of several lenses, sizes and orientations on their way into a dataset of one camera.

The dataset's camera is that of the lens whose view keeps the most pixels of all photographs. Photographs of other
lenses that see as much, and as sharply, are resampled to its view; the others are refused. `lenses.csv` says which
frame is of which lens, so that `align` can estimate each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from pose2rgbd_ros.convert.exif import Photo
from pose2rgbd_ros.errors import counted
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map

LEAST_SHARPNESS = 0.75  # of the dataset's pixels; a coarser photo would be a blurred frame
# The frame of a camera whose picture is turned by a quarter (numpy.rot90), in that of the picture as it was.
_QUARTER = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


@dataclass(frozen=True, eq=False)
class PhotoLens:
    """Photographs of one lens at one focal length and size.

    Attributes:
        name: what tells it from others.
        photos: indices.
        camera: of its pictures, turned by a quarter where `turned`.
        how: in words where its focal length comes from; `warnings`: what is doubtful about it.
    """

    name: str
    photos: list[int]
    camera: Camera
    how: str
    warnings: list[str]
    turned: bool = False

    def upright(self) -> PhotoLens:
        """The lens of the pictures turned by a quarter."""
        c = self.camera
        turned = replace(c, width=c.height, height=c.width, fx=c.fy, fy=c.fx, cx=c.cy, cy=c.width - 1 - c.cx)
        return replace(self, camera=turned, turned=True)

    def misfit(self, target: Camera, tolerance: float) -> str:
        """Why its pictures cannot be seen by `target`; "" where they can."""
        own = self.camera
        if self.is_same(target, tolerance):
            return ""
        if not (own.is_calibrated and target.is_calibrated):
            return "is of another camera, and the focal length of one of them is not known"
        corners = np.array([[-0.5, -0.5], [target.width - 0.5, target.height - 0.5]])
        seen = own.project(target.unproject(corners))
        if (seen[0] < -1.5).any() or (seen[1] > [own.width + 0.5, own.height + 0.5]).any():
            return "sees less than the camera of most photos"
        if own.fx < LEAST_SHARPNESS * target.fx:
            return "is coarser than most photos"
        return ""

    def is_same(self, target: Camera, tolerance: float) -> bool:
        """Whether its pictures are taken as they are."""
        own = self.camera
        same_size = (own.width, own.height) == (target.width, target.height) and not self.turned
        return same_size and abs(own.fx - target.fx) <= tolerance * max(own.fx, target.fx)

    def picture(self, rgb: UInt8, target: Camera) -> UInt8:
        """A picture of this lens as `target` would have taken it, (height, width, 3)."""
        rgb, own = np.rot90(rgb) if self.turned else rgb, self.camera
        if own.fx > target.fx:  # averaged, as bilinear sampling would skip pixels
            width, height = (round(side * target.fx / own.fx) for side in (own.width, own.height))
            smaller = cv2.resize(np.ascontiguousarray(rgb), (width, height), interpolation=cv2.INTER_AREA)
            rgb, own = np.asarray(smaller, np.uint8), own.resized(width, height)
        where = resample_map(own, target)
        edge = np.isnan(where).any(axis=-1)
        if edge.any():  # the outermost row may be missed by a fraction of a pixel
            where[edge] = np.clip(own.project(target.rays()[edge]), 0, [own.width - 1, own.height - 1])
        return np.asarray(resample(np.ascontiguousarray(rgb), where, nearest=False), np.uint8)

    def pose(self, T_map_cam: Float64) -> Float64:
        """The pose (4, 4) of a frame, from that of its photograph."""
        if not self.turned:
            return T_map_cam
        turned = T_map_cam.copy()
        turned[:3, :3] = T_map_cam[:3, :3] @ _QUARTER
        return turned


def key_of(photo: Photo) -> tuple[str, str, str, int, int]:
    """What photographs of one lens have in common, but for its focal length."""
    return photo.make, photo.model, photo.serial, photo.width, photo.height


def by_focal_length(photos: Sequence[int], per_width: Sequence[float | None], tolerance: float) -> list[list[int]]:
    """Photos parted where their focal lengths differ; those without one go with the most."""
    known = sorted((i for i in photos if per_width[i]), key=lambda i: float(per_width[i] or 0))
    groups: list[list[int]] = []
    for i in known:
        first = per_width[groups[-1][0]] if groups else None
        if first and float(per_width[i] or 0) <= first * (1 + tolerance):
            groups[-1].append(i)
        else:
            groups.append([i])
    unknown = [i for i in photos if not per_width[i]]
    if not groups:
        return [unknown]
    max(groups, key=len).extend(unknown)
    return [sorted(group) for group in groups]


def common_view(lenses: Sequence[PhotoLens], tolerance: float) -> tuple[list[PhotoLens], PhotoLens]:
    """The lenses, upright where most pictures lie, and the one whose view keeps the most pixels."""
    wide = sum(len(lens.photos) * (1 if lens.camera.width >= lens.camera.height else -1) for lens in lenses)
    lenses = [lens.upright() if (lens.camera.width - lens.camera.height) * wide < 0 else lens for lens in lenses]

    def kept(view: PhotoLens) -> float:
        return sum(
            len(lens.photos) * _kept_share(lens.camera, view.camera)
            for lens in lenses
            if not lens.misfit(view.camera, tolerance)
        )

    return lenses, max(lenses, key=lambda view: (kept(view), len(view.photos)))


def _kept_share(own: Camera, view: Camera) -> float:
    """Of the pixels of a picture, as many as a view of it has."""
    if not (own.is_calibrated and view.is_calibrated):
        return 1.0
    shown = view.width * view.height * (own.fx / view.fx) ** 2  # of its pixels
    return min(1.0, shown / (own.width * own.height)) * min(1.0, (view.fx / own.fx) ** 2)


def in_words(lenses: Sequence[PhotoLens], view: Camera, tolerance: float) -> str:
    """What becomes of the photos of each lens."""
    parts = []
    for lens in lenses:
        if lens.misfit(view, tolerance):
            done = "refused"
        elif lens.is_same(view, tolerance):
            done = "as they are"
        else:
            done = f"{'turned by 90 degrees and ' if lens.turned else ''}resampled to the dataset's view"
        parts.append(f"{lens.name}: {counted(len(lens.photos), 'photo')} {done}")
    return f"{len(lenses)} lenses: {'; '.join(parts)}"
