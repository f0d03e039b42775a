"""The report of `pose2rgbd run`, OUT/index.html: how sure each step is, what was recorded, how good the model is and
where not, what the live node did. Made of the pages that the steps left (their JSON) and of the files of the run.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pose2rgbd_ros.cli.trust import TRUST, WORDS, Trust, trust_of
from pose2rgbd_ros.convert.recording_page import RECORDED, REJECTED, recording_figures, recording_sections
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.reports.page import Command, Figure, Mood, Page, Picture, Section, moved
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.settings import read_yaml, write_yaml

PAGE = "index.html"
NEXT = "See it, use it"
# Of live/summary.yaml: what it is, and its unit.
LIVE = {
    "images": ("images arrived", ""), "duration_s": ("measured for", "s"), "rate_hz": ("rate", "Hz"),
    "latency_p50_ms": ("latency, median", "ms"), "latency_p95_ms": ("latency, 95 % within", "ms"),
    "latency_max_ms": ("latency, longest", "ms"), "delivered_percent": ("of those published arrived", "%"),
    "depth_delivered_percent": ("of the depth images", "%"), "rgb_mae_px": ("colour error", "of 255"),
    "depth_mae": ("depth error", "unit of depth"),
}  # fmt: skip


def write_run_page(out: Path, command: str = "") -> list[Trust]:
    """Write index.html, index.json and trust.yaml of a run's folder, made by this command line; what each step decided.

    UserError when they cannot be written.
    """
    command = command or f"pose2rgbd run --out {out}"
    steps, dataset = list(trust_of(out)), Dataset(out / "dataset")
    bad = [each.step for each in steps if each.mood == "bad"]
    doubtful = [each.step for each in steps if each.mood == "neutral"]
    named = [f"{word}: {', '.join(names)}" for word, names in (("not good", bad), ("with doubts", doubtful)) if names]
    verdict = "; ".join(named) or "every step is sure of its answer"
    mood: Mood = "bad" if bad else "neutral" if doubtful else "good"
    report = _page_of(out / "run" / "report")
    figures = [*(report.figures[:3] if report else ()), *_live_figures(out), *recording_figures(dataset)]
    sections = [
        _trust(steps, command),
        *_models(out, command),
        *recording_sections(dataset),
        _frames(out),
        *_aligned(out),
    ]
    if report is not None:
        own = (RECORDED, REJECTED, NEXT)
        sections += [moved(each, "run/report") for each in report.sections if each.title not in own]
    sections += [*_live(out, command), *_seconds(out, command), Section(NEXT, commands=_next(out))]
    facts = {} if report is None else report.provenance
    notes = () if report is None else report.notes
    page = Page(f"pose2rgbd run: {out.name}", f"{verdict[:1].upper()}{verdict[1:]}.",
                [each for each in sections if each], notes, facts, mood, figures)  # fmt: skip
    with os_errors(f"cannot write the report into {out}"):
        write_yaml(out / TRUST, {each.step: {"decided": each.decided, "sure": each.sure, "mood": each.mood,
                                             "remedy": each.remedy} for each in steps})  # fmt: skip
        page.write(out / PAGE)
    return steps


def _page_of(folder: Path, name: str = "index.json") -> Page | None:
    """A page that a step left; None: an older version left none."""
    try:
        return Page.read(folder / name)
    except UserError:
        return None


def _trust(steps: list[Trust], command: str) -> Section:
    columns = [
        Column("step"), Column("is", "that is"), Column("decided", "what was decided"), Column("sure", "how sure"),
        Column("remedy", "what helps"),
    ]  # fmt: skip
    rows = [
        {"step": each.step, "decided": each.decided, "sure": each.sure, "is": WORDS[each.mood],
         "remedy": "" if each.mood == "good" else each.remedy}
        for each in steps
    ]  # fmt: skip
    return Section("How sure each step is", Table(columns, rows), made_by=command)


def _models(out: Path, command: str) -> list[Section]:
    """The models that were trained, and which is served."""
    rows, served = list[dict[str, Any]](), None
    for folder in sorted((out / "runs").glob("*/choice.yaml")):
        choice = read_yaml(folder)
        if (out / "run").resolve() == folder.parent.resolve():
            served = len(rows)
        share = float(choice.get("error_share", math.nan))
        is_now = "collapsed" if choice.get("collapsed") else ""
        rows.append({"model": folder.parent.name, "is": is_now, "error_share": share,
                     "frames": int(choice.get("frames", 0)), "figures": choice.get("figures", "")})  # fmt: skip
    if len(rows) < 2:
        return []
    if served is not None:
        rows[served]["is"] = "served"
    columns = [
        Column("model"), Column("is", ""), Column("error_share", "error, of the mean image's", ".0%"),
        Column("frames", "frames that choose", "d"), Column("figures", "figures"),
    ]  # fmt: skip
    text = ["The model of the least error on the frames that choose is served; frames that judge measure it below."]
    strong = [] if served is None else [served]
    return [Section("Models", Table(columns, rows, strong), text, made_by=command)]


def _frames(out: Path) -> Section:
    if not (out / "dataset/inspect/contact_sheet.png").is_file():
        return Section()
    caption = "frames of the dataset, their depth, and how sure it is"
    return Section("Frames", None, (), [Picture("dataset/inspect/contact_sheet.png", caption)],
                   made_by=f"pose2rgbd inspect {out / 'dataset'}")  # fmt: skip


def _aligned(out: Path) -> list[Section]:
    """What the alignment said, where there was one."""
    page = _page_of(out / "dataset" / "align", "report.json")
    if page is None:
        return []
    opening = Section("Alignment by the pictures", text=[page.verdict, *page.notes],
                      made_by=f"pose2rgbd align {out / 'dataset'}")  # fmt: skip
    return [opening, *(moved(each, "dataset/align") for each in page.sections)]


def _summary(out: Path) -> dict[str, Any]:
    path = out / "live" / "summary.yaml"
    return read_yaml(path) if path.is_file() else {}


def _live_figures(out: Path) -> list[Figure]:
    found = _summary(out)
    if not found.get("rate_hz"):
        return []
    return [Figure("live node", f"{found['rate_hz']:.1f} Hz", f"latency {found['latency_p95_ms']:.0f} ms (95 %)")]


def _live(out: Path, command: str) -> list[Section]:
    found = _summary(out)
    if not found:
        return []
    rows = [
        {"what": words, "value": found[key], "unit": unit}
        for key, (words, unit) in LIVE.items()
        if isinstance(found.get(key), (int, float))
    ]
    rows += [{"what": f"images of state {name}", "value": count} for name, count in (found.get("states") or {}).items()]
    columns = [
        Column("what", ""),
        Column("value", "", lambda value: f"{value:.4g}"),
        Column("unit", "unit", missing=""),
    ]
    text = [
        f"A player, the render node with {found.get('model', '?')} and a monitor, as ROS 2 processes on this machine. "
        "These errors include frames trained on; those above are of frames held out."
    ]
    sheet = [Picture("live/sheet.png", "what the live node published")] if (out / "live/sheet.png").is_file() else []
    return [Section("Live node", Table(columns, rows), text, sheet, made_by=command)]


def _seconds(out: Path, command: str) -> list[Section]:
    """How long each step took."""
    steps = read_yaml(out / "steps.yaml") if (out / "steps.yaml").is_file() else {}
    rows = [
        {"step": name, "seconds": each["seconds"]}
        for name, each in steps.items()
        if isinstance(each, dict) and isinstance(each.get("seconds"), (int, float))
    ]
    if not rows:
        return []
    table = Table([Column("step"), Column("seconds", "took", ".1f", "s")], rows)
    return [Section("How long each step took", table, made_by=command)]


def _next(out: Path) -> list[Command]:
    run, dataset = out / "run", out / "dataset"
    model = run / "checkpoint"
    return [
        Command(f"pose2rgbd view {run} {dataset}", "fly through it in a browser, beside the recorded frames"),
        Command(f"pose2rgbd render --model {model}", "ROS node: what the camera should be seeing"),
        Command(f"pose2rgbd up render play monitor --model {model}", "the node, a player and a monitor beside it"),
        Command(f"pose2rgbd evaluate {run} {dataset}", "measure again"),
        Command(f"pose2rgbd train relief {dataset} --max-minutes 30", "train longer"),
    ]
