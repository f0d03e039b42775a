"""Start RViz with one of the views in config/rviz: ros2 launch pose2rgbd rviz.launch.py view:=render"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("pose2rgbd"))
ARGUMENTS = {
    "view": (
        "render",
        "render: what the network renders; sim: the simulated drone, and what is rendered for it; avoid: obstacles",
        sorted(file.stem for file in (SHARE / "config" / "rviz").glob("*.rviz")),
    ),
    "namespace": ("", "namespace of the topics", None),
    "use_sim_time": ("false", "follow /clock", ["true", "false", "True", "False", "1", "0"]),
}


def start_rviz(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """RViz, once the view is known."""
    view = SHARE / "config" / "rviz" / f"{LaunchConfiguration('view').perform(context)}.rviz"
    sim_time = LaunchConfiguration("use_sim_time").perform(context).lower() in ("true", "1")
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            namespace=LaunchConfiguration("namespace").perform(context),
            arguments=["-d", str(view)],
            parameters=[{"use_sim_time": sim_time}],
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, (default, text, choices) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start_rviz)])
