"""One row of an experiment: train a model, or go on with it, and measure it on the frames it was not shown."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pose2rgbd_ros.dataset.layout import SPLIT
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.evaluation.picture_report import evaluate
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training.checkpoint import CHECKPOINT, CONFIG_FILE, LAST, METRICS_FILE, WEIGHTS_FILE, Checkpoint
from pose2rgbd_ros.training.config import TrainConfig
from pose2rgbd_ros.training.trainer import TrainResult, train

# What rendering costs, measured in a process of its own: milliseconds a frame and the most memory it took.
#
#     python -m pose2rgbd_ros.experiments.run CHECKPOINT DEVICE THREADS SIZE...
#
# prints one line of JSON. Only in a fresh process does the peak of memory belong to one model.


POSES = 12  # training poses, spread over the flight, that are looked at in turn
LEAST_S, LEAST_FRAMES = 1.0, 5  # a size is rendered until both are reached
PATIENCE_S = 900.0


def render_cost(checkpoint: Path, sizes: tuple[int, ...], device: str, threads: int) -> dict[str, Any]:
    """Measure a checkpoint's :class:`Renderer` in a child process.

    Returns:
        "backend", "device", "clock" ("cpu": processor time of all threads together; "wall" on a GPU), "loaded_mb"
        (highest memory until everything was loaded), and by size as text "ms" (median of the frames) and
        "peak_mb" (highest memory of the whole process so far, libraries included; on a GPU of its memory). A model
        that renders only the camera it was trained with has that one size.

    Raises:
        UserError: the child failed or took longer than a quarter of an hour.
    """
    # More threads than are counted would only wait for each other.
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    words = [str(checkpoint), device, str(threads), *map(str, sorted(sizes))]
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, *words],
            env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=True,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or "nothing said").splitlines()[-1]
        raise UserError(f"rendering {checkpoint} failed: {last.removeprefix('error: ')}") from error
    except subprocess.TimeoutExpired as error:
        raise UserError(f"rendering {checkpoint} took longer than {PATIENCE_S:.0f} s") from error
    cost: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return cost


def _measure(checkpoint: Path, device: str, threads: int, sizes: list[int]) -> dict[str, Any]:
    import torch

    from pose2rgbd_ros.rendering.renderer import Renderer
    from pose2rgbd_ros.training.checkpoint import load_checkpoint

    renderer = Renderer(checkpoint, device, threads=threads)
    T_all = load_checkpoint(checkpoint).training_T_map_cam
    T = T_all[np.linspace(0, len(T_all) - 1, min(POSES, len(T_all))).astype(int)]
    on_gpu = renderer.device != "cpu"
    now_s = time.monotonic if on_gpu else time.process_time
    cost: dict[str, Any] = {
        "backend": renderer.backend_name,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "clock": "wall" if on_gpu else "cpu",
        "loaded_mb": _memory_mb(on_gpu),
        "ms": {},
        "peak_mb": {},
    }
    for size in sizes if renderer.any_camera else [renderer.camera.width]:
        camera = renderer.camera.resized(size, size)
        out = renderer.render_for_camera(T[:1], camera) if renderer.any_camera else renderer.render(T[:1])
        times: list[float] = []
        while sum(times) < LEAST_S or len(times) < LEAST_FRAMES:
            pose = T[len(times) % len(T)][None]
            started = now_s()
            if renderer.any_camera:
                renderer.render_for_camera(pose, camera, out)
            else:
                renderer.render(pose, out)
            times.append(now_s() - started)
        cost["ms"][str(size)] = round(1e3 * float(np.median(times)), 3)
        cost["peak_mb"][str(size)] = _memory_mb(on_gpu)
    return cost


def _memory_mb(on_gpu: bool) -> float:
    """The highest so far."""
    if on_gpu:
        import torch

        return round(torch.cuda.max_memory_allocated() / 1e6, 1)
    # Not getrusage: its figure survives exec, and would be the parent's.
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return round(kib * 1024 / 1e6, 1)


if __name__ == "__main__":
    try:
        told = _measure(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), [int(text) for text in sys.argv[4:]])
    except UserError as problem:
        sys.exit(f"error: {problem}")
    print(json.dumps(told))


if TYPE_CHECKING:
    from pose2rgbd_ros.sim.dataset import SimDatasetConfig

logger = logging.getLogger(__name__)

FEWEST_TO_FIT = 4  # validations in the last quarter of a run
RESULT_FILE = "measured.yaml"  # in a run's folder, once it is trained and measured
REPORT = "report"

# group of held-out frames -> "model", "mean_image" or "nearest_frame" -> measure -> mean
GroupScores = dict[str, dict[str, dict[str, float]]]


@dataclass(frozen=True)
class Job:
    """A model to train on a dataset; its run is kept under `name` in the experiment's folder."""

    name: str
    dataset: Path
    config: TrainConfig

    def to_dict(self) -> dict[str, Any]:
        """Plain values, to tell whether a job is the one that was done."""
        return {"dataset": str(self.dataset), **self.config.resolved()}


