"""`pose2rgbd sim bag`: a flight over the city as a ROS 2 recording with the faults of real sensors, and its truth."""

from __future__ import annotations

import contextlib
import csv
import heapq
import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO, TypeAlias

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from pose2rgbd_ros import settings
from pose2rgbd_ros.bags.messages import MessageFactory, StampedTransform
from pose2rgbd_ros.bags.writer import BagWriter
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.encode import encode_image
from pose2rgbd_ros.dataset.layout import truth_folder
from pose2rgbd_ros.dataset.meta import software
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.geometry import depth, se3
from pose2rgbd_ros.geometry.arrays import Float32, Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.sim import topics
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig, resolve
from pose2rgbd_ros.sim.flights.flight import Flight
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer, View, require_opengl
from pose2rgbd_ros.sim.sensors.config import CameraSensor, ImuSensor, SensorsConfig
from pose2rgbd_ros.sim.sensors.noise import Exposure, GpsFix, ImuReading, Measurement, OdometryReading, PressureReading
from pose2rgbd_ros.sim.sensors.suite import Arrivals, SensorSuite
from pose2rgbd_ros.sim.state import BASE, CAMERA, DATUM, GPS_ANTENNA, MAP, ODOM, START_NS, true_seconds, true_stamp_ns

FORMAT_VERSION = 1
TRUE_BODY, TRUE_CAMERA = "groundtruth.txt", "camera.txt"
_COLUMNS = ("true_ns", "stamp_ns", "arrival_ns", "fault")


