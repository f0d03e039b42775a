"""A rosbag, looked at by converting it without writing anything, and by the stamps of all its topics."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import QosDurability

from pose2rgbd_ros.alignment.align import AlignOptions, estimate_offset
from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import BagReader, open_bag
from pose2rgbd_ros.bags.topics import TopicChoice, base_of, could_serve_as
from pose2rgbd_ros.convert.bag import WAYS_OUT, ImageTimeOffset, Recording, choose, measure_bag
from pose2rgbd_ros.convert.clocks import StampCorrections, StampLog
from pose2rgbd_ros.convert.report import ConvertReport
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.encode import camera_of_images
from pose2rgbd_ros.dataset.inspect import lens_warnings
from pose2rgbd_ros.doctor import judge
from pose2rgbd_ros.doctor.diagnosis import Diagnosis, Expected, Stream, size_of
from pose2rgbd_ros.doctor.gps import judge_motion, read_fixes
from pose2rgbd_ros.doctor.jobs import add_jobs
from pose2rgbd_ros.doctor.pictures import DepthLog, PictureLog
from pose2rgbd_ros.doctor.rehearsal import Rehearsal
from pose2rgbd_ros.doctor.stamps import Regularity, regularity
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Int64
from pose2rgbd_ros.poses.camera_pose import CameraPoses

_SECOND = 1e9
FLOW_S = 30.0  # of the recording, where it moves most, in which the offset of the clocks is looked for
SURE_SIGMAS, LEAST_OFF_S = 3.0, 0.05  # of an offset that matters
LATE_APART_S = 0.3  # between topics, from which on one of them is late or by another clock
SLOW_POSES_S, NEAR_A_POSE_S = 0.15, 0.01
SLOW_FIXES_S = 1.1
UNNOTICED_M, UNNOTICED_RAD = 0.02, 0.002  # a camera that moves less may show the same picture twice
NOT_UNIT = 0.005  # share of quaternions


@dataclass
class BagLook:
    """What was found on the way, for findings and pictures of the report."""

    reader: BagReader
    config: ConvertConfig
    logs: dict[str, StampLog] = field(default_factory=dict)  # by topic
    streams: dict[str, Regularity] = field(default_factory=dict)
    topics: TopicChoice | None = None
    recording: Recording | None = None
    rehearsal: Rehearsal | None = None
    pictures: PictureLog | None = None
    depth: DepthLog | None = None
    rehearsed_s: float = 0.0
    misfit: str = ""
    fixes: list[tuple[int, int, Any]] = field(default_factory=list)  # stamp, reception, message


def examine_bag(path: Path, config: ConvertConfig, given: tuple[str, ...] = ()) -> tuple[Diagnosis, BagLook | None]:
    """The diagnosis, and what it was made of; None where the file cannot be opened. `given`: the config's options."""
    begun = time.perf_counter()
    diagnosis = Diagnosis((str(path),), "bag", given)
    try:
        with open_bag(path) as reader:
            look = BagLook(reader, config)
            _examine(diagnosis, look)
    except UserError as error:
        empty = path.is_file() and path.stat().st_size == 0
        diagnosis.add("empty" if empty else "unreadable", "unusable", path.name, str(error))
        return diagnosis, None
    diagnosis.took_s = time.perf_counter() - begun
    return diagnosis, look


def _examine(diagnosis: Diagnosis, look: BagLook) -> None:
    reader = look.reader
    if not sum(info.count for info in reader.topics.values()):
        diagnosis.add("empty", "unusable", reader.path.name, "the recording has no messages")
        return
    _read_stamps(look)
    report = ConvertReport("")
    part = report.begin(reader.path)
    try:
        look.topics = choose(reader, look.config)
        _rehearse(look, part)
    except UserError as error:
        _tell_unusable(diagnosis, look, error)
        _watch_alone(look)
    report.table.close()
    _describe(diagnosis, look)
    _judge_files(diagnosis, look)
    _judge_streams(diagnosis, look)
    _judge_pictures(diagnosis, look)
    recording, rehearsal = look.recording, look.rehearsal
    if recording is not None and rehearsal is not None:
        _judge_clock(diagnosis, look, recording)
        _judge_camera(diagnosis, look, recording, rehearsal)
        _judge_poses(diagnosis, recording, rehearsal)
        judge.judge_rejects(diagnosis, part.rejects, part.images, WAYS_OUT)
        _judge_depth_stamps(diagnosis, look, part.rejects.get("no_depth", 0), part.images)
        _pass_on(diagnosis, recording, part.warnings)
        diagnosis.notes = part.notes
        _expect(diagnosis, rehearsal, part.images, part.rejects, look)
    _judge_fixes(diagnosis, look)
    add_jobs(
        diagnosis,
        look.topics is not None and look.topics.depth is not None,
        bool(rehearsal and rehearsal.meta and rehearsal.meta.camera.is_calibrated),
        _live_topics(look),
    )


