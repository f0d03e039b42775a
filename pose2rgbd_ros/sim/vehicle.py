"""The drone that is flown live: along a planned flight, a path that it checks, or by velocity commands. No ROS here."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.sim.flights.flight import PERIOD_S, Flight, Lines, Motion
from pose2rgbd_ros.sim.flights.route import MAX_HOURS, NO_LINE, Route, passing_radii_m, rounded, sample_times_s
from pose2rgbd_ros.sim.state import BodyState

# The stretches a live flight is made of: a planned flight, joined smoothly, and motion at constant jerk.


DECAY_PER_S = 3.0  # an offset at a join is down to a tenth after 1.3 s


class Flown(Protocol):
    """A flight as far as it matters here, see sim.flights."""

    @property
    def duration_s(self) -> float:
        """When it is over."""

    def state(self, t_s: float) -> BodyState:
        """The body at a time."""


class Leg(Protocol):
    """A stretch of the live flight, from `start_s` to the start of the next one."""

    @property
    def start_s(self) -> float:
        """When it begins."""

    def state(self, t_s: float) -> BodyState:
        """The body at a time of the live flight."""


@dataclass(frozen=True, eq=False)
class Decay:
    """A (3,) offset that dies out like a critically damped spring, from its value and rate at `start_s`."""

    start_s: float
    value: Float64
    rate: Float64

    def at(self, t_s: float) -> tuple[Float64, Float64, Float64]:
        """Value, rate and acceleration, each (3,)."""
        elapsed, k = t_s - self.start_s, DECAY_PER_S
        slope = self.rate + k * self.value
        shape, fade = self.value + slope * elapsed, np.exp(-k * elapsed)
        return shape * fade, (slope - k * shape) * fade, (k * k * shape - 2 * k * slope) * fade


class FlightLeg:
    """A flight from `phase_s` of its own time on, begun from another motion.

    The flight's time starts to run within `ramp_s` (0: at once). What is left of the difference to the state before
    dies out, so that position, orientation and their rates are continuous.
    """

    def __init__(
        self, start_s: float, flight: Flown, phase_s: float = 0.0, ramp_s: float = 0.0, before: BodyState | None = None
    ) -> None:
        self.start_s, self._flight, self._phase_s, self._ramp_s = start_s, flight, phase_s, ramp_s
        self.end_s = start_s + (flight.duration_s - phase_s) + ramp_s / 2
        self._shift = self._turn = None
        if before is not None:
            own = self._planned(start_s)
            position = before.T_map_body[:3, 3] - own.T_map_body[:3, 3]
            self._shift = Decay(start_s, position, before.velocity_map_mps - own.velocity_map_mps)
            self._turn = turn_between(own, before)

    def phase_s(self, t_s: float) -> float:
        """The flight's own time at a time of the live flight."""
        return self._warp(t_s)[0]

    def state(self, t_s: float) -> BodyState:
        """The body at a time of the live flight; beyond the flight's end it is where the flight ends."""
        own = self._planned(t_s)
        if self._shift is None or self._turn is None:
            return own
        shift, shift_rate, shift_acceleration = self._shift.at(t_s)
        T, angular_velocity = turned(own.T_map_body, own.angular_velocity_body_radps, self._turn, t_s)
        T[:3, 3] += shift
        return BodyState(
            t_s, T, own.velocity_map_mps + shift_rate, own.acceleration_map_mps2 + shift_acceleration, angular_velocity
        )

    def _planned(self, t_s: float) -> BodyState:
        phase_s, rate, acceleration = self._warp(t_s)
        own = self._flight.state(phase_s)
        return BodyState(
            t_s,
            own.T_map_body,
            own.velocity_map_mps * rate,
            own.acceleration_map_mps2 * rate**2 + own.velocity_map_mps * acceleration,
            own.angular_velocity_body_radps * rate,
        )

    def _warp(self, t_s: float) -> tuple[float, float, float]:
        """The flight's own time and its first two derivatives."""
        elapsed, ramp = max(0.0, t_s - self.start_s), self._ramp_s
        if elapsed >= ramp:
            return min(self._phase_s + elapsed - ramp / 2, self._flight.duration_s), 1.0, 0.0
        u = elapsed / ramp
        return self._phase_s + ramp * (u**3 - u**4 / 2), u * u * (3 - 2 * u), 6 * u * (1 - u) / ramp


