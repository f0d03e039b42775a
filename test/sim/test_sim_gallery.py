"""`pose2rgbd sim gallery`: four pictures of a small city, and what they show."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.gallery import viewpoints

SMALL = ["--city.extent-m", "200", "--flight.plan", "orbit", "--size", "64"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The pictures (H, W, 3) by name, BGR."""
    out: Path = tmp_path_factory.mktemp("gallery") / "new" / "folder"
    assert main(["sim", "gallery", str(out), *SMALL]) == 0
    return {path.name: cv2.imread(str(path)) for path in out.iterdir()}


def tiles(picture: np.ndarray, rows: int, columns: int) -> list[np.ndarray]:
    """The middle of each view, without titles and gaps."""
    height, width = (length // n for length, n in zip(picture.shape, (rows, columns), strict=False))
    cells = [picture[i * height :, j * width :][:height, :width] for i in range(rows) for j in range(columns)]
    return [cell[height // 5 : -height // 10, width // 10 : -width // 10].astype(float) for cell in cells]


def test_every_view_of_the_four_pictures_shows_something(pictures):
    assert sorted(pictures) == ["flight.png", "movers.jpg", "seasons.jpg", "views.jpg"]
    assert len(np.unique(pictures["flight.png"].reshape(-1, 3), axis=0)) > 200
    for name, rows, columns in (("views.jpg", 2, 4), ("seasons.jpg", 1, 5), ("movers.jpg", 1, 2)):
        for tile in tiles(pictures[name], rows, columns):
            assert tile.std(axis=(0, 1)).max() > 12, name


def test_the_seasons_differ_as_they_should(pictures):
    spring, summer, autumn, winter, evening = tiles(pictures["seasons.jpg"], 1, 5)
    assert winter.mean() > summer.mean() + 15, "snow"
    assert evening.mean() < summer.mean() - 5
    redness = [tile[..., 2].mean() - tile[..., 1].mean() for tile in (spring, summer, autumn)]
    assert redness[2] > redness[1] > redness[0]


def test_the_difference_to_the_twin_lies_where_the_labels_say(pictures):
    _, _, labels, difference = tiles(pictures["movers.jpg"], 1, 4)
    labelled = labels.max(axis=2) > 90
    assert 20 < labelled.sum() < 0.2 * labelled.size
    around = cv2.dilate(labelled.astype(np.uint8), np.ones((15, 15))) > 0  # a pixel rendered is several here
    assert difference.max() > 60
    assert difference[~around].max() < 40, "no more than what JPEG adds"


def test_a_folder_that_cannot_be_made_is_told_before_any_work(tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    for out in (tmp_path / "taken", tmp_path / "taken" / "below"):
        assert main(["sim", "gallery", str(out), *SMALL]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: cannot write pictures to {out}")
        assert error.count("\n") == 1


def test_no_view_is_taken_from_inside_a_tower():
    city = City(CityConfig(seed=24, extent_m=200.0, max_height_m=150.0))
    eyes = np.array([T[:3, 3] for T in viewpoints(city).values()])
    assert eyes[1, 2] > 100, "there is a tower"
    assert (eyes[:, 2] >= city.surface_height_m(eyes[:, :2]) + 3.0 - 1e-9).all()
