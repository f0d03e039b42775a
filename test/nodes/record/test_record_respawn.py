"""A recorder that is killed and started again, as use_respawn does: it goes on with what this launch began, and no
more.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pose2rgbd.msg import SyncStatus
from std_srvs.srv import Trigger
from support.live_drone import LiveDrone

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.nodes.record.session import Handover
from pose2rgbd_ros.nodes.record.settings import RecordSettings

pytestmark = [pytest.mark.ros, pytest.mark.timeout(600)]
COMMAND = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "record", "--depth", "none", "--min-free-mib", "0"]
LONG_S = 90.0
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(bench: Any) -> Iterator[Start]:
    """Starts recorders as processes beside a flying drone."""
    drone, started = LiveDrone(bench.node), []
    bench.status = bench.collect(SyncStatus, "/record/status")

    def run(out: Path, session: Path) -> subprocess.Popen[bytes]:
        bench.status.clear()
        started.append(subprocess.Popen([*COMMAND, "--out", str(out), "--session", str(session)]))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
    drone.land()


def frames_written(bench: Any, state: int = SyncStatus.RECORDING, at_least: int = 5) -> SyncStatus:
    """The first status of a recording with so many frames."""

    def found():
        return next((m for m in bench.status if m.state == state and m.frames_written >= at_least), None)

    return bench.wait(found, LONG_S, f"{at_least} frames")


def end(process: subprocess.Popen[bytes], number: int) -> None:
    process.send_signal(number)
    process.wait(LONG_S)


def test_a_killed_recorder_goes_on_with_its_own_dataset(bench, start, tmp_path):
    session = tmp_path / "session"
    killed = start(tmp_path / "flight", session)
    before = frames_written(bench)
    end(killed, signal.SIGKILL)
    again = start(tmp_path / "flight", session)
    after = frames_written(bench)
    assert after.dataset == before.dataset == str(tmp_path / "flight")
    end(again, signal.SIGINT)
    assert again.returncode == 0
    dataset = Dataset(tmp_path / "flight")
    assert len(dataset) >= before.frames_written + after.frames_written
    assert (dataset.stamps_ns[1:] > dataset.stamps_ns[:-1]).all()

    # Another launch has another session: the dataset is an old one to it.
    other = start(tmp_path / "flight", tmp_path / "another session")
    told = lambda: next((m for m in bench.status if m.state == SyncStatus.ERROR), None)  # noqa: E731
    assert "already holds a dataset" in bench.wait(told, LONG_S).message
    end(other, signal.SIGINT)
    assert len(Dataset(tmp_path / "flight")) == len(dataset)


def test_after_a_stop_the_next_recorder_waits(bench, start, tmp_path):
    session = tmp_path / "session"
    first = start(tmp_path / "flight_%S_%%", session)
    begun = frames_written(bench).dataset
    assert session.read_text() == begun
    assert bench.call(Trigger, "/record/stop", Trigger.Request(), LONG_S).success
    end(first, signal.SIGKILL)
    second = start(tmp_path / "flight_%S_%%", session)
    bench.wait(lambda: len(bench.status) >= 2, LONG_S)
    assert all(message.state == SyncStatus.IDLE for message in bench.status)
    end(second, signal.SIGINT)
    assert [folder.name for folder in tmp_path.glob("flight_*")] == [Path(begun).name]


def test_a_time_in_the_name_is_that_of_the_first_start(tmp_path):
    settings = RecordSettings(out=str(tmp_path / "flight_%Y"), session=str(tmp_path / "session"))
    Handover(settings).leave(tmp_path / "flight_1999_100%")
    after = Handover(settings)
    assert after.starts
    assert (after.settings().folder(), after.settings().resume) == (tmp_path / "flight_1999_100%", True)
    assert Handover(RecordSettings(out="x", start_recording=False)).starts is False
    assert Handover(RecordSettings(out="x")).settings().resume is False


def test_a_session_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"session .* cannot be read"):
        Handover(RecordSettings(session=str(tmp_path)))
