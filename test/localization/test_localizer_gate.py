"""What is accepted, and the local features that speak for a place."""

from __future__ import annotations

import numpy as np
import pytest
import support.carpet as carpet
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.evaluation.calibrate_poses import CORRUPTIONS
from pose2rgbd_ros.localization.gate import DOUBTS, FeatureModel, Gate, KeyframeFeatures, novelty_cues
from pose2rgbd_ros.localization.predict import PosePrediction, blank, image_figures

VIEW = carpet.CAMERA.resized(128, 128)


@pytest.fixture(scope="module")
def memory() -> KeyframeFeatures:
    """Of a row of frames 2 m apart."""
    T, ground = carpet.poses(np.arange(-14.0, 15.0, 2.0), np.zeros(15)), carpet.carpet(0)
    return KeyframeFeatures.of((carpet.seen(ground, one, VIEW) for one in T), T)


def test_features_are_found_again_between_the_frames_and_not_elsewhere(memory: KeyframeFeatures):
    between = carpet.poses(np.array([-9.0, 1.0, 7.0]), np.array([1.0, -1.0, 0.5]))
    here, there = carpet.carpet(0), carpet.carpet(1)
    again = [memory.found_again(carpet.seen(here, T, VIEW), T) for T in between]
    foreign = [memory.found_again(carpet.seen(there, T, VIEW), T) for T in between]
    assert min(again) > 2 * max(foreign)
    assert memory.found_again(np.full((128, 128, 3), 99, np.uint8), between[0]) == 0


