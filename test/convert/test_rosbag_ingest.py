"""Conversion in several threads, filters, the table of rejects, and recordings of one name."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from pose2rgbd_ros.convert.bag import convert
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.filters import flight_phase
from pose2rgbd_ros.dataset.meta import read_meta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError

S = 1_000_000_000


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a dataset but those that tell the settings."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("convert_report.yaml", ".lock")
    }


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "rejects.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def damaged(make, entries):
    """An image cut short, a depth image of another encoding, the first known depth late."""
    images = [message for _, topic, message in entries if topic == "/camera/image"]
    depths = [message for _, topic, message in entries if topic == "/camera/depth"]
    images[4].data = images[4].data[:50]
    depths[7].encoding = "64FC1"
    for depth in depths[:3]:
        depth.data = np.zeros_like(depth.data)
    return entries


@pytest.mark.parametrize("depth", ["16UC1", "32FC1", None])
def test_the_number_of_threads_changes_no_byte(flight, tmp_path: Path, depth: str | None) -> None:
    recorded = flight(frames=20, jpeg=False, depth=depth, size=(64, 48), spoil=damaged if depth else lambda m, e: e)
    bag = recorded.write(tmp_path / "bag")
    results = []
    for jobs in (1, 2, 7):
        report = convert([bag], tmp_path / f"out{jobs}", ConvertConfig(jobs=jobs, min_move_m=0.3))
        results.append((contents(tmp_path / f"out{jobs}"), report.rejects, report.bags[0].rejected))
    assert results[0] == results[1] == results[2]
    assert results[0][1]["near_duplicate"] >= 5


def test_a_recording_is_the_same_by_another_path(flight, tmp_path: Path, monkeypatch) -> None:
    bag = flight().write(tmp_path / "bag")
    convert([bag], tmp_path / "out", ConvertConfig(every=2))
    monkeypatch.chdir(tmp_path)
    convert(["bag"], tmp_path / "out", ConvertConfig(every=2, resume=True))
    assert [row["recording"] for row in rows(tmp_path / "out")] == ["bag"] * 4


def test_every_reject_stands_in_the_table(flight, tmp_path: Path) -> None:
    recorded = flight(frames=20, jpeg=False, size=(64, 48), spoil=damaged)
    report = convert([recorded.write(tmp_path / "bag")], tmp_path / "out", ConvertConfig(every=2))
    table = rows(tmp_path / "out")
    assert len(table) == sum(report.rejects.values()) == 20 - report.frames_written
    stamps = recorded.image_stamps_ns()
    by_stamp = {row["stamp"]: row for row in table}
    cut = by_stamp[f"{stamps[4] // S}.{stamps[4] % S:09d}"]
    assert cut["reason"] == "image_unreadable"
    assert "does not fit" in cut["detail"]
    assert {row["recording"] for row in table} == {str(tmp_path / "bag")}
    assert [row["stamp"] for row in table] == sorted(row["stamp"] for row in table)


def test_the_table_keeps_the_rows_of_recordings_that_are_not_read_again(flight, tmp_path: Path) -> None:
    bags = [flight(start_ns=(1_700_000_000 + 900 * i) * S).write(tmp_path / f"bag{i}") for i in range(2)]
    convert(bags[:1], tmp_path / "out", ConvertConfig(every=2))
    convert(bags[1:], tmp_path / "out", ConvertConfig(every=4, resume=True))
    convert(bags[1:], tmp_path / "out", ConvertConfig(every=4, resume=True))
    names = [row["recording"] for row in rows(tmp_path / "out")]
    assert names == [str(bags[0])] * 4 + [str(bags[1])] * 6


def test_recordings_of_one_name_are_told_apart_in_several_runs(flight, tmp_path: Path) -> None:
    bags = [flight(start_ns=(1_700_000_000 + 900 * i) * S).write(tmp_path / f"{i}" / "bag") for i in range(2)]
    convert(bags[:1], tmp_path / "out")
    convert(bags[1:], tmp_path / "out", ConvertConfig(resume=True))
    convert(bags[:1], tmp_path / "out", ConvertConfig(resume=True))  # nothing new
    sources = read_meta(tmp_path / "out").sources
    assert [(source.name, source.frames) for source in sources] == [("bag", 8), ("bag (2)", 8)]


def climb(z_m: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    """Stamps and heights: 5 s on the ground, up at 2 m/s, 60 s at height, down at 1 m/s, 10 s on the ground."""
    t = np.arange(0, 120, 0.05)
    up, down = 5 + z_m / 2, 65 + z_m / 2
    z = np.interp(t, [0, 5, up, down, down + z_m], [0, 0, z_m, z_m, 0])
    return (t * S).astype(np.int64), z + 0.02 * np.random.default_rng(0).standard_normal(len(t))


def test_take_off_and_landing_are_where_the_climb_ends_and_the_descent_begins() -> None:
    stamps, z = climb()
    phase = flight_phase(stamps, z)
    assert phase is not None
    assert phase[0] / S == pytest.approx(15, abs=0.6)
    assert phase[1] / S == pytest.approx(75, abs=0.6)
    in_the_air = stamps > 30 * S
    cut = flight_phase(stamps[in_the_air], z[in_the_air])
    assert cut is not None
    assert cut[0] == stamps[in_the_air][0], "a recording that begins in the air loses nothing there"


def test_a_stamp_of_1970_makes_no_grid_of_fifty_years() -> None:
    stamps, z = climb()
    stamps = np.concatenate([[0], stamps + 1_700_000_000 * S])
    phase = flight_phase(stamps, np.concatenate([[0.0], z]))
    assert phase is not None
    np.testing.assert_allclose((np.array(phase) - stamps[1]) / S, [15, 75], atol=0.6)


def test_what_does_not_climb_is_no_flight() -> None:
    stamps, z = climb(z_m=1.0)
    assert flight_phase(stamps, z) is None
    assert flight_phase(stamps[:1], z[:1]) is None


def test_ground_phases_and_heights_are_filtered_from_the_whole_track(flight, tmp_path: Path) -> None:
    def climbing(make, entries):
        poses = [message for _, topic, message in entries if topic == "/odom"]
        for i, message in enumerate(poses):
            message.pose.pose.position.z = 100.0 + 15.0 * float(np.interp(i, [0, 10, 30, 60], [0, 0, 1, 1]))
        return entries

    bag = flight(frames=30, spoil=climbing).write(tmp_path / "bag")
    report = convert([bag], tmp_path / "out", ConvertConfig(trim_ground=True))
    assert set(report.rejects) == {"ground_phase"}
    assert 15 <= report.rejects["ground_phase"] <= 19, "the top is reached after 1.5 s"
    assert any("and the last 0.0 s are cut" in note for note in report.notes)
    report = convert([bag], tmp_path / "high", ConvertConfig(min_height_m=7.5))
    assert report.rejects == {"altitude": 10}
    assert (Dataset(tmp_path / "high").T_map_cam[:, 2, 3] >= 107.5).all()


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_devices_and_pipes_are_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = Path("/dev/zero")
    if kind == "pipe":
        path = tmp_path / "flight.bag"
        os.mkfifo(path)
    with pytest.raises(UserError, match="is a device, a pipe or a socket"):
        convert([path], tmp_path / "out")
