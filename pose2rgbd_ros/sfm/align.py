"""`pose2rgbd align`: a dataset's rough poses and lens replaced by those of structure from motion.

What was recorded is kept in the dataset's folder `recorded/`, and each alignment begins from there: aligning twice is
aligning once, and `restore` gives the recorded poses back.
"""

from __future__ import annotations

import copy
import csv
import io
import os
import shutil
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from pose2rgbd_ros import settings as definitions
from pose2rgbd_ros.dataset import layout, made_depth
from pose2rgbd_ros.dataset.encode import JPEG_QUALITY
from pose2rgbd_ros.dataset.layout import Record
from pose2rgbd_ros.dataset.meta import DatasetMeta, PosesMeta, meta_yaml, read_meta, software
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.transforms_json import transforms_json
from pose2rgbd_ros.dataset.writer import lists_of
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64, UInt8
from pose2rgbd_ros.geometry.camera import Camera, pixel_grid, resample, resample_map
from pose2rgbd_ros.sfm.certainty import Certainty, certainty
from pose2rgbd_ros.sfm.georeference import Georeference, georeference
from pose2rgbd_ros.sfm.reconstruct import (
    LEAST_MAP,
    LEAST_MATCHES,
    AlignSettings,
    FeatureDatabase,
    SparseMap,
    choose_pairs,
    refine,
)
from pose2rgbd_ros.sfm.recorded import depth_ratio, errors_px, is_whole, sized
from pose2rgbd_ros.sfm.video import choose_keyframes, find_between

SIGMAS = "pose_sigma.csv"
POINTS = "sparse_points.npz"
REPORT = "align"  # folder of the report
FEATURES = f"{layout.CACHE}/sfm"
_LISTS = (layout.GROUNDTRUTH, layout.ASSOCIATIONS, layout.TRANSFORMS, layout.META)
FEW_FEATURES = 100
FEW_POINTS = 20  # a pose from fewer is a guess
UNSURE_SCALE = 0.25  # standard deviation of a map's size from which recorded positions say nothing of it
USUAL = 2.0  # times the usual step, or pause, between frames: a jump, or a gap
STILL_SEEN = 0.1  # share of its points that a frame would see from where it was recorded; with less it was elsewhere
WEAK = 3.0  # times the recorded sigma, or the usual one of the map
ROLLS = 3.0  # sigmas from which a rolling shutter is believed
LEAST_READOUT_S, MOST_READOUT_S = 0.002, 0.1
LEAST_ROLLED_PX = 0.1
OTHER_LENS = 1.15  # ratio of focal lengths, found and recorded, that no calibration explains
LENGTH_SIGMA = 0.02  # by which the way of odometry is too long or short, all along
WORTH = 1.2  # times the error of aligned poses: with less those of odometry or TF stay
SAME_PX = 0.3  # between a lens and the dataset's camera; from there on its images are resampled
ENOUGH = 0.9  # share of frames in a map that agrees with GPS; with fewer the other mapper is tried
SECOND_TRY = 0.05  # share of frames left out that calls for comparing them with all others
MOST_SECOND_PAIRS = 6000
# Seconds of one core of an AMD EPYC (bench/results/align_speed.md): an image of 1024 x 768 pixels, a pair of 4096
# features each, an image in the map (most of which is done by one core), a frame that is followed.
EXTRACT_S, MATCH_S, MAP_S, FOLLOW_S = 0.5, 0.04, 0.35, 0.1
MORE_FEATURES = 1.4  # than asked for: SIFT stops at the end of an octave's level
FEW_TIMED = 8  # images, whose features say how fast this machine is


