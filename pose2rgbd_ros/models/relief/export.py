"""What a relief needs where there is neither PyTorch nor onnx: its shader as a graph, or that of each tile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.backends import check_renderable, onnx_session
from pose2rgbd_ros.models.graphs import StoredGraphs, graph_file
from pose2rgbd_ros.models.relief.backend import EXPORTER, shader_graph, tile_state
from pose2rgbd_ros.models.relief.config import ReliefConfig, TiledReliefConfig
from pose2rgbd_ros.training.checkpoint import as_tensors, checkpoint_directory, load_checkpoint

SIDE = 16  # of the input that graph and shader are compared on
TOLERANCE = 1e-4  # of the largest value of its answer


def export(checkpoint: Path, force: bool = False) -> list[str]:
    """See training/families.py. UserError: a graph differs from its shader, onnx is missing, the disk is full."""
    directory, loaded = checkpoint_directory(Path(checkpoint)), load_checkpoint(checkpoint)
    check_renderable(loaded)
    config = loaded.config()
    tiles: list[int | None] = list(range(config.count)) if isinstance(config, TiledReliefConfig) else [None]
    files = {graph_file(tile): tile for tile in tiles}
    stored = StoredGraphs(directory, loaded, EXPORTER, files)
    first, verb = directory / next(iter(files)), "current"
    if force or stored.why_not:
        states = {name: tile_state(loaded.state_dict, tile) for name, tile in files.items()}
        graphs = {name: shader_graph(state) for name, state in states.items()}
        off = max(difference(graphs[name], config, state) for name, state in states.items())
        if not off <= TOLERANCE:  # NaN is not within
            raise UserError(f"the exported graph is not the shader: {off:.1e} of its answer; it was not kept")
        if not stored.store(graphs, {"shader_share": off}):
            raise UserError(f"cannot write {first}; is the disk full or the folder read-only?")
        verb = "written"
    more = f" and those of {len(files) - 1} more tiles" if len(files) > 1 else ""
    return [f"{first}{more}: the shader, {verb}; the checkpoint runs without PyTorch"]


def difference(graph: bytes, config: ReliefConfig, state: dict[str, Any]) -> float:
    """The largest difference between a graph and its shader on random input, as a share of the largest answer."""
    import torch

    from pose2rgbd_ros.models.relief.network import Shader

    shader, prefix = Shader(config), "shader."
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    shader.load_state_dict(as_tensors(own))
    channels = state["shader.layers.0.weight"].shape[1]
    values = np.random.default_rng(0).standard_normal((1, channels, SIDE, SIDE)).astype(np.float32)
    with torch.inference_mode():
        expected = shader.layers(torch.from_numpy(values)).numpy()
    (found,) = onnx_session(graph, 1).run(None, {"input": values})
    return float(np.abs(found - expected).max() / max(float(np.abs(expected).max()), 1e-6))
