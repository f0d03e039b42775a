"""The tree of frames: names, histories, and the way from one frame to another. No messages, no locks."""

from __future__ import annotations

from tf2_py import _frame_text
from tf2_py._caches import StaticCache, TimeCache
from tf2_py._exceptions import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    TransformException,
)
from tf2_py._rigid import IDENTITY, Rigid, canonical, compose, inverse

MAX_GRAPH_DEPTH = 1000


class FrameTree:
    """Each frame with its history, seen from its parent. Times are nanoseconds; 0 means the latest common time."""

    def __init__(self, keep_ns: int) -> None:
        self._keep_ns = keep_ns
        # in order of first mention; None: a root
        self.caches: dict[str, TimeCache | StaticCache | None] = {}
        self.authorities: dict[str, str] = {}

    def insert(self, parent: str, child: str, stamp_ns: int, rigid: Rigid, is_static: bool, authority: str) -> bool:
        """Add T_parent_child; False when it is older than the history reaches."""
        cache = self.caches.get(child)
        if cache is None or cache.is_static != is_static:
            cache = self.caches[child] = StaticCache() if is_static else TimeCache(self._keep_ns)
        self.caches.setdefault(parent, None)
        accepted = cache.insert(stamp_ns, (parent, rigid))
        if accepted:
            self.authorities[child] = authority
        return accepted

    def clear(self) -> None:
        """Forget the history of moving frames."""
        for cache in self.caches.values():
            if cache is not None:
                cache.clear()

    def check_frame(self, argument: str, frame: str) -> None:
        """InvalidArgumentException or LookupException unless the frame is known."""
        if not frame or frame.startswith("/"):
            rule = "start with a '/'" if frame else "be empty"
            raise InvalidArgumentException(
                f'Invalid argument "{frame}" passed to {argument} - in tf2 frame_ids cannot {rule}'
            )
        if frame not in self.caches:
            raise LookupException(f'"{frame}" passed to {argument} does not exist. ')

    def why_invalid(self, frames: dict[str, str]) -> str:
        """What is wrong with the first bad one of the frames (argument -> frame); empty when all are known."""
        for argument, frame in frames.items():
            if not frame:
                reason = "in tf2 frame_ids cannot be empty"
            elif frame.startswith("/"):
                reason = "in tf2 frame_ids cannot start with a '/'"
            elif frame not in self.caches:
                reason = "frame does not exist"
            else:
                continue
            return f'Invalid frame ID "{frame}" passed to canTransform argument {argument} - {reason}'
        return ""

    def can(self, target: str, source: str, stamp_ns: int) -> tuple[int, str]:
        """(1, "") when the lookup would succeed, else (0, why not)."""
        if target == source:
            return 1, ""
        why_not = self.why_invalid({"target_frame": target, "source_frame": source})
        if why_not:
            return 0, why_not
        try:
            self._walk(target, source, stamp_ns)
        except TransformException as error:
            return 0, str(error)
        return 1, ""

    def lookup(self, target: str, source: str, stamp_ns: int) -> tuple[Rigid, int]:
        """T_target_source and the time it holds for. Raises one of tf2's exceptions."""
        if target == source:  # true even of frames nobody has heard of
            cache = self.caches.get(target)
            return IDENTITY, stamp_ns or (cache.latest()[0] if cache else 0)
        self.check_frame("lookupTransform argument target_frame", target)
        self.check_frame("lookupTransform argument source_frame", source)
        T_top_source, T_top_target, stamp_ns = self._walk(target, source, stamp_ns)
        return canonical(compose(inverse(T_top_target), T_top_source)), stamp_ns

    def _walk(self, target: str, source: str, stamp_ns: int) -> tuple[Rigid, Rigid, int]:
        """T_top_source and T_top_target for a frame above both, and the time taken.

        From the source up to its root, or as far as the history reaches, then from the target up to where that
        ended. Frames above the common parent cancel out.
        """
        if stamp_ns == 0:
            stamp_ns = self.latest_common_ns(target, source)
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
            raise ExtrapolationException(f"{text}, when looking up transform from frame [{source}] to frame [{target}]")
        return T_top_source, T_top_target, stamp_ns

    def _climb(self, frame: str, stop: str, stamp_ns: int, other_stop: str = "") -> tuple[Rigid, str, str | None]:
        """Climb from `frame` to a stop, to the root, or to a gap in the history.

        Returns T_end_frame, the end, and for a gap tf2's words for it.
        """
        T_end_frame = IDENTITY
        for _ in range(MAX_GRAPH_DEPTH + 1):
            cache = self.caches[frame]
            if cache is None or frame in (stop, other_stop):
                return T_end_frame, frame, None
            sample = cache.at(stamp_ns)
            if sample is None:
                return T_end_frame, frame, cache.why_not(stamp_ns)
            frame = sample[0]
            T_end_frame = sample[1] if T_end_frame is IDENTITY else compose(sample[1], T_end_frame)
        raise LookupException(self._loop())

    def latest_common_ns(self, target: str, source: str) -> int:
        """The newest time known to every edge between the two; 0 when all of them are static."""
        if target == source:
            cache = self.caches[source]
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
            cache = self.caches[frame]
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
        return "The tf tree is invalid because it contains a loop.\n" + _frame_text.as_lines(self.caches) + "\n"


def _until(times: dict[str, int], frame: str) -> list[int]:
    ancestors = list(times)
    return [times[ancestor] for ancestor in ancestors[: ancestors.index(frame) + 1]]


def _not_connected(target: str, source: str) -> str:
    # one blank is missing in the original too; people search logs for the whole line
    return (
        f"Could not find a connection between '{target}' and '{source}' because they are not part of the same tree."
        "Tf has two or more unconnected trees."
    )
