"""The diagnosis as a page: findings first, then what will come of the recording, its topics over time, its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pose2rgbd_ros.dataset.meta import software
from pose2rgbd_ros.doctor.bag import BagLook, roles_of
from pose2rgbd_ros.doctor.diagnosis import Diagnosis
from pose2rgbd_ros.doctor.doctor import Examined
from pose2rgbd_ros.doctor.files import FileLook
from pose2rgbd_ros.doctor.judge import BLUR, DARK
from pose2rgbd_ros.doctor.pictures import CLIPPED, PictureLog
from pose2rgbd_ros.errors import counted, os_errors
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.reports.page import Mood, Page, Section
from pose2rgbd_ros.reports.table import Column, Table

PAGE = "index.html"
_MOODS: dict[int, Mood] = {0: "good", 1: "neutral", 2: "bad"}
_GOOD, _BAD, _QUIET = "tab:blue", "tab:red", "0.6"
_DPI, _BINS = 110, 400


def write_pages(found: Sequence[Examined], folder: Path) -> list[Path]:
    """A page for each recording: index.html of the only one, else each in a folder of its own. The paths."""
    paths = []
    for i, (diagnosis, look) in enumerate(found):
        own = folder if len(found) == 1 else folder / f"{i + 1}_{Path(diagnosis.source[0]).stem}"
        with os_errors(f"cannot write the page into {own}", "choose another --page"):
            own.mkdir(parents=True, exist_ok=True)
            path = own / PAGE
            path.write_bytes(page_of(diagnosis, look, own).html(own))
        paths.append(path)
    return paths


def page_of(diagnosis: Diagnosis, look: BagLook | FileLook | None, folder: Path) -> Page:
    """The page, with its pictures drawn into the folder. OSError passes through."""
    sections = [_findings(diagnosis), _prospects(diagnosis)]
    if isinstance(look, BagLook) and look.logs:
        _draw_times(diagnosis, look, folder / "times.png")
        sections.append(
            Section.showing(
                "Topics over time", "times.png",
                "messages per time, by when they were received: a dark stretch has all that its rate promises, white "
                "none; red marks are gaps, crosses are times at which the clock of the stamps was set",
            )
        )  # fmt: skip
    if diagnosis.streams:
        sections.append(Section("" if len(sections) == 3 else "Topics", diagnosis.stream_table()))
    log = look.pictures if look is not None else None
    if log is not None and log.looks:
        _draw_pictures(log, folder / "pictures.png")
        sections.append(
            Section.showing(
                "Pictures", "pictures.png",
                f"{counted(len(log.looks), 'image')} were decoded, evenly over the recording; above {BLUR:g} one is "
                f"blurred, below {DARK:g} dark",
            )
        )  # fmt: skip
    way = _way(look)
    if way is not None:
        _draw_way(*way, folder / "way.png")
        sections.append(Section.showing("Way", "way.png", "the camera's way from above, and GPS fixes where there are"))
    if diagnosis.notes:
        sections.append(Section("What converting chooses and assumes", None, diagnosis.notes))
    return Page(
        f"Doctor: {' '.join(Path(it).name for it in diagnosis.source)}",
        diagnosis.verdict,
        sections,
        provenance={
            "recording": " ".join(diagnosis.source),
            **diagnosis.facts,
            "command": f"pose2rgbd doctor {' '.join(diagnosis.source)}",
            "software": software(),
        },
        mood=_MOODS[diagnosis.status],
    )


def _findings(diagnosis: Diagnosis) -> Section:
    columns = [Column("severity", ""), Column("what", "what was found"), Column("next", "what to do")]
    rows = [
        {"severity": it.severity, "what": f"{it.subject}: {it.text}" if it.subject else it.text, "next": it.next}
        for it in diagnosis.ranked
    ]
    notes = [i for i, it in enumerate(diagnosis.ranked) if it.severity == "note"]
    if not rows:
        return Section("Findings", None, ["Nothing: all that was looked at is as it should be."])
    next_step = [f"Next: `{diagnosis.next_command}`"] if diagnosis.next_command else []
    return Section("Findings", Table(columns, rows, muted=notes), next_step)


def _prospects(diagnosis: Diagnosis) -> Section:
    rows = [{"job": it.name, "how": f"no: {it.missing}" if it.missing else f"`{it.command}`"} for it in diagnosis.jobs]
    table = Table(
        [Column("job", "job"), Column("how", "command, or what is missing")],
        rows,
        muted=[i for i, it in enumerate(diagnosis.jobs) if it.missing],
    )
    text = [] if diagnosis.expected is None else [f"You will get {diagnosis.expected}."]
    return Section("What it is good for", table, text)


def _draw_times(diagnosis: Diagnosis, look: BagLook, path: Path) -> None:
    """A row for each topic: how many of the messages that its rate promises came, in slices of the recording."""
    roles = roles_of(look)
    names = [it.name for it in diagnosis.streams if it.name in look.logs and it.count > 1 and not _is_static(it.name)]
    if not names:
        names = list(look.logs)[:1]
    first = min(int(log.received_ns[0]) for log in look.logs.values())
    last = max(int(log.received_ns[-1]) for log in look.logs.values())
    length_s = max((last - first) / 1e9, 1e-3)
    edges = np.linspace(0.0, length_s, _BINS + 1)
    filled = np.zeros((len(names), _BINS))
    figure = Figure(figsize=(10, 0.9 + 0.32 * len(names)), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    for row, name in enumerate(names):
        log, found = look.logs[name], look.streams[name]
        seconds = (np.sort(log.received_ns) - first) / 1e9
        filled[row] = _share(seconds, edges, found.interval_s)
        for at_s, gap_s in found.gaps:
            begin = at_s + seconds[0]
            axes.plot([begin, begin + gap_s], [row, row], color=_BAD, lw=3, solid_capstyle="butt")
        if found.jumps_s:
            steps = np.abs(np.diff(log.early_ns)) > 0.05e9
            axes.plot((log.received_ns[1:][steps] - first) / 1e9, np.full(steps.sum(), row), "x", color=_BAD, ms=6)
    axes.pcolormesh(
        edges, np.arange(len(names) + 1) - 0.5, filled, cmap="Blues", vmin=0, vmax=1.25, rasterized=True, zorder=0
    )
    axes.set_yticks(range(len(names)), [f"{name}  ({roles[name]})" if name in roles else name for name in names])
    axes.tick_params(labelsize=8, length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", axis="y", color="white", lw=3)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("seconds of the recording", fontsize=8)
    for side in axes.spines.values():
        side.set_visible(False)
    figure.savefig(path)


def _is_static(name: str) -> bool:
    return name.endswith("tf_static")


def _share(seconds: Float64, edges: Float64, interval_s: float) -> Float64:
    """The share of each slice (N,) in which the last message is no older than half as much again as is usual."""
    if not interval_s > 0:
        return np.asarray(np.histogram(seconds, edges)[0] > 0, dtype=np.float64)
    covers = 1.5 * interval_s
    # How long it was silent up to each time: that grows from the end of what a message covers to the next one.
    silent_s = np.concatenate([[0.0], np.cumsum(np.maximum(np.diff(seconds) - covers, 0.0))])
    begins = np.minimum(seconds[:-1] + covers, seconds[1:])
    at = np.concatenate([[seconds[0]], np.column_stack([begins, seconds[1:]]).ravel(), [seconds[-1] + covers]])
    until = np.concatenate([[0.0], np.column_stack([silent_s[:-1], silent_s[1:]]).ravel(), [silent_s[-1]]])
    before, after = np.minimum(edges - at[0], 0.0), np.maximum(edges - at[-1], 0.0)
    return 1.0 - np.diff(np.interp(edges, at, until) + before + after) / (edges[1] - edges[0])


def _draw_pictures(log: PictureLog, path: Path) -> None:
    """Thumbnails in a row, and below sharpness and exposure over the recording."""
    count = max(1, len(log.thumbnails))
    figure = Figure(figsize=(10, 4.4), dpi=_DPI, layout="constrained")
    grid = figure.add_gridspec(3, count, height_ratios=(1.3, 1, 1))
    for i, picture in enumerate(log.thumbnails):
        axes = figure.add_subplot(grid[0, i])
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
    index = np.array([look.index for look in log.looks])
    rows: list[tuple[str, list[float], float | None, float]] = [
        ("blur (0 sharp, 1 flat)", [look.blur for look in log.looks], BLUR, 1.0),
        ("grey level", [look.brightness for look in log.looks], DARK, 255.0),
    ]
    for row, (name, values, limit, top) in enumerate(rows, start=1):
        axes = figure.add_subplot(grid[row, :])
        axes.plot(index, values, ".-", color=_GOOD, lw=0.8, ms=4)
        if limit is not None:
            axes.axhline(limit, color=_BAD, lw=0.8, ls="--")
        axes.set_ylim(0, top)
        axes.set_ylabel(name, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    clipped = [100 * look.clipped for look in log.looks]
    twin = axes.twinx()
    twin.fill_between(index, 0, clipped, color=_BAD, alpha=0.25, lw=0)
    twin.set_ylim(0, 100)
    twin.set_ylabel(f"% above {CLIPPED}", fontsize=8, color=_BAD)
    twin.tick_params(labelsize=8, colors=_BAD)
    twin.spines[["top"]].set_visible(False)
    axes.set_xlabel("number of the image", fontsize=8)
    figure.savefig(path)


def _way(look: BagLook | FileLook | None) -> tuple[Float64, Float64 | None] | None:
    """Positions (N, 2) of the frames, and of GPS fixes moved onto them; None of fewer than two frames."""
    rehearsal = look.rehearsal if look is not None else None
    if rehearsal is None or len(rehearsal.stamps_ns) < 2:
        return None
    xy = rehearsal.T_map_cam[:, :2, 3]
    recording = look.recording if isinstance(look, BagLook) else None
    fixes = recording.first_pass.evidence.fixes if recording is not None else None
    if recording is None or fixes is None or not len(fixes):
        return xy, None
    track = fixes.track(recording.track.datum)
    at = recording.track.body.interpolate(track.stamps_ns)
    if not at.valid.any():
        return xy, None
    apart = np.median(track.position_m[at.valid, :2] - at.T[at.valid, :2, 3], axis=0)
    return xy, track.position_m[:, :2] - apart


def _draw_way(xy: Float64, fixes: Float64 | None, path: Path) -> None:
    figure = Figure(figsize=(7, 5), dpi=_DPI, layout="constrained")
    axes: Any = figure.subplots()
    if fixes is not None:
        axes.plot(*fixes.T, ".", color=_QUIET, ms=4, label="GPS fixes, moved onto the poses")
    axes.plot(*xy.T, "-", color=_GOOD, lw=1.2, label="frames")
    axes.plot(*xy[0], "o", color=_GOOD, ms=6, label="first")
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel("x (m)", fontsize=8)
    axes.set_ylabel("y (m)", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
