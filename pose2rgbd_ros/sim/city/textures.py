"""The array of tiling textures: names, layers, and the order in which they are drawn."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.geometry.arrays import Float32, Int64, UInt8

SIZE = 256


def noise(
    rng: np.random.Generator, octaves: tuple[int, ...] = (4, 8, 16, 32, 64), gain: float = 0.6
) -> Float32:
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
