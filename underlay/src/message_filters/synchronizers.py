"""Sets of messages that belong together, one from each filter."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from rclpy.duration import Duration
from rclpy.time import Time

from message_filters._stamps import stamp_of
from message_filters.simple_filter import SimpleFilter

Queue = dict[int, Any]  # messages by their stamps in nanoseconds


class TimeSynchronizer(SimpleFilter):
    """Hands on the messages of equal stamps, one from each filter.

    The callbacks run under the lock: one that feeds a filter of the same synchroniser never returns.
    What is older than a set when it is handed on is forgotten.
    """

    def __init__(self, fs: Sequence[SimpleFilter], queue_size: int) -> None:
        """At most `queue_size` messages of each filter wait; the oldest go first."""
        super().__init__()
        self.queue_size = queue_size
        self.lock = threading.Lock()
        self.connectInput(fs)

    def connectInput(self, fs: Sequence[SimpleFilter]) -> None:
        """Take the messages of these filters, each into a queue of its own."""
        self.queues: list[Queue] = [{} for _ in fs]
        self.input_connections = [
            f.registerCallback(self.add, queue, index)
            for index, (f, queue) in enumerate(zip(fs, self.queues, strict=True))
        ]

    def add(self, msg: Any, my_queue: Queue, my_queue_index: int | None = None) -> None:
        """Take a message into its queue; hand on the set that it completes."""
        with self.lock:
            stamp_ns = Time.from_msg(msg.header.stamp).nanoseconds
            self._put(msg, stamp_ns, my_queue)
            if all(stamp_ns in queue for queue in self.queues):
                self._hand_on([stamp_ns] * len(self.queues))
                for queue in self.queues:
                    for older_ns in [t for t in queue if t < stamp_ns]:
                        del queue[older_ns]

    def _put(self, msg: Any, stamp_ns: int, queue: Queue) -> None:
        queue[stamp_ns] = msg
        while len(queue) > self.queue_size:
            del queue[min(queue)]

    def _hand_on(self, stamps_ns: Sequence[int]) -> None:
        """Signal the messages of these stamps, one per queue, and forget them."""
        pairs = list(zip(self.queues, stamps_ns, strict=True))
        self.signalMessage(*(queue[stamp_ns] for queue, stamp_ns in pairs))
        for queue, stamp_ns in pairs:
            del queue[stamp_ns]


class ApproximateTimeSynchronizer(TimeSynchronizer):
    """Hands on messages whose stamps lie less than `slop` seconds apart, one from each filter.

    The latest arrival decides: of the others those nearest to its stamp are taken, first of all in the first filter.
    """

    def __init__(
        self, fs: Sequence[SimpleFilter], queue_size: int, slop: float, allow_headerless: bool = False
    ) -> None:
        """With `allow_headerless` a message without a stamp gets the time it came in; else it is left out."""
        super().__init__(fs, queue_size)
        self.slop = Duration(seconds=slop)
        self.allow_headerless = allow_headerless

    def add(self, msg: Any, my_queue: Queue, my_queue_index: int | None = None) -> None:
        """Take a message into its queue; hand on the set that it completes."""
        stamp = stamp_of(msg, self.allow_headerless, "message_filters_approx")
        if stamp is None:
            return
        with self.lock:
            self._put(msg, stamp.nanoseconds, my_queue)
            near = [
                [stamp.nanoseconds] if index == my_queue_index else self._near(queue, stamp.nanoseconds)
                for index, queue in enumerate(self.queues)
            ]
            chosen = next(_within(near, self.slop.nanoseconds), None)
            # The queue may have been too full for the message itself.
            if chosen and all(t in queue for t, queue in zip(chosen, self.queues, strict=True)):
                self._hand_on(chosen)

    def _near(self, queue: Queue, stamp_ns: int) -> list[int]:
        """The stamps of a queue within the slop of a stamp, the nearest first."""
        near = [t for t in queue if abs(t - stamp_ns) <= self.slop.nanoseconds]
        return sorted(near, key=lambda t: abs(t - stamp_ns))


def _within(candidates: list[list[int]], slop_ns: int, chosen: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """The choices of one stamp per queue that span less than the slop, in the order of the candidates.

    The originals try every combination; here one that spans too much already is not gone on with.
    """
    if len(chosen) == len(candidates):
        yield chosen
        return
    for stamp_ns in candidates[len(chosen)]:
        longer = (*chosen, stamp_ns)
        if max(longer) - min(longer) < slop_ns:
            yield from _within(candidates, slop_ns, longer)
