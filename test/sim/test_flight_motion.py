"""Motion in time: smooth to the second derivative, its derivatives true, within its limits, at rest at both ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from support.town import Town

from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.sim.flights.config import PLANS, FlightConfig
from pose2rgbd_ros.sim.flights.flight import PERIOD_S, Flight, Motion, smooth_noise
from pose2rgbd_ros.sim.flights.make import make_flight

WAYPOINTS = "0 0 60\n90 0 60\n90 70 70\n-40 70 60\n-40 70 95\n-40 -60 95\n"
SMALL = {"area_m": 90.0, "width_m": 60.0, "distance_m": 500.0, "radius_m": 25.0, "loops": 2}
TOWN = Town()


def small_flight(plan: str, seed: int, folder, **changes: object) -> Flight:
    used = {name: value for name, value in SMALL.items() if name in PLANS[plan] or name == "loops"}
    if plan == "waypoints":
        (folder / "points.txt").write_text(WAYPOINTS)
        used["waypoints"] = str(folder / "points.txt")
    return make_flight(FlightConfig(plan=plan, seed=seed, **{**used, **changes}), TOWN)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("flights")


def rotations(flight: Flight, t_s: np.ndarray) -> Rotation:
    return Rotation.from_matrix(flight.T_map_body(t_s)[:, :3, :3])


@settings(max_examples=25)
@given(plan=st.sampled_from(sorted(PLANS)), seed=st.integers(0, 2**31 - 1), jitter=st.sampled_from([0.0, 4.0]))
def test_velocities_are_the_derivatives_of_the_poses(folder, plan, seed, jitter):
    flight = small_flight(plan, seed, folder, attitude_jitter_deg=jitter)
    h = 1e-4
    t = np.random.default_rng(seed).uniform(h, flight.duration_s - h, 40)
    before, after = flight.position_m(t - h), flight.position_m(t + h)
    np.testing.assert_allclose((after - before) / (2 * h), flight.velocity_mps(t), atol=1e-6)
    change = flight.velocity_mps(t + h) - flight.velocity_mps(t - h)
    np.testing.assert_allclose(change / (2 * h), flight.acceleration_mps2(t), atol=1e-6)
    turn = (rotations(flight, t - h).inv() * rotations(flight, t + h)).as_rotvec() / (2 * h)
    np.testing.assert_allclose(turn, flight.angular_velocity_body_radps(t), atol=1e-6)


@settings(max_examples=14)
@given(plan=st.sampled_from(sorted(PLANS)), seed=st.integers(0, 2**31 - 1))
def test_second_derivatives_have_no_steps_at_knots(folder, plan, seed):
    """Also those of the attitude: the angular velocity has no kinks, so the angular acceleration no steps."""
    flight = small_flight(plan, seed, folder)
    knots = np.arange(PERIOD_S, flight.duration_s - PERIOD_S / 2, PERIOD_S)
    for h in (1e-5, 1e-6):
        step = flight.acceleration_mps2(knots + h) - flight.acceleration_mps2(knots - h)
        assert np.abs(step).max() < 100 * h  # a jerk below 50 m/s^3, and no more than that
    h = 1e-4
    rate = flight.angular_velocity_body_radps
    behind, here, ahead = rate(knots - h), rate(knots), rate(knots + h)
    assert np.abs((ahead - here) / h - (here - behind) / h).max() < 0.05


@settings(max_examples=20)
@given(
    plan=st.sampled_from(sorted(PLANS)),
    seed=st.integers(0, 2**31 - 1),
    speed=st.floats(1.0, 15.0),
    limit=st.floats(0.5, 5.0),
)
def test_speed_and_acceleration_keep_their_limits(folder, plan, seed, speed, limit):
    flight = small_flight(plan, seed, folder, speed_mps=speed, acceleration_mps2=limit, wander_m=0.0)
    t = np.linspace(0, flight.duration_s, 4001)
    assert np.linalg.norm(flight.velocity_mps(t), axis=1).max() < speed * 1.001
    # Along the way and across it at once; corners too short for their arc are flown slowly, not softly.
    assert np.linalg.norm(flight.acceleration_mps2(t), axis=1).max() < 1.6 * limit
    assert np.abs(flight.angular_velocity_body_radps(t)).max() < 1.5


@pytest.mark.parametrize("plan", sorted(PLANS))
def test_it_begins_and_ends_at_rest_and_hovers_beyond(folder, plan):
    flight = small_flight(plan, 3, folder)
    ends = np.array([0.0, flight.duration_s])
    for quantity in (flight.velocity_mps, flight.acceleration_mps2, flight.angular_velocity_body_radps):
        assert np.abs(quantity(ends)).max() < 1e-9
    np.testing.assert_array_equal(flight.T_map_cam(ends + np.array([-9.0, 9.0])), flight.T_map_cam(ends))
    assert np.linalg.norm(np.diff(flight.position_m(np.linspace(*ends, 50)), axis=0), axis=1).max() > 1.0


@pytest.mark.parametrize("plan", sorted(PLANS))
def test_the_same_settings_are_the_same_flight_and_a_seed_another(folder, plan):
    t = np.linspace(0, 30, 7)
    first, again, other = (small_flight(plan, seed, folder).T_map_cam(t) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


def test_noise_of_one_kind_never_shifts_another():
    plain, shaken = (make_flight(FlightConfig(plan="survey", attitude_jitter_deg=jitter)) for jitter in (0.0, 5.0))
    t = np.linspace(0, plain.duration_s, 50)
    np.testing.assert_array_equal(plain.position_m(t), shaken.position_m(t))
    assert plain.held_out_lines == shaken.held_out_lines


def test_state_tells_the_same_as_the_parts():
    flight = make_flight(FlightConfig(plan="lawnmower"))
    state = flight.state(41.3)
    assert state.t_s == 41.3
    np.testing.assert_array_equal(state.T_map_body, flight.T_map_body([41.3])[0])
    np.testing.assert_array_equal(state.velocity_map_mps, flight.velocity_mps(41.3)[0])
    np.testing.assert_array_equal(state.acceleration_map_mps2, flight.acceleration_mps2(41.3)[0])
    np.testing.assert_array_equal(state.angular_velocity_body_radps, flight.angular_velocity_body_radps(41.3)[0])
    np.testing.assert_allclose(flight.T_map_cam(41.3)[0], state.T_map_body @ flight.T_body_cam)


def test_attitude_is_roll_pitch_yaw_about_fixed_axes():
    angles = np.random.default_rng(0).uniform(-1.4, 1.4, (50, 3))
    T = np.stack([Motion(np.array([[1.0, 2.0, 3.0, *rpy]])).T_map_body(0.5)[0] for rpy in angles])
    np.testing.assert_allclose(T, se3.make([1.0, 2.0, 3.0], quaternions.from_euler_rpy(angles)), atol=1e-12)


def test_noise_is_smooth_and_has_the_deviation_asked_for():
    noise = smooth_noise(np.random.default_rng(0), 60_000, 6, 2)
    np.testing.assert_allclose(noise.std(axis=0), 1.0, atol=0.05)
    np.testing.assert_allclose(noise.mean(axis=0), 0.0, atol=0.05)
    assert np.abs(noise).max() < 4.1
    spectrum = np.abs(np.fft.rfft(noise[:, 0])) ** 2
    beyond = np.fft.rfftfreq(len(noise)) > 1 / 6  # faster than the nodes
    assert spectrum[beyond].sum() < 1e-3 * spectrum.sum()
