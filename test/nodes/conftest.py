"""Small real checkpoints, and a bench that talks to nodes over real DDS."""

from __future__ import annotations

import contextlib
import gc
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import tf2_ros
import torch
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseWithCovarianceStamped
from lifecycle_msgs.srv import ChangeState, GetState
from pose2rgbd.msg import LocalizationStatus, RenderStatus
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from support.orbit_place import OrbitPlace

from pose2rgbd_ros.cli.nodes import NODES, _node
from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.localize.node import LocalizeNode
from pose2rgbd_ros.nodes.render.node import RenderNode
from pose2rgbd_ros.settings import profile_fields
from pose2rgbd_ros.training.checkpoint import Checkpoint, save_checkpoint
from pose2rgbd_ros.training.families import architecture_of, build_model

SIZE = 32
# A machine with other work may take so long for anything; nothing is measured by it, that is what bench/ is for.
PATIENCE_S = 120.0


def training_poses() -> np.ndarray:
    """A round at 10 m height, looking down: T_map_cam (60, 4, 4)."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    eye = np.stack([5 * np.cos(angle), 5 * np.sin(angle), np.full_like(angle, 10.0)], axis=-1)
    return se3.look_at(eye, eye - [0.0, 0.0, 1.0])


def write_checkpoint(
    path: Path, architecture: dict[str, Any] | None = None, T: np.ndarray | None = None, **facts: Any
) -> Path:
    """An untrained network as training on poses `T` would save it; arguments override its architecture and facts."""
    torch.manual_seed(0)
    architecture = {
        "network": "pose2rgbd", "variant": "slice", "slices": 2, "output": "rgbd", "size": SIZE, "width": 0.125,
        **(architecture or {}),
    }  # fmt: skip
    T, size = training_poses() if T is None else T, architecture["size"]
    has_depth = architecture["output"] != "rgb"
    facts = {
        "camera": Camera(size, size, 0.9 * size, 0.95 * size, (size - 1) / 2, (size - 1) / 2),
        "map_frame": "map",
        "camera_frame": "camera_optical",
        "depth_kind": "metric" if has_depth else None,
        **facts,
    }
    depth = np.linspace(4, 12, 16, dtype=np.float32).reshape(1, 4, 4) if has_depth else None
    model = build_model(architecture)
    checkpoint = Checkpoint(
        architecture=architecture_of(model),
        normalization=Normalization.fit(T, depth, "quaternion"),
        state_dict=model.state_dict(),
        training_stamps_ns=np.arange(len(T)) * 10**8,
        training_T_map_cam=T,
        **facts,
    )
    save_checkpoint(path, checkpoint)
    return path


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a checkpoint called `name`; the same one is written once per session."""
    folder = tmp_path_factory.mktemp("models")

    def make(name: str = "meadow", **changes: Any) -> Path:
        path = folder / name
        return path if path.exists() else write_checkpoint(path, **changes)

    return make


@pytest.fixture(scope="session")
def poses() -> np.ndarray:
    """The training poses of the checkpoints, (60, 4, 4)."""
    return training_poses()


