"""Folders of photographs with GPS (EXIF, XMP) to a dataset."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from pose2rgbd_ros import settings
from pose2rgbd_ros.convert import photo_poses
from pose2rgbd_ros.convert.exif import SUFFIXES, Lens, Photo, read_photo
from pose2rgbd_ros.convert.lenses import PhotoLens, by_focal_length, common_view, in_words, key_of
from pose2rgbd_ros.convert.photo_poses import PhotoPoses, YawCheck
from pose2rgbd_ros.convert.report import BagReport, ConvertReport, conversion
from pose2rgbd_ros.convert.settings import ConvertConfig, PhotoSettings
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.filters import FrameFilter, ground_z_m
from pose2rgbd_ros.dataset.ingest import FrameSink
from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry.arrays import Bool, Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.poses import gps
from pose2rgbd_ros.streams.samples import ImageSample

# The camera of photographs, from what their EXIF and XMP say about the lens.


# 35 mm film: 36 x 24 mm. Equivalents are rounded to millimetres, and makers compare diagonals.
_FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
# Wider pictures are cut from a sensor of 4:3 at its full width, as drones do for 16:9.
_WIDEST_SENSOR, _COMMON_SENSOR = 1.6, 4 / 3
SAME_FOCAL_LENGTH = 0.02


# Two measures of one lens differ by less: 35 mm equivalents are rounded, and some compare widths instead of diagonals.
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
    taken to be free of distortion and centred, which EXIF does not say. Without a focal length that can be believed
    the camera is uncalibrated.
    """
    same = np.zeros(len(photos), dtype=bool)
    fisheye = sum(photo.lens.fisheye for photo in photos)
    warnings = [f"{counted(fisheye, 'photo')} of a fisheye lens; its distortion is not modelled"] if fisheye else []
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
        how = "the photos have no focal length: uncalibrated; --fov-deg gives its field of view"
        return PhotoCamera(Camera(width, height, 0.0, 0.0, 0.0, 0.0), how, warnings, same)
    usual = known[len(known) // 2]
    other = [item is not None and abs(item.per_width / usual.per_width - 1) > SAME_FOCAL_LENGTH for item, _ in chosen]
    focal = usual.per_width * width
    camera = Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
    how = f"focal length {focal:.1f} px of {width}: {usual.source}"
    return PhotoCamera(camera, how, warnings, np.array(other))


def lenses_of(photos: Sequence[Photo], fov_deg: float = 0.0, sensor_width_mm: float = 0.0) -> list[PhotoLens]:
    """The photographs by lens: make, model, serial number, size and focal length; each with its camera."""
    groups: dict[tuple[str, str, str, int, int], list[int]] = {}
    for i, photo in enumerate(photos):
        groups.setdefault(key_of(photo), []).append(i)
    told = [_choose(photo.lens, photo.width / photo.height, sensor_width_mm)[0] for photo in photos]
    per_width = [item.per_width if item and not fov_deg else None for item in told]
    lenses = []
    for (_, model, serial, width, height), members in groups.items():
        for own in by_focal_length(members, per_width, SAME_FOCAL_LENGTH):
            found = camera_of([photos[i] for i in own], width, height, fov_deg, sensor_width_mm)
            focal = f" {found.camera.fx:.0f} px" if found.camera.is_calibrated else ""
            name = f"{model or 'camera'}{f' no. {serial}' if serial else ''} {width} x {height}{focal}"
            lenses.append(PhotoLens(name, own, found.camera, found.how, found.warnings))
    return lenses


def _choose(lens: Lens, aspect: float, sensor_width_mm: float) -> tuple[_Told | None, str]:
    """The source that most others support, the more exact one of equals; and in words where they contradict it."""
    stated = _sources(lens, aspect, sensor_width_mm)
    if not stated:
        return None, ""
    if stated[0].kind == "given":
        return stated[0], "" if stated[0].is_sane else f"{stated[0]}"
    sane = [item for item in stated if item.is_sane]

    def support(item: _Told) -> int:
        return len({other.kind for other in stated if other.kind != item.kind and item.agrees(other)})

    best = max(sane, key=support, default=None)  # ties: the first, most exact
    if best is None:
        best = _by_another_unit(lens)
    if best is None:
        return None, f"{'; '.join(map(str, stated))}; not believed, so the camera is uncalibrated; {_OPTIONS}"
    against = [item for item in stated if not item.agrees(best)]
    if not against:
        return best, ""
    return best, f"{'; '.join(map(str, against))}; but {best}, which is used; {_OPTIONS}"


def _sources(lens: Lens, aspect: float, sensor_width_mm: float) -> list[_Told]:
    """What the tags say, the most exact source first."""
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


_SECOND = 1_000_000_000
_MOST_NAMED = 40
_MOST_FOR_PITCH = 60  # photos whose pictures show what pitch 0 means
_FAR_OFF_DEG = 30.0  # median of pixels against poses from which on the latter are not believed
_ALIKE = 0.8  # length of the mean of unit vectors
# Drift of heights, in metres and in heights above ground; the pictures' own error over a survey stays below.
_LEAST_DRIFT_M, _DRIFT_OF_HEIGHT = 10.0, 0.5


def convert_photos(
    sources: Sequence[Path | str],
    out: Path | str,
    config: ConvertConfig | None = None,
    options: PhotoSettings | None = None,
) -> ConvertReport:
    """Convert folders of photographs (or single ones) of one place into the dataset `out`.

    Photos are stored byte for byte. Those that cannot become frames are counted by reason, and everything assumed is
    said, in the report. `config.resume` goes on with an interrupted conversion or adds photos.

    Raises:
        UserError: there is no photo, none has a pose, the settings contradict the photos, or the disk is full.
    """
    config, options = config or ConvertConfig(), options or PhotoSettings()
    settings.check(options)
    sets = photo_sets(sources)
    values = {**settings.to_yaml_dict(config), "photos": settings.to_yaml_dict(options)}
    with conversion(out, config, values) as (ingest, report):
        for source, paths in sets.items():
            part = report.begin(source)
            PhotoSet(ingest, config, options, source, paths, part).run()
        report.require_frames("photo", {})
    return report


def photo_sets(sources: Sequence[Path | str]) -> dict[Path, list[Path]]:
    """The photos by the folder that was named; single photos go by the folder they are in. Subfolders count."""
    sets: dict[Path, list[Path]] = {}
    for source in map(Path, sources):
        if source.is_dir():
            found = [path for path in source.rglob("*") if is_photo(path)]
            if not found:
                raise UserError(f"{source} holds no photo ({', '.join(SUFFIXES)})")
            sets.setdefault(source, []).extend(found)
        elif is_photo(source):
            sets.setdefault(source.parent, []).append(source)
        else:
            raise UserError(f"{source} is no photo ({', '.join(SUFFIXES)})")
    seen: set[Path] = set()  # a folder and one inside it may both be named
    for source, paths in sets.items():
        own = {path.resolve(): path for path in paths}
        sets[source] = sorted((path for real, path in own.items() if real not in seen), key=_by_number)
        seen.update(own)
    return {source: paths for source, paths in sets.items() if paths}


def is_photo(path: Path) -> bool:
    """Whether a file is a photo by its name; hidden files, such as macOS leaves behind, are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


class PhotoSet:
    """One folder of photos on its way into the dataset."""

    def __init__(
        self,
        ingest: FrameSink,
        config: ConvertConfig,
        options: PhotoSettings,
        source: Path,
        paths: list[Path],
        report: BagReport,
    ) -> None:
        self._ingest, self._config, self._options = ingest, config, options
        self._source, self._paths, self._report = source, paths, report

    def run(self) -> None:
        """Read what the photos say, place them, check their yaw, store them."""
        photos = self._in_order_of_time(self._usable())
        if not photos:
            return
        camera, photos, lenses = self._one_camera(photos)
        datum, poses = self._poses([photo for photo, _ in photos])
        T_map_cam = self._checked(photos, poses, camera, [lens.is_same(camera, SAME_FOCAL_LENGTH) for lens in lenses])
        T_map_cam = np.stack([lens.pose(T) for lens, T in zip(lenses, T_map_cam, strict=True)])
        self._describe(poses, T_map_cam, [stamp_ns for _, stamp_ns in photos])
        meta = DatasetMeta(
            camera=camera,
            map_frame=self._config.map_frame or "map",
            camera_frame=self._config.camera_frame or "camera_optical_frame",
            datum=datum,
            poses=poses.facts,
        )
        frame_filter, begun = self._filter(T_map_cam), False
        frames = zip(photos, T_map_cam, lenses, strict=True)
        bar = tqdm(frames, self._source.name, len(photos), unit="photo", disable=None, delay=2.0, leave=False)
        for (photo, stamp_ns), T, lens in bar:
            image = self._image(photo, stamp_ns, T, poses.source, lens, camera)
            if image is None:
                continue
            if not begun:
                self._ingest.begin(meta, self._source, frame_filter, photos[0][1])
                begun = True
            self._report.count(self._ingest.offer(stamp_ns, T, image))
        while outcomes := self._ingest.settled(wait=True):
            self._report.count(outcomes)
        self._keep_lenses({stamp_ns: lens.name for (_, stamp_ns), lens in zip(photos, lenses, strict=True)})

    def _keep_lenses(self, lenses: dict[int, str]) -> None:
        """Note whose lens each frame is, where there are several."""
        if self._ingest.writer is None:
            return
        known = layout.read_lenses(self._ingest.out) | lenses
        if len(set(known.values())) > 1:
            self._ingest.writer.write_file(layout.LENSES, layout.lens_table(known))

    def _usable(self) -> list[Photo]:
        """The photos that can be read."""
        photos = []
        for path in tqdm(self._paths, "reading tags", unit="photo", disable=None, delay=2.0, leave=False):
            try:
                photo = read_photo(path)
            except UserError as error:
                self._refuse(0, "image_unreadable", str(error))
                continue
            if photo.panorama:
                self._refuse(photo.stamp_ns or 0, "panorama", f"{path.name} shows all around, not one view")
                continue
            photos.append(photo)
        turned = [photo for photo in photos if photo.orientation != 1]
        if turned:
            self._report.note(
                f"EXIF rotation of {counted(len(turned), 'photo')} ({_names(turned)}) is ignored, rows are as stored"
            )
        return photos

    def _refuse(self, stamp_ns: int, reason: str, example: str) -> None:
        self._report.images += 1
        self._report.reject(stamp_ns, reason, example)

    def _in_order_of_time(self, photos: list[Photo]) -> list[tuple[Photo, int]]:
        """The photos with stamps of their own; those of one second are spread over it, in order of their numbers."""
        timed = [photo for photo in photos if photo.stamp_ns is not None]
        if not timed and photos:
            self._report.note("no photo has a time; they are stamped a second apart, by their numbers")
            return [(photo, i * _SECOND) for i, photo in enumerate(photos)]
        for photo in photos:
            if photo.stamp_ns is None:
                self._refuse(0, "no_time", f"{photo.path.name} has no DateTimeOriginal")
        if timed and not all(photo.zone_known for photo in timed):
            self._report.note("the photos' clock has no time zone; it is taken as UTC")
        groups: dict[int, list[Photo]] = {}
        for photo in timed:
            groups.setdefault(photo.stamp_ns or 0, []).append(photo)
        shared = sum(len(group) for group in groups.values() if len(group) > 1)
        if shared:
            self._report.note(
                f"{shared} photos share their second with others; their stamps were spread over it, in order of their "
                "numbers"
            )
        return [
            (photo, stamp_ns + i * _SECOND // len(group))
            for stamp_ns, group in sorted(groups.items())
            for i, photo in enumerate(group)
        ]

    def _one_camera(self, timed: list[tuple[Photo, int]]) -> tuple[Camera, list[tuple[Photo, int]], list[PhotoLens]]:
        """The dataset's camera, the photos that it can show, and the lens of each."""
        photos, stored = [photo for photo, _ in timed], self._ingest.meta
        fov_deg, sensor_mm = self._config.fov_deg, self._options.sensor_width_mm
        lenses, view = common_view(lenses_of(photos, fov_deg, sensor_mm), SAME_FOCAL_LENGTH)
        camera, how = view.camera, view.how
        if stored is not None and any(not lens.misfit(stored.camera, SAME_FOCAL_LENGTH) for lens in lenses):
            camera, how = stored.camera, "the dataset's"
        self._report.topics["camera"] = (
            ", ".join(sorted({photo.model for photo in photos if photo.model})) or "not said"
        )
        self._report.note(f"camera: {how}")
        if len(lenses) > 1:
            self._report.note(in_words(lenses, camera, SAME_FOCAL_LENGTH))
        for text in view.warnings:
            self._report.warn(text)
        lens_of = {i: lens for lens in lenses for i in lens.photos}
        kept = []
        for i, (photo, stamp_ns) in enumerate(timed):
            if misfit := lens_of[i].misfit(camera, SAME_FOCAL_LENGTH):
                same_size = (photo.width, photo.height) == (view.camera.width, view.camera.height)
                reason = "focal_length" if same_size else "image_size"
                self._refuse(stamp_ns, reason, f"{photo.path.name} ({lens_of[i].name}) {misfit}")
            else:
                kept.append(i)
        if not kept:  # refused by the dataset, with the reason
            kept = list(view.photos)
        return camera, [timed[i] for i in kept], [lens_of[i] for i in kept]

    def _poses(self, photos: list[Photo]) -> tuple[Datum | None, PhotoPoses]:
        config, datum = self._config, self._config.datum_of_map(self._ingest.meta)
        if self._options.poses is not None:
            return datum, photo_poses.from_file(self._options.poses, photos)
        datum = datum or photo_poses.datum_of(photos, config.altitude)
        if datum is None:
            raise UserError(
                f"{self._source}: none of {counted(len(photos), 'photo')} has a GPS position; --photos.poses gives "
                "their poses"
            )
        zero, why = self._pitch_zero(photos, datum)
        poses = photo_poses.poses(photos, datum, config, zero)
        if poses.source == "camera":
            poses = replace(poses, orientation_how=f"{poses.orientation_how} ({why})")
        gps.require_near(poses.T_map_cam[:, :3, 3], self._source, datum)
        return datum, poses

    def _pitch_zero(self, photos: list[Photo], datum: Datum) -> tuple[str, str]:
        """Where cameras look at pitch 0, by the option, else by the tags unless the pictures contradict; and why."""
        of_camera = photo_poses.source_of(photos, self._config.orientation) == "camera"
        if self._options.pitch_zero != "auto":
            if not of_camera:
                self._report.note("--photos.pitch-zero is of angles of the camera; these photos' poses have none")
            return self._options.pitch_zero, "as given"
        if not of_camera:
            return "horizon", ""
        zero, why = photo_poses.pitch_zero(photos)
        some = [photo for photo in photos if photo.has_position][:_MOST_FOR_PITCH]
        T_map_cam = photo_poses.poses(some, datum, self._config, "nadir").T_map_cam
        down = photo_poses.look_down([photo.path for photo in some], T_map_cam)
        if down is None:
            return zero, f"{why}; --photos.pitch-zero says otherwise"
        if down == (zero == "nadir"):
            return zero, f"{why}, and the pictures agree"
        zero = "nadir" if down else "horizon"
        shown = "show the ground from above" if down else "do not show the ground from above"
        self._report.warn(
            f"by their tags pitch 0 is the {'horizon' if down else 'nadir'} ({why}), but the pictures {shown}: it is "
            f"taken as the {zero}; --photos.pitch-zero says otherwise"
        )
        return zero, "by the pictures"

    def _checked(self, timed: list[tuple[Photo, int]], poses: PhotoPoses, camera: Camera, alike: list[bool]) -> Float64:
        """The poses, with those of photos stored half a turn around turned, and what was found said.

        Photos that are `alike` are compared, those of other lenses are not.
        """
        photos = [photo for photo, _ in timed]
        self._check_barometer(photos)
        if self._options.yaw_check == "off":
            return poses.T_map_cam
        paths, stamps_ns = [photo.path for photo in photos], [stamp_ns for _, stamp_ns in timed]
        compared = np.where(np.array(alike)[:, None, None], poses.T_map_cam, np.nan)
        check = photo_poses.check_yaw(paths, compared, camera, stamps_ns)
        if not check.checked:
            self._report.note("yaw could not be checked: no two photos looking down show the same ground")
            return poses.T_map_cam
        if check.drift_m > max(_LEAST_DRIFT_M, _DRIFT_OF_HEIGHT * check.height_m):
            self._report.warn(
                f"heights drift: they change by {check.drift_m:.0f} m within {check.drift_s:.0f} s, which the "
                f"pictures, some {check.height_m:.0f} m above ground, do not show; --altitude relative or none, or "
                "--photos.poses does without them"
            )
        return self._with_yaw(photos, poses, check)

    def _with_yaw(self, photos: list[Photo], poses: PhotoPoses, check: YawCheck) -> Float64:
        """The poses, turned where a recorded yaw is off by half a turn; what else was found is said."""
        recorded = poses.source not in ("course", "file")
        fix = self._options.yaw_check == "fix" and recorded
        turned = [photo for photo, is_turned in zip(photos, check.turned, strict=True) if is_turned]
        text = f"yaw check: {check.checked} of {counted(len(photos), 'photo')} compared with those beside them; "
        if turned and recorded:
            done = "turned by 180 degrees" if fix else "left as recorded"
            text += (
                f"in {len(turned)} the pixels are turned by 180 degrees against the recorded yaw ({_names(turned)}): "
                f"their poses were {done}; "
            )
        elif turned:
            course = "the course over ground, which is no record of how the camera was held"
            self._report.warn(
                f"the pixels of {counted(len(turned), 'photo')} seem turned by some 180 degrees against "
                f"{course if poses.source == 'course' else 'the poses of the file'} ({_names(turned)}); their poses "
                "were left"
            )
        error_deg = np.where(check.turned & fix, (check.error_deg + 360.0) % 360.0 - 180.0, check.error_deg)
        median_deg = float(np.nanmedian(np.abs(error_deg)))
        left = bool(turned) and recorded and not fix
        if median_deg > _FAR_OFF_DEG:
            self._report.warn(
                f"{text}pixels and poses differ by {median_deg:.1f} degrees (median): the orientations are not to be "
                f"trusted{_all_alike(error_deg)}"
            )
        else:
            (self._report.warn if left else self._report.note)(
                f"{text}pixels and poses differ by {median_deg:.1f} degrees (median)"
            )
        return photo_poses.turn(poses.T_map_cam, check.turned) if fix else poses.T_map_cam

    def _check_barometer(self, photos: list[Photo]) -> None:
        """Heights above take-off and those of the GPS should differ by the same all along."""
        apart = [
            (photo.altitude_m - photo.relative_altitude_m, photo)
            for photo in photos
            if photo.altitude_m is not None and photo.relative_altitude_m is not None
        ]
        spread_m = float(np.ptp([item for item, _ in apart])) if apart else 0.0
        if spread_m > _LEAST_DRIFT_M:
            self._report.warn(
                f"GPS heights and heights above take-off part by {spread_m:.0f} m on the way: one of them drifts; "
                "--altitude relative takes the latter"
            )

    def _filter(self, T_map_cam: Float64) -> FrameFilter:
        """Heights are measured from the ground of all photos, not of those that came before."""
        z_m = T_map_cam[:, 2, 3]
        known = z_m[np.isfinite(z_m)]
        ground = ground_z_m(known, self._config.height_above) if len(known) else None
        return FrameFilter(self._config, ground)

    def _describe(self, poses: PhotoPoses, T_map_cam: Float64, stamps_ns: list[int]) -> None:
        report = self._report
        report.topics.update(image=counted(len(self._paths), "photo"), pose=poses.source)
        report.note(f"positions: {poses.position_how}")
        report.note(f"orientations: {poses.orientation_how}")
        placed = np.isfinite(T_map_cam).all(axis=(1, 2))
        report.poses = int(placed.sum())
        if placed.any():
            known = np.asarray(stamps_ns)[placed]
            report.poses_stamps_ns = int(known.min()), int(known.max())

    def _image(
        self, photo: Photo, stamp_ns: int, T_map_cam: Float64, source: str, lens: PhotoLens, camera: Camera
    ) -> ImageSample | None:
        """The photo as an image; None, counted, where it cannot become a frame."""
        self._report.saw_image(stamp_ns)
        if not np.isfinite(T_map_cam).all():
            self._report.reject(stamp_ns, *_why_no_pose(photo, source))
            return None
        try:
            image = ImageSample.from_compressed(stamp_ns, "", photo.path.read_bytes())
            if lens.is_same(camera, SAME_FOCAL_LENGTH):
                return image
            picture = cv2.cvtColor(lens.picture(image.rgb(), camera), cv2.COLOR_RGB2BGR)
            jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, self._config.jpeg_quality])[1]
            return ImageSample.from_compressed(stamp_ns, "", jpeg.tobytes())
        except (OSError, UserError) as error:
            self._report.reject(stamp_ns, "image_unreadable", f"{photo.path.name}: {error}")
            return None


