"""`pose2rgbd bench WHAT`: pages of figures, each made by one command: the paper's Table 4 anywhere, all others from the
checkout, where `bench/results/sources.yaml` says which command makes a page and how long it takes."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import tyro

from pose2rgbd_ros.cli import results
from pose2rgbd_ros.cli.main import Job, one_of
from pose2rgbd_ros.cli.results import Json
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.settings import read_yaml

CHECKOUT = Path(__file__).resolve().parents[2]
RESULTS = Path("bench") / "results"  # of the checkout
SOURCES = RESULTS / "sources.yaml"
SETS = {"quick": ("quick",), "full": ("quick", "full")}  # with the sets of pages that each makes


@dataclasses.dataclass
class Table4Arguments:
    """The paper's Table 4: parameters, memory and frames per second of Base and Slice-10, 32 and 64."""

    out: Annotated[Path, tyro.conf.arg(help="folder of table4.md and table4.json")] = RESULTS
    threads: Annotated[int, tyro.conf.arg(help="CPU threads of each contestant")] = 1
    rounds: Annotated[int, tyro.conf.arg(help="turns that each contestant has; medians count")] = 5
    batches: Annotated[tuple[int, ...], tyro.conf.arg(help="frames of a forward pass")] = (1, 5, 10)
    networks: Annotated[tuple[str, ...], tyro.conf.arg(help="of base, slice-10, slice-32, slice-64")] = (
        "base",
        "slice-10",
        "slice-32",
        "slice-64",
    )
    size: Annotated[int, tyro.conf.arg(help="side of the images; 512: the paper's, others have other networks")] = 512
    json: Json = False


def table4(arguments: Table4Arguments) -> int:
    """Print the page and where it is."""
    from pose2rgbd_ros.bench.table4 import table4 as made  # torch only once it is needed

    defaults = Table4Arguments()
    given = [
        f"--{field.name} {_words(getattr(arguments, field.name))}"
        for field in dataclasses.fields(arguments)
        if field.name not in ("out", "json") and getattr(arguments, field.name) != getattr(defaults, field.name)
    ]
    command = " ".join(["pose2rgbd bench table4", *given])
    page = made(
        command, arguments.threads, arguments.rounds, arguments.size, arguments.batches, arguments.networks
    )  # fmt: skip
    print(page.markdown())
    written = page.write(arguments.out)
    print(f"look at {written}")
    rows = [dataclasses.asdict(row) for row in page.rows]
    results.add(machine=page.machine, rows=rows, files=results.files(page=written))
    return 0


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclasses.dataclass
class SetArguments:
    """Make pages of bench/results anew, one after another. A page that fails is named at the end, the others are made.

    Run it in the checkout, on a machine that does nothing else."""

    out: Annotated[Path | None, tyro.conf.arg(help="folder of the pages, those of the quick set only")] = None
    only: Annotated[tuple[str, ...], tyro.conf.arg(help="these pages, of whatever set")] = ()
    list: Annotated[bool, tyro.conf.arg(help="print which commands would run, and run none")] = False
    json: Json = False


def make_set(name: str, arguments: SetArguments) -> int:
    """Run the commands of a set. Exit status 1 when one of them failed, or missed what it asks for."""
    pages = sources(CHECKOUT)
    unknown = [page for page in arguments.only if page not in pages]
    if unknown:
        raise UserError(f"{CHECKOUT / SOURCES} has no page {', '.join(unknown)}; it has {', '.join(pages)}")
    if arguments.out is not None and (name != "quick" or arguments.only):
        raise UserError("--out is for the quick set; other pages are written into bench/results")
    chosen = [
        page
        for page, source in pages.items()
        if (page in arguments.only if arguments.only else source["set"] in SETS[name])
    ]
    missed = []
    for number, page in enumerate(chosen, 1):
        command = pages[page]["command"]
        print(f"{number} of {len(chosen)}: {page}: {command}", flush=True)
        if arguments.list:
            continue
        out = [] if arguments.out is None else ["--out", str(arguments.out.resolve())]
        started = time.monotonic()
        said = sys.stderr.fileno() if arguments.json else None  # standard output is the document's
        if subprocess.run([*_as_run_here(command), *out], cwd=CHECKOUT, stdout=said).returncode:
            missed.append(page)
        print(f"{page}: {(time.monotonic() - started) / 60:.1f} minutes\n", flush=True)
    commands = {page: pages[page]["command"] for page in chosen}
    results.add(commands=commands, missed=missed, out=CHECKOUT / RESULTS if arguments.out is None else arguments.out)
    if missed:
        print(f"failed, or missed what it asks for: {', '.join(missed)}", file=sys.stderr)
    print(f"{counted(len(chosen) - len(missed), 'page')} of {len(chosen)} done")
    return 1 if missed else 0


def sources(checkout: Path) -> dict[str, dict[str, Any]]:
    """By page: its command, its set, and the code that it measures. UserError: not a checkout."""
    if not (checkout / SOURCES).exists():
        raise UserError(
            f"{checkout} has no {SOURCES}: run this in the checkout; `pose2rgbd bench table4` runs anywhere"
        )
    return read_yaml(checkout / SOURCES)


def _as_run_here(command: str) -> list[str]:
    """The words of a command, run by this interpreter."""
    program, *words = shlex.split(command)
    if program == "pose2rgbd":
        return [sys.executable, "-m", "pose2rgbd_ros.cli.main", *words]
    if program == "python":
        return [sys.executable, *words]
    raise UserError(f"{SOURCES}: `{command}` must begin with python or pose2rgbd")


JOBS: dict[str, Job] = {
    "table4": (Table4Arguments, table4, "the paper's Table 4 on this machine"),
    "quick": (SetArguments, lambda given: make_set("quick", given), "speeds, within a quarter of an hour"),
    "full": (SetArguments, lambda given: make_set("full", given), "those and more, within an hour and a half"),
}


def main(argv: list[str]) -> int:
    """One of them."""
    return one_of(JOBS, "bench", argv)
