"""One flight, three roads to a dataset: recorded live, converted from the recorder's bag, converted from a simulated
bag.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from geometry_msgs.msg import Quaternion, QuaternionStamped
from lifecycle_msgs.msg import Transition
from std_srvs.srv import Trigger
from support.live_drone import LiveDrone

from pose2rgbd_ros.convert.bag import convert
from pose2rgbd_ros.convert.report import ConvertReport
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.geometry.geodesy import Datum, wgs84_to_enu
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.record.node import RecordNode
from pose2rgbd_ros.nodes.sim.node import SimNode
from pose2rgbd_ros.sim.bag import SimBagConfig, write_sim_bag
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.sensors.config import CameraSensor, SensorsConfig

pytestmark = pytest.mark.ros
FRAMES, SEED = 28, 3
FLOWN = SimBagConfig(
    width=96,
    height=72,
    fov_deg=65.0,
    duration_s=5.0,
    seed=SEED,
    city=CityConfig(extent_m=200.0, cars=2, people=0),
    flight=FlightConfig(plan="orbit", altitude_m=70.0, radius_m=40.0, loops=1, speed_mps=15.0),
    sensors=SensorsConfig(camera=CameraSensor(rate_hz=7.0)),
)
LIVE = {
    "width": 96, "height": 72, "fov_deg": 65.0, "sensor_seed": SEED, "tf": "odometry", "city__extent_m": 200.0,
    "city__cars": 2, "city__people": 0, "flight__plan": "orbit", "flight__altitude_m": 70.0, "flight__radius_m": 40.0,
    "flight__loops": 1, "flight__speed_mps": 15.0, "camera__rate_hz": 7.0, "real_time_factor": 4.0,
}  # fmt: skip
TOPICS = {
    "image": "camera/image", "depth": "camera/depth/image", "camera_info": "camera/camera_info", "fix": "gps/fix",
    "imu": "imu/data",
}  # fmt: skip


@dataclass
class Roads:
    """The datasets, and what the conversions said."""

    live: Path
    converted: Path
    report: ConvertReport


@pytest.fixture(scope="module")
def roads(shared_bench, tmp_path_factory) -> Roads:
    folder = tmp_path_factory.mktemp("roads")
    live, bag = folder / "flight", folder / "flight_bag"
    shared_bench.spin(RecordNode, remap=TOPICS, use_sim_time=True, out=str(live), bag="mcap")
    shared_bench.spin(SimNode, **LIVE)
    shared_bench.wait(lambda: written(live) >= FRAMES, what="frames")
    answer = shared_bench.call(Trigger, "/record/stop", Trigger.Request())
    assert answer.success, answer.message
    assert shared_bench.change(Transition.TRANSITION_DEACTIVATE, "/sim")
    report = convert([bag], folder / "converted")
    return Roads(live, folder / "converted", report)


def written(folder: Path) -> int:
    return len(list((folder / "rgb").glob("*")))


def together(a: Dataset, b: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the frames that both have."""
    _, ours, theirs = np.intersect1d(a.stamps_ns, b.stamps_ns, return_indices=True)
    return ours, theirs


def test_live_is_offline(roads):
    """Of the same messages: the same frames, to the last byte and digit."""
    live, offline = Dataset(roads.live), Dataset(roads.converted)
    np.testing.assert_array_equal(live.stamps_ns, offline.stamps_ns)
    assert len(live) >= FRAMES
    np.testing.assert_allclose(live.T_map_cam, offline.T_map_cam, atol=1e-6)
    for ours, theirs in zip(live.records, offline.records, strict=True):
        assert (roads.live / ours.rgb).read_bytes() == (roads.converted / theirs.rgb).read_bytes()
        assert (roads.live / ours.depth).read_bytes() == (roads.converted / theirs.depth).read_bytes()
    a, b = live.meta, offline.meta
    assert (a.camera, a.map_frame, a.camera_frame, a.depth) == (b.camera, b.map_frame, b.camera_frame, b.depth)
    assert metres_apart(a.datum, b.datum) < 0.02
    assert rejects_live(roads.live) == roads.report.rejects


