"""The render node with a model of geometry, and for other cameras than the trained one, over DDS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from pose2rgbd.msg import RenderStatus
from pose2rgbd.srv import RenderPose
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import CameraInfo, Image
from support.small_relief import SIDE, write_small_relief

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.rendering.bounds import Calibration, IntervalTable, save_calibration
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.ros
ABOVE_HOUSE = se3.look_at(np.array([0.0, 0.0, 10.0]), np.array([0.0, 0.0, 9.0]))


def at(x: float, y: float, z: float) -> np.ndarray:
    """A camera that looks straight down."""
    T = ABOVE_HOUSE.copy()
    T[:3, 3] = x, y, z
    return T


@pytest.fixture(scope="session")
def relief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_relief(tmp_path_factory.mktemp("relief") / "hamlet")


@pytest.fixture(scope="session", autouse=True)
def reference(relief: Path) -> Renderer:
    """What the node should show; rendered once, so that no test waits for the compiler."""
    renderer = Renderer(relief)
    renderer.render(ABOVE_HOUSE)
    return renderer


def set_camera(bench, *names_and_values):
    """The answer about the last of several parameters, set one after the other."""
    kinds = {
        int: ("integer_value", ParameterType.PARAMETER_INTEGER),
        float: ("double_value", ParameterType.PARAMETER_DOUBLE),
    }
    request = SetParameters.Request()
    for name, value in zip(names_and_values[::2], names_and_values[1::2], strict=True):
        field, type_id = kinds[type(value)]
        request.parameters.append(ParameterMessage(name=name, value=ParameterValue(type=type_id, **{field: value})))
    return bench.call(SetParameters, "/render/set_parameters", request).results[-1]


def as_array(message):
    return np.frombuffer(message.data, np.float32).reshape(message.height, message.width)


def test_what_was_not_seen_is_unknown_inside_the_picture(bench, relief, reference):
    images = {kind: bench.collect(Image, f"/render/{kind}/image") for kind in ("rgb", "depth", "confidence")}
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    bench.render(relief)
    bench.stream(at(8.0, 0.0, 10.0))  # far from the training poses, and half of the view was never seen
    status = bench.wait_state(RenderStatus.OK)
    bench.wait(lambda: all(images.values()))
    depth, confidence = as_array(images["depth"][-1]), as_array(images["confidence"][-1])
    expected = reference.render(at(8.0, 0.0, 10.0))
    np.testing.assert_allclose(depth, expected.depth[0], atol=1e-3)
    known = np.isfinite(depth)
    assert 0.2 < known.mean() < 0.9
    assert (confidence[known] > 0.4).all()
    assert (confidence[~known] == 0).all()
    assert (images["rgb"][-1].height, images["rgb"][-1].width) == (SIDE, SIDE)
    assert not status.inside_volume, "this pose is no training pose"
    assert status.model == "hamlet"

    def told():
        values = [{pair.key: pair.value for pair in array.status[0].values} for array in diagnostics]
        return next((float(each["known_percent"]) for each in values if each.get("known_percent", "nan") != "nan"), 0)

    assert bench.wait(told) == pytest.approx(100 * known.mean(), abs=0.1)


@pytest.mark.parametrize("place", ["inside the house", "below the ground"])
def test_nothing_is_known_from_where_no_camera_can_be(bench, relief, place):
    depth = bench.collect(Image, "/render/depth/image")
    bench.render(relief)
    bench.stream(at(0.0, 0.0, 1.0 if place == "inside the house" else -5.0))
    status = bench.wait_state(RenderStatus.OUTSIDE_VOLUME)
    assert "depth is known in 0% of the view" in status.message
    bench.wait(lambda: depth)
    assert np.isnan(as_array(depth[-1])).all()


def test_the_service_renders_the_camera_itself(bench, relief, reference):
    bench.render(relief)
    bench.wait(lambda: bench.state_of() == "active")
    wide = Camera(60, 40, 20.0, 20.0, 29.5, 19.5, "plumb_bob", (-0.05, 0.0, 0.0, 0.0, 0.0))
    request = RenderPose.Request(pose=PoseStamped(pose=conversions.to_pose(ABOVE_HOUSE)))
    request.camera_info = conversions.camera_to_info(wide)
    answer = bench.call(RenderPose, "/render/render_pose", request)
    assert answer.success, answer.message
    expected = reference.render_for_camera(ABOVE_HOUSE, wide)
    np.testing.assert_allclose(as_array(answer.depth), expected.depth[0], atol=1e-3)
    assert np.isfinite(as_array(answer.depth)[:, 8]).all(), "beyond the trained field of view"
    assert conversions.camera_from_info(answer.camera_info) == wide


def test_the_real_camera_is_taken_from_its_topic(bench, relief, reference):
    images = bench.collect(Image, "/render/depth/image")
    infos = bench.collect(CameraInfo, "/render/depth/camera_info")
    bench.render(relief, camera_info_topic="/camera/camera_info")
    bench.stream(ABOVE_HOUSE)
    status = bench.wait_state(RenderStatus.WAITING_FOR_CAMERA)
    assert "no calibration on camera_info_topic /camera/camera_info: nobody publishes it" in status.message
    assert not images

    publisher = bench.node.create_publisher(CameraInfo, "/camera/camera_info", 1)
    message = CameraInfo(width=48, height=36)
    bench.node.create_timer(0.05, lambda: publisher.publish(message))
    assert "the camera is not calibrated" in bench.wait_state(RenderStatus.ERROR).message
    assert not images

    real = Camera(48, 36, 40.0, 41.0, 23.0, 18.0, "plumb_bob", (-0.1, 0.01, 0.0, 0.0, 0.0))
    message = conversions.camera_to_info(real)
    bench.wait(lambda: images and infos)
    assert conversions.camera_from_info(infos[-1]) == real
    expected = reference.render_for_camera(ABOVE_HOUSE, real).depth[0]
    np.testing.assert_allclose(as_array(images[-1]), expected, atol=1e-3)

    zoomed = replace(real, fx=80.0, fy=82.0)
    message = conversions.camera_to_info(zoomed)
    bench.wait(lambda: conversions.camera_from_info(infos[-1]) == zoomed)


def test_the_size_of_the_images_is_chosen_while_running(bench, relief):
    images = bench.collect(Image, "/render/rgb/image")
    bench.render(relief)
    bench.stream(ABOVE_HOUSE)
    bench.wait(lambda: images)
    refused = set_camera(bench, "camera.fx", 50.0)
    assert not refused.successful
    assert refused.reason.startswith("camera.fx is no ROS parameter any more; set camera.fx in the YAML file")
    assert not set_camera(bench, "camera.width", 20000).successful
    assert set_camera(bench, "camera.width", 80).successful
    bench.wait(lambda: (images[-1].width, images[-1].height) == (80, 80))
    assert set_camera(bench, "camera.height", 40).successful
    bench.wait(lambda: (images[-1].width, images[-1].height) == (80, 40))
    assert "pixels are more than" in set_camera(bench, "camera.height", 8000, "camera.width", 8000).reason


def test_a_base_model_is_resampled_for_another_camera(bench, make_checkpoint, poses):
    images = bench.collect(Image, "/render/depth/image")
    model = make_checkpoint()
    bench.render(model, camera__width=48, camera__height=24, camera__fx=12.0)
    bench.stream(poses[:1])
    bench.wait(lambda: images)
    expected = Renderer(model).render_for_camera(poses[0], Camera(48, 24, 12.0, 12.0, 23.5, 11.5)).depth[0]
    shown = as_array(images[-1])
    np.testing.assert_array_equal(np.isnan(shown), np.isnan(expected))
    assert np.isnan(shown[:, 0]).all()
    assert np.isfinite(shown[12, 24])


def test_a_camera_that_cannot_be_rendered_for_fails_the_start(bench, make_checkpoint):
    bench.render(make_checkpoint("uncalibrated", camera=Camera(32, 32, 0, 0, 0, 0)), camera__width=64)
    assert "the camera asked for is not calibrated" in bench.wait_state(RenderStatus.ERROR).message
    assert bench.state_of() == "unconfigured"


def test_a_calibrated_model_publishes_bounds_and_withholds_outside(bench, tmp_path):
    model = write_small_relief(tmp_path / "calibrated")
    edges = tuple(np.array([edge], np.float32) for edge in (0.5, 0.1, 9.0, 1.0))
    lower = np.full((2, 2, 2, 2), 0.1, np.float32)
    table = IntervalTable(edges, lower, lower / 2, 50.0, 0.0)
    weights = load_checkpoint(model).weights_sha256
    save_calibration(model, Calibration(weights, 0.9, 0.005, 2.0, 3.0, 12.0, table, {"unit": "lines"}))
    topics = ("depth", "depth_lower", "depth_upper")
    images = {kind: bench.collect(Image, f"/render/{kind}/image") for kind in topics}
    infos = {kind: bench.collect(CameraInfo, f"/render/{kind}/camera_info") for kind in topics}
    bench.render(model)
    inside = bench.stream(ABOVE_HOUSE)
    status = bench.wait_state(RenderStatus.OK)
    assert (status.calibrated, status.inside_volume, status.guard_limit) == (True, True, 3.0)
    assert status.guard_score < 3.0

    def together():
        of_kind = [{conversions.stamp_ns(message.header.stamp): message for message in images[kind]} for kind in topics]
        shared = set.intersection(*(set(each) for each in of_kind))
        return [each[max(shared)] for each in of_kind] if shared else None

    shown = bench.wait(together)
    assert {message.encoding for message in shown} == {"32FC1"}
    depth, nearest, farthest = (as_array(message) for message in shown)
    np.testing.assert_allclose(nearest, depth * 0.9, rtol=1e-5)
    np.testing.assert_allclose(farthest, depth * 1.05, rtol=1e-5)
    bench.wait(lambda: all(infos.values()))
    assert len({tuple(found[-1].k) for found in infos.values()}) == 1

    bench.node.destroy_timer(inside)
    bench.stream(at(9.0, 0.0, 10.0))
    status = bench.wait_state(RenderStatus.OUTSIDE_VOLUME)
    assert "held-out frames vouch up to 3.0" in status.message
    assert (status.inside_volume, status.guard_score > 3.0, status.known) == (False, True, 0.0)
    bench.wait(lambda: all(np.isnan(as_array(message)).all() for message in together()))
