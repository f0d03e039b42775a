"""`pose2rgbd avoid` listens to the renderer beside it, unless a remapping says otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from pose2rgbd_ros.cli.main import main

pytestmark = pytest.mark.ros


def test_topics_of_the_renderer_beside_it(bench, ros_domain):
    command = "import sys; from pose2rgbd_ros.cli.main import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["avoid", "--max-age-s", "0.2", "--ros-args", "-r", "camera_info:=/mine/camera_info"]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(ros_domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    process = subprocess.Popen([sys.executable, "-c", command, *arguments], env=environment)
    try:
        wanted = {"/render/depth_lower/image", "/mine/camera_info", "/render/status", "/odometry"}
        bench.wait(lambda: wanted <= bench.topics(), what="its topics")
        assert "/render/depth/camera_info" not in bench.topics(), "what the user says wins"
        assert not {"/render/depth/image", "/depth_lower"} & bench.topics()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60.0) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scan.above-m", "0"], "scan.above_m is 0.0; it must be at least 0.01"),
        (["--max-age-s", "-1"], "max_age_s is -1"),
    ],
)
def test_bad_settings_are_one_line(arguments, said, capsys):
    assert main(["avoid", *arguments]) == 2
    assert said in capsys.readouterr().err
