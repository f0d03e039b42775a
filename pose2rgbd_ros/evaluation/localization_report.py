"""An evaluation of found poses as files: metrics.yaml, table.md, a line a frame, and index.html to look at first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.evaluation import localization_curves
from pose2rgbd_ros.evaluation.baselines import NearestFrame
from pose2rgbd_ros.evaluation.localization import Localized, write_csv
from pose2rgbd_ros.evaluation.localization_evaluate import MODEL, PoseEvaluation
from pose2rgbd_ros.evaluation.report import provenance
from pose2rgbd_ros.evaluation.sheets import Block, Column, draw_blocks, new_figure, png
from pose2rgbd_ros.geometry.arrays import Float64, Int64, UInt8
from pose2rgbd_ros.models.view import ViewModel
from pose2rgbd_ros.reports.page import Mood, Page, Section
from pose2rgbd_ros.settings import write_yaml

SHEET, CURVES, MAP = "frames.png", "curves.png", "map.png"
SHOWN = 4  # best frames, and worst


def write_report(out: Path, evaluation: PoseEvaluation) -> None:
    """Write the files. UserError when the folder cannot be written."""
    title = f"{evaluation.name} {evaluation.checkpoint.camera.width} px on {evaluation.dataset.path.resolve().name}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_yaml(out / "metrics.yaml", evaluation.to_dict())
        (out / "table.md").write_text(evaluation.table() + "\n")
        write_csv(out / "frames.csv", evaluation.colour[MODEL])
        write_csv(out / "frames_grey.csv", evaluation.grey[MODEL])
        layout.atomic_write(out / CURVES, _curves(evaluation))
        layout.atomic_write(out / MAP, _map(evaluation))
        _draw_frames(out / SHEET, evaluation, title)
        layout.atomic_write(out / "index.html", _page(evaluation, title).html())
    except OSError as error:
        raise UserError(f"cannot write the report into {out} ({error.strerror or error})") from error


def _page(evaluation: PoseEvaluation, title: str) -> Page:
    share = evaluation.share_of_mean_pose()
    mood: Mood = "neutral"
    if share is not None:
        mood = "good" if share < 1 else "bad"
    measured_on = (
        f"Measured on {evaluation.measured_on()}. Medians unless it says otherwise; the shares are of all frames, "
        "rejected ones included."
    )
    sections = [Section(table=evaluation.scored(), text=[measured_on])]
    for group, frames in evaluation.chosen.groups.items():
        sections.append(Section(f"{group}, {counted(len(frames), 'frame')}", evaluation.scored(group)))
    sections += [
        Section.showing("Shares of the frames within an error", CURVES, "cumulative curves"),
        Section.showing("Found against true positions", MAP, "map"),
        Section.showing("Best and worst frames", SHEET, "best and worst frames"),
    ]
    facts = provenance(evaluation.checkpoint)
    return Page(title, f"{evaluation.verdict()}.", sections, evaluation.notes, facts, mood)


def _curves(evaluation: PoseEvaluation) -> bytes:
    figure = new_figure(11, 4)
    for line, (axes, kind) in enumerate(zip(figure.subplots(1, 2), localization_curves.KINDS, strict=True)):
        errors = [(each.position_m, each.rotation_deg)[line] for each in evaluation.colour.values()]
        localization_curves.prepare(axes, *kind, errors)
        for style, said in (("-", evaluation.colour), (":", evaluation.grey)):
            for i, (name, each) in enumerate(said.items()):
                error = (each.position_m, each.rotation_deg)[line]
                label = (evaluation.name if name == MODEL else each.name) + (", grey" if style == ":" else "")
                localization_curves.plot(axes, error, each.accepted, label, f"C{i}", style)
    figure.axes[0].legend(fontsize=8)
    return png(figure)


def _map(evaluation: PoseEvaluation) -> bytes:
    """Along the two axes of the map in which the frames differ most."""
    found = evaluation.colour[MODEL]
    true_m, found_m = found.T_true[:, :3, 3], found.T_found[:, :3, 3]
    trained_m = evaluation.checkpoint.training_T_map_cam[:, :3, 3]
    everything = np.concatenate([trained_m, true_m])
    across, up = np.sort(np.argsort(np.ptp(everything, axis=0))[1:])
    figure = new_figure(9, 8)
    axes = figure.add_subplot()
    axes.plot(trained_m[:, across], trained_m[:, up], ".", color="0.8", ms=3, label="trained on")
    for inside, colour, label in ((found.accepted, "#c0392b", "found"), (~found.accepted, "0.5", "rejected")):
        lines = np.stack([true_m[inside], found_m[inside], np.full_like(true_m[inside], np.nan)], axis=1)
        lines = lines.reshape(-1, 3)
        axes.plot(lines[:, across], lines[:, up], "-", color=colour, lw=0.5, alpha=0.6)
        if inside.any():
            axes.plot(found_m[inside, across], found_m[inside, up], ".", color=colour, ms=4, label=label)
    axes.plot(true_m[:, across], true_m[:, up], ".", color="#1f4e9c", ms=4, label="true")
    axes.set(xlabel=f"{'xyz'[across]} (m)", ylabel=f"{'xyz'[up]} (m)", aspect="equal")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return png(figure)


def _draw_frames(path: Path, evaluation: PoseEvaluation, title: str) -> None:
    """The best frames above the worst: the image, what the network shows at the pose it found, the frame nearest there."""
    found = evaluation.colour[MODEL]
    known = np.flatnonzero(np.isfinite(found.position_m))
    order = known[np.argsort(found.position_m[known], kind="stable")]
    best = _apart(order, len(found))
    worst = np.setdiff1d(_apart(order[::-1], len(found)), best)
    parts = [("best", best), ("worst", worst[np.argsort(-found.position_m[worst])])]
    blocks = [
        Block(_columns(evaluation, rows), _labels(found, rows, word)) for word, rows in parts if len(rows)
    ]
    if not blocks:
        nothing = Column("no pose was found", [evaluation.dataset.rgb(int(evaluation.chosen.test[0]))])
        blocks = [Block([nothing], ["all rejected"])]
    draw_blocks(path, blocks, title)


def _apart(order: Int64, count: int) -> Int64:
    """The first SHOWN that are no neighbours (a fiftieth of all frames to either side): one mishap fills no sheet."""
    taken: list[int] = []
    for row in order:
        if len(taken) < SHOWN and all(abs(int(row) - other) > count // 50 for other in taken):
            taken.append(int(row))
    return np.array(taken, np.int64)


def _columns(evaluation: PoseEvaluation, rows: Int64) -> list[Column]:
    dataset, found = evaluation.dataset, evaluation.colour[MODEL]
    T_found = found.T_found[rows]
    images: list[np.ndarray | None] = [dataset.rgb(int(evaluation.chosen.test[row])) for row in rows]
    columns = [Column("image", images)]
    model = evaluation.checkpoint.build_model()
    if isinstance(model, ViewModel):
        columns.append(Column("shown at the pose found", [*_shown(evaluation, model, T_found)]))
    if evaluation.training is not None:
        training = evaluation.training
        train = np.flatnonzero(
            evaluation.checkpoint.trained_on(training.stamps_ns, training.T_map_cam[:, :3, 3])
        )
        extent_m = float(np.linalg.norm(np.ptp(training.T_map_cam[train, :3, 3], axis=0)))
        for title, poses in (
            ("trained frame nearest to it", T_found),
            ("... to the true pose", found.T_true[rows]),
        ):
            nearest = train[NearestFrame(training.T_map_cam[train], extent_m)(poses)]
            columns.append(Column(title, [training.rgb(int(index)) for index in nearest]))
    return columns


@torch.inference_mode()
def _shown(evaluation: PoseEvaluation, model: ViewModel, T_map_cam: Float64) -> list[UInt8]:
    checkpoint = evaluation.checkpoint
    pictures = model.pictures(torch.from_numpy(T_map_cam), checkpoint.camera, checkpoint.normalization)
    if pictures.rgb is None:
        return []
    rgb = pictures.rgb.permute(0, 2, 3, 1).clamp(0, 1)
    return list((rgb * 255).round().to(torch.uint8).numpy())


def _labels(found: Localized, rows: Int64, word: str) -> list[str]:
    return [f"{word}\n{found.position_m[row]:.3g} m, {found.rotation_deg[row]:.3g}°" for row in rows]
