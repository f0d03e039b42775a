"""Dockerfile, compose, workflows and devcontainer name what exists here; scripts/check_container.py runs the recipe."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path

import pytest
import yaml
from support.scripts import load_script

from pose2rgbd_ros.cli.main import COMMANDS

CHECK = load_script("check_container")
ROOT = Path(__file__).resolve().parents[2]
RECIPE = (ROOT / "docker" / "Dockerfile").read_text()


def extras() -> set[str]:
    """The extras of setup.cfg."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return set(setup["options.extras_require"])


def test_the_recipe_is_read_whole() -> None:
    read = list(CHECK.instructions(RECIPE))
    words = [word for word, _ in read]
    assert set(words) <= {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "USER", "ENV", "ENTRYPOINT", "CMD"}
    assert words.count("FROM") == 2
    assert any("apt-get clean && rm -rf /var/lib/apt/lists/*" in text for _, text in read), "lines are joined"
    assert not any("\\" in text for word, text in read if word != "RUN")


def test_what_is_copied_exists_and_is_not_left_out() -> None:
    patterns = (ROOT / ".dockerignore").read_text().split()
    needed = ["scripts/setup.sh", "requirements/python.lock", "underlay/setup.cfg", "README.md", "msg/SyncStatus.msg"]
    for name in [*needed, "docker/entrypoint.sh", "pose2rgbd_ros/cli/main.py", "config/fastdds.xml"]:
        assert (ROOT / name).exists(), name
        assert not CHECK.is_ignored(name, patterns), name
    for name in (".venv/bin/python", "test/conftest.py", "pose2rgbd_ros/cli/__pycache__/main.pyc", ".git/config"):
        assert CHECK.is_ignored(name, patterns), name


def test_extras_that_are_installed_exist() -> None:
    given = dict(re.findall(r"^ARG (\w+)=(.*)$", RECIPE, re.MULTILINE))
    assert set(given["EXTRAS"].split(",")) <= extras()
    for service in yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"].values():
        assert service["build"].get("args", {}).get("EXTRAS", "all") in extras()


def test_services_start_commands_that_exist() -> None:
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    started = {name: service["command"][:2] for name, service in services.items()}
    assert {"demo", "node", "viewer"} == set(started)
    for name, (program, command) in started.items():
        assert program == "pose2rgbd"
        if name != "viewer" or "view" in COMMANDS:
            assert command in COMMANDS


@pytest.mark.parametrize("file", sorted((ROOT / ".github" / "workflows").glob("*.yaml")), ids=lambda path: path.name)
def test_workflows_are_whole(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text())
    assert workflow[True] == ["push", "pull_request"]  # `on` is a truth value in YAML 1.1
    for job in workflow["jobs"].values():
        assert job["steps"]
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)


def test_distributions_are_those_that_are_supported() -> None:
    """Humble's Python is older than what the package asks for."""
    matrix = yaml.safe_load((ROOT / ".github" / "workflows" / "ros.yaml").read_text())["jobs"]["industrial_ci"]
    assert matrix["strategy"]["matrix"]["ROS_DISTRO"] == ["jazzy", "kilted", "lyrical", "rolling"]
    assert "Not Humble" in (ROOT / "docs" / "install.md").read_text()


def test_the_devcontainer_installs_what_the_recipe_builds_with() -> None:
    made = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    for package in ("build-essential", "cmake", "python3-venv", "libegl1", "libgl1-mesa-dri"):
        assert package in made["onCreateCommand"]
        assert package in RECIPE


def test_a_recipe_is_carried_out_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages, arguments with defaults and given ones, files of another stage; RUN is only noted here."""
    base, ran = tmp_path / "base", []
    (base / "etc").mkdir(parents=True)
    monkeypatch.setattr(
        CHECK.Builder, "run", lambda self, stage, words, user="": ran.append((words[-1], stage.workdir))
    )
    builder = CHECK.Builder(base, tmp_path / "out", {"B": "given"}, [], {})
    image = builder.build(
        "ARG BASE=x\nFROM ${BASE} AS build\nARG A=default\nARG B=y\nWORKDIR /work\nRUN echo 1 \\\n  2\n"
        "COPY docker/entrypoint.sh here\nFROM ${BASE}\nCOPY --from=build /work /copied\nUSER pilot\n"
        'ENV K=${A}\nENTRYPOINT ["/copied/here"]\nCMD ["a", "b"]\n'
    )
    assert builder.arguments == {"BASE": "x", "A": "default", "B": "given"}
    assert ran == [("echo 1   2", "/work")]
    assert (image.folder / "copied" / "here").read_text() == (ROOT / "docker" / "entrypoint.sh").read_text()
    assert not (image.folder / "work").exists()
    assert (image.user, image.environment, image.entrypoint) == ("pilot", {"K": "default"}, ["/copied/here"])
    with pytest.raises(SystemExit, match="HEALTHCHECK"):
        builder.build("FROM x\nHEALTHCHECK NONE")
