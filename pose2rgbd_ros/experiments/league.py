"""Renderers for a CPU at growing budgets of processor time, on the same frames: where is which ahead? Stopped, it goes
on.

All are trained by one thread, keep their last weights and are measured on frames that chose nothing.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.reader import Dataset, frame_cache
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.evaluation.machine import described, processor
from pose2rgbd_ros.evaluation.pictures import NearestFrame, scene_distance_m
from pose2rgbd_ros.experiments import opensplat
from pose2rgbd_ros.experiments.opensplat import OpenSplatJob, Program, train_opensplat
from pose2rgbd_ros.experiments.pictures import draw_side_by_side, frames_of_groups, show
from pose2rgbd_ros.experiments.run import (
    RESULT_FILE,
    Job,
    OfSeeds,
    make_folder,
    measure,
    render_cost,
    simulated,
    train_job,
)
from pose2rgbd_ros.experiments.settings import OPENSPLAT, LeagueConfig, configured
from pose2rgbd_ros.reports.page import Page, Picture, Section, listed
from pose2rgbd_ros.reports.table import Column, Table, mean_spread
from pose2rgbd_ros.settings import read_yaml, to_flat, to_yaml_dict, write_yaml
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.dataset import SimDatasetConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.training.checkpoint import CHECKPOINT, load_checkpoint
from pose2rgbd_ros.training.families import family_of
from pose2rgbd_ros.training.trainer import TrainResult

logger = logging.getLogger(__name__)

RUNS, DATASETS = "runs", "datasets"
SEEDS = (41, 42)  # of the simulated cities and flights; nothing else here was made, or chosen, on these
COST_FILE, SPENT_FILE = "render_cost.yaml", "cpu_s.yaml"  # in a run's folder
KEPT_FILES = (RESULT_FILE, SPENT_FILE, COST_FILE)
LOOKED_UP = 50  # times the nearest frame is looked up, to time it


@dataclass(frozen=True)
class Place:
    """A dataset at one size of its images."""

    dataset: Path
    size: int

    @property
    def name(self) -> str:
        return f"{self.dataset.resolve().name}, {self.size} px"


@dataclass
class Row(OfSeeds):
    """A model with one budget at a place: what came of each seed, and what a picture costs.

    minutes: None where nothing is learnt, or steps end it. cpu_s: of each seed's training as a whole, set up included.
    machines: that trained each seed, in words.
    """

    place: Place
    model: str
    minutes: float | None
    cpu_s: list[float] = field(default_factory=list)
    machines: list[str] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)

    def means(self, group: str, measure: str, method: str = "model") -> list[float]:
        """Of a group of held-out frames, a value a seed; NaN where there is none."""
        return [seed.groups.get(group, {}).get(method, {}).get(measure, math.nan) for seed in self.measured]


@dataclass
class League:
    """All of it: settings, the machine in words, OpenSplat's version ("": it takes no part), the rows, and what the
    nearest frame costs.
    """

    config: LeagueConfig
    machine: str
    opensplat: str
    rows: list[Row] = field(default_factory=list)
    nearest: dict[Place, dict[str, float]] = field(default_factory=dict)

    @property
    def places(self) -> list[Place]:
        return list(dict.fromkeys(row.place for row in self.rows))

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if row.error]

    def at(self, place: Place) -> list[Row]:
        return [row for row in self.rows if row.place == place]


def run_league(out: Path, config: LeagueConfig, datasets: Sequence[Path] = (), rows: Path | None = None) -> League:
    """Train, measure and time every row in `out`; the report's files are there from the first row on.

    Seed 0 of everything comes first, small pictures and short budgets before others, so that what is stopped early has
    complete tables. In `rows` what was measured is kept, a small file a training: it is not trained again, whatever
    machine it was measured on, and wherever `out` is.

    Raises:
        UserError: a bad dataset, `out` made with other settings.
        KeyboardInterrupt: somebody stopped it; the same command goes on.
    """
    folders = list(datasets) or [_city(out / DATASETS, seed, config) for seed in SEEDS]
    if len({each.resolve().name for each in folders}) < len(folders):
        raise UserError("--dataset: two folders have the same name, by which tables and runs know them")
    program = opensplat.find(config)
    league = League(config, described(), program.version if program else "")
    places = [Place(dataset, size) for size in sorted(config.sizes) for dataset in folders]
    league.rows = [
        Row(place, model, minutes)
        for place in places
        for model in config.models
        for minutes in ((None,) if _learns_nothing(model) else config.budgets)
        if model != OPENSPLAT or program is not None
    ]
    order = sorted(league.rows, key=lambda row: (row.place.size, row.minutes or 0.0))
    with _one_thread():
        for seed in range(config.seeds):
            for row in order:
                if row.error:  # what cannot be trained with one seed cannot with another
                    continue
                _fill(row, seed, out, league, program, rows)
                if row.measured and not league.nearest.get(row.place):
                    league.nearest[row.place] = _nearest(row.place, row.measured[0].run, rows)
                write_report(out, league, pictures=False)
    write_report(out, league, pictures=True)
    return league


def _fill(row: Row, seed: int, out: Path, league: League, program: Program | None, rows: Path | None) -> None:
    """One more seed of a row."""
    job = _job(row, seed, league.config, program)
    logger.info("%s", job.name)
    if rows is not None:
        _bring(rows, job, out / RUNS / job.name)
    if not (out / RUNS / job.name / RESULT_FILE).exists():
        frame_cache(Dataset(row.place.dataset), row.place.size)  # made before the first row's clock runs
    found = measure(job, out / RUNS, _timed)
    row.seeds.append(found)
    if not found.error:
        spent = read_yaml(found.run / SPENT_FILE)
        # A run that was killed could not write all that it spent.
        row.cpu_s.append(max(float(spent["cpu_s"]), found.effort["seconds"]))
        row.machines.append(spent.get("machine", processor()))
        row.cost = row.cost or _cost(found.run, row.place.size)
        if rows is not None:
            _keep(rows, job, found.run)


def _keep(rows: Path, job: Job, run: Path) -> None:
    """Write what was measured of a run, its dataset by name. UserError: it cannot be written."""
    kept = {file: read_yaml(run / file) for file in KEPT_FILES if (run / file).exists()}
    kept[RESULT_FILE]["job"]["dataset"] = job.dataset.resolve().name
    make_folder(rows)
    write_yaml(rows / f"{job.name}.yaml", kept)


def _bring(rows: Path, job: Job, run: Path) -> None:
    """Lay down what was kept of a run, unless it was made here; `measure` reads it as its own, and judges it."""
    file = rows / f"{job.name}.yaml"
    if not file.exists() or (run / RESULT_FILE).exists():
        return
    kept = read_yaml(file)
    try:
        if kept[RESULT_FILE]["job"]["dataset"] == job.dataset.resolve().name:
            kept[RESULT_FILE]["job"]["dataset"] = str(job.dataset)
        for name in (SPENT_FILE, COST_FILE, RESULT_FILE):  # the last one says that all is there
            if name in kept:
                run.mkdir(parents=True, exist_ok=True)
                write_yaml(run / name, kept[name])
    except (KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({type(error).__name__}: {error}); remove it") from error


def _job(row: Row, seed: int, config: LeagueConfig, program: Program | None) -> Job:
    """A row's training with a seed."""
    learns_nothing = _learns_nothing(row.model)
    budget = "" if learns_nothing else f"-{config.steps}steps" if config.steps else f"-{row.minutes:g}min"
    name = f"{row.place.dataset.resolve().name}-{row.model}-{row.place.size}{budget}-seed{seed}"
    training = configured(
        "gsplat" if row.model == OPENSPLAT else row.model,
        size=row.place.size,
        max_minutes=row.minutes,
        steps=None if learns_nothing else config.steps,
        clock="cpu",
        split="lines+random",
        keep="last",
        seed=seed,
        device="cpu",
        tensorboard=False,
    )
    if row.model != OPENSPLAT:
        return Job(name, row.place.dataset, training)
    assert program is not None
    return OpenSplatJob(name, row.place.dataset, training, program)


