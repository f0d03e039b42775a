"""Faces become meshes; small things are modelled once; boxes and roofs stand over many rectangles at once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64, Int64, UInt8
from pose2rgbd_ros.sim.city.layout import Warp
from pose2rgbd_ros.sim.scene import Mesh


class MeshBuilder:
    """Faces of three or four corners, counter-clockwise seen from outside.

    Faces share no vertices, so each has its own normal, texture and colour.
    """

    def __init__(self) -> None:
        self._faces: dict[int, list[tuple[AnyArray, ...]]] = {3: [], 4: []}

    def add(
        self,
        corners_m: Float64,
        uv: Float64,
        layer: npt.ArrayLike,
        tint: npt.ArrayLike = 255,
        normal: Float64 | None = None,
    ) -> None:
        """Add N faces.

        Args:
            corners_m: (N, K, 3) with K of 3 or 4.
            uv: (N, K, 2).
            layer: texture of all faces, or (N,).
            tint: sRGB 0..255 of all faces (3,), or (N, 3), or of each corner (N, K, 3).
            normal: (N, K, 3) unit normals for smooth shading; flat ones when left out.
        """
        count, sides = corners_m.shape[:2]
        if not count:
            return
        if normal is None:
            normal = np.repeat(flat_normals(corners_m)[:, None], sides, axis=1)
        tint = np.asarray(tint, float)
        if tint.ndim == 2:
            tint = tint[:, None]
        self._faces[sides].append(
            (
                corners_m.astype(np.float32),
                normal.astype(np.float32),
                np.broadcast_to(uv, (count, sides, 2)).astype(np.float32),
                np.broadcast_to(np.asarray(layer, np.uint8), count),
                np.clip(np.rint(np.broadcast_to(tint, (count, sides, 3))), 0, 255).astype(np.uint8),
            )
        )

    def mesh(self) -> Mesh:
        """All faces in one mesh."""
        return self._meshes({sides: np.zeros(n, int) for sides, n in self._counts().items()})[0]

    def chunks(self, size_m: float) -> tuple[Mesh, ...]:
        """The faces sorted into the squares of a map grid, by their middle; squares are wider far from the origin."""
        keys = {}
        for sides, batches in self._faces.items():
            middle = [corners.mean(axis=1)[:, :2].astype(float) for corners, *_ in batches]
            keys[sides] = _square(np.concatenate(middle or [np.zeros((0, 2))]), size_m)
        return tuple(self._meshes(keys))

    def _counts(self) -> dict[int, int]:
        return {sides: sum(len(batch[0]) for batch in batches) for sides, batches in self._faces.items()}

    def _meshes(self, keys: dict[int, Int64]) -> list[Mesh]:
        """One mesh for each key, in the order of the keys."""
        sorted_faces = {}
        for sides, batches in self._faces.items():
            if batches:
                order = np.argsort(keys[sides], kind="stable")
                arrays = [np.concatenate(arrays)[order] for arrays in zip(*batches, strict=True)]
                sorted_faces[sides] = (keys[sides][order], arrays)
        every = np.unique(np.concatenate([key for key, _ in sorted_faces.values()]))
        meshes = []
        for key in every:
            parts = []
            for sides, (sorted_keys, arrays) in sorted_faces.items():
                low, high = np.searchsorted(sorted_keys, [key, key + 1])
                if high > low:
                    parts.append((sides, [array[low:high] for array in arrays]))
            meshes.append(_mesh(parts))
        return meshes


def flat_normals(corners_m: Float64) -> Float64:
    """Unit normals (N, 3) of faces (N, K, 3); of a quad, of its two diagonals."""
    last = corners_m.shape[1] - 1
    if last == 2:
        cross = np.cross(corners_m[:, 1] - corners_m[:, 0], corners_m[:, 2] - corners_m[:, 0])
    else:
        cross = np.cross(corners_m[:, 2] - corners_m[:, 0], corners_m[:, 3] - corners_m[:, 1])
    return cross / np.linalg.norm(cross, axis=-1, keepdims=True)


def _mesh(parts: list[tuple[int, list[AnyArray]]]) -> Mesh:
    columns: list[list[AnyArray]] = [[], [], [], [], [], []]
    start = 0
    for sides, (position, normal, uv, layer, tint) in parts:
        count = len(position)
        fan = np.array([[0, 1, 2], [0, 2, 3]][: sides - 2], np.uint32)
        first = (start + sides * np.arange(count, dtype=np.uint32))[:, None, None]
        start += sides * count
        columns[0].append(position.reshape(-1, 3))
        columns[1].append(normal.reshape(-1, 3))
        columns[2].append(uv.reshape(-1, 2))
        columns[3].append(np.repeat(layer, sides))
        columns[4].append(tint.reshape(-1, 3))
        columns[5].append((first + fan).reshape(-1, 3).astype(np.uint32))
    return Mesh(*(np.concatenate(column) for column in columns))


def _square(xy_m: Float64, size_m: float) -> Int64:
    """A number for the square of each point (N, 2): size_m wide near the origin, wider far out."""
    reach = np.abs(xy_m).max(axis=-1, initial=0.0)
    level = np.digitize(reach, [5 * size_m, 20 * size_m])
    size = size_m * 4.0**level
    column, row = np.floor(xy_m / size[:, None]).astype(int).T + 512
    return (level * 1024 + row) * 1024 + column


# The array of tiling textures: names, layers, and the order in which they are drawn.


SIZE = 256


def noise(rng: np.random.Generator, octaves: tuple[int, ...] = (4, 8, 16, 32, 64), gain: float = 0.6) -> Float32:
    """Tiling noise (SIZE, SIZE) of about unit spread: lattices of the given cells, each weaker by `gain`."""
    total: Float32 = np.zeros((SIZE, SIZE), np.float32)
    for power, cells in enumerate(octaves):
        total += gain**power * _lattice(rng, (cells, cells))
    return total / total.std()


def _lattice(rng: np.random.Generator, cells: tuple[int, int]) -> Float32:
    """Random values on a lattice (rows, columns), smoothly interpolated and tiling."""
    values = rng.standard_normal(cells).astype(np.float32)
    if max(cells) >= SIZE:
        return values
    pad = 2
    wrapped = np.pad(values, pad, mode="wrap")
    fine: Float32 = cv2.resize(  # type: ignore[assignment]
        wrapped,
        ((cells[1] + 2 * pad) * SIZE // cells[1], (cells[0] + 2 * pad) * SIZE // cells[0]),
        interpolation=cv2.INTER_CUBIC,
    )
    top, left = pad * SIZE // cells[0], pad * SIZE // cells[1]
    return fine[top : top + SIZE, left : left + SIZE]


def streaks(rng: np.random.Generator, cells: tuple[int, int]) -> Float32:
    """Noise that is drawn out along one axis: (rows, columns) of its lattice."""
    return _lattice(rng, cells)


def grain(rng: np.random.Generator) -> Float32:
    """Noise of single texels."""
    return rng.standard_normal((SIZE, SIZE)).astype(np.float32)


def flat(rgb: npt.ArrayLike) -> Float32:
    """A texture (SIZE, SIZE, 3) of one colour, to draw on."""
    return np.full((SIZE, SIZE, 3), np.asarray(rgb, np.float32), np.float32)


def shade(texture: Float32, amount: npt.ArrayLike) -> Float32:
    """Brighten by a share, per texel."""
    return np.asarray(texture * (1 + np.asarray(amount, np.float32)[..., None]), np.float32)


class TextureArray:
    """Named layers; layer 0 is white."""

    def __init__(self) -> None:
        self._layers: list[UInt8] = [np.full((SIZE, SIZE, 3), 255, np.uint8)]
        self._number: dict[str, int] = {"white": 0}

    def put(self, name: str, texture: Float32) -> None:
        """Add a texture (SIZE, SIZE, 3), sRGB 0..255."""
        self._number[name] = len(self._layers)
        self._layers.append(np.clip(np.rint(texture), 0, 255).astype(np.uint8))

    def __getitem__(self, name: str) -> int:
        return self._number[name]

    def each(self, names: list[str]) -> Int64:
        """The layers of several names."""
        return np.array([self._number[name] for name in names])

    def names(self, prefix: str) -> list[str]:
        """All names that begin with `prefix`, in order of their layers."""
        return [name for name in self._number if name.startswith(prefix)]

    def array(self) -> UInt8:
        """All layers (L, SIZE, SIZE, 3)."""
        return np.stack(self._layers)


# Small things modelled once and set down many times: cars, people, trees.


@dataclass
class Shape:
    """Faces in a frame of their own: x forward, y left, z up, origin on the ground below the middle.

    Each part: faces (F, K, 3), uv (F, K, 2), layers (F,), colours (F, K, 3) as shares of the tint of the instance where
    `tinted`, and vertex normals (F, K, 3).
    """

    parts: list[tuple[Float64, Float64, AnyArray, Float64, bool, Float64]] = field(default_factory=list)

    def add(
        self,
        faces: Float64,
        uv: npt.ArrayLike,
        layer: npt.ArrayLike,
        colour: npt.ArrayLike = 1.0,
        tinted: bool = True,
        normals: Float64 | None = None,
    ) -> None:
        """Add faces; flat normals when none are given."""  # fmt: skip
        count, sides = faces.shape[:2]
        if normals is None:
            normals = np.repeat(flat_normals(faces)[:, None], sides, axis=1)
        self.parts.append(
            (
                faces,
                np.broadcast_to(np.asarray(uv, float), (count, sides, 2)),
                np.broadcast_to(layer, count),
                np.broadcast_to(np.asarray(colour, float), (count, sides, 3)),
                tinted,
                normals,
            )
        )

    def place(self, builder: MeshBuilder, T: Float64, tint: Float64) -> None:
        """Set down one instance for each affine transform (N, 4, 4), in the colours (N, 3)."""
        if not len(T):
            return
        linear, shift = T[:, :3, :3], T[:, :3, 3]
        turned = np.linalg.inv(linear).transpose(0, 2, 1)
        for faces, uv, layer, colour, tinted, normals in self.parts:
            count, sides = faces.shape[:2]
            at = np.einsum("nij,fkj->nfki", linear, faces) + shift[:, None, None]
            normal = np.einsum("nij,fkj->nfki", turned, normals)
            normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
            flat = flat_normals(at.reshape(-1, sides, 3)).reshape(len(T), count, 1, 3)
            # Stretching may turn a round normal away from its face; there the flat one is kept.
            normal = np.where((normal * flat).sum(axis=-1, keepdims=True) > 0.1, normal, flat)
            colours = colour * (tint[:, None, None] if tinted else np.full((len(T), 1, 1, 1), 255.0))
            total = len(T) * count
            builder.add(
                at.reshape(total, sides, 3),
                np.tile(uv, (len(T), 1, 1)),
                np.tile(layer, len(T)),
                colours.reshape(total, sides, 3),
                normal.reshape(total, sides, 3),
            )


_SIDES = ((0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7), (4, 5, 6, 7))  # and the lid; no floor


def frustum(
    low: tuple[float, float, float, float], foot: float, high: tuple[float, float, float, float], top: float
) -> Float64:
    """Five faces (5, 4, 3) of a box whose lid differs from its floor: right, front, left, back, lid. Sides x0, y0,
    x1, y1.
    """
    corners = [
        (rect[i], rect[j], z) for rect, z in ((low, foot), (high, top)) for i, j in ((0, 1), (2, 1), (2, 3), (0, 3))
    ]
    return np.array(corners, float)[np.array(_SIDES)]


UNIT_UV = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
CAR_TINTS = np.array(
    [(238, 238, 236), (196, 200, 204), (120, 124, 130), (44, 46, 50), (28, 30, 34), (150, 34, 36), (44, 72, 120),
     (226, 226, 220), (90, 98, 88), (178, 164, 138), (64, 96, 110), (206, 210, 212)], float
)  # fmt: skip

COAT_TINTS = np.array(
    [(38, 40, 48), (62, 70, 92), (120, 40, 44), (196, 186, 168), (88, 98, 76), (150, 120, 84), (210, 210, 206),
     (70, 110, 140), (190, 150, 60), (110, 84, 100)], float
)  # fmt: skip


def car(textures: TextureArray, van: bool = False) -> Shape:
    """A car of 4.4 m, or a van of 5.0 m."""
    shape = Shape()
    if van:
        body = frustum((-2.5, -0.92, 2.5, 0.92), -0.05, (-2.48, -0.9, 2.35, 0.9), 1.05)
        cabin = frustum((-2.42, -0.84, 2.05, 0.84), 1.00, (-2.36, -0.78, 1.35, 0.78), 2.05)
    else:
        body = frustum((-2.2, -0.88, 2.2, 0.88), -0.05, (-2.12, -0.86, 2.08, 0.86), 0.86)
        cabin = frustum((-1.95, -0.82, 1.05, 0.82), 0.80, (-1.35, -0.66, 0.35, 0.66), 1.45)
    side, end, glass = textures["car_side"], textures["car_end"], textures["car_glass"]
    mirrored = UNIT_UV * [-1, 1] + [1, 0]
    uv = np.stack([UNIT_UV, UNIT_UV, mirrored, UNIT_UV, UNIT_UV])
    shape.add(body, uv, np.array([side, end, side, end, 0]))
    if van:  # only the front of a van is of glass
        shape.add(cabin[[0, 2, 3, 4]], UNIT_UV, 0)
        shape.add(cabin[[1]], UNIT_UV, glass, tinted=False)
    else:
        shape.add(cabin[:4], UNIT_UV, glass, tinted=False)
        shape.add(cabin[4:], UNIT_UV, 0)
    return shape


def person(textures: TextureArray) -> Shape:
    """A walker of 1.75 m; the tint is that of the coat."""
    shape = Shape()
    for y in (-0.1, 0.1):
        forward = 0.16 if y > 0 else -0.16
        shape.add(
            frustum((forward - 0.1, y - 0.07, forward + 0.12, y + 0.07), 0.0, (-0.08, y - 0.08, 0.08, y + 0.08), 0.86),
            UNIT_UV, 0, np.array([52, 56, 70]) / 255, tinted=False,
        )  # fmt: skip
    shape.add(frustum((-0.13, -0.2, 0.13, 0.2), 0.82, (-0.12, -0.24, 0.12, 0.24), 1.46), UNIT_UV, 0)
    shape.add(
        frustum((-0.09, -0.08, 0.1, 0.08), 1.45, (-0.08, -0.07, 0.08, 0.07), 1.75),
        UNIT_UV, 0, np.array([196, 156, 130]) / 255, tinted=False,
    )  # fmt: skip
    return shape


def broad_tree(textures: TextureArray, rng: np.random.Generator, sides: int = 6) -> Shape:
    """A crown of unit radius and a trunk; scaled when set down."""
    shape = Shape()
    rings = [(0.78, 0.98), (0.90, 1.64)]  # radius, height
    _crown(shape, rings, (0.70, 2.32), sides, 1.0, textures["leaves"], rng)
    _trunk(shape, 0.09, 0.85, textures["bark"])
    return shape


def conifer(textures: TextureArray, rng: np.random.Generator) -> Shape:
    """Two stacked cones."""
    shape = Shape()
    for low, high, radius in ((0.35, 2.3, 1.0), (1.5, 3.4, 0.7)):
        _crown(shape, [(radius, low)], (low + 0.15, high), 5, 1.0, textures["needles"], rng)
    _trunk(shape, 0.1, 0.6, textures["bark"])
    return shape


def bare_tree(textures: TextureArray, rng: np.random.Generator) -> Shape:
    """Trunk and boughs of a tree in winter."""
    shape = Shape()
    _trunk(shape, 0.09, 1.25, textures["bark"])
    for bough in range(11):
        angle, lean = 2.4 * bough + rng.uniform(-0.4, 0.4), rng.uniform(0.35, 0.95)
        begin = np.array([0, 0, rng.uniform(0.7, 1.25)])
        along = np.array([np.cos(angle) * lean, np.sin(angle) * lean, rng.uniform(0.6, 1.05)])
        _spike(shape, begin, begin + along, 0.05, textures["bark"])
    return shape


def _crown(
    shape: Shape,
    rings: list[tuple[float, float]],
    poles: tuple[float, float],
    sides: int,
    tall: float,
    layer: int,
    rng: np.random.Generator,
) -> None:
    """A lumpy closed body around the z axis: a pole, rings of vertices, a pole; darker below."""  # fmt: skip
    turn = 2 * np.pi * np.arange(sides) / sides
    height = [poles[0], *(h for _, h in rings), poles[1]]
    lumps = []
    for k, (radius, z) in enumerate(rings):
        r = radius * rng.uniform(0.82, 1.12, sides)
        a = turn + 0.5 * k * np.pi / sides * 2
        lumps.append(np.stack([r * np.cos(a), r * np.sin(a), z + rng.uniform(-0.07, 0.07, sides)], axis=-1))
    first, last = np.array([0, 0, poles[0]]), np.array([0.0, 0, poles[1]])
    scale = np.array([1, 1, tall])
    following = np.roll(np.arange(sides), -1)
    faces = [np.stack([np.broadcast_to(first, (sides, 3)), lumps[0][following], lumps[0]], axis=1)]
    for a, b in itertools.pairwise(lumps):
        faces.append(np.stack([a, a[following], b], axis=1))
        faces.append(np.stack([a[following], b[following], b], axis=1))
    faces.append(np.stack([lumps[-1], lumps[-1][following], np.broadcast_to(last, (sides, 3))], axis=1))
    triangles = np.concatenate(faces) * scale
    middle = np.array([0, 0, (height[0] + height[-1]) / 2]) * scale
    outward = triangles - middle
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    normals = 0.75 * outward + 0.25 * flat_normals(triangles)[:, None]
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    flat = np.repeat(flat_normals(triangles)[:, None], 3, axis=1)
    share = (triangles[..., 2] / tall - height[0]) / (height[-1] - height[0])
    # Each face is painted from the axis that it faces most.
    drop = np.abs(flat[:, 0]).argmax(axis=-1)
    axes = np.array([[1, 2], [0, 2], [0, 1]])[drop]
    uv = 0.55 * np.take_along_axis(triangles, np.repeat(axes[:, None], 3, axis=1), axis=-1)
    shape.add(triangles, uv, layer, (0.62 + 0.42 * share)[..., None], normals=normals)


def _trunk(shape: Shape, radius: float, height: float, layer: int) -> None:
    """Three sides, reaching into the ground and into the crown."""
    turn = 2 * np.pi * np.arange(3) / 3
    foot = np.stack([radius * np.cos(turn), radius * np.sin(turn), np.full(3, -0.12)], axis=-1)
    top = foot * [0.7, 0.7, 0] + [0, 0, height]
    following = [1, 2, 0]
    faces = np.stack([foot, foot[following], top[following], top], axis=1)
    shape.add(faces, UNIT_UV * [0.3, 1], layer, 0.9, tinted=False)


def _spike(shape: Shape, begin: Float64, end: Float64, radius: float, layer: int) -> None:
    along = (end - begin) / np.linalg.norm(end - begin)
    side = np.cross(along, [0.3, 0.2, 1.0])
    side /= np.linalg.norm(side)
    other = np.cross(along, side)
    turn = 2 * np.pi * np.arange(3) / 3
    foot = begin + radius * (np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * other)
    faces = np.stack([foot, foot[[1, 2, 0]], np.broadcast_to(end, (3, 3))], axis=1)
    shape.add(faces, UNIT_UV[:3] * [0.2, 2], layer, 0.95, tinted=False)


# Boxes and roofs over rectangles of the plan, many at a time.


class Solids:
    """Adds solids to a builder. Rectangles are (N, 4): x and y of the low corner, then of the high one, on the plan."""

    def __init__(self, builder: MeshBuilder, warp: Warp) -> None:
        self._builder, self._warp = builder, warp

    def at(self, plan: Float64, z_m: npt.ArrayLike) -> Float64:
        """Points of the plan (..., 2), lifted to a height (...,) of the map: (..., 3)."""
        z = np.broadcast_to(np.asarray(z_m, float), plan.shape[:-1])
        return np.concatenate([self._warp.to_map(plan), z[..., None]], axis=-1)

    def ring(self, rects: Float64, z_m: npt.ArrayLike) -> Float64:
        """The corners (N, 4, 3) of rectangles at heights (N,), counter-clockwise from above."""
        return self.at(corners(rects), np.broadcast_to(np.asarray(z_m, float), len(rects))[:, None])

    def band(
        self,
        low: Float64,
        high: Float64,
        uv: Float64,
        layer: npt.ArrayLike,
        tint: npt.ArrayLike,
        sides: AnyArray | None = None,
    ) -> None:
        """Four faces between two rings (N, 4, 3), looking outwards.

        `uv` (N, 4, 4): for each side u at its begin and end, v at its foot and top. `layer` (N, 4) or one, `tint` (N,
        3). `sides` (N, 4) says which sides are wanted.
        """
        following = [1, 2, 3, 0]
        faces = np.stack([low, low[:, following], high[:, following], high], axis=2)
        coordinates = np.stack([uv[..., [0, 2]], uv[..., [1, 2]], uv[..., [1, 3]], uv[..., [0, 3]]], axis=2)
        count = len(low)
        layers = (
            np.broadcast_to(layer, (count, 4)) if np.ndim(layer) != 1 else np.repeat(np.asarray(layer)[:, None], 4, 1)
        )
        tints = np.repeat(np.broadcast_to(np.asarray(tint, float), (count, 3))[:, None], 4, axis=1)
        keep = np.ones((count, 4), bool) if sides is None else sides
        self._builder.add(faces[keep], coordinates[keep], layers[keep], tints[keep])

    def lid(self, ring: Float64, layer: npt.ArrayLike, tint: npt.ArrayLike, tile_m: float = 4.0) -> None:
        """A face over each ring (N, 4, 3), looking up; its texture lies along the first side."""
        self._builder.add(ring, along_first(ring, tile_m), layer, tint)

    def boxes(
        self,
        rects: Float64,
        foot_m: npt.ArrayLike,
        top_m: npt.ArrayLike,
        layer: npt.ArrayLike,
        tint: npt.ArrayLike,
        lid: npt.ArrayLike | None = None,
        tile_m: float = 4.0,
    ) -> None:
        """Boxes without floors."""  # fmt: skip
        if not len(rects):
            return
        low, high = self.ring(rects, foot_m), self.ring(rects, top_m)
        self.band(low, high, metric_uv(low, high, tile_m), layer, tint)
        self.lid(high, layer if lid is None else lid, tint, tile_m)

    def gables(
        self,
        rects: Float64,
        foot_m: Float64,
        rise_m: Float64,
        along_x: AnyArray,
        layer: npt.ArrayLike,
        tint: Float64,
        gable_layer: npt.ArrayLike,
        gable_tint: Float64,
        tile_m: float = 4.0,
    ) -> None:
        """Closed saddle roofs, their ridges along x or y of the plan."""  # fmt: skip
        self._roofs(rects, foot_m, rise_m, along_x, np.zeros(len(rects)), layer, tint, gable_layer, gable_tint, tile_m)

    def hips(
        self, rects: Float64, foot_m: Float64, rise_m: Float64, layer: npt.ArrayLike, tint: Float64, tile_m: float = 4.0
    ) -> None:
        """Closed hip roofs, their ridges along the longer side; over squares they end in a point."""
        size = rects[:, 2:] - rects[:, :2]
        inset = size.min(axis=1) / 2
        along_x = size[:, 0] >= size[:, 1]
        self._roofs(rects, foot_m, rise_m, along_x, inset, layer, tint, layer, tint, tile_m)

    def _roofs(
        self, rects: Float64, foot_m: Float64, rise_m: Float64, along_x: AnyArray, inset: Float64, layer: npt.ArrayLike,
        tint: Float64, end_layer: npt.ArrayLike, end_tint: Float64, tile_m: float,
    ) -> None:  # fmt: skip
        if not len(rects):
            return
        # Turned so that the ridge runs from the middle of side 3 to the middle of side 1.
        turned = np.where(np.asarray(along_x)[:, None, None], corners(rects), np.roll(corners(rects), -1, axis=1))
        foot = self.at(turned, foot_m[:, None])
        begin, end = (turned[:, 0] + turned[:, 3]) / 2, (turned[:, 1] + turned[:, 2]) / 2
        length = np.linalg.norm(end - begin, axis=-1)
        share = np.minimum(inset / length, 0.499)[:, None]  # a point is a very short ridge, so that no face collapses
        ridge = self.at(
            np.stack([begin + share * (end - begin), end - share * (end - begin)], axis=1), (foot_m + rise_m)[:, None]
        )
        slopes = np.concatenate(
            [
                np.stack([foot[:, 0], foot[:, 1], ridge[:, 1], ridge[:, 0]], axis=1),
                np.stack([foot[:, 2], foot[:, 3], ridge[:, 0], ridge[:, 1]], axis=1),
            ]
        )
        self._builder.add(slopes, along_first(slopes, tile_m), _twice(layer), _twice(tint))
        ends = np.concatenate(
            [
                np.stack([foot[:, 1], foot[:, 2], ridge[:, 1]], axis=1),
                np.stack([foot[:, 3], foot[:, 0], ridge[:, 0]], axis=1),
            ]
        )
        self._builder.add(ends, along_first(ends, tile_m), _twice(end_layer), _twice(end_tint))
        floor = foot[:, ::-1]
        self._builder.add(floor, along_first(floor, tile_m), 0, 150)


def corners(rects: Float64) -> Float64:
    """(N, 4, 2), counter-clockwise from the low corner."""
    return rects[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)


def grown(rects: Float64, by_m: npt.ArrayLike) -> Float64:
    """Rectangles moved outwards on all sides; inwards with a negative length."""
    by = np.broadcast_to(np.asarray(by_m, float), len(rects))[:, None]
    return rects + by * [-1, -1, 1, 1]


def side_lengths(ring: Float64) -> Float64:
    """(N, 4) of a ring (N, 4, 3)."""
    return np.linalg.norm(np.roll(ring, -1, axis=1) - ring, axis=-1)


def metric_uv(low: Float64, high: Float64, tile_m: float) -> Float64:
    """uv of a band (N, 4, 4): lengths in tiles."""
    length = side_lengths(low) / tile_m
    height = np.linalg.norm(high - low, axis=-1) / tile_m
    zero = np.zeros_like(length)
    return np.stack([zero, length, zero, height], axis=-1)


def along_first(faces: Float64, tile_m: float) -> Float64:
    """Texture coordinates (N, K, 2) in the planes of faces (N, K, 3): u along the first side, v up from it."""
    first = faces[:, 1] - faces[:, 0]
    u = first / np.linalg.norm(first, axis=-1, keepdims=True)
    out = np.cross(first, faces[:, -1] - faces[:, 0])
    v = np.cross(out, u)
    v /= np.linalg.norm(v, axis=-1, keepdims=True)
    from_first = faces - faces[:, :1]
    return np.stack([np.einsum("nkc,nc->nk", from_first, a) for a in (u, v)], axis=-1) / tile_m


def _twice(values: npt.ArrayLike) -> AnyArray:
    array = np.asarray(values)
    return np.concatenate([array, array]) if array.ndim else array
