"""`pose2rgbd run [SOURCE ...]`: a recording becomes a dataset, a model and a live ROS node, and a report to look at."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, make_dataclass, replace
from importlib.util import find_spec
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from pose2rgbd_ros.cli import results
from pose2rgbd_ros.cli.live import fly
from pose2rgbd_ros.cli.results import Json
from pose2rgbd_ros.cli.trust import CALIBRATED, CLOCK, WORDS
from pose2rgbd_ros.convert.report import REPORT
from pose2rgbd_ros.convert.settings import ConvertConfig, PhotoSettings, VideoSettings
from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.geometry.flight import FlightSettings
from pose2rgbd_ros.models.depth_sources import DepthSettings, LearningSettings, add_depth_by, check_depth_source
from pose2rgbd_ros.models.relief.config import ReliefSettings
from pose2rgbd_ros.models.teacher import TeacherSettings
from pose2rgbd_ros.settings import check, read_yaml, setting, to_yaml_dict, write_yaml
from pose2rgbd_ros.training.config import AROUND_MINUTES, DEMO_MINUTES, PICTURES_MINUTES, TrainConfig
from pose2rgbd_ros.training.families import families, part_of, settings_of

if TYPE_CHECKING:
    from pose2rgbd_ros.convert.video import LoggedTrack

# The models of `pose2rgbd run`: each is trained and measured; the best on the frames that choose is served.
#
# The figures of the reports are of the frames that judge, which decide nothing.


BEST = "best"
CANDIDATES = ("relief", "warp-12", "base")
NEED_DEPTH = ("relief", "warp-12")
UNTRAINED = ("warp-12",)  # take none of the time
CHOICE = "choice.yaml"  # in a run's folder: how good the model is on the frames that choose

# (name, inputs, job): does the job unless it was done with these inputs before.
RunStep = Callable[[str, Any, Callable[[bool], Any]], None]


# Of the settings, so far as they are not those of `pose2rgbd train`: with half its channels base sees more than twice
# the images, and relief looks recorded frames up where the frames that choose are shown better with them.
OWN_DEFAULTS = {"width": 0.5, "relief": ReliefSettings(memory="auto")}


def settings_of_models(config: TrainConfig, names: Sequence[str]) -> dict[str, TrainConfig]:
    """What each model has of the settings. UserError: an unknown model, or something set that none of them has."""
    made, used = {}, {"model"}
    for name in names:
        own = {each.name for each in fields(settings_of(name))} - {"model"}
        made[name] = settings_of(name)(name, **{each: getattr(config, each) for each in own})
        used |= own
    for each in fields(config):
        usual = each.default if each.default_factory is MISSING else each.default_factory()
        if each.name not in used and getattr(config, each.name) not in (usual, OWN_DEFAULTS.get(each.name)):
            raise UserError(f"--train.{each.name.replace('_', '-')} means nothing to {', '.join(names)}; leave it out")
    return made


def _check(config: TrainConfig) -> None:
    check(config)
    settings_of_models(config, CANDIDATES if config.model == BEST else [config.model])


# The settings of every family together, and a choice among all models.
RunTraining: Any = make_dataclass(
    "RunTraining",
    [
        (
            "model",
            str,
            setting(
                BEST,
                "best: relief and base share the time, warp-12 learns nothing, and what is best on the held-out frames "
                "that choose is served; or a model of `pose2rgbd train`, such as base, slice-10, relief or warp-12",
            ),
        ),
        (
            "max_minutes",
            float | None,
            setting(
                None,
                "minutes of training, of all models together; the schedule is fitted to it "
                f"({DEMO_MINUTES:g}; {PICTURES_MINUTES:g} where poses came from the pictures; no limit with "
                "--train.epochs)",
                ge=0.0,
            ),
        ),
    ],
    bases=tuple(part_of(family, "config").Settings for family in families("place")),
    namespace={"__doc__": "Settings of `pose2rgbd train`, and a choice among models.", "__post_init__": _check},
    frozen=True,
)


def demo_training() -> TrainConfig:
    """The defaults of `pose2rgbd run`."""
    chosen: TrainConfig = RunTraining(**OWN_DEFAULTS)
    return chosen


def training_minutes(config: TrainConfig, from_pictures: bool) -> float | None:
    """How long all models together may train; None: until their epochs are over."""
    if config.max_minutes is not None or config.epochs is not None:
        return config.max_minutes
    return PICTURES_MINUTES if from_pictures else DEMO_MINUTES


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


def train_models(run_step: RunStep, dataset: Path, runs: Path, config: TrainConfig) -> list[Trained]:
    """Train and evaluate the model of `config`, or all candidates; what one leaves of the time is the next one's.

    A candidate that cannot be trained on this dataset is left out with one line.

    Raises:
        UserError: none can be trained.
        KeyboardInterrupt: the training was interrupted; it may be resumed.
    """
    names = _candidates(dataset) if config.model == BEST else [config.model]
    chosen = settings_of_models(config, CANDIDATES if config.model == BEST else names)
    minutes = config.max_minutes
    trained: list[Trained] = []
    for index, name in enumerate(names):
        learning = [later for later in names[index:] if later not in UNTRAINED]
        share = minutes if minutes is None or name in UNTRAINED else minutes / len(learning)
        one = replace(chosen[name], max_minutes=share)
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
            print(f"   {each.name:<8} {kind:<10} error {each.error_share:.0%} of the mean image's  {each.figures}")
    return best


def serve(chosen: Trained, link: Path) -> None:
    """Make `link` the folder of the chosen model, beside those of all."""
    if link.is_symlink():
        link.unlink()
    elif link.exists():
        shutil.rmtree(link)
    link.symlink_to(chosen.folder.resolve().relative_to(link.parent.resolve()), target_is_directory=True)


def calibrate_served(run_step: RunStep, dataset: Path, chosen: Trained) -> None:
    """Bounds of depth and a guard for the served model, from the frames that choose; one line where none can be."""

    def job(begun: bool) -> None:
        from pose2rgbd_ros.evaluation.calibrate_depth import calibrate

        refused = False
        try:
            said = calibrate(chosen.folder / "checkpoint", dataset, page=chosen.folder / "report").line()
        except UserError as error:
            said, refused = str(error), True
        write_yaml(chosen.folder / CALIBRATED, {"said": said, "refused": refused})
        print(f"   {'not calibrated: ' if refused else ''}{said}")

    run_step(f"calibrate {chosen.name}", None, job)


def film_served(run_step: RunStep, dataset: Path, chosen: Trained, seconds: float, settings: FlightSettings) -> None:
    """The served model's report once more, with a video of the flight whose depth has its bounds."""

    def job(begun: bool) -> None:
        from pose2rgbd_ros.evaluation.picture_report import evaluate

        report = chosen.folder / "report"
        evaluation = evaluate(chosen.folder / "checkpoint", dataset, report, video_s=seconds, flight=settings)
        print(f"   {evaluation.video or evaluation.notes[-1]}")

    run_step(f"film {chosen.name}", [seconds, to_yaml_dict(settings)], job)


