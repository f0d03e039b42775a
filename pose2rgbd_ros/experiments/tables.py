"""The paper's tables 1, 2 and 3 on our data: simulate, train, measure, print; stopped and called again it goes on."""

from __future__ import annotations

import dataclasses
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pose2rgbd_ros.dataset import layout, splits
from pose2rgbd_ros.dataset.meta import DepthMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.evaluation.machine import machine
from pose2rgbd_ros.experiments.pictures import draw_side_by_side, frames_of_groups, show
from pose2rgbd_ros.experiments.run import Job, Measured, interval, measure, simulated
from pose2rgbd_ros.experiments.settings import TablesConfig, varied
from pose2rgbd_ros.reports.page import Page, Picture, Section, listed
from pose2rgbd_ros.reports.table import Column, Table, mean_spread
from pose2rgbd_ros.settings import to_flat, to_yaml_dict, write_yaml
from pose2rgbd_ros.sim.dataset import SimDatasetConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig, Plan
from pose2rgbd_ros.streams.samples import ImageSample
from pose2rgbd_ros.training.checkpoint import MODEL_FILE
from pose2rgbd_ros.training.config import TrainConfig
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import pick_device

# Depth without a unit, as a monocular depth network gives it: a stand-in made from a dataset with metric depth.


FACTORS = (10.0, 1000.0)  # metres that one unit of a recording may stand for


def write_relative_twin(source: Path, out: Path, seed: int) -> None:
    """Copy a dataset, its depth divided by a factor drawn for each recording and written down nowhere.

    Colour files, poses and the split are the source's. What an interrupted copy wrote stays and is completed.

    Raises:
        UserError: no dataset with depth at `source`; `out` holds something else; a full disk.
    """
    dataset = Dataset(source)
    recording = splits.recordings(dataset.stamps_ns)
    low, high = np.log(FACTORS)
    factors = np.exp(np.random.default_rng(seed).uniform(low, high, recording.max() + 1))
    meta = dataclasses.replace(dataset.meta, depth=DepthMeta(kind="relative"), sources=[])
    with DatasetWriter(out, meta, resume=(out / layout.META).exists()) as writer:
        writer.begin_source(f"{source.resolve().name}, its depth without a unit")
        for index, (stamp_ns, factor) in enumerate(zip(dataset.stamps_ns, factors[recording], strict=True)):
            if int(stamp_ns) in writer:
                continue
            file = (source / dataset.records[index].rgb).read_bytes()
            image = ImageSample.from_compressed(int(stamp_ns), dataset.meta.camera_frame, file)
            depth = (dataset.depth(index) / factor).astype(np.float32)
            writer.add(int(stamp_ns), dataset.T_map_cam[index], image, depth)
    if (source / layout.SPLIT).exists():
        shutil.copyfile(source / layout.SPLIT, out / layout.SPLIT)


# Which trainings make up the paper's tables 1, 2 and 3, and what the paper printed.


Place = Literal["synthetic", "real"]
OUTPUTS = {"Depth": "depth", "RGB": "rgb", "RGBD": "rgbd"}
INPUTS = {"6DoF": "euler", "6DoF-Quat": "quaternion"}


@dataclass(frozen=True)
class Row:
    """One training: its cells in front, what the paper printed (RGB of 255, depth; None: not there), its settings.

    variant: settings of its own, beside those of the rows it is compared with.
    """

    cells: tuple[str, ...]
    paper: tuple[float | None, float | None]
    settings: dict[str, Any]
    variant: str = ""
    seed: int = 0  # after the experiment's own

    @property
    def name(self) -> str:
        """The run's folder; rows of equal settings share it, as Base does in tables 1 and 2."""
        further = [key.removesuffix("_weight") for key in self.settings if key.endswith("_weight")]
        parts = [self.settings["model"], self.settings["rotation"], self.settings["output"], *further]
        return "-".join([*parts, *filter(None, [self.variant, f"seed{self.seed}" if self.seed else ""])])

    @property
    def words(self) -> str:
        """The cells in front, and what else sets it apart."""
        return ", ".join(filter(None, [" ".join(self.cells), self.variant, f"seed {self.seed}" if self.seed else ""]))


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper. `columns` name the rows' cells."""

    number: int
    title: str
    columns: tuple[str, ...]
    place: Place
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = field(default_factory=tuple)


