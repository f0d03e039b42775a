"""The history of one frame: where it was, seen from its parent, and when."""

from __future__ import annotations

from bisect import bisect_right

from tf2_py._rigid import Rigid, interpolate

Sample = tuple[str, Rigid]  # parent frame, T_parent_frame


def seconds(stamp_ns: int) -> str:
    """The stamp in seconds with six decimals, rounded as tf2 does."""
    return f"{stamp_ns // 1_000_000_000 + (stamp_ns % 1_000_000_000) * 1e-9:.6f}"


class StaticCache:
    """A frame that never moves: the last transform told, valid at every time."""

    is_static = True

    def __init__(self) -> None:
        self._sample: Sample | None = None

    def insert(self, stamp_ns: int, sample: Sample) -> bool:
        self._sample = sample
        return True

    def at(self, stamp_ns: int) -> Sample | None:
        return self._sample

    def latest(self) -> tuple[int, str | None]:
        """(0, parent): time 0 means "any time" to the search for the latest common time."""
        return 0, self._sample[0] if self._sample else None

    def stamps_ns(self) -> tuple[int, int, int]:
        return 0, 0, 1

    def clear(self) -> None:
        """Static frames outlive a clear, as in tf2."""

    def why_not(self, stamp_ns: int) -> str:
        return ""


class TimeCache:
    """A frame that moves: samples in order of time, kept for `keep_ns` behind the newest.

    Appending is O(1), inserting late data O(n) in C, looking up O(log n).
    """

    is_static = False

    def __init__(self, keep_ns: int) -> None:
        self._keep_ns = keep_ns
        self._stamps_ns: list[int] = []
        self._samples: list[Sample] = []
        # what lies before was dropped; the lists are cut now and then, not every time
        self._first = 0

    def insert(self, stamp_ns: int, sample: Sample) -> bool:
        """Keep the sample; False when it is older than the history reaches."""
        if self._first == len(self._stamps_ns):
            self._replace([stamp_ns], [sample])
            return True
        newest_ns = self._stamps_ns[-1]
        oldest_kept_ns = newest_ns - self._keep_ns
        self._drop_before(oldest_kept_ns)
        stamps = self._stamps_ns
        if stamp_ns > newest_ns:
            stamps.append(stamp_ns)
            self._samples.append(sample)
            return True
        if stamp_ns < oldest_kept_ns:
            return False
        index = bisect_right(stamps, stamp_ns, self._first)
        if not self._is_known(index - 1, stamp_ns, sample):
            stamps.insert(index, stamp_ns)
            self._samples.insert(index, sample)
        return True

    def at(self, stamp_ns: int) -> Sample | None:
        """The sample at that time, interpolated between its neighbours; the newest at time 0; None outside."""
        stamps, samples = self._stamps_ns, self._samples
        if self._first == len(stamps):
            return None
        if stamp_ns == 0 or stamp_ns == stamps[-1]:
            return samples[-1]
        if stamp_ns == stamps[self._first]:
            return samples[self._first]
        index = bisect_right(stamps, stamp_ns, self._first)
        if index == len(stamps) or index == self._first:
            return None
        older_ns, newer_ns = stamps[index - 1], stamps[index]
        older, newer = samples[index - 1], samples[index]
        if older_ns == stamp_ns or older[0] != newer[0]:
            return older
        return older[0], interpolate(older[1], newer[1], (stamp_ns - older_ns) / (newer_ns - older_ns))

    def latest(self) -> tuple[int, str | None]:
        """Time of the newest sample and its parent frame; (0, None) when empty."""
        if self._first == len(self._stamps_ns):
            return 0, None
        return self._stamps_ns[-1], self._samples[-1][0]

    def stamps_ns(self) -> tuple[int, int, int]:
        """(oldest, newest, count)."""
        if self._first == len(self._stamps_ns):
            return 0, 0, 0
        return self._stamps_ns[self._first], self._stamps_ns[-1], len(self._stamps_ns) - self._first

    def clear(self) -> None:
        self._replace([], [])

    def why_not(self, stamp_ns: int) -> str:
        """Why `at` gave None, in tf2's words."""
        oldest_ns, newest_ns, count = self.stamps_ns()
        if count == 0:
            return ""
        if count == 1:
            return (
                f"Lookup would require extrapolation at time {seconds(stamp_ns)}, "
                f"but only time {seconds(newest_ns)} is in the buffer"
            )
        if stamp_ns > newest_ns:
            return (
                f"Lookup would require extrapolation into the future.  Requested time {seconds(stamp_ns)} "
                f"but the latest data is at time {seconds(newest_ns)}"
            )
        return (
            f"Lookup would require extrapolation into the past.  Requested time {seconds(stamp_ns)} "
            f"but the earliest data is at time {seconds(oldest_ns)}"
        )

    def _replace(self, stamps_ns: list[int], samples: list[Sample]) -> None:
        self._stamps_ns, self._samples, self._first = stamps_ns, samples, 0

    def _drop_before(self, stamp_ns: int) -> None:
        stamps = self._stamps_ns
        while stamps[self._first] < stamp_ns:
            self._first += 1
        if self._first > 64 and 2 * self._first > len(stamps):
            self._replace(stamps[self._first :], self._samples[self._first :])

    def _is_known(self, index: int, stamp_ns: int, sample: Sample) -> bool:
        while index >= self._first and self._stamps_ns[index] == stamp_ns:
            if self._samples[index] == sample:
                return True
            index -= 1
        return False
