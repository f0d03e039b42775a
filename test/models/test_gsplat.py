"""Splats on the CPU: the package gsplat is replaced by a slow one with the same calls (support/splat_reference.py).

The package itself needs a GPU: the last test, where there is one.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import splat_reference
from support.held_out import unsealed

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.experiments.run import Job, measure
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.gsplat import learner, network
from pose2rgbd_ros.models.gsplat.config import GsplatConfig
from pose2rgbd_ros.models.gsplat.export import export
from pose2rgbd_ros.models.gsplat.network import GsplatModel
from pose2rgbd_ros.models.gsplat.ply import write_ply
from pose2rgbd_ros.training import trainer
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig, resolve_recipe
from pose2rgbd_ros.training.data import open_training_data
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.metrics import validate
from pose2rgbd_ros.training.trainer import train

CAMERA = Camera(20, 16, 18.0, 18.0, 9.5, 7.5)


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (network, learner):
        monkeypatch.setattr(module, "load_gsplat", lambda device: splat_reference)


def model_of(means: list[list[float]], colours: list[list[float]], scale: float = 0.1) -> GsplatModel:
    model = GsplatModel(GsplatConfig(splats=len(means), sh_degree=0))
    with torch.no_grad():
        model.means.copy_(torch.tensor(means))
        model.quats[:, 0] = 1
        model.log_scales.fill_(float(np.log(scale)))
        model.opacity_logits.fill_(8.0)
        model.sh_0.copy_((torch.tensor(colours)[:, None] - 0.5) / network.SH_C0)
    return model.eval()


def seen(model: GsplatModel, T_map_cam: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def tiny(**settings: object) -> TrainConfig:
    values = {
        "model": "gsplat", "size": 32, "splats": 150, "device": "cpu", "tensorboard": False, "split": "random",
        "epochs": 5, "validate_every": 5,
    }  # fmt: skip
    return train_config(**{**values, **settings})  # type: ignore[arg-type]


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
    export(tmp_path / "run")
    ply = tmp_path / "run" / "checkpoint" / "splats.ply"
    assert ply is not None
    header, _, body = ply.read_bytes().partition(b"end_header\n")
    names = [line.split()[-1].decode() for line in header.splitlines() if line.startswith(b"property")]
    table = np.frombuffer(body, [(name, "<f4") for name in names])
    state = load_checkpoint(tmp_path / "run").state_dict
    np.testing.assert_array_equal(np.stack([table[axis] for axis in "xyz"], axis=1), state["means"])
    np.testing.assert_array_equal(table["f_rest_4"], state["sh_rest"][:, 1, 1])
    assert len(table) == 150


def test_idle_splats_move_with_their_moments(
    on_cpu: None, flight_dataset: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner, "MOVE_EVERY", 2)
    data = open_training_data(flight_dataset(tmp_path / "flight", frames=8), tiny())
    recipe = resolve_recipe(tiny())
    splats = learner.make(tiny(), recipe, data.for_training(), torch.device("cpu"))
    known = dict(splats.model.named_parameters())
    optimizer = torch.optim.AdamW(splats.parameter_groups(recipe), lr=1e-9)
    splats.optimized_by(optimizer)

    def step(share: float) -> None:
        splats.loss(splats.model, data.split.train[:2], share).backward()
        optimizer.step()
        optimizer.zero_grad()
        splats.after_step()

    with torch.no_grad():
        splats.model.opacity_logits[:50] = -9.0
    step(0.1)
    assert int((splats.model.opacity_logits < -5).sum()) == 50, "it is not time yet"
    step(0.1)
    opacity = splats.model.opacity_logits.detach()
    assert float(opacity.min()) > -5, "they have moved"
    colour, place = splats.model.sh_0.detach()[:, 0], splats.model.means.detach()
    onto = (colour[:50, None] == colour[None, 50:]).all(dim=2)
    assert onto.any(dim=1).all()
    assert torch.cdist(place[:50], place[50:])[onto].min() < 0.01, "but for being shaken"
    assert all(parameter is known[name] for name, parameter in splats.model.named_parameters()), "DDP's own"
    assert set(optimizer.state) == set(known.values())
    without = (optimizer.state[splats.model.opacity_logits]["exp_avg_sq"][50:] == 0).sum()
    assert 1 <= int(without) <= 50, "copied splats begin without momentum"
    for share, idle in ((0.5, 150), (0.9, 50)):  # onto nothing; at the end of a run
        with torch.no_grad():
            splats.model.opacity_logits[:idle] = -9.0
        places = [splats.model.means[0].tolist()]
        for _ in range(2):
            step(share)
            places.append(splats.model.means[0].tolist())
        first, second = np.diff(places, axis=0)
        assert not np.allclose(first, second, rtol=0.01), "shaken each time anew"
        assert int((splats.model.opacity_logits < -5).sum()) == idle
        with torch.no_grad():
            splats.model.opacity_logits.fill_(0.0)


def test_interrupted_and_resumed_equals_uninterrupted(
    on_cpu: None, flight_dataset: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moves and shakes are drawn by chance, which is not saved."""
    monkeypatch.setattr(learner, "MOVE_EVERY", 1)
    monkeypatch.setattr(learner, "START_OPACITY", 0.006)
    flight, config = (flight_dataset(tmp_path / "flight", frames=8), tiny(splats=40, epochs=4, validate_every=4))
    train(flight, tmp_path / "whole", config)
    step_once = trainer._Run._step

    def step_then_stop(run: trainer._Run, share: float) -> None:
        step_once(run, share)
        run.stop = run.state.step == 3

    monkeypatch.setattr(trainer._Run, "_step", step_then_stop)
    train(flight, tmp_path / "parts", config)
    monkeypatch.setattr(trainer._Run, "_step", step_once)
    torch.rand(7)
    train(flight, tmp_path / "parts", config, resume=True)
    once, twice = (load_file(tmp_path / part / "last" / "state.safetensors") for part in ("whole", "parts"))
    assert once.keys() == twice.keys()
    assert [key for key, tensor in once.items() if not torch.equal(tensor, twice[key])] == []


def test_without_a_gpu_it_says_so(flight_dataset: Callable[..., Path], tmp_path: Path) -> None:
    flight = flight_dataset(tmp_path / "flight", frames=8)
    with pytest.raises(UserError, match="needs a CUDA GPU"):
        train(flight, tmp_path / "run", tiny())
    measured = measure(Job("gsplat", flight, tiny()), tmp_path)
    assert "needs a CUDA GPU" in measured.error
    lens = Camera(20, 16, 18.0, 18.0, 9.5, 7.5, "plumb_bob", (0.1, 0.0, 0.0, 0.0))
    with pytest.raises(UserError, match="without lens distortion"):
        network.require_pinhole(lens)
    with pytest.raises(UserError, match="cannot write"):
        write_ply(tmp_path / "nowhere" / "splats.ply", model_of([[0, 0, 1]], [[1, 1, 1]]))


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("gsplat") is None, reason="no CUDA device with gsplat"
)
def test_the_package_itself_trains_on_a_gpu(flight_dataset: Callable[..., Path], tmp_path: Path) -> None:
    flight = flight_dataset(tmp_path / "flight", frames=12)
    config = tiny(device="cuda", splats=2000, epochs=150)
    result = train(flight, tmp_path / "run", config)
    assert result.scores["rgb_mae_px"] < 0.8 * result.baseline["rgb_mae_px"]
    state = load_checkpoint(result.checkpoint).state_dict
    assert all(bool(np.isfinite(tensor).all()) for tensor in state.values())
    assert len(state["means"]) == 2000