def tables(config: TablesConfig) -> list[PaperTable]:
    """The tables asked for."""
    chosen = [_table_1(), _table_2(config), _table_3()]
    return [table for table in chosen if config.tables in ("all", str(table.number))]


def _row(
    model: str,
    output: str,
    paper: tuple[float | None, float | None],
    inputs: str = "6DoF-Quat",
    label: str | None = None,
    further: dict[str, float] | None = None,
) -> Row:
    """`label` stands in front; by default the model in the paper's words."""
    settings = {"model": model, "rotation": INPUTS[inputs], "output": OUTPUTS[output], **(further or {})}
    return Row((label or model.capitalize(), output), paper, settings)


def _table_1() -> PaperTable:
    paper = {
        ("6DoF", "Depth"): (None, 8.2),
        ("6DoF", "RGB"): (20.96, None),
        ("6DoF", "RGBD"): (21.45, 8.85),
        ("6DoF-Quat", "Depth"): (None, 8.02),
        ("6DoF-Quat", "RGB"): (20.78, None),
        ("6DoF-Quat", "RGBD"): (21.13, 8.41),
    }
    rows = tuple(_row("base", output, figures, inputs, label=inputs) for (inputs, output), figures in paper.items())
    return PaperTable(
        1, "Euler angles (6DoF) against quaternion (6DoF-Quat), Base", ("Input", "Output"), "synthetic", rows
    )


def _table_2(config: TablesConfig) -> PaperTable:
    paper = {
        ("base", "Depth"): (None, 8.02),
        ("base", "RGBD"): (21.13, 8.41),
        ("slice-10", "Depth"): (None, 7.23),
        ("slice-10", "RGBD"): (20.71, 7.01),
        ("slice-32", "Depth"): (None, 6.31),
        ("slice-32", "RGBD"): (20.39, 6.97),
        ("slice-64", "Depth"): (None, 6.64),
        ("slice-64", "RGBD"): (20.37, 7.1),
    }
    rows = [_row(model, output, figures) for (model, output), figures in paper.items()]
    if config.further:
        adversarial = {"adversarial_weight": config.adversarial_weight}
        consistency = {"consistency_weight": config.consistency_weight}
        for label, losses in (
            ("Base + adversarial", adversarial),
            ("Base + consistency", consistency),
            ("Base + both", adversarial | consistency),
        ):
            rows.append(_row("base", "RGBD", (None, None), label=label, further=losses))
    remarks = (
        "The rows with + are the further work that the paper names and does not measure; how they are done here is a "
        f"reconstruction (weights: adversarial {config.adversarial_weight:g}, consistency "
        f"{config.consistency_weight:g}).",
    )
    return PaperTable(2, "Base against Slice", ("Model", "Output"), "synthetic", tuple(rows), remarks * config.further)


def _table_3() -> PaperTable:
    paper = {
        ("base", "Depth"): (None, 0.01874),
        ("base", "RGBD"): (24.91, 0.01915),
        ("slice-10", "Depth"): (None, 0.0147),
        ("slice-10", "RGBD"): (24.82, 0.01449),
    }
    rows = tuple(_row(model, output, figures) for (model, output), figures in paper.items())
    remark = (
        "Depth here is relative: an error has no unit and is not comparable with another dataset's, nor with the "
        "paper's, whose depths came from a network of unknown scale. It compares the rows."
    )
    return PaperTable(3, "Base against Slice, relative depth", ("Model", "Output"), "real", rows, (remark,))


logger = logging.getLogger(__name__)

RUNS, DATASETS = "runs", "datasets"
HIDDEN_UNIT = "divided by an unknown factor"


@dataclass
class Filled:
    """A table with what was measured so far, and the words that say on what."""

    table: PaperTable
    dataset: Path
    measured_on: str
    rows: list[tuple[Row, Measured]] = field(default_factory=list)


@dataclass
class Outcome:
    """All of an experiment: its settings with the scale's values filled in, its tables, the machine in words."""

    config: TablesConfig
    machine: str
    tables: list[Filled] = field(default_factory=list)
    device: str = "cpu"

    @property
    def failed(self) -> list[tuple[Row, Measured]]:
        return [(row, each) for filled in self.tables for row, each in filled.rows if each.error]


