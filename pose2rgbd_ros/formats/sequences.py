"""Any source of frames as sequences to learn depth and motion from: datasets, videos, folders of other tools."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.encode import BadFrame, read_image
from pose2rgbd_ros.dataset.frame_maps import users_cache
from pose2rgbd_ros.dataset.made_depth import without_made_depth
from pose2rgbd_ros.dataset.reader import Dataset, cache_root
from pose2rgbd_ros.dataset.reader import state as state_of_dataset
from pose2rgbd_ros.dataset.splits import default_split, split_of_words
from pose2rgbd_ros.depth_from_images.snippets import Sequence, files_state
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.formats import kitti, kitti_raw, reading
from pose2rgbd_ros.formats.registry import FORMATS, recognise
from pose2rgbd_ros.formats.scene import Scene, View, camera_of_text, stamps_from_names, turned_up
from pose2rgbd_ros.formats.settings import ImportConfig
from pose2rgbd_ros.geometry.arrays import Float32, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.streams.samples import DepthSample
from pose2rgbd_ros.streams.video_file import SECOND, SUFFIXES, VideoFile, VideoFrame

# Of a lens nobody knows: between a phone's and an action camera's.
GUESSED_HFOV_DEG = 65.0
_RATE_HZ = 30.0
_FAR_NS = 2 * SECOND  # farther ahead, a video is entered anew at a key frame
# NYU Depth V2's colour camera at 640 x 480, from the benchmark's toolbox, whose images were undistorted.
_NYU_LENS = "518.857901 519.469611 325.582449 253.736166"


def open_sequences(path: Path | str, hfov_deg: float | None = None) -> list[Sequence]:
    """The sequences of a source: a dataset of ours, a video, KITTI raw (a day, a drive, a camera) or odometry, TUM
    RGB-D, NYU (folders of rgb_N and sync_depth_N), another format that `pose2rgbd import` reads, a folder of images.

    Args:
        hfov_deg: horizontal field of view of images whose lens the source does not know; None: a guess, labelled so.

    Raises:
        UserError: there is nothing to read, or something is damaged; it names the file.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist")
    if path.is_file():
        return [_of_video(path, hfov_deg)]
    if (path / layout.META).is_file() and (path / layout.ASSOCIATIONS).is_file():
        return [sequence_of_dataset(path, hfov_deg)]
    if drives := kitti_raw.drives(path):
        return [_of_drive(drive, camera) for drive, camera in drives]
    if scenes := _nyu_scenes(path):
        return [_of_nyu(scene) for scene in scenes]
    if any(format.detect(path) for format in FORMATS.values()):
        name = recognise(path)[0]
        return [_of_scene(FORMATS[name].load(path, ImportConfig(), 0), hfov_deg)]
    if kitti.is_sequence(path):
        return [_of_scene(kitti.load_images(path, ImportConfig()), hfov_deg)]
    if files := reading.image_files(path):
        return [_of_images(path, files, hfov_deg)]
    videos = [file.name for file in sorted(path.iterdir()) if file.suffix.lower() in SUFFIXES]
    if videos:
        raise UserError(f"{path} holds {counted(len(videos), 'video')}; name them: {path / videos[0]}")
    raise UserError(
        f"{path} is no source of video: a dataset, a video, KITTI raw or odometry, TUM RGB-D, NYU or another format "
        "that `pose2rgbd import` reads, or a folder of images"
    )


def lens(known: Camera | None, width: int, height: int, hfov_deg: float | None) -> tuple[Camera, str]:
    """The camera of images, and where its intrinsics come from."""
    if known is not None and known.is_calibrated:
        return known, "the source's calibration"
    if hfov_deg is not None:
        return Camera.from_fov(width, height, hfov_deg), f"a field of view of {hfov_deg:g} degrees, as given"
    words = f"a guess: {GUESSED_HFOV_DEG:g} degrees across; --hfov-deg gives the true field of view"
    return Camera.from_fov(width, height, GUESSED_HFOV_DEG), words


