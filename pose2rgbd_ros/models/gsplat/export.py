"""A gsplat model as the .ply file that other viewers of splats read."""

from __future__ import annotations

from pathlib import Path

from pose2rgbd_ros.models.gsplat.network import GsplatModel
from pose2rgbd_ros.models.gsplat.ply import write_ply
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