def run_tables(out: Path, config: TablesConfig, dataset: Path | None = None, real: Path | None = None) -> Outcome:
    """Make the tables in `out`; the report's files are there from the first row on.

    Args:
        dataset: with metric depth, in place of the simulated flight in the paper's pattern.
        real: in place of the stand-in for the paper's real flight. Its depth loses its unit first if it is metric.

    Raises:
        UserError: paper scale without a GPU, a dataset without the depth it needs, `out` made with other settings.
        KeyboardInterrupt: somebody stopped it; the same command goes on.
    """

    config = config.resolved()
    device = pick_device(config.device)
    if config.scale == "paper" and device == "cpu" and not config.force:
        raise UserError(
            "paper scale is 19 trainings of 890,000 images of 512 px each, weeks on a processor; run it where there is "
            "a GPU, use --scale cpu, or --force if you mean it"
        )
    given = {"synthetic": dataset, "real": real}
    outcome = Outcome(config, machine(device), device=device)
    for table in tables(config):
        place, words = _place(out / DATASETS, table.place, given[table.place], config)
        outcome.tables.append(Filled(table, place, words))
    for seed in range(config.seeds):  # all of the first before the next, so that what is stopped early has all rows
        for filled in outcome.tables:
            for row in (
                replace(row, variant=name, seed=seed) for name in ("", *config.variants) for row in filled.table.rows
            ):
                chosen = config_of(row, config)
                if chosen is not None:
                    logger.info("table %d: %s", filled.table.number, row.words)
                    job = Job(f"{filled.table.place}-{row.name}", filled.dataset, chosen)
                    filled.rows.append((row, measure(job, out / RUNS)))
                    write_report(out, outcome, pictures=False)
    write_report(out, outcome, pictures=True)
    return outcome


def config_of(row: Row, config: TablesConfig) -> TrainConfig | None:
    """The settings of a row's training; None where its variant means nothing to its model.

    `config` has its scale's values. The weights are those of the end, so that rows are equally long.
    """
    chosen = train_config(
        **row.settings,
        size=config.size or 128,
        width=config.width,
        recipe=config.recipe or "default",
        bce_reduction=config.bce_reduction,
        epochs=config.epochs,
        max_minutes=config.minutes,
        clock="cpu" if pick_device(config.device) == "cpu" else "wall",
        split="lines+random",
        seed=config.seed + row.seed,
        keep="last",
        device=config.device,
        precision=config.precision,
        tensorboard=False,
    )
    return varied(chosen, row.variant)


def _place(folder: Path, place: Place, given: Path | None, config: TablesConfig) -> tuple[Path, str]:
    """The dataset of a table, made in `folder` if need be, and what it is in words."""
    if given is None:
        path, words = _made(folder, place, config)
    else:
        sources = "; ".join(source.name for source in Dataset(given).meta.sources[:3])
        path, words = given, given.resolve().name + (f" ({sources})" if sources else "")
    if place == "real" and Dataset(path).depth_kind == "metric":
        path, words = _without_unit(path, folder, config), f"{words}; its depth {HIDDEN_UNIT}"
    dataset = Dataset(path)
    kind = {"synthetic": "metric", "real": "relative"}[place]
    if dataset.depth_kind != kind:
        option = "--dataset" if place == "synthetic" else "--real"
        raise UserError(f"{path} has {dataset.depth_kind or 'no'} depth; {option} takes one with {kind} depth")
    return path, f"{words}: {counted(len(dataset), 'frame')}"


def _made(folder: Path, place: Place, config: TablesConfig) -> tuple[Path, str]:
    if place == "synthetic":
        return _simulated(folder / "synthetic", "paper", config), "simulated city, flown in the paper's pattern"
    words = "STAND-IN for the paper's real flight: the simulated city, flown as that survey was"
    return _simulated(folder / "survey", "survey", config), words


