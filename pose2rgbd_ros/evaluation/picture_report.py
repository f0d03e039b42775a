"""An evaluation of pictures as files: metrics.yaml for programs, table.md, frames.csv and sheets for notes, and
index.html to look at first: how good the model is, where it is not, how quick, how far it can be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from pose2rgbd_ros.convert.recording_page import recording_figures, recording_sections
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.evaluation.film import film
from pose2rgbd_ros.evaluation.machine import machine
from pose2rgbd_ros.evaluation.pictures import METHODS, Evaluation, measure, model_name, provenance
from pose2rgbd_ros.evaluation.sheets import draw_sheet, new_figure, png, tiles_of
from pose2rgbd_ros.geometry.flight import FlightSettings
from pose2rgbd_ros.reports.charts import COLOURS, chart, colour_bar, error_colours, even, styled, svg
from pose2rgbd_ros.reports.page import Chart, Command, Figure, Mood, Page, Picture, Section
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.settings import write_yaml
from pose2rgbd_ros.training.trainer import pick_device

PAGE, SHEET, FAILURES, CURVES, VIDEO = "index.html", "sheet.png", "failures.png", "curves.png", "flight.mp4"
CALIBRATION = "calibration.json"  # the page of `pose2rgbd calibrate` as data, in the same folder
SERIES = {"model": "model", "mean_image": "mean", "nearest_frame": "nearest"}  # method -> colour
# On paper-white sheets for notes; the page has its own.
SHEET_COLOURS = {"model": "#0b6e4f", "mean_image": "#999999", "nearest_frame": "#d1781e"}
NEXT = "See it, use it"  # the title of the last section
MOST_DRAWN = 1500  # frames of a scatter; more cannot be told apart


def evaluate(
    checkpoint: Path,
    dataset: Path,
    out: Path,
    split: str = "checkpoint",
    device: str = "auto",
    size: int | None = None,
    training_dataset: Path | None = None,
    video_s: float = 0.0,
    flight: FlightSettings | None = None,
) -> Evaluation:
    """Measure a checkpoint on a dataset, as :func:`pictures.measure` does, and write the report into `out`.

    Args:
        video_s, flight: length of a video along the recorded flight, and how that is flown; 0: no video. One that
            cannot be made is a note.

    Raises:
        UserError: as of `measure`, or the report cannot be written.
    """
    evaluation = measure(checkpoint, dataset, split, device, size, training_dataset)
    (out / VIDEO).unlink(missing_ok=True)
    if video_s > 0:
        judged_ns, path = evaluation.stamps_ns, out / VIDEO
        try:
            evaluation.video = film(checkpoint, Dataset(dataset), judged_ns, path, video_s, flight, device, size)
        except UserError as error:
            path.unlink(missing_ok=True)
            evaluation.notes.append(f"no video: {error}")
    write_report(out, evaluation, pick_device(device))
    return evaluation


def write_report(out: Path, evaluation: Evaluation, device: str = "cpu") -> None:
    """Write the files. UserError when the folder cannot be written."""
    title = _title(evaluation)
    with os_errors(f"cannot write the report into {out}"):
        out.mkdir(parents=True, exist_ok=True)
        write_yaml(out / "metrics.yaml", evaluation.to_dict())
        (out / "table.md").write_text(evaluation.table() + "\n")
        layout.atomic_write(out / "frames.csv", _frames(evaluation).csv().encode())
        draw_sheet(out / SHEET, evaluation.rows, title, evaluation.depth_unit, is_share=evaluation.has_geometry)
        (out / FAILURES).unlink(missing_ok=True)
        if evaluation.worst_rows:
            draw_sheet(
                out / FAILURES, evaluation.worst_rows, f"largest errors: {title}", evaluation.depth_unit,
                is_share=evaluation.has_geometry,
            )  # fmt: skip
        layout.atomic_write(out / CURVES, _curves(evaluation))
        _page(evaluation, title, out, device).write(out / PAGE)


def _title(evaluation: Evaluation) -> str:
    """Such as "slice-10 rgbd 128 px on flight"."""
    checkpoint = evaluation.checkpoint
    size = evaluation.size or checkpoint.camera.width
    return f"{model_name(checkpoint)} {checkpoint.output} {size} px on {evaluation.dataset}"


def _frames(evaluation: Evaluation) -> Table:
    """A line for each frame measured on: its stamp, where it was taken, and each method's errors, unrounded."""
    unit = _depth_unit(evaluation)
    rows = []
    for i, (stamp_ns, position_m) in enumerate(zip(evaluation.stamps_ns, evaluation.position_m, strict=True)):
        row: dict[str, Any] = {"stamp_ns": int(stamp_ns), **dict(zip(("x_m", "y_m", "z_m"), position_m, strict=True))}
        row["from_training_m"] = None if evaluation.moved_m is None else evaluation.moved_m[i]
        for method, measures in evaluation.per_frame.items():
            for name, values in measures.items():
                row[f"{method}_{name}{unit if name == 'depth_mae' else ''}"] = values[i]
        rows.append(row)
    return Table([Column(name) for name in (rows[0] if rows else {})], rows)