@dataclass(eq=False)
class Alignment:
    """What came out.

    Attributes:
        frames: (N,) indices of the recorded frames that have a pose now.
        T_map_cam: (N, 4, 4); sigma_m (N, 3) of their positions, sigma_deg (N,) of their orientations.
        reference: how the map was tied to the recorded positions; of several maps, the largest.
        left_out: reason by index of recorded frame.
        notes: what a user should know, warnings first.
    """

    recorded: Dataset
    camera: Camera
    frames: Int64
    T_map_cam: Float64
    sigma_m: Float64
    sigma_deg: Float64
    reference: Georeference
    maps: list[SparseMap]
    left_out: dict[int, str]
    notes: list[str] = field(default_factory=list)
    focal_sigma: float | None = None  # as a share of it
    readout_s: float = 0.0  # of a rolling shutter
    lenses: dict[int, Camera] = field(default_factory=dict)  # of recorded frames whose camera is another
    poses: PosesMeta | None = None  # what is to be said of the poses; None: what follows from the rest
    camera_from: str = ""  # where the lens comes from, where that is to be said

    def summary(self) -> str:
        """A few lines for the terminal."""
        main, sigma = self.maps[0], self.focal_sigma
        offset = np.linalg.norm(self.T_map_cam[:, :3, 3] - self.recorded.T_map_cam[self.frames, :3, 3], axis=1)
        lines = [
            f"{self.recorded.path}: {len(self.frames)} of {counted(len(self.recorded), 'frame')} aligned, "
            f"{len(main.points)} points, {main.reprojection_px:.2f} px",
            f"note: camera: {self.camera}" + ("" if sigma is None else f"; focal length ± {100 * sigma:.1f} %"),
            f"note: positions moved by {np.median(offset):.2f} m (median), orientations by "
            f"{self.reference.attitude_offset_deg:.1f} degrees; sigma now {np.median(self.sigma_m):.2f} m and "
            f"{np.median(self.sigma_deg):.2f} degrees (median), scale {100 * self.reference.scale_sigma:.2f} %",
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values."""
        main = self.maps[0]
        return {
            "frames_recorded": len(self.recorded),
            "frames_aligned": len(self.frames),
            "left_out": [
                {"stamp_ns": int(self.recorded.stamps_ns[frame]), "reason": reason}
                for frame, reason in sorted(self.left_out.items())
            ],
            "points": len(main.points),
            "reprojection_px": main.reprojection_px,
            "position_sigma_m": np.median(self.sigma_m, axis=0).tolist(),
            "orientation_sigma_deg": float(np.median(self.sigma_deg)),
            "scale_sigma_share": self.reference.scale_sigma,
            "focal_sigma_share": self.focal_sigma,
            "camera": self.camera.figures(),
            "notes": self.notes,
        }


@dataclass(frozen=True, eq=False)
class Plan:
    """Which frames make the map, which of them are compared, and about how many minutes that takes."""

    keyframes: Int64
    pairs: list[tuple[int, int]]
    extract_s: float
    match_s: float
    map_s: float
    features: float  # of an image

    @property
    def minutes(self) -> float:
        """Of all steps."""
        return (self.extract_s + self.match_s + self.map_s) / 60

    def minutes_left(self, features: Mapping[int, float], extract_s: float | None) -> float:
        """Of matches and map, once features are counted, by index of a frame, and `extract_s` was what they took."""
        work = np.mean([features.get(a, 0) * features.get(b, 0) for a, b in self.pairs] or [0]) / self.features**2
        slower = 1.0 if extract_s is None else extract_s / self.extract_s
        return slower * (self.match_s * float(work) + self.map_s) / 60

    def __str__(self) -> str:
        """For the terminal."""
        images, pairs = counted(len(self.keyframes), "image"), counted(len(self.pairs), "pair")
        return f"aligning {images}, {pairs}: about {max(1, round(self.minutes))} min"


def plan(dataset: Dataset, settings: AlignSettings, progress: bool = True) -> Plan:
    """What an alignment of these frames will do."""
    size = dataset.camera.width, dataset.camera.height
    return plan_of(choose_keyframes(dataset, progress), dataset.T_map_cam, size, settings)


def plan_of(keyframes: Int64, T_map_cam: Float64, size: tuple[int, int], settings: AlignSettings) -> Plan:
    """The same of frames with poses (N, 4, 4) and images of `size` (width, height), once keyframes are chosen."""
    pairs = choose_pairs(T_map_cam[keyframes], settings.neighbours)
    width, height = size
    pixels = width * height * min(1.0, settings.image_size / max(width, height)) ** 2 / (1024 * 768)
    cores = settings.threads or os.cpu_count() or 1
    return Plan(
        keyframes, [(int(keyframes[a]), int(keyframes[b])) for a, b in pairs],
        extract_s=len(keyframes) * EXTRACT_S * pixels / cores,
        match_s=len(pairs) * MATCH_S * (MORE_FEATURES * settings.features / 4096) ** 2 / cores,
        map_s=len(keyframes) * MAP_S + FOLLOW_S * (len(T_map_cam) - len(keyframes)),
        features=MORE_FEATURES * settings.features,
    )  # fmt: skip


def align(folder: Path, settings: AlignSettings, planned: Plan | None = None, progress: bool = True) -> Alignment:
    """Align a dataset in its place, as planned of what was recorded.

    Interrupted and called again, features and matches that are there are used.

    Raises:
        UserError: fewer than three frames, nothing could be joined, or positions that cannot place the map; the
            dataset is as before.
    """
    definitions.check(settings)
    with locked(folder):
        recorded = recorded_dataset(folder)
        if len(recorded) < LEAST_MAP:
            raise UserError(f"{folder} has {counted(len(recorded), 'frame')}; structure from motion needs three")
        found = _align(recorded, folder, settings, planned or plan(recorded, settings, progress), progress)
        write_aligned(folder, recorded, found)
        return found


def restore(folder: Path) -> None:
    """Give a dataset its recorded poses and camera back. UserError when it was never aligned."""
    with locked(folder):
        kept = folder / layout.RECORDED
        if not is_aligned(folder):
            raise UserError(f"{folder} was not aligned: it has its recorded poses")
        made_depth.take_out(Dataset(folder))
        layout.replace_together(
            folder, {name: (kept / name).read_bytes() for name in _LISTS if (kept / name).is_file()}
        )
        _put_back_images(folder, set())
        for name in (SIGMAS, POINTS):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / REPORT, ignore_errors=True)
        shutil.rmtree(kept)


def is_aligned(folder: Path) -> bool:
    """Whether a dataset has poses of structure from motion, and its recorded ones beside them."""
    return (folder / layout.RECORDED / layout.META).is_file()


@contextmanager
def features_kept(folder: Path) -> Iterator[None]:
    """Context in which a dataset may be removed, to be made anew of more photographs; features and matches stay."""
    features, aside = folder / FEATURES, folder.with_name(f".{folder.name}.features")
    if features.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
        features.rename(aside)
    try:
        yield
    finally:
        if aside.is_dir():  # also of a call that was killed meanwhile
            shutil.rmtree(features, ignore_errors=True)
            features.parent.mkdir(parents=True, exist_ok=True)
            aside.rename(features)


def recorded_dataset(folder: Path) -> Dataset:
    """The dataset as it was recorded, whether it has been aligned or been given depth since or not."""
    return made_depth.without_made_depth(_Recorded(folder) if is_aligned(folder) else Dataset(folder))


class _Recorded(Dataset):
    """The frames and poses of `recorded/`, with the images of the dataset around it."""

    def __init__(self, folder: Path) -> None:
        self.path, kept = folder, folder / layout.RECORDED
        self.meta = read_meta(kept)
        self.records = [
            replace(record, rgb=f"{layout.RECORDED}/{record.rgb}") if (kept / record.rgb).is_file() else record
            for record in sorted(layout.read_associations(kept), key=lambda record: record.stamp_ns)
        ]
        self._check_files()
        self.stamps_ns = np.array([record.stamp_ns for record in self.records], dtype=np.int64)
        lines = layout.read_pose_lines(kept)
        poses = np.array([layout.parse_pose(lines[record.stamp_ns]) for record in self.records])
        self.T_map_cam = se3.make(poses[:, :3], poses[:, 3:])


@dataclass(frozen=True, eq=False)
class _Placed:
    """A map in metres at its place."""

    map: SparseMap
    reference: Georeference
    sure: Certainty | None
    readout_s: float = 0.0  # of a rolling shutter, which the poses heed
    by_depth: float | None = None  # by how much measured depth made it larger

    def sigmas(self) -> tuple[Float64, Float64]:
        """Of positions (N, 3) in metres and orientations (N,) in rad: what pictures and recorded positions leave open.

        Of each camera they are known as if recorded positions were independent; the place of the whole is as unsure
        as their lasting errors make it.
        """
        reference, position = self.reference, self.map.T_sfm_cam[:, :3, 3]
        least_m2 = np.diagonal(reference.moved_by(reference.covariance, position), axis1=1, axis2=2)
        least_rad2 = np.full(len(position), np.trace(reference.covariance[1:4, 1:4]))
        if self.sure is None:
            return np.sqrt(least_m2), np.sqrt(least_rad2)
        more = reference.covariance - reference.tied_covariance
        each = self.sure.covariance
        sigma2_m2 = np.diagonal(each[:, 3:, 3:] + reference.moved_by(more, position), axis1=1, axis2=2)
        sigma2_rad2 = np.trace(each[:, :3, :3], axis1=1, axis2=2) + np.trace(more[1:4, 1:4])
        return np.sqrt(np.maximum(sigma2_m2, least_m2)), np.sqrt(np.maximum(sigma2_rad2, least_rad2))


def _align(recorded: Dataset, folder: Path, settings: AlignSettings, planned: Plan, progress: bool) -> Alignment:
    names = [record.rgb for record in recorded.records]
    key = f"{settings.features}-{settings.image_size}-{settings.lens}"
    chosen, of_lens = planned.keyframes, layout.read_lenses(folder)
    database = FeatureDatabase(
        folder / FEATURES / key / "database.db", folder, names, chosen, recorded.camera, settings,
        [of_lens.get(stamp_ns, "") for stamp_ns in recorded.stamps_ns.tolist()],
    )  # fmt: skip
    begin, are_new = time.monotonic(), database.extract(progress)
    if progress and are_new:
        took_s = time.monotonic() - begin if are_new == len(chosen) >= FEW_TIMED else None
        left_min = planned.minutes_left(database.features(), took_s)
        tqdm.write(f"features found; about {max(1, round(left_min))} min left")
    database.match(planned.pairs, progress)
    placed, notes = _map(recorded, database, settings, progress)
    there = {int(frame) for each in placed for frame in each.map.frames}
    lost = [i for i in chosen.tolist() if i not in there]
    if lost and len(lost) >= SECOND_TRY * len(chosen) and len(lost) * len(chosen) <= MOST_SECOND_PAIRS:
        # Their rough positions may have been wrong (GPS that froze or jumped): compare them with all others.
        pairs = sorted({(min(a, b), max(a, b)) for a in lost for b in chosen.tolist() if a != b})
        if database.match(pairs, progress):
            placed, notes = _map(recorded, database, settings, progress)
    if not placed:
        raise UserError(f"{folder} is as before: {notes[0] if notes else _why_nothing(database)}")
    if is_whole(recorded.meta.poses):
        recorded_px, aligned_px = errors_px(recorded, placed[0].map)
        explained = (
            f"features are {recorded_px:.2f} px off with the recorded poses, {aligned_px:.2f} px with aligned ones"
        )
        if recorded_px < WORTH * aligned_px:
            raise UserError(f"{folder} is as before, its recorded poses are as good: {explained}")
        notes.append(explained)
    left_out = _reasons(recorded, chosen.tolist(), placed, database)
    between = np.setdiff1d(np.arange(len(names)), chosen)
    return _gather(recorded, placed, between, left_out, notes, progress)


def _map(
    recorded: Dataset, database: FeatureDatabase, settings: AlignSettings, progress: bool
) -> tuple[list[_Placed], list[str]]:
    """The maps at their places, and remarks; with the recorded focal length where the images leave it open."""
    placed, notes = _best_map(recorded, database, settings, progress)
    if placed and recorded.camera.is_calibrated:
        before_px, after_px = recorded.camera.fx, placed[0].map.camera.fx
        if max(before_px, after_px) > OTHER_LENS * min(before_px, after_px):
            notes.insert(
                0,
                f"warning: the images fit a focal length of {after_px:.0f} px, the recording says {before_px:.0f}: a "
                "lens that zooms is not modelled (cut the recording there), else the calibration is another camera's",
            )
    sure = placed[0].sure if placed else None
    if sure is None or settings.refine_camera != "auto" or sure.focal_sigma <= settings.focal_sigma:
        return placed, notes
    said = f"the images leave the focal length open by {100 * sure.focal_sigma:.1f} %"
    if not recorded.camera.is_calibrated:
        return placed, [f"warning: {said}, and depths with it; --fov-deg of the conversion gives it", *notes]
    placed, notes = _best_map(recorded, database, replace(settings, refine_camera="distortion"), progress)
    return placed, [f"{said}: the recorded one is kept", *notes]


def _best_map(
    recorded: Dataset, database: FeatureDatabase, settings: AlignSettings, progress: bool
) -> tuple[list[_Placed], list[str]]:
    """The maps at their places, of the mapper whose frames agree best with the recorded positions; and remarks."""
    mappers = ["global", "incremental"] if settings.mapper == "auto" else [settings.mapper]
    best: tuple[int, list[_Placed], list[str]] = (-1, [], [])
    for mapper in mappers:
        placed, notes = [], []
        for each in database.reconstruct(mapper, settings, progress):
            try:
                placed.append(place(each, recorded, database.names, settings))
            except UserError as error:
                notes.append(f"a map of {counted(len(each.frames), 'frame')} is left out: {error}")
        agree = sum(int(np.count_nonzero(~each.reference.is_bad)) for each in placed)
        if agree > best[0]:
            best = (agree, placed, notes)
        if agree >= ENOUGH * len(database.chosen):
            break
    return best[1:]


def place(found: SparseMap, recorded: Dataset, names: list[str], settings: AlignSettings) -> _Placed:
    """Tie a map to the recorded positions of its frames, and adjust it there.

    Raises:
        UserError: positions that cannot place it.
    """
    rough, stamps_ns = recorded.T_map_cam[found.frames], recorded.stamps_ns[found.frames]
    whole = is_whole(recorded.meta.poses)
    reference = georeference(found.T_sfm_cam, rough, stamps_ns, whole)
    _require_agreement(reference, found, rough)
    priors = reference.undrifted(rough[:, :3, 3], stamps_ns)

    def adjust(rolled_px: Float64 | None = None) -> SparseMap:
        adjusted = refine(found, names, reference, priors, settings, rolled_px)
        # Its priors are positions alone, as if their errors were independent: they unbend the map, but do not place it.
        # A video along a line was turned about it, by what GPS wandered.
        # Frames of bad positions had no prior, and may be anywhere by now.
        good = ~reference.is_bad
        again = georeference(adjusted.T_sfm_cam[good], rough[good], stamps_ns[good], whole)
        return replace(adjusted, T_sfm_cam=again.poses(adjusted.T_sfm_cam), points=again.points(adjusted.points))

    adjusted = adjust()
    known = None if settings.refines[0] else settings.focal_sigma
    given_s = None if settings.readout_ms is None else settings.readout_ms / 1000

    def look(adjusted: SparseMap, readout_s: float) -> Certainty | None:
        return certainty(
            adjusted, reference.tied_sigma_m, reference.sigma_rad, reference.is_bad, stamps_ns,
            focal_known=known, readout_s=readout_s,
        )  # fmt: skip

    sure = look(adjusted, 0.0)
    if sure is None or (given_s is None and not _rolls(sure)) or given_s == 0:
        return _sized(_Placed(adjusted, reference, sure), recorded)
    rolled_px = sure.rolled_px if given_s is None else sure.rolled_px * (given_s / sure.readout_s)
    readout_s = sure.readout_s if given_s is None else given_s
    rolling = adjust(rolled_px)
    again = look(rolling, readout_s)
    if given_s is None and (again is None or not _rolls(again)):  # not confirmed by the map that heeds it
        return _sized(_Placed(adjusted, reference, sure), recorded)
    return _sized(_Placed(rolling, reference, again, readout_s), recorded)


def _sized(placed: _Placed, recorded: Dataset) -> _Placed:
    """A map with the size that measured depth and recorded positions give it together."""
    measured = depth_ratio(recorded, placed.map)
    if measured is None:
        return placed
    (ratio, sigma), before = measured, placed.reference.scale_sigma
    if is_whole(recorded.meta.poses):
        before = max(before, LENGTH_SIGMA)
    share, narrower = before**2 / (before**2 + sigma**2), np.eye(7)
    factor = float(np.exp(share * np.log(ratio)))
    narrower[0, 0] = sigma * np.sqrt(share) / placed.reference.scale_sigma
    reference = placed.reference
    covariances = [narrower @ each @ narrower for each in (reference.covariance, reference.tied_covariance)]
    reference = replace(reference, covariance=covariances[0], tied_covariance=covariances[1])
    return replace(placed, map=sized(placed.map, factor), reference=reference, by_depth=factor)


def _require_agreement(reference: Georeference, found: SparseMap, rough: Float64) -> None:
    """UserError for recorded poses (N, 4, 4) that do not fit the map: whatever similarity came out is none."""
    wrong, count = int(np.count_nonzero(reference.is_bad)), len(reference.is_bad)
    if 2 * wrong > count:
        raise UserError(
            f"the recorded positions of {wrong} of its {counted(count, 'frame')} contradict the images: are they of "
            "another flight, or does the place look alike everywhere?"
        )
    if _stands_on_its_head(reference, found, rough):
        raise UserError(
            "the recorded positions fit the images with the map upside down alone, against the recorded attitudes: are "
            "positions mirrored (east and north, or a sign), or of another flight?"
        )
    if not reference.scale_sigma < UNSURE_SCALE:
        raise UserError(
            f"the recorded positions scatter by {reference.sigma_m[0]:.1f} m about it and leave its size open: was "
            "all taken from one place, or are they of another flight, or does the place look alike everywhere?"
        )


def _stands_on_its_head(reference: Georeference, found: SparseMap, rough: Float64) -> bool:
    """Whether cameras look up at what the attitudes say is below them: a mirror image of flat positions is the same as
    the positions seen from below. A camera mounted upside down is turned over as well, but sees points below it.
    """
    at = np.searchsorted(found.frames, found.seen_frame)
    aligned = reference.poses(found.T_sfm_cam)
    ray_map = reference.points(found.points)[found.seen_point] - aligned[at, :3, 3]
    ray_cam = np.einsum("nji,nj->ni", aligned[at, :3, :3], ray_map)
    recorded_map = np.einsum("nij,nj->ni", rough[at, :3, :3], ray_cam)
    turn = aligned[:, :3, :3] @ rough[:, :3, :3].transpose(0, 2, 1)
    return bool(np.median(turn[:, 2, 2]) < -0.5 and np.median(ray_map[:, 2]) > 0 > np.median(recorded_map[:, 2]))


def _misplaced(placed: _Placed, recorded: Dataset) -> Bool:
    """Frames (N,) of the map that match a place which only looks like theirs.

    Of the aligned and the recorded track the one is wrong that jumps where such frames begin or end; where neither
    does, frames are misplaced that would not see what they match from where they were recorded.
    """
    found, reference = placed.map, placed.reference
    stamps_ns = recorded.stamps_ns[found.frames]
    aligned = found.T_sfm_cam[:, :3, 3]
    undrifted = reference.undrifted(recorded.T_map_cam[found.frames, :3, 3], stamps_ns)
    away = np.zeros(len(found.frames), dtype=bool)
    for i in np.flatnonzero(reference.is_bad).tolist():
        points = found.points[found.seen_point[found.seen_by(int(found.frames[i]))]]
        pixels = found.camera.project((points - undrifted[i]) @ found.T_sfm_cam[i, :3, :3])
        inside = (pixels > -0.5) & (pixels < [found.camera.width - 0.5, found.camera.height - 0.5])
        away[i] = not len(points) or inside.all(axis=1).mean() < STILL_SEEN
    # Which of the two tracks jumps where a run of such frames begins or ends: steps in units of the usual one.
    apart_s = np.diff(stamps_ns) / 1e9
    steps_m = np.stack([np.linalg.norm(np.diff(track, axis=0), axis=1) for track in (aligned, undrifted)])
    both_good = ~reference.is_bad[1:] & ~reference.is_bad[:-1]
    if not both_good.any():
        return away
    steps = steps_m / np.maximum(apart_s * np.median(steps_m[0, both_good] / apart_s[both_good]), 1e-9)
    jumps = (steps.max(axis=0) > USUAL) & (apart_s < USUAL * np.median(apart_s))
    for first, last in _runs(np.flatnonzero(reference.is_bad), 1):
        ends = [i for i in (first - 1, last) if 0 <= i < len(jumps) and jumps[i]]
        if ends:
            away[first : last + 1] = bool((steps[0, ends] > steps[1, ends]).all())
    return away


def _rolls(sure: Certainty) -> bool:
    """Whether a rolling shutter is believed: more than chance, not more than there are, and worth a correction."""
    seen = abs(sure.readout_s) > ROLLS * sure.readout_sigma_s
    return seen and LEAST_READOUT_S < abs(sure.readout_s) < MOST_READOUT_S and sure.rolled_rms_px > LEAST_ROLLED_PX


def _gather(
    recorded: Dataset, placed: list[_Placed], between: Int64, left_out: dict[int, str], notes: list[str], progress: bool
) -> Alignment:
    """The frames of all maps in time order; of a frame in several, that of the largest. Those `between` key frames are
    found by the map of the nearest one.
    """
    found: dict[int, tuple[Float64, Float64, float]] = {}
    of_map: list[Int64] = []
    for each in placed:
        before, misplaced = set(found), _misplaced(each, recorded)
        sigma_m, sigma_rad = each.sigmas()
        usual_m = np.median(sigma_m, axis=0)
        for i, frame in enumerate(each.map.frames.tolist()):
            if (weak := _LOOKS_ALIKE if misplaced[i] else _weak(each, i, sigma_m[i], usual_m)) is not None:
                left_out.setdefault(frame, weak)
                continue
            found.setdefault(frame, (each.map.T_sfm_cam[i], sigma_m[i], float(np.rad2deg(sigma_rad[i]))))
        of_map.append(np.array(sorted(set(found) - before), dtype=np.int64))
    keys = np.array(sorted(found), dtype=np.int64)
    if len(keys) and len(between):
        after = np.searchsorted(keys, between)
        earlier, later = keys[np.maximum(after - 1, 0)], keys[np.minimum(after, len(keys) - 1)]
        nearest = np.where(np.abs(between - earlier) <= np.abs(later - between), earlier, later)
        for each, mine in zip(placed, of_map, strict=True):
            wanted = between[np.isin(nearest, mine)]
            for frame, T_map_cam in find_between(recorded, replace(each.map, frames=mine), wanted, progress):
                # As sure as the key frame that it was followed from.
                found[frame] = (T_map_cam, *found[int(nearest[np.searchsorted(between, frame)])][1:])
    left_out |= dict.fromkeys(set(between.tolist()) - set(found), "cannot be followed from its neighbours")
    left_out = {frame: reason for frame, reason in left_out.items() if frame not in found}
    frames = np.array(sorted(found), dtype=np.int64)
    if len(frames) < LEAST_MAP:
        reasons = Counter(left_out.values()).most_common(1)
        raise UserError(
            f"{recorded.path} is as before: {counted(len(frames), 'frame')} could be joined for sure"
            + "".join(f"; {counted(number, 'frame')}: {reason}" for reason, number in reasons)
        )
    T_map_cam, sigma_m, sigma_deg = (np.array([found[i][k] for i in frames.tolist()]) for k in range(3))
    main = placed[0]
    notes = [*_notes(recorded, placed, left_out), *notes]
    return Alignment(
        recorded, main.map.camera, frames, T_map_cam, sigma_m, sigma_deg, main.reference,
        [each.map for each in placed], left_out, notes, main.sure.focal_sigma if main.sure else None, main.readout_s,
        _other_lenses(placed),
    )  # fmt: skip


def _other_lenses(placed: list[_Placed]) -> dict[int, Camera]:
    """The camera of frames that another one than the dataset's took, beyond SAME_PX anywhere in the image."""
    camera = placed[0].map.camera
    rays = camera.unproject(pixel_grid(9, 9) * [(camera.width - 1) / 8, (camera.height - 1) / 8])
    rays = rays[np.isfinite(rays).all(axis=-1)]  # a fisheye's corners may see nothing
    lenses: dict[int, Camera] = {}
    for each in placed:
        for frame, own in zip(
            each.map.frames.tolist(), each.map.cameras or [each.map.camera] * len(each.map.frames), strict=True
        ):
            if own != camera and np.abs(own.project(rays) - camera.project(rays)).max() > SAME_PX:
                lenses.setdefault(frame, own)
    return lenses


_LOOKS_ALIKE = "matches another place than the one where it was recorded (one that looks alike?)"


def _weak(placed: _Placed, i: int, sigma_m: Float64, usual_m: Float64) -> str | None:
    """Why a frame of a map is better left out; None for a good one."""
    seen = placed.map.seen_by(int(placed.map.frames[i]))
    if seen.stop - seen.start < FEW_POINTS:
        return f"sees fewer than {FEW_POINTS} points of the map"
    if (sigma_m > WEAK * np.maximum(placed.reference.sigma_m, usual_m)).any():
        return "its aligned position is less sure than the recorded one and those of other frames"
    return None


def _notes(recorded: Dataset, placed: list[_Placed], left_out: dict[int, str]) -> list[str]:
    main, notes = placed[0], list[str]()
    if others := _other_lenses(placed):
        focal = sorted({f"{camera.fx:.1f}" for camera in others.values()})
        notes.append(
            f"images of {counted(len(others), 'frame')} are of other lenses (focal lengths {', '.join(focal)} px) and "
            "were resampled to the dataset's camera"
        )
    for reason in sorted(set(left_out.values())):
        which = [frame for frame, other in left_out.items() if other == reason]
        notes.append(f"warning: {counted(len(which), 'frame')} left out: {reason}")
    if len(placed) > 1:
        sizes = ", ".join(str(len(each.map.frames)) for each in placed)
        notes.append(f"warning: the images make {len(placed)} maps that do not overlap ({sizes} frames), each placed "
                     "by its own positions")  # fmt: skip
    if main.reference.is_bad.any():
        bad = main.map.frames[main.reference.is_bad]
        off = np.linalg.norm(main.reference.residual_m[main.reference.is_bad], axis=1)
        where = ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in _runs(bad))
        notes.append(
            f"warning: recorded positions of {counted(len(bad), 'frame')} ({where}) disagree with the others by "
            f"{off.min():.1f} to {off.max():.1f} m and are not used"
        )
    if main.reference.height_drift_m:
        notes.append(f"recorded heights drift by {main.reference.height_drift_m:+.1f} m over the flight; taken out")
    if main.by_depth is not None:
        notes.append(f"size by measured depth: {100 * (main.by_depth - 1):+.1f} % against the recorded positions")
    if main.sure and main.readout_s:
        notes.append(
            f"rolling shutter: {1000 * main.readout_s:+.1f} ms from the first row to the last "
            f"(± {1000 * main.sure.readout_sigma_s:.1f}); poses are those of the middle row"
        )
    elif main.sure and (most_s := abs(main.sure.readout_s) + 2 * main.sure.readout_sigma_s) < MOST_READOUT_S:
        notes.append(f"rolling shutter: less than {1000 * most_s:.1f} ms from the first row to the last")
    sigma = main.reference.sigma_m
    notes.append(f"recorded positions scatter by {sigma[0]:.2f} m along the ground and {sigma[2]:.2f} m in height")
    return notes


