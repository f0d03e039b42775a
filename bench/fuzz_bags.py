"""Damaged recordings of every kind: each is converted or refused in one line, quickly, and what is readable is read.

    nice python bench/fuzz_bags.py [--count 2000] [--first 0] [--keep FOLDER]

Damage: cut anywhere, bits and bytes changed, blocks zeroed, pieces copied elsewhere, enormous lengths, head or end
spoiled; all from the mutant's number. Each is read and converted in a process of its own, with a limit of 20 seconds
and of 1 GB. A failure is a traceback, a limit reached, a refusal of more than one line, or, of a cut file, fewer
messages than lie wholly before the cut (in a packed chunk: whose chunk does).
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "test"))

from support import bag_mutants

from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.reports.table import Table

RESULTS = Path(__file__).parent / "results" / "fuzz_bags.md"
LIMIT_S, LIMIT_BYTES = 20, 1_000_000_000


def judge(mutant: bag_mutants.Mutant, folder: Path) -> str:
    """ "converted", "refused", or what is wrong with what became of the mutant."""
    from pose2rgbd_ros.bags.reader import open_bag
    from pose2rgbd_ros.convert.bag import convert
    from pose2rgbd_ros.convert.settings import ConvertConfig
    from pose2rgbd_ros.errors import UserError

    path = folder / f"bag{mutant.suffix}"
    path.write_bytes(mutant.data)
    found = 0
    try:
        with open_bag(path) as bag:
            known = [name for name, info in bag.topics.items() if info.type in bag_mutants.TYPES]
            found = sum(1 for _ in bag.messages(known)) + sum(bag.unreadable.values())
    except UserError:
        pass
    if found < mutant.least:
        return f"only {found} of {mutant.least} messages before the cut"
    try:
        convert([path], folder / "out", ConvertConfig(jobs=1))
        return "converted"
    except UserError as error:
        return "refused" if "\n" not in str(error) else f"refused in several lines: {error}"


def run(number: int, wholes: dict[str, tuple[str, bytes, list[int]]], folder: Path) -> tuple[str, str, float]:
    """(kind and damage, outcome, seconds) of one mutant in a process of its own."""
    mutant = bag_mutants.mutant(number, wholes)
    name, begin = f"{mutant.kind}: {mutant.damage}", time.monotonic()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.alarm(LIMIT_S)
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + LIMIT_BYTES, now + LIMIT_BYTES))
        try:
            outcome = judge(mutant, folder)
        except BaseException:
            outcome = "traceback: " + " | ".join(traceback.format_exc().splitlines()[-7:])
        os.write(writing, outcome.encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        outcome = pipe.read().decode()
    status = os.waitpid(child, 0)[1]
    if not outcome:
        outcome = "hung" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM else "killed"
    return name, outcome, time.monotonic() - begin


def main() -> None:
    """Run all mutants; exit status 1 when one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=None, help="a folder for the mutants that fail")
    options, on = parser.parse_args(), described()
    from pose2rgbd_ros.convert import bag as rosbag  # noqa: F401 - once, not in every child

    outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in bag_mutants.KINDS}
    failures, longest = [], 0.0
    with tempfile.TemporaryDirectory() as name:
        wholes = bag_mutants.make_wholes(Path(name) / "whole")
        for number in range(options.first, options.first + options.count):
            folder = Path(name) / "mutant"
            folder.mkdir()
            what, outcome, seconds = run(number, wholes, folder)
            longest = max(longest, seconds)
            kind = what.split(":")[0]
            outcomes[kind][outcome if outcome in ("converted", "refused") else "failed"] += 1
            if outcome not in ("converted", "refused"):
                failures.append(f"{number} {what}: {outcome}")
                print(failures[-1], flush=True)
                if options.keep:
                    shutil.copytree(folder, options.keep / str(number), dirs_exist_ok=True)
            shutil.rmtree(folder)
            if (number + 1) % 200 == 0:
                print(f"{number + 1}: {len(failures)} failures", file=sys.stderr, flush=True)
    table = Table.of({"recording": "", "converted": "d", "refused": "d", "failed": "d"})
    for kind, counts in outcomes.items():
        table.add(kind, *(counts[outcome] for outcome in ("converted", "refused", "failed")))
    print(table.markdown(), f"\nlongest {longest:.1f} s")
    if options.count >= 2000:
        RESULTS.write_text(
            f"# Damaged recordings\n\n`python bench/fuzz_bags.py` on {on}: {options.count} mutants, {len(failures)} "
            "failures; "
            f"the slowest took {longest:.1f} s of the {LIMIT_S} s allowed.\n\n{table.markdown()}\n"
        )
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
