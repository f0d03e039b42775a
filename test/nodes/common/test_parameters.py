"""Settings dataclasses as ROS parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest
import rclpy
import yaml
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from pose2rgbd_ros.cli.nodes import NODES, _node
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.nodes.common import parameters
from pose2rgbd_ros.settings import profile_fields, setting

pytestmark = pytest.mark.ros


@dataclass
class Part:
    """Some that nobody tunes."""

    deep_m: float = setting(1.0, "a length", ge=0.0)


@dataclass
class Profiled:
    """Parameters, and settings that went from there into a profile."""

    PROFILE: ClassVar = "profile"
    IN_PROFILE: ClassVar = ("part", "fine")
    INSTEAD: ClassVar = {"fine": "count"}
    count: int = setting(3, "a number", ge=1)
    profile: str = setting("", "a file")
    fine: bool = setting(True, "a switch")
    part: Part = field(default_factory=Part)


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


GONE = "part.deep_m is no ROS parameter any more; set part.deep_m in the YAML file that the parameter profile names"


def test_parameters_that_went_into_a_profile_are_refused(make_node, bench):
    """rclpy itself would ignore them."""
    for values, said in (
        ({"part__deep_m": 2.0}, f"node tester: {GONE}"),
        ({"fine": False}, "node tester: fine is no ROS parameter any more; set count, or fine in the YAML file that"),
    ):
        with pytest.raises(UserError) as caught:
            parameters.declare(make_node(**values), Profiled())
        assert str(caught.value).startswith(said)
    parameters.declare(bench.beside("later"), Profiled())
    request = SetParameters.Request(parameters=[Parameter("part.deep_m", value=2.0).to_parameter_msg()])
    answer = bench.call(SetParameters, "/later/set_parameters", request)
    assert (answer.results[0].successful, answer.results[0].reason) == (False, GONE)


@pytest.mark.parametrize("name", [name for name in NODES if profile_fields(_node(name)[1])])
def test_a_parameter_file_with_old_names_is_refused(ros_domain, tmp_path, name):
    """By the real node, as launch and ros2 run start it: the last that went of each part, and of the node itself."""
    (node_class, cls), context = _node(name), rclpy.Context()
    rclpy.init(context=context, domain_id=ros_domain)
    for old in {name.rpartition(".")[0]: name for name in profile_fields(cls)}.values():
        part, _, last = old.rpartition(".")
        values = {part: {last: 0}} if part else {last: 0}
        (tmp_path / "old.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
        with pytest.raises(UserError, match=rf"^node {name}: {old} is no ROS parameter any more; set .*{cls.PROFILE} "):
            node_class(context=context, cli_args=["--ros-args", "--params-file", str(tmp_path / "old.yaml")])
    rclpy.shutdown(context=context)


def test_a_parameter_nobody_knows_is_reported(make_node):
    node = make_node(coumt=2, use_sim_time=False, **{"qos_overrides./a.publisher.depth": 3})
    said: list[str] = []
    node.get_logger().warning = said.append
    logger = node.get_logger()
    node.get_logger = lambda: logger
    parameters.declare(node, Profiled())
    assert said == ["there is no parameter coumt; the nearest is count"]


def test_flags_and_a_profile(make_node, tmp_path):
    """Flags are the defaults; what a profile says that ROS names goes above them."""
    file = tmp_path / "profile.yaml"
    file.write_text("fine: false")
    flags = Profiled(count=4, part=Part(2.0))
    assert parameters.declare(make_node(profile=str(file)), flags) == Profiled(4, str(file), False, Part(2.0))
    merged = Profiled(4, str(file), False, Part(2.0))
    assert parameters.declare(make_node(), merged) == merged, "flags above the file: the command line did that"
