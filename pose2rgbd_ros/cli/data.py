"""`pose2rgbd convert SOURCE [SOURCE ...] OUT`: recordings, photographs or videos of one place to a dataset."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros import settings
from pose2rgbd_ros.alignment.align import AlignOptions, estimate_offset
from pose2rgbd_ros.alignment.flow import FlowConfig
from pose2rgbd_ros.alignment.plot import draw
from pose2rgbd_ros.cli import results
from pose2rgbd_ros.cli.results import Json
from pose2rgbd_ros.convert.convert import LOG, VIDEO, convert_sources, kind_of, measure
from pose2rgbd_ros.convert.recording_page import read_rejects, write_inspection
from pose2rgbd_ros.convert.settings import ConvertConfig, PhotoSettings, VideoSettings
from pose2rgbd_ros.convert.video import PictureTrack, has_log, pair_with_logs
from pose2rgbd_ros.dataset.inspect import describe_depth, draw_slices, figures_of, inspect
from pose2rgbd_ros.dataset.inspect import warnings as warnings_of
from pose2rgbd_ros.dataset.layout import require_room
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.formats.exporting import export_dataset
from pose2rgbd_ros.formats.importing import import_datasets
from pose2rgbd_ros.formats.settings import ExportConfig, ImportConfig
from pose2rgbd_ros.models.depth_sources import DepthSettings, LearningSettings, add_depth_by, check_depth_source
from pose2rgbd_ros.models.teacher import TeacherSettings
from pose2rgbd_ros.sfm.align import align, plan, recorded_dataset, restore
from pose2rgbd_ros.sfm.picture_poses import refine_poses
from pose2rgbd_ros.sfm.reconstruct import AlignSettings
from pose2rgbd_ros.sfm.report import write as write_align_report


@dataclasses.dataclass
class ConvertArguments:
    """Convert recordings, photographs or videos of one place into a dataset.

    A source is a bag (ROS 1 .bag; ROS 2 folder, .db3 or .mcap), a folder of photographs with GPS, or a video; a flight
    log (.gpx, .csv, .srt) is named beside its video.
    """

    paths: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="SOURCE [SOURCE ...] OUT",
            help="the sources, all of one kind, and last the dataset's folder",
            help_behavior_hint="(required)",
        ),
    ]
    strict: bool = False
    """warnings are errors: the exit status is 1; the dataset is kept"""
    align: bool = False
    """then replace poses and lens by structure from motion, as `pose2rgbd align` does"""
    depth: Annotated[str | None, tyro.conf.arg(metavar="HOW")] = None
    """then make depth from the pictures, as `pose2rgbd depth add --method HOW` does: plane-sweep, the run of a model of
    video, sfmlearner, trianflow ... (learnt from this dataset first), or the ONNX file of any depth network"""
    learning: Annotated[LearningSettings, tyro.conf.arg(name="")] = dataclasses.field(default_factory=LearningSettings)
    teacher: TeacherSettings = dataclasses.field(default_factory=TeacherSettings)
    json: Json = False
    options: Annotated[ConvertConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ConvertConfig)
    photos: PhotoSettings = dataclasses.field(default_factory=PhotoSettings)
    video: VideoSettings = dataclasses.field(default_factory=VideoSettings)


def convert_main(argv: list[str]) -> int:
    """Convert, and print what was done; 1 with warnings and --strict. UserError when the input is wrong."""
    arguments = tyro.cli(ConvertArguments, args=argv, prog="pose2rgbd convert")
    if len(arguments.paths) < 2:
        raise UserError(
            "convert needs a source (bag, folder of photographs, video) and, last, the folder of the dataset to make"
        )
    *sources, out = arguments.paths
    how = DepthSettings(arguments.learning, arguments.teacher)
    if arguments.depth is not None:
        check_depth_source(arguments.depth, how)  # a wrong one is refused before the work
    tracks = _tracks(sources, out, arguments)
    report = convert_sources(sources, out, arguments.options, arguments.photos, arguments.video, tracks)
    print(report.summary())
    results.add(dataset=out, **report.to_dict())
    warnings = len(report.warnings)
    if tracks and (problem := _refined_or_kept(out, bool(arguments.options.fov_deg))):
        print(f"warning: {problem}")
        warnings += 1
    needs_lens = arguments.depth is not None and not Dataset(out).camera.is_calibrated
    if needs_lens and not arguments.align:
        print("note: depth needs the focal length, which the source does not say: the pictures are aligned")
    if (arguments.align or needs_lens) and (problem := align_or_keep(out)):
        print(f"warning: {problem}")
        warnings += 1
    if arguments.depth is not None:
        print(f"{out}: {describe_depth(add_depth_by(out, arguments.depth, how))}")
    print(f"next      pose2rgbd inspect {out}")
    return _status(arguments.strict, warnings, out)


def _tracks(sources: list[Path], out: Path, arguments: ConvertArguments) -> dict[Path, PictureTrack]:
    """The ways of videos whose poses are to come from their pictures, as none of them has a log."""
    chosen = arguments.video.poses
    if {kind_of(source) for source in sources} - {VIDEO, LOG} or chosen == "log":
        return {}
    pairs = pair_with_logs(sources)
    alone = [video for video, log in pairs if chosen == "pictures" or not has_log(video, log)]
    if not alone or (chosen == "auto" and arguments.depth is None):
        return {}
    if len(pairs) > 1:
        raise UserError(
            f"{alone[0]} has no log, and poses of its pictures alone have an origin and a unit of their own: convert "
            "it alone"
        )
    require_room(out, resume=False)  # before the work
    from pose2rgbd_ros.models.picture_track import follow_pictures  # torch only once it is needed

    return {video: follow_pictures(video, arguments.video, arguments.options.fov_deg or None) for video in alone}


def _refined_or_kept(folder: Path, lens_is_known: bool) -> str | None:
    """Refine poses of pictures alone, saying what came out; None, or why they stay as they were chained."""
    try:
        found = refine_poses(folder, lens_is_known=lens_is_known)
    except UserError as error:
        return f"not refined, poses drift: {error}"
    for note in found.notes:
        print(f"note: {note}")
    return None


def _status(strict: bool, warnings: int, kept: Path | None = None) -> int:
    """The exit status of a job with so many warnings, which --strict makes errors."""
    if not strict or not warnings:
        return 0
    print(f"error: {counted(warnings, 'warning')} (--strict){f'; {kept} is kept' if kept else ''}", file=sys.stderr)
    return 1


# `pose2rgbd import SOURCE [SOURCE ...] DATASET`: other tools' datasets to one of ours.


@dataclasses.dataclass
class ImportArguments:
    """Import datasets of one place: nerfstudio, TUM RGB-D, KITTI odometry, EuRoC, 7-Scenes, Cambridge, COLMAP text."""

    paths: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="SOURCE [SOURCE ...] DATASET",
            help="the folders to import, and last the folder of the dataset to make",
            help_behavior_hint="(required)",
        ),
    ]
    strict: bool = False
    """warnings are errors: the exit status is 1; the dataset is kept"""
    json: Json = False
    options: Annotated[ImportConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ImportConfig)


def import_main(argv: list[str]) -> int:
    """Import, and print what was done; 1 with warnings and --strict. UserError when the input is wrong."""
    arguments = tyro.cli(ImportArguments, args=argv, prog="pose2rgbd import")
    if len(arguments.paths) < 2:
        raise UserError("import needs a source and, last, the folder of the dataset to make")
    *sources, out = arguments.paths
    report = import_datasets(sources, out, arguments.options)
    print(report.summary())
    results.add(dataset=out, **report.to_dict())
    print(f"next      pose2rgbd inspect {out}")
    return _status(arguments.strict, len(report.warnings), out)


# `pose2rgbd sync RECORDING`: how far the clock of the images is from that of the poses.


@dataclasses.dataclass
class SyncArguments:
    """Tell what to add to the stamps of the images so that they are by the clock of the poses, and how sure that is.

    The motion of the picture is compared with that of the vehicle, so both must change: an answer is given where the
    recording holds one, else why it does not.
    """

    recording: Annotated[Path, tyro.conf.Positional]
    """a recording (ROS 1 .bag; ROS 2 folder, .db3 or .mcap) or a dataset's folder"""
    out: Path | None = None
    """folder for sync.png and sync.yaml (default: the working directory)"""
    align: Annotated[AlignOptions, tyro.conf.arg(name="")] = dataclasses.field(default_factory=AlignOptions)
    strict: bool = False
    """warnings are errors: the exit status is 1"""
    json: Json = False
    flow: FlowConfig = dataclasses.field(default_factory=FlowConfig)
    reading: ConvertConfig = dataclasses.field(default_factory=ConvertConfig)


