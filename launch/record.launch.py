"""Record a dataset: ros2 launch pose2rgbd record.launch.py out:=flight image:=/camera/image_raw odom:=/odometry

An argument left empty takes the value of the parameter file. Topics that keep their names need no argument.
"""

import json
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
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
    "namespace": ("", "namespace of the node and its topics, but for /tf", None),
    "use_sim_time": ("false", "follow /clock", BOOL),
    "params_file": (str(SHARE / "config" / "record.yaml"), "parameters of the node", None),
    "autostart": ("true", "configure and activate the node at once", BOOL),
    "log_level": ("info", "what is logged", ["debug", "info", "warn", "error", "fatal"]),
    "use_respawn": (
        "false",
        "start the node again when it ends unexpectedly; it goes on with its dataset",
        BOOL,
    ),
    "fastdds_profile": (
        "true",
        "let Fast DDS use config/fastdds.xml, unless the environment names a profile",
        BOOL,
    ),
}
# Argument -> how its text becomes the parameter of that name, what it means, and what may be given.
SETTINGS = {
    "out": (
        lambda text: str(Path(text).expanduser().absolute()),
        "dataset folder; %Y and the like are the time, as in strftime",
        None,
    ),
    "resume": (lambda text: text.lower() in YES, "go on with a dataset that is there", BOOL),
    "start_recording": (lambda text: text.lower() in YES, "record at once; false waits for ~/start", BOOL),
    "cameras": (str, "names of several cameras, with commas between", None),
    "bag": (str, "mcap: also record everything received, as it is", ["mcap", "none"]),
    "position": (str, "where positions come from", ["auto", "pose", "gps", "fused"]),
    "body_to_camera": (str, "where the camera sits on the body: auto (TF), forward, nadir, or numbers", None),
}
TOPICS = {
    "image": "colour images; their compressed ones are looked for beside them",
    "depth": "depth images",
    "camera_info": "calibration",
    "odom": "odometry, or poses",
    "fix": "GPS",
    "imu": "IMU",
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, once the arguments are known."""
    names = (*SETTINGS, *TOPICS, *COMMON)
    given = {name: LaunchConfiguration(name).perform(context) for name in names}
    arguments = {
        "node": "record",
        "overrides": json.dumps(
            {name: made(given[name]) for name, (made, _, _) in SETTINGS.items() if given[name]}
        ),
        "remappings": json.dumps({topic: given[topic] for topic in TOPICS if given[topic]}),
        **{name: given[name] for name in COMMON},
    }
    return [include(context, "node.launch.py", arguments)]


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
        *(
            DeclareLaunchArgument(
                name, default_value="", description=text, choices=choices and ["", *choices]
            )
            for name, (_, text, choices) in SETTINGS.items()
        ),
        *(
            DeclareLaunchArgument(name, default_value="", description=f"topic of: {text}")
            for name, text in TOPICS.items()
        ),
        *(
            DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
            for name, (default, text, choices) in COMMON.items()
        ),
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