def _without_unit(source: Path, folder: Path, config: TablesConfig) -> Path:
    twin = folder / f"{source.resolve().name}-relative"
    finished = twin / ".twin-of"  # written last
    facts = f"{source.resolve()} {config.seed}"
    if not finished.exists():
        write_relative_twin(source, twin, config.seed)
        finished.write_text(facts)
    elif finished.read_text() != facts:
        raise UserError(f"{twin} was made from {finished.read_text()}; choose another --out, or remove it")
    return twin


def _simulated(path: Path, plan: Plan, config: TablesConfig) -> Path:
    size = min(512, 2 * (config.size or 128))  # averaged when it is made small; larger files serve nobody
    flight = FlightConfig(plan=plan, seed=config.seed)
    return simulated(path, SimDatasetConfig(frames=config.frames or 1500, size=size, resume=True, flight=flight))


# Whether what the paper concludes from a table holds in ours: counted, not judged.


MEASURES, ERRORS = ("rgb_mae_px", "depth_mae"), ("RGB", "depth")
SIGNED = {"difference": "+.3g", "from": "+.3g", "to": "+.3g"}
# table -> what the paper says is better, and which rows it is compared with: same output, other first cell
CLAIMS = {1: ("6DoF-Quat", "6DoF"), 2: ("Slice", "Base"), 3: ("Slice", "Base")}

Figures = Callable[[Row, Measured], list[float | None]]


def finding(number: int, rows: list[tuple[Row, Measured]], groups: list[str]) -> str:
    """One sentence: in how many figures the one is below the other, in the paper and in ours by group; "" too early."""
    better, worse = CLAIMS[number]
    pairs, once = compared(number, rows), [one for one in rows if not one[0].variant and not one[0].seed]
    printed = [(a, b) for a in once for b in once if _is(a, better) and _is(b, worse) and _alike(a, b)]
    counts = [("the paper", _count(printed, lambda row, _: list(row.paper)))]
    for group in groups:

        def figures(_: Row, each: Measured, group: str = group) -> list[float | None]:
            return _finding_figures(each, group)

        counts.append((f"ours, {group}", _count(pairs, figures)))
    told = [f"{below} of {of} ({where})" for where, (below, of) in counts if of]
    if len(told) < 2:
        return ""
    return f"Figures in which {better} has a smaller error than {worse}: {', '.join(told)}."


def compared(number: int, rows: list[tuple[Row, Measured]]) -> list[tuple[tuple[Row, Measured], tuple[Row, Measured]]]:
    """What a table compares, seed by seed: each row with the settings that the frames that choose prefer for it.

    So no recipe that one row was tuned on decides, and what collapsed is compared with nothing.
    """
    better, worse = CLAIMS[number]
    own = preferred(rows)
    return [(a, b) for a in own for b in own if _is(a, better) and _is(b, worse) and _alike(a, b)]


def preferred(rows: list[tuple[Row, Measured]]) -> list[tuple[Row, Measured]]:
    """Of each row and seed that count, the variant of the least errors on the frames that choose."""
    by_row: dict[tuple[Any, ...], list[tuple[Row, Measured]]] = {}
    for row, each in rows:
        if each.counts:
            by_row.setdefault((row.cells, row.seed), []).append((row, each))
    return [min(variants, key=lambda one: _choose_error(one[1], variants[0][1])) for variants in by_row.values()]


def _choose_error(each: Measured, beside: Measured) -> float:
    """The mean of its errors on the frames that choose, as shares of another row's."""
    names = [name for name in MEASURES if name in each.choose and beside.choose.get(name)]
    return float(np.mean([each.choose[name] / beside.choose[name] for name in names])) if names else np.inf


def differences(filled: Filled) -> Table | None:
    """By how much the rows that the paper calls better are, with 95 % intervals over the seeds; None below two."""
    found: dict[tuple[str, str, str, str], list[float]] = {}
    for (a, mine), (b, theirs) in compared(filled.table.number, filled.rows):
        for group in group_names(filled):
            figures = zip(ERRORS, _finding_figures(mine, group), _finding_figures(theirs, group), strict=True)
            for error, x, y in figures:
                if x is not None and y is not None:
                    key = (f"{a.cells[0]} - {b.cells[0]}", a.cells[1], SHORT.get(group, group), error)
                    found.setdefault(key, []).append(x - y)
    table = Table.of({"rows": "", "output": "", "frames": "", "error": "", "seeds": "d", **SIGNED})
    for key, values in found.items():
        limits = interval(values)
        if limits is not None:
            table.add(*key, len(values), *limits)
    return table if table.rows else None


