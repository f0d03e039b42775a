"""Checkpoints are data, never code: YAML and safetensors in one directory.

::

    model.yaml                    what a person wants to know, and everything but the tensors
    weights.safetensors           the network's state
    training_poses.safetensors    stamps_ns (N,) int64 and T_map_cam (N, 4, 4) float64 of the training frames;
                                  choosing_stamps_ns (M,) int64 of the held-out frames that may have chosen the weights.
                                  Of a model of video, which knows no poses: instead of these sequence (N,) int64 and
                                  choosing_sequence (M,), numbers of the sequences that frames belong to

Nothing in here can execute: a pickle, whatever its name, is refused without being opened.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training.config import RunConfig
from pose2rgbd_ros.training.families import build_model, config_without_torch

if TYPE_CHECKING:  # the runtime reads checkpoints without torch
    from torch import Tensor, nn, optim

T = TypeVar("T")

FORMAT_VERSION = 1
MODEL_FILE = "model.yaml"
WEIGHTS_FILE = "weights.safetensors"
POSES_FILE = "training_poses.safetensors"
SAME_FRAME_M = 1.0  # a pose refined since the training still is of the same frame
PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
# A pickle begins with its protocol opcode; torch.save makes a zip archive or, formerly, a bare pickle.
PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x80\x8a")


@dataclass(kw_only=True)
class StoredModel:
    """A trained network and what is needed to use it rightly, of whatever kind."""

    architecture: dict[str, Any]
    camera: Camera  # of the images it was trained with
    depth_kind: str | None  # "metric" | "relative" | None without depth
    # What weights.safetensors holds: tensors of a network just trained, arrays (np.ndarray) of one that was read.
    state_dict: dict[str, Any]
    training_stamps_ns: np.ndarray  # (N,) int64
    # (M,) int64; None in a checkpoint made before these frames were kept apart from those that judge
    choosing_stamps_ns: np.ndarray | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    weights_sha256: str = ""  # of weights.safetensors; filled in by save and load

    def network(self) -> Any:
        """The network without memory or weights: enough to ask what it can do (see training/families.py)."""
        return build_model(self.architecture, "meta")

    def build_model(self) -> nn.Module:
        """The network with its weights, in evaluation mode, on the CPU."""
        model = build_model(self.architecture)
        model.load_state_dict(as_tensors(self.state_dict))
        return model.eval()

    def config(self) -> Any:
        """The configuration of the network."""
        return config_without_torch(self.architecture) or self.network().config

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the tensors that its architecture has, by name."""
        if (config := config_without_torch(self.architecture)) is not None:
            shapes: dict[str, tuple[int, ...]] = config.weight_shapes()
            return shapes
        return {key: tuple(tensor.shape) for key, tensor in self.network().state_dict().items()}

    def facts(self) -> dict[str, Any]:
        """What model.yaml says of it."""
        return {"architecture": self.architecture, "camera": self.camera.to_dict(), "depth_kind": self.depth_kind}

    def frames(self) -> dict[str, np.ndarray]:
        """What training_poses.safetensors holds."""
        choosing = {} if self.choosing_stamps_ns is None else {"choosing_stamps_ns": self.choosing_stamps_ns}
        return {"stamps_ns": self.training_stamps_ns, **choosing}


@dataclass(kw_only=True)
class Checkpoint(StoredModel):
    """Of a place: its network is a training.families.RenderModel or a PoseModel."""

    normalization: Normalization
    map_frame: str
    camera_frame: str
    training_T_map_cam: np.ndarray  # (N, 4, 4) float64
    datum: Datum | None = None

    @property
    def output(self) -> str:
        """What the network shows: "depth", "rgb" or "rgbd"; "pose" for one that only finds poses."""
        return str(self.architecture.get("output", "pose"))

    @property
    def any_camera(self) -> bool:
        """Whether its network, one that shows pictures, renders any intrinsics."""
        return bool((config_without_torch(self.architecture) or self.network()).any_camera)

    @property
    def has_confidence(self) -> bool:
        """Whether its network, one that shows pictures, says how sure it is."""
        return bool((config_without_torch(self.architecture) or self.network()).has_confidence)

    def trained_on(self, stamps_ns: np.ndarray, position_m: np.ndarray) -> np.ndarray:
        """Which frames (N,) it was trained on, by their stamps (N,) and positions (N, 3): clocks of two recordings
        may agree.
        """
        _, mine, theirs = np.intersect1d(stamps_ns, self.training_stamps_ns, return_indices=True)
        apart_m = np.linalg.norm(position_m[mine] - self.training_T_map_cam[theirs, :3, 3], axis=1)
        found = np.zeros(len(stamps_ns), bool)
        found[mine[apart_m <= SAME_FRAME_M]] = True
        return found

    def check_map(self, path: Path, meta: DatasetMeta) -> None:
        """UserError where the poses of the dataset at `path` are of another map than the model's."""
        if self.map_frame != meta.map_frame:
            raise UserError(
                f"{path} has poses in {meta.map_frame!r}, the model's are in {self.map_frame!r}; give poses of its map"
            )
        if self.datum is not None and meta.datum is not None and self.datum != meta.datum:
            raise UserError(f"the datum of {path} is {meta.datum}, the model's is {self.datum}; give poses of its map")

    def facts(self) -> dict[str, Any]:
        return {
            "architecture": self.architecture,
            "normalization": self.normalization.to_dict(),
            "camera": self.camera.to_dict(),
            "frames": {"map": self.map_frame, "camera": self.camera_frame},
            "datum": None if self.datum is None else self.datum.to_dict(),
            "depth_kind": self.depth_kind,
            "output": self.output,
        }

    def frames(self) -> dict[str, np.ndarray]:
        return {**super().frames(), "T_map_cam": np.asarray(self.training_T_map_cam, np.float64)}


