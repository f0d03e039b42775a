"""Whether the images' stamps fit the poses': an estimate on the way, in a thread where nobody waits."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from pose2rgbd_ros.bags.reader import UNREADABLE
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.streams.alignment.align import Alignment
from pose2rgbd_ros.streams.alignment.live import LiveAlignment
from pose2rgbd_ros.streams.samples import FixSample, ImageSample, PoseSample

Decode = Callable[[], ImageSample]


class AlignmentCheck:
    """Takes motion and, now and then, an image; `latest` is the last answer. One image waits at most, others are skipped."""

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
