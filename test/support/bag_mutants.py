"""Small recordings of every kind, the ways to damage them, and what must be read from what is left."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Ros1Writer

from pose2rgbd_ros.bags.writer import BagWriter

T0, STEP = 1_700_000_000_000_000_000, 100_000_000
FRAMES = 24
IMAGE, DEPTH, ODOM = "/camera/image/compressed", "/camera/depth", "/odom"
TYPES = (
    "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CameraInfo",
    "nav_msgs/msg/Odometry",
)
PACKED = {"ros1 lz4": "LZ4", "ros1 bz2": "BZ2"}
KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "ros1": ("bag.bag", {"ros": "1"}),
    "ros1 lz4": ("bag.bag", {"ros": "1"}),
    "ros1 bz2": ("bag.bag", {"ros": "1"}),
    "mcap": ("bag", {}),
    "mcap, chunks packed": ("bag", {"compression": "storage"}),
    "mcap, messages packed": ("bag", {"compression": "message"}),
    "mcap, file packed": ("bag", {"compression": "file"}),
    "db3": ("bag", {"storage": "sqlite3"}),
    "db3, messages packed": ("bag", {"storage": "sqlite3", "compression": "message"}),
}


def record(folder: Path, kind: str) -> Path:
    """The one file of a recording: JPEG with noise, depth, calibration, odometry, static TF. Several chunks."""
    name, options = KINDS[kind]
    rng = np.random.default_rng(5)
    with _writer(folder / name, kind, options) as bag:
        make, identity = bag.make, ((0, 0, 5), (0, 0, 0, 1))
        for i in range(FRAMES):
            t, frame = T0 + i * STEP, "camera_optical"
            jpeg = cv2.imencode(".jpg", rng.integers(0, 255, (96, 128, 3), dtype=np.uint8))[1].tobytes()
            counts = rng.integers(500, 9000, (48, 64), dtype=np.uint16)
            for j in range(4):
                at = t - STEP + j * STEP // 4
                pose = make.odometry(at, "map", frame, (i + j / 4, 0, 5), identity[1])
                bag.write(ODOM, pose, at)
            info = make.camera_info(t, frame, 128, 96, np.array([[90.0, 0, 63.5], [0, 90.0, 47.5], [0, 0, 1]]))
            bag.write("/camera/camera_info", info, t)
            bag.write(IMAGE, make.compressed_image(t, frame, jpeg), t + 1)
            bag.write(DEPTH, make.image(t, frame, counts, "16UC1"), t + 2)
            if i % 4 == 3:
                _end_chunk(bag)
        bag.write(ODOM, make.odometry(T0 + FRAMES * STEP, "map", frame, *identity), T0 + FRAMES * STEP)
    path = folder / name
    if path.is_file():
        return path
    return next(item for item in path.iterdir() if item.name != "metadata.yaml")


def _writer(path: Path, kind: str, options: dict[str, str]) -> BagWriter:
    """A writer with chunks of 60 kB, so that damage does not cost everything."""
    bag = BagWriter(path, **options)
    if options.get("ros") == "1":
        bag._bag.chunk_threshold = 60_000
        if kind in PACKED:
            bag._bag.set_compression(Ros1Writer.CompressionFormat[PACKED[kind]])
    return bag


def _end_chunk(bag: BagWriter) -> None:
    """Begin a new mcap chunk; the writer's own have a megabyte."""
    storage = getattr(bag._bag, "storage", None)
    if hasattr(storage, "close_chunk"):
        storage.close_chunk()


# Damage: (random generator, contents) -> contents


def _somewhere(rng: np.random.Generator, data: bytes) -> int:
    return int(rng.integers(0, len(data)))


def truncated(rng: np.random.Generator, data: bytes) -> bytes:
    """Cut anywhere."""
    return data[: _somewhere(rng, data)]


def flipped_bits(rng: np.random.Generator, data: bytes) -> bytes:
    """One to twenty single bits."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 20)):
        out[_somewhere(rng, data)] ^= 1 << int(rng.integers(0, 8))
    return bytes(out)


def flipped_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    """Up to 200 bytes of the values that do most harm."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 5, 40, 200])):
        out[_somewhere(rng, data)] = int(rng.choice([0, 1, 127, 128, 255]))
    return bytes(out)


def zeroed(rng: np.random.Generator, data: bytes) -> bytes:
    """A block of zeros, as a file system leaves after a crash."""
    at, size = _somewhere(rng, data), int(rng.choice([16, 512, 4096, 65536]))
    block = data[at : at + size]
    return data[:at] + bytes(len(block)) + data[at + len(block) :]


def spliced(rng: np.random.Generator, data: bytes) -> bytes:
    """A piece of the file over, or between, others."""
    a, size, b = _somewhere(rng, data), int(rng.choice([100, 5000, 60000])), _somewhere(rng, data)
    piece = data[a : a + size]
    return data[:b] + piece + data[b + (len(piece) if rng.random() < 0.5 else 0) :]


def huge_lengths(rng: np.random.Generator, data: bytes) -> bytes:
    """A number in the file becomes enormous."""
    value = int(rng.choice([0x7FFFFFFF, 0xFFFFFFFF, 2**31 + 7]))
    word = struct.pack("<I", value) if rng.random() < 0.5 else struct.pack("<Q", value << 31)
    at = min(_somewhere(rng, data), len(data) - len(word))
    return data[:at] + word + data[at + len(word) :]


