"""A checkpoint's ONNX graph, of Base and Slice: made once, compared with the network, kept beside the weights."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.backends import OnnxBackend, check_renderable, empty_images
from pose2rgbd_ros.models.graphs import GRAPH_FILE, StoredGraph
from pose2rgbd_ros.training.checkpoint import Checkpoint, checkpoint_directory, load_checkpoint

EXPORTER = "exporter 2"  # raise the number when the graph of the same checkpoint changes

COMPARED_POSES = 8
RGB_TOLERANCE_LEVELS = 1
DEPTH_TOLERANCE_SHARE = 1e-3  # of depth_max - depth_min
CONFIDENCE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Comparison:
    """Largest difference between graph and network over some training poses; None for what the model lacks."""

    poses: int
    rgb_levels: float | None = None
    depth_share_of_range: float | None = None
    confidence: float | None = None

    def __str__(self) -> str:
        units = (
            (self.rgb_levels, "rgb {:.0f} of 255"),
            (self.depth_share_of_range, "depth {:.1e} of its range"),
            (self.confidence, "confidence {:.1e}"),
        )
        parts = ", ".join(text.format(value) for value, text in units if value is not None)
        return f"largest difference to the network over {self.poses} training poses: {parts}"

    def within_tolerance(self) -> bool:
        limits = (
            (self.rgb_levels, RGB_TOLERANCE_LEVELS),
            (self.depth_share_of_range, DEPTH_TOLERANCE_SHARE),
            (self.confidence, CONFIDENCE_TOLERANCE),
        )
        return all(value is None or value <= limit for value, limit in limits)  # NaN is not within


@dataclass(frozen=True)
class Exported:
    """A graph ready to run. `path` is where it lies, None when the checkpoint's folder could not be written."""

    graph: bytes
    comparison: Comparison
    path: Path | None
    reused: bool


def export(checkpoint: Path, force: bool = False) -> list[str]:
    """See training/families.py: where the graph is, and how closely it follows the network."""
    started = time.perf_counter()
    exported = export_checkpoint(checkpoint, force)
    verb = "is current" if exported.reused else f"written in {time.perf_counter() - started:.1f} s"
    return [f"{exported.path} {verb} ({len(exported.graph) / 1e6:.1f} MB)", str(exported.comparison)]


def export_checkpoint(path: Path, force: bool = False) -> Exported:
    """Make sure the checkpoint has a current graph; `force` makes a new one even then.

    Raises:
        UserError: bad checkpoint, the graph differs from the network, torch, onnx or onnxruntime missing, disk full.
    """
    checkpoint = load_checkpoint(path)
    check_renderable(checkpoint)
    exported = current_or_new_graph(checkpoint_directory(Path(path)), checkpoint, force)
    if exported.path is None:
        raise UserError(f"cannot write {GRAPH_FILE} into {path}; is the disk full or the folder read-only?")
    return exported


def current_or_new_graph(directory: Path, checkpoint: Checkpoint, force: bool = False) -> Exported:
    """The stored graph when it is current, else a new one, stored if the folder allows.

    UserError as :func:`export_checkpoint`.
    """
    stored = StoredGraph(directory, checkpoint, EXPORTER)
    if not force and (current := _current(stored)) is not None:
        return current
    stored.require()
    graph = _make_graph(checkpoint)
    comparison = compare(graph, checkpoint)
    if not comparison.within_tolerance():
        raise UserError(f"the exported graph is not the network: {comparison}; it was not kept, use backend torch")
    kept = stored.store(graph, {"comparison": dataclasses.asdict(comparison)})
    return Exported(graph, comparison, directory / GRAPH_FILE if kept else None, reused=False)


def compare(graph: bytes, checkpoint: Checkpoint) -> Comparison:
    """Run graph and network on training poses, evenly spread over the recording."""
    from pose2rgbd_ros.models.torch_backend import TorchBackend

    T_map_cam = checkpoint.training_T_map_cam
    count = min(len(T_map_cam), COMPARED_POSES)
    T = T_map_cam[np.linspace(0, len(T_map_cam) - 1, count).astype(int)]
    expected, found = (empty_images(checkpoint, checkpoint.camera, count) for _ in range(2))
    normalization, camera = checkpoint.normalization, checkpoint.camera
    TorchBackend(checkpoint.build_model(), normalization).render(T, camera, expected)
    OnnxBackend(graph, normalization).render(T, camera, found)
    differences: dict[str, Any] = {"poses": count}
    names = {"rgb": "rgb_levels", "depth": "depth_share_of_range", "confidence": "confidence"}
    for name, images in expected.present().items():
        largest = np.abs(images.astype(np.float64) - found.present()[name]).max()  # NaN when one is
        if name == "depth":
            largest /= normalization.depth_max - normalization.depth_min  # type: ignore[operator]
        differences[names[name]] = float(largest)
    return Comparison(**differences)


def _make_graph(checkpoint: Checkpoint) -> bytes:
    model: Any = checkpoint.build_model()
    try:
        from pose2rgbd_ros.models.pose2rgbd.onnx import build_graph
    except ImportError as error:
        raise UserError(f"a graph cannot be exported here ({error}); install onnx") from error
    return bytes(build_graph(model, checkpoint.normalization).SerializeToString())


def _current(stored: StoredGraph) -> Exported | None:
    """The stored graph, if it can be used and its record says how close it is."""
    if stored.why_not:
        return None
    try:
        comparison = dict(stored.record["comparison"])
        comparison.pop("grazing_share", None)  # of records written when relief was exported too
        return Exported(stored.graph, Comparison(**comparison), stored.path, reused=True)
    except (KeyError, TypeError):
        return None  # not ours: it is made anew
