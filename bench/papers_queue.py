"""The papers' own findings, tried again: a queue of trainings, one at a time, that can be stopped and started at will.

    python bench/papers_queue.py --kitchen DATA/rgbd_7scenes_redkitchen --out DIR          # hours; Ctrl-C, and again
    python bench/papers_queue.py --out DIR --page bench/results/papers.md                  # what is measured so far
    python bench/papers_queue.py --out DIR --list                                          # its commands, and how far

Rows that are measured are kept by --page in bench/results/papers/, a file for each study, and a queue in another folder
or on another machine begins with them, so that hours of trainings need not be in one place; on the page, studies that
are not in this folder stay as they are.

Each study is a command of `pose2rgbd experiments` in a folder of its own in DIR, which reads the rows that are
finished and goes on with the one that is not; so each can be called by itself as well. Seed 0 of all comes before the
other seeds, what tells most comes first, and what takes hours a row is last. All are for a processor of two cores
without a GPU, equal steps or epochs, the weights of the end; figures are of frames that judge, and settings are
preferred by frames that choose.

`--share 0.001` takes that share of all steps and epochs, to try the queue itself; `--only NAME` takes some studies.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pose2rgbd_ros.cli.main import main as pose2rgbd
from pose2rgbd_ros.dataset.layout import META, SPLIT
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.experiments import localization, run
from pose2rgbd_ros.settings import read_yaml, write_yaml

RESULT = Path(__file__).parent / "results" / "papers.md"
ROWS = RESULT.with_suffix("")  # a folder: the rows of each study, as they were measured
DONE_FILE = "queue.yaml"  # in the queue's folder: the commands that came to their end
INTERRUPTED = 130
UNBROKEN: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
RUNS, RESULT_FILES = localization.RUNS, (localization.RESULT_FILE, run.RESULT_FILE)
# Flights over the simulated city: lines 5 m apart over 60 x 60 m, and the paper's pattern over 300 x 300 m.
FLIGHTS = {
    "town": "--frames 700 --size 144 --fov-deg 90 --flight.plan paper --flight.area-m 60 --flight.width-m 60 "
    "--flight.altitude-m 45 --flight.line-spacing-m 5 --flight.camera-pitch-deg 50 --flight.attitude-jitter-deg 4 "
    "--flight.wander-m 0.5 --flight.holdout 0.25",
    "city": "--frames 500 --size 128 --flight.plan paper --flight.seed 7",
}
# Half of the paper's width and the last map as it is: what trains in minutes. One thread's time counts for nothing.
NARROW = "--width 0.5 --posegan.generator-width 0.5 --posegan.pool flatten --finders --saliency 0 --clock cpu"
ABLATION = "--models posegan posegan-c posegan-b posegan-a"
# One suspect each, then together; against the default settings, which are a row of their own.
SUSPECTS = (
    "alpha=0.1", "alpha=1", "gain=1", "alpha=0.1,gain=1", "alpha=1,gain=1", "target_crop=centre", "pull_ramp=true",
    "pixel_norm=euclidean,beta_pixel=10", "pose_range=joint", "pull=generated", "pose_frequencies=0",
    "target_crop=centre,pull_ramp=true,pose_range=joint", "alpha=1,target_crop=centre,pull_ramp=true,pose_range=joint",
)  # fmt: skip
RATE = "learning_rate=0.01"  # beside the recipe's 0.003


@dataclass(frozen=True)
class Study:
    """A command of `pose2rgbd experiments`: {kitchen}, {town} and {city} stand for datasets.

    steps, epochs: of each row. seeds: runs of each row, one after the other.
    """

    name: str
    words: str
    command: str
    variants: tuple[str, ...] = field(default_factory=tuple)
    steps: int | None = None
    epochs: int | None = None
    seeds: int = 3


def studies() -> list[Study]:
    """What is asked, the most telling first."""
    kitchen, town = ("localization --dataset {" + place + "} " + NARROW for place in ("kitchen", "town"))
    table = "tables --dataset {city} --tables 2 --no-further --size 64"
    return [
        Study(
            "suspects-kitchen-32", "What each suspect changes in full PoseGAN: red kitchen, 32 px, 3,000 steps.",
            f"{kitchen} --sizes 32 --models posegan", SUSPECTS, steps=3_000,
        ),
        Study(
            "slices-100", "Slice against Base at equal epochs: 64 px, the paper's width, 500 frames, 100 epochs.",
            f"{table} --width 1", (RATE,), epochs=100,
        ),
        Study(
            "slices-narrow", "Slice against Base in minutes a row: 64 px, a quarter of the paper's width, 30 epochs.",
            f"{table} --width 0.25", ("bce_reduction=sum", RATE), epochs=30, seeds=5,
        ),
        Study(
            "slices-narrow-100", "The same for 100 epochs.",
            f"{table} --width 0.25", (RATE,), epochs=100,
        ),
        Study(
            "order-kitchen-32", "The ablation at equal steps: red kitchen, 32 px, 3,000 steps.",
            f"{kitchen} --sizes 32 {ABLATION} posenet", steps=3_000,
        ),
        Study(
            "suspects-town-32", "What each suspect changes in full PoseGAN: a town of 60 x 60 m, 32 px, 3,000 steps.",
            f"{town} --sizes 32 --models posegan", SUSPECTS, steps=3_000,
        ),
        Study(
            "order-town-32", "The ablation at equal steps: the town, 32 px, 3,000 steps.",
            f"{town} --sizes 32 {ABLATION} posenet", steps=3_000, seeds=5,
        ),
        Study(
            "slices-300", "Slice against Base three times as long: 300 epochs.",
            f"{table} --width 1", (RATE,), epochs=300,
        ),
        Study(
            "order-kitchen-64", "The ablation at equal steps: red kitchen, 64 px, 3,000 steps.",
            f"{kitchen} --sizes 64 {ABLATION} posenet", steps=3_000,
        ),
        Study(
            "order-town-64", "The ablation at equal steps: the town, 64 px, 3,000 steps.",
            f"{town} --sizes 64 {ABLATION} posenet", steps=3_000,
        ),
        Study(
            "paper-kitchen-32", "PoseGAN's paper to the letter but for 32 px: its recipe and width, 100,000 steps.",
            "localization --dataset {kitchen} --recipe paper --width 1 --finders --saliency 0 --clock cpu "
            f"--sizes 32 {ABLATION}", steps=100_000, seeds=1,
        ),
    ]  # fmt: skip


@dataclass(frozen=True)
class Queue:
    """A folder of studies. kitchen: where the excerpt of 7-Scenes is; share: of all steps and epochs."""

    out: Path
    kitchen: Path | None = None
    share: float = 1.0
    studies: list[Study] = field(default_factory=studies)

    def commands(self) -> Iterator[tuple[Study, list[str]]]:
        """In their order, as words after `pose2rgbd`: seed 0 of each study, all seeds, then what has one seed alone."""
        several = [study for study in self.studies if study.seeds > 1]
        alone = [study for study in self.studies if study.seeds == 1]
        for study, seeds in (*((each, 1) for each in several), *((each, each.seeds) for each in (*several, *alone))):
            yield study, self.command(study, seeds)

    def command(self, study: Study, seeds: int) -> list[str]:
        """Of a study with its first seeds."""
        words = ["experiments", *(word.format(**self._places) for word in study.command.split())]
        for option, asked in (("--steps", study.steps), ("--epochs", study.epochs)):
            words += [option, str(max(1, round(asked * self.share)))] if asked else []
        words += ["--variants", *study.variants] if study.variants else []
        return [*words, "--seeds", str(seeds), "--out", str(self.out / study.name)]

    def done(self) -> list[str]:
        file = self.out / DONE_FILE
        return list(read_yaml(file)["done"]) if file.exists() else []

    def run(self) -> int:
        """Exit status: 0, all is trained and measured; 1, some rows could not be; 130, interrupted: start it again."""
        status = self._make_places()
        if self.share == 1.0:
            self.bring(ROWS)
        for _, words in self.commands() if status == 0 else ():
            if shlex.join(words) in self.done():
                continue
            print(f"pose2rgbd {shlex.join(words)}", flush=True)
            ended = pose2rgbd(words)
            if ended == INTERRUPTED:
                return ended
            if ended == 0:
                write_yaml(self.out / DONE_FILE, {"done": [*self.done(), shlex.join(words)]})
            status = status or ended
        return status

    def keep(self, rows: Path) -> None:
        """Write the rows measured so far, their datasets by name, so that `bring` finds them anywhere."""
        for study in self.studies:
            found = {}
            for file in sorted((self.out / study.name / RUNS).glob("*/*.yaml")):
                if file.name in RESULT_FILES:
                    values = read_yaml(file)
                    values["job"]["dataset"] = Path(values["job"]["dataset"]).name
                    found[f"{file.parent.name}/{file.name}"] = values
            if found:
                rows.mkdir(parents=True, exist_ok=True)
                write_yaml(rows / f"{study.name}.yaml", found)

    def bring(self, rows: Path) -> None:
        """Lay down rows that were kept and are not here; the experiments read them as theirs."""
        for study in self.studies:
            kept = rows / f"{study.name}.yaml"
            for name, values in (read_yaml(kept) if kept.exists() else {}).items():
                file = self.out / study.name / RUNS / name
                if not file.exists():
                    values["job"]["dataset"] = str(self._places[values["job"]["dataset"]])
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_yaml(file, values)

    @property
    def _places(self) -> dict[str, Path]:
        return {name: self.out / "places" / name for name in ("kitchen", *FLIGHTS)}

    def _make_places(self) -> int:
        """Make the datasets that studies need and that are not there; the first exit status that is not 0."""
        for name, place in self._places.items():
            if not any(f"{{{name}}}" in study.command for study in self.studies):
                continue
            status = 0
            if name in FLIGHTS and not (place / SPLIT).exists():  # written last
                resume = ["--resume"] if place.exists() else []
                status = pose2rgbd(["sim", "dataset", str(place), *FLIGHTS[name].split(), *resume])
            elif name == "kitchen" and not (place / META).exists():
                if self.kitchen is None:
                    sys.exit("error: the first time the queue needs --kitchen DATA/rgbd_7scenes_redkitchen")
                status = pose2rgbd(["import", str(self.kitchen), str(place)])
            if status:
                return status
        return 0

    def page(self, before: str = "") -> str:
        """What is measured so far, study by study; one that was measured in another folder stays as it was `before`."""
        parts = [
            "# The papers' own findings, tried again",
            f"`python bench/papers_queue.py --kitchen KITCHEN --out DIR` on {processor()}, where nothing else is said; "
            "what the columns say: [docs/localization.md](../../docs/localization.md), "
            "[docs/tables.md](../../docs/tables.md).",
        ]
        kept = {part.split("\n", 1)[0]: part.split("\n", 1)[1].strip() for part in before.split("\n## ")[1:]}
        for study in self.studies:
            tables = self.out / study.name / "tables.md"
            if tables.exists():
                parts += [f"## {study.name}", *self._measured(study, tables.read_text())]
            elif study.name in kept:
                parts += [f"## {study.name}", kept[study.name]]
            else:
                parts += [f"## {study.name}", f"{study.words} **not begun**.", f"    pose2rgbd {self._shown(study)}"]
        return "\n\n".join(map(_wrapped, parts)) + "\n"

    def _measured(self, study: Study, tables: str) -> Iterator[str]:
        done = self.done()
        seeds = max((n for n in (1, study.seeds) if shlex.join(self.command(study, n)) in done), default=0)
        state = {0: "under way", study.seeds: "finished"}.get(seeds, f"{seeds} of {study.seeds} seeds finished")
        yield f"{study.words} **{state}**."
        yield f"    pose2rgbd {self._shown(study)}"
        yield tables.replace("\n### ", "\n#### ").strip()

    def _shown(self, study: Study) -> str:
        """A study's command, its folders by their names alone and no line too long."""
        words = [word.replace(f"{self.out}/", "DIR/") for word in self.command(study, study.seeds)]
        lines = [""]
        for word in words:
            lines = [*lines, word] if len(lines[-1]) + len(word) > 100 else [*lines[:-1], f"{lines[-1]} {word}".strip()]
        return " \\\n        ".join(lines)


