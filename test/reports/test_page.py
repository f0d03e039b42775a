"""The page of every report: whole, self-contained, and proof against any name that a dataset may have."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.pages import read_page

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.reports.page import Chart, Command, Figure, Page, Picture, Scale, Section, Tiles
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
    Page(text, text, [section], [text], {text: text}, "good").write(path)
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
    assert page.pictures == [PNG]


def test_a_name_that_is_no_unicode_does_not_cost_the_page(tmp_path: Path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    (tmp_path / f"{name}.png").write_bytes(PNG)
    picture, video = Picture(f"{name}.png", name), Picture(f"{name}.mp4", name)
    page = Page(name, name, [Section(pictures=[picture], videos=[video])])
    page.write(tmp_path / "index.html")
    written = (tmp_path / "index.html").read_bytes()
    assert b'src="./caf%E9.mp4"' in written
    assert "<h1>caf?</h1>" in written.decode()
    assert Page.read(tmp_path / "index.json").title == name


def test_what_a_report_lacks_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    Page("a", "b", [Section(text=["c"]), Section("d", Table([Column("e")], []))]).write(path)
    page = read_page(path)
    assert page.verdict == ("neutral", "b")
    assert page.text == "a a b c d e"
    assert not any(tag in path.read_text() for tag in ("<ul", "<figure>", "<footer>"))


def test_the_template_is_installed_with_the_package(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, "setup.py", "-q", "build_py", "-d", str(tmp_path)]
    subprocess.run(command, cwd=repository, check=True, capture_output=True)
    code = (
        "from pathlib import Path; from pose2rgbd_ros.reports import page; "
        "print(page.__file__, page.Page('a <b>', 'c', []).html(Path()))"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert told.startswith(str(tmp_path))
    assert "<h1>a &lt;b&gt;</h1>" in told


def test_every_part_is_shown_once_in_the_order_given(tmp_path: Path) -> None:
    sections = [Section(f"title{i}", Table([Column("k", f"column{i}")], []), [f"text{i}"]) for i in range(3)]
    path = tmp_path / "index.html"
    Page("t", "v", sections, ["note0", "note1"], {"p": "q"}).write(path)
    text = read_page(path).text
    parts = ["note0", "note1", *itertools.chain(*((f"title{i}", f"column{i}", f"text{i}") for i in range(3))), "q"]
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)
    assert all(text.count(part) == 1 for part in parts[:-1])


def test_a_page_is_its_own_data(tmp_path: Path) -> None:
    """All kinds of parts come back from the JSON, and the tables there hold units and unrounded values."""
    columns = [Column("method", ""), Column("depth_mae", "depth", ".2f", "m")]
    table = Table(columns, [{"method": "model", "depth_mae": np.float32(0.25)}, {"depth_mae": float("nan")}], [0])
    tiles = Tiles(["recorded", "error"], [None, Scale("0", "3 m", "#000, #fff")], [("t = 1 s", ["", ""])], "tiles")
    section = Section(
        "all", table, ["text"], [], [], [Chart("<svg></svg>", "chart", True)], tiles, [Command("ls", "lists")], "make"
    )
    page = Page("t", "v", [section], ["n"], {"a": "b"}, "bad", [Figure("rate", "20 Hz", "of 30")])
    page.write(tmp_path / "index.html")
    values = json.loads((tmp_path / "index.json").read_text())["sections"][0]["table"]
    assert values["rows"] == [{"method": "model", "depth_mae": 0.25}, {"method": None, "depth_mae": None}]
    assert values["columns"][1] == {"key": "depth_mae", "title": "depth", "unit": "m", "is_number": True}
    assert values["cells"] == [["model", "0.25"], ["–", "–"]]
    again = Page.read(tmp_path / "index.json")
    assert again.html(tmp_path) == page.html(tmp_path)
    assert read_page(tmp_path / "index.html").text.count("lists") == 1


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"schema": "pose2rgbd.page/0"}', '{"schema": "pose2rgbd.page/1"}']
)
def test_what_is_no_page_is_said_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(UserError, match=r"index.json is no page of a report; make it again"):
        Page.read(tmp_path / "index.json")


def test_many_sections_get_a_list_of_links(tmp_path: Path) -> None:
    Page("t", "v", [Section(f"{number}. part?") for number in range(5)]).write(tmp_path / "index.html")
    assert '<a href="#3-part">3. part?</a>' in (tmp_path / "index.html").read_text()
    read_page(tmp_path / "index.html")
