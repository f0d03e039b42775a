"""The suite as a whole: time, order, seeds, and that faults are independent of each other and of the steps taken."""

from __future__ import annotations

import dataclasses
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.swing import state_at

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.sim.sensors.config import Clocks, GpsSensor, SensorsConfig
from pose2rgbd_ros.sim.sensors.noise import Measurement, SensorClock, draw_clocks
from pose2rgbd_ros.sim.sensors.suite import Arrivals, SensorSuite
from pose2rgbd_ros.sim.state import DATUM, START_NS, true_stamp_ns

T_BODY_CAM = se3.make([0.1, 0.0, -0.05], [0.0, 0.17, 0.0, 0.98]) @ se3.T_BODY_OPTICAL
HARSH = SensorsConfig(gps=GpsSensor(outages_per_min=20.0, outage_s=0.5, outlier_share=0.2))


def _fly(config: SensorsConfig, until_s: float = 3.0, seed: int = 5, steps: int = 1) -> list[Measurement]:
    suite = SensorSuite(config, DATUM, seed, T_BODY_CAM)
    times = np.linspace(0.0, until_s, steps + 1)[1:]
    return [item for t_s in times for item in suite.advance(state_at, float(t_s))]


def _key(item: Measurement) -> tuple[object, ...]:
    """Everything in a measurement, exactly."""
    value = [
        np.asarray(getattr(item.value, field.name), float).tobytes()
        for field in dataclasses.fields(item.value)
        if getattr(item.value, field.name) is not None
    ]
    return (
        item.sensor,
        item.true_ns,
        item.stamp_ns,
        item.arrival_ns,
        item.fault,
        repr(dict(item.errors)),  # text, since NaN is unlike itself
        *value,
    )


def _by_sensor(items: list[Measurement]) -> dict[str, list[Measurement]]:
    groups = defaultdict(list)
    for item in items:
        groups[item.sensor].append(item)
    return groups


@pytest.mark.parametrize("steps", [2, 7, 300])
def test_steps_do_not_matter(steps: int) -> None:
    assert list(map(_key, _fly(HARSH, steps=steps))) == list(map(_key, _fly(HARSH)))


def test_the_seed_decides() -> None:
    assert list(map(_key, _fly(HARSH))) == list(map(_key, _fly(HARSH)))
    other = _by_sensor(_fly(HARSH, seed=6))
    for sensor, items in _by_sensor(_fly(HARSH)).items():
        assert list(map(_key, items[:5])) != list(map(_key, other[sensor][:5]))


def test_measurements_come_in_order_of_true_time_at_their_rates() -> None:
    items = _fly(SensorsConfig.perfect(), until_s=2.0)
    true_ns = [item.true_ns for item in items]
    assert true_ns == sorted(true_ns)
    counts = {sensor: len(group) for sensor, group in _by_sensor(items).items()}
    assert counts == {"camera": 60, "gps": 21, "odometry": 201, "imu": 401, "barometer": 51}


def test_arrivals_are_late_and_in_order_for_each_sensor() -> None:
    for items in _by_sensor(_fly(HARSH)).values():
        arrivals = [item.arrival_ns for item in items]
        assert arrivals == sorted(arrivals)
        assert all(item.arrival_ns > item.true_ns for item in items)


def test_the_queue_hands_out_what_has_arrived_in_order() -> None:
    suite, queue, out = SensorSuite(HARSH, DATUM, 1, T_BODY_CAM), Arrivals(), []
    for t_s in np.arange(0.0, 3.0, 0.05):
        queue.add(suite.advance(state_at, float(t_s)))
        arrived = queue.until(true_stamp_ns(float(t_s)))
        assert all(item.arrival_ns <= true_stamp_ns(float(t_s)) for item in arrived)
        out += arrived
    out += queue.until(None)
    assert len(queue) == 0
    assert [item.arrival_ns for item in out] == sorted(item.arrival_ns for item in out)
    assert sorted(map(_key, out)) == sorted(map(_key, _fly(HARSH, 2.95, seed=1)))


_FAULTS = [
    (part.name, item.name)
    for part in dataclasses.fields(SensorsConfig)
    for item in dataclasses.fields(getattr(HARSH, part.name))
    if item.metadata.get("fault") and part.name != "clocks"
]


