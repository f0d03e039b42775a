"""A trained network that finds poses, on frames it has not seen: `pose2rgbd evaluate RUN DATASET` for such a
checkpoint.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from tqdm import tqdm

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.evaluation.held_out import EvalSplit, choose_frames, training_frames
from pose2rgbd_ros.evaluation.pictures import SPLIT_WORDS, NearestFrame, provenance
from pose2rgbd_ros.evaluation.sheets import Block, SheetColumn, draw_blocks, new_figure, png
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.estimate import Estimate, PoseEstimator
from pose2rgbd_ros.localization.localizer import Localizer
from pose2rgbd_ros.localization.retrieval import FrameIndex, Retrieval, Structure
from pose2rgbd_ros.reports.page import Mood, Page, Section
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.settings import write_yaml
from pose2rgbd_ros.training.checkpoint import Checkpoint, load_checkpoint
from pose2rgbd_ros.training.families import UNTRAINED, RenderModel

# How far off a way of finding the camera is, on frames it was not built from.
#
# Errors are the paper's: metres between the positions, and degrees of the rotation between the orientations. A frame
# whose pose is rejected has no error; it counts in the shares of all frames, so refusing the hard ones gains nothing.


# (m, deg): usual for 7-Scenes; the three of the long-term localization benchmark (Sattler et al. 2018); for coarse
# ways.
THRESHOLDS = ((0.05, 5.0), (0.25, 2.0), (0.5, 5.0), (5.0, 10.0), (20.0, 20.0))
QUANTILES = (0.25, 0.75, 0.9, 0.95)
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as OpenCV and Pillow turn images grey
_QUIET_FRAMES = 100


@dataclass
class Localized:
    """What a method answered to N frames.

    T_true: (N, 4, 4) camera to map. milliseconds: (N,) wall time a frame took, its reading left out.
    """

    name: str
    stamps_ns: Int64
    T_true: Float64
    estimates: list[Estimate]
    milliseconds: Float64

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @functools.cached_property
    def T_found(self) -> Float64:
        """(N, 4, 4) NaN where nothing was found."""
        nothing = np.full((4, 4), np.nan)
        found = [nothing if one.T_map_cam is None else one.T_map_cam for one in self.estimates]
        return np.array(found).reshape(-1, 4, 4)

    @functools.cached_property
    def accepted(self) -> Bool:
        """Which frames (N,) have a pose that may be used."""
        return np.array([one.accepted and one.T_map_cam is not None for one in self.estimates], bool)

    @property
    def position_m(self) -> Float64:
        """(N,) error of every pose found, rejected or not; NaN where there is none."""
        return self._errors[0]

    @property
    def rotation_deg(self) -> Float64:
        """(N,) likewise: the angle of the turn between the orientations, 2 acos |q1 . q2|."""
        return np.rad2deg(self._errors[1])

    @functools.cached_property
    def _errors(self) -> tuple[Float64, Float64]:
        """Metres and radians (N,)."""
        metres, radians = np.full((2, len(self)), np.nan)
        found = np.isfinite(self.T_found).all(axis=(1, 2))
        metres[found], radians[found] = se3.apart(self.T_found[found], self.T_true[found])
        return metres, radians

    def scores(self) -> dict[str, Any]:
        """Plain numbers for files: see :func:`scores`."""
        return scores(self.position_m, self.rotation_deg, self.accepted, self.milliseconds)

    def part(self, inside: Bool) -> Localized:
        """Of some of the frames."""
        rows = np.flatnonzero(inside)
        estimates = [self.estimates[row] for row in rows]
        return Localized(self.name, self.stamps_ns[rows], self.T_true[rows], estimates, self.milliseconds[rows])


def scores(
    position_m: Float64, rotation_deg: Float64, accepted: Bool, milliseconds: Float64 | None = None
) -> dict[str, Any]:
    """Median, mean and quantiles over the accepted frames; shares within THRESHOLDS, and a median, over all of them.

    In ``median_all_*`` a rejected frame is infinitely wrong. NaN where there are no frames to speak of.
    """
    result: dict[str, Any] = {"frames": len(accepted), "rejected": int((~accepted).sum())}
    for name, errors in (("position_m", position_m), ("rotation_deg", rotation_deg)):
        known = errors[accepted]
        result[f"median_{name}"] = float(np.median(known)) if len(known) else float("nan")
        result[f"mean_{name}"] = float(known.mean()) if len(known) else float("nan")
        for share in QUANTILES:
            value = float(np.quantile(known, share)) if len(known) else float("nan")
            result[f"q{round(share * 100)}_{name}"] = value
        charged = np.sort(np.where(accepted, errors, np.inf))
        # The lower of the middle two: the mean of a number and infinity says nothing.
        result[f"median_all_{name}"] = float(charged[(len(charged) - 1) // 2]) if len(charged) else float("nan")
    for metres, degrees in THRESHOLDS:
        within = accepted & (position_m <= metres) & (rotation_deg <= degrees)
        result[f"within_{metres:g}_m_{degrees:g}_deg"] = float(within.mean()) if len(within) else float("nan")
    if milliseconds is not None and len(milliseconds):
        result["median_ms"] = float(np.median(milliseconds))
    return result


def localize(
    finder: PoseEstimator, dataset: Dataset, frames: Int64, grey: bool = False, label: str = "localizing"
) -> Localized:
    """Ask a finder where each of some frames was taken. `grey`: of their images made grey (the paper's Table 2)."""
    estimates, milliseconds = [], []
    quiet = len(frames) < _QUIET_FRAMES or None
    for index in tqdm(frames, label, unit="frame", disable=quiet, leave=False):
        rgb = dataset.rgb(int(index))
        rgb = to_grey(rgb) if grey else rgb
        start_s = time.perf_counter()
        estimates.append(finder.find(rgb, dataset.camera))
        milliseconds.append(1e3 * (time.perf_counter() - start_s))
    T_true, stamps_ns = dataset.T_map_cam[frames], dataset.stamps_ns[frames]
    return Localized(finder.name, stamps_ns, T_true, estimates, np.array(milliseconds))


def to_grey(rgb: UInt8) -> UInt8:
    """An image (H, W, 3) with its luma in all three channels."""
    luma = np.rint(rgb @ LUMA).clip(0, 255).astype(np.uint8)
    return np.repeat(luma[..., None], 3, axis=2)


def cumulative(errors: Float64, accepted: Bool, at: Float64) -> Float64:
    """The share of all frames that are accepted with an error of at most each of `at` (M,): the cumulative curve."""
    charged = np.where(accepted, errors, np.inf)
    return np.asarray((charged[None, :] <= at[:, None]).mean(axis=1)) if len(charged) else np.zeros(len(at))


class MeanPose:
    """Always the mean of the training poses: what any way of finding a camera has to beat."""

    name = "mean pose"

    def __init__(self, T_map_cam: Float64) -> None:
        self._estimate = Estimate(se3.mean(T_map_cam))

    def find(self, rgb: UInt8, camera: Camera) -> Estimate:
        """See `PoseEstimator`; the image is not looked at."""
        return self._estimate


def write_csv(path: Path, localized: Localized) -> None:
    """One line a frame: stamp, true and found position and quaternion, errors, whether accepted, why not. OSError."""
    numbers = ("x", "y", "z", "qx", "qy", "qz", "qw")
    columns = ["stamp_ns", *(f"{which}_{name}" for which in ("true", "found") for name in numbers)]
    columns += ["position_error_m", "rotation_error_deg", "ms", "accepted", "reason"]
    frames = zip(
        localized.stamps_ns, localized.T_true, localized.T_found, localized.position_m, localized.rotation_deg,
        localized.milliseconds, localized.accepted, localized.estimates, strict=True,
    )  # fmt: skip
    rows = []
    for stamp_ns, true, found, metres, degrees, ms, accepted, estimate in frames:
        errors = [f"{metres:.6g}", f"{degrees:.6g}", f"{ms:.2f}"]
        values = [int(stamp_ns), *_numbers(true), *_numbers(found), *errors, int(accepted), estimate.reason]
        rows.append(dict(zip(columns, values, strict=True)))
    layout.atomic_write(path, Table([*map(Column, columns)], rows).csv().encode())


def _numbers(T: Float64) -> list[str]:
    if not np.isfinite(T).all():
        return [""] * 7
    position, quaternion = se3.split(T)
    return [f"{value:.9g}" for value in (*position, *quaternion)]


# What a network that finds cameras has to beat, by name.


NEIGHBOURS = 10  # that a pose is interpolated between


class PoseEstimators:
    """The untrained ways on the training frames `frames` (N,) of a dataset; all but the mean pose share one index."""

    def __init__(self, dataset: Dataset, frames: Int64) -> None:
        self._dataset, self._frames = dataset, np.asarray(frames)

    def named(self, name: str) -> PoseEstimator:
        """One of UNTRAINED. UserError where the dataset has not what it takes (structure: metric depth)."""
        if name == "mean-pose":
            return MeanPose(self._dataset.T_map_cam[self._frames])
        if name == "structure":
            Structure.check(self._dataset)
            return Structure(self._index)
        return Retrieval(self._index, {"retrieval": 1, "retrieval-inter": NEIGHBOURS}[name])

    @functools.cached_property
    def _index(self) -> FrameIndex:
        return FrameIndex(self._dataset, self._frames)


MODEL = "model"
KEPT = {
    "best": "the weights are those that were best on the held-out frames that choose (--keep best)",
    "last": "the weights are those of the end of the training; no held-out frame chose them",
}
COLUMNS = (
    Column("method", ""),
    Column("images"),
    Column("median_position_m", "position", ".3f", "m"),
    Column("median_rotation_deg", "orientation", ".2f", "°"),
    Column("mean_position_m", "mean", ".3f", "m"),
    Column("mean_rotation_deg", "mean", ".2f", "°"),
    Column("q90_position_m", "90 % within", ".2f", "m"),
    Column("within_0.25_m_2_deg", "0.25 m, 2°", ".0%"),
    Column("within_5_m_10_deg", "5 m, 10°", ".0%"),
    Column("rejected", format="d"),
    Column("median_ms", "ms a frame", ".1f"),
)


@dataclass
class PoseEvaluation:
    """What came of it. colour, grey: method -> what it said of each frame; the network is MODEL."""

    checkpoint: Checkpoint
    dataset: Dataset
    training: Dataset | None
    chosen: EvalSplit
    colour: dict[str, Localized]
    grey: dict[str, Localized]
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the network, such as "posegan-b"."""
        model = self.checkpoint.provenance.get("config", {}).get("model")
        return str(model or self.checkpoint.architecture["network"])

    def measured_on(self) -> str:
        """In words."""
        chosen = self.chosen
        return (
            f"{counted(len(chosen.test), 'frame')} of {self.dataset.path.resolve().name}: "
            f"{SPLIT_WORDS.get(chosen.split, chosen.split)}, {chosen.seen}"
        )

    def scored(self, group: str = "") -> Table:
        """Each method on colour, then on grey images; of all frames, or a group's."""
        rows = [
            {
                "method": self.name if name == MODEL else localized.name,
                "images": kind,
                **self._of(localized, group).scores(),
            }
            for kind, said in (("colour", self.colour), ("grey", self.grey))
            for name, localized in said.items()
        ]
        return Table(COLUMNS, rows, strong=[0])

    def table(self) -> str:
        """Markdown: everything in words and numbers."""
        parts = [self.scored().markdown(), f"Medians unless it says otherwise; measured on {self.measured_on()}."]
        for group, frames in self.chosen.groups.items():
            parts.append(f"{group}, {counted(len(frames), 'frame')}:\n\n{self.scored(group).markdown()}")
        return "\n\n".join([*parts, self.verdict() + ".", *self.notes])

    def share_of_mean_pose(self) -> float | None:
        """Median position error as a share of the mean training pose's; None without training frames at hand."""
        if "mean-pose" not in self.colour:
            return None
        ours, theirs = (self.colour[name].scores()["median_position_m"] for name in (MODEL, "mean-pose"))
        return float(ours / theirs)

    def verdict(self) -> str:
        """One sentence: the medians, beside always saying the mean pose where the training frames are at hand."""
        scores, share = self.colour[MODEL].scores(), self.share_of_mean_pose()
        text = f"median error {scores['median_position_m']:.3g} m, {scores['median_rotation_deg']:.3g}°"
        if share is not None:
            text += f": {share:.0%} of the mean training pose's position error"
        if scores["rejected"]:
            text += f"; {scores['rejected']} of {counted(scores['frames'], 'frame')} rejected"
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain values for metrics.yaml."""
        return {
            "model": self.name,
            "dataset": self.dataset.path.resolve().name,
            "split": self.chosen.split,
            "frames": len(self.chosen.test),
            "frames_trained_on": len(np.intersect1d(self.chosen.test, self.chosen.train)),
            "frames_chosen_by": len(np.intersect1d(self.chosen.test, self.chosen.choose)),
            "scores": {
                kind: {name: _rounded(each.scores()) for name, each in said.items()}
                for kind, said in (("colour", self.colour), ("grey", self.grey))
            },
            "group_scores": {
                group: {name: _rounded(self._of(each, group).scores()) for name, each in self.colour.items()}
                for group in self.chosen.groups
            },
            "notes": self.notes,
            "checkpoint": {
                "architecture": self.checkpoint.architecture,
                "weights_sha256": self.checkpoint.weights_sha256,
            },
        }

    def _of(self, localized: Localized, group: str) -> Localized:
        return localized.part(np.isin(self.chosen.test, self.chosen.groups[group])) if group else localized


def evaluate_poses(
    checkpoint: Path,
    dataset: Path,
    out: Path,
    split: str = "checkpoint",
    device: str = "auto",
    training_dataset: Path | None = None,
    finders: Sequence[str] = ("mean-pose",),
) -> PoseEvaluation:
    """Measure a checkpoint that finds poses; write metrics.yaml, table.md, frames.csv and index.html into `out`.

    Args:
        split: as of :func:`pictures.evaluate`.
        training_dataset: where the frames trained on are, when `dataset` is another recording.
        finders: what it is compared with, of UNTRAINED; they are built from the training frames.

    Raises:
        UserError: a bad checkpoint or dataset, one that finds no poses, no frames to evaluate on, an unknown finder.
    """

    wrong = [name for name in finders if name not in UNTRAINED]
    if wrong:
        raise UserError(f"there is no way {wrong[0]!r} of finding a camera; choose from {', '.join(UNTRAINED)}")
    loaded, data = load_checkpoint(checkpoint), Dataset(dataset)
    localizer = Localizer(checkpoint, device)
    chosen = choose_frames(loaded, data, split)
    notes = list(chosen.notes)
    if data.meta.map_frame != loaded.map_frame:
        notes.append(f"poses are in {data.meta.map_frame!r}, the model's in {loaded.map_frame!r}")
    if len(chosen.train):
        notes.append(KEPT[kept_weights(loaded)])
    training, train = training_frames(loaded, data, chosen, training_dataset)
    methods: dict[str, Any] = {MODEL: localizer}
    if training is None and finders:
        notes.append("the training frames are not in this dataset, so there is no baseline (--training-dataset)")
    elif training is not None:
        untrained = PoseEstimators(training, train)
        methods.update({name: untrained.named(name) for name in finders})
    said = {
        grey: {name: localize(each, data, chosen.test, grey) for name, each in methods.items()}
        for grey in (False, True)
    }
    evaluation = PoseEvaluation(loaded, data, training, chosen, said[False], said[True], notes)
    write_report(out, evaluation)
    return evaluation


def kept_weights(checkpoint: Checkpoint) -> str:
    """ "best" or "last": which weights of its training a checkpoint holds."""
    provenance = checkpoint.provenance
    return str(provenance.get("kept", provenance.get("config", {}).get("keep", "best")))


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}


# Cumulative curves of found poses: the share of the frames within an error, on a logarithmic axis.


CURVE_KINDS = (("position", "m"), ("orientation", "°"))
_POINTS = 300


def prepare_curves(axes: Axes, what: str, unit: str, errors: Sequence[Float64]) -> None:
    """Set up axes for errors of which NaN is none: from the smallest hundredth of them all to the largest."""
    known = np.concatenate(errors)
    known = known[np.isfinite(known)]
    low = max(float(np.quantile(known, 0.01)), 1e-4) if len(known) else 0.01
    high = max(float(known.max()), 1.1 * low) if len(known) else 1.0
    axes.set(xscale="log", xlim=(low, high), ylim=(0, 1))
    axes.set(xlabel=f"error of the {what} ({unit})", ylabel="share of the frames")
    subdivisions = (1.0, 2.0, 5.0) if high > 10 * low else tuple(np.arange(1.0, 10.0))
    axes.xaxis.set_major_locator(LogLocator(subs=subdivisions, numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def plot_curves(axes: Axes, errors: Float64, accepted: Bool, label: str, colour: str, style: str) -> None:
    """The curve of one way's errors (N,) into prepared axes; a rejected frame is within no error."""
    at = np.geomspace(*axes.get_xlim(), _POINTS)
    axes.plot(at, cumulative(errors, accepted, at), style, color=colour, label=label, lw=1.5)


# An evaluation of found poses as files: metrics.yaml, table.md, a line a frame, and index.html to look at first.


SHEET, CURVES, MAP = "frames.png", "curves.png", "map.png"
SHOWN = 4  # best frames, and worst


def write_report(out: Path, evaluation: PoseEvaluation) -> None:
    """Write the files. UserError when the folder cannot be written."""
    title = f"{evaluation.name} {evaluation.checkpoint.camera.width} px on {evaluation.dataset.path.resolve().name}"
    with os_errors(f"cannot write the report into {out}"):
        out.mkdir(parents=True, exist_ok=True)
        write_yaml(out / "metrics.yaml", evaluation.to_dict())
        (out / "table.md").write_text(evaluation.table() + "\n")
        write_csv(out / "frames.csv", evaluation.colour[MODEL])
        write_csv(out / "frames_grey.csv", evaluation.grey[MODEL])
        layout.atomic_write(out / CURVES, _curves(evaluation))
        layout.atomic_write(out / MAP, _map(evaluation))
        _draw_frames(out / SHEET, evaluation, title)
        _page(evaluation, title).write(out / "index.html")


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
    for line, (axes, kind) in enumerate(zip(figure.subplots(1, 2), CURVE_KINDS, strict=True)):
        errors = [(each.position_m, each.rotation_deg)[line] for each in evaluation.colour.values()]
        prepare_curves(axes, *kind, errors)
        for style, said in (("-", evaluation.colour), (":", evaluation.grey)):
            for i, (name, each) in enumerate(said.items()):
                error = (each.position_m, each.rotation_deg)[line]
                label = (evaluation.name if name == MODEL else each.name) + (", grey" if style == ":" else "")
                plot_curves(axes, error, each.accepted, label, f"C{i}", style)
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
    """The best frames above the worst: the image, what the network shows at its pose, the frame nearest there."""
    found = evaluation.colour[MODEL]
    known = np.flatnonzero(np.isfinite(found.position_m))
    order = known[np.argsort(found.position_m[known], kind="stable")]
    best = _apart(order, len(found))
    worst = np.setdiff1d(_apart(order[::-1], len(found)), best)
    parts = [("best", best), ("worst", worst[np.argsort(-found.position_m[worst])])]
    blocks = [Block(_columns(evaluation, rows), _labels(found, rows, word)) for word, rows in parts if len(rows)]
    if not blocks:
        nothing = SheetColumn("no pose was found", [evaluation.dataset.rgb(int(evaluation.chosen.test[0]))])
        blocks = [Block([nothing], ["all rejected"])]
    draw_blocks(path, blocks, title)


def _apart(order: Int64, count: int) -> Int64:
    """The first SHOWN that are no neighbours (a fiftieth of all frames to either side): one mishap fills no sheet."""
    taken: list[int] = []
    for row in order:
        if len(taken) < SHOWN and all(abs(int(row) - other) > count // 50 for other in taken):
            taken.append(int(row))
    return np.array(taken, np.int64)


def _columns(evaluation: PoseEvaluation, rows: Int64) -> list[SheetColumn]:
    dataset, found = evaluation.dataset, evaluation.colour[MODEL]
    T_found = found.T_found[rows]
    images: list[np.ndarray | None] = [dataset.rgb(int(evaluation.chosen.test[row])) for row in rows]
    columns = [SheetColumn("image", images)]
    model = evaluation.checkpoint.build_model()
    if isinstance(model, RenderModel):
        columns.append(SheetColumn("shown at the pose found", [*_shown(evaluation, model, T_found)]))
    if evaluation.training is not None:
        training = evaluation.training
        train = np.flatnonzero(evaluation.checkpoint.trained_on(training.stamps_ns, training.T_map_cam[:, :3, 3]))
        extent_m = float(np.linalg.norm(np.ptp(training.T_map_cam[train, :3, 3], axis=0)))
        for title, poses in (("trained frame nearest to it", T_found), ("... to the true pose", found.T_true[rows])):
            nearest = train[NearestFrame(training.T_map_cam[train], extent_m)(poses)]
            columns.append(SheetColumn(title, [training.rgb(int(index)) for index in nearest]))
    return columns


@torch.inference_mode()
def _shown(evaluation: PoseEvaluation, model: RenderModel, T_map_cam: Float64) -> list[UInt8]:
    checkpoint = evaluation.checkpoint
    pictures = model.pictures(torch.from_numpy(T_map_cam), checkpoint.camera, checkpoint.normalization)
    if pictures.rgb is None:
        return []
    rgb = pictures.rgb.permute(0, 2, 3, 1).clamp(0, 1)
    return list((rgb * 255).round().to(torch.uint8).numpy())


def _labels(found: Localized, rows: Int64, word: str) -> list[str]:
    return [f"{word}\n{found.position_m[row]:.3g} m, {found.rotation_deg[row]:.3g}°" for row in rows]
