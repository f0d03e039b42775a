"""Feature textures along the surface: which blocks get one, and what they hold as a training starts and ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.carpet import CAMERA, HEIGHT_M, carpet, poses, seen
from support.random_relief import random_relief, views

from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.relief.charts import NO_CHART, choose_charts, layout, level_sums
from pose2rgbd_ros.models.relief.config import ReliefConfig, ReliefSettings, SeenPoints, chart_texels
from pose2rgbd_ros.models.relief.fuse import fuse_colour
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import train

# 16 x 16 x 16 m in blocks of 4 m.
CONFIG = ReliefConfig(layers=17, rows=17, columns=17, cell_m=1.0, layer_m=1.0, feature_m=0.5)
BLOCKS = 4


def surface(axis: int, at_m: float, low: float = 0.0, high: float = 16.0, noise_m: float = 0.0) -> np.ndarray:
    """Points (M, 3) of a square across an axis."""
    random = np.random.default_rng(0)
    points = random.uniform(low, high, (20_000, 3))
    points[:, axis] = at_m + noise_m * random.standard_normal(len(points))
    return points.astype(np.float32)


def seen_from(points: np.ndarray, eye: tuple[float, float, float]) -> SeenPoints:
    origin = np.broadcast_to(np.array(eye, np.float32), points.shape)
    return SeenPoints(origin, points - origin, np.ones(len(points), np.float32), np.zeros_like(points))


def test_blocks_lie_as_they_should() -> None:
    assert CONFIG.chart_m == 4.0
    assert CONFIG.chart_grid == (BLOCKS + 1, BLOCKS + 1, BLOCKS + 1)
    assert chart_texels(CONFIG.levels) == 81 + 25 + 9 + 4


def test_ground_has_no_charts_and_a_wall_has() -> None:
    ground, wall = surface(2, 1.0), surface(0, 10.0, low=5.0)
    codes, count, _ = choose_charts([seen_from(ground, (8, 8, 30)), seen_from(wall, (0, 8, 12))], CONFIG)
    assert count > 0
    charted = np.argwhere(codes != NO_CHART)
    assert (codes[codes != NO_CHART] % 3 == 0).all(), "the wall faces x"
    # Its own column of blocks, and those before and behind it, which noise may carry points into.
    assert set(charted[:, 2]) == {1, 2, 3}
    assert charted[:, 0].min() >= 1, "the ground is on the map"
    everywhere, more, _ = choose_charts([seen_from(ground, (8, 8, 30))], CONFIG, flat=True)
    assert more == BLOCKS**2
    assert (everywhere[0, :BLOCKS, :BLOCKS] % 3 == 2).all()


def test_what_does_not_fit_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    wall = [seen_from(surface(0, 10.0), (0, 8, 12))]
    codes, count, _ = choose_charts(wall, CONFIG, most=5)
    assert count == 5
    assert codes.max() // 3 == 4
    assert "there is room for 5 charts of the surface" in caplog.text


def test_a_table_above_the_floor_has_its_own_and_the_floor_the_map() -> None:
    floor, table = surface(2, 1.0), surface(2, 9.5, low=4.5, high=11.5)
    codes, count, _ = choose_charts([seen_from(floor, (8, 8, 30)), seen_from(table, (8, 8, 30))], CONFIG)
    assert count in range(1, 5)
    where = np.argwhere(codes != NO_CHART)
    few = {int(layer) for layer in where[:, 0]}
    assert few <= {0, 1, 2, 3}
    assert (codes[codes != NO_CHART] % 3 == 2).all()


def test_both_sides_of_a_thin_wall_have_their_own_where_blocks_tell_them_apart() -> None:
    west, east = surface(0, 7.5), surface(0, 8.5)
    codes, _, _ = choose_charts([seen_from(west, (0, 8, 8)), seen_from(east, (16, 8, 8))], CONFIG)
    assert (codes[:BLOCKS, :BLOCKS, 1] != codes[:BLOCKS, :BLOCKS, 2]).all()


def test_noise_over_a_border_of_blocks_shares_a_chart() -> None:
    codes, count, _ = choose_charts([seen_from(surface(1, 8.0, noise_m=0.05), (8, 0, 8))], CONFIG)
    assert count == BLOCKS**2
    assert (codes[:BLOCKS, 1, :BLOCKS] == codes[:BLOCKS, 2, :BLOCKS]).all()


@given(st.integers(0, 2**16), st.integers(1, 4))
def test_summed_levels_are_the_sum_of_levels(seed: int, levels: int) -> None:
    config = dataclasses.replace(CONFIG, levels=levels, charts=2)
    table = np.random.default_rng(seed).standard_normal((2 * chart_texels(levels), 3)).astype(np.float32)
    sums, where = level_sums(config, table), layout(levels, config.chart_m)
    finest = where.side[0]
    at = np.linspace(0, 1, finest)
    for chart in range(2):
        total = np.zeros((finest, finest, 3))
        for side, start in zip(where.side, where.starts, strict=True):
            level = table[chart * where.each + start :][: side**2].reshape(side, side, 3)
            for axis in (0, 1):
                old = np.linspace(0, 1, side)
                level = np.apply_along_axis(lambda values, old=old: np.interp(at, old, values), axis, level)
            total += level
        np.testing.assert_allclose(sums[chart * where.each :][: finest**2].reshape(total.shape), total, atol=1e-5)


def test_a_start_has_a_walls_colours_where_they_are() -> None:
    """Stripes up a wall, which one plane from above cannot tell apart."""
    wall = surface(0, 10.0, low=0.0, high=15.9)
    colour = np.where((wall[:, 2:] // 2) % 2 == 0, 0.9, 0.1).astype(np.float32).repeat(3, 1)
    codes, count, _ = choose_charts([seen_from(wall, (0, 8, 12))], CONFIG)
    errors = []
    for charts in (0, count):
        relief = Relief(dataclasses.replace(CONFIG, charts=charts, coarse_cell_m=8.0, coarse_layer_m=8.0)).eval()
        if charts:
            relief.features.chart_of.copy_(torch.from_numpy(codes))
        points = torch.from_numpy(wall[::7])
        with torch.no_grad():
            fuse_colour(relief, wall, colour - np.float32(0.5))
            shown = 0.5 + relief.features.surface(points, torch.full((len(points),), 0.1))[:, :3]
            shown += relief.features.volume(points)[:, :3]
        errors.append(float(np.abs(shown.numpy() - colour[::7]).mean()))
    assert errors[0] > 0.3, "the plane shows the mean"
    assert errors[1] < 0.12


def test_poses_learn_through_charts_as_through_the_map() -> None:
    relief = random_relief(charts=30).train()
    T = torch.from_numpy(views()[:1]).requires_grad_()
    made = relief(
        T, torch.from_numpy(np.stack(np.meshgrid([-0.2, 0, 0.2], [-0.1, 0.1], [1.0]), -1)[:, :, 0]).float(), 40.0
    )
    made.rgb.sum().backward()
    assert T.grad is not None
    assert torch.isfinite(T.grad).all()
    assert T.grad.abs().max() > 0


def test_an_architecture_without_charts_is_as_before() -> None:
    config = ReliefConfig()
    assert "charts" not in config.architecture()
    assert "charts" not in ReliefConfig(memory_frames=3).architecture()
    assert not any("chart" in name for name in config.weight_shapes())


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("charts") / "flight", frames=20)


def test_a_run_learns_charts_and_renders_from_its_checkpoint_alone(flight: Path, tmp_path: Path) -> None:
    config = train_config("relief", epochs=2, size=32, tensorboard=False, relief=ReliefSettings(charts="steep"))
    train(flight, tmp_path / "run", config)
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.config().charts > 0  # type: ignore[union-attr]
    assert {name: np.shape(values) for name, values in checkpoint.state_dict.items() if "chart" in name} == {
        name: shape
        for name, shape in checkpoint.config().weight_shapes().items()
        if "chart" in name  # type: ignore[union-attr]
    }
    T = views()[:2]
    fast, slow = Renderer(tmp_path / "run", "cpu", threads=1), Renderer(tmp_path / "run", "cpu", "torch")
    off = np.abs(fast.render(T).rgb.astype(int) - slow.render(T).rgb)  # type: ignore[union-attr]
    assert (off > 2).mean() < 0.01


def test_a_flight_that_sees_walls_has_charts_by_itself_and_one_over_flat_ground_has_none(
    flight: Path, tmp_path: Path
) -> None:
    over_ground, ground = tmp_path / "over_ground", carpet(0)
    along = np.linspace(-12, 12, 24)
    with DatasetWriter(over_ground, DatasetMeta(CAMERA, depth=DepthMeta("metric"))) as writer:
        for number, T in enumerate(poses(along, 3 * np.sin(along))):
            writer.add(10**8 * number, T, seen(ground, T), np.full((144, 144), HEIGHT_M, np.float32))
    for dataset, wanted in ((flight, True), (over_ground, False)):
        run = tmp_path / f"run-{dataset.name}"
        train(dataset, run, train_config("relief", epochs=1, size=32, tensorboard=False))
        assert (load_checkpoint(run).config().charts > 0) == wanted  # type: ignore[union-attr]


def test_tiles_have_no_charts(flight: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--charts is for one volume; leave it out, or use --tiles 1"):
        train(flight, tmp_path / "run", train_config("relief", size=32, relief=ReliefSettings(tiles="2", charts="all")))
