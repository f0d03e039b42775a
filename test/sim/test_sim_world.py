"""The stepped world: lock-step pictures, true poses beside drifting odometry, the same whatever the steps."""

from __future__ import annotations

import numpy as np
import pytest

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.sensors.config import SensorsConfig
from pose2rgbd_ros.sim.state import true_seconds, true_stamp_ns
from pose2rgbd_ros.sim.vehicle import VehicleConfig
from pose2rgbd_ros.sim.world import World

CAMERA = Camera.from_fov(48, 32, 60.0)
FLIGHT = make_flight(FlightConfig(plan="orbit", altitude_m=70.0, radius_m=40.0, loops=1))


@pytest.fixture(scope="module")
def city():
    return City(CityConfig(extent_m=200.0, cars=8))


@pytest.fixture
def make_world(city):
    made = []

    def make(sensors=None):
        made.append(World(city, FLIGHT, CAMERA, sensors or SensorsConfig(), VehicleConfig()))
        return made[-1]

    yield make
    for world in made:
        world.close()


def test_what_arrives_does_not_depend_on_the_steps(make_world):
    fine, coarse = make_world(), make_world()
    first = [item for _ in range(80) for item in fine.step(0.01).arrived]
    second = [item for _ in range(4) for item in coarse.step(0.2).arrived]
    assert len(first) == len(second) > 250
    for ours, theirs in zip(first, second, strict=True):
        assert (ours.measurement.sensor, ours.measurement.stamp_ns) == (
            theirs.measurement.sensor,
            theirs.measurement.stamp_ns,
        )
        if ours.view is not None:
            np.testing.assert_array_equal(ours.view.rgb, theirs.view.rgb)
            np.testing.assert_array_equal(ours.view.depth_m, theirs.view.depth_m)
    views = [item.view for item in first if item.view is not None]
    assert len(views) >= 19
    assert np.isfinite(views[0].depth_m).mean() > 0.5


def test_nothing_arrives_before_its_time_and_no_picture_is_left_out(make_world):
    world, images = make_world(), 0
    for _ in range(40):
        step = world.step(0.01)
        assert all(item.measurement.arrival_ns <= step.stamp_ns for item in step.arrived)
        assert all(item.measurement.arrival_ns > step.stamp_ns - 10_000_001 for item in step.arrived)
        assert all(item.view is not None for item in step.arrived if item.measurement.sensor == "camera")
        images += step.rendered
    assert images >= 9  # of twelve that were exposed; the last are on their way


def test_unwanted_pictures_are_not_rendered_but_arrive(make_world):
    world = make_world()
    steps = [world.step(0.1, render=False) for _ in range(5)]
    assert sum(step.rendered for step in steps) == 0
    cameras = [item for step in steps for item in step.arrived if item.measurement.sensor == "camera"]
    assert len(cameras) > 8
    assert all(item.view is None for item in cameras)


def test_map_to_odom_to_base_is_the_truth_while_odometry_drifts(make_world):
    world = make_world()
    poses = [pose for _ in range(20) for pose in world.step(0.1, render=False).poses]
    drift_m = []
    for pose in poses:
        planned = FLIGHT.T_map_body(true_seconds(pose.stamp_ns))[0]
        np.testing.assert_allclose(pose.state.T_map_body, planned, atol=1e-9)
        drift_m.append(np.linalg.norm(pose.T_map_odom[:3, 3]))
    assert max(drift_m) > 0.01
    assert {pose.of_odometry for pose in poses} == {True, False}
    perfect = make_world(SensorsConfig.perfect())
    last = perfect.step(1.0, render=False).poses[-1]
    np.testing.assert_allclose(last.T_map_odom, np.eye(4), atol=1e-9)


def test_the_clock_is_that_of_the_flight(make_world):
    world = make_world(SensorsConfig.perfect())
    for _ in range(7):
        step = world.step(0.01, render=False)
    assert (step.t_s, step.stamp_ns, step.mode, step.notice) == (0.07, true_stamp_ns(0.07), "plan", None)


def test_the_citys_roofs_are_in_the_way(city, make_world):
    vehicle = make_world().vehicle
    vehicle.advance(2.0)
    low, high = (corner * 0.8 for corner in city.bounds_m)
    grid = np.stack(np.meshgrid(*(np.arange(low[k], high[k], 2.0) for k in range(2))), axis=-1).reshape(-1, 2)
    tallest = grid[city.surface_height_m(grid).argmax()]
    roof_m = float(city.surface_height_m(tallest[None])[0])
    assert roof_m > 10
    with pytest.raises(UserError, match="too low"):
        vehicle.fly_path(se3.make([[*tallest, roof_m - 2.0]], [0, 0, 0, 1.0]))
    seconds = vehicle.fly_path(se3.make([[*tallest, roof_m + 20.0]], [0, 0, 0, 1.0]))
    vehicle.advance(2.0 + seconds)
    for _ in range(50):
        vehicle.command(np.array([0.0, 0.0, -4.0]), 0.0)
        vehicle.advance(vehicle.flown_s + 0.2)
    height_m = vehicle.state(vehicle.flown_s).T_map_body[2, 3]
    assert roof_m + 2.5 < height_m < roof_m + 10
    assert "descends no lower" in vehicle.notice


def test_a_world_belongs_to_its_thread_and_ends(make_world):
    world = make_world()
    world.close()
    with pytest.raises(UserError, match="closed"):
        world.step(0.5)
