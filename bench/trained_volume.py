"""Times the question "is this pose inside the trained volume?", asked for every frame. `python
bench/trained_volume.py`.
"""

from __future__ import annotations

import time

import numpy as np
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.rendering.trust import TrainedVolume

TRAINING_POSES = 10_000
QUERIES = 2_000


def survey(count: int) -> np.ndarray:
    """Poses (N, 4, 4) on circles of 50 m, nose forward, drifting along x."""
    angle = np.linspace(0, 200, count)
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, 3] = np.stack([50 * np.cos(angle) + angle / 10, 50 * np.sin(angle), np.full(count, 30.0)], axis=1)
    T[:, :3, :3] = Rotation.from_euler("z", angle[:, None]).as_matrix()
    return T


def main() -> None:
    """Print median and 95th percentile over single questions near the track."""
    poses = survey(TRAINING_POSES)
    volume = TrainedVolume(poses)
    generator = np.random.default_rng(0)
    queries = poses[generator.integers(0, TRAINING_POSES, QUERIES)]
    queries[:, :3, 3] += generator.normal(0, 4, (QUERIES, 3))
    times = []
    for T in queries:
        started = time.perf_counter()
        volume.check(T)
        times.append(time.perf_counter() - started)
    p50, p95 = np.percentile(times, (50, 95)) * 1e6
    print(f"TrainedVolume.check, {TRAINING_POSES} training poses: p50 {p50:.0f} us, p95 {p95:.0f} us")


if __name__ == "__main__":
    main()
