"""Transforms as TF sends them live, and the pose of one frame in another through them."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Collection

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.interpolation import Method
from pose2rgbd_ros.streams.frame_graph import Pair, Step, frame_names, shortest_path
from pose2rgbd_ros.streams.pose_buffer import PoseBuffer
from pose2rgbd_ros.streams.pose_source import FixedPose, PoseAnswer, PoseSource
from pose2rgbd_ros.streams.samples import PoseSample

NO_TRANSFORM = "no_transform"
KEEP_NS = 10_000_000_000
_MOST_EDGES = 1000
_UNCONNECTED = PoseAnswer(None, NO_TRANSFORM, wait=True)


class TransformBuffer:
    """Transforms of the last `keep_ns`; static ones hold always. Moving ones are interpolated as PoseBuffer does.

    Frame names lose a leading slash. Of frames without end (a name for each thing detected) the last thousand pairs
    to have moved are kept. Any thread may call any method.
    """

    def __init__(self, max_gap_ns: int, method: Method = "linear", keep_ns: int = KEEP_NS) -> None:
        self._max_gap_ns, self._method, self._keep_ns = max_gap_ns, method, keep_ns
        self._lock = threading.Lock()
        self._static: dict[Pair, FixedPose] = {}
        self._moving: OrderedDict[Pair, PoseBuffer] = OrderedDict()  # the last to have moved is the last
        self._problems: Counter[str] = Counter()
        self._paths: dict[tuple[str, str], list[Step] | None] = {}

    def add(self, pose: PoseSample, static: bool = False) -> None:
        """Take in T_parent_child as received; a bad one is counted and left out."""
        pair = pose.parent_frame.lstrip("/"), pose.child_frame.lstrip("/")
        with self._lock:
            if not all(pair) or pair[0] == pair[1]:
                self._problems["bad_frames"] += 1
            elif static:
                self._add_static(pair, pose)
            else:
                self._edge(pair).add(pose)

    def source(self, target_frame: str, source_frame: str) -> PoseSource:
        """The poses T_target_source. The frames may be unknown yet: until they are, the answer is "no_transform"."""
        return _Chain(self, target_frame.lstrip("/"), source_frame.lstrip("/"))

    def frames(self) -> list[str]:
        """All frames, sorted."""
        with self._lock:
            return frame_names([*self._static, *self._moving])

    def explain(self, target_frame: str, source_frame: str) -> str:
        """Why there is no way from one frame to the other, in words; "" when there is one."""
        with self._lock:
            try:
                shortest_path(
                    [*self._static, *self._moving], target_frame.lstrip("/"), source_frame.lstrip("/")
                )
            except UserError as error:
                return str(error)
        return ""

    def problems(self) -> dict[str, dict[str, int]]:
        """What was wrong, by "parent -> child" and reason (see PoseBuffer); of no pair in particular: by ""."""
        with self._lock:
            found = {f"{parent} -> {child}": edge.problems for (parent, child), edge in self._moving.items()}
            return {name: dict(counts) for name, counts in {"": self._problems, **found}.items() if counts}

    def jumped_back(self, stamp_ns: int) -> None:
        """Forget the moving transforms of a time before the jump."""
        with self._lock:
            for edge in self._moving.values():
                edge.jumped_back(stamp_ns)

    def clear(self, pairs: Collection[Pair] | None = None) -> None:
        """Forget all moving transforms, or those between some pairs of frames."""
        with self._lock:
            for pair, edge in self._moving.items():
                if pairs is None or pair in pairs:
                    edge.clear()

    def moving_in_use(self) -> set[Pair]:
        """The pairs of frames whose moving transforms lie between frames that were asked for."""
        with self._lock:
            return {pair for path in self._paths.values() for pair, _ in path or () if pair in self._moving}

    def steps(self, target_frame: str, source_frame: str) -> list[tuple[PoseSource, bool]] | None:
        """The pose sources between two frames, and whether each is to be inverted; None when nothing connects them."""
        with self._lock:
            key = target_frame, source_frame
            if key not in self._paths:
                self._paths[key] = self._path(*key)
            path = self._paths[key]
            if path is None:
                return None
            return [(self._edge_source(pair), up) for pair, up in path]

    def _path(self, target_frame: str, source_frame: str) -> list[Step] | None:
        try:
            return shortest_path({**self._static, **self._moving}, target_frame, source_frame)
        except UserError:
            return None

    def _edge_source(self, pair: Pair) -> PoseSource:
        moving = self._moving.get(pair)
        return self._static[pair] if moving is None else moving

    def _add_static(self, pair: Pair, pose: PoseSample) -> None:
        try:
            T = pose.T
        except UserError:
            T = np.full((4, 4), np.nan)
        if not np.isfinite(T).all():
            self._problems["non_finite_pose"] += 1
            return
        if pair not in self._static:
            self._paths.clear()
        self._static[pair] = FixedPose(T)

    def _edge(self, pair: Pair) -> PoseBuffer:
        edge = self._moving.get(pair)
        if edge is None:
            edge = self._moving[pair] = PoseBuffer(self._max_gap_ns, self._method, self._keep_ns)
            self._paths.clear()
        self._moving.move_to_end(pair)
        if len(self._moving) > _MOST_EDGES:
            self._moving.popitem(last=False)
            self._paths.clear()
        return edge


class _Chain:
    """The transforms between two frames of a buffer."""

    def __init__(self, buffer: TransformBuffer, target_frame: str, source_frame: str) -> None:
        self._buffer = buffer
        self._frames = target_frame, source_frame

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The product of the transforms; the first one that has no answer tells why."""
        steps = self._buffer.steps(*self._frames)
        if steps is None:
            return _UNCONNECTED
        T, wait = np.eye(4), False
        for source, up in steps:
            part = source.pose_at(stamp_ns)
            if part.T is None:
                return part
            T = T @ (se3.inverse(part.T) if up else part.T)
            wait = wait or part.wait
        return PoseAnswer(T, wait=wait)

    def jumped_back(self, stamp_ns: int) -> None:
        """Tell the buffer."""
        self._buffer.jumped_back(stamp_ns)