def _is(row: tuple[Row, Measured], name: str) -> bool:
    """Whether the first cell is the name, or the name with a number: "Slice-10" is Slice, "Base + both" is not Base."""
    return re.fullmatch(rf"{name}(-\d+)?", row[0].cells[0]) is not None


def _alike(a: tuple[Row, Measured], b: tuple[Row, Measured]) -> bool:
    return (a[0].cells[1:], a[0].seed) == (b[0].cells[1:], b[0].seed)


def _finding_figures(each: Measured, group: str) -> list[float | None]:
    scores = each.groups.get(group, {}).get("model", {})
    return [scores.get(name) for name in MEASURES]


def _count(pairs: list[tuple[tuple[Row, Measured], tuple[Row, Measured]]], figures: Figures) -> tuple[int, int]:
    """How many figures of the first rows are below those of the second ones, and how many there are in both."""
    both = [
        (x, y)
        for a, b in pairs
        for x, y in zip(figures(*a), figures(*b), strict=True)
        if x is not None and y is not None
    ]
    return sum(x < y for x, y in both), len(both)


# A table's picture: held-out frames as recorded and as each network of the table shows them.


FRAMES_A_GROUP = 2


def draw_table(path: Path, filled: Filled) -> None:
    """Write a PNG: two frames of each group, colour above, depth below; columns: recorded, then the RGBD rows whose
    checkpoints are here: a row may have been measured elsewhere."""
    plain = [(row, each) for row, each in filled.rows if not row.variant and not row.seed]
    rows = [(row, each) for row, each in plain if not each.error and row.settings["output"] == "rgbd"]
    rows = [(row, each) for row, each in rows if (each.run / "checkpoint" / MODEL_FILE).exists()]
    if not rows:
        return
    dataset = Dataset(filled.dataset)
    frames, labels = frames_of_groups(dataset, rows[0][1].run, FRAMES_A_GROUP)
    models = [show(each.run, dataset, frames, title=row.cells[0]) for row, each in rows]
    unit = "m" if dataset.depth_kind == "metric" else "relative"
    title = f"Table {filled.table.number}: {filled.table.title}\n{filled.measured_on}"
    draw_side_by_side(path, models, labels, title, unit, errors=False)


# The tables as files: tables.md to paste, tables.csv and tables.yaml for programs, index.html to look at first.


BASELINES = {"mean_image": "mean image", "nearest_frame": "nearest frame"}
NOTHING = "n/a"  # as the paper writes it
DIFFERENCES = "Differences over the seeds, below 0 where the paper's holds, with their 95 % intervals:"
SHORT = {"held-out lines": "lines"}  # groups, in headings
CSV_COLUMNS = (
    "table", "row", "output", "settings", "seed", "collapsed", "group", "method", "rgb_mae_px", "psnr_db", "ssim",
    "depth_mae", "depth_known", "paper_rgb_px", "paper_depth", "depth_unit", "images", "epochs", "seconds",
    "parameters", "bytes", "slope_rgb_mae_px", "slope_depth_mae", "error",
)  # fmt: skip


def write_report(out: Path, outcome: Outcome, pictures: bool) -> None:
    """Write the files of what is measured so far; `pictures`: also draw each table's. UserError: cannot be written."""

    with os_errors(f"cannot write the tables into {out}"):
        out.mkdir(parents=True, exist_ok=True)
        if pictures:
            for filled in outcome.tables:
                draw_table(out / f"table{filled.table.number}.png", filled)
        layout.atomic_write(out / "tables.md", markdown(outcome).encode())
        layout.atomic_write(out / "tables.csv", _csv(outcome).encode())
        write_yaml(out / "tables.yaml", _values(outcome))
        _page(out, outcome).write(out / "index.html")


def markdown(outcome: Outcome) -> str:
    """All tables, with headings and what they were measured on, ready to paste."""
    parts = [effort(outcome)]
    for filled in outcome.tables:
        apart = differences(filled)
        parts += [f"### {heading(filled)}", scored(filled).markdown(), *remarks(filled)]
        parts += [DIFFERENCES, apart.markdown()] if apart else []
    return "\n\n".join(parts) + "\n"


