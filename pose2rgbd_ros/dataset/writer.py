"""Writing a dataset so that it survives `kill -9`: what `add` acknowledged is readable, a half frame never is."""

from __future__ import annotations

import contextlib
import copy
import errno
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.encode import (
    JPEG_QUALITY,
    DepthEncoder,
    DepthFormat,
    EncodedFrame,
    RawImages,
    check_depth,
    checked_pose,
    checked_stamp,
    encode_float,
    encode_image,
    read_depth,
)
from pose2rgbd_ros.dataset.encode import BadFrame as BadFrame
from pose2rgbd_ros.dataset.layout import Record, read_associations, read_pose_lines
from pose2rgbd_ros.dataset.meta import DatasetMeta, SourceMeta, check_same_place, read_meta, software, write_meta
from pose2rgbd_ros.dataset.transforms_json import transforms_json
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Float64
from pose2rgbd_ros.streams.samples import DepthSample, ImageSample

# Putting a dataset in order whose writer was killed: what was acknowledged stays, what was not goes.


Frames = dict[int, tuple[Record, str]]  # by stamp, with the line of groundtruth.txt


@dataclass
class Recovery:
    """The frames that are whole, and the stamps of those that are not."""

    frames: Frames = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)  # listed, but a file or the pose is gone (a power cut)


def recover(folder: Path, depth_folder: str | None) -> Recovery:
    """Cut torn lines, drop poses and files that belong to no frame. Call only while holding the folder's lock.

    OSError passes through; UserError where a finished line makes no sense.
    """
    result = Recovery()
    poses = read_pose_lines(folder)
    for record in read_associations(folder):
        if record.stamp_ns in poses and all(layout.has_content(folder / name) for name in _files(record)):
            result.frames[record.stamp_ns] = (record, poses[record.stamp_ns])
        else:
            result.lost.append(record.stamp_ns)
    write_lists(folder, list(result.frames.values()), depth_folder is not None)
    wanted = {name for record, _ in result.frames.values() for name in _files(record)}
    for name in filter(None, (layout.RGB, depth_folder)):
        _remove_others(folder, name, wanted)
    return result


def write_lists(folder: Path, frames: list[tuple[Record, str]], has_depth: bool) -> None:
    """Make groundtruth.txt and associations.txt hold exactly these frames in this order.

    Poses go first: whichever of the two files a reader finds replaced, every frame listed has its pose.
    """
    for name, data in lists_of(frames, has_depth).items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != data:
            layout.atomic_write(path, data)


def lists_of(frames: list[tuple[Record, str]], has_depth: bool) -> dict[str, bytes]:
    """Contents of groundtruth.txt and associations.txt that hold these frames, by name."""
    poses = "".join([layout.GROUNDTRUTH_HEADER, "\n", *(line for _, line in frames)])
    records = "".join([layout.header(has_depth), "\n", *(record.line() for record, _ in frames)])
    return {layout.GROUNDTRUTH: poses.encode(), layout.ASSOCIATIONS: records.encode()}


def unify_depth(folder: Path, meta: DatasetMeta, frames: Frames) -> Frames:
    """Where some depth outgrew the unit, make all depth files float: one dataset, one scale, nothing lost.

    At every moment the files that associations.txt names are there, in a form the reader knows by itself.
    """
    depth = meta.depth
    suffixes = {Path(record.depth).suffix for record, _ in frames.values() if record.depth}
    if depth is None or ".tiff" not in suffixes or (suffixes == {".tiff"} and depth.storage == "float"):
        return frames
    unified, old = dict(frames), list[Path]()
    for stamp, (record, pose) in frames.items():
        if record.depth and record.depth.endswith(".png"):
            old.append(folder / record.depth)
            name = str(Path(record.depth).with_suffix(".tiff"))
            layout.atomic_write(folder / name, encode_float(read_depth(old[-1], depth)))
            unified[stamp] = (Record(stamp, record.rgb, name), pose)
    write_lists(folder, list(unified.values()), has_depth=True)
    depth.storage, depth.unit_m = "float", None
    write_meta(folder, meta)
    for path in old:
        path.unlink(missing_ok=True)
    return unified


def _files(record: Record) -> list[str]:
    return [record.rgb, record.depth] if record.depth else [record.rgb]


def _remove_others(folder: Path, name: str, wanted: set[str]) -> None:
    """Remove files of ours that no frame names; a user's own files stay."""
    for path in sorted((folder / name).iterdir()):
        if layout.OWN_FILE.fullmatch(path.name) and f"{name}/{path.name}" not in wanted:
            path.unlink()


