"""The comparison as files: tables.md to paste, tables.csv and tables.yaml for programs, index.html to look at first."""

from __future__ import annotations

import base64
import csv
import html
import io
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
    focus_cells,
    saliency_name,
)
from pose2rgbd_ros.settings import to_yaml_dict, write_yaml

NOTHING = "–"
METRES, DEGREES = "median_position_m", "median_rotation_deg"
ROOM_M = 2.0  # where even the worst method's median is below this, the place is a room
ROOM, OUTDOORS = ((0.05, 5.0), (0.25, 2.0)), ((0.5, 5.0), (5.0, 10.0))  # of localization.THRESHOLDS

FOCUS_WORDS = (
    "Where the networks look: rank correlation of the saliency map with the strength of the image's structure and of its "
    "texture (relative total variation), and of the maps of one image in colour and in grey; mean over held-out frames, and "
    "over seeds. The paper says that PoseGAN looks at structure, its config A and PoseNet at texture."
)

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Localization side by side</title>
<style>
 body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1300px; margin: 2rem auto; padding: 0 1rem; color: #222; }}
 table {{ border-collapse: collapse; margin: 1rem 0; }}
 th, td {{ padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }}
 th:first-child, td:first-child {{ text-align: left; }} img {{ max-width: 100%; }}
</style>
<h1>Localization side by side</h1>
<p>{effort}</p>
{places}
</html>
"""


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
        layout.atomic_write(out / "index.html", _page(out, outcome, pictures).encode())
    except OSError as error:
        raise UserError(f"cannot write the comparison into {out} ({error.strerror or error})") from error


def markdown(outcome: Outcome, finished: bool = True) -> str:
    """Everything in words and tables, ready to paste; once all is `finished`, what the networks look at too."""
    parts = [effort(outcome)]
    for place in outcome.places:
        parts += [f"### {place_name(place.dataset)}", f"{place.words}.", _markdown(cells(place))]
        parts += remarks(place)
        focus = _focus(outcome, place, finished)
        parts += [FOCUS_WORDS, _markdown(focus)] if focus else []
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


def cells(place: Place) -> list[list[str]]:
    """The table as text, the header first."""
    has_paper = place.scene is not None
    header = ["method", "px", "position (m)", "orientation (°)"]
    header += [f"paper: {place.scene}"] if has_paper else []
    header += [f"within {metres:g} m, {degrees:g}°" for metres, degrees in bounds(place)]
    header += ["rejected", "grey: position (m)", "grey: orientation (°)"]
    header += ["paper: grey"] if has_paper else []
    header += ["epochs", "million weights", "ms a frame"]
    return [header, *(_row(key, rows, place) for key, rows in grouped(place).items())]


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


def with_spread(values: list[float], style: str = ".2f") -> str:
    """Mean ± standard deviation of the finite values."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return NOTHING
    mean = format(float(np.mean(known)), style)
    return mean if len(known) == 1 else f"{mean} ± {float(np.std(known, ddof=1)):{style}}"


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


def _focus(outcome: Outcome, place: Place, finished: bool) -> list[list[str]]:
    """Empty where there is nothing to tell."""
    if not finished or not outcome.config.saliency:
        return []
    table = focus_cells(place, outcome.config)
    return table if len(table) > 1 else []


def _row(key: tuple[str, int | None], rows: list[Row], place: Place) -> list[str]:
    (method, size), scene = key, place.scene
    fine = ".3f" if scene is not None or max(values_of(rows, METRES)) < 1 else ".2f"
    line = [TITLES[method], str(size or NOTHING), with_spread(values_of(rows, METRES), fine)]
    line.append(with_spread(values_of(rows, DEGREES)))
    line += [_printed(method, scene, grey=False)] if scene else []
    for metres, degrees in bounds(place):
        shares = values_of(rows, f"within_{metres:g}_m_{degrees:g}_deg")
        line.append(with_spread([100 * share for share in shares], ".0f") + " %")
    rejected = [row.scores["colour"]["rejected"] / max(1, row.scores["colour"]["frames"]) for row in rows]
    line.append(f"{np.mean(rejected):.1%}")
    line += [
        with_spread(values_of(rows, METRES, "grey"), fine),
        with_spread(values_of(rows, DEGREES, "grey")),
    ]
    line += [_printed(method, scene, grey=True)] if scene else []
    effort = rows[0].effort
    line.append(with_spread([float(row.effort["epochs"]) for row in rows], ".0f") if effort else NOTHING)
    line.append(f"{effort['parameters'] / 1e6:.2f}" if effort else NOTHING)
    return [*line, with_spread(values_of(rows, "median_ms"), ".1f")]


def _printed(method: str, scene: str | None, grey: bool) -> str:
    figures = paper.printed(method, scene, grey)
    return NOTHING if figures is None else f"{figures[0]:g} / {figures[1]:g}"


def _markdown(rows: list[list[str]]) -> str:
    header, *body = rows
    marks = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, marks, *body))


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
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(dict.fromkeys(name for line in lines for name in line)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


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


def _page(out: Path, outcome: Outcome, finished: bool) -> str:
    text = ""
    for place in outcome.places:
        name = place_name(place.dataset)
        text += f"<h2>{html.escape(name)}</h2><p>{html.escape(place.words)}.</p>{_table(cells(place))}"
        text += "".join(f"<p>{html.escape(note)}</p>" for note in remarks(place))
        focus = _focus(outcome, place, finished)
        text += f"<p>{html.escape(FOCUS_WORDS)}</p>{_table(focus)}" if focus else ""
        files = [curves_name(place), *(saliency_name(place, size) for size in outcome.config.sizes)]
        for picture in (out / file for file in files if finished and (out / file).exists()):
            data = base64.b64encode(picture.read_bytes()).decode()
            text += f'<p><img alt="{html.escape(picture.stem)}" src="data:image/png;base64,{data}"></p>'
    return PAGE.format(effort=html.escape(effort(outcome)), places=text)


def _table(rows: list[list[str]]) -> str:
    header, *body = rows
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    lines = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in line)}</tr>" for line in body)
    return f"<table><tr>{head}</tr>{lines}</table>"
