"""Calibrate a checkpoint that finds poses: covariance and gate from held-out frames, what was seen from training
frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from matplotlib.axes import Axes
from tqdm import tqdm

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.evaluation.depth_bounds import ShareInterval, deals, estimate
from pose2rgbd_ros.evaluation.held_out import HeldOut, Units, held_out
from pose2rgbd_ros.evaluation.pictures import provenance
from pose2rgbd_ros.evaluation.sheets import new_figure, png
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.localization import covariance
from pose2rgbd_ros.localization.estimate import Estimate
from pose2rgbd_ros.localization.gate import MOST_FRAMES, FeatureModel, Gate, KeyframeFeatures, novelty_cues
from pose2rgbd_ros.localization.localizer import (
    FILES,
    Localizer,
    LocalizerCalibration,
    pose_network,
    save_localizer_calibration,
)
from pose2rgbd_ros.localization.predict import ImageEncoder, PosePrediction, image_figures
from pose2rgbd_ros.rendering.renderer import choose_device
from pose2rgbd_ros.reports.page import Mood, Page, Section
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.training.checkpoint import Checkpoint, checkpoint_directory, load_checkpoint
from pose2rgbd_ros.training.metrics import spread

MOST_HELD_OUT = 600
_CHUNK = 64


@dataclass(frozen=True)
class LocalizerGoal:
    """What a calibration of a pose network aims at."""

    true_accept: float = setting(0.95, "share of held-out images that should be accepted", ge=0.5, le=1.0)
    crops: Literal[1, 5, 9] = setting(
        5, "crops of an image: 1 is quickest, and of more the spread of their poses counts"
    )


@dataclass(frozen=True, eq=False)
class Frames:
    """Held-out frames as read: errors (N, 6) along level axes, doubts (N, 5), image figures (N, 3), unit (N,)."""

    errors: Float64
    doubts: Float64
    figures: Float64
    unit: np.ndarray

    def at(self, chosen: np.ndarray) -> Frames:
        return Frames(self.errors[chosen], self.doubts[chosen], self.figures[chosen], self.unit[chosen])


@dataclass(frozen=True, eq=False)
class MeasuredPoses:
    """By dealing the lines that calibrate: on those not fitted on.

    coverage: (level, part) of covariance.LEVELS and position, rotation, both. accepted: share of frames. curve: rows
        of the promised share, and that held by position, rotation and both. position_m, sigma_m (N,), accepted_at
        (N,): of single frames. rotation_deg: (N,).
    """

    coverage: list[list[ShareInterval]]
    accepted: ShareInterval
    curve: Float64
    position_m: Float64
    rotation_deg: Float64
    sigma_m: Float64
    accepted_at: np.ndarray


@dataclass(frozen=True, eq=False)
class JudgedPoses:
    """What the calibrated localizer answers to frames that no weights, covariance or limit were chosen on.

    coverage, accepted: as in `MeasuredPoses`. position_m, rotation_deg: medians of accepted frames. frames, units,
        kind: how many frames, of how many lines or stretches; no frame when nothing was left to judge on, and then
        the rest is NaN.
    """

    coverage: list[list[ShareInterval]]
    accepted: ShareInterval
    position_m: float
    rotation_deg: float
    frames: int
    units: int
    kind: str

    @classmethod
    def of(cls, answers: list[Estimate], T_true: Float64, units: Units) -> JudgedPoses:
        """Of the answers to frames, their true poses (N, 4, 4) and their lines."""
        numbers, place = np.unique(units.unit, return_inverse=True)
        accepted = np.array([one.accepted for one in answers], bool)
        asked, passed = (_by_unit(place, each, len(numbers)) for each in (np.ones(len(accepted)), accepted))
        found = [one for one in answers if one.accepted]
        T = np.array([one.T_map_cam for one in found], np.float64).reshape(-1, 4, 4)
        of_map = np.array([one.covariance for one in found], np.float64).reshape(-1, 6, 6)
        away = covariance.errors(T, T_true[accepted])
        to_map = np.zeros_like(of_map)  # errors are along level axes, covariances along the map's
        to_map[:, :3, :3] = to_map[:, 3:, 3:] = covariance.level_axes(T)
        inside = covariance.inside(covariance.squared_of(to_map.swapaxes(1, 2) @ of_map @ to_map, away))
        counts = np.array([
            [_by_unit(place[accepted], inside[:, level, part], len(numbers)) for part in range(3)]
            for level in range(len(covariance.LEVELS))
        ])  # fmt: skip
        coverage = [[estimate(held, passed) for held in row] for row in counts]
        size = [np.linalg.norm(away[:, half], axis=1) for half in (slice(3), slice(3, 6))]
        position_m, rotation_rad = (float(np.median(one)) if len(one) else np.nan for one in size)
        share = estimate(passed, asked)
        return cls(coverage, share, position_m, float(np.degrees(rotation_rad)), len(answers), len(numbers), units.kind)

    def to_dict(self) -> dict[str, Any]:
        """For localization.yaml: value, lower and upper end of 95 % by resampling lines."""
        size = {"frames": self.frames, "units": self.units, "unit": self.kind}
        if self.frames == 0:
            return size
        return {
            **size,
            "accepted": self.accepted.to_list(),
            "coverage": _coverage(self.coverage),
            "median_position_m": round(self.position_m, 4),
            "median_rotation_deg": round(self.rotation_deg, 4),
        }

    def line(self) -> str:
        """One line for the console."""
        if self.frames == 0:
            return "nothing was left to judge on: these figures are of the frames that set the covariance and the limit"
        accepted = self.accepted
        return (
            f"judged on {self.frames} other held-out frames ({self.units} {self.kind}): regions of 50, 90, 95 % hold "
            f"{_held(self.coverage)}; accepted {accepted.value:.1%} ({accepted.low:.1%} to {accepted.high:.1%})"
        )


@dataclass(frozen=True, eq=False)
class CalibratedLocalizer:
    """The calibration, and what it is drawn from."""

    calibration: LocalizerCalibration
    measured: MeasuredPoses
    judged: JudgedPoses
    held_out: HeldOut

    def line(self) -> str:
        """For the console: what calibrated, and a second line of what judged."""
        accepted = self.measured.accepted
        return (
            f"calibrated on held-out {self.held_out.kind}: regions of 50, 90, 95 % hold "
            f"{_held(self.measured.coverage)}; "
            f"accepted {accepted.value:.1%} ({accepted.low:.1%} to {accepted.high:.1%}), "
            f"score limit {self.calibration.gate.limit:.2f}\n   {self.judged.line()}"
        )


def calibrate_localizer(
    checkpoint: Path,
    dataset: Path,
    goal: LocalizerGoal | None = None,
    device: str = "cpu",
    page: Path | None = None,
    training_dataset: Path | None = None,
) -> CalibratedLocalizer:
    """Calibrate, and write the calibration into the checkpoint's folder; `page` is a folder for what to look at.

    Args:
        dataset: the one trained on, whose held-out frames are taken, or another recording of the place; then
            `training_dataset` is the one trained on.

    Raises:
        UserError: a bad checkpoint or dataset, one that finds no poses, another map, too few held-out frames, or no
            training frames to learn from what the place looks like.
    """
    goal = goal or LocalizerGoal()
    settings.check(goal)
    directory = checkpoint_directory(Path(checkpoint))
    loaded = load_checkpoint(directory)
    data, training = Dataset(dataset), Dataset(training_dataset or dataset)
    for one in (data, training):
        loaded.check_map(one.path, one.meta)
    encoder = ImageEncoder(loaded, pose_network(loaded), choose_device(device), goal.crops)
    known = _training_frames(loaded, training)
    chosen = held_out(loaded, data).at_most(MOST_HELD_OUT, widened=False)
    learnt = _look(encoder, training, known)
    features = FeatureModel.of(np.stack([one.features for one in learnt]))
    memory = KeyframeFeatures.of((one.features_view for one in learnt), training.T_map_cam[known])
    figures = np.stack([image_figures(one.rgb) for one in learnt])
    seen = _look(encoder, data, chosen.frames)
    frames = _frames(seen, data.T_map_cam[chosen.frames], chosen.unit, features, memory)
    model, gate = _fit(frames, figures, goal.true_accept)
    measured = _measure(frames, figures, goal.true_accept)
    calibration = LocalizerCalibration(
        loaded.weights_sha256, goal.crops, goal.true_accept, model, gate, features, memory,
    )  # fmt: skip
    FILES.remove(directory)
    save_localizer_calibration(directory, calibration)
    judged = judge(Localizer(directory, device), data, chosen.judge)
    calibration = replace(calibration, figures=_told(data, chosen, measured, judged))
    save_localizer_calibration(directory, calibration)
    found = CalibratedLocalizer(calibration, measured, judged, chosen)
    if page is not None:
        title = (
            f"Calibration of {loaded.architecture['network']} {loaded.camera.width} px on {data.path.resolve().name}"
        )
        examples = _examples(directory, device, data, chosen)
        write_page(page, title, loaded, found, examples)
    return found


def judge(localizer: Localizer, data: Dataset, units: Units) -> JudgedPoses:
    """What a calibrated localizer answers to frames, which should be such as chose nothing of it."""
    frames = tqdm(units.frames, "judging", unit="frame", disable=None, delay=2.0, leave=False)
    answers = localizer.find_all((data.rgb(int(frame)) for frame in frames), data.camera)
    return JudgedPoses.of(answers, data.T_map_cam[units.frames], units)


def _by_unit(place: np.ndarray, values: np.ndarray, units: int) -> Float64:
    """Sums (units,) of values (N,) by their units' places."""
    return np.bincount(place, values, units).astype(np.float64)