@dataclass(kw_only=True)
class VideoCheckpoint(StoredModel):
    """Of depth and motion from video: its network is a training.families.VideoModel, and knows of no map.

    sequences: names of the sequences that it was trained on. training_sequence (N,) and choosing_sequence (M,): which
        of them each frame of the stamps belongs to, for clocks of two recordings may agree.
    """

    sequences: list[str]
    training_sequence: np.ndarray  # (N,) int64
    choosing_sequence: np.ndarray  # (M,) int64

    def trained_on(self, sequence: str, stamps_ns: np.ndarray) -> np.ndarray:
        """Which frames (N,) of a sequence the network learnt from, by their stamps (N,)."""
        return self._of(sequence, stamps_ns, self.training_stamps_ns, self.training_sequence)

    def looked_at(self, sequence: str, stamps_ns: np.ndarray) -> np.ndarray:
        """Which frames (N,) of a sequence the network learnt from, or may have chosen its weights."""
        assert self.choosing_stamps_ns is not None
        chose = self._of(sequence, stamps_ns, self.choosing_stamps_ns, self.choosing_sequence)
        return self.trained_on(sequence, stamps_ns) | chose

    def _of(self, sequence: str, stamps_ns: np.ndarray, used: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        if sequence not in self.sequences:
            return np.zeros(len(stamps_ns), bool)
        return np.isin(stamps_ns, used[numbers == self.sequences.index(sequence)])

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "sequences": self.sequences}

    def frames(self) -> dict[str, np.ndarray]:
        numbers = {"sequence": self.training_sequence, "choosing_sequence": self.choosing_sequence}
        return {**super().frames(), **numbers}


def save_checkpoint(path: Path, checkpoint: StoredModel) -> None:
    """Write the checkpoint directory; a reader of `path` meanwhile finds the old one or the new one.

    Raises:
        UserError: the disk is full or the place cannot be written; an earlier checkpoint there stays whole.
    """
    weights = safetensors.numpy.save({key: as_array(value) for key, value in checkpoint.state_dict.items()})
    checkpoint.weights_sha256 = hashlib.sha256(weights).hexdigest()
    frames = {name: np.ascontiguousarray(value) for name, value in checkpoint.frames().items()}
    new = path.with_name(f".{path.name}.new")
    try:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        (new / WEIGHTS_FILE).write_bytes(weights)
        (new / POSES_FILE).write_bytes(safetensors.numpy.save(frames))
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
    """Read and check the checkpoint directory of a model of a place.

    Raises:
        UserError: missing, foreign, corrupt, of a newer format, with missing or surplus weights, or a pickle; or of
            video.
    """
    loaded = load_stored(path)
    if not isinstance(loaded, Checkpoint):
        raise UserError(f"{path} knows depth from video, and no place: `pose2rgbd depth infer {path} SOURCE` uses it")
    return loaded


def load_video_checkpoint(path: Path) -> VideoCheckpoint:
    """The same of a model of video."""
    loaded = load_stored(path)
    if not isinstance(loaded, VideoCheckpoint):
        raise UserError(
            f"{path} is a model of a place, which knows no depth from video; train one: pose2rgbd depth train"
        )
    return loaded


