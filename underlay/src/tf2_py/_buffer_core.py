"""The tree of frames with its history; knows messages, but no topics."""

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
from tf2_py._caches import StaticCache, TimeCache, seconds
from tf2_py._exceptions import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    TransformException,
)
from tf2_py._rigid import IDENTITY, Rigid, canonical, compose, inverse

MAX_GRAPH_DEPTH = 1000
DEFAULT_CACHE_TIME = Duration(seconds=10)


class BufferCore:
    """Stores transforms and answers where a frame was, seen from another, at a time. Safe to share between threads.

    Times are anything with `sec` and `nanosec` (a message) or `nanoseconds` (rclpy); zero asks for the newest
    time at which every edge of the chain is known.
    """

    def __init__(self, cache_time: Duration = DEFAULT_CACHE_TIME) -> None:
        self._keep_ns = _nanoseconds(cache_time, "duration")
        # in order of first mention; None: a root
        self._caches: dict[str, TimeCache | StaticCache | None] = {}
        self._authorities: dict[str, str] = {}
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
            for cache in self._caches.values():
                if cache is not None:
                    cache.clear()

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
            cache = self._caches.get(child)
            if cache is None or cache.is_static != is_static:
                cache = self._caches[child] = StaticCache() if is_static else TimeCache(self._keep_ns)
            self._caches.setdefault(parent, None)
            accepted = cache.insert(stamp_ns, (parent, rigid))
            if accepted:
                self._authorities[child] = authority
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
            rigid, stamp_ns = self._lookup(target_frame, source_frame, stamp_ns)
        return _to_msg(rigid, stamp_ns, target_frame, source_frame)

    def lookup_transform_full_core(
        self, target_frame: str, target_time: Any, source_frame: str, source_time: Any, fixed_frame: str
    ) -> TransformStamped:
        """Where `source_frame` was at `source_time`, seen from `target_frame` at `target_time`.

        `fixed_frame` is taken not to have moved between the two times. Raises as `lookup_transform_core`.
        """
        target_ns, source_ns = _nanoseconds(target_time, "time"), _nanoseconds(source_time, "time")
        with self._lock:
            self._check_frame("lookupTransform argument target_frame", target_frame)
            self._check_frame("lookupTransform argument source_frame", source_frame)
            self._check_frame("lookupTransform argument fixed_frame", fixed_frame)
            T_fixed_source, _ = self._lookup(fixed_frame, source_frame, source_ns)
            T_target_fixed, stamp_ns = self._lookup(target_frame, fixed_frame, target_ns)
        rigid = canonical(compose(T_target_fixed, T_fixed_source))
        return _to_msg(rigid, stamp_ns, target_frame, source_frame)

    def can_transform_core(self, target_frame: str, source_frame: str, time: Any) -> tuple[int, str]:
        """(1, "") when the lookup would succeed, else (0, why not)."""
        stamp_ns = _nanoseconds(time, "time")
        with self._lock:
            return self._can(target_frame, source_frame, stamp_ns)

    def can_transform_full_core(
        self, target_frame: str, target_time: Any, source_frame: str, source_time: Any, fixed_frame: str
    ) -> tuple[int, str]:
        """(1, "") when the lookup in two steps would succeed, else (0, why not)."""
        target_ns, source_ns = _nanoseconds(target_time, "time"), _nanoseconds(source_time, "time")
        frames = {"target_frame": target_frame, "source_frame": source_frame, "fixed_frame": fixed_frame}
        with self._lock:
            why_not = self._invalid(frames)
            if why_not:
                return 0, why_not
            result = self._can(target_frame, fixed_frame, target_ns)
            return self._can(fixed_frame, source_frame, source_ns) if result[0] else result

    def get_latest_common_time(self, target_frame: str, source_frame: str) -> Time:
        """The newest time at which the whole chain is known; zero for a chain of static frames."""
        with self._lock:
            self._check_frame("get_latest_common_time", target_frame)
            self._check_frame("get_latest_common_time", source_frame)
            try:
                stamp_ns = self._latest_common_ns(target_frame, source_frame)
            except TransformException as error:
                raise TransformException(str(error)) from None
        return Time(nanoseconds=stamp_ns)

    # Telling about the tree

    def all_frames_as_yaml(self) -> str:
        """One entry per frame that has a parent: parent, broadcaster, rate in Hz, times in s."""
        with self._lock:
            return _frame_text.as_yaml(self._caches, self._authorities)

    def all_frames_as_string(self) -> str:
        """One line per frame that has had a parent."""
        with self._lock:
            return _frame_text.as_lines(self._caches)

    def _frameExists(self, frame_id: str) -> bool:
        with self._lock:
            return frame_id in self._caches

    def _getFrameStrings(self) -> list[str]:
        with self._lock:
            return list(self._caches)

    # Below here the lock is held

    def _check_frame(self, argument: str, frame: str) -> None:
        if not frame or frame.startswith("/"):
            rule = "start with a '/'" if frame else "be empty"
            raise InvalidArgumentException(
                f'Invalid argument "{frame}" passed to {argument} - in tf2 frame_ids cannot {rule}'
            )
        if frame not in self._caches:
            raise LookupException(f'"{frame}" passed to {argument} does not exist. ')

    def _invalid(self, frames: dict[str, str]) -> str:
        for argument, frame in frames.items():
            if not frame:
                reason = "in tf2 frame_ids cannot be empty"
            elif frame.startswith("/"):
                reason = "in tf2 frame_ids cannot start with a '/'"
            elif frame not in self._caches:
                reason = "frame does not exist"
            else:
                continue
            return f'Invalid frame ID "{frame}" passed to canTransform argument {argument} - {reason}'
        return ""

    def _can(self, target: str, source: str, stamp_ns: int) -> tuple[int, str]:
        if target == source:
            return 1, ""
        why_not = self._invalid({"target_frame": target, "source_frame": source})
        if why_not:
            return 0, why_not
        try:
            self._walk(target, source, stamp_ns)
        except TransformException as error:
            return 0, str(error)
        return 1, ""

    def _lookup(self, target: str, source: str, stamp_ns: int) -> tuple[Rigid, int]:
        if target == source:  # true even of frames nobody has heard of
            cache = self._caches.get(target)
            return IDENTITY, stamp_ns or (cache.latest()[0] if cache else 0)
        self._check_frame("lookupTransform argument target_frame", target)
        self._check_frame("lookupTransform argument source_frame", source)
        T_top_source, T_top_target, stamp_ns = self._walk(target, source, stamp_ns)
        return canonical(compose(inverse(T_top_target), T_top_source)), stamp_ns

    def _walk(self, target: str, source: str, stamp_ns: int) -> tuple[Rigid, Rigid, int]:
        """T_top_source and T_top_target for a frame above both, and the time taken.

        From the source up to its root, or as far as the history reaches, then from the target up to where that
        ended. Frames above the common parent cancel out.
        """
        if stamp_ns == 0:
            stamp_ns = self._latest_common_ns(target, source)
        T_top_source, top, gap = self._climb(source, target, stamp_ns)
        if top == target:
            return T_top_source, IDENTITY, stamp_ns
        T_top_target, end, second_gap = self._climb(target, top, stamp_ns, source)
        if end == source:
            return IDENTITY, T_top_target, stamp_ns
        if end != top:
            if second_gap is None and gap is None:
                raise ConnectivityException(_not_connected(target, source))
            text = second_gap if second_gap is not None else gap
            raise ExtrapolationException(
                f"{text}, when looking up transform from frame [{source}] to frame [{target}]"
            )
        return T_top_source, T_top_target, stamp_ns

    def _climb(
        self, frame: str, stop: str, stamp_ns: int, other_stop: str = ""
    ) -> tuple[Rigid, str, str | None]:
        """Climb from `frame` to a stop, to the root, or to a gap in the history.

        Returns T_end_frame, the end, and for a gap tf2's words for it.
        """
        T_end_frame = IDENTITY
        for _ in range(MAX_GRAPH_DEPTH + 1):
            cache = self._caches[frame]
            if cache is None or frame in (stop, other_stop):
                return T_end_frame, frame, None
            sample = cache.at(stamp_ns)
            if sample is None:
                return T_end_frame, frame, cache.why_not(stamp_ns)
            frame = sample[0]
            T_end_frame = sample[1] if T_end_frame is IDENTITY else compose(sample[1], T_end_frame)
        raise LookupException(self._loop())

    def _latest_common_ns(self, target: str, source: str) -> int:
        """The newest time known to every edge between the two; 0 when all of them are static."""
        if target == source:
            cache = self._caches[source]
            return cache.latest()[0] if cache else 0
        above_source = self._latest_times(source, target)
        if target in above_source:
            times = _until(above_source, target)
        else:
            above_target = self._latest_times(target, source)
            common = next((frame for frame in above_target if frame == source or frame in above_source), None)
            if common is None:
                raise ConnectivityException(_not_connected(target, source))
            times = _until(above_target, common)
            if common != source:
                times += _until(above_source, common)
        return min((time for time in times if time), default=0)

    def _latest_times(self, frame: str, stop: str) -> dict[str, int]:
        """Each ancestor up to `stop` or the root -> time of the newest sample of the edge below it."""
        ancestors: dict[str, int] = {}
        for _ in range(MAX_GRAPH_DEPTH + 1):
            cache = self._caches[frame]
            time_ns, parent = cache.latest() if cache else (0, None)
            if parent is None:
                return ancestors
            if parent in ancestors:
                break
            ancestors[parent] = time_ns
            if parent == stop:
                return ancestors
            frame = parent
        raise LookupException(self._loop())

    def _loop(self) -> str:
        return (
            "The tf tree is invalid because it contains a loop.\n" + _frame_text.as_lines(self._caches) + "\n"
        )


def _until(times: dict[str, int], frame: str) -> list[int]:
    ancestors = list(times)
    return [times[ancestor] for ancestor in ancestors[: ancestors.index(frame) + 1]]


def _not_connected(target: str, source: str) -> str:
    # one blank is missing in the original too; people search logs for the whole line
    return (
        f"Could not find a connection between '{target}' and '{source}' because they are not part of the same tree."
        "Tf has two or more unconnected trees."
    )


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
