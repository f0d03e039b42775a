"""Settings: bounds, YAML round trip and the command line's one-line errors."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import tyro

from pose2rgbd_ros.cli import main as cli
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import check, from_yaml_dict, read_yaml, setting, to_yaml_dict, write_yaml


@dataclass
class Example:
    rate_hz: float = setting(30.0, "images per second", ge=0.1, le=200.0)
    offset_s: float = setting(0.0, "any number of seconds")
    mode: Literal["a", "b"] = setting("a", "which")
    kind: Literal["c"] | None = setting(None, "what kind")
    pair: tuple[int, int] = setting((1, 2), "two numbers")
    where: Path = setting(Path("x"), "a path")


@dataclass
class Whole:
    """An example within an example."""

    part: Example = field(default_factory=Example)


def test_settings_within_settings_are_checked_and_named() -> None:
    check(Whole())
    with pytest.raises(UserError, match=r"part\.rate_hz is 0\.0; it must be at least 0\.1"):
        check(Whole(Example(rate_hz=0.0)))


def test_settings_within_settings_show_help_and_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert tyro.cli(Whole, args=["--part.rate-hz", "5"]) == Whole(Example(rate_hz=5.0))
    with pytest.raises(SystemExit):
        tyro.cli(Whole, args=["--help"])
    shown = capsys.readouterr().out
    assert "--part.rate-hz" in shown
    assert "images per second" in shown
    assert "{a,b}" in shown


def test_yaml_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write_yaml(path, to_yaml_dict(Example(rate_hz=5.0, pair=(3, 4))))
    loaded = from_yaml_dict(Example, read_yaml(path))
    assert (loaded.rate_hz, loaded.pair, str(loaded.where)) == (5.0, (3, 4), "x")
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate_hz": 0.0}, "at least 0.1"),
        ({"rate_hz": 1e9}, "at most"),
        ({"offset_s": float("nan")}, "offset_s is nan; it must be a finite number"),
        ({"offset_s": float("-inf")}, "finite"),
        ({"mode": "c"}, "choose one of: a, b"),
        ({"kind": "d"}, "choose one of: None, c"),
    ],
)
def test_values_out_of_bounds_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(Example(**change))  # type: ignore[arg-type]


def test_unknown_key_is_named() -> None:
    with pytest.raises(UserError, match="unknown setting rate; known ones: rate_hz"):
        from_yaml_dict(Example, {"rate": 3})


@pytest.mark.parametrize(("text", "message"), [("a: [", "cannot be read as YAML"), ("- 1", "no YAML mapping")])
def test_broken_yaml_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_yaml(path)
    assert "\n" not in str(error.value)


def test_command_line_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in cli.COMMANDS)
    assert cli.main(["paint"]) == 2
    assert "no command 'paint'" in capsys.readouterr().err


def test_bad_input_is_one_line_and_exit_status_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["inspect", str(tmp_path / "nothing")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1


def test_a_folder_without_permission_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["inspect", str(tmp_path / "nothing")]) == 2  # imports all it needs while it may
    capsys.readouterr()
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o000)
    me = os.geteuid()
    try:
        if me == 0:  # whom no permission stops
            os.seteuid(65534)
        assert cli.main(["inspect", str(locked)]) == 2
    finally:
        os.seteuid(me)
    message = capsys.readouterr().err
    assert message.startswith(f"error: {locked}")
    assert "permission denied" in message
    assert message.count("\n") == 1