def sync_main(argv: list[str]) -> int:
    """Print the answer, write picture and numbers. 1 without an answer, or with warnings and --strict.

    UserError when the input is wrong.
    """
    arguments = tyro.cli(SyncArguments, args=argv, prog="pose2rgbd sync")
    for config in (arguments.align, arguments.flow, arguments.reading):
        settings.check(config)
    out = arguments.out or Path()
    with os_errors(f"{out} cannot be made a folder"):
        out.mkdir(parents=True, exist_ok=True)
    signals = measure(arguments.recording, arguments.reading, arguments.flow)
    flow, motion = signals.flow, signals.motion
    found = estimate_offset(flow, motion, arguments.align)
    told = {"notes": signals.notes, "warnings": signals.warnings}
    values = {"recording": str(arguments.recording), **told, **found.to_dict()}
    settings.write_yaml(out / "sync.yaml", values)
    results.add(**values, files=results.files(numbers=out / "sync.yaml"))
    print(found.summary())
    looked = found.looked(arguments.align)
    if looked:
        print(f"looked at {looked}")
    if len(flow) > 1:
        draw(flow, motion, found, out / "sync.png", arguments.align)
        print(f"picture   {out / 'sync.png'}")
    print(f"numbers   {out / 'sync.yaml'}")
    if found.observable:
        print(f"use it    pose2rgbd convert --sync apply, or --image-time-offset-s={found.offset_s:.3f}")
    for note in signals.notes:
        print(f"note: {note}")
    for warning in signals.warnings:
        print(f"warning: {warning}")
    return _status(arguments.strict, len(signals.warnings)) or int(not found.observable)


