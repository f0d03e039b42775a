"""What a render node says about everything that can be wrong; and that it lives on."""

from __future__ import annotations

import re
import time

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from nodes.conftest import Reports
from pose2rgbd.msg import RenderStatus
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.nodes.common import conversions

pytestmark = pytest.mark.ros
SECOND = 10**9


def set_parameter(bench, name, value):
    kind = {
        str: ("string_value", ParameterType.PARAMETER_STRING),
        float: ("double_value", ParameterType.PARAMETER_DOUBLE),
    }
    field, type_id = kind[type(value)]
    request = SetParameters.Request(
        parameters=[ParameterMessage(name=name, value=ParameterValue(type=type_id, **{field: value}))]
    )
    return bench.call(SetParameters, "/render/set_parameters", request).results[0]


def pickled(path):
    path.mkdir()
    (path / "weights.safetensors").write_bytes(b"\x80\x04cos\nsystem\n")
    (path / "model.yaml").write_text("format_version: 1\n")
    return path


def foreign(path):
    path.mkdir()
    (path / "model.pth").write_bytes(b"PK\x03\x04")
    return path


def corrupt(path, good):
    path.mkdir()
    for file in good.iterdir():
        (path / file.name).write_bytes(file.read_bytes()[: 100 if file.suffix == ".safetensors" else None])
    return path


