"""Which topics of a recording are the camera, its depth, its calibration and its pose.

Named topics win. The others are found by message type, encoding and the words in their names, and where several fit,
the choice and the alternatives are reported in `notes`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import BagReader
from pose2rgbd_ros.errors import UserError

AUTO, NONE = "auto", "none"
POSE_TYPES = (*decode.POSE_TYPES, decode.PX4_ODOMETRY)
FIX_TYPES = (decode.NAV_SAT_FIX, decode.PX4_GPS)
GIMBAL_TYPES = (decode.PX4_GIMBAL, decode.QUATERNION)
_IMAGE_TYPES = (decode.IMAGE, decode.COMPRESSED_IMAGE)
_DEPTH_ENCODINGS = ("16UC1", "32FC1")
_TRANSPORTS = ("compressed", "compressedDepth", "raw", "theora", "zstd")
# Words (parts of a topic name between / and _) that speak for a topic, and against it.
_COLOUR_WORDS = {"rgb", "color", "colour"}
_NOT_MAIN_WORDS = {
    *("right", "ir", "infra1", "infra2", "infra", "thermal", "fisheye", "mask", "label", "labels", "segmentation"),
    *("confidence", "disparity", "debug", "thumbnail", "overlay", "rear", "back"),
}
_REGISTERED_WORDS = {"registered", "aligned", "registration"}
_GOOD_POSE_WORDS = {
    *("groundtruth", "gt", "truth", "mocap", "vicon", "vio", "slam", "fused", "filtered", "global", "optimized")
}
_NO_POSE_WORDS = {
    *("goal", "target", "setpoint", "desired", "command", "cmd", "reference", "initialpose", "initial", "gps")
}


@dataclass(frozen=True)
class RequestedTopics:
    """Topics asked for by name; "auto" finds one, "none" does without (not for image and pose)."""

    image: str = AUTO
    depth: str = AUTO
    camera_info: str = AUTO
    pose: str = AUTO
    fix: str = AUTO
    imu: str = AUTO
    gimbal: str = AUTO


@dataclass
class TopicChoice:
    """The topics to use. `pose` is None when the poses come from TF (`tf`, `tf_static`: all such topics).

    With `gps_only` there are no poses at all but GPS fixes, or these were asked for as poses.
    """

    image: str
    depth: str | None
    camera_info: str | None
    pose: str | None
    fix: str | None
    tf: list[str]
    tf_static: list[str]
    image_frame: str
    imu: str | None = None
    gimbal: str | None = None
    attitude: str | None = None  # of PX4
    gps_only: bool = False
    other_poses: list[str] = field(default_factory=list)  # that could be asked for instead, the likeliest first
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # of a choice that may not fit the images
    pose_notes: list[str] = field(default_factory=list)  # of the choice of `pose`, for where it is used


@dataclass(frozen=True)
class _Images:
    """An image topic with what its first message says."""

    topic: str
    count: int
    encoding: str
    frame: str
    is_depth: bool


def could_serve_as(msgtype: str) -> str:
    """What messages of a type can give a conversion, in a word or two; "" for nothing."""
    kinds = {
        "images": _IMAGE_TYPES,
        "calibration": (decode.CAMERA_INFO,),
        "poses": POSE_TYPES,
        "TF": (decode.TF,),
        "GPS": FIX_TYPES,
        "orientation": (decode.IMU, decode.PX4_ATTITUDE, *GIMBAL_TYPES),
    }
    return next((kind for kind, types in kinds.items() if msgtype in types), "")


def base_of(image_topic: str) -> str:
    """The topic without its transport: /camera/image/compressed -> /camera/image."""
    parent, _, last = image_topic.rpartition("/")
    return parent if last in _TRANSPORTS and parent else image_topic


def is_rectified(image_topic: str) -> bool:
    """Whether image_proc's naming says that the distortion is removed: image_rect, image_rect_color."""
    return "rect" in words(base_of(image_topic))


