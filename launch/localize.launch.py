"""Start the localize node: ros2 launch pose2rgbd localize.launch.py model:=/path/to/run image:=/camera/image

The calibration is that of camera_info:=/camera/camera_info. An argument left empty takes the value of the parameter
file, or keeps the topic's name.
"""

import json
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

SHARE = Path(get_package_share_directory("pose2rgbd"))
# Passed on as they are to node.launch.py.
COMMON = {
    "namespace": ("", "namespace of the node and its topics, but for /tf"),
    "use_sim_time": ("false", "follow /clock"),
    "params_file": (str(SHARE / "config" / "localize.yaml"), "parameters of the node"),
    "autostart": ("true", "configure and activate the node at once"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "use_respawn": ("false", "start the node again when it ends unexpectedly"),
    "fastdds_profile": (
        "true",
        "let Fast DDS use config/fastdds.xml, unless the environment names a profile",
    ),
    "preset": ("", "consumer to publish for, one of config/presets"),
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
    overrides |= {name: given[name] for name in SETTINGS if given[name]}
    overrides |= {name: given[name].lower() in ("true", "1") for name in SWITCHES if given[name]}
    arguments = {
        "node": "localize",
        "overrides": json.dumps(overrides),
        "remappings": json.dumps({topic: given[topic] for topic in TOPICS if given[topic]}),
        **{name: given[name] for name in COMMON},
    }
    source = PythonLaunchDescriptionSource(str(SHARE / "launch" / "node.launch.py"))
    return [IncludeLaunchDescription(source, launch_arguments=arguments.items())]


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in COMMON.items()
    ]
    declared += [
        DeclareLaunchArgument(name, default_value="", description=text)
        for name, text in {**TOPICS, **FOLDERS, **SETTINGS, **SWITCHES}.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
