"""Recordings as sequences of frames, and snippets: the few neighbours that depth and motion are learnt from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pose2rgbd_ros.dataset.frame_maps import SealedFrameError, Shapes, frame_maps, require_readable
from pose2rgbd_ros.dataset.splits import FEWEST_FRAMES, Split, held_out_segments
from pose2rgbd_ros.depth_from_images.photometric import area_shares, intrinsics_resized
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float32, Float64, Int64, UInt8
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.geometry.depth import resize_depth, resize_nearest

# A longer step between frames, in times the median one of the sequence, is a gap that no snippet crosses.
LONGEST_STEP = 4.0
_QUIET_FRAMES = 200
_THREADS = 8
_RGB, _DEPTH, _READABLE = "rgb.u8", "depth.f32", "readable.u8"
FORMAT_VERSION = 2
TRAIN, CHOOSE, JUDGE = 1, 2, 3  # the set of a frame; 0: none


@dataclass(frozen=True, eq=False)
class Sequence:
    """Frames of one recording in time order, wherever they come from.

    Attributes:
        name: what tells it from others of the same run.
        stamps_ns: (N,) strictly increasing.
        camera: of the images as they come, lens and all; `camera_from` says in words where its intrinsics come from.
        read_rgb: number of a frame -> (H, W, 3) uint8. UserError: it cannot be read.
        read_depth: the same for true depth (h, w) along the optical axis, NaN unknown; None: there is none.
        read_published_depth: the same as public evaluations of the source count it, where that is something else.
        depth_kind: "metric" (m) or "relative".
        T_map_cam: (N, 4, 4) poses, NaN where unknown; None: all unknown. Nothing learns from them.
        split: which frames train, choose and judge, where the source says so.
        state: changes when the files do, so that nothing is made from old ones.
        cache: folder for what is made from the frames.
        in_order: frames are quick to read one after the other only, as in a video.
        notes: what was assumed, in words.
    """

    name: str
    stamps_ns: Int64
    camera: Camera
    read_rgb: Callable[[int], UInt8]
    cache: Path
    state: str
    read_depth: Callable[[int], Float32] | None = None
    depth_kind: Literal["metric", "relative"] = "metric"
    T_map_cam: Float64 | None = None
    split: Split | None = None
    camera_from: str = "as recorded"
    in_order: bool = False
    notes: tuple[str, ...] = ()
    read_published_depth: Callable[[int], Float32] | None = None

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def rgb(self, index: int) -> UInt8:
        """(H, W, 3) uint8 of a frame. UserError: it cannot be read, or is of another size than the camera's."""
        image = self.read_rgb(index)
        if image.shape[:2] != (self.camera.height, self.camera.width):
            raise UserError(
                f"frame {index} of {self.name} has {image.shape[1]} x {image.shape[0]} pixels, the sequence's camera "
                f"{self.camera.width} x {self.camera.height}; images of another size are a sequence of their own"
            )
        return image

    def depth(self, index: int, published: bool = False) -> Float32 | None:
        """True depth (h, w) of a frame, NaN unknown; None where the sequence has none.

        published: as public evaluations count it, for figures to compare with theirs.
        """
        read = self.read_published_depth if published and self.read_published_depth is not None else self.read_depth
        return None if read is None else read(index)


class SnippetBatch(NamedTuple):
    """B snippets of N images.

    images: (B, N, 3, H, W) float32 0..1, in time order. K: (B, 3, 3) float32 intrinsics of these images, pixel centres
        at integers, no distortion. target: index in N of the frame whose depth is wanted, the middle one; of two the
        first. depth: (B, H, W) float32 true depth of the target, NaN unknown, and T_tgt_i: (B, N, 4, 4) float32 true
        poses of the cameras in the target's, in depth's unit; None for whoever learns from images alone.
    """

    images: Tensor
    K: Tensor
    target: int
    depth: Tensor | None = None
    T_tgt_i: Tensor | None = None


@dataclass(frozen=True)
class Augmentation:
    """How training images are changed at random, K with them.

    zoom: the batch is enlarged by up to this, in x and in y independently, and cropped at a random place (SfMLearner).
    flip: each snippet is mirrored with a probability of one half, the principal point with it.
    """

    zoom: float = 1.15
    flip: bool = False


