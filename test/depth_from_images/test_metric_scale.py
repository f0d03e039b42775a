"""Metres of a relative track by noisy positions: the scale, its interval, and where nothing can be said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.depth_from_images.metric_scale import ScaleSettings, ScaleUnknown, metric_scale
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, Int64

UNIT_M = 7.3
QUICK = ScaleSettings(stretches=30, samples=50)


def flown(seed: int, walk: float = 0.02, reach_m: float = 60.0) -> tuple[Float64, Float64, Int64, float]:
    """A track in units of its own that drift, true poses over 80 s, stamps, and metres per unit of the whole."""
    rng = np.random.default_rng(seed)
    t = np.arange(0, 80, 0.25)
    position = np.stack([reach_m * np.sin(t / 12), reach_m * np.sin(t / 8.5), 3 * np.sin(t / 20)], axis=1)
    velocity = np.gradient(position, t, axis=0)
    yaw = np.unwrap(np.arctan2(velocity[:, 1], velocity[:, 0]))
    body = Rotation.from_euler("ZY", np.stack([yaw, 0.5 + 0.2 * np.sin(t / 5)], axis=1)).as_matrix()
    T = np.tile(np.eye(4), (len(t), 1, 1))
    T[:, :3, :3], T[:, :3, 3] = body @ se3.T_BODY_OPTICAL[:3, :3], position
    log_scale = np.cumsum(walk * np.sqrt(0.025) * rng.standard_normal(len(t) - 1))
    step = se3.inverse(T[:-1]) @ T[1:]
    step[:, :3, 3] *= np.exp(-log_scale)[:, None] / UNIT_M
    step[:, :3, :3] @= Rotation.from_rotvec(0.002 * rng.standard_normal((len(step), 3))).as_matrix()
    track = [np.eye(4)]
    for each in step:
        track.append(track[-1] @ each)
    return np.stack(track), T, (t * 1e9).astype(np.int64), float(UNIT_M * np.exp(log_scale.mean()))


def measured(T: Float64, seed: int, noise_m: float = 1.0) -> Float64:
    """Poses whose positions are off."""
    noisy = np.array(T)
    noisy[:, :3, 3] += noise_m * np.random.default_rng(1000 + seed).standard_normal((len(T), 3))
    return noisy


def test_the_scale_is_found_within_an_interval_that_holds() -> None:
    inside, errors = 0, []
    for seed in range(8):
        track, T, stamps_ns, truth = flown(seed)
        found = metric_scale(track, measured(T, seed), stamps_ns, settings=QUICK)
        inside += found.low <= truth <= found.high
        errors.append(abs(found.metres_per_unit / truth - 1))
        assert found.high / found.low < 1.03
        assert 0.8 < found.noise_m < 1.3
        assert "one unit is" in found.summary()
    assert np.median(errors) < 0.01
    assert inside >= 5


def test_jumps_and_gaps_of_positions_do_no_harm() -> None:
    track, T, stamps_ns, truth = flown(1)
    recorded = measured(T, 1)
    recorded[80:130, :3, 3] += [25.0, -10.0, 4.0]  # for 12 s
    recorded[200::37, 0, 3] += 80.0
    recorded[220:260] = np.nan
    found = metric_scale(track, recorded, stamps_ns, settings=QUICK)
    assert found.metres_per_unit == pytest.approx(truth, rel=0.02)
    assert found.jumps >= 2


def test_what_drifts_more_is_less_sure_and_every_frame_has_its_own() -> None:
    sigmas = []
    for walk in (0.005, 0.3):
        track, T, stamps_ns, _ = flown(3, walk)
        found = metric_scale(track, measured(T, 3), stamps_ns, settings=QUICK)
        sigmas.append(found.sigma)
        assert found.frame_m.shape == found.frame_sigma.shape == stamps_ns.shape
    assert sigmas[1] > 1.2 * sigmas[0]
    step = np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1) / np.linalg.norm(
        np.diff(track[:, :3, 3], axis=0), axis=1
    )
    off = np.log(found.frame_m[:-1] / step)
    assert np.std(off) < 0.6 * np.std(np.log(step)), "drift is followed"


def test_hovering_turning_and_gaps_are_refused_with_their_reason() -> None:
    track, T, stamps_ns, _ = flown(4, reach_m=0.5)
    with pytest.raises(ScaleUnknown, match=r"moved by .* at most while recorded positions are off by|leave the scale"):
        metric_scale(track, measured(T, 4), stamps_ns, settings=QUICK)
    track[:, :3, 3] = 0.0
    with pytest.raises(ScaleUnknown, match="only turned, or stood still"):
        metric_scale(track, measured(T, 4), stamps_ns, settings=QUICK)
    track, T, stamps_ns, _ = flown(4)
    gaps = measured(T, 4)
    gaps[15:] = np.nan
    with pytest.raises(ScaleUnknown, match="15 frames of 320 with a recorded position"):
        metric_scale(track, gaps, stamps_ns, settings=QUICK)
    lost = np.arange(len(T) - 1) % 4 != 0
    with pytest.raises(ScaleUnknown, match="too many gaps"):
        metric_scale(track, measured(T, 4), stamps_ns, lost & False, settings=QUICK)


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (lambda T: T @ se3.inverse(se3.T_BODY_OPTICAL), "x forward, y left"),
        (lambda T: T @ np.diag([1.0, -1.0, -1.0, 1.0]), "OpenGL"),
        (se3.inverse, "inverse"),
    ],
)
def test_poses_of_another_convention_are_said_and_not_scaled(spoilt: object, said: str) -> None:
    track, T, stamps_ns, _ = flown(5)
    with pytest.raises(ScaleUnknown, match=said):
        metric_scale(track, spoilt(measured(T, 5, 0.3)), stamps_ns, settings=QUICK)  # type: ignore[operator]
