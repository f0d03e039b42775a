"""Frames of bags, photographs and videos on their way into a dataset: filtered, encoded, written or refused; counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np

from pose2rgbd_ros.dataset.filters import FilterConfig, FrameFilter
from pose2rgbd_ros.dataset.importers.georeference import FARTHEST_ORIGIN_M
from pose2rgbd_ros.dataset.importers.report import BagReport
from pose2rgbd_ros.dataset.importers.target import Target
from pose2rgbd_ros.dataset.ingest import PRESENT, WRITTEN, Depth, FrameIngest, Outcome
from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.streams.samples import ImageSample

# Settings of ConvertConfig that mean something for every kind of source.
COMMON = (
    *("orientation", "body_to_camera", "altitude", "altitude_reference", "map_frame", "camera_frame"),
    *("fov_deg", "datum", "resume", "jobs"),
    *FilterConfig.__dataclass_fields__,
)


def require_near(position_m: Float64, source: Path, datum: Datum) -> None:
    """UserError when positions (N, 3) in the map of `datum` are those of another place on Earth."""
    known_m = position_m[np.isfinite(position_m[:, :2]).all(axis=1), :2]
    away_m = float(np.median(np.linalg.norm(known_m, axis=1))) if len(known_m) else 0.0
    if away_m > FARTHEST_ORIGIN_M:
        raise UserError(
            f"{source} lies {away_m / 1000:.0f} km from the map's datum ({datum}); check --datum, or choose another "
            "folder for another place"
        )


class FrameSink:
    """Takes the frames of one source in order of time; `report` counts what becomes of them.

    `meta` describes the source's frames, asked with the first image. The writer begins with it. `frame_filter` and
    `jobs` as FrameIngest has them; with more than one job it is used as a context manager. `recorded_from_ns`, to be
    set before the first frame, tells sources of one name apart.
    """

    def __init__(
        self,
        target: Target,
        report: BagReport,
        source: Path,
        meta: Callable[[ImageSample], DatasetMeta],
        frame_filter: FrameFilter | None = None,
        jobs: int = 1,
    ) -> None:
        self._target, self._report, self._source, self._meta = target, report, source, meta
        self._frame_filter, self._jobs = frame_filter, jobs
        self.recorded_from_ns: int | None = None
        self._ingest: FrameIngest | None = None

    def __enter__(self) -> FrameSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ingest is not None:
            with self._ingest:
                if error is None:
                    self._count(self._ingest.finish())

    def add(self, stamp_ns: int, T_map_cam: Float64, image: ImageSample, depth: Depth = None) -> None:
        """Store a frame or count why not. UserError when the disk is full, or the source does not fit the dataset."""
        if self._ingest is None:
            writer = self._target.begin(self._meta(image), self._source)
            writer.begin_source(self._source.name, self.recorded_from_ns)
            self._ingest = FrameIngest(writer, self._target.config, self._frame_filter, self._jobs)
        self._count(self._ingest.put(stamp_ns, T_map_cam, image, depth))

    def _count(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.result == WRITTEN:
                self._report.frames_written += 1
            elif outcome.result == PRESENT:
                self._report.frames_already_there += 1
            else:
                self._report.reject(outcome.stamp_ns, outcome.result, outcome.detail)
