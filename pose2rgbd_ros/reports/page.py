"""A report as one HTML file, and as data beside it. All reports share page.html.jinja: one look, light and dark, for
screens, telephones and paper. Pictures are inside the file; only a video lies beside it.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.reports.table import Column, Table

if TYPE_CHECKING:
    import jinja2

Mood = Literal["good", "bad", "neutral"]
SCHEMA = "pose2rgbd.page/1"  # of the JSON beside a page; a key that changes its meaning makes it 2


@dataclass(frozen=True)
class Picture:
    """A picture, or a video, by its file's name below the page's folder."""

    file: str
    caption: str


@dataclass(frozen=True)
class Chart:
    """A drawing as SVG (`reports.charts` makes them). wide: as wide as the page; else two stand side by side."""

    svg: str
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Scale:
    """The colours of a column of tiles: what the ends mean (texts with units), and a CSS gradient between them."""

    low: str
    high: str
    gradient: str


@dataclass(frozen=True)
class Tiles:
    """Small images in rows. titles, scales: of the columns (None: a photograph); rows: a label, and for each column an
    image as `image_url` makes it ("": there is none).
    """

    titles: Sequence[str]
    scales: Sequence[Scale | None]
    rows: Sequence[tuple[str, Sequence[str]]]
    caption: str = ""


@dataclass(frozen=True)
class Command:
    """A command line and what it does."""

    line: str
    about: str


@dataclass(frozen=True)
class Figure:
    """A number to read first, as text with its unit, what it is, and what it stands beside."""

    name: str
    text: str
    beside: str = ""


@dataclass(frozen=True)
class Section:
    """Under a heading, where there is one: a table, paragraphs, charts, tiles, pictures, videos, commands.

    made_by: the command that makes the figures of this section again.
    """

    title: str = ""
    table: Table | None = None
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    videos: Sequence[Picture] = ()
    charts: Sequence[Chart] = ()
    tiles: Tiles | None = None
    commands: Sequence[Command] = ()
    made_by: str = ""

    @classmethod
    def showing(cls, title: str, file: str, caption: str, *text: str) -> Section:
        """Of one picture."""
        return cls(title, None, text, [Picture(file, caption)])

    @property
    def anchor(self) -> str:
        """For links within the page."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.title.lower()).split())


@dataclass(frozen=True)
class Page:
    """What all reports have.

    Args:
        verdict: what came out, in one sentence.
        mood: whether that is good, bad, or neither.
        sections: the figures first.
        notes: what a reader must know before trusting the figures.
        provenance: what the figures are of: name -> value.
        figures: the few numbers that stand above everything else.
    """

    title: str
    verdict: str
    sections: Sequence[Section]
    notes: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    mood: Mood = "neutral"
    figures: Sequence[Figure] = ()

    def html(self, folder: Path) -> bytes:
        """The file; pictures and videos are below `folder`. All text is escaped: names of datasets are anyone's.

        OSError of a picture that cannot be read passes through.
        """
        text = _template().render(page=self, embedded=lambda file: image_url((folder / file).read_bytes()))
        return text.encode("utf-8", "replace")  # a file's name may be no Unicode

    def write(self, path: Path) -> None:
        """Write the page, and its data as JSON under the same name. OSError passes through.

        Under each name there is the old file or the new one, never half of one.
        """
        data = json.dumps(self.to_dict(), indent=1, ensure_ascii=True)
        for file, content in ((path, self.html(path.parent)), (path.with_suffix(".json"), data.encode())):
            temporary = file.with_name(f".{file.name}.tmp")
            temporary.write_bytes(content)
            temporary.replace(file)

    def to_dict(self) -> dict[str, Any]:
        """The page as plain values. Tables have keys, units, values as they are (NaN: null), and cells as shown."""
        return {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in ("title", "verdict", "mood")},
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
            "figures": [asdict(figure) for figure in self.figures],
            "sections": [_section_dict(section) for section in self.sections],
        }

    @classmethod
    def read(cls, path: Path) -> Page:
        """A page by its JSON. UserError: there is none, or one of another version."""
        try:
            values = json.loads(path.read_text("utf-8"))
            assert values.pop("schema") == SCHEMA
            figures = [Figure(**each) for each in values.pop("figures")]
            return cls(**{**values, "sections": list(map(_section_of, values["sections"])), "figures": figures})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            raise UserError(f"{path} is no page of a report; make it again") from error


