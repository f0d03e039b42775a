"""Depth by the papers' protocols: closed forms, what each choice does, and what none may change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.depth_from_images.depth_errors import depth_errors
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.depth_metrics import (
    PROTOCOLS,
    DepthProtocol,
    crop_mask,
    depth_metrics,
    named_protocol,
    resized,
)

MEASURES = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "sc_inv")
RNG = np.random.default_rng(3)
TRUTH = RNG.uniform(1.0, 60.0, (3, 480, 640)).astype(np.float32)
PREDICTED = TRUTH * np.exp(RNG.normal(0, 0.2, TRUTH.shape)) * np.array([1.0, 1.3, 0.8])[:, None, None]
METRIC = named_protocol("metric")


@given(st.floats(0.2, 5))
@settings(max_examples=8)
def test_what_is_too_large_by_a_factor(factor: float) -> None:
    truth = TRUTH[0, :8, :8].astype(np.float64)
    found = depth_metrics([truth * factor], [truth], METRIC)
    assert found["abs_rel"] == pytest.approx(abs(factor - 1), abs=1e-12)
    assert found["sq_rel"] == pytest.approx((factor - 1) ** 2 * truth.mean())
    assert found["rmse"] == pytest.approx(abs(factor - 1) * np.sqrt((truth**2).mean()), abs=1e-12)
    assert found["rmse_log"] == pytest.approx(abs(np.log(factor)), abs=1e-12)
    assert found["log10"] == pytest.approx(abs(np.log10(factor)), abs=1e-12)
    assert found["sc_inv"] == pytest.approx(0, abs=1e-7)
    for power in (1, 2, 3):
        if abs(max(factor, 1 / factor) - 1.25**power) > 1e-9:
            assert found[f"a{power}"] == float(max(factor, 1 / factor) < 1.25**power)
    scaled = depth_metrics([truth * factor], [truth], named_protocol("plain"))
    assert all(scaled[measure] == pytest.approx(0, abs=1e-5) for measure in MEASURES)
    assert scaled["scale"] == pytest.approx(1 / factor)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_perfect_prediction_has_no_error(name: str) -> None:
    found = depth_metrics(TRUTH, TRUTH, named_protocol(name))
    assert all(found[measure] == 0 for measure in MEASURES)
    assert (found["a1"], found["known"], found["scale"], found["scale_spread"]) == (1, 1, 1, 0)
    assert (found["frames"], found["frames_left_out"]) == (3, 0)


@pytest.mark.parametrize("name", sorted(set(PROTOCOLS) - {"metric"}))
def test_a_prediction_has_no_size_of_its_own(name: str) -> None:
    """A factor for each image changes nothing but the factors themselves; DeepV2D clips before it scales."""
    protocol = replace(named_protocol(name), clip="none")
    plain = depth_metrics(PREDICTED, TRUTH, protocol)
    sized = depth_metrics(PREDICTED * np.array([0.01, 3.0, 40.0])[:, None, None], TRUTH, protocol)
    for measure in (*MEASURES, "a1", "a2", "a3", "known"):
        assert sized[measure] == pytest.approx(plain[measure], rel=1e-9)
    assert sized["scale_spread"] > plain["scale_spread"]
    assert depth_metrics(PREDICTED * 3, TRUTH, METRIC)["abs_rel"] > 1.5


def test_one_image_by_the_books() -> None:
    """Against the formulas, written out with loops' simplicity."""
    p, t = PREDICTED[1].ravel(), TRUTH[1].astype(np.float64).ravel()
    p = p * np.median(t) / np.median(p)
    found = depth_metrics(PREDICTED[1:2], TRUTH[1:2], replace(named_protocol("plain"), clip="none"))
    d = np.log(p) - np.log(t)
    expected = {
        "abs_rel": np.mean(np.abs(p - t) / t),
        "sq_rel": np.mean((p - t) ** 2 / t),
        "rmse": np.sqrt(np.mean((p - t) ** 2)),
        "rmse_log": np.sqrt(np.mean(d**2)),
        "log10": np.mean(np.abs(np.log10(p) - np.log10(t))),
        "sc_inv": np.std(d),
        "a2": np.mean(np.maximum(p / t, t / p) < 1.25**2),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert depth_errors(PREDICTED[1], TRUTH[1])["sc_inv"] == pytest.approx(expected["sc_inv"])


def test_crops_are_those_of_the_papers() -> None:
    def corners(crop: str, height: int, width: int) -> tuple[int, int, int, int]:
        rows, columns = np.nonzero(crop_mask(crop, height, width))  # type: ignore[arg-type]
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1

    assert corners("garg", 375, 1242) == (153, 371, 44, 1197)
    assert corners("garg", 370, 1224) == (151, 366, 43, 1180)  # int() cuts what is 367 - 7e-7
    assert corners("nyu", 480, 640) == (45, 472, 41, 602)
    assert corners("nyu_eigen", 480, 640) == (20, 459, 24, 615)
    assert corners("make3d", 55, 305) == (17, 38, 0, 305)
    assert corners("none", 7, 5) == (0, 7, 0, 5)
    with pytest.raises(UserError, match="640 x 480 pixels, not 320 x 240"):
        crop_mask("nyu", 240, 320)


def test_depth_and_disparity_are_resized_differently() -> None:
    """Between 2 and 8 m, a quarter of the way: 3.5 m by depth, 2.46 m by disparity."""
    edge = np.array([[2.0, 8.0]])
    np.testing.assert_allclose(resized(edge, 1, 4), [[2, 3.5, 6.5, 8]])
    np.testing.assert_allclose(resized(edge, 1, 4, "disparity"), 1 / np.array([[0.5, 0.40625, 0.21875, 0.125]]))
    np.testing.assert_allclose(resized(edge, 1, 4, filter="nearest"), [[2, 2, 8, 8]])


def test_each_choice_moves_the_score() -> None:
    """On one image, with all else equal."""
    small = PREDICTED[0, ::4, ::4]
    base = DepthProtocol(crop="garg", resize="depth", max_depth=50.0)
    changes = [
        {"crop": "none"}, {"max_depth": 30.0}, {"scaling": "median_of_ratios"}, {"scaling": "none"},
        {"resize": "disparity"}, {"filter": "nearest"}, {"filter": "cubic"}, {"clip": "none"}, {"clip": "before"},
        {"scale_from": 1.0, "scale_to": 10.0},
    ]  # fmt: skip
    scores = [depth_metrics([small], TRUTH[:1], replace(base, **change))["rmse"] for change in [{}, *changes]]
    assert len({round(score, 6) for score in scores}) == len(scores)


def test_images_or_pixels_are_averaged() -> None:
    """An image of one pixel that is off by 1.0, beside one of three that are perfect: a half, or a quarter."""
    truth = np.full((2, 1, 3), 2.0)
    truth[0, 0, 1:] = np.nan
    predicted = np.array([[[4.0, 9, 9]], [[2.0, 2, 2]]])
    assert depth_metrics(predicted, truth, METRIC)["abs_rel"] == pytest.approx(0.5)
    pooled = depth_metrics(predicted, truth, replace(METRIC, average="pixels"))
    assert pooled["abs_rel"] == pytest.approx(0.25)
    assert pooled["rmse"] == pytest.approx(1.0)
    assert pooled["sc_inv"] == 0  # of each image, then their mean


def test_what_is_unknown_is_counted_not_scored() -> None:
    predicted = PREDICTED.copy()
    predicted[0, :240], predicted[1, :, :320], predicted[2] = np.nan, 0.0, -1.0
    found = depth_metrics(predicted, TRUTH, named_protocol("plain"))
    assert found["known"] == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert (found["frames"], found["frames_left_out"]) == (2, 1)
    assert np.isfinite(found["abs_rel"])
    nothing = depth_metrics(np.full_like(TRUTH, np.nan), TRUTH, named_protocol("nyu-deepv2d"))
    assert nothing["frames"] == 0
    assert all(np.isnan(nothing[measure]) for measure in (*MEASURES, "a1", "scale"))


def test_bad_protocols_are_refused() -> None:
    with pytest.raises(UserError, match="no depth protocol 'kitti'; choose from plain, metric"):
        named_protocol("kitti")
    with pytest.raises(UserError, match="max-depth 1 is not above min-depth 2"):
        DepthProtocol(2.0, 1.0)
    with pytest.raises(ValueError, match="longer"):
        depth_metrics(TRUTH[:2], TRUTH)


def test_the_factors_by_hand() -> None:
    """Of truths 2, 4, 6, 40 m and predictions 1, 4, 2, 4: medians 5 and 3, ratios 2, 1, 3, 10 with median 2.5."""
    truth, predicted = np.array([[[2.0, 4, 6, 40]]]), np.array([[[1.0, 4, 2, 4]]])
    protocol = replace(named_protocol("plain"), clip="none")
    assert depth_metrics(predicted, truth, protocol)["scale"] == pytest.approx(5 / 3)
    assert depth_metrics(predicted, truth, replace(protocol, scaling="median_of_ratios"))["scale"] == 2.5
    near = replace(protocol, scale_from=1.0, scale_to=10.0)
    assert depth_metrics(predicted, truth, near)["scale"] == 2.0
    two = depth_metrics([predicted[0], predicted[0] / 3], [truth[0]] * 2, near)
    assert (two["scale"], two["scale_spread"]) == (4.0, pytest.approx(0.5))


# What the papers' own code said of two images, sparse in truth and a fifth of their size in prediction: TrianFlow's
# eval_depth after resizing depth (as SfMLearner, to 80 and 50 m) or disparity, DeepV2D's evaluate of KITTI and of NYU.
PUBLISHED = {
    "kitti-sfmlearner": "abs_rel 0.105024 sq_rel 0.571915 rmse 4.90296 rmse_log 0.132834 a1 0.908216",
    "kitti-sfmlearner-50": "abs_rel 0.102879 sq_rel 0.395613 rmse 3.28988 rmse_log 0.131016 a1 0.91133",
    "kitti-monodepth2": "abs_rel 0.105136 sq_rel 0.571079 rmse 4.90277 rmse_log 0.13323 a1 0.907181",
    "kitti-deepv2d": "abs_rel 0.106195 sq_rel 0.608433 rmse 5.14516 rmse_log 0.134177 log10 0.0457913 a1 0.904122",
    "nyu-trianflow": "abs_rel 0.109028 sq_rel 0.107718 rmse 0.936272 log10 0.0466877 a1 0.898499",
    "nyu-deepv2d": "abs_rel 0.109066 sq_rel 0.0842445 rmse 0.705223 rmse_log 0.1378 log10 0.0469341 a1 0.897726",
}


def _street(height: int, width: int, known: float, size: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    v, u = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None]
    street = 200 * np.exp(-2.5 * v) - 10.5 + 8 * abs(np.sin(9 * u)) * (v < 0.6) + 4 * (u > 0.6)
    truth, predicted, rng = [], [], np.random.default_rng(1)
    for i in range(2):
        depth = street * (1 + 0.1 * i) * size
        truth.append(np.where(rng.random(depth.shape) < known, depth, 0).astype(np.float32))
        blocks = depth[: height // 5 * 5, : width // 5 * 5].reshape(height // 5, 5, width // 5, 5).mean(axis=(1, 3))
        predicted.append((blocks * np.exp(rng.normal(0, 0.2, blocks.shape)) / 7).astype(np.float32))
    return truth, predicted


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_papers_own_code_agrees(name: str) -> None:
    truth, predicted = _street(375, 1242, 0.4, 1.0) if name.startswith("kitti") else _street(480, 640, 0.8, 0.09)
    found = depth_metrics(predicted, truth, named_protocol(name))
    for measure, value in zip(*[iter(PUBLISHED[name].split())] * 2, strict=True):
        assert found[measure] == pytest.approx(float(value), rel=6e-6), measure