def sequence_of_dataset(folder: Path, hfov_deg: float | None = None) -> Sequence:
    """A dataset's frames. Depth that was made from its pictures is no truth, and left out."""
    dataset = without_made_depth(Dataset(folder))
    camera, camera_from = lens(dataset.camera, dataset.camera.width, dataset.camera.height, hfov_deg)
    name, positions = folder.resolve().name, dataset.T_map_cam[:, :3, 3]
    has_split = (folder / layout.SPLIT).exists()
    return Sequence(
        name,
        dataset.stamps_ns,
        camera,
        dataset.rgb,
        cache_root(dataset),
        state_of_dataset(dataset),
        dataset.depth if dataset.has_depth else None,
        dataset.depth_kind or "metric",
        dataset.T_map_cam,
        default_split(folder, dataset.stamps_ns, positions) if has_split else None,
        camera_from,
        notes=tuple(_notes(name, dataset.camera, camera_from)),
    )


def _of_drive(drive: Path, name: str) -> Sequence:
    found = kitti_raw.Drive(drive, name)
    scans = sorted(found.scans.iterdir()) if found.scans is not None else []
    return Sequence(
        f"{drive.resolve().name}/{name}",
        found.stamps_ns,
        found.camera,
        lambda i: _rgb(found.images[i]),
        users_cache(drive / name),
        files_state([*found.images, *scans]),
        found.depth if scans else None,
        T_map_cam=found.poses(),
        camera_from="KITTI's calibration",
        read_published_depth=found.eigen_depth if scans else None,
    )


def _of_scene(scene: Scene, hfov_deg: float | None) -> Sequence:
    """Another tool's dataset, its lists read, in time order."""
    if not scene.views:
        raise UserError(f"{scene.path} holds no frames: {dict(scene.rejects) or 'its lists are empty'}")
    views = [scene.views[i] for i in np.argsort([view.stamp_ns for view in scene.views], kind="stable")]
    views = [view for before, view in zip([None, *views], views, strict=False) if _later(before, view)]
    width, height = (
        (scene.camera.width, scene.camera.height)
        if scene.camera is not None
        else reading.first_size([view.image for view in views])
    )
    camera, camera_from = lens(scene.camera, width, height, hfov_deg)
    name = scene.path.resolve().name
    notes = [*map(_without_options, scene.notes), *_notes(name, scene.camera, camera_from)]
    notes += [f"{name}: {counted(n, 'frame')} left out: {reason}" for reason, n in scene.rejects.items()]
    T = turned_up(scene.world) @ np.stack([view.T_map_cam for view in views])
    words = np.array([view.label or "train" for view in views])
    files = [file for view in views for file in (view.image, view.depth) if file is not None]
    return Sequence(
        name,
        np.array([view.stamp_ns for view in views], np.int64),
        camera,
        lambda i: _rgb(views[i].image),
        users_cache(scene.path),
        files_state(files),
        (lambda i: _depth(views[i], scene)) if scene.has_depth else None,
        T_map_cam=T if np.isfinite(T).any() else None,
        split=split_of_words(words) if {"train", "test"} <= set(words.tolist()) else None,
        camera_from=camera_from,
        notes=tuple(notes),
    )


def _of_images(path: Path, files: list[Path], hfov_deg: float | None) -> Sequence:
    """Images of a folder, in the order of the numbers in their names."""
    stamps, how = stamps_from_names([file.name for file in files], _RATE_HZ, 0)
    scene = Scene(path, "images")
    scene.views = [View(at, np.full((4, 4), np.nan), file) for at, file in zip(stamps, files, strict=True)]
    scene.note(f"{path.resolve().name}: the time of a frame is that of {how}")
    return _of_scene(scene, hfov_deg)


def _nyu_scenes(path: Path) -> list[Path]:
    """Folders of rgb_N.jpg, and mostly sync_depth_N.png: the scene that `path` is, or those in it."""
    return [folder for folder in (path, *sorted(path.iterdir())) if any(True for _ in folder.glob("rgb_[0-9]*"))]


