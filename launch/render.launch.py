"""Start the render node: ros2 launch pose2rgbd render.launch.py model:=/path/to/run"""

import json
from pathlib import Path

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

SHARE = Path(get_package_share_directory("pose2rgbd"))
# Passed on as they are to node.launch.py.
COMMON = {
    "namespace": ("", "namespace of the node"),
    "use_sim_time": ("false", "follow /clock"),
    "params_file": (str(SHARE / "config" / "render.yaml"), "parameters of the node"),
    "preset": ("", "consumer to publish for, one of config/presets"),
    "autostart": ("true", "configure and activate the node at once"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "use_respawn": ("false", "start the node again when it ends unexpectedly"),
    "fastdds_profile": (
        "true",
        "let Fast DDS use config/fastdds.xml, unless the environment names a profile",
    ),
}
ARGUMENTS = {
    "model": (
        "",
        "folder of the model to render, as `pose2rgbd train` makes it (needed, here or in params_file)",
    ),
    "camera_info_topic": (
        "",
        "CameraInfo of the camera to render for (empty: as params_file says, else the trained camera)",
    ),
    **COMMON,
    "rviz": ("false", "show RGB, depth and TF in RViz"),
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, once the arguments are known: an empty `model` must not hide the one of the parameter file."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    if given["rviz"].lower() in ("true", "1"):
        get_package_prefix("rviz2")  # raises before the node runs: raised later, the node would go on alone
    model = given["model"]
    if model and not Path(model).expanduser().is_dir():
        raise RuntimeError(f"model:={model} is not a folder; give one made by `pose2rgbd train`")
    overrides = {"model": str(Path(model).expanduser().resolve())} if model else {}
    if given["camera_info_topic"]:
        overrides["camera_info_topic"] = given["camera_info_topic"]
    common = {name: given[name] for name in COMMON}
    return [
        include("node.launch.py", node="render", overrides=json.dumps(overrides), **common),
        include(
            "rviz.launch.py",
            condition=IfCondition(given["rviz"]),
            view="render",
            namespace=given["namespace"],
            use_sim_time=given["use_sim_time"],
        ),
    ]


def include(name: str, condition: IfCondition | None = None, **arguments: str) -> GroupAction:
    """Another of our launch files; its arguments stay its own."""
    source = PythonLaunchDescriptionSource(str(SHARE / "launch" / name))
    return GroupAction(
        [IncludeLaunchDescription(source, launch_arguments=arguments.items())], condition=condition
    )


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
