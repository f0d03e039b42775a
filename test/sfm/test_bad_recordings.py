"""Recordings that mislead: pictures of two places, of one place, of what looks alike; positions that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support import roofs
from support.aerial import nadir_pose

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.sfm.align import Alignment, align

COUNT = 12
HALF_TURN = Rotation.from_euler("z", 180, degrees=True).as_matrix()


def errors(found: Alignment, T_map_cam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of positions (N,) in metres, of orientations (N,) in degrees, of the frames that have a pose."""
    true = T_map_cam[found.frames]
    turn = Rotation.from_matrix(found.T_map_cam[:, :3, :3]).inv() * Rotation.from_matrix(true[:, :3, :3])
    return np.linalg.norm(found.T_map_cam[:, :3, 3] - true[:, :3, 3], axis=1), np.rad2deg(turn.magnitude())


def left_out(found: Alignment, reason: str) -> list[int]:
    return sorted(frame for frame, why in found.left_out.items() if reason in why)


# The pictures are good, the positions are not. Features and matches are those of the fixture.


def shifted(recorded: np.ndarray) -> None:
    recorded[:4, 0, 3] += 50


def frozen(recorded: np.ndarray) -> None:
    recorded[3:7, :3, 3] = recorded[3, :3, 3]


def with_outliers(recorded: np.ndarray) -> None:
    recorded[2, :3, 3] += [60, -20, 5]
    recorded[9, :3, 3] -= [30, 80, 20]


def turned_once(recorded: np.ndarray) -> None:
    recorded[4, :3, :3] = HALF_TURN @ recorded[4, :3, :3]


@pytest.mark.parametrize(
    ("spoil", "bad"),
    [(shifted, [0, 1, 2, 3]), pytest.param(frozen, [5, 6], marks=pytest.mark.slow), (with_outliers, [2, 9]),
     pytest.param(turned_once, [], marks=pytest.mark.slow)],
)  # fmt: skip
def test_positions_that_are_wrong_for_a_while_are_named_and_not_used(
    spoil: Callable[[np.ndarray], None], bad: list[int], survey: roofs.Survey, tmp_path: Path
) -> None:
    recorded = survey.recorded.copy()
    spoil(recorded)
    found = align(survey.again(tmp_path / "flight", recorded), roofs.GLOBAL, progress=False)
    position_m, turn_deg = errors(found, survey.T_map_cam)
    assert len(found.frames) == COUNT
    assert position_m.max() < 3
    assert turn_deg.max() < 5
    assert set(bad) <= set(np.flatnonzero(found.reference.is_bad).tolist()) <= {*bad, 4}
    assert ("disagree with the others" in " ".join(found.notes)) == bool(bad)


def test_heights_that_drift_by_114_m_are_taken_out(survey: roofs.Survey, tmp_path: Path) -> None:
    recorded = survey.recorded.copy()
    recorded[:, 2, 3] += np.linspace(0, 114, COUNT)
    found = align(survey.again(tmp_path / "flight", recorded), roofs.GLOBAL, progress=False)
    assert found.reference.height_drift_m == pytest.approx(114, abs=5)
    offset = found.T_map_cam[:, :3, 3] - survey.T_map_cam[found.frames, :3, 3]
    assert np.ptp(offset[:, 2]) < 4
    assert np.abs(offset[:, :2]).max() < 3
    assert "heights drift by +11" in " ".join(found.notes)


def of_another_flight(recorded: np.ndarray) -> None:
    recorded[:, :3, 3] = recorded[np.random.default_rng(3).permutation(COUNT), :3, 3]


def mirrored(recorded: np.ndarray) -> None:
    recorded[:, 0, 3] *= -1


def hovering(recorded: np.ndarray) -> None:
    recorded[:, :3, 3] = [0, 0, 60] + np.random.default_rng(3).normal(0, 0.8, (COUNT, 3))  # noqa: RUF005


