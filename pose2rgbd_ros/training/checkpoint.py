"""Checkpoints are data, never code: YAML and safetensors in one directory.

    model.yaml                    what a person wants to know, and everything but the tensors
    weights.safetensors           the network's state
    training_poses.safetensors    stamps_ns (N,) int64 and T_map_cam (N, 4, 4) float64 of the training frames;
                                  choosing_stamps_ns (M,) int64 of the held-out frames that may have chosen the weights

Nothing in here can execute: a pickle, whatever its name, is refused without being opened.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save, save_file
from torch import Tensor, nn, optim

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training.config import TrainConfig
from pose2rgbd_ros.training.families import build_model

FORMAT_VERSION = 1
MODEL_FILE = "model.yaml"
WEIGHTS_FILE = "weights.safetensors"
POSES_FILE = "training_poses.safetensors"
SAME_FRAME_M = 1.0  # a pose refined since the training still is of the same frame
PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
# A pickle begins with its protocol opcode; torch.save makes a zip archive or, formerly, a bare pickle.
PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x80\x8a")


@dataclass
class Checkpoint:
    """A trained network and everything needed to use it rightly."""

    architecture: dict[str, Any]
    normalization: Normalization
    camera: Camera
    map_frame: str
    camera_frame: str
    depth_kind: str | None  # "metric" | "relative" | None without depth
    state_dict: dict[str, Tensor]
    training_stamps_ns: np.ndarray  # (N,) int64
    training_T_map_cam: np.ndarray  # (N, 4, 4) float64
    # (M,) int64; None in a checkpoint made before these frames were kept apart from those that judge
    choosing_stamps_ns: np.ndarray | None = None
    datum: Datum | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    weights_sha256: str = ""  # of weights.safetensors; filled in by save and load

    @property
    def output(self) -> str:
        """What the network shows: "depth", "rgb" or "rgbd"; "pose" for one that only finds poses."""
        return str(self.architecture.get("output", "pose"))

    def trained_on(self, stamps_ns: np.ndarray, position_m: np.ndarray) -> np.ndarray:
        """Which frames (N,) it was trained on, by their stamps (N,) and positions (N, 3): clocks of two recordings
        may agree.
        """
        _, mine, theirs = np.intersect1d(stamps_ns, self.training_stamps_ns, return_indices=True)
        apart_m = np.linalg.norm(position_m[mine] - self.training_T_map_cam[theirs, :3, 3], axis=1)
        found = np.zeros(len(stamps_ns), bool)
        found[mine[apart_m <= SAME_FRAME_M]] = True
        return found

    def network(self) -> Any:
        """The network without memory or weights: enough to ask what it can do (see training.families.RenderModel)."""
        with torch.device("meta"):
            return build_model(self.architecture)

    def build_model(self) -> nn.Module:
        """The network with its weights, in evaluation mode, on the CPU. It is a training.families.RenderModel."""
        model = build_model(self.architecture)
        model.load_state_dict(self.state_dict)
        return model.eval()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the checkpoint directory; a reader of `path` meanwhile finds the old one or the new one.

    Raises:
        UserError: the disk is full or the place cannot be written; an earlier checkpoint there stays whole.
    """
    weights = save({key: value.detach().cpu().contiguous() for key, value in checkpoint.state_dict.items()})
    checkpoint.weights_sha256 = hashlib.sha256(weights).hexdigest()
    poses = {
        "stamps_ns": torch.from_numpy(np.ascontiguousarray(checkpoint.training_stamps_ns, np.int64)),
        "T_map_cam": torch.from_numpy(np.ascontiguousarray(checkpoint.training_T_map_cam, np.float64)),
    }
    if checkpoint.choosing_stamps_ns is not None:
        choosing = np.ascontiguousarray(checkpoint.choosing_stamps_ns, np.int64)
        poses["choosing_stamps_ns"] = torch.from_numpy(choosing)
    new = path.with_name(f".{path.name}.new")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        (new / WEIGHTS_FILE).write_bytes(weights)
        (new / POSES_FILE).write_bytes(save(poses))
        write_yaml(new / MODEL_FILE, _to_yaml(checkpoint))
        replace_directory(new, path)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise UserError(f"cannot write the checkpoint {path} ({error.strerror}); is the disk full?") from error