@dataclass(frozen=True, eq=False)
class SnippetData:
    """Frames of one or several sequences, numbered through, and the snippets among them.

    A snippet is `frames` images, `stride` apart, of one sequence, without a gap of time or an unreadable image between
    them and all of one set of the split; it is named by its target frame. Images are undistorted.

    Attributes:
        size: height, width.
        sequence: (N,) number of each frame's sequence; `stamps_ns`: (N,).
        split: targets of whole snippets that train, choose and judge.
        sets: (N,) of each frame: TRAIN, CHOOSE, JUDGE or 0.
        runs: (N,) number of the stretch without a gap that each frame lies in; -1 of one that cannot be read.
        notes: what is worth knowing about the sources, in words.
        truth: whether true depth and poses may only judge, are part of the batches, or cannot be had at all.
    """

    sequences: list[Sequence]
    size: tuple[int, int]
    frames: int
    stride: int
    sequence: Int64
    stamps_ns: Int64
    split: Split
    sets: AnyArray
    runs: Int64
    notes: list[str]
    _maps: list[_Maps] = field(repr=False)
    _first: Int64 = field(repr=False)  # number of the first frame of each sequence
    _readable: Bool = field(repr=False)
    truth: Literal["judges", "teaches", "hidden"] = "judges"

    @classmethod
    def of(
        cls,
        sequences: list[Sequence],
        size: tuple[int, int],
        frames: int = 3,
        stride: int = 1,
        split: Literal["auto", "dataset", "segments"] = "auto",
        test_fraction: float = 0.2,
        seed: int = 0,
    ) -> SnippetData:
        """Snippets of sequences at (height, width) `size`; the images are prepared once, on disk.

        Args:
            split: "dataset": the sequences' own; "segments": stretches of track held out of each; "auto": its own where
                a sequence has one.

        Raises:
            UserError: an impossible setting, an uncalibrated camera, no readable frame, or no snippet to train on.
        """
        check_snippet(frames, stride)
        if not sequences:
            raise UserError("there are no sequences to take snippets from")
        sequences = _told_apart(sequences)
        maps = [_maps(each, size) for each in sequences]
        lengths = [len(each) for each in sequences]
        first = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        parts = [_split_of(each, split, test_fraction, seed) for each in sequences]
        readable = np.concatenate([each.readable for each in maps])
        runs = _runs([each.stamps_ns for each in sequences], readable)
        sets = np.concatenate([_sets(part, length) for part, length in zip(parts, lengths, strict=True)])
        targets = _targets(runs, sets, frames, stride)
        if not len(targets[TRAIN]):
            raise UserError(_why_none(sequences, maps, runs, frames, stride))
        return cls(
            sequences,
            size,
            frames,
            stride,
            np.repeat(np.arange(len(sequences)), lengths),
            np.concatenate([each.stamps_ns for each in sequences]),
            Split(
                targets[TRAIN],
                targets[CHOOSE],
                targets[JUDGE],
                "sequences",
                {each.name: part.to_dict() for each, part in zip(sequences, parts, strict=True)},
            ),
            sets,
            runs,
            [note for each, made in zip(sequences, maps, strict=True) for note in (*each.notes, *_notes(each, made))],
            maps,
            first,
            readable,
        )

    @property
    def target(self) -> int:
        """Place of the target in a snippet."""
        return target_of(self.frames)

    @property
    def camera(self) -> Camera:
        """Of the images as they are given, of the first sequence; others may differ, see the K of a batch."""
        return self.camera_of(0)

    def camera_of(self, sequence: int) -> Camera:
        """Of the images of one of the sequences, by its number."""
        return self._maps[sequence].camera

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def for_training(self, supervised: bool = False) -> SnippetData:
        """The frames that train, and no others: to read another is a fault of the program, and so it is to ask for
        true depth or poses unless `supervised`."""
        return replace(
            self, _readable=self._readable & (self.sets == TRAIN), truth="teaches" if supervised else "hidden"
        )

    def for_judging(self) -> SnippetData:
        """The same snippets whose batches bring the truth that is known."""
        return replace(self, truth="teaches")

    def with_truth(self) -> SnippetData:
        """Those snippets that train, choose and judge whose target has true depth and whose frames have true poses.

        UserError: none that trains; or depth and poses are not in one unit.
        """
        relative = [each.name for each in self.sequences if each.read_depth and each.depth_kind != "metric"]
        if relative:
            raise UserError(
                f"{', '.join(relative)}: depth is relative, so that it does not fit the poses; this model learns from "
                "depth in metres"
            )
        train, choose, judge = map(self._known, (self.split.train, self.split.choose, self.split.judge))
        if not len(train):
            where = ", ".join(each.name for each in self.sequences)
            lacks = [
                what
                for what, has in (
                    ("true depth", any(each.depth is not None for each in self._maps)),
                    ("poses", any(each.T_map_cam is not None for each in self.sequences)),
                )
                if not has
            ]
            raise UserError(
                f"{where}: {' and '.join(lacks) or 'true depth beside the poses of all images of a snippet'} to learn "
                "from is missing; this model is trained on RGB-D recordings with poses (a dataset with depth, KITTI, "
                "TUM, pose2rgbd sim dataset) and then used on any video"
            )
        return replace(self, split=replace(self.split, train=train, choose=choose, judge=judge))

    def _known(self, targets: Int64) -> Int64:
        """Those targets (M,) whose truth is known."""
        if not len(targets):
            return targets
        posed = np.asarray(np.isfinite(self.poses(self.members(targets).ravel())).reshape(len(targets), -1).all(axis=1))
        deep = [
            (depth := self._of(int(i)).depth) is not None and bool(np.isfinite(depth[self._local(int(i))]).any())
            for i in targets
        ]
        return targets[posed & np.array(deep)]

    def without_judges(self) -> SnippetData:
        """The frames that train or choose; those that judge cannot be read."""
        return replace(self, _readable=self._readable & (self.sets != JUDGE))

    def members(self, indices: AnyArray) -> Int64:
        """Numbers (B, N) of the frames of snippets by their targets (B,)."""
        offsets = (np.arange(self.frames) - self.target) * self.stride
        return np.asarray(indices, np.int64)[:, None] + offsets

    def batch(self, indices: AnyArray, augment: bool | Augmentation = False) -> SnippetBatch:
        """Snippets by their targets (B,). Augmentation draws from PyTorch's generator.

        SealedFrameError: a frame that must not be read here. IndexError: a target without a whole snippet.
        """
        members = self.members(indices)
        if members.size and (members.min() < 0 or members.max() >= len(self)):
            raise IndexError("a snippet reaches beyond the frames; targets are those of `split`")
        if (self.sequence[members] != self.sequence[members[:, :1]]).any():
            raise IndexError("a snippet reaches into another sequence; targets are those of `split`")
        images = torch.from_numpy(self.rgb(members.ravel())).reshape(*members.shape, *self.size, 3)
        cameras = torch.stack([torch.from_numpy(each.camera.K).float() for each in self._maps])
        batch = SnippetBatch(
            images.permute(0, 1, 4, 2, 3).float() / 255,
            cameras[torch.from_numpy(self.sequence[np.asarray(indices, np.int64)])],
            self.target,
            *(self._truth_of(members) if self.truth == "teaches" else (None, None)),
        )
        if not augment:
            return batch
        return augmented(batch, augment if isinstance(augment, Augmentation) else Augmentation())

    def _truth_of(self, members: Int64) -> tuple[Tensor | None, Tensor]:
        """See SnippetBatch: depth and T_tgt_i of snippets by their frames (B, N)."""
        depth = self.depth(members[:, self.target])
        T_map_cam = self.poses(members.ravel()).reshape(*members.shape, 4, 4)
        T_tgt_i = se3.inverse(T_map_cam[:, self.target])[:, None] @ T_map_cam
        return None if depth is None else torch.from_numpy(depth), torch.from_numpy(T_tgt_i).float()

    def rgb(self, indices: AnyArray) -> UInt8:
        """Images (B, H, W, 3) of frames (B,)."""
        require_readable(self._readable, indices)
        found = np.empty((len(indices), *self.size, 3), np.uint8)
        for place, index in enumerate(indices):
            found[place] = self._of(int(index)).rgb[self._local(int(index))]
        return found

    def depth(self, indices: AnyArray) -> Float32 | None:
        """True depth (B, H, W) of frames (B,), NaN unknown; None where no sequence knows any."""
        self._require_truth()
        if all(each.depth is None for each in self._maps):
            return None
        require_readable(self._readable, indices)
        found = np.full((len(indices), *self.size), np.nan, np.float32)
        for place, index in enumerate(indices):
            depth = self._of(int(index)).depth
            if depth is not None:
                found[place] = depth[self._local(int(index))]
        return found

    def poses(self, indices: AnyArray) -> Float64:
        """T_map_cam (B, 4, 4) of frames (B,), NaN unknown."""
        self._require_truth()
        found = np.full((len(indices), 4, 4), np.nan)
        for place, index in enumerate(indices):
            poses = self.sequences[int(self.sequence[index])].T_map_cam
            if poses is not None:
                found[place] = poses[self._local(int(index))]
        return found

    def _require_truth(self) -> None:
        if self.truth == "hidden":
            raise SealedFrameError("true depth and poses are not for a learner of images alone")

    def _of(self, index: int) -> _Maps:
        return self._maps[int(self.sequence[index])]

    def _local(self, index: int) -> int:
        return index - int(self._first[self.sequence[index]])


