"""The clock of images against that of a log, by where the images' own track says the camera was."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.alignment.tracks import IN_90, TrackOffset, offset_of_tracks

SECONDS = 70.0


def lawnmower(seconds: np.ndarray) -> np.ndarray:
    """(N, 3): lines of about 60 m there and back, no two alike, 15 m apart, turns rounded."""
    along = 30.0 * np.cos(np.pi * seconds / 12.0) * (1 + 0.3 * np.sin(seconds / 17.0))
    return np.column_stack([along, 15.0 * seconds / 12.0, 50 + np.sin(seconds / 5.0)])


def line(seconds: np.ndarray) -> np.ndarray:
    return np.column_stack([6.0 * seconds, 0 * seconds, 50 + 0 * seconds])


def takeoff(seconds: np.ndarray) -> np.ndarray:
    """Along a line, ever faster: the speed tells the time, but so would a map that grows."""
    return np.column_stack([0.1 * (seconds + 20) ** 2, 0 * seconds, 50 + 0 * seconds])


def circle(seconds: np.ndarray) -> np.ndarray:
    return np.column_stack([40 * np.cos(seconds / 8), 40 * np.sin(seconds / 8), 50 + 0 * seconds])


def found(path, late_s: float, seed: int, noise_m: float = 1.0) -> TrackOffset:
    """A track of another frame and size at 2.5 Hz, and a log of 1 Hz whose clock is ahead."""
    images_s, fixes_s = np.arange(0.0, SECONDS, 0.4), np.arange(-18.0, SECONDS + 18.0)
    track = 0.3 * path(images_s) @ Rotation.from_rotvec([0.2, -0.4, 1.0]).as_matrix().T + [7.0, 8.0, 9.0]
    log = path(fixes_s) + noise_m * np.random.default_rng(seed).normal(size=(len(fixes_s), 3)) * [1, 1, 1.6]
    return offset_of_tracks((1e9 * images_s).astype(np.int64), track, (1e9 * (fixes_s + late_s)).astype(np.int64), log)


def test_a_metre_of_noise_leaves_hundredths_of_a_second_and_the_interval_holds() -> None:
    answers = [found(lawnmower, late_s, seed) for seed, late_s in enumerate(np.linspace(-9.3, 9.4, 16))]
    errors = np.array([answer.offset_s for answer in answers]) - np.linspace(-9.3, 9.4, 16)
    assert all(answer.observable for answer in answers)
    assert np.abs(errors).max() < 0.1
    inside = np.abs(errors) < IN_90 * np.array([answer.sigma_s for answer in answers])
    assert inside.mean() > 0.7
    assert np.median([answer.residual_m for answer in answers]) < 1.3


def test_fixes_that_are_wrong_for_a_while_do_not_matter_much() -> None:
    images_s, fixes_s = np.arange(0.0, SECONDS, 0.4), np.arange(-18.0, SECONDS + 18.0)
    log = lawnmower(fixes_s)
    log[40:48] += [25.0, -30.0, 0.0]
    answer = offset_of_tracks(
        (1e9 * images_s).astype(np.int64), lawnmower(images_s), (1e9 * (fixes_s + 2.0)).astype(np.int64), log
    )
    assert abs(answer.offset_s - 2.0) < 0.1


def test_ways_that_any_offset_fits_are_refused() -> None:
    """A straight line slides along itself, a circle turns about its middle."""
    for path in (line, takeoff, circle):
        answer = found(path, 3.0, 1)
        assert not answer.observable, path.__name__
        assert (
            "nearly one line" in answer.why
            or "change its speed or direction" in answer.why
            or "alike" in answer.why
            or "last of them" in answer.why
        )


def test_what_does_not_overlap_is_said() -> None:
    stamps = np.arange(20, dtype=np.int64) * 10**9
    assert (
        "do not overlap"
        in offset_of_tracks(stamps, lawnmower(stamps / 1e9), stamps + 10**12, lawnmower(stamps / 1e9)).why
    )
    assert "too few" in offset_of_tracks(stamps[:3], lawnmower(stamps[:3] / 1e9), stamps, lawnmower(stamps / 1e9)).why
