"""The service render_pose over DDS."""

from __future__ import annotations

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from pose2rgbd.msg import RenderStatus
from pose2rgbd.srv import RenderPose
from sensor_msgs.msg import CameraInfo, Image

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.rendering.renderer import Renderer

pytestmark = pytest.mark.ros


def ask(bench, T, frame="", camera=None, stamp_ns=5 * 10**9):
    request = RenderPose.Request(pose=PoseStamped(pose=conversions.to_pose(T)))
    request.pose.header.frame_id, request.pose.header.stamp = frame, conversions.to_stamp(stamp_ns)
    if camera is not None:
        request.camera_info = conversions.camera_to_info(camera)
    return bench.call(RenderPose, "/render/render_pose", request)


@pytest.fixture
def active(bench, make_checkpoint):
    bench.render(make_checkpoint())
    bench.wait(lambda: bench.state_of() == "active")
    return Renderer(make_checkpoint())


def test_trained_camera(bench, active, poses):
    answer = ask(bench, poses[3])
    assert answer.success, answer.message
    expected = active.render(conversions.matrix_of(conversions.to_pose(poses[3])))
    np.testing.assert_array_equal(conversions.rgb_of(answer.rgb), expected.rgb[0])
    np.testing.assert_array_equal(conversions.depth_of(answer.depth), expected.depth[0])
    assert conversions.camera_from_info(answer.camera_info) == active.camera
    for part in (answer.rgb, answer.depth, answer.confidence, answer.camera_info, answer.status):
        assert (part.header.stamp.sec, part.header.frame_id) == (5, "camera_optical")
    assert (answer.status.state, answer.status.inside_volume) == (RenderStatus.OK, True)


def test_another_camera_sees_nothing_beyond_the_trained_view(bench, active, poses):
    wide = Camera(48, 24, 12.0, 12.0, 23.5, 11.5)
    answer = ask(bench, poses[3], "map", wide)
    assert answer.success, answer.message
    expected = active.render_for_camera(conversions.matrix_of(conversions.to_pose(poses[3])), wide)
    depth = np.frombuffer(answer.depth.data, np.float32).reshape(24, 48)
    np.testing.assert_array_equal(depth, expected.depth[0])
    np.testing.assert_array_equal(conversions.rgb_of(answer.rgb), expected.rgb[0])
    assert np.isnan(depth[:, 0]).all()
    assert np.isfinite(depth[12, 24])
    assert conversions.camera_from_info(answer.camera_info) == wide


def test_pose_in_another_frame_goes_through_tf(bench, active, poses):
    T_map_base = se3.make([1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0])
    timer = bench.node.create_timer(0.02, lambda: bench.send(T_map_base, parent="map", child="base_link"))
    T_base_cam = se3.inverse(T_map_base) @ poses[3]
    answer = bench.wait(lambda: (a := ask(bench, T_base_cam, "base_link", stamp_ns=0)).success and a)
    expected = active.render(conversions.matrix_of(conversions.to_pose(poses[3])))
    np.testing.assert_allclose(conversions.depth_of(answer.depth), expected.depth[0], atol=1e-4)
    bench.node.destroy_timer(timer)


def test_outside_the_volume(bench, active, poses):
    far = poses[0].copy()
    far[2, 3] += 100
    answer = ask(bench, far)
    assert answer.success
    assert "100.0 m from the nearest training pose" in answer.message
    assert answer.status.state == RenderStatus.OUTSIDE_VOLUME
    assert np.isnan(np.frombuffer(answer.depth.data, np.float32)).all()
    assert conversions.rgb_of(answer.rgb).any()


def test_bad_requests_are_answered_with_the_reason(bench, active, poses):
    request = RenderPose.Request()
    request.pose.pose.orientation.w = 0.0
    answers = [(bench.call(RenderPose, "/render/render_pose", request), "orientation is all zero")]
    request.pose.pose.orientation.w = float("nan")
    answers.append((bench.call(RenderPose, "/render/render_pose", request), "NaN"))
    answers.append((ask(bench, poses[0], "moon"), "no transform map -> moon"))
    answers.append((ask(bench, poses[0], camera=Camera(20000, 20000, 1e4, 1e4, 1e4, 1e4)), "pixels are more than"))
    odd = RenderPose.Request(
        pose=PoseStamped(pose=conversions.to_pose(poses[0])), camera_info=CameraInfo(width=9, height=9)
    )
    odd.camera_info.k[0] = odd.camera_info.k[4] = 9.0
    odd.camera_info.distortion_model, odd.camera_info.d = "thin_prism", [0.1]
    answers.append((bench.call(RenderPose, "/render/render_pose", odd), "unknown distortion model 'thin_prism'"))
    for answer, said in answers:
        assert not answer.success
        assert said in answer.message


def test_inactive_node_answers_too(bench, make_checkpoint, poses):
    bench.render(make_checkpoint(), autostart=False)
    answer = ask(bench, poses[0])
    assert not answer.success
    assert "not active" in answer.message


def test_uncalibrated_model_serves_only_its_own_camera(bench, make_checkpoint, poses):
    bench.render(make_checkpoint("uncalibrated", camera=Camera(32, 32, 0, 0, 0, 0)))
    bench.wait(lambda: bench.state_of() == "active")
    answer = ask(bench, poses[0])
    assert answer.success
    assert not answer.camera_info.k.any()
    answer = ask(bench, poses[0], camera=Camera(32, 32, 30, 30, 16, 16))
    assert not answer.success
    assert "not calibrated" in answer.message


def test_answers_while_images_stream(bench, active, poses):
    images = bench.collect(Image, "/render/rgb/image")
    bench.stream(poses)
    bench.wait(lambda: images)
    assert all(ask(bench, T).success for T in poses[:5])
    count = len(images)
    bench.wait(lambda: len(images) > count + 10)


def test_relative_depth_is_no_image_in_metres(bench, make_checkpoint, poses):
    bench.render(make_checkpoint("relative", depth_kind="relative"))
    bench.wait(lambda: bench.state_of() == "active")
    answer = ask(bench, poses[0])
    assert answer.success, answer.message
    assert len(answer.depth.data) == 0
    assert not answer.status.metric_depth
    assert np.isfinite(conversions.depth_of(answer.relative_depth.image)).any()