@dataclass(frozen=True, eq=False)
class GlideLeg:
    """A level body at constant jerk and yaw acceleration; what it was tilted by before dies out (`turn`)."""

    start_s: float
    position_m: Float64
    velocity_mps: Float64
    acceleration_mps2: Float64
    yaw_rad: float
    yaw_rate_radps: float
    turn: Decay
    jerk_mps3: Float64 = field(default_factory=lambda: np.zeros(3))
    yaw_acceleration_radps2: float = 0.0

    @classmethod
    def after(cls, before: BodyState) -> GlideLeg:
        """Continues a motion: same position, velocity, acceleration, orientation and turning rate."""
        yaw = float(np.arctan2(before.T_map_body[1, 0], before.T_map_body[0, 0]))
        yaw_rate = float(before.T_map_body[2, :3] @ before.angular_velocity_body_radps)
        level = _level(before.t_s, before.T_map_body[:3, 3], yaw, yaw_rate)
        return cls(
            before.t_s,
            before.T_map_body[:3, 3].copy(),
            before.velocity_map_mps,
            before.acceleration_map_mps2,
            yaw,
            yaw_rate,
            turn_between(level, before),
        )

    def then(self, t_s: float) -> GlideLeg:
        """The same motion, given from `t_s` on, without jerk."""
        return GlideLeg(t_s, *self._at(t_s), self.turn)

    def state(self, t_s: float) -> BodyState:
        """The body at a time of the live flight."""
        position, velocity, acceleration, yaw, yaw_rate = self._at(t_s)
        level = _level(t_s, position, yaw, yaw_rate)
        T, angular_velocity = turned(level.T_map_body, level.angular_velocity_body_radps, self.turn, t_s)
        return BodyState(t_s, T, velocity, acceleration, angular_velocity)

    def _at(self, t_s: float) -> tuple[Float64, Float64, Float64, float, float]:
        s, j = t_s - self.start_s, self.jerk_mps3
        p, v, a = self.position_m, self.velocity_mps, self.acceleration_mps2
        yaw = self.yaw_rad + s * self.yaw_rate_radps + s * s / 2 * self.yaw_acceleration_radps2
        return (
            p + s * v + s**2 / 2 * a + s**3 / 6 * j,
            v + s * a + s**2 / 2 * j,
            a + s * j,
            yaw,
            self.yaw_rate_radps + s * self.yaw_acceleration_radps2,
        )


def turn_between(own: BodyState, before: BodyState) -> Decay:
    """The rotation (as a vector in the body) that takes `own` to the state before, dying out from now on."""
    offset = Rotation.from_matrix(own.T_map_body[:3, :3].T @ before.T_map_body[:3, :3])
    vector = offset.as_rotvec()
    relative = before.angular_velocity_body_radps - offset.inv().apply(own.angular_velocity_body_radps)
    return Decay(before.t_s, vector, np.linalg.solve(_right_jacobian(vector), relative))


def turned(T_map_body: Float64, angular_velocity: Float64, turn: Decay, t_s: float) -> tuple[Float64, Float64]:
    """A pose (4, 4) and angular velocity in the body (3,), with what is left of a `turn` added."""
    vector, rate, _ = turn.at(t_s)
    offset = Rotation.from_rotvec(vector)
    T = T_map_body.copy()
    T[:3, :3] = T[:3, :3] @ offset.as_matrix()
    return T, offset.inv().apply(angular_velocity) + _right_jacobian(vector) @ rate


