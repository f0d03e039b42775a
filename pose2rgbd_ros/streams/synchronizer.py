"""Images meet their depth and their pose and become frames; live and offline by the same rules.

No clock, no thread, no callback: every call returns what it has settled, so the caller acts outside the lock.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.trajectory import JUMP_NS, Method, Trajectory, look_up

# Where a frame is at a time: the question that the synchroniser asks, live and offline, and its simplest answers.


@dataclass(frozen=True, eq=False)
class PoseAnswer:
    """`T` (4, 4), or why there is none. With `wait` a pose, or a better one, may still come: ask again later."""

    T: Float64 | None
    reason: str | None = None
    wait: bool = False


class PoseSource(Protocol):
    """The pose of one frame in another over time."""

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The pose at a time, in nanoseconds of the clock that stamps the poses."""

    def jumped_back(self, stamp_ns: int) -> None:
        """The clock of the stamps was set back to about this time: poses of later stamps are of a time before."""


class FixedPose:
    """A pose (4, 4) that holds always."""

    def __init__(self, T: Float64) -> None:
        self.T = T

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The pose."""
        return PoseAnswer(self.T)

    def jumped_back(self, stamp_ns: int) -> None:
        """Changes nothing."""


class RecordedPoses:
    """A whole recorded trajectory, never interpolated over more than `max_gap_ns`; there is nothing to wait for."""

    def __init__(self, trajectory: Trajectory, max_gap_ns: int, method: Method = "linear") -> None:
        self._trajectory = trajectory
        self._max_gap_ns, self._method = max_gap_ns, method
        self._stamps_ns = array("q", trajectory.stamps_ns.tobytes())
        self._poses = np.concatenate([trajectory.position_m, trajectory.quat_xyzw], axis=1)

    @property
    def trajectory(self) -> Trajectory:
        """The poses."""
        return self._trajectory

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The interpolated pose."""
        looked = look_up(self._stamps_ns, self._pose, stamp_ns, self._max_gap_ns, self._method)
        return PoseAnswer(looked.T, looked.reason)

    def _pose(self, i: int) -> list[float]:
        pose: list[float] = self._poses[i].tolist()
        return pose

    def jumped_back(self, stamp_ns: int) -> None:
        """Changes nothing: what is recorded holds for all images."""