def check_snippet(frames: int, stride: int) -> None:
    """UserError for a snippet that cannot be."""
    if frames != 2 and (frames < 2 or frames % 2 == 0):
        raise UserError(f"a snippet of {frames} frames; it has 2, or an odd number whose middle one is the target")
    if stride < 1:
        raise UserError(f"a stride of {stride} frames; it must be at least 1")


def target_of(frames: int) -> int:
    """Place of the target among the frames of a snippet: the middle; of two the first."""
    return (frames - 1) // 2


def views_around(frame: int, allowed: Bool, runs: Int64, count: int, stride: int) -> list[int]:
    """The frames of a snippet of at most `count` views of `frame`, which stands where snippets have it.

    The others are nearest to it in time, some before it and some after it where there are such.

    Args:
        allowed: (N,) which frames may be looked at.
        runs: (N,) number of the stretch of each, beyond which nothing is looked at (see :func:`runs_without_gaps`).
        stride: they are multiples of so many frames away.
    """
    others: list[int] = []
    for step in range(1, count):
        for other in (frame + step * stride, frame - step * stride):
            usable = 0 <= other < len(runs) and runs[other] == runs[frame] and allowed[other]
            if usable and len(others) < count - 1:
                others.append(other)
    return around(frame, sorted(others))


def around(target: int, others: list[int]) -> list[int]:
    """The frames of a snippet of `others`, in time order, and the target, which stands where snippets have it."""
    place = target_of(len(others) + 1)
    return [*others[:place], target, *others[place:]]


