"""How speed is measured: contestants in turns, the machine's own limits among them, and a page of what came of it.

A figure alone says little on a machine that does other things too. So whatever is compared takes turns in the same
run, medians count, and two contestants are always there that show what the machine gives just then: a product of
matrices (arithmetic) and a copy (memory).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.evaluation.machine import described, vector_units
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.backends import usable_cores
from pose2rgbd_ros.models.pose2rgbd.config import Pose2RGBDConfig
from pose2rgbd_ros.models.pose2rgbd.network import Pose2RGBD
from pose2rgbd_ros.training.checkpoint import Checkpoint, save_checkpoint
from pose2rgbd_ros.training.families import architecture_of

# Contestants in turns.

SGEMM_SIDE = 1024  # n of the n x n matrices: 2 n^3 FLOP over 12 MB, so that memory does not matter
COPIED_MB = 64  # larger than the caches of one core
_SGEMM, _COPY = "sgemm", "copy"


class Cost(NamedTuple):
    """What a network has to do for a batch: 10^9 operations (a multiplication and an addition are two) and 10^9 bytes.

    Bytes: each layer with weights reads its input and its weights and writes its output, once, in float32. What stands
    between the layers costs nothing, as where it is folded into them.
    """

    gflop: float
    gb: float


class Limits(NamedTuple):
    """What the machine gave in the same turns: 10^9 operations and 10^9 bytes (read and written) per second."""

    gflop_s: float
    gb_s: float

    def least_s(self, cost: Cost) -> float:
        """The time that neither limit lets a network stay below; caches move bytes faster than the copy did."""
        return max(cost.gflop / self.gflop_s, cost.gb / self.gb_s)


def use_threads(threads: int) -> None:
    """Let PyTorch have so many threads. UserError: more than the cores this process may use."""
    if not 1 <= threads <= usable_cores():
        raise UserError(f"{threads} threads were asked for; this process may use {usable_cores()} cores")
    torch.set_num_threads(threads)


def clock(threads: int) -> Callable[[], float]:
    """Seconds of the processor where one thread works, which other programs do not enter into; else of the clock."""
    return time.process_time if threads == 1 else time.perf_counter


def interleaved(
    contestants: Mapping[str, Callable[[], object]], rounds: int, threads: int = 1, turn: int = 4
) -> dict[str, float]:
    """Median seconds of each. In every round each has a turn of so many calls, after one that fills the caches again.

    Raises:
        UserError: no rounds, or an empty turn.
    """
    if rounds < 1 or turn < 1:
        raise UserError(f"{rounds} rounds of {turn} calls measure nothing; ask for one at least")
    now, times = clock(threads), {name: list[float]() for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            run()
            for _ in range(turn):
                started = now()
                run()
                times[name].append(now() - started)
    return {name: float(np.median(values)) for name, values in times.items()}


def with_limits(
    contestants: Mapping[str, Callable[[], object]], rounds: int, threads: int = 1, turn: int = 4
) -> tuple[dict[str, float], Limits]:
    """As :func:`interleaved`, with what the machine gave meanwhile."""
    a, b = torch.rand(2, SGEMM_SIDE, SGEMM_SIDE)
    product = torch.empty_like(a)
    source = torch.rand(COPIED_MB * 2**18)  # float32
    target = torch.empty_like(source)
    machine: dict[str, Callable[[], object]] = {
        _SGEMM: lambda: torch.mm(a, b, out=product),
        _COPY: lambda: target.copy_(source),
    }
    times = interleaved({**contestants, **machine}, rounds, threads, turn)
    moved_gb = 2 * source.numel() * 4 / 1e9
    limits = Limits(2 * SGEMM_SIDE**3 / 1e9 / times.pop(_SGEMM), moved_gb / times.pop(_COPY))
    return times, limits


# What is measured: networks of random weights, which take as long as trained ones.


def random_checkpoint(
    folder: Path, config: Pose2RGBDConfig, T_map_cam: np.ndarray | None = None
) -> tuple[Path, Pose2RGBD, np.ndarray]:
    """A checkpoint of random weights as a training would leave it, its network and its poses (N, 4, 4); by default 16
    within ten metres.

    Statistics of the batch normalisation are spread, so that the images are not flat and errors can be seen in them.
    """
    torch.manual_seed(0)
    model = Pose2RGBD(config).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.1, 0.5)
    if T_map_cam is None:
        T_map_cam = np.tile(np.eye(4), (16, 1, 1))
        T_map_cam[:, :3, 3] = np.random.default_rng(0).uniform(-5, 5, (16, 3))
    side, depth_m = config.size, np.array([[[1.0, 60.0]]], np.float32)
    save_checkpoint(
        folder,
        Checkpoint(
            architecture=architecture_of(model),
            normalization=Normalization.fit(T_map_cam, depth_m if config.has_depth else None),
            camera=Camera(side, side, side, side, (side - 1) / 2, (side - 1) / 2),
            map_frame="map",
            camera_frame="camera_optical_frame",
            depth_kind="metric" if config.has_depth else None,
            state_dict=model.state_dict(),
            training_stamps_ns=np.arange(len(T_map_cam)) * 10**8,
            training_T_map_cam=T_map_cam,
        ),
    )
    return folder, model, T_map_cam


def cost_of(network: nn.Module, inputs: Tensor) -> Cost:
    """What `network` has to do for these inputs, counted in a pass of it."""
    moved = 0

    def count(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        nonlocal moved
        moved += given[0].numel() + made.numel() + sum(weight.numel() for weight in layer.parameters(recurse=False))

    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    hooks = [layer.register_forward_hook(count) for layer in network.modules() if isinstance(layer, kinds)]
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            network(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return Cost(counter.get_total_flops() / 1e9, 4 * moved / 1e9)


def eager(network: nn.Module, inputs: Tensor) -> Callable[[], Any]:
    """The baseline of every ratio: the network as it is, in `eval` and `inference_mode`."""
    network.eval()

    def run() -> Any:
        with torch.inference_mode():
            return network(inputs)

    return run


# What came of it.

LESS_IS_BETTER = {"ms", "s", "MB"}


@dataclass(frozen=True)
class Row:
    """A figure. None: there is no such thing.

    baseline: what it is compared with, measured in the same run, in the same unit. limit: the best that the machine
    could do, likewise. ratio: how many times better than the baseline; share_of_limit: how much of the limit is
    reached (1: all of it).
    """

    name: str
    value: float | None
    unit: str
    baseline: float | None = None
    ratio: float | None = None
    limit: float | None = None
    share_of_limit: float | None = None

    @classmethod
    def of(
        cls, name: str, value: float | None, unit: str, baseline: float | None = None, limit: float | None = None
    ) -> Row:
        """A figure, with its ratios; of ms, s and MB less is better, of all others more."""
        less = unit in LESS_IS_BETTER

        def times(other: float | None) -> float | None:
            """How many times better than `other`."""
            if value is None or other is None or value == 0 or other == 0:
                return None
            return other / value if less else value / other

        return cls(name, value, unit, baseline, times(baseline), limit, times(limit))


@dataclass
class Page:
    """A page of figures: `NAME.md` for people, `NAME.json` with a row a figure for programs.

    `command` is what makes it again. The machine and its load are noted when the page is begun, before anything is
    measured.
    """

    name: str
    title: str
    command: str
    about: str
    rows: list[Row] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)
    machine: str = field(default_factory=lambda: f"{described()} ({vector_units()})")

    def __post_init__(self) -> None:
        import onnxruntime

        self.machine += f", PyTorch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}"

    def markdown(self) -> str:
        head = f"# {self.title}\n\n`{self.command}`, {self.about}\n\nMachine: {self.machine}."
        return "\n\n".join([head, *self.sections]) + "\n"

    def write(self, folder: Path) -> Path:
        """Both files; the path of the page. UserError: they cannot be written."""
        content = {"command": self.command, "machine": self.machine, "rows": [asdict(row) for row in self.rows]}
        with os_errors(f"{folder / self.name} cannot be written"):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{self.name}.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
            (folder / f"{self.name}.md").write_text(self.markdown())
        return folder / f"{self.name}.md"
