"""Bounds of a predicted depth, pixel by pixel, from a table over what sets an easy pixel apart from a difficult one.

A pixel falls into a cell by four features: the model's confidence, how depth varies around it (silhouettes are where
errors sit), depth itself, and the pose's score. A cell holds two shares of depth: how much nearer and how much farther
the surface may be. A cell of which held-out frames say nothing, or nothing good, is unknown: NaN.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from safetensors.numpy import save

from pose2rgbd_ros.dataset.layout import atomic_write
from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.geometry.arrays import Float32
from pose2rgbd_ros.models.backends import compiled
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training.checkpoint import read_safetensors

FEATURES = ("confidence", "spread", "depth", "score")
SPREAD_RADIUS_PX = 2  # at the size calibrated; at others the same angle


@dataclass(frozen=True)
class IntervalTable:
    """Edges between the cells and what each cell says.

    edges: of each of FEATURES, ascending; n edges make n + 1 cells. lower, upper: shares of depth >= 0, of the shape
    that the edges make; NaN where the cell is unknown. farthest: a depth beyond it is unknown.
    focal_px: of the camera calibrated with, for the size of the neighbourhood.
    """

    edges: tuple[Float32, ...]
    lower: Float32
    upper: Float32
    farthest: float
    focal_px: float

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(edges) + 1 for edges in self.edges)

    def bound(
        self,
        depth: Float32,
        confidence: Float32 | None,
        score: float,
        focal_px: float,
        lower: Float32,
        upper: Float32,
        forget: bool = True,
    ) -> None:
        """Fill `lower` and `upper` (H, W) for a depth (H, W); where a pixel is unknown all three become NaN and
        its confidence 0.

        confidence (H, W) is None of a model without. With `forget` false depth stays, and where a
        pixel is unknown the bounds are the widest there are: 0 and infinity.
        """
        spread = depth_spread(depth, radius_px(focal_px, self.focal_px))
        flat = (self.lower.reshape(-1), self.upper.reshape(-1))
        at_score = int(np.searchsorted(self.edges[3], score, side="right"))
        of_pixel = (depth, np.zeros((0, 0), np.float32) if confidence is None else confidence, spread)
        fill_bounds(*of_pixel, at_score, self.edges, *flat, np.float32(self.farthest), forget, lower, upper)


def radius_px(focal_px: float, calibrated_focal_px: float) -> int:
    """The neighbourhood's radius in pixels of a camera: the angle it had when calibrated."""
    if not (focal_px > 0 and calibrated_focal_px > 0):
        return SPREAD_RADIUS_PX
    return int(np.clip(round(SPREAD_RADIUS_PX * focal_px / calibrated_focal_px), 1, 32))


def depth_spread(depth: Float32, radius: int) -> Float32:
    """(H, W): the range of known depth in the square of `radius` around each pixel, as a share of its depth."""
    window = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    unknown = np.isnan(depth)
    farthest = cv2.dilate(np.where(unknown, np.float32(-np.inf), depth), window)
    nearest = cv2.erode(np.where(unknown, np.float32(np.inf), depth), window)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray((farthest - nearest) / np.maximum(depth, np.float32(1e-3)), np.float32)


def cells_of(edges: tuple[Float32, ...], features: tuple[Float32, ...]) -> np.ndarray:
    """Number (N,) of the cell of pixels by their features, each (N,); the same as the compiled way."""
    at = [np.searchsorted(edge, values, side="right") for edge, values in zip(edges, features, strict=True)]
    return np.asarray(np.ravel_multi_index(at, tuple(len(edge) + 1 for edge in edges)), np.int32)


@compiled
def place(edges, value):
    """How many of the ascending edges are at or below a value."""
    number = 0
    for edge in edges:
        if value >= edge:
            number += 1
    return number


@compiled
def fill_bounds(depth, confidence, spread, at_score, edges, lower_share, upper_share, farthest, forget, lower, upper):
    """See :meth:`IntervalTable.bound`; confidence of no rows is that of a model without."""
    of_confidence, of_spread, of_depth, of_score = edges
    nan, none, inf = np.float32(np.nan), np.float32(0), np.float32(np.inf)
    for y in range(depth.shape[0]):
        for x in range(depth.shape[1]):
            z = depth[y, x]
            if np.isnan(z):
                lower[y, x] = upper[y, x] = nan
                continue
            cell = place(of_confidence, confidence[y, x] if len(confidence) else none)
            cell = cell * (len(of_spread) + 1) + place(of_spread, spread[y, x])
            cell = cell * (len(of_depth) + 1) + place(of_depth, z)
            cell = cell * (len(of_score) + 1) + at_score
            down, up = lower_share[cell], upper_share[cell]
            if z <= farthest and not np.isnan(down):
                lower[y, x], upper[y, x] = max(z - z * down, none), z + z * up
            elif forget:
                depth[y, x] = lower[y, x] = upper[y, x] = nan
                if len(confidence):
                    confidence[y, x] = none
            else:
                lower[y, x], upper[y, x] = none, inf


