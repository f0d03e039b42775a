"""The look-ahead of a render node: what is to be seen at the poses to come, and how much room there is along them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from nav_msgs.msg import Odometry, Path
from pose2rgbd.msg import ClearanceProfile, LookAhead
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import qos_profile_sensor_data
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.nodes import conversions, diagnostics
from pose2rgbd_ros.nodes.diagnostics import ConditionLog, Diagnostics
from pose2rgbd_ros.nodes.look_ahead_paths import twist_of, waypoints_of
from pose2rgbd_ros.nodes.look_ahead_settings import LookAheadSettings
from pose2rgbd_ros.nodes.path_jobs import SILENCE_S, PathJobs
from pose2rgbd_ros.nodes.path_rendering import PathJob, PathRendering, images_left_out
from pose2rgbd_ros.nodes.render_service import Active
from pose2rgbd_ros.obstacles.paths import Waypoints, faced

QUEUE_DEPTH = 2


class LookAheadTopics:
    """Publishes ~/look_ahead and ~/clearance as long as somebody listens to them.

    Where there is nothing to say, a clearance profile without poses says why. `start` and `stop` follow the node's
    activation; all methods belong to the executor's thread.
    """

    def __init__(
        self, node: Node, jobs: PathJobs, active: Callable[[], Active | None], steady: Clock
    ) -> None:
        self._node, self._jobs, self._active, self._steady = node, jobs, active, steady
        self._group = ReentrantCallbackGroup()  # a tick that waits for the worker holds up nothing
        self._settings = LookAheadSettings()
        self._images: Publisher | None = None
        self._clearance: Publisher | None = None
        self._subscriptions: list[Subscription] = []
        self._timer: Timer | None = None
        self._log, self._diagnostics = ConditionLog(node), Diagnostics(node, "look-ahead")
        self._busy = False
        self._path: Path | None = None
        self._points: Waypoints | None = None
        self._problem = ""  # of the path received last
        self._along_m = 0.0
        self._odometry: Odometry | None = None

    def start(self, settings: LookAheadSettings) -> None:
        """Subscribe and publish by these settings, if they say so; anew, if it already does."""
        self.stop()
        self._settings = settings
        if settings.mode == "none":
            return
        self._images = self._node.create_publisher(LookAhead, "~/look_ahead", QUEUE_DEPTH)
        self._clearance = self._node.create_publisher(ClearanceProfile, "~/clearance", QUEUE_DEPTH)
        listen = self._node.create_subscription
        self._subscriptions = [listen(Odometry, "~/odometry", self._on_odometry, qos_profile_sensor_data)]
        if settings.mode == "path":
            self._subscriptions.append(listen(Path, "~/path", self._on_path, 1))
        self._timer = self._node.create_timer(
            1 / settings.rate_hz, self._tick, callback_group=self._group, clock=self._steady
        )

    def change(self, settings: LookAheadSettings) -> None:
        """Take over changed settings; a path goes on being followed."""
        if settings != self._settings:
            path, along_m, odometry = self._path, self._along_m, self._odometry
            self.start(settings)
            self._odometry = odometry
            if path is not None and settings.mode == "path":
                self._on_path(path)
                self._along_m = along_m

    def stop(self) -> None:
        """Remove topics and timer."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        for publisher in (self._images, self._clearance):
            if publisher is not None:
                self._node.destroy_publisher(publisher)
        self._subscriptions, self._timer, self._images, self._clearance = [], None, None, None
        self._settings = LookAheadSettings()
        self._forget()

    def _forget(self) -> None:
        self._path, self._points, self._problem, self._along_m, self._odometry = None, None, "", 0.0, None

    def _on_path(self, path: Path) -> None:
        self._path, self._points, self._problem, self._along_m = path, None, "", 0.0
        try:
            self._points = faced(waypoints_of(path), self._settings.facing)
        except UserError as error:
            self._problem = str(error)

    def _on_odometry(self, odometry: Odometry) -> None:
        self._odometry = odometry

    async def _tick(self) -> None:
        """Look ahead once, unless the last look is still under way."""
        images, clearance = self._images, self._clearance
        if self._busy or images is None or clearance is None:
            return
        wants_images = images.get_subscription_count() > 0
        if not wants_images and clearance.get_subscription_count() == 0:
            return
        active = self._active()
        if active is None:
            return
        self._busy = True
        try:
            job = self._job(active, wants_images)
            rendering = PathRendering(active, job)
            await rendering.run(self._wake)
            if self._clearance is clearance:  # else the node was deactivated or set otherwise meanwhile
                self._publish(rendering, job, wants_images)
        except UserError as error:
            self._tell(str(error))
        except Exception as error:
            self._tell(f"{type(error).__name__}: {error}")
        finally:
            self._busy = False

    def _job(self, active: Active, images: bool) -> PathJob:
        """What to look at now. UserError: nothing, and why."""
        settings = self._settings
        if settings.mode == "twist":
            job = self._jobs.carried(self._recent_odometry(), settings, active)
        else:
            if self._problem:
                raise UserError(self._problem)
            if self._path is None or self._points is None:
                raise UserError("no path on ~/path yet")
            now_ns, speed_mps = self._node.get_clock().now().nanoseconds, self._speed_mps()
            job, self._along_m = self._jobs.next_of(
                self._path, self._points, self._along_m, settings, active, now_ns, speed_mps
            )
        return job.with_images(images)

    def _recent_odometry(self) -> Odometry:
        odometry = self._odometry
        if odometry is None:
            raise UserError("no twist on ~/odometry yet")
        age_s = self._age_s(odometry)
        if abs(age_s) > SILENCE_S:
            raise UserError(
                f"the twist on ~/odometry is {age_s:.1f} s old; is it still published, by the same clock?"
            )
        return odometry

    def _speed_mps(self) -> float:
        """Of the odometry, as far as there is a recent one."""
        if self._odometry is None or abs(self._age_s(self._odometry)) > SILENCE_S:
            return math.nan
        return float(np.linalg.norm(twist_of(self._odometry)[:3]))

    def _age_s(self, odometry: Odometry) -> float:
        return (self._node.get_clock().now().nanoseconds - conversions.stamp_ns(odometry.header.stamp)) / 1e9

    def _publish(self, rendering: PathRendering, job: PathJob, wants_images: bool) -> None:
        assert self._images is not None
        assert self._clearance is not None
        profile = rendering.profile()
        if wants_images and rendering.keeps_images:
            self._images.publish(rendering.look_ahead())
        elif wants_images:
            profile.message = "; ".join(filter(None, [profile.message, images_left_out(job)]))
        self._clearance.publish(profile)
        self._say(diagnostics.OK, profile.message or "looking ahead", len(profile.poses))

    def _tell(self, problem: str) -> None:
        """Publish that nothing is known, and why."""
        if self._clearance is None:
            return
        nothing = ClearanceProfile(message=problem, first_conflict_m=math.nan, first_unknown_m=0.0)
        nothing.header.stamp = self._node.get_clock().now().to_msg()
        self._clearance.publish(nothing)
        self._say(diagnostics.WARN, problem, 0)

    def _say(self, level: bytes, message: str, poses: int) -> None:
        self._log.tell(level, message if level != diagnostics.OK else "", f"look-ahead: {message}")
        self._diagnostics.publish(level, message, {"mode": self._settings.mode, "poses": poses})

    def _wake(self) -> None:
        if self._node.executor is not None:
            self._node.executor.wake()
