"""Completion scripts in the shells that they are for: commands, options, choices and paths."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pose2rgbd_ros.cli import completion
from pose2rgbd_ros.cli.main import COMMANDS

# Asks a script for the completions of the words that follow, the last of which is begun.
ASK = {
    "bash": """
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
        _pose2rgbd_or_files
        [[ ${#COMPREPLY[@]} -gt 0 ]] && printf '%s\\n' "${COMPREPLY[@]}"
        # none: bash goes on to names of files, as the registration asks it to
        [[ ${#COMPREPLY[@]} -eq 0 ]] && complete -p pose2rgbd | grep -q -- '-o default' && compgen -f -- "${@: -1}"
        true
    """,
    "zsh": """
        compdef() { : }
        _files() { print -l -- $PREFIX*(N) }
        _describe() { print -l -- ${(P)2%%:*} }
        script=$1; shift
        words=("$@"); CURRENT=$#; PREFIX=${words[-1]}
        source $script
    """,
    "fish": """
        source $argv[1]
        complete -C (string join ' ' -- $argv[2..])
    """,
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "here").mkdir()
    (folder / "here" / "flight.mcap").touch()
    made = {}
    for shell in completion.SHELLS:
        made[shell] = folder / f"pose2rgbd.{shell}"
        made[shell].write_text(completion.script(shell))
    return made


@pytest.fixture(params=completion.SHELLS)
def ask(request, scripts):
    """ask(words) -> what may stand in place of the last word."""
    shell = shutil.which(request.param)
    if shell is None:
        pytest.skip(f"this machine has no {request.param}")

    def completions(*words: str) -> set[str]:
        script = scripts[request.param]
        start = {"bash": [shell, "--norc", "-c", ASK["bash"], "bash"], "zsh": [shell, "-f", "-c", ASK["zsh"], "zsh"],
                 "fish": [shell, "--no-config", "-c", ASK["fish"]]}[request.param]  # fmt: skip
        call = [*start, str(script), "pose2rgbd", *words]
        done = subprocess.run(call, capture_output=True, text=True, timeout=120, cwd=script.parent / "here")
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return {line.split("\t")[0] for line in done.stdout.splitlines()} - {""}

    return completions


def test_commands_jobs_and_models_are_completed(ask) -> None:
    assert {name for name in COMMANDS if name.startswith("e")} == ask("e")
    assert ask("depth", "tr") == {"train"}
    assert ask("depth", "train", "tria") == {"trianflow"}
    assert ask("train", "rel") == {"relief"}
    assert {"bash", "zsh", "fish"} <= ask("completion", "")


def test_options_and_their_choices_are_completed(ask) -> None:
    assert ask("evaluate", "--sp") == {"--split"}
    assert {"checkpoint", "choose", "segments", "all"} <= ask("evaluate", "--split", "")
    assert ask("inspect", "--js") == {"--json"}
    assert "--flight.altitude-m" in ask("sim", "bag", "--flight.al")
    assert "--max-minutes" in ask("train", "relief", "--max-m"), "of the settings of every family"


def test_where_a_path_is_wanted_files_are_completed(ask) -> None:
    assert ask("convert", "fl") == {"flight.mcap"}
    assert "flight.mcap" in ask("inspect", "fl")
    assert ask("sim", "bag", "fli") == {"flight.mcap"}


def test_every_command_is_in_the_scripts(scripts) -> None:
    for shell, script in scripts.items():
        text = script.read_text()
        assert all(f"'{name}':" in text for name in COMMANDS), shell


def test_a_script_that_tyro_writes_otherwise_is_no_silent_loss() -> None:
    with pytest.raises(RuntimeError, match="this tyro writes another script for fish"):
        completion._or_files("fish", "complete")
