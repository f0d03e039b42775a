"""The last step of recording and converting: a frame with its pose is filtered, encoded and written, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pose2rgbd_ros.dataset.filters import FilterConfig, FrameFilter
from pose2rgbd_ros.dataset.frames import BadFrame, checked_pose, checked_stamp
from pose2rgbd_ros.dataset.writer import Added, DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.streams.samples import DepthSample, ImageSample

WRITTEN, PRESENT, DUPLICATE_STAMP = "written", "present", "duplicate_stamp"
Depth = DepthSample | Callable[[], DepthSample] | None


class FrameIngest:
    """Takes frames in the order they come; for one thread at a time.

    `frame_filter` is for a recording that is known as a whole (its ground, its take-off); by default one is made that
    learns on the way. `detail` tells of the last frame that was refused why, in words and figures.
    """

    def __init__(
        self, writer: DatasetWriter, filters: FilterConfig, frame_filter: FrameFilter | None = None
    ) -> None:
        self.writer = writer
        self.detail = ""
        self._filter = frame_filter or FrameFilter(filters)

    def add(self, stamp_ns: int, T_map_cam: Any, image: ImageSample, depth: Depth = None) -> str:
        """ "written", "present" (an earlier run wrote it), or the reason why the frame is left out.

        `depth` may be a function that decodes it: called only for a frame that passes the filters, and its UserError
        is the reason "depth_unreadable". UserError when the disk is full or failing.
        """
        self.detail = ""
        try:
            T = checked_pose(T_map_cam)
            refused = self._filter.reason(checked_stamp(stamp_ns), T, image)
            if refused is not None:
                reason, self.detail = refused
                return reason
            found: Added = self.writer.seen(stamp_ns, T) or self.writer.add(
                stamp_ns, T, image, decoded(depth)
            )
        except BadFrame as error:
            self.detail = str(error)
            return error.reason
        if found == "collision":
            self.detail = "another frame of this stamp is there"
            return DUPLICATE_STAMP
        return found


def decoded(depth: Depth) -> DepthSample | None:
    """The depth itself. BadFrame "depth_unreadable" when it cannot be decoded."""
    if not callable(depth):
        return depth
    try:
        return depth()
    except BadFrame:
        raise
    except UserError as error:
        raise BadFrame("depth_unreadable", str(error)) from error
