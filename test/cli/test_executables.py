"""The installed executables: `pose2rgbd COMMAND`, and one for each node, as ros2 run and ros2 launch start them."""

from __future__ import annotations

import configparser
import importlib
import re
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


@pytest.mark.parametrize(("name", "usage"), [("play", "pose2rgbd play"), ("sim", "pose2rgbd sim live")])
def test_an_executable_runs_the_command_of_its_name(console_scripts, tmp_path, name, usage):
    """As a process: a node's executable ends its process by itself. The simulator's is its live world."""
    module, function = console_scripts[name].split(":")
    executable = tmp_path / name
    executable.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    result = subprocess.run([sys.executable, executable, "--help"], capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, result.stderr
    assert f"usage: {usage}" in result.stdout


def imported(*arguments):
    """Packages beyond the standard library that a command has imported when it is done."""
    code = "import atexit, sys; atexit.register(lambda: print(*sys.modules)); {}"
    command = "from pose2rgbd_ros.cli.main import main; main(sys.argv[1:])"

    def of(then):
        call = [sys.executable, "-c", code.format(then), *arguments]
        done = subprocess.run(call, capture_output=True, text=True, timeout=400)
        return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}

    return of(command) - of("pass") - sys.stdlib_module_names


def test_the_list_of_commands_is_there_at_once():
    assert imported("--help") == {"pose2rgbd_ros"}
    assert "tyro" in imported("export", "--help")


@pytest.mark.parametrize(
    "command", ["train", "train base", "train relief", "train posegan", "run", "experiments compare",
                "experiments localization", "experiments tables", "experiments pictures"]
)  # fmt: skip
def test_the_settings_of_a_training_are_shown_without_torch(command):
    assert not {"torch", "matplotlib", "rclpy"} & imported(*command.split(), "--help")


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


# What a workspace built without `make setup`, or a package of a build farm, finds: of all libraries those that
# package.xml names.
WITHOUT = """
import sys
from importlib.abc import MetaPathFinder
class Nowhere(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {libraries!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Nowhere())
from pose2rgbd_ros.cli import main
for command in {commands!r}:
    print(main.main({{"pose2rgbd": ["run"], "sim": ["sim", "live"]}}.get(command, [command])), flush=True)
"""
LIBRARIES = {
    "av": "av", "defusedxml": "defusedxml", "gpxpy": "gpxpy", "isal": "isal", "lightning-fabric": "lightning_fabric",
    "moderngl": "moderngl", "numba": "numba", "onnx": "onnx", "onnxruntime": "onnxruntime", "onnxscript": "onnxscript",
    "Pillow": "PIL", "pycolmap": "pycolmap", "pymap3d": "pymap3d", "rosbags": "rosbags", "safetensors": "safetensors",
    "tensorboard": "tensorboard", "torchmetrics": "torchmetrics", "transforms3d": "transforms3d", "tyro": "tyro",
    "viser": "viser",
}  # fmt: skip
OF_ROSDEP = {  # key of package.xml: distribution
    "python3-jinja2": "jinja2", "python3-matplotlib": "matplotlib", "python3-numpy": "numpy",
    "python3-opencv": "opencv-python-headless", "python3-scipy": "scipy", "python3-tqdm": "tqdm",
    "python3-yaml": "PyYAML",
}  # fmt: skip


def test_every_library_is_a_rosdep_key_or_known_to_come_from_pip(repository):
    runtime = (repository / "requirements" / "python.in").read_text().split("# development")[0]
    named = {re.split(r"[><=~!]", line)[0].strip() for line in runtime.splitlines() if line[:1].isalpha()}
    keys = set(re.findall(r"<exec_depend>(python3-.*?)</exec_depend>", (repository / "package.xml").read_text()))
    assert keys == set(OF_ROSDEP)
    assert named - set(OF_ROSDEP.values()) == set(LIBRARIES)


@pytest.mark.parametrize(
    ("missing", "some"),
    [(["torch"], ["pose2rgbd", "localize"]), (["torch", *LIBRARIES.values()], None)],
    ids=["torch", "all of pip"],
)
def test_without_its_libraries_an_executable_ends_with_one_line(console_scripts, missing, some):
    """A package built by bloom has no .venv: docs/install.md."""
    commands = some or list(console_scripts)
    code = WITHOUT.format(libraries=missing, commands=commands)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=400)
    assert done.stdout.split() == ["2"] * len(commands), done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(commands)
    for command, line in zip(commands, lines, strict=True):
        told = "run" if command == "pose2rgbd" else command
        assert line.startswith(f"error: pose2rgbd {told} needs the Python library ")
        assert line.split()[7].rstrip(",") in missing
        assert sys.executable in line
        assert "make setup" in line


def test_a_module_of_ours_that_is_missing_is_a_fault(monkeypatch):
    monkeypatch.setitem(command_line.COMMANDS, "gone", ("pose2rgbd_ros.cli.gone", ""))
    with pytest.raises(ModuleNotFoundError):
        command_line.main(["gone"])


def test_help_tells_the_choices():
    command = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "render", "--help"]
    boxed = subprocess.run(command, capture_output=True, text=True, timeout=400).stdout
    assert "{rate,tf}" in " ".join(boxed.replace("│", " ").split())
