"""Recorded paths, read back by those who use them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import yaml
from viewer.conftest import SMALL

from pose2rgbd_ros.dataset.layout import parse_pose as parse_line
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.sim.flights.route import read_waypoints
from pose2rgbd_ros.synthesis.route import route_along_file
from pose2rgbd_ros.viewer import path as paths
from pose2rgbd_ros.viewer.pictures import Choice, Studio, View
from pose2rgbd_ros.viewer.place import Place


@pytest.fixture
def studio(relief: Path) -> Studio:
    return Studio(Place([relief], None, SMALL), 64, 48)


@pytest.fixture
def view(studio: Studio) -> View:
    return View(studio.place.start_T_map_cam, 1.0, 1.5, Choice())


@pytest.fixture
def flown() -> list[tuple[float, Any]]:
    """A level bend of 24 m in three seconds, looking ahead and 30 degrees down."""
    made = []
    for share in np.linspace(0, 1, 31):
        turn = share * np.pi / 2
        eye = np.array([16 * np.sin(turn), 16 * (1 - np.cos(turn)), 10.0])
        ahead = np.array([np.cos(turn), np.sin(turn), -np.tan(np.radians(30))])
        made.append((3.0 * share, se3.look_at(eye, eye + ahead)))
    return made


def test_a_recorder_leaves_out_what_stands_still(studio: Studio) -> None:
    recorder = paths.Recorder(studio.place)
    T = np.eye(4)
    for x in (0.0, 0.0, 1.0, 1.0, 2.0):
        moved = T.copy()
        moved[0, 3] = x
        recorder.add(moved)
    poses = recorder.poses()
    assert [float(one[0, 3]) for _, one in poses] == [0.0, 1.0, 2.0]
    assert poses[0][0] == 0.0
    assert np.all(np.diff([at for at, _ in poses]) > 0)
    assert paths.describe(poses).startswith("3 poses, 2.0 m")
    assert "did not move" in paths.describe(poses[:1])


def test_poses_are_lines_of_groundtruth(flown: Any, studio: Studio, view: View) -> None:
    name, data = paths.write(paths.POSES, flown, view, studio, print)
    lines = [line for line in data.decode().splitlines() if not line.startswith("#")]
    assert name == "path.txt"
    assert len(lines) == 31
    for line, (_, T) in zip(lines, flown, strict=True):
        pose = parse_line(line)
        np.testing.assert_allclose(se3.make(pose[:3], pose[3:]), T, atol=1e-6)


def test_waypoints_are_what_a_synthetic_route_reads(flown: Any, studio: Studio, view: View, tmp_path: Path) -> None:
    name, data = paths.write(paths.WAYPOINTS, flown, view, studio, print)
    file = tmp_path / name
    file.write_bytes(data)
    read = read_waypoints(file)
    assert read.down_rad is not None
    np.testing.assert_allclose(np.degrees(read.down_rad), 30.0, atol=0.01)
    route = route_along_file(file, 11)
    np.testing.assert_allclose(route[0], flown[0][1], atol=2e-3)
    assert (np.linalg.norm(np.diff(read.position_m, axis=0), axis=1) > 0.5).all()


def fill(message: Any, values: dict[str, Any]) -> None:
    """As `ros2 action send_goal` fills a message from YAML: an unknown field is an error."""
    for name, value in values.items():
        kind = message.get_fields_and_field_types()[name]
        if isinstance(value, dict):
            fill(getattr(message, name), value)
        elif isinstance(value, list):
            package, _, class_name = kind.removeprefix("sequence<").removesuffix(">").partition("/")
            made = [getattr(importlib.import_module(f"{package}.msg"), class_name)() for _ in value]
            for one, fields in zip(made, value, strict=True):
                fill(one, fields)
            setattr(message, name, made)
        else:
            setattr(message, name, value)


def test_a_goal_is_what_render_path_takes(flown: Any, studio: Studio, view: View) -> None:
    pytest.importorskip("rclpy")
    from pose2rgbd.action import RenderPath

    _, data = paths.write(paths.GOAL, flown, view, studio, print)
    goal = RenderPath.Goal()
    fill(goal, yaml.safe_load(data))
    assert goal.path.header.frame_id == "map"
    first, last = goal.path.poses[0].pose, goal.path.poses[-1].pose
    assert (first.position.x, first.position.y, first.position.z) == (0.0, 0.0, 10.0)
    assert first.orientation.w == pytest.approx(1.0)  # heads east
    assert 2 * np.degrees(np.arctan2(last.orientation.z, last.orientation.w)) == pytest.approx(90, abs=8)


def test_a_video_has_the_pictures_of_the_path(flown: Any, studio: Studio, view: View, tmp_path: Path) -> None:
    told: list[str] = []
    name, data = paths.write(paths.VIDEO, flown, view, studio, told.append)
    file = tmp_path / name
    file.write_bytes(data)
    with av.open(str(file)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 76
    assert frames[0].shape[1] / frames[0].shape[0] == pytest.approx(1.5, rel=0.05)
    first = studio.draw(View(flown[0][1], 1.0, 1.5, Choice(with_scene=False)), True).rgb
    height, width = frames[0].shape[:2]
    assert np.abs(frames[0].astype(float) - first[:height, :width]).mean() < 6
    assert told[-1] == "video: 76 of 76 pictures"


def test_short_paths_and_poses_that_are_none(flown: Any, studio: Studio, view: View) -> None:
    with pytest.raises(UserError, match="too short"):
        paths.write(paths.WAYPOINTS, flown[:2], view, studio, print)
    np.testing.assert_allclose(paths.parse_pose("1 2 3", view)[:3, :3], view.T_map_cam[:3, :3])
    np.testing.assert_allclose(
        paths.parse_pose("1, 2, 3, 0, 0, 0, 2", None)[:3], [[1, 0, 0, 1], [0, 1, 0, 2], [0, 0, 1, 3]]
    )
    for text in ("", "a b c", "1 2", "nan 0 0", "1e9 0 0", "0 0 0 0 0 0 0", "1 2 3 4"):
        with pytest.raises(UserError):
            paths.parse_pose(text, view)
