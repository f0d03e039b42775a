"""The way of a video's camera where no log says it: followed from picture to picture, by geometry or by a network.

Frames stream by. One is looked at as soon as the picture has moved enough: steps are long beside the errors of flow,
and a camera that hovers does not drift. The frames between lie between, until `refine_poses` finds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.convert.settings import VideoSettings
from pose2rgbd_ros.convert.video import PictureTrack
from pose2rgbd_ros.depth_from_images.odometry import ClassicalFlow, Track, odometry
from pose2rgbd_ros.depth_from_images.snippets import Sequence
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.formats.sequences import open_sequences
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float32, UInt8

WIDTH = 640  # pixels: wider images are followed at this width
SMALL = 160  # pixels: at which is seen how far pictures have moved
MOVED = 0.015  # share of the width that the middle pixel moved: the next picture
LEAST_POSES = 3
SECOND = 1_000_000_000


def follow_pictures(video: Path, options: VideoSettings, hfov_deg: float | None, progress: bool = True) -> PictureTrack:
    """The way of a video's camera, its first picture level: x forward, z up.

    UserError: the video cannot be read, or not a step of it shows a motion.
    """
    (sequence,) = open_sequences(video, hfov_deg)
    scale = min(1.0, WIDTH / sequence.camera.width)
    camera = sequence.camera.resized(round(sequence.camera.width * scale), round(sequence.camera.height * scale))
    stamps_ns, damaged = list[int](), list[str]()
    images = _moved(sequence, options, (camera.width, camera.height), stamps_ns, damaged, progress)
    try:
        found: Track = odometry(images, camera, ClassicalFlow())
    except UserError as error:
        raise UserError(f"{video}: its camera cannot be followed by its pictures: {error}") from error
    ways = sum(motion.has_direction for motion in found.motions)
    if len(stamps_ns) < LEAST_POSES or not ways:
        raise UserError(
            f"{video}: its camera cannot be followed by its pictures, of {counted(len(found.motions), 'step')} none "
            "shows a way (it stands still, only turns, or sees no texture)"
        )
    notes = [f"{line}" for line in found.summary().splitlines()]
    if damaged:
        notes.append(f"{counted(len(damaged), 'frame')} could not be read (the first: {damaged[0]})")
    return PictureTrack(
        np.array(stamps_ns, np.int64),
        _level(found),
        "optical flow of neighbouring pictures, chained from a first one",
        sequence.camera,
        sequence.camera_from,
        tuple(notes),
    )


def _level(found: Track) -> np.ndarray:
    T_map_start = np.eye(4)
    T_map_start[:3, :3] = se3.T_BODY_OPTICAL[:3, :3]
    return np.asarray(T_map_start @ found.T_start_cam)


def _moved(
    sequence: Sequence,
    options: VideoSettings,
    size: tuple[int, int],
    stamps_ns: list[int],
    damaged: list[str],
    progress: bool,
) -> Iterator[UInt8]:
    """The first picture wanted, those that moved enough since the one before, and the last."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    begin, end = options.start_s * SECOND, options.end_s * SECOND or np.inf
    wanted = np.flatnonzero((sequence.stamps_ns >= begin) & (sequence.stamps_ns <= end)).tolist()
    before: UInt8 | None = None
    latest: tuple[int, UInt8] | None = None
    for index in tqdm(wanted, f"following {sequence.name}", unit="frame", disable=None if progress else True):
        try:
            image = np.asarray(cv2.resize(sequence.rgb(index), size, interpolation=cv2.INTER_AREA), np.uint8)
        except UserError as error:
            damaged.append(str(error))
            continue
        grey = _small(image)
        latest = (index, image)
        if before is not None:
            displaced: Float32 = np.asarray(flow.calc(before, grey, np.empty(0, np.float32)), np.float32)
            if np.median(np.linalg.norm(displaced, axis=-1)) < MOVED * SMALL:
                continue
        before, latest = grey, None
        stamps_ns.append(int(sequence.stamps_ns[index]))
        yield image
    if latest is not None:
        stamps_ns.append(int(sequence.stamps_ns[latest[0]]))
        yield latest[1]


def _small(image: UInt8) -> UInt8:
    height = max(16, round(SMALL * image.shape[0] / image.shape[1]))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (SMALL, height), interpolation=cv2.INTER_AREA), np.uint8)
