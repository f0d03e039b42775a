"""A simulated recording: its messages, its truth, and the dataset that the converter makes of it."""

from __future__ import annotations

import csv
import functools
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.convert.bag import convert
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.layout import parse_pose, parse_stamp, truth_folder
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import depth, quaternions, se3
from pose2rgbd_ros.geometry.geodesy import wgs84_to_enu
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.settings import read_yaml
from pose2rgbd_ros.sim import bag as bag_module
from pose2rgbd_ros.sim.bag import Recorder, SimBagConfig, write_sim_bag
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer
from pose2rgbd_ros.sim.sensors.config import (
    Barometer,
    CameraSensor,
    Clocks,
    GpsSensor,
    ImuSensor,
    OdometrySensor,
    SensorsConfig,
)
from pose2rgbd_ros.sim.sensors.noise import SensorClock
from pose2rgbd_ros.sim.state import DATUM, true_seconds, true_stamp_ns

SENSORS = SensorsConfig(
    CameraSensor(rate_hz=10.0, drop_share=0.1),
    GpsSensor(rate_hz=5.0, outages_per_min=20.0, outage_s=1.0, outlier_share=0.1),
    OdometrySensor(rate_hz=50.0, scale_sigma=0.05, heading_sigma_deg=5.0),
    ImuSensor(rate_hz=50.0),
    Barometer(rate_hz=10.0),
    Clocks(offset_ms=30.0),
)
CONFIG = SimBagConfig(
    width=64, height=48, duration_s=6.0, clock_hz=20.0, truth_hz=50.0,
    flight=FlightConfig(plan="lawnmower", attitude_jitter_deg=2.0), sensors=SENSORS,
)  # fmt: skip
PERFECT = replace(CONFIG, perfect=True)


