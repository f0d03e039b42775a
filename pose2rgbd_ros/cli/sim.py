"""`pose2rgbd sim WHAT`: the simulated city as a dataset, as a recording, or live."""

from __future__ import annotations

import importlib
import sys

from pose2rgbd_ros.reports.table import aligned

# What there is, with the module whose `main(argv)` makes it; imported only when asked for.
KINDS = {
    "dataset": ("pose2rgbd_ros.cli.sim_dataset", "a flight as a dataset: frames with exact poses and depth"),
    "bag": ("pose2rgbd_ros.cli.sim_bag", "a flight as a ROS 2 recording, with the faults of real sensors"),
    "gallery": ("pose2rgbd_ros.cli.sim_gallery", "pictures of the city and of the flight"),
    "live": (
        "pose2rgbd_ros.cli.nodes",
        "the world as a ROS node: images, sensors and TF; takes commands to fly",
    ),
}


def usage() -> str:
    """The list of kinds."""
    rows = aligned((name, text) for name, (_, text) in KINDS.items())
    return f"usage: pose2rgbd sim WHAT [options]   (pose2rgbd sim WHAT --help tells its options)\n\n{rows}"


def main(argv: list[str]) -> int:
    """Hand over to one kind; its exit status. 2 when there is no such kind."""
    if argv and argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if not argv or argv[0] not in KINDS:
        wrong = f"there is no '{argv[0]}' to simulate" if argv else "simulate what?"
        print(f"error: {wrong}\n\n{usage()}", file=sys.stderr)
        return 2
    kind, arguments = argv[0], argv[1:]
    module = importlib.import_module(KINDS[kind][0])
    return int(module.main(["sim", *arguments] if kind == "live" else arguments) or 0)
