"""Textures of streets, fields, roofs, crowns and vehicles."""

from __future__ import annotations

import cv2
import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32
from pose2rgbd_ros.sim.city.builder import SIZE, TextureArray, flat, grain, noise, shade, streaks
from pose2rgbd_ros.sim.city.config import Season
from pose2rgbd_ros.sim.city.layout import ALLEY, AVENUE, STOP_M, STREET, StreetType
from pose2rgbd_ros.sim.city.streets import ROAD_TILE_M

PAINT = (222, 222, 216)
SNOW = (236, 240, 246)


def paint_surfaces(textures: TextureArray, rng: np.random.Generator, season: Season) -> None:
    """Add everything that is no wall."""
    for kind in (ALLEY, STREET, AVENUE):
        for place in ("road", "stop", "zebra"):
            textures.put(f"{place}_{kind.name}", _roadway(rng, kind, place, season.snow))
    textures.put("junction", _junction(rng, season.snow))
    textures.put("paving", _powder(rng, _paving(rng), 0.45 * season.snow))
    textures.put("kerb", shade(flat((178, 174, 168)), 0.05 * noise(rng)))
    _paint_country(textures, rng, season)
    _paint_roofs(textures, rng, season)
    _paint_plants(textures, rng, season)
    _paint_cars(textures)


def _asphalt(rng: np.random.Generator, rgb: tuple[float, float, float] = (98, 98, 99)) -> Float32:
    """Grains, tyre-polished tracks are left to the callers, patches and cracks are here."""
    image = shade(flat(rgb), 0.045 * noise(rng, (2, 4, 8, 16)) + 0.05 * grain(rng) + 0.03 * noise(rng, (64, 128)))
    x, y, w, h = rng.integers(20, 120, 4)
    image[y : y + h, x : x + w] *= rng.choice([0.86, 1.08])
    for _ in range(3):
        _crack(image, rng)
    return image


def _crack(image: Float32, rng: np.random.Generator) -> None:
    steps = rng.normal(0, 5, (14, 2)) + rng.normal(0, 6, 2)
    path = np.cumsum(steps, axis=0) + rng.uniform(40, SIZE - 40, 2)
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.polylines(mask, [np.rint(path).astype(np.int32)], False, 255, 1, cv2.LINE_AA)
    image *= 1 - 0.4 * (mask[..., None].astype(np.float32) / 255)


def _manhole(image: Float32, x: int, y: int, across: float, along: float) -> None:
    """A cast iron lid of 0.7 m; `across` and `along` are texels a metre."""
    size = (max(round(0.35 * across), 2), max(round(0.35 * along), 2))
    cv2.ellipse(image, (x, y), size, 0, 0, 360, (58, 56, 54), -1, cv2.LINE_AA)
    cv2.ellipse(image, (x, y), (size[0] - 2, size[1] - 2), 0, 0, 360, (84, 80, 76), 1, cv2.LINE_AA)


