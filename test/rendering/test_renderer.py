"""The renderer's choices, its arrays, and what another camera sees."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from support.small_relief import write_small_relief

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.backends import usable_cores
from pose2rgbd_ros.models.pose2rgbd.export import export_checkpoint
from pose2rgbd_ros.models.torch_backend import TorchBackend
from pose2rgbd_ros.rendering.renderer import Renderer, give_memory_back
from pose2rgbd_ros.training.checkpoint import load_checkpoint, save_checkpoint

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture
def renderer(make_checkpoint: Any) -> Renderer:
    return Renderer(make_checkpoint(variant="slice"), device="cpu")


def test_what_it_tells(renderer: Renderer) -> None:
    assert (renderer.device, renderer.backend_name, renderer.backend_note) == ("cpu", "onnx", "")
    assert (renderer.map_frame, renderer.camera_frame) == ("map", "camera_optical")
    assert (renderer.output, renderer.depth_kind, renderer.depth_range) == ("rgbd", "metric", (4.0, 31.0))
    assert (renderer.camera.width, renderer.camera.height) == (32, 32)
    assert renderer.has_confidence


def test_relative_depth_says_so(make_checkpoint: Any) -> None:
    assert Renderer(make_checkpoint(depth_kind="relative"), "cpu", "torch").depth_kind == "relative"


def test_shapes_and_types(renderer: Renderer, poses: np.ndarray) -> None:
    images = renderer.render(poses)
    assert images.rgb is not None
    assert images.depth is not None
    assert images.confidence is not None
    assert (images.rgb.shape, images.rgb.dtype) == ((3, 32, 32, 3), np.uint8)
    assert (images.depth.shape, images.depth.dtype) == ((3, 32, 32), np.float32)
    assert (images.confidence.shape, images.confidence.dtype) == ((3, 32, 32), np.float32)


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_a_batch_is_its_frames(make_checkpoint: Any, poses: np.ndarray, backend: str) -> None:
    renderer = Renderer(make_checkpoint(variant="slice"), "cpu", backend)
    batch = renderer.render(poses).present()
    for index, pose in enumerate(poses):
        for name, images in renderer.render(pose).present().items():
            np.testing.assert_array_equal(images[0], batch[name][index])
    assert np.ptp(batch["depth"], axis=0).max() > 0.1  # the poses do differ
    assert all(len(images) == 0 for images in renderer.render(poses[:0]).present().values())


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_results_are_the_callers_own(make_checkpoint: Any, poses: np.ndarray, backend: str) -> None:
    renderer = Renderer(make_checkpoint(), "cpu", backend)
    first = renderer.render(poses[:1])
    kept = first.depth.copy()  # type: ignore[union-attr]
    second = renderer.render(poses[1:2])
    np.testing.assert_array_equal(first.depth, kept)
    assert renderer.render(poses[:1], out=second) is second
    np.testing.assert_array_equal(second.depth, kept)
    with pytest.raises(ValueError, match="for 3 poses"):
        renderer.render(poses, out=second)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"device": "cuda:99"}, "sees"),
        ({"device": "tpu"}, "choose auto, cpu, cuda"),
        ({"device": "cuda:x"}, "choose auto, cpu, cuda"),
        ({"device": "cpu", "backend": "openvino"}, "choose one of: auto, torch, onnx"),
        ({"device": "cpu", "precision": "bfloat16"}, "needs a CUDA device"),
        ({"device": "cpu", "precision": "int8"}, "choose one of"),
        ({"device": "cpu", "threads": 0}, "at least 1"),
    ],
)
def test_impossible_choices(make_checkpoint: Any, choice: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Renderer(make_checkpoint(), **choice)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_asked_for_and_absent(make_checkpoint: Any) -> None:
    with pytest.raises(UserError, match="sees 0 CUDA devices; use device auto or cpu"):
        Renderer(make_checkpoint(), device="cuda")
    assert Renderer(make_checkpoint(), device="auto").device == "cpu"


def resident_kb(library: str, rights: str = "r-xp") -> int:
    """Of a loaded library's instructions, or of other parts."""
    blocks = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.M)
    mine = [block for block in blocks if library in block.partition("\n")[0] and f" {rights} " in block]
    assert mine, f"{library} is not loaded"
    return sum(int(re.findall(r"^Rss:\s+(\d+) kB", block, re.M)[0]) for block in mine)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="memory by mapping is Linux'")
