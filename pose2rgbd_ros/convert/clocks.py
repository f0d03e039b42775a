"""Which clock stamps which topic: header stamps where the topics agree, corrected ones where their clocks differ.

A clock that is set on the way shows as a step in how early a topic's stamps are by their reception. All topics are
looked at together: what several show at the same time, by the same amount, is one clock, and is corrected by one
    number.
"""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from pose2rgbd_ros.bags.reader import BagReader
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.streams.clock_steps import (
    ENOUGH,
    LEAST_STEP_NS,
    NEIGHBOURS,
    SECOND_NS,
    STEADY_NS,
    STRAY_NS,
    SURE_STEP_NS,
    alike,
    are_steps,
    at_one_time,
    is_erratic,
    least_step_ns,
    not_shared,
    on_that_side,
    pace_of,
)
from pose2rgbd_ros.streams.synchronizer import TIME_JUMP

Stamps = Literal["auto", "header", "received"]
# From here on two topics have different clocks; below, one of them may only be late. What is late for sure is reported.
_OTHER_CLOCK_NS, _TOLD_NS = 3 * SECOND_NS, SECOND_NS
_TIMES = {1: "once", 2: "twice"}


@dataclass(frozen=True)
class Correction:
    """What is added to the header stamps of a topic, from message to message in the order of reception.

    `shifts_ns[i]` holds from the message received at `from_ns[i]` on.
    """

    from_ns: list[int]
    shifts_ns: list[int]

    def shift_ns(self, received_ns: int) -> int:
        """What to add to the stamp of a message."""
        return self.shifts_ns[max(0, bisect_right(self.from_ns, received_ns) - 1)]


@dataclass
class StampCorrections:
    """Gives messages their stamps. Without corrections: the header's, or the reception's with `received`.

    Corrections are by topic; of TF by topic and edge (bags.reader.edge_name). `unsure_ns` are times of reception in
    which an image and the poses may have stamps of two clocks, and why; `strays_ns`, by the same names as the
    corrections, those of single messages that are stamped unlike the ones before and after. Times of reception in
    `twice_ns` the recorder's own clock passed twice: what was received then is left out. `warnings` say all this in
    words. `images_ns` are the stamps of the images.
    """

    received: bool = False
    corrections: dict[str, Correction] = field(default_factory=dict)
    unsure_ns: list[tuple[int, int, str]] = field(default_factory=list)
    strays_ns: dict[str, set[int]] = field(default_factory=dict)
    twice_ns: list[tuple[int, int]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    images_ns: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))

    def stamp_ns(self, topic: str, header_ns: int, received_ns: int) -> int:
        """The stamp of a message; one without a header stamp (0) counts as stamped when it was received."""
        if self.received:
            return received_ns
        stamp_ns = header_ns or received_ns
        correction = self.corrections.get(topic)
        return stamp_ns + correction.shift_ns(received_ns) if correction else stamp_ns

    def apart(self, image_topic: str, pose_topic: str | None) -> bool:
        """Whether images and poses are corrected each by numbers of its own, which are as good as the reception is
        regular.
        """
        ours = self.corrections.get(image_topic)
        edges = [name for name in self.corrections if pose_topic and name.startswith(f"{pose_topic} (")]
        theirs = [self.corrections.get(name) for name in edges or [pose_topic or ""]]
        return any((ours and ours.shifts_ns) != (it and it.shifts_ns) for it in theirs)

    def is_stray(self, topic: str, received_ns: int) -> bool:
        """Whether the stamp of that message says nothing."""
        twice = any(first <= received_ns <= last for first, last in self.twice_ns)
        return twice or received_ns in self.strays_ns.get(topic, ())

    def doubt(self, topic: str, received_ns: int) -> str:
        """Why an image of `topic` received then must not have a pose; "" when it may."""
        if received_ns in self.strays_ns.get(topic, ()):
            return "its stamp is none between those of the images before and after"
        return next((why for first, last, why in self.unsure_ns if first <= received_ns <= last), "")