def damaged_end(rng: np.random.Generator, data: bytes) -> bytes:
    """The last two kilobytes, where indexes and footers are."""
    cut = max(0, len(data) - int(rng.integers(10, 2000)))
    return data[:cut] + flipped_bytes(rng, data[cut:])


def damaged_head(rng: np.random.Generator, data: bytes) -> bytes:
    """The first two kilobytes, magic included."""
    cut = min(len(data), int(rng.integers(10, 2000)))
    return flipped_bytes(rng, data[:cut]) + data[cut:]


DAMAGES: tuple[Callable[[np.random.Generator, bytes], bytes], ...] = (
    *(truncated, truncated, flipped_bits, flipped_bytes, zeroed, spliced, huge_lengths, damaged_end, damaged_head),
)


@dataclass(frozen=True)
class Mutant:
    """A damaged file; of a cut one, how many messages at least must be read."""

    kind: str
    damage: str
    data: bytes
    suffix: str
    least: int = 0


def mutant(number: int, wholes: dict[str, tuple[str, bytes, list[int]]]) -> Mutant:
    """The `number`-th damaged file. `wholes`: suffix, contents and `ends` of each kind."""
    rng = np.random.default_rng(number)
    kind = list(wholes)[number % len(wholes)]
    suffix, data, ends = wholes[kind]
    damage = DAMAGES[int(rng.integers(0, len(DAMAGES)))]
    spoiled = damage(rng, data)
    least = sum(end <= len(spoiled) for end in ends) if damage is truncated else 0
    return Mutant(kind, damage.__name__, spoiled, suffix, least)


def make_wholes(folder: Path) -> dict[str, tuple[str, bytes, list[int]]]:
    """All kinds of recordings, for `mutant`."""
    found = {}
    for i, kind in enumerate(KINDS):
        path = record(folder / str(i), kind)
        data = path.read_bytes()
        found[kind] = "".join(path.suffixes), data, ends(kind, data)
    return found


def ends(kind: str, data: bytes) -> list[int]:
    """Where each message is complete: its last byte, or where its packed chunk ends."""
    if kind.startswith("ros1"):
        return _ros1_ends(data, packed=kind in PACKED)
    if kind == "db3":
        return _sqlite_ends(data)
    if kind in ("mcap", "mcap, chunks packed"):
        return _mcap_ends(data, packed="packed" in kind)
    return []


def _mcap_ends(data: bytes, packed: bool) -> list[int]:
    found, at = [], 8
    while at + 9 <= len(data):
        opcode, size = data[at], int.from_bytes(data[at + 1 : at + 9], "little")
        body, at = at + 9, at + 9 + size
        if opcode == 0x06:
            name = int.from_bytes(data[body + 28 : body + 32], "little")
            inner = body + 32 + name + 8
            # In a packed chunk each message ends with the chunk; two message types tell how many there are by index.
            if packed:
                found += [at] * _indexed(data, at)
            else:
                found += _mcap_records(data, inner, at)
        if opcode == 0x0F:  # end of data
            break
    return found


def _mcap_records(data: bytes, at: int, end: int) -> list[int]:
    found = []
    while at + 9 <= end:
        opcode, size = data[at], int.from_bytes(data[at + 1 : at + 9], "little")
        at += 9 + size
        if opcode == 0x05:
            found.append(at)
    return found


def _indexed(data: bytes, at: int) -> int:
    """How many messages the index records after a chunk name."""
    count = 0
    while data[at] == 0x07:
        size = int.from_bytes(data[at + 1 : at + 9], "little")
        count += int.from_bytes(data[at + 11 : at + 15], "little") // 16
        at += 9 + size
    return count


def _ros1_ends(data: bytes, packed: bool) -> list[int]:
    """By hand: each record is a sized header of `name=value` fields, then sized data."""
    found, at, pending = [], data.index(b"\n") + 1, 0
    while at < len(data):
        head_size = int.from_bytes(data[at : at + 4], "little")
        op = data[data.index(b"op=", at) + 3]
        body = at + 4 + head_size + 4
        end = body + int.from_bytes(data[body - 4 : body], "little")
        if op == 0x05 and not packed:
            found += _ros1_messages(data, body, end)
        elif op == 0x05:
            pending = end
        elif op == 0x04 and packed:
            found += [pending] * ((end - body) // 12)
        at = end
    return found


def _ros1_messages(data: bytes, at: int, end: int) -> list[int]:
    found = []
    while at < end:
        head_size = int.from_bytes(data[at : at + 4], "little")
        op = data[data.index(b"op=", at) + 3]
        body = at + 4 + head_size + 4
        at = body + int.from_bytes(data[body - 4 : body], "little")
        if op == 0x02:
            found.append(at)
    return found


def _sqlite_ends(data: bytes) -> list[int]:
    """Where the last page of each row ends, by SQLite's own account of its pages."""
    with sqlite3.connect(":memory:") as database:
        database.deserialize(data)
        page = database.execute("PRAGMA page_size").fetchone()[0]
        rows = [bytes(row[0]) for row in database.execute("SELECT data FROM messages ORDER BY id")]
    found, newest = [], 0
    for row in rows:
        at = data.find(row)
        # A long row goes on in pages of its own: its last bytes are noise, and stand in the last of them.
        last = at + len(row) if at >= 0 else max(data.index(row[:200]), data.rindex(row[-16:]))
        newest = max(newest, (last // page + 1) * page)
        found.append(newest)
    return found
