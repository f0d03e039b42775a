"""`pose2rgbd view RUN ... [DATASET]`: the learned place in a browser."""

from __future__ import annotations

import gc
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.viewer.settings import ViewSettings

if TYPE_CHECKING:  # it loads what renders
    from pose2rgbd_ros.viewer.place import Place


@dataclass(frozen=True)
class Arguments:
    """Fly through what models learnt, beside what was recorded, in a browser. Nothing leaves this computer."""

    paths: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN ... [DATASET]", help="runs, side by side, and the dataset they were trained on"),
    ] = ()
    dataset: Annotated[Path | None, tyro.conf.arg(help="the dataset, for the recorded frames")] = None
    ros: Annotated[
        bool, tyro.conf.arg(help="follow the live camera by TF, image and scan; ROS' own after --ros-args")
    ] = False
    settings: Annotated[ViewSettings, tyro.conf.arg(name="")] = field(default_factory=ViewSettings)


def main(argv: list[str]) -> int:
    """Serve until interrupted, or write the page of --export. UserError for bad runs, datasets, addresses."""
    at = argv.index("--ros-args") if "--ros-args" in argv else len(argv)
    arguments = tyro.cli(Arguments, args=argv[:at], prog="pose2rgbd view")
    if at < len(argv) and not arguments.ros:
        raise UserError("--ros-args is for --ros; add it, or leave both out")
    if arguments.ros:
        from pose2rgbd_ros.cli.nodes import require_ros

        require_ros("pose2rgbd view --ros", " or leave --ros out")
    settings = arguments.settings
    if settings.export is not None:
        from pose2rgbd_ros.viewer.server import export

        print(export(_place(arguments), settings, settings.export))
        return 0
    from pose2rgbd_ros.viewer.listen import announce, open_server, stop

    is_likely = bool(arguments.paths) and all(path.exists() for path in arguments.paths)  # else not yet: no empty page
    gc.disable()  # there is nothing to collect while modules and models are loaded, but to look takes a tenth of it
    server = open_server(settings)
    try:
        if is_likely:  # now: a browser takes as long to load the page as we to load the models
            announce(server, settings)
        place = _place(arguments)
    except BaseException:
        stop(server)
        raise
    finally:
        gc.enable()
    if not is_likely:
        announce(server, settings)
    if arguments.ros:
        from pose2rgbd_ros.nodes.view import serve_live

        return serve_live(server, place, settings, argv[at:])
    from pose2rgbd_ros.viewer.server import serve

    serve(server, place, settings, None, wait_for_end)
    return 0


def _place(arguments: Arguments) -> Place:
    from pose2rgbd_ros.viewer.place import Place, split_paths

    return Place(*split_paths(arguments.paths, arguments.dataset), arguments.settings)


def wait_for_end() -> None:
    """Until Ctrl-C or a request to end."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    while not over.wait(0.5):
        pass
