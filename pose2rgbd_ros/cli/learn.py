"""`pose2rgbd train MODEL DATASET`: a dataset becomes a model; then what it is worth, and what else becomes of it."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import tyro

from pose2rgbd_ros.cli import results
from pose2rgbd_ros.cli.results import Json
from pose2rgbd_ros.dataset.layout import ASSOCIATIONS
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry.flight import FlightSettings
from pose2rgbd_ros.reports.table import aligned
from pose2rgbd_ros.settings import check
from pose2rgbd_ros.training.config import RunConfig, TrainConfig
from pose2rgbd_ros.training.families import (
    Kind,
    families,
    family_of,
    has_part,
    model_names,
    network_family,
    part_of,
    settings_of,
)

if TYPE_CHECKING:
    from pose2rgbd_ros.training.trainer import TrainResult


def train_usage() -> str:
    """The models there are."""
    rows = aligned((", ".join(family.models), family.text) for family in families("place").values())
    return (
        "usage: pose2rgbd train MODEL DATASET [options]   (pose2rgbd train MODEL --help: its settings)\n\n"
        f"{rows}\n\nN is a number: slice-10, warp-12."
    )


def chosen_model(argv: list[str], kind: Kind = "place") -> str:
    """The model that a command line begins with. UserError: it begins otherwise, maybe in the words of an old one."""
    train = {"place": "pose2rgbd train", "video": "pose2rgbd depth train"}[kind]
    new = [re.sub(r"^--(relief|posegan)\.", "--", word) for word in argv]
    for at, word in enumerate(new):
        option, _, model = word.partition("=")
        if option == "--model":
            rest = new[:at] + new[at + 1 :]
            model = model or (rest.pop(at) if at < len(rest) else "MODEL")
            raise UserError(f"the model is a word of its own now: {train} {shlex.join([model, *rest])}")
    model = argv[0]
    try:
        family_of(model)  # also where a folder has the model's name
    except UserError as error:
        if model.startswith("-") or "/" in model or Path(model).is_dir():
            which = f"which model? {train} MODEL {shlex.join(argv)}; MODEL is {model_names(kind)}"
            raise UserError(which) from error
        raise
    for word, now in zip(argv, new, strict=True):
        if word != now:
            raise UserError(f"{word} is {now} now")
    return model


C = TypeVar("C", bound=RunConfig)


def settings_shown(model: str, cls: type[C]) -> C:
    """The settings of a model's training for the command line: the model is chosen, its own group has no prefix."""
    hints = get_type_hints(cls)
    fields: list[Any] = [("model", tyro.conf.Suppress[str], dataclasses.field(default=model))]
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[field.name]):
            default = dataclasses.field(default_factory=hints[field.name])
            fields.append((field.name, Annotated[hints[field.name], tyro.conf.arg(name="")], default))
    shown: Any = dataclasses.make_dataclass(cls.__name__, fields, bases=(cls,), frozen=True)
    made: C = shown()
    return made


@dataclasses.dataclass
class TrainArguments:
    """Train a model on a dataset. Ctrl-C saves; --resume goes on. With torchrun it trains on several devices."""

    dataset: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="the dataset's folder")]
    options: Annotated[TrainConfig, tyro.conf.arg(name="")]  # of the model's family
    out: Annotated[Path | None, tyro.conf.arg(help="folder of the run (default: runs/DATASET-MODEL)")] = None
    resume: Annotated[bool, tyro.conf.arg(help="go on with the run in this folder")] = False
    json: Json = False


def train_main(argv: list[str]) -> int:
    """Train, and say how good the model is. Exit status 1: it collapsed; 2: no model was named; 130: interrupted."""
    if not argv or argv[0] in ("-h", "--help"):
        print(train_usage() if argv else f"error: which model?\n\n{train_usage()}", file=None if argv else sys.stderr)
        return 0 if argv else 2
    model = chosen_model(argv)
    shown = TrainArguments(dataset=tyro.MISSING, options=settings_shown(model, settings_of(model)))
    arguments = tyro.cli(TrainArguments, args=argv[1:], default=shown, prog=f"pose2rgbd train {model}")
    from pose2rgbd_ros.training.trainer import train  # torch only once it is needed

    name = f"{arguments.dataset.resolve().name}-{model}"
    out = arguments.out or Path("runs") / name
    result = train(arguments.dataset, out, arguments.options, arguments.resume)
    return report_training(result, out, f"pose2rgbd evaluate {out} {arguments.dataset}")


