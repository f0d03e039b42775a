"""Settings dataclasses as ROS parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest
from rclpy.parameter import Parameter

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.nodes.common import parameters
from pose2rgbd_ros.settings import setting

pytestmark = pytest.mark.ros


@dataclass
class Settings:
    """One of each kind."""

    name: Literal["meadow", "wood"] = setting("meadow", "a name")
    count: int = setting(3, "a number", ge=1)
    share: float = setting(0.5, "a share", ge=0.0, le=1.0, read_only=True)
    on: bool = setting(True, "a switch")


def test_start_values_and_descriptors(make_node):
    node = make_node(name="wood", count=7)
    assert parameters.declare(node, Settings()) == Settings("wood", 7)
    share, count = node.describe_parameter("share"), node.describe_parameter("count")
    assert (share.floating_point_range[0].from_value, share.floating_point_range[0].to_value) == (0.0, 1.0)
    assert share.read_only
    assert (count.integer_range[0].from_value, count.integer_range[0].to_value) == (1, 2**63 - 1)
    assert node.describe_parameter("name").additional_constraints == "one of: meadow, wood"


def test_ros_arguments_win_over_the_command_line_s_settings(make_node):
    """`pose2rgbd NODE --count 9 --name wood --ros-args -p count:=7`."""
    node = make_node(count=7)
    assert parameters.declare(node, Settings("wood", 9)) == Settings("wood", 7)
    assert node.get_parameter("name").value == "wood"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "sea"}, "choose one of: meadow, wood"),
        ({"count": 0}, "parameter count: "),
        ({"count": 1.5}, "parameter count must be of type int"),
        ({"share": 1}, "parameter share must be of type float; write it like 1.0"),
    ],
)
def test_bad_start_values(make_node, values, said):
    with pytest.raises(UserError, match=said) as caught:
        parameters.declare(make_node(**values), Settings())
    assert "\n" not in str(caught.value)


def test_later_values(make_node):
    node = make_node()
    parameters.declare(node, Settings())
    good, bad, fixed = node.set_parameters(
        [Parameter("count", value=5), Parameter("name", value="sea"), Parameter("share", value=0.1)]
    )
    assert good.successful
    assert not bad.successful
    assert "choose one of" in bad.reason
    assert not fixed.successful
    assert parameters.read(node, Settings) == Settings(count=5)
