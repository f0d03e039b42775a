"""Everything received, as it is, into an mcap in the background."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path

from pose2rgbd_ros.bags.split import SplitBagWriter
from pose2rgbd_ros.nodes.record_inputs import NO_TIME, Arrival

_MIB = 1 << 20
MESSAGE_OVERHEAD = 200  # bytes a small message costs in the queue


class BagRecorder:
    """Writes messages in a thread of its own. `lost` counts those that found the queue full, or came after a failure.

    Messages of no known time (static transforms kept from before, all that arrives ahead of a simulated /clock) wait for the
    first one of a time, and get its time: at 0 they would have a player wait for decades.
    """

    def __init__(self, folder: Path, split_mib: int, queue_mib: int) -> None:
        self._bag = SplitBagWriter(folder, split_mib * _MIB)
        self._limit = queue_mib * _MIB
        self._changed = threading.Condition()
        self._queue: deque[Arrival] = deque()
        self._queued = 0
        self._timeless: list[Arrival] = []  # the thread's: they wait for a time
        self._closing = False
        self.lost = 0
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._run, name="pose2rgbd-bag", daemon=True)
        self._thread.start()

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._bag.folder

    @property
    def size(self) -> int:
        """What was written so far."""
        return self._bag.size

    def add(self, arrival: Arrival) -> None:
        """Queue a message."""
        size = len(arrival.data) + MESSAGE_OVERHEAD
        with self._changed:
            if self._closing:
                return
            if self.failure is not None or self._queued + size > self._limit:
                self.lost += 1
                return
            self._queue.append(arrival)
            self._queued += size
            self._changed.notify()

    def close(self) -> None:
        """Write what is queued, and finish the file."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._queue or self._closing)
                    if not self._queue:
                        break
                    arrival = self._queue.popleft()
                if arrival.received_ns == NO_TIME and self._bag.size == 0:
                    self._timeless.append(arrival)
                else:
                    self._write(arrival)
            # Without any clock: the newest stamp among them.
            self._write_timeless(max((arrival.stamp_ns for arrival in self._timeless), default=NO_TIME))
            self._bag.close()
        except Exception as error:  # the disk is full, or worse: the dataset goes on without the bag
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            with self._changed:
                self.lost += len(self._queue) + len(self._timeless)
                self._queue.clear()
                self.failure = (
                    f"cannot write the bag {self._bag.folder} ({reason}); the dataset goes on without it"
                )

    def _write(self, arrival: Arrival) -> None:
        self._write_timeless(arrival.received_ns)
        source = arrival.source
        static = source.role == "tf_static"
        self._bag.write(source.topic, source.type_name, arrival.data, arrival.received_ns, latched=static)
        with self._changed:
            self._queued -= len(arrival.data) + MESSAGE_OVERHEAD

    def _write_timeless(self, now_ns: int) -> None:
        """What waited, as of now."""
        waited, self._timeless = self._timeless, []
        for arrival in waited:
            self._write(arrival._replace(received_ns=max(now_ns, NO_TIME)))
