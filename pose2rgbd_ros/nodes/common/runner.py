"""Runs nodes in this process: Fast DDS profile, executor, and an orderly end on SIGINT or SIGTERM."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import rclpy
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from pose2rgbd_ros.errors import UserError

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
NO_PROFILE = "POSE2RGBD_NO_FASTDDS_PROFILE"
SIGNAL_POLL_S = 0.25  # a signal cannot interrupt the wait for messages, so it ends at least this often


def use_fastdds_profile() -> Path | None:
    """Make Fast DDS read config/fastdds.xml, unless the user chose a profile or POSE2RGBD_NO_FASTDDS_PROFILE is set.

    To be called before rclpy.init. Returns the profile now in force, None for Fast DDS' own defaults.
    """
    for variable in PROFILE_VARIABLES:
        if os.environ.get(variable):
            return Path(os.environ[variable])
    profile = share_directory() / "config" / "fastdds.xml"
    if os.environ.get(NO_PROFILE) or not profile.is_file():
        return None
    for variable in PROFILE_VARIABLES:  # the first up to Fast DDS 2 (Humble, Jazzy), the second from 3 on
        os.environ[variable] = str(profile)
    return profile


def share_directory() -> Path:
    """Where config/ and launch/ are: the installed package's share directory, else the checkout."""
    checkout = Path(__file__).resolve().parents[3]
    if (checkout / "config" / "fastdds.xml").is_file():
        return checkout
    try:
        return Path(get_package_share_directory("pose2rgbd"))
    except PackageNotFoundError:
        return checkout


def run_nodes(factories: Sequence[Callable[[], Node]], argv: Sequence[str] | None = None) -> int:
    """Spin nodes in one single-threaded executor until a signal, or until one of them sets `exit_status`.

    `argv` are the ROS arguments (default: those of the process). Returns the exit status: that of the node, 0 after
    a signal, 2 when a node refuses its parameters, with one line on stderr.
    """
    use_fastdds_profile()
    stop = _SignalStop()
    nodes: list[Node] = []
    try:
        _init(list(sys.argv[1:] if argv is None else argv))
        executor = SingleThreadedExecutor()
        for factory in factories:
            if stop.requested:
                break
            nodes.append(factory())
            executor.add_node(nodes[-1])
        return _spin(executor, nodes, stop)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        while nodes:
            nodes.pop().destroy_node()
        rclpy.try_shutdown()
        stop.restore()


def _init(arguments: list[str]) -> None:
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:
        raise UserError(f"ROS refuses the arguments: {str(error).split(', at /')[0]}") from error


def _spin(executor: SingleThreadedExecutor, nodes: list[Node], stop: _SignalStop) -> int:
    while not stop.requested:
        try:
            executor.spin_once(timeout_sec=SIGNAL_POLL_S)
        except (ExternalShutdownException, _Interrupted):
            return 0
        for node in nodes:
            status = getattr(node, "exit_status", None)
            if status is not None:
                return int(status)
    return 0


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """What a node does in here, in the executor of :func:`run_nodes`, is given up at a signal: loading a model takes
    long.

    All nodes of the process are then ended in an orderly way.
    """
    stop = _SignalStop.current if threading.current_thread() is threading.main_thread() else None
    if stop is None:  # nobody takes signals here
        yield
        return
    if stop.requested:
        raise _Interrupted
    stop.may_raise = True
    try:
        yield
    finally:
        stop.may_raise = False


class _Interrupted(BaseException):
    """A signal came while something was interruptible; no Exception, or it would be taken for a failure of the node."""


class _SignalStop:
    """Takes down SIGINT and SIGTERM, without raising but once, so a second one cannot break the clean-up.

    A terminal sends Ctrl-C to the whole process group and a launch parent sends it once more.
    """

    current: _SignalStop | None = None

    def __init__(self) -> None:
        self.requested = self.may_raise = False
        _SignalStop.current = self
        self._previous = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if self.may_raise:
            self.may_raise = False
            raise _Interrupted

    def restore(self) -> None:
        """Put the previous handlers back; after a signal, ignore more of them: the process is on its way out."""
        _SignalStop.current = None
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_IGN if self.requested else handler)
