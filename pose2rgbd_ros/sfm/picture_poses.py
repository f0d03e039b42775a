"""Poses of pictures alone: a drifting way, refined by bundle adjustment over key frames, skip edges and revisits.

Composed from step to step (odometry, the motions of a network) poses drift in length and direction. They are good
enough to say which frames may see the same, and where points are: features of frames 1, 2, 4 ... key frames apart, of
those near by and of some over the whole way are matched, triangulated with these poses, and all is adjusted together
(pycolmap). Nothing of this has a unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pose2rgbd_ros import settings as definitions
from pose2rgbd_ros.dataset.meta import PosesMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.sfm.align import FEATURES, FEW_POINTS, Alignment, locked, recorded_dataset, write_aligned
from pose2rgbd_ros.sfm.certainty import certainty
from pose2rgbd_ros.sfm.georeference import georeference
from pose2rgbd_ros.sfm.reconstruct import LEAST_MAP, AlignSettings, FeatureDatabase, SparseMap, choose_pairs
from pose2rgbd_ros.sfm.video import choose_keyframes, find_between

SKIPS = (1, 2, 3, 5, 8)  # key frames apart that are compared, wherever they were
OVER_ALL = 36  # key frames, evenly spaced, that are compared all with all: revisits show whatever the drift
WAY_PARTS = 4  # drift is stated over this part of the way
LEAST_JOINED = 0.5  # share of the key frames that must see common points


@dataclass(frozen=True)
class Drift:
    """Of one way against another: how far off, as a share of the way, and turned, over parts of it `length` long."""

    length: float
    translation: float
    rotation_deg: float

    def __str__(self) -> str:
        return (
            f"over {self.length:.3g} units of way {100 * self.translation:.1f} % of it and {self.rotation_deg:.1f} "
            "degrees (median)"
        )


def drift(T_found: Float64, T_true: Float64, length: float | None = None) -> Drift:
    """Of poses (N, 4, 4) against better ones over so much of the way (a quarter), sizes of both wholes alike."""
    scale = se3.umeyama(T_found[:, :3, 3], T_true[:, :3, 3], with_scale=True)[0]
    found = T_found.copy()
    found[:, :3, 3] *= scale
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(T_true[:, :3, 3], axis=0), axis=1))])
    length = way[-1] / WAY_PARTS if length is None else length
    ends = np.searchsorted(way, way + length)
    begins = np.flatnonzero(ends < len(way))
    if not len(begins) or length <= 0:
        return Drift(float(length), float("nan"), float("nan"))
    ends = ends[begins]
    off = se3.inverse(se3.inverse(T_true[begins]) @ T_true[ends]) @ (se3.inverse(found[begins]) @ found[ends])
    angle = np.degrees(np.arccos(np.clip((np.trace(off[:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1)))
    gone = way[ends] - way[begins]
    return Drift(float(length), float(np.median(np.linalg.norm(off[:, :3, 3], axis=1) / gone)), float(np.median(angle)))


def refine_poses(
    folder: Path, settings: AlignSettings | None = None, lens_is_known: bool = False, progress: bool = True
) -> Alignment:
    """Refine the poses of a dataset that come from its pictures alone, in its place; `align --restore` undoes it.

    lens_is_known: its focal length was measured; else it is refined, too.

    Raises:
        UserError: poses that have a unit (`pose2rgbd align` is theirs), or too few frames see common points; the
            dataset is as before.
    """
    settings = settings or AlignSettings()
    if lens_is_known:
        settings = replace(settings, refine_camera="none")
    definitions.check(settings)
    with locked(folder):
        recorded = recorded_dataset(folder)
        if recorded.meta.has_metres:
            raise UserError(f"the poses of {folder} are in metres; `pose2rgbd align` refines such")
        found = _refined(recorded, folder, settings, progress)
        write_aligned(folder, recorded, found)
        return found


def _refined(recorded: Dataset, folder: Path, settings: AlignSettings, progress: bool) -> Alignment:
    names = [record.rgb for record in recorded.records]
    keys = choose_keyframes(recorded, progress)
    if len(keys) < LEAST_MAP:
        raise UserError(f"{folder} is as before: it has {counted(len(keys), 'key frame')}; a map needs {LEAST_MAP}")
    T_keys = recorded.T_map_cam[keys]
    file = folder / FEATURES / f"{settings.features}-{settings.image_size}-{settings.lens}" / "database.db"
    database = FeatureDatabase(file, folder, names, keys, recorded.camera, settings)
    database.extract(progress)
    database.match([(int(keys[a]), int(keys[b])) for a, b in pairs(T_keys, settings.neighbours)], progress)
    found = database.adjusted(T_keys, settings, progress)
    seen = np.bincount(np.searchsorted(keys, found.seen_frame), minlength=len(keys))
    joined = found.frames[seen[np.searchsorted(keys, found.frames)] >= FEW_POINTS]
    if len(joined) < max(LEAST_MAP, LEAST_JOINED * len(keys)):
        raise UserError(
            f"{folder} is as before: {counted(len(joined), 'key frame')} of {len(keys)} see common points (no texture, "
            "too far a step between frames, or a camera that only turns)"
        )
    found = _where_it_was(found, keys, recorded)
    of_keys = {int(frame): T for frame, T in zip(found.frames, found.T_sfm_cam, strict=True) if frame in set(joined)}
    T_map_cam = _between(recorded, found, of_keys, progress)
    frames = np.arange(len(recorded))
    before = drift(recorded.T_map_cam[joined], np.stack([of_keys[int(i)] for i in joined]))
    notes = [f"poses of the pictures alone, which have no unit, were off by {before}"]
    if len(joined) < len(keys):
        notes.append(f"{counted(len(keys) - len(joined), 'key frame')} see too little and go with their neighbours")
    reference = georeference(found.T_sfm_cam, recorded.T_map_cam[found.frames], recorded.stamps_ns[found.frames], True)
    sure = None
    if settings.refines[0]:
        stamps_ns = recorded.stamps_ns[found.frames]
        sure = certainty(found, reference.tied_sigma_m, reference.sigma_rad, reference.is_bad, stamps_ns)
    camera_from = recorded.meta.camera_from
    if sure is not None:
        hfov_deg = np.degrees(2 * np.arctan(found.camera.width / 2 / found.camera.fx))
        before_deg = np.degrees(2 * np.arctan(recorded.camera.width / 2 / recorded.camera.fx))
        camera_from = (
            f"found by bundle adjustment of {counted(len(joined), 'key frame')}: {hfov_deg:.1f} degrees across, focal "
            f"length ± {100 * sure.focal_sigma:.1f} % (begun at {before_deg:.1f})"
        )
        notes.append(f"camera: {camera_from}")
    facts = {
        "drift_before": {
            "length": round(before.length, 4),
            "translation": round(before.translation, 5),
            "rotation_deg": round(before.rotation_deg, 4),
        },
        "reprojection_px": round(found.reprojection_px, 3),
        "key_frames": len(joined),
        "compared_pairs": len(database.matched()),
    }
    poses = replace(
        recorded.meta.poses or PosesMeta(),
        accuracy=facts,
        position="pictures, refined",
        orientation="pictures, refined",
    )
    unknown = np.full((len(frames), 3), np.nan)
    return Alignment(
        recorded, found.camera, frames, T_map_cam, unknown, unknown[:, 0], reference, [found], {}, notes,
        focal_sigma=None if sure is None else sure.focal_sigma, poses=poses, camera_from=camera_from,
    )  # fmt: skip


def pairs(T_map_cam: Float64, neighbours: int) -> list[tuple[int, int]]:
    """Which key frames to compare: near in time, near by, and evenly spaced ones all with all."""
    count = len(T_map_cam)
    found = set(choose_pairs(T_map_cam, neighbours)) | {(a, a + k) for k in SKIPS for a in range(count - k)}
    some = np.unique(np.linspace(0, count - 1, min(count, OVER_ALL)).round().astype(int)).tolist()
    return sorted(found | {(a, b) for a in some for b in some if a < b})


def _where_it_was(found: SparseMap, keys: Int64, recorded: Dataset) -> SparseMap:
    """The map with its first camera where it was, and its way as long as it was."""
    before = recorded.T_map_cam[found.frames]
    long = [np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1).sum() for T in (before, found.T_sfm_cam)]
    scale = float(long[0] / long[1]) if long[1] > 0 else 1.0
    T = found.T_sfm_cam.copy()
    T[:, :3, 3] *= scale
    turn = before[0] @ se3.inverse(T[0])
    return replace(found, T_sfm_cam=turn @ T, points=found.points * scale @ turn[:3, :3].T + turn[:3, 3])


def _between(recorded: Dataset, found: SparseMap, of_keys: dict[int, Float64], progress: bool) -> Float64:
    """Poses (N, 4, 4) of all frames: those between key frames by the map's points, else as they moved before."""
    T = recorded.T_map_cam.copy()
    keys = np.array(sorted(of_keys), np.int64)
    for frame in keys.tolist():
        T[frame] = of_keys[frame]
    others = np.setdiff1d(np.arange(len(T)), keys)
    joined = replace(found, frames=keys, T_sfm_cam=np.stack([of_keys[int(i)] for i in keys]))
    followed = dict(find_between(recorded, joined, others, progress))
    for frame in others.tolist():
        if frame in followed:
            T[frame] = followed[frame]
            continue
        after = int(np.clip(np.searchsorted(keys, frame), 1, len(keys) - 1))
        a, b = int(keys[after - 1]), int(keys[after])
        near = a if abs(frame - a) <= abs(frame - b) else b
        was, now = (np.linalg.norm(each[b, :3, 3] - each[a, :3, 3]) for each in (recorded.T_map_cam, T))
        step = se3.inverse(recorded.T_map_cam[near]) @ recorded.T_map_cam[frame]
        step[:3, 3] *= now / was if was > 0 else 1.0
        T[frame] = T[near] @ step
    return T
