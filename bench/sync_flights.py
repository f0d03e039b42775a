"""Simulated flights for bench/sync_accuracy.py: flow of their images, readings of their sensors, and the true
clocks.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pose2rgbd_ros.alignment.flow import FlowConfig, FlowMeter, FlowSignal
from pose2rgbd_ros.alignment.signals import (
    SECOND,
    MotionSignal,
    Samples,
    motion_from_coordinates,
    motion_from_velocities,
)
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer
from pose2rgbd_ros.sim.sensors.config import SensorsConfig
from pose2rgbd_ros.sim.sensors.suite import SensorSuite


@dataclass(frozen=True)
class Plan:
    """One flight: its settings (what is not given is the plan's own), its city, and the seed of its sensors."""

    flight: dict[str, object]
    city: CityConfig
    sensor_seed: int


def _plan(city_seed: int, season: str, sensor_seed: int, **flight: object) -> Plan:
    return Plan(flight, CityConfig(seed=city_seed, season=season), sensor_seed)


# Flights that had no part in choosing any limit. Speed or course changes in all but the orbit, which is steady.
FRESH = {
    "lawnmower": _plan(21, "spring", 201, plan="lawnmower", seed=101, speed_mps=7.0, altitude_m=65.0),
    "survey": _plan(22, "autumn", 202, plan="survey", seed=102, speed_mps=6.5, altitude_m=45.0),
    "walk": _plan(23, "summer", 203, plan="walk", seed=103),
    "walk_high": _plan(24, "winter", 204, plan="walk", seed=104, altitude_m=80.0, speed_mps=9.0),
    "walk_down": _plan(25, "summer", 205, plan="walk", seed=105, camera_pitch_deg=85.0, speed_mps=5.0),
    "street": _plan(26, "summer", 206, plan="street", seed=106, speed_mps=5.0),
    "paper": _plan(28, "spring", 208, plan="paper", seed=108, altitude_m=60.0),
    "orbit": _plan(29, "summer", 209, plan="orbit", seed=109, radius_m=50.0),
}
STEADY = ("orbit",)
# Flights on which the limits of the method were chosen.
TUNED = {
    "lawnmower": _plan(0, "summer", 1, plan="lawnmower", seed=1),
    "survey": _plan(0, "summer", 2, plan="survey", seed=2),
    "walk": _plan(0, "summer", 3, plan="walk", seed=3),
    "street": _plan(0, "summer", 4, plan="street", seed=4),
    "paper": _plan(0, "summer", 5, plan="paper", seed=5),
    "orbit": _plan(0, "summer", 6, plan="orbit", seed=6),
    "walk_fast": _plan(0, "summer", 7, plan="walk", seed=7, speed_mps=10.0, camera_pitch_deg=90.0),
    "survey_fast": _plan(0, "summer", 8, plan="survey", seed=8, speed_mps=9.0, line_spacing_m=25.0),
}
WIDTH_PX, HEIGHT_PX = 192, 144
IMAGE_HZ, LONGEST_S = 10.0, 300.0
DATUM = Datum(47.0, 8.0, 400.0)


@dataclass(frozen=True)
class Recorded:
    """One flight: flow by the camera's stamps; readings by those of their sensors.

    `image_ns` (N, 3): stamps of the images, and the same moments by the clocks of GPS and of the autopilot. `gps` (M,
    3) degrees and metres, without the fixes of status -1; `odometry` (K, 6) linear and angular in the body; `gyro`
    (L, 3).
    """

    flow: FlowSignal
    image_ns: np.ndarray
    gps_ns: np.ndarray
    gps: np.ndarray
    odometry_ns: np.ndarray
    odometry: np.ndarray
    gyro_ns: np.ndarray
    gyro: np.ndarray

    def motions(self) -> dict[str, tuple[MotionSignal, int]]:
        """Sources of motion, and the column of `image_ns` with their clock."""
        odometry = motion_from_velocities(
            "odometry", self.odometry_ns, self.odometry[:, :3], self.odometry[:, 3:], of_body=True
        )
        gps = motion_from_coordinates("GPS", self.gps_ns, self.gps)
        with_gyro = gps.with_rates(Samples(self.gyro_ns, self.gyro))
        return {"odometry": (odometry, 2), "GPS + gyroscope": (with_gyro, 1), "GPS": (gps, 1)}

    def window(self, begin: float, end: float) -> Recorded:
        """The images of a part of the flight, 0 to 1; readings stay whole."""
        first, last = self.flow.stamps_ns[0], self.flow.stamps_ns[-1]
        low, high = (first + share * (last - first) for share in (begin, end))
        inside = (self.flow.stamps_ns >= low) & (self.flow.stamps_ns <= high)
        seen = (self.image_ns[:, 0] >= low) & (self.image_ns[:, 0] <= high)
        return dataclasses.replace(self, flow=self.flow.chosen(inside), image_ns=self.image_ns[seen])

    def truth(self, column: int) -> tuple[float, float, int]:
        """What to add to image stamps: seconds in the middle, parts per million, and the middle in ns."""
        middle_ns = int((self.image_ns[0, 0] + self.image_ns[-1, 0]) // 2)
        elapsed_s = (self.image_ns[:, 0] - middle_ns) / SECOND
        offset_s = (self.image_ns[:, column] - self.image_ns[:, 0]) / SECOND
        drift, offset = np.polyfit(elapsed_s, offset_s, 1)
        return float(offset), float(drift * 1e6), middle_ns


def record(plan: Plan, path: Path | None) -> Recorded:
    """Fly, or take what an earlier run left in the file `path`."""
    if path is not None and path.is_file():
        return _load(path)
    recorded = _fly(plan)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _save(path, recorded)
    return recorded


def _fly(plan: Plan) -> Recorded:
    city = City(plan.city)
    flight = make_flight(FlightConfig(**plan.flight), city)  # type: ignore[arg-type]
    config = SensorsConfig()
    config = dataclasses.replace(config, camera=dataclasses.replace(config.camera, rate_hz=IMAGE_HZ))
    suite = SensorSuite(config, DATUM, plan.sensor_seed, flight.T_body_cam)
    taken = suite.advance(flight.state, min(LONGEST_S, flight.duration_s))
    meter = FlowMeter(FlowConfig(width_px=WIDTH_PX))
    rows: dict[str, list[tuple[int, ...]]] = {"camera": [], "gps": [], "odometry": [], "imu": []}
    stamps: dict[str, list[int]] = {name: [] for name in rows}
    with SceneRenderer(city.scene, Camera.from_fov(WIDTH_PX, HEIGHT_PX, 70.0), 1) as renderer:
        for item in taken:
            value = item.value
            if item.sensor == "camera":
                view = renderer.render(value.T_map_cam, (item.true_ns - taken[0].true_ns) / SECOND)
                meter.add(item.stamp_ns, cv2.cvtColor(view.rgb, cv2.COLOR_RGB2GRAY))
                clocks = [suite.clocks[clock].stamp_ns(item.true_ns) for clock in ("gps", "odometry")]
                rows["camera"].append((item.stamp_ns, *clocks))
            elif item.sensor == "gps" and value.status >= 0:
                rows["gps"].append((value.latitude_deg, value.longitude_deg, value.altitude_m))
            elif item.sensor == "odometry":
                rows["odometry"].append((*value.linear_mps, *value.angular_radps))
            elif item.sensor == "imu":
                rows["imu"].append(tuple(value.angular_velocity_radps))
            else:
                continue
            stamps[item.sensor].append(item.stamp_ns)
    return Recorded(
        meter.signal(),
        np.array(rows["camera"], dtype=np.int64),
        np.array(stamps["gps"], dtype=np.int64),
        np.array(rows["gps"]),
        np.array(stamps["odometry"], dtype=np.int64),
        np.array(rows["odometry"]),
        np.array(stamps["imu"], dtype=np.int64),
        np.array(rows["imu"]),
    )


def _save(path: Path, recorded: Recorded) -> None:
    arrays = {f.name: getattr(recorded, f.name) for f in dataclasses.fields(recorded) if f.name != "flow"}
    flow = {f"flow_{f.name}": getattr(recorded.flow, f.name) for f in dataclasses.fields(recorded.flow)}
    np.savez(path, **arrays, **flow)


def _load(path: Path) -> Recorded:
    with np.load(path) as file:
        arrays = dict(file)
    flow = {name[5:]: arrays.pop(name) for name in list(arrays) if name.startswith("flow_")}
    sizes = {name: int(flow.pop(name)) for name in ("width_px", "height_px")}
    return Recorded(flow=FlowSignal(**flow, **sizes), **arrays)
