"""Start the simulated city: ros2 launch pose2rgbd sim.launch.py plan:=survey seed:=3

An argument left empty takes the value of the parameter file. Nodes that listen need use_sim_time:=true.
"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import OpaqueFunction

from pose2rgbd_ros.nodes.common import launch_files as ours

PARAMETERS = ours.parameters("sim", "real_time_factor", "world", "plan", "model", "seed", "cars", "people", "tf")


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    namespace = "namespace of the node and its topics, but for /clock and /tf"
    arguments = [
        *(parameter.declare() for parameter in PARAMETERS),
        *ours.common_arguments("sim", namespace=namespace, use_sim_time=None),
        ours.rviz_argument("show camera, depth, odometry and TF in RViz"),
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, which makes the time and does not follow it, once the arguments are known."""
    parameters = ours.values(PARAMETERS, context.launch_configurations)
    return [ours.node(context, "sim", parameters, follows_clock=False), *ours.rviz(context, "sim", use_sim_time="true")]
