"""Starts one of the lifecycle nodes; the other launch files include this one, each with its own arguments.

With autostart:=true the node configures and activates itself, also after a respawn; set it to false to leave the
transitions to a lifecycle manager. With preset:=NAME the file of that name in config/presets sets what a consumer of
our topics needs, above params_file and below the other arguments; config/presets/remap.yaml renames the topics for it.

A node that refuses its parameters ends the launch, with an error. At the end of a launch a node has sigterm_timeout,
then sigkill_timeout seconds: launch arguments of every file, as everywhere in ROS.
"""

import os
import uuid
from pathlib import Path
from typing import Any

import yaml
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.events.process import ProcessExited
from launch.logging import launch_config
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

from pose2rgbd_ros.nodes.common import launch_files as ours

CONFIG = ours.share() / "config"
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
NODES = ["render", "avoid", "localize", "record", "sim"]
REFUSED = 2  # exit status of a node that does not start with these parameters
# Seconds from SIGINT to SIGTERM, and on to SIGKILL. launch's own 5 are too few on a busy machine; a recorder may hold
# frames, and as much of a bag as its queues take, that a slow disk has not taken yet: it is not killed.
PATIENCE_S = dict.fromkeys(NODES, (20.0, 20.0)) | {"record": (60.0, 3600.0)}


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    overrides = "parameters that win over the file, a YAML mapping"
    remappings = "topics of the node under another name, a YAML mapping"
    preset = "consumer to publish for, one of config/presets; its parameters win over params_file"
    respawn = "start the node again when it ends unexpectedly; a recorder goes on"
    return LaunchDescription(
        [
            DeclareLaunchArgument("node", description="which one", choices=NODES),
            DeclareLaunchArgument("params_file", description="parameters of the node"),
            DeclareLaunchArgument("overrides", default_value="{}", description=overrides),
            DeclareLaunchArgument("remappings", default_value="{}", description=remappings),
            ours.preset_argument(preset),
            *ours.common_arguments(params_file=None, namespace="namespace of the node", use_respawn=respawn),
            OpaqueFunction(function=fastdds_profile),
            OpaqueFunction(function=start),
        ]
    )


def fastdds_profile(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Our profile for the nodes started here, unless the user chose one or turned it off."""
    if not ours.is_true(context.launch_configurations["fastdds_profile"]):
        return [SetEnvironmentVariable("POSE2RGBD_NO_FASTDDS_PROFILE", "1")]
    if any(os.environ.get(variable) for variable in PROFILE_VARIABLES):
        return []
    return [SetEnvironmentVariable(variable, str(CONFIG / "fastdds.xml")) for variable in PROFILE_VARIABLES]


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, once the arguments are known."""
    given = context.launch_configurations
    node, respawn = given["node"], ours.is_true(given["use_respawn"])
    file = Path(given["params_file"]).expanduser()
    if not file.is_file():  # launch itself only warns, and starts the node with its defaults
        raise RuntimeError(f"params_file:={file} is not a file; see {CONFIG} for one to copy")
    parameters: dict[str, Any] = {name: ours.is_true(given[name]) for name in ("use_sim_time", "autostart")}
    parameters |= yaml.safe_load(given["overrides"]) or {}
    if node == "record" and respawn:
        parameters["session"] = str(Path(launch_config.log_dir) / f"record_{uuid.uuid4().hex}")
    typed = {name: ParameterValue(value, value_type=type(value)) for name, value in parameters.items()}
    preset_files = [str(CONFIG / "presets" / f"{given['preset']}.yaml")] if given["preset"] else []
    remappings = yaml.safe_load(given["remappings"]) or {}
    remappings |= ours.presets().get(given["preset"], {}).get(node, {})
    sigterm_s, sigkill_s = PATIENCE_S[node]
    return [
        LifecycleNode(
            package="pose2rgbd",
            executable=node,
            name=node,
            namespace=given["namespace"],
            parameters=[str(file), *preset_files, typed],
            remappings=list(remappings.items()),
            arguments=["--ros-args", "--log-level", given["log_level"]],
            respawn=respawn,
            respawn_delay=2.0,
            on_exit=end_when_refused,
            sigterm_timeout=given.get("sigterm_timeout", str(sigterm_s)),
            sigkill_timeout=given.get("sigkill_timeout", str(sigkill_s)),
            output="screen",
        )
    ]


def end_when_refused(event: ProcessExited, context: LaunchContext) -> None:
    """RuntimeError, which ends the launch with an error, when a node that has only just started will never run."""
    if event.returncode == REFUSED and not context.is_shutdown:
        raise RuntimeError(f"{event.process_name} does not start with these parameters; its error is above")
