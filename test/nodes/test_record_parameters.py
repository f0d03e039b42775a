"""Parameters of the record node as its files and its page repeat them; names of cameras and folders."""

from __future__ import annotations

import time

import pytest
import yaml

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset.filters import FilterConfig
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.nodes import parameters
from pose2rgbd_ros.nodes.record_settings import RecordSettings

pytestmark = pytest.mark.ros


def test_parameter_file_holds_the_defaults(repository):
    values = yaml.safe_load((repository / "config" / "record.yaml").read_text())["/**"]["ros__parameters"]
    flat = {f"filters.{name}": value for name, value in values.pop("filters").items()}
    defaults = settings.to_flat(RecordSettings())
    del defaults["autostart"]
    assert {**values, **flat} == defaults


def test_documentation_has_the_tables(repository):
    page = (repository / "docs" / "nodes.md").read_text()
    assert parameters.table(RecordSettings) in page
    assert parameters.table(FilterConfig, "filters.") in page


def test_every_setting_is_a_parameter(make_node):
    node = make_node(filters__every=3, position="gps", bag="mcap")
    started = parameters.declare(node, RecordSettings)
    assert (started.filters.every, started.position, started.bag) == (3, "gps", "mcap")


def test_cameras_by_name():
    assert RecordSettings().camera_names() == [""]
    assert RecordSettings(cameras="front, down").camera_names() == ["front", "down"]
    for bad in ("front,front", "2nd", "a/b"):
        with pytest.raises(UserError, match="expected different names like front, down"):
            RecordSettings(cameras=bad).camera_names()
    with pytest.raises(UserError, match="TF must tell"):
        RecordSettings(cameras="a,b", body_to_camera="nadir").camera_names()


def test_the_folder_has_the_time_in_its_name(tmp_path):
    folder = RecordSettings(out=f"{tmp_path}/%Y").folder()
    assert folder.name in (time.strftime("%Y"), str(int(time.strftime("%Y")) + 1))
    with pytest.raises(UserError, match="out is empty"):
        RecordSettings(out=" ").folder()
