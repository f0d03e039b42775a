"""`pose2rgbd evaluate CHECKPOINT DATASET`: a table, pictures and a page, of the pictures or of the poses a model gives."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Arguments:
    """Measure a model on frames it was not trained on: its pictures against the mean image and the nearest training
    frame; the poses found by posegan and posenet against the mean pose and whatever --finders names."""

    checkpoint: Annotated[
        tyro.conf.Positional[Path], tyro.conf.arg(help="checkpoint, or the run folder around it")
    ]
    dataset: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="the dataset's folder")]
    out: Annotated[
        Path | None, tyro.conf.arg(help="folder of the report (default: report beside the checkpoint)")
    ] = None
    split: Annotated[
        Literal["checkpoint", "choose", "dataset", "segments", "random", "lines+random", "all"],
        tyro.conf.arg(
            help="frames to measure on; checkpoint: those its training held out to judge by; choose: those held out "
            "that may have chosen its weights; dataset: those of its split.txt"
        ),
    ] = "checkpoint"
    size: Annotated[
        int | None,
        tyro.conf.arg(
            help="side of the pictures in pixels, for relief, warp and gsplat (default: as trained)"
        ),
    ] = None
    training_dataset: Annotated[
        Path | None,
        tyro.conf.arg(
            help="the dataset trained on, for the baselines, when DATASET is another recording of the place"
        ),
    ] = None
    finders: Annotated[
        tuple[Literal["retrieval", "retrieval-inter", "structure", "mean-pose"], ...],
        tyro.conf.arg(
            help="what found poses are compared with; all but mean-pose look at every training frame first"
        ),
    ] = ("mean-pose",)
    device: Annotated[Literal["auto", "cpu", "cuda"], tyro.conf.arg(help="where to run the network")] = "auto"


def main(argv: list[str]) -> int:
    """Print the table and where the report is. UserError for a bad checkpoint or dataset."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd evaluate")
    from pose2rgbd_ros.evaluation.evaluate import evaluate  # torch only once it is needed
    from pose2rgbd_ros.evaluation.localization_evaluate import evaluate_poses
    from pose2rgbd_ros.models.pose_model import PoseModel
    from pose2rgbd_ros.models.view import ViewModel
    from pose2rgbd_ros.training.checkpoint import load_checkpoint

    is_run = (arguments.checkpoint / "checkpoint").is_dir()
    out = arguments.out or (arguments.checkpoint if is_run else arguments.checkpoint.parent) / "report"
    values = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(arguments)}
    size, finders = values.pop("size"), values.pop("finders")
    network = load_checkpoint(arguments.checkpoint).network()
    finds, shows = isinstance(network, PoseModel), isinstance(network, ViewModel)
    if finds:
        print(evaluate_poses(**{**values, "out": out}, finders=finders).table())
    if shows or not finds:
        pictures = out / "pictures" if finds else out
        print(
            ("\nIts pictures:\n\n" if finds else "")
            + evaluate(**{**values, "out": pictures, "size": size}).table()
        )
    print(f"\nlook at {out / 'index.html'}")
    return 0
