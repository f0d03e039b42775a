"""Reliefs of data that leaves something to be wished for: tiny real trainings, and what is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from support.held_out import unsealed

from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.pictures import measure
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.config import ReliefConfig, ReliefSettings, SceneBoxSettings
from pose2rgbd_ros.models.relief.learner import ReliefLearner
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig, resolve_recipe
from pose2rgbd_ros.training.data import open_training_data
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.metrics import pictures_of
from pose2rgbd_ros.training.trainer import make_learner, train


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Callable[..., Path]:
    def make(depth_kind: str | None = "metric") -> Path:
        return flight_dataset(tmp_path_factory.mktemp("bad") / "flight", frames=36, depth_kind=depth_kind)

    return make


@pytest.fixture(scope="module")
def flight(write: Callable[..., Path]) -> Path:
    return write()


def config(**relief: object) -> TrainConfig:
    return train_config(
        model="relief", size=32, device="cpu", epochs=1, tensorboard=False, split="random",
        relief=ReliefSettings(**relief),  # type: ignore[arg-type]
    )  # fmt: skip


def learner_of(path: Path, settings: TrainConfig) -> ReliefLearner:
    torch.manual_seed(0)
    made = make_learner(settings, resolve_recipe(settings), open_training_data(path, settings))
    assert isinstance(made, ReliefLearner)
    return made


def rewritten(
    source: Path, out: Path, change: Callable[[int, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> Path:
    """The dataset with each frame's pose and depth changed."""
    dataset = Dataset(source)
    with DatasetWriter(out, DatasetMeta(camera=dataset.camera, depth=DepthMeta("metric"))) as writer:
        for i, stamp_ns in enumerate(dataset.stamps_ns):
            T_map_cam, depth = change(i, dataset.T_map_cam[i].copy(), dataset.depth(i).copy())
            writer.add(int(stamp_ns), T_map_cam, dataset.rgb(i), depth)
    return out


def test_relative_depth_is_scaled_and_given_back_in_its_unit(write) -> None:  # type: ignore[no-untyped-def]
    learner = learner_of(write("relative"), config())  # a unit is 7 m
    assert learner.provenance()["relief"]["depth_unit_m"] == pytest.approx(7.0, rel=0.03)
    data = unsealed(learner._data)
    truth = torch.from_numpy(data.depth(data.split.test))
    shown = pictures_of(learner.model.eval(), data, data.split.test).depth
    assert shown is not None
    known = torch.isfinite(shown) & torch.isfinite(truth)
    assert known.float().mean() > 0.8
    assert (shown - truth)[known].abs().mean() < 0.05 * truth[known].mean()


def test_without_depth_the_pictures_tell_the_geometry(write, tmp_path) -> None:  # type: ignore[no-untyped-def]
    flight = write(None)
    result = train(flight, tmp_path / "run", config())
    checkpoint = load_checkpoint(result.checkpoint)
    assert checkpoint.provenance["relief"]["depth"] == "pictures"
    assert checkpoint.output == "rgb"
    scores = measure(result.checkpoint, flight, device="cpu").scores
    assert scores["model"]["rgb_mae_px"] < 0.75 * scores["mean_image"]["rgb_mae_px"]