def _right_jacobian(vector: Float64) -> Float64:
    """How the rate of a rotation vector becomes an angular velocity in the rotated frame; (3, 3)."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    if angle < 1e-4:
        return np.eye(3) - cross / 2
    first, second = (1 - np.cos(angle)) / angle**2, (angle - np.sin(angle)) / angle**3
    return np.eye(3) - first * cross + second * cross @ cross


def _level(t_s: float, position_m: Float64, yaw_rad: float, yaw_rate_radps: float) -> BodyState:
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    T = np.eye(4)
    T[:2, :2], T[:3, 3] = [[c, -s], [s, c]], position_m
    return BodyState(t_s, T, np.zeros(3), np.zeros(3), np.array([0.0, 0.0, yaw_rate_radps]))


SPACING_M = 0.5  # poses nearer to the one before give only their heading
CORNER_RADIUS_M = 4.0
MISS_M = 1.7  # of a corner at most: sharper ones than right angles get smaller arcs
CHECK_STEP_S = 0.1
LEAVING_M = 5.0  # around the start the drone may be as low as it is


class Router:
    """Makes flights through poses; `surface_height_m` takes places (N, 2) to the height (N,) of what stands there."""

    def __init__(
        self,
        speed_mps: float,
        acceleration_mps2: float,
        clearance_m: float,
        surface_height_m: Callable[[Float64], Float64],
        T_body_cam: Float64,
    ) -> None:
        self._speed_mps, self._acceleration_mps2, self._clearance_m = (speed_mps, acceleration_mps2, clearance_m)
        self._surface_m, self._T_body_cam = surface_height_m, T_body_cam

    def __call__(self, T_map_body: Float64) -> Flight:
        """A level flight through poses (N, 4, 4), their headings included; corners are rounded, both ends at rest.

        UserError for a path that leads nowhere, takes more than six hours, or comes nearer than the clearance to
        what stands there.
        """
        vertices, yaw = _distinct(T_map_body)
        if len(vertices) < 2:
            raise UserError(f"the path leads nowhere: all its poses are within {SPACING_M:g} m of the drone")
        length_m = float(np.linalg.norm(np.diff(vertices, axis=0), axis=1).sum())
        _require_short(length_m / self._speed_mps)  # before the samples of a way to the moon fill the memory
        radii_m = np.minimum(CORNER_RADIUS_M, passing_radii_m(vertices, MISS_M))
        position, line = rounded(vertices, [NO_LINE] * (len(vertices) - 1), radii_m)
        heading = _headings(position, vertices, yaw)
        route = Route(position, heading, np.zeros(len(position)), line)
        time_s = sample_times_s(route, self._speed_mps, self._acceleration_mps2)
        _require_short(float(time_s[-1]))
        at = np.arange(int(np.ceil(time_s[-1] / PERIOD_S)) + 1) * PERIOD_S
        control = np.zeros((len(at), 6))
        for column, values in ((0, position[:, 0]), (1, position[:, 1]), (2, position[:, 2]), (5, heading)):
            control[:, column] = np.interp(at, time_s, values)
        flight = Flight("path", Motion(control), self._T_body_cam, Lines(np.zeros(0), np.zeros(0), (), 0.0))
        self._check_clearance(flight)
        return flight

    def _check_clearance(self, flight: Flight) -> None:
        position = flight.position_m(np.arange(0.0, flight.duration_s + CHECK_STEP_S, CHECK_STEP_S))
        needed_m = self._surface_m(position[:, :2]) + self._clearance_m
        leaving = np.linalg.norm(position[:, :2] - position[0, :2], axis=1) < LEAVING_M
        leaving &= position[:, 2] > position[0, 2] - 0.1
        short_m = np.where(leaving, 0.0, needed_m - position[:, 2])
        worst = int(short_m.argmax())
        if short_m[worst] > 0:
            x, y, z = position[worst]
            raise UserError(
                f"the path is too low: at x {x:.1f}, y {y:.1f} it is {z:.1f} m high, and with a clearance of "
                f"{self._clearance_m:g} m above what stands there it must be {needed_m[worst]:.1f} m or more"
            )


def _require_short(time_s: float) -> None:
    if time_s > MAX_HOURS * 3600:
        raise UserError(f"the path takes {time_s / 3600:.1f} h; at most {MAX_HOURS:g} h are flown")


def _distinct(T_map_body: Float64) -> tuple[Float64, Float64]:
    """Places (K, 3) at least half a metre apart, and the headings (K,) there, unwrapped."""
    place, yaw = T_map_body[:, :3, 3], np.arctan2(T_map_body[:, 1, 0], T_map_body[:, 0, 0])
    kept = [0]
    for index in range(1, len(place)):
        if np.linalg.norm(place[index] - place[kept[-1]]) >= SPACING_M:
            kept.append(index)
    if len(kept) > 1:  # the end is flown to exactly
        kept[-1] = len(place) - 1
    return place[kept], np.unwrap(yaw[kept])


def _headings(position_m: Float64, vertices_m: Float64, yaw_rad: Float64) -> Float64:
    """The heading (N,) at samples of the way: at the one nearest to a vertex the vertex's, even turns in between."""
    step = np.linalg.norm(np.diff(position_m, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(step)])
    nearest, first = [0], 0
    length = np.linalg.norm(np.diff(vertices_m, axis=0), axis=1)
    for vertex, ahead_m in zip(vertices_m[1:-1], length[:-1], strict=True):
        # Only as far as the next vertex can be: a way may come back to where it was.
        last = int(np.searchsorted(along, along[first] + ahead_m + SPACING_M, side="right"))
        first += int(np.linalg.norm(position_m[first:last] - vertex, axis=1).argmin())
        nearest.append(first)
    nearest.append(len(position_m) - 1)
    return np.interp(along, along[nearest], yaw_rad)


