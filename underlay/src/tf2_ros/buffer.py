"""The transform buffer of a node: lookups that can wait, futures, the tf2_frames service, clearing on time jumps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.clock import Clock, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.task import Future
from rclpy.time import Time
from tf2_msgs.srv import FrameGraph
from tf2_py import BufferCore

from tf2_ros.buffer_interface import NO_WAIT, BufferInterface


class Buffer(BufferCore, BufferInterface):
    """Stores the transforms that a listener feeds it and answers lookups; safe to share between threads.

    With a node it follows that node's clock (a jump back of a second or more, or a change between system and
    simulated time, clears the history) and serves `tf2_frames`. Waiting with a timeout blocks the calling
    thread: in a callback of a single-threaded executor nothing can arrive meanwhile.
    """

    def __init__(self, cache_time: Duration | None = None, node: Node | None = None) -> None:
        if cache_time is None:
            BufferCore.__init__(self)
        else:
            BufferCore.__init__(self, cache_time)
        BufferInterface.__init__(self)
        self._changed = threading.Condition(self._lock)
        self._pending: list[tuple[Future, Callable[[], bool], Callable[[], TransformStamped]]] = []

        if node is not None:
            self.srv = node.create_service(FrameGraph, "tf2_frames", self._get_frames)
            self.clock = node.get_clock()
        else:
            self.clock = Clock()
        threshold = JumpThreshold(min_forward=None, min_backward=Duration(seconds=-1), on_clock_change=True)
        self.jump_handle = self.clock.create_jump_callback(threshold, post_callback=self.time_jump_callback)

    def _get_frames(self, request: FrameGraph.Request, response: FrameGraph.Response) -> FrameGraph.Response:
        response.frame_yaml = self.all_frames_as_yaml()
        return response

    def time_jump_callback(self, time_jump: TimeJump) -> None:
        """Forget the history: it belongs to another time."""
        get_logger("tf2_buffer").warning("Detected jump back in time. Clearing tf buffer.")
        self.clear()

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        """Add a sample of a moving frame and wake whoever waits for it."""
        super().set_transform(transform, authority)
        self._announce()

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        """Set a static frame and wake whoever waits for it."""
        super().set_transform_static(transform, authority)
        self._announce()

    def lookup_transform(
        self, target_frame: str, source_frame: str, time: Time, timeout: Duration = NO_WAIT
    ) -> TransformStamped:
        """T_target_source at `time` (zero: the newest common time), waiting up to `timeout` for it."""
        self._wait(timeout, lambda: self.can_transform_core(target_frame, source_frame, time))
        return self.lookup_transform_core(target_frame, source_frame, time)

    def lookup_transform_full(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
        timeout: Duration = NO_WAIT,
    ) -> TransformStamped:
        """The source frame at `source_time`, seen from the target frame at `target_time`."""
        request = (target_frame, target_time, source_frame, source_time, fixed_frame)
        self._wait(timeout, lambda: self.can_transform_full_core(*request))
        return self.lookup_transform_full_core(*request)

    def can_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time,
        timeout: Duration = NO_WAIT,
        return_debug_tuple: bool = False,
    ) -> Any:
        """Whether the lookup would succeed, waiting up to `timeout`; the debug tuple adds the reason if not."""
        self._wait(timeout, lambda: self.can_transform_core(target_frame, source_frame, time))
        result = self.can_transform_core(target_frame, source_frame, time)
        return result if return_debug_tuple else result[0]

    def can_transform_full(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
        timeout: Duration = NO_WAIT,
        return_debug_tuple: bool = False,
    ) -> Any:
        """Whether the lookup in two steps would succeed, waiting up to `timeout`."""
        request = (target_frame, target_time, source_frame, source_time, fixed_frame)
        self._wait(timeout, lambda: self.can_transform_full_core(*request))
        result = self.can_transform_full_core(*request)
        return result if return_debug_tuple else result[0]

    async def lookup_transform_async(self, target_frame: str, source_frame: str, time: Time) -> TransformStamped:
        """T_target_source, as soon as it can be known."""
        await self.wait_for_transform_async(target_frame, source_frame, time)
        return self.lookup_transform_core(target_frame, source_frame, time)

    async def lookup_transform_full_async(
        self, target_frame: str, target_time: Time, source_frame: str, source_time: Time, fixed_frame: str
    ) -> TransformStamped:
        """The lookup between two times, as soon as it can be known."""
        request = (target_frame, target_time, source_frame, source_time, fixed_frame)
        await self.wait_for_transform_full_async(*request)
        return self.lookup_transform_full_core(*request)

    def wait_for_transform_async(self, target_frame: str, source_frame: str, time: Time) -> Future:
        """A future that gets the transform as soon as it can be known."""
        request = (target_frame, source_frame, time)
        return self._future(
            lambda: bool(self.can_transform_core(*request)[0]), lambda: self.lookup_transform_core(*request)
        )

    def wait_for_transform_full_async(
        self, target_frame: str, target_time: Time, source_frame: str, source_time: Time, fixed_frame: str
    ) -> Future:
        """A future that gets the transform between two times as soon as it can be known."""
        request = (target_frame, target_time, source_frame, source_time, fixed_frame)
        return self._future(
            lambda: bool(self.can_transform_full_core(*request)[0]), lambda: self.lookup_transform_full_core(*request)
        )

    def _wait(self, timeout: Duration, can_transform: Callable[[], tuple[int, str]]) -> None:
        if timeout.nanoseconds > 0:
            with self._changed:
                self._changed.wait_for(lambda: can_transform()[0], timeout.nanoseconds * 1e-9)

    def _future(self, is_ready: Callable[[], bool], lookup: Callable[[], TransformStamped]) -> Future:
        future = Future()
        with self._lock:
            if is_ready():
                future.set_result(lookup())
            else:
                self._pending.append((future, is_ready, lookup))
        return future

    def _announce(self) -> None:
        """Wake waiting threads and fulfil futures; outside the lock, since a future runs its owner's callbacks."""
        fulfilled = []
        with self._changed:
            self._changed.notify_all()
            if self._pending:
                self._pending = [entry for entry in self._pending if not entry[0].done()]
                fulfilled = [(future, lookup()) for future, is_ready, lookup in self._pending if is_ready()]
        for future, transform in fulfilled:
            if not future.done():
                future.set_result(transform)
