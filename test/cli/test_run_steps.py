"""`pose2rgbd run` does not repeat finished steps, and repeats all that follows a changed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pose2rgbd_ros.cli.run import Steps


def _pass(out: Path, inputs: dict[str, object], fresh: bool = False) -> list[tuple[str, bool]]:
    """Run three steps; returns which ran, each with whether it may resume."""
    ran: list[tuple[str, bool]] = []
    steps = Steps(out, fresh)
    for name in ("convert", "train", "evaluate"):
        steps.run(name, inputs.get(name), lambda begun, name=name: ran.append((name, begun)))
    return ran


def test_finished_steps_are_skipped(tmp_path: Path) -> None:
    assert len(_pass(tmp_path, {"train": 1})) == 3
    assert _pass(tmp_path, {"train": 1}) == []
    assert len(_pass(tmp_path, {"train": 1}, fresh=True)) == 3


def test_a_changed_step_repeats_what_follows(tmp_path: Path) -> None:
    _pass(tmp_path, {"train": 1})
    assert _pass(tmp_path, {"train": 2}) == [("train", False), ("evaluate", False)]


def test_an_interrupted_step_may_resume(tmp_path: Path) -> None:
    def interrupted(begun: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Steps(tmp_path, False).run("convert", None, interrupted)
    assert _pass(tmp_path, {}) == [("convert", True), ("train", False), ("evaluate", False)]
