"""Simulator, renderer and avoid together: what a pipeline receives over DDS, read as its consumers do, against the
truth.

The model is a relief of the city's heights, calibrated on a flight over it; the city's north-east was never seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from pose2rgbd.msg import ObstacleStatus
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2
from support import consumers
from support.city_relief import UNSEEN_M, write_city_relief, write_recording

from pose2rgbd_ros.cli.nodes import BESIDE
from pose2rgbd_ros.evaluation.calibrate_depth import calibrate
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.avoid.node import AvoidNode
from pose2rgbd_ros.nodes.common.conversions import depth_of, stamp_ns
from pose2rgbd_ros.nodes.sim.node import SimNode
from pose2rgbd_ros.obstacles.view import level
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.flight import Flight
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer
from pose2rgbd_ros.sim.state import true_seconds

pytestmark = pytest.mark.ros
FLIGHT = FlightConfig(plan="street", distance_m=300.0, seed=1)
CAMERA = Camera.from_fov(64, 64, 90.0)
REACH_M, MARGIN_M = 40.0, 2.0  # of the scan; of a bound that is still safe
SENSOR = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)  # of octomap_server, Nav2, nvblox
TOPICS = {
    "depth": ("/render/depth/image", Image, 5),
    "depth_info": ("/render/depth/camera_info", CameraInfo, 5),
    "lower": ("/render/depth_lower/image", Image, SENSOR),
    "lower_info": ("/render/depth_lower/camera_info", CameraInfo, SENSOR),
    "points": ("/avoid/points", PointCloud2, SENSOR),
    "scan": ("/avoid/scan", LaserScan, SENSOR),
    "mavros": ("/avoid/mavros_scan", LaserScan, 10),
    "status": ("/avoid/status", ObstacleStatus, 10),
}


class Place:
    """The city, the flight over it, and what there is to see."""

    def __init__(self, folder: Path) -> None:
        self.city = City(CityConfig())
        self.flight: Flight = make_flight(FLIGHT, self.city)
        seen_s = np.arange(0.0, 16.0, 0.5)
        trained = self.flight.T_map_cam(seen_s)
        self.middle_m = trained[0, :2, 3]
        self.model = write_city_relief(folder / "city", self.city, trained, CAMERA, self.middle_m)
        between = self.flight.T_map_cam(seen_s + 0.25)
        calibrate(self.model, write_recording(folder / "seen", self.city, between, CAMERA))
        Renderer(self.model).render(between[:1])  # the compiler's time is nobody's latency
        self._eye = SceneRenderer(self.city.scene, CAMERA, shadows=False)

    def T_map_cam(self, at_ns: int) -> np.ndarray:
        return self.flight.T_map_cam(true_seconds(at_ns))[0]

    def T_level_map(self, at_ns: int) -> np.ndarray:
        """Map to level body frame (4, 4)."""
        T_map_body = self.flight.T_map_body(true_seconds(at_ns))[0]
        R_level_map = level(T_map_body[:3, :3]) @ T_map_body[:3, :3].T
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = R_level_map, -R_level_map @ T_map_body[:3, 3]
        return T

    def true_depth(self, at_ns: int) -> np.ndarray:
        """(H, W) metres, NaN where there is only sky."""
        return self._eye.render(self.T_map_cam(at_ns)).depth_m

    def close(self) -> None:
        self._eye.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("place"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def got(shared_bench: Any, place: Place) -> dict[str, Any]:
    """All three nodes running, and what they sent until a dozen scans had come."""
    bench = shared_bench
    got: dict[str, Any] = {name: bench.collect(kind, topic, qos) for name, (topic, kind, qos) in TOPICS.items()}
    got["diagnostics"] = bench.collect(DiagnosticArray, "/diagnostics")
    bench.render(place.model, use_sim_time=True, rate_hz=10.0)
    bench.spin(AvoidNode, remap=BESIDE["avoid"], use_sim_time=True, scan__range_max_m=REACH_M, max_age_s=2.0)
    bench.spin(
        SimNode, width=64, height=64, fov_deg=90.0, faults=False, flight__plan="street", flight__distance_m=300.0,
        flight__seed=1,
    )  # fmt: skip
    bench.wait(lambda: sum(m.state == ObstacleStatus.OK for m in got["status"]) > 11, what="avoid is OK")
    got["bench"] = bench
    return got


def by_stamp(messages: list[Any]) -> dict[int, Any]:
    return {stamp_ns(message.header.stamp): message for message in list(messages)}


def together(got: dict[str, Any], *names: str) -> list[tuple[int, list[Any]]]:
    """The messages of these topics that share a stamp, oldest first."""
    topics = [by_stamp(got[name]) for name in names]
    common = sorted(set.intersection(*(set(topic) for topic in topics)))
    assert len(common) >= 5, {name: len(topic) for name, topic in zip(names, topics, strict=True)}
    return [(at_ns, [topic[at_ns] for topic in topics]) for at_ns in common]


def moved(T: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ T[:3, :3].T + T[:3, 3]


def true_ranges(place: Place, at_ns: int, above_m: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Bearing and horizontal range (N,) of every true surface point in the slice around the level body."""
    depth = place.true_depth(at_ns)
    points = CAMERA.rays() * depth[..., None]
    T_level_cam = place.T_level_map(at_ns) @ place.T_map_cam(at_ns)
    points = moved(T_level_cam, points[np.isfinite(depth)])
    points = points[np.abs(points[:, 2]) < above_m]
    return np.arctan2(points[:, 1], points[:, 0]), np.hypot(points[:, 0], points[:, 1])


