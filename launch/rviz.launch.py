"""Start RViz with one of the views in config/rviz: ros2 launch pose2rgbd rviz.launch.py view:=render"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch_ros.actions import Node

from pose2rgbd_ros.nodes.common import launch_files as ours

VIEWS = ours.share() / "config" / "rviz"


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    views = sorted(file.stem for file in VIEWS.glob("*.rviz"))
    text = "render: what the network renders; sim: the simulated drone, and what is rendered for it; avoid: obstacles"
    view = DeclareLaunchArgument("view", default_value="render", description=text, choices=views)
    namespace = DeclareLaunchArgument("namespace", default_value="", description="namespace of the topics")
    sim_time = DeclareLaunchArgument(
        "use_sim_time", default_value="false", description="follow /clock", choices=ours.BOOL
    )
    return LaunchDescription([view, namespace, sim_time, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """RViz, once the view is known."""
    given = context.launch_configurations
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            namespace=given["namespace"],
            arguments=["-d", str(VIEWS / f"{given['view']}.rviz")],
            parameters=[{"use_sim_time": ours.is_true(given["use_sim_time"])}],
        )
    ]
