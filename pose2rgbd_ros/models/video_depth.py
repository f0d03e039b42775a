"""What a trained model of video says: depth of every frame and the camera's track; and depth for a dataset.

A model knows no unit. Where a dataset's poses show how large one is, its depth becomes metres
(:class:`~pose2rgbd_ros.depth_from_images.multi_view.ScaledDepth`), and stays relative where they do not.
"""

from __future__ import annotations

import functools
import hashlib
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tqdm import tqdm

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset import layout, made_depth
from pose2rgbd_ros.dataset.encode import encode_png, read_image
from pose2rgbd_ros.dataset.meta import MadeDepth
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.depth_from_images import DepthFromImages, ImageSequence
from pose2rgbd_ros.depth_from_images.metric_scale import MetricScale, metric_scale
from pose2rgbd_ros.depth_from_images.multi_view import ScaledDepth
from pose2rgbd_ros.depth_from_images.odometry import ClassicalFlow, odometry
from pose2rgbd_ros.depth_from_images.snippets import (
    Sequence,
    prepared,
    rectified,
    runs_without_gaps,
    target_of,
    views_around,
)
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.formats.sequences import open_sequences
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64, Int64, UInt8
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.geometry.depth import DepthEstimate, resize_nearest
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training.checkpoint import VideoCheckpoint, load_video_checkpoint
from pose2rgbd_ros.training.config import ViewSettings
from pose2rgbd_ros.training.evaluators import write_samples
from pose2rgbd_ros.training.families import (
    MultiViewModel,
    VideoModel,
    build_model,
    depth_of_snippets,
    family_of,
    has_part,
    part_of,
    video_settings_of,
)
from pose2rgbd_ros.training.metrics import spread
from pose2rgbd_ros.training.pretrained import load_weights, read_weights
from pose2rgbd_ros.training.trainer import pick_device
from pose2rgbd_ros.training.video import depth_picture

logger = logging.getLogger(__name__)

DEPTH, COLOUR = layout.DEPTH["relative"], "colour"
FACTS, TRACK, SHEET = "infer.yaml", "trajectory.txt", "contact_sheet.png"
SHEET_FRAMES = 12
FOLLOWED_PX = 320  # of the images by which the camera is followed, for the unit of depth
STARTS = ("motion", "flat")
KEPT_DEPTHS = 128  # frames whose depth is kept while the unit is looked for


