"""The worker with room for one job."""

from __future__ import annotations

import threading

import pytest

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.nodes.common.worker import LatestWorker


class Recorder:
    """Work that can be held up."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.errors: list[Exception] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.worker = LatestWorker(self.work, self.errors.append)

    def work(self, job: object) -> None:
        self.begun.set()
        assert self.go_on.wait(60.0)
        if isinstance(job, Exception):
            raise job
        self.done.append(job)


@pytest.fixture
def recorder():
    made = Recorder()
    yield made
    made.go_on.set()
    made.worker.stop()


def test_only_the_newest_waiting_job_is_done(recorder):
    recorder.worker.offer("first")
    assert recorder.begun.wait(60.0)
    for job in ("overtaken", "overtaken too", "last"):
        recorder.worker.offer(job)
    assert recorder.worker.overtaken == 2
    woken = threading.Event()
    answer = recorder.worker.call(lambda: list(recorder.done), woken.set)
    recorder.go_on.set()
    assert woken.wait(60.0)
    assert answer.result() == ["first"], "calls come before the waiting job"
    finished = threading.Event()
    recorder.worker.call(finished.set, lambda: None)
    assert finished.wait(60.0)
    while len(recorder.done) < 2:
        pass
    assert recorder.done == ["first", "last"]


def test_errors_are_handed_on_and_the_thread_lives(recorder):
    recorder.go_on.set()
    recorder.worker.offer(ValueError("bad"))
    woken = threading.Event()
    while not recorder.errors:
        pass
    answer = recorder.worker.call(lambda: 1 // 0, woken.set)
    assert woken.wait(60.0)
    assert isinstance(recorder.errors[0], ValueError)
    assert isinstance(answer.exception(), ZeroDivisionError)


def test_stop_abandons_waiting_calls(recorder):
    recorder.worker.offer("first")
    assert recorder.begun.wait(60.0)
    waiting = recorder.worker.call(lambda: 1, lambda: None)
    stopping = threading.Thread(target=recorder.worker.stop)
    stopping.start()
    while not waiting.done():
        pass
    recorder.go_on.set()
    stopping.join(60.0)
    assert "deactivated" in str(waiting.exception())
    assert "deactivated" in str(recorder.worker.call(lambda: 1, lambda: None).exception())


def test_work_in_parts_takes_turns_with_jobs(recorder):
    """A job waits for one part at most, and the parts are not starved by jobs."""
    recorder.worker.offer("first")
    assert recorder.begun.wait(60.0)
    said = recorder.done
    last = threading.Event()
    for index in range(4):
        recorder.worker.call(lambda part=index: said.append(part), lambda: None, behind=True)
    recorder.worker.call(lambda: said.append("urgent"), lambda: None)
    recorder.worker.offer("second")
    # Offered from within a part, as a node offers the next pose while a part is rendered.
    recorder.worker.call(lambda: recorder.worker.offer("third"), lambda: None, behind=True)
    recorder.worker.call(lambda: said.append("end"), last.set, behind=True)
    recorder.go_on.set()
    assert last.wait(60.0)
    assert said == ["first", "urgent", 0, "second", 1, 2, 3, "third", "end"]


def test_parts_waiting_when_it_stops_are_told(recorder):
    recorder.worker.offer("first")
    assert recorder.begun.wait(60.0)
    woken = threading.Event()
    part = recorder.worker.call(lambda: None, woken.set, behind=True)
    threading.Timer(0.2, recorder.go_on.set).start()
    recorder.worker.stop()
    assert woken.is_set()
    with pytest.raises(UserError, match="deactivated"):
        part.result()