def words(topic: str) -> set[str]:
    """The parts of a topic name between slashes and underscores, in lower case."""
    return set(re.split(r"[/_]+", topic.lower())) - {""}


def choose_topics(reader: BagReader, requested: RequestedTopics | None = None) -> TopicChoice:
    """The topics to convert. UserError, listing what is there, when an image or pose topic is missing or unknown."""
    requested = requested or RequestedTopics()
    for option, topic in vars(requested).items():
        if topic == NONE and option in ("image", "pose"):
            raise UserError(f"--{option}-topic cannot be none: a dataset needs images and poses; name a topic, or auto")
        if topic not in (AUTO, NONE) and topic not in reader.topics:
            raise UserError(
                f"{reader.path} has no topic {topic} (asked for as {option.replace('_', ' ')}); "
                f"its topics: {reader.describe_topics()}"
            )
    notes: list[str] = []
    warnings: list[str] = []
    pose_notes: list[str] = []
    candidates = _image_topics(reader)
    image = _choose_image(reader, candidates, requested.image, notes)
    tf = [name for name in _of_type(reader, decode.TF) if not name.endswith("tf_static")]
    gps_only = _is_gps_only(reader, tf, requested)
    pose = None if gps_only else _choose_pose(reader, tf, requested.pose, pose_notes)
    likely = [topic for topic in _ranked_poses(reader) if not words(topic) & _NO_POSE_WORDS]
    sources = [*likely, *tf, *(_of_type(reader, *FIX_TYPES) if requested.fix != NONE else ())]
    used = {pose} if pose or gps_only else set(tf)
    fix = requested.pose if gps_only and requested.pose != AUTO else requested.fix
    return TopicChoice(
        image=image.topic,
        depth=_choose_depth(reader, candidates, image, requested.depth, notes, warnings),
        camera_info=_choose_camera_info(reader, image, requested.camera_info, notes),
        pose=pose,
        fix=_choose_fix(reader, fix, notes),
        tf=tf,
        tf_static=[name for name in _of_type(reader, decode.TF) if name.endswith("tf_static")],
        image_frame=image.frame,
        imu=_choose_imu(reader, requested.imu, notes),
        gimbal=_choose_other(reader, requested.gimbal, GIMBAL_TYPES, "the gimbal's attitude", notes),
        attitude=_choose_other(reader, AUTO, (decode.PX4_ATTITUDE,), "the attitude", notes),
        gps_only=gps_only,
        other_poses=[topic for topic in sources if topic not in used],
        notes=notes,
        warnings=warnings,
        pose_notes=pose_notes,
    )


def _of_type(reader: BagReader, *types: str) -> list[str]:
    return [topic for topic, info in reader.topics.items() if info.type in types and info.count]


def _image_topics(reader: BagReader) -> dict[str, _Images]:
    found = {}
    for topic in _of_type(reader, *_IMAGE_TYPES):
        message = reader.first(topic)
        if message is None:
            continue
        encoding = decode.image_encoding(message)
        is_depth = (
            "compresseddepth" in encoding.lower()
            or encoding in _DEPTH_ENCODINGS
            or ("depth" in words(topic) and encoding not in ("rgb8", "bgr8"))
        )
        frame = decode.frame_name(message.header.frame_id)
        found[topic] = _Images(topic, reader.topics[topic].count, encoding, frame, is_depth)
    return found


def _require_type(reader: BagReader, topic: str, accepted: tuple[str, ...], what: str) -> None:
    info = reader.topics[topic]
    if info.type not in accepted:
        raise UserError(f"{topic} is of type {info.type} and cannot give {what}; accepted: {', '.join(accepted)}")
    if info.count == 0:
        raise UserError(f"{topic} has no message in {reader.path}; there is no {what} to read")


