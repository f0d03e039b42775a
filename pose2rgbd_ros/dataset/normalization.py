"""Poses and depth in [-1, 1]: what the networks see, and the way back.

The seed paper (Pose2RGBD, section 2): a pose is "restricted to a space of [-1 : 1], by applying min-max normalization
over its extremes"; the output depth "is also normalized to [-1 : 1] and then reprojected into the original space".

Two things are added, because plain min-max breaks on real flights, and one can be asked for:

* a range has a floor, so that noise in a direction without motion (constant altitude) is not blown up to [-1, 1];
* a quaternion's sign is taken in the hemisphere of a stored reference, so that near-equal rotations stay near;
* with a joint range a metre counts alike along all axes, and a turn about all: by its own extremes the jitter of an
  attitude that is held counts as much as the length of the flight.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions, se3

Rotation = Literal["quaternion", "euler"]
PoseRange = Literal["axis", "joint"]

# Floors of the ranges. Position: a share of the longest axis, and a length for a camera that never moves.
# Rotation: 0.02 of a quaternion component, 0.04 rad of an Euler angle: both a turn of about 2.3 degrees.
POSITION_FLOOR_SHARE = 0.02
POSITION_FLOOR_M = 0.01
ROTATION_FLOOR: dict[str, float] = {"quaternion": 0.02, "euler": 0.04}
DEPTH_FLOOR_SHARE = 0.01
DEPTH_FLOOR = 1e-3

SAME = 1e-6  # of a number, or a share of it: as alike as two processors work it out

_DEPTH_CHUNK = 64  # images looked at together; the depth stack may be a memmap larger than memory


@dataclass(frozen=True)
class Normalization:
    """Min-max extremes of one training set.

    Values outside the extremes are encoded outside [-1, 1], never clipped: decoding gives them back, and a pose beyond
    the trained volume stays recognisable. Depth is in the dataset's unit (metres, or relative).
    """

    position_min_m: tuple[float, ...]
    position_max_m: tuple[float, ...]
    rotation_min: tuple[float, ...]
    rotation_max: tuple[float, ...]
    rotation: Rotation = "quaternion"
    reference_quat_xyzw: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0)
    depth_min: float | None = None
    depth_max: float | None = None

    def __post_init__(self) -> None:
        _check(self)

    def agrees(self, other: Normalization) -> bool:
        """Whether both are of the same frames: other processors round means of rotations and depths otherwise."""
        kind = (self.rotation, self.depth_min is None)
        if kind != (other.rotation, other.depth_min is None):
            return False
        return bool(np.allclose(self._numbers(), other._numbers(), rtol=SAME, atol=SAME))

    def _numbers(self) -> list[float]:
        extremes = (*self.position_min_m, *self.position_max_m, *self.rotation_min, *self.rotation_max)
        return [*extremes, *self.reference_quat_xyzw, self.depth_min or 0.0, self.depth_max or 0.0]

    @classmethod
    def fit(
        cls,
        T_map_cam: ArrayLike,
        depth: ArrayLike | None = None,
        rotation: Rotation = "quaternion",
        depth_frames: ArrayLike | None = None,
        pose_range: PoseRange = "axis",
    ) -> Normalization:
        """Extremes of training poses (N, 4, 4) and, where given, depth images (M, H, W) with NaN unknown.

        `depth_frames`: which of the depth images count (all by default); so a memory map larger than memory need not
        be copied to choose the training frames. `pose_range`: "axis", every number by its own extremes; "joint", all
        three axes of position by the longest, and the rotation's numbers likewise, each about its own middle.

        Raises UserError when there is no pose, a pose is not finite, or no depth value is known.
        """
        T = np.asarray(T_map_cam, dtype=np.float64)
        if T.ndim != 3 or len(T) == 0:
            raise UserError(f"no poses to normalise (array of shape {T.shape}); the training set must hold frames")
        if not np.isfinite(T).all():
            raise UserError("the training poses hold NaN or infinity; remove these frames from the dataset")
        position_m, quat_xyzw = se3.split(T)
        reference = reference_quaternion(quat_xyzw)
        components = _rotation_components(quat_xyzw, rotation, reference)
        lowest, highest = position_m.min(axis=0), position_m.max(axis=0)
        longest_m, joint = float((highest - lowest).max()), pose_range == "joint"
        position_floor = max(POSITION_FLOOR_M, longest_m if joint else POSITION_FLOOR_SHARE * longest_m)
        position_min, position_max = _with_floor(lowest, highest, position_floor)
        least, most = components.min(axis=0), components.max(axis=0)
        rotation_floor = max(ROTATION_FLOOR[rotation], float((most - least).max()) if joint else 0.0)
        rotation_min, rotation_max = _with_floor(least, most, rotation_floor)
        depth_min, depth_max = _depth_extremes(depth, depth_frames) if depth is not None else (None, None)
        return cls(
            position_min, position_max, rotation_min, rotation_max, rotation, _floats(reference), depth_min, depth_max
        )

    @property
    def pose_dim(self) -> Literal[6, 7]:
        """Length of an encoded pose: 7 with quaternions, 6 with Euler angles."""
        return 7 if len(self.rotation_min) == 4 else 6

    def encode_pose(self, T_map_cam: ArrayLike) -> NDArray[np.float32]:
        """(B, 4, 4) -> float32 (B, pose_dim): position, then quaternion xyzw or roll, pitch, yaw; [-1, 1] inside."""
        position_m, quat_xyzw = se3.split(np.asarray(T_map_cam, dtype=np.float64))
        components = _rotation_components(quat_xyzw, self.rotation, np.asarray(self.reference_quat_xyzw))
        raw = np.concatenate([position_m, components], axis=-1)
        return _encode(raw, *self._pose_extremes()).astype(np.float32)

    def decode_pose(self, encoded: ArrayLike) -> NDArray[np.float64]:
        """float (B, pose_dim) -> T_map_cam (B, 4, 4); the quaternion is renormalised. ValueError: another pose_dim."""
        values = np.asarray(encoded, dtype=np.float64)
        if values.shape[-1:] != (self.pose_dim,):
            raise ValueError(f"encoded pose of shape {values.shape}; expected (..., {self.pose_dim})")
        raw = _decode(values, *self._pose_extremes())
        if self.rotation == "quaternion":
            quat_xyzw = quaternions.normalize(raw[..., 3:])
        else:
            quat_xyzw = quaternions.from_euler_rpy(raw[..., 3:])
        return np.asarray(se3.make(raw[..., :3], quat_xyzw), dtype=np.float64)

    def encode_depth(self, depth: ArrayLike) -> NDArray[np.float32]:
        """Depth of any shape -> float32, [-1, 1] within the extremes; NaN stays NaN."""
        return _encode(np.asarray(depth, dtype=np.float32), *self._depth_range()).astype(np.float32)

    def decode_depth(self, encoded: ArrayLike) -> NDArray[np.float32]:
        """The inverse of :meth:`encode_depth`."""
        return _decode(np.asarray(encoded, dtype=np.float32), *self._depth_range()).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, ready for YAML."""
        values = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Normalization:
        """The inverse of :meth:`to_dict`; UserError names what is missing, unknown or impossible."""
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or set(values) - known:
            raise UserError(f"normalization: expected the keys {', '.join(sorted(known))}; found {values!r:.200}")
        try:
            plain: dict[str, Any] = {k: _floats(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**plain)
        except (TypeError, ValueError) as error:
            raise UserError(f"normalization: {error}") from error

    def _pose_extremes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return (
            np.asarray(self.position_min_m + self.rotation_min),
            np.asarray(self.position_max_m + self.rotation_max),
        )

    def _depth_range(self) -> tuple[float, float]:
        if self.depth_min is None or self.depth_max is None:
            raise UserError("this normalization was fitted without depth; train on a dataset that has depth images")
        return self.depth_min, self.depth_max


def reference_quaternion(quat_xyzw: ArrayLike) -> NDArray[np.float64]:
    """The quaternion (4,) whose hemisphere cuts through the fewest of the rotations (N, 4).

    Usually their mean (largest eigenvector of sum q q^T: Markley et al., "Averaging quaternions", 2007). But a survey
    flown back and forth has its mean on one of the two headings, and then the sign of every frame of the other heading
    hangs on noise. So sums of pairs of the rotations compete with the mean, and the one with the least mass of frames
    near its cut wins. A full turn has to be cut somewhere; it is cut where frames are rare.
    """
    quats = quaternions.normalize(np.asarray(quat_xyzw, dtype=np.float64))
    mean = np.linalg.eigh(quats.T @ quats)[1][:, -1]
    some = quats[np.linspace(0, len(quats) - 1, min(len(quats), 16)).astype(int)]
    first, second = np.triu_indices(len(some), k=1)
    sums = np.concatenate([some[first] + some[second], some[first] - some[second]])
    lengths = np.linalg.norm(sums, axis=1)
    sums = sums[lengths > 1e-3] / lengths[lengths > 1e-3, None]
    candidates = np.concatenate([mean[None], sums])
    near_cut = np.exp(-((candidates @ quats.T / 0.25) ** 2)).mean(axis=1)
    near_cut[0] -= 1e-3  # the mean wins unless another is clearly better
    best = candidates[int(near_cut.argmin())]
    return np.asarray(quaternions.canonical(best), dtype=np.float64)


def _rotation_components(
    quat_xyzw: NDArray[np.float64], rotation: str, reference_xyzw: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Quaternion in the reference's hemisphere, or roll-pitch-yaw within half a turn of the reference's."""
    if rotation == "quaternion":
        return np.asarray(quaternions.canonical(quat_xyzw, reference_xyzw), dtype=np.float64)
    angles = quaternions.to_euler_rpy(quat_xyzw)
    middle = quaternions.to_euler_rpy(reference_xyzw)
    return np.asarray(middle + np.mod(angles - middle + np.pi, 2 * np.pi) - np.pi, dtype=np.float64)


def _encode(values: NDArray[Any], lowest: Any, highest: Any) -> NDArray[Any]:
    return np.asarray((values - lowest) / (highest - lowest) * 2 - 1)


def _decode(values: NDArray[Any], lowest: Any, highest: Any) -> NDArray[Any]:
    return np.asarray((values + 1) / 2 * (highest - lowest) + lowest)


def _with_floor(
    lowest: NDArray[np.float64], highest: NDArray[np.float64], floor: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Ranges narrower than the floor are widened to it, about their middle."""
    missing = np.maximum(0.0, floor - (highest - lowest)) / 2
    return _floats(lowest - missing), _floats(highest + missing)


def _depth_extremes(depth: ArrayLike, frames: ArrayLike | None) -> tuple[float, float]:
    stack = depth if isinstance(depth, np.ndarray) else np.asarray(depth)
    chosen = np.arange(len(stack)) if frames is None else np.asarray(frames)
    lowest, highest = np.inf, -np.inf
    for start in range(0, len(chosen), _DEPTH_CHUNK):
        chunk = np.asarray(stack[chosen[start : start + _DEPTH_CHUNK]])
        known = chunk[np.isfinite(chunk)]
        if known.size:
            lowest, highest = min(lowest, float(known.min())), max(highest, float(known.max()))
    if lowest > highest:
        raise UserError("no depth image of the training set holds a known value; train with output 'rgb' instead")
    floor = max(DEPTH_FLOOR, DEPTH_FLOOR_SHARE * abs(highest))
    if highest - lowest < floor:
        lowest = max(0.0, (lowest + highest - floor) / 2) if lowest >= 0 else (lowest + highest - floor) / 2
        highest = lowest + floor
    return lowest, highest


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _check(norm: Normalization) -> None:
    """UserError for extremes no fit can give: they come from files too."""
    if norm.rotation not in ROTATION_FLOOR:
        raise UserError(f"normalization: rotation is {norm.rotation!r}; it must be quaternion or euler")
    length = 4 if norm.rotation == "quaternion" else 3
    expected = {"position": (norm.position_min_m, norm.position_max_m, 3)}
    expected["rotation"] = (norm.rotation_min, norm.rotation_max, length)
    if norm.depth_min is not None and norm.depth_max is not None:
        expected["depth"] = ((norm.depth_min,), (norm.depth_max,), 1)
    elif (norm.depth_min is None) != (norm.depth_max is None):
        raise UserError("normalization: depth_min and depth_max must be given together")
    for name, (lowest, highest, size) in expected.items():
        low, high = np.asarray(lowest, dtype=float), np.asarray(highest, dtype=float)
        if low.shape != (size,) or high.shape != (size,) or not (np.isfinite([low, high]).all() and (low < high).all()):
            raise UserError(f"normalization: the extremes of {name} must be {size} finite numbers with min < max")
    reference = np.asarray(norm.reference_quat_xyzw, dtype=float)
    if reference.shape != (4,) or not abs(np.linalg.norm(reference) - 1) < 1e-3:
        raise UserError("normalization: reference_quat_xyzw must be a unit quaternion")
