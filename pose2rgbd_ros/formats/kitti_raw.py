"""KITTI raw: DATE/DATE_drive_NNNN_sync/image_0N/data, calibration beside the drives, scans as true depth, oxts poses.

Geiger et al., "Vision meets Robotics" (2013). Images are rectified; P_rect_0N takes points of the rectified camera 0 to
pixels of camera N.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.formats import reading
from pose2rgbd_ros.formats.scene import pinhole
from pose2rgbd_ros.geometry import geodesy, se3
from pose2rgbd_ros.geometry.arrays import Float32, Float64, Int64
from pose2rgbd_ros.geometry.camera import Camera

CAMERAS = ("image_02", "image_03", "image_00", "image_01")
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\.(\d{1,9})")


class Drive:
    """One camera of one drive.

    Attributes:
        images: the files, of the numbers `numbers` (N,), some of which may be missing.
        stamps_ns: (N,) UTC. camera: rectified, without distortion.
        T_cam_velo: (4, 4) takes points of the laser scanner to this camera; None without its calibration.
        scans: folder of the scans; None without any.

    Raises:
        UserError: calibration, times or images are missing or damaged; it names the file.
    """

    def __init__(self, drive: Path, name: str = "image_02") -> None:
        self.path, self.name = drive, name
        files = {_number(file): file for file in reading.image_files(drive / name / "data")}
        if not files:
            raise UserError(f"{drive / name / 'data'} holds no images")
        times = _stamps(drive / name / "timestamps.txt")
        self.numbers: list[int] = [number for number in sorted(files) if number < len(times)]
        if not self.numbers:
            raise UserError(f"{drive / name / 'timestamps.txt'} has no time for any image; restore it")
        self.images = [files[number] for number in self.numbers]
        self.stamps_ns: Int64 = np.array([times[number] for number in self.numbers], np.int64)
        date = drive.resolve().parent
        rectified = _calibration(date / "calib_cam_to_cam.txt")
        P = _matrix(rectified, f"P_rect_{name[-2:]}", (3, 4), date / "calib_cam_to_cam.txt")
        width, height = reading.image_size(self.images[0])
        self.camera: Camera = pinhole(P[:, :3], width, height)
        self._T_cam_rect0 = np.eye(4)
        self._T_cam_rect0[:3, 3] = np.linalg.solve(P[:, :3], P[:, 3])
        self._T_rect0_cam0 = np.eye(4)
        self._T_rect0_cam0[:3, :3] = _matrix(rectified, "R_rect_00", (3, 3), date / "calib_cam_to_cam.txt")
        self._date = date
        scans, to_camera = drive / "velodyne_points" / "data", date / "calib_velo_to_cam.txt"
        self.T_cam_velo: Float64 | None = self._T_cam_velo(to_camera) if to_camera.is_file() else None
        self.scans = scans if self.T_cam_velo is not None and scans.is_dir() else None

    def depth(self, index: int) -> Float32:
        """Depth (H, W) of the scanner's points along the optical axis, the nearest of each pixel, NaN between them."""
        return self._depth(index, "optical")

    def eigen_depth(self, index: int) -> Float32:
        """The same as public evaluations of KITTI count it since Eigen et al. (2014), for figures to compare.

        Depth is the scanner's forward distance, not the camera's (0.27 m farther), and pixels are counted from one.
        """
        return self._depth(index, "eigen")

    def poses(self) -> Float64 | None:
        """T_map_cam (N, 4, 4) by GPS and inertial sensors (oxts), the first at the origin of an ENU map; NaN without a
        record; None without its files or calibration.
        """
        folder, to_velo = self.path / "oxts" / "data", self._date / "calib_imu_to_velo.txt"
        if self.T_cam_velo is None or not folder.is_dir() or not to_velo.is_file():
            return None
        T_cam_imu = self.T_cam_velo @ _rigid(to_velo)
        rows = np.full((len(self.numbers), 6), np.nan)
        for place, number in enumerate(self.numbers):
            file = folder / f"{number:010d}.txt"
            if file.is_file():
                fields = next((line.split() for _, line in reading.lines(file)), [])
                reading.expect(file, 1, fields, 6, "latitude longitude altitude roll pitch yaw")
                rows[place] = reading.numbers(file, 1, fields[:6])
        known = np.isfinite(rows).all(axis=1)
        if not known.any():
            return None
        datum = geodesy.Datum(*rows[known][0, :3].tolist())
        T = np.full((len(rows), 4, 4), np.nan)
        quat = Rotation.from_euler("ZYX", rows[known][:, [5, 4, 3]]).as_quat()
        position = geodesy.wgs84_to_enu(rows[known][:, 0], rows[known][:, 1], rows[known][:, 2], datum)
        T[known] = se3.make(position, quat) @ se3.inverse(T_cam_imu)
        return T

    def _T_cam_velo(self, file: Path) -> Float64:
        T: Float64 = self._T_cam_rect0 @ self._T_rect0_cam0 @ _rigid(file)
        return T

    def _depth(self, index: int, rule: str) -> Float32:
        assert self.scans is not None
        assert self.T_cam_velo is not None
        file = self.scans / f"{self.numbers[index]:010d}.bin"
        camera = self.camera
        depth = np.full(camera.height * camera.width, np.inf, np.float32)
        if file.is_file():
            with os_errors(f"{file} cannot be read"):
                points = np.fromfile(file, np.float32)
            points = points[: len(points) // 4 * 4].reshape(-1, 4)[:, :3].astype(np.float64)
            points = points[points[:, 0] >= 0]
            seen = se3.transform_points(self.T_cam_velo, points)
            pixels = np.rint(camera.project(seen)) - (1 if rule == "eigen" else 0)
            inside = ((pixels >= 0) & (pixels < (camera.width, camera.height))).all(axis=1)
            far = points[:, 0] if rule == "eigen" else seen[:, 2]
            place = (pixels[inside] @ [1, camera.width]).astype(np.int64)
            np.minimum.at(depth, place, far[inside].astype(np.float32))
        depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
        return depth.reshape(camera.height, camera.width)


def drives(path: Path) -> list[tuple[Path, str]]:
    """The drives of a folder and a camera of each: of one drive, of one of its cameras, of a day, of all days.

    The two colour cameras where they are there, else the first grey one; empty: it is none of these.
    """
    if path.name in CAMERAS and (path / "data").is_dir():
        return [(path.resolve().parent, path.name)]
    folders = [path]
    for depth in range(3):
        found = [folder for folder in folders if any((folder / name / "data").is_dir() for name in CAMERAS)]
        if found:
            return [(folder, name) for folder in found for name in _cameras(folder)]
        if depth < 2:
            folders = [inner for folder in folders if folder.is_dir() for inner in sorted(folder.iterdir())]
            folders = [folder for folder in folders if re.match(r"\d{4}_\d\d_\d\d", folder.name)]
    return []


def _cameras(drive: Path) -> list[str]:
    there = [name for name in CAMERAS if (drive / name / "data").is_dir()]
    return [name for name in there if name in CAMERAS[:2]] or there[:1]


def _number(file: Path) -> int:
    if not file.stem.isdecimal():
        raise UserError(f"{file} has no frame number for a name")
    return int(file.stem)


def _stamps(file: Path) -> list[int]:
    stamps: list[int] = []
    for number, line in reading.lines(file):
        found = _STAMP.fullmatch(line)
        if found is None:
            raise reading.wrong(file, number, f"{line!r} is no time such as 2011-09-26 13:02:25.964389445")
        second = datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
        stamps.append(int(second.timestamp()) * 1_000_000_000 + int(found[2].ljust(9, "0")))
    if any(after <= before for before, after in pairwise(stamps)):
        raise UserError(f"{file}: the times do not increase; restore the file")
    return stamps


def _calibration(file: Path) -> dict[str, list[float]]:
    """The numbers of a calibration file by their names."""
    found = {}
    for number, line in reading.lines(file):
        name, _, rest = line.partition(":")
        if name not in ("calib_time", "corner_dist"):
            found[name.strip()] = reading.numbers(file, number, rest.split())
    return found


def _matrix(values: dict[str, list[float]], name: str, shape: tuple[int, int], file: Path) -> Float64:
    numbers = values.get(name, [])
    if len(numbers) != shape[0] * shape[1] or not np.isfinite(numbers).all():
        raise UserError(f"{file} has no {shape[0]} x {shape[1]} matrix {name}; restore it from KITTI's calibration")
    return np.array(numbers).reshape(shape)


def _rigid(file: Path) -> Float64:
    """R and T of a calibration file as one transform (4, 4)."""
    values, T = _calibration(file), np.eye(4)
    T[:3, :3], T[:3, 3:] = _matrix(values, "R", (3, 3), file), _matrix(values, "T", (3, 1), file)
    return T
