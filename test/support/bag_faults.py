"""Recordings of simulated flights, and faults that are put into them: what each is called, and what must name it.

A fault changes the messages of a whole recording, or its file once it is written. `codes` are the findings of
`pose2rgbd doctor` of which one must be there.
"""

from __future__ import annotations

import contextlib
import copy
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pose2rgbd_ros.bags.decode import header_stamp_ns
from pose2rgbd_ros.bags.messages import MessageFactory
from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.bags.writer import BagWriter
from pose2rgbd_ros.geometry import depth
from pose2rgbd_ros.sim.bag import SimBagConfig, write_sim_bag
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.sensors.config import CameraSensor, GpsSensor, ImuSensor, OdometrySensor, SensorsConfig

IMAGE, INFO, ODOM, FIX = "/camera/image/compressed", "/camera/camera_info", "/odom", "/gps/fix"
DEPTH, TF, TF_STATIC = "/camera/depth/image", "/tf", "/tf_static"
SECOND_NS = 1_000_000_000
PLANS = ("orbit", "walk", "survey", "paper", "street")
Entry = tuple[int, str, Any]  # received, topic, message

# Clean recordings.


def clean_config(seed: int, duration_s: float = 24.0) -> SimBagConfig:
    """A flight with the sensors of a small drone and all their usual faults, but no GPS outage."""
    size = ((320, 240), (384, 288), (256, 256))[seed % 3]
    sensors = SensorsConfig(
        camera=CameraSensor(rate_hz=10.0),
        gps=GpsSensor(outages_per_min=0.0, rate_hz=(5.0, 10.0)[seed % 2]),
        odometry=OdometrySensor(rate_hz=(50.0, 30.0)[seed % 2]),
        imu=ImuSensor(rate_hz=50.0),
    )
    return SimBagConfig(
        width=size[0], height=size[1], duration_s=duration_s, clock_hz=0.0, truth_hz=10.0, seed=seed,
        city=CityConfig(seed=seed), flight=FlightConfig(plan=PLANS[seed % len(PLANS)], seed=seed), sensors=sensors,
    )  # fmt: skip


def write_clean(path: Path, seed: int) -> Path:
    """The recording of a seed: every fourth by GPS alone, every third a db3, every fifth without depth."""
    made = path.with_name(f".{path.name}.made.mcap")
    write_sim_bag(made, clean_config(seed))
    entries = read(made)
    if seed % 4 == 3:
        entries = without(entries, ODOM, TF)
    if seed % 5 == 4:
        entries = without(entries, DEPTH, "/camera/depth/camera_info")
    write(path, entries)
    made.unlink()
    return path


def read(path: Path) -> list[Entry]:
    """All messages of a recording."""
    with open_bag(path) as bag:
        return [(received_ns, topic, message) for topic, received_ns, message in bag.messages(list(bag.topics))]


def write(path: Path, entries: list[Entry]) -> Path:
    """A recording of messages, in the order of their reception."""
    with BagWriter(path) as bag:
        for received_ns, topic, message in sorted(entries, key=lambda entry: entry[0]):
            bag.write(topic, message, received_ns)
    return path


# The tools of faults. Messages are copied before they are changed: a recording serves many faults.


def without(entries: list[Entry], *topics: str) -> list[Entry]:
    """Without some topics."""
    return [entry for entry in entries if entry[1] not in topics]


def of(entries: list[Entry], topic: str) -> list[Entry]:
    """Those of one topic."""
    return [entry for entry in entries if entry[1] == topic]


Change = Callable[[int, int, Any], Any]  # number among those of its topic, received, message -> message; None: dropped


def change(entries: list[Entry], topic: str, how: Change) -> list[Entry]:
    """With the messages of one topic changed or dropped."""
    number, found = 0, []
    for received_ns, name, message in entries:
        if name == topic:
            message = how(number, received_ns, copy.deepcopy(message))
            number += 1
        if message is not None:
            found.append((received_ns, name, message))
    return found


