"""Python as on an aircraft's computer, where only the extra [runtime] is installed: what it lacks cannot be imported.

python test/support/without_torch.py render --model FOLDER    # pose2rgbd, or -c PROGRAM
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

LACKING = (
    *("torch", "torchmetrics", "lightning_fabric", "tensorboard", "onnx", "onnxscript", "onnx_ir", "sympy", "gsplat"),
    *("matplotlib", "jinja2", "av", "pycolmap", "moderngl", "glcontext", "PIL", "gpxpy", "defusedxml"),
)


class Lacking:
    """Finds no module that is lacking there."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        library = name.partition(".")[0]
        if library in LACKING:
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)


def command(*words: object) -> list[str]:
    """The command line of a process without them: arguments of pose2rgbd, or -c and a program."""
    return [sys.executable, str(Path(__file__).resolve()), *map(str, words)]


if __name__ == "__main__":
    sys.meta_path.insert(0, Lacking)  # type: ignore[arg-type]
    if sys.argv[1] == "-c":
        exec(sys.argv[2], {"__name__": "__main__"})
    else:
        from pose2rgbd_ros.cli.main import main

        sys.exit(main(sys.argv[1:]))
