"""Frames of photographs and videos on their way into a dataset: counted, filtered, written or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pose2rgbd_ros.dataset.filters import FilterConfig
from pose2rgbd_ros.dataset.importers.config import ConvertConfig
from pose2rgbd_ros.dataset.importers.report import BagReport
from pose2rgbd_ros.dataset.importers.target import Target
from pose2rgbd_ros.dataset.ingest import PRESENT, WRITTEN, FrameIngest
from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.streams.samples import ImageSample

# Settings of ConvertConfig that mean something for every kind of source.
COMMON = (
    *("orientation", "body_to_camera", "altitude", "altitude_reference", "map_frame", "camera_frame"),
    *("fov_deg", "datum", "resume", "raw_images"),
    *FilterConfig.__dataclass_fields__,
)


class FrameSink:
    """Takes the frames of one source in order of time; `report` counts what becomes of them.

    `meta` describes the source's frames, asked with the first image. The writer begins with it.
    """

    def __init__(
        self,
        target: Target,
        report: BagReport,
        source: Path,
        meta: Callable[[ImageSample], DatasetMeta],
    ) -> None:
        self._target, self._report, self._source, self._meta = target, report, source, meta
        self._ingest: FrameIngest | None = None

    def add(self, stamp_ns: int, T_map_cam: Float64, image: ImageSample) -> None:
        """Store a frame or count why not. UserError when the disk is full, or the source does not fit the dataset."""
        if self._ingest is None:
            writer = self._target.begin(self._meta(image), self._source)
            writer.begin_source(self._target.source_name(self._source))
            self._ingest = FrameIngest(writer, filters_of(self._target.config))
        done = self._ingest.add(stamp_ns, T_map_cam, image)
        if done == WRITTEN:
            self._report.frames_written += 1
        elif done == PRESENT:
            self._report.frames_already_there += 1
        else:
            self._report.reject(stamp_ns, done, self._ingest.detail)


def filters_of(config: ConvertConfig) -> FilterConfig:
    """The filters among the settings of a conversion."""
    names = [name for name in FilterConfig.__dataclass_fields__ if hasattr(config, name)]
    return FilterConfig(**{name: getattr(config, name) for name in names})
