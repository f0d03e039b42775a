"""Names and text forms of a dataset folder, and the few ways its files are written. See docs/dataset.md."""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, Int64

RGB = "rgb"
# Depth without a unit gets a folder of another name, so that no tool takes its numbers for metres.
DEPTH = {"metric": "depth", "relative": "depth_relative"}
CONFIDENCE = "depth_confidence"  # of depth made from pictures: 8 bit PNG
GROUNDTRUTH = "groundtruth.txt"
ASSOCIATIONS = "associations.txt"
TRANSFORMS = "transforms.json"
META = "meta.yaml"
TRUTH = "truth.yaml"  # in the folder beside a simulated recording
SPLIT = "split.txt"  # the split a dataset brings with it; not every one does
RECORDED = "recorded"  # of an aligned dataset: lists and meta.yaml as they were converted
LENSES = "lenses.csv"  # of photographs by several lenses: which frame is of which
LOCK = ".lock"
CACHE = ".cache"
GROUNDTRUTH_HEADER = "# T_map_cam (optical frame): timestamp tx ty tz qx qy qz qw"

OWN_FILE = re.compile(r"\d+\.(jpg|png|tiff)|\.[^/]*\.tmp")  # what the writer puts into rgb/ and depth/
_STAMP = re.compile(r"(\d+)(?:\.(\d{1,9}))?")


def truth_folder(recording: Path) -> Path:
    """Where the truth of a simulated recording lies: flight.mcap -> flight.truth."""
    return recording.with_name(f"{recording.stem if recording.suffix else recording.name}.truth")


def stamp_text(stamp_ns: int) -> str:
    """Seconds with nine decimals, exact: 1500000001 -> "1.500000001"."""
    seconds, nanoseconds = divmod(int(stamp_ns), 1_000_000_000)
    return f"{seconds}.{nanoseconds:09d}"


def parse_stamp(text: str) -> int:
    """Nanoseconds of a stamp in seconds with up to nine decimals, exact. ValueError for anything else."""
    match = _STAMP.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no timestamp")
    return int(match[1]) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))


def pose_line(stamp_ns: int, T_map_cam: npt.ArrayLike) -> str:
    """A line of groundtruth.txt: nanometres of position, quaternion to 1e-12."""
    position, quat = se3.split(T_map_cam)
    numbers = [f"{value:.9f}" for value in position] + [f"{value:.12f}" for value in quat]
    return f"{stamp_text(stamp_ns)} {' '.join(numbers)}\n"


def parse_pose(line: str) -> Float64:
    """(7,) position and quaternion of a line of groundtruth.txt. ValueError when it is none."""
    fields = line.split()
    if len(fields) != 8:
        raise ValueError(f"{len(fields)} fields; expected 8")
    pose = np.array([float(field) for field in fields[1:]])
    if not np.isfinite(pose).all() or np.linalg.norm(pose[3:]) < 0.5:
        raise ValueError("the pose is not finite or its quaternion is zero")
    return pose


def header(has_depth: bool) -> str:
    """First line of associations.txt."""
    return "# timestamp rgb timestamp depth" if has_depth else "# timestamp rgb"


def require_distinct(sources: Iterable[Path]) -> None:
    """UserError when a file or folder is named twice."""
    for path, count in Counter(source.resolve() for source in sources).items():
        if count > 1:
            raise UserError(f"{path} is given {count} times; name each source once")


def require_room(folder: Path, resume: bool) -> int:
    """How many frames there are to go on with. Nothing is touched; the folder need not exist.

    UserError when it is a file, holds other things than a dataset, or frames although `resume` is off. OSError passes
    through.
    """
    if (folder / META).is_file():
        count = len(read_associations(folder))
        if count and not resume:
            raise UserError(
                f"{folder} already holds a dataset of {counted(count, 'frame')}; --resume (of a node: its parameter "
                "resume) goes on with it, or choose another folder"
            )
        return count
    if not folder.exists():
        return 0
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; choose a folder for the dataset")
    ours = {RGB, *DEPTH.values(), GROUNDTRUTH, ASSOCIATIONS}
    others = [p.name for p in folder.iterdir() if p.name not in ours and not p.name.startswith(".")]
    rgb = folder / RGB
    if others or (rgb.is_dir() and any(rgb.iterdir())):
        raise UserError(f"{folder} is not empty and holds no dataset of ours; choose another folder")
    return 0


