"""The parameters of the sim node, and the world they describe."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pose2rgbd_ros import settings as definitions
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig, Plan
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.sensors.config import (
    Barometer,
    CameraSensor,
    Clocks,
    GpsSensor,
    ImuSensor,
    OdometrySensor,
    SensorsConfig,
)
from pose2rgbd_ros.sim.vehicle import VehicleConfig
from pose2rgbd_ros.sim.world import World

LIVE = ("real_time_factor",)  # may change at any time; the others while the node is unconfigured


@dataclass
class SimSettings:
    """Parameters of the sim node, and its world; settings of a part have the part's name in front, as in city.seed."""

    PROFILE: ClassVar = "world"
    IN_PROFILE: ClassVar = (
        "width", "height", "fov_deg", "supersample", "shadows", "faults", "sensor_seed", "city", "flight", "vehicle",
        "camera", "gps", "odometry", "imu", "barometer", "clocks",
    )  # fmt: skip
    INSTEAD: ClassVar = {
        "flight.plan": "plan", "city.seed": "seed", "flight.seed": "seed", "sensor_seed": "seed", "city.cars": "cars",
        "city.people": "people",
    }  # fmt: skip

    autostart: bool = setting(
        True, "configure and activate at once; false leaves that to a lifecycle manager", read_only=True
    )
    real_time_factor: float = setting(
        1.0, "simulated seconds per second, as far as the machine can; 0: as fast as it can", ge=0.0, le=100.0
    )
    clock_hz: float = setting(100.0, "steps, and messages on /clock, per simulated second", ge=100.0, le=1000.0)
    world: str = setting(
        "",
        "city, flight, drone and sensors: a YAML file, or the name of one in config/worlds; empty: that of the model, "
        "or default",
    )
    model: str = setting(
        "",
        "folder of a model trained in a simulated city: its city, flight, sensors and size of image are taken for "
        "those that are all at their defaults in the world; empty: none",
    )
    tf: Literal["truth", "odometry", "none"] = setting(
        "truth",
        "truth: map -> odom -> base_link, together exact; odometry: odom -> base_link alone, as odometry drifts "
        "(a localization sends map -> odom); none",
    )
    plan: Literal["world", Plan] = setting("world", "what is flown; world: as that says")
    seed: int = setting(-1, "draws city, flight and faults; -1: as the world says", ge=-1, le=2**31 - 1)
    cars: int = setting(-1, "cars that drive; -1: as the world says", ge=-1, le=2000)
    people: int = setting(-1, "people who walk; -1: as the world says", ge=-1, le=5000)
    width: int = setting(512, "width of the images in pixels", ge=16, le=4096)
    height: int = setting(512, "height of the images in pixels", ge=16, le=4096)
    fov_deg: float = setting(60.0, "horizontal field of view in degrees", ge=10.0, le=150.0)
    supersample: int = setting(1, "colour samples along each side of a pixel", ge=1, le=4)
    shadows: bool = setting(True, "draw the shadows of the sun")
    faults: bool = setting(True, "sensors have the faults set below; false: none at all")
    sensor_seed: int = setting(0, "draws the sensors' faults", ge=0)
    city: CityConfig = field(default_factory=CityConfig)
    flight: FlightConfig = field(default_factory=FlightConfig)
    vehicle: VehicleConfig = field(default_factory=VehicleConfig)
    camera: CameraSensor = field(default_factory=CameraSensor)
    gps: GpsSensor = field(default_factory=GpsSensor)
    odometry: OdometrySensor = field(default_factory=OdometrySensor)
    imu: ImuSensor = field(default_factory=ImuSensor)
    barometer: Barometer = field(default_factory=Barometer)
    clocks: Clocks = field(default_factory=Clocks)

    def sensors(self) -> SensorsConfig:
        """Rates and faults of all sensors."""
        config = SensorsConfig(self.camera, self.gps, self.odometry, self.imu, self.barometer, self.clocks)
        return config if self.faults else config.without_faults()

    def image_camera(self) -> Camera:
        """The ideal pinhole camera of colour and depth."""
        return Camera.from_fov(self.width, self.height, self.fov_deg)


def world_of(settings: SimSettings) -> tuple[SimSettings, str]:
    """The settings with those of the world that `settings.model` was trained in, then plan, seed and traffic where
    they are given, and what to report.

    A group of settings (city, flight, each sensor, the size of images) that differs from its defaults stays as it is. A
    model that was not trained in a simulated city changes nothing. UserError when the model cannot be read.
    """
    settings, own = _chosen(settings)
    settings, report = _trained_in(settings, own)
    city = settings.city
    traffic = {name: count for name in ("cars", "people") if (count := getattr(settings, name)) >= 0}
    return dataclasses.replace(settings, city=dataclasses.replace(city, **traffic), cars=-1, people=-1), report


def _chosen(settings: SimSettings) -> tuple[SimSettings, set[str]]:
    """The settings with plan and seed in the groups they are of, and those groups."""
    changed: dict[str, Any] = {}
    city, flight = settings.city, settings.flight
    if settings.plan != "world":
        changed["flight"] = flight = dataclasses.replace(flight, plan=settings.plan)
    if (seed := settings.seed) >= 0:
        changed |= {"city": dataclasses.replace(city, seed=seed), "flight": dataclasses.replace(flight, seed=seed)}
        changed["sensor_seed"] = seed
    return dataclasses.replace(settings, plan="world", seed=-1, **changed), set(changed)


def _trained_in(settings: SimSettings, own: set[str]) -> tuple[SimSettings, str]:
    if not settings.model:
        return settings, ""
    from pose2rgbd_ros.training.checkpoint import (
        MODEL_FILE,
        checkpoint_directory,  # brings torch along
    )

    folder = checkpoint_directory(Path(settings.model).expanduser())
    flown = (definitions.read_yaml(folder / MODEL_FILE).get("provenance") or {}).get("simulation")
    if not flown:
        return settings, (
            f"{settings.model} does not say that it was trained in a simulated city: it may not know what is flown "
            "over here"
        )
    default, found = SimSettings(), {}
    for name, values in _groups(flown).items():
        now = getattr(settings, name)
        if now == getattr(default, name) and name not in own:
            kind = type(now)
            found[name] = (
                definitions.from_yaml_dict(kind, values, f"{folder / MODEL_FILE}, simulation")
                if dataclasses.is_dataclass(now)
                else kind(values)
            )
    return dataclasses.replace(settings, **found), f"flies where {settings.model} was trained"


def _groups(flown: dict[str, Any]) -> dict[str, Any]:
    """Name of a setting of ours -> its value in those of `sim bag`, or of `sim dataset`, which has no sensors."""
    names = ("width", "height", "fov_deg", "city", "flight")
    found = {name: flown[name] for name in names if name in flown} | flown.get("sensors", {})
    if "seed" in flown:
        found["sensor_seed"] = flown["seed"]
    if "size" in flown:
        found |= {"width": flown["size"], "height": flown["size"]}
    return found


def make_world(settings: SimSettings) -> World:
    """The world of these settings, owned by the calling thread. UserError says why there is none."""
    sensors = settings.sensors()
    sensors.check()  # before the city, which takes seconds
    city = City(settings.city)
    flight = make_flight(settings.flight, city)
    return World(
        city,
        flight,
        settings.image_camera(),
        sensors,
        settings.vehicle,
        settings.sensor_seed,
        settings.supersample,
        settings.shadows,
    )
