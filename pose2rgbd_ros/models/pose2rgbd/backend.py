"""Base and Slice on a CPU: their ONNX graph, made where there is none, on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

from pose2rgbd_ros.models.backends import Backend, OnnxBackend
from pose2rgbd_ros.models.pose2rgbd.export import current_or_new_graph
from pose2rgbd_ros.training.checkpoint import Checkpoint

NAME = "onnx"


def make(directory: Path, checkpoint: Checkpoint, threads: int | None) -> Backend:
    """See training/families.py. UserError: onnx or onnxruntime missing, or a graph that differs from its network."""
    return OnnxBackend(current_or_new_graph(directory, checkpoint).graph, checkpoint.normalization, threads)
