"""Run the tutorials as they are written: each page's command lines, one after another, in a fresh folder.

    python scripts/run_tutorials.py --out FOLDER                      # all pages, as a reader would: an hour and a half
    python scripts/run_tutorials.py --out FOLDER --short              # word for word, with smaller numbers appended
    python scripts/run_tutorials.py --out FOLDER --short photographs  # one page

Running nodes are ended, as with Ctrl-C, once they have shown what check_docs_commands.py says of their line. Lines that
prepare a shell, need a recording of yours or the `ros2` command are named and left out.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

from check_docs_commands import ROOT, last_line, listen, of_page, process, rule_of

FOLDER = ROOT / "docs" / "tutorials"
# Lines that are not run in a tutorial.
LEFT = re.compile(
    r"(source|ros2|python -m pytest)\b|pose2rgbd record --out flight --bag"  # the last: a drone of yours
)
# What --short appends to a line; the last value of a flag counts. Of several that fit the first is taken.
SHORT = (
    (r"make demo", "--convert.every 2 --train.max-minutes 0.2 --live-s 3 --video-s 0"),
    (r"pose2rgbd sim photos", "--photos 10 --width 320 --height 240 --flight.area-m 50 --flight.width-m 30"),
    (r"pose2rgbd sim video", "--duration-s 16 --rate-hz 4 --width 320 --height 240"),
    (r"pose2rgbd sim bag", "--duration-s 8 --width 160 --height 120"),
    (r"pose2rgbd sim dataset", "--frames 500 --size 48 --processes 1"),
    (r"pose2rgbd run", "--train.max-minutes 0.1 --train.size 64 --train.model relief --live-s 0 --video-s 0"),
    (r"pose2rgbd train relief", "--max-minutes 0.1 --size 48"),
    (r"pose2rgbd train posegan", "--max-minutes 0.15 --size 32"),
    (r"pose2rgbd evaluate", "--video-s 0"),
    (r"pose2rgbd locate", "--every 30"),
)
# What is appended in any case: a page that is served until Ctrl-C is tested in test/viewer.
ALWAYS = ((r"pose2rgbd view", "--export view.html"),)


def command_of(line: str, short: bool) -> list[str]:
    """A line as it is run: `make demo` is `pose2rgbd run`, which is what it does once all is set up."""
    appended = (*ALWAYS, *SHORT) if short else ALWAYS
    more = next((words for pattern, words in appended if re.match(pattern, line)), "")
    words = shlex.split(f"{line} {more}")
    if words[:2] == ["make", "demo"]:
        words = ["pose2rgbd", "run", *words[2:]]
    return [sys.executable, "-m", "pose2rgbd_ros.cli.main", *words[1:]] if words[0] == "pose2rgbd" else words


def run_line(line: str, folder: Path, short: bool) -> str:
    """Why a line does not do what its page promises; empty: it does."""
    log, rule, words = folder / "log.txt", rule_of(line), command_of(line, short)
    shows = rule.shows if rule else {}
    with log.open("w") as stream:
        if not shows:
            done = subprocess.run(words, stdout=stream, stderr=subprocess.STDOUT, cwd=folder, stdin=subprocess.DEVNULL)
            return f"exit status {done.returncode}: {last_line(log)}" if done.returncode else ""
        with process(words, stream, folder) as node:
            missing = listen(shows, lambda: node.poll() is not None)
    if missing:
        return f"{missing}: {last_line(log)}"
    return "" if node.returncode in (0, -2) else f"ended with {node.returncode}: {last_line(log)}"


def run_page(page: Path, folder: Path, short: bool) -> list[str]:
    """Run a page's lines in `folder`, which is made; what is wrong, a line each. Ends at the first line that fails."""
    folder.mkdir(parents=True)
    for line, number in of_page(page.read_text()):
        where = f"{page.name}:{number}: {line}"
        if LEFT.match(line):
            print(f"left  {where}", flush=True)
            continue
        begun = time.monotonic()
        wrong = run_line(line, folder, short)
        print(f"{'FAIL' if wrong else 'good'}  {where} ({time.monotonic() - begun:.0f} s)", flush=True)
        if wrong:
            return [f"{where}\n      {wrong}"]
    return []


def main() -> int:
    """Exit status 1 when a page does not do what it promises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", help="names of pages; default: all")
    parser.add_argument("--out", type=Path, required=True, help="a folder for each page is made here")
    parser.add_argument("--short", action="store_true", help="with smaller numbers")
    arguments = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", "78")
    names = arguments.pages or sorted(path.stem for path in FOLDER.glob("*.md"))
    wrong = [said for name in names
             for said in run_page(FOLDER / f"{name}.md", arguments.out.absolute() / name, arguments.short)]  # fmt: skip
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