@dataclass(frozen=True, eq=False)
class TrainedDepth:
    """A model of video at work: a method of :class:`~pose2rgbd_ros.depth_from_images.DepthFromImages`.

    name: of the network. identity: of its weights. frames, stride: of the snippets whose motion it knows. mapped: what
    became of published weights, a table; "" of a run of our own. how: a model of several views is asked; start: whose
    depth it begins with, if `how` names a run.
    """

    model: VideoModel
    name: str
    identity: str
    frames: int
    stride: int
    device: str
    checkpoint: VideoCheckpoint | None = None
    mapped: str = ""
    how: ViewSettings = field(default_factory=ViewSettings)
    start: TrainedDepth | None = None

    @classmethod
    def of_run(cls, run: Path, device: str = "auto", how: ViewSettings | None = None) -> TrainedDepth:
        """The model of a run or checkpoint; `how` one of several views is asked.

        UserError: there is none, or it is one of a place, or of one image and asked for views.
        """
        how = how or ViewSettings()
        settings.check(how)
        checkpoint = load_video_checkpoint(run)
        snippet = checkpoint.provenance["snippet"]
        model: Any = checkpoint.build_model().to(device := pick_device(device))
        name = checkpoint.architecture["network"]
        if not how.is_default and not isinstance(model, MultiViewModel):
            raise UserError(f"{run} is {name}, which sees depth in one image: leave out --views, --iterations, --start")
        start = None if how.start in STARTS else cls.of_run(Path(how.start), device)
        if start is not None and start.views > 1:
            raise UserError(f"--start {how.start} needs several views itself; give the run of a model of one image")
        frames, stride = snippet["frames"], snippet["stride"]
        return cls(model, name, checkpoint.weights_sha256, frames, stride, device, checkpoint, "", how, start)

    @classmethod
    def of_weights(cls, files: tuple[Path, ...], model: str, width: float = 1.0, device: str = "auto") -> TrainedDepth:
        """A network with published weights, at the size of its paper; what was taken of them is `mapped`.

        UserError: no such model, or files that are not weights of it.
        """
        video_settings_of(model)
        if not has_part(family_of(model), "pretrained"):
            raise UserError(f"{model} has no published weights that are known here")
        tensors = {name: tensor for file in files for name, tensor in read_weights(file).items()}
        architecture = part_of(family_of(model), "pretrained").architecture(model, width, tensors)
        built: Any = build_model(architecture)
        mapped = load_weights(built, files)
        identity = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        frames = getattr(built.config, "frames", 2)
        device = pick_device(device)
        return cls(built.to(device).eval(), model, identity, frames, 1, device, None, mapped.table())

    @torch.inference_mode()
    def depth_of(self, image: AnyArray, look_up: Float32 | None) -> Float32:
        """Depth (h, w) at the model's size of an image (H, W, 3) uint8; `look_up` undistorts it."""
        tensor = self._tensor(self.small(image, look_up))[None]
        return np.asarray(self.model.depth(tensor)[0].float().cpu().numpy(), np.float32)

    @property
    def views(self) -> int:
        """Images that one depth is made from."""
        return self.how.views or self.frames if isinstance(self.model, MultiViewModel) else 1

    @torch.inference_mode()
    def depth_of_views(
        self, images: list[AnyArray], K: Float64, T_tgt_i: Float64 | None = None
    ) -> tuple[Float32, Float32]:
        """Depth and confidence (h, w) of the target among small images (h, w, 3), which stands as in a snippet.

        T_tgt_i: (N, 4, 4) their poses in its camera, in metres, where they are known; depth is then, too.
        """
        snippet = torch.stack([self._tensor(image) for image in images])[None]
        start: Any = self.how.start
        if self.start is not None:
            target = images[target_of(len(images))]
            start = torch.from_numpy(self.start.depth_of(prepared(target, self.start.model.image_size, None), None))
            start = start[None].to(self.device)
        known = None if T_tgt_i is None else torch.from_numpy(T_tgt_i).float()[None].to(self.device)
        found = depth_of_snippets(
            self.model,
            snippet,
            torch.from_numpy(K).float()[None].to(self.device),
            T_tgt_i=known,
            iterations=self.how.iterations,
            start=start,
        )
        depth, confidence = (each[0].float().cpu().numpy() for each in (found.depth, found.confidence))
        return np.asarray(depth, np.float32), np.asarray(confidence, np.float32)

    @torch.inference_mode()
    def step(self, images: list[AnyArray], K: Float64, at: int) -> Float64:
        """Pose (4, 4) of the camera of image `at` + 1 in that of image `at`, of a snippet of small images."""
        snippet = torch.stack([self._tensor(image) for image in images])[None]
        T_tgt_i = self.model.motions(snippet, torch.from_numpy(K).float()[None].to(self.device))
        T = T_tgt_i[0].double().cpu().numpy()
        return np.asarray(se3.inverse(T[at]) @ T[at + 1], np.float64)

    def small(self, image: AnyArray, look_up: Float32 | None) -> AnyArray:
        """The image undistorted, at the model's size."""
        return prepared(image, self.model.image_size, look_up)

    def camera(self, camera: Camera) -> Camera:
        """The ideal camera of the model's images where those of `camera` are given."""
        height, width = self.model.image_size
        return rectified(camera).resized(width, height)

    def estimate(
        self, rgb: ImageSequence, camera: Camera, T_map_cam: Float64 | None, frames: Int64
    ) -> Iterator[DepthEstimate]:
        """See :class:`~pose2rgbd_ros.depth_from_images.DepthFromImages`: relative depth at the model's size, as the
        lens sees. Confidence is 1 wherever depth is."""
        lens = Lens.of(camera, self)
        for frame in map(int, frames):
            found = lens.as_taken(self.depth_of(np.asarray(rgb[frame]), lens.undistort))
            yield DepthEstimate(frame, found, np.isfinite(found).astype(np.float32), unit_m=None)

    def _tensor(self, image: AnyArray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1).float() / 255


# Depth of a dataset that has none.


def add_trained_depth(folder: Path, run: Path, device: str = "auto", progress: bool = True) -> Dataset:
    """A model's depth for every frame of a dataset. Interrupted and called again it goes on.

    It is in metres where the poses of the frames that train show the unit, else relative. A model of several views is
    given the poses, and its depth is in their unit.

    Raises:
        UserError: no such run or dataset; depth was recorded; the model learnt from frames that the dataset holds out.
    """
    method = TrainedDepth.of_run(run, device)
    assert method.checkpoint is not None
    _check_held_out(method.checkpoint, Dataset(folder), run)
    if method.views > 1:
        return _add_mapped_depth(folder, method, progress)
    return add_relative_depth(folder, method, {"weights": method.identity[:16]}, progress)


