"""Pictures of the docs: `pose2rgbd view` in a headless Chromium, as a user drives it.

python bench/viewer_pictures.py RUN DATASET               # writes docs/images/viewer_*.jpg
python bench/viewer_pictures.py RUN DATASET --other RUN2  # with a second model, for the picture of both
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test"))

from support.browser import Browser, browser

from pose2rgbd_ros.viewer.page import Page
from pose2rgbd_ros.viewer.place import Place
from pose2rgbd_ros.viewer.server import Viewer, export
from pose2rgbd_ros.viewer.settings import ViewSettings

ROOT = Path(__file__).resolve().parents[1]
SIZE, QUALITY = (1200, 780), 82
SETTLED_S = 2.5


def settle(page: Page) -> None:
    """Until the full picture is on the screen."""
    before = page.shown_count
    page.look()
    end_s = time.monotonic() + 20
    while page.shown_count < before + 2 and time.monotonic() < end_s:
        time.sleep(0.05)
    time.sleep(SETTLED_S)


def quiet(window: Browser) -> None:
    """Without what the browser says of its missing graphics card."""
    window.driver.execute_script(
        "document.querySelectorAll('.mantine-Notification-closeButton').forEach(b => b.click())"
    )
    time.sleep(0.5)


def overview(place: Place) -> np.ndarray:
    """A pose behind and above the track's middle camera, looking the same way."""
    T = place.track.T_map_cam[len(place.track.T_map_cam) // 3].copy()
    back_m = 0.35 * place.models[0].renderer.guard.score.distance_m
    T[:3, 3] += -back_m * T[:3, 2] - 0.25 * back_m * T[:3, 1]
    return T


def main() -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    arguments = parser.parse_args()
    settings = ViewSettings(size=900, niceness=0, browser="none")
    runs = [arguments.run, *([arguments.other] if arguments.other else [])]
    place = Place(runs, arguments.dataset, settings)
    viewer = Viewer(place, settings)
    try:
        with browser(*SIZE) as window:
            window.open(viewer.address)
            window.until(lambda: len(window.pictures) >= 2, "picture")
            quiet(window)
            (page,) = viewer.pages.values()
            page.go_to(overview(place))
            settle(page)
            window.screenshot(arguments.out / "viewer.jpg", QUALITY)
            page.go_to_frame(int(np.flatnonzero(place.track.kind == "judging")[0]))
            window.press("g")
            settle(page)
            window.screenshot(arguments.out / "viewer_frame.jpg", QUALITY)
            print("errors of the page:", window.errors() or "none")
        with browser(phone=True) as phone:
            phone.open(viewer.address)
            phone.until(lambda: len(phone.pictures) >= 2, "picture")
            quiet(phone)
            time.sleep(SETTLED_S)
            phone.screenshot(arguments.out / "viewer_phone.jpg", QUALITY)
    finally:
        viewer.close()
    file = arguments.out / "viewer_export.html"
    try:
        export(Place(runs[:1], arguments.dataset, settings), settings, file)
        with browser(*SIZE) as window:
            window.open(file.as_uri(), counting=False)
            time.sleep(2 * SETTLED_S)
            quiet(window)
            window.screenshot(arguments.out / "viewer_export.jpg", QUALITY)
    finally:
        file.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
