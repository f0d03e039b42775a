"""An evaluation as files: metrics.yaml for programs, table.md and sheets for notes, index.html to look at first."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import counted, os_errors
from pose2rgbd_ros.evaluation.result import METHODS, Evaluation
from pose2rgbd_ros.evaluation.sheets import draw_sheet, new_figure, png
from pose2rgbd_ros.reports.page import Mood, Page, Section, listed
from pose2rgbd_ros.settings import write_yaml
from pose2rgbd_ros.training.checkpoint import Checkpoint
from pose2rgbd_ros.training.config import UNLIMITED_EPOCHS

COLOURS = {"model": "#0b6e4f", "mean_image": "#999999", "nearest_frame": "#d1781e"}
PAGE, SHEET, FAILURES, CURVES = "index.html", "sheet.png", "failures.png", "curves.png"


def write_report(out: Path, evaluation: Evaluation) -> None:
    """Write the files. UserError when the folder cannot be written."""
    title = _title(evaluation)
    with os_errors(f"cannot write the report into {out}"):
        out.mkdir(parents=True, exist_ok=True)
        write_yaml(out / "metrics.yaml", evaluation.to_dict())
        (out / "table.md").write_text(evaluation.table() + "\n")
        draw_sheet(out / SHEET, evaluation.rows, title, evaluation.depth_unit, is_share=evaluation.has_geometry)
        (out / FAILURES).unlink(missing_ok=True)
        if evaluation.worst_rows:
            draw_sheet(
                out / FAILURES, evaluation.worst_rows, f"largest errors: {title}", evaluation.depth_unit,
                is_share=evaluation.has_geometry,
            )  # fmt: skip
        layout.atomic_write(out / CURVES, _curves(evaluation))
        layout.atomic_write(out / PAGE, _page(evaluation, title).html())


def model_name(checkpoint: Checkpoint) -> str:
    """Such as "slice-10", "relief" or "warp-12"."""
    model = checkpoint.provenance.get("config", {}).get("model")
    if model:
        return str(model)
    architecture = checkpoint.architecture
    name = architecture.get("variant", architecture["network"])
    return f"slice-{architecture['slices']}" if name == "slice" else str(name)


def _title(evaluation: Evaluation) -> str:
    """Such as "slice-10 rgbd 128 px on flight"."""
    checkpoint = evaluation.checkpoint
    size = evaluation.size or checkpoint.camera.width
    return f"{model_name(checkpoint)} {checkpoint.output} {size} px on {evaluation.dataset}"


def provenance(checkpoint: Checkpoint) -> dict[str, str]:
    """What a page says of the model that its figures are of."""
    made = checkpoint.provenance
    frames = made.get("frames", {})
    camera = checkpoint.camera
    is_slice = checkpoint.architecture.get("variant") == "slice"
    recipe = {key: value for key, value in made.get("recipe", {}).items() if value != UNLIMITED_EPOCHS}
    network = {key: value for key, value in checkpoint.architecture.items() if is_slice or "slice" not in key}
    return {
        "trained on": f"{made.get('dataset', '?')}: {frames.get('train', '?')} of {frames.get('all', '?')} frames",
        "effort": f"{made.get('images', '?')} images in {made.get('seconds', '?')} s on {made.get('device', '?')}",
        "recipe": listed(recipe) or "?",
        "network": listed(network),
        "camera": f"{camera.width} x {camera.height} px, fx {camera.fx:.1f}, fy {camera.fy:.1f}",
        "frames": f"{checkpoint.map_frame} / {checkpoint.camera_frame}",
        "weights": f"SHA-256 {checkpoint.weights_sha256[:16]}...",
    }


def _page(evaluation: Evaluation, title: str) -> Page:
    better = evaluation.better_than_mean_image().values()
    mood: Mood = "good" if better else "neutral"  # nothing to compare with
    if evaluation.collapsed or any(share <= 0 for share in better):
        mood = "bad"
    measured_on = (
        f"Measured on {evaluation.measured_on()}. Smaller errors are better, larger PSNR and SSIM are. "
        "Variation is how much the pictures change from frame to frame, as a share of how much the recording does; "
        "near 0 the network has collapsed."
    )
    sections = [Section(table=evaluation.scored(), text=[measured_on])]
    for group, scores in evaluation.group_scores().items():
        frames = int(evaluation.groups[group].sum())
        sections.append(Section(f"{group}, {counted(frames, 'frame')}", evaluation.scored(scores)))
    sections.append(Section.showing("Pictures", SHEET, "recorded, predicted and error"))
    if evaluation.worst_rows:
        sections.append(Section.showing("Largest errors", FAILURES, "the frames of the largest errors"))
    sections.append(Section.showing("Error over time", CURVES, "error of each frame"))
    facts = provenance(evaluation.checkpoint)
    return Page(title, f"{evaluation.verdict()}.", sections, evaluation.notes, facts, mood)


def _curves(evaluation: Evaluation) -> bytes:
    """PNG: the error of each frame over time, one line a method; held-out stretches are parted where time jumps."""
    unit = "(m)" if evaluation.depth_unit == "m" else evaluation.depth_unit
    labels = {"rgb_mae_px": "RGB MAE (of 255)", "depth_mae": f"depth MAE {unit}"}
    names = [name for name in labels if name in evaluation.scores["model"]]
    figure = new_figure(10, 2.3 * len(names))
    seconds = (evaluation.stamps_ns - evaluation.start_ns) / 1e9
    steps = np.diff(seconds)
    gaps = np.flatnonzero(steps > 4 * np.median(steps)) + 1 if len(steps) else np.array([], int)
    for axes, name in zip(np.atleast_1d(figure.subplots(len(names), 1, sharex=True)), names, strict=True):
        for method, measures in evaluation.per_frame.items():
            # NaN between stretches keeps the line from crossing what was not measured.
            x, y = (np.insert(values.astype(float), gaps, np.nan) for values in (seconds, measures[name]))
            axes.plot(x, y, color=COLOURS[method], label=METHODS[method], lw=1.3, marker=".", ms=2)
        axes.set_ylabel(labels[name])
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    axes.set_xlabel("time (s)")
    figure.axes[0].legend(fontsize=8, ncols=3)
    return png(figure)