# `pose2rgbd align DATASET`: poses, lens and sparse points from the images themselves.


@dataclass
class AlignArguments:
    """Replace a dataset's rough poses and lens by those of structure from motion (pycolmap, on the CPU).

    Recorded positions place and size the map; what was recorded is kept in the dataset's folder recorded/.
    """

    dataset: Annotated[Path, tyro.conf.Positional]
    """the dataset's folder"""
    restore: bool = False
    """give the dataset its recorded poses and camera back"""
    json: Json = False
    align: Annotated[AlignSettings, tyro.conf.arg(name="")] = dataclasses.field(default_factory=AlignSettings)


def align_main(argv: list[str]) -> int:
    """Align, and print what came out. UserError when nothing could be joined; the dataset is then as before."""
    arguments = tyro.cli(AlignArguments, args=argv, prog="pose2rgbd align")
    if arguments.restore:
        restore(arguments.dataset)
        print(f"{arguments.dataset} has its recorded poses and camera again")
        return 0
    settings.check(arguments.align)
    planned = plan(recorded_dataset(arguments.dataset), arguments.align)
    print(planned)
    found = align(arguments.dataset, arguments.align, planned)
    page = write_align_report(arguments.dataset, found, arguments.align)
    print(found.summary())
    print(f"report    {page}")
    print(f"next      pose2rgbd depth add {arguments.dataset}, or pose2rgbd train relief {arguments.dataset}")
    results.add(dataset=arguments.dataset, **found.to_dict(), files=results.files(page=page))
    return 0


ALIGNED_SHARE = 0.5  # of the frames; an alignment of fewer would throw away most of the recording


