"""The baked picture of the land between the streets: lawns, paths, yards, beds, and the dirt at the feet of walls."""

from __future__ import annotations

import cv2
import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32, Float64, UInt8
from pose2rgbd_ros.sim.city.buildings import Plan, Rect
from pose2rgbd_ros.sim.city.config import GROUND, SEASON_COLOURS, CityConfig, Season, stream

GRASS, GRAVEL, PAVED, ASPHALT, BED, WATER, SAND, PAINT, JOINT, HEDGE = range(10)
TEXELS = 4096
SNOW = (234, 238, 244)
FINE = 4  # drawing coordinates have that many binary digits below a texel


class GroundPicture:
    """Draws a map of materials over the plan, then colours it.

    `material` (TEXELS, TEXELS) uint8: row 0 at the lowest y of the built square, column 0 at its lowest x.
    """

    def __init__(self, config: CityConfig, plan: Plan, buildings: Float64) -> None:
        self._config, self._half = config, config.extent_m / 2
        self._per_m = TEXELS / config.extent_m
        self._rng = stream(config.seed, GROUND)
        self._buildings = buildings
        self.material = np.full((TEXELS, TEXELS), PAVED, np.uint8)
        for rect in plan.gardens:
            self._garden(rect)
        for rect in plan.yards:
            self._yard(rect)
        for rect in plan.parks:
            self._park(rect)
        for rect in plan.squares:
            self._square(rect)
        for low_x, low_y, high_x, high_y in buildings:
            self._fill((low_x - 0.7, low_y - 0.7, high_x + 0.7, high_y + 0.7), GRAVEL, only=GRASS)

    def material_at(self, plan: Float64) -> UInt8:
        """Materials (N,) at points (N, 2) of the plan inside the built square."""
        column, row = np.clip((plan + self._half) * self._per_m, 0, TEXELS - 1).astype(int).T
        return self.material[row, column]

    def rgb(self) -> UInt8:
        """The picture (TEXELS, TEXELS, 3), sRGB."""
        season = SEASON_COLOURS[self._config.season]
        palette = _palette(season)
        soft = cv2.LUT(self.material, np.isin(np.arange(256), (GRASS, BED, HEDGE)).astype(np.uint8) * 255)
        mottle = self._noise((12, 24, 48, 96, 192, 400), 0.72)
        fine = self._grain()
        hard = _factor(mottle, 0.045, fine, 0.045)
        walls = self._corners_of_walls()
        snow = self._snow(season.snow, mottle) if season.snow else None
        channels = []
        for channel, hue in enumerate((1.0, 0.72, 0.9)):
            # Grass varies in colour as well as in brightness: red follows the noise more than green.
            factor = cv2.copyTo(_factor(mottle, 0.11 * hue, fine, 0.10), soft, hard.copy())
            plane = cv2.multiply(cv2.LUT(self.material, palette[:, channel].copy()), factor, scale=1 / 128)
            if snow is not None:
                white = np.full_like(plane, SNOW[channel])
                plane = cv2.add(
                    cv2.multiply(plane, 255 - snow, scale=1 / 255), cv2.multiply(white, snow, scale=1 / 255)
                )
            channels.append(cv2.multiply(plane, walls, scale=1 / 255))
        return np.asarray(cv2.merge(channels), np.uint8)

    def _snow(self, share: float, mottle: Float32) -> UInt8:
        """How much of each texel snow covers, of 255: trodden thin on paths and cleared from yards."""
        cover = np.full(256, share)
        cover[[GRAVEL, PAVED]], cover[[ASPHALT, PAINT, JOINT]], cover[[WATER, HEDGE]] = 0.5, 0.35, (0.75, 0.6)
        base = cv2.LUT(self.material, np.rint(255 * cover).astype(np.uint8))
        ripple = cv2.convertScaleAbs(mottle, alpha=23, beta=70)
        return np.asarray(cv2.subtract(cv2.add(base, ripple), np.full_like(base, 76)), np.uint8)

    def _noise(self, lattices: tuple[int, ...], gain: float) -> Float32:
        total = np.zeros((1024, 1024), np.float32)
        for power, cells in enumerate(lattices):
            lattice = self._rng.standard_normal((cells, cells)).astype(np.float32)
            total += gain**power * cv2.resize(lattice, (1024, 1024), interpolation=cv2.INTER_CUBIC)
        return cv2.resize(total / total.std(), (TEXELS, TEXELS), interpolation=cv2.INTER_LINEAR)

    def _grain(self) -> Float32:
        tile = self._rng.standard_normal((1024, 1024)).astype(np.float32)
        tile += 1.2 * cv2.GaussianBlur(self._rng.standard_normal((1024, 1024)).astype(np.float32), (0, 0), 1.2) * 4
        return np.tile(tile / tile.std(), (TEXELS // 1024, TEXELS // 1024))

    def _corners_of_walls(self) -> UInt8:
        """Less sky is seen, and more dirt lies, close to walls: a factor of 255."""
        small = 1024
        mask = np.zeros((small, small), np.uint8)
        scale = small / TEXELS
        for rect in self._buildings:
            x0, y0, x1, y1 = (round(float((v + self._half) * self._per_m * scale)) for v in rect)
            mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = 255
        wide = cv2.GaussianBlur(mask, (0, 0), 2.6 * self._per_m * scale)
        shade = np.clip(255 - 0.62 * wide.astype(np.float32), 120, 255).astype(np.uint8)
        return cv2.resize(shade, (TEXELS, TEXELS), interpolation=cv2.INTER_LINEAR)

    def _texels(self, rect: Rect) -> tuple[int, int, int, int]:
        x0, y0, x1, y1 = (round(float(np.clip((v + self._half) * self._per_m, 0, TEXELS))) for v in rect)
        return x0, y0, x1, y1

    def _fill(self, rect: Rect, material: int, only: int | None = None) -> None:
        x0, y0, x1, y1 = self._texels(rect)
        window = self.material[y0:y1, x0:x1]
        window[... if only is None else window == only] = material

    def _line(self, points: Float64, width_m: float, material: int) -> None:
        texels = np.rint((points + self._half) * self._per_m * 2**FINE).astype(np.int32)
        width = max(round(width_m * self._per_m), 1)
        cv2.polylines(self.material, [texels], False, material, width, cv2.LINE_8, FINE)

    def _ellipse(self, centre: Float64, radii_m: Float64, material: int) -> None:
        x, y = np.rint((centre + self._half) * self._per_m).astype(int).tolist()
        rx, ry = np.rint(radii_m * self._per_m).astype(int).tolist()
        cv2.ellipse(self.material, (x, y), (rx, ry), 0, 0, 360, material, -1)

    def _garden(self, rect: Rect) -> None:
        """A lawn, split into plots by hedges and footpaths, with beds and here and there a sandpit."""
        rng = self._rng
        x0, y0, x1, y1 = rect
        self._fill(rect, GRASS)
        if min(x1 - x0, y1 - y0) < 8:
            return
        middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2]) + rng.uniform(-4, 4, 2)
        self._line(np.array([[x0, middle[1]], [x1, middle[1]]]), 1.6, GRAVEL)
        for x in np.arange(x0 + rng.uniform(5, 9), x1 - 3, rng.uniform(7, 13)):
            if rng.random() < 0.6:
                low, high = (y0, middle[1] - 1.4) if rng.random() < 0.5 else (middle[1] + 1.4, y1)
                self._line(np.array([[x, low], [x, high]]), 0.7, HEDGE if rng.random() < 0.7 else GRAVEL)
        for _ in range(int((x1 - x0) * (y1 - y0) / 160)):
            spot = rng.uniform([x0 + 2, y0 + 2], [x1 - 2, y1 - 2])
            size = rng.uniform(1.0, 3.0, 2)
            what = int(rng.choice([BED, BED, SAND, PAVED, GRAVEL], p=[0.4, 0.2, 0.08, 0.22, 0.1]))
            self._fill((*(spot - size / 2), *(spot + size / 2)), what, only=GRASS)

    def _yard(self, rect: Rect) -> None:
        """A car park with its bays marked along the long sides."""
        x0, y0, x1, y1 = rect
        if min(x1 - x0, y1 - y0) < 6:
            return
        self._fill(rect, ASPHALT)
        for y in (y0, y1):
            inward = 5.0 if y == y0 else -5.0
            for x in np.arange(x0 + 0.5, x1 - 0.4, 2.5):
                self._line(np.array([[x, y], [x, y + inward]]), 0.12, PAINT)

    def _park(self, rect: Rect) -> None:
        """Winding paths, a pond, beds along the paths and a playground."""
        rng = self._rng
        low, high = np.array(rect[:2]), np.array(rect[2:])
        size = high - low
        self._fill(rect, GRASS)
        step = np.linspace(0, 1, 60)[:, None]
        corner = [low + 1, high - 1, np.array([low[0] + 1, high[1] - 1]), np.array([high[0] - 1, low[1] + 1])]
        for a, b in ((0, 1), (2, 3)):
            across = np.array([-(corner[b] - corner[a])[1], (corner[b] - corner[a])[0]])
            wave = 0.09 * rng.uniform(0.5, 1.2) * np.sin(2 * np.pi * step + rng.uniform(0, 6)) * np.sin(np.pi * step)
            self._line(corner[a] + step * (corner[b] - corner[a]) + wave * across, 3.0, GRAVEL)
        turn = 2 * np.pi * step[:, 0]
        radius = 0.33 * size * (1 + 0.07 * np.sin(3 * turn + 1.0))[:, None]
        ring = (low + high) / 2 + radius * np.stack([np.cos(turn), np.sin(turn)], axis=-1)
        self._line(ring, 2.4, GRAVEL)
        pond = low + size * rng.uniform(0.42, 0.58, 2)
        self._ellipse(pond, size * 0.16 + 1.0, SAND)
        self._ellipse(pond, size * 0.16, WATER)
        for _ in range(14):
            angle = rng.uniform(0, 2 * np.pi)
            spot = (low + high) / 2 + 0.40 * size * [np.cos(angle), np.sin(angle)]
            self._ellipse(spot, rng.uniform(0.8, 2.2, 2), BED)
        self._ellipse(low + size * [0.8, 0.25], np.array([5.0, 4.0]), SAND)

    def _square(self, rect: Rect) -> None:
        """Paving in large fields with joints of another stone."""
        x0, y0, x1, y1 = rect
        self._fill(rect, PAVED)
        for x in np.arange(x0 + 3, x1, 6.0):
            self._line(np.array([[x, y0], [x, y1]]), 0.35, JOINT)
        for y in np.arange(y0 + 3, y1, 6.0):
            self._line(np.array([[x0, y], [x1, y]]), 0.35, JOINT)
        centre = np.array([(x0 + x1) / 2, y0 + 0.27 * (y1 - y0)])
        for radius, material in ((7.0, JOINT), (6.6, GRAVEL), (4.2, JOINT), (3.8, WATER)):
            self._ellipse(centre, np.array([radius, radius]), material)


def _factor(mottle: Float32, a: float, fine: Float32, b: float) -> UInt8:
    """Two noises as a factor of 128."""
    return np.asarray(cv2.convertScaleAbs(cv2.addWeighted(mottle, 128 * a, fine, 128 * b, 128.0)), np.uint8)


def _palette(season: Season) -> UInt8:
    colours = np.zeros((256, 3), np.uint8)
    colours[GRASS], colours[BED] = season.grass, np.multiply(season.soil, 0.85)
    colours[GRAVEL], colours[PAVED], colours[ASPHALT] = (176, 166, 146), (150, 146, 138), (104, 103, 102)
    colours[WATER], colours[SAND], colours[PAINT] = (66, 88, 92), (204, 188, 150), (214, 214, 208)
    colours[JOINT], colours[HEDGE] = (186, 178, 166), np.multiply(season.grass, 0.66)
    return colours
