"""Where there is no PyTorch, nor onnx, the same pictures are rendered, and what cannot be is refused in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from support.random_relief import random_relief, relief_checkpoint, views
from support.relief_tiles import cut
from support.without_torch import command

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.graphs import GRAPH_FILE, RECORD_FILE
from pose2rgbd_ros.models.warp.config import WarpConfig
from pose2rgbd_ros.models.warp.network import WarpModel
from pose2rgbd_ros.rendering.bounds import Calibration, IntervalTable, save_calibration
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pose2rgbd_ros.training.families import architecture_of, build_model

CAMERA = Camera.from_fov(48, 40, 80.0)
LENS = Camera(45, 33, 30.0, 31.0, 22.0, 15.0, "plumb_bob", (-0.1, 0.02, 0.0, 0.0))
# Stated tolerance: a level of colour, 1 mm (of Base and Slice a thousandth of the range). Of a relief some pixels may
# be others, as their rays graze an edge, or end at the border of two tiles.
LEVELS, DEPTH_M, GRAZING = 1, 1e-3, {"relief": 2e-3, "tiles": 4e-3}


def checkpoint_of(path: Path, model: Any, T: np.ndarray, camera: Camera, **facts: Any) -> Path:
    """As training would leave it."""
    depth = np.array([[[4.0, 31.0]]], np.float32)
    common: dict[str, Any] = {"map_frame": "map", "camera_frame": "camera_optical", "depth_kind": "metric", **facts}
    save_checkpoint(
        path,
        Checkpoint(
            architecture=architecture_of(model),
            normalization=Normalization.fit(T, depth),
            camera=camera,
            state_dict=model.state_dict(),
            training_stamps_ns=np.arange(len(T)),
            training_T_map_cam=T,
            **common,
        ),
    )
    return path


def warp_checkpoint(path: Path) -> Path:
    """Warps pictures of rolling hills, 30 frames from above."""
    camera, eye = Camera.from_fov(32, 32, 70.0), np.random.default_rng(0).uniform((-9, -9, 18), (9, 9, 22), (30, 3))
    T = se3.look_at(eye, eye * (1.0, 1.0, 0.0) + (1.0, 2.0, 0.0))
    rays = camera.rays() @ T[:, None, :3, :3].swapaxes(-1, -2)
    depth = -T[:, None, None, 2, 3] / rays[..., 2]
    for _ in range(3):  # where a ray meets the hills, from where it met them
        x, y = (T[:, None, None, axis, 3] + depth * rays[..., axis] for axis in (0, 1))
        depth = (np.sin(x * 0.3) + np.cos(y * 0.4) - T[:, None, None, 2, 3]) / rays[..., 2]
    rgb = np.stack([127 + 100 * wave for wave in (np.sin(x * 0.4), np.sin(y * 0.5), np.cos(x * 0.3))], -1)
    model = WarpModel(WarpConfig(12, len(T), 32, 32, unit_m=2.0))
    model.keep(rgb.astype(np.uint8), depth.astype(np.float32), T, camera)
    return checkpoint_of(path, model, T, camera)


def paper_checkpoint(path: Path, variant: str) -> Path:
    settings = {"variant": variant, "slices": 4, "output": "rgbd", "size": 32, "width": 0.25}
    model = build_model({"network": "pose2rgbd", **settings})
    return checkpoint_of(path, model.eval(), views(), Camera(32, 32, 30.0, 30.0, 15.5, 15.5))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each, exported as training does."""
    folder = tmp_path_factory.mktemp("models")
    found = {name: paper_checkpoint(folder / name, name) for name in ("base", "slice")}
    found["relief"] = relief_checkpoint(folder / "relief", random_relief(), CAMERA)
    tiles = cut(random_relief(), 2, 2)
    with torch.no_grad():
        for key, parameter in tiles.named_parameters():
            if not key.endswith("logits"):
                parameter.normal_(0.0, 0.05)
    found["tiles"] = relief_checkpoint(folder / "tiles", tiles, CAMERA)  # type: ignore[arg-type]
    found["warp"] = warp_checkpoint(folder / "warp")
    for path in found.values():
        assert main(["export", str(path)]) == 0
    edges = tuple(np.array([edge], np.float32) for edge in (0.5, 0.1, 20.0, 1.0))
    share = np.full((2, 2, 2, 2), 0.1, np.float32)
    share[0, 1] = np.nan  # not sure, and varied: unknown
    for name in ("relief", "warp"):
        weights = load_checkpoint(found[name]).weights_sha256
        table = IntervalTable(edges, share, share / 2, 50.0, 0.0)
        save_calibration(found[name], Calibration(weights, 0.9, 0.005, 2.0, 60.0, 12.0, table, {}))
    return found


