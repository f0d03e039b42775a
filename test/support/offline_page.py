"""Serve a model and look at it, all within this process' network; prints what the page asked for.

unshare --net python test/support/offline_page.py RUN
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support.browser import browser

from pose2rgbd_ros.viewer.place import Place
from pose2rgbd_ros.viewer.server import Viewer
from pose2rgbd_ros.viewer.settings import ViewSettings


def packets_beyond_loopback() -> int:
    """Packets that any other interface has sent or taken."""
    lines = Path("/proc/net/dev").read_text().splitlines()[2:]
    counts = {line.split(":")[0].strip(): line.split(":")[1].split() for line in lines}
    return sum(int(count[1]) + int(count[9]) for name, count in counts.items() if name != "lo")


def main(run: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    settings = ViewSettings(size=96, moving_size=48, niceness=0)
    viewer = Viewer(Place([Path(run)], None, settings), settings)
    try:
        with browser(640, 480) as page:
            page.open(viewer.address)
            page.until(lambda: len(page.pictures) >= 2, "picture")
            hosts, errors = ", ".join(sorted(page.hosts())), "; ".join(page.errors()) or "none"
        print(f"shown; hosts: {hosts}; errors: {errors}; packets beyond loopback: {packets_beyond_loopback()}")
    finally:
        viewer.close()


if __name__ == "__main__":
    main(sys.argv[1])
