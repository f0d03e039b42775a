"""`pose2rgbd depth WHAT ...`: depth from pictures, put into a dataset or learnt from video; registered; measured."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro
from tqdm import tqdm

from pose2rgbd_ros import settings
from pose2rgbd_ros.alignment.depth_camera import PICTURE, REPORT, find_depth_camera, register
from pose2rgbd_ros.cli import results
from pose2rgbd_ros.cli.learn import chosen_model, report_training, settings_shown
from pose2rgbd_ros.cli.main import Job, one_of
from pose2rgbd_ros.cli.results import Json
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.inspect import describe_depth
from pose2rgbd_ros.dataset.made_depth import pictures_allowed, remove
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.depth_from_images.stereo import StereoSettings
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.evaluation.odometry import OdometryProtocol, PairingSettings
from pose2rgbd_ros.geometry.arrays import UInt8
from pose2rgbd_ros.models.depth_sources import DepthSettings, LearningSettings, add_depth_by
from pose2rgbd_ros.models.teacher import TeacherSettings
from pose2rgbd_ros.reports.table import aligned
from pose2rgbd_ros.training.config import VideoConfig, ViewSettings
from pose2rgbd_ros.training.families import families, model_names, video_settings_of

if TYPE_CHECKING:
    from pose2rgbd_ros.depth_from_images.snippets import Sequence

# `add`, `remove`: depth of a dataset that has none.


@dataclass
class AddArguments:
    """Give a dataset depth made from its own pictures; best after `pose2rgbd align`.

    By multi-view stereo, by a model of video, or by any depth network in an ONNX file. Frames that train get it from
    frames that train alone. Interrupted and called again it goes on.
    """

    dataset: Annotated[Path, tyro.conf.Positional]
    """the dataset's folder"""
    method: str = "stereo"
    """stereo (or plane-sweep); the run of a model of video; sfmlearner, trianflow ..., which learn from the dataset
    first; or an ONNX file. Depth gets metres from the poses where they show them"""
    stereo: Annotated[StereoSettings, tyro.conf.arg(name="")] = field(default_factory=StereoSettings)
    learning: Annotated[LearningSettings, tyro.conf.arg(name="")] = field(default_factory=LearningSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    json: Json = False


@dataclass
class RemoveArguments:
    """Take depth that was made out of a dataset again."""

    dataset: Annotated[Path, tyro.conf.Positional]
    """the dataset's folder"""


def _add(arguments: AddArguments) -> int:
    made = add_depth_by(
        arguments.dataset, arguments.method, DepthSettings(arguments.learning, arguments.teacher), arguments.stereo
    )
    print(f"{made.path}: {describe_depth(made)}")
    print(f"look at   pose2rgbd inspect {made.path}")
    print(f"next      pose2rgbd train relief {made.path} --max-minutes 10")
    results.add(dataset=made.path, depth=describe_depth(made))
    return 0


def _remove(arguments: RemoveArguments) -> int:
    remove(arguments.dataset)
    print(f"{arguments.dataset} is a dataset of colour only again")
    return 0


# `register DATASET [OUT]`: depth of a camera beside the colour camera.


@dataclass
class RegisterArguments:
    """Find how the depth camera lies beside the colour camera, and lay depth over colour.

    For RGB-D recordings whose driver did not register depth to colour. The colours of surfaces that several frames see
    tell it; frames that the dataset's split holds out have no part. Without OUT it only says what it finds.
    """

    dataset: Annotated[Path, tyro.conf.Positional]
    """the dataset's folder; it stays as it is"""
    out: Annotated[Path | None, tyro.conf.Positional] = None
    """folder of the registered dataset"""
    force: bool = False
    """write it also where depth and colour agree already"""
    resume: bool = False
    """go on with a job that was interrupted"""
    seed: int = 0
    """of the points that are compared"""
    json: Json = False


def _register(arguments: RegisterArguments) -> int:
    dataset = Dataset(arguments.dataset)
    train = pictures_allowed(dataset)[0] == 0
    found = find_depth_camera(dataset, np.flatnonzero(train), arguments.seed)
    print(f"{dataset.path}: {found}")
    results.add(dataset=dataset.path, agrees=found.agrees, **found.figures())
    if found.agrees and not arguments.force:
        print("depth and colour agree as far as can be told: there is nothing to do (--force writes it all the same)")
        return 0
    if arguments.out is None:
        print(f"next      pose2rgbd depth register {dataset.path} OUT")
        return 0
    made = register(dataset, found, arguments.out, arguments.resume)
    print(f"{made.path}: {describe_depth(made)}")
    print(f"look at   {made.path / PICTURE}, or pose2rgbd inspect {made.path}")
    print(f"next      pose2rgbd train relief {made.path} --memory thin")
    results.add(registered=made.path, files=results.files(picture=made.path / PICTURE, report=made.path / REPORT))
    return 0


# `train MODEL SOURCE [SOURCE ...]`: video becomes a model of depth and motion.


def train_usage() -> str:
    """The models there are."""
    rows = aligned((", ".join(family.models), family.text) for family in families("video").values())
    return (
        "usage: pose2rgbd depth train MODEL SOURCE [SOURCE ...] [options]   "
        f"(pose2rgbd depth train MODEL --help: its settings)\n\n{rows}"
    )


@dataclass
class TrainArguments:
    """Learn depth and motion from video, without poses. Ctrl-C saves; --resume goes on."""

    sources: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="SOURCE [SOURCE ...]", help="datasets, videos, folders of KITTI or TUM RGB-D"),
    ]
    options: Annotated[VideoConfig, tyro.conf.arg(name="")]
    out: Annotated[Path | None, tyro.conf.arg(help="folder of the run (default: runs/SOURCE-MODEL)")] = None
    resume: Annotated[bool, tyro.conf.arg(help="go on with the run in this folder")] = False
    json: Json = False


