"""Putting a dataset in order whose writer was killed: what was acknowledged stays, what was not goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.depth_files import encode_float, read_depth
from pose2rgbd_ros.dataset.meta import DatasetMeta, write_meta
from pose2rgbd_ros.dataset.records import Record, read_associations, read_pose_lines

Frames = dict[int, tuple[Record, str]]  # by stamp, with the line of groundtruth.txt


@dataclass
class Recovery:
    """The frames that are whole, and the stamps of those that are not."""

    frames: Frames = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)  # listed, but a file or the pose is gone (a power cut)


def recover(folder: Path, depth_folder: str | None) -> Recovery:
    """Cut torn lines, drop poses and files that belong to no frame. Call only while holding the folder's lock.

    OSError passes through; UserError where a finished line makes no sense.
    """
    result = Recovery()
    poses = read_pose_lines(folder)
    for record in read_associations(folder):
        if record.stamp_ns in poses and all(_has_content(folder / name) for name in _files(record)):
            result.frames[record.stamp_ns] = (record, poses[record.stamp_ns])
        else:
            result.lost.append(record.stamp_ns)
    write_lists(folder, list(result.frames.values()), depth_folder is not None)
    wanted = {name for record, _ in result.frames.values() for name in _files(record)}
    for name in filter(None, (layout.RGB, depth_folder)):
        _remove_others(folder, name, wanted)
    return result


def write_lists(folder: Path, frames: list[tuple[Record, str]], has_depth: bool) -> None:
    """Make groundtruth.txt and associations.txt hold exactly these frames in this order.

    Poses go first: whichever of the two files a reader finds replaced, every frame listed has its pose.
    """
    poses = "".join([layout.GROUNDTRUTH_HEADER, "\n", *(line for _, line in frames)])
    records = "".join([layout.header(has_depth), "\n", *(record.line() for record, _ in frames)])
    for name, text in ((layout.GROUNDTRUTH, poses), (layout.ASSOCIATIONS, records)):
        path, data = folder / name, text.encode()
        if not path.is_file() or path.read_bytes() != data:
            layout.atomic_write(path, data)


def unify_depth(folder: Path, meta: DatasetMeta, frames: Frames) -> Frames:
    """Where some depth outgrew the unit, make all depth files float: one dataset, one scale, nothing lost.

    At every moment the files that associations.txt names are there, in a form the reader knows by itself.
    """
    depth = meta.depth
    suffixes = {Path(record.depth).suffix for record, _ in frames.values() if record.depth}
    if depth is None or ".tiff" not in suffixes or (suffixes == {".tiff"} and depth.storage == "float"):
        return frames
    unified, old = dict(frames), list[Path]()
    for stamp, (record, pose) in frames.items():
        if record.depth and record.depth.endswith(".png"):
            old.append(folder / record.depth)
            name = str(Path(record.depth).with_suffix(".tiff"))
            layout.atomic_write(folder / name, encode_float(read_depth(old[-1], depth)))
            unified[stamp] = (Record(stamp, record.rgb, name), pose)
    write_lists(folder, list(unified.values()), has_depth=True)
    depth.storage, depth.unit_m = "float", None
    write_meta(folder, meta)
    for path in old:
        path.unlink(missing_ok=True)
    return unified


def _files(record: Record) -> list[str]:
    return [record.rgb, record.depth] if record.depth else [record.rgb]


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _remove_others(folder: Path, name: str, wanted: set[str]) -> None:
    """Remove files of ours that no frame names; a user's own files stay."""
    for path in sorted((folder / name).iterdir()):
        if layout.OWN_FILE.fullmatch(path.name) and f"{name}/{path.name}" not in wanted:
            path.unlink()
