"""Reads a report's page as a browser would, and holds it to what every page has to be."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from pose2rgbd_ros.reports.page import Page

VOID = {"meta", "img", "link", "br", "hr", "input"}
PLAYER = {"controls", "loop", "muted", "playsinline", "preload"}
USED = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "ul", "li", "section", "div", "table", "thead",
    "tbody", "tr", "th", "td", "figure", "a", "img", "video", "figcaption", "footer", "dl", "dt", "dd", "nav", "code",
    "b", "span",
}  # fmt: skip
DRAWN = {"svg", "defs", "g", "path", "use", "clippath", "rect", "text", "tspan", "image"}
KNOWN = {"lang", "charset", "name", "content", "class", "href", "src", "alt", "http-equiv", "id", "style"}


@dataclass
class ReadPage:
    """text: all that can be seen, blanks joined, without letters of charts; tables: of rows of cells, without those of
    tiles; styles: of each table's rows the class; pictures, tiles: contents of the files within; charts: their letters.
    """

    title: str = ""
    text: str = ""
    css: str = ""
    verdict: tuple[str, str] = ("", "")  # its class and its text
    files: list[str] = field(default_factory=list)  # names of the pictures' files
    pictures: list[bytes] = field(default_factory=list)
    tiles: list[bytes] = field(default_factory=list)
    charts: list[str] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)
    styles: list[list[str]] = field(default_factory=list)


def read_page(path: Path) -> ReadPage:
    """The page, once it is whole: its tags are ours and closed, nothing runs, no file is named but videos beside it,
    and the JSON beside it says the same.
    """
    reader = _Reader()
    reader.feed(path.read_text("utf-8"))
    reader.close()
    assert reader.open == [], "tags left open"
    page = reader.page
    page.text = " ".join(page.text.split())
    assert "prefers-color-scheme: dark" in page.css
    assert "url(" not in page.css
    assert "@import" not in page.css
    assert reader.viewport, "readable on a phone"
    assert "default-src 'none'" in reader.policy, "nothing is fetched, and no script runs"
    for link in reader.videos:
        scheme, host, _, query, fragment = urlsplit(link)
        assert not any((scheme, host, query, fragment)), f"not beside the page: {link}"
    page.videos = [path.parent / unquote_to_bytes(urlsplit(link).path).decode() for link in reader.videos]
    for video in page.videos:
        assert video.read_bytes()[4:8] == b"ftyp", video
    for kept in (page.pictures, page.tiles):
        assert all(content[:4] in (b"\x89PNG", b"RIFF") or content[:2] == b"\xff\xd8" for content in kept)
    assert set(reader.jumps) <= set(reader.anchors), "a link leads to a section of the page"
    data = json.loads(path.with_suffix(".json").read_text())
    page.files = [picture["file"] for section in data["sections"] for picture in section.get("pictures", [])]
    assert len(page.files) == len(page.pictures)
    assert (data["title"], data["verdict"]) == (page.title, page.verdict[1])
    assert Page.read(path.with_suffix(".json")).html(path.parent) == path.read_bytes(), "it is the page as data"
    return page


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = ReadPage()
        self.open: list[str] = []
        self.videos: list[str] = []
        self.jumps: list[str] = []
        self.anchors: list[str] = []
        self.policy = ""
        self.viewport = False
        self._class = ""
        self._classes: list[str] = []  # of the open tags

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        assert not any(name.startswith("on") for name in values), values
        if tag not in VOID:
            self._classes.append(values.get("class", ""))
        if "svg" in self.open or tag == "svg":
            assert tag in DRAWN, f"<{tag}> is none of a drawing"
            assert values.get("href", "#").startswith(("#", "data:image/png;base64,")), values
            if tag == "svg":
                self.page.charts.append("")
            self.open.append(tag)
            return
        assert tag in USED, f"<{tag}> is none of ours"
        assert not set(values) - KNOWN - (PLAYER if tag == "video" else set()), values
        self.viewport |= values.get("name") == "viewport"
        if values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"]
        if tag == "video":
            self.videos.append(values["src"])
        elif tag == "img":
            head, content = values["src"].split(",")
            assert head in ("data:image/png;base64", "data:image/webp;base64", "data:image/jpeg;base64")
            kept = self.page.pictures if values.get("class") == "picture" else self.page.tiles
            kept.append(base64.b64decode(content))
        elif tag == "a":
            assert values["href"].startswith("#")
            self.jumps.append(values["href"][1:])
        self.anchors += [values["id"]] if "id" in values else []
        if tag not in VOID:
            self.open.append(tag)
        self._class = values.get("class", "")
        if "tiles" in self._classes:
            return
        if tag == "table":
            self.page.tables.append([])
            self.page.styles.append([])
        if tag == "tr":
            self.page.tables[-1].append([])
            self.page.styles[-1].append(self._class)
        if tag in ("td", "th"):
            self.page.tables[-1][-1].append("")
        if tag == "p" and self._class.startswith("verdict "):
            self.page.verdict = (self._class.removeprefix("verdict "), "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        self._classes.pop()
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside == "style":
            self.page.css += data
            return
        if inside == "title":
            self.page.title += data
        if "svg" in self.open:
            self.page.charts[-1] += f" {data.strip()}" if data.strip() else ""
            return
        if "td" in self.open or "th" in self.open:
            if "tiles" in self._classes:
                return
            self.page.tables[-1][-1][-1] += data
        if inside == "p" and self._class.startswith("verdict "):
            self.page.verdict = (self.page.verdict[0], data)
        self.page.text += f" {data}"
