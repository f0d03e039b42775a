"""The transform buffer: messages in and out of the tree of frames, from any thread. No topics."""

from __future__ import annotations

import math
import threading
from typing import Any

from builtin_interfaces.msg import Time as TimeMsg
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.time import Time
from std_msgs.msg import Header

from tf2_py import _frame_text
from tf2_py._caches import seconds
from tf2_py._exceptions import TransformException
from tf2_py._frame_tree import FrameTree
from tf2_py._rigid import Rigid, canonical, compose

DEFAULT_CACHE_TIME = Duration(seconds=10)


class BufferCore:
    """Stores transforms and answers where a frame was, seen from another, at a time. Safe to share between threads.

    Times are anything with `sec` and `nanosec` (a message) or `nanoseconds` (rclpy); zero asks for the newest
    time at which every edge of the chain is known.
    """

    def __init__(self, cache_time: Duration = DEFAULT_CACHE_TIME) -> None:
        self._tree = FrameTree(_nanoseconds(cache_time, "duration"))
        self._lock = threading.RLock()

    # Putting in

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        """Add a sample of a moving frame; what cannot be a transform is logged and ignored."""
        self._set(transform, authority, is_static=False)

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        """Set a frame that never moves, valid at all times."""
        self._set(transform, authority, is_static=True)

    def clear(self) -> None:
        """Forget the history of moving frames; frame names and static frames stay."""
        with self._lock:
            self._tree.clear()

    def _set(self, transform: TransformStamped, authority: str, is_static: bool) -> None:
        parent = transform.header.frame_id.removeprefix("/")
        child = transform.child_frame_id.removeprefix("/")
        stamp_ns = _nanoseconds(transform.header.stamp, "time")
        rigid = canonical(_from_msg(transform.transform))
        problem = _problem(parent, child, rigid)
        if problem:
            _log().error(f'{problem[0]}: Ignoring transform from authority "{authority}" {problem[1]}')
            return
        with self._lock:
            accepted = self._tree.insert(parent, child, stamp_ns, rigid, is_static, authority)
        if not accepted:
            _log().warning(
                f"TF_OLD_DATA ignoring data from the past for frame {child} at time "
                f"{seconds(stamp_ns)} according to authority {authority}"
            )

    # Looking up

    def lookup_transform_core(self, target_frame: str, source_frame: str, time: Any) -> TransformStamped:
        """T_target_source at that time.

        Raises InvalidArgumentException, LookupException (unknown frame), ConnectivityException (two trees) or
        ExtrapolationException (the time lies outside the history).
        """
        stamp_ns = _nanoseconds(time, "time")
        with self._lock:
            rigid, stamp_ns = self._tree.lookup(target_frame, source_frame, stamp_ns)
        return _to_msg(rigid, stamp_ns, target_frame, source_frame)

    def lookup_transform_full_core(
        self, target_frame: str, target_time: Any, source_frame: str, source_time: Any, fixed_frame: str
    ) -> TransformStamped:
        """Where `source_frame` was at `source_time`, seen from `target_frame` at `target_time`.

        `fixed_frame` is taken not to have moved between the two times. Raises as `lookup_transform_core`.
        """
        target_ns, source_ns = _nanoseconds(target_time, "time"), _nanoseconds(source_time, "time")
        with self._lock:
            self._tree.check_frame("lookupTransform argument target_frame", target_frame)
            self._tree.check_frame("lookupTransform argument source_frame", source_frame)
            self._tree.check_frame("lookupTransform argument fixed_frame", fixed_frame)
            T_fixed_source, _ = self._tree.lookup(fixed_frame, source_frame, source_ns)
            T_target_fixed, stamp_ns = self._tree.lookup(target_frame, fixed_frame, target_ns)
        rigid = canonical(compose(T_target_fixed, T_fixed_source))
        return _to_msg(rigid, stamp_ns, target_frame, source_frame)

    def can_transform_core(self, target_frame: str, source_frame: str, time: Any) -> tuple[int, str]:
        """(1, "") when the lookup would succeed, else (0, why not)."""
        stamp_ns = _nanoseconds(time, "time")
        with self._lock:
            return self._tree.can(target_frame, source_frame, stamp_ns)

    def can_transform_full_core(
        self, target_frame: str, target_time: Any, source_frame: str, source_time: Any, fixed_frame: str
    ) -> tuple[int, str]:
        """(1, "") when the lookup in two steps would succeed, else (0, why not)."""
        target_ns, source_ns = _nanoseconds(target_time, "time"), _nanoseconds(source_time, "time")
        frames = {"target_frame": target_frame, "source_frame": source_frame, "fixed_frame": fixed_frame}
        with self._lock:
            why_not = self._tree.why_invalid(frames)
            if why_not:
                return 0, why_not
            result = self._tree.can(target_frame, fixed_frame, target_ns)
            return self._tree.can(fixed_frame, source_frame, source_ns) if result[0] else result

    def get_latest_common_time(self, target_frame: str, source_frame: str) -> Time:
        """The newest time at which the whole chain is known; zero for a chain of static frames."""
        with self._lock:
            self._tree.check_frame("get_latest_common_time", target_frame)
            self._tree.check_frame("get_latest_common_time", source_frame)
            try:
                stamp_ns = self._tree.latest_common_ns(target_frame, source_frame)
            except TransformException as error:
                raise TransformException(str(error)) from None
        return Time(nanoseconds=stamp_ns)

    # Telling about the tree

    def all_frames_as_yaml(self) -> str:
        """One entry per frame that has a parent: parent, broadcaster, rate in Hz, times in s."""
        with self._lock:
            return _frame_text.as_yaml(self._tree.caches, self._tree.authorities)

    def all_frames_as_string(self) -> str:
        """One line per frame that has had a parent."""
        with self._lock:
            return _frame_text.as_lines(self._tree.caches)

    def _frameExists(self, frame_id: str) -> bool:
        with self._lock:
            return frame_id in self._tree.caches

    def _getFrameStrings(self) -> list[str]:
        with self._lock:
            return list(self._tree.caches)


def _problem(parent: str, child: str, rigid: Rigid) -> tuple[str, str] | None:
    if child == parent:
        return "TF_SELF_TRANSFORM", f'with frame_id and child_frame_id "{child}" because they are the same'
    if not child:
        return "TF_NO_CHILD_FRAME_ID", "because child_frame_id not set"
    if not parent:
        return "TF_NO_FRAME_ID", f'with child_frame_id "{child}" because frame_id not set'
    if any(map(math.isnan, rigid)):
        return "TF_NAN_INPUT", f'for child_frame_id "{child}" because of a nan value or a zero quaternion'
    return None


def _log() -> Any:
    return get_logger("tf2_buffer")


def _nanoseconds(value: Any, kind: str) -> int:
    if hasattr(value, "nanosec"):
        return int(value.sec) * 1_000_000_000 + int(value.nanosec)
    if hasattr(value, "nanoseconds"):
        return int(value.nanoseconds)
    raise TypeError(f"{kind} must have sec and nanosec, or nanoseconds.")


def _from_msg(transform: Transform) -> Rigid:
    t, q = transform.translation, transform.rotation
    return (t.x, t.y, t.z, q.x, q.y, q.z, q.w)


def _to_msg(rigid: Rigid, stamp_ns: int, frame_id: str, child_frame_id: str) -> TransformStamped:
    x, y, z, qx, qy, qz, qw = rigid
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    return TransformStamped(
        header=Header(stamp=TimeMsg(sec=sec, nanosec=nanosec), frame_id=frame_id),
        child_frame_id=child_frame_id,
        transform=Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw)),
    )
