"""Camera against memory: what is new is found, what is only seen from beside, in another light or less sharply is
not.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pose2rgbd_ros.localization.change import ChangeSettings, aligned, compare, relit

SIDE = 128


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """Roofs and streets, more or less: (128, 128, 3)."""
    rng = np.random.default_rng(4)
    picture = np.full((SIDE, SIDE, 3), 110, np.uint8)
    for _ in range(60):
        x, y = rng.integers(-10, SIDE, 2)
        w, h = rng.integers(6, 34, 2)
        cv2.rectangle(picture, (int(x), int(y)), (int(x + w), int(y + h)), rng.integers(30, 220, 3).tolist(), -1)
    noise = rng.normal(0, 3, picture.shape)
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 0.7) + noise, 0, 255).astype(np.uint8)


def blurred(picture: np.ndarray, sigma: float = 1.2) -> np.ndarray:
    """As a renderer remembers it."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma))


def shifted(picture: np.ndarray, right: float, down: float) -> np.ndarray:
    move = np.float32([[1, 0, right], [0, 1, down]])
    return cv2.warpAffine(picture, move, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)


def with_car(picture: np.ndarray, at: tuple[int, int] = (40, 70)) -> tuple[np.ndarray, np.ndarray]:
    """A red car of 12 x 6 pixels, and where it is."""
    found, truth = picture.copy(), np.zeros((SIDE, SIDE), bool)
    truth[at[1] : at[1] + 6, at[0] : at[0] + 12] = True
    found[truth] = (230, 20, 240)
    return found, truth


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


@pytest.mark.parametrize("light", [(1.0, 1.0, 1.0), (0.6, 0.7, 0.8), (1.2, 1.1, 0.9)])
@pytest.mark.parametrize("beside", [(0.0, 0.0), (2.5, -1.5)])
def test_a_car_is_found_whatever_light_and_small_error_of_the_pose(scene, light, beside):
    image, truth = with_car(scene)
    image = np.clip(image * np.array(light), 0, 255).astype(np.uint8)
    memory = shifted(blurred(scene), *beside)
    found = compare(image, memory)
    assert overlap(found.mask, truth) > 0.35
    near = cv2.dilate(truth.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    assert not (found.mask & ~near)[6:-6, 6:-6].any(), "nothing else"
    car = found.reference[truth].astype(int) - image[truth]
    assert np.abs(car).mean() > 40, "the reference has no car"


def test_something_gone_is_a_change_too(scene):
    memory, truth = with_car(scene)
    assert overlap(compare(scene, blurred(memory)).mask, truth) > 0.35


def test_nothing_new_is_no_change(scene):
    for memory in (scene, blurred(scene), blurred(scene, 2.0), shifted(blurred(scene), 1.5, 1.0)):
        assert compare(scene, memory).mask[6:-6, 6:-6].mean() < 0.002


def test_what_memory_does_not_show_is_no_change(scene):
    image, truth = with_car(scene)
    memory = blurred(scene)
    memory[:, :64] = 0  # outside the field of view it was trained with
    found = compare(image, memory)
    assert not found.mask[:, :60].any()
    assert not found.known[:, :60].any()
    nothing = compare(image, np.zeros_like(image))
    assert not nothing.mask.any()
    known = ~truth
    assert not compare(image, blurred(scene), known, ChangeSettings(align_px=0.0)).mask[truth].any()


def test_light_and_place_are_made_alike(scene):
    memory = shifted(blurred(scene), 3.0, 2.0)
    moved, _ = aligned(blurred(scene), memory, np.ones((SIDE, SIDE), bool), 8.0)
    inner = slice(12, -12), slice(12, -12)
    before = np.abs(memory[inner].astype(int) - blurred(scene)[inner]).mean()
    after = np.abs(moved[inner].astype(int) - blurred(scene)[inner]).mean()
    assert after < before / 3
    dark = np.clip(scene * np.array([0.5, 0.6, 0.7]) + 9, 0, 255).astype(np.uint8)
    assert np.abs(relit(dark, scene, np.ones((SIDE, SIDE), bool)).astype(int) - dark).mean() < 1.5


def test_the_picture_shows_changes_in_colour_and_the_rest_in_grey(scene):
    image, _ = with_car(scene)
    found = compare(image, blurred(scene))
    picture = found.picture(image)
    assert picture.shape == image.shape
    np.testing.assert_array_equal(picture[found.mask], image[found.mask])
    away = ~cv2.dilate(found.mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    assert np.ptp(picture[away].astype(int), axis=-1).max() == 0


def test_images_too_small_for_flow_are_compared_all_the_same(scene):
    for height, width in ((7, 40), (40, 7), (1, 1)):
        small = np.ascontiguousarray(scene[:height, :width])
        assert not compare(small, small).mask.any()
