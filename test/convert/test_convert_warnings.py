"""What is wrong with a recording is a warning, told last; with --strict it is an error, and the dataset is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.reader import Dataset

S = 1_000_000_000


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str], str]:
    """Exit status, the warnings, and what stderr says last."""
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    told = [line for line in printed.out.splitlines() if line.startswith("warning:")]
    return status, told, (printed.err.strip().splitlines() or [""])[-1]


def strict_too(capsys: pytest.CaptureFixture[str], bag: Path, out: Path, words: str) -> None:
    """One warning of these words, by convert and inspect; --strict makes it an error and keeps the dataset."""
    status, told, _ = run(capsys, "convert", bag, out)
    assert status == 0
    assert len([line for line in told if words in line]) == 1, told
    frames = len(Dataset(out))
    status, told, error = run(capsys, "convert", bag, f"{out}_strict", "--strict")
    assert status == 1
    assert "(--strict)" in error
    assert f"{out}_strict is kept" in error
    assert len(Dataset(Path(f"{out}_strict"))) == frames
    status, told, _ = run(capsys, "inspect", out)
    assert status == 0
    assert len([line for line in told if words in line]) == 1, told
    status, _, error = run(capsys, "inspect", out, "--strict")
    assert status == 1
    assert error == f"error: {len(told)} warning{'s' if len(told) > 1 else ''} (--strict)"


def test_a_good_recording_has_no_warning(flight, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = flight(frames=12).write(tmp_path / "bag")
    assert run(capsys, "convert", bag, tmp_path / "out", "--strict")[:2] == (0, [])
    assert run(capsys, "inspect", tmp_path / "out", "--strict")[:2] == (0, [])


def test_a_lens_of_173_degrees(flight, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = flight(frames=12, calibrated=False).write(tmp_path / "bag")
    assert main(["convert", str(bag), str(tmp_path / "wide"), "--fov-deg", "173"]) == 0
    assert "warning: the camera sees 173 degrees without distortion" in capsys.readouterr().out
    status, told, _ = run(capsys, "inspect", tmp_path / "wide", "--strict")
    assert status == 1
    assert "sees 173 degrees" in told[0]


def test_float_depth_in_millimetres(flight, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = flight(frames=12, depth="32FC1")
    rng = np.random.default_rng(0)
    recorded.depth_counts = lambda i: rng.integers(1_169_000, 6_771_000, (24, 32)) // 1000 * 1000
    strict_too(capsys, recorded.write(tmp_path / "bag"), tmp_path / "out", "look like millimetres")


@pytest.mark.parametrize(
    ("scale", "words"), [(1000.0, "moves at 2,000 m/s"), (1e6, "the poses extend over"), (0.0, "never moves")]
)
def test_poses_that_no_drone_has(
    flight, scale: float, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(make, entries):
        for _, topic, message in entries:
            if topic == "/odom":
                message.pose.pose.position.x *= scale
                if not scale:
                    message.pose.pose.position.x = 3.0
        return entries

    recorded = flight(frames=12, spoil=spoil)
    recorded.static_tf = bool(scale)  # else the camera moves about the body
    bag = recorded.write(tmp_path / "bag")
    if scale:
        strict_too(capsys, bag, tmp_path / "out", words)
    else:
        assert main(["convert", str(bag), str(tmp_path / "out"), "--body-to-camera", "forward"]) == 0
        assert words in capsys.readouterr().out


def test_what_is_done_to_clocks_is_not_contradicted(flight, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A clock that is set is said to be joined, and nothing is said to be used as it is, or unchanged."""

    def spoil(make, entries):
        for received_ns, topic, message in entries:
            if topic == "/camera/image/compressed" and received_ns > flight().start_ns + S:
                message.header.stamp.sec -= 7
        return entries

    bag = flight(frames=20, depth=None, spoil=spoil).write(tmp_path / "bag")
    assert main(["convert", str(bag), str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "was set once" in printed
    assert "its stamps were joined" in printed
    for contradiction in ("used as they are", "nothing was changed", "1 times"):
        assert contradiction not in printed


def test_a_recording_most_of_whose_images_are_lost(flight, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Images without a pose leave good frames, but fewer than were recorded; images that were not wanted are not
    lost.
    """

    def ends(make, entries):
        return [entry for entry in entries if entry[1] != "/odom" or entry[0] < flight().start_ns + S]

    bag = flight(frames=30, depth=None, spoil=ends).write(tmp_path / "bag")
    status, told, _ = run(capsys, "convert", bag, tmp_path / "out", "--strict")
    assert (status, told) == (
        1,
        ["warning: 20 of 30 images gave no frame, most of them for after_last_pose: see rejects.csv"],
    )
    whole = flight(frames=30, depth=None).write(tmp_path / "whole")
    assert run(capsys, "convert", whole, tmp_path / "few", "--every", "5", "--strict")[:2] == (0, [])


def test_counts_of_one(flight, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A single frame, in convert, inspect and in what refuses to write over it."""
    bag = flight(frames=9).write(tmp_path / "bag")
    assert main(["convert", str(bag), str(tmp_path / "out"), "--every", "9"]) == 0
    assert main(["inspect", str(tmp_path / "out")]) == 0
    assert main(["convert", str(bag), str(tmp_path / "out")]) == 2
    printed = "".join(capsys.readouterr())
    assert "1 frame written" in printed
    assert "bag: 1 frame over" in printed
    assert "(of 1 frame)" in printed
    assert "a dataset of 1 frame;" in printed
    assert "1 frames" not in printed
