"""Interrupting a process at one of its file operations."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path


class StopAt:
    """Ends this process without any clean-up at the n-th file operation: before it, half way through, or after it."""

    def __init__(self, operation: int, when: str) -> None:
        self.left, self.when = operation, when
        self.write, self.replace, self.write_bytes = os.write, os.replace, Path.write_bytes
        self.link = os.link

    def install(self) -> None:
        """From now on, for good: this is for a child process."""
        os.write = lambda fd, data: self.run(lambda part: self.write(fd, data[: int(len(data) * part)]))
        os.replace = lambda a, b, **k: self.run(lambda part: self.replace(a, b) if part == 1 else None)
        os.link = lambda a, b, **k: self.run(lambda part: self.link(a, b) if part == 1 else None)
        Path.write_bytes = lambda path, data: self.run(
            lambda part: self.write_bytes(path, data[: int(len(data) * part)])
        )

    def run(self, operation: Callable[[float], object]) -> object:
        """One file operation, or the end."""
        self.left -= 1
        if self.left:
            return operation(1)
        if self.when != "before":
            operation(0.5 if self.when == "half way" else 1)
        os._exit(9)


class FullDisk:
    """A disk that takes so many operations that need room, and then only half of what the next ones write."""

    def __init__(self, operations: int) -> None:
        self.left = operations

    def install(self, monkeypatch) -> None:
        """Until `monkeypatch` is undone."""
        write, write_bytes = os.write, Path.write_bytes
        monkeypatch.setattr(os, "write", lambda fd, data: self.run(lambda cut: write(fd, data[:cut]), data))
        monkeypatch.setattr(
            Path, "write_bytes", lambda path, data: self.run(lambda cut: write_bytes(path, data[:cut]), data)
        )

    def run(self, operation: Callable[[int | None], object], data: bytes) -> object:
        """One write, or "no space left"."""
        self.left -= 1
        if self.left >= 0:
            return operation(None)
        operation(len(data) // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