class TruthWriter:
    """Writes the truth beside a recording into the folder `path`; a context manager, which leaves nothing on failure.

    truth.yaml          the settings, the clocks, and every fault that was drawn
    groundtruth.txt     TUM: true time, pose of the body in the map
    camera.txt          TUM: stamp of each image, pose of the camera's optical frame in the middle of its exposure
    camera.csv, ...     one line per message of a sensor: true_ns, stamp_ns, arrival_ns, fault, errors with their units

    UserError when it exists, or another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise UserError(f"{path} exists already; choose another path or remove it")
        self.path = path
        self._partial = path.with_name(f".{path.name}.partial")
        self._files = ExitStack()
        self._tables: dict[str, Any] = {}

    def __enter__(self) -> TruthWriter:
        self._partial.mkdir(parents=True, exist_ok=True)
        self._lock = layout.FolderLock(self._partial)
        for left_over in self._partial.glob("[!.]*"):  # of a run that was killed
            left_over.unlink()
        self._body = self._open(TRUE_BODY, "# T_map_body at true time: timestamp tx ty tz qx qy qz qw\n")
        self._camera = self._open(
            TRUE_CAMERA, "# T_map_cam in mid-exposure, by image stamp: timestamp tx ty tz qx qy qz qw\n"
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._files.close()
            if kind is None:
                (self._partial / layout.LOCK).unlink()
                self._partial.replace(self.path)
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)
            self._lock.release()

    def pose(self, true_ns: int, T_map_body: Float64) -> None:
        """A true pose of the body."""
        self._body.write(layout.pose_line(true_ns, T_map_body))

    def measurement(self, item: Measurement) -> None:
        """What is true about one message."""
        if item.sensor not in self._tables:
            self._tables[item.sensor] = csv.writer(self._open(f"{item.sensor}.csv"), lineterminator="\n")
            self._tables[item.sensor].writerow([*_COLUMNS, *item.errors])
        row = [item.true_ns, item.stamp_ns, item.arrival_ns, item.fault]
        self._tables[item.sensor].writerow([*row, *(f"{value:.9g}" for value in item.errors.values())])
        if isinstance(item.value, Exposure):
            self._camera.write(layout.pose_line(item.stamp_ns, item.value.T_map_cam))

    def finish(self, truth: dict[str, Any]) -> None:
        """What holds for the whole recording."""
        settings.write_yaml(self._partial / layout.TRUTH, {"format_version": FORMAT_VERSION, **truth})

    def _open(self, name: str, header: str = "") -> TextIO:
        file = self._files.enter_context((self._partial / name).open("w", newline=""))
        file.write(header)
        return file


def mount_dict(T_body_cam: Float64) -> dict[str, list[float]]:
    """A mount ready for YAML."""
    position_m, quat_xyzw = se3.split(T_body_cam)
    return {"position_m": position_m.tolist(), "quat_xyzw": quat_xyzw.tolist()}


# Measurements become the messages that a drone's own recorder would have written.


DEPTH_STEPS_PER_M = 1024.0  # of 32FC1: finer digits are the renderer's noise, and double the size of a compressed bag
DepthEncoding = Literal["32FC1", "16UC1", "none"]
Messages: TypeAlias = list[tuple[str, Any]]


class Recorder:
    """Makes the (topic, message) pairs of a measurement; topics begin with a slash.

    Args:
        make: builds the messages.
        camera: of colour and depth alike.
        render: what the camera sees at an exposure.
        depth_encoding: 32FC1 (raw, metres), 16UC1 (compressedDepth, millimetres) or none.
        max_depth_m: surfaces farther away have unknown depth, like beyond a sensor's range.
        T_map_body: true poses (N, 4, 4) at times (N,), for the transform from map to odom; None: it is not sent.
    """

    def __init__(
        self,
        make: MessageFactory,
        camera: Camera,
        render: Callable[[Exposure], View],
        depth_encoding: DepthEncoding,
        max_depth_m: float,
        T_map_body: Callable[[npt.ArrayLike], Float64] | None,
    ) -> None:
        self._make, self._camera, self._render = make, camera, render
        self._depth_encoding, self._max_depth_m, self._T_map_body = depth_encoding, max_depth_m, T_map_body

    def mounts(self, stamp_ns: int, T_body_cam: Float64, antenna_m: npt.ArrayLike) -> Messages:
        """Where camera and antenna sit on the body: the one message on /tf_static."""
        antenna = se3.make(antenna_m, [0.0, 0.0, 0.0, 1.0])
        transforms = [_transform(stamp_ns, BASE, CAMERA, T_body_cam), _transform(stamp_ns, BASE, GPS_ANTENNA, antenna)]
        return [(topics.TF_STATIC, self._make.tf_message(transforms))]

    def messages(self, item: Measurement) -> Messages:
        """The messages of one measurement, in the order in which they are sent."""
        value = item.value
        if isinstance(value, Exposure):
            return self._images(item.stamp_ns, value)
        if isinstance(value, GpsFix):
            return [(_absolute(topics.FIX), self._fix(item.stamp_ns, value))]
        if isinstance(value, OdometryReading):
            return self._odometry(item, value)
        if isinstance(value, ImuReading):
            return [(_absolute(topics.IMU), self._imu(item.stamp_ns, value))]
        return [(_absolute(topics.PRESSURE), self._pressure(item.stamp_ns, value))]

    def _images(self, stamp_ns: int, exposure: Exposure) -> Messages:
        view, camera, make = self._render(exposure), self._camera, self._make
        info = make.camera_info(stamp_ns, CAMERA, camera.width, camera.height, camera.K)
        _, jpeg = encode_image(view.rgb, camera, "jpeg")
        colour = make.compressed_image(stamp_ns, CAMERA, jpeg, "rgb8; jpeg compressed bgr8")
        sent = [(topics.RGB_COMPRESSED, colour), (topics.RGB_INFO, info)]
        if self._depth_encoding != "none":
            seen = np.where(view.depth_m <= self._max_depth_m, view.depth_m, np.float32(np.nan))
            sent += [self._depth(stamp_ns, seen), (topics.DEPTH_INFO, info)]
        return [(_absolute(topic), message) for topic, message in sent]

    def _depth(self, stamp_ns: int, depth_m: Float32) -> tuple[str, Any]:
        if self._depth_encoding == "32FC1":
            depth_m = np.rint(depth_m * np.float32(DEPTH_STEPS_PER_M)) / np.float32(DEPTH_STEPS_PER_M)
            return topics.DEPTH, self._make.image(stamp_ns, CAMERA, depth.encode_32fc1(depth_m), "32FC1")
        data, layout = depth.encode_compressed_depth(depth_m, "16UC1", png_level=1)
        return topics.DEPTH_COMPRESSED, self._make.compressed_image(stamp_ns, CAMERA, data, layout)

    def _fix(self, stamp_ns: int, fix: GpsFix) -> Any:
        covariance = fix.covariance_m2 if fix.covariance_m2.any() else None  # zeros would be taken for certainty
        return self._make.nav_sat_fix(
            stamp_ns, GPS_ANTENNA, fix.latitude_deg, fix.longitude_deg, fix.altitude_m, covariance, fix.status
        )

    def _odometry(self, item: Measurement, reading: OdometryReading) -> Messages:
        stamp_ns, make = item.stamp_ns, self._make
        position_m, quat_xyzw = se3.split(reading.T_odom_body)
        odometry = make.odometry(
            stamp_ns,
            ODOM,
            BASE,
            position_m.tolist(),
            quat_xyzw.tolist(),
            reading.linear_mps.tolist(),
            reading.angular_radps.tolist(),
            reading.pose_covariance,
            reading.twist_covariance,
        )
        transforms = [StampedTransform(stamp_ns, ODOM, BASE, position_m.tolist(), quat_xyzw.tolist())]
        if self._T_map_body is not None:
            T_map_odom = self._T_map_body(true_seconds(item.true_ns))[0] @ se3.inverse(reading.T_odom_body)
            transforms.insert(0, _transform(stamp_ns, MAP, ODOM, T_map_odom))
        return [(_absolute(topics.ODOMETRY), odometry), (topics.TF, make.tf_message(transforms))]

    def _imu(self, stamp_ns: int, reading: ImuReading) -> Any:
        return self._make.imu(
            stamp_ns,
            BASE,
            reading.angular_velocity_radps.tolist(),
            reading.specific_force_mps2.tolist(),
            reading.angular_velocity_variance * np.eye(3),
            reading.specific_force_variance * np.eye(3),
            None if reading.quat_xyzw is None else reading.quat_xyzw.tolist(),
            reading.orientation_variance * np.eye(3),
        )

    def _pressure(self, stamp_ns: int, reading: PressureReading) -> Any:
        return self._make.fluid_pressure(stamp_ns, BASE, reading.pressure_pa, reading.variance_pa2)


def _transform(stamp_ns: int, parent: str, child: str, T_parent_child: Float64) -> StampedTransform:
    position_m, quat_xyzw = se3.split(T_parent_child)
    return StampedTransform(stamp_ns, parent, child, position_m.tolist(), quat_xyzw.tolist())


def _absolute(topic: str) -> str:
    return f"/{topic}"


STEP_S = 0.1  # how far the sensors run ahead of the recorder: bounds what waits in memory
MILLIMETRES_END_M = 65.0  # 16UC1 ends at 65.535 m


@dataclass(frozen=True)
class SimBagConfig:
    """What `pose2rgbd sim bag` records."""

    width: int = setting(640, "image width in pixels", ge=16, le=4096)
    height: int = setting(480, "image height in pixels", ge=16, le=4096)
    fov_deg: float = setting(65.0, "horizontal field of view in degrees", ge=10.0, le=150.0)
    supersample: int = setting(1, "colour samples along each side of a pixel", ge=1, le=4)
    depth: Literal["auto", "32FC1", "16UC1", "none"] = setting(
        "auto",
        "depth images: 32FC1 (raw), 16UC1 (compressed millimetres, up to 65 m) or none; auto: 16UC1 where "
        "max_depth_m allows it",
    )
    max_depth_m: float = setting(0.0, "range of the depth camera in metres; 0: no limit", ge=0.0, le=1e5)
    duration_s: float = setting(60.0, "seconds of the flight to record; 0: all of it", ge=0.0, le=1e5)
    perfect: bool = setting(False, "sensors without any fault")
    map_to_odom: bool = setting(False, "also TF from map to odom, exact, as of a perfect localizer")
    clock_hz: float = setting(100.0, "messages per second on /clock; 0: none", ge=0.0, le=1000.0)
    truth_hz: float = setting(100.0, "true poses of the body per second", ge=1.0, le=1000.0)
    compress: bool = setting(True, "zstd inside an .mcap file or a folder")
    seed: int = setting(0, "draws the faults of the sensors", ge=0)
    city: CityConfig = field(default_factory=CityConfig)
    flight: FlightConfig = field(default_factory=FlightConfig)
    sensors: SensorsConfig = field(default_factory=SensorsConfig)

    def camera(self) -> Camera:
        """An ideal pinhole camera."""
        return Camera.from_fov(self.width, self.height, self.fov_deg)

    def depth_encoding(self) -> DepthEncoding:
        """How depth is written. UserError for a range that millimetres do not have."""
        fits = 0 < self.max_depth_m <= MILLIMETRES_END_M
        if self.depth == "16UC1" and not fits:
            raise UserError(
                f"16UC1 depth is in millimetres and ends at {MILLIMETRES_END_M:g} m; set max_depth_m to at most that, "
                "or record 32FC1"
            )
        if self.depth == "auto":
            return "16UC1" if fits else "32FC1"
        return self.depth

    def resolved(self) -> SimBagConfig:
        """With the faults that there are, and the flight's own values. UserError: a setting makes no sense."""
        settings.check(self)
        sensors = self.sensors.without_faults() if self.perfect else self.sensors
        sensors.check()
        return replace(self, sensors=sensors, flight=resolve(self.flight))


