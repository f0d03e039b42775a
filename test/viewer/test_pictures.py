"""What a view shows: layers, comparisons, what is unknown; and that nothing is rendered twice."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import support.small_relief as small_relief
from viewer.conftest import SMALL

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.rendering.bounds import Calibration, IntervalTable, save_calibration
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.viewer import pictures
from pose2rgbd_ros.viewer.pictures import (
    BLINK,
    COLOUR,
    DEPTH,
    ERROR,
    LOWER,
    RECORDED,
    SPLIT,
    TILES,
    UNKNOWN,
    Choice,
    Studio,
    View,
)  # fmt: skip
from pose2rgbd_ros.viewer.place import SCENE_FAR, Place, fitting_fov_rad, view_camera
from pose2rgbd_ros.viewer.scene import make_cloud


@pytest.fixture
def studio(place: Place) -> Studio:
    return Studio(place, 96, 48)


def view_of_frame(place: Place, number: int, **choice: object) -> View:
    """As the page asks for it once it stands at a frame."""
    assert place.dataset is not None
    frame = int(place.track.frame[number])
    fov = fitting_fov_rad(place.dataset.camera, 1.2)
    return View(place.track.T_map_cam[number], fov, 1.2, Choice(frame=frame, **choice))  # type: ignore[arg-type]


def test_colour_is_what_the_renderer_shows(studio: Studio, place: Place) -> None:
    view = view_of_frame(place, 3)
    shown = studio.draw(view, True)
    camera = view_camera(96, 1.2, view.fov_rad)
    assert camera is not None
    expected = place.models[0].renderer.render_for_camera(view.T_map_cam, camera)
    assert expected.rgb is not None
    assert expected.depth is not None
    np.testing.assert_array_equal(shown.rgb, expected.rgb[0])
    assert shown.depth_units is not None
    known = np.isfinite(expected.depth[0])
    np.testing.assert_allclose(shown.depth_units[known], expected.depth[0][known] * place.units_per_m, rtol=1e-6)
    assert (shown.depth_units[~known] == SCENE_FAR).all(), "what is unknown hides nothing"


def test_who_looks_the_same_way_shares_a_picture(studio: Studio, place: Place) -> None:
    view = view_of_frame(place, 3)
    for _ in range(3):
        studio.draw(view, False)
    studio.draw(replace(view, choice=replace(view.choice, layer=UNKNOWN)), False)
    assert studio.rendered == 1
    studio.draw(view_of_frame(place, 4), False)
    assert studio.rendered == 2


def test_the_recorded_frame_lies_on_the_prediction(studio: Studio, place: Place) -> None:
    assert place.dataset is not None
    view = view_of_frame(place, 3, comparison=BLINK, blink_on=True)
    recorded = studio.draw(view, True)
    assert recorded.note == RECORDED
    rgb = place.dataset.rgb(view.choice.frame)
    height, width = recorded.rgb.shape[:2]
    middle = recorded.rgb[height // 4 : -height // 4, width // 4 : -width // 4].astype(float)
    truth = rgb[rgb.shape[0] // 4 : -rgb.shape[0] // 4, rgb.shape[1] // 4 : -rgb.shape[1] // 4]
    assert abs(middle.mean() - truth.astype(float).mean()) < 8
    predicted = studio.draw(replace(view, choice=replace(view.choice, blink_on=False)), True)
    difference = np.abs(predicted.rgb.astype(float) - recorded.rgb.astype(float)).mean()
    shifted = np.abs(np.roll(predicted.rgb, 12, axis=1).astype(float) - recorded.rgb.astype(float)).mean()
    assert difference < 0.7 * shifted, "they lie on each other"


def test_split_shows_both(studio: Studio, place: Place) -> None:
    view = view_of_frame(place, 3, comparison=SPLIT, split=0.5)
    shown = studio.draw(view, True)
    halves = {
        on: studio.draw(replace(view, choice=replace(view.choice, comparison=BLINK, blink_on=on)), True).rgb
        for on in (False, True)
    }
    middle = shown.rgb.shape[1] // 2
    np.testing.assert_array_equal(shown.rgb[:, : middle - 1], halves[False][:, : middle - 1])
    np.testing.assert_array_equal(shown.rgb[:, middle + 1 :], halves[True][:, middle + 1 :])


def test_the_error_is_the_mean_difference_where_both_saw(studio: Studio, place: Place) -> None:
    view = view_of_frame(place, 3, comparison=ERROR)
    shown = studio.draw(view, True)
    camera = view_camera(96, 1.2, view.fov_rad)
    assert camera is not None
    a = studio.render(0, view.T_map_cam, camera)["rgb"].astype(np.float32)
    b = studio.recorded(view.choice.frame, camera)["rgb"].astype(np.float32)
    both = (a > 0).any(axis=2) & (b > 0).any(axis=2)
    mean = np.abs(a - b).mean(axis=2)[both].mean()
    assert f"error of colour: mean {mean:.2f} of 255" in shown.note
    assert "error of depth: mean" in studio.draw(view_of_frame(place, 3, comparison=ERROR, layer=DEPTH), True).note


def test_away_from_a_frame_there_is_nothing_recorded_to_compare_with(studio: Studio, place: Place) -> None:
    view = View(place.start_T_map_cam, 1.0, 1.2, Choice(comparison=SPLIT))
    assert "go to a frame" in studio.draw(view, True).note


def test_several_models_stand_side_by_side(warp: Path, flight: Path) -> None:
    place = Place([warp, warp], flight, SMALL)
    assert [model.name for model in place.models] == ["warp 1", "warp 2"]
    studio = Studio(place, 96, 48)
    view = view_of_frame(place, 5, comparison=TILES)
    grid = studio.draw(view, True).rgb
    one = studio.draw(replace(view, choice=replace(view.choice, comparison="off")), True).rgb
    assert grid.shape[1] / grid.shape[0] == pytest.approx(one.shape[1] / one.shape[0], rel=0.05)
    alike = studio.draw(replace(view, choice=replace(view.choice, comparison=ERROR, other="warp 2")), True)
    assert "mean 0.00 of 255" in alike.note


def test_what_is_unknown_is_tinted(relief: Path) -> None:
    place = Place([relief], None, SMALL)
    studio = Studio(place, 96, 48)
    T = place.start_T_map_cam.copy()
    T[0, 3] = 9.0  # towards what nobody saw
    view = View(T, 1.0, 1.0, Choice(tint=True))
    camera = view_camera(96, 1.0, 1.0)
    assert camera is not None
    images = studio.render(0, T, camera)
    unknown = images["unknown"]
    np.testing.assert_array_equal(unknown, ~np.isfinite(images["depth"]))
    assert 0.05 < unknown.mean() < 0.95
    tinted = studio.draw(view, True).rgb
    np.testing.assert_array_equal(tinted[~unknown], images["rgb"][~unknown])
    away = np.abs(tinted[unknown].astype(float) - pictures.TINT).mean()
    assert away < np.abs(images["rgb"][unknown].astype(float) - pictures.TINT).mean()
    assert (studio.coloured(0, DEPTH, images)[unknown] == pictures.UNKNOWN_GREY).all()


def test_a_model_without_depth_shows_colour_and_says_so(flight: Path, tmp_path: Path) -> None:
    run = tmp_path / "flat"
    flags = ["--output", "rgb", "--width", "0.25", "--size", "32", "--epochs", "1", "--no-tensorboard"]
    assert main(["train", "base", str(flight), "--out", str(run), *flags]) in (0, 1)  # 1: it shows one picture only
    place = Place([run], flight, SMALL)
    studio = Studio(place, 96, 48)
    assert studio.layers(0) == [COLOUR, UNKNOWN]
    assert place.unit == ""
    for layer in (COLOUR, DEPTH, LOWER, UNKNOWN):
        shown = studio.draw(view_of_frame(place, 2, layer=layer, comparison=ERROR), True)
        assert shown.depth_units is None
    with pytest.raises(UserError, match="flat shows no depth"):
        make_cloud(studio, 0)


def test_relative_depth_has_no_unit_and_hides_nothing(tmp_path: Path) -> None:
    place = Place([small_relief.write_small_relief(tmp_path / "rel", "relative")], None, SMALL)
    studio = Studio(place, 96, 48)
    shown = studio.draw(View(place.start_T_map_cam, 1.0, 1.0, Choice(layer=DEPTH)), True)
    assert shown.depth_units is None
    assert place.unit == ""
    with pytest.raises(UserError, match="relative: without a unit it makes no cloud"):
        make_cloud(studio, 0)


def test_the_cloud_lies_on_the_ground(relief: Path) -> None:
    place = Place([relief], None, SMALL)
    told: list[float] = []
    cloud = make_cloud(Studio(place, 96, 48), 0, told.append)
    height_m = cloud.points[:, 2] / place.units_per_m + place.centre_m[2]
    assert np.median(height_m) == pytest.approx(small_relief.GROUND_Z, abs=0.7)
    assert height_m.max() < small_relief.GROUND_Z + small_relief.HOUSE_M[2] + 1.0
    assert told[-1] == 1.0
    assert "not calibrated" in cloud.note


def test_slow_models_get_smaller_pictures_on_the_move(studio: Studio) -> None:
    for _ in range(20):
        studio._adapt(0.5)
    assert studio.moving_size == 48, "never below 64 pixels, nor above what was asked for"
    large = Studio(studio.place, 512, 256)
    for _ in range(20):
        large._adapt(0.5)
    assert large.moving_size == 64
    for _ in range(60):
        large._adapt(0.001)
    assert large.moving_size == 256


def test_where_the_guard_vouches_for_nothing_there_is_a_ghost_and_no_error(
    warp: Path, flight: Path, tmp_path: Path
) -> None:
    run = tmp_path / "warp"
    shutil.copytree(warp, run)
    share = np.full((2, 2, 2, 2), 0.2, np.float32)
    share[0, 1] = np.nan  # not sure, and varied: unknown
    edges = tuple(np.array([edge], np.float32) for edge in (0.5, 0.05, 5.0, 5.0))
    table = IntervalTable(edges, share, share / 2, 50.0, 0.0)
    weights = load_checkpoint(run).weights_sha256
    save_calibration(run / "checkpoint", Calibration(weights, 0.9, 0.005, 2.0, 60.0, 12.0, table, {}))
    place = Place([run], flight, SMALL)
    studio, camera = Studio(place, 96, 48), view_camera(96, 1.2, 1.0)
    assert camera is not None
    T = place.start_T_map_cam.copy()
    T[2, 3] += 500.0
    assert not place.models[0].renderer.guard_score(T).inside
    guarded = Renderer(run)
    for pose, known in ((place.start_T_map_cam, True), (T, False)):
        images, published = studio.render(0, pose, camera), guarded.render_for_camera(pose, camera)
        assert published.depth is not None
        np.testing.assert_array_equal(images["unknown"], ~np.isfinite(published.depth[0]))
        assert images["unknown"].all() != known
    shown = studio.draw(View(T, 1.0, 1.2, Choice(layer=UNKNOWN)), True)
    assert not shown.guard.inside
    assert "beyond the poses flown" in shown.guard.reason
