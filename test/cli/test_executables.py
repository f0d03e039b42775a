"""The installed executables: `pose2rgbd COMMAND`, and one for each node, as ros2 run and ros2 launch start them."""

from __future__ import annotations

import configparser
import importlib
import subprocess
import sys

import pytest

from pose2rgbd_ros.cli import main as command_line


@pytest.fixture
def console_scripts(repository):
    config = configparser.ConfigParser()
    config.read(repository / "setup.cfg")
    lines = config["options.entry_points"]["console_scripts"].strip().splitlines()
    return dict(line.split(" = ") for line in lines)


def test_every_executable_is_a_command_and_leads_somewhere(console_scripts):
    assert set(console_scripts) - {"pose2rgbd"} <= set(command_line.COMMANDS)
    for target in console_scripts.values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_an_executable_runs_the_command_of_its_name(console_scripts, tmp_path):
    module, function = console_scripts["play"].split(":")
    executable = tmp_path / "play"
    executable.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    result = subprocess.run(
        [sys.executable, executable, "--help"], capture_output=True, text=True, timeout=400
    )
    assert result.returncode == 0, result.stderr
    assert "usage: pose2rgbd play" in result.stdout
    assert "--recording" in result.stdout


def test_the_simulators_executable_is_its_live_world(console_scripts, monkeypatch):
    module, function = console_scripts["sim"].split(":")
    started = []
    monkeypatch.setattr(command_line, "main", lambda argv: started.append(argv) or 0)
    monkeypatch.setattr(sys, "argv", ["/install/lib/pose2rgbd/sim", "--ros-args", "-p", "tf:=none"])
    assert getattr(importlib.import_module(module), function)() == 0
    assert started == [["sim", "live", "--ros-args", "-p", "tf:=none"]]


def test_an_interrupt_while_libraries_load_leaves_no_traceback(monkeypatch, capsys):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line.importlib, "import_module", interrupted)
    assert command_line.main(["render", "--model", "x"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("command", ["render", "up"])
def test_without_ros_a_node_ends_with_one_line(monkeypatch, capsys, command):
    monkeypatch.setitem(sys.modules, "rclpy", None)
    assert command_line.main([command]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: pose2rgbd {command} needs ROS 2 and this package's messages (")
    assert "make setup" in error
    assert error.count("\n") == 1


def test_help_tells_the_choices():
    command = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "render", "--help"]
    boxed = subprocess.run(command, capture_output=True, text=True, timeout=400).stdout
    assert "one of: rate, tf" in " ".join(boxed.replace("│", " ").split())
