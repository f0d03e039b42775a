"""scripts/setup.sh: a machine that lacks something is told so in one line, and a broken stage is not taken for done."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASIC_TOOLS = "bash cat find sort xargs sed awk head mkdir dirname basename sha256sum flock rm touch grep env tr ln"


@pytest.fixture
def checkout(tmp_path: Path, repository: Path) -> Path:
    """A copy of what the set-up reads, without a .venv."""
    folder = tmp_path / "checkout"
    for name in ("scripts", "requirements"):
        shutil.copytree(repository / name, folder / name)
    return folder


def _tools(folder: Path, *extra: str) -> Path:
    """A PATH with the basic tools and `extra` only."""
    folder.mkdir()
    for tool in [*BASIC_TOOLS.split(), *extra]:
        (folder / tool).symlink_to(shutil.which(tool) or f"/missing/{tool}")
    (folder / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    _free_disk(folder, 9000)  # what this machine has left is no matter of these tests
    return folder


def _free_disk(folder: Path, mib: int) -> None:
    _stub(folder, "df", f"echo header; echo disk 9999 99 {mib} 1% /")


def _stub(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)


def _setup(checkout: Path, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": str(path), "HOME": os.environ.get("HOME", "/"), **environment}
    return subprocess.run(
        ["bash", "scripts/setup.sh"], cwd=checkout, env=clean, text=True, capture_output=True, timeout=400
    )


@pytest.mark.parametrize("missing", ["cmake", "c++", "cc"])
def test_missing_tool_is_one_line(checkout: Path, tmp_path: Path, missing: str) -> None:
    present = [tool for tool in ("cmake", "c++", "cc") if tool != missing]
    result = _setup(checkout, _tools(tmp_path / "bin", *present))
    assert result.returncode == 1
    assert result.stderr.startswith(f"setup: {missing} is missing; install it")
    assert result.stderr.count("\n") == 1


def test_old_cmake_is_told(checkout: Path, tmp_path: Path) -> None:
    path = _tools(tmp_path / "bin", "cmake", "c++", "cc")
    _stub(path, "cmake", "echo cmake version 3.16.3")
    assert "setup: cmake 3.16.3 is too old" in _setup(checkout, path).stderr


def test_little_disk_is_told(checkout: Path, tmp_path: Path) -> None:
    path = _tools(tmp_path / "bin", "cmake", "c++", "cc")
    _free_disk(path, 100)
    assert "setup: 100 MiB free on this disk; setting up needs 5000 MiB" in _setup(checkout, path).stderr


def test_a_sourced_ros_without_its_packages_is_told(checkout: Path, tmp_path: Path) -> None:
    path = _tools(tmp_path / "bin", "cmake", "c++", "cc")
    _stub(path, "python3", f'ROS_DISTRO= exec "{Path(sys.base_prefix) / "bin" / "python3"}" -I "$@"')
    clean = {"PATH": str(path), "HOME": "/", "ROS_DISTRO": "humble"}
    result = subprocess.run(
        ["bash", "scripts/setup.sh"], cwd=checkout, env=clean, text=True, capture_output=True, timeout=400
    )
    assert result.returncode == 1
    assert result.stderr.startswith("setup: ROS 2 humble is sourced, but")
    assert "rosdep install" in result.stderr


def test_a_ros_of_an_older_python_is_told(checkout: Path, tmp_path: Path) -> None:
    """Humble's 3.10: the modules would not even load."""
    path = _tools(tmp_path / "bin", "cmake", "c++", "cc")
    real = Path(sys.base_prefix) / "bin" / "python3"
    asked = '-V) echo Python 3.10.12;; *_base_executable*) echo "$0";; *version_info*) exit 1;;'
    _stub(path, "python3", f'case "$*" in {asked} *) exec "{real}" "$@";; esac')
    result = _setup(checkout, path, ROS_DISTRO="humble")
    assert result.returncode == 1
    assert result.stderr.startswith("setup: ROS 2 humble is sourced, whose Python 3.10.12 is too old")
    assert "Jazzy or later" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_oldest_python_and_numpy_are_said_alike_everywhere(repository: Path) -> None:
    """And modules use nothing that is newer: ruff's target."""
    for file, words in {
        "setup.cfg": "python_requires = >=3.11",
        "underlay/setup.cfg": "python_requires = >=3.11",
        "pyproject.toml": 'target-version = "py311"',
        "scripts/setup.sh": "Python 3.11 and NumPy 1.26 are needed",
        "requirements/python.in": "numpy>=1.26",
        "package.xml": "Python 3.11 and NumPy 1.26 or newer",
        "docs/install.md": "Python 3.11 and NumPy 1.26 or newer",
    }.items():
        assert words in (repository / file).read_text(), file


@pytest.fixture
def broken_opengl(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """An environment in which the real loader finds no OpenGL: a library that is none, or no driver behind it."""
    if request.param == "no driver":
        return {"__EGL_VENDOR_LIBRARY_FILENAMES": str(tmp_path / "none.json")}
    (tmp_path / "libEGL.so.1").write_text("not a library")
    return {"LD_LIBRARY_PATH": str(tmp_path)}


@pytest.mark.parametrize("broken_opengl", ["no library", "no driver"], indirect=True)
def test_missing_opengl_is_told_with_its_packages_and_stops_nothing(
    checkout: Path, tmp_path: Path, broken_opengl: dict[str, str]
) -> None:
    """Recordings of one's own need no OpenGL. (An `rm` that fails ends the set-up after the check: no venv is made.)"""
    path = _tools(tmp_path / "bin", "cmake", "c++", "cc")
    _stub(path, "rm", 'echo "rm was reached" >&2; exit 1')
    warning, reached = _setup(checkout, path, **broken_opengl).stderr.splitlines()
    assert warning.startswith("setup: warning: OpenGL cannot draw without a screen here (")
    assert "apt install libgl1 libegl1 libgl1-mesa-dri" in warning
    assert reached == "rm was reached"


def test_working_opengl_is_not_mentioned(repository: Path) -> None:
    check = [sys.executable, "-I", str(repository / "scripts" / "check_opengl.py")]
    result = subprocess.run(check, text=True, capture_output=True, timeout=400)
    assert (result.returncode, result.stdout) == (0, "")


def test_a_broken_stage_is_named_and_tried_again(checkout: Path, tmp_path: Path) -> None:
    """The lock asks for a file that is not there, which pip refuses at once, without a network."""
    (checkout / "requirements" / "ros-jazzy.lock").write_text("./no-such-wheel.whl\n")
    path = _tools(tmp_path / "bin", "cmake", "c++", "cc")
    for _ in range(2):
        result = _setup(checkout, path)
        assert result.returncode == 1
        assert "setup: ros-wheels" in result.stdout
        assert "setup: ros-wheels failed; the lines above say why" in result.stderr
    assert "setup: venv" not in result.stdout  # the first stage was done and is not repeated
