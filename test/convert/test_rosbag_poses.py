"""From what is recorded to the pose of the camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.bags.messages import StampedTransform
from pose2rgbd_ros.convert.bag import convert
from pose2rgbd_ros.convert.report import ConvertReport
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3

MS = 1_000_000
FORWARD = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])


def converted(flight, tmp_path: Path, **config: object) -> tuple[ConvertReport, Dataset]:
    report = convert([flight.write(tmp_path / "bag")], tmp_path / "out", ConvertConfig(**config))
    return report, Dataset(tmp_path / "out")


def body_poses(flight) -> np.ndarray:
    return np.stack([se3.make(*flight.body_pose(stamp)) for stamp in flight.image_stamps_ns()])


def instead_of_odometry(flight, topic: str, message):
    """The recording with other pose messages: message(make, stamp, position, quaternion)."""

    def replace(make, entries):
        return [
            (t, topic, message(make, t, *flight.body_pose(t))) if name == "/odom" else (t, name, old)
            for t, name, old in entries
        ]

    flight.spoil = replace
    return flight


@pytest.mark.parametrize(
    ("option", "T_body_cam"),
    [
        ("identity", np.eye(4)),
        ("forward", FORWARD),
        ("nadir", np.array([[0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1.0]])),
        ("1 2 3 0 0 0 1", np.array([[1, 0, 0, 1], [0, 1, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1.0]])),
    ],
)
def test_a_mount_given_wins_over_tf(flight, tmp_path: Path, option: str, T_body_cam: np.ndarray) -> None:
    recorded = flight()
    report, dataset = converted(recorded, tmp_path, body_to_camera=option)
    np.testing.assert_allclose(dataset.T_map_cam, body_poses(recorded) @ T_body_cam, atol=1e-8)
    assert f"camera mount as given: {option}" in report.notes


def test_without_a_mount_a_camera_looking_forward_is_assumed_and_told(flight, tmp_path: Path) -> None:
    recorded = flight(static_tf=False)
    report, dataset = converted(recorded, tmp_path)
    np.testing.assert_allclose(dataset.T_map_cam, body_poses(recorded) @ FORWARD, atol=1e-8)
    assert any("assumed at its origin, looking forward; --body-to-camera" in note for note in report.notes)


@pytest.mark.parametrize("by_tf", [False, True])
def test_a_mount_that_tf_spoils_is_named_where_one_is_assumed(flight, tmp_path: Path, by_tf: bool) -> None:
    recorded = flight(static_tf=False)
    if by_tf:
        recorded = instead_of_odometry(
            recorded, "/tf", lambda make, t, *pose: make.tf_message([StampedTransform(t, "map", "base_link", *pose)])
        )
    spoil = recorded.spoil

    def add(make, entries):
        nowhere = StampedTransform(0, "base_link", "camera_optical", np.zeros(3), np.zeros(4))
        itself = StampedTransform(0, "base_link", "base_link", np.zeros(3), np.array([0, 0, 0, 1.0]))
        return [*spoil(make, entries), (recorded.start_ns, "/tf_static", make.tf_message([nowhere, itself]))]

    recorded.spoil = add
    report, dataset = converted(recorded, tmp_path)
    np.testing.assert_allclose(dataset.T_map_cam, body_poses(recorded) @ FORWARD, atol=1e-8)
    assert any(
        "the static transform of 'camera_optical' in 'base_link': " in note and "assumed at its origin" in note
        for note in report.notes
    )
    if by_tf:
        warnings = "\n".join(report.bags[0].warnings)
        assert "poses: 1 TF: non_finite_pose" in warnings
        assert "poses: 1 TF: bad_frames" in warnings


@pytest.mark.parametrize(("child", "image"), [("camera_optical", "camera_optical"), ("left_optical", "")])
def test_the_pose_of_an_optical_frame_is_the_cameras(flight, tmp_path: Path, child: str, image: str) -> None:
    recorded = flight(static_tf=False)

    def rename(make, entries):
        for _, topic, message in entries:
            if topic == "/odom":
                message.child_frame_id = "/" + child  # as ROS 1 wrote it
            elif topic.startswith("/camera/image"):
                message.header.frame_id = image
        return entries

    recorded.spoil = rename
    _, dataset = converted(recorded, tmp_path)
    np.testing.assert_allclose(dataset.T_map_cam, body_poses(recorded), atol=1e-8)


@pytest.mark.parametrize("kind", ["pose_stamped", "pose_with_covariance_stamped"])
def test_poses_without_a_child_frame_are_base_links(flight, tmp_path: Path, kind: str) -> None:
    recorded = instead_of_odometry(
        flight(), "/pose", lambda make, t, position, quat: getattr(make, kind)(t, "map", position, quat)
    )
    report, dataset = converted(recorded, tmp_path)
    assert report.bags[0].topics["pose"] == "/pose"
    expected = [recorded.T_map_cam(stamp) for stamp in recorded.image_stamps_ns()]
    np.testing.assert_allclose(dataset.T_map_cam, expected, atol=1e-8)


def test_poses_from_a_chain_of_tf(flight, tmp_path: Path) -> None:
    """map -> odom (slow, a correction of 3 m and a quarter turn) -> base_link -> camera_optical (static)."""
    correction = ([3.0, 0, 0], Rotation.from_euler("z", 90, degrees=True).as_quat())

    def message(make, stamp, position, quat):
        transforms = [StampedTransform(stamp, "odom", "base_link", position, quat)]
        if (stamp // (50 * MS)) % 4 == 0:
            transforms.append(StampedTransform(stamp, "map", "odom", *correction))
        return make.tf_message(transforms)

    recorded = instead_of_odometry(flight(), "/tf", message)
    report, dataset = converted(recorded, tmp_path)
    assert report.bags[0].topics["pose"] == "/tf"
    expected = [se3.make(*correction) @ recorded.T_map_cam(stamp) for stamp in recorded.image_stamps_ns()]
    np.testing.assert_allclose(dataset.T_map_cam, expected, atol=1e-8)
    assert dataset.meta.map_frame == "map"


def test_another_map_frame_of_tf_can_be_named(flight, tmp_path: Path) -> None:
    recorded = instead_of_odometry(
        flight(), "/tf", lambda make, t, *pose: make.tf_message([StampedTransform(t, "survey", "base_link", *pose)])
    )
    with pytest.raises(UserError, match=r"frames: base_link, camera_optical, survey.*--map-frame"):
        converted(recorded, tmp_path)
    _, dataset = converted(recorded, tmp_path / "again", map_frame="survey")
    assert dataset.meta.map_frame == "survey"
    expected = [recorded.T_map_cam(stamp) for stamp in recorded.image_stamps_ns()]
    np.testing.assert_allclose(dataset.T_map_cam, expected, atol=1e-8)


def test_a_gimbal_is_followed(flight, tmp_path: Path) -> None:
    """The camera pitches at 1 rad/s against the body, told by TF at 10 Hz."""
    recorded = flight(static_tf=False)

    def gimbal(stamp: int) -> np.ndarray:
        angle = (stamp - recorded.start_ns) / 1e9
        return se3.make([0.2, 0, 0], Rotation.from_euler("y", angle).as_quat()) @ FORWARD

    def add(make, entries):
        stamps = [recorded.start_ns + 100 * i * MS for i in range(recorded.frames + 1)]
        return entries + [
            (t, "/tf", make.tf_message([StampedTransform(t, "base_link", "camera_optical", *se3.split(gimbal(t)))]))
            for t in stamps
        ]

    recorded.spoil = add
    report, dataset = converted(recorded, tmp_path, pose_topic="/odom")
    stamps = recorded.image_stamps_ns()
    expected = body_poses(recorded) @ np.stack([gimbal(stamp) for stamp in stamps])
    np.testing.assert_allclose(dataset.T_map_cam, expected, atol=1e-6)
    assert any("a gimbal" in note for note in report.notes)


def test_poses_that_never_move_are_told(flight, tmp_path: Path) -> None:
    recorded = instead_of_odometry(
        flight(), "/odom", lambda make, t, *_: make.odometry(t, "map", "base_link", (0, 0, 0), (0, 0, 0, 1))
    )
    report, _ = converted(recorded, tmp_path)
    assert any("all poses of /odom are at one place" in note for note in report.warnings)


def test_poses_turn_by_slerp(flight, tmp_path: Path) -> None:
    """Two poses half a turn apart: a quarter of the time is 45 degrees."""
    recorded = flight(frames=1, depth=None)

    def turn(make, entries):
        kept = [entry for entry in entries if entry[1] != "/odom"]
        half = Rotation.from_euler("z", 179.9, degrees=True).as_quat()
        ends = [(recorded.start_ns, (0, 0, 0, 1)), (recorded.start_ns + 80 * MS, half)]
        return kept + [(t, "/odom", make.odometry(t, "map", "base_link", (0, 0, 0), q)) for t, q in ends]

    recorded.spoil = turn
    _, dataset = converted(recorded, tmp_path, body_to_camera="identity")
    angle = np.degrees(Rotation.from_matrix(dataset.T_map_cam[0, :3, :3]).magnitude())
    assert angle == pytest.approx(179.9 / 4, abs=1e-6)
