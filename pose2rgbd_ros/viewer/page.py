"""The page of one viewer: its panel, its keys, its scene; and what it looks at."""

from __future__ import annotations

import contextlib
import html
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import cv2
import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.viewer import path as paths
from pose2rgbd_ros.viewer import scene
from pose2rgbd_ros.viewer.live import Live
from pose2rgbd_ros.viewer.pictures import (
    BLINK,
    COMPARISONS,
    CONFIDENCE,
    METRES,
    OFF,
    RECORDED,
    SPLIT,
    TILES,
    Choice,
    Shown,
    Studio,
    View,
)  # fmt: skip
from pose2rgbd_ros.viewer.place import COLOURS, Place, fitting_fov_rad, view_camera
from pose2rgbd_ros.viewer.worker import TurnTaker

QUALITY_MOVING, QUALITY_AT_REST = 80, 92  # of JPEG
BLINK_S = 0.6
STEPS = {"previous": -1, "here": 0, "next": 1}
PANEL_WAITS_S = 1.0  # for the first picture, at most
READOUT_S = 0.2  # the readout follows a moving camera so often
SAME_PLACE_SHARE, SAME_VIEW_RAD = 2e-3, 5e-3  # of the typical depth: this near a frame's pose a view is that frame's

KEYS = """
| | |
|---|---|
| drag, wheel | orbit, zoom |
| W A S D Q E, arrows | fly, look around |
| 1 to 6 | layers |
| N, P | next, previous frame |
| B, X, G, V | blink, split, side by side, error |
| U, T, C | tint the unknown, track, cloud |
| R, F | record a path, save the picture |
"""


class Host(Protocol):
    """What all pages have in common: `Viewer` of server.py."""

    place: Place
    studio: Studio
    turns: TurnTaker[View]
    live: Live | None
    nonsense: int  # poses from browsers that are none

    def cloud(self, model: int, progress: Callable[[float], None]) -> scene.Cloud: ...


