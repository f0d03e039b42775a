"""The ONNX graph beside a checkpoint's weights: what a network needs to be rendered where there is no PyTorch.

    renderer.onnx        the graph
    renderer.onnx.yaml   what it was made from, by which exporter, its SHA-256, and how closely it follows the network

It is used only when both files fit each other and the checkpoint; anything else (other weights, an edited model.yaml,
an older exporter, a damaged file) leads to a new export where PyTorch is, and to a refusal where it is not.
"""

from __future__ import annotations

import hashlib
import logging
import os
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


def source_fingerprint(directory: Path, checkpoint: Checkpoint, exporter: str) -> str:
    """SHA-256 of what a graph is made from: weights, model.yaml and the exporter, a name and a version."""
    digest = hashlib.sha256(f"pose2rgbd {exporter}\n{checkpoint.weights_sha256}\n".encode())
    digest.update((directory / MODEL_FILE).read_bytes())
    return digest.hexdigest()


class StoredGraph:
    """The graph beside a checkpoint, by one exporter: `graph` and its `record` where `why_not` is empty; else that says
    why it cannot be used, in words that begin with the file's name.
    """

    def __init__(self, directory: Path, checkpoint: Checkpoint, exporter: str) -> None:
        self.path, self._record_path, self.exporter = directory / GRAPH_FILE, directory / RECORD_FILE, exporter
        self.source = source_fingerprint(directory, checkpoint, exporter)
        self.graph, self.record = b"", dict[str, Any]()
        self.why_not = self._read()
        if self.why_not and self._record_path.exists():
            _log.info("%s", self.why_not)

    def require(self) -> None:
        """UserError, where it cannot be used and there is no PyTorch to make it anew."""
        if self.why_not and not is_installed("torch"):
            raise UserError(f"{self.why_not}; {AGAIN}")

    def store(self, graph: bytes, facts: dict[str, Any]) -> bool:
        """The graph first, then its record; a reader between the two sees a mismatch. False: it cannot be written."""
        temporary = self.path.with_name(f".{GRAPH_FILE}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(graph)
            temporary.replace(self.path)
            record = {"source": self.source, "exporter": self.exporter, "sha256": _sha256(graph), **facts}
            write_yaml(self._record_path, record)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            _log.warning("%s could not be kept (%s); it is made anew at every start", self.path, error.strerror)
            return False
        return True

    def _read(self) -> str:
        """Read what there is; why it cannot be used."""
        try:
            self.record = read_yaml(self._record_path)
            graph = self.path.read_bytes()
        except (OSError, UserError) as error:
            missing = not self.path.exists() or not self._record_path.exists()
            return f"{self.path} {'is not there' if missing else f'or {RECORD_FILE} cannot be read ({error})'}"
        made_by = self.record.get("exporter", self.exporter)  # older records do not say
        if made_by != self.exporter:
            return f"{self.path} is of {made_by}, this program reads {self.exporter}"
        if self.record.get("source") != self.source:
            return f"{self.path} is of other weights, of another {MODEL_FILE} or another version"
        if self.record.get("sha256") != _sha256(graph):
            return f"{self.path} is damaged: it is not what {RECORD_FILE} describes (its SHA-256 differs)"
        self.graph = graph
        return ""


def _sha256(graph: bytes) -> str:
    return hashlib.sha256(graph).hexdigest()
