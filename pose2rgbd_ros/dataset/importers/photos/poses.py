"""Where photographs were taken: positions in the map, and orientations from the best source there is."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pose2rgbd_ros.dataset.importers import mount
from pose2rgbd_ros.dataset.importers.logs.poses import REFERENCES
from pose2rgbd_ros.dataset.importers.photos.exif import Photo
from pose2rgbd_ros.dataset.meta import PosesMeta
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.aviation import gimbal_to_quat_map_cam
from pose2rgbd_ros.geometry.geodesy import Datum, wgs84_to_enu
from pose2rgbd_ros.streams.pose_settings import PoseSettings

ORIENTATIONS = ("gimbal", "course")
_PARALLEL = np.cos(np.pi / 4)
_HEADER = ("x", "east_m", "tx")
_FAR_DEG = 45.0  # from nadir or horizon: a survey's median is nearer to the one meant
_FROM_HORIZON = ("dji", "hasselblad")  # makes that count pitch from the horizon in any tag


@dataclass(frozen=True, eq=False)
class PhotoPoses:
    """`T_map_cam` (N, 4, 4), NaN where there is none; in words where positions and orientations come from; and the same
    for the dataset. `source` of the orientations: gimbal, camera, body, course or file."""

    T_map_cam: Float64
    position_how: str
    orientation_how: str
    source: str
    facts: PosesMeta


def datum_of(photos: Sequence[Photo], altitude: str) -> Datum | None:
    """The median of the photos' positions, so that one bad fix does not move it; None when none has a position.

    With altitude "relative" it lies at the height of take-off, as far as the photos tell that.
    """
    placed = [photo for photo in photos if photo.has_position]
    if not placed:
        return None
    up = [
        photo.altitude_m - (photo.relative_altitude_m or 0.0 if altitude == "relative" else 0.0)
        for photo in placed
        if photo.altitude_m is not None
    ]
    latitude, longitude = (
        float(np.median([getattr(photo, name) for photo in placed]))
        for name in ("latitude_deg", "longitude_deg")
    )
    return Datum(latitude, longitude, float(np.median(up)) if up and altitude != "none" else 0.0)


def positions(photos: Sequence[Photo], datum: Datum, settings: PoseSettings) -> tuple[Float64, str, str]:
    """Positions (N, 3) in the datum's east, north and up, NaN where unknown; what heights count from; both in words."""

    def numbers(name: str) -> Float64:
        values = [getattr(photo, name) for photo in photos]
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    altitude, told = settings.altitude, settings.altitude_reference
    height = numbers("altitude_m")
    position = wgs84_to_enu(numbers("latitude_deg"), numbers("longitude_deg"), height, datum)
    if altitude == "relative":
        above = numbers("relative_altitude_m")
        if np.isnan(above).all():
            raise UserError(
                "no photo tells its height above take-off (RelativeAltitude); --altitude fix uses GPS"
            )
        position[:, 2] = above
        return position, "takeoff", "GPS; heights count from take-off"
    if altitude == "none" or np.isnan(height).all():
        position[:, 2] = 0.0
        return position, "unknown", "GPS without heights: all photos at height 0"
    references = sorted({photo.altitude_reference for photo in photos if photo.altitude_m is not None})
    reference = told if told != "auto" else references[0] if len(references) == 1 else "unknown"
    fixed = sum(photo.rtk == "50" for photo in photos)
    rtk = f"; RTK fixes in {fixed} of {counted(len(photos), 'photo')}" if fixed else ""
    return position, reference, f"GPS; heights count from {REFERENCES[reference]}{rtk}"


def pitch_zero(photos: Sequence[Photo]) -> tuple[str, str]:
    """Where the cameras of photos look at pitch 0, "horizon" or "nadir", by their tags; and in words why.

    Pix4D, whose tags `Camera:` are, counts from straight down; some makers fill these tags counting from the horizon, as
    DJI and Parrot do in their own. Values that would look far back, or up into the sky, say so themselves.
    """
    with_angles = [photo for photo in photos if photo.camera is not None]
    pitch_deg = float(np.median([photo.camera[1] for photo in with_angles if photo.camera]))
    if pitch_deg <= -_FAR_DEG:
        return "horizon", f"their median is {pitch_deg:.0f} degrees"
    if pitch_deg >= _FAR_DEG:
        return "nadir", f"their median is {pitch_deg:.0f} degrees"
    make = Counter(photo.make for photo in with_angles).most_common(1)[0][0]
    if make.lower() in _FROM_HORIZON:
        return "horizon", f"the make is {make}"
    families = Counter(photo.camera_family for photo in with_angles)
    if families.most_common(1)[0][0] == "camera":
        return "nadir", "the tags are Pix4D's"
    return "horizon", "the tags are Parrot's own"


