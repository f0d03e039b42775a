"""Reads a report's page as a browser would, and holds it to what every page has to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

VOID = {"meta", "img", "link", "br", "hr", "input"}
PLAYER = {"controls", "loop", "muted", "playsinline", "preload"}
USED = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "ul", "li", "section", "div", "table", "thead",
    "tbody", "tr", "th", "td", "figure", "a", "img", "video", "figcaption", "footer", "dl", "dt", "dd",
}  # fmt: skip


@dataclass
class ReadPage:
    """text: all that can be seen, blanks joined; tables: of rows of cells; styles: of each table's rows the class."""

    title: str = ""
    text: str = ""
    css: str = ""
    verdict: tuple[str, str] = ("", "")  # its class and its text
    pictures: list[Path] = field(default_factory=list)
    videos: list[Path] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)
    styles: list[list[str]] = field(default_factory=list)


def read_page(path: Path) -> ReadPage:
    """The page, once it is whole: its tags are ours and closed, nothing runs, every file it names is beside it."""
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
    for link in reader.links + reader.videos:
        scheme, host, _, query, fragment = urlsplit(link)
        assert not any((scheme, host, query, fragment)), f"not beside the page: {link}"
    page.pictures = [path.parent / unquote_to_bytes(urlsplit(link).path).decode() for link in reader.links[1::2]]
    page.videos = [path.parent / unquote_to_bytes(urlsplit(link).path).decode() for link in reader.videos]
    for video in page.videos:
        assert video.read_bytes()[4:8] == b"ftyp", video
    for picture in page.pictures:
        assert picture.read_bytes().startswith(b"\x89PNG"), picture
    return page


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = ReadPage()
        self.open: list[str] = []
        self.links: list[str] = []
        self.videos: list[str] = []
        self.viewport = False
        self._class = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        assert tag in USED, f"<{tag}> is none of ours"
        known = {"lang", "charset", "name", "content", "class", "href", "src", "alt"}
        assert not set(values) - known - (PLAYER if tag == "video" else set()), values
        self.viewport |= values.get("name") == "viewport"
        links = self.videos if tag == "video" else self.links
        links += [values[name] for name in ("href", "src") if name in values]
        if tag not in VOID:
            self.open.append(tag)
        self._class = values.get("class", "")
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
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        if inside == "style":
            self.page.css += data
            return
        if inside == "title":
            self.page.title += data
        if inside in ("td", "th"):
            self.page.tables[-1][-1][-1] += data
        if inside == "p" and self._class.startswith("verdict "):
            self.page.verdict = (self.page.verdict[0], data)
        self.page.text += f" {data}"
