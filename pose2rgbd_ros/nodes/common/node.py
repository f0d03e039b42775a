"""Lifecycle nodes that configure and activate themselves, for users without a lifecycle manager."""

from __future__ import annotations

from rclpy.clock import Clock
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from pose2rgbd_ros.nodes.common.runner import interruptible


def start_by_itself(node: LifecycleNode, clock: Clock) -> None:
    """Configure `node`, and activate it if that went well, as soon as it spins. `clock` must run: not a simulated
    one.
    """

    def start() -> None:
        node.destroy_timer(timer)
        with interruptible():
            configured = node.trigger_configure()
        if configured == TransitionCallbackReturn.SUCCESS:
            node.trigger_activate()

    timer = node.create_timer(0.0, start, clock=clock)
