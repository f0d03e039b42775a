"""A flight around the block world: time to camera pose, smooth and seeded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.geometry import se3


@dataclass(frozen=True)
class OrbitFlight:
    """An inspection flight: loops around the place, each a little higher than the last, always looking at it.

    Neighbouring loops pass close to each other but never through the same pose, so a held-out stretch of the flight
    is new to the model yet lies inside what it has seen.
    """

    seed: int = 0
    loops: float = 6.0
    duration_s: float = 90.0
    radius_m: tuple[float, float] = (19.5, 20.5)
    height_m: tuple[float, float] = (19.0, 25.0)
    aim_wander_m: float = 0.5

    def T_map_cam(self, t_s: np.ndarray) -> np.ndarray:
        """Camera poses (N, 4, 4) at times (N,) in seconds from take-off."""
        t_s = np.atleast_1d(np.asarray(t_s, float))
        progress = t_s / self.duration_s
        turn = 2 * np.pi * self.loops * progress
        # Slow, incommensurate waves: their phases are the only thing the seed draws.
        phase = np.random.default_rng(self.seed).uniform(0, 2 * np.pi, 3)

        def wave(index: int, cycles: float) -> np.ndarray:
            return np.sin(2 * np.pi * cycles * progress + phase[index])

        radius = np.mean(self.radius_m) + np.ptp(self.radius_m) / 2 * wave(0, 2.3)
        height = self.height_m[0] + np.ptp(self.height_m) * progress
        eye = np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=-1)
        aim = self.aim_wander_m * np.stack([wave(1, 5.3), wave(2, 4.7), np.zeros_like(turn)], axis=-1)
        return se3.look_at(eye, aim)
