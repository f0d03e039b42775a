"""Odometry measured as the public tools do: their own figures, closed forms, and what each alignment forgives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.odometry import (
    ALIGNMENTS,
    OdometryProtocol,
    Paired,
    absolute_errors,
    align,
    odometry_metrics,
    relative_errors,
    segment_errors,
    snippet_errors,
    snippets_of,
)
from pose2rgbd_ros.geometry import se3

LENGTHS = (10.0, 20.0, 40.0)


def _walk(frames: int, seed: int = 0, turn_rad: float = 0.03) -> np.ndarray:
    """A wandering path of a metre a frame."""
    rng = np.random.default_rng(seed)
    twists = np.column_stack(
        [rng.normal(0, 0.05, (frames - 1, 2)), np.ones(frames - 1), rng.normal(0, turn_rad, (frames - 1, 3))]
    )
    T = [np.eye(4)]
    for step in se3.exponential(twists):
        T.append(T[-1] @ step)
    return np.array(T)


def _noisy(T: np.ndarray, seed: int = 1) -> np.ndarray:
    """The same path with errors in each step, which add up."""
    rng = np.random.default_rng(seed)
    off = se3.exponential(
        np.column_stack([rng.normal(0, 0.02, (len(T) - 1, 3)), rng.normal(0, 0.004, (len(T) - 1, 3))])
    )
    steps = np.linalg.inv(T[:-1]) @ T[1:] @ off
    found = [T[0]]
    for step in steps:
        found.append(found[-1] @ step)
    return np.array(found)


def _scaled(T: np.ndarray, scale: float) -> np.ndarray:
    scaled = T.copy()
    scaled[:, :3, 3] *= scale
    return scaled


REFERENCE = _walk(120)
ESTIMATE = _noisy(REFERENCE)


def _metrics(T_ref: np.ndarray, T_est: np.ndarray, alignment: str) -> dict[str, float]:
    return odometry_metrics(Paired.of(T_ref, T_est), OdometryProtocol(alignment=alignment, lengths_m=LENGTHS))


# What kitti-odom-eval writes of the same files (README.txt beside them), all its digits.
PUBLISHED = {
    ("7dof", "09"): "2.528 0.288 10.729 0.054 0.037",
    ("7dof", "10"): "2.221 0.369 3.356 0.047 0.043",
    ("6dof", "09"): "2.607 0.288 10.880 0.056 0.037",
    ("6dof", "10"): "2.293 0.369 3.721 0.047 0.043",
    ("scale", "09"): "2.666 0.288 17.883 0.057 0.037",
    ("scale", "10"): "2.284 0.369 9.032 0.047 0.043",
}
# ATE and rotation error (mean, standard deviation) of their snippets of five frames by SfMLearner's code and its port,
# which agree, and how many there are.
SNIPPETS = {"09": "0.01417 0.00767 0.00071 0.00030 1587", "10": "0.01197 0.00860 0.00081 0.00036 1197"}
PRINTED = ("t_err_percent", "r_err_deg_100m", "ate_m", "rpe_m", "rpe_deg")


@pytest.mark.parametrize(("alignment", "sequence"), PUBLISHED)
def test_a_published_result_scores_as_at_the_public_tool(real_data: Path, alignment: str, sequence: str) -> None:
    def read(name: str) -> np.ndarray:
        rows = np.loadtxt(real_data / "kitti_odometry" / f"{name}_{sequence}.txt").reshape(-1, 3, 4)
        return np.concatenate([rows, np.tile([[[0.0, 0, 0, 1]]], (len(rows), 1, 1))], axis=1)

    found = odometry_metrics(Paired.of(read("gt"), read("example_1")), OdometryProtocol(alignment=alignment))
    assert " ".join(f"{found[name]:.3f}" for name in PRINTED) == PUBLISHED[alignment, sequence]
    names = ("snippet_ate_m", "snippet_ate_std_m", "snippet_rotation_rad", "snippet_rotation_std_rad")
    snippets = " ".join(f"{found[name]:.5f}" for name in names)
    assert f"{snippets} {found['snippets']}" == SNIPPETS[sequence]


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_a_perfect_estimate_has_no_error(alignment: str) -> None:
    found = _metrics(REFERENCE, REFERENCE, alignment)
    assert found["scale"] == pytest.approx(1)
    for name in (*PRINTED, "rpe_rmse_m", "ate_max_m", "snippet_ate_m", "snippet_rotation_rad"):
        assert found[name] == pytest.approx(0, abs=1e-5), name


rigid = st.builds(lambda twist: se3.exponential(np.array(twist)), st.lists(st.floats(-3, 3), min_size=6, max_size=6))
# What the figures of an estimate must not depend on: a rigid motion of its world, its size.
FORGIVES_MOTION = tuple(ALIGNMENTS)
FORGIVES_SCALE = ("scale", "scale_7dof", "7dof")
OF_TRUE_SIZE = (*PRINTED, "ate_median_m", "rpe_rmse_m", "snippet_ate_m", "snippet_rotation_rad")


@given(rigid, st.floats(0.02, 50))
@settings(max_examples=15)
def test_what_each_alignment_forgives(T_other_map: np.ndarray, scale: float) -> None:
    for alignment in ALIGNMENTS:
        plain = _metrics(REFERENCE, ESTIMATE, alignment)
        moved = _metrics(REFERENCE, T_other_map @ ESTIMATE, alignment)
        both = _metrics(T_other_map @ REFERENCE, ESTIMATE, alignment)
        sized = _metrics(REFERENCE, _scaled(ESTIMATE, scale), alignment)
        for name in OF_TRUE_SIZE:
            assert moved[name] == pytest.approx(plain[name], rel=1e-6, abs=1e-6), (alignment, name)
            assert both[name] == pytest.approx(plain[name], rel=1e-6, abs=1e-6), (alignment, name)
            if alignment in FORGIVES_SCALE:
                assert sized[name] == pytest.approx(plain[name], rel=1e-6, abs=1e-6), (alignment, name)
        if alignment in FORGIVES_SCALE:
            assert sized["scale"] * scale == pytest.approx(plain["scale"])


@given(st.floats(1.1, 5))
@settings(max_examples=10)
def test_a_wrong_size_shows_where_it_is_not_forgiven(scale: float) -> None:
    """Of a path that is too large by a factor every segment is off by (factor - 1) of its length."""
    for alignment in ("none", "6dof"):
        found = _metrics(REFERENCE, _scaled(REFERENCE, scale), alignment)
        segments = segment_errors(align(Paired.of(REFERENCE, REFERENCE), "none"), LENGTHS)
        apart = np.linalg.norm(REFERENCE[segments.first, :3, 3] - REFERENCE[segments.last, :3, 3], axis=1)
        assert found["t_err_percent"] == pytest.approx(100 * (scale - 1) * (apart / segments.length_m).mean(), rel=1e-9)
        assert found["r_err_deg_100m"] == pytest.approx(0, abs=1e-4)
        assert found["rpe_m"] == pytest.approx(
            (scale - 1) * np.linalg.norm(np.diff(REFERENCE[:, :3, 3], axis=0), axis=1).mean(), rel=1e-9
        )


def test_the_best_of_an_alignment_is_its_own() -> None:
    """7dof gives the smallest ATE of all, and laying only the first frames on each other the largest of the rigid."""
    ate = {alignment: _metrics(REFERENCE, ESTIMATE, alignment)["ate_m"] for alignment in ALIGNMENTS}
    assert ate["7dof"] <= ate["6dof"] < ate["none"]
    assert ate["7dof"] < ate["scale"] <= ate["none"]
    assert ate["scale"] < ate["scale_7dof"]  # its factor is the best of another motion


def test_segments_begin_every_tenth_frame_and_end_beyond_their_length() -> None:
    """Along a line of a metre a frame the frame at exactly the length does not end a segment yet."""
    line = np.tile(np.eye(4), (35, 1, 1))
    line[:, 2, 3] = np.arange(35.0)
    found = segment_errors(align(Paired.of(line, line), "none"), (10.0, 20.0), start_every=10)
    assert list(zip(found.first, found.last, found.length_m, strict=True)) == [
        (0, 11, 10), (0, 21, 20), (10, 21, 10), (10, 31, 20), (20, 31, 10),
    ]  # fmt: skip


def test_a_turn_of_constant_error() -> None:
    """Of an estimate that turns too far by an angle a frame r_err is that angle in a frame's length."""
    off_rad = 1e-3
    line = np.tile(np.eye(4), (60, 1, 1))
    line[:, 2, 3] = np.arange(60.0)
    turned = [np.eye(4)]
    for _ in range(59):
        turned.append(turned[-1] @ se3.exponential([0, 0, 1, 0, off_rad, 0]))
    aligned = align(Paired.of(line, np.array(turned)), "none")
    metres, angle = relative_errors(aligned)
    np.testing.assert_allclose(angle, off_rad, rtol=1e-6)
    segments = segment_errors(aligned, (10.0,))
    np.testing.assert_allclose(segments.r_err, 11 * off_rad / 10, rtol=1e-6)
    assert metres.max() < off_rad