def _held(coverage: list[list[ShareInterval]]) -> str:
    """The shares of position and rotation, in words."""
    shares = [[f"{one.value:.0%}" for one in row] for row in coverage]
    return "; ".join(f"{name} {', '.join(row[i] for row in shares)}" for i, name in enumerate(("position", "rotation")))


def _coverage(coverage: list[list[ShareInterval]]) -> dict[str, Any]:
    names = ("position", "rotation", "both")
    return {
        f"{level:g}": {name: one.to_list() for name, one in zip(names, row, strict=True)}
        for level, row in zip(covariance.LEVELS, coverage, strict=True)
    }


def _fit(frames: Frames, figures: Float64, true_accept: float) -> tuple[covariance.CovarianceModel, Gate]:
    """The covariance is that of accepted frames: rejected poses are not used."""
    gate = Gate.fit(np.concatenate([figures, frames.figures]), frames.doubts, true_accept)
    mine = frames.at(_accepted(gate, frames))
    return covariance.fit(mine.errors, mine.doubts, mine.unit), gate


def _measure(frames: Frames, figures: Float64, true_accept: float) -> MeasuredPoses:
    """Deal the lines into halves, fit on one and look at the other."""
    units = np.unique(frames.unit)
    passed, asked = np.zeros(len(units)), np.zeros(len(units))
    within, curves, found = np.zeros((3, 3, len(units))), [], []
    for chosen in deals(units):
        mine = np.isin(frames.unit, chosen)
        model, gate = _fit(frames.at(mine), figures, true_accept)
        other = frames.at(~mine)
        accepted = _accepted(gate, other)
        squared = covariance.squared_distances(model, other.errors, other.doubts)
        place = np.searchsorted(units, other.unit)
        asked += np.bincount(place, minlength=len(units))
        passed += np.bincount(place, accepted, len(units))
        inside = covariance.inside(squared) & accepted[:, None, None]
        for level, part in np.ndindex(3, 3):
            within[level, part] += np.bincount(place, inside[:, level, part], len(units))
        curves.append(covariance.probabilities(squared[accepted]))
        sigma = np.sqrt(np.linalg.eigvalsh(model.covariance_level(other.doubts)[:, :3, :3])[:, -1])
        size = np.linalg.norm(other.errors[:, :3], axis=1), np.linalg.norm(other.errors[:, 3:], axis=1)
        found.append(np.stack([size[0], np.degrees(size[1]), sigma, accepted]))
    promised = np.linspace(0.05, 0.95, 19)
    needed = np.concatenate(curves)
    curve = np.array([[share, *(needed <= share).mean(axis=0)] for share in promised])
    position_m, rotation_deg, sigma_m, accepted_at = np.concatenate(found, axis=1)
    shares = [[estimate(within[level, part], passed) for part in range(3)] for level in range(3)]
    return MeasuredPoses(
        shares, estimate(passed, asked), curve, position_m, rotation_deg, sigma_m, accepted_at.astype(bool)
    )


