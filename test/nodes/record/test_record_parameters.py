"""Parameters of the record node as ROS has them; names of cameras and folders."""

from __future__ import annotations

import time

import pytest

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.nodes.common import parameters
from pose2rgbd_ros.nodes.record.settings import RecordSettings

pytestmark = pytest.mark.ros


def test_every_setting_is_a_parameter(make_node):
    node = make_node(filters__every=3, position="gps", bag="mcap")
    started = parameters.declare(node, RecordSettings())
    assert (started.filters.every, started.position, started.bag) == (3, "gps", "mcap")


def test_cameras_by_name():
    assert RecordSettings().camera_names() == [""]
    assert RecordSettings(cameras="front, down").camera_names() == ["front", "down"]
    for bad in ("front,front", "2nd", "a/b"):
        with pytest.raises(UserError, match="expected different names like front, down"):
            RecordSettings(cameras=bad).camera_names()
    with pytest.raises(UserError, match="TF must hold"):
        RecordSettings(cameras="a,b", body_to_camera="nadir").camera_names()


def test_the_folder_has_the_time_in_its_name(tmp_path):
    folder = RecordSettings(out=f"{tmp_path}/%Y").folder()
    assert folder.name in (time.strftime("%Y"), str(int(time.strftime("%Y")) + 1))
    with pytest.raises(UserError, match="out is empty"):
        RecordSettings(out=" ").folder()