# Reading: the stamps of all topics, then a conversion that writes nothing.


def _read_stamps(look: BagLook) -> None:
    reader = look.reader
    stamped = [topic for topic, info in reader.topics.items() if info.count and reader.has_stamps(topic)]
    found = {topic: (array("q"), array("q")) for topic in stamped}
    for topic, received_ns, header_ns in reader.stamps(stamped):
        headers, received = found[topic]
        headers.append(header_ns)
        received.append(received_ns)
    others = [topic for topic, info in reader.topics.items() if info.count and topic not in found]
    for topic, received_ns in reader.in_storage_order(others):
        headers, received = found.setdefault(topic, (array("q"), array("q")))
        headers.append(received_ns)
        received.append(received_ns)
    look.logs = {
        topic: StampLog(np.frombuffer(headers, np.int64), np.frombuffer(received, np.int64))
        for topic, (headers, received) in found.items()
        if len(headers)
    }
    look.streams = {topic: regularity(log.header_ns, log.received_ns) for topic, log in look.logs.items()}


def _rehearse(look: BagLook, part: Any) -> None:
    """Convert without writing. UserError as converting raises it; what was seen until then is kept."""
    reader, topics = look.reader, look.topics
    assert topics is not None
    look.rehearsal = Rehearsal(look.config, reader.topics[topics.image].count)
    also = [topics.fix] if topics.fix else []
    recording = Recording(look.rehearsal, reader, look.config, part, _watcher(look), also)
    look.topics, look.recording = recording.topics, recording
    look.misfit = _misfit(look, recording)
    if look.misfit:  # as with --camera-info-topic none
        recording.first_pass.camera = None
    begun = time.perf_counter()
    recording.run()
    look.rehearsed_s = time.perf_counter() - begun


def _misfit(look: BagLook, recording: Recording) -> str:
    """Why the calibration is none of these images, "" where it is."""
    message = look.reader.first(recording.topics.image)
    try:
        image = decode.image_sample(message, 0) if message is not None else None
    except UserError:  # told with the pictures
        return ""
    try:
        if image is not None:
            camera_of_images(image.width, image.height, recording.first_pass.camera, look.config.fov_deg)
    except UserError as error:
        return str(error)
    return ""


def _watcher(look: BagLook) -> Any:
    """What looks at every image that goes by."""
    topics, reader = look.topics, look.reader
    assert topics is not None
    look.pictures = PictureLog(reader.topics[topics.image].count)
    look.depth = DepthLog(reader.topics[topics.depth].count) if topics.depth else None

    def watch(topic: str, received_ns: int, message: Any) -> None:
        assert look.pictures is not None
        if topic == topics.fix:
            look.fixes.append((_stamp_of(message, received_ns), received_ns, message))
        elif topic == topics.image:
            look.pictures.take(message, decode.header_stamp_ns(message.header) or received_ns)
        elif look.depth is not None:
            look.depth.take(message)

    return watch


def _watch_alone(look: BagLook) -> None:
    """Look at the images of a recording that cannot be converted, too."""
    if look.topics is None or (look.pictures is not None and look.pictures.count):
        return
    watch = _watcher(look)
    topics = [topic for topic in (look.topics.image, look.topics.depth, look.topics.fix) if topic]
    for topic, received_ns, message in look.reader.messages(topics):
        watch(topic, received_ns, message)


