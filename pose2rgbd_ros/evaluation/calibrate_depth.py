"""Calibrate a checkpoint on held-out frames: bounds of depth, and how far poses may lie from those trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.reader import Dataset, FrameCache, frame_cache
from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.evaluation.depth_bounds import Goal, Judged, Look, MeasuredDepth, Pixels, edges_of, fit, measure
from pose2rgbd_ros.evaluation.held_out import FEWEST_UNITS, HeldOut, Units, held_out
from pose2rgbd_ros.evaluation.pictures import model_name, provenance
from pose2rgbd_ros.evaluation.sheets import (
    DEPTH_COLOURS,
    ERROR_COLOURS,
    Block,
    SheetColumn,
    block_tiles,
    draw_blocks,
    new_figure,
    png,
)
from pose2rgbd_ros.geometry.arrays import Float32, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.rendering.bounds import FEATURES, SPREAD_RADIUS_PX, Calibration, depth_spread, save_calibration
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.rendering.trust import NOWHERE, PoseScore
from pose2rgbd_ros.reports import table
from pose2rgbd_ros.reports.charts import COLOURS, chart, styled, svg
from pose2rgbd_ros.reports.page import Chart, Mood, Page, Section
from pose2rgbd_ros.training.checkpoint import Checkpoint, checkpoint_directory, load_checkpoint
from pose2rgbd_ros.training.metrics import spread

# The page of a calibration: do intervals hold what they promise, do narrow ones err less, and how it looks in frames.


PAGE_FILE, SHEET_FILE, CURVES_FILE = "calibration.html", "calibration.png", "calibration_curves.png"


class ShownFrame:
    """A held-out frame: recorded colour and depth, depth as rendered with its bounds; (H, W), NaN unknown."""

    def __init__(self, label: str, rgb: UInt8, truth: Float32, depth: Float32, lower: Float32, upper: Float32) -> None:
        self.label, self.rgb, self.truth = label, rgb, truth
        self.depth, self.lower, self.upper = depth, lower, upper

    def missed(self, margin_m: float) -> UInt8:
        """(H, W, 3): where the interval does not hold the truth."""
        picture = np.full((*self.depth.shape, 3), 235, np.uint8)
        with np.errstate(invalid="ignore"):
            for where, colour in (
                (self.truth < self.lower, (240, 190, 120)),
                (self.truth > self.upper, (120, 150, 230)),
                (self.truth + margin_m < self.lower, (200, 20, 20)),
                (np.isnan(self.depth), (64, 64, 64)),
            ):
                picture[where] = colour
        return picture


def write_page(
    out: Path,
    title: str,
    checkpoint: Checkpoint,
    calibration: Calibration,
    kind: str,
    measured: MeasuredDepth,
    judged: Judged,
    frames: list[ShownFrame],
) -> None:
    """Write calibration.html and its two pictures into `out`; UserError when it cannot be written."""
    block = _block(frames, calibration.margin_m)
    calibrated, judged_line = f"{measured.line(calibration, kind)}.", f"{judged.line(calibration.level)}."
    sections = [
        Section("Judged, on frames that nothing was chosen on", _judged(judged, calibration.level), [judged_line]),
        Section(
            "Promise and risk, on lines dealt anew among those that calibrate", text=[calibrated],
            charts=_charts(measured),
        ),
        Section(
            "Frames with their bounds", tiles=block_tiles(block), text=[
                "Held-out frames (those that judge, where there are any), with the final table. Grey is unknown. "
                "The last column shows where the truth lies nearer than the lower bound (red: by more than the "
                "margin) or farther than the upper one (blue)."
            ],
        ),
    ]  # fmt: skip
    verdict = judged_line if judged.frames and calibration.guard_limit >= 0 else calibrated
    notes, mood = calibration.figures.get("notes", []), _mood(calibration, judged)
    page = Page(title, verdict, sections, notes, provenance(checkpoint), mood)
    with os_errors(f"cannot write the page into {out}"):
        out.mkdir(parents=True, exist_ok=True)
        draw_blocks(out / SHEET_FILE, [block], title)
        layout.atomic_write(out / CURVES_FILE, _curves(measured))
        page.write(out / PAGE_FILE)


def _mood(calibration: Calibration, judged: Judged) -> Mood:
    """Bad: the guard withholds everything, or more is false-safe than was asked for."""
    if calibration.guard_limit < 0:
        return "bad"
    if judged.frames == 0:
        return "neutral"
    return "good" if judged.false_safe.low <= calibration.false_safe else "bad"


def _judged(judged: Judged, level: float) -> table.Table | None:
    """Nothing where nothing judged."""
    if judged.frames == 0:
        return None
    shares = {
        "frames in the guard": judged.passed, f"{level:.0%} interval holds": judged.coverage,
        "nearer than the lower bound": judged.below, "false-safe": judged.false_safe, "known": judged.known,
    }  # fmt: skip
    columns = [
        table.Column("what", ""),
        table.Column("share", format=".2%"),
        table.Column("range", f"95 % by resampling {judged.kind}", "s"),
    ]
    rows = [
        {"what": name, "share": one.value, "range": f"{one.low:.2%} to {one.high:.2%}"} for name, one in shares.items()
    ]
    return table.Table(columns, rows)


def _block(frames: list[ShownFrame], margin_m: float) -> Block:
    depths = np.concatenate([frame.truth[np.isfinite(frame.truth)].ravel() for frame in frames])
    near, far = (float(value) for value in np.quantile(depths, (0.01, 0.98)))
    errors = [np.abs(frame.depth - frame.truth) for frame in frames]
    gaps = [frame.depth - frame.lower for frame in frames]
    widths = [frame.upper - frame.lower for frame in frames]

    def most(images: list[Float32]) -> float:
        values = np.concatenate([image[np.isfinite(image)].ravel() for image in images])
        return max(float(np.quantile(values, 0.97)), 0.1) if len(values) else 1.0

    columns = [
        SheetColumn("recorded", [frame.rgb for frame in frames]),
        SheetColumn("depth (m)", [frame.truth for frame in frames], DEPTH_COLOURS, near, far),
        SheetColumn("predicted (m)", [frame.depth for frame in frames], DEPTH_COLOURS, near, far),
        SheetColumn("error (m)", list(errors), ERROR_COLOURS, 0.0, most(errors)),
        SheetColumn("depth - lower (m)", list(gaps), ERROR_COLOURS, 0.0, most(gaps)),
        SheetColumn("interval (m)", list(widths), ERROR_COLOURS, 0.0, most(widths)),
        SheetColumn("not held", [frame.missed(margin_m) for frame in frames]),
    ]
    return Block(columns, [frame.label for frame in frames])


@styled()
def _charts(measured: MeasuredDepth) -> list[Chart]:
    """Whether intervals hold what they promise, and whether narrow ones err less."""
    promise, axes = chart(2.9)
    promised, held = np.array(measured.reliability).reshape(-1, 2).T
    axes.plot([0.45, 1], [0.45, 1], color=COLOURS["mean"], lw=1, label="as promised")
    axes.plot(promised, held, marker="o", ms=4, color=COLOURS["model"], label="found")
    axes.set(xlabel="share promised", ylabel="share held", xlim=(0.45, 1), ylim=(0.45, 1))
    axes.legend()
    risk, rows = chart(2.9, rows=2)
    kept, error_m, over = np.array(measured.risk_coverage).reshape(-1, 3).T
    rows[0].plot(kept, error_m, marker="o", ms=4, color=COLOURS["model"])
    rows[0].set(ylabel="error (m)", ylim=(0, None))
    rows[1].plot(kept, 100 * over, marker="o", ms=4, color=COLOURS["bad"])
    rows[1].set(ylabel="too far (%)", ylim=(0, None), xlabel="share of pixels kept, narrowest interval first")
    return [
        Chart(svg(promise), "The share of pixels within the interval, against the share that it promises."),
        Chart(svg(risk), "Mean error of depth, and share of pixels farther than the truth by more than the margin, "
                         "among the pixels of the narrowest intervals."),
    ]  # fmt: skip


def _curves(measured: MeasuredDepth) -> bytes:
    """PNG for notes."""
    figure = new_figure(10, 3.6)
    left, right = figure.subplots(1, 2)
    promised, held = np.array(measured.reliability).reshape(-1, 2).T
    left.plot([0.4, 1], [0.4, 1], color="0.7", lw=1)
    left.plot(promised, held, marker="o", color="#0b6e4f")
    left.set(xlabel="promised", ylabel="held", xlim=(0.45, 1), ylim=(0.45, 1))
    kept, error_m, over = np.array(measured.risk_coverage).reshape(-1, 3).T
    right.plot(kept, error_m, marker="o", color="#0b6e4f", label="mean error (m)")
    right.set(xlabel="share of pixels kept, narrowest interval first", ylabel="mean error (m)", ylim=(0, None))
    second = right.twinx()
    second.plot(kept, 100 * over, marker="s", color="#c0392b", label="farther than the truth by the margin (%)")
    second.set(ylabel="farther by the margin (%)", ylim=(0, None))
    figure.legend(loc="outside lower right", fontsize=8, ncols=2)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return png(figure)


MOST_FRAMES = 160  # more add little
MOST_PIXELS = 200_000
SHOWN_FRAMES = 5


@dataclass(frozen=True, eq=False)
class Calibrated:
    """The calibration, and what it is drawn from."""

    calibration: Calibration
    measured: MeasuredDepth
    judged: Judged
    held_out: HeldOut

    def line(self) -> str:
        """For the console: what calibrated, and a second line of what judged."""
        calibrated = self.measured.line(self.calibration, self.held_out.kind)
        return f"{calibrated}\n   {self.judged.line(self.calibration.level)}"


def calibrate(
    checkpoint: Path, dataset: Path, goal: Goal | None = None, device: str = "cpu", page: Path | None = None
) -> Calibrated:
    """Calibrate, and write the calibration into the checkpoint's folder; `page` is a folder for what to look at.

    Raises:
        UserError: a bad checkpoint or dataset, no metric depth in one of them, too few held-out frames, or nothing
            known.
    """
    goal = goal or Goal()
    directory = checkpoint_directory(Path(checkpoint))
    loaded = load_checkpoint(directory)
    data = Dataset(dataset)
    _check_depth(loaded, data)
    loaded.check_map(data.path, data.meta)
    chosen = held_out(loaded, data).at_most(MOST_FRAMES, widened=True)
    source = _Source(directory, loaded, data, device)
    pixels, asked = source.pixels(chosen)
    edges = edges_of(pixels, FEATURES)
    table = fit(pixels, edges, goal, source.focal_px)
    measured = measure(pixels, asked, edges, goal, source.focal_px)
    calibration = Calibration(
        weights_sha256=loaded.weights_sha256,
        level=goal.level,
        false_safe=goal.false_safe,
        margin_m=goal.margin_m,
        guard_limit=guard_limit(source.frame_scores, measured.judged, goal.false_safe),
        distance_m=source.score.distance_m,
        table=table,
    )
    save_calibration(directory, calibration)
    judged = source.judge(Renderer(directory, device), chosen.judge, goal.margin_m)
    calibration = replace(calibration, figures={**chosen.facts(data), **measured.to_dict(), "judged": judged.to_dict()})
    save_calibration(directory, calibration)
    if page is not None:
        title = f"Calibration of {model_name(loaded)} {loaded.camera.width} px on {data.path.resolve().name}"
        own = chosen.judge.frames if judged.frames else chosen.frames[chosen.unit >= 0]
        frames = source.shown(Renderer(directory, device), spread(own, SHOWN_FRAMES))
        write_page(page, title, loaded, calibration, chosen.kind, measured, judged, frames)
    return Calibrated(calibration, measured, judged, chosen)


def judge(checkpoint: Path, data: Dataset, frames: Units, device: str = "cpu") -> Judged:
    """What a calibrated checkpoint makes of frames of a dataset, which should be such as chose nothing of it.

    Raises:
        UserError: a bad checkpoint, one without a calibration, or a dataset of another place or without metric depth.
    """
    directory = checkpoint_directory(Path(checkpoint))
    loaded, renderer = load_checkpoint(directory), Renderer(directory, device)
    if renderer.calibration is None:
        raise UserError(f"{directory} is not calibrated; run pose2rgbd calibrate first")
    _check_depth(loaded, data)
    loaded.check_map(data.path, data.meta)
    return _Source(directory, loaded, data, device).judge(renderer, frames, renderer.calibration.margin_m)


def guard_limit(score: dict[int, float], judged: dict[int, tuple[int, int]], allowed: float) -> float:
    """The largest score of a judged frame up to which false-safe pixels stay rare enough, NOWHERE when none is.

    Args:
        score: frame -> score of its pose, in metres.
        judged: frame -> its false-safe and its known pixels, by bounds fitted without its line. Frames that no such
            bounds were tried on, or that know no pixel, are evidence of nothing: they neither count nor carry the
                limit.
        allowed: of all known pixels of the frames up to the limit, at most this share is false-safe.
    """
    frames = sorted((frame for frame, (_, known) in judged.items() if known > 0), key=score.__getitem__)
    if not frames:
        return NOWHERE
    scores = np.array([score[frame] for frame in frames])
    unsafe, known = np.cumsum([judged[frame] for frame in frames], axis=0).T
    whole = np.append(scores[1:] > scores[:-1], True)  # the guard lets frames of equal score pass together
    fair = np.flatnonzero(whole & (unsafe <= allowed * known))
    return float(scores[fair[-1]]) if len(fair) else NOWHERE


class _Source:
    """Held-out frames as the model shows them, and their features."""

    def __init__(self, directory: Path, loaded: Checkpoint, data: Dataset, device: str) -> None:
        self._renderer = Renderer(directory, device, guard=False, calibrated=False)
        self._data = data
        provenance = loaded.provenance
        self._cache: FrameCache = frame_cache(
            data, loaded.camera.width, provenance.get("fit", "square"), provenance.get("margin", 0)
        )
        self._max_depth = provenance.get("config", {}).get("max_depth")
        self.camera: Camera = self._cache.camera
        if not self.camera.is_calibrated and (self._renderer.any_camera or self.camera != loaded.camera):
            raise UserError(f"the camera of {data.path} is not calibrated, so this model cannot look through it")
        own = self.camera if self._renderer.any_camera else loaded.camera  # what bounds are made at
        self.focal_px = own.focal_px if own.is_calibrated else 0.0
        self._training = loaded.training_T_map_cam
        self.frame_scores: dict[int, float] = {}
        self.score = PoseScore(self._training, 1.0)

    def truth(self, frame: int) -> Float32:
        """Recorded depth (H, W), NaN unknown."""
        assert self._cache.depth is not None
        depth = np.array(self._cache.depth[frame], np.float32)
        if self._max_depth is not None:
            depth[depth > self._max_depth] = np.nan
        return depth

    def pixels(self, chosen: HeldOut) -> tuple[Pixels, dict[int, int]]:
        """Some pixels of all chosen frames, and unit -> how many of its sampled pixels have a recorded depth."""
        rng = np.random.default_rng(0)
        truths = {int(frame): self.truth(int(frame)) for frame in chosen.frames}
        known = [float(np.nanmedian(truth)) for truth in truths.values() if np.isfinite(truth).any()]
        if not known:
            raise UserError(f"{self._data.path}: no held-out frame has a known depth; nothing to calibrate on")
        self.score = PoseScore(self._training, max(float(np.median(known)), 0.1))
        size = self.camera.width * self.camera.height
        share = min(1.0, MOST_PIXELS / (size * len(chosen.frames)))
        parts: list[tuple[Any, ...]] = []
        asked: dict[int, int] = {}
        pairs = zip(chosen.frames, chosen.unit, strict=True)
        for frame, unit in tqdm(
            pairs, "calibrating", len(chosen.frames), unit="frame", disable=None, delay=2.0, leave=False
        ):
            T, truth = self._data.T_map_cam[frame], truths[int(frame)].reshape(-1)
            score = self.score(T).score
            self.frame_scores[int(frame)] = score
            depth, features = self._features(T, score)
            sampled = (rng.random(size) < share) & np.isfinite(truth)
            asked[int(unit)] = asked.get(int(unit), 0) + int(sampled.sum())
            taken = np.flatnonzero(sampled & np.isfinite(depth) & (depth > 0))
            columns = [np.full(len(taken), value) for value in (unit, frame)]
            parts.append((*(values[taken] for values in features), depth[taken], truth[taken], *columns))
        joined = [np.concatenate(part) for part in zip(*parts, strict=True)]
        if len(joined[0]) == 0:
            raise UserError(f"{self._data.path}: the model knows no depth in any held-out frame")
        known_units = np.unique(joined[-2][joined[-2] >= 0])
        if len(known_units) < FEWEST_UNITS:
            raise UserError(
                f"{self._data.path}: the model knows depth in {len(known_units)} of {len(chosen.units)} held-out "
                f"{chosen.kind}; {FEWEST_UNITS} are needed to calibrate"
            )
        count = len(FEATURES)
        return Pixels(tuple(joined[:count]), joined[count], joined[count + 1], *joined[count + 2 :]), asked

    def judge(self, renderer: Renderer, frames: Units, margin_m: float) -> Judged:
        """Frames as the calibrated renderer shows them, counted."""

        def looks() -> Iterator[Look]:
            pairs = zip(frames.frames, frames.unit, strict=True)
            for frame, unit in tqdm(
                pairs, "judging", len(frames.frames), unit="frame", disable=None, delay=2.0, leave=False
            ):
                T = self._data.T_map_cam[frame]
                images = renderer.render_for_camera(T, self.camera)
                assert images.depth is not None
                assert images.depth_lower is not None
                assert images.depth_upper is not None
                bounds = images.depth[0], images.depth_lower[0], images.depth_upper[0]
                inside = renderer.guard_score(T).inside
                yield Look(int(unit), inside, self.truth(int(frame)), *bounds)

        return Judged.of(looks(), frames.kind, margin_m)

    def shown(self, renderer: Renderer, frames: np.ndarray) -> list[ShownFrame]:
        """Frames as the calibrated renderer shows them."""
        rows = []
        for frame in frames:
            images = renderer.render_for_camera(self._data.T_map_cam[frame], self.camera)
            assert images.depth is not None
            assert images.depth_lower is not None
            assert images.depth_upper is not None
            seconds = (int(self._data.stamps_ns[frame]) - int(self._data.stamps_ns[0])) / 1e9
            bounds = images.depth[0], images.depth_lower[0], images.depth_upper[0]
            rgb = np.asarray(self._cache.rgb[frame])
            rows.append(ShownFrame(f"t = {seconds:.1f} s", rgb, self.truth(int(frame)), *bounds))
        return rows

    def _features(self, T_map_cam: Any, score: float) -> tuple[Float32, tuple[Float32, ...]]:
        """Depth (H W,) of a view and its features, each (H W,), in the order of bounds.FEATURES."""
        images = self._renderer.render_for_camera(T_map_cam, self.camera)
        assert images.depth is not None
        depth = images.depth[0]
        none = np.zeros(depth.size, np.float32)
        confidence = none if images.confidence is None else images.confidence[0].reshape(-1)
        around = depth_spread(depth, SPREAD_RADIUS_PX).reshape(-1)
        return depth.reshape(-1), (
            confidence, around, depth.reshape(-1), np.full(depth.size, score, np.float32),
        )  # fmt: skip


def _check_depth(loaded: Checkpoint, data: Dataset) -> None:
    if loaded.depth_kind is None:
        raise UserError("this model predicts no depth, so there is nothing to calibrate")
    if loaded.depth_kind == "relative":
        raise UserError(
            "this model's depth is relative: without a scale it bounds no distance; train on metric depth to calibrate"
        )
    if not data.has_depth or data.depth_kind != "metric":
        raise UserError(f"{data.path} has no metric depth to calibrate against")