def heading(filled: Filled) -> str:
    """Such as "Table 2: Base against Slice"."""
    return f"Table {filled.table.number}: {filled.table.title}"


def effort(outcome: Outcome) -> str:
    """One sentence on scale, training time and machine."""
    config = outcome.config
    clock = "processor" if outcome.device == "cpu" else "wall"
    seeds = f"seeds {config.seed} to {config.seed + config.seeds - 1}" if config.seeds > 1 else f"seed {config.seed}"
    parts = [f"{config.size} px", f"recipe {config.recipe}", seeds, "the weights of the end"]
    if config.bce_reduction == "sum":
        parts.append("cross entropy summed over the slices")
    if config.width != 1:
        parts.append(f"networks of {config.width:g} times the paper's width")
    if config.minutes is not None:
        parts.append(f"{config.minutes:g} minutes of the {clock} a row")
    if config.epochs is not None:
        parts.append(("at most " if config.minutes is not None else "") + counted(config.epochs, "epoch"))
    return (
        f"Scale {config.scale}: {', '.join(parts)}; {outcome.machine}. Mean absolute errors, colour in 0..255. "
        "*Random*: frames held out at random, whose neighbours were trained on (the paper's split); *lines*: whole "
        "lines of the flight (or stretches of it) that nobody saw. One training serves both. *Last quarter*: by what "
        "share of itself the error (of depth, where it is learnt), on frames that choose, still changed in it."
    )


def scored(filled: Filled) -> Table:
    """The paper's figures, ours by group, what each row was shown; then the baselines."""
    unit = next((each.depth_unit for _, each in filled.rows if not each.error), "m")
    groups, names = group_names(filled), filled.table.columns
    of = (("RGB", "of 255"), ("depth", unit if unit == "m" else "rel."))
    columns = [Column(name, missing="") for name in names]
    columns += [Column(f"paper {what}", f"paper: {what}", "g", unit, NOTHING) for what, unit in of]
    for group in groups:
        columns += [
            Column(f"{group} {measure}", f"{SHORT.get(group, group)}: {what}", _digits, unit, NOTHING)
            for measure, (what, unit) in zip(MEASURES, of, strict=True)
        ]
    rows: list[dict[str, Any]] = []
    together: dict[tuple[tuple[str, ...], str], list[tuple[Row, Measured]]] = {}
    for row, each in filled.rows:
        if not each.collapsed:
            together.setdefault((row.cells, row.variant), []).append((row, each))
    for (cells, variant), seeds in together.items():
        paper = {f"paper {what}": value for (what, _), value in zip(of, seeds[0][0].paper, strict=True)}
        seen = [_figures_table({group: all_["model"] for group, all_ in each.groups.items()}) for _, each in seeds]
        ours = {key: [figures.get(key, np.nan) for figures in seen] for figures in seen for key in figures}
        efforts = [each.effort for _, each in seeds if each.effort]
        slopes = [effort.get("slope_depth_mae", effort.get("slope_rgb_mae_px", np.nan)) for effort in efforts]
        learnt = {"epochs": efforts[0]["epochs"], "slope": [100 * slope for slope in slopes]} if efforts else {}
        rows.append({**dict(zip(names, cells, strict=True)), "settings": variant, **paper, **ours, **learnt})
    trained = len(rows)
    rows += [{names[0]: label, **_figures_table(baseline(filled, name))} for name, label in BASELINES.items()]
    columns += [Column("epochs", format=".3g", missing="")]
    columns += [Column("slope", "last quarter", mean_spread(".0f", " %"), missing="")]
    if any(row.variant for row, _ in filled.rows):
        columns.insert(len(names), Column("settings", missing=""))
    return Table(columns, rows, muted=range(trained, len(rows)))


