"""The documentation site: links of the repository become links of the site, `--help` becomes tables, and what is wrong
with a built site is found. `make docs` builds it, with warnings as errors.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from support.scripts import load_script

PAGES = load_script("docs_pages")
SITE = load_script("check_site")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("page", "link", "becomes"),
    [
        ("README.md", "docs/convert.md", "convert.md"),
        ("README.md", "docs/decisions/", "decisions/index.md"),
        ("README.md", "CONTRIBUTING.md", "contributing.md"),
        ("docs/align.md", "../bench/results/align_speed.md", "figures/align_speed.md"),
        ("docs/nodes/avoid.md", "../convert.md#the-report", "../convert.md#the-report"),
        ("docs/decisions/0010-relief-march.md", "../../bench/results/relief_speed.md", "../figures/relief_speed.md"),
        ("docs/consumers/px4.md", "../../config/fastdds.xml", "../files/config/fastdds.xml"),
        ("bench/results/growth.md", "growth.png", "growth.png"),
        ("bench/results/models.md", "../../docs/models.md", "../models.md"),
        ("docs/convert.md", "https://example.org/a.md", "https://example.org/a.md"),
        ("docs/convert.md", "missing.md", "missing.md"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(page: str, link: str, becomes: str) -> None:
    text, files = PAGES.site_links(f"see [it]({link}), or not", page, ROOT)
    assert text == f"see [it]({becomes}), or not"
    assert files == (["config/fastdds.xml"] if "files/" in becomes else [])


def test_help_is_taken_apart() -> None:
    """What tyro prints of a command with groups, long flags and descriptions over several lines."""
    ((command, said),) = PAGES.helps(["evaluate"])
    shown = PAGES.read_help(said)
    assert command == ("evaluate",)
    assert shown.usage.startswith("pose2rgbd evaluate ")
    assert shown.about.startswith("Measure a model on frames it was not trained on")
    titles = [group.title for group in shown.groups]
    assert titles[:2] == ["positional arguments", "options"]
    assert "flight options" in titles
    options = {written.split()[0]: does for group in shown.groups for written, does in group.rows}
    assert "--help" not in options
    assert options["--size"].startswith("side of the pictures in pixels")
    assert "(default: checkpoint)" in options["--split"], "a description that begins below its flag"
    assert "--flight.smooth" in "".join(options)


def test_commands_below_a_command_are_found() -> None:
    found = [" ".join(command) for command, _ in PAGES.helps(["sim"])]
    assert found[0] == "sim"
    assert {"sim dataset", "sim bag", "sim photos", "sim video"} <= set(found)


@pytest.mark.parametrize(
    ("html", "says"),
    [
        ('<img src="https://example.org/a.png">', "fetches https://example.org/a.png"),
        ('<script src="//example.org/a.js"></script>', "fetches //example.org/a.js"),
        ('<a href="gone.html">x</a>', "leads to gone.html, which does not exist"),
        ('<a href="other.html#gone">x</a>', "leads to other.html#gone, which has no such place"),
        ('<a href="#gone">x</a>', "leads to #gone, which has no such place"),
        ('<a href="other.html#here">x</a><a href="https://example.org">y</a>', ""),
    ],
)
def test_what_a_site_lacks_is_said(tmp_path: Path, html: str, says: str) -> None:
    (tmp_path / "index.html").write_text(html)
    (tmp_path / "other.html").write_text('<h1 id="here">x</h1>')
    found = SITE.problems(tmp_path)
    assert found == ([f"index.html {says}"] if says else [])


def test_a_font_from_elsewhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("x")
    (tmp_path / "a.css").write_text("@font-face { src: url('https://fonts.example.org/a.woff2') }")
    assert SITE.problems(tmp_path) == ["a.css fetches https://fonts.example.org/a.woff2"]
