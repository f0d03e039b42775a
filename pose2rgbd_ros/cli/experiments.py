"""`pose2rgbd experiments WHAT`: tables of many trainings, each by one command that goes on where it was stopped."""

from __future__ import annotations

import importlib
import sys

from pose2rgbd_ros.reports.table import aligned

# What there is, with the module whose `main(argv)` makes it; imported only when asked for.
KINDS = {
    "tables": ("pose2rgbd_ros.cli.experiments_tables", "the paper's tables 1, 2 and 3 on our data"),
    "compare": ("pose2rgbd_ros.cli.experiments_compare", "models side by side at equal training time"),
    "localization": ("pose2rgbd_ros.cli.experiments_localization", "ways of finding a camera side by side"),
    "pictures": ("pose2rgbd_ros.cli.experiments_pictures", "held-out frames as trained models show them"),
}


def usage() -> str:
    """The list of kinds."""
    rows = aligned((name, text) for name, (_, text) in KINDS.items())
    return (
        "usage: pose2rgbd experiments WHAT [options]   "
        f"(pose2rgbd experiments WHAT --help tells its options)\n\n{rows}"
    )


def main(argv: list[str]) -> int:
    """Hand over to one kind; its exit status. 2 when there is no such kind."""
    if argv and argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if not argv or argv[0] not in KINDS:
        wrong = f"there is no experiment '{argv[0]}'" if argv else "which experiment?"
        print(f"error: {wrong}\n\n{usage()}", file=sys.stderr)
        return 2
    module = importlib.import_module(KINDS[argv[0]][0])
    return int(module.main(argv[1:]) or 0)