def load_stored(path: Path) -> StoredModel:
    """The same of either kind."""
    path = checkpoint_directory(Path(path))
    values = read_yaml(path / MODEL_FILE)
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(f"{path / MODEL_FILE}: format_version is {version!r}, this program reads {FORMAT_VERSION}")
    weights, weights_sha256 = read_safetensors(path / WEIGHTS_FILE)
    frames, _ = read_safetensors(path / POSES_FILE)
    try:
        checkpoint = _from_yaml(values, weights, frames)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path / MODEL_FILE} is incomplete or damaged ({type(error).__name__}: {error}); train again"
        ) from error
    _check_weights(path, checkpoint)
    recorded = values.get("weights_sha256")
    if recorded != weights_sha256:
        raise UserError(f"{path / WEIGHTS_FILE} is not the file {MODEL_FILE} describes (its SHA-256 differs)")
    checkpoint.weights_sha256 = weights_sha256
    return checkpoint


def as_array(value: Any) -> np.ndarray:
    """An array of a tensor, wherever that is, or of an array; in C order, which safetensors takes for granted."""
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value, order="C")


def as_tensors(values: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors of arrays, whose memory they share, or of tensors."""
    import torch

    return {key: torch.as_tensor(value) for key, value in values.items()}


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """Arrays and SHA-256 of a safetensors file; UserError when missing, damaged or a pickle in disguise."""
    return _read(path, safetensors.numpy.load)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """The same as tensors, of types that NumPy lacks too."""
    from safetensors.torch import load

    return _read(path, load)


def _read(path: Path, load: Callable[[bytes], T]) -> tuple[T, str]:
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


def _to_yaml(checkpoint: StoredModel) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        **checkpoint.facts(),
        "metrics": {key: round(float(value), 6) for key, value in checkpoint.metrics.items()},
        "provenance": checkpoint.provenance,
        "weights_sha256": checkpoint.weights_sha256,
    }


def _from_yaml(values: dict[str, Any], weights: dict[str, Any], frames: dict[str, np.ndarray]) -> StoredModel:
    if values["depth_kind"] not in (None, "metric", "relative"):
        raise ValueError(f"depth_kind is {values['depth_kind']!r}")
    common: dict[str, Any] = {
        "architecture": values["architecture"],
        "camera": Camera.from_dict(values["camera"]),
        "depth_kind": values["depth_kind"],
        "state_dict": weights,
        "training_stamps_ns": frames["stamps_ns"],
        "choosing_stamps_ns": frames.get("choosing_stamps_ns"),
        "provenance": values["provenance"],
        "metrics": values["metrics"],
    }
    of_each = "sequence" if "sequences" in values else "T_map_cam"
    if frames["stamps_ns"].ndim != 1 or frames[of_each].shape[:1] != frames["stamps_ns"].shape:
        raise ValueError(f"{of_each} of shape {frames[of_each].shape} for stamps of shape {frames['stamps_ns'].shape}")
    if of_each == "sequence":
        return VideoCheckpoint(
            **common,
            sequences=[str(name) for name in values["sequences"]],
            training_sequence=frames["sequence"],
            choosing_sequence=frames["choosing_sequence"],
        )
    if frames["T_map_cam"].shape[1:] != (4, 4):
        raise ValueError(f"training poses of shape {frames['T_map_cam'].shape}")
    return Checkpoint(
        **common,
        normalization=Normalization.from_dict(values["normalization"]),
        map_frame=values["frames"]["map"],
        camera_frame=values["frames"]["camera"],
        datum=None if values["datum"] is None else Datum.from_dict(values["datum"]),
        training_T_map_cam=frames["T_map_cam"],
    )


def _check_weights(path: Path, checkpoint: StoredModel) -> None:
    """Compare names and shapes with the architecture, so that the message says what differs."""
    expected = checkpoint.weight_shapes()
    found = {key: tuple(values.shape) for key, values in checkpoint.state_dict.items()}
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


def prepare_run_folder(out: Path, source: dict[str, Any], config: RunConfig, resume: bool) -> None:
    """Make the folder and write config.yaml, or check that a resumed run is the same run.

    `source`: what is learnt from and where it lies, which may have been moved before the run is resumed.

    Raises:
        UserError: the folder holds a run and `resume` is not set, or holds another run than the resumed one.
    """
    file = out / CONFIG_FILE
    values = {**source, **config.resolved()}
    if not resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} exists and is not empty; continue that run with --resume, or choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        write_yaml(file, values)
        return
    before = config.with_defaults(read_yaml(file))
    for name, value in values.items():
        if name not in FREE_ON_RESUME | set(source) and before.get(name, value) != value:
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
    from safetensors.torch import save_file

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
    tensors, _ = read_tensors(path / TENSORS_FILE)
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
    import torch

    return torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