RENDER = """
import json, sys
import numpy as np
from pathlib import Path
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.rendering.renderer import Renderer
folder = Path(sys.argv[3])
for name, model in json.loads(sys.argv[4]).items():
    renderer = Renderer(model, threads=1)
    T = np.load(folder / f"{name}.npy")
    camera = Camera.from_dict(json.loads(sys.argv[5]))
    for which, images in (("own", renderer.render(T)), ("lens", renderer.render_for_camera(T, camera))):
        np.savez(folder / f"{name}-{which}.npz", **images.present())
    answers = [renderer.guard_score(pose) for pose in T]
    print(json.dumps([name, renderer.backend_name, renderer.backend_note, [answer.score for answer in answers]]))
assert not {"torch", "onnx"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def rendered(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Pictures of all models by a process without PyTorch, and what it says of each."""
    folder = tmp_path_factory.mktemp("rendered")
    for name, path in models.items():
        T = load_checkpoint(path).training_T_map_cam[:5].copy()
        T[1:, :3, 3] += (0.4, -0.3, 0.5)  # beside the training poses; the last far away
        T[-1, :3, 3] += 500.0
        np.save(folder / f"{name}.npy", T)
    paths = {name: str(path) for name, path in models.items()}
    words = command("-c", RENDER, folder, json.dumps(paths), json.dumps(LENS.to_dict()))
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    return folder, {name: facts for name, *facts in said}


@pytest.mark.parametrize("name", ["base", "slice", "relief", "tiles", "warp"])
def test_the_pictures_are_those_of_pytorch(
    models: dict[str, Path], rendered: tuple[Path, dict[str, Any]], name: str
) -> None:
    folder, facts = rendered
    backend, note, scores = facts[name]
    assert (backend, note) == ("onnx" if name in ("base", "slice") else "numba", "")
    reference, T = Renderer(models[name], "cpu", "torch"), np.load(folder / f"{name}.npy")
    assert scores == [reference.guard_score(pose).score for pose in T]
    depth_m = 1e-3 * 27.0 if name in ("base", "slice") else DEPTH_M
    for which, expected in (("own", reference.render(T)), ("lens", reference.render_for_camera(T, LENS))):
        found = np.load(folder / f"{name}-{which}.npz")
        assert set(found.files) == set(expected.present())
        assert expected.rgb is not None
        off = (np.abs(found["rgb"].astype(int) - expected.rgb) > LEVELS).any(-1)
        for kind, images in expected.present().items():
            if kind != "rgb":
                off |= ~np.isclose(found[kind], images, rtol=0, atol=1.1 * depth_m, equal_nan=True)
        assert off.mean() <= GRAZING.get(name, 0.0)
        assert expected.rgb.std() > 3
        assert np.isfinite(expected.depth).any()
    if name in ("relief", "warp"):
        known = np.isfinite(found["depth"])
        assert (found["depth_lower"][known] <= found["depth"][known]).all()
        assert np.isnan(found["depth"][-1]).all(), "the guard does not vouch for the last pose"


