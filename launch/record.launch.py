"""Record a dataset: ros2 launch pose2rgbd record.launch.py out:=flight image:=/camera/image_raw odom:=/odometry

An argument left empty takes the value of the parameter file. Topics that keep their names need no argument.
"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import OpaqueFunction

from pose2rgbd_ros.nodes.common import launch_files as ours

PARAMETERS = ours.parameters(
    "record", "out", "resume", "start_recording", "cameras", "bag", "position", "body_to_camera", "profile"
)
TOPICS = {
    "image": "colour images; their compressed ones are looked for beside them",
    "depth": "depth images",
    "camera_info": "calibration",
    "odom": "odometry, or poses",
    "fix": "GPS",
    "imu": "IMU",
    "gimbal": "attitude of the camera's gimbal, in east, north, up",
}


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    respawn = "start the node again when it ends unexpectedly; it goes on with its dataset"
    arguments = [
        *(parameter.declare() for parameter in PARAMETERS),
        *ours.topic_arguments(TOPICS, "topic of: "),
        *ours.common_arguments("record", use_respawn=respawn),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, once the arguments are known."""
    given = context.launch_configurations
    remappings = {topic: given[topic] for topic in TOPICS if given[topic]}
    return [ours.node(context, "record", ours.values(PARAMETERS, given), remappings)]
