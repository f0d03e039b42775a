"""The live drone: smooth in every change of mode, obedient, and never into a roof."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.vehicle import Router, Vehicle, VehicleConfig

PLAN = make_flight(FlightConfig(plan="lawnmower", altitude_m=40.0, area_m=60.0, width_m=30.0, line_spacing_m=15.0))
TOWER_M = 34.0  # a square tower of 20 m around (60, 0), and a hall of 12 m beside it


def surface_height_m(xy_m):
    xy = np.asarray(xy_m)
    tower = np.abs(xy - [60.0, 0.0]).max(axis=1) < 10
    hall = np.abs(xy - [60.0, 40.0]).max(axis=1) < 25
    return np.where(tower, TOWER_M, np.where(hall, 12.0, 0.0))


def make_vehicle(**changes):
    config = VehicleConfig(**changes)
    router = Router(
        config.path_speed_mps, config.max_acceleration_mps2, config.clearance_m, surface_height_m, PLAN.T_body_cam
    )
    return Vehicle(config, PLAN, surface_height_m, router)


def fly(vehicle, seconds, each=lambda: None, step_s=0.02):
    """States every 20 ms, the commands of `each` in between."""
    states = []
    end = vehicle.flown_s + seconds
    while vehicle.flown_s < end - 1e-9:
        each()
        vehicle.advance(min(vehicle.flown_s + step_s, end))
        states.append(vehicle.state(vehicle.flown_s))
    return states


def check_smooth(states):
    """Velocities are the derivatives of the poses, across every join, and nothing jumps."""
    t = np.array([state.t_s for state in states])
    T = np.stack([state.T_map_body for state in states])
    velocity = np.stack([state.velocity_map_mps for state in states])
    rates = np.stack([state.angular_velocity_body_radps for state in states])
    dt = np.diff(t)[:, None]
    np.testing.assert_allclose(np.diff(T[:, :3, 3], axis=0) / dt, (velocity[1:] + velocity[:-1]) / 2, atol=0.03)
    turned = T[:-1, :3, :3].swapaxes(1, 2) @ T[1:, :3, :3]
    small = np.stack([turned[:, 2, 1], turned[:, 0, 2], turned[:, 1, 0]], axis=-1)
    np.testing.assert_allclose(small / dt, (rates[1:] + rates[:-1]) / 2, atol=0.03)
    acceleration = np.stack([state.acceleration_map_mps2 for state in states])
    np.testing.assert_allclose(np.diff(velocity, axis=0) / dt, (acceleration[1:] + acceleration[:-1]) / 2, atol=0.15)
    assert np.abs(acceleration).max() < 6


def test_a_plan_is_flown_exactly_and_again_from_its_start():
    vehicle = make_vehicle()
    states = fly(vehicle, PLAN.duration_s - 0.5, step_s=0.1)
    for state in states[::7]:
        np.testing.assert_array_equal(state.T_map_body, PLAN.T_map_body(state.t_s)[0])
    assert vehicle.mode == "plan"
    states = fly(vehicle, 60.0)
    check_smooth(states)
    distance = np.linalg.norm(PLAN.position_m(10.0)[0] - [s.T_map_body[:3, 3] for s in states], axis=1)
    assert distance.min() < 0.2
    assert vehicle.mode == "plan"


def test_once_it_hovers_at_the_end():
    vehicle = make_vehicle(loop=False)
    vehicle.advance(PLAN.duration_s + 5)
    assert vehicle.mode == "hover"
    np.testing.assert_allclose(
        vehicle.state(vehicle.flown_s).T_map_body, PLAN.T_map_body(PLAN.duration_s)[0], atol=0.05
    )


def test_commands_take_over_smoothly_and_time_out():
    vehicle = make_vehicle()
    states = fly(vehicle, 8.0)
    states += fly(vehicle, 10.0, lambda: vehicle.command(np.array([0.0, 5.0, 1.0]), 0.2))
    assert vehicle.mode == "command"
    velocity_body = states[-1].T_map_body[:3, :3].T @ states[-1].velocity_map_mps
    np.testing.assert_allclose(velocity_body, [0.0, 5.0, 1.0], atol=0.5)
    assert states[-1].angular_velocity_body_radps[2] == pytest.approx(0.2, abs=0.01)
    states += fly(vehicle, 0.4)
    assert vehicle.mode == "command"
    states += fly(vehicle, 6.0)
    assert vehicle.mode == "hover"
    assert np.linalg.norm(states[-1].velocity_map_mps) < 0.02
    np.testing.assert_allclose(states[-1].T_map_body[2, :3], [0, 0, 1], atol=1e-3)
    check_smooth(states)


def test_commands_are_limited():
    vehicle = make_vehicle(max_speed_mps=3.0, max_climb_mps=1.0, max_yaw_rate_radps=0.5)
    states = fly(vehicle, 12.0, lambda: vehicle.command(np.array([30.0, 40.0, 9.0]), -9.0))
    speed = [np.hypot(*state.velocity_map_mps[:2]) for state in states[300:]]
    assert np.mean(speed) == pytest.approx(3.0, abs=0.15)
    assert states[-1].velocity_map_mps[2] == pytest.approx(1.0, abs=0.01)
    assert states[-1].angular_velocity_body_radps[2] == pytest.approx(-0.5, abs=0.01)
    with pytest.raises(UserError, match="NaN or infinity"):
        vehicle.command(np.array([np.nan, 0, 0]), 0.0)


def hover_at(vehicle, position_m, yaw_rad=0.0):
    pose = se3.make(position_m, quaternions.from_euler_rpy([0, 0, yaw_rad]))
    states = fly(vehicle, vehicle.fly_path(pose[None]) + 2.0)
    assert vehicle.mode == "hover"
    np.testing.assert_allclose(states[-1].T_map_body, pose, atol=0.02)
    return states


def test_a_path_is_flown_with_its_headings():
    vehicle = make_vehicle()
    states = fly(vehicle, 10.0)
    places = np.array([[40.0, -30, 45], [60, -40, 50], [90, -40, 50], [90, 0, 45]])
    yaws = np.array([0.0, 1.0, 2.0, 3.0])
    poses = se3.make(places, quaternions.from_euler_rpy(np.stack([0 * yaws, 0 * yaws, yaws], axis=-1)))
    seconds = vehicle.fly_path(poses)
    states += fly(vehicle, seconds / 2)
    assert vehicle.mode == "path"
    states += fly(vehicle, seconds / 2 + 1.0)
    assert vehicle.mode == "hover"
    check_smooth(states)
    track = np.stack([state.T_map_body for state in states])
    for pose in poses:
        nearest = np.linalg.norm(track[:, :3, 3] - pose[:3, 3], axis=1).argmin()
        assert np.linalg.norm(track[nearest, :3, 3] - pose[:3, 3]) < 3.0, "corners are rounded, no more"
        turn = quaternions.angle_between_rad(
            quaternions.from_matrix(track[nearest, :3, :3]), quaternions.from_matrix(pose[:3, :3])
        )
        assert turn < 0.25
    np.testing.assert_allclose(track[-1], poses[-1], atol=0.02)
    speeds = np.linalg.norm([state.velocity_map_mps for state in states[600:]], axis=1)
    assert speeds.max() < VehicleConfig().path_speed_mps + 0.1


@pytest.mark.parametrize("aside_m", [0.0, 1e-6, 0.01, 2.0])
def test_a_path_that_turns_back_is_flown_to_its_end_first(aside_m):
    vehicle = make_vehicle()
    fly(vehicle, 10.0)
    places = np.array([[0.0, 0, 50], [0, -30, 50], [aside_m, 0, 50], [0, 0, 80], [0, aside_m, 50]])
    states = fly(vehicle, vehicle.fly_path(se3.make(places, [0, 0, 0, 1.0])) + 1.0)
    check_smooth(states)
    track = np.stack([state.T_map_body[:3, 3] for state in states])
    missed_m = [np.linalg.norm(track - place, axis=1).min() for place in places]
    assert max(missed_m) < 2.0


def test_a_path_into_a_roof_is_refused_and_nothing_changes():
    vehicle = make_vehicle()
    vehicle.advance(10.0)
    through = se3.make([[100.0, 0.0, 30.0]], [0, 0, 0, 1.0])
    with pytest.raises(UserError, match=r"the path is too low: .* must be 37\.0 m or more"):
        vehicle.fly_path(through)
    assert vehicle.mode == "plan"
    vehicle.advance(12.0)
    np.testing.assert_array_equal(vehicle.state(12.0).T_map_body, PLAN.T_map_body(12.0)[0])


@pytest.mark.parametrize("far_m", [1e6, 1e12, 1e100])
def test_a_path_to_the_moon_is_refused_before_it_is_sampled(far_m):
    with pytest.raises(UserError, match=r"the path takes .* h; at most 6 h are flown"):
        make_vehicle().fly_path(se3.make([[far_m, 0.0, 80.0]], [0, 0, 0, 1.0]))


def test_a_path_to_where_it_is_leads_nowhere():
    vehicle = make_vehicle(loop=False)
    vehicle.advance(PLAN.duration_s + 4)
    with pytest.raises(UserError, match="leads nowhere"):
        vehicle.fly_path(vehicle.state(vehicle.flown_s).T_map_body[None])


def test_back_to_the_plan_where_it_was_left():
    vehicle = make_vehicle()
    states = fly(vehicle, 12.0)
    states += fly(vehicle, 6.0, lambda: vehicle.command(np.array([0.0, 0.0, -2.0]), 0.0))
    states += fly(vehicle, vehicle.fly_plan())
    states += fly(vehicle, 10.0)
    assert vehicle.mode == "plan"
    check_smooth(states)
    phase_s = 12.0 + 10.0 - 1.5  # it came to speed within 3 s
    np.testing.assert_allclose(states[-1].T_map_body, PLAN.T_map_body(phase_s)[0], atol=0.05)


def test_the_way_back_leads_over_the_roofs():
    vehicle = make_vehicle()
    vehicle.advance(5.0)
    hover_at(vehicle, [90.0, 0.0, 45.0])
    states = fly(vehicle, 30.0, lambda: vehicle.command(np.array([0.0, 0.0, -4.0]), 0.0))
    assert states[-1].T_map_body[2, 3] == pytest.approx(3.0, abs=0.3)
    states = fly(vehicle, vehicle.fly_plan() + 5)
    track = np.stack([state.T_map_body[:3, 3] for state in states])
    assert (track[:, 2] - surface_height_m(track[:, :2])).min() > 2.5
    assert vehicle.mode == "plan"


def test_it_does_not_descend_into_a_roof_and_says_so():
    vehicle = make_vehicle()
    vehicle.advance(1.0)
    hover_at(vehicle, [60.0, 0.0, 50.0])
    states = fly(vehicle, 15.0, lambda: vehicle.command(np.array([0.0, 0.0, -4.0]), 0.0))
    assert states[-1].T_map_body[2, 3] == pytest.approx(TOWER_M + 3.0, abs=0.2)
    assert min(state.T_map_body[2, 3] for state in states) > TOWER_M + 2.8
    assert "no lower than z = 37.0 m" in vehicle.notice
    fly(vehicle, 3.0, lambda: vehicle.command(np.array([0.0, 0.0, 1.0]), 0.0))
    assert vehicle.notice is None


def test_it_stops_before_a_wall_and_says_so():
    vehicle = make_vehicle()
    vehicle.advance(1.0)
    hover_at(vehicle, [0.0, 0.0, 40.0])
    fly(vehicle, 12.0, lambda: vehicle.command(np.array([0.0, 0.0, -4.0]), 0.0))
    states = fly(vehicle, 25.0, lambda: vehicle.command(np.array([12.0, 0.0, 0.0]), 0.0))
    x = np.array([state.T_map_body[0, 3] for state in states])
    assert 44 < x[-1] <= x.max() + 1e-9 < 47.2, "the tower's wall stands at x = 50"
    assert "what stands ahead" in vehicle.notice
    assert np.linalg.norm(states[-1].velocity_map_mps) < 0.1


COMMANDS = st.lists(
    st.tuples(st.floats(-15, 15), st.floats(-15, 15), st.floats(-6, 4), st.floats(-1, 1), st.floats(0.3, 3.0)),
    min_size=3,
    max_size=7,
)


@settings(max_examples=5)
@given(COMMANDS)
def test_no_sequence_of_commands_brings_it_near_anything(commands):
    vehicle = make_vehicle()
    vehicle.advance(1.0)
    hover_at(vehicle, [40.0, -20.0, 42.0])
    states = []
    for forward, left, up, turn, seconds in commands:
        states += fly(
            vehicle, seconds, lambda v=(forward, left, up), w=turn: vehicle.command(np.array(v), w), step_s=0.1
        )
    states += fly(vehicle, 8.0, step_s=0.1)
    track = np.stack([state.T_map_body[:3, 3] for state in states])
    assert (track[:, 2] - surface_height_m(track[:, :2])).min() > 1.5
    assert np.linalg.norm(states[-1].velocity_map_mps) < 0.05


def test_states_are_remembered_for_a_while_only():
    vehicle = make_vehicle()
    vehicle.advance(1.0)
    for _ in range(1000):
        vehicle.command(np.array([1.0, 0, 0]), 0.0)
        vehicle.advance(vehicle.flown_s + 0.01)
    assert vehicle.state(vehicle.flown_s - 2.0).t_s == pytest.approx(9.0)
    with pytest.raises(UserError, match="forgotten"):
        vehicle.state(2.0)
