"""The dataset that recordings are converted into."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

from pose2rgbd_ros.convert.report import REJECTS, BagReport, ConvertReport
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.filters import NOT_WANTED, FilterConfig, FrameFilter
from pose2rgbd_ros.dataset.ingest import PRESENT, WRITTEN, Depth, FrameIngest, Outcome
from pose2rgbd_ros.dataset.layout import META, read_associations, require_unused
from pose2rgbd_ros.dataset.meta import DatasetMeta, check_same_place, read_meta
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.poses.gps import FARTHEST_ORIGIN_M
from pose2rgbd_ros.streams.samples import ImageSample

_MOST_LOST = 0.5  # of the images that were wanted


class Target:
    """The dataset being made of all recordings; its writer begins with the first frame.

    UserError when `out` holds frames already and `config.resume` is off, or is no folder for a dataset.
    """

    def __init__(self, out: Path, config: ConvertConfig) -> None:
        self.out = out
        self.config = config
        self.writer: DatasetWriter | None = None
        self._require_room()

    def _require_room(self) -> None:
        """Before long work, what the writer would say after it."""
        require_unused(self.out)
        if self.config.resume or not (self.out / META).is_file():
            return
        count = len(read_associations(self.out))
        if count:
            raise UserError(
                f"{self.out} already holds a dataset of {counted(count, 'frame')}; --resume goes on with it or adds "
                "to it, "
                "or choose another folder"
            )

    def stored_meta(self) -> DatasetMeta | None:
        """The facts of the frames that are there; None before the first. UserError for a damaged dataset."""
        if self.writer is not None:
            return self.writer.meta
        if not self.config.resume or not (self.out / META).is_file() or not read_associations(self.out):
            return None
        return read_meta(self.out)

    def begin(self, meta: DatasetMeta, bag: Path) -> DatasetWriter:
        """The writer, made for the first frame. UserError when `out` cannot take these frames."""
        if self.writer is not None:
            try:
                check_same_place(self.writer.meta, meta, self.out)
            except UserError as error:
                raise UserError(f"{bag} does not belong with the others: {error}") from error
        else:
            self.writer = DatasetWriter(
                self.out,
                meta,
                self.config.resume,
                depth_format=self.config.depth_format,
                raw_images=self.config.raw_images,
                jpeg_quality=self.config.jpeg_quality,
            )
        return self.writer

    @contextlib.contextmanager
    def closing(self, report: ConvertReport) -> Iterator[None]:
        """Close the writer and leave the report, however the conversion ends."""
        try:
            yield
            if self.writer is not None:
                self.writer.close()
                self._tell_too_far(self.writer.too_far_pixels, report)
                self._look_over(report)
        finally:
            if self.writer is not None:
                # After a failure: put in order what is there, if the disk lets us.
                with contextlib.suppress(UserError):
                    self.writer.close()
                with contextlib.suppress(OSError):
                    report.write(self.out)

    def _look_over(self, report: ConvertReport) -> None:
        """What `inspect` would warn of, told at once."""
        from pose2rgbd_ros.dataset.inspect import look_over  # with it comes matplotlib

        for warning in look_over(self.out):
            report.bags[-1].warn(warning)
        lost = {reason: count for reason, count in report.rejects.items() if reason not in NOT_WANTED}
        images = report.frames_written + report.frames_already_there + sum(lost.values())
        if sum(lost.values()) > _MOST_LOST * images:
            reason = max(lost, key=lambda name: lost[name])
            report.bags[-1].warn(
                f"{sum(lost.values())} of {counted(images, 'image')} gave no frame, most of them for {reason}: see "
                f"{REJECTS}"
            )

    def _tell_too_far(self, pixels: int, report: ConvertReport) -> None:
        if pixels:
            report.bags[-1].warn(
                f"{counted(pixels, 'depth pixel')} beyond the reach of --depth-format {self.config.depth_format} "
                "stored "
                "as unknown; auto loses none"
            )


# Frames of bags, photographs and videos on their way into a dataset: filtered, encoded, written or refused;
# counted.


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
