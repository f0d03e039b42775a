"""Figures that are published name the command and the machine that made them."""

from __future__ import annotations

from pathlib import Path

import pytest

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
    commands = [line.split("python bench/", 1)[1] for line in head.splitlines() if "`python bench/" in line]
    assert commands, "which command made these figures?"
    assert (BENCH / commands[0].split("`")[0].split()[0]).is_file()
