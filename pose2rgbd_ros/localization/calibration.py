"""What held-out frames taught about a checkpoint that finds poses: how wrong they may be, and which images are refused.

In localization.yaml and localization.safetensors beside the weights, as rendering/bounds.py has it for depth.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pose2rgbd_ros.localization.covariance import CovarianceModel
from pose2rgbd_ros.localization.gate import FeatureModel, Gate, KeyframeFeatures
from pose2rgbd_ros.localization.predict import CROPS
from pose2rgbd_ros.rendering.bounds import CalibrationFiles

FILES = CalibrationFiles("localization", "arrays_sha256")
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class LocalizerCalibration:
    """Of one checkpoint. crops: how many of each image are looked at, a key of predict.CROPS. true_accept: share of the
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
    values = {
        "crops": calibration.crops,
        "true_accept": calibration.true_accept,
        "limit": round(calibration.gate.limit, 4),
        "figures": calibration.figures,
    }
    FILES.save(directory, calibration.weights_sha256, values, arrays)


def load_localizer_calibration(directory: Path, weights_sha256: str) -> LocalizerCalibration | None:
    """The calibration of a checkpoint's folder; None without one. UserError as of :meth:`CalibrationFiles.load`."""
    return FILES.load(directory, weights_sha256, _from)


def _from(values: dict[str, Any], arrays: dict[str, np.ndarray]) -> LocalizerCalibration:
    parts: dict[str, Any] = {part: _part(kind, part, arrays) for part, kind in _PARTS.items()}
    if values["crops"] not in CROPS:
        raise ValueError(f"crops is {values['crops']!r}")
    return LocalizerCalibration(
        values["weights_sha256"], values["crops"], float(values["true_accept"]), **parts, figures=values["figures"]
    )


def _part(kind: type[T], part: str, arrays: dict[str, np.ndarray]) -> T:
    """A dataclass of arrays and numbers; ValueError for one that is not finite."""
    values: dict[str, Any] = {}
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]
        array = arrays[f"{part}.{item.name}"]
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{part}.{item.name} is not finite")
        values[item.name] = array if array.ndim else array.item()
    return kind(**values)
