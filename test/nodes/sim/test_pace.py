"""The pace of simulated time: it keeps a factor, and takes a new one over though a step would have lasted hours."""

from __future__ import annotations

import threading

import pytest

from pose2rgbd_ros.nodes.sim.node import RealTimePace


def test_a_factor_near_zero_can_be_taken_back():
    pace, stop, ticks = RealTimePace(1e-6), threading.Event(), []

    def go_on():
        for number in range(4):
            pace.wait(0.01 * number, stop)  # from the second on, hours
            ticks.append(number)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    thread.join(0.3)
    assert ticks == [0]
    pace.factor = 1.0
    thread.join(60.0)
    assert ticks == [0, 1, 2, 3]


@pytest.mark.parametrize("factor", [1.0, 1e-6])
def test_stop_ends_the_wait(factor):
    pace, stop = RealTimePace(factor), threading.Event()
    stop.set()
    pace.wait(0.0, stop)
    pace.wait(1e6, stop)


def test_as_fast_as_it_can_waits_for_nothing():
    pace, stop = RealTimePace(0.0), threading.Event()
    for number in range(1000):
        pace.wait(1e3 * number, stop)
