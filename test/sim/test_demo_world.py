"""The world that config/worlds/demo.yaml shows live is the one the demo recorded."""

from __future__ import annotations

import yaml

from pose2rgbd_ros.sim.bag import demo_config
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig


def test_live_world_is_the_recorded_one(repository):
    live, demo = yaml.safe_load((repository / "config" / "worlds" / "demo.yaml").read_text()), demo_config()
    assert FlightConfig(**live["flight"]) == demo.flight
    for name in ("width", "height", "fov_deg"):
        assert live[name] == getattr(demo, name)
    assert "city" not in live
    assert demo.city == CityConfig()  # the default of the node, too
