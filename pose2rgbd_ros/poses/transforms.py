"""Transforms between frames as TF sends them, asked for a pose at a stamp or for the whole track of a frame."""

from __future__ import annotations

import sys
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Iterable

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.geometry.trajectory import Method, Trajectory
from pose2rgbd_ros.poses.sources import PoseBuffer, PoseLog
from pose2rgbd_ros.streams.samples import PoseSample
from pose2rgbd_ros.streams.synchronizer import FixedPose, PoseAnswer, PoseSource

LIVE_NS = 10_000_000_000
MOST_LIVE = 1000  # pairs of frames that move; some names have no end (one for each thing detected)
Pair = tuple[str, str]  # parent, child
_Step = tuple[Pair, bool]  # a transform, and whether it is walked from child to parent
NO_TRANSFORM = "no_transform"


class TransformTree:
    """Static transforms hold always, moving ones at their stamps and between them; a pair that has both moves.

    It answers for a recording, which is kept whole, and live, where it forgets. Frame names lose a leading slash, as
    ROS 1 wrote them. Any thread may call any method.
    """

    def __init__(self, max_gap_ns: int = sys.maxsize, method: Method = "linear", keep_ns: int | None = None) -> None:
        """max_gap_ns, method: how `source` interpolates. keep_ns: forget what is older; None keeps everything."""
        self._max_gap_ns, self._method, self._keep_ns = max_gap_ns, method, keep_ns
        self._lock = threading.Lock()
        self._static: dict[Pair, FixedPose] = {}
        self._unusable: dict[Pair, str] = {}  # of static ones: what is wrong
        self._moving: OrderedDict[Pair, PoseBuffer | PoseLog] = OrderedDict()  # who moved last is the last
        self._problems: Counter[str] = Counter()
        self._paths: dict[tuple[str, str], list[_Step] | str] = {}  # as asked for; or why there is none

    @property
    def is_live(self) -> bool:
        """Whether it forgets, as one does to whom more will come."""
        return self._keep_ns is not None

    def add(self, pose: PoseSample, static: bool = False) -> None:
        """Take in T_parent_child as received; a bad one is counted in `problems` and left out."""
        pair = pose.parent_frame.lstrip("/"), pose.child_frame.lstrip("/")
        with self._lock:
            if not all(pair) or pair[0] == pair[1]:
                self._problems["bad_frames"] += 1
            elif static:
                self._add_static(pair, pose)
            else:
                self._moving_pair(pair).add(pose)

    def source(self, target_frame: str, source_frame: str) -> PoseSource:
        """The pose T_target_source at a stamp: each moving transform is interpolated by itself.

        The frames may be unknown yet: until they are connected the answer is "no_transform", live to be waited for.
        """
        return _Chain(self, target_frame, source_frame)

    def trajectory(self, target_frame: str, source_frame: str, max_gap_ns: int | None = None) -> Trajectory:
        """All poses T_target_source of `source_frame` in `target_frame`.

        One pose per stamp of any moving transform between the two, the others interpolated, over the time that all
        of them cover. With `max_gap_ns` poses that would need interpolation over a longer silence are left out.
        UserError when a frame is unknown, nothing connects the two, nothing between them moves, or the moving
        transforms have no time in common.
        """
        parts: list[tuple[Trajectory | Float64, bool]] = []
        for (parent, child), poses, up in self.steps(target_frame, source_frame):
            try:
                parts.append((poses.T if isinstance(poses, FixedPose) else poses.trajectory(), up))
            except UserError as error:
                raise UserError(f"the transforms of {child!r} in {parent!r}: {error}") from error
        moving = [part for part, _ in parts if isinstance(part, Trajectory)]
        if not moving:
            raise UserError(f"between {target_frame!r} and {source_frame!r} are only static transforms; nothing moves")
        stamps = _common_stamps(moving, target_frame, source_frame)
        walked = [
            _walk(part.interpolate(stamps, max_gap_ns).T if isinstance(part, Trajectory) else part, up)
            for part, up in parts
        ]
        T = np.broadcast_to(se3.compose(*walked), (len(stamps), 4, 4))
        usable = np.isfinite(T).all(axis=(1, 2))
        return Trajectory(stamps[usable], *se3.split(T[usable]))

    def static_transform(self, target_frame: str, source_frame: str) -> Float64 | None:
        """T_target_source when only static transforms lie between; None when something moves in between.

        UserError when a frame is unknown or nothing connects the two.
        """
        steps = [(poses, up) for _, poses, up in self.steps(target_frame, source_frame)]
        fixed = [_walk(poses.T, up) for poses, up in steps if isinstance(poses, FixedPose)]
        return se3.compose(*fixed) if len(fixed) == len(steps) else None

    def frames(self) -> list[str]:
        """All frames, sorted."""
        with self._lock:
            return _frame_names([*self._static, *self._moving])

    def islands(self) -> list[list[str]]:
        """Frames that are connected with each other, the largest group first; one group is a whole tree."""
        with self._lock:
            pairs = [*self._static, *self._moving]
        groups: list[set[str]] = []
        for pair in pairs:
            joined = [group for group in groups if group & set(pair)]
            groups = [group for group in groups if group not in joined] + [set(pair).union(*joined)]
        return sorted((sorted(group) for group in groups), key=lambda group: (-len(group), group))

    def problems(self) -> dict[str, dict[str, int]]:
        """What was wrong, by "parent -> child" of what moves (see Trajectory, PoseBuffer) and reason; else by "TF"."""
        with self._lock:
            found = {f"{parent} -> {child}": poses.problems for (parent, child), poses in self._moving.items()}
            return {name: dict(counts) for name, counts in {"TF": self._problems, **found}.items() if counts}

    def moving_in_use(self) -> set[Pair]:
        """The moving pairs of frames that lie between frames that were asked for."""
        with self._lock:
            paths = [path for path in self._paths.values() if not isinstance(path, str)]
            return {pair for path in paths for pair, _ in path if pair in self._moving}

    def jumped_back(self, stamp_ns: int) -> None:
        """Forget the moving transforms of a time before the jump."""
        with self._lock:
            for poses in self._moving.values():
                poses.jumped_back(stamp_ns)

    def clear(self, pairs: Collection[Pair] | None = None) -> None:
        """Forget all moving transforms, or those between some pairs of frames."""
        with self._lock:
            for pair, poses in self._moving.items():
                if pairs is None or pair in pairs:
                    poses.clear()

    def steps(self, target_frame: str, source_frame: str) -> list[tuple[Pair, FixedPose | PoseBuffer | PoseLog, bool]]:
        """The transforms from target down to source, and whether each is to be inverted.

        UserError when a frame is unknown or nothing connects the two.
        """
        key = target_frame.lstrip("/"), source_frame.lstrip("/")
        with self._lock:
            if key not in self._paths:
                self._paths[key] = self._path(*key)
            path = self._paths[key]
            if isinstance(path, str):
                raise UserError(path)
            return [(pair, self._moving[pair] if pair in self._moving else self._static[pair], up) for pair, up in path]

    def _path(self, target_frame: str, source_frame: str) -> list[_Step] | str:
        try:
            return _shortest_path({**self._static, **self._moving}, target_frame, source_frame)
        except UserError as error:
            return "; ".join([str(error), *self._unusable.values()])

    def _add_static(self, pair: Pair, pose: PoseSample) -> None:
        try:
            T = pose.T
            if not np.isfinite(T).all():
                raise UserError("its position is not finite")
        except UserError as error:
            self._problems["non_finite_pose"] += 1
            if pair not in self._static:
                self._unusable[pair] = f"the static transform of {pair[1]!r} in {pair[0]!r}: {error}"
                self._paths.clear()
            return
        if pair not in self._static:
            self._unusable.pop(pair, None)
            self._paths.clear()
        self._static[pair] = FixedPose(T)

    def _moving_pair(self, pair: Pair) -> PoseBuffer | PoseLog:
        poses = self._moving.get(pair)
        if poses is None:
            poses = (
                PoseLog(self._max_gap_ns, self._method)
                if self._keep_ns is None
                else PoseBuffer(self._max_gap_ns, self._method, self._keep_ns)
            )
            self._moving[pair] = poses
            self._paths.clear()
        self._moving.move_to_end(pair)
        if self.is_live and len(self._moving) > MOST_LIVE:
            self._moving.popitem(last=False)
            self._paths.clear()
        return poses


