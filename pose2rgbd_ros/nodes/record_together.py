"""Several cameras that fire together: only images of all of them are taken."""

from __future__ import annotations

from collections.abc import Iterable

from builtin_interfaces.msg import Time
from message_filters import ApproximateTimeSynchronizer, SimpleFilter
from std_msgs.msg import Header

from pose2rgbd_ros.nodes.conversions import to_stamp
from pose2rgbd_ros.nodes.record_inputs import Arrival
from pose2rgbd_ros.nodes.record_tally import Tally

NOT_TOGETHER = "not_together"
_QUEUE = 20  # images of a camera that wait for those of the others
_LATE_NS = 1_000_000_000  # an image whose fellows have not come by the time of images so much newer has none
_Pair = tuple[int, Arrival]


class _Image:
    """What message_filters looks at."""

    def __init__(self, camera: str, pair: _Pair) -> None:
        stamp: Time = to_stamp(pair[0])
        self.camera, self.pair, self.header = camera, pair, Header(stamp=stamp)


class Together:
    """Images by camera in, images of all cameras out; the others are counted as rejected, "not_together"."""

    def __init__(self, within_s: float, tallies: dict[str, Tally]) -> None:
        self._tallies = tallies
        self._waiting: dict[str, dict[int, _Image]] = {name: {} for name in tallies}
        self._ready: list[_Image] = []
        self._filters = {name: SimpleFilter() for name in tallies}
        self._synchronizer = ApproximateTimeSynchronizer(list(self._filters.values()), _QUEUE, within_s)
        self._synchronizer.registerCallback(self._matched)

    def add(self, camera: str, stamp_ns: int, arrival: Arrival) -> Iterable[tuple[str, _Pair]]:
        """The images, with their cameras, that this one completes."""
        waiting = self._waiting[camera]
        if stamp_ns in waiting:
            self._tallies[camera].reject("duplicate_stamp")
            return []
        image = _Image(camera, (stamp_ns, arrival))
        waiting[stamp_ns] = image
        self._filters[camera].signalMessage(image)
        ready, self._ready = self._ready, []
        for found in ready:
            del self._waiting[found.camera][found.pair[0]]
        self._reject_before(stamp_ns - _LATE_NS)
        return [(found.camera, found.pair) for found in ready]

    def forget(self, reason: str) -> None:
        """Reject all that wait, because time jumped or nothing more will come."""
        for queue in self._synchronizer.queues:
            queue.clear()
        for camera, waiting in self._waiting.items():
            for _ in waiting:
                self._tallies[camera].reject(reason)
            waiting.clear()

    def _matched(self, *images: _Image) -> None:
        self._ready += images

    def _reject_before(self, stamp_ns: int) -> None:
        for (camera, waiting), queue in zip(self._waiting.items(), self._synchronizer.queues, strict=True):
            for late_ns in [known_ns for known_ns in waiting if known_ns < stamp_ns]:
                del waiting[late_ns]
                queue.pop(
                    late_ns, None
                )  # message_filters lets go of the oldest by itself when there are many
                self._tallies[camera].reject(NOT_TOGETHER)
