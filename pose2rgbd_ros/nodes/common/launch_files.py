"""What the launch files share: arguments that every node has, what is refused before one runs, including one another.

`ros2 launch` imports this into ROS' own Python, which has none of our nodes' libraries: nothing but ROS and the
standard library may come along. What a launch file says of a parameter is therefore read from
config/launch_arguments.yaml, which scripts/node_tables.py writes from the parameter's definition.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ament_index_python import packages
from launch import LaunchContext
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    SetEnvironmentVariable,
    UnsetLaunchConfiguration,
)
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.logging import launch_config
from launch_ros import actions as ros_actions
from launch_ros.parameter_descriptions import ParameterValue

REFUSED = 2  # exit status of a node that does not start with these parameters
# Seconds from SIGINT to SIGTERM, and on to SIGKILL. launch's own 5 are too few on a busy machine; a recorder may hold
# frames, and as much of a bag as its queues take, that a slow disk has not taken yet: it is not killed.
PATIENCE_S = {"record": (60.0, 3600.0), "others": (20.0, 20.0)}
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
BOOL = ["true", "false", "True", "False", "1", "0"]
# Argument -> default, description, choices.
COMMON: dict[str, tuple[str, str, list[str] | None]] = {
    "params_file": ("", "parameters of the node", None),
    "namespace": ("", "namespace of the node and its topics, but for /tf", None),
    "use_sim_time": ("false", "follow /clock", BOOL),
    "autostart": ("true", "configure and activate the node at once", BOOL),
    "log_level": ("info", "what is logged", ["debug", "info", "warn", "error", "fatal"]),
    "use_respawn": ("false", "start the node again when it ends unexpectedly", BOOL),
    "fastdds_profile": (
        "true", "let Fast DDS use config/fastdds.xml, unless the environment names a profile", BOOL
    ),
}  # fmt: skip
_PATHS = {"model": Path.resolve, "renderer": Path.resolve, "out": Path.absolute}


def share() -> Path:
    """Where launch/ and config/ are installed."""
    return Path(packages.get_package_share_directory("pose2rgbd"))


def is_true(text: str) -> bool:
    """Whether an argument of the choices BOOL is on."""
    return text.lower() in ("true", "1")


_READ: dict[str, Callable[[str], Any]] = {"str": str, "bool": is_true, "int": int, "float": float}


# Arguments -----------------------------------------------------------------------------------------------------------


class Parameter:
    """An argument that sets the parameter of its name; left empty, it leaves that as the parameter file has it."""

    def __init__(self, node: str, name: str, needed: bool) -> None:
        definition = _definitions(share() / "config" / "launch_arguments.yaml")[node][name]
        self.name = name
        self.description = definition["description"].replace("; empty: ", "; empty here and in params_file: ")
        if needed:
            self.description += " (needed, here or in params_file)"
        self._type = definition["type"]
        self._choices = BOOL if self._type == "bool" else definition.get("choices")

    def declare(self) -> DeclareLaunchArgument:
        """The argument for the launch description."""
        choices = ["", *self._choices] if self._choices else None
        return DeclareLaunchArgument(self.name, default_value="", description=self.description, choices=choices)

    def value_of(self, text: str) -> Any:
        """What an argument means, in the type of the parameter. RuntimeError for no number where one is needed."""
        if self.name in _PATHS:
            return str(_PATHS[self.name](Path(text).expanduser()))
        try:
            return _READ[self._type](text)
        except ValueError:
            raise RuntimeError(f"{self.name}:={text} is no number: {self.description}") from None


def parameters(node: str, *names: str, needed: str = "") -> list[Parameter]:
    """Arguments for parameters of a node; the one `needed` must be given, here or in the parameter file."""
    return [Parameter(node, name, name == needed) for name in names]


@cache
def _definitions(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


def values(parameters: Iterable[Parameter], given: Mapping[str, str]) -> dict[str, Any]:
    """The parameters that are set by arguments that are not empty."""
    return {
        parameter.name: parameter.value_of(given[parameter.name]) for parameter in parameters if given[parameter.name]
    }


def common_arguments(node: str = "", **descriptions: str | None) -> list[DeclareLaunchArgument]:
    """Those that every node has. `descriptions` that differ; None leaves the argument out."""
    return [
        DeclareLaunchArgument(
            name,
            default_value=default_file(node) if name == "params_file" else default,
            description=descriptions.get(name, text),
            choices=choices,
        )
        for name, (default, text, choices) in COMMON.items()
        if descriptions.get(name, text) is not None
    ]


def topic_arguments(topics: Mapping[str, str], prefix: str = "") -> list[DeclareLaunchArgument]:
    """Topics of a node, with what each carries; left empty, one keeps its name."""
    return [
        DeclareLaunchArgument(topic, default_value="", description=f"{prefix}{text}") for topic, text in topics.items()
    ]


def preset_argument(description: str = "consumer to publish for, one of config/presets") -> DeclareLaunchArgument:
    """The argument preset."""
    choices = ["", *sorted(presets())]
    return DeclareLaunchArgument("preset", default_value="", description=description, choices=choices)


def rviz_argument(description: str) -> DeclareLaunchArgument:
    """The argument rviz, which :func:`rviz` follows."""
    return DeclareLaunchArgument("rviz", default_value="false", description=description, choices=BOOL)


def presets() -> dict[str, dict[str, dict[str, str]]]:
    """Consumer -> node -> topics under the names that the consumer has for them."""
    return yaml.safe_load((share() / "config" / "presets" / "remap.yaml").read_text())


def default_file(node: str) -> str:
    """The parameter file that comes with a node."""
    return str(share() / "config" / f"{node}.yaml")


# Refusals, before the first node runs: an exception later on would leave it running, with nobody to stop it ----------


def refuse_missing_model(
    node: str, given: Mapping[str, str], model: str = "model", file: str = "params_file", otherwise: str = ""
) -> None:
    """RuntimeError when neither the argument `model` nor a parameter file of the user can name one."""
    how = {"render": "pose2rgbd train relief", "localize": "pose2rgbd train posegan"}[node]
    if not given[model] and given[file] == default_file(node):
        raise RuntimeError(f"{node} needs {model}:=FOLDER, made by `{how}`{otherwise}")


def refuse_missing_folders(given: Mapping[str, str], *names: str) -> None:
    """RuntimeError for an argument that is neither empty nor a folder."""
    for name in names:
        if given[name] and not Path(given[name]).expanduser().is_dir():
            raise RuntimeError(f"{name}:={given[name]} is not a folder; give one made by `pose2rgbd train`")


# Nodes, and other launch files ---------------------------------------------------------------------------------------


def node(
    context: LaunchContext,
    name: str,
    parameters: dict[str, Any],
    remappings: dict[str, str] | None = None,
    preset: str = "",
    follows_clock: bool = True,
) -> GroupAction:
    """One of our nodes with the common arguments: its parameter file, above it what a preset sets, above that
    `parameters`.

    With autostart:=false a lifecycle manager configures and activates it. RuntimeError for a parameter file that is not
    there: launch itself only warns, and starts the node with its defaults. One that refuses its parameters ends the
    launch, with an error. At the end of a launch it has sigterm_timeout, then sigkill_timeout seconds: launch arguments
    of every file, as everywhere in ROS.
    """
    given, config = context.launch_configurations, share() / "config"
    file, respawn = Path(given["params_file"]).expanduser(), is_true(given["use_respawn"])
    if not file.is_file():
        raise RuntimeError(f"params_file:={file} is not a file; see {config} for one to copy")
    follows = follows_clock and is_true(given["use_sim_time"])
    own = {"use_sim_time": follows, "autostart": is_true(given["autostart"]), **parameters}
    if name == "record" and respawn:
        own["session"] = str(Path(launch_config.log_dir) / f"record_{uuid.uuid4().hex}")
    sigterm_s, sigkill_s = PATIENCE_S.get(name, PATIENCE_S["others"])
    started = ros_actions.LifecycleNode(
        package="pose2rgbd",
        executable=name,
        name=name,
        namespace=given["namespace"],
        parameters=[
            str(file),
            *([str(config / "presets" / f"{preset}.yaml")] if preset else []),
            {key: ParameterValue(value, value_type=type(value)) for key, value in own.items()},
        ],
        remappings=list(((remappings or {}) | presets().get(preset, {}).get(name, {})).items()),
        arguments=["--ros-args", "--log-level", given["log_level"]],
        respawn=respawn,
        respawn_delay=2.0,
        on_exit=end_when_refused,
        sigterm_timeout=given.get("sigterm_timeout", str(sigterm_s)),
        sigkill_timeout=given.get("sigkill_timeout", str(sigkill_s)),
        output="screen",
    )
    return GroupAction([*_fastdds_profile(is_true(given["fastdds_profile"]), config), started])


def _fastdds_profile(wanted: bool, config: Path) -> list[SetEnvironmentVariable]:
    """Our profile for the node started here, unless the user chose one or turned it off."""
    if not wanted:
        return [SetEnvironmentVariable("POSE2RGBD_NO_FASTDDS_PROFILE", "1")]
    if any(os.environ.get(variable) for variable in PROFILE_VARIABLES):
        return []
    return [SetEnvironmentVariable(variable, str(config / "fastdds.xml")) for variable in PROFILE_VARIABLES]


def end_when_refused(event: ProcessExited, context: LaunchContext) -> None:
    """RuntimeError, which ends the launch with an error, when a node that has only just started will never run."""
    if event.returncode == REFUSED and not context.is_shutdown:
        raise RuntimeError(f"{event.process_name} does not start with these parameters; its error is above")


def rviz(context: LaunchContext, view: str, use_sim_time: str) -> list[GroupAction]:
    """RViz with a view of config/rviz, where the argument rviz asks for it. LookupError where it is not installed."""
    given = context.launch_configurations
    if not is_true(given["rviz"]):
        return []
    packages.get_package_prefix("rviz2")  # raises here: raised later, the node would go on alone
    shown = {"view": view, "namespace": given["namespace"], "use_sim_time": use_sim_time}
    return [include(context, "rviz.launch.py", shown)]


def include(context: LaunchContext, name: str, arguments: dict[str, str]) -> GroupAction:
    """Another of our launch files with these arguments; what else it declares has its own default.

    That holds whatever is set around it; namespaces, remappings and the environment that a file including us has set do
    reach it. RuntimeError, before any node runs, for a value that the file does not allow.
    """
    source = PythonLaunchDescriptionSource(str(share() / "launch" / name))
    declared = {item.name: item for item in source.get_launch_description(context).get_launch_arguments()}
    for argument, value in arguments.items():
        choices = declared[argument].choices
        if choices and value not in choices:
            raise RuntimeError(f"{argument}:={value} is none of {', '.join(filter(None, choices))}")
    own = [UnsetLaunchConfiguration(argument) for argument in declared]
    return GroupAction([*own, IncludeLaunchDescription(source, launch_arguments=arguments.items())])
