"""`pose2rgbd demo-bag`: a small synthetic flight recording."""

from __future__ import annotations

import tyro

from pose2rgbd_ros.settings import check
from pose2rgbd_ros.sim.demo_bag import DemoBagConfig, write_demo_bag


def main(argv: list[str]) -> int:
    """Write the recording and say where it is."""
    config = tyro.cli(DemoBagConfig, args=argv, prog="pose2rgbd demo-bag", description=__doc__)
    check(config)
    print(f"wrote {write_demo_bag(config)}")
    return 0
