"""`--json`: one document on standard output, whatever becomes of the command; every command that reports has it."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose2rgbd_ros.cli import results
from pose2rgbd_ros.cli.completion import _arguments
from pose2rgbd_ros.cli.main import COMMANDS, REPORTING, main
from pose2rgbd_ros.errors import UserError

# Where a number has no unit in its key: counts, shares, indices and what is named by itself.
UNITLESS = re.compile(
    r"(_share|frames|poses|points|images|epochs|pauses|train|choose|judge|distortion|exit_status|variation|ssim|"
    r"depth_known|error_share)$"
)
UNITS = re.compile(r"_(px|m|s|ms|ns|deg|db|mps|degps|hz|of_255|relative|m_deg|xyzw)$")


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[dict[str, Any], str]:
    status = main([*argv])
    out, err = capsys.readouterr()
    values = json.loads(out)
    assert values["schema"] == results.SCHEMA
    assert values["exit_status"] == status
    assert values["arguments"] == list(argv[1:])
    return values, err


def numbers(values: Any, key: str = "") -> Iterator[str]:
    """Keys of all numbers."""
    if isinstance(values, dict):
        for name, value in values.items():
            yield from numbers(value, name)
    elif isinstance(values, list):
        for value in values:
            yield from numbers(value, key)
    elif isinstance(values, (int, float)) and not isinstance(values, bool):
        yield key


def test_the_facts_of_a_dataset(flight_dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = flight_dataset(tmp_path / "flight", frames=30)
    found, messages = document(capsys, "inspect", str(dataset), "--json")
    assert (found["command"], found["exit_status"], found["error"]) == ("inspect", 0, None)
    result = found["result"]
    assert result["frames"] == 30
    assert result["depth"]["kind"] == "metric"
    assert result["camera"]["fx_px"] > 0
    assert Path(result["files"]["page"]).is_file()
    assert "contact_sheet.png" in messages, "what a person reads is on standard error"
    for key in set(numbers(result)):
        assert UNITS.search(key) or UNITLESS.search(key), f"{key} has no unit"


def test_a_failure_is_a_document_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, messages = document(capsys, "inspect", str(tmp_path / "nothing"), "--json")
    assert found["exit_status"] == 2
    assert found["error"].startswith(f"{tmp_path}/nothing is not a dataset")
    assert found["result"] is None
    assert messages.startswith("error: ")
    found, _ = document(capsys, "evaluate", "--json", "--split", "nonsense")
    assert (found["exit_status"], found["result"]) == (2, None)


def test_nothing_but_the_document_is_on_standard_output(flight_dataset, tmp_path: Path) -> None:
    dataset = flight_dataset(tmp_path / "flight", frames=8)
    call = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "export", str(dataset), str(tmp_path / "out")]
    done = subprocess.run([*call, "--format", "tum", "--json"], capture_output=True, text=True, timeout=300)
    found = json.loads(done.stdout)
    assert (found["command"], found["result"]["frames"]) == ("export", 8)


def test_what_json_cannot_hold_becomes_what_it_can(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        results.add(depth_m=np.float32(0.5), stamp_ns=np.int64(2), unknown_m=np.nan, far_m=np.inf, at=Path("a"))
        results.add(position_m=np.array([1.0, np.nan]), is_good=np.bool_(True), nested={"a": (np.int8(1),)})
        print("for people")
        return 0

    assert results.as_document("x", [], command) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["result"] == {
        "depth_m": 0.5, "stamp_ns": 2, "unknown_m": None, "far_m": None, "at": "a", "position_m": [1.0, None],
        "is_good": True, "nested": {"a": [1]},
    }  # fmt: skip
    assert err == "for people\n"


def test_a_result_is_of_one_command_alone(capsys: pytest.CaptureFixture[str]) -> None:
    def first() -> int:
        results.add(a=1)
        return 0

    results.as_document("x", [], first)
    capsys.readouterr()
    results.as_document("y", [], lambda: 1)
    found = json.loads(capsys.readouterr().out)
    assert (found["result"], found["exit_status"], found["error"]) == (None, 1, "see standard error")


def options(kind: Any) -> Iterator[tuple[str, set[str]]]:
    """Fields of a command's arguments, of each of its jobs."""
    kind = kind[0] if isinstance(kind, tuple) else kind
    names = {field.name for field in dataclasses.fields(kind)}
    if kind.__name__.startswith("Of"):
        (field,) = dataclasses.fields(kind)
        for part in field.type.__args__:
            name = next(mark.name for mark in part.__metadata__ if hasattr(mark, "prefix_name"))
            yield from ((f"{name} {inner}".strip(), each) for inner, each in options(part.__origin__))
        return
    yield "", names


@pytest.mark.parametrize("command", sorted(set(REPORTING) - {"status"}))
def test_every_command_that_reports_has_the_option(command: str) -> None:
    without = {"remove", "live", "help"}  # they find nothing
    for job, names in options(_arguments(command)):
        if not without & set(job.split()):
            assert "json" in names, f"pose2rgbd {command} {job}"


def test_what_reports_nothing_does_not_take_the_option() -> None:
    assert set(REPORTING) <= set(COMMANDS)
    with pytest.raises((SystemExit, UserError)):
        main(["completion", "bash", "--json"])
