"""A gsplat model as the .ply file that other viewers of splats read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose2rgbd_ros.errors import os_errors
from pose2rgbd_ros.models.gsplat.network import GsplatModel
from pose2rgbd_ros.training.checkpoint import checkpoint_directory, load_checkpoint

PLY_FILE = "splats.ply"


def export(checkpoint: Path, force: bool = False) -> list[str]:
    """Write CHECKPOINT/splats.ply, and say so. UserError: a bad checkpoint, or it cannot be written."""
    directory = checkpoint_directory(Path(checkpoint))
    model = load_checkpoint(directory).build_model()
    assert isinstance(model, GsplatModel)
    file = directory / PLY_FILE
    write_ply(file, model)
    return [f"{file} written ({file.stat().st_size / 1e6:.1f} MB); other viewers of splats read it"]


def write_ply(path: Path, model: GsplatModel) -> None:
    """The splats in the layout of Kerbl et al., which other viewers read; positions are relative to the model's origin.

    Raises UserError: the file cannot be written.
    """
    state = {name: value.detach().cpu().float().numpy() for name, value in model.state_dict().items()}
    count = model.config.splats
    columns: dict[str, np.ndarray] = dict(zip("xyz", state["means"].T, strict=True))
    columns |= dict.fromkeys(("nx", "ny", "nz"), np.zeros(count, np.float32))
    columns |= {f"f_dc_{i}": state["sh_0"][:, 0, i] for i in range(3)}
    rest = state["sh_rest"].transpose(0, 2, 1).reshape(count, -1)  # all of red, then of green, then of blue
    columns |= {f"f_rest_{i}": rest[:, i] for i in range(rest.shape[1])}
    columns["opacity"] = state["opacity_logits"]
    columns |= {f"scale_{i}": state["log_scales"][:, i] for i in range(3)}
    columns |= {f"rot_{i}": state["quats"][:, i] for i in range(4)}
    vertices = np.empty(count, dtype=[(name, "<f4") for name in columns])
    for name, values in columns.items():
        vertices[name] = values
    origin = " ".join(f"{value:.6f}" for value in model.origin_m.tolist())
    header = ["ply", "format binary_little_endian 1.0", f"comment origin_m {origin}", f"element vertex {count}"]
    header += [f"property float {name}" for name in columns] + ["end_header", ""]
    with os_errors(f"cannot write {path}"):
        path.write_bytes("\n".join(header).encode() + vertices.tobytes())
