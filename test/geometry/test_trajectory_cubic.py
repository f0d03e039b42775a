"""Cubic interpolation of poses: exact where it can be, smooth across poses, linear where it lacks a neighbour."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.trajectory import Trajectory, look_up
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.make import make_flight

T0 = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
seeds = st.integers(0, 2**32 - 1)


def uneven_stamps(n: int, rng: np.random.Generator) -> np.ndarray:
    """Spans of 0.1 s, give or take 40 %."""
    return T0 + np.cumsum(rng.uniform(0.06, 0.14, n) * SECOND).astype(np.int64)


def gentle(stamps_ns: np.ndarray, rng: np.random.Generator) -> Trajectory:
    """A random walk with turns of some degrees from pose to pose."""
    turns = Rotation.from_rotvec(rng.normal(size=(len(stamps_ns), 3)) * 0.2)
    orientation = [Rotation.from_quat(rng.normal(size=4))]
    for turn in turns[1:]:
        orientation.append(orientation[-1] * turn)
    quat = np.stack([it.as_quat() for it in orientation])
    return Trajectory(stamps_ns, np.cumsum(rng.normal(size=(len(stamps_ns), 3)), axis=0), quat)


def difference(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Largest distance in metres and angle in radians between poses (M, 4, 4)."""
    (p, q), (r, s) = se3.split(a), se3.split(b)
    return float(np.linalg.norm(p - r, axis=-1).max()), float(quaternions.angle_between_rad(q, s).max())


@settings(max_examples=30)
@given(seeds)
def test_recorded_stamps_give_the_recorded_poses(seed: int) -> None:
    rng = np.random.default_rng(seed)
    track = gentle(uneven_stamps(8, rng), rng)
    np.testing.assert_array_equal(track.interpolate(track.stamps_ns, method="cubic").T, track.T)


@settings(max_examples=30)
@given(seeds)
def test_even_acceleration_and_even_turning_are_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stamps = uneven_stamps(9, rng)
    p0, v, a, w = rng.normal(size=(4, 3)) * [[50], [10], [3], [1]]
    start = Rotation.from_quat(rng.normal(size=4))

    def truth(stamps_ns: np.ndarray) -> np.ndarray:
        t = ((stamps_ns - T0) / SECOND)[:, None]
        return se3.make(p0 + v * t + a * t**2 / 2, (start * Rotation.from_rotvec(w * t)).as_quat())

    track = Trajectory(stamps, *se3.split(truth(stamps)))
    asked = rng.integers(stamps[1], stamps[-2], 50)
    metres, radians = difference(track.interpolate(asked, method="cubic").T, truth(asked))
    assert metres < 1e-9
    assert radians < 1e-7


@settings(max_examples=30)
@given(seeds)
def test_speeds_do_not_jump_at_a_pose(seed: int) -> None:
    rng = np.random.default_rng(seed)
    track = gentle(uneven_stamps(8, rng), rng)
    at = track.stamps_ns[2:-2]
    step = 1000  # ns
    before, here, after = (track.interpolate(at + d, method="cubic").T for d in (-step, 0, step))
    speed = [(y[:, :3, 3] - x[:, :3, 3]) / step * 1e9 for x, y in ((before, here), (here, after))]
    np.testing.assert_allclose(speed[0], speed[1], atol=2e-2)  # of some 10 m/s; linear jumps by metres per second
    turn = [
        Rotation.from_matrix(x[:, :3, :3].swapaxes(1, 2) @ y[:, :3, :3]).as_rotvec() / step * 1e9
        for x, y in ((before, here), (here, after))
    ]
    np.testing.assert_allclose(turn[0], turn[1], atol=2e-2)


@settings(max_examples=30)
@given(seeds)
def test_another_map_frame_gives_the_same_motion(seed: int) -> None:
    rng = np.random.default_rng(seed)
    track = gentle(uneven_stamps(8, rng), rng)
    T_other_map = se3.make(rng.normal(size=3) * 100, rng.normal(size=4))
    moved = Trajectory(track.stamps_ns, *se3.split(T_other_map @ track.T))
    asked = rng.integers(track.stamps_ns[0], track.stamps_ns[-1], 20)
    T = track.interpolate(asked, method="cubic").T
    metres, radians = difference(T_other_map @ T, moved.interpolate(asked, method="cubic").T)
    assert metres < 1e-9
    assert radians < 1e-7


def test_without_a_usable_neighbour_it_is_linear() -> None:
    # One pose 5 ms after another: a speed from those two would be noise.
    ms = np.array([0, 100, 200, 300, 305, 400, 500, 2000, 2100, 2200])
    rng = np.random.default_rng(1)
    track = gentle(T0 + ms * 1_000_000, rng)
    middles = (track.stamps_ns[:-1] + track.stamps_ns[1:]) // 2
    at = {method: track.interpolate(middles, 500_000_000, method) for method in ("linear", "cubic")}
    assert at["cubic"].reason == at["linear"].reason
    same = [np.array_equal(a, b, equal_nan=True) for a, b in zip(at["linear"].T, at["cubic"].T, strict=True)]
    #        0-100 -200  -300  -305   -400  -500  -2000 -2100 -2200
    assert same == [True, False, True, False, True, True, True, True, True]


@settings(max_examples=30)
@given(seeds, st.sampled_from(["linear", "cubic"]), st.sampled_from([130_000_000, 10 * SECOND]))
def test_one_lookup_is_what_many_are(seed: int, method: str, gap_ns: int) -> None:
    rng = np.random.default_rng(seed)
    track = gentle(uneven_stamps(8, rng), rng)
    asked = [*rng.integers(T0, track.stamps_ns[-1] + SECOND // 5, 20).tolist(), *track.stamps_ns.tolist()]
    many = track.interpolate(asked, gap_ns, method)
    rows = np.concatenate([track.position_m, track.quat_xyzw], axis=1).tolist()
    for stamp, T, reason in zip(asked, many.T, many.reason, strict=True):
        one = look_up(track.stamps_ns.tolist(), rows.__getitem__, stamp, gap_ns, method)
        assert one.reason == reason
        assert (one.T is None) == (reason is not None)
        if one.T is not None:
            np.testing.assert_allclose(one.T, T, rtol=0, atol=1e-13)


def test_half_turns_and_standing_still_are_finite() -> None:
    quat = [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, -1], [0, 0, 0, 1]]
    track = Trajectory(T0 + np.arange(5) * 100, np.zeros((5, 3)), np.array(quat, dtype=float))
    at = track.interpolate(T0 + np.arange(401), method="cubic")
    assert np.isfinite(at.T).all()
    np.testing.assert_allclose(np.linalg.det(at.T[:, :3, :3]), 1)


@pytest.mark.parametrize("rate_hz", [4, 10])
def test_a_curved_flight_is_followed_ten_times_as_closely(rate_hz: int) -> None:
    flight = make_flight(FlightConfig(plan="orbit"))
    t = np.arange(0, 60, 1 / rate_hz)
    track = Trajectory((t * SECOND).astype(np.int64), *se3.split(flight.T_map_body(t)))
    asked = np.random.default_rng(0).uniform(1, 58, 500)
    truth = flight.T_map_body(asked)
    miss = {
        method: np.linalg.norm(
            track.interpolate((asked * SECOND).astype(np.int64), method=method).T[:, :3, 3] - truth[:, :3, 3], axis=1
        )
        for method in ("linear", "cubic")
    }
    assert 10 * np.median(miss["cubic"]) < np.median(miss["linear"])
