"""Recorded transforms between frames, and the trajectory of one frame in another through them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.streams.frame_graph import frame_names, shortest_path
from pose2rgbd_ros.streams.samples import PoseSample

_Step = tuple["_Edge", bool]  # an edge, and whether it is walked from child to parent


@dataclass(eq=False)
class _Edge:
    """All transforms T_parent_child received between two frames."""

    parent: str
    child: str
    stamps_ns: list[int] = field(default_factory=list)
    position_m: list[Float64] = field(default_factory=list)
    quat_xyzw: list[Float64] = field(default_factory=list)
    fixed: PoseSample | None = None
    built: tuple[Trajectory, dict[str, int]] | None = None

    @property
    def moves(self) -> bool:
        return len(self.stamps_ns) > 0

    def build(self) -> tuple[Trajectory, dict[str, int]]:
        """The cleaned trajectory of the child in the parent, and what was wrong with the messages."""
        if self.built is None:
            try:
                self.built = Trajectory.from_recording(self.stamps_ns, self.position_m, self.quat_xyzw)
            except UserError as error:
                raise UserError(f"the transforms of {self.child!r} in {self.parent!r}: {error}") from error
        return self.built

    def constant(self) -> Float64:
        """T_parent_child of an edge that does not move."""
        assert self.fixed is not None  # an edge exists because something was added to it
        try:
            return self.fixed.T
        except UserError as error:
            raise UserError(f"the static transform of {self.child!r} in {self.parent!r}: {error}") from error


class TransformTree:
    """Transforms as TF gives them: static ones hold always, the others at their stamps and between them.

    Frame names lose a leading slash, as ROS 1 wrote them.
    """

    def __init__(self) -> None:
        self._edges: dict[tuple[str, str], _Edge] = {}

    def add(self, stamp_ns: int, parent: str, child: str, T: npt.ArrayLike, static: bool = False) -> None:
        """Add T_parent_child (4, 4), valid at `stamp_ns` or, when `static`, always."""
        self.add_pose(PoseSample(stamp_ns, parent, child, *se3.split(T)), static)

    def add_pose(self, pose: PoseSample, static: bool = False) -> None:
        """Add a transform as received. NaN ones are counted in `problems` and left out later."""
        parent, child = pose.parent_frame.lstrip("/"), pose.child_frame.lstrip("/")
        if not parent or not child or parent == child:
            raise UserError(f"a transform from {child!r} to {parent!r}: two different frames must be named")
        edge = self._edges.setdefault((parent, child), _Edge(parent, child))
        if static:
            edge.fixed = pose
            return
        edge.stamps_ns.append(pose.stamp_ns)
        edge.position_m.append(pose.position_m)
        edge.quat_xyzw.append(pose.quat_xyzw)
        edge.built = None

    def frames(self) -> list[str]:
        """All frames, sorted."""
        return frame_names(self._edges)

    def problems(self) -> dict[str, dict[str, int]]:
        """What was wrong with the moving transforms, by "parent -> child" and reason (see Trajectory)."""
        found = {}
        for edge in self._edges.values():
            try:
                counts = edge.build()[1] if edge.moves else {}
            except UserError:  # not one usable pose
                counts = {"non_finite_pose": len(edge.stamps_ns)}
            if counts:
                found[f"{edge.parent} -> {edge.child}"] = counts
        return found

    def static_transform(self, target_frame: str, source_frame: str) -> Float64 | None:
        """T_target_source when only static transforms lie between; None when something moves in between.

        UserError when a frame is unknown or nothing connects the two.
        """
        path = self._path(target_frame, source_frame)
        if any(edge.moves for edge, _ in path):
            return None
        return se3.compose(*(_walk(edge.constant(), up) for edge, up in path))

    def trajectory(self, target_frame: str, source_frame: str, max_gap_ns: int | None = None) -> Trajectory:
        """The poses T_target_source of `source_frame` in `target_frame`.

        One pose per stamp of any moving transform between the two, the others interpolated, over the time that all
        of them cover. With `max_gap_ns` poses that would need interpolation over a longer silence are left out.
        UserError when a frame is unknown, nothing connects the two, nothing between them moves, or the moving
        transforms have no time in common.
        """
        path = self._path(target_frame, source_frame)
        moving = [edge.build()[0] for edge, _ in path if edge.moves]
        if not moving:
            raise UserError(
                f"between {target_frame!r} and {source_frame!r} are only static transforms; nothing moves"
            )
        stamps = _common_stamps(moving, target_frame, source_frame)
        steps = []
        for edge, up in path:
            if not edge.moves:
                steps.append(_walk(edge.constant(), up))
                continue
            at = edge.build()[0].interpolate(stamps, max_gap_ns)
            steps.append(_walk(at.T, up))
        T = np.broadcast_to(se3.compose(*steps), (len(stamps), 4, 4))
        usable = np.isfinite(T).all(axis=(1, 2))
        return Trajectory(stamps[usable], *se3.split(T[usable]))

    def _path(self, target_frame: str, source_frame: str) -> list[_Step]:
        """The edges from target down to source, the shortest way."""
        target, source = target_frame.lstrip("/"), source_frame.lstrip("/")
        path = shortest_path(self._edges, target, source)
        return [(self._edges[pair], up) for pair, up in path]


def _walk(T_parent_child: Float64, up: bool) -> Float64:
    """The transform of one step: as it is towards the child, inverted towards the parent."""
    return se3.inverse(T_parent_child) if up else T_parent_child


def _common_stamps(moving: list[Trajectory], target: str, source: str) -> Int64:
    first = max(int(part.stamps_ns[0]) for part in moving)
    last = min(int(part.stamps_ns[-1]) for part in moving)
    if first > last:
        raise UserError(
            f"the moving transforms between {target!r} and {source!r} have no time in common: one begins at {first} ns, "
            f"another ended at {last} ns"
        )
    stamps = np.unique(np.concatenate([part.stamps_ns for part in moving]))
    return stamps[(stamps >= first) & (stamps <= last)]
