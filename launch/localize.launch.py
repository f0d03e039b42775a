"""Start the localize node: ros2 launch pose2rgbd localize.launch.py model:=/path/to/run image:=/camera/image

The calibration is that of camera_info:=/camera/camera_info. An argument left empty takes the value of the parameter
file, or keeps the topic's name.
"""

import json
from pathlib import Path

import yaml
from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    UnsetLaunchConfiguration,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

SHARE = Path(get_package_share_directory("pose2rgbd"))
PRESETS = sorted(yaml.safe_load((SHARE / "config" / "presets" / "remap.yaml").read_text()))
BOOL = ["true", "false", "True", "False", "1", "0"]
# Passed on as they are to node.launch.py.
COMMON = {
    "namespace": ("", "namespace of the node and its topics, but for /tf", None),
    "use_sim_time": ("false", "follow /clock", BOOL),
    "params_file": (str(SHARE / "config" / "localize.yaml"), "parameters of the node", None),
    "autostart": ("true", "configure and activate the node at once", BOOL),
    "log_level": ("info", "what is logged", ["debug", "info", "warn", "error", "fatal"]),
    "use_respawn": ("false", "start the node again when it ends unexpectedly", BOOL),
    "fastdds_profile": (
        "true",
        "let Fast DDS use config/fastdds.xml, unless the environment names a profile",
        BOOL,
    ),
    "preset": ("", "consumer to publish for, one of config/presets", ["", *PRESETS]),
}
# Topic of the node -> what it carries.
TOPICS = {
    "image": "images of the camera; compressed ones are looked for beside it",
    "camera_info": "calibration of the camera",
    "odometry": "odometry, where the parameter odometry is topic",
}
FOLDERS = {
    "model": "folder of the network that finds poses, as `pose2rgbd train` makes it (needed, here or in params_file)",
    "renderer": "folder of a renderer of the same place, for refinement and change images",
}
SETTINGS = {"body_frame": "frame whose pose is published (empty: as params_file says, else the camera's)"}
SWITCHES = {"send_tf": "send map -> odom (REP-105)"}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, once the arguments are known: an empty `model` must not hide the one of the parameter file."""
    names = (*COMMON, *TOPICS, *FOLDERS, *SETTINGS, *SWITCHES)
    given = {name: LaunchConfiguration(name).perform(context) for name in names}
    overrides: dict[str, str | bool] = {}
    for name in FOLDERS:
        if given[name] and not Path(given[name]).expanduser().is_dir():
            raise RuntimeError(f"{name}:={given[name]} is not a folder; give one made by `pose2rgbd train`")
        if given[name]:
            overrides[name] = str(Path(given[name]).expanduser().resolve())
    if not given["model"] and given["params_file"] == COMMON["params_file"][0]:
        raise RuntimeError("localize needs model:=FOLDER, made by `pose2rgbd train --model posegan`")
    overrides |= {name: given[name] for name in SETTINGS if given[name]}
    overrides |= {name: given[name].lower() in ("true", "1") for name in SWITCHES if given[name]}
    arguments = {
        "node": "localize",
        "overrides": json.dumps(overrides),
        "remappings": json.dumps({topic: given[topic] for topic in TOPICS if given[topic]}),
        **{name: given[name] for name in COMMON},
    }
    return [include(context, "node.launch.py", arguments)]


def include(context: LaunchContext, name: str, arguments: dict[str, str]) -> GroupAction:
    """Another of our launch files with these arguments; what else it declares has its own default, whatever is set around it.

    Namespaces, remappings and the environment that a file including us has set do reach it. RuntimeError, before any node
    runs, for a value that the file does not allow.
    """
    source = PythonLaunchDescriptionSource(str(SHARE / "launch" / name))
    declared = {item.name: item for item in source.get_launch_description(context).get_launch_arguments()}
    for argument, value in arguments.items():
        choices = declared[argument].choices
        if choices and value not in choices:
            raise RuntimeError(f"{argument}:={value} is none of {', '.join(filter(None, choices))}")
    own = [UnsetLaunchConfiguration(argument) for argument in declared]
    return GroupAction([*own, IncludeLaunchDescription(source, launch_arguments=arguments.items())])


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, (default, text, choices) in COMMON.items()
    ]
    declared += [
        DeclareLaunchArgument(name, default_value="", description=text)
        for name, text in {**TOPICS, **FOLDERS, **SETTINGS}.items()
    ]
    declared += [
        DeclareLaunchArgument(name, default_value="", description=text, choices=["", *BOOL])
        for name, text in SWITCHES.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