@dataclass(frozen=True)
class Recorded:
    """What was written."""

    path: Path
    truth: Path
    images: int
    recorded_s: float
    flight_s: float

    def summary(self) -> str:
        """In one line, two when there is more of the flight."""
        text = f"{self.path}: {counted(self.images, 'image')} of {self.recorded_s:.0f} s; the truth is in {self.truth}/"
        if self.recorded_s < self.flight_s:
            text += f"\nthe flight lasts {self.flight_s:.0f} s; --duration-s 0 records all of it"
        return text


def write_sim_bag(out: Path, config: SimBagConfig) -> Recorded:
    """Fly and record; the same settings give the same messages. When it is interrupted, nothing is left behind.

    Raises:
        UserError: settings out of bounds, a flight below the roofs, a path that exists, no OpenGL, a full disk.
    """
    config = config.resolved()
    _require_new(out)
    config.depth_encoding()  # before the city, which takes seconds
    require_opengl()
    city = City(config.city)
    flight = make_flight(config.flight, city)
    duration_s = min(config.duration_s or np.inf, flight.duration_s)
    with (
        os_errors(f"cannot write {out}", "nothing was kept: make room or choose another disk"),
        SceneRenderer(city.scene, config.camera(), config.supersample) as renderer,
        TruthWriter(truth_folder(out)) as truth,  # before the recording: it keeps a second process out
        _removed_on_failure(out),
        BagWriter(out, compression=_compression(out, config.compress)) as bag,
    ):
        images = _Recording(config, flight, bag, truth, renderer).run(duration_s)
    return Recorded(out, truth.path, images, duration_s, flight.duration_s)


