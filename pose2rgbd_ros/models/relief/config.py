"""What determines a relief network's tensors (:class:`ReliefConfig`) and what a user may say of one
(:class:`ReliefSettings`).
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float32, Float64, Frames, Int64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.training.config import Recipe, TrainConfig

# Where the relief's volume lies, how large it is and how fine, from the training poses and what depth there is.
#
# The volume's frame `vol` has z towards the cameras and its origin at the lowest corner of the box. Sizes follow from
# the footprint of a pixel on the surface: what is much finer than the images show cannot be learnt.


logger = logging.getLogger(__name__)

# Cameras that look within this angle of straight down on average see a landscape, whose up is the map's.
NADIR_DEG = 65.0
# Below this length of their mean, the viewing directions have no common one: the flight looks all around.
COMMON_VIEW = 0.6
# Level cameras see a landscape, too, where what they see is this much thinner along the map's up than along the view.
LANDSCAPE = 0.5
# Sizes as multiples of a pixel's footprint, and the fewest and most layers that are chosen.
# Finer than a pixel: many frames see a surface, each from elsewhere (docs/decisions/0011-relief-quality.md).
CELLS_OF_PIXEL, LAYERS_OF_PIXEL, FEATURES_OF_PIXEL = 0.72, 1.05, 0.42
FEWEST_LAYERS, MOST_LAYERS = 8, 64
# Of the points, this share on each side of each horizontal axis, and below and above, may be wrong or not worth it.
SIDE_SHARE, FLOOR_SHARE, TOP_SHARE = 0.003, 0.002, 0.0005
# Beside the box a flat far field goes on, metres off: where it grows little by it, more of the points are worth it.
LEAST_SIDE_SHARES, MOST_GROWTH = (0.0001, 0.0005, 0.001), 2.0
# Cells much coarser than what a pixel shows make a picture nobody wants: then the user decides.
COARSEST = 4.0
MB = 1e6
STORED_BYTES = 2  # half precision
SEEN_BYTES = 1  # a vertex's mark that somebody saw it
TRAINED_BYTES = 16  # float32 value, gradient and AdamW's two moments
# Coarser maps and the coarse volume beside the finest map, as a share of it.
BESIDE_FINEST_MAP = 1 / 3 + 1 / 4


@dataclass(frozen=True)
class SceneBoxSettings:
    """What of the volume the user says; the rest is chosen from the flight."""

    up: Literal["auto", "map", "view"] = setting(
        "auto",
        "z of the volume: map: up; view: against the mean viewing direction; auto: up where the flight looks down, or "
        "what it sees is flat",
    )
    cell_m: float | None = setting(None, "side of an occupancy cell (0.7 of a pixel's footprint)", ge=1e-4)
    layer_m: float | None = setting(None, "height of an occupancy layer (1.5 cells, at most 64 layers)", ge=1e-4)
    feature_m: float | None = setting(None, "side of a feature cell (0.4 of a pixel's footprint)", ge=1e-4)
    floor_m: float | None = setting(None, "z of the volume's floor (below nearly all known surface)")
    top_m: float | None = setting(None, "z of the volume's top (above nearly all known surface)")
    extent_m: float | None = setting(None, "side of the modelled square (all that was seen)", ge=1e-3)
    middle_x_m: float | None = setting(None, "its middle along the volume's x (where most was seen)")
    middle_y_m: float | None = setting(None, "its middle along the volume's y (where most was seen)")
    model_mb: float = setting(192.0, "what the stored model may take; cells are coarsened to it", ge=1.0)
    memory_mb: float = setting(4000.0, "what the volume may take while training", ge=1.0)


@dataclass(frozen=True)
class Surface:
    """Points of the known surface: `points_map` (M, 3), their `depth_m` (M,) and the `frame` (M,) that saw them."""

    points_map: Float64
    depth_m: Float64
    frame: Int64


class SeenPoints(NamedTuple):
    """Rays of pixels in `vol`: origin, direction per unit of depth (M, 3), depth (M,), colour (M, 3) in 0..1."""

    origin: Float32
    direction: Float32
    depth: Float32
    rgb: Float32


@dataclass(frozen=True)
class SceneBox:
    """Vertices of the occupancy at x = i * cell_m, y = j * cell_m, z = k * layer_m of `vol`."""

    T_map_vol: Float64  # (4, 4)
    shape: tuple[int, int, int]  # layers, rows (y), columns (x)
    cell_m: float
    layer_m: float
    feature_m: float
    pixel_m: float  # a training pixel's footprint on the surface, median

    @property
    def size_m(self) -> Float64:
        """Extent (3,) along x, y, z."""
        layers, rows, columns = self.shape
        return np.array([(columns - 1) * self.cell_m, (rows - 1) * self.cell_m, (layers - 1) * self.layer_m])

    @property
    def feature_shape(self) -> tuple[int, int]:
        """Rows and columns of the ground-plane feature map, whose texels also begin at the origin."""
        x, y, _ = self.size_m
        return int(np.ceil(y / self.feature_m)) + 1, int(np.ceil(x / self.feature_m)) + 1

    def values(self, channels: int) -> int:
        """How many numbers the occupancy and the feature maps of `channels` hold, about."""
        maps = channels * int(np.prod(self.feature_shape))
        return int(np.prod(self.shape)) + int(maps * (1 + BESIDE_FINEST_MAP))

    def stored_mb(self, channels: int) -> float:
        """Size of the checkpoint, in half precision."""
        return (self.values(channels) * STORED_BYTES + int(np.prod(self.shape)) * SEEN_BYTES) / MB

    def trained_mb(self, channels: int) -> float:
        """Memory of the volume while it is trained: values, gradients and the optimiser's moments."""
        return self.values(channels) * TRAINED_BYTES / MB


