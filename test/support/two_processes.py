"""A program on two processes of this machine, as torchrun starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_on_two_processes(program: str, folder: Path, *arguments: Path, timeout_s: float) -> str:
    """What both printed; the program's text is kept in `folder`. AssertionError with its complaint when it fails."""
    (folder / "program.py").write_text(program)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, str(folder / "program.py"), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stderr[:4000]
    return done.stdout
