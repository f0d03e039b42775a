r"""A drone flies between buildings on predicted depth: collisions and goals, against true depth and against no
avoidance.

    python bench/closed_loop.py RUN DATASET     # 100 seeded flights in each of three ways; the same command goes on
    python bench/closed_loop.py RUN DATASET --flights 10 --out runs/loop --pose-noise-m 0.3

DATASET is the low flight (`pose2rgbd sim dataset ... --flight.plan street`) that RUN was trained on: it names the
city, the camera and the height above the ground, and starts and goals are places that it passed, none of them frames
that weights, bounds or the guard's limit were chosen on. The three ways share vehicle (sim.vehicle, its own guard
off), planner (examples/reactive_planner.py), scan (obstacles.surroundings) and delay; they differ in depth:
predicted: the renderer's lower bound at the drone's pose. truth: the simulator's depth. none: straight to the goal.
A collision is a body of 0.5 m radius touching any triangle of the city, 20 times a second.
Nothing moves there. Every so often a predicted view is compared with the truth, unless the frame of DATASET nearest
to it is one that something was chosen on. Shares are of pixels: known of all that were compared, false-safe of the
known ones.

The figures of docs/closed_loop.md:

    pose2rgbd sim dataset survey --frames 4000 --size 128 --fov-deg 90 --city.extent-m 320 --city.seed 1 \
        --flight.plan street --flight.altitude-m 10 --flight.distance-m 8000 --flight.attitude-jitter-deg 5 \
        --flight.wander-m 0.4 --flight.camera-pitch-deg 15 --flight.holdout 0.1
    pose2rgbd train relief survey --out run --max-minutes 2.5 --clock cpu --max-depth 150 \
        --box.extent-m 460 --box.middle-x-m 0 --box.middle-y-m 0 --box.top-m 50 \
        --box.cell-m 0.82 --box.layer-m 1.21 --box.feature-m 0.41
    pose2rgbd calibrate run survey
    python bench/closed_loop.py run survey --jobs 2
    python bench/closed_loop_pictures.py runs/closed_loop survey
"""

from __future__ import annotations

import argparse
import csv
import functools
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree
from tqdm import tqdm

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.held_out import choose_frames
from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.obstacles.surroundings import ScanSettings, bearings, laser_scan
from pose2rgbd_ros.obstacles.view import level, view_of
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.settings import from_yaml_dict, read_yaml, write_yaml
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.make import camera_mount
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer
from pose2rgbd_ros.sim.state import BodyState
from pose2rgbd_ros.sim.vehicle import Vehicle, VehicleConfig
from pose2rgbd_ros.training.checkpoint import load_checkpoint

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "examples")]
from city_solid import Solid  # noqa: E402
from reactive_planner import ReactivePlanner  # noqa: E402

RESULT = Path(__file__).parent / "results" / "closed_loop.md"
WAYS = ("predicted", "truth", "none")
RADIUS_M = 0.5  # of the body
PERIOD_S = 0.2  # of the control
LOOK_S = 0.05  # between the places of a flight where clearance is taken
DISTANCE_M = (60.0, 110.0)  # from start to goal
COMPARED = 10  # every so many frames, predicted depth is compared with the truth
MARGIN_M = 2.0  # a lower bound farther than the truth by more than this is a false-safe one


@dataclass(frozen=True)
class Setup:
    """What a worker needs to know."""

    run: Path
    dataset: Path
    latency_s: float
    pose_noise_m: float
    pose_noise_deg: float
    seed: int
    near_m: float
    unknown_share: float


@dataclass(frozen=True)
class Flight:
    """One row: lengths in m, times in s. compared, known, false_safe: pixels."""

    flight: int
    way: str
    outcome: str  # goal | collision | timeout
    seconds: float
    straight_m: float
    flown_m: float
    left_m: float
    min_clearance_m: float
    compared: int
    known: int
    false_safe: int


@dataclass
class Hover:
    """A flight that stands still, for Vehicle to begin with."""

    T_map_body: np.ndarray
    duration_s: float = 0.0

    def state(self, t_s: float) -> BodyState:
        return BodyState(t_s, self.T_map_body, np.zeros(3), np.zeros(3), np.zeros(3))


