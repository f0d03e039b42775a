"""Which transforms lie between two frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pose2rgbd_ros.errors import UserError

Pair = tuple[str, str]  # parent, child
Step = tuple[Pair, bool]  # a transform, and whether it is walked from child to parent


def frame_names(pairs: Iterable[Pair]) -> list[str]:
    """All frames, sorted."""
    return sorted({name for pair in pairs for name in pair})


def shortest_path(pairs: Iterable[Pair], target_frame: str, source_frame: str) -> list[Step]:
    """The transforms from target down to source, the shortest way.

    UserError, in words that name the frames there are, when one is unknown or nothing connects the two.
    """
    pairs = list(pairs)
    known = frame_names(pairs)
    for name in (target_frame, source_frame):
        if name not in known:
            raise UserError(
                f"no transform mentions frame {name!r}; known frames: {', '.join(known) or 'none'}"
            )
    neighbours: dict[str, list[tuple[str, Step]]] = {name: [] for name in known}
    for parent, child in pairs:
        neighbours[parent].append((child, ((parent, child), False)))
        neighbours[child].append((parent, ((parent, child), True)))
    paths: dict[str, list[Step]] = {target_frame: []}
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
