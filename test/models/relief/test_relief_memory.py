"""Remembered frames: which are looked up, what hides them, and that training never looks at the frame it is shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support.random_relief import relief_checkpoint, views
from support.remembered import STEP_M, remembering_relief

from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.pictures import measure
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.models.backends import HAS_NUMBA
from pose2rgbd_ros.models.relief import remember
from pose2rgbd_ros.models.relief.config import ReliefConfig, ReliefSettings
from pose2rgbd_ros.models.warp.views import pinhole_around
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import resolve_recipe
from pose2rgbd_ros.training.data import open_training_data
from pose2rgbd_ros.training.families import architecture_of, train_config
from pose2rgbd_ros.training.trainer import make_learner, train

if not HAS_NUMBA:
    pytest.skip("numba is not installed", allow_module_level=True)

from pose2rgbd_ros.models.relief.memory import Photographs, recall
from pose2rgbd_ros.models.relief.recorded_depth import refine

CAMERA = Camera.from_fov(75, 53, 80.0)
# Torch and compiled code round differently. Whether a ray grazes a silhouette, or a roof stands before a point, may
# then be told otherwise at a pixel in thousands, which the shader spreads over its neighbours.
LEVELS, APART = 1, 3e-3


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"memory_reach": 0.0},
        {"cell_m": 2.0, "depth_scale_m": 30.0},  # a cell is three pixels wide
        {"memory_rays": 1, "memory_views": 2, "shift": 0},
        {"memory_rays": 2, "memory_views": 4, "unshuffle": 4, "width": 12},
        {"unshuffle": 1, "channels": 5, "coarse_channels": 3},
    ],
)
def test_the_compiled_renderer_shows_what_torch_shows(config: dict[str, Any], tmp_path: Path) -> None:
    run = relief_checkpoint(tmp_path / "run", remembering_relief(1, **config), CAMERA)
    quick, torch_ = (Renderer(run, "cpu", backend, guard=False) for backend in ("auto", "torch"))
    assert (quick.backend_name, torch_.backend_name) == ("numba", "torch")
    for camera in (CAMERA, CAMERA.resized(64, 64)):
        a, b = (renderer.render_for_camera(views(), camera) for renderer in (quick, torch_))
        assert a.rgb is not None
        assert b.rgb is not None
        off = np.abs(a.rgb.astype(int) - b.rgb).max(-1)
        assert (off > LEVELS).mean() < APART
        np.testing.assert_allclose(a.depth, b.depth, atol=0.05)


def test_what_is_remembered_is_shown_and_the_frame_left_out_is_not() -> None:
    model = remembering_relief(2)
    assert model.memory is not None
    T_map_cam = torch.from_numpy(model.config.T_map_vol @ model.memory.photographs.T_vol_cam[3])[None]
    rays = torch.from_numpy(Camera.from_fov(32, 32, 60.0).rays()).float()
    mask = np.zeros(9, bool)
    mask[3] = True

    def shown(left_out: list[np.ndarray] | None) -> torch.Tensor:
        with torch.no_grad():
            made: torch.Tensor = model(T_map_cam, rays, 28.0, left_out=left_out).rgb
        return made

    with_it, without = shown(None), shown([mask])
    blind = shown([~np.zeros(9, bool)])
    # Other colours of that frame: what left it out does not know.
    rgb = model.memory.photographs.rgb[np.arange(9)]
    rgb[3] = 255 - rgb[3]
    model.memory.photographs.rgb = rgb
    model.memory.photographs.filtered.clear()
    assert (shown(None) - with_it).abs().mean() > 0.02
    assert torch.equal(shown([mask]), without)
    assert torch.equal(shown([~np.zeros(9, bool)]), blind)
    assert (without - with_it).abs().mean() > 0.01


def test_a_loaded_state_is_what_is_looked_up() -> None:
    """The frames last looked up by are those of the tensors, also when a network takes over other ones."""
    one, other = remembering_relief(2), remembering_relief(2)
    assert one.memory is not None
    assert other.memory is not None
    moved = other.memory.T_vol_cam.numpy() + np.array([[0, 0, 0, 5.0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    other.memory.correct(moved, None)
    assert not np.array_equal(one.memory.photographs.T_vol_cam, moved)
    one.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(one.memory.photographs.T_vol_cam, moved)


def test_a_picture_of_one_row_has_no_silhouettes() -> None:
    model = remembering_relief(2)
    rays = torch.from_numpy(Camera.from_fov(16, 16, 60.0).rays()).float()[:1]
    with torch.no_grad():
        made = model(torch.from_numpy(views()[:2]), rays, 14.0)
    assert torch.isfinite(made.rgb).all()


def wall_and_frames(depths_m: list[float], colours: list[int], shift: int = 0) -> Photographs:
    """Frames of one colour each, side by side, that look down from 10 m and saw something at their depth."""
    side = 32
    camera = Camera.from_fov(side, side, 90.0)
    eye = np.array([[0.1 * i, 0.0, 10.0] for i in range(len(depths_m))])
    T = se3.look_at(eye, eye * (1, 1, 0) + (0, 0, -1))
    rgb = np.stack([np.full((side, side, 3), colour, np.uint8) for colour in colours])
    depth = np.stack([np.full((side >> shift, side >> shift), round(depth / STEP_M), np.uint16) for depth in depths_m])
    return Photographs(rgb, depth, STEP_M, T, camera, layer_m=0.5, angle_rad=0.12)


def seen(photographs: Photographs, points: np.ndarray, chosen: np.ndarray | None = None) -> np.ndarray:
    chosen = np.arange(len(photographs)) if chosen is None else chosen
    found = np.empty((len(points), 5), np.float32)
    eye = np.array([0.0, 0.3, 10.0], np.float32)
    view = photographs.view(chosen, photographs.camera.focal_px)
    recall(view, view.filtered, points.astype(np.float32), np.zeros_like(points, np.float32), eye, found)
    return found


@pytest.mark.parametrize("shift", [0, 1])
def test_what_stood_before_the_surface_does_not_reappear(shift: int) -> None:
    """A van (2 m high) stood under one of two frames: the road is shown as the other saw it, and alone it is unsure."""
    photographs = wall_and_frames([8.0, 10.0], [250, 80], shift)
    road = np.array([[0.5, 0.5, 0.0], [-2.0, 1.0, 0.0]])
    both = seen(photographs, road)
    np.testing.assert_allclose(255 * both[:, :3], 80, atol=2)
    alone, free = seen(photographs, road, np.array([0])), seen(photographs, road, np.array([1]))
    assert (alone[:, 3] < 0.4).all()
    assert (free[:, 3] > 0.9).all()
    assert seen(photographs, np.array([[200.0, 0.0, 0.0]]))[0, 3] == 0.0  # nobody saw that


def ended(photographs: Photographs, points: np.ndarray, thought: list[float], near: list[float]) -> np.ndarray:
    """Depth in metres, seen from above, of rays from (0, 0.3, 10) to points on the ground by what frames recorded."""
    eye = np.array([0.0, 0.3, 10.0], np.float32)
    view = photographs.view(np.arange(len(photographs)), photographs.camera.focal_px)
    found = np.empty(len(points), np.float32)
    way = (points.astype(np.float32) - eye) / 10
    refine(view, np.array(thought, np.float32), np.array(near, np.float32), np.float32(1.0), eye, way, found)
    return found


@pytest.mark.parametrize("shift", [0, 1])
def test_a_ray_ends_where_frames_recorded_a_surface(shift: int) -> None:
    """The road 8.8 m below, beside which the volume has it by up to the reach of a metre; what is farther off stays,
    but for a ray that meets nothing, or the floor."""
    photographs = wall_and_frames([8.8, 8.8, 8.8], [80, 80, 80], shift)
    road = np.array([[0.5, 0.5, 0.0]] * 5)
    found = ended(photographs, road, [8.0, 9.5, 7.0, np.nan, 10.0], [np.inf] * 5)
    np.testing.assert_allclose(found, [8.8, 8.8, 7.0, 8.8, 8.8], atol=2e-2)
    beside = ended(photographs, np.array([[60.0, 0.0, 0.0]]), [9.0], [np.inf])
    np.testing.assert_allclose(beside, 9.0)  # no frame shows that


def test_silhouettes_are_those_that_frames_recorded() -> None:
    """A roof 4 m below the camera that the volume has a pixel too small: its neighbour's ray ends at it, too."""
    photographs = wall_and_frames([4.0, 4.0], [80, 80])
    np.testing.assert_allclose(ended(photographs, np.array([[0.5, 0.5, 0.0]]), [10.0], [4.1]), 4.0, atol=2e-2)
    photographs = wall_and_frames([10.0, 10.0], [80, 80])
    np.testing.assert_allclose(ended(photographs, np.array([[0.5, 0.5, 0.0]]), [9.8], [4.1]), 10.0, atol=2e-2)


