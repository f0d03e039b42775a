"""The exported relief renderer is the network, for any camera, in operators any runtime knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from support.random_relief import random_relief, relief_checkpoint, views

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.rendering import relief_graph
from pose2rgbd_ros.rendering.onnx_export import GRAPH_FILE, GRAZING_SHARE, export_checkpoint
from pose2rgbd_ros.rendering.onnx_graph import OPSET
from pose2rgbd_ros.rendering.renderer import Renderer

CAMERA = Camera.from_fov(48, 40, 80.0)


@pytest.mark.parametrize(
    ("config", "camera"),
    [
        ({}, CAMERA),
        ({"unshuffle": 4, "unit_m": 2.5, "levels": 3, "output": "rgb"}, Camera.from_fov(45, 33, 100.0)),
    ],
)
def test_export_is_the_network(tmp_path: Path, config: dict[str, Any], camera: Camera) -> None:
    path = relief_checkpoint(tmp_path / "model", random_relief(**config), camera)
    exported = export_checkpoint(path)
    assert exported.path == path / GRAPH_FILE
    comparison = exported.comparison
    assert comparison.within_tolerance()
    assert comparison.rgb_levels is not None
    assert comparison.grazing_share == GRAZING_SHARE
    assert "0.2% of the pixels" in str(comparison)
    assert (comparison.depth_share_of_range is None) == (config.get("output") == "rgb")
    graph = onnx.load_from_string(exported.graph)
    assert {(domain.domain, domain.version) for domain in graph.opset_import} == {("", OPSET)}
    assert export_checkpoint(path).reused


def test_it_renders_cameras_it_was_not_exported_for(tmp_path: Path) -> None:
    path = relief_checkpoint(tmp_path / "model", random_relief(), CAMERA)
    exported, network = (Renderer(path, "cpu", backend, threads=1) for backend in ("onnx", "torch"))
    assert exported.backend_name == "onnx"
    lens = Camera(40, 48, 30.0, 42.0, 20.0, 25.0, "plumb_bob", (-0.2, 0.05, 0.001, 0.0, 0.0))
    for camera in (CAMERA, lens, Camera.from_fov(33, 21, 40.0)):
        found = exported.render_for_camera(views(), camera)
        expected = network.render_for_camera(views(), camera)
        for name, most in (("rgb", 1), ("depth", 1e-3), ("confidence", 1e-4)):
            first, second = (images.present()[name].astype(float) for images in (found, expected))
            alike = np.isclose(first, second, rtol=0, atol=most, equal_nan=True)
            assert alike.mean() >= 1 - 2 * GRAZING_SHARE, name


def test_pixels_without_a_ray_are_unknown(tmp_path: Path) -> None:
    path = relief_checkpoint(tmp_path / "model", random_relief(), CAMERA)
    rays = CAMERA.rays().astype(np.float32)
    rays[:3] = np.nan
    session = relief_session(export_checkpoint(path).graph)
    names = ["depth", "confidence"]
    inputs = {"T_map_cam": views()[:1], "rays": rays, "focal_px": np.array([20.0], np.float32)}
    depth, sure = session.run(names, inputs)
    assert np.isnan(depth[0, :3]).all()
    assert (sure[0, :3] == 0).all()
    assert np.isfinite(depth[0, 3:]).mean() > 0.5


def test_a_layer_without_a_counterpart_is_named() -> None:
    model = random_relief()
    model.shader.layers[1] = torch.nn.GELU()  # type: ignore[assignment]
    with pytest.raises(UserError, match="no ONNX export of GELU"):
        relief_graph.shader_graph(model.shader)


def relief_session(graph: bytes) -> Any:
    from pose2rgbd_ros.rendering.backends import onnx_session

    return onnx_session(graph, 1)
