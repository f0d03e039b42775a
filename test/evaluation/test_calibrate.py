"""Calibration on held-out data: what is promised holds on lines not fitted on, and bad input is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import support.small_relief as small_relief

from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.dataset.splits import Split, held_out_segments, random_split, with_random_frames
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.calibrate_depth import _check_depth, guard_limit
from pose2rgbd_ros.evaluation.depth_bounds import (
    Goal,
    Judged,
    Look,
    Pixels,
    _likely_share,
    _risk_coverage,
    bounds_of,
    deals,
    edges_of,
    estimate,
    fit,
    measure,
)
from pose2rgbd_ros.evaluation.held_out import held_out, units_of
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.rendering.bounds import FEATURES
from pose2rgbd_ros.rendering.trust import NOWHERE, Guard
from pose2rgbd_ros.training.checkpoint import Checkpoint, load_checkpoint


def noisy(seed: int, units: int = 10, each: int = 2500, bias: float = 0.0) -> Pixels:
    """Depth whose error grows with the spread around it: known noise, heavier than normal, and a share of outliers."""
    generator = np.random.default_rng(seed)
    count = units * each
    truth = generator.uniform(20, 80, count)
    spread = generator.gamma(1.0, 0.1, count)
    scale = 0.3 + 12 * spread
    noise = scale * generator.standard_t(5, count) * generator.normal(1, 0.05, units).repeat(each)
    depth = np.maximum(truth + noise + bias, 1.0)
    confidence = np.clip(1 - spread + generator.normal(0, 0.1, count), 0.5, 1)
    score = generator.uniform(0, 3, units).repeat(each)
    features = tuple(values.astype(np.float32) for values in (confidence, spread, depth, score))
    unit = np.arange(units).repeat(each)
    return Pixels(features, depth.astype(np.float32), truth.astype(np.float32), unit, unit)


@pytest.mark.parametrize("bias", [0.0, 1.5, -1.5])
def test_fresh_lines_of_known_noise_are_covered(bias: float):
    pixels, goal = noisy(0, bias=bias), Goal()
    table = fit(pixels, edges_of(pixels, FEATURES), goal, 64.0)
    fresh = noisy(1, units=20, bias=bias)
    known, lower, upper = bounds_of(table, fresh)
    held = (lower <= fresh.truth) & (fresh.truth <= upper)
    assert known.mean() > 0.8
    assert held[known].mean() == pytest.approx(0.9, abs=0.02)
    assert (lower[known] > fresh.truth[known] + goal.margin_m).mean() < goal.false_safe
    width = (upper - lower)[known]
    easy = fresh.features[1][known] < 0.05
    assert np.median(width[~easy]) > 1.5 * np.median(width[easy]), "harder pixels have wider bounds"


def test_what_is_measured_by_dealing_lines_tells_fresh_ones():
    pixels, goal = noisy(2), Goal()
    asked = dict.fromkeys(range(10), 2500)
    measured = measure(pixels, asked, edges_of(pixels, FEATURES), goal, 64.0)
    assert measured.coverage.low <= measured.coverage.value <= measured.coverage.high
    assert measured.coverage.value == pytest.approx(0.9, abs=0.02)
    assert measured.false_safe.value < goal.false_safe
    assert [promised for promised, _ in measured.reliability] == sorted(p for p, _ in measured.reliability)
    errors = [error for _, error, _ in measured.risk_coverage]
    assert errors[0] < 0.5 * errors[-1], "narrow intervals are those of small errors"


def test_a_line_unlike_the_others_widens_the_bounds():
    pixels = noisy(3)
    worse = dataclasses.replace(pixels, depth=pixels.depth + np.where(pixels.unit == 4, 12.0, 0.0).astype(np.float32))
    edges = edges_of(pixels, FEATURES)
    plain, wide = (bounds_of(fit(each, edges, Goal(), 64.0), pixels) for each in (pixels, worse))
    both = plain[0] & wide[0]
    assert np.median((wide[1] - pixels.depth)[both]) < np.median((plain[1] - pixels.depth)[both])


def biased(seed: int, units: int, each: int = 800, sigma_m: float = 4.0) -> Pixels:
    """As `noisy`, and each line is off by a depth of its own."""
    pixels = noisy(seed, units, each)
    bias_m = np.random.default_rng(seed).normal(0, sigma_m, units).repeat(each).astype(np.float32)
    return dataclasses.replace(pixels, depth=np.maximum(pixels.depth + bias_m, 1.0))


def test_lines_off_by_depths_of_their_own_are_covered_because_each_was_left_out():
    """Six lines that say nothing of one another: fitted on all of them at once, fresh ones are held by 0.82."""
    held = []
    for seed in range(8):
        pixels, fresh = biased(100 + seed, 6), biased(200 + seed, 20)
        known, lower, upper = bounds_of(fit(pixels, edges_of(pixels, FEATURES), Goal(), 64.0), fresh)
        held.append(((lower <= fresh.truth) & (fresh.truth <= upper))[known].mean())
    assert np.mean(held) > 0.87


def test_a_line_that_no_other_resembles_is_measured_as_it_would_have_come():
    """One line of ten is 12 m too far: bounds fitted with it would hold it, those of the other lines cannot."""
    pixels = noisy(2)
    off = pixels.unit == 4
    pixels = dataclasses.replace(pixels, depth=pixels.depth + np.where(off, 12.0, 0.0).astype(np.float32))
    asked = dict.fromkeys(range(10), 5000)
    measured = measure(pixels, asked, edges_of(pixels, FEATURES), Goal(), 64.0)
    assert measured.false_safe.value > 0.05
    assert measured.below.value > 0.08, "the truth is nearer than the bound"
    assert 1 - measured.coverage.value - measured.below.value < 0.08
    unsafe, known = np.array([measured.judged[unit] for unit in range(10)]).T
    assert unsafe[4] / known[4] > 0.5
    assert (np.delete(unsafe, 4) < 0.02 * np.delete(known, 4)).all()
    assert (known <= 3 * 2500).all(), "in one half of each of three deals"
    assert (known > 2500).all()
    assert unsafe.sum() / known.sum() == pytest.approx(measured.false_safe.value)
    assert known.sum() / (3 * 10 * 5000) == pytest.approx(measured.known.value), "of all that were asked for"


def test_the_reliability_is_of_lines_left_out_and_of_each_level():
    pixels = noisy(2)
    asked = dict.fromkeys(range(10), 2500)
    measured = measure(pixels, asked, edges_of(pixels, FEATURES), Goal(margin_m=60.0), 64.0)
    promised, held = np.array(measured.reliability).T
    assert promised.tolist() == [0.5, 0.7, 0.8, 0.9, 0.95]
    assert held == pytest.approx(promised, abs=0.07)
    others = ~np.isin(pixels.unit, deals(np.arange(10))[0])
    off = dataclasses.replace(pixels, depth=pixels.depth + np.where(others, 25.0, 0.0).astype(np.float32))
    measured = measure(off, asked, edges_of(off, FEATURES), Goal(margin_m=60.0), 64.0)
    assert max(held for _, held in measured.reliability) < 0.3, "the half fitted on says nothing of the other"


def test_a_line_worse_than_all_others_makes_bounds_deeper_than_any_pixel_asks_for():
    """What the others need is not enough for it, so the next line may need more than all of these."""
    generator = np.random.default_rng(0)
    unit = np.arange(6).repeat(400)
    depth = 50 + np.array([0.0, 1.0, 2.0, 3.0, 4.0, 14.0])[unit] + generator.normal(0, 0.5, 2400)
    features = tuple(values.astype(np.float32) for values in (0 * depth, 0 * depth, 0 * depth, 0 * depth))
    pixels = Pixels(features, depth.astype(np.float32), np.full(2400, 50, np.float32), unit, unit)
    table = fit(pixels, edges_of(pixels, FEATURES), Goal(), 64.0)
    asked = 1 - 50 / depth
    assert 1.3 * asked.max() < np.nanmax(table.lower) < 8 * asked.max()


def test_where_the_bound_would_lie_nearer_than_a_quarter_of_depth_depth_is_unknown():
    pixels = noisy(7)
    hard = pixels.features[1] > 0.4
    wrong = dataclasses.replace(pixels, truth=np.where(hard, 0.1 * pixels.depth, pixels.truth).astype(np.float32))
    known, _, _ = bounds_of(fit(wrong, edges_of(wrong, FEATURES), Goal(), 64.0), wrong)
    assert not known[hard].any()
    assert known[~hard].mean() > 0.9


def test_a_feature_that_is_mostly_its_least_value_parts_no_empty_cell():
    pixels = noisy(2)
    flat = np.where(pixels.features[1] < 0.12, 0.0, pixels.features[1]).astype(np.float32)
    pixels = dataclasses.replace(pixels, features=(pixels.features[0], flat, *pixels.features[2:]))
    assert 0.35 < (flat == 0).mean() < 0.8
    edges = edges_of(pixels, FEATURES)[1]
    assert edges[0] > 0.12
    assert (np.diff(edges) > 0).all()


def test_a_line_of_which_the_model_knows_nothing_counts_as_unknown():
    pixels, asked = noisy(2, 8, 800), dict.fromkeys(range(8), 800)
    edges = edges_of(pixels, FEATURES)
    seeing = measure(pixels, asked, edges, Goal(), 64.0).known
    blind = measure(pixels, {**asked, 8: 6400, -1: 999}, edges, Goal(), 64.0).known
    assert blind.value == pytest.approx(seeing.value / 2)
    assert blind.low < blind.value < blind.high


def test_risk_by_hand():
    width, error_m = np.array([0.4, 0.1, 0.3, 0.2]), np.array([9.0, 1.0, -4.0, -2.0])
    rows = {share: rest for share, *rest in _risk_coverage(width, error_m, 3.0)}
    assert rows[0.25] == [1.0, 0.0]
    assert rows[0.5] == [1.5, 0.0]
    assert rows[1.0] == [4.0, 0.25], "only a depth farther than the truth is a risk"


def test_a_share_comes_with_95_percent_of_its_resampled_units():
    """Of 100 units alike but for chance the interval is that of the binomial of units."""
    part = np.repeat([0.0, 1.0], [20, 80])
    found = estimate(part, np.ones(100))
    assert found.value == 0.8
    assert (found.low, found.high) == pytest.approx((0.8 - 1.96 * 0.04, 0.8 + 1.96 * 0.04), abs=0.015)
    assert np.isnan(estimate(np.zeros(3), np.zeros(3)).value)


def test_a_depth_beyond_nearly_all_calibrated_is_unknown():
    pixels = noisy(4)
    table = fit(pixels, edges_of(pixels, FEATURES), Goal(), 64.0)
    assert table.farthest == pytest.approx(np.quantile(pixels.depth, 0.9995))
    known, lower, upper = bounds_of(table, pixels)
    beyond = pixels.depth > table.farthest
    assert 0 < beyond.sum() < 25
    assert not known[beyond].any()
    assert (lower[beyond] == 0).all()
    assert np.isinf(upper[beyond]).all()


def test_half_of_what_is_missed_lies_before_the_interval():
    pixels, goal = noisy(2), Goal(margin_m=60.0)  # so that nothing is false-safe
    measured = measure(pixels, dict.fromkeys(range(10), 2500), edges_of(pixels, FEATURES), goal, 64.0)
    assert measured.below.value == pytest.approx(0.05, abs=0.012)
    assert 1 - measured.coverage.value - measured.below.value == pytest.approx(0.05, abs=0.015)


def test_false_safe_pixels_are_half_of_those_allowed():
    """The interval of 0.5 asks for no deep lower bound: the allowed share decides it alone."""
    goal, pixels, fresh = Goal(level=0.5, false_safe=0.02), noisy(5, 30, 1500), noisy(6, 40, 2000)
    known, lower, _ = bounds_of(fit(pixels, edges_of(pixels, FEATURES), goal, 64.0), fresh)
    easy = known & (fresh.features[1] < 0.05)
    assert (fresh.truth < lower)[easy].mean() > 0.1, "where errors are small it does not"
    assert 0.006 < (lower[known] > fresh.truth[known] + goal.margin_m).mean() < 0.012


def test_what_judges_is_counted_by_hand():
    nan = np.nan
    truth = np.array([10.0, 10.0, 10.0, 10.0, 10.0, nan])
    depth = np.array([10.0, 12.0, 14.0, 8.0, nan, 10.0])
    lower, upper = np.array([9.0, 11.0, 13.0, 5.0, nan, 9.0]), np.array([11.0, 13.0, 15.0, 9.0, nan, 11.0])
    images = [np.array(values, np.float32)[None] for values in (truth, depth, lower, upper)]
    none = [images[0], *(np.full_like(images[0], nan) for _ in range(3))]
    looks = [Look(3, True, *images), Look(3, True, *images), Look(7, False, *none)]
    judged = Judged.of(iter(looks), "lines", 2.0)
    assert (judged.frames, judged.units, judged.kind) == (3, 2, "lines")
    found = [getattr(judged, name).value for name in ("coverage", "below", "false_safe", "known", "passed")]
    assert found == pytest.approx([1 / 4, 2 / 4, 1 / 4, 8 / 15, 2 / 3])
    assert judged.passed.low == 0.0, "of one line both frames passed, of the other none"
    assert judged.passed.high == 1.0
    assert "judged on 3 other held-out frames (2 lines): the guard passes 67%" in judged.line(0.9)
    nothing = Judged.of([], "lines", 2.0)
    assert "nothing was left to judge on" in nothing.line(0.9)
    assert nothing.to_dict() == {"frames": 0, "units": 0, "unit": "lines"}


def test_the_guard_reaches_as_far_as_judged_pixels_vouch():
    score = {frame: float(frame) for frame in range(10)}

    def limit(*unsafe: int, known: int = 1000, allowed: float = 0.003) -> float:
        return guard_limit(score, {frame: (count, known) for frame, count in enumerate(unsafe)}, allowed)

    assert limit(*[0] * 10) == 9.0
    assert limit(*[1] * 9, 20) == 9.0, "rare enough among all pixels"
    assert limit(*[1] * 9, 500) == 8.0
    assert limit(*[3] * 10) == 9.0, "as many as allowed"
    assert limit(*[0, 0, 0, 50, 0, 0, 0, 0, 0, 0]) == 2.0
    assert limit(*[0, 0, 0, 20, 0, 0, 0, 0, 0, 0]) == 9.0, "rare again among all pixels"


def test_the_guard_counts_pixels_and_not_frames():
    score = {0: 1.0, 1: 2.0}
    assert guard_limit(score, {0: (0, 9900), 1: (40, 100)}, 0.005) == 2.0, "40 of 10,000; 20 % of the mean frame"
    assert guard_limit(score, {0: (0, 100), 1: (99, 9900)}, 0.005) == 1.0, "99 of 10,000; 0.5 % of the mean frame"


def test_frames_that_were_never_judged_do_not_vouch():
    """Random frames between trained ones score least, and were in every fit: they are no evidence of lines."""
    score = {**{frame: 0.01 * frame for frame in range(100)}, **{100 + frame: float(frame) for frame in range(5)}}
    lines = {100 + frame: (unsafe, 1000) for frame, unsafe in enumerate((0, 2, 4, 20, 0))}
    assert guard_limit(score, lines, 0.005) == 2.0
    blind = {**lines, **dict.fromkeys(range(100), (0, 0)), 104: (0, 0)}
    assert guard_limit(score, blind, 0.005) == 2.0, "nor do frames of which nothing is known"
    pixels = noisy(2, 8, 400)
    some = dataclasses.replace(pixels, unit=np.where(pixels.unit < 3, -1, pixels.unit))
    asked = dict.fromkeys(range(-1, 8), 400)
    measured = measure(some, asked, edges_of(some, FEATURES), Goal(), 64.0)
    assert set(measured.judged) == set(range(3, 8))


def test_frames_of_one_score_pass_together_or_not_at_all():
    score = {0: 1.0, 1: 2.0, 2: 2.0}
    assert guard_limit(score, {0: (0, 100), 1: (0, 100), 2: (90, 100)}, 0.005) == 1.0
    assert guard_limit(score, {0: (0, 100), 1: (90, 100), 2: (0, 100)}, 0.005) == 1.0


def test_where_nothing_vouches_no_pose_is_in_the_guard():
    score = {0: 0.0, 1: 1.0}
    for judged in ({0: (300, 1000), 1: (300, 1000)}, {0: (0, 0)}, {}):
        limit = guard_limit(score, judged, 0.005)
        assert limit == NOWHERE
        answer = Guard(np.eye(4)[None], 10.0, limit).check(np.eye(4))
        assert (answer.inside, answer.is_calibrated) == (False, True)
        assert "no held-out frame vouches" in answer.reason


def test_units_that_differ_count_for_more_than_their_mean():
    known = np.full(8, 100.0)
    assert _likely_share(np.full(8, 10.0), known) == pytest.approx(0.1)
    unlike = np.array([0.0, 20.0] * 4)
    expected = 0.1 + np.std(unlike / 100, ddof=1) / np.sqrt(8)
    assert _likely_share(unlike, known) == pytest.approx(expected)
    assert _likely_share(np.zeros(8), np.zeros(8)) == 0.0


def test_another_recording_whose_clock_agrees_was_not_trained_on(tmp_path: Path):
    loaded = load_checkpoint(small_relief.write_small_relief(tmp_path / "model"))
    stamps_ns, position_m = loaded.training_stamps_ns, loaded.training_T_map_cam[:, :3, 3]
    assert loaded.trained_on(stamps_ns[::-1], position_m[::-1] + 0.05).all()
    assert not loaded.trained_on(stamps_ns, position_m + 12.0).any()
    T = np.tile(loaded.training_T_map_cam, (3, 1, 1))
    T[:, 1, 3] += 12.0
    other = SimpleNamespace(stamps_ns=np.arange(36) * 10**8, T_map_cam=T, path=tmp_path)
    chosen = held_out(loaded, other)
    assert (len(chosen.frames), chosen.notes) == (36, ("another recording than the training's",))
    assert len(chosen.judge.frames) == 0


def trained(
    tmp_path: Path, make: Callable[[np.ndarray, np.ndarray], Split], forget: str = ""
) -> tuple[Checkpoint, SimpleNamespace, Split]:
    """A checkpoint trained on lines of 40 frames as `make` splits them; `forget` a key of the split's recipe."""
    loaded = load_checkpoint(small_relief.write_small_relief(tmp_path / "model"))
    T = np.tile(np.eye(4), (480, 1, 1))
    line, along = np.arange(480) // 40, np.arange(480) % 40
    T[:, 0, 3], T[:, 1, 3] = np.where(line % 2, 40 - along, along), 20.0 * line
    stamps_ns = np.arange(480) * 10**8
    split = make(stamps_ns, T[:, :3, 3])
    recipe = {key: value for key, value in split.to_dict().items() if key != forget}
    loaded = dataclasses.replace(
        loaded,
        training_stamps_ns=stamps_ns[split.train],
        training_T_map_cam=T[split.train],
        provenance={**loaded.provenance, "split": recipe},
    )
    return loaded, SimpleNamespace(stamps_ns=stamps_ns, T_map_cam=T, path=tmp_path), split


