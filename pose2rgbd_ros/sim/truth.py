"""The truth beside a simulated recording: true poses, true times, every fault; written as it flies.

truth.yaml          the settings, the clocks, and every fault that was drawn
groundtruth.txt     TUM: true time, pose of the body in the map
camera.txt          TUM: stamp of each image, pose of the camera's optical frame in the middle of its exposure
camera.csv, ...     one line per message of a sensor: true_ns, stamp_ns, arrival_ns, fault, errors with their units
"""

from __future__ import annotations

import csv
import shutil
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.sensors.noise import Exposure, Measurement

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
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
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


def mount_dict(T_body_cam: Float64) -> dict[str, list[float]]:
    """A mount ready for YAML."""
    position_m, quat_xyzw = se3.split(T_body_cam)
    return {"position_m": position_m.tolist(), "quat_xyzw": quat_xyzw.tolist()}