def _tell_unusable(diagnosis: Diagnosis, look: BagLook, error: UserError) -> None:
    """Why it cannot be converted as it is."""
    text, kinds = str(error), {could_serve_as(info.type) for info in look.reader.topics.values() if info.count}
    has_images, has_poses = "images" in kinds, bool(kinds & {"poses", "TF", "GPS"})
    code = "no_images" if not has_images else "no_poses" if not has_poses else "not_convertible"
    short = {"no_images": "there are no images", "no_poses": "there are no poses: no odometry, TF or GPS"}
    next = {
        "no_images": "record the camera's topic as well: `pose2rgbd record` or `ros2 bag record`",
        "no_poses": "record odometry, TF or GPS as well; a video alone: `pose2rgbd convert VIDEO OUT --depth HOW`",
    }.get(code, "")
    diagnosis.add(code, "unusable", "", short.get(code, text), next)


# Findings.


def _describe(diagnosis: Diagnosis, look: BagLook) -> None:
    """The facts, and the topics with what each serves as."""
    reader, roles = look.reader, roles_of(look)
    first = min(int(log.received_ns[0]) for log in look.logs.values()) if look.logs else 0
    last = max(int(log.received_ns[-1]) for log in look.logs.values()) if look.logs else 0
    diagnosis.facts["length"] = f"{(last - first) / _SECOND:.1f} s, {size_of(size_on_disk(reader.path))}"
    for topic, info in sorted(reader.topics.items(), key=lambda it: (_rank(roles.get(it[0], "")), it[0])):
        found = look.streams.get(topic)
        could = could_serve_as(info.type)
        diagnosis.streams.append(
            Stream(
                topic,
                info.type,
                info.count,
                roles.get(topic) or (f"(could be {could})" if could else ""),
                None if found is None or not found.rate_hz > 0 else found.rate_hz,
                None if found is None or not np.isfinite(found.longest_gap_s) else found.longest_gap_s,
                None if found is None or not reader.has_stamps(topic) else 1000 * found.late_s,
                _qos_in_words(reader, topic),
            )
        )
        if could and topic not in roles and could in ("images", "poses") and look.topics is not None:
            _tell_alternative(diagnosis, look, topic, could)


def _tell_alternative(diagnosis: Diagnosis, look: BagLook, topic: str, could: str) -> None:
    assert look.topics is not None
    if could == "images" and base_of(topic) == base_of(look.topics.image):
        return  # the same camera by another transport
    what, option, chosen = (
        ("several_cameras", "--image-topic", look.topics.image)
        if could == "images"
        else ("several_poses", "--pose-topic", look.topics.pose or ", ".join(look.topics.tf))
    )
    diagnosis.add(
        what, "note", topic, f"could serve as {could} as well; {chosen} is taken",
        f"pose2rgbd convert {diagnosis.source[0]} DATASET {option} {topic}",
    )  # fmt: skip


def _rank(role: str) -> int:
    order = ("images", "depth", "calibration", "poses", "GPS", "orientation", "mounts")
    return next((i for i, name in enumerate(order) if role.startswith(name)), len(order))


def roles_of(look: BagLook) -> dict[str, str]:
    """What the topics that are used serve as."""
    topics = look.topics
    if topics is None:
        return {}
    facts = look.recording.track.facts if look.recording is not None else None
    by_gps = topics.gps_only or (facts is not None and facts.position == "gps")
    by_tf = not topics.pose and not by_gps
    roles: dict[str | None, str] = dict.fromkeys(topics.tf, "poses" if by_tf else "mounts")
    roles |= dict.fromkeys(topics.tf_static, "mounts")
    if topics.imu:
        used = facts is not None and topics.imu in facts.topics.values()
        roles[topics.imu] = "orientation" if used else "orientation, if wished"
    roles |= {topics.attitude: "orientation", topics.gimbal: "orientation"}
    roles |= {topics.fix: "poses" if by_gps else "GPS", topics.pose: "poses"}
    roles |= {topics.camera_info: "calibration", topics.depth: "depth", topics.image: "images"}
    return {topic: role for topic, role in roles.items() if topic}


