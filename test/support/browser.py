"""A real headless Chromium, driven by selenium; it downloads nothing and asks nobody but the page."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-default-apps",
    "--disable-extensions", "--no-default-browser-check", "--metrics-recording-only", "--no-pings",
    "--disable-features=OptimizationHints,MediaRouter,Translate,InterestFeedContentSuggestions",
)  # fmt: skip
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
LOCAL = ("localhost", "127.0.0.1", "")


def missing() -> str:
    """Why there is no browser here; empty: there is."""
    if CHROMIUM is None or DRIVER is None:
        return "no Chromium here; apt install chromium chromium-driver"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed; make setup"
    return ""


# Takes down every picture that is handed to the graphics card: (milliseconds, width, height).
COUNTER = """
window.pictures = [];
for (const name of ["texImage2D", "texSubImage2D"]) {
  const hand = WebGL2RenderingContext.prototype[name];
  WebGL2RenderingContext.prototype[name] = function (...args) {
    const image = args[args.length - 1];
    if (image instanceof HTMLImageElement && image.src.startsWith("blob:"))
      window.pictures.push([performance.now(), image.naturalWidth, image.naturalHeight]);
    return hand.apply(this, args);
  };
}
"""


class Browser:
    """A page in a browser."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, address: str, counting: bool = True) -> None:
        """Load a page and wait until it draws."""
        if counting:
            self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": COUNTER})
        self.driver.get(address)
        self.until(lambda: self.driver.execute_script("return !!document.querySelector('canvas')"), "a canvas")

    def until(self, holds: Callable[[], Any], what: str, limit_s: float = 60.0) -> Any:
        """Wait for a condition, and give its value."""
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s:
            if value := holds():
                return value
            time.sleep(0.05)
        raise AssertionError(f"no {what} within {limit_s:.0f} s")

    @property
    def pictures(self) -> list[tuple[float, int, int]]:
        """(milliseconds, width, height) of the pictures shown so far; those with depth stand twice."""
        return [tuple(each) for each in self.driver.execute_script("return window.pictures || []")]

    @property
    def text(self) -> str:
        """All that the page says."""
        return self.driver.execute_script("return document.body.innerText")

    def press(self, key: str) -> None:
        """A key, on the page itself."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(key).perform()

    def hold(self, key: str, seconds: float) -> None:
        """A key held down."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).key_down(key).pause(seconds).key_up(key).perform()

    def key(self, event: str, code: str, letter: str) -> None:
        """`keydown` or `keyup` by itself: between the two, the page can be asked for other things."""
        script = "document.dispatchEvent(new KeyboardEvent(arguments[0], {...arguments[1], bubbles: true}))"
        self.driver.execute_script(script, event, {"code": code, "key": letter})

    def drag(self, dx: int, dy: int, x: int = 300, y: int = 300) -> None:
        """The mouse dragged over the scene."""
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        actions = ActionBuilder(self.driver, duration=30)
        actions.pointer_action.move_to_location(x, y).pointer_down()
        for step in range(1, 11):
            actions.pointer_action.move_to_location(x + dx * step // 10, y + dy * step // 10)
        actions.pointer_action.pointer_up()
        actions.perform()

    def swipe(self, x: int, y: int, to_x: int, to_y: int) -> None:
        """A thumb drawn over the scene."""
        for step in range(9):
            at = {"x": x + (to_x - x) * step // 8, "y": y + (to_y - y) * step // 8}
            event = {"type": "touchMove" if step else "touchStart", "touchPoints": [at]}
            self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", event)
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    def click(self, x: int, y: int) -> None:
        """A click on the scene."""
        from selenium.webdriver.common.actions.action_builder import ActionBuilder

        actions = ActionBuilder(self.driver)
        actions.pointer_action.move_to_location(x, y).click()
        actions.perform()

    def screenshot(self, path: Path, quality: int = 80) -> None:
        """What the window shows, as a JPEG or PNG."""
        import cv2
        import numpy as np

        data = np.frombuffer(self.driver.get_screenshot_as_png(), np.uint8)
        how = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix == ".jpg" else []
        cv2.imwrite(str(path), cv2.imdecode(data, cv2.IMREAD_COLOR), how)

    def errors(self) -> list[str]:
        """What the page has complained of since it was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def hosts(self) -> set[str]:
        """Whom the page has asked for anything since it was last asked."""
        found = set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            url = {
                "Network.requestWillBeSent": lambda given: given["request"]["url"],
                "Network.webSocketCreated": lambda given: given["url"],
            }.get(message["method"], lambda given: "")(message["params"])
            if url and urlparse(url).scheme in ("http", "https", "ws", "wss"):
                found.add(urlparse(url).hostname or "")
        return found


@contextlib.contextmanager
def browser(width: int = 1100, height: int = 700, phone: bool = False) -> Iterator[Browser]:
    """A fresh browser. phone: a touch screen as narrow as a phone's."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        if phone:
            metrics = {"width": 390, "height": 800, "pixelRatio": 1.0, "touch": True}
            options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
        driver = webdriver.Chrome(options=options, service=Service(DRIVER or ""))
        try:
            yield Browser(driver)
        finally:
            driver.quit()
