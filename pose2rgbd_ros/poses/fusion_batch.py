"""GPS + odometry over a whole recording: GPS anchors, odometry shapes. docs/decisions/0007-fusion.md derives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry import quaternions
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses import fusion_model
from pose2rgbd_ros.poses.fusion_model import (
    OUTLIER_WEIGHT,
    POSITION,
    SCALE,
    YAW,
    FusionModel,
    Network,
    Prior,
    require_observable,
    standard_deviations,
)
from pose2rgbd_ros.poses.gps import FixTrack
from pose2rgbd_ros.poses.settings import PoseSettings

_SECOND = 1e9
# Held out to see how well the rest predicts them: a block of this length out of every five.
_BLOCK_S, _BLOCKS = 10.0, 5
_LOOSER, _CLEARLY = (3.0, 10.0), 0.9


@dataclass(frozen=True)
class Accuracy:
    """How good a fused trajectory is by its own account (medians over time), and by fixes that it had not seen.

    Standard deviations per axis, widened where held-out fixes lie farther away than they say. `odometry_factor`: so
    many times as much as the settings say the odometry was found to drift. `held_out_*` is the median distance from
    held-out fixes to the trajectory, and so holds the fixes' own errors too; None where the recording is too short.
    """

    horizontal_sigma_m: float
    vertical_sigma_m: float
    yaw_sigma_deg: float
    scale: float
    fixes: int
    outliers: int
    odometry_factor: float = 1.0
    held_out_horizontal_m: float | None = None
    held_out_vertical_m: float | None = None

    def summary(self) -> str:
        """In one line."""
        text = (
            f"GPS and odometry fused: {counted(self.fixes, 'fix', 'fixes')}, outliers among them: {self.outliers}; by "
            f"its own account good to {self.horizontal_sigma_m:.2f} m horizontally, {self.vertical_sigma_m:.2f} m "
            f"vertically and {self.yaw_sigma_deg:.2f} degrees of heading (standard deviations)"
        )
        if self.odometry_factor > 1:
            text += f"; the odometry drifts about {self.odometry_factor:g} times as much as the settings say"
        if self.held_out_horizontal_m is not None:
            text += f"; fixes held out lie {self.held_out_horizontal_m:.2f} m away in the median"
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML, to the digit that means something."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in vars(self).items()}


@dataclass(frozen=True, eq=False)
class Fused:
    """The body in the map, at the odometry's stamps.

    `node_stamps_ns` (M,), `position_sigma_m` (M, 3) and `yaw_sigma_rad` (M,) give the accuracy over time.
    """

    trajectory: Trajectory
    node_stamps_ns: Int64
    position_sigma_m: Float64
    yaw_sigma_rad: Float64
    accuracy: Accuracy


def fuse(odometry: Trajectory, fixes: FixTrack, settings: PoseSettings, antenna_m: Float64 | None = None) -> Fused:
    """The body's trajectory in the map of the fixes: anchored by GPS, shaped by odometry.

    `antenna_m` (3,): the antenna in the body. Odometry may have any heading and origin; where it drifts, the GPS pulls
    it back. UserError, with the reason, when the two cannot be brought together: too few fixes, too little motion to
    show the heading, or tracks of different shapes.
    """
    antenna_m = np.zeros(3) if antenna_m is None else antenna_m
    if len(odometry) < 2:
        raise UserError("GPS and odometry cannot be fused: there is only one pose")
    network = Network.of(odometry, fixes, antenna_m)
    try:
        x = network.start()
        x, normal, weights = _solve(network, FusionModel.of(settings), x, coarse=True)
        require_observable(standard_deviations(normal), weights)
        model, loosened, held = _drift_that_fits(network, FusionModel.of(settings), x)
        x, normal, weights = _solve(network, model, x)
        sigma = standard_deviations(normal)
        require_observable(sigma, weights)
    except UserError as error:
        raise UserError(f"GPS and odometry cannot be fused: {error}") from error
    sigma[:, POSITION] *= held.excess
    accuracy = Accuracy(
        horizontal_sigma_m=float(np.median(np.sqrt((sigma[:, 1] ** 2 + sigma[:, 2] ** 2) / 2))),
        vertical_sigma_m=float(np.median(sigma[:, 3])),
        yaw_sigma_deg=float(np.degrees(np.median(sigma[:, YAW]))),
        scale=float(1 + np.median(x[:, SCALE])),
        fixes=len(weights),
        outliers=int(np.sum(weights[:, 0] < OUTLIER_WEIGHT)),
        odometry_factor=loosened,
        held_out_horizontal_m=held.horizontal_m,
        held_out_vertical_m=held.vertical_m,
    )
    return Fused(
        warp_to(odometry, network.stamps_ns, network.odometry_m, x),
        network.stamps_ns,
        sigma[:, POSITION],
        sigma[:, YAW],
        accuracy,
    )


def warp_to(odometry: Trajectory, node_stamps_ns: Int64, node_m: Float64, x: Float64) -> Trajectory:
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


def _solve(
    network: Network, model: FusionModel, x: Float64, coarse: bool = False
) -> tuple[Float64, fusion_model.Normal, Float64]:
    prior = Prior(model.start_information(), x[0].copy(), np.zeros(fusion_model.STATES))
    return fusion_model.solve(x, model, prior, network.steps, network.anchors, coarse)


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """Median distances to fixes that a solution had not seen, and by what part of themselves standard deviations
    (3,) must grow to explain them; None and 1 where none could be held out."""

    horizontal_m: float | None
    vertical_m: float | None
    excess: Float64


def _drift_that_fits(network: Network, model: FusionModel, x: Float64) -> tuple[FusionModel, float, _HeldOut]:
    """The odometry is taken to drift more than the settings say where held-out fixes lie too far away, and that helps.

    Nearer alone is no reason: a track that follows the wandering errors of a GPS also comes nearer to its fixes.
    """
    factor, held = 1.0, _held_out(network, model, x)
    for looser in _LOOSER:
        if held.horizontal_m is None or held.excess[0] <= 1.0:
            break
        other = _held_out(network, model.looser(looser), x)
        if other.horizontal_m is None or other.horizontal_m > _CLEARLY * held.horizontal_m:
            break
        factor, held = looser, other
    return model.looser(factor), factor, held


def _held_out(network: Network, model: FusionModel, x: Float64) -> _HeldOut:
    """Of a second solution that does not see one block of time out of every five."""
    block = ((network.fix_stamps_ns - network.stamps_ns[0]) / _SECOND // _BLOCK_S).astype(int)
    held = block % _BLOCKS == _BLOCKS // 2
    if not held.any() or np.sum(~held) < fusion_model.FEWEST_FIXES:
        return _HeldOut(None, None, np.ones(3))
    x, normal, _ = _solve(network.without(held), model, x)
    error = np.abs(network.predict(x) - network.anchors.position_m)[held]
    own_m = standard_deviations(normal)[network.anchors.node[held], POSITION]
    expected_m = np.hypot(own_m, network.anchors.sigma_m[held])
    across, up = np.hypot(error[:, 0], error[:, 1]), error[np.isfinite(error[:, 2]), 2]
    # The median of a distance is 1.18 standard deviations in the plane, 0.67 along a line.
    wide = np.median(across) / (1.177 * np.median(expected_m[:, :2]))
    high = np.median(up) / (0.674 * np.median(expected_m[:, 2])) if len(up) else 1.0
    return _HeldOut(
        float(np.median(across)), float(np.median(up)) if len(up) else None, np.maximum([wide, wide, high], 1.0)
    )
