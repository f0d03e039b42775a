"""`pose2rgbd export`: of a checkpoint, its fast ONNX graph; of a dataset, another tool's dataset (`export_dataset`)."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros.dataset.layout import ASSOCIATIONS


@dataclass(frozen=True)
class ExportConfig:
    """Make CHECKPOINT/renderer.onnx of base or slice, for a CPU; of gsplat, splats.ply for other viewers.

    The graph is compared with the network on training poses and kept only when they agree. The renderer does the same
    by itself when the graph is missing or stale; this command tells the figures, and prepares a read-only installation.
    """

    checkpoint: Annotated[
        tyro.conf.Positional[Path],
        tyro.conf.arg(metavar="CHECKPOINT", help="checkpoint directory, or the run folder around it"),
    ]
    force: Annotated[bool, tyro.conf.arg(help="make the graph anew even if it is current")] = False


def main(argv: list[str]) -> int:
    """Run the command; UserError for a bad checkpoint, a graph that differs from its network, or a bad dataset."""
    if _is_help(argv):
        return _help()
    if _is_of_dataset(argv):
        from pose2rgbd_ros.cli import export_dataset

        return export_dataset.main(argv)
    config = tyro.cli(ExportConfig, args=argv, prog="pose2rgbd export")
    from pose2rgbd_ros.rendering.onnx_export import export_checkpoint  # torch only once it is needed
    from pose2rgbd_ros.rendering.splat_export import export_splats

    splats = export_splats(config.checkpoint)
    if splats is not None:
        print(f"{splats} written ({splats.stat().st_size / 1e6:.1f} MB); other viewers of splats read it")
        return 0
    started = time.perf_counter()
    exported = export_checkpoint(config.checkpoint, force=config.force)
    verb = "is current" if exported.reused else f"written in {time.perf_counter() - started:.1f} s"
    print(f"{exported.path} {verb} ({len(exported.graph) / 1e6:.1f} MB)")
    print(exported.comparison)
    return 0


def _is_help(argv: list[str]) -> bool:
    return bool(argv) and all(argument in ("-h", "--help") for argument in argv)


def _is_of_dataset(argv: list[str]) -> bool:
    """Whether a dataset is to be exported: a format was asked for, or a dataset's folder given."""
    asked = any(argument.split("=")[0] == "--format" for argument in argv)
    folders = [Path(argument) for argument in argv if not argument.startswith("-")]
    return asked or any((folder / ASSOCIATIONS).is_file() for folder in folders[:1])


def _help() -> int:
    """Both uses of the command."""
    from pose2rgbd_ros.cli import export_dataset

    print("A checkpoint is exported to ONNX, a dataset to another tool's format:\n")
    for arguments in (ExportConfig, export_dataset.Arguments):
        with contextlib.suppress(SystemExit):
            tyro.cli(arguments, args=["--help"], prog="pose2rgbd export")
        print()
    return 0
