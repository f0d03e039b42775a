"""Start the localize node: ros2 launch pose2rgbd localize.launch.py model:=/path/to/run image:=/camera/image

The calibration is that of camera_info:=/camera/camera_info. An argument left empty takes the value of the parameter
file, or keeps the topic's name.
"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import OpaqueFunction

from pose2rgbd_ros.nodes.common import launch_files as ours

PARAMETERS = ours.parameters("localize", "model", "renderer", "body_frame", "send_tf", "profile", needed="model")
TOPICS = {
    "image": "images of the camera; compressed ones are looked for beside it",
    "camera_info": "calibration of the camera",
    "odometry": "odometry, where the parameter odometry is topic",
}


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    arguments = [
        *(parameter.declare() for parameter in PARAMETERS),
        *ours.topic_arguments(TOPICS),
        *ours.common_arguments("localize"),
        ours.preset_argument(),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, once the arguments are known."""
    given = context.launch_configurations
    ours.refuse_missing_folders(given, "model", "renderer")
    ours.refuse_missing_model("localize", given)
    remappings = {topic: given[topic] for topic in TOPICS if given[topic]}
    parameters = ours.values(PARAMETERS, given)
    return [ours.node(context, "localize", parameters, remappings, preset=given["preset"])]