def test_depth_with_holes_and_false_values_is_enough(flight, tmp_path) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)

    def change(i: int, T: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        depth[rng.random(depth.shape) < 0.5] = np.nan
        wrong = rng.random(depth.shape) < 0.01
        depth[wrong] = rng.uniform(1, 400, wrong.sum())
        return T, depth

    holed = learner_of(rewritten(flight, tmp_path / "holed", change), config()).model.config
    whole = learner_of(flight, config()).model.config
    np.testing.assert_allclose(holed.size_m, whole.size_m, rtol=0.25)


def test_recorded_depth_serves_a_model_of_colour_too(flight) -> None:  # type: ignore[no-untyped-def]
    learner = learner_of(flight, dataclasses.replace(config(), output="rgb"))
    assert learner.provenance()["relief"]["depth"] == "recorded"
    assert learner.model.config.output == "rgb"


def test_depth_where_the_lens_has_no_ray_is_left_alone(flight) -> None:  # type: ignore[no-untyped-def]
    learner = learner_of(flight, config())
    learner._rays[:8] = torch.nan
    for steps in range(3):
        loss = learner.loss(learner.model, learner._data.split.train[:4], steps / 3)
        loss.backward()
        learner.after_step()
        assert torch.isfinite(loss)
    assert all(torch.isfinite(table).all() for table in learner.model.state_dict().values())


def test_no_known_depth_at_all_is_refused(flight, tmp_path) -> None:  # type: ignore[no-untyped-def]
    empty = rewritten(flight, tmp_path / "empty", lambda i, T, depth: (T, np.full_like(depth, np.nan)))
    with pytest.raises(UserError):
        learner_of(empty, config(depth="recorded"))


def test_a_place_too_large_is_refused_before_training(flight, tmp_path) -> None:  # type: ignore[no-untyped-def]
    box = SceneBoxSettings(cell_m=0.02, layer_m=0.05, feature_m=0.01)
    with pytest.raises(UserError, match="too large"):
        train(flight, tmp_path / "run", config(box=box))


def test_poses_are_refined_towards_the_truth(flight, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Half the frames are displaced: along the loss's slope their corrections point back to where they were."""
    rng = np.random.default_rng(0)
    shifts = np.where(np.arange(36)[:, None] % 3 == 0, rng.normal(0, 0.4, (36, 3)), 0.0)

    def change(i: int, T: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        T[:3, 3] += shifts[i]
        return T, depth

    learner = learner_of(rewritten(flight, tmp_path / "shifted", change), config(refine_poses=True))
    assert learner.corrections is not None
    optimizer = torch.optim.Adam(learner.corrections.parameters(), lr=0.05)
    learner.train()
    train_frames = learner._data.split.train
    for _ in range(12):
        optimizer.zero_grad()
        for chunk in np.array_split(train_frames, 7):
            learner.loss(learner.model, chunk, 0.5).backward()
        optimizer.step()
    moved = learner.corrections(torch.from_numpy(learner._data.dataset.T_map_cam[train_frames]), train_frames)
    truth = Dataset(flight).T_map_cam[train_frames, :3, 3]
    before = np.linalg.norm(shifts[train_frames], axis=1)
    after = np.linalg.norm(moved[:, :3, 3].detach().numpy() - truth, axis=1)
    off = before > 0
    assert after[off].mean() < 0.8 * before[off].mean()


def tilted_ground() -> Relief:
    """Ground that rises by 0.2 a metre along x."""
    shape = ReliefConfig(layers=12, rows=21, columns=21, cell_m=1.0, layer_m=1.0, feature_m=0.5, levels=3)
    relief = Relief(shape).eval()
    z, x = torch.arange(12.0)[:, None, None], torch.arange(21.0)
    relief.volume.logits.data = (3.0 + 0.2 * x - z).expand(shape.shape).contiguous()
    relief.volume.seen.fill_(1)
    return relief


def test_depth_follows_the_rays() -> None:
    """The implicit derivative of the depth in a ray's origin and direction is that of the plane it meets."""
    volume = tilted_ground().train().volume
    origin = torch.tensor([[9.3, 10.0, 11.0]], requires_grad=True)
    direction = torch.tensor([[0.15, 0.1, -1.0]], requires_grad=True)
    depth = volume.depth(volume.hits(origin.detach(), direction.detach()), origin, direction)
    to_origin, to_direction = torch.autograd.grad(depth.sum(), (origin, direction))
    normal = torch.tensor([0.2, 0.0, -1.0])
    expected = -normal / (normal @ direction[0].detach())
    torch.testing.assert_close(to_origin[0], expected, rtol=0.02, atol=1e-3)
    torch.testing.assert_close(to_direction[0], expected * depth.detach(), rtol=0.02, atol=1e-2)


@pytest.mark.parametrize(
    "camera",
    [
        Camera.from_fov(32, 32, 150.0),
        Camera.from_fov(32, 32, 2.0),
        Camera(40, 24, 30.0, 22.0, 5.0, 20.0, "plumb_bob", (-0.2, 0.05, 0.001, 0.002)),
        Camera(32, 32, 9.0, 9.0, 15.5, 15.5, "equidistant", (0.01, 0.0, 0.0, 0.0)),
    ],
    ids=["wide", "tele", "distorted and off centre", "fisheye"],
)
def test_intrinsics_far_from_any_training_still_give_the_true_depth(camera: Camera) -> None:
    relief = tilted_ground()
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("xyz", [170.0, 10.0, 5.0], degrees=True).as_matrix()
    T[:3, 3] = [10.0, 10.0, 11.0]
    shown = relief.pictures(torch.from_numpy(T[None]), camera, None)  # type: ignore[arg-type]
    assert shown.depth is not None
    assert shown.rgb is not None
    rays = camera.rays() @ T[:3, :3].T
    exact = (3.0 + 0.2 * T[0, 3] - T[2, 3]) / (rays[..., 2] - 0.2 * rays[..., 0])
    points = T[:3, 3] + exact[..., None] * rays
    # Beside the modelled box there is only its floor.
    judged = (exact > 0) & (points[..., :2] > 0.5).all(axis=-1) & (points[..., :2] < 19.5).all(axis=-1)
    assert judged.mean() > 0.15
    np.testing.assert_allclose(shown.depth[0].numpy()[judged], exact[judged], rtol=0.01)
    assert torch.isfinite(shown.rgb).all()
