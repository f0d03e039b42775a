"""The relief's volume: where it lies, how fine it is, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.config import (
    SceneBoxSettings,
    Surface,
    choose_scene_box,
    supported,
    surface_points,
    volume_rotation,
)

CAMERA = Camera.from_fov(64, 64, 90.0)


def survey(side_m: float = 200.0, height_m: float = 50.0, spacing_m: float = 20.0) -> np.ndarray:
    """Cameras (N, 4, 4) that look straight down from a grid."""
    x, y = np.meshgrid(*2 * [np.arange(-side_m / 2, side_m / 2 + 1, spacing_m)])
    eyes = np.stack([x, y, np.full_like(x, height_m)], axis=-1).reshape(-1, 3)
    return se3.look_at(eyes, eyes - [0, 0, 1])


def flat_depth(T_map_cam: np.ndarray, ground_m: float = 0.0) -> np.ndarray:
    """(N, 64, 64) depth of level ground seen straight down."""
    return np.broadcast_to((T_map_cam[:, 2, 3] - ground_m)[:, None, None], (len(T_map_cam), 64, 64)).copy()


def box_of(T: np.ndarray, depth: np.ndarray, **values: object):
    return choose_scene_box(T, CAMERA, surface_points(T, depth, CAMERA), SceneBoxSettings(**values))


def test_a_survey_gets_an_upright_box_around_what_it_saw():
    T = survey()
    depth = flat_depth(T)
    depth[:, 28:36, 28:36] -= 12.0  # roofs
    box = box_of(T, depth)
    np.testing.assert_array_equal(box.T_map_vol[:3, :3], np.eye(3))
    low, high = box.T_map_vol[:3, 3], box.T_map_vol[:3, 3] + box.size_m
    # 100 m to each side, and the outermost camera sees 50 m farther; the last per mille may be cut.
    assert np.all(low[:2] < -143)
    assert np.all(low[:2] > -151)
    assert np.all(high[:2] > 143)
    assert -3 < low[2] < 0
    assert 12 < high[2] < 18
    assert box.pixel_m == pytest.approx(50 / 32, rel=0.1)
    assert 0.6 * box.pixel_m < box.cell_m < box.pixel_m


@pytest.mark.parametrize(("street_m", "within"), [(180.0, True), (900.0, False)])
def test_a_street_that_few_frames_see_is_in_the_box_where_that_costs_little(street_m: float, within: bool):
    """Beside the box a flat far field goes on, metres beside the true one; a horizon would make all cells coarse."""
    rng = np.random.default_rng(0)
    place = rng.uniform((-100, -100, 0), (100, 100, 2), (100_000, 3))
    street = rng.uniform((100, -5, 0), (street_m, 5, 1), (250, 3))
    points = np.concatenate([place, street])
    T = survey()
    surface = Surface(points, np.full(len(points), 50.0), rng.integers(0, len(T), len(points)))
    box = choose_scene_box(T, CAMERA, surface, SceneBoxSettings())
    end_m = box.T_map_vol[0, 3] + box.size_m[0]
    assert (end_m > 0.9 * street_m) == within
    assert box.size_m[1] < 206


def test_false_depths_do_not_blow_the_box_up():
    T = survey()
    depth = flat_depth(T)
    clean = box_of(T, depth)
    rng = np.random.default_rng(0)
    wrong = rng.random(depth.shape) < 0.05
    depth[wrong] = rng.uniform(1, 5000, wrong.sum())
    box = box_of(T, depth)
    np.testing.assert_allclose(box.size_m[:2], clean.size_m[:2], rtol=0.05)
    assert box.size_m[2] < clean.size_m[2] + 15
    assert box.T_map_vol[2, 3] > clean.T_map_vol[2, 3] - 10


def test_holes_and_sparse_depth_give_nearly_the_same_box():
    T = survey()
    depth = flat_depth(T)
    whole = box_of(T, depth)
    rng = np.random.default_rng(0)
    depth[rng.random(depth.shape) < 0.98] = np.nan
    box = box_of(T, depth)
    np.testing.assert_allclose(box.size_m, whole.size_m, rtol=0.03)


@given(st.floats(-180, 180), st.floats(-20, 30), st.integers(0, 100))
def test_a_hand_held_camera_gets_a_volume_that_faces_it(yaw_deg, pitch_deg, seed):
    yaw, pitch = np.radians([yaw_deg, pitch_deg])
    view = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])
    rng = np.random.default_rng(seed)
    eyes = rng.normal(0, 0.3, (40, 3))
    T = se3.look_at(eyes, eyes + view + rng.normal(0, 0.1, (40, 3)))
    R = volume_rotation(T)
    np.testing.assert_allclose(R.T @ R, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) > 0
    assert -R[:, 2] @ view > 0.95  # z against the view
    assert R[:, 0] @ T[:, :3, 0].mean(axis=0) > 0.9  # x to the right of the pictures


@pytest.mark.parametrize(("pitch_deg", "upright"), [(70, True), (30, True), (15, False)])
def test_the_axis_follows_how_steeply_the_flight_looks_down(pitch_deg, upright):
    eyes = np.stack([np.linspace(0, 50, 20), np.zeros(20), np.full(20, 40.0)], axis=-1)
    view = np.array([0.0, np.cos(np.radians(pitch_deg)), -np.sin(np.radians(pitch_deg))])
    assert np.allclose(volume_rotation(se3.look_at(eyes, eyes + view)), np.eye(3)) == upright


@pytest.mark.parametrize(("height_m", "upright"), [(10.0, True), (150.0, False)])
def test_level_cameras_over_a_landscape_get_an_upright_volume_and_before_a_wall_one_that_faces_it(height_m, upright):
    """Which of them it is, the surface says: 200 m deep and so high."""
    eyes = np.stack([np.zeros(20), np.linspace(0, 50, 20), np.full(20, 12.0)], axis=-1)
    T = se3.look_at(eyes, eyes + np.array([0.0, 1.0, 0.0]))
    seen = np.random.default_rng(0).uniform([-50, 60, 0], [50, 260, height_m], (50_000, 3))
    surface = Surface(seen, seen[:, 1], np.zeros(len(seen), np.int64))
    for up, expected in (("auto", upright), ("view", False)):
        box = choose_scene_box(T, CAMERA, surface, SceneBoxSettings(up=up))
        assert np.allclose(box.T_map_vol[:3, :3], np.eye(3)) == expected


def test_a_flight_that_looks_all_around_stays_upright():
    angle = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    eyes = np.stack([np.cos(angle), np.sin(angle), np.zeros(36)], axis=-1) * 30
    T = se3.look_at(eyes, 2 * eyes)
    np.testing.assert_array_equal(volume_rotation(T), np.eye(3))
    with pytest.raises(UserError, match=r"--box\.up map"):
        volume_rotation(T, "view")


def test_settings_override_each_choice():
    T = survey()
    box = box_of(T, flat_depth(T), cell_m=3.0, layer_m=2.0, feature_m=1.5, floor_m=-4.0, top_m=20.0, extent_m=90.0)
    assert (box.cell_m, box.layer_m, box.feature_m) == (3.0, 2.0, 1.5)
    assert box.T_map_vol[2, 3] == -4.0
    assert 24 <= box.size_m[2] <= 26
    assert np.all(np.abs(box.size_m[:2] - 90) < 3.1)
    tile = box_of(T, flat_depth(T), extent_m=60.0, middle_x_m=-40.0, middle_y_m=30.0)
    middle = tile.T_map_vol[:2, 3] + tile.size_m[:2] / 2
    np.testing.assert_allclose(middle, [-40.0, 30.0], atol=2.0)
    with pytest.raises(UserError, match=r"floor at 5 m and its top at 1 m"):
        box_of(T, flat_depth(T), floor_m=5.0, top_m=1.0)


def test_a_place_too_large_is_refused_with_what_would_fit():
    T = survey(3000.0, spacing_m=300.0)
    with pytest.raises(UserError, match="too large") as caught:
        box_of(T, flat_depth(T), cell_m=0.5, layer_m=1.0, feature_m=0.25, memory_mb=500.0, model_mb=1e5)
    message = str(caught.value)
    assert "MB to train" in message
    assert "\n" not in message
    words = message.split()
    advised = {
        words[i]: float(words[i + 1].rstrip(",).").replace(",", ""))
        for i in range(len(words) - 1)
        if words[i] in ("--box.cell-m", "--box.feature-m")
    }
    box_of(
        T,
        flat_depth(T),
        cell_m=advised["--box.cell-m"],
        feature_m=advised["--box.feature-m"],
        layer_m=1.0,
        memory_mb=500.0,
        model_mb=1e5,
    )  # the advice holds


def test_automatic_cells_are_coarsened_to_the_model_size_and_not_without_end():
    T = survey(1000.0, spacing_m=100.0)
    fine = box_of(T, flat_depth(T))
    coarse = box_of(T, flat_depth(T), model_mb=fine.stored_mb(8) / 4)
    assert coarse.stored_mb(8) <= fine.stored_mb(8) / 4
    assert 1.5 < coarse.cell_m / fine.cell_m < 3
    with pytest.raises(UserError, match=r"--box\.model-mb allows 1"):
        box_of(survey(5000.0, spacing_m=500.0), flat_depth(survey(5000.0, spacing_m=500.0)), model_mb=1.0)


def test_no_known_depth_is_refused():
    T = survey()
    with pytest.raises(UserError, match="only 0 pixels"):
        box_of(T, np.full((len(T), 64, 64), np.nan))


def test_memory_grows_with_the_area():
    areas, sizes = [], []
    for side in (200.0, 400.0, 800.0):
        T = survey(side, spacing_m=side / 10)
        box = box_of(T, flat_depth(T), cell_m=2.0, layer_m=2.0, feature_m=1.0, model_mb=1e4)
        areas.append(box.size_m[0] * box.size_m[1])
        sizes.append(box.stored_mb(8))
    np.testing.assert_allclose(np.divide(sizes, areas) / (sizes[0] / areas[0]), 1.0, rtol=0.05)


def test_supported_keeps_surfaces_and_drops_what_is_alone():
    rng = np.random.default_rng(0)
    surface = np.concatenate([rng.uniform(-50, 50, (20000, 2)), np.zeros((20000, 1))], axis=1)
    alone = rng.uniform(-3000, 3000, (500, 3))
    kept = supported(np.concatenate([surface, alone]))
    assert kept[:20000].mean() > 0.999
    assert kept[20000:].mean() < 0.02


def test_a_lens_that_bends_light_is_undone():
    T = survey()
    bent = Camera(64, 64, 32.0, 32.0, 31.5, 31.5, "plumb_bob", (-0.2, 0.0, 0.0, 0.0))
    seen = surface_points(T, flat_depth(T), bent)
    assert isinstance(seen, Surface)
    np.testing.assert_allclose(seen.points_map[:, 2], 0.0, atol=1e-9)
    offset = seen.points_map[:, :2] - T[seen.frame, :2, 3]
    assert np.abs(offset).max() > 55  # an ideal pinhole would see 50 m to each side