def _choose_image(reader: BagReader, candidates: dict[str, _Images], requested: str, notes: list[str]) -> _Images:
    if requested != AUTO:
        _require_type(reader, requested, _IMAGE_TYPES, "colour images")
        if requested not in candidates:
            raise UserError(f"no message of {requested} in {reader.path} can be read")
        return candidates[requested]
    colour = [item for item in candidates.values() if not item.is_depth]
    if not colour:
        raise UserError(
            f"{reader.path} has no colour images (a topic with messages of type {' or '.join(_IMAGE_TYPES)}); "
            f"its topics: {reader.describe_topics()}"
        )

    def rank(item: _Images) -> tuple[Any, ...]:
        named = words(item.topic)
        return (
            bool(named & _NOT_MAIN_WORDS),
            not named & _COLOUR_WORDS,
            _sibling_info(item.topic) not in reader.topics,
            -item.count,
            item.topic != base_of(item.topic),  # the same camera raw and compressed: raw has not lost anything
            item.topic,
        )

    return _best(colour, rank, "image", "--image-topic", notes)


def _choose_depth(
    reader: BagReader,
    candidates: dict[str, _Images],
    image: _Images,
    requested: str,
    notes: list[str],
    warnings: list[str],
) -> str | None:
    if requested == NONE:
        return None
    if requested != AUTO:
        _require_type(reader, requested, _IMAGE_TYPES, "depth")
        return requested
    depth = [item for item in candidates.values() if item.is_depth and item.topic != image.topic]
    if not depth:
        return None

    def rank(item: _Images) -> tuple[Any, ...]:
        named = words(item.topic)
        return (
            bool(named & _NOT_MAIN_WORDS),
            not (named & _REGISTERED_WORDS or item.frame == image.frame),
            -len(posixpath.commonprefix([item.topic, image.topic])),
            -item.count,
            item.topic,
        )

    chosen = _best(depth, rank, "depth", "--depth-topic", notes)
    if chosen.frame != image.frame and not words(chosen.topic) & _REGISTERED_WORDS:
        warnings.append(
            f"depth {chosen.topic} is in frame {chosen.frame!r}, the image in {image.frame!r}: taken as it is, "
            "pixel over pixel; record depth registered to the colour camera, lay it over colour afterwards "
            "(pose2rgbd depth register), or pass --depth-topic none"
        )
    return chosen.topic


def _sibling_info(image_topic: str) -> str:
    return f"{base_of(image_topic).rpartition('/')[0]}/camera_info"


def _choose_camera_info(reader: BagReader, image: _Images, requested: str, notes: list[str]) -> str | None:
    """image_transport's rule first (camera_info beside the image), then the one of the image's frame, then the only
    one.
    """
    if requested == NONE:
        return None
    if requested != AUTO:
        _require_type(reader, requested, (decode.CAMERA_INFO,), "a calibration")
        return requested
    infos = _of_type(reader, decode.CAMERA_INFO)
    if _sibling_info(image.topic) in infos:
        return _sibling_info(image.topic)
    firsts = {topic: reader.first(topic) for topic in infos}
    same_frame = [
        topic
        for topic, message in firsts.items()
        if message is not None and image.frame and decode.frame_name(message.header.frame_id) == image.frame
    ]
    choices = same_frame or (infos if len(infos) == 1 else [])
    if not choices:
        if infos:
            notes.append(
                f"no CameraInfo belongs to {image.topic} (there are {', '.join(infos)}); --camera-info-topic picks one"
            )
        return None
    notes.append(f"CameraInfo of {image.topic}: {choices[0]}")
    return choices[0]


def _is_gps_only(reader: BagReader, tf: list[str], requested: RequestedTopics) -> bool:
    """Whether fixes are asked for as poses, or there is nothing else."""
    if requested.pose not in (AUTO, NONE):
        return reader.topics[requested.pose].type in FIX_TYPES
    if tf or _of_type(reader, *POSE_TYPES) or requested.fix == NONE:
        return False
    return requested.fix != AUTO or bool(_of_type(reader, *FIX_TYPES))


