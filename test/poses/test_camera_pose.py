"""Which source gives the camera's pose: the same of a recording and live, whatever comes and in whatever order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.geodesy import Datum, enu_to_wgs84
from pose2rgbd_ros.geometry.quaternions import from_euler_rpy
from pose2rgbd_ros.poses.camera_pose import T_FORWARD, CameraPoses, PendingCameraPoses, resolve
from pose2rgbd_ros.poses.evidence import Evidence, LiveEvidence, RecordedEvidence
from pose2rgbd_ros.poses.settings import PoseSettings
from pose2rgbd_ros.streams.samples import FixSample, GimbalSample, OrientationSample, PoseSample

MS, T0 = 1_000_000, 1_700_000_000_000_000_000
DATUM = Datum(47.0, 8.0, 400.0)
ANTENNA_M = np.array([0.3, -0.2, 0.4])
SOURCES = ("odometry", "correction", "tf", "mount", "moving mount", "imu", "earth gimbal", "gimbal", "fix")


def T_map_body(ms: float) -> np.ndarray:
    """Eastwards at 5 m/s, rolling and turning."""
    return se3.make([5e-3 * ms, 2.0, 30.0 + 1e-3 * ms], from_euler_rpy([0.2, -0.1, 3e-4 * ms]))


class Sender:
    """Puts what sensors say into all the evidence there is."""

    def __init__(self, *evidence: Evidence, child: str = "base_link") -> None:
        self.evidence, self.child = evidence, child

    def send(self, source: str, ms: float, spoilt: bool = False) -> None:
        stamp_ns, T = T0 + round(ms * MS), T_map_body(ms)
        position_m, quat = se3.split(T)
        position_m = position_m * np.nan if spoilt else position_m
        if source == "odometry":
            self._add("pose", PoseSample(stamp_ns, "odom", self.child, position_m, quat))
        elif source == "correction":
            self._transform(ms, "map", "odom", se3.make([0, 1e-3 * ms, 0], from_euler_rpy([0, 0, 1e-4 * ms])))
        elif source == "tf":
            self._transform(ms, "odom", "base_link", T, spoilt)
        elif source in ("mount", "moving mount"):
            pitch = 4e-4 * ms if source == "moving mount" else 0.3
            T_body_cam = se3.make([0.1, 0, 0], from_euler_rpy([0, pitch, 0])) @ T_FORWARD
            self._transform(ms, "base_link", "camera", T_body_cam, spoilt, static=source == "mount")
        elif source == "imu":
            self._add("imu", OrientationSample(stamp_ns, "map", "base_link", quat * (not spoilt)))
        elif source == "fix":
            T[:3, 3] += T[:3, :3] @ ANTENNA_M
            place = map(float, enu_to_wgs84(T[:3, 3], DATUM))
            self._add("fix", FixSample(stamp_ns, "gps", *place, np.eye(3)))
        else:
            down = from_euler_rpy([0.0, 1.0, 2e-4 * ms])
            self._add("gimbal", GimbalSample(stamp_ns, down, source == "earth gimbal"))

    def _add(self, role, sample) -> None:
        for evidence in self.evidence:
            evidence.topics[role] = f"/{role}"
            evidence.add(role, sample)

    def _transform(self, ms, parent, child, T, spoilt=False, static=False) -> None:
        position_m, quat = se3.split(T)
        pose = PoseSample(T0 + round(ms * MS), parent, child, position_m * (np.nan if spoilt else 1), quat)
        for evidence in self.evidence:
            evidence.tree.add(pose, static)


def outcome(evidence: Evidence, camera_frame: str) -> CameraPoses | None:
    try:
        return resolve(evidence, camera_frame)
    except UserError:
        return None


messages = st.lists(
    st.tuples(st.sampled_from(SOURCES), st.integers(0, 12), st.integers(-3, 3), st.booleans()), max_size=12
)


@given(
    sources=st.sets(st.sampled_from(SOURCES), min_size=1),
    extra=messages,
    child=st.sampled_from(["base_link", "", "camera", "left_optical"]),
    camera_frame=st.sampled_from(["camera", "", "elsewhere"]),
    position=st.sampled_from(["auto", "pose", "gps"]),
    orientation=st.sampled_from(["auto", "pose", "tf", "imu", "gimbal"]),
    mount=st.sampled_from(["auto", "nadir"]),
    interpolation=st.sampled_from(["linear", "cubic"]),
    gap_s=st.sampled_from([0.15, 0.5]),
)
@example({"tf", "imu", "fix"}, [], "base_link", "camera", "gps", "auto", "auto", "linear", 0.5)
@example({"odometry", "gimbal"}, [], "camera", "camera", "auto", "auto", "auto", "linear", 0.5)
@settings(max_examples=150, deadline=None)
def test_live_and_recorded_evidence_give_the_same_poses(
    sources, extra, child, camera_frame, position, orientation, mount, interpolation, gap_s
) -> None:
    """After the deadline: the same sources, words, poses and reasons, also where some come twice, late or spoilt."""
    config = PoseSettings(
        position, orientation, mount, max_pose_gap_s=gap_s, interpolation=interpolation, course_smoothing_s=0.1
    )
    recorded, live = RecordedEvidence(config), LiveEvidence(config)
    sender = Sender(recorded, live, child=child)
    steps = [(100.0 * i, source, False) for i in range(13) for source in SOURCES if source in sources]
    for source, i, late, spoilt in extra:
        steps.insert(min(len(steps), i * len(sources)), (100.0 * max(0, i - late) + 50 * (late % 2), source, spoilt))
    if any(source == "fix" for _, source, _ in steps):
        steps.insert(0, (0.0, "fix", False))  # the datum: live the first to come, recorded the earliest
    for ms, source, spoilt in steps:
        sender.send(source, ms, spoilt)
    ours, theirs = outcome(live, camera_frame), outcome(recorded, camera_frame)
    if ours is not None and theirs is None:  # a course that may still be seen
        assert ours.facts.orientation == "course"
        assert not any(ours.pose_at(T0 + ms * MS).T is not None for ms in range(0, 1300, 50))
        return
    assert (ours is None) == (theirs is None)
    if ours is None or theirs is None:
        return
    course = theirs.facts.orientation == "course"
    assert replace(ours.facts, mount="") == replace(theirs.facts, mount="")
    assert ours.facts.mount.split(" (")[0] == theirs.facts.mount.split(" (")[0], "but for why it is not in TF"
    assert (ours.map_frame, ours.camera_frame, ours.datum) == (
        theirs.map_frame,
        theirs.camera_frame,
        theirs.datum and replace(theirs.datum, sigma_m=None),
    )
    for ms in (-50, 0, 10, 130, 300, 333, 650, 1000, 1199, 1200, 1300):
        a, b = (poses.pose_at(T0 + ms * MS) for poses in (ours, theirs))
        assert not b.wait
        if course and (a.wait or a.T is None):  # of the newest fixes live does not know the course yet
            continue
        assert a.reason == b.reason
        if a.T is not None:
            np.testing.assert_allclose(a.T, b.T, atol=1e-6 if course else 1e-9)


def sent(live: Evidence, *sources: str) -> Evidence:
    sender = Sender(live)
    for ms in range(0, 1300, 100):
        for source in sources:
            sender.send(source, ms)
    return live


@pytest.mark.parametrize(
    ("first", "best", "config", "expected", "is_best"),
    [
        (("fix", "imu"), ("earth gimbal",), PoseSettings("gps", body_to_camera="nadir"), ("gps", "gimbal"), True),
        (("fix", "imu"), ("correction", "tf"), PoseSettings("gps", body_to_camera="nadir"), ("gps", "tf"), False),
        (("odometry",), ("earth gimbal",), PoseSettings(), ("pose", "gimbal"), False),
        (("odometry", "earth gimbal"), ("mount",), PoseSettings(), ("pose", "pose"), True),
        (("fix", "correction", "tf", "mount"), ("odometry",), PoseSettings(), ("pose", "pose"), True),
    ],
)
def test_what_is_better_than_what_is_there_is_waited_for(first, best, config, expected, is_best) -> None:
    """Until the deadline; then one does with what there is."""
    live, late = sent(LiveEvidence(config), *first), False
    poses = PendingCameraPoses(live, "camera", lambda: late)
    answer = poses.pose_at(T0 + 550 * MS)
    assert answer.T is None
    assert answer.wait
    late = True
    assert PendingCameraPoses(live, "camera", lambda: late).pose_at(T0 + 550 * MS).T is not None
    late = not is_best
    sent(live, *best)
    assert poses.pose_at(T0 + 550 * MS).T is not None
    assert (poses.decided.facts.position, poses.decided.facts.orientation) == expected


@pytest.mark.parametrize("kind", [RecordedEvidence, LiveEvidence])
def test_the_antenna_is_taken_off_a_camera_that_tf_turns(kind) -> None:
    """Where TF turns the camera itself, the antenna is where it sits from there, not from the body."""
    evidence = sent(kind(PoseSettings("gps", "tf", antenna_m="0.3 -0.2 0.4"), "odom"), "tf", "mount", "fix")
    poses = resolve(evidence, "camera")
    T_body_cam = evidence.static_transform("base_link", "camera")
    first = T_map_body(0)[:3, 3] + T_map_body(0)[:3, :3] @ ANTENNA_M
    expected = T_map_body(500) @ T_body_cam
    expected[:3, 3] -= first
    np.testing.assert_allclose(poses.pose_at(T0 + 500 * MS).T, expected, atol=1e-3)


def test_a_pose_of_the_cameras_own_frame_goes_before_a_gimbal() -> None:
    evidence = RecordedEvidence(PoseSettings())
    sender = Sender(evidence, child="camera")
    for ms in range(0, 1000, 100):
        sender.send("odometry", ms)
        sender.send("earth gimbal", ms)
    poses = resolve(evidence, "camera")
    assert poses.facts.orientation == "pose"
    np.testing.assert_allclose(poses.pose_at(T0 + 300 * MS).T, T_map_body(300), atol=1e-9)
    assert resolve(evidence, "other").facts.orientation == "gimbal"


def test_topics_that_gave_nothing_are_not_told() -> None:
    poses = resolve(sent(RecordedEvidence(PoseSettings()), "correction", "tf", "mount", "fix", "imu"), "camera")
    assert (poses.facts.position, poses.facts.topics) == ("tf", {})


def test_a_gimbal_that_counts_from_the_vehicle_needs_its_heading() -> None:
    with pytest.raises(UserError, match="no orientation of it is recorded"):
        resolve(sent(RecordedEvidence(PoseSettings("gps", "gimbal")), "fix", "gimbal"), "camera")
    evidence = sent(RecordedEvidence(PoseSettings("gps", "gimbal")), "fix", "gimbal")
    Sender(evidence).send("imu", 99_000)
    with pytest.raises(UserError, match="no time in common"):
        resolve(evidence, "camera")


def test_a_dataset_that_goes_on_waits_for_its_first_fix() -> None:
    """Its datum is known before; where the antenna is, only TF and the fix's frame tell."""
    live = LiveEvidence(PoseSettings("gps", "imu"))
    sent(live, "imu", "mount")
    T_body_gps = PoseSample(0, "base_link", "gps", ANTENNA_M, np.array([0.0, 0.0, 0.0, 1.0]))
    live.tree.add(T_body_gps, static=True)
    live.begin(DATUM)
    poses = PendingCameraPoses(live, "camera", lambda: True)
    assert poses.pose_at(T0).wait
    sent(live, "fix")
    expected = T_map_body(500) @ live.static_transform("base_link", "camera")
    np.testing.assert_allclose(poses.pose_at(T0 + 500 * MS).T, expected, atol=1e-3)
    assert poses.decided.datum == DATUM
