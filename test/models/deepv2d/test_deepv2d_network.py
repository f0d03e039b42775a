"""DeepV2D's networks: their sizes, what they see, and that they can learn it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.depth_from_images import rigid
from pose2rgbd_ros.depth_from_images.gauss_newton import reprojected
from pose2rgbd_ros.depth_from_images.inverse_warp import swept
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.deepv2d.config import PUBLISHED, DeepV2DConfig
from pose2rgbd_ros.models.deepv2d.layers import enlarged, quarter_intrinsics
from pose2rgbd_ros.models.deepv2d.motion import MATCH_RADIUS, Matcher
from pose2rgbd_ros.models.deepv2d.network import DeepV2D
from pose2rgbd_ros.models.deepv2d.stereo import FirstConv
from pose2rgbd_ros.models.deepv2d.weight_maps import weight_maps
from pose2rgbd_ros.models.trianflow.flow_network import cost_volume

SIDE, FOCAL = 64, 60.0
K = torch.tensor([[[FOCAL, 0.0, 31.5], [0.0, FOCAL, 31.5], [0.0, 0.0, 1.0]]])


def network(**given: Any) -> DeepV2D:
    torch.manual_seed(0)
    values = {"image_size": (SIDE, SIDE), "width": 0.125, "views": 3, "depths": 9, "min_depth": 2.0, "max_depth": 10.0}
    return DeepV2D(DeepV2DConfig(**{**values, **given}))


def snippet(views: int = 3, side: int = SIDE) -> tuple[Tensor, Tensor, Tensor]:
    """Images of nothing in particular, intrinsics and poses, two snippets."""
    torch.manual_seed(1)
    target = (views - 1) // 2
    twists = 0.1 * torch.randn(2, views, 6)
    twists[:, target] = 0
    return torch.rand(2, views, 3, side, side), K.expand(2, 3, 3), rigid.exponential(twists)


def textured(count: int, height: int, width: int, seed: int) -> Tensor:
    """Smooth random pictures (count, 3, height, width) in 0..1."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(count, 3, height // 4, width // 4, generator=generator)
    return functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)