def align_or_keep(folder: Path, indent: str = "", later_min: float | None = None) -> str | None:
    """Align a dataset that was just converted, saying what is done; None, or why it keeps its recorded poses.

    later_min: what else will be done takes about so many minutes.
    """
    chosen = AlignSettings()
    try:
        recorded = recorded_dataset(folder)
        planned = plan(recorded, chosen)
        whole = "" if later_min is None else f"; all to the end about {planned.minutes + later_min:.0f} min"
        print(f"{indent}{planned}{whole}", flush=True)
        found = align(folder, chosen, planned)
    except UserError as error:
        return f"not aligned: {error}"
    if len(found.frames) < ALIGNED_SHARE * len(recorded):
        restore(folder)
        return f"not aligned: only {len(found.frames)} of {counted(len(recorded), 'frame')} could be joined"
    write_align_report(folder, found, chosen)
    print(found.summary())
    for warning in settled_warnings(folder):
        print(f"note: no longer true: {warning}")
    return None


def settled_warnings(folder: Path) -> list[str]:
    """What the dataset as it was recorded is warned of and as it is now is not."""
    now = warnings_of(Dataset(folder))
    return [warning for warning in warnings_of(recorded_dataset(folder)) if warning not in now]


# `pose2rgbd inspect DATASET`: what is in it.


MOST_FRAMES = 300  # a picture of more is too tall to draw


@dataclass
class InspectArguments:
    """Print a summary of a dataset and draw a contact sheet and its track."""

    dataset: Annotated[Path, tyro.conf.Positional]
    """the dataset's folder"""
    out: Path | None = None
    """folder for index.html, summary.txt, contact_sheet.png and track.png (default: DATASET/inspect)"""
    frames: int = 12
    """frames on the contact sheet"""
    strict: bool = False
    """warnings are errors: the exit status is 1"""
    slices: int = 0
    """draw frames cut into so many depth slices as well, as slices.png; 0: do not"""
    json: Json = False


def inspect_main(argv: list[str]) -> int:
    """Print the summary and where the pictures are; 1 with warnings and --strict. UserError for a damaged dataset."""
    arguments = tyro.cli(InspectArguments, args=argv, prog="pose2rgbd inspect")
    if not 1 <= arguments.frames <= MOST_FRAMES:
        raise UserError(f"--frames is {arguments.frames}; it must be 1 to {MOST_FRAMES}")
    dataset = Dataset(arguments.dataset)
    result = inspect(dataset, arguments.out, arguments.frames)
    print(result.text)
    page = write_inspection(dataset, result.track.parent)
    print(f"{'look at':<9} {page}\n{'pictures':<9} {result.contact_sheet}\n{'':<9} {result.track}")
    written = results.files(page=page, contact_sheet=result.contact_sheet, track=result.track)
    rejects = read_rejects(dataset.path)
    results.add(**figures_of(dataset), rejects=None if rejects is None else rejects.counts, files=written)
    if arguments.slices:
        path = result.track.with_name("slices.png")
        draw_slices(dataset, path, arguments.slices)
        print(f"{'':<9} {path}")
    print(f"{'next':<9} pose2rgbd train relief {arguments.dataset} --max-minutes 10")
    return _status(arguments.strict, result.warnings)


# `pose2rgbd export DATASET OUT --format NAME`: a dataset in another tool's format.


@dataclasses.dataclass
class ExportDatasetArguments:
    """Write a dataset in another tool's format. OUT appears when it is complete."""

    dataset: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATASET", help="the dataset's folder")]
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT", help="the folder to make")]
    json: Json = False
    options: Annotated[ExportConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ExportConfig)


def export_dataset_main(argv: list[str]) -> int:
    """Export, and print what was done. UserError when the input is wrong."""
    arguments = tyro.cli(ExportDatasetArguments, args=argv, prog="pose2rgbd export")
    report = export_dataset(arguments.dataset, arguments.out, arguments.options)
    print(report.summary())
    results.add(**results.of_fields(report, "out", "format", "frames", "notes"))
    return 0
