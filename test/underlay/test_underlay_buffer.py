"""tf2_ros.Buffer without topics: what it finds, what it refuses, and in which words."""

from __future__ import annotations

import numpy as np
import pytest
import tf2_py
import tf2_ros
from builtin_interfaces.msg import Time as TimeMsg
from rclpy.duration import Duration
from rclpy.time import Time

LATEST = Time()
YAW_90 = (0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5))


def at(seconds: float) -> Time:
    return Time(nanoseconds=round(seconds * 1e9))


def position(message) -> list[float]:
    t = message.transform.translation
    return [t.x, t.y, t.z]


def rotation(message) -> list[float]:
    q = message.transform.rotation
    return [q.x, q.y, q.z, q.w]


def stamp_s(message) -> float:
    return message.header.stamp.sec + message.header.stamp.nanosec * 1e-9


# Interpolation and trees


def test_interpolates_position_and_rotation(moving):
    found = moving.lookup_transform("map", "base", at(11.0))
    assert position(found) == pytest.approx([1.0, 0.0, 0.0])
    assert rotation(found) == pytest.approx([0.0, 0.0, np.sin(np.pi / 8), np.cos(np.pi / 8)])
    assert (found.header.frame_id, found.child_frame_id, stamp_s(found)) == ("map", "base", 11.0)


def test_slerp_takes_the_short_way_whatever_the_sign(buffer, make_transform):
    buffer.set_transform(make_transform("map", "base", 1.0, quat_xyzw=(0.0, 0.0, 0.0, -1.0)), "test")
    buffer.set_transform(make_transform("map", "base", 2.0, quat_xyzw=YAW_90), "test")
    found = rotation(buffer.lookup_transform("map", "base", at(1.5)))
    assert found == pytest.approx([0.0, 0.0, np.sin(np.pi / 8), np.cos(np.pi / 8)])


def test_exact_stamps_give_exact_samples(moving):
    assert position(moving.lookup_transform("map", "base", at(10.0))) == [0.0, 0.0, 0.0]
    assert position(moving.lookup_transform("map", "base", at(12.0))) == [2.0, 0.0, 0.0]


def test_chain_and_inverse(moving, matrix_of):
    forth = matrix_of(moving.lookup_transform("map", "camera", at(12.0)))
    back = matrix_of(moving.lookup_transform("camera", "map", at(12.0)))
    assert forth[:3, 3] == pytest.approx([1.0, 0.0, 0.0])
    assert forth @ back == pytest.approx(np.identity(4))


def test_siblings_meet_at_their_common_parent(moving, make_transform):
    moving.set_transform_static(make_transform("base", "lidar", 0.0, (0.0, -1.0, 0.5)), "test")
    assert position(moving.lookup_transform("camera", "lidar", at(11.3))) == pytest.approx([0.0, -2.0, 0.5])


def test_siblings_need_no_history_above_their_parent(moving, make_transform):
    moving.set_transform_static(make_transform("base", "lidar", 0.0, (0.0, -1.0, 0.5)), "test")
    assert position(moving.lookup_transform("camera", "lidar", at(500.0))) == pytest.approx([0.0, -2.0, 0.5])


def test_time_zero_is_the_latest_common_time(moving, make_transform):
    moving.set_transform(make_transform("camera", "tag", 10.0), "test")
    moving.set_transform(make_transform("camera", "tag", 11.0, (0.0, 0.0, 3.0)), "test")
    found = moving.lookup_transform("map", "tag", LATEST)
    assert stamp_s(found) == 11.0
    assert position(found)[2] == pytest.approx(3.0)
    assert moving.get_latest_common_time("map", "tag").nanoseconds == 11_000_000_000
    assert moving.get_latest_common_time("tag", "map").nanoseconds == 11_000_000_000
    assert stamp_s(moving.lookup_transform("map", "camera", LATEST)) == 12.0


def test_static_frames_hold_at_any_time(moving):
    assert stamp_s(moving.lookup_transform("base", "camera", LATEST)) == 0.0
    assert position(moving.lookup_transform("base", "camera", at(1e6))) == [0.0, 1.0, 0.0]
    assert moving.get_latest_common_time("base", "camera").nanoseconds == 0


def test_a_frame_seen_from_itself(moving):
    assert position(moving.lookup_transform("map", "map", at(99.0))) == [0.0, 0.0, 0.0]
    assert stamp_s(moving.lookup_transform("base", "base", LATEST)) == 12.0
    assert moving.can_transform("nowhere", "nowhere", LATEST)


