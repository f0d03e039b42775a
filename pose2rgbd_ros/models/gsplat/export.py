"""A gsplat model as the .ply file that other viewers of splats read."""

from __future__ import annotations

from pathlib import Path

from pose2rgbd_ros.models.gsplat.network import GsplatModel, write_ply
from pose2rgbd_ros.training.checkpoint import checkpoint_directory, load_checkpoint

PLY_FILE = "splats.ply"


def export_splats(checkpoint: Path) -> Path | None:
    """Write CHECKPOINT/splats.ply; None for another model. UserError: a bad checkpoint, or it cannot be written."""
    directory = checkpoint_directory(Path(checkpoint))
    loaded = load_checkpoint(directory)
    if loaded.architecture["network"] != "gsplat":
        return None
    model = loaded.build_model()
    assert isinstance(model, GsplatModel)
    write_ply(directory / PLY_FILE, model)
    return directory / PLY_FILE