def moved(section: Section, folder: str) -> Section:
    """A section for a page that stands above its `folder`: its pictures and videos are found there."""

    def within(pictures: Sequence[Picture]) -> list[Picture]:
        return [replace(picture, file=f"{folder}/{picture.file}") for picture in pictures]

    return replace(section, pictures=within(section.pictures), videos=within(section.videos))


def listed(settings: Mapping[str, object]) -> str:
    """Settings or the like as the text of one entry of `Page.provenance`."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())


WEBP_QUALITY = 84


def image_url(content: bytes, quality: int = WEBP_QUALITY) -> str:
    """A picture file (PNG, JPEG) as a `data:` address, as WebP where that is smaller."""
    from PIL import Image  # 30 ms that the command line need not wait for

    kind = "jpeg" if content.startswith(b"\xff\xd8") else "png"
    buffer = io.BytesIO()
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.save(buffer, "WEBP", quality=quality, method=4)
    except (OSError, ValueError):  # larger than WebP's 16383 pixels, or no picture: as it is
        buffer.truncate(0)
    if 0 < buffer.tell() < len(content):
        kind, content = "webp", buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _section_dict(section: Section) -> dict[str, Any]:
    """Without the parts that are empty."""
    values = {
        "title": section.title,
        "table": section.table and _table_dict(section.table),
        "text": list(section.text),
        "charts": [asdict(chart) for chart in section.charts],
        "tiles": section.tiles and asdict(section.tiles),
        "pictures": [asdict(picture) for picture in section.pictures],
        "videos": [asdict(video) for video in section.videos],
        "commands": [asdict(command) for command in section.commands],
        "made_by": section.made_by,
    }
    return {name: value for name, value in values.items() if value}


def _section_of(values: dict[str, Any]) -> Section:
    of = {"pictures": Picture, "videos": Picture, "charts": Chart, "commands": Command}
    made: dict[str, Any] = {name: values[name] for name in ("title", "text", "made_by") if name in values}
    made |= {name: [kind(**each) for each in values[name]] for name, kind in of.items() if name in values}
    if tiles := values.get("tiles"):
        scales = [scale and Scale(**scale) for scale in tiles["scales"]]
        made["tiles"] = Tiles(tiles["titles"], scales, [(name, row) for name, row in tiles["rows"]], tiles["caption"])
    if table := values.get("table"):
        columns = [
            Column(each["key"], each["title"], ".0f" if each["is_number"] else "", each["unit"])
            for each in table["columns"]
        ]
        rows = [dict(zip((column.key for column in columns), cells, strict=True)) for cells in table["cells"]]
        made["table"] = Table(columns, rows, table["strong"], table["muted"])
    return Section(**made)


def _table_dict(table: Table) -> dict[str, Any]:
    columns = [
        {"key": each.key, "title": each.title, "unit": each.unit, "is_number": bool(each.format)}
        for each in table.columns
    ]
    rows = [{column.key: plain(row.get(column.key)) for column in table.columns} for row in table.rows]
    return {
        "columns": columns, "rows": rows, "cells": table.body, "strong": sorted(table.strong),
        "muted": sorted(table.muted),
    }  # fmt: skip


def plain(value: Any) -> Any:
    """A value as JSON has it: NumPy's as plain ones, NaN and infinities as None, what it does not know as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # NumPy's, without importing it
        value = value.tolist()
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


@functools.cache
def _template() -> jinja2.Template:
    # Loaded with the first page that is drawn: what only describes one, or prints JSON, also runs on an aircraft.
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["relative_url"] = lambda file: "./" + quote(os.fsencode(file))
    environment.filters["svg"] = Markup  # drawn by ourselves, and its text is escaped there
    environment.filters["words"] = _words
    return environment.from_string(Path(__file__).with_name("page.html.jinja").read_text("utf-8"))


def _words(text: str) -> Iterator[tuple[str, bool]]:
    """Pieces of a text and whether they are code, which stands between backquotes."""
    for number, piece in enumerate(text.split("`")):
        if piece:
            yield piece, number % 2 == 1 and text.count("`") % 2 == 0
