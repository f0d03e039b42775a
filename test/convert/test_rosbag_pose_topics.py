"""Several sources of poses in one recording: one with poses for the images, that are numbers and move, is taken."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.bags.topics import choose_topics
from pose2rgbd_ros.convert.bag import convert
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError

BAD, GOOD, FIX = "/odom", "/pose_cov", "/fix"


def few(i: int, message: Any) -> Any:
    """Three messages of all."""
    return message if i < 3 else None


def not_a_number(i: int, message: Any) -> Any:
    message.pose.pose.position.x = math.nan
    return message


def zeros(i: int, message: Any) -> Any:
    for part in (message.pose.pose.position, message.pose.pose.orientation):
        part.x = part.y = part.z = 0.0
    return message


def not_unit(i: int, message: Any) -> Any:
    message.pose.pose.orientation.w *= 0.2
    message.pose.pose.orientation.z *= 0.2
    return message


def with_other(flight, fault: Any, other: str) -> Any:
    """The flight with its odometry spoilt, and the same poses as PoseWithCovarianceStamped or GPS."""

    def spoil(make, entries):
        found, i = [], 0
        for received, topic, message in entries:
            if topic != BAD:
                found.append((received, topic, message))
                continue
            position = message.pose.pose.position
            at = np.array([position.x, position.y, position.z])
            quat = message.pose.pose.orientation
            turned = [quat.x, quat.y, quat.z, quat.w]
            stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            if other == GOOD:
                found.append((received, GOOD, make.pose_with_covariance_stamped(stamp, "map", at, turned)))
            elif other == FIX:
                east_deg = at[0] / (111_320 * math.cos(math.radians(47)))
                fix = make.nav_sat_fix(stamp, "gps", 47.0, 8.0 + east_deg, 400.0 + at[2])
                found.append((received, FIX, fix))
            changed = fault(i, message)
            i += 1
            if changed is not None:
                found.append((received, BAD, changed))
        return found

    return flight(frames=20, spoil=spoil)


@pytest.mark.parametrize("fault", [few, not_a_number, zeros, not_unit])
@pytest.mark.parametrize("other", [GOOD, FIX])
def test_a_source_that_cannot_be_is_passed_over(flight, fault: Any, other: str, tmp_path: Path) -> None:
    bag = with_other(flight, fault, other).write(tmp_path / "bag")
    config = ConvertConfig(body_to_camera="forward", max_fix_gap_s=1.0)
    report = convert([bag], tmp_path / "out", config)
    assert report.frames_written >= 19
    (told,) = [text for text in report.warnings if "was passed over" in text]
    assert told.startswith(f"{BAD} was passed over (")
    assert told.endswith(f"poses are those of {other}")
    assert report.bags[0].topics["pose"] == other
    moved_m = np.ptp(Dataset(tmp_path / "out").T_map_cam[:, 0, 3])
    assert moved_m == pytest.approx(2.0 * 0.1 * (report.frames_written - 1), abs=0.15)


def test_a_good_source_is_not_looked_past(flight, tmp_path: Path) -> None:
    bag = with_other(flight, lambda i, message: message, GOOD).write(tmp_path / "bag")
    report = convert([bag], tmp_path / "out", ConvertConfig(body_to_camera="forward"))
    assert report.bags[0].topics["pose"] == BAD
    assert not report.warnings


def test_one_that_is_asked_for_is_taken_or_refused_with_the_others_named(flight, tmp_path: Path) -> None:
    bag = with_other(flight, not_a_number, GOOD).write(tmp_path / "bag")
    with open_bag(bag) as reader:
        assert choose_topics(reader).other_poses == [GOOD]
    with pytest.raises(UserError, match=rf"no usable pose among .*poses are also in: {GOOD} \(--pose-topic\)"):
        convert([bag], tmp_path / "out", ConvertConfig(pose_topic=BAD))
