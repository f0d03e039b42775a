"""Start the simulated city: ros2 launch pose2rgbd sim.launch.py plan:=survey seed:=3

An argument left empty takes the value of the parameter file. Nodes that listen need use_sim_time:=true.
"""

import json
from pathlib import Path

from ament_index_python.packages import get_package_prefix, get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    UnsetLaunchConfiguration,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

SHARE = Path(get_package_share_directory("pose2rgbd"))
YES = ("true", "1")
BOOL = ["true", "false", "True", "False", "1", "0"]
# Passed on as they are to node.launch.py.
COMMON = {
    "namespace": ("", "namespace of the node and its topics, but for /clock and /tf", None),
    "params_file": (str(SHARE / "config" / "sim.yaml"), "parameters of the node", None),
    "autostart": ("true", "configure and activate the node at once", BOOL),
    "log_level": ("info", "what is logged", ["debug", "info", "warn", "error", "fatal"]),
    "use_respawn": ("false", "start the node again when it ends unexpectedly", BOOL),
    "fastdds_profile": (
        "true",
        "let Fast DDS use config/fastdds.xml, unless the environment names a profile",
        BOOL,
    ),
}
# Argument -> the parameters it sets, their type, what it means, and what may be given.
SETTINGS = {
    "real_time_factor": (
        ["real_time_factor"],
        float,
        "simulated seconds per second; 0: as fast as it can",
        None,
    ),
    "plan": (
        ["flight.plan"],
        str,
        "what is flown",
        ["paper", "lawnmower", "survey", "orbit", "walk", "street", "waypoints"],
    ),
    "model": (
        ["model"],
        lambda text: str(Path(text).expanduser().resolve()),
        "folder of a model trained in a simulated city: that city is flown over, along that flight",
        None,
    ),
    "seed": (["city.seed", "flight.seed", "sensor_seed"], int, "draws city, flight and faults", None),
    "cars": (["city.cars"], int, "cars that drive", None),
    "people": (["city.people"], int, "people who walk", None),
    "tf": (
        ["tf"],
        str,
        "what /tf tells; odometry leaves map -> odom to a localization",
        ["truth", "odometry", "none"],
    ),
}
ARGUMENTS = {
    **{name: ("", text, choices and ["", *choices]) for name, (_, _, text, choices) in SETTINGS.items()},
    **COMMON,
    "rviz": ("false", "show camera, depth, odometry and TF in RViz", BOOL),
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, once the arguments are known."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    rviz = given["rviz"].lower() in YES
    if rviz:
        get_package_prefix("rviz2")  # raises before the node runs: raised later, the node would go on alone
    overrides = {}
    for argument, (parameters, kind, text, _) in SETTINGS.items():
        if given[argument]:
            try:
                overrides.update(dict.fromkeys(parameters, kind(given[argument])))
            except ValueError:
                raise RuntimeError(f"{argument}:={given[argument]} is no number: {text}") from None
    arguments = {
        "node": "sim",
        "use_sim_time": "false",  # the node makes the time, so it does not follow it
        "overrides": json.dumps(overrides),
        **{name: given[name] for name in COMMON},
    }
    shown = {"view": "sim", "namespace": given["namespace"], "use_sim_time": "true"}
    return [
        include(context, "node.launch.py", arguments),
        *([include(context, "rviz.launch.py", shown)] if rviz else []),
    ]


def include(context: LaunchContext, name: str, arguments: dict[str, str]) -> GroupAction:
    """Another of our launch files with these arguments; what else it declares has its own default, whatever is set around it.

    Namespaces, remappings and the environment that a file including us has set do reach it. RuntimeError, before any node
    runs, for a value that the file does not allow.
    """
    source = PythonLaunchDescriptionSource(str(SHARE / "launch" / name))
    declared = {item.name: item for item in source.get_launch_description(context).get_launch_arguments()}
    for argument, value in arguments.items():
        choices = declared[argument].choices
        if choices and value not in choices:
            raise RuntimeError(f"{argument}:={value} is none of {', '.join(filter(None, choices))}")
    own = [UnsetLaunchConfiguration(argument) for argument in declared]
    return GroupAction([*own, IncludeLaunchDescription(source, launch_arguments=arguments.items())])


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, (default, text, choices) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
