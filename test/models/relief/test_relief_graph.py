"""A relief renders from its checkpoint as it is: it has no ONNX graph, and who asks for one is told what to use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.random_relief import random_relief, relief_checkpoint, views
from support.relief_tiles import cut

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.graphs import GRAPH_FILE
from pose2rgbd_ros.rendering.renderer import Renderer

CAMERA = Camera.from_fov(48, 40, 80.0)
INSTEAD = "has no ONNX graph: use the checkpoint as it is, with backend auto or torch"


@pytest.fixture(params=[False, True], ids=["relief", "tiles"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    model = random_relief()
    network = cut(model, 2, 2) if request.param else model
    return relief_checkpoint(tmp_path / "model", network, CAMERA)  # type: ignore[arg-type]


def test_nothing_is_exported(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(checkpoint)]) == 0
    assert "needs nothing more: the checkpoint runs without PyTorch as it is" in capsys.readouterr().out
    assert not list(checkpoint.glob("renderer*"))
    with pytest.raises(UserError, match=INSTEAD):
        Renderer(checkpoint, "cpu", "onnx")


def test_a_graph_of_an_earlier_version_does_no_harm(checkpoint: Path) -> None:
    before = Renderer(checkpoint, "cpu").render(views()[:2])
    (checkpoint / GRAPH_FILE).write_bytes(b"graph")
    renderer = Renderer(checkpoint, "cpu")
    assert (renderer.backend_name, renderer.backend_note) == ("numba", "")
    for name, images in renderer.render(views()[:2]).present().items():
        np.testing.assert_array_equal(images, before.present()[name])
