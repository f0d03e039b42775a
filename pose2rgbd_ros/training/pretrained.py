"""Weights from a file into our layers: safetensors, or a state dict that others published, and what became of each.

A family's pretrained.py says which of our tensors theirs are: ours(tensors), {their name: (our name, tensor)}; and
of which network: architecture(model, width, tensors).
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.reports.table import aligned
from pose2rgbd_ros.training.checkpoint import read_tensors
from pose2rgbd_ros.training.families import architecture_of, has_part, network_family, part_of

WRAPPED_IN = ("state_dict", "model_state_dict", "model", "net", "network")  # what published files keep weights under
TENSORFLOW = re.compile(r"\.(data-\d{5}-of-\d{5}|index|meta)$")  # a checkpoint is three files, named without these
PREFIX = "module."  # of a network that was trained on several GPUs


@dataclass
class Mapped:
    """What became of the tensors of files: names, theirs and ours, by what happened; and ours that got none."""

    taken: list[tuple[str, str]] = field(default_factory=list)
    misshapen: list[tuple[str, str]] = field(default_factory=list)  # with both shapes in words
    left: list[str] = field(default_factory=list)  # without a place here
    missing: list[str] = field(default_factory=list)
    values: int = 0

    def table(self) -> str:
        """All of them, for the terminal."""
        rows = [(theirs, ours, "taken") for theirs, ours in self.taken]
        rows += [(theirs, ours, "NOT TAKEN: another shape") for theirs, ours in self.misshapen]
        rows += [(theirs, "-", "left over") for theirs in self.left]
        rows += [("-", ours, "MISSING: as it began") for ours in self.missing]
        theirs = len(self.taken) + len(self.misshapen) + len(self.left)
        total = len(self.taken) + len(self.misshapen) + len(self.missing)
        head = (
            f"{len(self.taken)} of {theirs} tensors taken ({self.values:,} values) for {len(self.taken)} of {total} "
            f"here; {len(self.misshapen)} of another shape, {len(self.left)} left over, {len(self.missing)} missing"
        )
        return f"{aligned(rows)}\n{head}"


def load_weights(model: nn.Module, files: Sequence[Path]) -> Mapped:
    """Put the weights of files into a network, as far as they fit; what does not fit stays as it was.

    Raises:
        UserError: a file that holds no weights, or would run code; none of whose tensors is one of this network's.
    """
    family = network_family(architecture_of(model)["network"])
    own = model.state_dict()
    done, found = Mapped(), set[str]()
    for file in files:
        tensors = read_weights(file)
        translated = _translated(family, tensors, own)
        for name, tensor in tensors.items():
            if name not in translated:
                done.left.append(name)
                continue
            ours, value = translated[name]
            found.add(ours)
            if value.shape != own[ours].shape:
                done.misshapen.append((f"{name} {tuple(tensor.shape)}", f"{ours} {tuple(own[ours].shape)}"))
                continue
            with torch.no_grad():
                own[ours].copy_(value)
            done.taken.append((name, ours))
            done.values += tensor.numel()
        if not any(name in translated for name in tensors):
            first = ", ".join(list(tensors)[:3])
            raise UserError(f"{file}: none of its {len(tensors)} tensors ({first}, ...) is known of {family}")
    done.missing = [name for name in own if name not in found and not name.endswith("num_batches_tracked")]
    return done


def _translated(family: str, tensors: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, tuple[str, Tensor]]:
    """Their names -> our name and the tensor as we have it, of those that have a place here."""
    if set(tensors) & set(own):  # our own names
        return {name: (name, tensor) for name, tensor in tensors.items() if name in own}
    if not has_part(family, "pretrained"):
        return {}
    theirs = part_of(family, "pretrained").ours(tensors)
    return {name: (ours, tensor) for name, (ours, tensor) in theirs.items() if ours in own}


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file or a PyTorch state dict, which is read without running anything in it.

    UserError: it is neither, or holds more than tensors and plain values; it is a checkpoint of TensorFlow, as the
        authors of SfMLearner and DeepV2D published theirs.
    """
    if TENSORFLOW.search(file.name) or file.with_name(f"{file.name}.index").exists():
        raise UserError(
            f"{file} is a checkpoint of TensorFlow, which nothing else reads; write its variables to a safetensors "
            "file there, by the names of our layers (the table printed with any other weights shows them)"
        )
    with os_errors(f"{file} cannot be read"), file.open("rb") as stream:
        start = stream.read(9)
    if start[8:9] == b"{":
        return read_tensors(file)[0]
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            raise UserError(
                f"{file} holds more than weights, which could run code, and was not opened; its author can save the "
                "state dict alone, or as safetensors"
            ) from error
        raise UserError(f"{file} is neither safetensors nor a PyTorch state dict, or is damaged") from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, OSError) as error:
        raise UserError(f"{file} is neither safetensors nor a PyTorch state dict, or is damaged") from error
    tensors = _unwrapped(loaded)
    if not tensors:
        raise UserError(f"{file} holds no state dict: no names with tensors, nor under {', '.join(WRAPPED_IN)}")
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def _unwrapped(loaded: Any) -> dict[str, Tensor]:
    if not isinstance(loaded, dict):
        return {}
    for key in WRAPPED_IN:
        if isinstance(loaded.get(key), dict):
            return _unwrapped(loaded[key])
    return {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
