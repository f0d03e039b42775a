"""`pose2rgbd calibrate RUN DATASET`: how far a model can be trusted, from held-out frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Arguments:
    """Learn from held-out frames how far a model can be trusted, and write it beside its weights.

    A model that shows depth: the renderer gives each depth a lower and an upper bound afterwards, and NaN where no
    held-out frame vouches for it. A model that finds poses: they get a covariance, and images unlike the place are
    rejected.
    """

    checkpoint: Annotated[
        tyro.conf.Positional[Path],
        tyro.conf.arg(metavar="RUN", help="checkpoint, or the run folder around it"),
    ]
    dataset: Annotated[
        tyro.conf.Positional[Path],
        tyro.conf.arg(
            help="the dataset trained on, whose held-out frames are taken; or another recording of the place"
        ),
    ]
    out: Annotated[
        Path | None, tyro.conf.arg(help="folder of the page (default: report beside the checkpoint)")
    ] = None
    level: Annotated[float, tyro.conf.arg(help="depth: share of depths that the interval should hold")] = 0.9
    false_safe: Annotated[
        float,
        tyro.conf.arg(
            help="depth: largest share of known pixels whose lower bound exceeds the truth by margin-m"
        ),
    ] = 0.005
    margin_m: Annotated[float, tyro.conf.arg(help="depth: metres of a false-safe lower bound")] = 2.0
    true_accept: Annotated[
        float, tyro.conf.arg(help="poses: share of held-out images that should be accepted")
    ] = 0.95
    crops: Annotated[
        Literal[1, 5, 9],
        tyro.conf.arg(
            help="poses: crops of an image that are looked at; 1 is quickest, more tell doubts by their spread"
        ),
    ] = 5
    training_dataset: Annotated[
        Path | None,
        tyro.conf.arg(help="poses: the dataset trained on, when DATASET is another recording of the place"),
    ] = None
    device: Annotated[Literal["auto", "cpu", "cuda"], tyro.conf.arg(help="where to run the network")] = "auto"


def main(argv: list[str]) -> int:
    """Calibrate, print the figures and where the page is. UserError for a bad checkpoint, dataset or goal."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd calibrate")
    from pose2rgbd_ros.models.pose_model import PoseModel  # torch only once it is needed
    from pose2rgbd_ros.training.checkpoint import load_checkpoint
    from pose2rgbd_ros.training.device import pick_device

    is_run = (arguments.checkpoint / "checkpoint").is_dir()
    out = arguments.out or (arguments.checkpoint if is_run else arguments.checkpoint.parent) / "report"
    calibrate = _poses if isinstance(load_checkpoint(arguments.checkpoint).network(), PoseModel) else _depth
    print(calibrate(arguments, pick_device(arguments.device), out))
    print(f"look at {out / 'calibration.html'}")
    return 0


def _depth(arguments: Arguments, device: str, out: Path) -> str:
    from pose2rgbd_ros.evaluation.calibrate import calibrate
    from pose2rgbd_ros.evaluation.calibrate_fit import Goal

    goal = Goal(arguments.level, arguments.false_safe, arguments.margin_m)
    return calibrate(arguments.checkpoint, arguments.dataset, goal, device, out).line()


def _poses(arguments: Arguments, device: str, out: Path) -> str:
    from pose2rgbd_ros.evaluation.calibrate_localizer import LocalizerGoal, calibrate_localizer

    goal = LocalizerGoal(arguments.true_accept, arguments.crops)
    return calibrate_localizer(
        arguments.checkpoint, arguments.dataset, goal, device, out, arguments.training_dataset
    ).line()
