"""`pose2rgbd render|avoid|localize|record|play|monitor|sim live|up`: nodes from a shell.

Settings are flags, ROS' own come after --ros-args.
"""

from __future__ import annotations

import json
from typing import Any

import tyro

from pose2rgbd_ros import settings
from pose2rgbd_ros.cli.arguments import with_help
from pose2rgbd_ros.errors import UserError

NODES = ("render", "avoid", "localize", "record", "play", "monitor", "sim")
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


def main(argv: list[str]) -> int:
    """Run the node argv[0], or, for `up`, the nodes named next. Returns their exit status."""
    command, arguments = argv[0], argv[1:]
    require_ros(f"pose2rgbd {command}")
    from pose2rgbd_ros.nodes.runner import run_nodes

    own, ros = _split(arguments)
    if command == "up":
        names = _names(own)
        return run_nodes([_node(name)[0] for name in names], [*ros, *_beside(names)])
    node, settings_class = _node(command)
    program = "pose2rgbd sim live" if command == "sim" else f"pose2rgbd {command}"
    chosen = tyro.cli(with_help(settings_class), args=own, prog=program)
    settings.check(chosen)
    return run_nodes([node], [*_as_ros_arguments(settings_class, chosen), *ros, *_beside([command])])


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
            f"{what} needs ROS 2 and this package's messages ({str(error).split(' (')[0]}); "
            f"run `make setup` and source .venv/bin/activate, or build and source your workspace{way_out and ','}{way_out}"
        ) from error


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What is ours, and what is ROS' own from --ros-args on."""
    at = arguments.index("--ros-args") if "--ros-args" in arguments else len(arguments)
    return arguments[:at], arguments[at:]


def _names(arguments: list[str]) -> list[str]:
    usage = (
        f"usage: pose2rgbd up NODE NODE ... [--ros-args -p NODE:PARAMETER:=VALUE]; nodes: {', '.join(NODES)}"
    )
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage)
        raise SystemExit(0 if arguments else 2)
    unknown = [name for name in arguments if name not in NODES]
    if unknown:
        raise UserError(f"no node '{unknown[0]}'; {usage}")
    return arguments


def _node(name: str) -> tuple[Any, Any]:
    """Node class and settings dataclass; imported when asked for, since each pulls in a part of the house."""
    if name == "render":
        from pose2rgbd_ros.nodes.render import RenderNode, RenderSettings

        return RenderNode, RenderSettings
    if name == "avoid":
        from pose2rgbd_ros.nodes.avoid import AvoidNode, AvoidSettings

        return AvoidNode, AvoidSettings
    if name == "localize":
        from pose2rgbd_ros.nodes.localize import LocalizeNode, LocalizeSettings

        return LocalizeNode, LocalizeSettings
    if name == "record":
        from pose2rgbd_ros.nodes.record import RecordNode, RecordSettings

        return RecordNode, RecordSettings
    if name == "play":
        from pose2rgbd_ros.nodes.play import PlayNode, PlaySettings

        return PlayNode, PlaySettings
    if name == "sim":
        from pose2rgbd_ros.nodes.sim import SimNode, SimSettings

        return SimNode, SimSettings
    from pose2rgbd_ros.nodes.monitor import MonitorNode, MonitorSettings

    return MonitorNode, MonitorSettings


def _beside(names: list[str]) -> list[str]:
    """Remappings to the renderer's topics, to come last: the first rule that fits a name is the one that counts."""
    rules = [f"{name}:{topic}:={other}" for name in names for topic, other in BESIDE.get(name, {}).items()]
    return ["--ros-args", *(word for rule in rules for word in ("-r", rule)), "--"] if rules else []


def _as_ros_arguments(settings_class: Any, chosen: Any) -> list[str]:
    """Settings that differ from their default as -p name:=value; ROS' own arguments come later and win."""
    default, arguments = settings.to_flat(settings_class()), ["--ros-args"]
    for name, value in settings.to_flat(chosen).items():
        if value != default[name]:
            arguments += ["-p", f"{name}:={json.dumps(value)}"]  # JSON is YAML, and says the type
    return [*arguments, "--"] if len(arguments) > 1 else []