def test_frames_that_judge_calibrate_nothing(tmp_path: Path):
    loaded, dataset, split = trained(tmp_path, lambda *track: held_out_segments(*track, fraction=0.3))
    chosen = held_out(loaded, dataset)
    assert chosen.kind.startswith("stretches of")
    assert "another line may be off by far more" in chosen.notes[0]
    assert set(chosen.frames) == set(split.choose)
    assert set(chosen.judge.frames) == set(split.judge)
    assert min(len(split.choose), len(split.judge)) > 40
    assert (chosen.unit >= 0).all()
    for each in (chosen, chosen.judge):
        for unit in each.units:
            inside = each.frames[each.unit == unit]
            assert (np.diff(inside) == 1).all(), "a unit is a stretch of one line"


def test_random_frames_widen_the_evidence_and_neither_count_nor_judge(tmp_path: Path):
    loaded, dataset, split = trained(
        tmp_path, lambda *track: with_random_frames(held_out_segments(*track, fraction=0.3))
    )
    chosen, lines = held_out(loaded, dataset), split.groups["held-out lines"]
    assert set(chosen.frames) == set(split.choose)
    assert set(chosen.frames[chosen.unit < 0]) == set(split.choose) - set(lines)
    assert set(chosen.judge.frames) == set(split.judge) & set(lines)
    assert (chosen.judge.unit >= 0).all()
    assert len(chosen.judge.frames) < len(split.judge)


