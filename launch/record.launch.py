"""Record a dataset: ros2 launch pose2rgbd record.launch.py out:=flight image:=/camera/image_raw odom:=/odometry

An argument left empty takes the value of the parameter file. Topics that keep their names need no argument.
"""

import json
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import SetRemap

SHARE = Path(get_package_share_directory("pose2rgbd"))
YES = ("true", "1")
# Passed on as they are to node.launch.py.
COMMON = {
    "namespace": ("", "namespace of the node and its topics, but for /tf"),
    "use_sim_time": ("false", "follow /clock"),
    "params_file": (str(SHARE / "config" / "record.yaml"), "parameters of the node"),
    "autostart": ("true", "configure and activate the node at once"),
    "log_level": ("info", "debug, info, warn, error or fatal"),
    "use_respawn": ("false", "start the node again when it ends unexpectedly"),
    "fastdds_profile": (
        "true",
        "let Fast DDS use config/fastdds.xml, unless the environment names a profile",
    ),
}
# Argument -> how its text becomes the parameter of that name, and what it means.
SETTINGS = {
    "out": (
        lambda text: str(Path(text).expanduser().absolute()),
        "dataset folder; %Y and the like are the time, as in strftime",
    ),
    "resume": (lambda text: text.lower() in YES, "go on with a dataset that is there"),
    "start_recording": (lambda text: text.lower() in YES, "record at once; false waits for ~/start"),
    "cameras": (str, "names of several cameras, with commas between"),
    "bag": (str, "mcap: also record everything received, as it is; none"),
    "position": (str, "where positions come from: auto, pose, gps or fused"),
    "body_to_camera": (str, "where the camera sits on the body: auto (TF), forward, nadir, or numbers"),
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
    overrides = {name: made(given[name]) for name, (made, _) in SETTINGS.items() if given[name]}
    remaps = [SetRemap(topic, given[topic]) for topic in TOPICS if given[topic]]
    arguments = {name: given[name] for name in COMMON}
    source = PythonLaunchDescriptionSource(str(SHARE / "launch" / "node.launch.py"))
    node = IncludeLaunchDescription(
        source,
        launch_arguments={"node": "record", "overrides": json.dumps(overrides), **arguments}.items(),
    )
    return [GroupAction([*remaps, node])]


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    declared = [
        *(
            DeclareLaunchArgument(name, default_value="", description=text)
            for name, (_, text) in SETTINGS.items()
        ),
        *(
            DeclareLaunchArgument(name, default_value="", description=f"topic of: {text}")
            for name, text in TOPICS.items()
        ),
        *(
            DeclareLaunchArgument(name, default_value=default, description=text)
            for name, (default, text) in COMMON.items()
        ),
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
