"""The page of every report: whole, self-contained, and proof against any name that a dataset may have."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from support.pages import read_page

from pose2rgbd_ros.reports.page import Page, Picture, Section
from pose2rgbd_ros.reports.table import Column, Table

PNG = b"\x89PNG\r\n\x1a\n"
HOSTILE = """<img src=x onerror=alert(1)> "' & {{ 7*7 }} {% raw %} %41 #? javascript:alert(1) | <!-- </title>"""


def written(folder: Path, text: str) -> Path:
    """A page in which everything is `text`, and a picture of that name beside it."""
    name = f"{text.replace('/', '_')}.png"
    (folder / name).write_bytes(PNG)
    table = Table(
        [Column("a", text, unit=text), Column("b", format=".1f")], [{"a": text, "b": 1.0}, {"a": "c"}], [0], [1]
    )
    section = Section(text, table, [text], [Picture(name, text)])
    path = folder / "index.html"
    path.write_bytes(Page(text, text, [section], [text], {text: text}, "good").html())
    return path


@pytest.mark.parametrize("text", ["a flight", HOSTILE, "Flüge über Straßen 42°", "$x^{$", "a\nb"])
def test_any_text_is_shown_as_it_is(tmp_path: Path, text: str) -> None:
    page = read_page(written(tmp_path, text))
    assert page.title == text
    assert page.verdict == ("good", text)
    shown = " ".join(text.split())
    assert page.text.count(shown) == 12, "each place shows it"
    assert page.tables == [[[f"{text} ({text})", "b"], [text, "1.0"], ["c", "–"]]]
    assert page.styles == [["", "strong", "muted"]]
    assert [picture.name for picture in page.pictures] == [f"{text.replace('/', '_')}.png"]


def test_a_name_that_is_no_unicode_does_not_cost_the_page(tmp_path: Path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    (tmp_path / f"{name}.png").write_bytes(PNG)
    page = Page(name, name, [Section(pictures=[Picture(f"{name}.png", name)])]).html()
    assert b'src="./caf%E9.png"' in page
    assert "<h1>caf?</h1>" in page.decode()


def test_what_a_report_lacks_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_bytes(Page("a", "b", [Section(text=["c"]), Section("d", Table([Column("e")], []))]).html())
    page = read_page(path)
    assert page.verdict == ("neutral", "b")
    assert page.text == "a a b c d e"
    assert not any(tag in path.read_text() for tag in ("<ul", "<figure>", "<footer>"))


def test_the_template_is_installed_with_the_package(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "build_py", "-d", str(tmp_path)]
    subprocess.run(command, cwd=repository, check=True, capture_output=True)
    code = "from pose2rgbd_ros.reports import page; print(page.__file__, page.Page('a <b>', 'c', []).html())"
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert told.startswith(str(tmp_path))
    assert "<h1>a &lt;b&gt;</h1>" in told


def test_every_part_is_shown_once_in_the_order_given(tmp_path: Path) -> None:
    sections = [Section(f"title{i}", Table([Column("k", f"column{i}")], []), [f"text{i}"]) for i in range(3)]
    path = tmp_path / "index.html"
    path.write_bytes(Page("t", "v", sections, ["note0", "note1"], {"p": "q"}).html())
    text = read_page(path).text
    parts = ["note0", "note1", *itertools.chain(*((f"title{i}", f"column{i}", f"text{i}") for i in range(3))), "q"]
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)
    assert all(text.count(part) == 1 for part in parts[:-1])