class Truth:
    """What lies beside a recording, read as anybody would."""

    def __init__(self, path: Path) -> None:
        self.path, self.info = path, read_yaml(path / "truth.yaml")

    def clock(self, sensor: str) -> SensorClock:
        return SensorClock(**self.info["drawn"]["clocks"][sensor])

    def body(self) -> Trajectory:
        return self._trajectory("groundtruth.txt")

    def camera(self) -> Trajectory:
        return self._trajectory("camera.txt")

    def sensor(self, name: str) -> SensorTruth:
        with (self.path / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        times = [np.array([int(row.pop(key)) for row in rows]) for key in ("true_ns", "stamp_ns", "arrival_ns")]
        faults = [row.pop("fault") for row in rows]
        return SensorTruth(*times, faults, {key: np.array([float(row[key]) for row in rows]) for key in rows[0]})

    def _trajectory(self, name: str) -> Trajectory:
        lines = [line for line in (self.path / name).read_text().splitlines() if not line.startswith("#")]
        poses = np.array([parse_pose(line) for line in lines])
        return Trajectory(np.array([parse_stamp(line.split()[0]) for line in lines]), poses[:, :3], poses[:, 3:])


class SensorTruth(NamedTuple):
    true_ns: np.ndarray
    stamp_ns: np.ndarray
    arrival_ns: np.ndarray
    fault: list[str]
    errors: dict[str, np.ndarray]


@pytest.fixture(scope="module", autouse=True)
def _one_city() -> Iterator[None]:
    """Built once: it is the same each time, which is its own test's matter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bag_module, "City", functools.cache(City))
        yield


@pytest.fixture(scope="module")
def perfect(tmp_path_factory: pytest.TempPathFactory, _one_city: None) -> Path:
    return write_sim_bag(tmp_path_factory.mktemp("perfect") / "flight.mcap", PERFECT).path


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, _one_city: None) -> Path:
    config = replace(CONFIG, map_to_odom=True)
    return write_sim_bag(tmp_path_factory.mktemp("faulty") / "flight.mcap", config).path


def _messages(path: Path, *topics: str) -> list[tuple[str, int, Any]]:
    with open_bag(path) as bag:
        return list(bag.messages(list(topics) or list(bag.topics)))


def _differences(dataset: Path, truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Metres (N, 3) and degrees (N,) between a dataset's poses and the true ones of the same images."""
    made, true = Dataset(dataset), truth.camera().interpolate(Dataset(dataset).stamps_ns)
    turned = quaternions.angle_between_rad(se3.split(made.T_map_cam)[1], se3.split(true.T)[1])
    return made.T_map_cam[:, :3, 3] - true.T[:, :3, 3], np.rad2deg(turned)


def test_topics_types_and_rates(perfect: Path) -> None:
    with open_bag(perfect) as bag:
        found = {name: (info.type.split("/")[-1], info.count) for name, info in bag.topics.items()}
    assert found == {
        "/tf_static": ("TFMessage", 1),
        "/tf": ("TFMessage", 301),
        "/clock": ("Clock", 121),
        "/odom": ("Odometry", 301),
        "/imu/data": ("Imu", 301),
        "/gps/fix": ("NavSatFix", 31),
        "/pressure": ("FluidPressure", 61),
        "/camera/image/compressed": ("CompressedImage", 60),
        "/camera/camera_info": ("CameraInfo", 60),
        "/camera/depth/image": ("Image", 60),
        "/camera/depth/camera_info": ("CameraInfo", 60),
    }


def test_messages_are_in_order_of_arrival_and_stamped_by_their_sensor(faulty: Path) -> None:
    truth, received = Truth(truth_folder(faulty)), _messages(faulty)
    times = [received_ns for _, received_ns, _ in received]
    assert times == sorted(times)
    for sensor, topic in (("imu", "/imu/data"), ("gps", "/gps/fix"), ("camera", "/camera/depth/image")):
        told = truth.sensor(sensor)
        stamps = [decode.header_stamp_ns(message.header) for name, _, message in received if name == topic]
        assert stamps == told.stamp_ns.tolist()
        assert [t for name, t, _ in received if name == topic] == told.arrival_ns.tolist()
    for name, received_ns, message in received:
        if name == "/clock":
            assert decode.header_stamp_ns(_Header(message.clock)) == received_ns


class _Header:
    def __init__(self, stamp: object) -> None:
        self.stamp = stamp


def test_a_perfect_recording_converts_to_the_true_poses(perfect: Path, tmp_path: Path) -> None:
    report = convert([perfect], tmp_path / "dataset")
    metres, degrees = _differences(tmp_path / "dataset", Truth(truth_folder(perfect)))
    assert report.frames_written == len(metres) == 60
    assert np.linalg.norm(metres, axis=1).max() < 1e-3
    assert degrees.max() < 0.01
    meta = Dataset(tmp_path / "dataset").meta
    assert meta.simulation == Truth(truth_folder(perfect)).info["settings"], "what a live simulator flies again"
    datum = meta.datum
    assert datum is not None
    assert datum.sigma_m is not None
    off_m = wgs84_to_enu(datum.latitude_deg, datum.longitude_deg, datum.altitude_m, DATUM)
    assert np.abs(off_m).max() < 0.15  # the antenna is 8 cm above the body


def test_pictures_are_those_of_the_true_pose(perfect: Path, tmp_path: Path) -> None:
    convert([perfect], tmp_path / "dataset")
    dataset, truth = Dataset(tmp_path / "dataset"), Truth(truth_folder(perfect))
    true_ns = truth.sensor("camera").true_ns
    with SceneRenderer(City(PERFECT.city).scene, PERFECT.camera()) as renderer:
        for i in (0, 31, 59):
            view = renderer.render(truth.camera().T[i], true_seconds(int(true_ns[i])))
            np.testing.assert_allclose(dataset.depth(i), view.depth_m, atol=0.011)  # stored in centimetres
            assert np.abs(dataset.rgb(i).astype(int) - view.rgb).mean() < 4.0


def test_truth_is_the_flight(faulty: Path) -> None:
    truth, flight = Truth(truth_folder(faulty)), make_flight(CONFIG.flight, City(CONFIG.city))
    body = truth.body()
    assert len(body) == 301
    np.testing.assert_allclose(
        body.T[::50], flight.T_map_body([true_seconds(int(t)) for t in body.stamps_ns[::50]]), atol=1e-8
    )
    images, camera = truth.sensor("camera"), truth.camera()
    assert camera.stamps_ns.tolist() == images.stamp_ns.tolist()
    expected = flight.T_map_cam([true_seconds(int(t)) for t in images.true_ns])
    np.testing.assert_allclose(camera.T, expected, atol=1e-8)


def test_truth_tells_the_clocks_and_every_error(faulty: Path) -> None:
    truth = Truth(truth_folder(faulty))
    for sensor in ("gps", "odometry", "imu", "barometer"):
        told, clock = truth.sensor(sensor), truth.clock(sensor)
        assert [clock.stamp_ns(int(t)) for t in told.true_ns] == told.stamp_ns.tolist()
        assert (told.arrival_ns > told.true_ns).all()
    fixes, told = _messages(faulty, "/gps/fix"), truth.sensor("gps")
    assert {"", "no_fix"} <= set(told.fault)
    body = truth.body().interpolate(told.true_ns).T
    antenna_m = body[:, :3, 3] + body[:, :3, 2] * 0.08
    for i, (_, _, fix) in enumerate(fixes):
        assert (fix.status.status == -1) == (told.fault[i] == "no_fix")
        at_m = wgs84_to_enu(fix.latitude, fix.longitude, fix.altitude, DATUM) - antenna_m[i]
        error_m = [told.errors[f"error_{axis}_m"][i] for axis in ("east", "north", "up")]
        np.testing.assert_allclose(at_m, error_m, atol=1e-4)
    assert truth.info["settings"]["sensors"]["odometry"]["scale_sigma"] == 0.05


def test_drifting_odometry_puts_its_own_error_into_the_dataset(faulty: Path, tmp_path: Path) -> None:
    """From poses of odometry: off by what the truth says of it. From TF with the true map -> odom: off by the
    clocks.
    """
    truth = Truth(truth_folder(faulty))
    convert([faulty], tmp_path / "odom")
    metres, _ = _differences(tmp_path / "odom", truth)
    told = truth.sensor("odometry").errors
    last = np.array([told[f"error_{axis}_m"][-1] for axis in "xyz"])
    assert np.linalg.norm(last) > 0.3
    np.testing.assert_allclose(metres[-1], last, atol=0.5)
    convert([faulty], tmp_path / "tf", ConvertConfig(pose_topic="/tf"))
    metres, degrees = _differences(tmp_path / "tf", truth)
    assert Dataset(tmp_path / "tf").meta.map_frame == "map"
    assert np.linalg.norm(metres, axis=1).max() < 8.0 * 0.06  # m/s, and s of clocks apart
    assert degrees.max() < 2.0


def test_exposure_delay_moves_the_dataset_along_the_track(tmp_path: Path) -> None:
    """The offset that the converter is then told undoes it."""
    camera = replace(SENSORS.without_faults().camera, delay_ms=100.0)
    config = replace(CONFIG, sensors=replace(SENSORS.without_faults(), camera=camera))
    recorded = write_sim_bag(tmp_path / "late.mcap", config)
    convert([recorded.path], tmp_path / "late")
    metres, _ = _differences(tmp_path / "late", Truth(recorded.truth))
    speed_mps = np.linalg.norm(metres[-10:], axis=1) / 0.1
    np.testing.assert_allclose(speed_mps, 8.0, atol=1.0)
    convert([recorded.path], tmp_path / "mended", ConvertConfig(image_time_offset_s=0.1))
    assert np.abs(_differences(tmp_path / "mended", Truth(recorded.truth))[0]).max() < 1e-3


def test_the_same_settings_give_the_same_messages(tmp_path: Path) -> None:
    config = replace(CONFIG, duration_s=1.0)
    first, again = (_messages(write_sim_bag(tmp_path / name, config).path) for name in ("a.mcap", "b.db3"))
    assert [item[:2] for item in first] == [item[:2] for item in again]
    for (topic, _, message), (_, _, other) in zip(first, again, strict=True):
        if topic.startswith("/camera/"):
            assert np.array_equal(getattr(message, "data", 0), getattr(other, "data", 0))
        else:
            assert str(message) == str(other)


def test_depth_of_short_range_is_in_millimetres(tmp_path: Path) -> None:
    config = replace(PERFECT, duration_s=0.5, max_depth_m=60.0)
    path = write_sim_bag(tmp_path / "near", config).path
    topic = "/camera/depth/image/compressedDepth"
    (_, _, message), *_ = _messages(path, topic)
    seen = depth.decode_compressed_depth(message.data.tobytes(), message.format)
    assert message.format.startswith("16UC1")
    assert np.isnan(seen).any()
    assert 30 < np.nanmin(seen) < np.nanmax(seen) <= 60.0
    with pytest.raises(UserError, match="ends at 65 m; set max_depth_m"):
        write_sim_bag(tmp_path / "far.mcap", replace(config, depth="16UC1", max_depth_m=0.0))
    none = write_sim_bag(tmp_path / "none.mcap", replace(config, depth="none")).path
    assert not [item for item in _messages(none) if "depth" in item[0]]


@pytest.mark.parametrize("there", ["flight.mcap", "flight.truth"])
def test_what_exists_is_not_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).mkdir()
    with pytest.raises(UserError, match=f"{there} exists already"):
        write_sim_bag(tmp_path / "flight.mcap", CONFIG)
    assert [item.name for item in tmp_path.iterdir()] == [there]