@pytest.mark.parametrize(("sensor", "fault"), _FAULTS)
def test_turning_one_fault_off_leaves_the_other_sensors_alone(sensor: str, fault: str) -> None:
    part = dataclasses.replace(getattr(HARSH, sensor), **{fault: 0.0})
    without = _by_sensor(_fly(dataclasses.replace(HARSH, **{sensor: part}), 0.2))
    for name, items in _by_sensor(_fly(HARSH, 0.2)).items():
        if name != sensor:
            assert list(map(_key, without[name])) == list(map(_key, items))


@given(offset_ns=st.integers(-(10**12), 10**12), drift_ppm=st.floats(-1e4, 1e4), elapsed_ns=st.integers(0, 10**13))
@settings(max_examples=200)
def test_the_clock_law_is_exact_and_can_be_inverted(offset_ns: int, drift_ppm: float, elapsed_ns: int) -> None:
    clock, true_ns = SensorClock(offset_ns, drift_ppm), START_NS + elapsed_ns
    stamp_ns = clock.stamp_ns(true_ns)
    assert stamp_ns == true_ns + offset_ns + round(drift_ppm * 1e-6 * elapsed_ns)
    assert abs(clock.true_ns(stamp_ns) - true_ns) <= 1


def test_stamps_follow_the_clocks_of_the_suite() -> None:
    config = SensorsConfig(clocks=Clocks(offset_ms=500.0, drift_ppm=200.0, one_autopilot=False))
    suite = SensorSuite(config, DATUM, 3, T_BODY_CAM)
    assert len({clock.offset_ns for clock in suite.clocks.values()}) == 5
    assert all(abs(clock.offset_ns) <= 5e8 and abs(clock.drift_ppm) <= 200 for clock in suite.clocks.values())
    for item in suite.advance(state_at, 1.0):
        if item.sensor != "camera":
            assert item.stamp_ns == suite.clocks[item.sensor].stamp_ns(item.true_ns)


def test_the_autopilot_has_one_clock_and_camera_and_gps_their_own() -> None:
    clocks = draw_clocks(Clocks(), 0)
    assert clocks["odometry"] == clocks["imu"] == clocks["barometer"]
    assert len({clocks["camera"], clocks["gps"], clocks["imu"]}) == 3


def test_perfect_sensors_tell_the_truth_at_once() -> None:
    for item in _fly(SensorsConfig.perfect()):
        half_exposure_ns = 2_000_000 if item.sensor == "camera" else 0
        assert item.stamp_ns == item.true_ns
        assert item.arrival_ns == item.true_ns + half_exposure_ns  # an image is there when its exposure ends
        assert item.fault == ""
        assert all(abs(value) < 1e-9 for value in item.errors.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gps.rate_hz": 0.0}, r"gps\.rate_hz is 0\.0; it must be at least 0\.1"),
        ({"gps.outlier_share": 1.5}, r"gps\.outlier_share is 1\.5; it must be at most"),
        ({"imu.gyro_bias_radps": float("nan")}, "finite"),
        ({"clocks.offset_ms": -1.0}, r"clocks\.offset_ms is -1\.0; it must be at least 0"),
        ({"camera.exposure_ms": 100.0}, r"camera\.exposure_ms is 100, but at 30 images"),
        ({"gps.antenna_m": (0.0, 0.0, 80.0)}, "within 10 m of the body"),
        ({"gps.antenna_m": (0.0, 0.08)}, "three numbers within 10 m"),
        ({"gps.antenna_m": (0.0, 0.0, float("nan"))}, "three numbers within 10 m"),
    ],
)
def test_nonsense_is_refused(change: dict[str, object], message: str) -> None:
    config = SensorsConfig()
    for name, value in change.items():
        sensor, item = name.split(".")
        part = dataclasses.replace(getattr(config, sensor), **{item: value})
        config = dataclasses.replace(config, **{sensor: part})
    with pytest.raises(UserError, match=message):
        SensorSuite(config, DATUM, 0, T_BODY_CAM)


def test_what_was_drawn_is_told() -> None:
    suite = SensorSuite(HARSH, DATUM, 2, T_BODY_CAM)
    items = _by_sensor(suite.advance(state_at, 20.0))
    drawn = suite.drawn()
    assert drawn["camera"]["images"] - drawn["camera"]["dropped"] == len(items["camera"])
    assert drawn["gps"]["outliers"] == sum(item.fault == "outlier" for item in items["gps"]) > 15
    assert drawn["gps"]["without_fix"] == sum(item.fault == "no_fix" for item in items["gps"]) > 5
    assert drawn["clocks"]["imu"]["offset_ns"] == suite.clocks["imu"].offset_ns
