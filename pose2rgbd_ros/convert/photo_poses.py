"""Where photographs were taken: positions in the map, and orientations from the best source there is."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from scipy import sparse
from scipy.ndimage import median_filter
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import lsqr
from scipy.spatial import cKDTree
from tqdm import tqdm

from pose2rgbd_ros.alignment.flow import grey_file
from pose2rgbd_ros.convert.exif import Photo
from pose2rgbd_ros.convert.logs.flight_log import REFERENCES
from pose2rgbd_ros.dataset.meta import PosesMeta
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float64, Int64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum, gimbal_to_quat_map_cam, wgs84_to_enu
from pose2rgbd_ros.poses import camera_pose
from pose2rgbd_ros.poses.settings import PoseSettings

# Overlapping photographs matched by their features: how one lies in the other.


_SIDE_PX = 640
_FEATURES = 1500
_NEIGHBOURS = 4
_FEWEST_INLIERS = 15
_RATIO = 0.8
_TOLERANCE = 0.01


@dataclass(frozen=True, eq=False)
class Match:
    """Photos `i` and `j` show the same ground. Where each one's middle lies in the other, (2,) in image widths from
    the middle, x right and y down; `turn_rad`: the direction to the right of j, seen in i, clockwise; `scale`:
    lengths in i
    over those in j of the same ground, which is the height of j over that of i."""

    i: int
    j: int
    j_in_i: Float64
    i_in_j: Float64
    turn_rad: float
    scale: float
    inliers: int


@dataclass(frozen=True, eq=False)
class _Features:
    points: Float64  # (M, 2) from the middle, in image widths
    descriptors: AnyArray  # (M, 32) ORB


def match_neighbours(paths: Sequence[Path], position_m: Float64, usable: AnyArray) -> list[Match]:
    """Match each photo of the indices `usable` with those taken nearest to it; about 70 kB of memory per photo."""
    if len(usable) < 2:
        return []
    features = {
        int(i): _features(paths[i]) for i in tqdm(usable, desc="yaw check", unit="photo", leave=False, disable=None)
    }
    found = []
    for i, j in _pairs(position_m, usable):
        first, second = features[i], features[j]
        match = _match(i, j, first, second) if first and second else None
        if match:
            found.append(match)
    return found


def _features(path: Path) -> _Features | None:
    """ORB features of a photo made small; None when it cannot be read (the import says so)."""
    try:
        grey = grey_file(path.read_bytes(), _SIDE_PX)
    except (OSError, UserError):
        return None
    scale = _SIDE_PX / max(grey.shape)
    if scale < 1:
        size = round(grey.shape[1] * scale), round(grey.shape[0] * scale)
        grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    keypoints, descriptors = cv2.ORB.create(nfeatures=_FEATURES).detectAndCompute(grey, None)
    if descriptors is None or len(keypoints) < _FEWEST_INLIERS:
        return None
    height, width = grey.shape
    points = np.array([point.pt for point in keypoints]) - [(width - 1) / 2, (height - 1) / 2]
    return _Features(points / width, descriptors)


def _pairs(position_m: Float64, usable: AnyArray) -> list[tuple[int, int]]:
    count = min(_NEIGHBOURS + 1, len(usable))
    _, nearest = cKDTree(position_m[usable, :2]).query(position_m[usable, :2], k=count)
    pairs = {
        (min(int(usable[i]), int(usable[j])), max(int(usable[i]), int(usable[j])))
        for i, row in enumerate(np.asarray(nearest))
        for j in row
        if i != j
    }
    return sorted(pairs)


def _match(i: int, j: int, first: _Features, second: _Features) -> Match | None:
    """None unless enough features agree on one turn, shift and scale."""
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(first.descriptors, second.descriptors, k=2)
    good = [pair[0] for pair in pairs if len(pair) == 2 and pair[0].distance < _RATIO * pair[1].distance]
    if len(good) < _FEWEST_INLIERS:
        return None
    a = first.points[[match.queryIdx for match in good]]
    b = second.points[[match.trainIdx for match in good]]
    cv2.setRNGSeed(0)  # RANSAC draws from OpenCV's common generator
    found, inliers = cv2.estimateAffinePartial2D(b, a, method=cv2.RANSAC, ransacReprojThreshold=_TOLERANCE)
    if found is None or inliers is None or inliers.sum() < _FEWEST_INLIERS:
        return None
    similarity: Float64 = np.array(found, dtype=np.float64)
    R, shift = similarity[:, :2], similarity[:, 2]
    scale = float(np.sqrt(abs(np.linalg.det(R))))
    if not 0.5 < scale < 2.0:
        return None
    turn = float(np.arctan2(R[1, 0], R[0, 0]))
    middle: Float64 = np.array(-np.linalg.solve(R, shift), dtype=np.float64)
    return Match(i, j, shift, middle, turn, scale, int(inliers.sum()))


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

    With altitude "relative" it lies at the height of take-off, as far as the photos say.
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
        float(np.median([getattr(photo, name) for photo in placed])) for name in ("latitude_deg", "longitude_deg")
    )
    return Datum(latitude, longitude, float(np.median(up)) if up and altitude != "none" else 0.0)


def positions(photos: Sequence[Photo], datum: Datum, settings: PoseSettings) -> tuple[Float64, str, str]:
    """Positions (N, 3) in the datum's east, north and up, NaN where unknown; what heights count from; both in words."""

    def numbers(name: str) -> Float64:
        values = [getattr(photo, name) for photo in photos]
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    altitude, stated = settings.altitude, settings.altitude_reference
    height = numbers("altitude_m")
    position = wgs84_to_enu(numbers("latitude_deg"), numbers("longitude_deg"), height, datum)
    if altitude == "relative":
        above = numbers("relative_altitude_m")
        if np.isnan(above).all():
            raise UserError("no photo has its height above take-off (RelativeAltitude); --altitude fix uses GPS")
        position[:, 2] = above
        return position, "takeoff", "GPS; heights count from take-off"
    if altitude == "none" or np.isnan(height).all():
        position[:, 2] = 0.0
        return position, "unknown", "GPS without heights: all photos at height 0"
    references = sorted({photo.altitude_reference for photo in photos if photo.altitude_m is not None})
    reference = stated if stated != "auto" else references[0] if len(references) == 1 else "unknown"
    fixed = sum(photo.rtk == "50" for photo in photos)
    rtk = f"; RTK fixes in {fixed} of {counted(len(photos), 'photo')}" if fixed else ""
    return position, reference, f"GPS; heights count from {REFERENCES[reference]}{rtk}"


