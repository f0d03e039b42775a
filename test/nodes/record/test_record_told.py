"""When the recorder complains of rejected images, and when it does not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pose2rgbd_ros.nodes.record import status
from pose2rgbd_ros.nodes.record.stats import Stats
from pose2rgbd_ros.nodes.record.status import ProblemLog, RejectWatch

pytestmark = pytest.mark.ros


class Recording:
    """A recording whose images meet a fate, second by second."""

    def __init__(self, monkeypatch):
        self.now_s = 100.0
        monkeypatch.setattr(status.time, "monotonic", lambda: self.now_s)
        self.tally, self.watch = Stats(1000), RejectWatch()
        self.session = SimpleNamespace(tallies={"": self.tally}, queue_size=1000, frames=0)

    def second(self, frames=0, **rejects):
        """What is said after a second in which this became of the images."""
        for _ in range(frames):
            self.tally.offer()
            self.tally.frame(0.0)
        for reason, count in rejects.items():
            for _ in range(count):
                self.tally.offer()
                self.tally.reject(reason, "0.7 s" if reason == "pose_gap" else "")
        self.session.frames = self.tally.frames
        self.now_s += 1.0
        return self.watch.problem(self.session)


@pytest.fixture
def recording(monkeypatch):
    return Recording(monkeypatch)


def test_nothing_is_said_while_frames_come(recording):
    assert [recording.second(frames=10, pose_gap=5) for _ in range(10)] == [""] * 10


def test_images_of_which_none_becomes_a_frame(recording):
    recording.second(frames=10)
    said = [recording.second(pose_gap=10, no_pose=3) for _ in range(8)]
    assert said[0] == ""
    assert said[-1] == "no image becomes a frame: pose_gap 0.7 s, no_pose"
    said = [recording.second(frames=5) for _ in range(2)]
    assert said[-1] == ""


def test_what_was_asked_for_is_no_problem(recording):
    assert [recording.second(paused=10, static=10, blurred=3) for _ in range(8)] == [""] * 8


def test_a_full_queue_is_told_at_once_and_for_a_while(recording):
    recording.second(frames=10)
    assert recording.second(frames=10, queue_full=1).startswith("images are rejected because 1000 wait already")
    assert [bool(recording.second(frames=10)) for _ in range(8)] == [True] * 4 + [False] * 4


def test_a_problem_is_told_once_though_its_figures_change(monkeypatch):
    log = []
    logger = SimpleNamespace(info=log.append, warning=log.append)
    told = ProblemLog(SimpleNamespace(get_logger=lambda: logger))
    for i in range(20):
        told.log(
            {
                "bag": f"lost {100 + i} messages of the bag: the disk is too slow",
                "/fix": f"its stamps are {0.1 * i:.3f} s before its arrival",
            }
        )
    told.log({"/fix": "silent for 7 s: its publisher is gone"})
    assert [line.split(":")[0] for line in log] == ["bag", "/fix", "/fix", "bag"]
    assert log[-1] == "bag: good again"
