"""Arrays of frames that were costly to make, kept on disk as memory maps that may be deleted at any time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool

_DONE = "done.json"
Shapes = dict[str, tuple[Any, tuple[int, ...]]]  # dtype and shape by the name of the file


def frame_maps(
    root: Path, name: str, state: str, shapes: Shapes, fill: Callable[[dict[str, Any]], None]
) -> dict[str, np.memmap[Any, Any]]:
    """Read-only arrays of these shapes, made by `fill` where they are missing, unfinished or of another state.

    They lie in `root`/`name`-`state`; those of other states under the same name are removed. Several processes may ask
    at once: one builds, the others wait.

    Args:
        fill: is given the arrays, writable and all zero.

    Raises:
        UserError: the disk is full, or cannot be written; and what `fill` raises.
    """
    folder = root / f"{name}-{state}"
    with _disk(folder), _one_at_a_time(root / f"{name}.lock"):
        if not _is_complete(folder, shapes):
            for old in root.glob(f"{name}-*"):
                shutil.rmtree(old, ignore_errors=True)
            folder.mkdir(parents=True)
            arrays = {file: _allocate(folder / file, *facts) for file, facts in shapes.items()}
            fill(arrays)
            for array in arrays.values():
                array.flush()
            layout.atomic_write(
                folder / _DONE, json.dumps({file: shape for file, (_, shape) in shapes.items()}).encode()
            )
        return {
            file: np.memmap(folder / file, dtype=dtype, mode="r", shape=shape)
            for file, (dtype, shape) in shapes.items()
        }


def users_cache(path: Path) -> Path:
    """A folder of the user's cache for what is made from `path`."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "pose2rgbd" / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]


class SealedFrames:
    """An array of frames of which some cannot be read: what a training must not see, it cannot.

    It is indexed as the array is, the first axis being the frames; what is read is an array.
    """

    def __init__(self, frames: AnyArray, readable: Bool) -> None:
        self._frames, self._readable = frames, np.asarray(readable, dtype=bool)
        self.shape, self.dtype, self.ndim = frames.shape, frames.dtype, frames.ndim

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, key: Any) -> AnyArray:
        wanted = np.arange(len(self))[key[0] if isinstance(key, tuple) else key]
        require_readable(self._readable, wanted)
        frames: AnyArray = self._frames[key]
        return frames

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> AnyArray:
        return np.array(self[:], dtype=dtype)


class SealedFrameError(RuntimeError):
    """A fault of the program: it asked for the picture of a frame that is held out."""


def require_readable(readable: Bool, wanted: Any) -> None:
    """SealedFrameError unless all frames `wanted` are among the `readable` ones, (N,)."""
    if not readable[wanted].all():
        first = int(np.atleast_1d(wanted)[~np.atleast_1d(readable[wanted])][0])
        raise SealedFrameError(f"frame {first} is held out and must not be read here")


def _allocate(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """A writable map whose disk space is really there: a full disk is an error now, not a bus error later."""
    with path.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return np.memmap(path, dtype=dtype, mode="r+", shape=shape)


def _is_complete(folder: Path, shapes: Shapes) -> bool:
    """Whether it was built to the end and nothing was taken away since."""
    sizes = {folder / file: int(np.prod(shape)) * np.dtype(dtype).itemsize for file, (dtype, shape) in shapes.items()}
    return (folder / _DONE).is_file() and all(
        path.is_file() and path.stat().st_size == size for path, size in sizes.items()
    )


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not (folder / _DONE).is_file():
            shutil.rmtree(folder, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"no space left for the frame cache {folder}; free some or train smaller") from error
        raise UserError(f"the frame cache {folder} cannot be used ({error.strerror or error})") from error
