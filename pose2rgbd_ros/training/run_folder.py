"""The folder of a training run: settings, metrics, TensorBoard, and whether it may be started or resumed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training.config import TrainConfig, resolved

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.csv"
CHECKPOINT = "checkpoint"
LAST = "last"
# What may differ between a run and its continuation: where and how long, not what is learnt.
FREE_ON_RESUME = {
    "epochs",
    "max_minutes",
    "device",
    "precision",
    "tensorboard",
    "validate_every",
    "early_stop",
}


def prepare_run_folder(out: Path, dataset: Path, config: TrainConfig, resume: bool) -> None:
    """Make the folder and write config.yaml, or check that a resumed run is the same run.

    Raises:
        UserError: the folder holds a run and `resume` is not set, or holds another run than the resumed one.
    """
    file = out / CONFIG_FILE
    values = {"dataset": str(dataset), **resolved(config)}
    if not resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(
                f"{out} exists and is not empty; continue that run with --resume, or choose another --out"
            )
        out.mkdir(parents=True, exist_ok=True)
        write_yaml(file, values)
        return
    before = with_defaults(read_yaml(file))
    for name, value in values.items():
        if name not in FREE_ON_RESUME | {"dataset"} and before.get(name, value) != value:
            raise UserError(
                f"{out} was started with {name}={before.get(name)}, now it is {value}; resume with the same settings"
            )
    write_yaml(file, values)


def with_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """The settings of an earlier run, those that came later than it at their defaults: so it was trained."""
    return _filled(values, resolved(TrainConfig()))


def _filled(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    parts = {
        name: _filled(value, defaults[name])
        for name, value in values.items()
        if isinstance(value, dict) and isinstance(defaults.get(name), dict)
    }
    return {**defaults, **values, **parts}


class RunLog:
    """One row a validation in metrics.csv and, where wanted, the same in TensorBoard."""

    def __init__(self, out: Path, tensorboard: bool) -> None:
        self._file = out / METRICS_FILE
        self._writer: Any = None
        if tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(out / "tb"))

    def add(self, step: int, values: dict[str, float]) -> None:
        """Append one row; the first one brings the header."""
        is_new = not self._file.exists()
        with self._file.open("a", newline="") as stream:
            writer = csv.writer(stream)
            if is_new:
                writer.writerow(["step", *values])
            writer.writerow([step, *(f"{value:.6g}" for value in values.values())])
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush TensorBoard."""
        if self._writer is not None:
            self._writer.close()