def _train(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(train_usage() if argv else f"error: which model?\n\n{train_usage()}", file=None if argv else sys.stderr)
        return 0 if argv else 2
    model = chosen_model(argv, "video")
    shown = TrainArguments(sources=tyro.MISSING, options=settings_shown(model, video_settings_of(model)))
    arguments = tyro.cli(TrainArguments, args=argv[1:], default=shown, prog=f"pose2rgbd depth train {model}")
    if not arguments.sources:
        raise UserError(f"which video? pose2rgbd depth train {model} SOURCE")
    from pose2rgbd_ros.training.trainer import train  # torch only once it is needed

    out = arguments.out or Path("runs") / f"{arguments.sources[0].resolve().stem}-{model}"
    result = train(arguments.sources, out, arguments.options, arguments.resume)
    return report_training(result, out, f"pose2rgbd depth evaluate {out} {arguments.sources[0]}")


# `infer RUN SOURCE`: depth of every frame, and the track.


@dataclass
class InferArguments:
    """Depth of every frame of a video or dataset, and the camera's track, by a trained model; both in no unit.

    Interrupted and called again it goes on.
    """

    paths: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN SOURCE", help="run folder or checkpoint, and what to look at; see --weights"),
    ]
    out: Path
    """folder for depth_relative/, colour/, contact_sheet.png and trajectory.txt (TUM format)"""
    weights: tuple[Path, ...] = ()
    """published weights (safetensors or PyTorch state dicts) in place of RUN; needs --model"""
    model: str | None = None
    """model that --weights are of"""
    width: float = 1.0
    """factor on the channels of --weights"""
    stride: int | None = None
    """the track takes every so many frames (default: as trained)"""
    hfov_deg: float | None = None
    """horizontal field of view in degrees of a source that does not know its lens"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where to run the network"""
    several: Annotated[ViewSettings, tyro.conf.arg(name="")] = field(default_factory=ViewSettings)
    json: Json = False


def _infer(arguments: InferArguments) -> int:
    from pose2rgbd_ros.models.video_depth import TrainedDepth, infer  # torch only once it is needed

    if len(arguments.paths) != (2 if not arguments.weights else 1):
        raise UserError(
            "depth infer needs RUN and SOURCE, or --weights FILE --model MODEL and SOURCE: "
            f"{len(arguments.paths)} were given"
        )
    if not arguments.weights:
        method = TrainedDepth.of_run(arguments.paths[0], arguments.device, arguments.several)
    else:
        if arguments.model is None:
            raise UserError(f"--weights {arguments.weights[0]}: of which --model? {model_names('video')}")
        method = TrainedDepth.of_weights(arguments.weights, arguments.model, arguments.width, arguments.device)
        print(method.mapped)
    sequences = list[Mapping[str, Any]]()
    for found in infer(method, arguments.paths[-1], arguments.out, arguments.stride, arguments.hfov_deg):
        print(found.summary())
        sequences.append(results.of_fields(found, "out", "frames", "poses", "notes"))
    results.add(sequences=sequences)
    return 0


