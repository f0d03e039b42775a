"""Inside or outside the trained volume, and why."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.rendering.trust import TrainedVolume


def pose(position: tuple[float, ...], yaw_deg: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = position
    T[:3, :3] = Rotation.from_euler("z", yaw_deg, degrees=True).as_matrix()
    return T


def straight(count: int = 101, yaw_deg: float = 0.0) -> np.ndarray:
    """A flight along x, one pose each metre."""
    return np.stack([pose((x, 0.0, 30.0), yaw_deg) for x in range(count)])


def survey(count: int) -> np.ndarray:
    """Circles with the nose forward, drifting along x."""
    angle = np.linspace(0, 200, count)
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, 3] = np.stack([50 * np.cos(angle) + angle / 10, 50 * np.sin(angle), np.full(count, 30.0)], axis=1)
    T[:, :3, :3] = Rotation.from_euler("z", angle[:, None]).as_matrix()
    return T


def test_margin_is_the_documented_formula() -> None:
    volume = TrainedVolume(straight())
    assert volume.margin_m == pytest.approx(6.0)  # 4th neighbour at 2 m, times 3; 2 % of 100 m is less
    assert volume.heading_deg == 10.0
    assert TrainedVolume(straight()[:1]).margin_m == 0.05
    wide = straight() * np.array([1, 1, 1, 100.0])  # all positions 100 times farther apart
    wide[:, 3, 3] = 1
    assert TrainedVolume(wide).margin_m == pytest.approx(600.0)
    dense = np.concatenate([straight(1001)] * 5)
    dense[:, 0, 3] /= 10
    assert TrainedVolume(dense).margin_m == pytest.approx(2.0)  # 2 % of 100 m


def test_heading_allowance_follows_the_turning() -> None:
    turning = np.stack([pose((x, 0.0, 0.0), 7.0 * x) for x in range(40)])
    assert TrainedVolume(turning).heading_deg == pytest.approx(21.0, abs=0.1)
    spinning = np.stack([pose((x, 0.0, 0.0), 80.0 * x) for x in range(40)])
    assert TrainedVolume(spinning).heading_deg == 45.0


@pytest.mark.parametrize(
    ("T", "reason"),
    [
        (pose((50.2, 0.0, 30.0)), ""),
        (pose((50.0, 5.0, 30.0), 9.0), ""),
        (pose((-5.9, 0.0, 30.0)), ""),
        (pose((50.0, 12.3, 30.0)), "12.3 m from the nearest training pose, allowed 6.0 m"),
        (pose((50.0, 0.0, 30.0), 50.0), "looks 50 deg away from the training poses nearby, allowed 10 deg"),
    ],
)
def test_straight_flight(T: np.ndarray, reason: str) -> None:
    check = TrainedVolume(straight()).check(T)
    assert check.reason == reason
    assert check.inside == (reason == "")


def test_figures() -> None:
    check = TrainedVolume(straight()).check(pose((50.0, 3.0, 34.0), 4.0))
    assert check.distance_m == pytest.approx(5.0)
    assert check.heading_deg == pytest.approx(4.0)


def test_small_rooms_get_more_decimals() -> None:
    room = straight()
    room[:, 0, 3] /= 50
    check = TrainedVolume(room).check(pose((0.2, 0.17, 30.0)))
    assert check.reason == "0.17 m from the nearest training pose, allowed 0.12 m"


def test_roll_counts() -> None:
    T = pose((50.0, 0.0, 30.0))
    T[:3, :3] = Rotation.from_euler("x", 180, degrees=True).as_matrix()
    assert TrainedVolume(straight()).check(T).heading_deg == pytest.approx(180.0)


def test_place_and_heading_must_come_together() -> None:
    """One leg flown east, another, 40 m north, flown west: looking west on the first leg was never seen."""
    west = straight(yaw_deg=180.0)
    west[:, 1, 3] = 40.0
    volume = TrainedVolume(np.concatenate([straight(), west]))
    assert volume.check(pose((50.0, 40.0, 30.0), 180.0)).inside
    assert not volume.check(pose((50.0, 0.0, 30.0), 180.0)).inside
    west[:, 1, 3] = 8.0
    check = TrainedVolume(np.concatenate([straight(), west])).check(pose((50.0, 0.0, 30.0), 180.0))
    assert check.reason == "8.0 m from the nearest training pose that looks this way, allowed 6.0 m"


def test_hovering_and_turning_finds_the_heading() -> None:
    """Hundreds of poses in one place: the right one is found by its heading."""
    hover = np.stack([pose((0.0, 0.0, 10.0), yaw) for yaw in np.linspace(0, 180, 600)])
    volume = TrainedVolume(hover)
    assert volume.check(pose((0.01, 0.0, 10.0), 137.0)).inside
    assert not volume.check(pose((0.01, 0.0, 10.0), -90.0)).inside


def test_not_finite() -> None:
    check = TrainedVolume(straight()).check(pose((np.nan, 0.0, 0.0)))
    assert not check.inside
    assert check.reason == "the pose is not finite"


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_poses(count: int) -> None:
    assert TrainedVolume(straight(count)).check(straight(count)[0]).inside


def test_no_poses() -> None:
    with pytest.raises(ValueError, match="N >= 1"):
        TrainedVolume(np.zeros((0, 4, 4)))


@settings(max_examples=50)
@given(st.integers(0, 499), st.floats(0, 0.99), st.floats(0, 0.99))
def test_within_the_margins_is_inside(index: int, share: float, heading_share: float) -> None:
    volume = TrainedVolume(survey(500))
    T = survey(500)[index]
    T[2, 3] += share * volume.margin_m
    T[:3, :3] = T[:3, :3] @ Rotation.from_euler("x", heading_share * volume.heading_deg, degrees=True).as_matrix()
    assert volume.check(T).inside