def _candidates(dataset: Path) -> list[str]:
    from pose2rgbd_ros.dataset.reader import Dataset

    found = Dataset(dataset)
    if found.has_depth:
        is_made = found.meta.depth is not None and found.meta.depth.made is not None
        # Base knows photographs by heart, of which there are few: the time is relief's.
        return list(NEED_DEPTH if is_made else CANDIDATES)
    if is_aligned(dataset):
        return ["relief", "base"]  # with such poses the pictures tell the depth
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
        from pose2rgbd_ros.evaluation.picture_report import evaluate

        print(evaluate(run / "checkpoint", dataset, run / "report").table())
        write_yaml(run / CHOICE, _choice(dataset, run))

    return job


def _choice(dataset: Path, run: Path) -> dict[str, Any]:
    """How good the model is on the frames that choose; without such frames only whether it collapsed."""
    from pose2rgbd_ros.evaluation.pictures import measure
    from pose2rgbd_ros.training.checkpoint import load_checkpoint
    from pose2rgbd_ros.training.metrics import describe, is_collapsed

    trained = load_checkpoint(run)
    if trained.provenance["frames"]["choose"] == 0:
        return {"frames": 0, "error_share": float("nan"), "collapsed": is_collapsed(trained.metrics), "figures": ""}
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


