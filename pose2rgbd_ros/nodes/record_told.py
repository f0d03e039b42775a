"""What the recorder says in the log: problems when they begin and end, and images that come to nothing."""

from __future__ import annotations

import re
import time
from collections import Counter, deque

from rclpy.node import Node

from pose2rgbd_ros.dataset import filters
from pose2rgbd_ros.nodes import diagnostics
from pose2rgbd_ros.nodes.diagnostics import ConditionLog
from pose2rgbd_ros.nodes.record_session import Session
from pose2rgbd_ros.streams.synchronizer import QUEUE_FULL

WINDOW_S = 5.0
FEWEST = 5
_FIGURES = re.compile(r"\d+(\.\d+)?")  # they change while the problem stays the same
# Rejects that were asked for.
_WANTED = {
    *("paused", "present", filters.SKIPPED, filters.GROUND_PHASE, filters.ALTITUDE, filters.STATIC),
    *(filters.NEAR_DUPLICATE, filters.BLURRED),
}


class ProblemLog:
    """Each problem has a name (its topic) and a line; told when it begins, now and then while it lasts, and at its end."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._logs: dict[str, ConditionLog] = {}

    def tell(self, problems: dict[str, str]) -> None:
        """The problems there are now."""
        for name, text in problems.items():
            log = self._logs.setdefault(name, ConditionLog(self._node))
            log.tell(diagnostics.WARN, _FIGURES.sub("", text), f"{name}: {text}")
        for name in self._logs.keys() - problems.keys():
            again = "arrives" if name.startswith("/") else "good again"
            self._logs[name].tell(diagnostics.OK, "", f"{name}: {again}")


class RejectWatch:
    """Looks at the rejects of the last seconds."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._seen: deque[tuple[float, int, Counter[str]]] = deque()  # steady time, frames, rejects

    def problem(self, session: Session) -> str:
        """In one line, when the queue is full or not one image became a frame; "" otherwise. To be asked regularly."""
        if session is not self._session:
            self._session, self._seen = session, deque()
        now_s, rejects, details = time.monotonic(), Counter[str](), dict[str, str]()
        for tally in session.tallies.values():
            rejects.update(tally.snapshot()[2])
            details.update(tally.details)
        self._seen.append((now_s, session.frames, rejects))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - WINDOW_S:
            self._seen.popleft()
        then_s, frames, before = self._seen[0]
        new = Counter({name: n for name, n in (rejects - before).items() if name not in _WANTED})
        if new[QUEUE_FULL]:
            return (
                f"images are rejected because {session.queue_size} wait already: poses are late, or the disk or the machine "
                "too slow (raw_images jpeg is quicker than png; a JPEG topic is best)"
            )
        if session.frames > frames or new.total() < FEWEST or now_s - then_s < WINDOW_S / 2:
            return ""
        counts = ", ".join(
            f"{name} {details[name]}" if name in details else name for name, _ in new.most_common()
        )
        return f"no image becomes a frame: {counts}"