def _timed(job: Job, run: Path) -> TrainResult:
    """Train, and keep what the processor spent, also of a run that is stopped."""
    file = run / SPENT_FILE
    before_s = float(read_yaml(file)["cpu_s"]) if file.exists() else 0.0
    rival, begun_s = isinstance(job, OpenSplatJob), time.process_time()
    result: TrainResult | None = None
    try:
        result = train_opensplat(job, run) if rival else train_job(job, run)
        return result
    finally:
        ours_s = before_s + time.process_time() - begun_s
        # A rival that is stopped begins again; its own process is what counts.
        spent_s = (result.seconds if result else 0.0) if rival else ours_s
        if run.is_dir():
            write_yaml(file, {"cpu_s": round(spent_s, 2), "machine": processor()})


@contextmanager
def _one_thread() -> Iterator[None]:
    """Context in which PyTorch computes by one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _learns_nothing(model: str) -> bool:
    return model != OPENSPLAT and family_of(model.partition(",")[0]) == "warp"


def _city(folder: Path, seed: int, config: LeagueConfig) -> Path:
    """A flight in lines over a city of its own, by a camera of 90 degrees as many have."""
    size = min(512, 2 * max(config.sizes))  # averaged when it is made small
    flight = FlightConfig(plan="lawnmower", line_spacing_m=25.0, attitude_jitter_deg=4.0, holdout=0.17, seed=seed)
    made = SimDatasetConfig(
        frames=config.frames, size=size, fov_deg=90.0, resume=True, city=CityConfig(seed=seed), flight=flight
    )
    return simulated(folder / f"city-{seed}", made)


def _cost(run: Path, size: int) -> dict[str, Any]:
    """Timed once, in a process and by a thread of its own, and kept in the run's folder."""
    if (run / COST_FILE).exists():
        return read_yaml(run / COST_FILE)
    if not (run / CHECKPOINT).exists():  # brought from elsewhere, where it was not timed
        return {}
    try:
        cost = render_cost(run, (size,), "cpu", 1)
    except UserError as error:
        logger.warning("%s", error)
        return {}
    write_yaml(run / COST_FILE, cost)
    return cost