def _figures_table(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """Of group -> measure -> value, by the keys of :func:`scored`."""
    return {f"{group} {name}": value for group, values in scores.items() for name, value in values.items()}


def _digits(values: float | list[float]) -> str:
    """Two decimals, three digits where that is more; of several seeds mean ± standard deviation."""
    known = [value for value in (values if isinstance(values, list) else [values]) if np.isfinite(value)]
    if not known:
        return NOTHING
    return mean_spread(".2f" if np.mean(known) >= 1 else ".3g")(known)


def group_names(filled: Filled) -> list[str]:
    """The groups of held-out frames, in the order the split names them."""
    return next((list(each.groups) for _, each in filled.rows if not each.error), [])


def baseline(filled: Filled, method: str) -> dict[str, dict[str, float]]:
    """Group -> measure -> mean of a baseline, put together from rows: a depth network's evaluation knows no colour."""
    found: dict[str, dict[str, float]] = {}
    for _, each in filled.rows:
        for group, methods in each.groups.items():
            found[group] = {**methods.get(method, {}), **found.get(group, {})}
    return found


def remarks(filled: Filled) -> list[str]:
    """What stands under a table."""
    notes = [f"Measured on {filled.measured_on}."]
    found = finding(filled.table.number, filled.rows, group_names(filled))
    notes += [*([found] if found else []), *filled.table.remarks]
    if any(row.variant for row, _ in filled.rows):
        own = "; ".join(f"{row.words}" for row, _ in preferred(filled.rows) if row.variant)
        notes.append(
            f"The frames that choose prefer, before a row's own settings: {own or 'nothing'}. So are rows compared."
        )
    collapsed = "; ".join(row.words for row, each in filled.rows if each.collapsed)
    if collapsed:
        notes.append(f"Left out, collapsed to nearly one image, whatever the pose: {collapsed}.")
    notes += [f"{row.words} was not trained: {each.error}" for row, each in filled.rows if each.error]
    return notes


def _csv(outcome: Outcome) -> str:
    """A line for each row, group and method."""
    rows = [
        {
            "table": filled.table.number, **dict(zip(("row", "output"), row.cells, strict=True)),
            "settings": row.variant, "seed": row.seed, "collapsed": each.collapsed, "group": group, "method": method,
            **scores,
            **dict(zip(("paper_rgb_px", "paper_depth"), row.paper, strict=True)),
            "depth_unit": each.depth_unit, **each.effort, "error": each.error,
        }
        for filled in outcome.tables
        for row, each in filled.rows
        for group, methods in (each.groups or {"": {"": {}}}).items()
        for method, scores in methods.items()
    ]  # fmt: skip
    return Table([*map(Column, CSV_COLUMNS)], rows).csv()


def _values(outcome: Outcome) -> dict[str, Any]:
    return {
        "config": to_yaml_dict(outcome.config),
        "machine": outcome.machine,
        "tables": [
            {
                "number": filled.table.number,
                "title": filled.table.title,
                "dataset": str(filled.dataset),
                "measured_on": filled.measured_on,
                "rows": [
                    {
                        "cells": list(row.cells),
                        "variant": row.variant,
                        "seed": row.seed,
                        "paper": list(row.paper),
                        **{**dataclasses.asdict(each), "run": each.run.name},
                    }
                    for row, each in filled.rows
                ],
            }
            for filled in outcome.tables
        ],
    }


def _page(out: Path, outcome: Outcome) -> Page:
    sections = [Section(text=[effort(outcome).replace("*", "")])]
    for filled in outcome.tables:
        picture = f"table{filled.table.number}.png"
        pictures = [Picture(picture, "recorded and predicted")] if (out / picture).exists() else []
        sections.append(Section(heading(filled), scored(filled), remarks(filled), pictures))
        apart = differences(filled)
        if apart:
            sections.append(Section(f"{heading(filled)}: differences", apart, [DIFFERENCES]))
    trained = [each for filled in outcome.tables for _, each in filled.rows if not each.error]
    verdict = f"{counted(len(trained), 'network')} trained and measured"
    if outcome.failed:
        verdict += f", {len(outcome.failed)} could not be trained"
    collapsed = sum(each.collapsed for each in trained)
    if collapsed:
        verdict += f", {collapsed} collapsed to nearly one image"
    return Page(
        "Tables of the paper, on our data",
        f"{verdict}.",
        sections,
        provenance={
            **{heading(filled): str(filled.dataset) for filled in outcome.tables},
            "machine": outcome.machine,
            "settings": listed(to_flat(outcome.config)),
        },
        mood="bad" if outcome.failed or collapsed else "neutral",
    )
