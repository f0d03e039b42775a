"""Ways to run Base and Slice-10 (512x512 depth) on a CPU: what each gains, and what it costs in accuracy.

    python bench/runtimes.py                 # one thread; writes bench/results/runtimes.md and .json
    python bench/runtimes.py --threads 2     # prints only

Behind docs/decisions/0023-runtimes.md. Rows: PyTorch as it is (eager: the baseline), in channels-last order, with batch
normalisation folded into the weights, and that in bfloat16; ONNX Runtime at its levels of graph optimisation ("all" is
what the render node uses), and with convolutions in int8 (calibrated on the poses themselves, the best case); OpenVINO
in float32, float16, bfloat16 and int8 where `openvino` is installed (`pip install openvino`, 59 MB; nothing else needs
it).

Errors are of depth, as a share of its range, against the network in float64, over the poses of the checkpoint: worst
pixel and mean. Graphs are refused above 0.1 % (models/pose2rgbd/export.py). The weights are random, with spread
statistics of batch normalisation: trained ones are smoother.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pose2rgbd_ros.bench.measure import Page, Row, cost_of, eager, random_checkpoint, use_threads, with_limits
from pose2rgbd_ros.models.backends import onnx_session
from pose2rgbd_ros.models.pose2rgbd.config import Pose2RGBDConfig
from pose2rgbd_ros.models.pose2rgbd.network import Pose2RGBD
from pose2rgbd_ros.models.pose2rgbd.onnx import build_graph
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.training.checkpoint import load_checkpoint

try:
    import openvino
except ImportError:
    openvino = None

RESULTS = Path(__file__).parent / "results"
NETWORKS = {
    "base": Pose2RGBDConfig("base", output="depth"),
    "slice-10": Pose2RGBDConfig("slice", slices=10, output="depth"),
}
COLUMNS = {
    "network": "", "way": "", "ms": ".2f", "eager / it": ".2f", "of sgemm": ".0%", "worst error": ".3%",
    "mean error": ".4%",
}  # fmt: skip
# A way to run a network: from an encoded pose (1, 7) to depth in [0, 1], as an array.
Way = Callable[[np.ndarray], np.ndarray]


def folded(model: Pose2RGBD) -> Pose2RGBD:
    """The same network with batch normalisation folded into the convolutions before it."""
    model = copy.deepcopy(model).eval()
    bottleneck = [model.bottleneck1, model.bottleneck2] if model.config.variant == "slice" else []
    for block in [*model.trunk, *bottleneck]:
        transposed = isinstance(block[0], nn.ConvTranspose2d)
        block[0], block[1] = fuse_conv_bn_eval(block[0], block[1], transpose=transposed), nn.Identity()
    return model


def torch_way(model: nn.Module, dtype: torch.dtype = torch.float32) -> Way:
    def run(pose: np.ndarray) -> np.ndarray:
        image = eager(model, torch.from_numpy(pose).to(dtype))().image
        return (image[:, -1].double().numpy() + 1) / 2

    return run


def torch_ways(model: Pose2RGBD) -> dict[str, Way]:
    last = torch.channels_last
    plain = folded(model)
    return {
        "eager": torch_way(model),
        "channels last": torch_way(copy.deepcopy(model).to(memory_format=last)),
        "folded, channels last": torch_way(copy.deepcopy(plain).to(memory_format=last)),
        "folded, channels last, bfloat16": torch_way(
            copy.deepcopy(plain).to(torch.bfloat16).to(memory_format=last), torch.bfloat16
        ),
    }


class _Poses(CalibrationDataReader):
    """Encoded poses, one at a time, as ONNX Runtime's calibration asks for them."""

    def __init__(self, poses: np.ndarray) -> None:
        self._left: Iterator[dict[str, np.ndarray]] = iter({"pose": pose[None]} for pose in poses)

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        return next(self._left, None)


def int8(graph: onnx.ModelProto, poses: np.ndarray, folder: Path) -> bytes:
    """The graph with its convolutions in int8, a scale for each channel."""
    onnx.save(graph, folder / "float.onnx")
    quantize_static(
        folder / "float.onnx", folder / "int8.onnx", _Poses(poses), quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
        op_types_to_quantize=["Conv"],
    )  # fmt: skip
    return (folder / "int8.onnx").read_bytes()


def session_way(run: Callable[[dict[str, np.ndarray]], Any], lowest: float, highest: float) -> Way:
    return lambda pose: (np.asarray(run({"pose": pose}), np.float64) - lowest) / (highest - lowest)


