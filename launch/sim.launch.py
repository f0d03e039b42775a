"""Start the simulated city: ros2 launch pose2rgbd sim.launch.py plan:=survey seed:=3

An argument left empty takes the value of the parameter file. Nodes that listen need use_sim_time:=true.
"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import OpaqueFunction

from pose2rgbd_ros.nodes.common import launch_files as ours

PARAMETERS = [
    ours.Parameter("sim", "real_time_factor"),
    ours.Parameter("sim", "world"),
    ours.Parameter("sim", "plan"),
    ours.Parameter("sim", "model"),
    ours.Parameter("sim", "seed"),
    ours.Parameter("sim", "cars"),
    ours.Parameter("sim", "people"),
    ours.Parameter("sim", "tf"),
]


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
    return [
        ours.node(context, "sim", parameters, use_sim_time="false"),
        *ours.rviz(context, "sim", use_sim_time="true"),
    ]
