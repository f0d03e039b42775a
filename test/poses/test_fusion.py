"""GPS + odometry: fused over a whole recording and live, against what was simulated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions
from pose2rgbd_ros.geometry.geodesy import Datum, enu_to_wgs84
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses import fusion_model
from pose2rgbd_ros.poses.fusion_batch import fuse
from pose2rgbd_ros.poses.fusion_live import FixedLagFusion
from pose2rgbd_ros.poses.fusion_model import Network
from pose2rgbd_ros.poses.gps import FixLog, FixTrack
from pose2rgbd_ros.poses.settings import PoseSettings
from pose2rgbd_ros.streams.samples import FixSample, PoseSample

S = 1_000_000_000
HOME = Datum(47.0, 8.0, 400.0)
ANTENNA_M = np.array([0.1, 0.0, 0.3])
WHITE = PoseSettings(fix_wander_share=0.0)


@dataclass
class Flight:
    """Loops of 40 m at 5 m/s; odometry at 10 Hz, fixes at 5 Hz."""

    seconds: float = 120.0
    sigma_m: float = 0.3
    wander_m: float = 0.0
    heading_rad: float = 2.0
    scale: float = 1.004
    yaw_drift_deg_per_min: float = 0.6
    outliers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        t = np.arange(int(self.seconds * 10)) / 10
        self.stamps_ns = np.rint(t * S).astype(np.int64) + 1_700_000_000 * S
        turn = 5.0 / 40.0 * t
        self.position_m = np.stack([40 * np.sin(turn), 60 * np.sin(turn / 2), 30 + 5 * np.sin(turn / 3)], axis=1)
        velocity = np.gradient(self.position_m, t, axis=0)
        yaw = np.arctan2(velocity[:, 1], velocity[:, 0])
        self.quat_xyzw = quaternions.from_euler_rpy(np.stack([0.1 * np.sin(t), 0.05 * np.cos(t), yaw], axis=1))
        drift = self.heading_rad + np.radians(self.yaw_drift_deg_per_min) / 60 * t
        steps = fusion_model.turn(drift[:-1], np.diff(self.position_m, axis=0)) * self.scale
        steps += rng.normal(0, 0.3 / np.sqrt(60 * 10), steps.shape)
        odometry_m = np.cumsum(np.vstack([[100.0, -50.0, 3.0], steps]), axis=0)
        turned = quaternions.from_euler_rpy(np.stack([0 * t, 0 * t, drift], axis=1))
        self.odometry = Trajectory(self.stamps_ns, odometry_m, quaternions.multiply(turned, self.quat_xyzw))
        at = slice(3, None, 2)
        R = quaternions.to_matrix(self.quat_xyzw[at])
        antenna = self.position_m[at] + R @ ANTENNA_M
        error = rng.normal(0, self.sigma_m, antenna.shape) + self._wander(rng, len(antenna))
        bad = rng.choice(len(antenna), self.outliers, replace=False)
        error[bad] += rng.normal(0, 20.0, (self.outliers, 3))
        sigma = np.hypot(self.sigma_m, self.wander_m)
        self.fixes = FixTrack(self.stamps_ns[at], antenna + error, np.full(antenna.shape, sigma), HOME)

    def _wander(self, rng, n: int) -> np.ndarray:
        keep, wander = np.exp(-0.2 / 60.0), [rng.normal(0, self.wander_m, 3)]
        for _ in range(n - 1):
            wander.append(keep * wander[-1] + rng.normal(0, self.wander_m * np.sqrt(1 - keep**2), 3))
        return np.array(wander)

    def error_m(self, trajectory: Trajectory) -> np.ndarray:
        at = np.searchsorted(self.stamps_ns, trajectory.stamps_ns)
        return trajectory.position_m - self.position_m[at]

    def yaw_error_deg(self, trajectory: Trajectory) -> np.ndarray:
        at = np.searchsorted(self.stamps_ns, trajectory.stamps_ns)
        return np.degrees(quaternions.angle_between_rad(trajectory.quat_xyzw, self.quat_xyzw[at]))

    def samples(self):
        """Everything in order of arrival: fixes come 150 ms late."""
        sent = []
        for stamp, position, quat in zip(
            self.odometry.stamps_ns.tolist(), self.odometry.position_m, self.odometry.quat_xyzw, strict=True
        ):
            sent.append((stamp, 0, PoseSample(stamp, "odom", "base_link", position, quat)))
        for stamp, position, sigma in zip(
            self.fixes.stamps_ns.tolist(), self.fixes.position_m, self.fixes.sigma_m, strict=True
        ):
            place = (float(value) for value in enu_to_wgs84(position, HOME))
            sent.append((stamp + S * 15 // 100, 1, FixSample(stamp, "gps", *place, np.diag(sigma**2))))
        return sorted(sent, key=lambda item: item[:2])


@pytest.mark.parametrize("heading_rad", [0.0, 2.0, -3.0])
def test_fused_is_better_than_each_alone(heading_rad: float) -> None:
    flight = Flight(heading_rad=heading_rad)
    fused = fuse(flight.odometry, flight.fixes, WHITE, ANTENNA_M)
    error = flight.error_m(fused.trajectory)
    assert np.median(np.linalg.norm(error, axis=1)) < 0.12  # the GPS alone: 0.46
    assert np.median(flight.yaw_error_deg(fused.trajectory)) < 0.3
    assert fused.accuracy.scale == pytest.approx(1 / flight.scale, abs=0.002)
    assert fused.accuracy.held_out_horizontal_m == pytest.approx(1.18 * flight.sigma_m, rel=0.25)
    np.testing.assert_array_equal(fused.trajectory.stamps_ns, flight.stamps_ns)


@pytest.mark.parametrize("wander_m", [0.0, 0.8])
def test_the_accuracy_it_reports_is_honest(wander_m: float) -> None:
    """About 95 % of the errors lie within two standard deviations, also when those of the GPS wander."""
    within, yaw_within = [], []
    for seed in range(6):
        flight = Flight(seed=seed, wander_m=wander_m, seconds=240.0)
        share = wander_m**2 / (wander_m**2 + flight.sigma_m**2)
        fused = fuse(flight.odometry, flight.fixes, PoseSettings(fix_wander_share=share), ANTENNA_M)
        at = np.isin(fused.trajectory.stamps_ns, fused.node_stamps_ns)
        within.append(np.abs(flight.error_m(fused.trajectory)[at]) < 2 * fused.position_sigma_m)
        yaw_within.append(flight.yaw_error_deg(fused.trajectory)[at] < 2 * np.degrees(fused.yaw_sigma_rad))
    assert 0.85 < np.mean(np.concatenate(within)) < 0.999
    assert np.mean(np.concatenate(yaw_within)) > 0.9


def test_outliers_do_not_pull() -> None:
    clean, spoiled = (
        flight.error_m(fuse(flight.odometry, flight.fixes, WHITE, ANTENNA_M).trajectory)
        for flight in (Flight(), Flight(outliers=60))
    )
    assert np.median(np.linalg.norm(spoiled, axis=1)) < np.median(np.linalg.norm(clean, axis=1)) + 0.05
    assert np.linalg.norm(spoiled, axis=1).max() < 1.0
    assert fuse(Flight(outliers=60).odometry, Flight(outliers=60).fixes, WHITE, ANTENNA_M).accuracy.outliers > 40


def test_the_lever_arm_counts() -> None:
    flight = Flight(sigma_m=0.05)
    up = [flight.error_m(fuse(flight.odometry, flight.fixes, WHITE, arm).trajectory)[:, 2].mean()
          for arm in (ANTENNA_M, None)]  # fmt: skip
    assert abs(up[0]) < 0.05
    assert up[1] == pytest.approx(0.3, abs=0.06)


def test_without_altitudes_heights_are_the_odometrys() -> None:
    flight = Flight()
    fixes = FixTrack(flight.fixes.stamps_ns, flight.fixes.position_m * [1, 1, np.nan], flight.fixes.sigma_m, HOME)
    fused = fuse(flight.odometry, fixes, WHITE, ANTENNA_M)
    np.testing.assert_allclose(np.ptp(fused.trajectory.position_m[:, 2]), 10.0, atol=0.5)
    assert fused.accuracy.held_out_vertical_m is None
    assert np.median(np.hypot(*flight.error_m(fused.trajectory)[:, :2].T)) < 0.12


def test_an_outage_is_bridged_by_odometry() -> None:
    flight = Flight()
    t = (flight.fixes.stamps_ns - flight.stamps_ns[0]) / S
    away = (t > 40) & (t < 70)
    fused = fuse(flight.odometry, flight.fixes.only(~away), WHITE, ANTENNA_M)
    middle = np.abs((fused.node_stamps_ns - flight.stamps_ns[0]) / S - 55) < 5
    assert np.linalg.norm(flight.error_m(fused.trajectory), axis=1).max() < 0.8
    assert fused.position_sigma_m[middle, 0].min() > 1.5 * np.median(fused.position_sigma_m[~middle, 0])


def test_a_gap_of_the_odometry_does_not_tear_the_rest() -> None:
    flight = Flight()
    t = (flight.stamps_ns - flight.stamps_ns[0]) / S
    kept = (t < 50) | (t > 60)
    odometry = Trajectory(*(getattr(flight.odometry, name)[kept] for name in ("stamps_ns", "position_m", "quat_xyzw")))
    fused = fuse(odometry, flight.fixes, WHITE, ANTENNA_M)
    assert np.median(np.linalg.norm(flight.error_m(fused.trajectory), axis=1)) < 0.15


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda f: (f.odometry, f.fixes.only(slice(0, 3))), "only 3 GPS fixes lie within the odometry"),
        (
            lambda f: (Trajectory(f.stamps_ns, 0 * f.odometry.position_m, f.odometry.quat_xyzw), f.fixes),
            "moves only 0.0 m",
        ),
        (
            lambda f: (
                Trajectory(f.stamps_ns, f.odometry.position_m[::-1] * [1, -1, 1] * 3, f.odometry.quat_xyzw),
                f.fixes,
            ),
            "does not have the shape|do not fit",
        ),
        (lambda f: (Trajectory(f.stamps_ns[:1], np.zeros((1, 3)), [[0, 0, 0, 1]]), f.fixes), "only one pose"),
        (
            lambda f: (f.odometry, FixTrack(f.fixes.stamps_ns + 9999 * S, f.fixes.position_m, f.fixes.sigma_m, HOME)),
            "only 0 GPS fixes",
        ),
    ],
)
def test_what_cannot_be_fused_is_refused_with_the_reason(spoil, reason: str) -> None:
    with pytest.raises(UserError, match=f"GPS and odometry cannot be fused: .*({reason})"):
        fuse(*spoil(Flight(seconds=60)), WHITE, ANTENNA_M)


def test_derivatives_are_those_of_the_residuals() -> None:
    flight = Flight(seconds=20, wander_m=0.5)
    network = Network.of(flight.odometry, flight.fixes, ANTENNA_M)
    model = fusion_model.FusionModel.of(PoseSettings())
    rng = np.random.default_rng(3)
    x = network.start() + rng.normal(0, 0.1, (len(network.stamps_ns), fusion_model.STATES))
    for residuals in (
        lambda x: fusion_model._odometry(x, model, network.steps)[:3],
        lambda x: fusion_model._fixes(x, model, network.anchors, 3.0)[:3],
    ):
        r, J0, J1 = residuals(x)
        nodes = network.anchors.node if r.shape[1] == 3 else np.arange(len(r))
        for state in range(fusion_model.STATES):
            for node in (4, 5):
                moved = x.copy()
                moved[node, state] += 1e-6
                numeric = (residuals(moved)[0] - r) / 1e-6
                exact = np.where((nodes == node)[:, None], J0[:, :, state], 0) + np.where(
                    (nodes + 1 == node)[:, None], J1[:, :, state], 0
                )
                np.testing.assert_allclose(numeric, exact, atol=1e-4)


def test_marginals_are_blocks_of_the_inverse() -> None:
    flight = Flight(seconds=12)
    network, model = Network.of(flight.odometry, flight.fixes, ANTENNA_M), fusion_model.FusionModel.of(WHITE)
    x = network.start()
    prior = fusion_model.Prior(model.start_information(), x[0].copy(), np.zeros(8))
    normal, _ = fusion_model.assemble(x, model, prior, network.steps, network.anchors)
    n, s = len(x), fusion_model.STATES
    whole = np.zeros((n * s, n * s))
    for i in range(n):
        whole[i * s : (i + 1) * s, i * s : (i + 1) * s] = normal.A[i]
        if i + 1 < n:
            whole[i * s : (i + 1) * s, (i + 1) * s : (i + 2) * s] = normal.B[i]
            whole[(i + 1) * s : (i + 2) * s, i * s : (i + 1) * s] = normal.B[i].T
    inverse = np.linalg.inv(whole)
    expected = np.stack([inverse[i * s : (i + 1) * s, i * s : (i + 1) * s] for i in range(n)])
    np.testing.assert_allclose(fusion_model.covariances(normal), expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(
        fusion_model._solve_banded(normal).reshape(-1), inverse @ normal.g.reshape(-1), rtol=1e-4, atol=1e-6
    )


# Live --------------------------------------------------------------------------------------------------------------


def live_answers(flight: Flight, fusion: FixedLagFusion) -> dict[int, np.ndarray]:
    """The pose at each odometry stamp as soon as the answer no longer waits."""
    asked, answers = 0, {}
    stamps = flight.stamps_ns.tolist()
    for _, kind, sample in flight.samples():
        (fusion.add_fix if kind else fusion.add_odometry)(sample)
        while asked < len(stamps):
            answer = fusion.pose_at(stamps[asked])
            if answer.wait:
                break
            answers[stamps[asked]] = answer.T
            asked += 1
    return {stamp: T for stamp, T in answers.items() if T is not None}


def test_live_agrees_with_the_whole_recording_within_the_sigma_it_reports() -> None:
    flight = Flight(seconds=120.0, wander_m=0.3)
    settings = PoseSettings(fix_wander_share=0.5)
    batch = fuse(flight.odometry, flight.fixes, settings, ANTENNA_M)
    fusion = FixedLagFusion(settings, ANTENNA_M, HOME, window=60)
    answers = live_answers(flight, fusion)
    late = [s for s in flight.stamps_ns.tolist() if s > flight.stamps_ns[0] + 60 * S and s in answers]
    assert len(late) > 550
    at = np.searchsorted(batch.trajectory.stamps_ns, late)
    T = np.array([answers[s] for s in late])
    sigma_m, sigma_yaw = fusion.sigmas()
    apart = np.abs(T[:, :3, 3] - batch.trajectory.position_m[at])
    assert np.mean(apart < 2 * sigma_m) > 0.9
    angle = quaternions.angle_between_rad(quaternions.from_matrix(T[:, :3, :3]), batch.trajectory.quat_xyzw[at])
    assert np.mean(angle < 2 * sigma_yaw) > 0.9
    error = T[:, :3, 3] - flight.position_m[np.searchsorted(flight.stamps_ns, late)]
    assert np.median(np.linalg.norm(error, axis=1)) < 0.5
    assert len(fusion._stamps) <= 60  # a window, not the whole recording
    assert len(fusion._fixes) <= 5 * 61
    assert not fusion.problems


def test_live_before_the_heading_shows_answers_wait() -> None:
    flight = Flight(seconds=30.0)
    fusion = FixedLagFusion(WHITE, ANTENNA_M)
    first = int(flight.stamps_ns[0])
    assert fusion.pose_at(first).reason == "heading_unknown"
    for _, kind, sample in flight.samples()[:8]:
        (fusion.add_fix if kind else fusion.add_odometry)(sample)
    answer = fusion.pose_at(first)
    assert (answer.reason, answer.wait) == ("heading_unknown", True)
    assert fusion.datum is not None  # of the first fix
    answers = live_answers(flight, FixedLagFusion(WHITE, ANTENNA_M, HOME))
    assert first in answers  # kept, and answered once the heading showed


def test_live_the_clock_goes_back_and_it_begins_anew() -> None:
    flight = Flight(seconds=40.0)
    fusion = FixedLagFusion(WHITE, ANTENNA_M, HOME)
    live_answers(flight, fusion)
    assert fusion.sigmas() is not None
    fusion.jumped_back(int(flight.stamps_ns[0]))
    assert fusion.pose_at(int(flight.stamps_ns[100])).reason == "heading_unknown"
    assert len(live_answers(flight, fusion)) > 200


def test_fixes_too_late_or_bad_are_counted_and_left_out() -> None:
    flight = Flight(seconds=30.0)
    fusion = FixedLagFusion(WHITE, ANTENNA_M, HOME)
    live_answers(flight, fusion)
    fusion.add_fix(FixSample(int(flight.stamps_ns[0]) - S, "gps", 47.0, 8.0, 400.0, np.eye(3)))
    fusion.add_fix(FixSample(int(flight.stamps_ns[5]), "gps", np.nan, 8.0, 400.0, np.eye(3)))
    assert fusion.problems == {"fix_too_late": 1}


# Fixes -------------------------------------------------------------------------------------------------------------


def test_a_log_of_fixes_becomes_a_track() -> None:
    log = FixLog()
    for stamp, north, covariance in ((3, 2.0, np.eye(3) * 4), (1, 0.0, np.zeros((3, 3))), (3, 9.0, np.eye(3))):
        place = (float(value) for value in enu_to_wgs84([0.0, north, 7.0], HOME))
        log.add(FixSample(stamp, "gps", *place, covariance))
    log.add(FixSample(5, "gps", np.nan, 8.0, 400.0, np.eye(3)))
    track = log.track()
    assert track.stamps_ns.tolist() == [1, 3]
    np.testing.assert_allclose(track.position_m, [[0, 0, 0], [0, 2, 0]], atol=1e-6)
    np.testing.assert_allclose(track.sigma_m, [[1.5, 1.5, 2.4], [2, 2, 2]])
    np.testing.assert_allclose(log.track(HOME).position_m[:, 2], 7.0, atol=1e-4)
    np.testing.assert_allclose(log.track(HOME, "relative").position_m[:, 2], 0.0, atol=1e-6)
    assert np.isnan(log.track(HOME, "none").position_m[:, 2]).all()
    np.testing.assert_allclose(log.track(HOME, fix_sigma_m=0.5).sigma_m[0], [0.5, 0.5, 0.8])
    with pytest.raises(UserError, match="no GPS fix"):
        FixLog().datum()


def test_fixes_that_jump_away_are_told_from_motion() -> None:
    flight = Flight(outliers=20, seed=4)
    good = flight.fixes.plausible()
    assert 10 < len(flight.fixes) - len(good) <= 20
    fast = FixTrack(np.arange(20) * S, np.arange(20)[:, None] * [30.0, 5.0, 0.0], np.full((20, 3), 0.5), HOME)
    assert len(fast.plausible()) == 20
    assert len(fast.only(slice(0, 2)).plausible()) == 2


def test_real_wheel_odometry_and_gps(real_data) -> None:
    """A Husky outdoors: odometry in a heading of its own that drifts, GPS good to metres."""
    from pose2rgbd_ros.bags import decode
    from pose2rgbd_ros.bags.reader import open_bag
    from pose2rgbd_ros.poses.sources import PoseLog

    poses, log = PoseLog(), FixLog()
    fix, odom = "/fix", "/husky_velocity_controller/odom"
    with open_bag(real_data / "rosbags" / "husky_gps_odom_imu_ros1.bag") as reader:
        for topic, _, message in reader.messages([fix, odom]):
            stamp_ns = decode.header_stamp_ns(message.header)
            if topic == fix:
                log.add(decode.fix_sample(message, stamp_ns))
            else:
                poses.add(decode.pose_sample(message, stamp_ns))
    odometry, fixes = poses.trajectory(), log.track()
    fused = fuse(odometry, fixes, PoseSettings())
    assert fused.accuracy.held_out_horizontal_m < 0.2 * _rigid_residual_m(odometry, fixes)
    assert np.all(np.diff(fused.trajectory.stamps_ns) > 0)


def _rigid_residual_m(odometry: Trajectory, fixes: FixTrack) -> float:
    """Median distance of the fixes from the odometry turned and moved as a whole, robustly."""
    at = odometry.interpolate(fixes.stamps_ns, S)
    o = at.T[at.valid, :2, 3] @ [1, 1j]
    g = fixes.position_m[at.valid, :2] @ [1, 1j]
    w = np.ones(len(o))
    for _ in range(30):
        mean_o, mean_g = np.average(o, weights=w), np.average(g, weights=w)
        turned = np.sum(w * np.conj(o - mean_o) * (g - mean_g))
        off = np.abs(turned / abs(turned) * (o - mean_o) + mean_g - g)
        w = 1 / np.maximum(off, 0.1)
    return float(np.median(off))
