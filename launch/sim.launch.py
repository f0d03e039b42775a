"""Start the simulated city: ros2 launch pose2rgbd sim.launch.py plan:=survey seed:=3

An argument left empty takes the value of the parameter file. Nodes that listen need use_sim_time:=true.
"""

import json
from pathlib import Path

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

SHARE = Path(get_package_share_directory("pose2rgbd"))
# Passed on as they are to node.launch.py.
COMMON = {
    "namespace": ("", "namespace of the node and its topics, but for /clock and /tf"),
    "params_file": (str(SHARE / "config" / "sim.yaml"), "parameters of the node"),
    "autostart": ("true", "configure and activate the node at once"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "use_respawn": ("false", "start the node again when it ends unexpectedly"),
    "fastdds_profile": (
        "true",
        "let Fast DDS use config/fastdds.xml, unless the environment names a profile",
    ),
}
# Argument -> the parameters it sets, their type, and what it means.
SETTINGS = {
    "real_time_factor": (["real_time_factor"], float, "simulated seconds per second; 0: as fast as it can"),
    "plan": (
        ["flight.plan"],
        str,
        "what is flown: paper, lawnmower, survey, orbit, walk, street or waypoints",
    ),
    "seed": (["city.seed", "flight.seed", "sensor_seed"], int, "draws city, flight and faults"),
    "cars": (["city.cars"], int, "cars that drive"),
    "people": (["city.people"], int, "people who walk"),
    "tf": (["tf"], str, "truth, odometry (leaves map -> odom to a localization) or none"),
}
ARGUMENTS = {
    **{name: ("", text) for name, (_, _, text) in SETTINGS.items()},
    **COMMON,
    "rviz": ("false", "show camera, depth, odometry and TF in RViz"),
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, once the arguments are known."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    if given["rviz"].lower() in ("true", "1"):
        get_package_prefix("rviz2")  # raises before the node runs: raised later, the node would go on alone
    overrides = {}
    for argument, (parameters, kind, text) in SETTINGS.items():
        if given[argument]:
            try:
                overrides.update(dict.fromkeys(parameters, kind(given[argument])))
            except ValueError:
                raise RuntimeError(f"{argument}:={given[argument]} is no number: {text}") from None
    common = {name: given[name] for name in COMMON}
    return [
        # The node makes the time, so it does not follow it.
        include(
            "node.launch.py", node="sim", use_sim_time="false", overrides=json.dumps(overrides), **common
        ),
        include(
            "rviz.launch.py",
            condition=IfCondition(given["rviz"]),
            view="sim",
            namespace=given["namespace"],
            use_sim_time="true",
        ),
    ]


def include(name: str, condition: IfCondition | None = None, **arguments: str) -> GroupAction:
    """Another of our launch files; its arguments stay its own."""
    source = PythonLaunchDescriptionSource(str(SHARE / "launch" / name))
    return GroupAction(
        [IncludeLaunchDescription(source, launch_arguments=arguments.items())], condition=condition
    )


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