def frozen_all(recorded: np.ndarray) -> None:
    recorded[:, :3, 3] = recorded[0, :3, 3]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [pytest.param(of_another_flight, "another flight", marks=pytest.mark.slow), (mirrored, "another flight"),
     (hovering, "leave its size open"), pytest.param(frozen_all, "all lie at one place", marks=pytest.mark.slow)],
)  # fmt: skip
def test_positions_that_do_not_fit_the_map_place_nothing(
    spoil: Callable[[np.ndarray], None], problem: str, survey: roofs.Survey, tmp_path: Path
) -> None:
    recorded = survey.recorded.copy()
    spoil(recorded)
    folder = survey.again(tmp_path / "flight", recorded)
    with pytest.raises(UserError, match=f"is as before.*{problem}"):
        align(folder, roofs.GLOBAL, progress=False)
    np.testing.assert_allclose(Dataset(folder).T_map_cam, recorded, atol=1e-6)


@pytest.mark.slow
def test_along_a_line_attitudes_hold_the_map_upright(tmp_path: Path) -> None:
    """GPS alone would let it turn about the line, and stand on its head."""
    T_map_cam = np.stack([nadir_pose(9.0 * (k - 4), 0, 60, 90) for k in range(9)])
    recorded = roofs.rough(T_map_cam)
    folder = roofs.write(tmp_path / "flight", recorded, [roofs.Roofs().view(T) for T in T_map_cam])
    position_m, turn_deg = errors(align(folder, roofs.GLOBAL, progress=False), T_map_cam)
    assert position_m.max() < 3
    assert turn_deg.max() < 5


# The positions are good, the pictures mislead.


@pytest.mark.slow
def test_two_places_make_two_maps_each_at_its_place(tmp_path: Path) -> None:
    T_map_cam = np.concatenate([roofs.survey(2, 3), roofs.survey(1, 4)])
    pictures = [roofs.Roofs(i >= 6).view(T) for i, T in enumerate(T_map_cam)]
    T_map_cam[6:, 0, 3] += 1000
    folder = roofs.write(tmp_path / "flight", roofs.rough(T_map_cam), pictures)
    found = align(folder, roofs.GLOBAL, progress=False)
    position_m, _ = errors(found, T_map_cam)
    assert len(found.frames) == 10
    assert position_m.max() < 5
    assert "2 maps that do not overlap (6, 4 frames)" in " ".join(found.notes)


def test_what_looks_alike_elsewhere_is_left_out(survey: roofs.Survey, tmp_path: Path) -> None:
    """The pictures of frames 12 to 15, 200 m away after a stretch of water, and the last one are those of others."""
    T_map_cam = np.concatenate([survey.T_map_cam, survey.T_map_cam[2:6], survey.T_map_cam[11:]])
    T_map_cam[12:16, 0, 3] += 200
    pictures = [*survey.pictures, *survey.pictures[2:6], survey.pictures[1]]
    seconds = [*range(0, 60, 5), *range(120, 140, 5), 61]
    order = np.argsort(seconds)
    folder = roofs.write(
        tmp_path / "flight", roofs.rough(T_map_cam)[order], [pictures[i] for i in order], seconds=np.sort(seconds) + 1.0
    )
    found = align(folder, roofs.GLOBAL, progress=False)
    position_m, _ = errors(found, T_map_cam[order])
    assert left_out(found, "matches another place") == [12, 13, 14, 15, 16]
    assert len(found.frames) == COUNT
    assert position_m.max() < 3


@pytest.mark.slow
def test_a_place_that_looks_alike_everywhere_is_not_believed(tmp_path: Path) -> None:
    """An orchard: trees in rows, 20 m apart."""
    T_map_cam = roofs.survey(3, 4)
    place = roofs.Roofs(5).repeated(20.0)
    folder = roofs.write(tmp_path / "flight", roofs.rough(T_map_cam), [place.view(T) for T in T_map_cam])
    with pytest.raises(UserError, match=r"is as before.*look alike"):
        align(folder, roofs.GLOBAL, progress=False)


def moving_water(survey: roofs.Survey, rng: np.random.Generator) -> list[np.ndarray]:
    """Nothing of it stays; what stays is the text that the drone writes over its pictures."""
    pictures = []
    for _ in range(6):
        waves = cv2.GaussianBlur(rng.uniform(0, 255, (240, 320, 3)).astype(np.float32), (0, 0), 2)
        picture = np.clip((waves - waves.mean()) * 4 + 110, 0, 255).astype(np.uint8)
        picture[100:150, 60:260] = survey.pictures[0][100:150, 60:260]
        pictures.append(picture)
    return pictures


