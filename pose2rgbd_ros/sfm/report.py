"""What an alignment did, as a page: the track before and after, how far the recorded positions were off, the points."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import counted, os_errors
from pose2rgbd_ros.reports.page import Page, Section, listed
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.sfm.align import REPORT, Alignment
from pose2rgbd_ros.sfm.reconstruct import AlignSettings

_MOST_POINTS = 40_000


def write(folder: Path, found: Alignment, settings: AlignSettings) -> Path:
    """Write align/report.html and its pictures into the dataset. UserError when it cannot be written."""
    out = folder / REPORT
    with os_errors(f"{folder} is aligned, but its report cannot be written to {out}"):
        out.mkdir(exist_ok=True)
        _draw_map(found, out / "map.png")
        _draw_residuals(found, out / "positions.png")
        _page(folder, found, settings).write(out / "report.html")
    return out / "report.html"


def _page(folder: Path, found: Alignment, settings: AlignSettings) -> Page:
    main, reference = found.maps[0], found.reference
    columns = [Column("name", ""), Column("before", "recorded"), Column("after", "aligned")]
    rows = [
        {"name": "frames", "before": str(len(found.recorded)), "after": str(len(found.frames))},
        {"name": "camera", "before": str(found.recorded.camera), "after": str(found.camera)},
        {
            "name": "sigma of a position along x, y, z (median)",
            "before": _metres(reference.sigma_m),
            "after": _metres(np.median(found.sigma_m, axis=0)),
        },
        {
            "name": "sigma of an orientation (median)",
            "before": f"{reference.attitude_offset_deg:.1f} degrees off",
            "after": f"{np.median(found.sigma_deg):.3f} degrees",
        },
        {"name": "scale", "before": "", "after": f"± {100 * reference.scale_sigma:.2f} %"},
        {"name": "points, seen by three frames or more", "before": "", "after": str(len(main.points))},
        {"name": "reprojection (mean)", "before": "", "after": f"{main.reprojection_px:.2f} px"},
    ]
    lost = [
        f"{layout.stamp_text(int(found.recorded.stamps_ns[frame]))}: {reason}"
        for frame, reason in sorted(found.left_out.items())
    ]
    sections = [
        Section("", Table(columns, rows)),
        Section.showing("Track and points", "map.png", "From above, in the map; grey: sparse points."),
        Section.showing("Recorded positions", "positions.png", "Recorded minus aligned; red: not used."),
    ]
    if lost:
        sections.append(Section("Frames left out", None, lost[:200]))
    verdict = f"{len(found.frames)} of {counted(len(found.recorded), 'frame')} have a pose by structure from motion."
    return Page(
        f"Alignment of {folder.name}", verdict, sections, found.notes,
        {"dataset": str(folder), "settings": listed(dataclasses.asdict(settings))},
        "good" if len(found.frames) >= 0.9 * len(found.recorded) else "bad",
    )  # fmt: skip


def _metres(values: np.ndarray) -> str:
    return ", ".join(f"{value:.2f}" for value in values) + " m"


def _draw_map(found: Alignment, path: Path) -> None:
    figure = Figure(figsize=(9, 7.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    recorded, aligned = found.recorded.T_map_cam[:, :3, 3], found.T_map_cam[:, :3, 3]
    for each in found.maps:
        some = each.points[:: max(1, len(each.points) // _MOST_POINTS)]
        colors = each.colors[:: max(1, len(each.points) // _MOST_POINTS)] / 255
        axes.scatter(some[:, 0], some[:, 1], s=1.0, c=colors, linewidths=0, alpha=0.5, rasterized=True)
    axes.plot(*recorded[:, :2].T, ".", color="tab:orange", ms=4, label="recorded")
    axes.plot(*aligned[:, :2].T, ".", color="tab:blue", ms=5, label="aligned")
    lines = np.stack([recorded[found.frames, :2], aligned[:, :2]], axis=1)
    axes.add_collection(LineCollection(list(lines), color="tab:blue", lw=0.7))
    if found.left_out:
        axes.plot(*recorded[sorted(found.left_out), :2].T, "x", color="tab:red", ms=6, label="left out")
    low, high = np.quantile(recorded[:, :2], [0, 1], axis=0)
    margin = 0.15 * float(np.max(high - low)) + 1.0
    axes.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin))
    axes.set(xlabel="x of the map [m]", ylabel="y of the map [m]")
    axes.set_aspect("equal")
    axes.legend(loc="upper right")
    figure.savefig(path)


def _draw_residuals(found: Alignment, path: Path) -> None:
    figure = Figure(figsize=(9, 5), dpi=110, layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    frames, reference = found.maps[0].frames, found.reference
    seconds = (found.recorded.stamps_ns[frames] - found.recorded.stamps_ns[0]) / 1e9
    for axes, values, name, sigma in zip(panels, reference.residual_m.T, "xyz", reference.sigma_m, strict=True):
        axes.axhspan(-sigma, sigma, color="0.9")
        axes.plot(seconds, values, ".-", ms=4, lw=0.6)
        axes.plot(seconds[reference.is_bad], values[reference.is_bad], ".", color="tab:red", ms=6)
        axes.set_ylabel(f"{name} [m]")
        axes.grid(alpha=0.3)
    panels[-1].set_xlabel("time since the first frame [s]")
    figure.savefig(path)