def test_full_lookup_between_two_times(moving, matrix_of):
    found = matrix_of(moving.lookup_transform_full("base", at(12.0), "base", at(10.0), "map"))
    at_10 = matrix_of(moving.lookup_transform("map", "base", at(10.0)))
    at_12 = matrix_of(moving.lookup_transform("map", "base", at(12.0)))
    assert found == pytest.approx(np.linalg.inv(at_12) @ at_10)
    assert moving.can_transform_full("base", at(12.0), "base", at(10.0), "map")
    assert not moving.can_transform_full("base", at(13.0), "base", at(10.0), "map")


def test_full_lookup_carries_the_target_time(moving):
    assert stamp_s(moving.lookup_transform_full("base", at(11.0), "camera", at(10.5), "map")) == 11.0


def test_results_have_tf2s_quaternion_sign(buffer, make_transform):
    buffer.set_transform_static(make_transform("map", "a", quat_xyzw=(0.0, 0.0, -0.1, -np.sqrt(0.99))), "test")
    buffer.set_transform_static(make_transform("map", "b", quat_xyzw=(-0.8, -0.6, 0.0, 0.0)), "test")
    buffer.set_transform_static(make_transform("map", "c", quat_xyzw=(0.6, -0.64, 0.0, -0.48)), "test")
    assert rotation(buffer.lookup_transform("map", "a", LATEST)) == pytest.approx([0, 0, 0.1, np.sqrt(0.99)])
    assert rotation(buffer.lookup_transform("map", "b", LATEST)) == pytest.approx([0.8, 0.6, 0, 0])
    assert rotation(buffer.lookup_transform("map", "c", LATEST)) == pytest.approx([-0.6, 0.64, 0, 0.48])


def test_full_lookups_have_tf2s_quaternion_sign_too(buffer, make_transform):
    three_quarters = (0.0, 0.0, np.sin(3 * np.pi / 8), np.cos(3 * np.pi / 8))
    for child in ("a", "b"):
        buffer.set_transform_static(
            make_transform("map" if child == "a" else "a", child, quat_xyzw=three_quarters), "test"
        )
    found = rotation(buffer.lookup_transform_full("map", at(1.0), "b", at(2.0), "a"))
    assert found == pytest.approx([0.0, 0.0, -YAW_90[2], YAW_90[3]])


# The history


def test_late_samples_find_their_place(moving, make_transform):
    moving.set_transform(make_transform("map", "base", 11.0, (0.0, 5.0, 0.0)), "test")
    assert position(moving.lookup_transform("map", "base", at(11.0))) == [0.0, 5.0, 0.0]
    assert position(moving.lookup_transform("map", "base", at(10.5))) == pytest.approx([0.0, 2.5, 0.0])


def test_the_last_of_two_samples_at_one_stamp_counts_from_there_on(moving, make_transform):
    moving.set_transform(make_transform("map", "base", 12.0, (4.0, 0.0, 0.0)), "test")
    moving.set_transform(make_transform("map", "base", 13.0, (6.0, 0.0, 0.0)), "test")
    assert position(moving.lookup_transform("map", "base", at(12.5))) == pytest.approx([5.0, 0.0, 0.0])
    assert position(moving.lookup_transform("map", "base", at(11.0))) == pytest.approx([1.0, 0.0, 0.0])


def test_old_samples_are_forgotten(make_transform):
    buffer = tf2_ros.Buffer(cache_time=Duration(seconds=2))
    for second in range(1, 8):
        buffer.set_transform(make_transform("map", "base", second, (second, 0.0, 0.0)), "test")
    assert position(buffer.lookup_transform("map", "base", at(5.5))) == pytest.approx([5.5, 0.0, 0.0])
    with pytest.raises(tf2_ros.ExtrapolationException, match="into the past"):
        buffer.lookup_transform("map", "base", at(3.5))


def test_a_long_run_keeps_positions_and_stamps_together(make_transform):
    buffer = tf2_ros.Buffer(cache_time=Duration(seconds=1))
    for step in range(1000):
        second = 1.0 + step / 100
        buffer.set_transform(make_transform("map", "base", second, (second, 0.0, 0.0)), "test")
        assert position(buffer.lookup_transform("map", "base", LATEST))[0] == second
        if step > 200:
            found = buffer.lookup_transform("map", "base", at(second - 0.777))
            assert position(found)[0] == pytest.approx(second - 0.777)