def report_training(result: TrainResult, out: Path, evaluate: str) -> int:
    """Print what a training achieved and the command that measures it; the exit status of :func:`train_main`."""
    if not result.scores:  # process 0 of several has reported it
        return 0
    unit = "_m" if result.depth_unit == "m" else "_relative"
    results.add(
        run=out, **results.of_fields(result, "checkpoint", "scored_on", "images", "epochs", "interrupted", "collapsed"),
        training_s=result.seconds, stopped=result.stopped or None,
        scores={f"{name}{unit}" if name == "depth_mae" else name: value for name, value in result.scores.items()},
    )  # fmt: skip
    frames = {
        "choose": "held-out frames that may choose the weights",
        "train": "frames trained on, since too few are held out to choose by",
    }[result.scored_on]
    print(f"{frames}: {result.description}")
    print(f"{evaluate} measures on the frames that nothing has looked at")
    print(
        f"{counted(result.images, 'image')} ({result.epochs:.1f} epochs) in {result.seconds:.0f} s; model "
        f"{result.checkpoint}"
    )
    if result.interrupted:
        print(f"interrupted; go on with the same command and --resume --out {out}")
        return 130
    if result.stopped or result.collapsed:
        print(
            result.stopped or "collapsed: it answers nearly alike whatever its input; train longer, or change the rate"
        )
        return 1
    return 0


# `pose2rgbd evaluate CHECKPOINT DATASET`: a table, pictures and a page, of the pictures or of the poses a model gives.


@dataclass(frozen=True)
class EvaluateArguments:
    """Measure a model on frames it was not trained on: its pictures against the mean image and the nearest training
    frame; the poses found by posegan and posenet against the mean pose and whatever --finders names."""

    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="checkpoint, or the run folder around it")]
    dataset: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="the dataset's folder")]
    out: Annotated[Path | None, tyro.conf.arg(help="folder of the report (default: report beside the checkpoint)")] = (
        None
    )
    split: Annotated[
        Literal["checkpoint", "choose", "dataset", "segments", "random", "lines+random", "all"],
        tyro.conf.arg(
            help="frames to measure on; checkpoint: those its training held out to judge by; choose: those held out "
            "that may have chosen its weights; dataset: those of its split.txt"
        ),
    ] = "checkpoint"
    size: Annotated[
        int | None,
        tyro.conf.arg(help="side of the pictures in pixels, for relief, warp and gsplat (default: as trained)"),
    ] = None
    training_dataset: Annotated[
        Path | None,
        tyro.conf.arg(help="the dataset trained on, for the baselines, when DATASET is another recording of the place"),
    ] = None
    finders: Annotated[
        tuple[Literal["retrieval", "retrieval-inter", "structure", "mean-pose"], ...],
        tyro.conf.arg(help="what found poses are compared with; all but mean-pose look at every training frame first"),
    ] = ("mean-pose",)
    device: Annotated[Literal["auto", "cpu", "cuda"], tyro.conf.arg(help="where to run the network")] = "auto"
    video_s: Annotated[
        float, tyro.conf.arg(help="length in the report of the video along the recorded flight; 0: none")
    ] = 20.0
    flight: FlightSettings = dataclasses.field(default_factory=FlightSettings)
    json: Json = False


