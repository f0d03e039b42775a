"""Why a topic is silent or of no use, in one line each: nobody publishes it, its QoS or type does not fit, its clock
differs.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from typing import Any

from builtin_interfaces.msg import Time
from pose2rgbd.msg import RejectCount, SyncStatus
from pose2rgbd.msg import TopicHealth as TopicHealthMessage
from rclpy.node import Node
from std_msgs.msg import Header

from pose2rgbd_ros.dataset import filters
from pose2rgbd_ros.errors import counted
from pose2rgbd_ros.nodes.common import status
from pose2rgbd_ros.nodes.common.status import ConditionLog, NodeState
from pose2rgbd_ros.nodes.common.topics import TopicHealth
from pose2rgbd_ros.nodes.record.inputs import Input
from pose2rgbd_ros.nodes.record.session import Session
from pose2rgbd_ros.nodes.record.settings import RecordSettings
from pose2rgbd_ros.nodes.record.stats import median_latency_s
from pose2rgbd_ros.streams.synchronizer import QUEUE_FULL

OTHER_CLOCK_S = 1.0
REQUIRED = ("image",)


class Problems:
    """Looks at the topics of a recorder through the ROS graph; belongs to the executor."""

    def __init__(self, node: Node, settings: RecordSettings) -> None:
        self._node, self._silence_s = node, settings.silence_s
        self._by_arrival = settings.stamps == "received"
        self._by_gps = settings.position == "gps"

    def find(self, inputs: list[Input]) -> dict[str, str]:
        """What is the matter, by topic. Topics that are optional and that nobody publishes are no problem."""
        found = {}
        arrives = {item.role for item in inputs if item.watch.messages}
        for item in inputs:
            health = item.health
            assert health is not None
            self._look_for_publishers(item, health)
            if item.role == "tf" and "odom" in arrives:
                continue
            needed = item.role in REQUIRED or (item.role == "odom" and self._lacks_poses(item, arrives))
            text = self._silent(item, health, needed) if health.silent_for_s > self._silence_s else ""
            if item.watch.lost:
                text = text or f"lost {counted(item.watch.lost, 'message')}: the recorder could not keep up"
            if text:
                found[item.topic] = text
        found |= {} if self._by_arrival else _other_clocks(inputs, found)
        return found

    def _lacks_poses(self, odometry: Input, arrives: set[str]) -> bool:
        """GPS alone will do where nobody has a pose."""
        if arrives & {"odom", "tf"} or (self._by_gps and "fix" in arrives):
            return False
        return "fix" not in arrives or bool(self._others(odometry))

    def _look_for_publishers(self, item: Input, health: TopicHealth) -> None:
        """A topic that has only just turned up is not silent."""
        if health.arrived or not health.publishers():
            item.watch.published_s = None
        elif item.watch.published_s is None:
            item.watch.published_s = time.monotonic()

    def _silent(self, item: Input, health: TopicHealth, needed: bool) -> str:
        if item.role == "tf_static" and health.arrived:
            return ""
        if not health.publishers() and not health.arrived:
            return f"{health.why_silent()}{self._elsewhere(item)}" if needed or self._namesakes(item) else ""
        published_s = item.watch.published_s
        if published_s is not None and time.monotonic() - published_s < self._silence_s:
            return health.mismatch()
        return health.why_silent()

    def _namesakes(self, item: Input) -> list[str]:
        """Published topics of a type that would do, and of the very same last name: likely a missing remapping."""
        return [topic for topic in self._others(item) if topic.rpartition("/")[2] == item.topic.rpartition("/")[2]]

    def _elsewhere(self, item: Input) -> str:
        others = self._others(item)
        if not others:
            return f"; no topic of type {' or '.join(_types(item))} is published at all"
        return f"; {', '.join(others[:5])} would fit: remap {item.role}:={_base(others[0])}"

    def _others(self, item: Input) -> list[str]:
        """Topics of a type that would do, the likeliest first: of the same namespace, then of the same last name."""
        own = {candidate.topic for candidate in item.candidates}
        here = self._node.get_namespace().rstrip("/") + "/"
        others = (
            topic
            for topic, types in self._node.get_topic_names_and_types()
            if set(types) & set(_types(item)) and topic not in own and self._node.count_publishers(topic)
        )
        last = item.topic.rpartition("/")[2]
        return sorted(others, key=lambda topic: (not topic.startswith(here), topic.rpartition("/")[2] != last, topic))


def _other_clocks(inputs: list[Input], known: dict[str, str]) -> dict[str, str]:
    """Poses whose stamps are of another clock than the images': no image will find one."""
    images = [item for item in inputs if item.role == "image" and not math.isnan(item.watch.latency_s())]
    if not images:
        return {}
    image, image_s = images[0], images[0].watch.latency_s()
    found = {}
    for item in inputs:
        latency_s = item.watch.latency_s()
        if item.role not in ("odom", "fix", "tf", "depth") or math.isnan(latency_s) or item.topic in known:
            continue
        if abs(latency_s - image_s) > OTHER_CLOCK_S:
            found[item.topic] = (
                f"its stamps are {_seconds(latency_s)} its arrival, those of {image.topic} {_seconds(image_s)} theirs: "
                "the clocks differ; set stamps to received, or correct the clock"
            )
    return found


