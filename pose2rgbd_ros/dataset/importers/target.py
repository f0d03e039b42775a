"""The dataset that recordings are converted into."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pose2rgbd_ros.dataset.filters import NOT_WANTED
from pose2rgbd_ros.dataset.importers.config import ConvertConfig
from pose2rgbd_ros.dataset.importers.reject_table import REJECTS
from pose2rgbd_ros.dataset.importers.report import ConvertReport
from pose2rgbd_ros.dataset.layout import META, require_unused
from pose2rgbd_ros.dataset.meta import DatasetMeta, check_same_place, read_meta
from pose2rgbd_ros.dataset.records import read_associations
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError, counted

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
                f"{self.out} already holds a dataset of {counted(count, 'frame')}; --resume goes on with it or adds to it, "
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
                f"{sum(lost.values())} of {counted(images, 'image')} gave no frame, most of them for {reason}: see {REJECTS}"
            )

    def _tell_too_far(self, pixels: int, report: ConvertReport) -> None:
        if pixels:
            report.bags[-1].warn(
                f"{counted(pixels, 'depth pixel')} beyond the reach of --depth-format {self.config.depth_format} stored "
                "as unknown; auto loses none"
            )