def _nearest(place: Place, run: Path, rows: Path | None) -> dict[str, float]:
    """:func:`nearest_cost`, as it was kept where the run lies elsewhere; nothing where neither is known."""
    kept = None if rows is None else rows / f"{place.dataset.resolve().name}-nearest-{place.size}.yaml"
    if kept is not None and kept.exists():
        return read_yaml(kept)
    if not (run / CHECKPOINT).exists():
        return {}
    cost = nearest_cost(place, run)
    if kept is not None:
        write_yaml(kept, cost)
    return cost


def nearest_cost(place: Place, run: Path) -> dict[str, float]:
    """Of showing the nearest training frame of a run: "mb", its raw pixels, and "ms" of the processor a picture."""
    dataset, cache = Dataset(place.dataset), frame_cache(Dataset(place.dataset), place.size)
    loaded = load_checkpoint(run)
    position_m = dataset.T_map_cam[:, :3, 3]
    train = np.flatnonzero(loaded.trained_on(dataset.stamps_ns, position_m))
    find = NearestFrame(dataset.T_map_cam[train], scene_distance_m(dataset, train))
    poses = dataset.T_map_cam[np.linspace(0, len(dataset) - 1, LOOKED_UP).astype(int)]
    times = []
    for T in poses:
        begun_s = time.process_time()
        found = train[find(T[None])]
        _ = cache.rgb[found].copy(), None if cache.depth is None else cache.depth[found].copy()
        times.append(time.process_time() - begun_s)
    bytes_a_pixel = 3 + (2 if cache.depth is not None else 0)  # depth in counts of 16 bits
    return {"mb": len(train) * place.size**2 * bytes_a_pixel / 1e6, "ms": 1e3 * float(np.median(times))}


# Where splats win: the smallest budget from which on they are ahead of each of ours that learns most.


RIVALS = ("relief",)
BETTER = {"psnr_db": ("PSNR", "dB", 1.0), "ssim": ("SSIM", "", 1.0), "rgb_mae_px": ("RGB error", "of 255", -1.0)}


