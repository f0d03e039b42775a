"""What optical flow both ways says of a pair of images: what of one is seen in the other, and where the flow holds.

`flow_1_2` (B, 2, H, W) takes a pixel p of image 1 to p + flow_1_2(p) of image 2, where the same point is seen: right
and down in pixels, whose centres lie at integers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pose2rgbd_ros.depth_from_images.epipolar import return_difference
from pose2rgbd_ros.depth_from_images.inverse_warp import look_up
from pose2rgbd_ros.depth_from_images.triangulation import pixel_grid


def warp_by_flow(image_2: Tensor, flow_1_2: Tensor) -> Tensor:
    """(B, C, H, W) image 2 as image 1 sees it; beyond the edge the edge goes on, without a gradient to the place."""
    flow = flow_1_2.to(torch.promote_types(flow_1_2.dtype, torch.float32))  # 8 bits do not hold the number of a pixel
    return look_up(image_2.to(flow.dtype), pixel_grid(flow) + flow.movedim(1, -1))


@torch.no_grad()
def splatted_ones(flow: Tensor) -> Tensor:
    """(B, H, W) how much of the pixels a flow brings to each pixel, dealt out bilinearly among the nearest four.

    The range map of Wang et al., "Occlusion Aware Unsupervised Learning of Optical Flow" (2018), before its clamp.
    """
    height, width = flow.shape[-2:]
    u, v = (pixel_grid(flow) + flow.movedim(1, -1)).unbind(-1)
    left, top = u.floor(), v.floor()
    total = flow.new_zeros(len(flow), height * width)
    for du in (0, 1):
        for dv in (0, 1):
            x, y = left + du, top + dv
            weight = (1 - (u - x).abs()) * (1 - (v - y).abs())
            hit = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            place = torch.where(hit, y * width + x, 0.0).long()
            total.scatter_add_(1, place.flatten(1), torch.where(hit, weight, 0.0).flatten(1))
    return total.reshape(-1, height, width)


def seen_in_both(flow_2_1: Tensor) -> Tensor:
    """(B, H, W) 0..1 the occlusion mask M_o of image 1: 0 where no pixel of image 2 comes from.

    Ones splatted by the reverse flow, at most 1 (Wang et al., 2018; TrianFlow, supplement, section E). No gradient.
    """
    return splatted_ones(flow_2_1).clamp(max=1)


@torch.no_grad()
def consistent(flow_1_2: Tensor, flow_2_1: Tensor, least_px: float = 3.0, share: float = 0.05) -> Tensor:
    """(B, H, W) bool: there and back ends within `least_px` of where it began, or within a share of the flow's length.

    Also where the way leaves the image, of which nothing is known.
    """
    off, _ = return_difference(flow_1_2, flow_2_1)
    return off.norm(dim=1) < (share * flow_1_2.norm(dim=1)).clamp(min=least_px)