def surface_points(
    T_map_cam: Float64, depth_m: Frames, camera: Camera, frames: int = 256, points: int = 600
) -> Surface:
    """A sample of the known surface: about `points` pixels of each of `frames` frames, evenly spaced.

    Args:
        T_map_cam: (N, 4, 4) poses.
        depth_m: N of (H, W), depth along the optical axis, NaN unknown.
        camera: of these images.
    """
    chosen = np.unique(np.linspace(0, len(T_map_cam) - 1, min(frames, len(T_map_cam))).round().astype(int))
    rays = camera.rays().reshape(-1, 3)
    found: list[tuple[Float64, Float64, Int64]] = []
    for index in chosen:
        depth = np.asarray(depth_m[index], np.float64).reshape(-1)
        known = np.flatnonzero(np.isfinite(depth) & (depth > 0) & np.isfinite(rays[:, 0]))
        # Sparse depth gives all it has; of dense depth, another lattice of pixels in every frame.
        step = max(1, len(known) // points)
        known = known[int(index) % step :: step]
        cam = rays[known] * depth[known, None]
        found.append((se3.transform_points(T_map_cam[index], cam), depth[known], np.full(len(known), index, np.int64)))
    map_points, depths, owners = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Surface(map_points, depths, owners)


def volume_rotation(
    T_map_cam: Float64, up: Literal["auto", "map", "view"] = "auto", points_map: Float64 | None = None
) -> Float64:
    """R_map_vol (3, 3): z up in the map where the cameras (N, 4, 4) look down or all around, else towards them.

    Also up where they look level over a landscape, which points (M, 3) of the surface show: layers across the view
    would have to reach to the horizon.
    """
    forward = T_map_cam[:, :3, 2]
    mean = forward.mean(axis=0)
    off_nadir_deg = np.degrees(np.arccos(np.clip(-forward[:, 2], -1, 1))).mean()
    common = float(np.linalg.norm(mean))
    looks_down = off_nadir_deg <= NADIR_DEG or common < COMMON_VIEW
    if up == "map" or (up == "auto" and (looks_down or _is_landscape(points_map, mean))):
        return np.eye(3)
    if common < 1e-3:
        raise UserError("the cameras look into all directions, so no volume faces them; use --box.up map")
    z = -mean / common
    right = T_map_cam[:, :3, 0].mean(axis=0)
    right = right - z * (right @ z)
    if np.linalg.norm(right) < 1e-3:  # rolled all around: any direction across the view will do
        right = np.cross(z, np.eye(3)[np.abs(z).argmin()])
    x = right / np.linalg.norm(right)
    return np.stack([x, np.cross(z, x), z], axis=1)


def _is_landscape(points_map: Float64 | None, view: Float64) -> bool:
    """Whether points (M, 3) are much thinner along the map's z than along the view (3,), nine tenths of them."""
    if points_map is None:
        return False
    low, high = np.quantile(points_map @ np.stack([[0.0, 0.0, 1.0], view / np.linalg.norm(view)], 1), [0.05, 0.95], 0)
    thickness = high - low
    return bool(thickness[0] < LANDSCAPE * thickness[1])


def choose_scene_box(
    T_map_cam: Float64, camera: Camera, surface: Surface, config: SceneBoxSettings, channels: int = 8
) -> SceneBox:
    """The box of the training flight.

    Args:
        T_map_cam: (N, 4, 4) training poses.
        camera: of the training images, for the size of a pixel on the surface.
        surface: sample of what they saw (:func:`surface_points`).
        channels: of the ground-plane feature map.

    Raises:
        UserError: nothing is known of the surface; the volume does not fit the memory allowed.
    """
    if len(surface.points_map) < 10:
        raise UserError(
            f"only {len(surface.points_map)} pixels of the training frames have a known depth, too few to know where "
            "the surface is; train with --depth pictures"
        )
    kept = supported(surface.points_map)
    points_map = surface.points_map[kept]
    rotation = volume_rotation(T_map_cam, config.up, points_map)
    points = points_map @ rotation
    low, high = _bounds(points, SIDE_SHARE, config)
    pixel_m = float(np.median(surface.depth_m[kept]) / np.sqrt(camera.fx * camera.fy))
    box = _box(rotation, low, high, pixel_m, config, 1.0)
    allowed = min(config.model_mb, MOST_GROWTH * box.stored_mb(channels))
    wider = (_box(rotation, *_bounds(points, share, config), pixel_m, config, 1.0) for share in LEAST_SIDE_SHARES)
    box = next((each for each in wider if each.stored_mb(channels) <= allowed), box)
    if box.stored_mb(channels) > config.model_mb:
        box = _coarsened(rotation, low, high, pixel_m, config, channels)
    needed = box.trained_mb(channels)
    if needed > config.memory_mb:
        raise UserError(_too_large(box, f"{needed:,.0f} MB to train", config, needed / config.memory_mb))
    return box


def supported(points: Float64) -> Bool:
    """Which points (M, 3) have company: false depths lie scattered through space, surfaces are dense.

    A point counts where its cube, a fortieth of the middle nine tenths' extent, and the 26 around it hold at least
    1 of 20,000 points, and 3.
    """
    low, high = np.quantile(points, [0.05, 0.95], axis=0)
    cube = max(float((high - low).max()) / 40, 1e-9)
    # Far outliers are cut to a distance at which they stay alone; the integers stay small.
    cells = np.clip(np.floor((points - low) / cube), -(2**18), 2**18).astype(np.int64)
    keys = (cells + 2**19) @ np.array([1 << 40, 1 << 20, 1])
    unique, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    total = np.zeros(len(unique), np.int64)
    for step in np.ndindex(3, 3, 3):
        neighbour = unique + (np.array(step) - 1) @ np.array([1 << 40, 1 << 20, 1])
        at = np.minimum(np.searchsorted(unique, neighbour), len(unique) - 1)
        total += np.where(unique[at] == neighbour, counts[at], 0)
    enough = total[inverse] >= max(3, len(points) / 20_000)
    return enough if enough.any() else np.ones(len(points), bool)


def _bounds(points: Float64, side_share: float, config: SceneBoxSettings) -> tuple[Float64, Float64]:
    """Lowest and highest corner (3,) of the box in the axes of `vol`, with `side_share` of the points beside it."""
    low = np.quantile(points, [side_share, side_share, FLOOR_SHARE], axis=0).diagonal().copy()
    high = np.quantile(points, [1 - side_share, 1 - side_share, 1 - TOP_SHARE], axis=0).diagonal().copy()
    if config.extent_m is not None:
        middle = np.median(points, axis=0)
        for axis, given in enumerate((config.middle_x_m, config.middle_y_m)):
            middle[axis] = middle[axis] if given is None else given
        low[:2], high[:2] = middle[:2] - config.extent_m / 2, middle[:2] + config.extent_m / 2
    low[2] = low[2] if config.floor_m is None else config.floor_m
    high[2] = high[2] if config.top_m is None else config.top_m
    if not (high[:2] > low[:2]).all() or not high[2] >= low[2]:
        raise UserError(
            f"the modelled box has its floor at {low[2]:g} m and its top at {high[2]:g} m; "
            "set --box.floor-m below --box.top-m"
        )
    return low, high


def _box(
    rotation: Float64, low: Float64, high: Float64, pixel_m: float, config: SceneBoxSettings, coarser: float
) -> SceneBox:
    """The box with every size that was not set `coarser` times its usual multiple of a pixel."""
    cell_m = config.cell_m or CELLS_OF_PIXEL * pixel_m * coarser
    feature_m = config.feature_m or FEATURES_OF_PIXEL * pixel_m * coarser
    height = float(high[2] - low[2])
    layer_m = config.layer_m or float(
        np.clip(
            LAYERS_OF_PIXEL * pixel_m * coarser, height / (MOST_LAYERS - 4), max(height / (FEWEST_LAYERS - 4), pixel_m)
        )
    )
    # One layer below the lowest surface, which is the solid floor, and room for one crossing above the highest.
    floor = low[2] - (layer_m if config.floor_m is None else 0.0)
    layers = int(np.ceil((high[2] - floor) / layer_m - 1e-9)) + 2
    columns, rows = (int(np.ceil((high[axis] - low[axis]) / cell_m)) + 1 for axis in (0, 1))
    T_map_vol = np.eye(4)
    T_map_vol[:3, :3] = rotation
    T_map_vol[:3, 3] = rotation @ np.array([low[0], low[1], floor])
    return SceneBox(T_map_vol, (layers, rows, columns), float(cell_m), layer_m, float(feature_m), pixel_m)


def _coarsened(
    rotation: Float64, low: Float64, high: Float64, pixel_m: float, config: SceneBoxSettings, channels: int
) -> SceneBox:
    """The finest box that fits `model_mb`; UserError where that is too coarse to be of use, or all sizes were set."""
    for coarser in np.geomspace(1.0, COARSEST, 29)[1:]:
        box = _box(rotation, low, high, pixel_m, config, float(coarser))
        if box.stored_mb(channels) <= config.model_mb:
            logger.info(
                "a pixel shows %.3g m; the volume's cells are %.3g m so that the model stays below %g MB",
                pixel_m,
                box.cell_m,
                config.model_mb,
            )
            return box
    finest = _box(rotation, low, high, pixel_m, config, 1.0)
    stored = finest.stored_mb(channels)
    raise UserError(_too_large(finest, f"{stored:,.0f} MB", config, stored / config.model_mb))


def _too_large(box: SceneBox, what: str, config: SceneBoxSettings, factor: float) -> str:
    """One line: how large the place is, what it would take, which setting makes it fit, how to part it."""
    x, y, z = box.size_m
    side = float(np.sqrt(x * y / factor)) * 0.95
    # Occupancy and features both shrink with the square of the cell, or nearly so.
    cell, feature = (size * np.sqrt(factor) * 1.05 for size in (box.cell_m, box.feature_m))
    limit = "--box.memory-mb" if "train" in what else "--box.model-mb"
    allowed = config.memory_mb if "train" in what else config.model_mb
    return (
        f"the place is too large: {x:,.0f} x {y:,.0f} x {z:,.0f} m in cells of {box.cell_m:.3g} m takes {what}, and "
        f"{limit} allows {allowed:,.0f}; use --box.cell-m {cell:.3g} --box.feature-m {feature:.3g}, raise the limit, "
        f"cut it into tiles (--tiles), or train a {side:,.0f} m square of it (--box.extent-m {side:.0f} with "
        "--box.middle-x-m and --box.middle-y-m)"
    )


LANES, WIDE_LANES = 8, 16  # float32 in a register of compiled code (simd.py)
HIT, FLOOR, SKY, INSIDE = range(4)
"""State of a ray: meets a surface of the block; meets the floor; meets nothing; starts in something solid."""
TOLERANCE = 1e-3  # grid units by which a plane may lie outside the block: entry points are rounded

SKY_ROWS, SKY_COLUMNS = 16, 64
# A texel a pixel covers several of is noise to it: below FULL texels per pixel it counts whole, above NONE not at all.
FULL_TEXELS, NONE_TEXELS = 2.0, 4.0
EXTRA_CHANNELS = 5  # of the shader's input: direction (3), logarithm of the depth, whether there is a surface
# And of a shader with a memory: what the remembered colour adds to the learnt one (3), how sure it is, its spread.
MEMORY_CHANNELS = 5
MOST_VIEWS = 32
# Rays through a pixel at a silhouette. A memory is looked up by several anyway, then their features cost little.
EDGE_RAYS = {"none": 2, "thin": 2, "full": 4, "auto": 4}
DIRECT_CHANNELS = 3  # the first channels of the features are colour already
LARGE_IMAGE_PX = 256  # from here on the shader takes 4 x 4 pixels together
# The coarse feature volume, which alone tells the storeys of a wall apart, holds this share of the values of the finest
# map, and its cells are at most so many of the occupancy's.
COARSE_SHARE, MOST_COARSE = 0.25, 4.0


@dataclass(frozen=True)
class ReliefSettings:
    """Settings of a relief in a training run; what is left out follows from the flight."""

    box: SceneBoxSettings = field(default_factory=SceneBoxSettings)
    tiles: str = setting(
        "1",
        "volumes side by side: a number, rows and columns (2x3), or auto: one, and more where that would be far "
        "above box.model_mb (every tile has its share of the training time)",
    )
    channels: int = setting(8, "features a texel of the ground-plane map holds", ge=3)
    coarse_channels: int = setting(8, "features a cell of the coarse volume holds", ge=3)
    width: int = setting(32, "channels of the shader's hidden layers", ge=4)
    unshuffle: int | None = setting(
        None, "pixels per side that the shader takes together (2; 4 for images of 256 pixels or more)", ge=1, le=8
    )
    start: bool = setting(True, "start from the training depth and colour fused into the volume")
    depth_weight: float = setting(0.02, "weight of the depth error, per metre", ge=0.0)
    occupancy_weight: float = setting(0.1, "weight of the cross entropy of free and occupied samples", ge=0.0)
    depth: Literal["auto", "recorded", "pictures"] = setting(
        "auto",
        "where the geometry comes from: recorded depth (relative depth is scaled), or the pictures and poses alone; "
        "auto: recorded where there is any",
    )
    ground_m: float | None = setting(
        None, "height of the ground, where the pictures give the geometry (and the ground, too)"
    )
    exposure: Literal["auto", "none", "learn"] = setting(
        "auto",
        "learn: how light differed from frame to frame, and show views in the light of the frames near them; none: the "
        "average; auto: learn, where the light of frames differs by more than 3 %",
    )
    refine_poses: bool = setting(False, "learn small corrections of the training poses")
    crop: int = setting(128, "side of the patches a step trains on, where images are larger", ge=16)
    charts: Literal["auto", "none", "steep", "all"] = setting(
        "auto",
        "feature textures along the surface: none: all features lie on the ground plane and in a coarse volume; steep: "
        "where the surface does not face up, or lies above or below one that does; all: wherever there is surface; "
        "auto: steep, where more than a quarter of what is seen is so and the volume is upright",
    )
    edge_rays: int | None = setting(
        None,
        "rays through a pixel at an edge of the depth, whose features are averaged (2; 4 with a full memory); 1: the "
        "middle one",
        ge=1,
        le=4,
    )
    memory: Literal["none", "thin", "full", "auto"] = setting(
        "none",
        "recorded colours that are looked up where rays meet surfaces: none; thin: few frames a picture, small; full: "
        "more of them, at up to twice the training's resolution; auto: full, and at the end as many of them, few or "
        "none, as the frames that choose are shown best with",
    )
    memory_mb: float | None = setting(
        None,
        "what the remembered frames may take; of more, every n-th is kept (as much as the rest of the model)",
        ge=1,
    )


@dataclass(frozen=True)
class Settings(TrainConfig):
    """Settings of a training of a relief."""

    RECIPES: ClassVar[dict[str, Recipe]] = {
        "default": Recipe(
            learning_rate=2e-3,  # of shader and features; occupancy learns at a multiple of it
            schedule="cosine",
            warmup=0.03,
            batch_size=4,
            epochs=20,
            weight_decay=0.01,
        )
    }

    relief: ReliefSettings = field(default_factory=ReliefSettings)


def chart_sides(levels: int) -> list[int]:
    """Texels along a side of a chart's levels (charts.py), the finest first; the coarsest has only its corners."""
    return [2**level + 1 for level in reversed(range(levels))]


def chart_texels(levels: int) -> int:
    """Of a chart, all levels together."""
    return sum(side**2 for side in chart_sides(levels))


@dataclass(frozen=True)
class ReliefConfig:
    """The tensors of a relief, and where its volume lies."""

    any_camera: ClassVar[bool] = True
    has_confidence: ClassVar[bool] = True

    output: Literal["rgb", "rgbd"] = setting("rgbd", "what the network predicts")
    origin_m: tuple[float, ...] = setting((0.0, 0.0, 0.0), "corner of the volume in the map")
    quat_xyzw: tuple[float, ...] = setting((0.0, 0.0, 0.0, 1.0), "axes of the volume in the map; z to the cameras")
    layers: int = setting(8, "occupancy layers", ge=2)
    rows: int = setting(8, "occupancy vertices along y", ge=2)
    columns: int = setting(8, "occupancy vertices along x", ge=2)
    cell_m: float = setting(1.0, "distance of vertices along x and y", ge=1e-6)
    layer_m: float = setting(1.5, "distance of layers", ge=1e-6)
    feature_m: float = setting(0.5, "texel of the finest feature map", ge=1e-6)
    levels: int = setting(4, "feature maps, each of twice the texel of the one before", ge=1, le=12)
    channels: int = setting(8, "features of a texel", ge=3)
    coarse_cell_m: float = setting(2.0, "cell of the coarse feature volume along x and y", ge=1e-6)
    coarse_layer_m: float = setting(3.0, "cell of the coarse feature volume along z", ge=1e-6)
    coarse_channels: int = setting(8, "features of a coarse cell", ge=3)
    width: int = setting(32, "channels of the shader's hidden layers", ge=4)
    unshuffle: int = setting(2, "pixels per side that the shader takes together", ge=1, le=8)
    depth_scale_m: float = setting(50.0, "typical depth, for the shader's inputs", ge=1e-6)
    unit_m: float = setting(1.0, "metres in one unit of the dataset's depth (relative depth has its own)", ge=1e-9)
    charts: int = setting(0, "feature textures along what does not face up", ge=0)
    light_frames: int = setting(0, "training frames whose light is known", ge=0)
    light_reach: float = setting(0.2, "how far in typical depths their light is that of a view", ge=1e-3)
    edge_rays: int = setting(1, "rays through a pixel at a silhouette, whose features are averaged", ge=1, le=4)
    memory_frames: int = setting(0, "training frames that are remembered", ge=0)
    memory_views: int = setting(8, "of which so many are looked up for a picture", ge=1, le=MOST_VIEWS)
    memory_rays: int = setting(4, "rays through a pixel at a silhouette, by which frames are looked up", ge=1, le=4)
    memory_width: int = setting(128, "width of a remembered frame in pixels", ge=2)
    memory_height: int = setting(128, "its height", ge=2)
    memory_shift: int = setting(0, "times that its depth has half the pixels a side", ge=0, le=4)
    memory_bytes: int = setting(0, "of its colours, as JPEG", ge=0)
    memory_depth_m: float = setting(1e-3, "metres of one step of its depth", ge=1e-9)
    memory_angle_rad: float = setting(0.12, "angle between two views at which the second says less", ge=1e-3)
    memory_reach: float = setting(0.0, "layers by which surfaces are moved to what frames recorded", ge=0.0)

    def __post_init__(self) -> None:
        settings.check(self)
        # YAML gives lists; a camera's pose needs them as they were.
        object.__setattr__(self, "origin_m", tuple(float(value) for value in self.origin_m))
        object.__setattr__(self, "quat_xyzw", tuple(float(value) for value in self.quat_xyzw))

    def architecture(self) -> dict[str, Any]:
        """What a checkpoint says of it: of parts that it has not no word, as those before there were any."""
        parts = {"memory": self.memory_frames, "charts": self.charts, "light": self.light_frames}
        parts["edge_rays"] = self.edge_rays - 1
        absent = [name for name, there in parts.items() if not there]
        return {name: value for name, value in vars(self).items() if not name.startswith(tuple(absent))}

    @property
    def rays_within(self) -> int:
        """Rays through a pixel at a silhouette, beside the middle one."""
        return max(self.edge_rays if self.edge_rays > 1 else 0, self.memory_rays if self.memory_frames else 0)

    @property
    def T_map_vol(self) -> Float64:
        """Pose (4, 4) of the volume's frame."""
        return se3.make(self.origin_m, self.quat_xyzw)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Layers, rows, columns of the occupancy logits."""
        return self.layers, self.rows, self.columns

    @property
    def step_m(self) -> tuple[float, float, float]:
        """Distance of vertices along x, y, z."""
        return self.cell_m, self.cell_m, self.layer_m

    @property
    def size_m(self) -> tuple[float, float, float]:
        """Extent along x, y, z."""
        return ((self.columns - 1) * self.cell_m, (self.rows - 1) * self.cell_m, (self.layers - 1) * self.layer_m)

    def texel_m(self, level: int) -> float:
        """Texel of a feature map."""
        return self.feature_m * 2.0**level

    def map_shape(self, level: int) -> tuple[int, int]:
        """Rows and columns of a feature map, whose first texel is at the volume's origin."""
        x, y, _ = self.size_m
        return int(-(-y // self.texel_m(level))) + 2, int(-(-x // self.texel_m(level))) + 2

    @property
    def chart_m(self) -> float:
        """Side of a chart, and of the block of space that it is of."""
        return self.feature_m * 2.0 ** (self.levels - 1)

    @property
    def chart_grid(self) -> tuple[int, int, int]:
        """Blocks along z, y and x."""
        x, y, z = (int(-(-size // self.chart_m)) + 1 for size in self.size_m)
        return z, y, x

    @property
    def coarse_shape(self) -> tuple[int, int, int]:
        """Layers, rows and columns of the coarse feature volume."""
        x, y, z = self.size_m
        return (
            int(-(-z // self.coarse_layer_m)) + 2,
            int(-(-y // self.coarse_cell_m)) + 2,
            int(-(-x // self.coarse_cell_m)) + 2,
        )

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the network's tensors, by their names in a checkpoint."""
        texels = sum(rows * columns for rows, columns in map(self.map_shape, range(self.levels)))
        shapes: dict[str, tuple[int, ...]] = {
            "volume.logits": self.shape,
            "volume.seen": self.shape,
            "features.maps": (texels, self.channels),
            "features.coarse": (int(np.prod(self.coarse_shape)), self.coarse_channels),
            "features.sky": (SKY_ROWS * SKY_COLUMNS, self.channels),
        }
        if self.charts:
            shapes["features.charts"] = self.charts * chart_texels(self.levels), self.channels
            shapes["features.chart_of"] = self.chart_grid
        for layer, (before, after) in enumerate(itertools.pairwise(self.shader_widths())):
            name = f"shader.layers.{2 * layer}"  # activations between
            shapes |= {f"{name}.weight": (after, before, 3, 3), f"{name}.bias": (after,)}
        if self.light_frames:
            shapes |= {"light.frames": (self.light_frames, 2, 3), "light.views": (self.light_frames, 6)}
        return shapes | self.memory_shapes()

    def shader_widths(self) -> tuple[int, int, int, int]:
        """Channels before, between and after the shader's three layers."""
        recalled = bool(self.memory_frames)
        pixel = self.channels + self.coarse_channels + EXTRA_CHANNELS + recalled * MEMORY_CHANNELS
        return pixel * self.unshuffle**2, self.width, self.width, (4 + recalled) * self.unshuffle**2

    def memory_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the remembered frames' tensors."""
        if not self.memory_frames:
            return {}
        frames, height, width = self.memory_frames, self.memory_height, self.memory_width
        return {
            "memory.jpeg": (self.memory_bytes,),
            "memory.ends": (frames,),
            "memory.depth": (frames, height >> self.memory_shift, width >> self.memory_shift),
            "memory.T_vol_cam": (frames, 4, 4),
            "memory.intrinsics": (4,),
            "memory.light": (frames, 2, 3),
        }


def relief_config(
    box: SceneBox,
    chosen: ReliefSettings,
    output: Literal["rgb", "rgbd"],
    depth_scale_m: float,
    unit_m: float = 1.0,
    image_px: int = 128,
) -> ReliefConfig:
    """The network for a box; `unit_m` metres are one unit of the dataset's depth, `image_px` the side of its images."""
    position_m, quat_xyzw = se3.split(box.T_map_vol)
    layers, rows, columns = box.shape
    coarser = coarse_factor(box, chosen)
    return ReliefConfig(
        output=output,
        origin_m=tuple(position_m),
        quat_xyzw=tuple(quat_xyzw),
        layers=layers,
        rows=rows,
        columns=columns,
        cell_m=box.cell_m,
        layer_m=box.layer_m,
        feature_m=box.feature_m,
        channels=chosen.channels,
        coarse_cell_m=coarser * box.cell_m,
        coarse_layer_m=max(1.0, coarser / 2) * box.layer_m,
        coarse_channels=chosen.coarse_channels,
        width=chosen.width,
        unshuffle=chosen.unshuffle or (4 if image_px >= LARGE_IMAGE_PX else 2),
        edge_rays=chosen.edge_rays or EDGE_RAYS[chosen.memory],
        depth_scale_m=depth_scale_m,
        unit_m=unit_m,
    )


def coarse_factor(box: SceneBox, chosen: ReliefSettings) -> float:
    """How many occupancy cells are a coarse one along x and y: as few as COARSE_SHARE allows, at least 1."""
    values = chosen.coarse_channels * float(np.prod(box.shape))
    allowed = COARSE_SHARE * chosen.channels * float(np.prod(box.feature_shape))
    return float(np.clip((2 * values / allowed) ** (1 / 3), 1.0, MOST_COARSE))


# A place in tiles: which there are, and what of each counts.
#
# Tiles are alike in size and lie side by side in the axes of `vol`, each sharing `overlap` cells with its neighbours.
# The *core* of a tile ends in the middle of what it shares, and at the rim of the place it goes on for ever, so every
# point of space is in one core: that tile alone shows it. What lies around a core is there to be met by rays and to
# learn from.


OVERLAP_CELLS = 8
# "auto" takes tiles where one volume would have to be so many times as large as `model_mb` allows.
RATHER_TILES = 2.0
MOST_TILES = 400
RESTING_BYTES = 4  # a value of a tile whose turn to learn has not come, or is over


@dataclass(frozen=True)
class TiledReliefConfig(ReliefConfig):
    """Many reliefs alike. Sizes are those of one tile, `origin_m` is the first's; columns lie along x, rows along y."""

    tile_rows: int = setting(1, "tiles along y", ge=1)
    tile_columns: int = setting(1, "tiles along x", ge=1)
    overlap: int = setting(OVERLAP_CELLS, "occupancy cells that neighbours share", ge=2)

    @property
    def count(self) -> int:
        return self.tile_rows * self.tile_columns

    @property
    def stride_m(self) -> tuple[float, float]:
        """From one tile to the next along x and y."""
        x, y, _ = self.size_m
        return x - self.overlap * self.cell_m, y - self.overlap * self.cell_m

    def corner_m(self, number: int) -> Float64:
        """Lowest corner (3,) of a tile in the first one's volume."""
        row, column = divmod(number, self.tile_columns)
        return np.array([column * self.stride_m[0], row * self.stride_m[1], 0.0])

    def tile(self, number: int) -> ReliefConfig:
        """The relief that a tile is; they are numbered row by row."""
        origin = self.T_map_vol[:3, :3] @ self.corner_m(number) + self.T_map_vol[:3, 3]
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(ReliefConfig)}
        return ReliefConfig(**{**fields, "origin_m": tuple(origin)})

    def core_m(self, number: int) -> tuple[Float64, Float64]:
        """Lowest and highest x and y, (2,) each, of a tile's core in the tile's own volume."""
        half = self.overlap * self.cell_m / 2
        grid = (number % self.tile_columns, number // self.tile_columns)
        last = (self.tile_columns - 1, self.tile_rows - 1)
        low = [-np.inf if at == 0 else half for at in grid]
        high = [np.inf if at == end else size - half for at, end, size in zip(grid, last, self.size_m[:2], strict=True)]
        return np.array(low), np.array(high)

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        one = super().weight_shapes()  # tiles are alike
        return {f"tiles.{number}.{name}": shape for number in range(self.count) for name, shape in one.items()}

    def home(self, point_vol: AnyArray) -> int:
        """The tile in whose core a point (3,) of the first one's volume lies."""
        half = self.overlap * self.cell_m / 2
        across = np.floor((np.asarray(point_vol)[:2] - half) / np.array(self.stride_m))
        column, row = np.clip(across, 0, [self.tile_columns - 1, self.tile_rows - 1]).astype(int)
        return int(row * self.tile_columns + column)


def choose_tiles(
    T_map_cam: Float64, camera: Camera, surface: Surface, chosen: ReliefSettings
) -> tuple[SceneBox, tuple[int, int]]:
    """The box of a flight (see :func:`choose_scene_box`) and how many tiles it is cut into, along y and x.

    Raises:
        UserError: `chosen.tiles` cannot be read; the place does not fit the memory even so.
    """
    asked, limits = parse_tiles(chosen.tiles), chosen.box
    at_will = dataclasses.replace(limits, model_mb=np.inf, memory_mb=np.inf)

    def box_of(settings: object) -> SceneBox:
        return choose_scene_box(T_map_cam, camera, surface, settings, chosen.channels)  # type: ignore[arg-type]

    box = box_of(at_will)
    needed = box.stored_mb(chosen.channels) / limits.model_mb
    if asked == 1 or (asked is None and needed <= RATHER_TILES):
        return box_of(limits), (1, 1)
    x, y, _ = box.size_m
    grid = (
        asked if isinstance(asked, tuple) else share_out(int(np.ceil(1.1 * needed)) if asked is None else asked, y / x)
    )
    count = grid[0] * grid[1]
    if count > MOST_TILES:
        raise UserError(
            f"the place is too large: {x:,.0f} x {y:,.0f} m in cells of {box.cell_m:.3g} m would be {count:,} tiles, "
            f"and at most are {MOST_TILES}; use larger cells (--box.cell-m, --box.feature-m), larger tiles "
            "(--box.model-mb), or train a part (--box.extent-m)"
        )
    box = box_of(dataclasses.replace(at_will, model_mb=count * limits.model_mb))
    values = box.values(chosen.channels)
    needed_mb = box.trained_mb(chosen.channels) / count + values * (1 - 1 / count) * RESTING_BYTES / MB
    if needed_mb > limits.memory_mb:
        raise UserError(
            f"the place is too large: {x:,.0f} x {y:,.0f} m in {grid[0]}x{grid[1]} tiles takes {needed_mb:,.0f} MB to "
            f"train, and --box.memory-mb allows {limits.memory_mb:,.0f}; raise it, or train a part (--box.extent-m "
            "with --box.middle-x-m and --box.middle-y-m)"
        )
    return box, grid


def parse_tiles(text: str) -> int | tuple[int, int] | None:
    """None for "auto", a number of tiles, or rows and columns of them."""
    text = str(text).strip().lower()
    if text == "auto":
        return None
    match = re.fullmatch(r"([1-9]\d{0,2})(?:x([1-9]\d{0,2}))?", text)
    if match is None:
        raise UserError(f"--tiles is {text!r}; write auto, a number such as 4, or rows and columns such as 2x3")
    if match[2] is None:
        return int(match[1])
    grid = int(match[1]), int(match[2])
    return 1 if grid == (1, 1) else grid


def share_out(least: int, aspect: float) -> tuple[int, int]:
    """Rows and columns of at least so many tiles, few and nearly square; `aspect` is the place's y over x."""
    grids = [(rows, -(-least // rows)) for rows in range(1, least + 1)]
    return min(grids, key=lambda grid: grid[0] * grid[1] * (1 + abs(np.log(aspect * grid[1] / grid[0]))))


def tiled(network: ReliefConfig, grid: tuple[int, int]) -> TiledReliefConfig:
    """The network of a whole box, cut into `grid` rows and columns of tiles."""
    overlap = OVERLAP_CELLS
    rows, columns = (
        max(-(-(vertices - 1 - overlap) // parts), 1) + overlap + 1
        for vertices, parts in zip((network.rows, network.columns), grid, strict=True)
    )
    values = {**vars(network), "rows": rows, "columns": columns}
    return TiledReliefConfig(**values, tile_rows=grid[0], tile_columns=grid[1], overlap=overlap)


# The networks by their names in checkpoints.
NETWORK_CONFIGS = {"relief": ReliefConfig, "relief-tiles": TiledReliefConfig}
