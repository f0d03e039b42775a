"""Tables: one set of columns and rows, as Markdown, as CSV and as aligned text."""

from __future__ import annotations

import csv
import io
import re
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose2rgbd_ros.reports.table import Column, Table, aligned, mean_spread

COLUMNS = [
    Column("model"),
    Column("depth_mae", "depth MAE", ".2f", "m"),
    Column("known", format=".0%"),
    Column("told", "said", missing=""),
]
ROWS = [
    {"model": "relief", "depth_mae": 0.254, "known": 0.5, "told": "a"},
    {"model": "mean image", "depth_mae": np.float32("nan"), "known": None},
    {"model": "base", "depth_mae": np.float64(12), "known": 1, "other": "not asked for"},
]


def test_markdown_has_units_and_formats_and_puts_numbers_to_the_right() -> None:
    assert Table(COLUMNS, ROWS, muted=[1]).markdown().splitlines() == [
        "| model | depth MAE (m) | known | said |",
        "|---|---:|---:|---|",
        "| relief | 0.25 | 50% | a |",
        "| *mean image* | – | – |  |",
        "| base | 12.00 | 100% |  |",
    ]


def test_csv_has_keys_and_values_as_they_are() -> None:
    assert Table(COLUMNS, ROWS).csv().splitlines() == [
        "model,depth_mae,known,told",
        "relief,0.254,0.5,a",
        "mean image,nan,,",
        "base,12.0,1,",
    ]


def test_text_is_aligned() -> None:
    assert aligned([("a", "bc"), ("def", ""), ("g", "h")]) == "  a    bc\n  def\n  g    h"
    assert aligned([], indent="") == ""


@pytest.mark.parametrize(
    ("values", "text"),
    [([1.0, 2.0], "1.50 ± 0.71"), ([1.0, np.nan], "1.00"), ([np.inf], "–"), (np.array([3.0]), "3.00")],
)
def test_what_several_seeds_gave_comes_with_its_spread(values: list[float], text: str) -> None:
    assert Column("a", format=mean_spread(".2f")).text(values) == text
    assert mean_spread(".2f", " %")(values) == f"{text} %"


@given(st.lists(st.lists(st.text(string.printable + "|\\äµ", max_size=12), min_size=2, max_size=2), max_size=4))
def test_no_cell_breaks_out_of_its_place(rows: list[list[str]]) -> None:
    table = Table([Column("a"), Column("b")], [dict(zip("ab", row, strict=True)) for row in rows])
    read = list(csv.reader(io.StringIO(table.csv(), newline="")))
    assert read == [["a", "b"], *([cell.replace("\r\n", "\n") for cell in row] for row in rows)]
    lines = table.markdown().splitlines()
    assert len(lines) == 2 + len(rows)
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines)