def stamped(message: Any, stamp_ns: int) -> Any:
    """With another stamp."""
    header = message.header
    header.stamp = replace(header.stamp, sec=stamp_ns // SECOND_NS, nanosec=stamp_ns % SECOND_NS)
    return message


def shift(by_ns: Callable[[int, int], int]) -> Change:
    """Stamps moved by a function of number and reception."""
    return lambda n, at_ns, message: stamped(message, header_stamp_ns(message.header) + by_ns(n, at_ns))


def middle(entries: list[Entry]) -> int:
    """The time of reception halfway through."""
    return (entries[0][0] + entries[-1][0]) // 2


def picture(how: Callable[[int, np.ndarray], np.ndarray]) -> Change:
    """Images changed and encoded again."""

    def changed(number: int, received_ns: int, message: Any) -> Any:
        rgb = cv2.imdecode(np.asarray(message.data), cv2.IMREAD_COLOR)
        jpeg = cv2.imencode(".jpg", how(number, rgb), [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
        message.data = np.frombuffer(jpeg.tobytes(), np.uint8)
        return message

    return changed


def depth_as(entries: list[Entry], how: Callable[[np.ndarray], np.ndarray], encoding: str) -> list[Entry]:
    """Depth images (metres, NaN unknown) as other values of an encoding."""
    make = MessageFactory()

    def changed(number: int, received_ns: int, message: Any) -> Any:
        metres = depth.decode_depth(message.data, message.encoding, message.height, message.width, message.step)
        stamp_ns, frame = header_stamp_ns(message.header), message.header.frame_id
        return make.image(stamp_ns, frame, how(metres), encoding)

    return change(entries, DEPTH, changed)


# The faults.


@dataclass(frozen=True)
class Fault:
    """`needs` are topics without which it cannot be put in; `suffix` the kind of file it needs ("" any)."""

    name: str
    codes: tuple[str, ...]
    entries: Callable[[list[Entry], np.random.Generator], list[Entry]] = lambda entries, rng: entries
    file: Callable[[Path], None] = lambda path: None
    needs: tuple[str, ...] = ()
    suffix: str = ""
    gps_only: bool = False
    notes: bool = False  # it harms nothing, so that a note is enough


def inject(fault: Fault, entries: list[Entry], path: Path, seed: int) -> Path:
    """The recording with the fault."""
    write(path, fault.entries(entries, np.random.default_rng(seed)))
    fault.file(path)
    return path


def topics_of(path: Path) -> set[str]:
    """Of a recording."""
    with open_bag(path) as bag:
        return set(bag.topics)


def can_hold(fault: Fault, topics: set[str], suffix: str) -> bool:
    """Whether a recording of these topics has what the fault spoils."""
    return set(fault.needs) <= topics and fault.suffix in ("", suffix) and (not fault.gps_only or ODOM not in topics)


def _drop(topic: str, share: float) -> Callable[[list[Entry], np.random.Generator], list[Entry]]:
    return lambda entries, rng: change(entries, topic, lambda n, at, it: None if rng.random() < share else it)


def _silence(topic: str, seconds: float) -> Callable[[list[Entry], np.random.Generator], list[Entry]]:
    def silenced(entries: list[Entry], rng: np.random.Generator) -> list[Entry]:
        begin = middle(entries) + int(rng.uniform(-3, 3) * SECOND_NS)
        end = begin + int(seconds * SECOND_NS)
        return change(entries, topic, lambda n, at, it: None if begin <= at < end else it)

    return silenced


def _stamps(topic: str, by_s: Callable[[float, np.random.Generator], float], *more: str) -> Any:
    """Stamps moved by seconds, by the seconds since the middle."""

    def moved(entries: list[Entry], rng: np.random.Generator) -> list[Entry]:
        half = middle(entries)
        for name in (topic, *more):
            entries = change(entries, name, shift(lambda n, at: int(by_s((at - half) / 1e9, rng) * SECOND_NS)))
        return entries

    return moved


def _received(topic: str, by_s: Callable[[float], float]) -> Any:
    def late(entries: list[Entry], rng: np.random.Generator) -> list[Entry]:
        first, last = entries[0][0], entries[-1][0]
        return [
            (at + int(by_s((at - first) / (last - first)) * SECOND_NS) if name == topic else at, name, message)
            for at, name, message in entries
        ]

    return late


def _each(topic: str, how: Callable[[Any, np.random.Generator, int], Any]) -> Any:
    return lambda entries, rng: change(entries, topic, lambda n, at, it: how(it, rng, n))


def _frame(message: Any, name: str) -> Any:
    message.header.frame_id = name
    return message


def _pose(message: Any, **fields: float) -> Any:
    pose = message.pose.pose
    for name, value in fields.items():
        part, axis = (pose.position, name[1:]) if name.startswith("p") else (pose.orientation, name[1:])
        setattr(part, axis, value)
    return message


def _scaled(message: Any, factor: float) -> Any:
    q = message.pose.pose.orientation
    return _pose(message, qx=factor * q.x, qy=factor * q.y, qz=factor * q.z, qw=factor * q.w)


def _repeat_stamps(topic: str, every: int) -> Any:
    def repeated(entries: list[Entry], rng: np.random.Generator) -> list[Entry]:
        last = [0]

        def how(n: int, at: int, message: Any) -> Any:
            if n % every == 0 and n:
                return stamped(message, last[0])
            last[0] = header_stamp_ns(message.header)
            return message

        return change(entries, topic, how)

    return repeated


def _camera_info(**fields: Any) -> Any:
    def changed(message: Any, rng: np.random.Generator, n: int) -> Any:
        for name, value in fields.items():
            setattr(message, name, value(getattr(message, name)) if callable(value) else value)
        return message

    return _each(INFO, changed)


def _gps(how: Callable[[Any, np.random.Generator, float], Any]) -> Any:
    def changed(entries: list[Entry], rng: np.random.Generator) -> list[Entry]:
        half = middle(entries)
        return change(entries, FIX, lambda n, at, it: how(it, rng, (at - half) / 1e9))

    return changed


def _moved_fix(message: Any, east_m: float) -> Any:
    message.longitude += east_m / (111_320.0 * np.cos(np.radians(message.latitude)))
    return message


def _broken_jpeg(message: Any, rng: np.random.Generator, n: int) -> Any:
    if n % 5 == 2:
        message.data = np.asarray(message.data)[: len(message.data) // 2].copy()
    return message


def _odd_encoding(message: Any, rng: np.random.Generator, n: int) -> Any:
    rgb = cv2.imdecode(np.asarray(message.data), cv2.IMREAD_COLOR)
    image = MessageFactory().image(header_stamp_ns(message.header), message.header.frame_id, rgb, "bgr8")
    image.encoding = "bgr10"
    return image


def _twice(entries: list[Entry], rng: np.random.Generator) -> list[Entry]:
    other = [
        (at + 1, "/camera_rear/image/compressed", _frame(copy.deepcopy(it), "rear")) for at, _, it in of(entries, IMAGE)
    ]
    return [*entries, *other]


def _no_link(entries: list[Entry], rng: np.random.Generator) -> list[Entry]:
    """The mount hangs on a frame that nothing connects to the body."""

    def how(n: int, at: int, message: Any) -> Any:
        for item in message.transforms:
            if item.child_frame_id.startswith("camera"):
                item.header.frame_id = "gimbal_link"
        return message

    return change(entries, TF_STATIC, how)


def _blurred(share: float, length: int) -> Any:
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1 / length

    def faulty(entries: list[Entry], rng: np.random.Generator) -> list[Entry]:
        return change(
            entries, IMAGE, picture(lambda n, it: cv2.filter2D(it, -1, kernel) if rng.random() < share else it)
        )

    return faulty


def _frozen(entries: list[Entry], rng: np.random.Generator) -> list[Entry]:
    kept: list[Any] = []
    begin, end = middle(entries), middle(entries) + 4 * SECOND_NS

    def how(n: int, at: int, message: Any) -> Any:
        if begin <= at < end:
            kept.append(message.data)
            message.data = kept[0]
        return message

    return change(entries, IMAGE, how)


def _half_size(entries: list[Entry], rng: np.random.Generator) -> list[Entry]:
    count = len(of(entries, IMAGE))
    return change(entries, IMAGE, picture(lambda n, it: cv2.resize(it, None, fx=0.5, fy=0.5) if n > count // 2 else it))


def _truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 6 // 10)


def _no_index(path: Path) -> None:
    """An mcap whose writer was killed: without summary, footer and the magic at its end."""
    with path.open("r+b") as file:
        file.seek(-37, 2)  # footer: opcode, length, summary start, its offsets, CRC; then the magic
        summary = int.from_bytes(file.read(17)[9:17], "little")
        file.truncate(summary)


def _qos(topic: str, how: Callable[[str], str]) -> Callable[[Path], None]:
    def changed(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as bag:
            (text,) = bag.execute("SELECT offered_qos_profiles FROM topics WHERE name = ?", (topic,)).fetchone()
            bag.execute("UPDATE topics SET offered_qos_profiles = ? WHERE name = ?", (how(text), topic))
            bag.commit()

    return changed


def _volatile(text: str) -> str:
    """As of a publisher that is not latched; durability is a word, or a number (2: volatile)."""
    return text.replace("durability: 1", "durability: 2").replace("transient_local", "volatile")


def _two_publishers(text: str) -> str:
    return text.rstrip() + "\n" + text.replace("reliability: 1", "reliability: 2").replace("reliable", "best_effort")


FAULTS = (
    Fault("images lost", ("lost_messages",), _drop(IMAGE, 0.08)),
    Fault("odometry lost", ("lost_messages",), _drop(ODOM, 0.15), needs=(ODOM,)),
    Fault("depth lost", ("lost_messages", "rejected"), _drop(DEPTH, 0.1), needs=(DEPTH,)),
    Fault("images stop for 4 s", ("gap",), _silence(IMAGE, 4.0)),
    Fault("odometry stops for 3 s", ("gap", "rejected"), _silence(ODOM, 3.0), needs=(ODOM,)),
    Fault("GPS stops for 6 s, no odometry", ("gap", "rejected"), _silence(FIX, 6.0), gps_only=True),
    Fault(
        "clock of the camera 0.4 s ahead",
        ("clock_offset", "receive_lag"),
        _stamps(IMAGE, lambda t, r: 0.4, DEPTH, INFO),
        needs=(ODOM, DEPTH),
    ),
    Fault("clock of the camera 0.6 s behind", ("clock_offset", "receive_lag"), _stamps(IMAGE, lambda t, r: -0.6)),
    Fault("clock of the camera an hour ahead", ("clock",), _stamps(IMAGE, lambda t, r: 3600.0, INFO)),
    Fault("stamps of images jump back by 2 s", ("stamp_jump",), _stamps(IMAGE, lambda t, r: -2.0 if t > 0 else 0.0)),
    Fault(
        "stamps of odometry jump ahead by 5 s",
        ("stamp_jump",),
        _stamps(ODOM, lambda t, r: 5.0 if t > 0 else 0.0),
        needs=(ODOM,),
    ),
    Fault(
        "all clocks set back by 3 s",
        ("stamp_jump",),
        _stamps(IMAGE, lambda t, r: -3.0 if t > 0 else 0.0, INFO, ODOM, FIX),
        needs=(ODOM,),
    ),
    Fault("images repeat stamps", ("repeated_stamps",), _repeat_stamps(IMAGE, 6)),
    Fault("odometry repeats stamps", ("repeated_stamps",), _repeat_stamps(ODOM, 4), needs=(ODOM,)),
    Fault("images come later and later", ("receive_lag",), _received(IMAGE, lambda share: 3.0 * share)),
    Fault("images come 1.2 s late", ("receive_lag", "clock_offset"), _received(IMAGE, lambda share: 1.2)),
    Fault(
        "images stamped on reception",
        ("receive_stamps",),
        lambda entries, rng: change(entries, IMAGE, lambda n, at, it: stamped(it, at)),
    ),
    Fault(
        "images without stamps",
        ("no_stamp",),
        lambda entries, rng: change(entries, IMAGE, lambda n, at, it: stamped(it, 0)),
    ),
    Fault("images out of order", ("out_of_order",), _stamps(IMAGE, lambda t, r: r.normal(0, 0.08))),
    Fault("images of an unknown frame", ("mount_assumed",), _each(IMAGE, lambda it, r, n: _frame(it, "cam0"))),
    Fault(
        "odometry of an unknown body",
        ("mount_assumed",),
        _each(ODOM, lambda it, r, n: replace(it, child_frame_id="drone")),
        needs=(ODOM,),
    ),
    Fault("no /tf_static", ("mount_assumed",), lambda entries, rng: without(entries, TF_STATIC)),
    Fault("a link of TF missing", ("mount_assumed", "tf_split"), _no_link),
    Fault(
        "no CameraInfo", ("no_camera_info",), lambda entries, rng: without(entries, INFO, "/camera/depth/camera_info")
    ),
    Fault("CameraInfo of zeros", ("uncalibrated",), _camera_info(k=lambda k: 0 * k, p=lambda p: 0 * p)),
    Fault(
        "CameraInfo of twice the size",
        ("camera_info_size",),
        _camera_info(width=lambda w: 2 * w, height=lambda h: 2 * h),
    ),
    Fault("CameraInfo of another shape", ("camera_info_size",), _camera_info(height=lambda h: 2 * h)),
    Fault(
        "CameraInfo of another camera",
        ("camera_info_frame",),
        _camera_info(header=lambda header: replace(header, frame_id="rear")),
    ),
    Fault("focal length in millimetres", ("lens",), _camera_info(k=lambda k: np.where(k > 1, k / 100, k))),
    Fault("/tf_static volatile", ("qos_static",), file=_qos(TF_STATIC, _volatile), suffix=".db3"),
    Fault("two publishers of odometry", ("qos_mixed",), file=_qos(ODOM, _two_publishers), suffix=".db3", needs=(ODOM,)),
    Fault("motion blur in 4 of 10 images", ("blur",), _blurred(0.4, 15)),
    Fault(
        "out of focus",
        ("blur",),
        lambda entries, rng: change(entries, IMAGE, picture(lambda n, it: cv2.GaussianBlur(it, (0, 0), 3.0))),
    ),
    Fault(
        "overexposed",
        ("overexposed",),
        lambda entries, rng: change(entries, IMAGE, picture(lambda n, it: cv2.convertScaleAbs(it, alpha=3.0, beta=60))),
    ),
    Fault(
        "underexposed",
        ("underexposed", "blank"),
        lambda entries, rng: change(entries, IMAGE, picture(lambda n, it: cv2.convertScaleAbs(it, alpha=0.15))),
    ),
    Fault("image frozen for 4 s", ("frozen",), _frozen),
    Fault(
        "black images",
        ("blank",),
        lambda entries, rng: change(entries, IMAGE, picture(lambda n, it: 0 * it if rng.random() < 0.15 else it)),
    ),
    Fault("image size changes", ("image_size",), _half_size),
    Fault("damaged JPEGs", ("image_unreadable", "rejected"), _each(IMAGE, _broken_jpeg)),
    Fault("an encoding nobody knows", ("image_unreadable", "rejected"), _each(IMAGE, _odd_encoding)),
    Fault(
        "GPS without a fix",
        ("gps_no_fix",),
        _gps(lambda it, r, t: replace(it, status=replace(it.status, status=-1))),
        needs=(ODOM,),
    ),
    Fault(
        "GPS loses its fix, no odometry",
        ("gps_outages",),
        _gps(lambda it, r, t: replace(it, status=replace(it.status, status=-1)) if 0 < t < 3 else it),
        gps_only=True,
    ),
    Fault(
        "GPS shifts by 25 m for 6 s",
        ("gps_jumps",),
        _gps(lambda it, r, t: _moved_fix(it, 25.0) if 0 < t < 6 else it),
        needs=(ODOM,),
    ),
    Fault("GPS with outliers", ("gps_jumps",), _gps(lambda it, r, t: _moved_fix(it, 40.0) if r.random() < 0.1 else it)),
    Fault(
        "GPS good to 20 m, no odometry",
        ("gps_uncertain",),
        _gps(lambda it, r, t: replace(it, position_covariance=np.diag([400.0, 400.0, 900.0]).ravel())),
        gps_only=True,
    ),
    Fault(
        "positions NaN",
        ("bad_poses",),
        _each(ODOM, lambda it, r, n: _pose(it, px=np.nan) if n % 20 < 2 else it),
        needs=(ODOM,),
    ),
    Fault(
        "quaternions zero",
        ("bad_poses",),
        _each(ODOM, lambda it, r, n: _scaled(it, 0.0) if n % 20 < 2 else it),
        needs=(ODOM,),
    ),
    Fault(
        "quaternions not of unit length",
        ("quaternion",),
        _each(ODOM, lambda it, r, n: _scaled(it, 1.7) if n % 3 == 0 else it),
        needs=(ODOM,),
    ),
    Fault(
        "odometry jumps by 20 m",
        ("motion",),
        lambda entries, rng: change(
            entries,
            ODOM,
            lambda n, at, it: _pose(it, px=it.pose.pose.position.x + (20.0 if at > middle(entries) else 0.0)),
        ),
        needs=(ODOM,),
    ),
    Fault(
        "odometry stands still",
        ("motion", "convert", "poses_passed_over"),
        lambda entries, rng: without(_each(ODOM, lambda it, r, n: _pose(it, px=1.0, py=2.0, pz=3.0))(entries, rng), TF),
        needs=(ODOM,),
    ),
    Fault("odometry at 3 Hz", ("low_rate",), _each(ODOM, lambda it, r, n: it if n % 15 == 0 else None), needs=(ODOM,)),
    Fault(
        "odometry begins late",
        ("rejected", "poses_passed_over"),
        lambda entries, rng: change(entries, ODOM, lambda n, at, it: it if at > middle(entries) else None),
        needs=(ODOM,),
    ),
    Fault(
        "metres as millimetres",
        ("depth_unit",),
        lambda entries, rng: depth_as(entries, lambda m: np.nan_to_num(m).astype(np.uint16), "16UC1"),
        needs=(DEPTH,),
    ),
    Fault(
        "millimetres as metres",
        ("depth_unit",),
        lambda entries, rng: depth_as(entries, lambda m: np.rint(1000 * m).astype(np.float32), "32FC1"),
        needs=(DEPTH,),
    ),
    Fault(
        "depth of zeros",
        ("depth_empty",),
        lambda entries, rng: depth_as(entries, lambda m: np.zeros_like(m), "32FC1"),
        needs=(DEPTH,),
    ),
    Fault(
        "depth full of holes",
        ("depth_holes",),
        lambda entries, rng: depth_as(
            entries, lambda m: np.where(rng.random(m.shape) < 0.85, np.float32(0), m), "32FC1"
        ),
        needs=(DEPTH,),
    ),
    Fault(
        "depth of another camera",
        ("depth_frame",),
        _each(DEPTH, lambda it, r, n: _frame(it, "depth_optical_frame")),
        needs=(DEPTH,),
    ),
    Fault(
        "depth of another shape",
        ("rejected",),
        lambda entries, rng: depth_as(entries, lambda m: np.ascontiguousarray(m[: m.shape[0] // 2]), "32FC1"),
        needs=(DEPTH,),
    ),
    Fault("depth 40 ms beside the images", ("rejected",), _stamps(DEPTH, lambda t, r: 0.04), needs=(DEPTH,)),
    Fault("two cameras", ("several_cameras",), _twice, notes=True),
    Fault("no images", ("no_images",), lambda entries, rng: without(entries, IMAGE, DEPTH)),
    Fault("no poses", ("no_poses",), lambda entries, rng: without(entries, ODOM, TF, TF_STATIC, FIX)),
    Fault("no messages", ("empty",), file=lambda path: path.write_bytes(b"")),
    Fault("cut off in the middle", ("damaged",), file=_truncated),
    Fault("no index", ("damaged",), file=_no_index, suffix=".mcap"),
)


def kinds(seed: int) -> str:
    """The suffix of the recording of a seed."""
    return ".db3" if seed % 3 == 2 else ".mcap"


def chosen(topics: dict[int, set[str]]) -> Iterator[tuple[int, int]]:
    """The number of each fault with the seed of a recording that can hold it, in turn; `topics` of them by seed."""
    seeds = list(topics)
    for number, fault in enumerate(FAULTS):
        turn = [seeds[(number + k) % len(seeds)] for k in range(len(seeds))]
        seed = next((it for it in turn if can_hold(fault, topics[it], kinds(it))), None)
        if seed is not None:
            yield number, seed
