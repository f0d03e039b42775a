"""Distance, unit and depth of a scene from its pictures and poses alone, against the exact world."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.blockworld import BlockWorld

from pose2rgbd_ros.depth_from_images import DepthFromImages
from pose2rgbd_ros.depth_from_images.multi_view import GreyViews, ScaledDepth, ground_distance, neighbours
from pose2rgbd_ros.depth_from_images.plane_sweep import PlaneSweep
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map

PINHOLE = Camera.from_fov(64, 64, 70.0)
BENT = Camera(64, 64, 54.0, 54.0, 31.5, 31.5, "plumb_bob", (-0.2, 0.03, 0.0, 0.0))
UP = np.array([0.0, 0.0, 1.0])
HEIGHT_M = 22.0


def survey() -> np.ndarray:
    """25 cameras (N, 4, 4), 22 m up over the middle of the block world, looking down and a little about."""
    x, y = np.meshgrid(*2 * [np.arange(-10.0, 11.0, 5.0)])
    eyes = np.stack([x, y, np.full_like(x, HEIGHT_M)], axis=-1).reshape(-1, 3)
    T = se3.look_at(eyes, eyes - UP)
    tilt = Rotation.from_rotvec(np.random.default_rng(0).normal(0, 0.08, (len(T), 3))).as_matrix()
    T[:, :3, :3] = T[:, :3, :3] @ tilt
    return T


@pytest.fixture(scope="module")
def flight() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poses, pictures (N, 64, 64, 3) and exact depth (N, 64, 64)."""
    world = BlockWorld(seed=3)
    rendered = [world.render(T, PINHOLE, supersample=2) for T in survey()]
    return survey(), np.stack([rgb for rgb, _ in rendered]), np.stack([depth for _, depth in rendered])


def through_lens(images: np.ndarray, nearest: bool) -> np.ndarray:
    """The pictures as the lens of BENT shows them."""
    show = resample_map(PINHOLE, BENT)
    return np.stack([resample(image, show, nearest, fill=0 if image.ndim == 3 else np.nan) for image in images])


def views_of(T: np.ndarray, rgb: np.ndarray) -> GreyViews:
    return GreyViews.of(rgb, PINHOLE, T, size=48)


@pytest.mark.parametrize("camera", [PINHOLE, BENT], ids=["pinhole", "distorted"])
def test_the_unit_of_relative_depth_is_found(flight, camera):
    T, rgb, depth = flight
    if camera is BENT:
        rgb, depth = through_lens(rgb, nearest=False), through_lens(depth, nearest=True)
    method: DepthFromImages = ScaledDepth(depth / 31.0)
    (found,) = method.estimate(rgb, camera, T, np.array([7]))
    assert (found.frame, found.unit_m) == (7, 1.0)
    assert np.nanmedian(found.depth / depth[7]) == pytest.approx(1.0, rel=0.03)
    assert np.array_equal(found.confidence > 0, np.isfinite(depth[7]))


def test_the_distance_of_the_ground_is_found(flight):
    T, rgb, _ = flight
    # Blocks stand on the ground: the plane most agree on lies between it and the roofs.
    assert HEIGHT_M - 6 < ground_distance(views_of(T, rgb), UP) < HEIGHT_M + 1


def test_poses_that_do_not_belong_to_the_pictures_are_refused(flight):
    T, rgb, depth = flight
    shuffled = T[np.random.default_rng(0).permutation(len(T))]
    with pytest.raises(UserError, match="do not show the unit of the depth"):
        ScaledDepth(depth / 31.0).unit_m(rgb, PINHOLE, shuffled)
    with pytest.raises(UserError, match="do not show how far the ground is"):
        ground_distance(views_of(shuffled, rgb), UP)


def test_a_camera_that_stands_still_tells_no_distance(flight):
    T, rgb, depth = flight
    still = np.repeat(T[:1], len(T), axis=0)
    with pytest.raises(UserError, match="taken at one place"):
        ground_distance(views_of(still, rgb), UP)
    with pytest.raises(UserError, match="no pixel of the training frames has a known depth"):
        ScaledDepth(np.full_like(depth, np.nan)).unit_m(rgb, PINHOLE, T)


@pytest.mark.parametrize("camera", [PINHOLE, BENT], ids=["pinhole", "distorted"])
def test_planes_swept_give_the_depth_of_most_pixels(flight, camera):
    T, rgb, depth = flight
    if camera is BENT:
        rgb, depth = through_lens(rgb, nearest=False), through_lens(depth, nearest=True)
    frames = np.array([7, 12, 16])
    method: DepthFromImages = PlaneSweep(UP, 20.0, planes=32)
    found = list(method.estimate(rgb, camera, T, frames))
    assert [one.frame for one in found] == frames.tolist()
    confidence = np.stack([one.confidence for one in found])
    error = np.abs(np.stack([one.depth for one in found]) - depth[frames])
    known = np.isfinite(error)
    assert known.mean() > 0.4
    assert np.median(error[known]) < 0.8  # planes are 0.7 m apart
    assert (error[known] > 3.0).mean() < 0.15
    # Who claims to be sure is more often right.
    sure = confidence > np.median(confidence[known])
    assert (error[known & sure] > 3.0).mean() < 0.8 * (error[known & ~sure] > 3.0).mean()
    assert not confidence[np.isnan(np.stack([one.depth for one in found]))].any()


def test_a_sweep_finds_its_planes_itself(flight):
    T, rgb, depth = flight
    (found,) = PlaneSweep(UP).estimate(rgb, PINHOLE, T, np.array([12]))
    assert np.nanmedian(np.abs(found.depth - depth[12])) < 0.8
    assert found.unit_m == 1.0


def test_without_poses_nothing_is_metric(flight):
    _, rgb, depth = flight
    for method in (PlaneSweep(UP, 20.0), ScaledDepth(depth)):
        with pytest.raises(UserError, match="poses"):
            method.estimate(rgb, PINHOLE, None, np.array([12]))


def test_neighbours_stand_apart_and_look_alike(flight):
    T = flight[0].copy()
    T[1, :3, :3] = T[1, :3, :3] @ Rotation.from_rotvec([np.pi / 2, 0, 0]).as_matrix()  # looks at the horizon
    chosen = neighbours(T, 20.0)(6)
    assert len(chosen) == len(set(chosen)) == 4
    assert not {1, 6} & set(chosen)
    offset = T[chosen, :3, 3] - T[6, :3, 3]
    length = np.linalg.norm(offset, axis=1)
    assert np.all((length > 2.4) & (length < 12.0))
    assert neighbours(T[:1], 20.0)(0) == []