def test_what_one_frame_alone_recorded_moves_no_surface() -> None:
    """A crate (0.8 m high) stood under one frame, and another saw the road there: it is where that saw it."""
    photographs = wall_and_frames([9.2, 10.0, 10.0], [250, 80, 80])
    road = np.array([[0.5, 0.5, 0.0], [-2.0, 1.0, 0.0]])
    np.testing.assert_allclose(ended(photographs, road, [9.8, 9.6], [np.inf, np.inf]), 10.0, atol=2e-2)
    np.testing.assert_allclose(ended(wall_and_frames([9.2], [250]), road, [9.8, 9.6], [np.inf] * 2), 9.2, atol=2e-2)


def test_a_view_takes_frames_that_see_what_it_sees() -> None:
    """Of frames at hand the nearest comes first; one that is left out, or before which something stands, does not."""
    photographs = wall_and_frames([10.0, 10.0, 10.0, 3.0], [10, 20, 30, 40])
    points = np.random.default_rng(0).uniform((-3, -3, 0), (3, 3, 0), (50, 3)).astype(np.float32)
    T = photographs.T_vol_cam[2]
    assert photographs.choose(T, points, 4)[0] == 2
    assert photographs.choose(T, points, 2, np.array([False, False, True, False])).tolist() == [1, 0]
    assert photographs.choose(photographs.T_vol_cam[3], points, 1)[0] != 3
    assert len(photographs.choose(T, points, 4, np.ones(4, bool))) == 0