def evaluate_main(argv: list[str]) -> int:
    """Print the table and where the report is. UserError for a bad checkpoint or dataset."""
    arguments = tyro.cli(EvaluateArguments, args=argv, prog="pose2rgbd evaluate")
    from pose2rgbd_ros.evaluation.picture_report import evaluate, with_units  # torch only once it is needed
    from pose2rgbd_ros.evaluation.poses import evaluate_poses
    from pose2rgbd_ros.training.checkpoint import load_checkpoint
    from pose2rgbd_ros.training.families import PoseModel, RenderModel

    is_run = (arguments.checkpoint / "checkpoint").is_dir()
    out = arguments.out or (arguments.checkpoint if is_run else arguments.checkpoint.parent) / "report"
    values = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(arguments)}
    finders = values.pop("finders")
    del values["json"]
    of_pictures = {name: values.pop(name) for name in ("size", "video_s", "flight")}
    check(arguments.flight, "flight.")
    network = load_checkpoint(arguments.checkpoint).network()
    finds, shows = isinstance(network, PoseModel), isinstance(network, RenderModel)
    if finds:
        located = evaluate_poses(**{**values, "out": out}, finders=finders)
        print(located.table())
        results.add(poses=located.to_dict())
    if shows or not finds:
        pictures = out / "pictures" if finds else out
        measured = evaluate(**{**values, "out": pictures}, **of_pictures)
        print(("\nIts pictures:\n\n" if finds else "") + measured.table())
        results.add(pictures=with_units(measured))
    run = arguments.checkpoint
    results.add(run=run, files=results.files(page=out / "index.html", frames=out / "frames.csv"))
    print(f"\nlook at {out / 'index.html'}")
    print(f"next    pose2rgbd calibrate {run} {arguments.dataset}, or pose2rgbd view {run} {arguments.dataset}")
    return 0


# `pose2rgbd calibrate RUN DATASET`: how far a model can be trusted, from held-out frames.


@dataclass(frozen=True)
class CalibrateArguments:
    """Learn from held-out frames how far a model can be trusted, and write it beside its weights.

    A model that shows depth: the renderer gives each depth a lower and an upper bound afterwards, and NaN where no
    held-out frame vouches for it. A model that finds poses: they get a covariance, and images unlike the place are
    rejected.
    """

    checkpoint: Annotated[
        tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN", help="checkpoint, or the run folder around it")
    ]
    dataset: Annotated[
        tyro.conf.Positional[Path],
        tyro.conf.arg(
            help="the dataset trained on, whose held-out frames are taken; or another recording of the place"
        ),
    ]
    out: Annotated[Path | None, tyro.conf.arg(help="folder of the page (default: report beside the checkpoint)")] = None
    level: Annotated[float, tyro.conf.arg(help="depth: share of depths that the interval should hold")] = 0.9
    false_safe: Annotated[
        float,
        tyro.conf.arg(help="depth: largest share of known pixels whose lower bound exceeds the truth by margin-m"),
    ] = 0.005
    margin_m: Annotated[float, tyro.conf.arg(help="depth: metres of a false-safe lower bound")] = 2.0
    true_accept: Annotated[float, tyro.conf.arg(help="poses: share of held-out images that should be accepted")] = 0.95
    crops: Annotated[
        Literal[1, 5, 9],
        tyro.conf.arg(help="poses: crops of an image; 1 is quickest, and of more the spread of their poses counts"),
    ] = 5
    training_dataset: Annotated[
        Path | None, tyro.conf.arg(help="poses: the dataset trained on, when DATASET is another recording of the place")
    ] = None
    device: Annotated[Literal["auto", "cpu", "cuda"], tyro.conf.arg(help="where to run the network")] = "auto"
    json: Json = False


def calibrate_main(argv: list[str]) -> int:
    """Calibrate, print the figures and where the page is. UserError for a bad checkpoint, dataset or goal."""
    arguments = tyro.cli(CalibrateArguments, args=argv, prog="pose2rgbd calibrate")
    from pose2rgbd_ros.training.checkpoint import load_checkpoint
    from pose2rgbd_ros.training.families import PoseModel  # torch only once it is needed
    from pose2rgbd_ros.training.trainer import pick_device

    is_run = (arguments.checkpoint / "checkpoint").is_dir()
    out = arguments.out or (arguments.checkpoint if is_run else arguments.checkpoint.parent) / "report"
    calibrate = _poses if isinstance(load_checkpoint(arguments.checkpoint).network(), PoseModel) else _depth
    print(calibrate(arguments, pick_device(arguments.device), out))
    results.add(run=arguments.checkpoint, files=results.files(page=out / "calibration.html"))
    print(f"look at {out / 'calibration.html'}")
    is_renderer = calibrate is _depth
    model = arguments.checkpoint / "checkpoint" if is_run else arguments.checkpoint
    print(f"next    pose2rgbd {'render' if is_renderer else 'localize'} --model {model}")
    return 0


