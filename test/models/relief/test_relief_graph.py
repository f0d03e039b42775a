"""Of relief only the shader is an ONNX graph; who asks for more is told what to use."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
import yaml
from support.random_relief import random_relief, relief_checkpoint, views
from support.relief_tiles import cut

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.pose2rgbd.export import GRAPH_FILE, RECORD_FILE, source_fingerprint
from pose2rgbd_ros.models.relief.backend import shader_graph
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint

CAMERA = Camera.from_fov(48, 40, 80.0)
INSTEAD = "has no ONNX graph: use the checkpoint as it is, with backend auto or torch"


@pytest.mark.parametrize("tiles", [False, True])
def test_relief_is_not_exported_and_one_line_says_what_to_use(
    tiles: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = random_relief()
    path = relief_checkpoint(tmp_path / "model", cut(model, 2, 2) if tiles else model, CAMERA)  # type: ignore[arg-type]
    for stored in (False, True):
        if stored:  # by a version that exported it: current in every other respect
            (path / GRAPH_FILE).write_bytes(b"graph")
            record = {
                "source": source_fingerprint(path, load_checkpoint(path)),
                "sha256": hashlib.sha256(b"graph").hexdigest(),
                "comparison": {"poses": 8, "rgb_levels": 0.0, "grazing_share": 2e-3},
            }
            (path / RECORD_FILE).write_text(yaml.safe_dump(record))
        assert main(["export", str(path)]) == 2
        assert capsys.readouterr().err == f"error: {'relief-tiles' if tiles else 'relief'} {INSTEAD}\n"
        with pytest.raises(UserError, match="with backend auto or torch"):
            Renderer(path, "cpu", "onnx")
    assert Renderer(path, "cpu", "torch").render(views()[:1]).rgb is not None


def test_a_layer_without_a_counterpart_is_named() -> None:
    model = random_relief()
    model.shader.layers[1] = torch.nn.GELU()  # type: ignore[assignment]
    with pytest.raises(UserError, match="no ONNX form of GELU"):
        shader_graph(model.shader)