def _runs(frames: Int64, apart: int = 2) -> Iterator[tuple[int, int]]:
    """First and last of runs of frames that follow each other, at most so far apart."""
    for run in np.split(frames, np.flatnonzero(np.diff(frames) > apart) + 1):
        if len(run):
            yield int(run[0]), int(run[-1])


def _reasons(recorded: Dataset, chosen: list[int], placed: list[_Placed], database: FeatureDatabase) -> dict[int, str]:
    """Why key frames have no pose, by index."""
    there = {int(i) for each in placed for i in each.map.frames}
    features, matches = database.features(), database.matches_of_frames()
    reasons = {}
    for i in chosen:
        if i not in there:
            count = features.get(i, 0)
            if count < FEW_FEATURES and not _readable(recorded, i):
                reasons[i] = "its image is damaged"
            elif count < FEW_FEATURES:
                reasons[i] = "hardly any features (blurred, dark, sky or water)"
            elif matches.get(i, 0) < LEAST_MATCHES:
                reasons[i] = "no matches with other images (no overlap, or nothing that looks alike)"
            else:
                reasons[i] = "matches that fit no common map"
    return reasons


def _readable(recorded: Dataset, frame: int) -> bool:
    try:
        recorded.rgb(frame)
    except UserError:
        return False
    return True