# The clock of a conversion is off where the track says so by so many sigmas, and by so much that it matters.
OFF_SIGMAS, LEAST_OFF_S = 3.0, 0.05
AUTO = "auto"
DEPTH_HELP = (
    "depth where none was recorded; auto: by stereo, or between the alignment's points, once poses came from the "
    "pictures; else as `pose2rgbd depth add --method` takes it: sfmlearner, trianflow ... (learnt from the dataset "
    "first), the run of a model of video, an ONNX file"
)
MADE = ("dataset", "runs", "run")  # in the folder of a run, and deleted to be made anew


@dataclass
class RunConfig:
    """Recording -> dataset -> models -> live node -> report. Without a recording it flies over the simulated city.

    A recording is what `pose2rgbd convert` takes: bags, folders of photographs, or videos with their logs.
    Steps that are done are not done again: a second call goes on where the first one stopped.
    """

    sources: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE", help="recordings of one place")
    ] = ()
    out: Annotated[Path | None, tyro.conf.arg(help="folder for everything (out/demo, or out/NAME)")] = None
    video_s: Annotated[
        float, tyro.conf.arg(help="length in the report of the video along the recorded flight; 0: none")
    ] = 20.0
    live_s: Annotated[float, tyro.conf.arg(help="seconds to fly with the live node; 0: do not")] = 20.0
    min_gain: Annotated[
        float, tyro.conf.arg(help="fail unless each held-out error is this share below the mean image's (0.3: 30 %)")
    ] = 0.0
    strict: Annotated[
        bool, tyro.conf.arg(help="warnings about the dataset are errors: stop with exit status 1, and keep it")
    ] = False
    view: Annotated[
        Literal["auto", "always", "never"],
        tyro.conf.arg(help="end by serving the page of `pose2rgbd view` until Ctrl-C; auto: in a terminal"),
    ] = "auto"
    fresh: Annotated[bool, tyro.conf.arg(help="begin again from the first step")] = False
    align: Annotated[
        Literal["auto", "always", "never"],
        tyro.conf.arg(help="poses and lens by structure from motion; auto: of recordings without depth placed by GPS"),
    ] = "auto"
    depth: Annotated[str, tyro.conf.arg(metavar="HOW", help=DEPTH_HELP)] = AUTO
    learning: Annotated[LearningSettings, tyro.conf.arg(name="")] = field(default_factory=LearningSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    convert: ConvertConfig = field(default_factory=ConvertConfig)
    photos: PhotoSettings = field(default_factory=PhotoSettings)
    video: VideoSettings = field(default_factory=VideoSettings)
    train: TrainConfig = field(default_factory=demo_training)
    flight: FlightSettings = field(default_factory=FlightSettings)
    json: Json = False


class Steps:
    """The steps of one run folder; a step is skipped when it was finished with the same inputs before.

    UserError: the folder cannot be made, or holds a dataset or a training that no run made.
    """

    def __init__(self, out: Path, fresh: bool) -> None:
        with os_errors(f"cannot make the folder {out}", "choose another --out"):
            out.mkdir(parents=True, exist_ok=True)
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
        if state.get("key") == key and state.get("finished"):
            print(f"== {name}: done before")
            return
        print(f"== {name}", flush=True)
        self._write(name, key, False)
        started = time.monotonic()
        job(state.get("key") == key)
        seconds = time.monotonic() - started
        self._write(name, key, True, round(seconds, 1))
        print(f"   {name} took {seconds:.0f} s", flush=True)

    def _write(self, name: str, key: str, finished: bool, seconds: float | None = None) -> None:
        """seconds: of the call that finished it; an interrupted one before is not counted."""
        self._done.pop(name, None)  # so that the file is in the order of the steps
        self._done[name] = {"key": key, "finished": finished, "seconds": seconds}
        write_yaml(self._path, self._done)


def main(argv: list[str]) -> int:
    """Run all steps; 1 on warnings with --strict, when the node did not deliver or the model is not good enough."""
    config = tyro.cli(RunConfig, args=argv, prog="pose2rgbd run")
    missing = [str(source) for source in config.sources if not source.exists()]
    if missing:
        raise UserError(f"{', '.join(missing)}: no such recording")
    sources_of_depth = DepthSettings(config.learning, config.teacher)
    if config.depth != AUTO:
        check_depth_source(config.depth, sources_of_depth)
    # a library that is missing is told before the first step, not hours later
    importlib.import_module("pose2rgbd_ros.training.trainer")
    out = config.out or Path("out") / (config.sources[0].resolve().stem if config.sources else "demo")
    steps = Steps(out, config.fresh)
    started = time.monotonic()
    sources = list(config.sources) or [_record(steps, out)]
    dataset, run = out / "dataset", out / "run"
    _convert(steps, sources, dataset, config)
    align_dataset(steps.run, dataset, config.align, _minutes_after(dataset, config))
    _correct_clock(steps, sources, dataset, out, config)
    give_depth(steps.run, dataset, config.depth, sources_of_depth)
    _inspect(steps, dataset)
    warnings = _warnings(dataset)
    if config.strict and warnings:
        print(f"error: {'; '.join(warnings)} (--strict); {dataset} is kept", file=sys.stderr)
        return 1
    training = replace(config.train, max_minutes=training_minutes(config.train, is_aligned(dataset)))
    served = choose(train_models(steps.run, dataset, out / "runs", training))
    serve(served, run)
    calibrate_served(steps.run, dataset, served)
    if config.video_s > 0:
        film_served(steps.run, dataset, served, config.video_s, config.flight)
    delivered = True
    if config.live_s > 0:
        delivered = fly(dataset, run / "checkpoint", out / "live", config.live_s, config.flight)
    _tell(out, dataset, run, time.monotonic() - started, shlex.join(["pose2rgbd", "run", *argv]))
    good = _is_good(run, config.min_gain) and delivered
    in_terminal = sys.stdout.isatty() and find_spec("viser") is not None and not config.json
    if config.view == "always" or (config.view == "auto" and in_terminal):
        _view(run, dataset)
    return 0 if good else 1


def _view(run: Path, dataset: Path) -> None:
    """Serve the page until Ctrl-C, from its first second on; where that cannot be, say why: all else is done."""
    from pose2rgbd_ros.cli import view

    print("\n== fly through it", flush=True)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            view.main([str(run), str(dataset)])
    except UserError as error:
        print(f"   not served: {error}")


def _record(steps: Steps, out: Path) -> Path:
    from pose2rgbd_ros.dataset.layout import truth_folder
    from pose2rgbd_ros.sim.bag import demo_config, write_sim_bag

    bag = out / "flight.mcap"

    def job(begun: bool) -> None:
        bag.unlink(missing_ok=True)
        _remove(truth_folder(bag))
        print(write_sim_bag(bag, demo_config()).summary())

    steps.run("record a demo flight", to_yaml_dict(demo_config()), job)
    return bag


def _convert(steps: Steps, sources: list[Path], dataset: Path, config: RunConfig, name: str = "convert") -> None:
    from pose2rgbd_ros.convert.convert import convert_sources
    from pose2rgbd_ros.sfm.align import features_kept

    def job(begun: bool) -> None:
        if not begun:
            with features_kept(dataset):
                _remove(dataset)
        options = replace(config.convert, resume=begun and dataset.exists())
        print(convert_sources(sources, dataset, options, config.photos, config.video).summary())

    inputs = [[str(source.resolve()), source.stat().st_mtime_ns] for source in sources]
    options = [to_yaml_dict(group) for group in (config.convert, config.photos, config.video)]
    steps.run(name, [inputs, *options], job)


def _correct_clock(steps: Steps, sources: list[Path], dataset: Path, out: Path, config: RunConfig) -> None:
    """Convert and align once more where the aligned track shows other clocks; as at first where that does not align."""
    if (by_track := _by_track(steps, sources, dataset, out, config)) is None:
        return
    later_min = _minutes_after(dataset, config)
    _convert(steps, sources, dataset, by_track, "convert by the clock of the track")
    align_dataset(steps.run, dataset, config.align, later_min, "align once more")
    if is_aligned(dataset):
        return
    print("   warning: at that offset nothing aligns: all is as the first conversion had it")
    _convert(steps, sources, dataset, config, "convert as at first")
    align_dataset(steps.run, dataset, config.align, later_min, "align as at first")
    write_yaml(out / CLOCK, {**read_yaml(out / CLOCK), "failed": True})


def _by_track(steps: Steps, sources: list[Path], dataset: Path, out: Path, config: RunConfig) -> RunConfig | None:
    """Compare the aligned track with the video's log: the settings of another conversion where their clocks were off.

    Leaves OUT/clock.yaml. An offset that was given stays, and only what the track says of it is kept.
    """
    if not is_aligned(dataset) or not (track := _logged(sources, dataset, config)):
        return None
    from pose2rgbd_ros.alignment.tracks import offset_of_tracks
    from pose2rgbd_ros.dataset.meta import read_meta
    from pose2rgbd_ros.dataset.reader import Dataset

    given = config.convert.image_time_offset_s != 0 or config.video.clock not in ("auto", "flow")
    stays = given or not track.has_own_clock

    def job(begun: bool) -> None:
        aligned, poses = Dataset(dataset), read_meta(dataset).poses
        found = offset_of_tracks(aligned.stamps_ns, aligned.T_map_cam[:, :3, 3], track.stamps_ns, track.position_m)
        before_s = poses.image_time_offset_s if poses else 0.0
        is_off = found.observable and abs(found.offset_s - before_s) > max(OFF_SIGMAS * found.sigma_s, LEAST_OFF_S)
        values = {"before_s": before_s, "offset_s": found.offset_s, "sigma_s": found.sigma_s, "why": found.why,
                  "residual_m": found.residual_m, "applied": is_off and not stays}  # fmt: skip
        write_yaml(out / CLOCK, values)
        said = found.why or f"{found.offset_s:+.3f} s (sigma {found.sigma_s:.3f} s)"
        print(f"   the pictures' track against the log: {said}; the conversion had {before_s:+.3f} s")
        if is_off and stays:
            print(f"   warning: that {'was given' if given else 'is by the time of the video itself'}, and stays")

    steps.run("clock", None, job)
    clock = read_yaml(out / CLOCK)
    if not clock["applied"]:
        return None
    offset_s = round(float(clock["offset_s"]) + track.again_s, 4)
    return replace(
        config, convert=replace(config.convert, image_time_offset_s=offset_s), video=replace(config.video, clock="auto")
    )


def _logged(sources: list[Path], dataset: Path, config: RunConfig) -> LoggedTrack | None:
    from pose2rgbd_ros.convert.video import logged_track
    from pose2rgbd_ros.dataset.meta import read_meta

    return logged_track(sources, config.convert, read_meta(dataset))


def _minutes_after(dataset: Path, config: RunConfig) -> float:
    """How long all that follows an alignment will take, about."""
    from pose2rgbd_ros.dataset.reader import Dataset
    from pose2rgbd_ros.depth_from_images.stereo import StereoSettings
    from pose2rgbd_ros.sfm import dense

    depth_min = dense.minutes(Dataset(dataset), StereoSettings())
    return depth_min + (training_minutes(config.train, True) or 0.0) + AROUND_MINUTES + config.live_s / 60


def is_aligned(dataset: Path) -> bool:
    """Whether its poses came from the pictures."""
    from pose2rgbd_ros.dataset.meta import read_meta

    poses = read_meta(dataset).poses
    return poses is not None and poses.position.startswith("sfm")


def align_dataset(
    run_step: RunStep, dataset: Path, wanted: Literal["auto", "always", "never"], later_min: float = 0.0,
    name: str = "align",
) -> None:  # fmt: skip
    """Poses and lens by structure from motion; where that fails the recorded ones stay, and why is said.

    later_min: what follows will take about so many minutes.
    """
    from pose2rgbd_ros.cli.data import align_or_keep
    from pose2rgbd_ros.sfm.align import recorded_dataset
    from pose2rgbd_ros.sfm.reconstruct import AlignSettings

    recorded = recorded_dataset(dataset)
    by_gps = recorded.meta.poses is not None and recorded.meta.poses.position.startswith("gps")
    if wanted == "never" or (wanted == "auto" and (recorded.has_depth or not by_gps)):
        return

    def job(begun: bool) -> None:
        if problem := align_or_keep(dataset, "   ", later_min):
            print(f"   warning: {problem}; with the recorded poses the renderer will be blurred")

    run_step(name, to_yaml_dict(AlignSettings()), job)


def give_depth(
    run_step: RunStep, dataset: Path, how: str = AUTO, sources: DepthSettings | None = None, **options: int
) -> None:
    """Dense depth from the pictures, where their poses came from them; where too little shows, that of sparse points.

    how: another source of depth than these, by name; `sources` are its settings. options: of `StereoSettings`.
    """
    from pose2rgbd_ros.dataset.made_depth import without_made_depth
    from pose2rgbd_ros.dataset.reader import Dataset
    from pose2rgbd_ros.depth_from_images.stereo import StereoSettings
    from pose2rgbd_ros.sfm import dense

    found, settings = without_made_depth(Dataset(dataset)), StereoSettings(**options)
    if found.has_depth or (how == AUTO and not is_aligned(dataset)):
        return
    if how != AUTO:
        sources = sources or DepthSettings()
        inputs = [how, to_yaml_dict(sources.learning), to_yaml_dict(sources.teacher), to_yaml_dict(settings)]
        run_step("depth", inputs, lambda begun: add_depth_by(dataset, how, sources, settings))
        return

    def job(begun: bool) -> None:
        print(f"   {dense.plan(found, settings)}", flush=True)
        known = dense.known_share(found, settings)
        if known >= dense.WORTH_IT:
            dense.add_depth(dataset, settings)
            return
        print(
            f"   neighbours show the depth of {known:.0%} of the pixels only: it is that between the alignment's points"
        )
        try:
            dense.add_points_depth(dataset)
        except UserError as error:
            print(f"   left out: {error}")

    run_step("depth", to_yaml_dict(settings), job)


def _warnings(dataset: Path) -> list[str]:
    """Of the conversion, as far as an alignment did not settle them."""
    from pose2rgbd_ros.cli.data import settled_warnings

    settled = settled_warnings(dataset)
    return [warning for warning in read_yaml(dataset / REPORT).get("warnings") or [] if warning not in settled]


def _inspect(steps: Steps, dataset: Path) -> None:
    from pose2rgbd_ros.dataset.inspect import inspect
    from pose2rgbd_ros.dataset.reader import Dataset

    steps.run("inspect", None, lambda begun: print(inspect(Dataset(dataset)).text))


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
        print(f"  failed   {name} is {gain:.0%} below the mean image's, {min_gain:.0%} were asked for: train longer")
    return not poor


def _tell(out: Path, dataset: Path, run: Path, seconds: float, command: str) -> None:
    """What there is to look at, and how to start the node again."""
    from pose2rgbd_ros.cli.run_page import PAGE, write_run_page

    print("\n== how sure each step is")
    steps = write_run_page(out, command)
    results.add(
        out=out, dataset=dataset, run=run, model=run.resolve().name, took_s=round(seconds, 1),
        trust=[asdict(each) for each in steps], files=results.files(page=out / PAGE, video=run / "report/flight.mp4"),
    )  # fmt: skip
    for each in steps:
        print(f"   {each.step:<12} {WORDS[each.mood]:<9} {each.decided}: {each.sure}")
        if each.mood != "good":
            print(f"   {'':<22} helps: {each.remedy}")
    print(f"\nall done in {seconds / 60:.1f} min; everything is in {out}/")
    needs = "" if find_spec("viser") else "   (needs viser)"
    print(f"  look at  {out / PAGE}")
    print(f"  fly      pose2rgbd view {run} {dataset}{needs}")
    print(f"  model    {run / 'checkpoint'}")
    print(f"  node     pose2rgbd render --model {run / 'checkpoint'}")