logger = logging.getLogger(__name__)

Added = Literal["written", "present", "collision"]
_SAME_POSE = 1e-6


class DatasetWriter:
    """Appends frames to a dataset folder; one writer at a time.

    A frame's images are written under temporary names and renamed, then its pose is appended to groundtruth.txt, then
    its line to associations.txt: that last single write is what makes the frame exist. Nothing is fsynced per frame,
    so a power cut (unlike a killed process) may cost the last seconds; resuming then drops frames without content.

    Args:
        path: the folder, made when missing.
        meta: the facts; `meta.depth` None for colour only. `self.meta` is the one in force: on resume, the stored one.
        resume: go on with the dataset that is there. Without it a folder that holds frames is refused.
        depth_format: unit of float depth; "auto" decides by the first known depths and never loses range: should a
            later depth not fit, `close` turns all depth files into float TIFF. "mm" and "cm" make too far unknown.
            Integer sources keep their counts. Ignored for relative depth (always float) and on resume.
        raw_images: how uncompressed images are stored; JPEG and PNG sources are stored verbatim.
        jpeg_quality: of uncompressed images stored as JPEG, 1 to 100.

    Raises:
        UserError: another writer is at work, the folder holds something else, or another camera's, frame's or place's
            frames.
    """

    def __init__(
        self,
        path: Path | str,
        meta: DatasetMeta,
        resume: bool = False,
        *,
        depth_format: DepthFormat = "auto",
        raw_images: RawImages = "png",
        jpeg_quality: int = JPEG_QUALITY,
    ) -> None:
        self.path = Path(path)
        self._raw_images: RawImages = raw_images
        self._jpeg_quality = jpeg_quality
        self._frames: Frames = {}
        self._source: SourceMeta | None = None
        self._begun: set[str] = set()
        self._depth_size: tuple[int, int] | None = None
        self._descriptors: list[int] = []
        with self.disk():
            layout.require_room(self.path, resume)
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = layout.FolderLock(self.path)
        try:
            with self.disk():
                self.meta = self._begin(meta, resume)
                depth = self.meta.depth
                self._encoder = DepthEncoder(depth, depth_format) if depth else None
                write_meta(self.path, self.meta)
                for name in (layout.GROUNDTRUTH, layout.ASSOCIATIONS):
                    self._descriptors.append(os.open(self.path / name, os.O_WRONLY | os.O_APPEND))
        except BaseException:
            self._release()
            raise

    def __len__(self) -> int:
        return len(self._frames)

    def __contains__(self, stamp_ns: int) -> bool:
        return stamp_ns in self._frames

    @property
    def too_far_pixels(self) -> int:
        """Known depths of this run that the unit asked for could not hold; they were stored as unknown."""
        return self._encoder.too_far_pixels if self._encoder else 0

    def begin_source(self, name: str, recorded_from_ns: int | None = None) -> None:
        """Count the frames that follow to the recording `name`, which began at `recorded_from_ns` by its own clock.

        Counts of an earlier, interrupted run over it are forgotten with the first frame; a recording without a frame
        is not listed. Another recording of this name is numbered.
        """
        plain, number = name, 1
        known = {source.name: source for source in self.meta.sources}
        while name in known and (
            name in self._begun or not _same_start(known[name].recorded_from_ns, recorded_from_ns)
        ):
            number += 1
            name = f"{plain} ({number})"
        self._begun.add(name)
        self._source = SourceMeta(name, recorded_from_ns=recorded_from_ns)

    def add(
        self,
        stamp_ns: int,
        T_map_cam: npt.ArrayLike,
        image: ImageSample | AnyArray | EncodedFrame,
        depth: DepthSample | AnyArray | None = None,
    ) -> Added:
        """Store one frame; when this returns "written", it is on disk as a whole.

        Args:
            stamp_ns: when the image was taken; the frame's name.
            T_map_cam: (4, 4) pose of the optical frame in the map.
            image: a sample, or RGB uint8 (H, W, 3); or the files of the frame, as `encode` makes them, say in another
                process: the caller vouches for what is in them, and `depth` is among them.
            depth: a sample, or float (H, W) with NaN unknown; wanted exactly when the dataset has depth.

        Returns:
            "present": this very frame is there already. "collision": another frame has this stamp; nothing was done.

        Raises:
            BadFrame: this frame cannot be stored; others still can.
            UserError: the disk is full or failing; all earlier frames are safe.
        """
        seen = self.seen(stamp_ns, T_map_cam)
        if seen is not None:
            return seen
        frame = image if isinstance(image, EncodedFrame) else self.encode(image, depth)
        self.commit(self.stage(checked_stamp(stamp_ns), frame), checked_pose(T_map_cam))
        return "written"

    @property
    def is_settled(self) -> bool:
        """Whether `encode` may run in several threads: not while the first depth decides unit and size of all."""
        depth = self.meta.depth
        return depth is None or (depth.storage != "undecided" and self._depth_size is not None)

    def encode(self, image: ImageSample | AnyArray, depth: DepthSample | AnyArray | None) -> EncodedFrame:
        """The files of one frame, to be added or staged. BadFrame as `add` raises it."""
        colour = encode_image(image, self.meta.camera, self._raw_images, self._jpeg_quality)
        return EncodedFrame(colour, self._depth_file(depth))

    def stage(self, stamp_ns: int, frame: EncodedFrame) -> Record:
        """Write the files of a frame that is to come; several threads may, each for stamps of its own.

        They belong to no frame until `commit`. BadFrame when depth is there or missing, unlike in the dataset;
        UserError when the disk is full or failing: then nothing of it is left.
        """
        if (frame.depth is None) != (self.meta.depth is None):
            raise BadFrame("depth_unwanted" if frame.depth else "no_depth", "depth comes with all frames or none")
        files = {f"{layout.RGB}/{stamp_ns}{frame.image[0]}": frame.image[1]}
        if frame.depth is not None:
            files[f"{_depth_folder(self.meta)}/{stamp_ns}{frame.depth[0]}"] = frame.depth[1]
        rgb, *depth = files
        record = Record(stamp_ns, rgb, depth[0] if depth else None)
        with self.disk():
            try:
                for name, content in files.items():
                    layout.atomic_write(self.path / name, content)
            except BaseException:
                self.discard(record)
                raise
        return record

    def commit(self, record: Record, T_map_cam: Float64) -> None:
        """Make a staged frame exist, with its (checked) pose. UserError when the disk is full: its files are gone."""
        pose = layout.pose_line(record.stamp_ns, T_map_cam)
        groundtruth, associations = self._descriptors
        poses_end, records_end = os.fstat(groundtruth).st_size, os.fstat(associations).st_size
        with self.disk():
            try:
                layout.append_line(groundtruth, pose)
                layout.append_line(associations, record.line())
            except BaseException:
                # Ctrl-C may arrive right after the last write: then the frame is there, and stays.
                if os.fstat(associations).st_size > records_end:
                    self._frames[record.stamp_ns] = (record, pose)
                else:
                    os.ftruncate(groundtruth, poses_end)
                    self.discard(record)
                raise
        self._frames[record.stamp_ns] = (record, pose)
        self._count(record.stamp_ns)

    def discard(self, record: Record) -> None:
        """Remove the files of a staged frame that will not be."""
        for name in (record.rgb, record.depth):
            if name:
                (self.path / name).unlink(missing_ok=True)

    def seen(self, stamp_ns: int, T_map_cam: npt.ArrayLike) -> Literal["present", "collision"] | None:
        """What `add` would answer of a stamp that is there already (and count), without its images; None: it is new."""
        if not self._descriptors:
            raise UserError(f"{self.path}: this writer is closed")
        stamp = checked_stamp(stamp_ns)
        T = checked_pose(T_map_cam)
        if stamp not in self._frames:
            return None
        before = layout.parse_pose(self._frames[stamp][1])
        if np.abs(before - layout.parse_pose(layout.pose_line(stamp, T))).max() > _SAME_POSE:
            return "collision"
        self._count(stamp)
        return "present"

    def write_file(self, name: str, data: bytes) -> None:
        """Put a file that belongs to no list beside the frames, its folder made when missing: all of it or nothing.

        UserError when the disk is full or failing.
        """
        path = self.path / name
        with self.disk():
            path.parent.mkdir(parents=True, exist_ok=True)
            layout.atomic_write(path, data)

    @contextlib.contextmanager
    def disk(self) -> Iterator[None]:
        """Context in which an OSError becomes one line for the user (UserError) that says that the frames are safe."""
        try:
            yield
        except OSError as error:
            count = len(self._frames)
            safe = {0: "it holds no frame yet", 1: "1 frame is safe"}.get(count, f"{count} frames are safe")
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(f"no space left for {self.path}; {safe}: free some space and resume") from error
            raise UserError(f"cannot write {self.path} ({error.strerror or error}); {safe}") from error

    def close(self) -> None:
        """Sort the lists by time, write transforms.json and the final meta.yaml, let go of the folder.

        UserError when the disk is full or failing: the frames are safe, and resuming and closing finishes the job.
        """
        if not self._descriptors:
            return
        try:
            with self.disk():
                self._frames = unify_depth(self.path, self.meta, self._frames)
                frames = [self._frames[stamp] for stamp in sorted(self._frames)]
                write_lists(self.path, frames, self.meta.depth is not None)
                write_meta(self.path, self.meta)
                self._write_transforms(frames)
        finally:
            self._release()

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except UserError as second:  # the first error is the one to report
            logger.warning("the dataset was left unsorted: %s", second)

    def _begin(self, meta: DatasetMeta, resume: bool) -> DatasetMeta:
        """The facts in force, with the folder ready to append to."""
        stored = read_meta(self.path) if (self.path / layout.META).is_file() else None
        if layout.require_room(self.path, resume) and stored:
            if (self.path / layout.RECORDED).is_dir():
                raise UserError(
                    f"{self.path} was aligned; frames can be added to its recorded poses only: "
                    f"`pose2rgbd align {self.path} --restore` gives them back"
                )
            check_same_place(stored, meta, self.path)
            self._recover(stored)
            stored.software, stored.datum = software(), stored.datum or meta.datum
            return stored
        meta = copy.deepcopy(meta)
        meta.software = software()
        for name in filter(None, (layout.RGB, _depth_folder(meta))):
            (self.path / name).mkdir(exist_ok=True)
        write_lists(self.path, [], meta.depth is not None)
        return meta

    def _recover(self, stored: DatasetMeta) -> None:
        recovered = recover(self.path, _depth_folder(stored))
        self._frames = recovered.frames
        if recovered.lost:
            logger.warning("%s: %s left out, whose files are lost", self.path, counted(len(recovered.lost), "frame"))
        some = next((record.depth for record, _ in self._frames.values() if record.depth), None)
        if stored.depth and some:
            height, width = read_depth(self.path / some, stored.depth).shape
            self._depth_size = height, width

    def _depth_file(self, depth: DepthSample | AnyArray | None) -> tuple[str, bytes] | None:
        """Suffix and contents of the depth file; None for a dataset of colour only."""
        if self._encoder is None or self.meta.depth is None:
            if depth is not None:
                raise BadFrame("depth_unwanted", f"{self.path} is a dataset of colour only; convert anew for depth")
            return None
        if depth is None:
            raise BadFrame("no_depth", f"a frame without depth in {self.path}, a dataset with depth")
        self._depth_size = check_depth(depth, self.meta.camera, self._depth_size)
        storage = self.meta.depth.storage
        encoded = self._encoder.encode(depth)
        if self.meta.depth.storage != storage:  # decided just now: say so before a file relies on it
            with self.disk():
                write_meta(self.path, self.meta)
        return encoded

    def _count(self, stamp: int) -> None:
        source = self._source
        if source is not None:
            if not source.frames:
                self._list(source)
            source.frames += 1
            first, last = source.first_stamp_ns, source.last_stamp_ns
            source.first_stamp_ns = stamp if first is None else min(first, stamp)
            source.last_stamp_ns = stamp if last is None else max(last, stamp)

    def _list(self, source: SourceMeta) -> None:
        """Put a recording into the metadata, in place of what an earlier run said of it."""
        sources = self.meta.sources
        for i, other in enumerate(sources):
            if other.name == source.name:
                sources[i] = source
                return
        sources.append(source)

    def _write_transforms(self, frames: list[tuple[Record, str]]) -> None:
        poses = [layout.parse_pose(line) for _, line in frames]
        text = transforms_json(
            self.meta, [(record, se3.make(pose[:3], pose[3:])) for (record, _), pose in zip(frames, poses, strict=True)]
        )
        path = self.path / layout.TRANSFORMS
        if text is None:
            path.unlink(missing_ok=True)
        else:
            layout.atomic_write(path, text.encode())

    def _release(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []
        self._lock.release()


def _depth_folder(meta: DatasetMeta) -> str | None:
    return layout.DEPTH[meta.depth.kind] if meta.depth else None


def _same_start(a: int | None, b: int | None) -> bool:
    """Whether two recordings of one name are the same; where a start is not known, they are taken to be."""
    return a is None or b is None or a == b
