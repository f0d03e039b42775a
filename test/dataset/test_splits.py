"""Training and test sets: disjoint, never empty, and the honest one keeps its distance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.dataset.splits import (
    FEWEST_TO_CHOOSE,
    Split,
    held_out_segments,
    random_split,
    recordings,
    split_from_dict,
    with_random_frames,
)
from pose2rgbd_ros.errors import UserError

STEP_NS = 33_333_333


def straight(n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(n) * STEP_NS, np.arange(n)[:, None] * np.array([0.1, 0.02, 0.0])


def stretches(indices: np.ndarray) -> list[np.ndarray]:
    return np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1)


@settings(max_examples=60)
@given(n=st.integers(2, 3000), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 100))
def test_random_split_deals_every_frame_once(n, fraction, seed):
    split = random_split(n, fraction, seed)
    assert len(split.train) >= 1
    assert len(split.test) >= 1
    np.testing.assert_array_equal(np.sort(np.concatenate([split.train, split.test])), np.arange(n))
    assert abs(len(split.train) - n * fraction) <= 1


def test_random_split_is_the_seeds():
    assert random_split(100, seed=1).test.tolist() == random_split(100, seed=1).test.tolist()
    assert random_split(100, seed=1).test.tolist() != random_split(100, seed=2).test.tolist()
    assert len(random_split(100).train) == 80


@settings(max_examples=80)
@given(
    n=st.integers(5, 600),
    fraction=st.floats(0.05, 0.6),
    segments=st.integers(1, 12),
    guard=st.one_of(st.none(), st.integers(0, 10)),
    seed=st.integers(0, 50),
)
def test_held_out_sets_are_disjoint_and_not_empty(n, fraction, segments, guard, seed):
    stamps, position = straight(n)
    split = held_out_segments(stamps, position, fraction, segments, guard, seed, choose_fraction=0.0)
    assert len(split.train) >= 1
    assert len(split.choose) == 0
    assert len(split.test) >= 1
    assert not set(split.train) & set(split.test)
    assert len(stretches(split.test)) <= segments
    assert abs(len(split.test) - n * fraction) <= max(1, 0.05 * n)


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(5, 900),
    fraction=st.floats(0.05, 0.6),
    segments=st.integers(1, 12),
    seed=st.integers(0, 50),
    choose_fraction=st.floats(0.05, 0.95),
)
def test_whole_stretches_choose_and_whole_stretches_judge(n, fraction, segments, seed, choose_fraction):
    stamps, position = straight(n)
    whole = held_out_segments(stamps, position, fraction, segments, seed=seed, choose_fraction=0.0)
    split = held_out_segments(stamps, position, fraction, segments, seed=seed, choose_fraction=choose_fraction)
    np.testing.assert_array_equal(split.train, whole.train)
    assert set(split.test) <= set(whole.test)
    assert not set(split.choose) & set(split.judge)
    if len(split.choose) == 0:
        np.testing.assert_array_equal(split.judge, whole.judge)
        assert min(choose_fraction, 1 - choose_fraction) * len(whole.test) < 2 * FEWEST_TO_CHOOSE
        return
    assert min(len(split.choose), len(split.judge)) >= FEWEST_TO_CHOOSE
    assert len(split.choose) >= 0.5 * choose_fraction * len(whole.test)
    assert len(split.judge) >= 0.5 * (1 - choose_fraction) * len(whole.test)
    for stretch in stretches(split.test):  # no set begins where the other ends
        assert set(stretch) <= set(split.choose) or set(stretch) <= set(split.judge)


def test_stretches_of_equal_length_are_dealt_in_turn():
    split = held_out_segments(*straight(1000))
    assert [len(s) for s in stretches(split.judge)] == [40, 40, 40]
    assert [len(s) for s in stretches(split.choose)] == [40, 40]


def test_few_held_out_frames_judge_only():
    split = held_out_segments(*straight(70))
    assert len(split.test) == 14
    assert len(split.choose) == 0
    dealt = random_split(70)
    assert (len(dealt.choose), len(dealt.judge)) == (0, 14)
    assert (len(random_split(80).choose), len(random_split(80).judge)) == (8, 8)


def test_a_recipe_of_before_lets_all_held_out_frames_choose():
    """Checkpoints made before frames that judge were kept apart repeat the split they were trained with."""
    stamps, position = straight(333)
    for split in (random_split(333, 0.7, 3), held_out_segments(stamps, position, seed=9)):
        before = {key: value for key, value in split.to_dict().items() if key != "choose_fraction"}
        again = split_from_dict(before, stamps, position)
        np.testing.assert_array_equal(again.train, split.train)
        np.testing.assert_array_equal(again.choose, split.test)
        assert len(again.judge) == 0


def test_no_frame_is_in_two_sets():
    one, two = np.arange(3), np.arange(2, 5)
    none = np.array([], np.int64)
    for sets in ((one, two, none), (one, none, two), (none, one, two)):
        with pytest.raises(ValueError, match="in two of the sets"):
            Split(*sets, "overlapping")


@pytest.mark.parametrize("seed", range(3))
def test_random_frames_beside_lines_train_no_more_and_are_scored_apart(seed):
    lines = held_out_segments(*straight(500), seed=seed)
    both = with_random_frames(lines, 0.2, seed)
    random = np.setdiff1d(lines.train, both.train)
    assert len(random) == round(0.2 * len(lines.train))
    np.testing.assert_array_equal(both.groups["random"], random)
    np.testing.assert_array_equal(both.groups["held-out lines"], lines.test)
    np.testing.assert_array_equal(both.test, np.union1d(lines.test, random))
    for part in (both.choose, both.judge):
        assert set(part) & set(random)
        assert set(part) & set(lines.test)
    np.testing.assert_array_equal(np.intersect1d(both.judge, lines.test), lines.judge)
    again = split_from_dict(both.to_dict(), *straight(500))
    for name in ("train", "choose", "judge"):
        np.testing.assert_array_equal(getattr(again, name), getattr(both, name))


def test_every_stretch_has_its_guard():
    stamps, position = straight(1000)
    split = held_out_segments(stamps, position, guard_frames=12)
    assert len(split.test) == 200
    assert [len(s) for s in stretches(split.test)] == [40] * 5
    nearest = np.abs(split.test[:, None] - split.train[None]).min(axis=1)
    assert nearest.min() == 13


def test_the_default_guard_is_a_quarter_of_a_stretch():
    stamps, position = straight(1000)
    split = held_out_segments(stamps, position)
    assert np.abs(split.test[:, None] - split.train[None]).min() == 40 // 4 + 1


def test_a_hovering_camera_widens_the_guard():
    """Half way the drone hovers: frames seconds away show what the test frames show."""
    stamps, position = straight(1000)
    moving = held_out_segments(stamps, position, segments=1, guard_frames=3, seed=1)
    hover = slice(int(moving.test[-1]) - 5, int(moving.test[-1]) + 60)
    position = position.copy()
    position[hover] = position[hover.start]
    hovering = held_out_segments(stamps, position, segments=1, guard_frames=3, seed=1)
    np.testing.assert_array_equal(hovering.test, moving.test)
    assert not set(range(hover.start, hover.stop)) & set(hovering.train)
    after = position[hovering.train[hovering.train > hovering.test[-1]]]
    extent = np.linalg.norm(np.ptp(position, axis=0))
    assert np.linalg.norm(after - position[hovering.test[-1]], axis=1).min() > 0.01 * extent


def test_a_stretch_lies_within_one_recording():
    lengths = [150, 90, 260]
    starts = [0, 10**12, 10**13]
    stamps = np.concatenate([start + np.arange(k) * STEP_NS for start, k in zip(starts, lengths, strict=True)])
    position = np.random.default_rng(0).normal(size=(500, 3)).cumsum(axis=0)
    run = recordings(stamps)
    assert np.bincount(run).tolist() == lengths
    for seed in range(20):
        for stretch in stretches(held_out_segments(stamps, position, segments=7, seed=seed).test):
            assert len(set(run[stretch])) == 1


def test_recordings_that_overlap_in_time_are_kept_apart():
    """Two drones at once: every other frame is the other one's. Neighbours in the list are not neighbours in track."""
    stamps = np.arange(400) * (STEP_NS // 2)
    owner = np.arange(400) % 2
    position = np.where(owner[:, None] == 0, 0.0, 500.0) + np.arange(400)[:, None] * np.ones(3)
    split = held_out_segments(stamps, position, guard_frames=4, recording=owner)
    for who in (0, 1):
        train, test = split.train[owner[split.train] == who] // 2, split.test[owner[split.test] == who] // 2
        assert np.abs(test[:, None] - train[None]).min() >= 5


@pytest.mark.parametrize("seed", range(30))
def test_on_loops_the_stretches_lie_on_different_sides(seed):
    """Five loops, five stretches: were they all on one side, nothing of that side would be trained on."""
    turn = np.linspace(0, 5 * 2 * np.pi, 500, endpoint=False)
    position = np.stack([np.cos(turn), np.sin(turn), turn / 50], axis=1)
    split = held_out_segments(np.arange(500) * STEP_NS, position, seed=seed)
    trained_loops = np.histogram(turn[split.train] % (2 * np.pi), bins=20, range=(0, 2 * np.pi))[0] / 5
    assert trained_loops.min() >= 1.8, "of five loops, two show every side"


@pytest.mark.parametrize("n", range(5, 21))
def test_small_recordings_give_both_sets(n):
    split = held_out_segments(*straight(n))
    assert len(split.test) >= 1
    assert len(split.train) >= n // 3


def test_recordings_shorter_than_a_stretch_are_taken_whole():
    stamps = np.concatenate([k * 10**12 + np.arange(4) * STEP_NS for k in range(20)])
    split = held_out_segments(stamps, np.random.default_rng(0).normal(size=(80, 3)), segments=2)
    assert all(len(s) <= 4 for s in stretches(split.test))
    assert len(split.test) >= 4


@pytest.mark.parametrize(
    "make", [lambda s, p: random_split(len(s), 0.7, 3), lambda s, p: held_out_segments(s, p, seed=9)]
)
def test_a_recipe_repeats_its_split(make):
    stamps, position = straight(333)
    split = make(stamps, position)
    again = split_from_dict(split.to_dict(), stamps, position)
    np.testing.assert_array_equal(again.train, split.train)
    np.testing.assert_array_equal(again.test, split.test)


def test_bad_input_is_named():
    stamps, position = straight(50)
    with pytest.raises(UserError, match="at least 2"):
        random_split(1)
    with pytest.raises(UserError, match="train_fraction"):
        random_split(10, 1.0)
    with pytest.raises(UserError, match="too few"):
        held_out_segments(stamps[:4], position[:4])
    with pytest.raises(UserError, match="fraction"):
        held_out_segments(stamps, position, fraction=0.0)
    with pytest.raises(UserError, match="do not increase"):
        held_out_segments(stamps[::-1], position)
    with pytest.raises(UserError, match="positions of shape"):
        held_out_segments(stamps, position[:10])
    with pytest.raises(UserError, match="unknown split"):
        split_from_dict({"name": "odd frames"}, stamps, position)
    with pytest.raises(UserError, match="unexpected keyword"):
        split_from_dict({"name": "random", "colour": 1}, stamps, position)
