"""The two real surveys: what the photographs say of themselves against poses reconstructed from their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pose2rgbd_ros.convert.exif import read_photo
from pose2rgbd_ros.convert.photo_poses import from_file
from pose2rgbd_ros.convert.photos import convert_photos
from pose2rgbd_ros.convert.settings import ConvertConfig, PhotoSettings
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.geometry import quaternions

TURNED = [f"DJI_{number:04d}.jpg" for number in range(24, 30)]


def compare(
    folder: Path, out: Path, orientation: str = "auto", **photo_settings: object
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, str]:
    """Names, position errors (m), yaw errors and rotation errors (degrees) against sfm/poses.csv, and the notes."""
    origin = [float(value) for value in (folder / "origin.txt").read_text().splitlines()[1].split()]
    settings = PhotoSettings(**photo_settings)  # type: ignore[arg-type]
    config = ConvertConfig(datum=(origin[0], origin[1], origin[2]), orientation=orientation)  # type: ignore[arg-type]
    report = convert_photos([folder / "images"], out, config, settings)
    photos = [read_photo(path) for path in sorted((folder / "images").iterdir())]
    dataset = Dataset(out)
    assert report.frames_written == len(photos) == len(dataset)
    reference = from_file(folder / "sfm" / "poses.csv", photos).T_map_cam
    known = np.isfinite(reference).all(axis=(1, 2))
    found, reference = dataset.T_map_cam[known], reference[known]
    position = np.linalg.norm(found[:, :3, 3] - reference[:, :3, 3], axis=1)
    yaws = [np.degrees(np.arctan2(-T[:, 0, 1], -T[:, 1, 1])) for T in (found, reference)]
    yaw = np.abs((yaws[0] - yaws[1] + 180) % 360 - 180)
    quats = [quaternions.from_matrix(T[:, :3, :3]) for T in (found, reference)]
    turn = np.degrees(quaternions.angle_between_rad(*quats))
    names = [photo.path.name for photo, is_known in zip(photos, known, strict=True) if is_known]
    return (
        names,
        position,
        yaw,
        turn,
        "\n".join([*report.notes, *(f"warning: {text}" for part in report.bags for text in part.warnings)]),
    )


def test_brighton_beach_photos_of_the_return_leg_are_turned(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "aerial_brighton_beach"
    names, position, yaw, turn, notes = compare(folder, tmp_path / "as_is", yaw_check="off")
    wrong = [name for name, error in zip(names, yaw, strict=True) if error > 90]
    assert wrong == TURNED
    assert yaw[yaw > 90].min() > 170

    names, position, yaw, turn, notes = compare(folder, tmp_path / "fixed")
    assert f"in 6 the pixels are turned by 180 degrees against the recorded yaw ({', '.join(TURNED)})" in notes
    assert np.median(position) < 0.8
    assert np.median(yaw) < 4
    assert yaw.max() < 8
    assert np.median(turn) < 5
    camera = Dataset(tmp_path / "fixed").camera
    assert camera.fx == pytest.approx(592, rel=0.01)


@pytest.mark.parametrize("yaw_check", ["off", "fix"])
def test_seneca_survey_has_the_attitude_of_its_plane(real_data: Path, tmp_path: Path, yaw_check: str) -> None:
    folder = real_data / "aerial_seneca"
    names, position, yaw, turn, notes = compare(folder, tmp_path / "out", yaw_check=yaw_check)
    assert "the aircraft's angles (XMP); camera mount nadir (assumed" in notes
    assert "heights count from the ellipsoid" in notes
    assert "turned" not in notes
    assert "warning:" not in notes  # its lines are flown back and forth
    assert len(names) == 166
    assert np.median(position) < 3.0
    # Its heading is the course over ground: the wind stands between it and where the nose points.
    assert np.median(yaw) < 13
    assert np.median(turn) < 15
    assert Dataset(tmp_path / "out").camera.fx == pytest.approx(724.8, rel=0.03)


@pytest.mark.parametrize("place", ["aerial_brighton_beach", pytest.param("aerial_seneca", marks=pytest.mark.slow)])
def test_a_course_over_ground_is_never_turned(real_data: Path, tmp_path: Path, place: str) -> None:
    *_, yaw, _, _ = compare(real_data / place, tmp_path / "as_is", "course", yaw_check="off")
    *_, checked, _, notes = compare(real_data / place, tmp_path / "checked", "course")
    np.testing.assert_array_equal(checked, yaw)
    assert "warning: the pixels of" in notes
    assert "drift" not in notes


def test_poses_of_a_reconstruction_are_taken_as_they_are(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "aerial_brighton_beach"
    _, position, yaw, turn, notes = compare(folder, tmp_path / "out", poses=folder / "sfm" / "poses.csv")
    assert max(position.max(), yaw.max(), turn.max()) < 1e-3
    assert "17 of 18 photos compared" in notes
    assert "turned" not in notes
    assert "warning" not in notes
