"""Figures that are published name the command and the machine that made them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pose2rgbd_ros.cli.main import COMMANDS

BENCH = Path(__file__).resolve().parents[2] / "bench"
WRITING = [path for path in sorted(BENCH.glob("*.py")) if 'results" /' in path.read_text()]


@pytest.mark.parametrize("path", WRITING, ids=lambda path: path.stem)
def test_a_bench_that_writes_a_result_names_command_and_machine(path: Path) -> None:
    text = path.read_text()
    assert "pose2rgbd_ros.evaluation.machine import" in text
    assert any(call in text for call in ("described()", "processor()", "machine(")), "imported and not used"
    assert f"`python bench/{path.name}" in text or f"python bench/{path.name} RUN" in text


@pytest.mark.parametrize("path", sorted(BENCH.glob("results/*.md")), ids=lambda path: path.stem)
def test_a_result_names_a_command_that_is_there(path: Path) -> None:
    head = "\n".join(path.read_text().splitlines()[:8])
    benches, commands = re.findall(r"`python bench/(\S+?\.py)", head), re.findall(r"`pose2rgbd (\w+)", head)
    assert benches or commands, "which command made these figures?"
    assert all((BENCH / bench).is_file() for bench in benches)
    assert set(commands) <= set(COMMANDS)
