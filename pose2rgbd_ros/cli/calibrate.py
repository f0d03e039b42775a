"""`pose2rgbd calibrate RUN DATASET`: bounds of depth, and a guard, from held-out frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Arguments:
    """Learn from held-out frames how far a model's depth can be trusted, and write it beside its weights.

    Afterwards the renderer gives each depth a lower and an upper bound, and NaN where no held-out frame vouches for it.
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
    level: Annotated[float, tyro.conf.arg(help="share of depths that the interval should hold")] = 0.9
    false_safe: Annotated[
        float,
        tyro.conf.arg(help="largest share of known pixels whose lower bound exceeds the truth by margin-m"),
    ] = 0.005
    margin_m: Annotated[float, tyro.conf.arg(help="metres of a false-safe lower bound")] = 2.0
    device: Annotated[Literal["auto", "cpu", "cuda"], tyro.conf.arg(help="where to run the network")] = "auto"


def main(argv: list[str]) -> int:
    """Calibrate, print the figures and where the page is. UserError for a bad checkpoint, dataset or goal."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd calibrate")
    from pose2rgbd_ros.evaluation.calibrate import calibrate  # torch only once it is needed
    from pose2rgbd_ros.evaluation.calibrate_fit import Goal
    from pose2rgbd_ros.training.device import pick_device

    is_run = (arguments.checkpoint / "checkpoint").is_dir()
    out = arguments.out or (arguments.checkpoint if is_run else arguments.checkpoint.parent) / "report"
    goal = Goal(arguments.level, arguments.false_safe, arguments.margin_m)
    device = pick_device(arguments.device)
    print(calibrate(arguments.checkpoint, arguments.dataset, goal, device, out).line())
    print(f"look at {out / 'calibration.html'}")
    return 0