class ChainedPoses:
    """Poses one on top of the other: T_map_body of the first, T_body_cam of the second, and so on.

    The names of the others stand before their reasons: "mount_pose_gap".
    """

    def __init__(self, first: PoseSource, **others: PoseSource) -> None:
        self._first = first
        self._others = others

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The product; the first part that has no pose says why, and waits if any part that is missing does."""
        answer = self._first.pose_at(stamp_ns)
        if answer.T is None:
            return answer
        T, wait = answer.T, answer.wait
        for name, source in self._others.items():
            part = source.pose_at(stamp_ns)
            if part.T is None:
                return PoseAnswer(None, f"{name}_{part.reason}", part.wait)
            T, wait = T @ part.T, wait or part.wait
        return PoseAnswer(T, wait=wait)

    def jumped_back(self, stamp_ns: int) -> None:
        """Notify all parts."""
        for source in (self._first, *self._others.values()):
            source.jumped_back(stamp_ns)


NO_POSE = "no_pose"
NO_DEPTH = "no_depth"
QUEUE_FULL = "queue_full"
DUPLICATE_STAMP = "duplicate_stamp"
TIME_JUMP = "time_jump"

# How far images may come out of order and still find their depth.
_REORDERING_NS = 200_000_000
# Stamps kept to know a duplicate by: over a minute at 60 Hz.
_REMEMBERED = 4096


@dataclass(frozen=True)
class SyncConfig:
    """Who is matched with whom, and who waits how long.

    An image takes the depth image nearest in time within `depth_tolerance_ns`, and the pose at its stamp plus
    `image_time_offset_ns`. It waits for them at most `max_wait_ns` by the clock of reception, and only while no more
    than `max_waiting` images wait.
    """

    with_depth: bool
    depth_tolerance_ns: int = 20_000_000
    image_time_offset_ns: int = 0
    max_wait_ns: int = 2_000_000_000
    max_waiting: int = 60


@dataclass(frozen=True, eq=False)
class Frame:
    """An image with its pose `T_map_cam` (4, 4) and its depth; the payloads are those that were added."""

    stamp_ns: int
    received_ns: int
    T_map_cam: Float64
    image: Any
    depth: Any | None


@dataclass(frozen=True)
class Reject:
    """An image that gives no frame, and why."""

    stamp_ns: int
    received_ns: int
    reason: str
    detail: str = ""


Settled = Frame | Reject


class _Waiting:
    """An image that waits. `depth_settled`: no later depth message will change its depth."""

    __slots__ = ("deadline_ns", "depth", "depth_settled", "image", "received_ns", "stamp_ns")

    def __init__(self, stamp_ns: int, received_ns: int, deadline_ns: int, image: Any) -> None:
        self.stamp_ns, self.received_ns, self.deadline_ns = stamp_ns, received_ns, deadline_ns
        self.image = image
        self.depth: _Depth | None = None
        self.depth_settled = False


class _Depth:
    __slots__ = ("payload",)

    def __init__(self, payload: Any) -> None:
        self.payload = payload


class Synchronizer:
    """Feed it images and depth images as they arrive; frames come back, in the order in which their images came.

    An image is settled when its pose source need not wait any more and, with depth, a depth image of the same or a
    later stamp has arrived; or when it has waited too long (see SyncConfig). One depth image may serve several images.

    Stamps of images or depth images that go back by more than a second are a jump of the clock: what waits leaves with
    what it has (else "time_jump"), depth and stamps of before are forgotten, and the pose source is notified: no frame
    mixes the times before and after. `images` is the sum of `counts` and `waiting`, always. Any thread may call
    any method.
    """

    def __init__(self, poses: PoseSource, config: SyncConfig) -> None:
        self.config = config
        self.image_time_offset_ns = config.image_time_offset_ns
        self.images = 0
        self.counts: Counter[str] = Counter()
        self._poses = poses
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._depths = _Depths(config)
        self._newest_image_ns: int | None = None
        self._known_stamps: dict[int, None] = {}  # in order of arrival
        self._now_ns: int | None = None
        self._no_depth = f"no depth image within {config.depth_tolerance_ns / 1e6:g} ms"

    @property
    def waiting(self) -> int:
        """Images that wait."""
        return len(self._waiting)

    def add_image(self, stamp_ns: int, received_ns: int, image: Any) -> list[Settled]:
        """What is settled, now that this image has arrived. Its stamp and its reception, each by its own clock."""
        with self._lock:
            self.images += 1
            settled: list[Settled] = []
            if self._newest_image_ns is not None and stamp_ns < self._newest_image_ns - JUMP_NS:
                settled = self._start_again(stamp_ns)
            if stamp_ns in self._known_stamps:
                settled.append(self._reject(stamp_ns, received_ns, DUPLICATE_STAMP))
                return settled + self._settle(received_ns)
            self._remember(stamp_ns)
            waiting = _Waiting(stamp_ns, received_ns, received_ns + self.config.max_wait_ns, image)
            self._depths.settle(waiting)
            self._waiting.append(waiting)
            return settled + self._settle(received_ns)

    def add_depth(self, stamp_ns: int, received_ns: int, depth: Any) -> list[Settled]:
        """What is settled, now that this depth image has arrived."""
        with self._lock:
            settled: list[Settled] = []
            newest_ns = self._depths.newest_ns
            if newest_ns is not None and stamp_ns < newest_ns - JUMP_NS:
                settled = self._start_again(stamp_ns)
            self._depths.add(stamp_ns, depth)
            for waiting in self._waiting:
                self._depths.settle(waiting)
            return settled + self._settle(received_ns)

    def poll(self, now_ns: int) -> list[Settled]:
        """What is settled, now that poses have arrived or time has passed; `now_ns` is of the clock of reception."""
        with self._lock:
            return self._settle(now_ns)

    def finish(self) -> list[Settled]:
        """The rest, when nothing more will come: each image with its pose, or the reason it has none."""
        with self._lock:
            return self._settle_all(None)

    def clock_set(self) -> list[Settled]:
        """The clock of the stamps was set: what waits is settled with what it has, and a new time counts.

        Of it the pose source is to be notified beside this: its clock may be another.
        """
        with self._lock:
            settled = self._settle_all(TIME_JUMP)
            self._forget_stamps()
            self._depths.clear()
            return settled

    def clear(self) -> list[Reject]:
        """Forget everything, because time jumped back; the images that waited come back as rejects."""
        with self._lock:
            rejects = [self._reject(it.stamp_ns, it.received_ns, TIME_JUMP) for it in self._waiting]
            self._waiting.clear()
            self._forget_stamps()
            self._depths.clear()
            return rejects

    def _settle(self, now_ns: int) -> list[Settled]:
        """The images at the head of the queue that need not, or must not, wait any more."""
        if self._now_ns is not None and now_ns < self._now_ns - JUMP_NS:
            # The clock of reception was set back: nothing waits until it has caught up.
            for waiting in self._waiting:
                waiting.deadline_ns = min(waiting.deadline_ns, now_ns + self.config.max_wait_ns)
        self._now_ns = now_ns
        settled: list[Settled] = []
        while self._waiting:
            first, overdue = self._waiting[0], None
            if len(self._waiting) > self.config.max_waiting:
                overdue = QUEUE_FULL
            elif now_ns > first.deadline_ns:
                overdue = NO_POSE
            outcome = self._outcome(first) if overdue is None else self._last_word(first, overdue)
            if outcome is None:
                break
            self._waiting.popleft()
            settled.append(outcome)
        return settled

    def _settle_all(self, missing: str | None) -> list[Settled]:
        """Everything that waits, with what it has; see `_last_word`."""
        settled = [self._last_word(waiting, missing) for waiting in self._waiting]
        self._waiting.clear()
        return settled

    def _outcome(self, image: _Waiting) -> Settled | None:
        """What becomes of an image; None while it should wait."""
        if self.config.with_depth and not image.depth_settled:
            return None
        answer = self._poses.pose_at(image.stamp_ns + self.image_time_offset_ns)
        return None if answer.wait else self._with_pose(image, answer)

    def _last_word(self, image: _Waiting, missing: str | None) -> Settled:
        """What becomes of an image that waits no longer, whatever it lacks.

        `missing` is the reason when its pose might still have come; None: as its pose source says.
        """
        depth_open = self.config.with_depth and not image.depth_settled
        if depth_open:
            image.depth = self._depths.nearest(image.stamp_ns)
        answer = self._poses.pose_at(image.stamp_ns + self.image_time_offset_ns)
        if answer.T is None and answer.wait and missing:
            text = f"{len(self._waiting)} images wait" if missing == QUEUE_FULL else "no pose came in time"
            return self._reject(image.stamp_ns, image.received_ns, missing, f"{text} ({answer.reason})")
        if depth_open and image.depth is None and missing == TIME_JUMP:
            return self._reject(image.stamp_ns, image.received_ns, TIME_JUMP)
        return self._with_pose(image, answer)

    def _with_pose(self, image: _Waiting, answer: PoseAnswer) -> Settled:
        """A frame, or why there is no pose or depth."""
        if answer.T is None:
            return self._reject(image.stamp_ns, image.received_ns, answer.reason or NO_POSE)
        depth = None
        if self.config.with_depth:
            if image.depth is None:
                return self._reject(image.stamp_ns, image.received_ns, NO_DEPTH, self._no_depth)
            depth = image.depth.payload
        self.counts["frame"] += 1
        return Frame(image.stamp_ns, image.received_ns, answer.T, image.image, depth)

    def _reject(self, stamp_ns: int, received_ns: int, reason: str, detail: str = "") -> Reject:
        self.counts[reason] += 1
        return Reject(stamp_ns, received_ns, reason, detail)

    def _remember(self, stamp_ns: int) -> None:
        self._newest_image_ns = max(stamp_ns, self._newest_image_ns or stamp_ns)
        self._known_stamps[stamp_ns] = None
        if len(self._known_stamps) > _REMEMBERED:
            del self._known_stamps[next(iter(self._known_stamps))]

    def _forget_stamps(self) -> None:
        self._known_stamps.clear()
        self._newest_image_ns = None

    def _start_again(self, stamp_ns: int) -> list[Settled]:
        """The images from before a jump back to `stamp_ns`, settled; from here on a new time counts."""
        settled = self._settle_all(TIME_JUMP)
        self._forget_stamps()
        self._depths.jumped_back(stamp_ns)
        self._poses.jumped_back(stamp_ns + self.image_time_offset_ns)
        return settled


class _Depths:
    """The depth images that may still be wanted, in order of stamps."""

    def __init__(self, config: SyncConfig) -> None:
        self._config = config
        self.clear()

    def clear(self) -> None:
        self.newest_ns: int | None = None
        self._stamps_ns: list[int] = []
        self._depths: list[_Depth] = []

    def jumped_back(self, stamp_ns: int) -> None:
        """Forget the depth images if they are of a time before the jump."""
        if self.newest_ns is not None and self.newest_ns > stamp_ns + JUMP_NS:
            self.clear()

    def add(self, stamp_ns: int, payload: Any) -> None:
        at = bisect_right(self._stamps_ns, stamp_ns)
        self._stamps_ns.insert(at, stamp_ns)
        self._depths.insert(at, _Depth(payload))
        self.newest_ns = self._stamps_ns[-1]
        if len(self._stamps_ns) > self._config.max_waiting:
            del self._stamps_ns[0], self._depths[0]

    def settle(self, image: _Waiting) -> None:
        """Give the image its depth, once no nearer one can come."""
        if image.depth_settled or self.newest_ns is None or self.newest_ns < image.stamp_ns:
            return
        image.depth, image.depth_settled = self.nearest(image.stamp_ns), True
        self._forget_before(image.stamp_ns - self._config.depth_tolerance_ns - _REORDERING_NS)

    def nearest(self, stamp_ns: int) -> _Depth | None:
        """The nearest within the tolerance; of two as near, the earlier."""
        after = bisect_left(self._stamps_ns, stamp_ns)
        around = [i for i in (after - 1, after) if 0 <= i < len(self._stamps_ns)]
        best = min(around, key=lambda i: abs(self._stamps_ns[i] - stamp_ns), default=None)
        if best is None or abs(self._stamps_ns[best] - stamp_ns) > self._config.depth_tolerance_ns:
            return None
        return self._depths[best]

    def _forget_before(self, stamp_ns: int) -> None:
        first = bisect_left(self._stamps_ns, stamp_ns)
        del self._stamps_ns[:first], self._depths[:first]