# The drone that is flown live: along a planned flight, along a path, or by velocity commands. No ROS here.

# Keeps a drone that flies by velocity commands off the ground, the roofs and the walls.


HALF_WIDTH_M = 1.5  # of the lane that must be free
STEP_M = 1.0  # between the places looked at ahead
LAG_S = 0.8  # until a change of the allowed speed has become one of the drone
ENOUGH = 2 / 3  # of the clearance above what is flown over
GAIN_PER_S = 0.6  # allowed speed per metre left, close to the end of it


class Guard:
    """Limits velocities so that the drone can always stop `clearance_m` above or before what stands there.

    `surface_height_m` takes places (N, 2) in the map to the height (N,) of the highest thing there.
    """

    def __init__(
        self, surface_height_m: Callable[[Float64], Float64], clearance_m: float, max_acceleration_mps2: float
    ) -> None:
        self._surface_m, self._clearance_m = surface_height_m, clearance_m
        self._brake_mps2 = max_acceleration_mps2 / 2

    def limit(self, position_m: Float64, velocity_mps: Float64, wanted_mps: Float64) -> tuple[Float64, str | None]:
        """The velocity (3,) nearest to the wanted one that is safe, and what was held back and why, or None."""
        allowed, notice = wanted_mps.copy(), None
        speed = float(np.hypot(*wanted_mps[:2]))
        if speed > 0:
            ahead_m = self._free_ahead_m(position_m, velocity_mps, wanted_mps[:2] / speed, speed)
            limit = self._safe_speed(ahead_m)
            if limit < speed:
                allowed[:2] *= limit / speed
                notice = f"slows down or stops: it keeps {self._clearance_m:g} m off what stands ahead"
        lowest_m = self._lowest_m(position_m, velocity_mps)
        sink_limit = self._safe_speed(position_m[2] - lowest_m)
        if -allowed[2] > sink_limit:
            allowed[2] = -sink_limit
            notice = (
                f"descends no lower than z = {lowest_m:.1f} m: it keeps {self._clearance_m:g} m above ground and roofs"
            )
        return allowed, notice

    def _free_ahead_m(self, position_m: Float64, velocity_mps: Float64, direction: Float64, speed: float) -> float:
        """How far the lane in a direction is free, as far as matters."""
        reach_m = self._stopping_m(max(speed, float(np.hypot(*velocity_mps[:2])))) + self._clearance_m
        along = np.arange(0.0, reach_m + 2 * STEP_M, STEP_M)
        height_m = position_m[2] - self._stopping_m(max(0.0, -float(velocity_mps[2])))
        # A little less than the clearance, so that one that hovers just there is not caught.
        blocked = self._highest_m(position_m, direction, along) + ENOUGH * self._clearance_m > height_m
        return float(along[blocked.argmax()]) - STEP_M - self._clearance_m if blocked.any() else np.inf

    def _lowest_m(self, position_m: Float64, velocity_mps: Float64) -> float:
        """The lowest safe height over what the drone can no longer avoid to fly over."""
        speed = float(np.hypot(*velocity_mps[:2]))
        direction = velocity_mps[:2] / speed if speed > 0.01 else np.array([1.0, 0.0])
        along = np.arange(-STEP_M, self._stopping_m(speed) + 2 * STEP_M, STEP_M)
        return float(self._highest_m(position_m, direction, along).max()) + self._clearance_m

    def _highest_m(self, position_m: Float64, direction: Float64, along_m: Float64) -> Float64:
        """The highest surface across the lane at each distance (N,)."""
        across = np.array([-direction[1], direction[0]])
        sideways = np.array([-HALF_WIDTH_M, 0.0, HALF_WIDTH_M])
        places = position_m[:2] + along_m[:, None, None] * direction + sideways[None, :, None] * across
        return self._surface_m(places.reshape(-1, 2)).reshape(-1, 3).max(axis=1)

    def _stopping_m(self, speed_mps: float) -> float:
        return speed_mps * LAG_S + speed_mps**2 / (2 * self._brake_mps2)

    def _safe_speed(self, distance_m: float) -> float:
        """The speed from which the drone stops within a distance: proportional at the end, then a parabola."""
        knee_m = self._brake_mps2 / GAIN_PER_S**2
        if distance_m <= knee_m:
            return GAIN_PER_S * max(distance_m, 0.0)
        return float(np.sqrt(2 * self._brake_mps2 * (distance_m - knee_m / 2)))


