"""The two line-by-line files: groundtruth.txt (poses) and associations.txt (which frames exist)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError


@dataclass(frozen=True, slots=True)  # a long recording holds many
class Record:
    """One frame: its files, relative to the dataset."""

    stamp_ns: int
    rgb: str
    depth: str | None

    def line(self) -> str:
        """Its line of associations.txt."""
        stamp = layout.stamp_text(self.stamp_ns)
        second = f" {stamp} {self.depth}" if self.depth else ""
        return f"{stamp} {self.rgb}{second}\n"


def read_associations(folder: Path) -> list[Record]:
    """The frames in file order. A last line without its line end was never finished and does not count.

    UserError names the line that is not `stamp rgb/file [stamp depth/file]`, and a stamp that comes twice.
    """
    path = folder / layout.ASSOCIATIONS
    records: dict[int, Record] = {}
    for number, line in _complete_lines(path):
        fields = line.split()
        try:
            if len(fields) not in (2, 4):
                raise ValueError(f"{len(fields)} fields; expected 2 or 4")
            record = Record(
                layout.parse_stamp(fields[0]),
                _inside(fields[1]),
                _inside(fields[3]) if len(fields) == 4 else None,
            )
            if len(fields) == 4 and layout.parse_stamp(fields[2]) != record.stamp_ns:
                raise ValueError("colour and depth have different stamps")
            if record.stamp_ns in records:
                raise ValueError("this stamp was there before")
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}; repair the line or convert again") from error
        records[record.stamp_ns] = record
    return list(records.values())


def read_pose_lines(folder: Path) -> dict[int, str]:
    """Lines of groundtruth.txt by stamp; of a stamp that comes twice, the last. A torn last line does not count."""
    path = folder / layout.GROUNDTRUTH
    lines: dict[int, str] = {}
    for number, line in _complete_lines(path):
        try:
            layout.parse_pose(line)
            lines[layout.parse_stamp(line.split()[0])] = line + "\n"
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
