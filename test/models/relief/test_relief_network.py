"""The relief network's parts on volumes whose answers are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.blockworld import BlockWorld
from support.orbit_flight import OrbitFlight
from torch.nn import functional

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief import march, network
from pose2rgbd_ros.models.relief.config import (
    ReliefConfig,
    ReliefSettings,
    SceneBoxSettings,
    choose_scene_box,
    relief_config,
    surface_points,
)
from pose2rgbd_ros.models.relief.fuse import fuse, seen_points
from pose2rgbd_ros.models.relief.lookup import lookup, trilinear
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.training.families import architecture_of, build_model

CAMERA = Camera.from_fov(24, 20, 70.0)
LOOKING_DOWN = se3.look_at([10.0, 10.0, 15.0], [10.0, 10.0, 0.0])
CONFIG = ReliefConfig(layers=9, rows=21, columns=21, cell_m=1.0, layer_m=1.0, feature_m=0.5, levels=3)
NORMALIZATION = Normalization.fit(np.stack([LOOKING_DOWN, np.eye(4)]), np.array([1.0, 30.0]))


def flat_ground(height_m: float = 3.3) -> Relief:
    """A relief whose ground is at a height, seen everywhere."""
    torch.manual_seed(0)
    relief = Relief(CONFIG).eval()
    heights = torch.arange(CONFIG.layers, dtype=torch.float32)[:, None, None]
    relief.volume.logits.data = (height_m - heights).expand(CONFIG.shape).contiguous()
    relief.volume.seen.fill_(1)
    return relief


def show(relief: Relief, T_map_cam: np.ndarray, camera: Camera = CAMERA):  # type: ignore[no-untyped-def]
    return relief.pictures(torch.from_numpy(T_map_cam[None]), camera, NORMALIZATION)


def test_a_lookup_and_its_gradients_are_those_of_embedding_bag() -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(50, 5, generator=generator, requires_grad=True)
    weight = torch.rand(40, 7, generator=generator, requires_grad=True)
    index = torch.randint(0, 50, (40, 7), generator=generator)
    mix = torch.randn(40, 5, generator=generator)
    results = []
    for summed in (
        lookup(table, index, weight),
        functional.embedding_bag(index, table, per_sample_weights=weight, mode="sum"),
    ):
        results.append((summed, *torch.autograd.grad((summed * mix).sum(), (table, weight))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_logits_are_read_as_the_march_reads_them() -> None:
    logits = torch.randn(5, 6, 7)
    positions = torch.rand(100, 3) * torch.tensor([8.0, 7.0, 6.0]) - 1.0  # some of them beside the block
    index, weight = trilinear(positions, (5, 6, 7))
    ours = lookup(logits.reshape(-1, 1), index, weight)[:, 0]
    torch.testing.assert_close(ours, march.sample(logits, positions))


def test_the_ground_is_where_the_logits_change_sign() -> None:
    shown = show(flat_ground(3.3), LOOKING_DOWN)
    assert shown.depth is not None
    assert shown.confidence is not None
    middle = shown.depth[0, 4:-4, 4:-4]
    torch.testing.assert_close(middle, torch.full_like(middle, 15.0 - 3.3), atol=1e-4, rtol=0)
    assert (shown.confidence > 0.5).all()


def test_confidence_does_not_tell_where_between_two_layers_the_ground_lies() -> None:
    shown = [show(flat_ground(height), LOOKING_DOWN).confidence for height in (3.1, 3.5, 3.9)]
    for confidence in shown:
        assert confidence is not None
        torch.testing.assert_close(confidence[0, 4:-4, 4:-4], torch.full((12, 16), 0.6225), atol=1e-3, rtol=0)


def test_many_pixels_are_rendered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    poses = torch.from_numpy(np.stack([se3.look_at([x, 10.0, 15.0], [10.0, 10.0, 0.0]) for x in (8.0, 9.0, 10.0)]))
    whole = flat_ground().pictures(poses, CAMERA, NORMALIZATION)
    monkeypatch.setattr(network, "PIXELS_AT_ONCE", 1000)  # two views
    for together, in_parts in zip(whole, flat_ground().pictures(poses, CAMERA, NORMALIZATION), strict=True):
        assert together is not None
        torch.testing.assert_close(in_parts, together)


def test_logits_that_rise_bring_the_surface_nearer() -> None:
    # Logits fall by 1 a metre: raised by d everywhere, they raise the ground by d.
    relief = flat_ground(3.3).train()
    rays = torch.from_numpy(CAMERA.rays())[8:12, 8:12]
    made = relief(torch.from_numpy(LOOKING_DOWN[None]), rays, 20.0)
    made.depth.mean().backward()
    assert relief.volume.logits.grad is not None
    assert float(relief.volume.logits.grad.sum()) == pytest.approx(-1.0, abs=1e-3)


def test_colour_does_not_depend_on_the_size_asked_for() -> None:
    relief = flat_ground()
    relief.features.maps.data.normal_(generator=torch.Generator().manual_seed(1))
    for width, height in ((24, 20), (33, 17), (1, 1)):
        shown = show(relief, LOOKING_DOWN, CAMERA.resized(width, height))
        assert shown.rgb is not None
        assert shown.rgb.shape == (1, 3, height, width)
        assert torch.isfinite(shown.rgb).all()
        assert shown.rgb.min() >= 0
        assert shown.rgb.max() <= 1


def test_a_lens_without_rays_in_its_corners() -> None:
    fisheye = Camera(20, 20, 4.0, 4.0, 9.5, 9.5, "equidistant", (0.0, 0.0, 0.0, 0.0))
    assert np.isnan(fisheye.rays()).any()
    shown = show(flat_ground(), LOOKING_DOWN, fisheye)
    assert shown.rgb is not None
    assert shown.depth is not None
    assert torch.isfinite(shown.rgb).all()
    assert torch.isnan(shown.depth[0, 0, 0])
    assert torch.isfinite(shown.depth[0, 10, 10])


@pytest.mark.parametrize("eye", [[10.0, 10.0, 2.0], [10.0, 10.0, -5.0]], ids=["inside the ground", "below everything"])
def test_a_camera_inside_something_sees_nothing_it_knows(eye: list[float]) -> None:
    shown = show(flat_ground(3.3), se3.look_at(eye, [10.0, 10.0, eye[2] - 9.0]))
    assert shown.depth is not None
    assert shown.confidence is not None
    assert shown.rgb is not None
    assert torch.isnan(shown.depth).all()
    assert (shown.confidence == 0).all()
    assert torch.isfinite(shown.rgb).all()


def test_the_sky_and_what_nobody_saw_are_unknown() -> None:
    relief = flat_ground()
    level = show(relief, se3.look_at([10.0, 10.0, 6.0], [10.0, 90.0, 6.0]))
    assert level.depth is not None
    assert level.confidence is not None
    assert torch.isnan(level.depth[0, :9]).all()
    assert torch.isfinite(level.depth[0, -1]).all()
    relief.volume.seen[:, :, :10] = 0
    half = show(relief, LOOKING_DOWN)
    assert half.depth is not None
    assert half.confidence is not None
    unseen = torch.isnan(half.depth)
    assert 0.3 < unseen.float().mean() < 0.7
    assert (half.confidence[unseen] == 0).all()
    assert (half.confidence[~unseen] > 0).all()


def test_an_architecture_and_a_state_make_the_same_network_again() -> None:
    relief = flat_ground()
    again = build_model(architecture_of(relief)).eval()
    again.load_state_dict(relief.state_dict())
    assert torch.equal(show(relief, LOOKING_DOWN).rgb, show(again, LOOKING_DOWN).rgb)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kept", "shown_share", "median_m", "mean_m", "of_mean_image"),
    [(1.0, 0.95, 0.1, 0.5, 0.5), (0.02, 0.70, 0.2, 0.75, 0.8)],
    ids=["all pixels", "one pixel in fifty"],
)
def test_a_block_world_fused_from_its_depth_is_seen_from_elsewhere(
    kept: float, shown_share: float, median_m: float, mean_m: float, of_mean_image: float
) -> None:
    world, camera = BlockWorld(seed=3), Camera(64, 64, 60.0, 60.0, 31.5, 31.5)
    poses = OrbitFlight(seed=3, loops=1.0).T_map_cam(np.linspace(0.0, 180.0, 45))
    frames = [world.render(T, camera, max_depth_m=60.0) for T in poses]
    rgb, depth = (np.stack(images) for images in zip(*frames, strict=True))
    train, test = np.flatnonzero(np.arange(45) % 4 != 2), np.arange(2, 45, 4)
    recorded = np.where(np.random.default_rng(0).random(depth.shape) < kept, depth, np.nan)
    surface = surface_points(poses[train], recorded[train], camera)
    box = choose_scene_box(poses[train], camera, surface, SceneBoxSettings())
    relief = Relief(relief_config(box, ReliefSettings(), "rgbd", 20.0)).eval()
    fuse(relief, seen_points(relief.config, poses, camera, rgb, recorded, train))

    shown = relief.pictures(torch.from_numpy(poses[test]), camera, NORMALIZATION)
    assert shown.rgb is not None
    assert shown.depth is not None
    truth = torch.from_numpy(depth[test])
    known = torch.isfinite(truth)
    error = (shown.depth - truth)[known & torch.isfinite(shown.depth)].abs()
    assert torch.isfinite(shown.depth)[known].float().mean() > shown_share
    assert error.median() < median_m
    assert error.mean() < mean_m
    colour = torch.from_numpy(rgb[test]).permute(0, 3, 1, 2) / 255.0
    mean = torch.from_numpy(rgb[train]).double().mean(0).permute(2, 0, 1) / 255.0
    assert (shown.rgb - colour).abs().mean() < of_mean_image * (mean - colour).abs().mean()


def test_settings_outside_their_bounds_are_refused() -> None:
    with pytest.raises(Exception, match="layers"):
        dataclasses.replace(CONFIG, layers=1)
