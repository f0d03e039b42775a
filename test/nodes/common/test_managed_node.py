"""The base of the nodes: its transitions, its parameters, what it tells, and the checks of the clock."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from nodes.conftest import Reports
from pose2rgbd.msg import RenderStatus
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.common.node import ManagedNode
from pose2rgbd_ros.nodes.common.status import NodeState
from pose2rgbd_ros.settings import setting

pytestmark = pytest.mark.ros


@dataclass
class LampSettings:
    """A lamp that gets hot."""

    autostart: bool = setting(False, "configure and activate at once")
    model: str = setting("led", "kind of lamp")
    topic: str = setting("light", "where it shines")
    watts: float = setting(5.0, "power")


class Lamp(ManagedNode[LampSettings]):
    """Notes what is asked of it; a model 'broken' does not load, a topic 'dark' does not start."""

    diagnostics_name = "lamp"
    status_type = RenderStatus
    fixed_while_configured = ("model",)
    fixed_while_active = ("topic",)

    def __init__(self, settings: LampSettings | None = None, **options):
        super().__init__("lamp", settings or LampSettings(), **options)
        self.done = []

    def load(self):
        self.done.append("load")
        if self.settings.model == "broken":
            raise UserError("the filament\nis broken")
        if self.settings.model == "unforeseen":
            raise ZeroDivisionError("no watts")

    def start(self):
        self.done.append("start")
        if self.settings.topic == "dark":
            raise RuntimeError("no current")

    def stop(self):
        self.done.append("stop")

    def forget(self):
        self.done.append("forget")

    def forget_time(self):
        self.done.append("forget_time")

    def judge(self, asked):
        if asked.model == "led" and asked.watts > 10:
            raise UserError("an led has at most 10 W")

    def change(self, before):
        self.done.append(f"{before.watts:g} W to {self.settings.watts:g} W")

    def state(self):
        return NodeState(RenderStatus.WAITING_FOR_TF, self.no_clock or self.recent_jump or "shines")

    def figures(self, state):
        return {"watts": self.settings.watts}

    def status_message(self, state):
        return RenderStatus(state=state.state, message=state.message)


@pytest.fixture
def lamp(bench):
    """Starts one; its status messages gather in `bench.status`."""

    def start(**parameters):
        bench.status = bench.collect(RenderStatus, "/lamp/status")
        return bench.spin(Lamp, **parameters)

    return start


def change(bench, *transitions):
    return [bench.change(getattr(Transition, f"TRANSITION_{name}"), "/lamp") for name in transitions]


def test_it_starts_by_itself_or_waits_for_a_manager(bench, lamp):
    node = lamp(autostart=True)
    bench.wait(lambda: node.active)
    assert node.done == ["load", "start"]
    assert bench.state_of("/lamp") == "active"
    assert change(bench, "DEACTIVATE", "CLEANUP", "CONFIGURE", "ACTIVATE", "ACTIVE_SHUTDOWN") == [True] * 5
    assert node.done[2:] == ["stop", "forget", "load", "start", "stop", "forget"]
    assert bench.state_of("/lamp") == "finalized"


def test_nobody_asked_for_it(bench, lamp):
    node = lamp()
    report = Reports(bench, node).next()
    assert (report.level, report.message) == (DiagnosticStatus.OK, "not active")
    assert (report.values[0].key, report.values[0].value) == ("watts", "5.000")
    assert (node.done, bench.status, bench.state_of("/lamp")) == ([], [], "unconfigured")


@pytest.mark.parametrize(
    ("model", "said"),
    [("broken", "the filament is broken"), ("unforeseen", "loading failed: ZeroDivisionError: no watts")],
)
def test_a_bad_load_is_one_line_everywhere_and_is_taken_back(bench, lamp, capfd, model, said):
    diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
    node = lamp(model=model)
    assert change(bench, "CONFIGURE") == [False]
    assert node.done == ["load", "forget"]
    assert bench.state_of("/lamp") == "unconfigured"
    assert (bench.wait_state(RenderStatus.ERROR).message, bench.status[0].message) == (said, said)
    found = bench.wait(lambda: [one.status[0] for one in diagnostics if one.status[0].level == DiagnosticStatus.ERROR])
    assert found[0].message == said
    errors = [line for line in capfd.readouterr().err.splitlines() if "[ERROR]" in line]
    assert len(errors) == 1
    assert errors[0].endswith(said)
    node.set_parameters([Parameter("model", value="led")])
    assert change(bench, "CONFIGURE") == [True]
    assert Reports(bench, node).next().message == "not active", "the failure is forgotten"


def test_a_bad_start_is_taken_back_and_may_be_tried_again(bench, lamp):
    node = lamp(topic="dark")
    assert change(bench, "CONFIGURE", "ACTIVATE") == [True, False]
    assert node.done == ["load", "start", "stop"]
    assert not node.active
    assert bench.wait_state(RenderStatus.ERROR).message == "cannot start: RuntimeError: no current"
    node.set_parameters([Parameter("topic", value="light")])
    assert change(bench, "ACTIVATE") == [True]


def test_what_is_fixed_is_refused_with_the_way_out(bench, lamp):
    node = lamp()
    ask = lambda name, value: node.set_parameters([Parameter(name, value=value)])[0]  # noqa: E731
    assert ask("model", "bulb").successful
    change(bench, "CONFIGURE")
    assert ask("model", "led").reason == "model can only change while the node is unconfigured; clean it up first"
    assert ask("topic", "glow").successful
    change(bench, "ACTIVATE")
    assert ask("topic", "light").reason == "topic can only change while the node is inactive; deactivate it first"
    change(bench, "DEACTIVATE", "CLEANUP")
    assert ask("model", "led").successful
    assert ask("watts", 60.0).reason == "an led has at most 10 W"
    assert ask("watts", 6.0).successful
    bench.wait(lambda: "5 W to 6 W" in node.done)


def test_a_failure_of_an_active_node_is_shown_for_a_while(bench, lamp, set_ahead):
    node = lamp(autostart=True)
    bench.wait_state(RenderStatus.WAITING_FOR_TF)
    node.fail(ValueError("flickers"), "shining failed")
    assert bench.wait_state(RenderStatus.ERROR).message == "shining failed: ValueError: flickers"
    set_ahead(6.0)
    assert bench.wait_state(RenderStatus.WAITING_FOR_TF).message == "shines"


def test_a_clock_that_is_silent_or_jumps_back(bench, lamp):
    node = lamp(autostart=True, use_sim_time=True)
    told = bench.wait_state(RenderStatus.WAITING_FOR_TF).message
    assert told == "use_sim_time is set but nothing arrives on /clock; publish it or set use_sim_time to false"
    publisher, now_s = bench.node.create_publisher(Clock, "/clock", 10), [100]
    bench.node.create_timer(0.02, lambda: publisher.publish(Clock(clock=conversions.to_stamp(now_s[0] * 10**9))))
    bench.wait(lambda: not node.no_clock)
    assert node.jumps == 0
    now_s[0] = 93
    assert bench.wait_state(RenderStatus.TIME_JUMP).message == "the clock jumped back by 7.0 s"
    assert (node.jumps, node.done[-1]) == (1, "forget_time")
    assert bench.wait_state(RenderStatus.WAITING_FOR_TF).message == "the clock jumped back by 7.0 s", "it is shown"


def test_it_ends_in_order_from_any_state(bench, lamp):
    node = lamp(autostart=True)
    bench.wait(lambda: node.active)
    bench.close()
    assert node.done == ["load", "start", "stop", "forget"]
    bench._running.clear()