def _of_nyu(folder: Path) -> Sequence:
    """NYU Depth V2 as most people have it: depth in millimetres, in the frame of the colour camera."""
    images = [file for file in reading.image_files(folder) if file.name.startswith("rgb_")]
    stamps, _ = stamps_from_names([file.name for file in images], _RATE_HZ, 0)
    scene = Scene(folder, "nyu", depth_unit_m=0.001)
    if reading.first_size(images) == (640, 480):
        scene.camera = camera_of_text(_NYU_LENS, 640, 480)
    for stamp_ns, image in zip(stamps, images, strict=True):
        depth = image.with_name(f"sync_depth_{image.stem.removeprefix('rgb_')}.png")
        pose = np.full((4, 4), np.nan)
        scene.views.append(View(stamp_ns, pose, image, depth if depth.is_file() else None))
    return _of_scene(scene, None)


def _of_video(path: Path, hfov_deg: float | None) -> Sequence:
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"{path} is no video ({', '.join(SUFFIXES)}); a recording is converted first: pose2rgbd convert"
        )
    video = VideoFile(path)
    stamps_ns = np.array(video.stamps_ns(), np.int64)
    first = next(video.frames(), None)
    if first is None or not len(stamps_ns):
        raise UserError(f"{path}: not one frame can be decoded")
    height, width = first.rgb().shape[:2]
    camera, camera_from = lens(None, width, height, hfov_deg)
    frames = _VideoFrames(video, stamps_ns.tolist())
    notes = tuple(_notes(path.name, None, camera_from))
    return Sequence(
        path.name,
        stamps_ns,
        camera,
        frames.rgb,
        users_cache(path),
        files_state([path]),
        camera_from=camera_from,
        in_order=True,
        notes=notes,
    )


class _VideoFrames:
    """Frames of a video by number; one after the other it is decoded once."""

    def __init__(self, video: VideoFile, stamps_ns: list[int]) -> None:
        self._video, self._stamps_ns = video, stamps_ns
        self._frames: Iterator[VideoFrame] = iter(())
        self._latest: VideoFrame | None = None
        self._asked_ns: int | None = None
        self._lock = threading.Lock()

    def rgb(self, index: int) -> UInt8:
        """UserError: it could not be decoded."""
        stamp_ns = self._stamps_ns[index]
        with self._lock:
            if self._asked_ns is None or not 0 <= stamp_ns - self._asked_ns <= _FAR_NS:
                self._frames = self._video.frames(max(0.0, stamp_ns / SECOND - 1e-3))
                self._latest = next(self._frames, None)
            self._asked_ns = stamp_ns
            while self._latest is not None and self._latest.media_ns < stamp_ns:
                self._latest = next(self._frames, None)
            if self._latest is None or self._latest.media_ns != stamp_ns or not self._latest.whole:
                raise UserError(
                    f"{self._video.path}: the frame at {stamp_ns / SECOND:.3f} s cannot be decoded; the file is "
                    "damaged or cut off there"
                )
            return self._latest.rgb()


def _rgb(file: Path) -> UInt8:
    """RGB (H, W, 3) of an image file, grey ones too. UserError: missing or damaged."""
    image = read_image(file, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _depth(view: View, scene: Scene) -> Float32:
    """Depth (h, w) in metres; a frame without any is unknown throughout. UserError for a damaged file."""
    if view.depth is None:
        return np.full((1, 1), np.nan, np.float32)
    try:
        found = reading.read_depth(view.stamp_ns, view.depth, scene.depth_unit_m, scene.depth_unknown)
    except BadFrame as error:
        raise UserError(str(error)) from error
    return found.depth_m if isinstance(found, DepthSample) else found


def _later(before: View | None, view: View) -> bool:
    return before is None or view.stamp_ns > before.stamp_ns


def _without_options(note: str) -> str:
    """A note without the options of `pose2rgbd import`, which mean nothing here."""
    return note.replace(" (--rate-hz)", "").replace(" unless --camera gives its intrinsics", "")


def _notes(name: str, known: Camera | None, camera_from: str) -> list[str]:
    """What was assumed of the lens."""
    return [] if known is not None and known.is_calibrated else [f"{name}: its lens is {camera_from}"]
