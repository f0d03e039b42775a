"""A dataset as another tool's: the format names the files, and here they are filled; all of them or nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset import layout, splits
from pose2rgbd_ros.dataset.encode import encode_counts, encode_float, encode_image
from pose2rgbd_ros.dataset.layout import read_split
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.formats.registry import FORMATS, Format
from pose2rgbd_ros.formats.scene import SIDECAR_NAME, Flight, Frame, Layout, Sidecar, require_calibration
from pose2rgbd_ros.formats.settings import NAMES, ExportConfig
from pose2rgbd_ros.geometry import depth as rules
from pose2rgbd_ros.geometry.arrays import Float32
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map

# Colour and depth files of an export: copied or linked as they are where that will do, else encoded anew.


T = TypeVar("T")
_THREADS = min(8, os.cpu_count() or 1)


class FrameFiles:
    """Writes the files of single frames into `folder`; threads may share it.

    `depth_unit_m`: unit of the depth counts to write; None leaves depth files as they are.
    """

    def __init__(self, flight: Flight, folder: Path, depth_unit_m: float | None) -> None:
        self.too_far_pixels = 0
        self._flight = flight
        self._folder = folder
        self._unit_m = depth_unit_m
        self._lock = threading.Lock()
        camera = flight.dataset.camera
        self._undistorted = flight.camera != camera
        self._map = resample_map(camera, flight.camera) if self._undistorted else None
        self._depth_map: Float32 | None = None

    def write(self, job: tuple[int, str, str | None]) -> None:
        """The frame's index, the file for its colour, and the one for its depth (or None)."""
        i, image, depth = job
        self._colour(i, self._folder / image)
        if depth is not None:
            self._depth(i, self._folder / depth)

    def _colour(self, i: int, file: Path) -> None:
        dataset = self._flight.dataset
        source = dataset.path / dataset.records[i].rgb
        if self._map is not None:
            rgb = resample(dataset.rgb(i), self._map, nearest=False)
        elif source.suffix == file.suffix:
            self._put(source, file)
            return
        else:
            rgb = dataset.rgb(i)
        file.write_bytes(encode_image(rgb, self._flight.camera, "png")[1])

    def _depth(self, i: int, file: Path) -> None:
        dataset, meta = self._flight.dataset, self._flight.dataset.meta.depth
        source = dataset.path / str(dataset.records[i].depth)
        same_unit = meta is not None and (meta.unit_m == self._unit_m or meta.storage == "undecided")
        if not self._undistorted and source.suffix == file.suffix and (same_unit or file.suffix == ".tiff"):
            self._put(source, file)
            return
        depth = dataset.depth(i)
        if self._undistorted:
            depth = resample(depth, self._map_of_depth(depth), nearest=True, fill=np.nan)
        if file.suffix == ".tiff" or self._unit_m is None:
            file.write_bytes(encode_float(depth))
            return
        too_far = int((depth > (rules.MAX_COUNT + 0.5) * self._unit_m).sum())
        if too_far:
            with self._lock:
                self.too_far_pixels += too_far
        file.write_bytes(encode_counts(rules.to_counts(depth, self._unit_m)))

    def _map_of_depth(self, depth: Float32) -> Float32:
        with self._lock:
            if self._depth_map is None:
                height, width = depth.shape
                cameras = self._flight.dataset.camera, self._flight.camera
                self._depth_map = resample_map(*(camera.resized(width, height) for camera in cameras))
            return self._depth_map

    def _put(self, source: Path, file: Path) -> None:
        if self._flight.config.link:
            try:
                os.link(source.resolve(), file)
                return
            except OSError:  # another file system, or one without links
                pass
        shutil.copyfile(source, file)