def test_topics_encodings_frames_and_stamps(got, place):
    for _, (depth, info, lower, lower_info, points) in together(
        got, "depth", "depth_info", "lower", "lower_info", "points"
    ):
        assert (depth.encoding, lower.encoding) == ("32FC1", "32FC1")
        assert depth.header == info.header == lower.header == lower_info.header == points.header
        assert depth.header.frame_id == "camera_optical_frame"
        assert (points.height, points.width, points.is_dense) == (64, 64, False)
        assert [field.name for field in points.fields] == ["x", "y", "z"]
        assert info.p[0] == info.k[0] > 0
    for _, (scan, mavros) in together(got, "scan", "mavros"):
        assert scan.header == mavros.header
        assert scan.header.frame_id == "base_link_level"
        assert (len(scan.ranges), len(mavros.ranges)) == (360, 72)
        assert scan.range_max == pytest.approx(REACH_M)


def test_every_depth_image_becomes_a_scan_in_order(got):
    # Those that say that nothing is known are of no image; on a coarse clock they may have the stamp of one to come.
    lower, scans = (sorted(by_stamp(got["lower"])), [m for m in list(got["scan"]) if not np.isnan(m.ranges).all()])
    served = [at_ns for at_ns in (stamp_ns(m.header.stamp) for m in scans) if at_ns in set(lower)]
    assert served == sorted(set(served))
    window = [at_ns for at_ns in lower if served[0] <= at_ns <= served[-1]]
    assert len(served) >= 0.7 * len(window), "a busy worker overtakes, but not most of them"


def test_depth_and_bounds_agree_with_the_truth_where_known(got, place):
    errors, beyond, known = [], [], []
    for at_ns, (depth, lower) in together(got, "depth", "lower")[:8]:
        predicted, bound, truth = depth_of(depth), depth_of(lower), place.true_depth(at_ns)
        np.testing.assert_array_equal(np.isnan(predicted), np.isnan(bound))
        both = np.isfinite(bound) & np.isfinite(truth)
        errors.append(np.abs(predicted - truth)[both])
        beyond.append((bound > truth + MARGIN_M)[both])
        known.append(np.isfinite(bound).mean())
        assert (bound[np.isfinite(bound)] <= predicted[np.isfinite(bound)]).all()
    assert np.median(np.concatenate(errors)) < 3.0
    assert np.concatenate(beyond).mean() < 0.02, "false-safe pixels"
    assert 0.1 < np.mean(known) < 1.0


def test_what_was_never_seen_is_unknown(got, place):
    for at_ns, (lower, points) in together(got, "lower", "points")[:8]:
        cloud = consumers.points_of(points)
        np.testing.assert_array_equal(np.isnan(cloud).any(axis=-1), np.isnan(depth_of(lower)))
        in_map = moved(place.T_map_cam(at_ns), cloud)
        with np.errstate(invalid="ignore"):
            assert not (in_map[..., :2] > place.middle_m + UNSEEN_M + 4.0).all(axis=-1).any()