def test_missing_frames_are_no_steps_and_end_no_segment() -> None:
    kept = np.r_[0:40, 52:120]
    whole = Paired.of(REFERENCE, ESTIMATE)
    gappy = Paired.of(REFERENCE, ESTIMATE[kept], kept)
    assert gappy.length_m == whole.length_m
    assert len(relative_errors(align(gappy, "none"))[0]) == len(kept) - 2
    all_segments = segment_errors(align(whole, "none"), LENGTHS)
    left = segment_errors(align(gappy, "none"), LENGTHS)
    there = np.isin(all_segments.first, kept) & np.isin(all_segments.last, kept)
    assert there.sum() == len(left.first) < len(all_segments.first)
    np.testing.assert_allclose(left.t_err, all_segments.t_err[there], rtol=1e-9)
    reference, _ = snippets_of(gappy, 5)
    assert len(reference) == len(kept) - 2 * 4


def test_a_snippet_by_hand() -> None:
    """Two of four errors of 1 and 2 m across the path, none along it: sqrt(1 + 4) / 5, and 0.1 rad in one of five."""
    reference = np.tile(np.eye(4), (1, 5, 1, 1))
    reference[0, :, 2, 3] = np.arange(5.0)
    estimate = reference.copy()
    estimate[0, 1, 0, 3], estimate[0, 2, 0, 3] = 1.0, 2.0
    estimate[0, 4, :3, :3] = se3.exponential([0, 0, 0, 0, 0.1, 0])[:3, :3]
    found = snippet_errors(reference, estimate)
    scale = 30 / 35
    off = (scale * estimate - reference)[0, :, :3, 3]
    assert found.scale[0] == pytest.approx(scale)
    assert found.ate_m[0] == pytest.approx(np.sqrt((off**2).sum()) / 5)
    assert found.rotation_rad[0] == pytest.approx(0.1 / 5)


