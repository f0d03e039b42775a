"""Collects faces and hands them out as meshes."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64, Int64, UInt8
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
