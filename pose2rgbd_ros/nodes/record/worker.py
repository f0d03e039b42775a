"""The recorder's one worker: takes messages in the order they came, matches them, and writes frames."""

from __future__ import annotations

import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from pose2rgbd_ros.bags.reader import edge_name, transform_edge
from pose2rgbd_ros.geometry.trajectory import JUMP_NS
from pose2rgbd_ros.nodes.record.inputs import NO_TIME, RawMessage, stamped
from pose2rgbd_ros.nodes.record.poses import LivePoses
from pose2rgbd_ros.nodes.record.session import Session
from pose2rgbd_ros.nodes.record.settings import RecordSettings
from pose2rgbd_ros.streams.clock_steps import STRAY, ClockGate, Passed

POLL_S = 0.05  # at least so often it is asked whether an image has waited too long
WRITE_EVERY_S = 0.01  # and, while messages pour in, whether frames are ready
TIMELESS = ("tf_static", "camera_info")
INBOX = 50_000  # messages without pixels that may wait: minutes of poses

Command = Callable[[], None]


class RecordWorker:
    """A thread with an inbox. The executor's callbacks only put messages and commands there.

    Poses, transforms and calibrations are listened to always, so that a recording that starts has them; images only
    while a session is under way; of others (their `data` is empty) only the stamps, so that a clock that is set is
    known. `warn(message)` is called in the worker when stamps went back, or a clock was set that images and poses do
    not share.
    """

    def __init__(self, settings: RecordSettings, warn: Callable[[str], None]) -> None:
        self.poses = LivePoses(settings)
        self._settings, self._warn = settings, warn
        self._changed = threading.Condition()
        self._inbox: deque[RawMessage | Command] = deque()
        self._stopping = False
        self._session: Session | None = None  # the worker's
        self._ends: list[tuple[float, Callable[[], None]]] = []  # by when to finish it, and what to call then
        self._newest_ns: dict[str, int] = {}
        self._gate = ClockGate()
        self._refused = ""  # why images were refused last
        self._polled_s = 0.0
        self._thread = threading.Thread(target=self._run, name="pose2rgbd-recorder", daemon=True)
        self._thread.start()

    # Called by the executor -------------------------------------------------------------------------------------

    def put(self, arrival: RawMessage) -> bool:
        """Hand over a message; False when there is no room."""
        with self._changed:
            if len(self._inbox) >= INBOX:
                return False
            self._inbox.append(arrival)
            self._changed.notify()
        return True

    def begin(self, session: Session) -> None:
        """Record into `session` from the next message on."""

        def attach() -> None:
            self._finish()  # one that still waits for poses
            self.poses.begin(session.datum)
            self._session = session

        self._command(attach)

    def end(self, drain_s: float, done: Callable[[], None]) -> None:
        """Finish the session, after at most `drain_s` in which poses of the last images may come; then call `done`."""
        deadline_s = time.monotonic() + drain_s
        self._command(lambda: self._ends.append((deadline_s, done)))

    def jump(self) -> None:
        """The clock went back: what was received before is of another time."""
        self._command(self._forget)

    def stop(self) -> None:
        """Take what is in the inbox, finish the session, and end the thread."""
        finished = threading.Event()
        self.end(0.0, finished.set)
        finished.wait()
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()
        self.poses.close()

    def _command(self, command: Command) -> None:
        with self._changed:
            self._inbox.append(command)
            self._changed.notify()

    # In the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._inbox or self._stopping, POLL_S)
                if self._stopping:
                    return
                item = self._inbox.popleft() if self._inbox else None
                idle = not self._inbox
            try:
                self._step(item, idle)
            except Exception as error:  # whatever it is, the next message may be better, and people must know
                self._broke_down(error)

    def _step(self, item: RawMessage | Command | None, idle: bool) -> None:
        if isinstance(item, RawMessage):
            self._take(item)
        elif item is not None:
            item()
        now_s, session = time.monotonic(), self._session
        if idle:
            self._use(self._gate.poll(round(now_s * 1e9)))
        if session is not None and (idle or now_s - self._polled_s > WRITE_EVERY_S):
            # By the time of arrivals: what an image waits for may be in the inbox already.
            session.poll(item.arrived_s if isinstance(item, RawMessage) and not idle else now_s)
            self._polled_s = time.monotonic()
        if self._ends and (
            session is None
            or not session.waiting
            or session.failure is not None
            or now_s >= min(at for at, _ in self._ends)
        ):
            self._finish()

    def _finish(self) -> None:
        """Close the session, if there is one, and call what waits for that."""
        ends, self._ends = self._ends, []
        try:
            self._use(self._gate.flush())
        except Exception as error:
            self._broke_down(error)
        session, self._session = self._session, None
        try:
            if session is not None:
                session.finish()
        finally:  # no one may wait for ever
            for _, done in ends:
                done()

    def _broke_down(self, error: Exception) -> None:
        message = f"recording failed: {type(error).__name__}: {error}"
        if self._session is not None:
            self._session.fail(message)
        self._warn(message)

    def _take(self, arrival: RawMessage) -> None:
        source, session = arrival.source, self._session
        stamp_ns = stamped(arrival, self._settings.stamps == "received")
        if stamp_ns == NO_TIME and source.role != "tf_static":
            if source.role == "image" and session is not None and arrival.data:
                session.tallies[source.camera].reject("no_time")
            return
        if source.role in TIMELESS:
            self.poses.add(arrival, stamp_ns)
            return
        name, received_ns = _clock_name(arrival), round(arrival.arrived_s * 1e9)
        self._use(self._gate.add(name, stamp_ns, received_ns, (name, arrival, stamp_ns)))

    def _use(self, messages: Iterable[Passed]) -> None:
        """Messages of whose clock enough is known."""
        for passed in messages:
            (name, arrival, stamp_ns), session = passed.item, self._session
            role = arrival.source.role
            if passed.after_step:
                used = role in ("image", "depth") or name in self.poses.clocks_in_use()
                if session is not None and used:
                    session.clock_set()
                self.poses.clock_set(role, name)
            if not passed.stray:
                self._watch_time(arrival, stamp_ns)
            if role not in ("image", "depth"):
                if not passed.stray:
                    self.poses.add(arrival, stamp_ns)
            elif session is not None and arrival.data:
                self._use_image(session, passed)

    def _use_image(self, session: Session, passed: Passed) -> None:
        name, arrival, stamp_ns = passed.item
        if arrival.source.role == "depth":
            if not passed.stray:
                session.take(arrival, stamp_ns)
            return
        others = self.poses.clocks_in_use() | session.depth_topics(arrival.source.camera)
        why = STRAY if passed.stray else self._gate.disagreement(name, others)
        if not why:
            session.take(arrival, stamp_ns)
            return
        session.refuse(arrival, why)
        if why not in (STRAY, self._refused):
            self._refused = why
            self._warn(f"images of {name} are left out: {why}")

    def _watch_time(self, arrival: RawMessage, stamp_ns: int) -> None:
        """Stamps that go back by more than a second are a clock set back, or a recording played again."""
        role, topic = arrival.source.role, arrival.source.topic
        if role in ("tf", "tf_static"):  # of many senders, each with stamps of its own
            return
        newest_ns = self._newest_ns.get(topic, stamp_ns)
        if stamp_ns < newest_ns - JUMP_NS:
            back_s = (newest_ns - stamp_ns) / 1e9
            self._warn(f"the stamps of {topic} jumped back by {back_s:.1f} s; recording goes on from there")
            newest_ns = stamp_ns
            arrival.source.watch.forget_stamps()
            if self._session is not None and role == "image":
                self._session.images_jumped()
        self._newest_ns[topic] = max(newest_ns, stamp_ns)

    def _forget(self) -> None:
        self._use(self._gate.flush())
        self._newest_ns.clear()
        self.poses.jumped()
        if self._session is not None:
            self._session.jumped()


def _clock_name(arrival: RawMessage) -> str:
    """What stamps a message: its topic, of TF its edge, since each sender has a clock of its own."""
    if arrival.source.role != "tf":
        return arrival.source.topic
    try:
        return edge_name(arrival.source.topic, transform_edge(arrival.data, "2"))
    except struct.error:
        return arrival.source.topic
