"""`relief`: a renderer that carries the geometry of the place.

A ray a pixel, from pose and intrinsics, meets a volume of occupancy logits (`OccupancyVolume`) at its first crossing
into something solid. There features are looked up (`Features`), and a small convolutional network (`Shader`) adds
what single points cannot know. Nothing in it depends on the camera, so it renders any intrinsics and any pose.

From the paper (Pose2RGBD) are the slices: binary maps that say where matter is, learned by cross entropy. Of the study
that proposed this model are: slices that lie in the world; the surface as in relief mapping; colour from a map of the
ground plane and a coarse volume; the shader; the start from fused depth. Decided here, so neither in the paper nor in
the study: sampling along each ray's dominant axis, so that level rays meet walls; the levels of the map as a sum, each
faded out by the size of a pixel; signed distances for the start, and colours fused level by level (fuse.py); vertices
marked as seen, and unknown elsewhere; tables that move only where they were looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64, Int64, UInt8, UInt16
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.backends import HAS_NUMBA
from pose2rgbd_ros.models.relief import march
from pose2rgbd_ros.models.relief.charts import NO_CHART, layout
from pose2rgbd_ros.models.relief.config import (
    DIRECT_CHANNELS,
    EXTRA_CHANNELS,
    FULL_TEXELS,
    MEMORY_CHANNELS,
    NETWORK_CONFIGS,
    NONE_TEXELS,
    SKY_COLUMNS,
    SKY_ROWS,
    ReliefConfig,
    TiledReliefConfig,
    chart_texels,
)
from pose2rgbd_ros.models.relief.kernels import Tops, highest_layers, march_fast
from pose2rgbd_ros.models.relief.light import choose_reach, light_at, neighbours_tell, viewpoints
from pose2rgbd_ros.models.relief.lookup import bilinear, chart_codes, lookup, sample_charts, sample_grid, sample_maps
from pose2rgbd_ros.models.relief.memory import (
    TINY,
    WITHIN_PIXEL,
    Photographs,
    View,
    glance_at,
    photographs,
    recall,
    silhouettes,
)
from pose2rgbd_ros.models.relief.recorded_depth import least_around, refine, silhouette_px
from pose2rgbd_ros.models.relief.tiles import Owners, off_core, windows
from pose2rgbd_ros.training.families import RenderTensors

# What surfaces look like: feature maps on the ground plane, mip levels and all, a coarse volume, and the sky.


class Features(nn.Module):
    """Learned tables looked up where rays meet surfaces.

    The ground-plane map is a sum of levels, each of twice the texel of the one before (a Laplacian pyramid whose
    levels are learned by themselves). A level fades out where a pixel covers several of its texels, which is
    what choosing a mip level does. The coarse volume tells apart what lies above one another.
    """

    def __init__(self, config: ReliefConfig) -> None:
        super().__init__()
        self.config = config
        sizes = [rows * columns for rows, columns in map(config.map_shape, range(config.levels))]
        layers, rows, columns = config.coarse_shape
        self.starts = [sum(sizes[:level]) for level in range(config.levels)]
        # One row a texel, all levels in one table: one lookup sums what belongs to a point.
        self.maps = nn.Parameter(torch.zeros(sum(sizes), config.channels))
        self.coarse = nn.Parameter(torch.zeros(layers * rows * columns, config.coarse_channels))
        self.sky = nn.Parameter(torch.zeros(SKY_ROWS * SKY_COLUMNS, config.channels))
        self.charts: nn.Parameter | None = None
        if config.charts:
            self.charts = nn.Parameter(torch.zeros(config.charts * chart_texels(config.levels), config.channels))
            self.register_buffer("chart_of", torch.full(config.chart_grid, NO_CHART, dtype=torch.int32))
            self.chart_of: Tensor

    def surface(self, points: Tensor, pixel_m: Tensor) -> Tensor:
        """Features (N, C) at points (N, 3) that pixels of size `pixel_m` (N,) show: of charts, else of the map."""
        if self.charts is None:
            return self.ground(points, pixel_m)
        shares = torch.stack([self.share(level, pixel_m) for level in range(self.config.levels)], 1)
        codes = chart_codes(self.chart_of, points, self.config.chart_m)
        without = (codes < 0)[:, None].to(shares.dtype)
        there = layout(self.config.levels, self.config.chart_m)
        return self._on_maps(points, shares * without) + sample_charts(self.charts, points, codes, shares, there)

    def ground(self, points: Tensor, pixel_m: Tensor) -> Tensor:
        """Features (N, C) of the ground-plane map at points (N, 3) that pixels of size `pixel_m` (N,) show."""
        shares = torch.stack([self.share(level, pixel_m) for level in range(self.config.levels)], 1)
        return self._on_maps(points, shares)

    def _on_maps(self, points: Tensor, shares: Tensor) -> Tensor:
        levels = range(self.config.levels)
        shapes, texels_m = zip(*((self.config.map_shape(k), self.config.texel_m(k)) for k in levels), strict=True)
        return sample_maps(self.maps, points[:, :2], shares, self.starts, shapes, texels_m)

    def share(self, level: int, pixel_m: Tensor) -> Tensor:
        """How much (N,) a level counts for pixels of a size; the coarsest always counts."""
        if level == self.config.levels - 1:
            return torch.ones_like(pixel_m)
        texels = pixel_m / self.config.texel_m(level)
        return ((NONE_TEXELS - texels) / (NONE_TEXELS - FULL_TEXELS)).clamp(0.0, 1.0)

    def volume(self, points: Tensor) -> Tensor:
        """Features (N, Cv) of the coarse volume at points (N, 3)."""
        cell_m = self.config.coarse_cell_m
        position = points / points.new_tensor([cell_m, cell_m, self.config.coarse_layer_m])
        return sample_grid(self.coarse, position, self.config.coarse_shape)

    def sky_at(self, directions: Tensor) -> Tensor:
        """Features (N, C) of rays (N, 3) that meet nothing."""
        across = torch.linalg.vector_norm(directions[:, :2], dim=1)
        elevation = torch.atan2(directions[:, 2], across) / torch.pi + 0.5
        azimuth = torch.atan2(directions[:, 1], directions[:, 0]) / (2 * torch.pi) + 0.5
        at = torch.stack([azimuth * (SKY_COLUMNS - 1), elevation * (SKY_ROWS - 1)], 1)
        return lookup(self.sky, *bilinear(at, (SKY_ROWS, SKY_COLUMNS)))


# A small convolutional network that turns what rays found into an image.


class Shader(nn.Module):
    """Residuals of colour and depth from features, at 1 / unshuffle of the resolution.

    It mends what a lookup at single points cannot know: edges, thin things, what depends on the direction.
    """

    def __init__(self, config: ReliefConfig) -> None:
        super().__init__()
        self.config = config
        inputs, first, second, outputs = config.shader_widths()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, first, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(second, outputs, 3, padding=1),
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> colour (B, 3, H, W), about 0..1, and residual depth (B, H, W) in metres."""
        height, width = features.shape[-2:]
        step = self.config.unshuffle
        padded = functional.pad(features, (0, -width % step, 0, -height % step), mode="replicate")
        residual = functional.pixel_shuffle(self.layers(functional.pixel_unshuffle(padded, step)), step)
        residual = residual[..., :height, :width]
        colour = direct_colour(features, self.config)
        if self.config.memory_frames:
            recalled = features[:, -MEMORY_CHANNELS:-2]
            colour = colour + recalled * trust(residual[:, 4:5])
        return colour + residual[:, :3], residual[:, 3] * self.config.layer_m


