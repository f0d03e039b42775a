"""Start the avoid node: ros2 launch pose2rgbd avoid.launch.py odometry:=/odometry

It listens to the render node of the same namespace by default; an argument left empty takes the value of the
parameter file, or keeps the topic's name. preset:=CONSUMER makes what it publishes fit one (docs/consumers/).
"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import OpaqueFunction

from pose2rgbd_ros.nodes.common import launch_files as ours

PARAMETERS = ours.parameters("avoid", "model", "map_datum", "profile")
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


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    topics = {topic: f"{text} (empty: {name or 'its own name'})" for topic, (name, text) in TOPICS.items()}
    arguments = [
        *ours.topic_arguments(topics),
        *(parameter.declare() for parameter in PARAMETERS),
        *ours.common_arguments("avoid"),
        ours.preset_argument(),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, once the arguments are known."""
    given = context.launch_configurations
    named = {topic: given[topic] or name for topic, (name, _) in TOPICS.items()}
    remappings = {topic: name for topic, name in named.items() if name}
    parameters = ours.values(PARAMETERS, given)
    return [ours.node(context, "avoid", parameters, remappings, preset=given["preset"])]
