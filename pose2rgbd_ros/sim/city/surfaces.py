"""Textures of walls, streets, fields, roofs, crowns and vehicles."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32
from pose2rgbd_ros.sim.city.config import Season
from pose2rgbd_ros.sim.city.layout import ALLEY, AVENUE, STOP_M, STREET, StreetType
from pose2rgbd_ros.sim.city.shapes import SIZE, TextureArray, flat, grain, noise, shade, streaks
from pose2rgbd_ros.sim.city.streets import ROAD_TILE_M

BAYS = STOREYS = 4  # in one repeat
CELL = SIZE // BAYS  # texels of one bay, and of one storey
Rgb = tuple[float, float, float]
Rect = tuple[float, float, float, float]  # left, top, right, bottom

GLASS = np.array([[44, 54, 66], [58, 70, 84], [70, 86, 104], [36, 42, 50]], np.float32)
LIT = (232, 196, 132)


@dataclass(frozen=True)
class Facade:
    """How a kind of facade looks; lengths are shares of a bay or a storey, colours sRGB."""

    name: str
    base: str = "plaster"  # plaster, brick, stone, panel, glass
    wall: Rgb = (236, 232, 224)
    window: tuple[float, float] = (0.42, 0.54)
    panes: tuple[int, int] = (2, 1)
    frame: Rgb = (238, 238, 234)
    surround: Rgb | None = None
    shutters: Rgb | None = None
    ledge: bool = False
    sill: bool = True
    balconies: int = 0  # one at every so many bays
    pair: bool = False
    lit: float = 0.06
    blinds: float = 0.35


FACADES = (
    Facade("wall_plain", window=(0.40, 0.50)),
    Facade("wall_tall", window=(0.34, 0.64), shutters=(118, 128, 116), blinds=0.2),
    Facade("wall_ornate", window=(0.36, 0.62), surround=(250, 247, 240), ledge=True, panes=(2, 2)),
    Facade("wall_pair", window=(0.26, 0.56), pair=True, ledge=True, surround=(246, 243, 238)),
    Facade("wall_brick", base="brick", wall=(150, 82, 64), window=(0.38, 0.56), surround=(214, 204, 188)),
    Facade("wall_clinker", base="brick", wall=(156, 124, 96), window=(0.44, 0.52), frame=(70, 66, 62)),
    Facade("wall_stone", base="stone", wall=(204, 190, 164), window=(0.36, 0.62), panes=(2, 2), ledge=True),
    Facade("wall_balcony", wall=(228, 226, 220), window=(0.56, 0.60), balconies=2, sill=False, blinds=0.45),
    Facade("wall_panel", base="panel", wall=(198, 196, 190), window=(0.56, 0.44), panes=(3, 1), blinds=0.5),
    Facade("wall_office", base="panel", wall=(206, 204, 200), window=(0.96, 0.52), panes=(3, 1),
           frame=(96, 100, 104), sill=False, lit=0.15),
    Facade("wall_glass", base="glass", wall=(118, 130, 140), window=(0.94, 0.80), panes=(2, 1),
           frame=(74, 80, 86), sill=False, lit=0.12),
    Facade("wall_modern", wall=(240, 240, 238), window=(0.62, 0.62), panes=(2, 1), frame=(58, 60, 62), sill=False),
)  # fmt: skip


def paint_walls(textures: TextureArray, rng: np.random.Generator) -> None:
    """Add all facades, ground floors, the bare wall and the plinth."""
    for facade in FACADES:
        textures.put(facade.name, _facade(facade, rng)[::-1])
    textures.put("bare", _base("plaster", (226, 222, 214), rng)[::-1])
    textures.put("dormer", _dormer(rng)[::-1])
    textures.put("wall_church", _church(rng)[::-1])
    textures.put("plinth", _base("stone", (150, 146, 140), rng)[::-1])
    for name, painter in (("shop_a", _shop), ("shop_b", _shop), ("entrance", _entrance), ("lobby", _lobby)):
        textures.put(name, painter(rng)[::-1])


def _facade(facade: Facade, rng: np.random.Generator) -> Float32:
    image = _base(facade.base, facade.wall, rng)
    if facade.ledge:
        for storey in range(STOREYS):
            _fill(image, (0, storey * CELL + 58, SIZE, storey * CELL + 61), (250, 248, 242))
            _darken(image, (0, storey * CELL + 61, SIZE, storey * CELL + 63), 0.62)
    for storey in range(STOREYS):
        for bay in range(BAYS):
            _bay(image, facade, bay, storey, rng)
    return shade(image, 0.025 * noise(rng) + 0.012 * grain(rng))


def _base(kind: str, rgb: Rgb, rng: np.random.Generator) -> Float32:
    """The bare wall, weathered."""
    image = flat(rgb)
    if kind == "brick":
        image = _courses(image, 4, 12, 0.10, (186, 178, 166), rng)
    elif kind == "stone":
        image = _courses(image, 16, 40, 0.05, (150, 140, 122), rng)
    elif kind == "panel":
        for line in range(0, SIZE, CELL):
            _darken(image, (0, line, SIZE, line + 1.5), 0.6)
            _darken(image, (line, 0, line + 1.5, SIZE), 0.6)
    # Rain leaves upright stains, dust broad ones.
    return shade(image, 0.030 * streaks(rng, (4, 64)) + 0.035 * noise(rng, (2, 4, 8, 16)) + 0.015 * grain(rng))


def _courses(image: Float32, height: int, width: int, spread: float, joint: Rgb, rng: np.random.Generator) -> Float32:
    """Rows of bricks or blocks, each brick a little different, joints half a brick apart from row to row."""
    rows = SIZE // height
    for row in range(rows):
        edges = np.arange(0, SIZE + width, width) - (row % 2) * width // 2
        values = 1 + spread * rng.standard_normal(len(edges))
        line = np.repeat(values, width)[(row % 2) * width // 2 :][:SIZE]
        image[row * height : (row + 1) * height] *= line[None, :, None].astype(np.float32)
        image[row * height, :] = image[row * height, :] * 0.5 + np.multiply(joint, 0.5)
        for edge in edges[(edges >= 0) & (edges < SIZE)]:
            column = image[row * height : (row + 1) * height, edge]
            column[:] = column * 0.6 + np.multiply(joint, 0.4)
    return image


def _bay(image: Float32, facade: Facade, bay: int, storey: int, rng: np.random.Generator) -> None:
    width, height = facade.window
    middle = (bay + 0.5) * CELL
    top = storey * CELL + (0.92 - height) * CELL * 0.55
    balcony = facade.balconies and bay % facade.balconies == 0
    if balcony:
        top, height = storey * CELL + 8, 0.78
    centres = (middle - 0.17 * CELL, middle + 0.17 * CELL) if facade.pair else (middle,)
    for centre in centres:
        rect = (centre - width * CELL / 2, top, centre + width * CELL / 2, top + height * CELL)
        if facade.shutters and rng.random() < 0.85:
            _shutters(image, rect, facade.shutters)
        _window(image, rect, facade, rng)
    if balcony:
        _balcony(image, (bay * CELL + 4, storey * CELL + 38, (bay + 1) * CELL - 4, storey * CELL + 59))


def _window(image: Float32, rect: Rect, facade: Facade, rng: np.random.Generator) -> None:
    left, top, right, bottom = rect
    if facade.surround:
        _fill(image, (left - 3, top - 4, right + 3, bottom + 2), facade.surround)
    if facade.sill:
        _darken(image, (left - 2, bottom + 3, right + 2, bottom + 7), 0.80)
        _fill(image, (left - 3, bottom, right + 3, bottom + 3), (226, 224, 218))
    _fill(image, rect, facade.frame)
    columns, rows = facade.panes
    pane_w, pane_h = (right - left) / columns, (bottom - top) / rows
    lit, blind = rng.random() < facade.lit, rng.random() < facade.blinds
    glass = GLASS[rng.integers(len(GLASS))] * rng.uniform(0.85, 1.15)
    curtain = rng.uniform(150, 225) * np.array([1, 0.98, 0.93])
    for column in range(columns):
        for row in range(rows):
            x, y = left + column * pane_w, top + row * pane_h
            pane = (x + 1.5, y + 1.5, x + pane_w - 1.0, y + pane_h - 1.5)
            _glass(image, pane, np.array(LIT) * rng.uniform(0.75, 1.0) if lit else glass)
    if blind:
        drop = rng.choice([0.25, 0.4, 0.6, 1.0], p=[0.4, 0.3, 0.2, 0.1])
        _fill(
            image,
            (left + 2, top + 2, right - 2, top + 2 + drop * (bottom - top - 4)),
            curtain * (0.9 if not lit else 1),
        )
    _darken(image, (left, top, right, top + 2.5), 0.55)  # shadow of the reveal
    _darken(image, (left, top, left + 1.5, bottom), 0.7)


def _glass(image: Float32, rect: Rect, rgb: np.ndarray) -> None:
    """A pane that mirrors the sky in its upper part."""
    x0, y0, x1, y1 = (round(value) for value in rect)
    rows = max(y1 - y0, 1)
    ramp = np.linspace(1.35, 0.8, rows, dtype=np.float32)[:, None, None]
    image[y0:y1, max(x0, 0) : x1] = rgb * ramp[: y1 - y0]


def _shutters(image: Float32, rect: Rect, rgb: Rgb) -> None:
    left, top, right, bottom = rect
    wide = (right - left) * 0.46
    for x in (left - wide, right):
        _fill(image, (x, top, x + wide, bottom), rgb)
        for y in np.arange(top, bottom, 3):
            _darken(image, (x, y, x + wide, y + 1), 0.8)


def _balcony(image: Float32, rect: Rect) -> None:
    """A slab and a railing, with its shadow below."""
    left, top, right, bottom = rect
    _darken(image, (left, top, right, bottom), 0.72)
    for x in np.arange(left, right, 4):
        _fill(image, (x, top, x + 1, bottom), (88, 90, 92))
    _fill(image, (left, top - 1, right, top + 1), (70, 72, 76))
    _fill(image, (left - 2, bottom - 4, right + 2, bottom), (206, 204, 198))
    _darken(image, (left, bottom, right, bottom + 5), 0.6)


def _shop(rng: np.random.Generator) -> Float32:
    """Shop windows under signs and awnings; the tile is four bays wide and one storey high."""
    image = _base("stone", (176, 170, 160), rng)
    for bay in range(BAYS):
        left, right = bay * CELL + 4, (bay + 1) * CELL - 4
        sign = rng.uniform(40, 190, 3)
        _fill(image, (left, 80, right, 232), (58, 56, 54))
        for x0, x1 in ((left + 2, (left + right) / 2 - 1), ((left + right) / 2 + 1, right - 2)):
            _glass(image, (x0, 88, x1, 226), np.array([84, 92, 98]) * rng.uniform(0.7, 1.4))
            for _ in range(5):  # goods behind the glass
                x, y = rng.uniform(x0, x1 - 8), rng.uniform(150, 205)
                _fill(image, (x, y, x + rng.uniform(3, 8), y + rng.uniform(10, 22)), rng.uniform(40, 220, 3))
        _fill(image, (left, 36, right, 74), sign)
        for letter in range(left + 6, right - 8, 6):
            _fill(image, (letter, 46, letter + 4, 64), np.clip(sign + 110, 0, 245))
        if rng.random() < 0.5:
            for k, stripe in enumerate(range(left - 2, right + 2, 5)):
                _fill(image, (stripe, 76, stripe + 5, 112), (214, 208, 198) if k % 2 else sign)
            _darken(image, (left, 112, right, 126), 0.55)
        _fill(image, (left, 232, right, 256), (110, 106, 102))
    _fill(image, (0, 0, SIZE, 14), (222, 216, 206))
    _darken(image, (0, 14, SIZE, 24), 0.65)
    return shade(image, 0.03 * noise(rng))


def _entrance(rng: np.random.Generator) -> Float32:
    """A residential ground floor: windows and one door."""
    image = _base("plaster", (228, 224, 216), rng)
    facade = Facade("", window=(0.42, 0.5), panes=(2, 1))
    for bay in range(BAYS):
        middle = (bay + 0.5) * CELL
        if bay == 1:
            _fill(image, (middle - 17, 62, middle + 17, 256), (214, 208, 198))
            _fill(image, (middle - 12, 76, middle + 12, 256), rng.uniform(40, 110, 3))
            _glass(image, (middle - 9, 82, middle + 9, 128), np.array([60, 70, 80]))
            _darken(image, (middle - 12, 76, middle + 12, 88), 0.55)
            continue
        _window(image, (middle - 14, 70, middle + 14, 190), facade, rng)
    _fill(image, (0, 0, SIZE, 10), (240, 236, 228))
    _darken(image, (0, 10, SIZE, 18), 0.7)
    return shade(image, 0.02 * noise(rng))


def _lobby(rng: np.random.Generator) -> Float32:
    """Tall panes between columns, as under offices."""
    image = _base("panel", (186, 184, 180), rng)
    for bay in range(BAYS):
        left = bay * CELL + 6
        _fill(image, (left, 50, left + 52, 250), (60, 64, 68))
        for x in (left + 1, left + 27):
            _glass(image, (x, 54, x + 24, 248), np.array([66, 78, 88]) * rng.uniform(0.8, 1.3))
    _darken(image, (0, 28, SIZE, 50), 0.7)
    return shade(image, 0.02 * noise(rng))


def _dormer(rng: np.random.Generator) -> Float32:
    """One window in a frame that fills the tile."""
    image = flat((226, 224, 218))
    facade = Facade("", sill=False, lit=0.0, panes=(2, 1))
    _window(image, (40, 56, 216, 232), facade, rng)
    _fill(image, (0, 0, SIZE, 22), (112, 114, 118))
    return image


def _church(rng: np.random.Generator) -> Float32:
    """Ashlar with two rows of tall round-headed windows."""
    image = _base("stone", (206, 194, 172), rng)
    for bay in range(0, BAYS, 2):
        for row in (0, 1):
            x, top, foot = (bay + 1) * CELL, row * 128 + 34, row * 128 + 112
            for grow, colour in ((7, (232, 224, 208)), (0, (52, 56, 66))):
                _fill(image, (x - 13 - grow, top, x + 13 + grow, foot + grow), colour)
                cv2.ellipse(image, (x, top), (13 + grow, 16 + grow), 0, 180, 360, colour, -1, cv2.LINE_AA)
            _fill(image, (x - 1, top - 14, x + 1, foot), (110, 106, 100))
            for y in range(top, foot, 16):
                _fill(image, (x - 13, y, x + 13, y + 1), (110, 106, 100))
    return shade(image, 0.02 * noise(rng))


def _fill(image: Float32, rect: Rect, rgb: object) -> None:
    x0, y0, x1, y1 = (round(float(value)) for value in rect)
    image[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = np.asarray(rgb, np.float32)


def _darken(image: Float32, rect: Rect, factor: float) -> None:
    x0, y0, x1, y1 = (round(float(value)) for value in rect)
    image[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] *= np.float32(factor)


# Textures of streets, fields, roofs, crowns and vehicles.

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