def direct_colour(features: Tensor, config: ReliefConfig) -> Tensor:
    """(B, 3, H, W) as the features (B, C, H, W) tell it themselves."""
    ground, coarse = (features[:, first : first + DIRECT_CHANNELS] for first in (0, config.channels))
    return 0.5 + ground + coarse


def trust(logit: Tensor) -> Tensor:
    """How much of a remembered colour is taken, 0..2, by what the shader says of it; 1 as it begins."""
    return 2 * torch.sigmoid(logit)


def extra_channels(direction: Tensor, depth: Tensor, found: Tensor, depth_scale_m: float) -> Tensor:
    """(N, 5) of directions (N, 3), depths (N,) and whether they are of a surface (N,)."""
    unit = functional.normalize(direction, dim=1)
    far = torch.where(found, (depth / depth_scale_m).clamp(1e-3, 1e3), 1.0).log()
    return torch.cat([unit, far[:, None], found[:, None].to(unit.dtype)], 1)


# The occupancy of a place: logits on a grid, and rays through it.


EMPTY_LOGIT = -1.0
# Logits that differ by less across a surface do not say where it is.
LEAST_GAP = 0.05


class OccupancyVolume(nn.Module):
    """Logits (L, Y, X) of solid matter at the vertices of a grid, and where anything was seen at all.

    The paper's depth slices moved from the view into the world: each layer says where matter is at its height. Rays
    are in the volume's frame and metres outside, in grid units (see march.py) inside.
    """

    def __init__(self, config: ReliefConfig) -> None:
        super().__init__()
        self.config = config
        self.logits = nn.Parameter(torch.full(config.shape, EMPTY_LOGIT))
        # Vertices near a surface that some training frame saw; what a ray meets elsewhere is unknown.
        self.register_buffer("seen", torch.zeros(config.shape, dtype=torch.uint8))
        self.seen: Tensor
        T_vol_map = se3.inverse(config.T_map_vol)
        self.register_buffer("T_vol_map", torch.from_numpy(np.asarray(T_vol_map)), persistent=False)
        self.T_vol_map: Tensor
        self.register_buffer("step_m", torch.tensor(config.step_m), persistent=False)
        self.step_m: Tensor

    def rays(self, T_map_cam: Tensor, rays_cam: Tensor) -> tuple[Tensor, Tensor]:
        """Rays of cameras in `vol`, float32: origins (B, 3) and directions (B, P, 3) per unit of depth.

        T_map_cam (B, 4, 4) float64; rays_cam (P, 3) or (B, P, 3) with z = 1.
        """
        T_vol_cam = self.T_vol_map @ T_map_cam.to(self.T_vol_map.dtype)
        directions = rays_cam.to(T_vol_cam.dtype) @ T_vol_cam[:, :3, :3].transpose(1, 2)
        return T_vol_cam[:, :3, 3].float(), directions.float()

    @torch.no_grad()
    def hits(self, origin: Tensor, direction: Tensor, tops: Tops | None = None) -> march.Hits:
        """What rays (N, 3), (N, 3) meet; without gradients, t is the depth. `tops`: of :meth:`tops`, if known."""
        return march_fast(self.logits.detach(), origin / self.step_m, direction / self.step_m, tops=tops)

    @torch.no_grad()
    def tops(self) -> Tops | None:
        """What several marches through the same logits may share."""
        plain = HAS_NUMBA and self.logits.device.type == "cpu"
        return highest_layers(self.logits.detach().numpy()) if plain else None

    def depth(self, hits: march.Hits, origin: Tensor, direction: Tensor) -> Tensor:
        """Depth (N,) of hits again, differentiable in the logits around the surface and in the rays; NaN without one.

        By implicit differentiation: where the logit at the surface rises, the surface comes nearer by that much over
        the logit's slope along the ray.
        """
        at_surface = torch.nonzero((hits.state == march.HIT) & (hits.t_after > hits.t_before))[:, 0]
        t, gap = hits.t[at_surface], (hits.logit_after - hits.logit_before)[at_surface]
        slope = gap.clamp(min=LEAST_GAP) / (hits.t_after - hits.t_before)[at_surface]
        logit = self.sample(origin[at_surface] + t[:, None] * direction[at_surface])
        depth = hits.t.index_put((at_surface,), t - (logit - logit.detach()) / slope)
        if not origin.requires_grad:
            return depth
        at_floor = torch.nonzero(hits.state == march.FLOOR)[:, 0]
        return depth.index_put((at_floor,), -origin[at_floor, 2] / direction[at_floor, 2])

    def sample(self, points: Tensor) -> Tensor:
        """Logits (N,) at points (N, 3) in metres."""
        return sample_grid(self.logits, points / self.step_m, self.config.shape)[:, 0]

    @torch.no_grad()
    def mark_seen(self, points: Tensor) -> None:
        """Call the corners of the cells around points (N, 3) in metres seen; points beside the box are left out."""
        last = torch.tensor(self.seen.shape[::-1], device=points.device) - 1
        cell = points / self.step_m
        low = cell[((cell >= 0) & (cell <= last)).all(1)].long().clamp(max=last - 1)
        for corner in torch.cartesian_prod(*3 * [torch.arange(2, device=points.device)]):
            i, j, k = (low + corner).unbind(1)
            self.seen[k, j, i] = 1

    def seen_at(self, points: Tensor) -> Tensor:
        """Whether (N,) the vertex nearest to points (N, 3) in metres is near a surface somebody saw.

        Beside the box that of the box's border counts: the far field goes on like it.
        """
        last = torch.tensor(self.seen.shape[::-1], device=points.device) - 1
        vertex = (points / self.step_m).nan_to_num(0.0).round().long()
        i, j, k = vertex.clamp(min=torch.zeros_like(last), max=last).unbind(1)
        return self.seen[k, j, i] > 0


