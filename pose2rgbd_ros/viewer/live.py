"""What a live aircraft tells the page: where its camera is, what it sees and what is around. Fed by nodes/view.py."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Protocol

import cv2
import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.viewer.pictures import Shown
from pose2rgbd_ros.viewer.place import Place

IMAGE_SIDE, QUALITY = 320, 80
PERIOD_S = 0.05  # pages follow so often
OLD_S = 1.0
_log = logging.getLogger(__name__)
SCAN_COLOUR, POSE_COLOUR = (255, 60, 60), (255, 255, 255)


class Follower(Protocol):
    """What follows the camera: a `Page`."""

    client: Any
    place: Place
    shown: Shown | None

    def go_to(self, T_map_cam: Float64, fov_rad: float | None = None) -> None: ...


class Live:
    """The newest of each, for any number of pages. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._panels: list[LivePanel] = []
        self.T_map_cam: Float64 | None = None
        self.posed_s = self.imaged_s = 0.0  # by time.monotonic
        self.rgb: UInt8 | None = None
        self.scan_m: Float64 | None = None  # (N, 3) in the map
        self.problem = ""  # why there is no pose; empty: there is
        self.silent: list[str] = []  # which topics are silent, and why
        self._over = threading.Event()
        threading.Thread(target=self._keep_telling, name="viewer live", daemon=True).start()

    def close(self) -> None:
        """End the thread that tells pages."""
        self._over.set()

    def set_pose(self, T_map_cam: Float64) -> None:
        """Where the camera is."""
        self.T_map_cam, self.posed_s = T_map_cam, time.monotonic()

    def set_image(self, rgb: UInt8) -> None:
        """What it sees, uint8 (H, W, 3)."""
        scale = min(1.0, IMAGE_SIDE / max(rgb.shape[:2]))
        self.rgb = np.asarray(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
        self.imaged_s = time.monotonic()

    def set_scan(self, points_m: Float64) -> None:
        """What stands around, (N, 3) in the map."""
        self.scan_m = points_m

    def panel(self, page: Follower) -> LivePanel:
        """A page's part of the panel."""
        made = LivePanel(self, page)
        with self._lock:
            self._panels.append(made)
        return made

    def leave(self, panel: LivePanel) -> None:
        """A page has gone."""
        with self._lock:
            self._panels = [other for other in self._panels if other is not panel]

    def _keep_telling(self) -> None:
        """Pages are told from a thread of their own, so that what feeds them never waits for a browser."""
        while not self._over.wait(PERIOD_S):
            with self._lock:
                panels = list(self._panels)
            for panel in panels:
                try:
                    panel.update()
                except Exception:  # a browser that leaves in between; the others go on
                    _log.debug("a page could not be told", exc_info=True)


class LivePanel:
    """Following, and the live image beside the prediction."""

    def __init__(self, live: Live, page: Follower) -> None:
        self.live, self.page = live, page
        gui = page.client.gui
        with gui.add_folder("Live"):
            self._follow = gui.add_checkbox("Follow the camera", True)
            self._note = gui.add_markdown("waiting for a pose")
            self._image = gui.add_image(np.full((9, 16, 3), 40, np.uint8), label="live image", jpeg_quality=QUALITY)
            self._predicted = gui.add_image(np.full((9, 16, 3), 40, np.uint8), label="predicted", jpeg_quality=QUALITY)
        self._posed_s = self._imaged_s = 0.0
        self._scan_m: Float64 | None = None

    def update(self) -> None:
        """Show what is new."""
        live, T = self.live, self.live.T_map_cam
        if live.posed_s != self._posed_s and T is not None:
            self._posed_s = live.posed_s
            if self._follow.value:
                self.page.go_to(T)
            self._draw_scene(T)
        if live.imaged_s != self._imaged_s and live.rgb is not None:
            self._imaged_s = live.imaged_s
            self._image.image = live.rgb
            shown = self.page.shown
            if self._follow.value and shown is not None:
                self._predicted.image = shown.rgb
        self._say()

    def _say(self) -> None:
        live, now_s = self.live, time.monotonic()
        words = [live.problem] if live.problem else []
        if not words and now_s - live.posed_s > OLD_S:
            words = [
                "waiting for a pose" if live.T_map_cam is None else f"the pose is {now_s - live.posed_s:.0f} s old"
            ]
        text = "  \n".join([*words, *live.silent]) or "TF, image and scan arrive"
        if text != self._note.content:
            self._note.content = text

    def _draw_scene(self, T_map_cam: Float64) -> None:
        page, client = self.page, self.page.client
        if not self._follow.value:  # else one looks through it
            position, quat_wxyz = page.place.scene_pose(T_map_cam)
            client.scene.add_camera_frustum(
                "/live/camera", 0.9, 1.33, scale=0.3, color=POSE_COLOUR, wxyz=quat_wxyz, position=position
            )
        if self.live.scan_m is not None and self.live.scan_m is not self._scan_m:
            self._scan_m = self.live.scan_m
            points = page.place.to_scene(self.live.scan_m).astype(np.float32)
            client.scene.add_point_cloud(
                "/live/scan", points, SCAN_COLOUR, point_size=0.05, point_shape="circle", precision="float32"
            )
