"""Parameters of the sim node: named, described, and bounded; its messages by themselves."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from rclpy.parameter import Parameter

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.nodes.common import parameters
from pose2rgbd_ros.nodes.sim import outputs
from pose2rgbd_ros.nodes.sim.settings import SimSettings, world_of
from pose2rgbd_ros.sim.bag import demo_config
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.dataset import SimDatasetConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig, resolve
from pose2rgbd_ros.sim.sensors.noise import GpsFix
from pose2rgbd_ros.sim.state import START_NS
from pose2rgbd_ros.sim.vehicle import VehicleConfig

pytestmark = pytest.mark.ros


def test_parts_have_their_name_in_front(make_node):
    node = make_node(city__seed=7, camera__rate_hz=20.0, gps__antenna_m=[0.1, 0.0, 0.2])
    started = parameters.declare(node, SimSettings())
    assert (started.city.seed, started.camera.rate_hz, started.gps.antenna_m) == (7, 20.0, (0.1, 0.0, 0.2))
    assert started.vehicle == VehicleConfig()
    rate = node.describe_parameter("camera.rate_hz")
    assert rate.description == "images per second"
    assert (rate.floating_point_range[0].from_value, rate.floating_point_range[0].to_value) == (0.1, 240.0)
    assert all(node.describe_parameter(name).description for name in settings.flat_fields(SimSettings))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"city__season": "monsoon"}, "city.season is 'monsoon'; choose one of: spring"),
        ({"camera__rate_hz": 0.0}, "parameter camera.rate_hz: "),
        ({"gps__rate_hz": 5}, "parameter gps.rate_hz must be of type float; write it like 1.0"),
        ({"gps__antenna_m": [0, 0, 1]}, r"antenna_m must be of type tuple; write it like \[1\.0, 2\.0, 3\.0\]"),
        ({"real_time_factor": -1.0}, "parameter real_time_factor: "),
    ],
)
def test_bad_values_are_named(make_node, values, said):
    with pytest.raises(UserError, match=said) as caught:
        parameters.declare(make_node(**values), SimSettings())
    assert "\n" not in str(caught.value)


def test_a_later_value_is_judged_with_the_others(make_node):
    node = make_node()
    parameters.declare(node, SimSettings())
    good, bad = node.set_parameters(
        [Parameter("vehicle.max_speed_mps", value=3.0), Parameter("flight.plan", value="loiter")]
    )
    assert good.successful
    assert "flight.plan is 'loiter'" in bad.reason
    assert parameters.read(node, SimSettings).vehicle.max_speed_mps == 3.0


def test_flat_names_lead_back():
    config = SimSettings(width=64)
    assert settings.from_flat(SimSettings, settings.to_flat(config)) == config


def test_a_fix_whose_covariance_is_zero_is_not_taken_for_certain():
    fix = GpsFix(47.0, 8.0, 400.0, np.zeros((3, 3)), 0)
    assert outputs.nav_sat_fix_message(fix, START_NS).position_covariance_type == 0
    noisy = dataclasses.replace(fix, covariance_m2=np.eye(3))
    assert outputs.nav_sat_fix_message(noisy, START_NS).position_covariance_type == 3


def trained_in(make_checkpoint, name, simulation):
    return str(make_checkpoint(name, provenance={"split": {}, "simulation": simulation}))


def test_a_model_brings_the_world_it_was_trained_in(make_checkpoint):
    demo = demo_config().resolved()
    model = trained_in(make_checkpoint, "demo", settings.to_yaml_dict(demo))
    flown, said = world_of(SimSettings(model=model))
    assert "was trained" in said
    assert (flown.city, flown.flight, flown.sensor_seed) == (demo.city, demo.flight, demo.seed)
    assert flown.sensors() == demo.sensors
    assert flown.image_camera() == demo.camera()

    dataset = SimDatasetConfig(size=96, city=CityConfig(seed=3), flight=FlightConfig(plan="street"))
    flown, _ = world_of(SimSettings(model=trained_in(make_checkpoint, "streets", dataset.provenance())))
    assert (flown.city, flown.flight) == (dataset.city, resolve(dataset.flight))
    assert (flown.width, flown.height, flown.fov_deg) == (96, 96, dataset.fov_deg)
    assert flown.sensors() == SimSettings().sensors(), "a dataset has none"


def test_what_is_set_otherwise_wins_over_the_models_world(make_checkpoint):
    model = trained_in(make_checkpoint, "demo", settings.to_yaml_dict(demo_config().resolved()))
    own = SimSettings(model=model, flight=FlightConfig(plan="survey"), city=CityConfig(cars=7), width=64)
    flown, _ = world_of(own)
    assert (flown.flight, flown.width, flown.height) == (own.flight, 64, 240)
    assert flown.city == own.city


def test_a_model_of_the_real_world_changes_nothing(make_checkpoint):
    plain = SimSettings(model=trained_in(make_checkpoint, "real", None))
    flown, said = world_of(plain)
    assert flown == plain
    assert "does not say that it was trained in a simulated city" in said
    assert world_of(SimSettings()) == (SimSettings(), "")
    with pytest.raises(UserError, match="there is no checkpoint at /nowhere"):
        world_of(SimSettings(model="/nowhere"))
