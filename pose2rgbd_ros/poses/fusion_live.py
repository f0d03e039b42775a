"""GPS + odometry live: the same least squares as `fusion.fuse`, over a window that moves with time."""

from __future__ import annotations

import threading
from collections import Counter
from typing import NamedTuple

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.poses import fusion_model
from pose2rgbd_ros.poses.fusion_model import (
    NODE_NS,
    POSITION,
    YAW,
    Anchors,
    FusionModel,
    Network,
    Normal,
    Prior,
    Steps,
    require_observable,
    standard_deviations,
)
from pose2rgbd_ros.poses.gps import AntennaPlace, is_on_earth, sigmas
from pose2rgbd_ros.poses.settings import PoseSettings
from pose2rgbd_ros.poses.sources import PoseBuffer
from pose2rgbd_ros.streams.samples import FixSample, PoseSample
from pose2rgbd_ros.streams.synchronizer import PoseAnswer

_SECOND = 1e9
WINDOW_NODES = 150  # about as many seconds: longer than the errors of a GPS stay alike
_MOST_PENDING = 1000
_ITERATIONS = 3  # from one second to the next the solution changes little
_UNKNOWN = PoseAnswer(None, "heading_unknown", wait=True)


class _Fix(NamedTuple):
    """A fix as a row of Anchors; `node` counts from the first node ever."""

    node: int
    share: float
    before_m: Float64
    after_m: Float64
    arm_m: Float64
    position_m: Float64
    sigma_m: Float64
    stamp_ns: int