@dataclass
class Measured:
    """What came of a job.

    groups: scores by group of held-out frames; of datasets without groups the one group is called "held out".
    effort: images shown, epochs, seconds by the run's clock, parameters, checkpoint size in bytes, device.
    choose: mean errors on the frames that choose, which may choose among settings and are in no table.
    stopped: why the training ended early, with what to change. run: the run's folder. error: why there are no scores;
    then the rest is empty.
    """

    run: Path
    groups: GroupScores = field(default_factory=dict)
    depth_unit: str = "m"
    collapsed: bool = False
    effort: dict[str, Any] = field(default_factory=dict)
    choose: dict[str, float] = field(default_factory=dict)
    stopped: str = ""
    error: str = ""

    @property
    def counts(self) -> bool:
        """Whether it is compared with others: measured, and not collapsed."""
        return not self.error and not self.collapsed


@dataclass
class OfSeeds:
    """What came of one thing, seed by seed; empty where nothing was trained."""

    seeds: list[Measured] = field(default_factory=list, kw_only=True)

    @property
    def measured(self) -> list[Measured]:
        return [each for each in self.seeds if not each.error]

    @property
    def error(self) -> str:
        return next((each.error for each in self.seeds if each.error), "")


def measure(job: Job, folder: Path, train: Callable[[Job, Path], TrainResult] | None = None) -> Measured:
    """Train and evaluate a job in `folder`/name; what is finished is read, what was interrupted goes on.

    `train` makes a run's checkpoint in the place of :func:`train_job`. A job that cannot be trained (UserError) gives
    a `Measured` with its `error`: one row must not cost a table.

    Raises:
        KeyboardInterrupt: somebody stopped the training; its state is saved.
        UserError: the folder holds this job with other settings, or cannot be made.
    """
    run = folder / job.name
    if (run / RESULT_FILE).exists():
        return Measured(run, **read_result(run / RESULT_FILE, job))
    make_folder(folder)
    try:
        result = (train or train_job)(job, run)
    except UserError as error:
        logger.warning("%s: %s", job.name, error)
        return Measured(run, error=str(error))
    evaluation = evaluate(run, job.dataset, run / REPORT, device=job.config.device)
    effort = effort_of(evaluation.checkpoint, run)
    values = evaluation.to_dict()
    groups = values["group_scores"] or {"held out": values["scores"]}
    choose = result.scores if result.scored_on == "choose" else {}
    measured = Measured(run, groups, evaluation.depth_unit, evaluation.collapsed, effort, choose, result.stopped)
    kept = {key: value for key, value in dataclasses.asdict(measured).items() if key not in ("run", "error")}
    write_yaml(run / RESULT_FILE, {"job": job.to_dict(), **kept})
    return measured


