"""A dataset and runs made before the families had settings of their own open and render as they did then, and those
without depth go on.

test/data/made_by_b1f4223 was made by the code of that commit: half a loop over the block world in 10 frames of 48 x 40
(the fixture `flight_dataset`), and a run of one epoch of each family that a processor trains, on the settings in its
config.yaml or model.yaml. expected.yaml is what that code then showed at the first training pose (means), and what came
of one more epoch: the sum of all that was learnt, in absolute values.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.settings import read_yaml
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.families import PoseModel, architecture_of

MADE = Path(__file__).parents[1] / "data" / "made_by_b1f4223"
RUNS = ["base", "relief", "relief-tiles", "warp-2", "posegan", "posenet"]
COMMON = (
    "--size 32 --device cpu --no-tensorboard --split random --test-fraction 0.34 --validate-every 1 --batch-size 4 "
    "--clock cpu"
).split()
OWN = {
    "base": "--width 0.015625 --learning-rate 0.001 --pose-frequencies 0",
    "relief": "--channels 3 --coarse-channels 3 --width 4 --unshuffle 1 --depth-weight 0.03 --box.cell-m 14 "
    "--box.layer-m 12 --box.feature-m 12",
    "posenet": "--width 0.03125 --blocks 3 --crop centre --fit crop",
}
WITH_DEPTH = ("base", "relief")


def test_the_dataset_opens() -> None:
    dataset = Dataset(MADE / "dataset")
    assert len(dataset) == 10
    assert dataset.depth_kind == "metric"
    assert dataset.rgb(3).shape == (40, 48, 3)
    depth = dataset.depth(3)
    assert 10.0 < np.nanmin(depth) < np.nanmax(depth) < 45.0


@pytest.mark.parametrize("name", RUNS)
def test_a_checkpoint_opens_and_shows_what_it_did(name: str, tmp_path: Path) -> None:
    shutil.copytree(MADE / name, tmp_path / name)  # a graph is written beside the weights
    checkpoint = load_checkpoint(tmp_path / name)
    model = checkpoint.build_model()
    assert architecture_of(model) == {**checkpoint.architecture, **_tuples(architecture_of(model))}
    expected = read_yaml(MADE / name / "expected.yaml")["shown_mean"]
    if expected:
        shown = Renderer(tmp_path / name, "cpu", guard=False).render(checkpoint.training_T_map_cam[:1]).present()
        # Of 1,024 pixels of warp-2 one or two at edges are known or not as the processor rounds: 1.05e-3 of the mean.
        means = {kind: np.nanmean(images) for kind, images in shown.items()}
        assert means == pytest.approx(expected, rel=3e-3 if name.startswith("warp") else 1e-3)
    assert isinstance(model, PoseModel) == (name in ("posegan", "posenet"))
    if isinstance(model, PoseModel):
        with torch.inference_mode():
            found = model.poses(torch.full((1, 3, 32, 32), 0.5), checkpoint.normalization)
        assert torch.isfinite(found.T_map_cam).all()


def _tuples(architecture: dict[str, object]) -> dict[str, object]:
    """What YAML has as lists."""
    return {name: value for name, value in architecture.items() if isinstance(value, tuple)}


@pytest.mark.parametrize("name", WITH_DEPTH)
def test_a_run_on_depth_of_another_size_says_that_its_frames_changed(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its depth was resized otherwise (docs/decisions/0031-depth-at-another-size.md): no weights are overwritten."""
    run, dataset = tmp_path / "run", tmp_path / "dataset"
    shutil.copytree(MADE / name, run)
    shutil.copytree(MADE / "dataset", dataset)
    before = {file: file.read_bytes() for file in run.glob("*/*") if file.is_file()}
    line = ["train", name, str(dataset), "--out", str(run), "--resume", "--epochs", "2", *COMMON]
    assert main([*line, *OWN[name].split()]) == 2
    told = capsys.readouterr().err
    assert "are not those" in told or "was started with" in told  # relief's light was a flag, too
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize("name", sorted(set(OWN) - set(WITH_DEPTH)))
def test_a_run_goes_on_as_it_did(name: str, tmp_path: Path) -> None:
    run, dataset = tmp_path / "run", tmp_path / "dataset"
    shutil.copytree(MADE / name, run)
    shutil.copytree(MADE / "dataset", dataset)  # frames are cached beside it
    line = ["train", name, str(dataset), "--out", str(run), "--resume", "--epochs", "2", *COMMON]
    assert main([*line, *OWN[name].split(), "--seed", "1"]) == 2, "another seed is another run"
    assert main([*line, *OWN[name].split()]) in (0, 1)  # 1: it collapsed, after two epochs
    expected = read_yaml(MADE / name / "expected.yaml")["resumed"]
    checkpoint = load_checkpoint(run)
    assert checkpoint.provenance["images"] == expected["images"]
    assert checkpoint.metrics == pytest.approx(expected["scores"], rel=1e-2)
    learnt = load_file(run / "last" / "state.safetensors")
    total = sum(float(value.double().abs().sum()) for key, value in learnt.items() if key.startswith("model."))
    assert total == pytest.approx(expected["state_sum"], rel=1e-4)