def _depth_unit(evaluation: Evaluation) -> str:
    """What is appended to the key of a depth."""
    return "_m" if evaluation.depth_unit == "m" else "_relative"


def with_units(evaluation: Evaluation) -> dict[str, Any]:
    """The values of metrics.yaml under keys that hold their units."""

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            unit = _depth_unit(evaluation)
            return {f"{key}{unit}" if key == "depth_mae" else key: renamed(item) for key, item in value.items()}
        return [renamed(item) for item in value] if isinstance(value, list) else value

    values: dict[str, Any] = renamed(evaluation.to_dict())
    values["size_px"] = values.pop("size")
    values["better_than_mean_image_share"] = {
        key.removesuffix("_px").removesuffix("_m").removesuffix("_relative").removesuffix("_mae"): value
        for key, value in values.pop("better_than_mean_image").items()
    }
    return values


# The page.


def _page(evaluation: Evaluation, title: str, out: Path, device: str) -> Page:
    better = evaluation.better_than_mean_image().values()
    mood: Mood = "good" if better else "neutral"  # nothing to compare with
    if evaluation.collapsed or any(share <= 0 for share in better):
        mood = "bad"
    run, folder = evaluation.paths
    dataset = Dataset(folder)
    sections = [
        *_quality(evaluation), *_places(evaluation), *_seen(evaluation), *recording_sections(dataset),
        _speed(evaluation, device), *_trust(evaluation, out), _next(evaluation),
    ]  # fmt: skip
    facts = {"dataset": str(folder), "run": str(run), **provenance(evaluation.checkpoint)}
    figures = [*_figures(evaluation), *recording_figures(dataset)]
    return Page(title, f"{evaluation.verdict()}.", sections, evaluation.notes, facts, mood, figures)


def _made_by(evaluation: Evaluation) -> str:
    run, dataset = evaluation.paths
    return f"pose2rgbd evaluate {run} {dataset}"


def _figures(evaluation: Evaluation) -> list[Figure]:
    """Error of colour and of depth, and how much is answered, beside the baselines."""
    found = []
    unit = "m" if evaluation.depth_unit == "m" else "(relative)"
    for name, words, after in (("rgb_mae_px", "colour error", "of 255"), ("depth_mae", "depth error", unit)):
        if name in evaluation.scores["model"]:
            others = [
                f"{short} {_short(evaluation.scores[method][name])}"
                for method, short in (("nearest_frame", "nearest frame"), ("mean_image", "mean image"))
                if method in evaluation.scores
            ]
            text = f"{_short(evaluation.scores['model'][name])} {after}"
            found.append(Figure(words, text, ", ".join(others) or "no baseline at hand"))
    if "depth_known" in evaluation.scores["model"]:
        share = evaluation.scores["model"]["depth_known"]
        found.append(Figure("depth answered", f"{share:.1%}", "of the pixels of known depth"))
    return found


