"""The action render_path over DDS: a real server, client and model."""

from __future__ import annotations

import math
from pathlib import Path as FilePath

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from lifecycle_msgs.msg import Transition
from nav_msgs.msg import Path
from pose2rgbd.action import RenderPath
from rclpy.action import ActionClient
from sensor_msgs.msg import Image
from support.body_paths import LOOKS_DOWN, straight
from support.small_relief import write_small_relief

from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.render import path as path_rendering
from pose2rgbd_ros.rendering.renderer import Renderer

pytestmark = pytest.mark.ros
MARGIN = 0.1
LONG = 3000


@pytest.fixture(scope="module")
def hamlet(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    path = write_small_relief(tmp_path_factory.mktemp("look_ahead") / "hamlet")
    Renderer(path).render(np.eye(4))  # compiled once
    return path


@pytest.fixture(scope="module")
def client(shared_bench, hamlet):
    """An action client of an active node whose camera sits on base_link; no transform of the map is needed."""
    shared_bench.render(hamlet, look_ahead__uncalibrated_margin=MARGIN)
    timer = shared_bench.node.create_timer(
        0.05, lambda: shared_bench.send(LOOKS_DOWN, parent="base_link", child="camera_optical")
    )
    shared_bench.wait(lambda: shared_bench.state_of() == "active")
    made = ActionClient(shared_bench.node, RenderPath, "/render/render_path")
    assert made.wait_for_server(60.0)
    shared_bench.wait(lambda: ask(shared_bench, made, straight()).result.success)
    yield made
    shared_bench.node.destroy_timer(timer)
    made.destroy()


def send(bench, client, path, feedback=None, **goal):
    request = RenderPath.Goal(path=path, **goal)
    future = client.send_goal_async(request, feedback_callback=feedback)
    bench.wait(future.done)
    assert future.result().accepted
    return future.result()


def ask(bench, client, path, **goal):
    """The result with its status."""
    future = send(bench, client, path, **goal).get_result_async()
    bench.wait(future.done)
    return future.result()


def test_a_path_gives_images_and_a_profile(shared_bench, client, hamlet):
    answer = ask(shared_bench, client, straight(5), with_rgb=True)
    assert answer.status == GoalStatus.STATUS_SUCCEEDED, answer.result.message
    images, profile = answer.result.images, answer.result.profile
    assert len(images.depth) == len(images.depth_lower) == len(images.rgb) == len(images.poses) == 5
    reference = Renderer(hamlet)
    for index, x in enumerate(np.linspace(-2.0, 2.0, 5)):
        T_map_cam = LOOKS_DOWN.copy()
        T_map_cam[:3, 3] = x, 0.0, 10.0
        np.testing.assert_allclose(conversions.matrix_of(images.poses[index].pose), T_map_cam, atol=1e-9)
        expected = reference.render(T_map_cam).depth[0]
        depth, lower = (conversions.depth_of(kind[index]) for kind in (images.depth, images.depth_lower))
        np.testing.assert_allclose(depth, expected, atol=1e-3)
        np.testing.assert_allclose(lower, expected * (1 - MARGIN), atol=1e-3)
        assert conversions.rgb_of(images.rgb[index]).any()
    assert images.header.frame_id == profile.header.frame_id == "map"
    assert images.depth[0].header.frame_id == images.camera_info.header.frame_id == "camera_optical"
    assert images.depth[0].header.stamp.sec == profile.header.stamp.sec == 5
    assert list(profile.distance_m) == pytest.approx([0, 1, 2, 3, 4])
    assert all(profile.in_distribution)
    clearance, below = np.array(profile.clearance_m), np.array(profile.below_m)
    assert ((clearance > 5.0) & (clearance < 8.5)).all()  # the roof is 8 m below, minus the margin
    assert ((below > 5.0) & (below < 8.5)).all()
    assert np.isnan(profile.ahead_m).all()
    assert np.isnan(profile.time_s).all()
    assert "the camera does not see the way" in profile.message
    assert math.isnan(profile.first_conflict_m)
    assert math.isnan(profile.first_unknown_m)


def test_resampled_with_stamps_for_another_camera(shared_bench, client):
    camera = Camera.from_fov(40, 24, 80.0)
    path = straight(2, stamps_ns=[5 * 10**9, 7 * 10**9])
    result = ask(
        shared_bench, client, path, spacing_m=0.5, radius_m=9.0, camera_info=conversions.camera_to_info(camera)
    ).result
    assert result.success, result.message
    assert conversions.camera_from_info(result.images.camera_info) == camera
    assert len(result.profile.poses) == 9
    assert list(result.profile.time_s) == pytest.approx(np.linspace(0, 2, 9))
    stamps = [conversions.stamp_ns(image.header.stamp) for image in result.images.depth]
    assert stamps == [conversions.stamp_ns(pose.header.stamp) for pose in result.images.poses]
    assert stamps[4] == 6 * 10**9
    assert result.profile.first_conflict_m == 0.0  # a body of 9 m radius
    assert not result.images.rgb


def test_a_long_path_comes_without_images_and_with_feedback(shared_bench, client):
    heard = []
    handle = send(shared_bench, client, straight(LONG), lambda message: heard.append(message.feedback))
    shared_bench.wait(lambda: len(heard) > 2)
    assert heard[1].total == LONG
    assert heard[1].rendered == len(heard[1].profile.poses) > heard[0].rendered
    future = handle.cancel_goal_async()
    shared_bench.wait(future.done)
    assert len(future.result().goals_canceling) == 1
    future = handle.get_result_async()
    shared_bench.wait(future.done)
    answer = future.result()
    assert answer.status == GoalStatus.STATUS_CANCELED
    assert not answer.result.success
    done = len(answer.result.profile.poses)
    assert heard[-1].rendered <= done < LONG
    assert answer.result.message == f"cancelled after {done} of {LONG} poses"
    assert not answer.result.images.depth


def pictures(heard):
    """What was told with images, in order; what was told without has none of them."""
    assert not any(feedback.preview for feedback in heard if not feedback.images.depth)
    return [feedback for feedback in heard if feedback.images.depth]


def listen(bench, client, path, expected, **goal):
    """The result, and feedback with so many pictures: it comes on a topic of its own, and may come later."""
    heard = []
    future = send(bench, client, path, lambda message: heard.append(message.feedback), **goal).get_result_async()
    bench.wait(future.done)
    bench.wait(lambda: len(pictures(heard)) == expected)
    return future.result().result, heard


def test_a_progressive_goal_shows_a_small_picture_of_each_pose_and_then_the_whole(shared_bench, client, hamlet):
    stamps_ns = [(5 + second) * 10**9 for second in range(3)]
    path = straight(3, stamps_ns=stamps_ns)
    result, heard = listen(shared_bench, client, path, 6, progressive=True, with_rgb=True)
    assert result.success, result.message
    reference, shown = Renderer(hamlet), pictures(heard)
    assert [feedback.preview for feedback in shown] == [True, False] * 3
    assert [feedback.rendered for feedback in shown] == [0, 1, 1, 2, 2, 3]
    for number, feedback in enumerate(shown):
        index, images = number // 2, feedback.images
        camera = reference.camera.resized(8, 8) if feedback.preview else reference.camera
        assert conversions.camera_from_info(images.camera_info) == camera
        assert (images.header, images.poses) == (result.images.header, [result.images.poses[index]])
        assert conversions.stamp_ns(images.depth[0].header.stamp) == stamps_ns[index]
        expected = reference.render_for_camera(conversions.matrix_of(images.poses[0].pose), camera)
        np.testing.assert_array_equal(conversions.depth_of(images.depth[0]), expected.depth[0])
        np.testing.assert_array_equal(conversions.rgb_of(images.rgb[0]), expected.rgb[0])
        np.testing.assert_allclose(conversions.depth_of(images.depth_lower[0]), expected.depth[0] * (1 - MARGIN))
        if not feedback.preview:
            assert images.depth[0].data == result.images.depth[index].data
        assert not feedback.profile.poses, "it grows with the path, and is told less often"
    profiles = [feedback.profile for feedback in heard if feedback.profile.poses]
    assert profiles, "and that is told too"
    assert profiles[0].poses == result.profile.poses[: len(profiles[0].poses)]
    plain = ask(shared_bench, client, path, with_rgb=True).result
    assert repr(plain) == repr(result), "which is the same as without; NaN counts as itself, padding of bytes not"


def test_nothing_is_shown_unless_asked_for(shared_bench, client):
    heard = []
    handle = send(shared_bench, client, straight(LONG), lambda message: heard.append(message.feedback))
    shared_bench.wait(lambda: len(heard) > 1)
    shared_bench.wait(handle.cancel_goal_async().done)
    assert not pictures(heard)


def test_a_progressive_goal_ends_between_a_small_picture_and_the_whole(shared_bench, client):
    """Cancelled, with images beyond what a result holds: they are shown all the same."""
    heard = []
    handle = send(shared_bench, client, straight(10_000), lambda m: heard.append(m.feedback), progressive=True)
    shared_bench.wait(lambda: len(pictures(heard)) > 4)
    shared_bench.wait(handle.cancel_goal_async().done)
    future = handle.get_result_async()
    shared_bench.wait(future.done)
    result = future.result().result
    assert future.result().status == GoalStatus.STATUS_CANCELED
    assert len(result.profile.poses) < 10_000
    assert not result.images.depth
    assert max(feedback.rendered for feedback in heard) <= len(result.profile.poses)


def test_a_model_of_one_size_shows_no_small_picture(bench, make_checkpoint):
    bench.render(make_checkpoint(), look_ahead__uncalibrated_margin=MARGIN)
    bench.wait(lambda: bench.state_of() == "active")
    client = ActionClient(bench.node, RenderPath, "/render/render_path")
    assert client.wait_for_server(60.0)
    bench.node.create_timer(0.05, lambda: bench.send(LOOKS_DOWN, parent="base_link", child="camera_optical"))
    bench.wait(lambda: ask(bench, client, straight()).result.success)
    _, heard = listen(bench, client, straight(2), 2, progressive=True)
    assert [(feedback.preview, feedback.rendered) for feedback in pictures(heard)] == [(False, 1), (False, 2)]


def test_images_that_fit_no_message_are_left_out(shared_bench, client, monkeypatch):
    monkeypatch.setattr(path_rendering, "MESSAGE_BYTES", 5 * 32 * 32 * 8 - 1)
    result = ask(shared_bench, client, straight(5)).result
    assert result.success
    assert "the images of 5 poses take 0.0391 MiB and a message holds 0.0391: the profile alone" in result.message
    assert not result.images.depth
    assert len(result.profile.clearance_m) == 5


def nan_path():
    path = straight()
    path.poses[3].pose.position.y = math.nan
    return path


def two_frames():
    path = straight()
    path.poses[2].header.frame_id = "odom"
    return path


def half_zero():
    path = straight()
    path.poses[1].pose.orientation.w = 0.0
    path.poses[0].pose.orientation.z = 1.0
    return path


@pytest.mark.parametrize(
    ("path", "goal", "said"),
    [
        (Path(), {}, "the path is empty"),
        (nan_path(), {}, "pose 3 of the path holds NaN or infinity (1 of 5 do)"),
        (two_frames(), {}, "pose 2 of the path is in frame 'odom', the path in 'map'"),
        (half_zero(), {}, "pose 1 of the path has an orientation that is all zero"),
        (straight(3, stamps_ns=[4 * 10**9, 6 * 10**9, 5 * 10**9]), {}, "pose 2 is 1.000 s before the one ahead"),
        (straight(3, stamps_ns=[4 * 10**9, 0, 5 * 10**9]), {}, "pose 1 of the path has no stamp and others have one"),
        (straight(frame="moon"), {}, "no transform map -> moon"),
        (straight(10001), {}, "10001 poses; at most 10000 are rendered for one path"),
        (straight(), {"spacing_m": 1e-6}, "at most 10000 are rendered for one path"),
        (straight(), {"spacing_m": -1.0}, "spacing_m is -1.0"),
        (straight(), {"spacing_m": math.nan}, "spacing_m is nan"),
        (straight(), {"radius_m": math.inf}, "radius_m is inf"),
    ],
)
def test_bad_goals_are_aborted_with_the_reason(shared_bench, client, path, goal, said):
    answer = ask(shared_bench, client, path, **goal)
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert not answer.result.success
    assert said in answer.result.message
    assert "\n" not in answer.result.message


def test_live_images_go_on_beside_a_long_path(shared_bench, client):
    images = shared_bench.collect(Image, "/render/depth/image")
    T_map_base = np.eye(4)
    T_map_base[2, 3] = 10.0
    timer = shared_bench.node.create_timer(0.05, lambda: shared_bench.send(T_map_base, child="base_link"))
    shared_bench.wait(lambda: images)
    heard = []
    handle = send(shared_bench, client, straight(10_000), lambda message: heard.append(message.feedback.rendered))
    shared_bench.wait(lambda: heard)
    count = len(images)
    shared_bench.wait(lambda: len(images) > count + 5)
    shared_bench.node.destroy_timer(timer)
    shared_bench.wait(handle.cancel_goal_async().done)
    future = handle.get_result_async()
    shared_bench.wait(future.done)
    assert future.result().status == GoalStatus.STATUS_CANCELED, "they came while the path was under way"
    assert len(future.result().result.profile.poses) < 10_000


def test_who_is_unbounded_knows_nothing(bench, hamlet):
    """No calibration and no margin: a profile of NaN, with the reason; and where the camera sits must be known."""
    bench.render(hamlet)
    bench.wait(lambda: bench.state_of() == "active")
    client = ActionClient(bench.node, RenderPath, "/render/render_path")
    assert client.wait_for_server(60.0)
    answer = ask(bench, client, straight())
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert "where the camera sits on the body is not known" in answer.result.message
    bench.node.create_timer(0.05, lambda: bench.send(LOOKS_DOWN, parent="base_link", child="camera_optical"))
    answer = bench.wait(lambda: (a := ask(bench, client, straight())).result.success and a)
    profile = answer.result.profile
    for values in (profile.clearance_m, profile.ahead_m, profile.below_m):
        assert np.isnan(values).all()
    assert profile.first_unknown_m == 0.0
    assert list(profile.known) == [0.0] * 5
    assert "the model has no calibration, so nothing bounds its depth" in profile.message
    assert len(answer.result.images.depth) == 5
    assert not answer.result.images.depth_lower

    handle = send(bench, client, straight(LONG))
    assert bench.change(Transition.TRANSITION_DEACTIVATE)
    future = handle.get_result_async()
    bench.wait(future.done)
    assert future.result().status == GoalStatus.STATUS_ABORTED
    assert "deactivated" in future.result().result.message
    assert "not active" in ask(bench, client, straight()).result.message


def test_relative_depth_is_refused(bench, tmp_path):
    bench.render(write_small_relief(tmp_path / "relative", depth_kind="relative"))
    bench.wait(lambda: bench.state_of() == "active")
    client = ActionClient(bench.node, RenderPath, "/render/render_path")
    assert client.wait_for_server(60.0)
    bench.node.create_timer(0.05, lambda: bench.send(LOOKS_DOWN, parent="base_link", child="camera_optical"))
    told = lambda: ask(bench, client, straight()).result.message  # noqa: E731
    bench.wait(lambda: "the model's depth has no unit (relative); a clearance needs depth in metres" in told())
