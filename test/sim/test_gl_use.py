"""The OpenGL renderer in use: the same bits everywhere, one thread, and every refusal one clear line."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.boxes import NOON, box, plain_scene

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer, open_context

CAMERA = Camera(64, 48, fx=50.0, fy=50.0, cx=31.5, cy=23.5)
POSE = se3.look_at([-20, -30, 25], [0, 0, 0])
SCENE = plain_scene([box([-6, -6, 0], [6, 6, 9], (200, 80, 60))])
DIGEST = """
import hashlib
import numpy as np
from dataclasses import replace
from support.boxes import NOON, box, plain_scene
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer
from pose2rgbd_ros.sim.scene import Mover

rng = np.random.default_rng(0)
at = rng.uniform(-50, 50, (150, 2))
textures = rng.integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
chunks = [
    box([x, y, 0], [x + 4, y + 5, rng.uniform(2, 20)], rng.integers(50, 255, 3), layer)
    for (x, y), layer in zip(at, rng.integers(0, 3, 150))
]
car = Mover("car", box([-2, -1, 0], [2, 1, 2]), lambda t: np.tile(se3.make([0, -20, 20], [0, 0, 0, 1]), (len(t), 1, 1)))
light = replace(NOON, sun_direction=(0.48, 0.36, 0.8), haze_per_m=0.001)
scene = plain_scene(chunks, light, [car], textures_rgb=textures)
total = hashlib.sha256()
for supersample in (1, 2):
    with SceneRenderer(scene, Camera(200, 160, 160.0, 170.0, 95.0, 81.0), supersample) as renderer:
        for x in (-30.0, 0.0, 0.0, 25.0):
            view = renderer.render(se3.look_at([x, -50, 40], [0, 10, 0]), 3.0)
            assert len(np.unique(view.rgb)) > 100
            total.update(view.rgb.tobytes() + view.depth_m.tobytes() + view.labels.tobytes())
print(total.hexdigest())
"""


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    path = os.pathsep.join(filter(None, [str(root), str(root / "test"), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
    )


def test_the_same_bits_in_every_process_with_any_number_of_threads() -> None:
    runs = [python(DIGEST, LP_NUM_THREADS=threads) for threads in ("0", "1", "4")]
    assert [run.returncode for run in runs] == [0, 0, 0], runs[0].stderr
    assert len({run.stdout for run in runs}) == 1


def test_the_same_bits_again_and_in_another_renderer() -> None:
    with SceneRenderer(SCENE, CAMERA) as one, SceneRenderer(SCENE, CAMERA) as other:
        views = [one.render(POSE), other.render(POSE), one.render(POSE)]
    assert len({view.rgb.tobytes() + view.depth_m.tobytes() for view in views}) == 1


@pytest.mark.parametrize("missing", ["device", "library"])
def test_a_machine_without_egl_is_told_what_to_install(missing: str) -> None:
    name = "libEGL.so.1" if missing == "device" else "libNotThereEGL.so.1"
    code = f"""
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.sim.gl.renderer import open_context
try:
    open_context(libegl={name!r})
except UserError as error:
    print(error)
"""
    nowhere = {"__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent.json"} if missing == "device" else {}
    run = python(code, **nowhere)
    assert run.returncode == 0, run.stderr
    assert "libgl1 libegl1 libgl1-mesa-dri" in run.stdout
    assert len(run.stdout.strip().splitlines()) == 1


def test_a_driver_that_is_not_installed_is_told_alike() -> None:
    run = python(
        "from pose2rgbd_ros.sim.gl.renderer import open_context; open_context()", LIBGL_DRIVERS_PATH="/nonexistent"
    )
    if run.returncode == 0:
        pytest.skip("this EGL does not take its drivers from Mesa's folder")
    assert "UserError" in run.stderr
    assert "libgl1-mesa-dri" in run.stderr


def test_another_thread_is_refused_and_nothing_breaks() -> None:
    errors: list[BaseException] = []

    def render_here() -> None:
        try:
            renderer.render(POSE)
        except UserError as error:
            errors.append(error)

    with SceneRenderer(SCENE, CAMERA) as renderer:
        thread = threading.Thread(target=render_here)
        thread.start()
        thread.join()
        assert "thread" in str(errors[0])
        assert renderer.render(POSE).rgb.any()


def test_a_closed_renderer_says_so() -> None:
    renderer = SceneRenderer(SCENE, CAMERA)
    renderer.close()
    renderer.close()
    with pytest.raises(UserError, match="closed"):
        renderer.render(POSE)


@pytest.mark.parametrize(
    ("camera", "supersample", "message"),
    [
        (replace(CAMERA, width=7), 1, "too small"),
        (replace(CAMERA, width=100_000), 1, "larger than this OpenGL offers"),
        (replace(CAMERA, width=9_000), 4, "larger than this OpenGL offers"),
        (CAMERA, 0, "supersample"),
        (CAMERA, 5, "supersample"),
        (replace(CAMERA, fx=0.0), 1, "calibrated"),
        (replace(CAMERA, distortion_model="plumb_bob", distortion=(0.1, 0, 0, 0)), 1, "distortion"),
    ],
)
def test_what_cannot_be_rendered_is_refused(camera: Camera, supersample: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SceneRenderer(SCENE, camera, supersample)


def test_a_sun_below_the_horizon_casts_no_shadows() -> None:
    night = replace(SCENE, light=replace(NOON, sun_direction=(1.0, 0.0, 0.0)))
    with pytest.raises(UserError, match="too low"):
        SceneRenderer(night, CAMERA)
    with SceneRenderer(night, CAMERA, shadows=False) as renderer:
        assert renderer.render(POSE).rgb.any()


@pytest.mark.parametrize("pose", [np.eye(3), np.full((4, 4), np.nan)])
def test_an_impossible_pose_is_refused(pose: np.ndarray) -> None:
    with SceneRenderer(SCENE, CAMERA) as renderer, pytest.raises(UserError, match="finite 4x4 pose"):
        renderer.render(pose)


def test_many_renderers_leave_nothing_behind() -> None:
    for _ in range(4):
        with SceneRenderer(SCENE, CAMERA) as renderer:
            renderer.render(POSE)
    open_context().release()
