"""The last step of recording and converting: a frame with its pose is filtered, encoded and written, or refused."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from pose2rgbd_ros.dataset.encode import BadFrame, checked_pose, checked_stamp
from pose2rgbd_ros.dataset.filters import FilterConfig, FrameFilter
from pose2rgbd_ros.dataset.layout import Record
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.streams.samples import DepthSample, ImageSample

WRITTEN, PRESENT, DUPLICATE_STAMP = "written", "present", "duplicate_stamp"
Depth = DepthSample | Callable[[], DepthSample] | None


@dataclass(frozen=True)
class Outcome:
    """What became of a frame: `result` is "written", "present" (an earlier run wrote it), or why it is left out."""

    stamp_ns: int
    result: str
    detail: str = ""


@dataclass(frozen=True, eq=False)
class _UnderWay:
    stamp_ns: int
    T_map_cam: Float64
    staged: Future[Record | BadFrame] | Record | BadFrame


def jobs_of(jobs: int) -> int:
    """The number of threads that a setting asks for; 0: one per core this process may use."""
    return jobs or len(os.sched_getaffinity(0))


class FrameIngest:
    """Takes frames in the order they come, from one thread at a time; that order decides, whatever `jobs` is.

    With `jobs` above 1, as many threads check and encode images (OpenCV lets go of the interpreter meanwhile), and no
    more than twice as many frames are under way; use it as a context manager then, or `close` it. `frame_filter` is for
    a recording that is known as a whole (its ground, its take-off); by default one is made that learns on the way.
    `detail` tells in words and figures why the last frame given to `add` is left out.
    """

    def __init__(
        self, writer: DatasetWriter, filters: FilterConfig, frame_filter: FrameFilter | None = None, jobs: int = 1
    ) -> None:
        self.writer = writer
        self.detail = ""
        self._filter = frame_filter or FrameFilter(filters)
        self._most_under_way = 2 * jobs if jobs > 1 else 0
        self._pool = ThreadPoolExecutor(jobs, "encode") if jobs > 1 else None
        self._queue: deque[_UnderWay | Outcome] = deque()
        self._stamps_under_way: set[int] = set()
        self._failure: UserError | None = None

    def __enter__(self) -> FrameIngest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the threads; frames that were not `finish`ed, because of a failure, are dropped."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        for frame in self._queue:  # after a failure: what is written of them belongs to nobody
            if isinstance(frame, _UnderWay) and isinstance(frame.staged, Future):
                record = None if frame.staged.cancelled() or frame.staged.exception() else frame.staged.result()
                if isinstance(record, Record):
                    self.writer.discard(record)

    def add(self, stamp_ns: int, T_map_cam: Any, image: ImageSample, depth: Depth = None) -> str:
        """Store one frame at once: "written", "present", or the reason why it is left out. See `put`."""
        outcome = [*self.put(stamp_ns, T_map_cam, image, depth), *self.finish()][-1]
        self.detail = outcome.detail
        return outcome.result

    def put(self, stamp_ns: int, T_map_cam: Any, image: ImageSample, depth: Depth = None) -> list[Outcome]:
        """Take one frame; what became of it, and of ones before it, as far as that is settled, in order.

        `depth` may be a function that decodes it: called only for a frame that passes the filters, and its UserError
        is the reason "depth_unreadable". UserError when the disk is full or failing.
        """
        outcomes = self.finish() if stamp_ns in self._stamps_under_way else []
        self._queue.append(self._begun(stamp_ns, T_map_cam, image, depth))
        return outcomes + self._settled(self._most_under_way)

    def ready(self) -> list[Outcome]:
        """What became of frames that are done by now, without waiting for those that are not."""
        return self._settled(self._most_under_way)

    def finish(self) -> list[Outcome]:
        """What became of the frames that were still under way."""
        return self._settled(0)

    def _begun(self, stamp_ns: int, T_map_cam: Any, image: ImageSample, depth: Depth) -> _UnderWay | Outcome:
        try:
            T, stamp = checked_pose(T_map_cam), checked_stamp(stamp_ns)
        except BadFrame as error:
            return Outcome(int(stamp_ns), error.reason, str(error))
        refused = self._filter.reason(stamp, T, image)
        if refused is not None:
            return Outcome(stamp, *refused)
        seen = self.writer.seen(stamp, T)
        if seen is not None:
            return _outcome(stamp, seen)
        self._stamps_under_way.add(stamp)
        # A JPEG is only copied, in less time than handing it to a thread takes.
        copied = image.encoding == "jpeg" and depth is None
        if self._pool is None or copied or not self.writer.is_settled:
            return _UnderWay(stamp, T, self._staged(stamp, image, depth))
        return _UnderWay(stamp, T, self._pool.submit(self._staged, stamp, image, depth))

    def _staged(self, stamp_ns: int, image: ImageSample, depth: Depth) -> Record | BadFrame:
        try:
            return self.writer.stage(stamp_ns, self.writer.encode(image, _decoded(depth)))
        except BadFrame as error:
            return error

    def _settled(self, leave: int) -> list[Outcome]:
        """Outcomes from the head of the queue, until no more than `leave` are under way and the next is not ready."""
        outcomes = list[Outcome]()
        while self._queue and self._failure is None:
            first = self._queue[0]
            if isinstance(first, _UnderWay):
                if isinstance(first.staged, Future) and len(self._queue) <= leave and not first.staged.done():
                    break
                try:
                    first = self._stored(first)
                except UserError as error:
                    self._failure = error
                    break
            self._queue.popleft()
            outcomes.append(first)
        if self._failure is not None and not outcomes:  # frames that are stored are told first
            raise self._failure
        return outcomes

    def _stored(self, frame: _UnderWay) -> Outcome:
        staged = frame.staged.result() if isinstance(frame.staged, Future) else frame.staged
        self._stamps_under_way.discard(frame.stamp_ns)
        if isinstance(staged, BadFrame):
            return Outcome(frame.stamp_ns, staged.reason, str(staged))
        self.writer.commit(staged, frame.T_map_cam)
        return Outcome(frame.stamp_ns, WRITTEN)


def _outcome(stamp_ns: int, added: str) -> Outcome:
    if added == "collision":
        return Outcome(stamp_ns, DUPLICATE_STAMP, "another frame of this stamp is there")
    return Outcome(stamp_ns, added)


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
