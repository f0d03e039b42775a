"""Reading recordings: order, types, and what is left of damaged ones."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import yaml

from pose2rgbd_ros.bags.messages import StampedTransform
from pose2rgbd_ros.bags.reader import TopicInfo, open_bag
from pose2rgbd_ros.bags.writer import BagWriter
from pose2rgbd_ros.errors import UserError

KINDS = {"ros1": ("bag.bag", {"ros": "1"}), "mcap": ("bag.mcap", {}), "db3": ("bag.db3", {})}
every_kind = pytest.mark.parametrize(("name", "options"), KINDS.values(), ids=list(KINDS))


def record(path: Path, first: int = 0, count: int = 40, size: int = 1000, **options: str) -> Path:
    """`count` images of `size` random bytes and a pose each, a second apart."""
    noise = np.random.default_rng(0)
    with BagWriter(path, **options) as bag:
        for i in range(first, first + count):
            data = noise.integers(0, 255, size, dtype=np.uint8).tobytes()
            bag.write("/image/compressed", bag.make.compressed_image(i, "cam", data), i * 10**9)
            bag.write("/pose", bag.make.pose_stamped(i, "map", (i, 0, 0), (0, 0, 0, 1)), i * 10**9 + 1)
    return path


@every_kind
def test_messages_come_in_order_and_only_of_the_topics_asked_for(tmp_path: Path, name: str, options: dict) -> None:
    with open_bag(record(tmp_path / name, **options)) as bag:
        assert bag.topics == {
            "/image/compressed": TopicInfo("sensor_msgs/msg/CompressedImage", 40),
            "/pose": TopicInfo("geometry_msgs/msg/PoseStamped", 40),
        }
        assert [(topic, t) for topic, t, _ in bag.messages(["/pose"])] == [("/pose", i * 10**9 + 1) for i in range(40)]
        both = list(bag.messages(list(bag.topics)))
        assert [t for _, t, _ in both] == sorted(t for _, t, _ in both)
        assert both[7][2].pose.position.x == 3
        assert bag.problems == []
        with pytest.raises(UserError, match=r"no topic /nothing; its topics: /image/compressed \(sensor_msgs"):
            bag.messages(["/nothing"])


@every_kind
@pytest.mark.parametrize("part", [0.35, 0.6, 0.95])
def test_what_was_written_before_the_cut_is_read(tmp_path: Path, name: str, options: dict, part: float) -> None:
    whole = record(tmp_path / name, size=200_000, **options)
    with open_bag(whole) as bag:
        expected = [bytes(message.data) for _, _, message in bag.messages(["/image/compressed"])]
    data = whole.read_bytes()
    whole.write_bytes(data[: int(len(data) * part)])
    with open_bag(whole) as bag:
        found = [bytes(message.data) for _, _, message in bag.messages(["/image/compressed"])]
        assert len(bag.problems) == 1
        assert "is damaged" in bag.problems[0]
        assert bag.topics["/image/compressed"].count == len(found)
    # A chunk that was being written is lost, and with sqlite3 a message whose pages are.
    assert 40 * part - 8 <= len(found) <= 40 * part
    assert found == expected[: len(found)]


def test_a_ros1_bag_that_was_never_closed(tmp_path: Path) -> None:
    """`rosbag record` writes the position of the index last: until then it is 0 (a .bag.active file)."""
    path = record(tmp_path / "flight.bag", size=100_000, ros="1")
    data = path.read_bytes()
    at = data.index(b"index_pos=") + len(b"index_pos=")
    active = tmp_path / "flight.bag.active"
    active.write_bytes(data[:at] + bytes(8) + data[at + 8 :])
    with open_bag(active) as bag:
        assert bag.topics["/pose"].count == 40
        assert "not indexed" in bag.problems[0]


def test_the_last_split_of_a_killed_recorder_has_no_end(tmp_path: Path) -> None:
    folder = tmp_path / "bag"
    folder.mkdir()
    record(folder / "bag_0.mcap", 0, 20, 300_000)
    record(folder / "bag_10.mcap", 40, 20, 300_000)
    record(folder / "bag_2.mcap", 20, 20, 300_000)
    last = folder / "bag_10.mcap"
    last.write_bytes(last.read_bytes()[:3_000_000])
    with open_bag(folder) as bag:
        images = [message.header.stamp.nanosec for _, _, message in bag.messages(["/image/compressed"])]
        assert images == list(range(len(images)))
        assert 44 <= len(images) <= 50
        assert [problem.split()[0] for problem in bag.problems] == ["bag_10.mcap"]


def test_a_split_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "bag"
    folder.mkdir()
    record(folder / "bag_0.db3", 0, 3)
    (folder / "bag_1.db3").write_text("scratched")
    info = {"relative_file_paths": ["bag_0.db3", "bag_1.db3"]}
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": info}))
    with open_bag(folder) as bag:
        assert bag.topics["/pose"].count == 3
        assert "bag_1.db3 is not a rosbag" in bag.problems[0]


def test_rows_in_the_write_ahead_log_count(tmp_path: Path) -> None:
    """A recorder in WAL mode that was killed leaves its last rows in a file beside the database."""
    path = record(tmp_path / "flight.db3", count=3)
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    database.execute("INSERT INTO messages (topic_id, timestamp, data) SELECT topic_id, 99, data FROM messages")
    database.commit()
    copy = tmp_path / "killed" / "flight.db3"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    shutil.copy(f"{path}-wal", f"{copy}-wal")
    database.close()
    with open_bag(copy) as bag:
        assert bag.topics["/pose"].count == 6
        assert bag.problems == []


def test_damage_that_shows_only_on_the_way_ends_the_reading_and_is_told(tmp_path: Path) -> None:
    path = record(tmp_path / "bag", size=200_000, compression="storage")
    file = path / "bag.mcap"
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200_000] = bytes(200_000)
    file.write_bytes(data)
    with open_bag(path) as bag:
        assert bag.problems == []
        found = list(bag.messages(["/image/compressed"]))
        assert 5 < len(found) < 40
        assert "bag.mcap is damaged part of the way" in bag.problems[0]


def test_damage_in_the_middle_of_a_ros1_bag(tmp_path: Path) -> None:
    path = record(tmp_path / "flight.bag", size=100_000, ros="1")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300_000] = bytes(300_000)
    path.write_bytes(data)
    with open_bag(path) as bag:
        found = list(bag.messages(["/image/compressed"]))
        assert 5 < len(found) < 40
        assert "flight.bag is damaged" in bag.problems[0]


@pytest.mark.parametrize("name", ["flight.bag", "flight.mcap", "flight.db3", "flight.jpg", "flight"])
def test_what_is_no_bag_is_told_whatever_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xd8\xff\xe0" * 1000)
    with pytest.raises(UserError, match="is not a rosbag"), open_bag(tmp_path / name):
        pass


def test_a_bag_is_known_by_its_contents_not_its_name(tmp_path: Path) -> None:
    path = record(tmp_path / "flight.mcap", count=2).rename(tmp_path / "flight.backup")
    with open_bag(path) as bag:
        assert bag.topics["/pose"].count == 2


def test_a_topic_of_unknown_type_is_told(real_data: Path) -> None:
    with open_bag(real_data / "rosbags" / "uf_vehicle_gps_odom_ros2") as bag:
        with pytest.raises(UserError, match="ackermann_msgs/msg/AckermannDriveStamped, which cannot be read"):
            bag.messages(["/vehicle_command_ackermann"])
        assert sum(1 for _ in bag.messages(["/gps", "/vehicle_pose"])) == 107 + 2034


@pytest.mark.parametrize("kind", [*KINDS, "packed chunks"])
def test_scratched_recordings_never_end_in_a_traceback(tmp_path: Path, kind: str) -> None:
    """Bytes changed at random: what comes is read, or told as a UserError."""
    name, options = KINDS.get(kind, ("bag", {"compression": "storage"}))
    path = record(tmp_path / name, count=8, size=300, **options)
    path = next(path.glob("*.mcap")) if path.is_dir() else path
    whole, scratched = path.read_bytes(), tmp_path / f"scratched{path.suffix}"
    rng = np.random.default_rng(1)
    outcomes = set()
    for _ in range(60):
        data = np.frombuffer(whole, np.uint8).copy()
        at = rng.integers(0, len(data), rng.choice([1, 5, 100]))
        data[at] = rng.choice([0, 255, 7], len(at))
        scratched.write_bytes(data[: rng.integers(len(data) // 2, 2 * len(data))].tobytes())
        try:
            with open_bag(scratched) as bag:
                outcomes.add(sum(1 for _ in bag.messages(list(bag.topics))))
        except UserError:
            outcomes.add(None)
    assert len(outcomes) > 1


def test_an_mcap_file_of_other_messages_is_refused(tmp_path: Path) -> None:
    """mcap is also used for ROS 1 messages: the same container, another serialisation."""
    data = record(tmp_path / "flight.mcap", count=2).read_bytes()
    assert data.count(b"\x04\0\0\0ros2") == 1
    other = tmp_path / "ros1.mcap"
    other.write_bytes(data.replace(b"\x04\0\0\0ros2", b"\x04\0\0\0ros1").replace(b"\x03\0\0\0cdr", b"\x03\0\0\0xdr"))
    with pytest.raises(UserError, match=r"no message can be read from it \(Profile is not ros2.\)"), open_bag(other):
        pass


@pytest.mark.parametrize(
    "options",
    [{"ros": "1"}, {}, {"storage": "sqlite3"}, *({"compression": mode} for mode in ("storage", "message", "file"))],
    ids=str,
)
def test_stamps_are_read_without_the_messages(tmp_path: Path, options: dict) -> None:
    path = record(tmp_path / ("bag.bag" if "ros" in options else "bag"), size=100_000, **options)
    with open_bag(path) as bag:
        topics = ["/image/compressed", "/pose"]
        expected = [
            (topic, received, message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)
            for topic, received, message in bag.messages(topics)
        ]
        assert list(bag.stamps(topics)) == expected
        assert len(expected) == 80


@pytest.mark.parametrize("part", [0.3, 0.6])
def test_stamps_around_a_damaged_chunk_come_once(tmp_path: Path, part: float) -> None:
    path = record(tmp_path / "bag", size=100_000, compression="storage")
    file = next(path.glob("*.mcap"))
    data = bytearray(file.read_bytes())
    at = int(part * len(data))
    data[at : at + 300_000] = bytes(300_000)
    file.write_bytes(data)
    with open_bag(path) as bag:
        stamps = [received for _, received, _ in bag.stamps(["/pose"])]
        assert stamps == [received for _, received, _ in bag.messages(["/pose"])]
    assert 10 < len(stamps) < 40


@every_kind
def test_stamps_of_a_damaged_recording_are_those_of_its_messages(tmp_path: Path, name: str, options: dict) -> None:
    path = record(tmp_path / name, size=60_000, **options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    with open_bag(path) as bag:
        assert len(list(bag.stamps(["/pose"]))) == len(list(bag.messages(["/pose"]))) > 10


@pytest.mark.parametrize("rest", [b"", b"\x01\x10\0\0\0\0\0\0\0\4\0\0\0ros2\4\0\0\0test"])
def test_an_mcap_of_only_its_header_is_said_to_end_early(rest: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(b"\x89MCAP0\r\n" + rest)
    expected = r"a\.mcap is damaged and no message can be read from it \(it ends early\)"
    with pytest.raises(UserError, match=expected), open_bag(path):
        pass


@pytest.mark.parametrize(
    ("name", "options"), [("folder", {}), ("folder", {"storage": "sqlite3"}), ("a.bag", {"ros": "1"})]
)
def test_the_edges_of_tf_are_told_from_the_first_bytes(name: str, options: dict, tmp_path: Path) -> None:
    """Names of any length: the strings are padded to four bytes each."""
    edges = [("map"[: i % 4] + "m", "b" * (1 + i // 4)) for i in range(16)] + [("/map", "/base_link")]
    with BagWriter(tmp_path / name, **options) as bag:
        for i, (parent, child) in enumerate(edges):
            moved = StampedTransform(i * 10, parent, child, np.zeros(3), np.array([0, 0, 0, 1.0]))
            bag.write("/tf", bag.make.tf_message([moved]), 1000 + i)
    with open_bag(tmp_path / name) as reader:
        found = list(reader.stamps(["/tf"], by_edge=True))
    expected = [f"/tf ({parent.lstrip('/')} -> {child.lstrip('/')})" for parent, child in edges]
    assert found == [(edge, 1000 + i, i * 10) for i, edge in enumerate(expected)]