def size_on_disk(path: Path) -> int:
    """Of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    return sum(item.stat().st_size for item in files)


def _qos_in_words(reader: BagReader, topic: str) -> str:
    words = {
        f"{qos.reliability.name.lower().replace('_', ' ')}{', latched' if _latched(qos) else ''}"
        for qos in reader.offered_qos(topic)
    }
    return " / ".join(sorted(words))


def _latched(qos: Any) -> bool:
    return bool(qos.durability == QosDurability.TRANSIENT_LOCAL)


def _judge_files(diagnosis: Diagnosis, look: BagLook) -> None:
    """Damage, and how it was published."""
    reader = look.reader
    for problem in reader.problems:
        diagnosis.add(
            "damaged", "problem", reader.path.name, problem,
            "`ros2 bag reindex` or `mcap recover` repairs an index; converting takes all that is readable",
        )  # fmt: skip
    for topic, count in reader.unreadable.items():
        diagnosis.add(
            "unreadable_messages", "problem", topic, f"{counted(count, 'message')} cannot be read and are left out"
        )
    for topic, info in reader.topics.items():
        profiles = reader.offered_qos(topic)
        if topic.endswith("tf_static") and profiles and not any(map(_latched, profiles)):
            diagnosis.add(
                "qos_static", "problem", topic,
                "was published volatile: of a replay, nodes that start later never get the camera's mount",
                "publish it with tf2_ros.StaticTransformBroadcaster; for a replay, `ros2 bag play "
                "--qos-profile-overrides-path`; converting is not touched",
            )  # fmt: skip
        if len({(qos.reliability, _latched(qos)) for qos in profiles}) > 1:
            diagnosis.add(
                "qos_mixed", "problem", topic,
                f"its publishers have several QoS profiles ({_qos_in_words(reader, topic)}): a subscriber that asks "
                "for the stricter one gets part of the messages",
                "two publishers on one topic? rename one",
            )  # fmt: skip
        if info.count == 0 and could_serve_as(info.type):
            diagnosis.add("silent_topic", "note", topic, "was recorded but has no message")


def _judge_streams(diagnosis: Diagnosis, look: BagLook) -> None:
    roles, config = roles_of(look), look.config
    by_gps = bool(look.topics and look.topics.fix and roles.get(look.topics.fix) == "poses")
    for topic, found in look.streams.items():
        role = roles.get(topic, "")
        if could_serve_as(look.reader.topics[topic].type) in ("", "calibration") or topic.endswith("tf_static"):
            continue  # nothing to us, or its first message counts
        if look.reader.topics[topic].type == decode.TF:
            if role == "poses":
                _judge_edges(diagnosis, look, topic)
            continue
        used = role in ("images", "depth", "poses")
        most_gap_s = config.max_fix_gap_s if by_gps and role == "poses" else max(config.max_pose_gap_s, 1.0)
        judge.judge_stream(diagnosis, topic, found, used, most_gap_s)
    _judge_rates(diagnosis, look, roles, by_gps)
    _judge_delays(diagnosis, look, roles)


def _judge_edges(diagnosis: Diagnosis, look: BagLook, topic: str) -> None:
    """Of TF that gives the poses: each pair of frames by itself."""
    in_use = {
        f"{topic} ({parent} -> {child})"
        for parent, child in (look.recording.first_pass.evidence.tree.moving_in_use() if look.recording else ())
    }
    found: dict[str, tuple[array[int], array[int]]] = {}
    for name, received_ns, header_ns in look.reader.stamps([topic], by_edge=True):
        headers, received = found.setdefault(name, (array("q"), array("q")))
        headers.append(header_ns)
        received.append(received_ns)
    for name, (headers, received) in found.items():
        if name in in_use:
            log = regularity(np.frombuffer(headers, np.int64), np.frombuffer(received, np.int64))
            judge.judge_stream(diagnosis, name, replace(log, repeated=0), True, max(look.config.max_pose_gap_s, 1.0))


def _judge_rates(diagnosis: Diagnosis, look: BagLook, roles: dict[str, str], by_gps: bool) -> None:
    """Poses that come too seldom, and images stamped when they were received."""
    for topic, role in roles.items():
        found = look.streams.get(topic)
        if found is None or found.count < 3:
            continue
        if role == "poses" and found.interval_s > (SLOW_FIXES_S if by_gps else SLOW_POSES_S):
            apart_s = _apart_s(look, topic)
            if apart_s > NEAR_A_POSE_S and look.reader.topics[topic].type != decode.TF:
                diagnosis.add(
                    "low_rate", "problem", topic,
                    f"poses come at {found.rate_hz:.1f} Hz; the camera's turns between two are not seen",
                    "record odometry at 20 Hz or more; --interpolation cubic is smoother",
                    ("--interpolation cubic",), rate_hz=found.rate_hz,
                )  # fmt: skip
        others = [it.received_stamps for name, it in look.streams.items() if name != topic and roles.get(name)]
        if role == "images" and found.received_stamps > 0.9 and found.jitter > judge.JITTERY and not found.unstamped:
            if others and min(others) > 0.5:
                continue  # all are: by a recorder or converter that had no other stamps
            diagnosis.add(
                "receive_stamps", "problem", topic,
                f"images are stamped when they were received: intervals scatter by {found.jitter:.0%}, and how late "
                "they are is not known",
                "let the driver stamp the exposure; --sync apply measures how late they are",
                ("--sync apply",), jitter=found.jitter,
            )  # fmt: skip


def _apart_s(look: BagLook, topic: str, percentile: float = 50.0) -> float:
    """How far an image is from the nearest message of a topic, by their stamps."""
    assert look.topics is not None
    if look.topics.image not in look.logs:
        return 0.0
    images, others = (
        np.sort(np.where(log.header_ns == 0, log.received_ns, log.header_ns))
        for log in (look.logs[look.topics.image], look.logs[topic])
    )
    after = np.searchsorted(others, images).clip(1, max(1, len(others) - 1))
    near = np.minimum(np.abs(images - others[after - 1]), np.abs(others[np.minimum(after, len(others) - 1)] - images))
    return float(np.percentile(near, percentile)) / _SECOND


def _judge_delays(diagnosis: Diagnosis, look: BagLook, roles: dict[str, str]) -> None:
    """Topics that are received later after their stamps than most others are, or earlier."""
    late = {
        topic: look.streams[topic].late_s
        for topic, role in roles.items()
        if role in ("images", "poses", "GPS", "mounts") and topic in look.streams
        if look.reader.has_stamps(topic) and not topic.endswith("tf_static") and not look.streams[topic].jumps_s
    }
    if len(late) < 2:
        return
    for topic, late_s in late.items():
        others_s = float(np.median([it for name, it in late.items() if name != topic]))
        if abs(late_s - others_s) > LATE_APART_S and roles[topic] != "mounts":
            diagnosis.add(
                "receive_lag", "problem", topic,
                f"is received {late_s:+.3f} s after its stamp, the other topics {others_s:+.3f} s: late messages, or "
                "another clock",
                f"pose2rgbd sync {diagnosis.source[0]}", late_s=late_s, others_s=others_s,
            )  # fmt: skip


def _judge_pictures(diagnosis: Diagnosis, look: BagLook) -> None:
    if look.topics is None or look.pictures is None:
        return
    log = look.pictures
    judge.judge_pictures(diagnosis, look.topics.image, log, _repeats_in_motion(look))
    if log.sizes:
        (width, height), _ = log.sizes.most_common(1)[0]
        encodings = ", ".join(name for name, _ in log.encodings.most_common(3))
        diagnosis.facts["images"] = f"{counted(log.count, 'image')} of {width} x {height}, {encodings}"
    if look.depth is not None and look.topics.depth:
        judge.judge_depth(diagnosis, look.topics.depth, look.depth, look.config.depth_kind == "metric")


def _repeats_in_motion(look: BagLook) -> int | None:
    """Pictures that repeat the one before although the camera moved in between; None where that is not known."""
    assert look.pictures is not None
    if look.recording is None or not look.pictures.repeated_ns:
        return None
    recording, count = look.recording, 0
    assert look.topics is not None
    for pair in look.pictures.repeated_ns:
        a, b = (recording.track.pose_at(stamp_ns + recording.image_clock.offset_ns(stamp_ns)).T for stamp_ns in pair)
        if a is None or b is None:
            count += 1
            continue
        moved_m, turned_rad = (float(it) for it in se3.apart(a, b))
        count += moved_m > UNNOTICED_M or turned_rad > UNNOTICED_RAD
    return count


def _judge_clock(diagnosis: Diagnosis, look: BagLook, recording: Recording) -> None:
    """How far the images' clock is from the poses', as converting finds it, else by a part of the recording."""
    clock, image = recording.image_clock, recording.topics.image
    if clock.found is None and look.config.sync != "none":
        clock = _measured_offset(look, recording)
    found = clock.found
    if found is None:
        return
    if not found.observable:
        text = f"the offset of the clocks of images and poses cannot be seen: {found.why}"
        if clock.note and clock.doubtful:
            diagnosis.add("clock_offset", "problem", image, clock.note, "--image-time-offset-s, if it is known")
        else:
            diagnosis.add("clock_unknown", "note", image, text, "fly with turns and changes of speed")
        return
    diagnosis.facts["clocks"] = (
        f"image stamps {found.offset_s:+.3f} s from those of the poses (sigma {found.sigma_s:.3f} s, confidence "
        f"{found.confidence:.2f}), by the motion of the pictures"
    )
    off = abs(found.offset_s) > max(SURE_SIGMAS * found.sigma_s, LEAST_OFF_S)
    if off or (clock.note and not clock.applied):
        done = "converting corrects that by itself" if clock.applied else "--sync apply corrects that"
        diagnosis.add(
            "clock_offset", "problem", image,
            f"by the motion of the pictures {-found.offset_s:+.3f} s from the clock of the poses (sigma "
            f"{found.sigma_s:.3f} s, confidence {found.confidence:.2f}); {done}",
            f"pose2rgbd sync {diagnosis.source[0]}", () if clock.applied else ("--sync apply",),
            offset_s=found.offset_s, sigma_s=found.sigma_s, confidence=found.confidence,
        )  # fmt: skip


def _measured_offset(look: BagLook, recording: Recording) -> ImageTimeOffset:
    """Of the part of the recording in which it moves most."""
    between_ns = _liveliest(look.logs[recording.topics.image], recording.track)
    try:
        flow, motion = measure_bag(
            look.reader, recording.topics, recording.clocks, recording.track, between_ns=between_ns
        )
        given_ns = round(look.config.image_time_offset_s * _SECOND)
        return ImageTimeOffset(given_ns, estimate_offset(flow.shifted(given_ns), motion, AlignOptions()))
    except UserError:
        return ImageTimeOffset()


def _liveliest(images: StampLog, track: CameraPoses) -> tuple[int, int]:
    """Times of reception, `FLOW_S` apart, between which the body turns and changes its speed most."""
    received, length_ns = images.received_ns, round(FLOW_S * _SECOND)
    first, last = int(received[0]), int(received[-1])
    if last - first <= length_ns:
        return first, last + 1
    body = track.body
    late_ns = int(np.median(images.received_ns - images.header_ns))
    stamps = body.stamps_ns + late_ns
    turn = np.concatenate([[0.0], np.abs(np.diff(body.quat_xyzw, axis=0)).sum(axis=1)])
    speed = np.linalg.norm(np.diff(body.position_m, axis=0), axis=1) / np.maximum(
        np.diff(body.stamps_ns) / _SECOND, 1e-3
    )
    change = np.concatenate([[0.0, 0.0], np.abs(np.diff(speed))])[: len(stamps)]
    lively = np.cumsum(turn / (turn.mean() or 1.0) + change / (change.mean() or 1.0))
    starts: Int64 = np.arange(first, last - length_ns + 1, length_ns // 4, dtype=np.int64)
    at = [np.interp(starts + shift, stamps, lively) for shift in (0, length_ns)]
    best = int(starts[int(np.argmax(at[1] - at[0]))])
    return best, best + length_ns


def _judge_camera(diagnosis: Diagnosis, look: BagLook, recording: Recording, rehearsal: Rehearsal) -> None:
    """The calibration, and where the camera sits."""
    topics, given = recording.topics, recording.first_pass.camera
    info = topics.camera_info or ""
    if look.misfit:
        diagnosis.add(
            "camera_info_size", "problem", info, f"{look.misfit}: converting stops there",
            "--camera-info-topic none does without; --fov-deg gives the field of view",
            ("--camera-info-topic none",),
        )  # fmt: skip
    elif look.pictures is not None and look.pictures.sizes:
        (width, height), _ = look.pictures.sizes.most_common(1)[0]
        camera, note = camera_of_images(width, height, given, look.config.fov_deg)
        if not camera.is_calibrated:
            code = "no_camera_info" if given is None else "uncalibrated"
            diagnosis.add(
                code, "problem", info or topics.image, note,
                "record camera_info of a calibrated camera (camera_calibration), give --fov-deg, or let "
                "`pose2rgbd align` find the lens",
            )  # fmt: skip
        elif given is not None and (given.width, given.height) != (width, height) and given.is_calibrated:
            diagnosis.add(
                "camera_info_size", "problem", info,
                f"calibrates {given.width} x {given.height} pixels, the images have {width} x {height}: it is scaled",
                "right if the images were resized, wrong if they were cut out: --camera-info-topic none",
            )  # fmt: skip
        for text in lens_warnings(camera):
            diagnosis.add("lens", "problem", info or topics.image, text, "--fov-deg, or `pose2rgbd align`")
        if camera.is_calibrated:
            diagnosis.facts["camera"] = (
                f"{width} x {height}, focal length {camera.fx:.1f} px{', distorted' if camera.is_distorted else ''}"
            )
    first = look.reader.first(info) if info else None
    if first is not None and topics.image_frame and decode.frame_name(first.header.frame_id) != topics.image_frame:
        diagnosis.add(
            "camera_info_frame", "problem", info,
            f"is of frame {first.header.frame_id!r}, the images of {topics.image_frame!r}: another camera's?",
            "--camera-info-topic picks another topic, or none",
        )  # fmt: skip
    mount = recording.track.facts.mount or ""
    if "is not recorded" in mount:
        diagnosis.add(
            "mount_assumed", "problem", topics.image_frame or topics.image, mount,
            "record /tf_static, or say --body-to-camera forward, nadir, or 'x y z qx qy qz qw'",
        )  # fmt: skip
    islands = recording.first_pass.evidence.tree.islands()
    if len(islands) > 1:
        diagnosis.add(
            "tf_split", "problem" if "is not recorded" in mount else "note", ", ".join([*topics.tf, *topics.tf_static]),
            f"TF falls into {len(islands)} parts that no transform connects: "
            + "; ".join(", ".join(group) for group in islands[:4]),
            "publish the transform between them",
        )  # fmt: skip


def _judge_poses(diagnosis: Diagnosis, recording: Recording, rehearsal: Rehearsal) -> None:
    topics, track = recording.topics, recording.track
    name = (topics.fix if track.facts.position == "gps" else topics.pose) or ", ".join(topics.tf) or "poses"
    bad = sum(count for reason, count in track.problems.items() if reason.endswith("non_finite_pose"))
    if bad:
        diagnosis.add(
            "bad_poses", "problem", name,
            f"{bad} of {counted(track.pose_count, 'pose')} are NaN, infinite or of a zero quaternion: left out",
            "look at the odometry's log; --pose-topic picks other poses", poses=bad,
        )  # fmt: skip
    if topics.pose:
        log = recording.first_pass.evidence.odometry
        not_unit = 1.0 - log.valid_share() - bad / max(1, len(log))
        if not_unit > NOT_UNIT:
            diagnosis.add(
                "quaternion", "problem", name,
                f"{not_unit:.0%} of the quaternions are not of unit length: they are scaled, and may be wrong",
                "look at the order x, y, z, w, and at who fills them", share=not_unit,
            )  # fmt: skip
    judge.judge_motion(diagnosis, name, rehearsal.stamps_ns, rehearsal.T_map_cam)
    facts = track.facts
    diagnosis.facts["poses"] = f"positions: {facts.position}, orientations: {facts.orientation}; {facts.mount}"


def _judge_depth_stamps(diagnosis: Diagnosis, look: BagLook, lost: int, images: int) -> None:
    """Depth whose stamps are beside those of the images, regularly, so that a tolerance brings them together."""
    topics = look.topics
    if topics is None or topics.depth is None or lost <= judge.REJECTED * images or topics.depth not in look.logs:
        return
    apart_s, interval_s = _apart_s(look, topics.depth, 95), look.streams[topics.image].interval_s
    if not look.config.depth_tolerance_s < apart_s < interval_s / 2:
        return
    tolerance_s = min(1.2 * apart_s, interval_s / 2)
    diagnosis.add(
        "depth_apart", "problem", topics.depth,
        f"is stamped up to {apart_s:.3f} s beside the images; {look.config.depth_tolerance_s:g} s are allowed",
        "let one trigger take both; a tolerance brings them together, as wrong as the camera moves in that time",
        (f"--depth-tolerance-s {tolerance_s:.3f}",), apart_s=apart_s,
    )  # fmt: skip


def _pass_on(diagnosis: Diagnosis, recording: Recording, warnings: list[str]) -> None:
    """What the conversion itself warns of, unless a finding says it already."""
    told = {*recording.clocks.warnings}
    for text in recording.clocks.warnings:
        diagnosis.add("clock", "problem", "", text, "converting does as it says; --stamps chooses otherwise")
    for text in recording.topics.warnings:
        diagnosis.add("depth_frame", "problem", recording.topics.depth or "", text, "", ("--depth-topic none",))
        told.add(text)
    told.add(recording.image_clock.note)
    known = ("non_finite_pose", "cannot be read and left out", "is damaged")
    for text in warnings:
        if text not in told and not any(word in text for word in known):
            passed_over = "was passed over" in text
            diagnosis.add("poses_passed_over" if passed_over else "convert", "problem", "", text)


def _judge_fixes(diagnosis: Diagnosis, look: BagLook) -> None:
    fix = look.topics.fix if look.topics else None
    if fix is None:
        return
    clocks = look.recording.clocks if look.recording is not None else StampCorrections()
    found = read_fixes(
        fix,
        (
            (clocks.stamp_ns(fix, stamp_ns, received_ns), message)
            for stamp_ns, received_ns, message in look.fixes
            if not clocks.is_stray(fix, received_ns)
        ),
    )
    track = look.recording.track if look.recording is not None else None
    by_gps = look.topics is not None and roles_of(look).get(fix) == "poses"
    judge_motion(found, track.body if track is not None and not by_gps else None)
    judge.judge_fixes(diagnosis, found, by_gps)


def _stamp_of(message: Any, received_ns: int) -> int:
    if message.__msgtype__ in decode.PX4_TYPES:
        return received_ns
    return decode.header_stamp_ns(message.header) or received_ns


def _expect(diagnosis: Diagnosis, rehearsal: Rehearsal, images: int, rejects: dict[str, int], look: BagLook) -> None:
    frames = len(rehearsal.stamps_ns)
    seconds = look.rehearsed_s + rehearsal.encode_s
    diagnosis.expected = Expected.of(images, frames, rehearsal.frame_bytes, seconds, rejects)
    if not frames and diagnosis.status < 2:
        reason = max(rejects, key=lambda name: rejects[name], default="")
        text = f"as it is none of {counted(images, 'image')} becomes a frame ({rejects.get(reason, 0)} {reason})"
        remedy = any(it.flags for it in diagnosis.findings)
        diagnosis.add("no_frames", "problem" if remedy else "unusable", "", text, WAYS_OUT.get(reason, ""))


def _live_topics(look: BagLook) -> dict[str, str]:
    """The record node's names of what there is."""
    if look.topics is None:
        return {}
    topics = look.topics
    found = {
        "image": base_of(topics.image),
        "depth": base_of(topics.depth) if topics.depth else None,
        "camera_info": topics.camera_info,
        "odom": topics.pose,
        "fix": topics.fix,
        "imu": topics.imu,
    }
    return {name: topic for name, topic in found.items() if topic}