@pytest.mark.parametrize("path", [".", "/", ".."])
def test_a_recording_needs_a_name(path: str) -> None:
    with pytest.raises(UserError, match="exists already"):
        write_sim_bag(Path(path), CONFIG)


def test_ros_1_bags_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"flight\.bag would be a ROS 1 bag; choose"):
        write_sim_bag(tmp_path / "flight.bag", CONFIG)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def _second_process(path: Path) -> Callable[..., None]:
    def record(*_: object) -> None:
        write_sim_bag(path, CONFIG)

    return record


@pytest.mark.parametrize("name", ["flight.mcap", "flight"])
def test_an_interrupted_recording_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(Recorder, "messages", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_sim_bag(tmp_path / name, CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_do_not_write_one_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "messages", _second_process(tmp_path / "flight.mcap"))
    with pytest.raises(UserError, match="is being written by another process"):
        write_sim_bag(tmp_path / "flight.mcap", CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    def small_files_only() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    call = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "sim", "bag", str(tmp_path / "flight.mcap")]
    options = ["--duration-s", "3", "--flight.plan", "lawnmower"]
    result = subprocess.run([*call, *options], text=True, capture_output=True, timeout=400, preexec_fn=small_files_only)
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1].startswith(f"error: cannot write {tmp_path}/flight.mcap (")
    assert list(tmp_path.iterdir()) == []


def test_a_stamp_is_where_the_truth_says(faulty: Path) -> None:
    """Images carry the begin of the exposure by their own clock, less the trigger's delay."""
    truth = Truth(truth_folder(faulty))
    told, clock, camera = truth.sensor("camera"), truth.clock("camera"), SENSORS.camera
    expected = [clock.stamp_ns(int(t)) - 7_000_000 for t in told.true_ns]
    assert camera.delay_ms + camera.exposure_ms / 2 == 7.0
    assert np.abs(told.stamp_ns - expected).max() < 5 * camera.stamp_jitter_ms * 1e6
    assert abs(int(told.true_ns[0]) - true_stamp_ns(0.002)) < 5 * camera.trigger_jitter_ms * 1e6
