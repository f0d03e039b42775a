"""The way into a dataset, of recording and converting: an image with its pose is offered, and written or rejected."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pose2rgbd_ros.dataset.encode import JPEG_QUALITY, BadFrame, DepthFormat, RawImages, checked_pose, checked_stamp
from pose2rgbd_ros.dataset.filters import FrameFilter
from pose2rgbd_ros.dataset.layout import Record, require_room
from pose2rgbd_ros.dataset.meta import DatasetMeta, check_same_place, read_meta
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.depth import DepthKind
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.streams.samples import DepthSample, ImageSample

WRITTEN, PRESENT, DUPLICATE_STAMP = "written", "present", "duplicate_stamp"
Depth = DepthSample | Callable[[], DepthSample] | None


@dataclass(frozen=True)
class IngestSettings:
    """How images with poses become a dataset, live and offline."""

    resume: bool = setting(False, "go on with a dataset that is there, or add a recording to it; else it is refused")
    map_frame: str = setting("", "frame of the poses; needed with TF when it is none of the usual names")
    pose_frame: str = setting("", "frame whose pose is recorded, where the message names none or a wrong one")
    camera_frame: str = setting("", "optical frame of the camera, where the images name none or a wrong one")
    image_time_offset_s: float = setting(0.0, "added to image stamps when their pose is looked up")
    depth_tolerance_s: float = setting(0.02, "largest time between an image and its depth", ge=0)
    fov_deg: float = setting(
        0.0, "horizontal field of view, for a camera without calibration; 0: unknown", ge=0, le=175
    )
    depth_kind: DepthKind = setting("metric", "relative: depth without a unit, stored as it is")
    depth_format: DepthFormat = setting("auto", "how float depth is stored; auto loses no range")
    raw_images: RawImages = setting(
        "png",
        "how uncompressed images are stored; JPEG and PNG are kept as they come. jpeg loses a little and is faster",
    )
    jobs: int = setting(
        0, "threads that check and encode images, whose number changes no byte; 0: one per core", ge=0, le=256
    )


@dataclass(frozen=True)
class Outcome:
    """What became of a frame: `result` is "written", "present" (an earlier run wrote it), or why it is rejected."""

    stamp_ns: int
    result: str
    detail: str = ""


@dataclass(frozen=True, eq=False)
class _UnderWay:
    stamp_ns: int
    T_map_cam: Float64
    staged: Future[Record | BadFrame] | Record | BadFrame


class FrameSink(Protocol):
    """What a conversion hands its frames to: `FrameIngest`, or what only looks at what would be written."""

    out: Path
    writer: DatasetWriter | None

    @property
    def meta(self) -> DatasetMeta | None:
        """The facts of the frames that are there; None before the first."""

    def begin(
        self, meta: DatasetMeta, source: Path | str, frame_filter: FrameFilter, recorded_from_ns: int | None = None
    ) -> None:
        """The frames that follow are of the recording `source`."""

    def offer(self, stamp_ns: int, T_map_cam: Any, image: ImageSample, depth: Depth = None) -> list[Outcome]:
        """Take one frame; what became of it, and of ones before it."""

    def settled(self, wait: bool = False) -> list[Outcome]:
        """What became of frames that are done by now; with `wait`, of all."""


class FrameIngest:
    """The frames of one recording after the other on their way into the dataset `out`.

    Each recording is begun with `begin`, its frames are offered in the order they come, from one thread at a time, and
    that order decides, whatever the number of jobs is. With several, as many threads check and encode images (OpenCV
    lets go of the interpreter meanwhile), and no more than twice as many frames are under way. Nothing is written
    before the first `begin`.

    UserError when `out` cannot take frames: it holds other things, or frames although `resume` is off, or is damaged.
    """

    def __init__(self, out: Path, settings: IngestSettings, jpeg_quality: int = JPEG_QUALITY) -> None:
        self.out = out
        self.writer: DatasetWriter | None = None
        self.stored = read_meta(out) if require_room(out, settings.resume) else None  # of the frames there before
        self._settings, self._jpeg_quality = settings, jpeg_quality
        self._filter: FrameFilter | None = None
        jobs = settings.jobs or len(os.sched_getaffinity(0))
        self._most_under_way = 2 * jobs if jobs > 1 else 0
        self._pool = ThreadPoolExecutor(jobs, "encode") if jobs > 1 else None
        self._queue: deque[_UnderWay | Outcome] = deque()
        self._stamps_under_way: set[int] = set()
        self._failure: UserError | None = None

    @property
    def meta(self) -> DatasetMeta | None:
        """The facts of the frames that are there; None before the first."""
        return self.writer.meta if self.writer is not None else self.stored

    def begin(
        self, meta: DatasetMeta, source: Path | str, frame_filter: FrameFilter, recorded_from_ns: int | None = None
    ) -> None:
        """The frames that follow are of the recording `source`, described by `meta`, as begin_source of the writer.

        UserError when they do not fit the dataset, or it cannot be written.
        """
        if self.writer is None:
            self.writer = DatasetWriter(
                self.out,
                meta,
                self._settings.resume,
                depth_format=self._settings.depth_format,
                raw_images=self._settings.raw_images,
                jpeg_quality=self._jpeg_quality,
            )
        else:
            try:
                check_same_place(self.writer.meta, meta, self.out)
            except UserError as error:
                raise UserError(f"{source} does not belong with the others: {error}") from error
        self.writer.begin_source(Path(source).name, recorded_from_ns)
        self._filter = frame_filter

    def offer(self, stamp_ns: int, T_map_cam: Any, image: ImageSample, depth: Depth = None) -> list[Outcome]:
        """Take one frame; what became of it, and of ones before it, as far as that is settled, in order.

        `depth` may be a function that decodes it: called only for a frame that passes the filters, and its UserError
        is the reason "depth_unreadable". UserError when the disk is full or failing.
        """
        outcomes = self.settled(wait=True) if stamp_ns in self._stamps_under_way else []
        self._queue.append(self._entered(stamp_ns, T_map_cam, image, depth))
        return outcomes + self.settled()

    def settled(self, wait: bool = False) -> list[Outcome]:
        """What became of frames that are done by now; with `wait`, of all that were under way.

        A failure of the disk is raised once all that was written before it is reported: to learn it, ask until nothing
        comes.
        """
        leave = 0 if wait else self._most_under_way
        outcomes = list[Outcome]()
        while self._queue and self._failure is None:
            first = self._queue[0]
            if isinstance(first, _UnderWay):
                if isinstance(first.staged, Future) and len(self._queue) <= leave and not first.staged.done():
                    break
                try:
                    first = self._committed(first)
                except UserError as error:
                    self._failure = error
                    break
            self._queue.popleft()
            outcomes.append(first)
        if self._failure is not None and not outcomes:  # frames that are written are reported first
            raise self._failure
        return outcomes

    def close(self) -> None:
        """End the threads and close the dataset; frames still under way, because of a failure, are dropped."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if self.writer is None:
            return
        while self._queue:  # after a failure: the files written of them belong to no frame
            frame = self._queue.popleft()
            if isinstance(frame, _UnderWay) and isinstance(frame.staged, Future):
                record = None if frame.staged.cancelled() or frame.staged.exception() else frame.staged.result()
                if isinstance(record, Record):
                    self.writer.discard(record)
        self.writer.close()

    def _entered(self, stamp_ns: int, T_map_cam: Any, image: ImageSample, depth: Depth) -> _UnderWay | Outcome:
        assert self.writer is not None
        assert self._filter is not None
        try:
            T, stamp = checked_pose(T_map_cam), checked_stamp(stamp_ns)
        except BadFrame as error:
            return Outcome(int(stamp_ns), error.reason, str(error))
        rejected = self._filter.reason(stamp, T, image)
        if rejected is not None:
            return Outcome(stamp, *rejected)
        seen = self.writer.seen(stamp, T)
        if seen == "collision":
            return Outcome(stamp, DUPLICATE_STAMP, "another frame of this stamp is there")
        if seen is not None:
            return Outcome(stamp, PRESENT)
        self._stamps_under_way.add(stamp)
        # A JPEG is only copied, in less time than handing it to a thread takes.
        copied = image.encoding == "jpeg" and depth is None
        if self._pool is None or copied or not self.writer.is_settled:
            return _UnderWay(stamp, T, _staged(self.writer, stamp, image, depth))
        return _UnderWay(stamp, T, self._pool.submit(_staged, self.writer, stamp, image, depth))

    def _committed(self, frame: _UnderWay) -> Outcome:
        assert self.writer is not None
        staged = frame.staged.result() if isinstance(frame.staged, Future) else frame.staged
        self._stamps_under_way.discard(frame.stamp_ns)
        if isinstance(staged, BadFrame):
            return Outcome(frame.stamp_ns, staged.reason, str(staged))
        self.writer.commit(staged, frame.T_map_cam)
        return Outcome(frame.stamp_ns, WRITTEN)


def _staged(writer: DatasetWriter, stamp_ns: int, image: ImageSample, depth: Depth) -> Record | BadFrame:
    try:
        return writer.stage(stamp_ns, writer.encode(image, _decoded(depth)))
    except BadFrame as error:
        return error


def _decoded(depth: Depth) -> DepthSample | None:
    """The depth itself. BadFrame "depth_unreadable" when it cannot be decoded."""
    if not callable(depth):
        return depth
    try:
        return depth()
    except BadFrame:
        raise
    except UserError as error:
        raise BadFrame("depth_unreadable", str(error)) from error
