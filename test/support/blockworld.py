"""A small world of textured blocks and a numpy ray caster over it.

Every depth is the exact intersection of a ray with a plane, so this world is the oracle against which faster
renderers are checked.
"""

from __future__ import annotations

import colorsys

import cv2
import numpy as np

from pose2rgbd_ros.geometry.camera import Camera

GROUND_TEXELS_PER_M = 8.0
CELL_M = 8.0  # one building plot, streets included
STREET_M = 2.4
WINDOW_M = (1.6, 2.0)  # pitch of the window grid along the wall and in height
SUN = np.array([0.45, 0.25, 0.86])  # unit vector towards the sun
AMBIENT = 0.45


class BlockWorld:
    """Axis-aligned blocks on a textured ground plane z = 0, the same for the same seed.

    Args:
        seed: draws footprints, heights, colours and the ground.
        extent_m: side of the built square, centred on the map origin.
        park_share: share of the plots left without a building.
        max_height_m: height of the tallest possible building.
    """

    def __init__(
        self, seed: int = 0, extent_m: float = 40.0, park_share: float = 0.2, max_height_m: float = 9.0
    ) -> None:
        rng = np.random.default_rng(seed)
        self.extent_m = extent_m
        self.box_min_m, self.box_max_m, self.box_rgb = _buildings(rng, extent_m, park_share, max_height_m)
        self._ground_half_m = 1.5 * extent_m
        self._ground_rgb = _ground_texture(rng, self._ground_half_m, extent_m)

    def render(
        self, T_map_cam: np.ndarray, camera: Camera, supersample: int = 1, max_depth_m: float = np.inf
    ) -> tuple[np.ndarray, np.ndarray]:
        """Colour and exact depth of one view.

        Args:
            T_map_cam: (4, 4), optical camera frame to map.
            camera: its rays are used as they are, distortion included.
            supersample: colour averages n x n rays a pixel; depth never does (one ray through the pixel's centre).
            max_depth_m: surfaces beyond it keep their colour and get unknown depth, like a sensor's range.

        Returns:
            rgb (H, W, 3) uint8 and depth_m (H, W) float32 along the optical axis, NaN where there is no surface.
        """
        rgb, depth_m = self._cast(T_map_cam, camera)
        if supersample > 1:
            fine = camera.resized(camera.width * supersample, camera.height * supersample)
            rgb = cv2.resize(
                self._cast(T_map_cam, fine)[0], (camera.width, camera.height), interpolation=cv2.INTER_AREA
            )
        depth_m = np.where(depth_m <= max_depth_m, depth_m, np.nan)
        return np.clip(np.rint(rgb), 0, 255).astype(np.uint8), depth_m.astype(np.float32)

    def _cast(self, T_map_cam: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """Colour (H, W, 3) float32 and depth (H, W) float64, NaN for the sky."""
        # Rays have z = 1 in the camera, so the ray parameter *is* the depth along the optical axis.
        directions = camera.rays() @ T_map_cam[:3, :3].T
        origin = T_map_cam[:3, 3]
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = np.where(directions[..., 2] < 0, -origin[2] / directions[..., 2], np.inf)
            box = np.full(depth.shape, -1)
            axis = np.full(depth.shape, 2)
            for index in range(len(self.box_min_m)):
                self._hit_box(index, origin, directions, T_map_cam, camera, (depth, box, axis))
        rgb = self._shade(origin, directions, depth, box, axis)
        return rgb, np.where(np.isfinite(depth), depth, np.nan)

    def _hit_box(
        self,
        index: int,
        origin: np.ndarray,
        directions: np.ndarray,
        T_map_cam: np.ndarray,
        camera: Camera,
        hits: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> None:
        """Slab test of one box, in the part of the image it can cover; updates depth, box and face axis."""
        rows, columns = self._image_bounds(index, T_map_cam, camera)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        depth, box, axis = (array[rows, columns] for array in hits)
        local = directions[rows, columns]
        to_min = (self.box_min_m[index] - origin) / local
        to_max = (self.box_max_m[index] - origin) / local
        enter_each = np.minimum(to_min, to_max)
        enter = enter_each.max(axis=-1)
        leave = np.maximum(to_min, to_max).min(axis=-1)
        closer = (enter <= leave) & (enter > 0) & (enter < depth)
        depth[closer] = enter[closer]
        box[closer] = index
        axis[closer] = enter_each[closer].argmax(axis=-1)

    def _image_bounds(self, index: int, T_map_cam: np.ndarray, camera: Camera) -> tuple[slice, slice]:
        """Rows and columns a box can cover: the bounding rectangle of its projected corners."""
        everywhere = slice(0, camera.height), slice(0, camera.width)
        if camera.distortion_model != "none":
            return everywhere
        corners = np.array(np.meshgrid(*zip(self.box_min_m[index], self.box_max_m[index], strict=True)))
        in_cam = (corners.reshape(3, -1).T - T_map_cam[:3, 3]) @ T_map_cam[:3, :3]
        if (in_cam[:, 2] <= 0).all():
            return slice(0, 0), slice(0, 0)
        if in_cam[:, 2].min() < 0.05:
            return everywhere
        uv = camera.project(in_cam)
        low = np.clip(np.floor(uv.min(axis=0)), 0, [camera.width, camera.height]).astype(int)
        high = np.clip(np.ceil(uv.max(axis=0)) + 1, 0, [camera.width, camera.height]).astype(int)
        return slice(low[1], high[1]), slice(low[0], high[0])

    def _shade(
        self, origin: np.ndarray, directions: np.ndarray, depth: np.ndarray, box: np.ndarray, axis: np.ndarray
    ) -> np.ndarray:
        """Colour of the hit surfaces: texture times sun and sky light; haze for the sky."""
        surface = np.isfinite(depth)
        point = origin + directions * np.where(surface, depth, 0.0)[..., None]
        rgb = np.empty((*depth.shape, 3), np.float32)
        rgb[...] = (188, 205, 225)
        ground = surface & (box < 0)
        rgb[ground] = self._ground_colour(point[ground])
        wall = box >= 0
        rgb[wall] = self._wall_colour(point[wall], directions[wall], box[wall], axis[wall])
        return rgb

    def _ground_colour(self, point: np.ndarray) -> np.ndarray:
        texel = (point[:, :2] + self._ground_half_m) * GROUND_TEXELS_PER_M - 0.5
        columns, rows = texel.astype(np.float32).T
        # remap takes at most 32767 rows, so the points travel as a near-square image.
        width = 1024
        padding = -len(columns) % width
        shape = (-1, width)
        columns = np.pad(columns, (0, padding)).reshape(shape)
        rows = np.pad(rows, (0, padding)).reshape(shape)
        sampled = cv2.remap(self._ground_rgb, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        return sampled.reshape(-1, 3)[: len(point)] * (AMBIENT + (1 - AMBIENT) * SUN[2])

    def _wall_colour(self, point: np.ndarray, direction: np.ndarray, box: np.ndarray, axis: np.ndarray) -> np.ndarray:
        rgb = self.box_rgb[box].copy()
        along = np.where(axis == 0, point[:, 1], point[:, 0]) / WINDOW_M[0] % 1.0
        height = point[:, 2] / WINDOW_M[1] % 1.0
        window = (axis != 2) & (np.abs(along - 0.5) < 0.28) & (np.abs(height - 0.5) < 0.27)
        rgb[window] = (52, 66, 88)
        # A roof shows a lighter rim, so its outline stands out from the same-coloured wall below.
        inner = np.minimum(point - self.box_min_m[box], self.box_max_m[box] - point)[:, :2].min(axis=1)
        rgb[(axis == 2) & (inner < 0.35)] *= 1.25
        facing = -np.sign(np.take_along_axis(direction, axis[:, None], axis=1)[:, 0]) * SUN[axis]
        return rgb * (AMBIENT + (1 - AMBIENT) * np.clip(facing, 0, None))[:, None]


def _buildings(
    rng: np.random.Generator, extent_m: float, park_share: float, max_height_m: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower corners, upper corners (K, 3) in metres and colours (K, 3) of one building a plot."""
    plots = int(extent_m // CELL_M)
    low, high, colours = [], [], []
    for row in range(plots):
        for column in range(plots):
            if rng.random() < park_share:
                continue
            centre = (np.array([column, row]) + 0.5) * CELL_M - plots * CELL_M / 2
            half = rng.uniform(1.4, (CELL_M - STREET_M) / 2, 2)
            height = rng.uniform(0.25, 1.0) * max_height_m
            low.append([*(centre - half), 0.0])
            high.append([*(centre + half), height])
            colours.append(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.25, 0.75), rng.uniform(0.55, 0.95)))
    return (
        np.array(low).reshape(-1, 3),
        np.array(high).reshape(-1, 3),
        np.array(colours, np.float32).reshape(-1, 3) * 255,
    )


def _ground_texture(rng: np.random.Generator, half_m: float, extent_m: float) -> np.ndarray:
    """Grass and soil of several octaves of noise, with streets along the plots; (T, T, 3) float32, 0..255."""
    texels = int(2 * half_m * GROUND_TEXELS_PER_M)
    noise = np.zeros((texels, texels), np.float32)
    for octave, cells in enumerate((6, 13, 29, 61)):
        coarse = rng.random((cells, cells)).astype(np.float32)
        noise += cv2.resize(coarse, (texels, texels), interpolation=cv2.INTER_CUBIC) / 2**octave
    noise = np.clip((noise - noise.min()) / np.ptp(noise), 0, 1)[..., None]
    grass, soil = np.array([[66, 92, 50], [176, 160, 112]], np.float32)
    ground = (1 - noise) * grass + noise * soil
    metres = (np.arange(texels) + 0.5) / GROUND_TEXELS_PER_M - half_m
    plots = int(extent_m // CELL_M)
    street = np.abs((metres + plots * CELL_M / 2 + CELL_M / 2) % CELL_M - CELL_M / 2) < STREET_M / 2
    street &= np.abs(metres) < plots * CELL_M / 2 + STREET_M / 2
    inside = np.abs(metres) < plots * CELL_M / 2 + STREET_M / 2
    ground[(street[:, None] & inside[None]) | (inside[:, None] & street[None])] = (104, 104, 108)
    return ground
