"""`pose2rgbd inspect`: every figure of the summary against the dataset it was made from, and pictures that show it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.aerial import nadir_pose

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.inspect import draw_contact_sheet, draw_track, held_out, inspect, summary, warnings
from pose2rgbd_ros.dataset.meta import DepthMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum


def lines(dataset: Dataset) -> dict[str, str]:
    rows: dict[str, str] = {}
    for line in summary(dataset, held_out(dataset)).splitlines():
        name, text = line[:9].strip(), line[10:]
        rows[name] = f"{rows[name]}\n{text}" if name in rows else text
    return rows


def straight_flight(path, toy, n: int = 40, pause_at: int = 25, meta=None, depth_m: float | None = 20.0) -> Dataset:
    """1 m per frame along x at 10 Hz, looking ahead, 30 m up; a pause of 5 s, one frame missing after frame 9."""
    stamps = [i * 100_000_000 + (5_000_000_000 if i >= pause_at else 0) + (10**8 if i > 9 else 0) for i in range(n)]
    depth = None
    if depth_m is not None:
        depth = np.full((24, 32), depth_m, np.float32)
        depth[:6] = np.nan
    meta = meta or toy.meta("metric" if depth is not None else None)
    with DatasetWriter(path, meta) as writer:
        for i, t in enumerate(stamps):
            if i in (0, pause_at):
                writer.begin_source(f"flight{i}.bag")
            T = se3.look_at(np.array([float(i), 0.0, 30.0]), np.array([i + 10.0, 0.0, 30.0]))
            writer.add(t + 1_700_000_000_000_000_000, T, toy.rgb(i), depth)
    return Dataset(path)


def test_the_figures_are_the_datasets(toy, tmp_path):
    meta = toy.meta(datum=Datum(44.4, 26.1, 80.0))
    rows = lines(straight_flight(tmp_path / "set", toy, meta=meta))
    assert rows["frames"] == "40, colour and metric depth"
    assert rows["time"] == "from 2023-11-14 22:13:20 UTC, 9.0 s long; 10.0 Hz, steps 100 to 200 ms"
    assert rows["pause"] == "5.1 s after frame 24\n1 short one, about 1 frame missing in all"
    assert rows["images"].startswith("32 x 24 pixels, png, ")
    assert "fx 30.00, fy 31.00, cx 15.20, cy 12.10 pixels; sees 56 x 42 degrees; no distortion" in rows["camera"]
    assert "metric, 16 bit counts of 1 mm, 32 x 24 pixels; 20.00 to 20.00 m" in rows["depth"]
    assert "unknown 25.0 %" in rows["depth"]
    assert rows["track"].startswith("38.00 m long, extent 39.00 x 0.00 x 0.00 m")
    assert "speed median 10.00, max 10.00 m/s" in rows["track"]
    assert rows["map"] == "map (camera: camera_optical_frame), origin at 44.4000000, 26.1000000 degrees, 80.00 m"
    assert rows["source"] == "flight0.bag: 25 frames over 2.5 s\nflight25.bag: 15 frames over 1.4 s"
    assert rows["held out"].startswith("8 frames held out in ")
    assert "warning:" not in rows


def test_what_to_look_at_is_told(toy, tmp_path):
    T = [se3.look_at(np.array([0.1 * i, 0, 5]), np.array([0.1 * i + 1, 0.01 * (i % 3), 5])) for i in range(30)]
    for i in range(20, 30):
        T[i] = T[i].copy()
        T[i][:3, 3] += [0, 60, 0]
    T[12] = se3.look_at(np.array([1.2, 0, 5]), np.array([0.2, 0, 5]))
    with DatasetWriter(tmp_path / "set", toy.meta(None, camera=Camera(32, 24, 0, 0, 0, 0))) as writer:
        for i in range(30):
            writer.add(toy.stamp(i), T[i], toy.rgb(i))
    found = warnings(Dataset(tmp_path / "set"))
    assert len(found) == 3
    assert "not calibrated" in found[0]
    assert re.search(r"moves 60\.\d\d m within 0\.03 s from frame 19 to 20 .* 1 such jump:", found[1])
    assert re.search(r"turns 1\d\d\.\d\d degrees within 0\.03 s from frame 1[12] to 1[23] .* 2 such jumps", found[2])


def of_poses(path: Path, toy: SimpleNamespace, T: list[np.ndarray], step_s: float) -> list[str]:
    """The warnings of a dataset with these poses, so many seconds apart."""
    with DatasetWriter(path, toy.meta(None)) as writer:
        for i, pose in enumerate(T):
            writer.add(toy.stamp(0) + round(i * step_s * 1e9), pose, toy.rgb(i))
    return warnings(Dataset(path))


def lawn_mower(per_line: int = 6, lines: int = 5, along_m: float = 15.0) -> list[np.ndarray]:
    """Lines flown back and forth, the camera down and the top of the image ahead."""
    found = []
    for line in range(lines):
        for i in range(per_line):
            along = along_m * (i if line % 2 == 0 else per_line - 1 - i)
            found.append(nadir_pose(along, 20.0 * line, 60.0, 90.0 if line % 2 == 0 else 270.0))
    return found


@pytest.mark.parametrize(("per_line", "step_s"), [(6, 1.0), (6, 3.0), (3, 3.0), (2, 4.0), (12, 8.0)])
def test_the_turns_from_one_line_to_the_next_are_flown(toy, tmp_path, per_line, step_s):
    assert of_poses(tmp_path / "set", toy, lawn_mower(per_line), step_s) == []


@pytest.mark.parametrize("gathers", [True, False])
def test_a_hover_that_becomes_a_flight_does_not_jump(toy, tmp_path, gathers):
    """Ten times the usual step is reached as aircraft do, or at once, as simulations do: what goes on is no jump."""
    t = np.arange(100) * 0.1
    since = np.clip(np.minimum(t - 6, 9.5 - t), 0, 1.5) if gathers else 1.5 * ((t > 6) & (t < 9))
    ways, yaws = np.cumsum(0.01 + 0.7 * since), np.cumsum(0.02 + 6.0 * since)
    T = [nadir_pose(way, 0.0, 20.0, yaw) for way, yaw in zip(ways, yaws, strict=True)]
    assert of_poses(tmp_path / "set", toy, T, 0.1) == []


@pytest.mark.parametrize("yaw_deg", [269.0, 270.0, 271.0])
@pytest.mark.parametrize("step_s", [0.05, 0.5])
def test_a_single_pose_the_other_way_round_is_told(toy, tmp_path, step_s, yaw_deg):
    """Also where the way back is, as a turn, the same as the way there."""
    T = [nadir_pose(step_s * 5.0 * i, 0.0, 60.0, 90.0 if i < 15 else 2 * yaw_deg - 90.0) for i in range(30)]
    T[14] = nadir_pose(*T[14][:3, 3], yaw_deg)
    (told,) = of_poses(tmp_path / "set", toy, T, step_s)
    assert re.search(r"turns 1(79|80)\.00 degrees within 0\.\d+ s from frame 1[34] to 1[45] .* 2 such jumps", told)


@pytest.mark.parametrize("step_s", [0.05, 0.5, 3.0])
def test_orientations_drawn_at_random_are_told(toy, tmp_path, step_s):
    T = lawn_mower(along_m=4.0 * step_s)
    for pose, rotation in zip(T, Rotation.random(len(T), random_state=1).as_matrix(), strict=True):
        pose[:3, :3] = rotation
    told = of_poses(tmp_path / "set", toy, T, step_s)
    assert any("degrees from frame to frame" in text and "check the orientations" in text for text in told)


@pytest.mark.parametrize(("step_s", "off_m"), [(0.1, 6.0), (1.0, 80.0)])
def test_a_single_pose_elsewhere_is_told(toy, tmp_path, step_s, off_m):
    T = [nadir_pose(2.0 * step_s * i, 0.0, 60.0, 90.0) for i in range(30)]
    T[14][1, 3] += off_m
    (told,) = of_poses(tmp_path / "set", toy, T, step_s)
    assert re.search(r"moves \d+\.\d\d m within \d\.\d\d s from frame 1[34] to 1[45] .* 2 such jumps", told)


def test_a_camera_that_never_moves_is_told(toy, tmp_path):
    with DatasetWriter(tmp_path / "set", toy.meta(None)) as writer:
        for i in range(6):
            writer.add(toy.stamp(i), toy.pose(toy.stamp(0)), toy.rgb(i))
    assert warnings(Dataset(tmp_path / "set")) == ["the camera never moves: check the pose topic"]


def test_a_marker_taken_for_depth_is_told(toy, tmp_path):
    depth = np.full((24, 32), 3.0)
    with DatasetWriter(tmp_path / "set", toy.meta()) as writer:
        for i in range(6):
            depth[0, 0] = 65.535 if i == 3 else 3.0
            writer.add(toy.stamp(i), toy.pose(toy.stamp(i)), toy.rgb(i), depth)
    rows = lines(Dataset(tmp_path / "set"))
    assert rows["warning:"].startswith("single depths reach 65.5")


def test_relative_depth_has_no_metres(make_dataset):
    text = lines(Dataset(make_dataset(6, depth="relative")))["depth"]
    assert text.startswith("relative, 32 bit float")
    assert "(no unit)" in text
    assert not re.search(r"\d m\b", text)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 30])
@pytest.mark.parametrize("depth", ["metric", None])
def test_datasets_of_all_sizes_have_pictures(make_dataset, n, depth):
    path = make_dataset(n, depth)
    result = inspect(Dataset(path))
    assert result.text in (path / "inspect/summary.txt").read_text()
    for picture in (result.contact_sheet, result.track):
        image = cv2.imread(str(picture))
        assert image.shape[1] > 1200
        assert image.std() > 10


def test_the_sheet_shows_the_frames(toy, tmp_path):
    """Frames of one colour each: the sheet holds those colours, and the depth colours, from near to far."""
    colours = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200], [220, 220, 20]], np.uint8)
    with DatasetWriter(tmp_path / "set", toy.meta()) as writer:
        for i, colour in enumerate(colours):
            t = toy.stamp(i)
            writer.add(t, toy.pose(t), np.broadcast_to(colour, (24, 32, 3)).copy(), np.full((24, 32), 2.0 + i))
    draw_contact_sheet(Dataset(tmp_path / "set"), tmp_path / "sheet.png")
    sheet = cv2.cvtColor(cv2.imread(str(tmp_path / "sheet.png")), cv2.COLOR_BGR2RGB)
    areas = [int((np.abs(sheet.astype(int) - colour).max(axis=-1) < 4).sum()) for colour in colours]
    assert min(areas) > 40_000
    centres = [np.argwhere(np.abs(sheet.astype(int) - colour).max(axis=-1) < 4)[:, 1].mean() for colour in colours]
    assert centres == sorted(centres), "in time order from left to right"
    column = [sheet[:, int(x)] for x in centres]
    below = [pixels[int(len(pixels) * 0.62)].astype(int) for pixels in column]
    assert below[0][0] > below[0][2], "the nearest is red"
    assert below[3][0] < 100, "the farthest is not"


def test_the_track_marks_what_is_held_out(toy, tmp_path):
    dataset = straight_flight(tmp_path / "set", toy, n=100, pause_at=60, depth_m=None)
    draw_track(dataset, held_out(dataset), tmp_path / "with.png")
    draw_track(dataset, None, tmp_path / "without.png")
    orange, purple = (np.array([14, 127, 255]), np.array([189, 103, 148]))  # tab:orange judges, tab:purple chooses; BGR

    def marked(name: str, colour: np.ndarray) -> int:
        return int((np.abs(cv2.imread(str(tmp_path / name)).astype(int) - colour).max(axis=-1) < 12).sum())

    for colour in (orange, purple):
        assert marked("with.png", colour) > 250 + marked("without.png", colour)
    assert marked("without.png", orange) == 0


def test_unknown_depths_alone_can_be_drawn(toy, tmp_path):
    with DatasetWriter(tmp_path / "set", toy.meta()) as writer:
        for i in range(3):
            writer.add(toy.stamp(i), toy.pose(toy.stamp(i)), toy.rgb(i), np.full((24, 32), np.nan))
    dataset = Dataset(tmp_path / "set")
    assert dataset.meta.depth == DepthMeta("metric", "undecided")
    assert "nothing known" in inspect(dataset, tmp_path / "out").text


def test_the_command_prints_the_summary_and_the_pictures(make_dataset, capsys, tmp_path):
    path = make_dataset(8)
    assert main(["inspect", str(path), "--out", str(tmp_path / "out"), "--frames", "4"]) == 0
    printed = capsys.readouterr().out
    assert "8, colour and metric depth" in printed
    assert str(tmp_path / "out/track.png") in printed
    assert not (path / "inspect").exists()


@pytest.mark.parametrize("arguments", [["nowhere"], [".", "--frames", "0"], [".", "--frames", "301"]])
def test_the_command_tells_bad_input_in_one_line(arguments, capsys):
    assert main(["inspect", *arguments]) == 2
    assert re.fullmatch(r"error: .*\n", capsys.readouterr().err)


def test_a_folder_that_cannot_be_written_is_told(make_dataset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        inspect(Dataset(make_dataset(2)), tmp_path / "file")
