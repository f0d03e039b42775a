"""`pose2rgbd experiments pictures DATASET RUN [RUN ...]`: recorded frames beside what trained models show."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclasses.dataclass
class Arguments:
    """Draw frames that no model was trained on: recorded, each model, each model's error."""

    dataset: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="the dataset's folder")]
    runs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]],
        tyro.conf.arg(help="checkpoints, or the run folders around them"),
    ]
    out: Annotated[Path, tyro.conf.arg(help="picture to write, .png or .jpg")] = Path("models.png")
    frames: Annotated[int, tyro.conf.arg(help="how many frames")] = 4
    worst: Annotated[
        bool,
        tyro.conf.arg(help="where the last model's errors are largest; else evenly over the held-out frames"),
    ] = False
    size: Annotated[
        int | None,
        tyro.conf.arg(help="side of the pictures of models that render any camera (default: as trained)"),
    ] = None
    device: Annotated[Literal["auto", "cpu", "cuda"], tyro.conf.arg(help="where to run the networks")] = (
        "auto"
    )


def main(argv: list[str]) -> int:
    """Write the picture and say where. UserError for a bad checkpoint or dataset, or no frame to show."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd experiments pictures")
    from pose2rgbd_ros.dataset.reader import Dataset  # and torch, only once they are needed
    from pose2rgbd_ros.errors import UserError
    from pose2rgbd_ros.evaluation.side_by_side import draw_side_by_side, held_out_by_all, show, worst_of
    from pose2rgbd_ros.training.validation import spread

    if not arguments.runs or arguments.frames < 1:
        raise UserError("give at least one checkpoint, and at least one frame to draw")
    if arguments.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"--out {arguments.out}: the name of the picture must end in .png or .jpg")
    dataset, runs = Dataset(arguments.dataset), list(arguments.runs)
    frames = held_out_by_all(dataset, runs)
    if arguments.worst:
        frames = worst_of(runs[-1], dataset, frames, arguments.frames, arguments.device)
    else:
        inner = spread(frames, arguments.frames + 2)  # not the first and last: the rims of held-out stretches
        frames = inner[1:-1] if len(inner) == arguments.frames + 2 else inner[: arguments.frames]
    models = [show(run, dataset, frames, arguments.size, arguments.device) for run in runs]
    if len({model.title for model in models}) < len(models):  # which is which tells only the folder
        models = [
            replace(model, title=f"{model.title} {name}")
            for model, name in zip(models, _names(runs), strict=True)
        ]
    seconds = (dataset.stamps_ns[frames] - dataset.stamps_ns[0]) / 1e9
    kind = "largest errors of the last model" if arguments.worst else "held-out frames"
    unit = "m" if dataset.depth_kind == "metric" else "relative"
    title = f"{dataset.path.resolve().name}, {kind}, none of them trained on"
    draw_side_by_side(arguments.out, models, [f"t = {each:.1f} s" for each in seconds], title, unit)
    print(f"look at {arguments.out}")
    return 0


def _names(runs: list[Path]) -> list[str]:
    """Of each run's folder."""
    folders = [run.resolve() for run in runs]
    return [folder.parent.name if folder.name == "checkpoint" else folder.name for folder in folders]
