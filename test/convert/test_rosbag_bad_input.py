"""Bad recordings: one clear line, the frames that are good, and nothing lost."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from pose2rgbd_ros.cli import main as command_line
from pose2rgbd_ros.convert.bag import convert
from pose2rgbd_ros.convert.report import ConvertReport
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError

JPEG, DEPTH, ODOM = "/camera/image/compressed", "/camera/depth", "/odom"


def refused(bag: Path, out: Path, *words: str, config: ConvertConfig | None = None) -> None:
    """Conversion fails with one line that says these words."""
    with pytest.raises(UserError) as error:
        convert([bag], out, config)
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def converted(bag: Path, out: Path, **config: object) -> tuple[ConvertReport, Dataset]:
    """Conversion succeeds, and the dataset can be read."""
    return convert([bag], out, ConvertConfig(**config)), Dataset(out)


def of_topic(entries: list, topic: str) -> list:
    return [message for _, name, message in entries if name == topic]


def without(*topics: str):
    return lambda make, entries: [entry for entry in entries if entry[1] not in topics]


def test_not_a_bag(tmp_path: Path) -> None:
    text = tmp_path / "flight.bag"
    text.write_text("dear diary")
    refused(text, tmp_path / "out", "is not a rosbag", "flight.bag", ".db3 or .mcap")
    (tmp_path / "empty.mcap").touch()
    refused(tmp_path / "empty.mcap", tmp_path / "out", "is empty")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", tmp_path / "out", "holds no .db3, .mcap or .bag file")
    refused(tmp_path / "nowhere", tmp_path / "out", "does not exist")
    assert not (tmp_path / "out").exists()


def test_the_command_line_tells_it_in_one_line_and_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "flight.bag").write_text("dear diary")
    status = command_line.main(["convert", str(tmp_path / "flight.bag"), str(tmp_path / "out")])
    assert status == 2
    assert re.fullmatch(r"error: .*is not a rosbag.*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("name", "options"), [("bag.bag", {"ros": "1"}), ("bag.mcap", {}), ("bag.db3", {})], ids=["ros1", "mcap", "db3"]
)
def test_a_truncated_bag_is_salvaged(flight, tmp_path: Path, name: str, options: dict) -> None:
    recorded = flight(frames=12, jpeg=False, size=(320, 240))
    bag = recorded.write(tmp_path / name, **options)
    whole = bag.read_bytes()
    bag.write_bytes(whole[: len(whole) * 7 // 10])
    report, dataset = converted(bag, tmp_path / "out")
    assert 3 <= len(dataset) <= 10
    assert any("is damaged" in note for note in report.warnings)
    np.testing.assert_array_equal(dataset.rgb(2), recorded.rgb(2))
    np.testing.assert_allclose(dataset.T_map_cam[2], recorded.T_map_cam(recorded.image_stamps_ns()[2]), atol=1e-8)


@pytest.mark.parametrize(
    ("name", "options"), [("bag.bag", {"ros": "1"}), ("bag.mcap", {}), ("bag.db3", {})], ids=["ros1", "mcap", "db3"]
)
def test_a_bag_of_which_nothing_is_left(flight, tmp_path: Path, name: str, options: dict) -> None:
    bag = flight().write(tmp_path / name, **options)
    bag.write_bytes(bag.read_bytes()[:300])
    refused(bag, tmp_path / "out", "is damaged and no message can be read from it")


def test_unknown_topic(flight, tmp_path: Path) -> None:
    bag = flight().write(tmp_path / "bag")
    config = ConvertConfig(image_topic="/front/image")
    refused(bag, tmp_path / "out", "no topic /front/image", f"{JPEG} (sensor_msgs", config=config)
    config = ConvertConfig(pose_topic=JPEG)
    refused(bag, tmp_path / "out", "cannot give poses", "nav_msgs/msg/Odometry", config=config)


def test_missing_topics(flight, tmp_path: Path) -> None:
    bag = flight(spoil=without(JPEG, DEPTH)).write(tmp_path / "no_images")
    refused(bag, tmp_path / "out", "has no colour images", "/odom (nav_msgs/msg/Odometry, 17)")
    bag = flight(spoil=without(ODOM, "/tf_static")).write(tmp_path / "no_poses")
    refused(bag, tmp_path / "out", "has no poses", "geometry_msgs/msg/PoseStamped", JPEG)
    bag = flight(spoil=without(DEPTH)).write(tmp_path / "no_depth")
    _, dataset = converted(bag, tmp_path / "colour")
    assert not dataset.has_depth


def test_no_pose_overlaps_the_images(flight, tmp_path: Path) -> None:
    def late(make, entries):
        for image in of_topic(entries, JPEG):
            image.header.stamp.sec += 3600
        return entries

    bag = flight(depth=None, spoil=late).write(tmp_path / "bag")
    refused(
        bag,
        tmp_path / "out",
        "images cover 1700003600.020..1700003600.720 s",
        "poses of /odom 1700000000.000..1700000000.800 s",
        "+3600.020 s apart, so their clocks may differ",
        "--stamps auto corrects them by the recorder's clock",
        config=ConvertConfig(stamps="header"),
    )
    report, _ = converted(bag, tmp_path / "out", stamps="received")
    assert report.frames_written == 8
    report, _ = converted(bag, tmp_path / "shifted", stamps="header", image_time_offset_s=-3600.0)
    assert report.frames_written == 8


def test_an_offset_that_moves_the_images_out_of_the_poses_is_told(flight, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        convert([flight().write(tmp_path / "bag")], tmp_path / "out", ConvertConfig(image_time_offset_s=100.0))
    text = str(error.value)
    assert "the images (+100 s) cover 1700000100.020..1700000100.720 s" in text
    assert "+100.020 s apart" in text
    assert "--stamps received" not in text, "the recorder's clock is shifted as well"
    assert text.endswith("--image-time-offset-s shifts the images")


def test_zero_images(flight, tmp_path: Path) -> None:
    bag = flight(frames=0).write(tmp_path / "bag")
    refused(bag, tmp_path / "out", "has no colour images")


def test_nan_poses(flight, tmp_path: Path) -> None:
    def some(make, entries):
        poses = of_topic(entries, ODOM)
        poses[4].pose.pose.position.x = float("nan")
        poses[5].pose.pose.orientation.w = float("nan")
        return entries

    report, dataset = converted(flight(spoil=some).write(tmp_path / "some"), tmp_path / "out")
    assert report.bags[0].pose_problems == {"non_finite_pose": 2}
    assert report.warnings == ["poses: 2 non_finite_pose"]
    assert len(dataset) == 8
    assert np.isfinite(dataset.T_map_cam).all()

    def every(make, entries):
        for odometry in of_topic(entries, ODOM):
            odometry.pose.pose.position.y = float("nan")
        return entries

    bag = flight(spoil=every).write(tmp_path / "all")
    refused(bag, tmp_path / "none", "/odom: no usable pose among 17", "--pose-topic")


def test_non_monotonic_stamps(flight, tmp_path: Path) -> None:
    def shuffle(make, entries):
        images, poses = of_topic(entries, JPEG), of_topic(entries, ODOM)
        images[2].header.stamp, images[5].header.stamp = images[5].header.stamp, images[2].header.stamp
        images[7].header.stamp = images[6].header.stamp
        poses[3].header.stamp, poses[4].header.stamp = poses[4].header.stamp, poses[3].header.stamp
        poses[3].pose, poses[4].pose = poses[4].pose, poses[3].pose
        return entries

    recorded = flight(spoil=shuffle, depth=None)
    report, dataset = converted(recorded.write(tmp_path / "bag"), tmp_path / "out")
    assert report.rejects == {"duplicate_stamp": 1}
    assert report.bags[0].pose_problems == {"out_of_order": 1}
    assert "poses: 1 out_of_order" in report.notes  # and sorted in
    assert any("jump back in time" in note for note in report.warnings)
    stamps = recorded.image_stamps_ns()[:7]
    assert list(dataset.stamps_ns) == stamps
    for pose, stamp in zip(dataset.T_map_cam, stamps, strict=True):
        np.testing.assert_allclose(pose, recorded.T_map_cam(stamp), atol=1e-8)


def test_a_gap_in_the_poses(flight, tmp_path: Path) -> None:
    def silence(make, entries):
        return [entry for entry in entries if entry[1] != ODOM or not 3e8 < entry[0] - flight().start_ns < 5e8]

    bag = flight(spoil=silence).write(tmp_path / "bag")
    report, _ = converted(bag, tmp_path / "out", max_pose_gap_s=0.1)
    assert report.rejects == {"pose_gap": 2}
    always = ConvertConfig(max_pose_gap_s=0.01)
    refused(bag, tmp_path / "no", "8 pose_gap", "--max-pose-gap-s bridges longer silences", config=always)
    rejected = yaml.safe_load((tmp_path / "out" / "convert_report.yaml").read_text())["bags"][0]["rejected"]
    stamps = flight().image_stamps_ns()
    assert [(run["reason"], run["first_stamp_ns"], run["last_stamp_ns"]) for run in rejected] == [
        ("pose_gap", stamps[3], stamps[4])
    ]


def test_depth_of_an_unexpected_encoding(flight, tmp_path: Path) -> None:
    def doubles(make, entries):
        return [
            (t, topic, make.image(t, "camera_optical", np.ones((24, 32)), "64FC1"))
            if topic == DEPTH
            else (t, topic, message)
            for t, topic, message in entries
        ]

    bag = flight(spoil=doubles).write(tmp_path / "bag")
    refused(bag, tmp_path / "out", "/camera/depth has encoding '64FC1'", "32FC1, 16UC1", "--depth-topic")
    report, dataset = converted(bag, tmp_path / "colour", depth_topic="none")
    assert report.frames_written == 8
    assert not dataset.has_depth


def test_depth_that_is_missing_or_damaged_costs_its_frame(flight, tmp_path: Path) -> None:
    def spoil(make, entries):
        depths = of_topic(entries, DEPTH)
        depths[2].encoding = "64FC1"
        depths[3].data = depths[3].data[:100]
        return [entry for entry in entries if entry[2] is not depths[5]]

    report, dataset = converted(flight(spoil=spoil).write(tmp_path / "bag"), tmp_path / "out")
    assert report.rejects == {"depth_unreadable": 2, "no_depth": 1}
    assert len(dataset) == 5


def test_uncalibrated_camera(flight, tmp_path: Path) -> None:
    bag = flight(calibrated=False).write(tmp_path / "bag")
    report, dataset = converted(bag, tmp_path / "out")
    assert not dataset.camera.is_calibrated
    assert any("K[0] = 0" in note and "--fov-deg" in note for note in report.notes)
    _, dataset = converted(bag, tmp_path / "fov", fov_deg=90.0)
    assert dataset.camera.fx == pytest.approx(16)


def test_mixed_image_sizes(flight, tmp_path: Path) -> None:
    def small(make, entries):
        for image in of_topic(entries, JPEG)[4:6]:
            image.data = np.frombuffer(flight(size=(16, 12)).image_bytes(0), np.uint8)
        return entries

    report, dataset = converted(flight(spoil=small).write(tmp_path / "bag"), tmp_path / "out")
    assert report.rejects == {"image_size": 2}
    assert len(dataset) == 6
    assert "16 x 12" in report.bags[0].rejected[0].example


def test_calibration_of_another_image(flight, tmp_path: Path) -> None:
    def other(make, entries):
        for info in of_topic(entries, "/camera/camera_info"):
            info.width, info.height = 100, 100
        return entries

    bag = flight(spoil=other).write(tmp_path / "bag")
    refused(bag, tmp_path / "out", "calibrates 100 x 100 pixels", "32 x 24")


def test_corrupt_jpeg_frames(flight, tmp_path: Path) -> None:
    def corrupt(make, entries):
        images = of_topic(entries, JPEG)
        images[0].data = images[0].data[:0]
        images[3].data = images[3].data[: len(images[3].data) // 2]
        images[4].data = np.frombuffer(b"\xff\xd8 this was a picture", np.uint8)
        return entries

    recorded = flight(spoil=corrupt)
    report, dataset = converted(recorded.write(tmp_path / "bag"), tmp_path / "out")
    assert report.rejects == {"image_unreadable": 3}
    stamps = recorded.image_stamps_ns()
    assert list(dataset.stamps_ns) == [stamps[i] for i in (1, 2, 5, 6, 7)]


def test_messages_that_do_not_fit_their_type(flight, tmp_path: Path) -> None:
    import sqlite3

    bag = flight().write(tmp_path / "bag.db3")
    with sqlite3.connect(bag) as database:
        (topic,) = database.execute("SELECT id FROM topics WHERE name = ?", (JPEG,)).fetchone()
        first = "(SELECT min(id) FROM messages WHERE topic_id = ?)"
        database.execute(f"UPDATE messages SET data = substr(data, 1, 30) WHERE id = {first}", (topic,))
    report, dataset = converted(bag, tmp_path / "out")
    assert report.bags[0].unreadable_messages == {JPEG: 1}
    assert report.warnings == [f"{JPEG}: 1 message cannot be read and left out"]
    assert len(dataset) == 7


def test_disk_full(flight, tmp_path: Path, small_disk: Path) -> None:
    recorded = flight(frames=12, jpeg=False, size=(160, 120))
    noise = np.random.default_rng(0)
    recorded.rgb = lambda i: noise.integers(0, 255, (120, 160, 3), dtype=np.uint8)
    bag = recorded.write(tmp_path / "bag")
    refused(bag, small_disk / "out", "no space left", " safe", "resume")  # of several threads the first to fail counts
    dataset = Dataset(small_disk / "out")
    assert 1 <= len(dataset) < 12
    assert [dataset.rgb(i).shape for i in range(len(dataset))] == [(120, 160, 3)] * len(dataset)


def test_one_bad_recording_among_several_costs_no_frame(flight, tmp_path: Path) -> None:
    good = flight().write(tmp_path / "good")
    bad = tmp_path / "bad.mcap"
    bad.write_text("dear diary")
    with pytest.raises(UserError, match="is not a rosbag"):
        convert([good, bad], tmp_path / "out")
    assert len(Dataset(tmp_path / "out")) == 8
    assert (tmp_path / "out" / "convert_report.yaml").is_file()


@pytest.mark.parametrize("mount", ["sideways", "1 2 3", "0 0 0 0 0 0 0", "nan 0 0 0 0 0 1"])
def test_a_mount_that_makes_no_sense(tmp_path: Path, mount: str) -> None:
    with pytest.raises(UserError, match="forward, nadir, identity"):
        convert([tmp_path], tmp_path / "out", ConvertConfig(body_to_camera=mount))


def test_the_command_line_needs_two_paths(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["convert", sys.executable]) == 2
    assert "convert needs a source (bag, folder of photographs, video) and" in capsys.readouterr().err


def test_images_and_poses_cannot_be_done_without(flight, tmp_path: Path) -> None:
    bag = flight().write(tmp_path / "bag")
    refused(bag, tmp_path / "out", "--pose-topic cannot be none", config=ConvertConfig(pose_topic="none"))
    refused(bag, tmp_path / "out", "--image-topic cannot be none", config=ConvertConfig(image_topic="none"))


def test_a_recording_given_twice(flight, tmp_path: Path) -> None:
    bag = flight().write(tmp_path / "bag")
    with pytest.raises(UserError, match="bag is given 2 times"):
        convert([bag, tmp_path / "." / "bag"], tmp_path / "out")


def test_the_last_path_must_not_be_a_recording(flight, tmp_path: Path) -> None:
    first = flight().write(tmp_path / "one.db3")
    refused(first, flight().write(tmp_path / "two.db3"), "two.db3 is a file; choose a folder")
    folder = flight().write(tmp_path / "three")
    before = sorted(path.name for path in folder.iterdir())
    refused(first, folder, "three is not empty and holds no dataset of ours")
    assert sorted(path.name for path in folder.iterdir()) == before


def test_depth_beyond_the_unit_asked_for_is_counted(flight, tmp_path: Path) -> None:
    def farther(make, entries):
        for image in of_topic(entries, DEPTH):
            image.data = (image.data.view("<f4") * 10).view(np.uint8)  # 90 m and more
        return entries

    bag = flight(depth="32FC1", spoil=farther).write(tmp_path / "bag")
    report, dataset = converted(bag, tmp_path / "mm", depth_format="mm")
    assert not np.isfinite(dataset.depth(0)).any()
    assert any(f"{8 * (32 * 24 - 1)} depth pixels beyond the reach" in note for note in report.warnings)
    report, dataset = converted(bag, tmp_path / "auto")
    assert np.isfinite(dataset.depth(0)).any()
    assert not any("beyond the reach" in note for note in report.warnings)


def test_a_calibration_that_changes(flight, tmp_path: Path) -> None:
    """A zoom lens, or two cameras on a topic: images after the change are not those of the first calibration."""

    def zoom(make, entries):
        for info in of_topic(entries, "/camera/camera_info")[4:]:
            info.k = np.array([80.0, *info.k[1:]])
        return entries

    report, _ = converted(flight(spoil=zoom).write(tmp_path / "bag"), tmp_path / "out")
    assert report.warnings == ["/camera/camera_info changes during the recording; its first calibration is used"]