def _depth(arguments: CalibrateArguments, device: str, out: Path) -> str:
    from pose2rgbd_ros.evaluation.calibrate_depth import calibrate
    from pose2rgbd_ros.evaluation.depth_bounds import Goal

    goal = Goal(arguments.level, arguments.false_safe, arguments.margin_m)
    found = calibrate(arguments.checkpoint, arguments.dataset, goal, device, out)
    calibration = found.calibration
    results.add(
        guard_limit_m=calibration.guard_limit, level_share=calibration.level, margin_m=calibration.margin_m,
        false_safe_share=calibration.false_safe, figures=calibration.figures,
    )  # fmt: skip
    return found.line()


def _poses(arguments: CalibrateArguments, device: str, out: Path) -> str:
    from pose2rgbd_ros.evaluation.calibrate_poses import LocalizerGoal, calibrate_localizer

    goal = LocalizerGoal(arguments.true_accept, arguments.crops)
    found = calibrate_localizer(
        arguments.checkpoint, arguments.dataset, goal, device, out, arguments.training_dataset
    )  # fmt: skip
    results.add(score_limit=found.calibration.gate.limit, figures=found.calibration.figures)
    return found.line()


# `pose2rgbd export`: of a checkpoint, its fast ONNX graph; of a dataset, another tool's dataset (`export_dataset`).


@dataclass(frozen=True)
class ExportConfig:
    """Make what CHECKPOINT needs where there is no PyTorch: renderer.onnx; of gsplat, splats.ply for other viewers.

    Training leaves it in the checkpoint; this command is for one made before, and prints the figures. The graph, of
    base and slice, is compared with the network and kept only when they agree.
    """

    checkpoint: Annotated[
        tyro.conf.Positional[Path],
        tyro.conf.arg(metavar="CHECKPOINT", help="checkpoint directory, or the run folder around it"),
    ]
    force: Annotated[bool, tyro.conf.arg(help="make the graph anew even if it is current")] = False
    json: Json = False


def export_main(argv: list[str]) -> int:
    """Run the command; UserError for a bad checkpoint, a graph that differs from its network, or a bad dataset."""
    if _is_help(argv):
        return _help()
    if _is_of_dataset(argv):
        from pose2rgbd_ros.cli import data

        return data.export_dataset_main(argv)
    config = tyro.cli(ExportConfig, args=argv, prog="pose2rgbd export")
    from pose2rgbd_ros.models.backends import check_renderable
    from pose2rgbd_ros.training.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(config.checkpoint)
    check_renderable(checkpoint)
    network = checkpoint.architecture["network"]
    family = network_family(network)
    if has_part(family, "export"):
        said = part_of(family, "export").export(config.checkpoint, config.force)
        print("\n".join(said))
        results.add(checkpoint=config.checkpoint, network=network, messages=said)
    elif has_part(family, "backend"):
        print(f"{network} needs nothing more: the checkpoint runs without PyTorch as it is")
        results.add(checkpoint=config.checkpoint, network=network, messages=[])
    else:
        raise UserError(f"{network} has no ONNX graph: use the checkpoint as it is, with backend auto or torch")
    return 0


def _is_help(argv: list[str]) -> bool:
    return bool(argv) and all(argument in ("-h", "--help") for argument in argv)


def _is_of_dataset(argv: list[str]) -> bool:
    """Whether a dataset is to be exported: a format was asked for, or a dataset's folder given."""
    asked = any(argument.split("=")[0] == "--format" for argument in argv)
    folders = [Path(argument) for argument in argv if not argument.startswith("-")]
    return asked or any((folder / ASSOCIATIONS).is_file() for folder in folders[:1])


def _help() -> int:
    """Both uses of the command."""
    from pose2rgbd_ros.cli import data

    print("A checkpoint is exported to ONNX, a dataset to another tool's format:\n")
    for arguments in (ExportConfig, data.ExportDatasetArguments):
        with contextlib.suppress(SystemExit):
            tyro.cli(arguments, args=["--help"], prog="pose2rgbd export")
        print()
    return 0