def _short(value: float) -> str:
    """Two digits that count, and not more than two behind the point from a tenth on."""
    return f"{value:.1f}" if value >= 2 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def _quality(evaluation: Evaluation) -> list[Section]:
    measured_on = (
        f"Measured on {evaluation.measured_on()}. Smaller errors are better, larger PSNR and SSIM are. "
        "Variation is how much the pictures change from frame to frame, as a share of how much the recording does; "
        "near 0 the network has collapsed."
    )
    charts = [_distribution(evaluation, *each) for each in _measures(evaluation)]
    sections = [Section("How good", evaluation.scored(), [measured_on], charts=charts, made_by=_made_by(evaluation))]
    for group, scores in evaluation.group_scores().items():
        frames = int(evaluation.groups[group].sum())
        sections.append(Section(f"{group}, {counted(frames, 'frame')}", evaluation.scored(scores)))
    return sections


def _measures(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Errors that were measured, and their labels with units."""
    unit = "m" if evaluation.depth_unit == "m" else "relative"
    labels = {"rgb_mae_px": "colour error (of 255)", "depth_mae": f"depth error ({unit})"}
    return [(name, label) for name, label in labels.items() if name in evaluation.scores["model"]]


@styled()
def _distribution(evaluation: Evaluation, name: str, label: str) -> Chart:
    """Share of the frames within an error, of each method, on a logarithmic axis."""
    figure, axes = chart(2.7)
    positive = []
    for method, measures in evaluation.per_frame.items():
        values = np.sort(measures[name][np.isfinite(measures[name])])
        if len(values):
            positive.append(values[values > 0])
            shares = np.arange(1, len(values) + 1) / len(values)
            axes.step(np.maximum(values, 1e-6), shares, where="post", color=COLOURS[SERIES[method]],
                      label=METHODS[method], lw=2.2 if method == "model" else 1.4)  # fmt: skip
    known = np.concatenate(positive) if positive else np.array([1.0])
    if len(known):
        axes.set_xlim(0.9 * float(known.min()), 1.1 * float(known.max()))
    axes.set(xscale="log", xlabel=label, ylabel="share of the frames", ylim=(0, 1.02))
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    figure.legend(loc="outside lower center", ncols=3)
    return Chart(svg(figure), f"Share of the frames whose {label.partition(' (')[0]} is at most so large.")


def _places(evaluation: Evaluation) -> list[Section]:
    """Where it is not good: over the place, over time, over the distance from what was trained on."""
    if not len(evaluation.position_m):
        return []
    charts = [_map(evaluation, *each) for each in _measures(evaluation)]
    if evaluation.moved_m is not None and np.ptp(evaluation.moved_m) > 0:
        charts += [_over_distance(evaluation, *each) for each in _measures(evaluation)]
    charts += [_over_time(evaluation)]
    numbers = ", ".join(f"{i + 1}" for i in range(len(evaluation.worst)))
    text = [f"Numbers mark the frames of the largest errors ({numbers}), which are shown below."] if numbers else []
    made_by = _made_by(evaluation)
    sections = [Section("Where it is not good", None, text, charts=charts, made_by=made_by)]
    if evaluation.worst_rows:
        rows = [(f"{i + 1}: {row.label}", row) for i, row in enumerate(evaluation.worst_rows)]
        tiles = tiles_of(rows, evaluation.depth_unit, evaluation.has_geometry)
        caption = "recorded, predicted and error of the frames of the largest errors; grey is unknown"
        sections.append(Section("Largest errors", tiles=replace(tiles, caption=caption), made_by=made_by))
    return sections


@styled()
def _map(evaluation: Evaluation, name: str, label: str) -> Chart:
    """Errors over the place: of the surfaces seen, where depth says where they stand; else of the frames."""
    found = evaluation.error_map
    cells = None if found is None else found.rgb_px if name == "rgb_mae_px" else found.depth_m
    errors, position = evaluation.per_frame["model"][name], evaluation.position_m
    across, up = (0, 1) if found is None else found.axes
    figure, axes = chart(4.3)
    known = errors[np.isfinite(errors)] if cells is None else cells[np.isfinite(cells)]
    high = max(float(np.percentile(known, 98)), 1e-6) if len(known) else 1.0
    scale: dict[str, Any] = {"cmap": error_colours(), "vmin": 0.0, "vmax": high}
    if cells is not None and found is not None:
        drawn = axes.imshow(cells, extent=found.extent_m, origin="lower", interpolation="nearest", aspect="auto",
                             zorder=1, **scale)  # fmt: skip
        axes.plot(position[:, across], position[:, up], ".", color=COLOURS["ink"], ms=2.2, alpha=0.75)
        caption = "averaged over the surfaces that the frames see; dots: where they were taken"
    else:
        every = -(-len(position) // MOST_DRAWN)
        drawn = axes.scatter(position[::every, across], position[::every, up], c=errors[::every], s=14, **scale)
        caption = "of each frame, where it was taken"
    for number, index in enumerate(evaluation.worst):
        axes.annotate(f"{number + 1}", position[index, [across, up]], xytext=(5, 5), textcoords="offset points",
                      fontsize=9, fontweight="bold", color=COLOURS["bad"])  # fmt: skip
    even(axes)
    colour_bar(figure, drawn, axes, label)
    tied = evaluation.checkpoint.datum is not None and (across, up) == (0, 1)
    axes.set_xlabel(f"{'xyz'[across]}{', east' if tied else ''} (m)")
    axes.set_ylabel(f"{'xyz'[up]}{', north' if tied else ''} (m)")
    axes.grid(False)
    axes.set_title(label.partition(" (")[0])
    return Chart(svg(figure), f"{label.partition(' (')[0].capitalize()} over the place, {caption}.")


@styled()
def _over_distance(evaluation: Evaluation, name: str, label: str) -> Chart:
    figure, axes = chart(2.5)
    assert evaluation.moved_m is not None
    every = -(-len(evaluation.moved_m) // MOST_DRAWN)
    for method in [method for method in ("nearest_frame", "model") if method in evaluation.per_frame]:
        axes.plot(evaluation.moved_m[::every], evaluation.per_frame[method][name][::every], ".", ms=4, alpha=0.8,
                  color=COLOURS[SERIES[method]], label=METHODS[method])  # fmt: skip
    axes.set(xlabel="distance from the nearest training frame (m)", ylabel=label)
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=2, markerscale=1.8)
    return Chart(svg(figure), f"{label.partition(' (')[0].capitalize()} over the distance from what was trained on.")


@styled()
def _over_time(evaluation: Evaluation) -> Chart:
    """Error of each frame over time, one line a method; held-out stretches are parted where time jumps."""
    measures = _measures(evaluation)
    figure, rows = chart(0.5 + 1.7 * len(measures), wide=True, rows=len(measures))
    seconds, gaps = _times(evaluation)
    for axes, (name, label) in zip(np.atleast_1d(rows), measures, strict=True):
        for method, values in evaluation.per_frame.items():
            x, y = (np.insert(each.astype(float), gaps, np.nan) for each in (seconds, values[name]))
            axes.plot(x, y, color=COLOURS[SERIES[method]], label=METHODS[method], marker=".", ms=2.5, lw=1.2)
        for number, index in enumerate(evaluation.worst):
            axes.annotate(f"{number + 1}", (seconds[index], evaluation.per_frame["model"][name][index]),
                          xytext=(0, 4), textcoords="offset points", ha="center", fontweight="bold",
                          color=COLOURS["bad"])  # fmt: skip
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
    axes.set_xlabel("time since the first frame of the dataset (s)")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return Chart(svg(figure), "Error of each frame over time.", wide=True)


def _times(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Seconds (N,) since the dataset's first frame, and where a line has to be parted."""
    seconds = (evaluation.stamps_ns - evaluation.start_ns) / 1e9
    steps = np.diff(seconds)
    return seconds, np.flatnonzero(steps > 4 * np.median(steps)) + 1 if len(steps) else np.array([], int)


def _seen(evaluation: Evaluation) -> list[Section]:
    """What the pictures look like."""
    rows = [(row.label, row) for row in evaluation.rows]
    tiles = tiles_of(rows, evaluation.depth_unit, evaluation.has_geometry)
    caption = f"recorded, predicted and error, evenly spaced frames; as one picture: `{SHEET}`"
    sections = [Section("Pictures", tiles=replace(tiles, caption=caption), made_by=_made_by(evaluation))]
    if evaluation.video:
        sections.insert(0, Section("The flight", videos=[Picture(VIDEO, f"{evaluation.video} (`{VIDEO}`)")]))
    return sections


def _speed(evaluation: Evaluation, device: str) -> Section:
    made = evaluation.checkpoint.provenance
    frames = len(evaluation.stamps_ns)
    rows = []
    if evaluation.render_s > 0:
        size = evaluation.size or evaluation.checkpoint.camera.width
        threads = counted(evaluation.threads, "thread")
        how = f"{size} x {size} px, a batch at a time, PyTorch on {machine(device)}, {threads}"
        rows.append({"what": "a picture, in this evaluation", "value": 1e3 * evaluation.render_s / max(frames, 1),
                     "unit": "ms", "how": how})  # fmt: skip
    if isinstance(made.get("seconds"), (int, float)):
        images = made.get("images")
        how = f"{images} images on {made.get('device', '?')}"
        rows.append({"what": "the training", "value": float(made["seconds"]), "unit": "s", "how": how})
    columns = [Column("what", ""), Column("value", format=".1f"), Column("unit", "unit"), Column("how", "measured how")]
    text = ["`pose2rgbd render` takes the quickest backend that a machine has; `render/status` says how quick."]
    return Section("Speed", Table(columns, rows), text, made_by=_made_by(evaluation))


def _trust(evaluation: Evaluation, out: Path) -> list[Section]:
    """What `pose2rgbd calibrate` said of these very weights, if it did."""
    run, dataset = evaluation.paths
    try:
        page = Page.read(out / CALIBRATION)
    except UserError:
        page = None
    weights = provenance(evaluation.checkpoint)["weights"]
    if page is None or page.provenance.get("weights") != weights:
        text = ["Not calibrated: depth has no bounds, and no pose is called unknown."]
        learn = Command(f"pose2rgbd calibrate {run} {dataset}", "bounds of depth and a guard, from held-out frames")
        return [Section("How far to trust it", text=text, commands=[learn])]
    first, *others = page.sections
    opening = Section("How far to trust it", text=[page.verdict, *page.notes])
    return [opening, first, *others]


def _next(evaluation: Evaluation) -> Section:
    run, dataset = evaluation.paths
    return Section(NEXT, commands=next_commands(run, dataset))


def next_commands(run: Path, dataset: Path) -> Sequence[Command]:
    """What to do with a model that was looked at."""
    return [
        Command(f"pose2rgbd view {run} {dataset}", "fly through it in a browser, beside the recorded frames"),
        Command(f"pose2rgbd render --model {run / 'checkpoint'}", "ROS node: what the camera should be seeing"),
        Command(f"pose2rgbd up sim render avoid --model {run / 'checkpoint'}", "try it in the simulated city"),
        Command(f"pose2rgbd calibrate {run} {dataset}", "bounds of depth, and which poses are known"),
        Command(f"pose2rgbd train relief {dataset} --max-minutes 30", "train longer"),
    ]


def _curves(evaluation: Evaluation) -> bytes:
    """PNG for notes: the error of each frame over time."""
    unit = "(m)" if evaluation.depth_unit == "m" else evaluation.depth_unit
    labels = {"rgb_mae_px": "RGB MAE (of 255)", "depth_mae": f"depth MAE {unit}"}
    names = [name for name in labels if name in evaluation.scores["model"]]
    figure = new_figure(10, 2.3 * len(names))
    seconds, gaps = _times(evaluation)
    for axes, name in zip(np.atleast_1d(figure.subplots(len(names), 1, sharex=True)), names, strict=True):
        for method, measures in evaluation.per_frame.items():
            # NaN between stretches keeps the line from crossing what was not measured.
            x, y = (np.insert(values.astype(float), gaps, np.nan) for values in (seconds, measures[name]))
            axes.plot(x, y, color=SHEET_COLOURS[method], label=METHODS[method], lw=1.3, marker=".", ms=2)
        axes.set_ylabel(labels[name])
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    axes.set_xlabel("time (s)")
    figure.axes[0].legend(fontsize=8, ncols=3)
    return png(figure)
