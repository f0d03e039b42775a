"""The models of `pose2rgbd run`: each is trained and measured; the best on the frames that choose is served.

The figures of the reports are of the frames that judge, which decide nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path
from typing import Any

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import read_yaml, setting, to_yaml_dict, write_yaml
from pose2rgbd_ros.training.config import TrainConfig

BEST = "best"
CANDIDATES = ("relief", "warp-12", "base")
NEED_DEPTH = ("relief", "warp-12")
UNTRAINED = ("warp-12",)  # take none of the time
CHOICE = "choice.yaml"  # in a run's folder: how good the model is on the frames that choose

# (name, inputs, job): does the job unless it was done with these inputs before.
RunStep = Callable[[str, Any, Callable[[bool], Any]], None]


@dataclass(frozen=True)
class RunTraining(TrainConfig):
    """Settings of `pose2rgbd train`, and a choice among models."""

    model: str = setting(
        BEST,
        "best: relief and base share the time, warp-12 learns nothing, and what is best on the held-out frames that "
        "choose is served; "
        "or a model of `pose2rgbd train`, such as base, slice-10, relief or warp-12",
    )

    def __post_init__(self) -> None:
        if self.model == BEST:
            settings.check(self)
        else:
            super().__post_init__()


@dataclass(frozen=True)
class Trained:
    """A trained model and how good it is on the frames that choose.

    error_share: error as a share of the mean image's, see Evaluation.error_share; NaN where no frame could choose.
    """

    name: str
    folder: Path
    error_share: float
    collapsed: bool
    figures: str


def train_models(run_step: RunStep, dataset: Path, runs: Path, config: RunTraining) -> list[Trained]:
    """Train and evaluate the model of `config`, or all candidates; what one leaves of the time is the next one's.

    A candidate that cannot be trained on this dataset is left out with one line.

    Raises:
        UserError: none can be trained.
        KeyboardInterrupt: the training was interrupted; it may be resumed.
    """
    names = _candidates(dataset) if config.model == BEST else [config.model]
    minutes = config.max_minutes
    trained: list[Trained] = []
    for index, name in enumerate(names):
        learning = [later for later in names[index:] if later not in UNTRAINED]
        share = minutes if minutes is None or name in UNTRAINED else minutes / len(learning)
        one = replace(config, model=name, max_minutes=share)
        try:
            run_step(f"train {name}", to_yaml_dict(one), _training(dataset, runs / name, one))
        except UserError as error:
            if not trained and index == len(names) - 1:
                raise
            print(f"   {name} is left out: {error}")
            continue
        if minutes is not None and share is not None and name not in UNTRAINED:
            minutes -= share
        run_step(f"evaluate {name}", None, _evaluation(dataset, runs / name))
        trained.append(_read(name, runs / name))
    return trained


def choose(trained: list[Trained]) -> Trained:
    """The model to serve: the least error on the frames that choose among those that did not collapse.

    Where no frames could choose, the first that did not collapse.
    """

    def rank(each: Trained) -> tuple[bool, bool, float]:
        return each.collapsed, isnan(each.error_share), each.error_share

    best = min(trained, key=rank)
    if len(trained) > 1:
        if all(isnan(each.error_share) for each in trained):
            print(f"== too few held-out frames to choose by: {best.name} is served, the first of the list")
            return best
        print("== the best model on the held-out frames that choose is served")
        for each in trained:
            kind = "served" if each is best else "collapsed" if each.collapsed else "beaten"
            print(
                f"   {each.name:<8} {kind:<10} error {each.error_share:.0%} of the mean image's  {each.figures}"
            )
    return best


def serve(chosen: Trained, link: Path) -> None:
    """Make `link` the folder of the chosen model, beside those of all."""
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        shutil.rmtree(link)
    link.symlink_to(chosen.folder.resolve().relative_to(link.parent.resolve()), target_is_directory=True)


def calibrate_served(run_step: RunStep, dataset: Path, chosen: Trained) -> None:
    """Bounds of depth and a guard for the served model, from the frames that choose; one line where there can be none."""

    def job(begun: bool) -> None:
        from pose2rgbd_ros.evaluation.calibrate import calibrate

        try:
            print(
                f"   {calibrate(chosen.folder / 'checkpoint', dataset, page=chosen.folder / 'report').line()}"
            )
        except UserError as error:
            print(f"   not calibrated: {error}")

    run_step(f"calibrate {chosen.name}", None, job)


def _candidates(dataset: Path) -> list[str]:
    from pose2rgbd_ros.dataset.reader import Dataset

    if Dataset(dataset).has_depth:
        return list(CANDIDATES)
    print(
        f"   {' and '.join(NEED_DEPTH)} are left out: this recording has no depth; "
        "--train.model relief finds the shape of the place in the pictures (slow)"
    )
    return [name for name in CANDIDATES if name not in NEED_DEPTH]


def _training(dataset: Path, run: Path, config: TrainConfig) -> Callable[[bool], None]:
    def job(begun: bool) -> None:
        from pose2rgbd_ros.training.trainer import train

        resume = begun and (run / "last").is_dir()
        if not resume and run.exists():
            shutil.rmtree(run)
        if train(dataset, run, config, resume=resume).interrupted:
            raise KeyboardInterrupt

    return job


def _evaluation(dataset: Path, run: Path) -> Callable[[bool], None]:
    def job(begun: bool) -> None:
        from pose2rgbd_ros.evaluation.evaluate import evaluate

        print(evaluate(run / "checkpoint", dataset, run / "report").table())
        write_yaml(run / CHOICE, _choice(dataset, run))

    return job


def _choice(dataset: Path, run: Path) -> dict[str, Any]:
    """How good the model is on the frames that choose; without such frames only whether it collapsed."""
    from pose2rgbd_ros.evaluation.evaluate import measure
    from pose2rgbd_ros.training.checkpoint import load_checkpoint
    from pose2rgbd_ros.training.metrics import describe, is_collapsed

    trained = load_checkpoint(run)
    if trained.provenance["frames"]["choose"] == 0:
        return {
            "frames": 0,
            "error_share": float("nan"),
            "collapsed": is_collapsed(trained.metrics),
            "figures": "",
        }
    measured = measure(run, dataset, split="choose")
    unit = "m" if measured.depth_unit == "m" else ""
    return {
        "frames": len(measured.stamps_ns),
        "error_share": measured.error_share(),
        "collapsed": measured.collapsed,
        "figures": describe(measured.scores["model"], depth_unit=unit),
    }


def _read(name: str, run: Path) -> Trained:
    choice = read_yaml(run / CHOICE)
    return Trained(name, run, float(choice["error_share"]), bool(choice["collapsed"]), str(choice["figures"]))