class FixedLagFusion:
    """The body in the map, about `datum` (None: the first fix), from odometry and fixes as they arrive.

    A pose source: an answer waits until a solution `lag_s` after its stamp; before the motion has shown the heading
    of the odometry the reason is "heading_unknown". Memory and work are bounded by `window` nodes, a second each.
    `problems` counts fixes that came too late. Any thread may call any method.
    """

    def __init__(
        self,
        settings: PoseSettings,
        antenna_m: Float64 | None = None,
        datum: Datum | None = None,
        lag_s: float = 0.5,
        window: int = WINDOW_NODES,
    ) -> None:
        self.problems: Counter[str] = Counter()
        self.why = "there is no odometry yet"
        self._settings, self._model = settings, FusionModel.of(settings)
        self._antenna_m = np.zeros(3) if antenna_m is None else antenna_m
        self._lag_ns, self._window = round(lag_s * _SECOND), window
        self._gap_ns = round(settings.max_pose_gap_s * _SECOND)
        self._lock = threading.Lock()
        self._place = AntennaPlace(datum, settings.altitude)
        self._reset()

    def _reset(self) -> None:
        keep_ns = (self._window + 30) * NODE_NS
        self._odometry = PoseBuffer(self._gap_ns, self._settings.interpolation, keep_ns)
        self._stamps: list[int] = []
        self._node_m: list[Float64] = []
        self._first = 0  # number of the first node that is kept
        self._fixes: list[_Fix] = []
        self._pending: list[tuple[int, Float64, Float64]] = []
        self._x: Float64 | None = None
        self._prior: Prior | None = None
        self._normal: Normal | None = None

    @property
    def datum(self) -> Datum | None:
        """What positions are about; None before the first fix."""
        return self._place.datum

    def add_odometry(self, pose: PoseSample) -> None:
        """Take in a pose of the odometry; once a second a new solution is made."""
        with self._lock:
            self._odometry.add(pose)
            if self._odometry.newest_ns != pose.stamp_ns:
                return  # bad, or out of order
            if self._stamps and pose.stamp_ns < self._stamps[0]:
                self._restart(pose)
            if not self._stamps or pose.stamp_ns >= self._stamps[-1] + NODE_NS:
                self._stamps.append(pose.stamp_ns)
                self._node_m.append(np.asarray(pose.position_m, dtype=np.float64))
                self._settle_pending()
                self._solve()

    def add_fix(self, fix: FixSample) -> None:
        """Take in a fix; one without a position is left out."""
        if not is_on_earth(fix):
            return
        with self._lock:
            variance = np.diagonal(fix.covariance_enu_m2)[None]
            sigma = sigmas(variance, self._settings.fix_sigma_m)[0]
            self._pending = [*self._pending[-_MOST_PENDING:], (fix.stamp_ns, self._place.position_m(fix), sigma)]
            self._settle_pending()

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The body in the map."""
        with self._lock:
            if self._x is None:
                return _UNKNOWN
            at = self._odometry.pose_at(stamp_ns)
            if at.T is None:
                return at
            if stamp_ns < self._stamps[0]:
                return PoseAnswer(None, "before_first_pose")
            wait = at.wait or self._stamps[-1] < stamp_ns + self._lag_ns
            return PoseAnswer(self._placed(stamp_ns, at.T), wait=wait)

    def _placed(self, stamp_ns: int, T_odom_body: Float64) -> Float64:
        """The pose between the nodes around it, or reckoned on from the last one."""
        assert self._x is not None
        node = int(np.searchsorted(self._stamps, stamp_ns, side="right")) - 1
        last = len(self._stamps) - 1
        after = min(node + 1, last)
        span = self._stamps[after] - self._stamps[node]
        share = np.array([(stamp_ns - self._stamps[node]) / span if span else 0.0])
        a, b = self._x[[node]], self._x[[after]]
        position_m = T_odom_body[:3, 3]
        placed = fusion_model.predict(
            a, b, share, (position_m - self._node_m[node])[None], (position_m - self._node_m[after])[None]
        )[0]
        yaw = (1 - share) * a[:, YAW] + share * b[:, YAW]
        T = np.eye(4)
        T[:3, :3] = fusion_model.turn(np.repeat(yaw, 3), T_odom_body[:3, :3].T).T
        T[:3, 3] = placed
        return T

    def sigmas(self) -> tuple[Float64, float] | None:
        """Standard deviations now: of the position (3,), and of the heading in radians; None before there is any."""
        with self._lock:
            if self._normal is None:
                return None
            sigma = standard_deviations(self._normal)[-1]
        return sigma[POSITION], float(sigma[YAW])

    def jumped_back(self, stamp_ns: int) -> None:
        """The clock was set back: what is known of later stamps is of a time before."""
        with self._lock:
            if self._stamps and self._stamps[-1] > stamp_ns:
                self._reset()

    def clear(self) -> None:
        """Forget everything but the datum."""
        with self._lock:
            self._reset()

    def _restart(self, pose: PoseSample) -> None:
        self._reset()
        self._odometry.add(pose)

    def _settle_pending(self) -> None:
        """Tie the fixes between two nodes to these; later ones wait."""
        waiting = []
        for stamp_ns, position_m, sigma_m in self._pending:
            if not self._stamps or stamp_ns >= self._stamps[-1]:
                waiting.append((stamp_ns, position_m, sigma_m))
                continue
            node = int(np.searchsorted(self._stamps, stamp_ns, side="right")) - 1
            at = self._odometry.pose_at(stamp_ns) if node >= 0 else None
            if at is None or at.T is None:
                self.problems["fix_too_late" if node < 0 else "fix_without_odometry"] += 1
                continue
            body_m = at.T[:3, 3]
            share = (stamp_ns - self._stamps[node]) / (self._stamps[node + 1] - self._stamps[node])
            from_nodes = body_m - self._node_m[node], body_m - self._node_m[node + 1]
            arm_m = at.T[:3, :3] @ self._antenna_m
            self._fixes.append(_Fix(self._first + node, share, *from_nodes, arm_m, position_m, sigma_m, stamp_ns))
        self._pending = waiting

    def _solve(self) -> None:
        if len(self._stamps) < 2:
            return
        network = self._network()
        try:
            if self._x is None:
                self._begin(network)
            else:
                self._go_on(network)
        except UserError as error:
            self.why = str(error)
            self._x = self._prior = self._normal = None
        if len(self._stamps) > self._window:
            self._drop_first(network)

    def _begin(self, network: Network) -> None:
        """The first solution, kept when it shows the heading."""
        start = network.start()
        prior = Prior(self._model.start_information(), start[0].copy(), np.zeros(fusion_model.STATES))
        x, normal, weights = fusion_model.solve(start, self._model, prior, network.steps, network.anchors)
        require_observable(standard_deviations(normal), weights)
        self._x, self._prior, self._normal, self.why = x, prior, normal, ""

    def _go_on(self, network: Network) -> None:
        """From the last solution, the new node reckoned by odometry."""
        assert self._x is not None
        assert self._prior is not None
        last = self._x[-1].copy()
        last[POSITION] += fusion_model.turn(last[[YAW]], network.steps.step_m[-1:])[0]
        x = np.vstack([self._x, last])
        self._x, self._normal, _ = fusion_model.solve(
            x, self._model, self._prior, network.steps, network.anchors, False, _ITERATIONS
        )

    def _network(self) -> Network:
        node_m, stamps = np.array(self._node_m), np.array(self._stamps, dtype=np.int64)
        self._fixes.sort(key=lambda fix: fix.stamp_ns)  # nearly sorted already
        columns = list(zip(*self._fixes, strict=True)) if self._fixes else [()] * len(_Fix._fields)
        vectors = [np.array(column, dtype=np.float64).reshape(-1, 3) for column in columns[2:7]]
        anchors = Anchors(
            np.array(columns[0], dtype=np.int64) - self._first, np.array(columns[1], dtype=np.float64), *vectors
        )
        steps = Steps(np.diff(stamps) / _SECOND, np.diff(node_m, axis=0))
        return Network(stamps, node_m, steps, anchors, np.array(columns[7], dtype=np.int64))

    def _drop_first(self, network: Network) -> None:
        """The oldest node leaves the window; what it and its fixes said stays, as a prior on the next."""
        if self._x is not None and self._prior is not None:
            self._prior = fusion_model.marginalize_first(
                self._x, self._model, self._prior, network.steps, network.anchors
            )
            self._x = self._x[1:]
        del self._stamps[0], self._node_m[0]
        self._first += 1
        self._fixes = [fix for fix in self._fixes if fix.node >= self._first]