def replace_directory(new: Path, path: Path) -> None:
    """Put `new` in the place of `path`. Between the two renames only `.<name>.old` exists; readers look there too."""
    for file in new.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    old = old_directory(path)
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    new.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def old_directory(path: Path) -> Path:
    """Where :func:`replace_directory` keeps the previous directory for a moment."""
    return path.with_name(f".{path.name}.old")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and check a checkpoint directory.

    Raises:
        UserError: missing, foreign, corrupt, of a newer format, with missing or surplus weights, or a pickle.
    """
    path = checkpoint_directory(Path(path))
    values = read_yaml(path / MODEL_FILE)
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(f"{path / MODEL_FILE}: format_version is {version!r}, this program reads {FORMAT_VERSION}")
    tensors, weights_sha256 = read_safetensors(path / WEIGHTS_FILE)
    poses, _ = read_safetensors(path / POSES_FILE)
    try:
        checkpoint = _from_yaml(values, tensors, poses, weights_sha256)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path / MODEL_FILE} is incomplete or damaged ({type(error).__name__}: {error}); train again"
        ) from error
    _check_weights(path, checkpoint)
    recorded = values.get("weights_sha256")
    if recorded != weights_sha256:
        raise UserError(f"{path / WEIGHTS_FILE} is not the file {MODEL_FILE} describes (its SHA-256 differs)")
    return checkpoint


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """Tensors and SHA-256 of a safetensors file; UserError when missing, damaged or a pickle in disguise."""
    with os_errors(f"{path} cannot be read"):
        data = path.read_bytes()
    # A safetensors file begins with the length of its header, eight bytes that may look like a pickle's, and a "{".
    if data.startswith(PICKLE_MAGIC) and data[8:9] != b"{":
        raise UserError(f"{path} is a pickle, which could run code; it was not opened. Only safetensors are read")
    try:
        return load(data), hashlib.sha256(data).hexdigest()
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} is damaged or no safetensors file ({error})") from error


def checkpoint_directory(path: Path) -> Path:
    """The directory that holds the checkpoint, or the reason why there is none."""
    if path.suffix in PICKLE_SUFFIXES and path.is_file():
        raise UserError(
            f"{path} may be a pickle, which could run code; it was not opened. Give a directory made by pose2rgbd train"
        )
    if path.is_file():
        raise UserError(f"{path} is a file; a checkpoint is a directory with {MODEL_FILE} in it")
    if not path.exists() and old_directory(path).is_dir():
        return old_directory(path)
    if not path.is_dir():
        raise UserError(f"there is no checkpoint at {path}; pose2rgbd train makes one")
    if (path / MODEL_FILE).exists():
        return path
    if (path / "checkpoint" / MODEL_FILE).exists():  # the folder of a whole training run
        return path / "checkpoint"
    foreign = sorted(file.name for file in path.iterdir() if file.suffix in (*PICKLE_SUFFIXES, ".safetensors"))
    found = f"; it holds {', '.join(foreign[:3])}, which this program does not open" if foreign else ""
    raise UserError(f"{path} is no pose2rgbd checkpoint: it has no {MODEL_FILE}{found}")


def _to_yaml(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "architecture": checkpoint.architecture,
        "normalization": checkpoint.normalization.to_dict(),
        "camera": checkpoint.camera.to_dict(),
        "frames": {"map": checkpoint.map_frame, "camera": checkpoint.camera_frame},
        "datum": None if checkpoint.datum is None else checkpoint.datum.to_dict(),
        "depth_kind": checkpoint.depth_kind,
        "output": checkpoint.output,
        "metrics": {key: round(float(value), 6) for key, value in checkpoint.metrics.items()},
        "provenance": checkpoint.provenance,
        "weights_sha256": checkpoint.weights_sha256,
    }


def _from_yaml(
    values: dict[str, Any], tensors: dict[str, Tensor], poses: dict[str, Tensor], weights_sha256: str
) -> Checkpoint:
    stamps_ns, T_map_cam = poses["stamps_ns"].numpy(), poses["T_map_cam"].numpy()
    if stamps_ns.ndim != 1 or T_map_cam.shape != (*stamps_ns.shape, 4, 4):
        raise ValueError(f"training poses of shape {T_map_cam.shape} for stamps of shape {stamps_ns.shape}")
    if values["depth_kind"] not in (None, "metric", "relative"):
        raise ValueError(f"depth_kind is {values['depth_kind']!r}")
    return Checkpoint(
        architecture=values["architecture"],
        normalization=Normalization.from_dict(values["normalization"]),
        camera=Camera.from_dict(values["camera"]),
        map_frame=values["frames"]["map"],
        camera_frame=values["frames"]["camera"],
        datum=None if values["datum"] is None else Datum.from_dict(values["datum"]),
        depth_kind=values["depth_kind"],
        state_dict=tensors,
        training_stamps_ns=stamps_ns,
        training_T_map_cam=T_map_cam,
        choosing_stamps_ns=poses["choosing_stamps_ns"].numpy() if "choosing_stamps_ns" in poses else None,
        provenance=values["provenance"],
        metrics=values["metrics"],
        weights_sha256=weights_sha256,
    )


def _check_weights(path: Path, checkpoint: Checkpoint) -> None:
    """Compare names and shapes with the architecture, so that the message says what differs."""
    expected = {key: tensor.shape for key, tensor in checkpoint.network().state_dict().items()}
    found = {key: tensor.shape for key, tensor in checkpoint.state_dict.items()}
    missing, surplus = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    misshapen = sorted(key for key in set(expected) & set(found) if expected[key] != found[key])
    for what, keys in (("lacks", missing), ("has unknown", surplus), ("has misshapen", misshapen)):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise UserError(f"{path / WEIGHTS_FILE} does not fit the architecture: it {what} {keys[0]}{more}")


# The folder of a training run: settings, metrics, TensorBoard, and whether it may be started or resumed.


CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.csv"
CHECKPOINT = "checkpoint"
LAST = "last"
# What may differ between a run and its continuation: where and how long, not what is learnt.
FREE_ON_RESUME = {
    "epochs",
    "steps",
    "max_minutes",
    "device",
    "precision",
    "tensorboard",
    "validate_every",
    "early_stop",
    "stop_collapsed",
}


def prepare_run_folder(out: Path, dataset: Path, config: TrainConfig, resume: bool) -> None:
    """Make the folder and write config.yaml, or check that a resumed run is the same run.

    Raises:
        UserError: the folder holds a run and `resume` is not set, or holds another run than the resumed one.
    """
    file = out / CONFIG_FILE
    values = {"dataset": str(dataset), **config.resolved()}
    if not resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} exists and is not empty; continue that run with --resume, or choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        write_yaml(file, values)
        return
    before = config.with_defaults(read_yaml(file))
    for name, value in values.items():
        if name not in FREE_ON_RESUME | {"dataset"} and before.get(name, value) != value:
            raise UserError(
                f"{out} was started with {name}={before.get(name)}, now it is {value}; resume with the same settings"
            )
    write_yaml(file, values)


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


# What a run needs to go on exactly where it stopped: `last/`, safetensors and YAML, no pickle.


TENSORS_FILE = "state.safetensors"
FACTS_FILE = "state.yaml"


@dataclass
class RunState:
    """Where a run stands. The order of the frames follows from (seed, epoch), so no random state is kept."""

    step: int = 0  # steps done, over all epochs
    elapsed_s: float = 0.0
    best_score: float = float("inf")
    validations_without_best: int = 0


def save_state(
    path: Path, state: RunState, model: nn.Module, optimizer: optim.Optimizer | None, average: nn.Module | None
) -> None:
    """Replace the directory `path` whole. UserError when the disk is full; the earlier state stays.

    `model` is the learner: the network with all that is learnt beside it.
    """
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{key}": value for key, value in average.state_dict().items()}
    moments = {} if optimizer is None else optimizer.state
    for name, parameter in model.named_parameters():
        for key, value in moments.get(parameter, {}).items():
            tensors[f"optimizer.{name}.{key}"] = value
    new = path.with_name(f".{path.name}.new")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        save_file(contiguous, new / TENSORS_FILE)
        write_yaml(new / FACTS_FILE, vars(state))
        replace_directory(new, path)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise UserError(f"cannot write {path} ({error.strerror or error}); is the disk full?") from error


def load_state(path: Path, model: nn.Module, optimizer: optim.Optimizer | None, average: nn.Module | None) -> RunState:
    """Put a saved state into the model, the optimiser and the average.

    Raises:
        UserError: there is none, or it is damaged or of another network.
    """
    if not path.exists() and old_directory(path).is_dir():
        path = old_directory(path)
    if not path.is_dir():
        raise UserError(f"nothing to resume: {path} does not exist; start without --resume")
    facts = read_yaml(path / FACTS_FILE)
    tensors, _ = read_safetensors(path / TENSORS_FILE)
    try:
        model.load_state_dict(_under("model.", tensors))
        if average is not None:
            average.load_state_dict(_under("average.", tensors))
        if optimizer is not None:
            _load_optimizer(optimizer, model, _under("optimizer.", tensors))
        return RunState(**facts)
    except (RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} does not fit this run ({reason}); start again without --resume") from error


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _load_optimizer(optimizer: optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """AdamW's moments, kept by parameter name, into its state dictionary, which counts parameters."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    state: dict[int, dict[str, Any]] = {}
    index = 0
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            found = _under(f"{names[parameter]}.", tensors)
            if found:
                state[index] = {key: _laid_out_as(parameter, value) for key, value in found.items()}
            index += 1
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """A moment in its parameter's memory format: the fused optimiser goes over both as they lie in memory."""
    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
