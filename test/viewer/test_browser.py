"""The page in a real Chromium: it opens, flies, switches layers, blinks a frame, and asks nobody but its own server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import viser
from support import browser as browsers
from support.browser import LOCAL, Browser
from viewer.conftest import SMALL

from pose2rgbd_ros.viewer.page import Page
from pose2rgbd_ros.viewer.path import parse_pose
from pose2rgbd_ros.viewer.pictures import BLINK, DEPTH, OFF, View
from pose2rgbd_ros.viewer.server import Viewer, export

pytestmark = pytest.mark.skipif(bool(browsers.missing()), reason=browsers.missing())


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browsers.browser(900, 600) as found:
        yield found


@pytest.fixture
def opened(chromium: Browser, viewer: Viewer) -> Browser:
    """The page, at its first full picture."""
    show(chromium, viewer)
    return chromium


def show(chromium: Browser, viewer: Viewer) -> None:
    """Open the page, up to its first full picture."""
    chromium.errors()
    chromium.hosts()
    chromium.open(viewer.address)
    chromium.until(lambda: any(width * height > 80**2 for _, width, height in chromium.pictures), "picture")


def page_of(browser: Browser, viewer: Viewer) -> Page:
    """The server's page of the one browser; a busy machine may drop its connection, which it then opens again."""
    browser.until(lambda: len(viewer.pages) == 1, "page")
    return next(iter(viewer.pages.values()))


def view_of(page: Page) -> View:
    view = page.view()
    assert view is not None
    return view


def turned(page: Page, before: np.ndarray) -> float:
    return float(np.abs((view_of(page).T_map_cam - before)[:3, :3]).max())


def changes(
    page: Browser, here: Callable[[], bool], act: Callable[[], object], holds: Callable[[], object], what: str
) -> None:
    """Do something and wait until it has shown in the server's page, while that is here, and in the browser."""
    shown = len(page.pictures)
    act()
    page.until(lambda: not here() or (holds() and len(page.pictures) > shown), what)
    assert here(), f"the connection was dropped before {what}"


def test_it_flies_switches_layers_and_blinks_a_frame(opened: Browser, viewer: Viewer) -> None:
    for _ in range(3):
        mine = page_of(opened, viewer)
        try:
            return flies_switches_layers_and_blinks_a_frame(opened, viewer, mine)
        except AssertionError:
            if mine in viewer.pages.values():
                raise
            show(opened, viewer)  # a busy machine dropped the connection, and with it what the page was at
    raise AssertionError("the connection was dropped three times")


def flies_switches_layers_and_blinks_a_frame(opened: Browser, viewer: Viewer, mine: Page) -> None:
    start = viewer.place.start_T_map_cam

    def moved_m() -> float:
        return float(np.linalg.norm((view_of(mine).T_map_cam - start)[:3, 3]))

    def here() -> bool:
        return mine in viewer.pages.values()

    changes(opened, here, lambda: opened.hold("w", 0.5), lambda: moved_m() > 0.05, "flight")
    before = view_of(mine).T_map_cam
    changes(opened, here, lambda: opened.drag(120, 20), lambda: turned(mine, before) > 0.05, "orbit")
    changes(opened, here, lambda: opened.press("2"), lambda: mine.choice.layer == DEPTH, "depth")

    track = viewer.place.track
    changes(opened, here, lambda: opened.press("n"), lambda: mine.choice.frame == track.frame[1], "frame")
    opened.until(lambda: view_of(mine).choice.frame == track.frame[1], "the frame's own pose")
    np.testing.assert_array_equal(view_of(mine).T_map_cam, track.T_map_cam[1])

    opened.press("b")
    opened.until(lambda: mine.choice.comparison == BLINK, "blinking")
    notes = set()
    opened.until(lambda: notes.add(mine.shown.note if mine.shown else "") or len(notes - {""}) == 2, "both pictures")
    opened.press("b")
    opened.until(lambda: mine.choice.comparison == OFF, "no blinking")

    copied = "const b = document.querySelector('button[data-pose]'); b.click(); return [b.textContent, b.dataset.pose]"
    said, pose = opened.driver.execute_script(copied)
    assert said == "copied"
    np.testing.assert_allclose(parse_pose(pose, None), view_of(mine).T_map_cam, atol=1e-3)

    assert opened.errors() == []
    assert opened.hosts() <= set(LOCAL), "nobody else is asked for anything"


def test_a_frame_is_clicked_at(opened: Browser, viewer: Viewer) -> None:
    mine = page_of(opened, viewer)
    place = viewer.place
    target = place.track.T_map_cam[len(place.track.frame) // 2]
    before = mine.shown_count  # before it moves: both its pictures may come while the browser answers
    mine.go_to(target @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -6.0], [0, 0, 0, 1]]))
    box = opened.driver.execute_script(
        "const r = document.querySelector('canvas').getBoundingClientRect(); return [r.x, r.y, r.width, r.height]"
    )
    opened.until(lambda: mine.shown_count > before, "picture")
    opened.click(round(box[0] + box[2] / 2), round(box[1] + box[3] / 2))
    opened.until(lambda: mine.choice.frame >= 0, "a frame that was clicked at")
    assert opened.errors() == []


def test_it_works_with_a_thumb(viewer: Viewer) -> None:
    with browsers.browser(phone=True) as phone:
        phone.open(viewer.address)
        phone.until(lambda: len(phone.pictures) >= 2, "picture")
        mine = phone.until(lambda: next((page for page in viewer.pages.values() if page.aspect < 1), None), "phone")
        before = view_of(mine).T_map_cam
        phone.swipe(60, 300, 160, 320)
        phone.until(lambda: turned(mine, before) > 0.02, "turn")
        assert phone.errors() == []


def test_an_exported_scene_opens_without_a_server(chromium: Browser, viewer: Viewer, tmp_path: Path) -> None:
    page = tmp_path / "scene.html"
    export(viewer.place, SMALL, page)
    chromium.errors()
    chromium.hosts()
    chromium.open(page.as_uri(), counting=False)
    drawn = "return [...document.querySelectorAll('canvas')].some(one => one.width > 100)"
    chromium.until(lambda: chromium.driver.execute_script(drawn), "scene")
    assert chromium.errors() == []
    assert chromium.hosts() == set()


def test_a_page_of_another_site_cannot_connect(chromium: Browser, viewer: Viewer) -> None:
    connect = """
        const [port, protocol, done] = arguments;
        const socket = new WebSocket(`ws://127.0.0.1:${port}`, protocol);
        socket.onopen = () => done("open");
        socket.onerror = () => done("refused");
    """
    asked = viewer.server.get_port(), f"viser-v{viser.__version__}"
    chromium.driver.get("data:text/html,another site")
    assert chromium.driver.execute_async_script(connect, *asked) == "refused"
    chromium.open(viewer.address)
    assert chromium.driver.execute_async_script(connect, *asked) == "open"
    chromium.errors()  # that of the one that was refused


@pytest.mark.slow
def test_nothing_leaves_a_network_that_leads_nowhere(relief: Path, repository: Path) -> None:
    """A namespace has nothing but its own loopback; what asks for more fails there, and is an error of the page."""
    namespace = ["unshare", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.skip("no network namespace can be made here (unshare --net)")
    program = repository / "test" / "support" / "offline_page.py"
    environment = {**os.environ, "PYTHONPATH": f"{repository}:{repository / 'test'}"}
    words = [*namespace, sys.executable, str(program), str(relief)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "shown; hosts: 127.0.0.1; errors: none; packets beyond loopback: 0" in done.stdout
