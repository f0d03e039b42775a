"""split.txt: the split a dataset brings with it, a line `stamp train|choose|test|unused` for each frame.

A simulated flight knows which of its lines are held out; that cannot be told from the frames alone. Frames that choose
(a validation set) are held out from training, but may decide which weights are kept; most datasets name none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry.arrays import Int64

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
    lines = [f"{layout.stamp_text(stamps[i])} {words[i]}\n" for i in np.argsort(stamps)]
    layout.atomic_write(path, (_HEADER + "".join(lines)).encode())


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
            f"{path} says nothing of {counted(len(missing), 'frame')}, the first at {layout.stamp_text(stamps[missing[0]])}; "
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
                raise ValueError(f"there is no frame at {layout.stamp_text(stamp)}")
            if words[place[stamp]]:
                raise ValueError(f"the frame at {layout.stamp_text(stamp)} was there before")
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
    return layout.parse_stamp(fields[0]), fields[1]