class Bench:
    """A tester node, and render nodes beside it, each with an executor thread and a DDS participant of its own."""

    def __init__(self, domain: int) -> None:
        # A lifecycle node lives until it is garbage, and then takes the log of its name along: /rosout of a later
        # node of the same name would fall silent in the middle of a test.
        gc.collect()
        self._domain = domain
        self._folder = tempfile.TemporaryDirectory()
        self._running: list[tuple[rclpy.Context, SingleThreadedExecutor, Node, threading.Thread]] = []
        self.node = self._spin(lambda context: rclpy.create_node("tester", context=context))
        self.broadcaster = tf2_ros.TransformBroadcaster(self.node)
        self.sent: dict[int, np.ndarray] = {}
        self._streams: list[Any] = []
        self.status: list[Any] = []
        self.poses: list[PoseWithCovarianceStamped] = []

    def _spin(self, make: Callable[[rclpy.Context], Node]) -> Any:
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=self._domain)
        executor = SingleThreadedExecutor(context=context)
        node = make(context)
        executor.add_node(node)

        def spin() -> None:
            with contextlib.suppress(ExternalShutdownException):
                executor.spin()

        thread = threading.Thread(target=spin, daemon=True)
        thread.start()
        self._running.append((context, executor, node, thread))
        return node

    def spin(
        self, node_class: type[Node], namespace: str = "", remap: dict[str, str] | None = None, **parameters: Any
    ) -> Any:
        """A node of ours, running; `remap` gives topics other names. Settings of its profile go into a file."""
        overrides = self.overrides(node_class, {name.replace("__", "."): value for name, value in parameters.items()})
        rules = [word for pair in (remap or {}).items() for word in ("-r", ":=".join(pair))]
        return self._spin(
            lambda context: node_class(
                context=context,
                namespace=namespace,
                parameter_overrides=overrides,
                use_global_arguments=False,
                cli_args=["--ros-args", *rules] if rules else None,
            )
        )

    def overrides(self, node_class: type[Node], values: dict[str, Any]) -> list[Parameter]:
        """Parameters, with a profile of those that are none."""
        cls = next((kind for node, kind in map(_node, NODES) if node is node_class), None)
        profile = {name: values[name] for name in values if cls is not None and name in profile_fields(cls)}
        if cls is not None and profile:
            file = Path(self._folder.name) / f"{len(list(Path(self._folder.name).iterdir()))}.yaml"
            file.write_text(yaml.safe_dump(profile))
            values = {name: value for name, value in values.items() if name not in profile} | {cls.PROFILE: str(file)}
        return [Parameter(name, value=value) for name, value in values.items()]

    def beside(self, name: str) -> Node:
        """A plain node with a DDS participant of its own, which may give a topic another type than the tester does."""
        return self._spin(lambda context: rclpy.create_node(name, context=context))

    def render(self, model: Path | str, **parameters: Any) -> RenderNode:
        """A running render node; its status messages gather in `status`."""
        self.status = self.collect(RenderStatus, "/render/status")
        return self.spin(RenderNode, model=str(model), **parameters)

    def collect(self, kind: type, topic: str, qos: Any = 50) -> list[Any]:
        """The messages of a topic from now on."""
        received: list[Any] = []
        self.node.create_subscription(kind, topic, received.append, qos)
        return received

    def wait(self, condition: Callable[[], Any], timeout_s: float = PATIENCE_S, what: str = "") -> Any:
        """What `condition` gives once it is true."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            result = condition()
            if result:
                return result
            time.sleep(0.01)
        last = f"; last status: {self.status[-1].state} {self.status[-1].message!r}" if self.status else ""
        raise AssertionError(f"did not happen in {timeout_s} s: {what or condition.__code__.co_names}{last}")

    def wait_state(self, state: int) -> RenderStatus:
        """The first status of that state, from now on."""
        start = len(self.status)
        found = lambda: next((m for m in self.status[start:] if m.state == state), None)  # noqa: E731
        return self.wait(found, what=f"state {state}")

    def send(
        self, T: np.ndarray, stamp_ns: int | None = None, parent: str = "map", child: str = "camera_optical"
    ) -> int:
        """Broadcast T_parent_child once, by default as of now."""
        stamp_ns = self.node.get_clock().now().nanoseconds if stamp_ns is None else stamp_ns
        self.sent[stamp_ns] = T
        self.broadcaster.sendTransform(conversions.to_transform_stamped(T, stamp_ns, parent, child))
        return stamp_ns

    def stream(self, T: np.ndarray, hz: float = 50.0, offset_ns: Callable[[], int] = lambda: 0) -> Any:
        """Broadcast the poses (N, 4, 4) round and round, stamped as of now plus an offset; returns the timer."""
        T = np.atleast_3d(T).reshape(-1, 4, 4)
        count = iter(range(10**9))

        def send() -> None:
            now_ns = self.node.get_clock().now().nanoseconds
            self.send(T[next(count) % len(T)], now_ns + offset_ns())

        return self.node.create_timer(1 / hz, send)

    def call(self, kind: type, name: str, request: Any, timeout_s: float = PATIENCE_S) -> Any:
        """The answer of a service."""
        client = self.node.create_client(kind, name)
        assert client.wait_for_service(timeout_s), f"no service {name}"
        future = client.call_async(request)
        self.wait(future.done, timeout_s, f"answer of {name}")
        return future.result()

    def state_of(self, node: str = "/render") -> str:
        """The lifecycle state."""
        return self.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label

    def change(self, transition: int, node: str = "/render") -> bool:
        """Ask for a lifecycle transition."""
        request = ChangeState.Request()
        request.transition.id = transition
        return self.call(ChangeState, f"{node}/change_state", request).success

    def topics(self) -> set[str]:
        """Topics known to the tester."""
        return {name for name, _ in self.node.get_topic_names_and_types()}

    def end(self, node: Node) -> None:
        """End one node."""
        running = next(entry for entry in self._running if entry[2] is node)
        self._running.remove(running)
        context, executor, _, thread = running
        executor.shutdown()
        thread.join(60.0)
        node.destroy_node()
        rclpy.shutdown(context=context)

    def close(self) -> None:
        """End all nodes."""
        for _, _, node, _ in self._running[::-1]:
            self.end(node)
        self._folder.cleanup()


class Reports:
    """What a node tells on /diagnostics, stamped by the node's own clock."""

    def __init__(self, bench: Bench, node: Any) -> None:
        self._bench, self._clock = bench, node.get_clock()
        self._name = f"{node.get_fully_qualified_name().lstrip('/')}: "
        self._received = bench.collect(DiagnosticArray, "/diagnostics")
        periods_ns = [timer.timer_period_ns for timer in node.timers if timer.callback == node._housekeep]
        assert periods_ns == [10**9], "once a second, by a clock that no test can set"

    def next(self, since_ns: int | None = None) -> DiagnosticStatus:
        """The second from now on, or from a time of the node's clock: the first may have been under way."""
        since_ns = self._clock.now().nanoseconds if since_ns is None else since_ns

        def told() -> list[DiagnosticStatus]:
            found = [m for m in list(self._received) if conversions.stamp_ns(m.header.stamp) >= since_ns]
            return [m.status[0] for m in found if m.status[0].name.startswith(self._name)]

        return self._bench.wait(lambda: told()[1:], what=f"two reports of {self._name}")[0]