def _base(topic: str) -> str:
    """Images are remapped by the topic beside which their transports are."""
    return topic.removesuffix("/compressed").removesuffix("/compressedDepth")


def _seconds(latency_s: float) -> str:
    return f"{abs(latency_s):.3f} s {'before' if latency_s >= 0 else 'after'}"


def _types(item: Input) -> list[str]:
    return list(dict.fromkeys(c.type_name for c in ([item.chosen] if item.chosen else item.candidates)))


# What the recorder says: SyncStatus, and the figures for /diagnostics.


NAMES = {
    SyncStatus.IDLE: "idle",
    SyncStatus.RECORDING: "recording",
    SyncStatus.PAUSED: "paused",
    SyncStatus.ERROR: "error",
}


def status_message(
    state: NodeState,
    stamp: Time,
    session: Session | None,
    inputs: list[Input],
    problems: dict[str, str],
    queue_size: int,
) -> SyncStatus:
    """How things stand; `session` is the one under way, or the last one. `problems` by topic."""
    status = SyncStatus(header=Header(stamp=stamp), state=state.state, message=state.message, queue_size=queue_size)
    status.image_time_offset_s = status.image_time_offset_confidence = math.nan
    status.added_latency_s = math.nan
    status.topics = [topic_health(item, problems.get(item.topic, "")) for item in inputs]
    if session is None:
        return status
    status.dataset = str(session.folder)
    # Frames first: one that is written meanwhile must not be promised before it is there.
    for camera, tally in session.tallies.items():
        images, frames, rejects, waiting = tally.snapshot()
        status.images += images
        status.frames_written += frames
        status.waiting += waiting
        status.rejects += [
            RejectCount(camera=camera, reason=reason, count=count) for reason, count in sorted(rejects.items())
        ]
    status.added_latency_s = median_latency_s(list(session.tallies.values()))
    status.bag_bytes = session.bag_bytes
    status.disk_free_bytes = session.disk_free_bytes()
    return status


def topic_health(item: Input, problem: str) -> TopicHealthMessage:
    """Figures of one topic."""
    watch = item.watch
    return TopicHealthMessage(
        topic=item.topic,
        type=item.type_name,
        messages=watch.messages,
        rate_hz=watch.rate_hz(),
        silence_s=watch.silence_s,
        longest_gap_s=watch.longest_gap_s,
        latency_s=watch.latency_s(),
        problem=problem,
    )


def status_values(status: SyncStatus) -> dict[str, Any]:
    """The figures for /diagnostics."""
    found: dict[str, Any] = {
        "state": NAMES[status.state],
        "dataset": status.dataset,
        "images": status.images,
        "frames_written": status.frames_written,
        "waiting": f"{status.waiting} of {status.queue_size}",
        "added_latency_s": status.added_latency_s,
        "disk_free_mib": status.disk_free_bytes >> 20,
        "bag_mib": status.bag_bytes >> 20,
    }
    for reject in status.rejects:
        name = f"{reject.camera}: {reject.reason}" if reject.camera else reject.reason
        found[f"rejected {name}"] = reject.count
    for topic in status.topics:
        if topic.messages:
            found[f"{topic.topic} rate_hz"] = topic.rate_hz
            found[f"{topic.topic} longest_gap_s"] = topic.longest_gap_s
        if topic.problem:
            found[f"{topic.topic} problem"] = topic.problem
    if not math.isnan(status.image_time_offset_s):
        found["image_time_offset_s"] = status.image_time_offset_s
        found["image_time_offset_confidence"] = status.image_time_offset_confidence
    return found


# What the recorder says in the log: problems when they begin and end, and images that come to nothing.


WINDOW_S = 5.0
FEWEST = 5
# Rejects that were asked for.
_WANTED = {
    *("paused", "present", filters.SKIPPED, filters.GROUND_PHASE, filters.ALTITUDE, filters.STATIC),
    *(filters.NEAR_DUPLICATE, filters.BLURRED),
}


class ProblemLog:
    """Each problem has a name (its topic) and a line; logged when it begins, now and then while it lasts, and at
    its end.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._logs: dict[str, ConditionLog] = {}

    def log(self, problems: dict[str, str]) -> None:
        """The problems there are now."""
        for name, text in problems.items():
            log = self._logs.setdefault(name, ConditionLog(self._node))
            log.log(status.WARN, status.without_figures(text), f"{name}: {text}")
        for name in self._logs.keys() - problems.keys():
            again = "arrives" if name.startswith("/") else "good again"
            self._logs[name].log(status.OK, "", f"{name}: {again}")


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
                f"images are rejected because {session.queue_size} wait already: poses are late, or the disk or the "
                "machine "
                "too slow (raw_images jpeg is quicker than png; a JPEG topic is best)"
            )
        if session.frames > frames or new.total() < FEWEST or now_s - then_s < WINDOW_S / 2:
            return ""
        counts = ", ".join(f"{name} {details[name]}" if name in details else name for name, _ in new.most_common())
        return f"no image becomes a frame: {counts}"
