"""`pose2rgbd export`: make the fast ONNX graph of a checkpoint and compare it with the network."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class ExportConfig:
    """Make CHECKPOINT/renderer.onnx, which the renderer uses on a CPU.

    It is compared with the network on training poses and kept only when they agree. The renderer does the same by
    itself when the graph is missing or stale; this command tells the figures, and prepares a read-only installation.
    """

    checkpoint: Annotated[
        tyro.conf.Positional[Path], tyro.conf.arg(help="checkpoint directory, or the run folder around it")
    ]
    force: Annotated[bool, tyro.conf.arg(help="make the graph anew even if it is current")] = False


def main(argv: list[str]) -> int:
    """Run the command; UserError for a bad checkpoint or a graph that differs from its network."""
    config = tyro.cli(ExportConfig, args=argv, prog="pose2rgbd export")
    from pose2rgbd_ros.rendering.onnx_export import export_checkpoint  # torch only once it is needed

    started = time.perf_counter()
    exported = export_checkpoint(config.checkpoint, force=config.force)
    verb = "is current" if exported.reused else f"written in {time.perf_counter() - started:.1f} s"
    print(f"{exported.path} {verb} ({len(exported.graph) / 1e6:.1f} MB)")
    print(exported.comparison)
    return 0
