"""A comparison's picture: the same held-out frames as recorded and as each model shows them, with the errors."""

from __future__ import annotations

from pathlib import Path

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.experiments.compare import Comparison
from pose2rgbd_ros.evaluation.side_by_side import draw_side_by_side, frames_of_groups, show

FRAMES_A_GROUP = 2


def draw_comparison(path: Path, comparison: Comparison) -> None:
    """Write a PNG of seed 0 of each model; nothing where no model was measured."""
    models = [each for each in comparison.models if each.measured]
    if not models:
        return
    dataset = Dataset(comparison.dataset)
    frames, labels = frames_of_groups(dataset, models[0].measured[0].run, FRAMES_A_GROUP)
    shown = [
        show(each.measured[0].run, dataset, frames, device=comparison.config.device, title=each.entry.name)
        for each in models
    ]
    unit = "m" if dataset.depth_kind == "metric" else "relative"
    title = f"{comparison.measured_on}; seed 0 of each model"
    draw_side_by_side(path, shown, labels, title, unit)