def test_a_training_from_before_frames_judged_leaves_none_to_judge(tmp_path: Path):
    loaded, dataset, split = trained(
        tmp_path, lambda *track: held_out_segments(*track, fraction=0.3), "choose_fraction"
    )
    chosen = held_out(loaded, dataset)
    assert set(chosen.frames) == set(split.test)
    assert len(chosen.judge.frames) == 0


def test_frames_that_judge_do_not_make_up_for_too_few_that_choose(tmp_path: Path):
    loaded, dataset, split = trained(
        tmp_path, lambda *track: held_out_segments(*track, fraction=0.2, choose_fraction=0.0)
    )
    assert len(split.judge) > 90
    with pytest.raises(UserError, match=r"0 held-out frames \(0 lines\) that may choose are too few"):
        held_out(loaded, dataset)


def test_frames_of_a_random_split_are_units_by_time(tmp_path: Path):
    loaded, dataset, split = trained(tmp_path, lambda stamps_ns, _: random_split(len(stamps_ns)))
    chosen = held_out(loaded, dataset)
    assert (set(chosen.frames), set(chosen.judge.frames)) == (set(split.choose), set(split.judge))
    assert (len(chosen.units), chosen.kind) == (8, "stretches of random frames")
    assert (np.diff(chosen.unit) >= 0).all()
    assert "flatter" in chosen.notes[0]


