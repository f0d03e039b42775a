"""Flies a dataset past a live render node: player, node and monitor as real ROS 2 processes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.cli.nodes import require_ros
from pose2rgbd_ros.geometry.flight import FlightSettings, plan_flight
from pose2rgbd_ros.settings import read_yaml

START_LIMIT_S = 120.0  # the first start compiles, on whatever machine
STOP_LIMIT_S = 10.0
SHEET_ROWS = 6


def fly(dataset: Path, checkpoint: Path, out: Path, seconds: float, settings: FlightSettings) -> bool:
    """Play `dataset`, render its poses with `checkpoint`, and measure what arrives.

    Of a smooth path through sparse frames only the images rendered at the very poses of frames are compared with them.
    Leaves OUT/summary.yaml (rate, latency, errors), OUT/sheet.png (recorded | rendered live | error) and a log per
    process. Returns whether images arrived. UserError when ROS 2 is not to be had in this Python.
    """
    print(f"== fly live for {seconds:.0f} s: player, render node and monitor as ROS 2 processes", flush=True)
    require_ros("the live part", " or pass --live-s 0")
    from pose2rgbd_ros.dataset.reader import Dataset

    out.mkdir(parents=True, exist_ok=True)
    samples, summary = out / "samples", out / "summary.yaml"
    for old in [summary, *samples.glob("*.npz")]:
        old.unlink(missing_ok=True)
    monitor_arguments = ["--duration-s", f"{seconds}", "--timeout-s", f"{START_LIMIT_S}"]
    monitor_arguments += ["--summary", str(summary), "--samples", str(samples)]
    recorded = Dataset(dataset)
    flight = plan_flight(recorded.stamps_ns, recorded.T_map_cam, settings)
    if flight.line:
        print(f"   {flight.line}")
        monitor_arguments += ["--tolerance-s", "0"]
    play_arguments = ["--recording", str(dataset), "--loop", f"--flight.{'' if settings.smooth else 'no-'}smooth"]
    play_arguments += ["--flight.rate-hz", str(settings.rate_hz), "--flight.step-s", str(settings.step_s)]
    with (
        _process("render", ["--model", str(checkpoint)], out),
        _process("play", play_arguments, out),
        _process("monitor", monitor_arguments, out) as monitor,
    ):
        try:
            delivered = _wait(monitor, seconds, START_LIMIT_S + seconds + 30.0) == 0
        except subprocess.TimeoutExpired:
            delivered = False
    if not delivered:
        print(f"   no images arrived; {out}/render.log ends with:\n{_tail(out / 'render.log')}")
    if summary.exists():
        _print_summary(read_yaml(summary))
    _draw(samples, out / "sheet.png", "m" if recorded.depth_kind == "metric" else "relative")
    return delivered


def _wait(monitor: subprocess.Popen[bytes], seconds: float, limit_s: float) -> int:
    """The monitor's exit status, with a bar of the `seconds` that it measures. TimeoutExpired after the limit.

    It begins to count with the first image, some seconds after the start, so the bar stands at its end for as long.
    """
    form = "   flying {percentage:3.0f}%|{bar:30}| {n:.0f} of {total:.0f} s, {remaining} left"
    begun, step_s = time.monotonic(), 0.5
    with tqdm(total=seconds, bar_format=form, disable=None, leave=False) as bar:
        while (passed_s := time.monotonic() - begun) < limit_s:
            bar.update(min(passed_s, seconds) - bar.n)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return monitor.wait(step_s)
    raise subprocess.TimeoutExpired(monitor.args, limit_s)


@contextlib.contextmanager
def _process(command: str, arguments: list[str], out: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A node as a process of its own, ended like Ctrl-C would and, if that does not help, killed."""
    environment = os.environ.copy()
    # Unless the user chose a domain, take one where other robots' nodes are not likely to be heard.
    environment.setdefault("ROS_DOMAIN_ID", str(_DOMAIN))
    call = [sys.executable, "-m", "pose2rgbd_ros.cli.main", command, *arguments]
    with (out / f"{command}.log").open("wb") as log:
        process = subprocess.Popen(call, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


_DOMAIN = random.Random().randrange(1, 100)


def _tail(log: Path, lines: int = 5) -> str:
    return "\n".join("     " + line for line in log.read_text(errors="replace").splitlines()[-lines:])


def _print_summary(summary: dict[str, object]) -> None:
    for key, value in summary.items():
        print(f"   {key:<24} {value:.4g}" if isinstance(value, float) else f"   {key:<24} {value}")
    print("   (these errors include frames trained on; the table above is the honest measure)")


def _draw(samples: Path, path: Path, depth_unit: str) -> None:
    """The pairs the monitor kept, as a sheet; none are no sheet."""
    from pose2rgbd_ros.evaluation.sheets import SheetRow, draw_sheet

    rows = []
    files = sorted(samples.glob("*.npz"), key=lambda file: int(file.stem))
    for file in files[:: -(-len(files) // SHEET_ROWS) or 1]:
        with np.load(file, allow_pickle=False) as pair:
            images = {name: pair[name] for name in pair.files}
        rows.append(
            SheetRow(
                label=f"t = {(int(file.stem) - int(files[0].stem)) / 1e9:.1f} s",
                rgb=images.get("recorded_rgb"),
                rgb_predicted=images.get("rendered_rgb"),
                depth=images.get("recorded_depth"),
                depth_predicted=images.get("rendered_depth"),
            )
        )
    if rows:
        draw_sheet(path, rows, "what the live node published (most of these frames were trained on)", depth_unit)
