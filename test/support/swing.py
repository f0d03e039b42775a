"""A swinging flight in closed form: positions, attitudes and all their derivatives, written down independently."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.sim.state import BodyState

# Amplitude (m), angular frequency (rad/s) and phase of x, y, z; the same of roll, pitch, yaw (rad).
_PATH = np.array([[40.0, 0.21, 0.3], [30.0, 0.33, 1.1], [4.0, 0.5, 2.0]])
_TURN = np.array([[0.12, 0.9, 0.0], [0.15, 0.7, 0.4], [1.2, 0.25, 0.9]])


def state_at(t_s: float) -> BodyState:
    """The true state at any time; 50 m up, up to some 12 m/s and 0.3 rad/s."""
    path, speed, acceleration = _swing(_PATH, t_s)
    (roll, pitch, yaw), (roll_d, pitch_d, yaw_d), _ = _swing(_TURN, t_s)
    position = path + np.array([0.0, 0.0, 50.0])
    T_map_body = se3.make(position, quaternions.from_euler_rpy([roll, pitch, yaw]))
    sr, cr, sp, cp = np.sin(roll), np.cos(roll), np.sin(pitch), np.cos(pitch)
    angular = np.array([roll_d - yaw_d * sp, pitch_d * cr + yaw_d * cp * sr, -pitch_d * sr + yaw_d * cp * cr])
    return BodyState(t_s, T_map_body, speed, acceleration, angular)


def _swing(waves: np.ndarray, t_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size, frequency, phase = waves.T
    angle = frequency * t_s + phase
    return (size * np.sin(angle), size * frequency * np.cos(angle), -size * frequency**2 * np.sin(angle))