@dataclass(frozen=True, eq=False)
class StampLog:
    """Header stamps (N,) of a topic and when they were received, in that order."""

    header_ns: Int64
    received_ns: Int64

    @property
    def early_ns(self) -> Int64:
        """How far the header's clock is ahead of the recorder's; below zero where messages are only late."""
        return self.header_ns - self.received_ns

    def level_ns(self, first: int, last: int) -> float:
        """How early the messages from `first` up to `last` usually are."""
        return float(np.median(self.early_ns[first:last]))


@dataclass(frozen=True)
class _Step:
    """The clock of the log `name` was set by `by_ns` before message `at`. `sure`: its own messages leave no doubt."""

    name: str
    at: int
    by_ns: int
    sure: bool


@dataclass
class _Setting:
    """A clock that was set: between two times of reception, by what the topics on it show, each before its message
    `at`.

    `doubtful`: another topic shows about as much at that time, on the same clock or on another.
    """

    after_ns: int
    until_ns: int
    steps: dict[str, _Step]
    doubtful: bool = False

    @property
    def by_ns(self) -> int:
        return _median(np.array([step.by_ns for step in self.steps.values()]))

    @property
    def sure(self) -> bool:
        return not self.doubtful and (len(self.steps) > 1 or any(step.sure for step in self.steps.values()))

    def meets(self, after_ns: int, until_ns: int) -> bool:
        return at_one_time((after_ns, until_ns), (self.after_ns, self.until_ns))


