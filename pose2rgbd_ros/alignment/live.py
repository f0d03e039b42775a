"""The same alignment while recording: the last minutes of flow and motion, in bounded memory."""

from __future__ import annotations

import contextlib
import threading
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pose2rgbd_ros.alignment.align import Alignment, AlignOptions, estimate_offset
from pose2rgbd_ros.alignment.flow import FlowConfig, FlowMeter, grey_image
from pose2rgbd_ros.alignment.signals import SECOND, MotionSignal, motion_from_coordinates, motion_from_poses
from pose2rgbd_ros.bags.reader import UNREADABLE
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import UInt8
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.streams.samples import FixSample, ImageSample, PoseSample

NOT_YET = Alignment(False, "too little was recorded so far")


@dataclass(frozen=True)
class LiveConfig:
    """What an estimate on the way looks at, and how often there is a new one."""

    keep_s: float = setting(120.0, "how far back images and motion are kept", ge=10.0, le=3600.0)
    every_s: float = setting(20.0, "time between two estimates", ge=1.0)
    motion_rate_hz: float = setting(50.0, "poses and turn rates in between are skipped", ge=1.0)
    flow: FlowConfig = field(default_factory=lambda: FlowConfig(width_px=128, max_rate_hz=10.0))
    align: AlignOptions = field(default_factory=lambda: AlignOptions(drift=False))


class LiveAlignment:
    """Estimates the offset of the images' stamps while they come in.

    Every method may be called from any thread. `add_image` takes some milliseconds for an image that it wants,
    `estimate` some tenths of a second, a second or two where there is an answer: call both where nothing waits.
    """

    def __init__(self, config: LiveConfig | None = None) -> None:
        self.config = config or LiveConfig()
        self._meter = FlowMeter(self.config.flow, self.config.keep_s)
        self._image_lock, self._motion_lock = threading.Lock(), threading.Lock()
        self._poses, self._fixes = (_Log(width, self.config) for width in (7, 3))
        self._estimated_ns: int | None = None
        self.latest = NOT_YET

    def wants_image(self, stamp_ns: int) -> bool:
        """Whether `add_image` would use an image of this stamp; it drops the others."""
        return self._meter.wants(stamp_ns)

    def add_image(self, stamp_ns: int, image: ImageSample | UInt8) -> None:
        """An image as received, or its grey pixels (H, W). A damaged one is left out."""
        if not self.wants_image(stamp_ns):
            return
        try:
            grey = grey_image(image, self.config.flow.width_px) if isinstance(image, ImageSample) else image
        except UserError:
            return
        with self._image_lock:
            self._meter.add(stamp_ns, grey)

    def add_motion(self, sample: PoseSample | FixSample) -> None:
        """A pose of the body or camera, or a GPS fix. Where both come, the poses count."""
        with self._motion_lock:
            if isinstance(sample, PoseSample):
                self._poses.add(sample.stamp_ns, (*sample.position_m, *sample.quat_xyzw))
            else:
                self._fixes.add(sample.stamp_ns, (sample.latitude_deg, sample.longitude_deg, sample.altitude_m))

    def due(self, now_ns: int) -> bool:
        """Whether it is time for another estimate, by any clock that goes on."""
        if self._estimated_ns is None or now_ns < self._estimated_ns:
            self._estimated_ns = now_ns
        return now_ns - self._estimated_ns >= self.config.every_s * SECOND

    def estimate(self, now_ns: int | None = None) -> Alignment:
        """The answer from what is kept; also as `latest`. `now_ns`: for `due`."""
        if now_ns is not None:
            self._estimated_ns = now_ns
        with self._image_lock:
            flow = self._meter.signal()
        try:
            self.latest = estimate_offset(flow, self._motion(), self.config.align)
        except UserError as error:
            self.latest = Alignment(False, str(error))
        return self.latest

    def clear(self) -> None:
        """Forget everything, as when time jumped back."""
        with self._image_lock:
            self._meter = FlowMeter(self.config.flow, self.config.keep_s)
        with self._motion_lock:
            for log in (self._poses, self._fixes):
                log.clear()
        self.latest = NOT_YET

    def _motion(self) -> MotionSignal:
        with self._motion_lock:
            poses, fixes = self._poses.arrays(), self._fixes.arrays()
        if len(poses[0]) >= 3:
            return motion_from_poses("poses", poses[0], poses[1][:, :3], poses[1][:, 3:])
        return motion_from_coordinates("GPS", *fixes)


class _Log:
    """Numbers over time, no older than is kept, no denser than is needed."""

    def __init__(self, width: int, config: LiveConfig) -> None:
        self._width, self._keep_ns = width, round(config.keep_s * SECOND)
        self._least_ns = round(0.9 * SECOND / config.motion_rate_hz)
        self._stamps_ns, self._numbers = array("q"), array("d")

    def add(self, stamp_ns: int, numbers: tuple[float, ...]) -> None:
        if self._stamps_ns and 0 <= stamp_ns - self._stamps_ns[-1] < self._least_ns:
            return
        self._stamps_ns.append(stamp_ns)
        self._numbers.extend(numbers)
        most = int(1.2 * self._keep_ns / self._least_ns) + 8
        if len(self._stamps_ns) > most or stamp_ns - self._stamps_ns[0] > 1.2 * self._keep_ns:
            old = int(np.searchsorted(np.array(self._stamps_ns), stamp_ns - self._keep_ns))
            count = max(old, len(self._stamps_ns) - most)  # of stamps that make no sense the first
            del self._stamps_ns[:count], self._numbers[: count * self._width]

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Stamps (N,) and numbers (N, width)."""
        return np.array(self._stamps_ns, dtype=np.int64), np.array(self._numbers).reshape(-1, self._width)

    def clear(self) -> None:
        del self._stamps_ns[:], self._numbers[:]


# Whether the images' stamps fit the poses': an estimate on the way, in a thread where nothing waits.


Decode = Callable[[], ImageSample]


class AlignmentCheck:
    """Takes motion and, now and then, an image; `latest` is the last answer. One image waits at most, others are
    skipped.
    """

    def __init__(self) -> None:
        self._live = LiveAlignment()
        self._changed = threading.Condition()
        self._image: tuple[int, Decode] | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="pose2rgbd-alignment", daemon=True)
        self._thread.start()

    @property
    def latest(self) -> Alignment:
        """The last estimate."""
        return self._live.latest

    def add_motion(self, sample: PoseSample | FixSample) -> None:
        """A pose or a fix."""
        self._live.add_motion(sample)

    def offer_image(self, stamp_ns: int, decode: Decode) -> None:
        """An image, if one is wanted and none waits."""
        with self._changed:
            if self._image is None and self._live.wants_image(stamp_ns):
                self._image = stamp_ns, decode
                self._changed.notify()

    def clear(self) -> None:
        """Time jumped."""
        self._live.clear()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._image is not None or self._stopping, 1.0)
                if self._stopping:
                    return
                image, self._image = self._image, None
            try:
                self._step(image)
            except Exception as error:  # nothing waits for the check, and the next image may be better
                self._live.latest = Alignment(False, f"the check failed: {type(error).__name__}: {error}")

    def _step(self, image: tuple[int, Decode] | None) -> None:
        if image is not None:
            stamp_ns, decode = image
            # A damaged image is refused as such when it is written.
            with contextlib.suppress(UserError, *UNREADABLE):
                self._live.add_image(stamp_ns, decode())
        now_ns = time.monotonic_ns()
        if self._live.due(now_ns):
            self._live.estimate(now_ns)