def augmented(batch: SnippetBatch, how: Augmentation) -> SnippetBatch:
    """The batch enlarged, cropped and mirrored at random; all images of a snippet alike."""
    images, K, depth, T_tgt_i = batch.images, batch.K.clone(), batch.depth, batch.T_tgt_i
    height, width = images.shape[-2:]
    scale = 1 + torch.rand(2) * (how.zoom - 1)
    large_w, large_h = (max(side, int(side * s)) for side, s in zip((width, height), scale.tolist(), strict=True))
    x0, y0 = (int(torch.randint(large - side + 1, ())) for large, side in ((large_w, width), (large_h, height)))
    if (large_w, large_h) != (width, height):
        rows, columns = area_shares(height, large_h).to(images), area_shares(width, large_w).to(images)
        images = rows[y0 : y0 + height] @ images @ columns[x0 : x0 + width].T
        K = intrinsics_resized(K, (height, width), (large_h, large_w))
        K[:, 0, 2] -= x0
        K[:, 1, 2] -= y0
        if depth is not None:  # the nearest pixel's: a mean across an edge is the depth of nothing
            row, column = (
                ((torch.arange(side) + first + 0.5) * side / large).long()
                for side, first, large in ((height, y0, large_h), (width, x0, large_w))
            )
            depth = depth[:, row][:, :, column]
    if how.flip:
        mirrored = torch.rand(len(images)) < 0.5
        images = torch.where(mirrored[:, None, None, None, None], images.flip(-1), images)
        K[:, 0, 2] = torch.where(mirrored, width - 1 - K[:, 0, 2], K[:, 0, 2])
        if depth is not None:
            depth = torch.where(mirrored[:, None, None], depth.flip(-1), depth)
        if T_tgt_i is not None:
            mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
            T_tgt_i = torch.where(mirrored[:, None, None, None], mirror @ T_tgt_i @ mirror, T_tgt_i)
    return batch._replace(images=images, K=K, depth=depth, T_tgt_i=T_tgt_i)


# Which frames make snippets.


def _told_apart(sequences: list[Sequence]) -> list[Sequence]:
    """The sequences, those of a name that was there before numbered."""
    found: list[Sequence] = []
    for each in sequences:
        same = sum(other.name == each.name for other in sequences[: len(found)])
        found.append(replace(each, name=f"{each.name} {same + 1}") if same else each)
    return found