class _Chain:
    """The transforms between two frames of a tree, as a pose source."""

    def __init__(self, tree: TransformTree, target_frame: str, source_frame: str) -> None:
        self._tree = tree
        self._frames = target_frame, source_frame

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The product of the transforms; the first one that has no answer says why."""
        try:
            steps = self._tree.steps(*self._frames)
        except UserError:
            return PoseAnswer(None, NO_TRANSFORM, wait=self._tree.is_live)
        T, wait = np.eye(4), False
        for _, poses, up in steps:
            part = poses.pose_at(stamp_ns)
            if part.T is None:
                return part
            T = T @ _walk(part.T, up)
            wait = wait or part.wait
        return PoseAnswer(T, wait=wait)

    def jumped_back(self, stamp_ns: int) -> None:
        """Tell the tree."""
        self._tree.jumped_back(stamp_ns)


def _walk(T_parent_child: Float64, up: bool) -> Float64:
    """The transform of one step: as it is towards the child, inverted towards the parent."""
    return se3.inverse(T_parent_child) if up else T_parent_child


def _common_stamps(moving: list[Trajectory], target: str, source: str) -> Int64:
    first = max(int(part.stamps_ns[0]) for part in moving)
    last = min(int(part.stamps_ns[-1]) for part in moving)
    if first > last:
        raise UserError(
            f"the moving transforms between {target!r} and {source!r} have no time in common: "
            f"one begins at {first} ns, another ended at {last} ns"
        )
    stamps = np.unique(np.concatenate([part.stamps_ns for part in moving]))
    return stamps[(stamps >= first) & (stamps <= last)]


def _frame_names(pairs: Iterable[Pair]) -> list[str]:
    return sorted({name for pair in pairs for name in pair})


def _shortest_path(pairs: Collection[Pair], target_frame: str, source_frame: str) -> list[_Step]:
    """The transforms from target down to source, the shortest way.

    UserError, in words that name the frames there are, when one is unknown or nothing connects the two.
    """
    known = _frame_names(pairs)
    for name in (target_frame, source_frame):
        if name not in known:
            raise UserError(f"no transform mentions frame {name!r}; known frames: {', '.join(known) or 'none'}")
    neighbours: dict[str, list[tuple[str, _Step]]] = {name: [] for name in known}
    for parent, child in pairs:
        neighbours[parent].append((child, ((parent, child), False)))
        neighbours[child].append((parent, ((parent, child), True)))
    paths: dict[str, list[_Step]] = {target_frame: []}
    queue = deque([target_frame])
    while queue:
        here = queue.popleft()
        for there, step in neighbours[here]:
            if there not in paths:
                paths[there] = [*paths[here], step]
                queue.append(there)
    if source_frame not in paths:
        reached = ", ".join(sorted(paths))
        raise UserError(
            f"no transforms connect {source_frame!r} to {target_frame!r}; frames connected to it: {reached}"
        )
    return paths[source_frame]
