"""What is added to image stamps when their pose is looked up: as given, and as found from the pictures' motion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.bags.reader import BagReader
from pose2rgbd_ros.bags.topics import TopicChoice
from pose2rgbd_ros.dataset.alignment import measure_bag
from pose2rgbd_ros.dataset.importers.camera_track import CameraTrack
from pose2rgbd_ros.dataset.importers.clocks import Clocks
from pose2rgbd_ros.dataset.importers.config import Sync
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.streams.alignment.align import Alignment, AlignOptions, estimate_offset

_SUSPICIOUS_NS = 250_000_000  # of the clocks of images and poses, by their reception
_SURE_SIGMAS, _LEAST_OFF_S = 3.0, 0.05  # an offset of that much that is not applied makes poses wrong


@dataclass(frozen=True, eq=False)
class ImageClock:
    """`given_ns` is added to every stamp, and what was found and is `applied`; `doubtful` where poses may be of other times."""

    given_ns: int = 0
    found: Alignment | None = None
    applied: bool = False
    note: str = ""
    doubtful: bool = False

    def offset_ns(self, stamp_ns: int) -> int:
        """What to add to the stamp of an image."""
        if not self.applied or self.found is None:
            return self.given_ns
        return self.given_ns + int(self.found.offsets_ns(np.array([stamp_ns]))[0])

    @property
    def confidence(self) -> float | None:
        """Of what was applied."""
        return round(self.found.confidence, 3) if self.applied and self.found is not None else None


def find_image_clock(
    reader: BagReader, topics: TopicChoice, clocks: Clocks, track: CameraTrack, sync: Sync, given_ns: int
) -> ImageClock:
    """Estimate the offset as `sync` says; with "auto" only where the clocks look as if they differed."""
    if sync == "none":
        return ImageClock(given_ns)
    why, apart = _suspicion(reader, topics, clocks, track, given_ns)
    if sync == "auto" and not why:
        return ImageClock(given_ns)
    try:
        flow, motion = measure_bag(reader, topics, clocks, track)
        options = AlignOptions(max_offset_s=0.0 if apart else AlignOptions.max_offset_s)
        found = estimate_offset(flow.shifted(given_ns), motion, options)
    except UserError as error:
        found = Alignment(False, str(error))
    applied = found.observable and sync != "check"
    done = "applied" if applied else "not applied" if found.observable else "no offset was applied"
    because = f"{why}; " if why else ""
    off = found.observable and abs(found.offset_s) > max(_SURE_SIGMAS * found.sigma_s, _LEAST_OFF_S)
    return ImageClock(
        given_ns,
        found,
        applied,
        f"{because}{found.summary()}; {done} (pose2rgbd sync shows more)",
        doubtful=not applied and (off or bool(why) or sync == "apply"),
    )


def _suspicion(
    reader: BagReader, topics: TopicChoice, clocks: Clocks, track: CameraTrack, given_ns: int
) -> tuple[str, bool]:
    """Why the clocks of images and poses may differ, "" if nothing says so; and whether they never meet."""
    source = topics.fix if track.facts.position == "gps" else topics.pose or next(iter(topics.tf), None)
    wanted = [topic for topic in (topics.image, source) if topic]
    early: dict[str, list[int]] = {topic: [] for topic in wanted}
    first = last = None
    for topic, received_ns, header_ns in reader.stamps(wanted):
        early[topic].append((header_ns or received_ns) - received_ns)
        if topic == topics.image:
            stamp_ns = clocks.stamp_ns(topic, header_ns, received_ns) + given_ns
            first = stamp_ns if first is None else min(first, stamp_ns)
            last = stamp_ns if last is None else max(last, stamp_ns)
    if first is None or last is None:
        return "", False
    body = track.body.stamps_ns
    if last < body[0] or first > body[-1]:
        return "no image lies within the poses", True
    if clocks.apart(topics.image, source):
        return "the clocks of images and poses differ and were corrected by their reception", False
    if clocks.received or source is None or not early[source]:
        return "", False
    apart_ns = float(np.median(early[topics.image]) - np.median(early[source]))
    if abs(apart_ns) > _SUSPICIOUS_NS:
        return f"image stamps are {apart_ns / 1e9:+.2f} s from those of the poses by their reception", False
    return "", False
