"""The wheel: what is in it, that its extras ask for what is pinned, and that it works in an empty environment."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing appears in the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    copy = ["cp", "-r", *(str(ROOT / name) for name in ("pose2rgbd_ros", "setup.py", "setup.cfg", "README.md"))]
    subprocess.run([*copy, str(ROOT / "pyproject.toml"), str(source)], check=True)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        str(source),
    ]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (made,) = out.glob("*.whl")
    return made


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"pose2rgbd_ros", "pose2rgbd_ros-0.1.0.dist-info"}
    in_tree = {path.relative_to(ROOT).as_posix() for path in (ROOT / "pose2rgbd_ros").rglob("*.py")}
    assert in_tree <= set(names)
    data = {path.relative_to(ROOT).as_posix() for path in (ROOT / "pose2rgbd_ros").rglob("*")
            if path.is_file() and path.suffix not in (".py", ".pyc", ".nbi", ".nbc")}  # fmt: skip
    assert data <= set(names), "files that are no Python need a line in setup.cfg's package_data"


def test_it_is_not_named_as_the_messages_are(wheel: Path) -> None:
    """A workspace's interfaces are a distribution `pose2rgbd`: pip would take the one for the other."""
    metadata = zipfile.ZipFile(wheel).read("pose2rgbd_ros-0.1.0.dist-info/METADATA").decode()
    assert "\nName: pose2rgbd-ros\n" in metadata
    assert "# pose2rgbd" in metadata, "the README is the long description"


def requirement(line: str) -> tuple[str, str]:
    """(name, lower bound)."""
    name, bounds = re.match(r"([A-Za-z0-9-]+)\s*(.*)", line).groups()  # type: ignore[union-attr]
    least = re.search(r">=\s*([\d.]+)", bounds)
    return name.lower(), least[1] if least else ""


def test_extras_ask_for_what_make_setup_installs() -> None:
    pinned = [line.partition("#")[0].strip() for line in (ROOT / "requirements" / "python.in").read_text().splitlines()]
    known = dict(requirement(line) for line in pinned if line)
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for extra, lines in setup["options.extras_require"].items():
        for line in lines.strip().splitlines():
            name, least = requirement(line)
            if name in ("pose2rgbd-ros", "torch", "gsplat") or "python_version" in line:
                continue
            assert known.get(name) == least, f"{extra}: {line}"


@pytest.mark.slow
def test_it_works_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    """Without ROS, without torch: a recording is made, converted, looked at; training says what to install."""
    venv.create(tmp_path / "venv", with_pip=True)
    program, lock = tmp_path / "venv" / "bin" / "pose2rgbd", ROOT / "requirements" / "python.lock"
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AMENT", "LD_", "ROS"))
    }

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(word) for word in words], env=clean, cwd=tmp_path, capture_output=True, text=True)

    install = run(tmp_path / "venv" / "bin" / "pip", "install", "-q", "-c", lock, f"{wheel}[sim]")
    assert install.returncode == 0, install.stderr
    for line in (
        "--help",
        "sim bag flight.mcap --duration-s 3 --width 96 --height 72",
        "convert flight.mcap flight",
        "inspect flight",
        "export flight tum --format tum",
        "sim photos photos --photos 2 --width 96 --height 72",
    ):
        done = run(program, *line.split())
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert (tmp_path / "flight" / "inspect" / "contact_sheet.png").is_file()
    refused = run(program, "train", "relief", "flight", "--out", "run")
    assert refused.returncode == 2
    assert "pip install 'pose2rgbd-ros[all]'" in refused.stderr
    assert "needs ROS 2" in run(program, "render", "--model", "run").stderr