def _roadway(rng: np.random.Generator, kind: StreetType, place: str, snow: float) -> Float32:
    """Rows run along the street from its crossing, columns across it from left to right."""
    along = SIZE / (ROAD_TILE_M if place == "road" else STOP_M if place == "stop" else kind.road_m)
    across = SIZE / kind.road_m
    cobbles = kind is ALLEY
    image = _cobbles(rng) if cobbles else _asphalt(rng)
    wheels = _wheel_tracks(kind)
    image = shade(image, (0.05 * wheels)[None, :] * np.ones((SIZE, 1)))
    gutter = np.minimum(np.arange(SIZE), np.arange(SIZE)[::-1]) / across
    image = shade(image, -0.14 * np.exp(-gutter / 0.35)[None, :] * np.ones((SIZE, 1)))
    paint = np.zeros((SIZE, SIZE), np.float32)
    middle, lane = SIZE / 2, kind.lane_m * across
    parking = (kind.road_m - 2 * kind.lane_m) / 2
    if place == "zebra":
        stripe = 0.5 * across
        paint[:, (np.arange(SIZE) % (2 * stripe)) < stripe] = 1.0
        paint[: round(0.25 * along)] = 0
        paint[round((kind.walk_m - 0.25) * along) :] = 0
    elif not cobbles:
        if place == "road":
            paint[: SIZE // 2, _band(middle, 0.12 * across)] = 1.0
            _manhole(image, int(middle + lane / 2), 190, across, along)
        else:
            paint[round(0.6 * along) : round(1.05 * along), int(middle - lane) : int(middle) - 2] = 1.0
            paint[round(0.6 * along) :, _band(middle, 0.14 * across)] = 1.0
            if kind is AVENUE:
                _arrow(paint, middle - lane / 2, across, along)
        if parking > 1.0:
            for x in (middle - lane, middle + lane):
                paint[(0 if place == "road" else SIZE // 2) :, _band(x, 0.1 * across)] = 0.8
    worn = np.clip(0.82 + 0.22 * noise(rng, (8, 16, 32, 64)), 0.25, 1.0) * paint
    image = image * (1 - worn[..., None]) + np.multiply(PAINT, worn[..., None])
    return _slush(rng, image, snow, wheels)


def _band(middle: float, width: float) -> slice:
    return slice(round(middle - width / 2), max(round(middle + width / 2), round(middle - width / 2) + 2))


def _arrow(paint: Float32, x: float, across: float, along: float) -> None:
    """Straight on, for the traffic that comes towards the crossing."""
    half, tip = 0.35 * across, 2.4 * along
    head = np.array([[x, tip], [x - half, tip + 1.3 * along], [x + half, tip + 1.3 * along]])
    cv2.fillPoly(paint, [np.rint(head).astype(np.int32)], 1.0, cv2.LINE_AA)
    paint[round(tip + 1.2 * along) : round(tip + 3.2 * along), _band(x, 0.15 * across)] = 1.0


def _wheel_tracks(kind: StreetType) -> Float32:
    """(SIZE,) between -1 and 1: where tyres have polished the lanes, and the oil between them."""
    x = (np.arange(SIZE) + 0.5) / SIZE * kind.road_m - kind.road_m / 2
    tracks = np.zeros(SIZE)
    for lane in (-kind.lane_m / 2, kind.lane_m / 2):
        for wheel in (-0.75, 0.75):
            tracks += np.exp(-(((x - lane - wheel) / 0.3) ** 2))
        tracks -= 0.7 * np.exp(-(((x - lane) / 0.35) ** 2))
    return tracks.astype(np.float32)


def _slush(rng: np.random.Generator, image: Float32, snow: float, wheels: Float32) -> Float32:
    """Snow lies grey on a cleared road, and least where the tyres run."""
    if not snow:
        return image
    cover = np.clip(0.30 * snow + 0.16 * noise(rng, (4, 8, 16, 32)) - 0.22 * wheels[None, :], 0, 0.85)
    return image * (1 - cover[..., None]) + np.multiply((206, 210, 216), cover[..., None])


def _cobbles(rng: np.random.Generator) -> Float32:
    """Rows of sett stones."""
    image = shade(flat((120, 114, 108)), 0.05 * noise(rng, (2, 4, 8)) + 0.04 * grain(rng))
    for row in range(0, SIZE, 8):
        offset = 4 * ((row // 8) % 2)
        values = np.repeat(1 + 0.08 * rng.standard_normal(SIZE // 8), 8)
        image[row : row + 8] *= np.roll(values, offset)[None, :, None].astype(np.float32)
        image[row : row + 1] *= 0.74
        image[row : row + 8, offset::8] *= 0.8
    return image


def _junction(rng: np.random.Generator, snow: float) -> Float32:
    image = _asphalt(rng, (95, 95, 96))
    for x, y in ((60, 80), (190, 200)):
        _manhole(image, x, y, 32, 32)
    return _slush(rng, image, snow, np.zeros(SIZE, np.float32))


def _paving(rng: np.random.Generator) -> Float32:
    """Concrete slabs, 37 cm."""
    image = flat((168, 164, 156))
    size = SIZE // 8
    values = 1 + 0.045 * rng.standard_normal((8, 8))
    image *= np.kron(values, np.ones((size, size)))[..., None].astype(np.float32)
    for line in range(0, SIZE, size):
        image[line : line + 2] *= 0.78
        image[:, line : line + 2] *= 0.78
    return shade(image, 0.04 * noise(rng, (2, 4, 8, 16)) + 0.03 * grain(rng))


def _paint_country(textures: TextureArray, rng: np.random.Generator, season: Season) -> None:
    meadow = shade(flat(season.meadow), 0.08 * noise(rng) + 0.07 * grain(rng))
    rows = 0.10 * np.sin(np.arange(SIZE) * 2 * np.pi / 8)[None, :]
    crop = shade(flat(season.crop), 0.07 * noise(rng) + 0.05 * grain(rng) + rows)
    soil = shade(flat(season.soil), 0.08 * noise(rng) + 0.07 * grain(rng) + 1.2 * rows)
    stubble = shade(flat(season.stubble), 0.06 * noise(rng) + 0.06 * grain(rng) + 0.6 * rows)
    for name, image in (("meadow", meadow), ("crop", crop), ("soil", soil), ("stubble", stubble)):
        textures.put(name, _powder(rng, image, season.snow))


def _powder(rng: np.random.Generator, image: Float32, snow: float) -> Float32:
    """Fresh snow with what is below showing through here and there."""
    if not snow:
        return image
    cover = np.clip(snow + 0.12 * noise(rng, (4, 8, 16, 32)), 0, 0.97)[..., None]
    return image * (1 - cover) + shade(flat(SNOW), 0.012 * noise(rng)) * cover


def _paint_roofs(textures: TextureArray, rng: np.random.Generator, season: Season) -> None:
    textures.put("tiles", _powder(rng, _roof_tiles(rng, (214, 178, 158), 12, 0.10), 1.05 * season.snow))
    textures.put("slate", _powder(rng, _roof_tiles(rng, (126, 128, 134), 10, 0.08), 1.0 * season.snow))
    gravel = shade(flat((176, 172, 164)), 0.06 * noise(rng) + 0.09 * grain(rng))
    textures.put("gravel", _powder(rng, gravel, 1.05 * season.snow))
    bitumen = shade(flat((120, 120, 122)), 0.06 * noise(rng, (2, 4, 8, 16)) + 0.03 * grain(rng))
    for line in range(0, SIZE, 64):  # seams of the sheets, and puddle stains
        bitumen[:, line : line + 2] *= 0.8
    bitumen = shade(bitumen, -0.16 * np.clip(noise(rng, (4, 8, 16)) - 0.9, 0, 1))
    textures.put("bitumen", _powder(rng, bitumen, season.snow))
    metal = shade(flat((196, 200, 202)), 0.03 * noise(rng) + 0.04 * streaks(rng, (2, 64)))
    for line in range(0, SIZE, 32):
        metal[:, line : line + 2] *= 0.72
        metal[:, line + 2 : line + 3] *= 1.12
    textures.put("metal", _powder(rng, metal, 0.9 * season.snow))


def _roof_tiles(rng: np.random.Generator, rgb: tuple[float, float, float], pitch: int, spread: float) -> Float32:
    """Courses of tiles, light at their middles and dark below their edges."""
    image = flat(rgb)
    rows, columns = SIZE // 16, SIZE // 8
    values = 1 + spread * rng.standard_normal((rows, columns))
    image *= np.kron(values, np.ones((16, 8)))[..., None].astype(np.float32)
    across = 0.10 * np.sin(np.arange(SIZE) * 2 * np.pi / 8)[None, :]
    along = np.where(np.arange(SIZE) % 16 < 3, -0.28, 0.04)[:, None]
    moss = -0.16 * np.clip(noise(rng, (4, 8, 16, 32)) - 0.8, 0, 1.2)
    return shade(image, across + along + moss + 0.05 * noise(rng, (2, 4, 8)))


def _paint_plants(textures: TextureArray, rng: np.random.Generator, season: Season) -> None:
    """Crowns are near white here, their colour is the tree's."""
    for name, cells in (("leaves", (8, 16, 32, 64)), ("needles", (16, 32, 64, 128))):
        clumps = noise(rng, cells, 0.8)
        image = shade(flat((214, 214, 206)), np.clip(0.24 * clumps + 0.10 * grain(rng), -0.62, 0.35))
        textures.put(name, _powder(rng, image, 0.3 * season.snow if name == "needles" else 0.0))
    bark = shade(flat((112, 96, 80)), 0.14 * streaks(rng, (8, 64)) + 0.10 * grain(rng))
    textures.put("bark", bark)


def _paint_cars(textures: TextureArray) -> None:
    """Sides with wheels, ends with lamps, and glass; rows from the bottom up."""
    side = flat((248, 248, 248))
    side[:40] = 34
    side = shade(side, np.linspace(-0.25, 0.05, SIZE)[:, None] * np.ones(SIZE))
    cv2.line(side, (110, 60), (110, 250), (90, 90, 90), 2)
    cv2.line(side, (170, 60), (170, 250), (90, 90, 90), 2)
    for x in (48, 208):
        cv2.ellipse(side, (x, 58), (26, 110), 0, 0, 360, (26, 26, 28), -1, cv2.LINE_AA)
        cv2.ellipse(side, (x, 58), (13, 56), 0, 0, 360, (150, 152, 156), -1, cv2.LINE_AA)
    textures.put("car_side", side)
    end = flat((246, 246, 246))
    end[:46] = 40
    end[70:120, 70:186] = (226, 226, 220)
    for x in (8, 200):
        end[130:190, x : x + 48] = (226, 214, 196)
    end[140:180, 66:190] = 70
    textures.put("car_end", end)
    glass = flat((40, 48, 56))
    glass *= np.linspace(0.8, 1.7, SIZE, dtype=np.float32)[:, None, None]
    glass[:, :10], glass[:, -10:], glass[:, 124:132], glass[-12:] = 18, 18, 18, 24
    textures.put("car_glass", glass)