def find_clocks(
    reader: BagReader, image_topic: str, others: Collection[str], stamps: Stamps, reach_ns: int = 0
) -> StampCorrections:
    """The clocks of a recording: with "auto", stamps of `others` are brought to the clock of the images.

    Over silences up to `reach_ns` poses are interpolated: so far from times that were passed twice images have none.
    Stamps that jump are joined first. The corrections come from medians of header minus reception, so that they hold
    none of the jitter of reception. `others` are topics whose messages begin with a header, or TF.
    """
    clocks = StampCorrections(received=stamps == "received", twice_ns=_passed_twice(reader, [image_topic, *others]))
    for first_ns, last_ns in clocks.twice_ns:
        why = f"the recorder's own clock was set back by {(last_ns - first_ns) / SECOND_NS:.3f} s then"
        around_ns = max(STRAY_NS // 2, reach_ns)
        clocks.unsure_ns.append((first_ns - around_ns, last_ns + around_ns, why))
        clocks.warnings.append(
            f"the recorder's own clock was set back by about {(last_ns - first_ns) / SECOND_NS:.3f} s while it "
            f"recorded: what it received at times that came twice is left out ({TIME_JUMP})"
        )
    if clocks.received:
        received_ns = [at for _, at, _ in reader.stamps([image_topic])]
        clocks.images_ns = np.array(received_ns, dtype=np.int64)
        return clocks
    logs = _read(reader, [image_topic, *others], clocks)
    settings = _settings(logs, clocks)
    sure = [setting for setting in settings if setting.sure]
    if stamps == "auto":
        straight = _joined(logs, sure, image_topic, clocks)
        _tell_unsure([setting for setting in settings if not setting.sure], logs, image_topic, clocks)
    else:
        straight = {}
        _tell_unsure([it for it in settings if set(it.steps) != set(logs)], logs, image_topic, clocks)
        clocks.unsure_ns += [_around(it) for it in settings if set(it.steps) == set(logs)]
    images = straight.pop(image_topic, None)
    if image_topic in logs:
        clocks.images_ns = (images or logs[image_topic]).header_ns
    if images is not None:
        for name, log in straight.items():
            _compare(name, log, image_topic, images, clocks)
    return clocks


def _passed_twice(reader: BagReader, topics: list[str]) -> list[tuple[int, int]]:
    """Times of reception that the recorder's clock passed twice, since it was set back: the first and last of each.

    There a topic's next message is written too soon after its last, or before it, and earlier than what was written
    just before by others. Messages that were merely written out of order keep the distance from the last of their
    topic.
    """
    written = reader.in_storage_order(topics)
    if not written:
        return []
    numbers = {topic: i for i, topic in enumerate(topics)}
    topic_of = np.array([numbers[topic] for topic, _ in written])
    received = np.array([at_ns for _, at_ns in written], dtype=np.int64)
    newest = np.maximum.accumulate(received)
    cuts = set[int]()
    for i in range(len(topics)):
        own = np.flatnonzero(topic_of == i)
        gap = np.diff(received[own])
        if len(gap):
            early = gap < np.median(gap) - 0.9 * LEAST_STEP_NS
            at = own[1:][early]
            cuts |= set(at[received[at] < newest[at]].tolist())
    found = []
    for begin, end in itertools.pairwise([*sorted(cuts), len(received)]):
        first = int(max(received[:begin].min(), received[begin:end].min()))
        last = int(min(newest[begin - 1], received[begin:end].max()))
        if first <= last:
            found.append((first, last))
    return _merged(found)


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of time that overlap, or nearly do, as one."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + LEAST_STEP_NS:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return found


def _read(reader: BagReader, topics: list[str], clocks: StampCorrections) -> dict[str, StampLog]:
    found: dict[str, tuple[array[int], array[int]]] = {}
    for name, received_ns, header_ns in reader.stamps(topics, by_edge=True):
        if clocks.is_stray(name, received_ns):
            continue
        headers, received = found.setdefault(name, (array("q"), array("q")))
        headers.append(header_ns or received_ns)
        received.append(received_ns)
    return {
        name: StampLog(np.frombuffer(headers, np.int64), np.frombuffer(received, np.int64))
        for name, (headers, received) in found.items()
    }


def find_jumps(log: StampLog) -> Int64:
    """Indices of the messages with which the stamping clock may have been set forward or back.

    A burst of late messages is none: there the reception stalls and the stamps go on.
    """
    step, gap, against = _steps_and_gaps(log)
    if len(step) < 2:  # of two messages nothing is usual
        jumps = np.abs(against) > _least_step_ns(log)
    else:
        jumps = are_steps(step, gap, (float(np.median(step)), float(np.median(gap))), _least_step_ns(log))
    return np.flatnonzero(jumps) + 1


def _steps_and_gaps(log: StampLog) -> tuple[Float64, Float64, Float64]:
    """From message to message, ns (N-1,): of the stamps, of the reception at the stamps' pace, and their difference."""
    step, gap = np.diff(log.header_ns).astype(np.float64), np.diff(log.received_ns).astype(np.float64)
    usual_step, usual_gap = (float(np.median(it)) if len(it) else 0.0 for it in (step, gap))
    pace = pace_of(usual_step, usual_gap, len(step))
    return step, gap * pace, step - gap * pace


def _least_step_ns(log: StampLog) -> float:
    """The least step that stands out from the jitter of the reception."""
    if len(log.header_ns) < 2:
        return SURE_STEP_NS
    noise = float(np.median(np.abs(_steps_and_gaps(log)[2]))) if len(log.header_ns) > 2 else 0.0
    return least_step_ns(noise)


def _own_steps(name: str, log: StampLog, clocks: StampCorrections) -> list[_Step]:
    """The steps that the messages of one topic show, without what does not last; strays are handed to `clocks`."""
    if len(log.header_ns) < 2:
        return []
    begins = find_jumps(log).tolist()
    least_ns = _least_step_ns(log)
    strays = set[int]()
    while True:
        if is_erratic(len(begins), len(log.header_ns)):
            why = f"header stamps of {name} jump {len(begins)} times: that is no clock"
            clocks.unsure_ns.append((0, 2**63 - 1, why))
            clocks.warnings.append(f"{why}; --stamps received uses the recorder's")
            return []
        found = [_measured(name, log, begins, i, least_ns) for i in range(len(begins))]
        gone = {step.at for step in found if abs(step.by_ns) < least_ns}
        for a, b in itertools.pairwise(found):
            brief = log.received_ns[b.at - 1] - log.received_ns[a.at] < STRAY_NS and b.at - a.at < ENOUGH
            if brief and abs(a.by_ns + b.by_ns) < least_ns and not {a.at, b.at} & gone:
                gone |= {a.at, b.at}
                strays |= set(log.received_ns[a.at : b.at].tolist())
        if not gone:
            if strays:
                clocks.strays_ns[name] = strays
                clocks.warnings.append(
                    f"{len(strays)} of {len(log.header_ns)} messages of {name} left out: stamped unlike those before "
                    "and after"
                )
            return found
        begins = [at for at in begins if at not in gone]


def _measured(name: str, log: StampLog, begins: list[int], i: int, least_ns: float) -> _Step:
    edges = [0, *begins, len(log.header_ns)]
    before, at, after = edges[i], edges[i + 1], edges[i + 2]
    by_ns = _height_ns(log, before, at, after)
    lasting = min(at - before, after - at) >= ENOUGH
    sure = lasting or (abs(by_ns) > max(SURE_STEP_NS, least_ns) and len(log.header_ns) > 2)
    return _Step(name, at, by_ns, sure)


def _height_ns(log: StampLog, before: int, at: int, after: int) -> int:
    """How much earlier messages are from `at` on, by those next to it between `before` and `after`."""
    behind = log.level_ns(at, min(after, at + NEIGHBOURS))
    return round(behind - log.level_ns(max(before, at - NEIGHBOURS), at))


def _settings(logs: dict[str, StampLog], clocks: StampCorrections) -> list[_Setting]:
    """The times at which clocks were set, with all topics that show it, in order of reception."""
    steps = {name: _own_steps(name, log, clocks) for name, log in logs.items()}
    found: list[_Setting] = []
    for step in sorted(itertools.chain(*steps.values()), key=lambda it: (not it.sure, -len(logs[it.name].header_ns))):
        received = logs[step.name].received_ns
        after_ns, until_ns = int(received[step.at - 1]), int(received[step.at])
        for known in found:
            if not known.meets(after_ns, until_ns) or step.name in known.steps:
                continue
            if all(alike(step.by_ns, it.by_ns) for it in known.steps.values()):
                known.steps[step.name] = step
                known.after_ns = max(known.after_ns, after_ns)
                known.until_ns = max(known.after_ns, min(known.until_ns, until_ns))
                break
        else:
            found.append(_Setting(after_ns, until_ns, {step.name: step}))
    found.sort(key=lambda it: it.until_ns)
    for a, b in itertools.combinations(found, 2):
        less_ns, more_ns = sorted((a.by_ns, b.by_ns), key=abs)
        nearly = alike(less_ns, more_ns, STEADY_NS) and a.meets(b.after_ns, b.until_ns)
        if nearly and not a.steps.keys() & b.steps.keys():
            a.doubtful = b.doubtful = True
    for setting in found:
        for name, log in logs.items():
            if name not in setting.steps:
                _look_again(setting, name, log, steps[name], logs)
    return found


def _look_again(setting: _Setting, name: str, log: StampLog, own: list[_Step], logs: dict[str, StampLog]) -> None:
    """Whether a topic that alone shows no step is on the clock that was set, knowing when and by how much it was."""
    received, by_ns = log.received_ns, setting.by_ns
    first = int(np.searchsorted(received, setting.after_ns - STRAY_NS // 2))
    last = int(np.searchsorted(received, setting.until_ns + STRAY_NS // 2, side="right"))
    ats = np.arange(max(first, 1), min(last + 1, len(received)))
    if len(ats):
        against = _steps_and_gaps(log)[2][ats - 1]
        at = int(ats[np.argmin(np.abs(against - by_ns))])
        edges = [0, *(step.at for step in own), len(received)]
        if at in edges:
            return  # the step of another setting
        after = next(edge for edge in edges if edge > at)
        before = max(edge for edge in edges if edge < at)
        height_ns = _height_ns(log, before, at, after)
        if alike(height_ns, by_ns):
            setting.steps[name] = _Step(name, at, by_ns, False)
            return
        if any(first <= step.at <= last for step in own):
            return
        if first > 0 and last < len(received):
            setting.doubtful |= alike(height_ns, by_ns, STEADY_NS)
            return
    # All its messages lie on one side: it is on that clock if its stamps go with those of the topics that are.
    known = max(setting.steps.values(), key=lambda it: len(logs[it.name].header_ns))
    other, at = logs[known.name], known.at
    apart_before_ns = log.level_ns(-NEIGHBOURS, len(received)) - other.level_ns(max(0, at - NEIGHBOURS), at)
    apart_behind_ns = log.level_ns(0, NEIGHBOURS) - other.level_ns(at, at + NEIGHBOURS)
    behind = on_that_side(apart_behind_ns, apart_before_ns)
    if behind and received[-1] > setting.after_ns:
        setting.steps[name] = _Step(name, 0, by_ns, False)
    elif not behind and received[0] < setting.until_ns:
        setting.steps[name] = _Step(name, len(received), by_ns, False)


def _around(setting: _Setting) -> tuple[int, int, str]:
    """When stamps that are used as they are may be of two times, or lie between two: around a clock set by a little.

    What was set by more is left to Trajectory.from_recording, which knows a recording that was merely played again.
    """
    by_ns = setting.by_ns
    why = f"the clock was set by {by_ns / SECOND_NS:+.3f} s then"
    if abs(by_ns) > SURE_STEP_NS:
        return setting.until_ns, setting.until_ns, why
    return setting.until_ns + by_ns - STRAY_NS // 2, setting.after_ns - by_ns + STRAY_NS // 2, why


def _joined(
    logs: dict[str, StampLog], settings: list[_Setting], image_topic: str, clocks: StampCorrections
) -> dict[str, StampLog]:
    """The stamps as the clocks would have gone on that ran in one part of the recording; what was done is reported.

    That part is the one in which the clocks go with that of the images, of several the one with the most images.
    """
    counts = _images_between(logs, settings, image_topic)
    tried = [{name: _straight(name, log, settings, kept) for name, log in logs.items()} for kept in range(len(counts))]

    def apart(kept: int) -> tuple[int, int]:
        straight = {name: log for name, (log, _) in tried[kept].items()}
        images = straight.pop(image_topic, None)
        offsets_ns = [abs(_apart_ns(log, images)) for log in straight.values()] if images is not None else []
        return sum(offset_ns // LEAST_STEP_NS for offset_ns in offsets_ns), -counts[kept]

    kept = min(range(len(counts)), key=apart)
    for name, (_, correction) in tried[kept].items():
        if correction is not None:
            clocks.corrections[name] = correction
        ats = [(it.steps[name].at, it.by_ns) for it in settings if name in it.steps]
        seen = [by_ns for at, by_ns in ats if 0 < at < len(logs[name].header_ns)]
        if seen:
            times = _TIMES.get(len(seen), f"{len(seen)} times")
            heights = ", ".join(f"{by_ns / SECOND_NS:+.3f} s" for by_ns in seen[:5])
            more = f", and {len(seen) - 5} more" if len(seen) > 5 else ""
            clocks.warnings.append(
                f"the clock of {name} was set {times} during the recording ({heights}{more}); its stamps were joined"
            )
    return {name: log for name, (log, _) in tried[kept].items()}


def _straight(name: str, log: StampLog, settings: list[_Setting], kept: int) -> tuple[StampLog, Correction | None]:
    """A topic's stamps as its clock, running after `kept` of the settings, would have gone on; and what to add."""
    own = sorted((it.steps[name].at, i, it.by_ns) for i, it in enumerate(settings) if name in it.steps)
    if not own:
        return log, None
    at_kept = sum(by_ns for _, i, by_ns in own if i < kept)
    shifts = [at_kept - offset for offset in itertools.accumulate((by_ns for _, _, by_ns in own), initial=0)]
    edges = [0, *(at for at, _, _ in own), len(log.header_ns)]
    parts = [(edges[i], shifts[i]) for i in range(len(shifts)) if edges[i + 1] > edges[i]]
    correction = Correction([int(log.received_ns[at]) for at, _ in parts], [shift for _, shift in parts])
    return StampLog(log.header_ns + np.repeat(shifts, np.diff(edges)), log.received_ns), correction


def _images_between(logs: dict[str, StampLog], settings: list[_Setting], image_topic: str) -> list[int]:
    """How many images came before, between and after the settings (all 0 where there is no image)."""
    received_ns = logs[image_topic].received_ns if image_topic in logs else np.zeros(0, np.int64)
    ends = [
        it.steps[image_topic].at if image_topic in it.steps else int(np.searchsorted(received_ns, it.until_ns))
        for it in settings
    ]
    return [last - first for first, last in itertools.pairwise([0, *ends, len(received_ns)])]


def _apart_ns(log: StampLog, images: StampLog) -> int:
    """By how much a clock is usually ahead of that of the images."""
    return _median(log.early_ns - _nearest(images, log.received_ns))


def _tell_unsure(
    settings: list[_Setting], logs: dict[str, StampLog], image_topic: str, clocks: StampCorrections
) -> None:
    """Settings that cannot be or are not joined: on one side of them images have stamps of another clock than poses."""
    images = logs.get(image_topic)
    for it in settings:
        few = all(len(logs[name].header_ns) < ENOUGH for name in it.steps)
        if images is None or (few and image_topic not in it.steps):
            continue
        why = not_shared(it.steps, it.by_ns)
        earlier, step = _apart_before(it, logs, images), it.steps.get(image_topic)
        after_ns, until_ns = it.after_ns, it.until_ns
        if step is not None and 0 < step.at < len(images.received_ns):
            after_ns, until_ns = (int(at_ns) for at_ns in images.received_ns[step.at - 1 : step.at + 1])
        elif step is None:  # images between two poses of either side are of no side
            after_ns, until_ns = until_ns, after_ns
        clocks.unsure_ns.append((0, after_ns, why) if earlier else (until_ns, 2**63 - 1, why))
        clocks.warnings.append(
            f"{why}: images {'before' if earlier else 'after'} that are left out ({TIME_JUMP}); --stamps received uses "
            "the recorder's clock"
        )


def _apart_before(setting: _Setting, logs: dict[str, StampLog], images: StampLog) -> bool:
    """Whether clocks differ more before than after the setting; where that is not seen, which side has fewer images."""
    step = max(setting.steps.values(), key=lambda it: len(logs[it.name].header_ns))
    log, at = logs[step.name], step.at
    others = [logs[name] for name in logs if name not in setting.steps]
    for other in sorted(others, key=lambda it: -len(it.header_ns)):
        middle = int(np.searchsorted(other.received_ns, setting.until_ns))
        if 0 < middle < len(other.received_ns) and 0 < at < len(log.received_ns):
            before = log.level_ns(max(0, at - NEIGHBOURS), at) - other.level_ns(max(0, middle - NEIGHBOURS), middle)
            behind = log.level_ns(at, at + NEIGHBOURS) - other.level_ns(middle, middle + NEIGHBOURS)
            return abs(before) > abs(behind)
    before = int(np.searchsorted(images.received_ns, setting.until_ns))
    return before < len(images.received_ns) - before


def _compare(topic: str, log: StampLog, image_topic: str, images: StampLog, clocks: StampCorrections) -> None:
    """Bring a topic to the clock of the images, if its own differs by a constant."""
    differences = log.early_ns - _nearest(images, log.received_ns)
    offset_ns = _median(differences)
    if abs(offset_ns) < _TOLD_NS:
        return
    spread_ns = float(np.median(np.abs(differences - offset_ns)))
    text = f"header stamps of {topic} are {offset_ns / SECOND_NS:+.3f} s from those of {image_topic} by their reception"
    if spread_ns > STEADY_NS:
        clocks.warnings.append(f"{text}, and that changes: they are used as they are")
        return
    if abs(offset_ns) < _OTHER_CLOCK_NS:
        clocks.warnings.append(f"{text}: other clocks or late messages; they are used as they are")
        return
    known = clocks.corrections.get(topic, Correction([int(log.received_ns[0])], [0]))
    clocks.corrections[topic] = Correction(known.from_ns, [shift - offset_ns for shift in known.shifts_ns])
    clocks.warnings.append(
        f"{text}: another clock; corrected by the median, which is good to the difference of their delays "
        "(--stamps header leaves them)"
    )


def _nearest(images: StampLog, received_ns: Int64) -> Int64:
    """How early the image received next to each time was stamped."""
    if len(images.received_ns) == 1:
        return np.repeat(images.early_ns, len(received_ns))
    after = np.searchsorted(images.received_ns, received_ns).clip(1, len(images.received_ns) - 1)
    earlier = received_ns - images.received_ns[after - 1] < images.received_ns[after] - received_ns
    return np.asarray(images.early_ns[np.where(earlier, after - 1, after)])


def _median(values: Int64 | Float64) -> int:
    return round(float(np.median(values)))