def test_scans_never_reach_behind_a_true_surface(got, place):
    tried = missed = 0
    for at_ns, (scan,) in together(got, "scan")[:8]:
        ranges = np.array(scan.ranges)
        bearing, true_m = true_ranges(place, at_ns)
        of = np.round((bearing + np.pi) / (2 * np.pi) * 360).astype(int) % 360
        said = ranges[of]
        inside = ~np.isnan(said) & (true_m < REACH_M - MARGIN_M)
        tried += int(inside.sum())
        missed += int((said > true_m + MARGIN_M)[inside].sum())
        behind = np.abs(np.degrees(scan.angle_min + np.arange(360) * scan.angle_increment)) > 100
        assert np.isnan(ranges[behind]).all(), "nobody looks there"
    assert tried > 0, "no known bearing: the test says nothing"
    assert missed <= 0.02 * tried


def test_autopilots_are_told_no_more_than_is_true(got, place):
    told = 0
    for at_ns, (mavros,) in together(got, "mavros")[:8]:
        message = consumers.mavros(mavros)
        sectors = consumers.px4_sectors(message)
        bearing, true_m = true_ranges(place, at_ns)
        of = np.round(np.degrees(-bearing) % 360 / 10).astype(int) % consumers.SECTORS
        nearest = np.full(consumers.SECTORS, np.inf)
        np.minimum.at(nearest, of, true_m)
        known = sectors != consumers.UNKNOWN_CM
        told += int(known.sum())
        assert (sectors[known] <= message.max_cm + 1).all()
        clear = sectors > message.max_cm
        assert (nearest[known & clear] > REACH_M - MARGIN_M).all()
        assert (sectors[known & ~clear] / 100 <= nearest[known & ~clear] + MARGIN_M).all()
        assert not known[11:26].any(), "nothing looks back"
    assert told > 0, "no known sector: the test says nothing"


def test_mappers_and_planners_read_the_cloud(got, place):
    for at_ns, (lower, info, points) in together(got, "lower", "lower_info", "points")[:3]:
        cloud = consumers.points_of(points)
        np.testing.assert_allclose(cloud, consumers.depth_image_proc(lower, info), atol=1e-3, equal_nan=True)
        T_map_cam, truth = place.T_map_cam(at_ns), place.true_depth(at_ns)
        in_map, eye = moved(T_map_cam, cloud), T_map_cam[:3, 3]
        assert np.isfinite(consumers.nav2(in_map, -5.0, 60.0)).all()
        assert np.isfinite(consumers.ego_planner(in_map, eye, 45.0)).all()
        freed = consumers.octomap_freed(in_map[::4, ::4], eye, 1.0, REACH_M)
        in_cam = moved(np.linalg.inv(T_map_cam), freed)
        u, v = np.round(CAMERA.project(in_cam)).astype(int).T.clip(0, 63)
        with np.errstate(invalid="ignore"):
            behind = in_cam[:, 2] > truth[v, u] + MARGIN_M + 1.0
        assert len(freed) > 50
        assert behind.mean() < 0.02


def test_status_and_diagnostics_tell_the_latency(got):
    status = [m for m in list(got["status"]) if m.state == ObstacleStatus.OK][-1]
    assert status.header.frame_id == "base_link"
    assert status.sources & ObstacleStatus.PREDICTED
    assert 0.0 <= status.latency_s < 60.0
    assert 0.1 < status.known < 1.0
    bench = got["bench"]

    def told() -> bool:
        entries = [entry for array in list(got["diagnostics"]) for entry in array.status]
        return any("avoid" in e.name and any(v.key == "latency_s" for v in e.values) for e in entries)

    bench.wait(told)


def test_without_the_renderer_everything_is_unknown(got):
    bench = got["bench"]
    assert bench.change(Transition.TRANSITION_DEACTIVATE)
    bench.wait(lambda: got["status"][-1].state == ObstacleStatus.STALE, what="STALE")
    count = len(got["mavros"])
    bench.wait(lambda: len(got["mavros"]) > count + 1, what="scans go on, as unknown")
    assert np.isnan(got["mavros"][-1].ranges).all()
    assert np.isnan(got["scan"][-1].ranges).all()
    assert (consumers.mavros(got["mavros"][-1]).distances_cm == consumers.UNKNOWN_CM).all()
