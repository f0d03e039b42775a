"""What held-out data taught about a checkpoint: how far its poses and its depth can be trusted.

    calibration.yaml          for people: on which frames, what was reached, the limits
    calibration.safetensors   the tables

Both lie in the checkpoint's folder and belong to one file of weights; whoever trains anew makes a new folder, without
them. docs/uncertainty.md says what the figures mean.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.rendering.intervals import FEATURES, IntervalTable
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training.checkpoint import read_safetensors

CALIBRATION_FILE = "calibration.yaml"
TABLES_FILE = "calibration.safetensors"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Calibration:
    """Of one checkpoint.

    level: the share of known depths that the interval should hold. false_safe: the largest share of known pixels whose
    lower bound may exceed the truth by `margin_m`. guard_limit: of the pose's score (pose_score.py), above which depth
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


def save_calibration(directory: Path, calibration: Calibration) -> None:
    """Write both files into a checkpoint's folder; UserError when it cannot be written.

    The tables come first: their SHA-256 is in the other file, so that halves of two calibrations are told.
    """
    table = calibration.table
    arrays = {f"edges_{name}": edges for name, edges in zip(FEATURES, table.edges, strict=True)}
    arrays.update(lower=table.lower, upper=table.upper)
    data = save({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()})
    values = {
        "format_version": FORMAT_VERSION,
        "weights_sha256": calibration.weights_sha256,
        "level": calibration.level,
        "false_safe": calibration.false_safe,
        "margin_m": calibration.margin_m,
        "guard_limit": calibration.guard_limit,
        "distance_m": calibration.distance_m,
        "farthest": table.farthest,
        "focal_px": table.focal_px,
        "figures": calibration.figures,
        "tables_sha256": hashlib.sha256(data).hexdigest(),
    }
    try:
        temporary = directory / f".{TABLES_FILE}.tmp"
        temporary.write_bytes(data)
        temporary.replace(directory / TABLES_FILE)
        write_yaml(directory / CALIBRATION_FILE, values)
    except OSError as error:
        raise UserError(f"cannot write the calibration into {directory} ({error.strerror})") from error


def load_calibration(directory: Path, weights_sha256: str) -> Calibration | None:
    """The calibration of a checkpoint's folder; None without one.

    Raises:
        UserError: it is damaged, of a newer format, or of other weights.
    """
    path = directory / CALIBRATION_FILE
    if not path.exists() and not (directory / TABLES_FILE).exists():
        return None
    values = read_yaml(path)
    if values.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{path}: format_version is {values.get('format_version')!r}, this program reads {FORMAT_VERSION}; "
            "run pose2rgbd calibrate again"
        )
    if values.get("weights_sha256") != weights_sha256:
        raise UserError(f"{path} is of other weights than the checkpoint's; run pose2rgbd calibrate again")
    tensors, tables_sha256 = read_safetensors(directory / TABLES_FILE)
    if values.get("tables_sha256") != tables_sha256:
        raise UserError(f"{path} and {TABLES_FILE} are not of one calibration; run pose2rgbd calibrate again")
    try:
        return _from(values, {name: tensor.numpy() for name, tensor in tensors.items()})
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {error}); run pose2rgbd calibrate again"
        ) from error


def _from(values: dict[str, Any], arrays: dict[str, np.ndarray]) -> Calibration:
    edges = tuple(arrays[f"edges_{name}"].astype(np.float32) for name in FEATURES)
    numbers = {
        name: float(values[name]) for name in ("level", "false_safe", "margin_m", "guard_limit", "distance_m")
    }
    shape = tuple(len(edge) + 1 for edge in edges)
    lower, upper = (arrays[name].astype(np.float32).reshape(shape) for name in ("lower", "upper"))
    table = IntervalTable(edges, lower, upper, float(values["farthest"]), float(values["focal_px"]))
    if not all(np.isfinite(value) for value in numbers.values()) or (lower < 0).any() or (upper < 0).any():
        raise ValueError("a figure is not finite, or a bound is on the wrong side of depth")
    return Calibration(values["weights_sha256"], **numbers, table=table, figures=values["figures"])
