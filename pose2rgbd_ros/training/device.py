"""Where to train: Lightning Fabric set up from the settings, or from torchrun's environment."""

from __future__ import annotations

import os

import torch
from lightning_fabric import Fabric

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.training.config import TrainConfig


def pick_device(name: str) -> str:
    """ "cpu" or "cuda" for "auto", "cpu" or "cuda". UserError: CUDA asked for and absent."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        build = (
            "this PyTorch is built without CUDA"
            if torch.version.cuda is None
            else "PyTorch finds no CUDA device"
        )
        raise UserError(f"device cuda was asked for, but {build}; use --device cpu or auto")
    return "cuda"


def make_fabric(config: TrainConfig) -> Fabric:
    """A launched Fabric: one process, or under torchrun as many as it started (DDP).

    Raises:
        UserError: CUDA asked for and absent; bf16 asked for on the CPU, where it is many times slower than float32.
    """
    device = pick_device(config.device)
    if config.precision == "bf16" and device == "cpu":
        raise UserError("precision bf16 needs a GPU (on a CPU it is slower than 32); use --precision 32")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=max(1, processes // local),
        strategy=_strategy(config) if processes > 1 else "auto",
        precision="bf16-mixed" if config.precision == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric


def _strategy(config: TrainConfig) -> str:
    """With `slice_features="first"` the second bottleneck layer feeds nothing, which DDP has to be told."""
    return "ddp_find_unused_parameters_true" if config.slice_features == "first" else "ddp"
