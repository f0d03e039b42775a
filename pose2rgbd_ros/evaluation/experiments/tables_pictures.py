"""A table's picture: held-out frames as recorded and as each network of the table shows them."""

from __future__ import annotations

from pathlib import Path

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.experiments.tables import Filled
from pose2rgbd_ros.evaluation.side_by_side import draw_side_by_side, frames_of_groups, show

FRAMES_A_GROUP = 2


def draw_table(path: Path, filled: Filled) -> None:
    """Write a PNG: two frames of each group, colour above, depth below; columns: recorded, then the RGBD rows."""
    rows = [(row, each) for row, each in filled.rows if not each.error and row.settings["output"] == "rgbd"]
    if not rows:
        return
    dataset = Dataset(filled.dataset)
    frames, labels = frames_of_groups(dataset, rows[0][1].run, FRAMES_A_GROUP)
    models = [show(each.run, dataset, frames, title=row.cells[0]) for row, each in rows]
    unit = "m" if dataset.depth_kind == "metric" else "relative"
    title = f"Table {filled.table.number}: {filled.table.title}\n{filled.measured_on}"
    draw_side_by_side(path, models, labels, title, unit, errors=False)