def add_relative_depth(folder: Path, method: DepthFromImages, facts: dict[str, Any], progress: bool = True) -> Dataset:
    """Depth of a method that knows no unit for every frame of a dataset, in metres where its poses show the unit.

    Of poses that have no unit themselves it gets theirs, and stays relative. `facts` tell two such methods apart.

    Raises:
        UserError: no such dataset, or its depth was recorded.
    """
    dataset = Dataset(folder)
    unit, found = _unit(method, dataset)
    unit_m = unit if dataset.meta.has_metres else None
    factor = 1.0 if unit is None or unit_m is not None else unit
    facts = {**facts, "unit_m": unit_m, **found}
    sigma = found.get("sigma") if unit_m is not None else None

    def estimate(dataset: Dataset, rank: Int64, frames: Int64) -> Iterator[DepthEstimate]:
        for found in method.estimate(_Pictures(dataset), dataset.camera, dataset.T_map_cam, frames):
            yield replace(found, depth=found.depth * np.float32(factor), unit_m=unit_m, unit_sigma=sigma)

    return made_depth.add(folder, MadeDepth(method.name, facts, sigma), estimate, progress)


def _add_mapped_depth(folder: Path, method: TrainedDepth, progress: bool) -> Dataset:
    """Depth of every frame from views at the dataset's poses, which it has its unit from."""
    dataset = Dataset(folder)
    if len(dataset) < method.views:
        raise UserError(
            f"{folder} has {counted(len(dataset), 'frame')}, fewer than the {method.views} views of a depth"
        )
    unit_m = 1.0 if dataset.meta.has_metres else None
    K, runs = method.camera(dataset.camera).K, runs_without_gaps(dataset.stamps_ns)
    lens = Lens.of(dataset.camera, method)

    def estimate(dataset: Dataset, rank: Int64, frames: Int64) -> Iterator[DepthEstimate]:
        @functools.lru_cache(2 * method.views * method.stride)
        def small(index: int) -> AnyArray:
            return method.small(dataset.rgb(index), lens.undistort)

        for frame in map(int, frames):
            places = views_around(frame, rank <= rank[frame], runs, method.views, method.stride)
            T_tgt_i = se3.inverse(dataset.T_map_cam[frame]) @ dataset.T_map_cam[places]
            if len(places) > 1:
                found = method.depth_of_views([small(each) for each in places], K, T_tgt_i)
            else:  # alone it shows nothing
                found = (
                    np.full(method.model.image_size, np.nan, np.float32),
                    np.zeros(method.model.image_size, np.float32),
                )
            depth, confidence = (lens.as_taken(each) for each in found)
            yield DepthEstimate(frame, depth, np.where(np.isfinite(depth), confidence, 0.0).astype(np.float32), unit_m)

    facts = {"weights": method.identity[:16], "views": method.views, "poses": "the dataset's", "unit_m": unit_m}
    return made_depth.add(folder, MadeDepth(method.name, facts), estimate, progress)


@dataclass(frozen=True, eq=False)
class Lens:
    """How images of a lens become those that a model sees, and depth what the lens would have; None: as they are."""

    undistort: Float32 | None
    distort: Float32 | None

    @classmethod
    def of(cls, camera: Camera, method: TrainedDepth) -> Lens:
        """Of a camera and the images of a model."""
        if not camera.is_distorted:
            return cls(None, None)
        height, width = method.model.image_size
        undistort = resample_map(camera, rectified(camera))
        return cls(undistort, resample_map(method.camera(camera), camera.resized(width, height)))

    def as_taken(self, values: Float32) -> Float32:
        """A map (h, w) of the undistorted image as the lens would have it, NaN where the image does not reach."""
        return values if self.distort is None else resample(values, self.distort, nearest=True, fill=np.nan)


def _check_held_out(checkpoint: VideoCheckpoint, dataset: Dataset, run: Path) -> None:
    rank, _ = made_depth.pictures_allowed(dataset)
    name = dataset.path.resolve().name
    held_out = int((checkpoint.trained_on(name, dataset.stamps_ns) & (rank > 0)).sum())
    if held_out:
        raise UserError(
            f"{run} learnt from {counted(held_out, 'frame')} that {dataset.path} holds out: figures of what learns "
            "from its depth would flatter. Train it with the dataset's split (--split dataset; on segments: --seed 0)"
        )


