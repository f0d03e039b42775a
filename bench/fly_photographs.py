"""What the live part of `pose2rgbd run` shows of photographs seconds apart: at their times, and along a smooth path.

    python bench/fly_photographs.py DATASET RUN          # a dataset of photographs, and a model trained on it

Player, render node and monitor are processes of their own, 20 s each; then the video of the report. Writes
bench/results/fly_photographs.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from textwrap import fill
from typing import Any

from pose2rgbd_ros.cli.live import fly
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.film import film
from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.evaluation.pictures import measure
from pose2rgbd_ros.geometry.flight import FlightSettings, plan_flight
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.settings import read_yaml

RESULTS = Path(__file__).resolve().parent / "results" / "fly_photographs.md"
SECONDS = 20.0
COLUMNS = [
    Column("flown", ""),
    Column("images", "images", "d"),
    Column("rate_hz", "rate", ".1f", "Hz"),
    Column("latency_p95_ms", "p95", ".0f", "ms"),
    Column("stale", "share STALE_TF", ".0%"),
    Column("compared", "photographs compared", "d"),
]


def live(dataset: Path, run: Path, out: Path, settings: FlightSettings) -> dict[str, Any]:
    """A row of the table."""
    fly(dataset, run / "checkpoint", out, SECONDS, settings)
    summary = read_yaml(out / "summary.yaml")
    states = summary["states"]
    flown = "smoothly" if settings.smooth else "at their times"
    return {**summary, "flown": flown, "stale": states.get("STALE_TF", 0) / sum(states.values())}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("run", type=Path)
    arguments = parser.parse_args()
    dataset, made_on = Dataset(arguments.dataset), described()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        rows = [
            live(dataset.path, arguments.run, out / str(smooth), FlightSettings(smooth)) for smooth in (False, True)
        ]
        judged_ns = measure(arguments.run, dataset.path).stamps_ns
        started, video = time.monotonic(), out / "flight.mp4"
        shown = film(arguments.run, dataset, judged_ns, video, SECONDS)
        filmed = (
            f"The report's video took {time.monotonic() - started:.0f} s, {video.stat().st_size / 1e6:.1f} MB: {shown}."
        )
    head = (
        f"`python bench/fly_photographs.py {dataset.path.name} {arguments.run.name}`: {made_on}. {len(dataset)} "
        f"photographs; {plan_flight(dataset.stamps_ns, dataset.T_map_cam).line}."
    )
    parts = ["# Photographs, flown", fill(head, 120), Table(COLUMNS, rows).markdown(), fill(filmed, 120)]
    text = "\n\n".join(parts) + "\n"
    RESULTS.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