class Page:
    """One browser. Callbacks come from several threads; `_changed` guards what they share."""

    def __init__(self, viewer: Host, client: Any, start_T_map_cam: Float64 | None = None) -> None:
        """start_T_map_cam: where the browser's camera has yet to be taken."""
        self.viewer, self.client, self.place, self.studio = viewer, client, viewer.place, viewer.studio
        self.choice = Choice(layer=viewer.studio.layers(0)[0])
        self.shown: Shown | None = None
        self.shown_count = 0
        self.recorder: paths.Recorder | None = None
        self.recorded: paths.Timed = []
        self._changed = threading.RLock()
        self._read_at = 0.0
        self._is_open, self._is_built = True, False
        self._cloud: Any = None
        self._stop_blinking = threading.Event()
        self._has_picture = threading.Event()
        client.camera.fov = fitting_fov_rad(self.place.models[0].renderer.camera, self.aspect)
        client.camera.on_update(self._moved)
        if start_T_map_cam is None:
            self.look()
        else:
            self.go_to(start_T_map_cam)
        self._has_picture.wait(PANEL_WAITS_S)  # a browser takes as long to build the panel as to show a picture
        self._track = scene.add_track(client.scene, self.place)
        client.scene.on_click()(self._clicked)
        self._build()
        self._is_built = True
        self.look(moving=False)  # now with what is said beside the picture

    # What is looked at ------------------------------------------------------------------------------------------

    def view(self) -> View | None:
        """Where the browser's camera is; None for nonsense."""
        camera = self.client.camera
        T = self.place.map_pose(camera.position, camera.wxyz)
        fov_rad, aspect = float(camera.fov), self.aspect
        if T is None or view_camera(64, aspect, fov_rad) is None:
            self.viewer.nonsense += 1
            return None
        with self._changed:
            choice, frame = self.choice, self._frame_here(T)
        if frame >= 0 and self.place.dataset is not None:  # exactly, so that the pictures lie on each other
            T = np.asarray(self.place.dataset.T_map_cam[frame])
        return View(T, fov_rad, aspect, replace(choice, frame=frame))

    @property
    def aspect(self) -> float:
        """Width over height of the browser's window; 1 where it says nonsense."""
        camera = self.client.camera
        width, height = float(camera.image_width), float(camera.image_height)
        return width / height if width > 0 and height > 0 and np.isfinite(width / height) else 1.0

    def look(self, moving: bool = True) -> None:
        """Have what the browser looks at drawn."""
        if self._is_open and (view := self.view()) is not None:
            self.viewer.turns.look(self, view, moving)

    def show(self, shown: Shown, view: View, at_rest: bool) -> None:
        """Send a picture to the browser. From the drawing thread."""
        if not self._is_open:
            return
        with self._changed:
            self.shown, self.shown_count = shown, self.shown_count + 1
        self.client.scene.set_background_image(
            shown.rgb,
            format="jpeg",
            jpeg_quality=QUALITY_AT_REST if at_rest else QUALITY_MOVING,
            depth=shown.depth_units,
        )
        self.client.flush()
        self._has_picture.set()
        now_s = time.monotonic()
        if self._is_built and (at_rest or now_s - self._read_at > READOUT_S):
            self._read_at = now_s
            self._readout(shown, view)

    def go_to(self, T_map_cam: Float64, fov_rad: float | None = None) -> None:
        """Move the browser's camera."""
        position, quat_wxyz = self.place.scene_pose(T_map_cam)
        camera = self.client.camera
        with self.client.atomic():
            if fov_rad is not None:
                camera.fov = fov_rad
            with contextlib.suppress(ValueError):  # nonsense that arrived since the line before, in another thread
                _make_movable(camera, position)
                camera.position = position
                camera.wxyz = quat_wxyz
        self.look()

    def go_to_frame(self, number: int) -> None:
        """To a frame of the track, by its place among those that are drawn."""
        track = self.place.track
        number = int(np.clip(number, 0, len(track.frame) - 1))
        with self._changed:
            self.choice = replace(self.choice, frame=int(track.frame[number]))
        self._frame.value = number
        camera = self.place.dataset.camera if self.place.dataset else self.place.models[0].renderer.camera
        self.go_to(track.T_map_cam[number], fitting_fov_rad(camera, self.aspect))

    def close(self) -> None:
        """The browser has gone."""
        self._is_open = False
        if self._is_built and self._live is not None:
            self._live.live.leave(self._live)
        self.viewer.turns.forget(self)

    def _frame_here(self, T_map_cam: Float64) -> int:
        """The frame that was gone to, while the view is its own; else -1."""
        frame, dataset = self.choice.frame, self.place.dataset
        if frame < 0 or dataset is None:
            return -1
        way_m, turn_rad = se3.apart(dataset.T_map_cam[frame], T_map_cam)
        near_m = SAME_PLACE_SHARE * self.place.models[0].renderer.guard.score.distance_m
        return frame if way_m <= near_m and turn_rad <= SAME_VIEW_RAD else -1

    async def _moved(self, camera: Any) -> None:  # in the server's loop: it must not wait
        view = self.view()
        if view is None or not self._is_open:
            return
        if self.recorder is not None:
            self.recorder.add(view.T_map_cam)
        self.viewer.turns.look(self, view)

    # The panel --------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        gui, names = self.client.gui, [model.name for model in self.place.models]
        layers = self.studio.layers(0)
        self._status = gui.add_markdown("")
        self._layer = gui.add_dropdown("Layer", layers, initial_value=layers[0])
        self._model = gui.add_dropdown("Model", names, initial_value=names[0], visible=len(names) > 1)
        self._legend = gui.add_html("")
        self._tint = gui.add_checkbox("Tint the unknown", False)
        others = [RECORDED] * (self.place.dataset is not None) + (names if len(names) > 1 else [])
        with gui.add_folder("Compare", visible=bool(others)):
            self._comparison = gui.add_dropdown("How", list(COMPARISONS), initial_value=OFF)
            self._other = gui.add_dropdown(
                "With", others or [RECORDED], initial_value=others[-1] if len(names) > 1 and others else RECORDED
            )
            self._split = gui.add_slider("Split", 0.0, 1.0, 0.01, 0.5, visible=False)
        with gui.add_folder("Frames"):
            count = len(self.place.track.frame)
            self._frame = gui.add_slider("Frame", 0, max(count - 1, 1), 1, 0)
            step = gui.add_button_group("Go", list(STEPS))
            self._frame_note = gui.add_markdown(self._frame_words())
        with gui.add_folder("Scene"):
            self._track_shown = gui.add_checkbox("Track and cameras", True)
            self._cloud_shown = gui.add_checkbox("Cloud of the lower bound", False)
            self._cloud_note = gui.add_markdown("", visible=False)
        with gui.add_folder("Pose"):
            self._pose = gui.add_html("")
            self._go = gui.add_text("Go to", "", hint="x y z [qx qy qz qw], metres in the map; Enter")
            save = gui.add_button("Save the picture", icon="camera")
        with gui.add_folder("Path", expand_by_default=False):
            self._record = gui.add_button("Record", icon="player-record")
            self._path_note = gui.add_markdown("Press Record, fly, press it again.")
            self._form = gui.add_dropdown("As", list(paths.FORMS), initial_value=paths.VIDEO)
            send = gui.add_button("Save the path", icon="download", disabled=True)
            self._send = send
        with gui.add_folder("Keys", expand_by_default=False):
            gui.add_markdown(KEYS)
        self._live = self.viewer.live.panel(self) if self.viewer.live is not None else None

        self._layer.on_update(lambda _: self._choose(layer=self._layer.value))
        self._model.on_update(lambda _: self._choose_model(names.index(self._model.value)))
        self._tint.on_update(lambda _: self._choose(tint=self._tint.value))
        self._comparison.on_update(lambda _: self._compare(self._comparison.value))
        self._other.on_update(lambda _: self._choose(other=self._other.value))
        self._split.on_update(lambda _: self._choose(split=float(self._split.value)))
        step.on_click(lambda _: self.go_to_frame(self._frame.value + STEPS[step.value]))
        self._frame.on_update(self._slid)
        self._track_shown.on_update(lambda _: self._show_track())
        self._cloud_shown.on_update(lambda _: self._show_cloud())
        self._go.on_update(lambda _: self._typed())
        save.on_click(lambda _: self.save_picture())
        self._record.on_click(lambda _: self.record())
        send.on_click(lambda _: self.save_path())
        self._add_keys()
        with self._changed:
            self.choice = replace(self.choice, other=self._other.value)
        self._draw_legend()

    def _add_keys(self) -> None:
        def key(letter: str, label: str, act: Callable[[], None]) -> None:
            self.client.gui.add_command(label, hotkey=letter).on_trigger(lambda _: act())

        def pick(layer: str) -> None:
            self._layer.value = layer

        def compare(how: str) -> None:
            self._comparison.value = OFF if self._comparison.value == how else how

        def flip(box: Any) -> None:
            box.value = not box.value

        for number, layer in enumerate(self.studio.layers(0), 1):
            key(str(number), f"layer: {layer}", lambda layer=layer: pick(layer))  # type: ignore[misc]
        for letter, how in (("B", BLINK), ("X", SPLIT), ("G", TILES), ("V", "error")):
            key(letter, how, lambda how=how: compare(how))  # type: ignore[misc]
        key("N", "next frame", lambda: self.go_to_frame(self._frame.value + 1))
        key("P", "previous frame", lambda: self.go_to_frame(self._frame.value - 1))
        key("U", "tint the unknown", lambda: flip(self._tint))
        key("T", "track and cameras", lambda: flip(self._track_shown))
        key("C", "cloud", lambda: flip(self._cloud_shown))
        key("R", "record a path", self.record)
        key("F", "save the picture", self.save_picture)

    def _choose(self, **changed: Any) -> None:
        with self._changed:
            self.choice = replace(self.choice, **changed)
            scene_shown = self._track_shown.value or self._cloud_shown.value
            self.choice = replace(self.choice, with_scene=bool(scene_shown))
        if "layer" in changed or "model" in changed:
            self._draw_legend()
        self.look(moving=False)

    def _choose_model(self, index: int) -> None:
        layers = self.studio.layers(index)
        if self.choice.layer not in layers:
            self._layer.value = layers[0]
        self._layer.options = layers
        self._choose(model=index)

    def _compare(self, how: str) -> None:
        self._split.visible = how == SPLIT
        self.client.scene.set_global_visibility(how != TILES)
        self._choose(comparison=how)
        self._stop_blinking.set()
        if how == BLINK:
            self._stop_blinking = threading.Event()
            words = (self._stop_blinking,)
            threading.Thread(target=self._blink, args=words, name="viewer blinking", daemon=True).start()

    def _blink(self, over: threading.Event) -> None:
        while self._is_open and not over.wait(BLINK_S):
            self._choose(blink_on=not self.choice.blink_on)

    def _slid(self, event: Any) -> None:
        if event.client is not None:  # moved by hand, not by go_to_frame
            self.go_to_frame(int(self._frame.value))

    def _clicked(self, event: Any) -> None:
        if self._track_shown.value:
            picked = scene.picked_frame(self.place, event.ray_origin, event.ray_direction)
            if picked is not None:
                self.go_to_frame(picked)

    def _show_track(self) -> None:
        for handle in self._track:
            handle.visible = self._track_shown.value
        self._choose()

    def _show_cloud(self) -> None:
        if self._cloud is None and self._cloud_shown.value:
            try:
                cloud = self.viewer.cloud(self.choice.model, lambda share: self._say_cloud(f"{share:.0%} of the cloud"))
            except UserError as error:
                self._say_cloud(str(error))
                self._cloud_shown.value = False
                return
            self._cloud = scene.add_cloud(self.client.scene, cloud)
            self._say_cloud(f"{len(cloud.points):,} points: {cloud.note}")
        if self._cloud is not None:
            self._cloud.visible = self._cloud_shown.value
        self._choose()

    def _say_cloud(self, text: str) -> None:
        self._cloud_note.content, self._cloud_note.visible = text, True

    def _typed(self) -> None:
        if not self._go.value.strip():
            return
        try:
            T = paths.parse_pose(self._go.value, self.view())
        except UserError as error:
            self.tell(str(error))
            return
        self.go_to(T)

    # What it says -----------------------------------------------------------------------------------------------

    def tell(self, text: str, good: bool = False) -> None:
        """A line that goes away by itself."""
        self.client.add_notification(
            "pose2rgbd", text, color="green" if good else "red", auto_close_seconds=8.0, with_close_button=True
        )

    def _frame_words(self) -> str:
        track = self.place.track
        kinds = " ".join(
            f'<span style="color:rgb{colour}">■</span> {kind}' for kind, colour in COLOURS.items() if kind in track.kind
        )
        note = f"  \n{track.note}" if track.note else ""
        return f"{kinds}{note}  \nClick a camera to go there."

    def _readout(self, shown: Shown, view: View) -> None:
        guard = shown.guard
        known = "**Known here.**" if guard.inside else f"**Unknown here**: {guard.reason}."
        note = f"  \n{shown.note}" if shown.note else ""
        height, width = shown.rgb.shape[:2]
        self._status.content = f"{known}{note}  \n{width} x {height} pixels in {1e3 * shown.took_s:.0f} ms"
        self._pose.content = _pose_html(view.T_map_cam, self.place.map_frame)

    def _draw_legend(self) -> None:
        choice = self.choice
        if choice.layer in METRES:
            low, high = self.studio.depth_limits(choice.model)
            unit = self.place.unit or "(relative, no unit)"
            self._legend.content = _bar(f"{low:.3g}", f"{high:.3g} {unit}", cv2.COLORMAP_TURBO, backwards=True)
        elif choice.layer == CONFIDENCE:
            self._legend.content = _bar("0", "1", cv2.COLORMAP_VIRIDIS)
        else:
            self._legend.content = ""

    # What it saves ----------------------------------------------------------------------------------------------

    def save_picture(self) -> None:
        """Send the picture at rest as a PNG file."""
        view = self.view()
        if view is None:
            return
        shown = self.studio.draw(view, True)
        _, data = cv2.imencode(".png", shown.rgb[..., ::-1])
        self.client.send_file_download(f"view-{int(time.time())}.png", data.tobytes(), save_immediately=True)

    def record(self) -> None:
        """Begin to record the way of the camera, or end it."""
        if self.recorder is None:
            self.recorder = paths.Recorder(self.place)
            if (view := self.view()) is not None:
                self.recorder.add(view.T_map_cam)
            self._record.label, self._path_note.content = "Stop", "Recording: fly."
            return
        self.recorded, self.recorder = self.recorder.poses(), None
        self._record.label = "Record"
        self._path_note.content = paths.describe(self.recorded)
        self._send.disabled = len(self.recorded) < 2

    def save_path(self) -> None:
        """Send the recorded path in the form that was chosen."""
        view, form = self.view(), self._form.value
        if view is None or len(self.recorded) < 2:
            return
        self._send.disabled = True
        try:
            name, data = paths.write(form, self.recorded, view, self.studio, self._say_path)
            self.client.send_file_download(name, data, save_immediately=True)
            self._say_path(paths.describe(self.recorded))
        except UserError as error:
            self.tell(str(error))
        finally:
            self._send.disabled = False

    def _say_path(self, text: str) -> None:
        self._path_note.content = text


