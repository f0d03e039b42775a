"""Parameters of the sim node: named, described, and bounded; its messages by themselves."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from rclpy.parameter import Parameter

from pose2rgbd_ros import settings
from pose2rgbd_ros.cli import nodes
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


def test_a_world_is_one_file(make_node, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("city: {seed: 7}\ncamera.rate_hz: 20\ngps: {antenna_m: [0.1, 0, 0.2], noise_m: 2e-05}\n")
    node = make_node(world=str(file))
    started = parameters.declare(node, SimSettings())
    assert (started.city.seed, started.camera.rate_hz, started.gps.antenna_m) == (7, 20.0, (0.1, 0.0, 0.2))
    assert (started.gps.noise_m, started.vehicle) == (2e-05, VehicleConfig())
    assert not node.has_parameter("camera.rate_hz")
    file.write_text("city: {seed: 8}")
    assert parameters.read(node, SimSettings).city.seed == 7, "read when it is set"
    assert node.set_parameters([Parameter("world", value=str(file))])[0].successful
    assert parameters.read(node, SimSettings) == SimSettings(world=str(file), city=CityConfig(seed=8))
    (missing,) = node.set_parameters([Parameter("world", value="/nowhere.yaml")])
    assert missing.reason == "/nowhere.yaml does not exist"
    assert parameters.read(node, SimSettings).city.seed == 8


def test_worlds_that_come_with_the_package(make_node):
    for name in ("default", "demo", "perfect"):
        world = parameters.declare(make_node(world=name), SimSettings())
        world_of(world)[0].sensors().check()
        assert name != "default" or world == SimSettings(world="default")


def test_plan_seed_and_traffic_win_over_the_world(make_node):
    node = make_node(world="demo", plan="survey", seed=5, cars=0, people=9)
    flown, _ = world_of(parameters.declare(node, SimSettings()))
    assert (flown.flight.plan, flown.flight.loops) == ("survey", 6)
    assert {flown.flight.seed, flown.city.seed, flown.sensor_seed} == {5}
    assert (flown.city.cars, flown.city.people) == (0, 9)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("city: {season: monsoon}", "mine.yaml: city.season is 'monsoon'; choose one of: spring"),
        ("camera: {rate_hz: 0}", r"mine.yaml: camera.rate_hz is 0.0; it must be at least 0.1"),
        ("gps: {rate_hz: fast}", "mine.yaml: gps.rate_hz is 'fast'; it must be of type float"),
        ("gps: {antenna_m: 1.0}", "mine.yaml: gps.antenna_m is 1.0; it must be of type tuple"),
        ("faults: 1", "mine.yaml: faults is 1; it must be of type bool"),
        ("city: {sead: 3}", "mine.yaml: there is no setting city.sead; the nearest is city.seed"),
        ("real_time_factor: 2.0", "mine.yaml: real_time_factor is a ROS parameter; set it in a parameter file or with"),
        ("/**: {ros__parameters: {city: {seed: 3}}}", "mine.yaml: this is a file of ROS parameters"),
        ("[", "mine.yaml cannot be read as YAML"),
    ],
)
def test_what_is_wrong_in_a_world_is_named(make_node, tmp_path, values, said):
    (tmp_path / "mine.yaml").write_text(values)
    with pytest.raises(UserError, match=said) as caught:
        parameters.declare(make_node(world=str(tmp_path / "mine.yaml")), SimSettings())
    assert "\n" not in str(caught.value)


def test_bad_parameters_are_named(make_node):
    for values, said in (
        ({"real_time_factor": -1.0}, "parameter real_time_factor: "),
        ({"clock_hz": 100}, "parameter clock_hz must be of type float; write it like 1.0"),
        ({"world": "demu"}, "world is 'demu'; give a YAML file, or one of: default, demo, perfect"),
    ):
        with pytest.raises(UserError, match=said):
            parameters.declare(make_node(**values), SimSettings())


def test_a_world_is_written_from_flags(tmp_path, capsys):
    """Flags to a file, and that file with other flags, which win."""
    file = tmp_path / "mine.yaml"
    flags = ["--world", "demo", "--seed", "3", "--gps.antenna-m", "0", "0", "1", "--write-world", str(file)]
    assert nodes.main(["sim", *flags]) == 0
    assert capsys.readouterr().out == f"{file}: 16 settings; --world {file} reads them\n"
    for bad, said in ((file, "exists already"), (tmp_path / "no" / "world.yaml", "cannot write .*No such file")):
        with pytest.raises(UserError, match=said):
            nodes.main(["sim", "--write-world", str(bad)])
    chosen, _ = nodes._chosen("sim", ["--world", str(file), "--city.seed", "0", "--gps.noise-m", "1"])
    assert (chosen.city.seed, chosen.flight.seed, chosen.flight.plan) == (0, 3, "orbit")
    assert (chosen.gps.antenna_m, chosen.gps.noise_m, chosen.width) == ((0.0, 0.0, 1.0), 1.0, 320)


def test_a_later_value_is_judged_with_the_others(make_node):
    node = make_node()
    parameters.declare(node, SimSettings())
    good, bad = node.set_parameters([Parameter("real_time_factor", value=3.0), Parameter("plan", value="loiter")])
    assert good.successful
    assert "plan is 'loiter'" in bad.reason
    assert parameters.read(node, SimSettings).real_time_factor == 3.0


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
    flown, _ = world_of(SimSettings(model=model, plan="paper", cars=7))
    assert flown.flight == FlightConfig(), "the plan is asked for, though it is the one of the default world"
    assert flown.city == dataclasses.replace(demo_config().city, cars=7)


def test_a_model_of_the_real_world_changes_nothing(make_checkpoint):
    plain = SimSettings(model=trained_in(make_checkpoint, "real", None))
    flown, said = world_of(plain)
    assert flown == plain
    assert "does not say that it was trained in a simulated city" in said
    assert world_of(SimSettings()) == (SimSettings(), "")
    with pytest.raises(UserError, match="there is no checkpoint at /nowhere"):
        world_of(SimSettings(model="/nowhere"))
