"""`pose2rgbd render|avoid|localize|record|play|monitor|sim live|up`: nodes from a shell.

Settings are flags, ROS' own come after --ros-args.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
import yaml

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError, counted, os_errors

NODES = ("render", "avoid", "localize", "record", "play", "monitor", "sim")
NEED_A_MODEL = ("render", "localize")
# The topics of a node that listens to the renderer beside it, unless a remapping says otherwise.
BESIDE = {
    "avoid": {
        "depth": "render/depth/image",
        "depth_lower": "render/depth_lower/image",
        "camera_info": "render/depth/camera_info",
        "status": "render/status",
        "rgb": "render/rgb/image",
    }
}
# And those of the simulator, where that is one of the nodes, as launch/bringup.launch.py gives them.
BESIDE_SIM = {
    "avoid": {"odometry": "truth/odometry"},
    "localize": {"image": "camera/image", "camera_info": "camera/camera_info", "odometry": "odom"},
    "record": {
        "image": "camera/image",
        "depth": "camera/depth/image",
        "camera_info": "camera/camera_info",
        "fix": "gps/fix",
        "imu": "imu/data",
    },
}


@dataclass
class UpConfig:
    """Several nodes in one process, as bringup.launch.py starts them in several.

    With `sim` among them the others follow its time and listen to its topics. Parameters of a node come after
    --ros-args, as in -p render:rate_hz:=10.0, and win.
    """

    nodes: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="NODE", help="render, avoid, localize, record, play, monitor, sim"),
    ] = field(default_factory=tuple)
    model: Annotated[
        str,
        tyro.conf.arg(
            help="what render shows; avoid compares its datum, and sim flies where it was trained, if in a simulation"
        ),
    ] = ""
    preset: Annotated[str, tyro.conf.arg(help="consumer to publish for, one of config/presets")] = ""


def main(argv: list[str]) -> int:
    """Run the node argv[0], or, for `up`, the nodes named next. Returns their exit status."""
    command, arguments = argv[0], argv[1:]
    require_ros(f"pose2rgbd {command}")
    from pose2rgbd_ros.nodes.common.runner import run_nodes

    own, ros = _split(arguments)
    if command == "up":
        config = tyro.cli(UpConfig, args=own, prog="pose2rgbd up")
        names = _names(config)
        before, after = _together(config)
        return run_nodes([_factory(name, _settings_of(name, config)) for name in names], [*before, *ros, *after])
    chosen, written = _chosen(command, own)
    if written:
        print(written)
        return 0
    rules = _remappings({command: BESIDE.get(command, {})})
    return run_nodes([_factory(command, chosen)], [*ros, *rules])


def require_ros(what: str, way_out: str = "") -> None:
    """UserError when this Python has no ROS 2, or our messages as they were before an update."""
    try:
        import rclpy  # noqa: F401
        from pose2rgbd.msg import RelativeDepth, RenderStatus  # noqa: F401
        from pose2rgbd.srv import RenderPose  # noqa: F401

        if not hasattr(RenderStatus, "WAITING_FOR_CAMERA"):
            raise ImportError("they are older than this program")
    except ImportError as error:
        raise UserError(
            f"{what} needs ROS 2 and this package's messages ({str(error).split(' (')[0]}); run `make setup` and "
            f"source .venv/bin/activate, or build and source your workspace{way_out and ','}{way_out}"
        ) from error


def _chosen(command: str, arguments: list[str]) -> tuple[Any, str]:
    """The settings of a node from its flags, which win over those of the profile that one of them names; and what is
    to be said when the others were to be written as a profile.
    """
    _, cls = _node(command)
    program = "pose2rgbd sim live" if command == "sim" else f"pose2rgbd {command}"
    if not (profile := getattr(cls, "PROFILE", "")):
        chosen = tyro.cli(cls, args=arguments, prog=program)
        settings.check(chosen)
        return chosen, ""
    from pose2rgbd_ros.nodes.common.parameters import profile_file

    about = f"write the settings that are no ROS parameters into this YAML file, for --{profile}, and end"
    file = Annotated[Path | None, tyro.conf.arg(name=f"write-{profile}", metavar="FILE", help=about)]
    both: Any = tuple[Annotated[cls, tyro.conf.arg(name="")], file]  # type: ignore[valid-type]
    default = cls()
    chosen, out = tyro.cli(both, args=arguments, prog=program, description=cls.__doc__, default=(default, None))
    if name := getattr(chosen, profile):
        default = settings.with_profile(default, profile_file(cls, name))
        chosen, out = tyro.cli(both, args=arguments, prog=program, default=(default, None))
    settings.check(chosen)
    if out is None:
        return chosen, ""
    if command == "sim":  # plan, seed, traffic and a model's world are of the world that is written
        from pose2rgbd_ros.nodes.sim.settings import world_of

        chosen, _ = world_of(chosen)
    values = settings.profile_of(chosen)
    if out.exists():
        raise UserError(f"{out} exists already; name another file")
    with os_errors(f"cannot write {out}"):
        settings.write_yaml(out, values)
    return chosen, f"{out}: {counted(len(settings.flat_dict(values)), 'setting')}; --{profile} {out} reads them"


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What is ours, and what is ROS' own from --ros-args on."""
    at = arguments.index("--ros-args") if "--ros-args" in arguments else len(arguments)
    return arguments[:at], arguments[at:]