def test_poses_of_another_map_are_refused(tmp_path: Path):
    loaded = load_checkpoint(small_relief.write_small_relief(tmp_path / "model"))
    loaded.check_map(tmp_path, DatasetMeta(loaded.camera))
    with pytest.raises(UserError, match="has poses in 'odom', the model's are in 'map'"):
        loaded.check_map(tmp_path, DatasetMeta(loaded.camera, map_frame="odom"))
    here, there = Datum(47.0, 8.0, 400.0), Datum(47.1, 8.0, 400.0)
    with pytest.raises(UserError, match=r"the datum of .* is latitude 47\.1"):
        dataclasses.replace(loaded, datum=here).check_map(tmp_path, DatasetMeta(loaded.camera, datum=there))


def test_lines_are_cut_where_the_way_turns():
    x = np.concatenate([np.linspace(0, 100, 20), np.linspace(100, 0, 20)] * 4)
    y = np.repeat(np.arange(8) * 20.0, 20)
    unit, kind = units_of(np.arange(160), np.stack([x, y, np.zeros(160)], axis=-1))
    assert (kind, len(np.unique(unit))) == ("lines", 8)
    assert np.abs(np.bincount(unit) - 20).max() <= 1


def test_a_few_stray_frames_are_no_line():
    line = [np.arange(20) + 100 * number for number in range(8)]
    frames = np.concatenate([*line[:3], [250, 251], *line[3:]])
    unit, kind = units_of(frames, np.stack([frames * 1.0, 0.0 * frames, 0.0 * frames], axis=-1))
    assert (kind, len(np.unique(unit))) == ("lines", 8)
    assert unit[60] == unit[59], "they belong to the line before"
    assert sorted(np.bincount(unit)) == [20] * 7 + [22]


