"""Splats on the CPU: gsplat's rasteriser is replaced by a slow one with the same call (support/splat_reference.py).

What needs a GPU is only gsplat's own rasteriser; it is not run here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support import splat_reference
from support.held_out import unsealed

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.experiments.run import Job, measure
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models import gsplat
from pose2rgbd_ros.models.gsplat import GsplatConfig, GsplatModel, write_ply
from pose2rgbd_ros.rendering.splat_export import export_splats
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig
from pose2rgbd_ros.training.data import open_training_data
from pose2rgbd_ros.training.learners import gsplat as learner
from pose2rgbd_ros.training.trainer import train
from pose2rgbd_ros.training.validation import validate

CAMERA = Camera(20, 16, 18.0, 18.0, 9.5, 7.5)


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (gsplat, learner):
        monkeypatch.setattr(module, "load_rasterizer", lambda device: splat_reference.rasterization)


def model_of(means: list[list[float]], colours: list[list[float]], scale: float = 0.1) -> GsplatModel:
    model = GsplatModel(GsplatConfig(splats=len(means), sh_degree=0))
    with torch.no_grad():
        model.means.copy_(torch.tensor(means))
        model.quats[:, 0] = 1
        model.log_scales.fill_(float(np.log(scale)))
        model.opacity_logits.fill_(8.0)
        model.sh_0.copy_((torch.tensor(colours)[:, None] - 0.5) / gsplat.SH_C0)
    return model.eval()


def seen(
    model: GsplatModel, T_map_cam: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    T = torch.from_numpy(np.eye(4) if T_map_cam is None else T_map_cam)[None]
    with torch.no_grad():
        shown = model.pictures(T, CAMERA, None)  # type: ignore[arg-type]
    assert shown.rgb is not None
    assert shown.depth is not None
    assert shown.confidence is not None
    return shown.rgb[0].numpy(), shown.depth[0].numpy(), shown.confidence[0].numpy()


def test_a_splat_lies_where_the_camera_projects_it(on_cpu: None) -> None:
    point = np.array([0.55, -0.3, 4.0])
    rgb, depth, alpha = seen(model_of([point.tolist()], [[1.0, 0.2, 0.1]]))
    v, u = np.unravel_index(alpha.argmax(), alpha.shape)
    weights = alpha / alpha.sum()
    centre = (weights * np.arange(20)).sum(), (weights * np.arange(16)[:, None]).sum()
    np.testing.assert_allclose(centre, CAMERA.project(point), atol=0.05)
    assert depth[v, u] == pytest.approx(4.0, abs=1e-3)
    assert rgb[0, v, u] > 0.9
    assert np.isnan(depth[0, 0]), "no surface there"
    np.testing.assert_allclose(rgb[:, 0, 0], 0.5, atol=1e-3)  # the background


def test_the_nearer_splat_hides_the_other_wherever_the_map_begins(on_cpu: None) -> None:
    model = model_of([[0.0, 0.0, 6.0], [0.0, 0.0, 3.0]], [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], scale=0.5)
    rgb, depth, _ = seen(model)
    assert rgb[0, 8, 10] > 0.95
    assert depth[8, 10] == pytest.approx(3.0, abs=0.1)
    far = np.eye(4)
    far[:3, 3] = 500_000.0, 4_000_000.0, 100.0  # as in metres of a map projection
    model.origin_m.copy_(torch.from_numpy(far[:3, 3]))
    np.testing.assert_allclose(seen(model, far)[1], depth, atol=1e-5)


@pytest.mark.parametrize("copies", [1, 2, 5, 51])
def test_copies_together_stop_as_much_light_as_the_one(copies: int) -> None:
    opacity = torch.tensor([0.05, 0.5, 0.95])
    each, shrink = learner.shared_look(opacity, torch.full((3,), copies))
    np.testing.assert_allclose(1 - (1 - each.double()) ** copies, opacity, rtol=1e-5)
    # In one dimension the light stopped over a line through the middle is to stay: integrate both.
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    one = (opacity * torch.exp(-(x**2) / 2)).sum(dim=0)
    many = (1 - (1 - each.double() * torch.exp(-((x / shrink.double()) ** 2) / 2)) ** copies).sum(dim=0)
    np.testing.assert_allclose(many, one, rtol=1e-3)


def test_idle_splats_move_to_where_there_is_something() -> None:
    model = model_of([[0.0, 0.0, 5.0], [9.0, 9.0, 9.0], [1.0, 0.0, 5.0]], [[1, 0, 0], [0, 0, 0], [0, 1, 0]])
    with torch.no_grad():
        model.opacity_logits[1] = -9.0
        moved = learner.move_idle(model, torch.Generator().manual_seed(3))
    assert moved == 1
    assert model.means[1].tolist() in (model.means[0].tolist(), model.means[2].tolist())
    assert (model.opacity_logits.sigmoid() > 0.9).all()


def test_faint_splats_are_shaken_and_others_stay() -> None:
    model = model_of([[0.0, 0.0, 5.0], [1.0, 0.0, 5.0]], [[1, 0, 0], [0, 1, 0]])
    before = model.means.detach().clone()
    with torch.no_grad():
        model.opacity_logits[1] = -9.0
        learner.shake(model, 10.0, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(model.means[0].detach(), before[0], atol=1e-6)
    assert (model.means[1].detach() - before[1]).norm() > 0.01


def tiny(**settings: object) -> TrainConfig:
    values = {
        "model": "gsplat", "size": 32, "splats": 150, "device": "cpu", "tensorboard": False, "split": "random",
        "epochs": 5, "validate_every": 5,
    }  # fmt: skip
    return TrainConfig(**{**values, **settings})  # type: ignore[arg-type]


def test_it_learns_a_small_place(on_cpu: None, flight_dataset: Callable[..., Path], tmp_path: Path) -> None:
    flight = flight_dataset(tmp_path / "flight", frames=12)
    data = open_training_data(flight, tiny())
    start = learner.make(tiny(), None, data, torch.device("cpu"))  # type: ignore[arg-type]
    untrained = validate(start.model, unsealed(data), data.split.test)
    train(flight, tmp_path / "run", tiny())
    trained = load_checkpoint(tmp_path / "run").build_model()
    found = validate(trained, unsealed(data), data.split.test)
    assert found["rgb_mae_px"] < 0.95 * untrained["rgb_mae_px"]
    assert found["depth_mae"] < untrained["depth_mae"]
    ply = export_splats(tmp_path / "run")
    assert ply is not None
    header, _, body = ply.read_bytes().partition(b"end_header\n")
    names = [line.split()[-1].decode() for line in header.splitlines() if line.startswith(b"property")]
    table = np.frombuffer(body, [(name, "<f4") for name in names])
    state = load_checkpoint(tmp_path / "run").state_dict
    np.testing.assert_array_equal(np.stack([table[axis] for axis in "xyz"], axis=1), state["means"].numpy())
    np.testing.assert_array_equal(table["f_rest_4"], state["sh_rest"][:, 1, 1].numpy())
    assert len(table) == 150


def test_without_a_gpu_it_says_so(flight_dataset: Callable[..., Path], tmp_path: Path) -> None:
    flight = flight_dataset(tmp_path / "flight", frames=8)
    with pytest.raises(UserError, match="needs a CUDA GPU"):
        train(flight, tmp_path / "run", tiny())
    measured = measure(Job("gsplat", flight, tiny()), tmp_path)
    assert "needs a CUDA GPU" in measured.error
    lens = Camera(20, 16, 18.0, 18.0, 9.5, 7.5, "plumb_bob", (0.1, 0.0, 0.0, 0.0))
    with pytest.raises(UserError, match="without lens distortion"):
        gsplat.require_pinhole(lens)
    with pytest.raises(UserError, match="cannot write"):
        write_ply(tmp_path / "nowhere" / "splats.ply", model_of([[0, 0, 1]], [[1, 1, 1]]))
