"""The sensors of the drone, with the faults of real ones, and all of them together."""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Iterable

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.geodesy import Datum, enu_to_wgs84
from pose2rgbd_ros.sim.sensors.config import (
    Barometer,
    CameraSensor,
    GpsSensor,
    ImuSensor,
    OdometrySensor,
    SensorsConfig,
)
from pose2rgbd_ros.sim.sensors.noise import (
    Exposure,
    GaussMarkov,
    GpsFix,
    ImuReading,
    Latency,
    Measurement,
    OdometryReading,
    Outages,
    PeriodicSensor,
    PressureReading,
    RandomWalk,
    Sensor,
    SensorClock,
    StateAt,
    White,
    draw_clocks,
    named,
    stream,
)
from pose2rgbd_ros.sim.state import true_seconds, true_stamp_ns

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


# Visual-inertial odometry: the body's motion, integrated with errors, so that its pose is continuous and drifts.

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


# Static pressure in the international standard atmosphere, with weather that looks like height to the sensor.


# Troposphere of ISO 2533: temperature and pressure at sea level, lapse rate, g M / (R L).
_T0_K, _P0_PA, _LAPSE_K_PER_M, _EXPONENT = 288.15, 101325.0, 0.0065, 5.255877


def pressure_pa(altitude_m: float) -> float:
    """Pressure at an altitude below 11 km; above, the same law goes on, to nothing at 44 km."""
    return float(_P0_PA * max(0.0, 1.0 - _LAPSE_K_PER_M * altitude_m / _T0_K) ** _EXPONENT)


def altitude_m(pressure_pa: float) -> float:
    """The inverse of `pressure_pa`."""
    return float(_T0_K / _LAPSE_K_PER_M * (1.0 - (pressure_pa / _P0_PA) ** (1.0 / _EXPONENT)))


class PressureSensor(PeriodicSensor):
    """Pressure at the body. The map's z above the datum's altitude is taken as height in the atmosphere (no geoid)."""

    name = "barometer"

    def __init__(self, config: Barometer, clock: SensorClock, seed: int, datum: Datum) -> None:
        latency = Latency(stream(seed, self.name, 3), config.latency_ms, config.latency_jitter_ms)
        super().__init__(config.rate_hz, clock, latency)
        self._variance_pa2, self._ground_m = config.noise_pa**2, datum.altitude_m
        self._white = White(stream(seed, self.name, 0), config.noise_pa, 1)
        self._offset_pa = float(White(stream(seed, self.name, 1), config.offset_pa, 1).next()[0])
        self._wander = GaussMarkov(stream(seed, self.name, 2), config.wander_pa, config.wander_s, 1)

    def take(self, state_at: StateAt) -> Measurement:
        """The next sample."""
        t_s = true_seconds(self.next_true_ns)
        bias_pa = self._offset_pa + float(self._wander.at(t_s)[0])
        error_pa = bias_pa + float(self._white.next()[0])
        true_pa = pressure_pa(self._ground_m + float(state_at(t_s).T_map_body[2, 3]))
        reading = PressureReading(true_pa + error_pa, self._variance_pa2)
        return self._measured(reading, {"error_pa": error_pa, "bias_pa": bias_pa})

    def drawn(self) -> dict[str, object]:
        """The constant offset."""
        return {"samples": self._count, "offset_pa": self._offset_pa}


OUTLIER, NO_FIX = "outlier", "no_fix"