def lens_table(lenses: dict[int, str]) -> bytes:
    """lenses.csv of the lens of each stamp (ns)."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [("stamp", "lens"), *((stamp_text(stamp_ns), name) for stamp_ns, name in sorted(lenses.items()))]
    )
    return text.getvalue().encode()


def read_lenses(folder: Path) -> dict[int, str]:
    """The lens of each stamp (ns); nothing where all frames are of one. UserError for a damaged table."""
    if not (folder / LENSES).is_file():
        return {}
    with (folder / LENSES).open(newline="", encoding="utf-8") as stream:
        try:
            return {parse_stamp(stamp): name for stamp, name in list(csv.reader(stream))[1:]}
        except ValueError as error:
            raise UserError(f"{folder / LENSES} is damaged ({error}); convert the photographs again") from error


def has_content(path: Path) -> bool:
    """Whether there is a file that is not empty."""
    return path.is_file() and path.stat().st_size > 0


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file so that under its name there is all of it or nothing (or, when replaced, the old one).

    OSError passes through, the half-written part removed.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write or replace several files, by name below `folder`, in the order given.

    All are written under temporary names before the first gets its own: a full disk changes none of them. OSError
    passes through.
    """
    temporary = {folder / name: (folder / name).with_name(f".{Path(name).name}.tmp") for name in files}
    made = {path.parent for path in temporary if not path.parent.is_dir()}
    try:
        for (path, beside), data in zip(temporary.items(), files.values(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(data)
    except BaseException:
        for beside in temporary.values():
            beside.unlink(missing_ok=True)
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise
    for path, beside in temporary.items():
        beside.replace(path)


def append_line(descriptor: int, line: str) -> None:
    """Add one line with one write to a file opened with O_APPEND. On OSError nothing of the line is left behind."""
    data = line.encode()
    end = os.fstat(descriptor).st_size
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(descriptor, end)
        raise


class FolderLock:
    """Held by the one process that writes a folder; the kernel lets go of it however that process ends."""

    def __init__(self, folder: Path) -> None:
        """Take the lock. UserError when another writer holds it."""
        self._descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise UserError(
                f"{folder} is being written by another process; wait for it or choose another folder"
            ) from error

    def release(self) -> None:
        """Let go; harmless when called twice. The file stays: removing it would let two writers in."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


# The two line-by-line files: groundtruth.txt (poses) and associations.txt (which frames exist).


@dataclass(frozen=True, slots=True)  # a long recording holds many
class Record:
    """One frame: its files, relative to the dataset."""

    stamp_ns: int
    rgb: str
    depth: str | None

    def line(self) -> str:
        """Its line of associations.txt."""
        stamp = stamp_text(self.stamp_ns)
        second = f" {stamp} {self.depth}" if self.depth else ""
        return f"{stamp} {self.rgb}{second}\n"


def read_associations(folder: Path) -> list[Record]:
    """The frames in file order. A last line without its line end was never finished and does not count.

    UserError names the line that is not `stamp rgb/file [stamp depth/file]`, and a stamp that comes twice.
    """
    path = folder / ASSOCIATIONS
    records: dict[int, Record] = {}
    for number, line in _complete_lines(path):
        fields = line.split()
        try:
            if len(fields) not in (2, 4):
                raise ValueError(f"{len(fields)} fields; expected 2 or 4")
            record = Record(
                parse_stamp(fields[0]), _inside(fields[1]), _inside(fields[3]) if len(fields) == 4 else None
            )
            if len(fields) == 4 and parse_stamp(fields[2]) != record.stamp_ns:
                raise ValueError("colour and depth have different stamps")
            if record.stamp_ns in records:
                raise ValueError("this stamp was there before")
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}; repair the line or convert again") from error
        records[record.stamp_ns] = record
    return list(records.values())


def read_pose_lines(folder: Path) -> dict[int, str]:
    """Lines of groundtruth.txt by stamp; of a stamp that comes twice, the last. A torn last line does not count."""
    path = folder / GROUNDTRUTH
    lines: dict[int, str] = {}
    for number, line in _complete_lines(path):
        try:
            parse_pose(line)
            lines[parse_stamp(line.split()[0])] = line + "\n"
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}; repair the line or convert again") from error
    return lines


def _complete_lines(path: Path) -> list[tuple[int, str]]:
    """Numbered lines that end in a line end, without comments and blank ones. UserError when unreadable."""
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; the dataset is incomplete, convert again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error})") from error
    lines = text[: text.rfind("\n") + 1].split("\n")
    return [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name} lies outside the dataset")
    return name


# split.txt: the split a dataset brings with it, a line `stamp train|choose|test|unused` for each frame.
#
# A simulated flight knows which of its lines are held out; the frames alone do not show that. Frames that
# choose (a validation set) are held out from training, but may decide which weights are kept; most datasets name none.


WORDS = ("train", "choose", "test", "unused")
_HEADER = "# timestamp train|choose|test|unused\n"


def write_split(path: Path, stamps_ns: npt.ArrayLike, labels: npt.ArrayLike) -> None:
    """Write the split of a dataset, all of it or nothing; one that is there is replaced.

    Args:
        path: split.txt in the dataset's folder.
        stamps_ns: (N,) of its frames, each once.
        labels: (N,) "train", "choose", "test" or "unused".

    Raises:
        UserError: another word, a stamp twice, not one label a stamp. OSError passes through.
    """
    stamps, words = np.asarray(stamps_ns, dtype=np.int64), [str(word) for word in np.asarray(labels)]
    if len(stamps) != len(words):
        raise UserError(f"{len(stamps)} stamps but {len(words)} labels; give one label for each frame")
    wrong = sorted(set(words) - set(WORDS))
    if wrong:
        raise UserError(f"a frame cannot be {wrong[0]!r}; choose one of: {', '.join(WORDS)}")
    if len(np.unique(stamps)) != len(stamps):
        raise UserError("a stamp comes twice among the frames to split")
    lines = [f"{stamp_text(stamps[i])} {words[i]}\n" for i in np.argsort(stamps)]
    atomic_write(path, (_HEADER + "".join(lines)).encode())


def read_split(path: Path, stamps_ns: npt.ArrayLike) -> npt.NDArray[np.str_]:
    """The labels (N,) of the frames at `stamps_ns` (N,), in their order.

    UserError: the file is not there, a line is wrong or names a frame that is not there, a frame is left out.
    """
    stamps = np.asarray(stamps_ns, dtype=np.int64)
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist: the dataset brings no split of its own; choose split 'segments'"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); repair it or remove it") from error
    words = _words(path, text, stamps)
    missing = np.flatnonzero(words == "")
    if len(missing):
        raise UserError(
            f"{path} says nothing of {counted(len(missing), 'frame')}, the first at {stamp_text(stamps[missing[0]])}; "
            "add them, or remove the file for a split made anew"
        )
    return words


def _words(path: Path, text: str, stamps: Int64) -> npt.NDArray[np.str_]:
    """The word of each frame, "" where the file has none."""
    place = {int(stamp): i for i, stamp in enumerate(stamps)}
    words = np.full(len(stamps), "", dtype="U6")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            stamp, word = _parse(line)
            if stamp not in place:
                raise ValueError(f"there is no frame at {stamp_text(stamp)}")
            if words[place[stamp]]:
                raise ValueError(f"the frame at {stamp_text(stamp)} was there before")
        except ValueError as error:
            raise UserError(
                f"{path}, line {number}: {error}; repair the line, or remove the file for a split made anew"
            ) from None
        words[place[stamp]] = word
    return words


def _parse(line: str) -> tuple[int, str]:
    fields = line.split()
    if len(fields) != 2:
        raise ValueError(f"{len(fields)} fields; expected a stamp and one of: {', '.join(WORDS)}")
    if fields[1] not in WORDS:
        raise ValueError(f"{fields[1]!r} is none of: {', '.join(WORDS)}")
    return parse_stamp(fields[0]), fields[1]
