"""A few flights of bench/closed_loop.py on true depth in a small city; its own figures take predicted depth and
minutes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.scripts import load_script

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.dataset import SimDatasetConfig, write_sim_dataset
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import train

SURVEY = FlightConfig(plan="street", altitude_m=8.0, distance_m=400.0, holdout=0.0, camera_pitch_deg=15.0)


@pytest.fixture(scope="module")
def bench() -> Any:
    """The bench as a module."""
    return load_script("closed_loop", "bench")


@pytest.fixture(scope="module")
def place(bench: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("closed_loop") / "survey"
    city = CityConfig(extent_m=260.0, seed=2)
    write_sim_dataset(
        folder, SimDatasetConfig(frames=80, size=64, fov_deg=90.0, supersample=1, processes=1, city=city, flight=SURVEY)
    )
    run = folder.with_name("run")
    config = train_config(model="warp-2", size=32, split="random", test_fraction=0.25, device="cpu", tensorboard=False)
    train(folder, run, config)
    return bench.Place(bench.Setup(run, folder, 0.1, 0.0, 0.0, 0, 10.0, 0.0))


def test_no_flight_begins_where_something_was_chosen(place: Any) -> None:
    survey, checkpoint = Dataset(place.setup.dataset), load_checkpoint(place.setup.run)
    chose = np.isin(survey.stamps_ns, checkpoint.choosing_stamps_ns)
    assert chose.sum() == 10
    positions = survey.T_map_cam[:, :3, 3]
    for T in place.starts:
        assert not chose[np.linalg.norm(positions - T[:3, 3], axis=1).argmin()]
    assert [place.may_judge(position) for position in positions] == (~chose).tolist()


def test_distances_are_those_to_triangles(place: Any) -> None:
    T = place.starts[0]
    x, y, _ = T[:3, 3]
    above = np.array([[x, y, place.wanted_height_m(T[:3, 3]) - place.height_m + 1.5]])
    assert place.clearance_m(above)[0] == pytest.approx(1.5, abs=0.2)
    assert place.clearance_m(np.array([[x, y, 500.0]]))[0] == 4.0


def test_on_true_depth_it_gets_there_and_touches_nothing(
    bench: Any, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "DISTANCE_M", (30.0, 60.0))
    rows = [bench.fly(place, number, "truth")[0] for number in range(2)]
    assert [row.outcome for row in rows] == ["goal"] * 2
    assert min(row.min_clearance_m for row in rows) > 0.8


def test_straight_into_a_wall_is_a_collision(bench: Any, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "DISTANCE_M", (30.0, 90.0))
    outcomes = {bench.fly(place, number, "none")[0].outcome for number in range(6)}
    assert "collision" in outcomes