TICK_S = 0.01  # commands act on this grid
GUARD_S = 0.04  # between looks at what stands in the way
REMEMBERED_S = 3.0  # how far back before the last step states can be asked for
SPEED_GAIN_PER_S = 2.5  # of the loop from velocity error to acceleration, and
ACCELERATION_LAG_S = 0.1  # from there to jerk: their product of 1/4 is critically damped
YAW_LAG_S = 0.15
YAW_ACCELERATION_RADPS2 = 3.0
AT_REST = (0.02, 0.05, 0.01)  # m/s, m/s^2, rad/s: what is left dies out along the next leg
BRAKING_LIMIT_S = 120.0
RAMP_S = 3.0  # a flight taken up in the middle comes to speed within this
TRANSIT_MARGIN_M = 5.0  # beyond the clearance: a flight rounds its corners
NO_COMMAND = np.zeros(4)


@dataclass(frozen=True)
class VehicleConfig:
    """What the drone can do."""

    max_speed_mps: float = setting(12.0, "largest horizontal speed on command", ge=0.1, le=100.0)
    max_climb_mps: float = setting(4.0, "largest climb and descent on command", ge=0.1, le=50.0)
    max_acceleration_mps2: float = setting(3.0, "largest acceleration on command", ge=0.1, le=50.0)
    max_jerk_mps3: float = setting(12.0, "largest jerk on command", ge=0.5, le=1000.0)
    max_yaw_rate_radps: float = setting(1.0, "largest rate of turn on command", ge=0.01, le=10.0)
    command_timeout_s: float = setting(0.5, "without commands for this long it stops", ge=0.01, le=60.0)
    clearance_m: float = setting(
        3.0, "distance that commands keep to ground, roofs and walls; two thirds of it at least", ge=0.5, le=100.0
    )
    path_speed_mps: float = setting(6.0, "speed along a path", ge=0.2, le=30.0)
    loop: bool = setting(True, "fly the plan again and again; false: hover at its end")


