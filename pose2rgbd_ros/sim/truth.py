"""The truth beside a simulated recording: true poses, true times, every fault; written as it flies, and read back.

truth.yaml          the settings, the clocks, and every fault that was drawn
groundtruth.txt     TUM: true time, pose of the body in the map
camera.txt          TUM: stamp of each image, pose of the camera's optical frame in the middle of its exposure
camera.csv, ...     one line per message of a sensor: true_ns, stamp_ns, arrival_ns, fault, errors with their units
"""

from __future__ import annotations

import csv
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.sim.sensors.clock import SensorClock
from pose2rgbd_ros.sim.sensors.measurement import Exposure, Measurement

FORMAT_VERSION = 1
BODY, CAMERA = "groundtruth.txt", "camera.txt"
_COLUMNS = ("true_ns", "stamp_ns", "arrival_ns", "fault")


class TruthWriter:
    """Writes the folder `path`; a context manager. It appears when the block ends well, else nothing is left.

    UserError when it exists, or another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise UserError(f"{path} exists already; choose another path or remove it")
        self.path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._files = ExitStack()
        self._tables: dict[str, Any] = {}

    def __enter__(self) -> TruthWriter:
        self._partial.mkdir(parents=True, exist_ok=True)
        self._lock = layout.FolderLock(self._partial)
        for left_over in self._partial.glob("[!.]*"):  # of a run that was killed
            left_over.unlink()
        self._body = self._open(BODY, "# T_map_body at true time: timestamp tx ty tz qx qy qz qw\n")
        self._camera = self._open(
            CAMERA, "# T_map_cam in mid-exposure, by image stamp: timestamp tx ty tz qx qy qz qw\n"
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._files.close()
            if kind is None:
                (self._partial / layout.LOCK).unlink()
                self._partial.replace(self.path)
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)
            self._lock.release()

    def pose(self, true_ns: int, T_map_body: Float64) -> None:
        """A true pose of the body."""
        self._body.write(layout.pose_line(true_ns, T_map_body))

    def measurement(self, item: Measurement) -> None:
        """What is true about one message."""
        if item.sensor not in self._tables:
            self._tables[item.sensor] = csv.writer(self._open(f"{item.sensor}.csv"), lineterminator="\n")
            self._tables[item.sensor].writerow([*_COLUMNS, *item.errors])
        row = [item.true_ns, item.stamp_ns, item.arrival_ns, item.fault]
        self._tables[item.sensor].writerow([*row, *(f"{value:.9g}" for value in item.errors.values())])
        if isinstance(item.value, Exposure):
            self._camera.write(layout.pose_line(item.stamp_ns, item.value.T_map_cam))

    def finish(self, truth: dict[str, Any]) -> None:
        """What holds for the whole recording."""
        settings.write_yaml(self._partial / layout.TRUTH, {"format_version": FORMAT_VERSION, **truth})

    def _open(self, name: str, header: str = "") -> TextIO:
        file = self._files.enter_context((self._partial / name).open("w", newline=""))
        file.write(header)
        return file


@dataclass(frozen=True, eq=False)
class SensorTruth:
    """The messages of one sensor in the order of arrival: times (N,), faults ("" for none), errors (N,) by name."""

    true_ns: Int64
    stamp_ns: Int64
    arrival_ns: Int64
    fault: tuple[str, ...]
    errors: dict[str, Float64]


class Truth:
    """The truth of one recording. `info` is truth.yaml. UserError names the file that is missing or damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise UserError(
                f"{path} does not exist; `pose2rgbd sim bag OUT.mcap` writes the truth to OUT.truth"
            )
        self.info = settings.read_yaml(path / layout.TRUTH)
        version = self.info.get("format_version")
        if version != FORMAT_VERSION:
            raise UserError(f"{path / layout.TRUTH} has format version {version}, not {FORMAT_VERSION}")

    def clock(self, sensor: str) -> SensorClock:
        """The clock by which a sensor stamped."""
        try:
            return SensorClock(**self.info["drawn"]["clocks"][sensor])
        except (KeyError, TypeError) as error:
            raise UserError(f"{self.path / layout.TRUTH} tells no clock of {sensor!r}") from error

    def body(self) -> Trajectory:
        """T_map_body by true time."""
        return _trajectory(self.path / BODY)

    def camera(self) -> Trajectory:
        """T_map_cam in the middle of each exposure, by the image's stamp."""
        return _trajectory(self.path / CAMERA)

    def sensor(self, name: str) -> SensorTruth:
        """What is true about the messages of a sensor."""
        path = self.path / f"{name}.csv"
        try:
            with path.open(newline="") as file:
                header, *rows = list(csv.reader(file))
            columns = dict(zip(header, zip(*rows, strict=True), strict=True))
            true_ns, stamp_ns, arrival_ns = (
                np.array([int(text) for text in columns.pop(column)], np.int64) for column in _COLUMNS[:3]
            )
            fault = columns.pop("fault")
            errors = {key: np.array(column, float) for key, column in columns.items()}
        except FileNotFoundError:
            raise UserError(f"{path} does not exist; that sensor recorded nothing") from None
        except (ValueError, KeyError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is damaged ({error})") from error
        return SensorTruth(true_ns, stamp_ns, arrival_ns, fault, errors)


def _trajectory(path: Path) -> Trajectory:
    try:
        lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        stamps = [layout.parse_stamp(line.split()[0]) for line in lines]
        poses = np.array([layout.parse_pose(line) for line in lines]).reshape(-1, 7)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error})") from error
    return Trajectory(np.array(stamps, np.int64), poses[:, :3], poses[:, 3:])


def mount_dict(T_body_cam: Float64) -> dict[str, list[float]]:
    """A mount ready for YAML."""
    position_m, quat_xyzw = se3.split(T_body_cam)
    return {"position_m": position_m.tolist(), "quat_xyzw": quat_xyzw.tolist()}