def _why_nothing(database: FeatureDatabase) -> str:
    features = list(database.features().values())
    if not features or np.median(features) < FEW_FEATURES:
        return f"its images have hardly any features ({np.median(features) if features else 0:.0f} each, median)"
    matched = sum(rows >= LEAST_MATCHES for rows in database.matched().values())
    found = f"its images could not be joined: {counted(matched, 'pair')} of them match"
    if matched >= len(features) and database.pairs_without_parallax() > matched / 2:
        return f"{found}, but as pictures taken from one place do: without parallax there is no depth; fly along"
    return f"{found}; they must overlap by half, of a place that does not look alike everywhere"


# What is written.


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Context in which nobody else writes a dataset. UserError: it is none, or cannot be written."""
    read_meta(folder)
    with os_errors(f"cannot write {folder}", "its poses are as before"):
        lock = layout.FolderLock(folder)
        try:
            yield
        finally:
            lock.release()


def write_aligned(folder: Path, recorded: Dataset, found: Alignment) -> None:
    """Keep what was recorded, and put the aligned poses in its place."""
    made_depth.take_out(Dataset(folder))  # it belongs to the poses that are about to go
    kept = {f"{layout.RECORDED}/{name}": (folder / name).read_bytes() for name in _LISTS if (folder / name).is_file()}
    as_written = [replace(record, rgb=record.rgb.removeprefix(f"{layout.RECORDED}/")) for record in recorded.records]
    records = [as_written[frame] for frame in found.frames.tolist()]
    lines = [layout.pose_line(record.stamp_ns, T) for record, T in zip(records, found.T_map_cam, strict=True)]
    meta = copy.deepcopy(recorded.meta)
    meta.camera, meta.software = found.camera, software()
    meta.camera_from = found.camera_from
    meta.poses = found.poses or _poses_meta(recorded.meta, found)
    lists = lists_of(list(zip(records, lines, strict=True)), meta.depth is not None)
    transforms = transforms_json(meta, zip(records, found.T_map_cam, strict=True))
    points, main = io.BytesIO(), found.maps[0]
    np.savez_compressed(
        points, points=main.points.astype(np.float32), colors=main.colors, track_length=main.track_length,
        seen_stamp_ns=recorded.stamps_ns[main.seen_frame], seen_point=main.seen_point,
        seen_px=main.seen_px.astype(np.float32),
    )  # fmt: skip
    # Frames are listed before their poses change, for they are fewer: whenever this ends, each has one.
    files = {
        layout.ASSOCIATIONS: lists[layout.ASSOCIATIONS], layout.GROUNDTRUTH: lists[layout.GROUNDTRUTH],
        **({} if transforms is None else {layout.TRANSFORMS: transforms.encode()}),
        **({SIGMAS: _sigma_table(records, found).encode()} if np.isfinite(found.sigma_m).all() else {}),
        POINTS: points.getvalue(), layout.META: meta_yaml(meta),
    }  # fmt: skip
    again = is_aligned(folder)
    try:
        if not again:
            layout.replace_together(folder, kept)
        _write_images(folder, recorded, found)
        layout.replace_together(folder, files)
    except OSError:
        if not again:
            _put_back_images(folder, set())
            shutil.rmtree(folder / layout.RECORDED)
        raise


def _write_images(folder: Path, recorded: Dataset, found: Alignment) -> None:
    """Images of other lenses as the dataset's camera sees them; as recorded they are kept in `recorded/`."""
    for frame, own in found.lenses.items():
        name = recorded.records[frame].rgb.removeprefix(f"{layout.RECORDED}/")
        kept = folder / layout.RECORDED / name
        where = resample_map(own, found.camera)
        lost = np.isnan(where).any(axis=-1)  # beyond the edge of its image: the nearest pixel there
        where[lost] = np.clip(own.project(found.camera.rays()[lost]), 0, [own.width - 1, own.height - 1])
        picture = cv2.cvtColor(np.asarray(resample(recorded.rgb(frame), where, nearest=False)), cv2.COLOR_RGB2BGR)
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if kept.suffix == ".jpg" else []
        if not kept.is_file():
            kept.parent.mkdir(exist_ok=True)
            layout.atomic_write(kept, (folder / name).read_bytes())
        layout.atomic_write(folder / name, cv2.imencode(kept.suffix, picture, quality)[1].tobytes())
    _put_back_images(folder, {recorded.records[frame].rgb.rpartition("/")[2] for frame in found.lenses})