def onnx_ways(graph: bytes, quantized: bytes, threads: int, between: tuple[float, float]) -> dict[str, Way]:
    levels = onnxruntime.GraphOptimizationLevel
    ways = {}
    for name, level in (("basic", levels.ORT_ENABLE_BASIC), ("extended", levels.ORT_ENABLE_EXTENDED)):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.graph_optimization_level = level
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        ways[f"ONNX Runtime, {name}"] = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
    ways["ONNX Runtime, all"] = onnx_session(graph, threads)
    ways["ONNX Runtime, int8"] = onnx_session(quantized, threads)
    return {
        name: session_way(lambda inputs, session=session: session.run(["depth"], inputs)[0], *between)
        for name, session in ways.items()
    }


def openvino_ways(graph: bytes, quantized: bytes, threads: int, between: tuple[float, float]) -> dict[str, Way]:
    if openvino is None:
        return {}
    core, ways = openvino.Core(), {}
    for name, model, precision in (
        ("float32", graph, "f32"), ("float16", graph, "f16"), ("bfloat16", graph, "bf16"), ("int8", quantized, "f32"),
    ):  # fmt: skip
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        compiled = core.compile_model(core.read_model(model), "CPU", settings)
        given = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if {"f32": "f32", "f16": "f16", "bf16": "bf16"}[precision] != given:
            continue  # this processor has no such arithmetic
        request = compiled.create_infer_request()
        ways[f"OpenVINO, {name}"] = session_way(
            lambda inputs, request=request: request.infer(inputs)["depth"], *between
        )
    return ways


def measure(config: Pose2RGBDConfig, threads: int, rounds: int) -> Iterator[tuple[str, float, float, float, float]]:
    """Of each way: its name, seconds, share of sgemm, and worst and mean error as shares of the depth's range."""
    with tempfile.TemporaryDirectory() as folder:
        path, model, T_map_cam = random_checkpoint(Path(folder) / "checkpoint", config)
        normalization = load_checkpoint(path).normalization
        poses = normalization.encode_pose(T_map_cam).astype(np.float32)
        graph = build_graph(model, normalization)
        between = float(normalization.depth_min or 0), float(normalization.depth_max or 1)
        both = bytes(graph.SerializeToString()), int8(graph, poses[:6], Path(folder))
        ways = {
            **torch_ways(model), **onnx_ways(*both, threads, between), **openvino_ways(*both, threads, between)
        }  # fmt: skip
        exact = torch_way(copy.deepcopy(model).double(), torch.float64)
        truth = [exact(pose[None]) for pose in poses]
        errors = {
            name: np.abs(np.stack([run(pose[None]) for pose in poses]) - np.stack(truth)) for name, run in ways.items()
        }
        times, limits = with_limits(
            {name: lambda run=run: run(poses[:1]) for name, run in ways.items()}, rounds, threads
        )
        cost = cost_of(model, torch.from_numpy(poses[:1]))
    for name, seconds in times.items():
        share = cost.gflop / seconds / limits.gflop_s
        yield name, seconds, share, float(errors[name].max()), float(errors[name].mean())


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of runtimes.md and .json")
    options = parser.parse_args()
    use_threads(options.threads)
    version = "no OpenVINO" if openvino is None else f"OpenVINO {openvino.__version__.split('-')[0]}"
    page = Page(
        "runtimes", "Ways to run the paper's networks", "python bench/runtimes.py",
        f"{options.threads} thread(s), 512x512 depth, batch 1, medians of {options.rounds} rounds in turns, {version}. "
        "Rows and errors as its docstring says.",
    )  # fmt: skip
    table = Table.of(COLUMNS)
    print(page.markdown() + "\n" + table.markdown())
    for network, config in NETWORKS.items():
        baseline_ms: float | None = None
        for name, seconds, share, worst, mean in measure(config, options.threads, options.rounds):
            baseline_ms = baseline_ms or 1e3 * seconds  # eager is the first
            print(
                table.add(network, name, 1e3 * seconds, baseline_ms / (1e3 * seconds), share, worst, mean), flush=True
            )
            page.rows += [
                Row.of(f"{network} {name}", 1e3 * seconds, "ms", baseline_ms, 1e3 * seconds * share),
                Row.of(f"{network} {name} worst error", 100 * worst, "%"),
            ]
    page.sections.append(table.markdown())
    if options.threads == 1:
        page.write(options.out)


if __name__ == "__main__":
    main()