# Recorded colours, looked up where rays meet surfaces.


MEMORY_TYPES = {
    "jpeg": torch.uint8,
    "ends": torch.int64,
    "depth": torch.int16,  # the bits of a uint16
    "T_vol_cam": torch.float64,
    "intrinsics": torch.float64,
    "light": torch.float32,
}
DECODED_WHILE_TRAINING = 1e9


class Memory(nn.Module):
    """The remembered frames; nothing in it is learnt, but the shader learns how far to trust it.

    The work is done on the CPU, whatever the device: the lookup is compiled code (memory.py).
    """

    jpeg: Tensor
    ends: Tensor
    depth: Tensor
    T_vol_cam: Tensor
    intrinsics: Tensor
    light: Tensor

    def __init__(self, config: ReliefConfig) -> None:
        super().__init__()
        self.config = config
        shapes = config.memory_shapes()
        for name, kind in MEMORY_TYPES.items():
            self.register_buffer(name, torch.zeros(shapes[f"memory.{name}"], dtype=kind))
        self.light.copy_(torch.tensor([1.0, 0.0]).reshape(2, 1))
        self._photographs: Photographs | None = None

    @torch.no_grad()
    def keep(self, jpeg: UInt8, ends: Int64, depth: UInt16, T_vol_cam: Float64, camera: Camera) -> None:
        """Take frames: see :class:`memory.Photographs`."""
        self.jpeg.copy_(torch.from_numpy(jpeg))
        self.ends.copy_(torch.from_numpy(ends))
        self.depth.copy_(torch.from_numpy(depth.view(np.int16)))
        self.T_vol_cam.copy_(torch.from_numpy(T_vol_cam))
        self.intrinsics.copy_(torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy]))
        self._photographs = None

    @torch.no_grad()
    def correct(self, T_vol_cam: Float64, light: Float32 | None) -> None:
        """Other poses (M, 4, 4) and gains and offsets (M, 2, 3) of the same frames."""
        self.T_vol_cam.copy_(torch.from_numpy(T_vol_cam))
        if light is not None:
            self.light.copy_(torch.from_numpy(light))
        self.photographs.correct(T_vol_cam, self.light.cpu().numpy())

    def _load_from_state_dict(self, *args: Any) -> None:
        """What was looked up so far is of other tensors. (A module is told so of its network's `load_state_dict`.)"""
        self._photographs = None
        super()._load_from_state_dict(*args)

    @property
    def photographs(self) -> Photographs:
        """As memory.py looks them up."""
        if self._photographs is None:
            state = {f"memory.{name}": buffer.cpu().numpy() for name, buffer in self.named_buffers()}
            self._photographs = photographs(self.config, state, DECODED_WHILE_TRAINING)
        return self._photographs

    @torch.no_grad()
    def views(self, T_vol_cam: Tensor, glance: Tensor, focal_px: float, left_out: Sequence[Bool] | None) -> list[View]:
        """The frames for B views: glance (B, G, 3) are points of the surface that they see, NaN for none; left_out: B
        times the frames (M,) that are not to be looked at."""
        found = []
        for index, (T, points) in enumerate(zip(T_vol_cam.cpu().numpy(), glance.cpu().numpy(), strict=True)):
            without = None if left_out is None else left_out[index]
            chosen = self.photographs.choose(T, points, self.config.memory_views, without)
            found.append(self.photographs.view(chosen, focal_px))
        return found


