"""Charts for pages: letters are text, colours are the page's, and several in one page do not disturb each other."""

from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from pose2rgbd_ros.reports.charts import (
    COLOURS,
    chart,
    colour_bar,
    error_colours,
    even,
    gradient,
    styled,
    svg,
    tile_url,
)


@styled()
def drawn(title: str) -> str:
    figure, axes = chart()
    axes.plot([0, 1, 2], [1, 3, 2], color=COLOURS["model"], marker=".", label="a model")
    shown = axes.imshow(np.eye(3), cmap=error_colours(), aspect="auto")
    colour_bar(figure, shown, axes, "error (m)")
    even(axes)
    axes.set_title(title)
    axes.legend()
    return svg(figure)


def test_a_drawing_has_the_colours_and_letters_of_its_page() -> None:
    text = drawn("errors <b> & $x^{$")
    assert text.startswith("<svg")
    assert "var(--model)" in text
    assert "var(--ink)" in text
    assert not re.search(r"#0102\w\w", text), "no stand-in for a colour is left"
    assert ">errors &lt;b&gt; &amp; $x^{$</text>" in text
    assert "error (m)" in text
    assert not re.search(r"<(script|style|metadata)|font-family: '", text)
    assert drawn("errors <b> & $x^{$") == text, "the same drawing is the same text"


def test_names_within_drawings_mean_the_same_in_all_of_them() -> None:
    """A page holds several; an id that stood for different things would draw one's marks in the other."""
    found: dict[str, bytes] = {}
    for title in ("one", "another"):
        for part in ElementTree.fromstring(drawn(title)).iter():
            if name := part.get("id"):
                assert found.setdefault(name, ElementTree.tostring(part)) == ElementTree.tostring(part)
    assert found


@pytest.mark.parametrize("colours", [None, "turbo_r"])
def test_a_tile_is_an_image_large_enough_to_see(colours: str | None) -> None:
    image = np.full((8, 10, 3), 200, np.uint8) if colours is None else np.array([[0.0, 1.0], [np.nan, 0.5]])
    head, content = tile_url(image, colours).split(",")
    assert head == "data:image/webp;base64"
    shown = Image.open(io.BytesIO(base64.b64decode(content)))
    assert shown.width >= 128
    assert shown.width * image.shape[0] == shown.height * image.shape[1]
    if colours is not None:
        alpha = np.asarray(shown.convert("RGBA"))[..., 3]
        assert alpha[-1, 0] == 0, "unknown is transparent"
        assert alpha[0].min() == 255


def test_a_gradient_runs_from_the_lowest_to_the_highest_colour() -> None:
    stops = gradient("gray", 3).split(", ")
    assert stops == ["#000000", "#808080", "#ffffff"]