@pytest.mark.parametrize(("finer", "of_raw"), [(2, 0.7), (1, 0.95)])
def test_a_pixel_is_shown_what_it_sees_as_a_whole(finer: int, of_raw: float) -> None:
    """A view between the pixels of a frame, which has as many of them or twice as many a side: its own pixels are means
    over squares, and with filters a lookup at their middles is nearer to that."""
    side, fine, generator = 32, 256, np.random.default_rng(0)
    texture = cv2.GaussianBlur(generator.uniform(0, 255, (fine + 8, fine + 8)), (0, 0), 3.0)
    texture = np.clip(127 + 12 * (texture - 127), 0, 255)

    def seen_by(pixels: int, shift: int = 0) -> np.ndarray:
        block = fine // pixels
        return texture[shift : fine + shift, shift : fine + shift].reshape(pixels, block, pixels, block).mean((1, 3))

    camera = Camera.from_fov(finer * side, finer * side, 90.0)
    rgb = np.repeat(np.rint(seen_by(finer * side)).astype(np.uint8)[None, ..., None], 3, 3)
    depth = np.full((1, finer * side, finer * side), round(10 / STEP_M), np.uint16)
    photographs = Photographs(rgb, depth, STEP_M, np.eye(4)[None], camera, layer_m=0.5, angle_rad=0.12)
    view = photographs.view(np.zeros(1, np.int64), camera.focal_px / finer)
    errors = {"rgb": [], "filtered": []}  # type: dict[str, list[float]]
    for shift in range(8):
        at = (np.arange(3, side - 3) + 0.5 + shift / 8) * finer - 0.5
        u, v = np.meshgrid(at, at)
        points = 10 * np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)], -1)
        flat, found = points.reshape(-1, 3).astype(np.float32), np.empty((u.size, 5), np.float32)
        for name, values in errors.items():
            recall(view, getattr(view, name), flat, flat, np.zeros(3, np.float32), found)
            values.append(float(((255 * found[:, 0].reshape(u.shape) - seen_by(side, shift)[3:-3, 3:-3]) ** 2).mean()))
    assert np.sqrt(np.mean(errors["filtered"])) < of_raw * np.sqrt(np.mean(errors["rgb"]))


