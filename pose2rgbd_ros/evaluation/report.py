"""An evaluation as files: metrics.yaml for programs, table.md and sheets for notes, index.html to look at first."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.evaluation.result import METHODS, Evaluation
from pose2rgbd_ros.evaluation.sheets import draw_sheet
from pose2rgbd_ros.settings import write_yaml
from pose2rgbd_ros.training.checkpoint import Checkpoint
from pose2rgbd_ros.training.config import UNLIMITED_EPOCHS

COLOURS = {"model": "#0b6e4f", "mean_image": "#999999", "nearest_frame": "#d1781e"}

SHEET, FAILURES = "sheet.png", "failures.png"

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
 body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; color: #222; }}
 table {{ border-collapse: collapse; margin: 1rem 0; }}
 th, td {{ padding: .3rem .9rem; border-bottom: 1px solid #ddd; text-align: right; }}
 th:first-child, td:first-child {{ text-align: left; }}
 tr.model td {{ font-weight: 600; background: #eef7f2; }}
 .verdict {{ font-size: 1.15rem; padding: .6rem 1rem; border-left: 4px solid {mood}; background: #f7f7f7; }}
 img {{ max-width: 100%; }} img.wide {{ width: 100%; }}
 dl {{ display: grid; grid-template-columns: max-content auto; gap: .1rem 1.2rem; }}
 dt {{ color: #666; }} dd {{ margin: 0; }} .note {{ color: #a33; }}
</style>
<h1>{title}</h1>
<p class="verdict">{verdict}.</p>
{table}
<p>Measured on {measured_on}. Smaller errors are better, larger PSNR and SSIM are. <i>Variation</i> is how much the
pictures change from frame to frame, as a share of how much the recording does; near 0 the network has collapsed.</p>
{notes}
<h2>Pictures</h2><img alt="recorded, predicted and error" src="{sheet}">
{failures}
<h2>Error over time</h2><img class="wide" alt="error of each frame" src="{curves}">
<h2>Model</h2>{facts}
</html>
"""


def write_report(out: Path, evaluation: Evaluation) -> None:
    """Write the files. UserError when the folder cannot be written."""
    title = _title(evaluation)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_yaml(out / "metrics.yaml", evaluation.to_dict())
        (out / "table.md").write_text(evaluation.table() + "\n")
        draw_sheet(
            out / SHEET, evaluation.rows, title, evaluation.depth_unit, is_share=evaluation.has_geometry
        )
        (out / FAILURES).unlink(missing_ok=True)
        if evaluation.worst_rows:
            draw_sheet(
                out / FAILURES, evaluation.worst_rows, f"largest errors: {title}", evaluation.depth_unit,
                is_share=evaluation.has_geometry,
            )  # fmt: skip
        (out / "index.html").write_text(_page(evaluation, title, out))
    except OSError as error:
        raise UserError(f"cannot write the report into {out} ({error.strerror or error})") from error


def model_name(checkpoint: Checkpoint) -> str:
    """Such as "slice-10", "relief" or "warp-12"."""
    told = checkpoint.provenance.get("config", {}).get("model")
    if told:
        return str(told)
    architecture = checkpoint.architecture
    name = architecture.get("variant", architecture["network"])
    return f"slice-{architecture['slices']}" if name == "slice" else str(name)


def _title(evaluation: Evaluation) -> str:
    """Such as "slice-10 rgbd 128 px on flight"."""
    checkpoint = evaluation.checkpoint
    size = evaluation.size or checkpoint.camera.width
    return f"{model_name(checkpoint)} {checkpoint.output} {size} px on {evaluation.dataset}"


def _page(evaluation: Evaluation, title: str, out: Path) -> str:
    better = evaluation.better_than_mean_image().values()
    mood = "#0b6e4f" if better else "#888888"  # grey: nothing to compare with
    if evaluation.collapsed or any(share <= 0 for share in better):
        mood = "#c0392b"
    return PAGE.format(
        title=html.escape(title),
        mood=mood,
        verdict=html.escape(evaluation.verdict()),
        table=_table(evaluation.cells(), list(evaluation.scores)) + _groups(evaluation),
        measured_on=html.escape(evaluation.measured_on()),
        notes="".join(f'<p class="note">{html.escape(note)}</p>' for note in evaluation.notes),
        sheet=_embedded(_as_jpeg(out / SHEET), "jpeg"),
        failures=_failures(out / FAILURES),
        curves=_embedded(_curves(evaluation), "png"),
        facts=_facts(evaluation),
    )


def _table(cells: list[list[str]], methods: list[str]) -> str:
    header, *rows = cells
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = ""
    for method, row in zip(methods, rows, strict=True):
        shown = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        body += f'<tr class="{method}">{shown}</tr>'
    return f"<table><tr>{head}</tr>{body}</table>"


def _groups(evaluation: Evaluation) -> str:
    """A table for each part of the frames that is scored apart."""
    text = ""
    for group, scores in evaluation.group_scores().items():
        frames = int(evaluation.groups[group].sum())
        table = _table(evaluation.cells(scores), list(scores))
        text += f"<h3>{html.escape(group)}, {counted(frames, 'frame')}</h3>{table}"
    return text


def _failures(sheet: Path) -> str:
    if not sheet.exists():
        return ""
    picture = _embedded(_as_jpeg(sheet), "jpeg")
    return f'<h2>Largest errors</h2><img alt="the frames of the largest errors" src="{picture}">'


def _facts(evaluation: Evaluation) -> str:
    checkpoint = evaluation.checkpoint
    told = checkpoint.provenance
    frames = told.get("frames", {})
    camera = checkpoint.camera
    is_slice = checkpoint.architecture.get("variant") == "slice"
    facts = {
        "trained on": f"{told.get('dataset', '?')}: {frames.get('train', '?')} of {frames.get('all', '?')} frames",
        "effort": f"{told.get('images', '?')} images in {told.get('seconds', '?')} s on {told.get('device', '?')}",
        "recipe": _listed(
            {key: value for key, value in told.get("recipe", {}).items() if value != UNLIMITED_EPOCHS}
        ),
        "network": _listed(
            {key: value for key, value in checkpoint.architecture.items() if is_slice or "slice" not in key}
        ),
        "camera": f"{camera.width} x {camera.height} px, fx {camera.fx:.1f}, fy {camera.fy:.1f}",
        "frames": f"{checkpoint.map_frame} / {checkpoint.camera_frame}",
        "weights": f"SHA-256 {checkpoint.weights_sha256[:16]}...",
    }
    items = "".join(f"<dt>{key}</dt><dd>{html.escape(str(value))}</dd>" for key, value in facts.items())
    return f"<dl>{items}</dl>"


def _listed(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in settings.items())


def _embedded(image: bytes, kind: str) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(image).decode()


def _as_jpeg(picture: Path) -> bytes:
    """A fifth of the PNG's size, so that the page stays easy to send."""
    pixels = np.asarray(cv2.imread(str(picture)))
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 88])
    return bytes(encoded)


def _curves(evaluation: Evaluation) -> bytes:
    """PNG: the error of each frame over time, one line a method; held-out stretches are parted where time jumps."""
    unit = "(m)" if evaluation.depth_unit == "m" else evaluation.depth_unit
    labels = {"rgb_mae_px": "RGB MAE (of 255)", "depth_mae": f"depth MAE {unit}"}
    names = [name for name in labels if name in evaluation.scores["model"]]
    figure = Figure(figsize=(10, 2.3 * len(names)), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
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
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
