"""Each sensor's numbers: the truth when nothing is wrong, and errors of the size that was asked for."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.swing import state_at

from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.geodesy import wgs84_to_enu
from pose2rgbd_ros.sim.sensors.config import (
    Barometer,
    CameraSensor,
    GpsSensor,
    ImuSensor,
    OdometrySensor,
    SensorsConfig,
)
from pose2rgbd_ros.sim.sensors.noise import GaussMarkov, Measurement
from pose2rgbd_ros.sim.sensors.suite import SensorSuite, altitude_m, pressure_pa
from pose2rgbd_ros.sim.state import DATUM, BodyState, true_seconds, true_stamp_ns

T_BODY_CAM = se3.make([0.1, 0.0, -0.05], [0.0, 0.17, 0.0, 0.98]) @ se3.T_BODY_OPTICAL
PERFECT = SensorsConfig.perfect()
SLOW = SensorsConfig(  # sensors that a test does not look at cost it little
    camera=replace(PERFECT.camera, rate_hz=0.1),
    gps=replace(PERFECT.gps, rate_hz=0.1),
    odometry=replace(PERFECT.odometry, rate_hz=1.0),
    imu=replace(PERFECT.imu, rate_hz=1.0),
    barometer=replace(PERFECT.barometer, rate_hz=0.1),
    clocks=PERFECT.clocks,
)


_STILL = BodyState(0.0, se3.make([1.0, 2.0, 50.0], [0.0, 0.0, 0.0, 1.0]), np.zeros(3), np.zeros(3), np.zeros(3))


def _hover(t_s: float) -> BodyState:
    return replace(_STILL, t_s=t_s)


def _take(sensor: str, part: object, until_s: float, seed: int = 1, state: object = state_at) -> list[Measurement]:
    suite = SensorSuite(replace(SLOW, **{sensor: part}), DATUM, seed, T_BODY_CAM)
    return [item for item in suite.advance(state, until_s) if item.sensor == sensor]


def _errors(items: list[Measurement], *names: str) -> np.ndarray:
    return np.array([[item.errors[name] for name in names] for item in items])


def _gps_error(item: Measurement) -> np.ndarray:
    fix, T = item.value, state_at(true_seconds(item.true_ns)).T_map_body
    antenna = T[:3, :3] @ GpsSensor().antenna_m + T[:3, 3]
    return wgs84_to_enu(fix.latitude_deg, fix.longitude_deg, fix.altitude_m, DATUM) - antenna


# --- camera


def test_perfect_images_are_stamped_in_the_middle_of_the_exposure() -> None:
    items = _take("camera", PERFECT.camera, 2.0)
    for n, item in enumerate(items):
        assert item.stamp_ns == item.true_ns == item.value.true_ns == true_stamp_ns(n / 30 + 0.002)
        expected = state_at(true_seconds(item.true_ns)).T_map_body @ T_BODY_CAM
        np.testing.assert_array_equal(item.value.T_map_cam, expected)


def test_exposure_delay_is_between_stamp_and_picture() -> None:
    sensor = replace(PERFECT.camera, exposure_ms=10.0, stamp_at_start=True, delay_ms=7.0)
    for item in _take("camera", sensor, 2.0):
        assert item.true_ns - item.stamp_ns == 12_000_000


def test_jitter_of_trigger_and_stamp() -> None:
    sensor = replace(PERFECT.camera, rate_hz=24.0, trigger_jitter_ms=2.0, stamp_jitter_ms=1.0)
    items = _take("camera", sensor, 100.0)
    nominal = np.array([true_stamp_ns(n / 24 + 0.002) for n in range(len(items))])
    true_ns, stamp_ns = (np.array([getattr(item, name) for item in items]) for name in ("true_ns", "stamp_ns"))
    assert 1.9e6 < (true_ns - nominal)[1:].std() < 2.1e6
    assert 0.95e6 < (stamp_ns - true_ns).std() < 1.05e6
    assert (np.diff(stamp_ns) > 0).all()


def test_stamps_stay_in_order_whatever_the_jitter() -> None:
    sensor = CameraSensor(rate_hz=60.0, trigger_jitter_ms=100.0, stamp_jitter_ms=100.0)
    assert (np.diff([item.stamp_ns for item in _take("camera", sensor, 20.0)]) > 0).all()


def test_share_of_dropped_images() -> None:
    items = _take("camera", replace(PERFECT.camera, drop_share=0.2), 100.0)
    assert 0.75 < len(items) / 3000 < 0.85


# --- gps


def test_perfect_fixes_are_where_the_antenna_is() -> None:
    items = _take("gps", PERFECT.gps, 3.0)
    assert max(np.abs(_gps_error(item)).max() for item in items) < 1e-5
    assert not any(item.value.covariance_m2.any() for item in items)


def test_covariance_of_fixes_tells_the_truth() -> None:
    """Mean squared error over covariance is 3 for 3 axes; the time constant is short, so that errors decorrelate."""
    sensor = GpsSensor(rate_hz=5.0, wander_s=0.2, outlier_share=0.0, outages_per_min=0.0)
    items = _take("gps", sensor, 240.0)
    nees = [
        float(error @ np.linalg.solve(item.value.covariance_m2, error))
        for item in items
        if (error := _gps_error(item)) is not None
    ]
    assert 2.75 < np.mean(nees) < 3.25
    errors = np.array([_gps_error(item) for item in items])
    np.testing.assert_allclose(errors, _errors(items, "error_east_m", "error_north_m", "error_up_m"), atol=1e-5)


def test_wandering_error_has_its_size_and_its_time_constant() -> None:
    wander = GaussMarkov(np.random.default_rng(1), 2.0, 10.0)
    errors = np.array([wander.at(float(t_s)) for t_s in range(10_000)])
    assert errors.std() == pytest.approx(2.0, rel=0.05)
    ten_later = np.mean(errors[10:] * errors[:-10]) / errors.var()
    assert ten_later == pytest.approx(math.exp(-1), abs=0.06)


def test_outliers_come_at_their_rate_and_size_and_are_not_told_by_the_covariance() -> None:
    sensor = replace(PERFECT.gps, noise_m=0.3, outlier_share=0.1, outlier_m=20.0)
    items = _take("gps", sensor, 200.0, state=_hover)
    outliers = [item for item in items if item.fault == "outlier"]
    assert 0.075 < len(outliers) / len(items) < 0.125
    size = np.linalg.norm(_errors(outliers, "error_east_m", "error_north_m"), axis=1)
    assert 15 < size.mean() < 25
    assert all((item.value.covariance_m2 == items[0].value.covariance_m2).all() for item in items)
    assert items[0].value.covariance_m2[0, 0] == pytest.approx(0.09)


@pytest.mark.parametrize("silent", [False, True])
def test_outages(silent: bool) -> None:
    sensor = replace(PERFECT.gps, outages_per_min=6.0, outage_s=2.0, silent_outages=silent)
    items = _take("gps", sensor, 300.0, state=_hover)
    lost = 3001 - len(items) if silent else sum(item.fault == "no_fix" for item in items)
    assert 0.1 < lost / 3001 < 0.25  # 2 s of every 12 on average
    for item in items:
        assert (item.value.status == -1) == math.isnan(item.value.latitude_deg) == (item.fault == "no_fix")


def test_turning_outliers_and_outages_off_leaves_the_noise_as_it_was() -> None:
    harsh = GpsSensor(outlier_share=0.2, outages_per_min=10.0)
    calm = replace(harsh, outlier_share=0.0, outages_per_min=0.0)
    by_time = {item.true_ns: item for item in _take("gps", calm, 60.0)}
    same = [item for item in _take("gps", harsh, 60.0) if item.fault == ""]
    assert len(same) > 100
    for item in same:
        other = by_time[item.true_ns]
        assert (item.value.latitude_deg, item.errors) == (other.value.latitude_deg, other.errors)
        assert (item.stamp_ns, item.arrival_ns) == (other.stamp_ns, other.arrival_ns)


# --- odometry


def test_perfect_odometry_is_the_truth() -> None:
    for item in _take("odometry", PERFECT.odometry, 20.0):
        state = state_at(true_seconds(item.true_ns))
        np.testing.assert_allclose(item.value.T_odom_body, state.T_map_body, atol=1e-10)
        in_body = state.T_map_body[:3, :3].T @ state.velocity_map_mps
        np.testing.assert_allclose(item.value.linear_mps, in_body, atol=1e-12)
        np.testing.assert_allclose(item.value.angular_radps, state.angular_velocity_body_radps, atol=1e-12)


def test_scale_and_heading_errors_grow_with_the_way() -> None:
    """A constant scale error of s moves the end of a track by s times the way; a heading error turns it."""

    def ahead(t_s: float) -> BodyState:
        return replace(_hover(t_s), T_map_body=se3.make([5.0 * t_s, 0, 50], [0, 0, 0, 1.0]))

    scaled = _take("odometry", replace(PERFECT.odometry, scale_sigma=0.1), 20.0, state=ahead)[-1]
    assert scaled.errors["error_x_m"] != 0
    assert abs(scaled.errors["error_y_m"]) < 1e-9
    turned = _take("odometry", replace(PERFECT.odometry, heading_sigma_deg=5.0), 20.0, state=ahead)[-1]
    yaw = turned.errors["error_yaw_rad"]
    assert turned.errors["error_y_m"] == pytest.approx(100 * math.sin(yaw))
    assert turned.errors["error_x_m"] == pytest.approx(100 * (math.cos(yaw) - 1))


def test_drift_keeps_roll_and_pitch_and_is_continuous() -> None:
    items = _take("odometry", OdometrySensor(yaw_drift_deg_per_min=10.0, walk_m_per_sqrt_min=1.0), 20.0)
    for item in items[::100]:
        true = state_at(true_seconds(item.true_ns)).T_map_body
        tilt = quaternions.to_euler_rpy(se3.split(item.value.T_odom_body)[1])[:2]
        np.testing.assert_allclose(tilt, quaternions.to_euler_rpy(se3.split(true)[1])[:2], atol=1e-9)
    steps = np.diff([item.value.T_odom_body[:3, 3] for item in items], axis=0)
    assert np.linalg.norm(steps, axis=1).max() < 0.2  # 12 m/s at 100 Hz


def test_random_walk_grows_with_the_root_of_time() -> None:
    sensor = replace(PERFECT.odometry, rate_hz=1.0, walk_m_per_sqrt_min=3.0)
    ends = [
        _errors([(items := _take("odometry", sensor, 120.0, seed, _hover))[30], items[120]], "error_x_m", "error_y_m")
        for seed in range(100)
    ]
    sooner, later = np.array(ends).std(axis=(0, 2))
    assert sooner == pytest.approx(3.0 / math.sqrt(2), rel=0.15)
    assert later == pytest.approx(3.0 * math.sqrt(2), rel=0.15)


def test_covariance_of_odometry_tells_the_truth() -> None:
    sensor = OdometrySensor(rate_hz=1.0)
    nees, names = [], ("error_x_m", "error_y_m", "error_z_m", "error_yaw_rad")
    for seed in range(80):
        last = _take("odometry", sensor, 40.0, seed)[-1]
        error, rows = _errors([last], *names)[0], [0, 1, 2, 5]
        nees.append(error @ np.linalg.solve(last.value.pose_covariance[np.ix_(rows, rows)], error))
    assert 3.2 < np.mean(nees) < 4.8  # 4 degrees of freedom; 80 draws scatter by 0.32


# --- imu


def _integrated(items: list[Measurement]) -> Iterator[tuple[Measurement, np.ndarray, np.ndarray, Rotation]]:
    """Strapdown navigation from the samples alone, by the midpoint rule."""
    first = state_at(true_seconds(items[0].true_ns))
    position, velocity = first.T_map_body[:3, 3].copy(), first.velocity_map_mps.copy()
    attitude = Rotation.from_matrix(first.T_map_body[:3, :3])
    gravity = np.array([0.0, 0.0, -9.80665])
    for before, after in itertools.pairwise(items):
        dt = (after.true_ns - before.true_ns) / 1e9
        turn = (before.value.angular_velocity_radps + after.value.angular_velocity_radps) / 2 * dt
        turned = attitude * Rotation.from_rotvec(turn)
        force = (attitude.apply(before.value.specific_force_mps2) + turned.apply(after.value.specific_force_mps2)) / 2
        position = position + velocity * dt + (force + gravity) * dt**2 / 2
        velocity, attitude = velocity + (force + gravity) * dt, turned
        yield after, position, velocity, attitude


def test_integrating_the_perfect_imu_gives_the_flight() -> None:
    items = _take("imu", PERFECT.imu, 8.0)
    for item, position, velocity, attitude in _integrated(items):
        state = state_at(true_seconds(item.true_ns))
        assert np.abs(position - state.T_map_body[:3, 3]).max() < 5e-3
        assert np.abs(velocity - state.velocity_map_mps).max() < 2e-3
        assert (attitude.inv() * Rotation.from_matrix(state.T_map_body[:3, :3])).magnitude() < 1e-4


def test_an_imu_at_rest_feels_gravity_upwards_and_tells_no_orientation() -> None:
    item = _take("imu", PERFECT.imu, 1.0, state=_hover)[0]
    np.testing.assert_allclose(item.value.specific_force_mps2, [0, 0, 9.80665])
    assert item.value.quat_xyzw is None


def test_noise_and_bias_of_the_imu() -> None:
    sensor = replace(PERFECT.imu, rate_hz=100.0, gyro_noise_radps_sqrt_hz=1e-3, accel_noise_mps2_sqrt_hz=1e-2)
    items = _take("imu", sensor, 100.0, state=_hover)
    gyro = np.array([item.value.angular_velocity_radps for item in items])
    assert gyro.std() == pytest.approx(1e-2, rel=0.02)
    accel = _errors(items, *(f"accel_error_{axis}_mps2" for axis in "xyz"))
    assert accel.std() == pytest.approx(0.1, rel=0.02)
    assert items[0].value.angular_velocity_variance == pytest.approx(1e-4)
    assert items[0].value.specific_force_variance == pytest.approx(1e-2)


def test_bias_begins_at_its_sigma_and_walks() -> None:
    sensor = replace(PERFECT.imu, rate_hz=1.0, gyro_bias_radps=0.1, gyro_bias_walk_radps_per_sqrt_s=0.02)
    runs = [_take("imu", sensor, 25.0, seed, _hover) for seed in range(100)]
    names = [f"gyro_bias_{axis}_radps" for axis in "xyz"]
    first, last = (np.array([_errors(run, *names)[k] for run in runs]) for k in (0, 25))
    assert first.std() == pytest.approx(0.1, rel=0.1)
    assert (last - first).std() == pytest.approx(0.1, rel=0.1)


def test_orientation_of_an_ahrs() -> None:
    for item in _take("imu", replace(PERFECT.imu, orientation=True), 1.0):
        true = se3.split(state_at(true_seconds(item.true_ns)).T_map_body)[1]
        assert quaternions.angle_between_rad(item.value.quat_xyzw, true) < 1e-9
    noisy = _take("imu", ImuSensor(orientation=True, orientation_noise_deg=2.0), 5.0, state=_hover)
    angles = quaternions.to_euler_rpy([item.value.quat_xyzw for item in noisy])
    assert np.rad2deg(angles).std() == pytest.approx(2.0, rel=0.1)


# --- barometer


def test_standard_atmosphere() -> None:
    """Table values of ISO 2533, by geopotential height."""
    for height, pressure in ((0.0, 101325.0), (500.0, 95460.8), (1000.0, 89874.6), (5000.0, 54019.9)):
        assert pressure_pa(height) == pytest.approx(pressure, rel=1e-5)
        assert altitude_m(pressure_pa(height)) == pytest.approx(height, abs=1e-6)
    assert pressure_pa(50_000.0) == 0.0, "a drone that is sent up for an hour breaks nothing"


def test_pressure_gives_the_height_and_its_faults_have_their_size() -> None:
    for item in _take("barometer", PERFECT.barometer, 3.0):
        height = state_at(true_seconds(item.true_ns)).T_map_body[2, 3]
        assert altitude_m(item.value.pressure_pa) - DATUM.altitude_m == pytest.approx(height, abs=1e-6)
    offsets = [
        _errors(_take("barometer", Barometer(rate_hz=1.0, offset_pa=150.0), 1.0, seed, _hover), "bias_pa")[0, 0]
        for seed in range(100)
    ]
    assert 120 < np.std(offsets) < 180
    noisy = _take("barometer", replace(PERFECT.barometer, noise_pa=3.0), 100.0, state=_hover)
    assert np.std([item.value.pressure_pa for item in noisy]) == pytest.approx(3.0, rel=0.05)
