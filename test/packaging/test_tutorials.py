"""The tutorials do what they say: each page's command lines, word for word with smaller numbers, in a fresh folder.

`python scripts/run_tutorials.py --out FOLDER` runs them as a reader would. One page is among the default tests; the
others take a minute or two of a processor each.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from support.scripts import load_script

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
RUN = load_script("run_tutorials")
CODE = "model_family"  # it has no command lines; test/models/test_families.py runs its code
PAGES = sorted({path.stem for path in RUN.FOLDER.glob("*.md")} - {CODE})
QUICK = {"avoidance_px4"}


@pytest.mark.ros
@pytest.mark.parametrize(
    "page", [page if page in QUICK else pytest.param(page, marks=pytest.mark.slow) for page in PAGES]
)
def test_a_tutorial_does_what_it_says(page: str, tmp_path: Path, ros_domain: int) -> None:
    assert RUN.run_page(RUN.FOLDER / f"{page}.md", tmp_path / page, short=True) == []


@pytest.mark.parametrize("page", PAGES)
def test_lines_are_run_or_left_for_a_reason(page: str) -> None:
    lines = [line for line, _ in RUN.of_page((RUN.FOLDER / f"{page}.md").read_text())]
    assert lines
    for line in lines:
        assert RUN.LEFT.match(line) or re.match(r"pose2rgbd |make demo$", line), line


def test_all_pages_are_on_the_site() -> None:
    shown = re.findall(r"^tutorials/(\w+)$", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE)
    assert sorted(shown) == sorted([*PAGES, CODE])


def test_a_line_that_fails_ends_its_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n    pose2rgbd convert missing.mcap out\n    pose2rgbd inspect out\n")
    (said,) = RUN.run_page(page, tmp_path / "folder", short=True)
    assert "page.md:3: pose2rgbd convert missing.mcap out" in said
    assert "exit status 2: error: missing.mcap" in said


def test_small_numbers_are_appended_to_the_words_of_the_page() -> None:
    words = RUN.command_of("pose2rgbd train relief photos --out run --max-minutes 5", short=True)
    assert words[3:8] == ["train", "relief", "photos", "--out", "run"]
    assert words.index("5") < words.index("0.1"), "the last value of a flag counts"
    assert RUN.command_of("make demo", short=False)[3:] == ["run"]