class Place:
    """City, camera, model and the exact surfaces near the height that is flown; one for each worker process."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        made = read_yaml(setup.dataset / "sim.yaml")
        flight = from_yaml_dict(FlightConfig, made["flight"])
        self.city = City(from_yaml_dict(CityConfig, {**made["city"], "cars": 0, "people": 0}))
        self.height_m = flight.altitude_m
        survey = Dataset(setup.dataset)
        self.camera: Camera = survey.camera
        self.T_body_cam = camera_mount(np.radians(flight.camera_pitch_deg))
        self.truth = SceneRenderer(self.city.scene, self.camera, shadows=False)
        self.solid = Solid(self.city.scene)
        chosen = choose_frames(load_checkpoint(setup.run), survey, "checkpoint").choose
        choosing = np.isin(np.arange(len(survey)), chosen)
        self._choosing, self._frames = choosing, cKDTree(survey.T_map_cam[:, :3, 3])
        self.starts = self._starts(survey.T_map_cam[~choosing])

    @functools.cached_property
    def renderer(self) -> Renderer:
        """The model, once it is asked for."""
        renderer = Renderer(self.setup.run, threads=1)
        if renderer.calibration is None:
            raise SystemExit(f"{self.setup.run} is not calibrated: pose2rgbd calibrate {self.setup.run} DATASET")
        return renderer

    def clearance_m(self, positions_m: np.ndarray) -> np.ndarray:
        """Distance (N,) from points (N, 3) to the nearest surface; 4 m for all that is farther."""
        return np.array([self.solid.distance_m(point) for point in positions_m])

    def may_judge(self, position_m: np.ndarray) -> bool:
        """Whether nothing was chosen on the survey's frame nearest to a place (3,)."""
        return not self._choosing[self._frames.query(position_m)[1]]

    def draw(self, flight: int) -> tuple[np.ndarray, np.ndarray]:
        """T_map_body (4, 4) at the start, and the goal (3,)."""
        rng = np.random.default_rng([self.setup.seed, flight])
        while True:
            start, goal = self.starts[rng.choice(len(self.starts), 2, replace=False)]
            if DISTANCE_M[0] <= np.linalg.norm(goal[:3, 3] - start[:3, 3]) <= DISTANCE_M[1]:
                return start, goal[:3, 3]

    def wanted_height_m(self, position_m: np.ndarray) -> float:
        """As the survey flew: above the ground, which a drone's rangefinder tells."""
        return float(self.city.ground_height_m(position_m[None, :2])[0]) + self.height_m

    def _starts(self, T_map_cam: np.ndarray) -> np.ndarray:
        """Level poses (N, 4, 4) of the body along the survey, looking along the street, with 3 m of room."""
        chosen = T_map_cam[:: max(1, len(T_map_cam) // 500)]
        yaw = np.arctan2(chosen[:, 1, 2], chosen[:, 0, 2])
        turn = np.stack([0 * yaw, 0 * yaw, np.sin(yaw / 2), np.cos(yaw / 2)], axis=1)
        poses = np.stack([se3.make(place, quat) for place, quat in zip(chosen[:, :3, 3], turn, strict=True)])
        for T in poses:
            T[2, 3] = self.wanted_height_m(T[:3, 3])
        return poses[self.clearance_m(poses[:, :3, 3]) > 3.0]


def fly(place: Place, number: int, way: str) -> tuple[Flight, np.ndarray]:
    """One flight; also its track (N, 3), a point each LOOK_S."""
    setup, (T, goal) = place.setup, place.draw(number)
    start = T[:3, 3]
    rng = np.random.default_rng([setup.seed, number, 1])
    offset_m, offset_rad = (rng.normal(0, setup.pose_noise_m, 3), rng.normal(0, np.radians(setup.pose_noise_deg)))
    nothing = lambda places_m: np.full(len(places_m), -1e3)  # noqa: E731  (its own guard would hide collisions)
    vehicle = Vehicle(VehicleConfig(loop=False), Hover(T), nothing, lambda poses: Hover(poses[-1]))
    planner = ReactivePlanner(start[:2], goal[:2])
    scan = ScanSettings(near_m=setup.near_m, unknown_share=setup.unknown_share)
    planner.scan_range_m = scan.range_max_m
    limit_s = 40 + 6 * np.linalg.norm(goal - start) / planner.config.max_speed_mps
    track, compared, outcome, t = [start], np.zeros(3, np.int64), "timeout", 0.0
    frame = 0
    while t < limit_s:
        seen = vehicle.state(t)
        c, s = np.cos(offset_rad), np.sin(offset_rad)
        T_believed = seen.T_map_body.copy()
        T_believed[:3, :3] = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ T_believed[:3, :3]
        T_believed[:3, 3] += offset_m
        if way != "none":
            T_map_cam = T_believed @ place.T_body_cam
            if way == "truth":
                depth = place.truth.render(seen.T_map_body @ place.T_body_cam, movers=False).depth_m
            else:
                rendered = place.renderer.render_for_camera(T_map_cam, place.camera)
                depth = rendered.depth_lower[0]
                if frame % COMPARED == 0 and place.may_judge(seen.T_map_body[:3, 3]):
                    true = place.truth.render(seen.T_map_body @ place.T_body_cam, movers=False).depth_m
                    compared += [depth.size, np.isfinite(depth).sum(), (depth > true + MARGIN_M).sum()]
            frame += 1
            T_level = np.eye(4)
            T_level[:3, :3] = level(T_believed[:3, :3])
            ranges = laser_scan(view_of(depth, place.camera, T_level @ place.T_body_cam), scan)
        track += _advance(vehicle, t, t + setup.latency_s)
        now = vehicle.state(t + setup.latency_s)
        position, velocity = now.T_map_body[:3, 3] + offset_m, now.velocity_map_mps
        heading = np.arctan2(now.T_map_body[1, 0], now.T_map_body[0, 0])
        if way == "none":
            ahead = goal[:2] - position[:2]
            wanted, yaw_rate = ahead / np.linalg.norm(ahead) * planner.config.max_speed_mps, 0.0
        else:
            heading_then = np.arctan2(T_believed[1, 0], T_believed[0, 0])
            planner.see(T_believed[:2, 3], heading_then, bearings(scan.bins), ranges)
            command = planner.command(t, position[:2], heading + offset_rad, velocity[:2])
            wanted, yaw_rate = command.velocity_mps, command.yaw_rate_radps
        c, s = (np.cos(heading + offset_rad), np.sin(heading + offset_rad))  # the planner's map is turned by its error
        up = 0.8 * (place.wanted_height_m(now.T_map_body[:3, 3]) - now.T_map_body[2, 3])
        vehicle.command(np.array([c * wanted[0] + s * wanted[1], c * wanted[1] - s * wanted[0], up]), yaw_rate)
        track += _advance(vehicle, t + setup.latency_s, t + PERIOD_S)
        t = round(t + PERIOD_S, 6)
        if place.clearance_m(np.array(track[-6:])).min() < RADIUS_M:
            outcome = "collision"
            break
        if np.linalg.norm(track[-1][:2] - goal[:2]) < planner.config.goal_radius_m + np.linalg.norm(offset_m):
            outcome = "goal"
            break
    path = np.array(track)
    row = Flight(
        number,
        way,
        outcome,
        t,
        float(np.linalg.norm(goal - start)),
        float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum()),
        float(np.linalg.norm(path[-1] - goal)),
        float(place.clearance_m(path).min()),
        *(int(pixels) for pixels in compared),
    )
    return row, path


def _advance(vehicle: Vehicle, begin_s: float, end_s: float) -> list[np.ndarray]:
    """Fly on, and where it was."""
    times = np.arange(begin_s + LOOK_S, end_s + 1e-6, LOOK_S)
    vehicle.advance(end_s)
    return [vehicle.state(round(t, 6)).T_map_body[:3, 3].copy() for t in times]


_place: Place | None = None


def _begin(setup: Setup) -> None:
    global _place
    _place = Place(setup)


def _work(number: int, way: str) -> tuple[Flight, np.ndarray]:
    assert _place is not None
    return fly(_place, number, way)


def summary(rows: list[Flight]) -> str:
    """The table."""
    table = Table.of(
        {
            "depth": "", **dict.fromkeys(("flights", "goals", "collisions", "timeouts"), "d"),
            "least clearance m (median)": ".1f", "way / straight": ".2f", "known": ".2%", "false-safe": ".2%",
        }
    )  # fmt: skip
    for way in WAYS:
        of = [row for row in rows if row.way == way]
        if not of:
            continue
        count = {name: sum(row.outcome == name for row in of) for name in ("goal", "collision", "timeout")}
        there = [row for row in of if row.outcome == "goal"]
        clearance = np.median([row.min_clearance_m for row in of])
        detour = np.median([row.flown_m / row.straight_m for row in there]) if there else np.nan
        compared, known, false_safe = (
            sum(getattr(row, name) for row in of) for name in ("compared", "known", "false_safe")
        )
        shares = [part / whole if whole else None for part, whole in ((known, compared), (false_safe, known))]
        table.add(way, len(of), *count.values(), clearance, detour, *shares)
    return table.markdown()


def read_rows(path: Path) -> list[Flight]:
    """What has been flown."""
    if not path.exists():
        return []
    types = {field.name: {"int": int, "float": float}.get(str(field.type), str) for field in fields(Flight)}
    with path.open() as file:
        return [Flight(**{key: types[key](value) for key, value in row.items()}) for row in csv.DictReader(file)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--flights", type=int, default=100)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--out", type=Path, default=Path("runs/closed_loop"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--latency-s", type=float, default=0.1, help="from the pose of a view to the command, below 0.2"
    )
    parser.add_argument("--pose-noise-m", type=float, default=0.0, help="constant error of a flight's poses, each axis")
    parser.add_argument("--pose-noise-deg", type=float, default=0.0, help="and of its yaw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--near-m", type=float, default=ScanSettings().near_m, help="of the scan: ScanSettings")
    parser.add_argument("--unknown-share", type=float, default=ScanSettings().unknown_share, help="of the scan")
    given, on = parser.parse_args(), described()
    setup = Setup(**{field.name: getattr(given, field.name) for field in fields(Setup)})
    given.out.mkdir(parents=True, exist_ok=True)
    told = {key: str(value) for key, value in asdict(setup).items()}
    if (given.out / "setup.yaml").exists() and read_yaml(given.out / "setup.yaml") != told:
        raise SystemExit(f"{given.out} holds flights of another set-up; choose another --out")
    write_yaml(given.out / "setup.yaml", told)
    rows = read_rows(given.out / "flights.csv")
    done = {(row.flight, row.way) for row in rows}
    todo = [(n, way) for n in range(given.flights) for way in given.ways if (n, way) not in done]
    with (
        ProcessPoolExecutor(given.jobs, get_context("spawn"), _begin, (setup,)) as pool,
        (given.out / "flights.csv").open("a", newline="") as file,
    ):
        writer = csv.DictWriter(file, [field.name for field in fields(Flight)])
        if not rows:
            writer.writeheader()
        jobs = [pool.submit(_work, number, way) for number, way in todo]
        for job in tqdm(as_completed(jobs), total=len(jobs), unit="flight"):
            row, track = job.result()
            np.save(given.out / f"track_{row.flight:04d}_{row.way}.npy", track.astype(np.float32))
            writer.writerow(asdict(row))
            file.flush()
            rows.append(row)
    table = summary([row for row in rows if row.flight < given.flights])
    print(table)
    if given.flights >= 100 and set(given.ways) == set(WAYS):
        settings = ", ".join(
            f"{key} {told[key]}"
            for key in ("latency_s", "pose_noise_m", "pose_noise_deg", "seed", "near_m", "unknown_share")
        )
        RESULT.write_text(
            f"# Closed loop\n\n`python bench/closed_loop.py RUN DATASET` ({settings}); {on}.\n\n{table}\n"
        )


if __name__ == "__main__":
    main()
