"""A gyroscope and an accelerometer: white noise, and biases that walk."""

from __future__ import annotations

import math

import numpy as np

from pose2rgbd_ros.geometry import quaternions
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.sensors.config import ImuSensor
from pose2rgbd_ros.sim.sensors.noise import (
    ImuReading,
    Latency,
    Measurement,
    PeriodicSensor,
    RandomWalk,
    SensorClock,
    StateAt,
    White,
    named,
    stream,
)
from pose2rgbd_ros.sim.state import true_seconds

GRAVITY_MAP_MPS2: Float64 = np.array([0.0, 0.0, -9.80665])
GRAVITY_MAP_MPS2.setflags(write=False)


class InertialSensor(PeriodicSensor):
    """Samples of angular velocity and of specific force: acceleration minus gravity, so +9.8 along z at rest."""

    name = "imu"

    def __init__(self, config: ImuSensor, clock: SensorClock, seed: int) -> None:
        rng = [stream(seed, self.name, number) for number in range(8)]
        latency = Latency(rng[7], config.latency_ms, config.latency_jitter_ms)
        super().__init__(config.rate_hz, clock, latency)
        self._tells_orientation = config.orientation
        root_rate = math.sqrt(config.rate_hz)  # a density is of a sample that averages over its period
        self._gyro_sigma = config.gyro_noise_radps_sqrt_hz * root_rate
        self._accel_sigma = config.accel_noise_mps2_sqrt_hz * root_rate
        self._gyro_noise = White(rng[0], self._gyro_sigma)
        self._accel_noise = White(rng[1], self._accel_sigma)
        self._gyro_bias0 = White(rng[2], config.gyro_bias_radps).next()
        self._accel_bias0 = White(rng[3], config.accel_bias_mps2).next()
        self._gyro_bias = RandomWalk(rng[4], self._gyro_bias0, config.gyro_bias_walk_radps_per_sqrt_s)
        self._accel_bias = RandomWalk(rng[5], self._accel_bias0, config.accel_bias_walk_mps2_per_sqrt_s)
        self._turn_sigma = math.radians(config.orientation_noise_deg)
        self._turn_noise = White(rng[6], self._turn_sigma)

    def take(self, state_at: StateAt) -> Measurement:
        """The next sample."""
        t_s = true_seconds(self.next_true_ns)
        state = state_at(t_s)
        R_map_body = state.T_map_body[:3, :3]
        gyro_bias, accel_bias = self._gyro_bias.at(t_s), self._accel_bias.at(t_s)
        gyro_error = gyro_bias + self._gyro_noise.next()
        accel_error = accel_bias + self._accel_noise.next()
        reading = ImuReading(
            state.angular_velocity_body_radps + gyro_error,
            R_map_body.T @ (state.acceleration_map_mps2 - GRAVITY_MAP_MPS2) + accel_error,
            self._orientation(R_map_body),
            self._gyro_sigma**2,
            self._accel_sigma**2,
            self._turn_sigma**2,
        )
        errors = {
            **named("gyro_error", gyro_error, "radps"),
            **named("gyro_bias", gyro_bias, "radps"),
            **named("accel_error", accel_error, "mps2"),
            **named("accel_bias", accel_bias, "mps2"),
        }
        return self._measured(reading, errors)

    def _orientation(self, R_map_body: Float64) -> Float64 | None:
        turn = self._turn_noise.next()
        if not self._tells_orientation:
            return None
        return quaternions.multiply(quaternions.from_matrix(R_map_body), quaternions.from_euler_rpy(turn))

    def drawn(self) -> dict[str, object]:
        """The biases at the start; how they walk stands with each sample."""
        return {
            "samples": self._count,
            "gyro_bias_at_start_radps": self._gyro_bias0.tolist(),
            "accel_bias_at_start_mps2": self._accel_bias0.tolist(),
        }