class GpsReceiver(PeriodicSensor):
    """Fixes of the antenna's position at even times."""

    name = "gps"

    def __init__(self, config: GpsSensor, clock: SensorClock, seed: int, datum: Datum) -> None:
        latency = Latency(stream(seed, self.name, 4), config.latency_ms, config.latency_jitter_ms)
        super().__init__(config.rate_hz, clock, latency)
        self._config, self._datum = config, datum
        axes = np.array([1.0, 1.0, config.vertical_factor])
        self._white = White(stream(seed, self.name, 0), config.noise_m * axes)
        self._wander = GaussMarkov(stream(seed, self.name, 1), config.wander_m * axes, config.wander_s)
        self._outlier = stream(seed, self.name, 2)
        self._outages = Outages(stream(seed, self.name, 3), config.outages_per_min, config.outage_s)
        self._covariance_m2 = np.diag((config.noise_m**2 + config.wander_m**2) * axes**2)
        self._outliers = self._without_fix = 0

    def take(self, state_at: StateAt) -> Measurement | None:
        """The next fix; in an outage one of status -1, or None."""
        t_s = true_seconds(self.next_true_ns)
        error_m, fault = self._error(t_s)
        if self._outages.active(t_s):
            self._without_fix += 1
            nothing = GpsFix(math.nan, math.nan, math.nan, np.zeros((3, 3)), -1)
            measurement = self._measured(nothing, _named(np.full(3, math.nan)), NO_FIX)
            return None if self._config.silent_outages else measurement
        self._outliers += fault == OUTLIER
        T_map_body = state_at(t_s).T_map_body
        antenna_m = T_map_body[:3, :3] @ np.asarray(self._config.antenna_m, float) + T_map_body[:3, 3]
        latitude, longitude, altitude = map(float, enu_to_wgs84(antenna_m + error_m, self._datum))
        fix = GpsFix(latitude, longitude, altitude, self._covariance_m2.copy(), 0)
        return self._measured(fix, _named(error_m), fault)

    def _error(self, t_s: float) -> tuple[Float64, str]:
        """Error (3,) in ENU, and whether it is an outlier; the same draws whatever is switched on."""
        error_m = self._white.next() + self._wander.at(t_s)
        chance, bearing = self._outlier.random(2)
        size_m = self._config.outlier_m * self._outlier.standard_exponential()
        if chance >= self._config.outlier_share:
            return error_m, ""
        angle = 2 * math.pi * bearing
        return error_m + size_m * np.array([math.cos(angle), math.sin(angle), 0.0]), OUTLIER

    def drawn(self) -> dict[str, object]:
        """Counts, and the outages in seconds of true time (the last one may lie in the future)."""
        return {
            "fixes": self._count,
            "outliers": self._outliers,
            "without_fix": self._without_fix,
            "outages_s": [[float(start), float(end)] for start, end in self._outages.intervals_s],
        }


def _named(error_m: Float64) -> dict[str, float]:
    return named("error", error_m, "m", ("east", "north", "up"))


# The camera's shutter: when each image is exposed, what its stamp says, and when it arrives.


_LARGEST_JITTER = 0.2  # of the period, for trigger and stamp each: images and stamps stay in order


class ShutterSensor:
    """The n-th image is exposed at n / rate, give or take the jitter; colour and depth share it."""

    name = "camera"

    def __init__(self, config: CameraSensor, clock: SensorClock, seed: int, T_body_cam: Float64) -> None:
        self._config, self._clock, self._T_body_cam = config, clock, T_body_cam
        self._trigger, self._stamp, self._drop = (stream(seed, self.name, number) for number in range(3))
        self._latency = Latency(stream(seed, self.name, 3), config.latency_ms, config.latency_jitter_ms)
        self._count = 0
        self._dropped = 0
        self.next_true_ns = self._middle_ns()

    def take(self, state_at: StateAt) -> Measurement | None:
        """The next exposure, or None when the image gets lost."""
        config, true_ns = self._config, self.next_true_ns
        half_ns = round(config.exposure_ms * 0.5e6)
        stamp_ns = self._clock.stamp_ns(true_ns) - round(config.delay_ms * 1e6)
        stamp_ns += self._jitter_ns(self._stamp, config.stamp_jitter_ms) - half_ns * config.stamp_at_start
        arrival_ns = self._latency.arrival_ns(true_ns + half_ns)
        lost = self._drop.random() < config.drop_share
        self._count += 1
        self.next_true_ns = self._middle_ns()
        if lost:
            self._dropped += 1
            return None
        T_map_cam = state_at(true_seconds(true_ns)).T_map_body @ self._T_body_cam
        exposure = Exposure(true_ns, T_map_cam)
        return Measurement(self.name, true_ns, stamp_ns, arrival_ns, exposure)

    def drawn(self) -> dict[str, object]:
        """How many images were lost."""
        return {"images": self._count, "dropped": self._dropped}

    def _middle_ns(self) -> int:
        nominal_s = self._count / self._config.rate_hz + self._config.exposure_ms / 2e3
        jitter_ns = self._jitter_ns(self._trigger, self._config.trigger_jitter_ms)
        return max(true_stamp_ns(nominal_s) + jitter_ns, true_stamp_ns(0.0))  # there is no flight before the start

    def _jitter_ns(self, rng: np.random.Generator, sigma_ms: float) -> int:
        limit_ms = _LARGEST_JITTER * 1e3 / self._config.rate_hz
        return round(float(np.clip(rng.standard_normal() * sigma_ms, -limit_ms, limit_ms)) * 1e6)