def _require_new(out: Path) -> None:
    if out.suffix == ".bag":
        raise UserError(f"{out} would be a ROS 1 bag; choose the name of an .mcap or .db3 file, or a folder")
    if not out.name:  # ".", "/"
        raise UserError(f"{out} is a folder that exists already; give the recording a name")
    for path in (out, truth_folder(out)):
        if path.exists():
            raise UserError(f"{path} exists already; choose another path or remove it")


@contextlib.contextmanager
def _removed_on_failure(folder: Path) -> Iterator[None]:
    """The writer itself removes single files only."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class _Recording:
    """One recording under way."""

    def __init__(
        self, config: SimBagConfig, flight: Flight, bag: BagWriter, truth: TruthWriter, renderer: SceneRenderer
    ) -> None:
        self._config, self._flight = config, flight
        self._bag, self._truth, self._renderer = bag, truth, renderer
        self._suite = SensorSuite(config.sensors, DATUM, config.seed, flight.T_body_cam)
        self._recorder = Recorder(
            bag.make,
            config.camera(),
            self._render,
            config.depth_encoding(),
            config.max_depth_m or np.inf,
            flight.T_map_body if config.map_to_odom else None,
        )

    def _render(self, exposure: Exposure) -> View:
        return self._renderer.render(exposure.T_map_cam, true_seconds(exposure.true_ns))

    def run(self, duration_s: float) -> int:
        """Record the flight up to a time; returns the number of images."""
        config, images = self._config, 0
        for topic, message in self._recorder.mounts(START_NS, self._flight.T_body_cam, config.sensors.gps.antenna_m):
            self._bag.write(topic, message, START_NS)
        total = int(duration_s * config.sensors.camera.rate_hz)
        with tqdm(total=total, desc="recording", unit="image", mininterval=1.0) as progress:
            for true_ns, item in self._events(duration_s):
                if item is None:
                    self._bag.write(topics.CLOCK, self._bag.make.clock(true_ns), true_ns)
                    continue
                for topic, message in self._recorder.messages(item):
                    self._bag.write(topic, message, true_ns)
                self._truth.measurement(item)
                if isinstance(item.value, Exposure):
                    images += 1
                    progress.update()
        self._write_truth(duration_s)
        return images

    def _events(self, duration_s: float) -> Iterator[tuple[int, Measurement | None]]:
        """(true time, what arrives) in order; None is a tick of /clock."""
        hz, end_ns = self._config.clock_hz, true_stamp_ns(duration_s)
        times = (true_stamp_ns(n / hz) for n in itertools.count()) if hz > 0 else iter(())
        ticks = ((time_ns, None) for time_ns in itertools.takewhile(lambda time_ns: time_ns <= end_ns, times))
        arrivals = ((item.arrival_ns, item) for item in self._arrivals(duration_s))
        return heapq.merge(ticks, arrivals, key=lambda event: event[0])

    def _arrivals(self, duration_s: float) -> Iterator[Measurement]:
        """Everything measured until a time, in order of arrival."""
        queue = Arrivals()
        for until_s in np.arange(STEP_S, duration_s, STEP_S).tolist():
            queue.add(self._suite.advance(self._flight.state, until_s))
            yield from queue.until(true_stamp_ns(until_s))
        queue.add(self._suite.advance(self._flight.state, duration_s))
        yield from queue.until(None)

    def _write_truth(self, duration_s: float) -> None:
        t_s = np.arange(int(duration_s * self._config.truth_hz) + 1) / self._config.truth_hz
        for part in np.array_split(t_s, max(1, len(t_s) // 1000)):
            for t, T_map_body in zip(part, self._flight.T_map_body(part), strict=True):
                self._truth.pose(true_stamp_ns(float(t)), T_map_body)
        self._truth.finish(self._told(duration_s))

    def _told(self, duration_s: float) -> dict[str, Any]:
        """truth.yaml."""
        return {
            "software": software(),
            "recording": self._bag.path.name,
            "start_ns": START_NS,
            "duration_s": float(duration_s),
            "datum": DATUM.to_dict(),
            "camera": self._config.camera().to_dict(),
            "T_body_cam": mount_dict(self._flight.T_body_cam),
            "drawn": self._suite.drawn(),
            "settings": settings.to_yaml_dict(self._config),
        }


def _compression(out: Path, compress: bool) -> str:
    """Chunks of an mcap file are compressed; the other kinds need metadata for that, which a single file has not."""
    return "storage" if compress and out.suffix != ".db3" else "none"


# The flight of `make demo`: loops above one block of the city, each a little higher than the last.


# Neighbouring loops pass close to each other but never through the same pose, so a held-out stretch of the flight is
# new to the model yet lies inside what it has seen. The block below has large roofs and a courtyard: shapes that two
# minutes of training can learn.
FLIGHT = FlightConfig(
    plan="orbit",
    aim_x_m=20.0,
    aim_y_m=120.0,
    radius_m=45.0,
    altitude_m=50.0,
    climb_m=10.0,
    loops=6,
    speed_mps=15.0,
    acceleration_mps2=5.0,
)
# The faults of real sensors, but poses that do not drift: as of odometry that is corrected by RTK.
SENSORS = SensorsConfig(
    camera=CameraSensor(rate_hz=6.0),
    odometry=replace(SensorsConfig.perfect().odometry, rate_hz=50.0, latency_ms=15.0, velocity_noise_mps=0.05),
    imu=ImuSensor(rate_hz=100.0),
)


def demo_config() -> SimBagConfig:
    """Two minutes, some 700 small images."""
    return SimBagConfig(width=320, height=240, fov_deg=56.0, duration_s=0.0, flight=FLIGHT, sensors=SENSORS)
