"""Prints the pins of every library pip installed here, but for ROS and torch, which have files of their own.

`pip freeze` would do but for the ROS wheels: they carry metadata of packages that are not distributions of their own.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

OWN = {"pose2rgbd-ros", "pose2rgbd-underlay", "pip", "torch"}


def normal(name: str) -> str:
    """The registry's spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Print `name==version` lines, sorted."""
    ros_lock = Path(__file__).parents[1] / "requirements" / "ros-jazzy.lock"
    elsewhere = OWN | {normal(line.split("==")[0]) for line in ros_lock.read_text().split()}
    pins = {
        f"{normal(dist.name)}=={dist.version}"
        for dist in metadata.distributions()
        if (dist.read_text("INSTALLER") or "").strip() == "pip" and normal(dist.name) not in elsewhere
    }
    print("\n".join(sorted(pins)))


if __name__ == "__main__":
    main()