def in_parallel(job: Callable[[T], None], items: Sequence[T]) -> Iterator[None]:
    """Run `job` on each item in a few threads (encoders leave Python's lock), and yield as they are done, in order.

    The first error stops it.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting: deque[Future[None]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(job, item))
                if len(waiting) > 4 * _THREADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@dataclass
class ExportReport:
    """What was written, and what the format has no place for."""

    out: Path
    format: str
    frames: int = 0
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """A few lines for the terminal."""
        lines = [f"{self.out}: {counted(self.frames, 'frame')} as {self.format}"]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def export_dataset(path: Path | str, out: Path | str, config: ExportConfig) -> ExportReport:
    """Write the dataset at `path` in another tool's format to the folder `out`, which appears once it is complete.

    Raises:
        UserError: `out` is in use, the format has no words for the camera, or the disk is full. `out` is then as
            before.
    """
    settings.check(config)
    if config.format is None:
        raise UserError(f"export needs --format; choose one of: {', '.join(NAMES)}")
    dataset, out = Dataset(path), Path(out)
    format = FORMATS[config.format]
    flight = _flight(dataset, config, format)
    planned = format.lay_out(flight)
    report = ExportReport(out, config.format, notes=planned.notes)
    with _appearing(out, dataset.path, config.force) as partial:
        _write(partial, flight, planned, format, report)
    return report


def _flight(dataset: Dataset, config: ExportConfig, format: Format) -> Flight:
    camera = dataset.camera
    if config.undistort and camera.is_distorted:
        require_calibration(camera, "--undistort")
        camera = Camera(camera.width, camera.height, camera.fx, camera.fy, camera.cx, camera.cy)
    labels, runs = _labels(dataset, config), splits.recordings(dataset.stamps_ns)
    frames = []
    for i, record in enumerate(dataset.records):
        suffix = Path(record.rgb).suffix
        if camera != dataset.camera or (format.png_only and not config.keep_jpeg):
            suffix = ".png"
        depth_suffix = ".png" if config.depth_unit_m or format.depth_unit_m else Path(record.depth or "").suffix
        frames.append(Frame(record.stamp_ns, dataset.T_map_cam[i], suffix, depth_suffix, labels[i], int(runs[i])))
    depth = dataset.meta.depth
    with_depth = format.has_depth and config.with_depth and depth is not None and depth.kind == "metric"
    return Flight(dataset, camera, frames, config, with_depth)


def _labels(dataset: Dataset, config: ExportConfig) -> list[str]:
    """The word of each frame; "" without a split."""
    own = dataset.path / layout.SPLIT
    if config.split == "training":
        split = splits.default_split(dataset.path, dataset.stamps_ns, dataset.T_map_cam[:, :3, 3])
        labels = np.full(len(dataset), "unused", dtype="U6")
        labels[split.train], labels[split.test] = "train", "test"
    elif config.split == "own" and own.is_file():
        labels = read_split(own, dataset.stamps_ns)
        labels[labels == "choose"] = "test"  # the other formats know what is held out, and no more
    else:
        labels = np.full(len(dataset), "", dtype="U6")
    return [str(word) for word in labels]


def _write(folder: Path, flight: Flight, planned: Layout, format: Format, report: ExportReport) -> None:
    for name, data in planned.files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data if isinstance(data, bytes) else data.encode())
    depth = flight.dataset.meta.depth
    depths = planned.depths if flight.with_depth else None
    _tell_what_is_lost(flight, format, report)
    unit_m = flight.config.depth_unit_m or format.depth_unit_m or (depth.unit_m if depth else None)
    files = FrameFiles(flight, folder, unit_m if depths else None)
    kept = [i for i, image in enumerate(planned.images) if image]
    for name in {str(Path(str(planned.images[i])).parent) for i in kept}:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in {str(Path(str(depths[i])).parent) for i in kept} if depths else ():
        (folder / name).mkdir(parents=True, exist_ok=True)
    jobs = [(i, str(planned.images[i]), depths[i] if depths else None) for i in kept]
    done = in_parallel(files.write, jobs)
    for _ in tqdm(done, total=len(jobs), desc=str(report.out), unit="frame", disable=None):
        pass
    report.frames = len(kept)
    if len(kept) < len(flight.frames):
        report.notes.append(f"{counted(len(flight.frames) - len(kept), 'frame')} {planned.left_out} left out")
    if files.too_far_pixels:
        report.notes.append(
            f"{counted(files.too_far_pixels, 'depth pixel')} beyond {65535 * (unit_m or 0):.1f} m, where counts of "
            f"{unit_m:g} m end, written as unknown; --depth-unit-m takes another unit"
        )
    _write_sidecar(folder, flight, format, unit_m if depths else None, report)


def _tell_what_is_lost(flight: Flight, format: Format, report: ExportReport) -> None:
    depth = flight.dataset.meta.depth
    if depth is not None and flight.config.with_depth:
        if depth.kind == "relative":
            report.notes.append("depth is relative, and other tools take it for metres; it was left out")
        elif not format.has_depth:
            used = " but in points3D" if report.format == "colmap" and flight.config.points else ""
            report.notes.append(f"the format has no place for depth images; depth was left out{used}")
    if flight.has_split and not format.has_split:
        report.notes.append("the format has no place for a split; training and test frames are not distinguished")


def _write_sidecar(folder: Path, flight: Flight, format: Format, unit_m: float | None, report: ExportReport) -> None:
    meta = flight.dataset.meta
    about = {
        "software": meta.software,
        "dataset": flight.dataset.path.resolve().name,
        "frames": report.frames,
        "map_frame": meta.map_frame,
        "camera_frame": meta.camera_frame,
        "datum": meta.datum.to_dict() if meta.datum else None,
    }
    extra = Sidecar(report.format, flight.camera, unit_m, format.named_by_stamp)
    settings.write_yaml(folder / SIDECAR_NAME, extra.text(about))


@contextlib.contextmanager
def _appearing(out: Path, dataset: Path, force: bool) -> Iterator[Path]:
    """A folder to write, which becomes `out` when all went well; until then `out` is as it was."""
    _require_free(out, dataset, force)
    partial = out.with_name(out.name + ".partial")
    lock: layout.FolderLock | None = None
    try:
        partial.mkdir(parents=True, exist_ok=True)
        if any(partial.iterdir()) and not (partial / layout.LOCK).is_file():
            raise UserError(f"{partial} is in the way and not of an export; remove or rename it")
        lock = layout.FolderLock(partial)
        _clear(partial)
        yield partial
        (partial / layout.LOCK).unlink()
        _put_in_place(partial, out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"no space left for {out}; nothing was left behind: free some space") from error
        raise UserError(f"cannot write {partial} ({error.strerror or error})") from error
    finally:
        if lock is not None:
            shutil.rmtree(partial, ignore_errors=True)  # in its place by now, if all went well
            lock.release()


def _require_free(out: Path, dataset: Path, force: bool) -> None:
    target, source = out.resolve(), dataset.resolve()
    if target == source or target in source.parents or source in target.parents:
        raise UserError(f"{out} and the dataset {dataset} lie within each other; choose another folder")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / SIDECAR_NAME).is_file():
        raise UserError(f"{out} is there already and no earlier export; choose another folder")
    if not force:
        raise UserError(f"{out} holds an earlier export; --force replaces it, or choose another folder")


def _clear(partial: Path) -> None:
    """Remove what a killed export left behind."""
    for path in partial.iterdir():
        if path.name == layout.LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _put_in_place(partial: Path, out: Path) -> None:
    if not out.exists():
        partial.rename(out)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        out.rename(aside / "old")
        try:
            partial.rename(out)
        except OSError:
            (aside / "old").rename(out)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