def pitch_zero(photos: Sequence[Photo]) -> tuple[str, str]:
    """Where the cameras of photos look at pitch 0, "horizon" or "nadir", by their tags; and in words why.

    Pix4D, whose tags `Camera:` are, counts from straight down; some makers fill these tags counting from the horizon,
    as DJI and Parrot do in their own. Values that would look far back, or up into the sky, say so themselves.
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
        T = T @ se3.inverse(se3.T_BODY_OPTICAL) @ camera_pose.T_NADIR
    if source in ("body", "course"):
        option = "nadir" if settings.body_to_camera == "auto" else settings.body_to_camera
        T = T @ se3.inverse(se3.T_BODY_OPTICAL) @ camera_pose.parse_mount(option)
        assumed = " (assumed; --body-to-camera says otherwise)" if settings.body_to_camera == "auto" else ""
        mounted = f"camera mount {option}{assumed}"
        how += f"; {mounted}"
    orientation = {"camera": "gimbal", "body": "pose"}.get(source, source)
    facts = PosesMeta(position="gps", orientation=orientation, mount=mounted, altitude_reference=reference)
    return PhotoPoses(T, position_how, how, source, facts)


def source_of(photos: Sequence[Photo], wanted: str) -> str:
    """The first kind of angles that most photos have; what is asked for must be there."""
    has = {name: sum(getattr(photo, name) is not None for photo in photos) for name in ("gimbal", "camera", "body")}
    if wanted == "course":
        return "course"
    if wanted == "gimbal" and not has["gimbal"] and not has["camera"]:
        raise UserError("no photo has the angles of its gimbal; --orientation course does without")
    if wanted not in ("auto", "gimbal"):
        raise UserError(f"--orientation {wanted} is not for photographs; choose auto, {' or '.join(ORIENTATIONS)}")
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
        raise UserError(f"{path} names {shared}, but {names[shared]} photos have this name; convert folder by folder")
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


# Do the pixels of photographs agree with their recorded yaw? Photos that look straight down, matched pair by pair.
#
# A drone's yaw is ambiguous when its camera looks straight down, and some firmware stores such photos turned by half a
# turn. Two matched photos show whether one of them is turned against the other; and the place in photo A where the
# middle of photo B lies must be in the direction that the recorded positions and A's orientation predict, which shows
# whether both are. The same matches show how the heights of two photos over the ground that both show compare, so that
# recorded heights which drift are seen.


_LARGEST_TILT = np.cos(np.deg2rad(30))
# The votes of matched photos must agree that much, of 1, before all of them are called turned.
_CLEAR_VOTE = 0.3
# A photo is stored half a turn around if its own pairs say so, to within:
_HALF_TURN_WITHIN_DEG = 30.0
_FEWEST_MATCHES = 4  # that show whether photos look down:
_AHEAD = 0.7  # one ahead of the other: that share of the way is along the image's height;
_CLEARLY_ALONG, _LEAST_SHIFT = 0.5, 0.05  # mean cosine of twice the angle between way and shift; image widths
_FEWEST_HEIGHTS = 5  # photos that hang together, before their heights are compared
_ROUNDS = 6  # of reweighting
_HALF_TURN: Float64 = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class YawCheck:
    """`error_deg` (N,): how far the pixels are turned, clockwise in the image, against the recorded orientation; the
    median over the photo's pairs, NaN where there is none. `turned` (N,): the photos stored half a turn around.
    `drift_m`: by how much recorded heights change that by the pictures do not, over `drift_s` seconds; `height_m`:
    above
    ground, by the pictures; 0 where nothing shows it."""

    error_deg: Float64
    turned: Bool
    drift_m: float = 0.0
    drift_s: float = 0.0
    height_m: float = 0.0

    @property
    def checked(self) -> int:
        """Photos that others say something about."""
        return int(np.isfinite(self.error_deg).sum())


def check_yaw(
    paths: Sequence[Path], T_map_cam: Float64, camera: Camera, stamps_ns: Sequence[int] | None = None
) -> YawCheck:
    """Compare photos at poses (N, 4, 4), NaN unknown, with their neighbours. Those not looking down are left out.

    Heights are compared where `stamps_ns` (N,) says when each was taken.
    """
    # NaN compares false: photos without a pose are left out too.
    looking_down = np.flatnonzero(-T_map_cam[:, 2, 2] > _LARGEST_TILT)
    if len(looking_down) < 2 or not camera.is_calibrated:
        return YawCheck(np.full(len(paths), np.nan), np.zeros(len(paths), dtype=bool))
    matches = match_neighbours(paths, T_map_cam[:, :3, 3], looking_down)
    found = judge(matches, T_map_cam, camera)
    if stamps_ns is None:
        return found
    height_m = _height_above_ground(matches, T_map_cam, camera.fx / camera.width)
    drift_m, drift_s = height_drift(matches, T_map_cam[:, 2, 3], np.asarray(stamps_ns), height_m)
    return replace(found, drift_m=drift_m, drift_s=drift_s, height_m=height_m)


def look_down(paths: Sequence[Path], T_map_cam: Float64) -> bool | None:
    """Whether photos show the ground from above, as poses (N, 4, 4) that look down say; None where nothing shows it.

    Photos taken one ahead of the other show it: on those that look down the ground moves along the image's height, on
        those that look ahead it grows about the middle. Half turns do not matter. Those taken beside each other look
        alike either way.
    """
    usable = np.flatnonzero(-T_map_cam[:, 2, 2] > _LARGEST_TILT)
    votes = []
    for match in match_neighbours(paths, T_map_cam[:, :3, 3], usable):
        for here, there, seen in ((match.i, match.j, match.j_in_i), (match.j, match.i, match.i_in_j)):
            way = T_map_cam[here, :3, :3].T @ (T_map_cam[there, :3, 3] - T_map_cam[here, :3, 3])
            way /= max(float(np.linalg.norm(way)), 1e-9)
            if abs(way[1]) > _AHEAD:
                votes.append(_vote(seen, way[:2]))
    weight = sum(abs(vote) for vote in votes)
    if len(votes) < 2 * _FEWEST_MATCHES or not weight > 0:
        return None
    along = sum((vote**2 / abs(vote)).real for vote in votes if abs(vote) > 0) / weight
    shift = float(np.median([abs(vote) for vote in votes]))
    return bool(along > _CLEARLY_ALONG and shift > _LEAST_SHIFT)


def turn(T_map_cam: Float64, turned: Bool) -> Float64:
    """New poses, with those of turned photos rotated by half a turn about the optical axis."""
    return np.where(turned[:, None, None], T_map_cam @ _HALF_TURN, T_map_cam)


def judge(matches: Sequence[Match], T_map_cam: Float64, camera: Camera) -> YawCheck:
    """Which photos are turned, by their matches."""
    focal = camera.fx / camera.width
    height_m = _height_above_ground(matches, T_map_cam, focal)
    votes: list[list[complex]] = [[] for _ in T_map_cam]
    for match in matches:
        for here, there, seen in ((match.i, match.j, match.j_in_i), (match.j, match.i, match.i_in_j)):
            expected = focal * _middle_of(T_map_cam[there], T_map_cam[here], height_m)
            votes[here].append(_vote(seen, expected))
    sign = _relative_signs(matches, T_map_cam)
    for group in np.unique(sign[:, 1]):
        members = np.flatnonzero(sign[:, 1] == group)
        scores = [sign[member, 0] * vote.real for member in members for vote in votes[member]]
        weight = sum(abs(vote) for member in members for vote in votes[member])
        if sum(scores) < -_CLEAR_VOTE * weight:
            sign[members, 0] *= -1
        elif sum(scores) <= _CLEAR_VOTE * weight:
            sign[members, 0] = 1  # the votes contradict each other: nothing is known
    error = [_median_angle([vote for vote in item if abs(vote) > 0]) for item in votes]
    with np.errstate(invalid="ignore"):
        opposite = np.abs(error) > 180.0 - _HALF_TURN_WITHIN_DEG
    return YawCheck(np.array(error), (sign[:, 0] < 0) & opposite)


def height_drift(matches: Sequence[Match], up_m: Float64, stamps_ns: Int64, height_m: float) -> tuple[float, float]:
    """By how many metres heights `up_m` (N,) change that the photos do not show, and over how many seconds.

    The scale of a match is the ratio of the two heights above ground that both photos see, so hills do not matter. The
    largest group of photos that matches connect counts; what is left after a running median over an eighth of it, which
    removes single wrong heights.
    """
    if not matches:
        return 0.0, 0.0
    i, j = (np.array([getattr(match, name) for match in matches]) for name in "ij")
    count, rows = len(up_m), np.arange(len(matches))
    # Logarithms of heights: u[i] - u[j] = -log(scale), by least squares with outliers weighted down.
    differences = sparse.csr_matrix(
        (np.repeat([1.0, -1.0], len(rows)), (np.tile(rows, 2), np.concatenate([i, j]))), (len(rows), count)
    )
    log_ratio, weight, u = -np.log([match.scale for match in matches]), np.ones(len(rows)), np.zeros(count)
    for _ in range(_ROUNDS):
        system = sparse.vstack([sparse.diags(weight) @ differences, 1e-4 * sparse.eye(count)])
        u = lsqr(system, np.concatenate([weight * log_ratio, np.zeros(count)]))[0]
        residual = differences @ u - log_ratio
        scale = 2 * 1.4826 * float(np.median(np.abs(residual))) + 1e-6
        weight = 1.0 / (1.0 + (residual / scale) ** 2)
    _, group = connected_components(sparse.coo_matrix((np.ones(len(rows)), (i, j)), (count, count)), False)
    members = np.flatnonzero(group == np.bincount(group).argmax())
    if len(members) < _FEWEST_HEIGHTS:
        return 0.0, 0.0
    members = members[np.argsort(stamps_ns[members], kind="stable")]
    shown_m = height_m * np.exp(u[members] - np.median(u[members]))
    unseen = median_filter(up_m[members] - shown_m, max(3, len(members) // 8 | 1), mode="nearest")
    low, high = members[np.argmin(unseen)], members[np.argmax(unseen)]
    return float(np.ptp(unseen)), abs(float(stamps_ns[high] - stamps_ns[low])) * 1e-9


def _height_above_ground(matches: Sequence[Match], T_map_cam: Float64, focal: float) -> float:
    """The height at which recorded distances fit the shifts in the photos, in metres; turned photos do not matter."""
    heights = [
        focal * np.linalg.norm(T_map_cam[match.i, :2, 3] - T_map_cam[match.j, :2, 3]) / np.linalg.norm(seen)
        for match in matches
        for seen in (match.j_in_i, match.i_in_j)
        if np.linalg.norm(seen) > 0
    ]
    return float(np.median(heights)) if heights else 1.0


def _middle_of(T_there: Float64, T_here: Float64, height_m: float) -> Float64:
    """Where the ground in the middle of one photo lies in another one: (2,), in focal lengths from the middle."""
    axis = T_there[:3, 2]
    ground = T_there[:3, 3] + axis * (height_m / -axis[2])
    x, y, z = T_here[:3, :3].T @ (ground - T_here[:3, 3])
    return np.array([x, y]) / z if z > 0 else np.zeros(2)


def _vote(seen: Float64, expected: Float64) -> complex:
    """The turn from the expected to the seen direction, as a complex number whose size says how much it counts."""
    ratio = complex(*seen) * complex(*expected).conjugate()
    weight = float(min(np.linalg.norm(seen), np.linalg.norm(expected)))
    return ratio / abs(ratio) * weight if abs(ratio) > 0 else 0j


def _relative_signs(matches: Sequence[Match], T_map_cam: Float64) -> Float64:
    """For each photo a sign, -1 for those turned against the others of their group, and the group: (N, 2).

    Groups are photos that matches connect, the surest match first.
    """
    count = len(T_map_cam)
    sign = np.stack([np.ones(count), np.arange(count, dtype=np.float64)], axis=1)
    for match in sorted(matches, key=lambda match: (-match.inliers, match.i, match.j)):
        same = sign[:, 1] == sign[match.j, 1]
        if sign[match.i, 1] == sign[match.j, 1]:
            continue
        right = T_map_cam[match.i, :3, :3].T @ T_map_cam[match.j, :3, 0]
        agrees = np.cos(match.turn_rad - np.arctan2(right[1], right[0]))
        if agrees * sign[match.i, 0] * sign[match.j, 0] < 0:
            sign[same, 0] *= -1
        sign[same, 1] = sign[match.i, 1]
    return sign


def _median_angle(votes: Sequence[complex]) -> float:
    """The angle, in degrees, with the smallest sum of distances to the others; NaN of none."""
    if not votes:
        return np.nan
    angles = np.degrees(np.angle(votes))
    apart = np.abs((angles[:, None] - angles + 180) % 360 - 180)
    return float(angles[np.argmin(apart.sum(axis=1))])
