"""GPS + odometry over a whole recording: GPS anchors, odometry shapes. docs/decisions/0007-fusion.md derives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.streams import fusion_model, fusion_start
from pose2rgbd_ros.streams.fix_track import FixTrack
from pose2rgbd_ros.streams.fusion_live import FixedLagFusion as FixedLagFusion
from pose2rgbd_ros.streams.fusion_model import POSITION, SCALE, YAW, FusionModel, Prior
from pose2rgbd_ros.streams.fusion_network import OUTLIER_WEIGHT, Network, require_observable
from pose2rgbd_ros.streams.pose_settings import PoseSettings

_SECOND = 1e9
# Held out to see how well the rest tells them: a block of this length out of every five.
_BLOCK_S, _BLOCKS = 10.0, 5


@dataclass(frozen=True)
class Accuracy:
    """How good a fused trajectory is by its own account (medians over time), and by fixes that it had not seen.

    Standard deviations per axis; `held_out_*` is the median distance from held-out fixes to the trajectory, and so
    holds the fixes' own errors too; None where the recording is too short to hold any out.
    """

    horizontal_sigma_m: float
    vertical_sigma_m: float
    yaw_sigma_deg: float
    scale: float
    fixes: int
    outliers: int
    held_out_horizontal_m: float | None = None
    held_out_vertical_m: float | None = None

    def summary(self) -> str:
        """In one line."""
        text = (
            f"GPS and odometry fused: {self.fixes} fixes, {self.outliers} of them outliers; by its own account good to "
            f"{self.horizontal_sigma_m:.2f} m horizontally, {self.vertical_sigma_m:.2f} m vertically and "
            f"{self.yaw_sigma_deg:.2f} degrees of heading (standard deviations)"
        )
        if self.held_out_horizontal_m is not None:
            text += f"; fixes held out lie {self.held_out_horizontal_m:.2f} m away in the median"
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML, to the digit that means something."""
        return {
            name: round(value, 4) if isinstance(value, float) else value for name, value in vars(self).items()
        }


@dataclass(frozen=True, eq=False)
class Fused:
    """The body in the map, at the odometry's stamps.

    `node_stamps_ns` (M,), `position_sigma_m` (M, 3) and `yaw_sigma_rad` (M,) tell the accuracy over time.
    """

    trajectory: Trajectory
    node_stamps_ns: Int64
    position_sigma_m: Float64
    yaw_sigma_rad: Float64
    accuracy: Accuracy


def fuse(
    odometry: Trajectory, fixes: FixTrack, settings: PoseSettings, antenna_m: Float64 | None = None
) -> Fused:
    """The body's trajectory in the map of the fixes: anchored by GPS, shaped by odometry.

    `antenna_m` (3,): the antenna in the body. Odometry may have any heading and origin; where it drifts, the GPS pulls
    it back. UserError, with the reason, when the two cannot be brought together: too few fixes, too little motion to
    show the heading, or tracks of different shapes.
    """
    antenna_m = np.zeros(3) if antenna_m is None else antenna_m
    if len(odometry) < 2:
        raise UserError("GPS and odometry cannot be fused: there is only one pose")
    network, model = Network.of(odometry, fixes, antenna_m), FusionModel.of(settings)
    try:
        x, normal, weights = _solve(network, model)
        P = fusion_model.covariances(normal)
        sigma = np.sqrt(np.maximum(np.diagonal(P, axis1=1, axis2=2), 0.0))
        require_observable(sigma, weights)
    except UserError as error:
        raise UserError(f"GPS and odometry cannot be fused: {error}") from error
    accuracy = Accuracy(
        horizontal_sigma_m=float(np.median(np.sqrt((sigma[:, 1] ** 2 + sigma[:, 2] ** 2) / 2))),
        vertical_sigma_m=float(np.median(sigma[:, 3])),
        yaw_sigma_deg=float(np.degrees(np.median(sigma[:, YAW]))),
        scale=float(1 + np.median(x[:, SCALE])),
        fixes=len(weights),
        outliers=int(np.sum(weights[:, 0] < OUTLIER_WEIGHT)),
        **_held_out(network, model, x),
    )
    return Fused(
        bent(odometry, network.stamps_ns, network.odometry_m, x),
        network.stamps_ns,
        sigma[:, POSITION],
        sigma[:, YAW],
        accuracy,
    )


def bent(odometry: Trajectory, node_stamps_ns: Int64, node_m: Float64, x: Float64) -> Trajectory:
    """Odometry, within the time of the nodes, as the states place it."""
    inside = (odometry.stamps_ns >= node_stamps_ns[0]) & (odometry.stamps_ns <= node_stamps_ns[-1])
    stamps, position_m = odometry.stamps_ns[inside], odometry.position_m[inside]
    node = np.clip(np.searchsorted(node_stamps_ns, stamps, side="right") - 1, 0, len(node_stamps_ns) - 2)
    share = (stamps - node_stamps_ns[node]) / (node_stamps_ns[node + 1] - node_stamps_ns[node])
    placed_m = fusion_model.predict(
        x[node], x[node + 1], share, position_m - node_m[node], position_m - node_m[node + 1]
    )
    yaw = (1 - share) * x[node, YAW] + share * x[node + 1, YAW]
    turned = np.stack([0 * yaw, 0 * yaw, np.sin(yaw / 2), np.cos(yaw / 2)], axis=1)
    return Trajectory(stamps, placed_m, quaternions.multiply(turned, odometry.quat_xyzw[inside]))


def _solve(network: Network, model: FusionModel) -> tuple[Float64, fusion_model.Normal, Float64]:
    x = network.start()
    prior = Prior(model.start_information(), x[0].copy(), np.zeros(fusion_model.STATES))
    return fusion_model.solve(x, model, prior, network.steps, network.anchors)


def _held_out(network: Network, model: FusionModel, x: Float64) -> dict[str, float | None]:
    """Median distances to fixes that a second solution does not see: one block of time out of every five."""
    block = ((network.fix_stamps_ns - network.stamps_ns[0]) / _SECOND // _BLOCK_S).astype(int)
    held = block % _BLOCKS == _BLOCKS // 2
    if not held.any() or np.sum(~held) < fusion_start.FEWEST_FIXES:
        return {"held_out_horizontal_m": None, "held_out_vertical_m": None}
    seen = network.without(held)
    prior = Prior(model.start_information(), x[0].copy(), np.zeros(fusion_model.STATES))
    x, _, _ = fusion_model.solve(x, model, prior, seen.steps, seen.anchors, coarse=False)
    error = (network.predict(x) - network.anchors.position_m)[held]
    vertical = np.abs(error[np.isfinite(error[:, 2]), 2])
    return {
        "held_out_horizontal_m": float(np.median(np.hypot(error[:, 0], error[:, 1]))),
        "held_out_vertical_m": float(np.median(vertical)) if len(vertical) else None,
    }
