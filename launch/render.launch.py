"""Start the render node: ros2 launch pose2rgbd render.launch.py model:=/path/to/run"""

import json
from pathlib import Path

import yaml
from ament_index_python.packages import get_package_prefix, get_package_share_directory
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
YES = ("true", "1")
BOOL = ["true", "false", "True", "False", "1", "0"]
# Passed on as they are to node.launch.py.
COMMON = {
    "namespace": ("", "namespace of the node", None),
    "use_sim_time": ("false", "follow /clock", BOOL),
    "params_file": (str(SHARE / "config" / "render.yaml"), "parameters of the node", None),
    "preset": ("", "consumer to publish for, one of config/presets", ["", *PRESETS]),
    "autostart": ("true", "configure and activate the node at once", BOOL),
    "log_level": ("info", "what is logged", ["debug", "info", "warn", "error", "fatal"]),
    "use_respawn": ("false", "start the node again when it ends unexpectedly", BOOL),
    "fastdds_profile": (
        "true",
        "let Fast DDS use config/fastdds.xml, unless the environment names a profile",
        BOOL,
    ),
}
ARGUMENTS = {
    "model": (
        "",
        "folder of the model to render, as `pose2rgbd train` makes it (needed, here or in params_file)",
        None,
    ),
    "camera_info_topic": (
        "",
        "CameraInfo of the camera to render for (empty: as params_file says, else the trained camera)",
        None,
    ),
    **COMMON,
    "rviz": ("false", "show RGB, depth and TF in RViz", BOOL),
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, once the arguments are known: an empty `model` must not hide the one of the parameter file."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    rviz = given["rviz"].lower() in YES
    if rviz:
        get_package_prefix("rviz2")  # raises before the node runs: raised later, the node would go on alone
    model = given["model"]
    if model and not Path(model).expanduser().is_dir():
        raise RuntimeError(f"model:={model} is not a folder; give one made by `pose2rgbd train`")
    if not model and given["params_file"] == COMMON["params_file"][0]:
        raise RuntimeError("render needs model:=FOLDER, made by `pose2rgbd train`")
    overrides = {"model": str(Path(model).expanduser().resolve())} if model else {}
    if given["camera_info_topic"]:
        overrides["camera_info_topic"] = given["camera_info_topic"]
    arguments = {
        "node": "render",
        "overrides": json.dumps(overrides),
        **{name: given[name] for name in COMMON},
    }
    shown = {"view": "render", **{name: given[name] for name in ("namespace", "use_sim_time")}}
    return [
        include(context, "node.launch.py", arguments),
        *([include(context, "rviz.launch.py", shown)] if rviz else []),
    ]


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
        for name, (default, text, choices) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