def crossings(league: League) -> Table | None:
    """At each place and group, from which budget on opensplat is ahead of relief, and by how much at the largest.

    None where one of the two was not measured.
    """
    columns = [Column("place", "place"), Column("group", "frames")]
    columns += [Column(name, f"ahead in {words}") for name, (words, _, _) in BETTER.items()]
    table = Table(columns)
    for place in league.places:
        ours, theirs = (
            {row.minutes: row for row in league.at(place) if row.model == model and row.measured}
            for model in (RIVALS[0], OPENSPLAT)
        )
        budgets = sorted(ours.keys() & theirs.keys(), key=lambda minutes: minutes or 0.0)
        for group in _groups(league, place) if budgets else ():
            lead = {
                name: [
                    sign * float(np.mean(theirs[each].means(group, name)) - np.mean(ours[each].means(group, name)))
                    for each in budgets
                ]
                for name, (_, _, sign) in BETTER.items()
            }
            told = {name: crossing(budgets, leads, BETTER[name][1]) for name, leads in lead.items()}
            table.rows.append({"place": place.name, "group": group, **told})
    return table if table.rows else None


def crossing(budgets: Sequence[float | None], leads: Sequence[float], unit: str) -> str:
    """From which budget on the lead is above 0 and stays so, in words; and the lead at the largest budget."""
    last = f"{abs(leads[-1]):.3g} {unit}".strip()
    ahead = [i for i in range(len(leads)) if all(lead > 0 for lead in leads[i:])]
    if not ahead:
        return f"not by {_budget(budgets[-1])} ({last} behind)"
    first = ahead[0]
    between = f", not yet at {_budget(budgets[first - 1])}" if first > 0 else ""
    return f"from {_budget(budgets[first])} on{between} ({last} ahead at {_budget(budgets[-1])})"


def _budget(minutes: float | None) -> str:
    return "the end" if minutes is None else f"{minutes:g} min"


# The league as files: tables.md to paste, tables.csv and league.yaml for programs, index.html to look at first.


MEASURES = ("rgb_mae_px", "psnr_db", "ssim", "depth_mae", "depth_known")
NEAREST = "nearest frame"
CSV_COLUMNS = (
    "dataset", "size_px", "model", "minutes", "seed", "group", *MEASURES, "cpu_s", "images", "mb", "ms", "peak_mb",
    "error",
)  # fmt: skip
FRAMES_A_GROUP = 2


def write_report(out: Path, league: League, pictures: bool) -> None:
    """Write what is measured so far; `pictures`: also draw each place's. UserError: cannot be written."""
    with os_errors(f"cannot write the league into {out}"):
        out.mkdir(parents=True, exist_ok=True)
        for place in league.places if pictures else ():
            draw_place(out / picture_of(place), league, place)
        layout.atomic_write(out / "tables.md", markdown(league).encode())
        layout.atomic_write(out / "tables.csv", _csv(league).encode())
        write_yaml(out / "league.yaml", _values(league))
        _page(out, league).write(out / "index.html")


def markdown(league: League) -> str:
    """Where splats win, then quality by place and group of held-out frames, then cost."""
    parts = [effort(league), "### Where splats win", verdict(league)]
    found = crossings(league)
    parts += [found.markdown()] if found else []
    for place in _measured_places(league):
        parts += [f"### {place.name}", _cost_table(league, place).markdown()]
        for group in _groups(league, place):
            parts += [f"{group[0].upper()}{group[1:]}:", _quality(league, place, group).markdown()]
    return "\n\n".join([*parts, *remarks(league)]) + "\n"


def effort(league: League) -> str:
    """What was done, and on what, in one paragraph."""
    config = league.config
    length = counted(config.steps, "step") if config.steps else f"{_listed(config.minutes)} minutes of the processor"
    seeds = max((len(row.measured) for row in league.rows), default=0)
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    rival = f"; OpenSplat {league.opensplat}" if league.opensplat else ""
    return (
        f"{length} a training, by one thread; {spread}; {league.machine}{rival}. Frames of held-out lines and "
        "frames held out at random, of which those that judge are scored and nothing was chosen by: every training "
        "keeps its last weights. Every pixel's colour counts; depth where a model gives one (*known*: for what share)."
    )


