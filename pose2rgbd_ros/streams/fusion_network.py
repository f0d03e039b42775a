"""Odometry and GPS fixes as the network of nodes that fusion solves, and a first guess of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.streams import fusion_model, fusion_start
from pose2rgbd_ros.streams.fix_track import FixTrack
from pose2rgbd_ros.streams.fusion_model import NODE_NS, POSITION, YAW, Anchors, Steps

_SECOND = 1e9
_LONGEST_GAP_NS = 1_000_000_000  # of odometry around a fix
_MOST_YAW_SIGMA_RAD = np.radians(20.0)
_MOST_OUTLIERS = 0.5
OUTLIER_WEIGHT = 0.1


@dataclass(frozen=True, eq=False)
class Network:
    """Odometry and fixes as nodes, steps and anchors. `stamps_ns` (N,), `odometry_m` (N, 3) of the nodes."""

    stamps_ns: Int64
    odometry_m: Float64
    steps: Steps
    anchors: Anchors
    fix_stamps_ns: Int64

    @classmethod
    def of(cls, odometry: Trajectory, fixes: FixTrack, antenna_m: Float64) -> Network:
        """Nodes about a second apart; fixes without odometry around them are left out."""
        index = node_indices(odometry.stamps_ns)
        stamps, node_m = odometry.stamps_ns[index], odometry.position_m[index]
        at = odometry.interpolate(fixes.stamps_ns, _LONGEST_GAP_NS)
        within = at.valid & (fixes.stamps_ns > stamps[0]) & (fixes.stamps_ns < stamps[-1])
        fixes, T = fixes.only(within), at.T[within]
        node = np.searchsorted(stamps, fixes.stamps_ns, side="right") - 1
        span_ns = stamps[node + 1] - stamps[node]
        anchors = Anchors(
            node=node,
            share=(fixes.stamps_ns - stamps[node]) / span_ns,
            before_m=T[:, :3, 3] - node_m[node],
            after_m=T[:, :3, 3] - node_m[node + 1],
            arm_m=T[:, :3, :3] @ antenna_m,
            position_m=fixes.position_m,
            sigma_m=fixes.sigma_m,
        )
        return cls(
            stamps,
            node_m,
            Steps(np.diff(stamps) / _SECOND, np.diff(node_m, axis=0)),
            anchors,
            fixes.stamps_ns,
        )

    def start(self) -> Float64:
        """A first guess of the states (N, 8). UserError, with the reason, when the heading is not observable."""
        anchors = self.anchors
        origin_ns = self.stamps_ns[0]
        odometry_m = self.odometry_m[anchors.node] + anchors.before_m
        node_s, fix_s = (self.stamps_ns - origin_ns) / _SECOND, (self.fix_stamps_ns - origin_ns) / _SECOND
        sigma_m = float(np.median(anchors.sigma_m[:, :2])) if len(fix_s) else 0.0
        yaw = fusion_start.headings(node_s, fix_s, odometry_m, anchors.position_m, sigma_m)
        x = np.zeros((len(node_s), fusion_model.STATES))
        x[:, YAW] = yaw
        x[:, POSITION] = fusion_start.positions(yaw, self.steps.step_m, np.zeros(3))
        error = anchors.position_m - self.predict(x)
        offset = np.median(error, axis=0)
        if not np.isfinite(offset[2]):
            known = error[np.isfinite(error[:, 2]), 2]
            offset[2] = np.median(known) if len(known) else self.odometry_m[0, 2]
        x[:, POSITION] += offset
        return x

    def predict(self, x: Float64) -> Float64:
        """Where the antenna is at the fixes by the states, (K, 3)."""
        a = self.anchors
        return fusion_model.predict(x[a.node], x[a.node + 1], a.share, a.before_m, a.after_m, a.arm_m)

    def without(self, held: Bool) -> Network:
        """The same without some of the fixes."""
        kept = Anchors(*(getattr(self.anchors, name)[~held] for name in Anchors.__dataclass_fields__))
        return Network(self.stamps_ns, self.odometry_m, self.steps, kept, self.fix_stamps_ns[~held])


def node_indices(stamps_ns: Int64) -> Int64:
    """The first pose of every second, and the last one."""
    slots = (stamps_ns - stamps_ns[0]) // NODE_NS
    _, first = np.unique(slots, return_index=True)
    last = len(stamps_ns) - 1
    if first[-1] != last:
        near = len(first) > 1 and stamps_ns[last] - stamps_ns[first[-1]] < NODE_NS // 2
        first = np.append(first[:-1] if near else first, last)
    return first


def require_observable(sigma: Float64, weights: Float64) -> None:
    """UserError when the solution, of standard deviations (N, 8), leaves the heading open or refuses most fixes."""
    yaw_sigma = float(np.median(sigma[:, YAW]))
    if not yaw_sigma < _MOST_YAW_SIGMA_RAD:
        raise UserError(
            f"the motion shows the odometry's heading only to {np.degrees(yaw_sigma):.0f} degrees"
        )
    outliers = float(np.mean(weights[:, 0] < OUTLIER_WEIGHT))
    if outliers > _MOST_OUTLIERS:
        raise UserError(
            f"{100 * outliers:.0f} % of the fixes do not fit the odometry's track, whatever its heading"
        )


def standard_deviations(normal: fusion_model.Normal) -> Float64:
    """Of all states at all nodes, (N, 8)."""
    covariance = fusion_model.covariances(normal)
    return np.sqrt(np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 0.0))
