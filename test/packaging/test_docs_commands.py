"""The command lines of README and docs: scripts/check_docs_commands.py knows each, and what they name exists.

The script itself runs them, which takes hours.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import yaml
from support import launch_standin
from support.scripts import load_script

from pose2rgbd_ros import settings
from pose2rgbd_ros.cli.main import COMMANDS, main
from pose2rgbd_ros.cli.nodes import NODES, _node

ROOT = Path(__file__).resolve().parents[2]


SCRIPT = load_script("check_docs_commands")
LINES = SCRIPT.lines(ROOT)
TUTORIALS = SCRIPT.lines(ROOT, SCRIPT.TUTORIALS)  # run by scripts/run_tutorials.py


def test_there_are_lines_of_every_kind():
    texts = [line.text for line in LINES]
    assert len(texts) > 60
    assert any(
        text.startswith("ros2 launch pose2rgbd bringup.launch.py") and "avoid:=true preset:=px4" in text
        for text in texts
    )
    assert any("--params-file" in text for text in texts), "lines that go on with a backslash are read to their end"
    assert not any("#" in text or text.endswith("\\") for text in texts)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.where)
def test_what_becomes_of_every_line_is_said(line):
    assert SCRIPT.rule_of(line.text) is not None, f"add a rule for {line.text!r} to scripts/check_docs_commands.py"


@cache
def help_of(*command: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return said.getvalue()


@pytest.mark.parametrize(
    "line", [line for line in LINES + TUTORIALS if line.text.startswith("pose2rgbd")], ids=lambda line: line.where
)
def test_commands_and_flags_exist(line):
    words = shlex.split(re.sub(r"\[[^]]*\]", "", line.text))[1:]
    own, ros = (
        (words[: words.index("--ros-args")], words[words.index("--ros-args") :])
        if "--ros-args" in words
        else (words, [])
    )
    assert own[0] in COMMANDS
    flags = [word for word in own if word.startswith("--") and word not in ("--help", "--photos.…", "--video.…")]
    if flags:
        command = own[:2] if own[0] in ("sim", "experiments", "synthesize", "train", "depth") else own[:1]
        command = own[:3] if command == ["depth", "train"] else command
        shown = re.sub(r"[\s│]+", " ", help_of(*command))
        for flag in flags:
            assert re.search(rf"{re.escape(flag)}(?![\w.-])", shown), f"{' '.join(command)} has no {flag}"
    node = own[0] if own[0] in NODES else None
    check_ros_arguments(ros, node)


def check_ros_arguments(words: list[str], node: str | None) -> None:
    for index, word in enumerate(words):
        if word == "-p":
            name = words[index + 1].split(":=")[0]
            of, _, parameter = name.rpartition(":")
            assert_parameter(of or node, parameter)
        if word == "--params-file":
            assert (ROOT / words[index + 1]).is_file()


def assert_parameter(node: str | None, name: str) -> None:
    assert node in NODES, f"whose parameter is {name}?"
    assert name == "use_sim_time" or name in settings.parameter_fields(_node(node)[1]), (
        f"{node} has no parameter {name}"
    )


@pytest.mark.parametrize(
    "line",
    [line for line in LINES + TUTORIALS if re.match(r"ros2 (launch|run) pose2rgbd", line.text)],
    ids=lambda line: line.where,
)
def test_launch_files_and_their_arguments_exist(line):
    words = shlex.split(line.text)
    if words[1] == "run":
        assert words[3] in NODES
        return check_ros_arguments(words[4:], words[3])
    presets = yaml.safe_load((ROOT / "config" / "presets" / "remap.yaml").read_text())
    for word in words[4:]:
        if word == "--show-args":
            continue
        name, _, value = word.partition(":=")
        assert name in launch_standin.arguments_of(ROOT, words[3]), f"{words[3]} has no argument {name}"
        assert name != "preset" or value in presets
        assert not name.endswith("params_file") or (ROOT / value).is_file()
    return None


def test_without_ros2_a_launch_line_becomes_the_same_nodes():
    def made(line: str) -> str:
        return shlex.join(SCRIPT.command_of(line, Path("/demo"), Path("/out"), False)[3:])

    assert made("ros2 launch pose2rgbd bringup.launch.py model:=RUN/checkpoint avoid:=true preset:=px4") == (
        "up sim render avoid --model /demo/run/checkpoint --preset px4 --ros-args"
    )
    assert (
        made("ros2 launch pose2rgbd bringup.launch.py sim:=false model:=RUN")
        == "up render --model /demo/run --ros-args"
    )
    assert made("ros2 launch pose2rgbd localize.launch.py model:=LOC renderer:=RUN") == (
        "up localize --ros-args -p localize:model:=/out/loc -p localize:renderer:=/demo/run"
    )
    assert made("ros2 run pose2rgbd sim") == "sim live"
    assert made("pose2rgbd train relief DATASET --out RUN") == "train relief /demo/dataset --out /out/run"