def _split_of(sequence: Sequence, name: str, test_fraction: float, seed: int) -> Split:
    """The split of a sequence's frames; one too short to hold a stretch out trains."""
    if name == "dataset" and sequence.split is None:
        raise UserError(f"{sequence.name} brings no split of its own; choose split 'segments'")
    if name != "segments" and sequence.split is not None:
        return sequence.split
    n = len(sequence)
    if n < FEWEST_FRAMES:
        nothing = np.zeros(0, np.int64)
        return Split(np.arange(n), nothing, nothing, "all train")
    poses = sequence.T_map_cam
    known = poses is not None and np.isfinite(poses).all()
    # Without poses a frame is as far from another as there are frames between them.
    position = poses[:, :3, 3] if poses is not None and known else np.eye(1, 3) * np.arange(n)[:, None]
    return held_out_segments(sequence.stamps_ns, position, fraction=test_fraction, seed=seed)


def _sets(split: Split, length: int) -> AnyArray:
    sets = np.zeros(length, np.int8)
    sets[split.train], sets[split.choose], sets[split.judge] = TRAIN, CHOOSE, JUDGE
    return sets


def runs_without_gaps(stamps_ns: Int64) -> Int64:
    """Number (N,) from 1 on of the stretch without a gap of time that each frame of a sequence lies in."""
    steps = np.diff(stamps_ns)
    gaps = steps > LONGEST_STEP * np.median(steps) if len(steps) else np.zeros(0, bool)
    return np.cumsum(np.concatenate([[True], gaps]))


def _runs(stamps_ns: list[Int64], readable: Bool) -> Int64:
    """Number (N,) of the run of each frame, without gaps of time; -1 for one that cannot be read."""
    each = [runs_without_gaps(stamps) for stamps in stamps_ns]
    before = np.cumsum([0, *(int(runs[-1]) for runs in each[:-1])])
    runs = np.concatenate([runs + first for runs, first in zip(each, before, strict=True)])
    return np.where(readable, runs, -1)


def _targets(runs: Int64, sets: AnyArray, frames: int, stride: int) -> dict[int, Int64]:
    """Targets of whole snippets by set."""
    n, target = len(runs), target_of(frames)
    reach = (frames - 1) * stride
    starts = np.arange(max(0, n - reach))
    whole = runs[starts] >= 0
    for place in range(frames):  # runs are numbered upwards: where two agree, there is no gap between them
        whole &= (runs[starts] == runs[starts + place * stride]) & (sets[starts] == sets[starts + place * stride])
    found = starts[whole] + target * stride
    return {which: found[sets[found] == which] for which in (TRAIN, CHOOSE, JUDGE)}


def _why_none(sequences: list[Sequence], maps: list[_Maps], runs: Int64, frames: int, stride: int) -> str:
    readable = sum(int(each.readable.sum()) for each in maps)
    where = ", ".join(each.name for each in sequences)
    longest = int(np.unique(runs[runs >= 0], return_counts=True)[1].max())
    needed = (frames - 1) * stride + 1
    problem = f"the longest run without a gap has {counted(longest, 'frame')}"
    if longest >= needed:
        problem = "its split leaves no stretch as long as that to train on"
    return (
        f"{where}: no snippet of {frames} frames, {stride} apart, among {counted(readable, 'readable frame')}: it "
        f"spans {needed}, {problem}; record more, or take --frames 2 --stride 1"
    )


# The images of a sequence, prepared once.


@dataclass(frozen=True, eq=False)
class _Maps:
    rgb: UInt8
    depth: Float32 | None
    readable: Bool
    camera: Camera


def _maps(sequence: Sequence, size: tuple[int, int]) -> _Maps:
    """Images, depth and camera of a sequence at a size, undistorted. UserError where no frame can be read."""
    height, width = size
    if min(size) < 1:
        raise UserError(f"images of {width} x {height} pixels; choose at least 1")
    if not sequence.camera.is_calibrated:
        raise UserError(f"{sequence.name} has no intrinsics; --hfov-deg gives its horizontal field of view")
    if not len(sequence):
        raise UserError(f"{sequence.name} holds no frames")
    n = len(sequence)
    shapes: Shapes = {_RGB: (np.uint8, (n, height, width, 3)), _READABLE: (np.uint8, (n,))}
    if sequence.read_depth is not None:
        shapes[_DEPTH] = (np.float32, (n, height, width))
    ideal = rectified(sequence.camera)
    lens = sequence.camera.to_dict() if sequence.camera.is_distorted else None  # another pinhole sees the same images
    facts = [FORMAT_VERSION, sequence.state, lens]
    state = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def fill(arrays: dict[str, Any]) -> None:
        _fill(sequence, size, ideal, arrays)

    maps = frame_maps(sequence.cache, f"snippets-{width}x{height}", state, shapes, fill)
    readable = np.asarray(maps[_READABLE], bool)
    if not readable.any():
        sequence.rgb(0)
        raise UserError(f"no frame of {sequence.name} can be read")
    return _Maps(maps[_RGB], maps.get(_DEPTH), readable, ideal.resized(width, height))