def test_frames_near_a_pose_are_near_in_place_and_heading():
    """A turn of a radian counts as 30 m: 10 m off is nearer than turned by 30 degrees, and farther than by 15."""
    here = carpet.poses(np.zeros(1), np.zeros(1))[0]
    T = np.stack([here] * 4)
    T[0, 0, 3] = 10.0
    for row, degrees in ((1, 30.0), (2, 15.0), (3, 180.0)):
        T[row, :3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix() @ here[:3, :3]
    none = np.zeros((4, 1, 2), np.float32), np.zeros((4, 1, 128), np.uint8), np.zeros(4, int)
    assert KeyframeFeatures(T, *none)._near(here).tolist() == [2, 0, 1, 3]


def test_a_feature_is_found_again_if_no_other_is_nearly_as_alike():
    """By a distance of 85 % of the second best; what fills the rows of frames with few features is nobody's partner."""
    described = np.zeros((3, 4, 128), np.uint8)  # of three frames, by their distances from a view's one feature
    for frame, distances in enumerate(((10, 12, 0, 0), (10, 11, 0, 0), (10, 0, 0, 0))):
        described[frame, :, 0] = 100 + np.array(distances)
    memory = KeyframeFeatures(
        np.tile(np.eye(4), (3, 1, 1)), np.zeros((3, 4, 2), np.float32), described, np.array([2, 2, 1])
    )
    view = np.zeros((1, 128), np.uint8)
    view[0, 0] = 100
    partner, clear = memory._matches(view, np.arange(3))
    assert partner.tolist() == [[0, 0, 0]]
    assert clear.tolist() == [[True, False, False]], "one feature alone cannot be better than a second"


def test_the_features_of_another_kind_are_unlike():
    generator = np.random.default_rng(0)
    mix = generator.normal(size=(8, 40))
    training = (generator.normal(size=(300, 8)) @ mix + 0.05 * generator.normal(size=(300, 40))).astype(np.float32)
    model = FeatureModel.of(training)
    other = (generator.normal(size=(50, 8)) @ mix + 0.05 * generator.normal(size=(50, 40))).astype(np.float32)
    foreign = generator.normal(size=(50, 40)).astype(np.float32)
    alike = [model.unlikeness(one) for one in other]
    assert np.median(alike) == pytest.approx(1.0, abs=0.3)
    assert min(model.unlikeness(one) for one in foreign) > 2 * max(alike)


def test_unlikeness_by_hand():
    """Along the axes by their deviations, in all other directions by that of the rest, over the root of the number."""
    model = FeatureModel(np.array([1.0, 0.0, 0.0, 0.0]), np.array([[0.0, 1.0, 0.0, 0.0]]), np.array([2.0]), 0.5)
    assert model.unlikeness(np.array([1.0, 6.0, 0.0, 0.0], np.float32)) == pytest.approx(3.0 / 2)
    assert model.unlikeness(np.array([1.0, 0.0, 2.0, 0.0], np.float32)) == pytest.approx(4.0 / 2)
    assert model.unlikeness(np.array([4.0, 6.0, 0.0, 2.0], np.float32)) == pytest.approx(
        np.sqrt(9 + (9 + 4) / 0.25) / 2
    )


def test_the_feature_model_holds_the_variance_of_training_frames():
    """Far from zero, as the features of a network are: that along the axes, and evenly in what is left."""
    generator = np.random.default_rng(1)
    values = (generator.normal(size=(40, 30)) * np.linspace(5.0, 0.1, 30) + 200.0).astype(np.float32)
    model = FeatureModel.of(values)
    variance = values.astype(np.float64).var(axis=0, ddof=1).sum()
    count = len(model.deviation)
    assert count == 10
    assert (model.deviation**2).sum() + (30 - count) * model.rest**2 == pytest.approx(variance)
    along = (values - values.mean(axis=0, dtype=np.float64)) @ model.axes.T
    assert np.allclose(along.std(axis=0, ddof=1), model.deviation)
    other = np.random.default_rng(2).normal(size=(400, 30)) * np.linspace(5.0, 0.1, 30) + 200.0
    squared = [model.unlikeness(one.astype(np.float32)) ** 2 for one in other]
    assert 0.8 < np.mean(squared) < 2.5, "about 1, if little more: the axes were fitted to other frames"


def test_doubts_by_hand(memory: KeyframeFeatures):
    """Five figures that all grow with doubt."""
    T = carpet.poses(np.array([1.0]), np.array([0.0]))[0]
    view, features = carpet.seen(carpet.carpet(0), T, VIEW), np.array([0.0, 6.0], np.float32)
    model = FeatureModel(np.zeros(2), np.array([[0.0, 1.0]]), np.array([2.0]), 1.0)
    spread = np.array([3.0, -4.0, 12.0, 0.03, 0.04, 0.12])
    prediction = PosePrediction(view, view, T, spread, features, 0.7)
    found = dict(zip(DOUBTS, novelty_cues(prediction, model, memory), strict=True))
    again = memory.found_again(view, T)
    assert again > 20
    assert found == pytest.approx({
        "features": np.log(3.0 / np.sqrt(2.0)), "shift": np.log(13.0), "turn": np.log(0.13), "realism": -0.7,
        "memory": -np.log(1.0 + again),
    })  # fmt: skip
    T_away, nothing = carpet.poses(np.array([1e3]), np.zeros(1))[0], np.zeros_like(view)
    alone = PosePrediction(view, nothing, T_away, np.zeros(6), np.zeros(2, np.float32), np.nan)
    least = novelty_cues(alone, model, memory)
    assert np.isfinite(least).all()
    assert np.array_equal(least[3:], [0.0, 0.0]), "no discriminator, nothing found again"
    assert (least[:3] < [found[name] for name in ("features", "shift", "turn")]).all()


def test_figures_of_an_image_by_hand():
    """Half of it red: red is first, and counts for 0.299 of grey."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:, 0] = 200
    mean, contrast, sharp = image_figures(image)
    assert mean == pytest.approx(30.0)
    assert contrast == pytest.approx(30.0)
    blurred = image.copy()
    blurred[:, 24:40, 0] = np.linspace(0, 200, 16)
    assert 0 < image_figures(blurred)[2] < sharp / 2


def test_a_gate_fitted_by_hand():
    """Usual: the middle of the doubts. Spread: from there to the ninth tenth. The limit: a score that was seen."""
    steps = np.linspace(0.0, 1.0, 101)
    doubts = 50.0 + np.outer(steps, [10.0, 20.0, 40.0, 0.0, 100.0])
    figures = np.stack([100 + 1000 * steps, 50 + 0 * steps, 1 + 10 * steps], axis=1)
    gate = Gate.fit(figures, doubts, 0.943)
    assert np.allclose(gate.usual, [55.0, 60.0, 70.0, 50.0, 100.0])
    assert np.allclose(gate.spread, [4.0, 8.0, 16.0, 0.0, 40.0])
    scores = np.array([gate.score(one) for one in doubts])
    assert np.allclose(scores, np.maximum(steps - 0.5, 0.0) / 0.4 * 4 / 5)
    assert gate.limit == pytest.approx(scores[95]), "the next higher one, so that no fewer pass"
    assert np.allclose(gate.least, [105.0, 50.0, 1.05]), "without half a per cent on each side"
    assert np.allclose(gate.most, [1095.0, 50.0, 10.95])


def test_how_far_figures_may_lie_beyond_the_training_frames():
    """By the factors of docs/localization_trust.md: 0.75 to 1.3 of the mean, 0.6 to 1.6 and 0.6 to 1.7."""
    gate = Gate(np.array([100.0, 40.0, 1.0]), np.array([150.0, 60.0, 2.0]), np.zeros(5), np.ones(5), 1.0)
    usual = np.array([120.0, 50.0, 1.5])
    for place, (low, high), words in (
        (0, (75.0, 195.0), ("too dark", "overexposed")),
        (1, (24.0, 96.0), ("almost without contrast", "of too much contrast")),
        (2, (0.6, 3.4), ("blurred", "sharper than")),
    ):
        for value, factor, word in ((low, 0.99, words[0]), (high, 1.01, words[1])):
            inside, beyond = usual.copy(), usual.copy()
            inside[place], beyond[place] = value / factor, value * factor
            assert gate.look(inside) == ""
            assert word in gate.look(beyond)
    assert blank(np.array([120.0, 1.9, 1.0])) == "the image is blank: mean 120 of 255, contrast 1.9"
    assert blank(np.array([120.0, 2.0, 1.0])) == ""


def test_the_limit_lets_the_wanted_share_pass_and_the_reason_names_the_doubt():
    generator = np.random.default_rng(0)
    figures, doubts = np.tile([[120.0, 50.0, 1.0]], (50, 1)), generator.normal(size=(400, 5))
    doubts[:, 3] = 0.0  # of a network without a discriminator
    gate = Gate.fit(figures, doubts, 0.9)
    assert np.mean([gate.reason(one) == "" for one in doubts]) == pytest.approx(0.9, abs=0.01)
    strange = np.array([0.0, 0.0, 0.0, 0.0, 20.0])
    assert "shows little of what training frames near its pose show" in gate.reason(strange)
    assert gate.reason(np.array([0.0, 0.0, 0.0, 99.0, 0.0])) == "", "a doubt that is never told tells nothing"


def test_the_score_by_hand():
    """The mean excess over the usual, each in units of its own spread; less than usual is no merit."""
    gate = Gate(np.zeros(3), np.full(3, 9.0), np.arange(5.0), np.array([1.0, 2.0, 4.0, 0.0, 5.0]), 1.0)
    assert gate.score(np.arange(5.0)) == 0.0
    assert gate.score(np.arange(5.0) - 7.0) == 0.0
    assert gate.score(np.array([3.0, 5.0, 2.0, 99.0, 4.0])) == pytest.approx((3.0 + 2.0) / 5)
    assert gate.reason(np.array([3.0, 5.0, 2.0, 99.0, 4.0])) == "", "up to the limit"
    reason = gate.reason(np.array([4.0, 5.0, 4.0, 99.0, 9.0]))
    assert "what the network sees in it differs" in reason, "4 spreads, though other doubts are larger numbers"
    assert "(score 1.50, limit 1.00)" in reason


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("black", "black"), ("dark", "too dark"), ("overexposed", "overexposed"), ("out of focus", "blurred"),
        ("motion blur", "blurred"), ("noise", "sharper"),
    ],
)  # fmt: skip
def test_spoilt_images_are_told(name: str, word: str):
    ground = carpet.carpet(0)
    frames = [carpet.seen(ground, T) for T in carpet.poses(np.linspace(-8, 8, 30), np.linspace(5, -5, 30))]
    gate = Gate.fit(np.stack([image_figures(one) for one in frames]), np.zeros((30, 5)), 0.95)
    assert [gate.look(image_figures(one)) for one in frames] == [""] * 30
    figures = image_figures(CORRUPTIONS[name](frames[7]))
    assert word in (blank(figures) or gate.look(figures))


def test_an_image_of_one_colour_is_blank_whatever_the_place():
    for level, word in ((0, "black"), (128, "blank"), (255, "overexposed")):
        assert word in blank(image_figures(np.full((64, 64, 3), level, np.uint8)))
    assert blank(image_figures(carpet.seen(carpet.carpet(0), carpet.poses(np.zeros(1), np.zeros(1))[0]))) == ""