def simulated(path: Path, config: SimDatasetConfig) -> Path:
    """A dataset of the simulator for an experiment, made once; UserError where it has another number of frames."""
    from pose2rgbd_ros.sim.dataset import write_sim_dataset  # no part of what rendering costs

    if not (path / SPLIT).exists():  # written last
        write_sim_dataset(path, config)
    elif len(Dataset(path)) != config.frames:
        made = counted(len(Dataset(path)), "frame")
        raise UserError(f"{path} was made with {made}; choose another --out, or remove it")
    return path


SLOPES = ("position_median_m", "depth_mae", "rgb_mae_px")  # what a run's log is asked for how far it is from converged


def effort_of(checkpoint: Checkpoint, run: Path) -> dict[str, Any]:
    """What a run's training took, how large its network is, and how much it still learnt (see :func:`slope`)."""
    told = checkpoint.provenance
    slopes = {f"slope_{name}": slope(run / METRICS_FILE, name) for name in SLOPES}
    return {
        **{name: value for name, value in slopes.items() if value is not None},
        **{name: told[name] for name in ("images", "seconds", "clock", "device") if name in told},
        "epochs": round(told["images"] / max(1, told["frames"]["train"]), 2),
        "parameters": sum(value.size for value in checkpoint.state_dict.values()),
        "bytes": (run / CHECKPOINT / WEIGHTS_FILE).stat().st_size,
    }


def slope(log: Path, name: str) -> float | None:
    """How much an error changes over the last quarter of a run, as a share of what it is at the end.

    By a line fitted to the validations, on frames that choose. Near 0: converged, or at a rate that fell to nothing.
    None: not measured, or too seldom.
    """
    if not log.exists():
        return None
    with log.open(newline="") as stream:
        rows = [(float(row["step"]), float(row[name])) for row in csv.DictReader(stream) if row.get(name)]
    last = [(step, value) for step, value in rows if step >= 0.75 * rows[-1][0] and math.isfinite(value)]
    if len(last) < FEWEST_TO_FIT:
        return None
    steps, values = np.array(last).T
    line = np.polyfit(steps, values, 1)
    return float(line[0]) * rows[-1][0] / 4 / max(abs(float(np.polyval(line, rows[-1][0]))), 1e-12)


def interval(differences: Sequence[float]) -> tuple[float, float, float] | None:
    """Mean, and its 95 % interval by Student's t, of what two rows differ by, seed by seed; None below 2 seeds."""
    if len(differences) < 2:
        return None
    from scipy import stats

    mean, n = float(np.mean(differences)), len(differences)
    half = float(stats.t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / n**0.5)
    return mean, mean - half, mean + half


def make_folder(folder: Path) -> None:
    """The folder of the runs; UserError where there can be none, which ends an experiment."""
    with os_errors(f"cannot make the folder {folder}", "choose another --out"):
        folder.mkdir(parents=True, exist_ok=True)


def train_job(job: Job, run: Path) -> TrainResult:
    """Train in the folder `run`, or go on there. UserError: as of `train`. KeyboardInterrupt: stopped, and saved."""
    begun = (run / CONFIG_FILE).exists()
    if begun and not (run / LAST).is_dir() and not (run / f".{LAST}.old").is_dir():
        shutil.rmtree(run)  # killed before there was anything to go on from
        begun = False
    start_s = time.monotonic()
    result = train(job.dataset, run, job.config, resume=begun)
    if result.interrupted:
        raise KeyboardInterrupt
    logger.info("%s: trained in %.0f s on the wall", job.name, time.monotonic() - start_s)
    return result


def read_result(file: Path, job: Job) -> dict[str, Any]:
    """What a finished job wrote; UserError when it was done with other settings."""
    values, begun = read_yaml(file), job.to_dict()
    before = job.config.with_defaults(values.pop("job"))
    for name, value in begun.items():
        if before.get(name) != value:
            raise UserError(
                f"{file.parent} was made with {name}={before.get(name)}, now it is {value}; "
                "choose another --out, or remove that folder"
            )
    return values