def poses(photos: Sequence[Photo], datum: Datum, settings: PoseSettings, zero: str = "horizon") -> PhotoPoses:
    """The camera poses of photos in order of time, from the best source that most of them have.

    `zero`: where a camera looks whose own tags (`Photo.camera`) say pitch 0, at the "horizon" or to the "nadir".
    """
    position_m, reference, position_how = positions(photos, datum, settings)
    source = source_of(photos, settings.orientation)
    if source == "gimbal":
        angles, how = [photo.gimbal for photo in photos], "the gimbal's angles (XMP)"
    elif source == "camera":
        angles, how = [photo.camera for photo in photos], f"the camera's angles (XMP), pitch 0 is the {zero}"
    elif source == "body":
        angles, how = [photo.body for photo in photos], "the aircraft's angles (XMP)"
    else:
        course = course_deg(position_m)
        angles = [(float(yaw), 0.0, 0.0) if np.isfinite(yaw) else None for yaw in course]
        how = (
            "course over ground, level: neither tilt nor yaw is recorded, and the poses are wrong by how the aircraft "
            "banks and how far its nose is from its way"
        )
    values = np.array([item or (np.nan,) * 3 for item in angles], dtype=np.float64)
    usable = np.isfinite(values).all(axis=1) & np.isfinite(position_m).all(axis=1)
    mounted, T = "", np.full((len(photos), 4, 4), np.nan)
    if usable.any():
        T[usable] = se3.make(position_m[usable], gimbal_to_quat_map_cam(*values[usable].T))
    if source == "camera" and zero == "nadir":
        # As those of a body that the camera hangs under, looking down.
        T = T @ se3.inverse(se3.T_BODY_OPTICAL) @ mount.T_NADIR
    if source in ("body", "course"):
        option = "nadir" if settings.body_to_camera == "auto" else settings.body_to_camera
        T = T @ se3.inverse(se3.T_BODY_OPTICAL) @ mount.parse(option)
        assumed = " (assumed; --body-to-camera says otherwise)" if settings.body_to_camera == "auto" else ""
        mounted = f"camera mount {option}{assumed}"
        how += f"; {mounted}"
    orientation = {"camera": "gimbal", "body": "pose"}.get(source, source)
    facts = PosesMeta(position="gps", orientation=orientation, mount=mounted, altitude_reference=reference)
    return PhotoPoses(T, position_how, how, source, facts)


def source_of(photos: Sequence[Photo], wanted: str) -> str:
    """The first kind of angles that most photos have; what is asked for must be there."""
    has = {
        name: sum(getattr(photo, name) is not None for photo in photos)
        for name in ("gimbal", "camera", "body")
    }
    if wanted == "course":
        return "course"
    if wanted == "gimbal" and not has["gimbal"] and not has["camera"]:
        raise UserError("no photo tells the angles of its gimbal; --orientation course does without")
    if wanted not in ("auto", "gimbal"):
        raise UserError(
            f"--orientation {wanted} is not for photographs; choose auto, {' or '.join(ORIENTATIONS)}"
        )
    best = max(has, key=lambda name: has[name])  # ties: the first
    return best if has[best] else "course"


def course_deg(position_m: Float64) -> Float64:
    """Direction of travel (N,) in degrees clockwise from north at each photo of a flight; NaN where nothing moved.

    Where the flight turns from one line to the next, a photo belongs to the line that goes on, not to the turn.
    """
    steps = np.diff(position_m[:, :2], axis=0)
    length = np.linalg.norm(steps, axis=1, keepdims=True)
    unit = np.divide(steps, length, out=np.zeros_like(steps), where=length > 0)
    unit = np.concatenate([np.zeros((2, 2)), np.nan_to_num(unit), np.zeros((2, 2))])
    result = np.full(len(position_m), np.nan)
    for i in range(len(position_m)):
        before, arriving, leaving, after = unit[i : i + 4]
        if arriving @ leaving > _PARALLEL:
            way = arriving + leaving
        else:
            way = arriving if before @ arriving > after @ leaving else leaving
            way = way if way.any() else arriving + leaving
        if way.any():
            result[i] = np.degrees(np.arctan2(way[0], way[1]))
    return result


def from_file(path: Path, photos: Sequence[Photo]) -> PhotoPoses:
    """The poses of a file 'name,x,y,z,qx,qy,qz,qw', by the photos' names; UserError naming file and line."""
    found: dict[str, Float64] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if (
                    not row
                    or row[0].lstrip().startswith("#")
                    or (number == 1 and row[1:2] and row[1].strip() in _HEADER)
                ):
                    continue
                found[row[0].strip()] = _pose_of_row(row, f"{path}:{number}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a list of poses ({error})") from error
    names = Counter(photo.path.name for photo in photos)
    shared = next((name for name, count in names.items() if count > 1 and name in found), None)
    if shared is not None:
        raise UserError(
            f"{path} names {shared}, but {names[shared]} photos have this name; convert folder by folder"
        )
    T = np.stack([found.get(photo.path.name, np.full((4, 4), np.nan)) for photo in photos])
    if not np.isfinite(T).any():
        raise UserError(
            f"{path} names none of the photos; its first column is the file's name, such as {photos[0].path.name}"
        )
    facts = PosesMeta(position="file", orientation="file", topics={"pose": path.name})
    return PhotoPoses(T, f"from {path.name}", f"from {path.name}", "file", facts)


def _pose_of_row(row: list[str], where: str) -> Float64:
    try:
        numbers = np.array([float(value) for value in row[1:8]])
    except ValueError:
        numbers = np.zeros(0)
    if numbers.shape != (7,) or not np.isfinite(numbers).all() or not numbers[3:].any():
        raise UserError(f"{where}: {','.join(row)[:80]!r} is no pose; expected name,x,y,z,qx,qy,qz,qw")
    return se3.make(numbers[:3], quaternions.normalize(numbers[3:]))
