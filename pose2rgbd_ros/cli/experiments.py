"""`pose2rgbd experiments WHAT`: tables of many trainings, each by one command that goes on where it was stopped."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pose2rgbd_ros.cli import results
from pose2rgbd_ros.cli.main import Job, one_of
from pose2rgbd_ros.cli.results import Json
from pose2rgbd_ros.experiments.settings import CompareConfig, LeagueConfig, LocalizationConfig, TablesConfig
from pose2rgbd_ros.settings import read_yaml


def _add(out: Path, file: str) -> None:
    """What was left in a file as the result of --json."""
    written = results.files(page=out / "index.html", values=out / file)
    results.add(out=out, values=read_yaml(out / file), files=written)


# `pose2rgbd experiments compare DATASET`: models side by side, at equal training time.


@dataclasses.dataclass
class CompareArguments:
    """Train each model for the same time, measure all on the same held-out frames. Ctrl-C saves; the same command
    goes on."""

    dataset: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="the dataset's folder")]
    out: Annotated[Path, tyro.conf.arg(help="folder of the comparison and its runs")] = Path("runs/compare")
    options: Annotated[CompareConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=CompareConfig)
    json: Json = False


def compare(arguments: CompareArguments) -> int:
    """Print the comparison and where it is. Exit status 1 when a model could not be trained."""
    from pose2rgbd_ros.experiments import compare as made  # torch only once it is needed

    comparison = made.compare(arguments.dataset, arguments.out, arguments.options)
    print(made.markdown(comparison))
    print(f"look at {arguments.out / 'compare.png'}; {arguments.out / 'compare.md'} is the text above")
    _add(arguments.out, "compare.yaml")
    return 1 if any(each.error for each in comparison.models) else 0


# `pose2rgbd experiments league`: renderers for a CPU at growing budgets, OpenSplat among them where it is installed.


@dataclasses.dataclass
class LeagueArguments:
    """Train each model for each budget of processor time, measure all on the same held-out frames. Ctrl-C saves; the
    same command goes on."""

    out: Annotated[Path, tyro.conf.arg(help="folder of the tables, the runs and the datasets that are made")] = Path(
        "runs/league"
    )
    dataset: Annotated[
        tuple[Path, ...], tyro.conf.arg(help="folders of datasets (default: flights over two cities are simulated)")
    ] = ()
    rows: Annotated[
        Path | None,
        tyro.conf.arg(help="folder of rows that were measured, here or elsewhere: they are not measured again"),
    ] = None
    options: Annotated[LeagueConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=LeagueConfig)
    json: Json = False


def league(arguments: LeagueArguments) -> int:
    """Print the tables and where they are. Exit status 1 when a row could not be trained."""
    from pose2rgbd_ros.experiments.league import markdown, run_league  # torch only once it is needed

    outcome = run_league(arguments.out, arguments.options, arguments.dataset, arguments.rows)
    print(markdown(outcome))
    print(f"look at {arguments.out / 'index.html'}; {arguments.out / 'tables.md'} is the text above")
    _add(arguments.out, "league.yaml")
    return 1 if outcome.failed else 0


# `pose2rgbd experiments localization`: ways of finding a camera side by side, as in the PoseGAN paper's tables 1 and 2.


@dataclasses.dataclass
class LocalizationArguments:
    """Train every network for the same time, measure all ways of finding a camera on the same held-out frames. Ctrl-C
    saves; the same command goes on."""

    out: Annotated[Path, tyro.conf.arg(help="folder of the tables, the pictures and the runs")] = Path(
        "runs/localization"
    )
    dataset: Annotated[
        tuple[Path, ...], tyro.conf.arg(help="folders of datasets (default: a flight over the city is simulated)")
    ] = ()
    options: Annotated[LocalizationConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=LocalizationConfig
    )
    json: Json = False


def localization(arguments: LocalizationArguments) -> int:
    """Print the tables and where they are. Exit status 1 when a row could not be trained."""
    from pose2rgbd_ros.experiments.localization import markdown, run_localization  # torch only once it is needed

    outcome = run_localization(arguments.out, arguments.options, list(arguments.dataset))
    print(markdown(outcome))
    print(f"look at {arguments.out / 'index.html'}; {arguments.out / 'tables.md'} is the text above")
    _add(arguments.out, "tables.yaml")
    return 1 if outcome.failed else 0


# `pose2rgbd experiments pictures DATASET RUN [RUN ...]`: recorded frames beside what trained models show.


@dataclasses.dataclass
class PicturesArguments:
    """Draw frames that no model was trained on: recorded, each model, each model's error."""

    dataset: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="the dataset's folder")]
    runs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(help="checkpoints, or the run folders around them")
    ]
    out: Annotated[Path, tyro.conf.arg(help="picture to write, .png or .jpg")] = Path("models.png")
    frames: Annotated[int, tyro.conf.arg(help="how many frames")] = 4
    worst: Annotated[
        bool, tyro.conf.arg(help="where the last model's errors are largest; else evenly over the held-out frames")
    ] = False
    size: Annotated[
        int | None, tyro.conf.arg(help="side of the pictures of models that render any camera (default: as trained)")
    ] = None
    device: Annotated[Literal["auto", "cpu", "cuda"], tyro.conf.arg(help="where to run the networks")] = "auto"
    json: Json = False


