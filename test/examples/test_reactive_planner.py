"""The example planner in flat worlds of boxes: what it never does, and where it gets to. No ROS, no renderer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.scripts import load_script

HALF_VIEW_RAD = np.radians(40.0)
RANGE_M, STEP_S = 30.0, 0.2
BEARINGS = np.linspace(-np.pi, np.pi, 180, endpoint=False)
WALL = [(18.0, -12.0, 22.0, 12.0)]
POCKET = [(20.0, -15.0, 23.0, 15.0), (5.0, 12.0, 23.0, 15.0), (5.0, -15.0, 23.0, -12.0)]


@pytest.fixture(scope="module")
def example() -> Any:
    """examples/reactive_planner.py, which belongs to no package."""
    return load_script("reactive_planner", "examples")


class Boxes:
    """Boxes (x0, y0, x1, y1) in a plane, and a scanner that sees 80 degrees ahead."""

    def __init__(self, boxes: list[tuple[float, float, float, float]]) -> None:
        self.boxes = np.array(boxes, float).reshape(-1, 4)

    def distance_m(self, place: np.ndarray) -> float:
        outside = np.maximum(np.maximum(self.boxes[:, :2] - place, place - self.boxes[:, 2:]), 0.0)
        return float(np.hypot(*outside.T).min(initial=np.inf))

    def scan(self, place: np.ndarray, yaw_rad: float) -> np.ndarray:
        """Ranges by BEARINGS: NaN outside the view, +inf where nothing stands within RANGE_M."""
        angle = BEARINGS + yaw_rad
        way = np.stack([np.cos(angle), np.sin(angle)], axis=-1)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            near, far = (self.boxes[:, :2] - place) / way, (self.boxes[:, 2:] - place) / way
        enter = np.fmin(near, far).max(axis=-1)
        leave = np.fmax(near, far).min(axis=-1)
        met = np.where((enter <= leave) & (enter > 0), enter, np.inf).min(axis=-1, initial=np.inf)
        met[met > RANGE_M] = np.inf
        met[np.abs(BEARINGS) > HALF_VIEW_RAD] = np.nan
        return met.astype(np.float32)


def fly(
    example: Any, world: Boxes, goal: tuple[float, float], seconds: float, blind: bool = False
) -> tuple[np.ndarray, list[Any]]:
    """Places (N, 2) of a drone that does what it is told after 0.2 s, and the commands."""
    place, velocity, yaw, track, commands = np.zeros(2), np.zeros(2), 0.0, [np.zeros(2)], []
    planner = example.ReactivePlanner(place, np.array(goal))
    planner.scan_range_m = RANGE_M
    for step in range(int(seconds / STEP_S)):
        ranges = np.full(len(BEARINGS), np.nan, np.float32) if blind else world.scan(place, yaw)
        planner.see(place, yaw, BEARINGS, ranges)
        command = planner.command(step * STEP_S, place, yaw, velocity)
        commands.append(command)
        change = command.velocity_mps - velocity
        velocity = velocity + change * min(1.0, 3.0 * STEP_S / max(float(np.linalg.norm(change)), 1e-9))
        place, yaw = place + velocity * STEP_S, yaw + command.yaw_rate_radps * STEP_S
        track.append(place)
        if np.linalg.norm(place - goal) < planner.config.goal_radius_m:
            break
    return np.array(track), commands


@pytest.mark.parametrize("boxes", [[], WALL, POCKET], ids=["nothing", "wall", "pocket"])
def test_it_gets_to_the_goal_and_touches_nothing(example: Any, boxes: list[Any]) -> None:
    world = Boxes(boxes)
    track, _ = fly(example, world, (45.0, 0.0), 150.0)
    assert np.linalg.norm(track[-1] - (45.0, 0.0)) < 3.0
    assert min(world.distance_m(place) for place in track) > 0.5


@pytest.mark.parametrize("seed", range(4))
def test_it_gets_through_scattered_boxes(example: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.uniform((8, -30), (50, 30), (14, 2))
    world = Boxes([(x, y, x + w, y + h) for (x, y), (w, h) in zip(low, rng.uniform(2, 7, (14, 2)), strict=True)])
    goal = (62.0, float(rng.uniform(-10, 10)))
    track, _ = fly(example, world, goal, 150.0)
    assert np.linalg.norm(track[-1] - goal) < 3.0
    assert min(world.distance_m(place) for place in track) > 0.5


def test_without_any_knowledge_it_stays(example: Any) -> None:
    """But for the cells it started among, which it takes for free."""
    track, commands = fly(example, Boxes([]), (45.0, 0.0), 30.0, blind=True)
    assert np.linalg.norm(track, axis=1).max() < 2.0
    assert all(np.linalg.norm(command.velocity_mps) == 0 for command in commands[-25:])


def test_it_can_stop_before_what_becomes_unknown(example: Any) -> None:
    """All scans end at 12 m, as in a fog: at every moment the drone could stop within what it knows."""
    planner = example.ReactivePlanner(np.zeros(2), np.array([45.0, 0.0]))
    planner.scan_range_m = 12.0
    ranges = np.full(len(BEARINGS), np.nan, np.float32)
    ranges[np.abs(BEARINGS) < HALF_VIEW_RAD] = np.inf
    place, velocity, track = np.zeros(2), np.zeros(2), [np.zeros(2)]
    planner.see(place, 0.0, BEARINGS, ranges)
    for step in range(200):  # never sees anything again
        command = planner.command(step * STEP_S, place, 0.0, velocity)
        change = command.velocity_mps - velocity
        velocity = velocity + change * min(1.0, 1.5 * STEP_S / max(float(np.linalg.norm(change)), 1e-9))
        place = place + velocity * STEP_S
        track.append(place)
    seen = np.abs(np.arctan2(*np.array(track).T[::-1])) < HALF_VIEW_RAD + 0.05
    near = np.linalg.norm(track, axis=1)
    assert 5.0 < near.max() < 12.0
    assert (seen | (near < 2.5)).all()


def test_no_goal_behind_walls_all_around(example: Any) -> None:
    """It waits or searches, for ever, and flies into nothing."""
    ring = [(40.0, -6.0, 42.0, 6.0), (48.0, -6.0, 50.0, 6.0), (40.0, 4.0, 50.0, 6.0), (40.0, -6.0, 50.0, -4.0)]
    world = Boxes(ring)
    track, _ = fly(example, world, (45.0, 0.0), 80.0)
    assert min(world.distance_m(place) for place in track) > 0.5