def test_data_older_than_the_history_is_refused(make_transform):
    buffer = tf2_ros.Buffer(cache_time=Duration(seconds=2))
    buffer.set_transform(make_transform("map", "base", 10.0), "test")
    buffer.set_transform(make_transform("map", "base", 12.0), "test")
    buffer.set_transform(make_transform("map", "base", 5.0, (9.0, 0.0, 0.0)), "test")
    assert not buffer.can_transform("map", "base", at(5.0))
    assert buffer.can_transform("map", "base", at(11.0))


def test_the_default_history_is_ten_seconds(buffer, make_transform):
    for tenth in range(0, 202):
        buffer.set_transform(make_transform("map", "base", 100.0 + tenth / 10), "test")
    assert buffer.can_transform("map", "base", at(110.1))
    assert not buffer.can_transform("map", "base", at(109.9))


def test_a_frame_may_change_its_parent(buffer, make_transform):
    buffer.set_transform(make_transform("map", "odom", 1.0), "test")
    buffer.set_transform(make_transform("map", "odom", 9.0), "test")
    buffer.set_transform(make_transform("map", "box", 1.0, (1.0, 0.0, 0.0)), "test")
    buffer.set_transform(make_transform("map", "box", 2.0, (2.0, 0.0, 0.0)), "test")
    buffer.set_transform(make_transform("odom", "box", 3.0, (7.0, 0.0, 0.0)), "test")
    assert position(buffer.lookup_transform("map", "box", at(1.5))) == pytest.approx([1.5, 0.0, 0.0])
    assert position(buffer.lookup_transform("map", "box", at(2.5))) == [2.0, 0.0, 0.0]
    assert position(buffer.lookup_transform("map", "box", at(3.0))) == [7.0, 0.0, 0.0]


def test_a_static_frame_may_start_to_move(moving, make_transform):
    moving.set_transform(make_transform("base", "camera", 11.0, (0.0, 2.0, 0.0)), "test")
    assert position(moving.lookup_transform("base", "camera", LATEST)) == [0.0, 2.0, 0.0]
    assert not moving.can_transform("base", "camera", at(11.5))


def test_clear_keeps_names_and_static_frames(moving):
    moving.clear()
    assert position(moving.lookup_transform("base", "camera", LATEST)) == [0.0, 1.0, 0.0]
    assert moving._frameExists("map")
    with pytest.raises(tf2_ros.ConnectivityException):
        moving.lookup_transform("map", "base", LATEST)
    with pytest.raises(tf2_ros.ExtrapolationException):
        moving.lookup_transform("map", "base", at(11.0))


# Refusals


def test_extrapolation_names_the_times(moving, make_transform):
    with pytest.raises(
        tf2_ros.ExtrapolationException,
        match=r"^Lookup would require extrapolation into the future\.  Requested time 13\.500000 but the latest "
        r"data is at time 12\.000000, when looking up transform from frame \[camera\] to frame \[map\]$",
    ):
        moving.lookup_transform("map", "camera", at(13.5))
    with pytest.raises(
        tf2_ros.ExtrapolationException,
        match=r"^Lookup would require extrapolation into the past\.  Requested time 9\.250000 but the earliest "
        r"data is at time 10\.000000, when looking up transform from frame \[map\] to frame \[base\]$",
    ):
        moving.lookup_transform("base", "map", at(9.25))
    moving.set_transform(make_transform("map", "once", 11.0), "test")
    with pytest.raises(
        tf2_ros.ExtrapolationException,
        match=r"^Lookup would require extrapolation at time 12\.000000, but only time 11\.000000 is in the buffer, "
        r"when looking up transform from frame \[once\] to frame \[map\]$",
    ):
        moving.lookup_transform("map", "once", at(12.0))


def test_unknown_frames(moving):
    with pytest.raises(
        tf2_ros.LookupException, match=r'^"moon" passed to lookupTransform argument source_frame does not exist\. $'
    ):
        moving.lookup_transform("map", "moon", LATEST)
    with pytest.raises(
        tf2_ros.LookupException, match=r'^"moon" passed to lookupTransform argument target_frame does not exist\. $'
    ):
        moving.lookup_transform("moon", "sun", LATEST)
    with pytest.raises(tf2_ros.LookupException, match="argument fixed_frame does not exist"):
        moving.lookup_transform_full("map", LATEST, "base", LATEST, "moon")
    with pytest.raises(tf2_ros.LookupException, match='"moon" passed to get_latest_common_time'):
        moving.get_latest_common_time("map", "moon")


