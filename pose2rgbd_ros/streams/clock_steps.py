"""When a clock that stamps messages was set, by how much, and which topics share it: one rule, live and offline.

A clock that is set shows as a step in how early a topic's stamps are by their reception. What several topics show at
the same time, by the same amount, is one clock. Offline the whole recording is looked at (importers.clocks); live,
here, messages are held back for the moment in which it is not clear yet what a stamp means.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pose2rgbd_ros.geometry.arrays import Bool, Float64

SECOND_NS = 1_000_000_000
# A stamp that goes another way than the reception by this much, while messages keep coming, is a clock that was set;
# from the first where reception is regular, from the last always. Less cannot be distinguished from jitter.
LEAST_STEP_NS, SURE_STEP_NS = SECOND_NS // 10, SECOND_NS
# Steps are looked for beyond this many times the usual difference of the two; uniform jitter reaches 3.5 times.
_NOISE_FACTOR = 5.0
# A clock is not set and set back within this time: those are messages that were late, or stamped by another clock.
STRAY_NS = SECOND_NS
# Two topics show one step when they do so within half of STRAY_NS, by heights that differ by less than LEAST_STEP_NS.
# Up to this it may be one as well, with messages that come sooner or later than before.
STEADY_NS = SECOND_NS // 2
# Messages on each side of a step by which its height is measured, and how few say for sure that a small step lasts.
NEIGHBOURS, ENOUGH = 20, 3
# More steps than these are no clock at all.
_ERRATIC, _ERRATIC_SHARE = 20, 0.2
# Live: the promptest messages of this time before a step, and of that after it, show how early stamps are.
_BEFORE_NS, _AFTER_NS = 5 * SECOND_NS, 2 * SECOND_NS


def pace_of(usual_step_ns: float, usual_gap_ns: float, count: int) -> float:
    """How fast stamps go by their reception; other than 1 in a simulation, or a bag played slower or faster."""
    pace = usual_step_ns / usual_gap_ns if usual_gap_ns > 0 else 1.0
    return 1.0 if count < NEIGHBOURS or not 0.1 < pace < 10 or 0.8 < pace < 1.25 else pace


def least_step_ns(noise_ns: float) -> float:
    """The least step that can be distinguished from the jitter of the reception, whose median is given."""
    return min(max(_NOISE_FACTOR * noise_ns, LEAST_STEP_NS), SURE_STEP_NS)


def are_steps(step_ns: Float64, gap_ns: Float64, usual_ns: tuple[float, float], least_ns: float) -> Bool:
    """From message to message (N,): whether the stamps' step against the gap of reception is a clock that was set.

    A burst of late messages is none: there the reception stalls and the stamps go on. `usual_ns`: step and gap.
    """
    unusual_step, unusual_gap = np.abs(step_ns - usual_ns[0]), np.abs(gap_ns - usual_ns[1])
    goes_back = step_ns < -least_ns  # however long the reception stalled
    return np.asarray((np.abs(step_ns - gap_ns) > least_ns) & ((unusual_step > unusual_gap) | goes_back))


def alike(a_ns: float, b_ns: float, within_ns: float = LEAST_STEP_NS) -> bool:
    """Whether two topics show steps of one height."""
    return abs(a_ns - b_ns) < min(abs(b_ns) / 2, within_ns)


def on_that_side(apart_there_ns: float, apart_elsewhere_ns: float) -> bool:
    """Whether a topic that shows one side of a step only is on the clock that was set.

    By how far it is from a topic on that clock on that side, and how far it would be on the other.
    """
    return abs(apart_there_ns) < abs(apart_elsewhere_ns)


def at_one_time(a_ns: tuple[int, int], b_ns: tuple[int, int]) -> bool:
    """Whether a clock may have been set at one time that two topics show within these times of reception."""
    return a_ns[0] <= b_ns[1] + STRAY_NS // 2 and b_ns[0] <= a_ns[1] + STRAY_NS // 2


def is_erratic(steps: int, messages: int) -> bool:
    """Whether stamps jump so often that they are no clock."""
    return steps > max(_ERRATIC, _ERRATIC_SHARE * messages)


def not_shared(topics: Collection[str], by_ns: float) -> str:
    """In words: a step that not all show, or not by that."""
    return (
        f"the stamps of {', '.join(topics)} step by {by_ns / SECOND_NS:+.3f} s against their reception, not so those "
        "of the other topics"
    )


STRAY = "its stamp is none between those of the messages before and after"


@dataclass
class SetClock:
    """Before message number `at` of a topic its clock was set, between these times of reception.

    By how much is known the better the more messages have come since: `level_ns` is how early those before were.
    """

    at: int
    between_ns: tuple[int, int]
    level_ns: int
    by_ns: int


@dataclass(frozen=True)
class Passed:
    """A message that is let go: whether it is a stray, or the first after its clock was set."""

    item: Any
    stray: bool
    after_step: bool


class ClockGate:
    """Messages of all topics go in as they are received, and come out in that order; held back while a clock is in
    doubt.

    That is until three messages show that it was set, or one that it was not; at most a second. Use each message that
    comes out before the next: `disagreement` speaks of those up to it. Belongs to one thread.
    """

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}
        self._open: set[str] = set()
        self._held: deque[tuple[_Topic, int, Any]] = deque()

    def add(self, name: str, stamp_ns: int, received_ns: int, item: Any) -> Iterator[Passed]:
        """What is let go, now that this message of the topic `name` is here."""
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = _Topic()
        topic.saw(stamp_ns, received_ns)
        if topic.new:
            self._open.add(name)
        else:
            self._open.discard(name)
        self._held.append((topic, topic.count - 1, item))
        return self.poll(received_ns)

    def poll(self, now_ns: int) -> Iterator[Passed]:
        """What is let go, now that time has passed (by the clock of reception)."""
        for name in list(self._open):
            if abs(now_ns - self._topics[name].new[0].received_ns) > STRAY_NS:
                self._decide(name)
        return self._let_go() if not self._open else iter(())

    def flush(self) -> Iterator[Passed]:
        """All that is held back; what is in doubt counts as a clock that was set."""
        for name in list(self._open):
            self._decide(name)
        return self._let_go()

    def disagreement(self, name: str, others: Collection[str]) -> str:
        """Why the last message of `name` is not on one clock with those of other topics; "" if it is."""
        ours = self._topics.get(name)
        for other in others:
            theirs = self._topics.get(other)
            if ours is None or theirs is None or theirs is ours or not (ours.steps or theirs.steps):
                continue
            for topic, at in ((ours, name), (theirs, other)):
                if is_erratic(len(topic.steps), topic.count):
                    return f"header stamps of {at} jump {len(topic.steps)} times: that is no clock"
            # Before one of the two was there nothing is known of how far their clocks are apart.
            since_ns = max(ours.first_ns, theirs.first_ns) - STRAY_NS // 2
            only_ours, only_theirs = _unmatched(ours.steps_since(since_ns), theirs.steps_since(since_ns))
            only_ours = [step for step in only_ours if not theirs.began_behind(step)]
            only_theirs = [step for step in only_theirs if not ours.began_behind(step)]
            by_ns = sum(step.by_ns for step in only_ours) - sum(step.by_ns for step in only_theirs)
            if len(only_ours) + len(only_theirs) == 1 or abs(by_ns) > LEAST_STEP_NS:
                return not_shared([name if only_ours else other], (only_ours or only_theirs)[-1].by_ns)
        return ""

    def _decide(self, name: str) -> None:
        self._topics[name].decide()
        self._open.discard(name)

    def _let_go(self) -> Iterator[Passed]:
        while self._held:
            topic, number, item = self._held.popleft()
            topic.passed = number + 1
            stray = number in topic.strays
            topic.strays.discard(number)
            yield Passed(item, stray, any(step.at == number for step in topic.steps[-_ERRATIC:]))


class _Seen(NamedTuple):
    number: int
    stamp_ns: int
    received_ns: int

    @property
    def early_ns(self) -> int:
        return self.stamp_ns - self.received_ns


class _Topic:
    """The clock of one topic, message by message."""

    def __init__(self) -> None:
        self.count = self.passed = 0  # messages seen, and those that were let go
        self.first_ns = 0
        self.steps: list[SetClock] = []
        self.strays: set[int] = set()
        self.new: list[_Seen] = []  # of these it is not clear yet what their stamps mean
        self._last: _Seen | None = None
        self._pairs: deque[tuple[int, int]] = deque(maxlen=NEIGHBOURS)
        self._recent: deque[_Seen] = deque()
        self._first: list[_Seen] = []  # those of the first seconds, up to its first step

    def steps_since(self, since_ns: int) -> list[SetClock]:
        """Those that messages show that were let go, and that later ones bear out: else the first were only late."""
        known = (it for it in self.steps if it.at < self.passed and it.between_ns[1] > since_ns)
        return [step for step in known if abs(step.by_ns) > LEAST_STEP_NS / 2]

    def began_behind(self, step: SetClock) -> bool:
        """Whether this topic began after the clock of another was set, or about then with stamps like those after."""
        if self.first_ns >= step.between_ns[1]:
            return True
        if not self._first or self.first_ns <= step.between_ns[0] - STRAY_NS // 2:
            return False
        if len(self._first) < ENOUGH or self._first[-1].received_ns - self.first_ns < STRAY_NS // 2:
            return False  # it does not show yet what is usual
        level_ns = statistics.median(it.early_ns for it in self._first)
        return on_that_side(level_ns - step.level_ns - step.by_ns, level_ns - step.level_ns)

    def saw(self, stamp_ns: int, received_ns: int) -> None:
        """The next message."""
        seen = _Seen(self.count, stamp_ns, received_ns)
        self.count += 1
        if self._last is None:
            self.first_ns = received_ns
        elif self.new:
            self._look_at_new(seen)
            return
        elif self._may_be_set(self._last, seen):
            self.new = [seen]
            return
        else:
            self._pairs.append((stamp_ns - self._last.stamp_ns, received_ns - self._last.received_ns))
        self._keep(seen)

    def decide(self) -> None:
        """No more is known: what began is a clock that was set."""
        assert self._last is not None
        first, new, level_ns = self.new[0], self.new, self._level_ns()
        between_ns = self._last.received_ns, first.received_ns
        self.steps.append(SetClock(first.number, between_ns, level_ns, first.early_ns - level_ns))
        self._recent.clear()
        self.new = []
        for it in new:
            self._keep(it)

    def _keep(self, seen: _Seen) -> None:
        self._last = seen
        if not self.steps and (seen.received_ns - self.first_ns <= _AFTER_NS or len(self._first) < ENOUGH):
            self._first.append(seen)
        self._recent.append(seen)
        while len(self._recent) > ENOUGH and _is_old(self._recent[0], seen):
            self._recent.popleft()
        if self.steps and seen.received_ns - self.steps[-1].between_ns[1] <= _AFTER_NS:
            step = self.steps[-1]
            step.by_ns = max(step.by_ns, seen.early_ns - step.level_ns)

    def _level_ns(self) -> int:
        """How early the promptest lately were: what is less early may only be late."""
        return max(it.early_ns for it in self._recent)

    def _may_be_set(self, before: _Seen, seen: _Seen) -> bool:
        step, gap = seen.stamp_ns - before.stamp_ns, seen.received_ns - before.received_ns
        if abs(step - gap) <= LEAST_STEP_NS or not self._steps(step, gap):
            return False
        # Late messages of which some are lost look like a clock set forward, but are no earlier than the promptest.
        # Nor does a topic that has only just begun, on a busy machine, show what is prompt.
        begins = step - gap < SURE_STEP_NS and before.received_ns - self.first_ns < STRAY_NS // 2
        return step < gap or (not begins and seen.early_ns - self._level_ns() > LEAST_STEP_NS / 2)

    def _steps(self, step: int, gap: int) -> bool:
        """Whether the stamps go another way than the reception, from one message to the next."""
        if len(self._pairs) < 2:  # of two messages nothing is usual: the reception may have stalled
            return step - gap > SURE_STEP_NS or step < -SURE_STEP_NS
        steps, gaps = zip(*self._pairs, strict=True)
        usual_step, usual_gap = statistics.median(steps), statistics.median(gaps)
        pace = pace_of(usual_step, usual_gap, len(self._pairs))
        least_ns = least_step_ns(statistics.median(abs(a - b * pace) for a, b in self._pairs))
        arrays = np.array([step], np.float64), np.array([gap * pace])
        return bool(are_steps(*arrays, (usual_step, usual_gap * pace), least_ns)[0])

    def _look_at_new(self, seen: _Seen) -> None:
        """Whether what began lasts, or was a message or two that were stamped unlike the others."""
        first, before, level_ns = self.new[0], self.new[-1], self._level_ns()
        by_ns, back_ns = first.early_ns - level_ns, seen.early_ns - before.early_ns
        returns = abs(seen.early_ns - level_ns) < abs(by_ns) / 2 and by_ns * back_ns < 0
        if returns and self._steps(seen.stamp_ns - before.stamp_ns, seen.received_ns - before.received_ns):
            self.strays |= {it.number for it in self.new}
            self.new = []
            self._keep(seen)
            return
        self.new.append(seen)
        if len(self.new) >= ENOUGH:
            self.decide()


def _is_old(seen: _Seen, now: _Seen) -> bool:
    """By both clocks: after a stall of the reception the messages of before it still show what is prompt."""
    age_ns = min(now.stamp_ns - seen.stamp_ns, now.received_ns - seen.received_ns)
    return age_ns > _BEFORE_NS


def _unmatched(ours: list[SetClock], theirs: list[SetClock]) -> tuple[list[SetClock], list[SetClock]]:
    """The steps that one topic shows and the other does not."""
    only_ours, left = [], list(theirs)
    for step in ours:
        for it in left:
            if alike(it.by_ns, step.by_ns) and at_one_time(it.between_ns, step.between_ns):
                left.remove(it)
                break
        else:
            only_ours.append(step)
    return only_ours, left