def one_photograph(survey: roofs.Survey, rng: np.random.Generator) -> list[np.ndarray]:
    return [survey.pictures[0]] * 6


def turning(survey: roofs.Survey, rng: np.random.Generator) -> list[np.ndarray]:
    """A panorama."""
    place, T_map_cam = roofs.Roofs(), np.tile(survey.T_map_cam[0], (6, 1, 1))
    T_map_cam[:, :3, :3] = (
        T_map_cam[:, :3, :3] @ Rotation.from_euler("xyz", rng.uniform(-20, 20, (6, 3)), degrees=True).as_matrix()
    )
    return [place.view(T) for T in T_map_cam]


def elsewhere_each(survey: roofs.Survey, rng: np.random.Generator) -> list[np.ndarray]:
    return [roofs.Roofs(20 + i).view(survey.T_map_cam[5]) for i in range(6)]


def dark(survey: roofs.Survey, rng: np.random.Generator) -> list[np.ndarray]:
    return [(picture * 0.05).astype(np.uint8) for picture in survey.pictures[:6]]


@pytest.mark.parametrize(
    ("shown", "problem"),
    [pytest.param(moving_water, "taken from one place|for sure", marks=pytest.mark.slow),
     (one_photograph, "taken from one place"),
     pytest.param(turning, "taken from one place|for sure", marks=pytest.mark.slow),
     pytest.param(elsewhere_each, "0 pairs of them match; they must overlap", marks=pytest.mark.slow),
     pytest.param(dark, "hardly any features", marks=pytest.mark.slow)],
)  # fmt: skip
def test_pictures_that_make_no_map_leave_the_dataset_with_a_reason(
    shown: Callable[[roofs.Survey, np.random.Generator], list[np.ndarray]], problem: str, survey: roofs.Survey,
    tmp_path: Path,
) -> None:  # fmt: skip
    pictures = shown(survey, np.random.default_rng(4))
    folder = roofs.write(tmp_path / "flight", survey.recorded[:6], pictures)
    with pytest.raises(UserError, match=f"is as before.*({problem})"):
        align(folder, roofs.GLOBAL, progress=False)
    np.testing.assert_allclose(Dataset(folder).T_map_cam, survey.recorded[:6], atol=1e-6)


@pytest.mark.slow
def test_a_lens_that_zooms_is_said(tmp_path: Path) -> None:
    T_map_cam, place = roofs.survey(3, 4), roofs.Roofs()
    zooms = np.linspace(1.0, 1.6, COUNT)
    pictures = [
        place.view(T, replace(roofs.CAMERA, fx=zoom * roofs.CAMERA.fx, fy=zoom * roofs.CAMERA.fy))
        for T, zoom in zip(T_map_cam, zooms, strict=True)
    ]
    folder = roofs.write(tmp_path / "flight", roofs.rough(T_map_cam), pictures)
    notes = " ".join(align(folder, replace(roofs.GLOBAL, refine_camera="all"), progress=False).notes)
    assert "a lens that zooms is not modelled" in notes


def test_odd_pictures_among_good_ones(survey: roofs.Survey, tmp_path: Path) -> None:
    """One stands on its head, one is grey, one is damaged, one is dark; the others do not suffer."""
    pictures = list(survey.pictures)
    pictures[3] = pictures[3][::-1, ::-1]
    pictures[6] = np.repeat(cv2.cvtColor(pictures[6], cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
    pictures[8] = np.zeros_like(pictures[8])
    folder = roofs.write(tmp_path / "flight", survey.recorded, pictures)
    damaged = folder / Dataset(folder).records[10].rgb
    damaged.write_bytes(damaged.read_bytes()[:2000])
    found = align(folder, roofs.GLOBAL, progress=False)
    assert left_out(found, "is damaged") == [10]
    assert left_out(found, "hardly any features") == [8]
    position_m, turn_deg = errors(found, survey.T_map_cam)
    assert position_m.max() < 3
    on_its_head = found.frames == 3
    assert turn_deg[on_its_head] == pytest.approx(180, abs=5)  # as its pixels are
    assert turn_deg[~on_its_head].max() < 5
    assert len(found.frames) == COUNT - 2
