"""What the recorder says: SyncStatus, and the figures for /diagnostics."""

from __future__ import annotations

import math
from typing import Any

from builtin_interfaces.msg import Time
from pose2rgbd.msg import RejectCount, SyncStatus, TopicHealth
from std_msgs.msg import Header

from pose2rgbd_ros.nodes import diagnostics
from pose2rgbd_ros.nodes.record_inputs import Input
from pose2rgbd_ros.nodes.record_session import Session
from pose2rgbd_ros.nodes.record_tally import median_latency_s

LEVELS = {
    SyncStatus.IDLE: diagnostics.OK,
    SyncStatus.RECORDING: diagnostics.OK,
    SyncStatus.PAUSED: diagnostics.OK,
    SyncStatus.ERROR: diagnostics.ERROR,
}
NAMES = {
    SyncStatus.IDLE: "idle",
    SyncStatus.RECORDING: "recording",
    SyncStatus.PAUSED: "paused",
    SyncStatus.ERROR: "error",
}


def status_message(
    state: int,
    message: str,
    stamp: Time,
    session: Session | None,
    inputs: list[Input],
    problems: dict[str, str],
    queue_size: int,
) -> SyncStatus:
    """How things stand; `session` is the one under way, or the last one. `problems` by topic."""
    status = SyncStatus(header=Header(stamp=stamp), state=state, message=message, queue_size=queue_size)
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
            RejectCount(camera=camera, reason=reason, count=count)
            for reason, count in sorted(rejects.items())
        ]
    status.added_latency_s = median_latency_s(list(session.tallies.values()))
    status.bag_bytes = session.bag_bytes
    status.disk_free_bytes = session.disk_free_bytes()
    return status


def topic_health(item: Input, problem: str) -> TopicHealth:
    """Figures of one topic."""
    watch = item.watch
    return TopicHealth(
        topic=item.topic,
        type=item.type_name,
        messages=watch.messages,
        rate_hz=watch.rate_hz(),
        silence_s=watch.silence_s,
        longest_gap_s=watch.longest_gap_s,
        latency_s=watch.latency_s(),
        problem=problem,
    )


def values(status: SyncStatus) -> dict[str, Any]:
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