@pytest.fixture
def set_ahead(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the steady clock of this process ahead by so many seconds: by it nodes tell how long a topic has been
    silent.
    """
    steady, ahead_s = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: steady() + ahead_s[0])
    return lambda seconds: ahead_s.append(ahead_s.pop() + seconds)


@pytest.fixture
def bench(ros_domain: int) -> Iterator[Bench]:
    """A bench on a domain of its own."""
    made = Bench(ros_domain)
    yield made
    made.close()


@pytest.fixture(scope="session")
def orbit_place(tmp_path_factory: pytest.TempPathFactory) -> OrbitPlace:
    """A place and a network, trained here, that finds cameras in it."""
    return OrbitPlace(tmp_path_factory.mktemp("orbit_place"))


@pytest.fixture
def localize_node(bench: Bench, orbit_place: OrbitPlace) -> Callable[..., LocalizeNode]:
    """Starts a node with that network; its messages gather in `bench.status` and `bench.poses`."""

    def start(model: Path | str | None = None, **parameters: Any) -> LocalizeNode:
        bench.status = bench.collect(LocalizationStatus, "/localize/status")
        bench.poses = bench.collect(PoseWithCovarianceStamped, "/localize/pose")
        return bench.spin(LocalizeNode, model=str(model or orbit_place.model), **parameters)

    return start


@pytest.fixture(scope="module")
def shared_bench(new_domain: Callable[[], int]) -> Iterator[Bench]:
    """A bench for all tests of a module, on a domain of its own."""
    made = Bench(new_domain())
    yield made
    made.close()


@pytest.fixture
def make_node(ros_domain: int) -> Iterator[Callable[..., Node]]:
    """Makes plain nodes with these parameters; `a__b` is the parameter `a.b`."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=ros_domain)
    made: list[Node] = []

    def make(**values: Any) -> Node:
        overrides = [Parameter(name.replace("__", "."), value=value) for name, value in values.items()]
        made.append(rclpy.create_node("tester", context=context, parameter_overrides=overrides))
        return made[-1]

    yield make
    for node in made:
        node.destroy_node()
    rclpy.shutdown(context=context)