def test_a_live_flight_is_the_simulated_one(roads, tmp_path):
    """The simulator draws the same flight and faults, live and into a bag: what both have is the same."""
    write_sim_bag(tmp_path / "sim.mcap", FLOWN)
    convert([tmp_path / "sim.mcap"], tmp_path / "simulated")
    live, simulated = Dataset(roads.live), Dataset(tmp_path / "simulated")
    ours, theirs = together(live, simulated)
    within = (live.stamps_ns >= simulated.stamps_ns[0]) & (live.stamps_ns <= simulated.stamps_ns[-1])
    assert len(ours) == within.sum() > FRAMES / 2, "no frame of the overlap is missing on either side"
    np.testing.assert_allclose(live.T_map_cam[ours], simulated.T_map_cam[theirs], atol=1e-6)
    for i, j in [(ours[0], theirs[0]), (ours[-1], theirs[-1])]:
        np.testing.assert_allclose(live.rgb(i).astype(float), simulated.rgb(j).astype(float), atol=12)
        np.testing.assert_allclose(live.depth(i), simulated.depth(j), atol=0.01)
    assert (live.camera, live.meta.map_frame) == (simulated.camera, simulated.meta.map_frame)
    assert metres_apart(live.meta.datum, simulated.meta.datum) < 1.0, "fixes of other seconds"


def metres_apart(a: Datum, b: Datum) -> float:
    return float(np.linalg.norm(wgs84_to_enu(a.latitude_deg, a.longitude_deg, a.altitude_m, b)))


def rejects_live(folder: Path) -> dict[str, int]:
    return yaml.safe_load((folder / "record_report.yaml").read_text())["rejects"]


def test_poses_that_come_after_the_stop(bench, tmp_path):
    """The last images wait for them; so they are in the bag, and in both datasets."""
    drone = LiveDrone(bench.node)
    bench.spin(RecordNode, out=str(tmp_path / "live"), bag="mcap", depth="none", min_free_mib=0)
    bench.wait(lambda: written(tmp_path / "live") >= 5, what="frames")
    held = []
    drone.spoil["odom"] = held.append
    bench.wait(lambda: len(held) > 10, what="images that wait")
    late = bench.node.create_timer(0.2, lambda: drone.send_again("odom", held))
    assert bench.call(Trigger, "/record/stop", Trigger.Request()).success
    bench.node.destroy_timer(late)
    drone.land()
    convert([tmp_path / "live_bag"], tmp_path / "converted")
    live, offline = Dataset(tmp_path / "live"), Dataset(tmp_path / "converted")
    assert live.stamps_ns[-1] > conversions.stamp_ns(held[0].header.stamp)
    np.testing.assert_array_equal(live.stamps_ns, offline.stamps_ns)
    np.testing.assert_array_equal(live.T_map_cam, offline.T_map_cam)


def test_a_gimbal_live_is_that_of_the_converter(bench, tmp_path):
    """Found unasked by both, since TF does not know the camera: positions of the odometry, turned by the gimbal."""
    gimbal = bench.node.create_publisher(QuaternionStamped, "gimbal", 10)
    drone = LiveDrone(bench.node, without=("image", "depth", "/clock", "/tf_static"))

    def turn(odometry):
        yaw = 0.3 + 0.5 * (conversions.stamp_ns(odometry.header.stamp) - drone.start_ns) / 1e9
        gimbal.publish(
            QuaternionStamped(header=odometry.header, quaternion=Quaternion(z=np.sin(yaw / 2), w=np.cos(yaw / 2)))
        )
        return odometry

    drone.spoil["odom"] = turn
    bench.spin(RecordNode, out=str(tmp_path / "live"), bag="mcap", depth="none", min_free_mib=0)
    bench.wait(lambda: written(tmp_path / "live") >= 8, what="frames")
    assert bench.call(Trigger, "/record/stop", Trigger.Request()).success
    drone.land()
    convert([tmp_path / "live_bag"], tmp_path / "converted")
    live, offline = Dataset(tmp_path / "live"), Dataset(tmp_path / "converted")
    np.testing.assert_array_equal(live.stamps_ns, offline.stamps_ns)
    np.testing.assert_array_equal(live.T_map_cam, offline.T_map_cam)
    yaws = 0.3 + 0.5 * (live.stamps_ns - drone.start_ns) / 1e9
    np.testing.assert_allclose(live.T_map_cam[:, 0, 2], np.cos(yaws), atol=1e-6)
    assert live.meta.poses.orientation == offline.meta.poses.orientation == "gimbal"
    assert live.meta.poses.topics == offline.meta.poses.topics == {"pose": "/odom", "gimbal": "/gimbal"}
