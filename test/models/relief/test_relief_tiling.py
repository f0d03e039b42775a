"""A place in tiles: every point belongs to one, every pixel is looked after, and cut or whole shows the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.random_relief import random_relief, views
from support.relief_tiles import cut

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.config import (
    ReliefSettings,
    SceneBoxSettings,
    Surface,
    TiledReliefConfig,
    choose_tiles,
    parse_tiles,
    share_out,
    tiled,
)
from pose2rgbd_ros.models.relief.network import TiledRelief
from pose2rgbd_ros.models.relief.tiles import Owners
from pose2rgbd_ros.training.families import architecture_of, build_model

CAMERA = Camera.from_fov(48, 40, 80.0)
TURNED = (0.0, 0.0, float(np.sin(0.3)), float(np.cos(0.3)))


def grid(rows: int, columns: int) -> TiledReliefConfig:
    return TiledReliefConfig(
        origin_m=(5.0, -30.0, 2.0), quat_xyzw=TURNED, layers=8, rows=30, columns=26,
        tile_rows=rows, tile_columns=columns, overlap=6,
    )  # fmt: skip


@given(st.integers(1, 4), st.integers(1, 4), st.floats(-99, 200), st.floats(-99, 200))
def test_every_point_is_in_one_core_that_of_its_home(rows: int, columns: int, x: float, y: float) -> None:
    config, inside = grid(rows, columns), []
    for number in range(config.count):
        low, high = config.core_m(number)
        at = np.array([x, y]) - config.corner_m(number)[:2]
        if ((low <= at) & (at < high)).all():
            inside.append(number)
    assert (
        len(inside) == 1 or np.isclose((x - 3) % config.stride_m[0], 0) or np.isclose((y - 3) % config.stride_m[1], 0)
    )
    assert config.home(np.array([x, y, 0.0])) in inside or len(inside) != 1


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 2), (3, 1)])
def test_cut_or_whole_shows_the_same_surfaces(rows: int, columns: int) -> None:
    whole = random_relief(cell_m=1.0, layer_m=1.0)
    with torch.no_grad():  # at the rim of the place the whole ends, and the last tile has some cells more
        whole.volume.logits[:, -1], whole.volume.logits[:, :, -1] = -1.0, -1.0
    model = cut(whole, rows, columns)
    T, fit = torch.from_numpy(views()), Normalization.fit(views(), np.array([[[4.0, 60.0]]]))
    for parameter in whole.shader.parameters():
        parameter.data.zero_()
    expected, found = (each.pictures(T, CAMERA, fit) for each in (whole, model))
    assert expected.depth is not None
    assert found.depth is not None
    same = torch.isclose(found.depth, expected.depth, rtol=0, atol=2e-3, equal_nan=True)
    assert (~same).float().mean() < 4e-3  # rays that graze an edge
    assert torch.isfinite(expected.depth).float().mean() > 0.3


def test_from_inside_something_nothing_is_known() -> None:
    whole = random_relief(cell_m=1.0, layer_m=1.0)
    with torch.no_grad():
        whole.volume.logits[:4, 10:14, 12:16] = 4.0
    model = cut(whole, 2, 2)
    eye = (whole.config.T_map_vol @ [13.0, 12.0, 2.0, 1.0])[:3]
    T = se3.look_at(eye[None], eye[None] + [[9.0, 5.0, -0.1]])
    shown = model.pictures(torch.from_numpy(T), CAMERA, Normalization.fit(T, np.array([[[4.0, 60.0]]])))
    assert shown.depth is not None
    assert shown.confidence is not None
    assert torch.isnan(shown.depth).all()
    assert (shown.confidence == 0).all()


def test_the_nearest_end_in_its_own_core_is_shown() -> None:
    owners, everything = Owners((1, 4)), (slice(0, 1), slice(0, 4))
    nothing = float("nan")
    first = owners.take(*everything, np.float32([[9.0, 5.0, nothing, nothing]]), np.float32([[0.0, 0.0, 0.0, 0.0]]))
    second = owners.take(*everything, np.float32([[4.0, 4.0, 7.0, nothing]]), np.float32([[0.0, 2.0, 3.0, 0.0]]))
    assert first.all()
    assert second.tolist() == [[True, False, True, False]]


def test_the_architecture_makes_the_same_network() -> None:
    model = cut(random_relief(), 2, 3)
    again = build_model(architecture_of(model))
    assert isinstance(again, TiledRelief)
    assert again.config == model.config
    assert again.state_dict().keys() == model.state_dict().keys()
    assert model.stored_as_half <= model.state_dict().keys()
    assert any(key.startswith("tiles.5.") for key in model.stored_as_half)


def flat_place(side_m: float) -> Surface:
    xy = np.random.default_rng(0).uniform(0, side_m, (4000, 2))
    points = np.column_stack([xy, np.random.default_rng(1).uniform(0, 20, 4000)])
    return Surface(points, np.full(4000, 50.0), np.zeros(4000, np.int64))


def chosen(side_m: float, tiles: str, **box: float) -> tuple[float, tuple[int, int], float]:
    """Cell, grid and MB of a tile."""
    T = se3.look_at(np.array([[0, 0, 50.0], [side_m, side_m, 50.0]]), np.array([[0, 1, 0.0], [side_m, 0, 0.0]]))
    settings = ReliefSettings(tiles=tiles, box=SceneBoxSettings(**box))  # type: ignore[arg-type]
    box, cells = choose_tiles(T, CAMERA, flat_place(side_m), settings)
    return box.cell_m, cells, box.stored_mb(8) / (cells[0] * cells[1])


def test_a_place_that_fits_is_one_volume_and_a_large_one_is_cut_without_becoming_coarser() -> None:
    cell, cells, _ = chosen(400.0, "auto", model_mb=20.0)
    assert cells == (1, 1)
    fine, cells, tile_mb = chosen(1600.0, "auto", model_mb=20.0)
    assert fine == pytest.approx(cell)
    assert cells[0] * cells[1] > 2
    assert tile_mb < 20.0


def test_a_number_of_tiles_is_followed_and_coarsened_only_above_their_limit() -> None:
    assert chosen(400.0, "1", model_mb=20.0)[1] == (1, 1)
    assert chosen(400.0, "2x3", model_mb=20.0)[1] == (2, 3)
    fine, _, _ = chosen(400.0, "4", model_mb=20.0)
    coarse, cells, tile_mb = chosen(400.0, "4", model_mb=1.0)
    assert cells == (2, 2)
    assert coarse > fine
    assert tile_mb <= 1.0


def test_too_large_even_in_tiles_says_how_large() -> None:
    with pytest.raises(UserError, match=r"1,\d\d\d x 1,\d\d\d m in \d+x\d+ tiles takes .* MB"):
        chosen(1600.0, "auto", model_mb=20.0, memory_mb=50.0)


@pytest.mark.parametrize("text", ["0", "-1", "2x", "x2", "2x0", "many", "2.5", ""])
def test_tiles_that_cannot_be_read_are_told(text: str) -> None:
    with pytest.raises(UserError, match=r"--tiles"):
        parse_tiles(text)


def test_tiles_are_few_and_cover_the_place() -> None:
    assert [parse_tiles(each) for each in ("auto", "1", "1x1", "3", "2X5")] == [None, 1, 1, 3, (2, 5)]
    assert share_out(4, 1.0) == (2, 2)
    assert share_out(3, 0.3) == (1, 3)
    for rows, columns in ((1, 2), (3, 4), (7, 1)):
        whole = random_relief().config
        config = tiled(whole, (rows, columns))
        reach = config.corner_m(config.count - 1)[:2] + config.size_m[:2]
        assert (reach >= np.array(whole.size_m[:2]) - 1e-6).all()
