"""Start the render node: ros2 launch pose2rgbd render.launch.py model:=/path/to/run"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import OpaqueFunction

from pose2rgbd_ros.nodes.common import launch_files as ours

PARAMETERS = ours.parameters("render", "model", "camera_info_topic", "profile", needed="model")


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    arguments = [
        *(parameter.declare() for parameter in PARAMETERS),
        *ours.common_arguments("render", namespace="namespace of the node"),
        ours.preset_argument(),
        ours.rviz_argument("show RGB, depth and TF in RViz"),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, once the arguments are known."""
    given = context.launch_configurations
    ours.refuse_missing_folders(given, "model")
    ours.refuse_missing_model("render", given)
    parameters = ours.values(PARAMETERS, given)
    return [
        ours.node(context, "render", parameters, preset=given["preset"]),
        *ours.rviz(context, "render", given["use_sim_time"]),
    ]
