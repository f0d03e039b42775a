"""The sim node when things are not as usual: lifecycle, namespaces, nobody listening, a slow machine, no OpenGL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, NavSatFix
from tf2_msgs.msg import TFMessage

from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.sim.node import SimNode
from pose2rgbd_ros.sim.state import START_NS

pytestmark = pytest.mark.ros
SMALL = {
    "width": 64, "height": 48, "city__extent_m": 200.0, "flight__plan": "orbit", "flight__altitude_m": 70.0,
    "flight__radius_m": 40.0, "flight__loops": 1,
}  # fmt: skip


def stamps(messages):
    return [conversions.stamp_ns(message.header.stamp) for message in messages]


def values_of(array):
    return {pair.key: pair.value for pair in array.status[0].values}


def test_a_life_in_a_namespace(bench):
    """Configured by hand, nobody listening, a listener, paused and woken, then begun anew with other settings."""
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    node = bench.spin(SimNode, namespace="drone1", autostart=False, **SMALL)
    assert bench.state_of("/drone1/sim") == "unconfigured"
    small = {name.replace("__", "."): value for name, value in SMALL.items()}
    low, high = (bench.overrides(SimNode, small | {"flight.altitude_m": up_m}) for up_m in (12.0, 70.0))
    (bad,) = node.set_parameters(low)
    assert bad.successful, "whether it is too low shows when the city is there"
    assert not bench.change(Transition.TRANSITION_CONFIGURE, "/drone1/sim")
    told = bench.wait(lambda: [a.status[0] for a in diagnostics if a.status[0].level == b"\x02"])[0]
    assert told.name == "drone1/sim: simulator"
    assert "fly with altitude_m" in told.message
    assert "\n" not in told.message
    node.set_parameters(high)
    clock, infos = bench.collect(Clock, "/clock"), bench.collect(CameraInfo, "/drone1/camera/camera_info")
    assert bench.change(Transition.TRANSITION_CONFIGURE, "/drone1/sim")
    assert bench.change(Transition.TRANSITION_ACTIVATE, "/drone1/sim")
    bench.wait(lambda: len(infos) > 5)
    assert node._loop.images == 0, "nobody listens: nothing is rendered, time and camera_info go on"
    fixes, images = (bench.collect(NavSatFix, "/drone1/gps/fix"), bench.collect(Image, "/drone1/camera/depth/image"))
    bench.wait(lambda: len(images) > 3 and fixes)
    assert node._loop.images >= len(images)

    assert bench.change(Transition.TRANSITION_DEACTIVATE, "/drone1/sim")
    time.sleep(0.1)
    last_ns = conversions.stamp_ns(clock[-1].clock)
    bench.wait(lambda: "/drone1/gps/fix" not in dict(node.get_publisher_names_and_types_by_node("sim", "/drone1")))
    assert bench.change(Transition.TRANSITION_ACTIVATE, "/drone1/sim")
    bench.wait(lambda: conversions.stamp_ns(clock[-1].clock) > last_ns)
    ticks = np.diff([conversions.stamp_ns(message.clock) for message in clock])
    assert (ticks > 0).all(), "time stood still, and goes on from there"

    assert bench.change(Transition.TRANSITION_DEACTIVATE, "/drone1/sim")
    assert bench.change(Transition.TRANSITION_CLEANUP, "/drone1/sim")
    (anew,) = node.set_parameters([Parameter("tf", value="odometry")])
    assert anew.successful
    transforms = bench.collect(TFMessage, "/tf", 1000)
    assert bench.change(Transition.TRANSITION_CONFIGURE, "/drone1/sim")
    assert bench.change(Transition.TRANSITION_ACTIVATE, "/drone1/sim")
    bench.wait(lambda: len(transforms) > 20)
    frames = {(t.header.frame_id, t.child_frame_id) for message in transforms for t in message.transforms}
    assert frames == {("odom", "base_link")}
    assert conversions.stamp_ns(transforms[0].transforms[0].header.stamp) < START_NS + 10**9, "time begins anew"
    # With faults, stamps are those of clocks that are off, and images are some 40 ms late.
    stamp_ns = images[-1].header.stamp.nanosec
    assert stamp_ns % 1000 != 0 or stamps(images)[-1] != stamps(images)[-2] + 33_333_333
    offset_ns = node._loop.world.suite.clocks["gps"].offset_ns
    assert offset_ns != 0
    first = bench.wait(lambda: [stamp for stamp in stamps(fixes) if stamp < START_NS + 3 * 10**8])[0]
    assert min(abs(first - START_NS - offset_ns - tenth * 10**8) for tenth in range(4)) < 10_000


def test_a_slow_machine_is_told_honestly(bench):
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    images, clock = bench.collect(Image, "/camera/image"), bench.collect(Clock, "/clock", 5000)
    bench.spin(SimNode, real_time_factor=100.0, supersample=2, camera__rate_hz=200.0, **SMALL)
    warned = bench.wait(
        lambda: [a.status[0].message for a in diagnostics if "cannot keep up" in a.status[0].message], 60.0
    )
    assert "of 100; a step with an image takes" in warned[0]

    def is_honest():
        """What is reported is what the clock of three seconds says; a machine with other work changes its pace."""
        start, began = len(clock), time.monotonic()
        time.sleep(3.0)
        factor = (len(clock) - start) * 0.01 / (time.monotonic() - began)
        reported = float(values_of(diagnostics[-1])["real_time_factor"])
        return reported == pytest.approx(factor, rel=0.5) and reported < 20

    bench.wait(is_honest)
    assert len(images) > 20
    gaps = np.diff(sorted(set(stamps(images))))
    assert np.median(gaps) < 6e6, "200 images a simulated second, however long that takes"


def test_without_opengl_the_packages_are_named(ros_domain):
    environment = {**os.environ, "__EGL_VENDOR_LIBRARY_FILENAMES": "/nowhere.json", "LIBGL_ALWAYS_SOFTWARE": "1"}
    command = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "sim", "live", "--flight.plan", "orbit"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = threading.Timer(400.0, process.kill)
    deadline.start()
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "libegl1" in line:
                break
        assert "libgl1 libegl1 libgl1-mesa-dri" in lines[-1]
        assert process.poll() is None, "the process stays, as a lifecycle node does"
        process.send_signal(signal.SIGINT)
        assert process.wait(60.0) == 0
        rest = process.stdout.read()
        assert "Traceback" not in "".join(lines) + rest
    finally:
        deadline.cancel()
        process.kill()
        process.wait()
