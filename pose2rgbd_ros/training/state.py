"""What a run needs to go on exactly where it stopped: `last/`, safetensors and YAML, no pickle."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn, optim

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training.checkpoint import old_directory, read_safetensors, replace_directory

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
    path: Path,
    state: RunState,
    model: nn.Module,
    optimizer: optim.Optimizer | None,
    average: nn.Module | None,
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


def load_state(
    path: Path, model: nn.Module, optimizer: optim.Optimizer | None, average: nn.Module | None
) -> RunState:
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
