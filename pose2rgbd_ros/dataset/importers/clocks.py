"""Which clock stamps which topic: header stamps where the topics agree, corrected ones where their clocks differ."""

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

Stamps = Literal["auto", "header", "received"]
SECOND_NS = 1_000_000_000
# A stamp that goes another way than the reception by this much, while messages keep coming, is a clock that was set.
_JUMP_NS = SECOND_NS
# From here on two topics have different clocks; below, one of them may only be late. What is late for sure is told.
_OTHER_CLOCK_NS, _TOLD_NS = 3 * SECOND_NS, SECOND_NS
# The difference of two clocks is constant when half of what is seen of it lies this near to its median.
_STEADY_NS = SECOND_NS // 2
# More jumps than this part of the messages are no clock at all.
_ERRATIC = 0.05
_NEIGHBOURS = 20


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
class Clocks:
    """Gives messages their stamps. Without corrections: the header's, or the reception's with `received`."""

    received: bool = False
    corrections: dict[str, Correction] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def stamp_ns(self, topic: str, header_ns: int, received_ns: int) -> int:
        """The stamp of a message; one without a header stamp (0) counts as stamped when it was received."""
        if self.received:
            return received_ns
        stamp_ns = header_ns or received_ns
        correction = self.corrections.get(topic)
        return stamp_ns + correction.shift_ns(received_ns) if correction else stamp_ns


@dataclass(frozen=True, eq=False)
class StampLog:
    """Header stamps (N,) of a topic and when they were received, in that order."""

    header_ns: Int64
    received_ns: Int64

    @property
    def early_ns(self) -> Int64:
        """How far the header's clock is ahead of the recorder's; below zero where messages are only late."""
        return self.header_ns - self.received_ns


def find_clocks(reader: BagReader, image_topic: str, others: Collection[str], stamps: Stamps) -> Clocks:
    """The clocks of a recording: with "auto", stamps of `others` are brought to the clock of the images.

    Stamps that jump are joined first. The corrections come from medians of header minus reception, so that they hold
    none of the jitter of reception. `others` are topics whose messages begin with a header, or TF.
    """
    if stamps != "auto":
        return Clocks(received=stamps == "received")
    logs = _read(reader, [image_topic, *others])
    clocks, straight = Clocks(), dict[str, StampLog]()
    for topic, log in logs.items():
        straight[topic] = _without_jumps(topic, log, clocks)
    images = straight.pop(image_topic, None)
    if images is not None:
        for topic, log in straight.items():
            _compare(topic, log, image_topic, images, clocks)
    return clocks


def _read(reader: BagReader, topics: list[str]) -> dict[str, StampLog]:
    found = {topic: (array("q"), array("q")) for topic in topics}
    for topic, received_ns, header_ns in reader.stamps(topics):
        headers, received = found[topic]
        headers.append(header_ns or received_ns)
        received.append(received_ns)
    return {
        topic: StampLog(np.frombuffer(headers, np.int64), np.frombuffer(received, np.int64))
        for topic, (headers, received) in found.items()
        if len(headers) > 1
    }


def _without_jumps(topic: str, log: StampLog, clocks: Clocks) -> StampLog:
    """The stamps as the clock would have gone on that stamped the longest part of the recording."""
    begins = find_jumps(log)
    if not len(begins):
        return log
    if len(begins) > _ERRATIC * len(log.header_ns):
        clocks.notes.append(
            f"header stamps of {topic} jump {len(begins)} times and are used as they are; --stamps received uses the "
            "recorder's clock"
        )
        return log
    edges = [0, *begins.tolist(), len(log.header_ns)]
    early = log.early_ns
    offsets = [0]
    for before, at, after in zip(edges, edges[1:], edges[2:], strict=False):
        jump = _median(early[at : min(after, at + _NEIGHBOURS)]) - _median(
            early[max(before, at - _NEIGHBOURS) : at]
        )
        offsets.append(offsets[-1] + jump)
    main = int(np.argmax(np.diff(edges)))
    shifts = [offsets[main] - offset for offset in offsets]
    starts = [int(log.received_ns[at]) for at in edges[:-1]]
    clocks.corrections[topic] = Correction(starts, shifts)
    jumps = ", ".join(f"{(b - a) / SECOND_NS:+.3f} s" for a, b in itertools.pairwise(offsets[:5]))
    clocks.notes.append(
        f"the clock of {topic} was set {len(begins)} times during the recording ({jumps}); its stamps were joined"
    )
    return StampLog(log.header_ns + np.repeat(shifts, np.diff(edges)), log.received_ns)


def find_jumps(log: StampLog) -> Int64:
    """Indices of the messages with which the stamping clock was set forward or back.

    A burst of late messages is none: there the reception stalls and the stamps go on.
    """
    step, gap = np.diff(log.header_ns), np.diff(log.received_ns)
    unusual_step, unusual_gap = np.abs(step - np.median(step)), np.abs(gap - np.median(gap))
    jumps = (np.abs(step - gap) > _JUMP_NS) & (unusual_step > unusual_gap)
    return np.flatnonzero(jumps) + 1


def _compare(topic: str, log: StampLog, image_topic: str, images: StampLog, clocks: Clocks) -> None:
    """Bring a topic to the clock of the images, if its own differs by a constant."""
    differences = log.early_ns - _nearest(images, log.received_ns)
    offset_ns = _median(differences)
    if abs(offset_ns) < _TOLD_NS:
        return
    spread_ns = float(np.median(np.abs(differences - offset_ns)))
    text = f"header stamps of {topic} are {offset_ns / SECOND_NS:+.3f} s from those of {image_topic} by their reception"
    if spread_ns > _STEADY_NS:
        clocks.notes.append(f"{text}, and that changes: they are used as they are")
        return
    if abs(offset_ns) < _OTHER_CLOCK_NS:
        clocks.notes.append(f"{text}: other clocks or late messages; they are used as they are")
        return
    known = clocks.corrections.get(topic, Correction([int(log.received_ns[0])], [0]))
    clocks.corrections[topic] = Correction(known.from_ns, [shift - offset_ns for shift in known.shifts_ns])
    clocks.notes.append(
        f"{text}: another clock; corrected by the median, which is good to the difference of their delays "
        "(--stamps header leaves them)"
    )


def _nearest(images: StampLog, received_ns: Int64) -> Int64:
    """How early the image received next to each time was stamped."""
    after = np.searchsorted(images.received_ns, received_ns).clip(1, len(images.received_ns) - 1)
    earlier = received_ns - images.received_ns[after - 1] < images.received_ns[after] - received_ns
    return np.asarray(images.early_ns[np.where(earlier, after - 1, after)])


def _median(values: Int64 | Float64) -> int:
    return round(float(np.median(values)))
