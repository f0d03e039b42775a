"""`pose2rgbd run` on a small recording: dataset, model, live processes and report, and nothing twice."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from pose2rgbd_ros.sim.bag import demo_config, write_sim_bag


def _command(bag: Path, out: Path, live_s: int = 3, min_gain: float = 0.0) -> list[str]:
    options = "--train.size 32 --train.width 0.25 --train.max-minutes 0.1 --train.no-tensorboard".split()
    call = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "run", str(bag), "--out", str(out)]
    return [*call, "--live-s", str(live_s), "--min-gain", str(min_gain), *options]


def _run(bag: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(bag, out), text=True, capture_output=True, timeout=1100)


@pytest.mark.ros
def test_recording_to_live_node(tmp_path: Path, ros_domain: int) -> None:
    bag, out = tmp_path / "flight.mcap", tmp_path / "out"
    write_sim_bag(bag, replace(demo_config(), duration_s=18.0, width=64, height=48))
    result = _run(bag, out)
    assert result.returncode == 0, result.stdout + result.stderr

    assert {path.name for path in (out / "runs").iterdir()} == {"relief", "warp-12", "base"}
    choices = {path.name: yaml.safe_load((path / "choice.yaml").read_text()) for path in (out / "runs").iterdir()}
    able = {name: choice for name, choice in choices.items() if not choice["collapsed"]}
    best = min(able, key=lambda name: able[name]["error_share"])
    assert re.search(rf"{best} +served", result.stdout)
    assert (out / "run").resolve() == out / "runs" / best
    scores = yaml.safe_load((out / "run" / "report" / "metrics.yaml").read_text())["scores"]
    assert set(scores) == {"model", "mean_image", "nearest_frame"}
    live = yaml.safe_load((out / "live" / "summary.yaml").read_text())
    assert live["model"] == best
    assert live["images"] > 20
    assert live["rgb_mae_px"] < 128
    assert (out / "run" / "report" / "flight.mp4").stat().st_size > 10_000
    assert 'src="./flight.mp4"' in (out / "run" / "report" / "index.html").read_text()
    for picture in ("dataset/inspect/contact_sheet.png", "run/report/sheet.png", "live/sheet.png"):
        assert (out / picture).stat().st_size > 10_000

    weights = out / "run" / "checkpoint" / "weights.safetensors"
    trained_at = weights.stat().st_mtime_ns
    again = [*_command(bag, out, live_s=0, min_gain=0.99), "--view", "always"]
    with subprocess.Popen(again, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.search(r"look at (http://[a-z0-9.:]+)", line):
                assert b"<html" in urllib.request.urlopen(found[1], timeout=60).read()
                process.send_signal(signal.SIGINT)
    said = "".join(lines)
    assert process.returncode == 1, said
    assert "rgb_mae_px is" in said
    assert "look at http://" in said
    assert said.count("done before") == 10
    assert weights.stat().st_mtime_ns == trained_at


def test_a_missing_recording_is_one_line(tmp_path: Path) -> None:
    result = _run(tmp_path / "nothing.bag", tmp_path / "out")
    assert result.returncode == 2
    assert result.stderr.splitlines() == [f"error: {tmp_path}/nothing.bag: no such recording"]