class Vehicle:
    """Flies `plan` from time 0 on until it is commanded otherwise.

    `surface_height_m` takes places (N, 2) in the map to the height (N,) of what stands there. `route` takes poses of
    the body (N, 4, 4), the first where it hovers, to a flight through them that begins and ends at rest; it raises
    UserError for what cannot be flown. Position, velocity, orientation and turning rate are continuous throughout.
    """

    def __init__(
        self,
        config: VehicleConfig,
        plan: Flown,
        surface_height_m: Callable[[Float64], Float64],
        route: Callable[[Float64], Flown],
    ) -> None:
        self._config, self._plan = config, plan
        self._surface_m, self._route = surface_height_m, route
        self._guard = Guard(surface_height_m, config.clearance_m, config.max_acceleration_mps2)
        first = FlightLeg(0.0, plan)
        self._legs: list[Leg] = [first]
        self._plan_legs: set[Leg] = {first}
        self._plan_phase_s = 0.0  # where the plan was left
        self._command, self._commanded_s = NO_COMMAND, -math.inf
        self._allowed_mps, self._guarded_until_s = np.zeros(3), -math.inf
        self._held_back: str | None = None
        self._stranded: str | None = None
        self._states: dict[float, BodyState] = {}  # asked for since the last step
        self.flown_s = 0.0

    @property
    def mode(self) -> str:
        """What it does: "plan", "path", "command" or "hover"."""
        leg = self._leg(self.flown_s)
        if isinstance(leg, FlightLeg) and self.flown_s < leg.end_s:
            return "plan" if leg in self._plan_legs else "path"
        if self._legs[-1] is not leg:
            return "path"  # braking for it
        return "command" if self._is_commanded() else "hover"

    @property
    def notice(self) -> str | None:
        """What it is commanded and does not do, and why."""
        return self._held_back or self._stranded

    def state(self, t_s: float) -> BodyState:
        """The body at a time of the last step or the seconds before, up to `flown_s`. UserError for one that is
        forgotten.
        """
        if t_s < self._legs[0].start_s:
            raise UserError(f"where the drone was {self.flown_s - t_s:.1f} s ago is forgotten")
        if t_s not in self._states:
            self._states[t_s] = self._leg(t_s).state(t_s)
        return self._states[t_s]

    def advance(self, t_s: float) -> None:
        """Fly on until a time."""
        self._states.clear()
        while len(self._legs) > 1 and self._legs[1].start_s < self.flown_s - REMEMBERED_S:
            self._plan_legs.discard(self._legs.pop(0))
        while self.flown_s < t_s - 1e-9:
            self._steer()
            self.flown_s = min(self.flown_s + TICK_S, t_s)

    def command(self, velocity_mps: Float64, yaw_rate_radps: float) -> None:
        """Leave plan or path and fly at a velocity (3,) forward, left and up, turning left.

        It is limited to what the drone can do. UserError when it is not finite.
        """
        wanted = np.array([*velocity_mps, yaw_rate_radps], float)
        if not np.all(np.isfinite(wanted)):
            raise UserError("the commanded velocity holds NaN or infinity; the drone goes on as before")
        config = self._config
        wanted[:2] *= min(1.0, config.max_speed_mps / max(float(np.hypot(*wanted[:2])), 1e-9))
        wanted[2] = np.clip(wanted[2], -config.max_climb_mps, config.max_climb_mps)
        wanted[3] = np.clip(wanted[3], -config.max_yaw_rate_radps, config.max_yaw_rate_radps)
        self._command, self._commanded_s, self._guarded_until_s = wanted, self.flown_s, -math.inf
        self._go_on_with([] if self._is_gliding() else [self._glide()])

    def fly_path(self, T_map_body: Float64) -> float:
        """Stop, fly through poses (N, 4, 4) and hover at the last; returns how many seconds that takes.

        UserError, and nothing changes, for a path that cannot be flown.
        """
        leg = self._begin(lambda stop: self._route(np.concatenate([stop.T_map_body[None], T_map_body])))
        return leg.end_s - self.flown_s

    def fly_plan(self) -> float:
        """Go back to where the plan was left, or to its start when it is over, and fly on; seconds until it is there.

        On the way the drone climbs above whatever stands there.
        """
        if self.mode == "plan":
            return 0.0
        phase_s = self._plan_phase_s if self._plan_phase_s < self._plan.duration_s - 1e-6 else 0.0
        goal = self._plan.state(phase_s).T_map_body
        transit = self._begin(lambda stop: self._route(self._over_the_roofs(stop.T_map_body, goal)))
        ramp_s = 0.0 if phase_s == 0.0 else RAMP_S
        leg = FlightLeg(transit.end_s, self._plan, phase_s, ramp_s, transit.state(transit.end_s))
        self._legs.append(leg)
        self._plan_legs.add(leg)
        return leg.start_s - self.flown_s

    # Legs ------------------------------------------------------------------------------------------------------

    def _leg(self, t_s: float) -> Leg:
        return self._legs[max(0, bisect_right(self._legs, t_s + 1e-9, key=lambda leg: leg.start_s) - 1)]

    def _steer(self) -> None:
        """Decide on the motion from now on, if nothing is decided yet."""
        leg = self._leg(self.flown_s)
        if leg is not self._legs[-1] or (isinstance(leg, FlightLeg) and self.flown_s < leg.end_s - 1e-9):
            return
        if leg in self._plan_legs and self._config.loop:
            self._plan_phase_s = 0.0
            try:
                self.fly_plan()
                return
            except UserError as error:
                self._stranded = f"hovers at the end of the plan: {error}"
        self._legs.append(self._commanded(self._glide()))

    def _begin(self, flight_from: Callable[[BodyState], Flown]) -> FlightLeg:
        """Brake, then fly what is made for the place of the stop."""
        braking = self._brake()
        stop_s = braking[-1].start_s + TICK_S
        stop = braking[-1].state(stop_s)
        leg = FlightLeg(stop_s, flight_from(stop), before=stop)
        self._go_on_with([*braking, leg])
        self._commanded_s = -math.inf
        return leg

    def _go_on_with(self, legs: Sequence[Leg]) -> None:
        """Replace whatever was to be flown from now on."""
        self._states.clear()
        self._held_back = self._stranded = None
        current = self._leg(self.flown_s)
        if isinstance(current, FlightLeg) and current in self._plan_legs:
            self._plan_phase_s = current.phase_s(self.flown_s)
        kept = [leg for leg in self._legs if leg.start_s < self.flown_s - 1e-9]
        self._legs = [*kept, *legs] if kept or legs else [current]

    def _is_gliding(self) -> bool:
        return isinstance(self._leg(self.flown_s), GlideLeg)

    def _glide(self) -> GlideLeg:
        """The present motion, going on by itself."""
        leg = self._leg(self.flown_s)
        if isinstance(leg, GlideLeg):
            return leg.then(self.flown_s)
        return GlideLeg.after(leg.state(self.flown_s))

    def _over_the_roofs(self, T_map_start: Float64, T_map_goal: Float64) -> Float64:
        """Poses (N, 4, 4) from start to goal: straight where that is free, else up, across and down."""
        start_m, goal_m = T_map_start[:3, 3], T_map_goal[:3, 3]
        count = int(np.ceil(np.linalg.norm(goal_m - start_m))) + 1
        way = np.linspace(start_m, goal_m, count + 1)
        lane = way[:, None, :2] + np.array([[-3.0, -3.0], [-3.0, 3.0], [0.0, 0.0], [3.0, -3.0], [3.0, 3.0]])
        needed_m = self._surface_m(lane.reshape(-1, 2)).reshape(-1, 5).max(axis=1) + self._config.clearance_m
        if np.all(way[:, 2] >= needed_m):
            return np.stack([T_map_start, T_map_goal])
        above = [T_map_start.copy(), T_map_goal.copy()]
        for T in above:
            T[2, 3] = max(start_m[2], goal_m[2], needed_m.max() + TRANSIT_MARGIN_M)
        return np.stack([T_map_start, *above, T_map_goal])

    # Control ---------------------------------------------------------------------------------------------------

    def _is_commanded(self) -> bool:
        return self.flown_s - self._commanded_s < self._config.command_timeout_s

    def _commanded(self, glide: GlideLeg) -> GlideLeg:
        """The next tick as commanded, as far as it is safe; without a command it stops."""
        command = self._command if self._is_commanded() else NO_COMMAND
        c, s = np.cos(glide.yaw_rad), np.sin(glide.yaw_rad)
        wanted = np.array([c * command[0] - s * command[1], s * command[0] + c * command[1], command[2]])
        if not np.any(wanted):
            self._held_back = None
            return self._controlled(glide, wanted, command[3])
        if self.flown_s > self._guarded_until_s - 1e-9:
            self._guarded_until_s = self.flown_s + GUARD_S
            allowed = self._guard.limit(glide.position_m, glide.velocity_mps, wanted)
            self._allowed_mps, self._held_back = allowed
        return self._controlled(glide, self._allowed_mps, command[3])

    def _controlled(self, glide: GlideLeg, velocity_mps: Float64, yaw_rate_radps: float) -> GlideLeg:
        """The tick that leads towards a velocity, within the limits of acceleration and jerk."""
        config = self._config
        error = velocity_mps - glide.velocity_mps
        size = float(np.linalg.norm(error))
        acceleration = error * (self._acceleration_for(size) / size) if size > 0 else np.zeros(3)
        jerk = (acceleration - glide.acceleration_mps2) / ACCELERATION_LAG_S
        jerk *= min(1.0, config.max_jerk_mps3 / max(float(np.linalg.norm(jerk)), 1e-9))
        yaw_acceleration = (yaw_rate_radps - glide.yaw_rate_radps) / YAW_LAG_S
        limit = YAW_ACCELERATION_RADPS2
        return replace(glide, jerk_mps3=jerk, yaw_acceleration_radps2=float(np.clip(yaw_acceleration, -limit, limit)))

    def _acceleration_for(self, error_mps: float) -> float:
        """Proportional to a small velocity error; to a large one what can be taken back in time at the allowed jerk."""
        jerk = self._config.max_jerk_mps3
        knee = jerk / SPEED_GAIN_PER_S**2
        beyond = math.sqrt(2 * jerk * max(0.0, error_mps - knee / 2))
        wanted = SPEED_GAIN_PER_S * error_mps if error_mps <= knee else beyond
        return min(wanted, self._config.max_acceleration_mps2)

    def _brake(self) -> list[GlideLeg]:
        """Ticks from now until it hovers."""
        glide, still = self._glide(), np.zeros(3)
        ticks: list[GlideLeg] = []
        while not ticks or (not _is_at_rest(glide) and len(ticks) < BRAKING_LIMIT_S / TICK_S):
            ticks.append(self._controlled(glide, still, 0.0))
            glide = ticks[-1].then(ticks[-1].start_s + TICK_S)
        return ticks


def _is_at_rest(glide: GlideLeg) -> bool:
    speed, acceleration, turn = AT_REST
    return bool(
        np.linalg.norm(glide.velocity_mps) < speed
        and np.linalg.norm(glide.acceleration_mps2) < acceleration
        and abs(glide.yaw_rate_radps) < turn
    )