def _unit(method: DepthFromImages, dataset: Dataset) -> tuple[float | None, dict[str, Any]]:
    """Units of the poses in one unit of the method's depth, by the frames that train, and what is known of it.

    By the agreement of neighbouring views where poses are exact enough for that, else by baselines over the flight.
    None where neither shows it, with the reasons.
    """
    rank, _ = made_depth.pictures_allowed(dataset)
    train = np.flatnonzero(rank == 0)
    rgb, T_map_cam = _Pictures(dataset, train), dataset.T_map_cam[train]

    @functools.lru_cache(KEPT_DEPTHS)
    def depth_of(index: int) -> Float32:
        (found,) = method.estimate(rgb, dataset.camera, T_map_cam, np.array([index]))
        return found.depth

    try:
        depth: Any = _Numbered(depth_of, len(train))
        return ScaledDepth(depth).unit_m(rgb, dataset.camera, T_map_cam), {}
    except UserError as error:
        by_views = str(error)
    try:
        found = depth_scale(depth_of, rgb, dataset.camera, T_map_cam, dataset.stamps_ns[train])
    except UserError as error:
        logger.warning("depth stays without a unit: %s; by baselines: %s", by_views, error)
        return None, {"relative_because": str(error)}
    logger.info("%s", found.summary())
    return found.metres_per_unit, {**found.facts(), "sigma": round(found.sigma, 5)}


def depth_scale(
    depth_of: Callable[[int], Float32], rgb: ImageSequence, camera: Camera, T_map_cam: Float64, stamps_ns: Int64
) -> MetricScale:
    """Metres in one unit of relative depth: optical flow follows the camera in depth's own unit, recorded poses say how
    far that was.

    Args:
        depth_of: (h, w) of image `index`, as the lens sees, NaN unknown.
        rgb: N images of `camera` in time order; T_map_cam: (N, 4, 4) recorded; stamps_ns: (N,).

    UserError: neither shows it, with the reason.
    """
    scale = min(1.0, FOLLOWED_PX / camera.width)
    small = camera.resized(round(camera.width * scale), round(camera.height * scale))
    undistort = resample_map(small, replace(small, distortion_model="none", distortion=()))
    latest = -1

    def images() -> Iterator[UInt8]:
        nonlocal latest
        for index in range(len(rgb)):
            latest = index
            yield np.asarray(
                cv2.resize(np.asarray(rgb[index]), (small.width, small.height), interpolation=cv2.INTER_AREA)
            )

    def depth(_: UInt8) -> Float32:
        found = resize_nearest(depth_of(latest), small.width, small.height)
        return resample(found, undistort, nearest=True, fill=np.nan) if small.is_distorted else found

    track = odometry(images(), small, ClassicalFlow(), depth)
    known = np.array([motion.kind != "lost" and motion.has_scale for motion in track.motions])
    return metric_scale(track.T_start_cam, T_map_cam, stamps_ns, known)


@dataclass(frozen=True, eq=False)
class _Numbered:
    """Maps (h, w) by number, made when asked."""

    make: Callable[[int], Float32]
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Float32:
        return self.make(int(index))


class _Pictures:
    """Colour of some of a dataset's frames, or of all, decoded when asked."""

    def __init__(self, dataset: Dataset, frames: Int64 | None = None) -> None:
        self._dataset = dataset
        self._frames = np.arange(len(dataset)) if frames is None else frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> AnyArray:
        return self._dataset.rgb(int(self._frames[index]))


# Depth and track of a video, as files.


@dataclass(frozen=True)
class Inferred:
    """What was written of a sequence: depth of `frames` images, and a track of `poses`; `notes` in words."""

    out: Path
    frames: int
    poses: int
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """For the terminal."""
        lines = [
            f"{self.out}: depth of {counted(self.frames, 'frame')} in {DEPTH}/ (float32, no unit) and {COLOUR}/, a "
            f"track of {counted(self.poses, 'pose')} in {TRACK} (TUM, in depth's unit)",
            *(f"note: {note}" for note in self.notes),
            f"look at   {self.out / SHEET}",
        ]
        return "\n".join(lines)


def infer(
    method: TrainedDepth,
    source: Path,
    out: Path,
    stride: int | None = None,
    hfov_deg: float | None = None,
    progress: bool = True,
) -> Iterator[Inferred]:
    """Depth of every frame of a source and the camera's track, a folder for each of its sequences where there are more.

    One image after the other is read and forgotten. Interrupted and called again it goes on.

    Raises:
        UserError: no such source, fewer frames than a snippet, a folder that holds something else, a full disk.
    """
    sequences = open_sequences(source, hfov_deg)
    for sequence in sequences:
        folder = out if len(sequences) == 1 else out / sequence.name
        with os_errors(f"{folder} cannot be written", "is the disk full?"):
            yield _infer(method, sequence, folder, stride or method.stride, progress)


