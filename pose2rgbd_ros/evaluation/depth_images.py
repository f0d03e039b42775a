"""Depth images wherever they come from: a dataset, a folder of files, an array of all of them; and which belong to
which."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.formats.reading import read_depth
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32
from pose2rgbd_ros.geometry.depth import known
from pose2rgbd_ros.streams.samples import DepthSample

SUFFIXES = (".png", ".tiff", ".tif", ".npy")
ARRAYS = (".npy", ".npz")
_NUMBER = re.compile(r"(\d+)\D*$")


@dataclass(frozen=True, eq=False)
class DepthImages:
    """Images by number; NaN is unknown.

    names: of each, as of its file or stamp; numbers where there are none, and then `is_named` is False.
    note: what is worth knowing of them, in words.
    """

    path: Path
    names: list[str]
    read: Callable[[int], Float32]
    is_named: bool = True
    note: str = ""

    def __len__(self) -> int:
        return len(self.names)


def open_depth(path: Path, unit_m: float = 0.001, is_disparity: bool = False) -> DepthImages:
    """The depth images of a dataset, of a folder (PNG of 16 bit counts, float TIFF, .npy), or of one .npy or .npz of
    all (N, H, W).

    Args:
        unit_m: metres of one count of a PNG; KITTI's has 1/256. A dataset knows its own.
        is_disparity: values are 1 / depth.

    Raises:
        UserError: there are none, or they are of no known kind; it says what is.
    """
    if path.is_file() and path.suffix in ARRAYS:
        found = _of_array(path)
    elif (path / layout.META).is_file():
        found = _of_dataset(path)
    elif path.is_dir():
        found = _of_folder(path, unit_m)
    else:
        raise UserError(f"{path} is no dataset, no folder of depth images and no .npy of them")
    if not is_disparity:
        return found
    return DepthImages(path, found.names, lambda i: _inverted(found.read(i)), found.is_named, found.note)


def holds_depth(path: Path) -> bool:
    """Whether there are depth images to open."""
    if path.is_file():
        return path.suffix in ARRAYS
    return path.is_dir() and any(_files(folder) for folder in _folders(path))


def matched(predicted: DepthImages, truth: DepthImages) -> list[tuple[str, int, int]]:
    """Name, number of the prediction and of the truth of images that belong together: of the same name, or whose names
    end in the same number; without names all by their order. UserError where none do."""
    if not (predicted.is_named and truth.is_named):
        if len(predicted) != len(truth):
            raise UserError(
                f"{predicted.path} has {counted(len(predicted), 'image')} and {truth.path} {len(truth)}, and without "
                "names only their order can say which belong together"
            )
        return [(truth.names[i] if truth.is_named else predicted.names[i], i, i) for i in range(len(truth))]
    by_name = {name: i for i, name in enumerate(predicted.names)}
    both = [(name, by_name[name], j) for j, name in enumerate(truth.names) if name in by_name]
    if not both:
        by_number = _numbered(predicted.names)
        theirs = _numbered(truth.names)
        both = [(truth.names[j], by_number[number], j) for number, j in theirs.items() if number in by_number]
    if not both:
        raise UserError(
            f"no image of {predicted.path} ({predicted.names[0]}, ...) has the name of one of {truth.path} "
            f"({truth.names[0]}, ...)"
        )
    return both


def _numbered(names: list[str]) -> dict[int, int]:
    """Place by the last number in the name; none where two have the same."""
    found = {int(match[1]): i for i, name in enumerate(names) if (match := _NUMBER.search(name))}
    return found if len(found) == len(names) else {}


def _of_dataset(path: Path) -> DepthImages:
    dataset = Dataset(path)
    if dataset.meta.depth is None:
        raise UserError(f"{path} has no depth; a dataset with measured or simulated depth can judge")
    notes = []
    if dataset.meta.depth.made is not None:
        notes.append(f"the depth of {path.name} was itself made from pictures")
    if dataset.depth_kind == "relative":
        notes.append(f"the depth of {path.name} has no unit: sq_rel and rmse are in no metres")
    names = [str(stamp) for stamp in dataset.stamps_ns]
    return DepthImages(path, names, dataset.depth, note="; ".join(notes))


def _folders(path: Path) -> list[Path]:
    return [*(path / name for name in layout.DEPTH.values()), path]  # beside such a folder lie pictures of other things


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in SUFFIXES) if folder.is_dir() else []


def _of_folder(path: Path, unit_m: float) -> DepthImages:
    files = next((files for folder in _folders(path) if (files := _files(folder))), [])
    if not files:
        raise UserError(f"{path} holds no depth images ({', '.join(SUFFIXES)})")
    names = [file.stem for file in files]
    if len(set(names)) < len(names):
        raise UserError(f"{path} holds several depth images of one name with different suffixes; leave one of each")

    def read(i: int) -> Float32:
        unit = unit_m if files[i].suffix == ".png" else 1.0
        found = read_depth(0, files[i], unit, None)
        return found.depth_m if isinstance(found, DepthSample) else found

    return DepthImages(path, names, read)


def _of_array(path: Path) -> DepthImages:
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        arrays: list[AnyArray] = [loaded[name] for name in loaded.files] if path.suffix == ".npz" else [loaded]
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{path} cannot be read as an array of images ({error}); a pickled one is never opened: save it as float32 "
            "(N, H, W)"
        ) from error
    if len(arrays) != 1 or arrays[0].ndim not in (3, 4) or arrays[0].dtype.kind not in "fu":
        shapes = ", ".join(f"{array.dtype} {array.shape}" for array in arrays)
        raise UserError(f"{path} holds {shapes}; expected one array of depth images (N, H, W)")
    images = arrays[0]
    if images.ndim == 4:
        images = images[..., 0] if images.shape[-1] == 1 else images[:, 0]
    return DepthImages(path, [str(i) for i in range(len(images))], lambda i: known(images[i]), is_named=False)


def _inverted(disparity: Float32) -> Float32:
    return np.asarray(1 / disparity, np.float32)
