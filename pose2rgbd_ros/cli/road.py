"""`pose2rgbd` alone, and `pose2rgbd status FOLDER`: the road from a recording to a live node, and where a folder is.

It looks at names of files only, a few levels down, and needs no library: the answer is there at once.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.reports.table import aligned

DEEP, MOST_FOLDERS = 4, 3000  # levels below the folder, and folders that are looked into: a home folder takes too long
BAGS, VIDEOS, PHOTOS = (".bag", ".mcap", ".db3"), (".mp4", ".mov", ".m4v"), (".jpg", ".jpeg")
FEWEST_PHOTOS = 10
SKIPPED = ("node_modules", "__pycache__", "build", "install", "site-packages")
SHOWN = 3  # of each kind


@dataclass(frozen=True)
class Run:
    """A trained model: its folder, the name of the dataset trained on, what was done with it."""

    path: Path
    dataset: str
    evaluated: bool
    calibrated: bool


@dataclass
class Findings:
    """What stands in a folder. incomplete: it holds more than was looked at."""

    recordings: list[Path] = field(default_factory=list)
    datasets: dict[Path, int] = field(default_factory=dict)  # with their number of frames
    runs: list[Run] = field(default_factory=list)
    incomplete: bool = False


# A station: its name, the command that leads there, in words.
ROAD = (
    ("record", "pose2rgbd record --out DATASET", "a flight (or bring a rosbag, photographs, a video)"),
    ("convert", "pose2rgbd convert RECORDING DATASET", "to frames with poses"),
    ("train", "pose2rgbd train relief DATASET", "a model of the place"),
    ("evaluate", "pose2rgbd evaluate RUN DATASET", "on frames it has not seen"),
    ("calibrate", "pose2rgbd calibrate RUN DATASET", "how far to trust it"),
    ("render", "pose2rgbd render --model RUN/checkpoint", "what the camera should be seeing, live"),
)


def main(argv: list[str]) -> int:
    """Print the road, what of it is done in a folder, and the next command. UserError: no such folder."""
    parser = argparse.ArgumentParser("pose2rgbd status", description="Where a folder stands, and the next command.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="default: the working directory")
    parser.add_argument("--json", action="store_true", help="print the result as JSON (docs/json.md)")
    arguments = parser.parse_args(argv)
    folder = arguments.folder
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; name one with recordings, datasets or runs")
    found = look(folder)
    print(told(found))
    if arguments.json:
        from pose2rgbd_ros.cli import results

        results.add(
            recordings=found.recordings,
            datasets=[{"path": path, "frames": frames} for path, frames in found.datasets.items()],
            runs=[vars(run) for run in found.runs],
            incomplete=found.incomplete,
            next=[command for _, command in next_commands(found)],
        )
    return 0


def look(folder: Path) -> Findings:
    """What stands in a folder and below it."""
    found = Findings()
    seen: set[Path] = set()
    for number, (path, names) in enumerate(_folders(folder)):
        if number >= MOST_FOLDERS:
            found.incomplete = True
            break
        if (path / "checkpoint").is_dir() and (path / "checkpoint" / "model.yaml").is_file():
            if path.resolve() not in seen:
                seen.add(path.resolve())
                found.runs.append(_run(path))
        elif {"associations.txt", "groundtruth.txt"} <= names:
            found.datasets[path] = _lines(path / "associations.txt")
        elif "metadata.yaml" in names and any(name.endswith(BAGS) for name in names):
            found.recordings.append(path)
        else:
            found.recordings += [path / name for name in sorted(names) if name.lower().endswith((*BAGS, *VIDEOS))]
            if sum(name.lower().endswith(PHOTOS) for name in names) >= FEWEST_PHOTOS:
                found.recordings.append(path)
    return found


def _folders(folder: Path) -> Iterator[tuple[Path, set[str]]]:
    """Folders and the names of their files, the upper ones first; nothing below a dataset, a run or a bag."""
    level = [folder]
    for _ in range(DEEP):
        below: list[Path] = []
        for path in level:
            try:
                entries = sorted(os.scandir(path), key=lambda entry: entry.name)
            except OSError:
                continue
            names = {entry.name for entry in entries if entry.is_file()}
            yield path, names
            if {"associations.txt", "groundtruth.txt"} <= names or "metadata.yaml" in names:
                continue
            if any(entry.name == "checkpoint" for entry in entries):
                continue
            below += [
                path / entry.name
                for entry in entries
                if entry.is_dir() and not entry.name.startswith(".") and entry.name not in SKIPPED
            ]
        level = below


def _run(path: Path) -> Run:
    checkpoint, dataset = path / "checkpoint", ""
    try:
        for line in (checkpoint / "model.yaml").read_text(errors="replace").splitlines():
            name, _, value = line.strip().partition(": ")
            if name == "dataset":
                dataset = value.strip("'\"")
                break
    except OSError:
        pass
    evaluated = (path / "report" / "metrics.yaml").is_file()
    return Run(path, dataset, evaluated, (checkpoint / "calibration.yaml").is_file())


def _lines(path: Path) -> int:
    try:
        with path.open("rb") as stream:
            return sum(not line.startswith(b"#") and bool(line.strip()) for line in stream)
    except OSError:
        return 0


def next_commands(found: Findings) -> list[tuple[str, str]]:
    """The stations that can be reached from here, the farthest first, and the commands that lead there."""
    commands: list[tuple[str, str]] = []
    # What is wanted next of the newest of each: the farthest along the road leads.
    for run in found.runs:
        dataset = _dataset_of(run, found)
        if not run.evaluated:
            commands.append(("evaluate", f"pose2rgbd evaluate {run.path} {dataset}"))
        elif not run.calibrated:
            commands.append(("calibrate", f"pose2rgbd calibrate {run.path} {dataset}"))
        else:
            commands.append(("render", f"pose2rgbd render --model {run.path / 'checkpoint'}"))
    trained = {run.dataset for run in found.runs}
    for path in found.datasets:
        if path.resolve().name not in trained:
            commands.append(("train", f"pose2rgbd train relief {path} --max-minutes 10"))
    if not found.datasets:
        for path in found.recordings:
            commands.append(("convert", f"pose2rgbd convert {path} dataset"))
    if not commands:
        commands.append(("record", "pose2rgbd run: a demo, simulated"))
    order = [name for name, _, _ in ROAD]
    return sorted(commands, key=lambda command: -order.index(command[0]))


def _dataset_of(run: Run, found: Findings) -> str:
    """The dataset that a run was trained on, as far as one of its name is here; the nearest of several."""
    named = [path for path in found.datasets if path.resolve().name == run.dataset]
    if not named:
        return "DATASET"
    shared = {path: len(os.path.commonpath([path.resolve(), run.path.resolve()])) for path in named}
    return str(max(named, key=lambda path: shared[path]))


def told(found: Findings) -> str:
    """The road with what is done, then the next command."""
    done = {
        "convert": [f"{path} ({counted(frames, 'frame')})" for path, frames in found.datasets.items()],
        "record": [str(path) for path in found.recordings],
        "train": [str(run.path) for run in found.runs],
        "evaluate": [str(run.path / "report" / "index.html") for run in found.runs if run.evaluated],
        "calibrate": [str(run.path) for run in found.runs if run.calibrated],
    }
    lines = aligned((name, command, words) for name, command, words in ROAD).splitlines()
    text = "From a recording to a live node; x: done in this folder.\n"
    for (name, _, _), line in zip(ROAD, lines, strict=True):
        there = done.get(name, [])
        text += f"\n{'x' if there else ' '} {line.strip()}"
        text += "".join(f"\n             {each}" for each in there[:SHOWN])
        text += f"\n             and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
    following = [command for _, command in next_commands(found)[:1]]
    if (run := next((run for run in found.runs if run.calibrated), None)) is not None:
        following.append(f"pose2rgbd view {run.path} {_dataset_of(run, found)}")
    following.append("pose2rgbd run RECORDING: all of the road at once")
    text += "\n\nnext       " + "\nor         ".join(following)
    if found.incomplete:
        text += "\n(this folder holds more than was looked at: name one, pose2rgbd status FOLDER)"
    return f"{text}\ncommands   pose2rgbd --help"
