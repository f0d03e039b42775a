"""One recording, from start to stop: a dataset per camera, and the bag beside them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from builtin_interfaces.msg import Time
from message_filters import ApproximateTimeSynchronizer, SimpleFilter
from std_msgs.msg import Header

from pose2rgbd_ros.bags.writer import SplitBagWriter
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.nodes.common.conversions import to_stamp
from pose2rgbd_ros.nodes.record.camera import CameraRecording
from pose2rgbd_ros.nodes.record.inputs import NO_TIME, RawMessage, Subscriptions, any_of
from pose2rgbd_ros.nodes.record.poses import LivePoses
from pose2rgbd_ros.nodes.record.settings import RecordSettings
from pose2rgbd_ros.nodes.record.stats import Stats
from pose2rgbd_ros.streams.synchronizer import TIME_JUMP

# Everything received, as it is, into an mcap in the background.


_MIB = 1 << 20
_OTHER_OUT = "set another out"
MESSAGE_OVERHEAD = 200  # bytes a small message costs in the queue


class BagRecorder:
    """Writes messages in a thread of its own. `lost` counts those that found the queue full, or came after a failure.

    Messages of no known time (static transforms kept from before, all that arrives ahead of a simulated /clock) wait
    for the first one of a time, and get its time: at 0 they would have a player wait for decades.
    """

    def __init__(self, folder: Path, split_mib: int, queue_mib: int) -> None:
        self._bag = SplitBagWriter(folder, split_mib * _MIB)
        self._limit = queue_mib * _MIB
        self._changed = threading.Condition()
        self._queue: deque[RawMessage] = deque()
        self._queued = 0
        self._timeless: list[RawMessage] = []  # the thread's: they wait for a time
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

    def add(self, arrival: RawMessage) -> None:
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
                self.failure = f"cannot write the bag {self._bag.folder} ({reason}); the dataset goes on without it"

    def _write(self, arrival: RawMessage) -> None:
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


# Several cameras that fire together: only images of all of them are taken.


NOT_TOGETHER = "not_together"
_QUEUE = 20  # images of a camera that wait for those of the others
_LATE_NS = 1_000_000_000  # an image whose fellows have not come by the time of images so much newer has none
_Pair = tuple[int, RawMessage]


class _Image:
    """What message_filters looks at."""

    def __init__(self, camera: str, pair: _Pair) -> None:
        stamp: Time = to_stamp(pair[0])
        self.camera, self.pair, self.header = camera, pair, Header(stamp=stamp)


class MultiCameraSync:
    """Images by camera in, images of all cameras out; the others are counted as rejected, "not_together"."""

    def __init__(self, within_s: float, tallies: dict[str, Stats]) -> None:
        self._tallies = tallies
        self._waiting: dict[str, dict[int, _Image]] = {name: {} for name in tallies}
        self._ready: list[_Image] = []
        self._filters = {name: SimpleFilter() for name in tallies}
        self._synchronizer = ApproximateTimeSynchronizer(list(self._filters.values()), _QUEUE, within_s)
        self._synchronizer.registerCallback(self._matched)

    def add(self, camera: str, stamp_ns: int, arrival: RawMessage) -> Iterable[tuple[str, _Pair]]:
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
                queue.pop(late_ns, None)  # message_filters lets go of the oldest by itself when there are many
                self._tallies[camera].reject(NOT_TOGETHER)


class Handover:
    """What a recorder leaves, in the file `settings.session`, to the one that is started again in its place.

    The file names the folder that is recorded into, or nothing after a stop. It is made by this very recorder, so no
    older dataset of the same name is gone on with. Without a session nothing is left, and nothing is found.
    """

    def __init__(self, settings: RecordSettings) -> None:
        self._settings = settings
        self._file = Path(settings.session) if settings.session.strip() else None
        try:
            self._found = self._file.read_text() if self._file else None
        except FileNotFoundError:
            self._found = None
        except OSError as error:
            raise UserError(f"session {self._file} cannot be read ({error.strerror})") from error

    @property
    def starts(self) -> bool:
        """Whether to record at once: as the one before did, at first as `start_recording` says."""
        return self._settings.start_recording if self._found is None else bool(self._found)

    def settings(self) -> RecordSettings:
        """Those of the next recording: into the folder left unfinished, where there is one."""
        if not self._found:
            return self._settings
        return dataclasses.replace(self._settings, out=self._found.replace("%", "%%"), resume=True)

    def leave(self, folder: Path | None) -> None:
        """Note what is recorded into; None: nothing more."""
        self._found = str(folder or "")
        if self._file is not None:
            new = self._file.with_name(f"{self._file.name}.new")
            with contextlib.suppress(OSError):  # the recording is worth more than the note
                new.write_text(self._found)
                new.replace(self._file)


class Session:
    """Made by the executor, which reads its figures; then the worker's.

    UserError when the folder cannot take a recording: it holds frames and `resume` is off, is not ours, is read-only
    or its disk is nearly full.
    """

    def __init__(self, settings: RecordSettings, inputs: Subscriptions, poses: LivePoses) -> None:
        self.folder = settings.folder()
        self.failure: str | None = None
        self.paused = False
        self.open = True  # messages are still wanted: also after the stop, while the last images wait
        self._accepting = True
        self._settings, self._poses, self._inputs = settings, poses, inputs
        names = settings.camera_names()
        folders = {name: self.folder / name if name else self.folder for name in names}
        self.tallies = {name: Stats(settings.queue_size) for name in names}
        with os_errors(f"{self.folder} cannot be written", _OTHER_OUT):
            self._cameras = {
                name: _camera(name, folders[name], settings, inputs, poses, self.tallies[name]) for name in names
            }
        for folder in folders.values():
            _require_writable(folder)
        self.require_space()
        next(iter(self._cameras.values())).alignment = poses.alignment
        self._together = (
            MultiCameraSync(settings.cameras_together_s, self.tallies) if settings.cameras_together_s else None
        )
        self._bag: BagRecorder | None = None
        if settings.bag != "none":
            with os_errors(f"{self.folder} cannot be written", _OTHER_OUT):
                bag = self.folder.with_name(f"{self.folder.name}_bag")
                self._bag = BagRecorder(bag, settings.bag_split_mib, settings.bag_queue_mib)

    # Read by the executor --------------------------------------------------------------------------------------

    @property
    def bag_bytes(self) -> int:
        """Size of the bag so far."""
        return self._bag.size if self._bag else 0

    @property
    def bag_problem(self) -> str:
        """What is the matter with the bag, "" for nothing."""
        if self._bag is None:
            return ""
        lost = f"lost {counted(self._bag.lost, 'message')} of the bag: the disk is too slow" if self._bag.lost else ""
        return self._bag.failure or lost

    @property
    def queue_size(self) -> int:
        """Images of a camera that may wait."""
        return self._settings.queue_size

    @property
    def frames(self) -> int:
        """Frames on disk, all cameras."""
        return sum(tally.frames for tally in self.tallies.values())

    @property
    def waiting(self) -> int:
        """Images neither written nor rejected yet."""
        return sum(tally.waiting for tally in self.tallies.values())

    def summary(self) -> str:
        """What became of the images, in one line."""
        parts = []
        for name, tally in self.tallies.items():
            images, frames, rejects, _ = tally.snapshot()
            refused = ", ".join(f"{count} {reason}" for reason, count in sorted(rejects.items()))
            counts = f"{counted(frames, 'frame')} of {counted(images, 'image')} ({refused or 'no rejects'})"
            parts.append(f"{name}: {counts}" if name else counts)
        return f"{self.folder}: {'; '.join(parts)}"

    def notes(self) -> list[str]:
        """What was chosen or assumed so far."""
        return [*self._poses.notes, *(note for camera in self._cameras.values() for note in camera.notes)]

    def disk_free_bytes(self) -> int:
        """On the disk of the recording."""
        existing = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        return shutil.disk_usage(existing).free

    def require_space(self) -> None:
        """UserError when less is free than it should be."""
        free_mib = self.disk_free_bytes() // _MIB
        if free_mib < self._settings.min_free_mib:
            raise UserError(
                f"only {free_mib} MiB are free for {self.folder}, less than min_free_mib "
                f"({self._settings.min_free_mib}): free some space, then call ~/start"
            )

    def offer(self, arrival: RawMessage) -> bool:
        """Count a message that has arrived; whether it is wanted."""
        if arrival.source.role != "image":
            return True
        if not self._accepting:
            return False
        return self.tallies[arrival.source.camera].offer("paused" if self.paused else None)

    def stop_accepting(self) -> None:
        """Images from now on are not part of it."""
        self._accepting = False

    def to_bag(self, arrival: RawMessage) -> None:
        """Into the bag, unless paused."""
        wanted = self._accepting or arrival.source.role != "image"  # after the stop: what the last images wait for
        if self.paused and arrival.source.role != "tf_static":
            wanted = False
        if self._bag is not None and wanted:
            self._bag.add(arrival)

    @property
    def datum(self) -> Datum | None:
        """Where the map of a dataset that is gone on with lies."""
        return next((c.stored_datum for c in self._cameras.values() if c.stored_datum), None)

    # In the worker ---------------------------------------------------------------------------------------------

    def take(self, arrival: RawMessage, stamp_ns: int) -> None:
        """An image or depth image."""
        if self.failure is not None:
            if arrival.source.role == "image":
                self.tallies[arrival.source.camera].reject("stopped")
            return
        camera = self._cameras[arrival.source.camera]
        with self._failing():
            if arrival.source.role == "depth":
                camera.depth((stamp_ns, arrival))
            elif self._together is None:
                camera.image((stamp_ns, arrival))
            else:
                for name, pair in self._together.add(arrival.source.camera, stamp_ns, arrival):
                    self._cameras[name].image(pair)

    def poll(self, now_s: float) -> None:
        """Write what has become ready."""
        if self.failure is None:
            with self._failing():
                for camera in self._cameras.values():
                    camera.poll(now_s)

    def jumped(self) -> None:
        """The clock went back."""
        self.images_jumped()
        with self._failing():
            for camera in self._cameras.values():
                camera.jumped()

    def depth_topics(self, camera: str) -> set[str]:
        """Where the depth of a camera comes from."""
        depth = any_of(self._inputs.all, "depth", camera)
        return {depth.topic} if depth is not None and depth.chosen is not None else set()

    def refuse(self, arrival: RawMessage, why: str) -> None:
        """An image that must not have a pose."""
        self.tallies[arrival.source.camera].reject(TIME_JUMP, why)

    def clock_set(self) -> None:
        """The clock of one topic was set; what waits is settled with what was known before."""
        if self._together is not None:
            self._together.forget(TIME_JUMP)
        if self.failure is None:
            with self._failing():
                for camera in self._cameras.values():
                    camera.clock_set()

    def images_jumped(self) -> None:
        """The stamps of images are about to go back; the synchronisers, once they run, notice by themselves."""
        if self._together is not None:
            self._together.forget(TIME_JUMP)
        with self._failing():
            for camera in self._cameras.values():
                camera.decide()

    def finish(self) -> None:
        """Settle what waits and close everything; `failure` says what could not be done."""
        self._accepting = self.open = False
        if self.failure is None:
            with self._failing():
                if self._together is not None:
                    self._together.forget(NOT_TOGETHER)
                for camera in self._cameras.values():
                    camera.finish()
        for camera in self._cameras.values():
            with self._failing():
                camera.close()
            camera.abandon("stopped")
        if self._bag is not None:
            self._bag.close()

    def fail(self, reason: str) -> None:
        """End it for a reason; what was written is safe."""
        self._accepting = False
        self.failure = self.failure or reason

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            self.fail(str(error))
        except Exception as error:
            self.fail(f"recording failed: {type(error).__name__}: {error}")


def _camera(
    name: str, folder: Path, settings: RecordSettings, inputs: Subscriptions, poses: LivePoses, tally: Stats
) -> CameraRecording:
    depth = any_of(inputs.all, "depth", name)
    return CameraRecording(
        name, folder, settings, poses, tally, depth_published=lambda: depth is not None and depth.chosen is not None
    )


def _require_writable(folder: Path) -> None:
    with os_errors(f"{folder} cannot be written", _OTHER_OUT):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise UserError(f"{folder} cannot be written (permission denied); {_OTHER_OUT}")