def test_relative_errors_over_a_time() -> None:
    """Over a second at ten frames a second; where frames are missing nothing is compared with a neighbour's time."""
    paired = Paired(REFERENCE, ESTIMATE, np.arange(120), np.ones(119, bool), np.arange(120) / 10)
    aligned = align(paired, "none")
    metres, _ = relative_errors(aligned, 1.0)
    assert len(metres) == 110
    step = np.linalg.inv(np.linalg.inv(REFERENCE[7]) @ REFERENCE[17]) @ np.linalg.inv(ESTIMATE[7]) @ ESTIMATE[17]
    assert metres[7] == pytest.approx(np.linalg.norm(step[:3, 3]))
    kept = np.r_[0:50, 70:120]
    gappy = Paired(REFERENCE, ESTIMATE[kept], kept, np.diff(kept) == 1, kept / 10)
    assert len(relative_errors(align(gappy, "none"), 1.0)[0]) == 80
    with pytest.raises(UserError, match="need stamps"):
        relative_errors(align(Paired.of(REFERENCE, ESTIMATE), "none"), 1.0)


def test_an_estimate_that_stands_still_has_no_scale() -> None:
    still = np.tile(np.eye(4), (120, 1, 1))
    for alignment in ALIGNMENTS:
        found = _metrics(REFERENCE, still, alignment)
        assert np.isnan(found["scale"]) == (alignment in FORGIVES_SCALE)
        assert np.isfinite(found["ate_m"])


def test_what_cannot_be_compared_is_refused_or_nan() -> None:
    with pytest.raises(UserError, match="2 poses in common; 3 are needed"):
        Paired.of(REFERENCE[:2], ESTIMATE[:2])
    with pytest.raises(UserError, match="119 poses against 120"):
        Paired.of(REFERENCE, ESTIMATE[:-1])
    with pytest.raises(UserError, match="choose from none, scale"):
        align(Paired.of(REFERENCE, ESTIMATE), "sim3")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="all above 0"):
        OdometryProtocol(lengths_m=(0.0, 100.0))
    short = odometry_metrics(Paired.of(REFERENCE, ESTIMATE))  # 120 m: of 100 m there are two starts
    assert short["segments"] == 2
    short = odometry_metrics(Paired.of(REFERENCE[:90], ESTIMATE[:90]))
    assert np.isnan(short["t_err_percent"])
    assert np.isfinite(short["ate_m"])
    assert absolute_errors(align(Paired.of(REFERENCE, ESTIMATE), "7dof")).shape == (120,)
