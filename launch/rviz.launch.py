"""Start RViz with one of the views in config/rviz: ros2 launch pose2rgbd rviz.launch.py view:=render"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

SHARE = Path(get_package_share_directory("pose2rgbd"))
ARGUMENTS = {
    "view": (
        "render",
        "render: what the network renders; sim: the simulated drone, and what is rendered for it; avoid: obstacles",
    ),
    "namespace": ("", "namespace of the topics"),
    "use_sim_time": ("false", "follow /clock"),
}


def start_rviz(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """RViz, once the view is known."""
    view = SHARE / "config" / "rviz" / f"{LaunchConfiguration('view').perform(context)}.rviz"
    if not view.is_file():
        raise RuntimeError(f"there is no view {view}")
    sim_time = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            namespace=LaunchConfiguration("namespace"),
            arguments=["-d", str(view)],
            parameters=[{"use_sim_time": sim_time}],
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start_rviz)])
