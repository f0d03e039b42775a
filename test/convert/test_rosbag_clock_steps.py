"""Clocks that are set while a recording runs, short or long: no frame has the pose of another time than its own."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.bags.messages import MessageFactory, StampedTransform
from pose2rgbd_ros.bags.writer import BagWriter
from pose2rgbd_ros.convert.bag import convert
from pose2rgbd_ros.convert.report import ConvertReport
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError

S, MS = 1_000_000_000, 1_000_000
T0 = 1_700_000_000 * S
IMAGE, ODOM = "/camera/image/compressed", "/odom"
SPEED_MPS, TURN_RADPS = 2.0, 0.5
# Steps below this cannot be distinguished from jitter (docs/convert.md, Clocks).
LEAST_STEP_S, CLEAR_STEP_S = 0.1, 0.11
STORAGES: dict[str, dict[str, str]] = {"mcap": {}, "sqlite3": {"storage": "sqlite3"}, "ros1": {"ros": "1"}}
CUT = {f"{name} without its end": STORAGES[name] for name in ("mcap", "ros1")}
STORAGES |= CUT


@dataclass(frozen=True)
class Set:
    """A recording of `length_s` during which the clock of some topics was set by `by_s` at a part of the way."""

    by_s: float
    at: float = 0.5
    images: int = 18
    poses: int = 36
    jitter_s: float = 0.0
    topics: tuple[str, ...] = (IMAGE, ODOM)
    tf: bool = False
    seed: int = 0
    length_s: float = 1.8
    images_in: tuple[float, float] = (0.0, 1.0)
    poses_in: tuple[float, float] = (0.0, 1.0)
    recorder_by_s: float = 0.0  # the recorder's own clock was set then, too
    storage: str = "mcap"
    apart_s: float = 0.0  # by so much more the clock of the poses was set, another than that of the images
    max_pose_gap_s: float = 0.5

    def true_s(self, count: int, part: float, within: tuple[float, float]) -> np.ndarray:
        first_s, last_s = (edge * self.length_s for edge in within)
        return first_s + (np.arange(count) + part) * (last_s - first_s) / count

    @property
    def is_seen(self) -> bool:
        """Whether what was set shows: else it is a clock that differs all the time, by little, from the other."""
        counts = {IMAGE: (self.images, 0.4, self.images_in), ODOM: (self.poses, 0.0, self.poses_in)}
        sides = [self.true_s(*counts[topic]) >= self.at * self.length_s for topic in self.topics]
        return len(sides) == 2 or 0 < sides[0].sum() < len(sides[0])

    @property
    def poses_by_s(self) -> float:
        """By how much the clock of the poses was set: another one if both show by how much, for which it takes three
        messages.
        """
        counts = ((self.images, 0.4, self.images_in), (self.poses, 0.0, self.poses_in))
        sides = [self.true_s(*count) >= self.at * self.length_s for count in counts]
        seen = len(self.topics) == 2 and all(min(side.sum(), (~side).sum()) >= 3 for side in sides)
        by_s = self.by_s + self.apart_s
        return by_s if seen and abs(by_s) > CLEAR_STEP_S else self.by_s

    def write(self, path: Path) -> dict[int, float]:
        """The recording; and by the (unique) brightness of an image, its true time."""
        rng, make = np.random.default_rng(self.seed), MessageFactory(STORAGES[self.storage].get("ros", "2"))
        sent, times = [], {}
        for i, true_s in enumerate(self.true_s(self.images, 0.4, self.images_in)):
            sent.append((true_s, 0.005, IMAGE, i))
            times[i] = true_s
        sent += [(true_s, 0.001, ODOM, -1) for true_s in self.true_s(self.poses, 0.0, self.poses_in)]
        newest: dict[str, int] = {}
        entries = []
        for true_s, delay_s, topic, i in sent:
            late_s = delay_s + self.jitter_s * rng.random()
            by_s = self.by_s if topic == IMAGE else self.poses_by_s
            is_set = self.is_seen and topic in self.topics and true_s >= self.at * self.length_s
            set_s = by_s if is_set else 0.0
            stamp = T0 + round((true_s + set_s) * S)
            received = max(T0 + round((true_s + late_s) * S), newest.get(topic, 0) + 1)  # in order
            newest[topic] = received
            if topic == IMAGE:
                message = make.compressed_image(stamp, "camera_optical", picture(i))
            else:
                position = [SPEED_MPS * true_s, 1.0, 10.0]
                quat = Rotation.from_euler("z", TURN_RADPS * true_s).as_quat()
                if self.tf:
                    topic = "/tf"
                    message = make.tf_message([StampedTransform(stamp, "map", "base_link", np.array(position), quat)])
                else:
                    message = make.odometry(stamp, "map", "base_link", position, quat)
            entries.append((received, topic, message))
        set_ns = T0 + round(self.at * self.length_s * S)
        with BagWriter(path, **STORAGES[self.storage]) as bag:
            for received, topic, message in sorted(entries, key=lambda entry: entry[0]):
                bag.write(topic, message, received + (received >= set_ns) * round(self.recorder_by_s * S))
        if self.storage in CUT:
            file = next(path.glob("*.mcap")) if path.is_dir() else path
            file.write_bytes(file.read_bytes()[:-8])
        return times


def picture(i: int) -> bytes:
    """An image that says which one it is."""
    import cv2

    return cv2.imencode(".png", np.full((8, 8, 3), 3 * i, np.uint8))[1].tobytes()


def convert_and_check(recorded: Set, stamps: str, within_s: float) -> tuple[ConvertReport | None, int]:
    """The report, and how many frames there are; each has the pose that the camera had when it took the image."""
    with tempfile.TemporaryDirectory() as folder:
        times = recorded.write(Path(folder) / "bag")
        config = ConvertConfig(stamps=stamps, body_to_camera="forward", jobs=1, max_pose_gap_s=recorded.max_pose_gap_s)
        try:
            report = convert([Path(folder) / "bag"], Path(folder) / "out", config)
        except UserError:
            return None, 0  # not one frame: none is wrong
        dataset = Dataset(Path(folder) / "out")
        for i in range(len(dataset)):
            true_s = times[round(float(dataset.rgb(i).mean()) / 3)]
            found_s = float(dataset.T_map_cam[i, 0, 3]) / SPEED_MPS
            assert abs(found_s - true_s) <= within_s, (recorded, stamps, i)
        assert len(dataset) + sum(report.rejects.values()) == recorded.images
        return report, len(dataset)


@pytest.mark.parametrize("by_s", [-30.0, -3.4, -0.7, 0.7, 3.4, 30.0])
@pytest.mark.parametrize("images", [12, 18])
def test_one_step_is_joined_however_short_the_recording(by_s: float, images: int) -> None:
    report, frames = convert_and_check(Set(by_s, images=images), "auto", within_s=1e-3)
    assert frames >= images - 1, "the last image lies behind the last pose"
    assert [text for text in report.warnings if "was set once" in text and f"{by_s:+.3f} s" in text]


@pytest.mark.parametrize("tf", [False, True])
@pytest.mark.parametrize("topics", [(IMAGE,), (ODOM,)])
def test_a_step_of_one_clock_of_two_is_joined_by_reception(topics: tuple[str, ...], tf: bool) -> None:
    _, frames = convert_and_check(Set(-3.4, topics=topics, tf=tf), "auto", within_s=0.02)
    assert frames >= 17


@pytest.mark.parametrize(("by_s", "apart_s"), [(0.7, 0.3), (-1.0, 0.3), (0.7, 0.6), (3.4, -0.4), (0.3, 5.0)])
def test_two_clocks_that_are_set_at_one_time_by_other_amounts_are_two(by_s: float, apart_s: float) -> None:
    """By amounts that are much alike they may as well be one, with messages that come later than before."""
    report, frames = convert_and_check(Set(by_s, apart_s=apart_s, images=30), "auto", within_s=0.006)
    if abs(apart_s) < 0.5:
        assert 14 <= frames <= 16
        assert report.rejects["time_jump"] >= 14
    else:
        assert frames >= 29


@pytest.mark.parametrize("topics", [(IMAGE,), (ODOM,), (IMAGE, ODOM)])
def test_stamps_that_may_not_be_joined_cost_frames_not_poses(topics: tuple[str, ...]) -> None:
    _, frames = convert_and_check(Set(-3.4, topics=topics, length_s=9.0), "header", within_s=1e-3)
    assert frames < 18


recordings = st.builds(
    Set,
    by_s=st.one_of(st.floats(-40, -CLEAR_STEP_S), st.floats(CLEAR_STEP_S, 40), st.just(0.0)),
    at=st.floats(0, 1),
    images=st.integers(1, 40),
    poses=st.integers(2, 80),
    topics=st.sampled_from([(IMAGE, ODOM), (IMAGE, ODOM), (IMAGE,), (ODOM,)]),
    tf=st.booleans(),
    length_s=st.floats(0.5, 8),
    images_in=st.sampled_from([(0.0, 1.0), (0.0, 1.0), (0.0, 0.6), (0.4, 1.0)]),
    poses_in=st.sampled_from([(0.0, 1.0), (0.0, 1.0), (0.0, 0.6), (0.4, 1.0)]),
    apart_s=st.one_of(st.just(0.0), st.just(0.0), st.floats(CLEAR_STEP_S, 2), st.floats(-2, -CLEAR_STEP_S)),
    max_pose_gap_s=st.sampled_from([0.5, 0.5, 4.0]),
)


@settings(max_examples=50, deadline=None)
@given(recordings, st.sampled_from(["auto", "auto", "header", "received"]))
@example(Set(-3.4), "auto")
@example(Set(3.4), "auto")
@example(Set(-30.0, images=12), "auto")
@example(Set(2.0, at=0.3, topics=(IMAGE,), poses_in=(0.4, 1.0), length_s=4.0), "auto")
@example(Set(2.0, at=0.55, poses_in=(0.6, 1.0), length_s=4.0), "auto")
@example(Set(-2.0, at=0.6, poses_in=(0.5, 1.0), length_s=4.0), "auto")
@example(Set(0.7, apart_s=0.3), "auto")
@example(Set(2.0, at=0.45, poses_in=(0.0, 0.4), length_s=4.0), "auto")
def test_no_accepted_pose_is_ever_wrong(recorded: Set, stamps: str) -> None:
    # By reception images are 4 ms later than poses.
    convert_and_check(recorded, stamps, within_s=0.006)


@settings(max_examples=30, deadline=None)
@given(
    recordings,
    st.floats(CLEAR_STEP_S, 40),
    st.sampled_from(list(STORAGES)),
    st.sampled_from(["auto", "header", "received"]),
)
@example(Set(0.0, at=0.511, length_s=9.0, images=60, poses=4, max_pose_gap_s=4.1), 0.5, "mcap", "received")
def test_nor_is_it_when_the_recorders_clock_was_set_back(
    recorded: Set, back_s: float, storage: str, stamps: str
) -> None:
    """With the stamps, that are of the same computer, or while they are of another clock that goes on."""
    recorded = replace(recorded, images=max(4, recorded.images), poses=max(4, recorded.poses))  # else it does not show
    by_s = -back_s if recorded.by_s else 0.0
    topics = recorded.topics if stamps == "auto" else (IMAGE, ODOM)
    convert_and_check(
        replace(recorded, by_s=by_s, apart_s=0.0, recorder_by_s=-back_s, storage=storage, topics=topics),
        stamps,
        within_s=0.006,
    )


@pytest.mark.parametrize("storage", list(STORAGES))
@pytest.mark.parametrize("by_s", [-0.5, 0.0])
def test_what_the_recorder_received_at_times_that_came_twice_is_left_out(storage: str, by_s: float) -> None:
    recorded = Set(by_s, length_s=9.0, images=60, poses=180, recorder_by_s=-0.5, storage=storage)
    report, frames = convert_and_check(recorded, "auto", within_s=0.006)
    assert 60 - frames <= 15, "half a second twice, and half a second around it"
    assert report.rejects["time_jump"] >= 6
    assert 180 - report.bags[0].poses == pytest.approx(20, abs=1), "poses of half a second twice"
    assert [text for text in report.warnings if "the recorder's own clock was set back by about 0." in text]


@settings(max_examples=20, deadline=None)
@given(recordings, st.floats(0, 0.03), st.integers(0, 1000))
def test_nor_is_it_with_jitter(recorded: Set, jitter_s: float, seed: int) -> None:
    by_s = recorded.by_s if abs(recorded.by_s) > 6 * jitter_s else 0.0
    apart_s = recorded.apart_s if abs(recorded.apart_s) > LEAST_STEP_S + 6 * jitter_s else 0.0
    noisy = replace(recorded, by_s=by_s, apart_s=apart_s, jitter_s=jitter_s, seed=seed)
    convert_and_check(noisy, "auto", within_s=0.006 + 2 * jitter_s)


def test_tf_stamped_ahead_of_time_is_no_clock_that_was_set(tmp_path: Path) -> None:
    """AMCL sends map -> odom stamped a second ahead, among odom -> base_link on the same topic."""
    make, path = MessageFactory(), tmp_path / "bag"
    still = np.zeros(3), np.array([0, 0, 0, 1.0])
    with BagWriter(path) as bag:
        for i in range(120):
            t = i * 0.05
            stamp = T0 + round(t * S)
            moved = np.array([SPEED_MPS * t, 1.0, 10.0]), still[1]
            bag.write("/tf", make.tf_message([StampedTransform(stamp, "odom", "base_link", *moved)]), stamp + 2 * MS)
            if i % 10 == 0:
                ahead = make.tf_message([StampedTransform(stamp + 1200 * MS, "map", "odom", *still)])
                bag.write("/tf", ahead, stamp + 3 * MS)
            if i % 5 == 1:
                bag.write(IMAGE, make.compressed_image(stamp, "camera_optical", picture(i % 80)), stamp + 5 * MS)
    report = convert([path], tmp_path / "out", ConvertConfig(body_to_camera="forward"))
    assert not [text for text in report.warnings if "was set" in text or "unlike" in text]
    dataset = Dataset(tmp_path / "out")
    assert len(dataset) >= 18
    np.testing.assert_allclose(dataset.T_map_cam[:, 0, 3], SPEED_MPS * (dataset.stamps_ns - T0) / S, atol=1e-6)


@pytest.mark.parametrize("topic", [IMAGE, ODOM])
def test_a_single_wild_stamp_costs_a_message(topic: str, tmp_path: Path) -> None:
    make, path = MessageFactory(), tmp_path / "bag"
    with BagWriter(path) as bag:
        for i in range(60):
            t = i * 0.05
            stamp = T0 + round(t * S)
            position = [SPEED_MPS * t, 1.0, 10.0]
            wild = 800 * MS if i == 30 else 0
            pose = make.odometry(stamp + wild * (topic == ODOM), "map", "base_link", position, [0, 0, 0, 1])
            bag.write(ODOM, pose, stamp + MS)
            if i % 2 == 0:
                image = make.compressed_image(stamp + wild * (topic == IMAGE), "camera_optical", picture(i))
                bag.write(IMAGE, image, stamp + 5 * MS)
    report = convert([path], tmp_path / "out", ConvertConfig(body_to_camera="forward", jobs=1))
    dataset = Dataset(tmp_path / "out")
    assert len(dataset) == (29 if topic == IMAGE else 30)
    for i in range(len(dataset)):
        true_s = round(float(dataset.rgb(i).mean()) / 3) * 0.05
        assert float(dataset.T_map_cam[i, 0, 3]) / SPEED_MPS == pytest.approx(true_s, abs=1e-6)
    assert any(f"1 of {30 if topic == IMAGE else 60} messages of {topic}" in text for text in report.warnings)


def test_stamps_that_are_no_clock_are_refused(tmp_path: Path) -> None:
    make, path, rng = MessageFactory(), tmp_path / "bag", np.random.default_rng(1)
    with BagWriter(path) as bag:
        for i in range(80):
            stamp = T0 + i * 50 * MS
            wild = int(rng.integers(-9000, 9000)) * MS
            bag.write(IMAGE, make.compressed_image(stamp + wild, "camera_optical", picture(i)), stamp + 5 * MS)
            bag.write(ODOM, make.odometry(stamp, "map", "base_link", [i * 0.1, 1.0, 9.0], [0, 0, 0, 1]), stamp)
    with pytest.raises(UserError, match=r"that is no clock"):
        convert([path], tmp_path / "out", ConvertConfig(body_to_camera="forward"))
    report = convert([path], tmp_path / "out", ConvertConfig(body_to_camera="forward", stamps="received"))
    assert report.frames_written >= 79


@pytest.mark.parametrize("by_s", [-2.0, -0.5])
def test_transforms_of_one_side_of_a_step_do_not_meet_those_of_the_other(by_s: float, tmp_path: Path) -> None:
    """Of two transforms one is sent before the clock is set back, one after: by their stamps they meet, in truth
    never.
    """
    make, path, at_s = MessageFactory(), tmp_path / "bag", 3.0
    with BagWriter(path) as bag:
        for i in range(120):
            t = i * 0.05
            stamp = T0 + round((t + (by_s if t >= at_s else 0.0)) * S)
            frames = ("map", "odom") if t < at_s else ("odom", "base_link")
            moved = StampedTransform(stamp, *frames, np.array([SPEED_MPS * t, 1.0, 10.0]), np.array([0, 0, 0, 1.0]))
            bag.write("/tf", make.tf_message([moved]), T0 + round(t * S) + MS)
            if i % 2:
                image = make.compressed_image(stamp, "camera_optical", picture(i // 2))
                bag.write(IMAGE, image, T0 + round(t * S) + 5 * MS)
    convert([path], tmp_path / "out", ConvertConfig(body_to_camera="forward", jobs=1))
    dataset = Dataset(tmp_path / "out")
    assert dataset.meta.map_frame == "odom", "map -> base_link is never known"
    for i in range(len(dataset)):
        true_s = 0.05 + round(float(dataset.rgb(i).mean()) / 3) * 0.1
        assert float(dataset.T_map_cam[i, 0, 3]) / SPEED_MPS == pytest.approx(true_s, abs=1e-3)


def test_two_images_that_are_late_are_not_taken_for_a_clock_that_was_set(tmp_path: Path) -> None:
    """The first two wait half a second, the next are lost, the others come in time: not for sure a step of the
    clock.
    """
    make, path = MessageFactory(), tmp_path / "bag"
    entries = []
    for i in range(200):
        t = i * 0.02
        pose = make.odometry(T0 + round(t * S), "map", "base_link", [SPEED_MPS * t, 1.0, 10.0], [0, 0, 0, 1])
        entries.append((T0 + round(t * S) + MS, ODOM, pose))
    for i in range(40):
        t = 0.01 + i * 0.1
        received_s = t + (0.5 if i < 2 else 0.005)
        if not 2 <= i < 6:
            image = make.compressed_image(T0 + round(t * S), "camera_optical", picture(i))
            entries.append((T0 + round(received_s * S), IMAGE, image))
    with BagWriter(path) as bag:
        for received, topic, message in sorted(entries, key=lambda entry: entry[0]):
            bag.write(topic, message, received)
    convert([path], tmp_path / "out", ConvertConfig(body_to_camera="forward", jobs=1))
    dataset = Dataset(tmp_path / "out")
    assert len(dataset) >= 34
    for i in range(len(dataset)):
        true_s = 0.01 + round(float(dataset.rgb(i).mean()) / 3) * 0.1
        assert float(dataset.T_map_cam[i, 0, 3]) / SPEED_MPS == pytest.approx(true_s, abs=1e-6)