def _make_movable(camera: Any, position: Float64) -> None:
    """viser moves a camera from where the browser says it is: from nonsense (no number, no direction) it cannot."""
    state = camera._state
    vectors = np.concatenate([state.position, state.look_at, state.up_direction])
    lengths = np.linalg.norm(state.look_at - state.position), np.linalg.norm(state.up_direction)
    if not (np.isfinite(vectors).all() and min(lengths) > 1e-6):
        ahead, state.up_direction = np.eye(3)[[0, 2]]
        state.position, state.look_at = position + state.up_direction, position + state.up_direction + ahead


def _pose_html(T_map_cam: Float64, map_frame: str) -> str:
    """Position and quaternion, and a button that copies both."""
    position, quat_xyzw = se3.split(T_map_cam)
    position_text = " ".join(f"{value:.3f}" for value in position)
    quat_text = " ".join(f"{value:.5f}" for value in quat_xyzw)
    copy = (
        "const t=document.createElement('textarea');t.value=this.dataset.pose;document.body.appendChild(t);t.select();"
        "document.execCommand('copy');t.remove();this.textContent='copied'"
    )
    return (
        '<div style="font-size:0.8em;padding:0 0.75em 0.5em;line-height:1.5">'
        f"<b>{html.escape(map_frame)}</b>, metres: <code>{position_text}</code><br>"
        f"<b>quat_xyzw</b>: <code>{quat_text}</code><br>"
        f'<button data-pose="{position_text} {quat_text}" onclick="{copy}" style="cursor:pointer">copy</button></div>'
    )


def _bar(low: str, high: str, colours: int, backwards: bool = False) -> str:
    """A bar of colours with its ends."""
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    mapped = cv2.applyColorMap((255 - steps if backwards else steps)[None], colours)[0, :, ::-1]
    stops = ",".join(f"rgb({r},{g},{b})" for r, g, b in mapped.tolist())
    return (
        f'<div style="display:flex;gap:0.5em;align-items:center;font-size:0.8em;padding:0 0.75em 0.5em">{low}'
        f'<div style="flex:1;height:0.8em;background:linear-gradient(to right,{stops})"></div>{high}</div>'
    )
