"""`pose2rgbd run [SOURCE ...]`: a recording becomes a dataset, a model and a live ROS node, and a report to look at."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from pose2rgbd_ros.cli.run_models import RunTraining, calibrate_served, choose, serve, train_models
from pose2rgbd_ros.dataset.importers.config import ConvertConfig
from pose2rgbd_ros.dataset.importers.photos.settings import PhotoSettings
from pose2rgbd_ros.dataset.importers.report import REPORT
from pose2rgbd_ros.dataset.importers.video.settings import VideoSettings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import read_yaml, to_yaml_dict, write_yaml

# A demo's worth of training, of all models together; with half its channels base sees more than twice the images.
DEMO_MINUTES, DEMO_WIDTH = 1.5, 0.5
MADE = ("dataset", "runs", "run")  # in the folder of a run, and deleted to be made anew


@dataclass
class RunConfig:
    """Recording -> dataset -> models -> live node -> report. Without a recording it flies over the simulated city.

    A recording is what `pose2rgbd convert` takes: bags, folders of photographs, or videos with their logs.
    Steps that are done are not done again: a second call goes on where the first one stopped.
    """

    sources: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="SOURCE", help="recordings of one place"),
    ] = ()
    out: Annotated[Path | None, tyro.conf.arg(help="folder for everything (out/demo, or out/NAME)")] = None
    live_s: Annotated[float, tyro.conf.arg(help="seconds to fly with the live node; 0: do not")] = 20.0
    min_gain: Annotated[
        float,
        tyro.conf.arg(
            help="fail unless each held-out error is this share below the mean image's (0.3: 30 %)"
        ),
    ] = 0.0
    strict: Annotated[
        bool,
        tyro.conf.arg(help="warnings about the dataset are errors: stop with exit status 1, and keep it"),
    ] = False
    fresh: Annotated[bool, tyro.conf.arg(help="begin again from the first step")] = False
    convert: ConvertConfig = field(default_factory=ConvertConfig)
    photos: PhotoSettings = field(default_factory=PhotoSettings)
    video: VideoSettings = field(default_factory=VideoSettings)
    train: RunTraining = field(
        default_factory=lambda: RunTraining(max_minutes=DEMO_MINUTES, width=DEMO_WIDTH)
    )


class Steps:
    """The steps of one run folder; a step is skipped when it was finished with the same inputs before.

    UserError: the folder cannot be made, or holds a dataset or a training that no run made.
    """

    def __init__(self, out: Path, fresh: bool) -> None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot make the folder {out} ({error.strerror}); choose another --out"
            ) from error
        self._path = out / "steps.yaml"
        foreign = [name for name in MADE if (out / name).exists()]
        if foreign and not self._path.exists():
            raise UserError(
                f"{out / foreign[0]} was not made by pose2rgbd run, which would overwrite it; choose another --out"
            )
        self._done: dict[str, Any] = read_yaml(self._path) if self._path.exists() and not fresh else {}
        self._chain = ""

    def run(self, name: str, inputs: Any, job: Callable[[bool], Any]) -> None:
        """Call `job(begun)`, unless it was finished with these inputs, after the same steps, before.

        `begun` tells the job that an earlier call with the same inputs was interrupted, so it may resume.
        """
        text = json.dumps([self._chain, name, inputs], sort_keys=True, default=str)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._chain = key
        state = self._done.get(name) or {}
        if state == {"key": key, "finished": True}:
            print(f"== {name}: done before")
            return
        print(f"== {name}", flush=True)
        self._write(name, key, False)
        started = time.monotonic()
        job(state.get("key") == key)
        self._write(name, key, True)
        print(f"   {name} took {time.monotonic() - started:.0f} s", flush=True)

    def _write(self, name: str, key: str, finished: bool) -> None:
        self._done[name] = {"key": key, "finished": finished}
        write_yaml(self._path, self._done)


def main(argv: list[str]) -> int:
    """Run all steps; 1 when there are warnings and --strict, the node did not deliver, or the model is not good enough."""
    config = tyro.cli(RunConfig, args=argv, prog="pose2rgbd run")
    missing = [str(source) for source in config.sources if not source.exists()]
    if missing:
        raise UserError(f"{', '.join(missing)}: no such recording")
    # a library that is missing is told before the first step, not hours later
    importlib.import_module("pose2rgbd_ros.training.trainer")
    out = config.out or Path("out") / (config.sources[0].resolve().stem if config.sources else "demo")
    steps = Steps(out, config.fresh)
    started = time.monotonic()
    sources = list(config.sources) or [_record(steps, out)]
    dataset, run = out / "dataset", out / "run"
    _convert(steps, sources, dataset, config)
    _inspect(steps, dataset)
    warnings = read_yaml(dataset / REPORT).get("warnings") or []
    if config.strict and warnings:
        print(f"error: {'; '.join(warnings)} (--strict); {dataset} is kept", file=sys.stderr)
        return 1
    served = choose(train_models(steps.run, dataset, out / "runs", config.train))
    serve(served, run)
    calibrate_served(steps.run, dataset, served)
    delivered = _fly(dataset, run, out, config.live_s) if config.live_s > 0 else True
    _tell(out, dataset, run, time.monotonic() - started)
    return 0 if _is_good(run, config.min_gain) and delivered else 1


def _record(steps: Steps, out: Path) -> Path:
    from pose2rgbd_ros.dataset.layout import truth_folder
    from pose2rgbd_ros.sim.bag import write_sim_bag
    from pose2rgbd_ros.sim.demo import demo_config

    bag = out / "flight.mcap"

    def job(begun: bool) -> None:
        bag.unlink(missing_ok=True)
        _remove(truth_folder(bag))
        print(write_sim_bag(bag, demo_config()).summary())

    steps.run("record a demo flight", to_yaml_dict(demo_config()), job)
    return bag


def _convert(steps: Steps, sources: list[Path], dataset: Path, config: RunConfig) -> None:
    from pose2rgbd_ros.dataset.importers.sources import convert_sources

    def job(begun: bool) -> None:
        if not begun:
            _remove(dataset)
        options = replace(config.convert, resume=begun and dataset.exists())
        print(convert_sources(sources, dataset, options, config.photos, config.video).summary())

    inputs = [[str(source.resolve()), source.stat().st_mtime_ns] for source in sources]
    options = [to_yaml_dict(group) for group in (config.convert, config.photos, config.video)]
    steps.run("convert", [inputs, *options], job)


def _inspect(steps: Steps, dataset: Path) -> None:
    from pose2rgbd_ros.dataset.inspect import inspect
    from pose2rgbd_ros.dataset.reader import Dataset

    steps.run("inspect", None, lambda begun: print(inspect(Dataset(dataset)).text))


def _fly(dataset: Path, run: Path, out: Path, seconds: float) -> bool:
    from pose2rgbd_ros.cli.live import fly

    print(f"== fly live for {seconds:.0f} s: player, render node and monitor as ROS 2 processes", flush=True)
    return fly(dataset, run / "checkpoint", out / "live", seconds)


def _remove(folder: Path) -> None:
    """Delete a folder this command made before."""
    if folder.exists():
        shutil.rmtree(folder)


def _is_good(run: Path, min_gain: float) -> bool:
    """Say and return whether the model answers poses at all, and beats the mean image by enough."""
    report = read_yaml(run / "report" / "metrics.yaml")
    if report["collapsed"]:
        print(
            "  failed   the model answers nearly the same image whatever the pose: train longer or with another recipe"
        )
        return False
    poor = {name: gain for name, gain in report["better_than_mean_image"].items() if gain < min_gain}
    for name, gain in poor.items():
        print(
            f"  failed   {name} is {gain:.0%} below the mean image's, {min_gain:.0%} were asked for: train longer"
        )
    return not poor


def _tell(out: Path, dataset: Path, run: Path, seconds: float) -> None:
    """What there is to look at, and how to start the node again."""
    print(f"\nall done in {seconds / 60:.1f} min; everything is in {out}/")
    for label, path in (
        ("look at", run / "report" / "index.html"),
        ("", run / "report" / "sheet.png"),
        ("", run / "report" / "calibration.html"),
        ("", dataset / "inspect" / "contact_sheet.png"),
        ("", out / "live" / "sheet.png"),
        ("model", run / "checkpoint"),
    ):
        if path.exists():
            print(f"  {label:<8} {path}")
    print(f"  {'node':<8} pose2rgbd render --ros-args -p model:={run / 'checkpoint'}")
