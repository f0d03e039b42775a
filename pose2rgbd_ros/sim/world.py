"""A simulated world that is stepped through time: city, drone, sensors and pictures. No ROS here.

Time is in lock-step with the pictures: a step ends when all images that arrive in it have been rendered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.flights.flight import Flight
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer, View
from pose2rgbd_ros.sim.sensors.config import SensorsConfig
from pose2rgbd_ros.sim.sensors.noise import Exposure, Measurement, OdometryReading, Value
from pose2rgbd_ros.sim.sensors.suite import Arrivals, SensorSuite
from pose2rgbd_ros.sim.state import DATUM, BodyState, true_seconds, true_stamp_ns
from pose2rgbd_ros.sim.vehicle import Router, Vehicle, VehicleConfig


@dataclass(frozen=True, eq=False)
class TruePose:
    """The body at a true time: in the map, and where the odometry has the origin of `odom`."""

    state: BodyState
    stamp_ns: int
    T_map_odom: Float64
    of_odometry: bool  # at the time of an odometry message; else at that of an image


@dataclass(frozen=True, eq=False)
class Arrived:
    """A measurement that arrives now; an image has its view, if anybody wants it."""

    measurement: Measurement
    view: View | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """What happened in a stretch of time up to `stamp_ns`, each in order."""

    t_s: float
    stamp_ns: int
    poses: list[TruePose]
    arrived: list[Arrived]
    rendered: int
    mode: str  # as in Vehicle
    notice: str | None


class World:
    """The drone flies `flight` over `city` at first; see Vehicle for what else it does.

    Belongs to the thread that makes it, as its renderer does. UserError when there is no OpenGL.
    """

    def __init__(
        self,
        city: City,
        flight: Flight,
        camera: Camera,
        sensors: SensorsConfig,
        vehicle: VehicleConfig,
        sensor_seed: int = 0,
        supersample: int = 1,
        shadows: bool = True,
    ) -> None:
        router = Router(
            vehicle.path_speed_mps,
            vehicle.max_acceleration_mps2,
            vehicle.clearance_m,
            city.surface_height_m,
            flight.T_body_cam,
        )
        self.flight, self.scene = flight, city.scene
        self.vehicle = Vehicle(vehicle, flight, city.surface_height_m, router)
        self.suite = SensorSuite(sensors, DATUM, sensor_seed, flight.T_body_cam)
        self.t_s = 0.0
        self._T_map_odom: Float64 = np.eye(4)
        self._on_their_way = Arrivals()
        self._renderer = SceneRenderer(city.scene, camera, supersample, shadows)
        self._renderer.render(flight.T_map_cam(0.0)[0])  # the first picture takes longer: not in the flight

    def step(self, seconds: float, render: bool = True) -> Step:
        """Fly on; images that arrive are rendered if `render`, as the camera saw the world at their exposure."""
        self.t_s = round(self.t_s + seconds, 9)
        self.vehicle.advance(self.t_s)
        taken = self.suite.advance(self.vehicle.state, self.t_s)
        poses = [pose for item in taken if (pose := self._pose(item)) is not None]
        self._on_their_way.add(taken)
        stamp_ns = true_stamp_ns(self.t_s)
        arrived = [
            Arrived(item, self._view(item.value) if render else None) for item in self._on_their_way.until(stamp_ns)
        ]
        rendered = sum(item.view is not None for item in arrived)
        mode, notice = self.vehicle.mode, self.vehicle.notice
        return Step(self.t_s, stamp_ns, poses, arrived, rendered, mode, notice)

    def close(self) -> None:
        """Let go of OpenGL."""
        self._renderer.close()

    def _pose(self, item: Measurement) -> TruePose | None:
        """The true pose that goes with an odometry message or an image."""
        if not isinstance(item.value, OdometryReading | Exposure):
            return None
        state = self.vehicle.state(true_seconds(item.true_ns))
        of_odometry = isinstance(item.value, OdometryReading)
        if isinstance(item.value, OdometryReading):
            self._T_map_odom = state.T_map_body @ se3.inverse(item.value.T_odom_body)
        return TruePose(state, item.true_ns, self._T_map_odom, of_odometry)

    def _view(self, value: Value) -> View | None:
        """Rendered on arrival: views on their way would fill the memory when the latency is long."""
        if not isinstance(value, Exposure):
            return None
        return self._renderer.render(value.T_map_cam, true_seconds(value.true_ns))
