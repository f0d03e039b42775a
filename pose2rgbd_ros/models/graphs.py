"""ONNX graphs beside a checkpoint's weights: what it needs to be rendered where there is no PyTorch.

    renderer.onnx        the graph; of a relief in tiles renderer.0.onnx, renderer.1.onnx, ...: one of each tile
    renderer.onnx.yaml   what they were made from, by which exporter, their SHA-256, and how closely they follow the
                         network

Graphs are used only when all files fit each other and the checkpoint; anything else (other weights, an edited
model.yaml, an older exporter, a damaged file) leads to a new export where PyTorch is, and to a refusal where it is not.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.backends import is_installed
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training.checkpoint import MODEL_FILE, Checkpoint

GRAPH_FILE = "renderer.onnx"
RECORD_FILE = "renderer.onnx.yaml"
AGAIN = "run `pose2rgbd export` on the checkpoint where PyTorch is installed, and copy it here again"

_log = logging.getLogger(__name__)


def graph_file(tile: int | None = None) -> str:
    """Name of a graph's file."""
    return GRAPH_FILE if tile is None else f"renderer.{tile}.onnx"


def source_fingerprint(directory: Path, checkpoint: Checkpoint, exporter: str) -> str:
    """SHA-256 of what a graph is made from: weights, model.yaml and the exporter, a name and a version."""
    digest = hashlib.sha256(f"pose2rgbd {exporter}\n{checkpoint.weights_sha256}\n".encode())
    digest.update((directory / MODEL_FILE).read_bytes())
    return digest.hexdigest()


class StoredGraphs:
    """The graphs beside a checkpoint, by one exporter: `graphs` by file name and their `record` where `why_not` is
    empty, else the reason why they cannot be used, in words that begin with the file's name.
    """

    def __init__(
        self, directory: Path, checkpoint: Checkpoint, exporter: str, files: Iterable[str] = (GRAPH_FILE,)
    ) -> None:
        self.directory, self.exporter = directory, exporter
        self.source = source_fingerprint(directory, checkpoint, exporter)
        self.graphs: dict[str, bytes] = {}
        self.record: dict[str, Any] = {}
        self.why_not = self._read(tuple(files))
        if self.why_not and (directory / RECORD_FILE).exists():
            _log.info("%s", self.why_not)

    def require(self) -> None:
        """UserError, where they cannot be used and there is no PyTorch to make them anew."""
        if self.why_not and not is_installed("torch"):
            raise UserError(f"{self.why_not}; {AGAIN}")

    def store(self, graphs: Mapping[str, bytes], facts: dict[str, Any]) -> bool:
        """Graphs first, then their record; a reader between the two sees a mismatch. False: it cannot be written."""
        record = {"source": self.source, "exporter": self.exporter, "sha256": _sha256(graphs.values()), **facts}
        for name, graph in graphs.items():
            path, temporary = self.directory / name, self.directory / f".{name}.{os.getpid()}.tmp"
            try:
                temporary.write_bytes(graph)
                temporary.replace(path)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                return self._not_kept(path, error)
        try:
            write_yaml(self.directory / RECORD_FILE, record)
        except OSError as error:
            return self._not_kept(self.directory / RECORD_FILE, error)
        return True

    def _not_kept(self, path: Path, error: OSError) -> bool:
        _log.warning("%s could not be kept (%s); it is made anew at every start", path, error.strerror)
        return False

    def _read(self, files: tuple[str, ...]) -> str:
        """Read what there is; why it cannot be used."""
        first = self.directory / files[0]
        try:
            self.record = read_yaml(self.directory / RECORD_FILE)
            graphs = {name: (self.directory / name).read_bytes() for name in files}
        except (OSError, UserError) as error:
            missing = not first.exists() or not (self.directory / RECORD_FILE).exists()
            return f"{first} {'is not there' if missing else f'or {RECORD_FILE} cannot be read ({error})'}"
        made_by = self.record.get("exporter", self.exporter)  # older records do not say
        if made_by != self.exporter:
            return f"{first} is of {made_by}, this program reads {self.exporter}"
        if self.record.get("source") != self.source:
            return f"{first} is of other weights, of another {MODEL_FILE} or another version"
        if self.record.get("sha256") != _sha256(graphs.values()):
            return f"{first} is damaged: it is not what {RECORD_FILE} describes (its SHA-256 differs)"
        self.graphs = graphs
        return ""


def _sha256(graphs: Iterable[bytes]) -> str:
    """Of all, one after another."""
    digest = hashlib.sha256()
    for graph in graphs:
        digest.update(graph)
    return digest.hexdigest()
