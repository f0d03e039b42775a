"""`--json`: what a command found as one JSON document on standard output, its messages on standard error.

    {"schema": "pose2rgbd.result/1", "command": "evaluate", "arguments": ["RUN", "DATASET", "--json"],
     "exit_status": 0, "error": null, "result": {...}}

The keys of a result stay and hold their units (`depth_mae_m`, `duration_s`); what is not known is null. docs/json.md
lists them.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from pose2rgbd_ros.reports.page import plain

SCHEMA = "pose2rgbd.result/1"
# The field of a command's arguments; the command then calls `add`.
Json = Annotated[
    bool, tyro.conf.arg(name="json", help="print the result as JSON (docs/json.md); messages go to standard error")
]
_result: dict[str, Any] = {}


def add(**values: Any) -> None:
    """Part of the result: paths, arrays and NumPy's numbers may be among the values; unknown floats become null."""
    _result.update(values)


def as_document(command: str, arguments: Sequence[str], run: Callable[[], int]) -> int:
    """Run a command and print its document, also where it fails; its exit status.

    An interrupt, and faults of ours, pass through: there is no document then.
    """
    _result.clear()
    stream, said = sys.stdout, _LastError()
    with contextlib.redirect_stdout(sys.stderr), contextlib.redirect_stderr(said):
        try:
            status = run()
        except SystemExit as end:  # a wrong option, or --help
            status = end.code if isinstance(end.code, int) else 2
    error = None if status == 0 else said.error or "see standard error"
    document = {
        "schema": SCHEMA, "command": command, "arguments": list(arguments), "exit_status": status, "error": error,
        "result": plain(_result) or None,
    }  # fmt: skip
    json.dump(document, stream, indent=1)
    stream.write("\n")
    return status


def files(**paths: Path) -> dict[str, str]:
    """Of files that were written, those that are there."""
    return {name: str(path) for name, path in paths.items() if path.exists()}


def of_fields(values: Any, *names: str) -> Mapping[str, Any]:
    """Some attributes of an object by their names."""
    return {name: getattr(values, name) for name in names}


class _LastError:
    """Standard error as it is, of which the last line that begins with "error: " is remembered."""

    def __init__(self) -> None:
        self._stream, self._line, self.error = sys.stderr, "", ""

    def write(self, text: str) -> int:
        self._line = (self._line + text)[-10_000:]
        *lines, self._line = self._line.split("\n")
        for line in lines:
            if line.startswith("error: "):
                self.error = line.removeprefix("error: ")
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