def pictures(arguments: PicturesArguments) -> int:
    """Write the picture and say where. UserError for a bad checkpoint or dataset, or no frame to show."""
    from pose2rgbd_ros.dataset.reader import Dataset  # and torch, only once they are needed
    from pose2rgbd_ros.errors import UserError
    from pose2rgbd_ros.experiments.pictures import draw_side_by_side, held_out_by_all, show, worst_of
    from pose2rgbd_ros.training.metrics import spread

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
    if len({model.title for model in models}) < len(models):  # only the folder says which is which
        models = [
            replace(model, title=f"{model.title} {name}") for model, name in zip(models, _names(runs), strict=True)
        ]
    seconds = (dataset.stamps_ns[frames] - dataset.stamps_ns[0]) / 1e9
    kind = "largest errors of the last model" if arguments.worst else "held-out frames"
    unit = "m" if dataset.depth_kind == "metric" else "relative"
    title = f"{dataset.path.resolve().name}, {kind}, none of them trained on"
    draw_side_by_side(arguments.out, models, [f"t = {each:.1f} s" for each in seconds], title, unit)
    print(f"look at {arguments.out}")
    results.add(frames=[int(frame) for frame in frames], files=results.files(picture=arguments.out))
    return 0


def _names(runs: list[Path]) -> list[str]:
    """Of each run's folder."""
    folders = [run.resolve() for run in runs]
    return [folder.parent.name if folder.name == "checkpoint" else folder.name for folder in folders]


# `pose2rgbd experiments tables`: tables 1, 2 and 3 of the paper regenerated.


@dataclasses.dataclass
class TablesArguments:
    """Train and measure every row of the paper's tables 1 to 3. Ctrl-C saves; the same command goes on."""

    out: Annotated[Path, tyro.conf.arg(help="folder of the tables, the runs and the datasets that are made")] = Path(
        "runs/tables"
    )
    dataset: Annotated[
        Path | None, tyro.conf.arg(help="with metric depth (default: a flight over the city is simulated)")
    ] = None
    real: Annotated[
        Path | None,
        tyro.conf.arg(
            help="for table 3; metric depth loses its unit first (default: a stand-in is simulated, and labelled)"
        ),
    ] = None
    options: Annotated[TablesConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=TablesConfig)
    json: Json = False


def tables(arguments: TablesArguments) -> int:
    """Print the tables and where they are. Exit status 1 when a row could not be trained."""
    from pose2rgbd_ros.experiments.tables import markdown, run_tables  # torch only once it is needed

    outcome = run_tables(arguments.out, arguments.options, arguments.dataset, arguments.real)
    print(markdown(outcome))
    print(f"look at {arguments.out / 'index.html'}; {arguments.out / 'tables.md'} is the text above")
    _add(arguments.out, "tables.yaml")
    return 1 if outcome.failed else 0


JOBS: dict[str, Job] = {
    "tables": (TablesArguments, tables, "the paper's tables 1, 2 and 3 on our data"),
    "compare": (CompareArguments, compare, "models side by side at equal training time"),
    "league": (LeagueArguments, league, "renderers for a CPU at growing budgets"),
    "localization": (LocalizationArguments, localization, "ways of finding a camera side by side"),
    "pictures": (PicturesArguments, pictures, "held-out frames as trained models show them"),
}


def main(argv: list[str]) -> int:
    """One of them."""
    return one_of(JOBS, "experiments", argv)
