"""Lifecycle nodes that configure and activate themselves, for users without a lifecycle manager."""

from __future__ import annotations

from rclpy.clock import Clock
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn


def start_by_itself(node: LifecycleNode, clock: Clock) -> None:
    """Configure `node`, and activate it if that went well, as soon as it spins. `clock` must run: not a simulated one."""

    def start() -> None:
        node.destroy_timer(timer)
        if node.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            node.trigger_activate()

    timer = node.create_timer(0.0, start, clock=clock)
