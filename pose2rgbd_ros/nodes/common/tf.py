"""Where the camera is now, from TF: never waits, notices time going backwards, and names the frames there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tf2_ros
import yaml
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.common.topics import JUMP_BACK_S


@dataclass(frozen=True, eq=False)
class StampedPose:
    """`T_map_cam` (4, 4) at `stamp_ns`, `age_s` old when it was looked up."""

    stamp_ns: int
    T_map_cam: Float64
    age_s: float


class TfLookup:
    """Transforms of /tf and /tf_static; all methods belong to the executor's thread.

    `on_transforms` is called after new transforms arrived, `on_jump(message)` after the transforms jumped back and the
    buffer was cleared; when the clock does, call `forget`. `hint` ends the message about a frame that is not there.
    """

    def __init__(
        self,
        node: Node,
        on_transforms: Callable[[], None],
        on_jump: Callable[[str], None],
        hint: str = "set map_frame and camera_frame",
    ) -> None:
        self._node, self._hint = node, hint
        self._on_transforms = on_transforms
        self._on_jump = on_jump
        self._newest_ns: dict[str, int] = {}
        self._buffer = tf2_ros.Buffer(node=node)
        self._listener: _Listener | None = None

    def start(self) -> None:
        """Subscribe to the transforms."""
        self._listener = _Listener(self._buffer, self._node, self._before, self._on_transforms)

    def stop(self) -> None:
        """Unsubscribe, and forget what moved."""
        if self._listener is not None:
            self._listener.unregister()
            self._listener = None
        self.forget()

    def latest(self, map_frame: str, camera_frame: str) -> StampedPose:
        """The newest pose of the camera. UserError says why there is none. A static pose is as old as now."""
        found = self._newest(map_frame, camera_frame)
        now_ns = self._node.get_clock().now().nanoseconds
        stamp_ns = conversions.stamp_ns(found.header.stamp) or now_ns
        return StampedPose(stamp_ns, conversions.matrix_of(found.transform), (now_ns - stamp_ns) / 1e9)

    def newest_ns(self, target_frame: str, source_frame: str) -> int | None:
        """Up to when the transform is known; None: static, at any time. UserError says why there is none."""
        if target_frame == source_frame:
            return None
        return conversions.stamp_ns(self._newest(target_frame, source_frame).header.stamp) or None

    def between(self, target_frame: str, source_frame: str, stamp_ns: int) -> Float64:
        """T_target_source at a time (0: the newest). UserError says why there is none."""
        if target_frame == source_frame:
            return np.eye(4)
        try:
            found = self._buffer.lookup_transform(target_frame, source_frame, Time(nanoseconds=stamp_ns))
        except tf2_ros.TransformException as error:
            raise UserError(self._explain(target_frame, source_frame, error)) from error
        return conversions.matrix_of(found.transform)

    def frames(self) -> list[str]:
        """All frames heard of, sorted."""
        tree = yaml.safe_load(self._buffer.all_frames_as_yaml()) or {}
        return sorted({*tree, *(entry["parent"] for entry in tree.values())})

    def _newest(self, target: str, source: str) -> TransformStamped:
        try:
            return self._buffer.lookup_transform(target, source, Time())
        except tf2_ros.TransformException as error:
            raise UserError(self._explain(target, source, error)) from error

    def _explain(self, target: str, source: str, error: Exception) -> str:
        frames = self.frames()
        missing = [repr(frame) for frame in (target, source) if frame not in frames]
        head = f"no transform {target} -> {source}: "
        if not frames:
            publishers = self._node.count_publishers("/tf") + self._node.count_publishers("/tf_static")
            reason = "nothing arrives from its publishers" if publishers else "nobody publishes it"
            return f"{head}/tf is silent, {reason}; start the localization or `pose2rgbd play`"
        if missing:
            return f"{head}no frame {' or '.join(missing)} in TF; frames there: {', '.join(frames)}; {self._hint}"
        return f"{head}{' '.join(str(error).split())}"

    def _before(self, message: TFMessage) -> None:
        """Look at new transforms before they go into the buffer."""
        for transform in message.transforms:
            child, stamp_ns = transform.child_frame_id, conversions.stamp_ns(transform.header.stamp)
            newest_ns = self._newest_ns.get(child, stamp_ns)
            if stamp_ns < newest_ns - JUMP_BACK_S * 1e9:
                self.forget()
                self._on_jump(
                    f"the transforms of {child} jumped back by {(newest_ns - stamp_ns) / 1e9:.1f} s; earlier ones were "
                    "dropped"
                )
                newest_ns = stamp_ns
            self._newest_ns[child] = max(newest_ns, stamp_ns)

    def forget(self) -> None:
        """Time jumped back: what moved before is dropped."""
        self._buffer.clear()
        self._newest_ns.clear()


class _Listener(tf2_ros.TransformListener):
    """A listener that says when something moved."""

    def __init__(
        self, buffer: tf2_ros.Buffer, node: Node, before: Callable[[TFMessage], None], after: Callable[[], None]
    ) -> None:
        self._before, self._after = before, after
        super().__init__(buffer, node)

    def callback(self, data: TFMessage) -> None:
        self._before(data)
        super().callback(data)
        self._after()

    def static_callback(self, data: TFMessage) -> None:
        super().static_callback(data)
        self._after()