def test_frame_ids_that_are_not_allowed(moving):
    with pytest.raises(
        tf2_ros.InvalidArgumentException,
        match=r"^Invalid argument \"/map\" passed to lookupTransform argument target_frame - "
        r"in tf2 frame_ids cannot start with a '/'$",
    ):
        moving.lookup_transform("/map", "base", LATEST)
    with pytest.raises(tf2_ros.InvalidArgumentException, match="in tf2 frame_ids cannot be empty"):
        moving.lookup_transform("map", "", LATEST)


def test_two_trees(moving, make_transform):
    moving.set_transform(make_transform("mars", "rover", 11.0), "test")
    expected = (
        r"^Could not find a connection between 'map' and 'rover' because they are not part of the same tree\."
        r"Tf has two or more unconnected trees\.$"
    )
    for when in (LATEST, at(11.0)):
        with pytest.raises(tf2_ros.ConnectivityException, match=expected):
            moving.lookup_transform("map", "rover", when)
    with pytest.raises(tf2_ros.TransformException, match=expected):
        moving.get_latest_common_time("map", "rover")


def test_a_loop_is_named(buffer, make_transform):
    for parent, child in (("a", "b"), ("b", "c"), ("c", "a"), ("x", "y")):
        buffer.set_transform(make_transform(parent, child, 1.0), "test")
    for when in (LATEST, at(1.0)):
        with pytest.raises(tf2_ros.LookupException, match=r"contains a loop\.\nFrame b exists with parent a"):
            buffer.lookup_transform("y", "a", when)


def test_can_transform_tells_why_not(moving):
    def reason(target, source, when):
        found, text = moving.can_transform(target, source, when, return_debug_tuple=True)
        assert not found
        return text

    assert moving.can_transform("map", "camera", at(11.0), return_debug_tuple=True) == (True, "")
    assert reason("map", "moon", LATEST) == (
        'Invalid frame ID "moon" passed to canTransform argument source_frame - frame does not exist'
    )
    assert reason("", "map", LATEST).endswith("argument target_frame - in tf2 frame_ids cannot be empty")
    assert reason("/map", "base", LATEST).endswith("in tf2 frame_ids cannot start with a '/'")
    assert reason("map", "base", at(13.0)).startswith("Lookup would require extrapolation into the future.")
    assert moving.can_transform_full_core("map", LATEST, "base", LATEST, "moon")[1] == (
        'Invalid frame ID "moon" passed to canTransform argument fixed_frame - frame does not exist'
    )


@pytest.mark.parametrize(
    ("parent", "child", "position_m", "quat_xyzw"),
    [
        ("box", "box", (0, 0, 0), (0, 0, 0, 1)),
        ("map", "", (0, 0, 0), (0, 0, 0, 1)),
        ("", "box", (0, 0, 0), (0, 0, 0, 1)),
        ("map", "box", (float("nan"), 0, 0), (0, 0, 0, 1)),
        ("map", "box", (0, 0, 0), (0, 0, float("nan"), 1)),
        ("map", "box", (0, 0, 0), (0, 0, 0, 0)),
    ],
)
def test_what_is_no_transform_is_ignored(buffer, make_transform, parent, child, position_m, quat_xyzw):
    buffer.set_transform(make_transform(parent, child, 1.0, position_m, quat_xyzw), "test")
    assert buffer._getFrameStrings() == []


def test_quaternions_are_normalized(buffer, make_transform):
    buffer.set_transform(make_transform("map", "box", 1.0, (1, 0, 0), (0, 0, 3, 3)), "test")
    assert rotation(buffer.lookup_transform("map", "box", LATEST)) == pytest.approx(YAW_90)


def test_a_leading_slash_is_dropped(buffer, make_transform):
    buffer.set_transform(make_transform("/map", "/base", 1.0), "test")
    assert buffer.can_transform("map", "base", LATEST)
    assert buffer._getFrameStrings() == ["base", "map"]


def test_times_may_be_messages(moving):
    assert position(moving.lookup_transform("map", "base", TimeMsg(sec=11))) == pytest.approx([1.0, 0.0, 0.0])
    with pytest.raises(TypeError, match="time must have sec and nanosec, or nanoseconds"):
        moving.lookup_transform("map", "base", 11.0)


def test_exceptions_are_those_of_tf2_py():
    names = ("Connectivity", "Lookup", "Extrapolation", "InvalidArgument", "Timeout")
    for name in (f"{stem}Exception" for stem in names):
        assert getattr(tf2_ros, name) is getattr(tf2_py, name)
        assert issubclass(getattr(tf2_ros, name), tf2_ros.TransformException)
    assert not issubclass(tf2_ros.LookupException, LookupError)
