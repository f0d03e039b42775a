"""Pairs each image with the depth image nearest in time, while both stream by."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

# How much may wait for its partner: bounds the memory when one of the two streams falls silent.
_MOST_WAITING = 30
_LONGEST_WAIT_NS = 1_000_000_000


@dataclass(frozen=True)
class Waiting:
    """A message that waits for its partner."""

    stamp_ns: int
    received_ns: int
    message: Any


Pair = tuple[Waiting, Any]  # an image and its depth message, or None


class DepthPairing:
    """Feed messages as they were received; images come back, in that order, once their depth is known.

    An image is settled when a depth image of the same or a later stamp has arrived, or when it has waited too long.
    One depth image may serve several images. `tolerance_ns`: largest difference of the two stamps.
    """

    def __init__(self, tolerance_ns: int) -> None:
        self._tolerance_ns = tolerance_ns
        self._images: deque[Waiting] = deque()
        self._depths: deque[Waiting] = deque(maxlen=_MOST_WAITING)
        self._newest_depth_ns = -1

    def add_image(self, stamp_ns: int, received_ns: int, message: Any) -> list[Pair]:
        """Settled pairs, now that this image has arrived."""
        self._images.append(Waiting(stamp_ns, received_ns, message))
        return self._settled(received_ns)

    def add_depth(self, stamp_ns: int, received_ns: int, message: Any) -> list[Pair]:
        """Settled pairs, now that this depth image has arrived."""
        self._depths.append(Waiting(stamp_ns, received_ns, message))
        self._newest_depth_ns = max(self._newest_depth_ns, stamp_ns)
        return self._settled(received_ns)

    def finish(self) -> list[Pair]:
        """The remaining pairs, at the end of the recording."""
        pairs = [(image, self._nearest(image.stamp_ns)) for image in self._images]
        self._images.clear()
        return pairs

    def _settled(self, now_ns: int) -> list[Pair]:
        pairs = []
        while self._images:
            first = self._images[0]
            overdue = len(self._images) > _MOST_WAITING or now_ns - first.received_ns > _LONGEST_WAIT_NS
            if self._newest_depth_ns < first.stamp_ns and not overdue:
                break
            self._images.popleft()
            pairs.append((first, self._nearest(first.stamp_ns)))
            self._forget_depths_before(first.stamp_ns - self._tolerance_ns)
        return pairs

    def _nearest(self, stamp_ns: int) -> Any | None:
        best = min(self._depths, key=lambda depth: abs(depth.stamp_ns - stamp_ns), default=None)
        if best is None or abs(best.stamp_ns - stamp_ns) > self._tolerance_ns:
            return None
        return best.message

    def _forget_depths_before(self, stamp_ns: int) -> None:
        while self._depths and self._depths[0].stamp_ns < stamp_ns:
            self._depths.popleft()
