"""A flight with changing speed and course, as signals and as pictures, whose clocks can be set apart."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from pose2rgbd_ros.alignment.flow import COLUMNS, ROWS, FlowSignal
from pose2rgbd_ros.alignment.signals import MotionSignal, motion_from_positions, motion_from_velocities

SECOND = 1_000_000_000
START_NS = 1_700_000_000 * SECOND
_FINE_S = 0.01


@dataclass
class SkewedFlight:
    """Forward speed and turn rate wander smoothly; `constant` is a straight line at one speed."""

    seconds: float = 60.0
    seed: int = 0
    constant: bool = False
    noise: float = 1.0  # of the flow, px/s
    t_s: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.t_s = np.arange(-10.0, self.seconds + 10.0, _FINE_S)
        speed, turn = (self._smooth(width) for width in (1.5, 0.8))
        self.speed = np.full(len(self.t_s), 8.0) if self.constant else 6.0 + 2.0 * speed
        self.turn = 0.002 * turn if self.constant else 0.4 * turn
        heading = np.cumsum(self.turn) * _FINE_S
        self.velocity = self.speed[:, None] * np.stack([np.cos(heading), np.sin(heading)], axis=-1)
        self.position = np.cumsum(self.velocity, axis=0) * _FINE_S
        self.heading = heading

    def _smooth(self, width_s: float) -> np.ndarray:
        noise = gaussian_filter1d(self.rng.standard_normal(len(self.t_s)), width_s / _FINE_S)
        return noise / noise.std()

    def at(self, values: np.ndarray, t_s: np.ndarray) -> np.ndarray:
        """Values at other times."""
        columns = values.reshape(len(values), -1).T
        return np.stack([np.interp(t_s, self.t_s, column) for column in columns], axis=-1)

    def flow(self, rate_hz: float = 15.0, offset_s: float = 0.0, drift_ppm: float = 0.0) -> FlowSignal:
        """Flow of a camera that looks down; `offset_s` + drift is what must be added to its stamps."""
        t = np.arange(0.0, self.seconds, 1 / rate_hz)
        speed, turn = self.at(self.speed, t)[:, 0], self.at(self.turn, t)[:, 0]
        y, x = np.meshgrid(np.linspace(-0.7, 0.7, ROWS), np.linspace(-0.9, 0.9, COLUMNS), indexing="ij")
        cells = np.zeros((len(t), ROWS, COLUMNS, 2))
        cells[..., 1] = 10.0 * speed[:, None, None] - 160 * turn[:, None, None] * x
        cells[..., 0] = 160 * turn[:, None, None] * y
        cells += self.noise * np.random.default_rng(self.seed + 1).standard_normal(cells.shape)
        wrong_s = offset_s + 1e-6 * drift_ppm * (t - self.seconds / 2)
        return FlowSignal(
            START_NS + np.rint((t - wrong_s) * SECOND).astype(np.int64),
            np.full(len(t), 1 / rate_hz),
            cells.astype(np.float32),
            np.ones((len(t), ROWS, COLUMNS), np.float32),
            320,
            240,
        )

    def flow_of_halves(self, rate_hz: float, offsets_s: tuple[float, float]) -> FlowSignal:
        """Flow whose left and right half of the picture are what is seen at other times: each wants an offset of its
        own.
        """
        flow = self.flow(rate_hz)
        seconds = (flow.stamps_ns - START_NS) / SECOND
        columns = flow.cells.reshape(len(flow), -1).T
        left, right = (
            np.stack([np.interp(seconds + offset_s, seconds, c) for c in columns], axis=-1).reshape(flow.cells.shape)
            for offset_s in offsets_s
        )
        left[:, :, COLUMNS // 2 :] = right[:, :, COLUMNS // 2 :]
        return replace(flow, cells=left.astype(np.float32))

    def flow_of_changing_depth(self, rate_hz: float, change: float, over_s: float) -> FlowSignal:
        """Flow of a scene whose quarters come nearer and go away by a share `change` within some `over_s`."""
        flow = self.flow(rate_hz)
        rough = np.random.default_rng(self.seed + 7).standard_normal((len(flow) + 200, 2, 2))
        smooth = gaussian_filter1d(rough, over_s * rate_hz, axis=0)[100:-100]
        nearer = np.exp(change * np.kron(smooth / smooth.std(), np.ones((1, ROWS // 2, COLUMNS // 2))))
        return replace(flow, cells=(flow.cells * nearer[..., None]).astype(np.float32))

    def stamps_ns(self, t_s: np.ndarray) -> np.ndarray:
        """Of the motion's clock."""
        return START_NS + np.rint(t_s * SECOND).astype(np.int64)

    def odometry(self, rate_hz: float = 50.0) -> MotionSignal:
        """Velocity and turn rate in the body."""
        t = np.arange(-8.0, self.seconds + 8.0, 1 / rate_hz)
        zero = np.zeros(len(t))
        velocity = np.stack([self.at(self.speed, t)[:, 0], zero, zero], axis=-1)
        rates = np.stack([zero, zero, self.at(self.turn, t)[:, 0]], axis=-1)
        noisy = velocity + 0.05 * np.random.default_rng(self.seed + 2).standard_normal(velocity.shape)
        return motion_from_velocities("odometry", self.stamps_ns(t), noisy, rates, of_body=True)

    def gps(self, rate_hz: float = 10.0, noise_m: float = 0.25) -> MotionSignal:
        """Positions with noise."""
        t = np.arange(-8.0, self.seconds + 8.0, 1 / rate_hz)
        position = np.concatenate([self.at(self.position, t), np.zeros((len(t), 1))], axis=1)
        noise = noise_m * np.random.default_rng(self.seed + 3).standard_normal(position.shape)
        return motion_from_positions("GPS", self.stamps_ns(t), position + noise)

    def picture(self, t_s: float, size: tuple[int, int] = (128, 96), metres: float = 24.0) -> np.ndarray:
        """Grey pixels of a camera that looks straight down on a pattern, its top to the front."""
        x, y = self.at(self.position, np.array([t_s]))[0]
        heading = float(np.interp(t_s, self.t_s, self.heading))
        scale = size[0] / metres
        turned = np.array([[np.sin(heading), -np.cos(heading)], [-np.cos(heading), -np.sin(heading)]])
        # Pattern pixel = pattern scale * map position; the picture's right is the vehicle's right.
        pattern_of_picture = np.zeros((2, 3))
        pattern_of_picture[:, :2] = _PATTERN_PER_M * turned.T / scale
        middle = np.array(size) / 2
        pattern_of_picture[:, 2] = _PATTERN_PER_M * np.array([x, y]) - pattern_of_picture[:, :2] @ middle
        pattern_of_picture[:, 2] %= len(_PATTERN) - 0.0
        return cv2.warpAffine(
            _PATTERN, pattern_of_picture, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_WRAP,
        )  # fmt: skip


_PATTERN_PER_M = 4.0


def _pattern() -> np.ndarray:
    """A pattern that repeats without a seam."""
    rng = np.random.default_rng(5)
    small = rng.integers(0, 256, (512, 512)).astype(np.float32)
    wrapped = np.pad(small, 16, mode="wrap")
    smooth = cv2.GaussianBlur(wrapped, (0, 0), 2.5)[16:-16, 16:-16]
    smooth = 128 + 45 * (smooth - smooth.mean()) / smooth.std()
    return np.clip(smooth, 0, 255).astype(np.uint8)


_PATTERN = _pattern()