def _infer(method: TrainedDepth, sequence: Sequence, out: Path, stride: int, progress: bool) -> Inferred:
    n = len(sequence)
    if n < (method.frames - 1) * stride + 1:
        raise UserError(
            f"{sequence.name} has {counted(n, 'frame')}; a snippet of {method.frames} images, {stride} apart, needs "
            f"{(method.frames - 1) * stride + 1}; take a smaller --stride"
        )
    _begin(method, sequence, out, stride)
    camera = sequence.camera
    look_up = resample_map(camera, rectified(camera)) if camera.is_distorted else None
    track = _Track(out / TRACK, sequence.stamps_ns[::stride])
    window = _Window(method, sequence, stride, track)
    frames = _Frames(method, sequence, stride, out)
    damaged: list[str] = []
    for index in tqdm(range(n), "depth", unit="frame", disable=None if progress else True):
        if frames.needs(index) or window.needs(index):
            try:
                small = method.small(sequence.rgb(index), look_up)
            except UserError as error:
                damaged.append(str(error))
                small = None
            window.add(index, small)
            frames.add(index, small)
        frames.write(index - frames.reach)
    for index in range(max(0, n - frames.reach), n):
        frames.write(index)
    track.close()
    _draw_sheet(method, sequence, out, look_up)
    notes = list(sequence.notes)
    if damaged:
        notes.append(
            f"{counted(len(damaged), 'frame')} could not be read (the first: {damaged[0]}); the track goes on across "
            "them as it was before"
        )
    return Inferred(out, n - len(damaged), len(track), tuple(notes))


def _begin(method: TrainedDepth, sequence: Sequence, out: Path, stride: int) -> None:
    """Make the folder, or see that it holds the same job. UserError: it holds something else."""
    facts = {
        "network": method.name,
        "weights": method.identity,
        "sequence": sequence.name,
        "state": sequence.state,
        "camera": sequence.camera.to_dict(),
        "camera_from": sequence.camera_from,
        "stride": stride,
        "depth": "relative",
    }
    if method.views > 1:
        facts["how"] = {**settings.to_yaml_dict(method.how), "views": method.views}
    if (out / FACTS).is_file():
        before = read_yaml(out / FACTS)
        changed = [name for name, value in facts.items() if before.get(name) != value]
        if changed:
            raise UserError(f"{out} holds depth of another {', '.join(changed)}; remove it, or choose another --out")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty; choose another --out")
    for folder in (DEPTH, COLOUR, *([layout.CONFIDENCE] if method.views > 1 else [])):
        (out / folder).mkdir(parents=True, exist_ok=True)
    write_yaml(out / FACTS, facts)


class _Track:
    """The poses of a camera in that of the first frame, appended to a file of lines as TUM has them.

    A line that was cut short is written again.
    """

    def __init__(self, path: Path, stamps_ns: Int64) -> None:
        self._stamps_ns = stamps_ns
        whole = path.read_bytes().rpartition(b"\n")[0].decode().splitlines() if path.is_file() else []
        lines = [line for line in whole if not line.startswith("#")]
        layout.atomic_write(path, "".join(f"{line}\n" for line in whole).encode())
        self._count = len(lines)
        pose = layout.parse_pose(lines[-1]) if lines else None
        self._T = np.eye(4) if pose is None else se3.make(pose[:3], pose[3:])
        self._last = np.eye(4)
        self._stream = path.open("a")
        if not whole:
            self._stream.write("# stamp tx ty tz qx qy qz qw: T_first_cam, in no unit\n")
            self._put()

    def __len__(self) -> int:
        return self._count

    def step(self, T_here_next: Float64 | None) -> None:
        """Go on by a step; None: unknown, as the one before."""
        self._last = self._last if T_here_next is None else T_here_next
        self._T = self._T @ self._last
        self._put()

    def close(self) -> None:
        self._stream.close()

    def _put(self) -> None:
        self._stream.write(layout.pose_line(int(self._stamps_ns[self._count]), self._T))
        self._stream.flush()
        self._count += 1