# `odometry SOURCE`: the way of the camera without a network.


@dataclass
class OdometryArguments:
    """Follow the camera of a video by optical flow and geometry; nothing is learnt, and the way has no unit.

    Says what the pictures leave unknown: the way of a camera that only turns, which of two motions it was over a plane.
    """

    source: Annotated[Path, tyro.conf.Positional]
    """a video, dataset, folder of images, or another layout that `depth train` takes"""
    out: Path
    """the trajectory to write (TUM format); of several sequences a folder of them"""
    flow: Literal["dis", "farneback"] = "dis"
    """how flow is found"""
    stride: int = 1
    """take every so many frames"""
    hfov_deg: float | None = None
    """horizontal field of view in degrees of a source that does not know its lens"""
    json: Json = False


def _odometry(arguments: OdometryArguments) -> int:
    from pose2rgbd_ros.depth_from_images.odometry import ClassicalFlow, odometry  # torch only once it is needed
    from pose2rgbd_ros.formats.sequences import open_sequences

    if arguments.stride < 1:
        raise UserError(f"--stride is {arguments.stride}; it must be 1 or more")
    sequences, tracks = open_sequences(arguments.source, arguments.hfov_deg), list[dict[str, Any]]()
    for sequence in sequences:
        stamps_ns, damaged = list[int](), list[str]()
        images = _readable(sequence, arguments.stride, stamps_ns, damaged)
        track = odometry(images, sequence.camera, ClassicalFlow(arguments.flow))
        out = arguments.out if len(sequences) == 1 else arguments.out / f"{sequence.name}.txt"
        lines = [layout.pose_line(*pose) for pose in zip(stamps_ns, track.T_start_cam, strict=True)]
        with os_errors(f"{out} cannot be written"):
            out.parent.mkdir(parents=True, exist_ok=True)
            layout.atomic_write(out, "".join(lines).encode())
        print(f"{out}: {counted(len(lines), 'pose')} in the first camera, in no unit\n{track.summary()}")
        tracks.append({"trajectory": out, "poses": len(lines), "damaged_frames": len(damaged), "notes": sequence.notes})
        for note in sequence.notes:
            print(f"note: {note}")
        if damaged:
            print(f"warning: {counted(len(damaged), 'frame')} could not be read (the first: {damaged[0]})")
    results.add(sequences=tracks)
    return 0


def _readable(sequence: Sequence, stride: int, stamps_ns: list[int], damaged: list[str]) -> Iterator[UInt8]:
    """Images whose stamps are appended to a list, or why they cannot be read to another."""
    for index in tqdm(range(0, len(sequence), stride), sequence.name, unit="frame", disable=None):
        try:
            image = sequence.rgb(index)
        except UserError as error:
            damaged.append(str(error))
            continue
        stamps_ns.append(int(sequence.stamps_ns[index]))
        yield image


# `evaluate PREDICTED REFERENCE`: runs, depth and trajectories against the truth.


@dataclass
class EvaluateArguments:
    """Measure a run, predicted depth or a trajectory against the truth, as the papers and the public tools do.

    A run: on the frames of a source with true depth or poses that it has not seen. Depth: of a dataset, a folder of
    images, or a .npy. A trajectory of any tool: TUM, KITTI or EuRoC, or a folder of them by name (also of SfMLearner's
    snippets); a dataset's is its groundtruth.txt. Writes a page, table.md and metrics.json.
    """

    predicted: Annotated[Path, tyro.conf.Positional]
    """a run, depth (dataset, folder of images, .npy), what `depth infer` wrote, or a trajectory file or a folder of
    them"""
    reference: Annotated[Path, tyro.conf.Positional]
    """the truth: of a run a source of video, else of the same kind"""
    out: Path | None = None
    """folder of the report (default: PREDICTED-evaluation, beside it; of a run RUN/report)"""
    protocol: str = "plain"
    """depth: plain, metric, kitti-sfmlearner, kitti-sfmlearner-50, kitti-monodepth2, kitti-deepv2d, nyu-trianflow,
    nyu-deepv2d or make3d-c1"""
    change: tuple[str, ...] = ()
    """depth: what else of the protocol, such as scaling=none max_depth=50 filter=nearest"""
    unit_m: float = 0.001
    """depth: metres of one count of predicted 16 bit PNG; KITTI's has 0.00390625"""
    true_unit_m: float = 0.001
    """depth: the same of the true ones; a dataset knows its own"""
    disparity: bool = False
    """depth: the predicted images hold 1 / depth"""
    times: Path | None = None
    """trajectories: KITTI's times.txt for the one without stamps, when the other has some"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """of a run: where its network runs"""
    known_poses: bool = False
    """of a run of several views: its depth is found with the source's poses"""
    several: Annotated[ViewSettings, tyro.conf.arg(name="")] = field(default_factory=ViewSettings)
    pairing: Annotated[PairingSettings, tyro.conf.arg(name="")] = field(default_factory=PairingSettings)
    odometry: Annotated[OdometryProtocol, tyro.conf.arg(name="")] = field(default_factory=OdometryProtocol)
    json: Json = False


