"""The camera of photographs, from what their EXIF and XMP say about the lens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pose2rgbd_ros.dataset.importers.photos.exif import Lens, Photo
from pose2rgbd_ros.errors import counted
from pose2rgbd_ros.geometry.arrays import Bool
from pose2rgbd_ros.geometry.camera import Camera

# 35 mm film: 36 x 24 mm. Equivalents are rounded to millimetres, and makers compare diagonals.
_FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
# Wider pictures are cut from a sensor of 4:3 at its full width, as drones do for 16:9.
_WIDEST_SENSOR, _COMMON_SENSOR = 1.6, 4 / 3
SAME_FOCAL_LENGTH = 0.02


# Two ways to tell one lens differ by less: 35 mm equivalents are rounded, and some compare widths instead of diagonals.
_SAME_LENS = 0.2
# Horizontal fields of view of cameras that make maps; beyond, a tag is misread or wrong.
_NARROWEST_DEG, _WIDEST_DEG = 3.0, 150.0
# FocalPlaneResolutionUnit by EXIF 2.3 and TIFF/EP.
_UNITS_MM = {2: ("inch", 25.4), 3: ("centimetre", 10.0), 4: ("millimetre", 1.0), 5: ("micrometre", 0.001)}
_OPTIONS = "--fov-deg or --photos.sensor-width-mm settles it"


@dataclass(frozen=True, eq=False)
class PhotoCamera:
    """The camera; in words where its focal length comes from; what is doubtful about it; and the photos taken at
    another focal length (N,)."""

    camera: Camera
    how: str
    warnings: list[str]
    other_focal_length: Bool


@dataclass(frozen=True)
class _Told:
    """A focal length over image width, by one source of a `kind`: those of one kind share what may be wrong."""

    per_width: float
    source: str
    kind: str

    @property
    def fov_deg(self) -> float:
        return math.degrees(2 * math.atan(0.5 / self.per_width))

    @property
    def is_sane(self) -> bool:
        return _NARROWEST_DEG <= self.fov_deg <= _WIDEST_DEG

    def agrees(self, other: _Told) -> bool:
        return abs(math.log(self.per_width / other.per_width)) < _SAME_LENS

    def __str__(self) -> str:
        return f"{self.fov_deg:.0f} degrees by {self.source}"


def camera_of(
    photos: Sequence[Photo], width: int, height: int, fov_deg: float = 0.0, sensor_width_mm: float = 0.0
) -> PhotoCamera:
    """The camera of files of `width` x `height` pixels.

    What EXIF says holds for the original photo; a file that was made smaller since sees the same angle. Lenses are
    taken to be free of distortion and centred, which EXIF does not tell. Without a focal length that can be believed
    the camera is uncalibrated.
    """
    same = np.zeros(len(photos), dtype=bool)
    fisheye = sum(photo.lens.fisheye for photo in photos)
    warnings = (
        [f"{counted(fisheye, 'photo')} of a fisheye lens; its distortion is not modelled"] if fisheye else []
    )
    if fov_deg:
        how = f"field of view as given, {fov_deg:g} degrees"
        return PhotoCamera(Camera.from_fov(width, height, fov_deg), how, warnings, same)
    chosen = [_choose(photo.lens, width / height, sensor_width_mm) for photo in photos]
    doubts = Counter(doubt for _, doubt in chosen if doubt)
    if doubts:
        (doubt, count), *_ = doubts.most_common(1)
        warnings.append(
            f"{count} of {counted(len(photos), 'photo')} with tags that contradict each other about the lens: {doubt}"
        )
    known = sorted((item for item, _ in chosen if item), key=lambda item: (item.per_width, item.source))
    if not known:
        how = "the photos do not tell their focal length: uncalibrated; --fov-deg gives its field of view"
        return PhotoCamera(Camera(width, height, 0.0, 0.0, 0.0, 0.0), how, warnings, same)
    usual = known[len(known) // 2]
    other = [
        item is not None and abs(item.per_width / usual.per_width - 1) > SAME_FOCAL_LENGTH
        for item, _ in chosen
    ]
    focal = usual.per_width * width
    camera = Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
    how = f"focal length {focal:.1f} px of {width}: {usual.source}"
    return PhotoCamera(camera, how, warnings, np.array(other))


def _choose(lens: Lens, aspect: float, sensor_width_mm: float) -> tuple[_Told | None, str]:
    """The source that most others support, the more exact one of equals; and in words where they contradict it."""
    told = _sources(lens, aspect, sensor_width_mm)
    if not told:
        return None, ""
    if told[0].kind == "given":
        return told[0], "" if told[0].is_sane else f"{told[0]}"
    sane = [item for item in told if item.is_sane]

    def support(item: _Told) -> int:
        return len({other.kind for other in told if other.kind != item.kind and item.agrees(other)})

    best = max(sane, key=support, default=None)  # ties: the first, most exact
    if best is None:
        best = _by_another_unit(lens)
    if best is None:
        return None, f"{'; '.join(map(str, told))}; not believed, so the camera is uncalibrated; {_OPTIONS}"
    against = [item for item in told if not item.agrees(best)]
    if not against:
        return best, ""
    return best, f"{'; '.join(map(str, against))}; but {best}, which is used; {_OPTIONS}"


def _sources(lens: Lens, aspect: float, sensor_width_mm: float) -> list[_Told]:
    """What the tags tell, the most exact source first."""
    found = []
    focal_mm, width = lens.focal_mm or lens.calibrated_mm, lens.original_width
    if sensor_width_mm and focal_mm:
        source = f"{focal_mm:g} mm by EXIF, sensor {sensor_width_mm:g} mm wide as given"
        found.append(_Told(focal_mm / sensor_width_mm, source, "given"))
    if lens.focal_original_px and width:
        source = f"the maker's calibrated {lens.focal_original_px:g} px of {width}"
        found.append(_Told(lens.focal_original_px / width, source, "pixels"))
    if lens.plane_unit in _UNITS_MM:
        found += _by_focal_plane(lens, lens.plane_unit)
    if lens.focal_35mm:
        cut = aspect > _WIDEST_SENSOR
        sensor = _COMMON_SENSOR if cut else max(aspect, 1 / aspect)
        # Diagonal of the sensor in widths of the image; an upright photo is as wide as its sensor is high.
        diagonal = math.hypot(1.0, 1.0 / sensor) if aspect >= 1 else math.hypot(1.0, sensor)
        note = ", of a 4:3 sensor" if cut else ""
        source = f"{lens.focal_35mm:g} mm of 35 mm film by EXIF{note}, good to 3 %"
        found.append(_Told(lens.focal_35mm / _FILM_DIAGONAL_MM * diagonal, source, "film"))
    if not found and lens.plane_unit not in _UNITS_MM:
        guessed = _by_another_unit(lens)
        found += [replace(guessed, source=f"{guessed.source}, which it does not say")] if guessed else []
    return found


def _by_focal_plane(lens: Lens, unit: int) -> list[_Told]:
    """By the pixels that lie on a unit of the sensor, for the calibrated focal length and the nominal one."""
    if not lens.plane_px_per_unit or not lens.original_width:
        return []
    name, size_mm = _UNITS_MM[unit]
    sensor_mm = lens.original_width / lens.plane_px_per_unit * size_mm
    about = f"sensor {sensor_mm:.2f} mm wide by its focal plane resolution (per {name})"
    return [
        _Told(focal_mm / sensor_mm, f"{focal_mm:g} mm by {which}, {about}", "plane")
        for focal_mm, which in ((lens.calibrated_mm, "calibration"), (lens.focal_mm, "EXIF"))
        if focal_mm
    ]


def _by_another_unit(lens: Lens) -> _Told | None:
    """By the only unit of the focal plane resolution that makes a lens of it, where the one written makes none."""
    tried = [_by_focal_plane(lens, unit)[:1] for unit in _UNITS_MM if unit != lens.plane_unit]
    sane = [item for items in tried for item in items if item.is_sane]
    return sane[0] if len(sane) == 1 else None
