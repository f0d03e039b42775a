"""What held-out frames taught about a checkpoint that finds poses: how wrong they may be, and which images are refused.

    localization.yaml          for people: on which frames, what was reached, the limits
    localization.safetensors   the arrays

Both lie in the checkpoint's folder and belong to one file of weights, as rendering/bounds.py has it for depth.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import save

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.localization.covariance import CovarianceModel
from pose2rgbd_ros.localization.gate import FeatureModel, Gate, KeyframeFeatures
from pose2rgbd_ros.localization.predict import CROPS
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training.checkpoint import read_safetensors

CALIBRATION_FILE = "localization.yaml"
ARRAYS_FILE = "localization.safetensors"
FORMAT_VERSION = 1
_AGAIN = "run pose2rgbd calibrate again"
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class LocalizerCalibration:
    """Of one checkpoint. crops: how many of each image are looked at, a key of reading.CROPS. true_accept: share of the
    held-out frames that the gate's limit lets pass. figures: what was measured, for people."""

    weights_sha256: str
    crops: int
    true_accept: float
    covariance: CovarianceModel
    gate: Gate
    features: FeatureModel
    memory: KeyframeFeatures
    figures: dict[str, Any] = field(default_factory=dict)


_PARTS = {"covariance": CovarianceModel, "gate": Gate, "features": FeatureModel, "memory": KeyframeFeatures}


def save_localizer_calibration(directory: Path, calibration: LocalizerCalibration) -> None:
    """Write both files into a checkpoint's folder; UserError when it cannot be written."""
    arrays = {
        f"{part}.{item.name}": np.asarray(getattr(getattr(calibration, part), item.name))
        for part, kind in _PARTS.items()
        for item in dataclasses.fields(kind)
    }
    data = save({name: torch.from_numpy(np.array(array, order="C")) for name, array in arrays.items()})
    values = {
        "format_version": FORMAT_VERSION,
        "weights_sha256": calibration.weights_sha256,
        "crops": calibration.crops,
        "true_accept": calibration.true_accept,
        "limit": round(calibration.gate.limit, 4),
        "figures": calibration.figures,
        "arrays_sha256": hashlib.sha256(data).hexdigest(),
    }
    try:
        temporary = directory / f".{ARRAYS_FILE}.tmp"
        temporary.write_bytes(data)
        temporary.replace(directory / ARRAYS_FILE)
        write_yaml(directory / CALIBRATION_FILE, values)
    except OSError as error:
        raise UserError(f"cannot write the calibration into {directory} ({error.strerror})") from error


def load_localizer_calibration(directory: Path, weights_sha256: str) -> LocalizerCalibration | None:
    """The calibration of a checkpoint's folder; None without one.

    Raises:
        UserError: it is damaged, of a newer format, or of other weights.
    """
    path = directory / CALIBRATION_FILE
    if not path.exists() and not (directory / ARRAYS_FILE).exists():
        return None
    values = read_yaml(path)
    if values.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{path}: format_version is {values.get('format_version')!r}, this program reads {FORMAT_VERSION}; {_AGAIN}"
        )
    if values.get("weights_sha256") != weights_sha256:
        raise UserError(f"{path} is of other weights than the checkpoint's; {_AGAIN}")
    tensors, arrays_sha256 = read_safetensors(directory / ARRAYS_FILE)
    if values.get("arrays_sha256") != arrays_sha256:
        raise UserError(f"{path} and {ARRAYS_FILE} are not of one calibration; {_AGAIN}")
    try:
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        parts: dict[str, Any] = {part: _part(kind, part, arrays) for part, kind in _PARTS.items()}
        if values["crops"] not in CROPS:
            raise ValueError(f"crops is {values['crops']!r}")
        return LocalizerCalibration(
            weights_sha256, values["crops"], float(values["true_accept"]), **parts, figures=values["figures"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}: {error}); {_AGAIN}") from error


def remove_localizer_calibration(directory: Path) -> None:
    """Delete the files, if any."""
    for name in (CALIBRATION_FILE, ARRAYS_FILE):
        (directory / name).unlink(missing_ok=True)


def _part(kind: type[T], part: str, arrays: dict[str, np.ndarray]) -> T:
    """A dataclass of arrays and numbers; ValueError for one that is not finite."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]
        array = arrays[f"{part}.{item.name}"]
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{part}.{item.name} is not finite")
        values[item.name] = array if array.ndim else array.item()
    return kind(**values)
