"""Starts one of the lifecycle nodes; the other launch files include this one, each with its own arguments.

With autostart:=true the node configures and activates itself, also after a respawn; set it to false to leave the
transitions to a lifecycle manager. With preset:=NAME the file of that name in config/presets sets what a consumer of our
topics needs, above params_file and below the other arguments, and config/presets/remap.yaml renames the topics for it.
"""

import os
from pathlib import Path
from typing import Any

import yaml
from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

SHARE = Path(get_package_share_directory("pose2rgbd"))
PRESETS = SHARE / "config" / "presets"
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
ARGUMENTS = {
    "node": (None, "which one: render, avoid, localize, record or sim"),
    "params_file": (None, "parameters of the node"),
    "overrides": ("{}", "parameters that win over the file, a YAML mapping"),
    "remappings": ("{}", "topics of the node under another name, a YAML mapping"),
    "preset": ("", "consumer to publish for, one of config/presets; its parameters win over params_file"),
    "namespace": ("", "namespace of the node"),
    "use_sim_time": ("false", "follow /clock"),
    "autostart": ("true", "configure and activate the node at once"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "use_respawn": ("false", "start the node again when it ends unexpectedly"),
    "fastdds_profile": (
        "true",
        "let Fast DDS use config/fastdds.xml, unless the environment names a profile",
    ),
}


def start_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, once the arguments are known."""
    given = mapping(context, "overrides")
    file = Path(LaunchConfiguration("params_file").perform(context)).expanduser()
    if not file.is_file():  # launch itself only warns, and starts the node with its defaults
        raise RuntimeError(f"params_file:={file} is not a file; see {SHARE / 'config'} for one to copy")
    switches = {
        name: ParameterValue(LaunchConfiguration(name), value_type=bool)
        for name in ("use_sim_time", "autostart")
    }
    overrides = {name: ParameterValue(value, value_type=type(value)) for name, value in given.items()}
    return [
        LifecycleNode(
            package="pose2rgbd",
            executable=LaunchConfiguration("node"),
            name=LaunchConfiguration("node"),
            namespace=LaunchConfiguration("namespace"),
            parameters=[str(file), *preset_files(context), {**switches, **overrides}],
            remappings=list({**mapping(context, "remappings"), **preset_remappings(context)}.items()),
            arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            respawn=LaunchConfiguration("use_respawn").perform(context).lower() in ("true", "1"),
            respawn_delay=2.0,
            output="screen",
        )
    ]


def mapping(context: LaunchContext, argument: str) -> dict[str, Any]:
    """An argument that is a YAML mapping."""
    return yaml.safe_load(LaunchConfiguration(argument).perform(context)) or {}


def preset_files(context: LaunchContext) -> list[str]:
    """The parameter file of the preset, if one is asked for."""
    name = LaunchConfiguration("preset").perform(context)
    if not name:
        return []
    known = sorted(yaml.safe_load((PRESETS / "remap.yaml").read_text()))
    if name not in known:
        raise RuntimeError(f"preset:={name} is none of {', '.join(known)}")
    return [str(PRESETS / f"{name}.yaml")]


def preset_remappings(context: LaunchContext) -> dict[str, str]:
    """What the preset calls the topics of this node."""
    names = yaml.safe_load((PRESETS / "remap.yaml").read_text())
    preset, node = (LaunchConfiguration(word).perform(context) for word in ("preset", "node"))
    return names.get(preset, {}).get(node, {})


def fastdds_profile(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Our profile for the nodes started here, unless the user chose one or turned it off."""
    if LaunchConfiguration("fastdds_profile").perform(context).lower() not in ("true", "1"):
        return [SetEnvironmentVariable("POSE2RGBD_NO_FASTDDS_PROFILE", "1")]
    if any(os.environ.get(variable) for variable in PROFILE_VARIABLES):
        return []
    profile = str(SHARE / "config" / "fastdds.xml")
    return [SetEnvironmentVariable(variable, profile) for variable in PROFILE_VARIABLES]


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription(
        [*declared, OpaqueFunction(function=fastdds_profile), OpaqueFunction(function=start_node)]
    )
