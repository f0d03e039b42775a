"""Flights over a simulated world: what is flown, how it is timed, which of its lines are held out."""

from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.flight import Flight
from pose2rgbd_ros.sim.flights.make import make_flight

__all__ = ["Flight", "FlightConfig", "make_flight"]
