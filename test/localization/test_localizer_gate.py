"""What is accepted, and the local features that speak for a place."""

from __future__ import annotations

import numpy as np
import pytest
import support.carpet as carpet

from pose2rgbd_ros.localization.evidence import FeatureModel, image_figures
from pose2rgbd_ros.localization.gate import Gate, blank
from pose2rgbd_ros.localization.memory import Memory
from pose2rgbd_ros.localization.spoilt import SPOILT

VIEW = carpet.CAMERA.resized(128, 128)


@pytest.fixture(scope="module")
def memory() -> Memory:
    """Of a row of frames 2 m apart."""
    T, ground = carpet.poses(np.arange(-14.0, 15.0, 2.0), np.zeros(15)), carpet.carpet(0)
    return Memory.of((carpet.seen(ground, one, VIEW) for one in T), T)


def test_features_are_found_again_between_the_frames_and_not_elsewhere(memory: Memory):
    between = carpet.poses(np.array([-9.0, 1.0, 7.0]), np.array([1.0, -1.0, 0.5]))
    here, there = carpet.carpet(0), carpet.carpet(1)
    again = [memory.found_again(carpet.seen(here, T, VIEW), T) for T in between]
    foreign = [memory.found_again(carpet.seen(there, T, VIEW), T) for T in between]
    assert min(again) > 2 * max(foreign)
    assert memory.found_again(np.full((128, 128, 3), 99, np.uint8), between[0]) == 0


def test_the_features_of_another_kind_are_unlike():
    generator = np.random.default_rng(0)
    mix = generator.normal(size=(8, 40))
    training = (generator.normal(size=(300, 8)) @ mix + 0.05 * generator.normal(size=(300, 40))).astype(
        np.float32
    )
    model = FeatureModel.of(training)
    other = (generator.normal(size=(50, 8)) @ mix + 0.05 * generator.normal(size=(50, 40))).astype(np.float32)
    foreign = generator.normal(size=(50, 40)).astype(np.float32)
    alike = [model.unlikeness(one) for one in other]
    assert np.median(alike) == pytest.approx(1.0, abs=0.3)
    assert min(model.unlikeness(one) for one in foreign) > 2 * max(alike)


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
    assert "what the network sees in it differs" in reason, (
        "4 spreads, though other doubts are larger numbers"
    )
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
    figures = image_figures(SPOILT[name](frames[7]))
    assert word in (blank(figures) or gate.look(figures))


def test_an_image_of_one_colour_is_blank_whatever_the_place():
    for level, word in ((0, "black"), (128, "blank"), (255, "overexposed")):
        assert word in blank(image_figures(np.full((64, 64, 3), level, np.uint8)))
    assert (
        blank(image_figures(carpet.seen(carpet.carpet(0), carpet.poses(np.zeros(1), np.zeros(1))[0]))) == ""
    )