def _why_no_pose(photo: Photo, source: str) -> tuple[str, str]:
    if source == "file":
        return "not_in_pose_file", f"{photo.path.name} is not in the file of poses"
    if not photo.has_position:
        return "no_position", f"{photo.path.name} has no GPS position"
    return "no_orientation", f"{photo.path.name} has no angles ({source}), or no height"


def _all_alike(error_deg: Float64) -> str:
    """What to do where most photos are turned by the same angle: the camera then sits otherwise on the body."""
    known = np.radians(error_deg[np.isfinite(error_deg)])
    mean = complex(np.exp(1j * known).mean())
    if abs(mean) < _ALIKE:
        return ""
    return (
        f"; most are turned by some {np.degrees(np.angle(mean)):+.0f} degrees (clockwise in the image), as a camera is "
        "that sits turned on the aircraft: --body-to-camera says how"
    )


def _names(photos: Sequence[Photo]) -> str:
    names = [photo.path.name for photo in photos[:_MOST_NAMED]]
    return ", ".join(names) + (f" and {len(photos) - _MOST_NAMED} more" if len(photos) > _MOST_NAMED else "")


def _by_number(path: Path) -> tuple[list[str], str]:
    """Names in the order of their numbers: IMG_9 before IMG_10."""
    parts = re.split(r"(\d+)", str(path))
    return [f"{int(part):020d}" if part.isdecimal() else part.lower() for part in parts], str(path)
