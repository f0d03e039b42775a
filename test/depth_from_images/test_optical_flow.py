"""What flow both ways says of two images, against loops and pictures whose flow is known."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from support.blockworld import BlockWorld
from torch import Tensor

from pose2rgbd_ros.depth_from_images.optical_flow import consistent, seen_in_both, splatted_ones, warp_by_flow
from pose2rgbd_ros.depth_from_images.triangulation import rigid_flow
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera

CAMERA = Camera.from_fov(64, 48, 60.0)


def some_flow(seed: int, height: int = 6, width: int = 9) -> Tensor:
    return 3 * torch.randn(2, 2, height, width, generator=torch.Generator().manual_seed(seed))


def test_ones_are_dealt_out_among_the_four_nearest_pixels() -> None:
    flow = some_flow(0)
    dealt = np.zeros((2, 6, 9))
    for b, v, u in itertools.product(range(2), range(6), range(9)):
        x, y = u + float(flow[b, 0, v, u]), v + float(flow[b, 1, v, u])
        for j, i in itertools.product(range(6), range(9)):
            dealt[b, j, i] += max(0.0, 1 - abs(x - i)) * max(0.0, 1 - abs(y - j))
    assert np.allclose(splatted_ones(flow).numpy(), dealt, atol=1e-5)


def test_what_a_nearer_thing_covers_is_occluded() -> None:
    """Columns 8 to 11 of image 1 stand 4 columns farther right in image 2; columns 12 to 15 are seen in image 1 only.

    Of image 2, columns 8 to 11 are what was behind.
    """
    flow_1_2, flow_2_1 = torch.zeros(1, 2, 5, 24), torch.zeros(1, 2, 5, 24)
    flow_1_2[:, 0, :, 8:12] = 4
    flow_2_1[:, 0, :, 12:16] = -4
    expected = torch.ones(5, 24)
    expected[:, 12:16] = 0
    assert torch.equal(seen_in_both(flow_2_1)[0], expected)
    uncovered = torch.ones(5, 24)
    uncovered[:, 8:12] = 0
    assert torch.equal(seen_in_both(flow_1_2)[0], uncovered)
    returns = consistent(flow_1_2, flow_2_1, least_px=3.0)[0]
    assert returns[:, :12].all(), "it comes back where it began"
    assert not returns[:, 12:16].any(), "the way back is that of the nearer thing"
    assert consistent(flow_1_2, flow_2_1, least_px=5.0).all()


def two_views() -> tuple[Tensor, Tensor, Tensor]:
    """Two images (1, 3, H, W) of the block world, and the exact flow from the first to the second."""
    world = BlockWorld(seed=3)
    down = np.array([1.0, 0.0, 0.0, 0.0])  # x of the map to the right, the optical axis down
    T_1, T_2 = se3.make([0.0, 0.0, 40.0], down), se3.make([1.5, 0.7, 40.4], down)
    (rgb_1, depth_1), (rgb_2, _) = (world.render(T, CAMERA, max_depth_m=200.0) for T in (T_1, T_2))
    one, two = (torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].double() / 255 for rgb in (rgb_1, rgb_2))
    T_2_1, K = (torch.from_numpy(each)[None] for each in (se3.inverse(T_2) @ T_1, CAMERA.K))
    flow, valid = rigid_flow(torch.from_numpy(depth_1)[None].double(), K, T_2_1)
    return one, two, torch.where(valid[:, None], flow, 0.0)


def test_the_second_image_is_the_first_at_its_flow_and_at_no_other() -> None:
    one, two, flow = two_views()
    assert 1 < float(flow.norm(dim=1).mean()) < 10

    def off(guess: Tensor) -> float:
        return float((warp_by_flow(two, guess) - one).abs()[..., 6:-6, 6:-6].mean())

    right = off(flow)
    for wrong in (0 * flow, -flow, 1.5 * flow, flow.flip(1), flow + 1):
        assert right < 0.6 * off(wrong)


def test_flow_learns_from_the_image_that_it_looks_up() -> None:
    flow = torch.zeros(1, 2, 5, 7, dtype=torch.float64, requires_grad=True)
    ramp = torch.arange(7.0, dtype=torch.float64).expand(1, 1, 5, 7)
    (gradient,) = torch.autograd.grad(warp_by_flow(ramp, flow)[..., 1:-1].sum(), flow)
    assert torch.allclose(gradient[0, 0, :, 1:-1], torch.ones(5, 5, dtype=torch.float64)), "a step right shows one more"
    assert not gradient[0, 1].any()
