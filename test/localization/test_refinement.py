"""Refinement by rendering: the pose of a picture is found again, and what is no picture of the place is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_relief import small_relief

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.align import align
from pose2rgbd_ros.localization.estimate import Estimate
from pose2rgbd_ros.localization.refine import Refiner, RefineSettings
from pose2rgbd_ros.localization.views import Picture, RenderedMemory, similarity
from pose2rgbd_ros.models.backends import RenderedImages
from pose2rgbd_ros.models.pose2rgbd.config import Pose2RGBDConfig
from pose2rgbd_ros.models.pose2rgbd.network import Pose2RGBD
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import Checkpoint, save_checkpoint
from pose2rgbd_ros.training.families import architecture_of

CAMERA = Camera.from_fov(96, 96, 80.0)
TRUE = se3.look_at(np.array([-4.0, -6.0, 8.0]), np.array([1.0, 1.0, 0.0]))


def save(
    path: Path,
    model: torch.nn.Module,
    depth_kind: str | None = "metric",
    camera: Camera = CAMERA,
    spread: tuple[float, float] = (4.0, 0.2),
) -> Path:
    """The checkpoint of a model that nobody trained, with poses about `TRUE`: so many metres and radians."""
    generator = np.random.default_rng(0)
    T = np.stack([off(TRUE, *generator.normal(size=(2, 3)) * np.reshape(spread, (2, 1))) for _ in range(12)])
    checkpoint = Checkpoint(
        architecture=architecture_of(model),
        normalization=Normalization.fit(T, np.array([[[4.0, 31.0]]], np.float32), "quaternion"),
        camera=camera,
        map_frame="map",
        camera_frame="camera_optical",
        depth_kind=depth_kind,
        state_dict=model.state_dict(),
        training_stamps_ns=np.arange(12),
        training_T_map_cam=T,
    )
    save_checkpoint(path, checkpoint)
    return path


def off(T: np.ndarray, shift_m, turn_rad) -> np.ndarray:
    """The pose moved and turned about the map's axes."""
    moved = T.copy()
    moved[:3, :3] = se3.exponential(np.r_[0.0, 0.0, 0.0, turn_rad])[:3, :3] @ T[:3, :3]
    moved[:3, 3] += shift_m
    return moved


