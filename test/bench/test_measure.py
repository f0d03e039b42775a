"""Operations against counts by hand, ratios, turns, and what a page holds."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest
import torch

from pose2rgbd_ros.bench.measure import Limits, Page, Row, cost_of, interleaved, use_threads, with_limits
from pose2rgbd_ros.bench.table4 import PAPER, network_config
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.pose2rgbd.network import Pose2RGBD

KEYS = ["name", "value", "unit", "baseline", "ratio", "limit", "share_of_limit"]


def by_hand(slices: int) -> float:
    """FLOP of the paper's 512 x 512 depth network: (inputs, outputs, side of the input, taps of an input pixel)."""
    trunk = [(1024, 512, 4), (512, 256, 8), (256, 128, 16), (128, 64, 32), (64, 32, 64), (32, 16, 128)]
    layers = [(7, 16384, 1, 1), *((i, o, side, 4) for i, o, side in trunk)]
    if slices:
        layers += [(16, 60, 256, 9), (60, 60, 256, 9), (60, slices, 256, 9), (76 + slices, 1, 256, 4)]
    else:
        layers.append((16, 1, 256, 4))
    return sum(2 * i * o * side**2 * taps for i, o, side, taps in layers)


@pytest.mark.parametrize(("name", "gflop"), [("base", 0.41), ("slice-10", 6.5)])
def test_operations_are_those_counted_by_hand(name: str, gflop: float) -> None:
    network = Pose2RGBD(network_config(name, 512)).eval()
    cost = cost_of(network, torch.zeros(1, 7))
    assert cost.gflop == pytest.approx(by_hand(0 if name == "base" else 10) / 1e9, rel=1e-9)
    assert cost.gflop == pytest.approx(gflop, rel=0.01)
    assert sum(weight.numel() for weight in network.parameters()) == PAPER[name].parameters
    # A batch of two: twice the work, the weights once.
    twice = cost_of(network, torch.zeros(2, 7))
    assert twice.gflop == pytest.approx(2 * cost.gflop)
    assert cost.gb < twice.gb < 2 * cost.gb


def test_bytes_are_inputs_weights_and_outputs() -> None:
    layer = torch.nn.Conv2d(3, 5, 3, padding=1)
    cost = cost_of(torch.nn.Sequential(layer, torch.nn.ReLU()), torch.zeros(2, 3, 8, 8))
    assert cost.gb * 1e9 == pytest.approx(4 * (2 * 3 * 64 + 3 * 5 * 9 + 5 + 2 * 5 * 64))
    assert cost.gflop * 1e9 == pytest.approx(2 * 2 * 64 * 3 * 5 * 9)


def test_the_slower_limit_bounds() -> None:
    cost = cost_of(torch.nn.Linear(100, 200), torch.zeros(1, 100))
    assert Limits(1.0, 1e9).least_s(cost) == pytest.approx(cost.gflop)
    assert Limits(1e9, 1.0).least_s(cost) == pytest.approx(cost.gb)


def test_ratios_say_how_many_times_better() -> None:
    slow, fast = Row.of("time", 4.0, "ms", baseline=12.0, limit=1.0), Row.of("rate", 30.0, "FPS", 10.0, 60.0)
    assert (slow.ratio, slow.share_of_limit) == (3.0, 0.25)
    assert (fast.ratio, fast.share_of_limit) == (3.0, 0.5)
    assert list(dataclasses.asdict(Row.of("alone", 1.0, "MB"))) == KEYS
    assert [Row.of("alone", 1.0, "MB").ratio, Row.of("none", None, "ms", 1.0).ratio] == [None, None]
    assert Row.of("nothing grew", 0.0, "MB", 1.0).ratio is None


def test_contestants_take_turns_and_the_median_counts() -> None:
    calls: list[str] = []
    times = interleaved(
        {"quick": lambda: calls.append("quick"), "slow": lambda: (calls.append("slow"), _work(0.004))}, 3, turn=1
    )
    assert calls == ["quick", "quick", "slow", "slow"] * 3  # each time one that is not counted
    assert times["quick"] < 0.002 < times["slow"]
    with pytest.raises(UserError, match="0 rounds"):
        interleaved({}, 0)


def _work(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_the_machine_is_measured_in_the_same_turns() -> None:
    times, limits = with_limits({"nothing": lambda: None}, 1, turn=1)
    assert times.keys() == {"nothing"}
    assert limits.gflop_s > 0.1
    assert limits.gb_s > 0.01


def test_more_threads_than_cores_are_refused() -> None:
    with pytest.raises(UserError, match=r"100000 threads.*cores"):
        use_threads(100_000)


def test_a_page_is_for_people_and_for_programs(tmp_path: Path) -> None:
    page = Page("speed", "Speed", "pose2rgbd bench speed", "in turns.")
    page.rows.append(Row.of("a frame", 4.0, "ms", 12.0))
    page.sections.append("| a | table |")
    assert page.write(tmp_path / "new") == tmp_path / "new" / "speed.md"
    text = (tmp_path / "new" / "speed.md").read_text()
    assert text.startswith("# Speed\n\n`pose2rgbd bench speed`, in turns.\n\nMachine: ")
    assert "PyTorch" in text
    assert text.endswith("| a | table |\n")
    content = json.loads((tmp_path / "new" / "speed.json").read_text())
    assert content["command"] == "pose2rgbd bench speed"
    assert [list(row) for row in content["rows"]] == [KEYS]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        page.write(tmp_path / "file" / "below")