@torch.no_grad()
def refined(view: View, t: Tensor, near: Tensor, origin: Tensor, direction: Tensor, reach_m: float) -> Tensor:
    """t (N,) of rays from (3,) in directions (N, 3) by the depth that a view's frames recorded; near (N,): of
    :func:`recorded_depth.least_around`. See :func:`recorded_depth.refined`."""
    if reach_m == 0 or len(view.rgb) == 0:
        return t
    ends, least, eye, way = map(_contiguous, (t, near, origin, direction))
    found = np.empty_like(ends)
    refine(view, ends, least, np.float32(reach_m), eye, np.nan_to_num(way), found)
    return torch.from_numpy(found).to(t.device)


@torch.no_grad()
def recalled(view: View, t: Tensor, origin: Tensor, direction: Tensor, alone: bool = True) -> Tensor:
    """What the frames of a view show (N, 5), as :func:`memory.recall`, where rays from (3,) in directions (N, 3) end at
    t (N,), NaN for never; alone: one a pixel."""
    reach, eye, way = map(_contiguous, (t, origin, direction))
    found = np.zeros((len(reach), MEMORY_CHANNELS), np.float32)
    rgb = view.filtered if alone else view.rgb
    recall(view, rgb, eye + reach[:, None] * way, np.nan_to_num(way), eye, found)
    return torch.from_numpy(found).to(t.device)


def _contiguous(values: Tensor) -> Float32:
    return np.ascontiguousarray(values.detach().cpu().numpy())


