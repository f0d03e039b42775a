"""`pose2rgbd run` on other people's photographs and video, as anyone would call it: minutes, alignment, judged frames.

    POSE2RGBD_REAL_DATA=DATA python bench/photographs.py                   # all three, 20 minutes on two idle cores
    python bench/photographs.py --data DATA --scenes seneca --out FOLDER   # finished steps are not done again

The nearest frame and the mean image are what a model has to beat (docs/models.md). Seneca's picture is the README's.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.held_out import choose_frames
from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.evaluation.sheets import (
    DEPTH_COLOURS,
    ERROR_COLOURS,
    Block,
    SheetColumn,
    depth_limits,
    draw_blocks,
    error_limit,
)
from pose2rgbd_ros.experiments.pictures import show
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.metrics import spread

HERE = Path(__file__).parent
RESULT, SHEET = HERE / "results" / "photographs.md", HERE.parent / "docs" / "images" / "seneca_sheet.jpg"
SCENES = {
    "seneca": "aerial_seneca/images",
    "karma": "karma_drone_video/karma.mp4",
    "brighton": "aerial_brighton_beach/images",
}
SHEET_FRAMES = 4
TIMES = (Column("scene", ""), Column("aligned", ""), Column("focal", "focal length px"), Column("minutes", "", ".1f"),
         Column("cpu", "processor minutes", ".1f"), Column("steps", "seconds of steps"))  # fmt: skip
SCORES = (Column("method", ""), Column("rgb_mae_px", "RGB of 255", ".2f"), Column("psnr_db", "PSNR dB", ".1f"),
          Column("ssim", "SSIM", ".3f"), Column("depth_mae", "depth m", ".2f"),
          Column("depth_known", "depth known", ".3f"))  # fmt: skip


def run(source: Path, out: Path, minutes: float | None) -> dict[str, float]:
    """Minutes that `pose2rgbd run` took, with interrupted calls before; what it says goes to `out`.log.

    CalledProcessError when it fails.
    """
    call = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "run", str(source), "--out", str(out), "--live-s", "0"]
    call += ["--train.clock", "cpu"]  # so that a busy machine trains as long as an idle one
    call += [] if minutes is None else ["--train.max-minutes", str(minutes)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    kept = out.with_suffix(".yaml")
    spent = read_yaml(kept) if kept.exists() else {"minutes": 0.0, "cpu": 0.0}
    try:
        with out.with_suffix(".log").open("a") as log:
            subprocess.run(call, stdout=log, stderr=subprocess.STDOUT, check=True)
    finally:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent["minutes"] += (time.monotonic() - started) / 60
        spent["cpu"] += (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) / 60
        write_yaml(kept, spent)
    return spent


def facts(scene: str, out: Path, spent: dict[str, float]) -> tuple[dict[str, Any], str]:
    """The row of a scene among the times, and the table of its scores with what they were measured on."""
    said = out.with_suffix(".log").read_text()
    aligned = re.search(r"(\d+ of \d+) frames aligned", said)
    took = dict(re.findall(r"^   (.+) took (\d+) s$", said, re.MULTILINE))
    steps = ", ".join(f"{name} {seconds}" for name, seconds in took.items() if int(seconds) >= 5)
    focal = f"{Dataset(out / 'dataset').camera.fx:.0f}"
    row = {"scene": scene, "aligned": aligned[1] if aligned else "none", "focal": focal, "steps": steps, **spent}
    reports = {each.name: read_yaml(each / "report" / "metrics.yaml") for each in sorted((out / "runs").iterdir())}
    served = (out / "run").resolve().name
    scores = dict(reports[served]["scores"])
    scores.pop("model")
    rows = [{"method": name.replace("_", " "), **values} for name, values in scores.items()]
    for name, report in reports.items():
        rows.append({"method": f"**{name}**, served" if name == served else name, **report["scores"]["model"]})
    choose = read_yaml(out / "run" / "choice.yaml")["frames"]
    counts = f"**{scene}**: {reports[served]['frames']} frames judge, {choose} choose."
    return row, f"{counts}\n\n{Table(SCORES, rows).markdown()}"


def draw(path: Path, out: Path) -> None:
    """Recorded, predicted and its error, and predicted depth of some frames that judge."""
    dataset, model = Dataset(out / "dataset"), out / "run"
    frames = spread(choose_frames(load_checkpoint(model), dataset, "checkpoint").test, SHEET_FRAMES)
    shown = show(model, dataset, frames)
    errors = shown.rgb_errors()
    columns = [
        SheetColumn("recorded", list(shown.true_rgb)),
        SheetColumn("predicted", list(shown.rgb if shown.rgb is not None else [])),
        SheetColumn("RGB error (0..255)", errors, ERROR_COLOURS, 0.0, error_limit(errors)),
    ]
    if shown.depth is not None:
        depths = list(shown.depth)
        columns.append(SheetColumn("predicted depth (m)", list(depths), DEPTH_COLOURS, *depth_limits([*depths])))
    labels = [f"{(dataset.stamps_ns[i] - dataset.stamps_ns[0]) / 1e9:.0f} s" for i in frames]
    draw_blocks(
        path, [Block(columns, labels)], "photographs that judge: no training saw them, and nothing was chosen by them"
    )


def main() -> None:
    """Run, measure, print; keep table and picture when all scenes were run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("POSE2RGBD_REAL_DATA"))
    parser.add_argument("--out", type=Path, default=Path("photographs"), help="folders of the runs")
    parser.add_argument("--scenes", default=",".join(SCENES))
    parser.add_argument("--minutes", type=float, help="of training; as `run` has it")
    args = parser.parse_args()
    if args.data is None:
        parser.error("give --data, or set POSE2RGBD_REAL_DATA")
    args.out.mkdir(parents=True, exist_ok=True)
    machine, times, tables = described(), [], []
    for scene in args.scenes.split(","):
        out = args.out / scene
        row, table = facts(scene, out, run(args.data / SCENES[scene], out, args.minutes))
        times.append(row)
        tables.append(table)
        print(table, flush=True)
    head = (
        f"`python bench/photographs.py{'' if args.minutes is None else f' --minutes {args.minutes:g}'}`: "
        "`pose2rgbd run` as it is, without the live part, training minutes by the "
        f"processor's clock, 128 px, on {machine}. Scores are of frames that judge: no training saw them and nothing "
        "was chosen by them; RGB counts every pixel, also where a model knows nothing. The depth that scores depth was "
        "made from the same pictures."
    )
    text = "\n\n".join([head, Table(TIMES, times).markdown(), *tables])
    print(text)
    if "seneca" in args.scenes.split(","):
        draw(SHEET, args.out / "seneca")
    if args.scenes == ",".join(SCENES):
        RESULT.write_text(text + "\n")


if __name__ == "__main__":
    main()