# What is refused, in one line that says what to do.


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-5] ^= 0x40
    file.write_bytes(bytes(data))


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = yaml.safe_load(file.read_text())
    change(values)
    file.write_text(yaml.safe_dump(values))


AGAIN = "run `pose2rgbd export` on the checkpoint where PyTorch is installed"
REFUSED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no graph": ("base", lambda path: (path / GRAPH_FILE).unlink(), f"renderer.onnx is not there; {AGAIN}"),
    "no record": ("slice", lambda path: (path / RECORD_FILE).unlink(), f"renderer.onnx is not there; {AGAIN}"),
    "damaged graph": ("base", lambda path: flip_a_byte(path / GRAPH_FILE), "renderer.onnx is damaged"),
    "another version": (
        "slice",
        lambda path: edit(path / RECORD_FILE, lambda record: record.update(exporter="exporter 99")),
        "renderer.onnx is of exporter 99, this program reads exporter 2",
    ),
    "edited model.yaml": (
        "base",
        lambda path: edit(path / "model.yaml", lambda values: values["normalization"].update(depth_max=62.0)),
        "renderer.onnx is of other weights, of another model.yaml or another version",
    ),
    "another shape": (
        "relief",
        lambda path: edit(path / "model.yaml", lambda values: values["architecture"].update(layers=12)),
        "does not fit the architecture: it has misshapen",
    ),
    "damaged weights": ("warp", lambda path: flip_a_byte(path / "weights.safetensors"), "its SHA-256 differs"),
    "newer checkpoint": (
        "warp",
        lambda path: edit(path / "model.yaml", lambda values: values.update(format_version=2)),
        "format_version is 2, this program reads 1",
    ),
    "damaged calibration": (
        "relief",
        lambda path: flip_a_byte(path / "calibration.safetensors"),
        "are not of one calibration",
    ),
    "a network of PyTorch": (
        "base",
        lambda path: edit(
            path / "model.yaml", lambda values: values.update(architecture={"network": "gsplat", "splats": 2})
        ),
        "gsplat runs on PyTorch, which is not installed here: install torch, or use one of base, relief, warp-N",
    ),
}
LOAD = """
import json, sys
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.rendering.renderer import Renderer
for name, arguments in json.loads(sys.argv[3]).items():
    try:
        Renderer(*arguments)
        print(json.dumps([name, "loaded"]))
    except UserError as error:
        print(json.dumps([name, str(error)]))
"""


@pytest.fixture(scope="module")
def refusals(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a process without PyTorch says of each."""
    folder = tmp_path_factory.mktemp("refused")
    asked: dict[str, list[str]] = {
        "torch asked for": [str(models["base"]), "cpu", "torch"],
        "cuda asked for": [str(models["base"]), "cuda"],
    }
    for name, (model, harm, _) in REFUSED.items():
        path = shutil.copytree(models[model], folder / name.replace(" ", "-"))
        harm(path)
        asked[name] = [str(path)]
    words = command("-c", LOAD, json.dumps(asked))
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_rendered_is_refused_in_one_line(refusals: dict[str, str], name: str) -> None:
    assert REFUSED[name][2] in refusals[name]
    assert "\n" not in refusals[name]


def test_pytorch_itself_is_asked_for_in_vain(refusals: dict[str, str]) -> None:
    assert "pose2rgbd runs on PyTorch, which is not installed here" in refusals["torch asked for"]
    assert "device cuda needs PyTorch, which is not installed here" in refusals["cuda asked for"]


@pytest.mark.parametrize("words", [("train", "relief", "DATASET"), ("localize", "--model", "x")])
def test_what_needs_pytorch_says_so(words: tuple[str, ...]) -> None:
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=600)
    assert done.returncode == 2
    assert f"error: pose2rgbd {words[0]} needs the Python library torch" in done.stderr
    assert done.stderr.count("\n") == 1
