"""Start the simulated city and what works on it: ros2 launch pose2rgbd bringup.launch.py model:=/path/to/run

Each part can be left out (sim:=false, for a real drone) and has a launch file of its own for all its arguments. All but
the simulator follow /clock while it runs. Where the model was trained in a simulated city, that city and flight are
flown, unless world, plan, seed or sim_params_file say otherwise. record:=true records a dataset; it finds the topics of
the simulator by itself. avoid:=true adds clouds, scans and distances for obstacle avoidance; preset:=CONSUMER makes
them fit one (docs/consumers/). localize:=true localize_model:=RUN finds the camera in its images alone; render:=false
leaves the renderer out.
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction

from pose2rgbd_ros.nodes.common import launch_files as ours

# Part -> the arguments of its own that are passed on, and no others; its launch file is PART.launch.py.
PARTS = {
    "sim": ("model", "real_time_factor", "world", "plan", "seed", "cars", "people", "tf"),
    "render": ("model", "camera_info_topic", "preset"),
    "avoid": ("model", "preset", "odometry"),
    "localize": (
        "localize_model", "renderer", "image", "camera_info", "odometry", "body_frame", "send_tf", "preset"
    ),
    "record": (
        "out", "resume", "start_recording", "bag", "position", "image", "depth", "camera_info", "odom", "fix", "imu",
        "gimbal",
    ),
}  # fmt: skip
LEFT_OUT = ("avoid", "localize", "record")  # unless asked for
# Part -> what it listens to while the simulator runs, unless remapped.
SIM_TOPICS = {
    "avoid": {"odometry": "truth/odometry"},
    "localize": {"image": "camera/image", "camera_info": "camera/camera_info", "odometry": "odom"},
    "record": {
        "image": "camera/image", "depth": "camera/depth/image", "camera_info": "camera/camera_info",
        "fix": "gps/fix", "imu": "imu/data",
    },
}  # fmt: skip
COMMON = ours.common_arguments(
    params_file=None,
    use_sim_time=None,
    namespace="namespace of all nodes",
    autostart="configure and activate the nodes at once",
    use_respawn="start a node again when it ends unexpectedly; a recorder goes on",
)


def generate_launch_description() -> LaunchDescription:
    """Called by ros2 launch."""
    declared = []
    for part in PARTS:
        default, file = str(part not in LEFT_OUT).lower(), ours.default_file(part)
        declared += [
            DeclareLaunchArgument(part, default_value=default, description=f"start {part}", choices=ours.BOOL),
            DeclareLaunchArgument(f"{part}_params_file", default_value=file, description=f"parameters of {part}"),
        ]  # fmt: skip
    for name in dict.fromkeys(name for names in PARTS.values() for name in names):
        files = " and ".join(f"{part}.launch.py" for part, names in PARTS.items() if name in names)
        declared.append(DeclareLaunchArgument(name, default_value="", description=f"see {files}"))
    declared += [*COMMON, ours.rviz_argument("show it in RViz")]
    return LaunchDescription([*declared, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The parts that are wanted."""
    given = context.launch_configurations
    wanted = [part for part in PARTS if ours.is_true(given[part])]
    refuse_what_cannot_start(wanted, given)
    sim_time = str("sim" in wanted).lower()
    files = []
    for part in wanted:
        arguments = {name: given[name] for name in (*(item.name for item in COMMON), *PARTS[part])}
        arguments["params_file"] = given[f"{part}_params_file"]
        if part == "localize":
            arguments["model"] = arguments.pop("localize_model")  # model is the renderer's
        if part == "sim":
            own_file = given["sim_params_file"] != ours.default_file("sim")
            flown_otherwise = own_file or any(given[name] for name in ("world", "plan", "seed"))
            arguments["model"] = "" if flown_otherwise else given["model"]
        else:
            arguments["use_sim_time"] = sim_time
            topics = SIM_TOPICS.get(part, {}) if "sim" in wanted else {}
            arguments |= {name: given[name] or topic for name, topic in topics.items()}
        files.append(ours.include(context, f"{part}.launch.py", arguments))
    view = "avoid" if "avoid" in wanted else "sim" if "sim" in wanted else "render"
    return [*files, *ours.rviz(context, view, sim_time)]


def refuse_what_cannot_start(wanted: list[str], given: dict[str, str]) -> None:
    """Before the first node runs: an exception in a later part would leave it running, with nobody to stop it."""
    for part in wanted:
        file = given[f"{part}_params_file"]
        if not Path(file).expanduser().is_file():
            raise RuntimeError(f"{part}_params_file:={file} is not a file")
    if "render" in wanted:
        otherwise = "; or leave it out: render:=false"
        ours.refuse_missing_model("render", given, file="render_params_file", otherwise=otherwise)
    ours.refuse_missing_folders(given, "model")
    if "localize" in wanted:
        ours.refuse_missing_model("localize", given, "localize_model", "localize_params_file")
        ours.refuse_missing_folders(given, "localize_model", "renderer")
