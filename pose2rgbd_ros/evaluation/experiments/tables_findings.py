"""Whether what the paper concludes from a table holds in ours: counted, not judged."""

from __future__ import annotations

import re
from collections.abc import Callable

from pose2rgbd_ros.evaluation.experiments.run import Measured
from pose2rgbd_ros.evaluation.experiments.tables_plan import Row

MEASURES = ("rgb_mae_px", "depth_mae")
# table -> what the paper says is better, and which rows it is compared with: same output, other first cell
CLAIMS = {1: ("6DoF-Quat", "6DoF"), 2: ("Slice", "Base"), 3: ("Slice", "Base")}

Figures = Callable[[Row, Measured], list[float | None]]


def finding(number: int, rows: list[tuple[Row, Measured]], groups: list[str]) -> str:
    """One sentence: in how many figures the one is below the other, in the paper and in ours by group; "" too early."""
    better, worse = CLAIMS[number]
    pairs = [(a, b) for a in rows for b in rows if _is(a, better) and _is(b, worse) and _alike(a, b)]
    counts = [("the paper", _count(pairs, lambda row, _: list(row.paper)))]
    for group in groups:
        counts.append((f"ours, {group}", _count(pairs, lambda _, each, g=group: _figures(each, g))))  # type: ignore[misc]
    told = [f"{below} of {of} ({where})" for where, (below, of) in counts if of]
    if len(told) < 2:
        return ""
    return f"Figures in which {better} has a smaller error than {worse}: {', '.join(told)}."


def _is(row: tuple[Row, Measured], name: str) -> bool:
    """Whether the first cell is the name, or the name with a number: "Slice-10" is Slice, "Base + both" is not Base."""
    return re.fullmatch(rf"{name}(-\d+)?", row[0].cells[0]) is not None


def _alike(a: tuple[Row, Measured], b: tuple[Row, Measured]) -> bool:
    return a[0].cells[1:] == b[0].cells[1:]


def _figures(each: Measured, group: str) -> list[float | None]:
    scores = each.groups.get(group, {}).get("model", {})
    return [scores.get(name) for name in MEASURES]


def _count(
    pairs: list[tuple[tuple[Row, Measured], tuple[Row, Measured]]], figures: Figures
) -> tuple[int, int]:
    """How many figures of the first rows are below those of the second ones, and how many there are in both."""
    both = [
        (x, y)
        for a, b in pairs
        for x, y in zip(figures(*a), figures(*b), strict=True)
        if x is not None and y is not None
    ]
    return sum(x < y for x, y in both), len(both)