class SensorSuite:
    """Camera, GPS, odometry, IMU and barometer of one flight.

    Args:
        config: rates and faults.
        datum: where on Earth the map's origin lies.
        seed: draws every fault.
        T_body_cam: (4, 4), the camera's optical frame in the body.

    Raises:
        UserError: a setting makes no sense.
    """

    def __init__(self, config: SensorsConfig, datum: Datum, seed: int, T_body_cam: Float64) -> None:
        config.check()
        if seed < 0:
            raise UserError(f"the seed of the sensors is {seed}; it must not be negative")
        self.config, self.datum, self.seed = config, datum, seed
        self.clocks = draw_clocks(config.clocks, seed)
        clocks = self.clocks
        self._sensors: tuple[Sensor, ...] = (
            ShutterSensor(config.camera, clocks["camera"], seed, np.asarray(T_body_cam, float)),
            GpsReceiver(config.gps, clocks["gps"], seed, datum),
            DriftingOdometry(config.odometry, clocks["odometry"], seed),
            InertialSensor(config.imu, clocks["imu"], seed),
            PressureSensor(config.barometer, clocks["barometer"], seed, datum),
        )

    def advance(self, state_at: StateAt, until_s: float) -> list[Measurement]:
        """All measurements since the last call whose true time is at most `until_s`, in order of true time.

        The same flight gives the same measurements in whatever steps it is advanced.
        """
        until_ns = true_stamp_ns(until_s)
        state_at = functools.lru_cache(maxsize=1)(state_at)  # sensors often measure at the same instant
        taken: list[Measurement] = []
        while True:
            sensor = min(self._sensors, key=lambda item: item.next_true_ns)
            if sensor.next_true_ns > until_ns:
                return taken
            measurement = sensor.take(state_at)
            if measurement is not None:
                taken.append(measurement)

    def drawn(self) -> dict[str, object]:
        """Every fault that was drawn so far, by sensor, ready for YAML."""
        clocks = {
            name: {"offset_ns": clock.offset_ns, "drift_ppm": clock.drift_ppm} for name, clock in self.clocks.items()
        }
        return {"clocks": clocks, **{sensor.name: sensor.drawn() for sensor in self._sensors}}


class Arrivals:
    """Measurements waiting for their arrival; what is taken at the same time arrives in the order it was added."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Measurement]] = []
        self._added = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, measurements: Iterable[Measurement]) -> None:
        """Put measurements on their way."""
        for item in measurements:
            heapq.heappush(self._heap, (item.arrival_ns, self._added, item))
            self._added += 1

    def until(self, true_ns: int | None) -> list[Measurement]:
        """Take out what has arrived by `true_ns` (None: everything), in order of arrival."""
        arrived = []
        while self._heap and (true_ns is None or self._heap[0][0] <= true_ns):
            arrived.append(heapq.heappop(self._heap)[2])
        return arrived
