"""The player over DDS: a dataset or a bag becomes poses on /tf and images, at the recorded pace."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from nav_msgs.msg import Odometry
from pose2rgbd.msg import RenderStatus
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.flight import plan_flight, spans
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.monitor import MonitorNode
from pose2rgbd_ros.nodes.play import PlayNode
from pose2rgbd_ros.sim.bag import SimBagConfig, write_sim_bag
from pose2rgbd_ros.sim.sensors.config import CameraSensor, SensorsConfig

pytestmark = pytest.mark.ros
FIRST_NS, STEP_NS = 1_000 * 10**9, 10**8


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, poses):
    """Ten frames in a second; each image shows its number."""
    path = tmp_path_factory.mktemp("data") / "meadow"
    meta = DatasetMeta(Camera(32, 24, 30, 30, 15.5, 11.5), "map", "camera_optical", DepthMeta())
    with DatasetWriter(path, meta) as writer:
        for index in range(10):
            rgb = np.full((24, 32, 3), 10 * index, np.uint8)
            depth = np.full((24, 32), 1.0 + index, np.float32)
            writer.add(FIRST_NS + index * STEP_NS, poses[index], rgb, depth)
    return path


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """A second and a half over the simulated city."""
    sensors = SensorsConfig(camera=CameraSensor(rate_hz=8.0)).without_faults()
    config = SimBagConfig(width=64, height=48, duration_s=1.5, sensors=sensors)
    return write_sim_bag(tmp_path_factory.mktemp("bag") / "flight.mcap", config).path


def listen(bench):
    return {
        "tf": bench.collect(TFMessage, "/tf"),
        "rgb": bench.collect(Image, "/play/rgb/image"),
        "depth": bench.collect(Image, "/play/depth/image"),
        "info": bench.collect(CameraInfo, "/play/rgb/camera_info"),
    }


FOUND_S = 3.0  # by then the listener is found on a busy machine too: every message counts


def stamps(messages):
    return [conversions.stamp_ns(message.header.stamp) for message in messages]


def test_dataset_with_recorded_stamps(bench, dataset):
    got, clock = listen(bench), bench.collect(Clock, "/clock", 500)
    node = bench.spin(PlayNode, recording=str(dataset), clock=True, start_delay_s=FOUND_S)
    bench.wait(lambda: node.exit_status is not None)
    assert node.exit_status == 0
    recorded = Dataset(dataset)
    bench.wait(lambda: len(got["rgb"]) == len(got["depth"]) == len(got["info"]) == 10)
    assert stamps(got["rgb"]) == stamps(got["depth"]) == stamps(got["info"]) == recorded.stamps_ns.tolist()
    for index in (0, 5, 9):
        np.testing.assert_array_equal(conversions.rgb_of(got["rgb"][index]), recorded.rgb(index))
        np.testing.assert_array_equal(conversions.depth_of(got["depth"][index]), recorded.depth(index))
    assert conversions.camera_from_info(got["info"][0]) == recorded.camera

    transforms = {conversions.stamp_ns(t.header.stamp): t for message in got["tf"] for t in message.transforms}
    for stamp_ns, T in zip(recorded.stamps_ns.tolist(), recorded.T_map_cam, strict=True):
        np.testing.assert_allclose(conversions.matrix_of(transforms[stamp_ns].transform), T, atol=1e-9)
    assert len(transforms) >= 20, "50 Hz for 0.9 s, where a busy machine leaves some out; at the images are 10"
    assert next(iter(transforms.values())).child_frame_id == "camera_optical"
    ticks = [conversions.stamp_ns(message.clock) for message in clock]
    assert len(ticks) > 20
    assert ticks == sorted(ticks)


def test_photographs_seconds_apart_are_flown_smoothly_and_compared_where_they_were_taken(
    bench, make_checkpoint, poses, tmp_path
):
    camera = Camera(32, 24, 30, 30, 15.5, 11.5)
    with DatasetWriter(tmp_path / "photos", DatasetMeta(camera, "map", "camera_optical")) as writer:
        for index in range(4):
            writer.add(FIRST_NS + index * 5 * 10**9, poses[3 * index], np.full((24, 32, 3), 50 * index, np.uint8))
    recorded = Dataset(tmp_path / "photos")
    flight = plan_flight(recorded.stamps_ns, recorded.T_map_cam)
    got, rendered = listen(bench), bench.collect(Image, "/render/rgb/image", 200)
    status = bench.collect(RenderStatus, "/render/status", 200)
    bench.render(make_checkpoint())
    monitor = bench.spin(MonitorNode, duration_s=60.0, tolerance_s=0.0)
    node = bench.spin(PlayNode, recording=str(recorded.path), start_delay_s=FOUND_S)
    bench.wait(lambda: node.exit_status is not None)
    bench.wait(lambda: len(got["rgb"]) == 4)

    begun = stamps(got["rgb"])[0]
    assert [stamp - begun for stamp in stamps(got["rgb"])] == (flight.passed_ns - FIRST_NS).tolist()
    transforms = {
        conversions.stamp_ns(t.header.stamp) - begun: conversions.matrix_of(t.transform)
        for message in got["tf"]
        for t in message.transforms
    }
    assert set(transforms) <= set(range(0, flight.spans_ns[0][1] - FIRST_NS + 1, 10**8)), "10 Hz, and no pose but those"
    for passed_ns, T in zip((flight.passed_ns - FIRST_NS).tolist(), recorded.T_map_cam, strict=True):
        np.testing.assert_allclose(transforms[passed_ns], T, atol=1e-9)
    bench.wait(lambda: monitor.figures.pair_offset_s, what="photographs compared")
    assert set(monitor.figures.pair_offset_s) == {0.0}
    assert len(set(stamps(rendered))) > 12, "pictures of the way too; a busy machine leaves some of the thirty out"
    assert RenderStatus.OK in {message.state for message in status}


def test_bag_stamped_as_of_now(bench, bag):
    got, odometry = listen(bench), bench.collect(Odometry, "/play/odometry")
    node = bench.spin(PlayNode, recording=str(bag), odometry=True, start_delay_s=FOUND_S)
    before_ns = bench.node.get_clock().now().nanoseconds
    bench.wait(lambda: node.exit_status is not None)
    bench.wait(lambda: len(got["rgb"]) >= 10)
    assert len(got["depth"]) == len(got["rgb"])
    assert all(abs(stamp - before_ns) < 100e9 for stamp in stamps(got["rgb"]))
    gaps_s = np.diff(stamps(got["rgb"])) / 1e9
    np.testing.assert_allclose(gaps_s, 1 / 8, atol=1e-3)
    assert len(odometry) > 20
    assert odometry[0].header.frame_id == "odom"
    assert odometry[0].child_frame_id == got["rgb"][0].header.frame_id == "camera_optical_frame"


def test_loop_begins_again(bench, dataset):
    images = bench.collect(Image, "/play/rgb/image")
    node = bench.spin(PlayNode, recording=str(dataset), loop=True, rate=4.0, start_delay_s=0.3)
    bench.wait(lambda: len(images) > 25)
    assert node.exit_status is None
    assert stamps(images) == sorted(stamps(images)), "stamped as of now, time goes on"


def test_looped_clock_jumps_back_and_the_render_node_copes(bench, bag, make_checkpoint):
    images = bench.collect(Image, "/render/rgb/image")
    bench.render(make_checkpoint(), use_sim_time=True, camera_frame="camera_optical_frame")
    bench.spin(PlayNode, recording=str(bag), loop=True, clock=True, images=False, start_delay_s=0.3, map_frame="map")
    bench.wait(lambda: images)
    bench.wait_state(RenderStatus.TIME_JUMP)
    count = len(images)
    bench.wait(lambda: len(images) > count + 5)


@pytest.mark.parametrize(("recording", "said"), [("", "nothing to play"), ("/nowhere", "does not exist")])
def test_nothing_to_play(bench, recording, said):
    with pytest.raises(UserError, match=said):
        bench.spin(PlayNode, recording=recording)


def test_not_a_recording(bench, tmp_path):
    (tmp_path / "notes.txt").write_text("no bag")
    with pytest.raises(UserError):
        bench.spin(PlayNode, recording=str(tmp_path))


def test_a_damaged_image_is_left_out(bench, dataset, tmp_path, capfd):
    broken = tmp_path / "broken"
    shutil.copytree(dataset, broken)
    first = sorted((broken / "rgb").iterdir())[3]
    first.write_bytes(first.read_bytes()[:40])
    images = bench.collect(Image, "/play/rgb/image")
    node = bench.spin(PlayNode, recording=str(broken), start_delay_s=FOUND_S)
    bench.wait(lambda: node.exit_status is not None)
    bench.wait(lambda: len(images) == 9)
    assert "left out an image" in capfd.readouterr().err


def test_pauses_are_not_played():
    s = 10**9
    assert spans(np.array([0, s, 2 * s, 100 * s, 101 * s])) == [(0, 2 * s), (100 * s, 101 * s)]


def test_real_recording(bench, real_data):
    got = listen(bench)
    recording = real_data / "rgbd_7scenes_bag_sqlite3"
    node = bench.spin(PlayNode, recording=str(recording), start_delay_s=0.5, clock=True)
    bench.wait(lambda: node.exit_status is not None)
    bench.wait(lambda: min(len(got[kind]) for kind in ("rgb", "depth", "info")) > 35)
    assert (got["rgb"][0].width, got["rgb"][0].height) == (640, 480)
    known = conversions.depth_of(got["depth"][0])
    assert 0.3 < np.nanmedian(known) < 5.0
    assert conversions.camera_from_info(got["info"][0]).fx == 585.0
    sent = {conversions.stamp_ns(t.header.stamp) for message in got["tf"] for t in message.transforms}
    assert set(stamps(got["rgb"])) <= sent, "TF has a pose at the very stamp of each image"