def test_a_frame_of_another_exposure_is_shown_in_the_light_of_the_place() -> None:
    photographs = wall_and_frames([10.0], [120])
    light = np.array([[[1.2, 1.0, 0.8], [0.0, 0.1, 0.0]]], np.float32)
    photographs.correct(photographs.T_vol_cam, light)
    found = seen(photographs, np.array([[0.5, 0.5, 0.0]]))
    np.testing.assert_allclose(found[0, :3], (np.array([120, 120, 120]) / 255 - light[0, 1]) / light[0, 0], atol=0.01)


def test_the_border_of_a_lens_is_left_out() -> None:
    """An undistorted frame is black beside what the lens showed, and mixed with black at its border."""
    lens = Camera(64, 64, 40.0, 40.0, 31.5, 31.5, "plumb_bob", (-0.1, 0.0, 0.0, 0.0))
    pinhole = pinhole_around(lens)
    lookup = resample_map(lens, pinhole)
    white = resample(np.full((64, 64, 3), 200, np.uint8), lookup, False)
    inside = remember.within_lens(lookup)
    assert white.min() < 150
    assert white[inside].min() == 200
    assert inside.mean() > 0.7


def tiny(**relief: Any) -> Any:
    settings = {"size": 32, "device": "cpu", "epochs": 6, "tensorboard": False, "split": "random"}
    return train_config("relief", relief=ReliefSettings(**relief), **settings)


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("memory") / "flight", frames=20)


def learner_of(flight: Path, config: Any) -> Any:
    data = open_training_data(flight, config)
    return make_learner(config, resolve_recipe(config), data.for_training()), data


def test_no_step_looks_at_its_own_frame(flight: Path) -> None:
    learner, data = learner_of(flight, tiny(memory="thin"))
    generator = np.random.default_rng(0)
    counts = []
    for _ in range(40):
        masks = learner._memory.left_out(data.split.train[:4], generator, 1.0)
        assert all(mask[row] for row, mask in enumerate(masks))
        counts += [int(mask.sum()) for mask in masks]
    assert min(counts) == 1
    assert max(counts) == len(data.split.train)  # some see nothing at all
    assert np.all(learner._memory.left_out(data.split.train[:4], generator, 0.0)), "learnt colours come first"
    frames = learner._memory.frames
    assert np.isin(frames, data.split.train).all()
    assert not np.isin(frames, np.concatenate([data.split.choose, data.split.judge])).any()


def test_a_run_remembers_learns_and_renders_from_its_checkpoint_alone(flight: Path, tmp_path: Path) -> None:
    scores = {}
    for memory in ("none", "thin", "full"):
        result = train(flight, tmp_path / memory, tiny(memory=memory))
        scores[memory] = measure(result.checkpoint, flight, device="cpu").scores["model"]["rgb_mae_px"]
    assert scores["full"] < scores["none"]
    loaded = load_checkpoint(tmp_path / "full")
    assert loaded.state_dict["memory.jpeg"].dtype == np.uint8
    assert Renderer(tmp_path / "full", "cpu").backend_name == "numba"
    # Without a memory a checkpoint says and holds no word of one.
    none = load_checkpoint(tmp_path / "none")
    assert not [name for name in (*none.state_dict, *none.architecture) if "memory" in name]
    assert none.weight_shapes().keys() == none.state_dict.keys()


@pytest.mark.parametrize("config", [{}, {"unshuffle": 4, "width": 12}])
def test_simpler_ones_show_what_it_shows_with_fewer_frames_or_none(config: dict[str, Any]) -> None:
    model = remembering_relief(4, **config).eval()
    coarse, few, none = remember.simpler_ones(model)
    rays, poses = torch.from_numpy(CAMERA.rays()), torch.from_numpy(views())
    with torch.no_grad():
        blind = model(poses, rays, CAMERA.focal_px, left_out=[np.ones(9, bool)] * len(poses))
        alone = none(poses, rays, CAMERA.focal_px)
        whole, rough = (each(poses, rays, CAMERA.focal_px) for each in (model, coarse))
        model.memory.config = dataclasses.replace(model.config, memory_views=remember.VIEWS["thin"])
        some = model(poses, rays, CAMERA.focal_px)
        assert torch.equal(few(poses, rays, CAMERA.focal_px).rgb, some.rgb)
    torch.testing.assert_close(rough.refined, rough.depth, equal_nan=True)
    assert not torch.equal(whole.refined.nan_to_num(0), rough.refined.nan_to_num(0))
    torch.testing.assert_close(alone.rgb, blind.rgb)
    torch.testing.assert_close(alone.residual, blind.residual)
    assert none.memory is None
    assert none.config.architecture().keys() == architecture_of(none).keys() - {"network"}
    assert not [name for name in architecture_of(none) if "memory" in name]


