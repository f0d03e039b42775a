"""The comparison as files: tables.md to paste, tables.csv and tables.yaml for programs, index.html to look at first."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.evaluation.experiments import localization_paper as paper
from pose2rgbd_ros.evaluation.experiments.localization import Outcome, Place, Row
from pose2rgbd_ros.evaluation.experiments.localization_findings import findings
from pose2rgbd_ros.evaluation.experiments.localization_plan import TITLES, place_name
from pose2rgbd_ros.evaluation.experiments.localization_saliency import (
    draw_saliency,
    focus_table,
    saliency_name,
)
from pose2rgbd_ros.reports.page import Page, Picture, Section, listed
from pose2rgbd_ros.reports.table import Column, Table, mean_spread
from pose2rgbd_ros.settings import to_flat, to_yaml_dict, write_yaml

METRES, DEGREES = "median_position_m", "median_rotation_deg"
ROOM_M = 2.0  # where even the worst method's median is below this, the place is a room
ROOM, OUTDOORS = ((0.05, 5.0), (0.25, 2.0)), ((0.5, 5.0), (5.0, 10.0))  # of localization.THRESHOLDS

FOCUS_WORDS = (
    "Where the networks look: rank correlation of the saliency map with the strength of the image's structure and of its "
    "texture (relative total variation), and of the maps of one image in colour and in grey; mean over held-out frames, and "
    "over seeds. The paper says that PoseGAN looks at structure, its config A and PoseNet at texture."
)


def write_report(out: Path, outcome: Outcome, pictures: bool) -> None:
    """Write the files of what is measured so far; `pictures`: draw curves and saliency too. UserError: cannot be written."""
    from pose2rgbd_ros.evaluation.experiments.localization_pictures import draw_curves

    try:
        out.mkdir(parents=True, exist_ok=True)
        if pictures:
            for place in outcome.places:
                draw_curves(out / curves_name(place), place)
                if outcome.config.saliency:
                    others = [other for other in outcome.places if other is not place]
                    draw_saliency(out, place, others, outcome.config)
        layout.atomic_write(out / "tables.md", markdown(outcome, pictures).encode())
        layout.atomic_write(out / "tables.csv", _csv(outcome).encode())
        write_yaml(out / "tables.yaml", _values(outcome))
        layout.atomic_write(out / "index.html", _page(out, outcome, pictures).html())
    except OSError as error:
        raise UserError(f"cannot write the comparison into {out} ({error.strerror or error})") from error


def markdown(outcome: Outcome, finished: bool = True) -> str:
    """Everything in words and tables, ready to paste; once all is `finished`, what the networks look at too."""
    parts = [effort(outcome)]
    for place in outcome.places:
        parts += [f"### {place_name(place.dataset)}", f"{place.words}.", scored(place).markdown()]
        parts += remarks(place)
        focus = _focus(outcome, place, finished)
        parts += [FOCUS_WORDS, focus.markdown()] if focus else []
    return "\n\n".join(parts) + "\n"


def effort(outcome: Outcome) -> str:
    """One paragraph: cost, machine, what the figures are."""
    config = outcome.config
    clock = "the processor" if outcome.clock == "cpu" else "the wall"
    limit = f", at most {counted(config.epochs, 'epoch')}" if config.epochs else ""
    spread = f"mean ± standard deviation over {config.seeds} seeds" if config.seeds > 1 else "one seed"
    return (
        f"Networks: {config.minutes:g} minutes of {clock} to train each{limit}, {config.width:g} times the paper's width, "
        f"the weights of the end; medians, {spread}; {outcome.machine}. Position in metres, orientation in degrees. "
        "Rejected frames are in no median but in the shares of all frames within a bound. "
        "Grey: the same frames, their images turned to grey. PoseGAN's weights count its generator, which finding a camera "
        "does not need (config A has none)."
    )


def curves_name(place: Place) -> str:
    """The picture of a place's cumulative curves."""
    return f"{place_name(place.dataset)}-curves.png"


def scored(place: Place) -> Table:
    """A row for each method and size, its seeds together."""
    places = bounds(place)
    columns = [
        Column("method"),
        Column("size", "px", "d"),
        Column("position", "position", "s", "m"),
        Column("orientation", "orientation", mean_spread(".2f"), "°"),
        Column("paper", f"paper: {place.scene}", "s"),
        *(
            Column(_share(*bound), f"within {bound[0]:g} m, {bound[1]:g}°", mean_spread(".0f", " %"))
            for bound in places
        ),
        Column("rejected", format=".1%"),
        Column("grey position", "grey: position", "s", "m"),
        Column("grey orientation", "grey: orientation", mean_spread(".2f"), "°"),
        Column("paper grey", "paper: grey", "s"),
        Column("epochs", format=mean_spread(".0f")),
        Column("weights", "million weights", ".2f"),
        Column("ms", "ms a frame", mean_spread(".1f")),
    ]
    if place.scene is None:
        columns = [column for column in columns if not column.key.startswith("paper")]
    return Table(columns, [_row(key, rows, place) for key, rows in grouped(place).items()])


def bounds(place: Place) -> tuple[tuple[float, float], ...]:
    """The bounds (m, deg) that say something here: those of a room, or of the outdoors."""
    medians = [value for rows in grouped(place).values() for value in values_of(rows, METRES)]
    return ROOM if max(filter(math.isfinite, medians), default=0.0) < ROOM_M else OUTDOORS


