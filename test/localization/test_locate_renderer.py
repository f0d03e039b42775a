"""`pose2rgbd locate --renderer`: the answer of a network that is always off, corrected by rendering the place."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support.small_relief import small_relief, write_small_relief

from pose2rgbd_ros.cli import locate
from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.posegan.config import PoseNetConfig
from pose2rgbd_ros.models.posegan.network import PoseNet
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import Checkpoint, save_checkpoint
from pose2rgbd_ros.training.families import architecture_of

CAMERA = Camera.from_fov(96, 96, 80.0)
TRUE = se3.look_at(np.array([-4.0, -6.0, 8.0]), np.array([1.0, 1.0, 0.0]))


def textured() -> Relief:
    """The small relief with detail of every size."""
    model = small_relief()
    torch.manual_seed(3)
    with torch.no_grad():
        for table in (model.features.maps, model.features.coarse):
            table.normal_(0.0, 0.3)
    return model


def write_stubborn(folder: Path, T_map_cam: np.ndarray, map_frame: str = "map") -> Path:
    """The checkpoint of a PoseNet that answers one pose (4, 4) to every image."""
    model = PoseNet(PoseNetConfig(size=32, width=0.25))
    around = np.stack([T_map_cam] * 3)
    around[:2, :3, 3] += [[-5.0, -5.0, -5.0], [5.0, 5.0, 5.0]]
    normalization = Normalization.fit(around)
    last = [module for module in model.regressor.pose.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.from_numpy(normalization.encode_pose(T_map_cam[None])[0]))
    checkpoint = Checkpoint(
        architecture=architecture_of(model), normalization=normalization, camera=CAMERA.resized(32, 32),
        map_frame=map_frame, camera_frame="camera_optical", depth_kind=None, state_dict=model.state_dict(),
        training_stamps_ns=np.arange(3), training_T_map_cam=around,
    )  # fmt: skip
    save_checkpoint(folder, checkpoint)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path, np.ndarray]:
    """Network, renderer, an image taken at `TRUE`, and where the network says it was."""
    folder = tmp_path_factory.mktemp("place")
    rough = TRUE.copy()
    rough[:3, 3] += [0.7, -0.5, 0.4]
    renderer = write_small_relief(folder / "relief", model=textured())
    shown = Renderer(renderer, "cpu", threads=1, guard=False).render_for_camera(TRUE, CAMERA).rgb
    assert shown is not None
    cv2.imwrite(str(folder / "view.png"), shown[0][..., ::-1])
    return write_stubborn(folder / "network", rough), renderer, folder / "view.png", rough


def run(*words: object) -> int:
    fov = ["--fov-deg", "80", "--device", "cpu"]
    return locate.main([*map(str, words), *fov])


def position(table: Path) -> tuple[np.ndarray, dict[str, str]]:
    row = next(csv.DictReader(table.open()))
    return np.array([float(row[f"{axis}_m"]) for axis in "xyz"]), row


def test_the_rendering_makes_the_answer_exact(place, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    network, renderer, image, rough = place
    assert run(network, image, "--out", tmp_path / "rough.csv") == 0
    assert np.allclose(position(tmp_path / "rough.csv")[0], rough[:3, 3], atol=1e-3)
    assert "not calibrated" in capsys.readouterr().out
    assert run(network, image, "--renderer", renderer, "--out", tmp_path / "exact.csv") == 0
    found, row = position(tmp_path / "exact.csv")
    assert np.linalg.norm(found - TRUE[:3, 3]) < 0.05
    assert float(row["verification"]) > 0.95
    assert 0 < float(row["sigma_m"]) < 0.2
    assert "likeness" in capsys.readouterr().out


def test_an_image_of_something_else_is_refused(place, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    network, renderer, image, _ = place
    cv2.imwrite(str(tmp_path / "upside_down.png"), cv2.imread(str(image))[::-1])
    assert run(network, tmp_path / "upside_down.png", "--renderer", renderer) == 1
    assert "rejected: the likeness of image and rendering is" in capsys.readouterr().out


def test_a_renderer_of_another_map_or_none_at_all(place, tmp_path: Path):
    network, renderer, image, rough = place
    elsewhere = write_stubborn(tmp_path / "elsewhere", rough, "cellar")
    with pytest.raises(UserError, match=r"lives in frame 'map'.*in 'cellar'"):
        run(elsewhere, image, "--renderer", renderer)
    with pytest.raises(UserError, match="shows no pictures"):
        run(network, image, "--renderer", network)
