"""`pose2rgbd completion bash|zsh|fish`: a script that completes commands, options and their choices in a shell.

The script holds them all, so that a tab key starts no pose2rgbd; after an update it is made again.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any, Literal, Union

import tyro

from pose2rgbd_ros.cli.main import COMMANDS
from pose2rgbd_ros.errors import UserError

SHELLS = ("bash", "zsh", "fish")
WHERE = {
    "bash": "~/.local/share/bash-completion/completions/pose2rgbd",
    "zsh": "~/.zfunc/_pose2rgbd   (with fpath+=~/.zfunc before compinit in ~/.zshrc)",
    "fish": "~/.config/fish/completions/pose2rgbd.fish",
}


@dataclass
class Arguments:
    """Print the completion script of a shell: pose2rgbd completion bash > FILE, where that shell looks for it."""

    shell: Annotated[tyro.conf.Positional[Literal["bash", "zsh", "fish"]], tyro.conf.arg(help="which shell")]


def main(argv: list[str]) -> int:
    """Print the script; where it belongs goes to standard error."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd completion")
    print(script(arguments.shell))
    if sys.stdout.isatty():
        print(f"pose2rgbd completion {arguments.shell} > {WHERE[arguments.shell]}", file=sys.stderr)
    return 0


def script(shell: str) -> str:
    """The script. UserError: an unknown shell."""
    if shell not in SHELLS:
        raise UserError(f"no shell {shell!r}; there are {', '.join(SHELLS)}")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.cli(_whole(), prog="pose2rgbd", args=["--tyro-print-completion", shell])
    return _or_files(shell, printed.getvalue())


# tyro completes options and subcommands only. Where a word begins without a dash and only options would fit, it is a
# path that is wanted: recordings, datasets and runs are. And fish would pass the script as one argument, which the
# kernel refuses beyond 128 KiB.
_BASH = """
_pose2rgbd_or_files() {
  _tyro_pose2rgbd "$@"
  local word
  [[ "${COMP_WORDS[COMP_CWORD]}" == -* ]] && return
  for word in "${COMPREPLY[@]}"; do [[ -n "$word" && "$word" != -* ]] && return; done
  COMPREPLY=()
}
complete -o bashdefault -o default -F _pose2rgbd_or_files pose2rgbd
"""
_CHANGES = {
    "bash": [],
    "zsh": [
        (
            "  # Use _describe to show",
            '  if [[ "$PREFIX" != -* && -z "${completion_array[(r)[^-:]*]}" ]]; then\n    _files\n    return\n  fi\n\n'
            "  # Use _describe to show",
        )
    ],
    "fish": [
        ('$python_cmd -c "$pycode" $words $current', "printf '%s' \"$pycode\" | $python_cmd - $words $current"),
        (
            '    if test "$results" = __TYRO_COMPLETE_FILES__',
            "    set -l token (commandline -ct)\n"
            "    if not string match -q -- '-*' \"$token\"; and not string match -qr -- '^[^-]' $results\n"
            "        __fish_complete_path $token\n        return\n    end\n"
            '    if test "$results" = __TYRO_COMPLETE_FILES__',
        ),
    ],
}


def _or_files(shell: str, text: str) -> str:
    """tyro's script, which then completes paths too. RuntimeError: that tyro writes another one."""
    # Help of several lines would be taken for as many completions.
    head, begins, rest = text.partition("COMPLETION_SPEC = ")
    spec, end, rest = rest.partition("\n")
    text = head + begins + spec.replace(r"\\n", " ").replace(r"\n", " ") + end + rest
    for old, new in _CHANGES[shell]:
        if text.count(old) != 1:
            raise RuntimeError(f"this tyro writes another script for {shell}: {old.strip()!r} is not in it")
        text = text.replace(old, new)
    return text + (_BASH if shell == "bash" else "")


@dataclass
class _Nothing:
    """No options that are known."""


def _whole() -> Any:
    """A command line of all commands, for tyro: a subcommand each, with those of its own below."""
    whole = _one_of({name: _arguments(name) for name in COMMANDS}, "command")
    return tyro.conf.OmitSubcommandPrefixes[whole]  # type: ignore[misc, valid-type]


