"""A path flown in the page: as a video, as poses, as waypoints of other commands, as a goal of `RenderPath`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from pose2rgbd_ros.dataset.layout import pose_line
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.viewer.pictures import Studio, View
from pose2rgbd_ros.viewer.place import Place

VIDEO, POSES, WAYPOINTS, GOAL = "video (mp4)", "poses (TUM)", "waypoints", "RenderPath goal (YAML)"
FORMS = (VIDEO, POSES, WAYPOINTS, GOAL)
VIDEO_HZ = 25.0
LONGEST_S = 300.0
WAYPOINT_DEPTHS = 0.1  # of the typical depth: waypoints and goals keep at least this far apart


class Recorder:
    """Poses of a camera as it moves, with their times; standing still is left out."""

    def __init__(self, place: Place) -> None:
        self._least_m = 1e-3 * place.models[0].renderer.guard.score.distance_m
        self._poses: list[tuple[float, Float64]] = []
        self._idle_s = 0.0  # left out so far

    def add(self, T_map_cam: Float64) -> None:
        """Take a pose, now."""
        now_s = time.monotonic() - self._idle_s
        if self._poses:
            way_m, turn_rad = se3.apart(self._poses[-1][1], T_map_cam)
            if way_m < self._least_m and turn_rad < 1e-3:
                return
            still_s = now_s - self._poses[-1][0] - 0.5
            if still_s > 0:
                self._idle_s, now_s = self._idle_s + still_s, now_s - still_s
        self._poses.append((now_s, T_map_cam.copy()))

    def poses(self) -> list[tuple[float, Float64]]:
        """(seconds from the first, T_map_cam) of all."""
        return [(at_s - self._poses[0][0], T) for at_s, T in self._poses]


Timed = Sequence[tuple[float, Float64]]


def describe(path: Timed) -> str:
    """How long a path is, in words."""
    if len(path) < 2:
        return "Nothing was recorded: the camera did not move."
    position = np.array([T[:3, 3] for _, T in path])
    length_m = float(np.linalg.norm(np.diff(position, axis=0), axis=1).sum())
    return f"{len(path)} poses, {length_m:.1f} m in {path[-1][0]:.1f} s."


def write(form: str, path: Timed, view: View, studio: Studio, say: Callable[[str], None]) -> tuple[str, bytes]:
    """Name and content of a file. UserError: it cannot be made, and why."""
    if form == VIDEO:
        return "path.mp4", _video(path, view, studio, say)
    if form == POSES:
        return "path.txt", _poses(path).encode()
    spaced = _spaced(path, WAYPOINT_DEPTHS * studio.place.models[0].renderer.guard.score.distance_m)
    if len(spaced) < 2:
        raise UserError("the path is too short for waypoints; fly farther")
    if form == WAYPOINTS:
        return "waypoints.txt", _waypoints(spaced).encode()
    return "render_path.yaml", _goal(spaced, studio.place.map_frame).encode()


def parse_pose(text: str, view: View | None) -> Float64:
    """T_map_cam of "x y z" or "x y z qx qy qz qw"; without a quaternion the view's stays.

    UserError: neither.
    """
    try:
        numbers = [float(word) for word in text.replace(",", " ").split()]
    except ValueError:
        numbers = []
    if len(numbers) not in (3, 7) or not np.isfinite(numbers).all() or np.abs(numbers[:3]).max() > 1e8:
        raise UserError(f"{text!r} is no pose; give x y z, or x y z qx qy qz qw")
    if len(numbers) == 7:
        if np.linalg.norm(numbers[3:]) < 0.5:
            raise UserError("the quaternion is zero; give qx qy qz qw of length 1")
        return se3.make(numbers[:3], numbers[3:])
    T = np.eye(4) if view is None else view.T_map_cam.copy()
    T[:3, 3] = numbers
    return T


def _video(path: Timed, view: View, studio: Studio, say: Callable[[str], None]) -> bytes:
    try:
        from pose2rgbd_ros.streams.video_write import write_video
    except ImportError as error:
        raise UserError(f"a video needs PyAV, which is not installed here ({error}); pip install av") from error
    stamps_ns = np.array([int(at_s * 1e9) for at_s, _ in path], np.int64)
    keep = np.concatenate([[True], np.diff(stamps_ns) > 0])
    trajectory = Trajectory(stamps_ns[keep], *se3.split(np.array([T for _, T in path])[keep]))
    last_ns = min(int(stamps_ns[-1]), int(LONGEST_S * 1e9))
    times_ns = np.arange(0, last_ns + 1, int(1e9 / VIDEO_HZ), dtype=np.int64)
    poses = trajectory.interpolate(times_ns).T
    still = replace(view.choice, comparison="off", with_scene=False, frame=-1)

    def pictures() -> Iterator[UInt8]:
        for number, T in enumerate(poses, 1):
            yield studio.draw(View(T, view.fov_rad, view.aspect, still), True).rgb
            if number % 10 == 0 or number == len(poses):
                say(f"video: {number} of {len(poses)} pictures")
            time.sleep(0.001)  # whoever flies goes first

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "path.mp4"
        write_video(file, pictures(), VIDEO_HZ)
        return file.read_bytes()


def _poses(path: Timed) -> str:
    """Lines of groundtruth.txt: `stamp x y z qx qy qz qw`, the optical frame in the map."""
    return "# stamp x y z qx qy qz qw\n" + "".join(pose_line(int(at_s * 1e9), T) for at_s, T in path)


def _spaced(path: Timed, apart_m: float) -> list[Float64]:
    kept = [path[0][1]]
    for _, T in path[1:]:
        if np.linalg.norm(T[:3, 3] - kept[-1][:3, 3]) >= apart_m:
            kept.append(T)
    return kept


def _yaw_and_down(T_map_cam: Float64) -> tuple[float, float]:
    """Degrees: heading of the optical axis (looking straight down: of the image's top), and how far it looks down."""
    ahead = T_map_cam[:3, 2]
    level = ahead if np.hypot(ahead[0], ahead[1]) > 1e-3 else -T_map_cam[:3, 1]
    down = np.degrees(np.arcsin(np.clip(-ahead[2], -1, 1)))
    return float(np.degrees(np.arctan2(level[1], level[0]))), float(down)


def _waypoints(poses: Sequence[Float64]) -> str:
    """As `pose2rgbd synthesize route --waypoints` and `sim --flight.waypoints` read them: a roll is lost."""
    lines = ["# x y z yaw_deg pitch_deg; metres in the map, pitch downwards"]
    for T in poses:
        yaw_deg, down_deg = _yaw_and_down(T)
        lines.append(" ".join(f"{value:.3f}" for value in (*T[:3, 3], yaw_deg, down_deg)))
    return "\n".join(lines) + "\n"


def _goal(poses: Sequence[Float64], map_frame: str) -> str:
    """A level body that is where the camera was and heads where it looked; where the camera sits on it is in TF."""
    stamped = []
    for T in poses:
        quat = quaternions.from_euler_rpy([0.0, 0.0, np.radians(_yaw_and_down(T)[0])])
        position = dict(zip("xyz", (round(float(value), 3) for value in T[:3, 3]), strict=True))
        orientation = dict(zip("xyzw", (round(float(value), 6) for value in quat), strict=True))
        stamped.append({"pose": {"position": position, "orientation": orientation}})
    goal = {"path": {"header": {"frame_id": map_frame}, "poses": stamped}, "spacing_m": 0.0, "radius_m": 1.0}
    head = (
        '# ros2 action send_goal --feedback /render/render_path pose2rgbd/action/RenderPath "$(cat render_path.yaml)"\n'
    )
    return head + yaml.safe_dump(goal, sort_keys=False, default_flow_style=None)
