"""`pose2rgbd COMMAND ...`: finds the command, runs it, and reports bad input in one line."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.reports.table import aligned

# Each command is `function(argv) -> exit status` of a module (`main` where none is named), imported only when it is
# asked for, so that `--help` stays quick.
COMMANDS = {
    "doctor": ("pose2rgbd_ros.cli.doctor", "what a recording is, what is wrong with it and what will come of it"),
    "convert": ("pose2rgbd_ros.cli.data:convert_main", "rosbag -> dataset"),
    "import": ("pose2rgbd_ros.cli.data:import_main", "another tool's dataset (TUM, KITTI, COLMAP ...) -> dataset"),
    "sync": ("pose2rgbd_ros.cli.data:sync_main", "how far the clock of the images is from that of the poses"),
    "align": ("pose2rgbd_ros.cli.data:align_main", "poses, lens and points of a dataset by structure from motion"),
    "depth": ("pose2rgbd_ros.cli.depth:depth_main", "depth from pictures: of a dataset; learnt from video"),
    "inspect": ("pose2rgbd_ros.cli.data:inspect_main", "summary, contact sheet and track of a dataset"),
    "train": ("pose2rgbd_ros.cli.learn:train_main", "dataset -> model"),
    "evaluate": ("pose2rgbd_ros.cli.learn:evaluate_main", "model against two baselines: table and contact sheet"),
    "calibrate": (
        "pose2rgbd_ros.cli.learn:calibrate_main",
        "bounds of a model's depth, and a guard, from held-out frames",
    ),
    "view": ("pose2rgbd_ros.cli.view", "fly through models in a browser, beside the recorded frames"),
    "locate": ("pose2rgbd_ros.cli.locate", "images -> poses, by a model that finds them"),
    "synthesize": (
        "pose2rgbd_ros.cli.synthesize",
        "virtual routes, more frames, views without traffic: sheets, videos, scores",
    ),
    "experiments": ("pose2rgbd_ros.cli.experiments", "the paper's tables; models side by side at equal time"),
    "bench": ("pose2rgbd_ros.cli.bench", "speeds on this machine: the paper's Table 4; pages of bench/results"),
    "export": ("pose2rgbd_ros.cli.learn:export_main", "model -> ONNX graph; dataset -> another tool's format"),
    "run": ("pose2rgbd_ros.cli.run", "rosbag -> dataset -> model -> live node -> report, in one command"),
    "render": ("pose2rgbd_ros.cli.nodes", "ROS node: images at the current TF pose"),
    "avoid": ("pose2rgbd_ros.cli.nodes", "ROS node: predicted (and live) depth as scans and distances"),
    "localize": ("pose2rgbd_ros.cli.nodes", "ROS node: the camera's pose from its images alone"),
    "record": ("pose2rgbd_ros.cli.nodes", "ROS node: live topics -> dataset, and an mcap if wished"),
    "play": ("pose2rgbd_ros.cli.nodes", "ROS node: replay a recording's images and TF"),
    "monitor": ("pose2rgbd_ros.cli.nodes", "ROS node: rate, latency and errors of the rendered images"),
    "sim": ("pose2rgbd_ros.cli.sim", "a simulated city: dataset, recording, or live world (sim live: ROS node)"),
    "up": ("pose2rgbd_ros.cli.nodes", "several nodes in one process"),
    "status": ("pose2rgbd_ros.cli.road", "what of the road is done in a folder, and the next command"),
    "completion": ("pose2rgbd_ros.cli.completion", "completion of all this in bash, zsh or fish"),
}

# Commands that print a result with --json, and whether a word after them says which of several jobs it is.
REPORTING = {
    "doctor": False, "convert": False, "import": False, "sync": False, "align": False, "depth": True, "inspect": False,
    "train": False, "evaluate": False, "calibrate": False, "locate": False, "synthesize": True, "experiments": True,
    "bench": True, "export": False, "run": False, "sim": True, "status": False,
}  # fmt: skip


def usage() -> str:
    """The list of commands."""
    rows = aligned((name, text) for name, (_, text) in COMMANDS.items())
    return f"usage: pose2rgbd COMMAND [options]   (pose2rgbd COMMAND --help: its options)\n\n{rows}"


def main(argv: list[str] | None = None) -> int:
    """Run one command, by default the one that this process was started for.

    Exit status: 0 done, 1 the job ran and failed, 2 bad input, 130 interrupted; a ROS node that is interrupted is done.
    """
    if argv is None:
        return _as_process(sys.argv[1:])
    if argv and argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if not argv:
        return _run("status", [])
    command, arguments = argv[0], argv[1:]
    if command not in COMMANDS:
        print(f"error: no command '{command}'\n\n{usage()}", file=sys.stderr)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    # cli.nodes serves several commands, so it needs the name.
    arguments = [command, *arguments] if COMMANDS[command][0].endswith(".nodes") else arguments
    if "--json" in arguments and command in REPORTING:
        from pose2rgbd_ros.cli.results import as_document

        job = argv[1] if REPORTING[command] and not argv[1].startswith("-") else ""
        what = f"{command} {job}".rstrip()
        return as_document(what, argv[1:], lambda: _run(command, arguments))
    return _run(command, arguments)


def _run(command: str, arguments: list[str]) -> int:
    """The exit status of a command, faults of the input said in one line."""
    try:
        module, _, function = COMMANDS[command][0].partition(":")
        status = int(getattr(importlib.import_module(module), function or "main")(arguments) or 0)
        sys.stdout.flush()
        return status
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in ("", "pose2rgbd_ros"):  # a fault of ours
            raise
        print(
            f"error: pose2rgbd {command} needs the Python library {library}, which {sys.executable} does not have; "
            "run `make setup` in the checkout, then start it from its .venv or build the workspace again; without ROS "
            "pip install 'pose2rgbd-ros[all]' (docs/install.md)",
            file=sys.stderr,
        )
        return 2
    except PermissionError as error:
        if error.filename is None:  # no path that was given
            raise
        print(f"error: {error.filename}: permission denied; change its rights or choose another path", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output has seen enough, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


# A job of a command: its arguments for tyro (None: it takes the words as they are), what does it, a line about it.
Job = tuple[type[Any] | None, Callable[[Any], int], str]


def one_of(jobs: Mapping[str, Job], command: str, argv: list[str]) -> int:
    """`pose2rgbd COMMAND WHAT ...`: the exit status of one job; 2 where there is no such job.

    A job imports torch and the like by itself, so that the help of all stays quick.
    """
    rows = aligned((name, text) for name, (_, _, text) in jobs.items())
    usage = f"usage: pose2rgbd {command} WHAT [options]   (pose2rgbd {command} WHAT --help: its options)\n\n{rows}"
    what = argv[0] if argv else ""
    if what in ("-h", "--help", "help"):
        print(usage)
        return 0
    if what not in jobs:
        wrong = f"pose2rgbd {command} has no '{what}'" if what else f"pose2rgbd {command} what?"
        print(f"error: {wrong}\n\n{usage}", file=sys.stderr)
        return 2
    import tyro

    arguments, run, _ = jobs[what]
    if arguments is None:
        return run(argv[1:])
    return run(tyro.cli(arguments, args=argv[1:], prog=f"pose2rgbd {command} {what}"))


def node() -> int:
    """`ros2 run pose2rgbd render|avoid|localize|record|play|monitor|sim`: the name of the executable is the command."""
    name = Path(sys.argv[0]).name
    return _as_process([name, *(["live"] if name == "sim" else []), *sys.argv[1:]])


def _as_process(argv: list[str]) -> int:
    """Run a command that is all this process is for."""
    is_node = bool(argv) and (argv[:2] == ["sim", "live"] or COMMANDS.get(argv[0], ("",))[0].endswith(".nodes"))
    if is_node:
        # Until the nodes take the signals themselves nothing is at stake: imports take seconds on a busy machine.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os._exit(0))
    status = main(argv)
    if is_node:
        _end(status)
    return status


def _end(status: int) -> NoReturn:
    """End the process of nodes that are destroyed, without taking down the interpreter.

    Files are closed and threads have ended by now. Python would go on to destroy all that PyTorch, ONNX Runtime and
    Numba brought along, up to a second of processor time (bench/node_shutdown.py), and on a busy machine a launch
    file kills what takes long.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    gc.collect()  # a lifecycle node is a cycle; with it goes its DDS participant, which announces that it leaves
    atexit._run_exitfuncs()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # its reader is gone, as in `... | head`
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