# What held-out data taught about a checkpoint: how far its poses and its depth can be trusted.


FORMAT_VERSION = 1
T = TypeVar("T")


@dataclass(frozen=True)
class CalibrationFiles:
    """What a calibration leaves in a checkpoint's folder: NAME.yaml for people, NAME.safetensors with the arrays.

    Both belong to one file of weights; training anew makes a new folder, without them. docs/uncertainty.md says what
    the figures mean. `arrays_key` is the arrays' SHA-256 in the other file.
    """

    name: str
    arrays_key: str

    @property
    def yaml(self) -> str:
        return f"{self.name}.yaml"

    @property
    def arrays(self) -> str:
        return f"{self.name}.safetensors"

    def save(
        self, directory: Path, weights_sha256: str, values: dict[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> None:
        """Write both; UserError when that fails. The arrays come first, so that halves of two calibrations show."""
        data = save({name: np.array(array, order="C") for name, array in arrays.items()})
        head = {"format_version": FORMAT_VERSION, "weights_sha256": weights_sha256}
        with os_errors(f"cannot write the calibration into {directory}"):
            atomic_write(directory / self.arrays, data)
            write_yaml(directory / self.yaml, head | values | {self.arrays_key: hashlib.sha256(data).hexdigest()})

    def load(
        self, directory: Path, weights_sha256: str, build: Callable[[dict[str, Any], dict[str, np.ndarray]], T]
    ) -> T | None:
        """What `build` makes of values and arrays; None where there is no calibration.

        Raises:
            UserError: it is damaged (KeyError, TypeError or ValueError of `build`), of a newer format, or of other
                weights.
        """
        path, again = directory / self.yaml, "run pose2rgbd calibrate again"
        if not path.exists() and not (directory / self.arrays).exists():
            return None
        values = read_yaml(path)
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise UserError(f"{path}: format_version is {version!r}, this program reads {FORMAT_VERSION}; {again}")
        if values.get("weights_sha256") != weights_sha256:
            raise UserError(f"{path} is of other weights than the checkpoint's; {again}")
        arrays, arrays_sha256 = read_safetensors(directory / self.arrays)
        if values.get(self.arrays_key) != arrays_sha256:
            raise UserError(f"{path} and {self.arrays} are not of one calibration; {again}")
        try:
            return build(values, arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is damaged ({type(error).__name__}: {error}); {again}") from error

    def remove(self, directory: Path) -> None:
        """Delete both, if there."""
        for name in (self.yaml, self.arrays):
            (directory / name).unlink(missing_ok=True)


FILES = CalibrationFiles("calibration", "tables_sha256")


@dataclass(frozen=True)
class Calibration:
    """Of one checkpoint.

    level: the share of known depths that the interval should hold. false_safe: the largest share of known pixels whose
    lower bound may exceed the truth by `margin_m`. guard_limit: of the pose's score (trust.py), above which depth
    is unknown. distance_m: the typical depth that the score counts turns by. depth_unit_m: of the model's depth.
    figures: what was measured, for people.
    """

    weights_sha256: str
    level: float
    false_safe: float
    margin_m: float
    guard_limit: float
    distance_m: float
    table: IntervalTable
    figures: dict[str, Any] = field(default_factory=dict)


_NUMBERS = ("level", "false_safe", "margin_m", "guard_limit", "distance_m")


def save_calibration(directory: Path, calibration: Calibration) -> None:
    """Write it into a checkpoint's folder; UserError when it cannot be written."""
    table, names = calibration.table, (*_NUMBERS, "figures")
    edges = {f"edges_{name}": edges for name, edges in zip(FEATURES, table.edges, strict=True)}
    values = {name: getattr(calibration, name) for name in names}
    values |= {"farthest": table.farthest, "focal_px": table.focal_px}
    FILES.save(directory, calibration.weights_sha256, values, edges | {"lower": table.lower, "upper": table.upper})


def load_calibration(directory: Path, weights_sha256: str) -> Calibration | None:
    """The calibration of a checkpoint's folder; None without one. UserError as of `CalibrationFiles.load`."""
    return FILES.load(directory, weights_sha256, _from)


def _from(values: dict[str, Any], arrays: dict[str, np.ndarray]) -> Calibration:
    edges = tuple(arrays[f"edges_{name}"].astype(np.float32) for name in FEATURES)
    numbers = {name: float(values[name]) for name in _NUMBERS}
    shape = tuple(len(edge) + 1 for edge in edges)
    lower, upper = (arrays[name].astype(np.float32).reshape(shape) for name in ("lower", "upper"))
    table = IntervalTable(edges, lower, upper, float(values["farthest"]), float(values["focal_px"]))
    if not all(np.isfinite(value) for value in numbers.values()) or (lower < 0).any() or (upper < 0).any():
        raise ValueError("a figure is not finite, or a bound is on the wrong side of depth")
    return Calibration(values["weights_sha256"], **numbers, table=table, figures=values["figures"])