def _choose_pose(reader: BagReader, tf: list[str], requested: str, notes: list[str]) -> str | None:
    if requested != AUTO:
        _require_type(reader, requested, (*POSE_TYPES, decode.TF, *FIX_TYPES), "poses")
        return None if reader.topics[requested].type == decode.TF else requested
    topics = _ranked_poses(reader)
    likely = [topic for topic in topics if not words(topic) & _NO_POSE_WORDS]
    if not likely and tf:
        return None
    if not topics:
        accepted = ", ".join((*POSE_TYPES, decode.TF, *FIX_TYPES))
        raise UserError(
            f"{reader.path} has no poses (a topic with messages of one of {accepted}); "
            f"its topics: {reader.describe_topics()}"
        )
    ranked = likely or topics
    chosen = _best(ranked, ranked.index, "pose", "--pose-topic", notes)
    if tf:
        notes.append(f"poses are taken from {chosen}; --pose-topic {tf[0]} takes them from TF")
    return chosen


def _ranked_poses(reader: BagReader) -> list[str]:
    """Topics of poses, the likeliest first."""

    def rank(topic: str) -> tuple[Any, ...]:
        info = reader.topics[topic]
        return (
            bool(words(topic) & _NO_POSE_WORDS),
            info.count < 2,
            POSE_TYPES.index(info.type),
            not words(topic) & _GOOD_POSE_WORDS,
            -info.count,
            topic,
        )

    return sorted(_of_type(reader, *POSE_TYPES), key=rank)


def _choose_fix(reader: BagReader, requested: str, notes: list[str]) -> str | None:
    if requested == NONE:
        return None
    if requested != AUTO:
        _require_type(reader, requested, FIX_TYPES, "GPS fixes")
        return requested
    topics = _of_type(reader, *FIX_TYPES)
    if not topics:
        return None
    return _best(topics, lambda topic: (-reader.topics[topic].count, topic), "GPS", "--fix-topic", notes)


def _choose_imu(reader: BagReader, requested: str, notes: list[str]) -> str | None:
    """An Imu that gives its orientation."""
    if requested not in (AUTO, NONE):
        _require_type(reader, requested, (decode.IMU,), "an orientation")
        return requested
    firsts = {topic: reader.first(topic) for topic in (_of_type(reader, decode.IMU) if requested == AUTO else [])}
    oriented = [
        topic
        for topic, message in firsts.items()
        if message is not None and decode.imu_sample(message, 0).quat_xyzw is not None
    ]
    if not oriented:
        return None
    return _best(oriented, lambda topic: (-reader.topics[topic].count, topic), "IMU", "--imu-topic", notes)


def _choose_other(reader: BagReader, requested: str, types: tuple[str, ...], what: str, notes: list[str]) -> str | None:
    """A topic of one of some types; when not asked for, of the first type, or of the name that the recorder takes."""
    if requested not in (AUTO, NONE):
        _require_type(reader, requested, types, what)
        return requested
    topics = _of_type(reader, types[0]) if requested == AUTO else []
    if requested == AUTO and not topics:
        topics = [topic for topic in _of_type(reader, *types[1:]) if posixpath.basename(topic) == "gimbal"]
    return min(topics, key=lambda topic: (-reader.topics[topic].count, topic)) if topics else None


def _best(candidates: list[Any], rank: Callable[[Any], Any], what: str, option: str, notes: list[str]) -> Any:
    """The lowest rank; with more than one candidate the choice is noted."""
    ordered = sorted(candidates, key=rank)
    if len(ordered) > 1:
        names = [getattr(item, "topic", item) for item in ordered]
        notes.append(f"{what} topic {names[0]} chosen; {option} picks another of: {', '.join(names[1:])}")
    return ordered[0]
