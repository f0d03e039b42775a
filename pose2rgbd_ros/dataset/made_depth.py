"""Depth that was made from a dataset's pictures: put into the dataset like recorded depth, and taken out again.

Files come one by one and belong to no frame until the last is there, so an interrupted job goes on where it stopped and
the dataset is valid at every moment. Whoever makes depth (multi-view stereo, a network) gives :class:`DepthEstimate`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.dataset import layout, splits
from pose2rgbd_ros.dataset.encode import DepthEncoder, encode_png, read_image
from pose2rgbd_ros.dataset.layout import Record
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta, MadeDepth, read_meta, write_meta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.transforms_json import transforms_json
from pose2rgbd_ros.dataset.writer import unify_depth, write_lists
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float32, Int64
from pose2rgbd_ros.geometry.depth import DepthEstimate
from pose2rgbd_ros.settings import read_yaml, write_yaml

STATE = "made_depth.yaml"  # in the cache: what the files without frames were made for

# Depth of some frames of a dataset, each with the pictures that its rank allows.
Estimate = Callable[[Dataset, Int64, Int64], Iterator[DepthEstimate]]


def pictures_allowed(dataset: Dataset) -> tuple[Int64, Literal["own", "written", "none"]]:
    """Rank (N,) of each frame: its depth may come from pictures of its own rank and below; and whose split that is.

    Frames that train know nothing of those held out, and those that choose nothing of those that judge. The depth of
    frames that judge is a reference only, and uses all.
    """
    rank = np.zeros(len(dataset), np.int64)
    if len(dataset) < splits.FEWEST_FRAMES:
        return rank, "none"
    split = splits.default_split(dataset.path, dataset.stamps_ns, dataset.T_map_cam[:, :3, 3])
    rank[:] = 1
    rank[split.train], rank[split.judge] = 0, 2
    return rank, "own" if (dataset.path / layout.SPLIT).exists() else "written"


def add(folder: Path, made: MadeDepth, estimate: Estimate, progress: bool = True) -> Dataset:
    """Give every frame depth, metric where `estimate` knows the unit. Interrupted and called again it goes on.

    A split that is not there is written (split.txt), so that every training keeps to the one that depth was made for.

    Raises:
        UserError: depth was recorded; no pixel of any frame got a depth; the dataset is as before.
    """
    with _locked(folder):
        dataset = Dataset(folder)
        before = dataset.meta.depth
        if before is not None and before.made is None:
            raise UserError(f"{folder} has recorded depth, which stays")
        if before is not None and before.made is not None:
            if asdict(replace(before.made, split="none")) == asdict(made):
                return dataset
            dataset = take_out(dataset)
        rank, whose = pictures_allowed(dataset)
        made = replace(made, split=whose)
        meta = _make(dataset, made, estimate, rank, progress)
        poses = layout.read_pose_lines(folder)
        frames = {r.stamp_ns: (_with_depth(folder, meta, r), poses[r.stamp_ns]) for r in dataset.records}
        write_lists(folder, list(frames.values()), has_depth=True)
        write_meta(folder, meta)
        frames = unify_depth(folder, meta, frames)
        _write_transforms(dataset, meta, [record for record, _ in frames.values()])
        if whose == "written":
            words = np.array(["train", "unused", "test"])[rank]
            split = splits.default_split(folder, dataset.stamps_ns, dataset.T_map_cam[:, :3, 3])
            words[split.choose] = "choose"
            layout.write_split(folder / layout.SPLIT, dataset.stamps_ns, words)
        return Dataset(folder)


def remove(folder: Path) -> None:
    """Take made depth out of a dataset. UserError: it has none."""
    with _locked(folder):
        meta = read_meta(folder)
        if meta.depth is None or meta.depth.made is None:
            raise UserError(f"{folder} has {'recorded depth, which stays' if meta.depth else 'no depth'}")
        take_out(Dataset(folder))


def take_out(dataset: Dataset) -> Dataset:
    """The dataset without made depth; itself where it has none. The caller holds the lock.

    meta.yaml goes first: a reader never finds a frame without the depth that it promises.
    """
    depth = dataset.meta.depth
    if depth is None or depth.made is None:
        return dataset
    bare, poses = without_made_depth(dataset), layout.read_pose_lines(dataset.path)
    write_meta(dataset.path, bare.meta)
    write_lists(dataset.path, [(record, poses[record.stamp_ns]) for record in bare.records], has_depth=False)
    _write_transforms(bare, bare.meta, bare.records)
    if depth.made.split == "written":
        (dataset.path / layout.SPLIT).unlink(missing_ok=True)
    _forget(dataset.path)
    return bare


def without_made_depth(dataset: Dataset) -> Dataset:
    """The dataset as it is without depth that was made; itself where there is none."""
    depth = dataset.meta.depth
    if depth is None or depth.made is None:
        return dataset
    bare = copy.copy(dataset)
    bare.meta = replace(dataset.meta, depth=None)
    bare.records = [replace(record, depth=None) for record in dataset.records]
    return bare


def confidence(dataset: Dataset, index: int) -> Float32 | None:
    """(H, W) 0..1 of the depth of a frame; None where depth was measured, or there is none."""
    depth = dataset.meta.depth
    if depth is None or depth.made is None:
        return None
    path = dataset.path / layout.CONFIDENCE / f"{dataset.records[index].stamp_ns}.png"
    return read_image(path, cv2.IMREAD_GRAYSCALE).astype(np.float32) / np.float32(255)


def _make(dataset: Dataset, made: MadeDepth, estimate: Estimate, rank: Int64, progress: bool) -> DatasetMeta:
    """The files of all frames, and the facts that go with them."""
    state = dataset.path / layout.CACHE / STATE
    facts = [asdict(made), dataset.camera.to_dict(), [r.line() for r in dataset.records], dataset.T_map_cam.tolist()]
    key = hashlib.sha256(json.dumps([*facts, rank.tolist()], default=str).encode()).hexdigest()[:16]
    begun = read_yaml(state) if state.is_file() else {}
    if begun.get("key") != key:
        _forget(dataset.path)
        begun = {}
    depth = DepthMeta.from_dict(begun["depth"]) if begun else None
    encoder = DepthEncoder(depth) if depth else None
    todo = np.array([i for i, r in enumerate(dataset.records) if not _files(dataset.path, r.stamp_ns)], np.int64)
    known = bool(begun.get("known"))
    bar = tqdm(total=len(dataset), initial=len(dataset) - len(todo), desc="depth", disable=not progress or None)
    with bar:
        for found in estimate(dataset, rank, todo):
            if encoder is None or depth is None:
                depth = DepthMeta("metric" if found.unit_m else "relative", made=made)
                encoder = DepthEncoder(depth)
                (dataset.path / layout.DEPTH[depth.kind]).mkdir(exist_ok=True)
            (dataset.path / layout.CONFIDENCE).mkdir(exist_ok=True)
            stamp_ns = dataset.records[found.frame].stamp_ns
            suffix, data = encoder.encode(found.depth * (found.unit_m or 1.0))
            known |= bool(np.isfinite(found.depth).any())
            now = {"key": key, "known": known, "depth": depth.to_dict()}
            if now != begun:
                state.parent.mkdir(exist_ok=True)
                write_yaml(state, now)
                begun = now
            levels = np.rint(255 * found.confidence).astype(np.uint8)
            layout.atomic_write(dataset.path / layout.CONFIDENCE / f"{stamp_ns}.png", encode_png(levels))
            layout.atomic_write(dataset.path / layout.DEPTH[depth.kind] / f"{stamp_ns}{suffix}", data)
            bar.update()
    if depth is None or not known:
        _forget(dataset.path)
        raise UserError(f"{dataset.path} is as before: neighbouring pictures do not show the depth of any pixel")
    return replace(dataset.meta, depth=depth)


def _forget(folder: Path) -> None:
    """Delete the files of made depth, which the lists name no more."""
    for name in (*layout.DEPTH.values(), layout.CONFIDENCE):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / layout.CACHE / STATE).unlink(missing_ok=True)


def _files(folder: Path, stamp_ns: int) -> list[Path]:
    """The depth file of a frame, if there is one."""
    return [
        path
        for name in layout.DEPTH.values()
        for suffix in (".png", ".tiff")
        if layout.has_content(path := folder / name / f"{stamp_ns}{suffix}")
    ]


def _with_depth(folder: Path, meta: DatasetMeta, record: Record) -> Record:
    (path, *_) = _files(folder, record.stamp_ns)
    return replace(record, depth=str(path.relative_to(folder)))


def _write_transforms(dataset: Dataset, meta: DatasetMeta, records: list[Record]) -> None:
    text = transforms_json(meta, zip(records, dataset.T_map_cam, strict=True))
    if text is not None:
        layout.atomic_write(dataset.path / layout.TRANSFORMS, text.encode())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    read_meta(folder)
    lock = layout.FolderLock(folder)
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error.strerror or error}); it is as before") from error
    finally:
        lock.release()