@pytest.mark.parametrize("spoiled", [False, True])
def test_auto_remembers_where_that_shows_more(
    flight_dataset: Callable[..., Path], tmp_path: Path, spoiled: bool
) -> None:
    """Of frames whose light flickers, which nothing is told of, the average that is learnt shows more than any few."""
    flight = flight_dataset(tmp_path / "flight", frames=90)
    if spoiled:
        whole, generator = Dataset(flight), np.random.default_rng(0)
        flight = tmp_path / "flickering"
        with DatasetWriter(flight, DatasetMeta(whole.camera, depth=DepthMeta("metric"))) as writer:
            for index, T in enumerate(whole.T_map_cam):
                rgb = (whole.rgb(index) * generator.uniform(0.2, 1.0)).astype(np.uint8)
                writer.add(int(whole.stamps_ns[index]), T, rgb, whole.depth(index))
    # Long enough for the shader to learn what to make of what it looks up.
    config = dataclasses.replace(tiny(memory="auto", exposure="none"), epochs=12, test_fraction=0.4, keep="last")
    result = train(flight, tmp_path / "run", config)
    kept = load_checkpoint(tmp_path / "run")
    assert ("memory_frames" in kept.architecture) != spoiled
    assert kept.weight_shapes().keys() == kept.state_dict.keys()
    measured = measure(result.checkpoint, flight, device="cpu", split="choose").scores["model"]
    assert measured["psnr_db"] == pytest.approx(result.scores["psnr_db"], abs=0.05)
    # A run that is over, once more: what is kept, and how good it is, stays.
    again = train(flight, tmp_path / "run", config, resume=True)
    assert load_checkpoint(tmp_path / "run").architecture == kept.architecture
    assert again.scores["psnr_db"] == pytest.approx(result.scores["psnr_db"], abs=0.05)


def test_what_does_not_fit_is_thinned_and_said(flight: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tiny(memory="thin", memory_mb=1.0)
    learner, data = learner_of(flight, config)
    assert len(learner._memory.frames) == len(data.split.train)
    depth, network = learner._depth, dataclasses.replace(learner.model.config, memory_frames=0)
    few = dataclasses.replace(config.relief, memory_mb=1.0)
    object.__setattr__(few, "memory_mb", 0.012)  # below what may be asked for, as a large place's frames would need
    kept = remember.remembered(config, few, data, network, depth)
    assert 1 <= len(kept.frames) < len(data.split.train)
    assert f"{len(kept.frames)} of {len(data.split.train)} frames are remembered" in caplog.text
    object.__setattr__(few, "memory_mb", 1e-4)
    with pytest.raises(UserError, match="holds no frame"):
        remember.remembered(config, few, data, network, depth)


def test_tiles_have_no_memory(flight: Path) -> None:
    with pytest.raises(UserError, match="--memory is for one volume"):
        learner_of(flight, tiny(memory="thin", tiles="2"))
    learner, _ = learner_of(flight, tiny(memory="auto", tiles="2"))
    assert learner.model.config.tile(0).edge_rays == 2


def test_a_damaged_photograph_is_named(tmp_path: Path) -> None:
    model = remembering_relief(3)
    assert model.memory is not None
    model.memory.jpeg.zero_()
    run = relief_checkpoint(tmp_path / "run", model, CAMERA)
    with pytest.raises(UserError, match=r"remembered frame .* damaged"):
        Renderer(run, "cpu", guard=False).render(views())


def test_an_architecture_without_a_memory_is_as_before() -> None:
    names = {
        field.name
        for field in dataclasses.fields(ReliefConfig)
        if not field.name.startswith(("memory", "charts", "light", "edge_rays"))
    }
    assert set(ReliefConfig().architecture()) == names
    assert architecture_of(remembering_relief(0))["memory_frames"] == 9
