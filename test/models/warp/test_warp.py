"""Warping against scenes whose every depth and colour is known: planes by hand, blocks by ray casting."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from support.blockworld import BlockWorld
from support.orbit_flight import OrbitFlight

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.warp.config import WarpConfig
from pose2rgbd_ros.models.warp.kernels import fill_holes
from pose2rgbd_ros.models.warp.network import WarpModel
from pose2rgbd_ros.models.warp.views import FrameChoice, pinhole_around, warp
from pose2rgbd_ros.training.families import architecture_of, build_model

CAMERA = Camera.from_fov(64, 64, 70.0)
DOWN = Rotation.from_euler("x", 180, degrees=True).as_matrix()  # optical axis to the ground, image top to the north


def looking_down(position_m: tuple[float, float, float], tilt_deg: float = 0.0, turn_deg: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = DOWN @ Rotation.from_euler("zx", [turn_deg, tilt_deg], degrees=True).as_matrix()
    T[:3, 3] = position_m
    return T


def ground(T_map_cam: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Colour in 0..255, a smooth pattern of the place, and depth of the plane z = 0."""
    rays = camera.rays() @ T_map_cam[:3, :3].T
    depth = np.where(rays[..., 2] < 0, -T_map_cam[2, 3] / rays[..., 2], np.nan)
    points = T_map_cam[:3, 3] + rays * depth[..., None]
    waves = [np.sin(points[..., 0] * 0.4), np.sin(points[..., 1] * 0.5), np.cos(points[..., 0] * 0.3)]
    return 127 + 100 * np.stack(waves, axis=-1), depth.astype(np.float32)


def model_of(T_map_cam: np.ndarray, rgb: np.ndarray, depth: np.ndarray, frames: int = 12) -> WarpModel:
    model = WarpModel(WarpConfig(frames, len(rgb), rgb.shape[2], rgb.shape[1]))
    model.keep(rgb, depth, T_map_cam, CAMERA)
    return model.eval()


def shown(model: WarpModel, T_map_cam: np.ndarray, camera: Camera = CAMERA) -> tuple[np.ndarray, np.ndarray]:
    pictures = model.pictures(torch.from_numpy(T_map_cam[None]), camera, None)  # type: ignore[arg-type]
    assert pictures.rgb is not None
    assert pictures.depth is not None
    assert pictures.rgb.min() >= 0
    assert pictures.rgb.max() <= 1
    return pictures.rgb[0].permute(1, 2, 0).numpy() * 255, pictures.depth[0].numpy()