def apart(T: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Metres and degrees."""
    cosine = (np.trace(T[:3, :3].T @ other[:3, :3]) - 1) / 2
    return float(np.linalg.norm(T[:3, 3] - other[:3, 3])), float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def textured_relief() -> torch.nn.Module:
    """A relief of grassland and a house, with texture that has detail at every size."""
    model = small_relief()
    torch.manual_seed(3)
    with torch.no_grad():
        for table in (model.features.maps, model.features.coarse):
            table.normal_(0.0, 0.3)
    return model


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    path = save(tmp_path_factory.mktemp("place") / "model", textured_relief())
    return Renderer(path, device="cpu", threads=1)


@pytest.fixture(scope="module")
def image(place: Renderer) -> np.ndarray:
    """The place from `TRUE`."""
    shown = place.render_for_camera(TRUE, CAMERA)
    assert shown.rgb is not None
    return shown.rgb[0].copy()


@pytest.mark.parametrize("seed", [0, 3])
def test_a_rough_pose_is_made_exact(place: Renderer, image: np.ndarray, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rough = off(TRUE, generator.normal(size=3) * 0.8, generator.normal(size=3) * 0.06)
    found = Refiner(place).refine(image, CAMERA, Estimate(rough))
    assert found.accepted, found.reason
    assert found.refined
    metres, degrees = apart(found.T_map_cam, TRUE)
    assert metres < 0.03
    assert degrees < 0.15
    assert found.verification > 0.95
    assert 0 < found.position_sigma_m < 0.1


def test_other_light_and_a_mover_do_not_matter(place: Renderer, image: np.ndarray) -> None:
    seen = np.clip(image * np.array([0.5, 0.45, 0.4]) + 30, 0, 255).astype(np.uint8)
    seen[30:50, 55:75] = (250, 240, 30)
    found = Refiner(place).refine(seen, CAMERA, Estimate(off(TRUE, [0.5, -0.4, 0.2], [0.02, 0.03, -0.04])))
    assert found.accepted, found.reason
    assert apart(found.T_map_cam, TRUE)[0] < 0.05


def test_an_image_of_another_size_and_lens(place: Renderer) -> None:
    """The picture of a distorted camera three times as large, which the refiner undistorts and shrinks."""
    lens = Camera(320, 240, 170.0, 170.0, 159.5, 119.5, "plumb_bob", (-0.1, 0.01, 0.0, 0.0))
    shown = place.render_for_camera(TRUE, lens).rgb
    assert shown is not None
    found = Refiner(place).refine(shown[0], lens, Estimate(off(TRUE, [0.4, 0.3, -0.2], [0.03, 0.0, 0.03])))
    assert found.accepted, found.reason
    assert apart(found.T_map_cam, TRUE)[0] < 0.1


def test_what_is_no_picture_of_the_place_is_refused(place: Renderer, image: np.ndarray) -> None:
    refiner = Refiner(place, RefineSettings(hypotheses=1))
    noise = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
    for seen, why in (
        (np.zeros_like(image), "black"),
        (np.full_like(image, 90), "one colour"),
        (noise, "likeness"),
        (np.ascontiguousarray(image[::-1]), "likeness"),
    ):
        found = refiner.refine(seen, CAMERA, Estimate(TRUE))
        assert not found.accepted
        assert not found.refined
        assert why in found.reason
        assert np.array_equal(found.T_map_cam, TRUE)


def test_pictures_that_do_not_overlap(place: Renderer, image: np.ndarray) -> None:
    memory = place.render_for_camera(TRUE, CAMERA)
    assert memory.depth is not None
    away = TRUE @ se3.exponential(np.array([0.0, 0.0, 0.0, 0.0, np.pi, 0.0]))
    query = Picture(image, np.ones(image.shape[:2], bool), CAMERA)
    assert align(query, [RenderedMemory(image, memory.depth[0], TRUE, CAMERA)], away, 5) is None


def test_no_rough_pose_no_refined_one(place: Renderer, image: np.ndarray) -> None:
    found = Refiner(place).refine(image, CAMERA, Estimate(None, accepted=False, reason="the image is blurred"))
    assert not found.accepted
    assert found.reason == "the image is blurred"


def test_a_pose_refined_too_far_away_is_refused(place: Renderer, image: np.ndarray) -> None:
    rough = off(TRUE, [0.6, 0.0, 0.0], [0.0, 0.0, 0.0])
    found = Refiner(place, RefineSettings(farthest_m=0.3)).refine(image, CAMERA, Estimate(rough))
    assert not found.accepted
    assert "from the rough one" in found.reason


def test_verification_tells_near_poses_from_far_ones(place: Renderer, image: np.ndarray) -> None:
    refiner = Refiner(place)
    values = [refiner.verify(image, CAMERA, off(TRUE, [shift, 0, 0], [0, 0, 0])) for shift in (0.0, 0.1, 0.5, 3.0)]
    assert values[0] > 0.95
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.5


class Blurring(Renderer):
    """Shows what a network without geometry does: the views it was trained on, and a mixture of them in between."""

    def render_for_camera(self, T_map_cam, camera: Camera, out: RenderedImages | None = None) -> RenderedImages:
        assert camera == self.camera
        poses = np.reshape(T_map_cam, (-1, 4, 4))
        known = np.stack([self.guard.score.most_alike(T, 2) for T in poses])
        shown = self._render(known[:, 0], camera, None)
        for index in np.flatnonzero(~np.isclose(known[:, 0], poses).all(axis=(1, 2))):
            other = self._render(known[index, 1:], camera, None).rgb[0]
            shown.rgb[index] = (shown.rgb[index].astype(int) + other) // 2
        return shown


@pytest.fixture(scope="module")
def network(place: Renderer, tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    path = save(tmp_path_factory.mktemp("network") / "model", textured_relief(), spread=(0.6, 0.05))
    made = Blurring(path, device="cpu", threads=1, guard=False)
    made.any_camera = False
    return made


def test_a_network_without_geometry(network: Renderer, image: np.ndarray) -> None:
    """By the views that it was trained on, since what it shows at the pose itself is a mixture."""
    rough = off(TRUE, [0.5, -0.4, 0.3], [0.01, -0.02, 0.02])
    refiner = Refiner(network, RefineSettings(hypotheses=1))
    found = refiner.refine(image, CAMERA, Estimate(rough))
    assert found.accepted, found.reason
    assert found.verification > 0.9
    metres, degrees = apart(found.T_map_cam, TRUE)
    assert metres < 0.05
    assert degrees < 0.3


def test_no_picture_of_what_a_network_learnt(network: Renderer, image: np.ndarray) -> None:
    mirrored = np.ascontiguousarray(image[:, ::-1])
    found = Refiner(network, RefineSettings(hypotheses=1, iterations=4)).refine(mirrored, CAMERA, Estimate(TRUE))
    assert not found.accepted
    assert "likeness" in found.reason


def test_a_network_far_from_the_rough_pose(network: Renderer, image: np.ndarray) -> None:
    """From training poses about the rough one, the most alike first."""
    rough = off(TRUE, [5.0, -5.0, 1.0], [0.3, 0.2, -0.3])
    found = Refiner(network, RefineSettings(spread_m=8.0, hypotheses=2)).refine(image, CAMERA, Estimate(rough))
    assert found.accepted, found.reason
    assert apart(found.T_map_cam, TRUE)[0] < 0.05


def test_a_network_that_learnt_nothing(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Pose2RGBD(Pose2RGBDConfig(size=32, width=1 / 4, pose_frequencies=2))
    camera = Camera.from_fov(32, 32, 80.0)
    renderer = Renderer(save(tmp_path / "base", model, camera=camera), device="cpu", threads=1, guard=False)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    found = Refiner(renderer, RefineSettings(hypotheses=2)).refine(noise, camera, Estimate(TRUE))
    assert not found.accepted
    assert np.array_equal(found.T_map_cam, TRUE)


def test_an_image_moved_to_where_a_rendering_was_made(place: Renderer, image: np.ndarray) -> None:
    away = off(TRUE, [0.5, -0.4, 0.2], [0.02, 0.03, -0.04])
    shown = place.render_for_camera(away, CAMERA)
    assert shown.rgb is not None
    assert shown.depth is not None
    memory = RenderedMemory(shown.rgb[0], shown.depth[0], away, CAMERA)
    query = Picture(image, np.ones(image.shape[:2], bool), CAMERA)
    assert query.seen_from(memory, away) is query
    moved = query.seen_from(memory, TRUE)
    assert 0.5 < moved.seen.mean() < 1.0
    assert similarity(moved, memory) > 0.95
    assert similarity(query, memory) < 0.8
    left = np.abs(moved.rgb.astype(float) - memory.rgb)[moved.seen].mean()
    assert left < 0.3 * np.abs(image.astype(float) - memory.rgb).mean()


def pictures(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two unrelated textures (96, 96, 3), of 30 levels of contrast."""
    blots = np.random.default_rng(seed).normal(size=(2, 24, 24, 1)).astype(np.float32)
    first, second = (cv2.resize(one, (96, 96), interpolation=cv2.INTER_CUBIC)[..., None] for one in blots)
    return tuple(np.clip(128 + 30 * one.repeat(3, axis=2), 0, 255).astype(np.uint8) for one in (first, second))


def alike(rgb: np.ndarray, shown: np.ndarray, seen: np.ndarray | None = None, depth: np.ndarray | None = None) -> float:
    query = Picture(rgb, np.ones((96, 96), bool) if seen is None else seen, CAMERA)
    return similarity(
        query, RenderedMemory(shown, np.ones((96, 96), np.float32) if depth is None else depth, TRUE, CAMERA)
    )


def test_likeness_is_of_texture_whatever_the_light() -> None:
    texture, other = pictures()
    assert alike(texture, texture) > 0.97
    assert alike(texture, (texture * 0.5 + 60).astype(np.uint8)) > 0.93
    assert alike(texture, 255 - texture) < -0.97, "a negative is no likeness"
    assert abs(alike(texture, other)) < 0.25
    bright = np.where(np.arange(96)[:, None, None] < 48, 90, 0)  # a sky over both
    skies = [np.clip(one * 0.4 + bright, 0, 255).astype(np.uint8) for one in (texture, other)]
    assert alike(*skies) < 0.75, "what they share in the large does not help"


def test_likeness_counts_only_what_is_known_and_seen() -> None:
    texture, other = pictures()
    left, ones = np.arange(96)[None, :] < 48, np.ones((96, 96), np.float32)
    half = np.where(left[..., None], other, texture)
    assert alike(texture, half) < 0.7
    assert alike(texture, half, depth=np.where(left, np.nan, ones)) > 0.97
    assert alike(texture, half, seen=np.broadcast_to(~left, (96, 96))) > 0.97
    black = np.where(left[..., None], 0, texture).astype(np.uint8)
    assert alike(texture, black, depth=np.where(left, np.nan, ones)) > 0.95, "not even next to it"
    top, more = (np.broadcast_to(np.arange(96)[:, None] < rows, (96, 96)) for rows in (8, 20))
    assert np.isnan(alike(texture, texture, seen=top)), "less than a tenth of the picture"
    assert alike(texture, np.where(more[..., None], texture, other), seen=more) > 0.95


def test_windows_that_are_flat_in_the_cameras_image_do_not_count() -> None:
    texture, _ = pictures()
    left, level = np.arange(96)[None, :, None] < 48, np.full((96, 96, 3), 128, np.uint8)
    flat = np.where(left, level, texture)
    assert alike(flat, texture) > alike(texture, flat) + 0.1, "the camera sees what memory does not hold"
    noise = np.random.default_rng(1).normal(size=(2, 96, 96, 1)) * 4
    dim = [np.clip(texture * 0.2 + 100 + one, 0, 255).astype(np.uint8) for one in noise]
    assert alike(texture, texture) - alike(*dim) > 0.2, "contrast of the size of noise is worth less"
    assert np.isnan(alike(level, texture))


def test_renderers_that_cannot_refine_are_refused(tmp_path: Path) -> None:
    relative = Renderer(save(tmp_path / "relative", small_relief(), depth_kind="relative"), device="cpu", threads=1)
    with pytest.raises(UserError, match="metric depth"):
        Refiner(relative)


def test_images_that_are_none_of_the_camera(place: Renderer, image: np.ndarray) -> None:
    with pytest.raises(UserError, match="expected uint8"):
        Refiner(place).verify(image[:40], CAMERA, TRUE)
    with pytest.raises(UserError, match="not calibrated"):
        Refiner(place).verify(image, Camera(96, 96, 0.0, 0.0, 0.0, 0.0), TRUE)


def test_settings_out_of_bounds(place: Renderer) -> None:
    with pytest.raises(UserError, match="least_likeness"):
        Refiner(place, RefineSettings(least_likeness=2.0))


@settings(max_examples=6, derandomize=True)
@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6), st.floats(0.5, 2.0), st.floats(-20, 20))
def test_direct_alignment_follows_the_geometry(twist: list[float], gain: float, offset: float) -> None:
    """A wavy surface seen twice, drawn by its formula: alignment finds the motion between, whatever the light."""
    camera = Camera.from_fov(64, 64, 70.0)
    motion = se3.exponential(np.array(twist) * ([0.12] * 3 + [0.012] * 3))  # second camera in the first

    def drawn(T_map_cam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rays = camera.rays() @ T_map_cam[:3, :3].T
        depth_m = (10.0 - T_map_cam[2, 3]) / rays[..., 2]  # the plane z = 10
        x, y, _ = np.moveaxis(T_map_cam[:3, 3] + rays * depth_m[..., None], -1, 0)
        waves = [np.sin(1.3 * x + k) + np.sin(1.7 * y - k) + np.sin(0.9 * x * 0.8 - 1.1 * y) for k in range(3)]
        return 110 + 20 * np.stack(waves, axis=-1), depth_m.astype(np.float32)

    first, depth_m = drawn(np.eye(4))
    second, _ = drawn(motion)
    query = Picture(np.clip(second * gain + offset, 0, 255).astype(np.uint8), np.ones((64, 64), bool), camera)
    if ((query.rgb == 0) | (query.rgb == 255)).mean() > 0.05:
        return  # overexposed
    found = align(query, [RenderedMemory(first.astype(np.uint8), depth_m, np.eye(4), camera)], np.eye(4), 30)
    assert found is not None
    metres, degrees = apart(found.T_map_cam, motion)
    assert metres < 0.03
    assert degrees < 0.15
