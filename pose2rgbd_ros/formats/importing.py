"""Other tools' datasets into one of ours: lists first, then image by image through the dataset's writer."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.encode import BadFrame
from pose2rgbd_ros.dataset.inspect import look_over
from pose2rgbd_ros.dataset.layout import WORDS, read_associations, write_split
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta, check_same_place
from pose2rgbd_ros.dataset.writer import Added, DatasetWriter
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.formats import reading
from pose2rgbd_ros.formats.registry import FORMATS, recognise
from pose2rgbd_ros.formats.scene import MAX_STAMP_NS, Scene, View, camera_of_text, stamp_after, turned_up
from pose2rgbd_ros.formats.settings import ImportConfig
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.settings import write_yaml
from pose2rgbd_ros.streams.samples import ImageSample

# What an import did: frames written, frames that could not be used and why, and what had to be assumed.


REPORT = "import_report.yaml"


@dataclass
class SourceReport:
    """One source: `rejects` counts frames by reason, `examples` has the first of each in words."""

    path: str
    format: str
    frames_written: int = 0
    frames_already_there: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def reject(self, reason: str, example: str) -> None:
        """Count a frame that cannot be used."""
        self.rejects[reason] += 1
        self.examples.setdefault(reason, example)


@dataclass
class ImportReport:
    """The whole import; also written as import_report.yaml."""

    out: str
    settings: dict[str, Any] = field(default_factory=dict)
    sources: list[SourceReport] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # of the dataset, as inspect gives them

    @property
    def frames_written(self) -> int:
        """New frames."""
        return sum(source.frames_written for source in self.sources)

    @property
    def frames_already_there(self) -> int:
        """Frames that an earlier, interrupted run had written."""
        return sum(source.frames_already_there for source in self.sources)

    @property
    def rejects(self) -> Counter[str]:
        """Frames that could not be used, by reason."""
        return sum((source.rejects for source in self.sources), Counter())

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        sources = [{**asdict(source), "rejects": dict(source.rejects)} for source in self.sources]
        counts = {"frames_written": self.frames_written, "frames_already_there": self.frames_already_there}
        return {**counts, "warnings": self.warnings, "settings": self.settings, "sources": sources}

    def write(self, folder: Path) -> None:
        """Write import_report.yaml atomically. OSError passes through."""
        write_yaml(folder / REPORT, self.to_dict())

    def summary(self) -> str:
        """A few lines for the terminal."""
        there = self.frames_already_there
        again = f" ({there} more {'was' if there == 1 else 'were'} there)" if there else ""
        read = ", ".join(dict.fromkeys(f"{Path(source.path).name}: {source.format}" for source in self.sources))
        lines = [f"{self.out}: {counted(self.frames_written, 'frame')} written{again} ({read})"]
        lines += [f"rejected: {reason_line}" for reason_line in self.reject_lines()]
        notes = dict.fromkeys(note for source in self.sources for note in source.notes)
        lines += [f"note: {note}" for note in notes]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])

    def reject_lines(self) -> list[str]:
        """Each reason with its count and an example."""
        examples: dict[str, str] = {}
        for source in self.sources:
            for reason, example in source.examples.items():
                examples.setdefault(reason, example)
        return [f"{n} {reason} (first: {examples[reason]})" for reason, n in sorted(self.rejects.items())]


_CAMERA_FRAME = "camera_optical_frame"


def import_datasets(sources: Sequence[Path | str], out: Path | str, config: ImportConfig | None = None) -> ImportReport:
    """Import other tools' datasets of one place into the dataset `out`.

    Frames that cannot be used are counted by reason; the report is also written to `out`/import_report.yaml. An
    interrupted import (Ctrl-C, kill -9, disk full) is continued with `resume`.

    Raises:
        UserError: a source is of no known format, one of its lists is damaged, no frame can be used, or the disk is
            full. Frames written before stay.
    """
    config = config or ImportConfig()
    settings.check(config)
    paths = [Path(source) for source in sources]
    if not paths:
        raise UserError("no source was given")
    layout.require_distinct(paths)
    layout.require_room(Path(out), config.resume)
    report = ImportReport(str(out), settings.to_yaml_dict(config))
    scenes = _load_all(paths, config, report)
    _write_all(scenes, Path(out), config, report)
    report.warnings = look_over(Path(out))
    with contextlib.suppress(OSError):
        report.write(Path(out))
    return report


def _load_all(paths: Sequence[Path], config: ImportConfig, report: ImportReport) -> list[Scene]:
    """All lists read and checked, before the first frame is written; sources without stamps one after the other."""
    scenes, start_ns = list[Scene](), round(config.start_s * 1e9)
    for path in paths:
        names = recognise(path)
        name = names[0] if config.format == "auto" else config.format
        if config.format != "auto" and name not in names:
            raise UserError(f"{path} is not of format {name}; it looks like {', '.join(names)}")
        scene = FORMATS[name].load(path, config, start_ns)
        if config.format == "auto" and len(names) > 1:
            scene.note(f"{path} may also be {', '.join(names[1:])}; it was read as {name} (--format)")
        scene.views.sort(key=lambda view: view.stamp_ns)
        _complete(scene, config)
        if scene.views and scene.views[-1].stamp_ns > MAX_STAMP_NS:
            raise UserError(f"{path}: stamps up to {scene.views[-1].stamp_ns} ns are too large")
        if scene.views:
            start_ns = max(start_ns, stamp_after(scene.views[-1].stamp_ns))
        scenes.append(scene)
        part = SourceReport(str(path), name, rejects=scene.rejects, examples=scene.examples, notes=scene.notes)
        report.sources.append(part)
    if len(scenes) > 1:
        scenes[-1].note("the sources are taken to share one world; nothing in them shows whether they do")
    return scenes


def _complete(scene: Scene, config: ImportConfig) -> None:
    """What the settings say, in place of what the source says or leaves open."""
    if not config.with_depth:
        scene.views = [replace(view, depth=None) for view in scene.views]
    world = scene.world if config.world == "auto" else config.world
    if world != "z-up":
        scene.note(f"the source's world is taken to be {world}; it was turned so that z is up (--world)")
    turn = turned_up(world)
    scene.views = [replace(view, T_map_cam=_moved(view, turn, config.scale)) for view in scene.views]
    scene.depth_unit_m = (config.depth_unit_m or scene.depth_unit_m) * config.scale
    if not scene.views:
        return
    if config.camera or config.fov_deg or scene.camera is None:
        width, height = reading.first_size([view.image for view in scene.views])
        scene.camera = _camera(config, width, height, scene)


def _moved(view: View, turn: Float64, scale: float) -> Float64:
    T: Float64 = turn @ view.T_map_cam
    T[:3, 3] *= scale
    return T


def _camera(config: ImportConfig, width: int, height: int, scene: Scene) -> Camera:
    if config.camera:
        return camera_of_text(config.camera, width, height)
    if config.fov_deg:
        return Camera.from_fov(width, height, config.fov_deg)
    scene.note(f"{scene.path} has no intrinsics; the camera is uncalibrated (--camera or --fov-deg gives them)")
    return Camera(width, height, 0.0, 0.0, 0.0, 0.0)


def _write_all(scenes: Sequence[Scene], out: Path, config: ImportConfig, report: ImportReport) -> None:
    first = next((scene for scene in scenes if scene.views), None)
    if first is None:
        raise UserError(_why_nothing(report))
    labels, taken = dict[int, str](), set[int]()
    with _writing(first, scenes, out, config, report) as writer:
        for scene, part in zip(scenes, report.sources, strict=True):
            if not scene.views or scene.camera is None:
                continue
            meta = DatasetMeta(scene.camera, camera_frame=_CAMERA_FRAME, depth=writer.meta.depth)
            try:
                check_same_place(writer.meta, meta, out)
            except UserError as error:
                raise UserError(f"{scene.path} does not belong with the others: {error}") from error
            writer.begin_source(_source_name(scene, scenes))
            for view in tqdm(scene.views, desc=scene.path.name, unit="frame", disable=None):
                if view.stamp_ns in taken:
                    part.reject("duplicate_stamp", f"{view.image} has a stamp for the second time, {view.stamp_ns} ns")
                elif _add(writer, scene, view, part):
                    taken.add(view.stamp_ns)
                    labels[view.stamp_ns] = view.label
        if not report.frames_written and not report.frames_already_there:
            raise UserError(_why_nothing(report))
    _write_split(out, labels, report)


@contextlib.contextmanager
def _writing(
    first: Scene, scenes: Sequence[Scene], out: Path, config: ImportConfig, report: ImportReport
) -> Iterator[DatasetWriter]:
    """The writer; however it ends, the report is left beside the frames."""
    if first.camera is None:
        raise UserError(f"{first.path} has no camera")
    with_depth = any(scene.has_depth for scene in scenes)
    meta = DatasetMeta(first.camera, camera_frame=_CAMERA_FRAME, depth=DepthMeta("metric") if with_depth else None)
    try:
        with DatasetWriter(out, meta, config.resume, depth_format=config.depth_format) as writer:
            yield writer
        if writer.too_far_pixels:
            report.sources[-1].notes.append(
                f"{counted(writer.too_far_pixels, 'depth pixel')} beyond the reach of the dataset's depth unit stored "
                "as unknown"
            )
    finally:
        if out.is_dir():
            with contextlib.suppress(OSError):
                report.write(out)


def _add(writer: DatasetWriter, scene: Scene, view: View, report: SourceReport) -> bool:
    """Whether the frame is in the dataset now."""
    added: Added | None
    try:
        added = writer.seen(view.stamp_ns, view.T_map_cam)
        if added is None:
            image = _image(view)
            depth = None
            if view.depth is not None and writer.meta.depth is not None:
                depth = reading.read_depth(view.stamp_ns, view.depth, scene.depth_unit_m, scene.depth_unknown)
            added = writer.add(view.stamp_ns, view.T_map_cam, image, depth)
    except BadFrame as error:
        report.reject(error.reason, f"{view.image}: {error}")
        return False
    if added == "collision":
        report.reject(
            "duplicate_stamp",
            f"{view.image} has the stamp of another frame, {view.stamp_ns} ns; --start-s gives others to a source "
            "without stamps",
        )
        return False
    report.frames_written += added == "written"
    report.frames_already_there += added == "present"
    return True


def _image(view: View) -> ImageSample:
    data = reading.read_bytes(view.image)
    try:
        return ImageSample.from_compressed(view.stamp_ns, "", data)
    except UserError as error:
        raise BadFrame("image_unreadable", f"{view.image}: {error}") from error


def _source_name(scene: Scene, scenes: Sequence[Scene]) -> str:
    """Its name in meta.yaml; numbered where several sources of this run have the same."""
    name = f"{scene.path.resolve().name} ({scene.format})"
    same = [other for other in scenes if other.path.resolve().name == scene.path.resolve().name]
    return f"{name} {same.index(scene) + 1}" if len(same) > 1 else name


def _write_split(out: Path, labels: dict[int, str], report: ImportReport) -> None:
    """split.txt, where any source knows a split; frames that were there before keep what they had."""
    if not any(labels.values()):
        return
    frames = sorted(record.stamp_ns for record in read_associations(out))
    path, known = out / layout.SPLIT, dict[int, str]()
    if path.is_file():
        known = _known(path)
    words = [labels.get(stamp) or known.get(stamp) or "train" for stamp in frames]
    silent = sum(not (labels.get(stamp) or known.get(stamp)) for stamp in frames)
    if silent:
        report.sources[-1].notes.append(f"{counted(silent, 'frame')} of no split: for training (split.txt)")
    with os_errors(f"cannot write {path}", "import again with --resume"):
        write_split(path, np.array(frames), np.array(words))


def _known(path: Path) -> dict[int, str]:
    """The words of a split.txt, which need not name every frame yet."""
    rows = [line.split() for _, line in reading.lines(path)]
    try:
        return {layout.parse_stamp(stamp): word for stamp, word in rows if word in WORDS}
    except ValueError as error:
        raise UserError(f"{path}: {error}; remove the file, and import all sources again with --resume") from error


def _why_nothing(report: ImportReport) -> str:
    """One line on why there is not one frame."""
    found = "; ".join(report.reject_lines()) or "their lists are empty"
    sources = ", ".join(source.path for source in report.sources)
    return f"no frame of {sources} can be used: {found}"