def _put_back_images(folder: Path, but: set[str]) -> None:
    """Give frames their recorded images again, but for these names."""
    for kept in (folder / layout.RECORDED / layout.RGB).glob("*"):
        if kept.name not in but:
            layout.atomic_write(folder / layout.RGB / kept.name, kept.read_bytes())


def _poses_meta(meta: DatasetMeta, found: Alignment) -> PosesMeta:
    before = meta.poses or PosesMeta()
    accuracy: dict[str, Any] = {
        "position_sigma_m": [round(float(value), 4) for value in np.median(found.sigma_m, axis=0)],
        "orientation_sigma_deg": round(float(np.median(found.sigma_deg)), 4),
        "focal_sigma": None if found.focal_sigma is None else round(found.focal_sigma, 5),
        "readout_ms": round(1000 * found.readout_s, 2),
        "scale_sigma": round(found.reference.scale_sigma, 6),
        "reprojection_px": round(found.maps[0].reprojection_px, 3),
        "recorded_position_sigma_m": [round(float(value), 3) for value in found.reference.sigma_m],
        "height_drift_m": round(found.reference.height_drift_m, 3),
    }
    return replace(before, position=f"sfm, placed by {before.position}", orientation="sfm", mount="", accuracy=accuracy)


def _sigma_table(records: list[Record], found: Alignment) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["stamp", "sigma_x_m", "sigma_y_m", "sigma_z_m", "sigma_rotation_deg"])
    for record, sigma_m, sigma_deg in zip(records, found.sigma_m, found.sigma_deg, strict=True):
        writer.writerow([layout.stamp_text(record.stamp_ns), *(f"{v:.4f}" for v in sigma_m), f"{sigma_deg:.4f}"])
    return text.getvalue()


@dataclass(frozen=True, eq=False)
class AlignedPoints:
    """What sparse_points.npz holds: points (P, 3) in the map, colors (P, 3), and of each time one is seen (M,) the
    frame's stamp, the point's index, and the pixel (M, 2)."""

    points: Float64
    colors: UInt8
    seen_stamp_ns: Int64
    seen_point: Int64
    seen_px: Float64


def read_points(folder: Path) -> AlignedPoints | None:
    """The points of an alignment; None of a dataset that was not aligned. UserError: the file is damaged."""
    path = folder / POINTS
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            return AlignedPoints(
                stored["points"].astype(np.float64),
                stored["colors"].astype(np.uint8),
                stored["seen_stamp_ns"].astype(np.int64),
                stored["seen_point"].astype(np.int64),
                stored["seen_px"].astype(np.float64),
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({error}); align again") from error