def verdict(league: League) -> str:
    """Where splats are ahead, in one sentence."""
    found = crossings(league)
    if found is None:
        absent = f"there is no `{league.config.opensplat}` on PATH"
        asked = OPENSPLAT in league.config.models
        return f"Not measured{'' if league.opensplat else f': {absent}' if asked else ': opensplat takes no part'}."
    cells = [str(row[name]) for row in found.rows for name in BETTER]
    ahead = sum(cell.startswith("from") for cell in cells)
    return (
        f"opensplat comes to be ahead of relief within these budgets in {ahead} of {counted(len(cells), 'figure')} "
        "(places, frames and measures):"
    )


def remarks(league: League) -> list[str]:
    """What stands below the tables."""
    notes = [
        "*Spent*: processor time of the whole training, set-up and compiling included; of opensplat its process', "
        "without the pilot that found how many steps its budget is good for. *ms*: processor time of a picture by one "
        "thread, median, and *peak* the most memory of a process that renders, libraries included. The nearest frame's "
        "MB are raw pixels of all training frames, depth in 16 bits."
    ]
    if any(row.model == OPENSPLAT and row.measured for row in league.rows):
        notes.append(
            "OpenSplat's splats are shown by our rasteriser (models/gsplat/rasterizer.py), before the mean colour of "
            "the training frames; its ms and peak are that one's."
        )
    elsewhere = sorted({machine for row in league.rows for machine in row.machines} - {processor()})
    notes += [f"Some rows were measured elsewhere: {'; '.join(elsewhere)}."] if elsewhere else []
    collapsed = [_words(row) for row in league.rows if any(seed.collapsed for seed in row.measured)]
    notes += [f"Collapsed to nearly one image, whatever the pose: {'; '.join(collapsed)}."] if collapsed else []
    notes += [f"{_words(row)} is missing: {row.error}." for row in league.failed]
    return notes


def _words(row: Row) -> str:
    budget = "" if row.minutes is None else f" at {_budget(row.minutes)}"
    return f"{row.model}{budget} ({row.place.name})"


def _quality(league: League, place: Place, group: str) -> Table:
    rows = [row for row in league.at(place) if row.measured]
    unit = rows[0].measured[0].depth_unit
    columns = [
        Column("model"),
        Column("minutes", "budget", "g", "min", missing=""),
        Column("rgb_mae_px", "RGB error", mean_spread(".2f"), "of 255"),
        Column("psnr_db", "PSNR", mean_spread(".2f"), "dB"),
        Column("ssim", "SSIM", mean_spread(".3f")),
        Column("depth_mae", "depth error", mean_spread(".2f"), unit if unit == "m" else "rel."),
        Column("depth_known", "known", mean_spread(".3f")),
    ]
    cells = [
        {"model": row.model, "minutes": row.minutes, **{name: row.means(group, name) for name in MEASURES}}
        for row in rows
    ]
    nearest = {name: rows[0].means(group, name, "nearest_frame") for name in MEASURES}
    return Table(columns, [*cells, {"model": NEAREST, **nearest}], muted=[len(cells)])


def _cost_table(league: League, place: Place) -> Table:
    columns = [
        Column("model"),
        Column("minutes", "budget", "g", "min", missing=""),
        Column("cpu", "spent", mean_spread(".2f"), "CPU min"),
        Column("images", "images shown", "d"),
        Column("mb", "MB", ".1f"),
        Column("ms", "ms a picture", ".1f", "CPU"),
        Column("peak_mb", "peak MB", ".0f"),
    ]
    rows = [row for row in league.at(place) if row.measured]
    cells = [
        {
            "model": row.model,
            "minutes": row.minutes,
            "cpu": [each / 60 for each in row.cpu_s],
            "images": row.measured[0].effort["images"],
            **_cost_cells(row),
        }
        for row in rows
    ]
    return Table(columns, [*cells, {"model": NEAREST, **league.nearest.get(place, {})}], muted=[len(cells)])