def _evaluate(arguments: EvaluateArguments) -> int:
    from pose2rgbd_ros.evaluation.depth_images import holds_depth, open_depth  # with matplotlib only once it is needed
    from pose2rgbd_ros.evaluation.depth_metrics import changed_protocol
    from pose2rgbd_ros.evaluation.depth_report import evaluate_depth
    from pose2rgbd_ros.evaluation.odometry_report import evaluate_trajectories

    predicted, reference, odometry = arguments.predicted, arguments.reference, arguments.odometry
    for path in (predicted, reference):
        if not path.exists():
            raise UserError(f"{path} does not exist")
    settings.check(odometry)
    settings.check(arguments.pairing)
    protocol = changed_protocol(arguments.protocol, arguments.change)
    is_run = (predicted / "checkpoint").is_dir()
    if is_run or (predicted / "weights.safetensors").is_file():
        from pose2rgbd_ros.evaluation.video_run import evaluate_video  # torch only once it is needed

        out = arguments.out or (predicted if is_run else predicted.resolve().parent) / "report"
        how = (arguments.device, arguments.several, arguments.known_poses)
        found = evaluate_video(predicted, [reference], out, arguments.protocol, protocol, odometry, *how)
        print(found.markdown())
        motion = {name: asdict(each) for name, each in (found.motion or {}).items()} or None
        results.add(motion=motion)
        for name, report in (("depth", found.depth), ("track", found.track)):
            if report is not None:
                results.add(**{name: report.to_dict()})
                print(f"\nlook at {(out if report is found.depth else out / 'track') / 'index.html'}")
        return 0
    out = arguments.out or predicted.resolve().with_name(f"{predicted.resolve().name}-evaluation")
    if holds_depth(predicted):
        depth = open_depth(predicted, arguments.unit_m, arguments.disparity)
        truth = open_depth(reference, arguments.true_unit_m)
        of_depth = evaluate_depth(depth, truth, out, arguments.protocol, protocol)
        print(of_depth.markdown())
        results.add(depth=of_depth.to_dict(), files=results.files(page=out / "index.html"))
        print(f"\nlook at {out / 'index.html'}")
        if not (predicted / "trajectory.txt").is_file() or not (reference / "groundtruth.txt").is_file():
            return 0
        out = out / "track"
        print()
    of_track = evaluate_trajectories(predicted, reference, out, odometry, arguments.pairing, arguments.times)
    print(of_track.markdown())
    results.add(track=of_track.to_dict(), track_files=results.files(page=out / "index.html"))
    print(f"\nlook at {out / 'index.html'}")
    return 0


DEPTH_JOBS: dict[str, Job] = {
    "add": (AddArguments, _add, "depth of a dataset: by stereo of its pictures, a model of video, an ONNX network"),
    "remove": (RemoveArguments, _remove, "take it out again"),
    "register": (RegisterArguments, _register, "lay the depth of a camera beside the colour camera over colour"),
    "train": (None, _train, "learn depth and motion from video"),
    "infer": (InferArguments, _infer, "depth and track of a video by a trained model"),
    "odometry": (OdometryArguments, _odometry, "the camera's track by optical flow alone, without a network"),
    "evaluate": (EvaluateArguments, _evaluate, "a run, depth or a trajectory against the truth: figures of the papers"),
}


def depth_main(argv: list[str]) -> int:
    """One of them. UserError where what is given does not suffice; a dataset is then as before."""
    return one_of(DEPTH_JOBS, "depth", argv)
