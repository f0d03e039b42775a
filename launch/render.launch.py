"""Start the render node: ros2 launch pose2rgbd render.launch.py model:=/path/to/run

With autostart:=true the node configures and activates itself, also after a respawn; set it to false to leave the
transitions to a lifecycle manager.
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = Path(get_package_share_directory("pose2rgbd"))
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
ARGUMENTS = {
    "model": (
        "",
        "folder of the model to render, as `pose2rgbd train` makes it (needed, here or in params_file)",
    ),
    "namespace": ("", "namespace of the node"),
    "use_sim_time": ("false", "follow /clock"),
    "params_file": (str(SHARE / "config" / "render.yaml"), "parameters of the node"),
    "autostart": ("true", "configure and activate the node at once"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "use_respawn": ("false", "start the node again when it ends unexpectedly"),
    "fastdds_profile": (
        "true",
        "let Fast DDS use config/fastdds.xml, unless the environment names a profile",
    ),
    "rviz": ("false", "show RGB, depth and TF in RViz"),
}


def render_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, once the arguments are known: an empty `model` must not hide the one of the parameter file."""
    model = LaunchConfiguration("model").perform(context)
    if model and not Path(model).expanduser().is_dir():
        raise RuntimeError(f"model:={model} is not a folder; give one made by `pose2rgbd train`")
    overrides = {
        "use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool),
        "autostart": ParameterValue(LaunchConfiguration("autostart"), value_type=bool),
    }
    if model:
        overrides["model"] = ParameterValue(str(Path(model).expanduser().resolve()), value_type=str)
    return [
        LifecycleNode(
            package="pose2rgbd",
            executable="render",
            name="render",
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("params_file"), overrides],
            arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            respawn=LaunchConfiguration("use_respawn").perform(context).lower() in ("true", "1"),
            respawn_delay=2.0,
            output="screen",
        )
    ]


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
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace"),
        arguments=["-d", str(SHARE / "config" / "rviz" / "render.rviz")],
        parameters=[{"use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)}],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return LaunchDescription(
        [*declared, OpaqueFunction(function=fastdds_profile), OpaqueFunction(function=render_node), rviz]
    )
