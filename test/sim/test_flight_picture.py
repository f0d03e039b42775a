"""The picture of a flight: held-out lines are orange where they are, over the city, in any plan."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from support.town import Town

from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.gallery import draw_flight

ORANGE, BLUE = np.array([255, 127, 14]), np.array([31, 119, 180])  # tab:orange, tab:blue


def pixels(image: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    return (np.abs(image[..., ::-1].astype(int) - rgb) < 40).all(axis=2)


@pytest.mark.parametrize("holdout", [0.2, 0.0])
def test_held_out_lines_are_marked(tmp_path, holdout):
    flight = make_flight(FlightConfig(plan="lawnmower", holdout=holdout))
    draw_flight(flight, tmp_path / "flight.png")
    image = cv2.imread(str(tmp_path / "flight.png"))
    assert image.shape[1] > image.shape[0] > 500
    above = image[60:640, 800:]  # without the legend
    lines = pixels(above, ORANGE).sum(axis=1) > 0.5 * 300 / 400 * above.shape[1]
    assert (np.diff(lines.astype(int)) == 1).sum() == len(flight.held_out_lines)
    assert pixels(above, BLUE).sum() > 3000


def test_the_city_lies_below(tmp_path):
    flight = make_flight(FlightConfig(plan="orbit"), Town())
    draw_flight(flight, tmp_path / "heights.png", Town())
    green = np.full((50, 50, 3), (20, 160, 60), np.uint8)
    green[:25] = (160, 20, 60)  # the north
    draw_flight(flight, tmp_path / "given.png", Town(), background=green)
    heights, given = (cv2.imread(str(tmp_path / name)) for name in ("heights.png", "given.png"))
    assert pixels(given, np.array([20, 160, 60])).sum() > 60_000
    north, south = (np.argwhere(pixels(given, np.array(rgb)))[:, 0].mean() for rgb in ((160, 20, 60), (20, 160, 60)))
    assert north < south, "north is up"
    assert len(np.unique(heights[100:600, 900:1400, 0])) > 10, "streets and roofs differ"