def _one_of(kinds: dict[str, Any], field: str) -> Any:
    """A dataclass whose one field is a subcommand of `kinds`: name -> dataclass, or (dataclass, default)."""
    members = []
    for name, kind in kinds.items():
        cls, default = kind if isinstance(kind, tuple) else (kind, None)
        how = {} if default is None else {"default": default}
        members.append(Annotated[cls, tyro.conf.subcommand(name=name, prefix_name=False, **how)])
    if len(members) == 1:
        members.append(Annotated[_Nothing, tyro.conf.subcommand(name="help", prefix_name=False)])
    return make_dataclass(f"Of{field.title()}", [(field, Union[tuple(members)])])  # noqa: UP007 - made of a list


def _arguments(command: str) -> Any:
    """What a command takes: a dataclass, or one with a subcommand for each of its jobs or models."""
    from pose2rgbd_ros.cli import data, learn

    plain = {
        "convert": data.ConvertArguments, "import": data.ImportArguments, "sync": data.SyncArguments,
        "align": data.AlignArguments, "inspect": data.InspectArguments, "evaluate": learn.EvaluateArguments,
        "calibrate": learn.CalibrateArguments,
    }  # fmt: skip
    if command in plain:
        return plain[command]
    if command == "completion":
        return _one_of(dict.fromkeys(SHELLS, _Nothing), "shell")
    if command == "train":
        return _one_of(dict(_models("place")), "model")
    if command == "export":
        return _joined(learn.ExportConfig, data.ExportDatasetArguments)
    module = importlib.import_module(COMMANDS[command][0].partition(":")[0])
    if command == "up" or COMMANDS[command][0].endswith(".nodes"):
        return module.UpConfig if command == "up" else _node(command)
    for name in ("RunConfig", "Arguments"):
        if hasattr(module, name):
            return getattr(module, name)
    for name in ("JOBS", "DEPTH_JOBS"):
        if hasattr(module, name):
            jobs = getattr(module, name).items()
            return _one_of({job: _job(command, job, kind) for job, (kind, _, _) in jobs}, "job")
    return _Nothing


def _job(command: str, job: str, kind: Any) -> Any:
    """What one of several jobs of a command takes."""
    if (command, job) == ("depth", "train"):
        return _one_of(dict(_models("video")), "model")
    if (command, job) == ("sim", "live"):
        return _node("sim")
    return _Nothing if kind is None else kind


def _models(kind: Literal["place", "video"]) -> Iterator[tuple[str, Any]]:
    """Arguments of a training, and their defaults, by the model's name."""
    from pose2rgbd_ros.cli import depth, learn
    from pose2rgbd_ros.training.families import families, settings_of, video_settings_of

    for family in families(kind).values():
        for model in family.models:
            named = model.replace("N", "10") if model.endswith("-N") else model
            if kind == "place":
                shown: Any = learn.settings_shown(named, settings_of(named))
                yield named, (learn.TrainArguments, learn.TrainArguments(dataset=tyro.MISSING, options=shown))
            else:
                shown = learn.settings_shown(named, video_settings_of(named))
                yield named, (depth.TrainArguments, depth.TrainArguments(sources=tyro.MISSING, options=shown))


def _joined(*classes: Any) -> Any:
    """The options of several dataclasses together; of those that have one name, the first."""
    import dataclasses
    from typing import get_type_hints

    fields: dict[str, Any] = {}
    for cls in classes:
        hints = get_type_hints(cls, include_extras=True)
        for field in dataclasses.fields(cls):
            if "Positional" in str(hints[field.name]):
                continue
            fields.setdefault(field.name, (field.name, hints[field.name], field))
    return make_dataclass("Joined", [(name, kind, _copied(field)) for name, kind, field in fields.values()])


def _copied(field: Any) -> Any:
    import dataclasses

    if field.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=field.default_factory)
    return dataclasses.field(default=field.default)


def _node(name: str) -> Any:
    """The settings of a node; none that are known without ROS 2."""
    from pose2rgbd_ros.cli import nodes

    try:
        nodes.require_ros(f"pose2rgbd {name}")
        return nodes._node(name)[1]
    except UserError:
        return _Nothing