class Light(nn.Module):
    """What light training frames were in (light.py); it is learnt beside the network, which shows the average light."""

    frames: Tensor
    views: Tensor

    def __init__(self, config: ReliefConfig) -> None:
        super().__init__()
        self._scale_m, self._reach = config.depth_scale_m, config.light_reach
        self.register_buffer("frames", torch.zeros(config.light_frames, 2, 3))
        self.register_buffer("views", torch.zeros(config.light_frames, 6))

    @torch.no_grad()
    def keep(self, light: Tensor) -> None:
        """Take the logarithms of gains and the offsets (T, 2, 3) of frames, so far as their neighbours tell them."""
        frames, views = light.cpu().numpy(), self.views.cpu().numpy()
        self.frames.copy_(light * neighbours_tell(frames, views, self._scale_m, self._reach))

    @torch.no_grad()
    def forward(self, rgb: Tensor, T_vol_cam: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in the light of the frames near the poses (B, 4, 4)."""
        frames, views = (values.cpu().numpy() for values in (self.frames, self.views))
        light = np.stack([light_at(frames, views, T, self._scale_m, self._reach) for T in T_vol_cam.cpu().numpy()])
        factor, summand = torch.from_numpy(light).to(rgb).unbind(1)
        return rgb * factor[..., None, None] + summand[..., None, None]


# Pixels of one pass on a CPU, 16 views of 128 x 128: indices, weights and features take more than 500 bytes each.
PIXELS_AT_ONCE = 1 << 18


class ReliefOutput(NamedTuple):
    """What the network makes of B views of H x W pixels, for the loss; N = B H W.

    rgb: (B, 3, H, W), not yet clipped. depth: (B, H, W) of the surface, differentiable in the logits, NaN where none.
    residual: (B, H, W) what the shader adds to the depth. hits: of all rays (N,). origin, direction: (N, 3) in `vol`.
    direct: (B, 3, H, W) colour as it is learnt of the surface alone; None without a memory.
    refined: (B, H, W) the depth as remembered frames recorded it; None without a memory.
    """

    rgb: Tensor
    depth: Tensor
    residual: Tensor
    hits: march.Hits
    origin: Tensor
    direction: Tensor
    direct: Tensor | None = None
    refined: Tensor | None = None


class Edges(NamedTuple):
    """Rays within the E pixels at silhouettes, R each.

    pixel: (E,) of all pixels of all views. origin, direction: (E, R, 3) in `vol`. hits: of all rays (E R,).
    """

    pixel: Tensor
    origin: Tensor
    direction: Tensor
    hits: march.Hits


class Relief(nn.Module):
    """The network; see the module's docstring."""

    any_camera, has_confidence = ReliefConfig.any_camera, ReliefConfig.has_confidence

    def __init__(self, config: ReliefConfig) -> None:
        super().__init__()
        self.config = config
        self.volume = OccupancyVolume(config)
        self.features = Features(config)
        self.shader = Shader(config)
        self.memory = Memory(config) if config.memory_frames else None
        self.light = Light(config) if config.light_frames else None

    def take_light(self, T_map_cam: Float64, log_gain: Float32 | None = None) -> None:
        """From now on know the light of frames at poses (T, 4, 4): that of the place, until :class:`Light` is told.

        log_gain: (T, 3), a first guess of it, by which is chosen how far a frame's light reaches.
        """
        views = viewpoints(se3.inverse(self.config.T_map_vol) @ T_map_cam)
        changed: dict[str, Any] = {"light_frames": len(T_map_cam)}
        if log_gain is not None:
            changed["light_reach"] = choose_reach(log_gain, views, self.config.depth_scale_m)
        self.config = dataclasses.replace(self.config, **changed)
        self.light = Light(self.config).to(self.volume.logits.device)
        self.light.views.copy_(torch.from_numpy(views))

    @property
    def stored_as_half(self) -> frozenset[str]:
        """Half precision is plenty for what is stored; computation is in float32."""
        charts = {"features.charts"} if self.config.charts else set()
        return frozenset({"volume.logits", "features.maps", "features.coarse"} | charts)

    def forward(
        self,
        T_map_cam: Tensor,
        rays_cam: Tensor,
        focal_px: float,
        glance_cam: Tensor | None = None,
        left_out: Sequence[Bool] | None = None,
    ) -> ReliefOutput:
        """Render.

        Args:
            T_map_cam: (B, 4, 4) float64.
            rays_cam: (H, W, 3) or (B, H, W, 3), z = 1, NaN for pixels without a ray.
            focal_px: of the camera, for the size of a pixel on the surface.
            glance_cam: (G, 3) rays by whose surfaces remembered frames are chosen; some of rays_cam if not given.
            left_out: for each view the remembered frames (M,) that it must not look at.
        """
        batch, (height, width) = len(T_map_cam), rays_cam.shape[-3:-1]
        starts, direction = self.volume.rays(T_map_cam, rays_cam.flatten(-3, -2))
        origin = starts[:, None].expand(direction.shape).reshape(-1, 3)
        direction = direction.reshape(-1, 3)
        tops = self.volume.tops()
        hits = self.volume.hits(origin, direction, tops)
        depth = self.volume.depth(hits, origin, direction) if self.training else hits.t
        # Only where poses are refined do features need to know how surfaces move under a ray.
        met = depth if T_map_cam.requires_grad else hits.t
        features = self.surface_features(met, origin, direction, focal_px)
        edges = self._edges(T_map_cam, rays_cam, hits.t.reshape(batch, height, width), tops)
        if self.config.edge_rays > 1 and len(edges.pixel):
            features = self._smoothed(features, edges, focal_px)
        ends = None
        if self.memory is not None:
            glance = glances(rays_cam) if glance_cam is None else glance_cam
            t, way = hits.t.reshape(batch, height, width), direction.reshape(batch, -1, 3)
            seen, ends = self._recalled(T_map_cam, glance, focal_px, left_out, t, starts, way, edges, tops)
            features = with_recalled(features, seen, self.config)
        image = features.reshape(batch, height, width, -1).permute(0, 3, 1, 2)
        rgb, residual = self.shader(image)
        direct = None if self.memory is None else direct_colour(image, self.config)
        return ReliefOutput(rgb, depth.reshape(batch, height, width), residual, hits, origin, direction, direct, ends)

    def surface_features(self, t: Tensor, origin: Tensor, direction: Tensor, focal_px: float) -> Tensor:
        """Inputs (N, C) of the shader for rays that meet a surface at t (N,), NaN none."""
        found = torch.isfinite(t)
        t = torch.where(found, t, 0.0)
        direction = direction.nan_to_num(0.0)
        points = origin + t[:, None] * direction
        ground = self.features.surface(points, t / focal_px)
        sky = torch.nonzero(~found)[:, 0]
        ground = ground.index_put((sky,), self.features.sky_at(direction[sky]))
        coarse = torch.where(found[:, None], self.features.volume(points), 0.0)
        return torch.cat([ground, coarse, extra_channels(direction, t, found, self.config.depth_scale_m)], 1)

    def _smoothed(self, features: Tensor, edges: Edges, focal_px: float) -> Tensor:
        """Features (N, C), at silhouettes those of the surfaces that several rays a pixel meet, on average: a pixel
        there shows what lies before and what lies behind. How far it is stays that of the middle ray."""
        rays = self.config.edge_rays
        origin, direction = (values[:, :rays].reshape(-1, 3) for values in (edges.origin, edges.direction))
        hits = march.Hits(*(values.reshape(len(edges.pixel), -1)[:, :rays].flatten() for values in edges.hits))
        t = self.volume.depth(hits, origin, direction) if origin.requires_grad else hits.t
        looks = features.shape[1] - EXTRA_CHANNELS
        each = self.surface_features(t, origin, direction, focal_px)[:, :looks]
        mean = each.reshape(-1, rays, looks).mean(1)
        return features.index_put((edges.pixel,), torch.cat([mean, features[edges.pixel, looks:]], 1))

    @torch.no_grad()
    def _recalled(
        self,
        T_map_cam: Tensor,
        glance_cam: Tensor,
        focal_px: float,
        left_out: Sequence[Bool] | None,
        t: Tensor,
        origin: Tensor,
        direction: Tensor,
        edges: Edges,
        tops: Tops | None,
    ) -> tuple[Tensor, Tensor]:
        """What remembered frames show (N, 5) where rays from (B, 3) in directions (B, P, 3) end, at silhouettes of
        several rays a pixel the mean; and those ends (B, H, W), t refined by the depth that the frames recorded."""
        assert self.memory is not None
        starts, ways = self.volume.rays(T_map_cam, glance_cam)
        from_ = starts[:, None].expand(ways.shape)
        met = self.volume.hits(from_.reshape(-1, 3), ways.reshape(-1, 3), tops).t.reshape(*ways.shape[:2], 1)
        T_vol_cam = self.volume.T_vol_map @ T_map_cam.to(self.volume.T_vol_map.dtype)
        views = self.memory.views(T_vol_cam, from_ + met * ways, focal_px, left_out)
        reach_m, rays = self.config.memory_reach * self.config.layer_m, self.config.memory_rays
        reach_px = silhouette_px(self.config.cell_m, self.config.depth_scale_m, focal_px)
        owner, pixel = (edges.pixel // t[0].numel(), edges.pixel % t[0].numel())
        ends_within = edges.hits.t.reshape(edges.direction.shape[:2])
        ends, shown = torch.empty_like(t), []
        for number, (view, start) in enumerate(zip(views, origin, strict=True)):
            mine = torch.nonzero(owner == number)[:, 0]
            v, u = np.divmod(pixel[mine].cpu().numpy(), t.shape[2])
            near = torch.from_numpy(least_around(t[number].cpu().numpy(), v, u, reach_px)).to(t.device).flatten()
            end = refined(view, t[number].flatten(), near, start, direction[number], reach_m)
            ends[number] = end.reshape(t.shape[1:])
            shown.append(recalled(view, end, start, direction[number]))
            end, way = (values[mine, :rays].flatten(0, 1) for values in (ends_within, edges.direction))
            end = refined(view, end, near[pixel[mine]].repeat_interleave(rays), start, way, reach_m)
            each = recalled(view, end, start, way, alone=False)
            shown[-1][pixel[mine]] = mean_recalled(each.reshape(-1, rays, MEMORY_CHANNELS))
        return torch.cat(shown), ends

    def _edges(self, T_map_cam: Tensor, rays_cam: Tensor, t: Tensor, tops: Tops | None) -> Edges:
        """What rays within the pixels at silhouettes meet, where the middle ones (B, H, W, 3) or (H, W, 3) end at t
        (B, H, W)."""
        rays = self.config.rays_within
        batch, height, width = t.shape
        places = [silhouettes(each) for each in t.cpu().numpy()] if rays else []
        counts = [len(rows) for rows, _ in places] or [0]
        if sum(counts) == 0:
            nothing = t.new_zeros((0, rays, 3))
            flat = nothing[..., 0].flatten()
            none = march.Hits(*([flat] * len(march.Hits._fields)))
            return Edges(torch.zeros(0, dtype=torch.long, device=t.device), nothing, nothing, none)
        rows, columns = (torch.from_numpy(np.concatenate(each)).to(t.device) for each in zip(*places, strict=True))
        owner = torch.repeat_interleave(torch.tensor(counts)).to(t.device)
        middle = rays_cam.expand(batch, height, width, 3)
        down, across = (step[owner, rows, columns] for step in torch.gradient(middle, dim=(1, 2)))
        right, lower = torch.tensor(WITHIN_PIXEL[:rays], device=t.device, dtype=middle.dtype).T[..., None, None]
        within = middle[owner, rows, columns] + right * across + lower * down
        # Per view one rotation: rays of all views together, each by its own.
        T_vol_cam = self.volume.T_vol_map @ T_map_cam.to(self.volume.T_vol_map.dtype)
        turn = T_vol_cam[owner, :3, :3]
        direction = (within.transpose(0, 1).to(turn.dtype) @ turn.transpose(1, 2)).float()
        origin = T_vol_cam[owner, None, :3, 3].float().expand(direction.shape)
        hits = self.volume.hits(origin.detach().reshape(-1, 3), direction.detach().reshape(-1, 3), tops)
        return Edges((owner * height + rows) * width + columns, origin, direction, hits)

    @torch.no_grad()
    def pictures(self, T_map_cam: Tensor, camera: Camera, normalization: Normalization) -> RenderTensors:
        """See :class:`RenderModel`; depth is NaN and confidence 0 where nothing was seen or nothing is met."""
        rays = torch.from_numpy(camera.rays()).to(T_map_cam.device)
        at_once = len(T_map_cam)
        if T_map_cam.device.type == "cpu":
            at_once = max(1, PIXELS_AT_ONCE // (camera.width * camera.height))
        parts = [self._pictures(some, rays, camera.focal_px) for some in T_map_cam.split(at_once)]
        return RenderTensors(*map(_joined, zip(*parts, strict=True)))

    def _pictures(self, T_map_cam: Tensor, rays: Tensor, focal_px: float) -> RenderTensors:
        made: ReliefOutput = self(T_map_cam, rays, focal_px)
        if self.light is not None:
            T_vol_cam = self.volume.T_vol_map @ T_map_cam.to(self.volume.T_vol_map.dtype)
            made = made._replace(rgb=self.light(made.rgb, T_vol_cam))
        return self.shown(made)

    def shown(self, made: ReliefOutput) -> RenderTensors:
        """The pictures of a rendering made without gradients, with what is known of each pixel."""
        points = made.origin + made.hits.t[:, None] * made.direction
        known = torch.isfinite(made.hits.t) & self.volume.seen_at(points)
        sure = torch.where(known, confidence(made.hits), 0.0).reshape(made.depth.shape)
        surface = made.depth if made.refined is None else made.refined
        depth = (surface + made.residual).clamp(min=0.0) / self.config.unit_m
        depth = torch.where(known.reshape(made.depth.shape), depth, torch.nan)
        has_depth = self.config.output == "rgbd"
        return RenderTensors(made.rgb.clamp(0.0, 1.0), depth if has_depth else None, sure)


def glances(rays_cam: Tensor) -> Tensor:
    """(G, 3) or (B, G, 3) of the rays (..., H, W, 3) of a picture, by which remembered frames are chosen."""
    rows, columns = (torch.from_numpy(glance_at(side)).to(rays_cam.device) for side in rays_cam.shape[-3:-1])
    return rays_cam[..., rows, :, :][..., columns, :].flatten(-3, -2)


def mean_recalled(seen: Tensor) -> Tensor:
    """(E, 5) of the R rays within each pixel, (E, R, 5): colours weighed by how sure they are."""
    sure = seen[..., 3:4]
    colour = (sure * seen[..., :3]).sum(1) / sure.sum(1).clamp(min=float(TINY))
    return torch.cat([colour, seen[..., 3:].mean(1)], 1)


def with_recalled(features: Tensor, recalled: Tensor, config: ReliefConfig) -> Tensor:
    """Features (N, C) of the shader, and behind them what remembered frames (N, 5) add to their colour, how sure they
    are and how far apart."""
    sure = recalled[:, 3:4]
    direct = direct_colour(features, config)
    return torch.cat([features, sure * (recalled[:, :3] - direct), recalled[:, 3:]], 1)


def _joined(images: tuple[Tensor | None, ...]) -> Tensor | None:
    """Images of some views after those of others; None where the network makes none."""
    made = [each for each in images if each is not None]
    return torch.cat(made) if made else None


def confidence(hits: march.Hits) -> Tensor:
    """(N,) 0.5..1, how sure a surface is: the probability that matter is there half a sample behind it; 0.5 at the
    floor.

    By the rise of the logit from the last empty to the first solid sample, not by the latter alone: how deep that lies
    is chance, and would be seen as a pattern.
    """
    return torch.sigmoid((hits.logit_after - hits.logit_before) / 2)


# A place too large for one volume: reliefs side by side in one model, of which a view renders those it meets.


class TiledRelief(nn.Module):
    """Tiles of :class:`Relief`; each is whole in itself, with its own tables and shader (`TiledReliefConfig`)."""

    any_camera, has_confidence = ReliefConfig.any_camera, ReliefConfig.has_confidence

    def __init__(self, config: TiledReliefConfig) -> None:
        super().__init__()
        self.config = config
        self.tiles = nn.ModuleList(Relief(config.tile(number)) for number in range(config.count))

    @property
    def stored_as_half(self) -> frozenset[str]:
        """As each tile says."""
        names = self.tile(0).stored_as_half  # tiles are alike
        return frozenset(f"tiles.{number}.{name}" for number in range(self.config.count) for name in names)

    def tile(self, number: int) -> Relief:
        """One of them."""
        return cast(Relief, self.tiles[number])

    def forward(self, tile: int, T_map_cam: Tensor, rays_cam: Tensor, focal_px: float) -> ReliefOutput:
        """What one tile makes of views (see :class:`Relief`), for its training: pixels that show nothing of it teach
        nothing, that is, their depth is NaN and their colour has no gradient."""
        made: ReliefOutput = self.tile(tile)(T_map_cam, rays_cam, focal_px)
        t = made.hits.t
        size = made.origin.new_tensor(self.config.size_m[:2])
        where = (made.origin + t[:, None] * made.direction)[:, :2]
        low, high = (where.new_tensor(bound) for bound in self.config.core_m(tile))
        home = torch.isnan(t) & ((made.origin[:, :2] >= low) & (made.origin[:, :2] <= high)).all(1)  # its sky
        own = (home | ((where >= 0) & (where <= size)).all(1)).reshape(made.depth.shape)
        rgb = torch.where(own[:, None], made.rgb, made.rgb.detach())
        return made._replace(rgb=rgb, depth=torch.where(own, made.depth, torch.nan))

    @torch.no_grad()
    def pictures(self, T_map_cam: Tensor, camera: Camera, normalization: Normalization) -> RenderTensors:
        """See :class:`RenderModel`."""
        rays = camera.rays()
        views = [self._picture(T[None], rays, camera.focal_px) for T in T_map_cam]
        rgb, depth, confidence = (torch.cat(images) for images in zip(*views, strict=True))
        return RenderTensors(rgb, depth if self.config.output == "rgbd" else None, confidence)

    def _picture(self, T_map_cam: Tensor, rays: np.ndarray, focal_px: float) -> tuple[Tensor, Tensor, Tensor]:
        device, shape = T_map_cam.device, rays.shape[:2]
        rgb, depth = (torch.zeros((1, 3, *shape), device=device), torch.full((1, *shape), torch.nan, device=device))
        sure = torch.zeros((1, *shape), device=device)
        owners = Owners(shape)
        for tile, rows, columns in windows(self.config, T_map_cam[0].cpu().numpy(), rays):
            relief = self.tile(tile)
            cut = torch.from_numpy(np.ascontiguousarray(rays[rows, columns])).to(device)
            made: ReliefOutput = relief(T_map_cam, cut, focal_px)
            shown = relief.shown(made)
            t = made.hits.t.reshape(cut.shape[:2])
            where = (made.origin + made.hits.t[:, None] * made.direction)[:, :2].reshape(*cut.shape[:2], 2)
            off = off_core(where.cpu().numpy(), *self.config.core_m(tile))
            mine = torch.from_numpy(owners.take(rows, columns, t.cpu().numpy(), off)).to(device)
            assert shown.rgb is not None
            rgb[0, :, rows, columns] = torch.where(mine, shown.rgb[0], rgb[0, :, rows, columns])
            for image, part in ((depth, shown.depth), (sure, shown.confidence)):
                if part is not None:
                    image[0, rows, columns] = torch.where(mine, part[0], image[0, rows, columns])
            if (made.hits.state == march.INSIDE).any():
                break  # the tile the camera is in comes first, and has the whole picture
        return rgb, depth, sure


NETWORKS = {
    name: (NETWORK_CONFIGS[name], network) for name, network in (("relief", Relief), ("relief-tiles", TiledRelief))
}
