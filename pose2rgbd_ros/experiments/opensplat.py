"""OpenSplat, a program of others that trains Gaussian splats, as a row of a table: run as a process, then measured as
our own models are.

It is AGPL: found on PATH, asked by its command line alone, never part of this package. It is given what our models are
given, the training frames at the training size, as a COLMAP model in binary files with points of recorded depth; what
it writes, a .ply of splats, becomes a checkpoint of the family gsplat, which our rasteriser shows on a CPU.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pose2rgbd_ros.dataset.encode import encode_image
from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.experiments.run import Job
from pose2rgbd_ros.experiments.settings import OPENSPLAT, LeagueConfig
from pose2rgbd_ros.formats.colmap import camera_row, image_row
from pose2rgbd_ros.formats.colmap_model import Model, Points
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.gsplat.learner import surface_samples
from pose2rgbd_ros.models.gsplat.network import require_pinhole
from pose2rgbd_ros.models.gsplat.ply import read_ply
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training.checkpoint import CHECKPOINT, save_checkpoint
from pose2rgbd_ros.training.data import TrainingData, mean_image, open_training_data
from pose2rgbd_ros.training.evaluators import make_checkpoint, to_store
from pose2rgbd_ros.training.trainer import TrainResult

logger = logging.getLogger(__name__)

KNOWN = "1.1"  # whose options and files these are
PROJECT, SPLATS, OUTPUT, STEPS_FILE = "project", "splats.ply", "opensplat.log", "steps.yaml"
PILOT_SHARE = 0.5  # of the budget, to learn how many steps it is good for
ENDLESS = 10_000_000  # steps of a pilot, which is ended
POLL_S = 0.1
STEP = re.compile(r"Step (\d+):")


@dataclass(frozen=True)
class Program:
    """OpenSplat as it was found, its version such as "1.1.5 (git commit 15b7e80)", and what it is given."""

    path: Path
    version: str
    points: int
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class OpenSplatJob(Job):
    """A job of OpenSplat's; its `config` is one of gsplat's, for the frames, the size and the budget."""

    program: Program

    def to_dict(self) -> dict[str, Any]:
        program = self.program
        ours = {"version": program.version, "points": program.points, "arguments": list(program.arguments)}
        return {**super().to_dict(), "opensplat": ours}


def find(config: LeagueConfig) -> Program | None:
    """The program of the settings; None where there is none, or it shall take no part.

    UserError: it does not say its version, or one whose options are not known here.
    """
    found = shutil.which(config.opensplat) if OPENSPLAT in config.models else None
    if found is None:
        return None
    path = Path(found).resolve()
    return Program(path, _version(path), config.opensplat_points, tuple(shlex.split(config.opensplat_arguments)))


def _version(program: Path) -> str:
    try:
        said = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(
            f"{program} --version fails ({error}); is it OpenSplat {KNOWN}, and are its libraries found?"
        ) from error
    version = (said.stdout.strip().splitlines() or [""])[-1]
    if re.match(rf"{re.escape(KNOWN)}(\.|\s|$)", version) is None:
        raise UserError(
            f"{program} is of version {version[:80]!r}, and OpenSplat {KNOWN} is known here; put that one on PATH, or "
            "leave opensplat out of --models"
        )
    return version


def train_opensplat(job: Job, run: Path) -> TrainResult:
    """Make a run's checkpoint by OpenSplat; what was interrupted begins again, but for the steps of its budget.

    Steps are what the program counts, minutes what a budget is in: a pilot that is ended after half of the minutes says
    how many steps they are good for, and the run takes that many. The pilot's time is not counted.

    Raises:
        UserError: a camera or dataset without what it needs, the program fails or writes something else.
    """
    assert isinstance(job, OpenSplatJob)
    data = open_training_data(job.dataset, job.config).for_training()
    require_pinhole(data.cache.camera)
    if data.cache.depth is None or data.dataset.depth_kind != "metric":
        raise UserError(f"{job.dataset} has no metric depth, of which opensplat's points to begin from are made")
    with os_errors(f"cannot write {run}"):
        shutil.rmtree(run / PROJECT, ignore_errors=True)
        write_project(run / PROJECT, data, job.program.points, job.config.seed)
    steps = job.config.steps or _steps_of(job, run)
    logger.info("%s: %d steps", job.name, steps)
    spent = _run(job, run, steps)
    model = read_ply(run / PROJECT / SPLATS)
    colour = mean_image(data.cache, data.split.train)[0].mean(axis=(0, 1)) / 255
    model.background.data[:] = model.background.new_tensor(colour)
    effort = {
        "steps": steps,
        "images": steps,  # one a step
        "seconds": round(spent.cpu_s, 1),
        "clock": "cpu",
        "device": "cpu",
        "kept": "last",
        "scored_on": "train",
        "program": f"OpenSplat {job.program.version}",
        "splats": model.config.splats,
        "training_peak_mb": round(spent.peak_mb, 1),
    }
    checkpoint = make_checkpoint(model, to_store(model), data, job.config, {}, effort)
    save_checkpoint(run / CHECKPOINT, checkpoint)
    shutil.rmtree(run / PROJECT, ignore_errors=True)
    return TrainResult(
        run / CHECKPOINT, {}, "train", {}, steps / len(data.split.train), steps, spent.cpu_s, False, "m", ""
    )


def write_project(folder: Path, data: TrainingData, count: int, seed: int) -> None:
    """The training frames as COLMAP's folder: images/ and sparse/0/, with `count` points of their depth.

    On a CPU the program takes the principal point for the middle of the image: where it is not, the images lose the
    strip that makes it so.
    """
    camera, (x0, y0, width, height) = centred(data.cache.camera)
    (folder / "images").mkdir(parents=True)
    (folder / "sparse/0").mkdir(parents=True)
    rows = []
    for index in data.split.train.tolist():
        name = f"{data.dataset.stamps_ns[index]}.png"
        rgb = np.ascontiguousarray(data.cache.rgb[index][y0 : y0 + height, x0 : x0 + width])
        (folder / "images" / name).write_bytes(encode_image(rgb, camera, "png")[1])
        rows.append(image_row(index + 1, data.T_map_cam[index], name))
    xyz, colour, _ = surface_samples(data, count, np.random.default_rng(seed))
    points = Points(xyz, (colour * 255).round().astype(np.uint8))
    for name, content in Model([camera_row(camera)], rows, points).files().items():
        if isinstance(content, bytes):
            (folder / "sparse/0" / name).write_bytes(content)


def centred(camera: Camera) -> tuple[Camera, tuple[int, int, int, int]]:
    """The largest part of a camera's image whose middle is its principal point to half a pixel: the camera of it, and
    x0, y0, width and height. UserError: the principal point lies outside the image.
    """
    begins, sizes = [], []
    for centre, size in ((camera.cx, camera.width), (camera.cy, camera.height)):
        surplus = round(2 * centre - (size - 1))  # pixels that are more on the one side than on the other
        begins.append(max(surplus, 0))
        sizes.append(size - abs(surplus))
    if min(sizes) < 1:
        raise UserError("the camera's principal point lies outside its image, which opensplat does not know")
    window = begins[0], begins[1], sizes[0], sizes[1]
    return camera.cropped(*window), window


# The process: its processor time, the most memory it took, and the steps it says it has done.


@dataclass
class Spent:
    """Of a process so far: processor time of all its threads, the most memory, and (time, steps) as they were said."""

    cpu_s: float = 0.0
    peak_mb: float = 0.0
    steps: list[tuple[float, int]] = field(default_factory=list)


def _steps_of(job: OpenSplatJob, run: Path) -> int:
    """How many steps the budget is good for, by a pilot; kept, so that it is asked once."""
    kept = run / STEPS_FILE
    if kept.exists():
        return int(read_yaml(kept)["steps"])
    budget_s = 60 * float(job.config.max_minutes or 0)
    spent = _run(job, run, ENDLESS, until_s=PILOT_SHARE * budget_s)
    if not spent.steps:
        raise UserError(
            f"{job.program.path} did no step in {spent.cpu_s:.0f} s of the processor; give more --minutes or fewer "
            f"--opensplat-points ({run / OUTPUT} is what it said)"
        )
    steps = steps_within(spent.steps, budget_s)
    write_yaml(kept, {"steps": steps, "pilot_cpu_s": round(spent.cpu_s, 1), "pilot_steps": spent.steps[-1][1]})
    return steps


def steps_within(said: list[tuple[float, int]], budget_s: float) -> int:
    """Steps of a budget, from (time, steps) of a shorter run: those it did, and on at the pace of its last third."""
    end_s, done = said[-1]
    late = [(at_s, step) for at_s, step in said if at_s >= end_s * 2 / 3]
    begin_s, begun = late[0] if late[0][1] < done else (0.0, 0)
    pace = (done - begun) / max(end_s - begin_s, 1e-6)
    return max(1, done + int(pace * max(budget_s - end_s, 0.0)))


def _run(job: OpenSplatJob, run: Path, steps: int, until_s: float | None = None) -> Spent:
    """Train for `steps`, or until so much processor time is spent. UserError: it failed, or wrote nothing."""
    project = (run / PROJECT).resolve()
    splats = project / SPLATS
    command = [str(job.program.path), str(project), "-n", str(steps), "-o", str(splats), "--cpu", "--keep-crs"]
    command += job.program.arguments
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    spent, ended = Spent(), False
    before = _children_s()
    with (run / OUTPUT).open("w") as output:
        with os_errors(f"cannot run {job.program.path}"):
            process = subprocess.Popen(
                command, cwd=run, env={**os.environ, **one_thread}, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            while process.poll() is None:
                _look(process.pid, run / OUTPUT, spent)
                ended = until_s is not None and spent.cpu_s >= until_s
                if ended:
                    break
                time.sleep(POLL_S)
        finally:
            process.kill()
            process.wait()
    spent.cpu_s = _children_s() - before
    if ended:
        return spent
    if process.returncode != 0 or not splats.is_file():
        said = [line.strip() for line in (run / OUTPUT).read_text(errors="replace").splitlines() if line.strip()]
        problem = f"ended with {process.returncode}" if process.returncode else f"wrote no {SPLATS}"
        raise UserError(f"{job.program.path} {problem}: {said[-1][:200] if said else 'it said nothing'}")
    return spent


def _look(pid: int, output: Path, spent: Spent) -> None:
    """Bring up to date what a process has spent; one that just ended stays as it was."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
    except (OSError, ValueError):
        return
    spent.cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    if peak is not None:
        spent.peak_mb = int(peak[1]) * 1024 / 1e6
    with output.open("rb") as stream:
        stream.seek(max(0, output.stat().st_size - 4096))
        said = STEP.findall(stream.read().decode(errors="replace"))
    if said and (not spent.steps or int(said[-1]) > spent.steps[-1][1]):
        spent.steps.append((spent.cpu_s, int(said[-1])))


def _children_s() -> float:
    """Processor time of the processes that ended under this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
