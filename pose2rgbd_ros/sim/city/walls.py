"""Facade textures: four bays by four storeys of windows, and ground floors of four bays."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32
from pose2rgbd_ros.sim.city.builder import SIZE, TextureArray, flat, grain, noise, shade, streaks

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
