"""`relief`: a renderer that carries the geometry of the place.

A ray a pixel, from pose and intrinsics, meets a volume of occupancy logits (volume.py) at its first crossing into
something solid. There features are looked up (features.py), and a small convolutional network (shader.py) adds what
single points cannot know. Nothing in it depends on the camera, so it renders any intrinsics and any pose.

From the paper (Pose2RGBD) are the slices: binary maps that say where matter is, learned by cross entropy. Of the study
that proposed this model are: slices that lie in the world; the surface as in relief mapping; colour from a map of the
ground plane and a coarse volume; the shader; the start from fused depth. Decided here, so neither in the paper nor in
the study: sampling along each ray's dominant axis, so that level rays meet walls; the levels of the map as a sum, each
faded out by the size of a pixel; signed distances for the start, and colours fused level by level (fuse.py); vertices
marked as seen, and unknown elsewhere; tables that move only where they were looked at.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief import march
from pose2rgbd_ros.models.relief.config import ReliefConfig
from pose2rgbd_ros.models.relief.features import Features
from pose2rgbd_ros.models.relief.shader import Shader, extra_channels
from pose2rgbd_ros.models.relief.volume import OccupancyVolume
from pose2rgbd_ros.models.view import Pictures

# Pixels of one pass on a CPU, 16 views of 128 x 128: indices, weights and features take more than 500 bytes each.
PIXELS_AT_ONCE = 1 << 18


class Rendering(NamedTuple):
    """What the network makes of B views of H x W pixels, for the loss; N = B H W.

    rgb: (B, 3, H, W), not yet clipped. depth: (B, H, W) of the surface, differentiable in the logits, NaN where none.
    residual: (B, H, W) what the shader adds to the depth. hits: of all rays (N,). origin, direction: (N, 3) in `vol`.
    """

    rgb: Tensor
    depth: Tensor
    residual: Tensor
    hits: march.Hits
    origin: Tensor
    direction: Tensor


class Relief(nn.Module):
    """The network; see the module's docstring."""

    any_camera = True
    has_confidence = True
    # Half precision is plenty for what is stored; computation is in float32.
    stored_as_half = frozenset({"volume.logits", "features.maps", "features.coarse"})

    def __init__(self, config: ReliefConfig) -> None:
        super().__init__()
        self.config = config
        self.volume = OccupancyVolume(config)
        self.features = Features(config)
        self.shader = Shader(config)

    def forward(self, T_map_cam: Tensor, rays_cam: Tensor, focal_px: float) -> Rendering:
        """Render.

        Args:
            T_map_cam: (B, 4, 4) float64.
            rays_cam: (H, W, 3) or (B, H, W, 3), z = 1, NaN for pixels without a ray.
            focal_px: of the camera, for the size of a pixel on the surface.
        """
        batch, (height, width) = len(T_map_cam), rays_cam.shape[-3:-1]
        starts, direction = self.volume.rays(T_map_cam, rays_cam.flatten(-3, -2))
        origin = starts[:, None].expand(direction.shape).reshape(-1, 3)
        direction = direction.reshape(-1, 3)
        hits = self.volume.hits(origin, direction)
        depth = self.volume.depth(hits, origin, direction) if self.training else hits.t
        # Only where poses are refined do features need to know how surfaces move under a ray.
        met = depth if T_map_cam.requires_grad else hits.t
        features = self.surface_features(met, origin, direction, focal_px)
        image = features.reshape(batch, height, width, -1).permute(0, 3, 1, 2)
        rgb, residual = self.shader(image)
        return Rendering(rgb, depth.reshape(batch, height, width), residual, hits, origin, direction)

    def surface_features(self, t: Tensor, origin: Tensor, direction: Tensor, focal_px: float) -> Tensor:
        """Inputs (N, C) of the shader for rays that meet a surface at t (N,), NaN none."""
        found = torch.isfinite(t)
        t = torch.where(found, t, 0.0)
        direction = direction.nan_to_num(0.0)
        points = origin + t[:, None] * direction
        ground = self.features.ground(points, t / focal_px)
        sky = torch.nonzero(~found)[:, 0]
        ground = ground.index_put((sky,), self.features.sky_at(direction[sky]))
        coarse = torch.where(found[:, None], self.features.volume(points), 0.0)
        return torch.cat([ground, coarse, extra_channels(direction, t, found, self.config.depth_scale_m)], 1)

    @torch.no_grad()
    def pictures(self, T_map_cam: Tensor, camera: Camera, normalization: Normalization) -> Pictures:
        """See :class:`ViewModel`; depth is NaN and confidence 0 where nothing was seen or nothing is met."""
        rays = torch.from_numpy(camera.rays()).to(T_map_cam.device)
        at_once = len(T_map_cam)
        if T_map_cam.device.type == "cpu":
            at_once = max(1, PIXELS_AT_ONCE // (camera.width * camera.height))
        parts = [self._pictures(some, rays, focal_px(camera)) for some in T_map_cam.split(at_once)]
        return Pictures(*map(_joined, zip(*parts, strict=True)))

    def _pictures(self, T_map_cam: Tensor, rays: Tensor, focal_px: float) -> Pictures:
        return self.shown(self(T_map_cam, rays, focal_px))

    def shown(self, made: Rendering) -> Pictures:
        """The pictures of a rendering made without gradients, with what is known of each pixel."""
        points = made.origin + made.hits.t[:, None] * made.direction
        known = torch.isfinite(made.hits.t) & self.volume.seen_at(points)
        sure = torch.where(known, confidence(made.hits), 0.0).reshape(made.depth.shape)
        depth = (made.depth + made.residual).clamp(min=0.0) / self.config.unit_m
        depth = torch.where(known.reshape(made.depth.shape), depth, torch.nan)
        has_depth = self.config.output == "rgbd"
        return Pictures(made.rgb.clamp(0.0, 1.0), depth if has_depth else None, sure)


def _joined(images: tuple[Tensor | None, ...]) -> Tensor | None:
    """Images of some views after those of others; None where the network makes none."""
    made = [each for each in images if each is not None]
    return torch.cat(made) if made else None


def confidence(hits: march.Hits) -> Tensor:
    """(N,) 0.5..1, how sure a surface is: the probability that matter is there half a sample behind it; 0.5 at the floor.

    By the rise of the logit from the last empty to the first solid sample, not by the latter alone: how deep that lies
    is chance, and would be seen as a pattern.
    """
    return torch.sigmoid((hits.logit_after - hits.logit_before) / 2)


def focal_px(camera: Camera) -> float:
    """Focal length of pixels that may not be square."""
    return float((camera.fx * camera.fy) ** 0.5)