class _Frames:
    """The latest small images, of which depth of a frame is made as soon as the views around it are there."""

    def __init__(self, method: TrainedDepth, sequence: Sequence, stride: int, out: Path) -> None:
        self._method, self._stride, self._out = method, stride, out
        self._stamps_ns, self._K = sequence.stamps_ns, method.camera(sequence.camera).K
        self._runs = runs_without_gaps(sequence.stamps_ns)
        self.reach = (method.views - 1) * stride  # frames ahead that may be looked at
        self._images: dict[int, AnyArray] = {}

    def needs(self, index: int) -> bool:
        """Whether depth that is still to be made may look at a frame."""
        around = range(max(0, index - self.reach), min(len(self._stamps_ns), index + self.reach + 1))
        return any(not layout.has_content(self._colour(each)) for each in around)

    def add(self, index: int, image: AnyArray | None) -> None:
        """Frames come in order; None: it could not be read."""
        if image is not None:
            self._images[index] = image
        for old in [old for old in self._images if old < index - 2 * self.reach]:
            del self._images[old]

    def write(self, index: int) -> None:
        """Depth of a frame, unless it is there or the frame could not be read."""
        if index not in self._images or layout.has_content(self._colour(index)):
            return
        there = np.zeros(len(self._runs), bool)
        there[list(self._images)] = True
        places = views_around(index, there, self._runs, self._method.views, self._stride)
        depth, confidence = self._method.depth_of_views([self._images[each] for each in places], self._K)
        data = io.BytesIO()
        np.save(data, depth)
        name = str(self._stamps_ns[index])
        layout.atomic_write(self._out / DEPTH / f"{name}.npy", data.getvalue())
        if self._method.views > 1:
            sure = encode_png(np.rint(255 * confidence).astype(np.uint8))
            layout.atomic_write(self._out / layout.CONFIDENCE / f"{name}.png", sure)
        layout.atomic_write(self._colour(index), encode_png(depth_picture(depth)))

    def _colour(self, index: int) -> Path:
        return self._out / COLOUR / f"{self._stamps_ns[index]}.png"


class _Window:
    """The latest small images, of which steps of the track are made as soon as a snippet is whole."""

    def __init__(self, method: TrainedDepth, sequence: Sequence, stride: int, track: _Track) -> None:
        self._method, self._stride, self._track = method, stride, track
        self._K = method.camera(sequence.camera).K
        self._count = -(-len(sequence) // stride)  # poses of the track
        self._images: dict[int, AnyArray | None] = {}

    def needs(self, index: int) -> bool:
        """Whether a frame is part of a step that is still to be made."""
        place, off = divmod(index, self._stride)
        return off == 0 and len(self._track) < self._count and place >= self._first(len(self._track) - 1)

    def add(self, index: int, image: AnyArray | None) -> None:
        """Frames come in order; None: it could not be read."""
        if not self.needs(index):
            return
        self._images[index // self._stride] = image
        while len(self._track) < self._count:
            here = len(self._track) - 1
            first = self._first(here)
            places = range(first, first + self._method.frames)
            if places[-1] not in self._images:
                return
            images = [self._images[place] for place in places]
            readable = [each for each in images if each is not None]
            whole = len(readable) == len(images)
            self._track.step(self._method.step(readable, self._K, here - first) if whole else None)
            for place in [place for place in self._images if place < first]:
                del self._images[place]

    def _first(self, here: int) -> int:
        """First place of the snippet that shows the step from `here`, in whose middle it lies wherever that can be."""
        return int(np.clip(here - target_of(self._method.frames), 0, self._count - self._method.frames))


def _draw_sheet(method: TrainedDepth, sequence: Sequence, out: Path, look_up: Float32 | None) -> None:
    """Images above their depth."""
    rows: list[list[AnyArray]] = [[], [], [], []]
    chosen = spread(np.arange(len(sequence)), SHEET_FRAMES)
    for place, index in enumerate(chosen):
        image: AnyArray = np.full((*method.model.image_size, 3), 255, np.uint8)
        depth, file = image, out / COLOUR / f"{sequence.stamps_ns[index]}.png"
        if file.is_file():
            image = method.small(sequence.rgb(int(index)), look_up)
            depth = cv2.cvtColor(read_image(file, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        lower = 2 * (place >= len(chosen) // 2)
        rows[lower].append(image)
        rows[lower + 1].append(depth)
    if len(chosen) % 2:  # both halves are equally long
        for row in rows[:2]:
            row.append(np.full((*method.model.image_size, 3), 255, np.uint8))
    write_samples(out / SHEET, [row for row in rows if row])
