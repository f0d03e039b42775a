"""What a node reports: its state, /diagnostics, and a log that names each condition once, then now and then."""

from __future__ import annotations

import math
import re
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from pose2rgbd_ros.errors import UserError

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
REPEAT_AFTER_S = 30.0
FLAPPING_S = 5.0
RATE_WINDOW_S = 3.0
_FIGURES = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class NodeState:
    """How a node stands: a constant of its status message (0 is the good one) and the line that explains it.

    `stamp_ns` is the time it is about, 0 for none.
    """

    state: Any
    message: str = ""
    stamp_ns: int = 0


class Diagnostics:
    """Publishes one DiagnosticStatus of this node on /diagnostics, as `diagnostic_aggregator` expects it."""

    def __init__(self, node: Node, name: str, hardware_id: str = "") -> None:
        self._node = node
        self._name = f"{node.get_fully_qualified_name().lstrip('/')}: {name}"
        self.hardware_id = hardware_id
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self, level: bytes, message: str, values: dict[str, Any]) -> None:
        """Publish a status; `values` become text."""
        status = DiagnosticStatus(
            level=level, name=self._name, message=message, hardware_id=self.hardware_id,
            values=[KeyValue(key=key, value=_text(value)) for key, value in values.items()],
        )  # fmt: skip
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)


class ConditionLog:
    """Logs a condition when it begins, and again every half minute while it lasts.

    One that comes and goes is logged at most every five seconds.
    """

    def __init__(self, node: Node) -> None:
        self._logger = node.get_logger()
        self._condition: Any = None
        self._said_at: dict[Any, float] = {}

    def log(self, level: bytes, condition: Any, message: str) -> None:
        """`condition` names what is the matter, e.g. an enum; `message` may carry figures that change."""
        now, lasts = time.monotonic(), condition == self._condition
        silence_s = now - self._said_at.get(condition, -float("inf"))
        self._condition = condition
        if silence_s < (REPEAT_AFTER_S if lasts else FLAPPING_S) or (lasts and level == OK):
            return
        self._said_at[condition] = now
        # One call per severity: rclpy insists that a call site keeps its own.
        if level == OK:
            self._logger.info(message)
        elif level == WARN:
            self._logger.warning(message)
        else:
            self._logger.error(message)


class Rate:
    """How often something happened in the last seconds; one thread may count while another reads."""

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=1000)

    def count(self) -> None:
        """It has just happened."""
        self._at.append(time.monotonic())

    @property
    def hz(self) -> float:
        """Times a second."""
        start_s = time.monotonic() - RATE_WINDOW_S
        times = [at for at in list(self._at) if at > start_s]
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0

    @property
    def silent_for_s(self) -> float:
        """Since it last happened; infinite where it never did."""
        return time.monotonic() - self._at[-1] if self._at else math.inf


def one_line(error: Exception, what: str) -> str:
    """An error for people: a UserError as it is, another one with its type after `what` has happened."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{what}: {type(error).__name__}: {text}"


def without_figures(text: str) -> str:
    """What names a condition whose figures change while it lasts."""
    return _FIGURES.sub("", text)


def how_old(age_s: float, digits: int = 1) -> str:
    """An age for people, also one in the future."""
    return f"{age_s:.{digits}f} s old" if age_s > 0 else f"{-age_s:.{digits}f} s in the future"


def stale(what: str, age_s: float, max_age_s: float) -> str:
    """Why something is too old, or too far in the future, to be of use; empty: it is not."""
    if abs(age_s) <= max_age_s:
        return ""
    return f"{what} is {how_old(age_s)}; is it still published, and by the same clock (use_sim_time)?"


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
