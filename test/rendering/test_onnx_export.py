"""A stored graph is used only while it belongs to the checkpoint; a wrong one is never stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.graphs import GRAPH_FILE, RECORD_FILE
from pose2rgbd_ros.models.pose2rgbd import onnx
from pose2rgbd_ros.models.pose2rgbd.export import export_checkpoint
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def exported(make_checkpoint: Any) -> Path:
    path = make_checkpoint(variant="slice")
    assert not export_checkpoint(path).reused
    return path


def test_second_export_is_the_first(exported: Path) -> None:
    again = export_checkpoint(exported)
    assert again.reused
    assert again.graph == (exported / GRAPH_FILE).read_bytes()
    assert not export_checkpoint(exported, force=True).reused


def test_record_tells_how_close_the_graph_is(exported: Path) -> None:
    comparison = yaml.safe_load((exported / RECORD_FILE).read_text())["comparison"]
    assert comparison["poses"] == 8
    assert comparison["rgb_levels"] <= 1
    assert 0 <= comparison["depth_share_of_range"] < 1e-5
    assert 0 <= comparison["confidence"] < 1e-4


def test_other_weights_make_it_stale(exported: Path, make_checkpoint: Any, poses: np.ndarray) -> None:
    """The same folder trained again, with the old graph still in it."""
    old = {name: (exported / name).read_bytes() for name in (GRAPH_FILE, RECORD_FILE)}
    make_checkpoint(variant="slice", seed=1)
    for name, data in old.items():
        (exported / name).write_bytes(data)
    fast = Renderer(exported, device="cpu", backend="onnx").render(poses)
    np.testing.assert_allclose(fast.depth, Renderer(exported, "cpu", "torch").render(poses).depth, atol=1e-3)


def test_edited_model_makes_it_stale(exported: Path, poses: np.ndarray) -> None:
    model = exported / "model.yaml"
    values = yaml.safe_load(model.read_text())
    values["normalization"]["depth_max"] = 62.0
    model.write_text(yaml.safe_dump(values))
    depth = Renderer(exported, device="cpu", backend="onnx").render(poses).depth
    assert depth is not None
    assert depth.max() > 31.5  # the range of the first export


def test_damage_leads_to_a_new_export(exported: Path, poses: np.ndarray) -> None:
    expected = Renderer(exported, "cpu", "onnx").render(poses).depth
    graph, record = exported / GRAPH_FILE, exported / RECORD_FILE
    whole = graph.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x40
    for file, damage in (
        (graph, bytes(flipped)),
        (graph, whole[:1000]),
        (graph, b""),
        (record, b"{"),
        (record, b"a: 1"),
    ):
        file.write_bytes(damage)
        np.testing.assert_array_equal(Renderer(exported, "cpu", "onnx").render(poses).depth, expected)
        assert export_checkpoint(exported).reused


def test_a_record_of_an_earlier_version_is_current(exported: Path) -> None:
    record = yaml.safe_load((exported / RECORD_FILE).read_text())
    record["comparison"]["grazing_share"] = 0.0
    (exported / RECORD_FILE).write_text(yaml.safe_dump(record))
    assert export_checkpoint(exported).reused


def test_missing_record_leads_to_a_new_export(exported: Path) -> None:
    (exported / RECORD_FILE).unlink()
    assert not export_checkpoint(exported).reused


def test_no_temporary_files_stay(exported: Path) -> None:
    assert sorted(file.name for file in exported.iterdir()) == [
        "model.yaml",
        GRAPH_FILE,
        RECORD_FILE,
        "training_poses.safetensors",
        "weights.safetensors",
    ]


def test_folder_that_cannot_be_written(make_checkpoint: Any, poses: np.ndarray, caplog: Any) -> None:
    """The renderer goes on with the graph in memory; the command says what is wrong."""
    path = make_checkpoint()
    (path / GRAPH_FILE).mkdir()  # no file can take its place
    assert Renderer(path, "cpu").backend_name == "onnx"
    assert "could not be kept" in caplog.text
    with pytest.raises(UserError, match="cannot write"):
        export_checkpoint(path)


def test_graph_that_differs_is_refused(make_checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_checkpoint()
    build = onnx.build_graph

    def wrong(model: Any, normalization: Any) -> Any:
        model.image_head.bias.data += 0.02
        return build(model, normalization)

    monkeypatch.setattr(onnx, "build_graph", wrong)
    with pytest.raises(UserError, match=r"not the network: .* rgb [23] of 255, depth .* of its range"):
        export_checkpoint(path)
    assert not (path / GRAPH_FILE).exists()
    renderer = Renderer(path, "cpu")
    assert renderer.backend_name == "torch"
    assert "not the network" in renderer.backend_note


def test_diverged_weights_are_refused(make_checkpoint: Any) -> None:
    path = make_checkpoint()
    checkpoint = load_checkpoint(path)
    checkpoint.state_dict["image_head.bias"] *= float("nan")
    save_checkpoint(path, checkpoint)
    with pytest.raises(UserError, match="not the network"):
        export_checkpoint(path)


def test_command(make_checkpoint: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_checkpoint()
    assert main(["export", str(path)]) == 0
    first = capsys.readouterr().out
    assert "written in" in first
    assert "over 8 training poses: rgb" in first
    modified = (path / GRAPH_FILE).stat().st_mtime_ns
    assert main(["export", str(path)]) == 0
    assert "is current" in capsys.readouterr().out
    assert (path / GRAPH_FILE).stat().st_mtime_ns == modified


def test_command_on_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path} is no pose2rgbd checkpoint")
