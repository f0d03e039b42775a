"""Start the simulated city and what works on it: ros2 launch pose2rgbd bringup.launch.py model:=/path/to/run

Each part can be left out (sim:=false, for a real drone) and has a launch file of its own for all its arguments. All but
the simulator follow /clock while it runs. Where the model was trained in a simulated city, that city and flight are flown,
unless plan, seed or sim_params_file say otherwise. record:=true records a dataset; it finds the simulator's topics by itself.
avoid:=true adds clouds, scans and distances for obstacle avoidance, and preset:=CONSUMER makes them fit one (docs/consumers/).
localize:=true localize_model:=RUN finds the camera in its images alone; render:=false leaves the renderer out.
"""

from collections.abc import Callable
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
# Part -> the arguments of its own that are passed on, and no others; its launch file is PART.launch.py.
PARTS = {
    "sim": ("model", "real_time_factor", "plan", "seed", "cars", "people", "tf"),
    "render": ("model", "camera_info_topic", "preset"),
    "avoid": ("model", "preset", "odometry"),
    "localize": (
        "localize_model",
        "renderer",
        "image",
        "camera_info",
        "odometry",
        "body_frame",
        "send_tf",
        "preset",
    ),
    "record": (
        "out",
        "resume",
        "start_recording",
        "bag",
        "position",
        "image",
        "depth",
        "camera_info",
        "odom",
        "fix",
        "imu",
    ),
}
LEFT_OUT = ("avoid", "localize", "record")  # unless asked for
# What the recorder listens to while the simulator runs, unless told otherwise.
SIM_TOPICS = {
    "image": "camera/image",
    "depth": "camera/depth/image",
    "camera_info": "camera/camera_info",
    "fix": "gps/fix",
    "imu": "imu/data",
}
COMMON = {
    "namespace": ("", "namespace of all nodes", None),
    "autostart": ("true", "configure and activate the nodes at once", BOOL),
    "log_level": ("info", "what is logged", ["debug", "info", "warn", "error", "fatal"]),
    "use_respawn": ("false", "start a node again when it ends unexpectedly; a recorder goes on", BOOL),
    "fastdds_profile": (
        "true",
        "let Fast DDS use config/fastdds.xml, unless the environment names a profile",
        BOOL,
    ),
}


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The parts that are wanted."""

    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    wanted = [part for part in PARTS if given(part).lower() in YES]
    refuse_what_cannot_start(wanted, given)
    sim_time = str("sim" in wanted).lower()
    files = []
    for part in wanted:
        arguments = {name: given(name) for name in (*COMMON, *PARTS[part])}
        arguments["params_file"] = given(f"{part}_params_file")
        if part != "sim":
            arguments["use_sim_time"] = sim_time
        if part == "sim" and flown_otherwise(given):
            arguments["model"] = ""
        if part == "localize":
            arguments["model"] = arguments.pop("localize_model")  # model is the renderer's
        if part == "localize" and "sim" in wanted:
            arguments |= {name: arguments[name] or SIM_TOPICS[name] for name in ("image", "camera_info")}
            arguments["odometry"] = arguments["odometry"] or "odom"
        if part == "avoid" and "sim" in wanted:
            arguments["odometry"] = arguments["odometry"] or "truth/odometry"
        if part == "record" and "sim" in wanted:
            arguments |= {name: arguments[name] or topic for name, topic in SIM_TOPICS.items()}
        files.append(include(context, f"{part}.launch.py", arguments))
    if given("rviz").lower() in YES:
        view = "avoid" if "avoid" in wanted else "sim" if "sim" in wanted else "render"
        shown = {"view": view, "namespace": given("namespace"), "use_sim_time": sim_time}
        files.append(include(context, "rviz.launch.py", shown))
    return files


def flown_otherwise(given: Callable[[str], str]) -> bool:
    """Whether the simulator is not to fly where the model was trained."""
    return bool(given("plan") or given("seed") or given("sim_params_file") != default_file("sim"))


def refuse_what_cannot_start(wanted: list[str], given: Callable[[str], str]) -> None:
    """Before the first node runs: an exception in the file of a later part would leave it running, with nobody to stop it."""
    for part in wanted:
        file = given(f"{part}_params_file")
        if not Path(file).expanduser().is_file():
            raise RuntimeError(f"{part}_params_file:={file} is not a file")
    model = given("model")
    if "render" in wanted and not model and given("render_params_file") == default_file("render"):
        raise RuntimeError(
            "render needs model:=FOLDER, made by `pose2rgbd train`; or leave it out: render:=false"
        )
    if model and not Path(model).expanduser().is_dir():
        raise RuntimeError(f"model:={model} is not a folder; give one made by `pose2rgbd train`")
    found = given("localize_model")
    if "localize" in wanted and not found and given("localize_params_file") == default_file("localize"):
        raise RuntimeError("localize needs localize_model:=FOLDER, made by `pose2rgbd train --model posegan`")
    for name in ("localize_model", "renderer"):
        if "localize" in wanted and given(name) and not Path(given(name)).expanduser().is_dir():
            raise RuntimeError(f"{name}:={given(name)} is not a folder; give one made by `pose2rgbd train`")
    if given("rviz").lower() in YES:
        get_package_prefix("rviz2")


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


def default_file(part: str) -> str:
    """The parameter file that comes with a part."""
    return str(SHARE / "config" / f"{part}.yaml")


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    declared = []
    owners: dict[str, list[str]] = {}
    for part, own in PARTS.items():
        for name in own:
            owners.setdefault(name, []).append(f"{part}.launch.py")
        declared += [
            DeclareLaunchArgument(
                part,
                default_value=str(part not in LEFT_OUT).lower(),
                description=f"start {part}",
                choices=BOOL,
            ),
            DeclareLaunchArgument(
                f"{part}_params_file", default_value=default_file(part), description=f"parameters of {part}"
            ),
        ]
    declared += [
        DeclareLaunchArgument(name, default_value="", description=f"see {' and '.join(files)}")
        for name, files in owners.items()
    ]
    declared += [
        DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
        for name, (default, text, choices) in COMMON.items()
    ]
    rviz = DeclareLaunchArgument("rviz", default_value="false", description="show it in RViz", choices=BOOL)
    return LaunchDescription([*declared, rviz, OpaqueFunction(function=start)])