def _names(config: UpConfig) -> tuple[str, ...]:
    known = f"nodes: {', '.join(NODES)}"
    if not config.nodes:
        raise UserError(f"which nodes? pose2rgbd up NODE NODE ... [--model RUN]; {known}")
    for name in config.nodes:
        if name not in NODES:
            raise UserError(f"no node '{name}'; {known}")
        if config.nodes.count(name) > 1:
            raise UserError(f"node '{name}' twice; one process runs each once")
    return config.nodes


def _factory(name: str, chosen: Any) -> Callable[[], Any]:
    """Makes the node, with these settings where ROS' own arguments, a parameter file or -p, say nothing else.

    UserError when it would wait for ever: a renderer by itself, of no model.
    """
    node_class, _ = _node(name)

    def make() -> Any:
        node = node_class(chosen)
        if name in NEED_A_MODEL and node.settings.autostart and not node.settings.model:
            node.destroy_node()
            raise UserError(
                f"{name} has no model; give --model FOLDER (ROS: -p model:=FOLDER), as `pose2rgbd train` makes it"
            )
        return node

    return make


def _node(name: str) -> tuple[Any, Any]:
    """Node class and settings dataclass; imported when asked for, since each pulls in a part of the house."""
    file = name if name in ("play", "monitor") else f"{name}.node"
    module = importlib.import_module(f"pose2rgbd_ros.nodes.{file}")
    return getattr(module, f"{name.capitalize()}Node"), getattr(module, f"{name.capitalize()}Settings")


def _settings_of(name: str, config: UpConfig) -> Any:
    """The settings of one of several nodes."""
    _, settings_class = _node(name)
    if config.model and name in ("render", "avoid", "sim"):
        return settings_class(model=str(Path(config.model).expanduser().resolve()))
    return settings_class()


def _together(config: UpConfig) -> tuple[list[str], list[str]]:
    """ROS' arguments for nodes that run together: parameters, which go before the user's, and remappings, which go
    after.

    The last value of a parameter counts, and the first remapping that fits a name. UserError for an unknown preset.
    """
    names = config.nodes
    rules = {name: dict(BESIDE.get(name, {})) for name in names}
    before: list[str] = []
    if "sim" in names:
        before = [word for name in names if name != "sim" for word in ("-p", f"{name}:use_sim_time:=true")]
        rules = {name: rules[name] | BESIDE_SIM.get(name, {}) for name in names}
    if config.preset:
        from pose2rgbd_ros.nodes.common.runner import share_directory

        presets = share_directory() / "config" / "presets"
        renamed = yaml.safe_load((presets / "remap.yaml").read_text())
        if config.preset not in renamed:
            raise UserError(f"no preset '{config.preset}'; there are {', '.join(sorted(renamed))}")
        before = ["--params-file", str(presets / f"{config.preset}.yaml"), *before]
        rules = {name: rules[name] | renamed[config.preset].get(name, {}) for name in names}
    return (["--ros-args", *before, "--"] if before else []), _remappings(rules)


def _remappings(rules: dict[str, dict[str, str]]) -> list[str]:
    """Remappings of each node."""
    words = [f"{name}:{topic}:={other}" for name, of in rules.items() for topic, other in of.items()]
    return ["--ros-args", *(word for rule in words for word in ("-r", rule)), "--"] if words else []