def _accepted(gate: Gate, frames: Frames) -> np.ndarray:
    """Which frames (N,) pass."""
    return np.array([
        not (gate.look(figures) or gate.reason(one))
        for figures, one in zip(frames.figures, frames.doubts, strict=True)
    ])  # fmt: skip


def _look(encoder: ImageEncoder, data: Dataset, frames: np.ndarray) -> list[PosePrediction]:
    """Frames as read; UserError for one that shows nothing or another view."""
    found: list[PosePrediction] = []
    bad: list[str] = []
    chunks = range(0, len(frames), _CHUNK)
    for start in tqdm(chunks, "reading frames", unit="batch", disable=None, delay=2.0, leave=False):
        queries = {int(frame): encoder.prepare(data.rgb(int(frame)), data.camera) for frame in frames[start:][:_CHUNK]}
        bad += [f"frame {frame}: {query.reason}" for frame, query in queries.items() if query.reason]
        found += encoder.read([query for query in queries.values() if not query.reason])
    if bad:
        raise UserError(f"{data.path}: {bad[0]} ({counted(len(bad), 'frame')} like this one)")
    return found


def _frames(
    found: list[PosePrediction], T_true: Float64, unit: np.ndarray, features: FeatureModel, memory: KeyframeFeatures
) -> Frames:
    return Frames(
        covariance.errors(np.stack([one.T_map_cam for one in found]), T_true),
        np.stack([novelty_cues(one, features, memory) for one in found]),
        np.stack([image_figures(one.rgb) for one in found]),
        unit,
    )