def grouped(place: Place) -> dict[tuple[str, int | None], list[Row]]:
    """The measured rows of each method and size, its seeds together: networks by size, then what is not trained."""
    found: dict[tuple[str, int | None], list[Row]] = {}
    for row in place.rows:
        if not row.error:
            found.setdefault((row.method, row.size), []).append(row)
    order = list(TITLES)
    return dict(sorted(found.items(), key=lambda item: (item[0][1] or 9999, order.index(item[0][0]))))


def values_of(rows: list[Row], name: str, kind: str = "colour") -> list[float]:
    """A measure of each seed."""
    return [float(row.scores[kind].get(name, math.nan)) for row in rows]


def remarks(place: Place) -> list[str]:
    """What stands under a table."""
    notes = list(findings(place))
    if place.scene:
        others = [f"{TITLES[method]}: {name}" for method, name in paper.NAMES.items()]
        notes.append(
            f"The paper's column is of other methods of the same kind where it has not ours ({'; '.join(others)})."
        )
    notes += [
        f"{TITLES[row.method]}, seed {row.seed}, is missing: {row.error}." for row in place.rows if row.error
    ]
    return notes


def _focus(outcome: Outcome, place: Place, finished: bool) -> Table | None:
    """None where there is nothing to tell."""
    if not finished or not outcome.config.saliency:
        return None
    table = focus_table(place, outcome.config)
    return table if table.rows else None


def _row(key: tuple[str, int | None], rows: list[Row], place: Place) -> dict[str, Any]:
    (method, size), scene = key, place.scene
    metres = mean_spread(".3f" if scene is not None or max(values_of(rows, METRES)) < 1 else ".2f")
    shares = {_share(*bound): values_of(rows, _share(*bound)) for bound in bounds(place)}
    rejected = [row.scores["colour"]["rejected"] / max(1, row.scores["colour"]["frames"]) for row in rows]
    effort = rows[0].effort
    return {
        "method": TITLES[method],
        "size": size,
        "position": metres(values_of(rows, METRES)),
        "orientation": values_of(rows, DEGREES),
        "paper": _printed(method, scene, grey=False),
        **{name: [100 * value for value in values] for name, values in shares.items()},
        "rejected": float(np.mean(rejected)),
        "grey position": metres(values_of(rows, METRES, "grey")),
        "grey orientation": values_of(rows, DEGREES, "grey"),
        "paper grey": _printed(method, scene, grey=True),
        "epochs": [row.effort["epochs"] for row in rows] if effort else None,
        "weights": effort["parameters"] / 1e6 if effort else None,
        "ms": values_of(rows, "median_ms"),
    }


def _share(metres: float, degrees: float) -> str:
    """The measure's name, as localization.scores has it."""
    return f"within_{metres:g}_m_{degrees:g}_deg"


def _printed(method: str, scene: str | None, grey: bool) -> str | None:
    figures = paper.printed(method, scene, grey) if scene else None
    return None if figures is None else f"{figures[0]:g} / {figures[1]:g}"


def _csv(outcome: Outcome) -> str:
    """A line a row and kind of image, every measure."""
    lines = [
        {
            "dataset": place_name(place.dataset), "method": row.method, "size": row.size or "", "seed": row.seed,
            "images": kind, **scores, **{f"effort_{name}": value for name, value in row.effort.items()},
        }
        for place in outcome.places
        for row in place.rows
        for kind, scores in row.scores.items()
    ]  # fmt: skip
    return Table([*map(Column, dict.fromkeys(name for line in lines for name in line))], lines).csv()


def _values(outcome: Outcome) -> dict[str, Any]:
    return {
        "config": to_yaml_dict(outcome.config),
        "machine": outcome.machine,
        "clock": outcome.clock,
        "places": [
            {
                "dataset": str(place.dataset),
                "words": place.words,
                "scene": place.scene,
                "rows": [
                    {
                        "method": row.method, "size": row.size, "seed": row.seed, "run": row.run.name,
                        "scores": row.scores, "effort": row.effort, "error": row.error,
                    }
                    for row in place.rows
                ],
            }
            for place in outcome.places
        ],
    }  # fmt: skip


def _page(out: Path, outcome: Outcome, finished: bool) -> Page:
    sections, verdicts = [Section(text=[effort(outcome)])], []
    for place in outcome.places:
        name, focus = place_name(place.dataset), _focus(outcome, place, finished)
        files = [curves_name(place), *(saliency_name(place, size) for size in outcome.config.sizes)]
        pictures = [Picture(file, Path(file).stem) for file in files if finished and (out / file).exists()]
        sections.append(Section(name, scored(place), [f"{place.words}.", *remarks(place)]))
        if focus or pictures:
            words = [FOCUS_WORDS] if focus else []
            sections.append(Section(f"{name}: errors and where the networks look", focus, words, pictures))
        verdicts.append(f"{name}: {_nearest(place)}")
    return Page(
        "Localization side by side",
        f"{'; '.join(verdicts)}.",
        sections,
        provenance={
            **{place_name(place.dataset): str(place.dataset) for place in outcome.places},
            "machine": outcome.machine,
            "settings": listed(to_flat(outcome.config)),
        },
        mood="bad" if outcome.failed else "neutral",
    )


def _nearest(place: Place) -> str:
    """The method of the smallest median position error, in words."""
    medians = {key: float(np.mean(values_of(rows, METRES))) for key, rows in grouped(place).items()}
    known = {key: value for key, value in medians.items() if math.isfinite(value)}
    if not known:
        return "no method found a pose yet"
    method, size = best = min(known, key=lambda key: known[key])
    return f"{TITLES[method]}{f' at {size} px' if size else ''} is nearest, median position error {known[best]:.3g} m"
