"""map -> odom from poses found in images and from odometry: smoothed, and safe from single wrong poses.

A Kalman filter on SE(3) (error of the correction: a shift and a small rotation about the map's axes, at the camera) in
which odometry drifts and found poses measure. A pose that contradicts is set aside; only when several in a row
contradict and agree with one another does the correction jump to them. docs/nodes/localize.md shows how that looks on
/tf.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.settings import setting


@dataclass
class CorrectionSettings:
    """How map -> odom follows the poses that are found."""

    gate: float = setting(
        22.5,
        "squared Mahalanobis distance above which a pose contradicts (22.5: one in 1,000 right ones)",
        ge=1.0,
        le=1e6,
    )
    agreeing: int = setting(5, "images in a row that must agree, at the start and before a jump", ge=1, le=1000)
    memory_s: float = setting(
        1.0, "errors of images nearer in time than this are taken as one and the same", ge=0.0, le=600.0
    )
    sigma_m: float = setting(1.0, "position error of poses that come without covariance", ge=1e-4, le=1e4)
    sigma_deg: float = setting(5.0, "rotation error of poses that come without covariance", ge=1e-3, le=180.0)
    drift: float = setting(0.02, "position drift of the odometry, as a share of the distance", ge=1e-6, le=10.0)
    walk_m_per_sqrt_s: float = setting(0.05, "random walk of the odometry's position", ge=1e-6, le=100.0)
    turn_deg_per_sqrt_s: float = setting(0.2, "random walk of the odometry's orientation", ge=1e-6, le=100.0)


@dataclass(frozen=True, eq=False)
class Correction:
    """T_map_odom (4, 4) and what was known of it at `stamp_ns`: covariance (6, 6) at the camera's place there,
    T_odom_cam.
    """

    T_map_odom: Float64
    covariance: Float64
    T_odom_cam: Float64
    stamp_ns: int
    count: int = 1  # poses it rests on

    @property
    def T_map_cam(self) -> Float64:
        """Where the camera is by it, (4, 4)."""
        return se3.compose(self.T_map_odom, self.T_odom_cam)


class MapCorrection:
    """`current` is the correction in force, None before `settings.agreeing` images in a row agreed."""

    def __init__(self, settings: CorrectionSettings) -> None:
        self.settings = settings
        self.current: Correction | None = None
        self.set_aside = 0  # poses that contradicted
        self.jumps = 0
        self._rival: Correction | None = None

    def add(self, T_map_cam: Float64, covariance: Float64 | None, T_odom_cam: Float64, stamp_ns: int) -> bool:
        """Take in a pose (4, 4) found in the image of `stamp_ns` and the odometry (4, 4) of that time.

        covariance (6, 6) as in localization.estimate.Estimate. Returns whether the pose was believed.
        """
        R = self._default_covariance() if covariance is None else covariance
        if any(known is not None and stamp_ns <= known.stamp_ns for known in (self.current, self._rival)):
            return False  # the same image again, or an older one: it says nothing that is not known
        if self.current is not None:
            updated = self._updated(self.current, T_map_cam, R, T_odom_cam, stamp_ns)
            if updated is not None:
                self.current, self._rival = updated, None
                return True
            self.set_aside += 1
        rival = None
        if self._rival is not None:
            rival = self._updated(self._rival, T_map_cam, R, T_odom_cam, stamp_ns)
        self._rival = rival or Correction(se3.compose(T_map_cam, se3.inverse(T_odom_cam)), R, T_odom_cam, stamp_ns)
        if self._rival.count < self.settings.agreeing:
            return False
        self.jumps += self.current is not None
        self.current, self._rival = self._rival, None
        return True

    def _updated(
        self, before: Correction, T_map_cam: Float64, R: Float64, T_odom_cam: Float64, stamp_ns: int
    ) -> Correction | None:
        """`before` with one more pose; None: the pose contradicts it."""
        now = self._predicted(before, T_odom_cam, stamp_ns)
        predicted = now.T_map_cam
        error = difference(predicted, T_map_cam)
        if error @ np.linalg.solve(now.covariance + R, error) > self.settings.gate:
            return None
        # Images close in time err alike: the same information must not be counted again and again.
        apart_s = (stamp_ns - before.stamp_ns) / 1e9
        alike = max(1.0, self.settings.memory_s / max(apart_s, 1e-9))
        gain = np.linalg.solve(now.covariance + alike * R, now.covariance).T
        rest = np.eye(6) - gain
        P = rest @ now.covariance @ rest.T + gain @ (alike * R) @ gain.T
        T = moved(predicted, gain @ error)
        return replace(now, T_map_odom=se3.compose(T, se3.inverse(T_odom_cam)), covariance=P, count=before.count + 1)

    def _predicted(self, before: Correction, T_odom_cam: Float64, stamp_ns: int) -> Correction:
        """The correction at another time and place: less certain, by the drift of the odometry."""
        settings = self.settings
        step = se3.compose(before.T_map_odom, T_odom_cam)[:3, 3] - before.T_map_cam[:3, 3]
        P = covariance_at(before.covariance, step)
        apart_s = max((stamp_ns - before.stamp_ns) / 1e9, 0.0)
        shift = settings.walk_m_per_sqrt_s**2 * apart_s + (settings.drift * np.linalg.norm(step)) ** 2
        turn = np.deg2rad(settings.turn_deg_per_sqrt_s) ** 2 * apart_s
        P = P + np.diag([shift] * 3 + [turn] * 3)
        return replace(before, covariance=P, T_odom_cam=T_odom_cam, stamp_ns=stamp_ns)

    def _default_covariance(self) -> Float64:
        position, rotation = self.settings.sigma_m**2, np.deg2rad(self.settings.sigma_deg) ** 2
        return np.diag([position] * 3 + [rotation] * 3)


def difference(T_from: Float64, T_to: Float64) -> Float64:
    """From one pose to another: shift in metres and rotation vector in radians, (6,), both about the map's axes."""
    turned = Rotation.from_matrix(T_to[:3, :3] @ T_from[:3, :3].T).as_rotvec()
    return np.concatenate([T_to[:3, 3] - T_from[:3, 3], turned])


def moved(T: Float64, step: Float64) -> Float64:
    """A pose (4, 4) shifted and turned by what :func:`difference` gives."""
    found = np.array(T)
    found[:3, 3] += step[:3]
    found[:3, :3] = Rotation.from_rotvec(step[3:]).as_matrix() @ found[:3, :3]
    return found


def covariance_at(covariance: Float64, lever_m: Float64) -> Float64:
    """The covariance (6, 6) of a pose for a point `lever_m` (3,) away (map axes) that is rigidly fixed to it."""
    x, y, z = lever_m
    J = np.eye(6)
    J[:3, 3:] = [[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]]  # r x lever
    moved_there: Float64 = J @ covariance @ J.T
    return moved_there
