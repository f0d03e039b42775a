"""Of relief only the shader is an ONNX graph, which the checkpoint keeps; who asks for more is told what to use."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.random_relief import random_relief, relief_checkpoint, views
from support.relief_tiles import cut

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.graphs import GRAPH_FILE, RECORD_FILE, source_fingerprint
from pose2rgbd_ros.models.relief import export as relief_export
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint

CAMERA = Camera.from_fov(48, 40, 80.0)
INSTEAD = "has no ONNX graph: use the checkpoint as it is, with backend auto or torch"


@pytest.fixture(params=[False, True], ids=["relief", "tiles"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    model = random_relief()
    network = cut(model, 2, 2) if request.param else model
    return relief_checkpoint(tmp_path / "model", network, CAMERA)  # type: ignore[arg-type]


def test_the_shader_is_exported_and_no_more(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiles = load_checkpoint(checkpoint).architecture["network"] == "relief-tiles"
    before = Renderer(checkpoint, "cpu").render(views())
    for verb in ("written", "current"):
        assert main(["export", str(checkpoint)]) == 0
        said = capsys.readouterr().out
        assert f"the shader, {verb}; the checkpoint runs without PyTorch" in said
        assert ("those of 3 more tiles" in said) == tiles
    names = sorted(file.name for file in checkpoint.glob("renderer*"))
    assert names == sorted([*([f"renderer.{tile}.onnx" for tile in range(4)] if tiles else [GRAPH_FILE]), RECORD_FILE])
    after = Renderer(checkpoint, "cpu").render(views())
    for name, images in before.present().items():
        np.testing.assert_array_equal(after.present()[name], images)
    with pytest.raises(UserError, match=INSTEAD):
        Renderer(checkpoint, "cpu", "onnx")


def test_a_whole_graph_of_an_earlier_version_is_not_taken_for_the_shader(checkpoint: Path) -> None:
    (checkpoint / GRAPH_FILE).write_bytes(b"graph")
    record = {
        "source": source_fingerprint(checkpoint, load_checkpoint(checkpoint), "exporter 2"),
        "sha256": hashlib.sha256(b"graph").hexdigest(),
        "comparison": {"poses": 8, "rgb_levels": 0.0, "grazing_share": 2e-3},
    }
    (checkpoint / RECORD_FILE).write_text(yaml.safe_dump(record))
    renderer = Renderer(checkpoint, "cpu")
    assert (renderer.backend_name, renderer.backend_note) == ("numba", "")
    assert renderer.render(views()[:1]).rgb is not None


def test_a_graph_that_differs_is_not_kept(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = relief_export.shader_graph

    def wrong(state):
        return made({**state, "shader.layers.4.bias": np.asarray(state["shader.layers.4.bias"]) + 0.1})

    monkeypatch.setattr(relief_export, "shader_graph", wrong)
    with pytest.raises(UserError, match="is not the shader"):
        relief_export.export(checkpoint)
    assert not list(checkpoint.glob("renderer*"))