def _wrapped(text: str) -> str:
    """Prose of a part of the page at its length; tables, headings and commands as they are."""
    lines = (
        line if line.startswith(("|", "#", "    ")) else textwrap.fill(line, 120, **UNBROKEN)
        for line in text.split("\n")
    )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Go on with the queue, or say how far it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of datasets, runs and tables")
    parser.add_argument("--kitchen", type=Path, help="the excerpt of 7-Scenes; needed the first time")
    parser.add_argument("--page", type=Path, nargs="?", const=RESULT, help="write what is measured so far, and end")
    parser.add_argument("--list", action="store_true", help="print the commands, those that are done marked, and end")
    parser.add_argument("--share", type=float, default=1.0, help="of all steps and epochs, to try the queue itself")
    parser.add_argument("--only", nargs="+", choices=[study.name for study in studies()], help="some of the studies")
    arguments = parser.parse_args(argv)
    chosen = [study for study in studies() if arguments.page or not arguments.only or study.name in arguments.only]
    queue = Queue(arguments.out.resolve(), arguments.kitchen, arguments.share, chosen)
    if arguments.list:
        done = queue.done()
        for _, words in queue.commands():
            print(f"{'done ' if shlex.join(words) in done else '     '} pose2rgbd {shlex.join(words)}")
        return 0
    if arguments.page:
        if arguments.share == 1.0:
            queue.keep(ROWS)
        before = arguments.page.read_text() if arguments.page.exists() else ""
        arguments.page.write_text(queue.page(before))
        return 0
    return queue.run()


if __name__ == "__main__":
    sys.exit(main())