BAD_MODELS = {
    "none": (lambda tmp, good: "", "no model given"),
    "missing": (lambda tmp, good: tmp / "nowhere", "there is no checkpoint"),
    "pickle": (lambda tmp, good: pickled(tmp / "bad"), "pickle"),
    "foreign": (lambda tmp, good: foreign(tmp / "bad"), "no model.yaml"),
    "corrupt": (lambda tmp, good: corrupt(tmp / "bad", good), "damaged"),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_bad_model_fails_the_transition_and_is_told(bench, make_checkpoint, tmp_path, capfd, case):
    make, said = BAD_MODELS[case]
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    bench.render(make(tmp_path, make_checkpoint()))
    assert said in bench.wait_state(RenderStatus.ERROR).message
    assert bench.status[0].state == RenderStatus.ERROR, "at once"
    assert bench.state_of() == "unconfigured"
    level = bench.wait(lambda: [array.status[0] for array in diagnostics if array.status[0].level != b"\x00"])[-1]
    assert level.level == DiagnosticStatus.ERROR
    assert said in level.message
    errors = [line for line in capfd.readouterr().err.splitlines() if "[ERROR]" in line]
    assert len(errors) == 1
    assert said in errors[0]


def test_after_a_bad_model_a_good_one(bench, make_checkpoint, tmp_path, poses):
    images = bench.collect(Image, "/render/rgb/image")
    bench.render(tmp_path / "nowhere", autostart=False)
    assert not bench.change(Transition.TRANSITION_CONFIGURE)
    assert set_parameter(bench, "model", str(make_checkpoint())).successful
    assert bench.change(Transition.TRANSITION_CONFIGURE)
    assert bench.change(Transition.TRANSITION_ACTIVATE)
    bench.stream(poses)
    bench.wait(lambda: images)


def test_cuda_asked_for_and_absent(bench, make_checkpoint):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    bench.render(make_checkpoint(), device="cuda")
    assert "sees 0 CUDA devices" in bench.wait_state(RenderStatus.ERROR).message


def test_silent_tf(bench, make_checkpoint):
    bench.render(make_checkpoint())
    # The tester's broadcaster is there, but sends nothing.
    assert "/tf is silent" in bench.wait_state(RenderStatus.WAITING_FOR_TF).message
    assert bench.status[0].state == RenderStatus.WAITING_FOR_TF, "at once"


def test_unknown_frames_are_named_with_the_known_ones(bench, make_checkpoint, poses):
    bench.render(make_checkpoint(), camera_frame="gimbal")
    bench.stream(poses)
    found = lambda: next((m.message for m in bench.status if "frames there" in m.message), None)  # noqa: E731
    message = bench.wait(found)
    assert "no frame 'gimbal' in TF; frames there: camera_optical, map" in message
    assert set_parameter(bench, "camera_frame", "camera_optical").successful
    assert bench.wait_state(RenderStatus.NO_SUBSCRIBERS)


def test_frames_in_two_trees(bench, make_checkpoint, poses):
    bench.render(make_checkpoint(), map_frame="odom")
    bench.node.create_timer(0.02, lambda: bench.send(poses[0]))
    bench.node.create_timer(0.02, lambda: bench.send(poses[0], parent="odom", child="base_link"))
    told = "no transform odom -> camera_optical"
    message = bench.wait(
        lambda: next((m.message for m in bench.status if "not part of the same tree" in m.message), "")
    )
    assert told in message


def test_tf_that_stops_is_stale(bench, make_checkpoint, poses):
    bench.collect(Image, "/render/rgb/image")
    bench.render(make_checkpoint())
    timer = bench.stream(poses)
    bench.wait_state(RenderStatus.OK)
    bench.node.destroy_timer(timer)
    status = bench.wait_state(RenderStatus.STALE_TF)
    assert "s old; is it still published" in status.message
    bench.stream(poses)
    bench.wait_state(RenderStatus.OK)


def test_a_pose_is_stale_by_its_age_in_simulated_time(bench, make_checkpoint, poses):
    """Of 0.9 s it is not; of 1.1 s it is, in the first report of a time: long before the five seconds promised."""
    bench.collect(Image, "/render/rgb/image")
    now_ns, clock = [1000 * SECOND], bench.node.create_publisher(Clock, "/clock", 10)
    bench.node.create_timer(0.02, lambda: clock.publish(Clock(clock=conversions.to_stamp(now_ns[0]))))
    reports = Reports(bench, bench.render(make_checkpoint(), use_sim_time=True))
    timer = bench.node.create_timer(0.02, lambda: bench.send(poses[0], 1000 * SECOND))
    bench.wait_state(RenderStatus.OK)
    bench.node.destroy_timer(timer)
    now_ns[0] = 1000 * SECOND + 9 * SECOND // 10
    assert reports.next(now_ns[0]).level == DiagnosticStatus.OK
    now_ns[0] = 1000 * SECOND + 11 * SECOND // 10
    told = reports.next(now_ns[0])
    assert (told.level, "the newest transform is 1.1 s old" in told.message) == (DiagnosticStatus.WARN, True)
    assert bench.wait_state(RenderStatus.STALE_TF).tf_age_s == pytest.approx(1.1)


def test_tf_of_another_clock_is_rendered_but_told(bench, make_checkpoint, poses):
    images = bench.collect(Image, "/render/rgb/image")
    bench.render(make_checkpoint())
    bench.stream(poses, offset_ns=lambda: -100 * SECOND)
    assert bench.wait_state(RenderStatus.STALE_TF).tf_age_s == pytest.approx(100, abs=40)
    bench.wait(lambda: len(images) > 10)


def test_tf_jumping_back_clears_the_buffer(bench, make_checkpoint, poses):
    images = bench.collect(Image, "/render/rgb/image")
    bench.render(make_checkpoint(), max_tf_age_s=60.0)
    back_ns = [0]
    bench.stream(poses, offset_ns=lambda: -back_ns[0])
    bench.wait_state(RenderStatus.OK)
    jumped = time.time_ns()
    back_ns[0] = 20 * SECOND
    status = bench.wait_state(RenderStatus.TIME_JUMP)
    assert re.search(r"the transforms of camera_optical jumped back by (1[5-9]|20)\.\d s", status.message)
    stamps = lambda: [conversions.stamp_ns(image.header.stamp) for image in images[-5:]]  # noqa: E731
    bench.wait(lambda: all(stamp < jumped - 15 * SECOND for stamp in stamps()), what="images after the jump")
    bench.wait_state(RenderStatus.OK)


def run_clock(bench, start_s):
    """A simulated clock from `start_s` on at real speed; returns a function that gives and sets it."""
    publisher = bench.node.create_publisher(Clock, "/clock", 10)
    origin = [start_s * SECOND - time.monotonic_ns()]
    now = lambda: origin[0] + time.monotonic_ns()  # noqa: E731
    bench.node.create_timer(0.01, lambda: publisher.publish(Clock(clock=conversions.to_stamp(now()))))
    return now, lambda seconds: origin.__setitem__(0, seconds * SECOND - time.monotonic_ns())


def test_simulated_time_and_its_jump_back(bench, make_checkpoint, poses):
    images = bench.collect(Image, "/render/rgb/image")
    bench.render(make_checkpoint(), use_sim_time=True)
    now, jump = run_clock(bench, 1000)
    bench.node.create_timer(0.02, lambda: bench.send(poses[0], now()))
    status = bench.wait_state(RenderStatus.OK)
    assert abs(status.tf_age_s) < 60, "and not since 1970"
    assert 1000 <= images[-1].header.stamp.sec < 2000
    jump(500)
    assert "jumped back by" in bench.wait_state(RenderStatus.TIME_JUMP).message
    bench.wait(lambda: images[-1].header.stamp.sec < 1000)
    bench.wait_state(RenderStatus.OK)


def test_simulated_time_without_a_clock(bench, make_checkpoint):
    bench.render(make_checkpoint(), use_sim_time=True)
    assert "nothing arrives on /clock" in bench.wait_state(RenderStatus.WAITING_FOR_TF).message


def test_lifecycle(bench, make_checkpoint, poses):
    images = bench.collect(Image, "/render/rgb/image")
    bench.render(make_checkpoint(), autostart=False)
    bench.stream(poses)
    assert bench.state_of() == "unconfigured"
    for transition, state, publishes in (
        (Transition.TRANSITION_CONFIGURE, "inactive", False),
        (Transition.TRANSITION_ACTIVATE, "active", True),
        (Transition.TRANSITION_DEACTIVATE, "inactive", False),
        (Transition.TRANSITION_ACTIVATE, "active", True),
        (Transition.TRANSITION_DEACTIVATE, "inactive", False),
        (Transition.TRANSITION_CLEANUP, "unconfigured", False),
        (Transition.TRANSITION_CONFIGURE, "inactive", False),
        (Transition.TRANSITION_ACTIVATE, "active", True),
        (Transition.TRANSITION_ACTIVE_SHUTDOWN, "finalized", False),
    ):
        assert bench.change(transition)
        assert bench.state_of() == state
        del images[:]
        if publishes:
            bench.wait(lambda: images)
        else:
            bench.wait(lambda: bench.node.count_publishers("/render/rgb/image") == 0)


def test_parameters_are_described_and_checked(bench, make_checkpoint, poses):
    images = bench.collect(Image, "/render/rgb/image")
    bench.render(make_checkpoint())
    request = DescribeParameters.Request(names=["rate_hz", "trigger", "autostart"])
    rate, trigger, autostart = bench.call(DescribeParameters, "/render/describe_parameters", request).descriptors
    assert (rate.floating_point_range[0].from_value, rate.floating_point_range[0].to_value) == (0.1, 1000.0)
    assert "how often" in rate.description
    assert trigger.additional_constraints == "one of: rate, tf"
    assert autostart.read_only

    bench.stream(poses)
    bench.wait(lambda: images)
    for name, value, said in (
        ("rate_hz", -1.0, "out of range"),
        ("trigger", "whim", "choose one of: rate, tf"),
        ("model", "/elsewhere", "while the node is unconfigured"),
    ):
        result = set_parameter(bench, name, value)
        assert not result.successful
        assert said in result.reason
    assert set_parameter(bench, "rate_hz", 5.0).successful
    bench.wait(lambda: 0 < bench.status[-1].rate_hz < 8, what="5 Hz")


def test_pose_that_is_no_rotation_does_no_harm(bench, make_checkpoint, poses):
    """tf2 refuses NaN and quaternions that are not of unit length; the node goes on with the good ones."""
    bench.collect(Image, "/render/rgb/image")
    bench.render(make_checkpoint())
    bad = conversions.to_transform_stamped(poses[0], time.time_ns(), "map", "camera_optical")
    bad.transform.rotation.w = float("nan")
    bench.node.create_timer(0.05, lambda: bench.broadcaster.sendTransform(bad))
    bench.stream(se3.compose(poses, se3.make([0, 0, 0.01], [0, 0, 0, 1.0])))
    bench.wait_state(RenderStatus.OK)
