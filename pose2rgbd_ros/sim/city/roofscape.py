"""What stands on roofs: chimneys, dormers, stair heads, machines."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.geometry.arrays import AnyArray, Float64
from pose2rgbd_ros.sim.city.buildings import Built
from pose2rgbd_ros.sim.city.config import ROOFS, stream
from pose2rgbd_ros.sim.city.solids import Solids, metric_uv
from pose2rgbd_ros.sim.city.textures import TextureArray


def furnish_roofs(built: Built, solids: Solids, textures: TextureArray, seed: int) -> None:
    """Add it all."""
    rng = stream(seed, ROOFS)
    wanted = built.column("clutter")
    _chimneys(built, (built.roof == "gable") & wanted, solids, textures, rng)
    _dormers(built, wanted, solids, textures, rng)
    _machines(built, (built.roof == "flat") & wanted, solids, textures, rng)


def _chimneys(
    built: Built, which: AnyArray, solids: Solids, textures: TextureArray, rng: np.random.Generator
) -> None:
    """One or two beside the ridge of a saddle."""
    index = np.repeat(np.nonzero(which)[0], 2)
    share = np.where(
        np.arange(len(index)) % 2, rng.uniform(0.12, 0.42, len(index)), rng.uniform(0.58, 0.88, len(index))
    )
    drawn = rng.random(len(index)) < 0.7
    index, share = index[drawn], share[drawn]
    rects, along_x = built.rects[index], (built.column("ridge") == "x")[index]
    size = rects[:, 2:] - rects[:, :2]
    beside = rng.choice([-0.9, 0.9], len(index))
    middle = (rects[:, :2] + rects[:, 2:]) / 2
    along = np.where(along_x, rects[:, 0] + share * size[:, 0], rects[:, 1] + share * size[:, 1])
    x = np.where(along_x, along, middle[:, 0] + beside)
    y = np.where(along_x, middle[:, 1] + beside, along)
    half_x, half_y = np.where(along_x, 0.6, 0.3), np.where(along_x, 0.3, 0.6)
    stacks = np.stack([x - half_x, y - half_y, x + half_x, y + half_y], axis=-1)
    top = built.top_m[index] + rng.uniform(0.4, 1.1, len(index))
    tint = np.array([255, 190, 160]) * rng.uniform(0.7, 1.0, (len(index), 1))
    solids.boxes(
        stacks, top - 3.0, top, textures["plinth"], tint, lid=np.full(len(index), textures["bitumen"])
    )


def _dormers(
    built: Built, wanted: AnyArray, solids: Solids, textures: TextureArray, rng: np.random.Generator
) -> None:
    """Windows with a little roof of their own, looking out of steep roofs on both sides."""
    steep = (built.column("pitch") > 0.68) & (built.roof == "gable") & (rng.random(len(built.rects)) < 0.36)
    chosen = np.nonzero(wanted & (steep | (built.roof == "mansard")))[0]
    rects, faces = [], []
    owner = []
    for index in chosen.tolist():
        x0, y0, x1, y1 = built.rects[index]
        along_x = built.buildings[index].ridge == "x"
        begin, end = (x0, x1) if along_x else (y0, y1)
        count = int((end - begin - 2.5) / 2.9)
        deep = 1.35 if built.roof[index] == "mansard" else 2.3
        for at in np.linspace(begin + 2.2, end - 2.2, count) if count > 1 else []:
            for side in (0, 1):
                near = ((y0 + 0.35, y0 + 0.35 + deep), (y1 - 0.35 - deep, y1 - 0.35)) if along_x else (
                    (x0 + 0.35, x0 + 0.35 + deep), (x1 - 0.35 - deep, x1 - 0.35))  # fmt: skip
                low, high = near[side]
                rects.append((at - 0.7, low, at + 0.7, high) if along_x else (low, at - 0.7, high, at + 0.7))
                faces.append((0, 2)[side] if along_x else (3, 1)[side])
                owner.append(index)
    if not rects:
        return
    boxes, front, of = np.array(rects), np.array(faces), np.array(owner)
    foot, top = solids.ring(boxes, built.eaves_m[of] + 0.1), solids.ring(boxes, built.eaves_m[of] + 1.75)
    sides = np.arange(4)[None]
    looks_out, back = sides == front[:, None], sides == (front[:, None] + 2) % 4
    layer = np.where(looks_out, textures["dormer"], textures["bare"])
    uv = np.where(looks_out[..., None], np.array([0.0, 1.0, 0.0, 1.0]), metric_uv(foot, top, 4.0))
    solids.band(foot, top, uv, layer, np.tile([232.0, 230, 226], (len(boxes), 1)), ~back)
    solids.lid(top, textures["metal"], (150, 152, 158))


def _machines(
    built: Built, which: AnyArray, solids: Solids, textures: TextureArray, rng: np.random.Generator
) -> None:
    """Stair heads and air handling units, clear of each other and of the parapet."""
    stairs: list[tuple[float, ...]] = []
    units: list[tuple[float, ...]] = []
    stair_of: list[int] = []
    unit_of: list[int] = []
    for index in np.nonzero(which)[0].tolist():
        if _carries(built, index):
            continue
        x0, y0, x1, y1 = built.rects[index] + np.array([1.2, 1.2, -1.2, -1.2])
        if min(x1 - x0, y1 - y0) < 4.5:
            continue
        columns = max(int((x1 - x0) / 5.5), 1)
        rows = max(int((y1 - y0) / 5.5), 1)
        cells = rng.permutation(columns * rows)
        for number, cell in enumerate(cells[: 1 + int(rng.integers(1, 6))].tolist()):
            cx = x0 + (cell % columns + 0.5) * (x1 - x0) / columns
            cy = y0 + (cell // columns + 0.5) * (y1 - y0) / rows
            half = np.array([1.9, 1.5]) if number == 0 else rng.uniform(0.4, 1.2, 2)
            (stairs if number == 0 else units).append(
                (cx - half[0], cy - half[1], cx + half[0], cy + half[1])
            )
            (stair_of if number == 0 else unit_of).append(index)
    for rects, owner, high, layer, tint in (
        (stairs, stair_of, (1.9, 2.5), "bare", (214, 210, 202)),
        (units, unit_of, (0.7, 1.5), "metal", (225, 228, 230)),
    ):
        if rects:
            deck = built.eaves_m[owner]
            top = deck + rng.uniform(*high, len(rects))
            boxes: Float64 = np.array(rects)
            lid = textures["bitumen"] if layer == "bare" else textures["metal"]
            solids.boxes(
                boxes, deck - 0.2, top, textures[layer], tint, lid=lid, tile_m=4.0 if layer == "bare" else 1.2
            )


def _carries(built: Built, index: int) -> bool:
    """Whether another building stands on this one."""
    building = built.buildings[index]
    return building.storeys == 1 and building.base_m >= 5.0