def test_compiled_code_runs_on_without_what_loaded_it(tmp_path: Path) -> None:
    renderer = Renderer(write_small_relief(tmp_path / "hamlet"), "cpu")
    T = renderer.guard.example_T_map_cam
    before, held_kb = renderer.render(T), resident_kb("libllvmlite")
    own_kb = resident_kb("libllvmlite", "rw-p")
    give_memory_back()
    assert resident_kb("libllvmlite") < held_kb / 10 + 100
    assert resident_kb("libllvmlite", "rw-p") == own_kb, "what the process wrote is kept"
    after = renderer.render(T)
    for name, images in before.present().items():
        np.testing.assert_array_equal(after.present()[name], images)
    assert numba.njit(lambda number: number + 1)(41) == 42, "and more can be compiled"


def test_more_threads_than_cores_are_cores(
    make_checkpoint: Any, poses: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    path, before, cores = make_checkpoint(), torch.get_num_threads(), usable_cores()
    try:
        renderer = Renderer(path, "cpu", "torch", threads=cores + 7)
        assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)
    said = f"{cores + 7} threads were asked for, and this process may use {cores} cores: it takes {cores}"
    assert caplog.messages == [said]
    assert renderer.render(poses).rgb is not None
    caplog.clear()
    Renderer(path, "cpu", threads=cores)
    assert not caplog.messages