def _fill(sequence: Sequence, size: tuple[int, int], ideal: Camera, arrays: dict[str, Any]) -> None:
    camera = sequence.camera
    look_up = resample_map(camera, ideal) if ideal != camera else None

    def fill(i: int) -> None:
        try:
            image = sequence.rgb(i)
        except UserError:  # a damaged image is left out, and said (see _notes)
            return
        arrays[_RGB][i] = prepared(image, size, look_up)
        arrays[_READABLE][i] = True
        if _DEPTH in arrays:
            arrays[_DEPTH][i] = _prepared_depth(sequence, i, size, look_up)

    n = len(sequence)
    pool = ThreadPoolExecutor(1 if sequence.in_order else min(_THREADS, os.cpu_count() or 1))
    what = f"preparing {sequence.name}"
    quiet = True if n < _QUIET_FRAMES else None  # None: quiet where there is no terminal
    try:
        for _ in tqdm(pool.map(fill, range(n)), what, n, unit="frame", disable=quiet, leave=False):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def _prepared_depth(sequence: Sequence, index: int, size: tuple[int, int], look_up: Float32 | None) -> AnyArray:
    """Depth (H, W), undistorted and at a size; NaN throughout where it cannot be read."""
    try:
        depth = sequence.depth(index)
    except UserError:  # the image is good all the same
        depth = None
    if depth is None:
        return np.full(size, np.nan, np.float32)
    camera = sequence.camera
    if depth.shape != (camera.height, camera.width):
        depth = resize_nearest(depth, camera.width, camera.height)
    if look_up is not None:
        depth = resample(depth, look_up, nearest=True, fill=np.nan)
    return resize_depth(depth, size[1], size[0])


def prepared(image: UInt8, size: tuple[int, int], look_up: Float32 | None) -> UInt8:
    """An image (H, W, 3) undistorted by its map (see :func:`rectified`) and at (height, width) `size`."""
    if look_up is not None:
        image = resample(image, look_up, nearest=False)
    height, width = size
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    # INTER_AREA averages when shrinking; enlarged it would repeat pixels in blocks.
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=way), np.uint8)


def rectified(camera: Camera) -> Camera:
    """The ideal pinhole for a lens: as wide as can be without showing what the lens does not, at most three times
    narrower. The camera itself where it has no distortion.
    """
    if not camera.is_distorted:
        return camera
    small = camera.resized(96, max(1, round(96 * camera.height / camera.width)))

    def zoomed(of: Camera, zoom: float) -> Camera:
        return replace(of, fx=of.fx * zoom, fy=of.fy * zoom, distortion_model="none", distortion=())

    zooms = np.geomspace(1.0, 3.0, 56)
    fits = (zoom for zoom in zooms if np.isfinite(resample_map(small, zoomed(small, float(zoom)))).all())
    return zoomed(camera, float(next(fits, zooms[-1])))


def _notes(sequence: Sequence, maps: _Maps) -> list[str]:
    """What is to be known of the frames, in words."""
    damaged = np.flatnonzero(~maps.readable)
    notes = []
    if len(damaged):
        try:
            sequence.rgb(int(damaged[0]))
            why = "it was damaged when it was read first"
        except UserError as error:
            why = str(error)
        count = counted(len(damaged), "frame")
        notes.append(
            f"{sequence.name}: {count} of {len(sequence)} left out, no snippet crosses them (the first: {why})"
        )
    steps = np.diff(sequence.stamps_ns)
    gaps = int((steps > LONGEST_STEP * np.median(steps)).sum()) if len(steps) else 0
    if gaps:
        notes.append(f"{sequence.name}: {counted(gaps, 'gap')} of time, which no snippet crosses")
    return notes


def files_state(files: list[Path]) -> str:
    """A short hash that changes when files do."""
    facts = [(str(file), *((found.st_size, found.st_mtime_ns) if (found := _stat(file)) else ())) for file in files]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _stat(file: Path) -> os.stat_result | None:
    try:
        return file.stat()
    except OSError:
        return None
