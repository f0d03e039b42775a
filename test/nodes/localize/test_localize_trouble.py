"""Localize over DDS when things go wrong around it: another sender, time that goes back, parameters at the wrong
moment.
"""

from __future__ import annotations

import gc
import re
import weakref
from typing import Any

import numpy as np
import pytest
import tf2_ros
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from nodes.conftest import Reports
from pose2rgbd.msg import LocalizationStatus
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from support.camera_stream import OPTICAL, CameraStream
from support.localizing import seen, send_until
from support.orbit_place import CAMERA
from tf2_msgs.msg import TFMessage

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.localize.inputs import ImageInputs

pytestmark = pytest.mark.ros
State = LocalizationStatus
SENDING = {"send_tf": True, "tf_rate_hz": 50.0, "correction__agreeing": 2}


def hover(bench: Any, place: Any, camera: CameraStream) -> Any:
    """Sends an image, with the odometry of its time."""
    view, T_odom_cam = place.view(place.T[10]), se3.make([1.0, 2.0, 3.0], [0, 0, 0, 1])
    return lambda: bench.send(T_odom_cam, camera.send(view), "odom", OPTICAL)


def corrections(broadcast: list[TFMessage]) -> list[Any]:
    return [t for m in list(broadcast) for t in m.transforms if t.child_frame_id == "odom"]


def test_somebody_else_sends_map_to_odom_until_they_end(bench, orbit_place, localize_node):
    camera = CameraStream(bench, CAMERA)
    localize_node(**SENDING)
    camera.wait_for_listener(bench)
    fly = hover(bench, orbit_place, camera)
    other = tf2_ros.TransformBroadcaster(bench.beside("amcl"))

    def both() -> None:
        now_ns = bench.node.get_clock().now().nanoseconds
        other.sendTransform(conversions.to_transform_stamped(np.eye(4), now_ns, "map", "odom"))
        fly()

    bench.wait(lambda: other.pub_tf.get_subscription_count())
    both_seen = lambda: len(seen(bench, State.OK, "another node already sends map -> odom")) > 5  # noqa: E731
    send_until(bench, both, both_seen)
    broadcast = bench.collect(TFMessage, "/tf", 200)
    send_until(bench, fly, lambda: corrections(broadcast))  # they have ended


def test_images_that_are_silent_for_five_seconds_are_told_with_the_reason(bench, orbit_place, localize_node, set_ahead):
    node = localize_node()
    reports = Reports(bench, node)
    bench.wait(lambda: bench.state_of("/localize") == "active")
    set_ahead(5.0)
    told = reports.next()
    assert told.level == DiagnosticStatus.WARN
    assert told.message.startswith("/image: nobody publishes it, nor /image/compressed; remap image")
    camera = CameraStream(bench, CAMERA)
    camera.wait_for_listener(bench)
    view = orbit_place.view(orbit_place.T[10])
    send_until(bench, lambda: camera.send(view), lambda: seen(bench, State.OK))
    reports.next()  # what was under way has come
    set_ahead(5.0)
    told = reports.next()
    assert re.match("/image: silent for [0-9]+ s, though /tester publishes it", told.message)
    bench.wait(lambda: seen(bench, State.WAITING_FOR_IMAGE, "silent for"))


def test_images_that_jump_back_do_not_stop_the_correction(bench, orbit_place, localize_node):
    """Stamps of the images and odometry go back, the clock and our own map -> odom on /tf do not."""
    camera = CameraStream(bench, CAMERA)
    broadcast = bench.collect(TFMessage, "/tf", 200)
    localize_node(**SENDING)
    camera.wait_for_listener(bench)
    fly = hover(bench, orbit_place, camera)
    send_until(bench, fly, lambda: len(corrections(broadcast)) > 5)
    camera.offset_ns = -3_000_000_000
    view = orbit_place.view(orbit_place.T[10])
    send_until(bench, lambda: camera.send(view), lambda: seen(bench, State.TIME_JUMP, "stamps of /image jumped back"))
    camera.offset_ns = 0
    before = len(corrections(broadcast))
    send_until(bench, fly, lambda: len(corrections(broadcast)) > before + 5)
    assert not seen(bench, State.OK, "another node")


def test_what_was_looked_at_while_time_jumped_is_dropped(bench, orbit_place, localize_node):
    camera = CameraStream(bench, CAMERA)
    node = localize_node()
    camera.wait_for_listener(bench)
    view = orbit_place.view(orbit_place.T[10])
    send_until(bench, lambda: camera.send(view), lambda: bench.poses)
    find, stamps = node._pipeline.locate, []

    def jump_meanwhile(picture: Any) -> Any:
        found = find(picture)
        if not stamps:
            stamps.append(picture.stamp_ns)
            node.time_jumped("the clock jumped back by 9.0 s")
        return found

    node._pipeline.locate = jump_meanwhile
    bench.poses.clear()
    send_until(bench, lambda: camera.send(view), lambda: len(bench.poses) > 3)
    found = {conversions.stamp_ns(message.header.stamp) for message in bench.poses}
    assert stamps
    assert stamps[0] not in found


def test_an_image_has_the_camera_of_its_stamp(make_node):
    """A zoom: by the CameraInfo of its stamp or the last before it; older than all, by the newest."""
    widths: list[int] = []
    jumps: list[str] = []
    inputs = ImageInputs(make_node(), "raw", True, lambda image, camera: widths.append(camera.width), jumps.append)
    for second, camera in ((10, CAMERA), (12, CAMERA.resized(72, 72))):
        info = conversions.camera_to_info(camera)
        info.header.stamp = conversions.to_stamp(second * 10**9)
        inputs._infos.add(info)
    for second in (10, 11, 12, 13, 9.5):
        message = Image()
        message.header.stamp = conversions.to_stamp(int(second * 1e9))
        inputs._take_image(message)
    assert widths == [CAMERA.width, CAMERA.width, 72, 72, 72]
    assert jumps == ["the stamps of /image jumped back by 3.5 s"]
    inputs.stop()


def test_parameters_that_would_have_no_effect_are_refused(bench, orbit_place, localize_node):
    node = localize_node(send_tf=True)
    bench.wait(lambda: bench.state_of("/localize") == "active")
    refused = node.set_parameters([Parameter("refine", value=False), Parameter("tf_rate_hz", value=5.0)])
    assert ["clean it up" in refused[0].reason, "deactivate" in refused[1].reason] == [True, True]
    assert node.set_parameters([Parameter("correction.gate", value=9.0)])[0].successful
    bench.wait(lambda: node._map_to_odom.settings.correction.gate == 9)


def test_cleanup_lets_go_of_networks_and_pictures(bench, orbit_place, localize_node):
    camera = CameraStream(bench, CAMERA)
    node = localize_node()
    camera.wait_for_listener(bench)
    view = orbit_place.view(orbit_place.T[7])
    send_until(bench, lambda: camera.send(view), lambda: bench.poses)
    finding = weakref.ref(node._pipeline)
    assert bench.change(Transition.TRANSITION_DEACTIVATE, "/localize")
    assert bench.change(Transition.TRANSITION_CLEANUP, "/localize")
    gc.collect()
    assert finding() is None
    assert node._stats.last is None
    assert bench.node.count_publishers("/localize/pose") == 0
    assert bench.change(Transition.TRANSITION_CONFIGURE, "/localize")
    assert bench.change(Transition.TRANSITION_ACTIVATE, "/localize")
    before = len(bench.poses)
    send_until(bench, lambda: camera.send(view), lambda: len(bench.poses) > before)
    assert bench.status[-1].images_located <= len(bench.poses) - before + 2, "counted from activation on"