def _training_frames(loaded: Checkpoint, data: Dataset) -> np.ndarray:
    """Evenly spaced frames of those trained on."""
    trained = np.flatnonzero(loaded.trained_on(data.stamps_ns, data.T_map_cam[:, :3, 3]))
    if len(trained) < 2:
        raise UserError(
            f"{data.path} holds no frames that the model was trained on; what the place looks like is learnt from "
            "them: give the dataset trained on with --training-dataset"
        )
    return spread(trained, MOST_FRAMES)


def _examples(directory: Path, device: str, data: Dataset, chosen: HeldOut) -> list[Example]:
    """Held-out frames (those that judge, where there are any) by their score, and one of them spoilt in several ways,
    as
    the calibrated localizer answers."""
    localizer = Localizer(directory, device)
    frames = chosen.judge.frames if len(chosen.judge.frames) else chosen.frames
    some = spread(frames, 60)
    found = localizer.find_all((data.rgb(int(frame)) for frame in some), data.camera)
    order = np.argsort([one.score for one in found])
    shown: list[Example] = []
    for i in order[[0, len(order) // 3, 2 * len(order) // 3, -2, -1]]:
        shown.append(_example(f"frame {some[i]}", data.rgb(int(some[i])), found[i], data.T_map_cam[some[i]]))
    rgb: UInt8 = data.rgb(int(some[order[len(order) // 2]]))
    for name, spoil in CORRUPTIONS.items():
        image = spoil(rgb)
        shown.append(_example(name, image, localizer.find(image, data.camera), None))
    return shown


def _example(label: str, rgb: UInt8, answer: Any, T_true: Float64 | None) -> Example:
    if answer.T_map_cam is None or T_true is None:
        error_m = float("nan")
    else:
        error_m = float(np.linalg.norm(answer.T_map_cam[:3, 3] - T_true[:3, 3]))
    return Example(label, rgb, answer, error_m)


def _told(data: Dataset, chosen: HeldOut, measured: MeasuredPoses, judged: JudgedPoses) -> dict[str, Any]:
    accepted = measured.accepted_at
    return {
        **chosen.facts(data),
        "accepted": measured.accepted.to_list(),
        "coverage": _coverage(measured.coverage),
        "median_position_m": round(float(np.median(measured.position_m[accepted])), 4),
        "median_rotation_deg": round(float(np.median(measured.rotation_deg[accepted])), 4),
        "median_sigma_m": round(float(np.median(measured.sigma_m[accepted])), 4),
        "judged": judged.to_dict(),
    }


# Images as a failing camera gives them, to show and to measure what is rejected; nothing is fitted to them.


CORRUPTIONS: dict[str, Callable[[UInt8], UInt8]] = {
    # A covered lens: sensor noise of a grey level or two.
    "black": lambda rgb: np.random.default_rng(0).normal(2.0, 1.5, rgb.shape).clip(0, 255).astype(np.uint8),
    "dark": lambda rgb: np.asarray(rgb * 0.2, np.uint8),
    "overexposed": lambda rgb: (rgb * 3.0 + 60.0).clip(0, 255).astype(np.uint8),
    # Of the image's width: the blur's standard deviation, and how far it moved.
    "out of focus": lambda rgb: np.asarray(cv2.GaussianBlur(rgb, (0, 0), 0.02 * rgb.shape[1]), np.uint8),
    "motion blur": lambda rgb: np.asarray(cv2.blur(rgb, (max(3, round(0.06 * rgb.shape[1])), 1)), np.uint8),
    "noise": lambda rgb: np.random.default_rng(0).integers(0, 256, rgb.shape, dtype=np.uint8),
    "mirrored": lambda rgb: np.ascontiguousarray(rgb[::-1]),
}


# The page of a localizer's calibration: do regions hold what they promise, are errors as large as said, what
# is rejected.


PAGE_FILE, CURVES_FILE, EXAMPLES_FILE = "calibration.html", "coverage.png", "examples.png"
GREEN, RED, BLUE = "#0b6e4f", "#c0392b", "#2c5f9e"
COLUMNS = 4
PARTS = ("position", "rotation", "both")


@dataclass(frozen=True, eq=False)
class Example:
    """An image, the answer to it, and how far its position is off (NaN where unknown)."""

    label: str
    rgb: UInt8
    answer: Estimate
    error_m: float

    def caption(self) -> str:
        if self.answer.accepted:
            sigma = f"sigma {self.answer.position_sigma_m:.1f} m"
            error = f"error {self.error_m:.1f} m, " if np.isfinite(self.error_m) else ""
            return f"{self.label}: accepted\n{error}{sigma}, score {self.answer.score:.2f}"
        return f"{self.label}: rejected\n{_wrapped(self.answer.reason)}"


def write_page(
    out: Path, title: str, checkpoint: Checkpoint, found: CalibratedLocalizer, examples: list[Example]
) -> None:
    """Write calibration.html and its two pictures into `out`; UserError when it cannot be written."""
    calibrated, judged = (f"{line.strip()}." for line in found.line().splitlines())
    sections = [
        Section("Judged, on frames that nothing was chosen on", _judged(found.judged), [judged]),
        Section.showing(
            "Promise, on lines dealt anew among those that calibrate", CURVES_FILE, "coverage and errors",
            calibrated,
            "Left: the share of accepted poses whose error lies within the region that promises it. Right: "
            "error of the position against its predicted standard deviation (of the worst direction); above "
            "the line at twice it errors are rare.",
        ),
        Section.showing(
            "Accepted and rejected", EXAMPLES_FILE, "examples",
            "Held-out frames (those that judge, where there are any) from the lowest to the highest score, "
            "and one of them spoilt. Nothing was fitted to the spoilt ones.",
        ),
    ]  # fmt: skip
    verdict = judged if found.judged.frames else calibrated
    page = Page(title, verdict, sections, found.held_out.notes, provenance(checkpoint), _mood(found.judged))
    with os_errors(f"cannot write the page into {out}"):
        out.mkdir(parents=True, exist_ok=True)
        layout.atomic_write(out / CURVES_FILE, curves_picture(found.measured))
        layout.atomic_write(out / EXAMPLES_FILE, examples_picture(examples))
        page.write(out / PAGE_FILE)


def _mood(judged: JudgedPoses) -> Mood:
    """Bad: frames that judge bear out that a region of position or rotation holds less than it promises."""
    if judged.frames == 0:
        return "neutral"
    held = zip(covariance.LEVELS, judged.coverage, strict=True)
    return "good" if all(one.high >= level for level, row in held for one in row[:2]) else "bad"


def _judged(judged: JudgedPoses) -> Table | None:
    """Nothing where nothing judged."""
    if judged.frames == 0:
        return None

    def cell(one: ShareInterval) -> str:
        return f"{one.value:.1%} ({one.low:.1%} to {one.high:.1%})"

    columns = [Column("level", "region of", ".0%"), *(Column(part, f"{part} held", cell) for part in PARTS)]
    rows = [
        {"level": level, **dict(zip(PARTS, row, strict=True))}
        for level, row in zip(covariance.LEVELS, judged.coverage, strict=True)
    ]
    return Table(columns, rows)


def curves_picture(measured: MeasuredPoses) -> bytes:
    """PNG of the coverage curve and of errors against their predicted size."""
    figure = new_figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="0.7", lw=1)
    for column, (name, colour) in enumerate(zip(PARTS, (GREEN, BLUE, RED), strict=True), 1):
        left.plot(measured.curve[:, 0], measured.curve[:, column], color=colour, marker=".", label=name)
    left.set(xlabel="promised", ylabel="held", xlim=(0, 1), ylim=(0, 1))
    left.legend(fontsize=8)
    _scatter(right, measured)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return png(figure)


def examples_picture(examples: list[Example]) -> bytes:
    """PNG of images with their answers below."""
    rows = -(-len(examples) // COLUMNS)
    figure = new_figure(2.6 * COLUMNS, 3.3 * rows)
    for axes, example in zip(figure.subplots(rows, COLUMNS, squeeze=False).flat, examples, strict=False):
        axes.imshow(example.rgb)
        colour = GREEN if example.answer.accepted else RED
        axes.set_xlabel(example.caption(), fontsize=7.5, color=colour)
        for side in axes.spines.values():
            side.set(color=colour, linewidth=3)
    for axes in figure.axes:
        axes.set(xticks=[], yticks=[])
        if not axes.has_data():
            axes.set_axis_off()
    return png(figure)


def _scatter(axes: Axes, measured: MeasuredPoses) -> None:
    """Errors of frames against the standard deviation said; each frame was judged by fits without its line."""
    ok = measured.accepted_at
    limits = (
        0.7 * float(min(measured.sigma_m.min(), np.quantile(measured.position_m, 0.01))),
        1.3 * float(max(measured.sigma_m.max(), measured.position_m.max())),
    )
    ends = np.array(limits)
    axes.plot(ends, ends, color="0.6", lw=1)
    axes.plot(ends, 2 * ends, color="0.6", lw=1, ls="--")
    for which, colour, name in ((ok, GREEN, "accepted"), (~ok, RED, "rejected")):
        axes.scatter(measured.sigma_m[which], measured.position_m[which], s=5, color=colour, alpha=0.4, label=name)
    axes.set(xscale="log", yscale="log", xlabel="predicted sigma (m)", ylabel="error (m)", xlim=limits, ylim=limits)
    axes.legend(fontsize=8)


def _wrapped(text: str, width: int = 42) -> str:
    lines = [""]
    for word in text.split():
        lines = [*lines[:-1], f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < width else [*lines, word]
    return "\n".join(lines)
