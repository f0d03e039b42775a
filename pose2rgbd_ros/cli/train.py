"""`pose2rgbd train DATASET`: a dataset becomes a model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros.errors import counted
from pose2rgbd_ros.training.config import TrainConfig


@dataclasses.dataclass
class Arguments:
    """Train a network on a dataset. Ctrl-C saves; --resume goes on. With torchrun it trains on several devices."""

    dataset: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="the dataset's folder")]
    out: Annotated[Path | None, tyro.conf.arg(help="folder of the run (default: runs/DATASET-MODEL)")] = None
    resume: Annotated[bool, tyro.conf.arg(help="go on with the run in this folder")] = False
    options: Annotated[TrainConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=TrainConfig)


def main(argv: list[str]) -> int:
    """Train, and say how good the model is. Exit status 1 when it collapsed, 130 when interrupted."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd train")
    from pose2rgbd_ros.training.trainer import train  # torch only once it is needed

    name = f"{arguments.dataset.resolve().name}-{arguments.options.model}"
    out = arguments.out or Path("runs") / name
    result = train(arguments.dataset, out, arguments.options, arguments.resume)
    if not result.scores:  # process 0 of several has told it
        return 0
    frames = {
        "choose": "held-out frames that may choose the weights",
        "train": "frames trained on, since too few are held out to choose by",
    }[result.scored_on]
    print(f"{frames}: {result.description}")
    print(f"pose2rgbd evaluate {out} {arguments.dataset} measures on the frames that nothing has looked at")
    print(
        f"{counted(result.images, 'image')} ({result.epochs:.1f} epochs) in {result.seconds:.0f} s; model {result.checkpoint}"
    )
    if result.interrupted:
        print(f"interrupted; go on with the same command and --resume --out {out}")
        return 130
    if result.collapsed:
        print(
            "the network answers nearly one image, whatever the pose: train longer, or with a lower --learning-rate"
        )
        return 1
    return 0
