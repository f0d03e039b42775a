"""Visual-inertial odometry: the body's motion, integrated with errors, so that its pose is continuous and drifts.

Gravity shows such an estimator where down is, so roll and pitch stay right; what drifts is the heading, with it the
direction of travel, the scale of distances, and the position.
"""

from __future__ import annotations

import math

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.sensors.config import OdometrySensor
from pose2rgbd_ros.sim.sensors.noise import (
    Latency,
    Measurement,
    OdometryReading,
    PeriodicSensor,
    RandomWalk,
    SensorClock,
    StateAt,
    White,
    named,
    stream,
)
from pose2rgbd_ros.sim.state import true_seconds

_SQRT_MIN = math.sqrt(60.0)


class DriftingOdometry(PeriodicSensor):
    """Poses in `odom`, which at the start of the flight is `map`, but for the error of the heading."""

    name = "odometry"

    def __init__(self, config: OdometrySensor, clock: SensorClock, seed: int) -> None:
        rng = [stream(seed, self.name, number) for number in range(8)]
        latency = Latency(rng[7], config.latency_ms, config.latency_jitter_ms)
        super().__init__(config.rate_hz, clock, latency)
        self._scale = 1.0 + config.scale_sigma * float(rng[0].standard_normal())
        self._heading0 = math.radians(config.heading_sigma_deg) * float(rng[1].standard_normal())
        self._yaw_rate = math.radians(config.yaw_drift_deg_per_min) / 60.0 * float(rng[2].standard_normal())
        yaw_walk = math.radians(config.yaw_walk_deg_per_sqrt_min) / _SQRT_MIN
        self._yaw_walk = RandomWalk(rng[3], np.zeros(1), yaw_walk)
        self._walk_m = RandomWalk(rng[4], np.zeros(3), config.walk_m_per_sqrt_min / _SQRT_MIN)
        self._velocity_noise = White(rng[5], config.velocity_noise_mps)
        self._rate_noise = White(rng[6], config.rate_noise_radps)
        linear, angular = config.velocity_noise_mps**2, config.rate_noise_radps**2
        self._twist_covariance = np.diag([linear] * 3 + [angular] * 3)
        self._growth = _CovarianceGrowth(config)
        self._true_m: Float64 | None = None  # of the last message
        self._travelled_m = np.zeros(3)  # in odom, without the random walk

    def take(self, state_at: StateAt) -> Measurement:
        """The next pose and twist."""
        t_s = true_seconds(self.next_true_ns)
        state = state_at(t_s)
        R_map_body, position_m = state.T_map_body[:3, :3], state.T_map_body[:3, 3]
        yaw = self._heading0 + self._yaw_rate * t_s + float(self._yaw_walk.at(t_s)[0])
        R_odom_map = _about_z(yaw)
        self._travel(t_s, position_m, R_odom_map)
        T_odom_body = np.eye(4)
        T_odom_body[:3, :3] = R_odom_map @ R_map_body
        T_odom_body[:3, 3] = self._travelled_m + self._walk_m.at(t_s)
        reading = OdometryReading(
            T_odom_body,
            self._scale * (R_map_body.T @ state.velocity_map_mps) + self._velocity_noise.next(),
            state.angular_velocity_body_radps + self._rate_noise.next(),
            self._growth.pose_covariance(),
            self._twist_covariance.copy(),
        )
        errors = named("error", T_odom_body[:3, 3] - position_m, "m") | {"error_yaw_rad": yaw}
        return self._measured(reading, errors)

    def _travel(self, t_s: float, position_m: Float64, R_odom_map: Float64) -> None:
        """Add the step since the last message, turned and scaled; the first one begins at the true place."""
        if self._true_m is None:
            self._true_m = self._travelled_m = position_m.copy()
        step_m = position_m - self._true_m
        self._travelled_m = self._travelled_m + self._scale * (R_odom_map @ step_m)
        self._true_m = position_m.copy()
        self._growth.step(t_s, step_m)

    def drawn(self) -> dict[str, object]:
        """The constant errors."""
        return {
            "messages": self._count,
            "scale": self._scale,
            "heading_at_start_rad": self._heading0,
            "yaw_drift_radps": self._yaw_rate,
        }


class _CovarianceGrowth:
    """Covariance of the errors, to first order: of position (3), heading, heading drift and scale."""

    def __init__(self, config: OdometrySensor) -> None:
        self._P = np.zeros((6, 6))
        self._P[3, 3] = math.radians(config.heading_sigma_deg) ** 2
        self._P[4, 4] = (math.radians(config.yaw_drift_deg_per_min) / 60.0) ** 2
        self._P[5, 5] = config.scale_sigma**2
        self._Q = np.zeros((6, 6))  # per second
        self._Q[:3, :3] = np.eye(3) * (config.walk_m_per_sqrt_min**2 / 60.0)
        self._Q[3, 3] = math.radians(config.yaw_walk_deg_per_sqrt_min) ** 2 / 60.0
        self._t_s: float | None = None

    def step(self, t_s: float, step_m: Float64) -> None:
        """Travel `step_m` (3,) until `t_s`."""
        dt_s = 0.0 if self._t_s is None else t_s - self._t_s
        self._t_s = t_s
        F = np.eye(6)
        F[:3, 3] = (-step_m[1], step_m[0], 0.0)  # a turned heading moves the step sideways
        F[:3, 5] = step_m
        F[3, 4] = dt_s
        self._P = F @ self._P @ F.T + self._Q * dt_s

    def pose_covariance(self) -> Float64:
        """Of x, y, z and the turns about them, (6, 6)."""
        covariance = np.zeros((6, 6))
        rows = [0, 1, 2, 5]
        covariance[np.ix_(rows, rows)] = self._P[:4, :4]
        return covariance


def _about_z(angle: float) -> Float64:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