@pytest.fixture(scope="module")
def blocks() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poses, colour and depth of 30 frames around the block world."""
    world, T = BlockWorld(), OrbitFlight(loops=3).T_map_cam(np.linspace(0, 90, 30, endpoint=False))
    frames = [world.render(pose, CAMERA, supersample=2) for pose in T]
    return T, np.stack([rgb for rgb, _ in frames]), np.stack([depth for _, depth in frames])


@settings(max_examples=25)
@given(st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(17, 24)), st.floats(-12, 12), st.floats(-180, 180))
def test_a_plane_is_seen_from_anywhere_as_it_is(
    position_m: tuple[float, float, float], tilt_deg: float, turn_deg: float
) -> None:
    T_frames = np.stack([looking_down((x, y, 20.0)) for x in (-12, 0, 12) for y in (-12, 0, 12)])
    truth = [ground(T, CAMERA) for T in T_frames]
    rgb, depth = np.stack([each[0] for each in truth]).astype(np.uint8), np.stack([each[1] for each in truth])
    target = looking_down(position_m, tilt_deg, turn_deg)
    colour, z = warp(rgb, depth, se3.inverse(target) @ T_frames, CAMERA, CAMERA)
    colour_true, z_true = ground(target, CAMERA)
    known = np.isfinite(z)
    # Together the frames see the square of 26 m about the origin; a pixel short of its edge a mesh may end.
    rays = CAMERA.rays() @ target[:3, :3].T
    seen = (
        np.abs(target[:3, 3] + rays * z_true[..., None])[..., :2].max(axis=-1) < 12 + 20 * np.tan(np.radians(35)) - 1.0
    )
    assert known[seen].all()
    np.testing.assert_allclose(z[known], z_true[known], rtol=2e-4)
    assert np.abs(colour - colour_true)[known].mean() < 2.0


def test_a_held_out_view_of_blocks_is_far_better_than_the_nearest_frame(blocks) -> None:
    T, rgb, depth = blocks
    errors, copied, off, known = [], [], [], []
    for held_out in (3, 15, 27):
        rest = np.arange(len(T)) != held_out
        colour, z = shown(model_of(T[rest], rgb[rest], depth[rest]), T[held_out])
        nearest = np.linalg.norm(T[rest][:, :3, 3] - T[held_out, :3, 3], axis=1).argmin()
        errors.append(np.abs(colour - rgb[held_out]).mean())
        copied.append(np.abs(rgb[rest][nearest].astype(float) - rgb[held_out]).mean())
        both = np.isfinite(z) & np.isfinite(depth[held_out])
        off.append(np.abs(z - depth[held_out])[both].mean())
        known.append(both.sum() / np.isfinite(depth[held_out]).sum())
    assert np.mean(errors) < 0.5 * np.mean(copied)
    assert np.mean(off) < 0.25  # metres, of 20
    assert np.mean(known) > 0.97


def test_what_hides_a_surface_is_not_painted_on_it() -> None:
    """A red roof 6 m above a grey ground: beside where it stands, no pixel of the ground may be red."""

    def roofed(T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _, depth = ground(T, CAMERA)
        rays = CAMERA.rays() @ T[:3, :3].T
        roof = (6.0 - T[2, 3]) / rays[..., 2]
        at = T[:3, 3] + rays * roof[..., None]
        on_roof = (np.abs(at[..., :2]) < 4).all(axis=-1)
        rgb = np.where(on_roof[..., None], (250, 0, 0), (120, 120, 120)).astype(np.uint8)
        return rgb, np.where(on_roof, roof, depth).astype(np.float32)

    T = np.stack([looking_down((x, y, 22.0)) for x in (-8, 0, 8) for y in (-8, 0, 8)])
    frames = [roofed(pose) for pose in T]
    target = looking_down((4.0, 3.0, 22.0))
    colour, z = shown(model_of(T, np.stack([f[0] for f in frames]), np.stack([f[1] for f in frames])), target)
    rgb_true, z_true = roofed(target)
    assert np.nanmean(np.abs(z - z_true) < 0.05) > 0.95
    wrong = (np.abs(colour - rgb_true).max(axis=-1) > 60).mean()
    assert wrong < 0.03  # the roof's rim, half a pixel to either side


def test_holes_are_unknown_and_their_colour_is_the_same_every_time(blocks) -> None:
    T, rgb, depth = blocks
    model = model_of(T, rgb, depth)
    away = T[5].copy()
    away[:3, :3] = away[:3, :3] @ Rotation.from_euler("y", 180, degrees=True).as_matrix()
    colour, z = shown(model, away)
    assert np.isnan(z).all()
    assert np.isfinite(colour).all()
    np.testing.assert_array_equal(colour, shown(model, away)[0])
    far = T[5].copy()
    far[:3, 3] += (500, 0, 0)
    assert np.isnan(shown(model, far)[1]).all()


def test_sky_is_the_colour_the_frames_saw_there_and_has_no_depth() -> None:
    T = np.stack([se3.look_at((x, 0.0, 3.0), (x, 30.0, 3.0)) for x in (-2.0, 0.0, 2.0)])
    frames = [ground(pose, CAMERA) for pose in T]
    depth = np.stack([f[1] for f in frames])
    depth[depth > 200] = np.nan
    rgb = np.where(np.isnan(depth)[..., None], (40, 90, 220), (90, 90, 90)).astype(np.uint8)
    colour, z = shown(model_of(T, rgb, depth), se3.look_at((1.0, 0.5, 3.0), (1.0, 30.0, 3.0)))
    assert np.isnan(z[:28]).all()
    np.testing.assert_allclose(colour[:28], np.broadcast_to((40, 90, 220), colour[:28].shape), atol=1)
    assert np.isfinite(z[40:]).all()


def test_any_camera_sees_the_same_place(blocks) -> None:
    T, rgb, depth = blocks
    rest = np.arange(len(T)) != 9
    model = model_of(T[rest], rgb[rest], depth[rest])
    world = BlockWorld()
    lens = Camera(72, 60, 62.0, 62.0, 35.5, 29.5, "plumb_bob", (-0.2, 0.04, 0.0, 0.0))
    for camera in (CAMERA.resized(96, 96), CAMERA.cropped(10, 5, 40, 30), lens):
        colour, z = shown(model, T[9], camera)
        rgb_true, z_true = world.render(T[9], camera, supersample=2)
        assert z.shape == z_true.shape
        both = np.isfinite(z) & np.isfinite(z_true)
        assert both.sum() > 0.95 * np.isfinite(z_true).sum()
        assert np.median(np.abs(z - z_true)[both]) < (0.1 if camera.is_distorted else 0.02)
        assert np.abs(colour - rgb_true).mean() < 22


def test_an_ideal_pinhole_covers_a_distorted_camera() -> None:
    lens = Camera(80, 60, 50.0, 52.0, 40.0, 30.0, "plumb_bob", (0.1, 0.01, 0.001, -0.001))
    pinhole = pinhole_around(lens)
    uv = pinhole.project(lens.rays())
    assert not pinhole.is_distorted
    assert uv.min() >= -1e-6
    assert (uv.reshape(-1, 2).max(axis=0) <= np.array([79, 59]) + 1e-6).all()


def test_frames_are_chosen_for_what_they_see() -> None:
    heights = np.full((5, 64, 64), 20.0, np.float32)
    T = np.stack(
        [
            looking_down((30.0, 0.0, 20.0)),  # sees a corner of it
            looking_down((2.0, 0.0, 20.0), turn_deg=180),  # flown the other way: as good as the same way
            looking_down((0.0, 0.0, 20.0), tilt_deg=180),  # looks up
            looking_down((9.0, 0.0, 20.0)),
            looking_down((-1.0, 0.0, 60.0)),  # sees it all, from far
        ]
    )
    choice = FrameChoice(T, heights, CAMERA)
    chosen = list(choice(looking_down((0.0, 0.0, 20.0)), CAMERA, 3))
    assert chosen[0] == 1
    assert 2 not in chosen
    assert len(choice(looking_down((0.0, 0.0, 20.0)), CAMERA, 32)) == 5


@settings(max_examples=40)
@given(st.integers(1, 13), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_holes_take_colours_from_around(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 255, (height, width, 3)).astype(np.float32)
    known = rng.random((height, width)) < rng.choice([0.0, 0.1, 0.7])
    filled = image.copy()
    assert fill_holes(filled, known) == (not known.any())
    np.testing.assert_array_equal(filled[known], image[known])
    if known.any():
        assert filled.min() >= image[known].min() - 1e-3
        assert filled.max() <= image[known].max() + 1e-3


def test_a_model_is_built_again_from_its_architecture_and_state(blocks) -> None:
    T, rgb, depth = blocks
    model = model_of(T, rgb, depth, frames=4)
    again = build_model(architecture_of(model))
    again.load_state_dict(model.state_dict())
    for mine, its in zip(shown(model, T[0]), shown(again.eval(), T[0]), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_an_uncalibrated_camera_is_refused(blocks) -> None:
    model = model_of(*(part[:2] for part in (blocks[0], *blocks[1:])))
    with pytest.raises(UserError, match="not calibrated"):
        shown(model, blocks[0][0], Camera(16, 16, 0.0, 0.0, 0.0, 0.0))


def test_depth_beyond_half_precision_is_unknown(blocks) -> None:
    T_map_cam, rgb, depth = (part[:2].copy() for part in blocks)
    depth[:] = 1e6
    assert torch.isnan(model_of(T_map_cam, rgb, depth).depth).all()


def test_more_frames_than_are_of_use_are_refused() -> None:
    with pytest.raises(UserError, match="at most 32"):
        WarpConfig(frames=33)
