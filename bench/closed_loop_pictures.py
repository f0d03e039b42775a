"""What the flights of bench/closed_loop.py looked like, for docs/closed_loop.md.

    python bench/closed_loop_pictures.py FLIGHTS DATASET --picture docs/images/closed_loop

FLIGHTS is the --out of the bench. PICTURE_map.jpg: tracks of each way over the heights of the city.
PICTURE_views.jpg: along one predicted flight what was there, what was predicted, the lower bound of depth, its truth,
and the scan from above.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from closed_loop import WAYS, Flight, Place, Setup, read_rows

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.obstacles.surroundings import ScanSettings, bearings, laser_scan
from pose2rgbd_ros.obstacles.view import view_of
from pose2rgbd_ros.settings import read_yaml

PIXEL_M, SIDE = 0.25, 200
COLOURS = {"goal": (70, 150, 30), "timeout": (0, 150, 240), "collision": (30, 30, 220)}  # BGR
FAR_M = 40.0


def city_map(place: Place) -> tuple[np.ndarray, np.ndarray]:
    """Grey picture of what rises above the height flown (dark) and the ground (light); lower corner (2,)."""
    low, high = place.city.bounds_m
    x, y = (np.arange(low[axis], high[axis], PIXEL_M) for axis in (0, 1))
    xy = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    above = place.city.surface_height_m(xy) - place.city.ground_height_m(xy)
    grey = np.where(above > place.height_m, 110, np.where(above > 3, 190, 240)).astype(np.uint8)
    return cv2.cvtColor(grey.reshape(len(y), len(x)), cv2.COLOR_GRAY2BGR), low


def draw_tracks(background: np.ndarray, low: np.ndarray, folder: Path, rows: list[Flight]) -> np.ndarray:
    """The tracks of one way; a disc where a flight ended, in the colour of how."""
    picture = background.copy()
    for row in rows:
        track = np.load(folder / f"track_{row.flight:04d}_{row.way}.npy")
        points = np.round((track[:, :2] - low) / PIXEL_M).astype(np.int32)
        cv2.polylines(picture, [points], False, COLOURS[row.outcome], 2, cv2.LINE_AA)
        cv2.circle(picture, points[0].tolist(), 4, (120, 60, 0), -1, cv2.LINE_AA)
        cv2.circle(picture, points[-1].tolist(), 7, COLOURS[row.outcome], -1, cv2.LINE_AA)
    return np.ascontiguousarray(picture[::-1])


def _titled(picture: np.ndarray, text: str, height: int = 34, scale: float = 0.8) -> np.ndarray:
    bar = np.full((height, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, text, (6, height - 10), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([bar, picture])


def _depth(depth_m: np.ndarray) -> np.ndarray:
    """Near red, far blue, unknown grey."""
    known = np.isfinite(depth_m)
    scaled = np.clip(np.nan_to_num(depth_m) / FAR_M, 0, 1)
    picture = cv2.applyColorMap((255 * (1 - scaled)).astype(np.uint8), cv2.COLORMAP_JET)
    picture[~known] = 128
    return cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)


def _scan(ranges_m: np.ndarray, range_max_m: float) -> np.ndarray:
    """From above, forward is up: green is free, red an obstacle, grey unknown."""
    v, u = np.mgrid[:SIDE, :SIDE]
    x, y = (SIDE * 0.95 - v) / SIDE * range_max_m / 0.9, (SIDE / 2 - u) / SIDE * range_max_m / 0.9
    step = 2 * np.pi / len(ranges_m)
    at = ranges_m[np.round((np.arctan2(y, x) + np.pi) / step).astype(int) % len(ranges_m)]
    away = np.hypot(x, y)
    picture = np.full((SIDE, SIDE, 3), 128, np.uint8)
    picture[(away < at) & (away < range_max_m)] = (150, 220, 150)
    picture[np.abs(away - at) < 0.5] = (0, 0, 200)
    return picture


def views(place: Place, track: np.ndarray, count: int) -> np.ndarray:
    """Columns along a track: truth, prediction, bound, true depth, scan."""
    settings, columns = ScanSettings(), []
    for index in np.linspace(10, len(track) - 40, count).astype(int):
        ahead = track[min(index + 30, len(track) - 1)] - track[index]
        yaw = float(np.arctan2(ahead[1], ahead[0]))
        T = se3.make(track[index], [0.0, 0.0, np.sin(yaw / 2), np.cos(yaw / 2)])
        true = place.truth.render(T @ place.T_body_cam)
        made = place.renderer.render_for_camera(T @ place.T_body_cam, place.camera)
        assert made.rgb is not None
        assert made.depth_lower is not None
        ranges = laser_scan(view_of(made.depth_lower[0], place.camera, place.T_body_cam), settings)
        assert len(bearings(settings.bins)) == len(ranges)
        colours = [cv2.resize(rgb[..., ::-1], (SIDE, SIDE)) for rgb in (true.rgb, made.rgb[0])]
        cells = [*colours, _depth(made.depth_lower[0]), _depth(true.depth_m), _scan(ranges, settings.range_max_m)]
        columns.append(
            np.vstack([cv2.copyMakeBorder(cell, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255,) * 3) for cell in cells])
        )
    names = "seen", "predicted", "lower bound", "true depth", "scan, from above"
    labels = [_titled(np.full((SIDE - 30, 150, 3), 255, np.uint8), name, 34, 0.5) for name in names]
    return np.hstack([np.vstack(labels), *columns])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flights", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--picture", type=Path, default=Path("closed_loop"))
    parser.add_argument("--flight", type=int, default=None, help="whose views; else the first that took a detour")
    given = parser.parse_args()
    told = read_yaml(given.flights / "setup.yaml")
    place = Place(Setup(Path(told["run"]), given.dataset, 0.1, 0.0, 0.0, int(told["seed"]), 10.0, 0.0))
    rows = read_rows(given.flights / "flights.csv")
    background, low = city_map(place)
    panels = []
    for way in WAYS:
        of = [row for row in rows if row.way == way]
        picture = draw_tracks(background, low, given.flights, of)
        panels.append(
            _titled(picture, f"{way}: {sum(row.outcome == 'goal' for row in of)} of {len(of)} at the goal", 60, 1.5)
        )
    whole = np.hstack(panels)
    cv2.imwrite(f"{given.picture}_map.jpg", cv2.resize(whole, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    reached = [row for row in rows if row.way == "predicted" and row.outcome == "goal"]
    detours = [row for row in reached if row.flown_m > 1.3 * row.straight_m] or reached
    chosen = given.flight if given.flight is not None else detours[0].flight
    track = np.load(given.flights / f"track_{chosen:04d}_predicted.npy")
    cv2.imwrite(f"{given.picture}_views.jpg", views(place, track, 6))


if __name__ == "__main__":
    main()
