"""Serves the page: viser's server, a page for every browser, one thread that draws for all of them."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import numpy as np
import viser

from pose2rgbd_ros.dataset.layout import atomic_write
from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.viewer import scene
from pose2rgbd_ros.viewer.listen import address, listen, open_server, stop
from pose2rgbd_ros.viewer.live import Live
from pose2rgbd_ros.viewer.page import QUALITY_AT_REST, Page
from pose2rgbd_ros.viewer.pictures import Studio, View
from pose2rgbd_ros.viewer.place import UNITS_TYPICAL, Place, fitting_fov_rad
from pose2rgbd_ros.viewer.settings import ViewSettings
from pose2rgbd_ros.viewer.worker import TurnTaker

LOOK_AHEAD_UNITS = 4.0  # what the browser's mouse orbits around: so far ahead of the camera
OVERVIEW = np.array([-0.25, -0.42, 0.36])  # times the extent: from where an exported scene is looked at first
EXPORT_PICTURES, EXPORT_SIDE = 16, 160  # recorded frames whose pictures stand in an exported scene
_log = logging.getLogger(__name__)


class Viewer:
    """A running page. Close it."""

    def __init__(
        self, place: Place, settings: ViewSettings, live: Live | None = None, server: viser.ViserServer | None = None
    ) -> None:
        """server: one of `open_server`, where browsers may wait already.

        UserError: the address or the port cannot be listened on.
        """
        self.place, self.settings, self.live = place, settings, live
        self.studio = Studio(place, settings.size, settings.moving_size)
        self.nonsense = 0  # poses from browsers that are none
        self._clouds: dict[int, scene.Cloud] = {}
        self._cloud_lock = threading.Lock()
        self.pages: dict[int, Page] = {}
        self.turns: TurnTaker[View] = TurnTaker(self._draw, settings.rest_ms / 1e3)
        self.server = server or open_server(settings)
        self._early = set(self.server.get_clients())  # they came before there was anything to see
        _start_camera(self.server, place)
        self.server.gui.set_panel_label("pose2rgbd " + ", ".join(model.name for model in place.models))
        self.server.on_client_connect(self._connected)
        self.server.on_client_disconnect(self._gone)

    @property
    def address(self) -> str:
        """What to type into a browser of this computer."""
        return address(self.server, self.settings)

    def cloud(self, model: int, progress: Callable[[float], None]) -> scene.Cloud:
        """The cloud of a model, made once. UserError: there is none."""
        with self._cloud_lock:
            if model not in self._clouds:
                self._clouds[model] = scene.make_cloud(self.studio, model, progress)
            return self._clouds[model]

    def close(self) -> None:
        """End the server and the drawing."""
        for page in list(self.pages.values()):
            page.close()
        if self.live is not None:
            self.live.close()
        self.turns.close()
        stop(self.server)

    def _connected(self, client: Any) -> None:
        try:
            start = self.place.start_T_map_cam if client.client_id in self._early else None
            self.pages[client.client_id] = Page(self, client, start)
        except Exception:
            if client.client_id in self.server.get_clients():
                raise
            _log.debug("a browser left before its page was built", exc_info=True)
        if client.client_id not in self.server.get_clients():  # it left while its page was built
            self._gone(client)

    def _gone(self, client: Any) -> None:
        if (page := self.pages.pop(client.client_id, None)) is not None:
            page.close()

    def _draw(self, viewer: Hashable, view: View, at_rest: bool) -> None:
        assert isinstance(viewer, Page)
        try:
            shown = self.studio.draw(view, at_rest)
        except UserError as error:
            viewer.tell(str(error))
            return
        viewer.show(shown, view, at_rest)


def serve(
    server: viser.ViserServer, place: Place, settings: ViewSettings, live: Live | None, wait: Callable[[], None]
) -> None:
    """Serve by a server of `open_server` until `wait` returns."""
    viewer = Viewer(place, settings, live, server)
    try:
        if place.track.note:
            print(place.track.note, flush=True)
        with contextlib.suppress(OSError, AttributeError):
            os.nice(settings.niceness)
        wait()
    finally:
        viewer.close()


def export(place: Place, settings: ViewSettings, file: Path) -> str:
    """Write the scene as one HTML file that needs no server; what it holds, in a line.

    UserError: it cannot be written.
    """
    studio = Studio(place, settings.size, settings.moving_size)
    server = listen("127.0.0.1", None)
    try:
        _overview_camera(server, place)
        scene.add_track(server.scene, place)
        note = "track"
        try:
            cloud = scene.make_cloud(studio, 0)
            scene.add_cloud(server.scene, cloud)
            note += f", {len(cloud.points):,} points ({cloud.note})"
        except UserError as error:
            note += f", no cloud ({error})"
        note += f", {_add_pictures(server, studio)} pictures"
        server.flush()
        page = server.scene.as_html(dark_mode=True)
    finally:
        stop(server)
    with os_errors(f"cannot write {file}"):
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file, page.encode())
    return f"{file}: {note}; {len(page) / 1e6:.1f} MB, opens without a server and without a network"


def _add_pictures(server: Any, studio: Studio) -> int:
    """Frames of the track with their pictures: recorded ones where there is a dataset, else the model's."""
    place = studio.place
    track, renderer = place.track, place.models[0].renderer
    own = place.dataset.camera if place.dataset is not None else renderer.camera
    camera = own.resized(EXPORT_SIDE, max(round(EXPORT_SIDE * own.height / own.width), 1))
    some = np.unique(np.linspace(0, len(track.frame) - 1, EXPORT_PICTURES).round().astype(int))
    for index in some:
        if place.dataset is not None:
            rgb = studio.recorded(int(track.frame[index]), camera)["rgb"]
        else:
            rgb = studio.coloured(0, studio.layers(0)[0], studio.render(0, track.T_map_cam[index], camera))
        position, quat_wxyz = place.scene_pose(track.T_map_cam[index])
        server.scene.add_camera_frustum(
            f"/pictures/{index}", fitting_fov_rad(own, own.width / own.height), own.width / own.height, scale=0.35,
            image=rgb, format="jpeg", jpeg_quality=QUALITY_AT_REST, wxyz=quat_wxyz, position=position,
            color=(230, 230, 230), thickness=0.01,
        )  # fmt: skip
    return len(some)


def _start_camera(server: Any, place: Place) -> None:
    """Browsers begin at a pose that the first model knows."""
    T = place.start_T_map_cam
    position, _ = place.scene_pose(T)
    camera = server.initial_camera
    camera.position = position
    camera.look_at = position + LOOK_AHEAD_UNITS * T[:3, 2]
    if abs(T[2, 2]) > 0.99:  # straight down: the top of the picture is up on the screen
        camera.up = -T[:3, 1]


def _overview_camera(server: Any, place: Place) -> None:
    """All of the track from outside and above, with what it looked at."""
    position, _ = place.scene_pose(place.track.T_map_cam)
    seen = position + UNITS_TYPICAL * place.track.T_map_cam[:, :3, 2]
    every = np.concatenate([position, seen])
    middle, extent = every.mean(axis=0), float(np.linalg.norm(np.ptp(every, axis=0)))
    server.initial_camera.position = middle + extent * OVERVIEW
    server.initial_camera.look_at = middle
