"""Start the avoid node: ros2 launch pose2rgbd avoid.launch.py odometry:=/odometry

It listens to the render node of the same namespace unless told otherwise; an argument left empty takes the value of the
parameter file, or keeps the topic's name. preset:=CONSUMER makes what it publishes fit one (docs/consumers/).
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
    "params_file": (str(SHARE / "config" / "avoid.yaml"), "parameters of the node", None),
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
# Topic of the node -> what it is called unless the argument of that name says otherwise, and what it carries.
TOPICS = {
    "depth": ("render/depth/image", "predicted depth"),
    "depth_lower": ("render/depth_lower/image", "lower bound of predicted depth"),
    "camera_info": ("render/depth/camera_info", "calibration of both, with their stamps"),
    "status": ("render/status", "RenderStatus of who renders them"),
    "rgb": ("render/rgb/image", "predicted colour, for clouds with colour"),
    "odometry": ("", "velocity of the body"),
    "live_depth": ("", "depth image of a live sensor"),
    "live_camera_info": ("", "calibration of the live sensor"),
    "range": ("", "a live range sensor"),
    "map_origin": ("", "NavSatFix of the origin of map_frame"),
}
SETTINGS = {
    "model": "folder of the model, to compare its datum with that of the map",
    "map_datum": "'latitude longitude altitude' of the origin of map_frame",
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, once the arguments are known."""
    names = (*COMMON, *TOPICS, *SETTINGS)
    given = {name: LaunchConfiguration(name).perform(context) for name in names}
    if given["model"]:
        given["model"] = str(Path(given["model"]).expanduser().resolve())
    remappings = {
        topic: given[topic] or default for topic, (default, _) in TOPICS.items() if given[topic] or default
    }
    overrides = {name: given[name] for name in SETTINGS if given[name]}
    arguments = {
        "node": "avoid",
        "overrides": json.dumps(overrides),
        "remappings": json.dumps(remappings),
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
        DeclareLaunchArgument(
            topic, default_value="", description=f"{text} (empty: {default or 'its own name'})"
        )
        for topic, (default, text) in TOPICS.items()
    ]
    declared += [
        DeclareLaunchArgument(name, default_value="", description=text) for name, text in SETTINGS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
