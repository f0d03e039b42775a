"""A report as an HTML page that needs nothing but the pictures beside it; all reports share page.html.jinja."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import jinja2

from pose2rgbd_ros.reports.table import Table

Mood = Literal["good", "bad", "neutral"]


@dataclass(frozen=True)
class Picture:
    """A picture, or a video, by its file's name in the page's folder."""

    file: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A table, paragraphs below it, then pictures and videos, under a heading where there is one."""

    title: str = ""
    table: Table | None = None
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    videos: Sequence[Picture] = ()

    @classmethod
    def showing(cls, title: str, file: str, caption: str, *text: str) -> Section:
        """Of one picture."""
        return cls(title, None, text, [Picture(file, caption)])


@dataclass(frozen=True)
class Page:
    """What all reports have.

    Args:
        verdict: what came out, in one sentence.
        mood: whether that is good, bad, or neither.
        sections: the figures first.
        notes: what a reader must know before trusting the figures.
        provenance: what the figures are of: name -> value.
    """

    title: str
    verdict: str
    sections: Sequence[Section]
    notes: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    mood: Mood = "neutral"

    def html(self) -> bytes:
        """The file. All text is escaped: names of datasets are anyone's."""
        return _template().render(page=self).encode("utf-8", "replace")  # a file's name may be no Unicode


def listed(settings: Mapping[str, object]) -> str:
    """Settings or the like as the text of one entry of `Page.provenance`."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["relative_url"] = lambda file: "./" + quote(os.fsencode(file))
    return environment.from_string(Path(__file__).with_name("page.html.jinja").read_text("utf-8"))