def _cost_cells(row: Row) -> dict[str, float]:
    size = str(row.place.size)
    known = {
        "mb": row.measured[0].effort["bytes"] / 1e6,
        "ms": row.cost.get("ms", {}).get(size),
        "peak_mb": row.cost.get("peak_mb", {}).get(size),
    }
    return {name: value for name, value in known.items() if value is not None}


def _measured_places(league: League) -> list[Place]:
    return [place for place in league.places if any(row.measured for row in league.at(place))]


def _groups(league: League, place: Place) -> list[str]:
    return list(dict.fromkeys(group for row in league.at(place) for seed in row.measured for group in seed.groups))


def _listed(minutes: Sequence[float]) -> str:
    return " / ".join(f"{each:g}" for each in sorted(minutes))


def _csv(league: League) -> str:
    """A line a row, seed and group; then the nearest frame's."""
    lines: list[dict[str, Any]] = []
    for place in league.places:
        start = {"dataset": place.dataset.resolve().name, "size_px": place.size}
        rows = league.at(place)
        for row in rows:
            known = {**start, "model": row.model, "minutes": row.minutes}
            lines += [{**known, "error": row.error}] if row.error else []
            for seed, measured in enumerate(row.measured):
                spent = {"seed": seed, "cpu_s": row.cpu_s[seed], "images": measured.effort["images"]}
                for group, methods in measured.groups.items():
                    lines.append({**known, **spent, "group": group, **methods["model"], **_cost_cells(row)})
        first = next((row for row in rows if row.measured), None)
        for seed, measured in enumerate(first.measured if first else ()):
            for group, methods in measured.groups.items():
                cost = league.nearest.get(place, {})
                scores = methods.get("nearest_frame", {})
                lines.append({**start, "model": NEAREST, "seed": seed, "group": group, **scores, **cost})
    return Table([*map(Column, CSV_COLUMNS)], lines).csv()


def _values(league: League) -> dict[str, Any]:
    return {
        "config": to_yaml_dict(league.config),
        "machine": league.machine,
        "opensplat": league.opensplat,
        "rows": [
            {
                "dataset": str(row.place.dataset),
                "size": row.place.size,
                "model": row.model,
                "minutes": row.minutes,
                "seeds": [
                    {"run": seed.run.name, "groups": seed.groups, "effort": seed.effort, "error": seed.error}
                    for seed in row.seeds
                ],
                "cpu_s": row.cpu_s,
                "machines": row.machines,
                "cost": row.cost,
            }
            for row in league.rows
        ],
    }


def picture_of(place: Place) -> str:
    return f"{place.dataset.resolve().name}-{place.size}.png"


def draw_place(path: Path, league: League, place: Place) -> None:
    """Write a PNG of seed 0 of each model at its largest budget; nothing where no row was measured."""
    largest = {
        row.model: row for row in league.at(place) if row.measured and (row.measured[0].run / CHECKPOINT).exists()
    }
    if not largest:
        return
    dataset = Dataset(place.dataset)
    first = next(iter(largest.values())).measured[0].run
    frames, labels = frames_of_groups(dataset, first, FRAMES_A_GROUP)
    models = [show(row.measured[0].run, dataset, frames, device="cpu", title=name) for name, row in largest.items()]
    unit = "m" if dataset.depth_kind == "metric" else "relative"
    draw_side_by_side(path, models, labels, f"{place.name}; seed 0 of each at its largest budget", unit)


def _page(out: Path, league: League) -> Page:
    found = crossings(league)
    sections = [Section(text=[effort(league).replace("*", "")])]
    sections += [Section("Where splats win", found, [])] if found else []
    for place in _measured_places(league):
        name = picture_of(place)
        pictures = [Picture(name, "recorded and rendered, and the errors")] if (out / name).exists() else []
        sections.append(Section(place.name, _cost_table(league, place), pictures=pictures))
        sections += [
            Section(f"{place.name}: {group}", _quality(league, place, group)) for group in _groups(league, place)
        ]
    return Page(
        "Renderers for a CPU, at growing budgets",
        verdict(league).rstrip(":"),
        sections,
        notes=[note.replace("*", "") for note in remarks(league)],
        provenance={"machine": league.machine, "settings": listed(to_flat(league.config))},
        mood="bad" if league.failed else "neutral",
    )