def test_few_lines_are_cut_into_stretches_and_called_so():
    frames = np.concatenate([np.arange(40), np.arange(100, 140)])
    position_m = np.stack([frames * 1.0, np.zeros(80), np.zeros(80)], axis=-1)
    unit, kind = units_of(frames, position_m)
    assert (kind, len(np.unique(unit))) == ("stretches of 2 lines", 8)
    assert set(unit[:40]).isdisjoint(unit[40:])


def test_relative_depth_is_refused_and_colour_too(tmp_path: Path):
    metric = SimpleNamespace(has_depth=True, depth_kind="metric", path=Path("flight"))
    loaded = load_checkpoint(small_relief.write_small_relief(tmp_path / "model", "relative"))
    with pytest.raises(UserError, match="relative: without a scale"):
        _check_depth(loaded, metric)
    with pytest.raises(UserError, match="predicts no depth"):
        _check_depth(dataclasses.replace(loaded, depth_kind=None), metric)
    with pytest.raises(UserError, match="flight has no metric depth"):
        _check_depth(
            dataclasses.replace(loaded, depth_kind="metric"), SimpleNamespace(**{**vars(metric), "has_depth": False})
        )


def test_without_held_out_frames_there_is_nothing_to_calibrate_on(tmp_path: Path):
    loaded = load_checkpoint(small_relief.write_small_relief(tmp_path / "model"))
    loaded.provenance["split"] = {"name": "random", "train_fraction": 0.8, "seed": 0}
    T = loaded.training_T_map_cam
    dataset = SimpleNamespace(stamps_ns=loaded.training_stamps_ns, T_map_cam=T, path=tmp_path)
    with pytest.raises(UserError, match="are too few to calibrate on"):
        held_out(loaded, dataset)


@pytest.mark.parametrize("values", [{"level": 1.0}, {"false_safe": 0.0}, {"margin_m": -1.0}, {"level": float("nan")}])
def test_impossible_goals_are_refused(values):
    with pytest.raises(UserError, match="shares between 0 and 1"):
        Goal(**values)
