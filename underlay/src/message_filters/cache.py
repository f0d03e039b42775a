"""The newest messages of a filter, to be asked for by time."""

from __future__ import annotations

from typing import Any

from rclpy.time import Time

from message_filters._stamps import stamp_of
from message_filters.simple_filter import SimpleFilter


class Cache(SimpleFilter):
    """Keeps the last `cache_size` messages in the order they came in, and hands each on."""

    def __init__(self, f: SimpleFilter, cache_size: int = 1, allow_headerless: bool = False) -> None:
        """With `allow_headerless` a message without a stamp gets the time it came in; else it is left out."""
        super().__init__()
        self.cache_size = cache_size
        self.cache_msgs: list[Any] = []
        self.cache_times: list[Time] = []  # of cache_msgs, one by one
        self.allow_headerless = allow_headerless
        self.connectInput(f)

    def connectInput(self, f: SimpleFilter) -> None:
        """Take the messages of one more filter."""
        self.incoming_connection = f.registerCallback(self.add)

    def add(self, msg: Any) -> None:
        """Take a message."""
        stamp = stamp_of(msg, self.allow_headerless, "message_filters_cache")
        if stamp is None:
            return
        self.cache_times.append(stamp)
        self.cache_msgs.append(msg)
        if len(self.cache_msgs) > self.cache_size:
            del self.cache_msgs[0], self.cache_times[0]
        self.signalMessage(msg)

    def getInterval(self, from_stamp: Time, to_stamp: Time) -> list[Any]:
        """The messages of an interval of time, its ends included, in the order they came in."""
        assert from_stamp <= to_stamp
        return [m for m, t in zip(self.cache_msgs, self.cache_times, strict=True) if from_stamp <= t <= to_stamp]

    def getElemAfterTime(self, stamp: Time) -> Any | None:
        """The message that came in first of those at or after a time."""
        pairs = zip(self.cache_msgs, self.cache_times, strict=True)
        return next((message for message, time in pairs if time >= stamp), None)

    def getElemBeforeTime(self, stamp: Time) -> Any | None:
        """The message that came in last of those at or before a time."""
        pairs = zip(reversed(self.cache_msgs), reversed(self.cache_times), strict=True)
        return next((message for message, time in pairs if time <= stamp), None)

    def getLastestTime(self) -> Time | None:
        """The stamp of the message that came in last."""
        return self.cache_times[-1] if self.cache_times else None

    def getOldestTime(self) -> Time | None:
        """The stamp of the message that came in first."""
        return self.cache_times[0] if self.cache_times else None

    def getLast(self) -> Any | None:
        """The message that came in first of those with the latest message's stamp or a later one."""
        latest = self.getLastestTime()
        return None if latest is None else self.getElemAfterTime(latest)