def parameters(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


@pytest.mark.parametrize(("published", "volume"), [("preprint", 9_905_377), ("nyu", 19_590_000), ("kitti", 24_130_000)])
def test_at_width_1_it_has_the_published_size(published: str, volume: int) -> None:
    with torch.device("meta"):
        made = DeepV2D(DeepV2DConfig(**PUBLISHED[published]))
    stereo, motion = made.stereo_module, made.motion_module
    assert parameters(motion.encoder) == 344_160
    assert parameters(motion.flow) == 8_205_380
    assert parameters(stereo.encoder) == 12_526_688
    # What the code has in 3-D is known to 10,000; the preprint's widths are not published.
    assert abs(parameters(stereo) - parameters(stereo.encoder) - volume) < 5_000


def test_at_width_1_layers_have_the_published_shapes() -> None:
    with torch.device("meta"):
        made = DeepV2D(DeepV2DConfig())
        images = torch.empty(1, 5, 3, 192, 1088)
        features = made.stereo_module.encoder(images[0])
        assert features.shape == (5, 32, 48, 272)
        # Both features, at each depth: (1, 64, 32, 48, 272).
        matcher = made.stereo_module.matcher
        volume = matcher.rest(matcher.first.conv(torch.empty(1, 2 * features.shape[1], 32, 48, 272)))
        assert volume.shape == (1, 32, 32, 48, 272)
        shapes, x = [], volume
        inner = made.stereo_module.hourglasses[0]
        while hasattr(inner, "down"):
            shapes.append(tuple(x.shape[1:]))
            x = inner.down(functional.max_pool3d(x, 2))
            inner = inner.inner
        assert shapes == [(32, 32, 48, 272), (80, 16, 24, 136), (128, 8, 12, 68), (176, 4, 6, 34)]
        assert x.shape == (1, 224, 2, 3, 17)
        flow, weights = made.motion_module.flow(torch.empty(4, 128, 48, 272))
        assert flow.shape == weights.shape == (4, 2, 48, 272)
        assert made.regressor.layers[-3].weight.shape == (512, 256, 2, 9)
        assert made.initial_motions(images, torch.empty(1, 3, 3)).shape == (1, 5, 4, 4)


@pytest.mark.parametrize("difference", [False, True])
@pytest.mark.parametrize("kernel", [1, 3])
def test_the_cost_volume_is_that_of_both_features_side_by_side(kernel: int, difference: bool) -> None:
    torch.manual_seed(0)
    key, feature = torch.randn(2, 2, 5, 6, 7)
    planes, T = torch.linspace(2, 9, 6), rigid.exponential(0.3 * torch.randn(2, 6))
    small = torch.tensor([[6.0, 0.0, 3.0], [0.0, 6.0, 2.5], [0.0, 0.0, 1.0]]).expand(2, 3, 3)
    first = FirstConv(5, 4, kernel, difference)
    warped = swept(feature, planes, T, small)
    assert 0.1 < (warped == 0).float().mean() < 0.9  # some of it out of sight
    beside = (warped - key[:, :, None]) ** 2 if difference else warped
    both = torch.cat([key[:, :, None].expand_as(warped), beside], dim=1)
    assert torch.allclose(first(key, feature, planes, T, small), first.conv(both), atol=1e-5)


@pytest.mark.parametrize("module", ["stereo_module", "motion_module"])
def test_a_feature_stands_on_every_fourth_pixel(module: str) -> None:
    encoder = getattr(network(norm="group"), module).encoder
    shallow = list(encoder)[:8]  # hourglasses see everything
    x = image = torch.zeros(1, 3, 2 * SIDE, 2 * SIDE, requires_grad=True)
    for conv in nn.ModuleList(shallow).modules():
        if isinstance(conv, nn.Conv2d) and conv.kernel_size != (1, 1):  # shortcuts
            x = functional.conv2d(x, torch.full_like(conv.weight, 1e-3), None, conv.stride, conv.padding)
    x[0, 0, 16, 15].backward()
    places = torch.arange(2 * SIDE)
    for dim, place in ((1, 64.0), (0, 60.0)):
        seen = image.grad[0, 0].sum(dim)
        assert torch.isclose((seen * places).sum() / seen.sum(), torch.tensor(place))


def test_what_is_enlarged_stays_on_its_pixels() -> None:
    maps = torch.rand(1, 2, 5, 6)
    large = enlarged(maps)
    assert large.shape == (1, 2, 20, 24)
    assert torch.equal(large[..., ::4, ::4], maps)
    assert torch.allclose(large[..., 4, 2], maps[..., 1, :2].mean(-1))
    assert torch.allclose(quarter_intrinsics(K)[0, :2], K[0, :2] / 4)


def test_features_meet_at_the_plane_where_the_scene_is() -> None:
    """A wall at depth 6, seen from a camera 0.8 to the right: everything lies 8 px further left."""
    made = network(norm="group").eval()
    wide = textured(1, SIDE, SIDE + 8, seed=0)
    images = torch.stack([wide[..., :-8], wide[..., 8:]], dim=1)
    T_tgt_i = torch.eye(4).repeat(1, 2, 1, 1)
    T_tgt_i[:, 1, 0, 3] = 0.8
    seen = []

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen[:] = given

    made.stereo_module.matcher.first.register_forward_pre_hook(keep)
    with torch.no_grad():
        made.stereo(images, K, T_tgt_i)
    key, _, planes, T_src_tgt, K_quarter = seen
    first = nn.Sequential(*list(made.stereo_module.encoder)[:8])  # without the hourglasses, which see borders
    with torch.no_grad():
        left, right = (2 * image - 1 for image in images[0, :, None])
        key, feature = first(left), first(right)
        volume = swept(feature, planes, T_src_tgt, K_quarter)
    apart = (volume - key[:, :, None])[..., 4:-4, 6:-4].abs().mean(dim=(0, 1, 3, 4))
    assert planes[apart.argmin()] == 6.0
    assert apart.min() < 0.2 * apart.median()


def test_views_may_be_any_and_in_any_order() -> None:
    made = network(norm="group").eval()
    images, K, T = snippet(4)
    with torch.no_grad():
        depth = made.stereo(images, K, T)[-1]
        order = [3, 1, 0, 2]  # the second one is the target
        assert torch.allclose(made.stereo(images[:, order], K, T[:, order])[-1], depth, atol=1e-5)
        assert not torch.allclose(made.stereo(images[:, :3], K, T[:, :3])[-1], depth, atol=1e-5)
        alone = made.stereo(images[:, 1:2], K, T[:, 1:2])[-1]
        pair, twice = (made.stereo(images[:, order], K, T[:, order])[-1] for order in ([1, 0], [0, 1, 0]))
        assert torch.allclose(twice, pair, atol=1e-5)
    assert depth.shape == alone.shape == (2, SIDE, SIDE)
    assert 2 <= float(depth.min()) <= float(depth.max()) <= 10


def test_views_that_are_read_together_are_of_a_fixed_number() -> None:
    made = network(**PUBLISHED["kitti"]).eval()
    images, K, T = snippet(3)
    with torch.no_grad():
        assert [each.shape for each in made.stereo(images, K, T)] == 2 * [(2, SIDE, SIDE)]
        assert made.stereo(images[:, :1], K, T[:, :1])[0].shape == (2, SIDE, SIDE)
        assert made.initial_motions(images, K).shape == (2, 3, 4, 4)
    with pytest.raises(UserError, match="reads 3 views at once, not 2"):
        made.stereo(images[:, :2], K, T[:, :2])
    with pytest.raises(UserError, match="reads 3 views at once, not 2"):
        made.initial_motions(images[:, :2], K)


@pytest.mark.parametrize("pooling", ["average", "concatenate"])
def test_without_stereo_nothing_but_the_target_counts(pooling: str) -> None:
    made = network(stereo=False, pooling=pooling).eval()
    images, K, T = snippet()
    other, far = images.clone(), T.clone()
    other[:, [0, 2]], far[:, 0, 2, 3] = 0.5, 7.0
    with torch.no_grad():
        depth = made.stereo(images, K, T)[-1]
        assert torch.equal(made.stereo(other, K, far)[-1], depth)
        other[:, 1] = 0.5
        assert not torch.allclose(made.stereo(other, K, T)[-1], depth)


def test_depth_has_a_gradient_to_images_and_poses() -> None:
    made = network()
    images, K, T = snippet()
    images, T = images.requires_grad_(), T.requires_grad_()
    made.stereo(images, K, T)[-1].square().mean().backward()
    assert all(each.grad is not None and torch.isfinite(each.grad).all() for each in (images, T))
    assert T.grad[:, [0, 2], :3].abs().sum() > 0


def test_matches_are_likely_displacements_nearby() -> None:
    """As from a volume of all displacements within the radius, and where features were moved to."""
    torch.manual_seed(0)
    key, moved = torch.randn(2, 6, 11, 14), torch.zeros(2, 6, 11, 14)
    moved[:, :, 2:, :-3] = key[:, :, :-2, 3:]  # 3 to the left, 2 down
    matcher = Matcher()
    matcher.log_sharpness.data.fill_(4.0)
    flow, sharp = matcher(key, moved)
    ours = []
    for each in (key, moved):
        spread, mean = torch.std_mean(each, dim=(2, 3), keepdim=True)
        ours.append(functional.normalize((each - mean) / (spread + 1e-3), dim=1))
    side = torch.arange(-MATCH_RADIUS, MATCH_RADIUS + 1.0)
    dv, du = torch.meshgrid(side, side, indexing="ij")
    likely = (6 * matcher.log_sharpness.exp() * cost_volume(*ours, MATCH_RADIUS)).softmax(dim=1)
    expected = torch.einsum("bphw,cp->bchw", likely, torch.stack([du, dv]).flatten(1))
    torch.testing.assert_close(flow, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(sharp, likely.amax(dim=1, keepdim=True), atol=1e-5, rtol=1e-4)
    inner = flow[:, :, :-2, 3:].flatten(2).median(dim=2).values
    torch.testing.assert_close(inner, torch.tensor([-3.0, 2.0]).expand(2, 2), atol=0.1, rtol=0)


def test_matched_flow_moves_the_motion_before_anything_is_learnt() -> None:
    """Features of the first weights tell places apart: a step brings a camera nearer to where it is."""
    matched = network(flow="matched", norm="group")
    assert parameters(matched) > parameters(network(norm="group"))
    images = textured(1, SIDE, SIDE + 8, seed=3)
    pair = torch.stack([images[..., :SIDE], images[..., 8:]], dim=1)  # everything is 8 px, 2 features, to the left
    depth, still = torch.full((1, SIDE, SIDE), 4.0), torch.eye(4).expand(1, 2, 4, 4)
    with torch.no_grad():
        found = matched.motion(pair, K, depth, still, 1)
    flow = found.flows[0][0, 0].flatten(0, 1).median(dim=0).values
    assert flow[0] < -0.2
    assert abs(flow[1]) < 0.1
    T_src_tgt = rigid.inverse(found.T_tgt_i[0])[0, 1]
    assert (T_src_tgt @ torch.tensor([0.0, 0.0, 4.0, 1.0]))[0] < -0.02  # what is ahead lies to the left there


def test_residuals_are_what_the_motion_leaves_of_the_flow() -> None:
    made = network()
    images, K, start = snippet()
    depth = 3 + 4 * torch.rand(2, SIDE, SIDE)
    depth[:, 8:20, 8:20] = torch.nan
    steps = made.motion(images, K, depth, start, steps=2)
    assert len(steps.T_tgt_i) == len(steps.flows) == len(steps.weights) == len(steps.residuals) == 2
    small, K_small = depth[:, ::4, ::4], quarter_intrinsics(K)
    before, after = rigid.inverse(start[:, 2]), rigid.inverse(steps.T_tgt_i[0][:, 2])
    was, now = (reprojected(small, K_small, T) for T in (before, after))
    left = was.pixels + steps.flows[0][:, 1] - now.pixels
    used = (steps.weights[0][:, 1] > 0).all(dim=-1) & now.valid
    assert torch.allclose(steps.residuals[0][:, 1][used], left[used], atol=1e-3)
    assert not used[:, 2:5, 2:5].any()  # where depth is unknown
    assert not steps.weights[0][:, 1, 2:5, 2:5].any()
    assert 0.4 < float(used.float().mean()) < 0.98
    for T in steps.T_tgt_i:
        assert torch.equal(T[:, 1], torch.eye(4).expand(2, 4, 4))
        assert not torch.allclose(T[:, 0], start[:, 0], atol=1e-6)


def test_motions_of_views_are_found_one_by_one() -> None:
    made = network(norm="group")
    images, K, start = snippet()
    depth = torch.full((2, SIDE, SIDE), 5.0)
    other = images.clone()
    other[:, 2] = 0.5
    both, changed = (made.motion(each, K, depth, start).T_tgt_i[-1] for each in (images, other))
    assert torch.allclose(both[:, 0], changed[:, 0], atol=1e-6)
    assert not torch.allclose(both[:, 2], changed[:, 2], atol=1e-6)


def test_no_gradient_passes_from_a_step_to_the_one_before() -> None:
    made = network()
    images, K, start = snippet()
    start, depth = start.requires_grad_(), torch.full((2, SIDE, SIDE), 5.0)

    def gradients(T: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(T.square().sum(), list(made.motion_module.flow.parameters())))

    both = made.motion(images, K, depth, start, steps=2)
    after = made.motion(images, K, depth, both.T_tgt_i[0], steps=1)
    assert torch.autograd.grad(both.T_tgt_i[1].sum(), start, retain_graph=True, allow_unused=True) == (None,)
    of_both, of_after = gradients(both.T_tgt_i[1]), gradients(after.T_tgt_i[0])
    assert any(each.abs().max() > 0 for each in of_both)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(of_both, of_after, strict=True))
    assert made.motion(images, K, depth, start, steps=0).T_tgt_i == []


@pytest.mark.parametrize("depth", [0.0, torch.nan])
def test_motions_stay_where_depth_is_unknown(depth: float) -> None:
    made = network()
    images, K, start = snippet()
    steps = made.motion(images, K, torch.full((2, SIDE, SIDE), depth), start)
    assert torch.allclose(steps.T_tgt_i[-1], start, atol=1e-6)
    (steps.T_tgt_i[-1].sum() + sum(each.square().sum() for each in steps.residuals)).backward()
    assert all(torch.isfinite(each.grad).all() for each in made.parameters() if each.grad is not None)


def test_motions_without_the_se3_layer_are_read_from_features() -> None:
    made = network(se3=False)
    images, K, start = snippet()
    steps = made.motion(images, K, torch.full((2, SIDE, SIDE), 5.0), start)
    assert len(steps.T_tgt_i) == 3
    assert steps.flows == steps.weights == steps.residuals == []
    assert not torch.allclose(steps.T_tgt_i[-1][:, 0], start[:, 0], atol=1e-6)
    assert parameters(made.motion_module.flow) < parameters(network().motion_module.flow)


def test_first_motions_are_of_any_image_size() -> None:
    made = network(image_size=(160, 192))
    images, K, _ = snippet(side=32)
    T = made.initial_motions(images, K)
    assert T.shape == (2, 3, 4, 4)
    assert torch.equal(T[:, 1], torch.eye(4).expand(2, 4, 4))
    assert not torch.allclose(T[:, 0], T[:, 2])
    assert torch.equal(made.initial_motions(images[:, :1], K), torch.eye(4).expand(2, 1, 4, 4))


@pytest.mark.parametrize("given", [{}, PUBLISHED["nyu"], {"norm": "group", "spacing": "inverse"}])
def test_sizes_are_any_multiples_of_4(given: dict[str, Any]) -> None:
    made = network(**given)
    images, K, T = snippet()
    with torch.no_grad():
        images = images[..., :36, :52]
        depth = made.stereo(images, K, T)[-1]
        assert depth.shape == (2, 36, 52)
        assert made.motion(images, K, depth, T).flows[0].shape == (2, 2, 9, 13, 2)
    with pytest.raises(UserError, match="50 x 36 px; both sides must be multiples of 4 px"):
        made.stereo(images[..., :50], K, T)


def test_planes_are_evenly_spaced_in_depth_or_in_its_inverse() -> None:
    even = network().stereo_module.planes
    assert torch.allclose(even.diff(), torch.ones(8))
    inverse = network(spacing="inverse").stereo_module.planes
    assert torch.allclose(inverse[[0, -1]], torch.tensor([2.0, 10.0]))
    assert torch.allclose((1 / inverse).diff(), torch.full((8,), -0.05))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"image_size": (50, 64)}, "multiples of 4 px"),
        ({"image_size": (8, 64)}, "16 px or more"),
        ({"min_depth": 5.0, "max_depth": 5.0}, "must be below max_depth"),
        ({"pooling": "most"}, "choose one of: average, concatenate"),
    ],
)
def test_bad_settings_are_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        network(**given)


def test_weights_are_shown_over_the_image() -> None:
    image = torch.full((3, 16, 24), 0.5)
    weights = torch.zeros(4, 6, 2)
    weights[1, 2, 0], weights[3, 5, 1] = 0.1, 0.05
    picture = weight_maps(image, weights)
    assert picture.shape == (16, 72, 3)
    assert (picture[:, :24] == 128).all()
    horizontal, vertical = picture[:, 24:48].astype(int), picture[:, 48:].astype(int)
    light = horizontal.sum(axis=-1)
    assert np.unravel_index(light.argmax(), light.shape) == (4, 8)  # the greatest of both maps, at four times its place
    assert np.ptp(vertical[:8, :16], axis=(0, 1)).max() == 0
    assert not (vertical[13, 21] == vertical[0, 0]).all()