def test_a_gpu_without_memory_is_left_for_the_cpu(
    make_checkpoint: Any, poses: np.ndarray, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU is needed: what the driver would raise is raised for a device that is not the CPU."""
    path = make_checkpoint()
    expected = Renderer(path, "cpu", "torch").render(poses)
    renderer = Renderer(path, "cpu", "torch")
    backend, infer = renderer._backend, TorchBackend._infer

    def full(self: TorchBackend, T: torch.Tensor, camera: Any) -> Any:
        if self._device.type != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return infer(self, T, camera)

    monkeypatch.setattr(TorchBackend, "_infer", full)
    monkeypatch.setattr(backend, "_device", torch.device("meta"))
    for _ in range(2):
        found = renderer.render(poses)
        np.testing.assert_array_equal(found.rgb, expected.rgb)
        np.testing.assert_array_equal(found.depth, expected.depth)
    assert len(caplog.messages) == 1, "said once, and it stays there"
    assert "meta has no memory left; rendering on the CPU from now on" in caplog.messages[0]


def test_a_cpu_without_memory_says_so(make_checkpoint: Any, poses: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("no memory")

    renderer = Renderer(make_checkpoint(), "cpu", "torch")
    monkeypatch.setattr(TorchBackend, "_infer", full)
    with pytest.raises(torch.OutOfMemoryError):
        renderer.render(poses)


def test_without_onnxruntime(make_checkpoint: Any, poses: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_checkpoint()
    expected = Renderer(path, "cpu", "torch").render(poses)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    renderer = Renderer(path, "cpu")
    assert renderer.backend_name == "torch"
    assert "ONNX Runtime is not usable here" in renderer.backend_note
    np.testing.assert_array_equal(renderer.render(poses).rgb, expected.rgb)
    with pytest.raises(UserError, match="install onnxruntime"):
        Renderer(path, "cpu", "onnx")


def test_stored_graph_needs_no_onnx_package(make_checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_checkpoint()
    Renderer(path, "cpu", "onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert Renderer(path, "cpu").backend_name == "onnx"


def test_bad_poses(renderer: Renderer, poses: np.ndarray) -> None:
    poses[1, 0, 3] = np.nan
    with pytest.raises(UserError, match="not finite"):
        renderer.render(poses)
    with pytest.raises(UserError, match=r"\(B, 4, 4\)"):
        renderer.render(np.zeros((2, 7)))


def test_damaged_checkpoint(make_checkpoint: Any) -> None:
    path = make_checkpoint()
    (path / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged"):
        Renderer(path, "cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"camera": Camera(64, 48, 50.0, 50.0, 31.5, 23.5)}, "64 x 48, but its network makes 32 x 32"),
        ({"normalization": "euler"}, "poses of different kinds"),
        ({"normalization": "no depth"}, "no range of depth"),
        ({"training_T_map_cam": np.zeros((0, 4, 4)), "training_stamps_ns": np.zeros(0, np.int64)}, "no training poses"),
    ],
)
def test_checkpoint_that_contradicts_itself(make_checkpoint: Any, change: dict[str, Any], message: str) -> None:
    path = make_checkpoint()
    checkpoint = load_checkpoint(path)
    T = checkpoint.training_T_map_cam
    others = {"euler": Normalization.fit(T, np.array([[[1.0, 2.0]]]), "euler"), "no depth": Normalization.fit(T)}
    if "normalization" in change:
        change = {"normalization": others[change["normalization"]]}
    save_checkpoint(path, dataclasses.replace(checkpoint, **change))
    for load in (lambda: Renderer(path, "cpu"), lambda: export_checkpoint(path)):
        with pytest.raises(UserError, match=message):
            load()


def test_cropped_camera_sees_the_crop(renderer: Renderer, poses: np.ndarray) -> None:
    whole = renderer.render(poses[:1]).present()
    seen = renderer.render_for_camera(poses[0], renderer.camera.cropped(5, 3, 20, 16)).present()
    assert seen.keys() == whole.keys()
    for name, images in seen.items():
        np.testing.assert_allclose(images, whole[name][:, 3:19, 5:25], atol=1 if name == "rgb" else 0)


def test_wider_camera_sees_nothing_outside(renderer: Renderer, poses: np.ndarray) -> None:
    whole = renderer.render(poses[:2])
    seen = renderer.render_for_camera(poses[:2], renderer.camera.cropped(-4, -6, 40, 44))
    inside = np.zeros((2, 44, 40), bool)
    inside[:, 6:38, 4:36] = True
    np.testing.assert_array_equal(np.isfinite(seen.depth), inside)  # type: ignore[arg-type]
    np.testing.assert_array_equal(seen.depth[inside], whole.depth.ravel())  # type: ignore[index, union-attr]
    assert (seen.rgb[~inside] == 0).all()  # type: ignore[index]
    assert (seen.confidence[~inside] == 0).all()  # type: ignore[index]
    assert seen.rgb[inside].any()  # type: ignore[index]


def test_cameras_take_turns(renderer: Renderer, poses: np.ndarray) -> None:
    """The kept lookup table must not serve another camera."""
    cameras = [renderer.camera.resized(16, 16), renderer.camera.cropped(0, 0, 16, 16)]
    first = [renderer.render_for_camera(poses[0], camera).depth for camera in cameras]
    again = [renderer.render_for_camera(poses[0], camera).depth for camera in cameras]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(*first)


def test_uncalibrated_cameras(renderer: Renderer, make_checkpoint: Any, poses: np.ndarray) -> None:
    unknown = Camera(32, 32, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(UserError, match="the camera asked for is not calibrated"):
        renderer.render_for_camera(poses, unknown)
    uncalibrated = Renderer(make_checkpoint(camera=unknown), "cpu")
    assert uncalibrated.render(poses).rgb is not None
    with pytest.raises(UserError, match="trained with is not calibrated"):
        uncalibrated.render_for_camera(poses, renderer.camera)


def test_images_of_another_camera_are_written_where_asked(renderer: Renderer, poses: np.ndarray) -> None:
    camera = renderer.camera.cropped(-4, -6, 40, 44)
    expected, out = (renderer.render_for_camera(poses[i : i + 1], camera) for i in (0, 1))
    arrays = {name: images.ctypes.data for name, images in out.present().items()}
    again = renderer.render_for_camera(poses[:1], camera, out=out)
    assert {name: images.ctypes.data for name, images in again.present().items()} == arrays
    for name, images in expected.present().items():
        np.testing.assert_array_equal(again.present()[name], images)
    with pytest.raises(ValueError, match="out must be a result"):
        renderer.render_for_camera(poses[:1], renderer.camera, out=out)


def test_the_trained_camera_needs_no_calibration(make_checkpoint: Any, poses: np.ndarray) -> None:
    uncalibrated = Renderer(make_checkpoint(camera=Camera(32, 32, 0, 0, 0, 0)), "cpu")
    seen = uncalibrated.render_for_camera(poses, uncalibrated.camera).present()
    for name, images in uncalibrated.render(poses).present().items():
        np.testing.assert_array_equal(seen[name], images)


@pytest.mark.gpu
@cuda
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_cuda_is_close_to_the_cpu(make_checkpoint: Any, poses: np.ndarray, precision: str) -> None:
    path = make_checkpoint(variant="slice", size=64)
    poses = np.tile(poses, (7, 1, 1))  # more than one batch
    expected = Renderer(path, "cpu", "torch").render(poses)
    found = Renderer(path, "cuda", precision=precision).render(poses)
    levels = {"float32": 2, "float16": 8, "bfloat16": 60}[precision]
    assert np.abs(expected.rgb.astype(int) - found.rgb).max() <= levels  # type: ignore[union-attr, operator]
    assert np.abs(expected.depth - found.depth).max() <= 27 * levels / 255  # type: ignore[operator]
